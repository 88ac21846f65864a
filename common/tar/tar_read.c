/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading by libarchive. Names come out as the bytes of the archive in every locale: where
 * libarchive cannot convert a name to the locale's charset (any non-ASCII name in the C locale) it
 * keeps the raw bytes and returns ARCHIVE_WARN, which therefore is no end and no error. Every other
 * warning means that a part of a header was dropped, and counts as damage.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

#include "common/base/arr.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/tar/tar_internal.h"

#define IN_BUF	   (128u << 10)
#define XATTRS_MAX 1000u

struct bxc_tar_reader {
	struct archive *a;
	bxc_tar_source_fn source;
	void *ud;
	bxc_err *source_err; /* what the source failed with */
	int source_r;
	uint8_t *in;
	size_t n_head; /* bytes of `in` that were read ahead */
	bxc_tar_entry entry;
	char *path; /* without trailing slashes */
	BXC_ARR(bxc_tar_xattr) xattrs;
	uint64_t data_left;
	bool data_done; /* libarchive has no more; what is left is a hole */
	bool source_ended;
};

static la_ssize_t read_cb(struct archive *a, void *ud, const void **ret)
{
	bxc_tar_reader *r = ud;
	if (r->n_head) {
		size_t head = r->n_head;
		r->n_head = 0;
		*ret = r->in;
		return (la_ssize_t)head;
	}
	ssize_t n = r->source(r->in, IN_BUF, r->ud, r->source_err ? NULL : &r->source_err);
	if (n < 0) {
		r->source_r = (int)n;
		archive_set_error(a, EIO, "source failed");
		return ARCHIVE_FATAL;
	}
	r->source_ended = n == 0;
	*ret = r->in;
	return (la_ssize_t)n;
}

static int damaged(bxc_tar_reader *r, bxc_err **err)
{
	if (r->source_r < 0) {
		int code = r->source_r;
		r->source_r = 0;
		bxc_err *e = BXC_TAKE(r->source_err);
		return e ? bxc_err_move(err, e)
			 : bxc_err_set(err, (bxc_code)-code, "reading the archive failed");
	}
	const char *text = archive_error_string(r->a);
	return bxc_err_set(err, BXC_DATA_LOSS, "damaged tar: %s", text ? text : "unknown error");
}

static int invalid(const char *what, bxc_err **err)
{
	return bxc_err_set(err, BXC_DATA_LOSS, "damaged tar: %s", what);
}

/* zstd also begins with a frame that is to be skipped. */
static bool is_skippable_zstd(const bxc_tar_reader *r)
{
	return r->n_head >= 4 && (r->in[0] & 0xf0) == 0x50 &&
	       memcmp(r->in + 1, "\x2a\x4d\x18", 3) == 0;
}

/* Reads ahead to see how the whole is compressed. */
static int choose_filter(bxc_tar_reader *r, bxc_err **err)
{
	static const int filters[] = {[TAR_PLAIN] = ARCHIVE_FILTER_NONE,
		[TAR_BZIP2] = ARCHIVE_FILTER_BZIP2,
		[TAR_GZIP] = ARCHIVE_FILTER_GZIP,
		[TAR_XZ] = ARCHIVE_FILTER_XZ,
		[TAR_ZSTD] = ARCHIVE_FILTER_ZSTD};
	while (r->n_head < TAR_MAGIC_MAX) {
		ssize_t n = r->source(r->in + r->n_head, IN_BUF - r->n_head, r->ud, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		r->n_head += (size_t)n;
	}
	int filter = is_skippable_zstd(r) ? ARCHIVE_FILTER_ZSTD
					  : filters[tar_packing_of(bxc_slice_of(r->in, r->n_head))];
	if (filter != ARCHIVE_FILTER_NONE && archive_read_append_filter(r->a, filter) != ARCHIVE_OK)
		return bxc_err_set(err, BXC_UNIMPLEMENTED,
			"libarchive cannot undo this compression: %s", archive_error_string(r->a));
	return 0;
}

static int reader_new(
	bxc_tar_source_fn source, void *ud, bool any, bxc_tar_reader **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = bxc_calloc(1, sizeof(*r));
	r->source = source;
	r->ud = ud;
	r->in = bxc_malloc(IN_BUF);
	r->a = archive_read_new();
	bxc_check(r->a != NULL);
	/* Filters are never found by libarchive: a tar within a compressed tar must not be seen
	 * through. */
	int rc = any ? choose_filter(r, err) : 0;
	if (rc < 0)
		return rc;
	bxc_check(archive_read_support_format_tar(r->a) == ARCHIVE_OK);
	bxc_check(archive_read_support_format_empty(r->a) == ARCHIVE_OK);
	if (archive_read_open(r->a, r, NULL, read_cb, NULL) != ARCHIVE_OK)
		return damaged(r, err);
	*ret = BXC_TAKE(r);
	return 0;
}

int bxc_tar_reader_new(bxc_tar_source_fn source, void *ud, bxc_tar_reader **ret, bxc_err **err)
{
	return reader_new(source, ud, false, ret, err);
}

int bxc_tar_reader_new_any(bxc_tar_source_fn source, void *ud, bxc_tar_reader **ret, bxc_err **err)
{
	return reader_new(source, ud, true, ret, err);
}

static bool is_conversion(const char *text)
{
	return text && (strstr(text, "can't be converted") || strstr(text, "cannot be converted"));
}

static int take_xattrs(bxc_tar_reader *r, struct archive_entry *e, bxc_err **err)
{
	r->xattrs.n = 0;
	if (archive_entry_xattr_reset(e) > (int)XATTRS_MAX)
		return invalid("too many extended attributes", err);
	const char *name = NULL;
	const void *value = NULL;
	size_t n = 0;
	while (archive_entry_xattr_next(e, &name, &value, &n) == ARCHIVE_OK) {
		if (!name || !*name || strlen(name) > 255)
			return invalid("bad name of an extended attribute", err);
		if (n > BXC_LIMIT_XATTR)
			return invalid("extended attribute of more than 64 KiB", err);
		*bxc_arr_push(&r->xattrs) = (bxc_tar_xattr){name, value, n};
	}
	r->entry.xattrs = r->xattrs.v;
	r->entry.n_xattrs = r->xattrs.n;
	return 0;
}

static bxc_tar_kind kind_of(struct archive_entry *e)
{
	if (archive_entry_hardlink(e))
		return BXC_TAR_HARDLINK;
	switch (archive_entry_filetype(e)) {
	case AE_IFREG:
		return BXC_TAR_FILE;
	case AE_IFDIR:
		return BXC_TAR_DIR;
	case AE_IFLNK:
		return BXC_TAR_SYMLINK;
	case AE_IFCHR:
		return BXC_TAR_CHAR;
	case AE_IFBLK:
		return BXC_TAR_BLOCK;
	case AE_IFIFO:
		return BXC_TAR_FIFO;
	default:
		return BXC_TAR_UNKNOWN;
	}
}

static int take_numbers(bxc_tar_entry *t, struct archive_entry *e, bxc_err **err)
{
	la_int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);
	la_int64_t size = archive_entry_size_is_set(e) ? archive_entry_size(e) : 0;
	if (uid < 0 || uid > UINT32_MAX || gid < 0 || gid > UINT32_MAX)
		return invalid("owner out of range", err);
	if (size < 0)
		return invalid("negative size", err);
	t->mode = (uint32_t)archive_entry_perm(e) & 07777;
	t->uid = (uint32_t)uid;
	t->gid = (uint32_t)gid;
	t->size = t->kind == BXC_TAR_FILE ? (uint64_t)size : 0;
	t->mtime_s = archive_entry_mtime_is_set(e) ? archive_entry_mtime(e) : 0;
	long ns = archive_entry_mtime_is_set(e) ? archive_entry_mtime_nsec(e) : 0;
	t->mtime_ns = ns > 0 && ns < 1000000000 ? (uint32_t)ns : 0;
	if (t->kind == BXC_TAR_CHAR || t->kind == BXC_TAR_BLOCK) {
		dev_t major = archive_entry_rdevmajor(e), minor = archive_entry_rdevminor(e);
		if (major > UINT32_MAX || minor > UINT32_MAX)
			return invalid("device number out of range", err);
		t->dev_major = (uint32_t)major;
		t->dev_minor = (uint32_t)minor;
	}
	return 0;
}

static int take_entry(bxc_tar_reader *r, struct archive_entry *e, bxc_err **err)
{
	bxc_tar_entry *t = &r->entry;
	*t = (bxc_tar_entry){.kind = kind_of(e)};
	const char *path = archive_entry_pathname(e);
	if (bxc_str_empty(path))
		return invalid("entry without a name", err);
	if (strlen(path) >= BXC_LIMIT_PATH)
		return invalid("name of more than 4095 bytes", err);
	free(r->path);
	r->path = bxc_strdup(path);
	for (size_t n = strlen(r->path); n > 1 && r->path[n - 1] == '/'; n--)
		r->path[n - 1] = '\0';
	t->path = r->path;
	if (t->kind == BXC_TAR_HARDLINK)
		t->link = archive_entry_hardlink(e);
	else if (t->kind == BXC_TAR_SYMLINK)
		t->link = archive_entry_symlink(e);
	if ((t->kind == BXC_TAR_HARDLINK || t->kind == BXC_TAR_SYMLINK) && bxc_str_empty(t->link))
		return invalid("link without a target", err);
	if (t->link && strlen(t->link) >= BXC_LIMIT_PATH)
		return invalid("link target of more than 4095 bytes", err);
	int rc = take_numbers(t, e, err);
	return rc < 0 ? rc : take_xattrs(r, e, err);
}

/* Behind the end of the archive is padding, and behind that the source's own end, which whoever
 * sends the archive waits for. */
static int drain(bxc_tar_reader *r, bxc_err **err)
{
	while (!r->source_ended) {
		ssize_t n = r->source(r->in, IN_BUF, r->ud, err);
		if (n < 0)
			return (int)n;
		r->source_ended = n == 0;
	}
	return 0;
}

int bxc_tar_reader_next(bxc_tar_reader *r, const bxc_tar_entry **ret, bxc_err **err)
{
	struct archive_entry *e = NULL;
	int rc;
	do {
		rc = archive_read_next_header(r->a, &e);
	} while (rc == ARCHIVE_RETRY);
	if (rc == ARCHIVE_EOF)
		return drain(r, err);
	if (rc != ARCHIVE_OK && !(rc == ARCHIVE_WARN && is_conversion(archive_error_string(r->a))))
		return damaged(r, err);
	rc = take_entry(r, e, err);
	if (rc < 0)
		return rc;
	r->data_left = r->entry.size;
	r->data_done = false;
	*ret = &r->entry;
	return 1;
}

ssize_t bxc_tar_reader_read(bxc_tar_reader *r, void *p, size_t n, bxc_err **err)
{
	n = (size_t)BXC_MIN((uint64_t)BXC_MIN(n, (size_t)1 << 30), r->data_left);
	if (n == 0)
		return 0;
	if (!r->data_done) {
		la_ssize_t got = archive_read_data(r->a, p, n);
		if (got < 0)
			return damaged(r, err);
		if (got > 0) {
			r->data_left -= (uint64_t)got;
			return got;
		}
		r->data_done = true;
	}
	/* A sparse file that ends in a hole. */
	memset(p, 0, n);
	r->data_left -= n;
	return (ssize_t)n;
}

void bxc_tar_reader_free(bxc_tar_reader *r)
{
	if (!r)
		return;
	archive_read_free(r->a);
	bxc_err_free(r->source_err);
	bxc_arr_done(&r->xattrs);
	free(r->path);
	free(r->in);
	free(r);
}

ssize_t bxc_tar_slice_source(void *p, size_t n, void *ud, bxc_err **err)
{
	(void)err;
	bxc_slice *s = ud;
	n = BXC_MIN(n, s->n);
	if (n == 0)
		return 0;
	memcpy(p, s->p, n);
	s->p += n;
	s->n -= n;
	return (ssize_t)n;
}
