/* SPDX-License-Identifier: Apache-2.0 */
#include "common/loop/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/loop/loop_internal.h"

#define THREADS_MAX 1024u

struct job {
	void (*work)(void *ud);
	bxc_loop *loop;
	bxc_post_fn done;
	void *ud;
	struct job *next;
};

struct bxc_pool {
	char *name;
	pthread_t *threads;
	unsigned n_threads;
	unsigned queue_max;
	pthread_mutex_t lock; /* protects what follows; not held while a job runs */
	pthread_cond_t changed;
	struct job *first;
	struct job **last;
	unsigned n_waiting;
	unsigned n_busy;
	bool stopping;
};

static void *worker_main(void *arg)
{
	bxc_pool *p = arg;
	char name[16] = {0}; /* bound of the kernel */
	memcpy(name, p->name, BXC_MIN(strlen(p->name), sizeof(name) - 1));
	(void)pthread_setname_np(pthread_self(), name);

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->first && !p->stopping)
			pthread_cond_wait(&p->changed, &p->lock);
		if (!p->first)
			break;
		BXC_AUTOFREE struct job *j = p->first;
		p->first = j->next;
		if (!p->first)
			p->last = &p->first;
		p->n_waiting--;
		p->n_busy++;
		pthread_mutex_unlock(&p->lock);
		j->work(j->ud);
		pthread_mutex_lock(&p->lock);
		p->n_busy--;
		pthread_mutex_unlock(&p->lock);
		/* After n_busy: who gets `done` finds room for the next job. */
		if (j->done)
			bxc_loop__post_now(j->loop, j->done, j->ud);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static int start_threads(bxc_pool *p, unsigned n, bxc_err **err)
{
	/* Threads of pools take no signals, whatever the state of the program. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int e = 0;
	while (p->n_threads < n && !e) {
		e = pthread_create(&p->threads[p->n_threads], NULL, worker_main, p);
		if (!e)
			p->n_threads++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return e ? bxc_err_errno(err, e, "start a thread of pool '%s'", p->name) : 0;
}

int bxc_pool_new(
	const char *name, unsigned threads, unsigned queue_max, bxc_pool **ret, bxc_err **err)
{
	if (threads < 1 || threads > THREADS_MAX)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"pool '%s' cannot have %u threads (1 to %u)", name, threads, THREADS_MAX);
	BXC_CLEANUP(bxc_pool_freep) bxc_pool *p = bxc_calloc(1, sizeof(*p));
	p->name = bxc_strdup(name);
	p->threads = bxc_calloc(threads, sizeof(*p->threads));
	p->queue_max = queue_max;
	p->last = &p->first;
	bxc_check(pthread_mutex_init(&p->lock, NULL) == 0);
	bxc_check(pthread_cond_init(&p->changed, NULL) == 0);
	int r = start_threads(p, threads, err);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(p);
	return 0;
}

int bxc_pool_submit(bxc_pool *p, void (*work)(void *ud), bxc_loop *loop, bxc_post_fn done, void *ud,
	bxc_err **err)
{
	bxc_check(!done || loop);
	BXC_AUTOFREE struct job *j = bxc_calloc(1, sizeof(*j));
	*j = (struct job){work, loop, done, ud, NULL};
	pthread_mutex_lock(&p->lock);
	bool stopping = p->stopping;
	/* What an idle thread is about to take does not wait. */
	bool full = p->n_waiting >= p->queue_max + (p->n_threads - p->n_busy);
	if (!stopping && !full) {
		*p->last = j;
		p->last = &j->next;
		j = NULL;
		p->n_waiting++;
		pthread_cond_signal(&p->changed);
	}
	pthread_mutex_unlock(&p->lock);
	if (stopping)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "pool '%s' is stopped", p->name);
	if (full)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "queue of pool '%s' is full (%u)",
			p->name, p->queue_max);
	return 0;
}

void bxc_pool_stop(bxc_pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_threads; i++)
		bxc_check(pthread_join(p->threads[i], NULL) == 0);
	pthread_mutex_lock(&p->lock);
	p->n_threads = 0;
	pthread_mutex_unlock(&p->lock);
}

void bxc_pool_free(bxc_pool *p)
{
	if (!p)
		return;
	bxc_pool_stop(p);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p->threads);
	free(p->name);
	free(p);
}
