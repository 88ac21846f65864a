/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors, manifests and indexes; fields print in the order of image-spec's Go structs. */
#include <string.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/oci/oci_internal.h"

#define INDEX_MAX      4096u
#define MEDIA_TYPE_MAX 255u
#define REFERENCE_TYPE "vnd.docker.reference.type"

bool bxc_oci_is_index(const char *media_type)
{
	return bxc_str_eq(media_type, BXC_MT_OCI_INDEX) ||
	       bxc_str_eq(media_type, BXC_MT_DOCKER_LIST);
}

bool bxc_oci_is_manifest(const char *media_type)
{
	return bxc_str_eq(media_type, BXC_MT_OCI_MANIFEST) ||
	       bxc_str_eq(media_type, BXC_MT_DOCKER_MANIFEST);
}

const char *bxc_oci_layer_type(const char *media_type, bool oci)
{
	static const char *const pairs[][2] = {
		{BXC_MT_OCI_LAYER_GZIP, BXC_MT_DOCKER_LAYER_GZIP},
		{BXC_MT_OCI_LAYER, BXC_MT_DOCKER_LAYER},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(pairs); i++)
		if (bxc_str_eq(media_type, pairs[i][0]) || bxc_str_eq(media_type, pairs[i][1]))
			return pairs[i][oci ? 0 : 1];
	return media_type;
}

bool bxc_oci_is_layer(const char *media_type)
{
	static const char *const layers[] = {BXC_MT_OCI_LAYER, BXC_MT_OCI_LAYER_GZIP,
		BXC_MT_OCI_LAYER_ZSTD, BXC_MT_DOCKER_LAYER, BXC_MT_DOCKER_LAYER_GZIP,
		/* Deprecated, still found: layers that may not be pushed, and Docker's zstd. */
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(layers); i++)
		if (bxc_str_eq(media_type, layers[i]))
			return true;
	return false;
}

/* ---- descriptor ---- */

void bxc_descriptor_done(bxc_descriptor *d)
{
	free(d->media_type);
	bxc_strv_free(d->annotations);
	bxc_strv_free(d->urls);
	free(d->data);
	*d = (bxc_descriptor){0};
}

void bxc_descriptor_of_text(bxc_descriptor *ret, const char *media_type, const char *text)
{
	*ret = (bxc_descriptor){
		.media_type = bxc_strdup(media_type),
		.digest = bxc_digest_of_str(text),
		.size = strlen(text),
	};
}

void bxc_descriptor_copy(bxc_descriptor *dst, const bxc_descriptor *src)
{
	bxc_descriptor d = *src;
	d.media_type = bxc_strdup(src->media_type);
	d.annotations = bxc_strv_dup(src->annotations);
	d.urls = bxc_strv_dup(src->urls);
	d.data = bxc_strdup(src->data);
	*dst = d;
}

bxc_json *bxc_descriptor_to_json(const bxc_descriptor *d)
{
	char digest[BXC_DIGEST_STR_MAX];
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "mediaType", d->media_type ? d->media_type : "");
	bxc_json_set_str(j, "digest", bxc_digest_str(&d->digest, digest));
	bxc_json_set_number(j, "size", (int64_t)d->size);
	oci_set_strv(j, "urls", d->urls);
	oci_set_map(j, "annotations", d->annotations);
	oci_set_str(j, "data", d->data);
	if (d->has_platform)
		oci_platform_to_json(&d->platform, bxc_json_add_object(j, "platform"));
	return j;
}

static int check_media_type(const char *s, bxc_err **err)
{
	size_t n = strlen(s);
	if (n > MEDIA_TYPE_MAX)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "media type is longer than %u bytes",
			MEDIA_TYPE_MAX);
	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] == 0x7f)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"media type has a blank or control character");
	return 0;
}

static int descriptor_fields(const bxc_json *j, bxc_descriptor *d, bxc_err **err)
{
	const char *digest = NULL;
	const bxc_json *platform = NULL;
	int r = oci_opt_str(j, "mediaType", &d->media_type, err);
	if (r < 0)
		return r;
	/* Old local layouts leave it out: an empty type is carried, and matches nothing. */
	if (!d->media_type)
		d->media_type = bxc_strdup("");
	if ((r = check_media_type(d->media_type, err)) < 0)
		return r;
	if ((r = bxc_json_need_str(j, "digest", &digest, err)) < 0)
		return r;
	if ((r = bxc_digest_parse(digest, &d->digest, err)) < 0)
		return r;
	if ((r = bxc_json_need_u64(j, "size", BXC_LIMIT_BLOB, &d->size, err)) < 0)
		return r;
	if ((r = oci_opt_strv(j, "urls", &d->urls, err)) < 0)
		return r;
	if ((r = oci_opt_map(j, "annotations", &d->annotations, err)) < 0)
		return r;
	if ((r = oci_opt_obj(j, "platform", &platform, err)) < 0)
		return r;
	d->has_platform = platform != NULL;
	return platform ? oci_platform_from_json(platform, &d->platform, err) : 0;
}

int bxc_descriptor_from_json(const bxc_json *j, bxc_descriptor *ret, bxc_err **err)
{
	bxc_descriptor d = {0};
	int r = descriptor_fields(j, &d, err);
	if (r < 0) {
		bxc_descriptor_done(&d);
		return bxc_err_wrap(err, r, "descriptor");
	}
	*ret = d;
	return 0;
}

/* ---- documents ---- */

static int parse_document(bxc_slice text, const char *what, bxc_json **ret, bxc_err **err)
{
	if (text.n > BXC_LIMIT_MANIFEST)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "%s of %zu bytes, more than %u",
			what, text.n, BXC_LIMIT_MANIFEST);
	BXC_AUTOJSON bxc_json *j = NULL;
	int r = bxc_json_parse(text, &j, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "%s", what);
	uint64_t version = 0;
	r = bxc_json_need_u64(j, "schemaVersion", UINT32_MAX, &version, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "%s", what);
	if (version != 2)
		return bxc_err_set(err, BXC_UNIMPLEMENTED,
			"%s of schema version %u: only version 2 is supported", what,
			(unsigned)version);
	*ret = BXC_TAKE(j);
	return 0;
}

void bxc_oci_manifest_done(bxc_oci_manifest *m)
{
	free(m->media_type);
	free(m->artifact_type);
	bxc_descriptor_done(&m->config);
	BXC_ARR_FOREACH (l, &m->layers)
		bxc_descriptor_done(l);
	bxc_arr_done(&m->layers);
	bxc_descriptor_done(&m->subject);
	bxc_strv_free(m->annotations);
	*m = (bxc_oci_manifest){0};
}

static int manifest_fields(const bxc_json *j, bxc_oci_manifest *m, bxc_err **err)
{
	const bxc_json *config = NULL, *layers = NULL, *subject = NULL;
	int r = oci_opt_str(j, "mediaType", &m->media_type, err);
	if (r >= 0)
		r = oci_opt_str(j, "artifactType", &m->artifact_type, err);
	if (r < 0)
		return r;
	if (m->media_type && bxc_oci_is_index(m->media_type))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the document is an index");
	if ((r = bxc_json_need_obj(j, "config", &config, err)) < 0)
		return r;
	if ((r = bxc_descriptor_from_json(config, &m->config, err)) < 0)
		return bxc_err_wrap(err, r, "config");
	if ((r = oci_opt_arr(j, "layers", BXC_LIMIT_IMAGE_LAYERS, &layers, err)) < 0)
		return r;
	BXC_JSON_FOREACH (it, layers) {
		r = bxc_descriptor_from_json(it, bxc_arr_push(&m->layers), err);
		if (r < 0)
			return bxc_err_wrap(err, r, "layer %zu", m->layers.n - 1);
	}
	if ((r = oci_opt_obj(j, "subject", &subject, err)) < 0)
		return r;
	m->has_subject = subject != NULL;
	if (subject && (r = bxc_descriptor_from_json(subject, &m->subject, err)) < 0)
		return bxc_err_wrap(err, r, "subject");
	return oci_opt_map(j, "annotations", &m->annotations, err);
}

int bxc_oci_manifest_parse(bxc_slice text, bxc_oci_manifest *ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	int r = parse_document(text, "image manifest", &j, err);
	if (r < 0)
		return r;
	bxc_oci_manifest m = {0};
	r = manifest_fields(j, &m, err);
	if (r < 0) {
		bxc_oci_manifest_done(&m);
		return bxc_err_wrap(err, r, "image manifest");
	}
	*ret = m;
	return 0;
}

char *bxc_oci_manifest_print(const bxc_oci_manifest *m)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_i64(j, "schemaVersion", 2);
	oci_set_str(j, "mediaType", m->media_type);
	oci_set_str(j, "artifactType", m->artifact_type);
	bxc_json_set_take(j, "config", bxc_descriptor_to_json(&m->config));
	bxc_json *layers = bxc_json_add_array(j, "layers");
	BXC_ARR_FOREACH (l, &m->layers)
		bxc_json_push_take(layers, bxc_descriptor_to_json(l));
	if (m->has_subject)
		bxc_json_set_take(j, "subject", bxc_descriptor_to_json(&m->subject));
	oci_set_map(j, "annotations", m->annotations);
	return bxc_json_print_pretty(j);
}

void bxc_oci_index_done(bxc_oci_index *i)
{
	free(i->media_type);
	BXC_ARR_FOREACH (d, &i->manifests)
		bxc_descriptor_done(d);
	bxc_arr_done(&i->manifests);
	bxc_strv_free(i->annotations);
	*i = (bxc_oci_index){0};
}

static int index_fields(const bxc_json *j, bxc_oci_index *x, bxc_err **err)
{
	const bxc_json *manifests = NULL;
	int r = oci_opt_str(j, "mediaType", &x->media_type, err);
	if (r < 0)
		return r;
	if (x->media_type && bxc_oci_is_manifest(x->media_type))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the document is a manifest");
	if ((r = bxc_json_need_arr(j, "manifests", &manifests, err)) < 0)
		return r;
	if ((r = oci_opt_arr(j, "manifests", INDEX_MAX, &manifests, err)) < 0)
		return r;
	BXC_JSON_FOREACH (it, manifests) {
		r = bxc_descriptor_from_json(it, bxc_arr_push(&x->manifests), err);
		if (r < 0)
			return bxc_err_wrap(err, r, "manifest %zu", x->manifests.n - 1);
	}
	return oci_opt_map(j, "annotations", &x->annotations, err);
}

bool bxc_oci_text_is_index(bxc_slice text)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	return bxc_json_parse(text, &j, NULL) >= 0 && bxc_json_get(j, "manifests");
}

int bxc_oci_index_parse(bxc_slice text, bxc_oci_index *ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	int r = parse_document(text, "image index", &j, err);
	if (r < 0)
		return r;
	bxc_oci_index x = {0};
	r = index_fields(j, &x, err);
	if (r < 0) {
		bxc_oci_index_done(&x);
		return bxc_err_wrap(err, r, "image index");
	}
	*ret = x;
	return 0;
}

char *bxc_oci_index_print(const bxc_oci_index *i)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_i64(j, "schemaVersion", 2);
	oci_set_str(j, "mediaType", i->media_type);
	bxc_json *manifests = bxc_json_add_array(j, "manifests");
	BXC_ARR_FOREACH (d, &i->manifests)
		bxc_json_push_take(manifests, bxc_descriptor_to_json(d));
	oci_set_map(j, "annotations", i->annotations);
	return bxc_json_print_pretty(j);
}

const bxc_descriptor *bxc_oci_index_select(const bxc_oci_index *i, const bxc_platform *want)
{
	const bxc_descriptor *best = NULL;
	int best_score = -1;
	BXC_ARR_FOREACH (d, &i->manifests) {
		if (!bxc_oci_is_manifest(d->media_type) && !bxc_oci_is_index(d->media_type))
			continue;
		if (bxc_env_get(d->annotations, REFERENCE_TYPE))
			continue;
		/* Without a platform it may be the one; whoever takes it must look into its config.
		 */
		int score = d->has_platform ? bxc_platform_match(want, &d->platform) : 0;
		if (score > best_score) {
			best_score = score;
			best = d;
		}
	}
	return best;
}
