/* SPDX-License-Identifier: Apache-2.0 */
/* Two documents, parted by a NUL, as manifests and as lists of parts: compared either way. */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "coordinator/why/why.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare_files(const char *old, const char *now)
{
	BXC_AUTOJSON bxc_json *diff = NULL;
	if (bxc_why_compare_files(old, now, &diff, NULL) > 0) {
		BXC_AUTOFREE char *text = bxc_why_text(diff);
		bxc_check(*text);
	}
}

static void compare_parts(const bxc_json *old, const bxc_json *now)
{
	size_t n = 0;
	BXC_AUTOJSON bxc_json *list = bxc_why_compare(old, now, &n);
	bxc_check(bxc_json_len(list) == BXC_MIN(n, (size_t)BXC_WHY_MAX_DIFFS));
	BXC_JSON_FOREACH (d, list) {
		BXC_AUTOFREE char *text = bxc_why_text(d);
		bxc_check(*text);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_AUTOFREE char *old = bxc_strndup((const char *)data, size);
	size_t n = strlen(old);
	BXC_AUTOFREE char *now =
		n < size ? bxc_strndup((const char *)data + n + 1, size - n - 1) : bxc_strdup("");
	compare_files(old, now);
	compare_files(now, old);
	compare_files(old, old);
	BXC_AUTOJSON bxc_json *a = NULL;
	BXC_AUTOJSON bxc_json *b = NULL;
	if (bxc_json_parse(bxc_slice_of(old, n), &a, NULL) < 0 ||
		bxc_json_parse(bxc_slice_of(now, strlen(now)), &b, NULL) < 0)
		return 0;
	compare_parts(a, b);
	compare_parts(b, a);
	return 0;
}
