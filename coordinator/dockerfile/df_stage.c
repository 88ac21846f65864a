/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The graph of stages: which stage builds on which, what reads from what, which of them the target
 * needs. Only those are looked at further: a wrong image in an unused stage is no error.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include <inttypes.h>

void df_stage_free(df_stage *s)
{
	if (!s)
		return;
	free(s->label);
	free(s->base);
	BXC_ARR_FOREACH (c, &s->cmds)
		bxc_arr_done(&c->from);
	bxc_arr_done(&s->cmds);
	free(s->pinned);
	free(s->base_ref);
	df_env_free(s->env);
	bxc_strv_free(df_vars_close(s->config_env));
	bxc_strv_free(df_vars_close(s->labels));
	bxc_oci_config_free(s->image);
	df_pairs_done(&s->args);
	df_env_free(s->bare);
	df_outline_free(s->outline);
	free(s);
}

static size_t find_by_name(const df_lower *lw, const char *name)
{
	return (size_t)(uintptr_t)bxc_map_get(lw->by_name, name) - 1;
}

/* ---- making ---- */

/* A word of FROM: the global arguments are what it sees. */
static int from_word(df_lower *lw, const df_instr *i, const char *word, df_env **used,
	df_env **unset, char **ret, bxc_err **err)
{
	df_word_opts o = df_opts_of(lw);
	o.used = used;
	o.unset = unset;
	int r = df_word(word, lw->global, &o, ret, err);
	df_check_unset_in_from(lw, i, *unset);
	return r;
}

static int expand_base(df_lower *lw, const df_instr *i, df_stage *s, bxc_err **err)
{
	BXC_CLEANUP(df_env_freep) df_env *used = NULL;
	BXC_CLEANUP(df_env_freep) df_env *unset = NULL;
	int r = from_word(lw, i, i->base, &used, &unset, &s->base, err);
	if (r < 0)
		return r;
	df_outline_used(s->outline, used);
	if (!*s->base)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"base name (%.128s) should not be blank", i->base);
	return 0;
}

static int expand_platform(df_lower *lw, const df_instr *i, df_stage *s, bxc_err **err)
{
	BXC_CLEANUP(df_env_freep) df_env *used = NULL;
	BXC_CLEANUP(df_env_freep) df_env *unset = NULL;
	BXC_AUTOFREE char *text = NULL;
	if (!i->platform)
		return 0;
	int r = from_word(lw, i, i->platform, &used, &unset, &text, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "failed to process arguments for platform");
	df_check_platform(lw, i, text, used, unset);
	df_outline_used(s->outline, used);
	if (!*text)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"empty platform value from expression %.64s", i->platform);
	r = bxc_platform_parse(text, &s->platform, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "failed to parse platform %.64s", i->platform);
	s->has_platform = true;
	return 0;
}

static bool is_no_cache(const df_lower *lw, const char *name)
{
	if (lw->o->no_cache)
		return true;
	for (char *const *f = lw->o->no_cache_filter; name && f && *f; f++)
		if (bxc_str_eq_nocase(*f, name))
			return true;
	return false;
}

static df_stage *push_stage(df_lower *lw, uint32_t line, uint32_t line_end)
{
	df_stage *s = bxc_calloc(1, sizeof(*s));
	s->base_stage = DF_NO_STAGE;
	s->tree = BXC_DEF_NO_INPUT;
	s->line = line;
	s->line_end = line_end;
	s->index = lw->stages.n;
	snprintf(s->number, sizeof(s->number), "%zu", s->index);
	*bxc_arr_push(&lw->stages) = s;
	return s;
}

/* A context that is another stage of the file: one above, as the base of any stage. */
static int stage_of_context(
	const df_lower *lw, const bxc_df_context *c, size_t *ret, bxc_err **err)
{
	BXC_AUTOFREE char *lower = bxc_str_lower(bxc_strdup(c->source));
	*ret = find_by_name(lw, lower);
	if (*ret == DF_NO_STAGE)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"context %.128s: there is no stage \"%.64s\" above this line", c->name,
			c->source);
	return 0;
}

/* What the stage builds on among those above it. A context of its own name takes its place: its
 * commands are not looked at. */
static int set_base(df_lower *lw, df_stage *s, bxc_err **err)
{
	const bxc_platform *p = s->has_platform ? &s->platform : &lw->o->platform;
	const bxc_df_context *c = s->name ? df_context_find(lw, s->name, p) : NULL;
	s->is_replaced = c != NULL;
	s->base_stage = c ? DF_NO_STAGE : find_by_name(lw, s->base);
	if (!c && s->base_stage == DF_NO_STAGE && !bxc_str_eq(s->base, "scratch"))
		c = df_context_find(lw, s->base, p);
	if (c && c->kind == BXC_DF_CONTEXT_STAGE)
		return stage_of_context(lw, c, &s->base_stage, err);
	s->context = s->is_replaced ? c : NULL;
	return 0;
}

static int make_stage(df_lower *lw, const df_stage_src *src, bxc_err **err)
{
	const df_instr *i = src->from;
	size_t index = lw->stages.n;
	df_stage *s = push_stage(lw, i->line, i->line_end);
	s->instr = i;
	s->name = i->stage;
	s->label = i->stage ? bxc_strdup(i->stage) : bxc_str_fmt("stage-%zu", index);
	s->ignore_cache = is_no_cache(lw, s->name);
	s->outline = lw->outline ? df_outline_new() : NULL;
	int r = expand_base(lw, i, s, err);
	if (r == 0)
		r = expand_platform(lw, i, s, err);
	if (r == 0)
		r = set_base(lw, s, err);
	if (r < 0)
		return df_place(err, r, lw->ast->name, i->line, i->line_end);
	if (s->name)
		bxc_map_set(lw->by_name, s->name, (void *)(uintptr_t)(index + 1));
	for (size_t k = 0; !s->is_replaced && k < src->n; k++) {
		df_cmd *c = bxc_arr_push(&s->cmds);
		c->i = lw->ast->instrs.v[src->first + k];
		c->line = c->i->line;
		c->line_end = c->i->line_end;
	}
	return 0;
}

static int find_target(df_lower *lw, bxc_err **err)
{
	const char *want = lw->o->target;
	lw->target = lw->n_file_stages - 1;
	if (bxc_str_empty(want))
		return 0;
	BXC_AUTOFREE char *lower = bxc_str_lower(bxc_strdup(want));
	lw->target = find_by_name(lw, lower);
	if (lw->target != DF_NO_STAGE)
		return 0;
	df_list names = {0};
	for (size_t i = 0; i < lw->n_file_stages; i++)
		if (lw->stages.v[i]->name)
			*bxc_arr_push(&names) = bxc_strdup(lw->stages.v[i]->name);
	const char *near = bxc_str_nearest(lower, (const char *const *)names.v, names.n);
	int r = near ? bxc_err_set(err, BXC_INVALID_ARGUMENT,
			       "target stage \"%.64s\" could not be found (did you mean %s?)", want,
			       near)
		     : bxc_err_set(err, BXC_INVALID_ARGUMENT,
			       "target stage \"%.64s\" could not be found", want);
	df_list_done(&names);
	return r;
}

/* ---- what commands read from ---- */

static int too_many_images(bxc_err **err)
{
	return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u images", DF_MAX_IMAGES);
}

static int image_stage(df_lower *lw, const char *name, const df_cmd *c, size_t *ret, bxc_err **err)
{
	size_t known = (size_t)(uintptr_t)bxc_map_get(lw->by_image, name);
	if (known) {
		*ret = known - 1;
		return 0;
	}
	const bxc_df_context *context = df_context_find(lw, name, &lw->o->platform);
	if (context && context->kind == BXC_DF_CONTEXT_STAGE)
		return stage_of_context(lw, context, ret, err);
	if (lw->stages.n - lw->n_file_stages >= DF_MAX_IMAGES)
		return too_many_images(err);
	df_stage *s = push_stage(lw, c->line, c->line_end);
	s->base = bxc_strdup(name);
	s->label = bxc_strdup("");
	bxc_map_set(lw->by_image, name, (void *)(uintptr_t)lw->stages.n);
	*ret = s->index;
	return 0;
}

static int find_source(df_lower *lw, const char *from, const df_cmd *c, size_t *ret, bxc_err **err)
{
	uint64_t index = 0;
	if (from[strspn(from, "0123456789")] == 0) {
		if (bxc_str_to_u64(from, 0, lw->n_file_stages - 1, &index, NULL) < 0)
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "invalid stage index %.32s", from);
		*ret = (size_t)index;
		return 0;
	}
	BXC_AUTOFREE char *lower = bxc_str_lower(bxc_strdup(from));
	*ret = find_by_name(lw, lower);
	return *ret == DF_NO_STAGE ? image_stage(lw, from, c, ret, err) : 0;
}

static int copy_source(df_lower *lw, df_cmd *c, bxc_err **err)
{
	df_word_opts o = df_opts_of(lw);
	BXC_AUTOFREE char *plain = NULL;
	int r = df_word(c->i->from, NULL, &o, &plain, err);
	if (r < 0)
		return r;
	if (!bxc_str_eq(plain, c->i->from))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"variable expansion is not supported for --from, define a new stage with "
			"FROM using ARG from global scope as a workaround");
	size_t stage = DF_NO_STAGE;
	r = find_source(lw, plain, c, &stage, err);
	if (r == 0)
		*bxc_arr_push(&c->from) = stage;
	return r;
}

static int mount_sources(df_lower *lw, df_cmd *c, bxc_err **err)
{
	for (char **m = c->i->mounts; m && *m; m++) {
		BXC_AUTOFREE char *from = NULL;
		size_t stage = DF_NO_STAGE;
		int r = df_mount_scan(*m, &from, err);
		if (r == 0 && from)
			r = find_source(lw, from, c, &stage, err);
		if (r < 0)
			return r;
		*bxc_arr_push(&c->from) = stage;
	}
	return 0;
}

static int command_sources(df_lower *lw, df_cmd *c, bxc_err **err)
{
	int r = 0;
	if (c->i->kind == DF_COPY && c->i->from)
		r = copy_source(lw, c, err);
	else if (c->i->kind == DF_RUN)
		r = mount_sources(lw, c, err);
	return df_place(err, r, lw->ast->name, c->line, c->line_end);
}

/* ---- circles ---- */

typedef struct frame {
	size_t stage, cmd, from;
} frame;

typedef BXC_ARR(frame) frames;

/* The next stage that this one reads from, and the command that does; DF_NO_STAGE at the end. */
static size_t next_source(const df_lower *lw, frame *f, const df_cmd **ret)
{
	const df_stage *s = lw->stages.v[f->stage];
	for (; f->cmd < s->cmds.n; f->cmd++, f->from = 0) {
		const df_cmd *c = &s->cmds.v[f->cmd];
		while (f->from < c->from.n) {
			size_t stage = c->from.v[f->from++];
			if (stage != DF_NO_STAGE) {
				*ret = c;
				return stage;
			}
		}
	}
	return DF_NO_STAGE;
}

enum mark { UNSEEN = 0, ON_PATH, DONE };

static int walk_circles(
	const df_lower *lw, size_t start, uint8_t *marks, frames *path, bxc_err **err)
{
	*bxc_arr_push(path) = (frame){.stage = start};
	marks[start] = ON_PATH;
	while (path->n) {
		const df_cmd *c = NULL;
		size_t next = next_source(lw, &path->v[path->n - 1], &c);
		if (next == DF_NO_STAGE) {
			marks[path->v[--path->n].stage] = DONE;
		} else if (marks[next] == ON_PATH) {
			int r = bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"circular dependency detected on stage: %s",
				lw->stages.v[next]->label);
			return df_place(err, r, lw->ast->name, c->line, c->line_end);
		} else if (marks[next] == UNSEEN) {
			marks[next] = ON_PATH;
			*bxc_arr_push(path) = (frame){.stage = next};
		}
	}
	return 0;
}

static int check_circles(const df_lower *lw, bxc_err **err)
{
	BXC_AUTOFREE uint8_t *marks = bxc_calloc(lw->stages.n, 1);
	frames path = {0};
	int r = 0;
	for (size_t i = 0; r == 0 && i < lw->stages.n; i++)
		if (marks[i] == UNSEEN)
			r = walk_circles(lw, i, marks, &path, err);
	bxc_arr_done(&path);
	return r;
}

int df_stages_make(df_lower *lw, bxc_err **err)
{
	int r = 0;
	BXC_ARR_FOREACH (src, &lw->ast->stages) {
		r = make_stage(lw, src, err);
		if (r < 0)
			return r;
	}
	lw->n_file_stages = lw->stages.n;
	r = find_target(lw, err);
	for (size_t i = 0; r == 0 && i < lw->n_file_stages; i++) {
		df_stage *s = lw->stages.v[i];
		for (size_t k = 0; r == 0 && k < s->cmds.n; k++)
			r = command_sources(lw, &s->cmds.v[k], err);
	}
	if (r == 0)
		r = check_circles(lw, err);
	if (r == 0 && lw->stages.n == 1)
		*lw->stages.v[0]->label = 0;
	return r;
}

const char *bxc_df_nearest_base(const bxc_df_ast *a, const char *ref)
{
	static const char prefix[] = "docker.io/library/";
	static const char *const common[] = {
		"alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"};
	if (!bxc_str_has_prefix(ref, prefix))
		return NULL;
	ref += strlen(prefix);
	BXC_AUTOFREE char *name = bxc_strndup(ref, strcspn(ref, ":@"));
	BXC_AUTOFREE const char **names =
		bxc_calloc(a->stages.n + BXC_ARRAY_SIZE(common), sizeof(*names));
	size_t n = 0;
	BXC_ARR_FOREACH (s, &a->stages)
		if (s->from->stage)
			names[n++] = s->from->stage;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(common); i++)
		names[n++] = common[i];
	const char *near = bxc_str_nearest(name, names, n);
	/* One that is there by this name failed for another reason. */
	return bxc_str_eq(near, name) ? NULL : near;
}

/* ---- reachability ---- */

typedef BXC_ARR(size_t) stage_list;

static void reach(df_lower *lw, stage_list *todo, size_t stage)
{
	if (stage == DF_NO_STAGE || lw->stages.v[stage]->is_reachable)
		return;
	lw->stages.v[stage]->is_reachable = true;
	*bxc_arr_push(todo) = stage;
}

static void mark_reachable(df_lower *lw)
{
	stage_list todo = {0};
	BXC_ARR_FOREACH (s, &lw->stages)
		(*s)->is_reachable = false;
	reach(lw, &todo, lw->target);
	for (size_t i = 0; lw->o->all_stages && i < lw->n_file_stages; i++)
		reach(lw, &todo, i);
	while (todo.n) {
		const df_stage *s = lw->stages.v[todo.v[--todo.n]];
		reach(lw, &todo, s->base_stage);
		BXC_ARR_FOREACH (c, &s->cmds)
			BXC_ARR_FOREACH (from, &c->from)
				reach(lw, &todo, *from);
	}
	bxc_arr_done(&todo);
}

/* ---- images ---- */

static int add_need(
	df_lower *lw, const df_stage *s, const char *ref, const bxc_platform *p, bxc_err **err)
{
	BXC_AUTOFREE char *platform = bxc_platform_str(p);
	BXC_AUTOFREE char *key = bxc_str_fmt("%s %s", ref, platform);
	if (bxc_map_has(lw->needs, key))
		return 0;
	if (lw->res->needs.n >= DF_MAX_IMAGES)
		return too_many_images(err);
	bxc_map_set(lw->needs, key, lw);
	*bxc_arr_push(&lw->res->needs) = (bxc_df_need){
		.ref = bxc_strdup(ref), .platform = *p, .line = s->line, .line_end = s->line_end};
	return 0;
}

static void resolve_scratch(df_lower *lw, df_stage *s)
{
	s->image = bxc_oci_config_new();
	s->image->platform = s->platform = lw->o->platform;
	s->image->working_dir = bxc_strdup("/");
	bxc_strv_push(&s->image->env, "PATH=" DF_DEFAULT_PATH);
	s->is_resolved = true;
	s->is_dispatched = !s->instr || s->is_replaced;
}

/* Without a wish of anybody's, an image of another platform that the cluster runs is taken as it
 * is. */
static bxc_platform choose_platform(
	const df_lower *lw, const df_stage *s, const bxc_platform *want, const bxc_platform *have)
{
	bool same = bxc_str_eq(want->os, have->os) && bxc_str_eq(want->arch, have->arch);
	if (s->has_platform || lw->o->platform_given || same)
		return *want;
	for (size_t i = 0; i < lw->o->n_build_platforms; i++) {
		const bxc_platform *p = &lw->o->build_platforms[i];
		if (bxc_str_eq(p->os, have->os) && bxc_str_eq(p->arch, have->arch))
			return *p;
	}
	return *want;
}

static bool has_layers(const bxc_oci_config *c)
{
	if (c->diff_ids.n)
		return true;
	BXC_ARR_FOREACH (h, &c->history)
		if (!h->empty_layer)
			return true;
	return false;
}

static uint64_t config_bytes(const bxc_oci_config *c)
{
	char *const *const lists[] = {c->env, c->labels, c->exposed_ports, c->volumes, c->on_build,
		c->entrypoint, c->cmd, c->shell};
	uint64_t n = 4096;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(lists); i++)
		for (char *const *p = lists[i]; p && *p; p++)
			n += strlen(*p) + 32;
	BXC_ARR_FOREACH (h, &c->history)
		n += (h->created_by ? strlen(h->created_by) : 0) + 160;
	return n + c->diff_ids.n * 40;
}

int df_copy_config(df_lower *lw, df_stage *s, const bxc_oci_config *c, bxc_err **err)
{
	int r = df_charge(&lw->work, config_bytes(c), err);
	if (r < 0)
		return r;
	bxc_oci_config_free(s->image);
	s->image = bxc_oci_config_dup(c);
	return 0;
}

/* The reference with the digest that it stands for. */
static char *pin(const char *full, const bxc_digest *digest)
{
	BXC_AUTOREF bxc_ref ref = {0};
	if (!bxc_digest_is_set(digest) || bxc_ref_parse(full, &ref, NULL) < 0)
		return bxc_strdup(full);
	ref.digest = *digest;
	return bxc_ref_str(&ref);
}

static int resolve_image(df_lower *lw, df_stage *s, bxc_err **err)
{
	BXC_AUTOREF bxc_ref ref = {0};
	bxc_df_image found = {0};
	bxc_platform want = s->has_platform ? s->platform : lw->o->platform;
	if (!s->context && !bxc_str_eq(s->base, "scratch"))
		s->context = df_context_find(lw, s->base, &want);
	bool image = s->context && s->context->kind == BXC_DF_CONTEXT_IMAGE;
	if (s->context ? !image : bxc_str_eq(s->base, "scratch")) {
		resolve_scratch(lw, s);
		return 0;
	}
	int r = image ? 0 : bxc_ref_parse(s->base, &ref, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "failed to parse stage name \"%.128s\"", s->base);
	BXC_AUTOFREE char *full = image ? bxc_strdup(s->context->source) : bxc_ref_str(&ref);
	bool layout = bxc_str_has_prefix(full, "oci-layout://");
	if (!lw->o->lookup || !lw->o->lookup(full, &want, &found, lw->o->lookup_ud))
		return add_need(lw, s, full, &want, err);
	r = df_copy_config(lw, s, found.config, err);
	if (r < 0)
		return r;
	s->image->created_ns = INT64_MIN;
	s->platform = choose_platform(lw, s, &want, &s->image->platform);
	if (has_layers(s->image))
		df_check_base_platform(lw, s, &s->platform, &s->image->platform);
	s->base_ref = layout ? bxc_strdup(full) : pin(full, &found.digest);
	if (has_layers(s->image))
		s->pinned = bxc_str_fmt("%s%s", layout ? "" : "docker-image://", s->base_ref);
	s->is_resolved = true;
	s->is_dispatched = !s->instr || s->is_replaced;
	return 0;
}

static int resolve_images(df_lower *lw, bxc_err **err)
{
	BXC_ARR_FOREACH (p, &lw->stages) {
		df_stage *s = *p;
		if (!s->is_reachable || s->is_resolved || s->base_stage != DF_NO_STAGE)
			continue;
		int r = resolve_image(lw, s, err);
		if (r < 0)
			return df_place(err, r, lw->ast->name, s->line, s->line_end);
	}
	return 0;
}

/* ---- triggers ---- */

static int add_trigger(
	df_lower *lw, df_stage *s, const char *text, size_t at, bool *ret_reads, bxc_err **err)
{
	bxc_df_ast *a = NULL;
	int r = df_charge(&lw->work, strlen(text) + 2048, err);
	if (r == 0)
		r = df_parse_trigger(text, &a, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "ONBUILD trigger of %.128s", s->base);
	*bxc_arr_push(&lw->triggers) = a;
	df_cmd *c = &s->cmds.v[at];
	c->i = a->instrs.v[0];
	r = command_sources(lw, c, err);
	*ret_reads = *ret_reads || c->from.n;
	return r;
}

static char **triggers_of(df_lower *lw, df_stage *s)
{
	if (s->base_stage == DF_NO_STAGE) {
		char **own = s->image->on_build;
		s->image->on_build = NULL;
		return own;
	}
	df_list list = {0};
	BXC_ARR_FOREACH (c, &lw->stages.v[s->base_stage]->cmds)
		if (c->i->kind == DF_ONBUILD)
			*bxc_arr_push(&list) = bxc_strdup(c->i->trigger);
	return df_list_finish(&list);
}

/* Puts the triggers of the base before the commands of the stage. */
static int add_triggers(df_lower *lw, df_stage *s, bool *ret_reads, bxc_err **err)
{
	s->has_triggers = true;
	if (s->is_replaced)
		return 0;
	BXC_AUTOSTRV char **list = triggers_of(lw, s);
	size_t n = bxc_strv_len(list);
	if (!n)
		return 0;
	if (n > DF_MAX_INSTRUCTIONS)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u ONBUILD triggers",
			DF_MAX_INSTRUCTIONS);
	for (size_t i = 0; i < n; i++)
		(void)bxc_arr_push(&s->cmds);
	memmove(s->cmds.v + n, s->cmds.v, (s->cmds.n - n) * sizeof(*s->cmds.v));
	memset(s->cmds.v, 0, n * sizeof(*s->cmds.v));
	for (size_t i = 0; i < n; i++) {
		s->cmds.v[i].on_build = true;
		s->cmds.v[i].line = s->line;
		s->cmds.v[i].line_end = s->line_end;
	}
	for (size_t i = 0; i < n; i++) {
		int r = add_trigger(lw, s, list[i], i, ret_reads, err);
		if (r < 0)
			return df_place(err, r, lw->ast->name, s->line, s->line_end);
	}
	return 0;
}

static int all_triggers(df_lower *lw, bool *ret_reads, bxc_err **err)
{
	for (size_t i = 0; i < lw->n_file_stages; i++) {
		df_stage *s = lw->stages.v[i];
		if (!s->is_reachable || s->has_triggers)
			continue;
		int r = add_triggers(lw, s, ret_reads, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void count_steps(df_stage *s)
{
	s->n_steps = s->base_stage == DF_NO_STAGE && !bxc_str_eq(s->base, "scratch");
	BXC_ARR_FOREACH (c, &s->cmds) {
		df_kind k = c->i->kind;
		s->n_steps += k == DF_ADD || k == DF_COPY || k == DF_RUN || k == DF_WORKDIR;
	}
}

int df_stages_resolve(df_lower *lw, bxc_err **err)
{
	for (bool again = true; again;) {
		again = false;
		mark_reachable(lw);
		int r = resolve_images(lw, err);
		if (r < 0)
			return r;
		if (lw->res->needs.n)
			return 1;
		r = all_triggers(lw, &again, err);
		if (r == 0)
			r = check_circles(lw, err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < lw->n_file_stages; i++)
		count_steps(lw->stages.v[i]);
	return 0;
}
