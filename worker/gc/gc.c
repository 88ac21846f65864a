/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/gc/gc_internal.h"

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fs.h"

void bxc_gc_result_done(bxc_gc_result *r)
{
	bxc_strv_free(r->layers);
	*r = (bxc_gc_result){0};
}

uint64_t bxc_gc_target(const bxc_gc_limits *l, uint64_t used, uint64_t avail)
{
	uint64_t keep = l->max_used ? l->max_used : UINT64_MAX;
	if (l->min_free > avail) {
		uint64_t excess = l->min_free - avail;
		keep = BXC_MIN(keep, used > excess ? used - excess : 0);
	}
	return BXC_MAX(keep, l->reserved);
}

/* ---- what is there ---- */

/* The first of the blobs made of a diff id; they stand together. */
static size_t made_of(const gc_stock *s, const bxc_digest *diff_id)
{
	size_t lo = 0, hi = s->made.n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (memcmp(s->made.v[mid].diff_id.b, diff_id->b, sizeof(diff_id->b)) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void add_layer(gc_stock *s, const bxc_snap_info *info)
{
	bxc_snap_facts facts;
	if (bxc_snap_get(s->snap, info->id, &facts, NULL) < 0)
		return;
	gc_item it = {
		.layer = bxc_strdup(info->id), .bytes = info->size_bytes, .used_ns = info->used_ns,
		.is_pinned = info->is_pinned};
	for (size_t i = made_of(s, &facts.diff_id);
		i < s->made.n && bxc_digest_eq(&s->made.v[i].diff_id, &facts.diff_id); i++) {
		char d[BXC_DIGEST_STR_MAX];
		/* Of layers that hold the same, one has the blob. */
		if (bxc_map_has(s->of_layers, bxc_digest_str(&s->made.v[i].blob, d)))
			continue;
		it.blob = facts.diff_id;
		it.bytes += s->made.v[i].size;
		bxc_map_set(s->of_layers, d, s);
	}
	*bxc_arr_push(&s->items) = it;
	s->used += it.bytes;
}

static int add_blob(const bxc_blob_info *info, void *ud)
{
	gc_stock *s = ud;
	char d[BXC_DIGEST_STR_MAX];
	if (bxc_map_has(s->of_layers, bxc_digest_str(&info->digest, d)))
		return 0;
	*bxc_arr_push(&s->items) =
		(gc_item){.blob = info->digest, .bytes = info->size, .used_ns = info->used_ns};
	s->used += info->size;
	return 0;
}

static int by_use(const void *a, const void *b)
{
	const gc_item *x = a, *y = b;
	return x->used_ns < y->used_ns ? -1 : x->used_ns > y->used_ns;
}

int gc_take_stock(gc_stock *s, bxc_snap *snap, bxc_content *content, bxc_err **err)
{
	BXC_AUTOSNAPLIST bxc_snap_list layers = {0};
	*s = (gc_stock){
		.snap = snap, .blobs = bxc_content_store(content), .of_layers = bxc_map_new(NULL)};
	int r = bxc_content_forms(content, &s->made, err);
	if (r < 0)
		return r;
	bxc_snap_list_layers(s->snap, &layers);
	BXC_ARR_FOREACH (l, &layers)
		add_layer(s, l);
	r = bxc_blob_list(s->blobs, add_blob, s, err);
	if (s->items.n)
		qsort(s->items.v, s->items.n, sizeof(gc_item), by_use);
	return r;
}

/* ---- what goes ---- */

/* 1: gone; 0: a step has it. */
static int drop_layer(gc_stock *s, const gc_item *it, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	if (!bxc_snap_has(s->snap, it->layer))
		return 0;
	int r = bxc_snap_remove(s->snap, it->layer, &why);
	if (r == -BXC_FAILED_PRECONDITION)
		return 0;
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(why));
	size_t i = bxc_digest_is_set(&it->blob) ? made_of(s, &it->blob) : s->made.n;
	for (; i < s->made.n && bxc_digest_eq(&s->made.v[i].diff_id, &it->blob); i++) {
		r = bxc_blob_remove(s->blobs, &s->made.v[i].blob, err);
		if (r < 0)
			return r;
	}
	return 1;
}

int gc_drop(gc_stock *s, const gc_item *it, bxc_err **err)
{
	int r = it->layer ? drop_layer(s, it, err) : bxc_blob_remove(s->blobs, &it->blob, err);
	if (r < 0 || (it->layer && r == 0))
		return r;
	s->used -= it->bytes;
	return 1;
}

void gc_stock_done(gc_stock *s)
{
	BXC_ARR_FOREACH (it, &s->items)
		free(it->layer);
	bxc_arr_done(&s->items);
	bxc_arr_done(&s->made);
	bxc_map_free(s->of_layers);
}

int bxc_gc_run(bxc_snap *snap, bxc_content *content, int dir_fd, const bxc_gc_limits *l,
	int64_t now_ns, bxc_gc_result *ret, bxc_err **err)
{
	BXC_CLEANUP(gc_stock_done) gc_stock s = {0};
	uint64_t total = 0, avail = 0;
	int r = bxc_fs_space(dir_fd, &total, &avail, err);
	if (r == 0)
		r = gc_take_stock(&s, snap, content, err);
	uint64_t keep = bxc_gc_target(l, s.used, avail);
	for (size_t i = 0; r == 0 && i < s.items.n && s.used > keep; i++) {
		const gc_item *it = &s.items.v[i];
		if (now_ns - it->used_ns < l->keep_ns)
			break;
		r = gc_drop(&s, it, err);
		if (r == 1 && it->layer)
			bxc_strv_push(&ret->layers, it->layer);
		if (r == 1)
			ret->freed_bytes += it->bytes;
		r = r < 0 ? r : 0;
	}
	ret->used_bytes = s.used;
	/* The next run is to see the space that this one made. */
	if (ret->layers && r == 0)
		r = bxc_snap_empty_trash(snap, err);
	return r;
}
