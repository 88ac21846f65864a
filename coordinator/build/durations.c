/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the scheduler's estimates are made of: how long steps took, kept in the store, and how fast
 * bytes come to workers, measured by them.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

int durations_load(bxc_build *e, bxc_state *st, bxc_err **err)
{
	BXC_CLEANUP(bxc_state_durations_done) bxc_state_durations list = {0};
	/* The store holds somewhat more between two trims. */
	int r = bxc_state_durations_trim(st, BXC_LEARN_KEYS, err);
	if (r >= 0)
		r = bxc_state_duration_list(st, BXC_LEARN_KEYS, &list, err);
	BXC_ARR_FOREACH (d, &list.items) {
		BXC_AUTOERR bxc_err *why = NULL;
		if (r >= 0 && bxc_learn_read(e->learned, &d->key, d->times, &why) < 0)
			bxc_log_err(BXC_LOG_WARN, "duration.unreadable", why, NULL);
	}
	return r < 0 ? r : 0;
}

void durations_of_build(build *b)
{
	free(b->path_ns);
	b->path_ns = bxc_calloc(b->def->vertices.n, sizeof(*b->path_ns));
	bxc_learn_paths(b->engine->learned, b->def, BXC_SCHED_DEFAULT_COST_NS, b->path_ns);
}

void duration_expect(bxc_build *e, task *t, const bxc_solve_action *a)
{
	const build *b = build_by_num(e, a->build);
	t->learn = bxc_learn_keys_of(a->def);
	for (size_t i = 0; b && b->def && i < b->def->vertices.n; i++)
		if (b->def->vertices.v[i] == a->def)
			t->path_ns = b->path_ns[i];
}

/* ---- what is learned ---- */

struct learned {
	bxc_state_duration rows[2];
	size_t n;
};

static void put_work(bxc_state *st, void *ud)
{
	struct learned *k = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	int r = 0;
	for (size_t i = 0; i < k->n; i++) {
		if (r >= 0)
			r = bxc_state_duration_put(st, &k->rows[i], &err);
		free(k->rows[i].times);
	}
	/* Without it the next coordinator expects something else: no harm but a worse guess. */
	if (r < 0)
		bxc_log_err(BXC_LOG_WARN, "duration.not_recorded", err, NULL);
	free(k);
}

void duration_learn(bxc_build *e, const task *t, const bxc_wrk_worker *w, int64_t ns)
{
	if (!bxc_digest_is_set(&t->learn.step) || ns <= 0)
		return;
	bool is_native = !t->platform.os[0];
	BXC_ARR_FOREACH (p, &w->platforms)
		is_native |= bxc_platform_match(p, &t->platform) >= 0;
	bxc_learn_add(e->learned, &t->learn, is_native ? ns : ns / BXC_SCHED_EMULATION_FACTOR);
	const bxc_digest *keys[] = {&t->learn.step, &t->learn.shape};
	struct learned *k = bxc_calloc(1, sizeof(*k));
	for (size_t i = 0; i < BXC_ARRAY_SIZE(keys); i++) {
		char text[BXC_LEARN_TEXT_MAX];
		if (bxc_learn_text(e->learned, keys[i], text))
			k->rows[k->n++] = (bxc_state_duration){
				*keys[i], bxc_clock_wall_ns(), bxc_strdup(text)};
	}
	bxc_db_submit(e->c.db, put_work, NULL, k);
}

/* ---- transfers ---- */

int transfer_message(bxc_build *e, bxc_wrk_worker *w, const bxc_json *msg, bxc_err **err)
{
	const char *from;
	uint64_t bytes;
	int r = bxc_json_need_str(msg, "from", &from, err);
	if (r >= 0)
		r = bxc_json_need_u64(msg, "bytes", BXC_LIMIT_BLOB, &bytes, err);
	if (r >= 0)
		r = bxc_wrk_transfer(w, from, bytes, bxc_json_get_i64(msg, "duration_ns", 0), err);
	if (r < 0)
		return bxc_err_wrap(err, r, "transfer");
	bxc_sched_worker_bandwidth(e->sched, w->id, bxc_wrk_bandwidth(w));
	return 0;
}
