/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layer store of a worker: unpacked layers, and overlay mounts made of them. Module prefix:
 * bxc_snap. On-disk form: FORMAT.md.
 *
 * A layer is a folder in the form of an overlay upper (deleted: character device 0:0, replaced
 * folder: trusted.overlay.opaque=y) and facts about it. It is made in a staging folder and appears
 * whole, by one rename, or not at all. Ids are "sha256:<hex>" or "l-<hex>": at most
 * BXC_SNAP_ID_MAX of [A-Za-z0-9.:-], starting with a letter.
 *
 * Durability is batched: a commit survives the death of the process at once, and a power loss after
 * the next bxc_snap_sync(), which a thread of the store calls within seconds. After a power loss
 * bxc_snap_open() drops the layers that no sync had covered, since their files may be torn: a layer
 * that is there is whole. What got lost is fetched or built again.
 *
 * A store may be used by several threads; a staging belongs to one. Needs root.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/err.h"
#include "common/codec/digest.h"
#include "common/loop/pool.h"
#include "common/tar/tar.h"

#define BXC_SNAP_ID_MAX 128u

typedef struct bxc_snap bxc_snap;
typedef struct bxc_snap_staging bxc_snap_staging;

typedef struct bxc_snap_facts {
	bxc_digest diff_id;  /* alg 0: not known */
	uint64_t size_bytes; /* of file contents */
} bxc_snap_facts;

/*
 * Opens or makes the store in `root` (made when missing) and takes its lock:
 * BXC_FAILED_PRECONDITION when another process has it. What an earlier run left half made is
 * thrown away. The file system must be able to hold an overlay upper.
 */
BXC_MUST_CHECK int bxc_snap_open(const char *root, bxc_snap **ret, bxc_err **err);
/* Syncs what is not. No staging may be left. */
void bxc_snap_free(bxc_snap *s);
BXC_DEFINE_CLEANUP(bxc_snap, bxc_snap_free);
BXC_MUST_CHECK int bxc_snap_sync(bxc_snap *s, bxc_err **err);

/* ---- layers ---- */
bool bxc_snap_has(bxc_snap *s, const char *id);
/* BXC_NOT_FOUND. */
BXC_MUST_CHECK int bxc_snap_get(bxc_snap *s, const char *id, bxc_snap_facts *ret, bxc_err **err);
/* The diff id of a layer that was made without one. BXC_NOT_FOUND. */
BXC_MUST_CHECK int bxc_snap_learn(
	bxc_snap *s, const char *id, const bxc_digest *diff_id, bxc_err **err);

typedef struct bxc_snap_info {
	char *id;
	uint64_t size_bytes;
	int64_t used_ns; /* wall clock: last commit, mount or pin in this run */
	bool is_pinned;
} bxc_snap_info;
typedef BXC_ARR(bxc_snap_info) bxc_snap_list;
void bxc_snap_list_layers(bxc_snap *s, bxc_snap_list *ret); /* in order of commit */
void bxc_snap_list_done(bxc_snap_list *l);
#define BXC_AUTOSNAPLIST BXC_CLEANUP(bxc_snap_list_done)

/* Keeps layers from being removed. All or none: BXC_NOT_FOUND with the detail "layer". */
BXC_MUST_CHECK int bxc_snap_pin(bxc_snap *s, const char *const *ids, size_t n, bxc_err **err);
void bxc_snap_unpin(bxc_snap *s, const char *const *ids, size_t n);
/* Gone at once; its files are deleted later and slowly (mass deletion makes ext4 slow at creating
 * files). Absent is a success; BXC_FAILED_PRECONDITION when pinned. */
BXC_MUST_CHECK int bxc_snap_remove(bxc_snap *s, const char *id, bxc_err **err);
/* Deletes now what waits to be deleted. */
BXC_MUST_CHECK int bxc_snap_empty_trash(bxc_snap *s, bxc_err **err);

/* ---- making a layer ---- */
/* A staging without layer id is a folder for scratch use: it can only be aborted. */
BXC_MUST_CHECK int bxc_snap_begin(
	bxc_snap *s, const char *id, bxc_snap_staging **ret, bxc_err **err);
/* The folder that becomes the layer; borrowed. */
int bxc_snap_staging_fd(const bxc_snap_staging *g);
/*
 * Ends the staging in every case. `facts` may be NULL; size_bytes 0 is measured. 0: committed; 1:
 * the layer was there already and this one was thrown away. No mount of the staging may be written
 * to any more.
 */
BXC_MUST_CHECK int bxc_snap_commit(bxc_snap_staging *g, const bxc_snap_facts *facts, bxc_err **err);
void bxc_snap_abort(bxc_snap_staging *g); /* NULL is fine */
static inline BXC_UNUSED void bxc_snap_staging_freep(bxc_snap_staging **g)
{
	bxc_snap_abort(*g);
}
#define BXC_AUTOSTAGING BXC_CLEANUP(bxc_snap_staging_freep)

/*
 * Writes the files of a layer tar into the folder of a staging, with OCI whiteouts as overlay's.
 * `source` yields the decompressed tar and is read to its end; *ret_diff_id is the SHA-256 of all
 * it gave, *ret_size the bytes of file contents. Nothing outside of the folder is touched whatever
 * the tar says: an entry that would leave it is BXC_INVALID_ARGUMENT naming it. After a failure the
 * folder holds a part. `cancel` may be NULL. Needs CAP_SYS_ADMIN, CAP_MKNOD, CAP_CHOWN.
 */
BXC_MUST_CHECK int bxc_snap_apply_tar(int dir_fd, bxc_tar_source_fn source, void *ud,
	bxc_cancel *cancel, bxc_digest *ret_diff_id, uint64_t *ret_size, bxc_err **err);

/* ---- mounts: detached (seen nowhere), used through *at() calls, gone with the descriptor ---- */
/* Layers are listed bottom first, one may be there several times; n may be 0. BXC_NOT_FOUND with the detail "layer" for one that is
 * absent. The caller pins them. A read-only mount of a single layer shows its folder as it is, with
 * whiteouts, which is what bxc_diff_write() takes as an upper. */
BXC_MUST_CHECK int bxc_snap_mount_ro(
	bxc_snap *s, const char *const *ids, size_t n, int *ret_mount_fd, bxc_err **err);
/* Writes land in the staging. Once for each staging. */
BXC_MUST_CHECK int bxc_snap_mount_rw(bxc_snap *s, const char *const *ids, size_t n,
	bxc_snap_staging *g, int *ret_mount_fd, bxc_err **err);
/* The same over one folder that is no layer (a context written out). */
BXC_MUST_CHECK int bxc_snap_mount_rw_dir(
	bxc_snap *s, int lower_dir_fd, bxc_snap_staging *g, int *ret_mount_fd, bxc_err **err);
