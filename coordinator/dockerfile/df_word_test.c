/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"
#include "coordinator/dockerfile/dockerfile_internal.h"

static char *expand(const char *word, const df_word_opts *o)
{
	BXC_CLEANUP(df_env_freep) df_env *e = df_env_new();
	BXC_AUTOERR bxc_err *err = NULL;
	df_env_set(e, "V", "val");
	df_env_set(e, "P", "*a*b");
	df_env_set(e, "X", "foo");
	df_env_set(e, "W", "foobarbaz");
	df_env_set(e, "L", "a\nb");
	df_env_set(e, "U", "h\xc3\xa9llo");
	char *got = NULL;
	assert_ok(df_word(word, e, o, &got, &err), err);
	return got;
}

static void check(const char *word, const char *want)
{
	df_word_opts o = {.escape = '\\'};
	BXC_AUTOFREE char *got = expand(word, &o);
	assert_string_equal(got, want);
}

static void patterns_match_shortest_longest_and_plain_characters(void **state)
{
	(void)state;
	check("${P#\\*}", "a*b");
	check("${P//\\*/s}", "sasb");
	check("${W#*o}", "obarbaz");
	check("${W##*o}", "barbaz");
	check("${W%ba*}", "foobar");
	check("${W%%ba*}", "foo");
	check("${W/$X/QUX}", "QUXbarbaz");
	check("${W#${X}}", "barbaz");
	check("${W//b?/<>}", "foo<>r<>z");
	check("${U/?l/-}", "h-lo");
	check("${U##h?}", "llo");
	check("${L##*}", "\nb");
	check("${W///-}", "-f-o-o-b-a-r-b-a-z-");
	check("${W//*/x}", "x");
	check("${V/a\\/b/c}", "val");
}

static void unset_variables_may_be_left_as_written(void **state)
{
	(void)state;
	df_word_opts o = {.escape = '\\', .skip_unset = true, .raw_quotes = true};
	BXC_AUTOFREE char *a = expand("echo \"$V $N ${N} ${N:-x} ${N#a} ${N/a/b}\" '$V'", &o);
	assert_string_equal(a, "echo \"val $N ${N} ${N:-x} ${N#a} ${N/a/b}\" '$V'");
}

static void errors_say_what_is_wrong(void **state)
{
	(void)state;
	static const char *const vectors[][2] = {
		{"${V:=x}", "unsupported modifier (:=) in substitution"},
		{"${V@Q}", "unsupported modifier (@) in substitution"},
		{"${V", "syntax error: missing '}'"},
		{"${}", "bad substitution"},
		{"${N:?give one}", "N: give one"},
		{"${N?}", "N: is not allowed to be unset"},
		{"'x", "matching single-quote"},
		{"${V/x}", "missing '/' in ${}"},
		{"${V#\\x}", "invalid escape '\\x'"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(vectors); i++) {
		BXC_CLEANUP(df_env_freep) df_env *e = df_env_new();
		df_env_set(e, "V", "val");
		df_word_opts o = {.escape = '\\'};
		BXC_AUTOERR bxc_err *err = NULL;
		char *got = NULL;
		assert_err_text(df_word(vectors[i][0], e, &o, &got, &err), BXC_INVALID_ARGUMENT,
			err, vectors[i][1]);
	}
}

static void expansion_is_bounded(void **state)
{
	(void)state;
	BXC_CLEANUP(df_env_freep) df_env *e = df_env_new();
	uint64_t work = 1u << 20;
	df_word_opts o = {.escape = '\\', .work = &work};
	df_env_set(e, "a", "0123456789");
	BXC_AUTOERR bxc_err *err = NULL;
	int r = 0;
	for (int i = 0; r == 0 && i < 64; i++) {
		BXC_AUTOFREE char *v = NULL;
		r = df_word("$a$a", e, &o, &v, &err);
		if (r == 0)
			df_env_set(e, "a", v);
	}
	assert_int_equal(r, -BXC_RESOURCE_EXHAUSTED);

	/* A pattern that sends a backtracking matcher into the woods. */
	BXC_AUTOFREE char *text = bxc_calloc(1, 20001);
	memset(text, 'a', 20000);
	df_env_set(e, "t", text);
	work = 64u << 20;
	BXC_AUTOFREE char *left = NULL;
	bxc_err *none = NULL;
	assert_ok(df_word("${t%%*a*a*a*a*a*a*a*a*a*a*b}", e, &o, &left, &none), none);
	assert_int_equal(strlen(left), 20000);

	BXC_AUTOBUF bxc_buf deep = BXC_BUF_INIT(1u << 20);
	for (int i = 0; i < 5000; i++)
		bxc_buf_adds(&deep, "${x:-");
	BXC_AUTOERR bxc_err *deep_err = NULL;
	char *got = NULL;
	assert_err_text(df_word(bxc_buf_text(&deep), e, &o, &got, &deep_err), BXC_INVALID_ARGUMENT,
		deep_err, "nested more than");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(patterns_match_shortest_longest_and_plain_characters),
		cmocka_unit_test(unset_variables_may_be_left_as_written),
		cmocka_unit_test(errors_say_what_is_wrong),
		cmocka_unit_test(expansion_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
