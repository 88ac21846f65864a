/* SPDX-License-Identifier: Apache-2.0 */
/* RUN: one exec operation, its mounts in order of their targets. */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include <inttypes.h>

#define PIPES "/dev/pipes"

typedef struct run_mount {
	df_mount m;
	char *dest;
	uint32_t vertex; /* BXC_DEF_NO_INPUT: an empty tree */
	char *selector;
	char *cache_id;
} run_mount;

typedef struct run {
	df_lower *lw;
	df_stage *s;
	const df_cmd *c;
	char *command; /* of the shell form */
	char *note;    /* added to the name of the step */
	char **args;
	BXC_ARR(run_mount) mounts;
} run;

static void run_done(run *r)
{
	free(r->command);
	free(r->note);
	bxc_strv_free(r->args);
	BXC_ARR_FOREACH (m, &r->mounts) {
		df_mount_done(&m->m);
		free(m->dest);
		free(m->selector);
		free(m->cache_id);
	}
	bxc_arr_done(&r->mounts);
}

/* ---- the command ---- */

/* The first line of a heredoc, as the name of the step shows it. */
static char *summary(const char *data)
{
	BXC_AUTOFREE char *copy = bxc_strdup(data);
	char *text = bxc_str_trim(copy);
	size_t n = strcspn(text, "\r\n");
	return bxc_str_fmt(
		" (%.*s%s)", (int)BXC_MIN(n, (size_t)256), text, text[n] || n > 256 ? "..." : "");
}

/* A script that names its interpreter: a file of its own, shown to the step read-only. */
static int script_file(run *rn, const char *name, const char *data, bxc_err **err)
{
	uint32_t vertex = BXC_DEF_NO_INPUT;
	int r = df_doc_name_check(name, err);
	if (r == 0)
		r = df_out_inline(rn->lw, rn->s, rn->c, name, data, 0755, &vertex, err);
	if (r < 0)
		return r;
	run_mount *m = bxc_arr_push(&rn->mounts);
	m->m.kind = BXC_MOUNT_BIND;
	m->m.readonly = true;
	m->dest = bxc_strdup(PIPES);
	m->vertex = vertex;
	rn->command = bxc_str_fmt("%s/%s", PIPES, name);
	return 0;
}

static int heredoc_command(run *rn, bxc_err **err)
{
	const df_instr *i = rn->c->i;
	const df_heredoc *d = &i->docs.v[0];
	df_heredoc h = {0};
	if (!df_heredoc_parse(i->args[0], &h)) {
		/* Only some part of the command reads them: the shell gets it all as written. */
		rn->command = df_with_docs(i->args[0], &i->docs);
		return 0;
	}
	free(h.name);
	BXC_AUTOFREE char *data = d->strip_tabs ? df_strip_tabs(d->data) : bxc_strdup(d->data);
	rn->note = summary(d->data);
	if (bxc_str_has_prefix(data, "#!"))
		return script_file(rn, d->name, data, err);
	rn->command = BXC_TAKE(data);
	return 0;
}

static int set_args(run *rn, bxc_err **err)
{
	const df_instr *i = rn->c->i;
	int r = 0;
	if (i->is_json) {
		rn->args = bxc_strv_dup(i->args);
		if (!rn->args || !rn->args[0])
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"RUN needs a command, the array is empty");
		return 0;
	}
	if (i->docs.n)
		r = heredoc_command(rn, err);
	else
		rn->command = bxc_strdup(i->args ? i->args[0] : "");
	if (r == 0)
		rn->args = df_with_shell(rn->s, rn->command);
	return r;
}

/* ---- mounts ---- */

static int expand_value(const char *word, char **ret, void *ud, bxc_err **err)
{
	const run *rn = ud;
	return df_expand(rn->lw, rn->s, word, ret, err);
}

static int refuse_kind(const df_mount *m, bxc_err **err)
{
	if (m->kind == BXC_MOUNT_SECRET)
		return df_unsupported("RUN --mount=type=secret", err);
	if (m->kind == BXC_MOUNT_SSH)
		return df_unsupported("RUN --mount=type=ssh", err);
	if (m->kind == BXC_MOUNT_CACHE && m->from && (m->has_mode || m->has_uid || m->has_gid))
		return df_unsupported(
			"RUN --mount=type=cache with both from and mode, uid or gid", err);
	return 0;
}

static int mount_input(run *rn, size_t stage, run_mount *m, bxc_err **err)
{
	m->vertex = BXC_DEF_NO_INPUT;
	BXC_AUTOFREE char *source = df_path_clean("/", m->m.source ? m->m.source : "");
	if (m->m.kind == BXC_MOUNT_TMPFS)
		return 0;
	if (!bxc_str_eq(source, "/"))
		m->selector = bxc_strdup(source);
	if (stage != DF_NO_STAGE) {
		const df_stage *from = rn->lw->stages.v[stage];
		if (!from->is_dispatched)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"cannot mount from stage \"%s\" to \"%s\", stage needs to be "
				"defined before current command",
				m->m.from, m->dest);
		return df_out_stage(rn->lw, stage, source, &m->vertex, err);
	}
	return m->m.kind == BXC_MOUNT_CACHE ? 0 : df_out_context(rn->lw, source, &m->vertex, err);
}

/* The id as given, or the target as it was written: relative and absolute ones differ. */
static char *cache_id(const run *rn, const df_mount *m)
{
	const char *ns = df_env_get(rn->lw->build_args, "BUILDKIT_CACHE_MOUNT_NS");
	BXC_AUTOFREE char *clean = df_path_clean("/", m->target);
	const char *by_target = *m->target == '/' ? clean : clean + 1;
	const char *id = bxc_str_empty(m->id) ? by_target : m->id;
	return bxc_str_empty(ns) ? bxc_strdup(id) : bxc_str_fmt("%s/%s", ns, id);
}

static int add_mount(run *rn, const char *text, size_t stage, bxc_err **err)
{
	run_mount *m = bxc_arr_push(&rn->mounts);
	int r = df_mount_parse(text, expand_value, rn, &m->m, err);
	if (r == 0)
		df_outline_mount(rn->lw, rn->s, &m->m);
	if (r == 0)
		r = refuse_kind(&m->m, err);
	if (r < 0)
		return r;
	if (bxc_str_empty(m->m.target))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid mount target \"\"");
	m->dest = df_path_clean(df_stage_dir(rn->s), m->m.target);
	if (bxc_str_eq(m->dest, "/"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid mount target \"/\"");
	if (m->m.kind == BXC_MOUNT_CACHE)
		m->cache_id = cache_id(rn, &m->m);
	return mount_input(rn, stage, m, err);
}

static int compare_mounts(const void *a, const void *b)
{
	return strcmp(((const run_mount *)a)->dest, ((const run_mount *)b)->dest);
}

static int set_mounts(run *rn, bxc_err **err)
{
	const df_cmd *c = rn->c;
	for (size_t k = 0; c->i->mounts && c->i->mounts[k]; k++) {
		int r = add_mount(rn, c->i->mounts[k], c->from.v[k], err);
		if (r < 0)
			return r;
	}
	/* Outer ones come before those beneath them, and the same set in another order is the same
	 * step. */
	if (rn->mounts.n)
		qsort(rn->mounts.v, rn->mounts.n, sizeof(*rn->mounts.v), compare_mounts);
	for (size_t k = 1; k < rn->mounts.n; k++)
		if (bxc_str_eq(rn->mounts.v[k - 1].dest, rn->mounts.v[k].dest))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"two mounts have the target \"%s\"", rn->mounts.v[k].dest);
	return 0;
}

static void put_mounts(const run *rn, bxc_def_vertex *v)
{
	uint32_t root_input = df_out_input(v, rn->s->tree);
	bxc_op_mount *root = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/");
	root->input = root_input;
	root->output = 0;
	root->readonly = false;
	BXC_ARR_FOREACH (m, &rn->mounts) {
		uint32_t input = df_out_input(v, m->vertex);
		bxc_op_mount *o = bxc_def_add_mount(v, m->m.kind, m->dest);
		o->input = input;
		o->output = BXC_DEF_NO_OUTPUT;
		o->readonly = m->m.readonly;
		o->selector = bxc_strdup(m->selector);
		o->tmpfs_size = m->m.size;
		if (m->m.kind != BXC_MOUNT_CACHE)
			continue;
		o->cache_id = bxc_strdup(m->cache_id);
		o->sharing = m->m.sharing;
		o->uid = m->m.uid;
		o->gid = m->m.gid;
		o->mode = m->m.has_mode ? m->m.mode : 0755;
	}
}

/* ---- the operation ---- */

static int check_flags(const df_instr *i, bxc_err **err)
{
	if (bxc_str_eq(i->network, "host"))
		return df_unsupported("RUN --network=host", err);
	if (bxc_str_eq(i->security, "insecure"))
		return df_unsupported("RUN --security=insecure", err);
	return i->devices ? df_unsupported("RUN --device", err) : 0;
}

static char **env_of(const df_env *e)
{
	df_list list = {0};
	for (size_t i = 0; i < df_env_len(e); i++) {
		/* Every RUN has all of them: not worth a format each. */
		const df_pair *kv = df_env_at(e, i);
		size_t key = strlen(kv->key), value = strlen(kv->value);
		char *text = bxc_malloc(key + value + 2);
		memcpy(text, kv->key, key);
		text[key] = '=';
		memcpy(text + key + 1, kv->value, value + 1);
		*bxc_arr_push(&list) = text;
	}
	return df_list_finish(&list);
}

static bxc_def_vertex *make_vertex(const run *rn)
{
	const bxc_df_opts *o = rn->lw->o;
	const char *hostname = df_env_get(rn->lw->build_args, "BUILDKIT_SANDBOX_HOSTNAME");
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_EXEC);
	bxc_op_exec *x = &v->op.exec;
	x->args = bxc_strv_dup(rn->args);
	x->env = env_of(rn->s->env);
	x->cwd = bxc_strdup(df_stage_dir(rn->s));
	if (!bxc_str_empty(rn->s->image->user))
		x->user = bxc_strdup(rn->s->image->user);
	if (bxc_str_empty(hostname))
		hostname = o->hostname;
	if (!bxc_str_empty(hostname))
		x->hostname = bxc_strdup(hostname);
	x->extra_hosts = bxc_strv_dup(o->extra_hosts);
	x->ulimits = bxc_strv_dup(o->ulimits);
	if (!bxc_str_empty(o->cgroup_parent))
		x->cgroup_parent = bxc_strdup(o->cgroup_parent);
	x->proxy_env = bxc_strv_dup(rn->lw->proxy_env);
	x->net = o->net;
	if (rn->c->i->network)
		x->net = bxc_str_eq(rn->c->i->network, "none") ? BXC_NET_NONE : BXC_NET_DEFAULT;
	x->shm_size = o->shm_size;
	put_mounts(rn, v);
	return v;
}

/* "RUN |2 A=1 B=2 /bin/sh -c make # buildkit" */
static char *run_text(const run *rn)
{
	const df_stage *s = rn->s;
	BXC_CLEANUP(df_env_freep) df_env *declared = df_env_new();
	BXC_ARR_FOREACH (a, &s->args) {
		const char *value = df_env_get(s->env, a->key);
		df_env_set(declared, a->key, value ? value : a->value ? a->value : "");
	}
	size_t n = df_env_len(declared), bytes = 64 + (size_t)df_env_bytes(declared);
	for (char **a = rn->args; *a; a++)
		bytes += strlen(*a) + 1;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(bytes);
	bxc_buf_adds(&b, "RUN");
	if (n)
		bxc_buf_addf(&b, " |%zu", n);
	for (size_t i = 0; i < n; i++) {
		bxc_buf_addc(&b, ' ');
		bxc_buf_adds(&b, df_env_at(declared, i)->key);
		bxc_buf_addc(&b, '=');
		bxc_buf_adds(&b, df_env_at(declared, i)->value);
	}
	for (char **a = rn->args; *a; a++) {
		bxc_buf_addc(&b, ' ');
		bxc_buf_adds(&b, *a);
	}
	bxc_buf_adds(&b, " # buildkit");
	return bxc_buf_steal(&b);
}

static int lower_run(run *rn, bxc_err **err)
{
	df_lower *lw = rn->lw;
	df_stage *s = rn->s;
	const df_cmd *c = rn->c;
	int r = check_flags(c->i, err);
	if (r == 0)
		r = set_args(rn, err);
	if (r == 0)
		r = set_mounts(rn, err);
	if (r == 0)
		r = df_charge(&lw->work, df_env_bytes(s->env) * 2, err);
	if (r < 0)
		return r;
	bxc_def_vertex *v = make_vertex(rn);
	BXC_AUTOFREE char *plain = bxc_str_fmt("%s%s", c->i->text, rn->note ? rn->note : "");
	BXC_AUTOFREE char *text = df_step_text(lw, s, plain, true);
	v->meta.name = df_step_name(lw, s, c->on_build, text);
	df_step_meta(v, lw, s, c->line, c->line_end);
	v->meta.ignore_cache = s->ignore_cache;
	r = df_out_add(lw, v, &s->tree, err);
	return r == 0 ? df_history(lw, s, true, run_text(rn), err) : r;
}

int df_lower_run(df_lower *lw, df_stage *s, const df_cmd *c, bxc_err **err)
{
	BXC_CLEANUP(run_done) run rn = {.lw = lw, .s = s, .c = c};
	return lower_run(&rn, err);
}
