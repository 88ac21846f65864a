/* SPDX-License-Identifier: Apache-2.0 */
/* Range headers: a range that is granted lies within the file. */
#include "common/base/mem.h"
#include "common/httpd/httpd_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t sizes[] = {0, 1, 1000, UINT64_MAX};
	BXC_AUTOFREE char *s = bxc_strndup((const char *)data, size);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(sizes); i++) {
		uint64_t first = 1, last = 0;
		if (bxc_httpd__range_parse(s, sizes[i], &first, &last) == HTTPD_RANGE_OK)
			bxc_check(first <= last && last < sizes[i]);
	}
	return 0;
}
