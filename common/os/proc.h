/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes: posix_spawn with an explicit set of descriptors, held by a pidfd.
 *
 * The child starts with the default signal dispositions and an empty signal mask, and has no
 * descriptor but 0-2 and those of the map. A bxc_proc is used by one thread at a time.
 */
#pragma once

#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/err.h"

#define BXC_PROC_MAX_FD 255 /* highest child_fd */

typedef struct bxc_proc_fd {
	int parent_fd; /* borrowed */
	int child_fd;  /* 0..BXC_PROC_MAX_FD, each at most once */
} bxc_proc_fd;

typedef struct bxc_proc_spec {
	const char *path;  /* program; NULL: argv[0]. Without a '/' it is looked up in PATH */
	char *const *argv; /* NULL-terminated, at least one */
	char *const *env;  /* strv of the whole environment; NULL: this process's */
	const char *cwd;   /* NULL: this process's */
	const bxc_proc_fd
		*fds; /* 0 and 1 are /dev/null and 2 is shared unless they are mapped here */
	size_t n_fds;
	bool new_session;      /* setsid: no terminal, own process group */
	bool keep_signal_mask; /* for the client's interactive children; default is an empty mask */
} bxc_proc_spec;

typedef struct bxc_proc_status {
	int exit_code; /* 0..255, or 128 + signo as a shell says it */
	int signo;     /* 0 when the process exited by itself */
} bxc_proc_status;

typedef struct bxc_proc bxc_proc;

/* BXC_NOT_FOUND when there is no such program. */
BXC_MUST_CHECK int bxc_proc_spawn(const bxc_proc_spec *spec, bxc_proc **ret, bxc_err **err);
pid_t bxc_proc_pid(const bxc_proc *p);
int bxc_proc_pidfd(const bxc_proc *p); /* borrowed; readable (EPOLLIN) once the process has ended */
/* Reaps; blocks until the process has ended. Later calls give the same status. */
BXC_MUST_CHECK int bxc_proc_wait(bxc_proc *p, bxc_proc_status *ret, bxc_err **err);
/* At most timeout_ms (0: only look): 1 when it has ended, 0 when it still runs. */
BXC_MUST_CHECK int bxc_proc_wait_for(
	bxc_proc *p, int timeout_ms, bxc_proc_status *ret, bxc_err **err);
/* A process that has ended already is no error. */
BXC_MUST_CHECK int bxc_proc_kill(bxc_proc *p, int signo, bxc_err **err);
/* The whole process group of a child with new_session; nothing once it was reaped. */
BXC_MUST_CHECK int bxc_proc_kill_group(bxc_proc *p, int signo, bxc_err **err);
/* Kills (the group, with new_session) and reaps what still runs. */
void bxc_proc_free(bxc_proc *p);
/* Lets go of a process that is to outlive this one: nothing is killed or reaped. NULL: no-op. */
void bxc_proc_detach(bxc_proc *p);
BXC_DEFINE_CLEANUP(bxc_proc, bxc_proc_free);

/* "exit code 3", "killed by signal 9 (Killed)"; owned. */
char *bxc_proc_status_text(const bxc_proc_status *s);

typedef struct bxc_proc_run_opts {
	char *const *argv;
	char *const *env; /* strv of the whole environment; NULL: this process's */
	const char *cwd;  /* NULL: this process's */
	bxc_slice input;  /* on standard input */
	int timeout_ms;	  /* -1: no limit; past it the child is killed, BXC_DEADLINE_EXCEEDED */
	int cancel_fd;	  /* readable: the child is killed, BXC_CANCELED; 0 or less: none */
	uint64_t max_file_bytes; /* of any file that it writes; 0: no limit */
} bxc_proc_run_opts;

/*
 * Runs a program to its end and collects its output. The buffers are initialised and their maxima
 * bound the output: past them the child is killed and the result is BXC_RESOURCE_EXHAUSTED. err_out
 * may be NULL: standard error is then shared with ours. A program that ran is a success whatever
 * its exit code; what it leaves behind in its process group is killed and not waited for.
 */
BXC_MUST_CHECK int bxc_proc_run(const bxc_proc_run_opts *o, bxc_buf *out, bxc_buf *err_out,
	bxc_proc_status *ret_status, bxc_err **err);
/* The same with this process's environment and folder, and nothing that cancels it. */
BXC_MUST_CHECK int bxc_proc_run_capture(char *const *argv, bxc_slice input, int timeout_ms,
	bxc_buf *out, bxc_buf *err_out, bxc_proc_status *ret_status, bxc_err **err);
