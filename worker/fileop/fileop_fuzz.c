/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/fileop/fileop_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Symbolic modes never touch the type, and stay within the twelve bits. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_AUTOFREE char *text = bxc_strndup((const char *)data, size);
	mode_t mode = 0;
	if (bxc_fsop__mode_apply(text, S_IFDIR | 0751, &mode, NULL) == 0) {
		bxc_check((mode & S_IFMT) == S_IFDIR);
		bxc_check((mode & ~(mode_t)(S_IFMT | 07777)) == 0);
	}
	return 0;
}
