/* SPDX-License-Identifier: Apache-2.0 */
/* Request targets: whatever parses has a root, decoded text without NULs, and matches itself. */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/httpd/httpd_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const patterns[] = {"/", "/{a}", "/v1/builds/{id}/events",
		"/v2/{ns}/{repo}/manifests/{ref}", "/{a}/{b}/", "{a}", ""};
	BXC_AUTOFREE char *s = bxc_strndup((const char *)data, size);
	BXC_CLEANUP(bxc_httpd__target_done) httpd_target t = {0};
	BXC_CLEANUP(bxc_httpd__pairs_done) httpd_pairs params = {0};
	if (bxc_httpd__target_parse(s, &t, NULL) < 0)
		return 0;
	bxc_check(t.path[0] == '/' && bxc_strv_len(t.segments) >= 1);
	for (char **seg = t.segments; *seg; seg++)
		bxc_check(!bxc_str_eq(*seg, "..") && !bxc_str_eq(*seg, "."));
	BXC_ARR_FOREACH (q, &t.query)
		bxc_check(q->name && q->value);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(patterns); i++) {
		if (!bxc_httpd__match(patterns[i], &t, &params))
			continue;
		BXC_ARR_FOREACH (p, &params)
			bxc_check(*p->name && *p->value);
	}
	return 0;
}
