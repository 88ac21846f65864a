/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts: the build's own and the named ones, which stand in for stages and images of their name.
 * A context is a folder of the client (a local source, of which it is noted what is used), a tree
 * that somebody else describes (a small definition, taken over), an image, or nothing.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include "common/codec/json_writer.h"

/* ---- names ---- */

/* As buildx writes names: short, without the tag that is meant anyway. NULL: no name of an image.
 */
static char *familiar(const char *name)
{
	BXC_AUTOREF bxc_ref ref = {0};
	if (bxc_ref_parse(name, &ref, NULL) < 0)
		return NULL;
	char *s = bxc_ref_familiar(&ref);
	if (bxc_str_has_suffix(s, ":latest"))
		s[strlen(s) - strlen(":latest")] = 0;
	return s;
}

static const bxc_df_context *find_exactly(const df_lower *lw, const char *name)
{
	for (size_t i = 0; i < lw->o->n_contexts; i++)
		if (bxc_str_eq(lw->o->contexts[i].name, name))
			return &lw->o->contexts[i];
	return NULL;
}

const bxc_df_context *df_context_find(
	const df_lower *lw, const char *name, const bxc_platform *platform)
{
	if (!lw->o->n_contexts)
		return NULL;
	BXC_AUTOFREE char *plain = familiar(name), *p = bxc_platform_str(platform);
	if (!plain)
		return NULL;
	BXC_AUTOFREE char *of_platform = bxc_str_fmt("%s::%s", plain, p);
	const bxc_df_context *c = find_exactly(lw, of_platform);
	return c ? c : find_exactly(lw, plain);
}

/* ---- folders of the client ---- */

void df_locals_done(df_locals *l)
{
	BXC_ARR_FOREACH (x, l) {
		free(x->name);
		BXC_ARR_FOREACH (path, &x->paths)
			free(*path);
		bxc_arr_done(&x->paths);
	}
	bxc_arr_done(l);
}

static int local(df_lower *lw, const char *name, const char *step, const char *path, uint32_t *ret,
	bxc_err **err)
{
	df_local *l = NULL;
	BXC_ARR_FOREACH (x, &lw->locals)
		if (bxc_str_eq(x->name, name))
			l = x;
	if (!l) {
		bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
		v->op.source.identifier = bxc_str_fmt("local://%s", name);
		v->meta.name = bxc_strdup(step);
		v->meta.internal = true;
		uint32_t vertex = 0;
		int r = df_out_add(lw, v, &vertex, err);
		if (r < 0)
			return r;
		l = bxc_arr_push(&lw->locals);
		*l = (df_local){.name = bxc_strdup(name), .vertex = vertex};
	}
	*bxc_arr_push(&l->paths) = bxc_strdup(path);
	*ret = l->vertex;
	return 0;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void df_local_attrs(const df_lower *lw, const df_local *l, bxc_def_vertex *v)
{
	BXC_AUTOFREE char **paths = bxc_memdup(l->paths.v, l->paths.n * sizeof(*paths));
	size_t n = l->paths.n;
	qsort(paths, n, sizeof(*paths), compare_paths);
	BXC_AUTOJSONWRITER bxc_json_writer list;
	bxc_json_writer_init(&list);
	bxc_json_writer_begin_array(&list, NULL);
	/* "/" sorts first and stands for everything. */
	if (n && bxc_str_eq(paths[0], "/"))
		n = 1;
	for (size_t i = 0; i < n; i++)
		if (!i || !bxc_str_eq(paths[i], paths[i - 1]))
			bxc_json_writer_str(&list, NULL, paths[i]);
	bxc_json_writer_end(&list);
	BXC_AUTOFREE char *text = bxc_buf_steal(&list.out);
	/* So many paths are no less work than all of it. */
	if (strlen(text) > DF_FOLLOWPATHS_MAX) {
		free(text);
		text = bxc_strdup("[\"/\"]");
	}
	bxc_strv_pushf(&v->op.source.attrs, "followpaths=%s", text);
	if (!bxc_str_empty(lw->o->session))
		bxc_strv_pushf(&v->op.source.attrs, "session=%s", lw->o->session);
}

/* ---- trees ---- */

/* Equal vertices are one, so that a context which is used twice is there once. */
static int take_over(df_lower *lw, const bxc_def *d, uint32_t *ret, bxc_err **err)
{
	BXC_AUTOFREE uint32_t *places = bxc_calloc(d->vertices.n + 1, sizeof(*places));
	*ret = BXC_DEF_NO_INPUT;
	for (size_t i = 0; i < d->vertices.n; i++) {
		BXC_AUTOJSON bxc_json *j = bxc_def_vertex_to_json(d->vertices.v[i]);
		bxc_def_vertex *v = NULL;
		int r = bxc_def_vertex_from_json(j, &v, err);
		if (r < 0)
			return r;
		v->inputs.n = 0;
		BXC_ARR_FOREACH (in, &d->vertices.v[i]->inputs)
			*bxc_arr_push(&v->inputs) = (bxc_def_input){places[in->vertex], in->output};
		r = df_out_add(lw, v, &places[i], err);
		if (r < 0)
			return r;
		*ret = places[i];
	}
	return 0;
}

int df_out_context(df_lower *lw, const char *path, uint32_t *ret, bxc_err **err)
{
	if (lw->o->context_def) {
		int r = lw->context_tree == BXC_DEF_NO_INPUT
				? take_over(lw, lw->o->context_def, &lw->context_tree, err)
				: 0;
		*ret = lw->context_tree;
		return r;
	}
	const char *name = lw->o->context_name ? lw->o->context_name : "context";
	int r = local(lw, name, "[internal] load build context", path, ret, err);
	if (r == 0)
		lw->context = *ret;
	return r;
}

/* ---- stages that are contexts ---- */

static int local_of_stage(
	df_lower *lw, const df_stage *s, const char *path, uint32_t *ret, bxc_err **err)
{
	BXC_AUTOFREE char *step = bxc_str_fmt("[context %s] load from client", s->context->name);
	return local(lw, s->context->source, step, path, ret, err);
}

int df_context_base(df_lower *lw, df_stage *s, bxc_err **err)
{
	const bxc_df_context *c = s->context;
	if (!c || s->tree != BXC_DEF_NO_INPUT || s->has_base)
		return 0;
	s->has_base = true;
	if (c->kind == BXC_DF_CONTEXT_TREE)
		return take_over(lw, c->def, &s->tree, err);
	if (c->kind != BXC_DF_CONTEXT_LOCAL)
		return 0;
	/* What others build on has to be a layer. */
	uint32_t vertex = 0;
	int r = local_of_stage(lw, s, "/", &vertex, err);
	if (r < 0)
		return r;
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_FILE);
	uint32_t input = bxc_def_add_input(v, vertex, 0);
	bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_COPY);
	a->target = BXC_DEF_NO_INPUT;
	a->source = input;
	a->src = bxc_strdup("/");
	a->dest = bxc_strdup("/");
	a->src_dir_contents = a->create_dest = true;
	v->meta.name = bxc_str_fmt("[context %s] copy from client", c->name);
	v->meta.internal = true;
	return df_out_add(lw, v, &s->tree, err);
}

int df_out_stage(df_lower *lw, size_t stage, const char *path, uint32_t *ret, bxc_err **err)
{
	df_stage *s = lw->stages.v[stage];
	/* With commands of its own it is a stage that builds on the context. */
	if (s->context && s->context->kind == BXC_DF_CONTEXT_LOCAL && s->cmds.n == 0)
		return local_of_stage(lw, s, path, ret, err);
	int r = df_context_base(lw, s, err);
	*ret = s->tree;
	return r;
}
