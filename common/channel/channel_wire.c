/* SPDX-License-Identifier: Apache-2.0 */
/* A connection between its transport (channel_conn.c) and what speaks over it: TLS, frames, liveness. */
#include "common/channel/channel_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"

/* A message goes whole after what a batch holds already; the rest is for frames around it and answers. */
#define OUT_MAX       (BXC_LIMIT_MESSAGE + BATCH_BYTES + 2 * ANSWERS_MAX)
#define IN_MAX        (4u << 20)
#define CIPHER_MAX    ((size_t)2 * OUT_MAX)
#define HELLO_NS      (10 * BXC_NS_PER_S)    /* from connecting to WELCOME */
#define FLUSH_NS      (5 * BXC_NS_PER_S)     /* for the last words of a connection */
#define DEAD_BEATS    3
#define PONG_MAX      64u
#define MAX_WAITING   256u           /* connections that have not introduced themselves; the oldest goes for a newer one */
#define MAX_WAITING_HOST 64u         /* of them of one address */

conn *conn_new(engine *e, bool is_server)
{
	conn *c = bxc_calloc(1, sizeof(*c));
	c->e = e;
	c->is_server = is_server;
	c->since_ns = c->heard_ns = bxc_clock_mono_ns();
	c->heartbeat_ns = HEARTBEAT_NS;
	bxc_buf_init(&c->in, IN_MAX);
	bxc_buf_init(&c->out, OUT_MAX);
	bxc_buf_init(&c->cipher, CIPHER_MAX);
	*bxc_arr_push(&e->conns) = c;
	return c;
}

void conn_set(conn *c, const conn_callbacks *cb, void *ud)
{
	c->cb = cb;
	c->ud = ud;
}

void conn_failed(conn *c, bxc_err *why_take)
{
	/* Whoever has closed it hears no more. */
	bool tell = !c->closing && c->cb;
	c->closing = true;
	if (tell)
		c->cb->on_closed(c, why_take, c->ud);
	else
		bxc_err_free(why_take);
	impl_close(c);
}

void conn_close(conn *c, bool flush)
{
	if (c->closing)
		return;
	c->closing = true;
	c->close_by_ns = bxc_clock_mono_ns() + FLUSH_NS;
	if (flush && c->open && (c->out.len || c->sending)) {
		conn_flush(c);
		return;              /* impl_close follows when it has gone, or the time is over */
	}
	impl_close(c);
}

void conn_flush(conn *c)
{
	bxc_err *err = NULL;
	if (!c->open || c->sending)
		return;
	if (c->tls && c->out.len) {
		int r = bxc_tls_write(c->tls, bxc_buf_slice(&c->out), &c->cipher, &err);
		bxc_buf_clear(&c->out);
		if (r < 0) {
			conn_failed(c, err);
			return;
		}
	}
	bxc_buf *from = c->tls ? &c->cipher : &c->out;
	if (from->len == 0) {
		if (c->closing)
			impl_close(c);
		return;
	}
	size_t n = from->len;
	uint8_t *p = bxc_memdup(from->data, n);
	bxc_buf_clear(from);
	c->sending = true;
	impl_send(c, p, n);
}

void conn_opened(conn *c)
{
	bxc_err *err = NULL;
	if (c->closing) {
		impl_close(c);
		return;
	}
	c->open = true;
	c->heard_ns = bxc_clock_mono_ns();
	impl_recv(c);
	if (c->tls && !c->is_server) {
		if (bxc_tls_start(c->tls, &c->cipher, &err) < 0) {
			conn_failed(c, err);
			return;
		}
	}
	if (c->cb && c->cb->on_open)
		c->cb->on_open(c, c->ud);
	conn_flush(c);
}

static int take_frames(conn *c, bxc_err **err)
{
	size_t used = 0;
	int r = 1;
	while (r > 0 && !c->closing) {
		frame f;
		size_t n;
		r = frame_parse(bxc_slice_of(c->in.data + used, c->in.len - used), c->handshaken ? FRAME_MAX : HELLO_MAX, &f, &n, err);
		if (r <= 0)
			break;
		used += n;
		if (!c->handshaken || (f.type != FRAME_PING && f.type != FRAME_PONG)) {
			c->cb->on_frame(c, &f, c->ud);
		} else if (f.type == FRAME_PING && f.payload.n <= PONG_MAX && c->out.len < ANSWERS_MAX) {
			/* Whoever does not read the answers needs no more of them. */
			frame_put(&c->out, FRAME_PONG, 0, 0, 0, f.payload);
		}
	}
	if (c->in.data)
		bxc_buf_drop_front(&c->in, used);
	return r;
}

void conn_received(conn *c, const uint8_t *p, size_t n)
{
	bxc_err *err = NULL;
	int r;
	c->heard_ns = bxc_clock_mono_ns();
	if (c->closing)
		return;
	if (c->tls) {
		bool was = bxc_tls_is_established(c->tls);
		r = bxc_tls_feed(c->tls, bxc_slice_of(p, n), &c->in, &c->cipher, &err);
		if (!was && bxc_tls_is_established(c->tls))
			c->cert_name = bxc_tls_peer_name(c->tls);
	} else {
		r = bxc_buf_append(&c->in, p, n, &err);
	}
	if (r >= 0 || c->in.len) {
		int k = take_frames(c, r < 0 ? NULL : &err);
		r = r < 0 ? r : k;
	}
	if (r < 0) {
		/* An alert of ours is on its way out when it can be. */
		conn_flush(c);
		conn_failed(c, err);
		return;
	}
	if (!c->closing) {
		conn_flush(c);
		impl_recv(c);
	}
}

static size_t host_length(const char *peer)
{
	const char *colon = strrchr(peer, ':');
	return colon ? (size_t)(colon - peer) : strlen(peer);
}

/*
 * Who connects and says nothing keeps nobody out: when the waiting room is full, who has waited
 * longest leaves. An introduction takes milliseconds.
 */
void conn_make_room(engine *e, const char *peer)
{
	conn *oldest = NULL, *oldest_same = NULL;
	size_t all = 0, same = 0, host = host_length(peer);
	BXC_ARR_FOREACH (p, &e->conns) {
		conn *c = *p;
		if (!c->is_server || c->handshaken || !c->peer)
			continue;
		all++;
		if (!oldest || c->since_ns < oldest->since_ns)
			oldest = c;
		if (host_length(c->peer) != host || strncmp(c->peer, peer, host) != 0)
			continue;
		same++;
		if (!oldest_same || c->since_ns < oldest_same->since_ns)
			oldest_same = c;
	}
	conn *victim = same >= MAX_WAITING_HOST ? oldest_same : all >= MAX_WAITING ? oldest : NULL;
	if (!victim)
		return;
	bxc_err *err = NULL;
	bxc_ignore(bxc_err_set(&err, BXC_RESOURCE_EXHAUSTED, "too many connections wait to be introduced"));
	conn_failed(victim, err);
}

void conn_tick(conn *c, int64_t now_ns)
{
	bxc_err *err = NULL;
	int64_t silent_ns = now_ns - c->heard_ns;
	if (c->closing) {
		if (now_ns > c->close_by_ns)
			impl_close(c);
		return;
	}
	if (!c->handshaken && now_ns - c->since_ns > HELLO_NS)
		bxc_ignore(bxc_err_set(&err, BXC_DEADLINE_EXCEEDED, "the peer did not introduce itself"));
	else if (c->open && silent_ns > DEAD_BEATS * c->heartbeat_ns)
		bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE, "nothing was heard of the peer for %.1f s", (double)silent_ns / BXC_NS_PER_S));
	if (err) {
		conn_failed(c, err);
		return;
	}
	if (c->open && c->handshaken && silent_ns > c->heartbeat_ns && now_ns - c->pinged_ns > c->heartbeat_ns) {
		c->pinged_ns = now_ns;
		if (c->out.len < ANSWERS_MAX)
			frame_put(&c->out, FRAME_PING, 0, 0, 0, bxc_slice_of("bxc-ping", 8));
		conn_flush(c);
	}
}
