/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs of bxc, one file each. Module prefix: bxc_cmd. */
#pragma once

#include "common/cli/cli.h"

/* The tree of verbs; each verb's run() takes the parsed line and returns an exit code (common/cli/exit.h). */
extern const bxc_cli_verb bxc_cmd_root;

/* As a plugin of docker's command line: argv[0] is docker-NAME. NAME, borrowed; NULL: it is not. */
const char *bxc_cmd_plugin_name(const char *program);
/* What docker asks a plugin first; an exit code. */
#define BXC_CMD_PLUGIN_METADATA "docker-cli-plugin-metadata"
int bxc_cmd_plugin_metadata(FILE *f);
/*
 * The command line as bxc has it, owned, of one as docker gives it to plugins: its own flags, NAME, the rest.
 * --config becomes $DOCKER_CONFIG. BXC_INVALID_ARGUMENT: NAME is not where it should be.
 */
BXC_MUST_CHECK int bxc_cmd_plugin_args(const char *name, int argc, char **argv, char ***ret, bxc_err **err);
