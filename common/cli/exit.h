/* SPDX-License-Identifier: Apache-2.0 */
/* Exit codes of the programs; part of the interface, never renumbered. */
#pragma once

#include "common/base/err.h"

typedef enum bxc_exit {
	BXC_EXIT_OK = 0,
	BXC_EXIT_FAILED = 1,	   /* the build or operation failed */
	BXC_EXIT_USAGE = 2,	   /* the command line is wrong */
	BXC_EXIT_UNREACHABLE = 3,  /* no coordinator answers */
	BXC_EXIT_UNAUTHORIZED = 4, /* the coordinator refused the credentials */
	BXC_EXIT_TIMEOUT = 5,
	BXC_EXIT_INTERNAL = 70,	    /* a bug */
	BXC_EXIT_INTERRUPTED = 130, /* Ctrl-C */
} bxc_exit;

/* For an error that came from talking to the coordinator. */
bxc_exit bxc_exit_from_code(bxc_code code);
