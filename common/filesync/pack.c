/* SPDX-License-Identifier: Apache-2.0 */
/* Contents of files in one stream; see FORMAT.md. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/be.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/filesync/filesync_internal.h"
#include "common/loop/pool.h"
#include "common/os/fd.h"
#include "common/os/fs.h"

#define FRAME_HEAD 12u /* bytes: index, size */

static int check_index(const bxc_tree *t, uint32_t i, bxc_err **err)
{
	if (i >= t->entries.n)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "no entry %u in a tree of %zu", i, t->entries.n);
	const bxc_tree_entry *e = &t->entries.v[i];
	if (!S_ISREG(e->mode) || e->is_hardlink)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "'%s' has no content of its own", e->path);
	return 0;
}

/* ---- sender ---- */

struct sender {
	int root_fd;
	bxc_compressor *z;
	bxc_cancel *cancel;
	uint8_t *chunk; /* FSYNC_CHUNK bytes */
};

static int changed(const bxc_tree_entry *e, bxc_err **err)
{
	return bxc_err_set(err, BXC_ABORTED, "'%s' changed while it was being sent", e->path + 1);
}

static bool is_same(const struct stat *st, const bxc_tree_entry *e)
{
	return (uint64_t)st->st_size == e->size && fsync_mtime_ns(st) == e->mtime_ns;
}

static int open_file(struct sender *s, const bxc_tree_entry *e, int *ret_fd, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	/* An empty entry may be a socket, which cannot be opened, and nothing is to be read of it.
	 */
	int flags = e->size ? O_RDONLY | O_NONBLOCK | O_NOCTTY : O_PATH | O_NOFOLLOW;
	BXC_AUTOCLOSE int fd = -1;
	struct stat st;
	int r = bxc_fs_open_beneath(s->root_fd, e->path, flags, 0, BXC_FS_NO_LINKS, &fd, &why);
	if (r < 0) {
		int errnum = bxc_err_errnum(why);
		if (errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == ENXIO)
			return changed(e, err);
		return bxc_err_move(err, BXC_TAKE(why));
	}
	if (fstat(fd, &st) < 0)
		return bxc_err_errno(err, errno, "stat '%s'", e->path);
	bool right_type = S_ISREG(st.st_mode) || (S_ISSOCK(st.st_mode) && e->size == 0);
	if (!right_type || !is_same(&st, e))
		return changed(e, err);
	*ret_fd = BXC_TAKE_FD(fd);
	return 0;
}

static int send_file(struct sender *s, uint32_t index, const bxc_tree_entry *e, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = -1;
	int r = open_file(s, e, &fd, err);
	if (r < 0)
		return r;
	uint8_t head[FRAME_HEAD];
	bxc_be_put(head, index, 4);
	bxc_be_put(head + 4, e->size, 8);
	r = bxc_compressor_write(s->z, head, sizeof(head), err);
	for (uint64_t left = e->size; r >= 0 && left;) {
		size_t want = (size_t)BXC_MIN(left, FSYNC_CHUNK), got = 0;
		r = bxc_cancel_check(s->cancel, err);
		if (r >= 0)
			r = bxc_err_wrap(err, bxc_fd_read_full(fd, s->chunk, want, &got, err),
				"read '%s'", e->path);
		if (r < 0)
			return r;
		if (got < want)
			return changed(e, err);
		r = bxc_compressor_write(s->z, s->chunk, got, err);
		left -= got;
	}
	struct stat st;
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return bxc_err_errno(err, errno, "stat '%s'", e->path);
	return is_same(&st, e) ? 0 : changed(e, err);
}

int bxc_pack_send(int root_fd, const bxc_tree *t, const uint32_t *indices, size_t n,
	bxc_sink_fn sink, void *ud, struct bxc_cancel *cancel, bxc_err **err)
{
	BXC_CLEANUP(bxc_compressor_freep) bxc_compressor *z = NULL;
	int r = bxc_compressor_new(BXC_COMPRESSION_ZSTD, 1, sink, ud, &z, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(FSYNC_CHUNK);
	struct sender s = {root_fd, z, cancel, chunk};
	for (size_t i = 0; i < n; i++) {
		r = bxc_cancel_check(cancel, err);
		if (r >= 0)
			r = check_index(t, indices[i], err);
		if (r >= 0)
			r = send_file(&s, indices[i], &t->entries.v[indices[i]], err);
		if (r < 0)
			return r;
	}
	return bxc_compressor_finish(z, err);
}

/* ---- receiver ---- */

struct asked {
	uint32_t index;
	bool got;
	uint64_t offset;
};

struct bxc_pack_receiver {
	bxc_tree *tree;	     /* borrowed */
	struct asked *asked; /* sorted by index */
	size_t n_asked, n_got;
	bxc_decompressor *z;
	bxc_blob_writer *blob;
	bxc_hasher *hasher;
	bool failed;
	/* the frame at hand */
	uint8_t head[FRAME_HEAD];
	size_t head_len; /* FRAME_HEAD: within its content */
	struct asked *cur;
	uint64_t left;	  /* bytes of content to come */
	uint64_t written; /* bytes of the blob */
};

static int by_index(const void *a, const void *b)
{
	const struct asked *x = a, *y = b;
	return x->index < y->index ? -1 : x->index > y->index;
}

static int begin_frame(bxc_pack_receiver *r, bxc_err **err)
{
	uint32_t index = (uint32_t)bxc_be_get(r->head, 4);
	uint64_t size = bxc_be_get(r->head + 4, 8);
	const struct asked key = {.index = index};
	struct asked *a =
		r->n_asked ? bsearch(&key, r->asked, r->n_asked, sizeof(key), by_index) : NULL;
	if (!a || a->got)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "content of entry %u came %s", index,
			a ? "twice" : "unasked");
	const bxc_tree_entry *e = &r->tree->entries.v[index];
	if (size != e->size)
		return bxc_err_set(err, BXC_DATA_LOSS, "content of '%s' has %llu bytes, not %llu",
			e->path, (unsigned long long)size, (unsigned long long)e->size);
	a->offset = r->written;
	r->cur = a;
	r->left = size;
	return 0;
}

static int end_frame(bxc_pack_receiver *r, bxc_err **err)
{
	const bxc_tree_entry *e = &r->tree->entries.v[r->cur->index];
	bxc_digest got = bxc_hasher_final(r->hasher);
	if (!bxc_digest_eq(&got, &e->digest))
		return bxc_err_set(
			err, BXC_DATA_LOSS, "content of '%s' does not match its digest", e->path);
	r->cur->got = true;
	r->n_got++;
	r->cur = NULL;
	r->head_len = 0;
	return 0;
}

static int on_plain(const void *data, size_t n, void *ud, bxc_err **err)
{
	bxc_pack_receiver *r = ud;
	const uint8_t *p = data;
	while (n) {
		int rc = 0;
		size_t k;
		if (!r->cur) {
			k = BXC_MIN(n, FRAME_HEAD - r->head_len);
			memcpy(r->head + r->head_len, p, k);
			r->head_len += k;
			if (r->head_len == FRAME_HEAD)
				rc = begin_frame(r, err);
		} else {
			k = (size_t)BXC_MIN((uint64_t)n, r->left);
			rc = bxc_blob_append(r->blob, p, k, err);
			bxc_hasher_update(r->hasher, p, k);
			r->left -= k;
			r->written += k;
		}
		if (rc >= 0 && r->cur && r->left == 0)
			rc = end_frame(r, err);
		if (rc < 0)
			return rc;
		p += k;
		n -= k;
	}
	return 0;
}

int bxc_pack_receiver_new(bxc_blob_store *store, bxc_tree *t, const uint32_t *indices, size_t n,
	bxc_pack_receiver **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_pack_receiver_freep) bxc_pack_receiver *r = bxc_calloc(1, sizeof(*r));
	uint64_t total = 0;
	r->tree = t;
	r->hasher = bxc_hasher_new();
	r->asked = bxc_calloc(n + 1, sizeof(*r->asked));
	r->n_asked = n;
	for (size_t i = 0; i < n; i++) {
		int rc = check_index(t, indices[i], err);
		if (rc < 0)
			return rc;
		const bxc_tree_entry *e = &t->entries.v[indices[i]];
		if (!bxc_digest_is_set(&e->digest))
			return bxc_err_set(err, BXC_FAILED_PRECONDITION,
				"content of '%s' is not hashed", e->path);
		r->asked[i].index = indices[i];
		if (e->size > BXC_LIMIT_BLOB || total > BXC_LIMIT_BLOB - e->size)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
				"more than %llu bytes asked for",
				(unsigned long long)BXC_LIMIT_BLOB);
		total += e->size;
	}
	qsort(r->asked, n, sizeof(*r->asked), by_index);
	for (size_t i = 1; i < n; i++)
		if (r->asked[i - 1].index == r->asked[i].index)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "entry %u is asked for twice",
				r->asked[i].index);
	/* No sender has a reason to produce more; one that does is cut off. */
	int rc = bxc_decompressor_new(
		BXC_COMPRESSION_ZSTD, total + (uint64_t)n * FRAME_HEAD, on_plain, r, &r->z, err);
	if (rc >= 0)
		rc = bxc_blob_begin(store, &r->blob, err);
	if (rc < 0)
		return rc;
	*ret = BXC_TAKE(r);
	return 0;
}

int bxc_pack_receiver_write(bxc_pack_receiver *r, const void *p, size_t n, bxc_err **err)
{
	if (r->failed)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "the pack has failed already");
	int rc = bxc_decompressor_write(r->z, p, n, err);
	r->failed = rc < 0;
	return bxc_err_wrap(err, rc, "receive pack");
}

int bxc_pack_receiver_finish(bxc_pack_receiver *r, bxc_blob_info *ret_pack, bxc_err **err)
{
	if (r->failed || !r->blob)
		return bxc_err_set(
			err, BXC_FAILED_PRECONDITION, "the pack has failed or ended already");
	r->failed = true;
	int rc = bxc_decompressor_finish(r->z, err);
	if (rc < 0)
		return bxc_err_wrap(err, rc, "receive pack");
	if (r->cur || r->head_len || r->n_got != r->n_asked)
		return bxc_err_set(err, BXC_DATA_LOSS, "pack ended with %zu of %zu contents",
			r->n_got, r->n_asked);
	bxc_blob_info info;
	rc = bxc_blob_commit(BXC_TAKE(r->blob), NULL, &info, err);
	if (rc < 0)
		return bxc_err_wrap(err, rc, "store pack");
	for (size_t i = 0; i < r->n_asked; i++) {
		bxc_tree_entry *e = &r->tree->entries.v[r->asked[i].index];
		e->pack = info.digest;
		e->pack_off = r->asked[i].offset;
	}
	*ret_pack = info;
	return 0;
}

void bxc_pack_receiver_free(bxc_pack_receiver *r)
{
	if (!r)
		return;
	bxc_decompressor_free(r->z);
	bxc_blob_abort(r->blob);
	bxc_hasher_free(r->hasher);
	free(r->asked);
	free(r);
}
