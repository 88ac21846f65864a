/* SPDX-License-Identifier: Apache-2.0 */
/* Layer tars, well-meant and hostile. */
#include "common/testing/testing.h"

#include <sys/sysmacros.h>

#include "common/os/fs.h"
#include "common/os/xattr.h"
#include "worker/snapshot/snapshot.h"

typedef struct world {
	char *dir; /* holds out/ (the layer) and secret */
	int out_fd;
	bxc_tar_writer *w;
	bxc_buf tar;
	bxc_test_cursor from; /* tar */
} world;

static int set_up(void **state)
{
	world *w = bxc_calloc(1, sizeof(*w));
	w->dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *out = bxc_str_fmt("%s/out", w->dir);
	BXC_AUTOFREE char *secret = bxc_str_fmt("%s/secret", w->dir);
	bxc_test_write_file(secret, "untouched", 9, 0600);
	assert_int_equal(mkdir(out, 0755), 0);
	w->out_fd = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bxc_buf_init(&w->tar, 4u << 20);
	w->from.buf = &w->tar;
	assert_int_equal(bxc_tar_writer_new(0, bxc_test_to_buf, &w->tar, &w->w, NULL), 0);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	world *w = *state;
	bxc_tar_writer_free(w->w);
	bxc_buf_done(&w->tar);
	close(w->out_fd);
	/* Whatever a test did, what lies beside the layer is as it was. */
	BXC_AUTOSTRV char **names = NULL;
	assert_int_equal(bxc_fs_list_dir(AT_FDCWD, w->dir, 100, &names, NULL), 0);
	assert_int_equal(bxc_strv_len(names), 2);
	BXC_AUTOFREE char *secret = bxc_str_fmt("%s/secret", w->dir);
	BXC_AUTOFREE char *text = bxc_test_read_file(secret, NULL);
	assert_string_equal(text, "untouched");
	struct stat st;
	assert_int_equal(stat(secret, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_nlink, 1);
	bxc_test_rmtree(w->dir);
	free(w);
	return 0;
}

static void add(world *w, bxc_tar_entry e, const char *data)
{
	BXC_AUTOERR bxc_err *err = NULL;
	if (data)
		e.size = strlen(data);
	if (!e.mode)
		e.mode = e.kind == BXC_TAR_DIR ? 0755 : 0644;
	assert_ok(bxc_tar_writer_entry(w->w, &e, &err), err);
	if (data)
		assert_ok(bxc_tar_writer_data(w->w, data, strlen(data), &err), err);
}

/* Entries that the writer would refuse to make: a plain ustar header (POSIX 1003.1). */
static void add_raw(world *w, char type, const char *path, const char *link, const char *data)
{
	char h[512] = {0};
	size_t n = data ? strlen(data) : 0;
	assert_true(strlen(path) < 100 && strlen(link) < 100);
	memcpy(h, path, strlen(path));
	memcpy(h + 157, link, strlen(link));
	const struct {
		size_t at, width;
		unsigned value;
	} numbers[] = {{100, 7, type == '5' ? 0755 : 0644}, {108, 7, 0}, {116, 7, 0},
		{124, 11, (unsigned)n}, {136, 11, 1000}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(numbers); i++) {
		BXC_AUTOFREE char *text =
			bxc_str_fmt("%0*o", (int)numbers[i].width, numbers[i].value);
		memcpy(h + numbers[i].at, text, numbers[i].width);
	}
	h[156] = type;
	memcpy(h + 257, "ustar\00000", 8);
	memset(h + 148, ' ', 8);
	unsigned sum = 0;
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	BXC_AUTOFREE char *text = bxc_str_fmt("%06o", sum);
	memcpy(h + 148, text, 7);
	static const char zeroes[512];
	assert_int_equal(bxc_buf_append(&w->tar, h, sizeof(h), NULL), 0);
	assert_int_equal(bxc_buf_append(&w->tar, data ? data : "", n, NULL), 0);
	assert_int_equal(bxc_buf_append(&w->tar, zeroes, (512 - n % 512) % 512, NULL), 0);
}

static void add_file(world *w, const char *path, const char *data)
{
	add_raw(w, '0', path, "", data);
}
static void add_dir(world *w, const char *path)
{
	add_raw(w, '5', path, "", NULL);
}
static void add_link(world *w, bxc_tar_kind kind, const char *path, const char *target)
{
	add_raw(w, kind == BXC_TAR_SYMLINK ? '2' : '1', path, target, NULL);
}

static bxc_digest applied_digest;
static uint64_t applied_size;

static int apply(world *w, bxc_err **err)
{
	assert_int_equal(bxc_tar_writer_finish(w->w, NULL), 0);
	return bxc_snap_apply_tar(
		w->out_fd, bxc_test_from_buf, &w->from, NULL, &applied_digest, &applied_size, err);
}

static struct stat stat_of(world *w, const char *name)
{
	struct stat st;
	if (fstatat(w->out_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("'%s' is absent", name);
	return st;
}

static bool is_absent(world *w, const char *name)
{
	struct stat st;
	return fstatat(w->out_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0;
}

static void assert_file(world *w, const char *name, const char *expected)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1000);
	assert_ok(bxc_fs_read_file_in_root(w->out_fd, name, 1000, &b, &err), err);
	assert_string_equal(bxc_buf_text(&b), expected);
}

static bool is_opaque(world *w, const char *name)
{
	BXC_AUTOCLOSE int fd = openat(w->out_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	BXC_AUTOBUF bxc_buf v = BXC_BUF_INIT(100);
	return fd >= 0 && bxc_xattr_get(fd, "trusted.overlay.opaque", &v, NULL) == 0 &&
	       v.len == 1 && v.data[0] == 'y';
}

static void entries_get_their_exact_attributes(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	mode_t old = umask(077);
	static const uint8_t caps[] = {1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	const bxc_tar_xattr xattrs[] = {{"security.capability", caps, sizeof(caps)},
		{"user.note", "hi", 2}, {"trusted.overlay.redirect", "/etc", 4}};
	add(w,
		(bxc_tar_entry){.kind = BXC_TAR_DIR,
			.path = "d",
			.mode = 03751,
			.uid = 7,
			.gid = 8,
			.mtime_s = 1000},
		NULL);
	add(w,
		(bxc_tar_entry){.kind = BXC_TAR_FILE,
			.path = "d/suid",
			.mode = 06755,
			.uid = 1000,
			.gid = 50,
			.mtime_s = 12,
			.xattrs = xattrs,
			.n_xattrs = 3},
		"data");
	add(w, (bxc_tar_entry){.kind = BXC_TAR_HARDLINK, .path = "d/same", .link = "d/suid"}, NULL);
	add(w,
		(bxc_tar_entry){.kind = BXC_TAR_SYMLINK,
			.path = "link",
			.link = "/nowhere",
			.uid = 5,
			.mtime_s = 77},
		NULL);
	add(w,
		(bxc_tar_entry){.kind = BXC_TAR_CHAR,
			.path = "null",
			.mode = 0666,
			.dev_major = 1,
			.dev_minor = 3},
		NULL);
	add(w, (bxc_tar_entry){.kind = BXC_TAR_FIFO, .path = "pipe", .mode = 0622}, NULL);
	add(w, (bxc_tar_entry){.kind = BXC_TAR_FILE, .path = "implied/parents/x"}, "");
	assert_ok(apply(w, &err), err);
	umask(old);
	struct stat st = stat_of(w, "d/suid");
	assert_int_equal(st.st_mode, S_IFREG | 06755);
	assert_int_equal(st.st_uid, 1000);
	assert_int_equal(st.st_gid, 50);
	assert_int_equal(st.st_mtim.tv_sec, 12);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(stat_of(w, "d/same").st_ino, st.st_ino);
	st = stat_of(w, "d");
	assert_int_equal(st.st_mode, S_IFDIR | 03751);
	assert_int_equal(st.st_uid, 7);
	assert_int_equal(st.st_mtim.tv_sec, 1000);
	st = stat_of(w, "link");
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(st.st_uid, 5);
	assert_int_equal(st.st_mtim.tv_sec, 77);
	st = stat_of(w, "null");
	assert_true(S_ISCHR(st.st_mode));
	assert_int_equal(st.st_rdev, makedev(1, 3));
	assert_int_equal(stat_of(w, "pipe").st_mode, S_IFIFO | 0622);
	assert_int_equal(stat_of(w, "implied/parents").st_mode, S_IFDIR | 0755);
	assert_int_equal(applied_size, 4);
	bxc_digest expected = bxc_digest_of(w->tar.data, w->tar.len);
	assert_true(bxc_digest_eq(&expected, &applied_digest));
	BXC_AUTOCLOSE int fd = openat(w->out_fd, "d/suid", O_RDONLY | O_CLOEXEC);
	BXC_AUTOBUF bxc_buf v = BXC_BUF_INIT(100);
	assert_ok(bxc_xattr_get(fd, "security.capability", &v, &err), err);
	assert_memory_equal(v.data, caps, sizeof(caps));
	assert_ok(bxc_xattr_get(fd, "user.note", &v, &err), err);
	assert_err(bxc_xattr_get(fd, "trusted.overlay.redirect", &v, &err), BXC_NOT_FOUND, err);
}

static void the_digest_covers_what_follows_the_archive(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_file(w, "a", "x");
	assert_int_equal(bxc_tar_writer_finish(w->w, NULL), 0);
	for (int i = 0; i < 40; i++)
		assert_int_equal(bxc_buf_append(&w->tar, "padding padding", 15, NULL), 0);
	assert_ok(bxc_snap_apply_tar(w->out_fd, bxc_test_from_buf, &w->from, NULL, &applied_digest,
			  &applied_size, &err),
		err);
	bxc_digest expected = bxc_digest_of(w->tar.data, w->tar.len);
	assert_true(bxc_digest_eq(&expected, &applied_digest));
}

/* 10.2.21 Deletions */
static void whiteouts_become_those_of_overlayfs(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_file(w, "dir/kept", "k");
	add_file(w, "dir/.wh..wh..opq", ""); /* after an entry of its folder */
	add_file(w, ".wh.gone", "");
	add_file(w, "deep/er/.wh.gone", "");
	add_dir(w, "fresh");
	add_file(w, ".wh.fresh", ""); /* replaced: deleted below, new here */
	add_file(w, ".wh.later", "");
	add_dir(w, "later");
	add_file(w, "later/x", "l"); /* and in the other order */
	add_file(w, ".wh..wh.plnk", "");
	assert_ok(apply(w, &err), err);
	assert_true(is_opaque(w, "dir"));
	assert_file(w, "dir/kept", "k");
	struct stat st = stat_of(w, "gone");
	assert_true(S_ISCHR(st.st_mode) && st.st_rdev == 0);
	st = stat_of(w, "deep/er/gone");
	assert_true(S_ISCHR(st.st_mode) && st.st_rdev == 0);
	assert_true(is_opaque(w, "fresh"));
	assert_true(is_absent(w, ".wh..wh.plnk"));
	assert_file(w, "later/x", "l");
	assert_true(is_opaque(w, "later"));
}

static void later_entries_replace_earlier_ones(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_file(w, "f", "one");
	add_link(w, BXC_TAR_HARDLINK, "peer", "f");
	add_file(w, "f", "two");
	add_file(w, "d/x", "x");
	add_dir(w, "d/");
	add_file(w, "e/x", "x");
	add_file(w, "e", "now a file");
	add_file(w, "g", "a file");
	add_dir(w, "g");
	assert_ok(apply(w, &err), err);
	assert_file(w, "f", "two");
	assert_file(w, "peer", "one");
	assert_file(w, "d/x", "x");
	assert_int_equal(stat_of(w, "d").st_mtim.tv_sec, 1000);
	assert_file(w, "e", "now a file");
	assert_true(S_ISDIR(stat_of(w, "g").st_mode));
}

static void links_within_the_layer_are_followed_within_it(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_dir(w, "usr/lib");
	add_link(w, BXC_TAR_SYMLINK, "lib", "usr/lib");
	add_file(w, "lib/so", "so");
	add_link(w, BXC_TAR_SYMLINK, "abs", "/usr");
	add_file(w, "abs/x", "x");
	add_link(w, BXC_TAR_SYMLINK, "up", "../../../..");
	add_file(w, "up/y", "y");
	assert_ok(apply(w, &err), err);
	assert_file(w, "usr/lib/so", "so");
	assert_file(w, "usr/x", "x");
	assert_file(w, "y", "y");
}

static void absolute_paths_are_taken_from_the_root_of_the_layer(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_file(w, "/abs/file", "x");
	add_file(w, "a/../b/./c", "y");
	assert_ok(apply(w, &err), err);
	assert_file(w, "abs/file", "x");
	assert_file(w, "b/c", "y");
}

static void paths_that_leave_the_layer_are_refused(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_file(w, "ok", "x");
	add_file(w, "a/../../secret", "hacked");
	assert_err_text(apply(w, &err), BXC_INVALID_ARGUMENT, err,
		"unpack 'a/../../secret': the path 'a/../../secret' leaves the layer");
}

static void hard_links_cannot_reach_outside(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_link(w, BXC_TAR_HARDLINK, "stolen", "../secret");
	assert_err_text(apply(w, &err), BXC_INVALID_ARGUMENT, err, "leaves the layer");
}

static void hard_links_cannot_follow_links_outside(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_link(w, BXC_TAR_SYMLINK, "up", "..");
	add_link(w, BXC_TAR_HARDLINK, "stolen", "up/secret");
	assert_err_text(
		apply(w, &err), BXC_NOT_FOUND, err, "unpack 'stolen': hard link to 'up/secret'");
	assert_true(is_absent(w, "stolen"));
}

static void writing_through_a_planted_link_stays_inside(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *secret = bxc_str_fmt("%s/secret", w->dir);
	add_link(w, BXC_TAR_SYMLINK, "s", secret);
	add_file(w, "s", "replaces the link");
	add_link(w, BXC_TAR_SYMLINK, "d", w->dir);
	add_file(w, "d/secret", "lands below the root");
	add_dir(w, "d");
	assert_ok(apply(w, &err), err);
	assert_file(w, "s", "replaces the link");
	assert_true(S_ISDIR(stat_of(w, "d").st_mode));
}

static void bad_entries_name_themselves(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_file(w, "dir/.wh.", "");
	assert_err_text(apply(w, &err), BXC_INVALID_ARGUMENT, err, "unpack 'dir/.wh.'");
}

static void a_file_as_a_parent_is_refused(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_file(w, "f", "x");
	add_file(w, "f/below", "y");
	assert_err_text(apply(w, &err), BXC_INVALID_ARGUMENT, err, "unpack 'f/below'");
}

static void damage_and_cancel_are_told(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *big = bxc_calloc(1, 20001);
	memset(big, 'x', 20000);
	add_file(w, "f", big);
	assert_int_equal(bxc_tar_writer_finish(w->w, NULL), 0);
	w->tar.len = 5000;
	assert_err(bxc_snap_apply_tar(w->out_fd, bxc_test_from_buf, &w->from, NULL, &applied_digest,
			   &applied_size, &err),
		BXC_DATA_LOSS, err);
	w->from.at = 0;
	BXC_CLEANUP(bxc_cancel_unrefp) bxc_cancel *c = bxc_cancel_new();
	bxc_cancel_fire(c);
	assert_err(bxc_snap_apply_tar(w->out_fd, bxc_test_from_buf, &w->from, c, &applied_digest,
			   &applied_size, &err),
		BXC_CANCELED, err);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(entries_get_their_exact_attributes),
		T(the_digest_covers_what_follows_the_archive),
		T(whiteouts_become_those_of_overlayfs),
		T(later_entries_replace_earlier_ones),
		T(links_within_the_layer_are_followed_within_it),
		T(absolute_paths_are_taken_from_the_root_of_the_layer),
		T(paths_that_leave_the_layer_are_refused),
		T(hard_links_cannot_reach_outside),
		T(hard_links_cannot_follow_links_outside),
		T(writing_through_a_planted_link_stays_inside),
		T(bad_entries_name_themselves),
		T(a_file_as_a_parent_is_refused),
		T(damage_and_cancel_are_told),
	};
	return cmocka_run_group_tests_name("snapshot-apply", tests, NULL, NULL);
}
