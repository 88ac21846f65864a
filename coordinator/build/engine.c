/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pump: actions of the solver and the scheduler are carried out until both are quiet. Answers
 * come later, from the database, the pool, or a worker, and pump again.
 */
#include "coordinator/build/build_internal.h"

#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define TICK_NS (1 * BXC_NS_PER_S)

char *num_key(uint64_t v)
{
	return bxc_str_fmt("%" PRIu64, v);
}

build *build_by_num(bxc_build *e, uint64_t num)
{
	BXC_AUTOFREE char *k = num_key(num);
	return bxc_map_get(e->by_num, k);
}

task *task_by_id(bxc_build *e, uint64_t id)
{
	BXC_AUTOFREE char *k = num_key(id);
	return bxc_map_get(e->tasks_by_id, k);
}

/* The build whose session and name serve a request; when there is none, the request has failed. */
static build *build_of_request(bxc_build *e, const bxc_solve_action *a)
{
	build *b = build_by_num(e, a->build);
	if (!b) {
		bxc_err *err = NULL;
		bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE, "the build has gone"));
		bxc_solve_fail(e->solve, a->ticket, err, true);
	}
	return b;
}

static void source_key(bxc_build *e, const bxc_solve_action *a)
{
	build *b = build_of_request(e, a);
	if (!b)
		return;
	if (bxc_solve_is_local(a->def)) {
		context_scan(e, b, context_for(b, a->def), a->def, a->ticket);
	} else if (source_is_remote(a->def)) {
		remote_key(e, b, a);
	} else {
		image *img = image_for_vertex(b, a->def);
		bxc_digest key = img ? image_key(img) : bxc_def_op_digest(a->def);
		bxc_solve_source_key(e->solve, a->ticket, &key);
	}
}

/* Contexts and images yield their result here: nothing runs, layers are pulled by whoever needs them. */
static void run_source(bxc_build *e, const bxc_solve_action *a)
{
	build *b = build_of_request(e, a);
	if (!b)
		return;
	record *r = bxc_calloc(1, sizeof(*r));
	if (bxc_solve_is_local(a->def)) {
		r->context = context_for(b, a->def);
		context_ref(r->context);
	} else {
		image *img = image_for_vertex(b, a->def);
		if (!img) {
			bxc_err *err = NULL;
			bxc_ignore(bxc_err_set(&err, BXC_UNIMPLEMENTED, "sources of the kind '%s' are not supported by this version of bxc",
				a->def->op.source.identifier));
			free(r);
			bxc_solve_fail(e->solve, a->ticket, err, false);
			return;
		}
		char vertex[BXC_DIGEST_STR_MAX];
		bxc_digest_str(&a->def->digest, vertex);
		for (size_t i = 0; i < img->layers.n; i++) {
			char id[BXC_DIGEST_STR_MAX];
			bxc_digest_str(&img->config->diff_ids.v[i], id);
			layer *l = layer_get(e, id);
			/* The image itself is a better source than a cache that has it too. */
			if ((!l->registry || l->imported) && img->repo) {
				layer_nowhere(l);
				l->registry = bxc_strdup(img->repo);
				bxc_descriptor_copy(&l->blob, &img->layers.v[i]);
				l->diff_id = img->config->diff_ids.v[i];
				l->size = img->layers.v[i].size;
			}
			free(l->vertex);
			l->vertex = bxc_strdup(vertex);
			*bxc_arr_push(&r->layers) = l;
		}
	}
	record_new(e, r, a->ticket, 0, NULL);
}

static void act(bxc_build *e, const bxc_solve_action *a)
{
	build *b;
	switch (a->kind) {
	case BXC_SOLVE_NONE:
		break;
	case BXC_SOLVE_SOURCE_KEY:
		source_key(e, a);
		break;
	case BXC_SOLVE_LOOKUP:
		/* What a name or a context is, no cache says: it is asked for. */
		lookup_key(e, a->def && a->def->kind == BXC_OP_SOURCE ? 0 : a->build, a->ticket, &a->key);
		break;
	case BXC_SOLVE_CHECKSUM:
		if (!a->cheap) {
			task_checksum(e, a);
			break;
		}
		b = build_of_request(e, a);
		if (b) {
			const bxc_def_input *in = &a->def->inputs.v[a->input_index];
			const bxc_def_vertex *v = b->def->vertices.v[in->vertex];
			context_checksum(e, b, context_for(b, v), v, a);
		}
		break;
	case BXC_SOLVE_RUN:
		if (a->def->kind == BXC_OP_SOURCE && !source_is_remote(a->def))
			run_source(e, a);
		else if (a->def->kind == BXC_OP_MERGE)
			merge_run(e, a);
		else if (!attempt_take(e, a) && !quarantine_refuses(e, a))
			task_run(e, a);
		break;
	case BXC_SOLVE_CANCEL_RUN:
		task_cancel(e, a->ticket);
		break;
	case BXC_SOLVE_SAVE_KEYS:
		save_keys(e, a->keys, a->n_keys, a->record, &a->canonical);
		break;
	case BXC_SOLVE_EVENT:
		report_solver_event(e, a);
		b = build_by_num(e, a->build);
		if (b && b->num == a->build && (a->event == BXC_SOLVE_DONE || a->event == BXC_SOLVE_CACHED))
			prefetch_result(e, b, a->def_index);
		break;
	case BXC_SOLVE_BUILD_DONE:
		b = build_by_num(e, a->build);
		if (b)
			build_solved(b, a);
		break;
	}
}

static void assign(bxc_build *e, uint64_t id, uint64_t worker)
{
	task *t = task_by_id(e, id);
	if (t)
		task_dispatch(e, t, worker);
}

static void told_drained(const bxc_build *e, uint64_t worker)
{
	const bxc_wrk_worker *w = bxc_wrk_get(e->c.workers, worker);
	if (w)
		bxc_log(BXC_LOG_NOTICE, "worker.drained", "worker", w->name, NULL);
}

void pump(bxc_build *e)
{
	/* Answers given while an action is being carried out queue more actions; the outer call takes them. */
	if (e->pumping)
		return;
	e->pumping = true;
	for (bool again = true; again;) {
		again = false;
		bxc_solve_action a;
		while (bxc_solve_next(e->solve, &a)) {
			act(e, &a);
			again = true;
		}
		/* One at a time: it may have made the solver take back what the next is about. */
		bxc_sched_action s;
		if (bxc_sched_next(e->sched, &s)) {
			again = true;
			if (s.kind == BXC_SCHED_ASSIGN)
				assign(e, s.task, s.worker);
			else if (s.kind == BXC_SCHED_LOST)
				task_lost(e, s.task);
			else if (s.kind == BXC_SCHED_DRAINED)
				told_drained(e, s.worker);
		}
	}
	e->pumping = false;
	explain_flush(e);
	expect_check(e);
}

static void on_tick(void *ud)
{
	bxc_build *e = ud;
	int64_t now = bxc_clock_mono_ns();
	BXC_ARR(uint64_t) stuck = {0};
	BXC_MAP_FOREACH (it, e->tasks) {
		task *t = it.value;
		if (t->phase == TASK_QUEUED && now - t->queued_ns > e->c.no_worker_grace_ns &&
			bxc_sched_unservable(e->sched, t->id, NULL))
			*bxc_arr_push(&stuck) = t->id;
	}
	BXC_ARR_FOREACH (id, &stuck) {
		task *t = task_by_id(e, *id);
		/* The failure of one before it has ended its build, and with it this one. */
		if (!t)
			continue;
		BXC_AUTOFREE char *have = NULL;
		BXC_AUTOFREE char *want = bxc_platform_str(&t->platform);
		bxc_sched_unservable(e->sched, t->id, &have);
		bxc_err *err = NULL;
		bool is_draining = bxc_sched_waiting_reason(e->sched, t->id) == BXC_SCHED_WAIT_DRAINING;
		bxc_ignore(bxc_err_set(&err, BXC_FAILED_PRECONDITION, "no worker serves %s (there is: %s%s)", want,
			bxc_str_empty(have) ? is_draining ? "none" : "no worker at all" : have,
			is_draining ? "; those that serve it are drained" : ""));
		task_fail(e, t, err, false);
	}
	bxc_arr_done(&stuck);
	waiting_tick(e, now);
	pump(e);
	leavers_release(e);
	bxc_loop_timer_arm(e->tick, TICK_NS);
}

bxc_build *bxc_build_new(const bxc_build_config *c)
{
	bxc_build *e = bxc_calloc(1, sizeof(*e));
	e->c = *c;
	e->solve = bxc_solve_new();
	if (c->cluster)
		bxc_solve_set_cluster(e->solve, c->cluster);
	e->sched = bxc_sched_new();
	e->builds = bxc_map_new(build_free);
	e->by_num = bxc_map_new(NULL);
	e->layers = bxc_map_new(layer_free);
	e->records = bxc_map_new(record_free);
	e->contexts = bxc_map_new(NULL);
	e->tasks = bxc_map_new(NULL);
	e->tasks_by_id = bxc_map_new(NULL);
	e->runs = bxc_map_new(run_log_free);
	e->images = bxc_map_new(image_free);
	e->cache_mounts = bxc_map_new(cache_mount_free);
	e->attempts = bxc_map_new(attempt_free);
	e->suspects = bxc_map_new(suspect_free);
	e->grace = bxc_loop_timer_new(c->loop, resume_grace_over, e);
	e->pins = source_pins_new();
	e->prefetches = prefetches_new();
	e->learned = bxc_learn_new(BXC_LEARN_KEYS);
	e->tick = bxc_loop_timer_new(c->loop, on_tick, e);
	bxc_loop_timer_arm(e->tick, TICK_NS);
	return e;
}

void bxc_build_free(bxc_build *e)
{
	if (!e)
		return;
	bxc_loop_timer_free(e->tick);
	bxc_loop_timer_free(e->grace);
	bxc_check(!e->explained);
	BXC_MAP_FOREACH (it, e->tasks) {
		task *t = it.value;
		BXC_ARR_FOREACH (in, &t->inputs)
			if (in->ctx)
				context_unref(e, in->ctx);
		task_free(t);
	}
	BXC_MAP_FOREACH (it, e->builds) {
		build *b = it.value;
		BXC_ARR_FOREACH (c, &b->contexts)
			context_unref(e, *c);
	}
	bxc_map_free(e->tasks_by_id);
	bxc_map_free(e->tasks);
	bxc_map_free(e->runs);
	bxc_solve_free(e->solve);
	bxc_sched_free(e->sched);
	bxc_map_free(e->by_num);
	bxc_map_free(e->builds);
	BXC_MAP_FOREACH (it, e->records) {
		record *r = it.value;
		if (r->context)
			context_unref(e, r->context);
		r->context = NULL;
	}
	bxc_map_free(e->records);
	bxc_map_free(e->contexts);
	bxc_map_free(e->layers);
	bxc_map_free(e->images);
	bxc_map_free(e->cache_mounts);
	bxc_map_free(e->attempts);
	bxc_map_free(e->suspects);
	bxc_strv_free(e->awaited);
	bxc_strv_free(e->drained);
	bxc_map_free(e->pins);
	bxc_map_free(e->prefetches);
	bxc_learn_free(e->learned);
	free(e);
}

size_t bxc_build_n_live(const bxc_build *e)
{
	return bxc_map_len(e->builds);
}

int64_t bxc_build_oldest_ns(const bxc_build *e)
{
	int64_t oldest = INT64_MAX;
	BXC_MAP_FOREACH (it, e->builds) {
		const build *b = it.value;
		oldest = BXC_MIN(oldest, b->created_ns);
	}
	return oldest;
}

bxc_sess_ref *bxc_build_session(bxc_build *e, const char *id, const char *task_name)
{
	build *b = bxc_map_get(e->builds, id);
	task *t = task_name ? bxc_map_get(e->tasks, task_name) : NULL;
	if (b && b->session)
		return bxc_sess_ref_ref(b->session);
	if (!t)
		return NULL;
	BXC_AUTOFREE char *run = num_key(t->run);
	run_log *l = bxc_map_get(e->runs, run);
	for (size_t i = 0; l && i < l->subs.n; i++)
		if (l->subs.v[i].build->session)
			return bxc_sess_ref_ref(l->subs.v[i].build->session);
	return NULL;
}

void bxc_build_worker_joined(bxc_build *e, bxc_wrk_worker *w, const bxc_json *hello)
{
	w->is_drained = bxc_strv_has(e->drained, w->name);
	worker_to_scheduler(e, w);
	BXC_MAP_FOREACH (it, w->layers)
		bxc_sched_layer_at(e->sched, w->id, it.key);
	caches_worker_joined(e, w);
	attempts_worker_joined(e, w, bxc_json_get(hello, "running"));
	worker_is_back(e, w->name);
	workers_changed(e);
	pump(e);
}

void bxc_build_worker_left(bxc_build *e, bxc_wrk_worker *w)
{
	usage_worker_left(e, w);
	if (e->is_stopping)
		return;
	attempts_worker_left(e, w);
	suspects_worker_left(e, w);
	prefetch_worker_left(e, w);
	/* First what it held, so that its tasks are not placed again with inputs that are gone. */
	bxc_map_clear(w->layers);
	bxc_sched_worker_remove(e->sched, w->id);
	BXC_MAP_FOREACH (it, e->layers) {
		layer *l = it.value;
		if (l->publisher != w->id)
			continue;
		/* Another one may publish it; whoever waits looks anew. */
		l->publisher = 0;
		BXC_ARR(uint64_t) waiters = {0};
		BXC_ARR_FOREACH (id, &l->waiters)
			*bxc_arr_push(&waiters) = *id;
		l->waiters.n = 0;
		BXC_ARR_FOREACH (id, &waiters) {
			task *t = task_by_id(e, *id);
			if (t && t->phase == TASK_PUBLISHING && t->worker != w->id)
				task_dispatch(e, t, t->worker);
		}
		bxc_arr_done(&waiters);
	}
	prefetch_blob_made(e);
	layers_vanished(e);
	pump(e);
	workers_changed(e);
}

void bxc_build_stop(bxc_build *e)
{
	e->is_stopping = true;
	usage_stop(e);
}

int bxc_build_worker_message(bxc_build *e, bxc_wrk_worker *w, const char *type, const bxc_json *msg, bxc_err **err)
{
	int r = 0;
	if (bxc_str_eq(type, "layer.gone")) {
		BXC_JSON_FOREACH (l, bxc_json_get(msg, "layers")) {
			const char *id = bxc_json_string(l);
			if (!id)
				continue;
			layer_gone(e, w, id);
		}
		layers_vanished(e);
		pump(e);
		return 0;
	}
	if (bxc_str_eq(type, "usage"))
		return usage_message(e, w, msg, err);
	if (bxc_str_eq(type, "leaving")) {
		worker_leaves(e, w);
		return 0;
	}
	if (bxc_str_eq(type, "transfer"))
		return transfer_message(e, w, msg, err);
	const char *name;
	r = bxc_json_need_str(msg, "task", &name, err);
	if (r < 0)
		return r;
	task *t = bxc_map_get(e->tasks, name);
	if (bxc_str_eq(type, "task.done") && bxc_str_has_prefix(name, "publish-")) {
		r = publish_done_message(e, w, name, msg, err);
		pump(e);
		return r;
	}
	if (bxc_str_eq(type, "task.done") && prefetch_done_message(e, w, name, msg))
		return 0;
	/* Not ours any more: cancelled, or another worker has it by now. Its word counts for nothing. */
	if (!t || !bxc_lease_holds((bxc_lease){t->worker, t->attempt}, (bxc_lease){w->id, bxc_json_get_u64(msg, "epoch", t->attempt)})) {
		if (bxc_str_eq(type, "task.done"))
			attempt_forget(w, name);
		return 0;
	}
	if (bxc_str_eq(type, "task.log") && t->kind == TASK_RUN) {
		/* One that was sent before the task was adopted comes again, in its place. */
		if (bxc_json_get_u64(msg, "n", t->log_n + 1) != t->log_n + 1)
			return 0;
		t->log_n++;
	}
	if (bxc_str_eq(type, "task.adopted")) {
		t->log_n = bxc_json_get_u64(msg, "first", 1) - 1;
		t->is_started = bxc_json_get_bool(msg, "started", false);
		if (t->is_started)
			report_task_started(e, t, w->name);
		return 0;
	}
	if (bxc_str_eq(type, "task.started")) {
		t->is_started = true;
		report_task_started(e, t, w->name);
		prefetch_started(e, t);
	} else if (bxc_str_eq(type, "task.log") || bxc_str_eq(type, "task.status")) {
		report_task_event(e, t, bxc_json_dup(msg));
	} else if (bxc_str_eq(type, "task.done")) {
		r = task_done_message(e, w, t, msg, err);
		pump(e);
	} else {
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown message type '%.64s'", type);
	}
	return r;
}

void bxc_build_session_left(bxc_build *e, const char *session)
{
	if (e->is_stopping)
		return;
	BXC_MAP_FOREACH (it, e->builds) {
		build *b = it.value;
		if (b->session && bxc_str_eq(bxc_sess_id(b->session), session)) {
			bxc_log(BXC_LOG_INFO, "build.orphaned", "build", b->id, NULL);
			bxc_build_cancel(e, b->id);
		}
	}
	if (imports_session_left(e, session)) {
		layers_vanished(e);
		pump(e);
	}
}
