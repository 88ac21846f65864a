/* SPDX-License-Identifier: Apache-2.0 */
/* Names of git repositories, with what follows them: "#ref:subdir" and "?key=value". */
#include "common/remote/remote_internal.h"

#define REF_MAX	     1024u
#define CHECKSUM_MIN 7u /* digits: git's shortest abbreviation */
#define ALNUM	     "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

void bxc_git_ref_done(bxc_git_ref *g)
{
	free(g->remote);
	free(g->ref);
	free(g->subdir);
	free(g->checksum);
	free(g->commit);
	*g = (bxc_git_ref){0};
}

static bool is_hex(const char *s)
{
	return s[strspn(s, "0123456789abcdef")] == 0;
}

bool bxc_git_is_commit(const char *s)
{
	size_t n = s ? strlen(s) : 0;
	return (n == 40 || n == 64) && is_hex(s);
}

char *bxc_git_checksum(const char *s)
{
	BXC_AUTOFREE char *lower = bxc_str_lower(bxc_strdup(s));
	size_t n = strlen(lower);
	return n >= CHECKSUM_MIN && n <= BXC_GIT_HEX_MAX && is_hex(lower) ? BXC_TAKE(lower) : NULL;
}

/* What git check-ref-format takes, and not more. */
static bool is_ref(const char *s)
{
	size_t n = strlen(s);
	if (!n || n > REF_MAX || *s == '-' || *s == '/' || s[n - 1] == '/' || s[n - 1] == '.')
		return false;
	if (strstr(s, "..") || strstr(s, "//") || strstr(s, "@{") || strpbrk(s, "~^:?*[\\"))
		return false;
	if (!remote_is_plain(s) || *s == '.' || strstr(s, "/."))
		return false;
	for (const char *lock = strstr(s, ".lock"); lock; lock = strstr(lock + 1, ".lock"))
		if (!lock[5] || lock[5] == '/')
			return false;
	return true;
}

static int bad(bxc_err **err, const char *what, const char *value)
{
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid git %s \"%.256s\"", what, value);
}

static int set_ref(bxc_git_ref *g, const char *prefix, const char *value, bxc_err **err)
{
	BXC_AUTOFREE char *ref =
		bxc_str_fmt("%s%s", bxc_str_has_prefix(value, prefix) ? "" : prefix, value);
	if (!is_ref(ref))
		return bad(err, "ref", value);
	if (g->ref && !bxc_str_eq(g->ref, ref))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"ref conflicts: \"%.128s\" vs \"%.128s\"", g->ref, ref);
	free(g->ref);
	g->ref = BXC_TAKE(ref);
	return 0;
}

/* Slashes at the ends and "." go; what would leave the repository is refused. */
static int set_subdir(bxc_git_ref *g, const char *value, bxc_err **err)
{
	BXC_AUTOSTRV char **parts = bxc_strv_split(value, '/'), **kept = NULL;
	if (strlen(value) >= BXC_LIMIT_PATH)
		return bad(err, "subdir", value);
	for (char **p = parts; *p; p++) {
		if (bxc_str_eq(*p, ".."))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"invalid git subdir \"%.256s\": it must not hold \"..\"", value);
		for (const char *c = *p; *c; c++)
			if ((unsigned char)*c < ' ' || *c == 0x7f)
				return bad(err, "subdir", value);
		if (**p && !bxc_str_eq(*p, "."))
			bxc_strv_push(&kept, *p);
	}
	BXC_AUTOFREE char *clean = bxc_strv_join(kept, "/");
	if (g->subdir && !bxc_str_eq(g->subdir, clean))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"subdir conflicts: \"%.128s\" vs \"%.128s\"", g->subdir, clean);
	free(g->subdir);
	g->subdir = *clean ? BXC_TAKE(clean) : NULL;
	return 0;
}

static int set_checksum(bxc_git_ref *g, const char *value, bxc_err **err)
{
	BXC_AUTOFREE char *sum = bxc_git_checksum(value);
	if (!sum)
		return bad(err, "checksum", value);
	if (g->checksum && !bxc_str_eq(g->checksum, sum))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"checksum conflicts: \"%s\" vs \"%s\"", g->checksum, sum);
	free(g->checksum);
	g->checksum = BXC_TAKE(sum);
	return 0;
}

/* "ref:subdir" */
static int read_fragment(bxc_git_ref *g, const char *text, bxc_err **err)
{
	const char *colon = strchr(text, ':');
	BXC_AUTOFREE char *ref =
		colon ? bxc_strndup(text, (size_t)(colon - text)) : bxc_strdup(text);
	int r = *ref ? set_ref(g, "", ref, err) : 0;
	return r == 0 && colon ? set_subdir(g, colon + 1, err) : r;
}

/* ---- the query ---- */

static int read_bool(const char *key, const char *value, bool *ret, bxc_err **err)
{
	*ret = true;
	if (!*value || bxc_str_to_bool(value, ret, NULL) == 0)
		return 0;
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid %s value: \"%.64s\"", key, value);
}

static int read_tri(const char *key, const char *value, bxc_git_tri *ret, bxc_err **err)
{
	bool on = false;
	int r = read_bool(key, value, &on, err);
	*ret = on ? BXC_GIT_YES : BXC_GIT_NO;
	return r;
}

static int read_mtime(const char *value, bool *ret, bxc_err **err)
{
	*ret = bxc_str_eq(value, "commit");
	if (*ret || bxc_str_eq(value, "checkout"))
		return 0;
	return bxc_err_set(err, BXC_INVALID_ARGUMENT,
		"invalid mtime value: \"%.64s\" (expected checkout or commit)", value);
}

struct named_refs {
	char *tag, *branch;
};

static int read_pair(
	bxc_git_ref *g, struct named_refs *named, const char *key, const char *value, bxc_err **err)
{
	bool may_be_empty = bxc_str_eq(key, "submodules") || bxc_str_eq(key, "keep-git-dir") ||
			    bxc_str_eq(key, "fetch-by-commit");
	if (!*value && !may_be_empty)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "query \"%.64s\" has no value", key);
	if (bxc_str_eq(key, "ref"))
		return set_ref(g, "", value, err);
	if (bxc_str_eq(key, "subdir"))
		return set_subdir(g, value, err);
	if (bxc_str_eq(key, "checksum") || bxc_str_eq(key, "commit"))
		return set_checksum(g, value, err);
	if (bxc_str_eq(key, "keep-git-dir"))
		return read_tri(key, value, &g->keep_git_dir, err);
	if (bxc_str_eq(key, "submodules"))
		return read_tri(key, value, &g->submodules, err);
	if (bxc_str_eq(key, "fetch-by-commit"))
		return read_bool(key, value, &g->by_commit, err);
	if (bxc_str_eq(key, "mtime")) {
		g->has_mtime = true;
		return read_mtime(value, &g->mtime_of_commit, err);
	}
	char **where = bxc_str_eq(key, "tag")	   ? &named->tag
		       : bxc_str_eq(key, "branch") ? &named->branch
						   : NULL;
	if (!where)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unexpected query \"%.64s\"", key);
	*where = bxc_strdup(value);
	return 0;
}

static int read_query(bxc_git_ref *g, const char *query, size_t n, bxc_err **err)
{
	BXC_AUTOFREE char *text = bxc_strndup(query, n);
	BXC_AUTOSTRV char **pairs = bxc_strv_split(text, '&'), **seen = NULL;
	struct named_refs named = {0};
	int r = 0;
	for (char **p = pairs; r == 0 && *p; p++) {
		size_t k = strcspn(*p, "=");
		const char *v = (*p)[k] ? *p + k + 1 : "";
		BXC_AUTOFREE char *key = remote_decode(*p, k, true);
		BXC_AUTOFREE char *value = remote_decode(v, strlen(v), true);
		if (!**p)
			continue;
		if (!key || !value)
			r = bad(err, "query", *p);
		else if (bxc_strv_has(seen, key))
			r = bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"query \"%.64s\" has multiple values", key);
		else
			r = read_pair(g, &named, key, value, err);
		if (r == 0)
			bxc_strv_push(&seen, key);
	}
	if (r == 0 && named.tag && named.branch)
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "branch conflicts with tag");
	if (r == 0 && named.tag)
		r = set_ref(g, "refs/tags/", named.tag, err);
	if (r == 0 && named.branch)
		r = set_ref(g, "refs/heads/", named.branch, err);
	free(named.tag);
	free(named.branch);
	return r;
}

/* ---- the whole ---- */

static bool is_scheme(const char *s, size_t n, const char *name)
{
	return strlen(name) == n && strncasecmp(s, name, n) == 0;
}

/* user@host:path, nothing of which may be taken for a path of this machine. */
static bool is_scp(const char *s)
{
	size_t user = strspn(s, ALNUM "_");
	if (!user || s[user] != '@')
		return false;
	const char *host = s + user + 1;
	size_t n = strspn(host, ALNUM "-.");
	/* The path is not empty: what follows it is none. */
	return n && *host != '-' && host[n] == ':' && !strchr("-?#", host[n + 1]);
}

static int check_by_commit(const bxc_git_ref *g, bxc_err **err)
{
	if (g->by_commit && !bxc_git_is_commit(g->checksum))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"fetch-by-commit needs the whole name of a commit as checksum");
	return 0;
}

static int read_parts(
	bxc_git_ref *g, const char *text, const char *scheme, bool is_url, bxc_err **err)
{
	const char *hash = strchr(text, '#'), *end = hash ? hash : text + strlen(text);
	const char *query = memchr(text, '?', (size_t)(end - text));
	const char *remote_end = query ? query : end;
	g->remote = bxc_str_fmt("%s%.*s", scheme, (int)(remote_end - text), text);
	if (!remote_is_plain(g->remote))
		return bad(err, "URL", g->remote);
	BXC_AUTOFREE char *host = bxc_remote_host(g->remote);
	if (!*host || *host == '-' || *host == ':')
		return bad(err, "URL", g->remote);
	int r = 0;
	if (hash) {
		BXC_AUTOFREE char *fragment =
			is_url ? remote_decode(hash + 1, strlen(hash + 1), false)
			       : bxc_strdup(hash + 1);
		r = fragment ? read_fragment(g, fragment, err) : bad(err, "ref", hash + 1);
	}
	if (r == 0 && query)
		r = read_query(g, query + 1, (size_t)(end - query - 1), err);
	/* A URL with nothing but a checksum means that commit. */
	if (r == 0 && g->checksum && !g->ref)
		g->ref = bxc_strdup(g->checksum);
	return r == 0 ? check_by_commit(g, err) : r;
}

int bxc_git_ref_parse(const char *text, bool is_context, bxc_git_ref *ret, bxc_err **err)
{
	BXC_AUTOGITREF bxc_git_ref g = {0};
	const char *sep = strstr(text, "://"), *scheme = "";
	size_t n = sep ? (size_t)(sep - text) : 0;
	size_t path = strcspn(text, "?#");
	bool web = n && (is_scheme(text, n, "http") || is_scheme(text, n, "https"));
	bool url = n && strspn(text, ALNUM) == n;
	if (web && (path < 4 || strncmp(text + path - 4, ".git", 4) != 0))
		return 0;
	if (url && !web && !is_scheme(text, n, "git") && !is_scheme(text, n, "ssh"))
		return 0;
	if (!url && is_context && bxc_str_has_prefix(text, "github.com/"))
		scheme = "https://";
	else if (!url && !is_scp(text))
		return 0;
	if (strlen(text) >= BXC_LIMIT_PATH)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "a git URL has more than %u bytes",
			BXC_LIMIT_PATH);
	int r = read_parts(&g, text, scheme, url || *scheme, err);
	if (r < 0) {
		BXC_AUTOFREE char *shown = bxc_remote_redact(text);
		return bxc_err_wrap(err, r, "%.512s", shown);
	}
	*ret = g;
	g = (bxc_git_ref){0};
	return 1;
}

/* ---- in a definition ---- */

void bxc_git_ref_to_source(const bxc_git_ref *g, char **ret_identifier, char ***ret_attrs)
{
	const char *sep = strstr(g->remote, "://");
	BXC_AUTOFREE char *shown = bxc_remote_redact(g->remote);
	const char *bare = sep ? strstr(shown, "://") + 3 : shown;
	const char *ref = g->ref ? g->ref : "", *dir = g->subdir ? g->subdir : "";
	*ret_identifier = bxc_str_fmt(
		"git://%s%s%s%s%s", bare, *ref || *dir ? "#" : "", ref, *dir ? ":" : "", dir);
	char **a = NULL;
	if (g->checksum)
		bxc_strv_pushf(&a, "git.checksum=%s", g->checksum);
	if (g->commit)
		bxc_strv_pushf(&a, "git.commit=%s", g->commit);
	if (g->by_commit)
		bxc_strv_push(&a, "git.fetchbycommit=true");
	bxc_strv_pushf(&a, "git.fullurl=%s", g->remote);
	if (g->keep_git_dir == BXC_GIT_YES)
		bxc_strv_push(&a, "git.keepgitdir=true");
	if (g->mtime_of_commit)
		bxc_strv_push(&a, "git.mtime=commit");
	if (g->submodules == BXC_GIT_NO)
		bxc_strv_push(&a, "git.skipsubmodules=true");
	*ret_attrs = a;
}

static bool is_true(char *const *attrs, const char *key)
{
	return bxc_str_eq(bxc_env_get(attrs, key), "true");
}

int bxc_git_ref_from_source(
	const char *identifier, char *const *attrs, bxc_git_ref *ret, bxc_err **err)
{
	BXC_AUTOGITREF bxc_git_ref g = {0};
	const char *url = bxc_env_get(attrs, "git.fullurl");
	BXC_AUTOFREE char *whole =
		url ? bxc_strdup(url) : bxc_strndup(identifier, strcspn(identifier, "#"));
	const char *hash = strchr(identifier, '#');
	const char *checksum = bxc_env_get(attrs, "git.checksum");
	const char *commit = bxc_env_get(attrs, "git.commit");
	/* What follows the name stands in the identifier: here the text is a remote and nothing
	 * else. */
	int r = strpbrk(whole, "?#") ? bad(err, "URL", whole)
				     : bxc_git_ref_parse(whole, true, &g, err);
	if (r == 0 && bxc_remote_is_http(whole)) {
		r = bxc_remote_check_http(whole, err);
		g.remote = bxc_strdup(whole);
	} else if (r == 0) {
		r = bad(err, "URL", whole);
	}
	if (r >= 0 && hash)
		r = read_fragment(&g, hash + 1, err);
	if (r >= 0 && checksum)
		r = set_checksum(&g, checksum, err);
	if (r >= 0 && commit && !bxc_git_is_commit(commit))
		r = bad(err, "commit", commit);
	if (r < 0)
		return r;
	g.commit = bxc_strdup(commit);
	g.keep_git_dir = is_true(attrs, "git.keepgitdir") ? BXC_GIT_YES : BXC_GIT_UNSET;
	g.submodules = is_true(attrs, "git.skipsubmodules") ? BXC_GIT_NO : BXC_GIT_UNSET;
	g.by_commit = is_true(attrs, "git.fetchbycommit");
	g.mtime_of_commit = bxc_str_eq(bxc_env_get(attrs, "git.mtime"), "commit");
	r = check_by_commit(&g, err);
	if (r < 0)
		return r;
	*ret = g;
	g = (bxc_git_ref){0};
	return 0;
}
