/* SPDX-License-Identifier: Apache-2.0 */
/* ADD of archives: what is one, and what becomes of what is in it. */
#include "common/testing/testing.h"

#include <sys/sysmacros.h>

#include "common/os/xattr.h"
#include "common/tar/tar.h"
#include "worker/fileop/fileop_test_world.h"

#define BUF_MAX (1u << 20)

static bxc_file_action add_of(const char *src, const char *dest)
{
	bxc_file_action a = copy_of(src, dest);
	a.unpack = true;
	return a;
}

static void add(world *w, const char *src, const char *dest)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_file_action a = add_of(src, dest);
	assert_ok(perform(w, &a, &err), err);
}

static int to_buf(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_buf_append(ud, p, n, err);
}

/* Writes src/<name>: a tar of the entries, files with their name as content. */
static void put_tar(world *w, const char *name, const bxc_tar_entry *list, size_t n)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BUF_MAX);
	BXC_CLEANUP(bxc_tar_writer_freep) bxc_tar_writer *t = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_tar_writer_new(0, to_buf, &b, &t, &err), err);
	for (size_t i = 0; i < n; i++) {
		bxc_tar_entry e = list[i];
		if (!e.mode)
			e.mode = e.kind == BXC_TAR_DIR ? 0755 : 0644;
		if (e.kind == BXC_TAR_FILE)
			e.size = strlen(e.path);
		assert_ok(bxc_tar_writer_entry(t, &e, &err), err);
		if (e.kind == BXC_TAR_FILE)
			assert_ok(bxc_tar_writer_data(t, e.path, e.size, &err), err);
	}
	assert_ok(bxc_tar_writer_finish(t, &err), err);
	put_bytes(w->src, name, b.data, b.len);
}

#define PUT_TAR(w, name, ...)                                                                      \
	do {                                                                                       \
		const bxc_tar_entry list_[] = {__VA_ARGS__};                                       \
		put_tar(w, name, list_, BXC_ARRAY_SIZE(list_));                                    \
	} while (0)

/* The writer refuses such paths: plants one in the header of the first entry. */
static void rename_first(world *w, const char *tar, const char *path)
{
	uint8_t head[512];
	BXC_AUTOCLOSE int fd = openat(w->src, tar, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, head, 512, 0), 512);
	memset(head, 0, 100);
	memcpy(head, path, strlen(path));
	memset(head + 148, ' ', 8);
	unsigned sum = 0;
	for (size_t i = 0; i < sizeof(head); i++)
		sum += head[i];
	(void)snprintf((char *)head + 148, 8, "%06o", sum);
	assert_int_equal(pwrite(fd, head, 512, 0), 512);
}

/* 10.1.17 Archives: by content, whatever the name. */
static void every_kind_of_archive_is_unpacked(void **state)
{
	world *w = *state;
	static const char *const kinds[] = {
		"plain", "gzip", "bzip2", "xz", "zstd", "zstd-skippable"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(kinds); i++) {
		BXC_AUTOFREE char *path =
			bxc_str_fmt("%s/common/tar/testdata/any/%s", BXC_SOURCE_DIR, kinds[i]);
		BXC_AUTOFREE char *file = bxc_str_fmt("%s/d/f", kinds[i]);
		BXC_AUTOFREE char *dest = bxc_str_fmt("/%s", kinds[i]);
		size_t n = 0;
		BXC_AUTOFREE char *data = bxc_test_read_file(path, &n);
		put_bytes(w->src, "x.txt", data, n);
		add(w, "/x.txt", dest);
		assert_file(w->dst, file, "hello");
		struct stat st = stat_of(w->dst, file);
		assert_true(st.st_mode == (S_IFREG | 0640) && st.st_uid == 5 && st.st_gid == 6);
		assert_int_equal(st.st_mtime, 2000);
		BXC_AUTOFREE char *dir = bxc_str_fmt("%s/d", kinds[i]);
		st = stat_of(w->dst, dir);
		assert_true(st.st_mode == (S_IFDIR | 0750) && st.st_mtime == 1000);
	}
}

static void what_is_no_archive_is_copied(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	static const char zeroes[2048];
	static const char zip[600] = "PK\3\4";
	BXC_AUTOBUF bxc_buf gz = BXC_BUF_INIT(BUF_MAX);
	BXC_CLEANUP(bxc_compressor_freep) bxc_compressor *c = NULL;
	assert_ok(bxc_compressor_new(BXC_COMPRESSION_GZIP, 0, to_buf, &gz, &c, &err), err);
	assert_ok(bxc_compressor_write(c, "only text", 9, &err), err);
	assert_ok(bxc_compressor_finish(c, &err), err);
	put_bytes(w->src, "text.tar", "no tar, whatever its name", 25);
	put_bytes(w->src, "zeroes.tar", zeroes, sizeof(zeroes));
	put_bytes(w->src, "x.zip", zip, sizeof(zip));
	put_bytes(w->src, "text.tar.gz", gz.data, gz.len);
	put_bytes(w->src, "empty.tar", "", 0);
	put_bytes(w->src, "cut.tar.bz2", "BZh91AY", 7);
	add(w, "/*", "/out/");
	assert_file(w->dst, "out/text.tar", "no tar, whatever its name");
	assert_int_equal(stat_of(w->dst, "out/zeroes.tar").st_size, sizeof(zeroes));
	assert_int_equal(stat_of(w->dst, "out/x.zip").st_size, sizeof(zip));
	assert_int_equal(stat_of(w->dst, "out/text.tar.gz").st_size, gz.len);
	assert_int_equal(stat_of(w->dst, "out/empty.tar").st_size, 0);
	assert_int_equal(stat_of(w->dst, "out/cut.tar.bz2").st_size, 7);
	/* --unpack=false */
	PUT_TAR(w, "a.tar", {.kind = BXC_TAR_FILE, .path = "f"});
	bxc_file_action a = add_of("/a.tar", "/out/");
	a.unpack = false;
	assert_ok(perform(w, &a, &err), err);
	assert_true(stat_of(w->dst, "out/a.tar").st_size >= 1024);
	/* A folder's files are not looked into. */
	assert_int_equal(mkdirat(w->src, "dir", 0755), 0);
	PUT_TAR(w, "dir/b.tar", {.kind = BXC_TAR_FILE, .path = "f"});
	add(w, "/dir", "/out");
	assert_true(S_ISREG(stat_of(w->dst, "out/b.tar").st_mode));
}

/* 10.1.17 Archives: a link to a tar is followed beneath the root of the source, and unpacks. */
static void links_to_archives_are_followed(void **state)
{
	world *w = *state;
	PUT_TAR(w, "a.tar", {.kind = BXC_TAR_FILE, .path = "f"});
	assert_int_equal(symlinkat("/a.tar", w->src, "link"), 0);
	add(w, "/link", "/out");
	assert_file(w->dst, "out/f", "f");
}

static void owners_modes_and_implied_folders(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	static const bxc_tar_xattr cap = {
		"security.capability", "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20};
	PUT_TAR(w, "a.tar",
		{.kind = BXC_TAR_FILE,
			.path = "in/deep",
			.mode = 04711,
			.uid = 7,
			.gid = 8,
			.mtime_s = 99,
			.xattrs = &cap,
			.n_xattrs = 1},
		{.kind = BXC_TAR_SYMLINK,
			.path = "link",
			.link = "/nowhere",
			.uid = 7,
			.gid = 8,
			.mtime_s = 98},
		{.kind = BXC_TAR_FILE, .path = "old", .mtime_s = -5});
	add(w, "/a.tar", "/kept/");
	struct stat st = stat_of(w->dst, "kept/in/deep");
	assert_true(st.st_mode == (S_IFREG | 04711) && st.st_uid == 7 && st.st_gid == 8);
	assert_int_equal(st.st_mtime, 99);
	BXC_AUTOCLOSE int fd = openat(w->dst, "kept/in/deep", O_RDONLY | O_CLOEXEC);
	BXC_AUTOBUF bxc_buf value = BXC_BUF_INIT(100);
	assert_ok(bxc_xattr_get(fd, "security.capability", &value, &err), err);
	st = stat_of(w->dst, "kept/link");
	assert_true(S_ISLNK(st.st_mode) && st.st_uid == 7 && st.st_mtime == 98);
	assert_int_equal(stat_of(w->dst, "kept/old").st_mtime, 0);
	st = stat_of(w->dst, "kept/in");
	assert_true(st.st_mode == (S_IFDIR | 0755) && st.st_uid == 0);
	/* --chown gives all of it that owner, and new folders of the destination; --chmod is none
	 * of its business. */
	bxc_file_action a = add_of("/a.tar", "/new/mine");
	a.owner = (bxc_def_owner){.is_set = true, .uid = 12, .gid = 34, .has_gid = true};
	a.mode = 0700;
	assert_ok(perform(w, &a, &err), err);
	st = stat_of(w->dst, "new/mine");
	assert_true(st.st_mode == (S_IFDIR | 0755) && st.st_uid == 12 && st.st_gid == 34);
	st = stat_of(w->dst, "new/mine/in/deep");
	assert_true(st.st_mode == (S_IFREG | 04711) && st.st_uid == 12 && st.st_gid == 34);
	assert_int_equal(stat_of(w->dst, "new/mine/link").st_uid, 12);
}

static void entries_replace_what_is_there(void **state)
{
	world *w = *state;
	assert_int_equal(mkdirat(w->dst, "out", 0755), 0);
	assert_int_equal(mkdirat(w->dst, "out/file", 0755), 0);
	put_bytes(w->dst, "out/file/below", "x", 1);
	put_bytes(w->dst, "out/dir", "x", 1);
	put_bytes(w->dst, "out/target", "kept", 4);
	assert_int_equal(symlinkat("target", w->dst, "out/link"), 0);
	assert_int_equal(mkdirat(w->dst, "out/both", 0700), 0);
	put_bytes(w->dst, "out/both/old", "old", 3);
	PUT_TAR(w, "a.tar", {.kind = BXC_TAR_FILE, .path = "file"},
		{.kind = BXC_TAR_DIR, .path = "dir", .mode = 0711, .mtime_s = 77},
		{.kind = BXC_TAR_FILE, .path = "dir/new"}, {.kind = BXC_TAR_FILE, .path = "link"},
		{.kind = BXC_TAR_DIR, .path = "both", .mode = 0751},
		{.kind = BXC_TAR_HARDLINK,
			.path = "again",
			.link = "file",
			.mode = 0604,
			.mtime_s = 5},
		{.kind = BXC_TAR_FIFO, .path = "target"},
		{.kind = BXC_TAR_FILE, .path = ".wh.both"});
	add(w, "/a.tar", "/out");
	assert_file(w->dst, "out/file", "file");
	assert_file(w->dst, "out/dir/new", "dir/new");
	struct stat st = stat_of(w->dst, "out/dir");
	assert_true(st.st_mode == (S_IFDIR | 0711) && st.st_mtime == 77);
	/* Not written through. */
	assert_true(S_ISREG(stat_of(w->dst, "out/link").st_mode));
	assert_int_equal(stat_of(w->dst, "out/both").st_mode, S_IFDIR | 0751);
	assert_file(w->dst, "out/both/old", "old");
	/* A further name has one inode with the first, and its attributes count. */
	st = stat_of(w->dst, "out/again");
	assert_true(st.st_ino == stat_of(w->dst, "out/file").st_ino);
	assert_true(st.st_mode == (S_IFREG | 0604) && st.st_mtime == 5);
	/* Devices and pipes are left out; whiteouts mean nothing here. */
	assert_file(w->dst, "out/target", "kept");
	assert_file(w->dst, "out/.wh.both", ".wh.both");
}

/* The destination is the root of every path and link. */
static void nothing_leaves_the_destination(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *outside = bxc_str_fmt("%s/secret", w->dir);
	PUT_TAR(w, "links.tar", {.kind = BXC_TAR_SYMLINK, .path = "abs", .link = "/real"},
		{.kind = BXC_TAR_SYMLINK, .path = "up", .link = "../../.."},
		{.kind = BXC_TAR_SYMLINK, .path = "secret", .link = outside},
		{.kind = BXC_TAR_FILE, .path = "abs/f"},
		{.kind = BXC_TAR_FILE, .path = "up/secret"},
		{.kind = BXC_TAR_FILE, .path = "secret"});
	add(w, "/links.tar", "/out");
	assert_file(w->dst, "out/real/f", "abs/f");
	assert_file(w->dst, "out/secret", "secret");
	assert_true(is_absent(w->dst, "real"));
	PUT_TAR(w, "up.tar", {.kind = BXC_TAR_FILE, .path = "x"});
	rename_first(w, "up.tar", "a/../../secret");
	bxc_file_action a = add_of("/up.tar", "/out");
	assert_err_text(
		perform(w, &a, &err), BXC_INVALID_ARGUMENT, err, "is outside extraction root");
	rename_first(w, "up.tar", "/abs-name");
	add(w, "/up.tar", "/out");
	assert_file(w->dst, "out/abs-name", "x");
	PUT_TAR(w, "hard.tar", {.kind = BXC_TAR_HARDLINK, .path = "h", .link = "../secret"});
	a = add_of("/hard.tar", "/out");
	assert_err_text(perform(w, &a, &err), BXC_INVALID_ARGUMENT, err, "outside extraction root");
}

/* 10.1.8 Links in the destination: the links of the written path itself are resolved, to the end.
 */
static void the_destination_may_be_a_link(void **state)
{
	world *w = *state;
	PUT_TAR(w, "a.tar", {.kind = BXC_TAR_FILE, .path = "f"});
	assert_int_equal(symlinkat("/real/deep", w->dst, "link"), 0);
	add(w, "/a.tar", "/link");
	assert_file(w->dst, "real/deep/f", "f");
	put_bytes(w->dst, "file", "x", 1);
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_file_action a = add_of("/a.tar", "/file");
	assert_true(perform(w, &a, &err) < 0);
	assert_file(w->dst, "file", "x");
}

static void damage_is_told(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	PUT_TAR(w, "a.tar", {.kind = BXC_TAR_FILE, .path = "f"},
		{.kind = BXC_TAR_FILE, .path = "g"});
	BXC_AUTOCLOSE int fd = openat(w->src, "a.tar", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 1030), 0);
	bxc_file_action a = add_of("/a.tar", "/out");
	assert_err_text(perform(w, &a, &err), BXC_DATA_LOSS, err, "unpack '/a.tar'");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(every_kind_of_archive_is_unpacked),
		T(what_is_no_archive_is_copied),
		T(links_to_archives_are_followed),
		T(owners_modes_and_implied_folders),
		T(entries_replace_what_is_there),
		T(nothing_leaves_the_destination),
		T(the_destination_may_be_a_link),
		T(damage_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
