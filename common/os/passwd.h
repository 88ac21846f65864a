/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /etc/passwd and /etc/group as text, read by the rules of moby/sys/user: lines that are malformed
 * are passed over, the first match counts. The text may come from an untrusted image.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"

#define BXC_PASSWD_MAX_ID 2147483647u /* highest id that runtimes take */

typedef BXC_ARR(uint32_t) bxc_passwd_ids;

/* The user of this name, or with this id when name is NULL. ret_name (owned) may be NULL. */
bool bxc_passwd_find_user(bxc_slice passwd, const char *name, uint32_t uid, uint32_t *ret_uid,
	uint32_t *ret_gid, char **ret_name);
/* The group of this name. */
bool bxc_passwd_find_group(bxc_slice group, const char *name, uint32_t *ret_gid);
/* Appends the groups that list the user as a member, in order. */
void bxc_passwd_groups_of(bxc_slice group, const char *user, bxc_passwd_ids *ret);
