/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include <sched.h>
#include <signal.h>

#include "common/os/cg.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/mnt.h"
#include "common/os/proc.h"

/* Without root the tests run in a user namespace, where overlays need user.overlay.*. */
static bxc_mnt_overlay_flags base_flags = BXC_MNT_OVERLAY_VOLATILE;

struct fixture {
	char *path;
	int dir_fd;
	char *lowers[3]; /* topmost first */
	char *upper;
	char *work;
	char *at;
};

static void put(const struct fixture *f, const char *name, const char *text)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/%s", f->path, name);
	bxc_test_write_file(path, text, strlen(text), 0644);
}

static int set_up(void **state)
{
	struct fixture *f = bxc_calloc(1, sizeof(*f));
	f->path = bxc_test_tmpdir();
	/* On a tmpfs of our own, as the place may be an overlay, which cannot hold an upper. */
	int fd = -1;
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_mnt_tmpfs(64 << 20, 0755, &fd, &err), err);
	assert_ok(bxc_mnt_move(fd, AT_FDCWD, f->path, &err), err);
	close(fd);
	f->dir_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	static const char *const names[] = {"top:most", "mid", "bottom", "upper", "work", "at"};
	char **paths[] = {&f->lowers[0], &f->lowers[1], &f->lowers[2], &f->upper, &f->work, &f->at};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(names); i++) {
		*paths[i] = bxc_str_fmt("%s/%s", f->path, names[i]);
		assert_int_equal(mkdir(*paths[i], 0755), 0);
	}
	put(f, "top:most/x", "top");
	put(f, "mid/x", "mid");
	put(f, "mid/m", "mid");
	put(f, "bottom/m", "bottom");
	put(f, "bottom/b", "bottom");
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	close(f->dir_fd);
	assert_ok(bxc_mnt_detach_below(f->path, &err), err);
	bxc_test_rmtree(f->path);
	for (size_t i = 0; i < 3; i++)
		free(f->lowers[i]);
	free(f->upper);
	free(f->work);
	free(f->at);
	free(f);
	return 0;
}

/* "name=content " of each file, sorted. */
static char *view(int dir_fd)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOSTRV char **names = NULL;
	BXC_AUTOBUF bxc_buf all = BXC_BUF_INIT(4096);
	assert_ok(bxc_fs_list_dir(dir_fd, "", 100, &names, &err), err);
	for (size_t i = 0; names[i]; i++) {
		BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(100);
		assert_ok(bxc_fs_read_file(dir_fd, names[i], 100, &b, &err), err);
		bxc_buf_addf(&all, "%s=%s ", names[i], bxc_buf_text(&b));
	}
	bxc_buf_addc(&all, '.');
	return bxc_buf_steal(&all);
}

static void check_overlay(struct fixture *f, size_t n_lowers, bool with_upper,
	bxc_mnt_overlay_flags flags, const char *want)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int fd = -1;
	assert_ok(bxc_mnt_overlay((const char *const *)f->lowers, n_lowers,
			  with_upper ? f->upper : NULL, f->work, flags, &fd, &err),
		err);
	BXC_AUTOFREE char *got = view(fd);
	assert_string_equal(got, want);
	int made = openat(fd, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(made >= 0, with_upper);
	if (made >= 0) {
		close(made);
		assert_int_equal(faccessat(f->dir_fd, "upper/new", F_OK, 0), 0);
	} else {
		assert_int_equal(errno, EROFS);
	}
	/* Nothing is seen until it is attached. */
	BXC_AUTOCLOSE int at = open(f->at, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(faccessat(at, "x", F_OK, 0), -1);
	assert_ok(bxc_mnt_move(fd, AT_FDCWD, f->at, &err), err);
	BXC_AUTOCLOSE int attached = open(f->at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat a, b;
	assert_int_equal(fstat(attached, &a), 0);
	assert_int_equal(fstat(fd, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_ok(bxc_mnt_detach(f->at, &err), err);
	assert_ok(bxc_mnt_detach(f->at, &err), err);
}

static void overlays_show_layers_topmost_first(void **state)
{
	check_overlay(*state, 3, true, base_flags, "b=bottom m=mid x=top .");
}

static void overlays_without_upper_are_read_only(void **state)
{
	check_overlay(*state, 3, false, base_flags, "b=bottom m=mid x=top .");
}

static void overlays_work_through_the_old_api(void **state)
{
	check_overlay(
		*state, 3, true, base_flags | BXC_MNT_OVERLAY_OLD_API, "b=bottom m=mid x=top .");
}

static void one_layer_with_an_upper(void **state)
{
	check_overlay(*state, 1, true, base_flags, "x=top .");
}

static void one_layer_alone_is_a_read_only_clone(void **state)
{
	check_overlay(*state, 1, false, base_flags, "x=top .");
}

static void no_layer_with_an_upper_writes_to_it(void **state)
{
	check_overlay(*state, 0, true, base_flags, ".");
}

static void nothing_at_all_is_an_empty_folder(void **state)
{
	check_overlay(*state, 0, false, base_flags, ".");
}

static void overlay_errors_say_why(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	int fd = -1;
	const char *lowers[] = {f->lowers[1], "/nowhere/at/all"};
	assert_int_equal(bxc_mnt_overlay(lowers, 2, f->upper, f->work, base_flags, &fd, &err),
		-BXC_NOT_FOUND);
	assert_non_null(strstr(bxc_err_text(err), "/nowhere/at/all"));
	bxc_err_free(BXC_TAKE(err));
	const char *many[501];
	for (size_t i = 0; i < 501; i++)
		many[i] = f->lowers[1];
	assert_err(bxc_mnt_overlay(many, 501, f->upper, f->work, base_flags, &fd, &err),
		BXC_RESOURCE_EXHAUSTED, err);
	assert_err(bxc_mnt_overlay(many, 400, f->upper, f->work,
			   base_flags | BXC_MNT_OVERLAY_OLD_API, &fd, &err),
		BXC_RESOURCE_EXHAUSTED, err);
	/* What the kernel logs in the context is part of the text. */
	char *options[] = {(char[]){"no_such_option=1"}, NULL};
	assert_int_equal(bxc_mnt_new("tmpfs", options, 0, &fd, &err), -BXC_INVALID_ARGUMENT);
	assert_non_null(strstr(bxc_err_text(err), "no_such_option"));
	assert_non_null(strstr(bxc_err_text(err), "Unknown parameter"));
	bxc_err_free(BXC_TAKE(err));
	assert_err(bxc_mnt_new("no-such-fs", NULL, 0, &fd, &err), BXC_UNIMPLEMENTED, err);
	assert_int_equal(fd, -1);
}

static void five_hundred_layers_can_be_stacked(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOSTRV char **lowers = NULL;
	for (int i = 0; i < 500; i++) {
		bxc_strv_pushf(&lowers, "%s/layer-%d", f->path, i);
		assert_int_equal(mkdir(lowers[i], 0755), 0);
	}
	put(f, "layer-499/deep", "down");
	BXC_AUTOCLOSE int fd = -1;
	assert_ok(bxc_mnt_overlay((const char *const *)lowers, 500, f->upper, f->work, base_flags,
			  &fd, &err),
		err);
	assert_int_equal(faccessat(fd, "deep", F_OK, 0), 0);
}

static void clones_can_be_made_read_only(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int fd = -1;
	assert_ok(bxc_mnt_bind_clone(f->dir_fd, "mid", false, MOUNT_ATTR_RDONLY, &fd, &err), err);
	assert_int_equal(openat(fd, "m", O_WRONLY | O_CLOEXEC), -1);
	assert_int_equal(errno, EROFS);
	assert_ok(bxc_mnt_set_attrs(fd, 0, MOUNT_ATTR_RDONLY, false, &err), err);
	BXC_AUTOCLOSE int file = openat(fd, "m", O_WRONLY | O_CLOEXEC);
	assert_true(file >= 0);
	/* Of a single file, onto a file. */
	BXC_AUTOCLOSE int one = -1;
	assert_ok(bxc_mnt_bind_clone(f->dir_fd, "mid/m", false, 0, &one, &err), err);
	assert_ok(bxc_mnt_move(one, f->dir_fd, "bottom/b", &err), err);
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/bottom/b", f->path);
	BXC_AUTOFREE char *text = bxc_test_read_file(path, NULL);
	assert_string_equal(text, "mid");
}

static void trees_with_mounts_in_them_are_not_removed(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int fd = -1;
	assert_ok(bxc_mnt_bind_clone(f->dir_fd, "mid", false, 0, &fd, &err), err);
	assert_int_equal(mkdirat(f->dir_fd, "bottom/sub", 0755), 0);
	assert_ok(bxc_mnt_move(fd, f->dir_fd, "bottom/sub", &err), err);
	assert_err(bxc_fs_rmtree(f->dir_fd, "bottom", &err), BXC_FAILED_PRECONDITION, err);
	assert_int_equal(faccessat(f->dir_fd, "mid/m", F_OK, 0), 0);
	int below = -1;
	assert_err(bxc_fs_open_beneath(
			   f->dir_fd, "bottom/sub/m", O_RDONLY, 0, BXC_FS_NO_XDEV, &below, &err),
		BXC_FAILED_PRECONDITION, err);
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/bottom/", f->path);
	assert_ok(bxc_mnt_detach_below(path, &err), err);
	assert_ok(bxc_fs_rmtree(f->dir_fd, "bottom", &err), err);
	assert_int_equal(faccessat(f->dir_fd, "mid/m", F_OK, 0), 0);
}

/* ---- the table of mounts ---- */

static int parse(const char *text, bxc_mnt_table *ret, bxc_err **err)
{
	return bxc_mnt_parse_table(bxc_slice_of(text, strlen(text)), ret, err);
}

static void the_table_of_mounts_is_parsed(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOMNTTABLE bxc_mnt_table t = {0};
	assert_ok(parse("36 35 98:0 / /a\\040b rw,noatime shared:1 master:2 - ext3 /dev/root "
			"rw,errors=continue\n"
			"37 36 0:40 /x /c rw - tmpfs  rw\n",
			  &t, &err),
		err);
	assert_int_equal(t.n, 2);
	assert_string_equal(t.v[0].mount_point, "/a b");
	assert_string_equal(t.v[0].fs_type, "ext3");
	assert_string_equal(t.v[0].source, "/dev/root");
	assert_string_equal(t.v[0].super_options, "rw,errors=continue");
	assert_int_equal(t.v[0].dev_major, 98);
	assert_int_equal(t.v[1].parent_id, 36);
	assert_string_equal(t.v[1].root, "/x");
	static const char *const bad[] = {"x 35 98:0 / /a rw - ext3 s o",
		"36 35 98 / /a rw - ext3 s o", "36 35 98:0 / /a rw", "36 35 98:0 /",
		"36 35 98:0 / /a rw -"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		bxc_mnt_table never = {0};
		assert_err(parse(bad[i], &never, &err), BXC_INVALID_ARGUMENT, err);
	}
	BXC_AUTOMNTTABLE bxc_mnt_table real = {0};
	assert_ok(bxc_mnt_read_table(&real, &err), err);
	assert_true(real.n > 0);
}

/* ---- control groups ---- */

static void names_of_groups_cannot_leave_the_hierarchy(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_cg_freep) bxc_cg *cg = NULL;
	assert_ok(bxc_cg_detect(&cg, &err), err);
	static const char *const bad[] = {"", "/", "../x", "a/../b", "a//b", "a/.", "a b", "a\n"};
	int fd = -1;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		assert_err(bxc_cg_open(cg, NULL, bad[i], &fd, &err), BXC_INVALID_ARGUMENT, err);
		assert_err(bxc_cg_create(cg, bad[i], &fd, &err), BXC_INVALID_ARGUMENT, err);
		assert_err(bxc_cg_remove(cg, bad[i], 0, &err), BXC_INVALID_ARGUMENT, err);
	}
	assert_err(bxc_cg_open(cg, "no-such-controller", "a", &fd, &err), BXC_NOT_FOUND, err);
}

static bxc_proc *spawn_in(int group_fd, const char *script)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int out = -1;
	BXC_AUTOCLOSE int in = -1;
	assert_ok(bxc_fd_pipe(&out, &in, &err), err);
	BXC_AUTOFREE char *text = bxc_strdup(script);
	char *argv[] = {(char[]){"sh"}, (char[]){"-c"}, text, NULL};
	const bxc_proc_fd fds[] = {{in, 1}, {group_fd, 3}};
	bxc_proc *p = NULL;
	assert_ok(bxc_proc_spawn(&(bxc_proc_spec){.argv = argv, .fds = fds, .n_fds = 2}, &p, &err),
		err);
	close(BXC_TAKE_FD(in));
	char byte;
	assert_ok(bxc_fd_read_exact(out, &byte, 1, &err), err);
	return p;
}

static void groups_hold_processes_and_kill_them(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_cg_freep) bxc_cg *cg = NULL;
	assert_ok(bxc_cg_detect(&cg, &err), err);
	BXC_AUTOFREE char *name = bxc_str_fmt("bxc-test-%d/step", (int)getpid());
	BXC_AUTOFREE char *parent = bxc_str_fmt("bxc-test-%d", (int)getpid());
	BXC_AUTOCLOSE int fd = -1;
	int r = bxc_cg_create(cg, name, &fd, &err);
	if (r < 0) {
		/* No unified hierarchy, or one that is not ours to change: a plain error, nothing
		 * else. */
		assert_true(r == -BXC_NOT_FOUND || r == -BXC_PERMISSION_DENIED);
		return;
	}
	assert_true(bxc_cg_get_mode(cg) == BXC_CG_HYBRID || bxc_cg_get_mode(cg) == BXC_CG_V2);
	assert_non_null(bxc_cg_unified_mount(cg));
	assert_ok(bxc_cg_wait_empty(fd, 0, &err), err);
	/* A child in a session of its own, which no process group reaches. */
	BXC_CLEANUP(bxc_proc_freep)
	bxc_proc *p = spawn_in(fd, "echo 0 > /proc/self/fd/3/cgroup.procs; setsid sleep 1000 <&- "
				   ">&- & echo; exec sleep 1000");
	pid_t *pids = NULL;
	size_t n = 0;
	assert_ok(bxc_cg_procs(fd, 100, &pids, &n, &err), err);
	assert_int_equal(n, 2);
	free(pids);
	assert_err(bxc_cg_wait_empty(fd, 1, &err), BXC_DEADLINE_EXCEEDED, err);
	assert_err(bxc_cg_procs(fd, 1, &pids, &n, &err), BXC_RESOURCE_EXHAUSTED, err);
	assert_ok(bxc_cg_remove(cg, parent, 30000, &err), err);
	bxc_proc_status s;
	assert_ok(bxc_proc_wait(p, &s, &err), err);
	assert_int_equal(s.signo, SIGKILL);
	assert_ok(bxc_cg_remove(cg, parent, 0, &err), err);
	int gone = -1;
	assert_err(bxc_cg_open(cg, NULL, name, &gone, &err), BXC_NOT_FOUND, err);
}

static void the_most_memory_is_read_from_either_hierarchy(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	uint64_t n = 0;
	assert_err(bxc_cg_memory_peak(f->dir_fd, &n, &err), BXC_NOT_FOUND, err);
	put(f, "memory.max_usage_in_bytes", "50003968\n");
	assert_ok(bxc_cg_memory_peak(f->dir_fd, &n, &err), err);
	assert_int_equal(n, 50003968);
	put(f, "memory.peak", "max\n");
	assert_err(bxc_cg_memory_peak(f->dir_fd, &n, &err), BXC_INVALID_ARGUMENT, err);
	put(f, "memory.peak", "7\n");
	assert_ok(bxc_cg_memory_peak(f->dir_fd, &n, &err), err);
	assert_int_equal(n, 7);
}

static void oom_kills_are_read_from_either_hierarchy(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	uint64_t n = 0;
	assert_err(bxc_cg_oom_kills(f->dir_fd, &n, &err), BXC_NOT_FOUND, err);
	put(f, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
	assert_ok(bxc_cg_oom_kills(f->dir_fd, &n, &err), err);
	assert_int_equal(n, 3);
	put(f, "memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\noom_group_kill 0\n");
	assert_ok(bxc_cg_oom_kills(f->dir_fd, &n, &err), err);
	assert_int_equal(n, 2);
}

/* ---- a mount namespace for the whole program ---- */

static void write_map(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail_msg("write '%s': errno %d", path, errno);
	close(fd);
}

static int enter_namespace(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *uid = bxc_str_fmt("0 %u 1", geteuid());
	BXC_AUTOFREE char *gid = bxc_str_fmt("0 %u 1", getegid());
	if (geteuid() == 0) {
		assert_int_equal(unshare(CLONE_NEWNS), 0);
	} else {
		base_flags |= BXC_MNT_OVERLAY_USERXATTR;
		assert_int_equal(unshare(CLONE_NEWUSER | CLONE_NEWNS), 0);
		write_map("/proc/self/setgroups", "deny");
		write_map("/proc/self/uid_map", uid);
		write_map("/proc/self/gid_map", gid);
	}
	assert_ok(bxc_mnt_make_private("/", &err), err);
	return 0;
}

#define MNT_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MNT_TEST(overlays_show_layers_topmost_first),
		MNT_TEST(overlays_without_upper_are_read_only),
		MNT_TEST(overlays_work_through_the_old_api),
		MNT_TEST(one_layer_with_an_upper),
		MNT_TEST(one_layer_alone_is_a_read_only_clone),
		MNT_TEST(no_layer_with_an_upper_writes_to_it),
		MNT_TEST(nothing_at_all_is_an_empty_folder),
		MNT_TEST(overlay_errors_say_why),
		MNT_TEST(five_hundred_layers_can_be_stacked),
		MNT_TEST(clones_can_be_made_read_only),
		MNT_TEST(trees_with_mounts_in_them_are_not_removed),
		cmocka_unit_test(the_table_of_mounts_is_parsed),
		cmocka_unit_test(names_of_groups_cannot_leave_the_hierarchy),
		cmocka_unit_test(groups_hold_processes_and_kill_them),
		MNT_TEST(oom_kills_are_read_from_either_hierarchy),
		MNT_TEST(the_most_memory_is_read_from_either_hierarchy),
	};
	return cmocka_run_group_tests(tests, enter_namespace, NULL);
}
