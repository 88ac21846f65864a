/* SPDX-License-Identifier: Apache-2.0 */
/* The tree as a value and its binary form; see FORMAT.md. */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/be.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/filesync/filesync_internal.h"

#define MAGIC	  "BXCTREE1"
#define MAGIC_LEN 8u
#define ENTRY_MIN 30u /* bytes of the shortest entry */

enum {
	ENTRY_HARDLINK = 1,
	ENTRY_LINK = 2,
	ENTRY_DIGEST = 4,
	ENTRY_PACK = 8,
	ENTRY_FLAGS = 15,
};

bxc_tree *bxc_tree_new(void)
{
	return bxc_calloc(1, sizeof(bxc_tree));
}

bool bxc_tree_xattr_travels(const char *name)
{
	return (bxc_str_has_prefix(name, "user.") && !bxc_str_has_prefix(name, "user.overlay.")) ||
	       strcmp(name, "security.capability") == 0;
}

void fsync_entry_done(bxc_tree_entry *e)
{
	free(e->path);
	free(e->link);
	for (size_t i = 0; i < e->xattrs.n; i++) {
		free(e->xattrs.v[i].name);
		free(e->xattrs.v[i].value);
	}
	bxc_arr_done(&e->xattrs);
}

void bxc_tree_free(bxc_tree *t)
{
	if (!t)
		return;
	BXC_ARR_FOREACH (e, &t->entries)
		fsync_entry_done(e);
	bxc_arr_done(&t->entries);
	free(t);
}

static unsigned rank(char c)
{
	if (c == '\0')
		return 0;
	return c == '/' ? 1 : (unsigned)(unsigned char)c + 1;
}

int fsync_path_cmp(const char *a, const char *b)
{
	/* The root's name ends in its slash, unlike every other. */
	if (strcmp(a, "/") == 0)
		a = "";
	if (strcmp(b, "/") == 0)
		b = "";
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return (int)rank(*a) - (int)rank(*b);
}

size_t fsync_find(const bxc_tree *t, const char *path)
{
	size_t lo = 0, hi = t->entries.n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = fsync_path_cmp(t->entries.v[mid].path, path);
		if (c == 0)
			return mid;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return FSYNC_NONE;
}

size_t fsync_find_parent(const bxc_tree *t, const char *path)
{
	const char *slash = strrchr(path, '/');
	BXC_AUTOFREE char *parent = bxc_strndup(path, slash == path ? 1 : (size_t)(slash - path));
	return fsync_find(t, parent);
}

bool fsync_is_below(const char *path, const char *dir)
{
	if (strcmp(dir, "/") == 0)
		return path[0] == '/' && path[1];
	size_t n = strlen(dir);
	return strncmp(path, dir, n) == 0 && path[n] == '/';
}

const bxc_tree_entry *bxc_tree_find(const bxc_tree *t, const char *path)
{
	size_t i = fsync_find(t, path);
	return i == FSYNC_NONE ? NULL : &t->entries.v[i];
}

static int64_t to_ns(const struct timespec *t)
{
	int64_t ns;
	if (__builtin_mul_overflow((int64_t)t->tv_sec, BXC_NS_PER_S, &ns) ||
		__builtin_add_overflow(ns, (int64_t)t->tv_nsec, &ns))
		return t->tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

int64_t fsync_mtime_ns(const struct stat *st)
{
	return to_ns(&st->st_mtim);
}

int64_t fsync_ctime_ns(const struct stat *st)
{
	return to_ns(&st->st_ctim);
}

/* ---- what an entry must be, on both ways ---- */

static int damaged(bxc_err **err, const bxc_tree_entry *e, const char *what)
{
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid tree: '%s': %s", e->path, what);
}

static bool is_clean(const char *p)
{
	return *p == '/' && (!p[1] || bxc_str_is_clean_path(p + 1, strlen(p + 1)));
}

static int check_type(const bxc_tree_entry *e, bxc_err **err)
{
	if (e->mode & ~(uint32_t)(S_IFMT | 07777))
		return damaged(err, e, "unknown mode bits");
	switch (e->mode & S_IFMT) {
	case S_IFREG:
		if (e->is_hardlink != (e->link != NULL))
			return damaged(err, e, "a file with a link target");
		return 0;
	case S_IFLNK:
		if (e->is_hardlink || bxc_str_empty(e->link))
			return damaged(err, e, "a symbolic link without a target");
		return 0;
	case S_IFDIR:
	case S_IFIFO:
	case S_IFCHR:
	case S_IFBLK:
		if (e->link || e->is_hardlink)
			return damaged(err, e, "a link target where none belongs");
		return 0;
	default:
		return damaged(err, e, "unknown type of file");
	}
}

void fsync_order_done(fsync_order *o)
{
	bxc_arr_done(&o->dirs);
}

/* Leaves in `dirs` those that e lies below. */
static bool is_below_last(fsync_order *o, const bxc_tree_entry *e)
{
	while (o->dirs.n && !fsync_is_below(e->path, o->dirs.v[o->dirs.n - 1]))
		o->dirs.n--;
	if (o->dirs.n == 0)
		return false;
	const char *dir = o->dirs.v[o->dirs.n - 1];
	const char *slash = strrchr(e->path, '/');
	return (size_t)(slash - e->path) == (dir[1] ? strlen(dir) : 0);
}

int fsync_check_entry(fsync_order *o, const bxc_tree_entry *e, bxc_err **err)
{
	if (!is_clean(e->path) || strlen(e->path) >= BXC_LIMIT_PATH)
		return damaged(err, e, "not a clean absolute path");
	int r = check_type(e, err);
	if (r < 0)
		return r;
	if (e->link && strlen(e->link) >= BXC_LIMIT_PATH)
		return damaged(err, e, "link target too long");
	if (e->is_hardlink && !is_clean(e->link))
		return damaged(err, e, "target of a hard link is not a clean absolute path");
	if (e->size > BXC_LIMIT_BLOB || e->pack_off > BXC_LIMIT_BLOB)
		return damaged(err, e, "size out of range");
	if (e->xattrs.n > FSYNC_XATTRS_MAX)
		return damaged(err, e, "too many extended attributes");
	for (size_t i = 0; i < e->xattrs.n; i++) {
		const struct bxc_tree_xattr *x = &e->xattrs.v[i];
		if (!*x->name || strlen(x->name) > FSYNC_XATTR_NAME || x->len > BXC_LIMIT_XATTR)
			return damaged(err, e, "extended attribute out of bounds");
		if (i && strcmp(e->xattrs.v[i - 1].name, x->name) >= 0)
			return damaged(err, e, "extended attributes not sorted");
	}
	if (!o->last && (strcmp(e->path, "/") != 0 || !S_ISDIR(e->mode)))
		return damaged(err, e, "not the root folder");
	if (o->last && fsync_path_cmp(o->last, e->path) >= 0)
		return damaged(err, e, "entries not sorted");
	if (o->last && !is_below_last(o, e))
		return damaged(err, e, "parent is no folder of the tree");
	o->last = e->path;
	if (S_ISDIR(e->mode))
		*bxc_arr_push(&o->dirs) = e->path;
	return 0;
}

int fsync_check_hardlinks(const bxc_tree *t, bxc_err **err)
{
	BXC_ARR_FOREACH (e, &t->entries) {
		if (!e->is_hardlink)
			continue;
		const bxc_tree_entry *to = bxc_tree_find(t, e->link);
		if (!to || !S_ISREG(to->mode) || to->is_hardlink)
			return damaged(err, e, "target of a hard link is no file of the tree");
	}
	return 0;
}

/* ---- encode ---- */

void fsync_put(fsync_enc *c, const void *p, size_t n)
{
	if (c->r >= 0 && n)
		c->r = bxc_buf_append(c->b, p, n, c->err);
}

void fsync_put_int(fsync_enc *c, uint64_t v, unsigned bytes)
{
	uint8_t b[8];
	bxc_be_put(b, v, bytes);
	fsync_put(c, b, bytes);
}

static void put_text(fsync_enc *c, const char *s)
{
	size_t n = strlen(s);
	fsync_put_int(c, n, 2);
	fsync_put(c, s, n);
}

void fsync_put_entry(fsync_enc *c, const bxc_tree_entry *e, bool located)
{
	bool file = S_ISREG(e->mode), dev = S_ISCHR(e->mode) || S_ISBLK(e->mode);
	bool digest = file && bxc_digest_is_set(&e->digest);
	bool pack = file && located && bxc_digest_is_set(&e->pack);
	put_text(c, e->path);
	fsync_put_int(c, e->mode, 4);
	fsync_put_int(c, e->uid, 4);
	fsync_put_int(c, e->gid, 4);
	fsync_put_int(c, file ? e->size : 0, 8);
	fsync_put_int(c, (uint64_t)e->mtime_ns, 8);
	fsync_put_int(c, dev ? e->dev_major : 0, 4);
	fsync_put_int(c, dev ? e->dev_minor : 0, 4);
	fsync_put_int(c,
		(e->is_hardlink ? ENTRY_HARDLINK : 0u) | (e->link ? ENTRY_LINK : 0u) |
			(digest ? ENTRY_DIGEST : 0u) | (pack ? ENTRY_PACK : 0u),
		1);
	fsync_put_int(c, e->xattrs.n, 2);
	if (e->link)
		put_text(c, e->link);
	if (digest)
		fsync_put(c, e->digest.b, sizeof(e->digest.b));
	if (pack) {
		fsync_put(c, e->pack.b, sizeof(e->pack.b));
		fsync_put_int(c, e->pack_off, 8);
	}
	for (size_t i = 0; i < e->xattrs.n; i++) {
		put_text(c, e->xattrs.v[i].name);
		fsync_put_int(c, e->xattrs.v[i].len, 4);
		fsync_put(c, e->xattrs.v[i].value, e->xattrs.v[i].len);
	}
}

int bxc_tree_encode(const bxc_tree *t, bool located, bxc_buf *out, bxc_err **err)
{
	fsync_enc c = {out, err, 0};
	if (t->entries.n > BXC_LIMIT_TREE_ENTRIES)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "tree of more than %u entries",
			BXC_LIMIT_TREE_ENTRIES);
	fsync_put(&c, MAGIC, MAGIC_LEN);
	fsync_put_int(&c, located, 1);
	fsync_put_int(&c, t->entries.n, 4);
	BXC_CLEANUP(fsync_order_done) fsync_order order = {0};
	for (size_t i = 0; c.r >= 0 && i < t->entries.n; i++) {
		int r = fsync_check_entry(&order, &t->entries.v[i], err);
		if (r < 0)
			return r;
		fsync_put_entry(&c, &t->entries.v[i], located);
	}
	return c.r < 0 ? bxc_err_wrap(err, c.r, "encode tree") : fsync_check_hardlinks(t, err);
}

/* ---- decode ---- */

const uint8_t *fsync_get(fsync_dec *d, size_t n)
{
	if (d->bad || d->in.n < n) {
		d->bad = true;
		return NULL;
	}
	const uint8_t *p = d->in.p;
	d->in.p += n;
	d->in.n -= n;
	return p;
}

uint64_t fsync_get_int(fsync_dec *d, unsigned bytes)
{
	const uint8_t *p = fsync_get(d, bytes);
	return p ? bxc_be_get(p, bytes) : 0;
}

/* Owned; NULL when bad. */
static char *get_text(fsync_dec *d)
{
	size_t n = (size_t)fsync_get_int(d, 2);
	const uint8_t *p = fsync_get(d, n);
	if (!p || (n && memchr(p, '\0', n))) {
		d->bad = true;
		return NULL;
	}
	char *s = bxc_malloc(n + 1);
	memcpy(s, p, n);
	s[n] = '\0';
	return s;
}

void fsync_get_digest(fsync_dec *d, bxc_digest *ret)
{
	const uint8_t *p = fsync_get(d, sizeof(ret->b));
	if (!p)
		return;
	ret->alg = 1;
	memcpy(ret->b, p, sizeof(ret->b));
}

static void get_xattrs(fsync_dec *d, bxc_tree_entry *e, size_t n)
{
	d->bad = d->bad || n > FSYNC_XATTRS_MAX;
	for (size_t i = 0; !d->bad && i < n; i++) {
		BXC_AUTOFREE char *name = get_text(d);
		size_t len = (size_t)fsync_get_int(d, 4);
		const uint8_t *value = fsync_get(d, len);
		if (!name || !value)
			return;
		struct bxc_tree_xattr *x = bxc_arr_push(&e->xattrs);
		x->name = BXC_TAKE(name);
		x->value = bxc_memdup(value, len);
		x->len = len;
	}
}

int fsync_get_entry(fsync_dec *d, bool located, bxc_tree_entry *e, bxc_err **err)
{
	e->path = get_text(d);
	e->mode = (uint32_t)fsync_get_int(d, 4);
	e->uid = (uint32_t)fsync_get_int(d, 4);
	e->gid = (uint32_t)fsync_get_int(d, 4);
	e->size = fsync_get_int(d, 8);
	e->mtime_ns = (int64_t)fsync_get_int(d, 8);
	e->dev_major = (uint32_t)fsync_get_int(d, 4);
	e->dev_minor = (uint32_t)fsync_get_int(d, 4);
	unsigned flags = (unsigned)fsync_get_int(d, 1);
	size_t n_xattrs = (size_t)fsync_get_int(d, 2);
	e->is_hardlink = flags & ENTRY_HARDLINK;
	if (flags & ENTRY_LINK)
		e->link = get_text(d);
	if (flags & ENTRY_DIGEST)
		fsync_get_digest(d, &e->digest);
	if (flags & ENTRY_PACK) {
		fsync_get_digest(d, &e->pack);
		e->pack_off = fsync_get_int(d, 8);
	}
	get_xattrs(d, e, n_xattrs);
	if (d->bad)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid tree: cut off or damaged");
	/* One content, one encoding: what has no meaning is not there. */
	bool file = S_ISREG(e->mode), dev = S_ISCHR(e->mode) || S_ISBLK(e->mode);
	if ((flags & ~(unsigned)ENTRY_FLAGS) ||
		(!file && (e->size || (flags & (ENTRY_DIGEST | ENTRY_PACK)))) ||
		(!dev && (e->dev_major || e->dev_minor)) || ((flags & ENTRY_PACK) && !located))
		return damaged(err, e, "field where none belongs");
	return 0;
}

int bxc_tree_decode(bxc_slice in, bxc_tree **ret, bxc_err **err)
{
	fsync_dec d = {.in = in};
	const uint8_t *magic = fsync_get(&d, MAGIC_LEN);
	if (!magic || memcmp(magic, MAGIC, MAGIC_LEN) != 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "not a tree of version 1");
	uint64_t located = fsync_get_int(&d, 1);
	uint64_t n = fsync_get_int(&d, 4);
	if (d.bad || located > 1)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid tree: damaged header");
	if (n > BXC_LIMIT_TREE_ENTRIES)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "tree of more than %u entries",
			BXC_LIMIT_TREE_ENTRIES);
	if (n > d.in.n / ENTRY_MIN)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid tree: cut off");
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = bxc_tree_new();
	BXC_CLEANUP(fsync_order_done) fsync_order order = {0};
	for (uint64_t i = 0; i < n; i++) {
		bxc_tree_entry e = {0};
		int r = fsync_get_entry(&d, located == 1, &e, err);
		if (r >= 0)
			r = fsync_check_entry(&order, &e, err);
		if (r < 0) {
			fsync_entry_done(&e);
			return r;
		}
		*bxc_arr_push(&t->entries) = e;
	}
	if (d.in.n)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid tree: bytes behind its end");
	int r = fsync_check_hardlinks(t, err);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(t);
	return 0;
}
