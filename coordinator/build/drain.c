/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers that are to get no more tasks: an operator has drained them, which is remembered by name
 * in the setting "workers.drained", or they are about to stop. What they run ends as ever, and
 * their layers can be had from them as long as they are connected.
 */
#include "coordinator/build/build_internal.h"

#include <inttypes.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define SETTING	    "workers.drained"
#define MAX_DRAINED 10000u

int drained_load(bxc_build *e, bxc_state *st, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *list = NULL;
	int r = setting_json(st, SETTING, &list, err);
	BXC_JSON_FOREACH (n, list)
		if (bxc_json_string(n) && !bxc_strv_has(e->drained, bxc_json_string(n)))
			bxc_strv_push(&e->drained, bxc_json_string(n));
	return r;
}

char *const *bxc_build_drained_workers(const bxc_build *e)
{
	return e->drained;
}

/* ---- the scheduler ---- */

void worker_to_scheduler(bxc_build *e, bxc_wrk_worker *w)
{
	const bxc_sched_worker facts = {
		.id = w->id,
		.native = w->platforms.v,
		.n_native = w->platforms.n,
		.emulated = w->emulated.v,
		.n_emulated = w->emulated.n,
		.slots = w->slots,
		.bandwidth = bxc_wrk_bandwidth(w),
	};
	bxc_sched_worker_add(e->sched, &facts);
	if (w->is_drained || w->is_leaving)
		bxc_sched_worker_drain(e->sched, w->id);
}

void worker_leaves(bxc_build *e, bxc_wrk_worker *w)
{
	size_t n = 0;
	uint64_t bytes = 0;
	w->is_leaving = true;
	bxc_wrk_only_here(e->c.workers, w, &n, &bytes);
	BXC_AUTOFREE char *layers = bxc_str_fmt("%zu", n);
	BXC_AUTOFREE char *size = bxc_str_fmt("%" PRIu64, bytes);
	bxc_log(BXC_LOG_NOTICE, "worker.leaving", "worker", w->name, "layers_only_there", layers,
		"bytes", size, NULL);
	worker_to_scheduler(e, w);
	pump(e);
	leavers_release(e);
}

/* Does a live build need a layer that only w could give? */
static bool is_needed(bxc_build *e, const bxc_wrk_worker *w)
{
	BXC_MAP_FOREACH (it, e->records) {
		const record *r = it.value;
		if (!bxc_solve_uses_record(e->solve, r->id))
			continue;
		BXC_ARR_FOREACH (l, &r->layers)
			if (!(*l)->registry && !(*l)->layout &&
				bxc_wrk_is_only_at(e->c.workers, w, (*l)->id))
				return true;
	}
	return false;
}

void leavers_release(bxc_build *e)
{
	for (size_t i = 0; i < bxc_wrk_count(e->c.workers); i++) {
		bxc_wrk_worker *w = bxc_wrk_at(e->c.workers, i);
		if (!w->is_leaving || w->is_released || w->running || is_needed(e, w))
			continue;
		w->is_released = true;
		bxc_json *j = bxc_json_object();
		bxc_json_set_str(j, "type", "released");
		worker_send(w, j);
	}
}

/* ---- an operator's word ---- */

struct keeping {
	char *text;
	bxc_err *err;
	bxc_build_drained done;
	void *ud;
};

static void keep_work(bxc_state *st, void *ud)
{
	struct keeping *k = ud;
	bxc_ignore(bxc_state_setting_set(st, SETTING, k->text, &k->err));
}

static void keep_done(void *ud)
{
	struct keeping *k = ud;
	k->done(BXC_TAKE(k->err), k->ud);
	free(k->text);
	free(k);
}

static int check(const bxc_build *e, const char *name, bool drain, bxc_err **err)
{
	if (bxc_strv_has(e->drained, name))
		return 0;
	if (!bxc_wrk_by_name(e->c.workers, name))
		return bxc_err_set(err, BXC_NOT_FOUND, "no worker '%.256s' is connected%s", name,
			drain ? "" : " or drained");
	if (drain && bxc_strv_len(e->drained) >= MAX_DRAINED)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u workers are drained",
			MAX_DRAINED);
	return 0;
}

void bxc_build_worker_drain(
	bxc_build *e, const char *name, bool drain, bxc_build_drained done, void *ud)
{
	bxc_err *err = NULL;
	if (check(e, name, drain, &err) < 0) {
		done(err, ud);
		return;
	}
	char **left = NULL;
	for (char **n = e->drained; n && *n; n++)
		if (!bxc_str_eq(*n, name))
			bxc_strv_push(&left, *n);
	if (drain)
		bxc_strv_push(&left, name);
	bxc_strv_free(e->drained);
	e->drained = left;
	bxc_wrk_worker *w = bxc_wrk_by_name(e->c.workers, name);
	bxc_log(BXC_LOG_NOTICE, drain ? "worker.drain" : "worker.undrain", "worker", name, NULL);
	if (w && w->is_drained != drain) {
		w->is_drained = drain;
		worker_to_scheduler(e, w);
	}
	BXC_AUTOJSON bxc_json *list = bxc_json_array();
	for (char **n = e->drained; n && *n; n++)
		bxc_json_push_str(list, *n);
	struct keeping *k = bxc_calloc(1, sizeof(*k));
	*k = (struct keeping){bxc_json_print(list), NULL, done, ud};
	bxc_db_submit(e->c.db, keep_work, keep_done, k);
	pump(e);
}
