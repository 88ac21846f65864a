/* SPDX-License-Identifier: Apache-2.0 */
/* Between walk.c and include.c. */
#pragma once

#include "common/filesync/filesync_internal.h"

/* The names in a folder, in byte order, as an owned strv (never NULL); `path` is for messages. */
BXC_MUST_CHECK int walk_list(int dir_fd, const char *path, size_t max, char ***ret, bxc_err **err);

/* What tells the file apart later (index.c); nothing when it may change without its times doing so.
 */
bxc_tree_file_id index_id(const struct stat *st, int64_t now_ns);
/* The file if the index knows it as it is; borrowed. Paths are asked for in the order
 * of trees; *next is 0 at first. */
const bxc_tree_entry *index_find(
	const bxc_tree_index *x, size_t *next, const char *path, const struct stat *st);

/* What an include list means in one folder: every pattern and link in it looked up. */
typedef struct walk_include walk_include;
BXC_MUST_CHECK int walk_include_new(
	int root_fd, char *const *list, size_t max, walk_include **ret, bxc_err **err);
void walk_include_free(walk_include *i);
/* Is the path named itself? NULL: yes. */
bool walk_includes(const walk_include *i, const char *path);
/* Is something below the path named? */
bool walk_leads_to(const walk_include *i, const char *path);
