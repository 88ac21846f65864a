/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File operations: copy, mkdir, mkfile, rm and symlink on trees, with BuildKit's semantics
 * (COPY and ADD rest on copy). Module prefix: bxc_fsop.
 *
 * Every path is resolved beneath the root of its tree, as after chroot: nothing outside is read or
 * written whatever links the trees hold. Any thread; blocks on disk.
 */
#pragma once

#include "common/base/err.h"
#include "common/definition/definition.h"
#include "common/filesync/filesync.h"
#include "common/loop/pool.h"

/* A tree to read from: a folder or mount, or a located tree whose contents lie in packs. */
typedef struct bxc_fsop_source {
	int root_fd;	      /* -1: `tree` counts */
	const bxc_tree *tree; /* NULL with root_fd -1: empty */
} bxc_fsop_source;

typedef struct bxc_fsop_env {
	/* Opens a pack for pread; the descriptor is borrowed and stays open for the whole call. May
	 * be NULL when no source is a located tree. */
	int (*open_pack)(const bxc_digest *pack, int *ret_fd, void *ud, bxc_err **err);
	void *ud;
	bxc_cancel *cancel; /* may be NULL */
} bxc_fsop_env;

/* Performs one action on the tree at root_fd. `source` is used by copy only; env may be NULL. */
BXC_MUST_CHECK int bxc_fsop_perform(const bxc_file_action *a, int root_fd,
	const bxc_fsop_source *source, const bxc_fsop_env *env, bxc_err **err);

/*
 * The input whose tree the actions of `op` start from, or BXC_DEF_NO_INPUT for an empty one.
 * BXC_UNIMPLEMENTED for actions that do not form one chain, or that copy from one another's
 * results.
 */
BXC_MUST_CHECK int bxc_fsop_base(
	const bxc_op_file *op, uint32_t n_inputs, uint32_t *ret_input, bxc_err **err);
/* Performs all actions in order on root_fd, a writable tree that starts as that base. inputs: the
 * trees of the vertex's inputs, n_inputs of them; that of the base is not used unless copied from.
 */
BXC_MUST_CHECK int bxc_fsop_run(const bxc_op_file *op, int root_fd, const bxc_fsop_source *inputs,
	uint32_t n_inputs, const bxc_fsop_env *env, bxc_err **err);

/* Writes all of `source` into the folder root_fd, owners and modes as they are: for mounts of a
 * context. */
BXC_MUST_CHECK int bxc_fsop_materialize(
	const bxc_fsop_source *source, int root_fd, const bxc_fsop_env *env, bxc_err **err);
