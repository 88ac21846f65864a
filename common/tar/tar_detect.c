/* SPDX-License-Identifier: Apache-2.0 */
/* What a file is by its first bytes. */
#include <string.h>

#include "common/tar/tar_internal.h"

tar_packing tar_packing_of(bxc_slice head)
{
	static const struct {
		const char *magic;
		size_t n;
		tar_packing packing;
	} kinds[] = {{"BZh", 3, TAR_BZIP2}, {"\x1f\x8b\x08", 3, TAR_GZIP},
		{"\xfd\x37zXZ\0", TAR_MAGIC_MAX, TAR_XZ}, {"\x28\xb5\x2f\xfd", 4, TAR_ZSTD}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(kinds); i++)
		if (head.n >= kinds[i].n && memcmp(head.p, kinds[i].magic, kinds[i].n) == 0)
			return kinds[i].packing;
	return TAR_PLAIN;
}

bool bxc_tar_is_context(bxc_slice head)
{
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	const bxc_tar_entry *e = NULL;
	if (tar_packing_of(head) != TAR_PLAIN)
		return true;
	return head.n >= 512 && bxc_tar_reader_new(bxc_tar_slice_source, &head, &r, NULL) == 0 &&
	       bxc_tar_reader_next(r, &e, NULL) > 0;
}
