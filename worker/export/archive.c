/* SPDX-License-Identifier: Apache-2.0 */
/* Image archives: an OCI layout as a tar; for docker load with a manifest.json beside it. */
#include "worker/export/export_internal.h"

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/tar/tar.h"

struct archive {
	bxc_tar_writer *tar;
	bxc_map *seen;               /* digests written */
};

static int add_dir(struct archive *a, const char *path, bxc_err **err)
{
	const bxc_tar_entry e = {.kind = BXC_TAR_DIR, .path = path, .mode = 0755};
	return bxc_tar_writer_entry(a->tar, &e, err);
}

static bool first_time(struct archive *a, const bxc_digest *d)
{
	char s[BXC_DIGEST_STR_MAX];
	if (bxc_map_has(a->seen, bxc_digest_str(d, s)))
		return false;
	bxc_map_set(a->seen, s, NULL);
	return true;
}

static int add_text(struct archive *a, const bxc_digest *d, const char *text, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_content_layout_path(d);
	return first_time(a, d) ? bxc_content_layout_text(a->tar, path, text, err) : 0;
}

static int add_blob(struct archive *a, bxc_content *content, const bxc_descriptor *d, bxc_err **err)
{
	return first_time(a, &d->digest) ? bxc_content_layout_blob(content, a->tar, &d->digest, err) : 0;
}

/* index.json: one entry for each name, or one without. */
static char *index_json(const bxc_exp_request *q, const made *m, char *const *names)
{
	bxc_oci_index index = {.media_type = bxc_strdup(BXC_MT_OCI_INDEX)};
	size_t n = BXC_MAX(bxc_strv_len(names), (size_t)1);
	for (size_t i = 0; i < n; i++) {
		bxc_descriptor *d = bxc_arr_push(&index.manifests);
		bxc_descriptor_copy(d, &m->top);
		if (q->has_epoch) {
			BXC_AUTOFREE char *created = bxc_clock_rfc3339(q->epoch_ns);
			bxc_strv_pushf(&d->annotations, "org.opencontainers.image.created=%s", created);
		}
		if (!names)
			continue;
		BXC_AUTOREF bxc_ref ref = {0};
		bxc_strv_pushf(&d->annotations, "io.containerd.image.name=%s", names[i]);
		if (bxc_ref_parse(names[i], &ref, NULL) >= 0 && ref.tag)
			bxc_strv_pushf(&d->annotations, "org.opencontainers.image.ref.name=%s", ref.tag);
	}
	char *text = bxc_oci_index_print(&index);
	bxc_oci_index_done(&index);
	return text;
}

static char *manifest_json(const made *m, char *const *names)
{
	BXC_AUTOJSON bxc_json *list = bxc_json_array();
	bxc_json *o = bxc_json_push_object(list);
	const made_image *i = &m->images.v[0];
	BXC_AUTOFREE char *config = bxc_content_layout_path(&i->manifest.config.digest);
	bxc_json_set_str(o, "Config", config);
	bxc_json *tags = bxc_json_add_array(o, "RepoTags");
	for (char *const *n = names; n && *n; n++) {
		BXC_AUTOREF bxc_ref ref = {0};
		BXC_AUTOFREE char *short_name = bxc_ref_parse(*n, &ref, NULL) >= 0 ? bxc_ref_familiar(&ref) : bxc_strdup(*n);
		bxc_json_push_str(tags, short_name);
	}
	if (!names)
		bxc_json_set_null(o, "RepoTags");
	bxc_json *layers = bxc_json_add_array(o, "Layers");
	BXC_ARR_FOREACH (d, &i->manifest.layers) {
		BXC_AUTOFREE char *p = bxc_content_layout_path(&d->digest);
		bxc_json_push_str(layers, p);
	}
	return bxc_json_print(list);
}

static int write_all(struct archive *a, bxc_src *src, bxc_content *content, const bxc_exp_request *q, const made *m, char *const *names, bxc_err **err)
{
	int r = add_dir(a, "blobs", err);
	if (r >= 0)
		r = add_dir(a, "blobs/sha256", err);
	for (size_t i = 0; r >= 0 && i < m->images.n; i++) {
		const made_image *img = &m->images.v[i];
		for (size_t k = 0; r >= 0 && k < img->manifest.layers.n; k++) {
			if (img->elsewhere.v[k])
				r = bxc_src_elsewhere_blob(src, img->elsewhere.v[k], q->reach, q->cancel, err);
			if (r >= 0)
				r = add_blob(a, content, &img->manifest.layers.v[k], err);
		}
		if (r >= 0)
			r = add_text(a, &img->manifest.config.digest, img->config_text, err);
		if (r >= 0)
			r = add_text(a, &img->manifest_desc.digest, img->manifest_text, err);
	}
	BXC_ARR_FOREACH (x, &m->attests) {
		BXC_ARR_FOREACH (s, &x->statements)
			if (r >= 0)
				r = add_text(a, &s->desc.digest, s->text, err);
		if (r >= 0)
			r = add_text(a, &x->config.desc.digest, x->config.text, err);
		if (r >= 0)
			r = add_text(a, &x->manifest.desc.digest, x->manifest.text, err);
	}
	if (r >= 0 && m->index_text)
		r = add_text(a, &m->top.digest, m->index_text, err);
	BXC_AUTOFREE char *index = index_json(q, m, names);
	if (r >= 0)
		r = bxc_content_layout_text(a->tar, "index.json", index, err);
	if (r >= 0 && bxc_str_eq(q->type, "docker")) {
		BXC_AUTOFREE char *docker = manifest_json(m, names);
		r = bxc_content_layout_text(a->tar, "manifest.json", docker, err);
	}
	if (r >= 0)
		r = bxc_content_layout_text(a->tar, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", err);
	return r < 0 ? r : bxc_tar_writer_finish(a->tar, err);
}

int write_archive(bxc_src *src, bxc_content *content, const bxc_exp_request *q, const made *m, char *const *names, bxc_err **err)
{
	bxc_sink_fn sink;
	void *sink_ud;
	int r = q->open(&sink, &sink_ud, q->ud, err);
	if (r < 0)
		return r;
	struct archive a = {.seen = bxc_map_new(NULL)};
	q->status("sending tarball", 0, 0, false, q->ud);
	r = bxc_tar_writer_new(0, sink, sink_ud, &a.tar, err);
	if (r >= 0)
		r = write_all(&a, src, content, q, m, names, err);
	bxc_tar_writer_free(a.tar);
	bxc_map_free(a.seen);
	if (r >= 0)
		q->status("sending tarball", 0, 0, true, q->ud);
	return r;
}
