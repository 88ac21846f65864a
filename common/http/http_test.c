/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/rand.h"
#include "common/codec/digest.h"
#include "common/http/http.h"
#include "common/httpd/httpd.h"
#include "common/os/fd.h"
#include "common/testing/cert.h"
#include "common/testing/rawserver.h"

#define BIG ((size_t)9 << 20)

struct fixture {
	bxc_httpd *server;
	bxc_http_client *client;
	uint8_t *big;
	char *base;
};

/* ---- the server ---- */

static void echo(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	char *headers[] = {(char[]){"X-Twice: one"}, (char[]){"x-twice: two"}, NULL};
	const char *type = bxc_httpd_req_header(req, "Content-Type");
	bxc_httpd_reply(req, 200, type ? type : "text/plain", bxc_httpd_req_body(req), headers);
}

static void hello(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	bxc_httpd_reply(req, 200, "text/plain", bxc_slice_of("hello", 5), NULL);
}

static void big(bxc_httpd_req *req, void *ud)
{
	struct fixture *f = ud;
	int fd = -1;
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_fd_memfd("big", f->big, BIG, false, &fd, &err) < 0)
		bxc_httpd_reply_err(req, BXC_TAKE(err));
	else
		bxc_httpd_reply_fd(req, fd, BIG, "application/octet-stream", "v1");
}

static void who(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	const char *a = bxc_httpd_req_header(req, "Authorization");
	BXC_AUTOFREE char *text =
		bxc_str_fmt("%s %s", bxc_httpd_req_header(req, "Host"), a ? a : "nobody");
	bxc_httpd_reply(req, 200, "text/plain", bxc_slice_of(text, strlen(text)), NULL);
}

static void redirect(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	BXC_AUTOSTRV char **headers = NULL;
	bxc_strv_pushf(&headers, "Location: %s", bxc_httpd_req_query(req, "to"));
	bxc_httpd_reply(req, 302, "text/plain", bxc_slice_of("moved", 5), headers);
}

static void refuse(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	const char *form = bxc_httpd_req_query(req, "form");
	static const char registry[] =
		"{\"errors\":[{\"code\":\"DENIED\",\"message\":\"requested access is denied\"}]}";
	static const char html[] = "<html>nginx</html>";
	static const char plain[] = "no\x1b[31m luck\nsecond line";
	bxc_err *e = NULL;
	if (bxc_str_eq(form, "registry"))
		bxc_httpd_reply(req, 403, "application/json",
			bxc_slice_of(registry, strlen(registry)), NULL);
	else if (bxc_str_eq(form, "html"))
		bxc_httpd_reply(req, 502, "text/html", bxc_slice_of(html, strlen(html)), NULL);
	else if (bxc_str_eq(form, "plain"))
		bxc_httpd_reply(req, 418, "text/plain", bxc_slice_of(plain, strlen(plain)), NULL);
	else {
		bxc_err_set(&e, BXC_FAILED_PRECONDITION, "not now");
		bxc_err_detail(e, "field", "when");
		bxc_httpd_reply_err(req, e);
	}
}

static const bxc_httpd_route routes[] = {
	{"GET", "/hello", hello, 0, 0},
	{"POST", "/echo", echo, 16u << 20, 0},
	{"PUT", "/echo", echo, 16u << 20, 0},
	{"PATCH", "/echo", echo, 16u << 20, 0},
	{"DELETE", "/echo", echo, 16u << 20, 0},
	{"GET", "/big", big, 0, 0},
	{"GET", "/who", who, 0, 0},
	{"GET", "/redirect", redirect, 0, 0},
	{"GET", "/refuse", refuse, 0, 0},
};

static int setup(void **state)
{
	struct fixture *f = bxc_calloc(1, sizeof(*f));
	BXC_AUTOERR bxc_err *err = NULL;
	f->big = bxc_malloc(BIG);
	bxc_rand_bytes(f->big, BIG);
	assert_ok(bxc_httpd_start(
			  &(bxc_httpd_config){
				  .routes = routes, .n_routes = BXC_ARRAY_SIZE(routes), .ud = f},
			  &f->server, &err),
		err);
	assert_ok(bxc_http_client_new(&(bxc_http_client_config){0}, &f->client, &err), err);
	f->base = bxc_str_fmt("http://127.0.0.1:%u", bxc_httpd_port(f->server));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	bxc_http_client_free(f->client);
	bxc_httpd_stop(f->server);
	free(f->big);
	free(f->base);
	free(f);
	return 0;
}

static char *url(const struct fixture *f, const char *path)
{
	return bxc_str_fmt("%s%s", f->base, path);
}

/* The text of a GET; owned. */
static char *get(const struct fixture *f, const bxc_http_request *q, int want_status)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(1u << 20);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *r = NULL;
	assert_ok(bxc_http_do(f->client, q, NULL, &r, &body, &err), err);
	assert_int_equal(bxc_http_status(r), want_status);
	return bxc_strdup(bxc_buf_text(&body));
}

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

/* ---- misbehaving servers ---- */

static void serve_half(int fd, const char *header, unsigned n_th, void *ud)
{
	(void)header;
	(void)n_th;
	(void)ud;
	bxc_rawserver_says(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
}

static void serve_silence(int fd, const char *header, unsigned n_th, void *ud)
{
	(void)header;
	(void)n_th;
	(void)ud;
	bxc_rawserver_hang(fd);
}

static void serve_header_then_silence(int fd, const char *header, unsigned n_th, void *ud)
{
	(void)header;
	(void)n_th;
	(void)ud;
	bxc_rawserver_says(fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Fine\r\nX-A: "
			       "b\r\nContent-Length: 10\r\n\r\n");
	bxc_rawserver_hang(fd);
}

static void serve_endless_header(int fd, const char *header, unsigned n_th, void *ud)
{
	(void)header;
	(void)n_th;
	(void)ud;
	bxc_rawserver_says(fd, "HTTP/1.1 200 OK\r\n");
	for (unsigned i = 0; i < 10000; i++)
		bxc_rawserver_says(fd,
			"X-Filler: "
			"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
}

static void serve_garbage(int fd, const char *header, unsigned n_th, void *ud)
{
	(void)header;
	(void)n_th;
	(void)ud;
	bxc_rawserver_says(fd, "\x15\x03\x01 what?");
}

static void a_cut_transfer_gives_its_bytes_and_then_fails(void **state)
{
	struct fixture *f = *state;
	bxc_err *err = NULL;
	bxc_rawserver s;
	bxc_rawserver_start(&s, serve_half, NULL);
	BXC_AUTOFREE char *u = bxc_str_fmt("http://127.0.0.1:%u/", s.port);
	bxc_http_response *r = NULL;
	char c[100];
	assert_ok(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u}, NULL,
			  &r, &err),
		err);
	assert_int_equal(bxc_http_read(r, c, sizeof(c), &err), 4);
	assert_memory_equal(c, "half", 4);
	assert_err((int)bxc_http_read(r, c, sizeof(c), &err), BXC_UNAVAILABLE, err);
	assert_err((int)bxc_http_read(r, c, sizeof(c), &err), BXC_UNAVAILABLE, err);
	bxc_http_response_free(r);
	bxc_rawserver_stop(&s);
}

static void the_header_comes_before_the_body_does(void **state)
{
	struct fixture *f = *state;
	bxc_err *err = NULL;
	bxc_rawserver s;
	bxc_rawserver_start(&s, serve_header_then_silence, NULL);
	BXC_AUTOFREE char *u = bxc_str_fmt("http://127.0.0.1:%u/", s.port);
	bxc_http_response *r = NULL;
	assert_ok(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u}, NULL,
			  &r, &err),
		err);
	assert_int_equal(bxc_http_status(r), 200);
	assert_string_equal(bxc_http_header(r, "X-A"), "b");
	/* Freeing gives the transfer up. */
	bxc_http_response_free(r);
	bxc_rawserver_stop(&s);
}

static void a_header_without_end_is_refused(void **state)
{
	struct fixture *f = *state;
	bxc_err *err = NULL;
	bxc_rawserver s;
	bxc_rawserver_start(&s, serve_endless_header, NULL);
	BXC_AUTOFREE char *u = bxc_str_fmt("http://127.0.0.1:%u/", s.port);
	bxc_http_response *r = NULL;
	assert_err(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u}, NULL,
			   &r, &err),
		BXC_RESOURCE_EXHAUSTED, err);
	bxc_rawserver_stop(&s);
}

static void what_is_no_http_is_unavailable(void **state)
{
	struct fixture *f = *state;
	bxc_err *err = NULL;
	bxc_rawserver s;
	bxc_rawserver_start(&s, serve_garbage, NULL);
	BXC_AUTOFREE char *u = bxc_str_fmt("http://127.0.0.1:%u/", s.port);
	/* TLS to a server without it. */
	BXC_AUTOFREE char *tls = bxc_str_fmt("https://127.0.0.1:%u/", bxc_httpd_port(f->server));
	bxc_http_response *r = NULL;
	assert_err(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u}, NULL,
			   &r, &err),
		BXC_UNAVAILABLE, err);
	assert_err(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = tls}, NULL,
			   &r, &err),
		BXC_UNAVAILABLE, err);
	bxc_rawserver_stop(&s);
}

static void a_stalled_transfer_fails(void **state)
{
	(void)state;
	bxc_err *err = NULL;
	bxc_rawserver s;
	bxc_rawserver_start(&s, serve_silence, NULL);
	BXC_AUTOFREE char *u = bxc_str_fmt("http://127.0.0.1:%u/", s.port);
	bxc_http_response *r = NULL;
	BXC_CLEANUP(bxc_http_client_freep) bxc_http_client *c = NULL;
	assert_ok(bxc_http_client_new(
			  &(bxc_http_client_config){.stall_timeout_ns = BXC_NS_PER_S}, &c, &err),
		err);
	assert_err_text(
		bxc_http_start(c, &(bxc_http_request){.method = "GET", .url = u}, NULL, &r, &err),
		BXC_UNAVAILABLE, err, "stalled");
	bxc_rawserver_stop(&s);
}

/* ---- cancellation, deadlines, the end of the client ---- */

static void a_deadline_ends_the_wait(void **state)
{
	struct fixture *f = *state;
	bxc_err *err = NULL;
	bxc_rawserver s;
	bxc_rawserver_start(&s, serve_silence, NULL);
	BXC_AUTOFREE char *u = bxc_str_fmt("http://127.0.0.1:%u/", s.port);
	bxc_http_response *r = NULL;
	const bxc_http_request q = {
		.method = "GET", .url = u, .deadline_ns = bxc_clock_mono_ns() + 50 * BXC_NS_PER_MS};
	assert_err(bxc_http_start(f->client, &q, NULL, &r, &err), BXC_DEADLINE_EXCEEDED, err);
	bxc_rawserver_stop(&s);
}

struct canceler {
	bxc_rawserver server;
	bxc_cancel *cancel;
};

/* The request is known to be on its way when the server has it. */
static void serve_cancel(int fd, const char *header, unsigned n_th, void *ud)
{
	struct canceler *c = ud;
	(void)n_th;
	if (strstr(header, "/body"))
		bxc_rawserver_says(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
	else
		bxc_cancel_fire(c->cancel);
	bxc_rawserver_hang(fd);
}

static void a_fired_token_ends_the_wait(void **state)
{
	struct fixture *f = *state;
	bxc_err *err = NULL;
	struct canceler c = {.cancel = bxc_cancel_new()};
	bxc_rawserver_start(&c.server, serve_cancel, &c);
	BXC_AUTOFREE char *u = bxc_str_fmt("http://127.0.0.1:%u/", c.server.port);
	bxc_http_response *r = NULL;
	assert_err(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u},
			   c.cancel, &r, &err),
		BXC_CANCELED, err);
	/* Fired before: nothing is sent. */
	assert_err(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u},
			   c.cancel, &r, &err),
		BXC_CANCELED, err);
	bxc_cancel_unref(c.cancel);
	bxc_rawserver_stop(&c.server);
}

static void *fire(void *ud)
{
	bxc_cancel_fire(ud);
	return NULL;
}

static void a_fired_token_ends_a_read(void **state)
{
	struct fixture *f = *state;
	bxc_err *err = NULL;
	struct canceler c = {.cancel = bxc_cancel_new()};
	bxc_rawserver_start(&c.server, serve_cancel, &c);
	BXC_AUTOFREE char *u = bxc_str_fmt("http://127.0.0.1:%u/body", c.server.port);
	bxc_http_response *r = NULL;
	char buf[100];
	pthread_t t;
	assert_ok(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u},
			  c.cancel, &r, &err),
		err);
	assert_int_equal(bxc_http_read(r, buf, sizeof(buf), &err), 4);
	assert_int_equal(pthread_create(&t, NULL, fire, c.cancel), 0);
	assert_err((int)bxc_http_read(r, buf, sizeof(buf), &err), BXC_CANCELED, err);
	pthread_join(t, NULL);
	bxc_http_response_free(r);
	bxc_cancel_unref(c.cancel);
	bxc_rawserver_stop(&c.server);
}

static void freeing_the_client_ends_its_transfers(void **state)
{
	(void)state;
	bxc_err *err = NULL;
	bxc_rawserver s;
	bxc_rawserver_start(&s, serve_header_then_silence, NULL);
	BXC_AUTOFREE char *u = bxc_str_fmt("http://127.0.0.1:%u/", s.port);
	bxc_http_client *c = NULL;
	bxc_http_response *r = NULL;
	char buf[10];
	assert_ok(bxc_http_client_new(&(bxc_http_client_config){0}, &c, &err), err);
	assert_ok(bxc_http_start(c, &(bxc_http_request){.method = "GET", .url = u}, NULL, &r, &err),
		err);
	bxc_http_client_free(c);
	assert_err((int)bxc_http_read(r, buf, sizeof(buf), &err), BXC_CANCELED, err);
	bxc_http_response_free(r);
	bxc_rawserver_stop(&s);
}

#define THREADS 6
static void *many_gets(void *ud)
{
	struct fixture *f = ud;
	BXC_AUTOFREE char *u = url(f, "/big");
	uintptr_t bad = 0;
	for (unsigned i = 0; i < 4; i++) {
		BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(BIG);
		BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *r = NULL;
		const bxc_http_request q = {.method = "GET",
			.url = u,
			.has_range = true,
			.range_first = i * 1000,
			.range_last = i * 1000 + (2u << 20)};
		if (bxc_http_do(f->client, &q, NULL, &r, &body, NULL) < 0 ||
			body.len != (2u << 20) + 1 ||
			memcmp(body.data, f->big + i * 1000, body.len) != 0)
			bad++;
	}
	return (void *)bad;
}

static void a_client_serves_many_threads(void **state)
{
	struct fixture *f = *state;
	pthread_t t[THREADS];
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, many_gets, f), 0);
	for (size_t i = 0; i < THREADS; i++) {
		void *bad = NULL;
		pthread_join(t[i], &bad);
		assert_null(bad);
	}
}

/* ---- TLS ---- */

static void tls_servers_are_verified(void **state)
{
	struct fixture *f = *state;
	bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *cert = bxc_str_fmt("%s/cert.pem", dir);
	BXC_AUTOFREE char *key = bxc_str_fmt("%s/key.pem", dir);
	bxc_test_make_cert(dir);
	bxc_httpd *server = NULL;
	bxc_httpd_config hc = {.tls_cert_file = cert,
		.tls_key_file = key,
		.routes = routes,
		.n_routes = BXC_ARRAY_SIZE(routes),
		.ud = f};
	assert_ok(bxc_httpd_start(&hc, &server, &err), err);
	BXC_AUTOFREE char *u = bxc_str_fmt("https://127.0.0.1:%u/hello", bxc_httpd_port(server));
	BXC_AUTOFREE char *plain = bxc_str_fmt("http://127.0.0.1:%u/hello", bxc_httpd_port(server));
	bxc_http_response *r = NULL;
	/* Unknown authority. */
	assert_err(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u}, NULL,
			   &r, &err),
		BXC_PERMISSION_DENIED, err);
	BXC_AUTOFREE char *a =
		get(f, &(bxc_http_request){.method = "GET", .url = u, .insecure_tls = true}, 200);
	assert_string_equal(a, "hello");
	/* What was let through unverified does not help a request that verifies. */
	assert_err(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = u}, NULL,
			   &r, &err),
		BXC_PERMISSION_DENIED, err);
	assert_err(bxc_http_start(f->client, &(bxc_http_request){.method = "GET", .url = plain},
			   NULL, &r, &err),
		BXC_UNAVAILABLE, err);
	struct fixture trusting = {0};
	assert_ok(bxc_http_client_new(
			  &(bxc_http_client_config){.ca_file = cert}, &trusting.client, &err),
		err);
	BXC_AUTOFREE char *b = get(&trusting, &(bxc_http_request){.method = "GET", .url = u}, 200);
	assert_string_equal(b, "hello");
	bxc_http_client_free(trusting.client);
	bxc_httpd_stop(server);
	hc.tls_key_file = cert;
	assert_err(bxc_httpd_start(&hc, &server, &err), BXC_INVALID_ARGUMENT, err);
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
		cmocka_unit_test(a_cut_transfer_gives_its_bytes_and_then_fails),
		cmocka_unit_test(the_header_comes_before_the_body_does),
		cmocka_unit_test(a_header_without_end_is_refused),
		cmocka_unit_test(what_is_no_http_is_unavailable),
		cmocka_unit_test(a_stalled_transfer_fails),
		cmocka_unit_test(a_deadline_ends_the_wait),
		cmocka_unit_test(a_fired_token_ends_the_wait),
		cmocka_unit_test(a_fired_token_ends_a_read),
		cmocka_unit_test(freeing_the_client_ends_its_transfers),
		cmocka_unit_test(a_client_serves_many_threads),
		cmocka_unit_test(tls_servers_are_verified),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
