/* SPDX-License-Identifier: Apache-2.0 */
/* A self-signed certificate for 127.0.0.1, made by the openssl program. Needs common/os. */
#pragma once

#include "common/base/buf.h"
#include "common/os/proc.h"
#include "common/testing/testing.h"

/* Writes <dir>/cert.pem and <dir>/key.pem. */
static inline BXC_UNUSED void bxc_test_make_cert(const char *dir)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *cert = bxc_str_fmt("%s/cert.pem", dir);
	BXC_AUTOFREE char *key = bxc_str_fmt("%s/key.pem", dir);
	BXC_AUTOSTRV char **argv = bxc_strv_split("openssl req -x509 -newkey ec -pkeyopt "
						  "ec_paramgen_curve:P-256 -nodes -subj /CN=test "
						  "-addext subjectAltName=IP:127.0.0.1 -days 2",
		' ');
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(1u << 16);
	BXC_AUTOBUF bxc_buf err_out = BXC_BUF_INIT(1u << 16);
	bxc_proc_status status = {-1, 0};
	bxc_strv_push(&argv, "-out");
	bxc_strv_push(&argv, cert);
	bxc_strv_push(&argv, "-keyout");
	bxc_strv_push(&argv, key);
	assert_ok(bxc_proc_run_capture(
			  argv, bxc_slice_of("", 0), 60000, &out, &err_out, &status, &err),
		err);
	if (status.exit_code != 0)
		fail_msg("openssl: %s", bxc_buf_text(&err_out));
}
