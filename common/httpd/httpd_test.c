/* SPDX-License-Identifier: Apache-2.0 */
#include "common/httpd/httpd_test_fixture.h"

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
		("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / "
		 "HTTP/1.1\r\nHost: x\r\n\r\n"),
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
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
