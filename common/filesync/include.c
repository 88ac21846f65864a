/* SPDX-License-Identifier: Apache-2.0 */
/* Turns an include list into the paths it names: patterns are looked up, links followed beneath the
 * root. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/limits.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/filesync/walk_internal.h"
#include "common/os/fs.h"

/* A look-up under way. */
typedef struct item {
	char *at;	/* reached, without links; "" is the root */
	char *rest;	/* pattern that remains */
	unsigned links; /* followed so far */
} item;

struct walk_include {
	bxc_map *paths;
	bxc_map *above; /* their parents */
};

typedef struct search {
	int root_fd;
	walk_include *found;
	size_t max;
	bxc_map *seen; /* look-ups made, so that circles of links end */
	BXC_ARR(item) pending;
} search;

static char present; /* value of maps that are sets */

static void add_path(walk_include *i, const char *path)
{
	bxc_map_set(i->paths, *path ? path : "/", &present);
	BXC_AUTOFREE char *p = bxc_strdup(path);
	for (char *slash; (slash = strrchr(p, '/')) && slash != p;) {
		*slash = '\0';
		if (bxc_map_has(i->above, p))
			break;
		bxc_map_set(i->above, p, &present);
	}
}

static int push(search *s, char *at, char *rest, unsigned links, bxc_err **err)
{
	BXC_AUTOFREE char *a = at, *b = rest;
	BXC_AUTOFREE char *key = bxc_str_fmt("%s//%s", at, rest);
	if (bxc_map_has(s->seen, key))
		return 0;
	if (bxc_map_len(s->seen) >= s->max)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"include list names more than %zu paths", s->max);
	bxc_map_set(s->seen, key, &present);
	*bxc_arr_push(&s->pending) = (item){BXC_TAKE(a), BXC_TAKE(b), links};
	return 0;
}

/* A link's target is a name, no pattern. */
static char *escape(const char *s, const char *rest)
{
	char *out = bxc_malloc(2 * strlen(s) + strlen(rest) + 2), *p = out;
	for (; *s; s++) {
		if (strchr("*?[\\", *s))
			*p++ = '\\';
		*p++ = *s;
	}
	*p++ = '/';
	memcpy(p, rest, strlen(rest) + 1);
	return out;
}

static char *parent_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash && slash != path ? bxc_strndup(path, (size_t)(slash - path)) : bxc_strdup("");
}

/* Goes on from `path`, a name in the folder parent_fd; `by_pattern`: found, not named. */
static int reach(search *s, int parent_fd, const char *name, const char *path, const char *rest,
	unsigned links, bool by_pattern, bxc_err **err)
{
	struct stat st;
	bool last = !rest[strspn(rest, "/")];
	int r = bxc_fs_lstat_opt(parent_fd, name, &st, err);
	if (r <= 0)
		return r;
	if (!S_ISLNK(st.st_mode)) {
		if (last)
			add_path(s->found, path);
		else if (S_ISDIR(st.st_mode))
			return push(s, bxc_strdup(path), bxc_strdup(rest), links, err);
		return 0;
	}
	/* A pattern is matched against paths as they are: only what it names in the end is
	 * followed. */
	if (by_pattern && !last)
		return 0;
	add_path(s->found, path);
	/* A circle is left to whoever needs the file. */
	if (links >= BXC_LIMIT_SYMLINKS)
		return 0;
	BXC_AUTOFREE char *target = NULL;
	r = bxc_fs_readlink(parent_fd, name, &target, err);
	if (r < 0)
		return r;
	char *from = *target == '/' ? bxc_strdup("") : parent_of(path);
	return push(s, from, escape(target, rest), links + 1, err);
}

static int reach_matches(
	search *s, int dir_fd, const item *i, const char *comp, const char *rest, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	int r = walk_list(dir_fd, i->at, s->max, &names, err);
	for (char **name = names; r >= 0 && *name; name++) {
		bool matched = false;
		r = bxc_glob_match(comp, *name, &matched, err);
		if (r < 0 || !matched)
			continue;
		BXC_AUTOFREE char *path = bxc_str_fmt("%s/%s", i->at, *name);
		r = reach(s, dir_fd, *name, path, rest, i->links, true, err);
	}
	return r;
}

static int open_at(search *s, const char *path, int *ret_fd, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fs_open_beneath(
		s->root_fd, path, O_RDONLY | O_DIRECTORY, 0, BXC_FS_NO_LINKS, ret_fd, &why);
	int errnum = bxc_err_errnum(why);
	if (r < 0 && (errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP ||
			     errnum == ENAMETOOLONG))
		return 0;
	return r < 0 ? bxc_err_move(err, BXC_TAKE(why)) : 1;
}

/* One component on. */
static int advance(search *s, const item *i, bxc_err **err)
{
	const char *p = i->rest + strspn(i->rest, "/");
	size_t n = bxc_glob_component(p);
	BXC_AUTOFREE char *comp = bxc_strndup(p, n);
	const char *rest = p + n;
	if (n == 0) {
		add_path(s->found, i->at);
		return 0;
	}
	if (strcmp(comp, ".") == 0)
		return push(s, bxc_strdup(i->at), bxc_strdup(rest), i->links, err);
	if (strcmp(comp, "..") == 0)
		return push(s, parent_of(i->at), bxc_strdup(rest), i->links, err);
	BXC_AUTOCLOSE int fd = -1;
	int r = open_at(s, i->at, &fd, err);
	if (r <= 0)
		return r;
	if (bxc_glob_has_meta(comp))
		return reach_matches(s, fd, i, comp, rest, err);
	/* Longer than any name of a file system: not there. */
	if (n > 255)
		return 0;
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/%s", i->at, comp);
	return reach(s, fd, comp, path, rest, i->links, false, err);
}

static int search_all(search *s, char *const *list, bxc_err **err)
{
	for (; *list; list++) {
		if (!fsync_glob_valid(*list))
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "syntax error in pattern: '%s'", *list);
		int r = push(s, bxc_strdup(""), bxc_path_clean(*list), 0, err);
		while (r >= 0 && s->pending.n) {
			item i = s->pending.v[--s->pending.n];
			r = advance(s, &i, err);
			free(i.at);
			free(i.rest);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int walk_include_new(int root_fd, char *const *list, size_t max, walk_include **ret, bxc_err **err)
{
	walk_include *found = bxc_calloc(1, sizeof(*found));
	found->paths = bxc_map_new(NULL);
	found->above = bxc_map_new(NULL);
	search s = {.root_fd = root_fd, .found = found, .max = max, .seen = bxc_map_new(NULL)};
	int r = search_all(&s, list, err);
	BXC_ARR_FOREACH (i, &s.pending) {
		free(i->at);
		free(i->rest);
	}
	bxc_arr_done(&s.pending);
	bxc_map_free(s.seen);
	if (r < 0) {
		walk_include_free(found);
		return r;
	}
	*ret = found;
	return 0;
}

void walk_include_free(walk_include *i)
{
	if (!i)
		return;
	bxc_map_free(i->paths);
	bxc_map_free(i->above);
	free(i);
}

bool walk_includes(const walk_include *i, const char *path)
{
	return !i || bxc_map_has(i->paths, path);
}

bool walk_leads_to(const walk_include *i, const char *path)
{
	return i && bxc_map_has(i->above, path);
}
