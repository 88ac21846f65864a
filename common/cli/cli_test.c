/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/base/arr.h"
#include "common/base/clock.h"
#include "common/cli/cli.h"
#include "common/cli/exit.h"
#include "common/cli/table.h"
#include "common/os/proc.h"

static int run_nothing(const bxc_cli *cli, void *ud)
{
	(void)cli;
	(void)ud;
	return BXC_EXIT_OK;
}

static const char *const progress_modes[] = {"auto", "plain", "tty", NULL};
static const bxc_cli_opt build_opts[] = {
	{"file", 'f', BXC_CLI_STRING, "FILE",
		"Name of the Dockerfile (default: 'PATH/Dockerfile')"},
	{"tag", 't', BXC_CLI_LIST, "NAME[:TAG]", "Name of the result; may be repeated"},
	{"build-arg", 0, BXC_CLI_LIST, "KEY[=VALUE]",
		"Value of an ARG of the Dockerfile; without a value that of the environment "
		"variable of the same name is taken"},
	{"no-cache", 0, BXC_CLI_FLAG, NULL, "Run every step again"},
	{"quiet", 'q', BXC_CLI_FLAG, NULL, "Print the image's digest only"},
	{"progress", 0, BXC_CLI_STRING, NULL, "Form of the progress display", progress_modes},
	{"memory", 'm', BXC_CLI_BYTES, NULL, "Bound of each step"},
	{"jobs", 'j', BXC_CLI_U64, NULL, "Steps at a time"},
	{"timeout", 0, BXC_CLI_DURATION, NULL, "Give up after this long"},
	{"attest", 0, BXC_CLI_STRING, "KIND", "Attach an attestation", NULL, "provenance"},
	{"a-very-long-name-of-an-option", 0, BXC_CLI_STRING, "SOMETHING",
		"Has its text on a line of its own"},
	{"secret-knob", 0, BXC_CLI_FLAG, NULL, "Nobody's business", .hidden = true},
};
static const bxc_cli_opt prune_opts[] = {{"all", 'a', BXC_CLI_FLAG, NULL, "Everything"}};
static const bxc_cli_verb cache_verbs[] = {
	{"prune", NULL, "Remove what is not needed", NULL, prune_opts, 1, .run = run_nothing},
	{"ls", NULL, "List what is kept", .run = run_nothing, .alias = "list"},
};
static const bxc_cli_verb verbs[] = {
	{"build", "PATH | URL | -", "Build an image", "Examples:\n\n  bxc build -t app .",
		build_opts, BXC_ARRAY_SIZE(build_opts), 1, 1, .run = run_nothing, .alias = "b"},
	{"cache", NULL, "Look at the cache", .verbs = cache_verbs, .n_verbs = 2},
	{"exec", "COMMAND [ARG...]", "Run a command", .min_args = 1, .max_args = BXC_CLI_ANY,
		.raw_args = true, .run = run_nothing},
	{"debug-dump", NULL, "Internal", .hidden = true, .run = run_nothing},
};
static const bxc_cli_opt global_opts[] = {
	{"builder", 0, BXC_CLI_STRING, "NAME", "Builder to use"},
	{"debug", 'D', BXC_CLI_FLAG, NULL, "Say more"},
};
static const bxc_cli_verb root = {"bxc", NULL, "Build images on a cluster", NULL, global_opts, 2,
	.verbs = verbs, .n_verbs = 4};

/* "build -q ." is split at blanks. */
static int parse(const char *line, bxc_cli **ret, char ***ret_argv, bxc_err **err)
{
	BXC_AUTOFREE char *full = bxc_str_fmt("bxc%s%s", *line ? " " : "", line);
	char **argv = bxc_strv_split(full, ' ');
	*ret_argv = argv;
	return bxc_cli_parse(&root, (int)bxc_strv_len(argv), argv, ret, err);
}

#define PARSE(cli, line)                                                                           \
	BXC_AUTOERR bxc_err *cli##_err = NULL;                                                     \
	BXC_AUTOSTRV char **cli##_argv = NULL;                                                     \
	BXC_CLEANUP(bxc_cli_freep) bxc_cli *cli = NULL;                                            \
	assert_ok(parse(line, &cli, &cli##_argv, &cli##_err), cli##_err)

static char *help_of(const char *line)
{
	PARSE(cli, line);
	assert_true(bxc_cli_wants_help(cli));
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	bxc_cli_print_help(cli, f);
	fclose(f);
	return text;
}

static void options_take_every_gnu_form(void **state)
{
	(void)state;
	static const char *const lines[] = {
		"build --file D -t a -t b -q -j 4 --memory 1g --timeout 90s .",
		"build --file=D --tag=a --tag b --quiet=true --jobs=4 -m1g --timeout=1m30s .",
		"build -fD -ta -qtb -j4 -m=1g . --timeout 90s",
		"b -f=D -qt a -t=b . -j=4 -m 1g --timeout 90s",
		"build --file X --file D -ta -tb --no-cache=false -q --jobs 4 -m1g --timeout 90s .",
		"build --file D -ta -tb -qj4 -m1024m --timeout 90s -- .",
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(lines); i++) {
		PARSE(cli, lines[i]);
		assert_string_equal(bxc_cli_path(cli), "bxc build");
		assert_string_equal(bxc_cli_str(cli, "file"), "D");
		BXC_AUTOFREE char *tags = bxc_strv_join(bxc_cli_list(cli, "tag"), " ");
		assert_string_equal(tags, "a b");
		assert_true(bxc_cli_flag(cli, "quiet"));
		assert_false(bxc_cli_flag(cli, "no-cache"));
		assert_int_equal(bxc_cli_u64(cli, "jobs", 1), 4);
		assert_true(bxc_cli_u64(cli, "memory", 0) == 1 << 30);
		assert_true(bxc_cli_duration_ns(cli, "timeout", 0) == 90 * BXC_NS_PER_S);
		assert_int_equal(bxc_cli_n_args(cli), 1);
		assert_string_equal(bxc_cli_arg(cli, 0), ".");
	}
}

static void what_is_not_given_has_no_value(void **state)
{
	(void)state;
	PARSE(cli, "build -");
	assert_string_equal(bxc_cli_arg(cli, 0), "-");
	assert_null(bxc_cli_arg(cli, 1));
	assert_null(bxc_cli_str(cli, "file"));
	assert_null(bxc_cli_list(cli, "tag"));
	assert_false(bxc_cli_has(cli, "no-cache"));
	assert_int_equal(bxc_cli_u64(cli, "jobs", 7), 7);
	assert_true(bxc_cli_duration_ns(cli, "timeout", -1) == -1);
	assert_null(bxc_cli_str(cli, "builder"));
}

static void implied_values_need_the_equals_sign(void **state)
{
	(void)state;
	PARSE(cli, "build --attest .");
	assert_string_equal(bxc_cli_str(cli, "attest"), "provenance");
	assert_string_equal(bxc_cli_arg(cli, 0), ".");
	PARSE(other, "build --attest=sbom .");
	assert_string_equal(bxc_cli_str(other, "attest"), "sbom");
}

static void global_options_hold_before_and_after_the_verb(void **state)
{
	(void)state;
	static const char *const lines[] = {"--builder x -D cache prune -a",
		"cache --builder x prune -aD", "cache prune -Da --builder=x"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(lines); i++) {
		PARSE(cli, lines[i]);
		assert_string_equal(bxc_cli_path(cli), "bxc cache prune");
		assert_string_equal(bxc_cli_str(cli, "builder"), "x");
		assert_true(bxc_cli_flag(cli, "debug"));
		assert_true(bxc_cli_flag(cli, "all"));
		assert_ptr_equal(bxc_cli_get_verb(cli), &cache_verbs[0]);
	}
	PARSE(by_alias, "cache list");
	assert_string_equal(bxc_cli_path(by_alias), "bxc cache ls");
}

static void options_are_listed_in_the_order_given(void **state)
{
	(void)state;
	PARSE(cli, "build -tb --quiet -ta .");
	const char *name = NULL, *value = NULL;
	BXC_AUTOBUF bxc_buf all = BXC_BUF_INIT(100);
	for (size_t i = 0; bxc_cli_given_at(cli, i, &name, &value); i++)
		bxc_buf_addf(&all, "%s=%s ", name, value);
	assert_string_equal(bxc_buf_text(&all), "tag=b quiet=true tag=a ");
}

static void raw_arguments_are_left_alone(void **state)
{
	(void)state;
	PARSE(cli, "exec -D sh -c --help -D");
	assert_true(bxc_cli_flag(cli, "debug"));
	assert_false(bxc_cli_wants_help(cli));
	assert_int_equal(bxc_cli_n_args(cli), 4);
	assert_string_equal(bxc_cli_arg(cli, 2), "--help");
}

static void wrong_usage_is_answered_with_one_line(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		const char *message;
	} cases[] = {
		{"build --tga x .",
			"unknown flag '--tga' (did you mean '--tag'?); see 'bxc build --help'"},
		{"build --tga=x .",
			"unknown flag '--tga' (did you mean '--tag'?); see 'bxc build --help'"},
		{"build --zzzzzzzzz .", "unknown flag '--zzzzzzzzz'; see 'bxc build --help'"},
		{"build -qz .", "unknown flag '-z' in '-qz'; see 'bxc build --help'"},
		{"biuld .", "unknown command 'biuld' (did you mean 'build'?); see 'bxc --help'"},
		{"cache prnue",
			"unknown command 'prnue' (did you mean 'prune'?); see 'bxc cache --help'"},
		{"build", "needs an argument: PATH | URL | -; see 'bxc build --help'"},
		{"build a b", "unexpected argument 'b'; see 'bxc build --help'"},
		{"build . --file", "flag '--file' needs a value (FILE); see 'bxc build --help'"},
		{"build . --no-cache=maybe", "invalid value 'maybe' for '--no-cache': "},
		{"build . -j many", "invalid value 'many' for '--jobs': "},
		{"build . -m 1x", "invalid value '1x' for '--memory': "},
		{"build . --timeout soon", "invalid value 'soon' for '--timeout': "},
		{"build . --progress loud", "invalid value 'loud' for '--progress': must be one "
					    "of: auto, plain, tty; see 'bxc build --help'"},
		{"--file x build .", "unknown flag '--file'; see 'bxc --help'"},
		{"build --version .", "unknown flag '--version'"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_AUTOSTRV char **argv = NULL;
		bxc_cli *cli = NULL;
		assert_int_equal(parse(cases[i].line, &cli, &argv, &err), -BXC_INVALID_ARGUMENT);
		if (!strstr(bxc_err_text(err), cases[i].message) || strchr(bxc_err_text(err), '\n'))
			fail_msg("'%s' gave '%s'", cases[i].line, bxc_err_text(err));
		assert_true(bxc_str_has_suffix(bxc_err_text(err), "--help'"));
	}
}

static void help_is_found_in_many_ways(void **state)
{
	(void)state;
	static const char *const lines[] = {
		"build -h", "build --help", "help build", "build . --jobs 3 -qh", "-h build"};
	BXC_AUTOFREE char *want = help_of(lines[0]);
	for (size_t i = 1; i < BXC_ARRAY_SIZE(lines); i++) {
		BXC_AUTOFREE char *text = help_of(lines[i]);
		assert_string_equal(text, want);
	}
	/* A group of verbs alone shows its help. */
	BXC_AUTOFREE char *cache = help_of("cache");
	assert_non_null(strstr(cache, "\n  prune     Remove what is not needed\n"));
	PARSE(version, "--version");
	assert_true(bxc_cli_wants_version(version) && !bxc_cli_wants_help(version));
}

static void help_text_fits_a_terminal_and_is_complete(void **state)
{
	(void)state;
	BXC_AUTOFREE char *text = help_of("build -h");
	for (size_t i = 0; i < BXC_ARRAY_SIZE(build_opts); i++) {
		BXC_AUTOFREE char *name = bxc_str_fmt("--%s", build_opts[i].name);
		assert_true((strstr(text, name) != NULL) == !build_opts[i].hidden);
	}
	assert_non_null(strstr(text, "Usage: bxc build [OPTIONS] PATH | URL | -\n"));
	assert_non_null(strstr(text, "\n  -f, --file FILE"));
	assert_non_null(strstr(text, "\n      --attest[=KIND]"));
	assert_non_null(strstr(text, "(auto, plain, tty)"));
	assert_non_null(strstr(text, "\nGlobal options:\n"));
	assert_non_null(strstr(text, "\n  bxc build -t app .\n"));
	BXC_AUTOFREE char *of_root = help_of("");
	assert_null(strstr(of_root, "debug-dump"));
	assert_non_null(strstr(of_root, "--version"));
	BXC_AUTOSTRV char **lines = bxc_strv_split(text, '\n');
	for (size_t i = 0; lines[i]; i++)
		if (strlen(lines[i]) > 80 || bxc_str_has_suffix(lines[i], " "))
			fail_msg("line of help: '%s'", lines[i]);
}

/* ---- manual ---- */

static void the_manual_has_every_verb_and_no_stray_request(void **state)
{
	(void)state;
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	bxc_cli_print_man(&root, f);
	fclose(f);
	BXC_AUTOSTRV char **lines = bxc_strv_split(text, '\n');
	static const char *const macros[] = {".TH ", ".SH ", ".SH", ".SS ", ".TP", ".B ", ".PP"};
	for (char **l = lines; *l; l++) {
		bool known = **l != '.' && **l != '\'';
		for (size_t i = 0; i < BXC_ARRAY_SIZE(macros); i++)
			known = known || bxc_str_has_prefix(*l, macros[i]);
		if (!known)
			fail_msg("not a macro that is used: %s", *l);
	}
	assert_non_null(strstr(text, "\n.SS bxc build\n"));
	assert_non_null(strstr(text, "\\fB\\-\\-file\\fR"));
	for (size_t i = 0; i < root.n_verbs; i++) {
		BXC_AUTOFREE char *head = bxc_str_fmt("\n.SS bxc %s", root.verbs[i].name);
		assert_int_equal(strstr(text, head) != NULL, !root.verbs[i].hidden);
	}
	free(text);
}

/* ---- completion ---- */

static char *script_for(const char *shell)
{
	BXC_AUTOERR bxc_err *err = NULL;
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	assert_ok(bxc_cli_print_completion(&root, shell, f, &err), err);
	fclose(f);
	return text;
}

/* What bash would offer for a command line whose last word is being typed. */
static void assert_bash_offers(const char *words, const char *want)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *script = script_for("bash");
	BXC_AUTOFREE char *program =
		bxc_str_fmt("%s\nCOMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _bxc; "
			    "echo \"${COMPREPLY[*]}\"",
			script, words);
	char *argv[] = {(char[]){"bash"}, (char[]){"--norc"}, (char[]){"-c"}, program, NULL};
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(65536);
	BXC_AUTOBUF bxc_buf errors = BXC_BUF_INIT(65536);
	bxc_proc_status status = {0};
	assert_ok(bxc_proc_run_capture(
			  argv, (bxc_slice){NULL, 0}, 30000, &out, &errors, &status, &err),
		err);
	assert_string_equal(bxc_buf_text(&errors), "");
	BXC_AUTOFREE char *wanted = bxc_str_fmt("%s\n", want);
	assert_string_equal(bxc_buf_text(&out), wanted);
}

static void bash_completes_verbs_options_and_values(void **state)
{
	(void)state;
	assert_bash_offers("bxc ''", "build cache exec");
	assert_bash_offers("bxc -D ca", "cache");
	assert_bash_offers("bxc cache ''", "prune ls");
	assert_bash_offers("bxc cache prune --", "--help --builder --debug --all");
	assert_bash_offers("bxc b --no", "--no-cache");
	assert_bash_offers("bxc build --progress ''", "auto plain tty");
	assert_bash_offers("bxc build --progress = p", "plain");
	/* Nothing: bash goes on with file names. */
	assert_bash_offers("bxc build --file ''", "");
	assert_bash_offers("bxc build ''", "");
}

static void other_shells_know_the_same_words(void **state)
{
	(void)state;
	static const char *const shells[] = {"bash", "zsh", "fish"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(shells); i++) {
		BXC_AUTOFREE char *script = script_for(shells[i]);
		assert_non_null(strstr(script, "no-cache"));
		assert_non_null(strstr(script, "prune"));
		assert_non_null(strstr(script, "builder"));
		assert_null(strstr(script, "secret-knob"));
		assert_null(strstr(script, "debug-dump"));
	}
	BXC_AUTOFREE char *zsh = script_for("zsh");
	assert_non_null(strstr(
		zsh, "'--file:Name of the Dockerfile (default\\: '\\''PATH/Dockerfile'\\'')'"));
	BXC_AUTOERR bxc_err *err = NULL;
	assert_err(
		bxc_cli_print_completion(&root, "tcsh", stdout, &err), BXC_INVALID_ARGUMENT, err);
}

/* ---- tables, exit codes ---- */

static void tables_are_aligned_and_harmless(void **state)
{
	(void)state;
	static const char *const headers[] = {"NAME", ">SIZE", "NOTE", NULL};
	BXC_CLEANUP(bxc_table_freep) bxc_table *t = bxc_table_new(headers);
	bxc_table_add_row(t, (const char *[]){"a\x1b[31mb\xc2\x9b", "5", "\xc3\xa9t\xc3\xa9"});
	bxc_table_add_row(t, (const char *[]){"long name here", "1000", NULL});
	bxc_table_add_row(t, (const char *[]){"x", "", ""});
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	bxc_table_print(t, f);
	fclose(f);
	assert_string_equal(text, "NAME             SIZE   NOTE\n"
				  "a?[31mb\?\?           5   \xc3\xa9t\xc3\xa9\n"
				  "long name here   1000   -\n"
				  "x\n");
	free(text);
}

static void sizes_and_ages_are_short(void **state)
{
	(void)state;
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {{0, "0 B"}, {999, "999 B"}, {1000, "1.0 kB"}, {1550, "1.5 kB"},
		{12345678, "12 MB"}, {UINT64_MAX, "18 EB"}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(sizes); i++) {
		BXC_AUTOFREE char *text = bxc_table_size(sizes[i].bytes);
		assert_string_equal(text, sizes[i].text);
	}
	static const struct {
		int64_t s;
		const char *text;
	} ages[] = {{-5, "0s"}, {59, "59s"}, {60, "1m"}, {7200, "2h"}, {86400 * 3, "3d"}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(ages); i++) {
		BXC_AUTOFREE char *text = bxc_table_age(ages[i].s * BXC_NS_PER_S);
		assert_string_equal(text, ages[i].text);
	}
}

static void errors_have_exit_codes(void **state)
{
	(void)state;
	assert_int_equal(bxc_exit_from_code(BXC_OK), 0);
	assert_int_equal(bxc_exit_from_code(BXC_NOT_FOUND), 1);
	assert_int_equal(bxc_exit_from_code(BXC_UNAVAILABLE), 3);
	assert_int_equal(bxc_exit_from_code(BXC_UNAUTHENTICATED), 4);
	assert_int_equal(bxc_exit_from_code(BXC_DEADLINE_EXCEEDED), 5);
	assert_int_equal(bxc_exit_from_code(BXC_CANCELED), 130);
	assert_int_equal(bxc_exit_from_code(BXC_INTERNAL), 70);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_take_every_gnu_form),
		cmocka_unit_test(what_is_not_given_has_no_value),
		cmocka_unit_test(implied_values_need_the_equals_sign),
		cmocka_unit_test(global_options_hold_before_and_after_the_verb),
		cmocka_unit_test(options_are_listed_in_the_order_given),
		cmocka_unit_test(raw_arguments_are_left_alone),
		cmocka_unit_test(wrong_usage_is_answered_with_one_line),
		cmocka_unit_test(help_is_found_in_many_ways),
		cmocka_unit_test(help_text_fits_a_terminal_and_is_complete),
		cmocka_unit_test(bash_completes_verbs_options_and_values),
		cmocka_unit_test(other_shells_know_the_same_words),
		cmocka_unit_test(tables_are_aligned_and_harmless),
		cmocka_unit_test(sizes_and_ages_are_short),
		cmocka_unit_test(the_manual_has_every_verb_and_no_stray_request),
		cmocka_unit_test(errors_have_exit_codes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
