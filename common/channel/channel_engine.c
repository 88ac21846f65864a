/* SPDX-License-Identifier: Apache-2.0 */
/* One thread for all channels of the process; it starts with the first and ends with the last. */
#include "common/channel/channel_internal.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define TICK_NS      (500 * BXC_NS_PER_MS)
#define TICKS_A_BEAT 4               /* at least: how exactly silence is measured */
#define POOL_THREADS 2u
#define POOL_QUEUE   65536u

static pthread_mutex_t engine_lock = PTHREAD_MUTEX_INITIALIZER;   /* protects the_engine and its refs */
static engine *the_engine;

static void on_tick(void *ud)
{
	engine *e = ud;
	int64_t now = bxc_clock_mono_ns(), next = TICK_NS;
	/* While this process was stopped it could hear nobody: that was not their silence. */
	int64_t asleep = now - e->tick_due_ns;
	for (size_t i = e->conns.n; i-- > 0;) {
		if (i >= e->conns.n)
			continue;
		conn *c = e->conns.v[i];
		if (asleep > c->heartbeat_ns)
			c->heard_ns = BXC_MIN(now, c->heard_ns + asleep);
		next = BXC_MIN(next, c->heartbeat_ns / TICKS_A_BEAT);
		conn_tick(c, now);
	}
	e->tick_due_ns = now + next;
	bxc_loop_timer_arm(e->tick, next);
}

void engine_tick_soon(engine *e, int64_t heartbeat_ns)
{
	int64_t delay = heartbeat_ns / TICKS_A_BEAT;
	int64_t due = bxc_clock_mono_ns() + delay;
	if (due >= e->tick_due_ns)
		return;
	e->tick_due_ns = due;
	bxc_loop_timer_arm(e->tick, delay);
}

static void *engine_thread(void *ud)
{
	engine *e = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_loop_run(e->loop, &err) < 0)
		bxc_log_err(BXC_LOG_ERROR, "channel.engine_failed", err, NULL);
	return NULL;
}

static void arm_first(void *ud)
{
	engine *e = ud;
	e->tick = bxc_loop_timer_new(e->loop, on_tick, e);
	e->tick_due_ns = bxc_clock_mono_ns() + TICK_NS;
	bxc_loop_timer_arm(e->tick, TICK_NS);
}

int engine_get(engine **ret, bxc_err **err)
{
	int r = 0;
	pthread_mutex_lock(&engine_lock);
	if (!the_engine) {
		engine *e = bxc_calloc(1, sizeof(*e));
		r = bxc_loop_new(&e->loop, err);
		if (r >= 0)
			r = bxc_pool_new("channel", POOL_THREADS, POOL_QUEUE, &e->pool, err);
		if (r >= 0 && pthread_create(&e->thread, NULL, engine_thread, e) != 0)
			r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "no thread for channels");
		if (r >= 0) {
			bxc_loop_post(e->loop, arm_first, e);
			the_engine = e;
		} else {
			bxc_pool_free(e->pool);
			bxc_loop_free(e->loop);
			free(e);
		}
	}
	if (r >= 0) {
		the_engine->refs++;
		*ret = the_engine;
	}
	pthread_mutex_unlock(&engine_lock);
	return r;
}

struct drain {
	engine *e;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
};

static void drain(void *ud)
{
	struct drain *d = ud;
	while (d->e->conns.n) {
		conn *c = d->e->conns.v[d->e->conns.n - 1];
		c->closing = true;
		impl_close(c);
	}
	pthread_mutex_lock(&d->lock);
	d->done = true;
	pthread_cond_signal(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

static void quit(void *ud)
{
	engine *e = ud;
	bxc_loop_timer_free(e->tick);
	bxc_loop_quit(e->loop);
}

void engine_put(engine *e)
{
	pthread_mutex_lock(&engine_lock);
	bool last = --e->refs == 0;
	if (last)
		the_engine = NULL;
	pthread_mutex_unlock(&engine_lock);
	if (!last)
		return;
	struct drain d = {e, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
	bxc_loop_post(e->loop, drain, &d);
	pthread_mutex_lock(&d.lock);
	while (!d.done)
		pthread_cond_wait(&d.changed, &d.lock);
	pthread_mutex_unlock(&d.lock);
	/* Teardown jobs post to the loop when they are done: pool first, then the loop once more. */
	bxc_pool_stop(e->pool);
	bxc_loop_post(e->loop, quit, e);
	pthread_join(e->thread, NULL);
	bxc_pool_free(e->pool);
	bxc_loop_free(e->loop);
	bxc_arr_done(&e->conns);
	free(e);
}
