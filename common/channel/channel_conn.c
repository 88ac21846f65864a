/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that sees nng (1.5.2): byte streams over tcp and ipc. Rules that keep it alive:
 * one receive and one send operation per stream, made once; no timeouts of nng's; teardown is
 * close stream, stop both operations, free both, free stream, on a thread that may block.
 * Callbacks run on nng's threads and only post.
 */
#include "common/channel/channel_internal.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <nng/nng.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/addr.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define RX_BYTES      (128u << 10)
#define CONNECT_NS    (5 * BXC_NS_PER_S)
#define MAX_ADDRESSES 16u

struct conn_impl {
	conn *c;
	nng_stream *stream;
	nng_aio *rx, *tx;
	uint8_t *rx_buf;
	uint8_t *tx_buf;
	size_t tx_len, tx_done;
	/* dialling */
	nng_stream_dialer *dialer;
	nng_aio *dial;
	struct resolving *resolving; /* the name is being looked up */
	char **urls;                 /* numeric, tried in turn */
	size_t url;
	bxc_loop_timer *connect_timer;
	bool reaping;
	/* results on their way to the loop */
	int result;
	size_t count;
};

/* A name that is being looked up on the pool. */
struct resolving {
	struct conn_impl *i;         /* engine's thread; NULL: the connection was closed meanwhile */
	char *host, *port;
	char **urls;
	bxc_err *err;
};

struct listener {
	engine *e;
	nng_stream_listener *l;
	nng_aio *aio;
	bxc_tls_config *tls;
	accept_fn fn;
	void *ud;
	bxc_loop_timer *pause;
	bool closed;
	bool is_ipc;
	uint16_t port;
};

static int nng_error(bxc_err **err, int e, const char *what)
{
	bxc_code code = BXC_UNAVAILABLE;
	if (e == NNG_EADDRINVAL || e == NNG_EINVAL)
		code = BXC_INVALID_ARGUMENT;
	else if (e == NNG_EPERM)
		code = BXC_PERMISSION_DENIED;
	else if (e == NNG_EADDRINUSE)
		code = BXC_FAILED_PRECONDITION;
	else if (e == NNG_ENOMEM || e == NNG_ENOFILES)
		code = BXC_RESOURCE_EXHAUSTED;
	return bxc_err_set(err, code, "%s: %s", what, nng_strerror(e));
}

/* ---- receive ---- */

static void rx_loop(void *ud)
{
	struct conn_impl *i = ud;
	conn *c = i->c;
	if (i->reaping)
		return;
	if (i->result == 0) {
		conn_received(c, i->rx_buf, i->count);
		return;
	}
	bxc_err *err = NULL;
	if (i->result == NNG_ECONNSHUT || i->result == NNG_ECLOSED || i->result == NNG_ECONNRESET)
		bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE, "the peer closed the connection"));
	else
		bxc_ignore(nng_error(&err, i->result, "connection"));
	conn_failed(c, err);
}

static void rx_cb(void *ud)
{
	struct conn_impl *i = ud;
	i->result = nng_aio_result(i->rx);
	i->count = nng_aio_count(i->rx);
	bxc_loop_post(i->c->e->loop, rx_loop, i);
}

void impl_recv(conn *c)
{
	struct conn_impl *i = c->impl;
	if (i->reaping)
		return;
	nng_iov iov = {i->rx_buf, RX_BYTES};
	nng_aio_set_iov(i->rx, 1, &iov);
	nng_stream_recv(i->stream, i->rx);
}

/* ---- send ---- */

struct sent {
	struct conn_impl *i;
	int result;
	size_t count;
};

static void post_send(struct conn_impl *i)
{
	nng_iov iov = {i->tx_buf + i->tx_done, i->tx_len - i->tx_done};
	nng_aio_set_iov(i->tx, 1, &iov);
	nng_stream_send(i->stream, i->tx);
}

static void tx_loop(void *ud)
{
	struct sent *s = ud;
	struct conn_impl *i = s->i;
	conn *c = i->c;
	int result = s->result;
	i->tx_done += s->count;
	free(s);
	if (i->reaping)
		return;
	if (result == 0 && i->tx_done < i->tx_len) {
		post_send(i);
		return;
	}
	free(i->tx_buf);
	i->tx_buf = NULL;
	c->sending = false;
	if (result != 0) {
		bxc_err *err = NULL;
		bxc_ignore(nng_error(&err, result, "connection"));
		conn_failed(c, err);
		return;
	}
	if (!c->closing && c->cb && c->cb->on_room && c->out.len == 0)
		c->cb->on_room(c, c->ud);
	conn_flush(c);
}

static void tx_cb(void *ud)
{
	struct conn_impl *i = ud;
	struct sent *s = bxc_calloc(1, sizeof(*s));
	*s = (struct sent){i, nng_aio_result(i->tx), nng_aio_count(i->tx)};
	bxc_loop_post(i->c->e->loop, tx_loop, s);
}

void impl_send(conn *c, uint8_t *p_take, size_t n)
{
	struct conn_impl *i = c->impl;
	if (i->reaping) {
		free(p_take);
		return;
	}
	i->tx_buf = p_take;
	i->tx_len = n;
	i->tx_done = 0;
	post_send(i);
}

/* ---- the end ---- */

static void reaped(void *ud)
{
	struct conn_impl *i = ud;
	conn *c = i->c;
	bxc_tls_free(c->tls);
	bxc_buf_done(&c->in);
	bxc_buf_done(&c->out);
	bxc_buf_done(&c->cipher);
	free(c->peer);
	free(c->cert_name);
	free(c);
	free(i->tx_buf);
	free(i->rx_buf);
	bxc_strv_free(i->urls);
	free(i);
}

static void reap(void *ud)
{
	struct conn_impl *i = ud;
	bxc_loop *loop = i->c->e->loop;
	if (i->dial) {
		nng_aio_stop(i->dial);
		/* It may have connected while it was given up. */
		if (!i->stream && nng_aio_result(i->dial) == 0)
			i->stream = nng_aio_get_output(i->dial, 0);
		nng_aio_free(i->dial);
	}
	if (i->dialer)
		nng_stream_dialer_free(i->dialer);
	if (i->stream)
		nng_stream_close(i->stream);
	if (i->rx) {
		nng_aio_stop(i->rx);
		nng_aio_free(i->rx);
	}
	if (i->tx) {
		nng_aio_stop(i->tx);
		nng_aio_free(i->tx);
	}
	if (i->stream)
		nng_stream_free(i->stream);
	/* After every result that a callback posted. */
	bxc_loop_post(loop, reaped, i);
}

void impl_close(conn *c)
{
	struct conn_impl *i = c->impl;
	if (i->reaping)
		return;
	i->reaping = true;
	for (size_t k = 0; k < c->e->conns.n; k++) {
		if (c->e->conns.v[k] == c) {
			bxc_arr_remove(&c->e->conns, k);
			break;
		}
	}
	if (i->connect_timer)
		bxc_loop_timer_free(i->connect_timer);
	i->connect_timer = NULL;
	if (i->dialer)
		nng_stream_dialer_close(i->dialer);
	if (i->stream)
		nng_stream_close(i->stream);
	if (i->resolving)
		i->resolving->i = NULL;
	/* At the end of the engine its pool takes nothing any more, and nobody is left to be delayed. */
	if (bxc_pool_submit(c->e->pool, reap, NULL, NULL, i, NULL) < 0)
		reap(i);
}

/* ---- a stream becomes a connection ---- */

static conn *new_conn(engine *e, bool is_server)
{
	conn *c = conn_new(e, is_server);
	c->impl = bxc_calloc(1, sizeof(*c->impl));
	c->impl->c = c;
	return c;
}

static char *address_text(const nng_sockaddr *sa)
{
	char host[INET6_ADDRSTRLEN] = "?";
	if (sa->s_family == NNG_AF_INET) {
		inet_ntop(AF_INET, &sa->s_in.sa_addr, host, sizeof(host));
		return bxc_str_fmt("%s:%u", host, ntohs(sa->s_in.sa_port));
	}
	if (sa->s_family == NNG_AF_INET6) {
		inet_ntop(AF_INET6, sa->s_in6.sa_addr, host, sizeof(host));
		return bxc_str_fmt("[%s]:%u", host, ntohs(sa->s_in6.sa_port));
	}
	return bxc_strdup("?");
}

static char *peer_text(nng_stream *stream, bool is_ipc)
{
	nng_sockaddr sa = {0};
	uint64_t uid;
	if (is_ipc && nng_stream_get_uint64(stream, NNG_OPT_IPC_PEER_UID, &uid) == 0)
		return bxc_str_fmt("ipc:uid=%llu", (unsigned long long)uid);
	if (nng_stream_get_addr(stream, NNG_OPT_REMADDR, &sa) == 0)
		return address_text(&sa);
	return bxc_strdup("?");
}

static void adopt(conn *c, nng_stream *stream, bool is_ipc)
{
	struct conn_impl *i = c->impl;
	i->stream = stream;
	i->rx_buf = bxc_malloc(RX_BYTES);
	bxc_check(nng_aio_alloc(&i->rx, rx_cb, i) == 0 && nng_aio_alloc(&i->tx, tx_cb, i) == 0);
	if (!is_ipc) {
		/* Nagle is on by default for streams: 40 ms for each small exchange. */
		bxc_ignore(nng_stream_set_bool(stream, NNG_OPT_TCP_NODELAY, true));
		bxc_ignore(nng_stream_set_bool(stream, NNG_OPT_TCP_KEEPALIVE, true));
	}
	conn_opened(c);
}

/* ---- dialling ---- */

static void dial_next(struct conn_impl *i, bxc_err *why_take);

struct dialed {
	struct conn_impl *i;
	int result;
	nng_stream *stream;
};

static void dialed_loop(void *ud)
{
	struct dialed *d = ud;
	struct conn_impl *i = d->i;
	nng_stream *stream = d->stream;
	int result = d->result;
	free(d);
	if (i->reaping)
		return;              /* reap() takes the stream */
	if (i->connect_timer)
		bxc_loop_timer_disarm(i->connect_timer);
	if (result == 0) {
		bool is_ipc = bxc_str_has_prefix(i->urls[i->url], "ipc");
		i->c->peer = peer_text(stream, is_ipc);
		adopt(i->c, stream, is_ipc);
		return;
	}
	bxc_err *err = NULL;
	bxc_ignore(nng_error(&err, result, i->urls[i->url]));
	i->url++;
	dial_next(i, err);
}

static void dial_cb(void *ud)
{
	struct conn_impl *i = ud;
	struct dialed *d = bxc_calloc(1, sizeof(*d));
	*d = (struct dialed){i, nng_aio_result(i->dial), NULL};
	if (d->result == 0)
		d->stream = nng_aio_get_output(i->dial, 0);
	bxc_loop_post(i->c->e->loop, dialed_loop, d);
}

static void on_connect_timeout(void *ud)
{
	struct conn_impl *i = ud;
	nng_stream_dialer_close(i->dialer);
}

/* A dialler is used once: closing it is how a connect is given up. */
struct old_dialer {
	nng_stream_dialer *dialer;
	nng_aio *aio;
};

static void free_dialer(void *ud)
{
	struct old_dialer *o = ud;
	nng_aio_stop(o->aio);
	nng_aio_free(o->aio);
	nng_stream_dialer_free(o->dialer);
	free(o);
}

static void dial_next(struct conn_impl *i, bxc_err *why_take)
{
	if (i->dialer) {
		struct old_dialer *o = bxc_calloc(1, sizeof(*o));
		*o = (struct old_dialer){i->dialer, i->dial};
		i->dialer = NULL;
		i->dial = NULL;
		bxc_check(bxc_pool_submit(i->c->e->pool, free_dialer, NULL, NULL, o, NULL) == 0);
	}
	if (!i->urls || !i->urls[i->url]) {
		conn_failed(i->c, why_take);
		return;
	}
	bxc_err_free(why_take);
	bxc_err *err = NULL;
	int e = nng_stream_dialer_alloc(&i->dialer, i->urls[i->url]);
	if (e != 0) {
		bxc_ignore(nng_error(&err, e, i->urls[i->url]));
		conn_failed(i->c, err);
		return;
	}
	bxc_check(nng_aio_alloc(&i->dial, dial_cb, i) == 0);
	if (!i->connect_timer)
		i->connect_timer = bxc_loop_timer_new(i->c->e->loop, on_connect_timeout, i);
	bxc_loop_timer_arm(i->connect_timer, CONNECT_NS);
	nng_stream_dialer_dial(i->dialer, i->dial);
}

static void resolved(void *ud)
{
	struct resolving *q = ud;
	struct conn_impl *i = q->i;
	if (i) {
		i->resolving = NULL;
		i->urls = BXC_TAKE(q->urls);
		dial_next(i, BXC_TAKE(q->err));
	}
	bxc_strv_free(q->urls);
	bxc_err_free(q->err);
	free(q->host);
	free(q->port);
	free(q);
}

static void resolve(void *ud)
{
	struct resolving *q = ud;
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	int e = getaddrinfo(q->host, q->port, &hints, &list);
	if (e != 0) {
		bxc_ignore(bxc_err_set(&q->err, BXC_UNAVAILABLE, "host '%s': %s", q->host, gai_strerror(e)));
		return;
	}
	size_t n = 0;
	for (struct addrinfo *a = list; a && n < MAX_ADDRESSES; a = a->ai_next) {
		char host[INET6_ADDRSTRLEN];
		if (getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof(host), NULL, 0, NI_NUMERICHOST) != 0)
			continue;
		bool v6 = a->ai_family == AF_INET6;
		bxc_strv_pushf(&q->urls, "tcp://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", q->port);
		n++;
	}
	freeaddrinfo(list);
	if (!q->urls)
		bxc_ignore(bxc_err_set(&q->err, BXC_UNAVAILABLE, "host '%s' has no address", q->host));
}

/* "tcp://host:port" and "tls+tcp://host:port" in parts. */
static int split_address(const char *address, bool *ret_tls, char **ret_host, char **ret_port, bxc_err **err)
{
	const char *rest;
	*ret_tls = bxc_str_has_prefix(address, "tls+tcp://");
	if (*ret_tls)
		rest = address + strlen("tls+tcp://");
	else if (bxc_str_has_prefix(address, "tcp://"))
		rest = address + strlen("tcp://");
	else
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "channel address '%s' is none of ipc://, tcp://, tls+tcp://", address);
	uint16_t port;
	int r = bxc_addr_split(rest, ret_host, &port, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "channel address");
	*ret_port = bxc_str_fmt("%u", port);
	return 0;
}

int conn_dial(engine *e, const char *address, bxc_tls_config *tls, const conn_callbacks *cb, void *ud, conn **ret, bxc_err **err)
{
	bool use_tls = false;
	BXC_AUTOFREE char *host = NULL;
	BXC_AUTOFREE char *port = NULL;
	BXC_CLEANUP(bxc_tls_freep) bxc_tls *t = NULL;
	bool ipc = bxc_str_has_prefix(address, "ipc://");
	int r = ipc ? 0 : split_address(address, &use_tls, &host, &port, err);
	if (r >= 0 && !ipc && !use_tls && !bxc_addr_is_loopback(host))
		r = bxc_err_set(err, BXC_FAILED_PRECONDITION, "'%s' would send tokens in the clear: use tls+tcp:// off loopback", address);
	if (r >= 0 && use_tls && !tls)
		r = bxc_err_set(err, BXC_FAILED_PRECONDITION, "'%s' needs a TLS configuration", address);
	if (r >= 0 && use_tls)
		r = bxc_tls_new(tls, host, &t, err);
	if (r < 0)
		return r;
	conn *c = new_conn(e, false);
	conn_set(c, cb, ud);
	c->tls = BXC_TAKE(t);
	*ret = c;
	if (ipc) {
		bxc_strv_push(&c->impl->urls, address);
		dial_next(c->impl, NULL);
		return 0;
	}
	struct resolving *q = bxc_calloc(1, sizeof(*q));
	*q = (struct resolving){.i = c->impl, .host = BXC_TAKE(host), .port = BXC_TAKE(port)};
	c->impl->resolving = q;
	bxc_check(bxc_pool_submit(e->pool, resolve, e->loop, resolved, q, NULL) == 0);
	return 0;
}

/* ---- listening ---- */

struct accepted {
	listener *l;
	int result;
	nng_stream *stream;
};

static void accept_again(void *ud)
{
	listener *l = ud;
	if (!l->closed)
		nng_stream_listener_accept(l->l, l->aio);
}

static void accepted_loop(void *ud)
{
	struct accepted *a = ud;
	listener *l = a->l;
	nng_stream *stream = a->stream;
	int result = a->result;
	free(a);
	if (result == 0) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_AUTOFREE char *peer = peer_text(stream, l->is_ipc);
		conn_make_room(l->e, peer);
		conn *c = new_conn(l->e, true);
		c->peer = BXC_TAKE(peer);
		if (l->closed || (l->tls && bxc_tls_new(l->tls, NULL, &c->tls, &err) < 0)) {
			c->impl->stream = stream;
			c->closing = true;
			impl_close(c);
		} else {
			l->fn(c, l->ud);
			adopt(c, stream, l->is_ipc);
		}
	}
	if (l->closed || result == NNG_ECLOSED)
		return;
	if (result == 0)
		accept_again(l);
	else
		/* Out of descriptors: again in a while, not in a circle. */
		bxc_loop_timer_arm(l->pause, 100 * BXC_NS_PER_MS);
}

static void accept_cb(void *ud)
{
	listener *l = ud;
	struct accepted *a = bxc_calloc(1, sizeof(*a));
	*a = (struct accepted){l, nng_aio_result(l->aio), NULL};
	if (a->result == 0)
		a->stream = nng_aio_get_output(l->aio, 0);
	bxc_loop_post(l->e->loop, accepted_loop, a);
}

static void start_accept(void *ud)
{
	listener *l = ud;
	l->pause = bxc_loop_timer_new(l->e->loop, accept_again, l);
	accept_again(l);
}

int listener_new(engine *e, const char *address, bxc_tls_config *tls, accept_fn fn, void *ud, listener **ret, bxc_err **err)
{
	bool use_tls = false;
	BXC_AUTOFREE char *host = NULL;
	BXC_AUTOFREE char *port = NULL;
	BXC_AUTOFREE char *url = NULL;
	bool ipc = bxc_str_has_prefix(address, "ipc://");
	int r = ipc ? 0 : split_address(address, &use_tls, &host, &port, err);
	if (r >= 0 && !ipc && !use_tls && !bxc_addr_is_loopback(host))
		r = bxc_err_set(err, BXC_FAILED_PRECONDITION, "'%s' would take tokens in the clear: listen on tls+tcp:// off loopback", address);
	if (r >= 0 && use_tls && !tls)
		r = bxc_err_set(err, BXC_FAILED_PRECONDITION, "'%s' needs a certificate", address);
	if (r < 0)
		return r;
	url = ipc ? bxc_strdup(address) : bxc_str_fmt(strchr(host, ':') ? "tcp://[%s]:%s" : "tcp://%s:%s", host, port);
	if (ipc)
		/* Left by a process that died; whoever holds the state folder's lock owns the path. */
		unlink(address + strlen("ipc://"));
	listener *l = bxc_calloc(1, sizeof(*l));
	l->e = e;
	l->fn = fn;
	l->ud = ud;
	l->is_ipc = ipc;
	l->tls = use_tls ? tls : NULL;
	int k = nng_stream_listener_alloc(&l->l, url);
	if (k == 0 && ipc)
		k = nng_stream_listener_set_int(l->l, NNG_OPT_IPC_PERMISSIONS, 0600);
	if (k == 0)
		k = nng_stream_listener_listen(l->l);
	if (k == 0 && !ipc) {
		int bound = 0;
		k = nng_stream_listener_get_int(l->l, NNG_OPT_TCP_BOUND_PORT, &bound);
		l->port = (uint16_t)bound;
	}
	if (k == 0)
		k = nng_aio_alloc(&l->aio, accept_cb, l);
	if (k != 0) {
		if (l->l)
			nng_stream_listener_free(l->l);
		free(l);
		return nng_error(err, k, address);
	}
	bxc_loop_post(e->loop, start_accept, l);
	*ret = l;
	return 0;
}

uint16_t listener_port(const listener *l)
{
	return l->port;
}

static void listener_gone(void *ud)
{
	free(ud);
}

static void reap_listener(void *ud)
{
	listener *l = ud;
	nng_aio_stop(l->aio);
	nng_aio_free(l->aio);
	nng_stream_listener_free(l->l);
	bxc_loop_post(l->e->loop, listener_gone, l);
}

void listener_free(listener *l)
{
	l->closed = true;
	bxc_loop_timer_free(l->pause);
	nng_stream_listener_close(l->l);
	bxc_check(bxc_pool_submit(l->e->pool, reap_listener, NULL, NULL, l, NULL) == 0);
}
