/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of verbs. */
#include <stdio.h>

#include "client/cmd/cmd_internal.h"

int cmd_version(const bxc_cli *cli, void *ud)
{
	(void)cli;
	(void)ud;
	printf("bxc %s\n", BXC_VERSION);
	return BXC_EXIT_OK;
}

static int cmd_man(const bxc_cli *cli, void *ud)
{
	(void)cli;
	(void)ud;
	bxc_cli_print_man(&bxc_cmd_root, stdout);
	return BXC_EXIT_OK;
}

int cmd_completion(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	(void)ud;
	if (bxc_cli_print_completion(&bxc_cmd_root, bxc_cli_arg(cli, 0), stdout, &err) >= 0)
		return BXC_EXIT_OK;
	cmd_fail(err);
	return BXC_EXIT_USAGE;
}

static const bxc_cli_opt root_opts[] = {
	{"builder", 0, BXC_CLI_STRING, "NAME", "the builder to use (also $BXC_BUILDER, $BUILDX_BUILDER)"},
	{"debug", 'D', BXC_CLI_FLAG, NULL, "", NULL, NULL, true},
};
static const bxc_cli_opt create_opts[] = {
	{"name", 0, BXC_CLI_STRING, "NAME", "name of the builder"},
	{"token-file", 0, BXC_CLI_STRING, "FILE", "file with the token of clients"},
	{"ca", 0, BXC_CLI_STRING, "FILE", "authority of the coordinator's certificate, PEM"},
	{"use", 0, BXC_CLI_FLAG, NULL, "make it the current builder"},
};
static const char *const formats[] = {"table", "json", NULL};
static const bxc_cli_opt ls_opts[] = {
	{"format", 0, BXC_CLI_STRING, "FORM", "table or json (one object a line)", formats},
};
static const bxc_cli_opt inspect_opts[] = {
	{"bootstrap", 0, BXC_CLI_FLAG, NULL, "start the embedded cluster if it does not run"},
};

static const bxc_cli_opt ps_opts[] = {
	{"all", 'a', BXC_CLI_FLAG, NULL, "also those that have ended"},
	{"format", 0, BXC_CLI_STRING, "FORM", "table or json (one object a line)", formats},
};
static const bxc_cli_opt attach_opts[] = {
	{"progress", 0, BXC_CLI_STRING, "MODE", "auto, plain, tty, rawjson, quiet or none", cmd_progress_modes},
};
static const char *const log_modes[] = {"plain", "rawjson", NULL};
static const bxc_cli_opt logs_opts[] = {
	{"follow", 'f', BXC_CLI_FLAG, NULL, "go on until the build has ended"},
	{"progress", 0, BXC_CLI_STRING, "MODE", "plain or rawjson", log_modes},
};
static const char *const why_formats[] = {"text", "json", NULL};
static const bxc_cli_opt why_opts[] = {
	{"format", 0, BXC_CLI_STRING, "FORM", "text or json", why_formats},
};
static const char *const inspect_formats[] = {"pretty", "json", NULL};
static const bxc_cli_opt history_inspect_opts[] = {
	{"format", 0, BXC_CLI_STRING, "FORM", "pretty or json", inspect_formats},
};
#define LOGS_VERB                                                                                                      \
	{.name = "logs", .args = "[BUILD]", .summary = "print what a build has printed", .opts = logs_opts,           \
		.n_opts = BXC_ARRAY_SIZE(logs_opts), .max_args = 1, .run = cmd_logs}
#define ATTACH_VERB                                                                                                    \
	{.name = "attach", .args = "[BUILD]", .summary = "show the progress of a build until its end", .opts = attach_opts, \
		.n_opts = BXC_ARRAY_SIZE(attach_opts), .max_args = 1, .run = cmd_attach}
static const bxc_cli_verb history_verbs[] = {
	{.name = "ls", .summary = "list builds, the latest first", .opts = ls_opts, .n_opts = BXC_ARRAY_SIZE(ls_opts), .run = cmd_history_ls},
	LOGS_VERB,
	{.name = "inspect", .args = "[BUILD]", .summary = "show what is recorded of a build", .opts = history_inspect_opts,
		.n_opts = BXC_ARRAY_SIZE(history_inspect_opts), .max_args = 1, .run = cmd_history_inspect},
	ATTACH_VERB,
	{.name = "rm", .args = "BUILD...", .summary = "remove records of builds", .min_args = 1, .max_args = BXC_CLI_ANY, .run = cmd_history_rm},
};

#define FILTER_OPT                                                                                                     \
	{"filter", 0, BXC_CLI_LIST, "FILTER", "until=24h: not used for so long; id=BEGINNING; inuse; type=regular, exec.cachemount or blob"}
static const bxc_cli_opt du_opts[] = {
	FILTER_OPT,
	{"format", 0, BXC_CLI_STRING, "FORM", "table or json (one object a line)", formats},
	{"verbose", 0, BXC_CLI_FLAG, NULL, "all that is known of each"},
};
static const bxc_cli_opt prune_opts[] = {
	{"all", 'a', BXC_CLI_FLAG, NULL, "as buildx has it; everything is looked at without it, too"},
	FILTER_OPT,
	{"force", 'f', BXC_CLI_FLAG, NULL, "do not ask"},
	{"format", 0, BXC_CLI_STRING, "FORM", "table or json (one object a line)", formats},
	{"keep-storage", 0, BXC_CLI_STRING, "BYTES", "an older name of --reserved-space"},
	{"max-used-space", 0, BXC_CLI_STRING, "BYTES", "on each worker, only until no more than this is kept"},
	{"min-free-space", 0, BXC_CLI_STRING, "BYTES", "on each worker, only until so much is free"},
	{"reserved-space", 0, BXC_CLI_STRING, "BYTES", "on each worker, so much may be kept in any case"},
	{"verbose", 0, BXC_CLI_FLAG, NULL, "all that is known of each"},
};

static const bxc_cli_opt imagetools_inspect_opts[] = {
	{"format", 0, BXC_CLI_STRING, "FORM", "{{json .}}, {{json .Manifest}}, {{.Manifest.Digest}}, {{.Manifest.MediaType}} or {{.Name}}"},
	{"raw", 0, BXC_CLI_FLAG, NULL, "the bytes of the manifest or index"},
};
static const char *const truths[] = {"true", "false", NULL};
static const bxc_cli_opt imagetools_create_opts[] = {
	{"annotation", 0, BXC_CLI_LIST, "K=V", "annotate the index: [index:]KEY=VALUE"},
	{"append", 0, BXC_CLI_FLAG, NULL, "add to what the tag names already"},
	{"dry-run", 0, BXC_CLI_FLAG, NULL, "print the index, push nothing"},
	{"prefer-index", 0, BXC_CLI_STRING, "BOOL", "an index also for one image (default: true)", truths},
	{"tag", 't', BXC_CLI_LIST, "NAME", "what it is to be called"},
};
static const bxc_cli_verb imagetools_verbs[] = {
	{.name = "inspect", .args = "NAME", .summary = "show an image or index of a registry", .opts = imagetools_inspect_opts,
		.n_opts = BXC_ARRAY_SIZE(imagetools_inspect_opts), .min_args = 1, .max_args = 1, .run = cmd_imagetools_inspect},
	{.name = "create", .args = "SOURCE...", .summary = "make an index of images that registries have", .opts = imagetools_create_opts,
		.n_opts = BXC_ARRAY_SIZE(imagetools_create_opts), .min_args = 1, .max_args = BXC_CLI_ANY, .run = cmd_imagetools_create},
};

static const bxc_cli_opt drain_opts[] = {
	{"undo", 0, BXC_CLI_FLAG, NULL, "let it get steps again"},
};
static const bxc_cli_verb worker_verbs[] = {
	{.name = "ls", .summary = "list workers", .opts = ls_opts, .n_opts = BXC_ARRAY_SIZE(ls_opts), .run = cmd_worker_ls},
	{.name = "inspect", .args = "NAME", .summary = "show a worker", .opts = history_inspect_opts,
		.n_opts = BXC_ARRAY_SIZE(history_inspect_opts), .min_args = 1, .max_args = 1, .run = cmd_worker_inspect},
	{.name = "drain", .args = "NAME", .summary = "give a worker nothing new; it ends what it runs", .opts = drain_opts,
		.n_opts = BXC_ARRAY_SIZE(drain_opts), .min_args = 1, .max_args = 1, .run = cmd_worker_drain},
};

static const bxc_cli_verb verbs[] = {
	{.name = "build", .args = "CONTEXT", .summary = "build an image from a Dockerfile", .opts = cmd_build_opts, .n_opts = CMD_BUILD_N_OPTS,
		.min_args = 1, .max_args = 1,
		.alias = "b", .run = cmd_build},
	{.name = "ps", .summary = "list the builds that run", .opts = ps_opts, .n_opts = BXC_ARRAY_SIZE(ps_opts), .run = cmd_ps},
	LOGS_VERB,
	ATTACH_VERB,
	{.name = "cancel", .args = "BUILD", .summary = "end a build", .min_args = 1, .max_args = 1, .run = cmd_cancel},
	{.name = "why", .args = "[BUILD [STEP]]", .summary = "tell why steps of a build were executed, or who made what was cached", .opts = why_opts,
		.n_opts = BXC_ARRAY_SIZE(why_opts), .max_args = 2, .run = cmd_why},
	{.name = "du", .summary = "what the workers keep, and how much it takes", .opts = du_opts, .n_opts = BXC_ARRAY_SIZE(du_opts), .run = cmd_du},
	{.name = "prune", .summary = "remove what the workers keep and nobody uses", .opts = prune_opts, .n_opts = BXC_ARRAY_SIZE(prune_opts),
		.run = cmd_prune},
	{.name = "history", .summary = "what is recorded of builds", .verbs = history_verbs, .n_verbs = BXC_ARRAY_SIZE(history_verbs)},
	{.name = "create", .args = "ENDPOINT", .summary = "remember a cluster as a builder", .opts = create_opts,
		.n_opts = BXC_ARRAY_SIZE(create_opts), .min_args = 1, .max_args = 1, .run = cmd_create},
	{.name = "use", .args = "NAME", .summary = "choose the current builder", .min_args = 1, .max_args = 1, .run = cmd_use},
	{.name = "ls", .summary = "list builders and their workers", .opts = ls_opts, .n_opts = BXC_ARRAY_SIZE(ls_opts), .run = cmd_ls},
	{.name = "inspect", .args = "[NAME]", .summary = "show a builder", .opts = inspect_opts, .n_opts = BXC_ARRAY_SIZE(inspect_opts),
		.max_args = 1, .run = cmd_inspect},
	{.name = "rm", .args = "NAME", .summary = "forget a builder", .min_args = 1, .max_args = 1, .run = cmd_rm},
	{.name = "imagetools", .summary = "images in registries", .verbs = imagetools_verbs, .n_verbs = BXC_ARRAY_SIZE(imagetools_verbs)},
	{.name = "worker", .summary = "the workers of the cluster", .verbs = worker_verbs, .n_verbs = BXC_ARRAY_SIZE(worker_verbs)},
	{.name = "version", .summary = "show the version", .run = cmd_version},
	{.name = "man", .summary = "print the manual page", .hidden = true, .run = cmd_man},
	{.name = "completion", .args = "SHELL", .summary = "print completions for bash, zsh or fish", .min_args = 1, .max_args = 1,
		.run = cmd_completion},
};

const bxc_cli_verb bxc_cmd_root = {
	.name = "bxc",
	.summary = "build images on a cluster",
	.opts = root_opts,
	.n_opts = BXC_ARRAY_SIZE(root_opts),
	.verbs = verbs,
	.n_verbs = BXC_ARRAY_SIZE(verbs),
};
