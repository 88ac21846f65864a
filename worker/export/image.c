/* SPDX-License-Identifier: Apache-2.0 */
/* From layers and a configuration to manifests. */
#include "worker/export/export_internal.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

void made_done(made *m)
{
	BXC_ARR_FOREACH (i, &m->images) {
		bxc_oci_manifest_done(&i->manifest);
		bxc_descriptor_done(&i->manifest_desc);
		bxc_strv_free(i->manifest_annotations);
		bxc_arr_done(&i->elsewhere);
		free(i->manifest_text);
		free(i->config_text);
	}
	bxc_arr_done(&m->images);
	BXC_ARR_FOREACH (a, &m->attests)
		made_attest_done(a);
	bxc_arr_done(&m->attests);
	bxc_descriptor_done(&m->top);
	free(m->index_text);
}

const char *attr(const bxc_exp_request *q, const char *key)
{
	return bxc_json_get_str(q->attrs, key, NULL);
}

#define OF_BASE INT64_MIN            /* in place of the time of a layer */

/* Entries without a time get one: layers theirs, the others that of the layer below (or the first). `created`
 * is of each layer. */
static void date_history(bxc_oci_config *c, const int64_t *created, size_t n, int64_t now_ns)
{
	size_t layer = 0;
	int64_t last = now_ns;
	for (size_t i = n; i-- > 0;)
		last = created[i] != OF_BASE ? created[i] : last;
	BXC_ARR_FOREACH (h, &c->history) {
		/* A base may tell of more layers than there are. */
		h->empty_layer = h->empty_layer || layer >= n;
		bool is_layer = !h->empty_layer;
		if (is_layer && layer < n && created[layer] != OF_BASE)
			last = created[layer];
		if (h->created_ns == INT64_MIN)
			h->created_ns = last;
		if (is_layer)
			layer++;
	}
	/* More layers than the history tells of: they are named as what they are. */
	for (; layer < n; layer++) {
		bxc_oci_history *h = bxc_oci_config_add_history(c);
		h->created_ns = created[layer] != OF_BASE ? created[layer] : now_ns;
		h->comment = bxc_strdup("buildkit.exporter.image.v0");
	}
	if (c->history.n)
		c->created_ns = c->history.v[c->history.n - 1].created_ns;
	else if (c->created_ns == INT64_MIN)
		c->created_ns = now_ns;
}

static int64_t not_after_epoch(const bxc_exp_request *q, int64_t ns)
{
	return q->has_epoch ? BXC_MIN(ns, q->epoch_ns) : ns;
}

/* The latest time that files of our layers may have, in seconds. */
static int latest_mtime(const bxc_exp_request *q, int64_t *ret, bxc_err **err)
{
	bool rewrite;
	int r = bxc_output_bool(q->attrs, "rewrite-timestamp", false, &rewrite, err);
	if (r < 0)
		return r;
	*ret = rewrite && q->has_epoch ? q->epoch_ns / BXC_NS_PER_S : INT64_MAX;
	return 0;
}

static int annotate(const bxc_exp_request *q, made_image *out, bxc_err **err)
{
	annotations a = {0};
	int r = annotations_read(q, &out->platform, &a, err);
	if (r < 0)
		return r;
	out->manifest.annotations = BXC_TAKE(a.of[ANNOTATE_MANIFEST]);
	out->manifest_annotations = BXC_TAKE(a.of[ANNOTATE_MANIFEST_DESCRIPTOR]);
	annotations_done(&a);
	return 0;
}

static int make_one(bxc_src *src, const bxc_exp_request *q, const bxc_exp_image *in, bool oci, const bxc_src_form *form,
	made_image *out, bxc_err **err)
{
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *config = bxc_oci_config_dup(in->config);
	BXC_ARR(const bxc_src_layer *) chain = {0};
	BXC_ARR(int64_t) created = {0};
	out->platform = in->platform;
	config->diff_ids.n = 0;
	int r = annotate(q, out, err);
	if (r < 0)
		return r;
	BXC_ARR_FOREACH (l, &in->layers.items) {
		bxc_descriptor *d = bxc_arr_push(&out->manifest.layers);
		bxc_digest diff_id;
		bool elsewhere;
		*bxc_arr_push(&chain) = l;
		if (!bxc_src_is_elsewhere(l))
			q->status("exporting layers", 0, 0, false, q->ud);
		r = bxc_src_blob(src, chain.v, chain.n, form, q->reach, q->cancel, d, &diff_id, &elsewhere, err);
		if (r < 0)
			break;
		*bxc_arr_push(&out->elsewhere) = elsewhere ? l : NULL;
		if (bxc_src_is_elsewhere(l) && !l->created_ns)
			*bxc_arr_push(&created) = OF_BASE;
		else
			*bxc_arr_push(&created) = not_after_epoch(q, l->created_ns ? l->created_ns : q->now_ns);
		char *type = bxc_strdup(bxc_oci_layer_type(d->media_type, oci));
		free(d->media_type);
		d->media_type = type;
		*bxc_arr_push(&config->diff_ids) = diff_id;
	}
	bxc_arr_done(&chain);
	if (r >= 0) {
		q->status("exporting layers", 0, 0, true, q->ud);
		date_history(config, created.v, created.n, not_after_epoch(q, q->now_ns));
		config->inline_cache = bxc_strdup(in->inline_cache);
		config->platform = in->platform;
		out->config_text = bxc_oci_config_print(config);
		out->manifest.media_type = bxc_strdup(oci ? BXC_MT_OCI_MANIFEST : BXC_MT_DOCKER_MANIFEST);
		bxc_descriptor_of_text(&out->manifest.config, oci ? BXC_MT_OCI_CONFIG : BXC_MT_DOCKER_CONFIG, out->config_text);
		out->manifest_text = bxc_oci_manifest_print(&out->manifest);
		bxc_descriptor_of_text(&out->manifest_desc, out->manifest.media_type, out->manifest_text);
		out->manifest_desc.annotations = BXC_TAKE(out->manifest_annotations);
		out->manifest_desc.has_platform = true;
		out->manifest_desc.platform = in->platform;
		char d[BXC_DIGEST_STR_MAX];
		BXC_AUTOFREE char *s1 = bxc_str_fmt("exporting manifest %s", bxc_digest_str(&out->manifest_desc.digest, d));
		q->status(s1, 0, 0, true, q->ud);
		BXC_AUTOFREE char *s2 = bxc_str_fmt("exporting config %s", bxc_digest_str(&out->manifest.config.digest, d));
		q->status(s2, 0, 0, true, q->ud);
	}
	bxc_arr_done(&created);
	return r;
}

int make_images(bxc_src *src, const bxc_exp_request *q, char *const *names, made *ret, bxc_err **err)
{
	bool oci;
	bxc_src_form form;
	int r = bxc_output_bool(q->attrs, "oci-mediatypes", !bxc_str_eq(q->type, "docker"), &oci, err);
	if (r >= 0)
		r = bxc_src_form_parse(q->attrs, &form, err);
	if (r >= 0)
		r = latest_mtime(q, &form.latest_s, err);
	if (r < 0)
		return r;
	/* Zstandard layers and attestations exist in OCI images only. */
	if (form.compression == BXC_COMPRESSION_ZSTD)
		oci = true;
	BXC_ARR_FOREACH (i, &q->images)
		oci = oci || i->attestations;
	BXC_ARR_FOREACH (i, &q->images) {
		r = make_one(src, q, i, oci, &form, bxc_arr_push(&ret->images), err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < q->images.n; i++) {
		if (!q->images.v[i].attestations)
			continue;
		r = make_attest(q, &q->images.v[i], &ret->images.v[i], names, bxc_arr_push(&ret->attests), err);
		if (r < 0)
			return r;
	}
	annotations said = {0};
	r = annotations_read(q, NULL, &said, err);
	if (r < 0)
		return r;
	if (ret->images.n == 1 && ret->attests.n == 0 && !q->multi_platform) {
		if (said.of[ANNOTATE_INDEX] || said.of[ANNOTATE_INDEX_DESCRIPTOR])
			r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "index annotations not supported for single platform export");
		else
			bxc_descriptor_copy(&ret->top, &ret->images.v[0].manifest_desc);
		annotations_done(&said);
		return r;
	}
	bxc_oci_index index = {.media_type = bxc_strdup(oci ? BXC_MT_OCI_INDEX : BXC_MT_DOCKER_LIST)};
	index.annotations = BXC_TAKE(said.of[ANNOTATE_INDEX]);
	BXC_ARR_FOREACH (i, &ret->images)
		bxc_descriptor_copy(bxc_arr_push(&index.manifests), &i->manifest_desc);
	BXC_ARR_FOREACH (a, &ret->attests)
		bxc_descriptor_copy(bxc_arr_push(&index.manifests), &a->manifest.desc);
	ret->index_text = bxc_oci_index_print(&index);
	bxc_descriptor_of_text(&ret->top, index.media_type, ret->index_text);
	ret->top.annotations = BXC_TAKE(said.of[ANNOTATE_INDEX_DESCRIPTOR]);
	bxc_oci_index_done(&index);
	annotations_done(&said);
	char d[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *s = bxc_str_fmt("exporting manifest list %s", bxc_digest_str(&ret->top.digest, d));
	q->status(s, 0, 0, true, q->ud);
	return 0;
}
