/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is stated about an image, beside it: in-toto statements as the layers of a manifest that
 * the index names after the images. Spec: BuildKit's docs/attestations/attestation-storage.md,
 * OCI image-spec 1.1 (artifacts, subject).
 */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"
#include "worker/export/export_internal.h"

#define STATEMENT_TYPE "https://in-toto.io/Statement/v0.1"
#define ARTIFACT_TYPE  "application/vnd.docker.attestation.manifest.v1+json"
#define EMPTY_JSON     "{}"
#define SHA256         "sha256:"

static void text_done(made_text *t)
{
	bxc_descriptor_done(&t->desc);
	free(t->text);
}

void made_attest_done(made_attest *a)
{
	text_done(&a->manifest);
	text_done(&a->config);
	BXC_ARR_FOREACH (s, &a->statements)
		text_done(s);
	bxc_arr_done(&a->statements);
}

void add_subject(bxc_json *list, const char *name, const bxc_digest *d)
{
	char text[BXC_DIGEST_STR_MAX];
	bxc_json *o = bxc_json_push_object(list);
	bxc_json_set_str(o, "name", name);
	bxc_json_set_str(bxc_json_add_object(o, "digest"), "sha256", bxc_digest_str(d, text) + strlen(SHA256));
}

/* The manifest under each of its names; one that has none is "_". */
static int subjects_of(const made_image *img, char *const *names, bxc_json **ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *list = bxc_json_array();
	for (char *const *n = names; n && *n; n++) {
		BXC_AUTOREF bxc_ref ref = {0};
		int r = bxc_ref_parse(*n, &ref, err);
		if (r < 0)
			return r;
		BXC_AUTOFREE char *purl = bxc_ref_purl(&ref, &img->platform);
		add_subject(list, purl, &img->manifest_desc.digest);
	}
	if (bxc_json_len(list) == 0)
		add_subject(list, "_", &img->manifest_desc.digest);
	*ret = BXC_TAKE(list);
	return 0;
}

char *statement_print(const bxc_json *attestation, bxc_json *subjects_take, const char **ret_type, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	const bxc_json *predicate;
	bxc_json_set_str(j, "_type", STATEMENT_TYPE);
	bxc_json_set_take(j, "predicateType", bxc_json_dup(bxc_json_get(attestation, "predicate_type")));
	bxc_json_set_take(j, "subject", subjects_take);
	if (bxc_json_need_str(attestation, "predicate_type", ret_type, err) < 0 || bxc_json_need_obj(attestation, "predicate", &predicate, err) < 0)
		return NULL;
	bxc_json_set_take(j, "predicate", bxc_json_dup(predicate));
	return bxc_json_print_go(j);
}

/* An image configuration for readers that want one: its layers are the statements. */
static char *image_config(const made_attest *a)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	char text[BXC_DIGEST_STR_MAX];
	bxc_json_set_str(j, "architecture", "unknown");
	bxc_json_set_str(j, "os", "unknown");
	bxc_json_add_object(j, "config");
	bxc_json *rootfs = bxc_json_add_object(j, "rootfs");
	bxc_json_set_str(rootfs, "type", "layers");
	bxc_json *ids = bxc_json_add_array(rootfs, "diff_ids");
	BXC_ARR_FOREACH (s, &a->statements)
		bxc_json_push_str(ids, bxc_digest_str(&s->desc.digest, text));
	return bxc_json_print_go(j);
}

static void make_manifest(const made_image *img, bool artifact, made_attest *a)
{
	bxc_oci_manifest m = {.media_type = bxc_strdup(BXC_MT_OCI_MANIFEST)};
	char text[BXC_DIGEST_STR_MAX];
	a->config.text = artifact ? bxc_strdup(EMPTY_JSON) : image_config(a);
	bxc_descriptor_of_text(&a->config.desc, artifact ? BXC_MT_OCI_EMPTY : BXC_MT_OCI_CONFIG, a->config.text);
	bxc_descriptor_copy(&m.config, &a->config.desc);
	if (artifact) {
		m.config.data = bxc_base64_encode(EMPTY_JSON, strlen(EMPTY_JSON));
		m.artifact_type = bxc_strdup(ARTIFACT_TYPE);
		m.has_subject = true;
		m.subject = (bxc_descriptor){.media_type = bxc_strdup(img->manifest_desc.media_type), .digest = img->manifest_desc.digest, .size = img->manifest_desc.size};
	}
	BXC_ARR_FOREACH (s, &a->statements)
		bxc_descriptor_copy(bxc_arr_push(&m.layers), &s->desc);
	a->manifest.text = bxc_oci_manifest_print(&m);
	bxc_oci_manifest_done(&m);
	bxc_descriptor *d = &a->manifest.desc;
	bxc_descriptor_of_text(d, BXC_MT_OCI_MANIFEST, a->manifest.text);
	bxc_strv_pushf(&d->annotations, "vnd.docker.reference.digest=%s", bxc_digest_str(&img->manifest_desc.digest, text));
	bxc_strv_pushf(&d->annotations, "vnd.docker.reference.type=attestation-manifest");
	d->has_platform = true;
	d->platform = (bxc_platform){.os = "unknown", .arch = "unknown"};
}

int make_attest(const bxc_exp_request *q, const bxc_exp_image *in, const made_image *img, char *const *names, made_attest *ret, bxc_err **err)
{
	bool artifact;
	int r = bxc_output_bool(q->attrs, "oci-artifact", true, &artifact, err);
	if (r < 0)
		return r;
	BXC_JSON_FOREACH (a, in->attestations) {
		bxc_json *subjects;
		const char *type;
		r = subjects_of(img, names, &subjects, err);
		if (r < 0)
			return r;
		BXC_AUTOFREE char *text = statement_print(a, subjects, &type, err);
		if (!text)
			return bxc_err_wrap(err, -BXC_INVALID_ARGUMENT, "attestation");
		made_text *s = bxc_arr_push(&ret->statements);
		bxc_descriptor_of_text(&s->desc, BXC_MT_IN_TOTO, text);
		bxc_strv_pushf(&s->desc.annotations, "in-toto.io/predicate-type=%s", type);
		s->text = BXC_TAKE(text);
	}
	make_manifest(img, artifact, ret);
	char d[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *status = bxc_str_fmt("exporting attestation manifest %s", bxc_digest_str(&ret->manifest.desc.digest, d));
	q->status(status, 0, 0, true, q->ud);
	return 0;
}
