/* SPDX-License-Identifier: Apache-2.0 */
/* Lines are names of attributes of an export. */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "worker/export/export_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const bxc_platform amd64 = {.os = "linux", .arch = "amd64"};
	if (size > 4096)
		return 0;
	BXC_AUTOFREE char *text = bxc_strndup((const char *)data, size);
	BXC_AUTOSTRV char **names = bxc_strv_split(text, '\n');
	BXC_AUTOJSON bxc_json *attrs = bxc_json_object();
	for (char **n = names; *n; n++)
		if (!bxc_json_get(attrs, *n))
			bxc_json_set_str(attrs, *n, "v");
	const bxc_exp_request q = {.type = "oci", .attrs = attrs};
	annotations a = {0};
	if (annotations_read(&q, &amd64, &a, NULL) == 0)
		for (size_t i = 0; i < ANNOTATE_N; i++)
			for (char **e = a.of[i]; e && *e; e++)
				bxc_check(strchr(*e, '=') && **e != '=');
	annotations_done(&a);
	return 0;
}
