/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/attest/attest_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define BUILD_TYPE_V1  "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
#define BUILD_TYPE_V02 "https://mobyproject.org/buildkit@v1"
#define FRONTEND       "dockerfile.v0"
#define BUILDER_ID_MAX 4096u

/* ---- what is asked for ---- */

void bxc_att_provenance_done(bxc_att_provenance *p)
{
	free(p->builder_id);
	*p = (bxc_att_provenance){0};
}

static int read_bool(const bxc_json *o, const char *key, bool *ret, bxc_err **err)
{
	const char *v = bxc_json_get_str(o, key, NULL);
	if (v && bxc_str_to_bool(v, ret, NULL) < 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "failed to parse %s flag '%.64s': expected true or false", key, v);
	return 0;
}

static int read_attrs(const bxc_json *o, bxc_att_provenance *p, bxc_err **err)
{
	const char *mode = bxc_json_get_str(o, "mode", "max"), *version = bxc_json_get_str(o, "version", "v1");
	const char *id = bxc_json_get_str(o, "builder-id", NULL);
	bool disabled = false;
	int r = read_bool(o, "disabled", &disabled, err);
	if (r >= 0)
		r = read_bool(o, "inline-only", &p->inline_only, err);
	if (r >= 0)
		r = read_bool(o, "reproducible", &p->reproducible, err);
	if (r < 0)
		return r;
	p->wanted = !disabled;
	p->max = bxc_str_eq(mode, "max") || bxc_str_eq(mode, "full");
	p->v02 = bxc_str_eq(version, "v0.2");
	if (!p->max && !bxc_str_eq(mode, "min"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid mode '%.64s': expected min or max", mode);
	if (!p->v02 && !bxc_str_eq(version, "v1"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid provenance SLSA version '%.64s': expected v1 or v0.2", version);
	if (id && strlen(id) > BUILDER_ID_MAX)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "builder-id: more than %u bytes", BUILDER_ID_MAX);
	p->builder_id = bxc_strdup(id);
	return 0;
}

int bxc_att_provenance_parse(const bxc_json *attests, bxc_att_provenance *ret, bxc_err **err)
{
	bxc_att_provenance p = {0};
	const bxc_json *o = bxc_json_get(attests, "provenance");
	int r = 0;
	if (o && !bxc_json_is_object(o))
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "expected an object of strings");
	else if (o)
		r = read_attrs(o, &p, err);
	if (r < 0) {
		bxc_att_provenance_done(&p);
		return bxc_err_wrap(err, r, "attests.provenance");
	}
	*ret = p;
	return 0;
}

const char *bxc_att_predicate_type(const bxc_att_provenance *p)
{
	return p->v02 ? "https://slsa.dev/provenance/v0.2" : "https://slsa.dev/provenance/v1";
}

/* ---- what the build consists of ---- */

bool *att_reachable(const bxc_att_facts *f)
{
	size_t n = f->def ? f->def->vertices.n : 0;
	bool *used = bxc_calloc(n + 1, sizeof(*used));
	if (f->target == BXC_DEF_NO_INPUT)
		return used;
	used[f->target] = true;
	/* Inputs precede their users. */
	for (size_t i = (size_t)f->target + 1; i-- > 0;)
		if (used[i])
			BXC_ARR_FOREACH (in, &f->def->vertices.v[i]->inputs)
				used[in->vertex] = true;
	return used;
}

struct facts {
	bxc_json *materials;         /* array of {"uri", "digest"}; handed over */
	bxc_json *secrets, *ssh;     /* arrays of {"id", "optional"} */
	bool local;                  /* something came from a client: not all materials are known */
	bool network;                /* a step could reach a network */
};

static void add_material(bxc_json *list, const bxc_att_material *m)
{
	BXC_JSON_FOREACH (o, list)
		if (bxc_str_eq(bxc_json_get_str(o, "uri", NULL), m->uri))
			return;
	bxc_json *o = bxc_json_push_object(list);
	bxc_json_set_str(o, "uri", m->uri);
	bxc_json_set_str(bxc_json_add_object(o, "digest"), m->alg, m->hex);
}

static void add_mount(bxc_json *list, const bxc_op_mount *m)
{
	const char *id = m->cache_id ? m->cache_id : "";
	BXC_JSON_FOREACH (o, list)
		if (bxc_str_eq(bxc_json_get_str(o, "id", NULL), id))
			return;
	bxc_json *o = bxc_json_push_object(list);
	bxc_json_set_str(o, "id", id);
	if (m->optional)
		bxc_json_set_bool(o, "optional", true);
}

static void collect_source(const bxc_att_facts *f, const bxc_def_vertex *v, struct facts *x)
{
	bxc_att_material m = {0};
	if (bxc_str_has_prefix(v->op.source.identifier, "local://"))
		x->local = true;
	else if (f->material(v, &m, f->ud))
		add_material(x->materials, &m);
	free(m.uri);
	free(m.hex);
}

static void collect(const bxc_att_facts *f, struct facts *x)
{
	BXC_AUTOFREE bool *used = att_reachable(f);
	*x = (struct facts){.materials = bxc_json_array(), .secrets = bxc_json_array(), .ssh = bxc_json_array()};
	for (size_t i = 0; f->def && i < f->def->vertices.n; i++) {
		const bxc_def_vertex *v = f->def->vertices.v[i];
		if (!used[i])
			continue;
		if (v->kind == BXC_OP_SOURCE)
			collect_source(f, v, x);
		if (v->kind != BXC_OP_EXEC)
			continue;
		x->network = x->network || v->op.exec.net != BXC_NET_NONE;
		BXC_ARR_FOREACH (m, &v->op.exec.mounts)
			if (m->kind == BXC_MOUNT_SECRET || m->kind == BXC_MOUNT_SSH)
				add_mount(m->kind == BXC_MOUNT_SSH ? x->ssh : x->secrets, m);
	}
}

/* ---- the predicate ---- */

static void add_pairs(bxc_json *args, const char *prefix, char *const *list)
{
	for (; list && *list; list++) {
		const char *eq = strchr(*list, '=');
		if (!eq)
			continue;
		BXC_AUTOFREE char *key = bxc_str_fmt("%s%.*s", prefix, (int)(eq - *list), *list);
		bxc_json_set_str(args, key, eq + 1);
	}
}

/* The request as it came; with `min` without what users put values into. */
static bxc_json *request(const bxc_att_provenance *p, const bxc_att_facts *f, struct facts *x)
{
	bxc_json *o = bxc_json_object();
	bxc_json_set_str(o, "frontend", FRONTEND);
	bxc_json *args = bxc_json_object();
	if (!bxc_str_empty(f->stage))
		bxc_json_set_str(args, "target", f->stage);
	if (p->max) {
		add_pairs(args, "build-arg:", f->build_args);
		add_pairs(args, "label:", f->labels);
	}
	if (bxc_json_len(args))
		bxc_json_set_take(o, "args", args);
	else
		bxc_json_free(args);
	if (p->max && bxc_json_len(x->secrets))
		bxc_json_set_take(o, "secrets", bxc_json_dup(x->secrets));
	if (p->max && bxc_json_len(x->ssh))
		bxc_json_set_take(o, "ssh", bxc_json_dup(x->ssh));
	bxc_json *locals = bxc_json_add_array(o, "locals");
	if (f->has_context)
		bxc_json_set_str(bxc_json_push_object(locals), "name", "context");
	bxc_json_set_str(bxc_json_push_object(locals), "name", "dockerfile");
	return o;
}

static void set_time(bxc_json *o, const char *key, int64_t ns)
{
	BXC_AUTOFREE char *text = bxc_clock_rfc3339(ns);
	bxc_json_set_str(o, key, text);
}

static bool all_arguments_told(const bxc_att_provenance *p, const bxc_att_facts *f)
{
	return p->max || ((!f->build_args || !*f->build_args) && (!f->labels || !*f->labels));
}

static bxc_json *make_v1(const bxc_att_provenance *p, const bxc_att_facts *f, struct facts *x)
{
	BXC_AUTOFREE char *platform = bxc_platform_str(&f->builder);
	bxc_json *j = bxc_json_object();
	bxc_json *def = bxc_json_add_object(j, "buildDefinition");
	bxc_json_set_str(def, "buildType", BUILD_TYPE_V1);
	bxc_json *external = bxc_json_add_object(def, "externalParameters");
	bxc_json_set_str(bxc_json_add_object(external, "configSource"), "path", f->dockerfile_name);
	bxc_json_set_take(external, "request", request(p, f, x));
	bxc_json *internal = bxc_json_add_object(def, "internalParameters");
	if (p->max)
		bxc_json_set_take(internal, "buildConfig", att_steps(f));
	bxc_json_set_str(internal, "builderPlatform", platform);
	if (bxc_json_len(x->materials))
		bxc_json_set_take(def, "resolvedDependencies", bxc_json_dup(x->materials));
	bxc_json *run = bxc_json_add_object(j, "runDetails");
	bxc_json_set_str(bxc_json_add_object(run, "builder"), "id", p->builder_id ? p->builder_id : "");
	bxc_json *meta = bxc_json_add_object(run, "metadata");
	bxc_json_set_str(meta, "invocationID", f->build_id);
	set_time(meta, "startedOn", f->started_ns);
	set_time(meta, "finishedOn", f->finished_ns);
	bxc_json *own = bxc_json_add_object(meta, "buildkit_metadata");
	if (p->max)
		bxc_json_set_take(own, "source", att_source_map(f));
	bxc_json_set_bool(meta, "buildkit_hermetic", !x->local && !x->network);
	bxc_json *complete = bxc_json_add_object(meta, "buildkit_completeness");
	bxc_json_set_bool(complete, "request", all_arguments_told(p, f));
	bxc_json_set_bool(complete, "resolvedDependencies", !x->local);
	bxc_json_set_bool(meta, "buildkit_reproducible", p->reproducible);
	return j;
}

static bxc_json *make_v02(const bxc_att_provenance *p, const bxc_att_facts *f, struct facts *x)
{
	BXC_AUTOFREE char *platform = bxc_platform_str(&f->builder);
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(bxc_json_add_object(j, "builder"), "id", p->builder_id ? p->builder_id : "");
	bxc_json_set_str(j, "buildType", BUILD_TYPE_V02);
	if (bxc_json_len(x->materials))
		bxc_json_set_take(j, "materials", bxc_json_dup(x->materials));
	bxc_json *call = bxc_json_add_object(j, "invocation");
	bxc_json_set_str(bxc_json_add_object(call, "configSource"), "entryPoint", f->dockerfile_name);
	bxc_json_set_take(call, "parameters", request(p, f, x));
	bxc_json_set_str(bxc_json_add_object(call, "environment"), "platform", platform);
	if (p->max)
		bxc_json_set_take(j, "buildConfig", att_steps(f));
	bxc_json *meta = bxc_json_add_object(j, "metadata");
	bxc_json_set_str(meta, "buildInvocationID", f->build_id);
	set_time(meta, "buildStartedOn", f->started_ns);
	set_time(meta, "buildFinishedOn", f->finished_ns);
	bxc_json *complete = bxc_json_add_object(meta, "completeness");
	bxc_json_set_bool(complete, "parameters", all_arguments_told(p, f));
	bxc_json_set_bool(complete, "environment", true);
	bxc_json_set_bool(complete, "materials", !x->local);
	bxc_json_set_bool(meta, "reproducible", p->reproducible);
	bxc_json_set_bool(meta, BUILD_TYPE_V02 "#hermetic", !x->local && !x->network);
	bxc_json *own = bxc_json_add_object(meta, BUILD_TYPE_V02 "#metadata");
	if (p->max)
		bxc_json_set_take(own, "source", att_source_map(f));
	return j;
}

bxc_json *bxc_att_provenance_make(const bxc_att_provenance *p, const bxc_att_facts *f)
{
	struct facts x;
	collect(f, &x);
	bxc_json *j = p->v02 ? make_v02(p, f, &x) : make_v1(p, f, &x);
	bxc_json_free(x.materials);
	bxc_json_free(x.secrets);
	bxc_json_free(x.ssh);
	return j;
}
