/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds that are to be cached (--expect-cached): nothing runs for them. Once all is known that can
 * be known without running a step, those that would run are told, each with its reason, and the
 * build fails.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define TOLD_STEPS 8u /* in the error; events tell them all */

int expect_read(const build *b, bxc_err **err)
{
	const bxc_json *j = bxc_json_get(b->request, "expect_cached");
	bool on = false;
	if (!j || bxc_json_is_null(j))
		return 0;
	if (!bxc_json_as_bool(j, &on))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "expect_cached: expected true or false");
	if (on && (bxc_json_get_bool(b->request, "no_cache", false) ||
			  bxc_strv_len(b->no_cache_filter)))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"expect_cached: nothing is cached for a build that does not use the cache");
	return 0;
}

bool expect_is_on(const build *b)
{
	return bxc_json_get_bool(b->request, "expect_cached", false);
}

void expect_missed(build *b, uint32_t index)
{
	*bxc_arr_push(&explain_of(b)->missed) = index;
	b->engine->any_missed = true;
}

bool expect_has_missed(const build *b)
{
	return b->explaining && b->explaining->missed.n;
}

struct ending {
	build *b;
	size_t n;
	bxc_digest *vertices;
	char **texts; /* strv, parallel */
};

static char *reason_of(bxc_state *st, const char *id, const bxc_digest *vertex)
{
	bxc_state_step s = {0};
	BXC_AUTOJSON bxc_json *j = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	int r = bxc_state_step_get(st, id, vertex, &s, &err);
	if (r > 0)
		r = explain_step(st, &s, &j, &err);
	bxc_state_step_done(&s);
	if (r < 0)
		bxc_log_err(BXC_LOG_WARN, "step.not_explained", err, "build", id, NULL);
	return bxc_strdup(bxc_json_get_str(j, "text", "the reason is not recorded"));
}

static void ending_work(bxc_state *st, void *ud)
{
	struct ending *x = ud;
	for (size_t i = 0; i < x->n; i++)
		bxc_strv_push_take(&x->texts, reason_of(st, x->b->id, &x->vertices[i]));
}

static void ending_done(void *ud)
{
	struct ending *x = ud;
	build *b = x->b;
	BXC_AUTOSTRV char **told = NULL;
	for (size_t i = 0; !b->dead && i < x->n; i++) {
		uint32_t index = b->explaining->missed.v[i];
		const char *name = b->def->vertices.v[index]->meta.name;
		report_missed(b, index, x->texts[i]);
		if (i < TOLD_STEPS)
			bxc_strv_pushf(&told, "%s (%s)", name ? name : "", x->texts[i]);
	}
	if (!b->dead) {
		BXC_AUTOFREE char *list = bxc_strv_join(told, "; ");
		bxc_err *err = NULL;
		bxc_ignore(bxc_err_set(&err, BXC_FAILED_PRECONDITION,
			"%zu step%s not cached, nothing was run: %s%s", x->n,
			x->n == 1 ? " is" : "s are", list, x->n > TOLD_STEPS ? "; ..." : ""));
		build_fail(b, err);
	}
	free(x->vertices);
	bxc_strv_free(x->texts);
	free(x);
	b->jobs--;
	build_job_done(b);
}

void expect_end(build *b)
{
	const explaining *m = b->explaining;
	if (m->is_ending)
		return;
	struct ending *x = bxc_calloc(1, sizeof(*x));
	b->explaining->is_ending = true;
	x->b = b;
	x->n = m->missed.n;
	x->vertices = bxc_calloc(x->n, sizeof(*x->vertices));
	for (size_t i = 0; i < x->n; i++)
		x->vertices[i] = b->def->vertices.v[m->missed.v[i]]->digest;
	b->jobs++;
	explain_flush(b->engine);
	/* After what is kept of the steps: the store takes its jobs in order. */
	bxc_db_submit(b->engine->c.db, ending_work, ending_done, x);
}

void expect_check(bxc_build *e)
{
	if (!e->any_missed)
		return;
	e->any_missed = false;
	BXC_MAP_FOREACH (it, e->builds) {
		build *b = it.value;
		if (!expect_has_missed(b) || b->explaining->is_ending)
			continue;
		if (bxc_solve_is_stuck(e->solve, b->num))
			expect_end(b);
		else
			e->any_missed = true;
	}
}
