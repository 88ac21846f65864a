/* SPDX-License-Identifier: Apache-2.0 */
#include "common/registry/registry_test_fixture.h"

/* ---- challenges and URLs ---- */

static void challenges_are_read(void **state)
{
	(void)state;
	static const struct {
		const char *value;
		reg_auth_kind kind;
		const char *realm, *service;
	} cases[] = {
		{"Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:x:pull\"",
			REG_AUTH_BEARER, "https://a/t", "s"},
		{"bearer  REALM = \"https://a/t\" , Service=s", REG_AUTH_BEARER, "https://a/t",
			"s"},
		{"Bearer realm=https://a/t?x=1", REG_AUTH_BEARER, "https://a/t?x=1", NULL},
		{"Basic realm=\"a, \\\"b\\\"\", Bearer realm=\"https://a/t\"", REG_AUTH_BEARER,
			"https://a/t", NULL},
		{"Bearer realm=\"https://a/t\", Basic realm=\"z\"", REG_AUTH_BEARER, "https://a/t",
			NULL},
		{"Basic", REG_AUTH_BASIC, NULL, NULL},
		{"Basic realm=\"x\"", REG_AUTH_BASIC, "x", NULL},
		{"Negotiate YII=, Basic realm=\"x\"", REG_AUTH_BASIC, "x", NULL},
		{"Negotiate, Basic", REG_AUTH_BASIC, NULL, NULL},
		{"Bearer service=\"no realm\"", REG_AUTH_NONE, NULL, NULL},
		{"Bearer realm=\"cut", REG_AUTH_NONE, NULL, NULL},
		{"Digest realm=\"x\"", REG_AUTH_NONE, NULL, NULL},
		{"", REG_AUTH_NONE, NULL, NULL},
		{"=,=,\"", REG_AUTH_NONE, NULL, NULL},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		BXC_CLEANUP(bxc_reg__challenge_done) reg_challenge c = {0};
		bxc_reg__challenge_add(&c, cases[i].value);
		if (c.kind != cases[i].kind || !bxc_str_eq(c.realm, cases[i].realm) ||
			!bxc_str_eq(c.service, cases[i].service))
			fail_msg("'%s': %d '%s' '%s'", cases[i].value, (int)c.kind, c.realm,
				c.service);
	}
}

static void locations_are_resolved(void **state)
{
	(void)state;
	static const char *const cases[][3] = {
		{"http://h:1/v2/a/blobs/uploads/", "/v2/x?y=1", "http://h:1/v2/x?y=1"},
		{"http://h:1/v2/a?q=1/2", "b", "http://h:1/v2/b"},
		{"https://h", "b", "https://h/b"},
		{"https://h/a", "//other/c", "https://other/c"},
		{"https://h/a", "http://other/c", "http://other/c"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		BXC_AUTOFREE char *s = bxc_reg__resolve_location(cases[i][0], cases[i][1]);
		assert_string_equal(s, cases[i][2]);
	}
}

static void schemes_follow_the_kind_of_host(void **state)
{
	struct fixture *f = *state;
	char *mirrors[] = {
		(char[]){"https://m1"}, (char[]){"http://127.0.0.1:1/"}, (char[]){"m3:5000"}, NULL};
	const bxc_reg_host hosts[] = {{.domain = "docker.io", .mirrors = mirrors},
		{.domain = "m3:5000", .plain_http = true}, {.domain = "lax", .insecure = true}};
	BXC_CLEANUP(bxc_reg_freep)
	bxc_reg *r = bxc_reg_new(f->http, &(bxc_reg_config){.hosts = hosts, .n_hosts = 3});
	BXC_CLEANUP(bxc_reg__endpoints_done) reg_endpoints e = {0};
	bxc_reg__endpoints(r, "docker.io", true, &e);
	bxc_reg__endpoints(r, "lax", true, &e);
	bxc_reg__endpoints(r, "localhost:5000", true, &e);
	bxc_reg__endpoints(r, "127.example.org", false, &e);
	static const char *const want[][3] = {{"m1", "https", NULL}, {"127.0.0.1:1", "http", NULL},
		{"m3:5000", "http", NULL}, {"registry-1.docker.io", "https", NULL},
		{"lax", "https", "http"}, {"localhost:5000", "http", "https"},
		{"127.example.org", "https", NULL}};
	assert_int_equal(e.n, BXC_ARRAY_SIZE(want));
	for (size_t i = 0; i < e.n; i++) {
		assert_string_equal(e.v[i].name, want[i][0]);
		assert_string_equal(e.v[i].schemes[0], want[i][1]);
		assert_int_equal(e.v[i].n_schemes, want[i][2] ? 2 : 1);
	}
	assert_string_equal(e.v[3].domain, "docker.io");
}

static void say_manifest(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	bxc_httpd_reply(req, 200, BXC_MT_OCI_MANIFEST, slice(manifest_text), NULL);
}

static void loopback_registries_with_tls_are_found(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *cert = bxc_str_fmt("%s/cert.pem", dir);
	BXC_AUTOFREE char *key = bxc_str_fmt("%s/key.pem", dir);
	static const bxc_httpd_route route = {
		"GET", "/v2/team/app/manifests/v1", say_manifest, 0, 0};
	bxc_httpd *server = NULL;
	bxc_test_make_cert(dir);
	assert_ok(bxc_httpd_start(&(bxc_httpd_config){.tls_cert_file = cert,
					  .tls_key_file = key,
					  .routes = &route,
					  .n_routes = 1},
			  &server, &err),
		err);
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", bxc_httpd_port(server));
	REF(ref, host, "team/app:v1");
	/* Plain HTTP is tried and not understood; then the certificate is what matters. */
	assert_err_text(resolve(f->reg, &ref, &err), BXC_PERMISSION_DENIED, err, "is not trusted");
	const bxc_reg_host hosts[] = {{.domain = host, .insecure = true}};
	BXC_CLEANUP(bxc_reg_freep)
	bxc_reg *lax = bxc_reg_new(f->http, &(bxc_reg_config){.hosts = hosts, .n_hosts = 1});
	assert_ok(resolve(lax, &ref, &err), err);
	bxc_httpd_stop(server);
}

static void serve_wrong_scheme(int fd, const char *header, unsigned n_th, void *ud)
{
	unsigned *served = ud;
	(void)header;
	(void)n_th;
	++*served;
	bxc_rawserver_says(fd, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an "
			       "HTTPS server.\n");
}

static void a_real_400_is_told_when_there_is_no_tls_either(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	unsigned served = 0;
	bxc_rawserver s;
	bxc_rawserver_start(&s, serve_wrong_scheme, &served);
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", s.port);
	BXC_CLEANUP(bxc_http_client_freep) bxc_http_client *hasty = NULL;
	assert_ok(bxc_http_client_new(
			  &(bxc_http_client_config){.connect_timeout_ns = 300 * BXC_NS_PER_MS},
			  &hasty, &err),
		err);
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = bxc_reg_new(hasty, &(bxc_reg_config){0});
	REF(ref, host, "team/app:v1");
	assert_err_text(
		resolve(r, &ref, &err), BXC_INVALID_ARGUMENT, err, "Client sent an HTTP request");
	bxc_rawserver_stop(&s);
}

/* ---- manifests ---- */

static void a_tag_resolves_to_verified_bytes(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor d = {0};
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	assert_ok(bxc_reg_resolve(f->reg, &ref, NULL, &d, &bytes, &err), err);
	assert_string_equal(bxc_buf_text(&bytes), manifest_text);
	assert_string_equal(d.media_type, BXC_MT_OCI_MANIFEST);
	assert_int_equal(d.size, strlen(manifest_text));
	assert_true(bxc_digest_eq(&d.digest, &f->manifest_d.digest));
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor h = {0};
	assert_ok(bxc_reg_head(f->reg, &ref, NULL, &h, &err), err);
	assert_true(bxc_digest_eq(&h.digest, &d.digest));
	assert_int_equal(h.size, d.size);
	assert_string_equal(h.media_type, d.media_type);
	bxc_buf_clear(&bytes);
	assert_ok(bxc_reg_manifest(f->reg, &ref, &d, NULL, &bytes, &err), err);
	assert_string_equal(bxc_buf_text(&bytes), manifest_text);
}

static void head_falls_back_to_get(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor d = {0};
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor e = {0};
	f->fake->no_head = true;
	assert_ok(bxc_reg_head(f->reg, &ref, NULL, &d, &err), err);
	assert_true(bxc_digest_eq(&d.digest, &f->manifest_d.digest));
	f->fake->no_head = false;
	f->fake->no_digest_header = true;
	assert_ok(bxc_reg_head(f->reg, &ref, NULL, &e, &err), err);
	assert_true(bxc_digest_eq(&e.digest, &f->manifest_d.digest));
}

static void what_is_missing_is_named(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:no-such");
	BXC_AUTOFREE char *want = bxc_str_fmt("%s/team/app:no-such: not found", f->fake->host);
	assert_int_equal(resolve(f->reg, &ref, &err), -BXC_NOT_FOUND);
	assert_string_equal(bxc_err_text(err), want);
	bxc_err_free(BXC_TAKE(err));
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor d = {0};
	assert_err(bxc_reg_head(f->reg, &ref, NULL, &d, &err), BXC_NOT_FOUND, err);
	COLLECTED(c);
	bxc_descriptor blob = {.digest = bxc_digest_of_str("nothing"), .size = 7};
	assert_err_text(
		get_blob(f->reg, &ref, &blob, &c, &err), BXC_NOT_FOUND, err, "team/app@sha256:");
}

static void a_registry_that_is_down_is_named(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", bxc_rawserver_closed_port());
	REF(ref, host, "team/app:v1");
	BXC_AUTOFREE char *want =
		bxc_str_fmt("registry '%s' cannot be reached: Connection refused", host);
	assert_int_equal(resolve(f->reg, &ref, &err), -BXC_UNAVAILABLE);
	assert_string_equal(bxc_err_text(err), want);
}

static void manifests_with_other_bytes_are_refused(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	char text[BXC_DIGEST_STR_MAX];
	bxc_digest other = bxc_digest_of_str("other");
	fake_registry_put_manifest(f->fake, "team/app", bxc_digest_str(&other, text),
		BXC_MT_OCI_MANIFEST, slice(manifest_text));
	BXC_AUTOFREE char *rest = bxc_str_fmt("team/app@%s", text);
	REF(ref, f->fake->host, rest);
	assert_err_text(resolve(f->reg, &ref, &err), BXC_DATA_LOSS, err, text);
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	bxc_descriptor d = {.digest = other, .size = strlen(manifest_text)};
	assert_err(bxc_reg_manifest(f->reg, &ref, &d, NULL, &bytes, &err), BXC_DATA_LOSS, err);
	d = f->manifest_d;
	d.size++;
	assert_err_text(bxc_reg_manifest(f->reg, &ref, &d, NULL, &bytes, &err), BXC_DATA_LOSS, err,
		"bytes instead of");
	/* By tag, the header of the registry is all there is to compare with. */
	REF(tag, f->fake->host, "team/app:v1");
	f->fake->lies_about_digest = true;
	assert_err(resolve(f->reg, &tag, &err), BXC_DATA_LOSS, err);
}

static void manifests_must_be_what_they_say(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	static const struct {
		const char *type, *text;
		bxc_code code;
	} cases[] = {
		{BXC_MT_OCI_INDEX, index_text, BXC_OK},
		{"application/json", index_text, BXC_OK},
		{BXC_MT_DOCKER_MANIFEST "; charset=utf-8", "{\"config\":{},\"layers\":[]}", BXC_OK},
		{BXC_MT_OCI_MANIFEST, index_text, BXC_INVALID_ARGUMENT},
		{BXC_MT_OCI_INDEX, manifest_text, BXC_INVALID_ARGUMENT},
		{"text/plain", "{\"manifests\":[],\"layers\":[]}", BXC_INVALID_ARGUMENT},
		{BXC_MT_OCI_INDEX, "not json", BXC_INVALID_ARGUMENT},
		{"application/vnd.docker.distribution.manifest.v1+prettyjws",
			"{\"schemaVersion\":1}", BXC_UNIMPLEMENTED},
	};
	REF(ref, f->fake->host, "team/app:odd");
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		fake_registry_put_manifest(
			f->fake, "team/app", "odd", cases[i].type, slice(cases[i].text));
		int k = resolve(f->reg, &ref, &err);
		if (k != -(int)cases[i].code)
			fail_msg(
				"%s %s: %d %s", cases[i].type, cases[i].text, k, bxc_err_text(err));
		bxc_err_free(BXC_TAKE(err));
	}
}

static void manifests_are_bounded(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *big = bxc_calloc(1, BXC_LIMIT_MANIFEST + 1);
	memset(big, ' ', BXC_LIMIT_MANIFEST + 1);
	fake_registry_put_manifest(f->fake, "team/app", "big", BXC_MT_OCI_INDEX,
		bxc_slice_of(big, BXC_LIMIT_MANIFEST + 1));
	REF(ref, f->fake->host, "team/app:big");
	assert_err(resolve(f->reg, &ref, &err), BXC_RESOURCE_EXHAUSTED, err);
}

/* ---- signing in ---- */

static void tokens_are_fetched_without_credentials_and_kept(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	f->fake->needs_token = true;
	assert_ok(resolve(f->reg, &ref, &err), err);
	assert_ok(resolve(f->reg, &ref, &err), err);
	assert_int_equal(f->fake->n_tokens, 1);
	assert_int_equal(f->fake->n_anonymous_tokens, 1);
	assert_string_equal(f->fake->last_scope, "repository:team/app:pull");
	assert_string_equal(f->fake->last_authorization, "Bearer good-1");
}

static void passwords_go_to_the_token_server_only(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_credentials(f);
	BXC_AUTOFREE char *want = bxc_str_fmt(
		"%s|repository:team/app:pull|http://%s/token|fake", f->fake->host, f->fake->host);
	f->fake->needs_token = true;
	f->give_basic = "joe:secret";
	assert_ok(resolve(r, &ref, &err), err);
	assert_int_equal(f->fake->n_tokens, 1);
	assert_int_equal(f->fake->n_anonymous_tokens, 0);
	assert_string_equal(f->asked, want);
	assert_string_equal(f->fake->last_authorization, "Bearer good-1");
}

static void nobody_is_asked_before_a_registry_wants_it(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_credentials(f);
	f->give_basic = "joe:secret";
	assert_ok(resolve(r, &ref, &err), err);
	assert_int_equal(f->n_asked, 0);
	assert_string_equal(f->fake->last_authorization, "");
}

static void tokens_of_the_caller_are_used_as_they_are(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_credentials(f);
	f->fake->needs_token = true;
	f->give_token = "good-own";
	assert_ok(resolve(r, &ref, &err), err);
	assert_int_equal(f->fake->n_tokens, 0);
	assert_string_equal(f->fake->last_authorization, "Bearer good-own");
}

static void a_token_that_ceases_to_be_good_is_replaced_once(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	f->fake->needs_token = true;
	assert_ok(resolve(f->reg, &ref, &err), err);
	f->fake->forget_tokens_once = true;
	assert_ok(resolve(f->reg, &ref, &err), err);
	assert_int_equal(f->fake->n_tokens, 2);
	assert_string_equal(f->fake->last_authorization, "Bearer good-2");
}

static void basic_sign_in_works(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_credentials(f);
	f->fake->needs_basic = true;
	assert_err_text(
		resolve(r, &ref, &err), BXC_UNAUTHENTICATED, err, "needs a user and a password");
	f->give_basic = "joe:secret";
	assert_ok(resolve(r, &ref, &err), err);
	assert_non_null(strstr(f->asked, "|-|-"));
	f->give_basic = "joe:wrong";
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *wrong = with_credentials(f);
	assert_err_text(resolve(wrong, &ref, &err), BXC_UNAUTHENTICATED, err, "team/app:v1");
}

static void a_token_server_that_refuses_is_told_of(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	f->fake->needs_token = true;
	f->fake->token_denies = true;
	assert_err_text(resolve(f->reg, &ref, &err), BXC_UNAUTHENTICATED, err, "wrong password");
}

/* ---- busy registries ---- */

static void a_busy_registry_is_asked_again(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	f->fake->busy = 2;
	f->fake->retry_after = "0";
	assert_ok(resolve(f->reg, &ref, &err), err);
	assert_int_equal(f->fake->n_requests, 3);
	f->fake->busy = 1;
	f->fake->retry_after = NULL;
	assert_ok(resolve(f->reg, &ref, &err), err);
	f->fake->busy = 100;
	f->fake->retry_after = "0";
	f->fake->n_requests = 0;
	assert_err_text(resolve(f->reg, &ref, &err), BXC_UNAVAILABLE, err, "team/app:v1");
	assert_int_equal(f->fake->n_requests, 5);
	/* Longer than anybody wants to wait: said at once. */
	f->fake->retry_after = "3600";
	f->fake->n_requests = 0;
	assert_err(resolve(f->reg, &ref, &err), BXC_UNAVAILABLE, err);
	assert_int_equal(f->fake->n_requests, 1);
}

static void serve_busy(int fd, const char *header, unsigned n_th, void *ud)
{
	(void)header;
	(void)n_th;
	bxc_rawserver_says(fd, "HTTP/1.1 429 Slow Down\r\nRetry-After: 25\r\nContent-Length: "
			       "0\r\nConnection: close\r\n\r\n");
	bxc_cancel_fire(ud);
}

static void waiting_can_be_canceled(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_cancel_unrefp) bxc_cancel *cancel = bxc_cancel_new();
	bxc_rawserver s;
	bxc_rawserver_start(&s, serve_busy, cancel);
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", s.port);
	REF(ref, host, "team/app:v1");
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor d = {0};
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	int64_t begin = bxc_clock_mono_ns();
	assert_err(bxc_reg_resolve(f->reg, &ref, cancel, &d, &bytes, &err), BXC_CANCELED, err);
	assert_true(bxc_clock_mono_ns() - begin < 20 * BXC_NS_PER_S);
	bxc_rawserver_stop(&s);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(challenges_are_read),
		cmocka_unit_test(locations_are_resolved),
		T(schemes_follow_the_kind_of_host),
		T(loopback_registries_with_tls_are_found),
		T(a_real_400_is_told_when_there_is_no_tls_either),
		T(a_tag_resolves_to_verified_bytes),
		T(head_falls_back_to_get),
		T(what_is_missing_is_named),
		T(a_registry_that_is_down_is_named),
		T(manifests_with_other_bytes_are_refused),
		T(manifests_must_be_what_they_say),
		T(manifests_are_bounded),
		T(tokens_are_fetched_without_credentials_and_kept),
		T(passwords_go_to_the_token_server_only),
		T(nobody_is_asked_before_a_registry_wants_it),
		T(tokens_of_the_caller_are_used_as_they_are),
		T(a_token_that_ceases_to_be_good_is_replaced_once),
		T(basic_sign_in_works),
		T(a_token_server_that_refuses_is_told_of),
		T(a_busy_registry_is_asked_again),
		T(waiting_can_be_canceled),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
