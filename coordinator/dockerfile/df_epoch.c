/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SOURCE_DATE_EPOCH: seconds, or the name of something whose time it is: "context", a named
 * context, a stage that is one download. Who lowers is asked for the times of sources.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include <inttypes.h>

#include "common/remote/remote.h"

#define KEY "SOURCE_DATE_EPOCH"

/* The earliest time that RFC 3339 can write. */
#define MIN_SECONDS INT64_C(-62135596800)
#define NS	    INT64_C(1000000000)

static int invalid(const char *text, const char *why, bxc_err **err)
{
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid " KEY ": %.64s%s%s", text,
		why ? ": " : "", why ? why : "");
}

static void set_value(df_lower *lw, const char *value)
{
	df_env_set(lw->global, KEY, value);
	if (df_env_get(lw->build_args, KEY))
		df_env_set(lw->build_args, KEY, value);
}

/* What has no time leaves the argument empty. */
static void set_time(df_lower *lw, bool has, int64_t ns)
{
	BXC_AUTOFREE char *value = has ? bxc_str_fmt("%" PRId64, ns / NS) : bxc_strdup("");
	set_value(lw, value);
	lw->res->has_epoch = has;
	lw->res->epoch_ns = has ? ns / NS * NS : 0;
}

/* 1: it is not known yet, and noted as needed. */
static int set_time_of(df_lower *lw, const bxc_def_vertex *source)
{
	int64_t ns = 0;
	bool has = false;
	if (lw->o->time_of && lw->o->time_of(source, &has, &ns, lw->o->time_of_ud)) {
		set_time(lw, has, ns);
		return 0;
	}
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	v->op.source.identifier = bxc_strdup(source->op.source.identifier);
	v->op.source.attrs = bxc_strv_dup(source->op.source.attrs);
	v->meta.name = bxc_strdup(source->meta.name);
	bxc_def_vertex_free(lw->res->need_time);
	lw->res->need_time = v;
	return 1;
}

/* ---- contexts ---- */

/* The tree of a context begins with what it was loaded from; a folder of the client has no time. */
static int time_of_tree(df_lower *lw, const bxc_def *d)
{
	if (d && d->vertices.n && d->vertices.v[0]->kind == BXC_OP_SOURCE)
		return set_time_of(lw, d->vertices.v[0]);
	set_time(lw, false, 0);
	return 0;
}

/* ---- stages ---- */

static const char no_download[] =
	"the time of a stage is that of its one ADD of a URL or a git repository, FROM scratch";

static bool is_remote(const bxc_def_vertex *v)
{
	const char *id = v->op.source.identifier;
	return v->kind == BXC_OP_SOURCE &&
	       (bxc_str_has_prefix(id, "git://") || bxc_remote_is_http(id));
}

/* A download, and the one action that puts it into an empty tree. */
static const bxc_def_vertex *download_of(const bxc_def *d)
{
	if (d->vertices.n != 2 || !is_remote(d->vertices.v[0]))
		return NULL;
	const bxc_def_vertex *add = d->vertices.v[1];
	return add->kind == BXC_OP_FILE && add->op.file.actions.n == 1 && add->inputs.n == 1
		       ? d->vertices.v[0]
		       : NULL;
}

/* The stage is lowered by itself, its own epoch being unset. */
static int time_of_stage(df_lower *lw, const char *text, bxc_err **err)
{
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = bxc_def_new();
	BXC_AUTODFRESULT bxc_df_result res = {0};
	bxc_df_opts o = *lw->o;
	o.target = text;
	o.no_checks = true;
	o.want_outline = o.all_stages = false;
	int r = df_lower_undated(lw->ast, &o, d, &res, err);
	if (r < 0)
		return r;
	const bxc_def_vertex *v = r == 0 && !res.base_ref ? download_of(d) : NULL;
	return v ? set_time_of(lw, v) : invalid(text, no_download, err);
}

static int time_of_context(df_lower *lw, const char *text, const bxc_df_context *c, bxc_err **err)
{
	switch (c->kind) {
	case BXC_DF_CONTEXT_LOCAL:
		set_time(lw, false, 0);
		return 0;
	case BXC_DF_CONTEXT_TREE:
		return time_of_tree(lw, c->def);
	case BXC_DF_CONTEXT_STAGE:
		return time_of_stage(lw, c->source, err);
	case BXC_DF_CONTEXT_IMAGE:
	case BXC_DF_CONTEXT_SCRATCH:
		break;
	}
	return invalid(text, "this context was not loaded from a repository or a web server", err);
}

static bool is_stage(const df_lower *lw, const char *text)
{
	BXC_ARR_FOREACH (s, &lw->ast->stages)
		if (s->from->stage && bxc_str_eq_nocase(s->from->stage, text))
			return true;
	return false;
}

int df_epoch_set(df_lower *lw, bxc_err **err)
{
	const char *text = df_env_get(lw->build_args, KEY);
	int64_t seconds = 0;
	if (!text)
		text = df_env_get(lw->global, KEY);
	if (bxc_str_empty(text))
		return 0;
	if (lw->is_undated) {
		set_value(lw, "");
		return 0;
	}
	if (bxc_str_to_i64(text, MIN_SECONDS, INT64_MAX / NS, &seconds, NULL) == 0) {
		lw->res->has_epoch = true;
		lw->res->epoch_ns = seconds * NS;
		return 0;
	}
	BXC_AUTOFREE char *name = bxc_strdup(text);
	if (bxc_str_eq(name, "context"))
		return time_of_tree(lw, lw->o->context_def);
	const bxc_df_context *c = df_context_find(lw, name, &lw->o->platform);
	if (c)
		return time_of_context(lw, name, c, err);
	return is_stage(lw, name) ? time_of_stage(lw, name, err) : invalid(name, NULL, err);
}
