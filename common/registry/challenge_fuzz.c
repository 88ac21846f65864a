/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate values: what comes out is usable, and more challenges never make it worse. */
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/registry/registry_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_AUTOFREE char *s = bxc_strndup((const char *)data, size);
	BXC_CLEANUP(bxc_reg__challenge_done) reg_challenge c = {0};
	bxc_reg__challenge_add(&c, s);
	bxc_check(c.kind != REG_AUTH_BEARER || !bxc_str_empty(c.realm));
	reg_auth_kind before = c.kind;
	bxc_reg__challenge_add(&c, "Basic realm=\"x\"");
	bxc_check(c.kind >= before && c.kind != REG_AUTH_NONE);
	BXC_AUTOFREE char *url =
		bxc_reg__resolve_location("http://127.0.0.1:5000/v2/a/blobs/uploads/", s);
	bxc_check(strstr(url, "://") != NULL);
	return 0;
}
