/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attempts over a restart of the coordinator. A step that a worker is given is recorded, with the
 * key that equal work is recognised by; its result is recorded in one transaction with the end of
 * the attempt. A coordinator that starts again solves its builds anew: where it would run a step,
 * an attempt of the earlier run that still goes on, or has ended, is taken instead.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

void attempt_free(void *p)
{
	attempt *a = p;
	bxc_state_attempt_done(&a->row);
	free(a->result);
	free(a);
}

/* ---- the store ---- */

static void delete_work(bxc_state *st, void *ud)
{
	char *name = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	/* One that is left over is cancelled or passed over after the next start. */
	if (bxc_state_attempt_delete(st, name, &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "attempt.not_recorded", err, NULL);
	free(name);
}

void attempt_end(bxc_build *e, const char *name)
{
	bxc_db_submit(e->c.db, delete_work, NULL, bxc_strdup(name));
}

struct begin {
	bxc_build *e;
	bxc_state_attempt row;
	uint64_t worker;
	bxc_json *order; /* what its worker is sent then; NULL: it has it */
};

static void put_work(bxc_state *st, void *ud)
{
	struct begin *b = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_state_attempt_put(st, &b->row, &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "attempt.not_recorded", err, NULL);
}

static void put_done(void *ud)
{
	struct begin *b = ud;
	const task *t = bxc_map_get(b->e->tasks, b->row.task);
	bxc_wrk_worker *w = bxc_wrk_get(b->e->c.workers, b->worker);
	/* It may have been cancelled, or its worker lost, meanwhile. */
	if (b->order && w && t && t->worker == b->worker)
		worker_send(w, BXC_TAKE(b->order));
	bxc_json_free(b->order);
	bxc_state_attempt_done(&b->row);
	free(b);
}

bxc_state_attempt attempt_row(const task *t, const char *worker)
{
	BXC_AUTOJSON bxc_json *facts = bxc_json_object();
	bxc_json_set_str(facts, "output_layer", t->output_layer);
	uint64_t base = bxc_json_get_u64(t->body, "base_input", 0);
	if (t->is_adopted)
		bxc_json_set_take(
			facts, "layers", layers_to_json(t->adopted_base.v, t->adopted_base.n));
	else if (base < t->inputs.n)
		bxc_json_set_take(facts, "layers",
			layers_to_json(t->inputs.v[base].layers.v, t->inputs.v[base].layers.n));
	return (bxc_state_attempt){
		.task = bxc_strdup(t->name),
		.epoch = t->attempt,
		.key = t->key,
		.fresh = t->is_fresh,
		.build = bxc_strdup(t->build ? t->build->id : ""),
		.worker = bxc_strdup(worker),
		.facts = bxc_json_print(facts),
	};
}

void attempt_begin(bxc_build *e, task *t, const bxc_wrk_worker *w, bxc_json *order_take)
{
	struct begin *b = bxc_calloc(1, sizeof(*b));
	t->is_recorded = true;
	b->e = e;
	b->row = attempt_row(t, w->name);
	b->worker = w->id;
	b->order = order_take;
	bxc_db_submit(e->c.db, put_work, put_done, b);
}

/* Before the loop runs. */
int attempts_load(bxc_build *e, bxc_state *st, bxc_err **err)
{
	bxc_state_attempts list = {0};
	int r = bxc_state_attempt_list(st, &list, err);
	BXC_ARR_FOREACH (row, &list.items) {
		bxc_state_record rec = {0};
		if (r >= 0 && row->record) {
			BXC_AUTOERR bxc_err *why = NULL;
			if (bxc_state_record_get(st, row->record, &rec, &why) == -BXC_NOT_FOUND)
				row->record = 0;
			else if (why)
				r = bxc_err_move(err, BXC_TAKE(why));
		}
		if (r < 0)
			break;
		attempt *a = bxc_calloc(1, sizeof(*a));
		a->row = *row;
		*row = (bxc_state_attempt){0};
		a->result = BXC_TAKE(rec.result);
		bxc_state_record_done(&rec);
		bxc_map_set(e->attempts, a->row.task, a);
	}
	bxc_state_attempts_done(&list);
	return r < 0 ? r : 0;
}

/* ---- workers that come back ---- */

static void tell(bxc_wrk_worker *w, const char *type, const char *name, uint64_t epoch)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", type);
	bxc_json_set_str(j, "task", name);
	bxc_json_set_u64(j, "epoch", epoch);
	worker_send(w, j);
}

void attempt_forget(bxc_wrk_worker *w, const char *name)
{
	tell(w, "task.forget", name, 0);
}

void attempts_worker_joined(bxc_build *e, bxc_wrk_worker *w, const bxc_json *running)
{
	BXC_JSON_FOREACH (r, running) {
		const char *name = bxc_json_get_str(r, "task", "");
		attempt *a = bxc_map_get(e->attempts, name);
		if (a && !a->row.record && bxc_str_eq(a->row.worker, w->name) &&
			bxc_json_get_u64(r, "epoch", 0) == a->row.epoch)
			a->worker_id = w->id;
		else
			/* Given up, done elsewhere, or known by its result: what comes of it is not
			 * wanted. */
			tell(w, "task.cancel", name, 0);
	}
}

void attempts_worker_left(bxc_build *e, const bxc_wrk_worker *w)
{
	BXC_MAP_FOREACH (it, e->attempts) {
		attempt *a = it.value;
		if (a->worker_id == w->id)
			a->worker_id = 0;
	}
}

void attempts_over(bxc_build *e)
{
	BXC_MAP_FOREACH (it, e->attempts) {
		attempt *a = it.value;
		bxc_wrk_worker *w = a->worker_id ? bxc_wrk_get(e->c.workers, a->worker_id) : NULL;
		if (w)
			tell(w, "task.cancel", a->row.task, 0);
		attempt_end(e, a->row.task);
		bxc_map_del(e->attempts, it.key);
	}
}

/* ---- steps ---- */

static attempt *find(bxc_build *e, const bxc_solve_action *a, bool fresh)
{
	const build *b = build_by_num(e, a->build);
	BXC_MAP_FOREACH (it, e->attempts) {
		attempt *at = it.value;
		if (!bxc_digest_eq(&at->row.key, &a->key) || at->row.fresh != fresh)
			continue;
		if (at->row.record ? !fresh || (b && bxc_str_eq(b->id, at->row.build))
				   : at->worker_id != 0)
			return at;
	}
	return NULL;
}

static bool take_result(bxc_build *e, attempt *at, const bxc_solve_action *a)
{
	uint64_t id = at->row.record;
	bool there = at->result && record_load(e, id, at->result);
	bxc_map_del(e->attempts, at->row.task);
	if (there)
		bxc_solve_run_done(e->solve, a->ticket, id);
	return there;
}

static int read_facts(bxc_build *e, task *t, const attempt *at, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	const char *output;
	int r = bxc_json_parse(bxc_slice_of(at->row.facts, strlen(at->row.facts)), &j, err);
	if (r >= 0)
		r = bxc_json_need_str(j, "output_layer", &output, err);
	if (r < 0)
		return r;
	t->output_layer = bxc_strdup(output);
	BXC_JSON_FOREACH (l, bxc_json_get(j, "layers")) {
		size_t n_below = t->adopted_base.n;
		r = layer_from_json(e, l, n_below, bxc_arr_push(&t->adopted_base), err);
		if (r < 0) {
			t->adopted_base.n--;
			return r;
		}
	}
	return 0;
}

static bool adopt(bxc_build *e, attempt *at, const bxc_solve_action *a)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_wrk_worker *w = bxc_wrk_get(e->c.workers, at->worker_id);
	task *t = task_named(e, TASK_RUN, build_by_num(e, a->build), at->row.task);
	int r = read_facts(e, t, at, &err);
	if (!w || r < 0) {
		bxc_log_err(BXC_LOG_WARN, "attempt.not_adopted", err, "task", t->name, NULL);
		task_drop(e, t);
		bxc_map_del(e->attempts, at->row.task);
		return false;
	}
	bxc_log(BXC_LOG_NOTICE, "attempt.adopted", "task", t->name, "worker", w->name, NULL);
	t->is_adopted = t->is_recorded = true;
	t->attempt = (uint32_t)at->row.epoch;
	t->log_n = UINT64_MAX; /* nothing counts before it has answered */
	task_of_run(e, t, a);
	bxc_map_del(e->attempts, t->name);
	task_on_worker(e, t, w);
	attempt_begin(e, t, w, NULL); /* the build may be another one now */
	tell(w, "task.adopt", t->name, t->attempt);
	return true;
}

bool attempt_take(bxc_build *e, const bxc_solve_action *a)
{
	if (bxc_map_len(e->attempts) == 0)
		return false;
	for (attempt *at; (at = find(e, a, a->fresh));)
		if (at->row.record ? take_result(e, at, a) : adopt(e, at, a))
			return true;
	return false;
}
