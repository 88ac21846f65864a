/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record store of the coordinator: builds and their events, the build cache, layers, context
 * files, tokens, settings. Module prefix: bxc_state. See FORMAT.md for what the tables hold.
 *
 * An interface with backends behind it (`bxc_state_ops`); callers use the bxc_state_* functions,
 * which check arguments and limits for all backends. All calls block: one thread (the "db" pool
 * with one thread) owns a store and makes all calls.
 *
 * Transactions. A call outside of bxc_state_begin() is a transaction of its own: durable for
 * builds, events, tokens and settings, lazy for cache, layers, files and durations. Between begin and commit
 * the writes share one transaction of the kind given to begin: collect what is pending and commit
 * it at once. BXC_STATE_DURABLE: after commit the data survives loss of power. BXC_STATE_LAZY: it
 * survives a crash of the process; loss of power may take the last commits, never more, and never
 * out of order. A failed write inside a transaction leaves the transaction open: roll back.
 *
 * Errors: BXC_NOT_FOUND, BXC_ALREADY_EXISTS as told below; BXC_INVALID_ARGUMENT and
 * BXC_RESOURCE_EXHAUSTED for what is out of bounds or a full disk; BXC_DATA_LOSS when the store is
 * damaged; BXC_UNAVAILABLE when another process holds it; BXC_FAILED_PRECONDITION when it is of a
 * foreign or newer kind; BXC_INTERNAL else.
 *
 * Text fields are UTF-8. JSON is kept as the text given and not interpreted. Outputs are owned by
 * the caller and freed with the _done function of their type.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/codec/digest.h"

#define BXC_STATE_LIMIT_ID    256u	     /* bytes of ids, names, keys of settings */
#define BXC_STATE_LIMIT_TEXT  BXC_LIMIT_JSON /* bytes of one JSON text */
#define BXC_STATE_LIMIT_LIST  10000u	     /* rows of one answer */
#define BXC_STATE_LIMIT_BATCH 100000u	     /* items of one batch */

typedef struct bxc_state bxc_state;

typedef enum bxc_state_durability {
	BXC_STATE_LAZY = 0,
	BXC_STATE_DURABLE,
} bxc_state_durability;

/*
 * Opens the store named by `url`, making or migrating it: "sqlite:<path of the file>" (its folder
 * exists). BXC_UNIMPLEMENTED for a backend that this program was built without.
 */
BXC_MUST_CHECK int bxc_state_open(const char *url, bxc_state **ret, bxc_err **err);
/* An open transaction is rolled back. Accepts NULL. */
void bxc_state_close(bxc_state *st);
BXC_DEFINE_CLEANUP(bxc_state, bxc_state_close);

BXC_MUST_CHECK int bxc_state_begin(bxc_state *st, bxc_state_durability d, bxc_err **err);
BXC_MUST_CHECK int bxc_state_commit(bxc_state *st, bxc_err **err); /* on failure rolled back */
void bxc_state_rollback(bxc_state *st);				   /* no-op without a transaction */

/* ---- builds ---- */

typedef struct bxc_state_build {
	char *id;	      /* unique */
	char *name;	      /* what people call it, e.g. a tag; NULL: none */
	char *tenant;	      /* NULL: none */
	char *status;	      /* the engine's words: "running", "done", ... */
	int64_t created_ns;   /* wall clock */
	int64_t completed_ns; /* 0: not yet */
	char *request;	      /* JSON */
	char *error;	      /* JSON; NULL: none */
	char *result;	      /* JSON; NULL: none */
} bxc_state_build;
void bxc_state_build_done(bxc_state_build *b);

typedef struct bxc_state_builds {
	BXC_ARR(bxc_state_build) items;
} bxc_state_builds;
void bxc_state_builds_done(bxc_state_builds *b);

/* BXC_ALREADY_EXISTS for a known id. */
BXC_MUST_CHECK int bxc_state_build_add(bxc_state *st, const bxc_state_build *b, bxc_err **err);
/* Sets status, completed_ns, error, result of build `id`; BXC_NOT_FOUND. */
BXC_MUST_CHECK int bxc_state_build_update(bxc_state *st, const char *id, const char *status,
	int64_t completed_ns, const char *error, const char *result, bxc_err **err);
BXC_MUST_CHECK int bxc_state_build_get(
	bxc_state *st, const char *id, bxc_state_build *ret, bxc_err **err);
/* With its events and steps; BXC_NOT_FOUND. */
BXC_MUST_CHECK int bxc_state_build_delete(bxc_state *st, const char *id, bxc_err **err);

typedef struct bxc_state_build_filter {
	const char *status; /* NULL: any */
	const char *tenant; /* NULL: any */
	const char *after;  /* only builds that come after this id in the list (paging); NULL: from
			       the newest */
	bool without_request; /* leave `request` NULL: lists for people */
	size_t limit;	      /* 1..BXC_STATE_LIMIT_LIST */
} bxc_state_build_filter;
/* Newest first (created_ns, then order of adding); appends nothing on failure. `ret` is zeroed or
 * done. */
BXC_MUST_CHECK int bxc_state_build_list(
	bxc_state *st, const bxc_state_build_filter *f, bxc_state_builds *ret, bxc_err **err);

/* ---- events ---- */

typedef struct bxc_state_event {
	uint64_t seq; /* 1.. within the build */
	char *text;   /* JSON */
} bxc_state_event;
typedef struct bxc_state_events {
	BXC_ARR(bxc_state_event) items;
} bxc_state_events;
void bxc_state_events_done(bxc_state_events *e);

/* All or none. BXC_NOT_FOUND: no such build; BXC_ALREADY_EXISTS: a seq that is recorded. */
BXC_MUST_CHECK int bxc_state_events_append(
	bxc_state *st, const char *build, const bxc_state_event *items, size_t n, bxc_err **err);
/* Events with seq >= from_seq, ascending, at most `limit` (1..BXC_STATE_LIMIT_LIST); an unknown
 * build has none. */
BXC_MUST_CHECK int bxc_state_events_read(bxc_state *st, const char *build, uint64_t from_seq,
	size_t limit, bxc_state_events *ret, bxc_err **err);
/* The highest seq recorded, 0 for none. */
BXC_MUST_CHECK int bxc_state_events_last(
	bxc_state *st, const char *build, uint64_t *ret_seq, bxc_err **err);

/* ---- cache ---- */

typedef struct bxc_state_record {
	uint64_t id;  /* 1..; never used again, also after a delete */
	char *result; /* JSON: layers etc. */
	int64_t created_ns;
	int64_t duration_ns;  /* of the run that made it */
	int64_t last_used_ns; /* latest of its keys; created_ns when never looked up */
} bxc_state_record;
void bxc_state_record_done(bxc_state_record *r);
typedef struct bxc_state_records {
	BXC_ARR(bxc_state_record) items;
} bxc_state_records;
void bxc_state_records_done(bxc_state_records *r);

typedef struct bxc_state_hit {
	uint64_t record;
	bxc_digest canonical;
} bxc_state_hit;

/* Adds a record; `r->id` and `r->last_used_ns` are ignored. */
BXC_MUST_CHECK int bxc_state_record_add(
	bxc_state *st, const bxc_state_record *r, uint64_t *ret_id, bxc_err **err);
BXC_MUST_CHECK int bxc_state_record_get(
	bxc_state *st, uint64_t id, bxc_state_record *ret, bxc_err **err);
/* Replaces the result text (a layer got a blob); BXC_NOT_FOUND. */
BXC_MUST_CHECK int bxc_state_record_update(
	bxc_state *st, uint64_t id, const char *result, bxc_err **err);
/* With its keys; deleting what is not there is no error. */
BXC_MUST_CHECK int bxc_state_record_delete(bxc_state *st, uint64_t id, bxc_err **err);
/* Least recently used first, at most `limit`. */
BXC_MUST_CHECK int bxc_state_record_list(
	bxc_state *st, size_t limit, bxc_state_records *ret, bxc_err **err);

/* Links keys to a record; a known key is re-linked. BXC_NOT_FOUND: no such record. */
BXC_MUST_CHECK int bxc_state_keys_add(bxc_state *st, const bxc_digest *keys, size_t n,
	uint64_t record, const bxc_digest *canonical, int64_t now_ns, bxc_err **err);
/* 1 found, 0 not. */
BXC_MUST_CHECK int bxc_state_key_lookup(
	bxc_state *st, const bxc_digest *key, bxc_state_hit *ret, bxc_err **err);
/* Sets when the keys were last used; unknown ones are passed over. */
BXC_MUST_CHECK int bxc_state_keys_touch(
	bxc_state *st, const bxc_digest *keys, size_t n, int64_t now_ns, bxc_err **err);

/* ---- layers ---- */

BXC_MUST_CHECK int bxc_state_layer_put(
	bxc_state *st, const char *layer, const char *facts, bxc_err **err);
/* Owned JSON text; BXC_NOT_FOUND. */
BXC_MUST_CHECK int bxc_state_layer_get(
	bxc_state *st, const char *layer, char **ret_facts, bxc_err **err);
BXC_MUST_CHECK int bxc_state_layer_delete(
	bxc_state *st, const char *layer, bxc_err **err); /* not there: no error */

/* ---- context files ---- */

typedef struct bxc_state_file {
	bxc_digest file; /* of the content */
	bxc_digest pack; /* not set in answers: the file is not known */
	uint64_t offset; /* bytes within the pack */
	uint64_t size;	 /* bytes */
} bxc_state_file;

/* A known file moves to the new place. All or none. */
BXC_MUST_CHECK int bxc_state_files_put(
	bxc_state *st, const bxc_state_file *files, size_t n, bxc_err **err);
/* Fills pack, offset, size of each item by its `file`. Returns the number of files found. */
BXC_MUST_CHECK int bxc_state_files_find(
	bxc_state *st, bxc_state_file *files, size_t n, bxc_err **err);
/* Forgets every file of a pack. */
BXC_MUST_CHECK int bxc_state_files_drop_pack(bxc_state *st, const bxc_digest *pack, bxc_err **err);

/* ---- tokens ---- */

typedef struct bxc_state_token {
	bxc_digest hash; /* of the secret; the secret itself is never stored */
	char *name;	 /* unique */
	char *scopes;	 /* "build read" */
	char *tenant;	 /* NULL: none */
	int64_t created_ns;
} bxc_state_token;
void bxc_state_token_done(bxc_state_token *t);
typedef struct bxc_state_tokens {
	BXC_ARR(bxc_state_token) items;
} bxc_state_tokens;
void bxc_state_tokens_done(bxc_state_tokens *t);

/* BXC_ALREADY_EXISTS: the name or the hash. */
BXC_MUST_CHECK int bxc_state_token_add(bxc_state *st, const bxc_state_token *t, bxc_err **err);
BXC_MUST_CHECK int bxc_state_token_find(bxc_state *st, const bxc_digest *hash, bxc_state_token *ret,
	bxc_err **err); /* BXC_NOT_FOUND */
BXC_MUST_CHECK int bxc_state_token_delete(
	bxc_state *st, const char *name, bxc_err **err); /* BXC_NOT_FOUND */
/* By name; at most BXC_STATE_LIMIT_LIST. */
BXC_MUST_CHECK int bxc_state_token_list(bxc_state *st, bxc_state_tokens *ret, bxc_err **err);

/* ---- settings ---- */

/* 1 found (owned value), 0 not. */
BXC_MUST_CHECK int bxc_state_setting_get(
	bxc_state *st, const char *key, char **ret_value, bxc_err **err);
BXC_MUST_CHECK int bxc_state_setting_set(
	bxc_state *st, const char *key, const char *value, bxc_err **err);
/* Sets `value` unless the key has one; returns what holds from now on, owned. */
BXC_MUST_CHECK int bxc_state_setting_init(
	bxc_state *st, const char *key, const char *value, char **ret_value, bxc_err **err);

/* ---- attempts ---- */

/*
 * A step that a worker was given, so that a coordinator that starts again knows what runs and what
 * has ended. The name of the task is the fence: what comes under any other name is refused.
 */
typedef struct bxc_state_attempt {
	char *task; /* unique */
	uint64_t epoch;
	bxc_digest key;	 /* by which equal work is recognised */
	bool fresh;	 /* runs whatever the cache knows: nobody else's result will do */
	char *build;	 /* on whose behalf; "": nobody's any more */
	char *worker;	 /* name */
	uint64_t record; /* its result; 0: it runs */
	char *facts;	 /* JSON */
} bxc_state_attempt;
void bxc_state_attempt_done(bxc_state_attempt *a);
typedef struct bxc_state_attempts {
	BXC_ARR(bxc_state_attempt) items;
} bxc_state_attempts;
void bxc_state_attempts_done(bxc_state_attempts *a);

/* Replaces what is known of the task. */
BXC_MUST_CHECK int bxc_state_attempt_put(bxc_state *st, const bxc_state_attempt *a, bxc_err **err);
BXC_MUST_CHECK int bxc_state_attempt_delete(
	bxc_state *st, const char *task, bxc_err **err); /* not there: no error */
/* Deletes those of a build that have a result. */
BXC_MUST_CHECK int bxc_state_attempts_forget(bxc_state *st, const char *build, bxc_err **err);
/* All, by task. `ret` is zeroed or done. */
BXC_MUST_CHECK int bxc_state_attempt_list(bxc_state *st, bxc_state_attempts *ret, bxc_err **err);

/* ---- steps ---- */

/* What became of a step of a build, and what its key was made of. */
typedef struct bxc_state_step {
	char *build;
	bxc_digest vertex;  /* unique within the build */
	uint64_t number;    /* as people call it; 0: it was never told of */
	bxc_digest lineage; /* equal for the same step of other builds */
	bxc_digest shape;   /* equal for steps that do the same */
	char *outcome;	    /* the engine's words */
	uint64_t record;    /* its result; 0: none */
	int64_t time_ns;    /* wall clock */
	char *facts;	    /* JSON */
} bxc_state_step;
void bxc_state_step_done(bxc_state_step *s);
typedef struct bxc_state_steps {
	BXC_ARR(bxc_state_step) items;
} bxc_state_steps;
void bxc_state_steps_done(bxc_state_steps *s);

/* Replaces what is known of the step; BXC_NOT_FOUND: no such build. */
BXC_MUST_CHECK int bxc_state_step_put(bxc_state *st, const bxc_state_step *s, bxc_err **err);
/* 1 found, 0 not. */
BXC_MUST_CHECK int bxc_state_step_get(bxc_state *st, const char *build, const bxc_digest *vertex,
	bxc_state_step *ret, bxc_err **err);
/* Those of a build, by number and vertex; `after`: only what comes after that one; NULL: from the
 * first. `ret` is zeroed or done. */
BXC_MUST_CHECK int bxc_state_steps_of_build(bxc_state *st, const char *build,
	const bxc_state_step *after, size_t limit, bxc_state_steps *ret, bxc_err **err);
/* Earlier steps (time_ns) of other builds that have a record and the lineage or shape of `s`; the
 * latest first. Appends. */
BXC_MUST_CHECK int bxc_state_steps_by_lineage(
	bxc_state *st, const bxc_state_step *s, size_t limit, bxc_state_steps *ret, bxc_err **err);
BXC_MUST_CHECK int bxc_state_steps_by_shape(
	bxc_state *st, const bxc_state_step *s, size_t limit, bxc_state_steps *ret, bxc_err **err);

/* The files that `digest` is of, as JSON; the first text stays. Goes with the last build that uses
 * it. */
BXC_MUST_CHECK int bxc_state_manifest_put(
	bxc_state *st, const bxc_digest *digest, const char *text, bxc_err **err);
/* 1 found (owned text), 0 not. */
BXC_MUST_CHECK int bxc_state_manifest_get(
	bxc_state *st, const bxc_digest *digest, char **ret_text, bxc_err **err);
/* 1: the build uses it; 0: there is no such build or manifest. */
BXC_MUST_CHECK int bxc_state_manifest_use(
	bxc_state *st, const char *build, const bxc_digest *digest, bxc_err **err);
/* ---- durations ---- */

/* How long work of a kind took the last times it ran; what `times` says is up to the caller. */
typedef struct bxc_state_duration {
	bxc_digest key;
	int64_t used_ns; /* wall clock: the last of those times */
	char *times;	 /* short text, up to BXC_STATE_LIMIT_ID */
} bxc_state_duration;
typedef struct bxc_state_durations {
	BXC_ARR(bxc_state_duration) items;
} bxc_state_durations;
void bxc_state_durations_done(bxc_state_durations *d);

/* Replaces what is known of the key. Lazy. */
BXC_MUST_CHECK int bxc_state_duration_put(
	bxc_state *st, const bxc_state_duration *d, bxc_err **err);
/* The latest first, at most `limit`. `ret` is zeroed or done. */
BXC_MUST_CHECK int bxc_state_duration_list(
	bxc_state *st, size_t limit, bxc_state_durations *ret, bxc_err **err);
/* Forgets all but the latest `keep`. Lazy. */
BXC_MUST_CHECK int bxc_state_durations_trim(bxc_state *st, size_t keep, bxc_err **err);

/* ---- looking after it ---- */

/* What is wrong with it, a line each (owned strv, NULL: nothing): damage of the file, rows that name
 * others which are not there. Reads all of it. */
BXC_MUST_CHECK int bxc_state_check(bxc_state *st, char ***ret_problems, bxc_err **err);

/* ---- backends ---- */

/*
 * What a backend implements: the functions above, with arguments already checked. The slots of one
 * name do the same as the function. A backend embeds `bxc_state` as the first member of its own.
 */
typedef struct bxc_state_ops {
	const char *name;
	void (*close)(bxc_state *st);
	int (*begin)(bxc_state *st, bxc_state_durability d, bxc_err **err);
	int (*commit)(bxc_state *st, bxc_err **err);
	void (*rollback)(bxc_state *st);
	int (*build_add)(bxc_state *st, const bxc_state_build *b, bxc_err **err);
	int (*build_update)(bxc_state *st, const char *id, const char *status, int64_t completed_ns,
		const char *error, const char *result, bxc_err **err);
	int (*build_get)(bxc_state *st, const char *id, bxc_state_build *ret, bxc_err **err);
	int (*build_delete)(bxc_state *st, const char *id, bxc_err **err);
	int (*build_list)(bxc_state *st, const bxc_state_build_filter *f, bxc_state_builds *ret,
		bxc_err **err);
	int (*events_append)(bxc_state *st, const char *build, const bxc_state_event *items,
		size_t n, bxc_err **err);
	int (*events_read)(bxc_state *st, const char *build, uint64_t from_seq, size_t limit,
		bxc_state_events *ret, bxc_err **err);
	int (*events_last)(bxc_state *st, const char *build, uint64_t *ret_seq, bxc_err **err);
	int (*record_add)(
		bxc_state *st, const bxc_state_record *r, uint64_t *ret_id, bxc_err **err);
	int (*record_get)(bxc_state *st, uint64_t id, bxc_state_record *ret, bxc_err **err);
	int (*record_update)(bxc_state *st, uint64_t id, const char *result, bxc_err **err);
	int (*record_delete)(bxc_state *st, uint64_t id, bxc_err **err);
	int (*record_list)(bxc_state *st, size_t limit, bxc_state_records *ret, bxc_err **err);
	int (*keys_add)(bxc_state *st, const bxc_digest *keys, size_t n, uint64_t record,
		const bxc_digest *canonical, int64_t now_ns, bxc_err **err);
	int (*key_lookup)(bxc_state *st, const bxc_digest *key, bxc_state_hit *ret, bxc_err **err);
	int (*keys_touch)(
		bxc_state *st, const bxc_digest *keys, size_t n, int64_t now_ns, bxc_err **err);
	int (*layer_put)(bxc_state *st, const char *layer, const char *facts, bxc_err **err);
	int (*layer_get)(bxc_state *st, const char *layer, char **ret_facts, bxc_err **err);
	int (*layer_delete)(bxc_state *st, const char *layer, bxc_err **err);
	int (*files_put)(bxc_state *st, const bxc_state_file *files, size_t n, bxc_err **err);
	int (*files_find)(bxc_state *st, bxc_state_file *files, size_t n, bxc_err **err);
	int (*files_drop_pack)(bxc_state *st, const bxc_digest *pack, bxc_err **err);
	int (*token_add)(bxc_state *st, const bxc_state_token *t, bxc_err **err);
	int (*token_find)(
		bxc_state *st, const bxc_digest *hash, bxc_state_token *ret, bxc_err **err);
	int (*token_delete)(bxc_state *st, const char *name, bxc_err **err);
	int (*token_list)(bxc_state *st, bxc_state_tokens *ret, bxc_err **err);
	int (*setting_get)(bxc_state *st, const char *key, char **ret_value, bxc_err **err);
	int (*setting_set)(bxc_state *st, const char *key, const char *value, bxc_err **err);
	int (*setting_init)(
		bxc_state *st, const char *key, const char *value, char **ret_value, bxc_err **err);
	int (*attempt_put)(bxc_state *st, const bxc_state_attempt *a, bxc_err **err);
	int (*attempt_delete)(bxc_state *st, const char *task, bxc_err **err);
	int (*attempts_forget)(bxc_state *st, const char *build, bxc_err **err);
	int (*attempt_list)(bxc_state *st, bxc_state_attempts *ret, bxc_err **err);
	int (*check)(bxc_state *st, char ***ret_problems, bxc_err **err);
	int (*step_put)(bxc_state *st, const bxc_state_step *s, bxc_err **err);
	int (*step_get)(bxc_state *st, const char *build, const bxc_digest *vertex,
		bxc_state_step *ret, bxc_err **err);
	int (*steps_of_build)(bxc_state *st, const char *build, const bxc_state_step *after,
		size_t limit, bxc_state_steps *ret, bxc_err **err);
	int (*steps_by_lineage)(bxc_state *st, const bxc_state_step *s, size_t limit,
		bxc_state_steps *ret, bxc_err **err);
	int (*steps_by_shape)(bxc_state *st, const bxc_state_step *s, size_t limit,
		bxc_state_steps *ret, bxc_err **err);
	int (*manifest_put)(
		bxc_state *st, const bxc_digest *digest, const char *text, bxc_err **err);
	int (*manifest_get)(
		bxc_state *st, const bxc_digest *digest, char **ret_text, bxc_err **err);
	int (*manifest_use)(
		bxc_state *st, const char *build, const bxc_digest *digest, bxc_err **err);
	int (*duration_put)(bxc_state *st, const bxc_state_duration *d, bxc_err **err);
	int (*duration_list)(
		bxc_state *st, size_t limit, bxc_state_durations *ret, bxc_err **err);
	int (*durations_trim)(bxc_state *st, size_t keep, bxc_err **err);
} bxc_state_ops;

struct bxc_state {
	const bxc_state_ops *ops;
	bool in_transaction; /* kept by the bxc_state_* functions */
};
