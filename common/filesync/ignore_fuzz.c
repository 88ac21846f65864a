/* SPDX-License-Identifier: Apache-2.0 */
/* First line: a path; the rest: an ignore file. What is excluded for good stays so below. */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/filesync/filesync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	if (!end)
		return 0;
	BXC_AUTOFREE char *raw = bxc_strndup((const char *)data, (size_t)(end - data));
	BXC_AUTOFREE char *path = bxc_path_clean(raw);
	bxc_slice text = bxc_slice_of(end + 1, size - (size_t)(end - data) - 1);
	BXC_CLEANUP(bxc_ignore_freep) bxc_ignore *g = NULL;
	bool matched = false;
	bxc_ignore(bxc_glob_match(raw, path, &matched, NULL));
	if (bxc_ignore_parse(text, "f", &g, NULL) < 0 || !path[1])
		return 0;
	if (bxc_ignore_match(g, path + 1) && !bxc_ignore_may_include_below(g, path + 1)) {
		BXC_AUTOFREE char *below = bxc_str_fmt("%s/x", path + 1);
		bxc_check(bxc_ignore_match(g, below));
	}
	return 0;
}
