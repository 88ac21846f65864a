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

#define QUEUE_MAX    (64u << 20)     /* bytes of messages that are not acknowledged */
#define BATCH_BYTES  (256u << 10)
#define CLOSE_NS     (5 * BXC_NS_PER_S)
#define MAX_STREAMS  1024u

void chan_ref(bxc_chan *c)
{
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
}

void chan_unref(bxc_chan *c)
{
	if (__atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	BXC_ARR_FOREACH (m, &c->out)
		free(m->data);
	bxc_arr_done(&c->out);
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

/* ---- callbacks on the user's loop ---- */

struct told {
	bxc_chan *c;
	int what;                    /* 0 state, 1 message, 2 stream */
	bxc_chan_state state;
	bxc_err *why;
	uint8_t *data;
	size_t n;
	bxc_chan_stream *stream;
};

static void tell_user(void *ud)
{
	struct told *t = ud;
	bxc_chan *c = t->c;
	if (c->user_closed) {
		if (t->stream)
			bxc_chan_stream_free(t->stream);
	} else if (t->what == 0) {
		if (c->cb.on_state)
			c->cb.on_state(c, t->state, t->why, c->ud);
	} else if (t->what == 1) {
		if (c->cb.on_message)
			c->cb.on_message(c, bxc_slice_of(t->data, t->n), c->ud);
	} else if (c->cb.on_stream) {
		c->cb.on_stream(c, t->stream, t->stream->kind, t->stream->name, c->ud);
	} else {
		bxc_chan_stream_reset(t->stream, BXC_UNIMPLEMENTED, "streams are not taken here");
		bxc_chan_stream_free(t->stream);
	}
	bxc_err_free(t->why);
	free(t->data);
	free(t);
	chan_unref(c);
}

static struct told *told_new(bxc_chan *c, int what)
{
	struct told *t = bxc_calloc(1, sizeof(*t));
	chan_ref(c);
	t->c = c;
	t->what = what;
	return t;
}

void chan_tell_state(bxc_chan *c, bxc_chan_state st, const bxc_err *why)
{
	struct told *t = told_new(c, 0);
	t->state = st;
	t->why = bxc_err_copy(why);
	/* Whoever hears of it may open streams at once. */
	if (st == BXC_CHAN_UP || st == BXC_CHAN_RESET) {
		pthread_mutex_lock(&c->lock);
		c->is_up = true;
		pthread_mutex_unlock(&c->lock);
	}
	bxc_loop_post(c->user_loop, tell_user, t);
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

void chan_fail_streams_on(bxc_chan *c, const conn *k, const char *text)
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

static int open_frame(bxc_chan *c, conn *k, const frame *f, bxc_err **err)
{
	const char *kind = (const char *)f->payload.p;
	const char *zero = f->payload.n ? memchr(kind, 0, f->payload.n) : NULL;
	if (!zero || f->payload.n > 1200 || (f->stream & 1) == (c->is_server ? 0 : 1))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "malformed opening of a stream");
	if (find_stream(c, f->stream, k) || c->streams.n >= MAX_STREAMS)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "a stream is opened twice, or more than %u at once", MAX_STREAMS);
	bxc_chan_stream *s = stream_new(c, f->stream, k->is_bulk);
	s->kind = bxc_strdup(kind);
	s->name = bxc_strndup(zero + 1, f->payload.n - (size_t)(zero + 1 - kind));
	s->opened = true;
	s->on = k;
	stream_ref(s);
	*bxc_arr_push(&c->streams) = s;
	struct told *t = told_new(c, 2);
	t->stream = s;
	bxc_loop_post(c->user_loop, tell_user, t);
	return 0;
}

/* ---- messages ---- */

static void acknowledged(bxc_chan *c, uint64_t seq)
{
	size_t n = 0, bytes = 0;
	while (n < c->out.n && c->out.v[n].seq <= seq) {
		bytes += c->out.v[n].n;
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
	struct told *t = told_new(c, 1);
	t->data = bxc_memdup(c->assembly.data, c->assembly.len);
	t->n = c->assembly.len;
	bxc_buf_clear(&c->assembly);
	bxc_loop_post(c->user_loop, tell_user, t);
	return 0;
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
	if (c->acked_in == c->in_seq)
		return;
	bxc_be_put(b, c->in_seq, 8);
	frame_put(&k->out, FRAME_ACK, 0, 0, 0, bxc_slice_of(b, 8));
	c->acked_in = c->in_seq;
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
		chan_tick(c, bxc_clock_mono_ns());
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
		if (f->payload.n == 8)
			acknowledged(c, bxc_be_get(f->payload.p, 8));
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
		if (!c->is_server)
			chan_want_bulk(c);
		break;
	case FRAME_GOODBYE:
		frame_put(&k->out, FRAME_GOODBYE_ACK, 0, 0, 0, bxc_slice_of(NULL, 0));
		bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE, "the peer said goodbye"));
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
		chan_fail_streams_on(c, k, "the connection was lost");
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
		c->down_since_ns = bxc_clock_mono_ns();
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

void chan_attach(bxc_chan *c, conn *k, bool bulk, uint64_t peer_last_seq)
{
	k->handshaken = true;
	k->is_bulk = bulk;
	conn_set(k, &chan_conn_callbacks, c);
	if (bulk) {
		if (c->bulk)
			conn_close(c->bulk, false);
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
		conn *old = c->ctl;
		c->ctl = NULL;
		conn_close(old, false);
		fail_streams(c, "the connection was replaced");
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
	c->sent_seq = 0;
	pthread_mutex_lock(&c->lock);
	c->last_seq = 0;
	pthread_mutex_unlock(&c->lock);
}

void chan_want_bulk(bxc_chan *c)
{
	if (c->bulk || c->bulk_wanted || !c->ctl)
		return;
	c->bulk_wanted = true;
	if (c->dialer) {
		dialer_want_bulk(c->dialer);
	} else {
		frame_put(&c->ctl->out, FRAME_BULK, 0, 0, 0, bxc_slice_of(NULL, 0));
		conn_flush(c->ctl);
	}
}

/* ---- the end ---- */

void chan_finish(bxc_chan *c, const bxc_err *why)
{
	if (c->finished)
		return;
	c->finished = true;
	chan_ref(c);                 /* the server's reference may be the last */
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
	pthread_mutex_lock(&c->lock);
	c->is_up = false;
	c->no_more = true;
	c->gone = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	if (!c->closing)
		chan_tell_state(c, BXC_CHAN_CLOSED, why);
	chan_unref(c);
}

void chan_tick(bxc_chan *c, int64_t now_ns)
{
	if (c->finished)
		return;
	if (!c->ctl || now_ns > c->close_deadline_ns) {
		chan_finish(c, NULL);
	} else if (c->out.n == 0 && !c->goodbye_sent) {
		c->goodbye_sent = true;
		frame_put(&c->ctl->out, FRAME_GOODBYE, 0, 0, 0, bxc_slice_of(NULL, 0));
		conn_flush(c->ctl);
	}
}

static void on_close(void *ud)
{
	bxc_chan *c = ud;
	int64_t now = bxc_clock_mono_ns();
	c->closing = true;
	c->close_deadline_ns = now + CLOSE_NS;
	chan_tick(c, now);
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
	bxc_loop_post(e->loop, on_close, c);
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

/* ---- users ---- */

static void on_send(void *ud)
{
	struct told *t = ud;
	bxc_chan *c = t->c;
	if (c->finished) {
		free(t->data);
	} else {
		pthread_mutex_lock(&c->lock);
		uint64_t seq = ++c->last_seq;
		pthread_mutex_unlock(&c->lock);
		*bxc_arr_push(&c->out) = (message){seq, t->n, t->data};
		if (c->ctl)
			chan_fill(c, c->ctl);
	}
	free(t);
	chan_unref(c);
}

int bxc_chan_send(bxc_chan *c, bxc_slice msg, bxc_err **err)
{
	if (msg.n > BXC_LIMIT_MESSAGE)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "message of %zu bytes (at most %u)", msg.n, BXC_LIMIT_MESSAGE);
	pthread_mutex_lock(&c->lock);
	int r = 0;
	if (c->no_more)
		r = bxc_err_set(err, BXC_CANCELED, "the channel is closed");
	else if (c->queued_bytes + msg.n > QUEUE_MAX)
		r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "%u bytes of messages wait for the peer already", QUEUE_MAX);
	if (r >= 0)
		c->queued_bytes += msg.n;
	pthread_mutex_unlock(&c->lock);
	if (r < 0)
		return r;
	struct told *t = told_new(c, 1);
	t->data = bxc_memdup(msg.p, msg.n);
	t->n = msg.n;
	bxc_loop_post(c->e->loop, on_send, t);
	return 0;
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
