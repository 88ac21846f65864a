/* SPDX-License-Identifier: Apache-2.0 */
/* COPY, ADD and WORKDIR: one file operation each, with one action per source. */
#include "coordinator/dockerfile/dockerfile_internal.h"

static bool parse_id(const char *s, uint32_t *ret)
{
	uint64_t n = 0;
	if (bxc_str_eq(s, "root")) {
		*ret = 0;
		return true;
	}
	if (bxc_str_to_u64(s, 0, UINT32_MAX, &n, NULL) < 0)
		return false;
	*ret = (uint32_t)n;
	return true;
}

/* "user[:group]", each a number or a name; an empty part is root, and so is that name, whatever the
 * tree says. */
void df_owner_parse(const char *text, bxc_def_owner *ret)
{
	const char *colon = strchr(text, ':');
	BXC_AUTOFREE char *user =
		colon ? bxc_strndup(text, (size_t)(colon - text)) : bxc_strdup(text);
	*ret = (bxc_def_owner){.is_set = true};
	if (*user && !parse_id(user, &ret->uid))
		ret->user_name = bxc_strdup(user);
	if (!colon)
		return;
	ret->has_gid = true;
	if (colon[1] && !parse_id(colon + 1, &ret->gid))
		ret->group_name = bxc_strdup(colon + 1);
}

/* One clause of a symbolic mode: [ugoa]*([-+=][rwxXst]*|[-+=][ugo])+ */
static bool is_symbolic_clause(const char *s, size_t n)
{
	size_t i = 0;
	while (i < n && strchr("ugoa", s[i]))
		i++;
	if (i == n)
		return false;
	while (i < n) {
		if (!strchr("+-=", s[i++]))
			return false;
		if (i < n && strchr("ugo", s[i])) {
			i++;
			continue;
		}
		while (i < n && strchr("rwxXst", s[i]))
			i++;
	}
	return true;
}

static bool is_symbolic_mode(const char *s)
{
	for (;;) {
		size_t n = strcspn(s, ",");
		if (!is_symbolic_clause(s, n))
			return false;
		if (!s[n])
			return true;
		s += n + 1;
	}
}

typedef struct copy {
	char *chown;
	char *chmod;
	char *dest; /* as written, expanded */
	char *to;   /* absolute */
	int32_t mode;
	bxc_def_owner owner;
	char *checksum;
	bool any_remote;
	df_list paths;		  /* sources as written, expanded */
	BXC_ARR(df_remote) kinds; /* of each path */
	df_list docs;		  /* bodies, expanded */
	BXC_ARR(const df_source *) doc_of;
} copy;

static void copy_done(copy *c)
{
	free(c->chown);
	free(c->chmod);
	free(c->checksum);
	free(c->dest);
	free(c->to);
	free(c->owner.user_name);
	free(c->owner.group_name);
	df_list_done(&c->paths);
	df_list_done(&c->docs);
	bxc_arr_done(&c->kinds);
	bxc_arr_done(&c->doc_of);
}

static int set_mode(copy *cp, bxc_err **err)
{
	uint32_t mode = 0;
	cp->mode = -1;
	if (bxc_str_empty(cp->chmod))
		return 0;
	if (bxc_str_to_octal(cp->chmod, 07777, &mode, NULL) == 0) {
		cp->mode = (int32_t)mode;
		return 0;
	}
	if (is_symbolic_mode(cp->chmod))
		return 0;
	return bxc_err_set(err, BXC_INVALID_ARGUMENT,
		"invalid chmod parameter: '%.64s'. it should be octal string and between 0 and "
		"07777",
		cp->chmod);
}

static int check_source(const df_instr *i, const char *path, df_remote *ret, bxc_err **err)
{
	int r = df_remote_kind(path, ret, err);
	if (r < 0 || *ret == DF_REMOTE_NONE || i->kind == DF_ADD)
		return r;
	return bxc_err_set(err, BXC_INVALID_ARGUMENT,
		*ret == DF_REMOTE_GIT ? "source can't be a git ref for COPY"
				      : "source can't be a URL for COPY");
}

/* Onto an empty tree, or with --chmod (which undoes it), --link makes a plain copy. */
static bool is_linked(const df_stage *s, const df_instr *i, const copy *cp)
{
	return i->link && s->tree != BXC_DEF_NO_INPUT && bxc_str_empty(cp->chmod);
}

/* Names of owners are looked up in the tree that is changed: an empty one has none. */
static int check_owner(bool on_scratch, const bxc_def_owner *o, bxc_err **err)
{
	const char *name = o->user_name ? o->user_name : o->group_name;
	if (!on_scratch || !name)
		return 0;
	return bxc_err_set(err, BXC_INVALID_ARGUMENT,
		"invalid user index: \"%.64s\" is looked up in /etc of the files below, and there "
		"are none (FROM scratch and --link start from nothing): give numbers",
		name);
}

static int check_flags(const df_stage *s, const df_instr *i, const copy *cp, bxc_err **err)
{
	bool on_scratch = s->tree == BXC_DEF_NO_INPUT || is_linked(s, i, cp);
	int r = check_owner(on_scratch, &cp->owner, err);
	if (r < 0)
		return r;
	if (!i->checksum)
		return 0;
	if (i->sources.n != 1)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"checksum can't be specified for multiple sources");
	if (!cp->any_remote)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "checksum requires HTTP(S) or Git sources");
	return 0;
}

static int expand_sources(
	df_lower *lw, const df_stage *s, const df_instr *i, copy *cp, bxc_err **err)
{
	/* Bodies keep their quotes and have the one escape character, whatever the file's is. */
	df_word_opts o = {.escape = '\\', .skip_quotes = true, .work = &lw->work};
	int r = 0;
	for (size_t k = 0; r == 0 && k < i->sources.n; k++) {
		const df_source *src = &i->sources.v[k];
		char *text = NULL;
		BXC_CLEANUP(df_env_freep) df_env *unset = NULL;
		o.unset = lw->o->no_checks ? NULL : &unset;
		if (src->path)
			r = df_expand(lw, s, src->path, &text, err);
		else if (src->doc_expand)
			r = df_word(src->doc_data, s->env, &o, &text, err);
		else
			text = bxc_strdup(src->doc_data);
		df_check_unset(lw, s, unset);
		if (r < 0)
			return r;
		*bxc_arr_push(src->path ? &cp->paths : &cp->docs) = text;
		if (!src->path)
			*bxc_arr_push(&cp->doc_of) = src;
	}
	return r;
}

/* A relative destination lies in the working directory; a slash at the end means "into". */
static char *destination(const df_stage *s, const char *dest)
{
	BXC_AUTOFREE char *clean = df_path_clean(df_stage_dir(s), dest);
	bool into = !*dest || bxc_str_eq(dest, ".") || bxc_str_has_suffix(dest, "/") ||
		    bxc_str_has_suffix(dest, "/.");
	return into && !bxc_str_eq(clean, "/") ? bxc_str_concat(clean, "/") : BXC_TAKE(clean);
}

static int expand_all(df_lower *lw, const df_stage *s, const df_instr *i, copy *cp, bxc_err **err)
{
	int r = 0;
	if (i->chown)
		r = df_expand(lw, s, i->chown, &cp->chown, err);
	if (r == 0 && !bxc_str_empty(cp->chown))
		df_owner_parse(cp->chown, &cp->owner);
	if (r == 0 && i->chmod)
		r = df_expand(lw, s, i->chmod, &cp->chmod, err);
	if (r == 0)
		r = set_mode(cp, err);
	if (r == 0 && i->checksum)
		r = df_expand(lw, s, i->checksum, &cp->checksum, err);
	if (r == 0)
		r = expand_sources(lw, s, i, cp, err);
	if (r == 0)
		r = df_expand(lw, s, i->dest, &cp->dest, err);
	if (r < 0)
		return r;
	cp->to = destination(s, cp->dest);
	for (size_t k = 0; k < cp->paths.n; k++) {
		df_remote *kind = bxc_arr_push(&cp->kinds);
		r = check_source(i, cp->paths.v[k], kind, err);
		if (r < 0)
			return r;
		if (!i->from && *kind == DF_REMOTE_NONE)
			df_check_copy_source(lw, i, cp->paths.v[k]);
		cp->any_remote = cp->any_remote || *kind != DF_REMOTE_NONE;
	}
	return check_flags(s, i, cp, err);
}

/* ---- the operation ---- */

/* "**" is known to --parents only: all that it may reach is asked for. */
static char *context_path(const df_instr *i, const char *src)
{
	char *path = df_path_clean("/", src);
	const char *stars = i->parents ? strstr(path, "**") : NULL;
	if (!stars)
		return path;
	size_t n = (size_t)(stars - path);
	while (n > 1 && path[n - 1] != '/')
		n--;
	if (n > 1)
		n--;
	path[n] = '\0';
	return path;
}

static bool has_wildcards(const char *s)
{
	return strpbrk(s, "*?[\\") != NULL;
}

/* --parents: what follows "/./", or all of the path, is a pattern in the folder before it. */
static void set_parents(bxc_file_action *a, const char *src)
{
	const char *pivot = strstr(src, "/./");
	BXC_AUTOFREE char *dir = pivot ? bxc_strndup(src, (size_t)(pivot - src)) : bxc_strdup("/");
	BXC_AUTOFREE char *pattern = df_path_clean("/", pivot ? pivot + 3 : src);
	a->src = df_path_clean("/", dir);
	bxc_strv_push(&a->include, pattern + 1);
	if (!has_wildcards(a->src) && !has_wildcards(pattern)) {
		BXC_AUTOFREE char *whole = bxc_str_concat(a->src, "/", pattern);
		bxc_strv_push_take(&a->required, df_path_clean("/", whole));
	}
}

static int source_tree(df_lower *lw, const df_stage *s, const df_cmd *c, const copy *cp,
	uint32_t *ret, bxc_err **err)
{
	*ret = BXC_DEF_NO_INPUT;
	if (c->from.n) {
		const df_stage *from = lw->stages.v[c->from.v[0]];
		if (!from->is_dispatched)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"cannot copy from stage \"%s\", it needs to be defined before "
				"current stage \"%s\"",
				c->i->from, s->label);
		for (size_t k = 0; k < cp->paths.n; k++) {
			BXC_AUTOFREE char *path = df_path_clean("/", cp->paths.v[k]);
			int r = df_out_stage(lw, c->from.v[0], path, ret, err);
			if (r < 0)
				return r;
		}
		return 0;
	}
	for (size_t k = 0; k < cp->paths.n; k++) {
		if (cp->kinds.v[k] != DF_REMOTE_NONE)
			continue;
		BXC_AUTOFREE char *path = context_path(c->i, cp->paths.v[k]);
		int r = df_out_context(lw, path, ret, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Of each path: the input that it is copied from, and the file of it that is meant. */
typedef struct from {
	uint32_t input;
	bool is_remote;
	char *file;
} from;

typedef BXC_ARR(from) froms;

static void froms_done(froms *l)
{
	BXC_ARR_FOREACH (f, l)
		free(f->file);
	bxc_arr_done(l);
}

static int find_froms(df_lower *lw, const df_stage *s, const df_cmd *c, const copy *cp,
	bxc_def_vertex *v, uint32_t source, froms *ret, bxc_err **err)
{
	for (size_t k = 0; k < cp->paths.n; k++) {
		from *f = bxc_arr_push(ret);
		uint32_t remote = BXC_DEF_NO_INPUT;
		f->input = source;
		f->is_remote = cp->kinds.v[k] != DF_REMOTE_NONE;
		if (!f->is_remote)
			continue;
		int r = df_remote_source(lw, s, c, cp->paths.v[k], cp->kinds.v[k], cp->checksum,
			&remote, &f->file, err);
		if (r < 0)
			return r;
		f->input = bxc_def_add_input(v, remote, 0);
	}
	return 0;
}

static void common_action(
	const df_lower *lw, const copy *cp, bxc_file_action *a, uint32_t target, uint32_t source)
{
	a->target = target;
	a->source = source;
	a->dest = bxc_strdup(cp->to);
	a->create_dest = true;
	a->mode = cp->mode;
	if (cp->mode < 0 && !bxc_str_empty(cp->chmod))
		a->mode_text = bxc_strdup(cp->chmod);
	if (!bxc_str_empty(cp->chown))
		df_owner_parse(cp->chown, &a->owner);
	if (lw->res->has_epoch)
		a->timestamp_ns = lw->res->epoch_ns;
}

static int add_actions(df_lower *lw, const df_stage *s, const df_cmd *c, const copy *cp,
	bxc_def_vertex *v, bxc_err **err)
{
	uint32_t tree = BXC_DEF_NO_INPUT;
	int r = source_tree(lw, s, c, cp, &tree, err);
	uint32_t target = is_linked(s, c->i, cp) ? BXC_DEF_NO_INPUT : df_out_input(v, s->tree);
	uint32_t source = df_out_input(v, tree);
	BXC_CLEANUP(froms_done) froms remotes = {0};
	BXC_ARR(uint32_t) docs = {0};
	if (r == 0)
		r = find_froms(lw, s, c, cp, v, source, &remotes, err);
	for (size_t k = 0; r == 0 && k < cp->docs.n; k++) {
		uint32_t doc = BXC_DEF_NO_INPUT;
		r = df_out_inline(
			lw, s, c, cp->doc_of.v[k]->doc_name, cp->docs.v[k], 0644, &doc, err);
		if (r == 0)
			*bxc_arr_push(&docs) = bxc_def_add_input(v, doc, 0);
	}
	uint32_t n_inputs = (uint32_t)v->inputs.n, n = 0;
	for (size_t k = 0; r == 0 && k < cp->paths.n; k++, n++) {
		bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_COPY);
		common_action(lw, cp, a, n ? n_inputs + n - 1 : target, remotes.v[k].input);
		if (remotes.v[k].is_remote) {
			df_remote_action(c->i, a, remotes.v[k].file);
			continue;
		}
		if (c->i->parents)
			set_parents(a, cp->paths.v[k]);
		else
			a->src = df_path_clean("/", cp->paths.v[k]);
		a->src_dir_contents = a->follow_symlink = a->wildcard = a->allow_empty_wildcard =
			true;
		a->unpack = c->i->kind == DF_ADD && c->i->unpack != DF_FALSE;
		a->exclude = bxc_strv_dup(c->i->exclude);
	}
	for (size_t k = 0; r == 0 && k < docs.n; k++, n++) {
		bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_COPY);
		common_action(lw, cp, a, n ? n_inputs + n - 1 : target, docs.v[k]);
		a->src = bxc_str_fmt("/%s", cp->doc_of.v[k]->doc_name);
		a->exclude = bxc_strv_dup(c->i->exclude);
	}
	bxc_arr_done(&docs);
	return r;
}

static char *copy_text(const df_instr *i, const copy *cp)
{
	size_t bytes = 64 + strlen(cp->dest) + (cp->chown ? strlen(cp->chown) : 0) +
		       (cp->chmod ? strlen(cp->chmod) : 0);
	BXC_ARR_FOREACH (p, &cp->paths)
		bytes += strlen(*p) + 1;
	BXC_ARR_FOREACH (d, &cp->doc_of)
		bytes += strlen((*d)->doc_name) + 3;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(bytes);
	bxc_buf_adds(&b, df_kind_name(i->kind));
	if (i->parents)
		bxc_buf_adds(&b, " --parents");
	const char *const flags[][2] = {{" --chown=", cp->chown}, {" --chmod=", cp->chmod}};
	for (size_t k = 0; k < BXC_ARRAY_SIZE(flags); k++) {
		if (bxc_str_empty(flags[k][1]))
			continue;
		bxc_buf_adds(&b, flags[k][0]);
		bxc_buf_adds(&b, flags[k][1]);
	}
	BXC_ARR_FOREACH (p, &cp->paths) {
		bxc_buf_addc(&b, ' ');
		bxc_buf_adds(&b, *p);
	}
	BXC_ARR_FOREACH (d, &cp->doc_of) {
		bxc_buf_adds(&b, " <<");
		bxc_buf_adds(&b, (*d)->doc_name);
	}
	bxc_buf_addc(&b, ' ');
	bxc_buf_adds(&b, cp->dest);
	bxc_buf_adds(&b, " # buildkit");
	return bxc_buf_steal(&b);
}

/* What --link made apart lies above the stage's tree from here on; it is the same step. */
static int stack(
	df_lower *lw, df_stage *s, const df_cmd *c, const char *text, uint32_t made, bxc_err **err)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_MERGE);
	BXC_AUTOFREE char *link_text = bxc_str_concat("LINK ", text);
	/* Not bxc_def_add_input(): the same layer twice is two layers of the image. */
	*bxc_arr_push(&v->inputs) = (bxc_def_input){.vertex = s->tree};
	*bxc_arr_push(&v->inputs) = (bxc_def_input){.vertex = made};
	if (s->n_steps)
		s->n_named--;
	v->meta.name = df_step_name(lw, s, c->on_build, link_text);
	df_step_meta(v, lw, s, c->line, c->line_end);
	v->meta.ignore_cache = s->ignore_cache;
	return df_out_add(lw, v, &s->tree, err);
}

static int lower_copy(df_lower *lw, df_stage *s, const df_cmd *c, copy *cp, bxc_err **err)
{
	int r = expand_all(lw, s, c->i, cp, err);
	if (r < 0)
		return r;
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_FILE);
	r = add_actions(lw, s, c, cp, v, err);
	if (r < 0)
		return r;
	bool linked = is_linked(s, c->i, cp);
	BXC_AUTOFREE char *text = df_step_text(lw, s, c->i->text, false);
	v->meta.name = df_step_name(lw, s, c->on_build, text);
	df_step_meta(v, lw, s, c->line, c->line_end);
	v->meta.ignore_cache = s->ignore_cache;
	uint32_t made = BXC_DEF_NO_INPUT;
	r = df_out_add(lw, BXC_TAKE(v), linked ? &made : &s->tree, err);
	if (r == 0 && linked)
		r = stack(lw, s, c, text, made, err);
	return r == 0 ? df_history(lw, s, true, copy_text(c->i, cp), err) : r;
}

int df_lower_copy(df_lower *lw, df_stage *s, const df_cmd *c, bxc_err **err)
{
	BXC_CLEANUP(copy_done) copy cp = {0};
	return lower_copy(lw, s, c, &cp, err);
}

/* ---- WORKDIR ---- */

static int make_dir(df_lower *lw, df_stage *s, const df_cmd *c, bxc_err **err)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_FILE);
	uint32_t target = df_out_input(v, s->tree);
	bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_MKDIR);
	a->target = target;
	a->dest = bxc_strdup(s->image->working_dir);
	a->mode = 0755;
	a->make_parents = true;
	if (!bxc_str_empty(s->image->user))
		df_owner_parse(s->image->user, &a->owner);
	int r = check_owner(target == BXC_DEF_NO_INPUT, &a->owner, err);
	if (r < 0) {
		bxc_def_vertex_free(v);
		return r;
	}
	if (lw->res->has_epoch)
		a->timestamp_ns = lw->res->epoch_ns;
	BXC_AUTOFREE char *text = df_step_text(lw, s, c->i->text, false);
	v->meta.name = df_step_name(lw, s, c->on_build, text);
	df_step_meta(v, lw, s, c->line, c->line_end);
	return df_out_add(lw, v, &s->tree, err);
}

int df_lower_workdir(df_lower *lw, df_stage *s, const df_cmd *c, bxc_err **err)
{
	BXC_AUTOFREE char *path = NULL;
	int r = df_expand(lw, s, c->i->args[0], &path, err);
	if (r < 0)
		return r;
	df_check_workdir(lw, s, path);
	char *dir = df_path_clean(df_stage_dir(s), path);
	free(s->image->working_dir);
	s->image->working_dir = dir;
	bool layer = !bxc_str_eq(dir, "/");
	if (layer)
		r = make_dir(lw, s, c, err);
	return r == 0 ? df_history(lw, s, layer, bxc_str_concat("WORKDIR ", dir), err) : r;
}
