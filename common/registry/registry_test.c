/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include <signal.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/rand.h"
#include "common/os/fd.h"
#include "common/os/proc.h"
#include "common/registry/registry_test_fake.h"
#include "common/registry/registry_internal.h"
#include "common/testing/cert.h"
#include "common/testing/rawserver.h"

#define BLOB ((size_t)3 << 20)

static const char manifest_text[] = "{\"schemaVersion\":2,\"mediaType\":\"" BXC_MT_OCI_MANIFEST
				    "\",\"config\":{},\"layers\":[]}";
static const char index_text[] = "{\"schemaVersion\":2,\"manifests\":[]}";

struct fixture {
	bxc_http_client *http;
	fake_registry *fake, *mirror;
	bxc_reg *reg; /* without credentials or hosts */
	uint8_t *blob;
	bxc_descriptor blob_d, manifest_d;
	/* what the credentials callback gives and has seen */
	const char *give_basic, *give_token;
	unsigned n_asked;
	char asked[512];
};

static bxc_slice slice(const char *s)
{
	return bxc_slice_of(s, strlen(s));
}

static int setup(void **state)
{
	struct fixture *f = bxc_calloc(1, sizeof(*f));
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_http_client_new(&(bxc_http_client_config){0}, &f->http, &err), err);
	f->fake = fake_registry_new();
	f->mirror = fake_registry_new();
	f->reg = bxc_reg_new(f->http, &(bxc_reg_config){0});
	f->blob = bxc_malloc(BLOB);
	bxc_rand_bytes(f->blob, BLOB);
	f->blob_d = (bxc_descriptor){.digest = bxc_digest_of(f->blob, BLOB), .size = BLOB};
	f->manifest_d = (bxc_descriptor){
		.digest = bxc_digest_of_str(manifest_text), .size = strlen(manifest_text)};
	fake_registry_put_manifest(
		f->fake, "team/app", "v1", BXC_MT_OCI_MANIFEST, slice(manifest_text));
	char text[BXC_DIGEST_STR_MAX];
	fake_registry_put_manifest(f->fake, "team/app", bxc_digest_str(&f->manifest_d.digest, text),
		BXC_MT_OCI_MANIFEST, slice(manifest_text));
	fake_registry_put_blob(f->fake, "team/app", &f->blob_d.digest, bxc_slice_of(f->blob, BLOB));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	bxc_reg_free(f->reg);
	bxc_http_client_free(f->http);
	fake_registry_free(f->fake);
	fake_registry_free(f->mirror);
	free(f->blob);
	free(f);
	return 0;
}

static int give(const char *domain, const char *scope, const char *realm, const char *service,
	bxc_secret **ret_token, bxc_secret **ret_basic, void *ud, bxc_err **err)
{
	struct fixture *f = ud;
	(void)err;
	f->n_asked++;
	snprintf(f->asked, sizeof(f->asked), "%s|%s|%s|%s", domain, scope, realm ? realm : "-",
		service ? service : "-");
	if (f->give_token)
		*ret_token = bxc_secret_new(f->give_token, strlen(f->give_token));
	if (f->give_basic)
		*ret_basic = bxc_secret_new(f->give_basic, strlen(f->give_basic));
	return 0;
}

static bxc_reg *with_credentials(struct fixture *f)
{
	return bxc_reg_new(f->http, &(bxc_reg_config){.credentials = give, .ud = f});
}

static bxc_ref ref_at(const char *host, const char *rest)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *s = bxc_str_fmt("%s/%s", host, rest);
	bxc_ref r = {0};
	assert_ok(bxc_ref_parse(s, &r, &err), err);
	return r;
}
#define REF(name, host, rest) BXC_AUTOREF bxc_ref name = ref_at(host, rest)

/* Resolves and forgets. */
static int resolve(bxc_reg *r, const bxc_ref *ref, bxc_err **err)
{
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor d = {0};
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	return bxc_reg_resolve(r, ref, NULL, &d, &bytes, err);
}

struct collected {
	bxc_buf bytes;
	bool fails;
	uint64_t last_done, last_total;
};

static int collect(const void *p, size_t n, void *ud, bxc_err **err)
{
	struct collected *c = ud;
	if (c->fails)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "disk full");
	return bxc_buf_append(&c->bytes, p, n, err);
}

static void note_progress(uint64_t done, uint64_t total, void *ud)
{
	struct collected *c = ud;
	c->last_done = done;
	c->last_total = total;
}

static void collected_done(struct collected *c)
{
	bxc_buf_done(&c->bytes);
}
#define COLLECTED(name)                                                                            \
	BXC_CLEANUP(collected_done) struct collected name = {.bytes = BXC_BUF_INIT(2 * BLOB)}

static int get_blob(
	bxc_reg *r, const bxc_ref *ref, const bxc_descriptor *d, struct collected *c, bxc_err **err)
{
	return bxc_reg_blob(r, ref, d, NULL, collect, c, note_progress, c, err);
}

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

/* ---- blobs ---- */

static void a_blob_is_streamed_and_verified(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	COLLECTED(c);
	assert_ok(get_blob(f->reg, &ref, &f->blob_d, &c, &err), err);
	assert_int_equal(c.bytes.len, BLOB);
	assert_memory_equal(c.bytes.data, f->blob, BLOB);
	assert_int_equal(c.last_done, BLOB);
	assert_int_equal(c.last_total, BLOB);
	COLLECTED(failing);
	failing.fails = true;
	assert_err_text(get_blob(f->reg, &ref, &f->blob_d, &failing, &err), BXC_RESOURCE_EXHAUSTED,
		err, "disk full");
	/* An empty one. */
	bxc_descriptor empty = {.digest = bxc_digest_of("", 0)};
	fake_registry_put_blob(f->fake, "team/app", &empty.digest, bxc_slice_of("", 0));
	COLLECTED(none);
	assert_ok(get_blob(f->reg, &ref, &empty, &none, &err), err);
	assert_int_equal(none.bytes.len, 0);
}

static void wrong_blobs_are_refused(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	bxc_descriptor d = {.digest = bxc_digest_of_str("right"), .size = 5};
	fake_registry_put_blob(f->fake, "team/app", &d.digest, slice("wrong"));
	COLLECTED(a);
	assert_err(get_blob(f->reg, &ref, &d, &a, &err), BXC_DATA_LOSS, err);
	/* The size counts too, before the bytes do. */
	d.size = 4;
	COLLECTED(b);
	assert_err_text(
		get_blob(f->reg, &ref, &d, &b, &err), BXC_DATA_LOSS, err, "5 bytes instead of 4");
	assert_int_equal(b.bytes.len, 0);
	d.size = 6;
	COLLECTED(c);
	assert_err(get_blob(f->reg, &ref, &d, &c, &err), BXC_DATA_LOSS, err);
}

static void blobs_go_into_a_store_once(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *store = bxc_blob_mem_new();
	assert_int_equal(bxc_reg_fetch(f->reg, &ref, &f->blob_d, NULL, store, NULL, NULL, &err), 0);
	assert_true(bxc_blob_has(store, &f->blob_d.digest));
	assert_int_equal(bxc_reg_fetch(f->reg, &ref, &f->blob_d, NULL, store, NULL, NULL, &err), 1);
	assert_int_equal(f->fake->n_get_blob, 1);
	bxc_descriptor d = {.digest = bxc_digest_of_str("right"), .size = 5};
	fake_registry_put_blob(f->fake, "team/app", &d.digest, slice("wrong"));
	assert_err(
		bxc_reg_fetch(f->reg, &ref, &d, NULL, store, NULL, NULL, &err), BXC_DATA_LOSS, err);
	assert_false(bxc_blob_has(store, &d.digest));
}

struct flaky {
	bxc_rawserver server;
	const uint8_t *bytes;
	size_t n, piece; /* sends at most a piece a time */
	bool has_ranges;
	unsigned n_served;
	char ranges[512];
};

static void serve_piece(int fd, const char *header, unsigned n_th, void *ud)
{
	struct flaky *s = ud;
	(void)n_th;
	if (!strstr(header, "/blobs/")) {
		bxc_rawserver_says(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
		return;
	}
	size_t first = 0;
	const char *range = strstr(header, "Range: bytes=");
	s->n_served++;
	if (range) {
		BXC_AUTOFREE char *digits = bxc_strndup(range + 13, strcspn(range + 13, "-"));
		uint64_t v = 0;
		bxc_check(bxc_str_to_u64(digits, 0, s->n, &v, NULL) >= 0);
		size_t used = strlen(s->ranges);
		snprintf(s->ranges + used, sizeof(s->ranges) - used, "%s ", digits);
		first = s->has_ranges ? (size_t)v : 0;
	}
	BXC_AUTOFREE char *head =
		range && s->has_ranges
			? bxc_str_fmt("HTTP/1.1 206 Partial Content\r\nContent-Length: "
				      "%zu\r\nContent-Range: bytes %zu-%zu/%zu\r\n\r\n",
				  s->n - first, first, s->n - 1, s->n)
			: bxc_str_fmt("HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", s->n);
	bxc_rawserver_says(fd, head);
	/* Without ranges each answer gets further, or it would never end. */
	size_t want = s->has_ranges ? s->piece : s->piece * s->n_served;
	bxc_rawserver_say(fd, s->bytes + first, BXC_MIN(want, s->n - first));
}

static void a_cut_blob_is_resumed_where_it_ended(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct flaky s = {.bytes = f->blob, .n = 250000, .piece = 100000, .has_ranges = true};
	bxc_rawserver_start(&s.server, serve_piece, &s);
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", s.server.port);
	REF(ref, host, "team/app:v1");
	bxc_descriptor d = {.digest = bxc_digest_of(f->blob, 250000), .size = 250000};
	COLLECTED(c);
	assert_ok(get_blob(f->reg, &ref, &d, &c, &err), err);
	assert_memory_equal(c.bytes.data, f->blob, 250000);
	assert_string_equal(s.ranges, "100000 200000 ");
	bxc_rawserver_stop(&s.server);
}

static void a_cut_blob_is_resumed_without_ranges(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct flaky s = {.bytes = f->blob, .n = 250000, .piece = 100000};
	bxc_rawserver_start(&s.server, serve_piece, &s);
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", s.server.port);
	REF(ref, host, "team/app:v1");
	bxc_descriptor d = {.digest = bxc_digest_of(f->blob, 250000), .size = 250000};
	COLLECTED(c);
	assert_ok(get_blob(f->reg, &ref, &d, &c, &err), err);
	assert_int_equal(c.bytes.len, 250000);
	assert_memory_equal(c.bytes.data, f->blob, 250000);
	bxc_rawserver_stop(&s.server);
}

static void a_blob_that_is_cut_again_and_again_fails(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct flaky s = {.bytes = f->blob, .n = 250000, .piece = 1000, .has_ranges = true};
	bxc_rawserver_start(&s.server, serve_piece, &s);
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", s.server.port);
	REF(ref, host, "team/app:v1");
	bxc_descriptor d = {.digest = bxc_digest_of(f->blob, 250000), .size = 250000};
	COLLECTED(c);
	assert_err(get_blob(f->reg, &ref, &d, &c, &err), BXC_UNAVAILABLE, err);
	assert_int_equal(s.n_served, 3);
	bxc_rawserver_stop(&s.server);
}

/* ---- mirrors ---- */

static bxc_reg *with_mirror(struct fixture *f, const char *domain, const char *mirror)
{
	char *mirrors[] = {(char *)(uintptr_t)mirror, NULL};
	const bxc_reg_host hosts[] = {{.domain = domain, .mirrors = mirrors}};
	return bxc_reg_new(f->http, &(bxc_reg_config){.hosts = hosts, .n_hosts = 1});
}

static void mirrors_are_asked_first(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, f->fake->host, f->mirror->host);
	/* Not in the mirror: the registry itself has it. */
	assert_ok(resolve(r, &ref, &err), err);
	assert_int_equal(f->mirror->n_requests, 1);
	assert_int_equal(f->fake->n_requests, 1);
	fake_registry_put_manifest(
		f->mirror, "team/app", "v1", BXC_MT_OCI_MANIFEST, slice(manifest_text));
	assert_ok(resolve(r, &ref, &err), err);
	assert_int_equal(f->fake->n_requests, 1);
	/* A mirror that is busy is not waited for. */
	f->mirror->busy = 1;
	f->mirror->retry_after = "30";
	assert_ok(resolve(r, &ref, &err), err);
	assert_int_equal(f->fake->n_requests, 2);
}

static void a_mirror_that_is_down_is_passed_over(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_AUTOFREE char *dead = bxc_str_fmt("http://127.0.0.1:%u", bxc_rawserver_closed_port());
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, f->fake->host, dead);
	assert_ok(resolve(r, &ref, &err), err);
}

static void not_found_of_a_mirror_counts_when_the_origin_is_down(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *dead = bxc_str_fmt("127.0.0.1:%u", bxc_rawserver_closed_port());
	REF(ref, dead, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, dead, f->mirror->host);
	assert_err_text(resolve(r, &ref, &err), BXC_NOT_FOUND, err, ": not found");
	COLLECTED(c);
	assert_err(get_blob(r, &ref, &f->blob_d, &c, &err), BXC_NOT_FOUND, err);
}

static void bad_bytes_of_a_mirror_are_replaced(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, f->fake->host, f->mirror->host);
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *store = bxc_blob_mem_new();
	BXC_AUTOFREE uint8_t *bad = bxc_memdup(f->blob, BLOB);
	bad[BLOB - 1] ^= 1;
	fake_registry_put_blob(f->mirror, "team/app", &f->blob_d.digest, bxc_slice_of(bad, BLOB));
	assert_int_equal(bxc_reg_fetch(r, &ref, &f->blob_d, NULL, store, NULL, NULL, &err), 0);
	assert_true(bxc_blob_has(store, &f->blob_d.digest));
	/* A sink has had them already. */
	COLLECTED(c);
	assert_err(get_blob(r, &ref, &f->blob_d, &c, &err), BXC_DATA_LOSS, err);
	/* Manifests are whole before they are passed on. */
	char text[BXC_DIGEST_STR_MAX];
	fake_registry_put_manifest(f->mirror, "team/app",
		bxc_digest_str(&f->manifest_d.digest, text), BXC_MT_OCI_MANIFEST, slice("{}"));
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	assert_ok(bxc_reg_manifest(r, &ref, &f->manifest_d, NULL, &bytes, &err), err);
	assert_string_equal(bxc_buf_text(&bytes), manifest_text);
}

static void a_blob_cut_by_a_mirror_goes_on_at_the_origin(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct flaky s = {.bytes = f->blob, .n = BLOB, .piece = 1000, .has_ranges = true};
	bxc_rawserver_start(&s.server, serve_piece, &s);
	BXC_AUTOFREE char *mirror = bxc_str_fmt("127.0.0.1:%u", s.server.port);
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, f->fake->host, mirror);
	REF(ref, f->fake->host, "team/app:v1");
	COLLECTED(c);
	assert_ok(get_blob(r, &ref, &f->blob_d, &c, &err), err);
	assert_memory_equal(c.bytes.data, f->blob, BLOB);
	bxc_rawserver_stop(&s.server);
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

/* ---- push ---- */

static void a_blob_is_pushed_once(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(repo, f->fake->host, "team/new:v1");
	BXC_AUTOCLOSE int fd = -1;
	struct collected c = {0};
	bool there = true;
	assert_ok(bxc_fd_memfd("blob", f->blob, BLOB, true, &fd, &err), err);
	f->fake->needs_token = true;
	assert_ok(bxc_reg_has_blob(f->reg, &repo, &f->blob_d, NULL, &there, &err), err);
	assert_false(there);
	assert_ok(bxc_reg_push_blob(f->reg, &repo, &f->blob_d, fd, NULL, note_progress, &c, &err),
		err);
	assert_string_equal(f->fake->last_scope, "repository:team/new:pull,push");
	assert_int_equal(c.last_done, BLOB);
	const bxc_buf *stored = fake_registry_blob(f->fake, "team/new", &f->blob_d.digest);
	assert_non_null(stored);
	assert_int_equal(stored->len, BLOB);
	assert_memory_equal(stored->data, f->blob, BLOB);
	assert_ok(bxc_reg_push_blob(f->reg, &repo, &f->blob_d, fd, NULL, NULL, NULL, &err), err);
	assert_int_equal(f->fake->n_uploads, 1);
	assert_int_equal(f->fake->n_tokens, 1);
}

static void uploads_follow_absolute_addresses_and_start_over(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(repo, f->fake->host, "team/new:v1");
	bxc_descriptor d = {.digest = bxc_digest_of_str("small"), .size = 5};
	f->fake->absolute_location = true;
	f->fake->needs_token = true;
	f->fake->break_put = 1;
	assert_ok(bxc_reg_push_bytes(f->reg, &repo, &d, slice("small"), NULL, &err), err);
	assert_int_equal(f->fake->n_uploads, 2);
	assert_non_null(fake_registry_blob(f->fake, "team/new", &d.digest));
	assert_err(bxc_reg_push_bytes(f->reg, &repo, &d, slice("other"), NULL, &err), BXC_DATA_LOSS,
		err);
}

static void a_file_that_is_not_what_it_was_is_refused_by_the_registry(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(repo, f->fake->host, "team/new:v1");
	BXC_AUTOCLOSE int fd = -1;
	bxc_descriptor d = {.digest = bxc_digest_of_str("small"), .size = 5};
	assert_ok(bxc_fd_memfd("blob", "other", 5, true, &fd, &err), err);
	assert_err_text(bxc_reg_push_blob(f->reg, &repo, &d, fd, NULL, NULL, NULL, &err),
		BXC_INVALID_ARGUMENT, err, "DIGEST_INVALID");
}

static void blobs_are_mounted_when_the_registry_agrees(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(repo, f->fake->host, "team/new:v1");
	bool mounted = false;
	assert_ok(bxc_reg_mount_blob(f->reg, &repo, "team/app", &f->blob_d, NULL, &mounted, &err),
		err);
	assert_true(mounted);
	assert_non_null(fake_registry_blob(f->fake, "team/new", &f->blob_d.digest));
	REF(third, f->fake->host, "team/third:v1");
	f->fake->declines_mounts = true;
	assert_ok(bxc_reg_mount_blob(f->reg, &third, "team/app", &f->blob_d, NULL, &mounted, &err),
		err);
	assert_false(mounted);
	assert_int_equal(f->fake->n_delete, 1);
	f->fake->needs_token = true;
	f->fake->token_denies = true;
	mounted = true;
	assert_ok(bxc_reg_mount_blob(f->reg, &third, "team/app", &f->blob_d, NULL, &mounted, &err),
		err);
	assert_false(mounted);
}

static void manifests_are_pushed_by_tag_or_digest(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	char digest[BXC_DIGEST_STR_MAX];
	bxc_digest_str(&f->manifest_d.digest, digest);
	REF(tag, f->fake->host, "team/new:v1");
	assert_ok(bxc_reg_push_manifest(
			  f->reg, &tag, BXC_MT_OCI_MANIFEST, slice(manifest_text), NULL, &err),
		err);
	assert_non_null(fake_registry_manifest(f->fake, "team/new", "v1"));
	assert_ok(resolve(f->reg, &tag, &err), err);
	BXC_AUTOFREE char *rest = bxc_str_fmt("team/new@%s", digest);
	REF(by_digest, f->fake->host, rest);
	assert_ok(bxc_reg_push_manifest(f->reg, &by_digest, BXC_MT_OCI_MANIFEST,
			  slice(manifest_text), NULL, &err),
		err);
	assert_non_null(fake_registry_manifest(f->fake, "team/new", digest));
	assert_err(bxc_reg_push_manifest(
			   f->reg, &by_digest, BXC_MT_OCI_MANIFEST, slice(index_text), NULL, &err),
		BXC_INVALID_ARGUMENT, err);
}

/* ---- the packaged registry ---- */

static void the_real_registry_takes_and_gives(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *config = bxc_str_fmt("%s/config.yml", dir);
	BXC_AUTOFREE char *log = bxc_str_fmt("%s/log", dir);
	uint16_t port = bxc_rawserver_closed_port();
	BXC_AUTOFREE char *text = bxc_str_fmt(
		"version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: "
		"{filesystem: {rootdirectory: %s/data}}\nhttp: {addr: 127.0.0.1:%u}\n",
		dir, port);
	bxc_test_write_file(config, text, strlen(text), 0600);
	BXC_AUTOCLOSE int log_fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	char *argv[] = {(char[]){"docker-registry"}, (char[]){"serve"}, config, NULL};
	const bxc_proc_fd fds[] = {{log_fd, 1}, {log_fd, 2}};
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *p = NULL;
	assert_ok(
		bxc_proc_spawn(
			&(bxc_proc_spec){.argv = argv, .fds = fds, .n_fds = 2, .new_session = true},
			&p, &err),
		err);
	/* It listens when it answers. */
	BXC_AUTOFREE char *ping = bxc_str_fmt("http://127.0.0.1:%u/v2/", port);
	int64_t until = bxc_clock_mono_ns() + 60 * BXC_NS_PER_S;
	for (int k = -1; k < 0;) {
		bxc_http_response *r = NULL;
		bxc_proc_status status;
		k = bxc_http_start(
			f->http, &(bxc_http_request){.method = "GET", .url = ping}, NULL, &r, NULL);
		bxc_http_response_free(r);
		if (k < 0 && (bxc_proc_wait_for(p, 20, &status, NULL) != 0 ||
				     bxc_clock_mono_ns() > until))
			fail_msg("docker-registry does not start: %s",
				bxc_test_read_file(log, NULL));
	}
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", port);
	REF(ref, host, "deep/team/app:v1");
	REF(other, host, "other:v2");
	BXC_AUTOCLOSE int fd = -1;
	struct collected c = {0};
	bool mounted = false, there = false;
	assert_ok(bxc_fd_memfd("blob", f->blob, BLOB, true, &fd, &err), err);
	assert_err(resolve(f->reg, &ref, &err), BXC_NOT_FOUND, err);
	assert_ok(bxc_reg_push_blob(f->reg, &ref, &f->blob_d, fd, NULL, note_progress, &c, &err),
		err);
	assert_ok(bxc_reg_mount_blob(
			  f->reg, &other, "deep/team/app", &f->blob_d, NULL, &mounted, &err),
		err);
	assert_true(mounted);
	assert_ok(bxc_reg_has_blob(f->reg, &other, &f->blob_d, NULL, &there, &err), err);
	assert_true(there);
	const bxc_descriptor conf = {.digest = bxc_digest_of_str("{}"), .size = 2};
	assert_ok(bxc_reg_push_bytes(f->reg, &ref, &conf, slice("{}"), NULL, &err), err);
	char a[BXC_DIGEST_STR_MAX], b[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *manifest =
		bxc_str_fmt("{\"schemaVersion\":2,\"mediaType\":\"%s\",\"config\":{\"mediaType\":"
			    "\"%s\",\"digest\":\"%s\",\"size\":2},"
			    "\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}]}",
			BXC_MT_OCI_MANIFEST, BXC_MT_OCI_CONFIG, bxc_digest_str(&conf.digest, a),
			BXC_MT_OCI_LAYER, bxc_digest_str(&f->blob_d.digest, b), BLOB);
	assert_ok(bxc_reg_push_manifest(
			  f->reg, &ref, BXC_MT_OCI_MANIFEST, slice(manifest), NULL, &err),
		err);
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor d = {0};
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor h = {0};
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	assert_ok(bxc_reg_head(f->reg, &ref, NULL, &h, &err), err);
	assert_ok(bxc_reg_resolve(f->reg, &ref, NULL, &d, &bytes, &err), err);
	assert_string_equal(bxc_buf_text(&bytes), manifest);
	assert_true(bxc_digest_eq(&h.digest, &d.digest));
	COLLECTED(got);
	assert_ok(get_blob(f->reg, &ref, &f->blob_d, &got, &err), err);
	assert_memory_equal(got.bytes.data, f->blob, BLOB);
	assert_ok(bxc_proc_kill(p, SIGTERM, &err), err);
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
		T(a_blob_is_streamed_and_verified),
		T(wrong_blobs_are_refused),
		T(blobs_go_into_a_store_once),
		T(a_cut_blob_is_resumed_where_it_ended),
		T(a_cut_blob_is_resumed_without_ranges),
		T(a_blob_that_is_cut_again_and_again_fails),
		T(mirrors_are_asked_first),
		T(a_mirror_that_is_down_is_passed_over),
		T(not_found_of_a_mirror_counts_when_the_origin_is_down),
		T(bad_bytes_of_a_mirror_are_replaced),
		T(a_blob_cut_by_a_mirror_goes_on_at_the_origin),
		T(tokens_are_fetched_without_credentials_and_kept),
		T(passwords_go_to_the_token_server_only),
		T(nobody_is_asked_before_a_registry_wants_it),
		T(tokens_of_the_caller_are_used_as_they_are),
		T(a_token_that_ceases_to_be_good_is_replaced_once),
		T(basic_sign_in_works),
		T(a_token_server_that_refuses_is_told_of),
		T(a_busy_registry_is_asked_again),
		T(waiting_can_be_canceled),
		T(a_blob_is_pushed_once),
		T(uploads_follow_absolute_addresses_and_start_over),
		T(a_file_that_is_not_what_it_was_is_refused_by_the_registry),
		T(blobs_are_mounted_when_the_registry_agrees),
		T(manifests_are_pushed_by_tag_or_digest),
		T(the_real_registry_takes_and_gives),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
