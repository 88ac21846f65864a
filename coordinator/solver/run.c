/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs. A run belongs to its members: vertices, possibly of different definitions, which need the
 * same key. It goes on as long as it has one; the first member leads, that is, gives the inputs.
 */
#include "coordinator/solver/solver_internal.h"

static solve_name run_name(const struct solve_run *r)
{
	return bxc_solve__name_key(&r->key, r->fresh);
}

static void issue(bxc_solve *s, struct solve_run *r)
{
	r->is_issued = false;
	r->ticket = bxc_solve__ticket_new(s, BXC_SOLVE_RUN, NULL, r, 0);
	struct solve_item *it = bxc_solve__push(s, BXC_SOLVE_RUN);
	it->ticket = r->ticket;
}

void bxc_solve__run_free(struct solve_run *r)
{
	bxc_arr_done(&r->members);
	free(r);
}

static void forget(bxc_solve *s, struct solve_run *r)
{
	bxc_solve__ticket_drop(s, &r->ticket);
	solve_name name = run_name(r);
	if (bxc_map_get(s->runs, name.s) == r)
		bxc_map_del(s->runs, name.s);
	bxc_solve__run_free(r);
}

/* Ends the run; its members (owned, as they were) have made `attempts` that failed. */
static solve_members disband(bxc_solve *s, struct solve_run *r, uint32_t attempts)
{
	solve_members members = r->members;
	r->members = (solve_members){0};
	BXC_ARR_FOREACH (m, &members) {
		(*m)->run = NULL;
		(*m)->state = SOLVE_IDLE;
		(*m)->attempts = attempts;
	}
	forget(s, r);
	return members;
}

/* A vertex that ignores the cache may join another that does, never a plain one. */
static struct solve_run *find_run(bxc_solve *s, const struct solve_vertex *v, const bxc_digest *key)
{
	struct solve_run *r = bxc_map_get(s->runs, bxc_solve__name_key(key, true).s);
	if (!r && !v->ignore)
		r = bxc_map_get(s->runs, bxc_solve__name_key(key, false).s);
	return r;
}

static void explain(struct solve_vertex *v)
{
	v->miss = BXC_SOLVE_MISS_NEVER_SEEN;
	if (v->ignore) {
		v->miss = BXC_SOLVE_MISS_IGNORE_CACHE;
		return;
	}
	if (v->lost_record) {
		v->miss = BXC_SOLVE_MISS_LOST;
		return;
	}
	for (size_t i = 0; i < v->n_in; i++) {
		if (v->in[i].v->executed) {
			v->miss = BXC_SOLVE_MISS_INPUT;
			v->miss_input = (uint32_t)i;
			return;
		}
	}
}

bool bxc_solve__missed(bxc_solve *s, const struct solve_sub_ref *ref)
{
	struct solve_sub *sub = &ref->b->subs[ref->idx];
	if (!ref->b->only_looks || bxc_solve_is_free(sub->v->def))
		return false;
	if (!sub->missed) {
		sub->missed = true;
		bxc_solve__push_event(s, ref->b, ref->idx, BXC_SOLVE_MISSED, 0, NULL);
	}
	return true;
}

bool bxc_solve__is_to_run(bxc_solve *s, struct solve_vertex *v)
{
	bool wanted = false;
	BXC_ARR_FOREACH (ref, &v->subs) {
		if (ref->b->subs[ref->idx].demanded && !bxc_solve__missed(s, ref))
			wanted = true;
	}
	return wanted;
}

void bxc_solve__run_want(bxc_solve *s, struct solve_vertex *v)
{
	bxc_digest key = bxc_digest_is_set(&v->ck) ? v->ck : v->dk;
	struct solve_run *r = find_run(s, v, &key);
	if (!r && !v->ignore) {
		const struct solve_vertex *other =
			bxc_map_get(s->by_key, bxc_solve__name_key(&key, false).s);
		if (other && other->record != v->lost_record) {
			bxc_digest canonical = other->canonical;
			bxc_solve__hit(s, v, other->record, &canonical, &key);
			return;
		}
	}
	explain(v);
	if (!bxc_solve__is_to_run(s, v)) {
		v->state = SOLVE_IDLE;
		return;
	}
	if (!r) {
		r = bxc_calloc(1, sizeof(*r));
		r->id = bxc_solve__new_id(s);
		r->key = key;
		r->fresh = v->ignore;
		r->attempt = v->attempts + 1;
		bxc_map_set(s->runs, run_name(r).s, r);
		issue(s, r);
	}
	*bxc_arr_push(&r->members) = v;
	v->run = r;
	v->state = SOLVE_RUN;
	BXC_ARR_FOREACH (ref, &v->subs) {
		struct solve_sub *sub = &ref->b->subs[ref->idx];
		if (!sub->demanded || sub->started || bxc_solve__missed(s, ref))
			continue;
		sub->started = true;
		bxc_solve__push_event(s, ref->b, ref->idx, BXC_SOLVE_STARTED, r->id, NULL);
	}
}

void bxc_solve__run_leave(bxc_solve *s, struct solve_vertex *v)
{
	struct solve_run *r = v->run;
	for (size_t i = 0; i < r->members.n; i++) {
		if (r->members.v[i] == v) {
			bxc_arr_remove(&r->members, i);
			break;
		}
	}
	v->run = NULL;
	v->state = SOLVE_IDLE;
	if (r->members.n)
		return;
	if (r->is_issued) {
		struct solve_item *it = bxc_solve__push(s, BXC_SOLVE_CANCEL_RUN);
		it->ticket = r->ticket;
		it->vertex = v->id;
		it->run = r->id;
	}
	forget(s, r);
}

void bxc_solve__run_void(bxc_solve *s, struct solve_run *r)
{
	solve_members members = disband(s, r, r->attempt - 1);
	BXC_ARR_FOREACH (m, &members) {
		(*m)->in_scan = 0;
		bxc_solve__demand_inputs(s, *m);
		bxc_solve__enqueue(s, *m);
	}
	bxc_arr_done(&members);
}

/* Which run a ticket of kind RUN stands for, or NULL. */
static struct solve_run *run_of(const bxc_solve *s, uint64_t ticket)
{
	const struct solve_ticket *t = bxc_solve__ticket(s, ticket);
	return t && t->kind == BXC_SOLVE_RUN ? t->run : NULL;
}

bool bxc_solve_run_done(bxc_solve *s, uint64_t ticket, uint64_t record)
{
	struct solve_run *r = run_of(s, ticket);
	if (!r)
		return false;
	bxc_check(record != 0);
	bxc_digest key = r->key;
	/* What was made without looking must not be taken for what the key led to before. */
	bxc_digest canonical = r->fresh ? bxc_solve__fresh(s, &key, record) : key;
	uint64_t run_id = r->id;
	solve_members members = disband(s, r, 0);
	bxc_digest saved[3] = {0};
	size_t n_saved = 0;
	for (size_t i = 0; i < members.n; i++) {
		struct solve_vertex *v = members.v[i];
		BXC_ARR_FOREACH (ref, &v->subs) {
			struct solve_sub *sub = &ref->b->subs[ref->idx];
			if (!sub->started)
				continue;
			sub->started = false;
			sub->told = true;
			bxc_solve__push_event(s, ref->b, ref->idx, BXC_SOLVE_DONE, run_id, NULL);
		}
		bxc_solve__set_record(s, v, record, v->is_source ? &key : &canonical, true);
		bxc_solve__push_save(s, v, saved, n_saved, true);
		if (i == 0) {
			saved[n_saved++] = v->dk;
			if (bxc_digest_is_set(&v->ck))
				saved[n_saved++] = v->ck;
			if (v->first_is_sound)
				saved[n_saved++] = v->dk_first;
		}
	}
	/* Builds complete only after the keys were saved, so that who hears of it finds them. */
	for (size_t i = 0; i < members.n; i++) {
		BXC_ARR_FOREACH (ref, &members.v[i]->subs)
			bxc_solve__check_done(s, ref->b);
	}
	bxc_arr_done(&members);
	bxc_solve__pump(s);
	return true;
}

/* Takes the members out of the run and fails the builds that wait for them. */
static void fail_run(bxc_solve *s, struct solve_run *r, const bxc_err *err)
{
	uint64_t id = r->id;
	solve_members members = disband(s, r, 0);
	bxc_solve__fail(s, members.v, members.n, false, id, err);
	bxc_arr_done(&members);
}

static void retry_run(bxc_solve *s, struct solve_run *r)
{
	bxc_solve__ticket_drop(s, &r->ticket);
	r->attempt++;
	issue(s, r);
}

static void fail_key(bxc_solve *s, struct solve_vertex *v, bxc_err *err, bool infra)
{
	bxc_solve__ticket_drop(s, &v->ticket);
	if (infra && ++v->key_attempts < BXC_SOLVE_MAX_ATTEMPTS) {
		bxc_solve__vertex_start(s, v);
		return;
	}
	v->key_attempts = 0;
	bxc_solve__fail(s, &v, 1, true, 0, err);
}

static void fail_checksum(
	bxc_solve *s, struct solve_vertex *v, uint32_t input, bxc_err *err, bool infra)
{
	struct solve_in *in = &v->in[input];
	bxc_solve__ticket_drop(s, &in->ticket);
	bool again = infra && ++in->attempts < BXC_SOLVE_MAX_ATTEMPTS;
	if (!again)
		in->attempts = 0;
	if (in->is_cheap) {
		if (again)
			bxc_solve__vertex_start(s, v);
		else
			bxc_solve__fail(s, &v, 1, true, 0, err);
		return;
	}
	v->n_checksums--;
	if (again)
		bxc_solve__enqueue(s, v);
	else if (v->n_demand)
		bxc_solve__fail(s, &v, 1, false, 0, err);
}

bool bxc_solve_fail(bxc_solve *s, uint64_t ticket, bxc_err *err_take, bool infra)
{
	BXC_AUTOERR bxc_err *err = err_take;
	const struct solve_ticket *t = bxc_solve__ticket(s, ticket);
	if (!t || t->kind == BXC_SOLVE_LOOKUP)
		return false;
	if (!err)
		bxc_err_set(&err, BXC_UNKNOWN, "failed without a reason");
	if (t->kind == BXC_SOLVE_SOURCE_KEY)
		fail_key(s, t->v, err, infra);
	else if (t->kind == BXC_SOLVE_CHECKSUM)
		fail_checksum(s, t->v, t->input, err, infra);
	else if (infra && t->run->attempt < BXC_SOLVE_MAX_ATTEMPTS)
		retry_run(s, t->run);
	else
		fail_run(s, t->run, err);
	bxc_solve__pump(s);
	return true;
}

bool bxc_solve_input_lost(bxc_solve *s, uint64_t ticket, uint64_t record)
{
	const struct solve_ticket *t = bxc_solve__ticket(s, ticket);
	if (!t || (t->kind != BXC_SOLVE_RUN && t->kind != BXC_SOLVE_CHECKSUM))
		return false;
	uint64_t blamed = 0;
	if (t->kind == BXC_SOLVE_RUN) {
		struct solve_run *r = t->run;
		blamed = r->members.v[0]->id;
		bxc_solve__run_void(s, r);
	} else {
		struct solve_vertex *v = t->v;
		blamed = v->id;
		struct solve_in *in = &v->in[t->input];
		bxc_solve__ticket_drop(s, &in->ticket);
		if (in->is_cheap) {
			bxc_solve__vertex_start(s, v);
		} else {
			v->n_checksums--;
			bxc_solve__enqueue(s, v);
		}
	}
	if (!bxc_solve__record_lost(s, record)) {
		struct solve_vertex *v = bxc_map_get(s->by_id, bxc_solve__name_u64(blamed).s);
		if (v)
			bxc_solve__blame(s, v);
	}
	bxc_solve__pump(s);
	return true;
}
