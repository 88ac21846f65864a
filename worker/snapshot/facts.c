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
	return bxc_json_print(j);
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
	*ret_boot = bxc_strdup(boot);
	*ret = BXC_TAKE(l);
	return 0;
}
