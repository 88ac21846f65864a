/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The blob store: content-addressed bytes. Module prefix: bxc_blob. Backends: local (a folder),
 * mem (tests). One conformance suite runs on every backend.
 *
 * Durability: commit returns after bytes, fsync, rename and directory fsync. A blob that is
 * visible is whole. bxc_blob_open() gives the bytes as they are, bxc_blob_read() verifies them; what
 * a peer sends is verified by the writer's expected digest.
 * Threads: a store may be used by several threads; readers and writers belong to one thread.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/codec/digest.h"

typedef struct bxc_blob_store bxc_blob_store;
typedef struct bxc_blob_writer bxc_blob_writer;

typedef struct bxc_blob_info {
	bxc_digest digest;
	uint64_t size;               /* bytes */
	int64_t used_ns;             /* of stat and list: wall clock of the last commit or freshening; 0: not kept */
} bxc_blob_info;

/* What a backend provides; NULL slots are not allowed. See the wrappers below for the contracts. */
typedef struct bxc_blob_vtable {
	const char *name;
	int (*stat)(bxc_blob_store *s, const bxc_digest *d, bxc_blob_info *ret, bxc_err **err);
	int (*open)(bxc_blob_store *s, const bxc_digest *d, int *ret_fd, uint64_t *ret_size, bxc_err **err);
	int (*begin)(bxc_blob_store *s, bxc_blob_writer **ret, bxc_err **err);
	int (*append)(bxc_blob_writer *w, const void *p, size_t n, bxc_err **err);
	int (*commit)(bxc_blob_writer *w, const bxc_digest *d, bxc_err **err);   /* d: of what was appended */
	void (*abort)(bxc_blob_writer *w);
	int (*remove)(bxc_blob_store *s, const bxc_digest *d, bxc_err **err);
	int (*freshen)(bxc_blob_store *s, const bxc_digest *d, bxc_err **err);
	int (*quarantine)(bxc_blob_store *s, const bxc_digest *d, bxc_err **err);
	int (*list)(bxc_blob_store *s, int (*fn)(const bxc_blob_info *i, void *ud), void *ud, bxc_err **err);
	void (*free)(bxc_blob_store *s);
} bxc_blob_vtable;

struct bxc_blob_store {
	const bxc_blob_vtable *vt;
};
struct bxc_blob_writer {
	bxc_blob_store *store;
	bxc_hasher *hasher;          /* fed by the wrapper */
	uint64_t size;
};

/* Folder layout: <dir>/blobs/sha256/<2 hex>/<64 hex>, <dir>/tmp, <dir>/quarantine. Leftovers in tmp are removed. */
BXC_MUST_CHECK int bxc_blob_local_open(const char *dir, bxc_blob_store **ret, bxc_err **err);
bxc_blob_store *bxc_blob_mem_new(void);
void bxc_blob_store_free(bxc_blob_store *s);
BXC_DEFINE_CLEANUP(bxc_blob_store, bxc_blob_store_free);

BXC_MUST_CHECK int bxc_blob_stat(bxc_blob_store *s, const bxc_digest *d, bxc_blob_info *ret, bxc_err **err);   /* NOT_FOUND */
bool bxc_blob_has(bxc_blob_store *s, const bxc_digest *d);
/* A seekable read-only fd, owned by the caller, and the size. */
BXC_MUST_CHECK int bxc_blob_open(bxc_blob_store *s, const bxc_digest *d, int *ret_fd, uint64_t *ret_size, bxc_err **err);
/* Reads the whole blob into `out` (bounded by its maximum), verifying the digest: DATA_LOSS quarantines it. */
BXC_MUST_CHECK int bxc_blob_read(bxc_blob_store *s, const bxc_digest *d, bxc_buf *out, bxc_err **err);

BXC_MUST_CHECK int bxc_blob_begin(bxc_blob_store *s, bxc_blob_writer **ret, bxc_err **err);
BXC_MUST_CHECK int bxc_blob_append(bxc_blob_writer *w, const void *p, size_t n, bxc_err **err);
/* Ends the writer in every case. want NULL: whatever came; else DATA_LOSS when the bytes differ. 0 or 1 (was there). */
BXC_MUST_CHECK int bxc_blob_commit(bxc_blob_writer *w, const bxc_digest *want, bxc_blob_info *ret, bxc_err **err);
void bxc_blob_abort(bxc_blob_writer *w);                                   /* NULL is fine */
BXC_DEFINE_CLEANUP(bxc_blob_writer, bxc_blob_abort);
BXC_MUST_CHECK int bxc_blob_put(bxc_blob_store *s, const void *p, size_t n, bxc_blob_info *ret, bxc_err **err);
BXC_MUST_CHECK int bxc_blob_remove(bxc_blob_store *s, const bxc_digest *d, bxc_err **err);   /* absent: success */
BXC_MUST_CHECK int bxc_blob_freshen(bxc_blob_store *s, const bxc_digest *d, bxc_err **err);  /* marks as just used; NOT_FOUND */
/* Moves a blob found damaged aside, so that it is fetched again; NOT_FOUND. */
BXC_MUST_CHECK int bxc_blob_quarantine(bxc_blob_store *s, const bxc_digest *d, bxc_err **err);
typedef struct bxc_blob_check {
	uint64_t n, bytes, n_bad;
} bxc_blob_check;
/* Reads every blob; one that is not what its digest says is told of and quarantined. */
BXC_MUST_CHECK int bxc_blob_check_all(bxc_blob_store *s, void (*bad)(const bxc_blob_info *i, const char *why, void *ud), void *ud,
	bxc_blob_check *ret, bxc_err **err);
/* Calls fn for each blob; a result other than 0 ends the walk and is returned. fn may call the store. */
BXC_MUST_CHECK int bxc_blob_list(bxc_blob_store *s, int (*fn)(const bxc_blob_info *i, void *ud), void *ud, bxc_err **err);
