/* SPDX-License-Identifier: Apache-2.0 */
/* Go's filepath.Match and path.Clean. */
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/utf8.h"
#include "common/filesync/filesync_internal.h"

#define RUNE_FOREIGN 0x110000u

size_t fsync_rune(const char *s, uint32_t *ret)
{
	const unsigned char first = (unsigned char)*s;
	if (first < 0x80) {
		*ret = first;
		return first ? 1 : 0;
	}
	size_t n = bxc_utf8_next((const uint8_t *)s, strnlen(s, 4), ret);
	if (n)
		return n;
	*ret = RUNE_FOREIGN + first;
	return 1;
}

/* One end of a range; NULL for bad syntax. */
static const char *class_rune(const char *p, uint32_t *ret)
{
	if (!*p || *p == '-' || *p == ']')
		return NULL;
	if (*p == '\\')
		p++;
	size_t n = fsync_rune(p, ret);
	if (n == 0 || *ret >= RUNE_FOREIGN || !p[n])
		return NULL;
	return p + n;
}

const char *fsync_class(const char *p, uint32_t r, bool *ret)
{
	bool negated = *p == '^', in = false;
	if (negated)
		p++;
	for (size_t n = 0; n == 0 || *p != ']'; n++) {
		uint32_t lo = 0, hi;
		p = class_rune(p, &lo);
		if (!p)
			return NULL;
		hi = lo;
		if (*p == '-') {
			p = class_rune(p + 1, &hi);
			if (!p)
				return NULL;
		}
		in = in || (lo <= r && r <= hi);
	}
	*ret = in != negated;
	return p + 1;
}

bool fsync_glob_valid(const char *p)
{
	while (*p) {
		bool in;
		char c = *p++;
		if (c == '\\' && !*p++)
			return false;
		if (c == '[') {
			p = fsync_class(p, 0, &in);
			if (!p)
				return false;
		}
	}
	return true;
}

/* Matches one unit of a valid pattern other than '*' at s; moves both on. */
static bool match_one(const char **p, const char **s)
{
	uint32_t r = 0, want = 0;
	size_t n = fsync_rune(*s, &r);
	if (n == 0)
		return false;
	bool in = false;
	switch (**p) {
	case '?':
		in = r != '/';
		(*p)++;
		break;
	case '[':
		*p = fsync_class(*p + 1, r, &in);
		in = in && r != '/';
		break;
	default:
		if (**p == '\\')
			(*p)++;
		*p += fsync_rune(*p, &want);
		in = r == want;
		break;
	}
	*s += n;
	return in;
}

bool fsync_glob_match(const char *p, const char *s)
{
	/* Going back to the last star suffices: none crosses a '/', and within a component it is
	 * the usual argument. */
	const char *star = NULL, *star_s = NULL;
	for (;;) {
		if (*p == '*') {
			star = ++p;
			star_s = s;
			continue;
		}
		if (!*p && !*s)
			return true;
		const char *q = p, *t = s;
		if (*p && match_one(&q, &t)) {
			p = q;
			s = t;
			continue;
		}
		uint32_t r;
		if (!star || !*star_s || *star_s == '/')
			return false;
		star_s += fsync_rune(star_s, &r);
		p = star;
		s = star_s;
	}
}

int bxc_glob_match(const char *pattern, const char *path, bool *ret, bxc_err **err)
{
	if (!fsync_glob_valid(pattern))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "syntax error in pattern: '%s'", pattern);
	*ret = fsync_glob_match(pattern, path);
	return 0;
}

bool bxc_glob_has_meta(const char *pattern)
{
	return strpbrk(pattern, "*?[\\") != NULL;
}

size_t bxc_glob_component(const char *pattern)
{
	const char *p = pattern;
	while (*p && *p != '/') {
		bool in;
		const char *end = *p == '[' ? fsync_class(p + 1, 0, &in) : NULL;
		if (*p == '\\' && p[1])
			p++;
		p = end ? end : p + 1;
	}
	return (size_t)(p - pattern);
}

char *fsync_clean(const char *p)
{
	size_t n = strlen(p);
	char *out = bxc_malloc(n + 2);
	bool rooted = *p == '/';
	size_t w = 0, keep; /* keep: what ".." must not take away */
	if (rooted)
		out[w++] = '/';
	keep = w;
	while (*p) {
		size_t k = strcspn(p, "/");
		if (k == 2 && p[0] == '.' && p[1] == '.') {
			if (w > keep) {
				while (w > keep && out[w - 1] != '/')
					w--;
				if (w > keep)
					w--;
			} else if (!rooted) {
				if (w)
					out[w++] = '/';
				out[w++] = '.';
				out[w++] = '.';
				keep = w;
			}
		} else if (k && !(k == 1 && p[0] == '.')) {
			if (w > (rooted ? 1u : 0u))
				out[w++] = '/';
			memcpy(out + w, p, k);
			w += k;
		}
		p += k;
		while (*p == '/')
			p++;
	}
	if (w == 0)
		out[w++] = '.';
	out[w] = '\0';
	return out;
}

char *bxc_path_clean(const char *p)
{
	BXC_AUTOFREE char *rooted = bxc_str_fmt("/%s", p);
	return fsync_clean(rooted);
}
