/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs of bxc, one file each. Module prefix: bxc_cmd. */
#pragma once

#include "common/cli/cli.h"

/* The tree of verbs; each verb's run() takes the parsed line and returns an exit code (common/cli/exit.h). */
extern const bxc_cli_verb bxc_cmd_root;
