/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>

#include "client/api/api.h"
#include "client/builder/builder.h"
#include "client/cmd/cmd.h"
#include "client/session/session.h"
#include "common/cli/exit.h"
#include "common/codec/json.h"
#include "common/oci/oci.h"

#define CMD_BUILD_N_OPTS 51u
extern const bxc_cli_opt cmd_build_opts[CMD_BUILD_N_OPTS];
extern const char *const cmd_progress_modes[];
int cmd_build(const bxc_cli *cli, void *ud);
int cmd_attach(const bxc_cli *cli, void *ud);
int cmd_ps(const bxc_cli *cli, void *ud);
int cmd_logs(const bxc_cli *cli, void *ud);
int cmd_cancel(const bxc_cli *cli, void *ud);
int cmd_why(const bxc_cli *cli, void *ud);
int cmd_history_ls(const bxc_cli *cli, void *ud);
int cmd_history_inspect(const bxc_cli *cli, void *ud);
int cmd_history_rm(const bxc_cli *cli, void *ud);
int cmd_create(const bxc_cli *cli, void *ud);
int cmd_use(const bxc_cli *cli, void *ud);
int cmd_ls(const bxc_cli *cli, void *ud);
int cmd_inspect(const bxc_cli *cli, void *ud);
int cmd_rm(const bxc_cli *cli, void *ud);
int cmd_imagetools_inspect(const bxc_cli *cli, void *ud);
int cmd_imagetools_create(const bxc_cli *cli, void *ud);
int cmd_du(const bxc_cli *cli, void *ud);
int cmd_prune(const bxc_cli *cli, void *ud);
int cmd_worker_ls(const bxc_cli *cli, void *ud);
int cmd_worker_inspect(const bxc_cli *cli, void *ud);
int cmd_worker_drain(const bxc_cli *cli, void *ud);
int cmd_version(const bxc_cli *cli, void *ud);
int cmd_completion(const bxc_cli *cli, void *ud);

/* Prints "ERROR: <text>" and gives the exit code for it. */
int cmd_fail(const bxc_err *err);
/* Text of others on one line, "-" for none; owned. And "KEY   text" with it, to standard output. */
char *cmd_shown(const char *text);
void cmd_line(const char *key, const char *value);
/* The strings of an array, each once, with commas between; owned (builders.c). */
char *cmd_join(const bxc_json *arr);
/* Errors of usage end with an exit code of their own: a new one, and one (code r) that others found. Both return the code. */
int cmd_usage(bxc_err **err, const char *fmt, ...) BXC_PRINTF(2, 3);
int cmd_usage_mark(bxc_err **err, int r);
bool cmd_is_usage(const bxc_err *err);
/* The builder that the line, the environment or the configuration choose; the embedded one is not started. */
int cmd_builder(const bxc_cli *cli, bxc_builder **ret, bxc_err **err);

/* ---- builds that exist (history.c, build.c) ---- */

typedef struct known_build {
	bxc_builder *builder;
	bxc_http_client *http;       /* for its API */
	char *id;
	bxc_json *record;            /* what the coordinator knows of it */
} known_build;
/* Only the way to the coordinator: builder and http. UNAVAILABLE when the embedded cluster is chosen and does not run. */
int known_connect(const bxc_cli *cli, known_build *ret, bxc_err **err);
/* The build that the line names, or the latest. UNAVAILABLE when the embedded cluster is chosen and does not run. */
int known_build_open(const bxc_cli *cli, known_build *ret, bxc_err **err);
/* What is asked of the build itself: `below` its path, "/cancel". */
int known_build_call(const known_build *k, const char *method, const char *below, bxc_json **ret, bxc_err **err);
void known_build_done(known_build *k);
#define AUTO_KNOWN_BUILD BXC_CLEANUP(known_build_done)
int cmd_follow_logs(const bxc_cli *cli);

/* ---- bxc build --detach (detach.c) ---- */

int cmd_detach(void);
bool is_detached(void);              /* are we what cmd_detach has started? */
void detached_ready(const char *id); /* then: the build has this id */

/* ---- what a build is (build_flags.c) ---- */

typedef struct output {
	char *type;
	char *dest;                  /* NULL: standard output for streams */
	char **attrs;                /* strv "k=v", without type and dest */
} output;

typedef struct build_call {
	char *name;                  /* NULL: a build */
	bool json;
	bool ignore_status;
} build_call;

typedef struct build_secret {
	char *id, *file, *env;       /* file or env is NULL */
} build_secret;

typedef struct build_agent {
	char *id, *socket;
	bool raw;
	bxc_csess_keyring *keyring;  /* NULL: somebody else's agent */
} build_agent;
typedef struct cache_spec {          /* one --cache-from or --cache-to */
	char *type;
	char **attrs;                /* strv "k=v", without type */
} cache_spec;
typedef BXC_ARR(cache_spec) cache_specs;

typedef struct build_plan {
	BXC_ARR(bxc_csess_dir) dirs;         /* all strings owned */
	BXC_ARR(bxc_csess_layout) layouts;
	bool has_upload;
	bxc_csess_upload upload;
	char *dockerfile_name;       /* base name, as errors show it; within a context from elsewhere: its path */
	bool has_dockerfile;         /* else it comes from elsewhere */
	bxc_buf dockerfile;
	build_call call;
	bxc_json *request;           /* without session */
	BXC_ARR(output) outputs;
	BXC_ARR(bxc_csess_export) exports;   /* parallel; strings borrowed from outputs */
	bool load;                   /* outputs.v[load_index] goes to docker */
	size_t load_index;
	BXC_ARR(build_secret) secrets;
	BXC_ARR(build_agent) agents;
	BXC_ARR(bxc_csess_secret) served_secrets;   /* parallel; strings borrowed */
	BXC_ARR(bxc_csess_agent) served_agents;
	cache_specs cache_from, cache_to;
	BXC_ARR(bxc_csess_cache) imports, caches;   /* of the request; strings borrowed from the specs */
	const char *progress;        /* auto, plain, tty, rawjson, quiet, none */
	const char *iidfile, *metadata_file;
	bool quiet, debug;
} build_plan;
void build_plan_done(build_plan *p);
/* Reads flags, Dockerfile and ignore file. */
int build_plan_make(const bxc_cli *cli, build_plan *ret, bxc_err **err);
/* The context, the Dockerfile, named contexts (build_context.c): to the request, and what the session serves. */
int plan_context(const bxc_cli *cli, build_plan *p, bxc_err **err);
int plan_named_contexts(const bxc_cli *cli, build_plan *p, bxc_err **err);
void plan_context_done(build_plan *p);
/* --load (load.c): `docker load`, which reads what is written to the descriptor. */
typedef struct loader loader;
int loader_start(loader **ret, int *ret_fd, bxc_err **err);
/* Ends its input and waits: 0 when the image is loaded. Frees. */
int loader_finish(loader *l, bxc_err **err);
void loader_free(loader *l);         /* kills it */
/* --annotation, once the outputs are known (annotation.c). */
int annotations_plan(const bxc_cli *cli, build_plan *p, bxc_err **err);
/* What RUN steps get (build_run.c); called by build_plan_make. */
int build_plan_run(const bxc_cli *cli, build_plan *p, bxc_err **err);
bool build_is_allowed(const bxc_cli *cli, const char *what);      /* by --allow */
void secret_done(build_secret *s);
void agent_done(build_agent *a);
/* "type=oci,dest=x,k=v", "path", "-" (output.c). */
int output_parse(const char *spec, output *ret, bxc_err **err);
void output_done(output *o);
#define OUTPUT_MAY_DELETE "buildx.local.delete"
/* type=oci,tar=false: the destination is a folder. */
int output_is_layout(const output *o, bool *ret, bxc_err **err);
/* type=local,mode=delete: what is not of the result goes; outside of the working folder only when allowed. */
int output_is_exact(const output *o, bool may_delete, bool *ret, bxc_err **err);
/* cache.c: "REF[,REF]" or "type=T,k=v"; `to`: --cache-to. */
int cache_specs_parse(char *const *list, bool to, cache_specs *ret, bxc_err **err);
void cache_spec_done(cache_spec *c);
int plan_caches(const bxc_cli *cli, build_plan *p, bxc_err **err);
/* A list "k=v" as the object `key` of `o`, returned; from_env: what has no value takes that of the environment. */
bxc_json *cmd_set_pairs(bxc_json *o, const char *key, char *const *list, bool from_env);
/* Fields of one CSV record: "a","b ""c""",d; an owned strv. */
int csv_split(const char *s, char ***ret, bxc_err **err);
/* Of a field "Key=value": cuts it to "key", and gives the value; NULL, and nothing is changed: it has none. */
char *csv_cut_value(char *field);
/* --attest, --provenance, --sbom and what is the default: {"provenance": {"mode": "min", ...}}, owned (attest.c). */
int attests_read(const bxc_cli *cli, bxc_json **ret, bxc_err **err);
/* "check,format=json" (call.c); `ret` is zeroed by the caller. */
int call_parse(const char *spec, build_call *ret, bxc_err **err);
/* Shows the answer ("call" of a result) and gives the exit code. */
int call_print(const build_plan *p, const bxc_json *answer, FILE *out, FILE *err_out);
