/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layer tars and plain tars from folders. Module prefix: bxc_diff.
 *
 * The bytes depend only on what the folders hold: entries in order of their paths, numeric owners,
 * whole seconds, no other extended attribute than security.capability. Hard links within the tar
 * are kept. Sockets are left out. Any thread; blocks on disk.
 */
#pragma once

#include "common/base/err.h"
#include "common/codec/compress.h"
#include "common/loop/pool.h"
#include "common/tar/tar.h"

/*
 * Writes the layer tar of an overlay upper. lower_fd: a read-only mount of what lies below (see
 * bxc_snap_mount_ro), or -1 for nothing: then what the folder holds is all there is.
 *
 * Deleted files become ".wh.<name>"; a folder that replaced one (opaque) is compared with the one
 * below and yields single whiteouts. Folders and files that were copied up but are the same as
 * below are left out, unless they hold a change. Parents of all entries are included. A redirected
 * folder is an error. Later times than latest_s (seconds; INT64_MAX: none) become latest_s.
 * `cancel` may be NULL.
 */
BXC_MUST_CHECK int bxc_diff_write(int upper_fd, int lower_fd, int64_t latest_s, bxc_sink_fn sink, void *ud,
	bxc_cancel *cancel, bxc_err **err);

/*
 * Adds the whole tree of root_fd to a tar, below `prefix` ("linux_amd64"; NULL or "": at its root;
 * the prefix itself gets an entry). The root folder has no entry. Nothing is filtered: whiteouts
 * of a raw upper would appear as device nodes, so give a mount.
 */
BXC_MUST_CHECK int bxc_diff_write_tree(
	int root_fd, const char *prefix, bxc_tar_writer *w, bxc_cancel *cancel, bxc_err **err);
