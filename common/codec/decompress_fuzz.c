/* SPDX-License-Identifier: Apache-2.0 */
/* First byte: algorithm and size of a write. In whatever pieces, the outcome must be the same. */
#include "common/codec/compress.h"
#include "common/codec/digest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_OUT (1u << 20)

static int hash_sink(const void *p, size_t n, void *ud, bxc_err **err)
{
	(void)err;
	bxc_hasher_update(ud, p, n);
	return 0;
}

static int run(bxc_compression c, const uint8_t *p, size_t n, size_t step, bxc_digest *ret)
{
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	BXC_CLEANUP(bxc_decompressor_freep) bxc_decompressor *d = NULL;
	int r = bxc_decompressor_new(c, MAX_OUT, hash_sink, h, &d, NULL);
	for (size_t i = 0; r == 0 && i < n; i += step)
		r = bxc_decompressor_write(d, p + i, BXC_MIN(step, n - i), NULL);
	if (r == 0)
		r = bxc_decompressor_finish(d, NULL);
	*ret = bxc_hasher_final(h);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	bxc_compression c = data[0] & 1 ? BXC_COMPRESSION_ZSTD : BXC_COMPRESSION_GZIP;
	size_t step = (size_t)(data[0] >> 1) + 1;
	bxc_digest a, b;
	int r = run(c, data + 1, size - 1, size, &a);
	int q = run(c, data + 1, size - 1, step, &b);
	bxc_check((r == 0) == (q == 0));
	bxc_check(r < 0 || bxc_digest_eq(&a, &b));
	return 0;
}
