/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event logs of builds: numbered, recorded, replayed. Module prefix: bxc_ev. Loop only.
 *
 * An event is recorded before any subscriber sees it: events collect while one batch is being
 * committed and go as the next batch. A subscriber gets every event after the number it names,
 * first from the record, then live, in order, each once.
 */
#pragma once

#include "common/codec/json.h"
#include "coordinator/db/db.h"

typedef struct bxc_ev bxc_ev;
typedef struct bxc_ev_sub bxc_ev_sub;

bxc_ev *bxc_ev_new(bxc_db *db);
void bxc_ev_free(bxc_ev *ev);
BXC_DEFINE_CLEANUP(bxc_ev, bxc_ev_free);

/* Starts the log of a build whose row is in the store (or was submitted to it before). */
void bxc_ev_open(bxc_ev *ev, const char *build);
/* The same for a build of an earlier run, with all its recorded events in order (emptied). */
void bxc_ev_reopen(bxc_ev *ev, const char *build, bxc_state_events *recorded);
/* Appends; owns j. No-op for a build that is not open. */
void bxc_ev_append(bxc_ev *ev, const char *build, bxc_json *j);
/* No more events follow: subscribers get `on_end` after the last one, and the log leaves memory. */
void bxc_ev_close(bxc_ev *ev, const char *build);

/* seq starts at 1; text is borrowed. on_end comes once, last; the subscription is then gone. */
typedef void (*bxc_ev_fn)(const char *build, uint64_t seq, const char *text, void *ud);
typedef void (*bxc_ev_end_fn)(const char *build, void *ud);
bxc_ev_sub *bxc_ev_subscribe(bxc_ev *ev, const char *build, uint64_t after, bxc_ev_fn fn, bxc_ev_end_fn on_end, void *ud);
void bxc_ev_unsubscribe(bxc_ev_sub *s);
