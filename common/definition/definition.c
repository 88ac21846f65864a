/* SPDX-License-Identifier: Apache-2.0 */
#include "common/definition/definition.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/definition/definition_internal.h"

bxc_def *bxc_def_new(void)
{
	return bxc_calloc(1, sizeof(bxc_def));
}

void bxc_def_free(bxc_def *d)
{
	if (!d)
		return;
	BXC_ARR_FOREACH (v, &d->vertices)
		bxc_def_vertex_free(*v);
	bxc_arr_done(&d->vertices);
	def_places_free(d->by_digest_);
	def_encoder_free(d->encoder_);
	free(d);
}

bxc_def_vertex *bxc_def_vertex_new(bxc_op_kind kind)
{
	bxc_def_vertex *v = bxc_calloc(1, sizeof(*v));
	v->kind = kind;
	if (kind == BXC_OP_DIFF)
		v->op.diff = (bxc_op_diff){BXC_DEF_NO_INPUT, BXC_DEF_NO_INPUT};
	return v;
}

bxc_file_action *bxc_def_add_action(bxc_def_vertex *v, bxc_file_kind kind)
{
	bxc_check(v->kind == BXC_OP_FILE);
	bxc_file_action *a = bxc_arr_push(&v->op.file.actions);
	a->kind = kind;
	a->target = BXC_DEF_NO_INPUT;
	a->source = BXC_DEF_NO_INPUT;
	a->mode = -1;
	a->timestamp_ns = INT64_MIN;
	return a;
}

bxc_op_mount *bxc_def_add_mount(bxc_def_vertex *v, bxc_mount_kind kind, const char *dest)
{
	bxc_check(v->kind == BXC_OP_EXEC);
	bxc_op_mount *m = bxc_arr_push(&v->op.exec.mounts);
	m->kind = kind;
	m->dest = bxc_strdup(dest);
	m->input = BXC_DEF_NO_INPUT;
	m->output = BXC_DEF_NO_OUTPUT;
	/* What a Dockerfile that says nothing gets. */
	if (kind == BXC_MOUNT_SECRET)
		m->mode = 0400;
	else if (kind == BXC_MOUNT_SSH)
		m->mode = 0600;
	else if (kind == BXC_MOUNT_CACHE)
		m->mode = 0755;
	return m;
}

uint32_t bxc_def_add_input(bxc_def_vertex *v, uint32_t vertex, uint32_t output)
{
	for (size_t i = 0; i < v->inputs.n; i++)
		if (v->inputs.v[i].vertex == vertex && v->inputs.v[i].output == output)
			return (uint32_t)i;
	*bxc_arr_push(&v->inputs) = (bxc_def_input){vertex, output};
	return (uint32_t)(v->inputs.n - 1);
}

struct bxc_def_env {
	uint32_t refs;
	char **env;
};

int bxc_def_env_new(char **env_take, bxc_def_env **ret, bxc_err **err)
{
	BXC_AUTOSTRV char **env = env_take;
	int r = def_check_env(env, err);
	if (r < 0)
		return r;
	bxc_def_env *e = bxc_calloc(1, sizeof(*e));
	e->refs = 1;
	e->env = BXC_TAKE(env);
	*ret = e;
	return 0;
}

bxc_def_env *bxc_def_env_ref(bxc_def_env *e)
{
	__atomic_add_fetch(&e->refs, 1, __ATOMIC_RELAXED);
	return e;
}

void bxc_def_env_unref(bxc_def_env *e)
{
	if (!e || __atomic_sub_fetch(&e->refs, 1, __ATOMIC_ACQ_REL))
		return;
	bxc_strv_free(e->env);
	free(e);
}

void bxc_def_share_env(bxc_def_vertex *v, bxc_def_env *e)
{
	bxc_check(v->kind == BXC_OP_EXEC && !v->op.exec.env && !v->op.exec.shared_env);
	v->op.exec.shared_env = bxc_def_env_ref(e);
	v->op.exec.env = e->env;
}

static void exec_done(bxc_op_exec *e)
{
	bxc_strv_free(e->args);
	if (e->shared_env)
		bxc_def_env_unref(e->shared_env);
	else
		bxc_strv_free(e->env);
	free(e->cwd);
	free(e->user);
	free(e->hostname);
	bxc_strv_free(e->extra_hosts);
	bxc_strv_free(e->ulimits);
	free(e->cgroup_parent);
	bxc_strv_free(e->proxy_env);
	BXC_ARR_FOREACH (m, &e->mounts) {
		free(m->dest);
		free(m->selector);
		free(m->cache_id);
		free(m->env);
	}
	bxc_arr_done(&e->mounts);
}

static void file_done(bxc_op_file *f)
{
	BXC_ARR_FOREACH (a, &f->actions) {
		free(a->src);
		bxc_strv_free(a->include);
		bxc_strv_free(a->exclude);
		bxc_strv_free(a->required);
		free(a->dest);
		free(a->mode_text);
		free(a->owner.user_name);
		free(a->owner.group_name);
		free(a->data);
		free(a->link_target);
	}
	bxc_arr_done(&f->actions);
}

void bxc_def_vertex_free(bxc_def_vertex *v)
{
	if (!v)
		return;
	switch (v->kind) {
	case BXC_OP_SOURCE:
		free(v->op.source.identifier);
		bxc_strv_free(v->op.source.attrs);
		break;
	case BXC_OP_EXEC:
		exec_done(&v->op.exec);
		break;
	case BXC_OP_FILE:
		file_done(&v->op.file);
		break;
	case BXC_OP_UNKNOWN:
	case BXC_OP_MERGE:
	case BXC_OP_DIFF:
		break;
	}
	bxc_arr_done(&v->inputs);
	free(v->meta.name);
	free(v->meta.progress_group);
	free(v->meta.stage);
	free(v);
}

static int check_room(const bxc_def *d, bxc_err **err)
{
	if (d->vertices.n < BXC_LIMIT_DEF_NODES)
		return 0;
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "definition of more than %u vertices",
		BXC_LIMIT_DEF_NODES);
}

static int check_new(const bxc_def *d, bxc_def_vertex *v, bxc_err **err)
{
	if (v->kind == BXC_OP_SOURCE)
		bxc_strv_sort(v->op.source.attrs);
	int r = check_room(d, err);
	if (r == 0)
		r = def_check_vertex(v, err);
	return r == 0 ? def_check_inputs(d, v, d->vertices.n, err) : r;
}

int bxc_def_append(bxc_def *d, bxc_def_vertex *vertex, uint32_t *ret_index, bxc_err **err)
{
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = vertex;
	int r = check_new(d, v, err);
	if (r < 0)
		return r;
	*bxc_arr_push(&d->vertices) = BXC_TAKE(v);
	*ret_index = (uint32_t)(d->vertices.n - 1);
	return 0;
}

/* `v` was checked. */
static uint32_t add_checked(bxc_def *d, bxc_def_vertex *vertex)
{
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = vertex;
	if (!d->encoder_)
		d->encoder_ = def_encoder_new();
	v->digest = def_vertex_digest(d, v, d->encoder_);
	uint32_t place = def_place_of(d, &v->digest);
	if (place < d->vertices.n)
		/* Whoever asked for a fresh run of it gets one. */
		d->vertices.v[place]->meta.ignore_cache |= v->meta.ignore_cache;
	else
		*bxc_arr_push(&d->vertices) = BXC_TAKE(v);
	return place;
}

int bxc_def_add(bxc_def *d, bxc_def_vertex *vertex, uint32_t *ret_index, bxc_err **err)
{
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = vertex;
	int r = check_new(d, v, err);
	if (r == 0)
		*ret_index = add_checked(d, BXC_TAKE(v));
	return r;
}

int bxc_def_hand_over(bxc_def *from, uint32_t i, uint32_t *places, bxc_def *to, bxc_err **err)
{
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = BXC_TAKE(from->vertices.v[i]);
	int r = check_room(to, err);
	/* The attributes of a source may be completed after it was appended. */
	if (r == 0 && v->kind == BXC_OP_SOURCE) {
		bxc_strv_sort(v->op.source.attrs);
		r = def_check_vertex(v, err);
	}
	if (r < 0)
		return r;
	BXC_ARR_FOREACH (in, &v->inputs) {
		in->vertex = places[in->vertex];
		bxc_check(in->vertex < to->vertices.n);
	}
	places[i] = add_checked(to, BXC_TAKE(v));
	return 0;
}

int bxc_def_validate(const bxc_def *d, bxc_err **err)
{
	if (d->vertices.n > BXC_LIMIT_DEF_NODES)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"definition of %zu vertices, more than %u", d->vertices.n,
			BXC_LIMIT_DEF_NODES);
	BXC_CLEANUP(def_encoder_freep) def_encoder *e = def_encoder_new();
	for (size_t i = 0; i < d->vertices.n; i++) {
		const bxc_def_vertex *v = d->vertices.v[i];
		int r = def_check_vertex(v, err);
		if (r == 0)
			r = def_check_inputs(d, v, i, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "vertex %zu", i);
		bxc_digest digest = def_vertex_digest(d, v, e);
		if (!bxc_digest_eq(&digest, &v->digest))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"vertex %zu: the digest does not match", i);
	}
	return 0;
}
