/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the main functions of the daemons share: command line from the table of configuration
 * keys, the configuration itself, logging, the sign of readiness. Module prefix: bxc_daemon.
 */
#pragma once

#include "common/base/err.h"
#include "common/config/config.h"

/* Keys that every daemon has; put them at the head of its table. */
#define BXC_DAEMON_KEYS                                                                                \
	{"log.level", "BXC_LOG_LEVEL", "log-level", BXC_CFG_STRING, "info", "least level that is logged: debug, info, notice, warn, error"}, \
	{"log.format", "BXC_LOG_FORMAT", "log-format", BXC_CFG_STRING, "auto", "text, json, or auto: text on a terminal", log_formats}, \
	{"ready_fd", NULL, "ready-fd", BXC_CFG_U64, "0", "write a line to this descriptor when ready (0: do not)", NULL, 0, 1023}

/*
 * Parses the command line (every key with a flag is an option; --config FILE; --print-config),
 * loads default_file (optional) or what --config names, the environment, the flags; sets up logging
 * and blocks signals.
 * 1: go on. 0: all was said (--help, --version, --print-config): leave with *ret_exit.
 * Errors were printed: leave with *ret_exit.
 */
int bxc_daemon_setup(const char *program, const char *summary, const char *default_file, const bxc_cfg_key *keys, size_t n_keys,
	int argc, char **argv, bxc_cfg **ret, int *ret_exit);

/* Is the first argument the verb? It is taken out then. Before setup. */
bool bxc_daemon_verb(const char *verb, int *argc, char ***argv);

/* Tells whoever started us: one line to ready_fd, which is closed. No-op for 0. */
void bxc_daemon_ready(const bxc_cfg *cfg, const char *line);
