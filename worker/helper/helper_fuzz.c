/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "worker/helper/helper.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is accepted encodes to something that decodes to the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_AUTOHELPERJOB bxc_helper_job j = {0};
	BXC_AUTOHELPERJOB bxc_helper_job again = {0};
	if (bxc_helper_job_decode(bxc_slice_of(data, size), &j, NULL) < 0)
		return 0;
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(2 * BXC_HELPER_JOB_MAX);
	bxc_check(bxc_helper_job_encode(&j, &text, NULL) == 0);
	if (text.len <= BXC_HELPER_JOB_MAX)
		bxc_check(bxc_helper_job_decode(bxc_buf_slice(&text), &again, NULL) == 0 &&
			  bxc_strv_eq(j.argv, again.argv) && j.mounts.n == again.mounts.n);
	return 0;
}
