/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space on a worker: what was used least recently goes while more is kept than allowed. Module
 * prefix: bxc_gc. Any thread; blocks on disk.
 *
 * Counted are layers, as large as their files, and blobs. A layer takes the blobs made of it along.
 * What a running step has pinned stays, and so does what was used within `keep_ns`. The cache
 * mounts of steps are not looked at.
 */
#pragma once

#include "worker/content/content.h"
#include "worker/snapshot/snapshot.h"

typedef struct bxc_gc_limits {
	uint64_t max_used; /* bytes kept at most; 0: any number */
	uint64_t min_free; /* bytes that the file system is to have free; 0: none */
	uint64_t reserved; /* bytes that are kept whatever min_free says */
	int64_t keep_ns;
} bxc_gc_limits;

typedef struct bxc_gc_result {
	char **layers;	     /* strv: gone; NULL: none */
	uint64_t used_bytes; /* kept, after the run */
	uint64_t freed_bytes;
} bxc_gc_result;
void bxc_gc_result_done(bxc_gc_result *r);

static inline bool bxc_gc_is_limited(const bxc_gc_limits *l)
{
	return l->max_used || l->min_free;
}

/* Bytes to be kept when `used` are and `avail` are free. */
uint64_t bxc_gc_target(const bxc_gc_limits *l, uint64_t used, uint64_t avail);

/*
 * One run. `dir_fd`: on the file system whose free space counts. `now_ns`: wall clock. `ret` is
 * zeroed by the caller and holds what went also after a failure.
 */
BXC_MUST_CHECK int bxc_gc_run(bxc_snap *snap, bxc_content *content, int dir_fd,
	const bxc_gc_limits *l, int64_t now_ns, bxc_gc_result *ret, bxc_err **err);
