/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/os/passwd.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
			     "broken line\n"
			     "bad:x:nan:1::/:\n"
			     "  app:x:1000:50:App:/home/app:/bin/sh\n"
			     "app:x:7:7::/:\n"
			     "short:x:3:4";
static const char group[] =
	"root:x:0:\nwheel:x:10:root,app\nstaff:x:50:\nodd:x:x:app\naudio:x:63:app\nbare:x:9";

static bxc_slice text_of(const char *s)
{
	return bxc_slice_of(s, strlen(s));
}

static void users_are_found_by_name_and_by_id(void **state)
{
	(void)state;
	uint32_t uid = 99, gid = 99;
	BXC_AUTOFREE char *name = NULL;
	assert_true(bxc_passwd_find_user(text_of(passwd), "app", 0, &uid, &gid, &name));
	assert_int_equal(uid, 1000);
	assert_int_equal(gid, 50);
	assert_string_equal(name, "app");
	assert_true(bxc_passwd_find_user(text_of(passwd), NULL, 3, &uid, &gid, NULL));
	assert_int_equal(gid, 4);
	assert_false(bxc_passwd_find_user(text_of(passwd), "bad", 0, &uid, &gid, NULL));
	assert_false(bxc_passwd_find_user(text_of(passwd), "ap", 0, &uid, &gid, NULL));
	assert_false(bxc_passwd_find_user(text_of(""), NULL, 0, &uid, &gid, NULL));
}

static void groups_list_their_members(void **state)
{
	(void)state;
	uint32_t gid = 99;
	assert_true(bxc_passwd_find_group(text_of(group), "bare", &gid));
	assert_int_equal(gid, 9);
	assert_false(bxc_passwd_find_group(text_of(group), "odd", &gid));
	bxc_passwd_ids ids = {0};
	bxc_passwd_groups_of(text_of(group), "app", &ids);
	assert_int_equal(ids.n, 2);
	assert_int_equal(ids.v[0], 10);
	assert_int_equal(ids.v[1], 63);
	bxc_arr_done(&ids);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(users_are_found_by_name_and_by_id),
		cmocka_unit_test(groups_list_their_members),
	};
	return cmocka_run_group_tests_name("passwd", tests, NULL, NULL);
}
