/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include <locale.h>

#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/codec/digest.h"
#include "common/tar/tar.h"

#define BUF_MAX (64u << 20)

static int to_buf(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_buf_append(ud, p, n, err);
}

typedef struct feed {
	bxc_slice left;
	size_t step;
	size_t fail_at; /* bytes after which the source fails; 0: never */
	size_t given;
	size_t n_ends; /* times that the end was told */
} feed;

static ssize_t from_feed(void *p, size_t n, void *ud, bxc_err **err)
{
	feed *f = ud;
	if (f->fail_at && f->given >= f->fail_at)
		return bxc_err_set(err, BXC_UNAVAILABLE, "line is down");
	n = BXC_MIN(BXC_MIN(n, f->step), f->left.n);
	if (n)
		memcpy(p, f->left.p, n);
	f->left.p += n;
	f->left.n -= n;
	f->given += n;
	f->n_ends += n == 0;
	return (ssize_t)n;
}

static bxc_tar_writer *new_writer(bxc_buf *out, bxc_tar_flags flags)
{
	bxc_tar_writer *w = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_tar_writer_new(flags, to_buf, out, &w, &err), err);
	return w;
}

static void put(bxc_tar_writer *w, bxc_tar_entry e, const char *data)
{
	BXC_AUTOERR bxc_err *err = NULL;
	if (data)
		e.size = strlen(data);
	assert_ok(bxc_tar_writer_entry(w, &e, &err), err);
	if (data)
		assert_ok(bxc_tar_writer_data(w, data, strlen(data), &err), err);
}

static void finish(bxc_tar_writer *w)
{
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_tar_writer_finish(w, &err), err);
	bxc_tar_writer_free(w);
}

#define LONG_DIR                                                                                   \
	"a123456789/b123456789/c123456789/d123456789/e123456789/f123456789/g123456789/h123456789/" \
	"i123456789"

static const bxc_tar_xattr xattrs[] = {{"user.z", "last", 4},
	{"security.capability", "\1\0\0\2\0\4\0\0", 8}, {"user.empty", "", 0}};

static const struct {
	bxc_tar_entry e;
	const char *data;
} samples[] = {
	{{.kind = BXC_TAR_DIR, .path = ".", .mode = 0755}, NULL},
	{{.kind = BXC_TAR_DIR, .path = "d", .mode = 01777, .mtime_s = 1700000000}, NULL},
	{{.kind = BXC_TAR_FILE,
		 .path = "d/f",
		 .mode = 04755,
		 .uid = 1000,
		 .gid = 2097152,
		 .mtime_s = 1},
		"hello"},
	{{.kind = BXC_TAR_FILE, .path = "d/empty", .mode = 0}, ""},
	{{.kind = BXC_TAR_SYMLINK, .path = "l", .link = "../\xc3\xbc", .mode = 0777}, NULL},
	{{.kind = BXC_TAR_HARDLINK, .path = "h", .link = "d/f", .mode = 0644}, NULL},
	{{.kind = BXC_TAR_CHAR, .path = "c", .mode = 0600, .dev_major = 1, .dev_minor = 3}, NULL},
	{{.kind = BXC_TAR_BLOCK, .path = "b", .mode = 0600, .dev_major = 8, .dev_minor = 2097151},
		NULL},
	{{.kind = BXC_TAR_CHAR, .path = "whiteout", .mode = 0}, NULL},
	{{.kind = BXC_TAR_FIFO, .path = "p", .mode = 0600}, NULL},
	{{.kind = BXC_TAR_FILE,
		 .path = "gr\xc3\xbc\xc3\x9f",
		 .mode = 0644,
		 .uid = 4294967295u,
		 .mtime_s = -5},
		"utf-8"},
	{{.kind = BXC_TAR_FILE, .path = "latin\xfc", .mode = 0644, .mtime_s = INT64_C(1) << 40},
		"not utf-8"},
	{{.kind = BXC_TAR_DIR, .path = LONG_DIR "/deep", .mode = 0700}, NULL},
	{{.kind = BXC_TAR_FILE,
		 .path = LONG_DIR "/deep/file",
		 .mode = 0644,
		 .xattrs = xattrs,
		 .n_xattrs = 3},
		"x"},
	{{.kind = BXC_TAR_SYMLINK, .path = "ll", .link = LONG_DIR "/deep/file", .mode = 0777},
		NULL},
};

static void write_samples(bxc_buf *out)
{
	bxc_tar_writer *w = new_writer(out, 0);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(samples); i++)
		put(w, samples[i].e, samples[i].data);
	finish(w);
}

static void check_xattrs(const bxc_tar_entry *got, const bxc_tar_entry *want)
{
	assert_int_equal(got->n_xattrs, want->n_xattrs);
	for (size_t i = 0; i < want->n_xattrs; i++) {
		bool found = false;
		for (size_t k = 0; k < got->n_xattrs; k++)
			found |= strcmp(got->xattrs[k].name, want->xattrs[i].name) == 0 &&
				 got->xattrs[k].len == want->xattrs[i].len &&
				 memcmp(got->xattrs[k].value, want->xattrs[i].value,
					 want->xattrs[i].len) == 0;
		assert_true(found);
	}
}

static void read_samples(const bxc_buf *b, size_t step)
{
	feed f = {.left = bxc_buf_slice(b), .step = step};
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	const bxc_tar_entry *e = NULL;
	assert_ok(bxc_tar_reader_new(from_feed, &f, &r, &err), err);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(samples); i++) {
		const bxc_tar_entry *want = &samples[i].e;
		const char *data = samples[i].data ? samples[i].data : "";
		char text[32] = "";
		assert_ok(bxc_tar_reader_next(r, &e, &err), err);
		assert_string_equal(e->path, want->path);
		assert_int_equal(e->kind, want->kind);
		assert_true(bxc_str_eq(e->link, want->link));
		assert_int_equal(e->mode, want->mode);
		assert_int_equal(e->uid, want->uid);
		assert_int_equal(e->gid, want->gid);
		assert_true(e->mtime_s == want->mtime_s);
		assert_int_equal(e->dev_major, want->dev_major);
		assert_int_equal(e->dev_minor, want->dev_minor);
		assert_int_equal(e->size, strlen(data));
		check_xattrs(e, want);
		size_t n = 0;
		ssize_t got;
		while ((got = bxc_tar_reader_read(r, text + n, 2, &err)) > 0)
			n += (size_t)got;
		assert_int_equal(got, 0);
		assert_string_equal(text, data);
	}
	assert_int_equal(bxc_tar_reader_next(r, &e, &err), 0);
}

static void what_is_written_is_read(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BUF_MAX);
	write_samples(&b);
	assert_int_equal(b.len % 512, 0);
	static const size_t steps[] = {1u << 20, 511, 1};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(steps); i++)
		read_samples(&b, steps[i]);
	/* In every locale the same: a program may have set one. */
	if (setlocale(LC_ALL, "C.UTF-8"))
		read_samples(&b, 4096);
	assert_non_null(setlocale(LC_ALL, "C"));
	read_samples(&b, 4096);
}

/* The golden digest changes only when layer digests of all images may change. */
static void bytes_stay_as_they_are(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BUF_MAX);
	write_samples(&b);
	BXC_AUTOBUF bxc_buf c = BXC_BUF_INIT(BUF_MAX);
	bool utf8 = setlocale(LC_ALL, "C.UTF-8") != NULL;
	write_samples(&c);
	assert_non_null(setlocale(LC_ALL, "C"));
	assert_true(utf8);
	assert_int_equal(b.len, c.len);
	assert_memory_equal(b.data, c.data, b.len);
	bxc_digest d = bxc_digest_of(b.data, b.len);
	char s[BXC_DIGEST_STR_MAX];
	assert_string_equal(bxc_digest_str(&d, s),
		"sha256:d96f2ec1e22d032adee0e453a2e1aa85248249c8c8170e123755c87a3dc29fe1");
}

static void a_plain_entry_is_one_ustar_header(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BUF_MAX);
	bxc_tar_writer *w = new_writer(&b, 0);
	put(w,
		(bxc_tar_entry){.kind = BXC_TAR_DIR,
			.path = "etc",
			.mode = 0755,
			.mtime_s = 8,
			.mtime_ns = 5},
		NULL);
	finish(w);
	assert_int_equal(b.len, 512 + 1024);
	assert_string_equal((char *)b.data, "etc/");
	assert_memory_equal(b.data + 100,
		"0000755\0"
		"0000000\0"
		"0000000\0"
		"00000000000\0"
		"00000000010\0",
		48);
	assert_memory_equal(b.data + 156, "5", 2);
	assert_memory_equal(b.data + 257,
		"ustar\0"
		"00",
		8);
	/* No names of users and groups. */
	assert_memory_equal(b.data + 265, "\0\0\0\0", 4);
	assert_memory_equal(b.data + 297, "\0\0\0\0", 4);
	assert_memory_equal(b.data + 329,
		"0000000\0"
		"0000000\0",
		16);
}

static void pax_records_are_sorted_and_counted(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BUF_MAX);
	static const bxc_tar_xattr x[] = {{"user.b", "2", 1}, {"user.a", "1", 1}};
	bxc_tar_writer *w = new_writer(&b, BXC_TAR_KEEP_NS);
	put(w,
		(bxc_tar_entry){.kind = BXC_TAR_FILE,
			.path = "d/\xc3\xbc",
			.mode = 0644,
			.mtime_s = -2,
			.mtime_ns = 500000000,
			.xattrs = x,
			.n_xattrs = 2},
		"");
	finish(w);
	assert_string_equal((char *)b.data, "d/PaxHeaders.0/");
	assert_int_equal(b.data[156], 'x');
	assert_string_equal((char *)b.data + 512,
		"25 SCHILY.xattr.user.a=1\n25 SCHILY.xattr.user.b=2\n"
		"14 mtime=-1.5\n13 path=d/\xc3\xbc\n");
	/* The main header has what fits into it. */
	assert_string_equal((char *)b.data + 1024, "d/");
}

static void the_writer_refuses_what_a_tar_cannot_hold(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BUF_MAX);
	BXC_AUTOERR bxc_err *err = NULL;
	static const bxc_tar_xattr odd[] = {{"user.a=b", "", 0}},
				   twice[] = {{"user.a", "", 0}, {"user.a", "x", 1}};
	BXC_AUTOFREE char *huge = bxc_calloc(1, 2u << 20);
	const bxc_tar_xattr large[] = {{"user.a", huge, 2u << 20}};
	const bxc_tar_entry bad[] = {
		{.kind = BXC_TAR_FILE},
		{.kind = BXC_TAR_FILE, .path = ""},
		{.kind = BXC_TAR_FILE, .path = "/abs"},
		{.kind = BXC_TAR_FILE, .path = "a/../b"},
		{.kind = BXC_TAR_FILE, .path = "a//b"},
		{.kind = BXC_TAR_FILE, .path = "."},
		{.kind = BXC_TAR_DIR, .path = "a/"},
		{.kind = BXC_TAR_UNKNOWN, .path = "a"},
		{.kind = BXC_TAR_SYMLINK, .path = "a"},
		{.kind = BXC_TAR_SYMLINK, .path = "a", .link = ""},
		{.kind = BXC_TAR_FILE, .path = "a", .link = "b"},
		{.kind = BXC_TAR_DIR, .path = "a", .size = 1},
		{.kind = BXC_TAR_FILE, .path = "a", .mode = 0100644},
		{.kind = BXC_TAR_FILE, .path = "a", .size = UINT64_MAX},
		{.kind = BXC_TAR_CHAR, .path = "a", .dev_minor = 2097152},
		{.kind = BXC_TAR_FILE, .path = "a", .xattrs = odd, .n_xattrs = 1},
		{.kind = BXC_TAR_FILE, .path = "a", .xattrs = twice, .n_xattrs = 2},
		{.kind = BXC_TAR_FILE, .path = "a", .xattrs = large, .n_xattrs = 1},
	};
	BXC_CLEANUP(bxc_tar_writer_freep) bxc_tar_writer *w = new_writer(&b, 0);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		if (bxc_tar_writer_entry(w, &bad[i], &err) != -BXC_INVALID_ARGUMENT)
			fail_msg("case %zu was taken", i);
		bxc_err_free(err);
		err = NULL;
	}
	assert_int_equal(b.len, 0);
	bxc_tar_entry e = {.kind = BXC_TAR_FILE, .path = "a", .size = 3};
	assert_ok(bxc_tar_writer_entry(w, &e, &err), err);
	assert_err(bxc_tar_writer_data(w, "1234", 4, &err), BXC_FAILED_PRECONDITION, err);
	assert_ok(bxc_tar_writer_data(w, "12", 2, &err), err);
	assert_err(bxc_tar_writer_entry(w, &e, &err), BXC_FAILED_PRECONDITION, err);
	assert_err(bxc_tar_writer_finish(w, &err), BXC_FAILED_PRECONDITION, err);
}

static void a_cut_archive_is_damaged(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BUF_MAX);
	bxc_tar_writer *w = new_writer(&b, 0);
	put(w, (bxc_tar_entry){.kind = BXC_TAR_FILE, .path = "\xc3\xbc", .mode = 0644},
		"0123456789");
	finish(w);
	/* pax header, records, header, data, two blocks of the end */
	for (size_t cut = 1; cut < 4 * 512 - 512 + 10; cut += 101) {
		feed f = {.left = {b.data, cut}, .step = 4096};
		BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
		BXC_AUTOERR bxc_err *err = NULL;
		const bxc_tar_entry *e = NULL;
		char text[16];
		int rc = bxc_tar_reader_new(from_feed, &f, &r, &err);
		if (rc == 0)
			rc = bxc_tar_reader_next(r, &e, &err);
		for (ssize_t got = 1; rc > 0 && got != 0; rc = got < 0 ? (int)got : rc)
			got = bxc_tar_reader_read(r, text, sizeof(text), &err);
		if (rc != -BXC_DATA_LOSS)
			fail_msg("cut at %zu gave %d", cut, rc);
	}
	b.data[1024 + 20] ^= 1;
	feed f = {.left = bxc_buf_slice(&b), .step = 4096};
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	const bxc_tar_entry *e = NULL;
	assert_int_equal(bxc_tar_reader_new(from_feed, &f, &r, NULL), 0);
	assert_int_equal(bxc_tar_reader_next(r, &e, NULL), -BXC_DATA_LOSS);
}

static void an_empty_archive_has_no_entries(void **state)
{
	(void)state;
	static const uint8_t zeroes[1024];
	static const size_t sizes[] = {0, 1024};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(sizes); i++) {
		feed f = {.left = {zeroes, sizes[i]}, .step = 4096};
		BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
		BXC_AUTOERR bxc_err *err = NULL;
		const bxc_tar_entry *e = NULL;
		assert_ok(bxc_tar_reader_new(from_feed, &f, &r, &err), err);
		assert_int_equal(bxc_tar_reader_next(r, &e, &err), 0);
	}
}

static void the_error_of_the_source_comes_through(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BUF_MAX);
	write_samples(&b);
	feed f = {.left = bxc_buf_slice(&b), .step = 512, .fail_at = 3000};
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	const bxc_tar_entry *e = NULL;
	int rc = bxc_tar_reader_new(from_feed, &f, &r, &err);
	while (rc >= 0 && (rc = bxc_tar_reader_next(r, &e, &err)) > 0)
		;
	assert_int_equal(rc, -BXC_UNAVAILABLE);
	assert_string_equal(bxc_err_text(err), "line is down");
}

static bool is_archive(bxc_slice s)
{
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	const bxc_tar_entry *e = NULL;
	return bxc_tar_reader_new_any(bxc_tar_slice_source, &s, &r, NULL) == 0 &&
	       bxc_tar_reader_next(r, &e, NULL) > 0;
}

static void only_tars_have_entries(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BUF_MAX);
	write_samples(&b);
	assert_true(is_archive(bxc_buf_slice(&b)));
	assert_true(is_archive(bxc_slice_of(b.data, 512)));
	assert_false(is_archive(bxc_slice_of(b.data, 511)));
	assert_false(is_archive(bxc_slice_of(NULL, 0)));
	static const uint8_t zeroes[2048];
	assert_false(is_archive(bxc_slice_of(zeroes, sizeof(zeroes))));
	char text[4096];
	memset(text, 'x', sizeof(text));
	assert_false(is_archive(bxc_slice_of(text, sizeof(text))));
	assert_false(is_archive(bxc_slice_of("BZh91AY&SY", 10)));
}

static void any_compression_is_undone_once(void **state)
{
	(void)state;
	static const char *const kinds[] = {
		"plain", "gzip", "bzip2", "xz", "zstd", "zstd-skippable"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(kinds); i++) {
		BXC_AUTOFREE char *path =
			bxc_str_fmt("%s/common/tar/testdata/any/%s", BXC_SOURCE_DIR, kinds[i]);
		size_t n = 0;
		BXC_AUTOFREE char *data = bxc_test_read_file(path, &n);
		/* However the bytes come in. */
		feed f = {.left = bxc_slice_of(data, n), .step = i % 2 ? 3 : 4096};
		BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
		BXC_AUTOERR bxc_err *err = NULL;
		const bxc_tar_entry *e = NULL;
		char got[16] = "";
		assert_ok(bxc_tar_reader_new_any(from_feed, &f, &r, &err), err);
		if (bxc_tar_reader_next(r, &e, &err) != 1 || strcmp(e->path, "d") != 0)
			fail_msg("%s: %s", kinds[i], bxc_err_text(err));
		assert_int_equal(bxc_tar_reader_next(r, &e, &err), 1);
		assert_string_equal(e->path, "d/f");
		assert_int_equal(bxc_tar_reader_read(r, got, sizeof(got), &err), 5);
		assert_string_equal(got, "hello");
		assert_int_equal(bxc_tar_reader_next(r, &e, &err), 0);
		/* Twice compressed, it is no tar. */
		BXC_AUTOBUF bxc_buf twice = BXC_BUF_INIT(BUF_MAX);
		BXC_CLEANUP(bxc_compressor_freep) bxc_compressor *c = NULL;
		assert_ok(
			bxc_compressor_new(BXC_COMPRESSION_GZIP, 0, to_buf, &twice, &c, &err), err);
		assert_ok(bxc_compressor_write(c, data, n, &err), err);
		assert_ok(bxc_compressor_finish(c, &err), err);
		assert_true(is_archive(bxc_buf_slice(&twice)) == (i == 0));
	}
}

/* GNU sparse 1.0 as `tar -S` writes it: 1 MiB with 4 bytes in the middle and a hole at the end. */
static void holes_are_read_as_zeroes(void **state)
{
	(void)state;
	const char *path = BXC_SOURCE_DIR "/common/tar/testdata/fuzz/tar/sparse.tar";
	size_t n = 0;
	BXC_AUTOFREE char *data = bxc_test_read_file(path, &n);
	feed f = {.left = bxc_slice_of(data, n), .step = 4096};
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	const bxc_tar_entry *e = NULL;
	assert_ok(bxc_tar_reader_new(from_feed, &f, &r, &err), err);
	assert_ok(bxc_tar_reader_next(r, &e, &err), err);
	assert_int_equal(e->size, 1u << 20);
	BXC_AUTOFREE char *got = bxc_calloc(1, 1u << 20);
	size_t at = 0;
	ssize_t k;
	memset(got, 'x', 1u << 20);
	while ((k = bxc_tar_reader_read(r, got + at, 100000, &err)) > 0)
		at += (size_t)k;
	assert_int_equal(k, 0);
	assert_int_equal(at, 1u << 20);
	assert_memory_equal(got + 500000, "data", 4);
	size_t zeroes = 0;
	for (size_t i = 0; i < at; i++)
		zeroes += got[i] == 0;
	assert_int_equal(zeroes, (1u << 20) - 4);
	assert_int_equal(bxc_tar_reader_next(r, &e, &err), 0);
}

static void tars_are_told_from_other_files(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BUF_MAX);
	write_samples(&b);
	assert_true(bxc_tar_is_context(bxc_buf_slice(&b)));
	assert_true(bxc_tar_is_context(bxc_slice_of(b.data, 512)));
	assert_false(bxc_tar_is_context(bxc_slice_of(b.data, 511)));
	assert_false(bxc_tar_is_context(bxc_slice_of(NULL, 0)));
	static const uint8_t zeroes[2048];
	assert_false(bxc_tar_is_context(bxc_slice_of(zeroes, sizeof(zeroes))));
	char text[4096];
	memset(text, 'x', sizeof(text));
	assert_false(bxc_tar_is_context(bxc_slice_of(text, sizeof(text))));
}

static void contexts_are_told_from_dockerfiles(void **state)
{
	(void)state;
	static const char *const archives[] = {"BZh91AY", "\x1f\x8b\x08", "\xfd\x37zXZ", "\x28\xb5\x2f\xfd"};
	static const char *const others[] = {"", "B", "BZ", "FROM scratch\n", "\x1f\x8b", "# syntax=docker/dockerfile:1\n"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(archives); i++)
		assert_true(bxc_tar_is_context(bxc_slice_of(archives[i], i == 2 ? 6 : strlen(archives[i]))));
	for (size_t i = 0; i < BXC_ARRAY_SIZE(others); i++)
		assert_false(bxc_tar_is_context(bxc_slice_of(others[i], strlen(others[i]))));
	char text[1024];
	memset(text, 'x', sizeof(text));
	assert_false(bxc_tar_is_context(bxc_slice_of(text, sizeof(text))));
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1 << 20);
	BXC_CLEANUP(bxc_tar_writer_freep) bxc_tar_writer *w = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	const bxc_tar_entry e = {.kind = BXC_TAR_DIR, .path = "d", .mode = 0755};
	assert_ok(bxc_tar_writer_new(0, to_buf, &b, &w, &err), err);
	assert_ok(bxc_tar_writer_entry(w, &e, &err), err);
	assert_true(bxc_tar_is_context(bxc_buf_slice(&b)));
}

static void times_are_moved_into_their_bounds(void **state)
{
	(void)state;
	static const int64_t given[] = {10, 20, 20, 30}, want[] = {15, 20, 20, 25};
	static const uint32_t given_ns[] = {5, 0, 7, 0}, want_ns[] = {0, 0, 7, 0};
	bxc_buf out = BXC_BUF_INIT(BUF_MAX);
	bxc_tar_writer *w = new_writer(&out, BXC_TAR_KEEP_NS);
	bxc_tar_writer_bound_mtime(w, 15, 25);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(given); i++) {
		BXC_AUTOFREE char *name = bxc_str_fmt("f%zu", i);
		put(w,
			(bxc_tar_entry){.kind = BXC_TAR_FILE,
				.path = name,
				.mtime_s = given[i],
				.mtime_ns = given_ns[i]},
			"x");
	}
	finish(w);
	feed f = {.left = bxc_buf_slice(&out), .step = 4096};
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	const bxc_tar_entry *e;
	assert_ok(bxc_tar_reader_new(from_feed, &f, &r, &err), err);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(want); i++) {
		assert_int_equal(bxc_tar_reader_next(r, &e, &err), 1);
		assert_int_equal(e->mtime_s, want[i]);
		assert_int_equal(e->mtime_ns, want_ns[i]);
	}
	bxc_buf_done(&out);
}

/* Who sends an archive waits until its end has been taken, too. */
static void the_source_is_read_to_its_end_once(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BUF_MAX);
	BXC_AUTOERR bxc_err *err = NULL;
	write_samples(&b);
	static const uint8_t padding[300000];
	bxc_buf_add(&b, padding, sizeof(padding));
	for (size_t step = 512; step <= 1u << 20; step *= 2) {
		feed f = {.left = bxc_buf_slice(&b), .step = step};
		BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
		const bxc_tar_entry *e;
		assert_ok(bxc_tar_reader_new(from_feed, &f, &r, &err), err);
		int rc;
		while ((rc = bxc_tar_reader_next(r, &e, &err)) == 1)
			;
		assert_ok(rc, err);
		assert_int_equal(f.left.n, 0);
		assert_int_equal(f.n_ends, 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(contexts_are_told_from_dockerfiles),
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(bytes_stay_as_they_are),
		cmocka_unit_test(a_plain_entry_is_one_ustar_header),
		cmocka_unit_test(pax_records_are_sorted_and_counted),
		cmocka_unit_test(the_writer_refuses_what_a_tar_cannot_hold),
		cmocka_unit_test(a_cut_archive_is_damaged),
		cmocka_unit_test(an_empty_archive_has_no_entries),
		cmocka_unit_test(the_error_of_the_source_comes_through),
		cmocka_unit_test(only_tars_have_entries),
		cmocka_unit_test(any_compression_is_undone_once),
		cmocka_unit_test(holes_are_read_as_zeroes),
		cmocka_unit_test(tars_are_told_from_other_files),
		cmocka_unit_test(times_are_moved_into_their_bounds),
		cmocka_unit_test(the_source_is_read_to_its_end_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
