/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "common/base/addr.h"
#include "common/base/arr.h"
#include "common/base/be.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/err.h"
#include "common/base/heap.h"
#include "common/base/map.h"
#include "common/base/secret.h"
#include "common/base/str.h"
#include "common/base/utf8.h"

static void errors_gain_context_and_keep_their_code(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	int r = bxc_err_errno(&err, ENOENT, "open '%s'", "x");
	assert_int_equal(r, -BXC_NOT_FOUND);
	r = bxc_err_wrap(&err, r, "load blob");
	assert_int_equal(r, -BXC_NOT_FOUND);
	assert_string_equal(bxc_err_text(err), "load blob: open 'x': No such file or directory");
	assert_int_equal(bxc_err_errnum(err), ENOENT);
	bxc_err_detail(err, "line", "%d", 3);
	bxc_err_detail(err, "line", "%d", 4);
	BXC_AUTOERR bxc_err *copy = bxc_err_copy(err);
	assert_string_equal(bxc_err_get_detail(copy, "line"), "4");
	assert_null(bxc_err_get_detail(copy, "file"));
	assert_int_equal(bxc_code_parse(bxc_code_name(BXC_DATA_LOSS)), BXC_DATA_LOSS);
	assert_int_equal(bxc_err_set(NULL, BXC_ABORTED, "unread"), -BXC_ABORTED);
}

static void numbers_are_whole_and_bounded(void **state)
{
	(void)state;
	uint64_t u = 7;
	int64_t i = 7;
	assert_int_equal(bxc_str_to_u64("18446744073709551615", 0, UINT64_MAX, &u, NULL), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(bxc_str_to_u64("18446744073709551616", 0, UINT64_MAX, &u, NULL), -BXC_OUT_OF_RANGE);
	assert_int_equal(bxc_str_to_u64(" 1", 0, 9, &u, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_str_to_u64("", 0, 9, &u, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_str_to_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &i, NULL), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(bxc_str_to_bytes("1.5GiB", UINT64_MAX, &u, NULL), 0);
	assert_true(u == (UINT64_C(3) << 29));
	assert_int_equal(bxc_str_to_bytes("10x", UINT64_MAX, &u, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_str_to_duration_ns("1h30m", &i, NULL), 0);
	assert_true(i == 5400 * BXC_NS_PER_S);
	assert_int_equal(bxc_str_to_duration_ns("1h30", &i, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_str_to_duration_ns("", &i, NULL), -BXC_INVALID_ARGUMENT);
}

static void paths_are_clean_by_their_components(void **state)
{
	(void)state;
	static const char *const clean[] = {"a", "a/b", ".a", "..a", "a/...", "a b/c."};
	static const char *const other[] = {
		"", "/", "/a", "a/", "a//b", ".", "..", "a/.", "a/..", "./a", "../a", "a/./b", "a/../b"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(clean); i++)
		assert_true(bxc_str_is_clean_path(clean[i], strlen(clean[i])));
	for (size_t i = 0; i < BXC_ARRAY_SIZE(other); i++)
		assert_false(bxc_str_is_clean_path(other[i], strlen(other[i])));
	assert_true(bxc_str_is_clean_path("a/b/..", 3));
	assert_false(bxc_str_is_clean_path("a/b", 2));
}

static void environments_replace_in_place(void **state)
{
	(void)state;
	BXC_AUTOSTRV char **env = NULL;
	bxc_env_set(&env, "A", "1");
	bxc_env_set(&env, "AB", "2");
	bxc_env_set(&env, "A", "3");
	BXC_AUTOFREE char *joined = bxc_strv_join(env, " ");
	assert_string_equal(joined, "A=3 AB=2");
	bxc_env_unset(&env, "A");
	assert_null(bxc_env_get(env, "A"));
	assert_string_equal(bxc_env_get(env, "AB"), "2");
}

static void suggestions_are_near(void **state)
{
	(void)state;
	static const char *const words[] = {"COPY", "RUN", "ENTRYPOINT"};
	assert_string_equal(bxc_str_nearest("CPOY", words, 3), "COPY");
	assert_null(bxc_str_nearest("zzzzzzzz", words, 3));
}

static void hex_digits_are_lower_case_and_read_in_both(void **state)
{
	(void)state;
	char text[7];
	const char *end = bxc_str_put_hex(text, "\x00\xfe\x1a", 3);
	assert_string_equal(text, "00fe1a");
	assert_ptr_equal(end, text + 6);
	assert_int_equal(bxc_str_hex_value('0'), 0);
	assert_int_equal(bxc_str_hex_value('9'), 9);
	assert_int_equal(bxc_str_hex_value('f'), 15);
	assert_int_equal(bxc_str_hex_value('A'), 10);
	for (const char *c = "/:@G`g\xb1"; *c; c++)
		assert_int_equal(bxc_str_hex_value(*c), -1);
	assert_int_equal(bxc_str_hex_value('\0'), -1);
}

static void buffers_stop_at_their_maximum(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(8);
	assert_int_equal(bxc_buf_append(&b, "12345678", 8, NULL), 0);
	assert_int_equal(bxc_buf_append(&b, "9", 1, NULL), -BXC_RESOURCE_EXHAUSTED);
	assert_string_equal(bxc_buf_text(&b), "12345678");
	bxc_buf_drop_front(&b, 3);
	assert_string_equal(bxc_buf_text(&b), "45678");
}

static void maps_iterate_in_order_of_insertion(void **state)
{
	(void)state;
	bxc_map *m = bxc_map_new(free);
	BXC_AUTOBUF bxc_buf keys = BXC_BUF_INIT(100);
	bxc_map_set(m, "z", bxc_strdup("1"));
	bxc_map_set(m, "a", bxc_strdup("2"));
	bxc_map_set(m, "z", bxc_strdup("3"));
	BXC_MAP_FOREACH (it, m) {
		bxc_buf_addf(&keys, "%s%s", it.key, (char *)it.value);
		bxc_map_del(m, it.key);
	}
	assert_string_equal(bxc_buf_text(&keys), "z3a2");
	assert_int_equal(bxc_map_len(m), 0);
	bxc_map_free(m);
}

static void vectors_are_sorted_bytewise(void **state)
{
	(void)state;
	BXC_AUTOSTRV char **v = bxc_strv_split("b,B,\xc3,,a", ',');
	bxc_strv_sort(v);
	BXC_AUTOFREE char *text = bxc_strv_join(v, ",");
	assert_string_equal(text, ",B,a,b,\xc3");
	bxc_strv_sort(NULL);
}

static void times_round_trip(void **state)
{
	(void)state;
	int64_t ns = 0;
	assert_int_equal(bxc_clock_parse_rfc3339("2020-01-02T03:04:05.25+01:00", &ns, NULL), 0);
	BXC_AUTOFREE char *s = bxc_clock_rfc3339(ns);
	assert_string_equal(s, "2020-01-02T02:04:05.25Z");
	assert_int_equal(bxc_clock_parse_rfc3339("2020-01-02T03:04:05", &ns, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_clock_parse_rfc3339("2020-13-02T03:04:05Z", &ns, NULL), -BXC_INVALID_ARGUMENT);
}

static void what_is_left_of_a_time_is_rounded_up(void **state)
{
	(void)state;
	int64_t now_ns = bxc_clock_mono_ns();
	assert_int_equal(bxc_clock_left_ms(now_ns), 0);
	assert_int_equal(bxc_clock_left_ms(now_ns - BXC_NS_PER_S), 0);
	int left_ms = bxc_clock_left_ms(now_ns + 1000 * BXC_NS_PER_S);
	assert_true(left_ms > 900000 && left_ms <= 1000000);
	assert_int_equal(bxc_clock_left_ms(INT64_MAX), INT32_MAX);
}

static void utf8_is_checked(void **state)
{
	(void)state;
	assert_true(bxc_utf8_valid("gr\xc3\xbc\xc3\x9f", 6));
	assert_false(bxc_utf8_valid("\xc0\xaf", 2));
	assert_false(bxc_utf8_valid("\xed\xa0\x80", 3));
	assert_false(bxc_utf8_valid("\xe2\x82", 2));
	char text[] = "gr\xc3\xbc\xc3\x9f";
	assert_string_equal(bxc_utf8_cut(text, 6), "gr\xc3\xbc\xc3\x9f");
	assert_string_equal(bxc_utf8_cut(text, 5), "gr\xc3\xbc");
	assert_string_equal(bxc_utf8_cut(text, 2), "gr");
}

static void integers_are_big_endian(void **state)
{
	(void)state;
	uint8_t b[8];
	bxc_be_put(b, UINT64_C(0x0102030405060708), 8);
	assert_memory_equal(b, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
	assert_true(bxc_be_get(b, 8) == UINT64_C(0x0102030405060708));
	bxc_be_put(b, 0xfffe, 2);
	assert_memory_equal(b, "\xff\xfe\x03", 3);
	assert_true(bxc_be_get(b, 2) == 0xfffe);
}

static void arrays_keep_order(void **state)
{
	(void)state;
	BXC_ARR(int) a = {0};
	for (int i = 0; i < 20; i++)
		*bxc_arr_push(&a) = i;
	bxc_arr_remove(&a, 0);
	assert_int_equal(a.n, 19);
	assert_int_equal(a.v[18], 19);
	bxc_arr_done(&a);
}

struct item {
	unsigned key;
	size_t at;
};

static bool item_before(const void *a, const void *b)
{
	return ((const struct item *)a)->key < ((const struct item *)b)->key;
}

static size_t *item_at(void *item)
{
	return &((struct item *)item)->at;
}

static void heaps_give_the_least_whatever_was_moved_or_taken_out(void **state)
{
	(void)state;
	bxc_heap h = {.before = item_before, .at = item_at};
	struct item items[200];
	unsigned x = 1;
	for (size_t i = 0; i < 200; i++) {
		items[i] = (struct item){(x = x * 1103515245u + 12345u) >> 16, BXC_HEAP_OUT};
		bxc_heap_add(&h, &items[i]);
	}
	for (size_t i = 0; i < 200; i += 3) {
		items[i].key = (x = x * 1103515245u + 12345u) >> 16;
		bxc_heap_moved(&h, &items[i]);
	}
	for (size_t i = 1; i < 200; i += 3) {
		bxc_heap_remove(&h, &items[i]);
		assert_true(items[i].at == BXC_HEAP_OUT);
	}
	unsigned last = 0;
	size_t n = 0;
	for (struct item *it; (it = bxc_heap_top(&h)); n++) {
		assert_true(it->key >= last);
		last = it->key;
		bxc_heap_remove(&h, it);
	}
	assert_int_equal(n, 133);
	bxc_heap_add(&h, &items[0]);
	bxc_heap_done(&h);
	assert_true(items[0].at == BXC_HEAP_OUT && bxc_heap_len(&h) == 0);
}

static void secrets_compare_by_content(void **state)
{
	(void)state;
	bxc_secret *s = bxc_secret_new("token", 5);
	assert_true(bxc_secret_eq(s, "token", 5));
	assert_false(bxc_secret_eq(s, "tokem", 5));
	assert_false(bxc_secret_eq(s, "toke", 4));
	bxc_secret_free(s);
}

static void hosts_are_told_apart(void **state)
{
	(void)state;
	static const struct {
		const char *text, *host; /* NULL: none */
		bool is_loopback;
	} cases[] = {
		{"localhost", "localhost", true},
		{"LOCALHOST:5000", "LOCALHOST", true},
		{"127.0.0.1", "127.0.0.1", true},
		{"http://127.9.8.7:80/x", "127.9.8.7", true},
		{"https://[::1]:5000?x", "::1", true},
		{"127.example.org", "127.example.org", false},
		{"10.0.0.1:5000", "10.0.0.1", false},
		{"[fd00::1]", "fd00::1", false},
		{"https://localhost:80@example.org/", NULL, false},
		{"http://[::1]@example.org", NULL, false},
		{"http://[::1", NULL, false},
		{"http:///path", NULL, false},
		{"", NULL, false},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		BXC_AUTOFREE char *host = bxc_addr_host(cases[i].text);
		if (!bxc_str_eq(host, cases[i].host) || (host && bxc_addr_is_loopback(host) != cases[i].is_loopback))
			fail_msg("'%s': %s", cases[i].text, host ? host : "no host");
	}
	assert_true(bxc_addr_is_wildcard("0.0.0.0") && bxc_addr_is_wildcard("::") && !bxc_addr_is_wildcard("127.0.0.1"));
	char *host = NULL;
	uint16_t port = 0;
	assert_int_equal(bxc_addr_split("[::1]:7650", &host, &port, NULL), 0);
	BXC_AUTOFREE char *joined = bxc_addr_join(host, port);
	assert_string_equal(joined, "[::1]:7650");
	assert_string_equal(host, "::1");
	free(host);
	assert_int_equal(bxc_addr_split("host", &host, &port, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_addr_split(":1", &host, &port, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_addr_split("h:65536", &host, &port, NULL), -BXC_OUT_OF_RANGE);
}

static void maps_add_only_what_is_new(void **state)
{
	(void)state;
	int one = 1, two = 2;
	BXC_CLEANUP(bxc_map_freep) bxc_map *m = bxc_map_new(NULL);
	assert_null(bxc_map_add(m, "k", &one));
	assert_ptr_equal(bxc_map_add(m, "k", &two), &one);
	assert_ptr_equal(bxc_map_get(m, "k"), &one);
	assert_int_equal(bxc_map_len(m), 1);
}

static void strings_are_put_together(void **state)
{
	(void)state;
	BXC_AUTOFREE char *three = bxc_str_concat("a", "", "bc"), *one = bxc_str_concat("x");
	assert_string_equal(three, "abc");
	assert_string_equal(one, "x");
}

static void arrays_of_large_elements_begin_small(void **state)
{
	(void)state;
	typedef struct large {
		char bytes[200];
	} large;
	BXC_ARR(large) a = {0};
	for (size_t i = 0; i < 5; i++)
		bxc_arr_push(&a)->bytes[0] = (char)i;
	assert_int_equal(a.n, 5);
	assert_int_equal(a.cap, 8);
	assert_int_equal(a.v[4].bytes[0], 4);
	bxc_arr_done(&a);
	BXC_ARR(char) small = {0};
	*bxc_arr_push(&small) = 'x';
	assert_int_equal(small.cap, 8);
	bxc_arr_done(&small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_gain_context_and_keep_their_code),
		cmocka_unit_test(numbers_are_whole_and_bounded),
		cmocka_unit_test(paths_are_clean_by_their_components),
		cmocka_unit_test(environments_replace_in_place),
		cmocka_unit_test(suggestions_are_near),
		cmocka_unit_test(hex_digits_are_lower_case_and_read_in_both),
		cmocka_unit_test(buffers_stop_at_their_maximum),
		cmocka_unit_test(maps_iterate_in_order_of_insertion),
		cmocka_unit_test(maps_add_only_what_is_new),
		cmocka_unit_test(strings_are_put_together),
		cmocka_unit_test(arrays_of_large_elements_begin_small),
		cmocka_unit_test(vectors_are_sorted_bytewise),
		cmocka_unit_test(times_round_trip),
		cmocka_unit_test(what_is_left_of_a_time_is_rounded_up),
		cmocka_unit_test(utf8_is_checked),
		cmocka_unit_test(integers_are_big_endian),
		cmocka_unit_test(arrays_keep_order),
		cmocka_unit_test(heaps_give_the_least_whatever_was_moved_or_taken_out),
		cmocka_unit_test(secrets_compare_by_content),
		cmocka_unit_test(hosts_are_told_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
