/* SPDX-License-Identifier: Apache-2.0 */
#include "common/os/passwd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bxc_slice text = {data, size};
	uint32_t uid = 0, gid = 0;
	BXC_AUTOFREE char *name = NULL;
	if (bxc_passwd_find_user(text, NULL, 0, &uid, &gid, &name)) {
		/* A name may hold a NUL, which no caller can ask for. */
		bxc_check(uid == 0);
	}
	(void)bxc_passwd_find_user(text, "app", 0, &uid, &gid, NULL);
	(void)bxc_passwd_find_group(text, "app", &gid);
	bxc_passwd_ids ids = {0};
	bxc_passwd_groups_of(text, "app", &ids);
	bxc_arr_done(&ids);
	return 0;
}
