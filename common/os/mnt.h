/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts by the descriptor-based API (fsopen, fsconfig, fsmount, open_tree, move_mount).
 *
 * A mount descriptor is a detached mount: it is seen nowhere until bxc_mnt_move() attaches it, and
 * goes when it is closed before. Errors carry what the kernel logged in the file system context.
 */
#pragma once

#include <sys/mount.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/err.h"

typedef enum bxc_mnt_overlay_flags {
	BXC_MNT_OVERLAY_VOLATILE = 1u << 0,  /* no syncs; upper and work are for one mount only */
	BXC_MNT_OVERLAY_USERXATTR = 1u << 1, /* user.overlay.*: needed in a user namespace */
	BXC_MNT_OVERLAY_OLD_API =
		1u << 2, /* mount(2) as on Linux before 6.7; for tests of that path */
} bxc_mnt_overlay_flags;

/*
 * An overlay of n_lowers folders, topmost first, as a detached mount. Without `upper` it is
 * read-only and `work` is not used. Paths may be "/proc/self/fd/N".
 *
 * What overlayfs refuses is built from other mounts, with the same view:
 *   one lower, no upper     a read-only clone of that folder's mount
 *   no lower, an upper      a clone of the upper folder: what is written lands there as in an upper
 *   neither                 an empty, read-only tmpfs
 * Clones do not contain submounts.
 *
 * Linux before 6.7 takes the lowers in one option of a page: BXC_RESOURCE_EXHAUSTED beyond it.
 */
BXC_MUST_CHECK int bxc_mnt_overlay(const char *const *lowers, size_t n_lowers, const char *upper,
	const char *work, bxc_mnt_overlay_flags flags, int *ret_mount_fd, bxc_err **err);

/*
 * A new instance of a file system type. options: strv of "key=value" or "key" ("source=x" sets the
 * source), may be NULL. attrs: MOUNT_ATTR_RDONLY, _NOSUID, _NODEV, _NOEXEC, ...
 */
BXC_MUST_CHECK int bxc_mnt_new(const char *fs_type, char *const *options, unsigned attrs,
	int *ret_mount_fd, bxc_err **err);
/* nosuid, nodev; size_bytes 0: the kernel's default. */
BXC_MUST_CHECK int bxc_mnt_tmpfs(
	uint64_t size_bytes, mode_t mode, int *ret_mount_fd, bxc_err **err);
/* A detached bind mount of (dir_fd, path); path "" is dir_fd itself. Does not follow a last link.
 */
BXC_MUST_CHECK int bxc_mnt_bind_clone(int dir_fd, const char *path, bool recursive, unsigned attrs,
	int *ret_mount_fd, bxc_err **err);
/* Sets attributes of a mount (and all below it). */
BXC_MUST_CHECK int bxc_mnt_set_attrs(
	int mount_fd, unsigned set, unsigned clear, bool recursive, bxc_err **err);
/* Attaches at (dir_fd, path) without following a last link; path "" is dir_fd itself. */
BXC_MUST_CHECK int bxc_mnt_move(int mount_fd, int dir_fd, const char *path, bxc_err **err);
/* Lazy unmount without following a last link; not mounted is a success. */
BXC_MUST_CHECK int bxc_mnt_detach(const char *path, bxc_err **err);
/* Detaches every mount at or below an absolute path, innermost first. For leftovers of an earlier
 * run. */
BXC_MUST_CHECK int bxc_mnt_detach_below(const char *path, bxc_err **err);
/* Makes propagation of `path` and all below private. */
BXC_MUST_CHECK int bxc_mnt_make_private(const char *path, bxc_err **err);

typedef struct bxc_mnt_entry {
	uint64_t id;
	uint64_t parent_id;
	unsigned dev_major;
	unsigned dev_minor;
	char *root; /* within the file system; unescaped, as the others */
	char *mount_point;
	char *options; /* of the mount */
	char *fs_type;
	char *source;
	char *super_options;
} bxc_mnt_entry;

typedef struct bxc_mnt_table {
	bxc_mnt_entry *v; /* in the order of the kernel: a mount comes after what it covers */
	size_t n;
} bxc_mnt_table;

/* /proc/self/mountinfo, at most 16 MiB. */
BXC_MUST_CHECK int bxc_mnt_read_table(bxc_mnt_table *ret, bxc_err **err);
BXC_MUST_CHECK int bxc_mnt_parse_table(bxc_slice text, bxc_mnt_table *ret, bxc_err **err);
void bxc_mnt_table_done(bxc_mnt_table *t);
#define BXC_AUTOMNTTABLE BXC_CLEANUP(bxc_mnt_table_done)
