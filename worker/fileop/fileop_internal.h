/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/stat.h>

#include "common/base/map.h"
#include "worker/fileop/fileop.h"

#define BXC_FSOP__MAX_LINKS 40 /* as the kernel */

/* ---- view.c: one interface to both kinds of source ---- */

typedef struct bxc_fsop__view {
	bxc_fsop_source src;
	const bxc_fsop_env *env;
	bxc_map *link_firsts; /* tree: paths that hard links point to; NULL: not looked for yet */
} bxc_fsop__view;

typedef struct bxc_fsop__node {
	char *path;  /* absolute within the source, for messages and the tree */
	mode_t mode; /* with the type */
	uint32_t uid, gid;
	uint64_t size;
	struct timespec atime, mtime;
	dev_t rdev;
	int fd; /* folder source: O_PATH; else -1 */
	dev_t dev;
	ino_t ino;
	nlink_t nlink;
	const bxc_tree_entry *entry; /* tree source; NULL for the root of an empty tree */
} bxc_fsop__node;

#define BXC_FSOP__NODE_INIT                                                                        \
	{                                                                                          \
		.fd = -1                                                                           \
	}
#define BXC_FSOP__AUTONODE BXC_CLEANUP(bxc_fsop__node_done)
void bxc_fsop__node_done(bxc_fsop__node *n);

void bxc_fsop__view_init(bxc_fsop__view *v, const bxc_fsop_source *src, const bxc_fsop_env *env);
void bxc_fsop__view_done(bxc_fsop__view *v);
/* Beneath the root, as after chroot. BXC_NOT_FOUND: "\"/x\": not found". */
BXC_MUST_CHECK int bxc_fsop__view_resolve(
	bxc_fsop__view *v, const char *path, bool follow, bxc_fsop__node *ret, bxc_err **err);
/* Names in a folder in byte order, without what overlayfs itself keeps there. */
BXC_MUST_CHECK int bxc_fsop__view_list(
	bxc_fsop__view *v, const bxc_fsop__node *dir, char ***ret, bxc_err **err);
/* Not followed. */
BXC_MUST_CHECK int bxc_fsop__view_child(bxc_fsop__view *v, const bxc_fsop__node *dir,
	const char *name, bxc_fsop__node *ret, bxc_err **err);
BXC_MUST_CHECK int bxc_fsop__view_readlink(
	bxc_fsop__view *v, const bxc_fsop__node *n, char **ret, bxc_err **err);
BXC_MUST_CHECK int bxc_fsop__view_copy_data(
	bxc_fsop__view *v, const bxc_fsop__node *n, int out_fd, bxc_err **err);
/* A file for pread. */
typedef struct bxc_fsop__data {
	int fd;		 /* -1: empty */
	int own_fd;	 /* the same when it is to be closed, else -1 */
	uint64_t offset; /* where the content begins */
	uint64_t size;
} bxc_fsop__data;
BXC_MUST_CHECK int bxc_fsop__view_open(
	bxc_fsop__view *v, const bxc_fsop__node *n, bxc_fsop__data *ret, bxc_err **err);
/* Best effort. */
void bxc_fsop__view_copy_xattrs(bxc_fsop__view *v, const bxc_fsop__node *n, int out_fd);
/* Equal for the names of one inode; NULL when it has one name only. Owned. */
char *bxc_fsop__view_link_key(bxc_fsop__view *v, const bxc_fsop__node *n);

/* Paths selected by `src` in lexical order; a pattern may match nothing. */
BXC_MUST_CHECK int bxc_fsop__view_match(
	bxc_fsop__view *v, const char *src, bool wildcard, char ***ret, bxc_err **err);

/* ---- dest.c: paths in the tree that is changed ---- */

typedef struct bxc_fsop__dest {
	int root_fd;	 /* borrowed */
	mode_t dir_mode; /* of folders made on the way */
	uint32_t uid, gid;
	int64_t timestamp_ns; /* INT64_MIN: none */
	char **made;	      /* paths of folders made on the way, for their times */
} bxc_fsop__dest;

void bxc_fsop__dest_done(bxc_fsop__dest *d);
BXC_MUST_CHECK int bxc_fsop__dest_mkdir_p(
	bxc_fsop__dest *d, const char *path, int *ret_fd, bxc_err **err);
/* 1: `path`, links followed, is a folder, opened; 0: it is absent; BXC_INVALID_ARGUMENT when it is
 * something else and want_dir, else 0. */
BXC_MUST_CHECK int bxc_fsop__dest_open_dir(
	bxc_fsop__dest *d, const char *path, bool want_dir, int *ret_fd, bxc_err **err);
/* Where a file `path` is to be made, links followed also at its end; parents are made when `make`.
 */
BXC_MUST_CHECK int bxc_fsop__dest_file(bxc_fsop__dest *d, const char *path, bool make,
	int *ret_dir_fd, char **ret_name, bxc_err **err);
/* Gives the folders made on the way their time, if one is set. */
BXC_MUST_CHECK int bxc_fsop__dest_finish(bxc_fsop__dest *d, bxc_err **err);

/* ---- attr.c ---- */

typedef struct bxc_fsop__ids {
	bool is_set;
	uint32_t uid, gid;
} bxc_fsop__ids;
/* Names are looked up in the destination; what is unknown is 0, as BuildKit has it. */
BXC_MUST_CHECK int bxc_fsop__owner(
	int root_fd, const bxc_def_owner *o, bxc_fsop__ids *ret, bxc_err **err);
/* Symbolic chmod ("u+x,go=rX") on a mode with its type, with a umask of 0. */
BXC_MUST_CHECK int bxc_fsop__mode_apply(const char *text, mode_t mode, mode_t *ret, bxc_err **err);
struct timespec bxc_fsop__timespec(int64_t ns);

/* ---- copy.c ---- */
BXC_MUST_CHECK int bxc_fsop__copy(const bxc_file_action *a, int root_fd,
	const bxc_fsop_source *source, const bxc_fsop_env *env, bxc_err **err);

/* ---- unpack.c ---- */
/* Unpacks the file into the destination when it is a tar, plain or compressed (1); 0: it is not. */
BXC_MUST_CHECK int bxc_fsop__unpack(bxc_fsop__view *v, const bxc_fsop__node *n,
	const bxc_file_action *a, const bxc_fsop__dest *d, const bxc_fsop__ids *owner,
	bxc_cancel *cancel, bxc_err **err);
