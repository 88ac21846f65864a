/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live view: a window that is redrawn in place. Lines are cut to the width of the terminal by
 * what characters take there; the window never exceeds its height. Text of others may hold control
 * characters: none reaches the terminal.
 */
#include "client/progress/progress_internal.h"

#include <string.h>
#include <utf8proc.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/utf8.h"

#define LOG_LINES 6u
#define BLUE      "\x1b[34m"
#define RED       "\x1b[31m"
#define RESET     "\x1b[0m"

typedef struct line {
	char *text;
	int columns;
} line;
typedef BXC_ARR(line) lines;

/* Appends at most `width` columns of `text`; returns the columns taken. */
static int add_cut(bxc_buf *b, const char *text, int width)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t n = strlen(text);
	int used = 0;
	while (n) {
		uint32_t rune;
		size_t k = bxc_utf8_next(p, n, &rune);
		int w = 1;
		if (k == 0) {
			k = 1;
			rune = 0xfffd;
		}
		if (rune == '\t')
			rune = ' ';
		if (rune < 0x20 || (rune >= 0x7f && rune < 0xa0)) {
			p += k;
			n -= k;
			continue;
		}
		w = utf8proc_charwidth((utf8proc_int32_t)rune);
		if (used + w > width)
			break;
		if (rune == 0xfffd)
			bxc_buf_adds(b, "\xef\xbf\xbd");
		else if (rune == ' ' && *p == '\t')
			bxc_buf_addc(b, ' ');
		else
			bxc_buf_add(b, p, k);
		used += w;
		p += k;
		n -= k;
	}
	return used;
}

static void push_line(bxc_prog *p, lines *out, const char *left, const char *right, const char *color)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(64u << 10);
	int width = p->c.width > 20 ? p->c.width : 80;
	int right_len = right ? (int)strlen(right) : 0;
	if (p->c.color && color)
		bxc_buf_adds(&b, color);
	int used = add_cut(&b, left, width - right_len - (right ? 1 : 0));
	if (right) {
		for (; used < width - right_len; used++)
			bxc_buf_addc(&b, ' ');
		bxc_buf_adds(&b, right);
	}
	if (p->c.color && color)
		bxc_buf_adds(&b, RESET);
	if (right)
		used += right_len;
	*bxc_arr_push(out) = (line){bxc_buf_steal(&b), used};
}

static void vertex_lines(bxc_prog *p, const vertex *v, int64_t now_ns, bool with_details, lines *out)
{
	int64_t end = v->completed_ns ? v->completed_ns : now_ns;
	BXC_AUTOFREE char *time = seconds_text(v->started_ns ? end - v->started_ns : 0);
	if (!v->started_ns) {
		BXC_AUTOFREE char *since = seconds_text(BXC_MAX(now_ns - v->waits_since_ns, (int64_t)0));
		BXC_AUTOFREE char *waits = bxc_str_fmt(" => %s: waiting, %s", v->name, v->waits);
		push_line(p, out, waits, since, NULL);
		return;
	}
	const char *state = v->canceled ? "CANCELED " : v->error ? "ERROR " : v->cached ? "CACHED " : "";
	BXC_AUTOFREE char *left = v->worker && !v->completed_ns ? bxc_str_fmt(" => %s%s @%s", state, v->name, v->worker)
								: bxc_str_fmt(" => %s%s", state, v->name);
	push_line(p, out, left, time, v->error ? RED : v->completed_ns ? BLUE : NULL);
	if (!with_details)
		return;
	BXC_ARR_FOREACH (s, &v->statuses) {
		BXC_AUTOFREE char *cur = bytes_text(s->current);
		BXC_AUTOFREE char *tot = bytes_text(s->total);
		BXC_AUTOFREE char *t = seconds_text((s->completed_ns ? s->completed_ns : now_ns) - s->started_ns);
		BXC_AUTOFREE char *l = s->total ? bxc_str_fmt(" => => %s %s / %s", s->id, cur, tot)
			: s->current ? bxc_str_fmt(" => => %s %s", s->id, cur) : bxc_str_fmt(" => => %s", s->id);
		push_line(p, out, l, t, NULL);
	}
	if (v->completed_ns)
		return;
	size_t n = BXC_MIN(v->n_lines, (size_t)LOG_LINES);
	for (size_t i = v->n_lines - n; i < v->n_lines; i++) {
		BXC_AUTOFREE char *l = bxc_str_fmt(" => => # %s", v->tail[i % LOG_TAIL_LINES]);
		push_line(p, out, l, NULL, NULL);
	}
}

typedef BXC_ARR(size_t) costs;

/* The lines of every vertex, and how many each takes; returns their number. */
static size_t body_lines(bxc_prog *p, int64_t now_ns, bool final, bool details, lines *body, costs *cost)
{
	for (size_t k = 0; k < p->vertices.n; k++) {
		const vertex *v = p->vertices.v[k];
		size_t before = body->n;
		if (v->started_ns || (v->waits && !final))
			vertex_lines(p, v, now_ns, final || (details && !v->completed_ns), body);
		*bxc_arr_push(cost) = body->n - before;
	}
	return body->n;
}

static size_t running_lines(const bxc_prog *p, const size_t *cost)
{
	size_t n = 0;
	for (size_t k = 0; k < p->vertices.n; k++)
		n += p->vertices.v[k]->completed_ns ? 0 : cost[k];
	return n;
}

static void collect(bxc_prog *p, int64_t now_ns, bool final, lines *out)
{
	size_t total = 0, done = 0;
	BXC_ARR_FOREACH (i, &p->vertices) {
		if (!(*i)->started_ns)
			continue;
		total++;
		done += (*i)->completed_ns != 0;
	}
	BXC_AUTOFREE char *time = seconds_text(p->begun_ns ? now_ns - p->begun_ns : 0);
	BXC_AUTOFREE char *head = bxc_str_fmt("[+] Building %s (%zu/%zu)%s", time, done, total, final ? " FINISHED" : "");
	push_line(p, out, head, p->builder, NULL);
	/* When all do not fit, finished ones go first, the oldest before the newer; then what running ones print. */
	size_t room = final ? SIZE_MAX : (size_t)BXC_MAX(p->c.height - 2, 1);
	lines body = {0};
	costs cost = {0};
	size_t n_lines = body_lines(p, now_ns, final, true, &body, &cost);
	if (running_lines(p, cost.v) + 1 > room) {
		BXC_ARR_FOREACH (l, &body)
			free(l->text);
		body.n = cost.n = 0;
		n_lines = body_lines(p, now_ns, final, false, &body, &cost);
	}
	size_t at = 0;
	for (size_t k = 0; k < p->vertices.n; k++) {
		bool drop = n_lines + 1 > room && p->vertices.v[k]->completed_ns;
		if (drop)
			n_lines -= cost.v[k];
		for (size_t i = 0; i < cost.v[k]; i++, at++) {
			if (drop || out->n >= room)
				free(body.v[at].text);
			else
				*bxc_arr_push(out) = body.v[at];
		}
	}
	bxc_arr_done(&body);
	bxc_arr_done(&cost);
	if (!final)
		return;
	BXC_AUTOSTRV char **summary = summary_lines(p);
	for (char **l = summary; l && *l; l++)
		push_line(p, out, *l, NULL, NULL);
}

/* What stands on the screen has other lines now: too long ones were wrapped, those above its top are out of reach. */
void tty_resized(bxc_prog *p)
{
	int rows = 0, width = BXC_MAX(p->c.width, 1);
	if (!p->drawn_lines)
		return;
	BXC_ARR_FOREACH (n, &p->drawn_columns)
		rows += BXC_MAX((*n + width - 1) / width, 1);
	p->drawn_lines = BXC_MIN(rows, BXC_MAX(p->c.height - 1, 1));
}

void tty_draw(bxc_prog *p, int64_t now_ns, bool final)
{
	lines out = {0};
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(16u << 20);
	collect(p, now_ns, final, &out);
	if (p->drawn_lines)
		bxc_buf_addf(&b, "\x1b[%dA", p->drawn_lines);
	p->drawn_columns.n = 0;
	BXC_ARR_FOREACH (l, &out) {
		bxc_buf_addf(&b, "\r%s\x1b[K\n", l->text);
		*bxc_arr_push(&p->drawn_columns) = l->columns;
		free(l->text);
	}
	/* What an earlier, longer window left below. */
	if ((int)out.n < p->drawn_lines)
		bxc_buf_adds(&b, "\r\x1b[J");
	p->drawn_lines = final ? 0 : (int)out.n;
	bxc_arr_done(&out);
	fwrite(b.data, 1, b.len, p->c.out);
	fflush(p->c.out);
}
