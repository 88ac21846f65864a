/* SPDX-License-Identifier: Apache-2.0 */
/* From a folder to a tree. No link is ever walked through; races with writers end in an error or
 * absence. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/filesync/walk_internal.h"
#include "common/loop/pool.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/xattr.h"

#define OPEN_DIRS  64u /* descriptors held along the path; those further up are opened again */
#define HASH_TRIES 3

typedef struct frame {
	char *path;   /* "" is the root */
	int fd;	      /* -1: closed for now */
	char **names; /* NULL: not read yet */
	size_t next;
	bool inherited; /* everything below is included */
	bool listed;	/* self has gone into the tree */
	bxc_tree_entry self;
} frame;

typedef struct walker {
	int root_fd;
	const bxc_tree_walk_opts *o;
	bxc_cancel *cancel;
	size_t max;
	bxc_tree *tree;
	walk_include *include; /* NULL: all */
	bxc_map *inodes;       /* "dev:ino" to 1 + index of the first name */
	bxc_hasher *hasher;
	uint8_t *chunk; /* FSYNC_CHUNK bytes */
	BXC_ARR(frame) stack;
	size_t next_known; /* where the index is at */
	int64_t started_ns;
} walker;

static void close_dir(DIR **d)
{
	if (*d)
		closedir(*d);
}

int walk_list(int dir_fd, const char *path, size_t max, char ***ret, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	BXC_CLEANUP(close_dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return bxc_err_errno(err, errno, "open '%s'", *path ? path : "/");
	(void)BXC_TAKE_FD(fd);
	BXC_ARR(char *) names = {0};
	int r = 0;
	for (;;) {
		errno = 0;
		const struct dirent *e = readdir(d);
		if (!e && errno)
			r = bxc_err_errno(err, errno, "read folder '%s'", *path ? path : "/");
		if (!e)
			break;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (names.n >= max) {
			r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %zu files", max);
			break;
		}
		*bxc_arr_push(&names) = bxc_strdup(e->d_name);
	}
	/* The array becomes the strv. */
	*bxc_arr_push(&names) = NULL;
	if (r < 0) {
		bxc_strv_free(names.v);
		return r;
	}
	bxc_strv_sort(names.v);
	*ret = names.v;
	return 0;
}

static bool is_gone(int errnum)
{
	return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == ESTALE;
}

/* ---- entries ---- */

static void fill(const walker *w, const struct stat *st, bxc_tree_entry *e)
{
	bool dev = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);
	e->mode = S_ISLNK(st->st_mode) ? (S_IFLNK | 0777) : st->st_mode;
	e->uid = w->o->reset_owner ? 0 : st->st_uid;
	e->gid = w->o->reset_owner ? 0 : st->st_gid;
	e->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	e->mtime_ns = fsync_mtime_ns(st);
	e->dev_major = dev ? major(st->st_rdev) : 0;
	e->dev_minor = dev ? minor(st->st_rdev) : 0;
}

static int read_xattrs(int fd, bxc_tree_entry *e, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	BXC_AUTOBUF bxc_buf value = BXC_BUF_INIT(BXC_LIMIT_XATTR);
	int r = bxc_xattr_list(fd, &names, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "'%s'", e->path);
	for (char **n = names; n && *n; n++) {
		BXC_AUTOERR bxc_err *why = NULL;
		if (!bxc_tree_xattr_travels(*n))
			continue;
		r = bxc_xattr_get(fd, *n, &value, &why);
		if (r == -BXC_NOT_FOUND)
			continue;
		if (r < 0)
			return bxc_err_wrap_take(err, BXC_TAKE(why), r, "'%s'", e->path);
		if (e->xattrs.n >= FSYNC_XATTRS_MAX)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
				"'%s' has more than %u extended attributes", e->path,
				FSYNC_XATTRS_MAX);
		struct bxc_tree_xattr *x = bxc_arr_push(&e->xattrs);
		x->name = bxc_strdup(*n);
		x->value = bxc_memdup(value.len ? (const void *)value.data : "", value.len);
		x->len = value.len;
	}
	return 0;
}

static int read_xattrs_at(
	const walker *w, int dir_fd, const char *name, bxc_tree_entry *e, bxc_err **err)
{
	if (!w->o->want_xattrs)
		return 0;
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return is_gone(errno) ? 0 : bxc_err_errno(err, errno, "open '%s'", e->path);
	return read_xattrs(fd, e, err);
}

static int hash_fd(walker *w, int fd, const char *path, uint64_t *ret_size, bxc_err **err)
{
	uint64_t size = 0;
	for (;;) {
		size_t got = 0;
		int r = bxc_cancel_check(w->cancel, err);
		if (r >= 0)
			r = bxc_err_wrap(err,
				bxc_fd_read_full(fd, w->chunk, FSYNC_CHUNK, &got, err), "read '%s'",
				path);
		if (r < 0)
			return r;
		bxc_hasher_update(w->hasher, w->chunk, got);
		size += got;
		if (got < FSYNC_CHUNK)
			break;
	}
	*ret_size = size;
	return 0;
}

/* 1 when hashed, with its attributes (st is what it was then), 0 when it is no file any more. */
static int read_file(
	walker *w, int dir_fd, const char *name, struct stat *st, bxc_tree_entry *e, bxc_err **err)
{
	const char *path = e->path;
	BXC_AUTOCLOSE int fd =
		openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return is_gone(errno) || errno == ENXIO
			       ? 0
			       : bxc_err_errno(err, errno, "open '%s'", path);
	for (int i = 0; i < HASH_TRIES; i++) {
		struct stat after;
		uint64_t size = 0;
		if (fstat(fd, &after) < 0)
			return bxc_err_errno(err, errno, "stat '%s'", path);
		if (!S_ISREG(after.st_mode))
			return 0;
		*st = after;
		if (lseek(fd, 0, SEEK_SET) < 0)
			return bxc_err_errno(err, errno, "seek '%s'", path);
		int r = hash_fd(w, fd, path, &size, err);
		bxc_digest d = bxc_hasher_final(w->hasher);
		if (r < 0)
			return r;
		if (fstat(fd, &after) < 0)
			return bxc_err_errno(err, errno, "stat '%s'", path);
		if (after.st_size == st->st_size && (uint64_t)after.st_size == size &&
			fsync_mtime_ns(&after) == fsync_mtime_ns(st)) {
			e->digest = d;
			r = w->o->want_xattrs ? read_xattrs(fd, e, err) : 0;
			return r < 0 ? r : 1;
		}
	}
	return bxc_err_set(err, BXC_ABORTED, "'%s' changes while it is being read", path + 1);
}

/* Takes the content of e. st: of what it was made; NULL: no file. */
static int push_entry(walker *w, bxc_tree_entry *e, const struct stat *st, bxc_err **err)
{
	if (w->tree->entries.n >= w->max) {
		fsync_entry_done(e);
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %zu files", w->max);
	}
	if (w->o->ids)
		*bxc_arr_push(w->o->ids) = st ? index_id(st, w->started_ns) : (bxc_tree_file_id){0};
	*bxc_arr_push(&w->tree->entries) = *e;
	*e = (bxc_tree_entry){0};
	return 0;
}

/* Puts the folders along the path into the tree that are not there yet. */
static int list_parents(walker *w, bxc_err **err)
{
	BXC_ARR_FOREACH (f, &w->stack) {
		if (f->listed)
			continue;
		f->listed = true;
		int r = push_entry(w, &f->self, NULL, err);
		if (r < 0)
			return r;
	}
	return 0;
}

struct inode_key {
	char text[48];
};

static struct inode_key inode_key(const struct stat *st)
{
	struct inode_key k;
	(void)snprintf(k.text, sizeof(k.text), "%llx:%llx", (unsigned long long)st->st_dev,
		(unsigned long long)st->st_ino);
	return k;
}

/* Is the file another name of one in the tree? e then links to that. */
static bool links_to_listed(const walker *w, const struct stat *st, bxc_tree_entry *e)
{
	if (st->st_nlink < 2)
		return false;
	uintptr_t seen = (uintptr_t)bxc_map_get(w->inodes, inode_key(st).text);
	if (seen == 0)
		return false;
	e->is_hardlink = true;
	e->link = bxc_strdup(w->tree->entries.v[seen - 1].path);
	return true;
}

/* Attributes can't change without ctime, which the index looked at. */
static void same_as(bxc_tree_entry *e, const bxc_tree_entry *known)
{
	e->digest = known->digest;
	for (size_t i = 0; i < known->xattrs.n; i++) {
		const struct bxc_tree_xattr *x = &known->xattrs.v[i];
		*bxc_arr_push(&e->xattrs) = (struct bxc_tree_xattr){
			bxc_strdup(x->name), bxc_memdup(x->value, x->len), x->len};
	}
}

/* 1 when the entry is filled, 0 when there is none after all. */
static int fill_file(
	walker *w, int dir_fd, const char *name, struct stat *st, bxc_tree_entry *e, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	int r = 1;
	if (S_ISLNK(st->st_mode)) {
		r = bxc_fs_readlink(dir_fd, name, &e->link, &why);
		if (r < 0 && (is_gone(bxc_err_errnum(why)) || bxc_err_errnum(why) == EINVAL))
			return 0;
		if (r < 0)
			return bxc_err_move(err, BXC_TAKE(why));
	} else if (S_ISSOCK(st->st_mode)) {
		if (!w->o->sockets_as_files)
			return 0;
		st->st_mode = S_IFREG | (st->st_mode & 07777);
		st->st_size = 0;
		if (w->o->hash)
			e->digest = bxc_digest_of("", 0);
	} else if (S_ISREG(st->st_mode) && !links_to_listed(w, st, e) && w->o->hash) {
		const bxc_tree_entry *known =
			w->o->known ? index_find(w->o->known, &w->next_known, e->path, st) : NULL;
		if (known)
			same_as(e, known);
		else
			r = read_file(w, dir_fd, name, st, e, err);
		if (r > 0)
			fill(w, st, e);
		return r;
	}
	fill(w, st, e);
	r = read_xattrs_at(w, dir_fd, name, e, err);
	return r < 0 ? r : 1;
}

static int add_file(
	walker *w, int dir_fd, const char *name, const char *path, struct stat *st, bxc_err **err)
{
	int r = list_parents(w, err);
	if (r < 0)
		return r;
	bxc_tree_entry e = {.path = bxc_strdup(path)};
	r = fill_file(w, dir_fd, name, st, &e, err);
	if (r <= 0) {
		fsync_entry_done(&e);
		return r;
	}
	bool first_name = S_ISREG(e.mode) && !e.is_hardlink && st->st_nlink > 1;
	r = push_entry(w, &e, st, err);
	if (r >= 0 && first_name)
		bxc_map_set(w->inodes, inode_key(st).text, (void *)(uintptr_t)w->tree->entries.n);
	return r;
}

/* ---- folders ---- */

/* Takes fd. */
static int enter(walker *w, int fd, char *path, bool inherited, bool list_now, bxc_err **err)
{
	frame *f = bxc_arr_push(&w->stack);
	struct stat st;
	f->path = path;
	f->fd = fd;
	f->inherited = inherited;
	f->self.path = bxc_strdup(*path ? path : "/");
	if (fstat(fd, &st) < 0)
		return bxc_err_errno(err, errno, "stat '%s'", f->self.path);
	fill(w, &st, &f->self);
	int r = w->o->want_xattrs ? read_xattrs(fd, &f->self, err) : 0;
	if (r >= 0)
		r = walk_list(fd, path, w->max, &f->names, err);
	if (r >= 0 && list_now)
		r = list_parents(w, err);
	if (r >= 0 && w->stack.n > OPEN_DIRS) {
		frame *above = &w->stack.v[w->stack.n - 1 - OPEN_DIRS];
		bxc_cleanup_close(&above->fd);
		above->fd = -1;
	}
	return r;
}

static void leave(frame *f)
{
	free(f->path);
	bxc_cleanup_close(&f->fd);
	bxc_strv_free(f->names);
	fsync_entry_done(&f->self);
}

static int enter_below(walker *w, int dir_fd, const char *name, const char *path, bool inherited,
	bool list_now, bxc_err **err)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return is_gone(errno) ? 0 : bxc_err_errno(err, errno, "open '%s'", path);
	return enter(w, fd, bxc_strdup(path), inherited, list_now, err);
}

static int visit(
	walker *w, int dir_fd, const char *dir, bool inherited, const char *name, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/%s", dir, name);
	if (strlen(path) >= BXC_LIMIT_PATH)
		return bxc_err_errno(err, ENAMETOOLONG, "'%.64s...'", path);
	bool included = inherited || walk_includes(w->include, path);
	if (!included && !walk_leads_to(w->include, path))
		return 0;
	bool excluded = bxc_ignore_match(w->o->exclude, path + 1);
	if (excluded && !bxc_ignore_may_include_below(w->o->exclude, path + 1))
		return 0;
	struct stat st;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return is_gone(errno) ? 0 : bxc_err_errno(err, errno, "stat '%s'", path);
	bool wanted = included && !excluded;
	if (S_ISDIR(st.st_mode))
		return enter_below(w, dir_fd, name, path, included, wanted, err);
	return wanted ? add_file(w, dir_fd, name, path, &st, err) : 0;
}

static int walk(walker *w, bxc_err **err)
{
	int fd = -1;
	int r = bxc_fs_open_beneath(
		w->root_fd, ".", O_RDONLY | O_DIRECTORY, 0, BXC_FS_NO_LINKS, &fd, err);
	if (r < 0)
		return r;
	r = enter(w, fd, bxc_strdup(""), walk_includes(w->include, "/"), true, err);
	while (r >= 0 && w->stack.n) {
		frame *f = &w->stack.v[w->stack.n - 1];
		if (!f->names[f->next]) {
			leave(f);
			w->stack.n--;
			continue;
		}
		r = bxc_cancel_check(w->cancel, err);
		if (r >= 0 && f->fd < 0)
			r = bxc_fs_open_beneath(w->root_fd, f->path, O_RDONLY | O_DIRECTORY, 0,
				BXC_FS_NO_LINKS, &f->fd, err);
		if (r < 0)
			break;
		/* The stack may move while visiting; what it points to does not. */
		r = visit(w, f->fd, f->path, f->inherited, f->names[f->next++], err);
	}
	return r;
}

int bxc_tree_walk(int root_fd, const bxc_tree_walk_opts *o, struct bxc_cancel *cancel,
	bxc_tree **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = bxc_tree_new();
	BXC_CLEANUP(bxc_map_freep) bxc_map *inodes = bxc_map_new(NULL);
	BXC_AUTOHASHER bxc_hasher *hasher = bxc_hasher_new();
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(FSYNC_CHUNK);
	walker w = {
		.root_fd = root_fd,
		.o = o,
		.cancel = cancel,
		.max = o->max_entries ? o->max_entries : BXC_LIMIT_TREE_ENTRIES,
		.tree = t,
		.inodes = inodes,
		.hasher = hasher,
		.chunk = chunk,
		.started_ns = bxc_clock_wall_ns(),
	};
	int r = o->include ? walk_include_new(root_fd, o->include, w.max, &w.include, err) : 0;
	if (r >= 0)
		r = walk(&w, err);
	BXC_ARR_FOREACH (f, &w.stack)
		leave(f);
	bxc_arr_done(&w.stack);
	walk_include_free(w.include);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(t);
	return 0;
}
