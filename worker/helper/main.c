/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bxc-exec: see helper.h. Single-threaded and small, since it is started for each step: it is the
 * one program of ours that makes a child by clone, which needs no more than a few pages copied.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/base/str.h"
#include "common/os/cg.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/mnt.h"
#include "worker/helper/helper.h"

#define EXIT_SETUP 125 /* whoever reads the status knows more */

BXC_NORETURN static void fail(const bxc_err *err)
{
	BXC_AUTOFREE char *text = bxc_str_fmt("%d\n%s", bxc_err_errnum(err), bxc_err_text(err));
	bxc_ignore(bxc_fd_write_all(BXC_HELPER_STATUS_FD, text, strlen(text), NULL));
	_exit(EXIT_SETUP);
}

static int die_with_parent(bxc_err **err)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return bxc_err_errno(err, errno, "PR_SET_PDEATHSIG");
	return 0;
}

static int read_job(bxc_helper_job *ret, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_HELPER_JOB_MAX);
	int r = bxc_fd_read_to_end(BXC_HELPER_JOB_FD, &text, err);
	if (r < 0)
		return r;
	return bxc_helper_job_decode(bxc_buf_slice(&text), ret, err);
}

/* Nothing of the worker's may be inherited by what is run. */
static int hide_fds(const bxc_helper_job *j, bxc_err **err)
{
	int r = bxc_fd_set_cloexec(BXC_HELPER_JOB_FD, true, err);
	if (r == 0)
		r = bxc_fd_set_cloexec(BXC_HELPER_STATUS_FD, true, err);
	for (size_t i = 0; r == 0 && i < j->cgroup_fds.n; i++)
		r = bxc_fd_set_cloexec(j->cgroup_fds.v[i], true, err);
	for (size_t i = 0; r == 0 && i < j->mounts.n; i++)
		r = bxc_fd_set_cloexec(j->mounts.v[i].fd, true, err);
	return r;
}

/* ---- the child ---- */

static int make_target(const char *path, bool is_dir, bxc_err **err)
{
	if (is_dir ? mkdir(path, 0700) : mknod(path, S_IFREG | 0600, 0)) {
		if (errno != EEXIST)
			return bxc_err_errno(err, errno, "create '%s'", path);
	}
	return 0;
}

static int bind_selected(const bxc_helper_bind *b, bxc_err **err)
{
	BXC_AUTOCLOSE int from_fd = -1;
	BXC_AUTOCLOSE int fd = -1;
	BXC_AUTOCLOSE int mount_fd = -1;
	int r = bxc_fs_open_dir(AT_FDCWD, b->from, &from_fd, err);
	if (r == 0)
		r = bxc_fs_open_beneath(from_fd, b->select, O_PATH, 0, BXC_FS_IN_ROOT, &fd, err);
	if (r < 0)
		return r;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return bxc_err_errno(err, errno, "stat '%s'", b->select);
	r = make_target(b->to, S_ISDIR(st.st_mode), err);
	if (r == 0)
		r = bxc_mnt_bind_clone(fd, "", false, 0, &mount_fd, err);
	if (r == 0)
		r = bxc_mnt_move(mount_fd, AT_FDCWD, b->to, err);
	return r;
}

static int set_up_mounts(const bxc_helper_job *j, bxc_err **err)
{
	int r = bxc_mnt_make_private("/", err);
	for (char **p = j->unmount; r == 0 && p && *p; p++)
		r = bxc_mnt_detach(*p, err);
	for (size_t i = 0; r == 0 && i < j->mounts.n; i++)
		r = bxc_mnt_move(j->mounts.v[i].fd, AT_FDCWD, j->mounts.v[i].at, err);
	for (size_t i = 0; r == 0 && i < j->binds.n; i++)
		r = bind_selected(&j->binds.v[i], err);
	if (r < 0)
		return r;
	/* crun looks up its processes in /proc, which must count as this pid namespace does. */
	BXC_AUTOCLOSE int proc_fd = -1;
	r = bxc_mnt_new("proc", NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		&proc_fd, err);
	return r < 0 ? r : bxc_mnt_move(proc_fd, AT_FDCWD, "/proc", err);
}

BXC_NORETURN static void child(const bxc_helper_job *j, int alive_fd)
{
	bxc_err *err = NULL;
	int r = die_with_parent(&err);
	/* The other end is the helper's alone: closed means that it died before the line above. */
	struct pollfd p = {.fd = alive_fd, .events = 0};
	if (r == 0 && poll(&p, 1, 0) != 0)
		_exit(EXIT_SETUP);
	if (r == 0)
		r = set_up_mounts(j, &err);
	if (r == 0) {
		sigset_t none;
		sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		execv(j->argv[0], j->argv);
		r = bxc_err_errno(&err, errno, "start '%s'", j->argv[0]);
	}
	fail(err);
}

/* ---- the helper ---- */

static int start_child(const bxc_helper_job *j, pid_t *ret_pid, bxc_err **err)
{
	BXC_AUTOCLOSE int read_fd = -1;
	int write_fd = -1;
	int r = bxc_fd_pipe(&read_fd, &write_fd, err);
	if (r < 0)
		return r;
	struct clone_args args = {.flags = CLONE_NEWNS | CLONE_NEWPID, .exit_signal = SIGCHLD};
	long pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return bxc_err_errno(err, errno, "clone3");
	if (pid == 0) {
		close(write_fd);
		child(j, read_fd);
	}
	/* write_fd stays open until this process ends, on purpose. */
	*ret_pid = (pid_t)pid;
	return 0;
}

static int wait_child(pid_t pid, const sigset_t *signals)
{
	for (;;) {
		int status = 0;
		pid_t got = waitpid(pid, &status, WNOHANG);
		if (got == pid)
			return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		int signo = sigwaitinfo(signals, NULL);
		/* Being init of its namespace, the child ends only after all in it have. */
		if (signo > 0 && signo != SIGCHLD)
			(void)kill(pid, SIGKILL);
	}
}

int main(void)
{
	bxc_err *err = NULL;
	BXC_AUTOHELPERJOB bxc_helper_job j = {0};
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	if (fcntl(BXC_HELPER_STATUS_FD, F_GETFD) < 0) {
		fputs("bxc-exec is started by bxc-worker for each step\n", stderr);
		return 2;
	}
	int r = read_job(&j, &err);
	if (r == 0)
		r = hide_fds(&j, &err);
	if (r == 0)
		r = die_with_parent(&err);
	if (r == 0 && getppid() != j.parent)
		return EXIT_SETUP;
	for (size_t i = 0; r == 0 && i < j.cgroup_fds.n; i++)
		r = bxc_cg_attach(j.cgroup_fds.v[i], 0, &err);
	pid_t pid = 0;
	if (r == 0)
		r = start_child(&j, &pid, &err);
	if (r < 0)
		fail(err);
	/* The status pipe must end when the child has started; output and mounts are the child's,
	 * too. */
	close(BXC_HELPER_STATUS_FD);
	for (size_t i = 0; i < j.mounts.n; i++)
		close(j.mounts.v[i].fd);
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	return wait_child(pid, &signals);
}
