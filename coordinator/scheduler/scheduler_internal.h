/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the scheduler: the books of tasks (scheduler.c) and workers (worker.c), cache mounts
 * (cache.c), and the decision (place.c).
 *
 * A waiting task is either ready, in the queue of its build and platform, or parked at a spot:
 * with the busy worker it waits for, or with those that wait for a cache mount. It is looked at
 * again when something happened at that spot. So an event costs what it changes, not what waits.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/heap.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "coordinator/scheduler/scheduler.h"

struct sched_task;
struct sched_worker;

typedef enum sched_fit {
	SCHED_FIT_NONE = 0,
	SCHED_FIT_EMULATED,
	SCHED_FIT_NATIVE,
} sched_fit;

/* Tasks that wait for the same thing. */
struct sched_spot {
	BXC_ARR(struct sched_task *) tasks;
	bool is_touched; /* in bxc_sched.touched: its tasks are looked at in the next pass */
};

/* ---- workers ---- */

/* Workers that serve the same platforms. */
struct sched_group {
	size_t index;
	BXC_ARR(bxc_platform) native;
	BXC_ARR(bxc_platform) emulated;
	size_t n_open;	    /* workers that are not drained */
	bxc_heap free_ones; /* open workers with a free slot, the least loaded first */
};

struct sched_worker {
	uint64_t id;
	uint64_t seq; /* order of joining */
	struct sched_group *group;
	uint32_t slots;
	uint64_t bandwidth;
	bool is_draining;
	bool is_drained_told;
	BXC_ARR(struct sched_task *) running;
	int64_t load_ns;	/* expected work of `running` */
	int64_t waiting_ns;	/* expected work of those that wait for it */
	struct sched_spot spot; /* those */
	size_t free_at;		/* in group->free_ones */
	/* While a task is placed: is it among the candidates, and with how much of the inputs? */
	uint64_t mark;
	uint64_t have_bytes;
};

/* ---- layers ---- */

struct sched_holder {
	struct sched_worker *worker;
	size_t coming; /* tasks placed there that bring it */
	bool is_here;
};

struct sched_place {
	char *key;
	size_t n_tasks;			      /* that name it */
	BXC_ARR(struct sched_holder) holders; /* by worker->seq */
};

struct sched_layer {
	struct sched_place *place;
	uint64_t size;
};

/* A cache mount that has a home or users. */
struct sched_cache {
	char *key;
	struct sched_worker *home; /* NULL: none */
	size_t n_names;		   /* live tasks that name it */
	size_t n_users[3];	   /* running tasks, by sharing */
	bool is_wanted_alone;	   /* a task that needs it locked waits for it */
};

struct sched_use {
	struct sched_cache *cache;
	bxc_sched_sharing sharing;
};

/* ---- tasks ---- */

/* A platform that tasks ask for. */
struct sched_kind {
	bxc_platform platform;
	size_t n_queues;	 /* of builds that have such tasks */
	BXC_ARR(sched_fit) fits; /* by index of the group */
};

struct sched_queue {
	struct sched_kind *kind;
	bxc_heap ready; /* longest remaining path first, then by age */
};

struct sched_build {
	uint64_t id;
	struct sched_tenant *tenant;
	size_t n_running;
	size_t n_ready;
	size_t n_parked;
	uint64_t served; /* sequence number of the last placement, 0: never */
	size_t turn_at;	 /* in tenant->turns */
	BXC_ARR(struct sched_queue *) queues;
};

struct sched_tenant {
	char *name;
	uint32_t weight;
	uint32_t max_running; /* 0: no bound */
	uint32_t max_per_build;
	bool is_set; /* stays without builds */
	size_t n_running;
	size_t n_ready;
	uint64_t served;
	BXC_ARR(struct sched_build *) builds;
	bxc_heap turns; /* builds with ready tasks, the next one first */
};

struct sched_task {
	uint64_t id;
	uint64_t seq;
	struct sched_build *build;
	struct sched_queue *queue;
	int64_t cost_ns;
	int64_t path_ns;
	BXC_ARR(struct sched_layer) layers;
	uint64_t chain_worker;
	BXC_ARR(uint64_t) avoid;
	BXC_ARR(struct sched_use) caches; /* each once; they stay as long as a task names them */
	struct sched_worker *worker;	  /* it runs there; NULL: waits */
	size_t ready_at;		  /* in queue->ready */
	struct sched_spot *spot;	  /* parked there; NULL: not */
	size_t spot_at;
	struct sched_worker *waits_for; /* its load is counted there; NULL: nowhere */
	bool waits_for_inputs;		/* a busy worker was found better than a free one */
	bool waits_for_cache;
	uint64_t woken_in; /* the pass that looked at it again because a worker was idle */
};

struct bxc_sched {
	uint64_t last_seq;
	uint64_t last_mark;
	uint64_t n_passes;
	bool is_dirty;				/* a pass may place something */
	BXC_ARR(struct sched_worker *) workers; /* in the order of joining */
	bxc_map *workers_by_id;			/* id -> worker */
	BXC_ARR(struct sched_group *) groups;
	BXC_ARR(struct sched_kind *) kinds;
	BXC_ARR(struct sched_tenant *) tenants;
	bxc_map *tasks;	 /* id -> task (owned) */
	bxc_map *places; /* layer -> place (owned) */
	bxc_map *caches; /* key -> cache (owned) */
	size_t n_waiting;
	size_t n_for_inputs; /* parked tasks that wait for their inputs */
	struct sched_spot at_caches;
	struct sched_spot at_odds; /* what fits no other spot: looked at whenever a slot is free */
	BXC_ARR(struct sched_spot *) touched;
	BXC_ARR(struct sched_worker *) candidates;
	BXC_ARR(bxc_sched_action) actions;
	size_t actions_head;
};

typedef struct sched_id_name {
	char s[24];
} sched_id_name;
sched_id_name bxc_sched__name_of(uint64_t id); /* key of the maps */

/* ---- scheduler.c ---- */
struct sched_task *bxc_sched__find_task(const bxc_sched *s, uint64_t id);
void bxc_sched__push(bxc_sched *s, bxc_sched_action a);
void bxc_sched__start(bxc_sched *s, struct sched_task *t, struct sched_worker *w);
void bxc_sched__forget(bxc_sched *s, struct sched_task *t);
/* A ready task waits at `spot` from now on; `busy`: for that worker, or NULL. */
void bxc_sched__park(bxc_sched *s, struct sched_task *t, struct sched_spot *spot, struct sched_worker *busy);
void bxc_sched__unpark(bxc_sched *s, struct sched_task *t);
/* Something happened at the spot. */
void bxc_sched__touch(bxc_sched *s, struct sched_spot *spot);
/* Which build of a tenant is next: less running, then the one served longest ago. */
bool bxc_sched__build_before(const void *a, const void *b);
bool bxc_sched__goes_first(const struct sched_task *a, const struct sched_task *b);

/* ---- worker.c ---- */
struct sched_worker *bxc_sched__find_worker(const bxc_sched *s, uint64_t id);
void bxc_sched__workers_free(bxc_sched *s);
/* Its load, slots or state have changed: its place among the free ones follows. */
void bxc_sched__worker_changed(struct sched_worker *w);
void bxc_sched__check_drained(bxc_sched *s, struct sched_worker *w);
/* For one more queue, which gives it back with ..._left. */
struct sched_kind *bxc_sched__kind(bxc_sched *s, const bxc_platform *p);
void bxc_sched__kind_left(bxc_sched *s, struct sched_kind *k);
struct sched_place *bxc_sched__place(bxc_sched *s, const char *layer);
void bxc_sched__place_free(void *p);
void bxc_sched__place_left(bxc_sched *s, struct sched_place *p); /* by a task or holder */
/* The holder, or NULL; borrowed until the place changes. */
struct sched_holder *bxc_sched__holder(const struct sched_place *p, const struct sched_worker *w);
struct sched_holder *bxc_sched__holder_add(struct sched_place *p, struct sched_worker *w);
void bxc_sched__holder_check(struct sched_place *p, struct sched_holder *h);

static inline bool bxc_sched__build_is_full(const struct sched_build *b)
{
	return b->tenant->max_per_build && b->n_running >= b->tenant->max_per_build;
}

static inline bool bxc_sched__tenant_is_full(const struct sched_tenant *t)
{
	return t->max_running && t->n_running >= t->max_running;
}

static inline bool bxc_sched__is_free(const struct sched_worker *w)
{
	return w->running.n < w->slots;
}

static inline sched_fit bxc_sched__fit(const struct sched_worker *w, const struct sched_task *t)
{
	return t->queue->kind->fits.v[w->group->index];
}

/* ---- place.c ---- */
/* Workers of the best class there is are compared with each other only. 0: can't serve. */
int bxc_sched__class(const struct sched_worker *w, const struct sched_task *t);
void bxc_sched__pass(bxc_sched *s);

/* ---- cache.c ---- */
void bxc_sched__cache_free(void *p);
void bxc_sched__caches_name(
	bxc_sched *s, struct sched_task *t, const bxc_sched_cache *in, size_t n);
void bxc_sched__caches_unname(bxc_sched *s, struct sched_task *t);
/* `t` starts or ends on its worker. */
void bxc_sched__caches_take(struct sched_task *t);
void bxc_sched__caches_give(bxc_sched *s, struct sched_task *t);
void bxc_sched__caches_leave(bxc_sched *s, const struct sched_worker *w);
/* Those that wait for caches are looked at again: who wants one alone says so again. */
void bxc_sched__caches_forget_wishes(bxc_sched *s);
/*
 * May `t` start now, as far as its caches go? `ret_home`: where it has to run then, NULL: anywhere.
 * `best`: the best class of any worker.
 */
bool bxc_sched__caches_allow(
	const bxc_sched *s, struct sched_task *t, int best, struct sched_worker **ret_home);
