/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing, with the bytes of Go's archive/tar for Format: FormatPAX (archive/tar/writer.go,
 * writePAXHeader, templateV7Plus; strconv.go), so that layers come out as BuildKit's do. Not by
 * libarchive: its headers depend on the locale, and it marks every name as BINARY outside of UTF-8.
 */
#include <inttypes.h>
#include <string.h>

#include "common/base/arr.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/tar/tar.h"

#define BLOCK	512
#define PAX_MAX (1u << 20) /* Go's maxSpecialFileSize: readers refuse more */

/* The ustar header (POSIX.1-1988): offset and size of each field. */
enum {
	NAME = 0,
	NAME_LEN = 100,
	MODE = 100,
	UID = 108,
	GID = 116,
	ID_LEN = 8,
	SIZE = 124,
	MTIME = 136,
	NUM_LEN = 12,
	CHECKSUM = 148,
	TYPE = 156,
	LINK = 157,
	LINK_LEN = 100,
	MAGIC = 257,
	DEV_MAJOR = 329,
	DEV_MINOR = 337,
};

typedef struct record {
	char *key;
	char *value; /* `n` bytes */
	size_t n;
} record;

struct bxc_tar_writer {
	bxc_tar_flags flags;
	bxc_sink_fn sink;
	void *ud;
	uint64_t left; /* data still due for the current file */
	uint64_t padding;
	bool dead; /* failed or finished */
	int64_t least_s, most_s;
	BXC_ARR(record) records;
};

int bxc_tar_writer_new(
	bxc_tar_flags flags, bxc_sink_fn sink, void *ud, bxc_tar_writer **ret, bxc_err **err)
{
	(void)err;
	bxc_tar_writer *w = bxc_calloc(1, sizeof(*w));
	w->flags = flags;
	w->least_s = INT64_MIN;
	w->most_s = INT64_MAX;
	w->sink = sink;
	w->ud = ud;
	*ret = w;
	return 0;
}

static void clear_records(bxc_tar_writer *w)
{
	BXC_ARR_FOREACH (r, &w->records) {
		free(r->key);
		free(r->value);
	}
	w->records.n = 0;
}

void bxc_tar_writer_free(bxc_tar_writer *w)
{
	if (!w)
		return;
	clear_records(w);
	bxc_arr_done(&w->records);
	free(w);
}

static int emit(bxc_tar_writer *w, const void *p, size_t n, bxc_err **err)
{
	if (n == 0)
		return 0;
	int r = w->sink(p, n, w->ud, err);
	if (r < 0)
		w->dead = true;
	return r < 0 ? r : 0;
}

static void add_record(bxc_tar_writer *w, const char *key, const void *value, size_t n)
{
	*bxc_arr_push(&w->records) = (record){bxc_strdup(key), bxc_memdup(value, n), n};
}

static void add_text(bxc_tar_writer *w, const char *key, const char *value)
{
	add_record(w, key, value, strlen(value));
}

static bool is_ascii(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s >= 0x80)
			return false;
	return true;
}

/* ---- header blocks ---- */

/* Bytes beyond ASCII are left out: the pax record has the whole. A cut must not end in a slash. */
static void put_string(uint8_t *field, size_t cap, const char *s)
{
	size_t n = 0;
	bool cut = false;
	for (; *s; s++) {
		if ((unsigned char)*s >= 0x80)
			continue;
		cut = n == cap;
		if (cut)
			break;
		field[n++] = (uint8_t)*s;
	}
	if (!cut || field[cap - 1] != '/')
		return;
	while (n && field[n - 1] == '/')
		field[--n] = 0;
}

static bool fits_octal(size_t cap, int64_t v)
{
	return v >= 0 && v < INT64_C(1) << (3 * (cap - 1));
}

/* Zero where the number does not fit and a pax record has it. */
static void put_octal(uint8_t *field, size_t cap, int64_t v)
{
	if (!fits_octal(cap, v))
		v = 0;
	field[cap - 1] = 0;
	for (size_t i = cap - 1; i-- > 0; v >>= 3)
		field[i] = (uint8_t)('0' + (v & 7));
}

static void seal(uint8_t *b)
{
	unsigned sum = 0;
	memcpy(b + MAGIC,
		"ustar\0"
		"00",
		8);
	memset(b + CHECKSUM, ' ', 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += b[i];
	put_octal(b + CHECKSUM, 7, sum);
	b[CHECKSUM + 7] = ' ';
}

static int cmp_records(const void *a, const void *b)
{
	return strcmp(((const record *)a)->key, ((const record *)b)->key);
}

/* "<length> <key>=<value>\n", where the length counts itself. */
static int put_record(bxc_buf *b, const record *r, bxc_err **err)
{
	size_t size = strlen(r->key) + r->n + 3, digits = 1;
	for (size_t limit = 10; size + digits >= limit; limit *= 10)
		digits++;
	int rc = bxc_buf_appendf(b, err, "%zu %s=", size + digits, r->key);
	if (rc == 0)
		rc = bxc_buf_append(b, r->value, r->n, err);
	return rc < 0 ? rc : bxc_buf_append(b, "\n", 1, err);
}

/* "a/b/f" -> "a/b/PaxHeaders.0/f"; "a/b/" -> "a/b/PaxHeaders.0" */
static char *pax_name(const char *name)
{
	const char *slash = strrchr(name, '/');
	if (strcmp(name, "./") == 0)
		return bxc_strdup("PaxHeaders.0");
	size_t dir = slash ? (size_t)(slash - name) + 1 : 0;
	return bxc_str_fmt(
		"%.*sPaxHeaders.0%s%s", (int)dir, name, name[dir] ? "/" : "", name + dir);
}

static int put_padding(bxc_tar_writer *w, uint64_t size, bxc_err **err)
{
	static const uint8_t zeroes[BLOCK];
	return emit(w, zeroes, (size_t)((BLOCK - size % BLOCK) % BLOCK), err);
}

static int write_pax(bxc_tar_writer *w, const char *name, bxc_err **err)
{
	if (w->records.n == 0)
		return 0;
	qsort(w->records.v, w->records.n, sizeof(*w->records.v), cmp_records);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(PAX_MAX);
	for (size_t i = 0; i < w->records.n; i++) {
		if (i && strcmp(w->records.v[i - 1].key, w->records.v[i].key) == 0)
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "extended attribute given twice");
		if (put_record(&b, &w->records.v[i], NULL) < 0)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"names and extended attributes of more than 1 MiB");
	}
	BXC_AUTOFREE char *pax = pax_name(name);
	uint8_t block[BLOCK] = {0};
	put_string(block + NAME, NAME_LEN, pax);
	put_octal(block + MODE, ID_LEN, 0);
	put_octal(block + UID, ID_LEN, 0);
	put_octal(block + GID, ID_LEN, 0);
	put_octal(block + SIZE, NUM_LEN, (int64_t)b.len);
	put_octal(block + MTIME, NUM_LEN, 0);
	block[TYPE] = 'x';
	seal(block);
	int r = emit(w, block, BLOCK, err);
	if (r == 0)
		r = emit(w, b.data, b.len, err);
	return r < 0 ? r : put_padding(w, b.len, err);
}

/* ---- entries ---- */

static int check_entry(const bxc_tar_entry *e, bxc_err **err)
{
	bool linked = e->kind == BXC_TAR_SYMLINK || e->kind == BXC_TAR_HARDLINK;
	bool root = e->kind == BXC_TAR_DIR && bxc_str_eq(e->path, ".");
	size_t n = e->path ? strlen(e->path) : 0;
	if (n >= BXC_LIMIT_PATH || (!root && !bxc_str_is_clean_path(e->path, n)))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "not a clean relative path: '%.200s'",
			e->path ? e->path : "");
	if (linked != (e->link != NULL) || (linked && !*e->link))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"a link, and nothing else, has a target: '%.200s'", e->path);
	if (e->kind != BXC_TAR_FILE && e->size)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "only a file has data: '%.200s'", e->path);
	if (e->size > INT64_MAX || e->mode > 07777)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "size or mode out of range: '%.200s'", e->path);
	if (e->mtime_ns >= 1000000000)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "time out of range: '%.200s'", e->path);
	/* There is no pax record for device numbers. */
	if (!fits_octal(ID_LEN, e->dev_major) || !fits_octal(ID_LEN, e->dev_minor))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "device number out of range: '%.200s'", e->path);
	for (size_t i = 0; i < e->n_xattrs; i++)
		if (bxc_str_empty(e->xattrs[i].name) || strchr(e->xattrs[i].name, '='))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"bad name of an extended attribute: '%.200s'", e->path);
	return 0;
}

static char type_of(bxc_tar_kind k)
{
	switch (k) {
	case BXC_TAR_FILE:
		return '0';
	case BXC_TAR_HARDLINK:
		return '1';
	case BXC_TAR_SYMLINK:
		return '2';
	case BXC_TAR_CHAR:
		return '3';
	case BXC_TAR_BLOCK:
		return '4';
	case BXC_TAR_DIR:
		return '5';
	case BXC_TAR_FIFO:
		return '6';
	case BXC_TAR_UNKNOWN:
		break;
	}
	return 0;
}

static void add_number(bxc_tar_writer *w, const char *key, size_t cap, int64_t v)
{
	char text[24];
	if (fits_octal(cap, v))
		return;
	snprintf(text, sizeof(text), "%" PRId64, v);
	add_text(w, key, text);
}

static void add_mtime(bxc_tar_writer *w, int64_t s, uint32_t ns)
{
	char text[48];
	if (ns == 0) {
		add_number(w, "mtime", NUM_LEN, s);
		return;
	}
	/* Before 1970 the fraction counts from the next second. */
	const char *sign = s < 0 ? "-" : "";
	if (s < 0) {
		s = -(s + 1);
		ns = 1000000000 - ns;
	}
	snprintf(text, sizeof(text), "%s%" PRId64 ".%09" PRIu32, sign, s, ns);
	for (size_t n = strlen(text); text[n - 1] == '0'; n--)
		text[n - 1] = '\0';
	add_text(w, "mtime", text);
}

static void collect_records(
	bxc_tar_writer *w, const bxc_tar_entry *e, const char *name, uint32_t ns)
{
	clear_records(w);
	if (strlen(name) > NAME_LEN || !is_ascii(name))
		add_text(w, "path", name);
	if (e->link && (strlen(e->link) > LINK_LEN || !is_ascii(e->link)))
		add_text(w, "linkpath", e->link);
	add_number(w, "uid", ID_LEN, e->uid);
	add_number(w, "gid", ID_LEN, e->gid);
	add_number(w, "size", NUM_LEN, (int64_t)e->size);
	add_mtime(w, e->mtime_s, ns);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		BXC_AUTOFREE char *key = bxc_str_fmt("SCHILY.xattr.%s", e->xattrs[i].name);
		add_record(w, key, e->xattrs[i].value, e->xattrs[i].len);
	}
}

void bxc_tar_writer_bound_mtime(bxc_tar_writer *w, int64_t least_s, int64_t most_s)
{
	w->least_s = least_s;
	w->most_s = most_s;
}

/* An entry that is moved to a bound is there to the second. */
static bxc_tar_entry bounded(const bxc_tar_writer *w, const bxc_tar_entry *e)
{
	bxc_tar_entry b = *e;
	if (e->mtime_s < w->least_s || e->mtime_s >= w->most_s) {
		b.mtime_s = e->mtime_s < w->least_s ? w->least_s : w->most_s;
		b.mtime_ns = 0;
	}
	return b;
}

int bxc_tar_writer_entry(bxc_tar_writer *w, const bxc_tar_entry *given, bxc_err **err)
{
	const bxc_tar_entry in_bounds = bounded(w, given), *e = &in_bounds;
	if (w->dead || w->left)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			w->dead ? "the archive has ended or failed"
				: "data of the previous file is missing");
	char type = type_of(e->kind);
	if (!type)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"a tar cannot hold this kind of file: '%.200s'", e->path ? e->path : "");
	int r = check_entry(e, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *name = bxc_str_fmt("%s%s", e->path, e->kind == BXC_TAR_DIR ? "/" : "");
	bool keep_ns = (w->flags & BXC_TAR_KEEP_NS) != 0;
	collect_records(w, e, name, keep_ns ? e->mtime_ns : 0);
	r = write_pax(w, name, err);
	if (r < 0)
		return r;

	uint8_t b[BLOCK] = {0};
	put_string(b + NAME, NAME_LEN, name);
	put_octal(b + MODE, ID_LEN, e->mode);
	put_octal(b + UID, ID_LEN, e->uid);
	put_octal(b + GID, ID_LEN, e->gid);
	put_octal(b + SIZE, NUM_LEN, (int64_t)e->size);
	put_octal(b + MTIME, NUM_LEN, e->mtime_s);
	b[TYPE] = (uint8_t)type;
	put_string(b + LINK, LINK_LEN, e->link ? e->link : "");
	put_octal(b + DEV_MAJOR, ID_LEN, e->dev_major);
	put_octal(b + DEV_MINOR, ID_LEN, e->dev_minor);
	seal(b);
	r = emit(w, b, BLOCK, err);
	if (r < 0)
		return r;
	w->left = e->size;
	w->padding = e->size;
	return 0;
}

int bxc_tar_writer_data(bxc_tar_writer *w, const void *p, size_t n, bxc_err **err)
{
	if (w->dead)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "the archive has ended or failed");
	if (n > w->left)
		return bxc_err_set(
			err, BXC_FAILED_PRECONDITION, "more data than the header of the file says");
	int r = emit(w, p, n, err);
	if (r < 0)
		return r;
	w->left -= n;
	if (n == 0 || w->left)
		return 0;
	return put_padding(w, w->padding, err);
}

int bxc_tar_writer_finish(bxc_tar_writer *w, bxc_err **err)
{
	static const uint8_t zeroes[2 * BLOCK];
	if (w->dead || w->left)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			w->dead ? "the archive has ended or failed"
				: "data of the last file is missing");
	int r = emit(w, zeroes, sizeof(zeroes), err);
	w->dead = true;
	return r;
}
