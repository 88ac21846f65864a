/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the caches a build names: manifests and keys only, on the pool; layers stay where they
 * are. */
#include "coordinator/build/imports_internal.h"

#include <string.h>

#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"

#define MAX_IMAGES 64u /* of one index that are looked into */

/* ---- documents ---- */

static int append(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_buf_append(ud, p, n, err);
}

/* A blob in memory, verified. */
static int read_blob(
	cache_import *imp, const bxc_descriptor *d, size_t max, bxc_buf *out, bxc_err **err)
{
	char s[BXC_DIGEST_STR_MAX];
	if (d->size > max)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "%s is larger than %zu bytes",
			bxc_digest_str(&d->digest, s), max);
	if (!imp->repo)
		return bxc_sess_cache_blob(
			imp->session, imp->index, &d->digest, imp->b->cancel, out, err);
	return bxc_reg_blob(
		imp->b->reg, &imp->ref, d, imp->b->cancel, append, out, NULL, NULL, err);
}

static int read_manifest(cache_import *imp, const bxc_descriptor *d, bxc_buf *out, bxc_err **err)
{
	if (!imp->repo)
		return read_blob(imp, d, BXC_LIMIT_MANIFEST, out, err);
	return bxc_reg_manifest(imp->b->reg, &imp->ref, d, imp->b->cancel, out, err);
}

static void add_cache(cache_import *imp, bxc_cc *cc_take)
{
	cache_keys *k = bxc_arr_push(&imp->caches);
	char s[BXC_DIGEST_STR_MAX];
	k->cc = *cc_take;
	*cc_take = (bxc_cc){0};
	k->keys = bxc_map_new(NULL);
	BXC_ARR_FOREACH (r, &k->cc.records)
		if (!bxc_map_has(k->keys, bxc_digest_str(&r->key, s)))
			bxc_map_set(k->keys, s, r);
}

static size_t n_records(const cache_import *imp)
{
	size_t n = 0;
	BXC_ARR_FOREACH (k, &imp->caches)
		n += k->cc.records.n;
	return n;
}

static int read_cache(cache_import *imp, const bxc_descriptor *config, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_CC_LIMIT_BYTES);
	BXC_AUTOCC bxc_cc cc = {0};
	int r = read_blob(imp, config, BXC_CC_LIMIT_BYTES, &text, err);
	if (r >= 0)
		r = bxc_cc_parse(bxc_buf_slice(&text), &cc, err);
	if (r >= 0)
		add_cache(imp, &cc);
	return r;
}

/* ---- within an image ---- */

/* Blobs, diff ids and dates are the image's own; what lies below the first layer with a key is its
 * base. */
static int layers_of_image(
	const bxc_oci_manifest *m, const bxc_oci_config *c, bxc_cc *cc, bxc_err **err)
{
	int32_t first = INT32_MAX;
	size_t n = m->layers.n, at = 0;
	if (c->diff_ids.n != n)
		return bxc_err_set(err, BXC_DATA_LOSS, "the image has %zu layers but %zu diff ids",
			n, c->diff_ids.n);
	BXC_ARR_FOREACH (r, &cc->records)
		if (r->layer >= 0)
			first = BXC_MIN(first, r->layer);
	for (size_t i = 0; i < n; i++) {
		bxc_cc_layer *l = bxc_arr_push(&cc->layers);
		bxc_descriptor_copy(&l->blob, &m->layers.v[i]);
		bxc_strv_free(l->blob.annotations);
		l->blob.annotations = NULL;
		l->parent = (int32_t)i - 1;
		l->diff_id = c->diff_ids.v[i];
		l->created_ns = (int32_t)i >= first ? 1 : 0;
		l->n_below = UINT32_MAX;
	}
	BXC_ARR_FOREACH (h, &c->history) {
		if (h->empty_layer || at >= n)
			continue;
		bxc_cc_layer *l = &cc->layers.v[at++];
		if (l->created_ns && h->created_ns > 0)
			l->created_ns = h->created_ns;
	}
	return 0;
}

static int read_image(cache_import *imp, bxc_slice manifest, bxc_err **err)
{
	bxc_oci_manifest m = {0};
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_LIMIT_IMAGE_CONFIG),
			    records = BXC_BUF_INIT(BXC_LIMIT_IMAGE_CONFIG);
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *config = NULL;
	BXC_AUTOJSON bxc_json *j = NULL;
	BXC_AUTOCC bxc_cc cc = {0};
	int r = bxc_oci_manifest_parse(manifest, &m, err);
	if (r >= 0)
		r = read_blob(imp, &m.config, BXC_LIMIT_IMAGE_CONFIG, &text, err);
	if (r >= 0)
		r = bxc_json_parse(bxc_buf_slice(&text), &j, err);
	const char *data = bxc_json_get_str(j, BXC_CC_INLINE_KEY, NULL);
	if (r >= 0 && data) {
		r = bxc_base64_decode(data, BXC_LIMIT_IMAGE_CONFIG, &records, err);
		if (r >= 0)
			r = bxc_cc_parse_inline(bxc_buf_slice(&records), m.layers.n, &cc, err);
		if (r >= 0)
			r = bxc_oci_config_parse(bxc_buf_slice(&text), &config, err);
		if (r >= 0)
			r = layers_of_image(&m, config, &cc, err);
		if (r >= 0)
			add_cache(imp, &cc);
	}
	bxc_oci_manifest_done(&m);
	return r;
}

static int read_index(cache_import *imp, bxc_slice text, bxc_err **err)
{
	bxc_oci_index index = {0};
	size_t n = 0;
	int r = bxc_oci_index_parse(text, &index, err);
	BXC_ARR_FOREACH (d, &index.manifests) {
		BXC_AUTOBUF bxc_buf manifest = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
		/* Attestations are no images; more platforms than there are, are an attack. */
		if (r < 0 || !bxc_oci_is_manifest(d->media_type) ||
			(d->has_platform && bxc_str_eq(d->platform.os, "unknown")))
			continue;
		if (n++ == MAX_IMAGES)
			break;
		if (n_records(imp) > BXC_CC_LIMIT_RECORDS)
			r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "records: more than %u",
				BXC_CC_LIMIT_RECORDS);
		else
			r = read_manifest(imp, d, &manifest, err);
		if (r >= 0)
			r = read_image(imp, bxc_buf_slice(&manifest), err);
	}
	bxc_oci_index_done(&index);
	return r;
}

static int import(cache_import *imp, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	bxc_descriptor top = {0}, config = {0};
	int r;
	if (imp->repo) {
		r = bxc_reg_resolve(imp->b->reg, &imp->ref, imp->b->cancel, &top, &text, err);
	} else {
		top.digest = imp->digest;
		r = read_blob(imp, &top, BXC_LIMIT_MANIFEST, &text, err);
	}
	if (r >= 0)
		r = bxc_cc_of_manifest(bxc_buf_slice(&text), &config, err);
	if (r > 0)
		r = read_cache(imp, &config, err);
	else if (r == 0 && bxc_oci_text_is_index(bxc_buf_slice(&text)))
		r = read_index(imp, bxc_buf_slice(&text), err);
	else if (r == 0)
		r = read_image(imp, bxc_buf_slice(&text), err);
	if (r >= 0 && imp->caches.n == 0)
		r = bxc_err_set(err, BXC_NOT_FOUND,
			"the image holds no cache (it was not built with --cache-to type=inline)");
	bxc_descriptor_done(&config);
	bxc_descriptor_done(&top);
	return r;
}

/* ---- the build ---- */

static void drop_caches(cache_import *imp)
{
	BXC_ARR_FOREACH (k, &imp->caches) {
		bxc_map_free(k->keys);
		bxc_cc_done(&k->cc);
	}
	bxc_arr_done(&imp->caches);
}

void imports_free(build *b)
{
	BXC_ARR_FOREACH (p, &b->imports) {
		cache_import *imp = *p;
		drop_caches(imp);
		bxc_map_free(imp->lost);
		bxc_ref_done(&imp->ref);
		bxc_sess_ref_unref(imp->session);
		bxc_err_free(imp->err);
		free(imp->vertex.name);
		free(imp->from);
		free(imp->repo);
		free(imp);
	}
	bxc_arr_done(&b->imports);
}

static void import_work(void *ud)
{
	cache_import *imp = ud;
	/* What is not whole is not used at all, as it is said. */
	if (import(imp, &imp->err) < 0)
		drop_caches(imp);
}

/* All imports of a build together are no larger than one may be. */
static void bound(build *b, cache_import *imp)
{
	size_t n = n_records(imp);
	b->n_imported += n;
	if (b->n_imported <= BXC_CC_LIMIT_RECORDS)
		return;
	b->n_imported -= n;
	drop_caches(imp);
	bxc_ignore(bxc_err_set(&imp->err, BXC_RESOURCE_EXHAUSTED,
		"the caches of one build hold more than %u records", BXC_CC_LIMIT_RECORDS));
}

static void warn(build *b, const cache_import *imp)
{
	BXC_AUTOFREE char *text =
		bxc_str_fmt("cache from %s is not used: %s", imp->from, bxc_err_text(imp->err));
	bxc_json *j = warning_new(b, imp->vertex.digest, text);
	if (j)
		report(b, j);
}

static void import_done(void *ud)
{
	cache_import *imp = ud;
	build *b = imp->b;
	b->jobs--;
	b->imports_left--;
	if (b->dead) {
		build_job_done(b);
		return;
	}
	if (!imp->err)
		bound(b, imp);
	if (imp->err && !b->canceled) {
		warn(b, imp);
		bxc_log_err(BXC_LOG_INFO, "cache.import_failed", imp->err, "build", b->id, "from",
			imp->from, NULL);
	}
	internal_end(b, &imp->vertex, imp->err);
	if (b->imports_left == 0)
		build_lower(b);
}

void imports_load(build *b)
{
	bxc_build *e = b->engine;
	uint32_t index = 0;
	/* Questions about the Dockerfile run nothing. */
	const bxc_json *specs = b->call ? NULL : bxc_json_get(b->request, "cache_from");
	BXC_JSON_FOREACH (spec, specs) {
		const bxc_json *attrs = bxc_json_get(spec, "attrs");
		cache_import *imp = bxc_calloc(1, sizeof(*imp));
		*bxc_arr_push(&b->imports) = imp;
		imp->b = b;
		imp->index = index++;
		imp->lost = bxc_map_new(NULL);
		/* The attributes were checked when the request came in. */
		if (bxc_str_eq(bxc_json_get_str(spec, "type", NULL), "registry")) {
			bxc_ignore(
				bxc_ref_parse(bxc_json_get_str(attrs, "ref", ""), &imp->ref, NULL));
			imp->repo = bxc_ref_repo(&imp->ref);
			imp->from = bxc_strdup(bxc_json_get_str(attrs, "ref", ""));
		} else {
			bxc_ignore(bxc_digest_parse(
				bxc_json_get_str(attrs, "digest", ""), &imp->digest, NULL));
			imp->session = bxc_sess_ref_ref(b->session);
			imp->from = bxc_str_fmt("local:%s", bxc_json_get_str(attrs, "digest", ""));
		}
		if (!imp->repo && !imp->session)
			bxc_ignore(bxc_err_set(&imp->err, BXC_FAILED_PRECONDITION,
				"the request names no session that could give it"));
		BXC_AUTOFREE char *name =
			bxc_str_fmt("importing cache manifest from %s", imp->from);
		internal_begin(b, &imp->vertex, name);
	}
	b->imports_left = b->imports.n;
	if (b->imports.n == 0) {
		build_lower(b);
		return;
	}
	BXC_ARR_FOREACH (p, &b->imports) {
		cache_import *imp = *p;
		b->jobs++;
		if (imp->err || bxc_pool_submit(e->c.pool, import_work, e->c.loop, import_done, imp,
					&imp->err) < 0)
			bxc_loop_post(e->c.loop, import_done, imp);
	}
}
