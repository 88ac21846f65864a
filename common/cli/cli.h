/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines: one static table per verb drives parsing, --help and shell completion.
 *
 *     int main(int argc, char **argv)
 *             bxc_cli *cli = NULL;
 *             if (bxc_cli_parse(&root, argc, argv, &cli, &err) < 0)
 *                     print "bxc: <text of err>" to stderr and return BXC_EXIT_USAGE;
 *             if (bxc_cli_wants_help(cli))
 *                     bxc_cli_print_help(cli, stdout);
 *             ...
 *             return bxc_cli_get_verb(cli)->run(cli, ud);
 *
 * GNU style: --name value, --name=value, -x value, -xVALUE, -x=VALUE, bundles of short flags, "--".
 * Options of a verb are also accepted by the verbs below it ("global" ones are the root's), before
 * and after the verb's name. -h and --help are everywhere; --version is the root's.
 * Nothing is printed but by the print functions. A table is static and checked when used.
 */
#pragma once

#include "common/base/cleanup.h"
#include "common/base/err.h"

typedef struct bxc_cli bxc_cli;

typedef enum bxc_cli_type {
	BXC_CLI_FLAG = 0, /* no value, or =true / =false */
	BXC_CLI_STRING,	  /* the last one counts */
	BXC_CLI_LIST,	  /* may be repeated */
	BXC_CLI_U64,
	BXC_CLI_BYTES,	  /* "512m" */
	BXC_CLI_DURATION, /* "90s" */
} bxc_cli_type;

typedef struct bxc_cli_opt {
	const char *name; /* long form without dashes */
	char short_name;  /* or 0 */
	bxc_cli_type type;
	const char *metavar; /* "FILE"; NULL: a word for the type */
	const char *help;    /* one line, or more: it is wrapped */
	const char *const
		*choices;    /* NULL-terminated allowed values of a string or list, or NULL */
	const char *implied; /* value of a bare --name; a value then needs the '=' form */
	bool hidden;	     /* accepted, not shown */
} bxc_cli_opt;

typedef struct bxc_cli_verb bxc_cli_verb;
struct bxc_cli_verb {
	const char *name;    /* the root has the program's name */
	const char *args;    /* "PATH | URL | -" as usage shows it, or NULL */
	const char *summary; /* one line, no full stop */
	const char *details; /* paragraphs below the options, or NULL */
	const bxc_cli_opt *opts;
	size_t n_opts;
	unsigned min_args;
	unsigned max_args;	   /* BXC_CLI_ANY: no bound */
	const bxc_cli_verb *verbs; /* verbs below; then args must be none */
	size_t n_verbs;
	const char *alias; /* a second name, or NULL */
	bool hidden;
	bool raw_args; /* after the first argument everything is an argument */
	/* Result: an exit code (exit.h). For the program; parsing does not call it. */
	int (*run)(const bxc_cli *cli, void *ud);
};

#define BXC_CLI_ANY UINT32_MAX

/*
 * BXC_INVALID_ARGUMENT with one line that ends in "see 'bxc build --help'". argv is borrowed for
 * the life of the result. With --help or --version anywhere before "--", required arguments are
 * not checked.
 */
BXC_MUST_CHECK int bxc_cli_parse(
	const bxc_cli_verb *root, int argc, char *const *argv, bxc_cli **ret, bxc_err **err);
void bxc_cli_free(bxc_cli *cli);
BXC_DEFINE_CLEANUP(bxc_cli, bxc_cli_free);

bool bxc_cli_wants_help(const bxc_cli *cli); /* also when a verb with verbs below got none */
bool bxc_cli_wants_version(const bxc_cli *cli);
const bxc_cli_verb *bxc_cli_get_verb(
	const bxc_cli *cli);		      /* the innermost; the root if none was given */
const char *bxc_cli_path(const bxc_cli *cli); /* "bxc cache prune"; borrowed */
size_t bxc_cli_n_args(const bxc_cli *cli);
const char *bxc_cli_arg(const bxc_cli *cli, size_t i); /* borrowed; NULL past the end */

/* By long name; a name that neither the verb nor its parents have aborts, as does a wrong type. */
bool bxc_cli_has(const bxc_cli *cli, const char *name); /* was given */
bool bxc_cli_flag(const bxc_cli *cli, const char *name);
const char *bxc_cli_str(const bxc_cli *cli, const char *name); /* borrowed; NULL when not given */
char *const *bxc_cli_list(
	const bxc_cli *cli, const char *name); /* borrowed strv; NULL when empty */
uint64_t bxc_cli_u64(const bxc_cli *cli, const char *name, uint64_t fallback); /* U64 and BYTES */
int64_t bxc_cli_duration_ns(const bxc_cli *cli, const char *name, int64_t fallback);
/* The options in the order given, as i-th (name, value) pair; false past the end. FLAG:
 * "true"/"false". */
bool bxc_cli_given_at(const bxc_cli *cli, size_t i, const char **ret_name, const char **ret_value);

/* Usage, verbs, options; at most 80 columns. */
void bxc_cli_print_help(const bxc_cli *cli, FILE *f);
/* "name version". */
void bxc_cli_print_version(const bxc_cli *cli, FILE *f);
/* All verbs on one page, for `man`. */
void bxc_cli_print_man(const bxc_cli_verb *root, FILE *f);
/* A script for "bash", "zsh" or "fish"; BXC_INVALID_ARGUMENT for another name. */
BXC_MUST_CHECK int bxc_cli_print_completion(
	const bxc_cli_verb *root, const char *shell, FILE *f, bxc_err **err);
