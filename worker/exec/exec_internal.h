/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "common/base/map.h"
#include "common/codec/json.h"
#include "common/os/cg.h"
#include "common/os/passwd.h"
#include "worker/exec/exec.h"
#include "worker/helper/helper.h"

#define BXC_EXEC__MAX_MOUNTS 200u
#define BXC_EXEC__MAX_AGENTS 16u
#define BXC_EXEC__CHUNK	     (32u << 10) /* of output, at most */
#define BXC_EXEC__PATH	     "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define BXC_EXEC__PATH_ENV   "PATH=" BXC_EXEC__PATH

struct bxc_exec {
	bxc_snap *snap;
	char *helper, *crun;
	int run_fd, caches_fd;
	char *run_dir, *caches_dir; /* absolute, resolved */
	bxc_cg *cg;
	char *cgroup_parent; /* NULL: no groups */
	char *memory_base;   /* absolute folder of groups in the v1 memory hierarchy */
	char *memory_parent; /* absolute folder in the v1 memory hierarchy; NULL: none */
	/* Rank 1: the use of cache mounts. Never held over I/O. */
	pthread_mutex_t lock;
	pthread_cond_t freed;
	bxc_map *caches; /* folder name -> struct cache_use */
};

/* ---- user.c ---- */
typedef struct bxc_exec__user {
	uint32_t uid, gid;
	bxc_passwd_ids groups; /* supplementary, the primary one first */
} bxc_exec__user;
void bxc_exec__user_done(bxc_exec__user *u);
/* "", "name", "uid", "name:group", "uid:gid" in the rootfs; texts as BuildKit's. */
BXC_MUST_CHECK int bxc_exec__find_user(
	int root_fd, const char *spec, bxc_exec__user *ret, bxc_err **err);

/* ---- stubs.c: what is made only to be mounted on ---- */
typedef struct bxc_exec__stub {
	char *path; /* in the root, as after chroot */
	bool is_dir;
} bxc_exec__stub;
typedef BXC_ARR(bxc_exec__stub) bxc_exec__stubs;
/* Makes `dest` with its parents where missing, leaving the times of existing folders as they were.
 */
BXC_MUST_CHECK int bxc_exec__stub_make(
	int root_fd, const char *dest, bool is_dir, bxc_exec__stubs *stubs, bxc_err **err);
/* Removes the stubs that are still empty, times likewise. */
BXC_MUST_CHECK int bxc_exec__stubs_remove(int root_fd, bxc_exec__stubs *stubs, bxc_err **err);
void bxc_exec__stubs_done(bxc_exec__stubs *s);

/* ---- seed.c: what cache mounts hold at first ---- */
typedef struct bxc_exec__seed {
	bxc_snap *snap;
	const bxc_exec_input *in;
	const char *selector; /* the folder of the input; NULL: all */
	bxc_cancel *cancel;
} bxc_exec__seed;
/* Cache mounts that start from something else are others, whatever their ids. */
void bxc_exec__seed_identify(const bxc_exec__seed *s, bxc_hasher *h);
BXC_MUST_CHECK int bxc_exec__seed_copy(const bxc_exec__seed *s, int dir_fd, bxc_err **err);

/* ---- cache.c: cache mounts ---- */
typedef BXC_ARR(char *) bxc_exec__caches; /* folders in caches_dir */
/* Finds or makes the folder of a cache mount and takes it for this job, waiting for a locked one.
 * `seed`: what a new one starts from; NULL: it is empty. The path is owned by the caller. */
BXC_MUST_CHECK int bxc_exec__cache_take(bxc_exec *x, const bxc_op_mount *m, const bxc_exec__seed *seed,
	uint64_t generation, bxc_cancel *cancel, bxc_exec__caches *held, char **ret_path, bxc_err **err);
bool bxc_exec__cache_in_use(bxc_exec *x, const char *folder);
/* ---- stock.c: what is kept of them ---- */
#define BXC_EXEC__MAX_CACHES 1000000u
#define BXC_EXEC__CACHE_NAME 40 /* hexadecimal digits of a folder's name */
bool bxc_exec__cache_is_folder(const char *name);
/* Notes on the folder of whom it is and when it was used; best effort. */
void bxc_exec__cache_mark(bxc_exec *x, const char *folder, const char *id);
void bxc_exec__caches_release(bxc_exec *x, bxc_exec__caches *held);

/* ---- mask.c: values of secrets in output ---- */
typedef struct bxc_exec__masks bxc_exec__masks; /* immutable */
typedef struct bxc_exec__mask bxc_exec__mask;	/* one stream */
BXC_MUST_CHECK int bxc_exec__masks_new(
	const bxc_secret *const *values, size_t n, bxc_exec__masks **ret, bxc_err **err);
void bxc_exec__masks_free(bxc_exec__masks *m);
bxc_exec__mask *bxc_exec__mask_new(const bxc_exec__masks *masks); /* borrowed */
void bxc_exec__mask_free(bxc_exec__mask *m);
/* At most BXC_EXEC__CHUNK bytes; gives fn what is decided. */
void bxc_exec__mask_feed(bxc_exec__mask *m, const void *p, size_t n,
	void (*fn)(const void *p, size_t n, void *ud), void *ud);
/* The stream has ended: gives the rest. */
void bxc_exec__mask_end(bxc_exec__mask *m, void (*fn)(const void *p, size_t n, void *ud), void *ud);

/* ---- private.c: secrets and agents ---- */
typedef struct bxc_exec__agent {
	const char *id; /* borrowed from the op */
	int fd;		/* listens, non-blocking */
} bxc_exec__agent;
typedef struct bxc_exec__variable {
	const char *name; /* borrowed from the op */
	const bxc_secret *value;
	char *marker; /* stands for the value until the file is written */
} bxc_exec__variable;
typedef struct bxc_exec__private {
	int mount_fd; /* a detached tmpfs */
	BXC_ARR(bxc_exec__agent) agents;
	BXC_ARR(bxc_exec__variable) env;
	BXC_ARR(bxc_secret *) values;
	bxc_exec__masks *masks; /* NULL: no secrets */
} bxc_exec__private;
void bxc_exec__private_init(bxc_exec__private *p);
void bxc_exec__private_done(bxc_exec__private *p);
bool bxc_exec__needs_private(const bxc_op_exec *op);
BXC_MUST_CHECK int bxc_exec__private_open(
	bxc_exec__private *p, const bxc_op_exec *op, bxc_err **err);
/* Make the file or socket `name` in the tmpfs; not there: optional, and the client has none. */
BXC_MUST_CHECK int bxc_exec__private_secret(bxc_exec__private *p, const bxc_exec_services *s,
	const bxc_op_mount *m, const char *name, bool *ret_is_there, bxc_err **err);
BXC_MUST_CHECK int bxc_exec__private_agent(bxc_exec__private *p, const bxc_exec_services *s,
	const bxc_op_mount *m, const char *name, bool *ret_is_there, bxc_err **err);
/* All secrets are there. */
BXC_MUST_CHECK int bxc_exec__private_masks(bxc_exec__private *p, bxc_err **err);
/* Writes config.json into the tmpfs, values in place of their markers. */
BXC_MUST_CHECK int bxc_exec__private_config(bxc_exec__private *p, const char *text, bxc_err **err);

/* ---- spec.c: config.json ---- */
typedef struct bxc_exec__mount {
	const char *dest;
	const char *type; /* "bind", "tmpfs" */
	char *source;	  /* owned */
	char **options;	  /* strv, owned */
} bxc_exec__mount;

typedef struct bxc_exec__spec {
	const bxc_op_exec *op;
	const char *rootfs;
	const bxc_exec__user *user;
	const char *resolv_conf, *hosts; /* files of the bundle */
	const bxc_exec__mount *mounts;	 /* of the op */
	size_t n_mounts;
	const bxc_exec__variable *env; /* after the op's */
	size_t n_env;
} bxc_exec__spec;
BXC_MUST_CHECK int bxc_exec__spec_json(const bxc_exec__spec *s, bxc_json **ret, bxc_err **err);
/* Where runtimes mount by themselves; strv. */
extern const char *const bxc_exec__default_dests[];
char *bxc_exec__cwd(const bxc_op_exec *op);   /* owned, absolute */
char *bxc_exec__hosts(const bxc_op_exec *op); /* content of /etc/hosts; owned */
/* "a b" quoted as Go's %q; owned. */
char *bxc_exec__quote(const char *s);

/* ---- process.c ---- */
typedef struct bxc_exec__outcome {
	int exit_code;
	int64_t duration_ns;
	uint64_t oom_kills;
	uint64_t memory_peak; /* bytes; 0: not known, or not out of memory */
	bool is_timed_out; /* it was killed for that, or about to be */
} bxc_exec__outcome;
typedef struct bxc_exec__launch {
	bxc_exec *x;
	const bxc_exec_job *job;
	bxc_helper_job *helper; /* complete but for the control groups */
	const int *mount_fds;	/* what the helper's numbers stand for: FIRST_FD + i */
	size_t n_mount_fds;
	const bxc_exec__private *priv;
} bxc_exec__launch;
/* Starts the helper, passes output on, waits. BXC_CANCELED after everything was killed. */
BXC_MUST_CHECK int bxc_exec__run_helper(
	const bxc_exec__launch *l, bxc_exec__outcome *ret, bxc_err **err);
/* Removes what an earlier run left; makes the parents. */
BXC_MUST_CHECK int bxc_exec__groups_open(bxc_exec *x, const char *parent, bxc_err **err);
/* Removes the parents. */
void bxc_exec__groups_close(bxc_exec *x);
