/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/rand.h"

#include <errno.h>
#include <sys/random.h>

#include "common/base/mem.h"
#include "common/base/str.h"

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
	uint8_t raw[64];
	bxc_check(n_bytes <= sizeof(raw));
	bxc_rand_bytes(raw, n_bytes);
	char *s = bxc_malloc(2 * n_bytes + 1);
	bxc_str_put_hex(s, raw, n_bytes);
	return s;
}
