/* SPDX-License-Identifier: Apache-2.0 */
/* What a file is by its first bytes. */
#include <string.h>

#include "common/tar/tar.h"

bool bxc_tar_is_context(bxc_slice head)
{
	static const struct {
		const char *magic;
		size_t n;
	} kinds[] = {
		{"BZh", 3}, {"\x1f\x8b\x08", 3}, {"\xfd\x37zXZ\0", 6}, {"\x28\xb5\x2f\xfd", 4}};
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	const bxc_tar_entry *e = NULL;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(kinds); i++)
		if (head.n >= kinds[i].n && memcmp(head.p, kinds[i].magic, kinds[i].n) == 0)
			return true;
	return head.n >= 512 && bxc_tar_reader_new(bxc_tar_slice_source, &head, &r, NULL) == 0 &&
	       bxc_tar_reader_next(r, &e, NULL) > 0;
}
