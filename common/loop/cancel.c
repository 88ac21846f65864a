/* SPDX-License-Identifier: Apache-2.0 */
#include "common/loop/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "common/base/arr.h"
#include "common/base/mem.h"

struct hook {
	uint64_t id;
	void (*fn)(void *ud);
	void *ud;
};

struct bxc_cancel {
	_Atomic uint32_t refs;
	_Atomic bool fired;   /* set under the lock; read without it by is_fired */
	pthread_mutex_t lock; /* protects what follows; not held while a hook runs */
	pthread_cond_t hook_done;
	BXC_ARR(struct hook) hooks;
	uint64_t last_id;
	uint64_t running_id; /* hook that fire() is in, else 0 */
	pthread_t running_thread;
	int event_fd; /* made when first asked for */
};

bxc_cancel *bxc_cancel_new(void)
{
	bxc_cancel *c = bxc_calloc(1, sizeof(*c));
	atomic_init(&c->refs, 1);
	bxc_check(pthread_mutex_init(&c->lock, NULL) == 0);
	bxc_check(pthread_cond_init(&c->hook_done, NULL) == 0);
	c->event_fd = -1;
	return c;
}

bxc_cancel *bxc_cancel_ref(bxc_cancel *c)
{
	if (!c)
		return NULL;
	uint32_t n = atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	bxc_check(n > 0 && n < UINT32_MAX);
	return c;
}

void bxc_cancel_unref(bxc_cancel *c)
{
	if (!c)
		return;
	uint32_t n = atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel);
	bxc_check(n > 0);
	if (n > 1)
		return;
	bxc_cleanup_close(&c->event_fd);
	bxc_arr_done(&c->hooks);
	pthread_cond_destroy(&c->hook_done);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void signal_event(int fd)
{
	uint64_t one = 1;
	bxc_ignore(write(fd, &one, sizeof(one)));
}

void bxc_cancel_fire(bxc_cancel *c)
{
	if (!c)
		return;
	/* A hook may drop the reference that the caller came with. */
	BXC_CLEANUP(bxc_cancel_unrefp) bxc_cancel *self = bxc_cancel_ref(c);
	pthread_mutex_lock(&self->lock);
	if (!atomic_load_explicit(&self->fired, memory_order_relaxed)) {
		/* Pairs with the load in is_fired. */
		atomic_store_explicit(&self->fired, true, memory_order_release);
		if (self->event_fd >= 0)
			signal_event(self->event_fd);
		self->running_thread = pthread_self();
		while (self->hooks.n) {
			struct hook h = self->hooks.v[0];
			bxc_arr_remove(&self->hooks, 0);
			self->running_id = h.id;
			pthread_mutex_unlock(&self->lock);
			h.fn(h.ud);
			pthread_mutex_lock(&self->lock);
			self->running_id = 0;
			pthread_cond_broadcast(&self->hook_done);
		}
	}
	pthread_mutex_unlock(&self->lock);
}

bool bxc_cancel_is_fired(const bxc_cancel *c)
{
	return c && atomic_load_explicit(&c->fired, memory_order_acquire);
}

int bxc_cancel_check(const bxc_cancel *c, bxc_err **err)
{
	if (!bxc_cancel_is_fired(c))
		return 0;
	return bxc_err_set(err, BXC_CANCELED, "canceled");
}

int bxc_cancel_fd(bxc_cancel *c)
{
	if (!c)
		return -1;
	pthread_mutex_lock(&c->lock);
	if (c->event_fd < 0) {
		c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (c->event_fd >= 0 && atomic_load_explicit(&c->fired, memory_order_relaxed))
			signal_event(c->event_fd);
	}
	int fd = c->event_fd;
	pthread_mutex_unlock(&c->lock);
	return fd;
}

uint64_t bxc_cancel_hook(bxc_cancel *c, void (*fn)(void *ud), void *ud)
{
	if (!c)
		return 0;
	pthread_mutex_lock(&c->lock);
	if (atomic_load_explicit(&c->fired, memory_order_relaxed)) {
		pthread_mutex_unlock(&c->lock);
		fn(ud);
		return 0;
	}
	uint64_t id = ++c->last_id;
	*bxc_arr_push(&c->hooks) = (struct hook){id, fn, ud};
	pthread_mutex_unlock(&c->lock);
	return id;
}

void bxc_cancel_unhook(bxc_cancel *c, uint64_t id)
{
	if (!c || !id)
		return;
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->hooks.n; i++) {
		if (c->hooks.v[i].id == id) {
			bxc_arr_remove(&c->hooks, i);
			break;
		}
	}
	/* A hook that takes itself off would wait for itself. */
	while (c->running_id == id && !pthread_equal(c->running_thread, pthread_self()))
		pthread_cond_wait(&c->hook_done, &c->lock);
	pthread_mutex_unlock(&c->lock);
}
