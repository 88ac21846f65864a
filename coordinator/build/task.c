/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks: one attempt of a vertex, a checksum, or an export on a worker.
 *
 *     CONTEXT (files of the client come in) -> QUEUED (scheduler) -> PUBLISHING (layers that only
 *     another worker has become blobs) -> RUNNING -> gone
 */
#include "coordinator/build/build_internal.h"

#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"

void task_free(void *p)
{
	task *t = p;
	BXC_ARR_FOREACH (in, &t->inputs) {
		bxc_arr_done(&in->layers);
		selects_done(&in->selects);
	}
	bxc_arr_done(&t->inputs);
	bxc_arr_done(&t->avoid);
	BXC_ARR_FOREACH (c, &t->caches)
		free((void *)(uintptr_t)c->key);
	bxc_arr_done(&t->caches);
	bxc_arr_done(&t->adopted_base);
	bxc_arr_done(&t->nodes);
	bxc_json_free(t->body);
	free(t->name);
	free(t->vertex_digest);
	free(t->output_layer);
	free(t->title);
	free(t->told_reason);
	free(t);
}

task *task_new(bxc_build *e, task_kind kind, build *b)
{
	BXC_AUTOFREE char *rand = bxc_rand_hex(6);
	BXC_AUTOFREE char *name = bxc_str_fmt("t-%" PRIu64 "-%s", e->last_task + 1, rand);
	return task_named(e, kind, b, name);
}

task *task_named(bxc_build *e, task_kind kind, build *b, const char *name)
{
	task *t = bxc_calloc(1, sizeof(*t));
	t->id = ++e->last_task;
	t->name = bxc_strdup(name);
	t->kind = kind;
	t->build = b;
	t->attempt = 1;
	t->body = bxc_json_object();
	bxc_map_set(e->tasks, t->name, t);
	BXC_AUTOFREE char *k = num_key(t->id);
	bxc_map_set(e->tasks_by_id, k, t);
	return t;
}

/* The task waits for no layer any more: it goes, or looks anew at what it lacks. */
static void stop_waiting(task *t)
{
	t->n_publishing = 0;
	BXC_ARR_FOREACH (in, &t->inputs) {
		BXC_ARR_FOREACH (p, &in->layers) {
			layer *l = *p;
			for (size_t i = 0; i < l->waiters.n;) {
				if (l->waiters.v[i] == t->id)
					bxc_arr_remove(&l->waiters, i);
				else
					i++;
			}
		}
	}
}

void task_drop(bxc_build *e, task *t)
{
	stop_waiting(t);
	if (t->is_recorded)
		attempt_end(e, t->name);
	bxc_wrk_worker *w = t->worker ? bxc_wrk_get(e->c.workers, t->worker) : NULL;
	if (w && w->running && t->phase >= TASK_PUBLISHING)
		w->running--;
	bxc_sched_task_finished(e->sched, t->id);
	bxc_sched_task_cancel(e->sched, t->id);
	BXC_ARR_FOREACH (in, &t->inputs) {
		if (in->ctx)
			context_unref(e, in->ctx);
		in->ctx = NULL;
	}
	BXC_AUTOFREE char *k = num_key(t->id);
	bxc_map_del(e->tasks_by_id, k);
	bxc_map_del(e->tasks, t->name);
	task_free(t);
}

void worker_send(bxc_wrk_worker *w, bxc_json *j_take)
{
	BXC_AUTOFREE char *text = bxc_json_print(j_take);
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_json_free(j_take);
	/* Reliable while the session lives; when it does not, the worker's leaving ends the task. */
	if (w->chan && bxc_chan_send(w->chan, bxc_slice_of(text, strlen(text)), &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "worker.send_failed", err, "worker", w->name, NULL);
}

void task_fail(bxc_build *e, task *t, bxc_err *err_take, bool infra)
{
	uint64_t ticket = t->ticket;
	if (t->kind == TASK_EXPORT) {
		export_failed(e, t, err_take, infra);
		return;
	}
	/* What the solver wants to know it asks again by itself. */
	if (t->answer && infra && !t->ticket && task_ask_again(e, t)) {
		bxc_err_free(err_take);
		return;
	}
	if (t->answer) {
		t->answer(e, t, NULL, err_take, infra);
		return;
	}
	if (infra)
		run_attempt_failed(e, t->run, t->worker, err_take);
	task_drop(e, t);
	bxc_solve_fail(e->solve, ticket, err_take, infra);
	pump(e);
}

/* An input's data is nowhere: the solver makes it anew. */
static void task_input_lost(bxc_build *e, task *t, const char *layer_id)
{
	uint64_t ticket = t->ticket, rec = 0;
	BXC_ARR_FOREACH (in, &t->inputs) {
		BXC_ARR_FOREACH (l, &in->layers)
			if (bxc_str_eq((*l)->id, layer_id))
				rec = in->record;
	}
	bxc_log(BXC_LOG_WARN, "task.input_lost", "task", t->name, "layer", layer_id, NULL);
	if (t->kind == TASK_EXPORT) {
		export_lost(e, t, rec);
		return;
	}
	if (t->answer) {
		bxc_err *err = NULL;
		bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE, "layer '%s' was lost before it could be read: build again", layer_id));
		task_fail(e, t, err, false);
		return;
	}
	task_drop(e, t);
	if (rec)
		record_drop(e, rec);
	bxc_solve_input_lost(e->solve, ticket, rec);
	if (rec)
		bxc_solve_result_lost(e->solve, rec);
	pump(e);
}

/* ---- to the scheduler ---- */

void task_ready(bxc_build *e, task *t)
{
	BXC_ARR(bxc_sched_layer) layers = {0};
	uint64_t chain = 0;
	BXC_ARR_FOREACH (in, &t->inputs) {
		BXC_ARR_FOREACH (l, &in->layers)
			*bxc_arr_push(&layers) = (bxc_sched_layer){(*l)->id, (*l)->size};
	}
	/* The topmost layer of the tree that is continued tells where it grew. */
	uint64_t base = bxc_json_get_u64(t->body, "base_input", 0);
	if (base < t->inputs.n && t->inputs.v[base].layers.n) {
		const layer *top = t->inputs.v[base].layers.v[t->inputs.v[base].layers.n - 1];
		bxc_wrk_worker *w = layer_is_elsewhere(top) ? NULL : bxc_wrk_holder(e->c.workers, top->id);
		chain = w ? w->id : 0;
	}
	if (!chain && t->prefer && bxc_wrk_get(e->c.workers, t->prefer))
		chain = t->prefer;
	bxc_sched_task s = {
		.id = t->id,
		.build = t->build ? t->build->num : 0,
		.platform = t->platform,
		.layers = layers.v,
		.n_layers = layers.n,
		.chain_worker = chain,
		.cost_ns = bxc_learn_cost(e->learned, &t->learn),
		.remaining = t->remaining,
		.path_ns = t->path_ns,
		.avoid = t->avoid.v,
		.n_avoid = t->avoid.n,
		.caches = t->caches.v,
		.n_caches = t->caches.n,
	};
	t->phase = TASK_QUEUED;
	t->queued_ns = bxc_clock_mono_ns();
	t->queued_wall_ns = bxc_clock_wall_ns();
	bxc_check(bxc_sched_task_add(e->sched, &s, NULL) == 0);
	bxc_arr_done(&layers);
	pump(e);
}

static bool add_input(bxc_build *e, task *t, uint64_t rec)
{
	record *r = record_find(e, rec);
	if (!r)
		return false;
	task_input *in = bxc_arr_push(&t->inputs);
	in->record = rec;
	BXC_ARR_FOREACH (l, &r->layers)
		*bxc_arr_push(&in->layers) = *l;
	if (r->context) {
		in->ctx = r->context;
		context_ref(in->ctx);
	}
	return true;
}

/* What of its contexts the task reads: what the operation selects, or all. */
static void select_of_contexts(task *t, const bxc_solve_action *a)
{
	static const bxc_solve_selector all = {.path = "/", .dir_contents = true};
	bxc_solve_contents contents = {0};
	if (a->kind == BXC_SOLVE_RUN)
		bxc_solve_content_inputs(a->def, &contents);
	BXC_ARR_FOREACH (c, &contents.items) {
		task_input *in = &t->inputs.v[c->input_index];
		if (in->ctx)
			selects_add(&in->selects, c->selectors.v, c->selectors.n);
	}
	bxc_solve_contents_done(&contents);
	BXC_ARR_FOREACH (in, &t->inputs)
		if (in->ctx && in->selects.n == 0)
			selects_add(&in->selects, &all, 1);
}

static void name_caches(bxc_build *e, task *t, const bxc_op_exec *op)
{
	static const bxc_sched_sharing sharing[] = {
		[BXC_CACHE_SHARED] = BXC_SCHED_SHARED,
		[BXC_CACHE_PRIVATE] = BXC_SCHED_PRIVATE,
		[BXC_CACHE_LOCKED] = BXC_SCHED_LOCKED,
	};
	bxc_json *list = NULL;
	for (size_t i = 0; i < op->mounts.n; i++) {
		const bxc_op_mount *m = &op->mounts.v[i];
		if (m->kind != BXC_MOUNT_CACHE)
			continue;
		*bxc_arr_push(&t->caches) = (bxc_sched_cache){bxc_strdup(cache_id_of(m)), sharing[m->sharing]};
		if (!list)
			list = bxc_json_add_array(t->body, "cache_mounts");
		bxc_json *o = bxc_json_push_object(list);
		bxc_json_set_u64(o, "mount", i);
		bxc_json_set_u64(o, "generation", cache_generation(e, m));
	}
}

void task_of_run(bxc_build *e, task *t, const bxc_solve_action *a)
{
	char digest[BXC_DIGEST_STR_MAX];
	t->ticket = a->ticket;
	t->run = a->run;
	t->vertex = a->vertex;
	t->remaining = a->remaining;
	t->vertex_digest = bxc_strdup(bxc_digest_str(&a->def->digest, digest));
	/* Only commands are of a platform: files are copied by any worker. */
	if (a->def->kind == BXC_OP_EXEC)
		t->platform = a->def->platform;
	if (a->kind != BXC_SOLVE_RUN)
		return;
	duration_expect(e, t, a);
	t->title = bxc_strdup(a->def->meta.name);
	t->is_command = a->def->kind == BXC_OP_EXEC;
	t->key = a->key;
	t->is_fresh = a->fresh;
	if (t->is_command)
		name_caches(e, t, &a->def->op.exec);
	if (t->is_command && e->c.step_timeout_ns > 0)
		bxc_json_set_ns(t->body, "timeout_ns", e->c.step_timeout_ns);
	run_starts_over(e, a->vertex, a->run);
}

void task_on_worker(bxc_build *e, task *t, bxc_wrk_worker *w)
{
	const bxc_sched_task s = {
		.id = t->id,
		.build = t->build ? t->build->num : 0,
		.platform = t->platform,
		.cost_ns = bxc_learn_cost(e->learned, &t->learn),
		.remaining = t->remaining,
		.caches = t->caches.v,
		.n_caches = t->caches.n,
	};
	bxc_check(bxc_sched_task_add(e->sched, &s, NULL) == 0);
	bxc_check(bxc_sched_task_adopt(e->sched, t->id, w->id, NULL) == 0);
	t->worker = w->id;
	t->phase = TASK_RUNNING;
	w->running++;
}

static void begin(bxc_build *e, task *t, const bxc_solve_action *a)
{
	task_of_run(e, t, a);
	run_avoid(e, t);
	t->attempt = a->attempt;
	for (size_t i = 0; i < a->n_inputs; i++) {
		if (add_input(e, t, a->inputs[i].record))
			continue;
		uint64_t ticket = t->ticket, rec = a->inputs[i].record;
		task_drop(e, t);
		bxc_solve_input_lost(e->solve, ticket, rec);
		return;
	}
	select_of_contexts(t, a);
	for (size_t i = 0; i < t->inputs.n; i++) {
		if (t->inputs.v[i].ctx) {
			t->phase = TASK_CONTEXT;
			context_fetch(e, t);
			return;
		}
	}
	task_ready(e, t);
}

void task_run(bxc_build *e, const bxc_solve_action *a)
{
	bool is_source = a->def->kind == BXC_OP_SOURCE;
	if (a->def->kind != BXC_OP_EXEC && a->def->kind != BXC_OP_FILE && !is_source) {
		bxc_err *err = NULL;
		bxc_ignore(bxc_err_set(&err, BXC_UNIMPLEMENTED, "diff operations are not supported by this version of bxc"));
		bxc_solve_fail(e->solve, a->ticket, err, false);
		return;
	}
	task *t = task_new(e, TASK_RUN, build_by_num(e, a->build));
	BXC_AUTOFREE char *rand = bxc_rand_hex(16);
	t->output_layer = bxc_str_fmt("l-%s", rand);
	if (is_source)
		remote_run_body(e, t, a->def);
	else
		bxc_json_set_str(t->body, "kind", a->def->kind == BXC_OP_EXEC ? "exec" : "file");
	bxc_json_set_take(t->body, "op", bxc_def_vertex_to_json(a->def));
	bxc_json_set_str(t->body, "output_layer", t->output_layer);
	bxc_json_set_u64(t->body, "base_input", bxc_solve_chain_input(a->def));
	begin(e, t, a);
}

static bxc_json *selector_to_json(const bxc_solve_selector *s)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "path", s->path);
	bxc_json_set_bool(j, "wildcard", s->wildcard);
	bxc_json_set_bool(j, "allow_empty", s->allow_empty);
	bxc_json_set_bool(j, "follow", s->follow_symlink);
	bxc_json_set_bool(j, "dir_contents", s->dir_contents);
	if (s->include)
		bxc_json_set_strv(j, "include", s->include);
	if (s->exclude)
		bxc_json_set_strv(j, "exclude", s->exclude);
	return j;
}

void task_checksum(bxc_build *e, const bxc_solve_action *a)
{
	task *t = task_new(e, TASK_CHECKSUM, build_by_num(e, a->build));
	t->n_selectors = a->n_selectors;
	bxc_json_set_str(t->body, "kind", "checksum");
	bxc_json *list = bxc_json_add_array(t->body, "selections");
	for (size_t i = 0; i < a->n_selectors; i++)
		bxc_json_push_take(list, selector_to_json(&a->selectors[i]));
	begin(e, t, a);
}

static task *by_ticket(bxc_build *e, uint64_t ticket)
{
	BXC_MAP_FOREACH (it, e->tasks) {
		task *t = it.value;
		if (t->ticket == ticket && t->kind != TASK_EXPORT)
			return t;
	}
	return NULL;
}

void task_cancel(bxc_build *e, uint64_t ticket)
{
	task *t = by_ticket(e, ticket);
	if (t)
		task_abort(e, t);
}

void task_abort(bxc_build *e, task *t)
{
	bxc_wrk_worker *w = t->worker ? bxc_wrk_get(e->c.workers, t->worker) : NULL;
	if (w && t->phase == TASK_RUNNING) {
		bxc_json *j = bxc_json_object();
		bxc_json_set_str(j, "type", "task.cancel");
		bxc_json_set_str(j, "task", t->name);
		worker_send(w, j);
	}
	task_drop(e, t);
}

void task_lost(bxc_build *e, uint64_t id)
{
	task *t = task_by_id(e, id);
	if (!t)
		return;
	bxc_err *err = NULL;
	bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE, "the worker that ran it was lost"));
	bxc_log(BXC_LOG_WARN, "task.lost", "task", t->name, NULL);
	t->worker = 0;
	bxc_err *quarantined = t->is_command ? quarantine_error(e, &t->key) : NULL;
	if (quarantined) {
		bxc_err_free(err);
		task_fail(e, t, quarantined, false);
		return;
	}
	task_fail(e, t, err, true);
}

/* ---- to the worker ---- */

bxc_json *layer_to_json(bxc_build *e, const layer *l, uint64_t for_worker)
{
	char d[BXC_DIGEST_STR_MAX];
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "id", l->id);
	bxc_json_set_u64(j, "size", l->size);
	bxc_json_set_str(j, "vertex", l->vertex);
	if (l->n_below != UINT32_MAX)
		bxc_json_set_u64(j, "below", l->n_below);
	if (l->created_ns)
		bxc_json_set_i64(j, "created_ns", l->created_ns);
	if (bxc_digest_is_set(&l->diff_id))
		bxc_json_set_str(j, "diff_id", bxc_digest_str(&l->diff_id, d));
	if (bxc_digest_is_set(&l->blob.digest))
		bxc_json_set_take(j, "blob", bxc_descriptor_to_json(&l->blob));
	bxc_json *sources = bxc_json_add_array(j, "sources");
	for (size_t i = 0; i < bxc_wrk_count(e->c.workers); i++) {
		bxc_wrk_worker *w = bxc_wrk_at(e->c.workers, i);
		/* Image layers come from the registry: a peer keeps them unpacked, not as the registry's blob. */
		if (w->id == for_worker || !w->peer_url || layer_is_elsewhere(l) || !bxc_wrk_has_layer(w, l->id))
			continue;
		bxc_json_set_str(bxc_json_push_object(sources), "peer", w->peer_url);
	}
	if (l->registry)
		bxc_json_set_str(bxc_json_push_object(sources), "registry", l->registry);
	if (l->layout) {
		bxc_json *o = bxc_json_push_object(sources);
		bxc_json_set_str(o, "layout", l->layout);
		bxc_json_set_str(o, "build", l->layout_build);
	}
	if (l->client) {
		bxc_json *o = bxc_json_push_object(sources);
		bxc_json_set_str(o, "client", bxc_sess_id(l->client));
		bxc_json_set_u64(o, "cache", l->client_cache);
	}
	if (l->imported)
		bxc_json_set_bool(j, "imported", true);
	return j;
}

static bxc_json *input_to_json(bxc_build *e, const task_input *in, uint64_t worker)
{
	bxc_json *j = bxc_json_object();
	if (in->ctx) {
		char d[BXC_DIGEST_STR_MAX];
		bxc_json *tree = bxc_json_add_object(j, "tree");
		bxc_json_set_str(tree, "digest", bxc_digest_str(&in->tree, d));
		bxc_json_set_u64(tree, "size", in->tree_size);
		return j;
	}
	bxc_json *layers = bxc_json_add_array(j, "layers");
	BXC_ARR_FOREACH (l, &in->layers)
		bxc_json_push_take(layers, layer_to_json(e, *l, worker));
	return j;
}

/* The only message that grows with all that a build has: it is told of before it would be dropped. */
static bool cache_fits(bxc_build *e, task *t, const bxc_json *message)
{
	BXC_AUTOFREE char *text = bxc_json_print(message);
	if (strlen(text) <= BXC_LIMIT_MESSAGE)
		return true;
	bxc_err *err = NULL;
	bxc_ignore(bxc_err_set(&err, BXC_RESOURCE_EXHAUSTED, "a cache of %zu layers is too large to be written: try mode=min", t->nodes.n));
	task_fail(e, t, err, false);
	return false;
}

static void send_run(bxc_build *e, task *t, bxc_wrk_worker *w)
{
	bxc_json *j = bxc_json_dup(t->body);
	bxc_json_set_str(j, "type", "task.run");
	bxc_json_set_str(j, "task", t->name);
	bxc_json_set_u64(j, "epoch", t->attempt);
	bxc_json_set_str(j, "build", t->build ? t->build->id : "");
	if (t->kind == TASK_CHECKSUM || (t->kind == TASK_ASK && t->inputs.n)) {
		bxc_json_set_take(j, "input", input_to_json(e, &t->inputs.v[0], w->id));
	} else if (t->kind == TASK_RUN) {
		bxc_json *inputs = bxc_json_add_array(j, "inputs");
		BXC_ARR_FOREACH (in, &t->inputs)
			bxc_json_push_take(inputs, input_to_json(e, in, w->id));
	} else if (bxc_json_get(t->body, "cache")) {
		bxc_json *nodes = bxc_json_add_array(j, "nodes");
		BXC_ARR_FOREACH (n, &t->nodes) {
			bxc_json *l = layer_to_json(e, n->layer, w->id);
			bxc_json_set_i64(l, "parent", n->parent);
			bxc_json_push_take(nodes, l);
		}
		if (!cache_fits(e, t, j)) {
			bxc_json_free(j);
			return;
		}
	} else if (t->kind == TASK_EXPORT) {
		/* One input per image, in the order of the images. */
		size_t i = 0;
		bxc_json *images = bxc_json_array();
		BXC_JSON_FOREACH (img, bxc_json_get(t->body, "images")) {
			bxc_json *copy = bxc_json_dup(img);
			bxc_json *layers = bxc_json_add_array(copy, "layers");
			BXC_ARR_FOREACH (l, &t->inputs.v[i].layers)
				bxc_json_push_take(layers, layer_to_json(e, *l, w->id));
			bxc_json_push_take(images, copy);
			i++;
		}
		bxc_json_set_take(j, "images", images);
	}
	t->phase = TASK_RUNNING;
	if (t->kind == TASK_RUN)
		attempt_begin(e, t, w, j);
	else
		worker_send(w, j);
}

void layer_publish_at(bxc_wrk_worker *holder, layer *const *layers, size_t i)
{
	layer *l = layers[i];
	bxc_json *j = bxc_json_object();
	BXC_AUTOFREE char *name = bxc_str_fmt("publish-%s", l->id);
	l->publisher = holder->id;
	bxc_json_set_str(j, "type", "task.run");
	bxc_json_set_str(j, "task", name);
	bxc_json_set_u64(j, "epoch", 1);
	bxc_json_set_str(j, "build", "");
	bxc_json_set_str(j, "kind", "publish");
	bxc_json_set_str(j, "compression", "zstd");
	bxc_json *ids = bxc_json_add_array(j, "layers");
	for (size_t k = i - BXC_MIN(i, (size_t)l->n_below); k <= i; k++)
		bxc_json_push_str(ids, layers[k]->id);
	worker_send(holder, j);
}

void task_dispatch(bxc_build *e, task *t, uint64_t worker)
{
	bxc_wrk_worker *w = bxc_wrk_get(e->c.workers, worker);
	if (!w)
		return;              /* LOST follows */
	if (t->phase == TASK_QUEUED)
		w->running++;
	caches_placed(e, t);
	t->worker = worker;
	t->phase = TASK_PUBLISHING;
	/* It may come here again when a layer could not be published: nothing is counted twice. */
	stop_waiting(t);
	BXC_ARR_FOREACH (in, &t->inputs) {
		for (size_t i = 0; i < in->layers.n; i++) {
			layer *l = in->layers.v[i];
			if (bxc_wrk_has_layer(w, l->id) || layer_is_elsewhere(l))
				continue;
			bxc_wrk_worker *holder = bxc_wrk_holder(e->c.workers, l->id);
			if (!holder || !holder->peer_url) {
				task_input_lost(e, t, l->id);
				return;
			}
			if (bxc_digest_is_set(&l->blob.digest))
				continue;
			*bxc_arr_push(&l->waiters) = t->id;
			t->n_publishing++;
			if (!l->publisher)
				layer_publish_at(holder, in->layers.v, i);
		}
	}
	if (t->n_publishing == 0)
		send_run(e, t, w);
}

int publish_done_message(bxc_build *e, bxc_wrk_worker *w, const char *name, const bxc_json *msg, bxc_err **err)
{
	layer *l = bxc_map_get(e->layers, name + strlen("publish-"));
	if (!l || l->publisher != w->id)
		return 0;
	int r = 0;
	l->publisher = 0;
	if (bxc_json_get_bool(msg, "ok", false)) {
		r = layer_set_blob(l, bxc_json_first(bxc_json_get(bxc_json_get(msg, "result"), "layers")), err);
	} else {
		BXC_AUTOERR bxc_err *why = err_from_json(bxc_json_get(msg, "error"));
		bxc_log_err(BXC_LOG_WARN, "layer.publish_failed", why, "layer", l->id, "worker", w->name, NULL);
		r = -1;
	}
	if (r < 0) {
		/* A holder that can't give it does not have it. */
		layer_gone(e, w, l->id);
	}
	BXC_ARR(uint64_t) waiters = {0};
	BXC_ARR_FOREACH (id, &l->waiters)
		*bxc_arr_push(&waiters) = *id;
	l->waiters.n = 0;
	BXC_ARR_FOREACH (id, &waiters) {
		task *t = task_by_id(e, *id);
		if (!t || t->phase != TASK_PUBLISHING)
			continue;
		if (r < 0) {
			task_dispatch(e, t, t->worker);
			continue;
		}
		bxc_wrk_worker *target = bxc_wrk_get(e->c.workers, t->worker);
		if (--t->n_publishing == 0 && target)
			send_run(e, t, target);
	}
	bxc_arr_done(&waiters);
	prefetch_blob_made(e);
	if (r < 0)
		layers_vanished(e);
	return r < 0 && err && *err ? r : 0;
}

/* ---- results ---- */

static int run_done(bxc_build *e, bxc_wrk_worker *w, task *t, const bxc_json *result, bxc_err **err)
{
	const bxc_json *j;
	int r = bxc_json_need_obj(result, "layer", &j, err);
	if (r < 0)
		return r;
	layer *l = layer_get(e, t->output_layer);
	l->size = bxc_json_get_u64(j, "size", 0);
	l->created_ns = bxc_clock_wall_ns();
	layer_held(e, w, l);
	record *rec = bxc_calloc(1, sizeof(*rec));
	uint64_t base = bxc_json_get_u64(t->body, "base_input", 0);
	layer *const *below = t->adopted_base.v;
	size_t n_below = t->adopted_base.n;
	if (!t->is_adopted && base < t->inputs.n) {
		below = t->inputs.v[base].layers.v;
		n_below = t->inputs.v[base].layers.n;
	}
	for (size_t i = 0; i < n_below; i++) {
		*bxc_arr_push(&rec->layers) = below[i];
		layer_held(e, w, below[i]);
	}
	l->n_below = (uint32_t)n_below;
	*bxc_arr_push(&rec->layers) = l;
	uint64_t ticket = t->ticket;
	int64_t took_ns = bxc_json_get_i64(result, "duration_ns", 0);
	duration_learn(e, t, w, took_ns);
	suspect_clear(e, t);
	bxc_state_attempt ended = attempt_row(t, w->name);
	t->is_recorded = false;
	task_drop(e, t);
	record_new(e, rec, ticket, took_ns, &ended);
	return 0;
}

static int checksum_done(bxc_build *e, task *t, const bxc_json *result, bxc_err **err)
{
	const bxc_json *list;
	int r = bxc_json_need_arr(result, "digests", &list, err);
	if (r < 0)
		return r;
	if (bxc_json_len(list) != t->n_selectors)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "digests: expected %zu", t->n_selectors);
	BXC_ARR(bxc_digest) digests = {0};
	BXC_JSON_FOREACH (d, list) {
		r = bxc_digest_parse(bxc_json_string(d) ? bxc_json_string(d) : "", bxc_arr_push(&digests), err);
		if (r < 0)
			break;
	}
	if (r >= 0) {
		bxc_digest all = bxc_solve_combine(digests.v, digests.n);
		uint64_t ticket = t->ticket;
		task_drop(e, t);
		bxc_solve_checksum(e->solve, ticket, &all);
	}
	bxc_arr_done(&digests);
	return r;
}

int task_done_message(bxc_build *e, bxc_wrk_worker *w, task *t, const bxc_json *msg, bxc_err **err)
{
	if (bxc_json_get_bool(msg, "ok", false)) {
		const bxc_json *result;
		int r = bxc_json_need_obj(msg, "result", &result, err);
		if (r >= 0 && t->kind == TASK_RUN)
			return run_done(e, w, t, result, err);
		if (r >= 0 && t->kind == TASK_CHECKSUM)
			return checksum_done(e, t, result, err);
		if (r >= 0 && t->answer)
			t->answer(e, t, result, NULL, false);
		else if (r >= 0)
			export_done(e, t, bxc_json_get(result, "response"), NULL);
		return r;
	}
	if (t->kind == TASK_RUN)
		attempt_forget(w, t->name);
	const bxc_json *lost = bxc_json_get(msg, "lost");
	if (bxc_json_len(lost)) {
		BXC_AUTOFREE char *first = bxc_strdup(bxc_json_string(bxc_json_first(lost)));
		BXC_JSON_FOREACH (l, lost) {
			const char *id = bxc_json_string(l);
			layer *lay = id ? bxc_map_get(e->layers, id) : NULL;
			if (!lay)
				continue;
			if (lay->imported) {
				layer_withdraw(e, lay);
				continue;
			}
			/* Nobody could hand it over as promised: every promise is withdrawn. */
			bxc_digest none = {0};
			if (!lay->registry && !lay->layout)
				lay->blob.digest = none;
			for (size_t i = 0; i < bxc_wrk_count(e->c.workers); i++)
				layer_gone(e, bxc_wrk_at(e->c.workers, i), id);
		}
		if (first)
			task_input_lost(e, t, first);
		layers_vanished(e);
		return 0;
	}
	bxc_err *why = err_from_json(bxc_json_get(msg, "error"));
	bool infra = bxc_json_get_bool(msg, "infra", false);
	/* A registry or client that does not answer one worker does not answer another: only the worker's own troubles count. */
	if (t->kind == TASK_EXPORT)
		infra = infra && bxc_err_get_detail(why, "infra");
	bxc_err_detail(why, "worker", "%s", w->name);
	task_fail(e, t, why, infra);
	return 0;
}
