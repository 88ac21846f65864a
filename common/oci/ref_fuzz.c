/* SPDX-License-Identifier: Apache-2.0 */
/* References and platforms: what parses must print to text that parses to the same. */
#include <string.h>

#include "common/base/mem.h"
#include "common/oci/oci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_AUTOFREE char *s = bxc_strndup((const char *)data, size);
	BXC_AUTOREF bxc_ref r = {0};
	if (bxc_ref_parse(s, &r, NULL) == 0) {
		BXC_AUTOFREE char *full = bxc_ref_str(&r);
		BXC_AUTOREF bxc_ref again = {0};
		bxc_check(bxc_ref_parse(full, &again, NULL) == 0);
		BXC_AUTOFREE char *full2 = bxc_ref_str(&again);
		bxc_check(strcmp(full, full2) == 0);
		BXC_AUTOFREE char *familiar = bxc_ref_familiar(&r);
		BXC_AUTOREF bxc_ref short_form = {0};
		bxc_check(bxc_ref_parse(familiar, &short_form, NULL) == 0);
		BXC_AUTOFREE char *full3 = bxc_ref_str(&short_form);
		bxc_check(strcmp(full, full3) == 0);
	}
	bxc_platform p, q;
	if (bxc_platform_parse(s, &p, NULL) == 0) {
		BXC_AUTOFREE char *t = bxc_platform_str(&p);
		bxc_check(bxc_platform_parse(t, &q, NULL) == 0 && bxc_platform_eq(&p, &q));
		bxc_check(bxc_platform_match(&p, &q) > 0);
	}
	return 0;
}
