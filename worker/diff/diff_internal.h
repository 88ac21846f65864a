/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/stat.h>

#include "common/base/arr.h"
#include "common/base/map.h"
#include "worker/diff/diff.h"

/* One run: where entries go, and what was written so far. */
typedef struct bxc_diff__out {
	bxc_tar_writer *w;
	bxc_cancel *cancel;
	bxc_map *links; /* "dev:ino" -> path in the tar of the first name; owned values */
	uint8_t *chunk;
	uint32_t n_entries;
} bxc_diff__out;

void bxc_diff__out_init(bxc_diff__out *o, bxc_tar_writer *w, bxc_cancel *cancel);
void bxc_diff__out_done(bxc_diff__out *o);

/* Writes the entry of (dir_fd, name) as `path`; st is its lstat. Sockets are passed over. */
BXC_MUST_CHECK int bxc_diff__put(bxc_diff__out *o, int dir_fd, const char *name,
	const struct stat *st, const char *path, bxc_err **err);
/* "dir/.wh.name" */
BXC_MUST_CHECK int bxc_diff__put_whiteout(
	bxc_diff__out *o, const char *dir, const char *name, bxc_err **err);
/* Bounds the number of entries looked at, and notices a cancel. */
BXC_MUST_CHECK int bxc_diff__count(bxc_diff__out *o, bxc_err **err);
char *bxc_diff__join(const char *dir, const char *name); /* owned; dir may be "" */
BXC_MUST_CHECK int bxc_diff__open_dir(int dir_fd, const char *name, int *ret_fd, bxc_err **err);

/*
 * 1 when the two are the same as far as a layer can tell (containerd's and BuildKit's rule: mode,
 * owner, device, security.capability; for others than folders also size and time, and the content
 * where both times have no nanoseconds), else 0.
 */
BXC_MUST_CHECK int bxc_diff__same(int a_dir_fd, const struct stat *a, int b_dir_fd,
	const struct stat *b, const char *name, bxc_err **err);
