/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A result as files in a folder of the user's. The stream comes from the cluster and is not
 * trusted: every entry is made beneath the folder, through no symbolic link.
 */
#include "client/session/session_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/base/arr.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "common/os/fs.h"

#define CHUNK (256u << 10)

struct dir_time {
	char *path;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t mode;
};

struct unpack {
	int root_fd;
	bxc_tar_reader *reader;
	uint8_t *chunk;
	BXC_ARR(struct dir_time) dirs;
	bxc_map *kept;               /* paths of the result; NULL: what else is there stays */
	uint64_t n;
};

static bool path_is_safe(const char *p)
{
	if (*p == '/' || strlen(p) >= BXC_LIMIT_PATH)
		return false;
	for (const char *c = p; *c;) {
		size_t n = strcspn(c, "/");
		if (n == 2 && memcmp(c, "..", 2) == 0)
			return false;
		c += n;
		while (*c == '/')
			c++;
	}
	return true;
}

static int fail_errno(bxc_err **err, const char *path)
{
	return bxc_err_set(err, bxc_code_from_errno(errno), "write '%s': %m", path);
}

/* The folder of an entry, without following links, and the entry's name. */
static int open_parent(struct unpack *u, const char *path, int *ret_fd, const char **ret_name, bxc_err **err)
{
	const char *slash = strrchr(path, '/');
	*ret_name = slash ? slash + 1 : path;
	if (!slash) {
		*ret_fd = fcntl(u->root_fd, F_DUPFD_CLOEXEC, 0);
		return *ret_fd < 0 ? fail_errno(err, path) : 0;
	}
	BXC_AUTOFREE char *dir = bxc_strndup(path, (size_t)(slash - path));
	return bxc_fs_open_beneath(u->root_fd, dir, O_PATH | O_DIRECTORY, 0, BXC_FS_NO_LINKS, ret_fd, err);
}

static struct timespec time_of(int64_t s, uint32_t ns)
{
	return (struct timespec){.tv_sec = (time_t)s, .tv_nsec = ns};
}

/* What is in the way goes, when it can't be replaced by a rename. */
static int clear_way(int dir_fd, const char *name, bool want_dir, bxc_err **err)
{
	struct stat st;
	int r = bxc_fs_lstat_opt(dir_fd, name, &st, err);
	if (r <= 0)
		return r;
	bool is_dir = S_ISDIR(st.st_mode);
	if (want_dir && is_dir)
		return 1;
	return bxc_fs_rmtree(dir_fd, name, err);
}

static int make_dir(struct unpack *u, int dir_fd, const char *name, const bxc_tar_entry *e, bxc_err **err)
{
	int r = clear_way(dir_fd, name, true, err);
	if (r < 0)
		return r;
	/* Writable for us until the end; its mode and time come last. */
	if (r == 0 && mkdirat(dir_fd, name, 0700) < 0)
		return fail_errno(err, e->path);
	struct dir_time *d = bxc_arr_push(&u->dirs);
	*d = (struct dir_time){bxc_strdup(e->path), e->mtime_s, e->mtime_ns, e->mode};
	return 0;
}

static int make_file(struct unpack *u, int dir_fd, const char *name, const bxc_tar_entry *e, bxc_err **err)
{
	int r = clear_way(dir_fd, name, false, err);
	if (r < 0)
		return r;
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail_errno(err, e->path);
	for (;;) {
		ssize_t n = bxc_tar_reader_read(u->reader, u->chunk, CHUNK, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		r = bxc_fd_write_all(fd, u->chunk, (size_t)n, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "write '%s'", e->path);
	}
	const struct timespec times[2] = {time_of(e->mtime_s, e->mtime_ns), time_of(e->mtime_s, e->mtime_ns)};
	if (fchmod(fd, e->mode & 07777) < 0 || futimens(fd, times) < 0)
		return fail_errno(err, e->path);
	return 0;
}

static int make_link(struct unpack *u, int dir_fd, const char *name, const bxc_tar_entry *e, bxc_err **err)
{
	const char *target = e->link, *target_name;
	BXC_AUTOCLOSE int target_dir = -1;
	if (strncmp(target, "./", 2) == 0)
		target += 2;
	if (!path_is_safe(target))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "hard link '%s' points out of the result: '%s'", e->path, e->link);
	int r = open_parent(u, target, &target_dir, &target_name, err);
	if (r >= 0)
		r = clear_way(dir_fd, name, false, err);
	if (r < 0)
		return r;
	return linkat(target_dir, target_name, dir_fd, name, 0) < 0 ? fail_errno(err, e->path) : 0;
}

static int make_special(int dir_fd, const char *name, const bxc_tar_entry *e, bxc_err **err)
{
	const struct timespec times[2] = {time_of(e->mtime_s, e->mtime_ns), time_of(e->mtime_s, e->mtime_ns)};
	int r = clear_way(dir_fd, name, false, err);
	if (r < 0)
		return r;
	if (e->kind == BXC_TAR_SYMLINK) {
		if (symlinkat(e->link, dir_fd, name) < 0)
			return fail_errno(err, e->path);
	} else {
		mode_t type = e->kind == BXC_TAR_FIFO ? S_IFIFO : e->kind == BXC_TAR_CHAR ? S_IFCHR : S_IFBLK;
		if (mknodat(dir_fd, name, type | 0600, makedev(e->dev_major, e->dev_minor)) < 0)
			return fail_errno(err, e->path);
		if (fchmodat(dir_fd, name, e->mode & 07777, 0) < 0)
			return fail_errno(err, e->path);
	}
	return utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? fail_errno(err, e->path) : 0;
}

static int make_entry(struct unpack *u, const bxc_tar_entry *e, bxc_err **err)
{
	bxc_tar_entry c = *e;
	BXC_AUTOCLOSE int dir_fd = -1;
	const char *name;
	if (strncmp(c.path, "./", 2) == 0)
		c.path += 2;
	if (!*c.path || bxc_str_eq(c.path, "."))
		return 0;
	if (!path_is_safe(c.path))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "entry '%s' of the result points out of the destination", e->path);
	if (u->kept)
		bxc_map_set(u->kept, c.path, NULL);
	int r = open_parent(u, c.path, &dir_fd, &name, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "entry '%s' of the result", e->path);
	switch (c.kind) {
	case BXC_TAR_DIR:
		return make_dir(u, dir_fd, name, &c, err);
	case BXC_TAR_FILE:
		return make_file(u, dir_fd, name, &c, err);
	case BXC_TAR_HARDLINK:
		return make_link(u, dir_fd, name, &c, err);
	case BXC_TAR_SYMLINK:
	case BXC_TAR_CHAR:
	case BXC_TAR_BLOCK:
	case BXC_TAR_FIFO:
		return make_special(dir_fd, name, &c, err);
	case BXC_TAR_UNKNOWN:
		break;
	}
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "entry '%s' of the result is of an unknown kind", e->path);
}

/* What the result has not, in the folders that it has. */
static int remove_rest(struct unpack *u, const char *path, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	BXC_AUTOCLOSE int fd = -1;
	int r = bxc_fs_open_beneath(u->root_fd, path, O_RDONLY | O_DIRECTORY, 0, BXC_FS_NO_LINKS, &fd, err);
	if (r >= 0)
		r = bxc_fs_list_dir(fd, "", BXC_LIMIT_TREE_ENTRIES, &names, err);
	for (char **n = names; r >= 0 && n && *n; n++) {
		BXC_AUTOFREE char *inner = bxc_str_eq(path, ".") ? bxc_strdup(*n) : bxc_str_fmt("%s/%s", path, *n);
		if (!bxc_map_has(u->kept, inner))
			r = bxc_fs_rmtree(fd, *n, err);
	}
	return bxc_err_wrap(err, r, "remove what is not of the result from '%s'", path);
}

static int remove_all_rest(struct unpack *u, bxc_err **err)
{
	int r = u->kept ? remove_rest(u, ".", err) : 0;
	for (size_t i = 0; r >= 0 && u->kept && i < u->dirs.n; i++)
		r = remove_rest(u, u->dirs.v[i].path, err);
	return r;
}

static int finish_dirs(struct unpack *u, bxc_err **err)
{
	for (size_t i = u->dirs.n; i-- > 0;) {
		const struct dir_time *d = &u->dirs.v[i];
		const struct timespec times[2] = {time_of(d->mtime_s, d->mtime_ns), time_of(d->mtime_s, d->mtime_ns)};
		BXC_AUTOCLOSE int fd = -1;
		int r = bxc_fs_open_beneath(u->root_fd, d->path, O_RDONLY | O_DIRECTORY, 0, BXC_FS_NO_LINKS, &fd, err);
		if (r < 0)
			return r;
		if (fchmod(fd, d->mode & 07777) < 0 || futimens(fd, times) < 0)
			return fail_errno(err, d->path);
	}
	/* One sync for all. */
	return syncfs(u->root_fd) < 0 ? fail_errno(err, ".") : 0;
}

int unpack_tree(const char *dest, bool exact, bxc_tar_source_fn source, void *ud, bxc_err **err)
{
	struct unpack u = {.root_fd = -1, .kept = exact ? bxc_map_new(NULL) : NULL};
	int r = bxc_fs_make_dirs(AT_FDCWD, dest, 0755, err);
	if (r >= 0)
		r = bxc_fs_open_dir(AT_FDCWD, dest, &u.root_fd, err);
	if (r >= 0)
		r = bxc_tar_reader_new(source, ud, &u.reader, err);
	u.chunk = bxc_malloc(CHUNK);
	while (r >= 0) {
		const bxc_tar_entry *e;
		r = bxc_tar_reader_next(u.reader, &e, err);
		if (r <= 0)
			break;
		if (++u.n > BXC_LIMIT_TREE_ENTRIES)
			r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "the result has more than %u files", BXC_LIMIT_TREE_ENTRIES);
		else
			r = make_entry(&u, e, err);
	}
	if (r >= 0)
		r = remove_all_rest(&u, err);
	if (r >= 0)
		r = finish_dirs(&u, err);
	bxc_tar_reader_free(u.reader);
	BXC_ARR_FOREACH (d, &u.dirs)
		free(d->path);
	bxc_arr_done(&u.dirs);
	bxc_map_free(u.kept);
	free(u.chunk);
	if (u.root_fd >= 0)
		close(u.root_fd);
	return r < 0 ? bxc_err_wrap(err, r, "write to '%s'", dest) : 0;
}
