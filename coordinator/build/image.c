/* SPDX-License-Identifier: Apache-2.0 */
/* Base images: from a name to a digest, a list of layers, and a configuration. */
#include "coordinator/build/build_internal.h"

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

void image_free(void *p)
{
	image *i = p;
	if (!i)
		return;
	BXC_ARR_FOREACH (d, &i->layers)
		bxc_descriptor_done(d);
	bxc_arr_done(&i->layers);
	bxc_oci_config_free(i->config);
	free(i->ref);
	free(i->pinned);
	free(i->repo);
	free(i);
}

static image *image_dup(const image *i)
{
	image *n = bxc_calloc(1, sizeof(*n));
	n->ref = bxc_strdup(i->ref);
	n->platform = i->platform;
	n->pinned = bxc_strdup(i->pinned);
	n->manifest = i->manifest;
	n->repo = bxc_strdup(i->repo);
	BXC_ARR_FOREACH (d, &i->layers)
		bxc_descriptor_copy(bxc_arr_push(&n->layers), d);
	n->config = bxc_oci_config_dup(i->config);
	return n;
}

bxc_digest image_key(const image *img)
{
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	BXC_AUTOFREE char *p = bxc_platform_str(&img->platform);
	bxc_hasher_update_str(h, "docker-image");
	bxc_hasher_update(h, img->manifest.b, sizeof(img->manifest.b));
	bxc_hasher_update_str(h, p);
	return bxc_hasher_final(h);
}

image *image_for_vertex(build *b, const bxc_def_vertex *v)
{
	static const char scheme[] = "docker-image://";
	if (!bxc_str_has_prefix(v->op.source.identifier, scheme))
		return NULL;
	const char *id = v->op.source.identifier + strlen(scheme);
	BXC_ARR_FOREACH (p, &b->images)
		if (bxc_str_eq((*p)->pinned, id) && bxc_platform_eq(&(*p)->platform, &v->platform))
			return *p;
	return NULL;
}

struct resolve {
	build *b;
	need *needs;
	size_t n;
	size_t at;
	internal_vertex vertex;
	image *found;                /* by the pool */
	image *known;                /* copy of what is remembered for the pinned name */
	bxc_err *err;
};

static void resolve_next(struct resolve *q);

static int pick_manifest(struct resolve *q, const bxc_ref *ref, bxc_buf *bytes, bxc_descriptor *d, bxc_err **err)
{
	const need *n = &q->needs[q->at];
	bxc_oci_index index = {0};
	int r = bxc_oci_index_parse(bxc_buf_slice(bytes), &index, err);
	if (r < 0)
		return r;
	const bxc_descriptor *m = bxc_oci_index_select(&index, &n->platform);
	if (!m) {
		BXC_AUTOFREE char *p = bxc_platform_str(&n->platform);
		r = bxc_err_set(err, BXC_NOT_FOUND, "no match for platform in manifest: '%s' has no image for %s", n->ref, p);
	} else {
		bxc_descriptor_done(d);
		bxc_descriptor_copy(d, m);
		bxc_buf_clear(bytes);
		r = bxc_reg_manifest(q->b->reg, ref, d, q->b->cancel, bytes, err);
	}
	bxc_oci_index_done(&index);
	return r;
}

static int read_config(struct resolve *q, const bxc_ref *ref, const bxc_oci_manifest *m, bxc_oci_config **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *mem = bxc_blob_mem_new();
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_LIMIT_IMAGE_CONFIG);
	if (m->config.size > BXC_LIMIT_IMAGE_CONFIG)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "image configuration is larger than %u bytes", BXC_LIMIT_IMAGE_CONFIG);
	int r = bxc_reg_fetch(q->b->reg, ref, &m->config, q->b->cancel, mem, NULL, NULL, err);
	if (r >= 0)
		r = bxc_blob_read(mem, &m->config.digest, &text, err);
	if (r >= 0)
		r = bxc_oci_config_parse(bxc_buf_slice(&text), ret, err);
	return r;
}

static int resolve_image(struct resolve *q, bxc_err **err)
{
	const need *n = &q->needs[q->at];
	BXC_AUTOREF bxc_ref ref = {0};
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	bxc_descriptor d = {0};
	bxc_oci_manifest m = {0};
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *config = NULL;
	int r = bxc_ref_parse(n->ref, &ref, err);
	if (r < 0)
		return r;
	/* One small request tells whether what is remembered still holds. */
	if (q->known) {
		BXC_AUTOREF bxc_ref pinned = {0};
		r = bxc_reg_head(q->b->reg, &ref, q->b->cancel, &d, err);
		if (r < 0)
			return r;
		if (bxc_ref_parse(q->known->pinned, &pinned, NULL) >= 0 && bxc_digest_eq(&pinned.digest, &d.digest)) {
			q->found = BXC_TAKE(q->known);
			bxc_descriptor_done(&d);
			return 0;
		}
		bxc_descriptor_done(&d);
	}
	d = (bxc_descriptor){0};
	r = bxc_reg_resolve(q->b->reg, &ref, q->b->cancel, &d, &bytes, err);
	if (r < 0)
		return r;
	image *img = bxc_calloc(1, sizeof(*img));
	img->ref = bxc_strdup(n->ref);
	img->platform = n->platform;
	img->repo = bxc_ref_repo(&ref);
	BXC_AUTOREF bxc_ref pinned = {0};
	bxc_ref_copy(&pinned, &ref);
	pinned.digest = d.digest;
	img->pinned = bxc_ref_str(&pinned);
	if (bxc_oci_is_index(d.media_type))
		r = pick_manifest(q, &ref, &bytes, &d, err);
	if (r >= 0) {
		img->manifest = d.digest;
		r = bxc_oci_manifest_parse(bxc_buf_slice(&bytes), &m, err);
	}
	if (r >= 0)
		r = read_config(q, &ref, &m, &img->config, err);
	if (r >= 0 && img->config->diff_ids.n != m.layers.n)
		r = bxc_err_set(err, BXC_DATA_LOSS, "image '%s' has %zu layers but %zu diff ids", n->ref, m.layers.n, img->config->diff_ids.n);
	if (r >= 0) {
		BXC_ARR_FOREACH (l, &m.layers)
			bxc_descriptor_copy(bxc_arr_push(&img->layers), l);
		q->found = BXC_TAKE(img);
	}
	image_free(img);
	bxc_oci_manifest_done(&m);
	bxc_descriptor_done(&d);
	return r;
}

static void resolve_work(void *ud)
{
	struct resolve *q = ud;
	bxc_ignore(resolve_image(q, &q->err));
}

static void resolve_free(struct resolve *q)
{
	for (size_t i = 0; i < q->n; i++)
		free(q->needs[i].ref);
	free(q->needs);
	image_free(q->found);
	image_free(q->known);
	bxc_err_free(q->err);
	free(q);
}

static char *cache_key(const need *n)
{
	BXC_AUTOFREE char *p = bxc_platform_str(&n->platform);
	return bxc_str_fmt("%s %s", n->ref, p);
}

static void resolve_done(void *ud)
{
	struct resolve *q = ud;
	build *b = q->b;
	b->jobs--;
	internal_end(b, &q->vertex, q->err);
	if (b->dead || q->err) {
		bxc_err *err = BXC_TAKE(q->err);
		const need *n = &q->needs[q->at];
		bxc_err_detail(err, "ref", "%s", n->ref);
		bxc_err_detail(err, "file", "%s", b->dockerfile_name);
		bxc_err_detail(err, "line", "%u", n->line);
		bxc_err_detail(err, "line_end", "%u", n->line_end);
		resolve_free(q);
		if (b->dead) {
			bxc_err_free(err);
			build_job_done(b);
		} else {
			build_fail(b, err);
		}
		return;
	}
	BXC_AUTOFREE char *key = cache_key(&q->needs[q->at]);
	bxc_map_set(b->engine->images, key, image_dup(q->found));
	*bxc_arr_push(&b->images) = BXC_TAKE(q->found);
	q->at++;
	resolve_next(q);
}

static void resolve_next(struct resolve *q)
{
	build *b = q->b;
	if (q->at == q->n) {
		resolve_free(q);
		build_lower(b);
		return;
	}
	image_free(q->known);
	q->known = NULL;
	BXC_AUTOFREE char *key = cache_key(&q->needs[q->at]);
	const image *known = bxc_map_get(b->engine->images, key);
	if (known)
		q->known = image_dup(known);
	BXC_AUTOFREE char *plat = bxc_platform_str(&q->needs[q->at].platform);
	BXC_AUTOFREE char *name = b->platforms.n > 1
		? bxc_str_fmt("[%s internal] load metadata for %s", plat, q->needs[q->at].ref)
		: bxc_str_fmt("[internal] load metadata for %s", q->needs[q->at].ref);
	internal_begin(b, &q->vertex, name);
	b->jobs++;
	if (bxc_pool_submit(b->engine->c.pool, resolve_work, b->engine->c.loop, resolve_done, q, &q->err) < 0)
		bxc_loop_post(b->engine->c.loop, resolve_done, q);
}

void images_resolve(build *b, need *needs_take, size_t n)
{
	struct resolve *q = bxc_calloc(1, sizeof(*q));
	q->b = b;
	q->needs = needs_take;
	q->n = n;
	resolve_next(q);
}
