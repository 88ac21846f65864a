/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/testing/cert.h"
#include "common/tls/tls.h"

/* The certificate of common/testing/cert.h: for 127.0.0.1, its own authority. */
static void a_server_is_checked_as_its_clients_will(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOTMPDIR char *other_dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *cert = bxc_str_fmt("%s/cert.pem", dir);
	BXC_AUTOFREE char *key = bxc_str_fmt("%s/key.pem", dir);
	BXC_AUTOFREE char *other = bxc_str_fmt("%s/cert.pem", other_dir);
	BXC_AUTOFREE char *other_key = bxc_str_fmt("%s/key.pem", other_dir);
	bxc_test_make_cert(dir);
	bxc_test_make_cert(other_dir);
	bxc_tls_files files = {.cert_file = cert, .key_file = key};
	assert_ok(bxc_tls_check_server(&files, cert, "127.0.0.1", &err), err);
	assert_err_text(bxc_tls_check_server(&files, cert, "127.0.0.2", &err),
		BXC_PERMISSION_DENIED, err, "certificate");
	assert_err(bxc_tls_check_server(&files, cert, "build.example.com", &err),
		BXC_PERMISSION_DENIED, err);
	assert_err(
		bxc_tls_check_server(&files, other, "127.0.0.1", &err), BXC_PERMISSION_DENIED, err);
	assert_err(
		bxc_tls_check_server(&files, NULL, "127.0.0.1", &err), BXC_PERMISSION_DENIED, err);
	files.key_file = other_key;
	assert_true(bxc_tls_check_server(&files, cert, "127.0.0.1", &err) < 0);
	bxc_err_free(BXC_TAKE(err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_server_is_checked_as_its_clients_will),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
