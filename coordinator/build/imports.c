/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Caches outside of the cluster, as the engine sees them: which a request names, what keys those
 * that were read give, and what becomes of a layer that one of them promised.
 *
 * Keys of an import belong to the build that named it. What it uses of them is recorded like a
 * result of our own, with layers that are fetched by whoever needs them; a layer that can't be had
 * is withdrawn, and what it was a part of is made by running the step.
 */
#include "coordinator/build/imports_internal.h"

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define MAX_CACHES 32u

/* ---- what the request says ---- */

bool cache_flag(const bxc_json *spec, const char *key)
{
	bool v;
	return bxc_output_bool(bxc_json_get(spec, "attrs"), key, false, &v, NULL) >= 0 && v;
}

bool cache_is_inline(const bxc_json *spec)
{
	return bxc_str_eq(bxc_json_get_str(spec, "type", NULL), "inline");
}

static int check_ref(const bxc_json *attrs, const char *what, bxc_err **err)
{
	BXC_AUTOREF bxc_ref ref = {0};
	const char *text = bxc_json_get_str(attrs, "ref", NULL);
	if (bxc_str_empty(text))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "registry cache %s requires ref", what);
	int r = bxc_ref_parse(text, &ref, err);
	return r < 0 ? bxc_err_wrap(err, r, "ref") : 0;
}

static int check_local(const bxc_json *attrs, bxc_err **err)
{
	bxc_digest d;
	int r = bxc_digest_parse(bxc_json_get_str(attrs, "digest", ""), &d, err);
	return r < 0 ? bxc_err_wrap(err, r, "local cache importer requires explicit digest") : 0;
}

static int check_attrs(const bxc_json *attrs, bool to, bxc_err **err)
{
	static const char *const bools[] = {"force-compression", "ignore-error"};
	bxc_cc_form form;
	bool ignored;
	int r = to ? bxc_cc_form_parse(attrs, &form, err) : 0;
	for (size_t i = 0; r >= 0 && i < BXC_ARRAY_SIZE(bools); i++)
		r = bxc_output_bool(attrs, bools[i], false, &ignored, err);
	if (r >= 0 && bxc_str_eq(bxc_json_get_str(attrs, "registry.insecure", NULL), "true"))
		r = bxc_err_set(err, BXC_UNIMPLEMENTED,
			"registry.insecure is not supported by this version of bxc: the "
			"coordinator is told how registries are reached");
	return r < 0 ? r : export_check_compression(attrs, err);
}

static int check_one(const bxc_json *spec, bool to, bxc_err **err)
{
	static const char *const foreign[] = {"gha", "s3", "azblob"};
	const char *type, *what = to ? "exporter" : "importer";
	const bxc_json *attrs = bxc_json_get(spec, "attrs");
	int r = bxc_json_need_str(spec, "type", &type, err);
	if (r < 0)
		return r;
	BXC_JSON_FOREACH (a, attrs)
		if (!bxc_json_string(a))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"attrs.%.64s: expected a string", bxc_json_key(a));
	for (size_t i = 0; i < BXC_ARRAY_SIZE(foreign); i++)
		if (bxc_str_eq(type, foreign[i]))
			return bxc_err_set(err, BXC_UNIMPLEMENTED,
				"cache type '%s' is not supported by this version of bxc "
				"(registry, local%s)",
				type, to ? ", inline" : "");
	if (bxc_str_eq(type, "registry"))
		r = check_ref(attrs, what, err);
	else if (bxc_str_eq(type, "local"))
		r = to ? 0 : check_local(attrs, err);
	else if (!to || !bxc_str_eq(type, "inline"))
		r = bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "unknown cache %s: \"%.64s\"", what, type);
	return r < 0 ? r : check_attrs(attrs, to, err);
}

static int check_list(const build *b, const char *key, bool to, bxc_err **err)
{
	const bxc_json *list = bxc_json_get(b->request, key);
	BXC_AUTOSTRV char **seen = NULL;
	if (list && !bxc_json_is_array(list))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s: expected an array", key);
	if (bxc_json_len(list) > MAX_CACHES)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s: more than %u", key, MAX_CACHES);
	size_t i = 0;
	BXC_JSON_FOREACH (spec, list) {
		int r = check_one(spec, to, err);
		BXC_AUTOFREE char *text = bxc_json_print_canonical(spec);
		if (r >= 0 && to && bxc_strv_has(seen, text))
			r = bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "duplicate cache exports: %.256s", text);
		if (r < 0)
			return bxc_err_wrap(err, r, "%s[%zu]", key, i);
		bxc_strv_push(&seen, text);
		i++;
	}
	return 0;
}

int cache_specs_check(const build *b, bxc_err **err)
{
	int r = check_list(b, "cache_from", false, err);
	return r < 0 ? r : check_list(b, "cache_to", true, err);
}

/* ---- layers ---- */

/* A built layer is one of a place in history: two that hold the same may be of different times. */
static void id_of(const bxc_cc_layer *cl, char id[BXC_DIGEST_STR_MAX])
{
	if (!cl->created_ns) {
		bxc_digest_str(&cl->diff_id, id);
		return;
	}
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	bxc_hasher_update_str(h, "bxc imported layer 1");
	bxc_hasher_update(h, cl->diff_id.b, sizeof(cl->diff_id.b));
	bxc_hasher_update_u64(h, (uint64_t)cl->created_ns);
	bxc_digest d = bxc_hasher_final(h);
	bxc_str_put_hex(mempcpy(id, "l-", 2), d.b, 16);
}

static layer *layer_from(bxc_build *e, const cache_import *imp, const bxc_cc_layer *cl)
{
	char id[BXC_DIGEST_STR_MAX];
	if (!bxc_digest_is_set(&cl->diff_id) || !bxc_oci_is_layer(cl->blob.media_type) ||
		cl->blob.size == 0 || cl->blob.size > BXC_LIMIT_BLOB)
		return NULL;
	id_of(cl, id);
	layer *l = layer_get(e, id);
	if (layer_is_elsewhere(l))
		return l;
	if (bxc_map_has(imp->lost, id))
		return bxc_wrk_holder(e->c.workers, id) ? l : NULL;
	bxc_descriptor_done(&l->blob);
	bxc_descriptor_copy(&l->blob, &cl->blob);
	l->diff_id = cl->diff_id;
	l->size = cl->blob.size;
	l->created_ns = cl->created_ns;
	l->n_below = cl->n_below;
	l->imported = true;
	l->registry = bxc_strdup(imp->repo);
	l->client = bxc_sess_ref_ref(imp->repo ? NULL : imp->session);
	l->client_cache = imp->index;
	return l;
}

static bool is_of(const cache_import *imp, const layer *l)
{
	if (l->registry)
		return bxc_str_eq(imp->repo, l->registry);
	return l->client && !imp->repo && imp->session == l->client &&
	       imp->index == l->client_cache;
}

void layer_withdraw(bxc_build *e, layer *l)
{
	BXC_MAP_FOREACH (it, e->builds) {
		build *b = it.value;
		BXC_ARR_FOREACH (imp, &b->imports)
			if (is_of(*imp, l))
				bxc_map_set((*imp)->lost, l->id, NULL);
	}
	bxc_log(BXC_LOG_WARN, "cache.layer_lost", "layer", l->id, "registry",
		l->registry ? l->registry : "", NULL);
	layer_nowhere(l);
}

bool imports_session_left(bxc_build *e, const char *session)
{
	bool any = false;
	BXC_MAP_FOREACH (it, e->layers) {
		layer *l = it.value;
		if (!l->client || !bxc_str_eq(bxc_sess_id(l->client), session))
			continue;
		layer_withdraw(e, l);
		any = true;
	}
	return any;
}

/* ---- look-up ---- */

struct adopt {
	bxc_build *e;
	record *rec;
	uint64_t ticket;
	bxc_digest key, canonical;
	bxc_state_record row;
	bxc_err *err;
};

static void adopt_work(bxc_state *st, void *ud)
{
	struct adopt *a = ud;
	int r = bxc_state_record_add(st, &a->row, &a->rec->id, &a->err);
	if (r >= 0)
		bxc_ignore(bxc_state_keys_add(
			st, &a->key, 1, a->rec->id, &a->canonical, bxc_clock_wall_ns(), &a->err));
}

static void adopt_done(void *ud)
{
	struct adopt *a = ud;
	bxc_build *e = a->e;
	if (a->err) {
		bxc_log_err(BXC_LOG_WARN, "cache.adopt_failed", a->err, NULL);
		bxc_err_free(a->err);
		record_free(a->rec);
		bxc_solve_lookup_known(e->solve, a->ticket, &a->canonical);
	} else {
		BXC_AUTOFREE char *k = num_key(a->rec->id);
		bxc_map_set(e->records, k, a->rec);
		bxc_solve_lookup_hit(e->solve, a->ticket, a->rec->id, &a->canonical);
	}
	bxc_state_record_done(&a->row);
	free(a);
	pump(e);
}

/* The layers of a result, bottom first; NULL when they can't all be had. */
static record *record_from(bxc_build *e, const cache_import *imp, const bxc_cc *cc, int32_t top)
{
	record *rec = bxc_calloc(1, sizeof(*rec));
	for (int32_t at = top; at >= 0; at = cc->layers.v[at].parent) {
		layer *l = layer_from(e, imp, &cc->layers.v[at]);
		if (!l) {
			record_free(rec);
			return NULL;
		}
		*bxc_arr_push(&rec->layers) = l;
	}
	for (size_t i = 0, j = rec->layers.n; i + 1 < j; i++) {
		layer *swap = rec->layers.v[i];
		rec->layers.v[i] = rec->layers.v[--j];
		rec->layers.v[j] = swap;
	}
	return rec;
}

bool imports_lookup(bxc_build *e, uint64_t build_num, uint64_t ticket, const bxc_digest *key)
{
	build *b = build_by_num(e, build_num);
	char text[BXC_DIGEST_STR_MAX];
	const bxc_digest *known = NULL;
	bxc_digest_str(key, text);
	for (size_t i = 0; b && i < b->imports.n; i++) {
		const cache_import *imp = b->imports.v[i];
		for (size_t k = 0; k < imp->caches.n; k++) {
			const bxc_cc_record *cr = bxc_map_get(imp->caches.v[k].keys, text);
			if (!cr)
				continue;
			record *rec = cr->layer < 0 ? NULL
						    : record_from(e, imp, &imp->caches.v[k].cc,
							      cr->layer);
			if (!rec) {
				known = known ? known : &cr->canonical;
				continue;
			}
			struct adopt *a = bxc_calloc(1, sizeof(*a));
			*a = (struct adopt){.e = e,
				.rec = rec,
				.ticket = ticket,
				.key = *key,
				.canonical = cr->canonical};
			a->row.result = record_to_text(rec, NULL);
			a->row.created_ns = bxc_clock_wall_ns();
			bxc_db_submit(e->c.db, adopt_work, adopt_done, a);
			return true;
		}
	}
	if (known)
		bxc_solve_lookup_known(e->solve, ticket, known);
	return known != NULL;
}
