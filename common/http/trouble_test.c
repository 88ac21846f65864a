/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http/http_test_fixture.h"

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
