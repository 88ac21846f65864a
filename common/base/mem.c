/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/mem.h"

#include <string.h>

static BXC_NORETURN void oom(void)
{
	static const char msg[] = "bxc: out of memory\n";
	bxc_ignore(write(STDERR_FILENO, msg, sizeof(msg) - 1));
	abort();
}

void bxc_check_failed(const char *expr, const char *file, int line, const char *func)
{
	dprintf(STDERR_FILENO, "bxc: check failed: %s (%s:%d, %s)\n", expr, file, line, func);
	abort();
}

void *bxc_malloc(size_t n)
{
	void *p = malloc(n ? n : 1);
	if (!p)
		oom();
	return p;
}

void *bxc_calloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);
	if (!p)
		oom();
	return p;
}

void *bxc_realloc(void *p, size_t n)
{
	void *q = realloc(p, n ? n : 1);
	if (!q)
		oom();
	return q;
}

void *bxc_reallocarray(void *p, size_t n, size_t size)
{
	size_t total;
	if (__builtin_mul_overflow(n, size, &total))
		oom();
	return bxc_realloc(p, total);
}

char *bxc_strdup(const char *s)
{
	return s ? bxc_memdup(s, strlen(s) + 1) : NULL;
}

char *bxc_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = bxc_malloc(len + 1);
	memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

void *bxc_memdup(const void *p, size_t n)
{
	void *q = bxc_malloc(n);
	if (n)
		memcpy(q, p, n);
	return q;
}

int bxc_try_alloc(size_t n, size_t limit, void **ret, bxc_err **err)
{
	if (n > limit)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"refusing to allocate %zu bytes (limit %zu)", n, limit);
	void *p = malloc(n ? n : 1);
	if (!p)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "out of memory for %zu bytes", n);
	*ret = p;
	return 0;
}
