/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tar streams. Reading on libarchive (the only place that sees it): ustar, pax, GNU. Writing by ourselves: pax, the bytes that Go's archive/tar gives, which depend
 * on nothing but the entries. Paths are bytes, not text; nothing here touches the file system.
 */
#pragma once

#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/codec/compress.h"

typedef enum bxc_tar_kind {
	BXC_TAR_UNKNOWN = 0,
	BXC_TAR_FILE,
	BXC_TAR_DIR,
	BXC_TAR_SYMLINK,
	BXC_TAR_HARDLINK,
	BXC_TAR_CHAR,
	BXC_TAR_BLOCK,
	BXC_TAR_FIFO,
} bxc_tar_kind;

typedef struct bxc_tar_xattr {
	const char *name;
	const void *value;
	size_t len;
} bxc_tar_xattr;

typedef struct bxc_tar_entry {
	bxc_tar_kind kind;
	const char *path;            /* as stored; a directory's trailing slash is dropped; may be hostile */
	const char *link;            /* target of a symlink or hardlink, else NULL */
	uint32_t mode;               /* permission bits with setuid, setgid, sticky: 07777 */
	uint32_t uid, gid;
	uint64_t size;               /* bytes of data that follow; files only */
	int64_t mtime_s;
	uint32_t mtime_ns;           /* written only when the writer keeps nanoseconds */
	uint32_t dev_major, dev_minor;
	const bxc_tar_xattr *xattrs; /* borrowed */
	size_t n_xattrs;
} bxc_tar_entry;

/* ---- reader (pull) ---- */
/* Fills p with up to n bytes; returns the count, 0 at the end, or a negative code. */
typedef ssize_t (*bxc_tar_source_fn)(void *p, size_t n, void *ud, bxc_err **err);
/* A source over memory: ud is a bxc_slice, which becomes what is left. */
ssize_t bxc_tar_slice_source(void *p, size_t n, void *ud, bxc_err **err);
typedef struct bxc_tar_reader bxc_tar_reader;
BXC_MUST_CHECK int bxc_tar_reader_new(bxc_tar_source_fn source, void *ud, bxc_tar_reader **ret, bxc_err **err);
/*
 * The same for a tar that may be compressed as a whole, which its first bytes tell: gzip, bzip2, xz, zstd.
 * Only one compression is undone, so a file that holds something else is no tar (DATA_LOSS, or no entry).
 */
BXC_MUST_CHECK int bxc_tar_reader_new_any(bxc_tar_source_fn source, void *ud, bxc_tar_reader **ret, bxc_err **err);
/*
 * 1: an entry (borrowed until the next call); 0: the end, and the source has been read to its own (padding may follow an
 * archive); negative: DATA_LOSS for a damaged archive.
 */
BXC_MUST_CHECK int bxc_tar_reader_next(bxc_tar_reader *r, const bxc_tar_entry **ret, bxc_err **err);
/* Data of the current file, in order, holes as zeroes: the count, 0 at its end, or negative. */
BXC_MUST_CHECK ssize_t bxc_tar_reader_read(bxc_tar_reader *r, void *p, size_t n, bxc_err **err);
void bxc_tar_reader_free(bxc_tar_reader *r);
BXC_DEFINE_CLEANUP(bxc_tar_reader, bxc_tar_reader_free);

/* Are these the first bytes (a few KiB) of a build context, and not of a Dockerfile: a tar, or what gzip, bzip2, xz or zstd made? */
bool bxc_tar_is_context(bxc_slice head);

/* ---- writer (push) ---- */
typedef struct bxc_tar_writer bxc_tar_writer;
typedef enum bxc_tar_flags {
	BXC_TAR_KEEP_NS = 1u << 0,   /* nanosecond mtimes as pax records; default: whole seconds */
} bxc_tar_flags;
BXC_MUST_CHECK int bxc_tar_writer_new(bxc_tar_flags flags, bxc_sink_fn sink, void *ud, bxc_tar_writer **ret, bxc_err **err);
/* Times of the entries that follow are moved into least_s..most_s, seconds; INT64_MIN, INT64_MAX: no bound. */
void bxc_tar_writer_bound_mtime(bxc_tar_writer *w, int64_t least_s, int64_t most_s);
/*
 * Header; for a file exactly entry->size bytes of data must follow by _data. Paths must be relative and
 * clean ("." is the root folder); folders get their trailing slash here. BXC_INVALID_ARGUMENT for what a
 * tar cannot hold.
 */
BXC_MUST_CHECK int bxc_tar_writer_entry(bxc_tar_writer *w, const bxc_tar_entry *e, bxc_err **err);
BXC_MUST_CHECK int bxc_tar_writer_data(bxc_tar_writer *w, const void *p, size_t n, bxc_err **err);
/* Two zero blocks, as Go's archive/tar: no padding to 10 KiB. */
BXC_MUST_CHECK int bxc_tar_writer_finish(bxc_tar_writer *w, bxc_err **err);
void bxc_tar_writer_free(bxc_tar_writer *w);
BXC_DEFINE_CLEANUP(bxc_tar_writer, bxc_tar_writer_free);
