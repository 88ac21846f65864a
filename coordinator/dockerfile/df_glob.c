/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns of word expansion: '*' any text, '?' any one character (neither takes a newline), a
 * backslash before '*', '?' or itself makes it plain, before '}' and '/' it vanishes. No brackets.
 * All states are walked at once, so that no pattern takes more than length x length steps.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

#define ELEM_STAR UINT32_MAX
#define ELEM_ANY  (UINT32_MAX - 1)

typedef struct rune {
	uint32_t code;
	uint32_t pos; /* of its first byte */
} rune;

typedef BXC_ARR(rune) runes;

struct df_glob {
	BXC_ARR(uint32_t) elems; /* code points, ELEM_STAR, ELEM_ANY */
};

void df_glob_free(df_glob *g)
{
	if (!g)
		return;
	bxc_arr_done(&g->elems);
	free(g);
}

int df_glob_new(const char *pattern, df_glob **ret, bxc_err **err)
{
	BXC_CLEANUP(df_glob_freep) df_glob *g = bxc_calloc(1, sizeof(*g));
	for (const char *p = pattern; *p;) {
		uint32_t code = 0;
		p += df_next_rune(p, &code);
		if (code == '*') {
			code = ELEM_STAR;
		} else if (code == '?') {
			code = ELEM_ANY;
		} else if (code == '\\') {
			if (*p == '}' || *p == '/')
				continue;
			if (*p != '*' && *p != '?' && *p != '\\')
				return bxc_err_set(err, BXC_INVALID_ARGUMENT,
					"invalid pattern (%.64s) in substitution: invalid escape "
					"'\\%.1s'",
					pattern, p);
			code = (uint8_t)*p++;
		}
		*bxc_arr_push(&g->elems) = code;
	}
	*ret = BXC_TAKE(g);
	return 0;
}

static runes runes_of(const char *s)
{
	runes r = {0};
	for (const char *p = s; *p;) {
		rune u = {.pos = (uint32_t)(p - s)};
		p += df_next_rune(p, &u.code);
		*bxc_arr_push(&r) = u;
	}
	return r;
}

typedef struct matcher {
	const df_glob *g;
	bool backwards;
	bool *now, *then; /* elems.n + 1 states each */
} matcher;

static void matcher_done(matcher *m)
{
	free(m->now);
	free(m->then);
}

static uint32_t elem(const matcher *m, size_t i)
{
	return m->g->elems.v[m->backwards ? m->g->elems.n - 1 - i : i];
}

/* A star may stand for nothing: whoever waits at it also waits behind it. */
static void close_states(const matcher *m, bool *states)
{
	for (size_t i = 0; i < m->g->elems.n; i++)
		if (states[i] && elem(m, i) == ELEM_STAR)
			states[i + 1] = true;
}

static bool step(matcher *m, uint32_t code)
{
	size_t n = m->g->elems.n;
	bool any = false;
	memset(m->then, 0, n + 1);
	for (size_t i = 0; i < n; i++) {
		uint32_t e = elem(m, i);
		bool wild = e == ELEM_STAR || e == ELEM_ANY;
		if (!m->now[i] || (wild ? code == '\n' : e != code))
			continue;
		m->then[e == ELEM_STAR ? i : i + 1] = true;
		any = true;
	}
	close_states(m, m->then);
	bool *t = m->now;
	m->now = m->then;
	m->then = t;
	return any;
}

/*
 * Matches from `start` on, in the matcher's direction; *ret is the number of characters taken, or
 * SIZE_MAX when there is no match.
 */
static int match_at(matcher *m, const runes *v, size_t start, bool longest, uint64_t *work,
	size_t *ret, bxc_err **err)
{
	size_t n = m->g->elems.n;
	*ret = SIZE_MAX;
	int r = df_charge(work, n / 2 + 1, err);
	if (r < 0)
		return r;
	memset(m->now, 0, n + 1);
	m->now[0] = true;
	close_states(m, m->now);
	for (size_t taken = 0;; taken++) {
		if (m->now[n]) {
			*ret = taken;
			if (!longest)
				return 0;
		}
		if (start + taken == v->n)
			return 0;
		r = df_charge(work, n / 2 + 1, err);
		if (r < 0)
			return r;
		size_t at = start + taken;
		if (!step(m, v->v[m->backwards ? v->n - 1 - at : at].code))
			return 0;
	}
}

static matcher matcher_of(const df_glob *g, bool backwards)
{
	return (matcher){.g = g,
		.backwards = backwards,
		.now = bxc_calloc(g->elems.n + 1, 1),
		.then = bxc_calloc(g->elems.n + 1, 1)};
}

int df_glob_trim(const df_glob *g, const char *value, bool suffix, bool longest, uint64_t *work,
	char **ret, bxc_err **err)
{
	BXC_CLEANUP(matcher_done) matcher m = matcher_of(g, suffix);
	runes v = runes_of(value);
	size_t taken = 0;
	int r = match_at(&m, &v, 0, longest, work, &taken, err);
	if (r == 0) {
		if (taken == SIZE_MAX)
			taken = 0;
		size_t len = strlen(value);
		if (suffix)
			*ret = bxc_strndup(value, taken ? v.v[v.n - taken].pos : len);
		else
			*ret = bxc_strdup(value + (taken == v.n ? len : v.v[taken].pos));
	}
	bxc_arr_done(&v);
	return r;
}

static size_t byte_pos(const runes *v, size_t i, size_t len)
{
	return i < v->n ? v->v[i].pos : len;
}

/* As Go's regexp: leftmost matches, and none that is empty right behind another one. */
static int replace(matcher *m, const runes *v, const char *value, const char *with, bool all,
	uint64_t *work, bxc_buf *out, bxc_err **err)
{
	size_t len = strlen(value), with_len = strlen(with), last = SIZE_MAX, i = 0;
	while (i <= v->n) {
		size_t taken = 0;
		int r = match_at(m, v, i, true, work, &taken, err);
		if (r < 0)
			return r;
		bool hit = taken != SIZE_MAX && !(taken == 0 && last == i);
		if (hit) {
			r = df_charge(work, with_len, err);
			if (r == 0)
				r = bxc_buf_append(out, with, with_len, err);
			if (r < 0)
				return r;
			i += taken;
			last = i;
			if (!all)
				break;
		}
		if (hit && taken)
			continue;
		size_t from = byte_pos(v, i, len), to = byte_pos(v, i + 1, len);
		r = bxc_buf_append(out, value + from, to - from, err);
		if (r < 0)
			return r;
		i++;
	}
	size_t from = byte_pos(v, i, len);
	return bxc_buf_append(out, value + from, len - from, err);
}

int df_glob_replace(const df_glob *g, const char *value, const char *with, bool all, uint64_t *work,
	char **ret, bxc_err **err)
{
	BXC_CLEANUP(matcher_done) matcher m = matcher_of(g, false);
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(DF_MAX_WORD);
	runes v = runes_of(value);
	int r = replace(&m, &v, value, with, all, work, &out, err);
	bxc_arr_done(&v);
	if (r == 0)
		*ret = bxc_strdup(bxc_buf_text(&out));
	return r;
}
