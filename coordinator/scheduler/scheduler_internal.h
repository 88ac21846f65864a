/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the scheduler: the books (scheduler.c) and the decision (place.c).
 *
 * Placement is done in passes, when an action is asked for and something has changed. A pass goes
 * through the waiting tasks in the order of fairness and either places a task or passes over it.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "coordinator/scheduler/scheduler.h"

struct sched_task;

struct sched_worker {
	uint64_t id;
	BXC_ARR(bxc_platform) native;
	BXC_ARR(bxc_platform) emulated;
	uint32_t slots;
	uint64_t bandwidth;
	bool is_draining;
	bool is_drained_told;
	bxc_map *layers; /* a set of keys */
	bxc_map *coming; /* key -> size_t tasks placed here that bring it, owned */
	BXC_ARR(struct sched_task *) running;
	int64_t load_ns;    /* expected work of `running` */
	int64_t waiting_ns; /* of tasks that wait for this worker, found in this pass */
};

/* A cache mount that has a home or users. */
struct sched_cache {
	char *key;
	struct sched_worker *home; /* NULL: none */
	size_t n_names;		   /* live tasks that name it */
	size_t n_users[3];	   /* running tasks, by sharing */
	bool is_wanted_alone;	   /* a task that needs it locked was passed over in this pass */
};

struct sched_use {
	struct sched_cache *cache;
	bxc_sched_sharing sharing;
};

struct sched_layer {
	char *key;
	uint64_t size;
};

struct sched_build {
	uint64_t id;
	struct sched_tenant *tenant;
	size_t n_running;
	uint64_t served;		    /* sequence number of the last placement, 0: never */
	BXC_ARR(struct sched_task *) ready; /* longest remaining path first, then by age */
	size_t cursor;			    /* those before it were passed over in this pass */
};

struct sched_tenant {
	char *name;
	size_t n_running;
	uint64_t served;
	BXC_ARR(struct sched_build *) builds;
};

struct sched_task {
	uint64_t id;
	uint64_t seq;
	struct sched_build *build;
	bxc_platform platform;
	int64_t cost_ns;
	BXC_ARR(struct sched_layer) layers;
	uint64_t chain_worker;
	uint32_t remaining;
	BXC_ARR(uint64_t) avoid;
	BXC_ARR(struct sched_use) caches; /* each once; they stay as long as a task names them */
	struct sched_worker *worker;	  /* NULL: waits */
	bool waits_for_inputs;		  /* a busy worker was found better than a free one */
	bool waits_for_cache;
};

struct bxc_sched {
	uint64_t last_seq;
	bool is_dirty;				/* a pass may place something */
	BXC_ARR(struct sched_worker *) workers; /* in the order of joining */
	BXC_ARR(struct sched_tenant *) tenants;
	bxc_map *tasks;	 /* id -> task (owned) */
	bxc_map *caches; /* key -> cache (owned) */
	size_t n_waiting;
	BXC_ARR(bxc_sched_action) actions;
	size_t actions_head;
};

typedef enum sched_fit {
	SCHED_FIT_NONE = 0,
	SCHED_FIT_EMULATED,
	SCHED_FIT_NATIVE,
} sched_fit;

/* ---- place.c ---- */
sched_fit bxc_sched__fit(const struct sched_worker *w, const struct sched_task *t);
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
void bxc_sched__caches_give(struct sched_task *t);
void bxc_sched__caches_leave(bxc_sched *s, const struct sched_worker *w);
/*
 * May `t` start now, as far as its caches go? `ret_home`: where it has to run then, NULL: anywhere.
 * `best`: the best class of any worker.
 */
bool bxc_sched__caches_allow(
	const bxc_sched *s, struct sched_task *t, int best, struct sched_worker **ret_home);

/* ---- scheduler.c ---- */
void bxc_sched__start(bxc_sched *s, struct sched_task *t, struct sched_worker *w);
void bxc_sched__push(bxc_sched *s, bxc_sched_action a);
