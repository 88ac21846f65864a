/* SPDX-License-Identifier: Apache-2.0 */
/* What an earlier walk found, so that files which did not change are not read again; see FORMAT.md.
 */
#include <string.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/filesync/walk_internal.h"

#define MAGIC	  "BXCINDX2"
#define MAGIC_LEN 8u
#define ID_BYTES  24u
/* Times of files have the resolution of their file system's clock, at worst two seconds (FAT). A
 * file may change once more without its times doing so until then. */
#define RACY_NS (2 * BXC_NS_PER_S)

void bxc_tree_index_free(bxc_tree_index *x)
{
	if (!x)
		return;
	bxc_tree_free(x->tree);
	bxc_arr_done(&x->ids);
	free(x);
}

int bxc_tree_index_encode(bxc_slice tree, const bxc_digest *digest, const bxc_tree_file_ids *ids,
	bxc_buf *out, bxc_err **err)
{
	fsync_enc c = {out, err, 0};
	fsync_put(&c, MAGIC, MAGIC_LEN);
	fsync_put(&c, digest->b, sizeof(digest->b));
	fsync_put_int(&c, ids->n, 4);
	BXC_ARR_FOREACH (id, ids) {
		fsync_put_int(&c, id->dev, 8);
		fsync_put_int(&c, id->ino, 8);
		fsync_put_int(&c, (uint64_t)id->ctime_ns, 8);
	}
	fsync_put(&c, tree.p, tree.n);
	if (c.r >= 0) {
		bxc_digest sum = bxc_digest_of(out->data, out->len);
		fsync_put(&c, sum.b, sizeof(sum.b));
	}
	return bxc_err_wrap(err, c.r, "encode index");
}

int bxc_tree_index_decode(bxc_slice in, bxc_tree_index **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_tree_index_freep) bxc_tree_index *x = bxc_calloc(1, sizeof(*x));
	bxc_digest sum = {0};
	if (in.n > sizeof(sum.b)) {
		fsync_dec end = {.in = bxc_slice_of(in.p + in.n - sizeof(sum.b), sizeof(sum.b))};
		fsync_get_digest(&end, &sum);
		in.n -= sizeof(sum.b);
	}
	bxc_digest is = bxc_digest_of(in.p, in.n);
	if (!bxc_digest_eq(&sum, &is))
		return bxc_err_set(err, BXC_DATA_LOSS, "index: damaged");
	fsync_dec d = {.in = in};
	const uint8_t *magic = fsync_get(&d, MAGIC_LEN);
	if (!magic || memcmp(magic, MAGIC, MAGIC_LEN) != 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "not an index of version 2");
	fsync_get_digest(&d, &x->digest);
	uint64_t n = fsync_get_int(&d, 4);
	if (d.bad || n > BXC_LIMIT_TREE_ENTRIES || n > d.in.n / ID_BYTES)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "index: cut off");
	for (uint64_t i = 0; i < n; i++) {
		bxc_tree_file_id *id = bxc_arr_push(&x->ids);
		id->dev = fsync_get_int(&d, 8);
		id->ino = fsync_get_int(&d, 8);
		id->ctime_ns = (int64_t)fsync_get_int(&d, 8);
	}
	int r = bxc_tree_decode(d.in, &x->tree, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "index");
	if (x->tree->entries.n != x->ids.n)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "index: of another tree");
	*ret = BXC_TAKE(x);
	return 0;
}

static bool may_change_unseen(const struct stat *st, int64_t now_ns)
{
	return BXC_MAX(fsync_mtime_ns(st), fsync_ctime_ns(st)) > now_ns - RACY_NS;
}

bxc_tree_file_id index_id(const struct stat *st, int64_t now_ns)
{
	if (!S_ISREG(st->st_mode) || may_change_unseen(st, now_ns))
		return (bxc_tree_file_id){0};
	return (bxc_tree_file_id){
		.dev = st->st_dev, .ino = st->st_ino, .ctime_ns = fsync_ctime_ns(st)};
}

const bxc_tree_entry *index_find(
	const bxc_tree_index *x, size_t *next, const char *path, const struct stat *st)
{
	const bxc_tree *t = x->tree;
	int order = -1;
	while (*next < t->entries.n && (order = fsync_path_cmp(t->entries.v[*next].path, path)) < 0)
		(*next)++;
	if (order != 0)
		return NULL;
	const bxc_tree_entry *e = &t->entries.v[*next];
	const bxc_tree_file_id *id = &x->ids.v[*next];
	bool is_same = id->ino && id->ino == st->st_ino && id->dev == st->st_dev &&
		       id->ctime_ns == fsync_ctime_ns(st) && S_ISREG(e->mode) && !e->is_hardlink &&
		       bxc_digest_is_set(&e->digest) && e->size == (uint64_t)st->st_size &&
		       e->mtime_ns == fsync_mtime_ns(st);
	return is_same ? e : NULL;
}
