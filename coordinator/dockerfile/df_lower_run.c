/* SPDX-License-Identifier: Apache-2.0 */
/* RUN: one exec operation, its mounts in order of their targets. */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include <inttypes.h>

#define PIPES	       "/dev/pipes"
#define VARIABLE_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

typedef struct run_mount {
	df_mount m;
	char *dest;
	uint32_t vertex; /* BXC_DEF_NO_INPUT: an empty tree */
	char *selector;
	char *cache_id;	 /* of a secret and an agent: what the client knows it by */
	size_t position; /* in the instruction */
} run_mount;

typedef struct run {
	df_lower *lw;
	df_stage *s;
	const df_cmd *c;
	char *command; /* of the shell form */
	char *note;    /* added to the name of the step */
	char **args;
	BXC_ARR(run_mount) mounts;
	char *agent; /* socket of the first SSH mount; NULL: none */
	size_t n_agents;
} run;

static void run_done(run *r)
{
	free(r->command);
	free(r->note);
	free(r->agent);
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

#define CACHE_DIR "/cache"

/* A stage with a folder in it that has the owner and mode: in the reference that is what such a
 * cache mount starts from, and the source is not looked at. */
static int cache_folder(run *rn, run_mount *m, bxc_err **err)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_FILE);
	uint32_t target = df_out_input(v, m->vertex);
	bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_MKDIR);
	a->target = target;
	a->dest = bxc_strdup(CACHE_DIR);
	a->mode = m->m.has_mode ? (int32_t)m->m.mode : 0755;
	a->owner = (bxc_def_owner){
		.is_set = true, .uid = m->m.uid, .gid = m->m.gid, .has_gid = true};
	if (rn->lw->res->has_epoch)
		a->timestamp_ns = rn->lw->res->epoch_ns;
	v->meta.name = bxc_strdup("[internal] setting cache mount permissions");
	df_step_meta(v, rn->lw, rn->s, rn->c->line, rn->c->line_end);
	v->meta.internal = true;
	free(m->selector);
	m->selector = bxc_strdup(CACHE_DIR);
	return df_out_add(rn->lw, v, &m->vertex, err);
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
		bool is_owned = m->m.kind == BXC_MOUNT_CACHE &&
				(m->m.has_mode || m->m.has_uid || m->m.has_gid);
		if (!is_owned)
			return df_out_stage(rn->lw, stage, source, &m->vertex, err);
		/* A folder of the client has to be a layer for that. */
		int r = df_context_base(rn->lw, rn->lw->stages.v[stage], err);
		m->vertex = from->tree;
		return r == 0 ? cache_folder(rn, m, err) : r;
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

static int root_is_no_target(const char *dest, bxc_err **err)
{
	if (bxc_str_eq(dest, "/"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid mount target \"/\"");
	return 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* A file, a variable, or both; targets do not depend on the working folder. */
static int add_secret(run_mount *m, bxc_err **err)
{
	df_mount *d = &m->m;
	BXC_AUTOFREE char *target = df_path_clean("/", d->target ? d->target : "");
	const char *id = !bxc_str_empty(d->source) ? d->source : d->id;
	if (bxc_str_empty(id))
		id = base_name(target);
	if (!*id)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "one of source, target required");
	if (d->env && (!*d->env || d->env[strspn(d->env, VARIABLE_CHARS)]))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"env \"%.64s\" of a secret is no name of a variable", d->env);
	BXC_AUTOFREE char *id_path = df_path_clean("/", id);
	m->vertex = BXC_DEF_NO_INPUT;
	m->cache_id = bxc_strdup(id);
	d->readonly = true;
	if (!d->has_mode)
		d->mode = 0400;
	if (bxc_str_empty(d->target))
		m->dest = d->env ? bxc_strdup("")
				 : bxc_str_fmt("/run/secrets/%s", base_name(id_path));
	else
		m->dest = BXC_TAKE(target);
	return root_is_no_target(m->dest, err);
}

static int add_agent(run *rn, run_mount *m, bxc_err **err)
{
	df_mount *d = &m->m;
	if (!bxc_str_empty(d->source))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "ssh does not support source");
	m->vertex = BXC_DEF_NO_INPUT;
	m->cache_id = bxc_strdup(bxc_str_empty(d->id) ? "default" : d->id);
	d->readonly = false;
	d->mode = d->has_mode ? d->mode & 0777 : 0600;
	m->dest = bxc_str_empty(d->target)
			  ? bxc_str_fmt("/run/buildkit/ssh_agent.%zu", rn->n_agents)
			  : df_path_clean("/", d->target);
	rn->n_agents++;
	if (!rn->agent)
		rn->agent = bxc_strdup(m->dest);
	return root_is_no_target(m->dest, err);
}

static int add_mount(run *rn, const char *text, size_t stage, bxc_err **err)
{
	size_t position = rn->mounts.n;
	run_mount *m = bxc_arr_push(&rn->mounts);
	m->position = position;
	int r = df_mount_parse(text, expand_value, rn, &m->m, err);
	if (r == 0)
		df_outline_mount(rn->lw, rn->s, &m->m);
	if (r < 0)
		return r;
	if (m->m.kind == BXC_MOUNT_SECRET)
		return add_secret(m, err);
	if (m->m.kind == BXC_MOUNT_SSH)
		return add_agent(rn, m, err);
	if (bxc_str_empty(m->m.target))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid mount target \"\"");
	m->dest = df_path_clean(df_stage_dir(rn->s), m->m.target);
	r = root_is_no_target(m->dest, err);
	if (r < 0)
		return r;
	if (m->m.kind == BXC_MOUNT_CACHE)
		m->cache_id = cache_id(rn, &m->m);
	return mount_input(rn, stage, m, err);
}

static int compare_mounts(const void *a, const void *b)
{
	const run_mount *x = a, *y = b;
	int r = strcmp(x->dest, y->dest);
	return r ? r : (x->position > y->position) - (x->position < y->position);
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
	/* Secrets that are only variables have no target. */
	for (size_t k = 1; k < rn->mounts.n; k++)
		if (*rn->mounts.v[k].dest &&
			bxc_str_eq(rn->mounts.v[k - 1].dest, rn->mounts.v[k].dest))
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
		if (m->m.kind == BXC_MOUNT_SECRET || m->m.kind == BXC_MOUNT_SSH) {
			o->cache_id = bxc_strdup(m->cache_id);
			o->uid = m->m.uid;
			o->gid = m->m.gid;
			o->mode = m->m.mode;
			o->optional = !m->m.required;
			o->env = m->m.env ? bxc_strdup(m->m.env) : NULL;
		}
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

static int needs(const char *entitlement, bxc_err **err)
{
	return bxc_err_set(err, BXC_PERMISSION_DENIED, "%s is not allowed: build with --allow %s",
		entitlement, entitlement);
}

/* What a step asks for beyond what every step has. */
static int check_flags(const bxc_df_opts *o, const df_instr *i, bxc_err **err)
{
	bool is_host = i->network ? bxc_str_eq(i->network, "host") : o->net == BXC_NET_HOST;
	if (is_host && !o->allow_net_host)
		return needs("network.host", err);
	if (bxc_str_eq(i->security, "insecure") && !o->allow_insecure)
		return needs("security.insecure", err);
	if (!i->devices || !i->devices[0])
		return 0;
	const char *d = i->devices[0];
	if (bxc_str_has_prefix(d, "name="))
		d += strlen("name=");
	return bxc_err_set(err, BXC_FAILED_PRECONDITION,
		"device \"%.*s\" is requested by the build but no worker offers devices",
		(int)strcspn(d, ","), d);
}

static int set_env(const run *rn, bxc_def_vertex *v, bxc_err **err)
{
	bxc_op_exec *x = &v->op.exec;
	if (!rn->agent || df_env_get(rn->s->env, "SSH_AUTH_SOCK"))
		return df_env_share(rn->s->env, v, err);
	x->env = df_env_strv(rn->s->env);
	bxc_env_set(&x->env, "SSH_AUTH_SOCK", rn->agent);
	return 0;
}

static bxc_def_vertex *make_vertex(const run *rn)
{
	const bxc_df_opts *o = rn->lw->o;
	const char *hostname = df_env_get(rn->lw->build_args, "BUILDKIT_SANDBOX_HOSTNAME");
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_EXEC);
	bxc_op_exec *x = &v->op.exec;
	x->args = bxc_strv_dup(rn->args);
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
	const char *net = rn->c->i->network;
	if (net)
		x->net = bxc_str_eq(net, "none")   ? BXC_NET_NONE
			 : bxc_str_eq(net, "host") ? BXC_NET_HOST
						   : BXC_NET_DEFAULT;
	x->insecure = bxc_str_eq(rn->c->i->security, "insecure");
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

/* Values of secrets are not known here; the mask tells that there will be one. */
static char *step_text(const run *rn)
{
	df_stage *s = rn->s;
	df_env *own = s->env;
	BXC_CLEANUP(df_env_freep) df_env *masked = NULL;
	BXC_AUTOFREE char *plain = bxc_str_concat(rn->c->i->text, rn->note ? rn->note : "");
	BXC_ARR_FOREACH (m, &rn->mounts) {
		if (!m->m.env)
			continue;
		if (!masked)
			masked = df_env_dup(own);
		df_env_set(masked, m->m.env, "****");
	}
	if (masked)
		s->env = masked;
	char *text = df_step_text(rn->lw, s, plain, true);
	s->env = own;
	return text;
}

static int lower_run(run *rn, bxc_err **err)
{
	df_lower *lw = rn->lw;
	df_stage *s = rn->s;
	const df_cmd *c = rn->c;
	int r = check_flags(lw->o, c->i, err);
	if (r == 0)
		r = set_args(rn, err);
	if (r == 0)
		r = set_mounts(rn, err);
	if (r == 0)
		r = df_charge(&lw->work, df_env_bytes(s->env) * 2, err);
	if (r < 0)
		return r;
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = make_vertex(rn);
	r = set_env(rn, v, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *text = step_text(rn);
	v->meta.name = df_step_name(lw, s, c->on_build, text);
	df_step_meta(v, lw, s, c->line, c->line_end);
	v->meta.ignore_cache = s->ignore_cache;
	r = df_out_add(lw, BXC_TAKE(v), &s->tree, err);
	return r == 0 ? df_history(lw, s, true, run_text(rn), err) : r;
}

int df_lower_run(df_lower *lw, df_stage *s, const df_cmd *c, bxc_err **err)
{
	BXC_CLEANUP(run_done) run rn = {.lw = lw, .s = s, .c = c};
	return lower_run(&rn, err);
}
