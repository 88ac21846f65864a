/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include <sys/socket.h>

#include "common/base/limits.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/xattr.h"

/* A folder of its own for each test, open as f->dir_fd. */
struct fixture {
	char *path;
	int dir_fd;
};

static int set_up(void **state)
{
	struct fixture *f = bxc_calloc(1, sizeof(*f));
	f->path = bxc_test_tmpdir();
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->dir_fd >= 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	close(f->dir_fd);
	bxc_test_rmtree(f->path);
	free(f);
	return 0;
}

static void put(const struct fixture *f, const char *name, const char *text)
{
	BXC_AUTOCLOSE int fd =
		openat(f->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void put_dir(const struct fixture *f, const char *name)
{
	assert_int_equal(mkdirat(f->dir_fd, name, 0755), 0);
}

static void put_link(const struct fixture *f, const char *name, const char *target)
{
	assert_int_equal(symlinkat(target, f->dir_fd, name), 0);
}

static mode_t mode_of(const struct fixture *f, const char *name)
{
	struct stat st;
	assert_int_equal(fstatat(f->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_mode;
}

static bool exists(const struct fixture *f, const char *name)
{
	struct stat st;
	return fstatat(f->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- fd ---- */

static void reads_and_writes_are_whole(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int a = -1;
	BXC_AUTOCLOSE int b = -1;
	assert_ok(bxc_fd_socketpair(&a, &b, &err), err);
	assert_ok(bxc_fd_set_nonblock(a, true, &err), err);
	assert_ok(bxc_fd_write_all(b, "hel", 3, &err), err);
	assert_ok(bxc_fd_write_all(b, "lo", 2, &err), err);
	char text[16] = {0};
	assert_ok(bxc_fd_read_exact(a, text, 5, &err), err);
	assert_string_equal(text, "hello");
	assert_int_equal(bxc_fd_wait(a, 1 /* POLLIN */, 0, NULL), 0);
	assert_int_equal(shutdown(b, SHUT_WR), 0);
	assert_err(bxc_fd_read_exact(a, text, 1, &err), BXC_DATA_LOSS, err);
}

static void reading_to_the_end_stops_at_the_maximum(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int fd = -1;
	assert_ok(bxc_fd_memfd("x", "12345678", 8, true, &fd, &err), err);
	assert_int_equal(write(fd, "y", 1), -1);
	BXC_AUTOBUF bxc_buf exact = BXC_BUF_INIT(8);
	assert_ok(bxc_fd_read_to_end(fd, &exact, &err), err);
	assert_string_equal(bxc_buf_text(&exact), "12345678");
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	BXC_AUTOBUF bxc_buf small = BXC_BUF_INIT(7);
	assert_err(bxc_fd_read_to_end(fd, &small, &err), BXC_RESOURCE_EXHAUSTED, err);
	uint64_t size = 0;
	assert_ok(bxc_fd_size(fd, &size, &err), err);
	assert_int_equal(size, 8);
}

static void copies_work_between_every_kind_of_descriptor(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put(f, "in", "0123456789");
	BXC_AUTOCLOSE int in = openat(f->dir_fd, "in", O_RDONLY | O_CLOEXEC);
	BXC_AUTOCLOSE int out = openat(f->dir_fd, "out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	BXC_AUTOCLOSE int memory = -1;
	assert_ok(bxc_fd_memfd("m", "", 0, false, &memory, &err), err);
	BXC_AUTOCLOSE int pipe_out = -1;
	BXC_AUTOCLOSE int pipe_in = -1;
	assert_ok(bxc_fd_pipe(&pipe_in, &pipe_out, &err), err);
	BXC_AUTOCLOSE int append =
		openat(f->dir_fd, "log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	char text[16] = {0};

	assert_ok(bxc_fd_copy(in, 2, out, 5, &err), err);     /* the same file system */
	assert_ok(bxc_fd_copy(out, 1, memory, 3, &err), err); /* another one */
	assert_ok(bxc_fd_copy(memory, 0, pipe_out, 3, &err), err);
	assert_ok(bxc_fd_copy(memory, 1, append, 2, &err), err);
	assert_ok(bxc_fd_read_exact(pipe_in, text, 3, &err), err);
	assert_string_equal(text, "345");
	assert_ok(bxc_fd_pread_exact(append, text, 2, 0, &err), err);
	assert_memory_equal(text, "45", 2);
	assert_int_equal(lseek(in, 0, SEEK_CUR), 0);
	assert_err(bxc_fd_copy(in, 8, out, 3, &err), BXC_DATA_LOSS, err);
	assert_err(bxc_fd_copy(in, UINT64_MAX, out, 3, &err), BXC_OUT_OF_RANGE, err);
}

/* ---- look-ups ---- */

static void links_cannot_leave_the_root(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put_dir(f, "etc");
	put(f, "etc/passwd", "inside");
	put_dir(f, "a");
	put_link(f, "a/abs", "/etc/passwd");
	put_link(f, "a/up", "../../../../etc/passwd");
	put_link(f, "a/proc", "/proc/self/root/etc/passwd");
	static const char *const inside[] = {"etc/passwd", "/etc/passwd", "///etc//passwd", "a/abs",
		"a/up", "../../etc/passwd", "a/../../etc/passwd"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(inside); i++) {
		BXC_AUTOCLOSE int fd = -1;
		assert_ok(bxc_fs_open_beneath(
				  f->dir_fd, inside[i], O_RDONLY, 0, BXC_FS_IN_ROOT, &fd, &err),
			err);
		char text[8] = {0};
		assert_ok(bxc_fd_read_exact(fd, text, 6, &err), err);
		assert_string_equal(text, "inside");
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	}
	int fd = -1;
	assert_err(bxc_fs_open_beneath(f->dir_fd, "a/proc", O_RDONLY, 0, BXC_FS_IN_ROOT, &fd, &err),
		BXC_NOT_FOUND, err);
	static const char *const outside[] = {"a/abs", "a/up", "../x", "a/../.."};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(outside); i++)
		assert_err_text(bxc_fs_open_beneath(f->dir_fd, outside[i], O_RDONLY, 0,
					BXC_FS_BENEATH, &fd, &err),
			BXC_INVALID_ARGUMENT, err, "leaves its root");
	put_link(f, "a/ok", "../etc/passwd");
	assert_ok(bxc_fs_open_beneath(f->dir_fd, "/a/ok", O_RDONLY, 0, BXC_FS_BENEATH, &fd, &err),
		err);
	close(fd);
	assert_err(bxc_fs_open_beneath(f->dir_fd, "a/ok", O_RDONLY, 0, BXC_FS_NO_LINKS, &fd, &err),
		BXC_INVALID_ARGUMENT, err);
}

static void magic_links_are_refused(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = -1;
	assert_int_equal(
		bxc_fs_open_beneath(proc, "self/root", O_RDONLY, 0, BXC_FS_IN_ROOT, &fd, &err),
		-BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_err_errnum(err), ELOOP);
}

static void parents_are_opened_without_following_the_last_link(void **state)
{
	struct fixture *f = *state;
	put_dir(f, "usr");
	put_dir(f, "usr/lib");
	put_link(f, "lib", "/usr/lib");
	put_link(f, "usr/lib/last", "/nowhere");
	static const struct {
		const char *path;
		const char *dir;
		const char *name;
	} cases[] = {
		{"lib/last", "usr/lib", "last"},
		{"/lib/new", "usr/lib", "new"},
		{"lib/x/", "usr/lib", "x"},
		{"lib/./x/.//.", "usr/lib", "x"},
		{"lib", ".", "lib"},
		{"lib/..", "usr", "."},
		{"/", ".", "."},
		{"", ".", "."},
		{".", ".", "."},
		{"...", ".", "..."},
		{"usr/.hidden.", "usr", ".hidden."},
		{"../..", ".", "."},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_AUTOCLOSE int fd = -1;
		BXC_AUTOFREE char *name = NULL;
		assert_ok(
			bxc_fs_open_parent(f->dir_fd, cases[i].path, true, &fd, &name, &err), err);
		assert_string_equal(name, cases[i].name);
		struct stat got, want;
		assert_int_equal(fstat(fd, &got), 0);
		assert_int_equal(fstatat(f->dir_fd, cases[i].dir, &want, 0), 0);
		assert_int_equal(got.st_ino, want.st_ino);
	}
	BXC_AUTOERR bxc_err *err = NULL;
	int fd = -1;
	char *name = NULL;
	assert_err(bxc_fs_open_parent(f->dir_fd, "lib/x", false, &fd, &name, &err),
		BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_fs_open_parent(f->dir_fd, "none/x", true, &fd, &name, &err), BXC_NOT_FOUND,
		err);
}

/* ---- making folders ---- */

static void on_made(int dir_fd, const char *path, void *ud)
{
	bxc_buf *all = ud;
	struct stat st;
	assert_int_equal(fstat(dir_fd, &st), 0);
	bxc_buf_addf(all, "%s:%o ", path, st.st_mode & 07777u);
}

static void folders_are_made_in_the_root_with_exact_modes(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf made = BXC_BUF_INIT(4096);
	mode_t before = umask(077);
	put_dir(f, "real");
	put_link(f, "link", "/real");
	put_link(f, "dangling", "not/yet");
	put_link(f, "chain", "/dangling/more");
	BXC_AUTOCLOSE int fd = -1;
	assert_ok(bxc_fs_mkdir_p(f->dir_fd, "/link/a/../b/c", 01775, getuid(), getgid(), on_made,
			  &made, &fd, &err),
		err);
	assert_string_equal(
		bxc_buf_text(&made), "link/a:1775 link/a/../b:1775 link/a/../b/c:1775 ");
	assert_int_equal(mode_of(f, "real/b/c"), S_IFDIR | 01775);
	assert_true((fcntl(fd, F_GETFL) & O_PATH) != 0);
	bxc_buf_clear(&made);
	assert_ok(bxc_fs_mkdir_p(f->dir_fd, "chain/x", 0755, BXC_FS_KEEP_ID, BXC_FS_KEEP_ID,
			  on_made, &made, NULL, &err),
		err);
	assert_int_equal(mode_of(f, "not/yet/more/x"), S_IFDIR | 0755);
	assert_string_equal(
		bxc_buf_text(&made), "not:755 not/yet:755 not/yet/more:755 not/yet/more/x:755 ");
	/* Again: nothing is made, nothing changes. */
	bxc_buf_clear(&made);
	assert_ok(
		bxc_fs_mkdir_p(f->dir_fd, "chain/x", 0700, 0, 0, on_made, &made, NULL, &err), err);
	assert_int_equal(made.len, 0);
	assert_int_equal(mode_of(f, "not/yet/more/x"), S_IFDIR | 0755);
	umask(before);
}

static void folders_cannot_be_made_outside_or_in_circles(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put(f, "file", "");
	put_link(f, "loop", "loop/x");
	put_link(f, "out", "../../bxc-test-must-not-exist");
	assert_err(bxc_fs_mkdir_p(f->dir_fd, "file/x", 0755, 0, 0, NULL, NULL, NULL, &err),
		BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_fs_mkdir_p(f->dir_fd, "loop/y", 0755, 0, 0, NULL, NULL, NULL, &err),
		BXC_INVALID_ARGUMENT, err);
	assert_ok(bxc_fs_mkdir_p(f->dir_fd, "out/y", 0755, BXC_FS_KEEP_ID, BXC_FS_KEEP_ID, NULL,
			  NULL, NULL, &err),
		err);
	assert_true(exists(f, "bxc-test-must-not-exist/y"));
	assert_ok(bxc_fs_mkdir_p(f->dir_fd, "../../../up", 0755, BXC_FS_KEEP_ID, BXC_FS_KEEP_ID,
			  NULL, NULL, NULL, &err),
		err);
	assert_true(exists(f, "up"));
}

static void trusted_folders_are_made_by_path(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/x//y/z/", f->path);
	assert_ok(bxc_fs_make_dirs(AT_FDCWD, path, 0711, &err), err);
	assert_int_equal(mode_of(f, "x/y/z"), S_IFDIR | 0711);
	assert_ok(bxc_fs_make_dirs(f->dir_fd, "x/y/w", 0700, &err), err);
	assert_int_equal(mode_of(f, "x/y"), S_IFDIR | 0711);
	put(f, "file", "");
	assert_err(bxc_fs_make_dirs(f->dir_fd, "file/x", 0700, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_fs_make_dirs(f->dir_fd, "file", 0700, &err), BXC_INVALID_ARGUMENT, err);
}

/* ---- whole files ---- */

static void files_are_read_up_to_a_bound(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1);
	put(f, "x", "hello");
	put_link(f, "l", "/x");
	assert_ok(bxc_fs_read_file(f->dir_fd, "x", 5, &b, &err), err);
	assert_string_equal(bxc_buf_text(&b), "hello");
	assert_ok(bxc_fs_read_file_in_root(f->dir_fd, "l", 5, &b, &err), err);
	assert_string_equal(bxc_buf_text(&b), "hello");
	assert_err(bxc_fs_read_file(f->dir_fd, "x", 4, &b, &err), BXC_RESOURCE_EXHAUSTED, err);
	assert_err(bxc_fs_read_file(f->dir_fd, "y", 4, &b, &err), BXC_NOT_FOUND, err);
	/* A FIFO would block, a folder makes no sense. */
	assert_int_equal(mkfifoat(f->dir_fd, "fifo", 0600), 0);
	assert_err(bxc_fs_read_file(f->dir_fd, "fifo", 4, &b, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_fs_read_file(f->dir_fd, ".", 4, &b, &err), BXC_INVALID_ARGUMENT, err);
	assert_ok(bxc_fs_read_file(AT_FDCWD, "/proc/self/status", 100000, &b, &err), err);
	assert_true(b.len > 0);
}

static void secrets_are_read_without_the_end_of_their_line(void **state)
{
	static const struct {
		const char *text, *secret;
	} files[] = {{"abc", "abc"}, {"abc\n", "abc"}, {"abc\r\n", "abc"},
		{"a b\nc \n\n", "a b\nc "}, {"\n", ""}, {"", ""}};
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(files); i++) {
		BXC_CLEANUP(bxc_secret_freep) bxc_secret *s = NULL;
		put(f, "x", files[i].text);
		assert_ok(bxc_fs_read_secret(f->dir_fd, "x", 10, &s, &err), err);
		assert_true(bxc_secret_eq(s, files[i].secret, strlen(files[i].secret)));
	}
	bxc_secret *none = NULL;
	put(f, "x", "12345\n");
	assert_err(bxc_fs_read_secret(f->dir_fd, "x", 5, &none, &err), BXC_RESOURCE_EXHAUSTED, err);
	assert_err(bxc_fs_read_secret(f->dir_fd, "y", 5, &none, &err), BXC_NOT_FOUND, err);
	assert_null(none);
}

static void files_are_replaced_as_a_whole(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	mode_t before = umask(077);
	assert_ok(bxc_fs_write_atomic(f->dir_fd, "x", "one", 3, 0664, &err), err);
	assert_ok(bxc_fs_write_atomic(f->dir_fd, "x", "two!", 4, 0644, &err), err);
	umask(before);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(100);
	assert_ok(bxc_fs_read_file(f->dir_fd, "x", 100, &b, &err), err);
	assert_string_equal(bxc_buf_text(&b), "two!");
	assert_int_equal(mode_of(f, "x"), S_IFREG | 0644);
	put_dir(f, "d");
	assert_ok(bxc_fs_write_atomic(f->dir_fd, "d/y", "", 0, 0600, &err), err);
	/* A failure leaves no temporary file. */
	put_dir(f, "d/taken");
	assert_true(bxc_fs_write_atomic(f->dir_fd, "d/taken", "z", 1, 0600, NULL) < 0);
	BXC_AUTOSTRV char **names = NULL;
	assert_ok(bxc_fs_list_dir(f->dir_fd, "d", 10, &names, &err), err);
	BXC_AUTOFREE char *joined = bxc_strv_join(names, " ");
	assert_string_equal(joined, "taken y");
	assert_err(
		bxc_fs_rename(f->dir_fd, "x", f->dir_fd, "d", true, &err), BXC_ALREADY_EXISTS, err);
	assert_ok(bxc_fs_rename(f->dir_fd, "x", f->dir_fd, "z", true, &err), err);
	assert_ok(bxc_fs_sync_dir(f->dir_fd, &err), err);
}

static void names_come_sorted_and_bounded(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOSTRV char **none = NULL;
	assert_ok(bxc_fs_list_dir(f->dir_fd, "", 0, &none, &err), err);
	assert_int_equal(bxc_strv_len(none), 0);
	assert_non_null(none);
	put(f, "b", "");
	put(f, "B", "");
	put(f, "\xff", "");
	put(f, "a.b", "");
	put_dir(f, "a");
	BXC_AUTOSTRV char **names = NULL;
	assert_ok(bxc_fs_list_dir(f->dir_fd, ".", 5, &names, &err), err);
	BXC_AUTOFREE char *joined = bxc_strv_join(names, " ");
	assert_string_equal(joined, "B a a.b b \xff");
	char **never = NULL;
	assert_err(bxc_fs_list_dir(f->dir_fd, ".", 4, &never, &err), BXC_RESOURCE_EXHAUSTED, err);
	put_link(f, "l", "a");
	assert_err(bxc_fs_list_dir(f->dir_fd, "l", 4, &never, &err), BXC_INVALID_ARGUMENT, err);
	assert_null(never);
}

/* ---- removal ---- */

static void trees_are_removed_without_following_links(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put_dir(f, "keep");
	put(f, "keep/me", "");
	put_dir(f, "t");
	put_dir(f, "t/sub");
	put(f, "t/sub/f", "");
	put_link(f, "t/sub/out", "../../keep");
	put_link(f, "t/dangling", "nowhere");
	assert_int_equal(mkfifoat(f->dir_fd, "t/fifo", 0600), 0);
	put_dir(f, "t/locked");
	put(f, "t/locked/f", "");
	assert_int_equal(fchmodat(f->dir_fd, "t/locked", 0, 0), 0);
	assert_ok(bxc_fs_rmtree(f->dir_fd, "t", &err), err);
	assert_false(exists(f, "t"));
	assert_true(exists(f, "keep/me"));
	assert_ok(bxc_fs_rmtree(f->dir_fd, "t", &err), err);
	put_link(f, "l", "keep");
	assert_ok(bxc_fs_rmtree(f->dir_fd, "l", &err), err);
	assert_true(exists(f, "keep/me"));
	assert_err(bxc_fs_rmtree(f->dir_fd, "keep/me", &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_fs_rmtree(f->dir_fd, "..", &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_fs_rmtree(f->dir_fd, "", &err), BXC_INVALID_ARGUMENT, err);
}

static void deep_trees_are_removed_with_few_descriptors(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put_dir(f, "t");
	int fd = openat(f->dir_fd, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* Far deeper than a path can say and than descriptors there are. */
	for (int i = 0; i < 3000; i++) {
		assert_int_equal(mkdirat(fd, "deeper", 0755), 0);
		assert_int_equal(mkdirat(fd, "beside", 0755), 0);
		int next = openat(fd, "deeper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	assert_ok(bxc_fs_rmtree(f->dir_fd, "t", &err), err);
	assert_false(exists(f, "t"));
}

/* ---- the rest ---- */

static void links_and_stats_are_read(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put_link(f, "l", "some/target");
	BXC_AUTOFREE char *target = NULL;
	assert_ok(bxc_fs_readlink(f->dir_fd, "l", &target, &err), err);
	assert_string_equal(target, "some/target");
	BXC_AUTOCLOSE int fd = openat(f->dir_fd, "l", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	BXC_AUTOFREE char *again = NULL;
	assert_ok(bxc_fs_readlink(fd, "", &again, &err), err);
	assert_string_equal(again, "some/target");
	struct stat st;
	assert_ok(bxc_fs_lstat(fd, "", &st, &err), err);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(bxc_fs_lstat_opt(f->dir_fd, "l", &st, NULL), 1);
	assert_int_equal(bxc_fs_lstat_opt(f->dir_fd, "m", &st, NULL), 0);
	assert_err(bxc_fs_lstat(f->dir_fd, "m", &st, &err), BXC_NOT_FOUND, err);
	uint64_t total = 0, avail = 0;
	assert_ok(bxc_fs_space(f->dir_fd, &total, &avail, &err), err);
	assert_true(total >= avail && total > 0);
}

static void locks_exclude_each_other(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	int first = -1, second = -1;
	assert_ok(bxc_fs_lock(f->dir_fd, "lock", &first, &err), err);
	assert_err(bxc_fs_lock(f->dir_fd, "lock", &second, &err), BXC_FAILED_PRECONDITION, err);
	close(first);
	assert_ok(bxc_fs_lock(f->dir_fd, "lock", &second, &err), err);
	close(second);
}

static void attributes_work_through_path_descriptors(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put(f, "x", "");
	BXC_AUTOCLOSE int fd = openat(f->dir_fd, "x", O_PATH | O_CLOEXEC);
	assert_ok(bxc_xattr_set(fd, "user.b", "two\0", 4, &err), err);
	assert_ok(bxc_xattr_set(fd, "user.a", "", 0, &err), err);
	BXC_AUTOSTRV char **names = NULL;
	assert_ok(bxc_xattr_list(fd, &names, &err), err);
	BXC_AUTOFREE char *joined = bxc_strv_join(names, " ");
	assert_string_equal(joined, "user.a user.b");
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_LIMIT_XATTR);
	assert_ok(bxc_xattr_get(fd, "user.b", &b, &err), err);
	assert_int_equal(b.len, 4);
	assert_ok(bxc_xattr_get(fd, "user.a", &b, &err), err);
	assert_int_equal(b.len, 0);
	assert_ok(bxc_xattr_remove(fd, "user.b", &err), err);
	assert_ok(bxc_xattr_remove(fd, "user.b", &err), err);
	assert_err(bxc_xattr_get(fd, "user.b", &b, &err), BXC_NOT_FOUND, err);
	/* Of a link itself, not of what it points to: user.* is refused there. */
	put_link(f, "l", "x");
	BXC_AUTOCLOSE int link_fd = openat(f->dir_fd, "l", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	BXC_AUTOSTRV char **none = NULL;
	assert_ok(bxc_xattr_list(link_fd, &none, &err), err);
	assert_null(none);
	assert_err(bxc_xattr_set(link_fd, "user.c", "1", 1, &err), BXC_PERMISSION_DENIED, err);
}

#define FS_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_and_writes_are_whole),
		cmocka_unit_test(reading_to_the_end_stops_at_the_maximum),
		FS_TEST(copies_work_between_every_kind_of_descriptor),
		FS_TEST(links_cannot_leave_the_root),
		cmocka_unit_test(magic_links_are_refused),
		FS_TEST(parents_are_opened_without_following_the_last_link),
		FS_TEST(folders_are_made_in_the_root_with_exact_modes),
		FS_TEST(folders_cannot_be_made_outside_or_in_circles),
		FS_TEST(trusted_folders_are_made_by_path),
		FS_TEST(files_are_read_up_to_a_bound),
		FS_TEST(secrets_are_read_without_the_end_of_their_line),
		FS_TEST(files_are_replaced_as_a_whole),
		FS_TEST(names_come_sorted_and_bounded),
		FS_TEST(trees_are_removed_without_following_links),
		FS_TEST(deep_trees_are_removed_with_few_descriptors),
		FS_TEST(links_and_stats_are_read),
		FS_TEST(locks_exclude_each_other),
		FS_TEST(attributes_work_through_path_descriptors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
