/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker keeps, told; and what somebody wants gone. */
#include "worker/gc/gc_internal.h"

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fs.h"

const char *bxc_gc_kind_name(bxc_gc_kind k)
{
	static const char *const names[] = {"layer", "blob", "cache"};
	return names[k];
}

static void use_done(bxc_gc_use *u)
{
	free(u->id);
	free(u->about);
}

void bxc_gc_uses_done(bxc_gc_uses *u)
{
	BXC_ARR_FOREACH (i, u)
		use_done(i);
	bxc_arr_done(u);
}

/* The stock and the cache mounts as one list; those of `items` keep their place in `stock`. */
typedef struct entry {
	bxc_gc_use use;
	const gc_item *item; /* NULL: a cache mount */
} entry;
typedef BXC_ARR(entry) entries;

static void entries_done(entries *e)
{
	BXC_ARR_FOREACH (i, e)
		use_done(&i->use);
	bxc_arr_done(e);
}

static int by_use(const void *a, const void *b)
{
	const entry *x = a, *y = b;
	return x->use.used_ns < y->use.used_ns ? -1 : x->use.used_ns > y->use.used_ns;
}

static int gather(const gc_stock *stock, bxc_exec *exec, entries *ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_exec_caches_done) bxc_exec_caches caches = {0};
	int r = exec ? bxc_exec_caches_list(exec, &caches, err) : 0;
	BXC_ARR_FOREACH (i, &stock->items) {
		char d[BXC_DIGEST_STR_MAX];
		*bxc_arr_push(ret) = (entry){
			.use = {.kind = i->layer ? BXC_GC_LAYER : BXC_GC_BLOB,
				.id = bxc_strdup(i->layer ? i->layer : bxc_digest_str(&i->blob, d)),
				.bytes = i->bytes,
				.used_ns = i->used_ns,
				.in_use = i->is_pinned},
			.item = i};
	}
	BXC_ARR_FOREACH (c, &caches)
		*bxc_arr_push(ret) = (entry){.use = {.kind = BXC_GC_CACHE,
						     .id = BXC_TAKE(c->folder),
						     .about = BXC_TAKE(c->id),
						     .bytes = c->bytes,
						     .used_ns = c->used_ns,
						     .in_use = c->in_use}};
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_use);
	return r;
}

int bxc_gc_usage(
	bxc_snap *snap, bxc_content *content, bxc_exec *exec, bxc_gc_uses *ret, bxc_err **err)
{
	BXC_CLEANUP(gc_stock_done) gc_stock s = {0};
	BXC_CLEANUP(entries_done) entries all = {0};
	int r = gc_take_stock(&s, snap, content, err);
	if (r >= 0)
		r = gather(&s, exec, &all, err);
	BXC_ARR_FOREACH (e, &all) {
		*bxc_arr_push(ret) = e->use;
		e->use = (bxc_gc_use){0};
	}
	return r < 0 ? r : 0;
}

static bool is_meant(const bxc_gc_wish *w, const bxc_gc_use *u, int64_t now_ns)
{
	if (u->in_use || (w->kinds && !(w->kinds & 1u << u->kind)))
		return false;
	if (w->unused_ns > 0 && now_ns - u->used_ns < w->unused_ns)
		return false;
	bool named = !w->ids || !w->ids[0];
	for (char *const *i = w->ids; !named && i && *i; i++)
		named = bxc_str_has_prefix(u->id, *i);
	return named && !(u->kind == BXC_GC_LAYER && w->keep && bxc_strv_has(w->keep, u->id));
}

static int drop_cache(bxc_exec *exec, const char *folder, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_exec_cache_remove(exec, folder, &why);
	if (r == -BXC_FAILED_PRECONDITION)
		return 0;
	return r < 0 ? bxc_err_move(err, BXC_TAKE(why)) : 1;
}

int bxc_gc_prune(bxc_snap *snap, bxc_content *content, bxc_exec *exec, int dir_fd,
	const bxc_gc_wish *wish, int64_t now_ns, bxc_gc_uses *ret_gone, bxc_err **err)
{
	BXC_CLEANUP(gc_stock_done) gc_stock s = {0};
	BXC_CLEANUP(entries_done) entries all = {0};
	uint64_t total = 0, avail = 0, used = 0, freed = 0;
	int r = bxc_fs_space(dir_fd, &total, &avail, err);
	if (r >= 0)
		r = gc_take_stock(&s, snap, content, err);
	if (r >= 0)
		r = gather(&s, exec, &all, err);
	BXC_ARR_FOREACH (e, &all)
		used += e->use.bytes;
	bool to_a_limit = bxc_gc_is_limited(&wish->space) || wish->space.reserved;
	uint64_t keep = to_a_limit ? bxc_gc_target(&wish->space, used, avail) : 0;
	if (to_a_limit && !bxc_gc_is_limited(&wish->space))
		keep = wish->space.reserved;
	for (size_t i = 0; r >= 0 && i < all.n && used - freed > keep; i++) {
		entry *e = &all.v[i];
		if (!is_meant(wish, &e->use, now_ns))
			continue;
		r = e->item ? gc_drop(&s, e->item, err) : drop_cache(exec, e->use.id, err);
		if (r != 1)
			continue;
		freed += e->use.bytes;
		*bxc_arr_push(ret_gone) = e->use;
		e->use = (bxc_gc_use){0};
	}
	if (r >= 0 && freed)
		r = bxc_snap_empty_trash(snap, err);
	return r < 0 ? r : 0;
}
