/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <string.h>

#include "common/base/str.h"
#include "coordinator/auth/auth.h"

static int check(const bxc_auth *a, const char *token, unsigned scope)
{
	return bxc_auth_check(a, bxc_slice_of(token, strlen(token)), scope, NULL);
}

static void a_token_gives_its_scopes_only(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_auth_freep) bxc_auth *a = bxc_auth_new();
	bxc_auth_add(a, bxc_slice_of("client-token-000", 16), BXC_AUTH_BUILD | BXC_AUTH_READ);
	assert_int_equal(check(a, "client-token-000", BXC_AUTH_BUILD), 0);
	assert_int_equal(check(a, "client-token-000", BXC_AUTH_WORKER), -BXC_PERMISSION_DENIED);
	assert_int_equal(check(a, "client-token-001", BXC_AUTH_READ), -BXC_UNAUTHENTICATED);
	assert_int_equal(check(a, "", BXC_AUTH_READ), -BXC_UNAUTHENTICATED);
}

static void a_missing_token_file_is_made_and_read_again(void **state)
{
	(void)state;
	char dir[] = "/tmp/bxc-auth-XXXXXX";
	assert_non_null(mkdtemp(dir));
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/token", dir);
	BXC_CLEANUP(bxc_auth_freep) bxc_auth *a = bxc_auth_new();
	assert_int_equal(bxc_auth_add_file(a, path, BXC_AUTH_WORKER, NULL), 0);
	char text[128] = "";
	BXC_AUTOCLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, text, sizeof(text) - 1) == 65);
	text[64] = '\0';
	assert_int_equal(check(a, text, BXC_AUTH_WORKER), 0);
	BXC_CLEANUP(bxc_auth_freep) bxc_auth *b = bxc_auth_new();
	assert_int_equal(bxc_auth_add_file(b, path, BXC_AUTH_WORKER, NULL), 0);
	assert_int_equal(check(b, text, BXC_AUTH_WORKER), 0);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_token_gives_its_scopes_only),
		cmocka_unit_test(a_missing_token_file_is_made_and_read_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
