/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the engine; nobody else includes it. */
#pragma once

#include "common/base/arr.h"
#include "common/base/map.h"
#include "common/definition/definition.h"
#include "coordinator/attest/attest.h"
#include "coordinator/build/build.h"
#include "coordinator/dockerfile/dockerfile.h"
#include "coordinator/scheduler/learned.h"
#include "coordinator/scheduler/lease.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/solver/solver.h"
#include "coordinator/why/why.h"

/* ---- layers and records (records.c) ---- */

typedef struct layer {
	char *id;
	uint64_t size;               /* bytes */
	uint32_t n_below;            /* how many right below it, in every stack, it was made upon; UINT32_MAX: all */
	int64_t created_ns;          /* when it was built; 0: image layers */
	bxc_digest diff_id;          /* known for image layers and published ones */
	char *registry;              /* "docker.io/library/busybox": can be pulled from there; NULL: built here */
	bxc_sess_ref *client;        /* it lies in a folder of this client, named by client_cache; NULL: not */
	uint32_t client_cache;
	bool imported;               /* a cache promises it: when it can't be had, it is made again */
	bxc_descriptor blob;         /* of the registry, or as published; digest unset: none */
	char *layout;                /* of the client of layout_build: can be had from there; NULL: not */
	char *layout_build;
	char *vertex;                /* digest text of the source vertex whose progress a pull belongs to */
	uint64_t publisher;          /* the worker that makes it a blob; 0: none does */
	BXC_ARR(uint64_t) waiters;   /* tasks that wait for it to be published */
} layer;

typedef struct record {
	uint64_t id;
	BXC_ARR(layer *) layers;     /* bottom first; borrowed from engine.layers */
	struct context *context;     /* local source: its tree; NULL otherwise */
} record;

/* ---- images (image.c) ---- */

typedef struct image {
	char *ref;                   /* as asked: "docker.io/library/busybox:latest" */
	bxc_platform platform;
	char *pinned;                /* with the digest of what the name stands for */
	bxc_digest manifest;
	char *repo;                  /* NULL: of a layout */
	char *layout;                /* as the client calls it; NULL: of a registry */
	BXC_ARR(bxc_descriptor) layers;
	bxc_oci_config *config;
} image;

/* ---- contexts (context.c) ---- */

typedef struct context {
	char *key;                   /* session and vertex digest */
	bxc_sess_ref *session;
	char *name;                  /* of the context on the client */
	char *vertex;                /* digest text */
	bxc_tree *tree;              /* set by the scan; entries get located by fetches */
	bxc_digest digest;           /* of the encoded tree */
	bool scanning;
	bool fetching;
	BXC_ARR(uint64_t) scan_waiters;    /* solver tickets of SOURCE_KEY */
	BXC_ARR(struct sum *) sum_waiters; /* checksums that need the tree */
	BXC_ARR(uint64_t) fetch_queue;     /* tasks whose files are to be fetched, one at a time: never twice */
	uint64_t fetched_bytes;
	int64_t started_ns;
	uint32_t refs;
} context;

typedef BXC_ARR(bxc_tree_select) selects;    /* strings owned */

/* ---- cache mounts (caches.c) ---- */

typedef struct cache_mount {
	char *id;
	uint64_t generation;
	char *home;                  /* name of the worker; NULL: none yet */
} cache_mount;

/* ---- tasks (task.c) ---- */

typedef enum task_kind {
	TASK_RUN = 0,
	TASK_CHECKSUM,
	TASK_EXPORT,
	TASK_ASK,                    /* a question; `answer` takes what comes of it */
} task_kind;

typedef enum task_phase {
	TASK_CONTEXT = 0,            /* waits for files of its client */
	TASK_QUEUED,                 /* in the scheduler */
	TASK_PUBLISHING,             /* has a worker; waits for layers that others hold */
	TASK_RUNNING,
} task_phase;

typedef struct cache_node {         /* a layer upon others, as a cache has it */
	layer *layer;
	int32_t parent;              /* -1: none */
} cache_node;

typedef struct task_input {
	uint64_t record;             /* 0: none (export inputs name layers only) */
	BXC_ARR(layer *) layers;
	context *ctx;                /* counted; NULL: layers */
	selects selects;	     /* of ctx: what the task reads of it; moves to the fetch */
	bxc_digest tree;             /* located tree, in the blob store */
	uint64_t tree_size;
} task_input;

struct task;
/* Either result or err_take is set; drops the task. */
typedef void (*task_answer)(struct bxc_build *e, struct task *t, const bxc_json *result, bxc_err *err_take, bool infra);

typedef struct task {
	uint64_t id;
	char *name;                  /* on the wire */
	task_kind kind;
	task_phase phase;
	uint64_t ticket;             /* of the solver; 0 for exports */
	uint64_t run;
	uint64_t vertex;
	struct build *build;         /* whose session serves it; NULL when that has gone */
	char *vertex_digest;
	bxc_json *body;              /* what task.run carries beside inputs */
	BXC_ARR(bxc_sched_cache) caches; /* keys owned */
	bxc_platform platform;
	BXC_ARR(task_input) inputs;
	size_t n_selectors;	  /* TASK_CHECKSUM */
	task_answer answer;          /* TASK_ASK */
	uint64_t prefer;             /* worker that has been at it before; 0: none */
	char *output_layer;          /* TASK_RUN */
	bxc_digest key;              /* TASK_RUN: by which equal work is recognised */
	bool is_fresh;               /* TASK_RUN: whatever the cache knows */
	bool is_recorded;            /* TASK_RUN: the store knows of the attempt */
	bool is_command;             /* TASK_RUN: of an exec */
	bool is_started;             /* its worker said so: inputs are there, the op runs */
	char *title;                 /* TASK_RUN: name of the step; NULL: none */
	bool is_adopted;             /* TASK_RUN: it was begun by an earlier run of the coordinator */
	BXC_ARR(layer *) adopted_base; /* of the tree that it continues */
	uint64_t log_n;              /* TASK_RUN: number of the last log message */
	uint32_t export_index;
	uint32_t attempt;
	uint32_t remaining;
	bxc_learn_keys learn;        /* TASK_RUN: what its duration is remembered by */
	int64_t path_ns;             /* expected time from here to the target; 0: not known */
	uint64_t worker;
	size_t n_publishing;
	BXC_ARR(cache_node) nodes;   /* of a cache that is exported */
	int64_t queued_ns, queued_wall_ns;
	int64_t looked_ns;           /* when it was asked last why it waits */
	char *told_reason;           /* NULL: none was told */
	BXC_ARR(uint64_t) avoid;
} task;

/* ---- attempts of an earlier run of the coordinator (attempts.c) ---- */

typedef struct attempt {
	bxc_state_attempt row;
	char *result;                /* text of its record, when it has one */
	uint64_t worker_id;          /* that said it still has it; 0: none */
} attempt;

/* ---- what a build of an earlier run had told (resume.c) ---- */

typedef struct told_vertex {
	char *digest, *name;
	int64_t started_ns;          /* 0: not yet */
	bool is_completed;
	bool is_internal;
	bool is_taken;               /* an internal step goes on under it */
} told_vertex;

typedef struct told_image {
	char *ref, *platform, *pinned;
} told_image;

typedef struct told_before {
	bxc_map *by_digest;          /* -> told_vertex, owned */
	BXC_ARR(told_vertex *) in_order;
	BXC_ARR(told_image) images;
	bxc_map *logs;               /* task -> uint64_t * number of its last log message */
	char **warnings;
} told_before;

/* ---- builds (request.c) ---- */

typedef struct need {                /* an image to be resolved for a build */
	char *ref;
	bxc_platform platform;
	uint32_t line, line_end;
} need;

typedef struct result_platform {
	bxc_platform platform;
	uint32_t vertex;
	bool is_scratch;
	bxc_oci_config *config;
	size_t target;               /* index into the solver's targets; SIZE_MAX for scratch */
	bool has_epoch, multi_platform;
	int64_t epoch_ns;            /* SOURCE_DATE_EPOCH */
} result_platform;

typedef struct run_opts {            /* run_opts.c */
	char **extra_hosts, **ulimits;
	const char *cgroup_parent;   /* borrowed from the request */
	uint64_t shm_size;
	bxc_net_mode net;
	bool allow_net_host, allow_insecure;
} run_opts;

typedef struct internal_vertex {     /* a step of ours, not of the Dockerfile */
	char digest[BXC_DIGEST_STR_MAX];
	char *name;
	int64_t started_ns;
	bool is_silent;              /* all of it was told before a restart */
} internal_vertex;

typedef enum export_phase {
	EXPORT_WAITS = 0,            /* for the results, at first or again */
	EXPORT_RUNS,
	EXPORT_DONE,
} export_phase;

typedef struct export {              /* one of the outputs */
	export_phase phase;
	uint32_t failures;           /* of the infrastructure */
	bool was_sent;               /* the client has been given some of it: it can't be started over */
	internal_vertex vertex;
} export;
typedef enum call_kind {             /* what a request asks instead of a build */
	CALL_NONE = 0,
	CALL_LINT,
	CALL_OUTLINE,
	CALL_TARGETS,
	CALL_DESCRIBE,
} call_kind;

typedef struct named_context {       /* a named context */
	char *name;
	bxc_df_context_kind kind;
	char *source, *shown;
	bxc_def *def;
} named_context;

struct loading;

/* ---- what is told of its steps (explain.c) ---- */

typedef struct explaining {
	bxc_map *numbers;            /* digest of a vertex that was told of -> its number, as people call it */
	uint32_t *positions;         /* per vertex of positions_of */
	const bxc_def *positions_of;
	BXC_ARR(uint32_t) missed;    /* of a build that is to be cached: indices of what would run */
	bool is_ending;              /* because of them */
} explaining;

typedef struct build {
	struct bxc_build *engine;
	uint64_t num;
	char *id;
	bxc_json *request;
	bxc_sess_ref *session;       /* NULL when the request named none */
	bxc_reg *reg;
	bxc_cancel *cancel;
	bool canceled;
	bool in_solver;
	told_before *told;                  /* of an earlier run of the coordinator; NULL: a build of this one */
	bool is_waiting;             /* of an earlier run: for the workers and its client to come back */
	bool awaits_client;
	BXC_ARR(bxc_platform) build_platforms; /* of the cluster when the request came */
	uint32_t jobs;               /* pool jobs that hold a pointer to it */
	bool dead;                   /* finished; freed when the jobs have come back, and */
	bool reaped;                 /* the loop has gone round once */
	char *dockerfile_name;
	char *dockerfile_text;       /* for excerpts and the parser */
	size_t dockerfile_len;
	char **build_args, **labels, **no_cache_filter;
	bxc_att_provenance provenance;
	int64_t created_ns;
	run_opts run;
	bxc_df_ast *ast;
	call_kind call;
	bxc_ignore *ignore;          /* of the main context, for checks; NULL: none */
	char file_vertex[BXC_DIGEST_STR_MAX];      /* of the step that loads the Dockerfile */
	size_t n_warned;             /* warnings told so far */
	bxc_df_result checked;       /* of the last pass, CALL_LINT */
	BXC_ARR(bxc_platform) platforms;
	BXC_ARR(image *) images;     /* resolved for this build; owned */
	BXC_ARR(context *) contexts; /* counted: trees stay as long as the build */
	BXC_ARR(struct cache_import *) imports;
	size_t imports_left;         /* that are being read */
	size_t n_imported;           /* records, of all of them */
	bxc_def *def;                /* what the solver was given last */
	BXC_ARR(bxc_def *) defs;     /* those before it; the solver still knows them by their numbers */
	BXC_ARR(uint64_t) nums;      /* parallel */
	struct loading *loading;     /* of a context or Dockerfile from elsewhere; NULL: not (any more) */
	const bxc_def *context_def;  /* of defs: the context that came from elsewhere; NULL: a local one */
	bxc_map *times;              /* of sources that SOURCE_DATE_EPOCH names; NULL: none yet */
	BXC_ARR(named_context *) named;
	BXC_ARR(result_platform) results;
	BXC_ARR(uint64_t) records;   /* per solver target, set by BUILD_DONE; empty again when one was lost */
	uint32_t n_targets;
	BXC_ARR(export) exports;     /* parallel to those of the request and, behind them, its cache_to; empty until the
	                                first results are in */
	size_t exports_left;
	uint32_t export_attempts;    /* of all of them: epochs of their tasks */
	int64_t export_time_ns;      /* what is new in the images is of this time, whichever attempt makes them */
	bxc_json *export_results;    /* array */
	bxc_json *cache_results;     /* array */
	bxc_err *export_err;
	int64_t *path_ns;            /* per vertex of def: expected time from it to the end */
	int64_t *started_ns;         /* per vertex of def; 0: not started */
	bool *reported;
	int64_t failed_vertex;       /* def index, or -1 */
	explaining *explaining;      /* NULL: nothing yet */
} build;

typedef struct run_sub {
	build *build;
	uint32_t def_index;
} run_sub;

typedef struct run_log {             /* what a run has said, for those who come later */
	uint64_t run;
	uint64_t vertex;             /* state in the solver: a step that starts over gets a new run */
	BXC_ARR(run_sub) subs;
	BXC_ARR(bxc_json *) events;
	size_t bytes;
	char *worker;                /* name; NULL until it was placed */
	BXC_ARR(uint64_t) avoid;     /* workers on which an attempt failed by no fault of the step */
} run_log;

struct bxc_build {
	bxc_build_config c;
	bxc_solve *solve;
	bxc_sched *sched;
	bxc_map *builds;             /* id -> build */
	bxc_map *by_num;             /* "num" -> build */
	bxc_map *layers;             /* id -> layer; kept: small, bounded by what the cluster holds */
	bxc_map *records;            /* "id" -> record */
	bxc_map *contexts;           /* key -> context */
	bxc_map *tasks;              /* name -> task */
	bxc_map *tasks_by_id;        /* "id" -> task (borrowed) */
	bxc_map *runs;               /* "run" -> run_log */
	bxc_map *attempts;           /* task -> attempt; of an earlier run, not taken yet */
	char **awaited;              /* names of workers that had joined then and have not come back */
	BXC_ARR(struct asking *) askings;    /* workers are asked what they keep */
	uint64_t last_asking;
	bxc_map *suspects;           /* key -> suspect: steps that took workers down; bounded */
	char **drained;              /* names of workers that an operator has drained; NULL: none */
	size_t n_resumed;            /* builds of an earlier run that have not ended */
	bool is_settled;             /* nothing is awaited any more */
	bool is_stopping;
	bxc_loop_timer *grace;
	bxc_map *cache_mounts;       /* id -> cache_mount; kept: small, bounded by the ids that builds name */
	bxc_map *images;             /* pinned + platform -> image: what registries told */
	struct explained *explained; /* steps that the store is to be told of when the pump rests; NULL: none */
	bool any_missed;             /* a build that is to be cached may have to fail */
	bxc_learn *learned;          /* how long steps took */
	bxc_map *prefetches;         /* name on the wire -> what is on its way to a worker before it is asked for */
	bxc_map *pins;               /* digest of a source's vertex -> source_pin: what it last stood for */
	uint64_t last_num;
	uint64_t last_task;
	bool pumping;
	bxc_loop_timer *tick;
};

char *num_key(uint64_t v);           /* owned */

/* engine.c */
void pump(bxc_build *e);             /* runs solver and scheduler until both are quiet */
build *build_by_num(bxc_build *e, uint64_t num);
task *task_by_id(bxc_build *e, uint64_t id);

/* prefetch.c */
bxc_map *prefetches_new(void);
void prefetch_started(bxc_build *e, const task *t);              /* its worker said so */
void prefetch_result(bxc_build *e, const build *b, uint32_t index); /* vertex `index` has one */
void prefetch_blob_made(bxc_build *e);                           /* or can't be */
/* False: the task is of another kind. */
bool prefetch_done_message(bxc_build *e, bxc_wrk_worker *w, const char *name, const bxc_json *msg);
void prefetch_build_over(bxc_build *e, const char *id);
void prefetch_worker_left(bxc_build *e, const bxc_wrk_worker *w);

/* records.c */
layer *layer_get(bxc_build *e, const char *id);                  /* made when unknown */
void layer_nowhere(layer *l);                                    /* it is only where workers hold it */
bool layer_is_elsewhere(const layer *l);                         /* a registry or a client can give it */
/* The worker holds the layer, or does not any more: its table and the scheduler are told. */
void layer_held(bxc_build *e, bxc_wrk_worker *w, const layer *l);
void layer_gone(bxc_build *e, bxc_wrk_worker *w, const char *id);
/* "diff_id" and "blob" of j; the layer is as it was when one of them is wrong. */
BXC_MUST_CHECK int layer_set_blob(layer *l, const bxc_json *j, bxc_err **err);
record *record_find(bxc_build *e, uint64_t id);
void record_free(void *p);
void layer_free(void *p);
/* by: the attempt that made it; NULL: unknown. Owned. */
char *record_to_text(const record *r, const bxc_state_attempt *by);
/* In the store, then in what the build imports (0: in no import). */
void lookup_key(bxc_build *e, uint64_t build_num, uint64_t ticket, const bxc_digest *key);
void save_keys(bxc_build *e, const bxc_digest *keys, size_t n, uint64_t rec, const bxc_digest *canonical);
/*
 * Stores r (owned) and tells the solver that the run of `ticket` is done. `attempt_take`: ends with
 * it, in the same transaction; its worker may then forget it; NULL: none.
 */
void record_new(bxc_build *e, record *r, uint64_t ticket, int64_t duration_ns, bxc_state_attempt *attempt_take);
void record_drop(bxc_build *e, uint64_t id);                     /* its data is gone: cache and solver forget it */
void layers_vanished(bxc_build *e);                              /* checks every record the solver uses */

/* {"id","size",...} of each, as records and attempts keep them. */
bxc_json *layers_to_json(layer *const *v, size_t n);
/* `n_below`: when it says nothing of that, as records from before there were merges: all below it. */
BXC_MUST_CHECK int layer_from_json(bxc_build *e, const bxc_json *j, size_t n_below, layer **ret, bxc_err **err);
/* The record of the text, known from now on; false: it can't be read or had any more. */
bool record_load(bxc_build *e, uint64_t id, const char *text);

/* merge.c */
void merge_run(bxc_build *e, const bxc_solve_action *a);         /* stacks the inputs; nothing runs */
/* imports.c, imports_read.c: caches of elsewhere that the request names */
BXC_MUST_CHECK int cache_specs_check(const build *b, bxc_err **err);  /* of the request, before anything runs */
void imports_load(build *b);                                      /* reads them, then build_lower(b) */
void imports_free(build *b);
bool cache_is_inline(const bxc_json *spec);
/* What the caches of the build know of a key: true when the solver was or will be told. */
bool imports_lookup(bxc_build *e, uint64_t build_num, uint64_t ticket, const bxc_digest *key);
void layer_withdraw(bxc_build *e, layer *l);                     /* a cache could not give it */
bool imports_session_left(bxc_build *e, const char *session);     /* whether a layer was only there */

/* cache_export.c */
const char *cache_vertex_name(const bxc_json *spec);
void cache_task_fill(build *b, task *t, const bxc_json *spec);   /* what goes into an exported cache */
/* The records for the configuration of one image of the result, owned; NULL: none is wanted. */
char *cache_inline_records(build *b, const result_platform *rp);
/* A failed export of a cache that the user does not want to fail the build. */
bool cache_error_is_ignored(build *b, const bxc_json *spec, const bxc_err *err);

/* image.c */
void image_free(void *p);
image *image_for_vertex(build *b, const bxc_def_vertex *v);
/* Resolves the needs of b on the pool, then calls build_lower(b) or fails the build. */
void images_resolve(build *b, need *needs_take, size_t n);
bxc_digest image_key(const image *img);

/* context.c */
context *context_for(build *b, const bxc_def_vertex *v);         /* borrowed; made when new */
void context_ref(context *c);
void context_unref(bxc_build *e, context *c);
void context_scan(bxc_build *e, build *b, context *c, const bxc_def_vertex *v, uint64_t ticket);
void context_checksum(bxc_build *e, build *b, context *c, const bxc_def_vertex *v, const bxc_solve_action *a);
void selects_add(selects *l, const bxc_solve_selector *s, size_t n);
void selects_done(selects *l);
void context_fetch(bxc_build *e, task *t);                       /* then task_ready() or a failure */
void context_fetch_next(bxc_build *e, context *c);

/* remote.c */
struct source_pin {
	bxc_json *json;              /* a PIN */
	uint64_t worker;             /* that found it */
};
bool source_is_remote(const bxc_def_vertex *v);
bxc_map *source_pins_new(void);
void source_pinned(bxc_build *e, const char *vertex, const bxc_json *pin, uint64_t worker);
/* The task is made, not yet ready; v NULL: it is about none. */
task *task_ask(bxc_build *e, build *b, const char *kind, const bxc_def_vertex *v, task_answer answer);
/* Puts it to another worker and drops t; false: often enough. */
bool task_ask_again(bxc_build *e, task *t);
void remote_key(bxc_build *e, build *b, const bxc_solve_action *a);      /* answers a SOURCE_KEY */
bool remote_material(build *b, const bxc_def_vertex *v, bxc_att_material *ret);   /* false: it came from the client */
void remote_run_body(bxc_build *e, task *t, const bxc_def_vertex *v);    /* what task.run says of the source */

/* load.c */
/* Contexts and Dockerfiles from elsewhere, before anything is recorded. */
BXC_MUST_CHECK int remote_check(const build *b, bxc_err **err);
/* The source that a git URL, an http URL or "upload://<digest>" names; strings owned. b NULL: of a named context. */
BXC_MUST_CHECK int remote_source(const build *b, const char *text, bxc_op_source *ret, bool *ret_git, bxc_err **err);
bool load_start(build *b);           /* true: build_parse() or a failure comes later */
void load_solved(build *b, uint64_t rec);
void loading_free(struct loading *l);
/* A bxc_df_time_fn on a build. */
bool load_time_known(const bxc_def_vertex *source, bool *ret_has, int64_t *ret_ns, void *ud);
/* Finds it out; build_lower() or a failure comes later. */
void load_time(build *b, const bxc_def_vertex *source);

/* layout.c */
bool is_layout(const char *ref);     /* "oci-layout://..." */
BXC_MUST_CHECK int layout_resolve(build *b, const char *ref, const bxc_platform *platform, image **ret, bxc_err **err);   /* blocks */
void layout_layers(build *b, const image *img);      /* its layers can be had of the client of b */
void layouts_gone(build *b);

/* named.c */
BXC_MUST_CHECK int named_read(build *b, bxc_err **err);
void named_free(void *p);
/* "oci-layout://store@sha256:..." */
BXC_MUST_CHECK int layout_parse(const char *ref, char **ret_store, bxc_digest *ret, bxc_err **err);

/* task.c */
void task_run(bxc_build *e, const bxc_solve_action *a);
void task_checksum(bxc_build *e, const bxc_solve_action *a);
task *task_new(bxc_build *e, task_kind kind, build *b);
task *task_named(bxc_build *e, task_kind kind, build *b, const char *name);
void task_of_run(bxc_build *e, task *t, const bxc_solve_action *a);      /* which step it is */
void task_on_worker(bxc_build *e, task *t, bxc_wrk_worker *w);   /* it runs there already */
void worker_send(bxc_wrk_worker *w, bxc_json *j_take);
void task_ready(bxc_build *e, task *t);                          /* inputs known: to the scheduler */
void task_cancel(bxc_build *e, uint64_t ticket);
void task_drop(bxc_build *e, task *t);                           /* frees; out of the scheduler too */
void task_free(void *p);
void task_fail(bxc_build *e, task *t, bxc_err *err_take, bool infra);
bxc_json *layer_to_json(bxc_build *e, const layer *l, uint64_t for_worker);
/* `layers` are a stack, bottom first; those below the i-th are what it is the difference to. */
void layer_publish_at(bxc_wrk_worker *holder, layer *const *layers, size_t i);
void task_dispatch(bxc_build *e, task *t, uint64_t worker);
void task_lost(bxc_build *e, uint64_t id);
void task_abort(bxc_build *e, task *t);                          /* stops it on its worker and drops it */
int task_done_message(bxc_build *e, bxc_wrk_worker *w, task *t, const bxc_json *msg, bxc_err **err);
int publish_done_message(bxc_build *e, bxc_wrk_worker *w, const char *name, const bxc_json *msg, bxc_err **err);

/* attempts.c */
void attempt_free(void *p);
bxc_state_attempt attempt_row(const task *t, const char *worker);        /* owned strings */
/*
 * Records it, then sends its worker the order (NULL: none), if both are still there: what runs is known, should this
 * run of the coordinator end at any moment.
 */
void attempt_begin(bxc_build *e, task *t, const bxc_wrk_worker *w, bxc_json *order_take);
void attempt_end(bxc_build *e, const char *name);                        /* without a result */
void attempt_forget(bxc_wrk_worker *w, const char *name);                /* its worker need not keep it */
BXC_MUST_CHECK int attempts_load(bxc_build *e, bxc_state *st, bxc_err **err);
void attempts_worker_joined(bxc_build *e, bxc_wrk_worker *w, const bxc_json *running);
void attempts_worker_left(bxc_build *e, const bxc_wrk_worker *w);
void attempts_over(bxc_build *e);                                        /* nobody can take one any more */
bool attempt_take(bxc_build *e, const bxc_solve_action *a);              /* the step is done, or goes on: nothing need be run */

/* resume.c */
void told_free(told_before *t);
told_vertex *told_step(const build *b, const char *digest);              /* NULL: nothing was told of it */
told_vertex *told_internal(const build *b, const char *name);            /* the next one of this name; taken */
bool told_log(const build *b, const bxc_json *ev);                       /* was this log message told? */
bool told_warning(const build *b, const char *text);
const char *told_pinned(const build *b, const char *ref, const bxc_platform *p);
void resume_grace_over(void *ud);
void resume_ended(build *b);                                             /* one of an earlier run */
void workers_changed(bxc_build *e);                                      /* who is connected is kept for the next start */
void worker_is_back(bxc_build *e, const char *name);

/* caches.c */
void cache_mount_free(void *p);
const char *cache_id_of(const bxc_op_mount *m);
/* Learns of the cache mounts of b->def and begins new generations where the cache is ignored; then
 * calls `then`, at once when there are none, or fails the build. */
void caches_prepare(build *b, void (*then)(build *b));
void caches_worker_joined(bxc_build *e, const bxc_wrk_worker *w);
void caches_placed(bxc_build *e, const task *t);                 /* homes may have moved */
uint64_t cache_generation(bxc_build *e, const bxc_op_mount *m);

/* suspects.c */
void suspect_free(void *p);
BXC_MUST_CHECK int suspects_load(bxc_build *e, bxc_state *st, bxc_err **err);
void suspects_worker_left(bxc_build *e, const bxc_wrk_worker *w);   /* what it ran is suspected */
bool quarantine_refuses(bxc_build *e, const bxc_solve_action *a);   /* a RUN; true: it was failed */
bxc_err *quarantine_error(bxc_build *e, const bxc_digest *key);     /* owned; NULL: it is not in quarantine */
void suspect_clear(bxc_build *e, const task *t);                    /* it succeeded */

/* resume.c: a setting that is a document; *ret stays NULL when there is none. */
BXC_MUST_CHECK int setting_json(bxc_state *st, const char *key, bxc_json **ret, bxc_err **err);

/* usage.c */
BXC_MUST_CHECK int usage_message(bxc_build *e, const bxc_wrk_worker *w, const bxc_json *msg, bxc_err **err);
void usage_worker_left(bxc_build *e, const bxc_wrk_worker *w);
void usage_stop(bxc_build *e);

/* waiting.c */
void waiting_tick(bxc_build *e, int64_t now);

/* drain.c */
BXC_MUST_CHECK int drained_load(bxc_build *e, bxc_state *st, bxc_err **err);
void worker_to_scheduler(bxc_build *e, bxc_wrk_worker *w);          /* it joined, or is drained no more */
void worker_leaves(bxc_build *e, bxc_wrk_worker *w);                /* it said so */
void leavers_release(bxc_build *e);                                 /* those that nobody needs any more may go */

/* durations.c */
BXC_MUST_CHECK int durations_load(bxc_build *e, bxc_state *st, bxc_err **err);
void durations_of_build(build *b);   /* what is expected of its new definition */
void duration_expect(bxc_build *e, task *t, const bxc_solve_action *a);      /* of the task, from what it is to run */
/* The step took so long on w. */
void duration_learn(bxc_build *e, const task *t, const bxc_wrk_worker *w, int64_t ns);
/* A "transfer" message of w: bytes came to it. */
BXC_MUST_CHECK int transfer_message(bxc_build *e, bxc_wrk_worker *w, const bxc_json *msg, bxc_err **err);

/* report.c */
const run_log *run_of(bxc_build *e, uint64_t run);                 /* NULL: nobody sees it */
void report(build *b, bxc_json *j);                              /* appends an event; owns j */
/* A warning to report, owned; `vertex`: digest text, may be NULL. NULL: it was told before a restart. */
bxc_json *warning_new(const build *b, const char *vertex, const char *text);
void internal_begin(build *b, internal_vertex *v, const char *name);
void internal_status(build *b, const internal_vertex *v, const char *id, uint64_t current, uint64_t total, bool done);
void internal_end(build *b, internal_vertex *v, const bxc_err *err);   /* and frees its name */
void report_solver_event(bxc_build *e, const bxc_solve_action *a);
void report_task_started(bxc_build *e, task *t, const char *worker);
void report_task_event(bxc_build *e, task *t, bxc_json *j);      /* log or status; owns j */
void report_vertex_status(build *b, const char *vertex, const char *id, uint64_t current, uint64_t total, int64_t started_ns, bool done);
void run_log_free(void *p);
build *run_other_build(bxc_build *e, uint64_t run, const build *b);      /* another one that watches the run; NULL: none */
void runs_forget(bxc_build *e, build *b);
/* An attempt failed by no fault of the step: told to those who watch; `worker` (0: none) is avoided by the next. */
void run_attempt_failed(bxc_build *e, uint64_t run, uint64_t worker, const bxc_err *err);
void run_avoid(bxc_build *e, task *t);                               /* t->avoid */
void run_starts_over(bxc_build *e, uint64_t vertex, uint64_t run);   /* those who watch the vertex watch the new run */
bxc_json *err_to_json(const bxc_err *err);
bxc_err *err_from_json(const bxc_json *j);
void report_missed(build *b, uint32_t index, const char *why);           /* a step that is to be cached and is not */

/* explain.c */
void explain_free(explaining *x);
explaining *explain_of(build *b);
uint64_t explain_number(build *b, const char *vertex);                   /* given when it is told of first */
/* Keeps what there is to know of the step now; `l`: of its run, NULL: none. */
void explain_event(build *b, const bxc_solve_action *a, const run_log *l);
void explain_flush(bxc_build *e);                                        /* to the store */

/* explain_ask.c */
/* {"step","outcome","text",...} as the API gives it; owned. On the thread of the store. */
BXC_MUST_CHECK int explain_step(bxc_state *st, const bxc_state_step *s, bxc_json **ret, bxc_err **err);

/* expect.c: builds for which nothing runs */
BXC_MUST_CHECK int expect_read(const build *b, bxc_err **err);
bool expect_is_on(const build *b);
void expect_missed(build *b, uint32_t index);
bool expect_has_missed(const build *b);
void expect_end(build *b);                                               /* tells what it has missed, then fails it */
void expect_check(bxc_build *e);                                         /* ends those of which all is known */

/* run_opts.c */
void run_opts_done(run_opts *o);
int run_opts_read(const bxc_build *e, const bxc_json *req, run_opts *o, bxc_err **err);
void run_opts_apply(const run_opts *o, bxc_df_opts *df);

/* request.c */
build *build_new(bxc_build *e, bxc_json *request_take, char *id_take);
BXC_MUST_CHECK int build_read(build *b, bxc_err **err);          /* the request */
void build_enter(build *b);                                      /* among the live ones */
void build_start(build *b);
void build_parse(build *b);          /* the Dockerfile is there */
void build_new_solve(build *b, bxc_def *def_take);   /* from here on the solver knows the build by a new number */
void build_lower(build *b);
void build_finish(build *b, const char *status, bxc_err *err_take, bxc_json *result_take);
void build_fail(build *b, bxc_err *err_take);			     /* failed, or cancelled when that was asked for */
void build_solved(build *b, const bxc_solve_action *a);
void build_job_done(build *b);                                   /* a pool job came back */
void build_free(void *p);

/* call.c: what a request asks instead of a build; those that return bool: true when it was answered */
BXC_MUST_CHECK int call_read(build *b, bxc_err **err);
bool call_is_ignored(const char *path, void *ud);
void call_warnings(build *b, bxc_df_result *r_take);     /* tells those that are new, or keeps the result */
bool call_parsed(build *b);
bool call_lowered(build *b, bxc_df_result *r);
bool call_failed(build *b, bxc_err *err_take);           /* takes the error only when true */

/* export.c */
bool export_attests(const build *b, const char *type);           /* does an output of this type tell how it was made? */
/* Attributes of an export of the request; wrong ones fail it before anything runs. */
BXC_MUST_CHECK int export_check(const bxc_json *spec, bxc_err **err);
BXC_MUST_CHECK int export_check_compression(const bxc_json *attrs, bxc_err **err);
void exports_start(build *b);                                    /* those that wait for results, which are in now */
void export_done(bxc_build *e, task *t, const bxc_json *response, bxc_err *err_take);
/* The task failed; `infra`: by no fault of what was asked, so another attempt may do better. */
void export_failed(bxc_build *e, task *t, bxc_err *err_take, bool infra);
void export_lost(bxc_build *e, task *t, uint64_t rec);           /* a layer of this result is nowhere: it is made again */
