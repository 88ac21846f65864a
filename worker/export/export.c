/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/export/export_internal.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"

void bxc_exp_request_done(bxc_exp_request *q)
{
	BXC_ARR_FOREACH (i, &q->images) {
		bxc_src_layers_done(&i->layers);
		bxc_oci_config_free(i->config);
		free(i->inline_cache);
	}
	bxc_arr_done(&q->images);
}

/* What changes what is written and is not known must not be ignored. */
static int check_attrs(const bxc_exp_request *q, bxc_err **err)
{
	bool unpack;
	int r = bxc_output_bool(q->attrs, "unpack", false, &unpack, err);
	if (r >= 0 && unpack)
		r = bxc_err_set(err, BXC_UNIMPLEMENTED, "unpack=true of exporter '%s' is not supported by this version of bxc", q->type);
	return r;
}

/* The exporter's own epoch wins over that of the build. */
static int own_epoch(bxc_exp_request *q, bxc_err **err)
{
	const char *text = attr(q, "source-date-epoch");
	int64_t seconds;
	if (bxc_str_empty(text))
		return 0;
	if (bxc_str_to_i64(text, INT64_MIN / BXC_NS_PER_S, INT64_MAX / BXC_NS_PER_S, &seconds, NULL) < 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid source-date-epoch: %.64s", text);
	q->has_epoch = true;
	q->epoch_ns = seconds * BXC_NS_PER_S;
	return 0;
}

/* A name that is pushed by digest has no tag to lead to it. */
static int check_by_digest(const bxc_exp_request *q, bxc_err **err)
{
	bool by_digest;
	BXC_AUTOSTRV char **names = bxc_strv_split(attr(q, "name") ? attr(q, "name") : "", ',');
	int r = bxc_output_bool(q->attrs, "push-by-digest", false, &by_digest, err);
	for (char **n = names; r >= 0 && by_digest && *n; n++) {
		const char *slash = strrchr(*n, '/');
		if (strchr(slash ? slash : *n, ':'))
			r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "can't push tagged ref %s by digest", *n);
	}
	return r;
}

static int export_image(bxc_src *src, bxc_content *content, const bxc_exp_request *q, bxc_json *response, bxc_err **err)
{
	made m = {0};
	bool push = false;
	char d[BXC_DIGEST_STR_MAX];
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_output_names(q->attrs, &names, err);
	if (r >= 0)
		r = bxc_output_bool(q->attrs, "push", false, &push, err);
	if (r >= 0)
		r = check_by_digest(q, err);
	if (r >= 0 && push && !names)
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "tag is needed when pushing to registry");
	if (r >= 0)
		r = make_images(src, q, names, &m, err);
	if (r >= 0 && !bxc_str_eq(q->type, "image"))
		r = write_archive(src, content, q, &m, names, err);
	else if (r >= 0 && push)
		r = push_images(src, content, q, &m, names, err);
	if (r >= 0) {
		BXC_AUTOJSON bxc_json *desc = bxc_descriptor_to_json(&m.top);
		BXC_AUTOFREE char *text = bxc_json_print(desc);
		BXC_AUTOFREE char *b64 = bxc_base64_encode(text, strlen(text));
		bxc_json_set_str(response, "containerimage.digest", bxc_digest_str(&m.top.digest, d));
		if (m.images.n == 1)
			bxc_json_set_str(response, "containerimage.config.digest", bxc_digest_str(&m.images.v[0].manifest.config.digest, d));
		bxc_json_set_str(response, "containerimage.descriptor", b64);
		if (names) {
			BXC_AUTOFREE char *list = bxc_strv_join(names, ",");
			bxc_json_set_str(response, "image.name", list);
		}
	}
	made_done(&m);
	return r < 0 ? r : 0;
}

int bxc_exp_run(bxc_src *src, bxc_snap *snap, bxc_content *content, const bxc_exp_request *asked, bxc_json **ret_response, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *response = bxc_json_object();
	bxc_exp_request with_epoch = *asked;
	const bxc_exp_request *q = &with_epoch;
	int r = check_attrs(q, err);
	if (r >= 0)
		r = own_epoch(&with_epoch, err);
	if (r < 0)
		return r;
	if (bxc_str_eq(q->type, "image") || bxc_str_eq(q->type, "oci") || bxc_str_eq(q->type, "docker"))
		r = export_image(src, content, q, response, err);
	else if (bxc_str_eq(q->type, "local") || bxc_str_eq(q->type, "tar"))
		r = export_tree(snap, q, err);
	else
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "exporter \"%.64s\" could not be found", q->type);
	if (r < 0)
		return r;
	*ret_response = BXC_TAKE(response);
	return 0;
}
