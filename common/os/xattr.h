/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes by descriptor. O_PATH descriptors work, so attributes of symbolic links and
 * device nodes are reached without opening them (through /proc/self/fd).
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/err.h"

/* Names in byte order as an owned strv (NULL when none). A file system without attributes has none.
 */
BXC_MUST_CHECK int bxc_xattr_list(int fd, char ***ret_names, bxc_err **err);
/* The value, at most BXC_LIMIT_XATTR bytes, replaces what `ret` (initialised) holds.
 * BXC_NOT_FOUND when there is no such attribute. */
BXC_MUST_CHECK int bxc_xattr_get(int fd, const char *name, bxc_buf *ret, bxc_err **err);
BXC_MUST_CHECK int bxc_xattr_set(
	int fd, const char *name, const void *value, size_t n, bxc_err **err);
/* Absent is a success. */
BXC_MUST_CHECK int bxc_xattr_remove(int fd, const char *name, bxc_err **err);
