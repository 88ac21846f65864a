/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "common/base/arr.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/loop/loop.h"
#include "common/os/sig.h"

static bxc_loop *new_loop(void)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_loop *l = NULL;
	assert_ok(bxc_loop_new(&l, &err), err);
	return l;
}

static void run(bxc_loop *l)
{
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_loop_run(l, &err), err);
}

/* ---- timers ---- */

struct tick {
	bxc_loop *loop;
	bxc_buf *out;
	char c;
	bool quit;
	bool free_self;
	bxc_loop_timer *timer;
	unsigned again;
};

static void on_tick(void *ud)
{
	struct tick *t = ud;
	bxc_buf_addc(t->out, t->c);
	if (t->again) {
		t->again--;
		bxc_loop_timer_arm(t->timer, 0);
	} else if (t->free_self) {
		bxc_loop_timer_free(BXC_TAKE(t->timer));
	}
	if (t->quit)
		bxc_loop_quit(t->loop);
}

static void timers_fire_in_order_of_their_deadlines(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = new_loop();
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(64);
	struct tick t[5];
	for (size_t i = 0; i < 5; i++) {
		t[i] = (struct tick){.loop = l, .out = &out, .c = (char)('a' + i)};
		t[i].timer = bxc_loop_timer_new(l, on_tick, &t[i]);
	}
	t[3].quit = true;
	int64_t start_ns = bxc_clock_mono_ns();
	bxc_loop_timer_arm(t[4].timer, INT64_MAX);
	bxc_loop_timer_arm(t[3].timer, 6 * BXC_NS_PER_MS);
	bxc_loop_timer_arm(t[2].timer, 1 * BXC_NS_PER_MS);
	bxc_loop_timer_arm(t[1].timer, 3 * BXC_NS_PER_MS);
	bxc_loop_timer_arm(t[0].timer, 2 * BXC_NS_PER_MS);
	bxc_loop_timer_arm(t[2].timer, 4 * BXC_NS_PER_MS); /* replaces the first */
	bxc_loop_timer_disarm(t[1].timer);
	run(l);
	assert_true(bxc_clock_mono_ns() - start_ns >= 6 * BXC_NS_PER_MS);
	assert_string_equal(bxc_buf_text(&out), "acd");
	for (size_t i = 0; i < 5; i++)
		bxc_loop_timer_free(t[i].timer);
}

static void timers_armed_together_fire_in_order_of_arming(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = new_loop();
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(4096);
	BXC_AUTOBUF bxc_buf want = BXC_BUF_INIT(4096);
	struct tick t[64];
	for (size_t i = 0; i < 64; i++) {
		t[i] = (struct tick){.loop = l, .out = &out, .c = (char)(' ' + i), .quit = i == 63};
		t[i].timer = bxc_loop_timer_new(l, on_tick, &t[i]);
		bxc_loop_timer_arm(t[i].timer, 0);
		bxc_buf_addc(&want, t[i].c);
	}
	run(l);
	assert_string_equal(bxc_buf_text(&out), bxc_buf_text(&want));
	for (size_t i = 0; i < 64; i++)
		bxc_loop_timer_free(t[i].timer);
}

static void a_timer_may_free_itself_and_rearm_without_starving_others(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = new_loop();
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(64);
	BXC_AUTOERR bxc_err *err = NULL;
	struct tick t = {.loop = l, .out = &out, .c = 'x', .again = 2, .free_self = true};
	t.timer = bxc_loop_timer_new(l, on_tick, &t);
	bxc_loop_timer_arm(t.timer, 0);
	assert_ok(bxc_loop_step(l, 0, &err), err);
	assert_string_equal(bxc_buf_text(&out), "x");
	assert_ok(bxc_loop_step(l, 0, &err), err);
	assert_ok(bxc_loop_step(l, 0, &err), err);
	assert_string_equal(bxc_buf_text(&out), "xxx");
	assert_null(t.timer);
	assert_ok(bxc_loop_step(l, 0, &err), err);
	assert_string_equal(bxc_buf_text(&out), "xxx");
}

static void the_timer_heap_survives_random_use(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = new_loop();
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(4096);
	struct tick t[200];
	uint32_t x = 12345;
	for (size_t i = 0; i < 200; i++) {
		t[i] = (struct tick){.loop = l, .out = &out, .c = '.'};
		t[i].timer = bxc_loop_timer_new(l, on_tick, &t[i]);
	}
	for (size_t i = 0; i < 4000; i++) {
		x = x * 1664525u + 1013904223u;
		bxc_loop_timer *timer = t[(x >> 8) % 200].timer;
		if (x >> 31)
			bxc_loop_timer_arm(timer, (int64_t)(x % 1000) * 1000);
		else
			bxc_loop_timer_disarm(timer);
	}
	for (size_t i = 0; i < 200; i++)
		bxc_loop_timer_arm(t[i].timer, (int64_t)(199 - i) * 1000);
	struct tick last = {.loop = l, .out = &out, .c = '!', .quit = true};
	last.timer = bxc_loop_timer_new(l, on_tick, &last);
	bxc_loop_timer_arm(last.timer, 2 * BXC_NS_PER_MS);
	run(l);
	assert_int_equal(out.len, 201);
	assert_int_equal(out.data[200], '!');
	for (size_t i = 0; i < 200; i++)
		bxc_loop_timer_free(t[i].timer);
	bxc_loop_timer_free(last.timer);
}

/* ---- descriptors ---- */

struct pair {
	bxc_loop *loop;
	int fd[2];
	bxc_loop_io *io[2];
	unsigned calls;
};

static void open_pair(struct pair *p, bxc_loop *l)
{
	*p = (struct pair){.loop = l};
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p->fd), 0);
}

static void close_pair(struct pair *p)
{
	bxc_loop_io_free(p->io[0]);
	bxc_loop_io_free(p->io[1]);
	close(p->fd[0]);
	close(p->fd[1]);
}

static void on_ready_free_both(int fd, uint32_t events, void *ud)
{
	struct pair *p = ud;
	(void)fd;
	assert_true(events & EPOLLIN);
	p->calls++;
	bxc_loop_io_free(BXC_TAKE(p->io[0]));
	bxc_loop_io_free(BXC_TAKE(p->io[1]));
}

static void sources_freed_in_a_callback_are_not_called_again(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = new_loop();
	BXC_AUTOERR bxc_err *err = NULL;
	struct pair p;
	open_pair(&p, l);
	for (size_t i = 0; i < 2; i++)
		assert_ok(bxc_loop_io_new(
				  l, p.fd[i], EPOLLIN, on_ready_free_both, &p, &p.io[i], &err),
			err);
	assert_int_equal(write(p.fd[0], "x", 1), 1);
	assert_int_equal(write(p.fd[1], "x", 1), 1);
	/* Both are ready in one turn; the first callback frees both. */
	assert_ok(bxc_loop_step(l, 1000, &err), err);
	assert_ok(bxc_loop_step(l, 0, &err), err);
	assert_int_equal(p.calls, 1);
	close_pair(&p);
}

static void on_ready_count(int fd, uint32_t events, void *ud)
{
	struct pair *p = ud;
	(void)fd;
	(void)events;
	p->calls++;
}

static void a_source_that_waits_for_nothing_is_not_called(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = new_loop();
	BXC_AUTOERR bxc_err *err = NULL;
	struct pair p;
	open_pair(&p, l);
	assert_ok(
		bxc_loop_io_new(l, p.fd[0], EPOLLIN | EPOLLOUT, on_ready_count, &p, &p.io[0], &err),
		err);
	assert_ok(bxc_loop_step(l, 1000, &err), err);
	assert_int_equal(p.calls, 1);
	assert_ok(bxc_loop_io_set(p.io[0], 0, &err), err);
	/* A hang-up, which epoll reports whatever one asks for. */
	assert_int_equal(shutdown(p.fd[1], SHUT_RDWR), 0);
	assert_ok(bxc_loop_step(l, 0, &err), err);
	assert_int_equal(p.calls, 1);
	assert_ok(bxc_loop_io_set(p.io[0], EPOLLIN, &err), err);
	assert_ok(bxc_loop_step(l, 1000, &err), err);
	assert_int_equal(p.calls, 2);
	close_pair(&p);
}

static void a_descriptor_that_cannot_be_watched_is_an_error(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = new_loop();
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_loop_io *io = NULL;
	assert_err(bxc_loop_io_new(l, 1 << 20, EPOLLIN, on_ready_count, NULL, &io, &err),
		BXC_INTERNAL, err);
	assert_null(io);
}

/* ---- posts ---- */

struct poster {
	bxc_loop *loop;
	unsigned id;
	unsigned n;
	unsigned *seen; /* by the loop's thread only */
	unsigned *total;
	unsigned want;
};

struct posted {
	struct poster *poster;
	unsigned seq;
};

static void on_posted(void *ud)
{
	BXC_AUTOFREE struct posted *m = ud;
	struct poster *p = m->poster;
	assert_true(bxc_loop_is_own_thread(p->loop));
	assert_int_equal(m->seq, p->seen[p->id]);
	p->seen[p->id]++;
	if (++*p->total == p->want)
		bxc_loop_quit(p->loop);
}

static void *poster_main(void *ud)
{
	struct poster *p = ud;
	for (unsigned i = 0; i < p->n; i++) {
		struct posted *m = bxc_malloc(sizeof(*m));
		*m = (struct posted){p, i};
		bxc_loop_post(p->loop, on_posted, m);
	}
	return NULL;
}

static void posts_of_many_threads_arrive_once_and_in_order(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = new_loop();
	/* More than the queue holds, so that producers have to wait for room. */
	enum { N_THREADS = 4, N_POSTS = 40000 };
	unsigned seen[N_THREADS] = {0}, total = 0;
	struct poster p[N_THREADS];
	pthread_t threads[N_THREADS];
	for (unsigned i = 0; i < N_THREADS; i++) {
		p[i] = (struct poster){l, i, N_POSTS, seen, &total, N_THREADS * N_POSTS};
		assert_int_equal(pthread_create(&threads[i], NULL, poster_main, &p[i]), 0);
	}
	run(l);
	for (unsigned i = 0; i < N_THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(seen[i], N_POSTS);
	}
}

static void on_post_again(void *ud)
{
	struct pair *p = ud;
	if (++p->calls < 3)
		bxc_loop_post(p->loop, on_post_again, p);
}

static void what_a_post_posts_runs_in_the_next_turn(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = new_loop();
	BXC_AUTOERR bxc_err *err = NULL;
	struct pair p = {.loop = l};
	assert_true(bxc_loop_is_own_thread(l));
	bxc_loop_post(l, on_post_again, &p);
	for (unsigned i = 1; i <= 4; i++) {
		assert_ok(bxc_loop_step(l, 0, &err), err);
		assert_int_equal(p.calls, BXC_MIN(i, 3u));
	}
}

static void a_quit_before_the_run_ends_it_at_once(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = new_loop();
	bxc_loop_quit(l);
	run(l);
}

/* ---- signals ---- */

struct signals {
	bxc_loop *loop;
	BXC_ARR(int) seen;
};

static void on_signal(int signo, void *ud)
{
	struct signals *s = ud;
	*bxc_arr_push(&s->seen) = signo;
	if (s->seen.n == 2)
		bxc_loop_quit(s->loop);
}

static void signals_arrive_on_the_loop(void **state)
{
	(void)state;
	sigset_t before;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	bxc_sig_block_all();
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = new_loop();
	BXC_AUTOERR bxc_err *err = NULL;
	struct signals s = {.loop = l};
	assert_ok(bxc_loop_on_signal(l, SIGUSR1, on_signal, &s, &err), err);
	assert_ok(bxc_loop_on_signal(l, SIGTERM, on_signal, &s, &err), err);
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGTERM);
	run(l);
	assert_int_equal(s.seen.n, 2);
	assert_true(s.seen.v[0] != s.seen.v[1]);
	assert_true(s.seen.v[0] == SIGUSR1 || s.seen.v[0] == SIGTERM);
	bxc_arr_done(&s.seen);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers_fire_in_order_of_their_deadlines),
		cmocka_unit_test(timers_armed_together_fire_in_order_of_arming),
		cmocka_unit_test(a_timer_may_free_itself_and_rearm_without_starving_others),
		cmocka_unit_test(the_timer_heap_survives_random_use),
		cmocka_unit_test(sources_freed_in_a_callback_are_not_called_again),
		cmocka_unit_test(a_source_that_waits_for_nothing_is_not_called),
		cmocka_unit_test(a_descriptor_that_cannot_be_watched_is_an_error),
		cmocka_unit_test(posts_of_many_threads_arrive_once_and_in_order),
		cmocka_unit_test(what_a_post_posts_runs_in_the_next_turn),
		cmocka_unit_test(a_quit_before_the_run_ends_it_at_once),
		cmocka_unit_test(signals_arrive_on_the_loop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
