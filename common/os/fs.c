/* SPDX-License-Identifier: Apache-2.0 */
#include "common/os/fs.h"

#include <errno.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/os/fd.h"

/* openat2 answers EAGAIN when a rename elsewhere raced with ".."; it is to be tried again. */
#define RACE_RETRIES 256

static uint64_t resolve_flags(bxc_fs_resolve resolve)
{
	switch (resolve) {
	case BXC_FS_IN_ROOT:
		return RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
	case BXC_FS_BENEATH:
		return RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
	case BXC_FS_NO_LINKS:
		return RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
	case BXC_FS_NO_XDEV:
		return RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
		       RESOLVE_NO_XDEV;
	default:
		bxc_check(false && "resolve mode");
		return 0;
	}
}

/* RESOLVE_BENEATH refuses absolute paths, which here mean the root. */
static const char *relative(const char *path)
{
	while (*path == '/')
		path++;
	return *path ? path : ".";
}

/* The descriptor, or -errno. */
static int open_at(int root_fd, const char *path, int flags, mode_t mode, bxc_fs_resolve resolve)
{
	bool makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = makes ? mode & 07777 : 0,
		.resolve = resolve_flags(resolve),
	};
	for (int i = 0;; i++) {
		long fd = syscall(SYS_openat2, root_fd, relative(path), &how, sizeof(how));
		if (fd >= 0)
			return (int)fd;
		if (errno != EINTR && (errno != EAGAIN || i >= RACE_RETRIES))
			return -errno;
	}
}

static int open_error(int errnum, const char *path, bxc_fs_resolve resolve, bxc_err **err)
{
	if (errnum == ENOSYS)
		return bxc_err_set(err, BXC_UNIMPLEMENTED,
			"this kernel has no openat2; Linux 5.6 or later is needed");
	if (errnum == EXDEV && resolve != BXC_FS_NO_XDEV)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "path '%s' leaves its root", path);
	if (errnum == EXDEV)
		return bxc_err_set(
			err, BXC_FAILED_PRECONDITION, "path '%s' crosses a mount point", path);
	return bxc_err_errno(err, errnum, "open '%s'", path);
}

int bxc_fs_open_beneath(int root_fd, const char *path, int flags, mode_t mode,
	bxc_fs_resolve resolve, int *ret_fd, bxc_err **err)
{
	int fd = open_at(root_fd, path, flags, mode, resolve);
	if (fd < 0)
		return open_error(-fd, path, resolve, err);
	*ret_fd = fd;
	return 0;
}

int bxc_fs_open_parent(int root_fd, const char *path, bool in_root, int *ret_parent_fd,
	char **ret_name, bxc_err **err)
{
	if (strlen(path) >= BXC_LIMIT_PATH)
		return bxc_err_errno(err, ENAMETOOLONG, "open '%.64s...'", path);
	BXC_AUTOFREE char *parent = bxc_strdup(path);
	/* Trailing slashes and "." components do not change which component is the last. */
	size_t n = strlen(parent);
	for (;;) {
		if (n && parent[n - 1] == '/')
			n--;
		else if (n && parent[n - 1] == '.' && (n == 1 || parent[n - 2] == '/'))
			n--;
		else
			break;
	}
	parent[n] = '\0';
	const char *slash = strrchr(parent, '/');
	const char *last = slash ? slash + 1 : parent;
	BXC_AUTOFREE char *name = NULL;
	if (!*last || strcmp(last, "..") == 0) {
		name = bxc_strdup(".");
	} else {
		name = bxc_strdup(last);
		parent[last - parent] = '\0';
	}
	int fd = open_at(root_fd, parent, O_PATH | O_DIRECTORY, 0,
		in_root ? BXC_FS_IN_ROOT : BXC_FS_BENEATH);
	if (fd < 0)
		return open_error(-fd, path, in_root ? BXC_FS_IN_ROOT : BXC_FS_BENEATH, err);
	*ret_parent_fd = fd;
	*ret_name = BXC_TAKE(name);
	return 0;
}

/* ---- making folders ---- */

struct mkdir_job {
	int root_fd;
	mode_t mode;
	uint32_t uid;
	uint32_t gid;
	bxc_fs_made_fn made;
	void *ud;
};

/* Gives the folder that mkdirat just made its exact mode and owner. */
static int finish_dir(const struct mkdir_job *job, int parent_fd, const char *name,
	const char *path, int *ret_fd, bxc_err **err)
{
	BXC_AUTOCLOSE int fd =
		openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", path);
	if ((job->uid != BXC_FS_KEEP_ID || job->gid != BXC_FS_KEEP_ID) &&
		fchown(fd, job->uid, job->gid) < 0)
		return bxc_err_errno(err, errno, "change owner of '%s'", path);
	/* After fchown, which may clear set-id bits. */
	if (fchmod(fd, job->mode & 07777) < 0)
		return bxc_err_errno(err, errno, "change mode of '%s'", path);
	if (job->made)
		job->made(fd, path, job->ud);
	*ret_fd = BXC_TAKE_FD(fd);
	return 0;
}

/* "a/b" and the link target "c/d" to "a/c/d"; an absolute target starts at the root. */
static char *follow(const char *dir, const char *target, const char *rest)
{
	if (*target == '/' || !*dir)
		return bxc_str_fmt("%s/%s", target, rest);
	return bxc_str_fmt("%s/%s/%s", dir, target, rest);
}

/*
 * One attempt: walks down `path`, making what is missing. 0 when done; 1 when a dangling link was
 * met, with the path to go on with in *ret_next.
 */
static int mkdir_walk(
	const struct mkdir_job *job, const char *path, int *ret_fd, char **ret_next, bxc_err **err)
{
	/* An owned copy is cut at each slash in turn: text[0..end) is what exists so far. */
	BXC_AUTOFREE char *text = bxc_strdup(relative(path));
	int dir_fd = open_at(job->root_fd, ".", O_PATH | O_DIRECTORY, 0, BXC_FS_IN_ROOT);
	if (dir_fd < 0)
		return open_error(-dir_fd, path, BXC_FS_IN_ROOT, err);
	BXC_AUTOCLOSE int at_fd = dir_fd;
	for (char *p = text; *p;) {
		char *name = p;
		char *end = strchrnul(p, '/');
		char cut = *end;
		*end = '\0';
		/* From the root, so that ".." and links are resolved as the kernel does under a
		 * chroot. */
		int fd = open_at(job->root_fd, text, O_PATH | O_DIRECTORY, 0, BXC_FS_IN_ROOT);
		if (fd == -ENOENT && *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
			if (mkdirat(at_fd, name, 0700) == 0) {
				int r = finish_dir(job, at_fd, name, text, &fd, err);
				if (r < 0)
					return r;
			} else if (errno != EEXIST) {
				return bxc_err_errno(err, errno, "make folder '%s'", text);
			} else {
				/* A link to nowhere, or a folder that another thread just made. */
				BXC_AUTOFREE char *target = NULL;
				BXC_AUTOERR bxc_err *link_err = NULL;
				int r = bxc_fs_readlink(at_fd, name, &target, &link_err);
				if (r < 0 && bxc_err_errnum(link_err) != EINVAL &&
					r != -BXC_NOT_FOUND)
					return bxc_err_move(err, BXC_TAKE(link_err));
				if (r < 0)
					target = bxc_strdup(name);
				const char *dir = "";
				if (name > text) {
					name[-1] = '\0';
					dir = text;
				}
				*ret_next = follow(dir, target, cut ? end + 1 : "");
				return 1;
			}
		}
		if (fd < 0)
			return open_error(-fd, text, BXC_FS_IN_ROOT, err);
		close(at_fd);
		at_fd = fd;
		*end = cut;
		p = end;
		while (*p == '/')
			p++;
	}
	if (ret_fd) {
		/* A folder made just now is open for reading; what is promised is O_PATH. */
		int fd = openat(at_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return bxc_err_errno(err, errno, "open '%s'", path);
		*ret_fd = fd;
	}
	return 0;
}

int bxc_fs_mkdir_p(int root_fd, const char *path, mode_t mode, uint32_t uid, uint32_t gid,
	bxc_fs_made_fn made, void *ud, int *ret_dir_fd, bxc_err **err)
{
	struct mkdir_job job = {root_fd, mode, uid, gid, made, ud};
	int fd = open_at(root_fd, path, O_PATH | O_DIRECTORY, 0, BXC_FS_IN_ROOT);
	if (fd >= 0) {
		if (ret_dir_fd)
			*ret_dir_fd = fd;
		else
			close(fd);
		return 0;
	}
	if (fd != -ENOENT)
		return open_error(-fd, path, BXC_FS_IN_ROOT, err);
	BXC_AUTOFREE char *now = bxc_strdup(path);
	for (int links = 0; links <= BXC_LIMIT_SYMLINKS; links++) {
		if (strlen(now) >= BXC_LIMIT_PATH)
			return bxc_err_errno(err, ENAMETOOLONG, "make folder '%.64s...'", path);
		BXC_AUTOFREE char *next = NULL;
		int r = mkdir_walk(&job, now, ret_dir_fd, &next, err);
		if (r <= 0)
			return r;
		free(now);
		now = BXC_TAKE(next);
	}
	return bxc_err_errno(err, ELOOP, "make folder '%s'", path);
}

int bxc_fs_make_dirs(int dir_fd, const char *path, mode_t mode, bxc_err **err)
{
	struct mkdir_job job = {-1, mode, BXC_FS_KEEP_ID, BXC_FS_KEEP_ID, NULL, NULL};
	BXC_AUTOFREE char *text = bxc_strdup(path);
	for (char *p = text; *p;) {
		p += strspn(p, "/");
		p += strcspn(p, "/");
		char cut = *p;
		*p = '\0';
		if (mkdirat(dir_fd, text, 0700) == 0) {
			BXC_AUTOCLOSE int fd = -1;
			int r = finish_dir(&job, dir_fd, text, text, &fd, err);
			if (r < 0)
				return r;
		} else if (errno != EEXIST) {
			struct stat st;
			int e = errno;
			/* EROFS and EACCES come before EEXIST on some file systems. */
			if (fstatat(dir_fd, text, &st, 0) < 0 || !S_ISDIR(st.st_mode))
				return bxc_err_errno(err, e, "make folder '%s'", text);
		}
		*p = cut;
	}
	struct stat st;
	if (fstatat(dir_fd, *path ? path : ".", &st, 0) < 0)
		return bxc_err_errno(err, errno, "make folder '%s'", path);
	if (!S_ISDIR(st.st_mode))
		return bxc_err_errno(err, ENOTDIR, "make folder '%s'", path);
	return 0;
}

int bxc_fs_open_dir(int dir_fd, const char *path, int *ret_fd, bxc_err **err)
{
	int fd = openat(dir_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", path);
	*ret_fd = fd;
	return 0;
}

/* ---- whole files ---- */

static int read_opened(int fd, const char *path, size_t max_bytes, bxc_buf *ret, bxc_err **err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return bxc_err_errno(err, errno, "stat '%s'", path);
	if (!S_ISREG(st.st_mode))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%s' is no regular file", path);
	bxc_buf_clear(ret);
	ret->max_bytes = max_bytes;
	return bxc_err_wrap(err, bxc_fd_read_to_end(fd, ret, err), "read '%s'", path);
}

/* Without O_NONBLOCK a FIFO in place of the file would hang the caller. */
#define READ_FLAGS (O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

int bxc_fs_read_file(int dir_fd, const char *path, size_t max_bytes, bxc_buf *ret, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = openat(dir_fd, path, READ_FLAGS);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", path);
	return read_opened(fd, path, max_bytes, ret, err);
}

int bxc_fs_read_file_in_root(
	int root_fd, const char *path, size_t max_bytes, bxc_buf *ret, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = -1;
	int r = bxc_fs_open_beneath(root_fd, path, READ_FLAGS, 0, BXC_FS_IN_ROOT, &fd, err);
	return r < 0 ? r : read_opened(fd, path, max_bytes, ret, err);
}

int bxc_fs_read_secret(
	int dir_fd, const char *path, size_t max_bytes, bxc_secret **ret, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(max_bytes);
	int r = bxc_fs_read_file(dir_fd, path, max_bytes, &text, err);
	if (r < 0)
		return r;
	size_t n = text.len;
	while (n && (text.data[n - 1] == '\n' || text.data[n - 1] == '\r'))
		n--;
	*ret = bxc_secret_new(text.data, n);
	if (text.len)
		explicit_bzero(text.data, text.len);
	return 0;
}

int bxc_fs_sync_dir(int dir_fd, bxc_err **err)
{
	/* AT_FDCWD and O_PATH descriptors cannot be synced themselves. */
	BXC_AUTOCLOSE int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open folder");
	return bxc_fd_sync(fd, err);
}

static int write_temporary(
	int dir_fd, const char *temporary, const void *data, size_t n, mode_t mode, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = openat(
		dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return bxc_err_errno(err, errno, "create");
	int r = bxc_fd_write_all(fd, data, n, err);
	if (r < 0)
		return r;
	if (fchmod(fd, mode & 07777) < 0)
		return bxc_err_errno(err, errno, "change mode");
	return bxc_fd_sync(fd, err);
}

int bxc_fs_write_atomic(
	int dir_fd, const char *name, const void *data, size_t n, mode_t mode, bxc_err **err)
{
	/* `name` may hold slashes; the temporary file must be in the same folder. */
	const char *slash = strrchr(name, '/');
	int dir_len = slash ? (int)(slash + 1 - name) : 0;
	BXC_AUTOFREE char *tag = bxc_rand_hex(8);
	BXC_AUTOFREE char *dir = bxc_str_fmt("%.*s.", dir_len, name);
	BXC_AUTOFREE char *temporary = bxc_str_fmt("%.*s.tmp.%s", dir_len, name, tag);
	int r = write_temporary(dir_fd, temporary, data, n, mode, err);
	if (r >= 0 && renameat(dir_fd, temporary, dir_fd, name) < 0)
		r = bxc_err_errno(err, errno, "rename");
	if (r < 0) {
		(void)unlinkat(dir_fd, temporary, 0);
		return bxc_err_wrap(err, r, "write '%s'", name);
	}
	BXC_AUTOCLOSE int parent_fd = -1;
	r = bxc_fs_open_dir(dir_fd, dir, &parent_fd, err);
	if (r >= 0)
		r = bxc_fd_sync(parent_fd, err);
	return bxc_err_wrap(err, r, "write '%s'", name);
}

int bxc_fs_unlink(int dir_fd, const char *name, bxc_err **err)
{
	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return bxc_err_errno(err, errno, "remove '%s'", name);
	return 0;
}

int bxc_fs_rename(int from_dir_fd, const char *from, int to_dir_fd, const char *to, bool noreplace,
	bxc_err **err)
{
	if (renameat2(from_dir_fd, from, to_dir_fd, to, noreplace ? RENAME_NOREPLACE : 0) < 0)
		return bxc_err_errno(err, errno, "rename '%s' to '%s'", from, to);
	return 0;
}

/* ---- looking ---- */

int bxc_fs_lstat_opt(int dir_fd, const char *name, struct stat *ret, bxc_err **err)
{
	if (fstatat(dir_fd, name, ret, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0)
		return 1;
	if (errno == ENOENT)
		return 0;
	return bxc_err_errno(err, errno, "stat '%s'", name);
}

int bxc_fs_lstat(int dir_fd, const char *name, struct stat *ret, bxc_err **err)
{
	int r = bxc_fs_lstat_opt(dir_fd, name, ret, err);
	if (r == 0)
		return bxc_err_errno(err, ENOENT, "stat '%s'", name);
	return r < 0 ? r : 0;
}

int bxc_fs_readlink(int dir_fd, const char *name, char **ret_target, bxc_err **err)
{
	char target[BXC_LIMIT_PATH + 1];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof(target));
	if (n < 0)
		return bxc_err_errno(err, errno, "read link '%s'", name);
	if ((size_t)n >= sizeof(target))
		return bxc_err_errno(err, ENAMETOOLONG, "read link '%s'", name);
	*ret_target = bxc_strndup(target, (size_t)n);
	return 0;
}

int bxc_fs_space(int fd, uint64_t *ret_total_bytes, uint64_t *ret_avail_bytes, bxc_err **err)
{
	struct statvfs st;
	while (fstatvfs(fd, &st) < 0)
		if (errno != EINTR)
			return bxc_err_errno(err, errno, "statvfs");
	*ret_total_bytes = (uint64_t)st.f_blocks * st.f_frsize;
	*ret_avail_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

int bxc_fs_lock(int dir_fd, const char *name, int *ret_lock_fd, bxc_err **err)
{
	BXC_AUTOCLOSE int fd =
		openat(dir_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open lock '%s'", name);
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return bxc_err_set(err, BXC_FAILED_PRECONDITION,
				"'%s' is locked by another process", name);
		if (errno != EINTR)
			return bxc_err_errno(err, errno, "lock '%s'", name);
	}
	*ret_lock_fd = BXC_TAKE_FD(fd);
	return 0;
}
