/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a source: a folder by descriptors, or a located tree by its entries. Trees are values
 * that were verified when they came; folders are read-only mounts of layers, so neither changes
 * under us.
 */
#include <errno.h>
#include <sys/sysmacros.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/xattr.h"
#include "worker/fileop/fileop_internal.h"

void bxc_fsop__node_done(bxc_fsop__node *n)
{
	free(n->path);
	bxc_cleanup_close(&n->fd);
	*n = (bxc_fsop__node)BXC_FSOP__NODE_INIT;
}

void bxc_fsop__view_init(bxc_fsop__view *v, const bxc_fsop_source *src, const bxc_fsop_env *env)
{
	*v = (bxc_fsop__view){.src = src ? *src : (bxc_fsop_source){.root_fd = -1}, .env = env};
}

void bxc_fsop__view_done(bxc_fsop__view *v)
{
	bxc_map_free(v->link_firsts);
	v->link_firsts = NULL;
}

static bool is_folder(const bxc_fsop__view *v)
{
	return v->src.root_fd >= 0;
}

static int not_found(const char *path, bxc_err **err)
{
	return bxc_err_set(err, BXC_NOT_FOUND, "\"%s\": not found", path);
}

static char *join(const char *dir, const char *name)
{
	return bxc_str_fmt("%s/%s", bxc_str_eq(dir, "/") ? "" : dir, name);
}

/* ---- folders ---- */

/* Takes fd. */
static int folder_node(int fd_, const char *path, bxc_fsop__node *ret, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = fd_;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return bxc_err_errno(err, errno, "stat '%s'", path);
	*ret = (bxc_fsop__node){
		.path = bxc_strdup(path),
		.mode = st.st_mode,
		.uid = st.st_uid,
		.gid = st.st_gid,
		.size = (uint64_t)st.st_size,
		.atime = st.st_atim,
		.mtime = st.st_mtim,
		.rdev = st.st_rdev,
		.fd = BXC_TAKE_FD(fd),
		.dev = st.st_dev,
		.ino = st.st_ino,
		.nlink = st.st_nlink,
	};
	return 0;
}

static int folder_open_data(const bxc_fsop__node *n, int *ret_fd, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("/proc/self/fd/%d", n->fd);
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", n->path);
	*ret_fd = fd;
	return 0;
}

/* ---- trees ---- */

static void tree_node(const bxc_tree_entry *e, const char *path, bxc_fsop__node *ret)
{
	*ret = (bxc_fsop__node){
		.path = bxc_strdup(path), .mode = S_IFDIR | 0755, .fd = -1, .nlink = 1, .entry = e};
	if (!e)
		return;
	ret->mode = e->mode;
	ret->uid = e->uid;
	ret->gid = e->gid;
	ret->size = e->size;
	ret->atime = ret->mtime = bxc_fsop__timespec(e->mtime_ns);
	ret->rdev = makedev(e->dev_major, e->dev_minor);
}

/* The entry whose content counts: the first name for a hard link. */
static const bxc_tree_entry *tree_content(const bxc_fsop__view *v, const bxc_fsop__node *n)
{
	if (n->entry && n->entry->is_hardlink && n->entry->link) {
		const bxc_tree_entry *first = bxc_tree_find(v->src.tree, n->entry->link);
		return first && S_ISREG(first->mode) && !first->is_hardlink ? first : NULL;
	}
	return n->entry;
}

static const bxc_tree_entry *tree_find(const bxc_fsop__view *v, const char *path)
{
	return v->src.tree ? bxc_tree_find(v->src.tree, path) : NULL;
}

/* As the kernel resolves under a chroot. */
static int tree_resolve(
	bxc_fsop__view *v, const char *path, bool follow, bxc_fsop__node *ret, bxc_err **err)
{
	BXC_AUTOFREE char *todo = bxc_strdup(path);
	BXC_AUTOFREE char *at = bxc_strdup("/");
	const bxc_tree_entry *e = tree_find(v, "/");
	int links = 0;
	char *p = todo;
	for (;;) {
		p += strspn(p, "/");
		size_t n = strcspn(p, "/");
		if (n == 0)
			break;
		BXC_AUTOFREE char *name = bxc_strndup(p, n);
		p += n;
		if (bxc_str_eq(name, "."))
			continue;
		if (bxc_str_eq(name, "..")) {
			char *slash = strrchr(at, '/');
			slash[slash == at ? 1 : 0] = '\0';
			e = tree_find(v, at);
			continue;
		}
		if (e && !S_ISDIR(e->mode))
			return not_found(path, err);
		BXC_AUTOFREE char *next = join(at, name);
		const bxc_tree_entry *child = tree_find(v, next);
		if (!child)
			return not_found(path, err);
		bool last = p[strspn(p, "/")] == '\0';
		if (S_ISLNK(child->mode) && (!last || follow || *p == '/')) {
			if (++links > BXC_FSOP__MAX_LINKS)
				return bxc_err_errno(err, ELOOP, "open '%s'", path);
			const char *target = child->link ? child->link : "";
			if (strlen(target) + strlen(p) >= (size_t)2 * BXC_LIMIT_PATH)
				return bxc_err_errno(err, ENAMETOOLONG, "open '%s'", path);
			char *more = bxc_str_fmt("%s/%s", target, p);
			/* Without what follows, a last link must not turn into one with a slash
			 * after it. */
			if (*p == '\0')
				more[strlen(more) - 1] = '\0';
			if (*target == '/') {
				free(at);
				at = bxc_strdup("/");
				e = tree_find(v, "/");
			}
			free(todo);
			todo = more;
			p = todo;
			continue;
		}
		free(at);
		at = BXC_TAKE(next);
		e = child;
	}
	tree_node(e, at, ret);
	return 0;
}

static int tree_list(bxc_fsop__view *v, const bxc_fsop__node *dir, char ***ret)
{
	const bxc_tree *t = v->src.tree;
	char **names = NULL;
	size_t prefix = bxc_str_eq(dir->path, "/") ? 1 : strlen(dir->path) + 1;
	size_t i = dir->entry ? (size_t)(dir->entry - t->entries.v) + 1 : 0;
	for (; t && i < t->entries.n; i++) {
		const char *path = t->entries.v[i].path;
		if (strncmp(path, dir->path, prefix - 1) != 0 || path[prefix - 1] != '/')
			break;
		if (path[prefix] && !strchr(path + prefix, '/'))
			bxc_strv_push(&names, path + prefix);
	}
	*ret = names ? names : bxc_calloc(1, sizeof(char *));
	return 0;
}

static int tree_open_pack(bxc_fsop__view *v, const bxc_fsop__node *n,
	const bxc_tree_entry **ret_entry, int *ret_fd, bxc_err **err)
{
	const bxc_tree_entry *e = tree_content(v, n);
	if (!e)
		return bxc_err_set(err, BXC_DATA_LOSS, "'%s' is a hard link to nothing", n->path);
	*ret_entry = e;
	*ret_fd = -1;
	if (e->size == 0)
		return 0;
	if (!bxc_digest_is_set(&e->pack) || !v->env->open_pack)
		return bxc_err_set(
			err, BXC_FAILED_PRECONDITION, "the content of '%s' was not sent", n->path);
	return v->env->open_pack(&e->pack, ret_fd, v->env->ud, err);
}

/* ---- both ---- */

int bxc_fsop__view_resolve(
	bxc_fsop__view *v, const char *path, bool follow, bxc_fsop__node *ret, bxc_err **err)
{
	if (strlen(path) >= BXC_LIMIT_PATH)
		return bxc_err_errno(err, ENAMETOOLONG, "open '%.64s...'", path);
	if (!is_folder(v))
		return tree_resolve(v, path, follow, ret, err);
	int fd = -1;
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fs_open_beneath(v->src.root_fd, path, O_PATH | (follow ? 0 : O_NOFOLLOW), 0,
		BXC_FS_IN_ROOT, &fd, &why);
	if (r == -BXC_NOT_FOUND || bxc_err_errnum(why) == ENOTDIR)
		return not_found(path, err);
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(why));
	BXC_FSOP__AUTONODE bxc_fsop__node n = BXC_FSOP__NODE_INIT;
	r = folder_node(fd, path, &n, err);
	if (r < 0)
		return r;
	if (S_ISCHR(n.mode) && n.rdev == 0)
		return not_found(path, err);
	*ret = n;
	n = (bxc_fsop__node)BXC_FSOP__NODE_INIT;
	return 0;
}

int bxc_fsop__view_list(bxc_fsop__view *v, const bxc_fsop__node *dir, char ***ret, bxc_err **err)
{
	if (!is_folder(v))
		return tree_list(v, dir, ret);
	return bxc_fs_list_dir(dir->fd, ".", BXC_LIMIT_TREE_ENTRIES, ret, err);
}

int bxc_fsop__view_child(bxc_fsop__view *v, const bxc_fsop__node *dir, const char *name,
	bxc_fsop__node *ret, bxc_err **err)
{
	BXC_AUTOFREE char *path = join(dir->path, name);
	if (!is_folder(v)) {
		const bxc_tree_entry *e = tree_find(v, path);
		if (!e)
			return not_found(path, err);
		tree_node(e, path, ret);
		return 0;
	}
	int fd = openat(dir->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return not_found(path, err);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", path);
	return folder_node(fd, path, ret, err);
}

int bxc_fsop__view_readlink(bxc_fsop__view *v, const bxc_fsop__node *n, char **ret, bxc_err **err)
{
	if (is_folder(v))
		return bxc_fs_readlink(n->fd, "", ret, err);
	*ret = bxc_strdup(n->entry && n->entry->link ? n->entry->link : "");
	return 0;
}

int bxc_fsop__view_open(
	bxc_fsop__view *v, const bxc_fsop__node *n, bxc_fsop__data *ret, bxc_err **err)
{
	*ret = (bxc_fsop__data){.fd = -1, .own_fd = -1};
	if (is_folder(v)) {
		int r = n->size ? folder_open_data(n, &ret->own_fd, err) : 0;
		ret->fd = ret->own_fd;
		ret->size = n->size;
		return r;
	}
	const bxc_tree_entry *e = NULL;
	int r = tree_open_pack(v, n, &e, &ret->fd, err);
	if (r == 0) {
		ret->offset = e->pack_off;
		ret->size = e->size;
	}
	return r;
}

int bxc_fsop__view_copy_data(bxc_fsop__view *v, const bxc_fsop__node *n, int out_fd, bxc_err **err)
{
	bxc_fsop__data data;
	int r = bxc_fsop__view_open(v, n, &data, err);
	if (r == 0 && data.size)
		r = bxc_fd_copy(data.fd, data.offset, out_fd, data.size, err);
	bxc_cleanup_close(&data.own_fd);
	return r;
}

void bxc_fsop__view_copy_xattrs(bxc_fsop__view *v, const bxc_fsop__node *n, int out_fd)
{
	if (!is_folder(v)) {
		for (size_t i = 0; n->entry && i < n->entry->xattrs.n; i++) {
			const struct bxc_tree_xattr *x = &n->entry->xattrs.v[i];
			if (bxc_tree_xattr_travels(x->name))
				bxc_ignore(bxc_xattr_set(out_fd, x->name, x->value, x->len, NULL));
		}
		return;
	}
	BXC_AUTOSTRV char **names = NULL;
	if (bxc_xattr_list(n->fd, &names, NULL) < 0)
		return;
	BXC_AUTOBUF bxc_buf value = BXC_BUF_INIT(BXC_LIMIT_XATTR);
	for (char **x = names; x && *x; x++) {
		if (bxc_str_has_prefix(*x, "trusted.") || bxc_str_has_prefix(*x, "user.overlay."))
			continue;
		if (bxc_xattr_get(n->fd, *x, &value, NULL) == 0)
			bxc_ignore(bxc_xattr_set(out_fd, *x,
				value.data ? value.data : (const uint8_t *)"", value.len, NULL));
	}
}

char *bxc_fsop__view_link_key(bxc_fsop__view *v, const bxc_fsop__node *n)
{
	if (is_folder(v)) {
		if (n->nlink < 2)
			return NULL;
		return bxc_str_fmt(
			"%llx:%llx", (unsigned long long)n->dev, (unsigned long long)n->ino);
	}
	if (!n->entry)
		return NULL;
	if (n->entry->is_hardlink && n->entry->link)
		return bxc_strdup(n->entry->link);
	if (!v->link_firsts) {
		v->link_firsts = bxc_map_new(NULL);
		for (size_t i = 0; i < v->src.tree->entries.n; i++) {
			const bxc_tree_entry *e = &v->src.tree->entries.v[i];
			if (e->is_hardlink && e->link)
				bxc_map_set(v->link_firsts, e->link, e->path);
		}
	}
	return bxc_map_has(v->link_firsts, n->path) ? bxc_strdup(n->path) : NULL;
}

/* ---- patterns ---- */

/* Folders met within a pattern are not followed when they are links, as Go's filepath.Walk does
 * not. */
static int match_below(bxc_fsop__view *v, const bxc_fsop__node *dir, char *const *parts,
	char ***out, bxc_err **err)
{
	if (!S_ISDIR(dir->mode))
		return 0;
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fsop__view_list(v, dir, &names, err);
	for (char **n = names; r == 0 && *n; n++) {
		bool matches = false;
		r = bxc_glob_match(parts[0], *n, &matches, err);
		if (r < 0 || !matches)
			continue;
		BXC_FSOP__AUTONODE bxc_fsop__node child = BXC_FSOP__NODE_INIT;
		r = bxc_fsop__view_child(v, dir, *n, &child, err);
		if (r < 0 || (S_ISCHR(child.mode) && child.rdev == 0))
			continue;
		if (!parts[1])
			bxc_strv_push(out, child.path);
		else
			r = match_below(v, &child, parts + 1, out, err);
	}
	return r;
}

static char **split_pattern(const char *pattern)
{
	char **parts = NULL;
	for (const char *p = pattern; *(p += strspn(p, "/"));) {
		size_t n = bxc_glob_component(p);
		bxc_strv_push_take(&parts, bxc_strndup(p, n));
		p += n;
	}
	return parts;
}

int bxc_fsop__view_match(
	bxc_fsop__view *v, const char *src, bool wildcard, char ***ret, bxc_err **err)
{
	BXC_AUTOSTRV char **parts = wildcard ? split_pattern(src) : NULL;
	BXC_AUTOSTRV char **out = NULL;
	size_t first = 0;
	BXC_AUTOFREE char *base = bxc_strdup("");
	while (parts && parts[first] && !bxc_glob_has_meta(parts[first])) {
		char *next = bxc_str_fmt("%s/%s", base, parts[first]);
		free(base);
		base = next;
		first++;
	}
	if (!parts || !parts[first]) {
		bxc_strv_push(&out, src);
		*ret = BXC_TAKE(out);
		return 0;
	}
	BXC_FSOP__AUTONODE bxc_fsop__node dir = BXC_FSOP__NODE_INIT;
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fsop__view_resolve(v, *base ? base : "/", true, &dir, &why);
	if (r == 0)
		r = match_below(v, &dir, parts + first, &out, &why);
	if (r < 0 && r != -BXC_NOT_FOUND)
		return bxc_err_move(err, BXC_TAKE(why));
	*ret = out ? BXC_TAKE(out) : bxc_calloc(1, sizeof(char *));
	return 0;
}
