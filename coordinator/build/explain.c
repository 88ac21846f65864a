/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept of every step, so that `bxc why` can compare it later: what its key was made of,
 * what became of it, and the files of contexts that it stands for (coordinator/why/FORMAT.md).
 */
#include "coordinator/build/build_internal.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* ---- numbers and places ---- */

void explain_free(explaining *x)
{
	if (!x)
		return;
	bxc_map_free(x->numbers);
	bxc_arr_done(&x->missed);
	free(x->positions);
	free(x);
}

explaining *explain_of(build *b)
{
	if (b->explaining)
		return b->explaining;
	b->explaining = bxc_calloc(1, sizeof(*b->explaining));
	b->explaining->numbers = bxc_map_new(NULL);
	/* Those that were told before a restart keep theirs. */
	for (size_t i = 0; b->told && i < b->told->in_order.n; i++)
		bxc_ignore(explain_number(b, b->told->in_order.v[i]->digest));
	return b->explaining;
}

uint64_t explain_number(build *b, const char *vertex)
{
	bxc_map *numbers = explain_of(b)->numbers;
	uint64_t n = (uintptr_t)bxc_map_get(numbers, vertex);
	if (!n) {
		n = bxc_map_len(numbers) + 1;
		bxc_map_set(numbers, vertex, (void *)(uintptr_t)n);
	}
	return n;
}

/* Among the steps of its stage and platform; made for all of them at once. */
static uint32_t position_of(build *b, uint32_t index)
{
	explaining *x = explain_of(b);
	size_t n = b->def->vertices.n;
	if (x->positions_of == b->def)
		return x->positions[index];
	BXC_CLEANUP(bxc_map_freep) bxc_map *count = bxc_map_new(NULL);
	free(x->positions);
	x->positions = bxc_calloc(n, sizeof(*x->positions));
	x->positions_of = b->def;
	for (size_t i = 0; i < n; i++) {
		const bxc_def_vertex *v = b->def->vertices.v[i];
		if (v->meta.internal)
			continue;
		BXC_AUTOFREE char *platform = bxc_platform_str(&v->platform);
		BXC_AUTOFREE char *key =
			bxc_str_fmt("%s %s", platform, v->meta.stage ? v->meta.stage : "");
		uintptr_t k = (uintptr_t)bxc_map_get(count, key);
		x->positions[i] = (uint32_t)k;
		bxc_map_set(count, key, (void *)(k + 1));
	}
	return x->positions[index];
}

/* What the client calls it; else where its context comes from, or the repository: tags come and go.
 */
static char *project_of(const build *b)
{
	const char *project = bxc_json_get_str(b->request, "project", NULL);
	if (!project)
		project = bxc_json_get_str(b->request, "remote_context", NULL);
	if (project && !bxc_str_has_prefix(project, "upload://"))
		return bxc_str_fmt("%s %s", project, b->dockerfile_name);
	const char *name = bxc_json_get_str(b->request, "name", "");
	BXC_AUTOFREE char *first = bxc_strndup(name, strcspn(name, ","));
	char *slash = strrchr(first, '/');
	char *colon = strchr(slash ? slash : first, ':');
	if (colon)
		*colon = '\0';
	return bxc_str_fmt("%s %s", first, b->dockerfile_name);
}

/* ---- one step ---- */

struct manifest {
	bxc_digest id;
	context *ctx; /* counted */
	selects selects;
};

struct keep {
	bxc_state_step row;
	bxc_json *facts; /* NULL: only the outcome is new */
	bool is_hit;
	char *worker;	     /* NULL: none had it */
	int64_t duration_ns; /* 0: it did not run, or its end is not told */
	BXC_ARR(struct manifest) manifests;
};

static void keep_free(bxc_build *e, struct keep *k)
{
	BXC_ARR_FOREACH (m, &k->manifests) {
		selects_done(&m->selects);
		context_unref(e, m->ctx);
	}
	bxc_arr_done(&k->manifests);
	bxc_json_free(k->facts);
	free(k->worker);
	bxc_state_step_done(&k->row);
	free(k);
}

/* Names what is selected, not only what it holds: the same files may lie elsewhere. */
static bxc_digest manifest_id(const bxc_digest *content, const selects *l)
{
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	bxc_hasher_update_str(h, "bxc manifest 1");
	bxc_hasher_update(h, content->b, sizeof(content->b));
	BXC_ARR_FOREACH (s, l)
		bxc_hasher_update_str(h, s->path);
	return bxc_hasher_final(h);
}

static bxc_digest want_manifest(struct keep *k, build *b, const bxc_def_vertex *v, uint32_t input,
	const bxc_digest *content)
{
	static const bxc_solve_selector all = {.path = "/", .dir_contents = true};
	context *ctx = context_for(b, b->def->vertices.v[v->inputs.v[input].vertex]);
	if (!ctx->tree || !bxc_digest_is_set(content))
		return (bxc_digest){0};
	struct manifest *m = bxc_arr_push(&k->manifests);
	m->ctx = ctx;
	context_ref(ctx);
	bxc_solve_contents contents;
	bxc_solve_content_inputs(v, &contents);
	BXC_ARR_FOREACH (c, &contents.items)
		if (c->input_index == input)
			selects_add(&m->selects, c->selectors.v, c->selectors.n);
	bxc_solve_contents_done(&contents);
	if (m->selects.n == 0)
		selects_add(&m->selects, &all, 1);
	m->id = manifest_id(content, &m->selects);
	return m->id;
}

static bxc_json *parts_of(
	struct keep *k, build *b, const bxc_def_vertex *v, const bxc_solve_key *key)
{
	BXC_AUTOFREE bxc_why_input *inputs = bxc_calloc(v->inputs.n + 1, sizeof(*inputs));
	for (size_t i = 0; i < v->inputs.n; i++) {
		const bxc_solve_key_input *in = &key->inputs.v[i];
		inputs[i].v = b->def->vertices.v[v->inputs.v[i].vertex];
		inputs[i].key = in->canonical;
		inputs[i].content = in->content;
		if (bxc_solve_is_local(inputs[i].v))
			inputs[i].manifest = want_manifest(k, b, v, (uint32_t)i,
				bxc_digest_is_set(&in->content) ? &in->content : &in->canonical);
	}
	return bxc_why_parts(v, inputs, &key->key);
}

static const char *miss_name(bxc_solve_miss miss)
{
	return miss == BXC_SOLVE_MISS_IGNORE_CACHE ? "no-cache"
	       : miss == BXC_SOLVE_MISS_LOST	   ? "lost"
						   : NULL;
}

static bxc_json *facts_of(
	struct keep *k, build *b, const bxc_def_vertex *v, const bxc_solve_key *key)
{
	bxc_json *j = bxc_json_object();
	char d[BXC_DIGEST_STR_MAX];
	bxc_json_set_str(j, "name", v->meta.name ? v->meta.name : "");
	bxc_json_set_str(j, "stage", v->meta.stage);
	if (v->platform.os[0]) {
		BXC_AUTOFREE char *platform = bxc_platform_str(&v->platform);
		bxc_json_set_str(j, "platform", platform);
	}
	bxc_json_set_str(j, "miss", k->is_hit ? NULL : miss_name(key->miss));
	if (bxc_digest_is_set(&key->key))
		bxc_json_set_str(j, "key", bxc_digest_str(&key->key, d));
	bxc_json_set_take(j, "parts", parts_of(k, b, v, key));
	return j;
}

/* ---- the store ---- */

static bxc_why_file file_of(const bxc_tree *t, const bxc_tree_entry *e)
{
	const bxc_tree_entry *file = e->is_hardlink ? bxc_tree_find(t, e->link) : e;
	return (bxc_why_file){
		.path = e->path,
		.mode = e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.link = e->is_hardlink ? NULL : e->link,
		.digest = file ? file->digest : (bxc_digest){0},
	};
}

static int put_manifest(bxc_state *st, const struct manifest *m, bxc_err **err)
{
	const bxc_tree *t = m->ctx->tree;
	BXC_AUTOFREE bool *taken = bxc_calloc(t->entries.n + 1, sizeof(*taken));
	BXC_ARR(bxc_why_file) files = {0};
	int r = 0;
	BXC_ARR_FOREACH (sel, &m->selects) {
		bxc_tree_indices idx = {0};
		r = bxc_tree_resolve(t, sel, &idx, err);
		for (size_t i = 0; r >= 0 && i < idx.n; i++)
			taken[idx.v[i]] = true;
		bxc_arr_done(&idx);
		if (r < 0)
			break;
	}
	for (size_t i = 0; r >= 0 && i < t->entries.n; i++)
		if (taken[i])
			*bxc_arr_push(&files) = file_of(t, &t->entries.v[i]);
	if (r >= 0) {
		BXC_AUTOFREE char *text = bxc_why_manifest(files.v, files.n);
		r = bxc_state_manifest_put(st, &m->id, text, err);
	}
	bxc_arr_done(&files);
	return r;
}

static int keep_manifest(
	bxc_state *st, const struct keep *k, const struct manifest *m, bxc_err **err)
{
	int r = bxc_state_manifest_use(st, k->row.build, &m->id, err);
	if (r != 0)
		return r;
	r = put_manifest(st, m, err);
	return r < 0 ? r : bxc_state_manifest_use(st, k->row.build, &m->id, err);
}

/* Who made the record of a hit is kept with the step: the record may go before it. */
static int note_maker(bxc_state *st, struct keep *k, bxc_err **err)
{
	bxc_state_record rec = {0};
	BXC_AUTOJSON bxc_json *result = NULL;
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_state_record_get(st, k->row.record, &rec, &why);
	if (r == -BXC_NOT_FOUND)
		return 0;
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(why));
	r = bxc_json_parse(bxc_slice_of(rec.result, strlen(rec.result)), &result, err);
	if (r >= 0) {
		bxc_json *by = bxc_json_add_object(k->facts, "made_by");
		bxc_json_set_str(by, "build", bxc_json_get_str(result, "build", NULL));
		bxc_json_set_str(by, "worker", bxc_json_get_str(result, "worker", NULL));
		bxc_json_set_ns(by, "created_ns", rec.created_ns);
		bxc_json_set_ns(by, "duration_ns", rec.duration_ns);
	}
	bxc_state_record_done(&rec);
	return r;
}

/* What was known of the step stays known: that it began, and for whom. */
static int merge(struct keep *k, const bxc_state_step *old, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *facts = NULL;
	int r = bxc_json_parse(bxc_slice_of(old->facts, strlen(old->facts)), &facts, err);
	if (r < 0)
		return r;
	/* It ran for this build, and then its result was found: after a restart, or another one. */
	bool ran = k->is_hit && !bxc_str_eq(old->outcome, "hit");
	if (ran) {
		bool goes_on = bxc_str_eq(old->outcome, "running");
		free(k->row.outcome);
		k->row.outcome = bxc_strdup(goes_on ? "executed" : old->outcome);
		k->is_hit = false;
	}
	if (!k->facts || ran) {
		bxc_json_free(k->facts);
		k->facts = BXC_TAKE(facts);
	} else {
		bxc_json_set_str(
			k->facts, "shared_with", bxc_json_get_str(facts, "shared_with", NULL));
	}
	k->row.time_ns = old->time_ns;
	if (!bxc_digest_is_set(&k->row.lineage)) {
		k->row.lineage = old->lineage;
		k->row.shape = old->shape;
	}
	return 0;
}

static int keep_step(bxc_state *st, struct keep *k, bxc_err **err)
{
	bxc_state_step old = {0};
	int r = bxc_state_step_get(st, k->row.build, &k->row.vertex, &old, err);
	if (r > 0)
		r = merge(k, &old, err);
	bxc_state_step_done(&old);
	/* It ended before anything was known of it: there is nothing to explain. */
	if (r < 0 || !k->facts)
		return r;
	if (k->is_hit)
		r = note_maker(st, k, err);
	for (size_t i = 0; r >= 0 && i < k->manifests.n; i++)
		r = keep_manifest(st, k, &k->manifests.v[i], err);
	if (r < 0)
		return r;
	bxc_json_set_str(k->facts, "worker", k->worker);
	if (k->duration_ns)
		bxc_json_set_ns(k->facts, "duration_ns", k->duration_ns);
	k->row.facts = bxc_json_print(k->facts);
	return bxc_state_step_put(st, &k->row, err);
}

struct explained {
	bxc_build *e;
	BXC_ARR(struct keep *) items;
};

/* In one transaction, as one pump of the engine tells of many steps at once. */
static int keep_all(bxc_state *st, const struct explained *b, bxc_err **err)
{
	int r = bxc_state_begin(st, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	BXC_ARR_FOREACH (k, &b->items) {
		BXC_AUTOERR bxc_err *why = NULL;
		r = keep_step(st, *k, &why);
		/* Its build or a file of its context has gone: that is of no harm to the others. */
		if (r < 0 && r != -BXC_NOT_FOUND) {
			bxc_state_rollback(st);
			return bxc_err_move(err, BXC_TAKE(why));
		}
	}
	return bxc_state_commit(st, err);
}

static void keep_work(bxc_state *st, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	/* The builds go on: their steps can't be explained, that is all. */
	if (keep_all(st, ud, &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "steps.not_recorded", err, NULL);
}

static void keep_done(void *ud)
{
	struct explained *b = ud;
	BXC_ARR_FOREACH (k, &b->items)
		keep_free(b->e, *k);
	bxc_arr_done(&b->items);
	free(b);
}

static struct explained *batch_of(bxc_build *e)
{
	if (!e->explained) {
		e->explained = bxc_calloc(1, sizeof(*e->explained));
		e->explained->e = e;
	}
	return e->explained;
}

void explain_flush(bxc_build *e)
{
	if (!e->explained)
		return;
	struct explained *b = e->explained;
	e->explained = NULL;
	bxc_db_submit(e->c.db, keep_work, keep_done, b);
}

/* ---- told by the solver ---- */

static const char *outcome_of(const bxc_def_vertex *v, bxc_solve_event ev)
{
	switch (ev) {
	case BXC_SOLVE_STARTED:
		return "running";
	case BXC_SOLVE_CACHED:
		return "hit";
	case BXC_SOLVE_DONE:
		return bxc_solve_is_free(v) ? "resolved" : "executed";
	case BXC_SOLVE_FAILED:
		return "failed";
	case BXC_SOLVE_CANCELED:
		return "canceled";
	case BXC_SOLVE_MISSED:
		return "missed";
	case BXC_SOLVE_EVENT_NONE:
		break;
	}
	return NULL;
}

/* Another build for which it runs already. */
static const char *shared_with(const build *b, const run_log *l)
{
	for (size_t i = 0; l && i < l->subs.n; i++)
		if (l->subs.v[i].build != b)
			return l->subs.v[i].build->id;
	return NULL;
}

void explain_event(build *b, const bxc_solve_action *a, const run_log *l)
{
	const bxc_def_vertex *v = b->def->vertices.v[a->def_index];
	if (v->meta.internal)
		return;
	struct keep *k = bxc_calloc(1, sizeof(*k));
	bxc_solve_key key = {0};
	int64_t now = bxc_clock_wall_ns();
	char d[BXC_DIGEST_STR_MAX];
	k->row.build = bxc_strdup(b->id);
	k->row.vertex = v->digest;
	k->row.outcome = bxc_strdup(outcome_of(v, a->event));
	k->row.time_ns = now;
	k->is_hit = a->event == BXC_SOLVE_CACHED;
	k->worker = bxc_strdup(l ? l->worker : NULL);
	if (l && l->worker && a->event != BXC_SOLVE_STARTED && b->started_ns[a->def_index])
		k->duration_ns = BXC_MAX(now - b->started_ns[a->def_index], (int64_t)1);
	/* One that begins is told of when a worker runs it. */
	bool is_told = a->event != BXC_SOLVE_STARTED ||
		       bxc_map_has(explain_of(b)->numbers, bxc_digest_str(&v->digest, d));
	k->row.number = is_told ? explain_number(b, bxc_digest_str(&v->digest, d)) : 0;
	/* What has failed has left the solver; its facts were kept when it began. */
	bool is_over = a->event == BXC_SOLVE_FAILED || a->event == BXC_SOLVE_CANCELED;
	if (!is_over && bxc_solve_look(b->engine->solve, b->num, a->def_index, &key)) {
		BXC_AUTOFREE char *project = project_of(b);
		const bxc_why_place place = {
			.project = project, .position = position_of(b, a->def_index)};
		k->row.lineage = bxc_why_lineage(&place, v);
		k->row.shape = bxc_why_shape(NULL, v);
		k->row.record = a->event == BXC_SOLVE_DONE || k->is_hit ? key.record : 0;
		k->facts = facts_of(k, b, v, &key);
		if (a->event == BXC_SOLVE_STARTED)
			bxc_json_set_str(k->facts, "shared_with", shared_with(b, l));
	}
	bxc_solve_key_done(&key);
	*bxc_arr_push(&batch_of(b->engine)->items) = k;
}
