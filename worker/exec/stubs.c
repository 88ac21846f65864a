/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mount points. The runtime would make them in the layer and leave them there; so they are made
 * here before it starts, with the times of their parents kept, and removed when nothing was put
 * into them.
 */
#include <errno.h>

#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/os/fs.h"
#include "worker/exec/exec_internal.h"

#define MAX_LINKS 40 /* as the kernel */

void bxc_exec__stubs_done(bxc_exec__stubs *s)
{
	BXC_ARR_FOREACH (e, s)
		free(e->path);
	bxc_arr_done(s);
}

static int restore_times(int dir_fd, const struct stat *st, bxc_err **err)
{
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	/* dir_fd is O_PATH, which only serves as a base. */
	if (utimensat(dir_fd, ".", times, 0) < 0)
		return bxc_err_errno(err, errno, "set time of a folder");
	return 0;
}

static int make_at(int dir_fd, const char *name, const char *path, bool is_dir,
	bxc_exec__stubs *stubs, bxc_err **err)
{
	struct stat parent;
	int r = bxc_fs_lstat(dir_fd, "", &parent, err);
	if (r < 0)
		return r;
	if (is_dir ? mkdirat(dir_fd, name, 0755) : mknodat(dir_fd, name, S_IFREG | 0644, 0))
		return bxc_err_errno(err, errno, "make mount point '%s'", path);
	/* The umask does not count. */
	if (fchmodat(dir_fd, name, is_dir ? 0755 : 0644, 0) < 0)
		return bxc_err_errno(err, errno, "change mode of mount point '%s'", path);
	bxc_exec__stub *s = bxc_arr_push(stubs);
	s->path = bxc_strdup(path);
	s->is_dir = is_dir;
	return restore_times(dir_fd, &parent, err);
}

/* The folder or file, made when missing; *ret_fd (O_PATH) may be NULL. `links` bounds what dangling
 * links lead to. */
static int make(int root_fd, const char *path, bool is_dir, unsigned links, bxc_exec__stubs *stubs,
	int *ret_fd, bxc_err **err)
{
	if (links > MAX_LINKS)
		return bxc_err_errno(err, ELOOP, "make mount point '%s'", path);
	if (strlen(path) >= BXC_LIMIT_PATH)
		return bxc_err_errno(err, ENAMETOOLONG, "make mount point '%.64s...'", path);
	BXC_AUTOCLOSE int fd = -1;
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fs_open_beneath(
		root_fd, path, O_PATH | (is_dir ? O_DIRECTORY : 0), 0, BXC_FS_IN_ROOT, &fd, &why);
	if (r == 0) {
		if (ret_fd)
			*ret_fd = BXC_TAKE_FD(fd);
		return 0;
	}
	if (r != -BXC_NOT_FOUND)
		return bxc_err_wrap_take(err, BXC_TAKE(why), r, "mount point '%s'", path);
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	if (!*name || bxc_str_eq(name, ".") || bxc_str_eq(name, ".."))
		return bxc_err_wrap_take(err, BXC_TAKE(why), r, "mount point '%s'", path);
	BXC_AUTOFREE char *dir = bxc_strndup(path, slash ? (size_t)(slash - path) : 0);
	BXC_AUTOCLOSE int dir_fd = -1;
	/* Each level has a shorter path, so only links can go on for long. */
	r = make(root_fd, dir, true, links, stubs, &dir_fd, err);
	if (r < 0)
		return r;
	struct stat st;
	r = bxc_fs_lstat_opt(dir_fd, name, &st, err);
	if (r < 0)
		return r;
	if (r == 1 && S_ISLNK(st.st_mode)) {
		BXC_AUTOFREE char *target = NULL;
		r = bxc_fs_readlink(dir_fd, name, &target, err);
		if (r < 0)
			return r;
		BXC_AUTOFREE char *next =
			*target == '/' ? bxc_strdup(target) : bxc_str_fmt("%s/%s", dir, target);
		for (size_t n = strlen(next); n > 1 && next[n - 1] == '/'; n--)
			next[n - 1] = '\0';
		return make(root_fd, next, is_dir, links + 1, stubs, ret_fd, err);
	}
	r = make_at(dir_fd, name, path, is_dir, stubs, err);
	if (r < 0 || !ret_fd)
		return r;
	return bxc_fs_open_beneath(
		dir_fd, name, O_PATH | O_DIRECTORY, 0, BXC_FS_NO_LINKS, ret_fd, err);
}

int bxc_exec__stub_make(
	int root_fd, const char *dest, bool is_dir, bxc_exec__stubs *stubs, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_strdup(dest);
	for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = '\0';
	return make(root_fd, path, is_dir, 0, stubs, NULL, err);
}

static int remove_one(int root_fd, const bxc_exec__stub *s, bxc_err **err)
{
	BXC_AUTOCLOSE int dir_fd = -1;
	BXC_AUTOFREE char *name = NULL;
	BXC_AUTOERR bxc_err *why = NULL;
	struct stat parent, st;
	int r = bxc_fs_open_parent(root_fd, s->path, true, &dir_fd, &name, &why);
	/* The step may have removed it, or put something else in its way. */
	if (r == -BXC_NOT_FOUND || r == -BXC_INVALID_ARGUMENT)
		return 0;
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(why));
	r = bxc_fs_lstat(dir_fd, "", &parent, err);
	if (r == 0)
		r = bxc_fs_lstat_opt(dir_fd, name, &st, err);
	if (r <= 0)
		return r;
	if (s->is_dir ? !S_ISDIR(st.st_mode) : !S_ISREG(st.st_mode) || st.st_size > 0)
		return 0;
	if (unlinkat(dir_fd, name, s->is_dir ? AT_REMOVEDIR : 0) < 0) {
		if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOENT)
			return 0;
		return bxc_err_errno(err, errno, "remove mount point '%s'", s->path);
	}
	return restore_times(dir_fd, &parent, err);
}

int bxc_exec__stubs_remove(int root_fd, bxc_exec__stubs *stubs, bxc_err **err)
{
	int r = 0;
	for (size_t i = stubs->n; r == 0 && i > 0; i--)
		r = remove_one(root_fd, &stubs->v[i - 1], err);
	return r;
}
