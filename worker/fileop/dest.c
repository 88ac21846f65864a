/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "common/base/limits.h"
#include "common/os/fs.h"
#include "worker/fileop/fileop_internal.h"

void bxc_fsop__dest_done(bxc_fsop__dest *d)
{
	bxc_strv_free(d->made);
	d->made = NULL;
}

static void note_made(int dir_fd, const char *path, void *ud)
{
	(void)dir_fd;
	bxc_fsop__dest *d = ud;
	bxc_strv_push(&d->made, path);
}

int bxc_fsop__dest_mkdir_p(bxc_fsop__dest *d, const char *path, int *ret_fd, bxc_err **err)
{
	return bxc_fs_mkdir_p(
		d->root_fd, path, d->dir_mode, d->uid, d->gid, note_made, d, ret_fd, err);
}

int bxc_fsop__dest_open_dir(
	bxc_fsop__dest *d, const char *path, bool want_dir, int *ret_fd, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fs_open_beneath(
		d->root_fd, path, O_PATH | O_DIRECTORY, 0, BXC_FS_IN_ROOT, ret_fd, &why);
	if (r == 0)
		return 1;
	if (r == -BXC_NOT_FOUND)
		return 0;
	if (bxc_err_errnum(why) == ENOTDIR) {
		if (!want_dir)
			return 0;
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "cannot copy to non-directory: %s", path);
	}
	return bxc_err_move(err, BXC_TAKE(why));
}

int bxc_fsop__dest_file(bxc_fsop__dest *d, const char *path, bool make, int *ret_dir_fd,
	char **ret_name, bxc_err **err)
{
	BXC_AUTOFREE char *now = bxc_strdup(path);
	for (int i = 0; i < BXC_FSOP__MAX_LINKS; i++) {
		size_t n = strlen(now);
		if (n >= BXC_LIMIT_PATH)
			return bxc_err_errno(err, ENAMETOOLONG, "open '%.64s...'", path);
		while (n > 0 && now[n - 1] == '/')
			now[--n] = '\0';
		const char *slash = strrchr(now, '/');
		BXC_AUTOFREE char *dir =
			slash ? bxc_strndup(now, (size_t)(slash - now)) : bxc_strdup("");
		BXC_AUTOFREE char *name = bxc_strdup(slash ? slash + 1 : now);
		if (!*name || bxc_str_eq(name, ".") || bxc_str_eq(name, ".."))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"cannot replace to directory %s with file", path);
		BXC_AUTOCLOSE int dir_fd = -1;
		int r = make ? bxc_fsop__dest_mkdir_p(d, dir, &dir_fd, err)
			     : bxc_fs_open_beneath(d->root_fd, dir, O_PATH | O_DIRECTORY, 0,
				       BXC_FS_IN_ROOT, &dir_fd, err);
		if (r < 0)
			return r;
		struct stat st;
		r = bxc_fs_lstat_opt(dir_fd, name, &st, err);
		if (r < 0)
			return r;
		if (r == 0 || !S_ISLNK(st.st_mode)) {
			*ret_dir_fd = BXC_TAKE_FD(dir_fd);
			*ret_name = BXC_TAKE(name);
			return 0;
		}
		BXC_AUTOFREE char *target = NULL;
		r = bxc_fs_readlink(dir_fd, name, &target, err);
		if (r < 0)
			return r;
		char *next =
			*target == '/' ? bxc_strdup(target) : bxc_str_fmt("%s/%s", dir, target);
		free(now);
		now = next;
	}
	return bxc_err_errno(err, ELOOP, "open '%s'", path);
}

int bxc_fsop__dest_finish(bxc_fsop__dest *d, bxc_err **err)
{
	if (d->timestamp_ns == INT64_MIN)
		return 0;
	struct timespec t = bxc_fsop__timespec(d->timestamp_ns);
	struct timespec times[2] = {t, t};
	for (char **p = d->made; p && *p; p++) {
		BXC_AUTOCLOSE int fd = -1;
		int r = bxc_fs_open_beneath(
			d->root_fd, *p, O_RDONLY | O_DIRECTORY, 0, BXC_FS_IN_ROOT, &fd, err);
		if (r < 0)
			return r;
		if (futimens(fd, times) < 0)
			return bxc_err_errno(err, errno, "set time of '%s'", *p);
	}
	return 0;
}
