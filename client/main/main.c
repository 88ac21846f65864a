/* SPDX-License-Identifier: Apache-2.0 */
/* bxc: the client. */
#include <stdio.h>
#include <sys/stat.h>

#include "client/cmd/cmd.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/cli/exit.h"
#include "common/os/sig.h"

int main(int argc, char **argv)
{
	bxc_sig_block_all();
	bxc_log_setup("bxc", BXC_LOG_ERROR, BXC_LOG_AUTO);
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOSTRV char **own = NULL;
	BXC_CLEANUP(bxc_cli_freep) bxc_cli *cli = NULL;
	const char *plugin = argc > 1 ? bxc_cmd_plugin_name(argv[0]) : NULL;
	if (plugin && bxc_str_eq(argv[1], BXC_CMD_PLUGIN_METADATA))
		return bxc_cmd_plugin_metadata(stdout);
	if (plugin) {
		if (bxc_cmd_plugin_args(plugin, argc, argv, &own, &err) < 0) {
			fprintf(stderr, "ERROR: %s\n", bxc_err_text(err));
			return BXC_EXIT_USAGE;
		}
		argv = own;
		argc = (int)bxc_strv_len(own);
	}
	if (bxc_cli_parse(&bxc_cmd_root, argc, argv, &cli, &err) < 0) {
		fprintf(stderr, "ERROR: %s\n", bxc_err_text(err));
		return BXC_EXIT_USAGE;
	}
	if (bxc_cli_wants_help(cli)) {
		bxc_cli_print_help(cli, stdout);
		return BXC_EXIT_OK;
	}
	if (bxc_cli_wants_version(cli)) {
		bxc_cli_print_version(cli, stdout);
		return BXC_EXIT_OK;
	}
	return bxc_cli_get_verb(cli)->run(cli, NULL);
}
