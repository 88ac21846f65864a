/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The definition: what a build consists of, as a DAG of vertices with the semantics of
 * BuildKit's LLB. Module prefix: bxc_def. See FORMAT.md for the canonical encoding.
 *
 * A vertex is one op, its inputs and a platform; its digest is the SHA-256 of the canonical
 * encoding of those. Presentation (`meta`) does not enter the digest. Vertices are kept in
 * topological order: an input always precedes its user.
 *
 * Memory: a bxc_def owns all its vertices; strings and arrays inside a vertex are owned by it.
 * A definition is immutable once built and may then be read by several threads.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/err.h"
#include "common/codec/digest.h"
#include "common/codec/json.h"
#include "common/oci/oci.h"

typedef enum bxc_op_kind {
	BXC_OP_UNKNOWN = 0,
	BXC_OP_SOURCE,
	BXC_OP_EXEC,
	BXC_OP_FILE,
	BXC_OP_MERGE,
	BXC_OP_DIFF,
} bxc_op_kind;

typedef struct bxc_def_input {
	uint32_t vertex;             /* index into bxc_def.vertices */
	uint32_t output;             /* output of that vertex; 0 for all but exec */
} bxc_def_input;

#define BXC_DEF_NO_INPUT  UINT32_MAX   /* scratch */
#define BXC_DEF_NO_OUTPUT (-1)         /* the content of this mount is thrown away */

/* ---- source ---- */
/*
 * identifier: "docker-image://docker.io/library/busybox:latest@sha256:...", "local://context",
 * "git://...", "http(s)://...", "oci-layout://...".
 * attrs, sorted by key: local: "session", "include" and "exclude" (JSON arrays of patterns),
 * "followpaths", "sharedkeyhint"; image: "resolvemode".
 */
typedef struct bxc_op_source {
	char *identifier;
	char **attrs;                /* strv "key=value", sorted, unique keys; NULL: none */
} bxc_op_source;

/* ---- exec ---- */
typedef enum bxc_mount_kind {
	BXC_MOUNT_BIND = 0,
	BXC_MOUNT_CACHE,
	BXC_MOUNT_TMPFS,
	BXC_MOUNT_SECRET,
	BXC_MOUNT_SSH,
} bxc_mount_kind;

typedef enum bxc_cache_sharing {
	BXC_CACHE_SHARED = 0,
	BXC_CACHE_PRIVATE,
	BXC_CACHE_LOCKED,
} bxc_cache_sharing;

typedef enum bxc_net_mode {
	BXC_NET_DEFAULT = 0,
	BXC_NET_HOST,
	BXC_NET_NONE,
} bxc_net_mode;

typedef struct bxc_op_mount {
	bxc_mount_kind kind;
	uint32_t input;              /* index into the vertex's inputs, or BXC_DEF_NO_INPUT */
	int32_t output;              /* index of the result it yields, or BXC_DEF_NO_OUTPUT */
	char *dest;                  /* absolute, clean; "/" is the root and comes first; NULL or "": a secret that is only `env` */
	char *selector;              /* path within the input; NULL: all of it */
	bool readonly;
	char *cache_id;              /* cache, secret and ssh: id */
	bxc_cache_sharing sharing;
	uint64_t tmpfs_size;         /* bytes; 0: no limit of its own */
	uint32_t uid, gid, mode;     /* secret, ssh, cache */
	bool optional;               /* secret, ssh */
	char *env;                   /* secret as environment variable; NULL: as a file */
} bxc_op_mount;

typedef struct bxc_def_env bxc_def_env;   /* variables that several steps share; immutable */

typedef struct bxc_op_exec {
	char **args;                 /* at least one */
	char **env;                  /* "K=V"; borrowed of shared_env when that is set */
	bxc_def_env *shared_env;     /* set by bxc_def_share_env() only; NULL: env is owned */
	char *cwd;                   /* absolute */
	char *user;                  /* NULL or "": root */
	char *hostname;              /* NULL: the default */
	char **extra_hosts;          /* "name=ip"; host-gateway stands for the address of the step's host */
	char **ulimits;              /* "name=soft:hard" */
	char *cgroup_parent;
	char **proxy_env;            /* not in the key */
	bxc_net_mode net;
	bool insecure;
	BXC_ARR(bxc_op_mount) mounts;   /* [0] is "/" */
	uint64_t shm_size;           /* bytes; 0: the default of 64 MiB; not in the key */
} bxc_op_exec;

/* ---- file ---- */
typedef enum bxc_file_kind {
	BXC_FILE_UNKNOWN = 0,
	BXC_FILE_COPY,
	BXC_FILE_MKFILE,
	BXC_FILE_MKDIR,
	BXC_FILE_RM,
	BXC_FILE_SYMLINK,
} bxc_file_kind;

/* An owner is given by number or by name (looked up in the destination's passwd and group). */
typedef struct bxc_def_owner {
	bool is_set;
	char *user_name;             /* NULL: uid counts */
	char *group_name;            /* NULL: gid counts, unless !has_gid */
	uint32_t uid, gid;
	bool has_gid;                /* false: the user's primary group by name, gid = uid by number */
} bxc_def_owner;

/*
 * One action works on the tree `target` and yields a new one. Tree references: 0..n_inputs-1 are
 * the vertex's inputs, n_inputs + k is the result of action k (k < this action's own index);
 * BXC_DEF_NO_INPUT is the empty tree. The last action's result is output 0 of the vertex.
 */
typedef struct bxc_file_action {
	bxc_file_kind kind;
	uint32_t target;
	/* copy */
	uint32_t source;
	char *src;                   /* path or pattern within the source, absolute and clean */
	bool src_dir_contents;       /* copy a directory's contents, not itself (Dockerfile: true) */
	bool follow_symlink;
	bool wildcard;               /* src may hold patterns */
	bool allow_empty_wildcard;
	bool create_dest;            /* make missing parents of dest */
	bool unpack;                 /* unpack archives */
	bool replace_existing;       /* alwaysReplaceExistingDestPaths */
	char **include;              /* of what lies below src; NULL: all */
	char **exclude;
	char **required;             /* paths within the source that must be there; no patterns */
	/* all */
	char *dest;                  /* absolute; a trailing slash means "into"; mkdir, mkfile, rm, symlink: the path */
	int32_t mode;                /* -1: as in the source (copy) or the default */
	char *mode_text;             /* symbolic chmod; NULL: `mode` counts */
	bxc_def_owner owner;
	int64_t timestamp_ns;        /* INT64_MIN: none given */
	uint8_t *data;               /* mkfile */
	size_t data_len;
	char *link_target;           /* symlink */
	bool make_parents;           /* mkdir */
	bool allow_not_found;        /* rm */
} bxc_file_action;

typedef struct bxc_op_file {
	BXC_ARR(bxc_file_action) actions;
} bxc_op_file;

/* ---- merge: later inputs win. diff: inputs lower, upper (either may be scratch) ---- */
typedef struct bxc_op_diff {
	uint32_t lower, upper;       /* input index or BXC_DEF_NO_INPUT */
} bxc_op_diff;

/* ---- vertex ---- */
typedef struct bxc_def_meta {
	char *name;                  /* "[build 2/4] RUN make" */
	char *progress_group;        /* NULL: none */
	char *stage;                 /* name or number of the stage; NULL: none */
	uint32_t line_start, line_end;   /* of the Dockerfile, 1-based; 0: none */
	bool ignore_cache;
	bool internal;               /* housekeeping: not counted as a step */
} bxc_def_meta;

typedef struct bxc_def_vertex {
	bxc_digest digest;           /* set by bxc_def_add */
	bxc_op_kind kind;
	bxc_platform platform;       /* os "" : none (local sources) */
	BXC_ARR(bxc_def_input) inputs;
	union {
		bxc_op_source source;
		bxc_op_exec exec;
		bxc_op_file file;
		bxc_op_diff diff;
	} op;
	bxc_def_meta meta;
} bxc_def_vertex;

typedef struct bxc_def {
	BXC_ARR(bxc_def_vertex *) vertices;
	struct def_places *by_digest_;  /* private; NULL: empty */
	struct def_encoder *encoder_;   /* private; NULL until a digest is made */
} bxc_def;

bxc_def *bxc_def_new(void);
void bxc_def_free(bxc_def *d);
BXC_DEFINE_CLEANUP(bxc_def, bxc_def_free);

bxc_def_vertex *bxc_def_vertex_new(bxc_op_kind kind);            /* zeroed, file modes etc. to be set by the caller */
bxc_file_action *bxc_def_add_action(bxc_def_vertex *v, bxc_file_kind kind);   /* borrowed; with neutral defaults */
bxc_op_mount *bxc_def_add_mount(bxc_def_vertex *v, bxc_mount_kind kind, const char *dest);
/*
 * Many steps have the same environment: `env` (owned from here on, also on failure) is checked and held
 * once for all that it is given to. Counted atomically: definitions that share it may be of different
 * threads. Released by each vertex and by the maker.
 */
BXC_MUST_CHECK int bxc_def_env_new(char **env_take, bxc_def_env **ret, bxc_err **err);
bxc_def_env *bxc_def_env_ref(bxc_def_env *e);
void bxc_def_env_unref(bxc_def_env *e);
BXC_DEFINE_CLEANUP(bxc_def_env, bxc_def_env_unref);
void bxc_def_share_env(bxc_def_vertex *v, bxc_def_env *e);       /* v, an exec, has no env yet */
uint32_t bxc_def_add_input(bxc_def_vertex *v, uint32_t vertex, uint32_t output);   /* returns the input index; merges equal ones */
void bxc_def_vertex_free(bxc_def_vertex *v);
BXC_DEFINE_CLEANUP(bxc_def_vertex, bxc_def_vertex_free);

/* Computes the digest and adds `v` (owned from here on, also on failure); an equal vertex is not added twice:
 * its index is returned and `v` freed. Inputs must be in `d` already. */
BXC_MUST_CHECK int bxc_def_add(bxc_def *d, bxc_def_vertex *v, uint32_t *ret_index, bxc_err **err);

/*
 * As bxc_def_add, for a definition that is only gathered in, to be handed over vertex by vertex: no
 * digest is made (it is not set) and equal vertices stay apart.
 */
BXC_MUST_CHECK int bxc_def_append(bxc_def *d, bxc_def_vertex *v, uint32_t *ret_index, bxc_err **err);
/*
 * Moves vertex i out of a definition that was gathered by bxc_def_append, which has checked it (the
 * attributes of a source may have changed since), into `to`, as bxc_def_add does. `places` has the
 * index in `to` of each vertex handed over before, its inputs among them; places[i] is set. The
 * vertex is gone from `from` also on failure.
 */
BXC_MUST_CHECK int bxc_def_hand_over(bxc_def *from, uint32_t i, uint32_t *places, bxc_def *to, bxc_err **err);

/* Everything that must hold of a definition from outside: indices, acyclic by order, paths clean, limits. */
BXC_MUST_CHECK int bxc_def_validate(const bxc_def *d, bxc_err **err);

/* Names of the encoding, which are LLB's too: "shared", "copy"; NULL: no such value. */
const char *bxc_def_sharing_name(unsigned sharing);
const char *bxc_def_file_kind_name(unsigned kind);

/* ---- encoding ---- */
/* The op with its platform, without inputs and meta: what cache keys are made of. Canonical JSON; owned. */
bxc_json *bxc_def_op_to_json(const bxc_def_vertex *v);
/*
 * The part of the op in a definition key: H(this, keys of the inputs). Digest over the op, platform
 * included, without what does not decide the result: proxy env, shm size, IPs of extra hosts, id of a
 * cache mount that is just its path. What selects within inputs (source paths, selectors) stays in,
 * as the keys of the inputs say nothing about it.
 */
bxc_digest bxc_def_op_digest(const bxc_def_vertex *v);
/*
 * The part of the op in a content key: H(this, content digests of what is selected of the inputs). As
 * bxc_def_op_digest(), and where only selected content counts (an input that only copies read; a
 * read-only bind mount without output, not the root) the source of a copy is reduced to its base name
 * and the selector of a mount is dropped: the content digest stands for them.
 */
bxc_digest bxc_def_op_content_digest(const bxc_def_vertex *v);
/* True when input i is read only by selection, so that a content digest may stand for it (see above). */
bool bxc_def_input_is_content(const bxc_def_vertex *v, size_t i);
/* One vertex for a worker: op, platform, meta; inputs only by count. */
bxc_json *bxc_def_vertex_to_json(const bxc_def_vertex *v);
BXC_MUST_CHECK int bxc_def_vertex_from_json(const bxc_json *j, bxc_def_vertex **ret, bxc_err **err);
/* The whole graph; from_json validates and checks every digest. */
bxc_json *bxc_def_to_json(const bxc_def *d);
BXC_MUST_CHECK int bxc_def_from_json(const bxc_json *j, bxc_def **ret, bxc_err **err);
