/* SPDX-License-Identifier: Apache-2.0 */
#include "common/httpd/httpd_test_fixture.h"

/* ---- answers from elsewhere ---- */

static void a_kept_request_is_answered_from_another_thread(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOCLOSE int fd = connect_to(f);
	say(fd, "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&f->arrived);
	/* The server goes on meanwhile. */
	BXC_CLEANUP(answer_done) struct answer other = GET(f, "/");
	assert_int_equal(other.status, 200);
	bxc_httpd_reply(f->kept, 200, "text/plain", bxc_slice_of("at last", 7), NULL);
	BXC_AUTOFREE char *said = hear(fd, "at last");
	assert_true(bxc_str_has_prefix(said, "HTTP/1.1 200 "));
	/* The connection is still good. */
	say(fd, "GET /v1/things/z HTTP/1.1\r\nHost: x\r\n\r\n");
	BXC_AUTOFREE char *again = hear(fd, "\"z\"");
	assert_true(bxc_str_has_prefix(again, "HTTP/1.1 200 "));
}

static void answers_may_overtake_their_handler(void **state)
{
	struct fixture *f = *state;
	for (unsigned i = 0; i < 100; i++) {
		BXC_CLEANUP(answer_done) struct answer a = GET(f, "/race");
		assert_string_equal(a.body, "later");
	}
}

static void an_answer_to_a_client_that_left_is_harmless(void **state)
{
	struct fixture *f = *state;
	int fd = connect_to(f);
	say(fd, "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&f->arrived);
	close(fd);
	bxc_httpd_reply(f->kept, 200, "text/plain", bxc_slice_of("anybody?", 8), NULL);
	BXC_CLEANUP(answer_done) struct answer a = GET(f, "/");
	assert_int_equal(a.status, 200);
}

/* ---- event streams ---- */

static void events_are_streamed(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOCLOSE int fd = connect_to(f);
	say(fd, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&f->arrived);
	assert_int_equal(bxc_httpd_sse_send(f->stream, 7, "log", "one\ntwo"), 0);
	BXC_AUTOFREE char *said = hear(fd, "data: two\n\n");
	assert_non_null(strstr(said, "Content-Type: text/event-stream"));
	assert_non_null(strstr(said, "id: 7\nevent: log\ndata: one\ndata: two\n\n"));
	assert_int_equal(bxc_httpd_sse_ping(f->stream), 0);
	free(hear(fd, ": ping\n\n"));
	assert_int_equal(bxc_httpd_sse_send(f->stream, 8, "end", ""), 0);
	bxc_httpd_sse_end(f->stream);
	BXC_AUTOFREE char *rest = hear(fd, "0\r\n\r\n");
	assert_non_null(strstr(rest, "id: 8\nevent: end\ndata: \n\n"));
}

static void the_writer_learns_that_its_reader_left(void **state)
{
	struct fixture *f = *state;
	int fd = connect_to(f), r = 0;
	say(fd, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&f->arrived);
	free(hear(fd, "\r\n\r\n"));
	close(fd);
	/* The first writes may still go into the void. */
	for (unsigned i = 0; i < 1000000 && r == 0; i++)
		r = bxc_httpd_sse_ping(f->stream);
	assert_int_equal(r, -BXC_CANCELED);
	bxc_httpd_sse_end(f->stream);
}

static void a_slow_reader_is_cut_off(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOCLOSE int fd = connect_to(f);
	BXC_AUTOFREE char *data = bxc_calloc(1, 100001);
	int r = 0;
	memset(data, 'x', 100000);
	say(fd, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&f->arrived);
	for (unsigned i = 0; i < 1000 && r == 0; i++)
		r = bxc_httpd_sse_send(f->stream, i, "log", data);
	assert_int_equal(r, -BXC_CANCELED);
	assert_int_equal(bxc_httpd_sse_ping(f->stream), -BXC_CANCELED);
	bxc_httpd_sse_end(f->stream);
	/* The client sees the end of the connection, not of the stream. */
	char c[65536], last[5] = "";
	for (ssize_t n; (n = recv(fd, c, sizeof(c), 0)) > 0;)
		if (n >= 5)
			memcpy(last, c + n - 5, 5);
	assert_memory_not_equal(last, "0\r\n\r\n", 5);
}

static void head_of_a_stream_has_no_reader(void **state)
{
	struct fixture *f = *state;
	ASK(f, "HEAD", "/events", NULL, bxc_slice_of("", 0), NULL);
	sem_wait(&f->arrived);
	assert_int_equal(a.status, 200);
	bxc_httpd_sse_end(f->stream);
}

/* ---- start and stop ---- */

static void stopping_wakes_what_sleeps(void **state)
{
	(void)state;
	void *p = NULL;
	setup(&p);
	struct fixture *f = p;
	BXC_AUTOCLOSE int kept = connect_to(f);
	BXC_AUTOCLOSE int stream = connect_to(f);
	/* Neither does one that never asked for anything hold it up for ever. */
	BXC_AUTOCLOSE int idle = connect_to(f);
	assert_true(idle >= 0);
	say(kept, "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&f->arrived);
	say(stream, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&f->arrived);
	assert_int_equal(bxc_httpd_sse_send(f->stream, 1, "last", "words"), 0);
	bxc_httpd_stop(f->server);
	BXC_AUTOFREE char *said = hear(kept, "UNAVAILABLE");
	assert_true(bxc_str_has_prefix(said, "HTTP/1.1 503 "));
	free(hear(stream, "words"));
	/* Late answers of those who kept something. */
	bxc_httpd_reply(f->kept, 200, "text/plain", bxc_slice_of("late", 4), NULL);
	assert_int_equal(bxc_httpd_sse_ping(f->stream), -BXC_CANCELED);
	bxc_httpd_sse_end(f->stream);
	f->server = NULL;
	teardown(&p);
}

static void a_stream_begun_during_the_stop_is_ended(void **state)
{
	(void)state;
	void *p = NULL;
	setup(&p);
	struct fixture *f = p;
	BXC_AUTOCLOSE int kept = connect_to(f);
	BXC_AUTOCLOSE int stream = connect_to(f);
	say(kept, "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&f->arrived);
	say(stream, "GET /late-events HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&f->arrived);
	bxc_httpd_stop(BXC_TAKE(f->server));
	bxc_httpd_reply(f->kept, 200, "text/plain", bxc_slice_of("late", 4), NULL);
	assert_int_equal(bxc_httpd_sse_ping(f->stream), -BXC_CANCELED);
	bxc_httpd_sse_end(f->stream);
	teardown(&p);
}

static void a_stream_begun_after_the_stop_is_ended(void **state)
{
	(void)state;
	void *p = NULL;
	setup(&p);
	struct fixture *f = p;
	BXC_AUTOCLOSE int fd = connect_to(f);
	say(fd, "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n");
	sem_wait(&f->arrived);
	bxc_httpd_stop(BXC_TAKE(f->server));
	bxc_httpd_sse *s = bxc_httpd_reply_sse(f->kept);
	assert_int_equal(bxc_httpd_sse_ping(s), -BXC_CANCELED);
	bxc_httpd_sse_end(s);
	teardown(&p);
}

static bxc_httpd_config unix_config(const char *path, unsigned mode)
{
	return (bxc_httpd_config){.unix_path = path,
		.unix_mode = mode,
		.routes = routes,
		.n_routes = BXC_ARRAY_SIZE(routes)};
}

static void unix_sockets_have_their_mode_and_name_their_peer(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/sock", dir);
	struct stat st;
	bxc_httpd *h = NULL;
	bxc_httpd_config c = unix_config(path, 0);
	assert_ok(bxc_httpd_start(&c, &h, &err), err);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(1000);
	bxc_http_response *r = NULL;
	assert_ok(
		bxc_http_do(f->client,
			&(bxc_http_request){.method = "GET", .url = "http://x/", .unix_path = path},
			NULL, &r, &out, &err),
		err);
	bxc_http_response_free(r);
	BXC_AUTOFREE char *want =
		bxc_str_fmt("\"peer\":\"unix:uid=%u\",\"local\":true", (unsigned)getuid());
	assert_non_null(strstr(bxc_buf_text(&out), want));
	/* Two servers cannot share a socket. */
	bxc_httpd *second = NULL;
	assert_err_text(
		bxc_httpd_start(&c, &second, &err), BXC_FAILED_PRECONDITION, err, "already");
	bxc_httpd_stop(h);
	assert_int_not_equal(stat(path, &st), 0);
	c.unix_mode = 0666;
	assert_ok(bxc_httpd_start(&c, &h, &err), err);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	/* A file that took the place of the socket is not ours to remove. */
	assert_int_equal(unlink(path), 0);
	bxc_test_write_file(path, "x", 1, 0600);
	bxc_httpd_stop(h);
	assert_int_equal(stat(path, &st), 0);
	assert_err(bxc_httpd_start(&c, &h, &err), BXC_FAILED_PRECONDITION, err);
}

static void a_stale_socket_is_replaced(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/sock", dir);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	assert_true(strlen(path) < sizeof(a.sun_path));
	memcpy(a.sun_path, path, strlen(path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd);
	bxc_httpd *h = NULL;
	bxc_httpd_config c = unix_config(path, 0);
	assert_ok(bxc_httpd_start(&c, &h, &err), err);
	bxc_httpd_stop(h);
	char longer[200];
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	c.unix_path = longer;
	assert_err(bxc_httpd_start(&c, &h, &err), BXC_INVALID_ARGUMENT, err);
}

static void a_port_in_use_is_an_error(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_httpd *h = NULL;
	BXC_AUTOFREE char *where =
		bxc_str_fmt("listen on '127.0.0.1:%u'", bxc_httpd_port(f->server));
	int r = bxc_httpd_start(
		&(bxc_httpd_config){
			.port = bxc_httpd_port(f->server), .routes = routes, .n_routes = 1},
		&h, &err);
	assert_true(r < 0);
	assert_non_null(strstr(bxc_err_text(err), where));
	bxc_err_free(BXC_TAKE(err));
	assert_err(bxc_httpd_start(
			   &(bxc_httpd_config){
				   .host = "no such host", .routes = routes, .n_routes = 1},
			   &h, &err),
		BXC_INVALID_ARGUMENT, err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kept_request_is_answered_from_another_thread),
		cmocka_unit_test(answers_may_overtake_their_handler),
		cmocka_unit_test(an_answer_to_a_client_that_left_is_harmless),
		cmocka_unit_test(events_are_streamed),
		cmocka_unit_test(the_writer_learns_that_its_reader_left),
		cmocka_unit_test(a_slow_reader_is_cut_off),
		cmocka_unit_test(head_of_a_stream_has_no_reader),
		cmocka_unit_test(stopping_wakes_what_sleeps),
		cmocka_unit_test(a_stream_begun_during_the_stop_is_ended),
		cmocka_unit_test(a_stream_begun_after_the_stop_is_ended),
		cmocka_unit_test(unix_sockets_have_their_mode_and_name_their_peer),
		cmocka_unit_test(a_stale_socket_is_replaced),
		cmocka_unit_test(a_port_in_use_is_an_error),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
