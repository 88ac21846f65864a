/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between a session and its user, who live on different threads. Each way has a queue of the session
 * and one post that says "look": what the loops hold is bounded by the number of sessions, what the
 * queues hold by the bytes that may wait for acknowledgement, which comes when the user has taken a
 * message, not when it arrived.
 */
#include "common/channel/channel_internal.h"

#include "common/base/limits.h"
#include "common/base/mem.h"

#define QUEUE_MAX (64u << 20)        /* cost of messages that are not acknowledged */

bool chan_post(bxc_chan *c, bxc_post_fn fn, void *ud)
{
	pthread_mutex_lock(&c->lock);
	bool gone = c->gone;
	if (!gone)
		bxc_loop_post(c->e->loop, fn, ud);
	pthread_mutex_unlock(&c->lock);
	return !gone;
}

/* ---- to the user ---- */

static void told_done(told *t)
{
	bxc_err_free(t->why);
	free(t->data);
}

static void tell(bxc_chan *c, told *t)
{
	if (c->user_closed) {
		if (t->stream)
			bxc_chan_stream_free(t->stream);
		return;
	}
	switch (t->what) {
	case TOLD_STATE:
		if (t->state == BXC_CHAN_RESET) {
			/* What the user queued until now was meant for the session that is lost. */
			pthread_mutex_lock(&c->lock);
			c->user_epoch = t->epoch;
			pthread_mutex_unlock(&c->lock);
		}
		if (c->cb.on_state)
			c->cb.on_state(c, t->state, t->why, c->ud);
		break;
	case TOLD_MESSAGE:
		if (c->cb.on_message)
			c->cb.on_message(c, bxc_slice_of(t->data, t->n), c->ud);
		break;
	case TOLD_STREAM:
		if (c->cb.on_stream) {
			c->cb.on_stream(c, t->stream, t->stream->kind, t->stream->name, c->ud);
		} else {
			bxc_chan_stream_reset(t->stream, BXC_UNIMPLEMENTED, "streams are not taken here");
			bxc_chan_stream_free(t->stream);
		}
		break;
	}
}

static void on_queue(void *ud);

/* The engine has something to do: messages to send or an acknowledgement; under c->lock. */
static void post_queue(bxc_chan *c)
{
	if (c->queue_posted || c->gone)
		return;
	c->queue_posted = true;
	chan_ref(c);
	bxc_loop_post(c->e->loop, on_queue, c);
}

static void on_inbox(void *ud)
{
	bxc_chan *c = ud;
	BXC_ARR(told) list = {0};
	pthread_mutex_lock(&c->lock);
	list.v = c->inbox.v;
	list.n = c->inbox.n;
	list.cap = c->inbox.cap;
	c->inbox.v = NULL;
	c->inbox.n = c->inbox.cap = 0;
	c->inbox_posted = false;
	pthread_mutex_unlock(&c->lock);
	uint64_t seq = 0;
	size_t bytes = 0;
	BXC_ARR_FOREACH (t, &list) {
		tell(c, t);
		if (t->what == TOLD_MESSAGE) {
			seq = t->seq;
			bytes += MESSAGE_COST(t->n);
		} else if (t->what == TOLD_STATE && t->state == BXC_CHAN_RESET) {
			seq = 0;     /* the numbers begin again */
		}
		told_done(t);
	}
	bxc_arr_done(&list);
	pthread_mutex_lock(&c->lock);
	c->inbox_bytes -= bytes;
	/* What was taken of a session that is lost needs no thanks. */
	if (seq && c->user_epoch == c->epoch) {
		c->taken_seq = seq;
		post_queue(c);
	}
	pthread_mutex_unlock(&c->lock);
	chan_unref(c);
}

/* Takes what t holds; under c->lock. */
static void put_told(bxc_chan *c, const told *t)
{
	*bxc_arr_push(&c->inbox) = *t;
	if (c->inbox_posted)
		return;
	c->inbox_posted = true;
	chan_ref(c);
	bxc_loop_post(c->user_loop, on_inbox, c);
}

void chan_tell_state(bxc_chan *c, bxc_chan_state st, const bxc_err *why)
{
	pthread_mutex_lock(&c->lock);
	/* Whoever hears of it may open streams at once. */
	if (st == BXC_CHAN_UP || st == BXC_CHAN_RESET)
		c->is_up = true;
	put_told(c, &(told){.what = TOLD_STATE, .state = st, .why = bxc_err_copy(why), .epoch = c->epoch});
	pthread_mutex_unlock(&c->lock);
}

void chan_tell_stream(bxc_chan *c, bxc_chan_stream *s_take)
{
	pthread_mutex_lock(&c->lock);
	put_told(c, &(told){.what = TOLD_STREAM, .stream = s_take});
	pthread_mutex_unlock(&c->lock);
}

int chan_tell_message(bxc_chan *c, uint64_t seq, bxc_slice msg, bxc_err **err)
{
	int r = 0;
	pthread_mutex_lock(&c->lock);
	if (c->inbox_bytes + MESSAGE_COST(msg.n) > QUEUE_MAX) {
		r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "the peer sends more than may wait for acknowledgement");
	} else {
		c->inbox_bytes += MESSAGE_COST(msg.n);
		put_told(c, &(told){.what = TOLD_MESSAGE, .seq = seq, .data = bxc_memdup(msg.p, msg.n), .n = msg.n});
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* ---- from the user ---- */

static void on_queue(void *ud)
{
	bxc_chan *c = ud;
	pthread_mutex_lock(&c->lock);
	c->queue_posted = false;
	BXC_ARR_FOREACH (m, &c->queue) {
		if (m->epoch != c->epoch || c->finished) {
			c->queued_bytes -= MESSAGE_COST(m->n);
			free(m->data);
			continue;
		}
		m->seq = ++c->last_seq;
		*bxc_arr_push(&c->out) = *m;
	}
	c->queue.n = 0;
	pthread_mutex_unlock(&c->lock);
	if (c->ctl)
		chan_fill(c, c->ctl);
	chan_unref(c);
}

int bxc_chan_send(bxc_chan *c, bxc_slice msg, bxc_err **err)
{
	if (msg.n > BXC_LIMIT_MESSAGE)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "message of %zu bytes (at most %u)", msg.n, BXC_LIMIT_MESSAGE);
	pthread_mutex_lock(&c->lock);
	int r = 0;
	if (c->no_more) {
		r = bxc_err_set(err, BXC_CANCELED, "the channel is closed");
	} else if (c->queued_bytes + MESSAGE_COST(msg.n) > QUEUE_MAX) {
		r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "%u bytes of messages wait for the peer already", QUEUE_MAX);
	} else {
		c->queued_bytes += MESSAGE_COST(msg.n);
		*bxc_arr_push(&c->queue) = (message){.epoch = c->user_epoch, .n = msg.n, .data = bxc_memdup(msg.p, msg.n)};
		post_queue(c);
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

void bxc_chan_set_callbacks(bxc_chan *c, const bxc_chan_callbacks *cb, void *ud)
{
	c->cb = *cb;
	c->ud = ud;
}

const char *bxc_chan_session_id(const bxc_chan *c)
{
	return c->id;
}

const char *bxc_chan_peer(const bxc_chan *c)
{
	return c->peer ? c->peer : "";
}
