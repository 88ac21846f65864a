/* SPDX-License-Identifier: Apache-2.0 */
/* Flags about what RUN steps get: secrets, agents, hosts, limits, entitlements. */
#include "client/cmd/cmd_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/base/str.h"

static int bad_value(const char *flag, const char *value, bxc_err **err, const char *fmt, ...)
	BXC_PRINTF(4, 5);

/* "--secret 'id=a,colour=red': <what>" */
static int bad_value(const char *flag, const char *value, bxc_err **err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = bxc_err_setv(err, BXC_INVALID_ARGUMENT, fmt, ap);
	va_end(ap);
	return bxc_err_wrap(err, cmd_usage_mark(err, r), "--%s '%s'", flag, value);
}

/* ---- --secret ---- */

void secret_done(build_secret *s)
{
	free(s->id);
	free(s->file);
	free(s->env);
	*s = (build_secret){0};
}

static int fill_secret(const char *spec, build_secret *s, bxc_err **err)
{
	BXC_AUTOSTRV char **fields = NULL;
	bool is_env = false;
	BXC_AUTOERR bxc_err *why = NULL;
	if (csv_split(spec, &fields, &why) < 0)
		return bad_value("secret", spec, err, "%s", bxc_err_text(why));
	for (char **f = fields; *f; f++) {
		const char *key = *f, *value = csv_cut_value(*f);
		if (!value)
			return bad_value("secret", spec, err,
				"invalid field '%s' must be a key=value pair", *f);
		if (bxc_str_eq(key, "type")) {
			if (!bxc_str_eq(value, "file") && !bxc_str_eq(value, "env"))
				return bad_value("secret", spec, err,
					"unsupported secret type \"%s\" (file or env)", value);
			is_env = bxc_str_eq(value, "env");
			continue;
		}
		bool is_id = bxc_str_eq(key, "id"),
		     is_file = bxc_str_eq(key, "source") || bxc_str_eq(key, "src");
		char **slot = is_id		       ? &s->id
			      : is_file		       ? &s->file
			      : bxc_str_eq(key, "env") ? &s->env
						       : NULL;
		if (!slot)
			return bad_value("secret", spec, err,
				"unexpected key '%s' (id, src, env or type)", key);
		free(*slot);
		*slot = *value ? bxc_strdup(value) : NULL;
	}
	if (is_env && !s->env)
		s->env = BXC_TAKE(s->file);
	if (!s->id)
		return bad_value("secret", spec, err, "secret missing ID");
	/* A name alone: a variable that is set, else a file. */
	if (!s->env && !s->file)
		*(getenv(s->id) ? &s->env : &s->file) = bxc_strdup(s->id);
	if (s->env)
		free(BXC_TAKE(s->file));
	return 0;
}

static int check_secret(const build_secret *s, const char *spec, bxc_err **err)
{
	struct stat st;
	if (!s->file)
		return 0;
	if (stat(s->file, &st) < 0)
		return bxc_err_errno(err, errno, "--secret '%s': failed to stat %s", spec, s->file);
	if (S_ISDIR(st.st_mode))
		return bad_value("secret", spec, err, "'%s' is a folder", s->file);
	if (S_ISREG(st.st_mode) && st.st_size > (off_t)BXC_CSESS_SECRET_MAX)
		return bad_value("secret", spec, err, "secret %s too big. max size %u KiB", s->id,
			BXC_CSESS_SECRET_MAX >> 10);
	return 0;
}

static int plan_secrets(const bxc_cli *cli, build_plan *p, bxc_err **err)
{
	for (char *const *v = bxc_cli_list(cli, "secret"); v && *v; v++) {
		build_secret *s = bxc_arr_push(&p->secrets);
		int r = fill_secret(*v, s, err);
		if (r >= 0)
			r = check_secret(s, *v, err);
		if (r < 0)
			return r;
	}
	BXC_ARR_FOREACH (s, &p->secrets)
		*bxc_arr_push(&p->served_secrets) = (bxc_csess_secret){s->id, s->file, s->env};
	return 0;
}

/* ---- --ssh ---- */

void agent_done(build_agent *a)
{
	free(a->id);
	free(a->socket);
	bxc_csess_keyring_stop(a->keyring);
	*a = (build_agent){0};
}

/* A socket, or files with keys; never both. */
static int sort_paths(
	const char *spec, char **paths, build_agent *a, char ***ret_keys, bxc_err **err)
{
	for (char **p = paths; p && *p; p++) {
		struct stat st;
		if (bxc_str_has_prefix(*p, "raw=")) {
			if (bxc_str_to_bool(*p + strlen("raw="), &a->raw, NULL) < 0)
				return bad_value("ssh", spec, err, "invalid value for 'raw': '%s'",
					*p + strlen("raw="));
			continue;
		}
		if (!**p)
			continue;
		if (a->socket)
			return bad_value("ssh", spec, err, "only single socket allowed");
		if (stat(*p, &st) < 0)
			return bxc_err_errno(err, errno, "--ssh '%s': failed to stat %s", spec, *p);
		if (S_ISSOCK(st.st_mode))
			a->socket = bxc_strdup(*p);
		else
			bxc_strv_push(ret_keys, *p);
	}
	if (a->socket && *ret_keys)
		return bad_value("ssh", spec, err, "invalid combination of keys and sockets");
	if (a->raw && *ret_keys)
		return bad_value("ssh", spec, err, "raw mode only supported with socket paths");
	return 0;
}

static int fill_agent(const char *spec, build_agent *a, bxc_err **err)
{
	const char *eq = strchr(spec, '=');
	BXC_AUTOSTRV char **paths = eq ? bxc_strv_split(eq + 1, ',') : NULL;
	BXC_AUTOSTRV char **keys = NULL;
	a->id = eq ? bxc_strndup(spec, (size_t)(eq - spec)) : bxc_strdup(spec);
	if (!*a->id) {
		free(a->id);
		a->id = bxc_strdup("default");
	}
	int r = sort_paths(spec, paths, a, &keys, err);
	if (r < 0)
		return r;
	if (keys) {
		r = bxc_csess_keyring_start(keys, &a->keyring, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "--ssh '%s'", spec);
		a->socket = bxc_strdup(bxc_csess_keyring_socket(a->keyring));
	}
	if (a->socket)
		return 0;
	const char *own = getenv("SSH_AUTH_SOCK");
	if (bxc_str_empty(own))
		return bad_value("ssh", spec, err,
			"invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set");
	a->socket = bxc_strdup(own);
	return 0;
}

static int plan_agents(const bxc_cli *cli, build_plan *p, bxc_err **err)
{
	for (char *const *v = bxc_cli_list(cli, "ssh"); v && *v; v++) {
		build_agent *a = bxc_arr_push(&p->agents);
		int r = fill_agent(*v, a, err);
		if (r < 0)
			return r;
		for (size_t i = 0; i + 1 < p->agents.n; i++)
			if (bxc_str_eq(p->agents.v[i].id, a->id))
				return bad_value("ssh", *v, err, "duplicate agent ID \"%s\"", a->id);
	}
	BXC_ARR_FOREACH (a, &p->agents)
		*bxc_arr_push(&p->served_agents) = (bxc_csess_agent){a->id, a->socket, a->raw};
	return 0;
}

/* ---- what every RUN step gets ---- */

/* "name:ip" or "name=ip", the address maybe in brackets. */
static int add_host(const char *spec, bxc_json *list, bxc_err **err)
{
	size_t n = strcspn(spec, "=");
	if (!spec[n])
		n = strcspn(spec, ":");
	if (n == 0 || !spec[n] || !spec[n + 1])
		return bad_value("add-host", spec, err, "invalid host, expected name:ip");
	BXC_AUTOFREE char *ip = bxc_strdup(spec + n + 1);
	size_t len = strlen(ip);
	char *bare = ip;
	if (*ip == '[' && ip[len - 1] == ']') {
		ip[len - 1] = '\0';
		bare++;
	}
	struct in6_addr any;
	if (!bxc_str_eq(bare, "host-gateway") && inet_pton(AF_INET, bare, &any) != 1 &&
		inet_pton(AF_INET6, bare, &any) != 1)
		return bad_value("add-host", spec, err, "'%s' is no IP address", bare);
	BXC_AUTOFREE char *entry = bxc_str_fmt("%.*s=%s", (int)n, spec, bare);
	bxc_json_push_str(list, entry);
	return 0;
}

/* "name=soft[:hard]" */
static int add_ulimit(const char *spec, bxc_json *list, bxc_err **err)
{
	static const char *const names[] = {"core", "cpu", "data", "fsize", "locks", "memlock",
		"msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending",
		"stack"};
	BXC_AUTOFREE char *text = bxc_strdup(spec);
	char *eq = strchr(text, '=');
	if (!eq)
		return bad_value(
			"ulimit", spec, err, "invalid ulimit argument, expected name=soft[:hard]");
	*eq = '\0';
	bool known = false;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(names); i++)
		known = known || bxc_str_eq(names[i], text);
	if (!known)
		return bad_value("ulimit", spec, err, "invalid ulimit type: %s", text);
	int64_t soft, hard;
	char *colon = strchr(eq + 1, ':');
	if (colon)
		*colon = '\0';
	const char *hard_text = colon ? colon + 1 : eq + 1;
	if (bxc_str_to_i64(eq + 1, -1, INT64_MAX, &soft, NULL) < 0 ||
		bxc_str_to_i64(hard_text, -1, INT64_MAX, &hard, NULL) < 0)
		return bad_value("ulimit", spec, err, "limits are numbers, -1 for none");
	if (hard != -1 && (soft > hard || soft == -1))
		return bad_value("ulimit", spec, err,
			"ulimit soft limit must be less than or equal to hard limit: %s > %s",
			eq + 1, hard_text);
	BXC_AUTOFREE char *entry =
		bxc_str_fmt("%s=%lld:%lld", text, (long long)soft, (long long)hard);
	bxc_json_push_str(list, entry);
	return 0;
}

static int set_list(const bxc_cli *cli, build_plan *p, const char *flag, const char *field,
	int (*add)(const char *spec, bxc_json *list, bxc_err **err), bxc_err **err)
{
	char *const *v = bxc_cli_list(cli, flag);
	if (!v || !*v)
		return 0;
	bxc_json *list = bxc_json_add_array(p->request, field);
	int r = 0;
	for (; r >= 0 && *v; v++)
		r = add(*v, list, err);
	return r;
}

static int set_shm_size(const bxc_cli *cli, build_plan *p, bxc_err **err)
{
	const char *text = bxc_cli_str(cli, "shm-size");
	uint64_t bytes;
	if (!text)
		return 0;
	if (bxc_str_to_bytes(text, INT64_MAX, &bytes, NULL) < 0)
		return bad_value("shm-size", text, err, "invalid size (expected bytes, or as 64m)");
	bxc_json_set_u64(p->request, "shm_size", bytes);
	return 0;
}

/* ---- entitlements ---- */

bool build_is_allowed(const bxc_cli *cli, const char *what)
{
	BXC_AUTOFREE char *all = bxc_strv_join(bxc_cli_list(cli, "allow"), ",");
	BXC_AUTOSTRV char **parts = bxc_strv_split(all, ',');
	return bxc_strv_has(parts, what);
}

static int add_entitlement(const char *spec, bxc_json *list, bxc_err **err)
{
	BXC_AUTOSTRV char **parts = bxc_strv_split(spec, ',');
	for (char **e = parts; *e; e++) {
		if (bxc_str_eq(*e, "device") || bxc_str_has_prefix(*e, "device="))
			return bad_value("allow", spec, err, "no worker offers devices");
		/* Of the client alone. */
		if (bxc_str_eq(*e, OUTPUT_MAY_DELETE))
			continue;
		if (!bxc_str_eq(*e, "network.host") && !bxc_str_eq(*e, "security.insecure"))
			return bad_value("allow", spec, err,
				"invalid entitlement \"%s\" (network.host, security.insecure or "
				OUTPUT_MAY_DELETE ")",
				*e);
		bxc_json_push_str(list, *e);
	}
	return 0;
}

static int set_network(const bxc_cli *cli, build_plan *p, bxc_json *list, bxc_err **err)
{
	const char *net = bxc_cli_str(cli, "network");
	if (bxc_str_empty(net))
		return 0;
	if (!bxc_str_eq(net, "default") && !bxc_str_eq(net, "none") && !bxc_str_eq(net, "host"))
		return bad_value("network", net, err,
			"network mode \"%s\" not supported by a cluster (default, none or host)",
			net);
	bxc_json_set_str(p->request, "network", net);
	/* As buildx: who asks for it on the command line allows it, too. */
	if (bxc_str_eq(net, "host"))
		bxc_json_push_str(list, "network.host");
	return 0;
}

int build_plan_run(const bxc_cli *cli, build_plan *p, bxc_err **err)
{
	int r = set_list(cli, p, "add-host", "extra_hosts", add_host, err);
	if (r >= 0)
		r = set_list(cli, p, "ulimit", "ulimits", add_ulimit, err);
	if (r >= 0)
		r = set_shm_size(cli, p, err);
	bxc_json *entitlements = bxc_json_array();
	for (char *const *e = bxc_cli_list(cli, "allow"); r >= 0 && e && *e; e++)
		r = add_entitlement(*e, entitlements, err);
	if (r >= 0)
		r = set_network(cli, p, entitlements, err);
	bxc_json_set_take(p->request, "entitlements", entitlements);
	if (r >= 0)
		bxc_json_set_str(p->request, "cgroup_parent", bxc_cli_str(cli, "cgroup-parent"));
	if (r >= 0)
		r = plan_secrets(cli, p, err);
	return r < 0 ? r : plan_agents(cli, p, err);
}
