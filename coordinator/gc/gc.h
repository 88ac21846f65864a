/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the coordinator keeps, within bounds: the history of builds, and blobs of contexts. Module
 * prefix: bxc_cgc. Loop only; the work is done on the pool and on the database thread.
 *
 * A run begins soon after the start and then now and then. Nothing of a build that runs goes.
 */
#pragma once

#include "common/cas/cas.h"
#include "common/loop/pool.h"
#include "coordinator/db/db.h"

typedef struct bxc_cgc_policy {
	int64_t history_keep_ns;     /* builds that ended within that time are kept, */
	uint64_t history_max;	     /* and the newest of any age */
	int64_t blobs_keep_ns;	     /* blobs that were not used for that long go; 0: their age does not matter */
	uint64_t blobs_max_used;     /* bytes; beyond it those that were used least recently go; 0: any number */
} bxc_cgc_policy;

/* Blobs that were used later than this stay whatever the policy says: a build may have found them. */
#define BXC_CGC_IN_USE_NS INT64_C(3600000000000)

typedef struct bxc_cgc_config {
	bxc_loop *loop;
	bxc_pool *pool;
	bxc_db *db;
	bxc_blob_store *blobs;
	/* When the oldest build that runs began; INT64_MAX: none does. */
	int64_t (*oldest_build_ns)(void *ud);
	void *ud;
	bxc_cgc_policy policy;
} bxc_cgc_config;

typedef struct bxc_cgc bxc_cgc;
/* Borrows what the config names. */
bxc_cgc *bxc_cgc_new(const bxc_cgc_config *c);
/* Call it when pool and database have ended. */
void bxc_cgc_free(bxc_cgc *g);

/* Which of `all` go; sorts them, puts those first, and returns their number. `now_ns` is wall clock; what was used at or after `in_use_ns` stays. */
size_t bxc_cgc_choose(const bxc_cgc_policy *p, bxc_blob_info *all, size_t n, int64_t now_ns, int64_t in_use_ns);
/* Deletes builds that the policy lets go, at most `max`; *ret: how many. */
BXC_MUST_CHECK int bxc_cgc_trim_history(
	bxc_state *st, const bxc_cgc_policy *p, int64_t now_ns, size_t max, size_t *ret, bxc_err **err);
