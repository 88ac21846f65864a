/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a peer may send, without a network and on one thread: the byte streams of several connections,
 * to a server (hello, resume, bulk connections, sessions) or to a dialler (welcome, session).
 *
 * Input: a byte of flags, then chunks: a byte that names the connection and what happens to it, a
 * length of two bytes, that many bytes. "$S" and "$K" in a chunk stand for the id and the secret of
 * the first session, which no input could guess.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/be.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/channel/channel_internal.h"

#define CONNS     4u
#define CHUNK_MAX 70000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a transport that goes nowhere, in place of channel_conn.c and the engine's thread ---- */

static engine the_engine;
static accept_fn accept_to;
static void *accept_ud;
static conn *dialled[CONNS];         /* by the dialler, in order */
static size_t n_dialled;

int engine_get(engine **ret, bxc_err **err)
{
	(void)err;
	*ret = &the_engine;
	return 0;
}

void engine_put(engine *e)
{
	(void)e;
}

void engine_tick_soon(engine *e, int64_t heartbeat_ns)
{
	(void)e;
	bxc_check(heartbeat_ns >= HEARTBEAT_MIN_NS && heartbeat_ns <= HEARTBEAT_MAX_NS);
}

static void gone(void *ud)
{
	conn *c = ud;
	bxc_buf_done(&c->in);
	bxc_buf_done(&c->out);
	bxc_buf_done(&c->cipher);
	free(c->peer);
	free(c->impl);
	free(c);
}

struct conn_impl {
	bool closed;
};

static conn *make_conn(bool is_server)
{
	conn *c = conn_new(&the_engine, is_server);
	c->impl = bxc_calloc(1, sizeof(*c->impl));
	c->peer = bxc_strdup("fuzz:1");
	return c;
}

void impl_close(conn *c)
{
	if (c->impl->closed)
		return;
	c->impl->closed = true;
	for (size_t i = 0; i < the_engine.conns.n; i++) {
		if (the_engine.conns.v[i] == c) {
			bxc_arr_remove(&the_engine.conns, i);
			break;
		}
	}
	bxc_loop_post(the_engine.loop, gone, c);
}

static void sent(void *ud)
{
	conn *c = ud;
	c->sending = false;
	if (!c->closing && c->cb && c->cb->on_room && c->out.len == 0)
		c->cb->on_room(c, c->ud);
	if (!c->impl->closed)
		conn_flush(c);
}

/* Everything that is sent consists of frames that our own parser takes. */
void impl_send(conn *c, uint8_t *p_take, size_t n)
{
	size_t at = 0;
	while (at < n) {
		frame f;
		size_t used;
		bxc_check(frame_parse(bxc_slice_of(p_take + at, n - at), FRAME_MAX, &f, &used, NULL) == 1);
		at += used;
	}
	free(p_take);
	bxc_loop_post(the_engine.loop, sent, c);
}

void impl_recv(conn *c)
{
	(void)c;
}

int conn_dial(engine *e, const char *address, bxc_tls_config *tls, const conn_callbacks *cb, void *ud, conn **ret, bxc_err **err)
{
	(void)e;
	(void)address;
	(void)tls;
	if (n_dialled == CONNS)
		return bxc_err_set(err, BXC_UNAVAILABLE, "no more connections");
	conn *c = make_conn(false);
	conn_set(c, cb, ud);
	*ret = c;
	dialled[n_dialled++] = c;
	return 0;
}

int listener_new(engine *e, const char *address, bxc_tls_config *tls, accept_fn fn, void *ud, listener **ret, bxc_err **err)
{
	(void)e;
	(void)address;
	(void)tls;
	(void)err;
	accept_to = fn;
	accept_ud = ud;
	*ret = NULL;
	return 0;
}

uint16_t listener_port(const listener *l)
{
	(void)l;
	return 1;
}

void listener_free(listener *l)
{
	(void)l;
}

/* ---- users ---- */

static BXC_ARR(bxc_chan *) sessions;
static uint64_t n_messages;

static void on_message(bxc_chan *c, bxc_slice msg, void *ud)
{
	(void)ud;
	n_messages++;
	/* An echo makes acknowledgements that can be wrong. */
	bxc_ignore(bxc_chan_send(c, msg, NULL));
}

static void on_stream(bxc_chan *c, bxc_chan_stream *s, const char *kind, const char *name, void *ud)
{
	uint8_t b[16];
	(void)c;
	(void)ud;
	bxc_check(strlen(kind) + strlen(name) < STREAM_OPEN_MAX);
	/* Reads what has come, answers within the credit that there is, and goes. */
	pthread_mutex_lock(&s->lock);
	bool data = s->rx.len > s->rx_taken || s->rx_eof || s->fail_code != BXC_OK;
	bool credit = s->tx_credit >= sizeof(b);
	pthread_mutex_unlock(&s->lock);
	ssize_t n = data ? bxc_chan_stream_read(s, b, sizeof(b), NULL, NULL) : 0;
	if (n > 0 && credit)
		bxc_ignore(bxc_chan_stream_write(s, b, (size_t)n, NULL, NULL));
	bxc_ignore(bxc_chan_stream_write_eof(s, NULL));
	bxc_chan_stream_free(s);
}

static const bxc_chan_callbacks callbacks = {.on_message = on_message, .on_stream = on_stream};

static int authorize(const bxc_chan_hello *h, void *ud, bxc_err **err)
{
	(void)ud;
	bxc_check(strlen(h->role) <= 32 && strlen(h->name) <= 256);
	return bxc_str_eq(h->role, "worker") ? 0 : bxc_err_set(err, BXC_UNAUTHENTICATED, "not '%s'", h->role);
}

static void on_session(bxc_chan *c, const bxc_chan_hello *h, void *ud)
{
	(void)h;
	(void)ud;
	bxc_chan_set_callbacks(c, &callbacks, NULL);
	*bxc_arr_push(&sessions) = c;
}

static void turn(void)
{
	for (int i = 0; i < 8; i++)
		bxc_check(bxc_loop_step(the_engine.loop, 0, NULL) == 0);
}

/* Copies a chunk with what it could not know. */
static size_t fill_in(uint8_t *to, const uint8_t *from, size_t n)
{
	const char *id = sessions.n ? sessions.v[0]->id : "", *secret = sessions.n ? sessions.v[0]->secret : "";
	size_t k = 0;
	for (size_t i = 0; i < n; i++) {
		const char *put = i + 1 < n && from[i] == '$' ? (from[i + 1] == 'S' ? id : from[i + 1] == 'K' ? secret : NULL) : NULL;
		if (!put) {
			to[k++] = from[i];
			continue;
		}
		memcpy(to + k, put, strlen(put));
		k += strlen(put);
		i++;
	}
	return k;
}

static void feed(conn *c, const uint8_t *p, size_t n)
{
	if (!c->open)
		conn_opened(c);
	if (!c->closing)
		conn_received(c, p, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bxc_chan_server *server;
	static uint8_t chunk[CHUNK_MAX * 33];
	if (!server) {
		static const bxc_chan_server_callbacks cb = {authorize, on_session};
		static const char *const urls[] = {"fuzz"};
		const bxc_chan_server_config sc = {.addresses = urls, .n_addresses = 1};
		bxc_check(bxc_loop_new(&the_engine.loop, NULL) == 0);
		bxc_check(bxc_chan_server_new(the_engine.loop, &sc, &cb, NULL, &server, NULL) == 0);
	}
	if (!size)
		return 0;
	bool dialling = data[0] & 1;
	conn *made[CONNS] = {0};
	bxc_chan *c = NULL;
	n_dialled = 0;
	if (dialling) {
		const bxc_chan_dial_config dc = {.address = "fuzz", .role = "worker", .name = "w"};
		bxc_check(bxc_chan_dial(the_engine.loop, &dc, &callbacks, NULL, &c, NULL) == 0);
		turn();
		bxc_ignore(bxc_chan_send(c, bxc_slice_of("hello", 5), NULL));
	}
	for (size_t at = 1; at + 3 <= size;) {
		size_t i = data[at] % CONNS, n = (size_t)bxc_be_get(data + at + 1, 2);
		bool hang_up = data[at] & 0x80;
		at += 3;
		n = BXC_MIN(n, size - at);
		if (!dialling && !made[i]) {
			made[i] = make_conn(true);
			accept_to(made[i], accept_ud);
		}
		conn **k = dialling ? &dialled[i] : &made[i];
		/* A connection that is closed is gone after the next turn. */
		bool there = dialling ? i < n_dialled && *k : true;
		if (there) {
			size_t filled = fill_in(chunk, data + at, n);
			feed(*k, chunk, filled);
			if (hang_up && !(*k)->closing)
				conn_failed(*k, NULL);
			if ((*k)->closing)
				*k = NULL;
		}
		for (size_t o = 0; o < CONNS; o++) {
			if (made[o] && made[o]->closing)
				made[o] = NULL;
			if (o < n_dialled && dialled[o] && dialled[o]->closing)
				dialled[o] = NULL;
		}
		turn();
		for (size_t o = 0; o < CONNS; o++) {
			bool live_made = false, live_dialled = false;
			BXC_ARR_FOREACH (p, &the_engine.conns) {
				live_made = live_made || *p == made[o];
				live_dialled = live_dialled || *p == dialled[o];
			}
			made[o] = live_made ? made[o] : NULL;
			dialled[o] = live_dialled ? dialled[o] : NULL;
		}
		at += n;
	}
	if (c) {
		/* On one thread nobody else could bring the session to its end. */
		chan_finish(c, NULL);
		bxc_chan_close(c);
	}
	while (the_engine.conns.n)
		conn_failed(the_engine.conns.v[0], NULL);
	BXC_ARR_FOREACH (p, &sessions)
		bxc_chan_close(*p);
	sessions.n = 0;
	turn();
	memset(dialled, 0, sizeof(dialled));
	return 0;
}
