/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images in OCI layouts of the client. Manifest and configuration come over the channel, each
 * verified; layers are asked for by the workers that need them, and only while the build that named
 * the layout is there. After it they are as layers that were built: some worker has them, or
 * nobody.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

bool is_layout(const char *ref)
{
	return bxc_str_has_prefix(ref, "oci-layout://");
}

static int get(build *b, const char *store, const bxc_digest *d, bxc_buf *out, bxc_err **err)
{
	if (!b->session)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"the request names no session that could give its OCI layout");
	return bxc_sess_layout_blob(b->session, store, d, b->cancel, out, err);
}

static int pick(build *b, const char *store, const bxc_platform *platform, bxc_buf *bytes,
	bxc_digest *manifest, bxc_err **err)
{
	bxc_oci_index index = {0};
	int r = bxc_oci_index_parse(bxc_buf_slice(bytes), &index, err);
	if (r < 0)
		return r;
	const bxc_descriptor *m = bxc_oci_index_select(&index, platform);
	if (m) {
		*manifest = m->digest;
		bxc_buf_clear(bytes);
		r = get(b, store, manifest, bytes, err);
	} else {
		BXC_AUTOFREE char *p = bxc_platform_str(platform);
		r = bxc_err_set(err, BXC_NOT_FOUND,
			"no match for platform in manifest: the OCI layout has no image for %s", p);
	}
	bxc_oci_index_done(&index);
	return r;
}

int layout_resolve(
	build *b, const char *ref, const bxc_platform *platform, image **ret, bxc_err **err)
{
	BXC_AUTOFREE char *store = NULL;
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST),
			    text = BXC_BUF_INIT(BXC_LIMIT_IMAGE_CONFIG);
	bxc_oci_manifest m = {0};
	image *img = bxc_calloc(1, sizeof(*img));
	img->ref = bxc_strdup(ref);
	img->pinned = bxc_strdup(ref);
	img->platform = *platform;
	int r = layout_parse(ref, &store, &img->manifest, err);
	img->layout = bxc_strdup(store);
	if (r >= 0)
		r = get(b, store, &img->manifest, &bytes, err);
	if (r >= 0 && bxc_oci_text_is_index(bxc_buf_slice(&bytes)))
		r = pick(b, store, platform, &bytes, &img->manifest, err);
	if (r >= 0)
		r = bxc_oci_manifest_parse(bxc_buf_slice(&bytes), &m, err);
	if (r >= 0)
		r = get(b, store, &m.config.digest, &text, err);
	if (r >= 0)
		r = bxc_oci_config_parse(bxc_buf_slice(&text), &img->config, err);
	if (r >= 0 && img->config->diff_ids.n != m.layers.n)
		r = bxc_err_set(err, BXC_DATA_LOSS, "the image has %zu layers but %zu diff ids",
			m.layers.n, img->config->diff_ids.n);
	if (r >= 0) {
		BXC_ARR_FOREACH (l, &m.layers)
			bxc_descriptor_copy(bxc_arr_push(&img->layers), l);
		*ret = BXC_TAKE(img);
	}
	bxc_oci_manifest_done(&m);
	image_free(img);
	return r < 0 ? bxc_err_wrap(err, r, "OCI layout of the client") : 0;
}

void layout_layers(build *b, const image *img)
{
	for (size_t i = 0; img->layout && i < img->layers.n; i++) {
		char id[BXC_DIGEST_STR_MAX];
		layer *l = layer_get(b->engine, bxc_digest_str(&img->config->diff_ids.v[i], id));
		/* A registry serves it to everybody. */
		if (l->registry)
			continue;
		layer_nowhere(l);
		l->layout = bxc_strdup(img->layout);
		l->layout_build = bxc_strdup(b->id);
		bxc_descriptor_copy(&l->blob, &img->layers.v[i]);
		l->diff_id = img->config->diff_ids.v[i];
		l->size = img->layers.v[i].size;
	}
}

void layouts_gone(build *b)
{
	bool any = false;
	BXC_ARR_FOREACH (i, &b->images)
		any = any || (*i)->layout;
	if (!any)
		return;
	BXC_MAP_FOREACH (it, b->engine->layers) {
		layer *l = it.value;
		if (!bxc_str_eq(l->layout_build, b->id))
			continue;
		/* Whoever gives it from now on makes a blob of its own. */
		layer_nowhere(l);
	}
	/* Other clients may have them too. */
	BXC_MAP_FOREACH (it, b->engine->builds) {
		build *other = it.value;
		BXC_ARR_FOREACH (i, &other->images)
			layout_layers(other, *i);
	}
}
