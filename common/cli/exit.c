/* SPDX-License-Identifier: Apache-2.0 */
#include "common/cli/exit.h"

bxc_exit bxc_exit_from_code(bxc_code code)
{
	switch (code) {
	case BXC_OK:
		return BXC_EXIT_OK;
	case BXC_UNAVAILABLE:
		return BXC_EXIT_UNREACHABLE;
	case BXC_UNAUTHENTICATED:
	case BXC_PERMISSION_DENIED:
		return BXC_EXIT_UNAUTHORIZED;
	case BXC_DEADLINE_EXCEEDED:
		return BXC_EXIT_TIMEOUT;
	case BXC_CANCELED:
		return BXC_EXIT_INTERRUPTED;
	case BXC_INTERNAL:
		return BXC_EXIT_INTERNAL;
	case BXC_UNKNOWN:
	case BXC_INVALID_ARGUMENT:
	case BXC_NOT_FOUND:
	case BXC_ALREADY_EXISTS:
	case BXC_RESOURCE_EXHAUSTED:
	case BXC_FAILED_PRECONDITION:
	case BXC_ABORTED:
	case BXC_OUT_OF_RANGE:
	case BXC_UNIMPLEMENTED:
	case BXC_DATA_LOSS:
	default:
		return BXC_EXIT_FAILED;
	}
}
