/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that are frozen, broken or hostile: they harm nobody but themselves. */
#include "common/channel/channel_test_world.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/be.h"
#include "common/base/limits.h"

/* ---- what many tests begin with ---- */

static void put_open(struct raw *r, uint32_t stream, uint32_t credit)
{
	raw_send(r, FRAME_OPEN, 0, stream, credit, "k\0n", 3);
}

static void listen_with_short_heartbeats(void)
{
	bxc_chan_server_stop(server);
	server_config.heartbeat_ns = 100 * BXC_NS_PER_MS;
	server_config.grace_ns = BXC_NS_PER_S;
	listen_on("tcp://127.0.0.1:0");
}

/* ---- the end of a session ---- */

static void closing_ends_though_the_peer_does_not_answer(void **state)
{
	(void)state;
	struct raw r;
	int fd = raw_serve(&r, 10 * BXC_NS_PER_S);
	int64_t begun = bxc_clock_mono_ns();
	bxc_chan_close(BXC_TAKE(cli.c));
	assert_true(bxc_clock_mono_ns() - begun < 8 * BXC_NS_PER_S);
	raw_close(&r);
	close(fd);
}

static void a_session_may_be_closed_as_soon_as_it_is_there(void **state)
{
	(void)state;
	close_sessions = true;
	dial_with(NULL);
	/* It is told so, and tries again. */
	for (int i = 0; i < 20; i++)
		bxc_ignore(bxc_loop_step(loop, 20, NULL));
	assert_int_equal(cli.ups, 0);
	close_sessions = false;
	UNTIL(cli.ups == 1 && srv.ups == 1);
}

static void a_server_may_be_stopped_while_peers_introduce_themselves(void **state)
{
	(void)state;
	struct raw r[8];
	for (size_t i = 0; i < BXC_ARRAY_SIZE(r); i++) {
		raw_open(&r[i]);
		raw_say_hello(&r[i], "control", 0);
	}
	/* What it is to ask of its user about them lies in the loop, which does not turn. */
	struct raw last;
	raw_open(&last);
	raw_send(&last, FRAME_EOF, 0, 0, 0, NULL, 0);
	last.still = true;
	assert_true(raw_next(&last));
	bxc_chan_server_stop(server);
	for (int i = 0; i < 20; i++)
		assert_int_equal(bxc_loop_step(loop, 0, NULL), 0);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(r); i++)
		raw_close(&r[i]);
	raw_close(&last);
	listen_on("tcp://127.0.0.1:0");
	connect_both();
}

static void closing_while_a_name_is_looked_up_is_safe(void **state)
{
	(void)state;
	BXC_AUTOFREE char *by_name = bxc_str_fmt("tcp://localhost:%u", bxc_chan_server_port(server, 0));
	free(address);
	address = bxc_strdup(by_name);
	for (int i = 0; i < 50; i++) {
		dial_with(NULL);
		bxc_chan_close(BXC_TAKE(cli.c));
	}
	connect_both();
}

/* ---- refusals ---- */

static void a_long_refusal_arrives_with_its_code(void **state)
{
	(void)state;
	BXC_AUTOFREE char *text = bxc_malloc(6001);
	memset(text, '"', 6000);
	memcpy(text, "why: ", 5);
	text[6000] = '\0';
	refusal = text;
	want_token = "right";
	dial_with("wrong");
	UNTIL(cli.closed);
	assert_int_equal(cli.why, BXC_UNAUTHENTICATED);
	assert_memory_equal(cli.why_text, "why: \"\"", 7);
}

static void a_hello_that_cannot_be_sent_is_refused_at_once(void **state)
{
	(void)state;
	BXC_AUTOFREE char *text = bxc_calloc(1, 100001);
	memset(text, 'x', 100000);
	bxc_secret *t = bxc_secret_new(text, 100000);
	bxc_chan *c = NULL;
	bxc_chan_dial_config dc = {.address = address, .role = "worker", .name = "w", .token = t};
	assert_int_equal(bxc_chan_dial(loop, &dc, &callbacks, &cli, &c, NULL), -BXC_INVALID_ARGUMENT);
	dc.token = NULL;
	dc.name = text;
	assert_int_equal(bxc_chan_dial(loop, &dc, &callbacks, &cli, &c, NULL), -BXC_INVALID_ARGUMENT);
	bxc_secret_free(t);
}

static void who_says_nothing_keeps_nobody_out(void **state)
{
	(void)state;
	int fds[320];
	for (size_t i = 0; i < BXC_ARRAY_SIZE(fds); i++)
		fds[i] = raw_socket();
	int64_t begun = bxc_clock_mono_ns();
	connect_both();
	assert_true(bxc_clock_mono_ns() - begun < 5 * BXC_NS_PER_S);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

/* ---- floods ---- */

static void pings_whose_answers_are_not_read_harm_nobody(void **state)
{
	(void)state;
	struct raw r;
	BXC_AUTOBUF bxc_buf many = BXC_BUF_INIT(1 << 20);
	static const char text[64];
	raw_session(&r);
	for (int i = 0; i < 10000; i++)
		frame_put(&many, FRAME_PING, 0, 0, 0, bxc_slice_of(text, sizeof(text)));
	for (int i = 0; i < 30; i++)
		assert_int_equal(send(r.fd, many.data, many.len, MSG_NOSIGNAL), many.len);
	struct raw other;
	raw_open(&other);
	raw_hello(&other, "control", 0);
	assert_int_equal(other.f.type, FRAME_WELCOME);
	raw_close(&other);
	raw_close(&r);
}

static void before_the_welcome_nothing_but_a_hello_is_taken(void **state)
{
	(void)state;
	struct raw r;
	raw_open(&r);
	raw_send(&r, FRAME_PING, 0, 0, 0, "x", 1);
	assert_true(raw_next(&r));
	assert_int_equal(r.f.type, FRAME_BYE);
	raw_close(&r);
}

static void streams_that_are_opened_and_reset_in_a_rush_are_bounded(void **state)
{
	(void)state;
	struct raw r;
	size_t refused = 0;
	raw_session(&r);
	for (uint32_t i = 0; i < 3000; i++) {
		put_open(&r, 2 * i + 1, WINDOW_BYTES);
		raw_send(&r, FRAME_RESET, 0, 2 * i + 1, BXC_CANCELED, "", 0);
	}
	/* The user's loop does not turn: what it has not taken counts. */
	r.still = true;
	while (refused < 3000 - MAX_STREAMS) {
		assert_true(raw_next(&r));
		assert_int_equal(r.f.type, FRAME_RESET);
		assert_int_equal(r.f.arg, BXC_RESOURCE_EXHAUSTED);
		refused++;
	}
	UNTIL(srv.n_streams == MAX_STREAMS);
	put_open(&r, 7001, WINDOW_BYTES);
	UNTIL(srv.n_streams == MAX_STREAMS + 1);
	raw_close(&r);
}

static void too_many_streams_of_ours_fail_alone(void **state)
{
	(void)state;
	bxc_chan_stream *s[MAX_STREAMS + 1];
	connect_both();
	for (size_t i = 0; i < BXC_ARRAY_SIZE(s); i++)
		assert_int_equal(bxc_chan_stream_open(cli.c, "k", "n", 0, &s[i], NULL), 0);
	UNTIL(has_ended(s[MAX_STREAMS], BXC_RESOURCE_EXHAUSTED));
	say(cli.c, "still here");
	UNTIL(srv.got);
	assert_int_equal(cli.downs, 0);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(s); i++)
		bxc_chan_stream_free(s[i]);
}

static void the_largest_message_goes_after_many_small_ones(void **state)
{
	(void)state;
	connect_both();
	BXC_AUTOFREE char *big = bxc_malloc(BXC_LIMIT_MESSAGE);
	memset(big, 'x', BXC_LIMIT_MESSAGE);
	for (int i = 0; i < 40; i++)
		assert_int_equal(bxc_chan_send(cli.c, bxc_slice_of(big, 7000), NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(bxc_chan_send(cli.c, bxc_slice_of(big, BXC_LIMIT_MESSAGE), NULL), 0);
	say(cli.c, "after");
	UNTIL(srv.got && strstr(srv.got, "after"));
	assert_int_equal(cli.downs, 0);
}

/* ---- numbers ---- */

static void put_event(struct raw *r, uint64_t seq, const char *text)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1000);
	uint8_t n[8];
	bxc_be_put(n, seq, 8);
	bxc_buf_add(&b, n, 8);
	bxc_buf_adds(&b, text);
	raw_send(r, FRAME_EVENT, 0, 0, 0, b.data, b.len);
}

static void put_ack(struct raw *r, uint64_t seq)
{
	uint8_t n[8];
	bxc_be_put(n, seq, 8);
	raw_send(r, FRAME_ACK, 0, 0, 0, n, 8);
}

static void what_was_not_sent_is_not_acknowledged(void **state)
{
	(void)state;
	struct raw r;
	raw_session(&r);
	put_ack(&r, 1000);
	assert_false(raw_until(&r, FRAME_ACK));
	UNTIL(srv.downs == 1);
	/* Nor can a session be resumed after messages that never were. */
	raw_reconnect(&r);
	raw_hello(&r, "control", 1000);
	assert_int_equal(r.f.type, FRAME_BYE);
	raw_close(&r);
}

static void a_session_is_not_resumed_before_what_was_acknowledged(void **state)
{
	(void)state;
	struct raw r;
	raw_session(&r);
	say(srv.c, "one");
	say(srv.c, "two");
	assert_true(raw_until(&r, FRAME_EVENT) && raw_until(&r, FRAME_EVENT));
	put_ack(&r, 2);
	put_event(&r, 1, "seen");
	UNTIL(srv.got);
	raw_reconnect(&r);
	raw_hello(&r, "control", 1);
	assert_int_equal(r.f.type, FRAME_BYE);
	raw_close(&r);
}

static void a_message_is_acknowledged_when_its_user_has_it(void **state)
{
	(void)state;
	struct raw r;
	raw_session(&r);
	put_event(&r, 1, "a");
	/* A refused stream shows that the engine is past it; the user's loop has not turned. */
	for (uint32_t i = 0; i <= MAX_STREAMS; i++)
		put_open(&r, 2 * i + 1, 0);
	r.still = true;
	assert_true(raw_next(&r));
	assert_int_equal(r.f.type, FRAME_RESET);
	r.still = false;
	assert_null(srv.got);
	assert_true(raw_until(&r, FRAME_ACK));
	assert_int_equal(bxc_be_get(r.f.payload.p, 8), 1);
	assert_string_equal(srv.got, "a;");
	raw_close(&r);
}

static void what_was_queued_for_a_lost_session_is_lost_with_it(void **state)
{
	(void)state;
	struct raw r;
	int fd = raw_serve(&r, 10 * BXC_NS_PER_S);
	raw_close(&r);
	UNTIL(cli.downs == 1);
	raw_accept(&r, fd);
	raw_welcome(&r, TWO, false, 0, 10 * BXC_NS_PER_S);
	/* The answer shows that the engine knows; the user has not been told. */
	raw_send(&r, FRAME_PING, 0, 0, 0, "x", 1);
	r.still = true;
	assert_true(raw_next(&r));
	assert_int_equal(r.f.type, FRAME_PONG);
	say(cli.c, "stale");
	UNTIL(cli.resets == 1);
	say(cli.c, "new");
	assert_true(raw_until(&r, FRAME_EVENT));
	assert_int_equal(r.f.payload.n, 8 + 3);
	assert_int_equal(bxc_be_get(r.f.payload.p, 8), 1);
	assert_memory_equal(r.f.payload.p + 8, "new", 3);
	put_ack(&r, 1);
	raw_close(&r);
	close(fd);
}

/* ---- streams ---- */

static void a_first_credit_is_what_the_opener_said(void **state)
{
	(void)state;
	struct raw r;
	raw_session(&r);
	put_open(&r, 1, 10);
	UNTIL(srv.stream);
	/* Fits into the first credit, then waits for more. */
	assert_int_equal(bxc_chan_stream_write(srv.stream, "0123456789", 10, NULL, NULL), 0);
	pthread_mutex_lock(&srv.stream->lock);
	assert_int_equal(srv.stream->tx_credit, 0);
	pthread_mutex_unlock(&srv.stream->lock);
	assert_true(raw_until(&r, FRAME_DATA));
	assert_int_equal(r.f.payload.n, 10);
	raw_close(&r);
}

static void bytes_after_the_end_cut_the_connection(void **state)
{
	(void)state;
	struct raw r;
	raw_session(&r);
	put_open(&r, 1, WINDOW_BYTES);
	raw_send(&r, FRAME_EOF, 0, 1, 0, NULL, 0);
	raw_send(&r, FRAME_DATA, 0, 1, 0, "x", 1);
	UNTIL(srv.downs == 1);
	raw_close(&r);
}

static void credit_does_not_overflow(void **state)
{
	(void)state;
	struct raw r;
	raw_session(&r);
	put_open(&r, 1, UINT32_MAX);
	raw_send(&r, FRAME_WINDOW, 0, 1, 1, NULL, 0);
	UNTIL(srv.downs == 1);
	raw_close(&r);
}

static void numbers_of_streams_are_checked(void **state)
{
	(void)state;
	/* Even ones are the acceptor's; the second is opened twice. */
	static const uint32_t ids[][2] = {{2, 2}, {0, 0}, {1, 1}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(ids); i++) {
		struct raw r;
		int downs = srv.downs;
		raw_session(&r);
		put_open(&r, ids[i][0], 0);
		put_open(&r, ids[i][1], 0);
		UNTIL(srv.downs > downs);
		raw_close(&r);
	}
	struct raw r;
	int fd = raw_serve(&r, 10 * BXC_NS_PER_S);
	put_open(&r, 0, 0);
	UNTIL(cli.downs == 1);
	raw_close(&r);
	close(fd);
}

static void set_last_number(void *ud)
{
	bxc_chan *c = ud;
	c->next_stream = UINT32_MAX - 1;
}

static void numbers_of_streams_begin_again(void **state)
{
	(void)state;
	bxc_chan_stream *s[4];
	connect_both();
	assert_int_equal(bxc_chan_stream_open(srv.c, "k", "first", 0, &s[0], NULL), 0);
	UNTIL(cli.n_streams == 1);
	bxc_loop_post(srv.c->e->loop, set_last_number, srv.c);
	for (int i = 1; i < 4; i++)
		assert_int_equal(bxc_chan_stream_open(srv.c, "k", "n", 0, &s[i], NULL), 0);
	UNTIL(cli.n_streams == 4);
	assert_int_equal(s[1]->id, UINT32_MAX - 1);
	assert_int_equal(s[2]->id, 4);       /* 2 is in use: see above */
	assert_int_equal(s[3]->id, 6);
	assert_int_equal(cli.downs, 0);
	for (int i = 0; i < 4; i++)
		bxc_chan_stream_free(s[i]);
}

static void frames_of_unknown_streams_are_ignored(void **state)
{
	(void)state;
	struct raw r;
	raw_session(&r);
	raw_send(&r, FRAME_DATA, 0, 99, 0, "x", 1);
	raw_send(&r, FRAME_WINDOW, 0, UINT32_MAX, UINT32_MAX, NULL, 0);
	raw_send(&r, FRAME_EOF, 0, 0, 0, NULL, 0);
	raw_send(&r, FRAME_RESET, 0, 98, 1u << 31, "x", 1);
	put_event(&r, 1, "on");
	UNTIL(srv.got);
	assert_int_equal(srv.downs, 0);
	raw_close(&r);
}

/* ---- bulk connections ---- */

static void a_second_bulk_connection_takes_the_place_of_the_first(void **state)
{
	(void)state;
	struct raw r, b1, b2;
	bxc_chan_stream *s = NULL;
	raw_session(&r);
	raw_join(&b1, &r);
	assert_int_equal(bxc_chan_stream_open(srv.c, "k", "n", BXC_CHAN_BULK, &s, NULL), 0);
	assert_true(raw_until(&b1, FRAME_OPEN));
	raw_join(&b2, &r);
	UNTIL(has_ended(s, BXC_UNAVAILABLE));
	bxc_chan_stream_free(s);
	assert_int_equal(bxc_chan_stream_open(srv.c, "k", "n", BXC_CHAN_BULK, &s, NULL), 0);
	assert_true(raw_until(&b2, FRAME_OPEN));
	bxc_chan_stream_free(s);
	raw_close(&b1);
	raw_close(&b2);
	raw_close(&r);
}

static void a_bulk_connection_that_cannot_be_made_is_told_to_who_asked(void **state)
{
	(void)state;
	struct raw r, b;
	bxc_chan_stream *s = NULL;
	int fd = raw_serve(&r, 10 * BXC_NS_PER_S);
	assert_int_equal(bxc_chan_stream_open(cli.c, "k", "n", BXC_CHAN_BULK, &s, NULL), 0);
	raw_send(&r, FRAME_BULK, 0, 0, 0, NULL, 0);
	raw_accept(&b, fd);
	static const char bye[] = "{\"code\":\"RESOURCE_EXHAUSTED\",\"text\":\"no\"}";
	raw_send(&b, FRAME_BYE, 0, 0, 0, bye, strlen(bye));
	raw_close(&b);
	assert_true(raw_until(&r, FRAME_BULK));
	assert_int_equal(r.f.payload.n, 2);
	UNTIL(has_ended(s, BXC_UNAVAILABLE));
	bxc_chan_stream_free(s);
	raw_close(&r);
	close(fd);
}

static void streams_do_not_wait_for_a_bulk_connection_that_will_not_come(void **state)
{
	(void)state;
	struct raw r;
	bxc_chan_stream *s = NULL;
	raw_session(&r);
	assert_int_equal(bxc_chan_stream_open(srv.c, "k", "n", BXC_CHAN_BULK, &s, NULL), 0);
	assert_true(raw_until(&r, FRAME_BULK));
	raw_send(&r, FRAME_BULK, 0, 0, 0, "no way", 6);
	UNTIL(has_ended(s, BXC_UNAVAILABLE));
	assert_string_equal(s->fail_text, "no connection for bulk data: no way");
	bxc_chan_stream_free(s);
	raw_close(&r);
}

/* ---- silence ---- */

static void a_frozen_peer_is_given_up_within_the_grace_time(void **state)
{
	(void)state;
	struct raw r;
	listen_with_short_heartbeats();
	raw_session(&r);
	int64_t begun = bxc_clock_mono_ns();
	UNTIL(srv.downs == 1);
	assert_true(bxc_clock_mono_ns() - begun < BXC_NS_PER_S);
	UNTIL(srv.closed);
	int64_t took = bxc_clock_mono_ns() - begun;
	assert_true(took > 900 * BXC_NS_PER_MS && took < 3 * BXC_NS_PER_S / 2);
	/* It comes back too late: its session is not known any more. */
	struct raw again;
	BXC_AUTOFREE char *old = bxc_strdup(r.session);
	raw_open(&again);
	memcpy(again.session, r.session, sizeof(r.session));
	memcpy(again.secret, r.secret, sizeof(r.secret));
	raw_hello(&again, "control", 0);
	assert_int_equal(again.f.type, FRAME_WELCOME);
	assert_string_not_equal(again.session, old);
	raw_close(&again);
	raw_close(&r);
}

static void a_dialler_learns_the_heartbeat_and_leaves_a_frozen_server(void **state)
{
	(void)state;
	struct raw r;
	int fd = raw_serve(&r, 100 * BXC_NS_PER_MS);
	int64_t begun = bxc_clock_mono_ns();
	UNTIL(cli.downs == 1);
	assert_true(bxc_clock_mono_ns() - begun < 2 * BXC_NS_PER_S);
	raw_close(&r);
	close(fd);
}

static void quiet_peers_that_live_stay(void **state)
{
	(void)state;
	listen_with_short_heartbeats();
	connect_both();
	int64_t until = bxc_clock_mono_ns() + 2 * BXC_NS_PER_S;
	UNTIL(bxc_clock_mono_ns() > until);
	assert_int_equal(cli.downs, 0);
	assert_int_equal(srv.downs, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(closing_ends_though_the_peer_does_not_answer),
		T(a_session_may_be_closed_as_soon_as_it_is_there),
		T(a_server_may_be_stopped_while_peers_introduce_themselves),
		T(closing_while_a_name_is_looked_up_is_safe),
		T(a_long_refusal_arrives_with_its_code),
		T(a_hello_that_cannot_be_sent_is_refused_at_once),
		T(who_says_nothing_keeps_nobody_out),
		T(pings_whose_answers_are_not_read_harm_nobody),
		T(before_the_welcome_nothing_but_a_hello_is_taken),
		T(streams_that_are_opened_and_reset_in_a_rush_are_bounded),
		T(too_many_streams_of_ours_fail_alone),
		T(the_largest_message_goes_after_many_small_ones),
		T(what_was_not_sent_is_not_acknowledged),
		T(a_session_is_not_resumed_before_what_was_acknowledged),
		T(a_message_is_acknowledged_when_its_user_has_it),
		T(what_was_queued_for_a_lost_session_is_lost_with_it),
		T(a_first_credit_is_what_the_opener_said),
		T(bytes_after_the_end_cut_the_connection),
		T(credit_does_not_overflow),
		T(numbers_of_streams_are_checked),
		T(numbers_of_streams_begin_again),
		T(frames_of_unknown_streams_are_ignored),
		T(a_second_bulk_connection_takes_the_place_of_the_first),
		T(a_bulk_connection_that_cannot_be_made_is_told_to_who_asked),
		T(streams_do_not_wait_for_a_bulk_connection_that_will_not_come),
		T(a_frozen_peer_is_given_up_within_the_grace_time),
		T(a_dialler_learns_the_heartbeat_and_leaves_a_frozen_server),
		T(quiet_peers_that_live_stay),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
