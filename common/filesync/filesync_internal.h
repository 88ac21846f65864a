/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this module share. */
#pragma once

#include <sys/stat.h>

#include "common/filesync/filesync.h"

#define FSYNC_CHUNK	 (256u << 10) /* bytes of one read */
#define FSYNC_NONE	 SIZE_MAX     /* no such entry */
#define FSYNC_XATTRS_MAX 1024u	      /* attributes of one entry */
#define FSYNC_XATTR_NAME 255u	      /* bytes; XATTR_NAME_MAX */

/* Order of entries: byte-wise with '/' before every other byte, so that a folder's content follows
 * it. */
int fsync_path_cmp(const char *a, const char *b);
size_t fsync_find(const bxc_tree *t, const char *path); /* index or FSYNC_NONE */
size_t fsync_find_parent(
	const bxc_tree *t, const char *path); /* of the folder above; the root's is itself */
bool fsync_is_below(const char *path, const char *dir); /* strictly; both absolute and clean */
void fsync_entry_done(bxc_tree_entry *e);
int64_t fsync_mtime_ns(const struct stat *st);
int64_t fsync_ctime_ns(const struct stat *st);

/* ---- the binary form of entries (tree.c) ---- */
/* What is known of the entries so far; paths are borrowed. */
typedef struct fsync_order {
	const char *last;
	BXC_ARR(const char *)
	dirs; /* folders that the last entry lies below, or is, outermost first */
} fsync_order;
void fsync_order_done(fsync_order *o);
/* May e be the next entry of a tree? */
BXC_MUST_CHECK int fsync_check_entry(fsync_order *o, const bxc_tree_entry *e, bxc_err **err);
BXC_MUST_CHECK int fsync_check_hardlinks(const bxc_tree *t, bxc_err **err);

typedef struct fsync_enc {
	bxc_buf *b;
	bxc_err **err;
	int r; /* the first failure; later writes do nothing */
} fsync_enc;
void fsync_put(fsync_enc *c, const void *p, size_t n);
void fsync_put_int(fsync_enc *c, uint64_t v, unsigned bytes);
void fsync_put_entry(fsync_enc *c, const bxc_tree_entry *e, bool located);

typedef struct fsync_dec {
	bxc_slice in; /* what is left */
	bool bad;     /* input ended early, or text with a NUL */
} fsync_dec;
const uint8_t *fsync_get(fsync_dec *d, size_t n); /* NULL when bad */
uint64_t fsync_get_int(fsync_dec *d, unsigned bytes);
void fsync_get_digest(fsync_dec *d, bxc_digest *ret);
/* *e is to be freed in every case. */
BXC_MUST_CHECK int fsync_get_entry(fsync_dec *d, bool located, bxc_tree_entry *e, bxc_err **err);

/* Go's path.Clean: a relative path stays relative, "" gives ".". Owned. */
char *fsync_clean(const char *p);
/* The rune at s and its length in bytes; a byte that is no UTF-8 stands for itself, beyond Unicode.
 */
size_t fsync_rune(const char *s, uint32_t *ret);
/* p is behind '['. Returns what is behind ']', or NULL for bad syntax; *ret: is r in the class? */
const char *fsync_class(const char *p, uint32_t r, bool *ret);
bool fsync_glob_valid(const char *pattern);
/* bxc_glob_match for a pattern that is known to be valid. */
bool fsync_glob_match(const char *pattern, const char *path);
