/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite backend: one connection, owned by one thread, statements prepared once. These files
 * alone see sqlite3.
 */
#pragma once

#include <sqlite3.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "coordinator/state/state_internal.h"

typedef enum sq_stmt {
	SQ_BUILD_ADD = 0,
	SQ_BUILD_UPDATE,
	SQ_BUILD_GET,
	SQ_BUILD_DELETE,
	SQ_BUILD_LIST,
	SQ_EVENT_ADD,
	SQ_EVENTS_READ,
	SQ_EVENTS_LAST,
	SQ_EVENTS_DELETE,
	SQ_RECORD_ADD,
	SQ_RECORD_GET,
	SQ_RECORD_UPDATE,
	SQ_RECORD_DELETE,
	SQ_RECORD_KEYS_DELETE,
	SQ_RECORD_LIST,
	SQ_RECORD_TOUCH,
	SQ_KEY_ADD,
	SQ_KEY_LOOKUP,
	SQ_KEY_TOUCH,
	SQ_LAYER_PUT,
	SQ_LAYER_GET,
	SQ_LAYER_DELETE,
	SQ_PACK_ADD,
	SQ_PACK_FIND,
	SQ_PACK_DELETE,
	SQ_FILE_PUT,
	SQ_FILE_FIND,
	SQ_FILES_DELETE,
	SQ_TOKEN_ADD,
	SQ_TOKEN_FIND,
	SQ_TOKEN_DELETE,
	SQ_TOKEN_LIST,
	SQ_SETTING_GET,
	SQ_SETTING_SET,
	SQ_SETTING_INIT,
	SQ_ATTEMPT_PUT,
	SQ_ATTEMPT_DELETE,
	SQ_ATTEMPTS_FORGET,
	SQ_ATTEMPT_LIST,
	SQ_STEP_PUT,
	SQ_STEP_GET,
	SQ_STEPS_OF_BUILD,
	SQ_STEPS_BY_LINEAGE,
	SQ_STEPS_BY_SHAPE,
	SQ_STEPS_DELETE,
	SQ_MANIFEST_PUT,
	SQ_MANIFEST_GET,
	SQ_MANIFEST_USE,
	SQ_MANIFESTS_DELETE,
	SQ_MANIFEST_USES_DELETE,
	SQ_DURATION_PUT,
	SQ_DURATION_LIST,
	SQ_DURATIONS_TRIM,
	SQ_N_STMTS,
} sq_stmt;

typedef struct sq_state {
	bxc_state base;
	bxc_state_ops ops;
	sqlite3 *db;
	char *path;
	bool is_full_sync; /* PRAGMA synchronous as set */
	sqlite3_stmt *stmts[SQ_N_STMTS];
} sq_state;

static inline sq_state *sq_of(bxc_state *st)
{
	return (sq_state *)st;
}

/* ---- sqlite.c ---- */
/* Turns a result code into an error about what was being done; returns its negative code. */
int bxc_state__sq_err(sq_state *q, int rc, bxc_err **err, const char *doing);
/* A statement ready to be bound; NULL with `err` set, code in *ret_r. Give it back with sq_reset.
 */
sqlite3_stmt *bxc_state__sq_stmt(sq_state *q, sq_stmt id, int *ret_r, bxc_err **err);
void bxc_state__sq_reset(sqlite3_stmt **stmt);
#define SQ_AUTOSTMT BXC_CLEANUP(bxc_state__sq_reset)
/* Steps a statement that gives no rows. */
int bxc_state__sq_exec(sq_state *q, sqlite3_stmt *stmt, bxc_err **err, const char *doing);
/* 1 a row, 0 the end. */
int bxc_state__sq_row(sq_state *q, sqlite3_stmt *stmt, bxc_err **err, const char *doing);

/* Writes of one call: a transaction of their own, or a part of the open one that fails as a whole.
 */
int bxc_state__sq_enter(sq_state *q, bxc_state_durability d, bxc_err **err);
int bxc_state__sq_leave(
	sq_state *q, int r, bxc_err **err); /* r < 0 undoes; returns r or the failure to commit */
/* For a single statement: only the durability is arranged. */
int bxc_state__sq_single(sq_state *q, bxc_state_durability d, bxc_err **err);

void bxc_state__sq_bind_text(
	sqlite3_stmt *stmt, int i, const char *s); /* NULL binds NULL; borrowed until reset */
void bxc_state__sq_bind_digest(sqlite3_stmt *stmt, int i, const bxc_digest *d);
char *bxc_state__sq_text(sqlite3_stmt *stmt, int i); /* owned; NULL for NULL */
bool bxc_state__sq_digest(sqlite3_stmt *stmt, int i, bxc_digest *ret);

/* ---- the tables of functions ---- */
void bxc_state__sq_builds_ops(bxc_state_ops *ops);   /* sqlite_builds.c */
void bxc_state__sq_cache_ops(bxc_state_ops *ops);    /* sqlite_cache.c */
void bxc_state__sq_facts_ops(bxc_state_ops *ops);    /* sqlite_facts.c */
void bxc_state__sq_attempts_ops(bxc_state_ops *ops); /* sqlite_attempts.c */
void bxc_state__sq_steps_ops(bxc_state_ops *ops);    /* sqlite_steps.c */
void bxc_state__sq_check_ops(bxc_state_ops *ops);    /* sqlite_check.c */
