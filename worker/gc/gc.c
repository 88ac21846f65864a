/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/gc/gc.h"

#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fs.h"

/* Something that may go: a layer, or a blob that is of no layer. */
typedef struct item {
	char *layer; /* NULL: blob */
	bxc_digest blob;
	uint64_t bytes;
	int64_t used_ns;
} item;

typedef struct store {
	bxc_snap *snap;
	bxc_blob_store *blobs;
	bxc_map *of_layers; /* digests of blobs that belong to layers */
	BXC_ARR(item) items;
	uint64_t used;
} store;

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

static void add_layer(store *s, const bxc_snap_info *info)
{
	BXC_AUTOSNAPFACTS bxc_snap_facts facts = {0};
	if (bxc_snap_get(s->snap, info->id, &facts, NULL) < 0)
		return;
	uint64_t bytes = info->size_bytes;
	BXC_ARR_FOREACH (b, &facts.blobs) {
		char d[BXC_DIGEST_STR_MAX];
		if (!bxc_blob_has(s->blobs, &b->desc.digest))
			continue;
		bytes += b->desc.size;
		bxc_map_set(s->of_layers, bxc_digest_str(&b->desc.digest, d), s);
	}
	*bxc_arr_push(&s->items) =
		(item){.layer = bxc_strdup(info->id), .bytes = bytes, .used_ns = info->used_ns};
	s->used += bytes;
}

static int add_blob(const bxc_blob_info *info, void *ud)
{
	store *s = ud;
	char d[BXC_DIGEST_STR_MAX];
	if (bxc_map_has(s->of_layers, bxc_digest_str(&info->digest, d)))
		return 0;
	*bxc_arr_push(&s->items) =
		(item){.blob = info->digest, .bytes = info->size, .used_ns = info->used_ns};
	s->used += info->size;
	return 0;
}

static int by_use(const void *a, const void *b)
{
	const item *x = a, *y = b;
	return x->used_ns < y->used_ns ? -1 : x->used_ns > y->used_ns;
}

static int take_stock(store *s, bxc_err **err)
{
	BXC_AUTOSNAPLIST bxc_snap_list layers = {0};
	bxc_snap_list_layers(s->snap, &layers);
	BXC_ARR_FOREACH (l, &layers)
		add_layer(s, l);
	int r = bxc_blob_list(s->blobs, add_blob, s, err);
	if (s->items.n)
		qsort(s->items.v, s->items.n, sizeof(item), by_use);
	return r;
}

/* ---- what goes ---- */

/* 1: gone; 0: a step has it. */
static int drop_layer(store *s, const char *id, bxc_err **err)
{
	BXC_AUTOSNAPFACTS bxc_snap_facts facts = {0};
	BXC_AUTOERR bxc_err *why = NULL;
	if (bxc_snap_get(s->snap, id, &facts, NULL) < 0)
		return 0;
	int r = bxc_snap_remove(s->snap, id, &why);
	if (r == -BXC_FAILED_PRECONDITION)
		return 0;
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(why));
	BXC_ARR_FOREACH (b, &facts.blobs) {
		r = bxc_blob_remove(s->blobs, &b->desc.digest, err);
		if (r < 0)
			return r;
	}
	return 1;
}

static int drop(store *s, const item *it, bxc_gc_result *ret, bxc_err **err)
{
	int r = it->layer ? drop_layer(s, it->layer, err)
			  : bxc_blob_remove(s->blobs, &it->blob, err);
	if (r < 0 || (it->layer && r == 0))
		return r;
	if (it->layer)
		bxc_strv_push(&ret->layers, it->layer);
	s->used -= it->bytes;
	ret->freed_bytes += it->bytes;
	return 0;
}

static void store_done(store *s)
{
	BXC_ARR_FOREACH (it, &s->items)
		free(it->layer);
	bxc_arr_done(&s->items);
	bxc_map_free(s->of_layers);
}

int bxc_gc_run(bxc_snap *snap, bxc_blob_store *blobs, int dir_fd, const bxc_gc_limits *l,
	int64_t now_ns, bxc_gc_result *ret, bxc_err **err)
{
	BXC_CLEANUP(store_done)
	store s = {.snap = snap, .blobs = blobs, .of_layers = bxc_map_new(NULL)};
	uint64_t total = 0, avail = 0;
	int r = bxc_fs_space(dir_fd, &total, &avail, err);
	if (r == 0)
		r = take_stock(&s, err);
	uint64_t keep = bxc_gc_target(l, s.used, avail);
	for (size_t i = 0; r == 0 && i < s.items.n && s.used > keep; i++) {
		if (now_ns - s.items.v[i].used_ns < l->keep_ns)
			break;
		r = drop(&s, &s.items.v[i], ret, err);
	}
	ret->used_bytes = s.used;
	/* The next run is to see the space that this one made. */
	if (ret->layers && r == 0)
		r = bxc_snap_empty_trash(snap, err);
	return r;
}
