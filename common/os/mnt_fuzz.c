/* SPDX-License-Identifier: Apache-2.0 */
#include "common/os/mnt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_AUTOMNTTABLE bxc_mnt_table t = {0};
	BXC_AUTOERR bxc_err *err = NULL;
	int r = bxc_mnt_parse_table(bxc_slice_of(data, size), &t, &err);
	bxc_check((r < 0) == (err != NULL) && (r >= 0 || t.n == 0));
	for (size_t i = 0; i < t.n; i++)
		bxc_check(t.v[i].mount_point && t.v[i].source && *t.v[i].fs_type);
	return 0;
}
