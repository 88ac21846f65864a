/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "client/progress/progress.h"
#include "common/base/clock.h"

#define S BXC_NS_PER_S

static const char dockerfile[] = "FROM x\nENV a=b\nRUN false\nCMD [\"x\"]\n";

struct shown {
	char *text;
	size_t n;
	FILE *f;
	bxc_prog *p;
};

/* In place: the stream keeps the addresses of text and n. */
static void begin(struct shown *s, bxc_prog_mode mode)
{
	memset(s, 0, sizeof(*s));
	s->f = open_memstream(&s->text, &s->n);
	s->p = bxc_prog_new(&(bxc_prog_config){.mode = mode, .out = s->f, .builder = "b", .width = 60, .height = 10});
	bxc_prog_set_source(s->p, "Dockerfile", dockerfile, strlen(dockerfile));
}

static void feed(struct shown *s, int64_t now_ns, const char *json)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	assert_int_equal(bxc_json_parse(bxc_slice_of(json, strlen(json)), &j, NULL), 0);
	bxc_prog_event(s->p, j, now_ns);
}

static void finish(struct shown *s, const char *error)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	if (error)
		assert_int_equal(bxc_json_parse(bxc_slice_of(error, strlen(error)), &j, NULL), 0);
	bxc_prog_finish(s->p, j, 10 * S);
	bxc_prog_free(s->p);
	fclose(s->f);
}

static void plain_is_as_buildkit_writes_it(void **state)
{
	(void)state;
	struct shown s;
	begin(&s, BXC_PROG_PLAIN);
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"d1\",\"name\":\"[internal] load build definition from Dockerfile\",\"started_ns\":\"1000000000\"}");
	feed(&s, S, "{\"type\":\"status\",\"vertex\":\"d1\",\"id\":\"transferring dockerfile:\",\"current\":31,\"total\":0,"
		    "\"started_ns\":\"1000000000\",\"completed_ns\":\"1000000000\"}");
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"d1\",\"name\":\"[internal] load build definition from Dockerfile\",\"started_ns\":\"1000000000\","
		    "\"completed_ns\":\"1020000000\"}");
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"d2\",\"name\":\"[1/2] FROM x\",\"started_ns\":\"1000000000\",\"completed_ns\":\"1000000000\",\"cached\":true}");
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"d3\",\"name\":\"[2/2] RUN false\",\"started_ns\":\"1000000000\"}");
	feed(&s, S, "{\"type\":\"log\",\"vertex\":\"d3\",\"stream\":1,\"data\":\"b25lCnR3\",\"time_ns\":\"1250000000\"}");
	feed(&s, S, "{\"type\":\"log\",\"vertex\":\"d3\",\"stream\":1,\"data\":\"bwo=\",\"time_ns\":\"1500000000\"}");
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"d3\",\"name\":\"[2/2] RUN false\",\"started_ns\":\"1000000000\",\"completed_ns\":\"3300000000\","
		    "\"error\":\"process failed\"}");
	finish(&s, "{\"code\":\"UNKNOWN\",\"message\":\"process failed\",\"details\":{\"vertex\":\"d3\",\"file\":\"Dockerfile\",\"line\":\"3\",\"line_end\":\"3\"}}");
	assert_string_equal(s.text,
		"#0 building with \"b\" instance using bxc driver\n\n"
		"#1 [internal] load build definition from Dockerfile\n#1 transferring dockerfile: 31B done\n#1 DONE 0.0s\n\n"
		"#2 [1/2] FROM x\n#2 CACHED\n\n"
		"#3 [2/2] RUN false\n#3 0.250 one\n#3 0.500 two\n#3 ERROR: process failed\n\n"
		"------\n > [2/2] RUN false:\n0.250 one\n0.500 two\n------\n"
		"Dockerfile:3\n--------------------\n   1 |     FROM x\n   2 |     ENV a=b\n   3 | >>> RUN false\n   4 |     CMD [\"x\"]\n   5 |     \n"
		"--------------------\nERROR: failed to build: failed to solve: process failed\n");
	free(s.text);
}

static void steps_side_by_side_take_turns(void **state)
{
	(void)state;
	struct shown s;
	begin(&s, BXC_PROG_PLAIN);
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"a\",\"name\":\"A\",\"started_ns\":\"1000000000\"}");
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"b\",\"name\":\"B\",\"started_ns\":\"1000000000\"}");
	feed(&s, S, "{\"type\":\"log\",\"vertex\":\"b\",\"stream\":1,\"data\":\"Ygo=\",\"time_ns\":\"1000000000\"}");
	feed(&s, S, "{\"type\":\"log\",\"vertex\":\"a\",\"stream\":1,\"data\":\"YQo=\",\"time_ns\":\"1000000000\"}");
	bxc_prog_tick(s.p, 7 * S);
	feed(&s, 7 * S, "{\"type\":\"vertex\",\"digest\":\"a\",\"name\":\"A\",\"started_ns\":\"1000000000\",\"completed_ns\":\"8000000000\"}");
	feed(&s, 7 * S, "{\"type\":\"vertex\",\"digest\":\"b\",\"name\":\"B\",\"started_ns\":\"1000000000\",\"completed_ns\":\"8000000000\"}");
	finish(&s, NULL);
	assert_string_equal(s.text,
		"#0 building with \"b\" instance using bxc driver\n\n"
		"#1 A\n#1 0.000 a\n#1 ...\n\n#2 B\n#2 0.000 b\n#2 DONE 7.0s\n\n#1 A\n#1 DONE 7.0s\n\n");
	free(s.text);
}

static void the_terminal_gets_no_control_characters_of_others(void **state)
{
	(void)state;
	struct shown s;
	begin(&s, BXC_PROG_TTY);
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"a\",\"name\":\"RUN \\u001b[31mred\",\"started_ns\":\"1000000000\"}");
	bxc_prog_tick(s.p, 2 * S);
	finish(&s, NULL);
	assert_null(strstr(s.text, "\x1b[31m"));
	assert_non_null(strstr(s.text, "RUN  [31mred"));
	assert_non_null(strstr(s.text, "[+] Building 9.0s (0/1) FINISHED"));
	free(s.text);
}

static void rawjson_is_one_object_a_line(void **state)
{
	(void)state;
	struct shown s;
	begin(&s, BXC_PROG_RAWJSON);
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"a\",\"name\":\"A\",\"inputs\":[],\"started_ns\":\"1000000000\",\"cached\":true}");
	finish(&s, NULL);
	assert_string_equal(s.text, "{\"vertexes\":[{\"digest\":\"a\",\"name\":\"A\",\"started\":\"1970-01-01T00:00:01Z\",\"cached\":true}]}\n");
	free(s.text);
}

#define A_FILE "{\"type\":\"vertex\",\"digest\":\"d\",\"name\":\"[internal] load\",\"started_ns\":\"1000000000\",\"completed_ns\":\"1000000000\"}"
#define A_WARNING                                                                                                      \
	"{\"type\":\"warning\",\"vertex\":\"d\",\"level\":1,\"short\":\"Rule: text (line 2)\",\"detail\":[\"what it means\"]," \
	"\"url\":\"https://x/y\",\"file\":\"Dockerfile\",\"line_start\":2,\"line_end\":2}"

static void warnings_stand_at_their_step_and_at_the_end(void **state)
{
	(void)state;
	struct shown s;
	begin(&s, BXC_PROG_PLAIN);
	feed(&s, S, A_FILE);
	feed(&s, S, A_WARNING);
	finish(&s, NULL);
	/* The step had ended: it is named again. */
	assert_non_null(strstr(s.text, "#1 DONE 0.0s\n\n#1 [internal] load\n#1 WARN: Rule: text (line 2)\n\n"));
	assert_non_null(strstr(s.text, "\n 1 warning found (use --debug to expand):\n - Rule: text (line 2)\n"));
	assert_null(strstr(s.text, "what it means"));
	free(s.text);
}

static void all_of_a_warning_is_shown_when_asked_for(void **state)
{
	(void)state;
	struct shown s;
	memset(&s, 0, sizeof(s));
	s.f = open_memstream(&s.text, &s.n);
	s.p = bxc_prog_new(&(bxc_prog_config){.mode = BXC_PROG_PLAIN, .out = s.f, .builder = "b", .debug = true});
	bxc_prog_set_source(s.p, "Dockerfile", dockerfile, strlen(dockerfile));
	feed(&s, S, A_FILE);
	feed(&s, S, A_WARNING);
	feed(&s, S, A_WARNING);
	finish(&s, NULL);
	assert_non_null(strstr(s.text, "\n 2 warnings found:\n - Rule: text (line 2)\nwhat it means\nMore info: https://x/y\nDockerfile:2\n"));
	assert_non_null(strstr(s.text, "   2 | >>> ENV a=b\n"));
	free(s.text);
}

static void rawjson_has_warnings_as_bytes(void **state)
{
	(void)state;
	struct shown s;
	begin(&s, BXC_PROG_RAWJSON);
	feed(&s, S, A_WARNING);
	finish(&s, NULL);
	assert_string_equal(s.text,
		"{\"warnings\":[{\"vertex\":\"d\",\"level\":1,\"short\":\"UnVsZTogdGV4dCAobGluZSAyKQ==\",\"detail\":[\"d2hhdCBpdCBtZWFucw==\"],"
		"\"url\":\"https://x/y\",\"sourceInfo\":{\"filename\":\"Dockerfile\"},\"range\":[{\"start\":{\"line\":2},\"end\":{\"line\":2}}]}]}\n");
	free(s.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_is_as_buildkit_writes_it),
		cmocka_unit_test(steps_side_by_side_take_turns),
		cmocka_unit_test(the_terminal_gets_no_control_characters_of_others),
		cmocka_unit_test(rawjson_is_one_object_a_line),
		cmocka_unit_test(warnings_stand_at_their_step_and_at_the_end),
		cmocka_unit_test(all_of_a_warning_is_shown_when_asked_for),
		cmocka_unit_test(rawjson_has_warnings_as_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
