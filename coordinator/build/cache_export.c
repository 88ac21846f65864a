/* SPDX-License-Identifier: Apache-2.0 */
/* What a build knows, as a cache for elsewhere: keys of all its steps, layers of those that are to
 * be kept. */
#include "coordinator/build/imports_internal.h"

#include "common/base/mem.h"
#include "common/base/str.h"

const char *cache_vertex_name(const bxc_json *spec)
{
	return bxc_str_eq(bxc_json_get_str(spec, "type", NULL), "local")
		       ? "exporting cache to client directory"
		       : "exporting cache to registry";
}

bool cache_error_is_ignored(build *b, const bxc_json *spec, const bxc_err *err)
{
	if (!cache_flag(spec, "ignore-error") || bxc_err_code(err) == BXC_CANCELED)
		return false;
	BXC_AUTOFREE char *text =
		bxc_str_fmt("%s failed: %s", cache_vertex_name(spec), bxc_err_text(err));
	bxc_json *j = warning_new(b, NULL, text);
	if (j)
		report(b, j);
	return true;
}

/* ---- layers upon layers ---- */

struct tree {
	task *t;
	bxc_map *by_place;	   /* "<parent> <layer id>" -> number + 1 */
	BXC_ARR(uint8_t) is_inner; /* something lies upon it */
	BXC_ARR(uint64_t) record;  /* one whose topmost layer it is */
};

/* The node of the layer upon `parent`; made with `make`, else -1 for a new one. */
static int32_t node_of(struct tree *tr, layer *l, int32_t parent, bool make)
{
	BXC_AUTOFREE char *place = bxc_str_fmt("%d %s", parent, l->id);
	uintptr_t known = (uintptr_t)bxc_map_get(tr->by_place, place);
	if (known || !make)
		return (int32_t)known - 1;
	*bxc_arr_push(&tr->t->nodes) = (cache_node){l, parent};
	*bxc_arr_push(&tr->is_inner) = 0;
	*bxc_arr_push(&tr->record) = 0;
	if (parent >= 0)
		tr->is_inner.v[parent] = 1;
	bxc_map_set(tr->by_place, place, (void *)(uintptr_t)tr->t->nodes.n);
	return (int32_t)tr->t->nodes.n - 1;
}

static int32_t chain_of(struct tree *tr, const record *r, bool make)
{
	int32_t at = -1;
	BXC_ARR_FOREACH (l, &r->layers) {
		at = node_of(tr, *l, at, make);
		if (at < 0)
			return -1;
	}
	if (at >= 0)
		tr->record.v[at] = r->id;
	return at;
}

/* The worker brings whole chains; a chain that another one continues comes with it. */
static void inputs_of(struct tree *tr)
{
	for (size_t i = 0; i < tr->t->nodes.n; i++) {
		if (tr->is_inner.v[i])
			continue;
		task_input *in = bxc_arr_push(&tr->t->inputs);
		in->record = tr->record.v[i];
		size_t n = 0;
		for (int32_t at = (int32_t)i; at >= 0; at = tr->t->nodes.v[at].parent)
			n++;
		for (size_t k = 0; k < n; k++)
			bxc_arr_push(&in->layers);
		for (int32_t at = (int32_t)i; at >= 0; at = tr->t->nodes.v[at].parent)
			in->layers.v[--n] = tr->t->nodes.v[at].layer;
	}
}

/* ---- keys ---- */

static void push_fact(bxc_json *list, const bxc_solve_fact *f, int32_t top)
{
	char s[BXC_DIGEST_STR_MAX];
	bxc_json *o = bxc_json_push_object(list);
	bxc_json *keys = bxc_json_add_array(o, "keys");
	for (size_t i = 0; i < f->n_keys; i++)
		bxc_json_push_str(keys, bxc_digest_str(&f->keys[i], s));
	bxc_json_set_str(o, "canonical", bxc_digest_str(&f->canonical, s));
	bxc_json_set_i64(o, "node", top);
}

/* Sources are found by whoever builds: their keys are what they are. */
static bool fact_at(build *b, uint32_t index, bxc_solve_fact *f, record **ret_record)
{
	if (b->def->vertices.v[index]->kind == BXC_OP_SOURCE ||
		!bxc_solve_fact_of(b->engine->solve, b->num, index, f))
		return false;
	*ret_record = f->record ? record_find(b->engine, f->record) : NULL;
	return true;
}

static bool is_alias(const bxc_solve_fact *f)
{
	for (size_t i = 0; i < f->n_keys; i++)
		if (!bxc_digest_eq(&f->keys[i], &f->canonical))
			return true;
	return false;
}

void cache_task_fill(build *b, task *t, const bxc_json *spec)
{
	struct tree tr = {.t = t, .by_place = bxc_map_new(NULL)};
	bool max = bxc_str_eq(bxc_json_get_str(bxc_json_get(spec, "attrs"), "mode", NULL), "max");
	bxc_json_set_str(t->body, "kind", "cache");
	bxc_json_set_take(t->body, "cache", bxc_json_dup(spec));
	bxc_json *list = bxc_json_add_array(t->body, "records");
	BXC_ARR_FOREACH (rp, &b->results) {
		const bxc_def_vertex *v = rp->is_scratch ? NULL : b->def->vertices.v[rp->vertex];
		record *r = v && v->kind != BXC_OP_SOURCE
				    ? record_find(b->engine, b->records.v[rp->target])
				    : NULL;
		if (r)
			chain_of(&tr, r, true);
	}
	for (uint32_t i = 0; b->def && i < b->def->vertices.n; i++) {
		bxc_solve_fact f;
		record *r;
		if (!fact_at(b, i, &f, &r))
			continue;
		int32_t top = r ? chain_of(&tr, r, max) : -1;
		if (top >= 0 || is_alias(&f))
			push_fact(list, &f, top);
	}
	inputs_of(&tr);
	bxc_map_free(tr.by_place);
	bxc_arr_done(&tr.is_inner);
	bxc_arr_done(&tr.record);
}

/* ---- within an image ---- */

static bool is_below(const record *r, const record *result)
{
	if (r->layers.n == 0 || r->layers.n > result->layers.n)
		return false;
	for (size_t i = 0; i < r->layers.n; i++)
		if (r->layers.v[i] != result->layers.v[i])
			return false;
	return true;
}

char *cache_inline_records(build *b, const result_platform *rp)
{
	bool wanted = false;
	BXC_JSON_FOREACH (spec, bxc_json_get(b->request, "cache_to"))
		wanted = wanted || cache_is_inline(spec);
	record *result =
		wanted && !rp->is_scratch ? record_find(b->engine, b->records.v[rp->target]) : NULL;
	if (!result)
		return NULL;
	BXC_AUTOCC bxc_cc cc = {0};
	bool any = false;
	BXC_ARR_FOREACH (l, &result->layers)
		bxc_arr_push(&cc.layers)->created_ns = (*l)->created_ns;
	for (uint32_t i = 0; i < b->def->vertices.n; i++) {
		bxc_solve_fact f;
		record *r;
		if (!fact_at(b, i, &f, &r))
			continue;
		bool below = r && is_below(r, result);
		any = any || below;
		if (!below && !is_alias(&f))
			continue;
		for (size_t k = 0; k < f.n_keys; k++)
			*bxc_arr_push(&cc.records) = (bxc_cc_record){
				f.keys[k], f.canonical, below ? (int32_t)r->layers.n - 1 : -1};
	}
	/* An image that is its base, unchanged, holds nothing to be found. */
	return any ? bxc_cc_print_inline(&cc) : NULL;
}
