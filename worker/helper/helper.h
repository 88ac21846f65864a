/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The step helper bxc-exec, seen from the worker: the job it gets and how it answers. Module
 * prefix: bxc_helper.
 *
 * The worker spawns bxc-exec with the job on BXC_HELPER_JOB_FD and a pipe on BXC_HELPER_STATUS_FD.
 * The helper joins the control groups, then makes a child in new mount and pid namespaces, which
 * attaches the mounts and becomes argv[0]. When that has happened the pipe ends without a word; a
 * failure before is "<errno>\n<text>" in it. The helper's exit code is that of the child, 128 + n
 * when signal n killed it. SIGTERM kills the child. Child and helper die with the process that
 * spawned the helper, and everything in the pid namespace dies with the child: when the helper has
 * ended, nothing of the step runs any more.
 */
#pragma once

#include <sys/types.h>

#include "common/base/arr.h"
#include "common/base/buf.h"
#include "common/base/err.h"

#define BXC_HELPER_JOB_FD     3
#define BXC_HELPER_STATUS_FD  4
#define BXC_HELPER_FIRST_FD   5 /* those of the job */
#define BXC_HELPER_MAX_FD     255
#define BXC_HELPER_JOB_MAX    (1u << 20) /* bytes; 200 mounts with paths of 4 KiB fit */
#define BXC_HELPER_MAX_MOUNTS 200u

/* A detached mount, attached at a folder that exists. */
typedef struct bxc_helper_mount {
	int fd;
	char *at;
} bxc_helper_mount;

/* A file or folder `select` within the folder `from` (resolved as after chroot), bound to `to`,
 * which the helper makes, of the same kind. */
typedef struct bxc_helper_bind {
	char *from;
	char *select;
	char *to;
} bxc_helper_bind;

typedef struct bxc_helper_job {
	pid_t parent;		 /* who spawns it */
	char **unmount;		 /* mount points to be hidden from the child; absent is fine */
	BXC_ARR(int) cgroup_fds; /* folders of control groups to join */
	BXC_ARR(bxc_helper_mount) mounts;
	BXC_ARR(bxc_helper_bind) binds; /* after all mounts */
	char **argv;			/* argv[0] is a path */
} bxc_helper_job;

void bxc_helper_job_done(bxc_helper_job *j);
#define BXC_AUTOHELPERJOB BXC_CLEANUP(bxc_helper_job_done)
void bxc_helper_add_mount(bxc_helper_job *j, int fd, const char *at);
void bxc_helper_add_bind(bxc_helper_job *j, const char *from, const char *select, const char *to);

/* Records "key=value", each ended by a NUL, after a magic; see job.c. */
BXC_MUST_CHECK int bxc_helper_job_encode(const bxc_helper_job *j, bxc_buf *out, bxc_err **err);
BXC_MUST_CHECK int bxc_helper_job_decode(bxc_slice in, bxc_helper_job *ret, bxc_err **err);
