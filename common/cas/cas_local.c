/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs in a folder:
 *
 *     blobs/sha256/<2 hex>/<64 hex>     whole blobs, never written again
 *     tmp/<random>                      blobs being written, each locked by its writer
 *     quarantine/<64 hex>.<random>      blobs found damaged
 *
 * Order of a commit: bytes, fsync, rename, fsync of the folder. So a name that exists has all its
 * bytes, also after a power loss, and a crash leaves at most a file in tmp. Those are removed at
 * the next start; the lock tells them from the files of another process that is writing now.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/cas/cas_internal.h"
#include "common/os/fd.h"
#include "common/os/fs.h"

#define HEX_LEN	      64
#define SHARD_LEN     2
#define NAME_MAX_LEN  (SHARD_LEN + 1 + HEX_LEN + 1)
#define LEFTOVERS_MAX 1000000u /* leftovers looked at */

typedef struct local_store {
	bxc_blob_store base;
	int blobs_fd; /* blobs/sha256 */
	int tmp_fd;
	int quarantine_fd;
} local_store;

typedef struct local_writer {
	bxc_blob_writer base;
	int fd;
	char *tmp_name;
} local_writer;

static local_store *local(bxc_blob_store *s)
{
	return (local_store *)(void *)s;
}

/* "ab/abcd..." under blobs/sha256 */
static void blob_name(const bxc_digest *d, char out[NAME_MAX_LEN])
{
	char s[BXC_DIGEST_STR_MAX];
	const char *hex = strchr(bxc_digest_str(d, s), ':') + 1;
	snprintf(out, NAME_MAX_LEN, "%.*s/%s", SHARD_LEN, hex, hex);
}

/* ENOSPC deserves more than the words of errno: it is the operator's to mend. */
static int write_failed(int r, const char *what, bxc_err **err)
{
	if (r == -BXC_RESOURCE_EXHAUSTED)
		return bxc_err_wrap(err, r, "the disk of the blob store is full: %s", what);
	return bxc_err_wrap(err, r, "%s", what);
}

static int local_stat(bxc_blob_store *s, const bxc_digest *d, bxc_blob_info *ret, bxc_err **err)
{
	char name[NAME_MAX_LEN];
	struct stat st;
	blob_name(d, name);
	int r = bxc_fs_lstat_opt(local(s)->blobs_fd, name, &st, err);
	if (r < 0)
		return r;
	if (r == 0 || !S_ISREG(st.st_mode))
		return cas_not_found(d, err);
	*ret = (bxc_blob_info){
		.digest = *d,
		.size = (uint64_t)st.st_size,
		.used_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
	};
	return 0;
}

static int local_open(
	bxc_blob_store *s, const bxc_digest *d, int *ret_fd, uint64_t *ret_size, bxc_err **err)
{
	char name[NAME_MAX_LEN];
	blob_name(d, name);
	BXC_AUTOCLOSE int fd = openat(local(s)->blobs_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? cas_not_found(d, err)
				       : bxc_err_errno(err, errno, "open blob");
	uint64_t size;
	int r = bxc_fd_size(fd, &size, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "open blob");
	*ret_fd = BXC_TAKE_FD(fd);
	*ret_size = size;
	return 0;
}

static void writer_free(local_writer *w)
{
	if (w->fd >= 0)
		close(w->fd);
	free(w->tmp_name);
	free(w);
}

static int local_begin(bxc_blob_store *s, bxc_blob_writer **ret, bxc_err **err)
{
	/* Between open and flock a starting process may take the file for a leftover: then again.
	 */
	for (;;) {
		BXC_AUTOFREE char *name = bxc_rand_hex(16);
		BXC_AUTOCLOSE int fd =
			openat(local(s)->tmp_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		struct stat st;
		if (fd < 0)
			return write_failed(
				bxc_err_errno(err, errno, "create"), "begin a blob", err);
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			if (errno == EWOULDBLOCK)
				continue;
			return bxc_err_errno(err, errno, "lock a new blob");
		}
		if (fstat(fd, &st) < 0)
			return bxc_err_errno(err, errno, "begin a blob");
		if (st.st_nlink == 0)
			continue;
		local_writer *w = bxc_calloc(1, sizeof(*w));
		w->fd = BXC_TAKE_FD(fd);
		w->tmp_name = BXC_TAKE(name);
		*ret = &w->base;
		return 0;
	}
}

static int local_append(bxc_blob_writer *base, const void *p, size_t n, bxc_err **err)
{
	local_writer *w = (local_writer *)(void *)base;
	int r = bxc_fd_write_all(w->fd, p, n, err);
	return r < 0 ? write_failed(r, "write a blob", err) : 0;
}

static void local_abort(bxc_blob_writer *base)
{
	local_writer *w = (local_writer *)(void *)base;
	bxc_ignore(bxc_fs_unlink(local(base->store)->tmp_fd, w->tmp_name, NULL));
	writer_free(w);
}

static int make_shard(local_store *s, const char *name, int *ret_fd, bxc_err **err)
{
	char shard[SHARD_LEN + 1];
	memcpy(shard, name, SHARD_LEN);
	shard[SHARD_LEN] = '\0';
	if (mkdirat(s->blobs_fd, shard, 0700) == 0) {
		int r = bxc_fs_sync_dir(s->blobs_fd, err);
		if (r < 0)
			return r;
	} else if (errno != EEXIST) {
		return bxc_err_errno(err, errno, "make a folder for blobs");
	}
	return bxc_fs_open_dir(s->blobs_fd, shard, ret_fd, err);
}

/* 1 when the blob was there. */
static int publish(local_store *s, local_writer *w, const bxc_digest *d, bxc_err **err)
{
	char name[NAME_MAX_LEN];
	BXC_AUTOCLOSE int shard_fd = -1;
	blob_name(d, name);
	int r = make_shard(s, name, &shard_fd, err);
	if (r < 0)
		return write_failed(r, "store a blob", err);
	bool there = s->base.vt->freshen(&s->base, d, NULL) == 0;
	if (!there) {
		r = bxc_fd_sync(w->fd, err);
		if (r < 0)
			return write_failed(r, "flush a blob", err);
		BXC_AUTOERR bxc_err *e = NULL;
		r = bxc_fs_rename(s->tmp_fd, w->tmp_name, shard_fd, name + SHARD_LEN + 1, true, &e);
		if (r < 0 && r != -BXC_ALREADY_EXISTS)
			return write_failed(bxc_err_move(err, BXC_TAKE(e)), "store a blob", err);
		/* Somebody committed the same bytes meanwhile; theirs are as good. */
		there = r < 0;
	}
	/* Also when it was there: whoever put it there may not have come to this line yet. */
	r = bxc_fs_sync_dir(shard_fd, err);
	if (r < 0)
		return write_failed(r, "store a blob", err);
	return there ? 1 : 0;
}

static int local_commit(bxc_blob_writer *base, const bxc_digest *d, bxc_err **err)
{
	local_writer *w = (local_writer *)(void *)base;
	int r = publish(local(base->store), w, d, err);
	if (r == 0)
		writer_free(w);
	else
		local_abort(base);
	return r;
}

static int local_remove(bxc_blob_store *s, const bxc_digest *d, bxc_err **err)
{
	char name[NAME_MAX_LEN];
	blob_name(d, name);
	return bxc_fs_unlink(local(s)->blobs_fd, name, err);
}

static int local_freshen(bxc_blob_store *s, const bxc_digest *d, bxc_err **err)
{
	char name[NAME_MAX_LEN];
	blob_name(d, name);
	if (utimensat(local(s)->blobs_fd, name, NULL, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? cas_not_found(d, err)
				       : bxc_err_errno(err, errno, "freshen blob");
	return 0;
}

static int local_quarantine(bxc_blob_store *base, const bxc_digest *d, bxc_err **err)
{
	local_store *s = local(base);
	char name[NAME_MAX_LEN];
	blob_name(d, name);
	BXC_AUTOFREE char *suffix = bxc_rand_hex(4);
	BXC_AUTOFREE char *to = bxc_str_fmt("%s.%s", name + SHARD_LEN + 1, suffix);
	if (renameat(s->blobs_fd, name, s->quarantine_fd, to) < 0)
		return errno == ENOENT ? cas_not_found(d, err)
				       : bxc_err_errno(err, errno, "set a damaged blob aside");
	return 0;
}

static bool parse_name(const char *shard, const char *name, bxc_digest *ret)
{
	char s[BXC_DIGEST_STR_MAX];
	if (strlen(name) != HEX_LEN || strncmp(shard, name, SHARD_LEN) != 0)
		return false;
	snprintf(s, sizeof(s), "sha256:%s", name);
	return bxc_digest_parse(s, ret, NULL) == 0;
}

static int list_shard(bxc_blob_store *s, const char *shard,
	int (*fn)(const bxc_blob_info *i, void *ud), void *ud, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(local(s)->blobs_fd, shard, SIZE_MAX, &names, err);
	if (r < 0)
		return r;
	for (char **name = names; *name; name++) {
		bxc_blob_info info;
		if (!parse_name(shard, *name, &info.digest))
			continue;
		/* It may have gone since the folder was read. */
		if (local_stat(s, &info.digest, &info, NULL) < 0)
			continue;
		r = fn(&info, ud);
		if (r != 0)
			return r;
	}
	return 0;
}

static int local_list(
	bxc_blob_store *s, int (*fn)(const bxc_blob_info *i, void *ud), void *ud, bxc_err **err)
{
	BXC_AUTOSTRV char **shards = NULL;
	int r = bxc_fs_list_dir(local(s)->blobs_fd, ".", SIZE_MAX, &shards, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "list blobs");
	for (char **shard = shards; *shard; shard++) {
		if (strlen(*shard) != SHARD_LEN || strspn(*shard, "0123456789abcdef") != SHARD_LEN)
			continue;
		r = list_shard(s, *shard, fn, ud, err);
		if (r != 0)
			return r;
	}
	return 0;
}

static void local_free(bxc_blob_store *base)
{
	local_store *s = local(base);
	const int fds[] = {s->blobs_fd, s->tmp_fd, s->quarantine_fd};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(s);
}

static const bxc_blob_vtable local_vtable = {
	.name = "local",
	.stat = local_stat,
	.open = local_open,
	.begin = local_begin,
	.append = local_append,
	.commit = local_commit,
	.abort = local_abort,
	.remove = local_remove,
	.freshen = local_freshen,
	.quarantine = local_quarantine,
	.list = local_list,
	.free = local_free,
};

static int remove_leftovers(int tmp_fd, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(tmp_fd, ".", LEFTOVERS_MAX, &names, err);
	if (r < 0)
		return r;
	for (char **name = names; *name; name++) {
		BXC_AUTOCLOSE int fd =
			openat(tmp_fd, *name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
			continue;
		r = bxc_fs_unlink(tmp_fd, *name, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int open_sub(int dir_fd, const char *path, int *ret_fd, bxc_err **err)
{
	int r = bxc_fs_make_dirs(dir_fd, path, 0700, err);
	return r < 0 ? r : bxc_fs_open_dir(dir_fd, path, ret_fd, err);
}

int bxc_blob_local_open(const char *dir, bxc_blob_store **ret, bxc_err **err)
{
	local_store *s = bxc_calloc(1, sizeof(*s));
	s->base.vt = &local_vtable;
	s->blobs_fd = s->tmp_fd = s->quarantine_fd = -1;
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *base = &s->base;
	BXC_AUTOCLOSE int dir_fd = -1;
	int r;
	if ((r = open_sub(AT_FDCWD, dir, &dir_fd, err)) < 0 ||
		(r = open_sub(dir_fd, "blobs/sha256", &s->blobs_fd, err)) < 0 ||
		(r = open_sub(dir_fd, "tmp", &s->tmp_fd, err)) < 0 ||
		(r = open_sub(dir_fd, "quarantine", &s->quarantine_fd, err)) < 0 ||
		(r = remove_leftovers(s->tmp_fd, err)) < 0)
		return bxc_err_wrap(err, r, "open blob store '%s'", dir);
	*ret = BXC_TAKE(base);
	return 0;
}
