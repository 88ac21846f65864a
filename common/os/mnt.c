/* SPDX-License-Identifier: Apache-2.0 */
#include "common/os/mnt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* ---- file system contexts ---- */

/* The kernel keeps its complaints in the context, one per read: "e <text>\n", "w ...", "i ...". */
static char *context_log(int fs_fd)
{
	char *all = NULL;
	char line[512];
	for (int i = 0; i < 16; i++) {
		ssize_t n = read(fs_fd, line, sizeof(line) - 1);
		if (n <= 0)
			break;
		line[n] = '\0';
		char *text = bxc_str_trim(line);
		if ((*text == 'e' || *text == 'w' || *text == 'i') && text[1] == ' ')
			text += 2;
		char *more = all ? bxc_str_fmt("%s; %s", all, text) : bxc_strdup(text);
		free(all);
		all = more;
	}
	return all;
}

static int context_error(int fs_fd, const char *what, bxc_err **err)
{
	int e = errno;
	BXC_AUTOFREE char *log = context_log(fs_fd);
	if (log)
		return bxc_err_errno(err, e, "%s (%s)", what, log);
	return bxc_err_errno(err, e, "%s", what);
}

static int open_context(const char *fs_type, int *ret_fd, bxc_err **err)
{
	int fd = fsopen(fs_type, FSOPEN_CLOEXEC);
	if (fd < 0 && errno == ENODEV)
		return bxc_err_set(
			err, BXC_UNIMPLEMENTED, "this kernel has no file system '%s'", fs_type);
	if (fd < 0)
		return bxc_err_errno(err, errno, "fsopen '%s'", fs_type);
	*ret_fd = fd;
	return 0;
}

static int set_string(int fs_fd, const char *key, const char *value, bxc_err **err)
{
	if (fsconfig(fs_fd, FSCONFIG_SET_STRING, key, value, 0) < 0) {
		BXC_AUTOFREE char *what = bxc_str_fmt("option %s='%s'", key, value);
		return context_error(fs_fd, what, err);
	}
	return 0;
}

static int set_flag(int fs_fd, const char *key, bxc_err **err)
{
	if (fsconfig(fs_fd, FSCONFIG_SET_FLAG, key, NULL, 0) < 0) {
		BXC_AUTOFREE char *what = bxc_str_fmt("option %s", key);
		return context_error(fs_fd, what, err);
	}
	return 0;
}

static int make_mount(int fs_fd, unsigned attrs, int *ret_mount_fd, bxc_err **err)
{
	if (fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return context_error(fs_fd, "create file system", err);
	int fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, attrs);
	if (fd < 0)
		return context_error(fs_fd, "fsmount", err);
	*ret_mount_fd = fd;
	return 0;
}

int bxc_mnt_new(
	const char *fs_type, char *const *options, unsigned attrs, int *ret_mount_fd, bxc_err **err)
{
	BXC_AUTOCLOSE int fs_fd = -1;
	int r = open_context(fs_type, &fs_fd, err);
	for (size_t i = 0; r >= 0 && options && options[i]; i++) {
		BXC_AUTOFREE char *key = bxc_strdup(options[i]);
		char *eq = strchr(key, '=');
		if (eq)
			*eq = '\0';
		r = eq ? set_string(fs_fd, key, eq + 1, err) : set_flag(fs_fd, key, err);
	}
	if (r >= 0)
		r = make_mount(fs_fd, attrs, ret_mount_fd, err);
	return bxc_err_wrap(err, r, "mount %s", fs_type);
}

int bxc_mnt_tmpfs(uint64_t size_bytes, mode_t mode, int *ret_mount_fd, bxc_err **err)
{
	BXC_AUTOSTRV char **options = NULL;
	bxc_strv_push(&options, "source=tmpfs");
	bxc_strv_pushf(&options, "mode=%o", (unsigned)mode & 07777);
	if (size_bytes)
		bxc_strv_pushf(&options, "size=%llu", (unsigned long long)size_bytes);
	return bxc_mnt_new(
		"tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, ret_mount_fd, err);
}

/* ---- mounts that exist ---- */

int bxc_mnt_set_attrs(int mount_fd, unsigned set, unsigned clear, bool recursive, bxc_err **err)
{
	struct mount_attr attr = {.attr_set = set, .attr_clr = clear};
	unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
	if (mount_setattr(mount_fd, "", flags, &attr, sizeof(attr)) < 0)
		return bxc_err_errno(err, errno, "change mount attributes");
	return 0;
}

int bxc_mnt_bind_clone(int dir_fd, const char *path, bool recursive, unsigned attrs,
	int *ret_mount_fd, bxc_err **err)
{
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH |
			 (recursive ? AT_RECURSIVE : 0);
	BXC_AUTOCLOSE int fd = open_tree(dir_fd, path, flags);
	if (fd < 0)
		return bxc_err_errno(err, errno, "clone mount of '%s'", path);
	int r = attrs ? bxc_mnt_set_attrs(fd, attrs, 0, recursive, err) : 0;
	if (r < 0)
		return r;
	*ret_mount_fd = BXC_TAKE_FD(fd);
	return 0;
}

int bxc_mnt_move(int mount_fd, int dir_fd, const char *path, bxc_err **err)
{
	unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (*path ? 0 : MOVE_MOUNT_T_EMPTY_PATH);
	if (move_mount(mount_fd, "", dir_fd, path, flags) < 0)
		return bxc_err_errno(err, errno, "attach mount at '%s'", path);
	return 0;
}

int bxc_mnt_detach(const char *path, bxc_err **err)
{
	/* EINVAL: not a mount point. */
	if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		return bxc_err_errno(err, errno, "unmount '%s'", path);
	return 0;
}

int bxc_mnt_detach_below(const char *path, bxc_err **err)
{
	bxc_check(*path == '/');
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	BXC_AUTOMNTTABLE bxc_mnt_table table = {0};
	int r = bxc_mnt_read_table(&table, err);
	if (r < 0)
		return r;
	for (size_t i = table.n; i-- > 0;) {
		const char *at = table.v[i].mount_point;
		if (strncmp(at, path, n) != 0 || (n > 1 && at[n] != '\0' && at[n] != '/'))
			continue;
		r = bxc_mnt_detach(at, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int bxc_mnt_make_private(const char *path, bxc_err **err)
{
	if (mount(NULL, path, NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return bxc_err_errno(err, errno, "make mounts of '%s' private", path);
	return 0;
}

/* ---- overlays ---- */

struct overlay {
	const char *const *lowers;
	size_t n_lowers;
	const char *upper;
	const char *work;
	bxc_mnt_overlay_flags flags;
};

/*
 * overlayfs reads ':', ',' and '\' in option values as syntax, in ways that differ between
 * versions. A folder with such a path is given by descriptor.
 */
static int plain_path(const char *path, bool always_fd, int *ret_fd, char **ret_path, bxc_err **err)
{
	if (!always_fd && !strpbrk(path, ":,\\")) {
		*ret_path = bxc_strdup(path);
		return 0;
	}
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", path);
	*ret_fd = fd;
	*ret_path = bxc_str_fmt("/proc/self/fd/%d", fd);
	return 0;
}

static int set_dir(int fs_fd, const char *key, const char *path, bxc_err **err)
{
	/* The kernel resolves the path in the call, so the descriptor need not live longer. */
	BXC_AUTOCLOSE int fd = -1;
	BXC_AUTOFREE char *plain = NULL;
	/* Values are limited to 255 bytes. */
	int r = plain_path(path, strlen(path) > 250, &fd, &plain, err);
	return r < 0 ? r : set_string(fs_fd, key, plain, err);
}

/*
 * "lowerdir+" came with Linux 6.7. Kernels before 6.5 take any option without a word and fail
 * later, so an option that cannot exist is tried as well.
 */
static bool has_lowerdir_plus(void)
{
	BXC_AUTOCLOSE int fs_fd = -1;
	return open_context("overlay", &fs_fd, NULL) >= 0 &&
	       set_string(fs_fd, "lowerdir+", "/", NULL) >= 0 &&
	       set_string(fs_fd, "bxc-no-such-option", "/", NULL) < 0;
}

static int overlay_new_api(const struct overlay *o, int *ret_mount_fd, bxc_err **err)
{
	BXC_AUTOCLOSE int fs_fd = -1;
	int r = open_context("overlay", &fs_fd, err);
	if (r >= 0)
		r = set_string(fs_fd, "source", "overlay", err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < o->n_lowers && r >= 0; i++)
		r = set_dir(fs_fd, "lowerdir+", o->lowers[i], err);
	if (r >= 0 && o->upper) {
		r = set_dir(fs_fd, "upperdir", o->upper, err);
		if (r >= 0)
			r = set_dir(fs_fd, "workdir", o->work, err);
	}
	if (r >= 0 && o->upper && (o->flags & BXC_MNT_OVERLAY_VOLATILE))
		r = set_flag(fs_fd, "volatile", err);
	if (r >= 0 && (o->flags & BXC_MNT_OVERLAY_USERXATTR))
		r = set_flag(fs_fd, "userxattr", err);
	if (r >= 0)
		r = make_mount(fs_fd, o->upper ? 0 : MOUNT_ATTR_RDONLY, ret_mount_fd, err);
	return r;
}

struct fd_list {
	int *v;
	size_t n;
};

static void fd_list_done(struct fd_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		bxc_cleanup_close(&l->v[i]);
	free(l->v);
}

/* "lowerdir=/proc/self/fd/5:/proc/self/fd/6,upperdir=...": short names, as the options are a page.
 */
static int old_options(
	const struct overlay *o, struct fd_list *fds, bxc_buf *options, bxc_err **err)
{
	const char *key = "lowerdir=";
	for (size_t i = 0; i < o->n_lowers + (o->upper ? 2 : 0); i++) {
		bool is_lower = i < o->n_lowers;
		const char *path = is_lower ? o->lowers[i] : i == o->n_lowers ? o->upper : o->work;
		if (!is_lower)
			key = i == o->n_lowers ? ",upperdir=" : ",workdir=";
		BXC_AUTOFREE char *plain = NULL;
		fds->v[fds->n] = -1;
		int r = plain_path(path, true, &fds->v[fds->n++], &plain, err);
		if (r >= 0)
			r = bxc_buf_appendf(options, err, "%s%s", key, plain);
		if (r < 0)
			return r;
		key = ":";
	}
	if (o->upper && (o->flags & BXC_MNT_OVERLAY_VOLATILE))
		bxc_buf_adds(options, ",volatile");
	if (o->flags & BXC_MNT_OVERLAY_USERXATTR)
		bxc_buf_adds(options, ",userxattr");
	return 0;
}

/*
 * Linux before 6.7: mount(2) wants a place, so the overlay is shown for a moment on a private
 * folder, cloned from there, and taken off again.
 */
static int overlay_old_api(const struct overlay *o, int *ret_mount_fd, bxc_err **err)
{
	BXC_CLEANUP(fd_list_done)
	struct fd_list fds = {bxc_calloc(o->n_lowers + 2, sizeof(int)), 0};
	BXC_AUTOBUF bxc_buf options = BXC_BUF_INIT(4095 - sizeof(",volatile,userxattr"));
	int r = old_options(o, &fds, &options, err);
	if (r == -BXC_RESOURCE_EXHAUSTED)
		return bxc_err_wrap(err, r,
			"%zu layers are too many for this kernel (Linux 6.7 takes 500)",
			o->n_lowers);
	if (r < 0)
		return r;
	char place[] = "/tmp/bxc-overlay-XXXXXX";
	if (!mkdtemp(place))
		return bxc_err_errno(err, errno, "mkdtemp");
	if (mount("overlay", place, "overlay", o->upper ? 0 : MS_RDONLY, bxc_buf_text(&options)) <
		0) {
		r = bxc_err_errno(err, errno, "mount overlay with '%s'", bxc_buf_text(&options));
	} else {
		r = bxc_mnt_bind_clone(AT_FDCWD, place, false, 0, ret_mount_fd, err);
		bxc_ignore(umount2(place, MNT_DETACH));
	}
	bxc_ignore(rmdir(place));
	return r;
}

int bxc_mnt_overlay(const char *const *lowers, size_t n_lowers, const char *upper, const char *work,
	bxc_mnt_overlay_flags flags, int *ret_mount_fd, bxc_err **err)
{
	bxc_check(!upper || work);
	if (n_lowers > BXC_LIMIT_IMAGE_LAYERS)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"overlay of %zu layers; at most %u are possible", n_lowers,
			BXC_LIMIT_IMAGE_LAYERS);
	int r = 0;
	if (n_lowers == 0 && upper) {
		r = bxc_mnt_bind_clone(AT_FDCWD, upper, false, 0, ret_mount_fd, err);
	} else if (n_lowers == 0) {
		r = bxc_mnt_tmpfs(0, 0755, ret_mount_fd, err);
		if (r >= 0)
			r = bxc_mnt_set_attrs(*ret_mount_fd, MOUNT_ATTR_RDONLY, 0, false, err);
	} else if (n_lowers == 1 && !upper) {
		/* By descriptor, as the path may be a magic link that must be followed. */
		BXC_AUTOCLOSE int fd = open(lowers[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
		r = fd < 0 ? bxc_err_errno(err, errno, "open '%s'", lowers[0])
			   : bxc_mnt_bind_clone(
				     fd, "", false, MOUNT_ATTR_RDONLY, ret_mount_fd, err);
	} else {
		struct overlay o = {lowers, n_lowers, upper, work, flags};
		BXC_AUTOERR bxc_err *first = NULL;
		bool old = flags & BXC_MNT_OVERLAY_OLD_API;
		r = old ? 0 : overlay_new_api(&o, ret_mount_fd, &first);
		if (old || (bxc_err_errnum(first) == EINVAL && !has_lowerdir_plus()))
			r = overlay_old_api(&o, ret_mount_fd, err);
		else if (r < 0)
			r = bxc_err_move(err, BXC_TAKE(first));
	}
	return bxc_err_wrap(err, r, "overlay");
}
