/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/base/limits.h"
#include "common/http/http.h"
#include "common/httpd/httpd_internal.h"
#include "common/os/fd.h"

struct fixture {
	bxc_httpd *server;
	bxc_http_client *client;
	bxc_httpd_req *kept;   /* by the handler of /keep */
	bxc_httpd_sse *stream; /* by that of /events */
	sem_t arrived;	       /* posted when one of them is set */
	bxc_blob_store *store; /* of /blobs */
};

static const char file_text[] = "0123456789abcdefghij";

/* ---- the server ---- */

static void describe(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "method", bxc_httpd_req_method(req));
	bxc_json_set_str(j, "path", bxc_httpd_req_path(req));
	bxc_json_set_str(j, "id", bxc_httpd_req_param(req, "id"));
	bxc_json_set_str(j, "x", bxc_httpd_req_query(req, "x"));
	bxc_json_set_str(j, "empty", bxc_httpd_req_query(req, "empty"));
	bxc_json_set_str(j, "peer", bxc_httpd_req_peer(req));
	bxc_json_set_bool(j, "local", bxc_httpd_req_peer_is_local(req));
	bxc_json_set_i64(j, "flags", bxc_httpd_req_flags(req));
	bxc_json_set_str(j, "user", bxc_httpd_req_user(req));
	bxc_httpd_reply_json(req, 200, j);
}

static void echo(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	bxc_httpd_reply(req, 201, "text/plain", bxc_httpd_req_body(req), NULL);
}

static void say_error(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	bxc_err *e = NULL;
	bxc_err_set(&e, BXC_INVALID_ARGUMENT, "bad \"value\"");
	bxc_err_detail(e, "field", "a.b");
	bxc_httpd_reply_err(req, e);
}

static void send_file(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	int fd = -1;
	size_t n = bxc_httpd_req_query(req, "empty") ? 0 : strlen(file_text);
	bxc_check(bxc_fd_memfd("file", file_text, n, false, &fd, NULL) >= 0);
	bxc_httpd_reply_fd(req, fd, n, "text/plain", "v1");
}

static void keep(bxc_httpd_req *req, void *ud)
{
	struct fixture *f = ud;
	f->kept = req;
	sem_post(&f->arrived);
}

static void *answer_later(void *ud)
{
	bxc_httpd_reply(ud, 200, "text/plain", bxc_slice_of("later", 5), NULL);
	return NULL;
}

/* Answers on another thread, with luck before the handler has returned. */
static void race(bxc_httpd_req *req, void *ud)
{
	pthread_t t;
	(void)ud;
	bxc_check(pthread_create(&t, NULL, answer_later, req) == 0);
	pthread_detach(t);
}

static void events(bxc_httpd_req *req, void *ud)
{
	struct fixture *f = ud;
	f->stream = bxc_httpd_reply_sse(req);
	sem_post(&f->arrived);
}

static bool is_answered(bxc_httpd_req *r)
{
	pthread_mutex_lock(&r->lock);
	bool answered = r->is_answered;
	pthread_mutex_unlock(&r->lock);
	return answered;
}

/* Begins its stream when stop has walked over the requests already: the kept one, which it answers
 * in that walk, is waited for, and the end of the walk by its lock. */
static void late_events(bxc_httpd_req *req, void *ud)
{
	struct fixture *f = ud;
	sem_post(&f->arrived);
	while (!is_answered(f->kept))
		sched_yield();
	pthread_mutex_lock(&req->h->lock);
	pthread_mutex_unlock(&req->h->lock);
	f->stream = bxc_httpd_reply_sse(req);
}

static void send_blob(bxc_httpd_req *req, void *ud)
{
	struct fixture *f = ud;
	bxc_httpd_reply_blob(req, f->store);
}

static void say_token(bxc_httpd_req *req, void *ud)
{
	const char *s = bxc_httpd_req_bearer(req);
	(void)ud;
	s = s ? s : "none";
	bxc_httpd_reply(req, 200, "text/plain", bxc_slice_of(s, strlen(s)), NULL);
}

static const bxc_httpd_route routes[] = {
	{"GET", "/v1/things/{id}", describe, 0, 7},
	{"GET", "/v1/things/fixed", say_error, 0, 0},
	{"DELETE", "/v1/things/{id}", describe, 0, 8},
	{"GET", "/", describe, 0, 0},
	{"GET", "/trailing/", describe, 0, 0},
	{"POST", "/echo", echo, 1000, 0},
	{"GET", "/fail", say_error, 0, 0},
	{"GET", "/file", send_file, 0, 0},
	{"GET", "/keep", keep, 0, 0},
	{"GET", "/race", race, 0, 0},
	{"GET", "/events", events, 0, 0},
	{"GET", "/late-events", late_events, 0, 0},
	{"GET", "/blobs/{digest}", send_blob, 0, 0},
	{"GET", "/token", say_token, 0, 0},
	{"GET", "/secret", describe, 0, 0},
	{"POST", "/secret", echo, 1000, 0},
};

static int authorize(bxc_httpd_req *req, void *ud, bxc_err **err)
{
	(void)ud;
	if (!bxc_str_eq(bxc_httpd_req_path(req), "/secret"))
		return 0;
	if (!bxc_str_eq(bxc_httpd_req_header(req, "authorization"), "Bearer sesame"))
		return bxc_err_set(err, BXC_UNAUTHENTICATED, "no token");
	bxc_httpd_req_set_user(req, bxc_strdup("alibaba"), free);
	return 0;
}

static int setup(void **state)
{
	struct fixture *f = bxc_calloc(1, sizeof(*f));
	BXC_AUTOERR bxc_err *err = NULL;
	sem_init(&f->arrived, 0, 0);
	f->store = bxc_blob_mem_new();
	const bxc_httpd_config c = {.routes = routes,
		.n_routes = BXC_ARRAY_SIZE(routes),
		.authorize = authorize,
		.ud = f};
	assert_ok(bxc_httpd_start(&c, &f->server, &err), err);
	assert_ok(bxc_http_client_new(&(bxc_http_client_config){0}, &f->client, &err), err);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	bxc_http_client_free(f->client);
	bxc_httpd_stop(f->server);
	sem_destroy(&f->arrived);
	bxc_blob_store_free(f->store);
	free(f);
	return 0;
}

/* ---- asking ---- */

struct answer {
	int status;
	char *body, *type, *extra;
};

static void answer_done(struct answer *a)
{
	free(a->body);
	free(a->type);
	free(a->extra);
}

static struct answer ask(struct fixture *f, const char *method, const char *path,
	const char *header, bxc_slice body, const char *extra)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(1u << 20);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *r = NULL;
	BXC_AUTOSTRV char **headers = NULL;
	BXC_AUTOFREE char *u =
		bxc_str_fmt("http://127.0.0.1:%u%s", bxc_httpd_port(f->server), path);
	if (header)
		bxc_strv_push(&headers, header);
	const bxc_http_request q = {.method = method, .url = u, .headers = headers, .body = body};
	assert_ok(bxc_http_do(f->client, &q, NULL, &r, &out, &err), err);
	return (struct answer){bxc_http_status(r), bxc_strdup(bxc_buf_text(&out)),
		bxc_strdup(bxc_http_header(r, "Content-Type")),
		bxc_strdup(extra ? bxc_http_header(r, extra) : NULL)};
}
#define ASK(...)     BXC_CLEANUP(answer_done) struct answer a = ask(__VA_ARGS__)
#define GET(f, path) ask(f, "GET", path, NULL, bxc_slice_of("", 0), NULL)

static int connect_to(const struct fixture *f)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(bxc_httpd_port(f->server))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Everything the server says to these bytes until it closes; owned. */
static char *raw(struct fixture *f, const char *text)
{
	BXC_AUTOCLOSE int fd = connect_to(f);
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(1u << 20);
	char c[4096];
	say(fd, text);
	for (ssize_t n; (n = recv(fd, c, sizeof(c), 0)) > 0;)
		bxc_buf_add(&out, c, (size_t)n);
	return bxc_buf_steal(&out);
}

/* Reads from the socket until `until` has come; owned. */
static char *hear(int fd, const char *until)
{
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(1u << 20);
	while (!strstr(bxc_buf_text(&out), until)) {
		char c[4096];
		ssize_t n = recv(fd, c, sizeof(c), 0);
		if (n <= 0)
			fail_msg("the server closed before '%s': %s", until, bxc_buf_text(&out));
		bxc_buf_add(&out, c, (size_t)n);
	}
	return bxc_buf_steal(&out);
}

static char *json_str(const char *text, const char *key)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *j = NULL;
	assert_ok(bxc_json_parse(bxc_slice_of(text, strlen(text)), &j, &err), err);
	return bxc_strdup(bxc_json_get_str(j, key, NULL));
}

/* ---- routes ---- */

static void parameters_and_queries_are_decoded(void **state)
{
	struct fixture *f = *state;
	ASK(f, "GET", "/v1/things/a%2Fb%20c?x=1%26+2&empty=&x=second", NULL, bxc_slice_of("", 0),
		NULL);
	assert_int_equal(a.status, 200);
	assert_string_equal(a.type, "application/json");
	BXC_AUTOFREE char *id = json_str(a.body, "id");
	BXC_AUTOFREE char *x = json_str(a.body, "x");
	BXC_AUTOFREE char *empty = json_str(a.body, "empty");
	BXC_AUTOFREE char *path = json_str(a.body, "path");
	BXC_AUTOFREE char *peer = json_str(a.body, "peer");
	assert_string_equal(id, "a/b c");
	assert_string_equal(x, "1& 2");
	assert_string_equal(empty, "");
	assert_string_equal(path, "/v1/things/a%2Fb%20c");
	assert_true(bxc_str_has_prefix(peer, "127.0.0.1:"));
	assert_non_null(strstr(a.body, "\"local\":true"));
	assert_non_null(strstr(a.body, "\"flags\":7"));
}

static void the_first_route_that_fits_answers(void **state)
{
	struct fixture *f = *state;
	BXC_CLEANUP(answer_done) struct answer a = GET(f, "/v1/things/fixed");
	assert_int_equal(a.status, 200);
	BXC_CLEANUP(answer_done)
	struct answer b = ask(f, "DELETE", "/v1/things/x", NULL, bxc_slice_of("", 0), NULL);
	assert_non_null(strstr(b.body, "\"flags\":8"));
	BXC_CLEANUP(answer_done) struct answer c = GET(f, "/");
	assert_int_equal(c.status, 200);
	BXC_CLEANUP(answer_done) struct answer d = GET(f, "/trailing/");
	assert_int_equal(d.status, 200);
}

static void unknown_paths_and_methods_are_told_apart(void **state)
{
	struct fixture *f = *state;
	static const char *const unknown[] = {"/nope", "/v1/things/", "/v1/things",
		"/v1/things/a/b", "/trailing", "//", "/v1//things/a"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(unknown); i++) {
		BXC_CLEANUP(answer_done) struct answer a = GET(f, unknown[i]);
		assert_int_equal(a.status, 404);
		assert_non_null(strstr(a.body, "{\"error\":{\"code\":\"NOT_FOUND\""));
	}
	ASK(f, "PUT", "/v1/things/x", NULL, bxc_slice_of("", 0), "Allow");
	assert_int_equal(a.status, 405);
	assert_string_equal(a.extra, "GET, DELETE");
}

static void hostile_targets_are_refused(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[] = {"/v1/things/..", "/v1/things/%2e%2E", "/v1/things/.",
		"/v1/things/%00", "/v1/things/%zz", "/v1/things/%2", "/v1/things/a?x=%", "*",
		"nothing"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		BXC_AUTOFREE char *text = bxc_str_fmt(
			"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", bad[i]);
		BXC_AUTOFREE char *said = raw(f, text);
		if (!bxc_str_has_prefix(said, "HTTP/1.1 400 "))
			fail_msg("'%s' got '%s'", bad[i], said);
	}
	BXC_AUTOFREE char *absolute = raw(
		f, "GET http://x:1/v1/things/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	assert_true(bxc_str_has_prefix(absolute, "HTTP/1.1 200 "));
}

static void errors_have_one_form(void **state)
{
	struct fixture *f = *state;
	BXC_CLEANUP(answer_done) struct answer a = GET(f, "/fail");
	assert_int_equal(a.status, 400);
	assert_string_equal(a.body, "{\"error\":{\"code\":\"INVALID_ARGUMENT\",\"message\":\"bad "
				    "\\\"value\\\"\",\"field\":\"a.b\"}}");
}

static void authorization_comes_before_the_handler(void **state)
{
	struct fixture *f = *state;
	ASK(f, "GET", "/secret", NULL, bxc_slice_of("", 0), "WWW-Authenticate");
	assert_int_equal(a.status, 401);
	assert_string_equal(a.extra, "Bearer");
	BXC_CLEANUP(answer_done)
	struct answer b =
		ask(f, "GET", "/secret", "Authorization: Bearer sesame", bxc_slice_of("", 0), NULL);
	assert_int_equal(b.status, 200);
	BXC_AUTOFREE char *user = json_str(b.body, "user");
	assert_string_equal(user, "alibaba");
	/* And before the body: the client is told without having sent it. */
	BXC_AUTOFREE char *said =
		raw(f, "POST /secret HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n");
	assert_true(bxc_str_has_prefix(said, "HTTP/1.1 401 "));
}

/* ---- bodies ---- */

static void bodies_are_bounded_by_their_route(void **state)
{
	struct fixture *f = *state;
	char text[1001];
	memset(text, 'a', sizeof(text));
	BXC_CLEANUP(answer_done)
	struct answer ok = ask(f, "POST", "/echo", NULL, bxc_slice_of(text, 1000), NULL);
	assert_int_equal(ok.status, 201);
	assert_int_equal(strlen(ok.body), 1000);
	BXC_CLEANUP(answer_done)
	struct answer over = ask(f, "POST", "/echo", NULL, bxc_slice_of(text, 1001), NULL);
	assert_int_equal(over.status, 413);
	assert_non_null(strstr(over.body, "RESOURCE_EXHAUSTED"));
	BXC_AUTOFREE char *none =
		raw(f, "GET /fail HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na");
	assert_true(bxc_str_has_prefix(none, "HTTP/1.1 413 "));
}

static void chunked_bodies_are_bounded_too(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOFREE char *ok =
		raw(f, "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: "
		       "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
	assert_true(bxc_str_has_prefix(ok, "HTTP/1.1 201 "));
	assert_non_null(strstr(ok, "\r\n\r\nabcde"));
	char filler[1001] = {0};
	memset(filler, 'a', 1000);
	BXC_AUTOFREE char *text =
		bxc_str_fmt("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
			    "chunked\r\n\r\n3e8\r\n%s\r\n3e8\r\n%s\r\n0\r\n\r\n",
			filler, filler);
	BXC_AUTOFREE char *over = raw(f, text);
	assert_true(bxc_str_has_prefix(over, "HTTP/1.1 413 "));
}

static void ambiguous_framing_is_refused(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[] = {
		"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / "
		"HTTP/1.1\r\nHost: x\r\n\r\n",
		"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: gzip\r\n\r\n",
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		BXC_AUTOFREE char *text =
			bxc_str_fmt("POST /echo HTTP/1.1\r\nHost: x\r\n%s", bad[i]);
		BXC_AUTOFREE char *said = raw(f, text);
		if (!bxc_str_has_prefix(said, "HTTP/1.1 400 "))
			fail_msg("%zu got '%s'", i, said);
		/* One answer, and nothing of the rest is taken for a request. */
		assert_null(strstr(said + 1, "HTTP/1.1"));
	}
}

static void a_header_over_the_limit_is_refused(void **state)
{
	struct fixture *f = *state;
	char *filler = bxc_calloc(1, BXC_LIMIT_HTTP_HEADER + 1000);
	memset(filler, 'a', BXC_LIMIT_HTTP_HEADER + 999);
	BXC_AUTOFREE char *text =
		bxc_str_fmt("GET / HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", filler);
	free(filler);
	BXC_AUTOFREE char *said = raw(f, text);
	assert_true(bxc_str_has_prefix(said, "HTTP/1.1 431 ") ||
		    bxc_str_has_prefix(said, "HTTP/1.0 431 "));
}

static void pipelined_requests_are_answered_in_order(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOFREE char *said =
		raw(f, "GET /v1/things/one HTTP/1.1\r\nHost: x\r\n\r\nGET /race HTTP/1.1\r\nHost: "
		       "x\r\n\r\n"
		       "GET /v1/things/two HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	const char *one = strstr(said, "\"one\""), *later = strstr(said, "later"),
		   *two = strstr(said, "\"two\"");
	assert_true(one && later && two && one < later && later < two);
}

/* ---- files ---- */

static void files_honour_ranges(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *header;
		int status;
		const char *body, *content_range;
	} cases[] = {
		{NULL, 200, file_text, NULL},
		{"Range: bytes=0-0", 206, "0", "bytes 0-0/20"},
		{"Range: bytes=5-9", 206, "56789", "bytes 5-9/20"},
		{"Range: bytes=15-", 206, "fghij", "bytes 15-19/20"},
		{"Range: bytes=15-99", 206, "fghij", "bytes 15-19/20"},
		{"Range: bytes=-3", 206, "hij", "bytes 17-19/20"},
		{"Range: bytes=-99", 206, file_text, "bytes 0-19/20"},
		{"Range: bytes=20-", 416, "", "bytes */20"},
		{"Range: bytes=-0", 416, "", "bytes */20"},
		{"Range: bytes=99999999999999999999999-", 416, "", "bytes */20"},
		{"Range: bytes=0-1,3-4", 200, file_text, NULL},
		{"Range: bytes=9-5", 200, file_text, NULL},
		{"Range: lines=1-2", 200, file_text, NULL},
		{"Range: bytes=a-b", 200, file_text, NULL},
		{"If-None-Match: \"v1\"", 304, "", NULL},
		{"If-None-Match: \"v2\"", 200, file_text, NULL},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		ASK(f, "GET", "/file", cases[i].header, bxc_slice_of("", 0), "Content-Range");
		if (a.status != cases[i].status || !bxc_str_eq(a.body, cases[i].body) ||
			!bxc_str_eq(a.extra, cases[i].content_range))
			fail_msg("%s: %d '%s' '%s'", cases[i].header, a.status, a.body, a.extra);
	}
	ASK(f, "GET", "/file?empty=1", "Range: bytes=0-", bxc_slice_of("", 0), "Content-Range");
	assert_int_equal(a.status, 416);
	BXC_CLEANUP(answer_done) struct answer empty = GET(f, "/file?empty=1");
	assert_int_equal(empty.status, 200);
	assert_string_equal(empty.body, "");
}

static void a_range_of_another_version_is_not_given(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOFREE char *other = raw(f, "GET /file HTTP/1.1\r\nHost: x\r\nConnection: "
					  "close\r\nRange: bytes=5-9\r\nIf-Range: \"v0\"\r\n\r\n");
	assert_true(bxc_str_has_prefix(other, "HTTP/1.1 200 "));
	BXC_AUTOFREE char *same = raw(f, "GET /file HTTP/1.1\r\nHost: x\r\nConnection: "
					 "close\r\nRange: bytes=5-9\r\nIf-Range: \"v1\"\r\n\r\n");
	assert_true(bxc_str_has_prefix(same, "HTTP/1.1 206 "));
}

static void head_says_what_get_would(void **state)
{
	struct fixture *f = *state;
	ASK(f, "HEAD", "/file", NULL, bxc_slice_of("", 0), "Content-Length");
	assert_int_equal(a.status, 200);
	assert_string_equal(a.extra, "20");
	assert_string_equal(a.body, "");
	BXC_CLEANUP(answer_done)
	struct answer b = ask(f, "HEAD", "/file", "Range: bytes=5-9", bxc_slice_of("", 0), "ETag");
	assert_int_equal(b.status, 200);
	assert_string_equal(b.extra, "\"v1\"");
}

static void blobs_are_given_by_their_digest(void **state)
{
	struct fixture *f = *state;
	char digest[BXC_DIGEST_STR_MAX];
	bxc_digest d = bxc_digest_of_str("a blob");
	bxc_blob_info info;
	assert_int_equal(bxc_blob_put(f->store, "a blob", 6, &info, NULL), 0);
	BXC_AUTOFREE char *path = bxc_str_fmt("/blobs/%s", bxc_digest_str(&d, digest));
	BXC_AUTOFREE char *etag = bxc_str_fmt("\"%s\"", digest);
	ASK(f, "GET", path, NULL, bxc_slice_of("", 0), "ETag");
	assert_int_equal(a.status, 200);
	assert_string_equal(a.body, "a blob");
	assert_string_equal(a.extra, etag);
	BXC_CLEANUP(answer_done)
	struct answer b = ask(f, "GET", path, "Range: bytes=2-", bxc_slice_of("", 0), NULL);
	assert_int_equal(b.status, 206);
	assert_string_equal(b.body, "blob");
	BXC_CLEANUP(answer_done)
	struct answer c = ask(f, "GET", "/blobs/sha256:x", NULL, bxc_slice_of("", 0), NULL);
	assert_int_equal(c.status, 400);
	d = bxc_digest_of_str("another");
	BXC_AUTOFREE char *other = bxc_str_fmt("/blobs/%s", bxc_digest_str(&d, digest));
	BXC_CLEANUP(answer_done)
	struct answer e = ask(f, "GET", other, NULL, bxc_slice_of("", 0), NULL);
	assert_int_equal(e.status, 404);
}

static void bearer_tokens_are_told_from_other_kinds(void **state)
{
	struct fixture *f = *state;
	static const char *const cases[][2] = {
		{"Authorization: Bearer sesame", "sesame"},
		{"authorization: bearer sesame", "sesame"},
		{"Authorization: Basic c2VzYW1l", "none"},
		{"Authorization: Bearer", "none"},
		{NULL, "none"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		ASK(f, "GET", "/token", cases[i][0], bxc_slice_of("", 0), NULL);
		assert_string_equal(a.body, cases[i][1]);
	}
}

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
		cmocka_unit_test(parameters_and_queries_are_decoded),
		cmocka_unit_test(the_first_route_that_fits_answers),
		cmocka_unit_test(unknown_paths_and_methods_are_told_apart),
		cmocka_unit_test(hostile_targets_are_refused),
		cmocka_unit_test(errors_have_one_form),
		cmocka_unit_test(authorization_comes_before_the_handler),
		cmocka_unit_test(bodies_are_bounded_by_their_route),
		cmocka_unit_test(chunked_bodies_are_bounded_too),
		cmocka_unit_test(ambiguous_framing_is_refused),
		cmocka_unit_test(a_header_over_the_limit_is_refused),
		cmocka_unit_test(pipelined_requests_are_answered_in_order),
		cmocka_unit_test(files_honour_ranges),
		cmocka_unit_test(a_range_of_another_version_is_not_given),
		cmocka_unit_test(head_says_what_get_would),
		cmocka_unit_test(blobs_are_given_by_their_digest),
		cmocka_unit_test(bearer_tokens_are_told_from_other_kinds),
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
