/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy, with the rules of tonistiigi/fsutil copy/copy.go and BuildKit's llbsolver/file/backend.go.
 *
 * Folders are walked with descriptors on both sides. What is written lies in folders that were
 * checked to be real ones, so links in the destination are followed only on the path that the
 * action names.
 */
#include <errno.h>

#include "common/base/limits.h"
#include "common/os/fs.h"
#include "worker/fileop/fileop_internal.h"

typedef struct copier {
	bxc_fsop__view *view;
	const bxc_file_action *a;
	bxc_cancel *cancel;
	bxc_fsop__ids owner;
	bxc_ignore *include, *exclude; /* NULL: none */
	uint32_t n_entries;
	/* One source match: hard links are kept among its files. */
	int top_fd;	/* the folder it is written into; borrowed */
	bxc_map *links; /* key of the inode -> path below top_fd; owned values */
} copier;

/* A folder on the way down: it is made when something in it is written. */
typedef struct level {
	struct level *up; /* NULL: dst_fd is open already */
	const bxc_fsop__node *node;
	const char *name; /* in up's folder */
	char *rel;	  /* below top_fd, "" for itself; owned */
	int dst_fd;	  /* -1: not made yet; owned when up is set */
	bool is_on_way;	  /* not selected itself, only something in it */
	bool was_created;
} level;

static int enter(copier *c, level *l, bxc_err **err);
static int copy_node(copier *c, level *up, const bxc_fsop__node *n, const char *name,
	const char *below, bool overwrite, unsigned depth, bxc_err **err);

/* ---- attributes ---- */

static void node_times(const copier *c, const bxc_fsop__node *n, struct timespec times[2])
{
	if (c->a->timestamp_ns != INT64_MIN) {
		times[0] = times[1] = bxc_fsop__timespec(c->a->timestamp_ns);
	} else {
		times[0] = n->atime;
		times[1] = n->mtime;
	}
}

typedef struct attributes {
	uint32_t uid, gid;
	mode_t mode;
	struct timespec times[2];
} attributes;

/* What the action asks for, and for the rest what the node has. */
static int attributes_of(const copier *c, const bxc_fsop__node *n, attributes *ret, bxc_err **err)
{
	mode_t mode = n->mode;
	if (c->a->mode_text) {
		int r = bxc_fsop__mode_apply(c->a->mode_text, n->mode, &mode, err);
		if (r < 0)
			return r;
	} else if (c->a->mode >= 0) {
		mode = (mode_t)c->a->mode;
	}
	ret->mode = mode & 07777;
	ret->uid = c->owner.is_set ? c->owner.uid : n->uid;
	ret->gid = c->owner.is_set ? c->owner.gid : n->gid;
	node_times(c, n, ret->times);
	return 0;
}

/* Owner, mode, xattrs and times of an open file or folder. chown comes before chmod, which it
 * undoes in part, and before xattrs, among which it clears capabilities. */
static int set_attributes(copier *c, const bxc_fsop__node *n, int fd, bxc_err **err)
{
	attributes t;
	int r = attributes_of(c, n, &t, err);
	if (r < 0)
		return r;
	if (fchown(fd, t.uid, t.gid) < 0)
		return bxc_err_errno(err, errno, "change owner of '%s'", n->path);
	if (fchmod(fd, t.mode) < 0)
		return bxc_err_errno(err, errno, "change mode of '%s'", n->path);
	bxc_fsop__view_copy_xattrs(c->view, n, fd);
	if (futimens(fd, t.times) < 0)
		return bxc_err_errno(err, errno, "set time of '%s'", n->path);
	return 0;
}

/* The same for what cannot be opened: links, devices, pipes. */
static int set_attributes_at(
	copier *c, const bxc_fsop__node *n, int dir_fd, const char *name, bxc_err **err)
{
	attributes t;
	int r = attributes_of(c, n, &t, err);
	if (r < 0)
		return r;
	if (fchownat(dir_fd, name, t.uid, t.gid, AT_SYMLINK_NOFOLLOW) < 0)
		return bxc_err_errno(err, errno, "change owner of '%s'", n->path);
	if (!S_ISLNK(n->mode) && fchmodat(dir_fd, name, t.mode, 0) < 0)
		return bxc_err_errno(err, errno, "change mode of '%s'", n->path);
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		bxc_fsop__view_copy_xattrs(c->view, n, fd);
	if (utimensat(dir_fd, name, t.times, AT_SYMLINK_NOFOLLOW) < 0)
		return bxc_err_errno(err, errno, "set time of '%s'", n->path);
	return 0;
}

/* ---- one entry ---- */

static char *below_path(const char *dir, const char *name)
{
	return *dir ? bxc_str_fmt("%s/%s", dir, name) : bxc_strdup(name);
}

/* Makes way for something that is no folder. */
static int clear_target(
	copier *c, int dir_fd, const char *name, const bxc_fsop__node *n, bxc_err **err)
{
	struct stat st;
	int r = bxc_fs_lstat_opt(dir_fd, name, &st, err);
	if (r <= 0)
		return r;
	if (S_ISDIR(st.st_mode) && !c->a->replace_existing)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"cannot replace to directory %s with file", n->path);
	return bxc_fs_rmtree(dir_fd, name, err);
}

/* 1: made as a further name of a file that was copied before. */
static int link_to_earlier(copier *c, const char *key, int dir_fd, const char *name, bxc_err **err)
{
	const char *earlier = bxc_map_get(c->links, key);
	if (!earlier)
		return 0;
	BXC_AUTOCLOSE int from_fd = -1;
	BXC_AUTOFREE char *from_name = NULL;
	int r = bxc_fs_open_parent(c->top_fd, earlier, false, &from_fd, &from_name, err);
	if (r < 0)
		return r;
	if (linkat(from_fd, from_name, dir_fd, name, 0) < 0)
		return bxc_err_errno(err, errno, "make hard link '%s'", earlier);
	return 1;
}

static int copy_file(copier *c, level *up, const bxc_fsop__node *n, const char *name, bxc_err **err)
{
	BXC_AUTOFREE char *key = bxc_fsop__view_link_key(c->view, n);
	if (key) {
		int r = link_to_earlier(c, key, up->dst_fd, name, err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	BXC_AUTOCLOSE int fd = openat(
		up->dst_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return bxc_err_errno(err, errno, "create '%s'", name);
	int r = bxc_fsop__view_copy_data(c->view, n, fd, err);
	if (r == 0)
		r = set_attributes(c, n, fd, err);
	if (r == 0 && key)
		bxc_map_set(c->links, key, below_path(up->rel, name));
	return r;
}

static int copy_special(
	copier *c, level *up, const bxc_fsop__node *n, const char *name, bxc_err **err)
{
	if (S_ISLNK(n->mode)) {
		BXC_AUTOFREE char *target = NULL;
		int r = bxc_fsop__view_readlink(c->view, n, &target, err);
		if (r < 0)
			return r;
		if (symlinkat(target, up->dst_fd, name) < 0)
			return bxc_err_errno(err, errno, "make symbolic link '%s'", name);
	} else if (mknodat(up->dst_fd, name, (n->mode & S_IFMT) | 0600, n->rdev) < 0) {
		return bxc_err_errno(err, errno, "make device or pipe '%s'", name);
	}
	return set_attributes_at(c, n, up->dst_fd, name, err);
}

static bool is_selected(const copier *c, const char *below)
{
	if (!*below)
		return true;
	if (c->include && !bxc_ignore_match(c->include, below))
		return false;
	return !c->exclude || !bxc_ignore_match(c->exclude, below);
}

/* May anything below a folder that is not selected itself be? */
static bool may_select_below(const copier *c, const char *below)
{
	if (c->include && !bxc_ignore_may_match_below(c->include, below))
		return false;
	return !c->exclude || !bxc_ignore_match(c->exclude, below) ||
	       bxc_ignore_may_include_below(c->exclude, below);
}

static int copy_children(copier *c, level *l, const char *below, unsigned depth, bxc_err **err)
{
	if (depth > BXC_LIMIT_TREE_DEPTH)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "folders are nested deeper than %u",
			BXC_LIMIT_TREE_DEPTH);
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fsop__view_list(c->view, l->node, &names, err);
	for (char **name = names; r == 0 && *name; name++) {
		r = bxc_cancel_check(c->cancel, err);
		if (r < 0)
			return r;
		if (++c->n_entries > BXC_LIMIT_TREE_ENTRIES)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u files",
				BXC_LIMIT_TREE_ENTRIES);
		BXC_FSOP__AUTONODE bxc_fsop__node child = BXC_FSOP__NODE_INIT;
		r = bxc_fsop__view_child(c->view, l->node, *name, &child, err);
		if (r < 0)
			return r;
		/* A whiteout in the only layer of a source marks the deletion of nothing. */
		if (S_ISCHR(child.mode) && child.rdev == 0)
			continue;
		BXC_AUTOFREE char *sub = below_path(below, *name);
		r = copy_node(c, l, &child, *name, sub, true, depth + 1, err);
	}
	return r;
}

/* Makes sure that the folder is there and open, and those above it. */
static int enter(copier *c, level *l, bxc_err **err)
{
	if (l->dst_fd >= 0)
		return 0;
	int r = enter(c, l->up, err);
	if (r < 0)
		return r;
	struct stat st;
	r = bxc_fs_lstat_opt(l->up->dst_fd, l->name, &st, err);
	if (r < 0)
		return r;
	if (r == 1 && !S_ISDIR(st.st_mode)) {
		if (!c->a->replace_existing)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"cannot copy to non-directory: %s", l->node->path);
		r = bxc_fs_rmtree(l->up->dst_fd, l->name, err);
		if (r < 0)
			return r;
		r = 0;
	}
	if (r == 0) {
		if (mkdirat(l->up->dst_fd, l->name, 0700) < 0)
			return bxc_err_errno(err, errno, "make folder '%s'", l->name);
		l->was_created = true;
	}
	l->dst_fd = openat(l->up->dst_fd, l->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (l->dst_fd < 0)
		return bxc_err_errno(err, errno, "open folder '%s'", l->name);
	/* Of one that is there already and lies on the way, only the mode becomes the source's. */
	if (l->is_on_way && !l->was_created && fchmod(l->dst_fd, l->node->mode & 07777) < 0)
		return bxc_err_errno(err, errno, "change mode of '%s'", l->name);
	return 0;
}

static int set_times(copier *c, const bxc_fsop__node *n, int fd, bxc_err **err)
{
	struct timespec times[2];
	node_times(c, n, times);
	if (futimens(fd, times) < 0)
		return bxc_err_errno(err, errno, "set time of '%s'", n->path);
	return 0;
}

static int copy_dir(copier *c, level *up, const bxc_fsop__node *n, const char *name,
	const char *below, bool overwrite, unsigned depth, bxc_err **err)
{
	bool selected = is_selected(c, below);
	if (!selected && !may_select_below(c, below))
		return 0;
	level l = {.up = up,
		.node = n,
		.name = name,
		.rel = below_path(up->rel, name),
		.dst_fd = -1,
		.is_on_way = !selected};
	int r = selected ? enter(c, &l, err) : 0;
	if (r == 0)
		r = copy_children(c, &l, below, depth, err);
	/* After the children, which change its time. */
	if (r == 0 && l.dst_fd >= 0) {
		if (l.was_created || (selected && overwrite))
			r = set_attributes(c, n, l.dst_fd, err);
		else if (selected)
			r = set_times(c, n, l.dst_fd, err);
	}
	bxc_cleanup_close(&l.dst_fd);
	free(l.rel);
	return r;
}

static int copy_node(copier *c, level *up, const bxc_fsop__node *n, const char *name,
	const char *below, bool overwrite, unsigned depth, bxc_err **err)
{
	if (S_ISDIR(n->mode))
		return copy_dir(c, up, n, name, below, overwrite, depth, err);
	if (!is_selected(c, below))
		return 0;
	int r = enter(c, up, err);
	if (r == 0)
		r = clear_target(c, up->dst_fd, name, n, err);
	if (r < 0)
		return r;
	return S_ISREG(n->mode) ? copy_file(c, up, n, name, err)
				: copy_special(c, up, n, name, err);
}

/* ---- one match ---- */

static const char *last_component(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

static bool means_into(const char *dest)
{
	return bxc_str_has_suffix(dest, "/") || bxc_str_has_suffix(dest, "/.");
}

/* Copies one node into the open folder dir_fd under `name`, or its contents when name is NULL. */
static int copy_top(copier *c, const bxc_fsop__node *n, int dir_fd, const char *name, bxc_err **err)
{
	level top = {.node = n, .rel = bxc_strdup(""), .dst_fd = dir_fd, .name = ""};
	c->top_fd = dir_fd;
	c->links = bxc_map_new(free);
	int r = name ? copy_node(c, &top, n, name, "", false, 0, err)
		     : copy_children(c, &top, "", 0, err);
	bxc_map_free(c->links);
	c->links = NULL;
	free(top.rel);
	return r;
}

static int copy_match(copier *c, bxc_fsop__dest *d, const char *src, bxc_err **err)
{
	const bxc_file_action *a = c->a;
	BXC_FSOP__AUTONODE bxc_fsop__node n = BXC_FSOP__NODE_INIT;
	int r = bxc_fsop__view_resolve(c->view, src, a->follow_symlink, &n, err);
	if (r < 0)
		return r;
	if (a->unpack && S_ISREG(n.mode)) {
		r = bxc_fsop__unpack(c->view, &n, a, d, &c->owner, c->cancel, err);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	const char *base = last_component(src);
	/* What a pattern matched may be excluded by name; below a folder, copy_children looks. */
	if (!S_ISDIR(n.mode) && c->exclude && bxc_ignore_match(c->exclude, base))
		return 0;
	bool is_dir = S_ISDIR(n.mode), contents = is_dir && (a->src_dir_contents || !*base);
	BXC_AUTOCLOSE int dir_fd = -1;
	if (is_dir || means_into(a->dest)) {
		r = bxc_fsop__dest_open_dir(d, a->dest, true, &dir_fd, err);
		if (r == 0)
			r = bxc_fsop__dest_mkdir_p(d, a->dest, &dir_fd, err);
		if (r < 0)
			return r;
	} else {
		r = bxc_fsop__dest_open_dir(d, a->dest, false, &dir_fd, err);
		if (r < 0)
			return r;
	}
	if (dir_fd < 0) {
		BXC_AUTOFREE char *name = NULL;
		r = bxc_fsop__dest_file(d, a->dest, true, &dir_fd, &name, err);
		return r < 0 ? r : copy_top(c, &n, dir_fd, name, err);
	}
	/* Writing through overlayfs needs no readable folder, but setting its time does. */
	BXC_AUTOCLOSE int open_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (open_fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", a->dest);
	r = copy_top(c, &n, open_fd, contents ? NULL : base, err);
	if (r == 0 && contents)
		r = set_times(c, &n, open_fd, err);
	return r;
}

/* Without create_dest the folder that is to hold `dest` must be there. */
static int check_dest_parent(bxc_fsop__dest *d, const char *dest, bxc_err **err)
{
	BXC_AUTOFREE char *clean = bxc_path_clean(dest);
	char *slash = strrchr(clean, '/');
	slash[slash == clean ? 1 : 0] = '\0';
	BXC_AUTOCLOSE int fd = -1;
	int r = bxc_fsop__dest_open_dir(d, clean, true, &fd, err);
	if (r == 0)
		return bxc_err_set(err, BXC_NOT_FOUND, "\"%s\": not found", clean);
	return r < 0 ? r : 0;
}

static int copy_all(copier *c, bxc_fsop__dest *d, bxc_err **err)
{
	const bxc_file_action *a = c->a;
	int r = 0;
	if (!a->create_dest)
		r = check_dest_parent(d, a->dest, err);
	if (r == 0 && a->include)
		r = bxc_ignore_from_patterns(a->include, &c->include, err);
	if (r == 0 && a->exclude)
		r = bxc_ignore_from_patterns(a->exclude, &c->exclude, err);
	for (char **p = a->required; r == 0 && p && *p; p++) {
		BXC_FSOP__AUTONODE bxc_fsop__node n = BXC_FSOP__NODE_INIT;
		r = bxc_fsop__view_resolve(c->view, *p, true, &n, err);
	}
	if (r < 0)
		return r;
	BXC_AUTOSTRV char **matches = NULL;
	r = bxc_fsop__view_match(c->view, a->src, a->wildcard, &matches, err);
	if (r < 0)
		return r;
	if (!matches[0] && !a->allow_empty_wildcard)
		return bxc_err_set(err, BXC_NOT_FOUND, "\"%s\": not found", a->src);
	for (char **m = matches; r == 0 && *m; m++)
		r = copy_match(c, d, *m, err);
	return r < 0 ? r : bxc_fsop__dest_finish(d, err);
}

int bxc_fsop__copy(const bxc_file_action *a, int root_fd, const bxc_fsop_source *source,
	const bxc_fsop_env *env, bxc_err **err)
{
	bxc_fsop__view view;
	bxc_fsop__view_init(&view, source, env);
	copier c = {.view = &view, .a = a, .cancel = env->cancel};
	int r = bxc_fsop__owner(root_fd, &a->owner, &c.owner, err);
	bxc_fsop__dest d = {
		.root_fd = root_fd,
		.dir_mode = a->mode >= 0 && !a->mode_text ? (mode_t)a->mode & 07777 : 0755,
		.uid = c.owner.is_set ? c.owner.uid : 0,
		.gid = c.owner.is_set ? c.owner.gid : 0,
		.timestamp_ns = a->timestamp_ns,
	};
	if (r == 0)
		r = copy_all(&c, &d, err);
	bxc_fsop__dest_done(&d);
	bxc_ignore_free(c.include);
	bxc_ignore_free(c.exclude);
	bxc_fsop__view_done(&view);
	return r;
}
