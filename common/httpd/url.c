/* SPDX-License-Identifier: Apache-2.0 */
/* Request targets, path patterns, Range headers. */
#include "common/httpd/httpd_internal.h"

#include <string.h>
#include <strings.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define SEGMENTS_MAX 64u
#define QUERY_MAX    256u /* parameters */

void bxc_httpd__pairs_done(httpd_pairs *p)
{
	BXC_ARR_FOREACH (it, p) {
		free(it->name);
		free(it->value);
	}
	bxc_arr_done(p);
}

void bxc_httpd__target_done(httpd_target *t)
{
	free(t->path);
	bxc_strv_free(t->segments);
	bxc_httpd__pairs_done(&t->query);
	*t = (httpd_target){0};
}

/* %XX, and '+' as a blank in queries; owned, or NULL for a bad escape or a NUL. */
static char *decode(const char *s, size_t n, bool is_query)
{
	BXC_AUTOFREE char *out = bxc_malloc(n + 1);
	size_t k = 0;
	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		if (c == '%') {
			int hi = n - i > 2 ? bxc_str_hex_value(s[i + 1]) : -1;
			int lo = hi >= 0 ? bxc_str_hex_value(s[i + 2]) : -1;
			if (hi < 0 || lo < 0 || (hi == 0 && lo == 0))
				return NULL;
			c = (char)(hi * 16 + lo);
			i += 2;
		} else if (c == '+' && is_query) {
			c = ' ';
		}
		out[k++] = c;
	}
	out[k] = '\0';
	return BXC_TAKE(out);
}

static int parse_path(httpd_target *t, bxc_err **err)
{
	const char *p = t->path;
	size_t count = 0;
	do {
		p++;
		size_t n = strcspn(p, "/");
		char *s = decode(p, n, false);
		if (!s)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid escape in the path");
		bxc_strv_push_take(&t->segments, s);
		if (bxc_str_eq(s, ".") || bxc_str_eq(s, ".."))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%s' in the path", s);
		if (++count > SEGMENTS_MAX)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"the path has more than %u segments", SEGMENTS_MAX);
		p += n;
	} while (*p);
	return 0;
}

static int parse_query(const char *q, httpd_target *t, bxc_err **err)
{
	while (*q) {
		size_t n = strcspn(q, "&"), name_n = BXC_MIN(n, strcspn(q, "="));
		if (n) {
			if (t->query.n == QUERY_MAX)
				return bxc_err_set(err, BXC_INVALID_ARGUMENT,
					"the query has more than %u parameters", QUERY_MAX);
			httpd_pair *p = bxc_arr_push(&t->query);
			p->name = decode(q, name_n, true);
			p->value = name_n < n ? decode(q + name_n + 1, n - name_n - 1, true)
					      : bxc_strdup("");
			if (!p->name || !p->value)
				return bxc_err_set(
					err, BXC_INVALID_ARGUMENT, "invalid escape in the query");
		}
		q += n + (q[n] == '&');
	}
	return 0;
}

int bxc_httpd__target_parse(const char *text, httpd_target *ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_httpd__target_done) httpd_target t = {0};
	const char *authority = strncasecmp(text, "http://", 7) == 0	? text + 7
				: strncasecmp(text, "https://", 8) == 0 ? text + 8
									: NULL;
	if (authority)
		text = authority + strcspn(authority, "/?#");
	size_t n = strcspn(text, "?#");
	/* "http://host" alone means its root. */
	t.path = authority && n == 0 ? bxc_strdup("/") : bxc_strndup(text, n);
	if (t.path[0] != '/')
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the path does not begin with '/'");
	int r = parse_path(&t, err);
	if (r >= 0 && text[n] == '?') {
		BXC_AUTOFREE char *q = bxc_strndup(text + n + 1, strcspn(text + n + 1, "#"));
		r = parse_query(q, &t, err);
	}
	if (r < 0)
		return r;
	*ret = t;
	t = (httpd_target){0};
	return 0;
}

bool bxc_httpd__match(const char *pattern, const httpd_target *t, httpd_pairs *params)
{
	httpd_pairs found = {0};
	char *const *seg = t->segments;
	const char *p = pattern;
	bool ok = *p == '/';
	while (ok && *p) {
		p++;
		size_t n = strcspn(p, "/");
		if (!seg || !*seg) {
			ok = false;
		} else if (n >= 2 && p[0] == '{' && p[n - 1] == '}') {
			ok = **seg != '\0';
			*bxc_arr_push(&found) =
				(httpd_pair){bxc_strndup(p + 1, n - 2), bxc_strdup(*seg)};
		} else {
			ok = strlen(*seg) == n && memcmp(*seg, p, n) == 0;
		}
		if (ok)
			seg++;
		p += n;
	}
	ok = ok && seg && !*seg;
	if (!ok) {
		bxc_httpd__pairs_done(&found);
		return false;
	}
	bxc_httpd__pairs_done(params);
	*params = found;
	return true;
}

/* Digits up to `end`; false when there are none or something else. */
static bool parse_pos(const char *s, const char *end, uint64_t *ret)
{
	BXC_AUTOFREE char *copy = bxc_strndup(s, (size_t)(end - s));
	if (copy[0] == '\0' || strspn(copy, "0123456789") != strlen(copy))
		return false;
	/* Beyond 64 bits is beyond every file. */
	if (bxc_str_to_u64(copy, 0, UINT64_MAX, ret, NULL) < 0)
		*ret = UINT64_MAX;
	return true;
}

httpd_range bxc_httpd__range_parse(
	const char *s, uint64_t size, uint64_t *ret_first, uint64_t *ret_last)
{
	uint64_t first, last;
	if (!s || strncasecmp(s, "bytes=", 6) != 0)
		return HTTPD_RANGE_NONE;
	s += 6;
	const char *end = s + strlen(s), *dash = strchr(s, '-');
	while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	while (s < end && (*s == ' ' || *s == '\t'))
		s++;
	/* Several ranges would need a multipart body: all bytes are a valid answer too. */
	if (!dash || dash >= end || strchr(s, ','))
		return HTTPD_RANGE_NONE;
	if (dash == s) {
		uint64_t tail;
		if (!parse_pos(dash + 1, end, &tail))
			return HTTPD_RANGE_NONE;
		if (tail == 0 || size == 0)
			return HTTPD_RANGE_UNSATISFIABLE;
		*ret_first = tail >= size ? 0 : size - tail;
		*ret_last = size - 1;
		return HTTPD_RANGE_OK;
	}
	if (!parse_pos(s, dash, &first))
		return HTTPD_RANGE_NONE;
	if (dash + 1 == end)
		last = UINT64_MAX;
	else if (!parse_pos(dash + 1, end, &last) || last < first)
		return HTTPD_RANGE_NONE;
	if (first >= size)
		return HTTPD_RANGE_UNSATISFIABLE;
	*ret_first = first;
	*ret_last = BXC_MIN(last, size - 1);
	return HTTPD_RANGE_OK;
}
