/* SPDX-License-Identifier: Apache-2.0 */
/* What goes to whom, and what is believed of whom: registries, mirrors and hosts they send us to.
 */
#include "common/testing/testing.h"

#include "common/base/limits.h"
#include "common/base/rand.h"
#include "common/registry/registry_test_fake.h"
#include "common/registry/registry_internal.h"
#include "common/testing/rawserver.h"

#define BLOB ((size_t)200000)

struct fixture {
	bxc_http_client *http;
	fake_registry *fake;
	bxc_reg *reg; /* with the password joe:secret for everybody who asks */
	unsigned n_asked;
	uint8_t blob[BLOB];
	bxc_descriptor blob_d;
};

static bxc_slice slice(const char *s)
{
	return bxc_slice_of(s, strlen(s));
}

static int give(const char *domain, const char *scope, const char *realm, const char *service,
	bxc_secret **ret_token, bxc_secret **ret_basic, void *ud, bxc_err **err)
{
	struct fixture *f = ud;
	(void)domain;
	(void)scope;
	(void)realm;
	(void)service;
	(void)ret_token;
	(void)err;
	f->n_asked++;
	*ret_basic = bxc_secret_new("joe:secret", 10);
	return 0;
}

static int setup(void **state)
{
	struct fixture *f = bxc_calloc(1, sizeof(*f));
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_http_client_new(&(bxc_http_client_config){0}, &f->http, &err), err);
	f->fake = fake_registry_new();
	f->reg = bxc_reg_new(f->http, &(bxc_reg_config){.credentials = give, .ud = f});
	bxc_rand_bytes(f->blob, BLOB);
	f->blob_d = (bxc_descriptor){.digest = bxc_digest_of(f->blob, BLOB), .size = BLOB};
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
	free(f);
	return 0;
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

static bxc_reg *with_mirror(struct fixture *f, const char *mirror)
{
	char *mirrors[] = {(char *)(uintptr_t)mirror, NULL};
	const bxc_reg_host hosts[] = {{.domain = f->fake->host, .mirrors = mirrors}};
	return bxc_reg_new(f->http, &(bxc_reg_config){.hosts = hosts, .n_hosts = 1});
}

/* A server that says one text to everybody and keeps what it was asked last. */
struct sayer {
	bxc_rawserver server;
	const char *text;
	const void *bytes; /* behind it */
	size_t n;
	char *host;
	char heard[16384];
	unsigned n_asked;
};

static void say(int fd, const char *header, unsigned n_th, void *ud)
{
	struct sayer *s = ud;
	(void)n_th;
	s->n_asked++;
	snprintf(s->heard, sizeof(s->heard), "%s", header);
	bxc_rawserver_says(fd, s->text);
	bxc_rawserver_say(fd, s->bytes, s->n);
}

static void sayer_start(struct sayer *s)
{
	bxc_rawserver_start(&s->server, say, s);
	s->host = bxc_str_fmt("127.0.0.1:%u", s->server.port);
}

static void sayer_stop(struct sayer *s)
{
	bxc_rawserver_stop(&s->server);
	free(s->host);
}

/* ---- credentials ---- */

static void a_place_knows_its_own_addresses(void **state)
{
	(void)state;
	static const struct {
		const char *name, *url, *path; /* NULL: foreign */
	} cases[] = {
		{"reg.example", "https://reg.example/v2/x", "/v2/x"},
		{"reg.example", "https://REG.example:443/v2/x", "/v2/x"},
		{"reg.example", "http://reg.example:80/v2/x", "/v2/x"},
		{"reg.example:443", "https://reg.example/v2/x", "/v2/x"},
		{"reg.example:5000", "https://reg.example:5000?q", "?q"},
		{"reg.example", "https://reg.example:80/v2/x", NULL},
		{"reg.example", "https://reg.example:5000/v2/x", NULL},
		{"reg.example:5000", "https://reg.example/v2/x", NULL},
		{"reg.example", "https://reg.example@evil.example/v2/x", NULL},
		{"reg.example", "https://evil.example/reg.example", NULL},
		{"reg.example", "/v2/x", NULL},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		BXC_AUTOFREE char *name = bxc_strdup(cases[i].name);
		const reg_endpoint at = {.name = name};
		const char *path = bxc_reg__own_path(&at, cases[i].url);
		if (!bxc_str_eq(path, cases[i].path))
			fail_msg("%s at %s: %s", cases[i].url, name, path ? path : "foreign");
	}
}

static void uploads_to_another_host_carry_no_credentials(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct sayer s = {.text = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"};
	sayer_start(&s);
	REF(repo, f->fake->host, "team/new:v1");
	bxc_descriptor d = {.digest = bxc_digest_of_str("small"), .size = 5};
	f->fake->needs_token = true;
	f->fake->absolute_location = true;
	f->fake->upload_host = s.host;
	assert_ok(bxc_reg_push_bytes(f->reg, &repo, &d, slice("small"), NULL, &err), err);
	assert_non_null(strstr(s.heard, "PUT /v2/team/new/blobs/uploads/17?"));
	assert_null(strcasestr(s.heard, "Authorization"));
	assert_non_null(strstr(f->fake->last_authorization, "Bearer good-"));
	sayer_stop(&s);
}

/* A registry sends us on to another host, which then wants a password. */
static void another_host_cannot_ask_for_credentials(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	f->fake->needs_token = true;
	BXC_AUTOFREE char *text = bxc_str_fmt("HTTP/1.1 307 Go\r\nLocation: http://%s/v2/team/app/"
					      "blobs/x\r\nContent-Length: 0\r\n\r\n",
		f->fake->host);
	struct sayer s = {.text = text};
	sayer_start(&s);
	REF(ref, s.host, "team/app:v1");
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *store = bxc_blob_mem_new();
	assert_err(bxc_reg_fetch(f->reg, &ref, &f->blob_d, NULL, store, NULL, NULL, &err),
		BXC_UNAUTHENTICATED, err);
	assert_int_equal(f->fake->n_requests, 1);
	assert_int_equal(f->n_asked, 0);
	assert_int_equal(f->fake->n_tokens, 0);
	sayer_stop(&s);
}

static void passwords_do_not_travel_in_the_clear_to_strangers(void **state)
{
	struct fixture *f = *state;
	/* "schemes" as registry.c has them for a name, and for a registry on this machine. */
	const reg_endpoint remote = {.name = (char[]){"registry.example.org"},
		.domain = (char[]){"registry.example.org"},
		.schemes = {"https"},
		.n_schemes = 1};
	const reg_endpoint local = {.name = (char[]){"127.0.0.1:5000"},
		.domain = (char[]){"127.0.0.1:5000"},
		.schemes = {"http", "https"},
		.n_schemes = 2};
	static const char *const realms[] = {"tokens.example.org", "127.example.org",
		"localhost:80@tokens.example.org", "[::1]@tokens.example.org",
		"127.0.0.1\\@tokens.example.org"};
	f->fake->needs_token = true;
	BXC_AUTOFREE char *u = bxc_str_fmt("http://%s/v2/team/app/blobs/x", f->fake->host);
	for (size_t i = 0; i < 2 * BXC_ARRAY_SIZE(realms); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *denied = NULL;
		BXC_CLEANUP(bxc_reg__auth_done) reg_auth a = {0};
		snprintf(f->fake->host, sizeof(f->fake->host), "%s", realms[i / 2]);
		assert_ok(bxc_http_start(f->http, &(bxc_http_request){.method = "GET", .url = u},
				  NULL, &denied, &err),
			err);
		int r = bxc_reg__sign_in(f->reg, i % 2 ? &local : &remote,
			"repository:team/app:pull", denied, NULL, &a, &err);
		if (strpbrk(realms[i / 2], "@\\"))
			assert_err_text(r, BXC_UNAUTHENTICATED, err, "plain host name");
		else
			assert_err_text(r, BXC_PERMISSION_DENIED, err, "without TLS");
	}
}

/* ---- mirrors ---- */

/* The wrong beginning comes from the mirror, the rest from the registry: neither is all of it. */
static void a_blob_that_a_mirror_began_badly_is_fetched_anew(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *text =
		bxc_str_fmt("HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", BLOB);
	struct sayer s = {.text = text, .bytes = "bad bytes", .n = 9};
	sayer_start(&s);
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, s.host);
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *store = bxc_blob_mem_new();
	assert_ok(bxc_reg_fetch(r, &ref, &f->blob_d, NULL, store, NULL, NULL, &err), err);
	assert_true(bxc_blob_has(store, &f->blob_d.digest));
	assert_int_equal(f->fake->n_get_blob, 2);
	sayer_stop(&s);
}

static void a_mirror_cannot_cancel(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct sayer s = {.text = "HTTP/1.1 418 No\r\nContent-Length: 29\r\n\r\n"
				  "{\"error\":{\"code\":\"CANCELED\"}}"};
	sayer_start(&s);
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, s.host);
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *store = bxc_blob_mem_new();
	assert_ok(bxc_reg_fetch(r, &ref, &f->blob_d, NULL, store, NULL, NULL, &err), err);
	assert_int_equal(s.n_asked, 1);
	sayer_stop(&s);
}

/* ---- patience ---- */

static void what_is_whole_need_not_end_well(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *text =
		bxc_str_fmt("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n", BLOB);
	struct sayer s = {.text = text, .bytes = f->blob, .n = BLOB};
	sayer_start(&s);
	REF(ref, s.host, "team/app:v1");
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *store = bxc_blob_mem_new();
	assert_ok(bxc_reg_fetch(f->reg, &ref, &f->blob_d, NULL, store, NULL, NULL, &err), err);
	assert_int_equal(s.n_asked, 1);
	sayer_stop(&s);
}

static void a_busy_registry_gets_the_upload_later(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(repo, f->fake->host, "team/new:v1");
	bxc_descriptor d = {.digest = bxc_digest_of_str("small"), .size = 5};
	f->fake->break_put = 1;
	f->fake->put_status = 429;
	assert_ok(bxc_reg_push_bytes(f->reg, &repo, &d, slice("small"), NULL, &err), err);
	assert_int_equal(f->fake->n_uploads, 2);
	/* Longer than anybody wants to wait: said at once. */
	bxc_descriptor other = {.digest = bxc_digest_of_str("other"), .size = 5};
	f->fake->break_put = 1;
	f->fake->retry_after = "3600";
	assert_err(bxc_reg_push_bytes(f->reg, &repo, &other, slice("other"), NULL, &err),
		BXC_RESOURCE_EXHAUSTED, err);
	assert_int_equal(f->fake->n_uploads, 3);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_place_knows_its_own_addresses),
		T(uploads_to_another_host_carry_no_credentials),
		T(another_host_cannot_ask_for_credentials),
		T(passwords_do_not_travel_in_the_clear_to_strangers),
		T(a_blob_that_a_mirror_began_badly_is_fetched_anew),
		T(a_mirror_cannot_cancel),
		T(what_is_whole_need_not_end_well),
		T(a_busy_registry_gets_the_upload_later),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
