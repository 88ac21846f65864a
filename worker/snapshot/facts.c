/* SPDX-License-Identifier: Apache-2.0 */
/* Ids, facts, and their form on disk (FORMAT.md). */
#include <ctype.h>

#include "common/base/clock.h"
#include "common/codec/json.h"
#include "worker/snapshot/snapshot_internal.h"

#define META_VERSION 1

int bxc_snap__check_id(const char *id, bxc_err **err)
{
	size_t n = id ? strlen(id) : 0;
	bool ok = n > 0 && n <= BXC_SNAP_ID_MAX && isalpha((unsigned char)id[0]);
	for (size_t i = 0; ok && i < n; i++)
		ok = isalnum((unsigned char)id[i]) || strchr(".:-", id[i]);
	if (!ok)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "'%.140s' is no id of a layer", id ? id : "");
	return 0;
}

char *bxc_snap__dir_name(const char *id)
{
	/* Ids hold no '_', so that names and ids correspond one to one. */
	char *name = bxc_strdup(id);
	for (char *p = name; *p; p++)
		if (*p == ':')
			*p = '_';
	return name;
}

void bxc_snap_facts_done(bxc_snap_facts *f)
{
	BXC_ARR_FOREACH (b, &f->blobs)
		bxc_descriptor_done(&b->desc);
	bxc_arr_done(&f->blobs);
	*f = (bxc_snap_facts){0};
}

void bxc_snap_facts_add_blob(bxc_snap_facts *f, bxc_compression c, const bxc_descriptor *desc)
{
	bxc_snap_blob *slot = NULL;
	BXC_ARR_FOREACH (b, &f->blobs)
		if (b->compression == c)
			slot = b;
	bxc_descriptor copy = {0};
	bxc_descriptor_copy(&copy, desc);
	if (slot)
		bxc_descriptor_done(&slot->desc);
	else
		slot = bxc_arr_push(&f->blobs);
	slot->compression = c;
	slot->desc = copy;
}

const bxc_descriptor *bxc_snap_facts_blob(const bxc_snap_facts *f, bxc_compression c)
{
	for (size_t i = 0; i < f->blobs.n; i++)
		if (f->blobs.v[i].compression == c)
			return &f->blobs.v[i].desc;
	return NULL;
}

void bxc_snap__facts_copy(bxc_snap_facts *dst, const bxc_snap_facts *src)
{
	*dst = (bxc_snap_facts){.diff_id = src->diff_id, .size_bytes = src->size_bytes};
	for (size_t i = 0; i < src->blobs.n; i++)
		bxc_snap_facts_add_blob(dst, src->blobs.v[i].compression, &src->blobs.v[i].desc);
}

bxc_snap__layer *bxc_snap__layer_new(const char *id)
{
	bxc_snap__layer *l = bxc_calloc(1, sizeof(*l));
	l->id = bxc_strdup(id);
	l->used_ns = bxc_clock_wall_ns();
	return l;
}

void bxc_snap__layer_free(bxc_snap__layer *l)
{
	if (!l)
		return;
	free(l->id);
	bxc_snap_facts_done(&l->facts);
	free(l);
}

char *bxc_snap__meta_print(const bxc_snap__layer *l, const char *boot)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_i64(j, "version", META_VERSION);
	bxc_json_set_str(j, "id", l->id);
	bxc_json_set_u64(j, "seq", l->seq);
	bxc_json_set_str(j, "boot", boot);
	bxc_json_set_u64(j, "size", l->facts.size_bytes);
	if (bxc_digest_is_set(&l->facts.diff_id)) {
		char text[BXC_DIGEST_STR_MAX];
		bxc_json_set_str(j, "diff_id", bxc_digest_str(&l->facts.diff_id, text));
	}
	bxc_json *blobs = bxc_json_add_array(j, "blobs");
	for (size_t i = 0; i < l->facts.blobs.n; i++) {
		const bxc_snap_blob *b = &l->facts.blobs.v[i];
		bxc_json *e = bxc_json_push_object(blobs);
		bxc_json_set_str(e, "compression", bxc_compression_name(b->compression));
		bxc_json_set_take(e, "desc", bxc_descriptor_to_json(&b->desc));
	}
	return bxc_json_print(j);
}

static int parse_blobs(const bxc_json *j, bxc_snap_facts *f, bxc_err **err)
{
	const bxc_json *blobs = NULL;
	int r = bxc_json_need_arr(j, "blobs", &blobs, err);
	if (r < 0)
		return r;
	BXC_JSON_FOREACH (e, blobs) {
		const char *name = NULL;
		const bxc_json *dj = NULL;
		r = bxc_json_need_str(e, "compression", &name, err);
		if (r < 0)
			return r;
		r = bxc_json_need_obj(e, "desc", &dj, err);
		if (r < 0)
			return r;
		bxc_compression c = bxc_compression_parse(name);
		if (c == BXC_COMPRESSION_UNKNOWN)
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "unknown compression '%s'", name);
		bxc_descriptor d = {0};
		r = bxc_descriptor_from_json(dj, &d, err);
		if (r < 0)
			return r;
		bxc_snap_facts_add_blob(f, c, &d);
		bxc_descriptor_done(&d);
	}
	return 0;
}

int bxc_snap__meta_parse(bxc_slice text, bxc_snap__layer **ret, char **ret_boot, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	int r = bxc_json_parse(text, &j, err);
	if (r < 0)
		return r;
	uint64_t version = 0, seq = 0, size = 0;
	const char *id = NULL, *boot = NULL;
	r = bxc_json_need_u64(j, "version", UINT32_MAX, &version, err);
	if (r < 0)
		return r;
	if (version != META_VERSION)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"version %llu of a layer's facts is not known",
			(unsigned long long)version);
	r = bxc_json_need_str(j, "id", &id, err);
	if (r < 0)
		return r;
	r = bxc_snap__check_id(id, err);
	if (r < 0)
		return r;
	r = bxc_json_need_u64(j, "seq", UINT64_MAX - 1, &seq, err);
	if (r < 0)
		return r;
	r = bxc_json_need_str(j, "boot", &boot, err);
	if (r < 0)
		return r;
	r = bxc_json_need_u64(j, "size", UINT64_MAX, &size, err);
	if (r < 0)
		return r;
	BXC_CLEANUP(bxc_snap__layer_freep) bxc_snap__layer *l = bxc_snap__layer_new(id);
	l->seq = seq;
	l->facts.size_bytes = size;
	const char *diff_id = bxc_json_get_str(j, "diff_id", NULL);
	if (diff_id) {
		r = bxc_digest_parse(diff_id, &l->facts.diff_id, err);
		if (r < 0)
			return r;
	}
	r = parse_blobs(j, &l->facts, err);
	if (r < 0)
		return r;
	*ret_boot = bxc_strdup(boot);
	*ret = BXC_TAKE(l);
	return 0;
}
