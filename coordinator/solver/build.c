/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds: how they attach to vertices, what they demand, what they are told, how they leave.
 *
 * Demand is kept per build, along the build's own definition: a vertex can be demanded by one build
 * while another only needs its key.
 */
#include "coordinator/solver/solver_internal.h"

typedef BXC_ARR(uint32_t) idx_list;

static void idx_done(idx_list *l)
{
	bxc_arr_done(l);
}
#define AUTO_IDX BXC_CLEANUP(idx_done)

/* ---- attach and demand ---- */

static const bxc_def_vertex *def_at(const struct solve_build *b, uint32_t idx)
{
	return b->def->vertices.v[idx];
}

/* height[i] becomes the number of vertices on the longest path from i to a target, 0: unreachable.
 */
static int find_heights(const bxc_def *def, const bxc_solve_target *targets, size_t n_targets,
	uint32_t *height, bxc_err **err)
{
	if (n_targets == 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "a build needs a target");
	for (size_t i = 0; i < n_targets; i++) {
		if (targets[i].vertex >= def->vertices.n)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "target %zu: no vertex %u", i,
				targets[i].vertex);
		height[targets[i].vertex] = 1;
	}
	for (size_t i = def->vertices.n; i-- > 0;) {
		if (!height[i])
			continue;
		BXC_ARR_FOREACH (in, &def->vertices.v[i]->inputs) {
			if (in->vertex >= i)
				return bxc_err_set(err, BXC_INVALID_ARGUMENT,
					"vertex %zu: input %u does not precede it", i, in->vertex);
			height[in->vertex] = BXC_MAX(height[in->vertex], height[i] + 1);
		}
	}
	return 0;
}

static struct solve_vertex *vertex_new(
	bxc_solve *s, struct solve_build *b, const bxc_def_vertex *d, const solve_name *identity)
{
	struct solve_vertex *v = bxc_calloc(1, sizeof(*v));
	v->id = bxc_solve__new_id(s);
	v->identity = *identity;
	v->def = d;
	v->def_build = b->id;
	v->op_digest = bxc_def_op_digest(d);
	v->is_source = d->kind == BXC_OP_SOURCE;
	v->ignore = d->meta.ignore_cache;
	v->n_in = d->inputs.n;
	v->in = bxc_calloc(v->n_in ? v->n_in : 1, sizeof(*v->in));
	bxc_solve_contents contents;
	bxc_solve_content_inputs(d, &contents);
	BXC_ARR_FOREACH (c, &contents.items)
		v->in[c->input_index].is_content = true;
	bxc_solve_contents_done(&contents);
	for (size_t i = 0; i < v->n_in; i++) {
		struct solve_in *in = &v->in[i];
		in->v = b->subs[d->inputs.v[i].vertex].v;
		in->output = d->inputs.v[i].output;
		in->is_cheap = in->is_content && bxc_solve_is_local(in->v->def);
		v->has_deep |= in->is_content && !in->is_cheap;
		in->user_pos = in->v->users.n;
		*bxc_arr_push(&in->v->users) = (struct solve_user){v, (uint32_t)i};
	}
	bxc_map_set(s->by_identity, v->identity.s, v);
	bxc_map_set(s->by_id, bxc_solve__name_u64(v->id).s, v);
	return v;
}

static void attach(
	bxc_solve *s, struct solve_build *b, uint32_t idx, uint32_t height, bool *ignored)
{
	const bxc_def_vertex *d = def_at(b, idx);
	ignored[idx] = d->meta.ignore_cache;
	BXC_AUTOFREE const solve_name **names = bxc_calloc(d->inputs.n + 1, sizeof(*names));
	bool ignored_below = false;
	for (size_t i = 0; i < d->inputs.n; i++) {
		ignored_below |= ignored[d->inputs.v[i].vertex];
		names[i] = &b->subs[d->inputs.v[i].vertex].v->identity;
	}
	ignored[idx] |= ignored_below;
	solve_name identity;
	bxc_solve__identity(s, d, ignored_below, names, &identity);

	struct solve_vertex *v = bxc_map_get(s->by_identity, identity.s);
	if (!v)
		v = vertex_new(s, b, d, &identity);
	b->subs[idx].v = v;
	b->subs[idx].pos = v->subs.n;
	*bxc_arr_push(&v->subs) = (struct solve_sub_ref){b, idx};
	v->remaining = BXC_MAX(v->remaining, height);
	if (!v->fast_done)
		bxc_solve__vertex_start(s, v);
}

static int add_build(bxc_solve *s, uint64_t build, const bxc_def *def,
	const bxc_solve_target *targets, size_t n_targets, bool only_looks, bxc_err **err)
{
	if (bxc_solve__build(s, build))
		return bxc_err_set(
			err, BXC_ALREADY_EXISTS, "build %llu is known", (unsigned long long)build);
	size_t n = def->vertices.n;
	BXC_AUTOFREE uint32_t *height = bxc_calloc(n + 1, sizeof(*height));
	int r = find_heights(def, targets, n_targets, height, err);
	if (r < 0)
		return r;
	struct solve_build *b = bxc_calloc(1, sizeof(*b));
	b->id = build;
	b->def = def;
	b->only_looks = only_looks;
	b->n_subs = n;
	b->subs = bxc_calloc(n, sizeof(*b->subs));
	b->n_targets = n_targets;
	b->targets = bxc_memdup(targets, n_targets * sizeof(*targets));
	bxc_map_set(s->builds, bxc_solve__name_u64(build).s, b);

	BXC_AUTOFREE bool *ignored = bxc_calloc(n, sizeof(*ignored));
	for (uint32_t i = 0; i < n; i++) {
		if (height[i])
			attach(s, b, i, height[i], ignored);
	}
	for (size_t i = 0; i < n_targets; i++)
		b->subs[targets[i].vertex].is_target = true;
	for (size_t i = 0; i < n_targets; i++)
		bxc_solve__demand(s, b, targets[i].vertex);
	bxc_solve__check_done(s, b);
	bxc_solve__pump(s);
	return 0;
}

int bxc_solve_add_build(bxc_solve *s, uint64_t build, const bxc_def *def,
	const bxc_solve_target *targets, size_t n_targets, bxc_err **err)
{
	return add_build(s, build, def, targets, n_targets, false, err);
}

int bxc_solve_add_look(bxc_solve *s, uint64_t build, const bxc_def *def,
	const bxc_solve_target *targets, size_t n_targets, bxc_err **err)
{
	return add_build(s, build, def, targets, n_targets, true, err);
}

bool bxc_solve_is_stuck(const bxc_solve *s, uint64_t build)
{
	const struct solve_build *b = bxc_solve__build(s, build);
	bool any = false;
	for (size_t i = 0; b && i < b->n_subs; i++) {
		const struct solve_sub *sub = &b->subs[i];
		any |= sub->missed;
		if (!sub->v || !sub->demanded || sub->v->record || sub->missed)
			continue;
		const struct solve_vertex *v = sub->v;
		/* An answer about it is out, or it runs though nothing may: it is free. */
		if (!v->fast_done || v->ticket || v->n_checksums || v->is_queued || v->run)
			return false;
	}
	return any;
}

void bxc_solve__demand(bxc_solve *s, struct solve_build *b, uint32_t first)
{
	AUTO_IDX idx_list stack = {0};
	*bxc_arr_push(&stack) = first;
	while (stack.n) {
		uint32_t idx = stack.v[--stack.n];
		struct solve_sub *sub = &b->subs[idx];
		struct solve_vertex *v = sub->v;
		if (sub->demanded)
			continue;
		sub->demanded = true;
		v->n_demand++;
		if (!v->fast_done) {
			/* Goes on when its key was looked up; what had failed is asked again. */
			bxc_solve__vertex_start(s, v);
			continue;
		}
		if (v->record) {
			bxc_solve__announce(s, b, idx);
			continue;
		}
		if (v->run) {
			/* Its inputs have done their part; this build has not heard of them. */
			bxc_solve__announce(s, b, idx);
			if (bxc_solve__missed(s, &(struct solve_sub_ref){b, idx}))
				continue;
			sub->started = true;
			bxc_solve__push_event(s, b, idx, BXC_SOLVE_STARTED, v->run->id, NULL);
			continue;
		}
		bxc_solve__enqueue(s, v);
		const bxc_def_vertex *d = def_at(b, idx);
		for (size_t i = d->inputs.n; i-- > 0;)
			*bxc_arr_push(&stack) = d->inputs.v[i].vertex;
	}
}

void bxc_solve__demand_inputs(bxc_solve *s, struct solve_vertex *v)
{
	for (size_t k = 0; k < v->subs.n; k++) {
		struct solve_sub_ref ref = v->subs.v[k];
		if (!ref.b->subs[ref.idx].demanded)
			continue;
		const bxc_def_vertex *d = def_at(ref.b, ref.idx);
		for (size_t i = 0; i < d->inputs.n; i++)
			bxc_solve__demand(s, ref.b, d->inputs.v[i].vertex);
	}
}

/* ---- what is told ---- */

static int idx_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* Indices ascend from inputs to users, so sorting them gives the order to tell in. */
void bxc_solve__announce(bxc_solve *s, struct solve_build *b, uint32_t first)
{
	AUTO_IDX idx_list stack = {0};
	AUTO_IDX idx_list found = {0};
	*bxc_arr_push(&stack) = first;
	while (stack.n) {
		uint32_t idx = stack.v[--stack.n];
		struct solve_sub *sub = &b->subs[idx];
		if (sub->v->record && !sub->told) {
			sub->told = true;
			*bxc_arr_push(&found) = idx;
		}
		if (sub->visited)
			continue;
		sub->visited = true;
		BXC_ARR_FOREACH (in, &def_at(b, idx)->inputs)
			*bxc_arr_push(&stack) = in->vertex;
	}
	if (found.n > 1)
		qsort(found.v, found.n, sizeof(*found.v), idx_cmp);
	for (size_t i = 0; i < found.n; i++)
		bxc_solve__push_event(s, b, found.v[i], BXC_SOLVE_CACHED, 0, NULL);
}

void bxc_solve__check_done(bxc_solve *s, struct solve_build *b)
{
	if (b->is_done)
		return;
	for (size_t i = 0; i < b->n_targets; i++) {
		if (!b->subs[b->targets[i].vertex].v->record)
			return;
	}
	b->is_done = true;
	struct solve_item *it = bxc_solve__push(s, BXC_SOLVE_BUILD_DONE);
	it->build = b->id;
	it->record = ++b->n_done;
}

/* ---- leave ---- */

void bxc_solve__build_free(struct solve_build *b)
{
	free(b->subs);
	free(b->targets);
	free(b);
}

static void detach(bxc_solve *s, struct solve_build *b, uint32_t idx)
{
	struct solve_sub *sub = &b->subs[idx];
	struct solve_vertex *v = sub->v;
	if (sub->demanded) {
		sub->demanded = false;
		v->n_demand--;
		if (v->run && !bxc_solve__is_to_run(s, v))
			bxc_solve__run_leave(s, v);
		else if (v->n_demand == 0 && v->state == SOLVE_INPUTS)
			v->state = SOLVE_IDLE;
	}
	struct solve_sub_ref last = v->subs.v[--v->subs.n];
	if (sub->pos < v->subs.n) {
		v->subs.v[sub->pos] = last;
		last.b->subs[last.idx].pos = sub->pos;
	}
	sub->v = NULL;
	if (v->subs.n == 0) {
		bxc_solve__vertex_free(s, v);
	} else if (v->def == def_at(b, idx)) {
		v->def = def_at(v->subs.v[0].b, v->subs.v[0].idx);
		v->def_build = v->subs.v[0].b->id;
	}
}

/* From the users down, so that a vertex that is freed has no users any more. */
static void leave(bxc_solve *s, struct solve_build *b, const bxc_err *err)
{
	if (err) {
		for (uint32_t i = 0; i < b->n_subs; i++) {
			if (b->subs[i].v && b->subs[i].started)
				bxc_solve__push_event(s, b, i, BXC_SOLVE_CANCELED,
					b->subs[i].v->run ? b->subs[i].v->run->id : 0, NULL);
		}
	}
	for (uint32_t i = (uint32_t)b->n_subs; i-- > 0;) {
		if (b->subs[i].v)
			detach(s, b, i);
	}
	if (err) {
		struct solve_item *it = bxc_solve__push(s, BXC_SOLVE_BUILD_DONE);
		it->build = b->id;
		it->err = bxc_err_copy(err);
	}
	bxc_map_del(s->builds, bxc_solve__name_u64(b->id).s);
	bxc_solve__build_free(b);
}

void bxc_solve_cancel(bxc_solve *s, uint64_t build)
{
	struct solve_build *b = bxc_solve__build(s, build);
	if (!b)
		return;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_err_set(&err, BXC_CANCELED, "the build was cancelled");
	leave(s, b, err);
	bxc_solve__pump(s);
}

void bxc_solve_release(bxc_solve *s, uint64_t build)
{
	struct solve_build *b = bxc_solve__build(s, build);
	if (!b)
		return;
	leave(s, b, NULL);
	bxc_solve__pump(s);
}

void bxc_solve__fail(bxc_solve *s, struct solve_vertex *const *vs, size_t n, bool all, uint64_t run,
	const bxc_err *err)
{
	/* Leaving frees vertices and builds: names are collected first. */
	BXC_ARR(uint64_t) failed = {0};
	for (size_t i = 0; i < n; i++) {
		BXC_ARR_FOREACH (ref, &vs[i]->subs) {
			struct solve_sub *sub = &ref->b->subs[ref->idx];
			/* A build that has its results does not need the keys of what is below
			 * them. */
			if (all ? ref->b->is_done : !sub->demanded)
				continue;
			sub->started = false;
			bxc_solve__push_event(s, ref->b, ref->idx, BXC_SOLVE_FAILED, run, err);
			*bxc_arr_push(&failed) = ref->b->id;
		}
	}
	BXC_ARR_FOREACH (id, &failed) {
		struct solve_build *b = bxc_solve__build(s, *id);
		if (b)
			leave(s, b, err);
	}
	bxc_arr_done(&failed);
}
