/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File trees as values: walking them, ignore rules, their Merkle identity, and packs of contents.
 * Module prefix: bxc_fsync (the module), bxc_tree (the value). See FORMAT.md.
 */
#pragma once

#include <sys/types.h>

#include "common/base/arr.h"
#include "common/base/err.h"
#include "common/cas/cas.h"
#include "common/codec/compress.h"
#include "common/codec/digest.h"

/* ---- ignore rules: .dockerignore, as moby/patternmatcher reads it ---- */
typedef struct bxc_ignore bxc_ignore;
/* Text of an ignore file; `name` for messages ("<name>:<line>: ..."). Lines: '#' at column 0, '!',
 * '**'. */
BXC_MUST_CHECK int bxc_ignore_parse(
	bxc_slice text, const char *name, bxc_ignore **ret, bxc_err **err);
BXC_MUST_CHECK int bxc_ignore_from_patterns(char *const *patterns, bxc_ignore **ret, bxc_err **err);
void bxc_ignore_free(bxc_ignore *g);
BXC_DEFINE_CLEANUP(bxc_ignore, bxc_ignore_free);
/* Is `path` (relative, clean, no leading slash) excluded? A parent's match covers it. NULL: nothing
 * is. */
bool bxc_ignore_match(const bxc_ignore *g, const char *path);
/* May anything below the excluded directory `path` still be included by a '!' rule? */
bool bxc_ignore_may_include_below(const bxc_ignore *g, const char *path);
/* Is all of `path` left out, whatever lies below it? "." is the root. For warnings about sources
 * that cannot be there. */
bool bxc_ignore_leaves_out(const bxc_ignore *g, const char *path);
/* May a pattern that is no '!' rule match anything below the directory `path`? */
bool bxc_ignore_may_match_below(const bxc_ignore *g, const char *path);

/* Go's filepath.Match for one whole path: '*' and '?' stop at '/'. INVALID_ARGUMENT for a bad
 * pattern. */
BXC_MUST_CHECK int bxc_glob_match(const char *pattern, const char *path, bool *ret, bxc_err **err);
bool bxc_glob_has_meta(const char *pattern);
/* Bytes of the first component of a pattern: up to the next '/' that is not within brackets. */
size_t bxc_glob_component(const char *pattern);
/* path.Clean beneath "/": "a//b/../c" -> "/a/c"; always absolute; owned. */
char *bxc_path_clean(const char *p);

/* ---- trees ---- */
typedef struct bxc_tree_entry {
	char *path;    /* absolute within the tree: "/", "/a/b" */
	uint32_t mode; /* st_mode with the file type */
	uint32_t uid, gid;
	uint64_t size; /* files: bytes */
	int64_t mtime_ns;
	uint32_t dev_major, dev_minor;
	char *link; /* symlink target; hardlink: path of the first name (mode says regular) */
	bool is_hardlink;
	bxc_digest digest;		       /* content of files; unset when not hashed */
	BXC_ARR(struct bxc_tree_xattr) xattrs; /* sorted by name */
	/* where the content lies, when located (not part of the identity) */
	bxc_digest pack;
	uint64_t pack_off;
} bxc_tree_entry;
struct bxc_tree_xattr {
	char *name;
	uint8_t *value;
	size_t len;
};
/* Attributes of users and capabilities of files. Others belong to the machine that they are on:
 * walks leave them out, and nobody may set them from afar. */
bool bxc_tree_xattr_travels(const char *name);

/* Entries sorted so that a parent precedes its children, by path components. */
typedef struct bxc_tree {
	BXC_ARR(bxc_tree_entry) entries;
} bxc_tree;
bxc_tree *bxc_tree_new(void);
void bxc_tree_free(bxc_tree *t);
BXC_DEFINE_CLEANUP(bxc_tree, bxc_tree_free);
const bxc_tree_entry *bxc_tree_find(
	const bxc_tree *t, const char *path); /* binary search; NULL: absent */

#define BXC_TREE_BYTES_MAX (1u << 30) /* of an encoded tree; what peers take */
/* Versioned binary form (magic, bounded, canonical). `located` also carries pack and pack_off. */
BXC_MUST_CHECK int bxc_tree_encode(const bxc_tree *t, bool located, bxc_buf *out, bxc_err **err);
BXC_MUST_CHECK int bxc_tree_decode(bxc_slice in, bxc_tree **ret, bxc_err **err);

/* Trees whose encoding is shorter are not worth being told as changes, or being kept for that. */
#define BXC_TREE_DELTA_MIN (32u << 10)
/*
 * What makes one tree of another (FORMAT.md, "Changes"): sent instead of a tree to whoever has the
 * other. The digests are those of the trees' encodings, not located.
 */
BXC_MUST_CHECK int bxc_tree_delta_encode(const bxc_tree *base, const bxc_digest *base_digest,
	const bxc_tree *t, const bxc_digest *digest, bxc_buf *out, bxc_err **err);
/* 1: `in` holds changes of the tree *ret, and makes *ret_digest of it; 0: it is something else. */
BXC_MUST_CHECK int bxc_tree_delta_base(
	bxc_slice in, bxc_digest *ret, bxc_digest *ret_digest, bxc_err **err);
/* Takes `base` in every case. `in` is what bxc_tree_delta_base said 1 of. Whether *ret has the
 * digest that was promised is the caller's to check. */
BXC_MUST_CHECK int bxc_tree_delta_apply(
	bxc_tree *base, bxc_slice in, bxc_tree **ret, bxc_err **err);

/* ---- what an earlier walk found ---- */
/* By what a file is known to be the one that was read, beside its size and mtime. All 0: it is not.
 */
typedef struct bxc_tree_file_id {
	uint64_t dev, ino;
	int64_t ctime_ns;
} bxc_tree_file_id;
typedef BXC_ARR(bxc_tree_file_id) bxc_tree_file_ids;
typedef struct bxc_tree_index {
	bxc_tree *tree;
	bxc_digest digest;     /* of the tree's encoding */
	bxc_tree_file_ids ids; /* one for each entry of the tree */
} bxc_tree_index;
void bxc_tree_index_free(bxc_tree_index *x);
BXC_DEFINE_CLEANUP(bxc_tree_index, bxc_tree_index_free);
/* `tree` and `digest` are the encoding of the tree that the ids are of, and its digest. */
BXC_MUST_CHECK int bxc_tree_index_encode(bxc_slice tree, const bxc_digest *digest,
	const bxc_tree_file_ids *ids, bxc_buf *out, bxc_err **err);
/* DATA_LOSS: not what was written. */
BXC_MUST_CHECK int bxc_tree_index_decode(bxc_slice in, bxc_tree_index **ret, bxc_err **err);

/*
 * Walks root_fd. include: strv of paths or patterns (absolute, clean; Go Match per path; a matched
 * directory brings everything below; parents of matches are listed as directories); NULL: all.
 * Symlinks named by include are followed (beneath the root) and their targets included too
 * ("followpaths"). exclude: may be NULL. Excluded paths are left out even when included.
 */
typedef struct bxc_tree_walk_opts {
	char *const *include;
	const bxc_ignore *exclude;
	bool hash;	  /* read and hash file contents */
	bool reset_owner; /* uid = gid = 0 */
	bool want_xattrs;
	bool sockets_as_files; /* local contexts: sockets arrive as empty files; otherwise they are
				  left out */
	uint32_t max_entries;  /* 0: BXC_LIMIT_TREE_ENTRIES */
	const bxc_tree_index
		*known; /* of an earlier walk: files that are the same are not read; may be NULL */
	bxc_tree_file_ids
		*ids; /* where to put the ids for an index of this walk; NULL: not wanted */
} bxc_tree_walk_opts;
struct bxc_cancel;
BXC_MUST_CHECK int bxc_tree_walk(int root_fd, const bxc_tree_walk_opts *o,
	struct bxc_cancel *cancel, bxc_tree **ret, bxc_err **err);

/* ---- selections and content checksums  ---- */
typedef struct bxc_tree_select {
	const char *path; /* absolute path or pattern */
	bool wildcard;
	bool allow_empty;  /* a wildcard that matches nothing selects nothing */
	bool follow;	   /* follow a symlink at the end of the named path */
	bool dir_contents; /* a directory stands for its contents: its own header does not count */
	char *const *include; /* sub-patterns below the selected directory; NULL: all */
	char *const *exclude;
} bxc_tree_select;
/* Indices (into t->entries, ascending) of everything the selection covers. NOT_FOUND names the
 * path:
 * "\"/x\": not found". */
typedef BXC_ARR(size_t) bxc_tree_indices;
BXC_MUST_CHECK int bxc_tree_resolve(
	const bxc_tree *t, const bxc_tree_select *s, bxc_tree_indices *ret, bxc_err **err);
/* Digest of the selection: names below the selected roots, mode, owner, type, link, device, xattrs
 * (security.capability only among security.*), content; never mtime. Symlinks' modes count as 0777;
 * hard links hash as their target. A single file match hashes without its name's directory. */
BXC_MUST_CHECK int bxc_tree_checksum(
	const bxc_tree *t, const bxc_tree_select *s, bxc_digest *ret, bxc_err **err);

/* ---- packs: many contents in one stream ---- */
/*
 * The receiver asks for entries by index into a tree both sides hold; the sender streams
 * frames {u32 index, u64 size, bytes} inside one zstd stream. See FORMAT.md.
 */
typedef struct bxc_pack_sender bxc_pack_sender;
/* Sends the contents of `indices` of `t`, read from root_fd, to the sink. A file whose size or
 * mtime differs from the tree is ABORTED: "'x' changed while it was being sent". */
BXC_MUST_CHECK int bxc_pack_send(int root_fd, const bxc_tree *t, const uint32_t *indices, size_t n,
	bxc_sink_fn sink, void *ud, struct bxc_cancel *cancel, bxc_err **err);
/* Receives a stream (push) for the asked indices: verifies each content against its digest and
 * appends it to one blob in `store`. After finish, entries asked for carry pack and pack_off. */
typedef struct bxc_pack_receiver bxc_pack_receiver;
BXC_MUST_CHECK int bxc_pack_receiver_new(bxc_blob_store *store, bxc_tree *t,
	const uint32_t *indices, size_t n, bxc_pack_receiver **ret, bxc_err **err);
BXC_MUST_CHECK int bxc_pack_receiver_write(
	bxc_pack_receiver *r, const void *p, size_t n, bxc_err **err);
BXC_MUST_CHECK int bxc_pack_receiver_finish(
	bxc_pack_receiver *r, bxc_blob_info *ret_pack, bxc_err **err);
void bxc_pack_receiver_free(bxc_pack_receiver *r);
BXC_DEFINE_CLEANUP(bxc_pack_receiver, bxc_pack_receiver_free);
