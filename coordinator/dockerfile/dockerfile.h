/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Dockerfile frontend: text in, build definition and image configuration out. Module prefix:
 * bxc_df. Pure: no I/O, no clock, no threads; a fuzzer may drive all of it.
 *
 * Every error that belongs to a place in the file reads "Dockerfile:7: what is wrong" and carries
 * the details "file", "line" and "line_end". What the language has and this version does not is
 * refused with BXC_UNIMPLEMENTED where a needed stage uses it, never skipped.
 *
 * The reader takes the whole language of BuildKit's dockerfile/1 frontend.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/codec/json.h"
#include "common/definition/definition.h"
#include "common/oci/oci.h"

/* ---- reading ---- */
typedef struct bxc_df_ast bxc_df_ast;

/*
 * `name` is what errors call the file ("Dockerfile"). The text is copied where it is needed.
 * BXC_INVALID_ARGUMENT for anything wrong with the text, BXC_RESOURCE_EXHAUSTED beyond a limit.
 */
BXC_MUST_CHECK int bxc_df_parse(bxc_slice text, const char *name, bxc_df_ast **ret, bxc_err **err);
/* As bxc_df_parse, but *ret is set in any case: on failure it holds the instructions before the
 * wrong one, for bxc_df_check_part and nothing else. */
BXC_MUST_CHECK int bxc_df_parse_part(
	bxc_slice text, const char *name, bxc_df_ast **ret, bxc_err **err);
void bxc_df_ast_free(bxc_df_ast *a);
BXC_DEFINE_CLEANUP(bxc_df_ast, bxc_df_ast_free);

size_t bxc_df_n_stages(const bxc_df_ast *a);
/* Name of the i-th stage in lower case, borrowed; NULL when it has none. */
const char *bxc_df_stage_name(const bxc_df_ast *a, size_t i);

/*
 * The lines around line..line_end of a file, those lines marked, as BuildKit shows the place of an
 * error. Owned; "" when the lines are not in the text.
 */
char *bxc_df_excerpt(bxc_slice text, const char *name, uint32_t line, uint32_t line_end);

/*
 * For an image that was not found ("docker.io/library/biuld:latest"): the stage, or the well-known
 * image, whose name is near to it; borrowed. NULL: none.
 */
const char *bxc_df_nearest_base(const bxc_df_ast *a, const char *ref);

/* ---- lowering ---- */
/* What is known of an image: all borrowed until the call of bxc_df_lower ends. */
typedef struct bxc_df_image {
	bxc_digest digest; /* what the reference is pinned to */
	const bxc_oci_config *config;
} bxc_df_image;

/* True and *ret filled when the image is known. `ref` is full: "docker.io/library/busybox:latest".
 */
typedef bool (*bxc_df_lookup_fn)(
	const char *ref, const bxc_platform *platform, bxc_df_image *ret, void *ud);

/*
 * True when the time of a source is known (of a git commit, a file of a web server, the newest entry
 * of an archive): *ret_has false says that it has none.
 */
typedef bool (*bxc_df_time_fn)(
	const bxc_def_vertex *source, bool *ret_has, int64_t *ret_ns, void *ud);

typedef enum bxc_df_context_kind {
	BXC_DF_CONTEXT_LOCAL = 0, /* a folder of the client */
	BXC_DF_CONTEXT_TREE,
	BXC_DF_CONTEXT_IMAGE,
	BXC_DF_CONTEXT_SCRATCH,
	BXC_DF_CONTEXT_STAGE, /* of the same file, or the image that it builds on */
} bxc_df_context_kind;

/* What stands in for the stages and images of a name (--build-context). All borrowed. */
typedef struct bxc_df_context {
	const char *name; /* as short as can be ("alpine", "h/app:1"), perhaps with "::os/arch" */
	bxc_df_context_kind kind;
	/* LOCAL: what the client calls it; IMAGE: as given to the look-up; STAGE: its name */
	const char *source;
	const char *shown;  /* IMAGE: in names of steps */
	const bxc_def *def; /* TREE: its last vertex is the tree */
} bxc_df_context;

typedef struct bxc_df_opts {
	char *const *build_args; /* strv "K=V", the last of equal keys wins */
	const char *target;	 /* NULL or "": the last stage */
	bxc_platform platform;	 /* to build for */
	bool platform_given;	 /* asked for by the user: the image's config gets it in any case */
	const bxc_platform *build_platforms; /* what the cluster runs; [0] is $BUILDPLATFORM; none:
						as `platform` */
	size_t n_build_platforms;
	bool multi_platform; /* several platforms are asked for */
	char *const *labels; /* strv "K=V", set after the Dockerfile's own */
	bool no_cache;
	char *const *no_cache_filter; /* strv, names of stages */
	const char *context_name;     /* NULL: "context", giving local://context */
	const bxc_def *context_def;   /* the last vertex is the context; NULL: a local one */
	const bxc_df_context *contexts;
	size_t n_contexts;
	const char *session;	      /* tells the contexts of different clients apart */
	const char *hostname;	      /* of RUN; NULL: the default */
	char *const *extra_hosts;     /* strv "name=ip" */
	char *const *ulimits;	      /* strv "name=soft:hard" */
	const char *cgroup_parent;    /* NULL: none */
	uint64_t shm_size;	      /* bytes; 0: the default */
	bxc_net_mode net;	      /* of every RUN without --network */
	bool no_checks;	 /* gives no warnings: of several platforms the first one speaks */
	bool all_stages; /* those too that the target does not need: for checks without a target */
	bool want_outline;
	/* Is the context's `path` left out by its ignore file, and all below it? NULL: nothing is.
	 */
	bool (*is_ignored)(const char *path, void *ud);
	void *is_ignored_ud;
	bool allow_net_host;	      /* what steps may ask for: entitlements of the build */
	bool allow_insecure;
	bxc_df_lookup_fn lookup;
	void *lookup_ud;
	bxc_df_time_fn time_of;
	void *time_of_ud;
} bxc_df_opts;

/* An image whose facts are needed, and the lines that ask for it. */
typedef struct bxc_df_need {
	char *ref; /* full, as given to the look-up */
	bxc_platform platform;
	uint32_t line, line_end;
} bxc_df_need;

/* One of BuildKit's 22 checks; static. */
typedef struct bxc_df_rule {
	const char *name;
	const char *description;
	const char *url; /* NULL: none */
	bool is_experimental;
} bxc_df_rule;

typedef struct bxc_df_warning {
	const bxc_df_rule *rule; /* NULL: a remark that is no check's */
	char *text;
	uint32_t line, line_end; /* 0: of no place */
} bxc_df_warning;

typedef struct bxc_df_result {
	/* One of these is set when bxc_df_lower returns 1: in order of the file, each once; or the
	 * source whose time SOURCE_DATE_EPOCH stands for. */
	BXC_ARR(bxc_df_need) needs;
	bxc_def_vertex *need_time;
	/* Set when it returns 0. */
	uint32_t target; /* vertex whose output 0 is the root; BXC_DEF_NO_INPUT: the empty tree */
	/*
	 * The image without the layers this build makes: diff_ids are the base's; the history is
	 * the base's followed by ours, where entries without time are to be dated, and those that
	 * are not empty_layer stand for the layers of the target's chain in order.
	 */
	bxc_oci_config *image;
	char *base_ref;	  /* pinned reference of the base image; NULL: none */
	char *stage;	  /* name of the target stage, or its number */
	uint32_t context; /* vertex of the local context; BXC_DEF_NO_INPUT: not used */
	bool multi_platform; /* names of steps tell theirs, and the result is of several, were it one */
	bool has_epoch;
	int64_t epoch_ns;  /* SOURCE_DATE_EPOCH */
	bxc_json *outline; /* of the target, as --call=outline shows it but for "sources" */
	/* Set in any case, in the order in which they were found. */
	BXC_ARR(bxc_df_warning) warnings;
} bxc_df_result;

void bxc_df_result_done(bxc_df_result *r);
#define BXC_AUTODFRESULT BXC_CLEANUP(bxc_df_result_done)

/*
 * Lowers the target stage for one platform into `def`, which may hold vertices already (of other
 * platforms): equal ones are shared. `ret` is zeroed by the caller.
 *
 * Returns 0; or 1 when facts about images, or the time of a source, are missing: they are listed in
 * ret->needs and ret->need_time, and the call is to be made again when the look-up knows them (new
 * needs may come up then: images that triggers of a base ask for). `def` is unchanged on 1, and on failure unless that is
 * BXC_RESOURCE_EXHAUSTED.
 */
BXC_MUST_CHECK int bxc_df_lower(
	const bxc_df_ast *a, const bxc_df_opts *o, bxc_def *def, bxc_df_result *ret, bxc_err **err);

/* ---- checks and other questions about a file ---- */
/* Only what single instructions tell: for a file that cannot be read to its end. */
void bxc_df_check_part(const bxc_df_ast *a, const bxc_df_opts *o, bxc_df_result *ret);

/* The documents of --call=check, targets and subrequests.describe, as BuildKit's have them but for
 * "sources"; owned. `failure` may be NULL. */
bxc_json *bxc_df_check_document(const bxc_df_result *r, const bxc_err *failure);
bxc_json *bxc_df_targets_document(const bxc_df_ast *a);
bxc_json *bxc_df_describe_document(void);
