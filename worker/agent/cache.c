/* SPDX-License-Identifier: Apache-2.0 */
/* A cache that is exported: layers become blobs, keys come with the task. */
#include "worker/agent/agent_internal.h"

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "worker/cacheio/cacheio.h"

struct exporting {
	job *j;
	bxc_src_layers nodes; /* layers upon layers; those of one layer in two places are two */
	BXC_ARR(int32_t) parents;
	BXC_ARR(const bxc_src_layer *)
	elsewhere; /* parallel: whose blob it is; NULL: it is in the store */
	bxc_cc cache;
};

static int read_nodes(struct exporting *x, const bxc_json *list, bxc_err **err)
{
	if (bxc_json_len(list) > BXC_CC_LIMIT_LAYERS)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "a cache of more than %u layers",
			BXC_CC_LIMIT_LAYERS);
	BXC_JSON_FOREACH (n, list) {
		int64_t parent = bxc_json_get_i64(n, "parent", -2);
		/* What lies below was told of before: chains end. */
		if (parent < -1 || parent >= (int64_t)x->nodes.items.n)
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "nodes[%zu]: parent", x->nodes.items.n);
		int r = bxc_src_layer_parse(n, &x->nodes, err);
		if (r < 0)
			return r;
		*bxc_arr_push(&x->parents) = (int32_t)parent;
	}
	return 0;
}

typedef BXC_ARR(const bxc_src_layer *) chain;

/* From the bottom up to node `at`. */
static int chain_to(const struct exporting *x, int32_t at, chain *ret, bxc_err **err)
{
	ret->n = 0;
	for (int32_t i = at; i >= 0; i = x->parents.v[i])
		*bxc_arr_push(ret) = &x->nodes.items.v[i];
	if (ret->n > BXC_LIMIT_IMAGE_LAYERS)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "%zu layers: overlayfs takes %u",
			ret->n, BXC_LIMIT_IMAGE_LAYERS);
	for (size_t i = 0, k = ret->n; i + 1 < k; i++) {
		const bxc_src_layer *swap = ret->v[i];
		ret->v[i] = ret->v[--k];
		ret->v[k] = swap;
	}
	return 0;
}

/* Layers of ours are packed from their folders, against what they were made upon: that must be
 * here. */
static int bring_own(struct exporting *x, const bxc_json *list, input *in, bxc_err **err)
{
	BXC_CLEANUP(bxc_map_freep) bxc_map *wanted = bxc_map_new(NULL);
	BXC_AUTOFREE bool *needed = bxc_calloc(x->nodes.items.n + 1, sizeof(*needed));
	size_t i;
	for (i = 0; i < x->nodes.items.n; i++) {
		const bxc_src_layer *l = &x->nodes.items.v[i];
		int32_t at = (int32_t)i;
		if (bxc_src_is_elsewhere(l))
			continue;
		for (size_t n = 0; at >= 0 && n <= l->n_below; n++, at = x->parents.v[at])
			needed[at] = true;
	}
	int r = 0;
	i = 0;
	BXC_JSON_FOREACH (n, list) {
		const char *id = x->nodes.items.v[i].id;
		if (r >= 0 && needed[i] && !bxc_map_has(wanted, id)) {
			bxc_map_set(wanted, id, NULL);
			r = bxc_src_layer_parse(n, &in->layers, err);
		}
		i++;
	}
	return r < 0 ? r : input_ensure(x->j, in, err);
}

static int make_blobs(struct exporting *x, const bxc_src_form *form, bxc_err **err)
{
	chain c = {0};
	int r = 0;
	for (size_t i = 0; r >= 0 && i < x->nodes.items.n; i++) {
		const bxc_src_layer *l = &x->nodes.items.v[i];
		bxc_cc_layer *cl = bxc_arr_push(&x->cache.layers);
		bool elsewhere;
		cl->parent = x->parents.v[i];
		cl->created_ns = l->created_ns;
		cl->n_below = UINT32_MAX;
		r = chain_to(x, (int32_t)i, &c, err);
		if (r >= 0)
			r = bxc_src_blob(x->j->a->src, c.v, c.n, form, &x->j->reach, x->j->cancel,
				&cl->blob, &cl->diff_id, &elsewhere, err);
		if (r < 0)
			break;
		if (l->created_ns && l->n_below < c.n - 1)
			cl->n_below = (uint32_t)l->n_below;
		*bxc_arr_push(&x->elsewhere) = elsewhere ? l : NULL;
		/* Notes and places of another image are not this cache's. */
		bxc_strv_free(cl->blob.annotations);
		bxc_strv_free(cl->blob.urls);
		cl->blob.annotations = cl->blob.urls = NULL;
	}
	bxc_arr_done(&c);
	return r;
}

static int read_records(struct exporting *x, const bxc_json *list, bxc_err **err)
{
	BXC_JSON_FOREACH (rec, list) {
		bxc_digest canonical;
		int64_t node = bxc_json_get_i64(rec, "node", -1);
		int r = bxc_digest_parse(bxc_json_get_str(rec, "canonical", ""), &canonical, err);
		if (r >= 0 && (node < -1 || node >= (int64_t)x->nodes.items.n))
			r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "node %lld of %zu",
				(long long)node, x->nodes.items.n);
		BXC_JSON_FOREACH (k, bxc_json_get(rec, "keys")) {
			bxc_cc_record *cr = bxc_arr_push(&x->cache.records);
			*cr = (bxc_cc_record){.canonical = canonical, .layer = (int32_t)node};
			if (r >= 0)
				r = bxc_digest_parse(bxc_json_string(k) ? bxc_json_string(k) : "",
					&cr->key, err);
		}
		if (r < 0)
			return bxc_err_wrap(err, r, "records");
	}
	return 0;
}

/* ---- what cacheio asks for ---- */

static const char *repo_of(size_t layer, void *ud)
{
	struct exporting *x = ud;
	const bxc_src_layer *l = x->elsewhere.v[layer];
	return l ? l->registry : NULL;
}

static int bring(size_t layer, void *ud, bxc_err **err)
{
	struct exporting *x = ud;
	const bxc_src_layer *l = x->elsewhere.v[layer];
	return l ? bxc_src_elsewhere_blob(x->j->a->src, l, &x->j->reach, x->j->cancel, err) : 0;
}

static int open_client(
	const char *kind, bxc_json *name_take, bxc_chan_stream **ret, void *ud, bxc_err **err)
{
	struct exporting *x = ud;
	bxc_json_set_str(name_take, "build", x->j->build);
	return open_client_stream(x->j, kind, name_take, ret, err);
}

static void on_status(const char *id, uint64_t current, uint64_t total, bool done, void *ud)
{
	struct exporting *x = ud;
	send_status(x->j, id, current, total, done);
}

int run_cache(job *j, bxc_err **err)
{
	const bxc_json *spec, *nodes = bxc_json_get(j->msg, "nodes");
	struct exporting x = {.j = j};
	bxc_src_form form;
	input in = {0};
	bxc_cio_request q = {
		.index = bxc_json_get_u64(j->msg, "index", 0),
		.cache = &x.cache,
		.repo = repo_of,
		.bring = bring,
		.open = open_client,
		.status = on_status,
		.ud = &x,
		.reg = j->reg,
		.cancel = j->cancel,
	};
	int r = bxc_json_need_obj(j->msg, "cache", &spec, err);
	if (r >= 0)
		r = bxc_json_need_str(spec, "type", &q.type, err);
	if (r >= 0) {
		q.attrs = bxc_json_get(spec, "attrs");
		r = bxc_src_form_parse(q.attrs, &form, err);
	}
	if (r >= 0)
		r = read_nodes(&x, nodes, err);
	send_status(j, "preparing build cache for export", 0, 0, false);
	if (r >= 0)
		r = bring_own(&x, nodes, &in, err);
	if (r >= 0)
		r = make_blobs(&x, &form, err);
	if (r >= 0)
		r = read_records(&x, bxc_json_get(j->msg, "records"), err);
	if (r >= 0) {
		send_status(j, "preparing build cache for export", 0, 0, true);
		bxc_json *response = NULL;
		r = bxc_cio_export(j->a->c.content, &q, &response, err);
		if (r >= 0) {
			j->result = bxc_json_object();
			bxc_json_set_take(j->result, "response", response);
		}
	}
	input_close(j, &in);
	bxc_src_layers_done(&x.nodes);
	bxc_arr_done(&x.parents);
	bxc_arr_done(&x.elsewhere);
	bxc_cc_done(&x.cache);
	return r < 0 ? r : 0;
}
