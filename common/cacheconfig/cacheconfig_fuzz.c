/* SPDX-License-Identifier: Apache-2.0 */
/* What is taken has only links that lead somewhere, and is found again when it was written. */
#include <string.h>

#include "common/cacheconfig/cacheconfig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const bxc_cc *c)
{
	BXC_ARR_FOREACH (r, &c->records)
		for (int32_t at = r->layer; at >= 0; at = c->layers.v[at].parent)
			bxc_check((size_t)at < c->layers.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_AUTOCC bxc_cc c = {0}, d = {0}, e = {0}, i = {0};
	bxc_descriptor desc = {0};
	if (bxc_cc_of_manifest(bxc_slice_of(data, size), &desc, NULL) > 0)
		bxc_descriptor_done(&desc);
	bxc_ignore(bxc_cc_parse_inline(bxc_slice_of(data, size), 3, &i, NULL));
	if (bxc_cc_parse(bxc_slice_of(data, size), &c, NULL) < 0)
		return 0;
	walk(&c);
	BXC_AUTOFREE char *text = bxc_cc_print(&c);
	bxc_check(bxc_cc_parse(bxc_slice_of(text, strlen(text)), &d, NULL) == 0);
	walk(&d);
	bxc_check(d.layers.n == c.layers.n && d.records.n <= c.records.n);
	/* Canonical keys come first in what is written: from then on nothing moves. */
	BXC_AUTOFREE char *second = bxc_cc_print(&d);
	bxc_check(bxc_cc_parse(bxc_slice_of(second, strlen(second)), &e, NULL) == 0);
	BXC_AUTOFREE char *third = bxc_cc_print(&e);
	bxc_check(strcmp(second, third) == 0);
	return 0;
}
