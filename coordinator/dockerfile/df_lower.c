/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lowering: goes through the commands of the stages that the target needs, in the order of the
 * file, keeping what later ones depend on: tree, environment, image configuration. Variables expand
 * when their instruction is reached, against one ordered environment of ENV and ARG values.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include <inttypes.h>

int df_expand(df_lower *lw, const df_stage *s, const char *word, char **ret, bxc_err **err)
{
	BXC_CLEANUP(df_env_freep) df_env *unset = NULL;
	df_word_opts o = df_opts_of(lw);
	if (!lw->o->no_checks)
		o.unset = &unset;
	int r = df_word(word, s->env, &o, ret, err);
	if (unset)
		df_check_unset(lw, s, unset);
	return r;
}

int df_history(df_lower *lw, df_stage *s, bool layer, char *created_by_take, bxc_err **err)
{
	bxc_oci_history *h = bxc_oci_config_add_history(s->image);
	h->created_by = created_by_take;
	h->comment = bxc_strdup("buildkit.dockerfile.v0");
	h->empty_layer = !layer;
	h->created_ns = lw->res->has_epoch ? lw->res->epoch_ns : INT64_MIN;
	return df_charge(&lw->work, strlen(created_by_take) + 128, err);
}

const char *df_stage_dir(const df_stage *s)
{
	return bxc_str_empty(s->image->working_dir) ? "/" : s->image->working_dir;
}

char **df_with_shell(const df_stage *s, const char *command)
{
	char **v = bxc_strv_dup(s->image->shell);
	if (!v) {
		bxc_strv_push(&v, "/bin/sh");
		bxc_strv_push(&v, "-c");
	}
	bxc_strv_push(&v, command);
	return v;
}

static int too_many(const char *what, bxc_err **err)
{
	return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u %s", DF_MAX_VARS, what);
}

static int set_in_list(
	df_vars *list, const char *key, const char *value, const char *what, bxc_err **err)
{
	if (df_vars_len(list) >= DF_MAX_VARS)
		return too_many(what, err);
	df_vars_set(list, key, value);
	return 0;
}

/* ---- ENV, LABEL, ARG ---- */

static int expand_pairs(
	df_lower *lw, const df_stage *s, const df_instr *i, df_pairs *ret, bxc_err **err)
{
	BXC_ARR_FOREACH (kv, &i->pairs) {
		df_pair *p = bxc_arr_push(ret);
		int r = df_expand(lw, s, kv->key, &p->key, err);
		if (r == 0)
			r = df_expand(lw, s, kv->value, &p->value, err);
		if (r < 0)
			return r;
		if (!*p->key)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s names can not be blank",
				df_kind_name(i->kind));
		if (strchr(p->key, '='))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"%s name \"%.64s\" holds a '='", df_kind_name(i->kind), p->key);
	}
	return 0;
}

/* "ENV a=1 b=2" */
static char *pairs_text(const df_instr *i, const df_pairs *pairs)
{
	size_t bytes = 16;
	BXC_ARR_FOREACH (p, pairs)
		bytes += strlen(p->key) + (p->value ? strlen(p->value) : 0) + 2;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(bytes);
	bxc_buf_adds(&b, df_kind_name(i->kind));
	BXC_ARR_FOREACH (p, pairs) {
		bxc_buf_addc(&b, ' ');
		bxc_buf_adds(&b, p->key);
		if (p->value) {
			bxc_buf_addc(&b, '=');
			bxc_buf_adds(&b, p->value);
		}
	}
	return bxc_buf_steal(&b);
}

static int set_var(df_stage *s, const char *key, const char *value, bxc_err **err)
{
	if (df_env_len(s->env) >= DF_MAX_VARS)
		return too_many("variables", err);
	df_env_set(s->env, key, value);
	return 0;
}

static int lower_env(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	BXC_CLEANUP(df_pairs_done) df_pairs pairs = {0};
	int r = expand_pairs(lw, s, i, &pairs, err);
	if (r == 0)
		df_check_legacy(lw, i);
	for (size_t k = 0; r == 0 && k < pairs.n; k++) {
		df_check_secret(lw, i, pairs.v[k].key);
		r = set_var(s, pairs.v[k].key, pairs.v[k].value, err);
		if (r == 0)
			r = set_in_list(
				s->config_env, pairs.v[k].key, pairs.v[k].value, "variables", err);
	}
	return r == 0 ? df_history(lw, s, false, pairs_text(i, &pairs), err) : r;
}

static int lower_label(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	BXC_CLEANUP(df_pairs_done) df_pairs pairs = {0};
	int r = expand_pairs(lw, s, i, &pairs, err);
	if (r == 0)
		df_check_legacy(lw, i);
	for (size_t k = 0; r == 0 && k < pairs.n; k++)
		r = set_in_list(s->labels, pairs.v[k].key, pairs.v[k].value, "labels", err);
	return r == 0 ? df_history(lw, s, false, pairs_text(i, &pairs), err) : r;
}

/* --build-arg, then the default given here, then the value of the global ARG. NULL: stays unset. */
static int arg_value(df_lower *lw, const df_stage *s, const df_pair *arg, char **ret, bxc_err **err)
{
	const char *given = df_env_get(lw->build_args, arg->key);
	if (!given && arg->value)
		return df_expand(lw, s, arg->value, ret, err);
	*ret = bxc_strdup(given ? given : df_env_get(lw->global, arg->key));
	return *ret ? df_charge(&lw->work, strlen(*ret), err) : 0;
}

bool df_is_scan_arg(const char *key)
{
	return bxc_str_eq(key, "BUILDKIT_SBOM_SCAN_CONTEXT") ||
	       bxc_str_eq(key, "BUILDKIT_SBOM_SCAN_STAGE");
}

static int lower_arg(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	BXC_CLEANUP(df_pairs_done) df_pairs pairs = {0};
	BXC_ARR_FOREACH (kv, &i->pairs) {
		df_pair *p = bxc_arr_push(&pairs);
		p->key = bxc_strdup(kv->key);
		df_check_secret(lw, i, kv->key);
		int r = arg_value(lw, s, kv, &p->value, err);
		if (r == 0 && p->value && !df_is_scan_arg(p->key))
			r = set_var(s, p->key, p->value, err);
		if (r < 0)
			return r;
		df_outline_arg(lw, s, kv, p->value);
		if (!p->value && !s->bare)
			s->bare = df_env_new();
		if (!p->value)
			df_env_set(s->bare, kv->key, "");
		if (s->args.n >= DF_MAX_VARS)
			return too_many("arguments", err);
		*bxc_arr_push(&s->args) =
			(df_pair){.key = bxc_strdup(p->key), .value = bxc_strdup(p->value)};
	}
	return df_history(lw, s, false, pairs_text(i, &pairs), err);
}

/* ---- commands and stages ---- */

static int lower_command(df_lower *lw, df_stage *s, const df_cmd *c, bxc_err **err)
{
	switch (c->i->kind) {
	case DF_ADD:
	case DF_COPY:
		return df_lower_copy(lw, s, c, err);
	case DF_RUN:
		return df_lower_run(lw, s, c, err);
	case DF_WORKDIR:
		return df_lower_workdir(lw, s, c, err);
	case DF_ARG:
		return lower_arg(lw, s, c->i, err);
	case DF_ENV:
		return lower_env(lw, s, c->i, err);
	case DF_LABEL:
		return lower_label(lw, s, c->i, err);
	case DF_CMD:
	case DF_ENTRYPOINT:
		return df_lower_cmd(lw, s, c->i, err);
	case DF_SHELL:
		return df_lower_shell(lw, s, c->i, err);
	case DF_HEALTHCHECK:
		return df_lower_health(lw, s, c->i, err);
	case DF_USER:
		return df_lower_user(lw, s, c->i, err);
	case DF_STOPSIGNAL:
		return df_lower_stopsignal(lw, s, c->i, err);
	case DF_EXPOSE:
		return df_lower_expose(lw, s, c->i, err);
	case DF_VOLUME:
		return df_lower_volume(lw, s, c->i, err);
	case DF_ONBUILD:
		return df_lower_onbuild(lw, s, c->i, err);
	case DF_MAINTAINER:
		return df_lower_maintainer(lw, s, c->i, err);
	case DF_FROM:
	case DF_NONE:
		break;
	}
	return bxc_err_set(err, BXC_INTERNAL, "instruction out of place");
}

static int inherit(df_lower *lw, df_stage *s, bxc_err **err)
{
	df_stage *b = lw->stages.v[s->base_stage];
	int r = df_context_base(lw, b, err);
	if (r == 0)
		r = df_charge(&lw->work, df_env_bytes(b->env) + df_env_bytes(b->bare), err);
	if (r == 0)
		r = df_copy_config(lw, s, b->image, err);
	if (r < 0)
		return r;
	bxc_strv_free(BXC_TAKE(s->image->on_build));
	s->env = df_env_dup(b->env);
	s->tree = b->tree;
	s->platform = b->platform;
	s->base_ref = bxc_strdup(b->base_ref);
	s->workdir_is_set = b->workdir_is_set;
	s->bare = b->bare ? df_env_dup(b->bare) : NULL;
	BXC_ARR_FOREACH (a, &b->args)
		*bxc_arr_push(&s->args) =
			(df_pair){.key = bxc_strdup(a->key), .value = bxc_strdup(a->value)};
	return 0;
}

static int begin_stage(df_lower *lw, df_stage *s, bxc_err **err)
{
	int r = 0;
	if (s->base_stage != DF_NO_STAGE)
		r = inherit(lw, s, err);
	else if (!s->is_replaced)
		r = df_context_base(lw, s, err);
	if (r < 0)
		return r;
	if (!s->env)
		s->env = df_env_new();
	if (!bxc_env_get(s->image->env, "PATH"))
		bxc_strv_push(&s->image->env, "PATH=" DF_DEFAULT_PATH);
	df_env_set_strv(s->env, s->image->env);
	s->config_env = df_vars_open(BXC_TAKE(s->image->env));
	s->labels = df_vars_open(BXC_TAKE(s->image->labels));
	if (!bxc_str_empty(s->image->working_dir)) {
		char *clean = df_path_clean("/", s->image->working_dir);
		free(s->image->working_dir);
		s->image->working_dir = clean;
	}
	return 0;
}

static void end_stage(df_stage *s)
{
	s->image->env = df_vars_close(BXC_TAKE(s->config_env));
	s->image->labels = df_vars_close(BXC_TAKE(s->labels));
}

static int lower_stage(df_lower *lw, df_stage *s, bxc_err **err)
{
	s->is_dispatched = true;
	int r = begin_stage(lw, s, err);
	if (r < 0)
		return df_place(err, r, lw->ast->name, s->line, s->line_end);
	BXC_ARR_FOREACH (c, &s->cmds) {
		lw->cmd = c;
		r = lower_command(lw, s, c, err);
		if (r < 0)
			return df_place(err, r, lw->ast->name, c->line, c->line_end);
	}
	end_stage(s);
	return 0;
}

/* ---- arguments of the whole ---- */

static void set_platform_args(df_env *e, const char *which, const bxc_platform *p)
{
	BXC_AUTOFREE char *whole = bxc_platform_str(p);
	const char *const parts[][2] = {{"PLATFORM", whole}, {"OS", p->os},
		{"OSVERSION", p->os_version}, {"ARCH", p->arch}, {"VARIANT", p->variant}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(parts); i++) {
		BXC_AUTOFREE char *key = bxc_str_fmt("%s%s", which, parts[i][0]);
		df_env_set(e, key, parts[i][1]);
	}
}

static void set_default_args(df_lower *lw)
{
	const bxc_df_opts *o = lw->o;
	const df_stage_src *last = &lw->ast->stages.v[lw->ast->stages.n - 1];
	const char *stage = bxc_str_empty(o->target) ? last->from->stage : o->target;
	set_platform_args(
		lw->global, "BUILD", o->n_build_platforms ? &o->build_platforms[0] : &o->platform);
	set_platform_args(lw->global, "TARGET", &o->platform);
	df_env_set(lw->global, "TARGETSTAGE", bxc_str_empty(stage) ? "default" : stage);
	for (size_t i = 0; i < df_env_len(lw->global); i++) {
		const df_pair *kv = df_env_at(lw->global, i);
		const char *given = df_env_get(lw->build_args, kv->key);
		if (given)
			df_env_set(lw->global, kv->key, given);
	}
}

static int set_global_arg(df_lower *lw, const df_instr *i, const df_pair *kv, bxc_err **err)
{
	BXC_CLEANUP(df_env_freep) df_env *used = NULL;
	df_word_opts o = df_opts_of(lw);
	o.used = &used;
	BXC_AUTOFREE char *value = bxc_strdup(df_env_get(lw->build_args, kv->key));
	if (df_env_len(lw->global) >= DF_MAX_VARS)
		return too_many("arguments", err);
	if (!value && kv->value) {
		int r = df_word(kv->value, lw->global, &o, &value, err);
		if (r < 0)
			return r;
	}
	if (value)
		df_env_set(lw->global, kv->key, value);
	df_outline_global(lw, i, kv, value, used);
	return 0;
}

static int set_global_args(df_lower *lw, bxc_err **err)
{
	set_default_args(lw);
	df_check_default_bases(lw);
	for (size_t k = 0; k < lw->ast->n_meta; k++) {
		const df_instr *i = lw->ast->instrs.v[k];
		BXC_ARR_FOREACH (kv, &i->pairs) {
			int r = set_global_arg(lw, i, kv, err);
			if (r < 0)
				return df_place(err, r, lw->ast->name, i->line, i->line_end);
		}
	}
	return 0;
}

static void set_proxy_env(df_lower *lw)
{
	static const char *const names[] = {
		"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"};
	for (size_t n = 0; n < BXC_ARRAY_SIZE(names); n++) {
		const char *value = NULL;
		for (size_t i = 0; i < df_env_len(lw->build_args); i++) {
			const df_pair *kv = df_env_at(lw->build_args, i);
			if (bxc_str_eq_nocase(kv->key, names[n]))
				value = kv->value;
		}
		if (!value)
			continue;
		BXC_AUTOFREE char *lower = bxc_str_lower(bxc_strdup(names[n]));
		bxc_strv_pushf(&lw->proxy_env, "%s=%s", names[n], value);
		bxc_strv_pushf(&lw->proxy_env, "%s=%s", lower, value);
	}
}

/* ---- the whole ---- */

static void finish_image(df_lower *lw, df_stage *t)
{
	const bxc_platform *p = &lw->o->platform;
	bxc_oci_config *c = t->image;
	for (char *const *l = lw->o->labels; l && *l; l++) {
		const char *eq = strchr(*l, '=');
		BXC_AUTOFREE char *key = eq ? bxc_strndup(*l, (size_t)(eq - *l)) : bxc_strdup(*l);
		bxc_env_set(&c->labels, key, eq ? eq + 1 : "");
	}
	if (lw->o->platform_given) {
		bool same =
			bxc_str_eq(c->platform.os, p->os) && bxc_str_eq(c->platform.arch, p->arch);
		bxc_platform set = *p;
		if (same && !*p->variant)
			memcpy(set.variant, c->platform.variant, sizeof(set.variant));
		if (same && !*p->os_version)
			memcpy(set.os_version, c->platform.os_version, sizeof(set.os_version));
		c->platform = set;
	}
	c->platform = bxc_platform_normalize(c->platform);
	lw->res->image = BXC_TAKE(t->image);
	lw->res->base_ref = bxc_strdup(t->base_ref);
	lw->res->stage = t->name ? bxc_strdup(t->name) : bxc_str_fmt("%zu", lw->target);
}

static int check_multi_platform(df_lower *lw, bxc_err **err)
{
	const char *text = df_env_get(lw->build_args, "BUILDKIT_MULTI_PLATFORM");
	bool on = false;
	lw->res->multi_platform = lw->o->multi_platform;
	if (!text)
		return 0;
	int r = bxc_str_to_bool(text, &on, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "BUILDKIT_MULTI_PLATFORM");
	if (!on && lw->o->multi_platform)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"conflicting config: returning multiple target platforms is not allowed");
	lw->res->multi_platform = on;
	return 0;
}

static int prepare(df_lower *lw, bxc_err **err)
{
	df_env_set_strv(lw->build_args, lw->o->build_args);
	if (df_env_len(lw->build_args) > DF_MAX_VARS)
		return too_many("build arguments", err);
	if (bxc_str_eq(df_env_get(lw->build_args, "BUILDKIT_DISABLE_FILEOP"), "1"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"support for BUILDKIT_DISABLE_FILEOP has been removed");
	int r = check_multi_platform(lw, err);
	if (r == 0)
		r = df_syntax_check(lw, err);
	if (r == 0)
		r = df_checks_set(lw, err);
	if (r < 0)
		return r;
	df_check_file(lw);
	r = set_global_args(lw, err);
	if (r == 0)
		r = df_epoch_set(lw, err);
	set_proxy_env(lw);
	return r;
}

/* Before all else, and those of stages first: an image that a COPY names too is known as a step of
 * its stage. */
static int lower_images(df_lower *lw, bxc_err **err)
{
	BXC_ARR_FOREACH (p, &lw->stages) {
		df_stage *s = *p;
		int r = s->is_reachable && s->pinned ? df_out_image(lw, s, &s->tree, err) : 0;
		if (r < 0)
			return df_place(err, r, lw->ast->name, s->line, s->line_end);
	}
	return 0;
}

static int lower(df_lower *lw, bxc_def *def, bxc_err **err)
{
	int r = prepare(lw, err);
	if (r == 0)
		r = df_stages_make(lw, err);
	if (r == 0)
		r = df_stages_resolve(lw, err);
	if (r == 0)
		r = lower_images(lw, err);
	if (r != 0)
		return r;
	for (size_t i = 0; i < lw->n_file_stages; i++) {
		if (!lw->stages.v[i]->is_reachable || lw->stages.v[i]->is_dispatched)
			continue;
		r = lower_stage(lw, lw->stages.v[i], err);
		if (r < 0)
			return r;
	}
	df_stage *t = lw->stages.v[lw->target];
	r = df_context_base(lw, t, err);
	if (r < 0)
		return r;
	if (lw->o->want_outline)
		lw->res->outline = df_outline_document(lw);
	r = df_checks_end(lw, err);
	if (r < 0)
		return r;
	r = df_out_flush(lw, def, t->tree, err);
	if (r == 0)
		finish_image(lw, t);
	return r;
}

static void lower_done(df_lower *lw)
{
	df_env_free(lw->build_args);
	df_env_free(lw->global);
	BXC_ARR_FOREACH (s, &lw->stages)
		df_stage_free(*s);
	bxc_arr_done(&lw->stages);
	bxc_map_free(lw->by_name);
	bxc_map_free(lw->by_image);
	bxc_map_free(lw->needs);
	BXC_ARR_FOREACH (t, &lw->triggers)
		bxc_df_ast_free(*t);
	bxc_arr_done(&lw->triggers);
	bxc_def_free(lw->tmp);
	df_locals_done(&lw->locals);
	bxc_strv_free(lw->proxy_env);
	df_env_free(lw->from_names);
	df_outline_free(lw->outline);
}

static int lower_with(const bxc_df_ast *a, const bxc_df_opts *o, bool is_undated, bxc_def *def,
	bxc_df_result *ret, bxc_err **err)
{
	BXC_CLEANUP(lower_done)
	df_lower lw = {.ast = a,
		.o = o,
		.res = ret,
		.work = DF_MAX_WORK,
		.looks_left = DF_MAX_LOOKS,
		.outline = o->want_outline ? df_outline_new() : NULL,
		.context = BXC_DEF_NO_INPUT,
		.context_tree = BXC_DEF_NO_INPUT,
		.build_args = df_env_new(),
		.global = df_env_new(),
		.by_name = bxc_map_new(NULL),
		.by_image = bxc_map_new(NULL),
		.needs = bxc_map_new(NULL),
		.tmp = bxc_def_new(),
		.is_undated = is_undated};
	return lower(&lw, def, err);
}

int df_lower_undated(
	const bxc_df_ast *a, const bxc_df_opts *o, bxc_def *def, bxc_df_result *ret, bxc_err **err)
{
	return lower_with(a, o, true, def, ret, err);
}

int bxc_df_lower(
	const bxc_df_ast *a, const bxc_df_opts *o, bxc_def *def, bxc_df_result *ret, bxc_err **err)
{
	return lower_with(a, o, false, def, ret, err);
}

void bxc_df_result_done(bxc_df_result *r)
{
	BXC_ARR_FOREACH (n, &r->needs)
		free(n->ref);
	bxc_arr_done(&r->needs);
	bxc_def_vertex_free(r->need_time);
	bxc_oci_config_free(r->image);
	free(r->base_ref);
	free(r->stage);
	bxc_json_free(r->outline);
	BXC_ARR_FOREACH (w, &r->warnings)
		free(w->text);
	bxc_arr_done(&r->warnings);
	*r = (bxc_df_result){0};
}
