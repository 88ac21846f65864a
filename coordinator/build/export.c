/* SPDX-License-Identifier: Apache-2.0 */
/* Exports: once a build is solved, each of its outputs is made by a worker that has the result. */
#include "coordinator/build/build_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

static const char *vertex_name(const char *type)
{
	if (bxc_str_eq(type, "oci"))
		return "exporting to oci image format";
	if (bxc_str_eq(type, "docker"))
		return "exporting to docker image format";
	if (bxc_str_eq(type, "local"))
		return "exporting to client directory";
	if (bxc_str_eq(type, "tar"))
		return "exporting to client tarball";
	return "exporting to image";
}

static void finish_if_last(build *b)
{
	if (b->exports_left)
		return;
	if (b->export_err) {
		build_finish(b, "failed", BXC_TAKE(b->export_err), NULL);
		return;
	}
	bxc_json *result = bxc_json_object();
	bxc_json_set_take(result, "exports", BXC_TAKE(b->export_results));
	build_finish(b, "done", NULL, result);
}

static bool is_exported(const char *type)
{
	return !bxc_str_eq(type, "cacheonly");
}

bool export_attests(const build *b, const char *type)
{
	return b->provenance.wanted && (!b->provenance.inline_only || bxc_str_eq(type, "image"));
}

static bool material(const bxc_def_vertex *v, bxc_att_material *ret, void *ud)
{
	build *b = ud;
	BXC_AUTOREF bxc_ref asked = {0};
	BXC_AUTOREF bxc_ref pinned = {0};
	char digest[BXC_DIGEST_STR_MAX];
	const image *img = image_for_vertex(b, v);
	if (!img || bxc_ref_parse(img->ref, &asked, NULL) < 0 || bxc_ref_parse(img->pinned, &pinned, NULL) < 0)
		return false;
	bxc_digest_str(&pinned.digest, digest);
	*ret = (bxc_att_material){
		.uri = bxc_ref_purl(&asked, &img->platform),
		.alg = "sha256",
		.hex = bxc_strdup(digest + strlen("sha256:")),
	};
	return true;
}

/* [{"predicate_type", "predicate"}] for one platform of the result. */
static bxc_json *attestations(build *b, const result_platform *rp)
{
	const bxc_att_facts f = {
		.def = b->def,
		.target = rp->is_scratch ? BXC_DEF_NO_INPUT : rp->vertex,
		.build_id = b->id,
		.started_ns = b->created_ns,
		.finished_ns = bxc_clock_wall_ns(),
		.builder = bxc_platform_host(),
		.dockerfile_name = b->dockerfile_name,
		.dockerfile = bxc_slice_of(b->dockerfile_text, b->dockerfile_len),
		.stage = bxc_json_get_str(b->request, "target", NULL),
		.build_args = b->build_args,
		.labels = b->labels,
		.has_context = bxc_json_get_str(b->request, "context", NULL) != NULL,
		.material = material,
		.ud = b,
	};
	bxc_json *list = bxc_json_array();
	bxc_json *o = bxc_json_push_object(list);
	bxc_json_set_str(o, "predicate_type", bxc_att_predicate_type(&b->provenance));
	bxc_json_set_take(o, "predicate", bxc_att_provenance_make(&b->provenance, &f));
	return list;
}

static void start_one(build *b, uint32_t index, const bxc_json *spec)
{
	bxc_build *e = b->engine;
	task *t = task_new(e, TASK_EXPORT, b);
	t->export_index = index;
	t->remaining = 1;
	/* Any worker may assemble an image; the platform of what is inside does not matter. */
	bxc_json_set_str(t->body, "kind", "export");
	bxc_json_set_take(t->body, "export", bxc_json_dup(spec));
	bxc_json_set_u64(t->body, "index", index);
	bxc_json_set_ns(t->body, "now_ns", bxc_clock_wall_ns());
	bxc_json *images = bxc_json_add_array(t->body, "images");
	BXC_ARR_FOREACH (rp, &b->results) {
		BXC_AUTOFREE char *p = bxc_platform_str(&rp->platform);
		bxc_json *o = bxc_json_push_object(images);
		bxc_json_set_str(o, "platform", p);
		bxc_json_set_take(o, "config", bxc_oci_config_to_json(rp->config));
		if (export_attests(b, bxc_json_get_str(spec, "type", "")))
			bxc_json_set_take(o, "attestations", attestations(b, rp));
		task_input *in = bxc_arr_push(&t->inputs);
		record *r = rp->is_scratch ? NULL : record_find(e, b->records.v[rp->target]);
		if (r) {
			in->record = r->id;
			BXC_ARR_FOREACH (l, &r->layers)
				*bxc_arr_push(&in->layers) = *l;
		}
	}
	task_ready(e, t);
}

void exports_start(build *b)
{
	const bxc_json *specs = bxc_json_get(b->request, "exports");
	b->export_results = bxc_json_array();
	BXC_JSON_FOREACH (spec, specs) {
		bxc_json *o = bxc_json_push_object(b->export_results);
		bxc_json_set_str(o, "type", bxc_json_get_str(spec, "type", ""));
		internal_vertex *v = bxc_arr_push(&b->export_vertices);
		if (is_exported(bxc_json_get_str(spec, "type", "")))
			internal_begin(b, v, vertex_name(bxc_json_get_str(spec, "type", "")));
	}
	b->exports_left = 1;         /* held until all have been started */
	uint32_t i = 0;
	BXC_JSON_FOREACH (spec, specs) {
		if (is_exported(bxc_json_get_str(spec, "type", ""))) {
			b->exports_left++;
			start_one(b, i, spec);
		}
		i++;
	}
	b->exports_left--;
	finish_if_last(b);
}

void export_done(bxc_build *e, task *t, const bxc_json *response, bxc_err *err_take)
{
	build *b = t->build;
	uint32_t index = t->export_index;
	if (!b || b->dead) {
		bxc_err_free(err_take);
		task_drop(e, t);
		return;
	}
	internal_end(b, &b->export_vertices.v[index], err_take);
	if (err_take && !b->export_err)
		b->export_err = err_take;
	else
		bxc_err_free(err_take);
	if (response) {
		bxc_json *o = bxc_json_array();
		uint32_t i = 0;
		/* The array is rebuilt: trees are handed over whole. */
		BXC_JSON_FOREACH (old, b->export_results) {
			bxc_json *c = bxc_json_dup(old);
			if (i++ == index)
				bxc_json_set_take(c, "response", bxc_json_dup(response));
			bxc_json_push_take(o, c);
		}
		bxc_json_free(b->export_results);
		b->export_results = o;
	}
	task_drop(e, t);
	b->exports_left--;
	finish_if_last(b);
}
