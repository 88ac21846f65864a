/* SPDX-License-Identifier: Apache-2.0 */
/* Values of secrets in streams, cut at every place. */
#include "common/testing/testing.h"

#include "worker/exec/exec_internal.h"

static void append(const void *p, size_t n, void *ud)
{
	bxc_buf_add(ud, p, n);
}

/* Feeds `text` in pieces of `step` bytes. */
static char *masked(const bxc_exec__masks *masks, const char *text, size_t step)
{
	bxc_buf out = BXC_BUF_INIT(1u << 20);
	bxc_exec__mask *m = bxc_exec__mask_new(masks);
	size_t n = strlen(text);
	for (size_t i = 0; i < n; i += step)
		bxc_exec__mask_feed(m, text + i, BXC_MIN(step, n - i), append, &out);
	bxc_exec__mask_end(m, append, &out);
	bxc_exec__mask_free(m);
	return bxc_buf_steal(&out);
}

static bxc_exec__masks *masks_of(const char *const *values)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_secret *secrets[8] = {0};
	bxc_exec__masks *m = NULL;
	size_t n = 0;
	for (; values[n]; n++)
		secrets[n] = bxc_secret_new(values[n], strlen(values[n]));
	assert_ok(bxc_exec__masks_new((const bxc_secret *const *)secrets, n, &m, &err), err);
	for (size_t i = 0; i < n; i++)
		bxc_secret_free(secrets[i]);
	return m;
}

static void check(const char *const *values, const char *text, const char *want)
{
	bxc_exec__masks *m = masks_of(values);
	for (size_t step = 1; step <= strlen(text); step++) {
		BXC_AUTOFREE char *got = masked(m, text, step);
		assert_string_equal(got, want);
	}
	bxc_exec__masks_free(m);
}

#define V(...) ((const char *const[]){__VA_ARGS__, NULL})

static void a_value_is_hidden_wherever_it_is_cut(void **state)
{
	(void)state;
	check(V("sesame-77\n"), "open sesame-77!\nsesame-7 sesame-777",
		"open ****!\nsesame-7 ****7");
	check(V("sesame"), "sesam", "sesam");
	check(V("sesame"), "sesesesame sesame", "sese**** ****");
}

static void overlapping_and_nested_values_are_hidden_whole(void **state)
{
	(void)state;
	check(V("abcdef", "defghi"), "xabcdefghix", "x****x");
	check(V("bcde", "abcdefgh"), "abcdefg abcdefgh", "a****fg ****");
	check(V("aaaa"), "aaaaaaab", "****b");
	check(V("aaaab", "aaab."), "aaaaaaab.", "aaa****");
}

static void each_line_of_a_long_value_counts(void **state)
{
	(void)state;
	check(V("-----BEGIN-----\n  bGluZSBvbmU=\nshort\n"),
		"key: bGluZSBvbmU= short -----BEGIN-----", "key: **** short ****");
}

static void short_values_are_in_everything(void **state)
{
	(void)state;
	check(V("abc", ""), "abc abc", "abc abc");
}

static void far_too_many_bytes_are_refused(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *big = bxc_calloc(1, (4u << 20) + 2);
	memset(big, 'x', (4u << 20) + 1);
	bxc_secret *s = bxc_secret_new(big, strlen(big));
	bxc_exec__masks *m = NULL;
	assert_err_text(bxc_exec__masks_new((const bxc_secret *const *)&s, 1, &m, &err),
		BXC_INVALID_ARGUMENT, err, "4194304 bytes");
	bxc_secret_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_value_is_hidden_wherever_it_is_cut),
		cmocka_unit_test(overlapping_and_nested_values_are_hidden_whole),
		cmocka_unit_test(each_line_of_a_long_value_counts),
		cmocka_unit_test(short_values_are_in_everything),
		cmocka_unit_test(far_too_many_bytes_are_refused),
	};
	return cmocka_run_group_tests_name("exec-mask", tests, NULL, NULL);
}
