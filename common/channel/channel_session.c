/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: reliable messages over whatever connection stands, and the streams on it. Every message
 * has a number; it is kept until the peer acknowledges it, and sent again on a new connection from
 * the first that the peer has not seen.
 */
#include "common/channel/channel_internal.h"

#include <string.h>

#include "common/base/be.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define CLOSE_NS     (5 * BXC_NS_PER_S)

void chan_ref(bxc_chan *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
}

void chan_unref(bxc_chan *c)
{
	if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
		return;
	BXC_ARR_FOREACH (m, &c->out)
		free(m->data);
	BXC_ARR_FOREACH (m, &c->queue)
		free(m->data);
	bxc_arr_done(&c->out);
	bxc_arr_done(&c->queue);
	bxc_arr_done(&c->inbox);
	bxc_arr_done(&c->streams);
	bxc_buf_done(&c->assembly);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->changed);
	free(c->peer);
	free(c);
}

bxc_chan *chan_new(engine *e, bxc_loop *loop, bool is_server)
{
	bxc_chan *c = bxc_calloc(1, sizeof(*c));
	c->refs = 1;
	c->e = e;
	c->user_loop = loop;
	c->is_server = is_server;
	c->next_stream = is_server ? 2 : 1;
	bxc_buf_init(&c->assembly, BXC_LIMIT_MESSAGE);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	return c;
}

/* ---- streams ---- */

static bxc_chan_stream *find_stream(bxc_chan *c, uint32_t id, const conn *k)
{
	BXC_ARR_FOREACH (s, &c->streams)
		if ((*s)->id == id && (*s)->on == k)
			return *s;
	return NULL;
}

static void drop_stream(bxc_chan *c, size_t i)
{
	bxc_chan_stream *s = c->streams.v[i];
	bxc_arr_remove(&c->streams, i);
	s->on = NULL;
	stream_unref(s);
}

/* Those of a connection; of none: those that wait for the bulk one. */
static void fail_streams_on(bxc_chan *c, const conn *k, const char *text)
{
	for (size_t i = c->streams.n; i-- > 0;) {
		if (c->streams.v[i]->on != k)
			continue;
		stream_fail(c->streams.v[i], BXC_UNAVAILABLE, text);
		drop_stream(c, i);
	}
}

static void fail_streams(bxc_chan *c, const char *text)
{
	while (c->streams.n) {
		size_t last = c->streams.n - 1;
		stream_fail(c->streams.v[last], BXC_UNAVAILABLE, text);
		drop_stream(c, last);
	}
}

/* The stream is not there: only its number is needed to say so. */
static int refuse_stream(conn *k, uint32_t id, bxc_code code, const char *text, bxc_err **err)
{
	if (k->out.len >= ANSWERS_MAX)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "the peer opens streams and does not read the answers");
	frame_put(&k->out, FRAME_RESET, 0, id, (uint32_t)code, bxc_slice_of(text, strlen(text)));
	return 0;
}

static int open_frame(bxc_chan *c, conn *k, const frame *f, bxc_err **err)
{
	const char *kind = (const char *)f->payload.p;
	const char *zero = f->payload.n ? memchr(kind, 0, f->payload.n) : NULL;
	if (!zero || f->payload.n > STREAM_OPEN_MAX || f->stream == 0 || (f->stream & 1) == (c->is_server ? 0 : 1))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "malformed opening of a stream");
	if (find_stream(c, f->stream, k))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "stream %u is opened twice", f->stream);
	pthread_mutex_lock(&c->lock);
	/* Also those that the peer has reset already count, until our user has put them away. */
	bool full = c->n_accepted >= MAX_STREAMS;
	c->n_accepted += !full;
	pthread_mutex_unlock(&c->lock);
	if (full)
		return refuse_stream(k, f->stream, BXC_RESOURCE_EXHAUSTED, "too many streams are open", err);
	bxc_chan_stream *s = stream_new(c, f->stream, k->is_bulk);
	s->accepted = true;
	s->tx_credit = f->arg;
	s->kind = bxc_strdup(kind);
	s->name = bxc_strndup(zero + 1, f->payload.n - (size_t)(zero + 1 - kind));
	s->opened = true;
	s->on = k;
	stream_ref(s);
	*bxc_arr_push(&c->streams) = s;
	chan_tell_stream(c, s);
	return 0;
}

/* ---- messages ---- */

/* The peer has every message up to seq. */
static void acknowledged(bxc_chan *c, uint64_t seq)
{
	size_t n = 0, bytes = 0;
	while (n < c->out.n && c->out.v[n].seq <= seq) {
		bytes += MESSAGE_COST(c->out.v[n].n);
		free(c->out.v[n].data);
		n++;
	}
	if (n == 0)
		return;
	memmove(c->out.v, c->out.v + n, (c->out.n - n) * sizeof(*c->out.v));
	c->out.n -= n;
	pthread_mutex_lock(&c->lock);
	c->queued_bytes -= bytes;
	pthread_mutex_unlock(&c->lock);
}

static int ack_frame(bxc_chan *c, const frame *f, bxc_err **err)
{
	uint64_t seq = f->payload.n == 8 ? bxc_be_get(f->payload.p, 8) : UINT64_MAX;
	if (seq > c->sent_seq)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the peer acknowledges what was not sent");
	acknowledged(c, seq);
	return 0;
}

static int event_frame(bxc_chan *c, const frame *f, bxc_err **err)
{
	if (f->payload.n < 8)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "malformed message");
	uint64_t seq = bxc_be_get(f->payload.p, 8);
	if (seq <= c->in_seq)
		return 0;            /* seen before the cut */
	if (seq != c->in_seq + 1)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "message %llu after %llu", (unsigned long long)seq, (unsigned long long)c->in_seq);
	int r = bxc_buf_append(&c->assembly, f->payload.p + 8, f->payload.n - 8, err);
	if (r < 0 || (f->flags & FRAME_MORE))
		return r;
	c->in_seq = seq;
	r = chan_tell_message(c, seq, bxc_buf_slice(&c->assembly), err);
	bxc_buf_clear(&c->assembly);
	return r;
}

static void put_message(conn *k, const message *m)
{
	uint8_t head[8];
	size_t off = 0;
	BXC_AUTOBUF bxc_buf piece = BXC_BUF_INIT(FRAME_MAX);
	do {
		size_t n = BXC_MIN(m->n - off, (size_t)FRAME_MAX - 8);
		bxc_buf_clear(&piece);
		bxc_be_put(head, m->seq, 8);
		bxc_buf_add(&piece, head, 8);
		bxc_buf_add(&piece, m->data + off, n);
		off += n;
		frame_put(&k->out, FRAME_EVENT, off < m->n ? FRAME_MORE : 0, 0, 0, bxc_buf_slice(&piece));
	} while (off < m->n);
}

static void put_ack(bxc_chan *c, conn *k)
{
	uint8_t b[8];
	pthread_mutex_lock(&c->lock);
	uint64_t taken = c->taken_seq;
	pthread_mutex_unlock(&c->lock);
	if (taken <= c->acked_in)
		return;
	bxc_be_put(b, taken, 8);
	frame_put(&k->out, FRAME_ACK, 0, 0, 0, bxc_slice_of(b, 8));
	c->acked_in = taken;
}

/* ---- filling a connection ---- */

static void put_open(bxc_chan_stream *s, conn *k)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(4096);
	bxc_buf_add(&b, s->kind, strlen(s->kind) + 1);
	bxc_buf_adds(&b, s->name);
	frame_put(&k->out, FRAME_OPEN, 0, s->id, WINDOW_BYTES, bxc_buf_slice(&b));
	s->opened = true;
}

/* Messages first, then a frame of each stream in turn, up to a batch. */
void chan_fill(bxc_chan *c, conn *k)
{
	if (!k->handshaken || k->closing || k->sending)
		return;
	chan_ref(c);                 /* sending may find the connection dead, and that may be the session's end */
	if (k == c->ctl) {
		put_ack(c, k);
		for (size_t i = 0; i < c->out.n && k->out.len < BATCH_BYTES; i++) {
			if (c->out.v[i].seq <= c->sent_seq)
				continue;
			put_message(k, &c->out.v[i]);
			c->sent_seq = c->out.v[i].seq;
		}
	}
	bool more = true;
	while (more && k->out.len < BATCH_BYTES) {
		more = false;
		for (size_t n = c->streams.n; n > 0 && c->streams.n && k->out.len < BATCH_BYTES; n--) {
			size_t i = c->turn++ % c->streams.n;
			bxc_chan_stream *s = c->streams.v[i];
			if (s->on != k)
				continue;
			if (!s->opened)
				put_open(s, k);
			if (stream_fill(s, &k->out))
				more = true;
			if (stream_is_over(s))
				drop_stream(c, i);
		}
	}
	conn_flush(k);
	if (c->closing)
		chan_close_step(c);
	chan_unref(c);
}

/* ---- connections of the session ---- */

void chan_bye_error(const frame *f, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	if (bxc_json_parse(f->payload, &j, NULL) < 0) {
		bxc_ignore(bxc_err_set(err, BXC_UNAVAILABLE, "the peer refused the connection"));
		return;
	}
	bxc_code code = bxc_code_parse(bxc_json_get_str(j, "code", "UNAVAILABLE"));
	bxc_ignore(bxc_err_set(err, code == BXC_OK ? BXC_UNKNOWN : code, "%.512s", bxc_json_get_str(j, "text", "refused")));
}

static void on_frame(conn *k, const frame *f, void *ud)
{
	bxc_chan *c = ud;
	bxc_err *err = NULL;
	bxc_chan_stream *s;
	int r = 0;
	switch (f->type) {
	case FRAME_EVENT:
		r = k == c->ctl ? event_frame(c, f, &err) : bxc_err_set(&err, BXC_INVALID_ARGUMENT, "a message on the bulk connection");
		break;
	case FRAME_ACK:
		r = k == c->ctl ? ack_frame(c, f, &err) : bxc_err_set(&err, BXC_INVALID_ARGUMENT, "an acknowledgement on the bulk connection");
		break;
	case FRAME_OPEN:
		r = open_frame(c, k, f, &err);
		break;
	case FRAME_DATA:
	case FRAME_WINDOW:
	case FRAME_EOF:
	case FRAME_RESET:
		/* A stream that has ended here may still get frames that were on their way. */
		s = find_stream(c, f->stream, k);
		if (s)
			r = stream_frame(s, f, &err);
		break;
	case FRAME_BULK:
		if (!c->is_server) {
			chan_want_bulk(c);
		} else {
			BXC_AUTOFREE char *why = bxc_strndup((const char *)f->payload.p, BXC_MIN(f->payload.n, (size_t)BYE_TEXT_MAX));
			chan_no_bulk(c, why);
		}
		break;
	case FRAME_GOODBYE:
		frame_put(&k->out, FRAME_GOODBYE_ACK, 0, 0, 0, bxc_slice_of(NULL, 0));
		bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE, c->is_server ? "the peer said goodbye" : "the coordinator said goodbye: it is being stopped"));
		chan_finish(c, err);
		bxc_err_free(err);
		return;
	case FRAME_GOODBYE_ACK:
		c->goodbye_sent = true;
		chan_finish(c, NULL);
		return;
	case FRAME_BYE:
		chan_bye_error(f, &err);
		chan_finish(c, err);
		bxc_err_free(err);
		return;
	case FRAME_NONE:
	case FRAME_HELLO:
	case FRAME_WELCOME:
	case FRAME_PING:
	case FRAME_PONG:
		r = bxc_err_set(&err, BXC_INVALID_ARGUMENT, "frame %d out of place", (int)f->type);
		break;
	}
	if (r < 0) {
		bxc_log_err(BXC_LOG_WARN, "channel.protocol_error", err, "peer", k->peer, NULL);
		conn_failed(k, err);
		return;
	}
	/* Acknowledgements ride with what is sent anyway, or go when many wait or the input is quiet. */
	if (!k->sending)
		chan_fill(c, k);
}

static void on_room(conn *k, void *ud)
{
	chan_fill(ud, k);
}

static void on_closed(conn *k, bxc_err *why_take, void *ud)
{
	chan_detach(ud, k, why_take);
}

const conn_callbacks chan_conn_callbacks = {.on_frame = on_frame, .on_room = on_room, .on_closed = on_closed};

void chan_detach(bxc_chan *c, conn *k, bxc_err *why_take)
{
	bxc_log_err(BXC_LOG_DEBUG, "channel.detached", why_take, "session", c->id, "peer", k->peer, "kind", k == c->ctl ? "control" : "bulk", NULL);
	if (k == c->bulk) {
		c->bulk = NULL;
		fail_streams_on(c, k, "the connection was lost");
	} else if (k == c->ctl) {
		c->ctl = NULL;
		fail_streams(c, "the connection was lost");
		if (c->bulk) {
			conn *b = c->bulk;
			c->bulk = NULL;
			conn_close(b, false);
		}
		c->bulk_wanted = false;
		bxc_buf_clear(&c->assembly);
		/* A peer that fell silent has been gone since then, not since we noticed. */
		c->down_since_ns = k->heard_ns;
		pthread_mutex_lock(&c->lock);
		c->is_up = false;
		pthread_mutex_unlock(&c->lock);
		if (c->closing) {
			chan_finish(c, why_take);
		} else {
			chan_tell_state(c, BXC_CHAN_DOWN, why_take);
			if (c->dialer)
				dialer_lost(c->dialer);
		}
	}
	bxc_err_free(why_take);
}

int chan_check_resume(const bxc_chan *c, uint64_t peer_last_seq, bxc_err **err)
{
	uint64_t acked = c->out.n ? c->out.v[0].seq - 1 : c->last_seq;
	if (peer_last_seq < acked || peer_last_seq > c->last_seq)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the session can't be resumed: the peer saw message %llu of %llu to %llu",
			(unsigned long long)peer_last_seq, (unsigned long long)acked, (unsigned long long)c->last_seq);
	return 0;
}

/* A connection that another takes the place of. */
static void drop_conn(bxc_chan *c, conn **k)
{
	conn *old = *k;
	*k = NULL;
	if (!old)
		return;
	fail_streams_on(c, old, "the connection was replaced");
	conn_close(old, false);
}

void chan_attach(bxc_chan *c, conn *k, bool bulk, uint64_t peer_last_seq)
{
	k->handshaken = true;
	k->is_bulk = bulk;
	conn_set(k, &chan_conn_callbacks, c);
	if (bulk) {
		drop_conn(c, &c->bulk);
		c->bulk = k;
		c->bulk_wanted = false;
		BXC_ARR_FOREACH (s, &c->streams)
			if ((*s)->bulk && !(*s)->on)
				(*s)->on = k;
		chan_fill(c, k);
		return;
	}
	if (c->ctl) {
		/* The peer came back before we noticed that it had gone. */
		drop_conn(c, &c->ctl);
		drop_conn(c, &c->bulk);
		fail_streams(c, "the connection was replaced");
		c->bulk_wanted = false;
	}
	bxc_buf_clear(&c->assembly);
	c->ctl = k;
	free(c->peer);
	c->peer = bxc_strdup(k->peer);
	acknowledged(c, peer_last_seq);
	c->sent_seq = peer_last_seq;
	c->acked_in = c->in_seq;
	chan_fill(c, k);
}

void chan_reset_session(bxc_chan *c)
{
	acknowledged(c, UINT64_MAX);
	c->in_seq = c->acked_in = 0;
	c->last_seq = c->sent_seq = 0;
	pthread_mutex_lock(&c->lock);
	c->epoch++;
	c->taken_seq = 0;
	pthread_mutex_unlock(&c->lock);
}

void chan_want_bulk(bxc_chan *c)
{
	if (c->bulk || c->bulk_wanted || !c->ctl)
		return;
	c->bulk_wanted = true;
	c->bulk_since_ns = bxc_clock_mono_ns();
	if (c->dialer) {
		dialer_want_bulk(c->dialer);
	} else {
		frame_put(&c->ctl->out, FRAME_BULK, 0, 0, 0, bxc_slice_of(NULL, 0));
		conn_flush(c->ctl);
	}
}

void chan_no_bulk(bxc_chan *c, const char *why)
{
	BXC_AUTOFREE char *text = bxc_str_fmt("no connection for bulk data: %s", why);
	if (!c->bulk_wanted)
		return;
	c->bulk_wanted = false;
	fail_streams_on(c, NULL, text);
	if (c->is_server || !c->ctl)
		return;
	/* The acceptor may have streams that wait for it. */
	frame_put(&c->ctl->out, FRAME_BULK, 0, 0, 0, bxc_slice_of(why, BXC_MIN(strlen(why), (size_t)BYE_TEXT_MAX)));
	conn_flush(c->ctl);
}

/* ---- the end ---- */

void chan_finish(bxc_chan *c, const bxc_err *why)
{
	if (c->finished)
		return;
	c->finished = true;
	chan_ref(c);                 /* the server's reference may be the last */
	bxc_loop_timer_free(c->close_timer);
	c->close_timer = NULL;
	fail_streams(c, "the channel was closed");
	conn *ctl = c->ctl, *bulk = c->bulk;
	c->ctl = c->bulk = NULL;
	if (ctl)
		conn_close(ctl, true);
	if (bulk)
		conn_close(bulk, true);
	if (c->dialer)
		dialer_stop(c->dialer);
	c->dialer = NULL;
	if (c->server)
		server_forget(c->server, c);
	c->server = NULL;
	if (!c->closing)
		chan_tell_state(c, BXC_CHAN_CLOSED, why);
	pthread_mutex_lock(&c->lock);
	c->is_up = false;
	c->no_more = true;
	c->gone = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	chan_unref(c);
}

void chan_close_step(bxc_chan *c)
{
	if (c->finished)
		return;
	if (!c->ctl) {
		chan_finish(c, NULL);
	} else if (c->out.n == 0 && !c->goodbye_sent) {
		c->goodbye_sent = true;
		frame_put(&c->ctl->out, FRAME_GOODBYE, 0, 0, 0, bxc_slice_of(NULL, 0));
		conn_flush(c->ctl);
	}
}

static void on_close_timeout(void *ud)
{
	chan_finish(ud, NULL);
}

static void on_close(void *ud)
{
	bxc_chan *c = ud;
	if (!c->finished) {
		c->closing = true;
		/* Also a peer that lives but does not answer ends here. */
		c->close_timer = bxc_loop_timer_new(c->e->loop, on_close_timeout, c);
		bxc_loop_timer_arm(c->close_timer, CLOSE_NS);
		chan_close_step(c);
	}
	chan_unref(c);
}

static void on_drop(void *ud)
{
	bxc_chan *c = ud;
	c->closing = true;
	if (!c->finished)
		chan_finish(c, NULL);
	chan_unref(c);
}

void bxc_chan_drop(bxc_chan *c)
{
	bxc_check(c->is_server);
	c->user_closed = true;
	pthread_mutex_lock(&c->lock);
	c->no_more = true;
	pthread_mutex_unlock(&c->lock);
	/* The reference of the user goes with the post. */
	bxc_loop_post(c->e->loop, on_drop, c);
}

void bxc_chan_close(bxc_chan *c)
{
	engine *e = c->e;
	c->user_closed = true;
	pthread_mutex_lock(&c->lock);
	c->no_more = true;
	pthread_mutex_unlock(&c->lock);
	chan_ref(c);
	if (!chan_post(c, on_close, c))
		chan_unref(c);
	if (!c->is_server) {
		/* The dialling side often leaves the process next: its goodbye is to get out. */
		pthread_mutex_lock(&c->lock);
		while (!c->gone)
			pthread_cond_wait(&c->changed, &c->lock);
		pthread_mutex_unlock(&c->lock);
		chan_unref(c);
		engine_put(e);
		return;
	}
	chan_unref(c);
}
