/* SPDX-License-Identifier: Apache-2.0 */
#include "common/loop/loop_internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include "common/base/arr.h"
#include "common/base/clock.h"
#include "common/base/heap.h"
#include "common/base/mem.h"

#define POST_MAX    65536u
#define BATCH_MAX   64
#define SIGNALS_MAX 65

struct bxc_loop_io {
	bxc_loop *loop;
	int fd;
	uint32_t events; /* 0: not with epoll at all, as hang-ups would spin */
	bool dead;	 /* freed by its user; the memory goes after the turn */
	bxc_io_fn fn;
	void *ud;
	bxc_loop_io *next_dead;
};

struct bxc_loop_timer {
	bxc_loop *loop;
	bxc_timer_fn fn;
	void *ud;
	int64_t deadline_ns;
	uint64_t seq;	 /* order of arming: ties run in that order */
	size_t heap_at;	 /* in bxc_loop.timers while armed */
};

struct post {
	bxc_post_fn fn;
	void *ud;
};
typedef BXC_ARR(struct post) post_arr;

struct bxc_loop {
	int epoll_fd;
	_Atomic(const void *) owner; /* address of the owner's thread_tag */
	bool in_turn;

	bxc_heap timers; /* armed ones, earliest first */
	uint64_t timer_seq;

	bxc_loop_io *dead;

	int wake_fd;
	bxc_loop_io *wake_io;
	pthread_mutex_t
		post_lock; /* protects quit and posts; leaf: nothing is called while it is held */
	bool quit;
	pthread_cond_t post_room;
	post_arr posts;
	post_arr running_posts; /* of the loop's thread: the batch that is being run */

	int signal_fd;
	bxc_loop_io *signal_io;
	sigset_t signals;
	struct {
		bxc_signal_fn fn;
		void *ud;
	} on_signal[SIGNALS_MAX];
};

static _Thread_local char thread_tag;

static void on_wake(int fd, uint32_t events, void *ud)
{
	(void)events;
	(void)ud;
	uint64_t n;
	/* Only resets the counter; the queue itself is looked at in every turn. */
	bxc_ignore(read(fd, &n, sizeof(n)));
}

static bool timer_before(const void *x, const void *y)
{
	const bxc_loop_timer *a = x, *b = y;
	return a->deadline_ns < b->deadline_ns ||
	       (a->deadline_ns == b->deadline_ns && a->seq < b->seq);
}

static size_t *timer_at(void *item)
{
	return &((bxc_loop_timer *)item)->heap_at;
}

int bxc_loop_new(bxc_loop **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_loop_freep) bxc_loop *l = bxc_calloc(1, sizeof(*l));
	l->epoll_fd = l->wake_fd = l->signal_fd = -1;
	atomic_init(&l->owner, &thread_tag);
	l->timers = (bxc_heap){.before = timer_before, .at = timer_at};
	sigemptyset(&l->signals);
	bxc_check(pthread_mutex_init(&l->post_lock, NULL) == 0);
	bxc_check(pthread_cond_init(&l->post_room, NULL) == 0);

	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0)
		return bxc_err_errno(err, errno, "epoll_create");
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0)
		return bxc_err_errno(err, errno, "eventfd");
	int r = bxc_loop_io_new(l, l->wake_fd, EPOLLIN, on_wake, l, &l->wake_io, err);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(l);
	return 0;
}

void bxc_loop_free(bxc_loop *l)
{
	if (!l)
		return;
	bxc_check(!l->in_turn);
	bxc_loop_io_free(l->signal_io);
	bxc_loop_io_free(l->wake_io);
	bxc_cleanup_close(&l->signal_fd);
	bxc_cleanup_close(&l->wake_fd);
	bxc_cleanup_close(&l->epoll_fd);
	bxc_heap_done(&l->timers);
	bxc_arr_done(&l->posts);
	bxc_arr_done(&l->running_posts);
	pthread_cond_destroy(&l->post_room);
	pthread_mutex_destroy(&l->post_lock);
	free(l);
}

bool bxc_loop_is_own_thread(const bxc_loop *l)
{
	return atomic_load_explicit(&l->owner, memory_order_relaxed) == &thread_tag;
}

/* ---- posts ---- */

static void wake(bxc_loop *l)
{
	uint64_t one = 1;
	/* EAGAIN: the counter is full, so a wake is pending. */
	bxc_ignore(write(l->wake_fd, &one, sizeof(one)));
}

static void post(bxc_loop *l, bxc_post_fn fn, void *ud, bool bounded)
{
	bool own = bxc_loop_is_own_thread(l);
	pthread_mutex_lock(&l->post_lock);
	while (bounded && l->posts.n >= POST_MAX) {
		bxc_check(!own && "the loop's own thread overfilled its queue");
		pthread_cond_wait(&l->post_room, &l->post_lock);
	}
	bool was_empty = l->posts.n == 0;
	*bxc_arr_push(&l->posts) = (struct post){fn, ud};
	/* Under the lock, so that the loop cannot run this post and be freed before the write. */
	if (was_empty)
		wake(l);
	pthread_mutex_unlock(&l->post_lock);
}

void bxc_loop_post(bxc_loop *l, bxc_post_fn fn, void *ud)
{
	post(l, fn, ud, true);
}

void bxc_loop__post_now(bxc_loop *l, bxc_post_fn fn, void *ud)
{
	post(l, fn, ud, false);
}

static void run_posts(bxc_loop *l)
{
	pthread_mutex_lock(&l->post_lock);
	post_arr batch = l->posts;
	l->posts = l->running_posts;
	if (batch.n >= POST_MAX)
		pthread_cond_broadcast(&l->post_room);
	pthread_mutex_unlock(&l->post_lock);

	for (size_t i = 0; i < batch.n; i++)
		batch.v[i].fn(batch.v[i].ud);

	batch.n = 0;
	l->running_posts = batch;
}

void bxc_loop_quit(bxc_loop *l)
{
	/* The lock also keeps the loop from being freed before the wake is written. */
	pthread_mutex_lock(&l->post_lock);
	l->quit = true;
	wake(l);
	pthread_mutex_unlock(&l->post_lock);
}

static bool take_quit(bxc_loop *l)
{
	pthread_mutex_lock(&l->post_lock);
	bool quit = l->quit;
	l->quit = false;
	pthread_mutex_unlock(&l->post_lock);
	return quit;
}

/* ---- descriptors ---- */

static int epoll_apply(bxc_loop_io *io, uint32_t events, bxc_err **err)
{
	if (events == io->events)
		return 0;
	int op = !io->events ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
	struct epoll_event ev = {.events = events, .data.ptr = io};
	if (epoll_ctl(io->loop->epoll_fd, op, io->fd, &ev) < 0)
		return bxc_err_errno(err, errno, "watch descriptor %d", io->fd);
	io->events = events;
	return 0;
}

int bxc_loop_io_new(bxc_loop *l, int fd, uint32_t events, bxc_io_fn fn, void *ud, bxc_loop_io **ret,
	bxc_err **err)
{
	BXC_AUTOFREE bxc_loop_io *io = bxc_calloc(1, sizeof(*io));
	io->loop = l;
	io->fd = fd;
	io->fn = fn;
	io->ud = ud;
	int r = epoll_apply(io, events, err);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(io);
	return 0;
}

int bxc_loop_io_set(bxc_loop_io *io, uint32_t events, bxc_err **err)
{
	bxc_check(!io->dead);
	return epoll_apply(io, events, err);
}

void bxc_loop_io_free(bxc_loop_io *io)
{
	if (!io)
		return;
	bxc_check(!io->dead);
	/* Fails when the descriptor was closed before; epoll has forgotten it then. */
	if (io->events)
		bxc_ignore(epoll_ctl(io->loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL));
	io->dead = true;
	if (!io->loop->in_turn) {
		free(io);
		return;
	}
	/* The batch of events that is being dispatched may still point to it. */
	io->next_dead = io->loop->dead;
	io->loop->dead = io;
}

/* ---- timers ---- */

bxc_loop_timer *bxc_loop_timer_new(bxc_loop *l, bxc_timer_fn fn, void *ud)
{
	bxc_loop_timer *t = bxc_calloc(1, sizeof(*t));
	t->loop = l;
	t->fn = fn;
	t->ud = ud;
	t->heap_at = BXC_HEAP_OUT;
	return t;
}

void bxc_loop_timer_disarm(bxc_loop_timer *t)
{
	if (t->heap_at != BXC_HEAP_OUT)
		bxc_heap_remove(&t->loop->timers, t);
}

void bxc_loop_timer_arm(bxc_loop_timer *t, int64_t delay_ns)
{
	bxc_loop_timer_disarm(t);
	int64_t now_ns = bxc_clock_mono_ns();
	if (delay_ns < 0)
		delay_ns = 0;
	if (__builtin_add_overflow(now_ns, delay_ns, &t->deadline_ns))
		t->deadline_ns = INT64_MAX;
	t->seq = ++t->loop->timer_seq;
	bxc_heap_add(&t->loop->timers, t);
}

void bxc_loop_timer_free(bxc_loop_timer *t)
{
	if (!t)
		return;
	bxc_loop_timer_disarm(t);
	free(t);
}

static void run_timers(bxc_loop *l)
{
	/* What is armed from here on waits for the next turn, so that descriptors get theirs. */
	uint64_t last_seq = l->timer_seq;
	int64_t now_ns = bxc_clock_mono_ns();
	for (bxc_loop_timer *t; (t = bxc_heap_top(&l->timers));) {
		if (t->deadline_ns > now_ns || t->seq > last_seq)
			break;
		bxc_loop_timer_disarm(t);
		t->fn(t->ud); /* may free t */
	}
}

static int turn_timeout(const bxc_loop *l, int timeout_ms)
{
	const bxc_loop_timer *next = bxc_heap_top(&l->timers);
	if (!next)
		return timeout_ms;
	int left_ms = bxc_clock_left_ms(next->deadline_ns);
	return timeout_ms >= 0 && timeout_ms < left_ms ? timeout_ms : left_ms;
}

/* ---- signals ---- */

static void on_signal_fd(int fd, uint32_t events, void *ud)
{
	(void)events;
	bxc_loop *l = ud;
	struct signalfd_siginfo info;
	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		unsigned signo = info.ssi_signo;
		if (signo < SIGNALS_MAX && l->on_signal[signo].fn)
			l->on_signal[signo].fn((int)signo, l->on_signal[signo].ud);
	}
}

int bxc_loop_on_signal(bxc_loop *l, int signo, bxc_signal_fn fn, void *ud, bxc_err **err)
{
	bxc_check(signo > 0 && signo < SIGNALS_MAX);
	sigset_t signals = l->signals;
	if (sigaddset(&signals, signo) < 0)
		return bxc_err_errno(err, errno, "signal %d", signo);
	int fd = signalfd(l->signal_fd, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return bxc_err_errno(err, errno, "signalfd");
	l->signal_fd = fd;
	if (!l->signal_io) {
		int r = bxc_loop_io_new(l, fd, EPOLLIN, on_signal_fd, l, &l->signal_io, err);
		if (r < 0)
			return r;
	}
	l->signals = signals;
	l->on_signal[signo].fn = fn;
	l->on_signal[signo].ud = ud;
	return 0;
}

/* ---- turns ---- */

int bxc_loop_step(bxc_loop *l, int timeout_ms, bxc_err **err)
{
	bxc_check(!l->in_turn);
	atomic_store_explicit(&l->owner, &thread_tag, memory_order_relaxed);

	struct epoll_event batch[BATCH_MAX];
	int n = epoll_wait(l->epoll_fd, batch, BATCH_MAX, turn_timeout(l, timeout_ms));
	if (n < 0 && errno != EINTR)
		return bxc_err_errno(err, errno, "epoll_wait");

	l->in_turn = true;
	run_timers(l);
	for (int i = 0; i < n; i++) {
		bxc_loop_io *io = batch[i].data.ptr;
		if (io->dead)
			continue;
		/* An earlier callback of this batch may have changed what this one waits for. */
		uint32_t ready = batch[i].events & (io->events | EPOLLERR | EPOLLHUP);
		if (ready && io->events)
			io->fn(io->fd, ready, io->ud);
	}
	run_posts(l);
	l->in_turn = false;

	while (l->dead) {
		bxc_loop_io *io = l->dead;
		l->dead = io->next_dead;
		free(io);
	}
	return 0;
}

int bxc_loop_run(bxc_loop *l, bxc_err **err)
{
	while (!take_quit(l)) {
		int r = bxc_loop_step(l, -1, err);
		if (r < 0)
			return r;
	}
	return 0;
}
