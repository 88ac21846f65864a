/* SPDX-License-Identifier: Apache-2.0 */
/* Real overlay mounts are changed, and the tar is read back as a list of lines. */
#include "common/testing/testing.h"

#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "common/os/fs.h"
#include "common/os/xattr.h"
#include "worker/diff/diff.h"
#include "worker/snapshot/snapshot.h"

typedef struct world {
	char *dir;
	bxc_snap *snap;
	bxc_snap_staging *base, *top;
	int lower_fd; /* the base, read-only */
	int fd;	      /* the writable mount */
	bxc_buf tar;
	bxc_test_cursor from; /* tar */
} world;

static int set_up(void **state)
{
	world *w = bxc_calloc(1, sizeof(*w));
	w->dir = bxc_test_tmpdir();
	w->lower_fd = w->fd = -1;
	bxc_buf_init(&w->tar, 16u << 20);
	w->from.buf = &w->tar;
	assert_int_equal(bxc_snap_open(w->dir, &w->snap, NULL), 0);
	assert_int_equal(bxc_snap_begin(w->snap, "l-base", &w->base, NULL), 0);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	world *w = *state;
	bxc_cleanup_close(&w->fd);
	bxc_cleanup_close(&w->lower_fd);
	bxc_snap_abort(w->base);
	bxc_snap_abort(w->top);
	bxc_snap_free(w->snap);
	bxc_buf_done(&w->tar);
	bxc_test_rmtree(w->dir);
	free(w);
	return 0;
}

/* Files of the base layer have whole-second times, as unpacked ones do. */
static void old_time(int dir_fd, const char *name)
{
	struct timespec t[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	assert_int_equal(utimensat(dir_fd, name, t, AT_SYMLINK_NOFOLLOW), 0);
}

static void put(int dir_fd, const char *name, const char *text)
{
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void base_file(world *w, const char *name, const char *text)
{
	put(bxc_snap_staging_fd(w->base), name, text);
	old_time(bxc_snap_staging_fd(w->base), name);
}

static void base_dir(world *w, const char *name)
{
	assert_int_equal(mkdirat(bxc_snap_staging_fd(w->base), name, 0755), 0);
}

/* Commits the base and mounts an empty layer over it. */
static void start(world *w)
{
	static const char *const ids[] = {"l-base"};
	BXC_AUTOERR bxc_err *err = NULL;
	assert_int_equal(bxc_snap_commit(BXC_TAKE(w->base), NULL, &err), 0);
	assert_ok(bxc_snap_begin(w->snap, "l-top", &w->top, &err), err);
	assert_ok(bxc_snap_mount_ro(w->snap, ids, 1, &w->lower_fd, &err), err);
	assert_ok(bxc_snap_mount_rw(w->snap, ids, 1, w->top, &w->fd, &err), err);
}

/* "path", with "/" for folders, "->t" for links, "=t" for hard links. */
static char *listing(world *w)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	BXC_AUTOSTRV char **lines = NULL;
	assert_ok(bxc_tar_reader_new(bxc_test_from_buf, &w->from, &r, &err), err);
	const bxc_tar_entry *e = NULL;
	int got = 0;
	while ((got = bxc_tar_reader_next(r, &e, &err)) == 1) {
		const char *sign = e->kind == BXC_TAR_DIR	 ? "/"
				   : e->kind == BXC_TAR_SYMLINK	 ? "->"
				   : e->kind == BXC_TAR_HARDLINK ? "="
								 : "";
		bxc_strv_pushf(&lines, "%s%s%s", e->path, sign, e->link ? e->link : "");
	}
	assert_ok(got, err);
	w->from.at = 0;
	return bxc_strv_join(lines, " ");
}

static char *diff(world *w)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_buf_clear(&w->tar);
	assert_ok(bxc_diff_write(bxc_snap_staging_fd(w->top), w->lower_fd, INT64_MAX, bxc_test_to_buf, &w->tar,
			  NULL, &err),
		err);
	return listing(w);
}

static void assert_diff(world *w, const char *expected)
{
	BXC_AUTOFREE char *got = diff(w);
	assert_string_equal(got, expected);
}

/* 10.2.23 Form of a layer */
static void changes_come_with_their_parents_in_order(void **state)
{
	world *w = *state;
	base_dir(w, "etc");
	base_dir(w, "etc/deep");
	base_dir(w, "var");
	base_file(w, "etc/old", "old");
	start(w);
	put(w->fd, "etc/deep/new", "n");
	put(w->fd, "etc/old", "changed");
	put(w->fd, "etc.conf", "c");
	assert_int_equal(mkdirat(w->fd, "a", 0700), 0);
	assert_int_equal(symlinkat("../x", w->fd, "var/l"), 0);
	assert_diff(w, "a/ etc/ etc/deep/ etc/deep/new etc/old etc.conf var/ var/l->../x");
}

/* 10.2.21 Deletions */
static void deletions_become_whiteouts(void **state)
{
	world *w = *state;
	base_dir(w, "d");
	base_file(w, "d/a", "a");
	base_file(w, "d/b", "b");
	base_file(w, "f", "f");
	start(w);
	assert_int_equal(unlinkat(w->fd, "d/a", 0), 0);
	assert_int_equal(unlinkat(w->fd, "f", 0), 0);
	put(w->fd, "short-lived", "x");
	assert_int_equal(unlinkat(w->fd, "short-lived", 0), 0);
	assert_diff(w, "d/ d/.wh.a .wh.f");
}

/* 10.2.21 Deletions */
static void a_replaced_folder_yields_single_whiteouts(void **state)
{
	world *w = *state;
	base_dir(w, "d");
	base_dir(w, "d/sub");
	base_file(w, "d/sub/x", "x");
	base_file(w, "d/a", "a");
	base_file(w, "d/z", "z");
	start(w);
	static const char *const gone[] = {"d/sub/x", "d/a", "d/z"};
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(unlinkat(w->fd, gone[i], 0), 0);
	assert_int_equal(unlinkat(w->fd, "d/sub", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(w->fd, "d", AT_REMOVEDIR), 0);
	assert_int_equal(mkdirat(w->fd, "d", 0755), 0);
	assert_int_equal(mkdirat(w->fd, "d/sub", 0755), 0);
	put(w->fd, "d/m", "m");
	assert_diff(w, "d/ d/.wh.a d/m d/sub/ d/sub/.wh.x d/.wh.z");
}

/* 10.2.22 Unmodified copy-ups */
static void what_was_copied_up_but_is_unchanged_is_left_out(void **state)
{
	world *w = *state;
	base_dir(w, "d");
	base_file(w, "d/opened", "o");
	base_file(w, "d/chmod", "c");
	base_file(w, "d/same-size", "1");
	start(w);
	int fd = openat(w->fd, "d/opened", O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(fchmodat(w->fd, "d/chmod", 0600, 0), 0);
	/* Another content with the old time: whole seconds make it be read. */
	put(w->fd, "d/same-size", "2");
	old_time(w->fd, "d/same-size");
	assert_diff(w, "d/ d/chmod d/same-size");
}

static void an_untouched_layer_is_an_empty_tar(void **state)
{
	world *w = *state;
	base_dir(w, "d");
	base_file(w, "d/f", "f");
	start(w);
	int fd = openat(w->fd, "d/f", O_WRONLY | O_CLOEXEC);
	close(fd);
	assert_diff(w, "");
	assert_int_equal(w->tar.len, 1024);
}

/* 10.2.23 Form of a layer */
static void types_may_change_without_a_whiteout(void **state)
{
	world *w = *state;
	base_dir(w, "d");
	base_file(w, "d/x", "x");
	base_file(w, "f", "f");
	start(w);
	assert_int_equal(unlinkat(w->fd, "d/x", 0), 0);
	assert_int_equal(unlinkat(w->fd, "d", AT_REMOVEDIR), 0);
	put(w->fd, "d", "file");
	assert_int_equal(unlinkat(w->fd, "f", 0), 0);
	assert_int_equal(mkdirat(w->fd, "f", 0755), 0);
	assert_diff(w, "d f/");
}

/* 10.1.14 Hard links, 10.1.15 Attributes and special files */
static void hard_links_stay_and_sockets_go(void **state)
{
	world *w = *state;
	base_file(w, "base", "b");
	base_file(w, "gone1", "1");
	base_file(w, "gone2", "2");
	start(w);
	put(w->fd, "one", "1");
	assert_int_equal(linkat(w->fd, "one", w->fd, "two", 0), 0);
	assert_int_equal(mknodat(w->fd, "sock", S_IFSOCK | 0600, 0), 0);
	/* Whiteouts share an inode, which makes them no hard links. */
	assert_int_equal(unlinkat(w->fd, "gone1", 0), 0);
	assert_int_equal(unlinkat(w->fd, "gone2", 0), 0);
	assert_diff(w, ".wh.gone1 .wh.gone2 one two=one");
}

/* 10.2.23 Form of a layer */
static void headers_hold_what_a_layer_may_tell(void **state)
{
	world *w = *state;
	start(w);
	put(w->fd, "f", "data");
	assert_int_equal(fchownat(w->fd, "f", 12, 34, 0), 0);
	assert_int_equal(fchmodat(w->fd, "f", 04711, 0), 0);
	struct timespec t[2] = {{.tv_sec = 5, .tv_nsec = 6}, {.tv_sec = 99, .tv_nsec = 123456789}};
	BXC_AUTOCLOSE int fd = openat(w->fd, "f", O_RDONLY | O_CLOEXEC);
	static const uint8_t caps[] = {1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_xattr_set(fd, "security.capability", caps, sizeof(caps), &err), err);
	assert_ok(bxc_xattr_set(fd, "user.note", "n", 1, &err), err);
	assert_int_equal(futimens(fd, t), 0);
	assert_diff(w, "f");
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	const bxc_tar_entry *e = NULL;
	assert_ok(bxc_tar_reader_new(bxc_test_from_buf, &w->from, &r, &err), err);
	assert_int_equal(bxc_tar_reader_next(r, &e, &err), 1);
	assert_int_equal(e->uid, 12);
	assert_int_equal(e->gid, 34);
	assert_int_equal(e->mode, 04711);
	assert_int_equal(e->mtime_s, 99);
	assert_int_equal(e->mtime_ns, 0);
	assert_int_equal(e->size, 4);
	assert_int_equal(e->n_xattrs, 1);
	assert_string_equal(e->xattrs[0].name, "security.capability");
	assert_memory_equal(e->xattrs[0].value, caps, sizeof(caps));
}

static void applying_the_diff_gives_the_same_view(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	base_dir(w, "d");
	base_file(w, "d/a", "a");
	base_file(w, "d/b", "b");
	base_file(w, "f", "f");
	start(w);
	assert_int_equal(unlinkat(w->fd, "f", 0), 0);
	assert_int_equal(unlinkat(w->fd, "d/a", 0), 0);
	put(w->fd, "d/c", "c");
	assert_int_equal(mknodat(w->fd, "dev", S_IFCHR | 0600, makedev(1, 5)), 0);
	assert_diff(w, "d/ d/.wh.a d/c dev .wh.f");
	bxc_snap_staging *g = NULL;
	bxc_digest diff_id;
	uint64_t size = 0;
	assert_ok(bxc_snap_begin(w->snap, "l-copy", &g, &err), err);
	assert_ok(bxc_snap_apply_tar(bxc_snap_staging_fd(g), bxc_test_from_buf, &w->from, NULL,
			  &diff_id, &size, &err),
		err);
	w->from.at = 0;
	BXC_AUTOBUF bxc_buf again = BXC_BUF_INIT(16u << 20);
	assert_ok(bxc_diff_write(
			  bxc_snap_staging_fd(g), w->lower_fd, INT64_MAX, bxc_test_to_buf, &again, NULL, &err),
		err);
	assert_int_equal(again.len, w->tar.len);
	assert_memory_equal(again.data, w->tar.data, again.len);
	bxc_snap_abort(g);
}

static void a_whole_tree_goes_below_its_prefix(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	base_dir(w, "d");
	base_file(w, "d/a", "a");
	start(w);
	put(w->fd, "new", "n");
	BXC_CLEANUP(bxc_tar_writer_freep) bxc_tar_writer *t = NULL;
	assert_ok(bxc_tar_writer_new(0, bxc_test_to_buf, &w->tar, &t, &err), err);
	assert_ok(bxc_diff_write_tree(w->fd, "linux_amd64", t, NULL, &err), err);
	assert_ok(bxc_diff_write_tree(w->lower_fd, NULL, t, NULL, &err), err);
	assert_ok(bxc_tar_writer_finish(t, &err), err);
	BXC_AUTOFREE char *got = listing(w);
	assert_string_equal(
		got, "linux_amd64/ linux_amd64/d/ linux_amd64/d/a linux_amd64/new d/ d/a");
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(changes_come_with_their_parents_in_order),
		T(deletions_become_whiteouts),
		T(a_replaced_folder_yields_single_whiteouts),
		T(what_was_copied_up_but_is_unchanged_is_left_out),
		T(an_untouched_layer_is_an_empty_tar),
		T(types_may_change_without_a_whiteout),
		T(hard_links_stay_and_sockets_go),
		T(headers_hold_what_a_layer_may_tell),
		T(applying_the_diff_gives_the_same_view),
		T(a_whole_tree_goes_below_its_prefix),
	};
	return cmocka_run_group_tests_name("diff", tests, NULL, NULL);
}
