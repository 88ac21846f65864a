/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: one thread that owns a daemon's mutable state.
 *
 * epoll underneath. Everything here is called on the loop's thread, except bxc_loop_post() and
 * bxc_loop_quit(), which any thread may call. No object frees itself inside its own callback:
 * the *_free functions of sources are safe there (the memory goes after the callback returns).
 */
#pragma once

#include <sys/epoll.h>

#include "common/base/cleanup.h"
#include "common/base/err.h"

typedef struct bxc_loop bxc_loop;
typedef struct bxc_loop_io bxc_loop_io;
typedef struct bxc_loop_timer bxc_loop_timer;

BXC_MUST_CHECK int bxc_loop_new(bxc_loop **ret, bxc_err **err);
void bxc_loop_free(bxc_loop *l); /* after run() has returned; runs nothing posted */
BXC_DEFINE_CLEANUP(bxc_loop, bxc_loop_free);

/* Runs until bxc_loop_quit(). Negative only when epoll itself fails. */
BXC_MUST_CHECK int bxc_loop_run(bxc_loop *l, bxc_err **err);
/* One turn: waits at most timeout_ms (-1: for ever) and dispatches. For tests. */
BXC_MUST_CHECK int bxc_loop_step(bxc_loop *l, int timeout_ms, bxc_err **err);
void bxc_loop_quit(bxc_loop *l); /* any thread */

/*
 * Queues fn(ud) to run on the loop's thread, in order of posting. Any thread. The queue holds at
 * most 65536 entries; a full queue blocks foreign threads until there is room and aborts when the
 * loop's own thread overfills it (a programming error).
 */
typedef void (*bxc_post_fn)(void *ud);
void bxc_loop_post(bxc_loop *l, bxc_post_fn fn, void *ud);
bool bxc_loop_is_own_thread(const bxc_loop *l); /* true also before run() */

/* fd is borrowed. events: EPOLLIN | EPOLLOUT; the callback gets what is ready. */
typedef void (*bxc_io_fn)(int fd, uint32_t events, void *ud);
BXC_MUST_CHECK int bxc_loop_io_new(bxc_loop *l, int fd, uint32_t events, bxc_io_fn fn, void *ud,
	bxc_loop_io **ret, bxc_err **err);
BXC_MUST_CHECK int bxc_loop_io_set(bxc_loop_io *io, uint32_t events, bxc_err **err);
void bxc_loop_io_free(bxc_loop_io *io);

/* One-shot timers; arm again inside the callback to repeat. */
typedef void (*bxc_timer_fn)(void *ud);
bxc_loop_timer *bxc_loop_timer_new(bxc_loop *l, bxc_timer_fn fn, void *ud); /* disarmed */
void bxc_loop_timer_arm(bxc_loop_timer *t, int64_t delay_ns); /* replaces a pending expiry */
void bxc_loop_timer_disarm(bxc_loop_timer *t);
void bxc_loop_timer_free(bxc_loop_timer *t);

/* Signals through signalfd. The signals must be blocked in main() before any thread starts
 * (bxc_sig_block_all in common/os/sig.h). */
typedef void (*bxc_signal_fn)(int signo, void *ud);
BXC_MUST_CHECK int bxc_loop_on_signal(
	bxc_loop *l, int signo, bxc_signal_fn fn, void *ud, bxc_err **err);
