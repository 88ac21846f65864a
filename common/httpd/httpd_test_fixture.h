/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the server stand on: its handlers and ways to ask it. */
#pragma once

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

static BXC_UNUSED const char file_text[] = "0123456789abcdefghij";

/* ---- the server ---- */

static inline BXC_UNUSED void describe(bxc_httpd_req *req, void *ud)
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

static inline BXC_UNUSED void echo(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	bxc_httpd_reply(req, 201, "text/plain", bxc_httpd_req_body(req), NULL);
}

static inline BXC_UNUSED void say_error(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	bxc_err *e = NULL;
	bxc_err_set(&e, BXC_INVALID_ARGUMENT, "bad \"value\"");
	bxc_err_detail(e, "field", "a.b");
	bxc_httpd_reply_err(req, e);
}

static inline BXC_UNUSED void send_file(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	int fd = -1;
	size_t n = bxc_httpd_req_query(req, "empty") ? 0 : strlen(file_text);
	bxc_check(bxc_fd_memfd("file", file_text, n, false, &fd, NULL) >= 0);
	bxc_httpd_reply_fd(req, fd, n, "text/plain", "v1");
}

static inline BXC_UNUSED void keep(bxc_httpd_req *req, void *ud)
{
	struct fixture *f = ud;
	f->kept = req;
	sem_post(&f->arrived);
}

static inline BXC_UNUSED void *answer_later(void *ud)
{
	bxc_httpd_reply(ud, 200, "text/plain", bxc_slice_of("later", 5), NULL);
	return NULL;
}

/* Answers on another thread, with luck before the handler has returned. */
static inline BXC_UNUSED void race(bxc_httpd_req *req, void *ud)
{
	pthread_t t;
	(void)ud;
	bxc_check(pthread_create(&t, NULL, answer_later, req) == 0);
	pthread_detach(t);
}

static inline BXC_UNUSED void events(bxc_httpd_req *req, void *ud)
{
	struct fixture *f = ud;
	f->stream = bxc_httpd_reply_sse(req);
	sem_post(&f->arrived);
}

static inline BXC_UNUSED bool is_answered(bxc_httpd_req *r)
{
	pthread_mutex_lock(&r->lock);
	bool answered = r->is_answered;
	pthread_mutex_unlock(&r->lock);
	return answered;
}

/* Begins its stream when stop has walked over the requests already: the kept one, which it answers
 * in that walk, is waited for, and the end of the walk by its lock. */
static inline BXC_UNUSED void late_events(bxc_httpd_req *req, void *ud)
{
	struct fixture *f = ud;
	sem_post(&f->arrived);
	while (!is_answered(f->kept))
		sched_yield();
	pthread_mutex_lock(&req->h->lock);
	pthread_mutex_unlock(&req->h->lock);
	f->stream = bxc_httpd_reply_sse(req);
}

static inline BXC_UNUSED void send_blob(bxc_httpd_req *req, void *ud)
{
	struct fixture *f = ud;
	bxc_httpd_reply_blob(req, f->store);
}

static inline BXC_UNUSED void say_token(bxc_httpd_req *req, void *ud)
{
	const char *s = bxc_httpd_req_bearer(req);
	(void)ud;
	s = s ? s : "none";
	bxc_httpd_reply(req, 200, "text/plain", bxc_slice_of(s, strlen(s)), NULL);
}

static BXC_UNUSED const bxc_httpd_route routes[] = {
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

static inline BXC_UNUSED int authorize(bxc_httpd_req *req, void *ud, bxc_err **err)
{
	(void)ud;
	if (!bxc_str_eq(bxc_httpd_req_path(req), "/secret"))
		return 0;
	if (!bxc_str_eq(bxc_httpd_req_header(req, "authorization"), "Bearer sesame"))
		return bxc_err_set(err, BXC_UNAUTHENTICATED, "no token");
	bxc_httpd_req_set_user(req, bxc_strdup("alibaba"), free);
	return 0;
}

static inline BXC_UNUSED int setup(void **state)
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

static inline BXC_UNUSED int teardown(void **state)
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

static inline BXC_UNUSED void answer_done(struct answer *a)
{
	free(a->body);
	free(a->type);
	free(a->extra);
}

static inline BXC_UNUSED struct answer ask(struct fixture *f, const char *method, const char *path,
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

static inline BXC_UNUSED int connect_to(const struct fixture *f)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(bxc_httpd_port(f->server))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static inline BXC_UNUSED void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Everything the server says to these bytes until it closes; owned. */
static inline BXC_UNUSED char *raw(struct fixture *f, const char *text)
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
static inline BXC_UNUSED char *hear(int fd, const char *until)
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

static inline BXC_UNUSED char *json_str(const char *text, const char *key)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *j = NULL;
	assert_ok(bxc_json_parse(bxc_slice_of(text, strlen(text)), &j, &err), err);
	return bxc_strdup(bxc_json_get_str(j, key, NULL));
}
