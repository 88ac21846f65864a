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
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/utf8.h"

#define S BXC_NS_PER_S

static const char dockerfile[] = "FROM x\nENV a=b\nRUN false\nCMD [\"x\"]\n";

struct shown {
	char *text;
	size_t n;
	size_t seen;                 /* of it, by a terminal */
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
		"#1 A\n#1 0.000 a\n#1 ...\n\n#2 B\n#2 0.000 b\n#2 ...\n\n#1 A\n#1 DONE 7.0s\n\n#2 B\n#2 DONE 7.0s\n\n");
	free(s.text);
}

static void a_step_that_waits_says_why(void **state)
{
	(void)state;
	static const char *const events[] = {
		"{\"type\":\"vertex\",\"digest\":\"d1\",\"name\":\"[a] RUN one\",\"started_ns\":\"1000000000\"}",
		"{\"type\":\"waiting\",\"vertex\":\"d2\",\"name\":\"[b] RUN two\",\"reason\":\"all workers are busy\",\"since_ns\":\"1000000000\"}",
		"{\"type\":\"vertex\",\"digest\":\"d1\",\"name\":\"[a] RUN one\",\"started_ns\":\"1000000000\",\"completed_ns\":\"8000000000\"}",
		"{\"type\":\"vertex\",\"digest\":\"d2\",\"name\":\"[b] RUN two\",\"started_ns\":\"8000000000\"}",
		"{\"type\":\"vertex\",\"digest\":\"d2\",\"name\":\"[b] RUN two\",\"started_ns\":\"8000000000\",\"completed_ns\":\"9000000000\"}"};
	static const int64_t at[] = {1, 7, 8, 8, 9};
	struct shown s;
	begin(&s, BXC_PROG_PLAIN);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(events); i++)
		feed(&s, at[i] * S, events[i]);
	finish(&s, NULL);
	assert_string_equal(s.text, "#0 building with \"b\" instance using bxc driver\n\n"
				    "#1 [a] RUN one\n#1 ...\n\n#2 [b] RUN two\n#2 waiting: all workers are busy\n#2 ...\n\n"
				    "#1 [a] RUN one\n#1 DONE 7.0s\n\n#2 [b] RUN two\n#2 DONE 1.0s\n\n");
	free(s.text);
	begin(&s, BXC_PROG_TTY);
	for (size_t i = 0; i < 2; i++)
		feed(&s, at[i] * S, events[i]);
	bxc_prog_tick(s.p, 7 * S);
	fflush(s.f);
	assert_non_null(strstr(s.text, " => [b] RUN two: waiting, all workers are busy"));
	finish(&s, NULL);
	free(s.text);
}

static void what_has_ended_is_told_at_once(void **state)
{
	(void)state;
	struct shown s;
	begin(&s, BXC_PROG_PLAIN);
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"a\",\"name\":\"A\",\"started_ns\":\"1000000000\"}");
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"b\",\"name\":\"B\",\"started_ns\":\"1000000000\"}");
	feed(&s, 2 * S, "{\"type\":\"vertex\",\"digest\":\"b\",\"name\":\"B\",\"started_ns\":\"1000000000\",\"completed_ns\":\"2000000000\"}");
	fflush(s.f);
	assert_string_equal(s.text, "#0 building with \"b\" instance using bxc driver\n\n#1 A\n#1 ...\n\n#2 B\n#2 DONE 1.0s\n\n");
	/* A goes on when it has something to say; C, which runs too, waits until A has had its time. */
	feed(&s, 3 * S, "{\"type\":\"log\",\"vertex\":\"a\",\"stream\":1,\"data\":\"YQo=\",\"time_ns\":\"3000000000\"}");
	feed(&s, 3 * S, "{\"type\":\"vertex\",\"digest\":\"c\",\"name\":\"C\",\"started_ns\":\"3000000000\"}");
	bxc_prog_tick(s.p, 4 * S);
	fflush(s.f);
	assert_non_null(strstr(s.text, "#1 A\n#1 2.000 a\n"));
	assert_null(strstr(s.text, "C"));
	bxc_prog_tick(s.p, 9 * S);
	fflush(s.f);
	assert_non_null(strstr(s.text, "#1 ...\n\n#3 C\n"));
	finish(&s, NULL);
	free(s.text);
}

static void a_cancelled_and_a_failed_step_are_named(void **state)
{
	(void)state;
	struct shown s;
	begin(&s, BXC_PROG_PLAIN);
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"a\",\"name\":\"A\",\"started_ns\":\"1000000000\",\"completed_ns\":\"2000000000\",\"error\":\"x\","
		    "\"canceled\":true}");
	feed(&s, S, "{\"type\":\"status\",\"vertex\":\"b\",\"id\":\"sha256:1\",\"current\":50,\"total\":100,\"started_ns\":\"1000000000\"}");
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"b\",\"name\":\"B\",\"started_ns\":\"1000000000\"}");
	/* Less than five percent more, in less than five seconds: not worth a line. */
	feed(&s, S, "{\"type\":\"status\",\"vertex\":\"b\",\"id\":\"sha256:1\",\"current\":53,\"total\":100,\"started_ns\":\"1000000000\"}");
	feed(&s, S, "{\"type\":\"status\",\"vertex\":\"b\",\"id\":\"sha256:1\",\"current\":56,\"total\":100,\"started_ns\":\"1000000000\"}");
	finish(&s, NULL);
	assert_non_null(strstr(s.text, "#1 A\n#1 CANCELED\n\n#2 B\n#2 sha256:1 50B / 100B\n#2 sha256:1 56B / 100B\n"));
	free(s.text);
}

/* ---- the live view ---- */

/* Enough of a terminal: what a person would see, and how far the text above the window was pushed. */
struct term {
	int w, h, row, col;
	char cell[64][512];          /* '#': the second half of a wide character */
	int scrolled;
};

static void term_line_feed(struct term *t)
{
	if (++t->row < t->h)
		return;
	t->row--;
	t->scrolled++;
	memmove(t->cell[0], t->cell[1], (size_t)(t->h - 1) * sizeof(t->cell[0]));
	memset(t->cell[t->h - 1], ' ', sizeof(t->cell[0]));
}

static void term_feed(struct term *t, const char *p)
{
	while (*p) {
		if (p[0] == '\x1b' && p[1] == '[') {
			char *end;
			int n = 0;
			for (end = (char *)(uintptr_t)p + 2; *end >= '0' && *end <= '9'; end++)
				n = 10 * n + *end - '0';
			if (*end == 'A')
				t->row = BXC_MAX(t->row - BXC_MAX(n, 1), 0);
			else if (*end == 'K')
				memset(t->cell[t->row] + t->col, ' ', sizeof(t->cell[0]) - (size_t)t->col);
			else if (*end == 'J')
				for (int r = t->row; r < t->h; r++)
					memset(t->cell[r], ' ', sizeof(t->cell[0]));
			else
				assert_int_equal(*end, 'm');
			p = end + 1;
			continue;
		}
		if (*p == '\r' || *p == '\n') {
			if (*p == '\n')
				term_line_feed(t);
			t->col = 0;
			p++;
			continue;
		}
		uint32_t rune;
		size_t k = bxc_utf8_next((const uint8_t *)p, strlen(p), &rune);
		assert_true(k > 0 && rune >= 0x20 && rune != 0x7f);
		int width = rune >= 0x4e00 && rune <= 0x9fff ? 2 : rune >= 0x300 && rune <= 0x36f ? 0 : 1;
		if (t->col + width > t->w) {
			term_line_feed(t);
			t->col = 0;
		}
		for (int i = 0; i < width; i++)
			t->cell[t->row][t->col++] = i ? '#' : k == 1 ? *p : '?';
		p += k;
	}
}

static void term_init(struct term *t, int w, int h)
{
	memset(t, 0, sizeof(*t));
	memset(t->cell, ' ', sizeof(t->cell));
	t->w = w;
	t->h = h;
}

static void term_take(struct term *t, struct shown *s)
{
	fflush(s->f);
	term_feed(t, s->text + s->seen);
	s->seen = s->n;
}

static int rows_with(const struct term *t, const char *text)
{
	int n = 0;
	for (int r = 0; r < t->h; r++)
		n += memmem(t->cell[r], (size_t)t->w, text, strlen(text)) != NULL;
	return n;
}

static void begin_sized(struct shown *s, int w, int h)
{
	begin(s, BXC_PROG_TTY);
	bxc_prog_resize(s->p, w, h);
}

static void two_hundred_at_once_leave_the_terminal_calm(void **state)
{
	(void)state;
	static struct term t, before;
	struct shown s;
	term_init(&t, 80, 24);
	begin_sized(&s, 80, 24);
	term_feed(&t, "$ bxc build .\n");
	for (int i = 0; i < 200; i++) {
		BXC_AUTOFREE char *v = bxc_str_fmt("{\"type\":\"vertex\",\"digest\":\"d%d\",\"name\":\"[stage-%d] RUN make\",\"started_ns\":\"1000000000\"}", i, i);
		BXC_AUTOFREE char *l = bxc_str_fmt("{\"type\":\"log\",\"vertex\":\"d%d\",\"stream\":1,\"data\":\"YQpiCmMK\",\"time_ns\":\"1000000000\"}", i);
		feed(&s, S, v);
		feed(&s, S, l);
	}
	bxc_prog_tick(s.p, 2 * S);
	term_take(&t, &s);
	assert_int_equal(rows_with(&t, "[+] Building"), 1);
	assert_int_equal(rows_with(&t, "RUN make"), 21);
	int scrolled = t.scrolled;
	before = t;
	for (int i = 0; i < 50; i++) {
		bxc_prog_tick(s.p, 2 * S);
		term_take(&t, &s);
		assert_memory_equal(t.cell, before.cell, sizeof(t.cell));
	}
	for (int i = 0; i < 200; i++) {
		BXC_AUTOFREE char *v = bxc_str_fmt("{\"type\":\"vertex\",\"digest\":\"d%d\",\"name\":\"[stage-%d] RUN make\",\"started_ns\":\"1000000000\","
			"\"completed_ns\":\"3000000000\"}", i, i);
		feed(&s, 3 * S, v);
		bxc_prog_tick(s.p, 3 * S);
		term_take(&t, &s);
		assert_int_equal(rows_with(&t, "[+] Building"), 1);
		assert_int_equal(t.scrolled, scrolled);
	}
	bxc_prog_free(s.p);
	fclose(s.f);
	free(s.text);
}

static void a_resized_terminal_has_one_window(void **state)
{
	(void)state;
	static struct term t;
	struct shown s;
	term_init(&t, 80, 24);
	begin_sized(&s, 80, 24);
	for (int i = 0; i < 15; i++) {
		BXC_AUTOFREE char *v = bxc_str_fmt("{\"type\":\"vertex\",\"digest\":\"d%d\",\"name\":\"step %d\",\"started_ns\":\"1000000000\"}", i, i);
		feed(&s, S, v);
	}
	bxc_prog_tick(s.p, 2 * S);
	term_take(&t, &s);
	assert_int_equal(rows_with(&t, "step"), 15);
	/* Fewer lines: a terminal keeps those at the cursor. */
	int cut = t.row - 9;
	memmove(t.cell[0], t.cell[cut], 10 * sizeof(t.cell[0]));
	memset(t.cell[10], ' ', 14 * sizeof(t.cell[0]));
	t.row = 9;
	t.h = 10;
	bxc_prog_resize(s.p, 80, 10);
	bxc_prog_tick(s.p, 2 * S);
	term_take(&t, &s);
	assert_int_equal(t.scrolled, 0);
	assert_int_equal(rows_with(&t, "[+] Building"), 1);
	assert_int_equal(rows_with(&t, "step"), 7);
	/* Half as wide: each line was wrapped to two. */
	t.w = 40;
	t.h = 30;
	char old[10][512];
	int rows = t.row;
	memcpy(old, t.cell, sizeof(old));
	memset(t.cell, ' ', sizeof(t.cell));
	for (int r = 0; r < rows; r++) {
		memcpy(t.cell[2 * r], old[r], 40);
		memcpy(t.cell[2 * r + 1], old[r] + 40, 40);
	}
	t.row = 2 * rows;
	bxc_prog_resize(s.p, 40, 30);
	bxc_prog_tick(s.p, 2 * S);
	term_take(&t, &s);
	assert_int_equal(t.scrolled, 0);
	assert_int_equal(rows_with(&t, "[+] Building"), 1);
	assert_int_equal(rows_with(&t, "step"), 15);
	bxc_prog_free(s.p);
	fclose(s.f);
	free(s.text);
}

static void wide_characters_do_not_break_lines(void **state)
{
	(void)state;
	static struct term t;
	struct shown s;
	term_init(&t, 40, 24);
	begin_sized(&s, 40, 24);
	/* Wide ones, a combining one, and a byte that is none. */
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"a\",\"name\":\"RUN echo \u4e2d\u6587\u4e2d\u6587\u4e2d\u6587\u4e2d\u6587\u4e2d\u6587\u4e2d\u6587\u4e2d\u6587\u4e2d\u6587\u4e2d\u6587\","
		    "\"started_ns\":\"1000000000\"}");
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"b\",\"name\":\"RUN e\u0301\",\"started_ns\":\"1000000000\"}");
	feed(&s, S, "{\"type\":\"log\",\"vertex\":\"b\",\"stream\":1,\"data\":\"gICAgID/G1syShtbSAo=\",\"time_ns\":\"1000000000\"}");
	for (int i = 0; i < 3; i++) {
		bxc_prog_tick(s.p, 2 * S);
		term_take(&t, &s);
	}
	assert_int_equal(rows_with(&t, "[+] Building"), 1);
	assert_int_equal(rows_with(&t, "RUN"), 2);
	assert_int_equal(t.row, 4);
	/* Both times stand at the right edge. */
	assert_memory_equal(t.cell[1] + 36, "1.0s", 4);
	assert_memory_equal(t.cell[2] + 36, "1.0s", 4);
	bxc_prog_free(s.p);
	fclose(s.f);
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

#define STEP(digest, name, inputs, from, to, worker)                                                                   \
	"{\"type\":\"vertex\",\"digest\":\"" digest "\",\"name\":\"" name "\",\"inputs\":[" inputs "],\"worker\":\"" worker     \
	"\",\"started_ns\":\"" from "00000000\",\"completed_ns\":\"" to "00000000\"}"

static void the_terminal_ends_with_a_summary(void **state)
{
	(void)state;
	struct shown s;
	begin(&s, BXC_PROG_TTY);
	feed(&s, S, STEP("f", "[internal] load x", "", "10", "15", "w1"));
	feed(&s, S, STEP("a", "[a 1/1] RUN a", "\"f\"", "15", "35", "w1"));
	feed(&s, S, STEP("b", "[b 1/1] RUN b", "\"f\"", "15", "25", "w2"));
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"c\",\"name\":\"[c 1/1] COPY c\",\"started_ns\":\"1500000000\","
		    "\"completed_ns\":\"1500000000\",\"cached\":true}");
	feed(&s, S, STEP("t", "[t 1/1] RUN t", "\"a\",\"b\",\"c\"", "36", "40", "w2"));
	feed(&s, S, STEP("e", "exporting to image", "", "41", "45", "w2"));
	finish(&s, NULL);
	const char *summary = strstr(s.text, "4 steps: 3 ran, 1 cached, on 2 workers");
	assert_non_null(summary);
	assert_non_null(strstr(summary, "time: 3.4s in steps, 0.4s in outputs, 0.5s in all else"));
	const char *slow = strstr(summary, "slowest steps:"), *path = strstr(summary, "critical path, 3.5s:");
	assert_non_null(slow);
	assert_non_null(path);
	assert_true(slow < path);
	assert_non_null(strstr(slow, "2.0s  [a 1/1] RUN a @w1"));
	/* In the order in which one waited for the other; b was not waited for. */
	static const char *const chain[] = {"[internal] load x", "[a 1/1] RUN a", "[t 1/1] RUN t", "exporting to image"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(chain); i++) {
		path = strstr(path, chain[i]);
		assert_non_null(path);
	}
	assert_null(strstr(strstr(summary, "critical path"), "RUN b"));
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

static void rawjson_has_the_schema_of_buildkit(void **state)
{
	(void)state;
	struct shown s;
	begin(&s, BXC_PROG_RAWJSON);
	feed(&s, S, "{\"type\":\"vertex\",\"digest\":\"a\",\"name\":\"A\",\"inputs\":[\"b\"],\"started_ns\":\"1000000000\",\"completed_ns\":\"1500000000\",\"error\":\"e\"}");
	feed(&s, 2 * S, "{\"type\":\"status\",\"vertex\":\"a\",\"id\":\"i\",\"current\":1,\"total\":0,\"started_ns\":\"1000000000\"}");
	feed(&s, 2 * S, "{\"type\":\"status\",\"vertex\":\"a\",\"id\":\"i\",\"current\":2,\"total\":2,\"started_ns\":\"1000000000\",\"completed_ns\":\"1250000000\"}");
	feed(&s, 2 * S, "{\"type\":\"log\",\"vertex\":\"a\",\"stream\":2,\"data\":\"YQo=\",\"time_ns\":\"1000000000\"}");
	feed(&s, 2 * S, "{\"type\":\"warning\",\"vertex\":\"a\",\"level\":1,\"short\":\"abc\",\"detail\":[\"d\"],\"url\":\"http://u\",\"line_start\":3,\"line_end\":4}");
	finish(&s, NULL);
	assert_string_equal(s.text,
		"{\"vertexes\":[{\"digest\":\"a\",\"inputs\":[\"b\"],\"name\":\"A\",\"started\":\"1970-01-01T00:00:01Z\",\"completed\":\"1970-01-01T00:00:01.5Z\",\"error\":\"e\"}]}\n"
		"{\"statuses\":[{\"id\":\"i\",\"vertex\":\"a\",\"name\":\"i\",\"current\":1,\"timestamp\":\"1970-01-01T00:00:02Z\",\"started\":\"1970-01-01T00:00:01Z\"}]}\n"
		"{\"statuses\":[{\"id\":\"i\",\"vertex\":\"a\",\"name\":\"i\",\"current\":2,\"total\":2,\"timestamp\":\"1970-01-01T00:00:01.25Z\",\"started\":\"1970-01-01T00:00:01Z\","
		"\"completed\":\"1970-01-01T00:00:01.25Z\"}]}\n"
		"{\"logs\":[{\"vertex\":\"a\",\"stream\":2,\"data\":\"YQo=\",\"timestamp\":\"1970-01-01T00:00:01Z\"}]}\n"
		"{\"warnings\":[{\"vertex\":\"a\",\"level\":1,\"short\":\"YWJj\",\"detail\":[\"ZA==\"],\"url\":\"http://u\",\"sourceInfo\":{\"filename\":\"\"},\"range\":[{\"start\":{\"line\":3},\"end\":{\"line\":4}}]}]}\n");
	free(s.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_is_as_buildkit_writes_it),
		cmocka_unit_test(steps_side_by_side_take_turns),
		cmocka_unit_test(a_step_that_waits_says_why),
		cmocka_unit_test(what_has_ended_is_told_at_once),
		cmocka_unit_test(a_cancelled_and_a_failed_step_are_named),
		cmocka_unit_test(two_hundred_at_once_leave_the_terminal_calm),
		cmocka_unit_test(a_resized_terminal_has_one_window),
		cmocka_unit_test(wide_characters_do_not_break_lines),
		cmocka_unit_test(rawjson_has_the_schema_of_buildkit),
		cmocka_unit_test(the_terminal_gets_no_control_characters_of_others),
		cmocka_unit_test(the_terminal_ends_with_a_summary),
		cmocka_unit_test(rawjson_is_one_object_a_line),
		cmocka_unit_test(warnings_stand_at_their_step_and_at_the_end),
		cmocka_unit_test(all_of_a_warning_is_shown_when_asked_for),
		cmocka_unit_test(rawjson_has_warnings_as_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
