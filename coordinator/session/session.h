/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Client sessions: what the coordinator may ask a client for. Module prefix: bxc_sess.
 *
 * The table is of the loop. The asking functions block and may be used from pool threads: they
 * take a bxc_sess_ref, a counted handle that outlives the client's channel.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/secret.h"
#include "common/channel/channel.h"
#include "common/filesync/filesync.h"

typedef struct bxc_sess bxc_sess;
typedef struct bxc_sess_ref bxc_sess_ref;

bxc_sess *bxc_sess_new(void);
void bxc_sess_free(bxc_sess *s);
BXC_DEFINE_CLEANUP(bxc_sess, bxc_sess_free);

/* ---- loop ---- */
void bxc_sess_add(bxc_sess *s, bxc_chan *c);                 /* c is borrowed until removed */
/* A session of an earlier run of the coordinator, whose client may come back: a new reference. */
bxc_sess_ref *bxc_sess_expect(bxc_sess *s, const char *session_id);
/* It did, by this channel (borrowed until removed). False: it was not expected. */
bool bxc_sess_return(bxc_sess *s, const char *session_id, bxc_chan *c);
void bxc_sess_remove(bxc_sess *s, const char *session_id);   /* streams under way fail with UNAVAILABLE */
/* A new reference, or NULL when there is no such session. */
bxc_sess_ref *bxc_sess_find(bxc_sess *s, const char *session_id);
size_t bxc_sess_count(const bxc_sess *s);

/* ---- any thread ---- */
bxc_sess_ref *bxc_sess_ref_ref(bxc_sess_ref *r);
void bxc_sess_ref_unref(bxc_sess_ref *r);
BXC_DEFINE_CLEANUP(bxc_sess_ref, bxc_sess_ref_unref);
const char *bxc_sess_id(const bxc_sess_ref *r);
/* UNAVAILABLE: "the client has gone". */
BXC_MUST_CHECK int bxc_sess_open(bxc_sess_ref *r, const char *kind, const char *name, bool bulk, bxc_chan_stream **ret, bxc_err **err);

/* The tree of a local context. */
typedef struct bxc_scanned {
	bxc_tree *tree;
	bxc_digest digest;           /* of its encoding */
	bxc_buf text;                /* its encoding */
	bool is_new;                 /* the next answer may be told as changes of it, if it is put into the store */
} bxc_scanned;
void bxc_scanned_done(bxc_scanned *s);
/* Asks for it. include: strv or NULL. A client that knows what it answered the last time tells what changed, of a tree in `blobs`. */
BXC_MUST_CHECK int bxc_sess_scan(bxc_sess_ref *r, const char *context, char *const *include, bxc_blob_store *blobs,
	bxc_cancel *cancel, bxc_scanned *ret, bxc_err **err);
/* Asks for the contents of `indices` of the tree; they land in one blob and the entries carry their place. */
typedef void (*bxc_sess_progress)(uint64_t bytes, void *ud);
BXC_MUST_CHECK int bxc_sess_fetch(bxc_sess_ref *r, const char *context, const bxc_digest *tree_digest, bxc_tree *tree,
	const uint32_t *indices, size_t n, bxc_blob_store *blobs, bxc_cancel *cancel, bxc_sess_progress progress, void *ud,
	bxc_blob_info *ret_pack, bxc_err **err);
/* Asks for a blob of an OCI layout, verified; `out` bounds it. */
BXC_MUST_CHECK int bxc_sess_layout_blob(bxc_sess_ref *r, const char *store, const bxc_digest *d, bxc_cancel *cancel,
	bxc_buf *out, bxc_err **err);
/* The same of one of the client's caches, by the number of its --cache-from. */
BXC_MUST_CHECK int bxc_sess_cache_blob(bxc_sess_ref *r, uint32_t cache, const bxc_digest *d, bxc_cancel *cancel,
	bxc_buf *out, bxc_err **err);
/* Asks for registry credentials; neither set: the client has none. */
BXC_MUST_CHECK int bxc_sess_token(bxc_sess_ref *r, const char *domain, const char *scope, const char *realm,
	const char *service, bxc_cancel *cancel, bxc_secret **ret_token, bxc_secret **ret_basic, bxc_err **err);
