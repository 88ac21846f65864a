/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one thread that owns the record store. Module prefix: bxc_db.
 *
 * Work is queued from the loop and runs in order, so what was submitted earlier is visible to what
 * comes later. Answers are posted back to the loop.
 */
#pragma once

#include "common/base/err.h"
#include "common/loop/loop.h"
#include "coordinator/state/state.h"

#define BXC_DB_QUEUE 65536u          /* jobs that may wait; more is a programming error: callers are bounded by builds */

typedef struct bxc_db bxc_db;

/* Opens the store (see bxc_state_open) and starts the thread. */
BXC_MUST_CHECK int bxc_db_start(bxc_loop *loop, const char *url, bxc_db **ret, bxc_err **err);
/* Runs what waits, closes the store. Answers that are still posted do not run: call it after the loop has ended. */
void bxc_db_stop(bxc_db *db);

/* work(st, ud) on the database thread, then done(ud) (may be NULL) on the loop. Loop only. */
typedef void (*bxc_db_work)(bxc_state *st, void *ud);
void bxc_db_submit(bxc_db *db, bxc_db_work work, bxc_post_fn done, void *ud);

/* The store itself, for use before the loop runs. */
bxc_state *bxc_db_state(bxc_db *db);
