/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the simulator: the engine's books (engine.c), the workers and what is on the way between
 * them and the engine (farm.c), what happens (sim.c).
 *
 * The engine's view and the truth are two things: a worker that was given up may go on, a message
 * may come twice or late, and the engine itself may die, which leaves what it had on disk.
 */
#pragma once

#include "coordinator/scheduler/lease.h"
#include "integration/sim/sim.h"

#define SIM_WORKERS 4
/* What the solver promises is that 8 results of one step may vanish while somebody waits for it;
 * those that vanish when nobody does come on top. */
#define SIM_MAX_LOST 16u

typedef enum sim_health {
	SIM_DEAD = 0,
	SIM_UP,
	SIM_FROZEN, /* given up by the engine; its steps go on, and it will come back */
} sim_health;

struct link {
	uint64_t record;
	bxc_digest canonical;
	bool is_durable;
};

struct record {
	sim_tree tree;
	uint32_t holders; /* as the engine knows: bit per worker; 0: gone */
	uint32_t copies;  /* as it is */
	uint64_t vertex;  /* of the solver, whose result it is */
	uint64_t solver;  /* ... of the solver with this number */
	bool is_pending;  /* on its way to the disk: the solver has not heard of it */
};

struct request {
	bxc_solve_kind kind;
	uint64_t ticket;
	bxc_digest key; /* LOOKUP; SOURCE_KEY: the answer */
	uint64_t record;
};

struct task { /* the engine's */
	uint64_t ticket;
	uint64_t vertex;
	uint64_t name;	 /* the same for all attempts of a run */
	bxc_lease lease; /* worker 0: with the scheduler */
	bxc_digest key;
	bool fresh;
	sim_tree result;
	BXC_ARR(uint64_t) inputs;
	uint32_t attempt;
	uint64_t build;
	bool is_adopted;
	BXC_ARR(bxc_sched_cache) caches;
	char arch[sizeof(((bxc_platform *)0)->arch)];
};

struct run { /* a worker's */
	uint64_t name;
	bxc_lease lease;
	bxc_digest key;
	bool fresh;
	sim_tree result;
	bool is_ended;	   /* kept until the engine says that it may be forgotten */
	bool is_bad;	   /* ended so */
	bool is_infra;	   /* is_bad: it was not the step's fault */
	bool is_adoptable; /* an engine that died had it on its list; the next may want it */
};

typedef enum sim_mail_kind {
	MAIL_RUN, /* to a worker: in order */
	MAIL_CANCEL,
	MAIL_FORGET,
	MAIL_DONE, /* from a worker: in any order, perhaps twice */
	MAIL_FAILED,
} sim_mail_kind;

struct mail {
	sim_mail_kind kind;
	bxc_lease lease;
	uint64_t name;
	struct run run; /* RUN; DONE: its result */
	bool infra;	/* FAILED */
};

/* What the engine has given its disk, in order. Until it is there a crash takes it away. */
typedef enum sim_write_kind {
	WRITE_ATTEMPT, /* then its worker gets the order */
	WRITE_RESULT,  /* then the solver hears of it, and the worker may forget it */
	WRITE_LINK,
} sim_write_kind;

struct write {
	sim_write_kind kind;
	uint64_t ticket;
	bool is_cancelled; /* RESULT: nobody waits for it any more */
	bxc_lease lease;
	uint64_t name;
	bxc_digest key; /* of the run; LINK: of the link */
	bool fresh;
	uint64_t record;
	struct run run; /* ATTEMPT */
};

struct build {
	uint64_t id;
	bxc_def *def;
	uint32_t target;
	bool is_cancelled;
	bool is_done;
	uint64_t result; /* with is_done */
	bool may_fail;	 /* something in it failed */
};

struct losses { /* of a vertex of the solver */
	uint64_t vertex;
	unsigned n;
};

struct sim {
	sim_rng rng;
	unsigned off; /* sim_trouble: what does not happen */
	/* the engine */
	bxc_solve *solve;
	bxc_sched *sched;
	uint64_t n_solvers; /* so far */
	BXC_ARR(struct request) requests;
	BXC_ARR(struct task) tasks;
	BXC_ARR(struct losses) losses;
	BXC_ARR(struct write) disk;
	unsigned n_stalled; /* events until the disk goes on */
	bool is_crashing;   /* it dies before the next action */
	/* what it has on disk */
	bxc_map *cache;
	BXC_ARR(struct record) records; /* id - 1 */
	BXC_ARR(struct build) builds;
	uint64_t last_build;
	/* the farm */
	sim_health health[SIM_WORKERS];
	bool is_cut[SIM_WORKERS]; /* nothing gets through, though nobody knows yet */
	BXC_ARR(struct run) runs;
	BXC_ARR(struct mail) mail;
	/* the weather */
	bool is_calm;	   /* no more trouble: everything is to end */
	bxc_digest cursed; /* results of runs with this key vanish */
	bool has_curse;
	sim_stats stats;
	sim_log *log;
	char *violation;
};

void violate(struct sim *s, const char *what, uint64_t id);
void note(struct sim *s, const char *what, uint64_t a, uint64_t b);
bool may(struct sim *s, sim_trouble t, unsigned percent);
void note_failure(struct sim *s);

/* ---- engine.c ---- */
void engine_begin(struct sim *s);
void engine_end(struct sim *s);
/* It dies and starts again with what it has on disk. */
void engine_crash(struct sim *s);
void take_actions(struct sim *s);
struct record *record_of(struct sim *s, uint64_t id);
bool is_there(struct sim *s, uint64_t id);
void record_gone(struct sim *s, uint64_t record);
/* No copy of it is needed, as far as the solver says. */
void engine_evicts(struct sim *s);
struct task *task_of(struct sim *s, uint64_t ticket);
struct task *task_named(struct sim *s, uint64_t name);
void task_drop(struct sim *s, struct task *t);
void build_begin(struct sim *s, struct build *b);
void build_drop(struct sim *s, struct build *b);
void engine_hears(struct sim *s, const struct mail *m);
void engine_writes(struct sim *s); /* the next thing gets to the disk */
bool is_being_written(const struct sim *s, sim_write_kind kind, bxc_lease lease, uint64_t name);
/* The worker told what it has, and this is not among it. */
void task_lost_on_the_way(struct sim *s, uint64_t ticket);
/* Of the scheduler, when it rests. */
void check_places(struct sim *s);

/* ---- farm.c ---- */
void worker_join(struct sim *s, unsigned w);
/* The engine gives it up; it may be dead indeed. */
void worker_leave(struct sim *s, unsigned w, sim_health now);
/* What it holds, as the engine is told when it comes (back). */
void worker_hello(struct sim *s, unsigned w);
void post(struct sim *s, sim_mail_kind kind, bxc_lease lease, uint64_t name, const struct run *run);
void worker_cut(struct sim *s, unsigned w);
/* It is reached again: over the same connection, or over a new one, which has lost all messages. */
void worker_heal(struct sim *s, unsigned w, bool anew);
void deliver(struct sim *s, size_t i);
/* How the run ended; again, if need be. */
void tell_end(struct sim *s, const struct run *r);
/* The first message on its way to the worker of the i-th one: those come in order. */
size_t mail_first(const struct sim *s, size_t i);
bool is_deliverable(const struct sim *s, const struct mail *m);
void run_end(struct sim *s, size_t i, bool good, bool infra);
/* One that was begun for an earlier engine and is what a run with this key would be. */
struct run *run_to_adopt(struct sim *s, const bxc_digest *key);
void runs_unwanted(struct sim *s); /* nobody will adopt them any more */
void check_farm(struct sim *s);
