/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/utf8.h"

#include <string.h>

size_t bxc_utf8_next(const uint8_t *p, size_t n, uint32_t *ret_rune)
{
	if (n == 0)
		return 0;
	uint32_t c = p[0], min;
	size_t len;
	if (c < 0x80) {
		*ret_rune = c;
		return 1;
	}
	if ((c & 0xe0) == 0xc0) {
		len = 2;
		c &= 0x1f;
		min = 0x80;
	} else if ((c & 0xf0) == 0xe0) {
		len = 3;
		c &= 0x0f;
		min = 0x800;
	} else if ((c & 0xf8) == 0xf0) {
		len = 4;
		c &= 0x07;
		min = 0x10000;
	} else {
		return 0;
	}
	if (n < len)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*ret_rune = c;
	return len;
}

bool bxc_utf8_valid(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint32_t rune;
	uint64_t eight;
	while (n) {
		/* Nearly all text is ASCII. */
		while (n >= sizeof(eight)) {
			memcpy(&eight, b, sizeof(eight));
			if (eight & UINT64_C(0x8080808080808080))
				break;
			b += sizeof(eight);
			n -= sizeof(eight);
		}
		while (n && *b < 0x80) {
			b++;
			n--;
		}
		if (n == 0)
			break;
		size_t k = bxc_utf8_next(b, n, &rune);
		if (k == 0)
			return false;
		b += k;
		n -= k;
	}
	return true;
}

char *bxc_utf8_cut(char *s, size_t max_bytes)
{
	size_t n = max_bytes;
	if (strlen(s) <= n)
		return s;
	while (n && ((uint8_t)s[n] & 0xc0) == 0x80)
		n--;
	s[n] = '\0';
	return s;
}
