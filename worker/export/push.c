/* SPDX-License-Identifier: Apache-2.0 */
/* Images to registries: only what the registry lacks travels. */
#include "worker/export/export_internal.h"

#include "common/base/mem.h"
#include "common/base/str.h"

struct progress {
	const bxc_exp_request *q;
	char id[BXC_DIGEST_STR_MAX];
};

static void on_progress(uint64_t done, uint64_t total, void *ud)
{
	struct progress *p = ud;
	p->q->status(p->id, done, total, done == total, p->q->ud);
}

struct bringing {
	bxc_src *src;
	const bxc_exp_request *q;
	const bxc_src_layer *layer;
};

static int bring(void *ud, bxc_err **err)
{
	struct bringing *b = ud;
	return bxc_src_elsewhere_blob(b->src, b->layer, b->q->reach, b->q->cancel, err);
}

static int push_layer(bxc_src *src, bxc_content *content, const bxc_exp_request *q, const bxc_ref *to, const bxc_descriptor *d,
	const bxc_src_layer *elsewhere, bxc_err **err)
{
	struct progress p = {.q = q};
	struct bringing b = {src, q, elsewhere};
	bxc_digest_str(&d->digest, p.id);
	return bxc_reg_transfer(q->reach->reg, to, d, elsewhere ? elsewhere->registry : NULL, bxc_content_store(content),
		elsewhere ? bring : NULL, &b, q->cancel, on_progress, &p, err);
}

static int push_by_digest(const bxc_exp_request *q, const bxc_ref *to, const bxc_descriptor *d, const char *text, bxc_err **err)
{
	BXC_AUTOREF bxc_ref ref = {0};
	bxc_ref_copy(&ref, to);
	free(ref.tag);
	ref.tag = NULL;
	ref.digest = d->digest;
	return bxc_reg_push_manifest(q->reach->reg, &ref, d->media_type, bxc_slice_of(text, strlen(text)), q->cancel, err);
}

static int push_attest(const bxc_exp_request *q, const bxc_ref *to, const made_attest *a, bxc_err **err)
{
	int r = bxc_reg_push_bytes(q->reach->reg, to, &a->config.desc, bxc_slice_of(a->config.text, strlen(a->config.text)), q->cancel, err);
	BXC_ARR_FOREACH (s, &a->statements)
		if (r >= 0)
			r = bxc_reg_push_bytes(q->reach->reg, to, &s->desc, bxc_slice_of(s->text, strlen(s->text)), q->cancel, err);
	return r < 0 ? r : push_by_digest(q, to, &a->manifest.desc, a->manifest.text, err);
}

static int push_to(bxc_src *src, bxc_content *content, const bxc_exp_request *q, const made *m, const char *name, bxc_err **err)
{
	BXC_AUTOREF bxc_ref ref = {0};
	int r = bxc_ref_parse(name, &ref, err);
	if (r < 0)
		return r;
	q->status("pushing layers", 0, 0, false, q->ud);
	BXC_ARR_FOREACH (i, &m->images) {
		for (size_t k = 0; k < i->manifest.layers.n; k++) {
			r = push_layer(src, content, q, &ref, &i->manifest.layers.v[k], i->elsewhere.v[k], err);
			if (r < 0)
				return bxc_err_wrap(err, r, "failed to push %s", name);
		}
		r = bxc_reg_push_bytes(q->reach->reg, &ref, &i->manifest.config, bxc_slice_of(i->config_text, strlen(i->config_text)), q->cancel, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "failed to push %s", name);
	}
	q->status("pushing layers", 0, 0, true, q->ud);
	char d[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *what = bxc_str_fmt("pushing manifest for %s@%s", name, bxc_digest_str(&m->top.digest, d));
	q->status(what, 0, 0, false, q->ud);
	if (m->index_text) {
		BXC_ARR_FOREACH (i, &m->images) {
			r = push_by_digest(q, &ref, &i->manifest_desc, i->manifest_text, err);
			if (r < 0)
				return bxc_err_wrap(err, r, "failed to push %s", name);
		}
		BXC_ARR_FOREACH (a, &m->attests) {
			r = push_attest(q, &ref, a, err);
			if (r < 0)
				return bxc_err_wrap(err, r, "failed to push %s", name);
		}
	}
	bool by_digest_only;
	r = bxc_output_bool(q->attrs, "push-by-digest", false, &by_digest_only, err);
	if (r < 0)
		return r;
	if (by_digest_only) {
		free(ref.tag);
		ref.tag = NULL;
		ref.digest = m->top.digest;
	}
	const char *text = m->index_text ? m->index_text : m->images.v[0].manifest_text;
	r = bxc_reg_push_manifest(q->reach->reg, &ref, m->top.media_type, bxc_slice_of(text, strlen(text)), q->cancel, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "failed to push %s", name);
	q->status(what, 0, 0, true, q->ud);
	return 0;
}

int push_images(bxc_src *src, bxc_content *content, const bxc_exp_request *q, const made *m, char *const *names, bxc_err **err)
{
	for (char *const *n = names; *n; n++) {
		int r = push_to(src, content, q, m, *n, err);
		if (r < 0)
			return r;
	}
	return 0;
}
