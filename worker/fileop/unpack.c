/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Archives that ADD unpacks, by the rules of BuildKit's llbsolver/file/unpack_root.go.
 *
 * The destination is the root of all that the archive names: an entry whose path leaves it is an
 * error, and links that lie on the way, be they of the archive or of the tree, are resolved beneath
 * it. What an entry replaces is removed first and files are created with O_EXCL, so that nothing is
 * written through a link at the end of a path.
 */
#include <errno.h>

#include "common/base/limits.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/xattr.h"
#include "common/tar/tar.h"
#include "worker/fileop/fileop_internal.h"

#define CHUNK (128u << 10)

typedef struct folder_time {
	char *path;
	struct timespec mtime;
} folder_time;

typedef struct unpacker {
	int root_fd; /* the destination */
	bxc_tar_reader *reader;
	const bxc_fsop__ids *owner;
	bxc_cancel *cancel;
	uint8_t *chunk;
	BXC_ARR(folder_time) folders;
	uint32_t n_entries;
} unpacker;

/* ---- the file as a stream ---- */

static ssize_t take(void *p, size_t n, void *ud, bxc_err **err)
{
	bxc_fsop__data *data = ud;
	size_t got = 0;
	n = (size_t)BXC_MIN((uint64_t)n, data->size);
	if (n == 0)
		return 0;
	int r = bxc_fd_pread_full(data->fd, p, n, data->offset, &got, err);
	if (r < 0)
		return r;
	data->offset += got;
	data->size = got < n ? 0 : data->size - got;
	return (ssize_t)got;
}

/* Whether the file is a tar is told by its first header; why it is not one is of no interest. */
static bool is_archive(bxc_fsop__data data)
{
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	const bxc_tar_entry *e = NULL;
	return bxc_tar_reader_new_any(take, &data, &r, NULL) == 0 &&
	       bxc_tar_reader_next(r, &e, NULL) > 0;
}

/* ---- entries ---- */

/* Clean and relative; "" is the destination itself. */
static int clean_name(const char *name, char **ret, bxc_err **err)
{
	BXC_AUTOFREE char *out = bxc_malloc(strlen(name) + 1);
	size_t len = 0;
	for (const char *p = name; *p;) {
		size_t n = strcspn(p, "/");
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			if (len == 0)
				return bxc_err_set(err, BXC_INVALID_ARGUMENT,
					"archive path \"%.256s\" is outside extraction root", name);
			while (len > 0 && out[len - 1] != '/')
				len--;
			len -= len > 0;
		} else if (n && !(n == 1 && p[0] == '.')) {
			if (len)
				out[len++] = '/';
			memcpy(out + len, p, n);
			len += n;
		}
		p += n;
		p += strspn(p, "/");
	}
	out[len] = '\0';
	*ret = BXC_TAKE(out);
	return 0;
}

static struct timespec time_of(const bxc_tar_entry *e)
{
	/* What is before 1970 is taken for no time at all. */
	if (e->mtime_s < 0)
		return (struct timespec){0};
	return (struct timespec){.tv_sec = e->mtime_s, .tv_nsec = (long)e->mtime_ns};
}

static uint32_t uid_of(const unpacker *u, const bxc_tar_entry *e)
{
	return u->owner->is_set ? u->owner->uid : e->uid;
}

static uint32_t gid_of(const unpacker *u, const bxc_tar_entry *e)
{
	return u->owner->is_set ? u->owner->gid : e->gid;
}

/* Of the archive's xattrs those that an image can hold or a step may look at; best effort. */
static void set_xattrs(int fd, const bxc_tar_entry *e)
{
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const bxc_tar_xattr *x = &e->xattrs[i];
		bool plain = bxc_str_has_prefix(x->name, "user.") &&
			     !bxc_str_has_prefix(x->name, "user.overlay.");
		if (plain || bxc_str_eq(x->name, "security.capability"))
			bxc_ignore(bxc_xattr_set(fd, x->name, x->value, x->len, NULL));
	}
}

/* chown comes first: it clears set-id bits and capabilities. */
static int set_attributes(const unpacker *u, int fd, const bxc_tar_entry *e, bxc_err **err)
{
	if (fchown(fd, uid_of(u, e), gid_of(u, e)) < 0)
		return bxc_err_errno(err, errno, "change owner");
	set_xattrs(fd, e);
	if (fchmod(fd, e->mode & 07777) < 0)
		return bxc_err_errno(err, errno, "change mode");
	return 0;
}

static int set_time(int fd, const bxc_tar_entry *e, bxc_err **err)
{
	struct timespec times[2] = {time_of(e), time_of(e)};
	return futimens(fd, times) < 0 ? bxc_err_errno(err, errno, "set time") : 0;
}

static int make_file(
	const unpacker *u, int dir_fd, const char *name, const bxc_tar_entry *e, bxc_err **err)
{
	BXC_AUTOCLOSE int fd =
		openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return bxc_err_errno(err, errno, "create file");
	int r = 0;
	for (ssize_t n = 1; r == 0 && n > 0;) {
		r = bxc_cancel_check(u->cancel, err);
		if (r < 0)
			return r;
		n = bxc_tar_reader_read(u->reader, u->chunk, CHUNK, err);
		if (n < 0)
			return (int)n;
		r = bxc_fd_write_all(fd, u->chunk, (size_t)n, err);
	}
	if (r == 0)
		r = set_attributes(u, fd, e, err);
	return r == 0 ? set_time(fd, e, err) : r;
}

static int make_folder(unpacker *u, int dir_fd, const char *name, const char *path,
	const bxc_tar_entry *e, bxc_err **err)
{
	if (mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST)
		return bxc_err_errno(err, errno, "make folder");
	BXC_AUTOCLOSE int fd =
		openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open folder");
	int r = set_attributes(u, fd, e, err);
	if (r == 0)
		*bxc_arr_push(&u->folders) = (folder_time){bxc_strdup(path), time_of(e)};
	return r;
}

static int make_symlink(
	const unpacker *u, int dir_fd, const char *name, const bxc_tar_entry *e, bxc_err **err)
{
	struct timespec times[2] = {time_of(e), time_of(e)};
	if (symlinkat(e->link, dir_fd, name) < 0)
		return bxc_err_errno(err, errno, "make symbolic link");
	if (fchownat(dir_fd, name, uid_of(u, e), gid_of(u, e), AT_SYMLINK_NOFOLLOW) < 0)
		return bxc_err_errno(err, errno, "change owner");
	if (utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return bxc_err_errno(err, errno, "set time");
	return 0;
}

/* A further name brings its own attributes, which become those of the file. */
static int make_hardlink(
	const unpacker *u, int dir_fd, const char *name, const bxc_tar_entry *e, bxc_err **err)
{
	BXC_AUTOFREE char *target = NULL;
	int r = clean_name(e->link, &target, err);
	if (r == 0 && !*target)
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "hard link to the extraction root");
	if (r < 0)
		return r;
	BXC_AUTOCLOSE int from_fd = -1;
	BXC_AUTOFREE char *from_name = NULL;
	r = bxc_fs_open_parent(u->root_fd, target, true, &from_fd, &from_name, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "hard link to '%.256s'", target);
	struct stat st;
	if (linkat(from_fd, from_name, dir_fd, name, 0) < 0 ||
		fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return bxc_err_errno(err, errno, "hard link to '%.256s'", target);
	if (S_ISREG(st.st_mode)) {
		BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return bxc_err_errno(err, errno, "open file");
		r = set_attributes(u, fd, e, err);
		return r == 0 ? set_time(fd, e, err) : r;
	}
	if (fchownat(dir_fd, name, uid_of(u, e), gid_of(u, e), AT_SYMLINK_NOFOLLOW) < 0)
		return bxc_err_errno(err, errno, "change owner");
	return 0;
}

/* Whatever is there goes, but for a folder that a folder meets. */
static int make_room(int dir_fd, const char *name, bxc_tar_kind kind, bxc_err **err)
{
	struct stat st;
	int r = bxc_fs_lstat_opt(dir_fd, name, &st, err);
	if (r <= 0 || (S_ISDIR(st.st_mode) && kind == BXC_TAR_DIR))
		return r < 0 ? r : 0;
	return bxc_fs_rmtree(dir_fd, name, err);
}

static int unpack_entry(unpacker *u, const bxc_tar_entry *e, bxc_err **err)
{
	/* Devices and pipes are left out, and what they would replace stays. */
	if (e->kind == BXC_TAR_CHAR || e->kind == BXC_TAR_BLOCK || e->kind == BXC_TAR_FIFO)
		return 0;
	BXC_AUTOFREE char *path = NULL;
	int r = clean_name(e->path, &path, err);
	if (r < 0 || !*path)
		return r;
	const char *slash = strrchr(path, '/');
	BXC_AUTOFREE char *dir = bxc_strndup(path, slash ? (size_t)(slash - path) : 0);
	const char *name = slash ? slash + 1 : path;
	BXC_AUTOCLOSE int dir_fd = -1;
	r = bxc_fs_mkdir_p(u->root_fd, dir, 0755, 0, 0, NULL, NULL, &dir_fd, err);
	if (r == 0)
		r = make_room(dir_fd, name, e->kind, err);
	if (r < 0)
		return r;
	switch (e->kind) {
	case BXC_TAR_FILE:
		return make_file(u, dir_fd, name, e, err);
	case BXC_TAR_DIR:
		return make_folder(u, dir_fd, name, path, e, err);
	case BXC_TAR_SYMLINK:
		return make_symlink(u, dir_fd, name, e, err);
	case BXC_TAR_HARDLINK:
		return make_hardlink(u, dir_fd, name, e, err);
	case BXC_TAR_CHAR:
	case BXC_TAR_BLOCK:
	case BXC_TAR_FIFO:
	case BXC_TAR_UNKNOWN:
	default:
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unsupported kind of entry");
	}
}

/* ---- the whole ---- */

/* At the end, as every file made in a folder changes its time; the last header of one wins. */
static int set_folder_times(const unpacker *u, bxc_err **err)
{
	BXC_ARR_FOREACH (f, &u->folders) {
		BXC_AUTOCLOSE int fd = -1;
		BXC_AUTOERR bxc_err *why = NULL;
		int r = bxc_fs_open_beneath(
			u->root_fd, f->path, O_RDONLY | O_DIRECTORY, 0, BXC_FS_IN_ROOT, &fd, &why);
		/* Replaced by something else further on. */
		if (r < 0)
			continue;
		struct timespec times[2] = {f->mtime, f->mtime};
		if (futimens(fd, times) < 0)
			return bxc_err_errno(err, errno, "set time of '%.256s'", f->path);
	}
	return 0;
}

static int unpack_all(unpacker *u, bxc_err **err)
{
	for (;;) {
		const bxc_tar_entry *e = NULL;
		int r = bxc_cancel_check(u->cancel, err);
		if (r == 0)
			r = bxc_tar_reader_next(u->reader, &e, err);
		if (r < 0)
			return r;
		if (r == 0)
			return set_folder_times(u, err);
		if (++u->n_entries > BXC_LIMIT_TREE_ENTRIES)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u entries",
				BXC_LIMIT_TREE_ENTRIES);
		r = unpack_entry(u, e, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "'%.256s'", e->path);
	}
}

static int unpack_into(int root_fd, bxc_fsop__data data, const bxc_fsop__ids *owner,
	bxc_cancel *cancel, bxc_err **err)
{
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *reader = NULL;
	int r = bxc_tar_reader_new_any(take, &data, &reader, err);
	if (r < 0)
		return r;
	unpacker u = {.root_fd = root_fd,
		.reader = reader,
		.owner = owner,
		.cancel = cancel,
		.chunk = chunk};
	r = unpack_all(&u, err);
	BXC_ARR_FOREACH (f, &u.folders)
		free(f->path);
	bxc_arr_done(&u.folders);
	return r;
}

static int unpack_data(bxc_fsop__data data, const bxc_file_action *a, const bxc_fsop__dest *d,
	const bxc_fsop__ids *owner, bxc_cancel *cancel, bxc_err **err)
{
	if (!is_archive(data))
		return 0;
	/* The modes of an archive are its own: --chmod counts neither for them nor for this folder.
	 */
	bxc_fsop__dest into = *d;
	into.dir_mode = 0755;
	into.made = NULL;
	BXC_AUTOCLOSE int root_fd = -1;
	int r = bxc_fsop__dest_mkdir_p(&into, a->dest, &root_fd, err);
	if (r == 0)
		r = bxc_fsop__dest_finish(&into, err);
	bxc_fsop__dest_done(&into);
	if (r == 0)
		r = unpack_into(root_fd, data, owner, cancel, err);
	return r < 0 ? r : 1;
}

int bxc_fsop__unpack(bxc_fsop__view *v, const bxc_fsop__node *n, const bxc_file_action *a,
	const bxc_fsop__dest *d, const bxc_fsop__ids *owner, bxc_cancel *cancel, bxc_err **err)
{
	bxc_fsop__data data;
	int r = bxc_fsop__view_open(v, n, &data, err);
	if (r == 0)
		r = unpack_data(data, a, d, owner, cancel, err);
	bxc_cleanup_close(&data.own_fd);
	return r < 0 ? bxc_err_wrap(err, r, "unpack '%s'", n->path) : r;
}
