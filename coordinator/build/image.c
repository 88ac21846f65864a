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
	free(i->layout);
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
	n->layout = bxc_strdup(i->layout);
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
	const char *id = v->op.source.identifier;
	if (bxc_str_has_prefix(id, scheme))
		id += strlen(scheme);
	else if (!is_layout(id))
		return NULL;
	BXC_ARR_FOREACH (p, &b->images)
		if (bxc_str_eq((*p)->pinned, id) && bxc_platform_eq(&(*p)->platform, &v->platform))
			return *p;
	return NULL;
}

#define AT_A_TIME 4u                 /* images of one build: the pool is everybody's */

/* One image that a build wants; the pool's while it is being resolved. */
typedef struct wanted {
	struct resolve *all;
	build *b;
	need need;
	internal_vertex vertex;
	bool is_shown;               /* its vertex has begun and not ended */
	image *found;                /* by the pool */
	image *known;                /* copy of what is remembered for the name */
	char *pinned;                /* what it was before a restart; NULL: to be found out */
	bxc_err *err;
} wanted;

struct resolve {
	build *b;
	wanted *v;
	size_t n, next, running;
};

static int pick_manifest(wanted *q, const bxc_ref *ref, bxc_buf *bytes, bxc_descriptor *d, bxc_err **err)
{
	const need *n = &q->need;
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

static int read_config(wanted *q, const bxc_ref *ref, const bxc_oci_manifest *m, bxc_oci_config **ret, bxc_err **err)
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

static int resolve_image(wanted *q, bxc_err **err)
{
	const need *n = &q->need;
	BXC_AUTOREF bxc_ref ref = {0};
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	bxc_descriptor d = {0};
	bxc_oci_manifest m = {0};
	if (is_layout(n->ref))
		return layout_resolve(q->b, n->ref, &n->platform, &q->found, err);
	int r = bxc_ref_parse(n->ref, &ref, err);
	if (r < 0)
		return r;
	/* The build goes on after a restart, with what the name stood for when it began. */
	if (q->pinned) {
		BXC_AUTOREF bxc_ref pinned = {0};
		r = bxc_ref_parse(q->pinned, &pinned, err);
		if (r < 0)
			return r;
		ref.digest = pinned.digest;
	}
	/* One small request tells whether what is remembered still holds. */
	if (q->known && !q->pinned) {
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
	wanted *w = ud;
	bxc_ignore(resolve_image(w, &w->err));
}

static void resolve_free(struct resolve *q)
{
	for (size_t i = 0; i < q->n; i++) {
		free(q->v[i].need.ref);
		free(q->v[i].vertex.name);
		image_free(q->v[i].found);
		image_free(q->v[i].known);
		free(q->v[i].pinned);
		bxc_err_free(q->v[i].err);
	}
	free(q->v);
	free(q);
}

static char *cache_key(const need *n)
{
	BXC_AUTOFREE char *p = bxc_platform_str(&n->platform);
	return bxc_str_fmt("%s %s", n->ref, p);
}

/* For the record: a build that goes on after a restart goes on with the same image. */
static void report_pinned(build *b, const image *img)
{
	BXC_AUTOFREE char *platform = bxc_platform_str(&img->platform);
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "image");
	bxc_json_set_str(j, "ref", img->ref);
	bxc_json_set_str(j, "platform", platform);
	bxc_json_set_str(j, "pinned", img->pinned);
	report(b, j);
}

/* A name that is nearly that of a stage was most likely meant for it. */
static bxc_err *with_nearest(const build *b, const need *n, bxc_err *err_take)
{
	const char *near = bxc_df_nearest_base(b->ast, n->ref);
	if (!near || bxc_err_code(err_take) == BXC_CANCELED)
		return err_take;
	bxc_err *err = NULL;
	bxc_ignore(bxc_err_set(&err, bxc_err_code(err_take), "%s (did you mean %s?)", bxc_err_text(err_take), near));
	const char *k, *v;
	for (size_t i = 0; bxc_err_detail_at(err_take, i, &k, &v); i++)
		bxc_err_detail(err, k, "%s", v);
	bxc_err_free(err_take);
	return err;
}

static void hide(wanted *w, const bxc_err *err)
{
	if (w->is_shown)
		internal_end(w->b, &w->vertex, err);
	w->is_shown = false;
}

/* The first that fails ends the build; the others are canceled with it and come to resolve_done one by one. */
static void fail(struct resolve *q, wanted *w)
{
	bxc_err *err = with_nearest(q->b, &w->need, BXC_TAKE(w->err));
	BXC_AUTOERR bxc_err *canceled = NULL;
	bxc_err_set(&canceled, BXC_CANCELED, "canceled");
	for (size_t i = 0; i < q->next; i++)
		hide(&q->v[i], canceled);
	bxc_err_detail(err, "ref", "%s", w->need.ref);
	bxc_err_detail(err, "file", "%s", q->b->dockerfile_name);
	bxc_err_detail(err, "line", "%u", w->need.line);
	bxc_err_detail(err, "line_end", "%u", w->need.line_end);
	build_fail(q->b, err);
}

static void resolve_more(struct resolve *q);

static void resolve_done(void *ud)
{
	wanted *w = ud;
	struct resolve *q = w->all;
	build *b = q->b;
	b->jobs--;
	q->running--;
	hide(w, w->err);
	if (!b->dead && !w->err) {
		resolve_more(q);
		return;
	}
	bool was_dead = b->dead;
	if (!was_dead)
		fail(q, w);
	if (q->running == 0)
		resolve_free(q);
	if (was_dead)
		build_job_done(b);
}

static void resolve_one(wanted *w)
{
	build *b = w->b;
	w->pinned = bxc_strdup(told_pinned(b, w->need.ref, &w->need.platform));
	BXC_AUTOFREE char *key = cache_key(&w->need);
	const image *known = bxc_map_get(b->engine->images, key);
	if (known)
		w->known = image_dup(known);
	BXC_AUTOFREE char *plat = bxc_platform_str(&w->need.platform);
	BXC_AUTOFREE char *name = b->platforms.n > 1 ? bxc_str_fmt("[%s internal] load metadata for %s", plat, w->need.ref)
						     : bxc_str_fmt("[internal] load metadata for %s", w->need.ref);
	internal_begin(b, &w->vertex, name);
	w->is_shown = true;
	b->jobs++;
	if (bxc_pool_submit(b->engine->c.pool, resolve_work, b->engine->c.loop, resolve_done, w, &w->err) < 0)
		bxc_loop_post(b->engine->c.loop, resolve_done, w);
}

/* Begins as many as may run; goes on with the build when the last has come. */
static void resolve_more(struct resolve *q)
{
	build *b = q->b;
	for (; q->next < q->n && q->running < AT_A_TIME; q->next++) {
		q->running++;
		resolve_one(&q->v[q->next]);
	}
	if (q->running)
		return;
	/* In the order in which they were wanted, whichever came first. */
	for (size_t i = 0; i < q->n; i++) {
		BXC_AUTOFREE char *key = cache_key(&q->v[i].need);
		/* What a client has in a layout is asked for by each build. */
		if (!q->v[i].found->layout)
			bxc_map_set(b->engine->images, key, image_dup(q->v[i].found));
		if (!q->v[i].pinned)
			report_pinned(b, q->v[i].found);
		layout_layers(b, q->v[i].found);
		*bxc_arr_push(&b->images) = BXC_TAKE(q->v[i].found);
	}
	resolve_free(q);
	build_lower(b);
}

void images_resolve(build *b, need *needs_take, size_t n)
{
	struct resolve *q = bxc_calloc(1, sizeof(*q));
	q->b = b;
	q->n = n;
	q->v = bxc_calloc(n, sizeof(*q->v));
	for (size_t i = 0; i < n; i++)
		q->v[i] = (wanted){.all = q, .b = b, .need = needs_take[i]};
	free(needs_take);
	resolve_more(q);
}
