/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the client stand on: a server and ways to ask it. */
#pragma once

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

static inline BXC_UNUSED void echo(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	char *headers[] = {(char[]){"X-Twice: one"}, (char[]){"x-twice: two"}, NULL};
	const char *type = bxc_httpd_req_header(req, "Content-Type");
	bxc_httpd_reply(req, 200, type ? type : "text/plain", bxc_httpd_req_body(req), headers);
}

static inline BXC_UNUSED void hello(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	bxc_httpd_reply(req, 200, "text/plain", bxc_slice_of("hello", 5), NULL);
}

static inline BXC_UNUSED void big(bxc_httpd_req *req, void *ud)
{
	struct fixture *f = ud;
	int fd = -1;
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_fd_memfd("big", f->big, BIG, false, &fd, &err) < 0)
		bxc_httpd_reply_err(req, BXC_TAKE(err));
	else
		bxc_httpd_reply_fd(req, fd, BIG, "application/octet-stream", "v1");
}

static inline BXC_UNUSED void who(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	const char *a = bxc_httpd_req_header(req, "Authorization");
	BXC_AUTOFREE char *text =
		bxc_str_fmt("%s %s", bxc_httpd_req_header(req, "Host"), a ? a : "nobody");
	bxc_httpd_reply(req, 200, "text/plain", bxc_slice_of(text, strlen(text)), NULL);
}

static inline BXC_UNUSED void redirect(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	BXC_AUTOSTRV char **headers = NULL;
	bxc_strv_pushf(&headers, "Location: %s", bxc_httpd_req_query(req, "to"));
	bxc_httpd_reply(req, 302, "text/plain", bxc_slice_of("moved", 5), headers);
}

static inline BXC_UNUSED void refuse(bxc_httpd_req *req, void *ud)
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

static BXC_UNUSED const bxc_httpd_route routes[] = {
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

static inline BXC_UNUSED int setup(void **state)
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

static inline BXC_UNUSED int teardown(void **state)
{
	struct fixture *f = *state;
	bxc_http_client_free(f->client);
	bxc_httpd_stop(f->server);
	free(f->big);
	free(f->base);
	free(f);
	return 0;
}

static inline BXC_UNUSED char *url(const struct fixture *f, const char *path)
{
	return bxc_str_fmt("%s%s", f->base, path);
}

/* The text of a GET; owned. */
static inline BXC_UNUSED char *get(
	const struct fixture *f, const bxc_http_request *q, int want_status)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(1u << 20);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *r = NULL;
	assert_ok(bxc_http_do(f->client, q, NULL, &r, &body, &err), err);
	assert_int_equal(bxc_http_status(r), want_status);
	return bxc_strdup(bxc_buf_text(&body));
}
