/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams. A writer spends credit that the reader gives back as it consumes: what is buffered of one
 * stream is at most a window on each side. The user's thread and the engine meet in two buffers.
 */
#include "common/channel/channel_internal.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define RESET_TEXT_MAX 4096u

void stream_ref(bxc_chan_stream *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
}

static void wipe(bxc_buf *b)
{
	if (b->data)
		explicit_bzero(b->data, b->cap);
	bxc_buf_done(b);
}

void stream_unref(bxc_chan_stream *s)
{
	if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
		return;
	/* Secrets and credentials pass through streams. */
	wipe(&s->tx);
	wipe(&s->rx);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	chan_unref(s->chan);
	free(s->kind);
	free(s->name);
	free(s->fail_text);
	free(s);
}

bxc_chan_stream *stream_new(bxc_chan *c, uint32_t id, bool bulk)
{
	bxc_chan_stream *s = bxc_calloc(1, sizeof(*s));
	s->refs = 1;
	s->chan = c;
	chan_ref(c);
	s->id = id;
	s->bulk = bulk;
	s->tx_credit = s->rx_credit = WINDOW_BYTES;
	bxc_buf_init(&s->tx, WINDOW_BYTES);
	bxc_buf_init(&s->rx, (size_t)2 * WINDOW_BYTES);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	return s;
}

void stream_fail(bxc_chan_stream *s, bxc_code code, const char *text)
{
	pthread_mutex_lock(&s->lock);
	if (s->fail_code == BXC_OK) {
		s->fail_code = code;
		s->fail_text = bxc_strndup(text, RESET_TEXT_MAX);
	}
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* ---- engine ---- */

bool stream_fill(bxc_chan_stream *s, bxc_buf *out)
{
	bool did = false;
	pthread_mutex_lock(&s->lock);
	if (s->want_reset && !s->reset_sent) {
		const char *text = s->fail_text ? s->fail_text : "";
		frame_put(out, FRAME_RESET, 0, s->id, (uint32_t)s->fail_code, bxc_slice_of(text, strlen(text)));
		s->reset_sent = true;
		did = true;
	} else if (s->fail_code == BXC_OK) {
		if (s->to_return) {
			frame_put(out, FRAME_WINDOW, 0, s->id, s->to_return, bxc_slice_of(NULL, 0));
			s->rx_credit += s->to_return;
			s->to_return = 0;
			did = true;
		}
		if (s->tx.len) {
			size_t n = BXC_MIN(s->tx.len, (size_t)FRAME_MAX);
			frame_put(out, FRAME_DATA, 0, s->id, 0, bxc_slice_of(s->tx.data, n));
			bxc_buf_drop_front(&s->tx, n);
			pthread_cond_broadcast(&s->changed);
			did = true;
		} else if (s->tx_eof && !s->eof_sent) {
			frame_put(out, FRAME_EOF, 0, s->id, 0, bxc_slice_of(NULL, 0));
			s->eof_sent = true;
			did = true;
		}
	}
	s->kicked = did;
	pthread_mutex_unlock(&s->lock);
	return did;
}

bool stream_is_over(bxc_chan_stream *s)
{
	pthread_mutex_lock(&s->lock);
	bool failed = s->fail_code != BXC_OK && (!s->want_reset || s->reset_sent);
	bool ended = s->eof_sent && s->rx_eof && s->tx.len == 0 && s->user_gone;
	pthread_mutex_unlock(&s->lock);
	return failed || ended;
}

int stream_frame(bxc_chan_stream *s, const frame *f, bxc_err **err)
{
	int r = 0;
	pthread_mutex_lock(&s->lock);
	if (f->type == FRAME_DATA) {
		if (s->rx_eof)
			r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "a stream got bytes after its end");
		else if (f->payload.n > s->rx_credit)
			r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "a stream got more bytes than it gave credit for");
		else if (!s->user_gone && s->fail_code == BXC_OK)
			r = bxc_buf_append(&s->rx, f->payload.p, f->payload.n, err);
		else
			s->to_return += (uint32_t)f->payload.n;
		if (r >= 0)
			s->rx_credit -= (uint32_t)f->payload.n;
	} else if (f->type == FRAME_WINDOW) {
		if (__builtin_add_overflow(s->tx_credit, f->arg, &s->tx_credit))
			r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "credit of a stream overflows");
	} else if (f->type == FRAME_EOF) {
		s->rx_eof = true;
	}
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (f->type == FRAME_RESET) {
		BXC_AUTOFREE char *text = bxc_strndup((const char *)f->payload.p, BXC_MIN(f->payload.n, (size_t)RESET_TEXT_MAX));
		stream_fail(s, f->arg > BXC_OK && f->arg <= BXC_UNAUTHENTICATED ? (bxc_code)f->arg : BXC_UNKNOWN, text);
	}
	return r;
}

static void on_kick(void *ud)
{
	bxc_chan_stream *s = ud;
	if (s->on)
		chan_fill(s->chan, s->on);
	stream_unref(s);
}

/* Tells the engine that the stream has something to send; under s->lock. */
static void kick(bxc_chan_stream *s)
{
	if (s->kicked)
		return;
	s->kicked = true;
	stream_ref(s);
	/* The reference we got is not the last: no destruction under the lock. */
	if (!chan_post(s->chan, on_kick, s))
		stream_unref(s);
}

/* ---- users ---- */

static int failed(const bxc_chan_stream *s, bxc_err **err)
{
	return bxc_err_set(err, s->fail_code, "%s", s->fail_text ? s->fail_text : "the stream was reset");
}

static void wake(void *ud)
{
	bxc_chan_stream *s = ud;
	pthread_mutex_lock(&s->lock);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

int bxc_chan_stream_write(bxc_chan_stream *s, const void *p, size_t n, bxc_cancel *cancel, bxc_err **err)
{
	const uint8_t *b = p;
	int r = 0;
	uint64_t hook = cancel ? bxc_cancel_hook(cancel, wake, s) : 0;
	pthread_mutex_lock(&s->lock);
	while (n) {
		if (s->fail_code != BXC_OK)
			r = failed(s, err);
		else if (s->tx_eof)
			r = bxc_err_set(err, BXC_FAILED_PRECONDITION, "the stream was ended");
		else
			r = bxc_cancel_check(cancel, err);
		if (r < 0)
			break;
		size_t room = BXC_MIN((size_t)s->tx_credit, WINDOW_BYTES - s->tx.len);
		if (room == 0) {
			pthread_cond_wait(&s->changed, &s->lock);
			continue;
		}
		size_t k = BXC_MIN(n, room);
		bxc_buf_add(&s->tx, b, k);
		s->tx_credit -= (uint32_t)k;
		b += k;
		n -= k;
		kick(s);
	}
	pthread_mutex_unlock(&s->lock);
	if (cancel)
		bxc_cancel_unhook(cancel, hook);
	return r;
}

int bxc_chan_stream_write_eof(bxc_chan_stream *s, bxc_err **err)
{
	pthread_mutex_lock(&s->lock);
	int r = s->fail_code != BXC_OK ? failed(s, err) : 0;
	if (r >= 0 && !s->tx_eof) {
		s->tx_eof = true;
		kick(s);
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

ssize_t bxc_chan_stream_read(bxc_chan_stream *s, void *p, size_t n, bxc_cancel *cancel, bxc_err **err)
{
	ssize_t r = 0;
	uint64_t hook = cancel ? bxc_cancel_hook(cancel, wake, s) : 0;
	pthread_mutex_lock(&s->lock);
	for (;;) {
		size_t have = s->rx.len - s->rx_taken;
		if (have) {
			size_t k = BXC_MIN(n, have);
			memcpy(p, s->rx.data + s->rx_taken, k);
			s->rx_taken += k;
			/* Moving what is left is worth it only now and then. */
			if (s->rx_taken == s->rx.len || s->rx_taken >= WINDOW_BYTES / 2) {
				bxc_buf_drop_front(&s->rx, s->rx_taken);
				s->rx_taken = 0;
			}
			s->to_return += (uint32_t)k;
			if (s->to_return >= WINDOW_BYTES / 4)
				kick(s);
			r = (ssize_t)k;
			break;
		}
		if (s->fail_code != BXC_OK) {
			r = failed(s, err);
			break;
		}
		if (s->rx_eof)
			break;
		r = bxc_cancel_check(cancel, err);
		if (r < 0)
			break;
		pthread_cond_wait(&s->changed, &s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	if (cancel)
		bxc_cancel_unhook(cancel, hook);
	return r;
}

int bxc_chan_stream_read_all(bxc_chan_stream *s, bxc_buf *out, bxc_cancel *cancel, bxc_err **err)
{
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(FRAME_MAX);
	int r = 0;
	for (;;) {
		ssize_t n = bxc_chan_stream_read(s, chunk, FRAME_MAX, cancel, err);
		if (n > 0)
			r = bxc_buf_append(out, chunk, (size_t)n, err);
		if (n <= 0 || r < 0) {
			explicit_bzero(chunk, FRAME_MAX);
			return n <= 0 ? (int)n : r;
		}
	}
}

void bxc_chan_stream_reset(bxc_chan_stream *s, bxc_code code, const char *text)
{
	pthread_mutex_lock(&s->lock);
	if (s->fail_code == BXC_OK && !(s->tx_eof && s->rx_eof && s->tx.len == 0)) {
		s->fail_code = code == BXC_OK ? BXC_UNKNOWN : code;
		s->fail_text = bxc_strndup(text ? text : "", RESET_TEXT_MAX);
		s->want_reset = true;
		kick(s);
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
}

void bxc_chan_stream_free(bxc_chan_stream *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	bool ended = s->tx_eof && s->rx_eof;
	s->user_gone = true;
	pthread_mutex_unlock(&s->lock);
	if (s->accepted) {
		pthread_mutex_lock(&s->chan->lock);
		s->chan->n_accepted--;
		pthread_mutex_unlock(&s->chan->lock);
	}
	if (!ended)
		bxc_chan_stream_reset(s, BXC_CANCELED, "the peer gave the stream up");
	pthread_mutex_lock(&s->lock);
	kick(s);
	pthread_mutex_unlock(&s->lock);
	stream_unref(s);
}

/* ---- opening ---- */

/* The next number of ours that is free, so that they may begin again after the last. */
static uint32_t free_number(bxc_chan *c)
{
	for (;;) {
		uint32_t id = c->next_stream;
		c->next_stream = id > UINT32_MAX - 2 ? (c->is_server ? 2 : 1) : id + 2;
		bool taken = false;
		BXC_ARR_FOREACH (s, &c->streams)
			taken = taken || (*s)->id == id;
		if (!taken)
			return id;
	}
}

static void on_open(void *ud)
{
	bxc_chan_stream *s = ud;
	bxc_chan *c = s->chan;
	conn *k = s->bulk ? c->bulk : c->ctl;
	size_t ours = 0;
	BXC_ARR_FOREACH (o, &c->streams)
		ours += !(*o)->accepted;
	bool down = !c->ctl || c->finished;
	if (down || ours >= MAX_STREAMS) {
		stream_fail(s, down ? BXC_UNAVAILABLE : BXC_RESOURCE_EXHAUSTED, down ? "the connection was lost" : "too many streams are open");
		stream_unref(s);
		return;
	}
	s->id = free_number(c);
	*bxc_arr_push(&c->streams) = s;     /* takes this reference */
	if (!k) {
		chan_want_bulk(c);
		return;
	}
	s->on = k;
	chan_fill(c, k);
}

int bxc_chan_stream_open(bxc_chan *c, const char *kind, const char *name, bxc_chan_stream_flags flags, bxc_chan_stream **ret, bxc_err **err)
{
	if (strlen(kind) > 64 || strlen(name) > 1024)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "stream kind or name is too long");
	bxc_chan_stream *s = stream_new(c, 0, (flags & BXC_CHAN_BULK) != 0);
	s->kind = bxc_strdup(kind);
	s->name = bxc_strdup(name);
	pthread_mutex_lock(&c->lock);
	bool up = c->is_up && !c->no_more;
	pthread_mutex_unlock(&c->lock);
	stream_ref(s);
	if (!up || !chan_post(c, on_open, s)) {
		stream_unref(s);
		stream_unref(s);
		return bxc_err_set(err, BXC_UNAVAILABLE, "the channel is down");
	}
	*ret = s;
	return 0;
}
