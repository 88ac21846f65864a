/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/testing/cert.h"
#include "common/testing/rawserver.h"
#include "worker/content/content.h"

static const char text[] = "bytes of a layer";

/* Two workers of one cluster: `from` serves by TLS, `to` fetches and trusts its certificate. */
struct fixture {
	char *dir, *cert, *key, *url;
	bxc_http_client *http;
	bxc_content *from, *to;
	bxc_digest digest;
};

static bxc_content *open_content(struct fixture *f, const char *name)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *dir = bxc_str_fmt("%s/%s", f->dir, name);
	assert_int_equal(mkdir(dir, 0700), 0);
	const bxc_content_config cc = {.dir = dir, .http = f->http, .registry_http = f->http};
	bxc_content *c = NULL;
	assert_ok(bxc_content_open(&cc, &c, &err), err);
	bxc_content_set_peer_token(c, "sesame");
	return c;
}

static int setup(void **state)
{
	struct fixture *f = bxc_calloc(1, sizeof(*f));
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_blob_info info;
	f->dir = bxc_test_tmpdir();
	f->cert = bxc_str_fmt("%s/cert.pem", f->dir);
	f->key = bxc_str_fmt("%s/key.pem", f->dir);
	bxc_test_make_cert(f->dir);
	assert_ok(
		bxc_http_client_new(&(bxc_http_client_config){.ca_file = f->cert}, &f->http, &err),
		err);
	f->from = open_content(f, "from");
	f->to = open_content(f, "to");
	assert_ok(bxc_blob_put(bxc_content_store(f->from), text, strlen(text), &info, &err), err);
	f->digest = info.digest;
	assert_ok(bxc_content_serve(f->from, "127.0.0.1", 0, f->cert, f->key, &err), err);
	f->url = bxc_str_fmt("https://127.0.0.1:%u", bxc_content_port(f->from));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	bxc_content_close(f->from);
	bxc_content_close(f->to);
	bxc_http_client_free(f->http);
	free(f->url);
	free(f->cert);
	free(f->key);
	bxc_test_rmtree(f->dir);
	free(f);
	return 0;
}

static int fetch(struct fixture *f, const char *url, bxc_buf *out, bxc_err **err)
{
	return bxc_content_from_peer(f->to, url, &f->digest, NULL, bxc_test_to_buf, out, err);
}

static void layers_are_handed_over_by_tls(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(1000);
	assert_ok(fetch(f, f->url, &out, &err), err);
	assert_string_equal(bxc_buf_text(&out), text);
	bxc_content_set_peer_token(f->to, "another");
	assert_err(fetch(f, f->url, &out, &err), BXC_UNAUTHENTICATED, err);
	bxc_content_set_peer_token(f->to, NULL);
	assert_err(fetch(f, f->url, &out, &err), BXC_UNAUTHENTICATED, err);
}

static void a_server_with_tls_answers_nothing_else(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(1000);
	BXC_AUTOFREE char *plain = bxc_str_fmt("http://127.0.0.1:%u", bxc_content_port(f->from));
	assert_err(fetch(f, plain, &out, &err), BXC_UNAVAILABLE, err);
	assert_int_equal(out.len, 0);
}

static void tokens_do_not_leave_the_machine_without_tls(void **state)
{
	struct fixture *f = *state;
	static const char *const urls[] = {"http://10.0.0.1:7660", "http://127.example.org:7660",
		"http://localhost:7660@10.0.0.1", "10.0.0.1:7660"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(urls); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(1000);
		assert_err_text(
			fetch(f, urls[i], &out, &err), BXC_FAILED_PRECONDITION, err, "without TLS");
	}
	BXC_AUTOERR bxc_err *err = NULL;
	assert_err_text(bxc_content_serve(f->to, "0.0.0.0", 0, NULL, NULL, &err),
		BXC_FAILED_PRECONDITION, err, "--tls-cert");
	assert_int_equal(bxc_content_port(f->to), 0);
	assert_ok(bxc_content_serve(f->to, "127.0.0.1", 0, NULL, NULL, &err), err);
}

struct redirect {
	bxc_rawserver server;
	char *location;
};

static void serve_redirect(int fd, const char *header, unsigned n_th, void *ud)
{
	struct redirect *s = ud;
	(void)header;
	(void)n_th;
	bxc_rawserver_says(fd, "HTTP/1.1 307 Go\r\nContent-Length: 0\r\nLocation: ");
	bxc_rawserver_says(fd, s->location);
	bxc_rawserver_says(fd, "\r\n\r\n");
}

static void a_peer_cannot_send_us_elsewhere(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(1000);
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *location =
		bxc_str_fmt("%s/v1/blobs/%s", f->url, bxc_digest_str(&f->digest, digest));
	struct redirect s = {.location = location};
	bxc_rawserver_start(&s.server, serve_redirect, &s);
	BXC_AUTOFREE char *url = bxc_str_fmt("http://127.0.0.1:%u", s.server.port);
	assert_true(fetch(f, url, &out, &err) < 0);
	assert_non_null(strstr(bxc_err_text(err), "307"));
	assert_int_equal(out.len, 0);
	bxc_rawserver_stop(&s.server);
}

/* The form in which a tar was packed is known for each algorithm and level, while the blob is
 * there. */
static void forms_are_known_while_their_blob_is_there(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_descriptor made = {.media_type = bxc_strdup(BXC_MT_OCI_LAYER_ZSTD),
		.digest = f->digest,
		.size = strlen(text)};
	bxc_descriptor got = {0};
	bxc_digest tar = bxc_digest_of_str("tar"), other = bxc_digest_of_str("other");
	bxc_content_form_add(f->from, &tar, BXC_COMPRESSION_ZSTD, 3, &made);
	assert_false(bxc_content_form(f->from, &tar, BXC_COMPRESSION_ZSTD, 0, &got));
	assert_false(bxc_content_form(f->from, &tar, BXC_COMPRESSION_GZIP, 3, &got));
	assert_false(bxc_content_form(f->from, &other, BXC_COMPRESSION_ZSTD, 3, &got));
	assert_true(bxc_content_form(f->from, &tar, BXC_COMPRESSION_ZSTD, 3, &got));
	assert_true(bxc_digest_eq(&got.digest, &f->digest) && got.size == strlen(text));
	bxc_content_made_list list = {0};
	assert_ok(bxc_content_forms(f->from, &list, &err), err);
	assert_int_equal(list.n, 1);
	assert_true(bxc_digest_eq(&list.v[0].diff_id, &tar) &&
		    bxc_digest_eq(&list.v[0].blob, &f->digest));
	bxc_arr_done(&list);
	assert_ok(bxc_blob_remove(bxc_content_store(f->from), &f->digest, &err), err);
	bxc_descriptor_done(&got);
	assert_false(bxc_content_form(f->from, &tar, BXC_COMPRESSION_ZSTD, 3, &got));
	assert_ok(bxc_content_forms(f->from, &list, &err), err);
	assert_int_equal(list.n, 0);
	bxc_arr_done(&list);
	bxc_descriptor_done(&made);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(layers_are_handed_over_by_tls),
		T(a_server_with_tls_answers_nothing_else),
		T(tokens_do_not_leave_the_machine_without_tls),
		T(a_peer_cannot_send_us_elsewhere),
		T(forms_are_known_while_their_blob_is_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
