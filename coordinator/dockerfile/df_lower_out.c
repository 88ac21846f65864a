/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vertices. They are gathered in a definition of their own and handed over at the end: only then is
 * it known which paths of the context are read, and an error leaves the caller's definition alone.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include <inttypes.h>

#include "common/base/utf8.h"

#define STEP_TEXT_MAX	(64u << 10) /* bytes of the name of a step */

/* ---- names ---- */

/* The platform that a cross compiling stage makes things for, as its variables tell. */
static bool target_of_env(const df_env *env, const bxc_platform *base, bxc_platform *ret)
{
	bool any = false;
	*ret = *base;
	ret->variant[0] = 0;
	for (size_t i = 0; i < df_env_len(env); i++) {
		const df_pair *kv = df_env_at(env, i);
		if (bxc_str_eq(kv->key, "TARGETPLATFORM")) {
			if (bxc_platform_parse(kv->value, ret, NULL) == 0)
				return true;
		} else if (bxc_str_eq(kv->key, "TARGETOS") && *kv->value) {
			any = true;
			snprintf(ret->os, sizeof(ret->os), "%s", kv->value);
		} else if (bxc_str_eq(kv->key, "TARGETARCH") && *kv->value) {
			any = true;
			snprintf(ret->arch, sizeof(ret->arch), "%s", kv->value);
		} else if (bxc_str_eq(kv->key, "TARGETVARIANT") && *kv->value) {
			any = true;
			snprintf(ret->variant, sizeof(ret->variant), "%s", kv->value);
		}
	}
	*ret = bxc_platform_normalize(*ret);
	return any;
}

/* "linux/amd64 ", or "linux/amd64->arm64 " where one makes things for the other. */
static char *platform_prefix(const df_stage *s)
{
	bxc_platform target;
	BXC_AUTOFREE char *own = bxc_platform_str(&s->platform);
	if (!target_of_env(s->env, &s->platform, &target))
		return bxc_str_fmt("%s ", own);
	if (!bxc_str_eq(target.os, s->platform.os)) {
		BXC_AUTOFREE char *other = bxc_platform_str(&target);
		return bxc_str_fmt("%s->%s ", own, other);
	}
	if (bxc_str_eq(target.arch, s->platform.arch))
		return bxc_str_fmt("%s ", own);
	return bxc_str_fmt(
		"%s->%s%s%s ", own, target.arch, *target.variant ? "/" : "", target.variant);
}

char *df_step_name(df_lower *lw, df_stage *s, bool on_build, const char *text)
{
	if (!s->n_steps)
		return bxc_strdup(text);
	int width = 1;
	char place[32];
	for (uint32_t n = s->n_steps; n >= 10; n /= 10)
		width++;
	s->n_named++;
	snprintf(place, sizeof(place), "%*" PRIu32 "/%" PRIu32 "] ", width, s->n_named, s->n_steps);
	BXC_AUTOFREE char *platform = lw->res->multi_platform ? platform_prefix(s) : NULL;
	return bxc_str_concat("[", platform ? platform : "", s->label, *s->label ? " " : "", place,
		on_build ? "ONBUILD " : "", text);
}

static char *shortened(char *s)
{
	size_t n = STEP_TEXT_MAX;
	if (strlen(s) <= n)
		return s;
	while (!bxc_utf8_valid(s, n))
		n--;
	memcpy(s + n, "...", 4);
	return s;
}

char *df_step_text(df_lower *lw, const df_stage *s, const char *text, bool keep_quotes)
{
	df_word_opts o = df_opts_of(lw);
	o.raw_quotes = o.skip_unset = keep_quotes;
	BXC_AUTOFREE char *expanded = NULL;
	/* Only a name: what cannot be expanded is shown as it was written. */
	if (df_word(text, s->env, &o, &expanded, NULL) < 0)
		return shortened(df_upper_first(text));
	return shortened(df_upper_first(expanded));
}

void df_step_meta(
	bxc_def_vertex *v, const df_lower *lw, const df_stage *s, uint32_t line, uint32_t line_end)
{
	v->platform = s->platform;
	v->meta.line_start = line;
	v->meta.line_end = line_end;
	if (s->name || s->index < lw->n_file_stages)
		v->meta.stage = bxc_strdup(s->name ? s->name : s->number);
}

/* ---- vertices ---- */

int df_out_add(df_lower *lw, bxc_def_vertex *v_take, uint32_t *ret, bxc_err **err)
{
	return bxc_def_append(lw->tmp, v_take, ret, err);
}

uint32_t df_out_input(bxc_def_vertex *v, uint32_t vertex)
{
	return vertex == BXC_DEF_NO_INPUT ? BXC_DEF_NO_INPUT : bxc_def_add_input(v, vertex, 0);
}

int df_out_image(df_lower *lw, df_stage *s, uint32_t *ret, bxc_err **err)
{
	BXC_AUTOFREE char *text = bxc_str_fmt("FROM %s", s->base_ref);
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	v->op.source.identifier = bxc_strdup(s->pinned);
	v->meta.name = s->context ? bxc_str_fmt("[context %s] %s", s->context->name,
					    s->context->shown)
				  : df_step_name(lw, s, false, text);
	df_step_meta(v, lw, s, s->line, s->line_end);
	return df_out_add(lw, v, ret, err);
}

int df_out_inline(df_lower *lw, const df_stage *s, const df_cmd *c, const char *name,
	const char *data, uint32_t mode, uint32_t *ret, bxc_err **err)
{
	int r = df_charge(&lw->work, strlen(data), err);
	if (r < 0)
		return r;
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_FILE);
	bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_MKFILE);
	a->target = BXC_DEF_NO_INPUT;
	a->dest = bxc_str_fmt("/%s", name);
	a->mode = (int32_t)mode;
	a->data_len = strlen(data);
	a->data = bxc_memdup(data, a->data_len);
	v->meta.name = bxc_strdup("[internal] preparing inline document");
	df_step_meta(v, lw, s, c->line, c->line_end);
	v->meta.internal = true;
	return df_out_add(lw, v, ret, err);
}

/* ---- handing over ---- */

static bool *mark_used(const bxc_def *d, uint32_t target)
{
	bool *used = bxc_calloc(d->vertices.n + 1, sizeof(*used));
	used[target] = true;
	for (size_t i = d->vertices.n; i-- > 0;)
		if (used[i])
			BXC_ARR_FOREACH (in, &d->vertices.v[i]->inputs)
				used[in->vertex] = true;
	return used;
}

static int hand_over(df_lower *lw, bxc_def *def, const bool *used, uint32_t *places, bxc_err **err)
{
	for (uint32_t i = 0; i < lw->tmp->vertices.n; i++) {
		if (!used[i])
			continue;
		BXC_ARR_FOREACH (l, &lw->locals)
			if (l->vertex == i)
				df_local_attrs(lw, l, lw->tmp->vertices.v[i]);
		int r = bxc_def_hand_over(lw->tmp, i, places, def, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Those that nobody uses; the others have left holes. */
static void drop_rest(bxc_def *d)
{
	BXC_ARR_FOREACH (v, &d->vertices)
		bxc_def_vertex_free(*v);
	d->vertices.n = 0;
}

int df_out_flush(df_lower *lw, bxc_def *def, uint32_t target, bxc_err **err)
{
	bxc_df_result *res = lw->res;
	res->target = res->context = BXC_DEF_NO_INPUT;
	if (target == BXC_DEF_NO_INPUT)
		return 0;
	BXC_AUTOFREE bool *used = mark_used(lw->tmp, target);
	BXC_AUTOFREE uint32_t *places = bxc_calloc(lw->tmp->vertices.n + 1, sizeof(*places));
	int r = hand_over(lw, def, used, places, err);
	drop_rest(lw->tmp);
	if (r < 0)
		return r;
	res->target = places[target];
	if (lw->context != BXC_DEF_NO_INPUT && used[lw->context])
		res->context = places[lw->context];
	return 0;
}
