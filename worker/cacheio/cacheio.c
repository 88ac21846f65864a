/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/cacheio/cacheio_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"

static void made_done(cio_made *m)
{
	BXC_ARR_FOREACH (d, &m->blobs)
		bxc_descriptor_done(d);
	bxc_arr_done(&m->blobs);
	bxc_arr_done(&m->layers);
	bxc_descriptor_done(&m->config);
	bxc_descriptor_done(&m->manifest);
	free(m->config_text);
	free(m->manifest_text);
}

/* The notes that BuildKit's importer reads from the manifest. */
static void annotate(bxc_descriptor *d, const bxc_cc_layer *l)
{
	char s[BXC_DIGEST_STR_MAX];
	if (l->created_ns) {
		BXC_AUTOFREE char *at = bxc_clock_rfc3339(l->created_ns);
		bxc_strv_pushf(&d->annotations, "buildkit/createdat=%s", at);
	}
	if (bxc_digest_is_set(&l->diff_id))
		bxc_strv_pushf(&d->annotations, "containerd.io/uncompressed=%s",
			bxc_digest_str(&l->diff_id, s));
}

static void make(const bxc_cio_request *q, const bxc_cc_form *form, cio_made *m)
{
	bxc_map *seen = bxc_map_new(NULL);
	char s[BXC_DIGEST_STR_MAX];
	const char *type;
	for (size_t i = 0; i < q->cache->layers.n; i++) {
		const bxc_cc_layer *l = &q->cache->layers.v[i];
		if (bxc_map_has(seen, bxc_digest_str(&l->blob.digest, s)))
			continue;
		bxc_map_set(seen, s, NULL);
		*bxc_arr_push(&m->layers) = i;
		bxc_descriptor *d = bxc_arr_push(&m->blobs);
		*d = (bxc_descriptor){
			.media_type = bxc_strdup(bxc_oci_layer_type(l->blob.media_type, form->oci)),
			.digest = l->blob.digest,
			.size = l->blob.size};
		annotate(d, l);
	}
	bxc_map_free(seen);
	m->config_text = bxc_cc_print(q->cache);
	bxc_descriptor_of_text(&m->config, BXC_MT_CACHE_CONFIG, m->config_text);
	m->manifest_text = bxc_cc_print_manifest(form, &m->config, m->blobs.v, m->blobs.n, &type);
	bxc_descriptor_of_text(&m->manifest, type, m->manifest_text);
}

static void tell(const bxc_cio_request *q, const char *what, const bxc_digest *d)
{
	char s[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *text = bxc_str_fmt("%s %s", what, bxc_digest_str(d, s));
	q->status(text, 0, 0, true, q->ud);
}

int bxc_cio_export(
	bxc_content *content, const bxc_cio_request *q, bxc_json **ret_response, bxc_err **err)
{
	bxc_cc_form form;
	cio_made m = {0};
	int r = bxc_cc_form_parse(q->attrs, &form, err);
	if (r < 0)
		return r;
	if (q->cache->layers.n == 0) {
		q->status("skipping cache export for empty result", 0, 0, true, q->ud);
		*ret_response = bxc_json_object();
		return 0;
	}
	make(q, &form, &m);
	r = bxc_str_eq(q->type, "local") ? cio_to_client(content, q, &m, err)
					 : cio_to_registry(content, q, &m, err);
	if (r >= 0) {
		tell(q, "writing config", &m.config.digest);
		tell(q,
			form.image_manifest ? "writing cache image manifest"
					    : "writing cache manifest",
			&m.manifest.digest);
		BXC_AUTOJSON bxc_json *desc = bxc_descriptor_to_json(&m.manifest);
		BXC_AUTOFREE char *text = bxc_json_print(desc);
		*ret_response = bxc_json_object();
		bxc_json_set_str(*ret_response, "cache.manifest", text);
	}
	made_done(&m);
	return r < 0 ? r : 0;
}

/* ---- registry ---- */

struct bringing {
	const bxc_cio_request *q;
	size_t layer;
	char id[sizeof("writing layer ") + BXC_DIGEST_STR_MAX];
};

static int bring(void *ud, bxc_err **err)
{
	struct bringing *b = ud;
	return b->q->bring(b->layer, b->q->ud, err);
}

int cio_to_registry(
	bxc_content *content, const bxc_cio_request *q, const cio_made *m, bxc_err **err)
{
	BXC_AUTOREF bxc_ref ref = {0};
	const char *name = bxc_json_get_str(q->attrs, "ref", "");
	int r = bxc_ref_parse(name, &ref, err);
	for (size_t i = 0; r >= 0 && i < m->blobs.n; i++) {
		struct bringing b = {.q = q, .layer = m->layers.v[i]};
		char d[BXC_DIGEST_STR_MAX];
		snprintf(b.id, sizeof(b.id), "writing layer %s",
			bxc_digest_str(&m->blobs.v[i].digest, d));
		q->status(b.id, 0, 0, false, q->ud);
		r = bxc_reg_transfer(q->reg, &ref, &m->blobs.v[i], q->repo(b.layer, q->ud),
			bxc_content_store(content), bring, &b, q->cancel, NULL, NULL, err);
		if (r >= 0)
			q->status(b.id, 0, 0, true, q->ud);
	}
	if (r >= 0)
		r = bxc_reg_push_bytes(q->reg, &ref, &m->config,
			bxc_slice_of(m->config_text, strlen(m->config_text)), q->cancel, err);
	if (r >= 0)
		r = bxc_reg_push_manifest(q->reg, &ref, m->manifest.media_type,
			bxc_slice_of(m->manifest_text, strlen(m->manifest_text)), q->cancel, err);
	return bxc_err_wrap(err, r, "write cache to '%s'", name);
}
