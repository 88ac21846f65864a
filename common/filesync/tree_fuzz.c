/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever decodes encodes to the same bytes, and can be selected from. */
#include <string.h>

#include "common/filesync/filesync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = NULL;
	if (bxc_tree_decode(bxc_slice_of(data, size), &t, NULL) < 0)
		return 0;
	BXC_AUTOBUF bxc_buf again = BXC_BUF_INIT(size);
	bxc_check(bxc_tree_encode(t, data[8] == 1, &again, NULL) == 0);
	bxc_check(again.len == size && memcmp(again.data, data, size) == 0);
	const bxc_tree_select all = {
		.path = "/*", .wildcard = true, .allow_empty = true, .follow = true};
	bxc_tree_indices found = {0};
	bxc_digest d;
	bxc_check(bxc_tree_resolve(t, &all, &found, NULL) == 0);
	bxc_arr_done(&found);
	bxc_ignore(bxc_tree_checksum(t, &all, &d, NULL));
	/* Every path is what it names itself, when links at its end are not followed. */
	BXC_ARR_FOREACH (e, &t->entries) {
		const bxc_tree_select one = {.path = e->path};
		bxc_check(bxc_tree_resolve(t, &one, &found, NULL) == 0 && found.n > 0);
		bxc_arr_done(&found);
	}
	return 0;
}
