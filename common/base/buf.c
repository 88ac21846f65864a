/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/buf.h"

#include <stdarg.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

void bxc_buf_init(bxc_buf *b, size_t max_bytes)
{
	*b = (bxc_buf)BXC_BUF_INIT(max_bytes);
}

void bxc_buf_done(bxc_buf *b)
{
	free(b->data);
	*b = (bxc_buf)BXC_BUF_INIT(b->max_bytes);
}

void bxc_buf_clear(bxc_buf *b)
{
	b->len = 0;
	if (b->data)
		b->data[0] = 0;
}

int bxc_buf_reserve(bxc_buf *b, size_t extra, bxc_err **err)
{
	bxc_check(b->max_bytes > 0);
	if (extra > b->max_bytes || b->len > b->max_bytes - extra)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %zu bytes", b->max_bytes);
	size_t need = b->len + extra + 1;
	if (need <= b->cap)
		return 0;
	size_t cap = b->cap ? b->cap : 64;
	while (cap < need)
		cap *= 2;
	b->data = bxc_realloc(b->data, cap);
	b->cap = cap;
	b->data[b->len] = 0;
	return 0;
}

int bxc_buf_append(bxc_buf *b, const void *p, size_t n, bxc_err **err)
{
	int r = bxc_buf_reserve(b, n, err);
	if (r < 0)
		return r;
	if (n)
		memcpy(b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = 0;
	return 0;
}

int bxc_buf_appendf(bxc_buf *b, bxc_err **err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	BXC_AUTOFREE char *s = bxc_str_vfmt(fmt, ap);
	va_end(ap);
	return bxc_buf_append(b, s, strlen(s), err);
}

void bxc_buf_add(bxc_buf *b, const void *p, size_t n)
{
	bxc_check(bxc_buf_append(b, p, n, NULL) == 0);
}

void bxc_buf_adds(bxc_buf *b, const char *s)
{
	bxc_buf_add(b, s, strlen(s));
}

void bxc_buf_addf(bxc_buf *b, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	BXC_AUTOFREE char *s = bxc_str_vfmt(fmt, ap);
	va_end(ap);
	bxc_buf_adds(b, s);
}

void bxc_buf_drop_front(bxc_buf *b, size_t n)
{
	bxc_check(n <= b->len);
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
	b->data[b->len] = 0;
}

const char *bxc_buf_text(const bxc_buf *b)
{
	return b->data ? (const char *)b->data : "";
}

char *bxc_buf_steal(bxc_buf *b)
{
	char *s = b->data ? (char *)b->data : bxc_strdup("");
	*b = (bxc_buf)BXC_BUF_INIT(b->max_bytes);
	return s;
}
