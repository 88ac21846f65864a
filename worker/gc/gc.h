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
#include "worker/exec/exec.h"
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

/* ---- what is kept, and what somebody wants gone ---- */

typedef enum bxc_gc_kind {
	BXC_GC_LAYER = 0, /* with the blobs made of it */
	BXC_GC_BLOB,	  /* of no layer: packs of contexts, what was fetched */
	BXC_GC_CACHE,	  /* a cache mount */
	BXC_GC_N_KINDS,
} bxc_gc_kind;
const char *bxc_gc_kind_name(bxc_gc_kind k); /* "layer", "blob", "cache" */

typedef struct bxc_gc_use {
	bxc_gc_kind kind;
	char *id;	 /* of a layer, digest of a blob, folder of a cache mount */
	char *about;	 /* id of a cache mount; NULL: nothing to say */
	uint64_t bytes;
	int64_t used_ns; /* wall clock; 0: not known */
	bool in_use;
} bxc_gc_use;
typedef BXC_ARR(bxc_gc_use) bxc_gc_uses;
void bxc_gc_uses_done(bxc_gc_uses *u);

/* What is kept, the least recently used first. exec NULL: no cache mounts. `ret` is zeroed or done. */
BXC_MUST_CHECK int bxc_gc_usage(
	bxc_snap *snap, bxc_content *content, bxc_exec *exec, bxc_gc_uses *ret, bxc_err **err);

typedef struct bxc_gc_wish {
	unsigned kinds;	      /* bits of bxc_gc_kind; 0: all */
	char *const *ids;     /* strv: beginnings of ids; NULL: all */
	char *const *keep;    /* strv: layers that builds need; NULL: none */
	int64_t unused_ns;    /* only what was not used for so long; 0: all */
	bxc_gc_limits space;  /* as long as more is kept than this; all zero: all that matches */
} bxc_gc_wish;

/* Removes it; what is in use stays. `ret_gone` holds what went also after a failure. */
BXC_MUST_CHECK int bxc_gc_prune(bxc_snap *snap, bxc_content *content, bxc_exec *exec, int dir_fd,
	const bxc_gc_wish *wish, int64_t now_ns, bxc_gc_uses *ret_gone, bxc_err **err);
