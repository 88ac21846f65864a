/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <strings.h>

#include "common/base/mem.h"

char *bxc_str_vfmt(const char *fmt, va_list ap)
{
	char *s = NULL;
	bxc_check(vasprintf(&s, fmt, ap) >= 0);
	return s;
}

char *bxc_str_fmt(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	char *s = bxc_str_vfmt(fmt, ap);
	va_end(ap);
	return s;
}

char *bxc_str_concat_(const char *first, ...)
{
	va_list ap;
	size_t n = 0;
	va_start(ap, first);
	for (const char *s = first; s; s = va_arg(ap, const char *))
		n += strlen(s);
	va_end(ap);
	char *out = bxc_malloc(n + 1), *end = out;
	va_start(ap, first);
	for (const char *s = first; s; s = va_arg(ap, const char *))
		end = stpcpy(end, s);
	va_end(ap);
	*end = '\0';
	return out;
}

bool bxc_str_has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool bxc_str_has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);
	return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool bxc_str_eq_nocase(const char *a, const char *b)
{
	return a == b || (a && b && strcasecmp(a, b) == 0);
}

char *bxc_str_lower(char *s)
{
	for (char *p = s; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	return s;
}

char *bxc_str_upper(char *s)
{
	for (char *p = s; *p; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
	return s;
}

char *bxc_str_put_hex(char *out, const void *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;
	for (size_t i = 0; i < n; i++) {
		*out++ = digits[b[i] >> 4];
		*out++ = digits[b[i] & 15];
	}
	*out = '\0';
	return out;
}

int bxc_str_hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}

char *bxc_str_one_line(char *s)
{
	for (char *c = s; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
	return s;
}

char *bxc_str_trim(char *s)
{
	while (is_blank(*s))
		s++;
	size_t n = strlen(s);
	while (n && is_blank(s[n - 1]))
		s[--n] = '\0';
	return s;
}

bool bxc_str_is_clean_path(const char *s, size_t n)
{
	for (;;) {
		const char *slash = n ? memchr(s, '/', n) : NULL;
		size_t k = slash ? (size_t)(slash - s) : n;
		if (k == 0 || (k == 1 && s[0] == '.') || (k == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		if (!slash)
			return true;
		s = slash + 1;
		n -= k + 1;
	}
}

#define NEAREST_MAX_LEN 64

static size_t edit_distance(const char *a, size_t n, const char *b, size_t m)
{
	size_t row[NEAREST_MAX_LEN + 1];
	for (size_t j = 0; j <= m; j++)
		row[j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t diag = row[0];
		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t up = row[j];
			size_t subst = diag + (tolower((unsigned char)a[i - 1]) !=
						      tolower((unsigned char)b[j - 1]));
			row[j] = BXC_MIN(subst, BXC_MIN(up, row[j - 1]) + 1);
			diag = up;
		}
	}
	return row[m];
}

const char *bxc_str_nearest(const char *word, const char *const *candidates, size_t n)
{
	size_t len = strlen(word), best = SIZE_MAX;
	const char *found = NULL;
	if (len > NEAREST_MAX_LEN)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t m = strlen(candidates[i]);
		if (m > NEAREST_MAX_LEN)
			continue;
		size_t d = edit_distance(word, len, candidates[i], m);
		if (d < best) {
			best = d;
			found = candidates[i];
		}
	}
	return best <= (len <= 4 ? 2 : 3) && best < len ? found : NULL;
}

int bxc_str_to_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret, bxc_err **err)
{
	uint64_t v = 0;
	if (bxc_str_empty(s))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "expected a number, got nothing");
	for (const char *p = s; *p; p++) {
		if (*p < '0' || *p > '9')
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%.64s' is not a number", s);
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return bxc_err_set(err, BXC_OUT_OF_RANGE, "'%.64s' is too large", s);
	}
	if (v < min || v > max)
		return bxc_err_set(err, BXC_OUT_OF_RANGE,
			"%" PRIu64 " is not between %" PRIu64 " and %" PRIu64, v, min, max);
	*ret = v;
	return 0;
}

int bxc_str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret, bxc_err **err)
{
	bool neg = s && *s == '-';
	uint64_t u = 0;
	uint64_t limit = neg ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
	int r = bxc_str_to_u64(neg ? s + 1 : s, 0, limit, &u, err);
	if (r < 0)
		return r;
	int64_t v = neg ? (u == (uint64_t)INT64_MAX + 1 ? INT64_MIN : -(int64_t)u) : (int64_t)u;
	if (v < min || v > max)
		return bxc_err_set(err, BXC_OUT_OF_RANGE,
			"%" PRId64 " is not between %" PRId64 " and %" PRId64, v, min, max);
	*ret = v;
	return 0;
}

int bxc_str_to_octal(const char *s, uint32_t max, uint32_t *ret, bxc_err **err)
{
	uint32_t v = 0;
	if (bxc_str_empty(s))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "expected an octal number, got nothing");
	for (const char *p = s; *p; p++) {
		if (*p < '0' || *p > '7')
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%.64s' is not an octal number", s);
		v = v * 8 + (uint32_t)(*p - '0');
		if (v > max)
			return bxc_err_set(err, BXC_OUT_OF_RANGE, "'%.64s' is larger than %o", s, max);
	}
	*ret = v;
	return 0;
}

int bxc_str_to_bool(const char *s, bool *ret, bxc_err **err)
{
	if (bxc_str_eq_nocase(s, "true") || bxc_str_eq(s, "1")) {
		*ret = true;
		return 0;
	}
	if (bxc_str_eq_nocase(s, "false") || bxc_str_eq(s, "0")) {
		*ret = false;
		return 0;
	}
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%.64s' is neither true nor false", s ? s : "");
}

/* A decimal with an optional fraction, times `unit`, rounded down. */
static bool scaled(const char *s, size_t n, uint64_t unit, uint64_t *ret)
{
	uint64_t whole = 0, frac = 0, div = 1;
	size_t i = 0;
	if (n == 0)
		return false;
	for (; i < n && s[i] != '.'; i++) {
		if (s[i] < '0' || s[i] > '9' || __builtin_mul_overflow(whole, (uint64_t)10, &whole) ||
			__builtin_add_overflow(whole, (uint64_t)(s[i] - '0'), &whole))
			return false;
	}
	for (i++; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		if (div < 1000000) {
			frac = frac * 10 + (uint64_t)(s[i] - '0');
			div *= 10;
		}
	}
	uint64_t v, part;
	if (__builtin_mul_overflow(whole, unit, &v))
		return false;
	if (__builtin_mul_overflow(frac, unit, &part))
		part = frac * (unit / div);
	else
		part /= div;
	return !__builtin_add_overflow(v, part, ret);
}

/* "<number>[ ][k|m|g|t|p][i][b]" in bytes. */
static bool parse_bytes(const char *s, uint64_t *ret)
{
	static const char letters[] = "kmgtp";
	size_t n = strspn(s, "0123456789.");
	uint64_t unit = 1;
	const char *p = s + n;
	if (*p == ' ')
		p++;
	const char *l = *p ? strchr(letters, tolower((unsigned char)*p)) : NULL;
	if (l) {
		unit = (uint64_t)1 << (10 * (l - letters + 1));
		p++;
		if (*p == 'i')
			p++;
	}
	if (*p == 'b' || *p == 'B')
		p++;
	return !*p && scaled(s, n, unit, ret);
}

int bxc_str_to_bytes(const char *s, uint64_t max, uint64_t *ret, bxc_err **err)
{
	uint64_t v;
	if (!s || !parse_bytes(s, &v))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"'%.64s' is not a size (use a number with an optional k, m, g or t)", s ? s : "");
	if (v > max)
		return bxc_err_set(err, BXC_OUT_OF_RANGE, "size '%.64s' is larger than %" PRIu64 " bytes", s, max);
	*ret = v;
	return 0;
}

int bxc_str_to_duration_ns(const char *s, int64_t *ret, bxc_err **err)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000},
		{"m", 60000000000}, {"h", 3600000000000}};
	uint64_t total = 0;
	const char *p = s ? s : "";
	if (bxc_str_eq(s, "0")) {
		*ret = 0;
		return 0;
	}
	do {
		size_t n = strspn(p, "0123456789.");
		size_t m = strcspn(p + n, "0123456789.");
		uint64_t v = 0;
		bool ok = false;
		for (size_t i = 0; n && i < BXC_ARRAY_SIZE(units); i++)
			if (strlen(units[i].name) == m && memcmp(units[i].name, p + n, m) == 0)
				ok = scaled(p, n, units[i].ns, &v);
		if (!ok || __builtin_add_overflow(total, v, &total) || total > INT64_MAX)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"'%.64s' is not a duration (like 90s, 10m, 1h30m)", s ? s : "");
		p += n + m;
	} while (*p);
	*ret = (int64_t)total;
	return 0;
}

size_t bxc_strv_len(char *const *v)
{
	size_t n = 0;
	while (v && v[n])
		n++;
	return n;
}

void bxc_strv_push_take(char ***v, char *s)
{
	size_t n = bxc_strv_len(*v);
	*v = bxc_reallocarray(*v, n + 2, sizeof(char *));
	(*v)[n] = s;
	(*v)[n + 1] = NULL;
}

void bxc_strv_push(char ***v, const char *s)
{
	bxc_strv_push_take(v, bxc_strdup(s));
}

void bxc_strv_pushf(char ***v, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	bxc_strv_push_take(v, bxc_str_vfmt(fmt, ap));
	va_end(ap);
}

char **bxc_strv_dup(char *const *v)
{
	if (!v)
		return NULL;
	size_t n = bxc_strv_len(v);
	char **c = bxc_calloc(n + 1, sizeof(char *));
	for (size_t i = 0; i < n; i++)
		c[i] = bxc_strdup(v[i]);
	return c;
}

bool bxc_strv_has(char *const *v, const char *s)
{
	for (; v && *v; v++)
		if (strcmp(*v, s) == 0)
			return true;
	return false;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void bxc_strv_sort(char **v)
{
	size_t n = bxc_strv_len(v);
	if (n)
		qsort(v, n, sizeof(*v), by_bytes);
}

bool bxc_strv_eq(char *const *a, char *const *b)
{
	size_t n = bxc_strv_len(a);
	if (n != bxc_strv_len(b))
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(a[i], b[i]) != 0)
			return false;
	return true;
}

char *bxc_strv_join(char *const *v, const char *sep)
{
	size_t len = 1, seplen = strlen(sep);
	for (size_t i = 0; v && v[i]; i++)
		len += strlen(v[i]) + seplen;
	char *s = bxc_malloc(len), *p = s;
	for (size_t i = 0; v && v[i]; i++) {
		if (i)
			p = mempcpy(p, sep, seplen);
		p = mempcpy(p, v[i], strlen(v[i]));
	}
	*p = '\0';
	return s;
}

char **bxc_strv_split(const char *s, char sep)
{
	char **v = NULL;
	size_t n = 0, cap = 0;
	for (;;) {
		const char *e = strchrnul(s, sep);
		if (n + 2 > cap) {
			cap = cap ? cap * 2 : 8;
			v = bxc_reallocarray(v, cap, sizeof(char *));
		}
		v[n++] = bxc_strndup(s, (size_t)(e - s));
		v[n] = NULL;
		if (!*e)
			return v;
		s = e + 1;
	}
}

void bxc_strv_free(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

/* The index of the variable; SIZE_MAX: it is not set. */
static size_t env_find(char *const *env, const char *key)
{
	size_t n = strlen(key);
	for (size_t i = 0; env && env[i]; i++)
		if (strncmp(env[i], key, n) == 0 && env[i][n] == '=')
			return i;
	return SIZE_MAX;
}

const char *bxc_env_get(char *const *env, const char *key)
{
	size_t i = env_find(env, key);
	return i == SIZE_MAX ? NULL : env[i] + strlen(key) + 1;
}

void bxc_env_set(char ***env, const char *key, const char *value)
{
	char *kv = bxc_str_fmt("%s=%s", key, value);
	size_t i = env_find(*env, key);
	if (i == SIZE_MAX) {
		bxc_strv_push_take(env, kv);
	} else {
		free((*env)[i]);
		(*env)[i] = kv;
	}
}

void bxc_env_unset(char ***env, const char *key)
{
	size_t i = env_find(*env, key);
	if (i == SIZE_MAX)
		return;
	free((*env)[i]);
	for (; (*env)[i]; i++)
		(*env)[i] = (*env)[i + 1];
}
