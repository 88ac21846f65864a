/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bxc build --detach: the same command line runs again in a session of its own, serves the build what
 * it asks for, and tells the id through a descriptor. Until then its errors are ours.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "client/cmd/cmd_internal.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/loop/loop.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/proc.h"

#define READY_FD     9
#define READY_ENV    "BXC_DETACHED"
#define CMDLINE_MAX  (4u << 20)

bool is_detached(void)
{
	return bxc_str_eq(getenv(READY_ENV), "1");
}

void detached_ready(const char *id)
{
	if (!is_detached())
		return;
	dprintf(READY_FD, "%s\n", id);
	close(READY_FD);
	/* Whoever started us reads no more: 'bxc logs' tells the rest. */
	bxc_ignore(freopen("/dev/null", "w", stderr));
}

struct start {
	bxc_loop *loop;
	bxc_proc *child;
	char id[128];
	size_t n;
	int code;
};

static void on_readable(int fd, uint32_t events, void *ud)
{
	struct start *s = ud;
	(void)events;
	ssize_t n = read(fd, s->id + s->n, sizeof(s->id) - 1 - s->n);
	if (n > 0)
		s->n += (size_t)n;
	if (n <= 0 || memchr(s->id, '\n', s->n) || s->n == sizeof(s->id) - 1)
		bxc_loop_quit(s->loop);
}

static void on_signal(int signo, void *ud)
{
	struct start *s = ud;
	bxc_ignore(bxc_proc_kill(s->child, signo, NULL));
	s->code = BXC_EXIT_INTERRUPTED;
	bxc_loop_quit(s->loop);
}

static int own_command_line(char ***ret, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(CMDLINE_MAX);
	int r = bxc_fs_read_file(AT_FDCWD, "/proc/self/cmdline", CMDLINE_MAX, &b, err);
	for (size_t at = 0; r >= 0 && at < b.len; at += strlen((char *)b.data + at) + 1)
		bxc_strv_push(ret, (const char *)b.data + at);
	return r;
}

static int run(struct start *s, bxc_err **err)
{
	BXC_AUTOSTRV char **argv = NULL;
	BXC_AUTOSTRV char **env = bxc_strv_dup(environ);
	bxc_strv_push(&env, READY_ENV "=1");
	BXC_AUTOCLOSE int ready = -1, theirs = -1;
	int r = own_command_line(&argv, err);
	if (r >= 0)
		r = bxc_fd_pipe(&ready, &theirs, err);
	if (r < 0)
		return r;
	const bxc_proc_fd map[] = {{theirs, READY_FD}};
	const bxc_proc_spec spec = {.path = "/proc/self/exe", .argv = argv, .env = env, .fds = map, .n_fds = 1, .new_session = true};
	bxc_loop_io *io = NULL;
	r = bxc_loop_new(&s->loop, err);
	if (r >= 0)
		r = bxc_loop_on_signal(s->loop, SIGINT, on_signal, s, err);
	if (r >= 0)
		r = bxc_loop_on_signal(s->loop, SIGTERM, on_signal, s, err);
	if (r >= 0)
		r = bxc_proc_spawn(&spec, &s->child, err);
	if (r < 0)
		return r;
	close(BXC_TAKE_FD(theirs));
	r = bxc_loop_io_new(s->loop, ready, EPOLLIN, on_readable, s, &io, err);
	if (r >= 0)
		r = bxc_loop_run(s->loop, err);
	bxc_loop_io_free(io);
	return r;
}

int cmd_detach(void)
{
	BXC_AUTOERR bxc_err *err = NULL;
	struct start s = {.code = BXC_EXIT_OK};
	bxc_proc_status st = {0};
	int r = run(&s, &err);
	char *end = memchr(s.id, '\n', s.n);
	if (r >= 0 && end) {
		printf("%.*s\n", (int)(end - s.id), s.id);
		bxc_proc_detach(BXC_TAKE(s.child));
	} else if (r >= 0) {
		/* It ended before it had an id, and has said why. */
		r = bxc_proc_wait(s.child, &st, &err);
		if (s.code == BXC_EXIT_OK)
			s.code = st.exit_code ? st.exit_code : BXC_EXIT_INTERNAL;
	}
	bxc_proc_free(s.child);
	bxc_loop_free(s.loop);
	return r < 0 ? cmd_fail(err) : s.code;
}
