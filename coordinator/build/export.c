/* SPDX-License-Identifier: Apache-2.0 */
/* Exports: once a build is solved, each of its outputs is made by a worker that has the result. */
#include "coordinator/build/build_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"

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

/* ---- what the request says ---- */

int export_check_compression(const bxc_json *attrs, bxc_err **err)
{
	bxc_compression compression;
	int level;
	/* The worker says what it thinks of estargz. */
	if (bxc_str_eq(bxc_json_get_str(attrs, "compression", NULL), "estargz"))
		return 0;
	return bxc_output_compression(attrs, &compression, &level, err);
}

int export_check(const bxc_json *spec, bxc_err **err)
{
	static const char *const bools[] = {"push-by-digest", "oci-mediatypes"};
	const bxc_json *attrs = bxc_json_get(spec, "attrs");
	BXC_JSON_FOREACH (a, attrs)
		if (!bxc_json_string(a))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"attrs.%.64s: expected a string", bxc_json_key(a));
	bool push, ignored;
	const char *type = bxc_json_get_str(spec, "type", "");
	if (bxc_str_eq(type, "local") || bxc_str_eq(type, "tar"))
		return bxc_output_bool(attrs, "platform-split", false, &ignored, err);
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_output_bool(attrs, "push", false, &push, err);
	for (size_t i = 0; r >= 0 && i < BXC_ARRAY_SIZE(bools); i++)
		r = bxc_output_bool(attrs, bools[i], false, &ignored, err);
	if (r >= 0)
		r = bxc_output_names(attrs, &names, err);
	if (r >= 0 && push && !names)
		r = bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "tag is needed when pushing to registry");
	return r < 0 ? r : export_check_compression(attrs, err);
}

/* ---- running ---- */

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
	bxc_json_set_take(result, "caches", BXC_TAKE(b->cache_results));
	build_finish(b, "done", NULL, result);
}

/* The outputs of the request, then its caches; NULL past the end. */
static const bxc_json *spec_at(const build *b, uint32_t index)
{
	const bxc_json *specs = bxc_json_get(b->request, "exports");
	size_t n = bxc_json_len(specs);
	return index < n ? bxc_json_at(specs, index) : bxc_json_at(bxc_json_get(b->request, "cache_to"), index - n);
}

static bool is_cache(const build *b, uint32_t index)
{
	return index >= bxc_json_len(bxc_json_get(b->request, "exports"));
}

/* Nothing is done for an inline cache: images carry it. */
static bool is_exported(const build *b, uint32_t index, const bxc_json *spec)
{
	return is_cache(b, index) ? !cache_is_inline(spec) : !bxc_str_eq(bxc_json_get_str(spec, "type", ""), "cacheonly");
}

static void start_cache(build *b, uint32_t index, const bxc_json *spec)
{
	task *t = task_new(b->engine, TASK_EXPORT, b);
	t->export_index = index;
	t->attempt = ++b->export_attempts;
	t->remaining = 1;
	b->exports.v[index].phase = EXPORT_RUNS;
	cache_task_fill(b, t, spec);
	bxc_json_set_u64(t->body, "index", index - bxc_json_len(bxc_json_get(b->request, "exports")));
	task_ready(b->engine, t);
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
	if (source_is_remote(v))
		return remote_material(b, v, ret);
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
		.finished_ns = b->export_time_ns,
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
	t->attempt = ++b->export_attempts;
	t->remaining = 1;
	b->exports.v[index].phase = EXPORT_RUNS;
	/* Any worker may assemble an image; the platform of what is inside does not matter. */
	bxc_json_set_str(t->body, "kind", "export");
	bxc_json_set_take(t->body, "export", bxc_json_dup(spec));
	bxc_json_set_u64(t->body, "index", index);
	bxc_json_set_ns(t->body, "now_ns", b->export_time_ns);
	if (b->results.n && b->results.v[0].has_epoch)
		bxc_json_set_ns(t->body, "epoch_ns", b->results.v[0].epoch_ns);
	if (b->results.n && b->results.v[0].multi_platform)
		bxc_json_set_bool(t->body, "multi_platform", true);
	bxc_json *images = bxc_json_add_array(t->body, "images");
	BXC_ARR_FOREACH (rp, &b->results) {
		BXC_AUTOFREE char *p = bxc_platform_str(&rp->platform);
		bxc_json *o = bxc_json_push_object(images);
		bxc_json_set_str(o, "platform", p);
		bxc_json_set_take(o, "config", bxc_oci_config_to_json(rp->config));
		if (export_attests(b, bxc_json_get_str(spec, "type", "")))
			bxc_json_set_take(o, "attestations", attestations(b, rp));
		BXC_AUTOFREE char *records = cache_inline_records(b, rp);
		bxc_json_set_str(o, "inline_cache", records);
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

static void make_exports(build *b)
{
	const bxc_json *spec;
	b->export_results = bxc_json_array();
	b->cache_results = bxc_json_array();
	b->export_time_ns = bxc_clock_wall_ns();
	for (uint32_t i = 0; (spec = spec_at(b, i)); i++) {
		const char *type = bxc_json_get_str(spec, "type", "");
		bxc_json *o = bxc_json_push_object(is_cache(b, i) ? b->cache_results : b->export_results);
		bxc_json_set_str(o, "type", type);
		export *x = bxc_arr_push(&b->exports);
		if (is_exported(b, i, spec)) {
			internal_begin(b, &x->vertex, is_cache(b, i) ? cache_vertex_name(spec) : vertex_name(type));
			b->exports_left++;
		} else {
			x->phase = EXPORT_DONE;
		}
	}
}

/* A record that vanished while its build's exports were being started: it is made again. */
static bool results_are_there(build *b)
{
	BXC_ARR_FOREACH (id, &b->records)
		if (!record_find(b->engine, *id))
			return false;
	return b->records.n == b->n_targets;
}

void exports_start(build *b)
{
	const bxc_json *spec;
	if (!b->export_results)
		make_exports(b);
	b->exports_left++; /* held until all have been started */
	for (uint32_t i = 0; (spec = spec_at(b, i)); i++) {
		/* Starting one may end or lose others: each is looked at when its turn has come. */
		if (b->dead || b->exports.v[i].phase != EXPORT_WAITS || !results_are_there(b))
			continue;
		if (is_cache(b, i))
			start_cache(b, i, spec);
		else
			start_one(b, i, spec);
	}
	b->exports_left--;
	if (!b->dead)
		finish_if_last(b);
}

static void note(build *b, const export *x, const char *text)
{
	BXC_AUTOFREE char *data = bxc_base64_encode(text, strlen(text));
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "log");
	bxc_json_set_str(j, "vertex", x->vertex.digest);
	bxc_json_set_i64(j, "stream", 2);
	bxc_json_set_str(j, "data", data);
	bxc_json_set_ns(j, "time_ns", bxc_clock_wall_ns());
	report(b, j);
}

void export_failed(bxc_build *e, task *t, bxc_err *err_take, bool infra)
{
	build *b = t->build;
	if (!b || b->dead || !infra) {
		export_done(e, t, NULL, err_take);
		return;
	}
	export *x = &b->exports.v[t->export_index];
	if (x->was_sent) {
		bxc_err *err = NULL;
		bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE,
			"the output was lost when a part of it had been sent: %s: build again",
			bxc_err_text(err_take)));
		bxc_err_free(err_take);
		export_done(e, t, NULL, err);
		return;
	}
	if (++x->failures >= BXC_SOLVE_MAX_ATTEMPTS) {
		export_done(e, t, NULL, err_take);
		return;
	}
	BXC_AUTOFREE char *text = bxc_str_fmt("%s: exporting again\n", bxc_err_text(err_take));
	bxc_err_free(err_take);
	note(b, x, text);
	task_drop(e, t);
	x->phase = EXPORT_WAITS;
	exports_start(b);
	pump(e);
}

void export_lost(bxc_build *e, task *t, uint64_t rec)
{
	build *b = t->build;
	if (!b || b->dead) {
		task_drop(e, t);
		return;
	}
	if (!rec) {
		bxc_err *err = NULL;
		bxc_ignore(bxc_err_set(&err, BXC_INTERNAL,
			"the worker lost a layer that the output does not have"));
		export_failed(e, t, err, true);
		return;
	}
	export *x = &b->exports.v[t->export_index];
	note(b, x, "a layer of the result was lost: it is made again\n");
	task_drop(e, t);
	x->phase = EXPORT_WAITS;
	/* Results that came after those this export had may be whole. */
	BXC_ARR_FOREACH (id, &b->records) {
		if (*id == rec) {
			b->records.n = 0;
			break;
		}
	}
	record_drop(e, rec);
	bxc_solve_result_lost(e->solve, rec);
	exports_start(b);
	pump(e);
}

void bxc_build_export_sent(bxc_build *e, const char *id, uint64_t index)
{
	build *b = bxc_map_get(e->builds, id);
	if (b && index < b->exports.n)
		b->exports.v[index].was_sent = true;
}

/* The array is rebuilt: trees are handed over whole. */
static void set_response(bxc_json **list, uint32_t index, const bxc_json *response)
{
	bxc_json *o = bxc_json_array();
	uint32_t i = 0;
	BXC_JSON_FOREACH (old, *list) {
		bxc_json *c = bxc_json_dup(old);
		if (i++ == index)
			bxc_json_set_take(c, "response", bxc_json_dup(response));
		bxc_json_push_take(o, c);
	}
	bxc_json_free(*list);
	*list = o;
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
	internal_end(b, &b->exports.v[index].vertex, err_take);
	b->exports.v[index].phase = EXPORT_DONE;
	if (err_take && is_cache(b, index) && cache_error_is_ignored(b, spec_at(b, index), err_take))
		bxc_err_free(err_take);
	else if (err_take && !b->export_err)
		b->export_err = err_take;
	else
		bxc_err_free(err_take);
	if (response && is_cache(b, index))
		set_response(&b->cache_results, index - (uint32_t)bxc_json_len(b->export_results), response);
	else if (response)
		set_response(&b->export_results, index, response);
	task_drop(e, t);
	b->exports_left--;
	finish_if_last(b);
}
