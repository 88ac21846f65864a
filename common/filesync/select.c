/* SPDX-License-Identifier: Apache-2.0 */
/* What a selection covers, and its digest. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/buf.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/filesync/filesync_internal.h"

/* A path that the selection names. */
struct root {
	size_t index;
	char *name; /* counts in the digest: last component, or path below the fixed part of a
		       pattern */
};
typedef BXC_ARR(struct root) roots;

static void roots_done(roots *a)
{
	BXC_ARR_FOREACH (k, a)
		free(k->name);
	bxc_arr_done(a);
}

static void drop_last(bxc_buf *path)
{
	while (path->len && path->data[path->len - 1] != '/')
		path->len--;
	if (path->len)
		path->len--;
	if (path->data)
		path->data[path->len] = '\0';
}

static size_t find_at(const bxc_tree *t, const bxc_buf *path)
{
	return fsync_find(t, path->len ? bxc_buf_text(path) : "/");
}

/*
 * Index of what `path` names after links on the way, as after chroot to the tree. `follow`: a link
 * at the end as well. FSYNC_NONE when there is nothing.
 */
static int lookup(const bxc_tree *t, const char *path, bool follow, size_t *ret, bxc_err **err)
{
	BXC_AUTOFREE char *rest = bxc_strdup(path);
	BXC_AUTOBUF bxc_buf at = BXC_BUF_INIT((size_t)2 * BXC_LIMIT_PATH);
	unsigned links = 0;
	const char *p = rest;
	*ret = FSYNC_NONE;
	for (;;) {
		p += strspn(p, "/");
		if (!*p)
			break;
		size_t n = strcspn(p, "/");
		const char *comp = p;
		p += n;
		if (n == 1 && comp[0] == '.')
			continue;
		if (n == 2 && comp[0] == '.' && comp[1] == '.') {
			drop_last(&at);
			continue;
		}
		if (at.len + 1 + n >= BXC_LIMIT_PATH)
			return 0;
		bxc_buf_addc(&at, '/');
		bxc_buf_add(&at, comp, n);
		size_t i = find_at(t, &at);
		if (i == FSYNC_NONE)
			return 0;
		const bxc_tree_entry *e = &t->entries.v[i];
		bool last = !p[strspn(p, "/")];
		if (S_ISLNK(e->mode) && (!last || follow)) {
			if (++links > BXC_LIMIT_SYMLINKS)
				return bxc_err_errno(err, ELOOP, "\"%s\"", path);
			if (e->link[0] == '/')
				bxc_buf_clear(&at);
			else
				drop_last(&at);
			char *next = bxc_str_fmt("%s%s", e->link, p);
			free(rest);
			p = rest = next;
		} else if (!last && !S_ISDIR(e->mode)) {
			return 0;
		}
	}
	*ret = find_at(t, &at);
	return 0;
}

static int not_found(const char *path, bxc_err **err)
{
	return bxc_err_set(err, BXC_NOT_FOUND, "\"%s\": not found", path);
}

static void add_root(roots *a, size_t index, const char *name)
{
	struct root *k = bxc_arr_push(a);
	k->index = index;
	k->name = bxc_strdup(name);
}

static size_t subtree_end(const bxc_tree *t, size_t i)
{
	size_t end = i + 1;
	while (end < t->entries.n && fsync_is_below(t->entries.v[end].path, t->entries.v[i].path))
		end++;
	return end;
}

/* Bytes of a path below entry i that come before the name relative to it. */
static size_t prefix_len(const bxc_tree *t, size_t i)
{
	const char *dir = t->entries.v[i].path;
	return strcmp(dir, "/") == 0 ? 1 : strlen(dir) + 1;
}

/* Cuts "/a/b/c*d/e" into "/a/b" and "c*d/e". */
static char *fixed_part(const char *pattern, const char **ret_rest)
{
	const char *p = pattern;
	for (;;) {
		const char *comp = p + 1;
		size_t n = bxc_glob_component(comp);
		BXC_AUTOFREE char *text = bxc_strndup(comp, n);
		if (bxc_glob_has_meta(text) || !comp[n]) {
			*ret_rest = comp;
			return p == pattern ? bxc_strdup("/")
					    : bxc_strndup(pattern, (size_t)(p - pattern));
		}
		p = comp + n;
	}
}

/* Links on the way are followed before the first component with a wildcard only, as docker does. */
static int find_matches(
	const bxc_tree *t, const bxc_tree_select *s, const char *pattern, roots *ret, bxc_err **err)
{
	const char *rest = NULL;
	BXC_AUTOFREE char *base = fixed_part(pattern, &rest);
	size_t i;
	if (!fsync_glob_valid(rest))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "syntax error in pattern: '%s'", pattern);
	int r = lookup(t, base, true, &i, err);
	if (r < 0 || i == FSYNC_NONE || !S_ISDIR(t->entries.v[i].mode))
		return r;
	size_t skip = prefix_len(t, i);
	size_t end = subtree_end(t, i);
	for (size_t j = i + 1; j < end;) {
		const char *name = t->entries.v[j].path + skip;
		if (!fsync_glob_match(rest, name)) {
			j++;
			continue;
		}
		size_t target = j;
		if (s->follow && S_ISLNK(t->entries.v[j].mode)) {
			/* A dangling link, or one in a circle, stands for itself. */
			if (lookup(t, t->entries.v[j].path, true, &target, NULL) < 0 ||
				target == FSYNC_NONE)
				target = j;
		}
		add_root(ret, target, name);
		j = subtree_end(t, j);
	}
	return 0;
}

static int find_roots(const bxc_tree *t, const bxc_tree_select *s, roots *ret, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_path_clean(s->path);
	int r;
	if (s->wildcard && bxc_glob_has_meta(path)) {
		r = find_matches(t, s, path, ret, err);
		if (r < 0)
			return r;
		return ret->n || s->allow_empty ? 0 : not_found(path, err);
	}
	size_t i;
	r = lookup(t, path, s->follow, &i, err);
	if (r < 0)
		return r;
	if (i == FSYNC_NONE)
		return not_found(path, err);
	add_root(ret, i, S_ISDIR(t->entries.v[i].mode) ? "" : strrchr(path, '/') + 1);
	return 0;
}

struct filter {
	bxc_ignore *include; /* NULL: all */
	bxc_ignore *exclude;
};

static int filter_init(struct filter *f, const bxc_tree_select *s, bxc_err **err)
{
	int r = 0;
	if (s->include && *s->include)
		r = bxc_ignore_from_patterns(s->include, &f->include, err);
	if (r >= 0 && s->exclude && *s->exclude)
		r = bxc_ignore_from_patterns(s->exclude, &f->exclude, err);
	return r;
}

static void filter_done(struct filter *f)
{
	bxc_ignore_free(f->include);
	bxc_ignore_free(f->exclude);
}

static void mark_with_parents(const bxc_tree *t, size_t i, bool *take)
{
	while (!take[i]) {
		take[i] = true;
		i = fsync_find_parent(t, t->entries.v[i].path);
		if (i == FSYNC_NONE)
			return;
	}
}

/* Marks entry i and what the filter leaves below it; returns the end of its subtree. */
static size_t mark(const bxc_tree *t, size_t i, const struct filter *f, bool *take)
{
	size_t skip = prefix_len(t, i);
	take[i] = true;
	if (!S_ISDIR(t->entries.v[i].mode))
		return i + 1;
	size_t end = subtree_end(t, i);
	for (size_t j = i + 1; j < end; j++) {
		const char *name = t->entries.v[j].path + skip;
		if (f->include && !bxc_ignore_match(f->include, name))
			continue;
		if (!bxc_ignore_match(f->exclude, name))
			mark_with_parents(t, j, take);
	}
	return end;
}

int bxc_tree_resolve(
	const bxc_tree *t, const bxc_tree_select *s, bxc_tree_indices *ret, bxc_err **err)
{
	roots found = {0};
	struct filter f = {0};
	BXC_AUTOFREE bool *take = bxc_calloc(t->entries.n + 1, sizeof(*take));
	int r = find_roots(t, s, &found, err);
	if (r >= 0)
		r = filter_init(&f, s, err);
	if (r >= 0) {
		BXC_ARR_FOREACH (k, &found)
			(void)mark(t, k->index, &f, take);
		/* A hard link is of no use without the name that holds the content. */
		for (size_t i = 0; i < t->entries.n; i++) {
			size_t first = take[i] && t->entries.v[i].is_hardlink
					       ? fsync_find(t, t->entries.v[i].link)
					       : FSYNC_NONE;
			if (first != FSYNC_NONE)
				take[first] = true;
		}
		ret->n = 0;
		for (size_t i = 0; i < t->entries.n; i++)
			if (take[i])
				*bxc_arr_push(ret) = i;
	}
	filter_done(&f);
	roots_done(&found);
	return r;
}

/* ---- digest ---- */

static bool counts(const char *xattr)
{
	if (bxc_str_has_prefix(xattr, "security."))
		return strcmp(xattr, "security.capability") == 0;
	return !bxc_str_has_prefix(xattr, "system.");
}

static int hash_entry(bxc_hasher *h, const bxc_tree *t, const bxc_tree_entry *e, bxc_err **err)
{
	bool link = S_ISLNK(e->mode), dev = S_ISCHR(e->mode) || S_ISBLK(e->mode);
	bxc_hasher_update_u64(h, link ? (S_IFLNK | 0777) : e->mode);
	bxc_hasher_update_u64(h, e->uid);
	bxc_hasher_update_u64(h, e->gid);
	bxc_hasher_update_u64(h, dev ? e->dev_major : 0);
	bxc_hasher_update_u64(h, dev ? e->dev_minor : 0);
	bxc_hasher_update_str(h, link ? e->link : "");
	uint64_t n = 0;
	for (size_t i = 0; i < e->xattrs.n; i++)
		n += counts(e->xattrs.v[i].name);
	bxc_hasher_update_u64(h, n);
	for (size_t i = 0; i < e->xattrs.n; i++) {
		const struct bxc_tree_xattr *x = &e->xattrs.v[i];
		if (!counts(x->name))
			continue;
		bxc_hasher_update_str(h, x->name);
		bxc_hasher_update_u64(h, x->len);
		bxc_hasher_update(h, x->value, x->len);
	}
	if (!S_ISREG(e->mode))
		return 0;
	const bxc_tree_entry *file = e->is_hardlink ? bxc_tree_find(t, e->link) : e;
	if (!file || !bxc_digest_is_set(&file->digest))
		return bxc_err_set(
			err, BXC_FAILED_PRECONDITION, "content of '%s' is not hashed", e->path);
	bxc_hasher_update_u64(h, file->size);
	bxc_hasher_update(h, file->digest.b, sizeof(file->digest.b));
	return 0;
}

static int hash_root(bxc_hasher *h, const bxc_tree *t, const struct root *k,
	const bxc_tree_select *s, const struct filter *f, bool *take, bxc_err **err)
{
	bool dir = S_ISDIR(t->entries.v[k->index].mode), whole = dir && !s->dir_contents;
	size_t skip = prefix_len(t, k->index);
	size_t end = mark(t, k->index, f, take);
	uint64_t n = 0;
	int r = 0;
	bxc_hasher_update_str(h, k->name);
	bxc_hasher_update_str(h, !dir ? "entry" : whole ? "folder" : "contents");
	if (!dir || whole)
		r = hash_entry(h, t, &t->entries.v[k->index], err);
	for (size_t j = k->index + 1; r >= 0 && j < end; j++) {
		if (!take[j])
			continue;
		bxc_hasher_update_str(h, t->entries.v[j].path + skip);
		r = hash_entry(h, t, &t->entries.v[j], err);
		n++;
	}
	bxc_hasher_update_u64(h, n);
	memset(take + k->index, 0, (end - k->index) * sizeof(*take));
	return r;
}

int bxc_tree_checksum(const bxc_tree *t, const bxc_tree_select *s, bxc_digest *ret, bxc_err **err)
{
	roots found = {0};
	struct filter f = {0};
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	BXC_AUTOFREE bool *take = bxc_calloc(t->entries.n + 1, sizeof(*take));
	int r = find_roots(t, s, &found, err);
	if (r >= 0)
		r = filter_init(&f, s, err);
	bxc_hasher_update_str(h, "bxc selection 1");
	for (size_t i = 0; r >= 0 && i < found.n; i++)
		r = hash_root(h, t, &found.v[i], s, &f, take, err);
	if (r >= 0)
		*ret = bxc_hasher_final(h);
	filter_done(&f);
	roots_done(&found);
	return r;
}
