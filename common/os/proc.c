/* SPDX-License-Identifier: Apache-2.0 */
#include "common/os/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"

struct bxc_proc {
	pid_t pid;
	int pidfd;
	bool own_group;
	bool reaped;
	bxc_proc_status status;
};

/* ---- spawning ---- */

struct spawn_state {
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int n_high;
	int high[BXC_PROC_MAX_FD +
		 1]; /* duplicates of the parent's descriptors, out of the child's way */
};

static void spawn_state_done(struct spawn_state *s)
{
	for (int i = 0; i < s->n_high; i++)
		close(s->high[i]);
	posix_spawn_file_actions_destroy(&s->actions);
	posix_spawnattr_destroy(&s->attr);
}

static int spawn_error(bxc_err **err, int e)
{
	return bxc_err_errno(err, e, "prepare process");
}

/*
 * The map may permute descriptors (3 to 4 and 4 to 3), so each source is first moved above all
 * targets; what lies between the targets is closed one by one, the rest by closefrom.
 */
static int map_fds(struct spawn_state *s, const bxc_proc_spec *spec, bxc_err **err)
{
	bool used[BXC_PROC_MAX_FD + 1] = {false};
	int top = 2, e = 0;
	for (size_t i = 0; i < spec->n_fds; i++) {
		int child_fd = spec->fds[i].child_fd;
		bxc_check(child_fd >= 0 && child_fd <= BXC_PROC_MAX_FD && !used[child_fd]);
		used[child_fd] = true;
		top = BXC_MAX(top, child_fd);
	}
	used[2] = true; /* shared unless it was mapped */
	for (size_t i = 0; i < spec->n_fds && !e; i++) {
		int fd = fcntl(spec->fds[i].parent_fd, F_DUPFD_CLOEXEC, BXC_PROC_MAX_FD + 1);
		if (fd < 0)
			return bxc_err_errno(
				err, errno, "duplicate descriptor %d", spec->fds[i].parent_fd);
		s->high[s->n_high++] = fd;
		e = posix_spawn_file_actions_adddup2(&s->actions, fd, spec->fds[i].child_fd);
	}
	for (int fd = 0; fd <= 1 && !e; fd++)
		if (!used[fd])
			e = posix_spawn_file_actions_addopen(
				&s->actions, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
	for (int fd = 3; fd <= top && !e; fd++)
		if (!used[fd])
			e = posix_spawn_file_actions_addclose(&s->actions, fd);
	if (!e)
		e = posix_spawn_file_actions_addclosefrom_np(&s->actions, top + 1);
	return e ? spawn_error(err, e) : 0;
}

static int set_attributes(struct spawn_state *s, const bxc_proc_spec *spec, bxc_err **err)
{
	sigset_t defaults, mask;
	sigfillset(&defaults);
	/* glibc's own; asking for them is an error on some systems. */
	sigdelset(&defaults, SIGKILL);
	sigdelset(&defaults, SIGSTOP);
	sigemptyset(&mask);
	short flags = POSIX_SPAWN_SETSIGDEF;
	int e = posix_spawnattr_setsigdefault(&s->attr, &defaults);
	if (!e && !spec->keep_signal_mask) {
		flags |= POSIX_SPAWN_SETSIGMASK;
		e = posix_spawnattr_setsigmask(&s->attr, &mask);
	}
	if (spec->new_session)
		flags |= POSIX_SPAWN_SETSID;
	if (!e)
		e = posix_spawnattr_setflags(&s->attr, flags);
	return e ? spawn_error(err, e) : 0;
}

static int hold(pid_t pid, bool own_group, bxc_proc **ret, bxc_err **err)
{
	/* The child cannot be reaped by others, so the number is still its own. */
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		int e = errno;
		(void)kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return bxc_err_errno(err, e, "pidfd_open");
	}
	(void)fcntl(pidfd, F_SETFD, FD_CLOEXEC);
	bxc_proc *p = bxc_calloc(1, sizeof(*p));
	p->pid = pid;
	p->pidfd = pidfd;
	p->own_group = own_group;
	*ret = p;
	return 0;
}

int bxc_proc_spawn(const bxc_proc_spec *spec, bxc_proc **ret, bxc_err **err)
{
	bxc_check(spec->argv && spec->argv[0] && spec->n_fds <= BXC_PROC_MAX_FD + 1);
	const char *path = spec->path ? spec->path : spec->argv[0];
	BXC_CLEANUP(spawn_state_done) struct spawn_state s = {.n_high = 0};
	int e = posix_spawn_file_actions_init(&s.actions);
	if (!e)
		e = posix_spawnattr_init(&s.attr);
	if (e)
		return spawn_error(err, e);
	int r = map_fds(&s, spec, err);
	if (r >= 0)
		r = set_attributes(&s, spec, err);
	if (r < 0)
		return r;
	if (spec->cwd && (e = posix_spawn_file_actions_addchdir_np(&s.actions, spec->cwd)) != 0)
		return spawn_error(err, e);
	char *const *env = spec->env ? spec->env : environ;
	pid_t pid = -1;
	e = strchr(path, '/') ? posix_spawn(&pid, path, &s.actions, &s.attr, spec->argv, env)
			      : posix_spawnp(&pid, path, &s.actions, &s.attr, spec->argv, env);
	if (e)
		return bxc_err_errno(err, e, "start '%s'", path);
	return hold(pid, spec->new_session, ret, err);
}

/* ---- holding ---- */

pid_t bxc_proc_pid(const bxc_proc *p)
{
	return p->pid;
}

int bxc_proc_pidfd(const bxc_proc *p)
{
	return p->pidfd;
}

/* 1 when the process has ended and its status is known, 0 when it still runs. */
static int reap(bxc_proc *p, int options, bxc_err **err)
{
	siginfo_t info;
	while (!p->reaped) {
		memset(&info, 0, sizeof(info));
		if (waitid((idtype_t)P_PIDFD, (id_t)p->pidfd, &info, WEXITED | options) < 0) {
			if (errno == EINTR)
				continue;
			return bxc_err_errno(err, errno, "wait for process %d", (int)p->pid);
		}
		if (info.si_pid == 0)
			return 0;
		p->reaped = true;
		if (info.si_code == CLD_EXITED)
			p->status = (bxc_proc_status){info.si_status, 0};
		else
			p->status = (bxc_proc_status){128 + info.si_status, info.si_status};
	}
	return 1;
}

int bxc_proc_wait(bxc_proc *p, bxc_proc_status *ret, bxc_err **err)
{
	int r = reap(p, 0, err);
	if (r < 0)
		return r;
	*ret = p->status;
	return 0;
}

int bxc_proc_wait_for(bxc_proc *p, int timeout_ms, bxc_proc_status *ret, bxc_err **err)
{
	if (!p->reaped && timeout_ms != 0) {
		int r = bxc_fd_wait(p->pidfd, POLLIN, timeout_ms, err);
		if (r <= 0)
			return r;
	}
	int r = reap(p, WNOHANG, err);
	if (r > 0)
		*ret = p->status;
	return r;
}

int bxc_proc_kill(bxc_proc *p, int signo, bxc_err **err)
{
	if (p->reaped)
		return 0;
	if (syscall(SYS_pidfd_send_signal, p->pidfd, signo, NULL, 0) < 0 && errno != ESRCH)
		return bxc_err_errno(err, errno, "signal process %d", (int)p->pid);
	return 0;
}

int bxc_proc_kill_group(bxc_proc *p, int signo, bxc_err **err)
{
	bxc_check(p->own_group);
	/* The number is safe while the leader is not reaped: its group cannot be another's. */
	if (p->reaped)
		return 0;
	if (kill(-p->pid, signo) < 0 && errno != ESRCH)
		return bxc_err_errno(err, errno, "signal process group %d", (int)p->pid);
	return 0;
}

void bxc_proc_free(bxc_proc *p)
{
	if (!p)
		return;
	if (!p->reaped) {
		if (p->own_group)
			bxc_ignore(bxc_proc_kill_group(p, SIGKILL, NULL));
		bxc_ignore(bxc_proc_kill(p, SIGKILL, NULL));
		bxc_ignore(reap(p, 0, NULL));
	}
	close(p->pidfd);
	free(p);
}

void bxc_proc_detach(bxc_proc *p)
{
	if (!p)
		return;
	close(p->pidfd);
	free(p);
}

char *bxc_proc_status_text(const bxc_proc_status *s)
{
	if (!s->signo)
		return bxc_str_fmt("exit code %d", s->exit_code);
	const char *name = sigdescr_np(s->signo);
	return bxc_str_fmt("killed by signal %d (%s)", s->signo, name ? name : "unknown");
}

/* ---- running to the end ---- */

/* Moves what is there into the buffer: 1 more may come, 0 end. */
static int drain(int fd, bxc_buf *b, const char *what, bxc_err **err)
{
	uint8_t chunk[16384];
	ssize_t n = read(fd, chunk, sizeof(chunk));
	if (n < 0)
		return errno == EINTR || errno == EAGAIN
			       ? 1
			       : bxc_err_errno(err, errno, "read %s", what);
	if (n == 0)
		return 0;
	int r = bxc_buf_append(b, chunk, (size_t)n, err);
	return r < 0 ? bxc_err_wrap(err, r, "%s of the program", what) : 1;
}

static int poll_timeout(int64_t deadline_ns)
{
	return deadline_ns == INT64_MAX ? -1 : bxc_clock_left_ms(deadline_ns);
}

/* Until the process has ended and its pipes are read; grandchildren that keep a pipe do not count.
 */
static int collect(bxc_proc *p, int fds[2], bxc_buf *bufs[2], int64_t deadline_ns, int cancel_fd,
	bxc_err **err)
{
	static const char *const what[] = {"output", "error output"};
	bool ended = false;
	for (;;) {
		struct pollfd polls[4] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0},
			{ended ? -1 : p->pidfd, POLLIN, 0},
			{cancel_fd > 0 ? cancel_fd : -1, POLLIN, 0}};
		if (fds[0] < 0 && fds[1] < 0 && ended)
			return 0;
		int n = poll(polls, 4, ended ? 0 : poll_timeout(deadline_ns));
		if (n < 0 && errno != EINTR)
			return bxc_err_errno(err, errno, "poll");
		if (n == 0 && ended)
			return 0;
		if (n == 0)
			return bxc_err_set(
				err, BXC_DEADLINE_EXCEEDED, "program did not end in time");
		if (n > 0 && polls[3].revents && !ended)
			return bxc_err_set(err, BXC_CANCELED, "canceled");
		for (int i = 0; i < 2 && n > 0; i++) {
			if (!polls[i].revents)
				continue;
			int r = drain(fds[i], bufs[i], what[i], err);
			if (r < 0)
				return r;
			if (r == 0) {
				close(fds[i]);
				fds[i] = -1;
			}
		}
		if (n > 0 && polls[2].revents)
			ended = true;
	}
}

/* Between the start and this the child may have written: a program that is started to run for a
 * while has not. */
static int limit_files(const bxc_proc *p, uint64_t max_bytes, bxc_err **err)
{
	const struct rlimit l = {max_bytes, max_bytes};
	if (max_bytes && prlimit(p->pid, RLIMIT_FSIZE, &l, NULL) < 0 && errno != ESRCH)
		return bxc_err_errno(err, errno, "limit the files of process %d", (int)p->pid);
	return 0;
}

int bxc_proc_run(const bxc_proc_run_opts *o, bxc_buf *out, bxc_buf *err_out,
	bxc_proc_status *ret_status, bxc_err **err)
{
	/* A file, not a pipe: input that the program does not read cannot block us. */
	BXC_AUTOCLOSE int in_fd = -1;
	BXC_AUTOCLOSE int out_fd = -1;
	BXC_AUTOCLOSE int err_fd = -1;
	BXC_AUTOCLOSE int child_out_fd = -1;
	BXC_AUTOCLOSE int child_err_fd = -1;
	int r = bxc_fd_memfd("input", o->input.p, o->input.n, false, &in_fd, err);
	if (r >= 0)
		r = bxc_fd_pipe(&out_fd, &child_out_fd, err);
	if (r >= 0 && err_out)
		r = bxc_fd_pipe(&err_fd, &child_err_fd, err);
	if (r < 0)
		return r;
	int64_t deadline_ns =
		o->timeout_ms < 0 ? INT64_MAX : bxc_clock_mono_ns() + o->timeout_ms * BXC_NS_PER_MS;
	const bxc_proc_fd map[] = {{in_fd, 0}, {child_out_fd, 1}, {child_err_fd, 2}};
	const bxc_proc_spec spec = {.argv = o->argv,
		.env = o->env,
		.cwd = o->cwd,
		.fds = map,
		.n_fds = err_out ? 3 : 2,
		.new_session = true};
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *p = NULL;
	r = bxc_proc_spawn(&spec, &p, err);
	if (r < 0)
		return r;
	bxc_cleanup_close(&child_out_fd);
	child_out_fd = -1;
	bxc_cleanup_close(&child_err_fd);
	child_err_fd = -1;

	int fds[2] = {BXC_TAKE_FD(out_fd), BXC_TAKE_FD(err_fd)};
	bxc_buf *bufs[2] = {out, err_out};
	r = limit_files(p, o->max_file_bytes, err);
	if (r >= 0)
		r = collect(p, fds, bufs, deadline_ns, o->cancel_fd, err);
	bxc_cleanup_close(&fds[0]);
	bxc_cleanup_close(&fds[1]);
	if (r < 0)
		return bxc_err_wrap(err, r, "run '%s'", o->argv[0]);
	bxc_ignore(bxc_proc_kill_group(p, SIGKILL, NULL));
	return bxc_proc_wait(p, ret_status, err);
}

int bxc_proc_run_capture(char *const *argv, bxc_slice input, int timeout_ms, bxc_buf *out,
	bxc_buf *err_out, bxc_proc_status *ret_status, bxc_err **err)
{
	const bxc_proc_run_opts o = {.argv = argv, .input = input, .timeout_ms = timeout_ms};
	return bxc_proc_run(&o, out, err_out, ret_status, err);
}
