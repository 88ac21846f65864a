/* SPDX-License-Identifier: Apache-2.0 */
#include "common/cacheconfig/cacheconfig.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* Marks the link from a key to the canonical key it stands for: no selector of BuildKit's is so
 * called. */
#define CANONICAL "bxc.canonical.v1"
/* Of a layer that was not made upon all that lies below it (COPY --link): upon how many it was. */
#define BELOW "bxc.below.v1"
/* Go's time.Time without a value. */
#define NO_TIME "0001-01-01T00:00:00Z"

void bxc_cc_done(bxc_cc *c)
{
	BXC_ARR_FOREACH (l, &c->layers)
		bxc_descriptor_done(&l->blob);
	bxc_arr_done(&c->layers);
	bxc_arr_done(&c->records);
}

/* ---- reading ---- */

/* A number of a list: absent is 0, as Go omits it. */
static int index_of(
	const bxc_json *obj, const char *key, int64_t min, size_t n, int32_t *ret, bxc_err **err)
{
	const bxc_json *j = bxc_json_get(obj, key);
	int64_t v = 0;
	if (j && !bxc_json_as_i64(j, &v))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s: expected a number", key);
	if (v < min || v >= (int64_t)n)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "%s: %lld of %zu", key, (long long)v, n);
	*ret = (int32_t)v;
	return 0;
}

/* Times before 1970, Go's zero among them, are none. */
static int64_t time_of(const bxc_json *obj, const char *key)
{
	const char *s = bxc_json_get_str(obj, key, NULL);
	int64_t ns;
	return s && bxc_clock_parse_rfc3339(s, &ns, NULL) >= 0 && ns > 0 ? ns : 0;
}

static int parse_layer(const bxc_json *j, size_t n, bxc_cc_layer *l, bxc_err **err)
{
	const bxc_json *a = bxc_json_get(j, "annotations");
	const char *blob, *type = bxc_json_get_str(a, "mediaType", NULL),
			  *diff_id = bxc_json_get_str(a, "diffID", NULL);
	int r = bxc_json_need_str(j, "blob", &blob, err);
	if (r >= 0)
		r = bxc_digest_parse(blob, &l->blob.digest, err);
	if (r >= 0)
		r = index_of(j, "parent", -1, n, &l->parent, err);
	if (r >= 0 && diff_id)
		r = bxc_digest_parse(diff_id, &l->diff_id, err);
	if (r < 0)
		return r;
	l->blob.media_type = bxc_strdup(type);
	l->blob.size = bxc_json_get_u64(a, "size", 0);
	l->created_ns = time_of(a, "createdAt");
	l->n_below = (uint32_t)BXC_MIN(bxc_json_get_u64(a, BELOW, UINT32_MAX), UINT32_MAX);
	return 0;
}

/* Every chain ends, and before it is longer than an image may be. */
static int check_chains(const bxc_cc *c, bxc_err **err)
{
	BXC_AUTOFREE uint32_t *depth = bxc_calloc(c->layers.n, sizeof(*depth));
	for (size_t i = 0; i < c->layers.n; i++) {
		uint32_t steps = 0;
		int32_t at = (int32_t)i;
		for (; at >= 0 && !depth[at] && steps <= BXC_LIMIT_IMAGE_LAYERS;
			at = c->layers.v[at].parent)
			steps++;
		uint32_t d = steps + (at >= 0 ? depth[at] : 0);
		if (d > BXC_LIMIT_IMAGE_LAYERS)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"layers[%zu]: a circle, or more than %u layers on each other", i,
				BXC_LIMIT_IMAGE_LAYERS);
		for (at = (int32_t)i; at >= 0 && !depth[at]; at = c->layers.v[at].parent)
			depth[at] = d--;
	}
	return 0;
}

static int parse_layers(const bxc_json *doc, bxc_cc *c, bxc_err **err)
{
	const bxc_json *list = bxc_json_get(doc, "layers");
	size_t n = bxc_json_len(list);
	if (list && !bxc_json_is_array(list))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "layers: expected an array");
	if (n > BXC_CC_LIMIT_LAYERS)
		return bxc_err_set(
			err, BXC_RESOURCE_EXHAUSTED, "layers: more than %u", BXC_CC_LIMIT_LAYERS);
	BXC_JSON_FOREACH (j, list) {
		int r = parse_layer(j, n, bxc_arr_push(&c->layers), err);
		if (r < 0)
			return bxc_err_wrap(err, r, "layers[%zu]", c->layers.n - 1);
	}
	return check_chains(c, err);
}

struct raw {
	bxc_digest key;
	int32_t layer;
	int32_t link; /* the canonical record; -1: it has no inputs; -2: not ours */
};

static int parse_record(
	const bxc_json *j, size_t n_records, size_t n_layers, struct raw *ret, bxc_err **err)
{
	const char *digest;
	const bxc_json *inputs = bxc_json_get(j, "inputs"), *results = bxc_json_get(j, "layers");
	int r = bxc_json_need_str(j, "digest", &digest, err);
	if (r >= 0)
		r = bxc_digest_parse(digest, &ret->key, err);
	if (r < 0)
		return r;
	ret->layer = -1;
	BXC_JSON_FOREACH (res, results) {
		int32_t at;
		r = index_of(res, "layer", 0, n_layers, &at, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "layers");
		if (ret->layer < 0)
			ret->layer = at;
	}
	ret->link = bxc_json_len(inputs) ? -2 : -1;
	BXC_JSON_FOREACH (alternatives, inputs) {
		BXC_JSON_FOREACH (in, alternatives) {
			int32_t at;
			r = index_of(in, "link", 0, n_records, &at, err);
			if (r < 0)
				return bxc_err_wrap(err, r, "inputs");
			if (bxc_json_len(inputs) == 1 && bxc_json_len(alternatives) == 1 &&
				bxc_str_eq(bxc_json_get_str(in, "selector", NULL), CANONICAL))
				ret->link = at;
		}
	}
	return 0;
}

static int parse_records(const bxc_json *list, size_t n_layers, bxc_cc *c, bxc_err **err)
{
	size_t n = bxc_json_len(list), i = 0;
	if (list && !bxc_json_is_array(list))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "records: expected an array");
	if (n > BXC_CC_LIMIT_RECORDS)
		return bxc_err_set(
			err, BXC_RESOURCE_EXHAUSTED, "records: more than %u", BXC_CC_LIMIT_RECORDS);
	BXC_AUTOFREE struct raw *raws = bxc_calloc(n, sizeof(*raws));
	BXC_JSON_FOREACH (j, list) {
		int r = parse_record(j, n, n_layers, &raws[i], err);
		if (r < 0)
			return bxc_err_wrap(err, r, "records[%zu]", i);
		i++;
	}
	for (i = 0; i < n; i++) {
		const struct raw *w = &raws[i];
		const struct raw *canonical = w->link == -1 ? w
					      : w->link >= 0 && raws[w->link].link == -1
						      ? &raws[w->link]
						      : NULL;
		/* One without inputs and result tells nothing by itself: it is there to be linked
		 * to. */
		if (canonical && (canonical != w || w->layer >= 0))
			*bxc_arr_push(&c->records) =
				(bxc_cc_record){w->key, canonical->key, w->layer};
	}
	return 0;
}

static int parse_text(bxc_slice text, bxc_json **ret, bxc_err **err)
{
	if (text.n > BXC_CC_LIMIT_BYTES)
		return bxc_err_set(
			err, BXC_RESOURCE_EXHAUSTED, "more than %u bytes", BXC_CC_LIMIT_BYTES);
	return bxc_json_parse(text, ret, err);
}

int bxc_cc_parse(bxc_slice text, bxc_cc *ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	BXC_AUTOCC bxc_cc c = {0};
	int r = parse_text(text, &j, err);
	if (r >= 0 && !bxc_json_is_object(j))
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "expected an object");
	if (r >= 0)
		r = parse_layers(j, &c, err);
	if (r >= 0)
		r = parse_records(bxc_json_get(j, "records"), c.layers.n, &c, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "cache configuration");
	*ret = c;
	c = (bxc_cc){0};
	return 0;
}

int bxc_cc_parse_inline(bxc_slice records, size_t n_layers, bxc_cc *ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	BXC_AUTOCC bxc_cc c = {0};
	int r = parse_text(records, &j, err);
	if (r >= 0)
		r = parse_records(j, n_layers, &c, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "inline cache");
	*ret = c;
	c = (bxc_cc){0};
	return 0;
}

/* ---- writing ---- */

static void set_time(bxc_json *o, int64_t ns)
{
	BXC_AUTOFREE char *s = ns ? bxc_clock_rfc3339(ns) : bxc_strdup(NO_TIME);
	bxc_json_set_str(o, "createdAt", s);
}

static void set_digest(bxc_json *o, const char *key, const bxc_digest *d)
{
	char s[BXC_DIGEST_STR_MAX];
	bxc_json_set_str(o, key, bxc_digest_str(d, s));
}

static void push_record(
	const bxc_cc *c, bxc_json *list, const bxc_digest *key, int32_t layer, int64_t link)
{
	bxc_json *o = bxc_json_push_object(list);
	if (layer >= 0) {
		bxc_json *res = bxc_json_push_object(bxc_json_add_array(o, "layers"));
		bxc_json_set_number(res, "layer", layer);
		set_time(res, (size_t)layer < c->layers.n ? c->layers.v[layer].created_ns : 0);
	}
	set_digest(o, "digest", key);
	if (link >= 0) {
		bxc_json *alternatives = bxc_json_array();
		bxc_json *in = bxc_json_push_object(alternatives);
		bxc_json_set_str(in, "selector", CANONICAL);
		bxc_json_set_number(in, "link", link);
		bxc_json_push_take(bxc_json_add_array(o, "inputs"), alternatives);
	}
}

/* First the canonical keys, then those that link to them. A key counts once. */
static bxc_json *records_to_json(const bxc_cc *c)
{
	bxc_json *list = bxc_json_array();
	bxc_map *roots = bxc_map_new(NULL), *seen = bxc_map_new(NULL), *results = bxc_map_new(NULL);
	BXC_AUTOFREE uint32_t *numbers = bxc_calloc(c->records.n + 1, sizeof(*numbers));
	uint32_t n = 0;
	char s[BXC_DIGEST_STR_MAX];
	for (size_t i = 0; i < c->records.n; i++) {
		const bxc_cc_record *r = &c->records.v[i];
		if (r->layer >= 0 && bxc_digest_eq(&r->key, &r->canonical) &&
			!bxc_map_has(results, bxc_digest_str(&r->key, s)))
			bxc_map_set(results, s, (void *)(uintptr_t)r);
	}
	for (size_t i = 0; i < c->records.n; i++) {
		const bxc_digest *d = &c->records.v[i].canonical;
		if (bxc_map_has(roots, bxc_digest_str(d, s)))
			continue;
		const bxc_cc_record *own = bxc_map_get(results, s);
		numbers[n] = n;
		bxc_map_set(roots, s, &numbers[n++]);
		bxc_map_set(seen, s, NULL);
		push_record(c, list, d, own ? own->layer : -1, -1);
	}
	for (size_t i = 0; i < c->records.n; i++) {
		const bxc_cc_record *r = &c->records.v[i];
		if (bxc_map_has(seen, bxc_digest_str(&r->key, s)))
			continue;
		bxc_map_set(seen, s, NULL);
		const uint32_t *root = bxc_map_get(roots, bxc_digest_str(&r->canonical, s));
		push_record(c, list, &r->key, r->layer, *root);
	}
	bxc_map_free(roots);
	bxc_map_free(seen);
	bxc_map_free(results);
	return list;
}

char *bxc_cc_print(const bxc_cc *c)
{
	BXC_AUTOJSON bxc_json *doc = bxc_json_object();
	bxc_json *layers = bxc_json_add_array(doc, "layers");
	for (size_t i = 0; i < c->layers.n; i++) {
		const bxc_cc_layer *l = &c->layers.v[i];
		bxc_json *o = bxc_json_push_object(layers);
		set_digest(o, "blob", &l->blob.digest);
		if (l->parent)
			bxc_json_set_number(o, "parent", l->parent);
		bxc_json *a = bxc_json_add_object(o, "annotations");
		bxc_json_set_str(a, "mediaType", l->blob.media_type);
		if (bxc_digest_is_set(&l->diff_id))
			set_digest(a, "diffID", &l->diff_id);
		if (l->blob.size)
			bxc_json_set_number(a, "size", (int64_t)l->blob.size);
		set_time(a, l->created_ns);
		if (l->n_below != UINT32_MAX)
			bxc_json_set_number(a, BELOW, l->n_below);
	}
	bxc_json_set_take(doc, "records", records_to_json(c));
	return bxc_json_print_go(doc);
}

char *bxc_cc_print_inline(const bxc_cc *c)
{
	BXC_AUTOJSON bxc_json *list = records_to_json(c);
	return bxc_json_print_go(list);
}

/* ---- manifests ---- */

static int config_of(const bxc_json *desc, bxc_descriptor *ret, bxc_err **err)
{
	if (!bxc_str_eq(bxc_json_get_str(desc, "mediaType", NULL), BXC_MT_CACHE_CONFIG))
		return 0;
	int r = bxc_descriptor_from_json(desc, ret, err);
	return r < 0 ? r : 1;
}

int bxc_cc_of_manifest(bxc_slice manifest, bxc_descriptor *ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	int r = parse_text(manifest, &j, err);
	if (r >= 0)
		r = config_of(bxc_json_get(j, "config"), ret, err);
	if (r == 0)
		BXC_JSON_FOREACH (d, bxc_json_get(j, "manifests"))
			if ((r = config_of(d, ret, err)) != 0)
				break;
	return r < 0 ? bxc_err_wrap(err, r, "cache manifest") : r;
}

static int attr_bool(const bxc_json *attrs, const char *key, bool *ret, bxc_err **err)
{
	const char *v = bxc_json_get_str(attrs, key, NULL);
	if (v && bxc_str_to_bool(v, ret, NULL) < 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"failed to parse %s: '%.64s' is neither true nor false", key, v);
	return 0;
}

int bxc_cc_form_parse(const bxc_json *attrs, bxc_cc_form *ret, bxc_err **err)
{
	*ret = (bxc_cc_form){.oci = true};
	int r = attr_bool(attrs, "oci-mediatypes", &ret->oci, err);
	ret->image_manifest = ret->oci;
	if (r >= 0)
		r = attr_bool(attrs, "image-manifest", &ret->image_manifest, err);
	if (r >= 0 && ret->image_manifest && !ret->oci)
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid configuration: image-manifest=true needs oci-mediatypes=true");
	return r;
}

char *bxc_cc_print_manifest(const bxc_cc_form *f, const bxc_descriptor *config,
	const bxc_descriptor *layers, size_t n, const char **ret_type)
{
	char *text;
	if (f->image_manifest) {
		bxc_oci_manifest m = {.media_type = bxc_strdup(BXC_MT_OCI_MANIFEST)};
		bxc_descriptor_copy(&m.config, config);
		for (size_t i = 0; i < n; i++)
			bxc_descriptor_copy(bxc_arr_push(&m.layers), &layers[i]);
		text = bxc_oci_manifest_print(&m);
		bxc_oci_manifest_done(&m);
		*ret_type = BXC_MT_OCI_MANIFEST;
	} else {
		*ret_type = f->oci ? BXC_MT_OCI_INDEX : BXC_MT_DOCKER_LIST;
		bxc_oci_index x = {.media_type = bxc_strdup(*ret_type)};
		for (size_t i = 0; i < n; i++)
			bxc_descriptor_copy(bxc_arr_push(&x.manifests), &layers[i]);
		bxc_descriptor_copy(bxc_arr_push(&x.manifests), config);
		text = bxc_oci_index_print(&x);
		bxc_oci_index_done(&x);
	}
	return text;
}
