/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/secret.h"

#include <string.h>
#include <sys/mman.h>

#include "common/base/mem.h"

struct bxc_secret {
	uint8_t *map;
	size_t map_len;
	size_t n;
};

bxc_secret *bxc_secret_new(const void *p, size_t n)
{
	bxc_secret *s = bxc_calloc(1, sizeof(*s));
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	s->n = n;
	s->map_len = (n + 1 + page - 1) / page * page;
	s->map = mmap(NULL, s->map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bxc_check(s->map != MAP_FAILED);
	bxc_ignore(madvise(s->map, s->map_len, MADV_DONTDUMP));
	/* Beyond the limit of locked memory a secret is one that may be swapped out. */
	bxc_ignore(mlock(s->map, s->map_len));
	if (n)
		memcpy(s->map, p, n);
	return s;
}

bxc_slice bxc_secret_bytes(const bxc_secret *s)
{
	return (bxc_slice){s->map, s->n};
}

bool bxc_secret_eq(const bxc_secret *s, const void *p, size_t n)
{
	const volatile uint8_t *a = s->map;
	const uint8_t *b = p;
	uint8_t diff = 0;
	if (n != s->n)
		return false;
	for (size_t i = 0; i < n; i++)
		diff |= (uint8_t)(a[i] ^ b[i]);
	return diff == 0;
}

void bxc_secret_free(bxc_secret *s)
{
	if (!s)
		return;
	explicit_bzero(s->map, s->map_len);
	munmap(s->map, s->map_len);
	free(s);
}
