/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BuildKit's plain form. One vertex at a time holds the output; while it runs it keeps it for five
 * seconds against others that run, so that they do not shred each other's logs. What has ended is told
 * at once.
 */
#include "client/progress/progress_internal.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define HOLD_NS (5 * BXC_NS_PER_S)

static bool has_output(const vertex *v)
{
	if (!v->started_ns)
		return v->waits && v->pending.n;
	/* A warning may come after the end. */
	if (v->final_printed)
		return v->pending.n > 0;
	if (!v->number || v->completed_ns || v->pending.n)
		return true;
	BXC_ARR_FOREACH (s, &v->statuses)
		if (s->dirty)
			return true;
	return false;
}

static void print_header(bxc_prog *p, vertex *v)
{
	if (!v->number)
		v->number = ++p->last_number;
	fprintf(p->c.out, "#%u %s\n", v->number, v->name);
}

static void print_status(bxc_prog *p, vertex *v, status *s, int64_t now_ns)
{
	bool done = s->completed_ns != 0;
	/* Of a transfer under way only real steps are told: five percent, or five seconds. */
	if (!done && s->printed_ns && now_ns - s->printed_ns < HOLD_NS &&
		(!s->total || s->current - s->printed_current < s->total / 20))
		return;
	s->dirty = false;
	s->printed_ns = now_ns;
	s->printed_current = s->current;
	fprintf(p->c.out, "#%u %s", v->number, s->id);
	BXC_AUTOFREE char *cur = bytes_text(s->current);
	BXC_AUTOFREE char *tot = bytes_text(s->total);
	if (s->total)
		fprintf(p->c.out, " %s / %s", cur, tot);
	else if (s->current)
		fprintf(p->c.out, " %s", cur);
	int64_t end = done ? s->completed_ns : now_ns;
	if (s->started_ns && end - s->started_ns >= 50 * BXC_NS_PER_MS) {
		BXC_AUTOFREE char *t = seconds_text(end - s->started_ns);
		fprintf(p->c.out, " %s", t);
	}
	fputs(done ? " done\n" : "\n", p->c.out);
}

static void print_final(bxc_prog *p, vertex *v)
{
	if (v->canceled) {
		fprintf(p->c.out, "#%u CANCELED\n", v->number);
	} else if (v->error) {
		fprintf(p->c.out, "#%u ERROR: %s\n", v->number, v->error);
	} else if (v->cached) {
		fprintf(p->c.out, "#%u CACHED\n", v->number);
	} else {
		BXC_AUTOFREE char *t = seconds_text(v->completed_ns - v->started_ns);
		fprintf(p->c.out, "#%u DONE %s\n", v->number, t);
	}
	fputc('\n', p->c.out);
	v->final_printed = true;
}

static void print_vertex(bxc_prog *p, vertex *v, int64_t now_ns)
{
	if (p->current != v) {
		if (p->current && !p->current->final_printed)
			fprintf(p->c.out, "#%u ...\n\n", p->current->number);
		p->current = v;
		p->current_since_ns = now_ns;
		print_header(p, v);
	}
	BXC_ARR_FOREACH (s, &v->statuses)
		if (s->dirty)
			print_status(p, v, s, now_ns);
	BXC_ARR_FOREACH (l, &v->pending) {
		fprintf(p->c.out, "#%u %s\n", v->number, *l);
		free(*l);
	}
	v->pending.n = 0;
	/* Others that run go before one that waits. */
	if (!v->started_ns) {
		fprintf(p->c.out, "#%u ...\n\n", v->number);
		p->current = NULL;
	}
	if (v->completed_ns) {
		if (v->final_printed)
			fputc('\n', p->c.out);
		else
			print_final(p, v);
		p->current = NULL;
	}
}

void plain_flush(bxc_prog *p, int64_t now_ns, bool all)
{
	if (!p->greeted && p->builder)
		fprintf(p->c.out, "#0 building with \"%s\" instance using bxc driver\n\n", p->builder);
	p->greeted = true;
	vertex *holder = p->current;
	if (holder && has_output(holder))
		print_vertex(p, holder, now_ns);
	BXC_ARR_FOREACH (v, &p->vertices)
		if ((*v)->completed_ns && has_output(*v))
			print_vertex(p, *v, now_ns);
	/* Whoever was interrupted by what has ended goes on, if it still has something to say. */
	if (!p->current && holder && has_output(holder))
		print_vertex(p, holder, now_ns);
	BXC_ARR_FOREACH (i, &p->vertices) {
		vertex *v = *i;
		bool may_switch = !p->current || now_ns - p->current_since_ns >= HOLD_NS || all;
		if (v != p->current && has_output(v) && may_switch)
			print_vertex(p, v, now_ns);
	}
	fflush(p->c.out);
}
