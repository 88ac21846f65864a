/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inputs of the likely next step, brought while the one before it runs.
 *
 * A step continues the tree of another one and is to run where that one runs. Its other inputs may
 * lie with other workers or a registry: as soon as they are there, and the one before runs, they
 * are sent on their way, so that the next step finds them. Nothing waits for it: at most two inputs
 * per worker are under way, the client's own files stay with it, what is on the way when the step
 * comes is waited for there, and what its build does not need any more is called off.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define PER_WORKER 2u
#define MAX_BYTES  (UINT64_C(4) << 30)
#define PREFIX	   "prefetch-"

struct prefetch {
	uint64_t worker;
	char *build;
	char **layers; /* strv of ids, bottom first */
	uint64_t bytes;
	bool is_sent; /* else some layer is being made a blob by who has it */
};

static void prefetch_free(void *p)
{
	struct prefetch *f = p;
	free(f->build);
	bxc_strv_free(f->layers);
	free(f);
}

bxc_map *prefetches_new(void)
{
	return bxc_map_new(prefetch_free);
}

static bool is_clients(const layer *l)
{
	return l->client || l->layout;
}

/* ---- sending ---- */

static void send(bxc_build *e, const char *name, struct prefetch *f, bxc_wrk_worker *w)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "task.run");
	bxc_json_set_str(j, "task", name);
	bxc_json_set_u64(j, "epoch", 1);
	bxc_json_set_str(j, "build", f->build);
	bxc_json_set_str(j, "kind", "prefetch");
	bxc_json *list = bxc_json_add_array(bxc_json_add_object(j, "input"), "layers");
	for (char **id = f->layers; *id; id++)
		bxc_json_push_take(list, layer_to_json(e, bxc_map_get(e->layers, *id), w->id));
	f->is_sent = true;
	worker_send(w, j);
}

/* 1: sent; 0: a blob of it is still being made; negative: it can't be had, or is not wanted. */
static int try_send(bxc_build *e, const char *name, struct prefetch *f)
{
	bxc_wrk_worker *w = bxc_wrk_get(e->c.workers, f->worker);
	size_t n = bxc_strv_len(f->layers);
	BXC_AUTOFREE layer **layers = bxc_calloc(n + 1, sizeof(*layers));
	bool waits = false;
	for (size_t i = 0; i < n; i++)
		if (!(layers[i] = bxc_map_get(e->layers, f->layers[i])))
			return -1;
	for (size_t i = 0; w && i < n; i++) {
		layer *l = layers[i];
		if (bxc_wrk_has_layer(w, l->id) || layer_is_elsewhere(l))
			continue;
		bxc_wrk_worker *holder = bxc_wrk_holder(e->c.workers, l->id);
		if (!holder || !holder->peer_url)
			return -1;
		if (bxc_digest_is_set(&l->blob.digest))
			continue;
		waits = true;
		if (!l->publisher)
			layer_publish_at(holder, layers, i);
	}
	if (w && !waits)
		send(e, name, f, w);
	return !w ? -1 : !waits;
}

void prefetch_blob_made(bxc_build *e)
{
	BXC_MAP_FOREACH (it, e->prefetches) {
		struct prefetch *f = it.value;
		if (!f->is_sent && try_send(e, it.key, f) < 0)
			bxc_map_del(e->prefetches, it.key);
	}
}

static size_t n_of_worker(const bxc_build *e, uint64_t worker)
{
	size_t n = 0;
	BXC_MAP_FOREACH (it, e->prefetches)
		n += ((const struct prefetch *)it.value)->worker == worker;
	return n;
}

static void want(bxc_build *e, const build *b, bxc_wrk_worker *w, const record *r)
{
	uint64_t missing = 0;
	BXC_ARR_FOREACH (l, &r->layers) {
		if (is_clients(*l))
			return;
		missing += bxc_wrk_has_layer(w, (*l)->id) ? 0 : (*l)->size;
	}
	if (!missing || missing > MAX_BYTES || n_of_worker(e, w->id) >= PER_WORKER)
		return;
	BXC_AUTOFREE char *name = bxc_str_fmt(
		PREFIX "%llu-%s", (unsigned long long)w->id, r->layers.v[r->layers.n - 1]->id);
	if (bxc_map_has(e->prefetches, name))
		return;
	struct prefetch *f = bxc_calloc(1, sizeof(*f));
	f->worker = w->id;
	f->build = bxc_strdup(b->id);
	f->bytes = missing;
	BXC_ARR_FOREACH (l, &r->layers)
		bxc_strv_push(&f->layers, (*l)->id);
	bxc_map_set(e->prefetches, name, f);
	if (try_send(e, name, f) < 0)
		bxc_map_del(e->prefetches, name);
}

/* ---- what is likely ---- */

/* The task that runs the vertex for the build; NULL: none does. */
static task *running(bxc_build *e, const build *b, const bxc_def_vertex *v)
{
	char digest[BXC_DIGEST_STR_MAX];
	bxc_digest_str(&v->digest, digest);
	BXC_MAP_FOREACH (it, e->tasks) {
		task *t = it.value;
		if (t->kind == TASK_RUN && t->build == b && t->phase == TASK_RUNNING &&
			bxc_str_eq(t->vertex_digest, digest))
			return t;
	}
	return NULL;
}

static bool serves(const bxc_wrk_worker *w, const bxc_def_vertex *v)
{
	if (w->is_drained || w->is_leaving)
		return false;
	BXC_ARR_FOREACH (p, &w->platforms)
		if (v->kind != BXC_OP_EXEC || bxc_platform_eq(p, &v->platform))
			return true;
	return false;
}

static uint64_t record_of(bxc_build *e, const build *b, uint32_t index)
{
	bxc_solve_key k = {0};
	uint64_t rec = bxc_solve_look(e->solve, b->num, index, &k) ? k.record : 0;
	bxc_solve_key_done(&k);
	return rec;
}

/* Vertex `next` of the build: is it the one after a step that runs? */
static void consider(bxc_build *e, const build *b, uint32_t next)
{
	const bxc_def_vertex *v = b->def->vertices.v[next];
	uint32_t chain = bxc_solve_chain_input(v);
	if (chain == BXC_DEF_NO_INPUT || v->inputs.n < 2)
		return;
	const task *t = running(e, b, b->def->vertices.v[v->inputs.v[chain].vertex]);
	bxc_wrk_worker *w = t ? bxc_wrk_get(e->c.workers, t->worker) : NULL;
	if (!w || !serves(w, v) || record_of(e, b, next))
		return;
	for (uint32_t i = 0; i < v->inputs.n; i++) {
		uint64_t id = i == chain ? 0 : record_of(e, b, v->inputs.v[i].vertex);
		const record *r = id ? record_find(e, id) : NULL;
		if (r && !r->context && r->layers.n)
			want(e, b, w, r);
	}
}

/* Users come after what they use. */
static void consider_users(bxc_build *e, const build *b, uint32_t index)
{
	for (uint32_t i = index + 1; i < b->def->vertices.n; i++) {
		bool uses = false;
		BXC_ARR_FOREACH (in, &b->def->vertices.v[i]->inputs)
			uses = uses || in->vertex == index;
		if (uses)
			consider(e, b, i);
	}
}

void prefetch_result(bxc_build *e, const build *b, uint32_t index)
{
	if (b->def && !b->dead && index < b->def->vertices.n)
		consider_users(e, b, index);
}

void prefetch_started(bxc_build *e, const task *t)
{
	const build *b = t->build;
	if (t->kind != TASK_RUN || !b || b->dead || !b->def)
		return;
	char digest[BXC_DIGEST_STR_MAX];
	for (uint32_t i = 0; i < b->def->vertices.n; i++)
		if (bxc_str_eq(bxc_digest_str(&b->def->vertices.v[i]->digest, digest),
			    t->vertex_digest)) {
			consider_users(e, b, i);
			return;
		}
}

/* ---- ends ---- */

bool prefetch_done_message(bxc_build *e, bxc_wrk_worker *w, const char *name, const bxc_json *msg)
{
	if (!bxc_str_has_prefix(name, PREFIX))
		return false;
	struct prefetch *f = bxc_map_get(e->prefetches, name);
	if (!f || f->worker != w->id)
		return true;
	bool ok = bxc_json_get_bool(msg, "ok", false);
	BXC_AUTOFREE char *bytes = bxc_str_fmt("%llu", (unsigned long long)f->bytes);
	/* A failure costs nothing: the step brings its inputs itself, and tells why it can't. */
	bxc_log(ok ? BXC_LOG_INFO : BXC_LOG_DEBUG, ok ? "prefetch.done" : "prefetch.failed",
		"build", f->build, "worker", w->name, "bytes", bytes, NULL);
	for (char **id = f->layers; ok && *id; id++) {
		const layer *l = bxc_map_get(e->layers, *id);
		if (l)
			layer_held(e, w, l);
	}
	bxc_map_del(e->prefetches, name);
	return true;
}

void prefetch_build_over(bxc_build *e, const char *id)
{
	BXC_MAP_FOREACH (it, e->prefetches) {
		const struct prefetch *f = it.value;
		bxc_wrk_worker *w = bxc_wrk_get(e->c.workers, f->worker);
		if (!bxc_str_eq(f->build, id))
			continue;
		if (w && f->is_sent) {
			bxc_json *j = bxc_json_object();
			bxc_json_set_str(j, "type", "task.cancel");
			bxc_json_set_str(j, "task", it.key);
			worker_send(w, j);
		}
		bxc_map_del(e->prefetches, it.key);
	}
}

void prefetch_worker_left(bxc_build *e, const bxc_wrk_worker *w)
{
	BXC_MAP_FOREACH (it, e->prefetches)
		if (((const struct prefetch *)it.value)->worker == w->id)
			bxc_map_del(e->prefetches, it.key);
}
