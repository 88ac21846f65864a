/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running git. URLs, refs and folders of others are given to it: they never reach a shell, and come
 * after "--" or as a value, so that none is taken for an option (common/remote has refused those
 * that start with one). Credentials travel in the environment, which other users cannot read.
 */
#include "worker/source/git_internal.h"

#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/codec/base64.h"

#define RUN_MS	   (30 * 60 * 1000) /* of one command */
#define OUT_MAX	   (64u << 20)	    /* bytes: the refs of a large repository */
#define ERRORS_MAX (1u << 20)
#define FILE_MAX   (UINT64_C(32) << 30) /* bytes of any file that git writes */

char **git_strv(const char *const *args)
{
	char **v = NULL;
	for (; *args; args++)
		bxc_strv_push(&v, *args);
	return v;
}

/* ---- environment ---- */

static void set_config(char ***env, unsigned *n, const char *key, const char *value)
{
	bxc_strv_pushf(env, "GIT_CONFIG_KEY_%u=%s", *n, key);
	bxc_strv_pushf(env, "GIT_CONFIG_VALUE_%u=%s", *n, value);
	(*n)++;
}

/* "https://host/": where the header of credentials may go. */
static char *auth_scope(const char *remote)
{
	BXC_AUTOFREE char *host = bxc_remote_host(remote);
	return bxc_str_fmt("%.*s%s/", (int)(strstr(remote, "://") - remote + 3), remote, host);
}

static char **environment(const git *g, const git_run *r)
{
	static const char *const passed[] = {"PATH", "http_proxy", "https_proxy", "HTTPS_PROXY",
		"no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"};
	static const char *const config[][2] = {
		{"core.hooksPath", "/dev/null"},
		{"core.fsmonitor", "false"},
		{"core.autocrlf", "false"},
		{"core.fileMode", "true"},
		{"credential.helper", ""},
		{"gc.auto", "0"},
		{"maintenance.auto", "false"},
		{"advice.detachedHead", "false"},
		{"init.defaultBranch", "master"},
		{"http.lowSpeedLimit", "1"},
		{"http.lowSpeedTime", "60"},
	};
	char **env = NULL;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(passed); i++)
		if (getenv(passed[i]))
			bxc_strv_pushf(&env, "%s=%s", passed[i], getenv(passed[i]));
	bxc_strv_push(&env, "LC_ALL=C");
	bxc_strv_push(&env, "HOME=/dev/null");
	bxc_strv_push(&env, "XDG_CONFIG_HOME=/dev/null");
	bxc_strv_push(&env, "GIT_CONFIG_NOSYSTEM=1");
	bxc_strv_push(&env, "GIT_CONFIG_GLOBAL=/dev/null");
	bxc_strv_push(&env, "GIT_ATTR_NOSYSTEM=1");
	bxc_strv_push(&env, "GIT_TERMINAL_PROMPT=0");
	bxc_strv_push(&env, "GIT_ASKPASS=/bin/false");
	bxc_strv_push(&env, "GIT_PROTOCOL=version=2");
	/* Submodules behind ssh can be had by who has shown an agent for the repository itself. */
	bxc_strv_push(&env, r->local	? "GIT_ALLOW_PROTOCOL=file"
			    : g->agent	? "GIT_ALLOW_PROTOCOL=http:https:git:ssh"
					: "GIT_ALLOW_PROTOCOL=http:https:git");
	if (g->agent && !r->local)
		git_agent_env(g->agent, &env);
	unsigned n = 0;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(config); i++)
		set_config(&env, &n, config[i][0], config[i][1]);
	if (r->with_auth && g->auth) {
		BXC_AUTOFREE char *scope = auth_scope(g->ref.remote);
		BXC_AUTOFREE char *key = bxc_str_fmt("http.%s.extraHeader", scope);
		char *value =
			bxc_str_fmt("Authorization: %s", (const char *)bxc_secret_bytes(g->auth).p);
		set_config(&env, &n, key, value);
		explicit_bzero(value, strlen(value));
		free(value);
	}
	bxc_strv_pushf(&env, "GIT_CONFIG_COUNT=%u", n);
	for (char **e = r->env; e && *e; e++)
		bxc_strv_push(&env, *e);
	return env;
}

static void wipe_strv(char **v)
{
	for (char **s = v; s && *s; s++)
		explicit_bzero(*s, strlen(*s));
	bxc_strv_free(v);
}

/* ---- credentials ---- */

/* One line of visible characters: a header is made of it. */
static bool is_header_value(bxc_slice v)
{
	for (size_t i = 0; i < v.n; i++)
		if (v.p[i] < ' ' || v.p[i] == 0x7f)
			return false;
	return v.n > 0;
}

static int take_auth(git *g, const char *name, bool is_token, bxc_err **err)
{
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *s = NULL;
	int r = g->client->secret(name, &s, g->client->ud, err);
	if (r < 0 || !s)
		return r;
	bxc_slice v = bxc_secret_bytes(s);
	while (v.n && (v.p[v.n - 1] == '\n' || v.p[v.n - 1] == '\r'))
		v.n--;
	if (!is_header_value(v))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "secret '%s': expected one line", name);
	if (!is_token) {
		g->auth = bxc_secret_new(v.p, v.n);
		return 0;
	}
	char *pair = bxc_str_fmt("x-access-token:%.*s", (int)v.n, (const char *)v.p);
	char *code = bxc_base64_encode((const uint8_t *)pair, strlen(pair));
	char *value = bxc_str_fmt("basic %s", code);
	g->auth = bxc_secret_new(value, strlen(value));
	char *const parts[] = {pair, code, value};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(parts); i++) {
		explicit_bzero(parts[i], strlen(parts[i]));
		free(parts[i]);
	}
	return 0;
}

/* A header before a token, what is for this host before what is for all. */
static int find_auth(git *g, bxc_err **err)
{
	if (g->asked_auth || !g->client->secret || !bxc_remote_is_http(g->ref.remote))
		return 0;
	g->asked_auth = true;
	BXC_AUTOFREE char *host = bxc_remote_host(g->ref.remote);
	int r = 0;
	for (unsigned i = 0; r >= 0 && !g->auth && i < 4; i++) {
		bool token = i % 2 == 1;
		BXC_AUTOFREE char *name =
			bxc_str_fmt("%s%s%s", token ? "GIT_AUTH_TOKEN" : "GIT_AUTH_HEADER",
				i < 2 ? "." : "", i < 2 ? host : "");
		r = take_auth(g, name, token, err);
	}
	return r;
}

/* ---- running ---- */

static void replace_all(bxc_buf *b, const char *what, const char *with)
{
	size_t n = strlen(what);
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(b->len * 2 + 4096);
	const char *s = bxc_buf_text(b);
	for (const char *at; n && (at = strstr(s, what)) && out.len < b->len + 2048; s = at + n) {
		bxc_buf_add(&out, s, (size_t)(at - s));
		bxc_buf_adds(&out, with);
	}
	if (bxc_buf_append(&out, s, strlen(s), NULL) < 0)
		bxc_buf_clear(&out);
	bxc_buf_clear(b);
	bxc_buf_adds(b, bxc_buf_text(&out));
}

/* The last lines that git said, on one line, without what is nobody's business. */
static char *complaint(const git *g, bxc_buf *said)
{
	replace_all(said, g->ref.remote, g->shown);
	replace_all(said, g->bare, "repository");
	const char *text = bxc_buf_text(said);
	size_t n = strlen(text);
	char *line = bxc_strdup(n > 2000 ? text + n - 2000 : text);
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = *p == '\n' && p[1] ? ';' : ' ';
	char *trimmed = bxc_strdup(bxc_str_trim(line));
	free(line);
	return trimmed;
}

int git_exec(git *g, git_run *r, bxc_buf *out, bool *ret_ok, bxc_err **err)
{
	BXC_AUTOSTRV char **args = BXC_TAKE(r->args), **more = BXC_TAKE(r->env), **argv = NULL;
	BXC_AUTOBUF bxc_buf said = BXC_BUF_INIT(ERRORS_MAX), ignored = BXC_BUF_INIT(OUT_MAX);
	bxc_proc_status status;
	int k = r->with_auth ? find_auth(g, err) : 0;
	if (k < 0)
		return k;
	bxc_strv_push(&argv, "git");
	for (char **a = args; *a; a++)
		bxc_strv_push(&argv, *a);
	git_run with = *r;
	with.env = more;
	char **env = environment(g, &with);
	const bxc_proc_run_opts o = {
		.argv = argv,
		.env = env,
		.cwd = r->cwd,
		.timeout_ms = RUN_MS,
		.cancel_fd = bxc_cancel_fd(g->client->cancel),
		.max_file_bytes = FILE_MAX,
	};
	bxc_err *why = NULL;
	k = bxc_proc_run(&o, out ? out : &ignored, &said, &status, &why);
	wipe_strv(env);
	if (k == -BXC_NOT_FOUND) {
		bxc_err_free(why);
		k = bxc_err_set(
			err, BXC_FAILED_PRECONDITION, "git is not installed on this worker");
		/* Another worker may have it. */
		if (err)
			bxc_err_detail(*err, "infra", "1");
		return k;
	}
	if (k < 0)
		return bxc_err_wrap_take(err, why, k, "git %s of %s", args[0], g->shown);
	bool ok = status.exit_code == 0 && !status.signo;
	if (ret_ok)
		*ret_ok = ok;
	if (ok || r->may_fail)
		return 0;
	BXC_AUTOFREE char *text = complaint(g, &said);
	return bxc_err_set(err, BXC_FAILED_PRECONDITION, "git %s of %s failed: %s", args[0],
		g->shown, *text ? text : "it did not say why");
}
