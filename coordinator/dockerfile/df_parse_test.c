/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"
#include "coordinator/dockerfile/dockerfile_internal.h"

static bxc_df_ast *parse(const char *text)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_df_ast *a = NULL;
	assert_ok(bxc_df_parse(bxc_slice_of(text, strlen(text)), "Dockerfile", &a, &err), err);
	return a;
}

static void errors_name_the_place_and_the_remedy(void **state)
{
	(void)state;
	static const char *const vectors[][2] = {
		{"FROM a\nCPOY x y\n",
			"Dockerfile:2: unknown instruction: CPOY (did you mean COPY?)"},
		{"FROM a\nRUN a \\\n  b\nFROB x\nBLAH\n",
			"Dockerfile:4: unknown instruction: FROB"},
		{"RUN x\nFROM a\n", "Dockerfile:1: no build stage in current context: RUN comes "
				    "before the first FROM"},
		{"ARG x\n", "Dockerfile: dockerfile contains no stages to build"},
		{"# only\n", "Dockerfile: file with no instructions"},
		{"FROM a b c\n", "Dockerfile:1: FROM requires either one or three arguments"},
		{"FROM a AS 1x\n", "Dockerfile:1: invalid name for build stage: \"1x\", name can't "
				   "start with a number or contain symbols"},
		{"FROM a\nCOPY --form=x a b\n",
			"Dockerfile:2: unknown flag: --form (did you mean from?)"},
		{"FROM a\nCOPY --from=x --from=y a b\n",
			"Dockerfile:2: duplicate flag specified: --from"},
		{"FROM a\nCOPY --chown a b\n", "Dockerfile:2: missing a value on flag: --chown"},
		{"FROM a\nCOPY --link= a b\n", "Dockerfile:2: missing a value on flag: --link"},
		{"FROM a\nCOPY a <<EOF\nEOF\n",
			"Dockerfile:2: COPY cannot accept a heredoc as a destination"},
		{"FROM a\nRUN --network=pigeon x\n",
			"Dockerfile:2: invalid network mode \"pigeon\""},
		{"FROM a\nRUN --mount=from=$x,target=/y z\n",
			"Dockerfile:2: 'from' doesn't support variable expansion, define alias "
			"stage instead"},
		{"FROM a\nHEALTHCHECK --interval=-1s CMD x\n",
			"Dockerfile:2: Interval \"interval\" cannot be less than 1ms"},
		{"FROM a\nHEALTHCHECK --interval=1us CMD x\n",
			"Dockerfile:2: Interval \"interval\" cannot be less than 1ms"},
		{"FROM a\nHEALTHCHECK --retries=-1 CMD x\n",
			"Dockerfile:2: --retries cannot be negative (-1)"},
		{"FROM a\nHEALTHCHECK CMD\n",
			"Dockerfile:2: Missing command after HEALTHCHECK CMD"},
		{"FROM a\nHEALTHCHECK NONE x\n",
			"Dockerfile:2: HEALTHCHECK NONE takes no arguments"},
		{"FROM a\nENV X\n", "Dockerfile:2: ENV must have two arguments"},
		{"FROM a\nENV X=1 Y\n", "Dockerfile:2: Syntax error - can't find = in \"Y\". Must "
					"be of the form: name=value"},
		{"FROM a\nENV =1\n", "Dockerfile:2: ENV names can not be blank"},
		{"FROM a\nSHELL x y\n",
			"Dockerfile:2: SHELL requires the arguments to be in JSON form"},
		{"FROM a\nONBUILD onbuild RUN x\n",
			"Dockerfile:2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"},
		{"FROM a\nONBUILD MAINTAINER x\n",
			"Dockerfile:2: MAINTAINER isn't allowed as an ONBUILD trigger"},
		{"FROM a\nRUN cat <<EOF\nx\n", "Dockerfile:2: unterminated heredoc"},
		{"# escape=x\nFROM a\n",
			"Dockerfile:1: invalid escape token 'x' does not match ` or \\"},
		{"FROM a\nRUN \xff\n", "Dockerfile:2: the instruction is not valid UTF-8"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(vectors); i++) {
		const char *text = vectors[i][0];
		BXC_AUTOERR bxc_err *err = NULL;
		bxc_df_ast *a = NULL;
		int r = bxc_df_parse(bxc_slice_of(text, strlen(text)), "Dockerfile", &a, &err);
		assert_int_equal(r, -BXC_INVALID_ARGUMENT);
		if (!bxc_str_has_prefix(bxc_err_text(err), vectors[i][1]))
			fail_msg("'%s', not '%s'", bxc_err_text(err), vectors[i][1]);
	}
}

static void errors_carry_their_lines(void **state)
{
	(void)state;
	static const char text[] = "FROM a\n\nENV A=1 \\\n  B\n";
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_df_ast *a = NULL;
	assert_int_equal(bxc_df_parse(bxc_slice_of(text, strlen(text)), "x/My.df", &a, &err),
		-BXC_INVALID_ARGUMENT);
	assert_string_equal(bxc_err_get_detail(err, "file"), "x/My.df");
	assert_string_equal(bxc_err_get_detail(err, "line"), "3");
	assert_string_equal(bxc_err_get_detail(err, "line_end"), "4");
}

static void directives_count_only_at_the_top(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_df_ast_freep)
	bxc_df_ast *a = parse("#!/usr/bin/env bxc\n#  Syntax = docker/dockerfile:1 x \n# "
			      "check=skip=all\nFROM a\n");
	assert_string_equal(a->syntax, "docker/dockerfile:1 x");
	assert_string_equal(a->check, "skip=all");
	assert_int_equal(a->syntax_line, 2);
	BXC_CLEANUP(bxc_df_ast_freep) bxc_df_ast *b = parse("\n# syntax=x\nFROM a\n");
	assert_null(b->syntax);
}

static void comments_above_an_instruction_stay_with_it(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_df_ast_freep)
	bxc_df_ast *a = parse(
		"# far\n\n# base of all\n#   second line \nFROM a AS Base\n# not\n#\nRUN x\n");
	assert_string_equal(a->instrs.v[0]->comments, "base of all\nsecond line");
	assert_null(a->instrs.v[1]->comments);
	assert_int_equal(bxc_df_n_stages(a), 1);
	assert_string_equal(bxc_df_stage_name(a, 0), "base");
}

static void heredocs_have_their_bodies_and_quoting(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_df_ast_freep)
	bxc_df_ast *a = parse("FROM a\n"
			      "COPY <<A <<-\"B\" 3<<C /d/\n"
			      "# text\nA\n"
			      "\t\tx\n\tB\n"
			      "C\n"
			      "COPY <<X <<X /e/\none\nX\ntwo\nX\n"
			      "RUN echo '<<no' \"<<no\"\n"
			      "COPY << Y /f\ny\nY\n");
	const df_instr *i = a->instrs.v[1];
	assert_int_equal(i->docs.n, 3);
	assert_string_equal(i->docs.v[0].data, "# text\n");
	assert_true(i->docs.v[0].expand);
	assert_string_equal(i->sources.v[1].doc_data, "x\n");
	assert_false(i->sources.v[1].doc_expand);
	assert_int_equal(i->docs.v[2].fd, 3);
	assert_string_equal(i->dest, "/d/");
	assert_string_equal(a->instrs.v[2]->sources.v[0].doc_data, "two\n");
	assert_int_equal(a->instrs.v[3]->docs.n, 0);
	assert_string_equal(a->instrs.v[4]->sources.v[0].doc_data, "y\n");
	assert_int_equal(a->instrs.v[4]->sources.n, 1);
}

static void triggers_are_kept_verbatim(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_df_ast_freep)
	bxc_df_ast *a =
		parse("FROM a\nonbuild   RUN cat <<E > /x\n$v\nE\nONBUILD COPY --from=x a  b\n");
	assert_string_equal(a->instrs.v[1]->trigger, "RUN cat <<E > /x\n$v\nE");
	assert_string_equal(a->instrs.v[2]->trigger, "COPY --from=x a  b");
}

static void limits_are_told(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1u << 24);
	bxc_buf_adds(&b, "FROM a\n");
	for (uint32_t i = 0; i < DF_MAX_INSTRUCTIONS; i++)
		bxc_buf_adds(&b, "USER u\n");
	bxc_df_ast *a = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	assert_err_text(bxc_df_parse(bxc_buf_slice(&b), "Dockerfile", &a, &err),
		BXC_RESOURCE_EXHAUSTED, err, "Dockerfile:20001: more than 20000 instructions");
	bxc_buf_clear(&b);
	bxc_buf_adds(&b, "FROM a\nRUN ");
	for (uint32_t i = 0; i < BXC_LIMIT_DOCKERFILE_LINE; i++)
		bxc_buf_addc(&b, 'x');
	assert_err_text(bxc_df_parse(bxc_buf_slice(&b), "Dockerfile", &a, &err),
		BXC_RESOURCE_EXHAUSTED, err,
		"Dockerfile:2: dockerfile line greater than max allowed size of 65535");
}

static void a_base_that_is_missing_has_a_name_near_to_it(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_df_ast_freep)
	bxc_df_ast *a = parse("FROM scratch AS Build\nFROM scratch\nFROM scratch AS test-all\n");
	assert_string_equal(bxc_df_nearest_base(a, "docker.io/library/biuld:latest"), "build");
	assert_string_equal(bxc_df_nearest_base(a, "docker.io/library/test_all:1"), "test-all");
	assert_string_equal(bxc_df_nearest_base(a, "docker.io/library/alpin:latest"), "alpine");
	assert_null(bxc_df_nearest_base(a, "docker.io/library/busybox:latest"));
	assert_null(bxc_df_nearest_base(a, "docker.io/library/something:latest"));
	assert_null(bxc_df_nearest_base(a, "ghcr.io/x/biuld:latest"));
}

static void images_have_a_limit(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1u << 20);
	bxc_df_ast *a = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_buf_adds(&b, "FROM scratch\n");
	for (uint32_t i = 0; i <= DF_MAX_IMAGES; i++)
		bxc_buf_addf(&b, "COPY --from=i%u a b\n", i);
	assert_ok(bxc_df_parse(bxc_buf_slice(&b), "Dockerfile", &a, &err), err);
	BXC_CLEANUP(bxc_df_ast_freep) bxc_df_ast *owned = a;
	BXC_CLEANUP(bxc_def_freep) bxc_def *def = bxc_def_new();
	BXC_AUTODFRESULT bxc_df_result res = {0};
	const bxc_df_opts o = {.platform = bxc_platform_host()};
	assert_err_text(bxc_df_lower(owned, &o, def, &res, &err), BXC_RESOURCE_EXHAUSTED, err,
		"Dockerfile:1002: more than 1000 images");
}

static void an_excerpt_marks_the_lines(void **state)
{
	(void)state;
	static const char text[] =
		"FROM busybox\n\nRUN echo start \\\n && false\nRUN b\nRUN c\nRUN d\n";
	BXC_AUTOFREE char *s = bxc_df_excerpt(bxc_slice_of(text, strlen(text)), "Dockerfile", 3, 4);
	assert_string_equal(s, "Dockerfile:3\n"
			       "--------------------\n"
			       "   1 |     FROM busybox\n"
			       "   2 |     \n"
			       "   3 | >>> RUN echo start \\\n"
			       "   4 | >>>  && false\n"
			       "   5 |     RUN b\n"
			       "   6 |     RUN c\n"
			       "--------------------\n");
	BXC_AUTOFREE char *none =
		bxc_df_excerpt(bxc_slice_of(text, strlen(text)), "Dockerfile", 9, 9);
	assert_string_equal(none, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_name_the_place_and_the_remedy),
		cmocka_unit_test(errors_carry_their_lines),
		cmocka_unit_test(directives_count_only_at_the_top),
		cmocka_unit_test(comments_above_an_instruction_stay_with_it),
		cmocka_unit_test(heredocs_have_their_bodies_and_quoting),
		cmocka_unit_test(triggers_are_kept_verbatim),
		cmocka_unit_test(limits_are_told),
		cmocka_unit_test(a_base_that_is_missing_has_a_name_near_to_it),
		cmocka_unit_test(images_have_a_limit),
		cmocka_unit_test(an_excerpt_marks_the_lines),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
