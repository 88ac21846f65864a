/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/rand.h"

#include <errno.h>
#include <sys/random.h>

#include "common/base/mem.h"

void bxc_rand_bytes(void *p, size_t n)
{
	uint8_t *b = p;
	while (n) {
		ssize_t k = getrandom(b, n, 0);
		if (k < 0 && errno == EINTR)
			continue;
		bxc_check(k > 0);
		b += k;
		n -= (size_t)k;
	}
}

char *bxc_rand_hex(size_t n_bytes)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t raw[64];
	bxc_check(n_bytes <= sizeof(raw));
	bxc_rand_bytes(raw, n_bytes);
	char *s = bxc_malloc(2 * n_bytes + 1);
	for (size_t i = 0; i < n_bytes; i++) {
		s[2 * i] = digits[raw[i] >> 4];
		s[2 * i + 1] = digits[raw[i] & 15];
	}
	s[2 * n_bytes] = '\0';
	return s;
}
