/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk over an overlay upper, with BuildKit's rules (moby/buildkit
 * util/overlay/overlay_linux.go and containerd archive/tar.go). A folder that holds a change but
 * has none itself is written only once the first change below it is, so the chain of folders on the
 * way is kept pending.
 */
#include <errno.h>
#include <fcntl.h>

#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/os/fs.h"
#include "common/os/xattr.h"
#include "worker/diff/diff_internal.h"

typedef struct level {
	struct level *up; /* NULL: the root, which has no entry */
	int upper_fd;	  /* this folder in the upper */
	int lower_fd;	  /* the same below, or -1 */
	bool is_opaque;	  /* the one below is hidden: all that is only there was deleted */
	const char *path; /* in the tar, "" for the root */
	const char *name;
	struct stat st;
	bool is_written;
} level;

static int walk(bxc_diff__out *o, level *at, unsigned depth, bxc_err **err);

/* Writes the folder's own entry, and before it those of its parents. */
static int write_level(bxc_diff__out *o, level *l, bxc_err **err)
{
	if (!l->up || l->is_written)
		return 0;
	int r = write_level(o, l->up, err);
	if (r == 0)
		r = bxc_diff__put(o, l->up->upper_fd, l->name, &l->st, l->path, err);
	if (r == 0)
		l->is_written = true;
	return r;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static int has_overlay_xattr(int fd, const char *what, bxc_buf *value, bxc_err **err)
{
	static const char *const spaces[] = {"trusted", "user"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(spaces); i++) {
		BXC_AUTOFREE char *name = bxc_str_fmt("%s.overlay.%s", spaces[i], what);
		BXC_AUTOERR bxc_err *why = NULL;
		int r = bxc_xattr_get(fd, name, value, &why);
		if (r == 0)
			return 1;
		if (r != -BXC_NOT_FOUND && r != -BXC_UNIMPLEMENTED)
			return bxc_err_move(err, BXC_TAKE(why));
	}
	return 0;
}

/* 1: it hides what is below it. */
static int is_opaque(int fd, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf value = BXC_BUF_INIT(BXC_LIMIT_XATTR);
	int r = has_overlay_xattr(fd, "opaque", &value, err);
	return r < 0 ? r : r == 1 && value.len == 1 && value.data[0] == 'y';
}

/* The path of a name in a folder, as the tar has it. */
static int sub_path(const char *dir, const char *name, char **ret, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_diff__join(dir, name);
	if (strlen(path) >= BXC_LIMIT_PATH)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"the path '%.64s...' is longer than %u bytes", path, BXC_LIMIT_PATH - 1);
	*ret = BXC_TAKE(path);
	return 0;
}

static int walk_dir(bxc_diff__out *o, level *at, const char *name, const char *path,
	const struct stat *st, const struct stat *lower_st, unsigned depth, bxc_err **err)
{
	BXC_AUTOCLOSE int upper_fd = -1;
	BXC_AUTOCLOSE int lower_fd = -1;
	int r = bxc_diff__open_dir(at->upper_fd, name, &upper_fd, err);
	if (r < 0)
		return r;
	BXC_AUTOBUF bxc_buf value = BXC_BUF_INIT(BXC_LIMIT_XATTR);
	r = has_overlay_xattr(upper_fd, "redirect", &value, err);
	if (r < 0)
		return r;
	if (r == 1)
		return bxc_err_set(
			err, BXC_UNIMPLEMENTED, "'%s' is a redirected folder of overlayfs", path);
	r = is_opaque(upper_fd, err);
	if (r < 0)
		return r;
	level below = {
		.up = at,
		.is_opaque = at->is_opaque || r == 1,
		.path = path,
		.name = name,
		.st = *st,
	};
	bool same = false;
	if (lower_st && S_ISDIR(lower_st->st_mode)) {
		r = bxc_diff__open_dir(at->lower_fd, name, &lower_fd, err);
		if (r < 0)
			return r;
		r = bxc_diff__same(at->upper_fd, st, at->lower_fd, lower_st, name, err);
		if (r < 0)
			return r;
		same = r == 1;
	}
	below.upper_fd = upper_fd;
	below.lower_fd = lower_fd;
	r = same ? 0 : write_level(o, &below, err);
	return r < 0 ? r : walk(o, &below, depth + 1, err);
}

static int walk_name(bxc_diff__out *o, level *at, const char *name, unsigned depth, bxc_err **err)
{
	int r = bxc_diff__count(o, err);
	if (r < 0)
		return r;
	struct stat st, lower_st;
	int in_upper = bxc_fs_lstat_opt(at->upper_fd, name, &st, err);
	if (in_upper < 0)
		return in_upper;
	int in_lower = at->lower_fd < 0 ? 0 : bxc_fs_lstat_opt(at->lower_fd, name, &lower_st, err);
	if (in_lower < 0)
		return in_lower;
	if (in_upper && !is_whiteout(&st) && !S_ISSOCK(st.st_mode)) {
		BXC_AUTOFREE char *path = NULL;
		r = sub_path(at->path, name, &path, err);
		if (r < 0)
			return r;
		if (S_ISDIR(st.st_mode))
			return walk_dir(
				o, at, name, path, &st, in_lower ? &lower_st : NULL, depth, err);
		if (in_lower) {
			r = bxc_diff__same(at->upper_fd, &st, at->lower_fd, &lower_st, name, err);
			if (r != 0)
				return r < 0 ? r : 0;
		}
		r = write_level(o, at, err);
		return r < 0 ? r : bxc_diff__put(o, at->upper_fd, name, &st, path, err);
	}
	/* Deleted: by a whiteout, by an opaque folder, or hidden by a socket that no tar can hold.
	 */
	if (!in_lower)
		return 0;
	r = write_level(o, at, err);
	return r < 0 ? r : bxc_diff__put_whiteout(o, at->path, name, err);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int walk(bxc_diff__out *o, level *at, unsigned depth, bxc_err **err)
{
	if (depth > BXC_LIMIT_TREE_DEPTH)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "folders are nested deeper than %u",
			BXC_LIMIT_TREE_DEPTH);
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(at->upper_fd, ".", BXC_LIMIT_TREE_ENTRIES, &names, err);
	if (r < 0)
		return r;
	if (at->is_opaque && at->lower_fd >= 0) {
		BXC_AUTOSTRV char **hidden = NULL;
		r = bxc_fs_list_dir(at->lower_fd, ".", BXC_LIMIT_TREE_ENTRIES, &hidden, err);
		if (r < 0)
			return r;
		size_t n = bxc_strv_len(names), m = bxc_strv_len(hidden);
		BXC_ARR(char *) all = {0};
		for (size_t i = 0; i < n + m; i++)
			*bxc_arr_push(&all) = i < n ? names[i] : hidden[i - n];
		if (all.n)
			qsort(all.v, all.n, sizeof(*all.v), by_name);
		for (size_t i = 0; r == 0 && i < all.n; i++)
			if (i == 0 || strcmp(all.v[i], all.v[i - 1]) != 0)
				r = walk_name(o, at, all.v[i], depth, err);
		bxc_arr_done(&all);
		return r;
	}
	for (char **n = names; r == 0 && *n; n++)
		r = walk_name(o, at, *n, depth, err);
	return r;
}

int bxc_diff_write(int upper_fd, int lower_fd, int64_t latest_s, bxc_sink_fn sink, void *ud,
	bxc_cancel *cancel, bxc_err **err)
{
	BXC_CLEANUP(bxc_tar_writer_freep) bxc_tar_writer *w = NULL;
	int r = bxc_tar_writer_new(0, sink, ud, &w, err);
	if (r < 0)
		return r;
	bxc_tar_writer_bound_mtime(w, INT64_MIN, latest_s);
	bxc_diff__out o;
	bxc_diff__out_init(&o, w, cancel);
	level root = {.upper_fd = upper_fd, .lower_fd = lower_fd, .path = "", .name = ""};
	r = is_opaque(upper_fd, err);
	if (r >= 0) {
		root.is_opaque = r == 1;
		r = walk(&o, &root, 0, err);
	}
	bxc_diff__out_done(&o);
	if (r == 0)
		r = bxc_tar_writer_finish(w, err);
	return r;
}

/* ---- whole trees ---- */

static int walk_tree(bxc_diff__out *o, int dir_fd, const char *path, unsigned depth, bxc_err **err)
{
	if (depth > BXC_LIMIT_TREE_DEPTH)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "folders are nested deeper than %u",
			BXC_LIMIT_TREE_DEPTH);
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(dir_fd, ".", BXC_LIMIT_TREE_ENTRIES, &names, err);
	for (char **n = names; r == 0 && *n; n++) {
		r = bxc_diff__count(o, err);
		if (r < 0)
			return r;
		struct stat st;
		r = bxc_fs_lstat(dir_fd, *n, &st, err);
		if (r < 0)
			return r;
		BXC_AUTOFREE char *sub = NULL;
		r = sub_path(path, *n, &sub, err);
		if (r < 0)
			return r;
		r = bxc_diff__put(o, dir_fd, *n, &st, sub, err);
		if (r < 0 || !S_ISDIR(st.st_mode))
			continue;
		BXC_AUTOCLOSE int sub_fd = -1;
		r = bxc_diff__open_dir(dir_fd, *n, &sub_fd, err);
		if (r == 0)
			r = walk_tree(o, sub_fd, sub, depth + 1, err);
	}
	return r;
}

int bxc_diff_write_tree(
	int root_fd, const char *prefix, bxc_tar_writer *w, bxc_cancel *cancel, bxc_err **err)
{
	const char *at = prefix ? prefix : "";
	if (*at) {
		bxc_tar_entry e = {.kind = BXC_TAR_DIR, .path = at, .mode = 0755};
		int r = bxc_tar_writer_entry(w, &e, err);
		if (r < 0)
			return r;
	}
	bxc_diff__out o;
	bxc_diff__out_init(&o, w, cancel);
	int r = walk_tree(&o, root_fd, at, 0, err);
	bxc_diff__out_done(&o);
	return r;
}
