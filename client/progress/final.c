/* SPDX-License-Identifier: Apache-2.0 */
/* What a build leaves on the screen: its warnings, and why it failed. */
#include "client/progress/progress_internal.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define CONTEXT_LINES 4u             /* shown around the marked ones, in all */

static void print_tail(bxc_prog *p, const vertex *v)
{
	if (!v->n_lines)
		return;
	fprintf(p->c.out, "------\n > %s:\n", v->name);
	size_t n = BXC_MIN(v->n_lines, (size_t)LOG_TAIL_LINES);
	for (size_t i = v->n_lines - n; i < v->n_lines; i++)
		fprintf(p->c.out, "%s\n", v->tail[i % LOG_TAIL_LINES]);
	fputs("------\n", p->c.out);
}

/* The marked lines with what stands around them, shared out before and after. */
void bxc_prog_excerpt(FILE *out, const char *name, const char *text, uint64_t first, uint64_t last)
{
	BXC_AUTOSTRV char **lines = bxc_strv_split(text, '\n');
	uint64_t n = bxc_strv_len(lines);
	if (first < 1 || first > n)
		return;
	last = BXC_MIN(BXC_MAX(last, first), n);
	uint64_t from = first, to = last;
	for (unsigned pad = 0; pad < CONTEXT_LINES;) {
		unsigned before = pad;
		if (from > 1) {
			from--;
			pad++;
		}
		if (to < n && pad < CONTEXT_LINES + 1) {
			to++;
			pad++;
		}
		if (pad == before)
			break;
	}
	fprintf(out, "%s:%llu\n--------------------\n", name, (unsigned long long)first);
	for (uint64_t i = from; i <= to; i++) {
		size_t len = strlen(lines[i - 1]);
		if (len && lines[i - 1][len - 1] == '\r')
			lines[i - 1][len - 1] = '\0';
		fprintf(out, "%4llu | %s%s\n", (unsigned long long)i, i >= first && i <= last ? ">>> " : "    ", lines[i - 1]);
	}
	fputs("--------------------\n", out);
}

/* The place of an event or error, when the file is the one that is known. */
static void print_place(bxc_prog *p, const char *file, uint64_t first, uint64_t last)
{
	if (first && p->source && bxc_str_eq(p->source_name, file))
		bxc_prog_excerpt(p->c.out, p->source_name, p->source, first, last);
}

void final_warnings(bxc_prog *p)
{
	if (!p->warnings.n)
		return;
	fprintf(p->c.out, "\n %s%zu warning%s found%s:\n%s", p->c.color ? "\x1b[33m" : "", p->warnings.n, p->warnings.n == 1 ? "" : "s",
		p->c.debug ? "" : " (use --debug to expand)", p->c.color ? "\x1b[0m" : "");
	BXC_ARR_FOREACH (w, &p->warnings) {
		BXC_AUTOFREE char *text = one_line(bxc_json_get_str(*w, "short", ""));
		fprintf(p->c.out, " - %s\n", text);
		if (!p->c.debug)
			continue;
		BXC_JSON_FOREACH (d, bxc_json_get(*w, "detail"))
			fprintf(p->c.out, "%s\n", bxc_json_string(d) ? bxc_json_string(d) : "");
		const char *url = bxc_json_get_str(*w, "url", NULL);
		if (url)
			fprintf(p->c.out, "More info: %s\n", url);
		uint64_t line = bxc_json_get_u64(*w, "line_start", 0);
		print_place(p, bxc_json_get_str(*w, "file", NULL), line, bxc_json_get_u64(*w, "line_end", line));
		fputc('\n', p->c.out);
	}
}

void final_block(bxc_prog *p, const bxc_json *error)
{
	const bxc_json *d = bxc_json_get(error, "details");
	bool canceled = bxc_str_eq(bxc_json_get_str(error, "code", ""), "CANCELED");
	if (!canceled) {
		const vertex *v = vertex_find(p, bxc_json_get_str(d, "vertex", NULL));
		if (v)
			print_tail(p, v);
		uint64_t line = bxc_json_get_u64(d, "line", 0);
		print_place(p, bxc_json_get_str(d, "file", NULL), line, bxc_json_get_u64(d, "line_end", line));
	}
	fprintf(p->c.out, "ERROR: failed to build: failed to solve: %s\n",
		canceled ? "Canceled: context canceled" : bxc_json_get_str(error, "message", "unknown error"));
}
