/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler: which ready task runs on which worker. Module prefix: bxc_sched.
 *
 * A pure state machine like the solver: events enter as calls, actions leave through
 * bxc_sched_next(); no clock, I/O, threads or randomness; same calls, same actions. One thread.
 * Ids of workers, tasks and builds are the engine's, opaque, not 0. Tenants and layers are text.
 *
 * Order. The tenant with the least running tasks for its weight goes first, then its build with the
 * least; among equals the one served longest ago, so that none starves. Within a build the task with
 * the longest expected path to the target, then the older one.
 *
 * Place. A task goes to the worker with the least estimated finish:
 *     expected work placed there / slots + missing bytes / bandwidth + expected duration.
 * Layers on their way to a worker (inputs of tasks placed there) count as present. Workers which
 * run the platform natively come before those which emulate it: an emulating one is used only when
 * no native one is connected. A task which continues a chain stays with the worker that has its
 * input unless another finishes it clearly sooner. A task may wait for a busy worker that has its
 * inputs when that is clearly sooner than moving them, but never while a worker that could serve it
 * is idle altogether.
 *
 * Cache mounts. A cache is a folder that steps leave for others; it has a home, the worker whose
 * copy counts. A task goes to the home of its caches and waits for it when it is busy; only when
 * the home has gone, or can't serve the task, it runs elsewhere, and the home moves there once
 * nothing uses the cache. `locked`: one user at a time in the whole cluster. `private`: while the
 * cache is in use, the task runs anywhere, with a folder of its own. Caches with different homes
 * that one task uses come together: at the home of the first; the others move, when nothing uses
 * them.
 */
#pragma once

#include "common/base/err.h"
#include "common/oci/oci.h"

/* A task nothing is known of; bytes/s between workers until measured. */
#define BXC_SCHED_DEFAULT_COST_NS   INT64_C(2000000000)
#define BXC_SCHED_DEFAULT_BANDWIDTH UINT64_C(100000000)
/* How much slower a step is under qemu-user; compilers measured 5 to 15 times. */
#define BXC_SCHED_EMULATION_FACTOR  8

typedef struct bxc_sched bxc_sched;

bxc_sched *bxc_sched_new(void);
void bxc_sched_free(bxc_sched *s);
BXC_DEFINE_CLEANUP(bxc_sched, bxc_sched_free);

/* ---- workers ---- */

typedef struct bxc_sched_worker {
	uint64_t id;
	const bxc_platform *native;
	size_t n_native;
	const bxc_platform *emulated;
	size_t n_emulated;
	uint32_t slots;	    /* tasks at a time; 0 counts as 1 */
	uint64_t bandwidth; /* bytes/s towards it; 0: the default */
} bxc_sched_worker;

/* A known id gets the new facts, is no longer drained, and keeps its tasks and layers. Copied. */
void bxc_sched_worker_add(bxc_sched *s, const bxc_sched_worker *w);
/* Gone for good: a LOST action follows for each of its tasks. No-op for an unknown id. */
void bxc_sched_worker_remove(bxc_sched *s, uint64_t worker);
/* No new tasks; DRAINED follows once it has none. */
void bxc_sched_worker_drain(bxc_sched *s, uint64_t worker);
/* Bytes/s towards it, as measured; 0: the default. No-op for an unknown id. */
void bxc_sched_worker_bandwidth(bxc_sched *s, uint64_t worker, uint64_t bandwidth);
void bxc_sched_layer_at(bxc_sched *s, uint64_t worker, const char *layer);
void bxc_sched_layer_gone(bxc_sched *s, uint64_t worker, const char *layer);

/* ---- cache mounts ---- */

/* The worker has the copy of the cache that counts, unless it has a home already. No-op for an
 * unknown worker. */
void bxc_sched_cache_at(bxc_sched *s, const char *cache, uint64_t worker);
uint64_t bxc_sched_cache_home(const bxc_sched *s, const char *cache); /* 0: none */

/* ---- tenants ---- */

typedef struct bxc_sched_tenant {
	const char *name;
	uint32_t weight;	/* its share against others; 0: 1 */
	uint32_t max_running;	/* tasks at a time; 0: no bound */
	uint32_t max_per_build; /* of each of its builds; 0: no bound */
} bxc_sched_tenant;

/* Replaces what was said before; a tenant that was never set has weight 1 and no bounds. */
void bxc_sched_tenant_set(bxc_sched *s, const bxc_sched_tenant *t);

/* ---- tasks ---- */

typedef struct bxc_sched_layer {
	const char *key;
	uint64_t size_bytes;
} bxc_sched_layer;

typedef enum bxc_sched_sharing {
	BXC_SCHED_SHARED = 0,
	BXC_SCHED_PRIVATE,
	BXC_SCHED_LOCKED,
} bxc_sched_sharing;

typedef struct bxc_sched_cache {
	const char *key;
	bxc_sched_sharing sharing;
} bxc_sched_cache;

typedef struct bxc_sched_task {
	uint64_t id;
	uint64_t build;
	const char *tenant;	       /* NULL: "" */
	bxc_platform platform;	       /* os "": any worker */
	int64_t cost_ns;	       /* expected duration; <= 0: the default */
	const bxc_sched_layer *layers; /* of all inputs */
	size_t n_layers;
	uint64_t chain_worker; /* the worker whose output it continues; 0: none */
	uint32_t remaining;    /* vertices on the longest path from here to the target, this one included */
	int64_t path_ns;       /* expected time of that path; <= 0: from cost_ns and `remaining` */
	const uint64_t
		*avoid; /* workers it failed on; used again only when no other can serve it */
	size_t n_avoid;
	const bxc_sched_cache *caches;
	size_t n_caches;
} bxc_sched_task;

/* Adds a ready task; everything is copied. BXC_ALREADY_EXISTS for a live id. */
BXC_MUST_CHECK int bxc_sched_task_add(bxc_sched *s, const bxc_sched_task *t, bxc_err **err);
/* A waiting task is forgotten; one that runs frees its slot (the engine stops it). No-op for an
 * unknown id. */
void bxc_sched_task_cancel(bxc_sched *s, uint64_t task);
/* A running task has ended, however. No-op for an unknown id. */
void bxc_sched_task_finished(bxc_sched *s, uint64_t task);
/*
 * `task` (added before, still waiting) runs on `worker` already, as that told when it re-joined; no
 * ASSIGN is given. BXC_NOT_FOUND: unknown task or worker; BXC_FAILED_PRECONDITION: it runs
 * elsewhere.
 */
BXC_MUST_CHECK int bxc_sched_task_adopt(
	bxc_sched *s, uint64_t task, uint64_t worker, bxc_err **err);

/* ---- actions ---- */

typedef enum bxc_sched_kind {
	BXC_SCHED_NONE = 0,
	BXC_SCHED_ASSIGN,  /* start `task` on `worker` */
	BXC_SCHED_LOST,	   /* `task` was on `worker`, which has gone; the task is forgotten */
	BXC_SCHED_DRAINED, /* `worker` is drained and has no task */
} bxc_sched_kind;

typedef struct bxc_sched_action {
	bxc_sched_kind kind;
	uint64_t task;
	uint64_t worker;
	bool emulated;		/* ASSIGN: the worker emulates the platform */
	uint64_t missing_bytes; /* ASSIGN: of the inputs, to be brought there */
} bxc_sched_action;

/* The next action; false when there is none for now. Placement happens here. */
bool bxc_sched_next(bxc_sched *s, bxc_sched_action *ret);

/* ---- looks ---- */

typedef enum bxc_sched_wait {
	BXC_SCHED_WAIT_NONE = 0,  /* unknown, or runs */
	BXC_SCHED_WAIT_NO_WORKER, /* none is connected */
	BXC_SCHED_WAIT_PLATFORM,  /* none that is connected serves the platform */
	BXC_SCHED_WAIT_DRAINING,  /* those that serve it are being drained */
	BXC_SCHED_WAIT_SLOTS,	  /* those that serve it are busy */
	BXC_SCHED_WAIT_INPUTS,	  /* waits for the busy worker that has its inputs */
	BXC_SCHED_WAIT_CACHE,	  /* a cache mount is in use, or its home is busy */
	BXC_SCHED_WAIT_BUILD,	  /* its build runs as many as it may */
	BXC_SCHED_WAIT_TENANT,	  /* its tenant runs as many as it may */
} bxc_sched_wait;

bxc_sched_wait bxc_sched_waiting_reason(const bxc_sched *s, uint64_t task);
/*
 * True when `task` waits and no connected worker can serve it, now or later. `ret_platforms` (may
 * be NULL; set when true) is the comma-separated list of what the workers do serve, "" for none;
 * owned.
 */
bool bxc_sched_unservable(const bxc_sched *s, uint64_t task, char **ret_platforms);
uint64_t bxc_sched_worker_of(const bxc_sched *s, uint64_t task); /* 0: not running */
size_t bxc_sched_n_running(const bxc_sched *s, uint64_t worker);
size_t bxc_sched_n_waiting(const bxc_sched *s);
