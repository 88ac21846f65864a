/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/codec/base64.h"
#include "common/codec/digest.h"
#include "common/codec/json.h"
#include "common/codec/json_writer.h"

static int parse(const char *s, bxc_json **ret, bxc_err **err)
{
	return bxc_json_parse(bxc_slice_of(s, strlen(s)), ret, err);
}

static void digests_round_trip_as_text(void **state)
{
	(void)state;
	static const char abc[] =
		"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	char s[BXC_DIGEST_STR_MAX];
	bxc_digest d = bxc_digest_of("abc", 3), e;
	assert_string_equal(bxc_digest_str(&d, s), abc);
	assert_int_equal(bxc_digest_parse(abc, &e, NULL), 0);
	assert_true(bxc_digest_eq(&d, &e));
	e.b[31] ^= 1;
	assert_false(bxc_digest_eq(&d, &e));
	bxc_digest none = {0};
	assert_string_equal(bxc_digest_str(&none, s), "");
	d = bxc_digest_of(NULL, 0);
	assert_string_equal(bxc_digest_str(&d, s),
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void malformed_digests_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "sha256:", "sha256:ba78", "md5:ba78",
		"sha256:BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad0",
		"sha256:ga7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"};
	bxc_digest d;
	BXC_AUTOERR bxc_err *err = NULL;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++)
		assert_err(bxc_digest_parse(bad[i], &d, &err), BXC_INVALID_ARGUMENT, err);
}

static void hashing_in_parts_equals_hashing_at_once(void **state)
{
	(void)state;
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	for (int round = 0; round < 2; round++) {
		bxc_hasher_update(h, "a", 1);
		bxc_hasher_update(h, "bc", 2);
		bxc_digest d = bxc_hasher_final(h), e = bxc_digest_of_str("abc");
		assert_true(bxc_digest_eq(&d, &e));
	}
	bxc_hasher_update_str(h, "ab");
	bxc_hasher_update_str(h, "c");
	bxc_digest x = bxc_hasher_final(h);
	bxc_hasher_update_str(h, "a");
	bxc_hasher_update_str(h, "bc");
	bxc_digest y = bxc_hasher_final(h);
	assert_false(bxc_digest_eq(&x, &y));
}

static void base64_and_hex_round_trip(void **state)
{
	(void)state;
	static const char *const pairs[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
		{"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"\xff\xfe\xfd", "//79"}};
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(100);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(pairs); i++) {
		BXC_AUTOFREE char *s = bxc_base64_encode(pairs[i][0], strlen(pairs[i][0]));
		assert_string_equal(s, pairs[i][1]);
		bxc_buf_clear(&b);
		assert_int_equal(bxc_base64_decode(s, 100, &b, NULL), 0);
		assert_string_equal(bxc_buf_text(&b), pairs[i][0]);
	}
	bxc_buf_clear(&b);
	assert_int_equal(bxc_base64_decode("__79Zg", 100, &b, NULL), 0);
	assert_memory_equal(b.data, "\xff\xfe\xfd\x66", 4);
	assert_int_equal(bxc_base64_decode("Zg=", 100, &b, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_base64_decode("Zh==", 100, &b, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_base64_decode("Z", 100, &b, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_base64_decode("Z g=", 100, &b, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_base64_decode("Zm9v", 2, &b, NULL), -BXC_RESOURCE_EXHAUSTED);
	uint8_t raw[2];
	assert_int_equal(bxc_hex_decode("0aFf", raw, 2, NULL), 0);
	BXC_AUTOFREE char *hex = bxc_hex_encode(raw, 2);
	assert_string_equal(hex, "0aff");
	assert_int_equal(bxc_hex_decode("0a", raw, 2, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_hex_decode("0x00", raw, 2, NULL), -BXC_INVALID_ARGUMENT);
}

static void json_keeps_order_and_values(void **state)
{
	(void)state;
	static const char text[] =
		"{\"z\":[1,-2,9007199254740992,1724150000123,true,false,null],\"a\":"
		"{\"s\":\"q\\\"\\\\\\n\\u0001\xc3\xbc\\u2028\"},\"e\":{},\"f\":[]}";
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *j = NULL;
	assert_ok(parse(text, &j, &err), err);
	BXC_AUTOFREE char *s = bxc_json_print(j);
	assert_string_equal(s,
		"{\"z\":[1,-2,9007199254740992,1724150000123,true,false,null],\"a\":"
		"{\"s\":\"q\\\"\\\\\\n\\u0001\xc3\xbc\xe2\x80\xa8\"},\"e\":{},\"f\":[]}");
	BXC_AUTOFREE char *c = bxc_json_print_canonical(j);
	assert_string_equal(c,
		"{\"a\":{\"s\":\"q\\\"\\\\\\n\\u0001\xc3\xbc\xe2\x80\xa8\"},\"e\":{},\"f\":[],"
		"\"z\":[1,-2,9007199254740992,1724150000123,true,false,null]}");
	BXC_AUTOJSON bxc_json *copy = bxc_json_dup(j);
	BXC_AUTOFREE char *s2 = bxc_json_print(copy);
	assert_string_equal(s, s2);
}

static void json_prints_like_go(void **state)
{
	(void)state;
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "a&b", "<x> \b\f\t\x7f\xe2\x80\xa9");
	bxc_json_add_array(j, "none");
	bxc_json *l = bxc_json_add_array(j, "l");
	bxc_json_set_i64(bxc_json_push_object(l), "n", 1000000000000000);
	BXC_AUTOFREE char *go = bxc_json_print_go(j);
	assert_string_equal(go,
		"{\"a\\u0026b\":\"\\u003cx\\u003e \\b\\f\\t\x7f\\u2029\",\"none\":[],"
		"\"l\":[{\"n\":1000000000000000}]}");
	BXC_AUTOFREE char *pretty = bxc_json_print_pretty(j);
	assert_string_equal(pretty,
		"{\n  \"a\\u0026b\": \"\\u003cx\\u003e \\b\\f\\t\x7f\\u2029\",\n"
		"  \"none\": [],\n  \"l\": [\n    {\n      \"n\": 1000000000000000\n"
		"    }\n  ]\n}");
}

static void json_refuses_what_is_not_strict(void **state)
{
	(void)state;
	static const char *const bad[] = {"", " ", "{", "}", "[1,]", "{\"a\":1,}", "{\"a\"}",
		"{a:1}", "[1 2]", "01", "-", "+1", "1.", ".5", "1e", "0x10", "NaN", "Infinity",
		"tru", "nul", "'a'", "\"a", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"",
		"\"\\ud800\\u0041\"", "\"\\u0000\"", "\"a\tb\"", "\"\xff\"", "\"\xc0\xaf\"",
		"\"\xed\xa0\x80\"", "{} {}", "1 x", "[]]", "\xef\xbb\xbf{}", "[1}",
		"{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}", "[{\"x\":{\"k\":1,\"k\":1}}]",
		"//c\n1", "1\f"};
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_json *j = NULL;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		int r = parse(bad[i], &j, &err);
		if (r != -BXC_INVALID_ARGUMENT)
			fail_msg("'%s' gave %d", bad[i], r);
		bxc_err_free(err);
		err = NULL;
	}
	assert_err(bxc_json_parse(bxc_slice_of("1\0", 2), &j, &err), BXC_INVALID_ARGUMENT, err);
	assert_err_text(
		parse("{\"a\":\n  1 2}", &j, &err), BXC_INVALID_ARGUMENT, err, "line 2, column 5");
	assert_err_text(parse("{\"Digest\":1,\"Digest\":1}", &j, &err), BXC_INVALID_ARGUMENT, err,
		"'Digest'");
}

static void json_bounds_depth(void **state)
{
	(void)state;
	char text[2 * (BXC_LIMIT_JSON_DEPTH + 1) + 1];
	for (int depth = BXC_LIMIT_JSON_DEPTH; depth <= BXC_LIMIT_JSON_DEPTH + 1; depth++) {
		memset(text, '[', (size_t)depth);
		memset(text + depth, ']', (size_t)depth);
		BXC_AUTOJSON bxc_json *j = NULL;
		int r = bxc_json_parse(bxc_slice_of(text, 2 * (size_t)depth), &j, NULL);
		assert_int_equal(r, depth == BXC_LIMIT_JSON_DEPTH ? 0 : -BXC_INVALID_ARGUMENT);
	}
}

static void json_look_up_is_case_sensitive(void **state)
{
	(void)state;
	BXC_AUTOJSON bxc_json *j = NULL;
	assert_int_equal(parse("{\"Digest\":\"x\",\"digest\":\"y\",\"n\":null}", &j, NULL), 0);
	assert_string_equal(bxc_json_get_str(j, "digest", ""), "y");
	assert_null(bxc_json_get(j, "DIGEST"));
	assert_null(bxc_json_get(j, "n"));
	assert_true(bxc_json_is_null(bxc_json_at(NULL, 0)) == false);
	assert_int_equal(bxc_json_len(j), 3);
	assert_string_equal(bxc_json_key(bxc_json_first(j)), "Digest");
}

static void json_integers_are_exact_or_refused(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_u64(j, "max", UINT64_MAX);
	bxc_json_set_i64(j, "min", INT64_MIN);
	bxc_json_set_i64(j, "small", -5);
	bxc_json_set_number(j, "ns", INT64_C(9223372036854775807));
	assert_true(bxc_json_get_i64(j, "ns", 0) == INT64_MAX);
	BXC_AUTOFREE char *raw = bxc_json_print(j);
	assert_non_null(strstr(raw, "\"ns\":9223372036854775807"));
	bxc_json_del(j, "ns");
	bxc_json_set_ns(j, "t", 7);
	BXC_AUTOFREE char *s = bxc_json_print(j);
	assert_string_equal(s,
		"{\"max\":\"18446744073709551615\",\"min\":\"-9223372036854775808\",\"small\":-5,"
		"\"t\":\"7\"}");
	BXC_AUTOJSON bxc_json *k = NULL;
	assert_ok(parse(s, &k, &err), err);
	assert_true(bxc_json_get_u64(k, "max", 0) == UINT64_MAX);
	assert_true(bxc_json_get_i64(k, "min", 0) == INT64_MIN);
	assert_true(bxc_json_get_u64(k, "small", 7) == 7);
	assert_true(bxc_json_get_i64(k, "small", 7) == -5);

	BXC_AUTOJSON bxc_json *l = NULL;
	assert_ok(parse("{\"big\":9007199254740993000,\"frac\":1.5,\"text\":\"x\",\"neg\":-1,"
			"\"ok\":12}",
			  &l, &err),
		err);
	uint64_t v = 0;
	assert_err_text(bxc_json_need_u64(l, "big", UINT64_MAX, &v, &err), BXC_INVALID_ARGUMENT,
		err, "'big'");
	assert_err(bxc_json_need_u64(l, "frac", UINT64_MAX, &v, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_json_need_u64(l, "text", UINT64_MAX, &v, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_json_need_u64(l, "neg", UINT64_MAX, &v, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_json_need_u64(l, "absent", UINT64_MAX, &v, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_json_need_u64(l, "ok", 11, &v, &err), BXC_INVALID_ARGUMENT, err);
	assert_ok(bxc_json_need_u64(l, "ok", 12, &v, &err), err);
	assert_int_equal(v, 12);
}

static void json_demands_name_the_field(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *j = NULL;
	const char *s = NULL;
	const bxc_json *c = NULL;
	char **v = NULL;
	assert_ok(parse("{\"s\":1,\"l\":[\"a\",2],\"ok\":[\"a\",\"b\"]}", &j, &err), err);
	assert_int_equal(bxc_json_need_str(j, "s", &s, &err), -BXC_INVALID_ARGUMENT);
	assert_string_equal(bxc_err_get_detail(err, "field"), "s");
	bxc_err_free(err);
	err = NULL;
	assert_err_text(
		bxc_json_need_obj(j, "o", &c, &err), BXC_INVALID_ARGUMENT, err, "'o' is missing");
	assert_err(bxc_json_need_arr(j, "s", &c, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_json_get_strv(j, "l", &v, &err), BXC_INVALID_ARGUMENT, err);
	assert_ok(bxc_json_get_strv(j, "ok", &v, &err), err);
	assert_int_equal(bxc_strv_len(v), 2);
	bxc_strv_free(v);
	assert_ok(bxc_json_get_strv(j, "absent", &v, &err), err);
	assert_null(v);
}

static void json_setting_replaces_and_deletes(void **state)
{
	(void)state;
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "a", "1");
	bxc_json_set_bool(j, "b", true);
	bxc_json_set_null(j, "c");
	bxc_json_set_str(j, "a", "2");
	bxc_json_set_str(j, "nothing", NULL);
	bxc_json_set_take(j, "nothing", NULL);
	bxc_json_del(j, "b");
	bxc_json_del(j, "b");
	bxc_json_set_strv(j, "v", NULL);
	bxc_json_set_str(j, "bad\xff", "\xffx\xc3");
	BXC_AUTOFREE char *s = bxc_json_print(j);
	assert_string_equal(s, "{\"a\":\"2\",\"c\":null,\"v\":[],\"bad\xef\xbf\xbd\":"
			       "\"\xef\xbf\xbdx\xef\xbf\xbd\"}");
	/* The tail stays right after a removal: appending is by the tail. */
	bxc_json_del(j, "bad\xef\xbf\xbd");
	bxc_json_set_i64(j, "z", 1);
	BXC_AUTOFREE char *t = bxc_json_print(j);
	assert_string_equal(t, "{\"a\":\"2\",\"c\":null,\"v\":[],\"z\":1}");
}

/* A quadratic step would take minutes here, far beyond the time given to the test. */
static void json_of_many_elements_is_quick(void **state)
{
	(void)state;
	enum { N = 200000 };
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *arr = bxc_json_array();
	for (int i = 0; i < N; i++)
		bxc_json_set_i64(bxc_json_push_object(arr), "i", i);
	BXC_AUTOFREE char *s = bxc_json_print(arr);
	BXC_AUTOJSON bxc_json *back = NULL;
	assert_ok(parse(s, &back, &err), err);
	assert_int_equal(bxc_json_len(back), N);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_LIMIT_JSON);
	bxc_buf_addc(&b, '{');
	for (int i = 0; i < N; i++)
		bxc_buf_addf(&b, "%s\"key-%d\":1", i ? "," : "", i);
	bxc_buf_addc(&b, '}');
	BXC_AUTOJSON bxc_json *obj = NULL;
	assert_ok(bxc_json_parse(bxc_buf_slice(&b), &obj, &err), err);
	b.len--;
	bxc_buf_adds(&b, ",\"key-7\":1}");
	bxc_json *dup = NULL;
	assert_err_text(
		bxc_json_parse(bxc_buf_slice(&b), &dup, &err), BXC_INVALID_ARGUMENT, err, "key-7");
}

static void json_bounds_the_number_of_values(void **state)
{
	(void)state;
	size_t n = 2 * (size_t)BXC_LIMIT_JSON_VALUES + 1;
	BXC_AUTOFREE char *text = bxc_malloc(n);
	for (size_t i = 0; i < n; i++)
		text[i] = i % 2 ? '1' : ',';
	text[0] = '[';
	text[n - 1] = ']';
	bxc_json *j = NULL;
	assert_int_equal(bxc_json_parse(bxc_slice_of(text, n), &j, NULL), -BXC_RESOURCE_EXHAUSTED);
}

static void canonical_text_needs_no_tree(void **state)
{
	(void)state;
	static const char odd[] = "q\"\\\n\x01\xc3\xbc\xe2\x80\xa8\xff</>";
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "s", odd);
	bxc_json_set_bool(j, "b", true);
	bxc_json *list = bxc_json_add_array(j, "l");
	bxc_json_push_str(list, "");
	bxc_json_set_i64(bxc_json_push_object(list), "n", -7);
	bxc_json_add_object(j, "e");
	bxc_json_set_i64(j, "min", INT64_MIN);
	bxc_json_set_u64(j, "max", UINT64_MAX);
	bxc_json_set_u64(j, "z", 0);
	BXC_AUTOFREE char *want = bxc_json_print_canonical(j);
	BXC_AUTOJSONWRITER bxc_json_writer w;
	bxc_json_writer_init(&w);
	bxc_json_writer_begin_object(&w, NULL);
	bxc_json_writer_bool(&w, "b", true);
	bxc_json_writer_begin_object(&w, "e");
	bxc_json_writer_end(&w);
	bxc_json_writer_begin_array(&w, "l");
	bxc_json_writer_str(&w, NULL, "");
	bxc_json_writer_begin_object(&w, NULL);
	bxc_json_writer_i64(&w, "n", -7);
	bxc_json_writer_end(&w);
	bxc_json_writer_end(&w);
	bxc_json_writer_u64(&w, "max", UINT64_MAX);
	bxc_json_writer_i64(&w, "min", INT64_MIN);
	bxc_json_writer_str(&w, "s", odd);
	bxc_json_writer_u64(&w, "z", 0);
	bxc_json_writer_end(&w);
	bxc_slice got = bxc_json_writer_text(&w);
	assert_int_equal(got.n, strlen(want));
	assert_memory_equal(got.p, want, got.n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digests_round_trip_as_text),
		cmocka_unit_test(malformed_digests_are_refused),
		cmocka_unit_test(hashing_in_parts_equals_hashing_at_once),
		cmocka_unit_test(base64_and_hex_round_trip),
		cmocka_unit_test(json_keeps_order_and_values),
		cmocka_unit_test(json_prints_like_go),
		cmocka_unit_test(canonical_text_needs_no_tree),
		cmocka_unit_test(json_refuses_what_is_not_strict),
		cmocka_unit_test(json_bounds_depth),
		cmocka_unit_test(json_look_up_is_case_sensitive),
		cmocka_unit_test(json_integers_are_exact_or_refused),
		cmocka_unit_test(json_demands_name_the_field),
		cmocka_unit_test(json_setting_replaces_and_deletes),
		cmocka_unit_test(json_of_many_elements_is_quick),
		cmocka_unit_test(json_bounds_the_number_of_values),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
