/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/snapshot/snapshot_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is accepted must survive printing and parsing. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bxc_snap__layer *l = NULL, *again = NULL;
	BXC_AUTOFREE char *boot = NULL;
	if (bxc_snap__meta_parse(bxc_slice_of(data, size), &l, &boot, NULL) < 0)
		return 0;
	BXC_AUTOFREE char *text = bxc_snap__meta_print(l, boot);
	BXC_AUTOFREE char *boot_again = NULL;
	bxc_check(bxc_snap__meta_parse(
			  bxc_slice_of(text, strlen(text)), &again, &boot_again, NULL) == 0);
	bxc_check(bxc_str_eq(l->id, again->id) && l->seq == again->seq);
	bxc_check(bxc_digest_eq(&l->facts.diff_id, &again->facts.diff_id));
	bxc_snap__layer_free(again);
	bxc_snap__layer_free(l);
	return 0;
}
