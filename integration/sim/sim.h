/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated cluster around the solver and the scheduler: random definitions, workers that die,
 * runs that fail, builds that are cancelled, all drawn from one seed. What a step yields is
 * computed by a small model of trees (model.c), so that a wrong cache hit shows as a wrong result.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/solver/solver.h"

/* ---- random numbers: the same for a seed everywhere ---- */
typedef struct sim_rng {
	uint64_t x;
} sim_rng;
uint64_t sim_rand(sim_rng *r, uint64_t n); /* 0..n-1 */
bool sim_chance(sim_rng *r, unsigned percent);

/* ---- the model: a tree is four files of few possible contents, so that equal ones are common ----
 */
#define SIM_FILES 4
typedef struct sim_tree {
	uint8_t file[SIM_FILES];
} sim_tree;

bxc_def *sim_def_random(sim_rng *r, uint64_t session, unsigned max_vertices, bool arm, bool ignore);
sim_tree sim_tree_of(
	const bxc_def_vertex *v, const sim_tree *inputs); /* what an op makes of its inputs */
sim_tree sim_tree_expected(const bxc_def *d, uint32_t vertex);
bxc_digest sim_tree_digest(const sim_tree *t, const char *path); /* of "/": all; "/2": one file */
bool sim_tree_eq(const sim_tree *a, const sim_tree *b);

/* ---- a run of the simulator ---- */
typedef enum sim_trouble {   /* bits */
	SIM_CANCEL = 1 << 0, /* clients cancel */
	SIM_FAIL = 1 << 1,   /* steps and requests fail */
	SIM_DIE = 1 << 2,    /* workers die */
	SIM_FREEZE = 1 << 3, /* workers are given up and come back */
	SIM_CRASH = 1 << 4,  /* the engine dies and starts again */
	SIM_DOUBLE = 1 << 5, /* messages come twice */
	SIM_EVICT = 1 << 6,  /* results that nobody needs are removed */
	SIM_CURSE = 1 << 7,  /* results of one step vanish again and again */
	SIM_CUT = 1 << 8,    /* a worker can't be reached for a while; messages may be lost */
	SIM_SLOW = 1 << 9,   /* the engine's disk writes nothing for a while */
	SIM_ALL_TROUBLE = (1 << 10) - 1,
} sim_trouble;

typedef struct sim_stats {
	unsigned builds, ok, failed, cancelled, runs, hits, kills, losses;
	unsigned freezes, crashes, refused, adopted, evicted, cuts, stalls, unwritten;
	unsigned events; /* until the end, or the violation */
	uint64_t trace;	 /* hash over all actions: equal for equal seeds */
} sim_stats;

/* The last things that happened, as text. */
#define SIM_LOG_LINES 40
typedef struct sim_log {
	char *lines[SIM_LOG_LINES];
	size_t n; /* so far */
} sim_log;
void sim_log_print(const sim_log *l);
void sim_log_done(sim_log *l);

/* `off`: kinds of trouble that do not happen; `log` may be NULL. NULL, or what was violated
 * (owned). */
char *sim_run(uint64_t seed, unsigned steps, unsigned off, sim_log *log, sim_stats *ret);
