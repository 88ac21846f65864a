/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/base/clock.h"
#include "common/config/config.h"

static const char *const formats[] = {"auto", "text", "json", NULL};
static const bxc_cfg_key keys[] = {
	{"listen", "BXC_LISTEN", "listen", BXC_CFG_STRING, "127.0.0.1:7890", "address of the API"},
	{"log.format", "BXC_LOG_FORMAT", "log-format", BXC_CFG_STRING, "auto", "form of log lines",
		formats},
	{"slots", "BXC_SLOTS", "slots", BXC_CFG_U64, "4", "steps at a time", .min = 1, .max = 512},
	{"cache.max", "BXC_CACHE_MAX", "cache-max", BXC_CFG_BYTES, "10g", "bytes kept",
		.min = 1 << 20},
	{"cache.age", "BXC_CACHE_AGE", NULL, BXC_CFG_DURATION, "48h", "age of what is kept"},
	{"mirrors", "BXC_MIRRORS", "mirror", BXC_CFG_LIST, NULL, "registries tried first"},
	{"debug", "BXC_DEBUG", "debug", BXC_CFG_BOOL, NULL, "say more"},
	{"token", "BXC_TOKEN", "token", BXC_CFG_STRING, NULL, "shared secret", .secret = true},
	{"pin", "BXC_PIN", NULL, BXC_CFG_U64, NULL, "secret number", .secret = true},
};

static bxc_cfg *new_cfg(void)
{
	return bxc_cfg_new(keys, BXC_ARRAY_SIZE(keys));
}

static int load(bxc_cfg *c, const char *text, bxc_err **err)
{
	return bxc_cfg_load_text(c, "w.conf", bxc_slice_of(text, strlen(text)), err);
}

static char *printed(const bxc_cfg *c)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	bxc_cfg_print(c, f);
	fclose(f);
	return text;
}

static void defaults_hold_until_something_is_set(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_cfg_freep) bxc_cfg *c = new_cfg();
	assert_string_equal(bxc_cfg_str(c, "listen"), "127.0.0.1:7890");
	assert_int_equal(bxc_cfg_u64(c, "slots"), 4);
	assert_true(bxc_cfg_bytes(c, "cache.max") == UINT64_C(10) << 30);
	assert_true(bxc_cfg_duration_ns(c, "cache.age") == 48 * 3600 * BXC_NS_PER_S);
	assert_null(bxc_cfg_list(c, "mirrors"));
	assert_null(bxc_cfg_str(c, "token"));
	assert_false(bxc_cfg_bool(c, "debug"));
	assert_string_equal(bxc_cfg_origin(c, "slots"), "default");
}

static void flags_beat_environment_beats_file_in_any_order_of_loading(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	char *env[] = {(char[]){"BXC_SLOTS=6"}, (char[]){"BXC_CACHE_MAX=3g"},
		(char[]){"BXC_DEBUG="}, NULL};
	for (int order = 0; order < 2; order++) {
		BXC_CLEANUP(bxc_cfg_freep) bxc_cfg *c = new_cfg();
		if (order == 0)
			assert_ok(bxc_cfg_set_flag(c, "slots", "7", &err), err);
		assert_ok(bxc_cfg_load_env(c, env, &err), err);
		assert_ok(load(c, "slots = 5\ncache.max = 2g\nlisten = :1\ndebug = true\n", &err),
			err);
		if (order == 1)
			assert_ok(bxc_cfg_set_flag(c, "slots", "7", &err), err);
		assert_int_equal(bxc_cfg_u64(c, "slots"), 7);
		assert_true(bxc_cfg_bytes(c, "cache.max") == UINT64_C(3) << 30);
		assert_string_equal(bxc_cfg_str(c, "listen"), ":1");
		assert_true(bxc_cfg_bool(c, "debug"));
		assert_string_equal(bxc_cfg_origin(c, "slots"), "--slots");
		assert_string_equal(bxc_cfg_origin(c, "cache.max"), "BXC_CACHE_MAX");
		assert_string_equal(bxc_cfg_origin(c, "listen"), "w.conf:3");
		assert_int_equal(bxc_cfg_get_rank(c, "listen"), BXC_CFG_FILE);
	}
}

static void the_syntax_of_files(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_cfg_freep) bxc_cfg *c = new_cfg();
	assert_ok(load(c,
			  "# a comment\r\n"
			  "\n"
			  "  listen=unix:/run/a#b.sock   # the rest is comment\n"
			  "token = \"a \\\"b\\\" # \\\\ \\t\"  # c\n"
			  "mirrors = m1:5000 , \"odd, one\",m3",
			  &err),
		err);
	assert_string_equal(bxc_cfg_str(c, "listen"), "unix:/run/a#b.sock");
	assert_string_equal(bxc_cfg_str(c, "token"), "a \"b\" # \\ \t");
	BXC_AUTOFREE char *mirrors = bxc_strv_join(bxc_cfg_list(c, "mirrors"), "|");
	assert_string_equal(mirrors, "m1:5000|odd, one|m3");
}

static void mistakes_in_files_name_the_line(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *message;
	} cases[] = {
		{"\nslot = 3\n", "w.conf:2: unknown key 'slot' (did you mean 'slots'?)"},
		{"wholly.unknown = 3", "w.conf:1: unknown key 'wholly.unknown'"},
		{"slots = 3\n\nslots = 4", "w.conf:3: key 'slots' is set in line 1 already"},
		{"slots = many", "w.conf:1: value of 'slots': "},
		{"slots = 0", "w.conf:1: value of 'slots': '0' is too small (at least 1)"},
		{"slots = 513", "w.conf:1: value of 'slots': '513' is too large (at most 512)"},
		{"slots =", "w.conf:1: value of 'slots': value is missing"},
		{"slots", "w.conf:1: expected 'key = value'"},
		{"= 3", "w.conf:1: expected 'key = value'"},
		{"[section]", "w.conf:1: expected 'key = value'"},
		{"log.format = jsn", "w.conf:1: value of 'log.format': unknown value 'jsn' (did "
				     "you mean 'json'?)"},
		{"log.format = yaml-or-so", "w.conf:1: value of 'log.format': unknown value "
					    "'yaml-or-so' (one of: auto, text, json)"},
		{"listen = \"x", "missing closing '\"'"},
		{"listen = \"x\" y", "unexpected text after the closing '\"'"},
		{"listen = \"\\x\"", "unknown escape"},
		{"mirrors = a,,b", "empty element in a list"},
		{"mirrors = a,", "empty element in a list"},
		{"listen = \xc3\x28", "w.conf:1: not UTF-8 text"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_CLEANUP(bxc_cfg_freep) bxc_cfg *c = new_cfg();
		assert_true(load(c, cases[i].text, &err) < 0);
		if (!strstr(bxc_err_text(err), cases[i].message))
			fail_msg("'%s' gave '%s'", cases[i].text, bxc_err_text(err));
	}
}

static void mistakes_elsewhere_name_their_place(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_cfg_freep) bxc_cfg *c = new_cfg();
	char *env[] = {(char[]){"BXC_SLOTS=x"}, NULL};
	assert_err_text(bxc_cfg_load_env(c, env, &err), BXC_INVALID_ARGUMENT, err,
		"environment variable BXC_SLOTS: value of 'slots': ");
	assert_err_text(bxc_cfg_set_flag(c, "slots", "x", &err), BXC_INVALID_ARGUMENT, err,
		"--slots: value of 'slots': ");
}

static void lists_of_flags_grow_and_replace_other_sources(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_cfg_freep) bxc_cfg *c = new_cfg();
	assert_ok(load(c, "mirrors = from-file", &err), err);
	assert_ok(bxc_cfg_set_flag(c, "mirrors", "a", &err), err);
	assert_ok(bxc_cfg_set_flag(c, "mirrors", "b,c", &err), err);
	BXC_AUTOFREE char *mirrors = bxc_strv_join(bxc_cfg_list(c, "mirrors"), "|");
	assert_string_equal(mirrors, "a|b,c");
}

static void secrets_are_never_printed(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_cfg_freep) bxc_cfg *c = new_cfg();
	assert_int_equal(load(c, "token = hunter2\npin = hunter3", &err), -BXC_INVALID_ARGUMENT);
	assert_null(strstr(bxc_err_text(err), "hunter3"));
	BXC_AUTOFREE char *text = printed(c);
	assert_null(strstr(text, "hunter2"));
	assert_non_null(strstr(text, "token = (secret)    # w.conf:1\n"));
	assert_string_equal(bxc_cfg_str(c, "token"), "hunter2");
}

static void files_may_be_absent_only_when_optional(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/w.conf", dir);
	BXC_CLEANUP(bxc_cfg_freep) bxc_cfg *c = new_cfg();
	assert_ok(bxc_cfg_load_file(c, path, true, &err), err);
	assert_err(bxc_cfg_load_file(c, path, false, &err), BXC_NOT_FOUND, err);
	bxc_test_write_file(path, "slots = 9\n", 10, 0600);
	assert_ok(bxc_cfg_load_file(c, path, false, &err), err);
	assert_int_equal(bxc_cfg_u64(c, "slots"), 9);
	/* A second file, of the user say, replaces what the first one says. */
	bxc_test_write_file(path, "slots = 8\n", 10, 0600);
	assert_ok(bxc_cfg_load_file(c, path, false, &err), err);
	assert_int_equal(bxc_cfg_u64(c, "slots"), 8);
}

static void the_template_without_its_comment_signs_is_a_file_with_the_defaults(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	bxc_cfg_print_template(keys, 5, f);
	fclose(f);
	for (char *p = text; *p; p++)
		if ((p == text || p[-1] == '\n') && p[0] == '#' && p[1] != ' ')
			*p = ' ';
	BXC_CLEANUP(bxc_cfg_freep) bxc_cfg *c = new_cfg();
	assert_ok(load(c, text, &err), err);
	assert_int_equal(bxc_cfg_get_rank(c, "cache.age"), BXC_CFG_FILE);
	assert_int_equal(bxc_cfg_u64(c, "slots"), 4);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_hold_until_something_is_set),
		cmocka_unit_test(flags_beat_environment_beats_file_in_any_order_of_loading),
		cmocka_unit_test(the_syntax_of_files),
		cmocka_unit_test(mistakes_in_files_name_the_line),
		cmocka_unit_test(mistakes_elsewhere_name_their_place),
		cmocka_unit_test(lists_of_flags_grow_and_replace_other_sources),
		cmocka_unit_test(secrets_are_never_printed),
		cmocka_unit_test(files_may_be_absent_only_when_optional),
		cmocka_unit_test(
			the_template_without_its_comment_signs_is_a_file_with_the_defaults),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
