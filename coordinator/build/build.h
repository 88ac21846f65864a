/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: it takes build requests and drives them to their end. Module prefix: bxc_build.
 * Ties the pure parts (dockerfile, solver, scheduler) to the world: store, sessions, workers,
 * registries. Everything is of the loop; blocking work goes to the pool given.
 *
 * What is durable when: a build answered with an id is in the store; an event a subscriber saw is
 * recorded; a cache key is linked after its result was committed on a worker.
 */
#pragma once

#include "common/cas/cas.h"
#include "common/http/http.h"
#include "common/loop/pool.h"
#include "common/registry/registry.h"
#include "coordinator/db/db.h"
#include "coordinator/events/events.h"
#include "coordinator/session/session.h"
#include "coordinator/workers/workers.h"

typedef struct bxc_build bxc_build;

typedef struct bxc_build_config {
	bxc_loop *loop;
	bxc_pool *pool;              /* blocking work: registry, sessions, checksums */
	bxc_db *db;
	bxc_ev *events;
	bxc_wrk *workers;
	bxc_sess *sessions;
	bxc_blob_store *blobs;       /* context trees and packs, given to workers on request */
	bxc_http_client *http;
	const bxc_reg_host *hosts;   /* how registries are reached */
	size_t n_hosts;
	int64_t peer_grace_ns;       /* how long workers and clients of an earlier run are awaited */
	char *const *entitlements;   /* strv: what a build may be granted; NULL: nothing */
	const char *cluster;         /* its name, kept in the store; NULL: none */
	int64_t quarantine_ns;       /* how long no build may run a step that took workers down */
	int64_t step_timeout_ns;     /* how long the command of a step may run; 0: for ever */
	int64_t no_worker_grace_ns;  /* how long a step waits for a worker of its platform to appear */
} bxc_build_config;

bxc_build *bxc_build_new(const bxc_build_config *c);         /* the config's objects are borrowed and must outlive it */
void bxc_build_free(bxc_build *e);                           /* after the pool has stopped */
BXC_DEFINE_CLEANUP(bxc_build, bxc_build_free);

/*
 * Builds left running by a coordinator that died go on: once the workers that were connected then
 * and the build's client are back, or after the grace. Before the loop runs.
 */
BXC_MUST_CHECK int bxc_build_recover(bxc_build *e, bxc_err **err);

/*
 * Takes a request (owned). `done` comes on the loop: with the id once the build is recorded, or
 * with an error that names the field.
 */
typedef void (*bxc_build_taken)(const char *id, bxc_err *err_take, void *ud);
void bxc_build_submit(bxc_build *e, bxc_json *request_take, bxc_build_taken done, void *ud);
void bxc_build_cancel(bxc_build *e, const char *id);         /* idempotent; unknown ids are ignored */
/*
 * What workers keep (wish NULL), or what went of it: `wish` as the body of POST /v1/prune. `done` comes
 * later, with an answer to own ({"workers":[{"name","items":[ITEM],"error"?}]}) or an error to own.
 */
typedef void (*bxc_build_usage_done)(bxc_json *answer_take, bxc_err *err_take, void *ud);
void bxc_build_usage(bxc_build *e, const bxc_json *wish, bxc_build_usage_done done, void *ud);
/* [{"name","reason","since_ns"}] of the steps of a live build that wait for a worker; owned, NULL: none does. */
bxc_json *bxc_build_waiting(bxc_build *e, const char *id);
size_t bxc_build_n_live(const bxc_build *e);
/* When the oldest of them began, wall clock; INT64_MAX: there is none. */
int64_t bxc_build_oldest_ns(const bxc_build *e);
/* A worker has begun to send the client an output of a live build. */
void bxc_build_export_sent(bxc_build *e, const char *id, uint64_t index);
/*
 * The session a live build belongs to, as a new reference; NULL: none. A build that has ended while
 * its task runs on for others is stood in for by one of those; task: may be NULL.
 */
bxc_sess_ref *bxc_build_session(bxc_build *e, const char *id, const char *task);

/*
 * Why the steps of a build were executed, or who made what was found: {"build","steps":[...],"next"?}
 * as PROTOCOL.md has it; owned. `step`: only that one, 0: all; `after`: what `next` told, NULL: from
 * the first. On the thread of the store. NOT_FOUND: no such build or step.
 */
BXC_MUST_CHECK int bxc_build_why(bxc_state *st, const char *id, uint64_t step, const char *after, bxc_json **ret, bxc_err **err);

/* ---- told by link ---- */
void bxc_build_worker_joined(bxc_build *e, bxc_wrk_worker *w, const bxc_json *hello);
/* Before the worker is removed from the table. */
void bxc_build_worker_left(bxc_build *e, bxc_wrk_worker *w);
/* Any task.* or layer.* message. INVALID_ARGUMENT: the worker speaks nonsense. */
BXC_MUST_CHECK int bxc_build_worker_message(bxc_build *e, bxc_wrk_worker *w, const char *type, const bxc_json *msg, bxc_err **err);
/*
 * An operator wants the worker to get no more tasks, or the contrary. Remembered by its name, over
 * restarts of either; `done` comes on the loop once that is recorded. NOT_FOUND: no worker of this
 * name is connected or drained.
 */
typedef void (*bxc_build_drained)(bxc_err *err_take, void *ud);
void bxc_build_worker_drain(bxc_build *e, const char *name, bool drain, bxc_build_drained done, void *ud);
/* Names of drained workers, connected or not; borrowed strv, NULL: none. */
char *const *bxc_build_drained_workers(const bxc_build *e);
void bxc_build_session_left(bxc_build *e, const char *session);
/* The client of a build of an earlier run is back with this session; no-op when the build has another one. */
void bxc_build_session_back(bxc_build *e, const char *id, const char *session);
/* The program ends: peers that leave from now on have not left their builds, which go on after the next start. */
void bxc_build_stop(bxc_build *e);
