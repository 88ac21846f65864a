/* SPDX-License-Identifier: Apache-2.0 */
/* Results: what a vertex yielded, as layers, and whether they can still be had. */
#include "coordinator/build/build_internal.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

layer *layer_get(bxc_build *e, const char *id)
{
	layer *l = bxc_map_get(e->layers, id);
	if (l)
		return l;
	l = bxc_calloc(1, sizeof(*l));
	l->id = bxc_strdup(id);
	l->n_below = UINT32_MAX;
	bxc_map_set(e->layers, id, l);
	return l;
}

void layer_free(void *p)
{
	layer *l = p;
	bxc_descriptor_done(&l->blob);
	bxc_arr_done(&l->waiters);
	free(l->id);
	free(l->registry);
	free(l->layout);
	free(l->layout_build);
	bxc_sess_ref_unref(l->client);
	free(l->vertex);
	free(l);
}

void layer_held(bxc_build *e, bxc_wrk_worker *w, const layer *l)
{
	bxc_wrk_layer_at(w, l->id, l->size);
	bxc_sched_layer_at(e->sched, w->id, l->id);
}

void layer_gone(bxc_build *e, bxc_wrk_worker *w, const char *id)
{
	bxc_wrk_layer_gone(w, id);
	bxc_sched_layer_gone(e->sched, w->id, id);
}

void record_free(void *p)
{
	record *r = p;
	bxc_arr_done(&r->layers);
	free(r);
}

void layer_nowhere(layer *l)
{
	free(BXC_TAKE(l->registry));
	free(BXC_TAKE(l->layout));
	free(BXC_TAKE(l->layout_build));
	bxc_sess_ref_unref(BXC_TAKE(l->client));
	l->imported = false;
	bxc_descriptor_done(&l->blob);
	l->blob = (bxc_descriptor){0};
}

bool layer_is_elsewhere(const layer *l)
{
	return l->registry || l->layout || l->client;
}

static bool layer_is_available(bxc_build *e, const layer *l)
{
	return layer_is_elsewhere(l) || bxc_wrk_holder(e->c.workers, l->id);
}

record *record_find(bxc_build *e, uint64_t id)
{
	BXC_AUTOFREE char *k = num_key(id);
	return bxc_map_get(e->records, k);
}

static bool record_is_available(bxc_build *e, const record *r)
{
	BXC_ARR_FOREACH (l, &r->layers)
		if (!layer_is_available(e, *l))
			return false;
	return true;
}

/*
 * {"layers":[{"id","size","below"?,"diff_id"?,"registry"?,"blob"?,"imported"?}],"build"?,"worker"?: who made it} or
 * {"context":true}: never loaded again. What only a client has is not told of: it is gone with the client, unless a
 * worker has it by then.
 */
char *record_to_text(const record *r, const bxc_state_attempt *by)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "build", by && *by->build ? by->build : NULL);
	bxc_json_set_str(j, "worker", by ? by->worker : NULL);
	if (r->context)
		bxc_json_set_bool(j, "context", true);
	bxc_json_set_take(j, "layers", layers_to_json(r->layers.v, r->layers.n));
	return bxc_json_print(j);
}

bxc_json *layers_to_json(layer *const *v, size_t n)
{
	bxc_json *a = bxc_json_array();
	for (size_t i = 0; i < n; i++) {
		const layer *l = v[i];
		bxc_json *o = bxc_json_push_object(a);
		bxc_json_set_str(o, "id", l->id);
		bxc_json_set_u64(o, "size", l->size);
		if (l->n_below != UINT32_MAX)
			bxc_json_set_u64(o, "below", l->n_below);
		if (l->created_ns)
			bxc_json_set_i64(o, "created_ns", l->created_ns);
		if (l->registry) {
			char d[BXC_DIGEST_STR_MAX];
			bxc_json_set_str(o, "diff_id", bxc_digest_str(&l->diff_id, d));
			bxc_json_set_str(o, "registry", l->registry);
			bxc_json_set_take(o, "blob", bxc_descriptor_to_json(&l->blob));
			if (l->imported)
				bxc_json_set_bool(o, "imported", true);
		}
	}
	return a;
}

int layer_set_blob(layer *l, const bxc_json *j, bxc_err **err)
{
	bxc_descriptor d = {0};
	bxc_digest diff_id;
	int r = bxc_digest_parse(bxc_json_get_str(j, "diff_id", ""), &diff_id, err);
	if (r >= 0)
		r = bxc_descriptor_from_json(bxc_json_get(j, "blob"), &d, err);
	if (r < 0)
		return r;
	bxc_descriptor_done(&l->blob);
	l->blob = d;
	l->diff_id = diff_id;
	return 0;
}

int layer_from_json(bxc_build *e, const bxc_json *j, size_t n_below, layer **ret, bxc_err **err)
{
	const char *id, *registry = bxc_json_get_str(j, "registry", NULL);
	int r = bxc_json_need_str(j, "id", &id, err);
	if (r < 0)
		return r;
	layer *l = layer_get(e, id);
	l->size = bxc_json_get_u64(j, "size", l->size);
	l->created_ns = bxc_json_get_i64(j, "created_ns", l->created_ns);
	l->n_below = (uint32_t)bxc_json_get_u64(j, "below", n_below);
	if (registry && !layer_is_elsewhere(l)) {
		r = layer_set_blob(l, j, err);
		if (r < 0)
			return r;
		l->registry = bxc_strdup(registry);
		l->imported = bxc_json_get_bool(j, "imported", false);
	}
	*ret = l;
	return 0;
}

static int record_from_text(bxc_build *e, uint64_t id, const char *text, record **ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	int r = bxc_json_parse(bxc_slice_of(text, strlen(text)), &j, err);
	if (r < 0)
		return r;
	if (bxc_json_get_bool(j, "context", false))
		return bxc_err_set(err, BXC_NOT_FOUND, "the context belongs to a session that has ended");
	record *rec = bxc_calloc(1, sizeof(*rec));
	rec->id = id;
	BXC_JSON_FOREACH (l, bxc_json_get(j, "layers")) {
		layer *lay = NULL;
		r = layer_from_json(e, l, rec->layers.n, &lay, err);
		if (r < 0) {
			record_free(rec);
			return r;
		}
		*bxc_arr_push(&rec->layers) = lay;
	}
	*ret = rec;
	return 0;
}

bool record_load(bxc_build *e, uint64_t id, const char *text)
{
	record *r = record_find(e, id);
	BXC_AUTOERR bxc_err *err = NULL;
	if (!r && record_from_text(e, id, text, &r, &err) >= 0) {
		BXC_AUTOFREE char *k = num_key(id);
		bxc_map_set(e->records, k, r);
	}
	return r && record_is_available(e, r);
}

/* ---- look-up ---- */

struct lookup {
	bxc_build *e;
	uint64_t build;
	uint64_t ticket;
	bxc_digest key;
	bool found;
	bxc_state_hit hit;
	bxc_state_record row;
};

static void lookup_work(bxc_state *st, void *ud)
{
	struct lookup *q = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	int r = bxc_state_key_lookup(st, &q->key, &q->hit, &err);
	if (r > 0)
		r = bxc_state_record_get(st, q->hit.record, &q->row, &err) < 0 ? -1 : 1;
	if (r > 0)
		r = bxc_state_keys_touch(st, &q->key, 1, bxc_clock_wall_ns(), &err) < 0 ? -1 : 1;
	if (r < 0)
		bxc_log_err(BXC_LOG_WARN, "cache.lookup_failed", err, NULL);
	q->found = r > 0;
}

static void lookup_done(void *ud)
{
	struct lookup *q = ud;
	bxc_build *e = q->e;
	bool hit = false;
	if (q->found) {
		hit = record_load(e, q->hit.record, q->row.result);
		/* What can't be had any more is no hit; it stays recorded: its worker may come back. */
	}
	if (hit)
		bxc_solve_lookup_hit(e->solve, q->ticket, q->hit.record, &q->hit.canonical);
	else if (!imports_lookup(e, q->build, q->ticket, &q->key))
		bxc_solve_lookup_miss(e->solve, q->ticket);
	bxc_state_record_done(&q->row);
	free(q);
	pump(e);
}

void lookup_key(bxc_build *e, uint64_t build_num, uint64_t ticket, const bxc_digest *key)
{
	struct lookup *q = bxc_calloc(1, sizeof(*q));
	q->e = e;
	q->build = build_num;
	q->ticket = ticket;
	q->key = *key;
	bxc_db_submit(e->c.db, lookup_work, lookup_done, q);
}

/* ---- saving ---- */

struct save {
	bxc_digest *keys;
	size_t n;
	uint64_t record;
	bxc_digest canonical;
};

static void save_work(bxc_state *st, void *ud)
{
	struct save *s = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	int r = bxc_state_keys_add(st, s->keys, s->n, s->record, &s->canonical, bxc_clock_wall_ns(), &err);
	/* Without the link the step runs again some day: no harm but time. A dropped record is normal. */
	if (r < 0 && r != -BXC_NOT_FOUND)
		bxc_log_err(BXC_LOG_WARN, "cache.save_failed", err, NULL);
	free(s->keys);
	free(s);
}

void save_keys(bxc_build *e, const bxc_digest *keys, size_t n, uint64_t rec, const bxc_digest *canonical)
{
	struct save *s = bxc_calloc(1, sizeof(*s));
	s->keys = bxc_memdup(keys, n * sizeof(*keys));
	s->n = n;
	s->record = rec;
	s->canonical = *canonical;
	bxc_db_submit(e->c.db, save_work, NULL, s);
}

struct add {
	bxc_build *e;
	record *rec;
	uint64_t ticket;
	bxc_state_record row;
	bxc_state_attempt attempt;   /* task NULL: none */
	bxc_err *err;
};

static int add_both(bxc_state *st, struct add *a, bxc_err **err)
{
	int r = bxc_state_record_add(st, &a->row, &a->rec->id, err);
	/* Nobody resumes what is of no build: its keys are saved next. */
	if (r >= 0 && !*a->attempt.build)
		return bxc_state_attempt_delete(st, a->attempt.task, err);
	a->attempt.record = a->rec->id;
	return r < 0 ? r : bxc_state_attempt_put(st, &a->attempt, err);
}

static void add_work(bxc_state *st, void *ud)
{
	struct add *a = ud;
	if (!a->attempt.task) {
		bxc_ignore(bxc_state_record_add(st, &a->row, &a->rec->id, &a->err));
		return;
	}
	int r = bxc_state_begin(st, BXC_STATE_LAZY, &a->err);
	if (r < 0)
		return;
	r = add_both(st, a, &a->err);
	if (r >= 0)
		bxc_ignore(bxc_state_commit(st, &a->err));
	else
		bxc_state_rollback(st);
}

static void add_done(void *ud)
{
	struct add *a = ud;
	bxc_build *e = a->e;
	if (a->err) {
		bxc_ignore(bxc_err_wrap(&a->err, 0, "record the result"));
		if (a->rec->context)
			context_unref(e, a->rec->context);
		record_free(a->rec);
		bxc_solve_fail(e->solve, a->ticket, a->err, true);
	} else {
		BXC_AUTOFREE char *k = num_key(a->rec->id);
		bxc_map_set(e->records, k, a->rec);
		bxc_solve_run_done(e->solve, a->ticket, a->rec->id);
	}
	bxc_wrk_worker *w = a->attempt.task ? bxc_wrk_by_name(e->c.workers, a->attempt.worker) : NULL;
	if (w)
		attempt_forget(w, a->attempt.task);
	bxc_state_record_done(&a->row);
	bxc_state_attempt_done(&a->attempt);
	free(a);
	pump(e);
}

void record_new(bxc_build *e, record *r, uint64_t ticket, int64_t duration_ns, bxc_state_attempt *attempt_take)
{
	struct add *a = bxc_calloc(1, sizeof(*a));
	a->e = e;
	a->rec = r;
	a->ticket = ticket;
	a->row.result = record_to_text(r, attempt_take);
	a->row.created_ns = bxc_clock_wall_ns();
	a->row.duration_ns = duration_ns;
	if (attempt_take) {
		a->attempt = *attempt_take;
		*attempt_take = (bxc_state_attempt){0};
	}
	bxc_db_submit(e->c.db, add_work, add_done, a);
}

/* ---- loss ---- */

static void drop_work(bxc_state *st, void *ud)
{
	const uint64_t *id = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_state_record_delete(st, *id, &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "cache.drop_failed", err, NULL);
	free(ud);
}

void record_drop(bxc_build *e, uint64_t id)
{
	BXC_AUTOFREE char *k = num_key(id);
	record *r = bxc_map_get(e->records, k);
	if (r && r->context)
		context_unref(e, r->context);
	bxc_map_del(e->records, k);
	bxc_db_submit(e->c.db, drop_work, NULL, bxc_memdup(&id, sizeof(id)));
}

void layers_vanished(bxc_build *e)
{
	BXC_MAP_FOREACH (it, e->records) {
		const record *r = it.value;
		uint64_t id = r->id;
		if (record_is_available(e, r))
			continue;
		if (bxc_solve_uses_record(e->solve, id)) {
			record_drop(e, id);
			bxc_solve_result_lost(e->solve, id);
		} else {
			/* It stays in the store: its worker may come back with the layers. */
			bxc_map_del(e->records, it.key);
		}
	}
}
