/* SPDX-License-Identifier: Apache-2.0 */
/* The first line is a secret, the rest what a step prints. */
#include <string.h>

#include "common/base/mem.h"
#include "worker/exec/exec_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void append(const void *p, size_t n, void *ud)
{
	bxc_buf_add(ud, p, n);
}

static void feed(const bxc_exec__masks *masks, bxc_slice text, size_t step, bxc_buf *out)
{
	bxc_exec__mask *m = bxc_exec__mask_new(masks);
	for (size_t i = 0; i < text.n; i += step)
		bxc_exec__mask_feed(m, text.p + i, BXC_MIN(step, text.n - i), append, out);
	bxc_exec__mask_end(m, append, out);
	bxc_exec__mask_free(m);
}

/* However the output is cut, it comes out the same, and without the secret. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nl = size ? memchr(data, '\n', size) : NULL;
	if (!nl || size > (64u << 10))
		return 0;
	bxc_slice secret = bxc_slice_of(data, (size_t)(nl - data));
	bxc_slice text = bxc_slice_of(nl + 1, size - secret.n - 1);
	bxc_secret *s = bxc_secret_new(secret.p, secret.n);
	bxc_exec__masks *masks = NULL;
	BXC_AUTOBUF bxc_buf whole = BXC_BUF_INIT(1u << 20);
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(1u << 20);
	bxc_check(bxc_exec__masks_new((const bxc_secret *const *)&s, 1, &masks, NULL) == 0);
	feed(masks, text, BXC_EXEC__CHUNK, &whole);
	feed(masks, text, 1, &bytes);
	bxc_check(whole.len == bytes.len);
	if (whole.len)
		bxc_check(memcmp(whole.data, bytes.data, whole.len) == 0);
	/* Line ends around it are no part of it, and a mask may be part of a secret with stars. */
	bool is_plain = secret.n >= 4 && !memchr(secret.p, '*', secret.n) &&
			!memchr(secret.p, '\r', secret.n);
	if (is_plain && whole.len)
		bxc_check(!memmem(whole.data, whole.len, secret.p, secret.n));
	bxc_exec__masks_free(masks);
	bxc_secret_free(s);
	return 0;
}
