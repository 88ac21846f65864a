/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ignore rules. Each pattern becomes a small automaton that is run over the path once: when it
 * accepts at the end of any component, the pattern matches the path or a parent of it.
 */
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/filesync/filesync_internal.h"

#define RULES_MAX 100000u

typedef enum token_type {
	TOKEN_RUNE = 0,
	TOKEN_ANY, /* '?' */
	TOKEN_CLASS,
	TOKEN_STAR,	  /* any runes of one component */
	TOKEN_ALL,	  /* a final "**": anything */
	TOKEN_DIRS_ENTER, /* "**" elsewhere: nothing, or whole components up to a '/' ... */
	TOKEN_DIRS,	  /* ... inside of these */
} token_type;

typedef struct token {
	token_type type;
	uint32_t rune;
	const char *class; /* behind its '[', within the text of the rule */
} token;

typedef struct rule {
	bool negated;
	bool literal; /* text can be compared as it is */
	char *text;
	size_t len;
	BXC_ARR(token) tokens;
} rule;

struct bxc_ignore {
	BXC_ARR(rule) rules;
};

/* A state is the number of tokens passed. */
#define SET_WORDS (BXC_LIMIT_PATH / 64 + 2)
typedef struct state_set {
	size_t words;
	uint64_t w[SET_WORDS];
} state_set;

static void set_reset(state_set *s, size_t n_tokens)
{
	s->words = n_tokens / 64 + 1;
	memset(s->w, 0, s->words * sizeof(s->w[0]));
}

static bool set_has(const state_set *s, size_t i)
{
	return s->w[i / 64] >> (i % 64) & 1;
}

static bool set_empty(const state_set *s)
{
	for (size_t i = 0; i < s->words; i++)
		if (s->w[i])
			return false;
	return true;
}

/* Adds a state and those reached from it without reading. */
static void set_add(state_set *s, const rule *u, size_t i)
{
	for (;;) {
		if (set_has(s, i))
			return;
		s->w[i / 64] |= UINT64_C(1) << (i % 64);
		if (i == u->tokens.n)
			return;
		token_type type = u->tokens.v[i].type;
		if (type == TOKEN_DIRS_ENTER) {
			s->w[(i + 1) / 64] |= UINT64_C(1) << ((i + 1) % 64);
			i += 2;
		} else if (type == TOKEN_STAR || type == TOKEN_ALL) {
			i++;
		} else {
			return;
		}
	}
}

static void step_one(const rule *u, size_t i, uint32_t r, state_set *next)
{
	if (i == u->tokens.n)
		return;
	const token *t = &u->tokens.v[i];
	bool in = false;
	switch (t->type) {
	case TOKEN_RUNE:
		if (t->rune == r)
			set_add(next, u, i + 1);
		break;
	case TOKEN_ANY:
		if (r != '/')
			set_add(next, u, i + 1);
		break;
	case TOKEN_CLASS:
		if (r != '/' && fsync_class(t->class, r, &in) && in)
			set_add(next, u, i + 1);
		break;
	case TOKEN_STAR:
		if (r != '/')
			set_add(next, u, i);
		break;
	case TOKEN_ALL:
		set_add(next, u, i);
		break;
	case TOKEN_DIRS_ENTER:
		break;
	case TOKEN_DIRS:
		set_add(next, u, i);
		if (r == '/')
			set_add(next, u, i + 1);
		break;
	default:
		break;
	}
}

static void step(const rule *u, const state_set *cur, uint32_t r, state_set *next)
{
	set_reset(next, u->tokens.n);
	for (size_t k = 0; k < cur->words; k++)
		for (uint64_t left = cur->w[k]; left; left &= left - 1)
			step_one(u, k * 64 + (size_t)__builtin_ctzll(left), r, next);
}

/* Does the rule match the path or a parent? `ret_live`: could it match something below the path? */
static bool run(const rule *u, const char *path, bool *ret_live)
{
	state_set a, b, *cur = &a, *next = &b;
	set_reset(cur, u->tokens.n);
	set_add(cur, u, 0);
	uint32_t r;
	for (size_t n; (n = fsync_rune(path, &r)) > 0; path += n) {
		if (r == '/' && set_has(cur, u->tokens.n))
			return true;
		step(u, cur, r, next);
		state_set *swap = cur;
		cur = next;
		next = swap;
		if (set_empty(cur))
			return false;
	}
	if (set_has(cur, u->tokens.n))
		return true;
	step(u, cur, '/', next);
	*ret_live = !set_empty(next);
	return false;
}

static bool covers(const rule *u, const char *path)
{
	bool live;
	if (u->literal)
		return strncmp(path, u->text, u->len) == 0 &&
		       (!path[u->len] || path[u->len] == '/');
	return run(u, path, &live);
}

static bool reaches_below(const rule *u, const char *path)
{
	bool live = false;
	if (!u->literal)
		return run(u, path, &live) || live;
	size_t n = strlen(path);
	return covers(u, path) || (strncmp(u->text, path, n) == 0 && u->text[n] == '/');
}

bool bxc_ignore_match(const bxc_ignore *g, const char *path)
{
	/* The last match wins: from the end, the first decides. */
	for (size_t i = g ? g->rules.n : 0; i-- > 0;)
		if (covers(&g->rules.v[i], path))
			return !g->rules.v[i].negated;
	return false;
}

bool bxc_ignore_may_include_below(const bxc_ignore *g, const char *path)
{
	for (size_t i = g ? g->rules.n : 0; i-- > 0;) {
		const rule *u = &g->rules.v[i];
		if (u->negated && reaches_below(u, path))
			return true;
		/* What excludes the folder also beats every rule before it. */
		if (!u->negated && covers(u, path))
			return false;
	}
	return false;
}

/* Patterns of names, like ".*", do not mean the root; only one for everything leaves it out. */
static bool leaves_out_root(const bxc_ignore *g)
{
	bool all = false;
	for (size_t i = 0; g && i < g->rules.n; i++) {
		const rule *u = &g->rules.v[i];
		if (u->negated)
			return false;
		all = all || bxc_str_eq(u->text, "*") || bxc_str_eq(u->text, "**") ||
		      bxc_str_eq(u->text, "**/*");
	}
	return all;
}

bool bxc_ignore_leaves_out(const bxc_ignore *g, const char *path)
{
	if (bxc_str_eq(path, ".") || bxc_str_eq(path, "/"))
		return leaves_out_root(g);
	return bxc_ignore_match(g, path) && !bxc_ignore_may_include_below(g, path);
}

bool bxc_ignore_may_match_below(const bxc_ignore *g, const char *path)
{
	BXC_ARR_FOREACH (u, &g->rules)
		if (!u->negated && reaches_below(u, path))
			return true;
	return false;
}

static void push_token(rule *u, token_type type, uint32_t rune, const char *class)
{
	*bxc_arr_push(&u->tokens) = (token){type, rune, class};
}

/* The text has valid syntax. */
static void compile(rule *u)
{
	const char *p = u->text;
	u->len = strlen(p);
	u->literal = !bxc_glob_has_meta(p);
	if (u->literal)
		return;
	/* "**name" without a slash means any path that ends so, when the rest is plain text. */
	if (p[0] == '*' && p[1] == '*' && p[2] && p[2] != '/' && !bxc_glob_has_meta(p + 2)) {
		push_token(u, TOKEN_ALL, 0, NULL);
		p += 2;
	}
	while (*p) {
		bool in;
		uint32_t rune = 0;
		if (p[0] == '*' && p[1] == '*') {
			p += p[2] == '/' ? 3 : 2;
			if (!*p) {
				push_token(u, TOKEN_ALL, 0, NULL);
			} else {
				push_token(u, TOKEN_DIRS_ENTER, 0, NULL);
				push_token(u, TOKEN_DIRS, 0, NULL);
			}
		} else if (*p == '*') {
			push_token(u, TOKEN_STAR, 0, NULL);
			p++;
		} else if (*p == '?') {
			push_token(u, TOKEN_ANY, 0, NULL);
			p++;
		} else if (*p == '[') {
			push_token(u, TOKEN_CLASS, 0, p + 1);
			p = fsync_class(p + 1, 0, &in);
		} else {
			if (*p == '\\')
				p++;
			p += fsync_rune(p, &rune);
			push_token(u, TOKEN_RUNE, rune, NULL);
		}
	}
}

/* Adds one pattern; blanks around it do not count, an empty one is none. */
static int add(bxc_ignore *g, const char *pattern, bxc_err **err)
{
	BXC_AUTOFREE char *copy = bxc_strdup(pattern);
	const char *p = bxc_str_trim(copy);
	bool negated = *p == '!';
	if (!*p)
		return 0;
	if (negated) {
		p++;
		while (*p == ' ' || *p == '\t')
			p++;
		if (!*p)
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "illegal exclusion pattern: \"!\"");
	}
	BXC_AUTOFREE char *clean = fsync_clean(p);
	const char *text = clean[0] == '/' && clean[1] ? clean + 1 : clean;
	if (strlen(text) >= BXC_LIMIT_PATH / 2)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "pattern of more than %u bytes",
			BXC_LIMIT_PATH / 2);
	if (!fsync_glob_valid(text))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "syntax error in pattern: '%s'", p);
	if (g->rules.n >= RULES_MAX)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u patterns", RULES_MAX);
	rule *u = bxc_arr_push(&g->rules);
	u->negated = negated;
	u->text = bxc_strdup(text);
	compile(u);
	return 0;
}

int bxc_ignore_parse(bxc_slice text, const char *name, bxc_ignore **ret, bxc_err **err)
{
	static const uint8_t bom[3] = {0xef, 0xbb, 0xbf};
	BXC_CLEANUP(bxc_ignore_freep) bxc_ignore *g = bxc_calloc(1, sizeof(*g));
	size_t at = text.n >= 3 && memcmp(text.p, bom, 3) == 0 ? 3 : 0;
	for (unsigned line = 1; at < text.n; line++) {
		const uint8_t *p = text.p + at;
		const uint8_t *end = memchr(p, '\n', text.n - at);
		size_t n = end ? (size_t)(end - p) : text.n - at;
		at += n + 1;
		if (n && *p == '#')
			continue;
		if (n && memchr(p, '\0', n))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"%s:%u: NUL byte in a pattern", name, line);
		BXC_AUTOFREE char *s = n ? bxc_strndup((const char *)p, n) : bxc_strdup("");
		int r = add(g, s, err);
		if (r < 0) {
			/* No blank-separated chain here: an editor jumps to "file:line:". */
			return bxc_err_wrap(err, r, "%s:%u", name, line);
		}
	}
	*ret = BXC_TAKE(g);
	return 0;
}

int bxc_ignore_from_patterns(char *const *patterns, bxc_ignore **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_ignore_freep) bxc_ignore *g = bxc_calloc(1, sizeof(*g));
	for (; patterns && *patterns; patterns++) {
		int r = add(g, *patterns, err);
		if (r < 0)
			return r;
	}
	*ret = BXC_TAKE(g);
	return 0;
}

void bxc_ignore_free(bxc_ignore *g)
{
	if (!g)
		return;
	BXC_ARR_FOREACH (u, &g->rules) {
		free(u->text);
		bxc_arr_done(&u->tokens);
	}
	bxc_arr_done(&g->rules);
	free(g);
}
