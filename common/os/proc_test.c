/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "common/os/fd.h"
#include "common/os/proc.h"
#include "common/os/sig.h"

#define SH(script) ((char *[]){(char[]){"sh"}, (char[]){"-c"}, (char[]){script}, NULL})

static bxc_proc_status run(const bxc_proc_spec *spec)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *p = NULL;
	bxc_proc_status status = {-1, -1};
	assert_ok(bxc_proc_spawn(spec, &p, &err), err);
	assert_ok(bxc_proc_wait(p, &status, &err), err);
	return status;
}

static void capture(char *const *argv, const char *input, bxc_buf *out, bxc_proc_status *status)
{
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_proc_run_capture(
			  argv, bxc_slice_of(input, strlen(input)), 60000, out, NULL, status, &err),
		err);
}

static void exit_codes_and_signals_are_told_apart(void **state)
{
	(void)state;
	bxc_proc_status s = run(&(bxc_proc_spec){.argv = SH("exit 3")});
	assert_int_equal(s.exit_code, 3);
	assert_int_equal(s.signo, 0);
	BXC_AUTOFREE char *text = bxc_proc_status_text(&s);
	assert_string_equal(text, "exit code 3");
	s = run(&(bxc_proc_spec){.argv = SH("kill -9 $$")});
	assert_int_equal(s.exit_code, 137);
	assert_int_equal(s.signo, SIGKILL);
	BXC_AUTOFREE char *killed = bxc_proc_status_text(&s);
	assert_string_equal(killed, "killed by signal 9 (Killed)");
}

static void a_missing_program_is_not_found(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_proc *p = NULL;
	char *argv[] = {(char[]){"bxc-no-such-program"}, NULL};
	assert_err(bxc_proc_spawn(&(bxc_proc_spec){.argv = argv}, &p, &err), BXC_NOT_FOUND, err);
	char *path[] = {(char[]){"/nowhere/x"}, NULL};
	assert_err(bxc_proc_spawn(&(bxc_proc_spec){.argv = path}, &p, &err), BXC_NOT_FOUND, err);
	assert_null(p);
}

static void descriptors_are_mapped_even_crosswise_and_all_others_closed(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int out = -1;
	BXC_AUTOCLOSE int in = -1;
	assert_ok(bxc_fd_pipe(&out, &in, &err), err);
	BXC_AUTOCLOSE int a = -1;
	BXC_AUTOCLOSE int b = -1;
	assert_ok(bxc_fd_memfd("a", "A", 1, false, &a, &err), err);
	assert_ok(bxc_fd_memfd("b", "B", 1, false, &b, &err), err);
	/* Inheritable, to show that it is closed all the same. */
	BXC_AUTOCLOSE int leak = -1;
	assert_ok(bxc_fd_dup(a, &leak, &err), err);
	assert_ok(bxc_fd_set_cloexec(leak, false, &err), err);
	const bxc_proc_fd fds[] = {{a, b}, {b, a}, {in, 1}, {b, 20}};
	BXC_AUTOFREE char *list = bxc_str_fmt(
		"cat /proc/self/fd/%d /proc/self/fd/%d /proc/self/fd/20; "
		"for i in /proc/$$/fd/*; do [ -e $i ] && printf ' %%s' ${i##*/}; done; true",
		a, b);
	char *argv[] = {(char[]){"bash"}, (char[]){"--norc"}, (char[]){"-c"}, list, NULL};
	bxc_proc_status s = run(&(bxc_proc_spec){.argv = argv, .fds = fds, .n_fds = 4});
	assert_int_equal(s.exit_code, 0);
	close(BXC_TAKE_FD(in));
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(4096);
	assert_ok(bxc_fd_read_to_end(out, &text, &err), err);
	BXC_AUTOFREE char *want = bxc_str_fmt("BAB 0 1 2 20 %d %d", BXC_MIN(a, b), BXC_MAX(a, b));
	/* Listed in order of names. */
	BXC_AUTOSTRV char **got = bxc_strv_split(bxc_buf_text(&text), ' ');
	BXC_AUTOSTRV char **wanted = bxc_strv_split(want, ' ');
	assert_int_equal(bxc_strv_len(got), bxc_strv_len(wanted));
	for (size_t i = 0; wanted[i]; i++)
		if (!bxc_strv_has(got, wanted[i]))
			fail_msg("descriptors of the child: '%s', not '%s'", bxc_buf_text(&text),
				want);
	assert_string_equal(got[0], "BAB");
}

static void environment_folder_and_input_are_as_asked(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int out = -1;
	BXC_AUTOCLOSE int in = -1;
	assert_ok(bxc_fd_pipe(&out, &in, &err), err);
	char *env[] = {(char[]){"X=1"}, NULL};
	const bxc_proc_fd fds[] = {{in, 1}};
	/* Standard input is /dev/null: cat ends at once. */
	bxc_proc_status s = run(&(bxc_proc_spec){.path = "/bin/sh",
		.argv = SH("cat; pwd; echo $X$HOME"),
		.env = env,
		.cwd = "/",
		.fds = fds,
		.n_fds = 1});
	assert_int_equal(s.exit_code, 0);
	close(BXC_TAKE_FD(in));
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(4096);
	assert_ok(bxc_fd_read_to_end(out, &text, &err), err);
	assert_string_equal(bxc_buf_text(&text), "/\n1\n");
}

static void children_have_no_blocked_or_ignored_signals(void **state)
{
	(void)state;
	sigset_t before;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	bxc_sig_block_all();
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(4096);
	bxc_proc_status s;
	char *argv[] = {(char[]){"grep"}, (char[]){"-E"}, (char[]){"^Sig(Blk|Ign)"},
		(char[]){"/proc/self/status"}, NULL};
	capture(argv, "", &out, &s);
	/* 32 and 33 are glibc's own, which its posix_spawn ignores. */
	char *ignored = strstr(bxc_buf_text(&out), "SigIgn:\t00000001800");
	if (ignored)
		memcpy(ignored, "SigIgn:\t00000000000", 19);
	assert_string_equal(
		bxc_buf_text(&out), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	signal(SIGPIPE, SIG_DFL);
}

static void the_descriptor_tells_the_end(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int gate = -1;
	BXC_AUTOCLOSE int key = -1;
	assert_ok(bxc_fd_pipe(&gate, &key, &err), err);
	const bxc_proc_fd fds[] = {{gate, 0}};
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *p = NULL;
	assert_ok(bxc_proc_spawn(
			  &(bxc_proc_spec){.argv = SH("read x; exit 7"), .fds = fds, .n_fds = 1},
			  &p, &err),
		err);
	bxc_proc_status s = {0};
	assert_int_equal(bxc_proc_wait_for(p, 0, &s, &err), 0);
	assert_int_equal(bxc_proc_wait_for(p, 1, &s, &err), 0);
	assert_ok(bxc_fd_write_all(key, "\n", 1, &err), err);
	struct pollfd poll_fd = {bxc_proc_pidfd(p), POLLIN, 0};
	assert_int_equal(poll(&poll_fd, 1, 60000), 1);
	assert_int_equal(bxc_proc_wait_for(p, 0, &s, &err), 1);
	assert_int_equal(s.exit_code, 7);
	/* Once reaped the status stays, and signals go nowhere. */
	assert_ok(bxc_proc_kill(p, SIGKILL, &err), err);
	assert_ok(bxc_proc_wait(p, &s, &err), err);
	assert_int_equal(s.exit_code, 7);
}

static void what_still_runs_is_killed_with_its_group(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int out = -1;
	BXC_AUTOCLOSE int in = -1;
	assert_ok(bxc_fd_pipe(&out, &in, &err), err);
	const bxc_proc_fd fds[] = {{in, 1}};
	bxc_proc *p = NULL;
	assert_ok(bxc_proc_spawn(&(bxc_proc_spec){.argv = SH("sleep 1000 & echo up; wait"),
					 .fds = fds,
					 .n_fds = 1,
					 .new_session = true},
			  &p, &err),
		err);
	close(BXC_TAKE_FD(in));
	char text[3];
	assert_ok(bxc_fd_read_exact(out, text, 3, &err), err);
	pid_t pid = bxc_proc_pid(p);
	bxc_proc_free(p);
	assert_int_equal(waitpid(pid, NULL, 0), -1);
	assert_int_equal(errno, ECHILD);
	/* The grandchild held the pipe; its end shows that it is gone as well. */
	size_t n = 1;
	assert_ok(bxc_fd_read_full(out, text, 1, &n, &err), err);
	assert_int_equal(n, 0);
}

static void output_is_captured_and_bounded(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(200000);
	BXC_AUTOBUF bxc_buf errors = BXC_BUF_INIT(100);
	bxc_proc_status s;
	/* More than a pipe holds in both directions. */
	BXC_AUTOFREE char *input = bxc_malloc(150001);
	memset(input, 'x', 150000);
	input[150000] = '\0';
	assert_ok(bxc_proc_run_capture(SH("cat; echo oops >&2; exit 5"),
			  bxc_slice_of(input, 150000), 60000, &out, &errors, &s, &err),
		err);
	assert_int_equal(s.exit_code, 5);
	assert_int_equal(out.len, 150000);
	assert_string_equal(bxc_buf_text(&errors), "oops\n");
	BXC_AUTOBUF bxc_buf small = BXC_BUF_INIT(1000);
	assert_err(bxc_proc_run_capture(SH("while :; do echo yes; done"), (bxc_slice){NULL, 0},
			   60000, &small, NULL, &s, &err),
		BXC_RESOURCE_EXHAUSTED, err);
	assert_err(bxc_proc_run_capture(
			   SH("exec sleep 1000"), (bxc_slice){NULL, 0}, 20, &small, NULL, &s, &err),
		BXC_DEADLINE_EXCEEDED, err);
	/* A daemon that the program leaves behind with its output does not keep us waiting. */
	bxc_buf_clear(&small);
	assert_ok(bxc_proc_run_capture(SH("sleep 1000 & echo started"), (bxc_slice){NULL, 0}, 60000,
			  &small, NULL, &s, &err),
		err);
	assert_string_equal(bxc_buf_text(&small), "started\n");
}

static void a_run_has_its_own_environment_and_ends_when_asked(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(4096);
	bxc_proc_status s;
	char *env[] = {(char *)(uintptr_t) "ONLY=this", NULL};
	bxc_proc_run_opts o = {
		.argv = SH("echo $ONLY; pwd"), .env = env, .cwd = "/", .timeout_ms = 60000};
	assert_ok(bxc_proc_run(&o, &out, NULL, &s, &err), err);
	assert_string_equal(bxc_buf_text(&out), "this\n/\n");
	/* Readable: that is how somebody asks for the end. */
	BXC_AUTOCLOSE int rd = -1, wr = -1;
	assert_ok(bxc_fd_pipe(&rd, &wr, &err), err);
	assert_ok(bxc_fd_write_all(wr, "x", 1, &err), err);
	o = (bxc_proc_run_opts){
		.argv = SH("exec sleep 1000"), .timeout_ms = 60000, .cancel_fd = rd};
	assert_err(bxc_proc_run(&o, &out, NULL, &s, &err), BXC_CANCELED, err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exit_codes_and_signals_are_told_apart),
		cmocka_unit_test(a_missing_program_is_not_found),
		cmocka_unit_test(descriptors_are_mapped_even_crosswise_and_all_others_closed),
		cmocka_unit_test(environment_folder_and_input_are_as_asked),
		cmocka_unit_test(children_have_no_blocked_or_ignored_signals),
		cmocka_unit_test(the_descriptor_tells_the_end),
		cmocka_unit_test(what_still_runs_is_killed_with_its_group),
		cmocka_unit_test(output_is_captured_and_bounded),
		cmocka_unit_test(a_run_has_its_own_environment_and_ends_when_asked),
	};
	/* Folders that cannot be searched would make "not found" a "permission denied". */
	setenv("PATH", "/usr/local/bin:/usr/bin:/bin", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
