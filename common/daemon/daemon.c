/* SPDX-License-Identifier: Apache-2.0 */
#include "common/daemon/daemon.h"

#include "common/base/arr.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/cli/cli.h"
#include "common/cli/exit.h"
#include "common/os/sig.h"


static int load(bxc_cfg *cfg, const bxc_cli *cli, const char *default_file, const bxc_cfg_key *keys, size_t n_keys, bxc_err **err)
{
	const char *file = bxc_cli_str(cli, "config");
	int r = bxc_cfg_load_file(cfg, file ? file : default_file, !file, err);
	if (r >= 0)
		r = bxc_cfg_load_env(cfg, environ, err);
	const char *name, *value;
	for (size_t i = 0; r >= 0 && bxc_cli_given_at(cli, i, &name, &value); i++)
		for (size_t k = 0; r >= 0 && k < n_keys; k++)
			if (bxc_str_eq(keys[k].flag, name))
				r = bxc_cfg_set_flag(cfg, keys[k].key, value, err);
	return r;
}

static int setup_log(const char *program, const bxc_cfg *cfg, bxc_err **err)
{
	bxc_log_level level;
	int r = bxc_log_level_parse(bxc_cfg_str(cfg, "log.level"), &level, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "%s", bxc_cfg_origin(cfg, "log.level"));
	const char *format = bxc_cfg_str(cfg, "log.format");
	bxc_log_setup(program, level, bxc_str_eq(format, "json") ? BXC_LOG_JSON : bxc_str_eq(format, "text") ? BXC_LOG_TEXT : BXC_LOG_AUTO);
	return 0;
}

int bxc_daemon_setup(const char *program, const char *summary, const char *default_file, const bxc_cfg_key *keys, size_t n_keys,
	int argc, char **argv, bxc_cfg **ret, int *ret_exit)
{
	bxc_sig_block_all();
	BXC_ARR(bxc_cli_opt) opts = {0};
	*bxc_arr_push(&opts) = (bxc_cli_opt){.name = "config", .type = BXC_CLI_STRING, .metavar = "FILE", .help = "configuration file"};
	*bxc_arr_push(&opts) = (bxc_cli_opt){.name = "print-config", .help = "print what holds, and from where, and leave"};
	*bxc_arr_push(&opts) = (bxc_cli_opt){.name = "print-template", .help = "print every key with its default, as a file, and leave"};
	for (size_t i = 0; i < n_keys; i++) {
		if (!keys[i].flag)
			continue;
		bxc_cli_opt *o = bxc_arr_push(&opts);
		o->name = keys[i].flag;
		o->help = keys[i].help;
		o->type = keys[i].type == BXC_CFG_BOOL ? BXC_CLI_FLAG : keys[i].type == BXC_CFG_LIST ? BXC_CLI_LIST : BXC_CLI_STRING;
	}
	bxc_cli_verb root = {.name = program, .summary = summary, .opts = opts.v, .n_opts = opts.n};
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_cli *cli = NULL;
	bxc_cfg *cfg = bxc_cfg_new(keys, n_keys);
	int r = bxc_cli_parse(&root, argc, argv, &cli, &err);
	*ret_exit = BXC_EXIT_USAGE;
	if (r >= 0 && bxc_cli_wants_help(cli)) {
		bxc_cli_print_help(cli, stdout);
		*ret_exit = BXC_EXIT_OK;
	} else if (r >= 0 && bxc_cli_wants_version(cli)) {
		bxc_cli_print_version(cli, stdout);
		*ret_exit = BXC_EXIT_OK;
	} else if (r >= 0 && bxc_cli_flag(cli, "print-template")) {
		bxc_cfg_print_template(keys, n_keys, stdout);
		*ret_exit = BXC_EXIT_OK;
	} else if (r >= 0) {
		r = load(cfg, cli, default_file, keys, n_keys, &err);
		if (r >= 0)
			r = setup_log(program, cfg, &err);
		if (r >= 0 && bxc_cli_flag(cli, "print-config")) {
			bxc_cfg_print(cfg, stdout);
			*ret_exit = BXC_EXIT_OK;
		} else if (r >= 0) {
			*ret = BXC_TAKE(cfg);
			r = 1;
		}
	}
	if (r < 0)
		dprintf(STDERR_FILENO, "%s: %s\n", program, bxc_err_text(err));
	bxc_cfg_free(cfg);
	bxc_cli_free(cli);
	bxc_arr_done(&opts);
	return r;
}

bool bxc_daemon_verb(const char *verb, int *argc, char ***argv)
{
	if (*argc < 2 || !bxc_str_eq((*argv)[1], verb))
		return false;
	(*argv)[1] = (*argv)[0];
	(*argv)++;
	(*argc)--;
	return true;
}

void bxc_daemon_ready(const bxc_cfg *cfg, const char *line)
{
	int fd = (int)bxc_cfg_u64(cfg, "ready_fd");
	if (!fd)
		return;
	dprintf(fd, "%s\n", line);
	close(fd);
}
