/* SPDX-License-Identifier: Apache-2.0 */
/* Paths and ranges: what comes from outside, without I/O. */
#include "common/httpd/httpd_internal.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

/* Percent-decoded copy of n bytes, or NULL for a bad escape or a NUL. */
static char *decode(const char *p, size_t n)
{
	char *out = bxc_malloc(n + 1);
	size_t k = 0;
	for (size_t i = 0; i < n; i++) {
		char c = p[i];
		if (c == '%') {
			int a = i + 2 < n ? bxc_str_hex_value(p[i + 1]) : -1;
			int b = a >= 0 ? bxc_str_hex_value(p[i + 2]) : -1;
			if (a < 0 || b < 0) {
				free(out);
				return NULL;
			}
			c = (char)(a * 16 + b);
			i += 2;
		}
		if (!c) {
			free(out);
			return NULL;
		}
		out[k++] = c;
	}
	out[k] = '\0';
	return out;
}

bool httpd_match(const char *pattern, const char *path, bxc_httpd_req *r)
{
	while (*pattern && *path) {
		if (*pattern == '{') {
			size_t name = strcspn(pattern + 1, "}"), n = strcspn(path, "/");
			char *value = n ? decode(path, n) : NULL;
			if (!value)
				return false;
			*bxc_arr_push(&r->params) = (param){bxc_strndup(pattern + 1, name), value};
			pattern += name + 2;
			path += n;
			continue;
		}
		if (*pattern++ != *path++)
			return false;
	}
	return !*pattern && !*path;
}

int httpd_parse_range(const char *header, uint64_t size, uint64_t *first, uint64_t *last)
{
	static const char unit[] = "bytes=";
	if (!header || strncmp(header, unit, strlen(unit)) != 0 || strchr(header, ','))
		return 0;
	const char *spec = header + strlen(unit), *dash = strchr(spec, '-');
	if (!dash)
		return 0;
	BXC_AUTOFREE char *a = bxc_strndup(spec, (size_t)(dash - spec));
	const char *b = dash + 1;
	uint64_t from = 0, to = size ? size - 1 : 0;
	if (!*a) {
		uint64_t suffix;
		if (bxc_str_to_u64(b, 0, UINT64_MAX, &suffix, NULL) < 0)
			return 0;
		if (suffix == 0 || size == 0)
			return -1;
		from = suffix >= size ? 0 : size - suffix;
	} else {
		if (bxc_str_to_u64(a, 0, UINT64_MAX, &from, NULL) < 0)
			return 0;
		if (*b && (bxc_str_to_u64(b, 0, UINT64_MAX, &to, NULL) < 0 || to < from))
			return 0;
		if (from >= size)
			return -1;
		to = BXC_MIN(to, size - 1);
	}
	*first = from;
	*last = to;
	return 1;
}
