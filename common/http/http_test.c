/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http/http_test_fixture.h"

/* ---- plain exchanges ---- */

static void a_body_arrives_with_status_and_headers(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *u = url(f, "/echo");
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(100);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *r = NULL;
	char *headers[] = {(char[]){"Content-Type: text/x-test"}, NULL};
	const bxc_http_request q = {
		.method = "POST", .url = u, .headers = headers, .body = bxc_slice_of("abc", 3)};
	assert_ok(bxc_http_do(f->client, &q, NULL, &r, &body, &err), err);
	assert_int_equal(bxc_http_status(r), 200);
	assert_string_equal(bxc_buf_text(&body), "abc");
	assert_string_equal(bxc_http_header(r, "content-TYPE"), "text/x-test");
	assert_int_equal(bxc_http_content_length(r), 3);
	assert_string_equal(bxc_http_header_at(r, "X-Twice", 0), "one");
	assert_string_equal(bxc_http_header_at(r, "X-Twice", 1), "two");
	assert_null(bxc_http_header_at(r, "X-Twice", 2));
	assert_null(bxc_http_header(r, "X-Twic"));
	assert_string_equal(bxc_http_effective_url(r), u);
	char c;
	assert_int_equal(bxc_http_read(r, &c, 1, &err), 0);
}

static void each_method_carries_its_body(void **state)
{
	struct fixture *f = *state;
	static const char *const methods[] = {"PUT", "POST", "PATCH", "DELETE"};
	BXC_AUTOFREE char *u = url(f, "/echo");
	for (size_t i = 0; i < BXC_ARRAY_SIZE(methods); i++) {
		BXC_AUTOFREE char *full = get(f,
			&(bxc_http_request){
				.method = methods[i], .url = u, .body = bxc_slice_of("xy", 2)},
			200);
		assert_string_equal(full, "xy");
		BXC_AUTOFREE char *empty =
			get(f, &(bxc_http_request){.method = methods[i], .url = u}, 200);
		assert_string_equal(empty, "");
	}
}

static void head_gives_the_length_and_no_body(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *u = url(f, "/big");
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(100);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *r = NULL;
	assert_ok(bxc_http_do(f->client, &(bxc_http_request){.method = "HEAD", .url = u}, NULL, &r,
			  &body, &err),
		err);
	assert_int_equal(bxc_http_status(r), 200);
	assert_int_equal(bxc_http_content_length(r), BIG);
	assert_int_equal(body.len, 0);
}

static void a_large_body_is_whole_however_slowly_it_is_read(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *u = url(f, "/big");
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *r = NULL;
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	uint8_t chunk[3001];
	size_t total = 0;
	assert_ok(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u}, NULL,
			  &r, &err),
		err);
	/* Other transfers of the client go on while this one waits for its reader. */
	BXC_AUTOFREE char *hello_url = url(f, "/hello");
	BXC_AUTOFREE char *text =
		get(f, &(bxc_http_request){.method = "GET", .url = hello_url}, 200);
	assert_string_equal(text, "hello");
	for (ssize_t n; (n = bxc_http_read(r, chunk, sizeof(chunk), &err)) != 0;
		total += (size_t)n) {
		assert_true(n > 0);
		bxc_hasher_update(h, chunk, (size_t)n);
	}
	assert_int_equal(total, BIG);
	bxc_digest have = bxc_hasher_final(h), want = bxc_digest_of(f->big, BIG);
	assert_true(bxc_digest_eq(&have, &want));
}

static void a_range_is_asked_for(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *u = url(f, "/big");
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(1000);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *r = NULL;
	bxc_http_request q = {.method = "GET",
		.url = u,
		.has_range = true,
		.range_first = 100,
		.range_last = 299};
	assert_ok(bxc_http_do(f->client, &q, NULL, &r, &body, &err), err);
	assert_int_equal(bxc_http_status(r), 206);
	assert_int_equal(body.len, 200);
	assert_memory_equal(body.data, f->big + 100, 200);
	bxc_http_response_free(BXC_TAKE(r));
	bxc_buf_clear(&body);
	q.range_first = BIG - 7;
	q.range_last = UINT64_MAX;
	assert_ok(bxc_http_do(f->client, &q, NULL, &r, &body, &err), err);
	assert_int_equal(body.len, 7);
	assert_memory_equal(body.data, f->big + BIG - 7, 7);
}

static void note_sent(uint64_t sent, void *ud)
{
	uint64_t *last = ud;
	assert_true(sent >= *last);
	*last = sent;
}

static void a_file_is_sent_from_its_offset(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *u = url(f, "/echo");
	BXC_AUTOCLOSE int fd = -1;
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(BIG);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *r = NULL;
	uint64_t sent = 0;
	const size_t off = 1234567, n = BIG - off - 1;
	assert_ok(bxc_fd_memfd("body", f->big, BIG, false, &fd, &err), err);
	bxc_http_request q = {.method = "PUT",
		.url = u,
		.has_body_fd = true,
		.body_fd = fd,
		.body_off = off,
		.body_len = n,
		.on_sent = note_sent,
		.on_sent_ud = &sent};
	assert_ok(bxc_http_do(f->client, &q, NULL, &r, &body, &err), err);
	assert_int_equal(bxc_http_status(r), 200);
	assert_int_equal(sent, n);
	assert_int_equal(body.len, n);
	assert_memory_equal(body.data, f->big + off, n);
	bxc_http_response_free(BXC_TAKE(r));
	/* A file that is shorter than was said. */
	sent = 0;
	q.body_len = BIG;
	assert_err_text(
		bxc_http_start(f->client, &q, NULL, &r, &err), BXC_DATA_LOSS, err, "shorter");
}

static void a_body_over_the_bound_of_its_buffer_is_an_error(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *u = url(f, "/big");
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(1000);
	bxc_http_response *r = NULL;
	assert_err(bxc_http_do(f->client, &(bxc_http_request){.method = "GET", .url = u}, NULL, &r,
			   &body, &err),
		BXC_RESOURCE_EXHAUSTED, err);
}

static void a_unix_socket_is_spoken_to(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/s", dir);
	bxc_httpd *server = NULL;
	assert_ok(bxc_httpd_start(&(bxc_httpd_config){.unix_path = path,
					  .routes = routes,
					  .n_routes = BXC_ARRAY_SIZE(routes),
					  .ud = f},
			  &server, &err),
		err);
	BXC_AUTOFREE char *text = get(f,
		&(bxc_http_request){.method = "GET", .url = "http://bxc/hello", .unix_path = path},
		200);
	assert_string_equal(text, "hello");
	bxc_httpd_stop(server);
	bxc_http_response *r = NULL;
	assert_err_text(
		bxc_http_start(f->client,
			&(bxc_http_request){
				.method = "GET", .url = "http://bxc/hello", .unix_path = path},
			NULL, &r, &err),
		BXC_UNAVAILABLE, err, path);
}

/* ---- credentials and redirects ---- */

static void credentials_are_sent(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOFREE char *u = url(f, "/who");
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *token = bxc_secret_new("t0k", 3);
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *basic = bxc_secret_new("joe:pw", 6);
	BXC_AUTOFREE char *a =
		get(f, &(bxc_http_request){.method = "GET", .url = u, .bearer = token}, 200);
	assert_non_null(strstr(a, " Bearer t0k"));
	BXC_AUTOFREE char *b =
		get(f, &(bxc_http_request){.method = "GET", .url = u, .basic = basic}, 200);
	assert_non_null(strstr(b, " Basic am9lOnB3"));
}

static void redirects_carry_credentials_to_the_same_host_only(void **state)
{
	struct fixture *f = *state;
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *token = bxc_secret_new("t0k", 3);
	BXC_AUTOFREE char *same = bxc_str_fmt("%s/redirect?to=%s/who", f->base, f->base);
	BXC_AUTOFREE char *other = bxc_str_fmt(
		"%s/redirect?to=http://localhost:%u/who", f->base, bxc_httpd_port(f->server));
	BXC_AUTOFREE char *a =
		get(f, &(bxc_http_request){.method = "GET", .url = same, .bearer = token}, 200);
	assert_non_null(strstr(a, "Bearer t0k"));
	BXC_AUTOFREE char *b =
		get(f, &(bxc_http_request){.method = "GET", .url = other, .bearer = token}, 200);
	assert_non_null(strstr(b, "localhost"));
	assert_non_null(strstr(b, "nobody"));
}

static void redirects_can_be_left_alone_and_have_an_end(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *u = url(f, "/redirect?to=/hello");
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *r = NULL;
	BXC_AUTOFREE char *followed = get(f, &(bxc_http_request){.method = "GET", .url = u}, 200);
	assert_string_equal(followed, "hello");
	assert_ok(bxc_http_start(f->client,
			  &(bxc_http_request){.method = "GET", .url = u, .no_redirect = true}, NULL,
			  &r, &err),
		err);
	assert_int_equal(bxc_http_status(r), 302);
	assert_string_equal(bxc_http_header(r, "Location"), "/hello");
	bxc_http_response_free(BXC_TAKE(r));
	BXC_AUTOFREE char *scheme = url(f, "/redirect?to=file:///etc/passwd");
	assert_true(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = scheme},
			    NULL, &r, &err) < 0);
	bxc_err_free(BXC_TAKE(err));
}

static void serve_redirect_to_itself(int fd, const char *header, unsigned n_th, void *ud)
{
	(void)header;
	(void)n_th;
	(void)ud;
	bxc_rawserver_says(fd, "HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: "
			       "0\r\nConnection: close\r\n\r\n");
}

static void redirects_without_end_fail(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_rawserver s;
	bxc_http_response *r = NULL;
	bxc_rawserver_start(&s, serve_redirect_to_itself, NULL);
	BXC_AUTOFREE char *u = bxc_str_fmt("http://127.0.0.1:%u/", s.port);
	assert_err(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u}, NULL,
			   &r, &err),
		BXC_FAILED_PRECONDITION, err);
	bxc_rawserver_stop(&s);
}

/* ---- error texts ---- */

static int status_error(struct fixture *f, const char *path, bxc_err **err)
{
	BXC_AUTOFREE char *u = url(f, path);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *r = NULL;
	int k = bxc_http_start(
		f->client, &(bxc_http_request){.method = "GET", .url = u}, NULL, &r, err);
	return k < 0 ? k : bxc_http_status_error(r, err, "thing");
}

static void error_bodies_become_errors(void **state)
{
	struct fixture *f = *state;
	bxc_err *err = NULL;
	assert_int_equal(status_error(f, "/refuse", &err), -BXC_FAILED_PRECONDITION);
	assert_string_equal(bxc_err_text(err), "thing: not now (HTTP status 412)");
	assert_string_equal(bxc_err_get_detail(err, "field"), "when");
	bxc_err_free(BXC_TAKE(err));
	assert_err_text(status_error(f, "/refuse?form=registry", &err), BXC_PERMISSION_DENIED, err,
		"thing: DENIED: requested access is denied");
	assert_err_text(status_error(f, "/refuse?form=html", &err), BXC_UNAVAILABLE, err,
		"thing: HTTP status 502");
	assert_err_text(status_error(f, "/refuse?form=plain", &err), BXC_INVALID_ARGUMENT, err,
		"thing: no [31m luck (HTTP status 418)");
	assert_err_text(status_error(f, "/nowhere", &err), BXC_NOT_FOUND, err, "/nowhere");
}

static void codes_survive_the_way_through_a_status(void **state)
{
	(void)state;
	static const bxc_code codes[] = {BXC_CANCELED, BXC_INVALID_ARGUMENT, BXC_DEADLINE_EXCEEDED,
		BXC_NOT_FOUND, BXC_ALREADY_EXISTS, BXC_PERMISSION_DENIED, BXC_RESOURCE_EXHAUSTED,
		BXC_FAILED_PRECONDITION, BXC_OUT_OF_RANGE, BXC_UNIMPLEMENTED, BXC_INTERNAL,
		BXC_UNAVAILABLE, BXC_UNAUTHENTICATED, BXC_OK};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(codes); i++)
		assert_int_equal(
			bxc_http_code_of_status(bxc_http_status_of_code(codes[i])), codes[i]);
}

static void requests_that_cannot_be_sent_are_refused(void **state)
{
	struct fixture *f = *state;
	bxc_err *err = NULL;
	bxc_http_response *r = NULL;
	static const char *const bad_urls[] = {"", "hello", "ftp://127.0.0.1/", "http://",
		"http://a b/", "file:///etc/passwd", "http://x:99999/"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad_urls); i++)
		assert_err(bxc_http_start(f->client,
				   &(bxc_http_request){.method = "GET", .url = bad_urls[i]}, NULL,
				   &r, &err),
			BXC_INVALID_ARGUMENT, err);
	BXC_AUTOFREE char *u = url(f, "/hello");
	assert_err(bxc_http_start(f->client, &(bxc_http_request){.method = "G E", .url = u}, NULL,
			   &r, &err),
		BXC_INVALID_ARGUMENT, err);
	char *inject[] = {(char[]){"X: a\r\nY: b"}, NULL};
	assert_err(bxc_http_start(f->client,
			   &(bxc_http_request){.method = "GET", .url = u, .headers = inject}, NULL,
			   &r, &err),
		BXC_INVALID_ARGUMENT, err);
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *evil = bxc_secret_new("a\nb", 3);
	assert_err(bxc_http_start(f->client,
			   &(bxc_http_request){.method = "GET", .url = u, .bearer = evil}, NULL, &r,
			   &err),
		BXC_INVALID_ARGUMENT, err);
}

static void a_refused_connection_says_so(void **state)
{
	struct fixture *f = *state;
	bxc_err *err = NULL;
	bxc_http_response *r = NULL;
	uint16_t port = bxc_rawserver_closed_port();
	BXC_AUTOFREE char *u = bxc_str_fmt("http://127.0.0.1:%u/", port);
	assert_int_equal(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u},
				 NULL, &r, &err),
		-BXC_UNAVAILABLE);
	BXC_AUTOFREE char *want =
		bxc_str_fmt("'127.0.0.1:%u' cannot be reached: Connection refused", port);
	assert_string_equal(bxc_err_text(err), want);
	assert_string_equal(bxc_err_get_detail(err, "phase"), "connect");
	assert_string_equal(bxc_err_get_detail(err, "reason"), "Connection refused");
	bxc_err_free(err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_body_arrives_with_status_and_headers),
		cmocka_unit_test(each_method_carries_its_body),
		cmocka_unit_test(head_gives_the_length_and_no_body),
		cmocka_unit_test(a_large_body_is_whole_however_slowly_it_is_read),
		cmocka_unit_test(a_range_is_asked_for),
		cmocka_unit_test(a_file_is_sent_from_its_offset),
		cmocka_unit_test(a_body_over_the_bound_of_its_buffer_is_an_error),
		cmocka_unit_test(a_unix_socket_is_spoken_to),
		cmocka_unit_test(credentials_are_sent),
		cmocka_unit_test(redirects_carry_credentials_to_the_same_host_only),
		cmocka_unit_test(redirects_can_be_left_alone_and_have_an_end),
		cmocka_unit_test(redirects_without_end_fail),
		cmocka_unit_test(error_bodies_become_errors),
		cmocka_unit_test(codes_survive_the_way_through_a_status),
		cmocka_unit_test(requests_that_cannot_be_sent_are_refused),
		cmocka_unit_test(a_refused_connection_says_so),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
