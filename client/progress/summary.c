/* SPDX-License-Identifier: Apache-2.0 */
/* What the terminal view ends with: what ran, where the time went, and what the whole waited for.
 */
#include <string.h>

#include "client/progress/progress_internal.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define SLOWEST	       3u
#define PATH_LINES     8u
#define PATH_MAX_STEPS 10000u
#define SHORT_NS       (BXC_NS_PER_S / 10) /* what took less is not worth a line */

static int64_t took(const vertex *v)
{
	return v->started_ns && v->completed_ns > v->started_ns ? v->completed_ns - v->started_ns
								: 0;
}

/* Of the Dockerfile: "[build 2/4] RUN ..."; other brackets are the engine's own. */
static bool is_step(const vertex *v)
{
	return v->name && v->name[0] == '[' && !bxc_str_has_prefix(v->name, "[internal]") &&
	       !bxc_str_has_prefix(v->name, "[auth]");
}

static bool is_output(const vertex *v)
{
	return v->name && (bxc_str_has_prefix(v->name, "exporting") ||
				  bxc_str_has_prefix(v->name, "pushing") ||
				  bxc_str_has_prefix(v->name, "copying"));
}

static void add_count(char ***parts, size_t n, const char *what)
{
	if (n)
		bxc_strv_pushf(parts, "%zu %s", n, what);
}

static char *counts(const bxc_prog *p)
{
	size_t n = 0, ran = 0, cached = 0, failed = 0, cancelled = 0, skipped = 0;
	BXC_AUTOSTRV char **parts = NULL, **workers = NULL;
	BXC_ARR_FOREACH (it, &p->vertices) {
		const vertex *v = *it;
		if (!is_step(v))
			continue;
		n++;
		size_t *to = v->error	     ? &failed
			     : v->canceled   ? &cancelled
			     : v->cached     ? &cached
			     : v->started_ns ? &ran
					     : &skipped;
		++*to;
		if (v->worker && v->started_ns && !v->cached && !bxc_strv_has(workers, v->worker))
			bxc_strv_push(&workers, v->worker);
	}
	if (!n)
		return NULL;
	add_count(&parts, ran, "ran");
	add_count(&parts, cached, "cached");
	add_count(&parts, failed, "failed");
	add_count(&parts, cancelled, "cancelled");
	add_count(&parts, skipped, "skipped");
	BXC_AUTOFREE char *list = bxc_strv_join(parts, ", ");
	size_t n_workers = bxc_strv_len(workers);
	BXC_AUTOFREE char *where =
		n_workers > 1 ? bxc_str_fmt(", on %zu workers", n_workers) : bxc_strdup("");
	return bxc_str_fmt("%zu step%s: %s%s", n, n == 1 ? "" : "s", list, where);
}

static char *times(const bxc_prog *p)
{
	int64_t steps = 0, outputs = 0, rest = 0;
	BXC_ARR_FOREACH (it, &p->vertices)
		*(is_step(*it)		 ? &steps
			: is_output(*it) ? &outputs
					 : &rest) += (*it)->cached ? 0 : took(*it);
	BXC_AUTOFREE char *a = seconds_text(steps), *b = seconds_text(outputs),
			  *c = seconds_text(rest);
	return bxc_str_fmt("time: %s in steps, %s in outputs, %s in all else", a, b, c);
}

static int slower_first(const void *a, const void *b)
{
	int64_t x = took(*(vertex *const *)a), y = took(*(vertex *const *)b);
	return x < y ? 1 : x > y ? -1 : 0;
}

static void entry(char ***out, const vertex *v)
{
	BXC_AUTOFREE char *time = seconds_text(took(v));
	bxc_strv_pushf(out, "  %7s  %s%s%s", time, v->name ? v->name : "",
		v->worker && v->started_ns ? " @" : "",
		v->worker && v->started_ns ? v->worker : "");
}

static void slowest(const bxc_prog *p, char ***out)
{
	BXC_AUTOFREE vertex **all = bxc_memdup(p->vertices.v, p->vertices.n * sizeof(*all));
	size_t n = 0;
	for (size_t i = 0; i < p->vertices.n; i++)
		if (is_step(all[i]) && !all[i]->cached && took(all[i]) >= SHORT_NS)
			all[n++] = all[i];
	if (n < 2)
		return;
	qsort(all, n, sizeof(*all), slower_first);
	bxc_strv_push(out, "slowest steps:");
	for (size_t i = 0; i < BXC_MIN(n, (size_t)SLOWEST); i++)
		entry(out, all[i]);
}

/* The last to end before `v` began: of its inputs, else, for what has none (outputs), of all. */
static const vertex *waited_for(bxc_prog *p, const vertex *v)
{
	const vertex *best = NULL;
	for (char *const *d = v->inputs; d && *d; d++) {
		const vertex *in = vertex_find(p, *d);
		if (in && in != v && in->completed_ns && in->completed_ns <= v->started_ns &&
			(!best || in->completed_ns > best->completed_ns))
			best = in;
	}
	if (best || (v->inputs && v->inputs[0]))
		return best;
	BXC_ARR_FOREACH (it, &p->vertices)
		if (*it != v && (*it)->completed_ns && (*it)->completed_ns <= v->started_ns &&
			(*it)->started_ns < v->started_ns &&
			(!best || (*it)->completed_ns > best->completed_ns))
			best = *it;
	return best;
}

static void critical_path(bxc_prog *p, char ***out)
{
	const vertex *last = NULL;
	BXC_ARR(const vertex *) path = {0};
	BXC_ARR_FOREACH (it, &p->vertices)
		if ((*it)->completed_ns && (!last || (*it)->completed_ns > last->completed_ns))
			last = *it;
	int64_t begin = last ? last->started_ns : 0;
	size_t guard = 0;
	for (const vertex *v = last; v && guard++ < PATH_MAX_STEPS; v = waited_for(p, v)) {
		begin = v->started_ns ? BXC_MIN(begin, v->started_ns) : begin;
		if (!v->cached && took(v) >= SHORT_NS)
			*bxc_arr_push(&path) = v;
	}
	if (path.n > 1) {
		BXC_AUTOFREE char *time = seconds_text(last->completed_ns - begin);
		bxc_strv_pushf(out, "critical path, %s:", time);
		/* The longest ones when there are many, in the order in which they ran. */
		int64_t least = 0;
		if (path.n > PATH_LINES) {
			BXC_AUTOFREE vertex **sorted = bxc_memdup(path.v, path.n * sizeof(*sorted));
			qsort(sorted, path.n, sizeof(*sorted), slower_first);
			least = took(sorted[PATH_LINES - 1]);
		}
		size_t shown = 0;
		for (size_t i = path.n; i-- > 0 && shown < PATH_LINES;)
			if (took(path.v[i]) >= least) {
				entry(out, path.v[i]);
				shown++;
			}
		if (shown < path.n)
			bxc_strv_pushf(out, "           and %zu more", path.n - shown);
	}
	bxc_arr_done(&path);
}

char **summary_lines(bxc_prog *p)
{
	char **out = NULL;
	char *head = counts(p);
	if (!head)
		return NULL;
	bxc_strv_push_take(&out, head);
	bool any = false;
	BXC_ARR_FOREACH (it, &p->vertices)
		any = any || (!(*it)->cached && took(*it) >= SHORT_NS);
	if (any) {
		bxc_strv_push_take(&out, times(p));
		slowest(p, &out);
		critical_path(p, &out);
	}
	return out;
}
