/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "common/loop/pool.h"

struct fixture {
	bxc_loop *loop;
	bxc_pool *pool;
	_Atomic unsigned worked;
	unsigned done; /* loop's thread only */
	unsigned want;
	sem_t started;
	sem_t go_on;
};

static void open_fixture(struct fixture *f, unsigned threads, unsigned queue_max)
{
	BXC_AUTOERR bxc_err *err = NULL;
	memset(f, 0, sizeof(*f));
	assert_ok(bxc_loop_new(&f->loop, &err), err);
	assert_ok(bxc_pool_new("test-pool-with-a-long-name", threads, queue_max, &f->pool, &err),
		err);
	sem_init(&f->started, 0, 0);
	sem_init(&f->go_on, 0, 0);
}

static void close_fixture(struct fixture *f)
{
	bxc_pool_free(f->pool);
	bxc_loop_free(f->loop);
	sem_destroy(&f->started);
	sem_destroy(&f->go_on);
}

static void work(void *ud)
{
	struct fixture *f = ud;
	assert_false(bxc_loop_is_own_thread(f->loop));
	atomic_fetch_add(&f->worked, 1);
}

static void work_until_told(void *ud)
{
	struct fixture *f = ud;
	sem_post(&f->started);
	sem_wait(&f->go_on);
	atomic_fetch_add(&f->worked, 1);
}

static void on_done(void *ud)
{
	struct fixture *f = ud;
	assert_true(bxc_loop_is_own_thread(f->loop));
	if (++f->done == f->want)
		bxc_loop_quit(f->loop);
}

static void work_is_done_and_reported_on_the_loop(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct fixture f;
	open_fixture(&f, 3, 1000);
	f.want = 500;
	for (unsigned i = 0; i < f.want; i++)
		assert_ok(bxc_pool_submit(f.pool, work, f.loop, on_done, &f, &err), err);
	assert_ok(bxc_loop_run(f.loop, &err), err);
	assert_int_equal(f.done, 500);
	assert_int_equal(atomic_load(&f.worked), 500);
	close_fixture(&f);
}

static void a_full_queue_refuses_work(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct fixture f;
	open_fixture(&f, 1, 2);
	assert_ok(bxc_pool_submit(f.pool, work_until_told, NULL, NULL, &f, &err), err);
	sem_wait(&f.started);
	assert_ok(bxc_pool_submit(f.pool, work, NULL, NULL, &f, &err), err);
	assert_ok(bxc_pool_submit(f.pool, work, NULL, NULL, &f, &err), err);
	assert_err(
		bxc_pool_submit(f.pool, work, NULL, NULL, &f, &err), BXC_RESOURCE_EXHAUSTED, err);
	sem_post(&f.go_on);
	/* What was accepted still runs. */
	bxc_pool_stop(f.pool);
	assert_int_equal(atomic_load(&f.worked), 3);
	assert_err(
		bxc_pool_submit(f.pool, work, NULL, NULL, &f, &err), BXC_FAILED_PRECONDITION, err);
	close_fixture(&f);
}

static void a_pool_without_a_queue_takes_work_for_idle_threads_only(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct fixture f;
	open_fixture(&f, 2, 0);
	for (unsigned i = 0; i < 2; i++)
		assert_ok(bxc_pool_submit(f.pool, work_until_told, NULL, NULL, &f, &err), err);
	assert_err(
		bxc_pool_submit(f.pool, work, NULL, NULL, &f, &err), BXC_RESOURCE_EXHAUSTED, err);
	sem_post(&f.go_on);
	sem_post(&f.go_on);
	close_fixture(&f);
}

static void stopping_on_the_loops_thread_leaves_the_reports_in_its_queue(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct fixture f;
	open_fixture(&f, 2, 100000);
	f.want = UINT32_MAX;
	/* More than the loop's queue holds: must not block the pool's threads. */
	for (unsigned i = 0; i < 70000; i++)
		assert_ok(bxc_pool_submit(f.pool, work, f.loop, on_done, &f, &err), err);
	bxc_pool_stop(f.pool);
	assert_ok(bxc_loop_step(f.loop, 0, &err), err);
	assert_int_equal(f.done, 70000);
	close_fixture(&f);
}

static void a_pool_needs_a_sane_number_of_threads(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_pool *p = NULL;
	assert_err(bxc_pool_new("x", 0, 1, &p, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_pool_new("x", 1u << 20, 1, &p, &err), BXC_INVALID_ARGUMENT, err);
}

/* ---- cancellation ---- */

static void count(void *ud)
{
	++*(unsigned *)ud;
}

static void hooks_run_once_when_fired(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_cancel_unrefp) bxc_cancel *c = bxc_cancel_new();
	unsigned a = 0, b = 0, late = 0;
	(void)bxc_cancel_hook(c, count, &a);
	uint64_t id = bxc_cancel_hook(c, count, &b);
	bxc_cancel_unhook(c, id);
	assert_int_equal(bxc_cancel_check(c, NULL), 0);
	bxc_cancel_fire(c);
	bxc_cancel_fire(c);
	(void)bxc_cancel_hook(c, count, &late);
	assert_int_equal(a, 1);
	assert_int_equal(b, 0);
	assert_int_equal(late, 1);
	BXC_AUTOERR bxc_err *err = NULL;
	assert_err(bxc_cancel_check(c, &err), BXC_CANCELED, err);
}

static void the_descriptor_becomes_readable(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_cancel_unrefp) bxc_cancel *c = bxc_cancel_new();
	struct pollfd p = {bxc_cancel_fd(c), POLLIN, 0};
	assert_int_equal(poll(&p, 1, 0), 0);
	bxc_cancel_fire(c);
	assert_int_equal(poll(&p, 1, 0), 1);
	/* Also when it is asked for afterwards. */
	BXC_CLEANUP(bxc_cancel_unrefp) bxc_cancel *d = bxc_cancel_new();
	bxc_cancel_fire(d);
	p.fd = bxc_cancel_fd(d);
	assert_int_equal(poll(&p, 1, 0), 1);
}

static void no_token_is_never_fired(void **state)
{
	(void)state;
	assert_false(bxc_cancel_is_fired(NULL));
	assert_int_equal(bxc_cancel_check(NULL, NULL), 0);
	assert_int_equal(bxc_cancel_fd(NULL), -1);
	assert_null(bxc_cancel_ref(NULL));
	bxc_cancel_unhook(NULL, bxc_cancel_hook(NULL, count, NULL));
	bxc_cancel_fire(NULL);
}

struct slow_hook {
	bxc_cancel *c;
	uint64_t id;
	sem_t entered;
	sem_t go_on;
	unsigned ended; /* not atomic: unhook must order the accesses */
};

static void slow_hook(void *ud)
{
	struct slow_hook *s = ud;
	sem_post(&s->entered);
	sem_wait(&s->go_on);
	s->ended = 1;
}

static void *fire_main(void *ud)
{
	struct slow_hook *s = ud;
	bxc_cancel_fire(s->c);
	return NULL;
}

static void unhook_waits_for_a_running_hook(void **state)
{
	(void)state;
	struct slow_hook s = {.c = bxc_cancel_new()};
	sem_init(&s.entered, 0, 0);
	sem_init(&s.go_on, 0, 0);
	s.id = bxc_cancel_hook(s.c, slow_hook, &s);
	pthread_t t;
	assert_int_equal(pthread_create(&t, NULL, fire_main, &s), 0);
	sem_wait(&s.entered);
	sem_post(&s.go_on);
	bxc_cancel_unhook(s.c, s.id);
	assert_int_equal(s.ended, 1);
	pthread_join(t, NULL);
	bxc_cancel_unref(s.c);
	sem_destroy(&s.entered);
	sem_destroy(&s.go_on);
}

static void hook_that_leaves(void *ud)
{
	struct slow_hook *s = ud;
	bxc_cancel_unhook(s->c, s->id);
	bxc_cancel_unref(s->c);
	s->ended++;
}

static void a_hook_may_unhook_itself_and_drop_the_token(void **state)
{
	(void)state;
	struct slow_hook s = {.c = bxc_cancel_new()};
	s.id = bxc_cancel_hook(s.c, hook_that_leaves, &s);
	bxc_cancel_fire(s.c);
	assert_int_equal(s.ended, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(work_is_done_and_reported_on_the_loop),
		cmocka_unit_test(a_full_queue_refuses_work),
		cmocka_unit_test(a_pool_without_a_queue_takes_work_for_idle_threads_only),
		cmocka_unit_test(stopping_on_the_loops_thread_leaves_the_reports_in_its_queue),
		cmocka_unit_test(a_pool_needs_a_sane_number_of_threads),
		cmocka_unit_test(hooks_run_once_when_fired),
		cmocka_unit_test(the_descriptor_becomes_readable),
		cmocka_unit_test(no_token_is_never_fired),
		cmocka_unit_test(unhook_waits_for_a_running_hook),
		cmocka_unit_test(a_hook_may_unhook_itself_and_drop_the_token),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
