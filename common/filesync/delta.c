/* SPDX-License-Identifier: Apache-2.0 */
/* What makes one tree of another; see FORMAT.md. */
#include <string.h>
#include <sys/stat.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/filesync/filesync_internal.h"

#define MAGIC	  "BXCDELT1"
#define MAGIC_LEN 8u

static bool same_xattrs(const bxc_tree_entry *a, const bxc_tree_entry *b)
{
	if (a->xattrs.n != b->xattrs.n)
		return false;
	for (size_t i = 0; i < a->xattrs.n; i++) {
		const struct bxc_tree_xattr *x = &a->xattrs.v[i], *y = &b->xattrs.v[i];
		if (!bxc_str_eq(x->name, y->name) || x->len != y->len)
			return false;
		if (x->len && memcmp(x->value, y->value, x->len) != 0)
			return false;
	}
	return true;
}

/* Have they one encoding? */
static bool same_entry(const bxc_tree_entry *a, const bxc_tree_entry *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->size == b->size &&
	       a->mtime_ns == b->mtime_ns && a->dev_major == b->dev_major &&
	       a->dev_minor == b->dev_minor && a->is_hardlink == b->is_hardlink &&
	       bxc_digest_eq(&a->digest, &b->digest) && bxc_str_eq(a->link, b->link) &&
	       same_xattrs(a, b);
}

int bxc_tree_delta_encode(const bxc_tree *base, const bxc_digest *base_digest, const bxc_tree *t,
	const bxc_digest *digest, bxc_buf *out, bxc_err **err)
{
	fsync_enc c = {out, err, 0};
	fsync_put(&c, MAGIC, MAGIC_LEN);
	fsync_put(&c, base_digest->b, sizeof(base_digest->b));
	fsync_put(&c, digest->b, sizeof(digest->b));
	const bxc_tree_entry *old = base->entries.v, *new = t->entries.v;
	size_t i = 0, j = 0;
	while (c.r >= 0 && (i < base->entries.n || j < t->entries.n)) {
		size_t copy = 0, drop = 0, n_put = 0;
		while (i + copy < base->entries.n && j + copy < t->entries.n &&
			bxc_str_eq(old[i + copy].path, new[j + copy].path) &&
			same_entry(&old[i + copy], &new[j + copy]))
			copy++;
		i += copy;
		j += copy;
		for (;;) {
			bool has_old = i + drop < base->entries.n,
			     has_new = j + n_put < t->entries.n;
			if (!has_old && !has_new)
				break;
			int order = !has_old   ? 1
				    : !has_new ? -1
					       : fsync_path_cmp(
							 old[i + drop].path, new[j + n_put].path);
			if (order == 0 && same_entry(&old[i + drop], &new[j + n_put]))
				break;
			drop += order <= 0;
			n_put += order >= 0;
		}
		fsync_put_int(&c, copy, 4);
		fsync_put_int(&c, drop, 4);
		fsync_put_int(&c, n_put, 4);
		for (size_t k = 0; k < n_put; k++)
			fsync_put_entry(&c, &new[j + k], false);
		i += drop;
		j += n_put;
	}
	return bxc_err_wrap(err, c.r, "encode changes of a tree");
}

int bxc_tree_delta_base(bxc_slice in, bxc_digest *ret, bxc_digest *ret_digest, bxc_err **err)
{
	fsync_dec d = {.in = in};
	const uint8_t *magic = fsync_get(&d, MAGIC_LEN);
	if (!magic || memcmp(magic, MAGIC, MAGIC_LEN) != 0)
		return 0;
	*ret = *ret_digest = (bxc_digest){0};
	fsync_get_digest(&d, ret);
	fsync_get_digest(&d, ret_digest);
	return d.bad ? bxc_err_set(err, BXC_INVALID_ARGUMENT, "changes of a tree: cut off") : 1;
}

/* Moves `e` to the end of t when it may be the next. */
static int add(bxc_tree *t, fsync_order *order, bxc_tree_entry *e, bxc_err **err)
{
	int r = fsync_check_entry(order, e, err);
	if (r >= 0 && t->entries.n >= BXC_LIMIT_TREE_ENTRIES)
		r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "tree of more than %u entries",
			BXC_LIMIT_TREE_ENTRIES);
	if (r < 0)
		return r;
	*bxc_arr_push(&t->entries) = *e;
	*e = (bxc_tree_entry){0};
	return 0;
}

int bxc_tree_delta_apply(bxc_tree *base, bxc_slice in, bxc_tree **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *old = base, *t = bxc_tree_new();
	BXC_CLEANUP(fsync_order_done) fsync_order order = {0};
	fsync_dec d = {.in = in};
	size_t i = 0;
	/* The reader has looked at them (bxc_tree_delta_base). */
	bxc_ignore(fsync_get(&d, MAGIC_LEN));
	for (unsigned k = 0; k < 2; k++)
		fsync_get_digest(&d, &(bxc_digest){0});
	while (!d.bad && d.in.n) {
		uint64_t copy = fsync_get_int(&d, 4), drop = fsync_get_int(&d, 4),
			 n_put = fsync_get_int(&d, 4);
		if (d.bad || copy + drop > old->entries.n - i ||
			(copy == 0 && drop == 0 && n_put == 0))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"changes of a tree: they are not of this tree");
		for (; copy; copy--) {
			int r = add(t, &order, &old->entries.v[i++], err);
			if (r < 0)
				return r;
		}
		i += drop;
		for (; n_put; n_put--) {
			bxc_tree_entry e = {0};
			int r = fsync_get_entry(&d, false, &e, err);
			if (r >= 0)
				r = add(t, &order, &e, err);
			if (r < 0) {
				fsync_entry_done(&e);
				return r;
			}
		}
	}
	if (d.bad || i != old->entries.n)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "changes of a tree: cut off");
	int r = fsync_check_hardlinks(t, err);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(t);
	return 0;
}
