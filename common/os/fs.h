/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and folders: look-ups that cannot leave a root, atomic writes, removal of trees.
 *
 * Trees that others made (images, contexts, snapshots) are only entered through the *_beneath,
 * *_parent, *_in_root and mkdir_p functions; (dir_fd, path) elsewhere is our own, trusted path and
 * dir_fd may be AT_FDCWD. Paths are relative; leading slashes mean the root. All descriptors are
 * close-on-exec. Any thread.
 */
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/err.h"
#include "common/base/secret.h"

/* How a path is resolved under its root; magic links of /proc are refused in every mode. */
typedef enum bxc_fs_resolve {
	/* As after chroot: absolute links and ".." stop at the root. For trees of containers. */
	BXC_FS_IN_ROOT = 0,
	/* A link or ".." that leaves the root is an error (BXC_INVALID_ARGUMENT). */
	BXC_FS_BENEATH,
	/* No symbolic link at all, also not as the last component (with O_PATH|O_NOFOLLOW that is
	   one). */
	BXC_FS_NO_LINKS,
	/* As BXC_FS_NO_LINKS, and no mount point is crossed. */
	BXC_FS_NO_XDEV,
} bxc_fs_resolve;

/*
 * openat2. `mode` counts with O_CREAT and O_TMPFILE only and is subject to the umask.
 * Needs Linux 5.6: BXC_UNIMPLEMENTED with a plain text before it.
 */
BXC_MUST_CHECK int bxc_fs_open_beneath(int root_fd, const char *path, int flags, mode_t mode,
	bxc_fs_resolve resolve, int *ret_fd, bxc_err **err);
/*
 * Opens (O_PATH) the folder that holds the last component of `path` without following that
 * component, and yields its name (owned). The root itself, and a path that ends in "..", give the
 * folder itself and ".". `in_root` chooses BXC_FS_IN_ROOT, else BXC_FS_BENEATH.
 */
BXC_MUST_CHECK int bxc_fs_open_parent(int root_fd, const char *path, bool in_root,
	int *ret_parent_fd, char **ret_name, bxc_err **err);

/* Called for each folder made, outermost first: fd is readable and borrowed, path is relative to
 * the root. */
typedef void (*bxc_fs_made_fn)(int dir_fd, const char *path, void *ud);
#define BXC_FS_KEEP_ID UINT32_MAX /* for uid, gid: leave what the kernel gave */
/*
 * Makes `path` and its missing parents in the root, as after chroot; dangling links on the way are
 * followed as if their targets were to be made. New folders get exactly mode, uid and gid (umask
 * does not count); existing ones stay. `made` and `ret_dir_fd` (O_PATH) may be NULL.
 */
BXC_MUST_CHECK int bxc_fs_mkdir_p(int root_fd, const char *path, mode_t mode, uint32_t uid,
	uint32_t gid, bxc_fs_made_fn made, void *ud, int *ret_dir_fd, bxc_err **err);
/* mkdir -p of a trusted path (absolute, or relative to dir_fd) with exact mode for new folders. */
BXC_MUST_CHECK int bxc_fs_make_dirs(int dir_fd, const char *path, mode_t mode, bxc_err **err);

/* Opens a trusted folder for reading. */
BXC_MUST_CHECK int bxc_fs_open_dir(int dir_fd, const char *path, int *ret_fd, bxc_err **err);

/*
 * Reads a regular file of at most max_bytes; the content replaces what `ret` (initialised) holds,
 * and max_bytes becomes its maximum. BXC_RESOURCE_EXHAUSTED for a larger file,
 * BXC_INVALID_ARGUMENT for anything that is no regular file.
 */
BXC_MUST_CHECK int bxc_fs_read_file(
	int dir_fd, const char *path, size_t max_bytes, bxc_buf *ret, bxc_err **err);
BXC_MUST_CHECK int bxc_fs_read_file_in_root(
	int root_fd, const char *path, size_t max_bytes, bxc_buf *ret, bxc_err **err);
/* A file that holds a secret as a line: without the ends of lines behind it; what was read is
 * wiped. Errors as bxc_fs_read_file. */
BXC_MUST_CHECK int bxc_fs_read_secret(
	int dir_fd, const char *path, size_t max_bytes, bxc_secret **ret, bxc_err **err);

/*
 * Replaces or makes the file `name`: temporary file, fsync, rename, fsync of the folder. Readers
 * see the old or the new content, also after a crash. `mode` is exact.
 */
BXC_MUST_CHECK int bxc_fs_write_atomic(
	int dir_fd, const char *name, const void *data, size_t n, mode_t mode, bxc_err **err);
BXC_MUST_CHECK int bxc_fs_sync_dir(int dir_fd, bxc_err **err);

/*
 * Removes the file or tree `name` of dir_fd (a single component). Follows no links and refuses to
 * cross a mount point (BXC_FAILED_PRECONDITION). What is absent already is a success. Depth of the
 * tree is unbounded and needs a bounded number of descriptors.
 */
BXC_MUST_CHECK int bxc_fs_rmtree(int dir_fd, const char *name, bxc_err **err);
/* unlinkat of a non-folder; absent is a success. */
BXC_MUST_CHECK int bxc_fs_unlink(int dir_fd, const char *name, bxc_err **err);
/* renameat2; `noreplace` fails with BXC_ALREADY_EXISTS when the target exists. */
BXC_MUST_CHECK int bxc_fs_rename(int from_dir_fd, const char *from, int to_dir_fd, const char *to,
	bool noreplace, bxc_err **err);

/*
 * The names in a folder without "." and "..", in byte order, as an owned strv (never NULL).
 * `path` "" or "." is dir_fd itself; its last component is not followed. BXC_RESOURCE_EXHAUSTED
 * beyond max_entries.
 */
BXC_MUST_CHECK int bxc_fs_list_dir(
	int dir_fd, const char *path, size_t max_entries, char ***ret_names, bxc_err **err);

/* Without following a link; name "" is dir_fd itself (O_PATH is fine). */
BXC_MUST_CHECK int bxc_fs_lstat(int dir_fd, const char *name, struct stat *ret, bxc_err **err);
/* As lstat, but absence is no error: 1 when it exists, 0 when not. */
BXC_MUST_CHECK int bxc_fs_lstat_opt(int dir_fd, const char *name, struct stat *ret, bxc_err **err);
/* Target of a link, owned; name "" reads an O_PATH|O_NOFOLLOW descriptor. */
BXC_MUST_CHECK int bxc_fs_readlink(int dir_fd, const char *name, char **ret_target, bxc_err **err);

/* Bytes of the file system that holds fd; `avail` is what an unprivileged user may still write. */
BXC_MUST_CHECK int bxc_fs_space(
	int fd, uint64_t *ret_total_bytes, uint64_t *ret_avail_bytes, bxc_err **err);

/*
 * Takes the exclusive lock of a lock file (made when absent); held until the descriptor is closed,
 * also by the death of the process. BXC_FAILED_PRECONDITION when another process holds it.
 */
BXC_MUST_CHECK int bxc_fs_lock(int dir_fd, const char *name, int *ret_lock_fd, bxc_err **err);
