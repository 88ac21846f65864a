/* SPDX-License-Identifier: Apache-2.0 */
#include "common/channel/channel_test_world.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

static void messages_pass_both_ways_in_order(void **state)
{
	(void)state;
	connect_both();
	assert_string_equal(bxc_chan_session_id(cli.c), bxc_chan_session_id(srv.c));
	say(cli.c, "a");
	say(cli.c, "b");
	say(srv.c, "c");
	UNTIL(srv.got && cli.got && strlen(srv.got) == 4);
	assert_string_equal(srv.got, "a;b;");
	assert_string_equal(cli.got, "c;");
}

static void large_messages_are_put_together(void **state)
{
	(void)state;
	connect_both();
	size_t n = 3 << 20;
	char *big = bxc_malloc(n);
	memset(big, 'x', n);
	assert_int_equal(bxc_chan_send(cli.c, bxc_slice_of(big, n), NULL), 0);
	say(cli.c, "after");
	UNTIL(srv.got && strstr(srv.got, "after"));
	free(big);
}

static void cut(void *ud)
{
	bxc_chan *c = ud;
	bxc_err *err = NULL;
	bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE, "cut by the test"));
	if (c->ctl)
		conn_failed(c->ctl, err);
	else
		bxc_err_free(err);
}

static void nothing_is_lost_or_doubled_across_cuts(void **state)
{
	(void)state;
	connect_both();
	BXC_AUTOBUF bxc_buf want = BXC_BUF_INIT(1 << 20);
	for (int i = 0; i < 600; i++) {
		BXC_AUTOFREE char *m = bxc_str_fmt("m%d", i);
		say(cli.c, m);
		say(srv.c, m);
		bxc_buf_addf(&want, "%s;", m);
		if (i % 60 == 30)
			bxc_loop_post(cli.c->e->loop, cut, i % 120 == 30 ? cli.c : srv.c);
		bxc_ignore(bxc_loop_step(loop, 0, NULL));
	}
	UNTIL(srv.got && cli.got && strlen(srv.got) >= want.len && strlen(cli.got) >= want.len);
	assert_string_equal(srv.got, bxc_buf_text(&want));
	assert_string_equal(cli.got, bxc_buf_text(&want));
	assert_true(cli.downs >= 1);
}

static void a_wrong_token_is_refused_with_its_reason(void **state)
{
	(void)state;
	want_token = "right-token-12345";
	dial_with("wrong-token-12345");
	UNTIL(cli.closed);
	assert_int_equal(cli.why, BXC_UNAUTHENTICATED);
	assert_null(srv.c);
}

struct io {
	bxc_chan_stream *s;
	size_t n;
	int result;
	bxc_code code;
	uint64_t sum;
};

static void *write_much(void *ud)
{
	struct io *io = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	uint8_t chunk[5000];
	for (size_t done = 0; done < io->n && io->result >= 0;) {
		size_t k = BXC_MIN(sizeof(chunk), io->n - done);
		for (size_t i = 0; i < k; i++)
			chunk[i] = (uint8_t)((done + i) % 251);
		io->result = bxc_chan_stream_write(io->s, chunk, k, NULL, &err);
		done += k;
	}
	if (io->result >= 0)
		io->result = bxc_chan_stream_write_eof(io->s, &err);
	io->code = bxc_err_code(err);
	return NULL;
}

static void *read_much(void *ud)
{
	struct io *io = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	uint8_t chunk[7000];
	for (;;) {
		ssize_t k = bxc_chan_stream_read(io->s, chunk, sizeof(chunk), NULL, &err);
		io->result = (int)k;
		if (k <= 0)
			break;
		for (ssize_t i = 0; i < k; i++)
			if (chunk[i] != (uint8_t)((io->n + (size_t)i) % 251))
				io->sum++;
		io->n += (size_t)k;
	}
	io->code = bxc_err_code(err);
	return NULL;
}

static void streams_carry_bytes_on_the_bulk_connection_while_messages_pass(void **state)
{
	(void)state;
	connect_both();
	/* The acceptor opens it: the dialler is asked for a bulk connection. */
	bxc_chan_stream *s = NULL;
	assert_int_equal(bxc_chan_stream_open(srv.c, "context.fetch", "{}", BXC_CHAN_BULK, &s, NULL), 0);
	struct io w = {.s = s, .n = 20 << 20}, r = {0};
	pthread_t tw, tr;
	pthread_create(&tw, NULL, write_much, &w);
	UNTIL(cli.stream);
	assert_string_equal(cli.kind, "context.fetch");
	/* Nobody reads yet: the writer is stopped by credit, messages are not. */
	say(srv.c, "through");
	UNTIL(cli.got);
	r.s = cli.stream;
	pthread_create(&tr, NULL, read_much, &r);
	pthread_join(tw, NULL);
	pthread_join(tr, NULL);
	assert_int_equal(w.result, 0);
	assert_int_equal(r.result, 0);
	assert_int_equal(r.n, 20 << 20);
	assert_int_equal(r.sum, 0);
	bxc_chan_stream_free(s);
}

static void a_reset_carries_its_reason(void **state)
{
	(void)state;
	connect_both();
	bxc_chan_stream *s = NULL;
	assert_int_equal(bxc_chan_stream_open(cli.c, "k", "n", 0, &s, NULL), 0);
	UNTIL(srv.stream);
	bxc_chan_stream_reset(srv.stream, BXC_NOT_FOUND, "no such thing");
	BXC_AUTOERR bxc_err *err = NULL;
	char b;
	assert_int_equal(bxc_chan_stream_read(s, &b, 1, NULL, &err), -BXC_NOT_FOUND);
	assert_string_equal(bxc_err_text(err), "no such thing");
	bxc_chan_stream_free(s);
}

static void a_cut_fails_streams(void **state)
{
	(void)state;
	connect_both();
	bxc_chan_stream *s = NULL;
	assert_int_equal(bxc_chan_stream_open(cli.c, "k", "n", 0, &s, NULL), 0);
	UNTIL(srv.stream);
	bxc_loop_post(cli.c->e->loop, cut, cli.c);
	struct io r = {.s = s};
	read_much(&r);
	assert_int_equal(r.code, BXC_UNAVAILABLE);
	bxc_chan_stream_free(s);
	UNTIL(cli.ups == 2);
}

static void garbage_is_cut_off_and_others_go_on(void **state)
{
	(void)state;
	static const char *const junk[] = {
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"\xff\xff\xff\xff\x01\0\0\0\0\0\0\0\0\0\0\0",
		"\0\0\0\x02\x01\0\0\0\0\0\0\0\0\0\0\0{}",
		"\0\0\0\x02\x09\0\0\0\0\0\0\0\0\0\0\0{}",
	};
	static const size_t lengths[] = {26, 16, 18, 18};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(junk); i++) {
		int fd = raw_socket();
		char buf[256];
		assert_int_equal(write(fd, junk[i], lengths[i]), lengths[i]);
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;
		do {
			assert_int_equal(poll(&p, 1, 20000), 1);
			n = read(fd, buf, sizeof(buf));
		} while (n > 0);
		close(fd);
	}
	connect_both();
}

static void a_forgotten_session_starts_anew(void **state)
{
	(void)state;
	connect_both();
	say(cli.c, "old");
	UNTIL(srv.got);
	uint16_t port = bxc_chan_server_port(server, 0);
	/* The server leaves without a goodbye, as one that is to be back. */
	bxc_chan_drop(srv.c);
	srv.c = NULL;
	bxc_chan_server_stop(server);
	BXC_AUTOFREE char *url = bxc_str_fmt("tcp://127.0.0.1:%u", port);
	listen_on(url);
	UNTIL(cli.resets == 1);
	assert_false(cli.closed);
	say(cli.c, "new");
	UNTIL(srv.got && strstr(srv.got, "new"));
}

static void a_relay_joins_two_streams(void **state)
{
	(void)state;
	connect_both();
	bxc_chan_stream *a = NULL, *b = NULL;
	assert_int_equal(bxc_chan_stream_open(cli.c, "in", "", 0, &a, NULL), 0);
	UNTIL(srv.stream);
	bxc_chan_stream *in = BXC_TAKE(srv.stream);
	free(srv.kind);
	free(srv.name);
	srv.kind = srv.name = NULL;
	assert_int_equal(bxc_chan_stream_open(srv.c, "out", "", BXC_CHAN_BULK, &b, NULL), 0);
	UNTIL(cli.stream);
	bxc_chan_relay(in, b);
	struct io w = {.s = a, .n = 3 << 20}, r = {.s = cli.stream};
	pthread_t tw;
	pthread_create(&tw, NULL, write_much, &w);
	read_much(&r);
	pthread_join(tw, NULL);
	assert_int_equal(r.n, 3 << 20);
	assert_int_equal(r.sum, 0);
	assert_int_equal(bxc_chan_stream_write(cli.stream, "{}", 2, NULL, NULL), 0);
	assert_int_equal(bxc_chan_stream_write_eof(cli.stream, NULL), 0);
	BXC_AUTOBUF bxc_buf back = BXC_BUF_INIT(10);
	assert_int_equal(bxc_chan_stream_read_all(a, &back, NULL, NULL), 0);
	assert_string_equal(bxc_buf_text(&back), "{}");
	bxc_chan_stream_free(a);
}

static void tokens_do_not_travel_in_the_clear(void **state)
{
	(void)state;
	const char *urls[] = {"tcp://0.0.0.0:0"};
	bxc_chan_server *s = NULL;
	const bxc_chan_server_config sc = {.addresses = urls, .n_addresses = 1};
	static const bxc_chan_server_callbacks cb = {authorize, on_session};
	assert_int_equal(bxc_chan_server_new(loop, &sc, &cb, NULL, &s, NULL), -BXC_FAILED_PRECONDITION);
	connect_both();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(messages_pass_both_ways_in_order),
		T(large_messages_are_put_together),
		T(nothing_is_lost_or_doubled_across_cuts),
		T(a_wrong_token_is_refused_with_its_reason),
		T(streams_carry_bytes_on_the_bulk_connection_while_messages_pass),
		T(a_reset_carries_its_reason),
		T(a_cut_fails_streams),
		T(garbage_is_cut_off_and_others_go_on),
		T(a_forgotten_session_starts_anew),
		T(a_relay_joins_two_streams),
		T(tokens_do_not_travel_in_the_clear),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
