/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control groups: what hierarchies this host has, and groups of processes in them.
 *
 * Paths of groups are relative to the root of a hierarchy's mount ("bxc/worker-1/step-3"); each
 * component is made of [A-Za-z0-9._-]. Hosts are pure v2, pure v1, or hybrid: v1 controllers plus
 * a unified (v2) hierarchy that has cgroup.kill but no memory or pids controller.
 */
#pragma once

#include <sys/types.h>

#include "common/base/cleanup.h"
#include "common/base/err.h"

typedef enum bxc_cg_mode {
	BXC_CG_NONE = 0,
	BXC_CG_V1,
	BXC_CG_HYBRID,
	BXC_CG_V2,
} bxc_cg_mode;

typedef struct bxc_cg bxc_cg; /* immutable after detection; any thread */

/* Never fails for want of cgroups: the mode is then BXC_CG_NONE. */
BXC_MUST_CHECK int bxc_cg_detect(bxc_cg **ret, bxc_err **err);
void bxc_cg_free(bxc_cg *cg);
BXC_DEFINE_CLEANUP(bxc_cg, bxc_cg_free);

bxc_cg_mode bxc_cg_get_mode(const bxc_cg *cg);
const char *bxc_cg_unified_mount(const bxc_cg *cg); /* borrowed mount point, or NULL */
/* Mount point of the v1 hierarchy with this controller, borrowed, or NULL. */
const char *bxc_cg_v1_mount(const bxc_cg *cg, const char *controller);

/* Opens an existing group: controller NULL is the unified hierarchy, else the v1 hierarchy of that
 * controller. BXC_NOT_FOUND when there is no such hierarchy or group. */
BXC_MUST_CHECK int bxc_cg_open(
	const bxc_cg *cg, const char *controller, const char *path, int *ret_dir_fd, bxc_err **err);
/* Makes a group of the unified hierarchy with its parents, and opens it. */
BXC_MUST_CHECK int bxc_cg_create(
	const bxc_cg *cg, const char *path, int *ret_dir_fd, bxc_err **err);
/* Kills what is in a group of the unified hierarchy and below, waits for it to be empty (at most
 * timeout_ms), and removes the group with its children. Absent is a success. */
BXC_MUST_CHECK int bxc_cg_remove(const bxc_cg *cg, const char *path, int timeout_ms, bxc_err **err);

/* Moves a process (0: this one) into the group. */
BXC_MUST_CHECK int bxc_cg_attach(int dir_fd, pid_t pid, bxc_err **err);
/* SIGKILL to every process of the group and below: cgroup.kill, or one by one before Linux 5.14. */
BXC_MUST_CHECK int bxc_cg_kill(int dir_fd, bxc_err **err);
/* Waits until neither the group nor those below it hold processes; BXC_DEADLINE_EXCEEDED. Unified
 * only. */
BXC_MUST_CHECK int bxc_cg_wait_empty(int dir_fd, int timeout_ms, bxc_err **err);
/* Processes of the group itself; owned array. BXC_RESOURCE_EXHAUSTED beyond max. */
BXC_MUST_CHECK int bxc_cg_procs(
	int dir_fd, size_t max, pid_t **ret_pids, size_t *ret_n, bxc_err **err);

/*
 * How often the OOM killer struck in the group: memory.events (v2) or memory.oom_control (v1).
 * dir_fd: a group of the unified hierarchy or of v1 "memory". BXC_NOT_FOUND when it counts neither.
 */
BXC_MUST_CHECK int bxc_cg_oom_kills(int dir_fd, uint64_t *ret, bxc_err **err);

/* The most bytes that the group had at one time: memory.peak (v2, from Linux 5.19) or
 * memory.max_usage_in_bytes (v1). BXC_NOT_FOUND when it measures neither. */
BXC_MUST_CHECK int bxc_cg_memory_peak(int dir_fd, uint64_t *ret, bxc_err **err);
