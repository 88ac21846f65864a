/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The solver: which vertices of all live builds must run, in what order, and what is cached.
 * Module prefix: bxc_solve.
 *
 * A pure state machine: no clock, no I/O, no threads, no randomness. Events enter as calls,
 * actions leave through bxc_solve_next() in the order in which they arose; the same calls always
 * give the same actions. Nothing is called back; one thread (the engine's loop) owns an instance.
 *
 *     bxc_solve_add_build(s, build, def, targets, n, &err);
 *     while (bxc_solve_next(s, &a))
 *             start(&a);               each request is answered later, once, by its ticket
 *
 * Requests (SOURCE_KEY, LOOKUP, CHECKSUM, RUN) carry a ticket. They are answered with that ticket,
 * once, by bxc_solve_source_key(), _lookup_hit()/_lookup_miss(), _checksum(), _run_done(),
 * _fail() or _input_lost(). An answer whose ticket is no longer wanted (the build left, the run was
 * cancelled) is ignored and the call returns false: the engine keeps no books about that.
 * A LOOKUP can't fail: an unreadable cache is a miss.
 *
 * Vertices. Equal vertices of concurrent builds share one state: same digest, same ignore-cache
 * marks in it and below it. Every vertex has a canonical key, which is what its users' keys are
 * made of:
 *   source            the key which SOURCE_KEY brought;
 *   definition key    dk = H(op digest, for each input: canonical key, output);
 *   content key       ck = H(op digest, for each input: digest of the selected content where only
 *                     that decides (bxc_solve_content_inputs), else canonical key, output).
 * Selections of a local source are known before anything runs (CHECKSUM with `cheap`), so for them
 * dk already has the content in place of the canonical key: a change of the context outside of the
 * selection changes no key.
 *
 * Phases. Fast: keys are computed from the sources up and every vertex is looked up by dk. Slow:
 * from the targets down, a vertex with a hit is done, as a lazy result, and nothing below it runs;
 * else its inputs yield results first, dk is computed anew (and looked up if it differs), then ck
 * is computed and looked up; only then it runs. A success is saved under every key of the vertex.
 *
 * Ignore-cache (bxc_def_meta.ignore_cache, per build): the vertex is not looked up and follows no
 * plain run, but its result is saved. A result made that way has a canonical key of its own, so
 * that the users of the vertex see the new result, not what an older one led to; for the same
 * reason nothing above such a vertex is looked up before it has run. Sources keep their key.
 *
 * Known keys. Of a key that can't be answered with a result, its canonical key may still be known (a
 * cache from elsewhere that holds the layers of a final stage only): the users of the vertex then
 * find what they led to where the key came from.
 *
 * One execution. A vertex about to run that finds a run (or a result) with the same key in another
 * vertex takes that one's outcome. A run is cancelled when the last vertex that wants it, wanted by
 * the last build that wants it, has gone. A failure by itself fails the builds that need it; a
 * failure of the infrastructure is retried, 3 attempts in all.
 *
 * Lost results. A record that has vanished puts its vertices back to work, inputs included, when a
 * build still needs them; at most BXC_SOLVE_MAX_LOST times per vertex, then BXC_DATA_LOSS.
 */
#pragma once

#include "common/base/err.h"
#include "common/codec/digest.h"
#include "common/definition/definition.h"

#define BXC_SOLVE_MAX_ATTEMPTS 3 /* of a request that fails by infrastructure */
#ifndef BXC_SOLVE_MAX_LOST       /* the simulator proves that it would notice */
#define BXC_SOLVE_MAX_LOST     8 /* results of one vertex that may vanish while it is live */
#endif

typedef struct bxc_solve bxc_solve;

bxc_solve *bxc_solve_new(void);
/* Goes into the canonical keys of results made while ignoring the cache, which are named by numbers of
 * records: with a name of the cluster they mean nothing else in another one. Before the first build. */
void bxc_solve_set_cluster(bxc_solve *s, const char *name);
void bxc_solve_free(bxc_solve *s);
BXC_DEFINE_CLEANUP(bxc_solve, bxc_solve_free);

/* ---- actions ---- */

typedef enum bxc_solve_kind {
	BXC_SOLVE_NONE = 0,
	BXC_SOLVE_SOURCE_KEY, /* find the key of source `vertex` */
	BXC_SOLVE_LOOKUP,     /* look up `key` */
	BXC_SOLVE_CHECKSUM,   /* digest what `selectors` choose of input `input_index` */
	BXC_SOLVE_RUN,	      /* run `vertex` on `inputs` */
	BXC_SOLVE_CANCEL_RUN, /* stop the run of `ticket`; no answer is expected */
	BXC_SOLVE_SAVE_KEYS,  /* link every key of `keys` to `record` with `canonical`, replacing
				 older links */
	BXC_SOLVE_EVENT,      /* tell `build` about vertex `def_index` */
	BXC_SOLVE_BUILD_DONE, /* `build` has all its results, or `err` */
} bxc_solve_kind;

typedef enum bxc_solve_event {
	BXC_SOLVE_EVENT_NONE = 0,
	BXC_SOLVE_STARTED,  /* runs (or joined a run); may come again after DONE or CACHED when the
			       result was lost */
	BXC_SOLVE_CACHED,   /* has a recorded result; once per build and vertex, inputs before users
			     */
	BXC_SOLVE_DONE,	    /* the run that STARTED told of succeeded */
	BXC_SOLVE_FAILED,   /* with `err`; also without STARTED, when a key or checksum failed */
	BXC_SOLVE_CANCELED, /* was STARTED, is not wanted by this build any more */
	BXC_SOLVE_MISSED,   /* a build that runs nothing would need it to run; once per build and
			     * vertex
			     */
} bxc_solve_event;

/* Why a vertex was executed. */
typedef enum bxc_solve_miss {
	BXC_SOLVE_MISS_NONE = 0,   /* it was not */
	BXC_SOLVE_MISS_NEVER_SEEN, /* inputs are as recorded, this op on them is not */
	BXC_SOLVE_MISS_INPUT, /* input `miss_input` was itself executed and yielded something new */
	BXC_SOLVE_MISS_IGNORE_CACHE, /* asked for */
	BXC_SOLVE_MISS_LOST,	     /* its recorded result had vanished */
} bxc_solve_miss;

typedef struct bxc_solve_selector {
	const char *path;     /* absolute and clean, or a pattern */
	bool wildcard;	      /* `path` may hold patterns */
	bool follow_symlink;  /* of the last component */
	bool dir_contents;    /* a directory stands for its contents: its own name and header do not
				 count */
	bool allow_empty;     /* no match is no error */
	char *const *include; /* strv or NULL */
	char *const *exclude;
} bxc_solve_selector;

typedef struct bxc_solve_input {
	uint64_t vertex; /* id */
	uint64_t record;
	uint32_t output;
} bxc_solve_input;

typedef struct bxc_solve_result {
	uint32_t def_index; /* of the target */
	uint32_t output;
	uint64_t vertex; /* id */
	uint64_t record;
	bxc_digest canonical;
} bxc_solve_result;

/*
 * One action. Everything pointed to is borrowed until the next call of bxc_solve_next() (or
 * bxc_solve_free(); `def` as long as its definition lives).
 */
typedef struct bxc_solve_action {
	bxc_solve_kind kind;
	uint64_t ticket; /* requests, CANCEL_RUN */
	uint64_t vertex; /* id of the vertex state: all but BUILD_DONE; never given twice */
	/* The vertex in the definition of one build that has it. NULL: EVENT of a build that has
	 * failed since; SAVE_KEYS of a vertex that is not live any more; CANCEL_RUN; BUILD_DONE. */
	const bxc_def_vertex *def;
	/* SOURCE_KEY, CHECKSUM, RUN */
	uint32_t attempt; /* 1.. BXC_SOLVE_MAX_ATTEMPTS */
	/* LOOKUP; RUN: the key that equal work is recognised by */
	bxc_digest key;
	/* CHECKSUM; answer: the digest of one selection, several combined by bxc_solve_combine() */
	uint32_t input_index;
	bool cheap; /* the input is a local source: nothing has run; inputs[0].record is 0 */
	const bxc_solve_selector *selectors;
	size_t n_selectors;
	/* CHECKSUM: the one input; RUN: all, in the order of the definition */
	const bxc_solve_input *inputs;
	size_t n_inputs;
	/* RUN, EVENT */
	uint64_t run;	     /* id, stable over attempts: logs are kept by it; 0: none */
	bxc_solve_miss miss; /* RUN: of the vertex that leads, which may change from attempt to attempt */
	uint32_t miss_input;
	bool fresh; /* RUN: begun for one that ignores the cache; apart from a plain run with this key */
	uint32_t remaining; /* RUN: vertices on the longest path to a target, this one included */
	/* SAVE_KEYS */
	const bxc_digest *keys;
	size_t n_keys;
	uint64_t record;
	bxc_digest canonical;
	bool is_new; /* the record comes from a run; else a hit learns more keys */
	/* EVENT, BUILD_DONE; requests: the live build that `def` is of */
	uint64_t build;
	/* EVENT, BUILD_DONE */
	uint32_t def_index;
	bxc_solve_event event;
	const bxc_solve_result *results; /* BUILD_DONE without error: one per target, in order */
	size_t n_results;
	const bxc_err *err; /* EVENT FAILED; BUILD_DONE: NULL on success */
} bxc_solve_action;

/* The next action; false when there is none for now. */
bool bxc_solve_next(bxc_solve *s, bxc_solve_action *ret);

/* ---- builds ---- */

typedef struct bxc_solve_target {
	uint32_t vertex; /* index into the definition */
	uint32_t output;
} bxc_solve_target;

/*
 * Adds a build. Only vertices reachable from a target count. `def` is borrowed until the build has
 * gone: BUILD_DONE with an error was returned, or bxc_solve_release().
 * BXC_INVALID_ARGUMENT: no target, a bad index, inputs out of order; BXC_ALREADY_EXISTS: the id.
 *
 * A build which succeeded stays: its results are watched until bxc_solve_release(), and when a
 * target's result is lost before that it goes back to work and BUILD_DONE comes again.
 */
BXC_MUST_CHECK int bxc_solve_add_build(bxc_solve *s, uint64_t build, const bxc_def *def,
	const bxc_solve_target *targets, size_t n_targets, bxc_err **err);

/*
 * As bxc_solve_add_build, for a build that is to have all its results from the cache: nothing runs
 * for it but what bxc_solve_is_free() tells, and it joins no run. What would run is told by MISSED;
 * that vertex and those above it stay where they are until the build is cancelled or released.
 */
BXC_MUST_CHECK int bxc_solve_add_look(bxc_solve *s, uint64_t build, const bxc_def *def,
	const bxc_solve_target *targets, size_t n_targets, bxc_err **err);
/* Is all that can be known of such a build without running something known, and something missed?
 */
bool bxc_solve_is_stuck(const bxc_solve *s, uint64_t build);

/* The build is to end: BUILD_DONE with BXC_CANCELED follows. No-op for an unknown id. */
void bxc_solve_cancel(bxc_solve *s, uint64_t build);

/* The engine is through with the build, whatever its state; actions already queued for it may still
 * come. */
void bxc_solve_release(bxc_solve *s, uint64_t build);

/* ---- answers ---- */
/* All return whether the ticket was still wanted. */

bool bxc_solve_source_key(bxc_solve *s, uint64_t ticket, const bxc_digest *key);
bool bxc_solve_lookup_hit(
	bxc_solve *s, uint64_t ticket, uint64_t record, const bxc_digest *canonical);
bool bxc_solve_lookup_miss(bxc_solve *s, uint64_t ticket);
/* A miss, but what the key stands for is known. */
bool bxc_solve_lookup_known(bxc_solve *s, uint64_t ticket, const bxc_digest *canonical);
bool bxc_solve_checksum(bxc_solve *s, uint64_t ticket, const bxc_digest *digest);
/* `record` is a new one, not 0; its data is committed on a worker or in the store. */
bool bxc_solve_run_done(bxc_solve *s, uint64_t ticket, uint64_t record);
/*
 * SOURCE_KEY, CHECKSUM or RUN failed; `err` is owned by the callee. `infra`: not the fault of the
 * op (worker gone, session of one client gone, I/O error): it is asked again, up to
 * BXC_SOLVE_MAX_ATTEMPTS in all. A request that died with a build or a session that was cancelled
 * must be answered as infra: its failure may not reach other builds.
 */
bool bxc_solve_fail(bxc_solve *s, uint64_t ticket, bxc_err *err, bool infra);
/* RUN or CHECKSUM can't proceed: the input record `record` has vanished. Not counted as a failure
 * of the vertex. */
bool bxc_solve_input_lost(bxc_solve *s, uint64_t ticket, uint64_t record);

/* The data of `record` has vanished. The engine has deleted its cache links before. */
void bxc_solve_result_lost(bxc_solve *s, uint64_t record);

/* ---- looks ---- */

size_t bxc_solve_n_vertices(const bxc_solve *s); /* live vertex states */
size_t bxc_solve_n_builds(const bxc_solve *s);
/* Is `record` the result of a live vertex (so that its data must stay)? */
bool bxc_solve_uses_record(const bxc_solve *s, uint64_t record);

/* What may be told of a vertex to another cluster. */
typedef struct bxc_solve_fact {
	bxc_digest keys[3];
	size_t n_keys;
	bxc_digest canonical;
	uint64_t record; /* 0: no result; the canonical key is known all the same */
} bxc_solve_fact;
/* Of a vertex of a build that has not been released, by its index in the definition. False: no such
 * build, not reachable from its targets, or nothing is known that would hold elsewhere. */
bool bxc_solve_fact_of(const bxc_solve *s, uint64_t build, uint32_t def_index, bxc_solve_fact *ret);

/* What the key of a vertex is made of, as far as it is known by now; digests unset: not (yet). */
typedef struct bxc_solve_key_input {
	bxc_digest canonical; /* unset: only its content counts */
	bxc_digest content;   /* of what is selected */
} bxc_solve_key_input;
typedef struct bxc_solve_key {
	bxc_digest key; /* the one that counted last; of a source: what it stands for */
	BXC_ARR(bxc_solve_key_input) inputs; /* in the order of the definition */
	uint64_t record;		     /* 0: none */
	bxc_solve_miss miss;
} bxc_solve_key;
void bxc_solve_key_done(bxc_solve_key *k);
/* False: the build has no such vertex (any more). `ret` is zeroed or done. */
bool bxc_solve_look(const bxc_solve *s, uint64_t build, uint32_t def_index, bxc_solve_key *ret);

/* ---- knowledge about ops ---- */

/* One input of a vertex that counts only by the content of what is selected of it. */
typedef struct bxc_solve_content {
	uint32_t input_index;
	BXC_ARR(bxc_solve_selector) selectors; /* at least one; strings borrowed from the vertex */
} bxc_solve_content;
typedef struct bxc_solve_contents {
	BXC_ARR(bxc_solve_content) items; /* by input_index, ascending */
} bxc_solve_contents;

/*
 * File ops: inputs used as the source of copies and never as a target. Exec: inputs used by
 * read-only bind mounts without output, other than "/", and by nothing else. `ret` is zeroed or
 * done.
 */
void bxc_solve_content_inputs(const bxc_def_vertex *v, bxc_solve_contents *ret);
void bxc_solve_contents_done(bxc_solve_contents *c);

/* The digest of several selections; of one, that one. */
bxc_digest bxc_solve_combine(const bxc_digest *digests, size_t n);

bool bxc_solve_is_local(const bxc_def_vertex *v); /* a local source */
/* Does its RUN run nothing? So it is with contexts of clients, images (layers are pulled by who
 * needs them), and merges. */
bool bxc_solve_is_free(const bxc_def_vertex *v);

/* The input whose tree the result of `v` continues (so that it should run where that one is), or
 * BXC_DEF_NO_INPUT. */
uint32_t bxc_solve_chain_input(const bxc_def_vertex *v);
