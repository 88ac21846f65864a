/* SPDX-License-Identifier: Apache-2.0 */
#include "common/codec/base64.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *bxc_base64_encode(const void *p, size_t n)
{
	const uint8_t *b = p;
	bxc_check(n < SIZE_MAX / 2);
	char *out = bxc_malloc((n + 2) / 3 * 4 + 1), *o = out;
	while (n) {
		size_t k = BXC_MIN(n, (size_t)3);
		uint32_t v = (uint32_t)b[0] << 16 | (k > 1 ? (uint32_t)b[1] << 8 : 0) |
			     (k > 2 ? b[2] : 0u);
		*o++ = alphabet[v >> 18];
		*o++ = alphabet[v >> 12 & 63];
		*o++ = k > 1 ? alphabet[v >> 6 & 63] : '=';
		*o++ = k > 2 ? alphabet[v & 63] : '=';
		b += k;
		n -= k;
	}
	*o = '\0';
	return out;
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	if (c == '/' || c == '_')
		return 63;
	return -1;
}

int bxc_base64_decode(const char *s, size_t max_bytes, bxc_buf *out, bxc_err **err)
{
	size_t n = strlen(s), pad = 0;
	while (n && pad < 2 && s[n - 1] == '=') {
		n--;
		pad++;
	}
	/* One leftover digit carries no byte; padding, where given, must be the right one. */
	if (n % 4 == 1 || (pad && (n + pad) % 4 != 0))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid base64: cut off");
	size_t len = n / 4 * 3 + (n % 4 ? n % 4 - 1 : 0);
	if (len > max_bytes)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"base64 of %zu bytes, more than %zu", len, max_bytes);
	for (size_t i = 0; i < n; i++)
		if (base64_value(s[i]) < 0)
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "invalid base64 at byte %zu", i);
	int r = bxc_buf_reserve(out, len, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i += 4) {
		size_t k = BXC_MIN(n - i, (size_t)4);
		uint32_t v = 0;
		for (size_t j = 0; j < 4; j++)
			v = v << 6 | (j < k ? (uint32_t)base64_value(s[i + j]) : 0);
		uint8_t b[3] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
		if ((k == 2 && (v & 0xffff)) || (k == 3 && (v & 0xff)))
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "invalid base64: stray bits at the end");
		bxc_buf_add(out, b, k - 1);
	}
	return 0;
}

char *bxc_hex_encode(const void *p, size_t n)
{
	char *out = bxc_reallocarray(NULL, n + 1, 2);
	bxc_str_put_hex(out, p, n);
	return out;
}

int bxc_hex_decode(const char *s, uint8_t *out, size_t n, bxc_err **err)
{
	if (strlen(s) != n * 2)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"expected %zu hexadecimal digits, got %zu", n * 2, strlen(s));
	for (size_t i = 0; i < n; i++) {
		int hi = bxc_str_hex_value(s[2 * i]), lo = bxc_str_hex_value(s[2 * i + 1]);
		if (hi < 0 || lo < 0)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"invalid hexadecimal digit at byte %zu", 2 * i);
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}
