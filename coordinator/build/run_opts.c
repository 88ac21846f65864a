/* SPDX-License-Identifier: Apache-2.0 */
/* What a request asks of all RUN steps: hosts, limits, network; and what steps of it may ask for.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/mem.h"
#include "common/base/str.h"

void run_opts_done(run_opts *o)
{
	bxc_strv_free(o->extra_hosts);
	bxc_strv_free(o->ulimits);
	*o = (run_opts){0};
}

static int read_network(const bxc_json *req, run_opts *o, bxc_err **err)
{
	static const char *const names[] = {"default", "none", "host"};
	static const bxc_net_mode modes[] = {BXC_NET_DEFAULT, BXC_NET_NONE, BXC_NET_HOST};
	const char *name = bxc_json_get_str(req, "network", "");
	if (!*name)
		return 0;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(names); i++) {
		if (bxc_str_eq(name, names[i])) {
			o->net = modes[i];
			return 0;
		}
	}
	return bxc_err_set(err, BXC_INVALID_ARGUMENT,
		"network: invalid network mode \"%.64s\" (default, none or host)", name);
}

/* Granted is what the client asks for and the configuration allows. */
static int read_entitlements(const bxc_build *e, const bxc_json *req, run_opts *o, bxc_err **err)
{
	BXC_AUTOSTRV char **asked = NULL;
	int r = bxc_json_get_strv(req, "entitlements", &asked, err);
	for (char **a = asked; r >= 0 && a && *a; a++) {
		bool *granted = bxc_str_eq(*a, "network.host")	      ? &o->allow_net_host
				: bxc_str_eq(*a, "security.insecure") ? &o->allow_insecure
								      : NULL;
		if (!granted)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"entitlements: unknown entitlement \"%.64s\" (network.host or "
				"security.insecure)",
				*a);
		if (!bxc_strv_has(e->c.entitlements, *a))
			return bxc_err_set(err, BXC_FAILED_PRECONDITION,
				"granting entitlement %s is not allowed by the configuration of "
				"the coordinator (--allow-insecure-entitlement)",
				*a);
		*granted = true;
	}
	return r < 0 ? r : 0;
}

/* The rules are those of definitions: a step with these options must be a good one. */
static int check(const run_opts *o, bxc_err **err)
{
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = bxc_def_new();
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_EXEC);
	uint32_t index;
	bxc_strv_push(&v->op.exec.args, "true");
	v->op.exec.cwd = bxc_strdup("/");
	v->op.exec.extra_hosts = bxc_strv_dup(o->extra_hosts);
	v->op.exec.ulimits = bxc_strv_dup(o->ulimits);
	v->op.exec.cgroup_parent = o->cgroup_parent ? bxc_strdup(o->cgroup_parent) : NULL;
	bxc_op_mount *root = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/");
	root->input = BXC_DEF_NO_INPUT;
	root->output = 0;
	int r = bxc_def_add(d, v, &index, err);
	return r < 0 ? r : bxc_def_validate(d, err);
}

int run_opts_read(const bxc_build *e, const bxc_json *req, run_opts *o, bxc_err **err)
{
	int r = bxc_json_get_strv(req, "extra_hosts", &o->extra_hosts, err);
	if (r >= 0)
		r = bxc_json_get_strv(req, "ulimits", &o->ulimits, err);
	if (r < 0)
		return r;
	o->cgroup_parent = bxc_json_get_str(req, "cgroup_parent", NULL);
	o->shm_size = bxc_json_get_u64(req, "shm_size", 0);
	r = read_network(req, o, err);
	if (r >= 0)
		r = read_entitlements(e, req, o, err);
	return r < 0 ? r : check(o, err);
}

void run_opts_apply(const run_opts *o, bxc_df_opts *df)
{
	df->extra_hosts = o->extra_hosts;
	df->ulimits = o->ulimits;
	df->cgroup_parent = o->cgroup_parent;
	df->shm_size = o->shm_size;
	df->net = o->net;
	df->allow_net_host = o->allow_net_host;
	df->allow_insecure = o->allow_insecure;
}
