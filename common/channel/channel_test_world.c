/* SPDX-License-Identifier: Apache-2.0 */
#include "common/channel/channel_test_world.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/testing/rawserver.h"

bxc_loop *loop;
struct end cli, srv;
bxc_chan_server *server;
char *address;
const char *want_token, *refusal;
bool close_sessions;
bxc_chan_server_config server_config;

static void on_message(bxc_chan *c, bxc_slice m, void *ud)
{
	struct end *e = ud;
	(void)c;
	char *joined = bxc_str_fmt("%s%.*s;", e->got ? e->got : "", (int)BXC_MIN(m.n, (size_t)64), (const char *)m.p);
	free(e->got);
	e->got = joined;
}

static void on_stream(bxc_chan *c, bxc_chan_stream *s, const char *kind, const char *name, void *ud)
{
	struct end *e = ud;
	(void)c;
	bxc_chan_stream_free(e->stream);
	free(e->kind);
	free(e->name);
	e->stream = s;
	e->kind = bxc_strdup(kind);
	e->name = bxc_strdup(name);
	e->n_streams++;
}

static void on_state(bxc_chan *c, bxc_chan_state st, const bxc_err *why, void *ud)
{
	struct end *e = ud;
	(void)c;
	e->ups += st == BXC_CHAN_UP;
	e->downs += st == BXC_CHAN_DOWN;
	e->resets += st == BXC_CHAN_RESET;
	if (st == BXC_CHAN_CLOSED) {
		e->closed = true;
		e->why = bxc_err_code(why);
		free(e->why_text);
		e->why_text = bxc_strdup(bxc_err_text(why));
	}
}

const bxc_chan_callbacks callbacks = {on_message, on_stream, on_state};

int authorize(const bxc_chan_hello *h, void *ud, bxc_err **err)
{
	(void)ud;
	if (want_token && (h->token.n != strlen(want_token) || memcmp(h->token.p, want_token, h->token.n) != 0))
		return bxc_err_set(err, BXC_UNAUTHENTICATED, "%s", refusal ? refusal : "the token is not valid here");
	return 0;
}

void on_session(bxc_chan *c, const bxc_chan_hello *h, void *ud)
{
	(void)h;
	(void)ud;
	if (srv.c)
		bxc_chan_close(srv.c);
	srv.c = c;
	bxc_chan_set_callbacks(c, &callbacks, &srv);
	if (close_sessions)
		bxc_chan_close(BXC_TAKE(srv.c));
}

void listen_on(const char *url)
{
	const char *urls[] = {url};
	bxc_err *err = NULL;
	bxc_chan_server_config sc = server_config;
	sc.addresses = urls;
	sc.n_addresses = 1;
	static const bxc_chan_server_callbacks cb = {authorize, on_session};
	int r = bxc_chan_server_new(loop, &sc, &cb, NULL, &server, &err);
	if (r < 0)
		print_message("%s\n", bxc_err_text(err));
	assert_int_equal(r, 0);
	free(address);
	address = bxc_str_fmt("tcp://127.0.0.1:%u", bxc_chan_server_port(server, 0));
}

void dial_with(const char *token)
{
	bxc_secret *t = token ? bxc_secret_new(token, strlen(token)) : NULL;
	const bxc_chan_dial_config dc = {.address = address, .role = "worker", .name = "w", .token = t};
	assert_int_equal(bxc_chan_dial(loop, &dc, &callbacks, &cli, &cli.c, NULL), 0);
	bxc_secret_free(t);
}

int setup(void **state)
{
	(void)state;
	memset(&cli, 0, sizeof(cli));
	memset(&srv, 0, sizeof(srv));
	want_token = refusal = NULL;
	close_sessions = false;
	server = NULL;
	server_config = (bxc_chan_server_config){.grace_ns = 10 * BXC_NS_PER_S};
	assert_int_equal(bxc_loop_new(&loop, NULL), 0);
	listen_on("tcp://127.0.0.1:0");
	return 0;
}

static void end_done(struct end *e)
{
	if (e->stream)
		bxc_chan_stream_free(e->stream);
	if (e->c)
		bxc_chan_close(e->c);
	free(e->got);
	free(e->kind);
	free(e->name);
	free(e->why_text);
}

int teardown(void **state)
{
	(void)state;
	end_done(&cli);
	end_done(&srv);
	bxc_chan_server_stop(server);
	/* What was posted before the end is run, so that it frees what it holds. */
	for (int i = 0; i < 20; i++)
		bxc_ignore(bxc_loop_step(loop, 0, NULL));
	bxc_loop_free(loop);
	free(address);
	address = NULL;
	return 0;
}

void say(bxc_chan *c, const char *text)
{
	assert_int_equal(bxc_chan_send(c, bxc_slice_of(text, strlen(text)), NULL), 0);
}

void connect_both(void)
{
	dial_with(NULL);
	UNTIL(cli.ups == 1 && srv.ups == 1);
}

bool has_ended(bxc_chan_stream *s, bxc_code code)
{
	pthread_mutex_lock(&s->lock);
	bool yes = s->fail_code == code;
	pthread_mutex_unlock(&s->lock);
	return yes;
}

/* ---- a peer made by hand ---- */

int raw_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(bxc_chan_server_port(server, 0)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

void raw_open(struct raw *r)
{
	*r = (struct raw){.fd = raw_socket()};
	bxc_buf_init(&r->in, 8u << 20);
}

void raw_close(struct raw *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	bxc_buf_done(&r->in);
}

void raw_send(struct raw *r, frame_type type, uint8_t flags, uint32_t stream, uint32_t arg, const void *p, size_t n)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(FRAME_MAX + FRAME_HEADER);
	frame_put(&b, type, flags, stream, arg, bxc_slice_of(p, n));
	/* A peer that has hung up is what some tests want. */
	bxc_rawserver_say(r->fd, b.data, b.len);
}

static void wait_readable(int fd, bool still)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int64_t end_ns = bxc_clock_mono_ns() + 20 * BXC_NS_PER_S;
	while (poll(&p, 1, 5) == 0) {
		if (!still)
			assert_int_equal(bxc_loop_step(loop, 0, NULL), 0);
		assert_true(bxc_clock_mono_ns() < end_ns);
	}
}

bool raw_next(struct raw *r)
{
	uint8_t chunk[65536];
	for (;;) {
		if (r->used)
			bxc_buf_drop_front(&r->in, r->used);
		r->used = 0;
		int k = frame_parse(bxc_buf_slice(&r->in), FRAME_MAX, &r->f, &r->used, NULL);
		assert_true(k >= 0);
		if (k > 0 && r->f.type == FRAME_PING)
			continue;
		if (k > 0)
			return true;
		r->used = 0;
		wait_readable(r->fd, r->still);
		ssize_t n = read(r->fd, chunk, sizeof(chunk));
		if (n <= 0)
			return false;
		bxc_buf_add(&r->in, chunk, (size_t)n);
	}
}

bool raw_until(struct raw *r, frame_type type)
{
	while (raw_next(r))
		if (r->f.type == type)
			return true;
	return false;
}

void raw_say_hello(struct raw *r, const char *kind, uint64_t last_seq)
{
	BXC_AUTOFREE char *text = bxc_str_fmt("{\"version\":1,\"role\":\"worker\",\"name\":\"raw\",\"kind\":\"%s\",\"session\":\"%s\","
		"\"secret\":\"%s\",\"last_seq\":%llu}", kind, r->session, r->secret, (unsigned long long)last_seq);
	raw_send(r, FRAME_HELLO, 0, 0, 0, text, strlen(text));
}

void raw_hello(struct raw *r, const char *kind, uint64_t last_seq)
{
	raw_say_hello(r, kind, last_seq);
	if (!raw_next(r) || r->f.type != FRAME_WELCOME)
		return;
	BXC_AUTOJSON bxc_json *j = NULL;
	assert_int_equal(bxc_json_parse(r->f.payload, &j, NULL), 0);
	snprintf(r->session, sizeof(r->session), "%s", bxc_json_get_str(j, "session", ""));
	snprintf(r->secret, sizeof(r->secret), "%s", bxc_json_get_str(j, "secret", ""));
}

void raw_session(struct raw *r)
{
	int ups = srv.ups;
	raw_open(r);
	raw_hello(r, "control", 0);
	assert_int_equal(r->f.type, FRAME_WELCOME);
	UNTIL(srv.ups > ups);
}

void raw_reconnect(struct raw *r)
{
	close(r->fd);
	r->fd = raw_socket();
	r->in.len = r->used = 0;
}

void raw_join(struct raw *ret_bulk, const struct raw *ctl)
{
	raw_open(ret_bulk);
	memcpy(ret_bulk->session, ctl->session, sizeof(ctl->session));
	memcpy(ret_bulk->secret, ctl->secret, sizeof(ctl->secret));
	raw_hello(ret_bulk, "bulk", 0);
	assert_int_equal(ret_bulk->f.type, FRAME_WELCOME);
}

int raw_listen(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(a);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	free(address);
	address = bxc_str_fmt("tcp://127.0.0.1:%u", ntohs(a.sin_port));
	return fd;
}

void raw_accept(struct raw *r, int listen_fd)
{
	*r = (struct raw){.fd = -1};
	bxc_buf_init(&r->in, 8u << 20);
	wait_readable(listen_fd, false);
	r->fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(r->fd >= 0);
	assert_true(raw_next(r));
	assert_int_equal(r->f.type, FRAME_HELLO);
}

void raw_welcome(struct raw *r, const char *session, bool resumed, uint64_t last_seq, int64_t heartbeat_ns)
{
	BXC_AUTOFREE char *text = bxc_str_fmt("{\"session\":\"%s%s\",\"secret\":\"%s%s%s%s\",\"resumed\":%s,\"last_seq\":%llu,\"heartbeat_ns\":%lld}",
		session, session, session, session, session, session, resumed ? "true" : "false", (unsigned long long)last_seq, (long long)heartbeat_ns);
	raw_send(r, FRAME_WELCOME, 0, 0, 0, text, strlen(text));
}

int raw_serve(struct raw *r, int64_t heartbeat_ns)
{
	int fd = raw_listen();
	dial_with(NULL);
	raw_accept(r, fd);
	raw_welcome(r, ONE, false, 0, heartbeat_ns);
	UNTIL(cli.ups == 1);
	return fd;
}
