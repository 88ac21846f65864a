/* SPDX-License-Identifier: Apache-2.0 */
/* From a file to an entry of the tar. */
#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/xattr.h"
#include "worker/diff/diff_internal.h"

#define CHUNK	   (128u << 10)
#define XATTR_CAPS "security.capability"

void bxc_diff__out_init(bxc_diff__out *o, bxc_tar_writer *w, bxc_cancel *cancel)
{
	*o = (bxc_diff__out){
		.w = w, .cancel = cancel, .links = bxc_map_new(free), .chunk = bxc_malloc(CHUNK)};
}

void bxc_diff__out_done(bxc_diff__out *o)
{
	bxc_map_free(o->links);
	free(o->chunk);
	*o = (bxc_diff__out){0};
}

int bxc_diff__count(bxc_diff__out *o, bxc_err **err)
{
	if (++o->n_entries > BXC_LIMIT_TREE_ENTRIES)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u entries",
			BXC_LIMIT_TREE_ENTRIES);
	return bxc_cancel_check(o->cancel, err);
}

char *bxc_diff__join(const char *dir, const char *name)
{
	return *dir ? bxc_str_fmt("%s/%s", dir, name) : bxc_strdup(name);
}

int bxc_diff__open_dir(int dir_fd, const char *name, int *ret_fd, bxc_err **err)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open folder '%s'", name);
	*ret_fd = fd;
	return 0;
}

/* The value of security.capability: 1 when there is one. */
static int get_caps(int dir_fd, const char *name, bxc_buf *value, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", name);
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_xattr_get(fd, XATTR_CAPS, value, &why);
	if (r == -BXC_NOT_FOUND || r == -BXC_UNIMPLEMENTED) {
		bxc_buf_clear(value);
		return 0;
	}
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(why));
	return 1;
}

static int put_content(bxc_diff__out *o, int dir_fd, const char *name, uint64_t size, bxc_err **err)
{
	BXC_AUTOCLOSE int fd =
		openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open");
	for (uint64_t left = size; left > 0;) {
		size_t got = 0;
		int r = bxc_fd_read_full(
			fd, o->chunk, (size_t)BXC_MIN(left, (uint64_t)CHUNK), &got, err);
		if (r < 0)
			return r;
		if (got == 0)
			return bxc_err_set(
				err, BXC_ABORTED, "the file became shorter while it was read");
		r = bxc_tar_writer_data(o->w, o->chunk, got, err);
		if (r < 0)
			return r;
		left -= got;
		r = bxc_cancel_check(o->cancel, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int put(bxc_diff__out *o, int dir_fd, const char *name, const struct stat *st,
	const char *path, bxc_err **err)
{
	bxc_tar_entry e = {
		.path = path,
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mtime_s = st->st_mtim.tv_sec,
		.mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
	};
	BXC_AUTOFREE char *link = NULL;
	int r = 0;
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		e.kind = BXC_TAR_FILE;
		e.size = (uint64_t)st->st_size;
		break;
	case S_IFDIR:
		e.kind = BXC_TAR_DIR;
		break;
	case S_IFLNK:
		e.kind = BXC_TAR_SYMLINK;
		r = bxc_fs_readlink(dir_fd, name, &link, err);
		break;
	case S_IFCHR:
	case S_IFBLK:
		e.kind = S_ISCHR(st->st_mode) ? BXC_TAR_CHAR : BXC_TAR_BLOCK;
		e.dev_major = major(st->st_rdev);
		e.dev_minor = minor(st->st_rdev);
		break;
	case S_IFIFO:
		e.kind = BXC_TAR_FIFO;
		break;
	default: /* a socket lives only as long as its process */
		return 0;
	}
	if (r < 0)
		return r;
	e.link = link;
	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1) {
		BXC_AUTOFREE char *key = bxc_str_fmt("%llx:%llx", (unsigned long long)st->st_dev,
			(unsigned long long)st->st_ino);
		const char *first = bxc_map_get(o->links, key);
		if (first) {
			e.kind = BXC_TAR_HARDLINK;
			e.link = first;
			e.size = 0;
			return bxc_tar_writer_entry(o->w, &e, err);
		}
		bxc_map_set(o->links, key, bxc_strdup(path));
	}
	BXC_AUTOBUF bxc_buf caps = BXC_BUF_INIT(BXC_LIMIT_XATTR);
	bxc_tar_xattr xattr = {.name = XATTR_CAPS};
	if (S_ISREG(st->st_mode)) {
		r = get_caps(dir_fd, name, &caps, err);
		if (r < 0)
			return r;
		if (r == 1) {
			xattr.value = caps.data;
			xattr.len = caps.len;
			e.xattrs = &xattr;
			e.n_xattrs = 1;
		}
	}
	r = bxc_tar_writer_entry(o->w, &e, err);
	if (r == 0 && e.size > 0)
		r = put_content(o, dir_fd, name, e.size, err);
	return r;
}

int bxc_diff__put(bxc_diff__out *o, int dir_fd, const char *name, const struct stat *st,
	const char *path, bxc_err **err)
{
	int r = put(o, dir_fd, name, st, path, err);
	return r < 0 ? bxc_err_wrap(err, r, "add '%s' to the tar", path) : 0;
}

int bxc_diff__put_whiteout(bxc_diff__out *o, const char *dir, const char *name, bxc_err **err)
{
	BXC_AUTOFREE char *marker = bxc_str_fmt(".wh.%s", name);
	BXC_AUTOFREE char *path = bxc_diff__join(dir, marker);
	bxc_tar_entry e = {.kind = BXC_TAR_FILE, .path = path};
	return bxc_tar_writer_entry(o->w, &e, err);
}

/* ---- comparison ---- */

static int same_caps(int a_dir_fd, int b_dir_fd, const char *name, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf a = BXC_BUF_INIT(BXC_LIMIT_XATTR);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_LIMIT_XATTR);
	int ra = get_caps(a_dir_fd, name, &a, err);
	if (ra < 0)
		return ra;
	int rb = get_caps(b_dir_fd, name, &b, err);
	if (rb < 0)
		return rb;
	return ra == rb && a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static int same_content(int a_dir_fd, int b_dir_fd, const char *name, uint64_t size, bxc_err **err)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	BXC_AUTOCLOSE int a_fd = openat(a_dir_fd, name, flags);
	BXC_AUTOCLOSE int b_fd = openat(b_dir_fd, name, flags);
	if (a_fd < 0 || b_fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", name);
	BXC_AUTOFREE uint8_t *a = bxc_malloc(CHUNK);
	BXC_AUTOFREE uint8_t *b = bxc_malloc(CHUNK);
	for (uint64_t left = size; left > 0;) {
		size_t want = (size_t)BXC_MIN(left, (uint64_t)CHUNK), na = 0, nb = 0;
		int r = bxc_fd_read_full(a_fd, a, want, &na, err);
		if (r == 0)
			r = bxc_fd_read_full(b_fd, b, want, &nb, err);
		if (r < 0)
			return r;
		if (na != want || nb != want || memcmp(a, b, want) != 0)
			return 0;
		left -= want;
	}
	return 1;
}

static int same_target(int a_dir_fd, int b_dir_fd, const char *name, bxc_err **err)
{
	BXC_AUTOFREE char *a = NULL;
	BXC_AUTOFREE char *b = NULL;
	int r = bxc_fs_readlink(a_dir_fd, name, &a, err);
	if (r == 0)
		r = bxc_fs_readlink(b_dir_fd, name, &b, err);
	return r < 0 ? r : bxc_str_eq(a, b);
}

int bxc_diff__same(int a_dir_fd, const struct stat *a, int b_dir_fd, const struct stat *b,
	const char *name, bxc_err **err)
{
	if (a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid ||
		a->st_rdev != b->st_rdev)
		return 0;
	if (!S_ISDIR(a->st_mode)) {
		if (a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
			a->st_mtim.tv_nsec != b->st_mtim.tv_nsec)
			return 0;
	}
	int r = S_ISLNK(a->st_mode) ? 1 : same_caps(a_dir_fd, b_dir_fd, name, err);
	/* Whole seconds come from archives and tools that cut the time: two versions may share one.
	 */
	if (r != 1 || a->st_mtim.tv_nsec != 0)
		return r;
	if (S_ISREG(a->st_mode) && a->st_size > 0)
		return same_content(a_dir_fd, b_dir_fd, name, (uint64_t)a->st_size, err);
	if (S_ISLNK(a->st_mode))
		return same_target(a_dir_fd, b_dir_fd, name, err);
	return 1;
}
