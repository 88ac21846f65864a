/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking of layer tars (OCI image-spec 1.1, layer.md). Every entry is created through a
 * descriptor of its parent folder, which openat2 found beneath the root; names that exist are
 * unlinked first and files are created with O_EXCL, so that nothing is ever written through what
 * the tar itself planted.
 */
#include <errno.h>
#include <sys/sysmacros.h>

#include "common/base/limits.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/xattr.h"
#include "worker/snapshot/snapshot_internal.h"

#define WHITEOUT_PREFIX ".wh."
#define WHITEOUT_META	".wh..wh." /* aufs' own files, and the opaque marker */
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define OPAQUE_XATTR	"trusted.overlay.opaque"
#define CHUNK		(128u << 10)

struct dir_time {
	char *path;
	struct timespec mtime;
};

struct apply {
	int root_fd;
	bxc_tar_reader *reader;
	bxc_cancel *cancel;
	/* The parent of the last entry: most entries lie beside their predecessor. */
	char *parent_path;
	int parent_fd;
	BXC_ARR(struct dir_time) dir_times;
	uint32_t n_entries;
	uint64_t size;
	uint8_t *chunk;
};

/* Hashes what the reader takes. */
struct tap {
	bxc_tar_source_fn source;
	void *ud;
	bxc_hasher *hasher;
};

static ssize_t tap_read(void *p, size_t n, void *ud, bxc_err **err)
{
	struct tap *t = ud;
	ssize_t got = t->source(p, n, t->ud, err);
	if (got > 0)
		bxc_hasher_update(t->hasher, p, (size_t)got);
	return got;
}

/* Removes blank and "." components and resolves ".." by text; "" is the root. */
static int clean_path(const char *path, char **ret, bxc_err **err)
{
	size_t n = strlen(path);
	if (n >= BXC_LIMIT_PATH)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"the path '%.64s...' is longer than %u bytes", path, BXC_LIMIT_PATH - 1);
	BXC_AUTOFREE char *out = bxc_malloc(n + 1);
	size_t len = 0;
	for (const char *p = path; *p;) {
		size_t c = strcspn(p, "/");
		if (c == 2 && p[0] == '.' && p[1] == '.') {
			if (len == 0)
				return bxc_err_set(err, BXC_INVALID_ARGUMENT,
					"the path '%s' leaves the layer", path);
			while (len > 0 && out[len - 1] != '/')
				len--;
			if (len > 0)
				len--;
		} else if (c > 0 && !(c == 1 && p[0] == '.')) {
			if (len > 0)
				out[len++] = '/';
			memcpy(out + len, p, c);
			len += c;
		}
		p += c;
		p += strspn(p, "/");
	}
	out[len] = '\0';
	*ret = BXC_TAKE(out);
	return 0;
}

static void forget_parent(struct apply *a)
{
	free(a->parent_path);
	a->parent_path = NULL;
	bxc_cleanup_close(&a->parent_fd);
	a->parent_fd = -1;
}

/* The folder that holds the clean, non-empty path, made when missing; borrowed until the next call.
 */
static int enter_parent(
	struct apply *a, const char *path, int *ret_fd, const char **ret_name, bxc_err **err)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	*ret_name = slash ? slash + 1 : path;
	if (!a->parent_path || strlen(a->parent_path) != n ||
		memcmp(a->parent_path, path, n) != 0) {
		forget_parent(a);
		BXC_AUTOFREE char *dir = bxc_strndup(path, n);
		int r = bxc_fs_mkdir_p(a->root_fd, dir, 0755, 0, 0, NULL, NULL, &a->parent_fd, err);
		if (r < 0)
			return r;
		a->parent_path = BXC_TAKE(dir);
	}
	*ret_fd = a->parent_fd;
	return 0;
}

static int set_opaque(int fd, bxc_err **err)
{
	return bxc_xattr_set(fd, OPAQUE_XATTR, "y", 1, err);
}

/*
 * Makes room for an entry. *ret_keep: a folder is there and a folder comes, so they become one.
 * *ret_was_whiteout: what is removed marked a deletion.
 */
static int make_room(int dir_fd, const char *name, bool is_dir, bool *ret_keep,
	bool *ret_was_whiteout, bxc_err **err)
{
	struct stat st;
	*ret_keep = *ret_was_whiteout = false;
	int r = bxc_fs_lstat_opt(dir_fd, name, &st, err);
	if (r <= 0)
		return r;
	if (is_dir && S_ISDIR(st.st_mode)) {
		*ret_keep = true;
		return 0;
	}
	*ret_was_whiteout = S_ISCHR(st.st_mode) && st.st_rdev == 0;
	return bxc_fs_rmtree(dir_fd, name, err);
}

static struct timespec entry_mtime(const bxc_tar_entry *e)
{
	return (struct timespec){
		.tv_sec = e->mtime_s, .tv_nsec = e->mtime_ns < 1000000000u ? e->mtime_ns : 0};
}

/* What a layer may not bring: attributes with which overlayfs itself is steered. */
static bool is_refused_xattr(const char *name)
{
	return bxc_str_has_prefix(name, "trusted.") || bxc_str_has_prefix(name, "user.overlay.") ||
	       bxc_str_has_prefix(name, "security.selinux");
}

static int set_xattrs(int fd, const bxc_tar_entry *e, bxc_err **err)
{
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const bxc_tar_xattr *x = &e->xattrs[i];
		if (is_refused_xattr(x->name))
			continue;
		BXC_AUTOERR bxc_err *why = NULL;
		int r = bxc_xattr_set(fd, x->name, x->value, x->len, &why);
		/* Without its capabilities a program works differently; the rest is as good as the
		 * file system can do. */
		if (r < 0 && bxc_str_eq(x->name, "security.capability") &&
			bxc_err_errnum(why) != EOPNOTSUPP)
			return bxc_err_wrap_take(err, BXC_TAKE(why), r, "set '%s'", x->name);
	}
	return 0;
}

/* Owner, mode and attributes of an open file or folder. chown comes first: it clears set-id bits
 * and capabilities. */
static int set_attributes(int fd, const bxc_tar_entry *e, bxc_err **err)
{
	if (fchown(fd, e->uid, e->gid) < 0)
		return bxc_err_errno(err, errno, "change owner to %u:%u", e->uid, e->gid);
	if (fchmod(fd, e->mode & 07777) < 0)
		return bxc_err_errno(err, errno, "change mode to %o", e->mode & 07777);
	return set_xattrs(fd, e, err);
}

static int write_file(
	struct apply *a, int dir_fd, const char *name, const bxc_tar_entry *e, bxc_err **err)
{
	BXC_AUTOCLOSE int fd =
		openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return bxc_err_errno(err, errno, "create file");
	for (;;) {
		ssize_t n = bxc_tar_reader_read(a->reader, a->chunk, CHUNK, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		int r = bxc_fd_write_all(fd, a->chunk, (size_t)n, err);
		if (r < 0)
			return r;
		a->size += (uint64_t)n;
		r = bxc_cancel_check(a->cancel, err);
		if (r < 0)
			return r;
	}
	int r = set_attributes(fd, e, err);
	if (r < 0)
		return r;
	struct timespec times[2] = {entry_mtime(e), entry_mtime(e)};
	if (futimens(fd, times) < 0)
		return bxc_err_errno(err, errno, "set time");
	return 0;
}

static void remember_dir_time(struct apply *a, const char *path, const bxc_tar_entry *e)
{
	struct dir_time *t = bxc_arr_push(&a->dir_times);
	t->path = bxc_strdup(path);
	t->mtime = entry_mtime(e);
}

static int make_dir(struct apply *a, int dir_fd, const char *name, const char *path, bool exists,
	bool opaque, const bxc_tar_entry *e, bxc_err **err)
{
	if (!exists && mkdirat(dir_fd, name, 0700) < 0)
		return bxc_err_errno(err, errno, "make folder");
	BXC_AUTOCLOSE int fd =
		openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open folder");
	int r = set_attributes(fd, e, err);
	if (r == 0 && opaque)
		r = set_opaque(fd, err);
	if (r == 0)
		remember_dir_time(a, path, e);
	return r;
}

static int make_hardlink(
	struct apply *a, int dir_fd, const char *name, const bxc_tar_entry *e, bxc_err **err)
{
	BXC_AUTOFREE char *target = NULL;
	int r = clean_path(e->link ? e->link : "", &target, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "hard link");
	BXC_AUTOCLOSE int target_fd = -1;
	BXC_AUTOFREE char *target_name = NULL;
	r = bxc_fs_open_parent(a->root_fd, target, true, &target_fd, &target_name, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "hard link to '%s'", target);
	if (linkat(target_fd, target_name, dir_fd, name, 0) < 0)
		return bxc_err_errno(err, errno, "hard link to '%s'", target);
	return 0;
}

/* Symlinks, devices and fifos: attributes through the parent. */
static int make_node(int dir_fd, const char *name, const bxc_tar_entry *e, bxc_err **err)
{
	if (e->kind == BXC_TAR_SYMLINK) {
		if (symlinkat(e->link ? e->link : "", dir_fd, name) < 0)
			return bxc_err_errno(err, errno, "make symbolic link");
	} else {
		mode_t type = e->kind == BXC_TAR_CHAR	 ? S_IFCHR
			      : e->kind == BXC_TAR_BLOCK ? S_IFBLK
							 : S_IFIFO;
		dev_t dev = e->kind == BXC_TAR_FIFO ? 0 : makedev(e->dev_major, e->dev_minor);
		if (mknodat(dir_fd, name, type | 0600, dev) < 0)
			return bxc_err_errno(err, errno, "make device or pipe");
	}
	if (fchownat(dir_fd, name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return bxc_err_errno(err, errno, "change owner to %u:%u", e->uid, e->gid);
	if (e->kind != BXC_TAR_SYMLINK && fchmodat(dir_fd, name, e->mode & 07777, 0) < 0)
		return bxc_err_errno(err, errno, "change mode to %o", e->mode & 07777);
	if (e->n_xattrs > 0) {
		BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return bxc_err_errno(err, errno, "open");
		int r = set_xattrs(fd, e, err);
		if (r < 0)
			return r;
	}
	struct timespec times[2] = {entry_mtime(e), entry_mtime(e)};
	if (utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return bxc_err_errno(err, errno, "set time");
	return 0;
}

/* ".wh.x": a deletion, unless this layer itself has brought an x. */
static int make_whiteout(int dir_fd, const char *name, bxc_err **err)
{
	struct stat st;
	if (!*name || bxc_str_eq(name, ".") || bxc_str_eq(name, ".."))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "a whiteout must name a file");
	int r = bxc_fs_lstat_opt(dir_fd, name, &st, err);
	if (r < 0)
		return r;
	if (r == 0) {
		if (mknodat(dir_fd, name, S_IFCHR, 0) < 0)
			return bxc_err_errno(err, errno, "make whiteout");
		return 0;
	}
	if (!S_ISDIR(st.st_mode))
		return 0;
	BXC_AUTOCLOSE int fd =
		openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open folder");
	return set_opaque(fd, err);
}

static int apply_root(struct apply *a, const bxc_tar_entry *e, bxc_err **err)
{
	if (e->kind != BXC_TAR_DIR)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the root must be a folder");
	int r = set_attributes(a->root_fd, e, err);
	if (r == 0)
		remember_dir_time(a, "", e);
	return r;
}

static int apply_entry(struct apply *a, const bxc_tar_entry *e, bxc_err **err)
{
	BXC_AUTOFREE char *path = NULL;
	int r = clean_path(e->path, &path, err);
	if (r < 0)
		return r;
	if (!*path)
		return apply_root(a, e, err);
	int dir_fd = -1;
	const char *name = NULL;
	r = enter_parent(a, path, &dir_fd, &name, err);
	if (r < 0)
		return r;
	if (bxc_str_eq(name, WHITEOUT_OPAQUE)) {
		/* The parent is held by an O_PATH descriptor, which is enough for attributes. */
		return set_opaque(dir_fd, err);
	}
	if (bxc_str_has_prefix(name, WHITEOUT_META))
		return 0;
	if (bxc_str_has_prefix(name, WHITEOUT_PREFIX))
		return make_whiteout(dir_fd, name + strlen(WHITEOUT_PREFIX), err);

	bool keep = false, was_whiteout = false;
	r = make_room(dir_fd, name, e->kind == BXC_TAR_DIR, &keep, &was_whiteout, err);
	if (r < 0)
		return r;
	switch (e->kind) {
	case BXC_TAR_FILE:
		return write_file(a, dir_fd, name, e, err);
	case BXC_TAR_DIR:
		return make_dir(a, dir_fd, name, path, keep, was_whiteout, e, err);
	case BXC_TAR_HARDLINK:
		return make_hardlink(a, dir_fd, name, e, err);
	case BXC_TAR_SYMLINK:
	case BXC_TAR_CHAR:
	case BXC_TAR_BLOCK:
	case BXC_TAR_FIFO:
		return make_node(dir_fd, name, e, err);
	case BXC_TAR_UNKNOWN:
	default:
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown kind of entry");
	}
}

/* At the end, since every file made in a folder changes its time. Innermost last is not needed:
 * setting a time changes no other folder's. */
static int set_dir_times(struct apply *a, bxc_err **err)
{
	BXC_ARR_FOREACH (t, &a->dir_times) {
		BXC_AUTOCLOSE int fd = -1;
		BXC_AUTOERR bxc_err *why = NULL;
		int r = bxc_fs_open_beneath(a->root_fd, t->path,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, BXC_FS_IN_ROOT, &fd, &why);
		/* Replaced by something else later in the tar. */
		if (r == -BXC_NOT_FOUND || r == -BXC_INVALID_ARGUMENT)
			continue;
		if (r < 0)
			return bxc_err_move(err, BXC_TAKE(why));
		struct timespec times[2] = {t->mtime, t->mtime};
		if (futimens(fd, times) < 0)
			return bxc_err_errno(err, errno, "set time of '%s'", t->path);
	}
	return 0;
}

static int apply_all(struct apply *a, bxc_err **err)
{
	for (;;) {
		int r = bxc_cancel_check(a->cancel, err);
		if (r < 0)
			return r;
		const bxc_tar_entry *e = NULL;
		r = bxc_tar_reader_next(a->reader, &e, err);
		if (r < 0)
			return r;
		if (r == 0)
			return set_dir_times(a, err);
		if (++a->n_entries > BXC_LIMIT_TREE_ENTRIES)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
				"the layer has more than %u entries", BXC_LIMIT_TREE_ENTRIES);
		r = apply_entry(a, e, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "unpack '%.256s'", e->path);
	}
}

int bxc_snap_apply_tar(int dir_fd, bxc_tar_source_fn source, void *ud, bxc_cancel *cancel,
	bxc_digest *ret_diff_id, uint64_t *ret_size, bxc_err **err)
{
	BXC_AUTOHASHER bxc_hasher *hasher = bxc_hasher_new();
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	struct tap tap = {.source = source, .ud = ud, .hasher = hasher};
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *reader = NULL;
	int r = bxc_tar_reader_new(tap_read, &tap, &reader, err);
	if (r < 0)
		return r;
	struct apply a = {.root_fd = dir_fd,
		.reader = reader,
		.cancel = cancel,
		.parent_fd = -1,
		.chunk = chunk};
	r = apply_all(&a, err);
	forget_parent(&a);
	BXC_ARR_FOREACH (t, &a.dir_times)
		free(t->path);
	bxc_arr_done(&a.dir_times);
	if (r < 0)
		return r;
	*ret_diff_id = bxc_hasher_final(hasher);
	*ret_size = a.size;
	return 0;
}
