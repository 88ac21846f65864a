/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests: the files of a selection, as a tree of digests. Where they are too many, what lies
 * below a depth is told by the digest of its folder; one that was not cut is cut in the same way
 * before it is compared with one that was.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/arr.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "coordinator/why/why.h"

typedef struct node {
	char *path; /* "a/b"; "": the root */
	char *head; /* type, mode, owner; "": a folder that nothing is known of */
	char digest[BXC_DIGEST_STR_MAX]; /* "": none */
	size_t depth;
} node;

typedef struct nodes {
	BXC_ARR(node) items;
	size_t folded; /* entries below this depth were cut; SIZE_MAX: none were */
} nodes;

static void node_free(node *n)
{
	free(n->path);
	free(n->head);
}

static void nodes_done(nodes *l)
{
	BXC_ARR_FOREACH (n, &l->items)
		node_free(n);
	bxc_arr_done(&l->items);
}
#define AUTO_NODES BXC_CLEANUP(nodes_done)

static size_t depth_of(const char *path)
{
	size_t n = *path ? 1 : 0;
	for (; *path; path++)
		n += *path == '/';
	return n;
}

static node *add(nodes *l, const char *path, const char *head)
{
	node *n = bxc_arr_push(&l->items);
	n->path = bxc_strdup(path);
	n->head = bxc_strdup(head);
	n->depth = depth_of(path);
	return n;
}

/* By components: a folder stands right before what it holds. */
static int path_cmp(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	int x = *a == '/' ? 1 : *a ? (unsigned char)*a + 1 : 0;
	int y = *b == '/' ? 1 : *b ? (unsigned char)*b + 1 : 0;
	return x - y;
}

static int node_cmp(const void *a, const void *b)
{
	return path_cmp(((const node *)a)->path, ((const node *)b)->path);
}

static void sort(nodes *l)
{
	if (l->items.n > 1)
		qsort(l->items.v, l->items.n, sizeof(*l->items.v), node_cmp);
}

/* ---- folding ---- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* Entries of `depth` go into the digests of their folders; there are none deeper. */
static void fold_once(nodes *l, size_t depth)
{
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	size_t kept = 0;
	for (size_t i = 0; i < l->items.n;) {
		node *dir = &l->items.v[i];
		size_t k = i + 1;
		while (k < l->items.n && l->items.v[k].depth == depth)
			k++;
		if (k > i + 1) {
			bxc_hasher_update_str(h, "bxc folder 1");
			for (size_t c = i + 1; c < k; c++) {
				node *child = &l->items.v[c];
				bxc_hasher_update_str(h, base_name(child->path));
				bxc_hasher_update_str(h, child->head);
				bxc_hasher_update_str(h, child->digest);
				node_free(child);
			}
			bxc_digest d = bxc_hasher_final(h);
			bxc_digest_str(&d, dir->digest);
		}
		l->items.v[kept++] = *dir;
		i = k;
	}
	l->items.n = kept;
}

static void fold(nodes *l, size_t depth)
{
	size_t deepest = 0;
	BXC_ARR_FOREACH (n, &l->items)
		deepest = BXC_MAX(deepest, n->depth);
	for (size_t d = deepest; d > depth; d--)
		fold_once(l, d);
	l->folded = BXC_MIN(l->folded, depth);
}

/* The depth down to which the entries are few enough. */
static size_t fitting_depth(const nodes *l)
{
	size_t deepest = 0;
	BXC_ARR_FOREACH (n, &l->items)
		deepest = BXC_MAX(deepest, n->depth);
	BXC_AUTOFREE size_t *count = bxc_calloc(deepest + 1, sizeof(*count));
	BXC_ARR_FOREACH (n, &l->items)
		count[n->depth]++;
	size_t sum = 0;
	for (size_t d = 0; d <= deepest; d++) {
		sum += count[d];
		if (sum > BXC_WHY_MAX_FILES)
			return d ? d - 1 : 0;
	}
	return SIZE_MAX;
}

/* ---- writing ---- */

static char *head_of(const bxc_why_file *f)
{
	const char *type = S_ISDIR(f->mode)   ? "folder"
			   : S_ISLNK(f->mode) ? "link"
			   : S_ISREG(f->mode) ? "file"
					      : "special";
	/* The mode of a link means nothing. */
	if (S_ISLNK(f->mode))
		return bxc_str_fmt("link to %s, %u:%u", f->link ? f->link : "", f->uid, f->gid);
	return bxc_str_fmt("%s %04o, %u:%u", type, f->mode & 07777, f->uid, f->gid);
}

/* `seen`: path -> index + 1. */
static void add_parents(nodes *l, bxc_map *seen, const char *path)
{
	BXC_AUTOFREE char *up = bxc_strdup(path);
	for (bool more = *up; more;) {
		char *slash = strrchr(up, '/');
		more = slash != NULL;
		if (slash)
			*slash = '\0';
		else
			*up = '\0';
		if (bxc_map_has(seen, up))
			return;
		add(l, up, "");
		bxc_map_set(seen, up, (void *)(uintptr_t)l->items.n);
	}
}

static void add_file(nodes *l, bxc_map *seen, const bxc_why_file *f)
{
	const char *path = f->path + strspn(f->path, "/");
	BXC_AUTOFREE char *head = head_of(f);
	size_t at = (uintptr_t)bxc_map_get(seen, path);
	if (at) {
		free(l->items.v[at - 1].head);
		l->items.v[at - 1].head = BXC_TAKE(head);
		return;
	}
	add_parents(l, seen, path);
	node *n = add(l, path, head);
	bxc_map_set(seen, path, (void *)(uintptr_t)l->items.n);
	if (bxc_digest_is_set(&f->digest))
		bxc_digest_str(&f->digest, n->digest);
}

char *bxc_why_manifest(const bxc_why_file *files, size_t n)
{
	AUTO_NODES nodes l = {.folded = SIZE_MAX};
	BXC_CLEANUP(bxc_map_freep) bxc_map *seen = bxc_map_new(NULL);
	for (size_t i = 0; i < n; i++)
		add_file(&l, seen, &files[i]);
	sort(&l);
	size_t depth = fitting_depth(&l);
	if (depth != SIZE_MAX)
		fold(&l, depth);
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	if (l.folded != SIZE_MAX)
		bxc_json_set_u64(j, "folded", l.folded);
	bxc_json *list = bxc_json_add_array(j, "files");
	BXC_ARR_FOREACH (f, &l.items) {
		bxc_json *a = bxc_json_array();
		bxc_json_push_str(a, f->path);
		bxc_json_push_str(a, f->head);
		bxc_json_push_str(a, f->digest);
		bxc_json_push_take(list, a);
	}
	return bxc_json_print(j);
}

/* ---- reading ---- */

static int read_node(nodes *l, const bxc_json *j, bxc_err **err)
{
	const char *path = bxc_json_string(bxc_json_at(j, 0));
	const char *head = bxc_json_string(bxc_json_at(j, 1));
	const char *digest = bxc_json_string(bxc_json_at(j, 2));
	if (!path || !head || !digest || bxc_json_len(j) != 3)
		return bxc_err_set(err, BXC_DATA_LOSS, "manifest: an entry is no path with digest");
	/* Paths that are no UTF-8 may have become equal; what is malformed orders badly. */
	if (*path && !bxc_str_is_clean_path(path, strlen(path)))
		return bxc_err_set(err, BXC_DATA_LOSS, "manifest: '%.64s' is no path", path);
	bxc_digest d;
	if (*digest && bxc_digest_parse(digest, &d, NULL) < 0)
		return bxc_err_set(err, BXC_DATA_LOSS, "manifest: '%.64s' has no digest", path);
	node *n = add(l, path, head);
	if (*digest)
		bxc_digest_str(&d, n->digest);
	return 0;
}

static int read_nodes(const char *text, nodes *l, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	BXC_AUTOERR bxc_err *why = NULL;
	const bxc_json *files;
	int r = bxc_json_parse(bxc_slice_of(text, strlen(text)), &j, &why);
	if (r >= 0)
		r = bxc_json_need_arr(j, "files", &files, &why);
	if (r < 0)
		return bxc_err_set(err, BXC_DATA_LOSS, "manifest: %s", bxc_err_text(why));
	if (bxc_json_len(files) > BXC_WHY_MAX_FILES)
		return bxc_err_set(err, BXC_DATA_LOSS, "manifest: too many entries");
	l->folded = bxc_json_get_u64(j, "folded", SIZE_MAX);
	BXC_JSON_FOREACH (f, files) {
		r = read_node(l, f, err);
		if (r < 0)
			return r;
	}
	sort(l);
	return 0;
}

/* ---- comparing ---- */

static bxc_json *difference(const node *old, const node *now, bool by_head)
{
	const node *any = now ? now : old;
	bxc_json *d = bxc_json_object();
	bool is_root = !*any->path;
	bool is_folder = !*any->head || bxc_str_has_prefix(any->head, "folder");
	bxc_json_set_str(d, "component", is_folder ? "folder" : "file");
	bxc_json_set_str(d, "name", is_root ? "." : any->path);
	if (old)
		bxc_json_set_str(d, "old", by_head || !*old->digest ? old->head : old->digest);
	if (now)
		bxc_json_set_str(d, "new", by_head || !*now->digest ? now->head : now->digest);
	return d;
}

/* Contents first: a folder that came with its files says less than they do. */
static bxc_json *first_difference(const nodes *old, const nodes *now, bool by_head)
{
	size_t a = 0, b = 0;
	while (a < old->items.n || b < now->items.n) {
		const node *o = a < old->items.n ? &old->items.v[a] : NULL;
		const node *n = b < now->items.n ? &now->items.v[b] : NULL;
		int c = !o ? 1 : !n ? -1 : path_cmp(o->path, n->path);
		if (c < 0)
			n = NULL;
		else if (c > 0)
			o = NULL;
		a += o != NULL;
		b += n != NULL;
		bool both = o && n;
		if (by_head    ? !both || !bxc_str_eq(o->head, n->head)
			: both ? !bxc_str_eq(o->digest, n->digest)
			       : *(o ? o : n)->digest != '\0')
			return difference(o, n, by_head);
	}
	return NULL;
}

int bxc_why_compare_files(const char *old, const char *now, bxc_json **ret, bxc_err **err)
{
	AUTO_NODES nodes a = {0};
	AUTO_NODES nodes b = {0};
	int r = read_nodes(old, &a, err);
	if (r >= 0)
		r = read_nodes(now, &b, err);
	if (r < 0)
		return r;
	size_t depth = BXC_MIN(a.folded, b.folded);
	if (depth != SIZE_MAX) {
		fold(&a, depth);
		fold(&b, depth);
	}
	*ret = first_difference(&a, &b, false);
	if (!*ret)
		*ret = first_difference(&a, &b, true);
	return *ret ? 1 : 0;
}
