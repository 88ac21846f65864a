/* SPDX-License-Identifier: Apache-2.0 */
/* How git is run for sources. */
#pragma once

#include "common/os/proc.h"
#include "common/remote/remote.h"
#include "worker/source/source_internal.h"

typedef struct git_agent git_agent; /* git_ssh.c: the client's SSH agent, while git is used */
typedef struct git {
	bxc_src *s;
	const bxc_src_client *client;
	bxc_git_ref ref;
	char *shown;	  /* the remote as messages may show it */
	char *bare;	  /* our copy of the repository */
	bxc_secret *auth; /* value of an Authorization header; NULL: none */
	bool asked_auth;
	git_agent *agent; /* NULL: the remote is not behind ssh */
} git;

BXC_MUST_CHECK int git_agent_open(const git *g, git_agent **ret, bxc_err **err);
void git_agent_free(git_agent *a);
BXC_DEFINE_CLEANUP(git_agent, git_agent_free);
void git_agent_env(const git_agent *a, char ***env);

/* One run of git in a clean environment: neither the host's configuration nor hooks, prompts or
 * helpers count. */
typedef struct git_run {
	char **args; /* strv, after "git" */
	char **env;  /* strv, more variables */
	const char *cwd;
	bool local; /* may read from a folder of this machine; else only from the network */
	bool with_auth;
	bool may_fail; /* a failure of git's is told by *ret_ok alone */
} git_run;

/* Runs it; takes r->args and r->env. `out` (may be NULL) gets what it printed; ret_ok may be NULL
 * without may_fail. */
BXC_MUST_CHECK int git_exec(git *g, git_run *r, bxc_buf *out, bool *ret_ok, bxc_err **err);
/* The common case: in our copy of the repository, args end with NULL. */
#define git_args(...) git_strv((const char *const[]){__VA_ARGS__, NULL})
char **git_strv(const char *const *args);
