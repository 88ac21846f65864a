/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/mem.h"
#include "common/registry/registry_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	BXC_AUTOFREE char *text = bxc_strndup((const char *)p, n);
	challenge c = {0};
	if (challenge_parse(text, &c) && c.bearer)
		bxc_check(c.realm);
	challenge_done(&c);
	return 0;
}
