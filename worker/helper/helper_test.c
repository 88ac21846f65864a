/* SPDX-License-Identifier: Apache-2.0 */
/* The job's form, and bxc-exec itself (path in argv[1]) with a shell of busybox in place of crun.
 */
#include "common/testing/testing.h"

#include <signal.h>

#include "common/os/fd.h"
#include "common/os/mnt.h"
#include "common/os/proc.h"
#include "worker/helper/helper.h"

static const char *helper_path;

static void jobs_survive_the_wire(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOHELPERJOB bxc_helper_job j = {.parent = 12};
	BXC_AUTOHELPERJOB bxc_helper_job got = {0};
	bxc_strv_push(&j.unmount, "/sys/fs/cgroup/unified");
	*bxc_arr_push(&j.cgroup_fds) = 7;
	bxc_helper_add_mount(&j, 5, "/run/m/0");
	bxc_helper_add_bind(&j, "/run/m/0", "a = b\nc", "/run/b/0");
	bxc_strv_push(&j.argv, "/bin/crun");
	bxc_strv_push(&j.argv, "");
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_HELPER_JOB_MAX);
	assert_ok(bxc_helper_job_encode(&j, &b, &err), err);
	assert_ok(bxc_helper_job_decode(bxc_buf_slice(&b), &got, &err), err);
	assert_int_equal(got.parent, 12);
	assert_int_equal(got.cgroup_fds.v[0], 7);
	assert_int_equal(got.mounts.v[0].fd, 5);
	assert_string_equal(got.binds.v[0].select, "a = b\nc");
	assert_true(bxc_strv_eq(got.argv, j.argv));
	assert_true(bxc_strv_eq(got.unmount, j.unmount));
}

static void jobs_that_are_not_ours_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		size_t n;
	} bad[] = {
		{"", 0},
		{"bxc-exec-0\0parent=1\0arg=/x", 26},
		{"bxc-exec-1\0parent=1\0arg=/x", 25}, /* no NUL at the end */
		{"bxc-exec-1\0parent=1\0arg=x", 26},  /* no path */
		{"bxc-exec-1\0parent=1\0", 20},	      /* no command */
		{"bxc-exec-1\0arg=/x", 17},	      /* no parent */
		{"bxc-exec-1\0parent=1\0mount=2\0at=/m\0arg=/x",
			40}, /* standard error as a mount */
		{"bxc-exec-1\0parent=1\0mount=6\0arg=/x", 34},
		{"bxc-exec-1\0parent=1\0what=6\0arg=/x", 33},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		BXC_AUTOHELPERJOB bxc_helper_job j = {0};
		if (bxc_helper_job_decode(bxc_slice_of(bad[i].text, bad[i].n), &j, NULL) >= 0)
			fail_msg("job %zu was accepted", i);
	}
}

typedef struct outcome {
	char *out, *status;
	int exit_code;
} outcome;

/* Yields our ends of its output and of its status. */
static void start(bxc_helper_job *j, const int *mount_fds, size_t n, int *ret_out_fd,
	int *ret_status_fd, bxc_proc **ret)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_HELPER_JOB_MAX);
	BXC_AUTOCLOSE int job_fd = -1;
	BXC_AUTOCLOSE int out_w = -1;
	BXC_AUTOCLOSE int status_w = -1;
	assert_ok(bxc_fd_pipe(ret_out_fd, &out_w, &err), err);
	assert_ok(bxc_fd_pipe(ret_status_fd, &status_w, &err), err);
	if (j->parent == 0)
		j->parent = getpid();
	assert_ok(bxc_helper_job_encode(j, &b, &err), err);
	assert_ok(bxc_fd_memfd("job", b.data, b.len, false, &job_fd, &err), err);
	bxc_proc_fd fds[10] = {{out_w, 1}, {out_w, 2}, {job_fd, BXC_HELPER_JOB_FD},
		{status_w, BXC_HELPER_STATUS_FD}};
	for (size_t i = 0; i < n; i++)
		fds[4 + i] = (bxc_proc_fd){mount_fds[i], BXC_HELPER_FIRST_FD + (int)i};
	char *argv[] = {bxc_strdup(helper_path), NULL};
	const bxc_proc_spec spec = {.argv = argv, .fds = fds, .n_fds = 4 + n, .new_session = true};
	assert_ok(bxc_proc_spawn(&spec, ret, &err), err);
	free(argv[0]);
}

static outcome run(bxc_helper_job *j, const int *mount_fds, size_t n)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *p = NULL;
	int out_r = -1, status_r = -1;
	start(j, mount_fds, n, &out_r, &status_r, &p);
	bxc_buf status = BXC_BUF_INIT(10000), out = BXC_BUF_INIT(100000);
	assert_ok(bxc_fd_read_to_end(status_r, &status, &err), err);
	assert_ok(bxc_fd_read_to_end(out_r, &out, &err), err);
	bxc_proc_status st;
	assert_ok(bxc_proc_wait(p, &st, &err), err);
	close(out_r);
	close(status_r);
	return (outcome){.out = bxc_buf_steal(&out),
		.status = bxc_buf_steal(&status),
		.exit_code = st.exit_code};
}

static void outcome_done(outcome *o)
{
	free(o->out);
	free(o->status);
}

static void shell(bxc_helper_job *j, const char *script)
{
	bxc_strv_push(&j->argv, "/bin/busybox");
	bxc_strv_push(&j->argv, "sh");
	bxc_strv_push(&j->argv, "-c");
	bxc_strv_push(&j->argv, script);
}

static void the_child_has_its_own_processes_and_mounts(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOHELPERJOB bxc_helper_job j = {0};
	BXC_AUTOCLOSE int mount_fd = -1;
	assert_ok(bxc_mnt_tmpfs(0, 0755, &mount_fd, &err), err);
	assert_int_equal(mkdirat(mount_fd, "sub", 0755), 0);
	BXC_AUTOCLOSE int fd = openat(mount_fd, "sub/f", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, "inside", 6), 6);
	assert_int_equal(symlinkat("/sub/f", mount_fd, "link"), 0);
	BXC_AUTOFREE char *at = bxc_str_fmt("%s/m", dir);
	BXC_AUTOFREE char *to_dir = bxc_str_fmt("%s/d", dir);
	BXC_AUTOFREE char *to_file = bxc_str_fmt("%s/f", dir);
	assert_int_equal(mkdir(at, 0700), 0);
	bxc_helper_add_mount(&j, BXC_HELPER_FIRST_FD, at);
	bxc_helper_add_bind(&j, at, "sub", to_dir);
	bxc_helper_add_bind(&j, at, "link", to_file); /* absolute, within the mount */
	BXC_AUTOFREE char *script =
		bxc_str_fmt("echo $$ $(busybox ls /proc | busybox grep -c '^[0-9]*$'); cd %s; "
			    "busybox cat m/sub/f d/f f; busybox ls /proc/self/fd; exit 7",
			dir);
	shell(&j, script);
	outcome o = run(&j, &mount_fd, 1);
	assert_string_equal(o.status, "");
	assert_int_equal(o.exit_code, 7);
	/* Pid 1; itself, and the three of the pipe. Nothing inherited but the standard three and
	 * ls's own. */
	assert_non_null(strstr(o.out, "insideinsideinside0\n1\n2\n3\n"));
	assert_int_equal(strncmp(o.out, "1 ", 2), 0);
	outcome_done(&o);
	BXC_AUTOFREE char *mounts = bxc_test_read_file("/proc/self/mountinfo", NULL);
	assert_null(strstr(mounts, dir));
}

static void failures_are_told_with_their_step(void **state)
{
	(void)state;
	BXC_AUTOHELPERJOB bxc_helper_job j = {0};
	bxc_strv_push(&j.argv, "/no/such/program");
	outcome o = run(&j, NULL, 0);
	assert_string_equal(o.status, "2\nstart '/no/such/program': No such file or directory");
	assert_int_equal(o.exit_code, 125);
	outcome_done(&o);
	BXC_AUTOHELPERJOB bxc_helper_job k = {0};
	bxc_helper_add_bind(&k, "/tmp", "no-such-thing-here", "/tmp/x");
	shell(&k, "exit 0");
	o = run(&k, NULL, 0);
	assert_non_null(strstr(o.status, "no-such-thing-here"));
	outcome_done(&o);
}

static void signals_count_as_exit_codes(void **state)
{
	(void)state;
	BXC_AUTOHELPERJOB bxc_helper_job j = {0};
	shell(&j, "busybox sh -c 'kill -9 $$'; exit $?");
	outcome o = run(&j, NULL, 0);
	assert_int_equal(o.exit_code, 137);
	outcome_done(&o);
}

static void a_term_ends_the_child_and_all_it_started(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *p = NULL;
	BXC_AUTOHELPERJOB bxc_helper_job j = {0};
	/* A daemon that left its session holds the pipe's other end. */
	shell(&j, "busybox setsid busybox sleep 1000 & echo up; busybox sleep 1000");
	int out_r = -1, status_r = -1;
	start(&j, NULL, 0, &out_r, &status_r, &p);
	char up[3];
	assert_ok(bxc_fd_read_exact(out_r, up, 3, &err), err);
	assert_ok(bxc_proc_kill(p, SIGTERM, &err), err);
	bxc_proc_status st;
	assert_ok(bxc_proc_wait(p, &st, &err), err);
	assert_int_equal(st.exit_code, 137);
	/* Nobody is left to write: the end is there at once. */
	char c;
	assert_int_equal(read(out_r, &c, 1), 0);
	close(out_r);
	close(status_r);
}

static void nothing_starts_for_a_dead_worker(void **state)
{
	(void)state;
	BXC_AUTOHELPERJOB bxc_helper_job j = {.parent = 1};
	shell(&j, "echo started");
	outcome o = run(&j, NULL, 0);
	assert_string_equal(o.out, "");
	assert_int_equal(o.exit_code, 125);
	outcome_done(&o);
}

static void a_killed_helper_takes_the_child_along(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *p = NULL;
	BXC_AUTOHELPERJOB bxc_helper_job j = {0};
	shell(&j, "busybox setsid busybox sleep 1000 & echo up; busybox sleep 1000");
	int out_r = -1, status_r = -1;
	start(&j, NULL, 0, &out_r, &status_r, &p);
	char up[3], c;
	assert_ok(bxc_fd_read_exact(out_r, up, 3, &err), err);
	assert_ok(bxc_proc_kill(p, SIGKILL, &err), err);
	/* Ends when the last process has ended. */
	assert_int_equal(read(out_r, &c, 1), 0);
	close(out_r);
	close(status_r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jobs_survive_the_wire),
		cmocka_unit_test(jobs_that_are_not_ours_are_refused),
		cmocka_unit_test(the_child_has_its_own_processes_and_mounts),
		cmocka_unit_test(failures_are_told_with_their_step),
		cmocka_unit_test(signals_count_as_exit_codes),
		cmocka_unit_test(a_term_ends_the_child_and_all_it_started),
		cmocka_unit_test(nothing_starts_for_a_dead_worker),
		cmocka_unit_test(a_killed_helper_takes_the_child_along),
	};
	if (argc != 2)
		return 2;
	/* The runner gives it relative to the build folder. */
	helper_path = realpath(argv[1], NULL);
	if (!helper_path)
		return 2;
	return cmocka_run_group_tests_name("helper", tests, NULL, NULL);
}
