/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers: a step beside the nearest earlier one. All on the thread of the store, a page of steps
 * at a time.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/mem.h"
#include "common/base/str.h"

#define PAGE_STEPS 50u /* of one answer */
#define ALIKE	   8u  /* earlier steps that are compared, of each kind */
#define TOLD_FILES 4u  /* differences of one step for which the path is looked for */

static int parse_facts(const bxc_state_step *s, bxc_json **ret, bxc_err **err)
{
	return bxc_err_wrap(err, bxc_json_parse(bxc_slice_of(s->facts, strlen(s->facts)), ret, err),
		"facts of a step");
}

/* ---- the nearest ---- */

struct nearest {
	char *build; /* NULL: there is none */
	uint64_t number, record;
	bxc_json *diffs;
	size_t n;
};

static void nearest_done(struct nearest *n)
{
	free(n->build);
	bxc_json_free(n->diffs);
}
#define AUTO_NEAREST BXC_CLEANUP(nearest_done)

/* The first of those that differ least: the latest, and one of its lineage before others. */
static int consider(
	struct nearest *best, const bxc_state_step *s, const bxc_json *parts, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *facts = NULL;
	int r = parse_facts(s, &facts, err);
	if (r < 0)
		return r;
	size_t n;
	BXC_AUTOJSON bxc_json *diffs = bxc_why_compare(bxc_json_get(facts, "parts"), parts, &n);
	if (best->build && n >= best->n)
		return 0;
	nearest_done(best);
	*best = (struct nearest){bxc_strdup(s->build), s->number, s->record, BXC_TAKE(diffs), n};
	return 0;
}

static int find_nearest(bxc_state *st, const bxc_state_step *s, const bxc_json *facts,
	struct nearest *ret, bxc_err **err)
{
	bxc_state_steps list = {0};
	int r = bxc_state_steps_by_lineage(st, s, ALIKE, &list, err);
	if (r >= 0)
		r = bxc_state_steps_by_shape(st, s, ALIKE, &list, err);
	for (size_t i = 0; r >= 0 && i < list.items.n; i++)
		r = consider(ret, &list.items.v[i], bxc_json_get(facts, "parts"), err);
	bxc_state_steps_done(&list);
	return r;
}

/* ---- what differs ---- */

static int get_manifest(bxc_state *st, const char *name, char **ret, bxc_err **err)
{
	bxc_digest d;
	int r = bxc_digest_parse(name, &d, err);
	return r < 0 ? r : bxc_state_manifest_get(st, &d, ret, err);
}

/* The path that differs, in place of the digest of all of them; 0: not known. */
static int find_path(bxc_state *st, const bxc_json *diff, bxc_json **ret, bxc_err **err)
{
	const char *old = bxc_json_get_str(diff, "old_manifest", NULL),
		   *now = bxc_json_get_str(diff, "new_manifest", NULL);
	BXC_AUTOFREE char *old_text = NULL, *now_text = NULL;
	if (!old || !now)
		return 0;
	int r = get_manifest(st, old, &old_text, err);
	if (r > 0)
		r = get_manifest(st, now, &now_text, err);
	if (r > 0)
		r = bxc_why_compare_files(old_text, now_text, ret, err);
	if (r > 0)
		bxc_json_set_str(*ret, "context", bxc_json_get_str(diff, "name", NULL));
	return r;
}

/* An input that is new because its step ran: that one has a reason of its own. */
static int find_step(bxc_state *st, const bxc_state_step *of, bxc_json *diff, bxc_err **err)
{
	const char *vertex = bxc_json_get_str(diff, "vertex", NULL);
	bxc_digest d;
	bxc_state_step s = {0};
	if (!vertex || bxc_digest_parse(vertex, &d, NULL) < 0)
		return 0;
	int r = bxc_state_step_get(st, of->build, &d, &s, err);
	if (r > 0) {
		bxc_json_set_u64(diff, "step", s.number);
		bxc_json_set_str(diff, "outcome", s.outcome);
	}
	bxc_state_step_done(&s);
	return r;
}

static char *diff_text(const bxc_json *diff)
{
	uint64_t step = bxc_json_get_u64(diff, "step", 0);
	bool ran = bxc_str_eq(bxc_json_get_str(diff, "outcome", ""), "executed");
	if (!step || !ran)
		return bxc_why_text(diff);
	BXC_AUTOFREE char *name = bxc_str_one_line(bxc_strdup(bxc_json_get_str(diff, "name", "")));
	return bxc_str_fmt("input #%llu %s, which was executed", (unsigned long long)step, name);
}

static int tell_differences(bxc_state *st, const bxc_state_step *s, const struct nearest *best,
	bxc_json *why, bxc_err **err)
{
	bxc_json *list = bxc_json_add_array(why, "differences");
	size_t n_files = 0;
	int r = 0;
	BXC_JSON_FOREACH (d, best->diffs) {
		BXC_AUTOJSON bxc_json *told = NULL;
		if (n_files < TOLD_FILES && bxc_json_get(d, "old_manifest")) {
			n_files++;
			r = find_path(st, d, &told, err);
		}
		if (r >= 0 && !told) {
			told = bxc_json_dup(d);
			bxc_json_del(told, "old_manifest");
			bxc_json_del(told, "new_manifest");
			r = find_step(st, s, told, err);
		}
		if (r < 0)
			return r;
		BXC_AUTOFREE char *words = diff_text(told);
		bxc_json_set_str(told, "text", words);
		bxc_json_push_take(list, BXC_TAKE(told));
	}
	const char *first = bxc_json_get_str(bxc_json_first(list), "text", "");
	BXC_AUTOFREE char *more =
		best->n > 1 ? bxc_str_fmt(" (and %zu more)", best->n - 1) : bxc_strdup("");
	BXC_AUTOFREE char *text =
		bxc_str_fmt("differs from build %s: %s%s", best->build, first, more);
	bxc_json_set_u64(why, "n_differences", best->n);
	bxc_json_set_str(why, "text", text);
	return 0;
}

static int tell_evicted(bxc_state *st, const struct nearest *best, bxc_json *why, bxc_err **err)
{
	bxc_state_record rec = {0};
	BXC_AUTOERR bxc_err *none = NULL;
	int r = bxc_state_record_get(st, best->record, &rec, &none);
	bool is_kept = r >= 0;
	bxc_state_record_done(&rec);
	if (r < 0 && r != -BXC_NOT_FOUND)
		return bxc_err_move(err, BXC_TAKE(none));
	BXC_AUTOFREE char *text =
		bxc_str_fmt("evicted: the equal result of build %s %s", best->build,
			is_kept ? "was on no worker that was connected" : "is not kept any more");
	bxc_json_set_str(why, "text", text);
	return 0;
}

static void set_reason(bxc_json *why, const char *reason, const char *text)
{
	bxc_json_set_str(why, "reason", reason);
	bxc_json_set_str(why, "text", text);
}

static int tell_why(
	bxc_state *st, const bxc_state_step *s, const bxc_json *facts, bxc_json *why, bxc_err **err)
{
	const char *miss = bxc_json_get_str(facts, "miss", "");
	AUTO_NEAREST struct nearest best = {0};
	if (bxc_str_eq(miss, "no-cache")) {
		set_reason(why, miss, "no-cache: the cache was not to be used");
		return 0;
	}
	if (bxc_str_eq(miss, "lost")) {
		set_reason(why, miss, "lost: its result vanished while the build needed it");
		return 0;
	}
	int r = find_nearest(st, s, facts, &best, err);
	if (r < 0)
		return r;
	if (!best.build) {
		set_reason(
			why, "never-seen", "never seen: there is no earlier record of this step");
		return 0;
	}
	bxc_json_set_str(why, "build", best.build);
	bxc_json_set_u64(why, "step", best.number);
	bxc_json_set_str(why, "reason", best.n ? "differs" : "evicted");
	return best.n ? tell_differences(st, s, &best, why, err)
		      : tell_evicted(st, &best, why, err);
}

/* ---- steps ---- */

static void tell_maker(const bxc_json *facts, bxc_json *step)
{
	const bxc_json *by = bxc_json_get(facts, "made_by");
	const char *by_build = bxc_json_get_str(by, "build", NULL),
		   *worker = bxc_json_get_str(by, "worker", NULL);
	if (by)
		bxc_json_set_take(step, "made_by", bxc_json_dup(by));
	BXC_AUTOFREE char *text = by_build && worker
					  ? bxc_str_fmt("made by build %s on %s", by_build, worker)
				  : by_build ? bxc_str_fmt("made by build %s", by_build)
					     : bxc_strdup("known from before");
	bxc_json_set_str(step, "text", text);
}

int explain_step(bxc_state *st, const bxc_state_step *s, bxc_json **ret, bxc_err **err)
{
	static const char *const copied[] = {"name", "stage", "platform", "worker", "shared_with"};
	BXC_AUTOJSON bxc_json *facts = NULL, *j = bxc_json_object();
	char d[BXC_DIGEST_STR_MAX];
	int r = parse_facts(s, &facts, err);
	if (r < 0)
		return r;
	bxc_json_set_u64(j, "step", s->number);
	bxc_json_set_str(j, "vertex", bxc_digest_str(&s->vertex, d));
	for (size_t i = 0; i < BXC_ARRAY_SIZE(copied); i++)
		bxc_json_set_str(j, copied[i], bxc_json_get_str(facts, copied[i], NULL));
	bxc_json_set_str(j, "outcome", s->outcome);
	if (bxc_json_get(facts, "duration_ns"))
		bxc_json_set_ns(j, "duration_ns", bxc_json_get_i64(facts, "duration_ns", 0));
	if (bxc_str_eq(s->outcome, "hit")) {
		tell_maker(facts, j);
	} else {
		bxc_json *why = bxc_json_add_object(j, "why");
		r = tell_why(st, s, facts, why, err);
		if (r < 0)
			return r;
		bxc_json_set_str(j, "text", bxc_json_get_str(why, "text", ""));
		bxc_json_del(why, "text");
	}
	*ret = BXC_TAKE(j);
	return 0;
}

/* "7-<hex>": the last step of the page before. */
static int read_cursor(const char *text, bxc_state_step *ret, bxc_err **err)
{
	const char *dash = strchr(text, '-');
	BXC_AUTOFREE char *n = bxc_strndup(text, dash ? (size_t)(dash - text) : 0);
	BXC_AUTOFREE char *digest = bxc_str_fmt("sha256:%s", dash ? dash + 1 : "");
	int r = bxc_str_to_u64(n, 0, INT64_MAX, &ret->number, err);
	if (r >= 0)
		r = bxc_digest_parse(digest, &ret->vertex, err);
	return bxc_err_wrap(err, r, "after");
}

static void set_cursor(bxc_json *j, const bxc_state_step *last)
{
	char d[BXC_DIGEST_STR_MAX];
	bxc_digest_str(&last->vertex, d);
	BXC_AUTOFREE char *text =
		bxc_str_fmt("%llu-%s", (unsigned long long)last->number, d + strlen("sha256:"));
	bxc_json_set_str(j, "next", text);
}

/* Right before the steps of that number. */
static bxc_state_step before(uint64_t number)
{
	bxc_state_step s = {.number = number - 1, .vertex = {.alg = 1}};
	memset(s.vertex.b, 0xff, sizeof(s.vertex.b));
	return s;
}

static int tell_page(bxc_state *st, const char *id, const bxc_state_step *after, uint64_t only,
	bxc_json *ret, bxc_err **err)
{
	bxc_state_steps list = {0};
	size_t limit = only ? 1 : PAGE_STEPS;
	int r = bxc_state_steps_of_build(st, id, after, limit, &list, err);
	if (r >= 0 && only && (list.items.n == 0 || list.items.v[0].number != only))
		r = bxc_err_set(err, BXC_NOT_FOUND,
			"build '%s' has no step %llu that could be explained", id,
			(unsigned long long)only);
	bxc_json *steps = bxc_json_add_array(ret, "steps");
	for (size_t i = 0; r >= 0 && i < list.items.n; i++) {
		bxc_json *j = NULL;
		r = explain_step(st, &list.items.v[i], &j, err);
		if (r >= 0)
			bxc_json_push_take(steps, j);
	}
	if (r >= 0 && !only && list.items.n == limit)
		set_cursor(ret, &list.items.v[list.items.n - 1]);
	bxc_state_steps_done(&list);
	return r;
}

int bxc_build_why(bxc_state *st, const char *id, uint64_t step, const char *after, bxc_json **ret,
	bxc_err **err)
{
	bxc_state_build b = {0};
	bxc_state_step from = {0};
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	int r = bxc_state_build_get(st, id, &b, err);
	bxc_state_build_done(&b);
	if (r >= 0 && after)
		r = read_cursor(after, &from, err);
	if (r < 0)
		return r;
	if (step)
		from = before(step);
	bxc_json_set_str(j, "build", id);
	r = tell_page(st, id, step || after ? &from : NULL, step, j, err);
	if (r >= 0)
		*ret = BXC_TAKE(j);
	return r;
}
