/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the solver.
 *
 * Nothing recurses: work spreads through the list of vertices to step (s->work_head) and through
 * explicit stacks, so depth of a definition costs no stack. Every decision about a vertex is
 * derived anew from facts kept in it (which inputs have records, which keys were looked up for
 * nothing, which checksums are known and of which record), so an event that takes a fact away
 * needs no knowledge of what was going on.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "coordinator/solver/solver.h"

struct solve_vertex;
struct solve_run;

/* An identifier in text, as the maps take it. */
typedef struct solve_name {
	char s[BXC_DIGEST_STR_MAX + 2];
} solve_name;

typedef enum solve_state {
	SOLVE_FAST_WAIT = 0, /* keys of inputs, its own source key or cheap checksums are missing */
	SOLVE_FAST_LOOKUP,   /* the first LOOKUP is out */
	SOLVE_IDLE,	     /* no result, and nobody demands one, or it is about to be stepped */
	SOLVE_INPUTS,	     /* demanded; results of inputs are missing */
	SOLVE_LOOKUP,	     /* demanded; LOOKUP of the final dk or of ck is out */
	SOLVE_CHECKSUM,	     /* demanded; CHECKSUMs are out */
	SOLVE_RUN,	     /* member of a run */
	SOLVE_HAS_RESULT,
} solve_state;

struct solve_in {
	struct solve_vertex *v;
	uint32_t output;
	size_t user_pos;	  /* of this one in v->users */
	bool is_content;	  /* only selected content counts */
	bool is_cheap;		  /* is_content, of a local source */
	bxc_digest checksum;	  /* when set: of the record below */
	uint64_t checksum_record; /* 0: cheap */
	uint64_t ticket;	  /* CHECKSUM that is out, or 0 */
	uint64_t asked_record;	  /* which it was given */
	uint32_t attempts;	  /* failed */
};

struct solve_user {
	struct solve_vertex *v;
	uint32_t input;
};

struct solve_build;
struct solve_sub_ref {
	struct solve_build *b;
	uint32_t idx;
};

struct solve_vertex {
	uint64_t id;
	solve_name identity;
	const bxc_def_vertex
		*def;	    /* of the build in subs.v[0] or another one that has the vertex */
	uint64_t def_build; /* that build */
	bxc_digest op_digest;
	bool is_source;
	bool ignore;
	bool has_deep; /* some input is content-addressed and not cheap */
	struct solve_in *in;
	size_t n_in;
	BXC_ARR(struct solve_user) users;
	BXC_ARR(struct solve_sub_ref) subs;
	size_t n_demand; /* subs that demand a result */
	uint32_t remaining;

	solve_state state;
	bool fast_done;
	size_t n_wait;	       /* facts the first key waits for */
	size_t in_scan;	       /* inputs before it have records */
	size_t n_checksums;    /* tickets out */
	uint64_t ticket;       /* SOURCE_KEY or LOOKUP that is out, or 0 */
	bxc_digest lookup_key; /* of the LOOKUP that is out */
	uint32_t key_attempts; /* of SOURCE_KEY, failed */

	bxc_digest dk_first; /* dk of the fast phase; a source's key */
	bool first_is_sound; /* nothing below ignored the cache when dk_first was made */
	bxc_digest dk;	     /* with the final keys of the inputs */
	bxc_digest ck;
	bxc_digest missed_dk; /* looked up for nothing */
	bxc_digest missed_ck;
	bxc_digest canonical; /* provisional until there is a record */
	bool settled;	      /* canonical may be built upon */

	uint64_t record;
	uint64_t lost_record;
	uint32_t n_lost;
	uint32_t attempts; /* runs that failed by infrastructure */
	bool executed;	   /* the record is of a run, not of a look-up */
	bxc_solve_miss miss;
	uint32_t miss_input;
	solve_name indexed;		  /* its place in s->by_key, "" for none */
	struct solve_vertex *record_next; /* others with the same record */

	struct solve_run *run;
	bool is_queued;
	struct solve_vertex *work_prev, *work_next;
};

typedef BXC_ARR(struct solve_vertex *) solve_members;

struct solve_run {
	uint64_t id;
	uint64_t ticket;
	bxc_digest key;
	bool fresh;	/* ignores the cache */
	bool is_issued; /* the RUN of `ticket` was handed out */
	uint32_t attempt;
	solve_members members; /* [0] leads: its inputs are used */
};

struct solve_sub {
	struct solve_vertex *v; /* NULL: not reachable from a target */
	size_t pos;		/* in v->subs */
	bool is_target;
	bool demanded;
	bool visited; /* what is below has been told of */
	bool told;    /* CACHED or DONE was told */
	bool started; /* STARTED was told, its end was not */
	bool missed;  /* MISSED was told */
};

struct solve_build {
	uint64_t id;
	const bxc_def *def;
	struct solve_sub *subs; /* one per vertex of def */
	size_t n_subs;
	bxc_solve_target *targets;
	size_t n_targets;
	bool only_looks; /* nothing runs for it */
	bool is_done;	 /* BUILD_DONE is queued or was given */
	uint64_t n_done; /* times that was so: an older BUILD_DONE in the queue is void */
};

struct solve_ticket {
	bxc_solve_kind kind;
	struct solve_vertex *v; /* all but RUN */
	struct solve_run *run;	/* RUN */
	uint32_t input;		/* CHECKSUM */
};

struct solve_item {
	bxc_solve_kind kind;
	uint64_t ticket, vertex, run, build;
	uint64_t record; /* BUILD_DONE: n_done of the build */
	uint32_t def_index;
	bxc_solve_event event;
	bxc_digest keys[3];
	size_t n_keys;
	bxc_digest canonical;
	bool is_new;
	bxc_err *err;
};

struct bxc_solve {
	uint64_t last_id;     /* vertices, runs and tickets share one sequence */
	bxc_map *by_identity; /* identity -> vertex (owned by it) */
	bxc_map *by_id;	      /* id -> vertex */
	bxc_map *by_key;      /* key -> a vertex with that result */
	bxc_map *by_record;   /* record -> first vertex with it */
	bxc_map *builds;      /* id -> build */
	bxc_map *tickets;     /* ticket -> solve_ticket (owned) */
	bxc_map *runs;	      /* key, '!' behind it when fresh -> run */
	struct solve_vertex *work_head, *work_tail;
	BXC_ARR(struct solve_item) items;
	size_t items_head;
	bxc_hasher *hasher;
	char *cluster;
	/* what the action given last points to */
	bxc_solve_contents cur_contents;
	BXC_ARR(bxc_solve_input) cur_inputs;
	BXC_ARR(bxc_solve_result) cur_results;
	bxc_digest cur_keys[3];
	bxc_err *cur_err;
};

/* ---- solver.c ---- */
uint64_t bxc_solve__new_id(bxc_solve *s);
solve_name bxc_solve__name_u64(uint64_t v);
solve_name bxc_solve__name_key(const bxc_digest *d, bool fresh);
void bxc_solve__enqueue(bxc_solve *s, struct solve_vertex *v);
void bxc_solve__dequeue(bxc_solve *s, struct solve_vertex *v);
void bxc_solve__pump(bxc_solve *s); /* steps vertices until none is queued */
uint64_t bxc_solve__ticket_new(bxc_solve *s, bxc_solve_kind kind, struct solve_vertex *v,
	struct solve_run *run, uint32_t input);
void bxc_solve__ticket_drop(bxc_solve *s, uint64_t *ticket);
struct solve_ticket *bxc_solve__ticket(const bxc_solve *s, uint64_t ticket);
struct solve_build *bxc_solve__build(const bxc_solve *s, uint64_t id);

/* ---- keys.c ---- */
void bxc_solve__identity(bxc_solve *s, const bxc_def_vertex *v, bool ignored_below,
	const solve_name *const *inputs, solve_name *ret);
bxc_digest bxc_solve__dk(
	bxc_solve *s, const struct solve_vertex *v); /* of the inputs' canonical keys as they are */
bxc_digest bxc_solve__ck(bxc_solve *s, const struct solve_vertex *v);
bxc_digest bxc_solve__fresh(bxc_solve *s, const bxc_digest *key, uint64_t record);

/* ---- action.c ---- */
struct solve_item *bxc_solve__push(
	bxc_solve *s, bxc_solve_kind kind); /* valid until the next push */
void bxc_solve__push_event(bxc_solve *s, struct solve_build *b, uint32_t idx, bxc_solve_event ev,
	uint64_t run, const bxc_err *err);
void bxc_solve__push_save(bxc_solve *s, const struct solve_vertex *v, const bxc_digest *known,
	size_t n_known, bool is_new);
/* The keys of a vertex that are sound and not among the known ones: how many. */
size_t bxc_solve__keys_of(const struct solve_vertex *v, const bxc_digest *known, size_t n_known,
	bxc_digest ret[3]);

/* ---- vertex.c ---- */
bool bxc_solve__record_lost(bxc_solve *s, uint64_t record); /* false: no live vertex has it */
/* The engine says a record is lost that `v` does not use: counted, so that this ends. */
void bxc_solve__blame(bxc_solve *s, struct solve_vertex *v);
void bxc_solve__hit(bxc_solve *s, struct solve_vertex *v, uint64_t record,
	const bxc_digest *canonical, const bxc_digest *known);
void bxc_solve__step(bxc_solve *s, struct solve_vertex *v);
void bxc_solve__set_record(bxc_solve *s, struct solve_vertex *v, uint64_t record,
	const bxc_digest *canonical, bool executed);
void bxc_solve__unset_record(bxc_solve *s, struct solve_vertex *v);
/* Asks for what the first key needs and is not asked for yet; counts what it waits for. */
void bxc_solve__vertex_start(bxc_solve *s, struct solve_vertex *v);
void bxc_solve__vertex_free(bxc_solve *s, struct solve_vertex *v);

/* ---- run.c ---- */
/* Nothing may run for the build of `ref`, so this one does not: told, once. */
bool bxc_solve__missed(bxc_solve *s, const struct solve_sub_ref *ref);
/* Does a build demand it that runs what it needs? Those that do not are told. */
bool bxc_solve__is_to_run(bxc_solve *s, struct solve_vertex *v);
void bxc_solve__run_want(bxc_solve *s, struct solve_vertex *v);
void bxc_solve__run_leave(bxc_solve *s, struct solve_vertex *v);
void bxc_solve__run_void(bxc_solve *s, struct solve_run *r); /* members start over */
void bxc_solve__run_free(struct solve_run *r);

/* ---- build.c ---- */
void bxc_solve__demand(bxc_solve *s, struct solve_build *b, uint32_t idx);
void bxc_solve__demand_inputs(
	bxc_solve *s, struct solve_vertex *v); /* for every build that demands v */
void bxc_solve__announce(bxc_solve *s, struct solve_build *b, uint32_t idx);
void bxc_solve__check_done(bxc_solve *s, struct solve_build *b);
/* Fails the builds that demand one of `vs` (or that have it, with `all`). They are in no run; may
 * free them. */
void bxc_solve__fail(bxc_solve *s, struct solve_vertex *const *vs, size_t n, bool all, uint64_t run,
	const bxc_err *err);
void bxc_solve__build_free(struct solve_build *b);
