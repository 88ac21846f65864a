/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the command of an exec op in a container of crun, over layers of the store, and commits what
 * it wrote as a new layer. Module prefix: bxc_exec.
 *
 * The step helper (bxc-exec) enters a private mount namespace and becomes crun; neither outlives
 * this process. Nothing is left of a container when bxc_exec_run() returns. Needs root.
 *
 * Secrets and sockets of agents lie in a tmpfs that only the step sees; values of secrets are
 * replaced by "****" in what the command prints.
 *
 * Not supported yet, with a plain BXC_UNIMPLEMENTED: results of mounts other than the root, cache
 * mounts that start from an input.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/secret.h"
#include "common/definition/definition.h"
#include "common/loop/pool.h"
#include "worker/snapshot/snapshot.h"

typedef struct bxc_exec bxc_exec; /* any thread */

typedef struct bxc_exec_config {
	bxc_snap *snap;		   /* borrowed */
	const char *root;	   /* absolute; <root>/cache-mounts/ is kept here */
	const char *run_dir;	   /* absolute; bundles and crun's state; emptied by bxc_exec_new */
	const char *helper;	   /* path of bxc-exec; NULL: near this program, then in PATH */
	const char *crun;	   /* NULL: in PATH */
	const char *cgroup_parent; /* group for the steps, "bxc/worker-1"; its leftovers are killed
				      by bxc_exec_new; NULL: no groups: no OOM reports */
} bxc_exec_config;

BXC_MUST_CHECK int bxc_exec_new(const bxc_exec_config *c, bxc_exec **ret, bxc_err **err);
void bxc_exec_free(bxc_exec *x); /* no run may be going on */
BXC_DEFINE_CLEANUP(bxc_exec, bxc_exec_free);

/* The content of a vertex's input. */
typedef struct bxc_exec_input {
	const char *const *layers; /* bottom first; pinned by the caller */
	size_t n_layers;
	int tree_fd; /* -1: `layers` count; else a folder with the content, only bound read-only */
	const char *tree_id; /* tells it apart from other contents; NULL without tree_fd */
} bxc_exec_input;

#define BXC_EXEC_SECRET_MAX (500u << 10) /* bytes of one secret */

/* What a step may ask the client of its build for. Called on the thread that runs the step. */
typedef struct bxc_exec_services {
	/* BXC_NOT_FOUND: the client has none of this name. */
	int (*secret)(const char *id, bxc_secret **ret, void *ud, bxc_err **err);
	/* Does the client forward this agent? BXC_NOT_FOUND: no. */
	int (*agent_check)(const char *id, void *ud, bxc_err **err);
	/* A process of the step connected to the agent's socket: serves the connection, which is
	 * owned by the callee from here on, without blocking the caller. */
	void (*agent_connect)(const char *id, int fd_take, void *ud);
	void *ud;
} bxc_exec_services;

typedef struct bxc_exec_job {
	const char *id; /* unique on this worker: [a-z0-9-], at most 64 */
	const bxc_op_exec *op;
	const bxc_exec_input *inputs;
	size_t n_inputs;
	/* One per mount of op: a cache mount is the folder of its id in this generation; folders of
	 * older ones are removed. NULL: all 0. */
	const uint64_t *cache_generations;
	const char
		*output_layer; /* id of the layer to be made; NULL: what it wrote is thrown away */
	/* Output of the command as it comes, on the calling thread. stream: 1 or 2. */
	void (*on_output)(int stream, const void *p, size_t n, void *ud);
	/* The command is about to run; may be NULL. */
	void (*on_start)(void *ud);
	void *ud;
	int64_t timeout_ns; /* the command may run for so long; 0: as long as it likes */
	const bxc_exec_services *services; /* NULL: there are no secrets and no agents */
	bxc_cancel *cancel; /* may be NULL; fired: everything is killed, BXC_CANCELED */
} bxc_exec_job;

typedef struct bxc_exec_result {
	uint64_t size_bytes; /* of the new layer's file contents */
	int64_t duration_ns; /* of the command */
} bxc_exec_result;

/* ---- cache mounts that are kept ---- */

typedef struct bxc_exec_cache {
	char *folder;	/* its name here */
	char *id;	/* as builds call it; NULL: not known */
	uint64_t bytes; /* that it takes on disk */
	int64_t used_ns; /* wall clock: when a step took it last; 0: not known */
	bool in_use;
} bxc_exec_cache;
typedef BXC_ARR(bxc_exec_cache) bxc_exec_caches;
void bxc_exec_caches_done(bxc_exec_caches *c);
/* Measured by a walk: slow where many files are. `ret` is zeroed or done. */
BXC_MUST_CHECK int bxc_exec_caches_list(bxc_exec *x, bxc_exec_caches *ret, bxc_err **err);
/* BXC_FAILED_PRECONDITION: a step has it. Absent: success. */
BXC_MUST_CHECK int bxc_exec_cache_remove(bxc_exec *x, const char *folder, bxc_err **err);

/*
 * Blocks until the command has ended. A command that failed is BXC_UNKNOWN
 *     process "/bin/sh -c exit 3" did not complete successfully: exit code: 3
 * with the detail "exit_code", and "signal", "oom", "memory_peak" (bytes) or "timeout" where they apply; nothing is committed then.
 * Problems of this worker have other codes and the detail "infra".
 */
BXC_MUST_CHECK int bxc_exec_run(
	bxc_exec *x, const bxc_exec_job *job, bxc_exec_result *ret, bxc_err **err);
