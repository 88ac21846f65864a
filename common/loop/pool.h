/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded pools of threads for work that blocks, and the token that cancels it.
 */
#pragma once

#include "common/base/cleanup.h"
#include "common/base/err.h"
#include "common/loop/loop.h"

/* ---- cancellation: reference-counted, any thread ---- */
typedef struct bxc_cancel bxc_cancel;
bxc_cancel *bxc_cancel_new(void);
bxc_cancel *bxc_cancel_ref(bxc_cancel *c); /* NULL for NULL */
void bxc_cancel_unref(bxc_cancel *c);
BXC_DEFINE_CLEANUP(bxc_cancel, bxc_cancel_unref);
void bxc_cancel_fire(bxc_cancel *c);	       /* idempotent; runs the hooks once, on this thread */
bool bxc_cancel_is_fired(const bxc_cancel *c); /* NULL: false */
/* -BXC_CANCELED once fired, else 0. NULL: 0. */
BXC_MUST_CHECK int bxc_cancel_check(const bxc_cancel *c, bxc_err **err);
/* An eventfd that becomes readable when fired; borrowed, valid while referenced. -1 for NULL. */
int bxc_cancel_fd(bxc_cancel *c);
/* fn(ud) runs when fired (at once if it already is); returns an id for unhook. Hooks must not
 * block. After unhook returns the hook does not run any more (it waits for a running one). */
uint64_t bxc_cancel_hook(bxc_cancel *c, void (*fn)(void *ud), void *ud);
void bxc_cancel_unhook(bxc_cancel *c, uint64_t id);

/* ---- pools ---- */
typedef struct bxc_pool bxc_pool;
/* queue_max: entries that may wait; submit beyond it is refused with BXC_RESOURCE_EXHAUSTED. */
BXC_MUST_CHECK int bxc_pool_new(
	const char *name, unsigned threads, unsigned queue_max, bxc_pool **ret, bxc_err **err);
/* work(ud) runs on a pool thread; then done(ud), if not NULL, is posted to `loop`. */
BXC_MUST_CHECK int bxc_pool_submit(bxc_pool *p, void (*work)(void *ud), bxc_loop *loop,
	bxc_post_fn done, void *ud, bxc_err **err);
void bxc_pool_stop(bxc_pool *p); /* refuses new work, runs what waits, joins */
void bxc_pool_free(bxc_pool *p); /* stops if needed */
BXC_DEFINE_CLEANUP(bxc_pool, bxc_pool_free);
