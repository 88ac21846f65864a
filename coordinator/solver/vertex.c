/* SPDX-License-Identifier: Apache-2.0 */
/* One vertex: its first key, and then, when a result is demanded, the way to it. */
#include "coordinator/solver/solver_internal.h"

/* ---- fast: first key ---- */

static void ask_checksum(bxc_solve *s, struct solve_vertex *v, uint32_t input)
{
	struct solve_in *in = &v->in[input];
	in->ticket = bxc_solve__ticket_new(s, BXC_SOLVE_CHECKSUM, v, NULL, input);
	struct solve_item *it = bxc_solve__push(s, BXC_SOLVE_CHECKSUM);
	it->ticket = in->ticket;
	it->vertex = v->id;
}

static void ask_lookup(
	bxc_solve *s, struct solve_vertex *v, const bxc_digest *key, solve_state state)
{
	v->state = state;
	v->lookup_key = *key;
	v->ticket = bxc_solve__ticket_new(s, BXC_SOLVE_LOOKUP, v, NULL, 0);
	struct solve_item *it = bxc_solve__push(s, BXC_SOLVE_LOOKUP);
	it->ticket = v->ticket;
	it->vertex = v->id;
}

void bxc_solve__vertex_start(bxc_solve *s, struct solve_vertex *v)
{
	v->n_wait = 0;
	if (v->is_source && !bxc_digest_is_set(&v->dk_first)) {
		v->n_wait++;
		if (!v->ticket) {
			v->ticket = bxc_solve__ticket_new(s, BXC_SOLVE_SOURCE_KEY, v, NULL, 0);
			struct solve_item *it = bxc_solve__push(s, BXC_SOLVE_SOURCE_KEY);
			it->ticket = v->ticket;
			it->vertex = v->id;
		}
	}
	for (size_t i = 0; i < v->n_in; i++) {
		struct solve_in *in = &v->in[i];
		if (in->is_cheap && !bxc_digest_is_set(&in->checksum)) {
			v->n_wait++;
			if (!in->ticket)
				ask_checksum(s, v, (uint32_t)i);
		} else if (!in->is_cheap && !in->v->fast_done) {
			v->n_wait++;
		}
	}
	if (v->n_wait == 0)
		bxc_solve__enqueue(s, v);
}

static void fast_complete(bxc_solve *s, struct solve_vertex *v)
{
	v->fast_done = true;
	if (v->state != SOLVE_HAS_RESULT)
		v->state = SOLVE_IDLE;
	BXC_ARR_FOREACH (u, &v->users) {
		if (!u->v->in[u->input].is_cheap && !u->v->fast_done && --u->v->n_wait == 0)
			bxc_solve__enqueue(s, u->v);
	}
	if (v->record || v->n_demand == 0)
		return;
	bxc_solve__demand_inputs(s, v);
	bxc_solve__enqueue(s, v);
}

static void fast_step(bxc_solve *s, struct solve_vertex *v)
{
	if (v->n_wait || v->state != SOLVE_FAST_WAIT)
		return;
	bool sound = true;
	for (size_t i = 0; i < v->n_in; i++)
		sound &= v->in[i].is_cheap || v->in[i].v->settled;
	if (!v->is_source)
		v->dk_first = bxc_solve__dk(s, v);
	v->first_is_sound = sound;
	v->canonical = v->dk_first;
	v->settled = sound && (v->is_source || !v->ignore);
	if (v->ignore || !sound)
		fast_complete(s, v);
	else
		ask_lookup(s, v, &v->dk_first, SOLVE_FAST_LOOKUP);
}

bool bxc_solve_source_key(bxc_solve *s, uint64_t ticket, const bxc_digest *key)
{
	const struct solve_ticket *t = bxc_solve__ticket(s, ticket);
	if (!t || t->kind != BXC_SOLVE_SOURCE_KEY)
		return false;
	bxc_check(bxc_digest_is_set(key));
	struct solve_vertex *v = t->v;
	bxc_solve__ticket_drop(s, &v->ticket);
	v->dk_first = *key;
	v->n_wait--;
	bxc_solve__enqueue(s, v);
	bxc_solve__pump(s);
	return true;
}

bool bxc_solve_checksum(bxc_solve *s, uint64_t ticket, const bxc_digest *digest)
{
	const struct solve_ticket *t = bxc_solve__ticket(s, ticket);
	if (!t || t->kind != BXC_SOLVE_CHECKSUM)
		return false;
	bxc_check(bxc_digest_is_set(digest));
	struct solve_vertex *v = t->v;
	struct solve_in *in = &v->in[t->input];
	bxc_solve__ticket_drop(s, &in->ticket);
	in->checksum = *digest;
	in->attempts = 0;
	if (in->is_cheap) {
		v->n_wait--;
	} else {
		in->checksum_record = in->asked_record;
		v->n_checksums--;
	}
	bxc_solve__enqueue(s, v);
	bxc_solve__pump(s);
	return true;
}

/* ---- records ---- */

static void index_key(bxc_solve *s, struct solve_vertex *v)
{
	bxc_digest key = bxc_digest_is_set(&v->ck)   ? v->ck
			 : bxc_digest_is_set(&v->dk) ? v->dk
						     : v->dk_first;
	solve_name name = bxc_solve__name_key(&key, false);
	/* The newest result is the one to give: it replaces what ignore-cache made obsolete. */
	struct solve_vertex *old = bxc_map_get(s->by_key, name.s);
	if (old)
		old->indexed.s[0] = 0;
	bxc_map_set(s->by_key, name.s, v);
	v->indexed = name;
}

void bxc_solve__set_record(bxc_solve *s, struct solve_vertex *v, uint64_t record,
	const bxc_digest *canonical, bool executed)
{
	v->state = SOLVE_HAS_RESULT;
	v->record = record;
	v->canonical = *canonical;
	v->settled = true;
	v->executed = executed;
	solve_name name = bxc_solve__name_u64(record);
	v->record_next = bxc_map_get(s->by_record, name.s);
	bxc_map_set(s->by_record, name.s, v);
	index_key(s, v);
	BXC_ARR_FOREACH (u, &v->users) {
		if (u->v->state == SOLVE_INPUTS)
			bxc_solve__enqueue(s, u->v);
	}
}

void bxc_solve__unset_record(bxc_solve *s, struct solve_vertex *v)
{
	if (!v->record)
		return;
	solve_name name = bxc_solve__name_u64(v->record);
	struct solve_vertex *first = bxc_map_get(s->by_record, name.s);
	if (first == v) {
		if (v->record_next)
			bxc_map_set(s->by_record, name.s, v->record_next);
		else
			bxc_map_del(s->by_record, name.s);
	} else {
		while (first->record_next != v)
			first = first->record_next;
		first->record_next = v->record_next;
	}
	v->record_next = NULL;
	if (v->indexed.s[0])
		bxc_map_del(s->by_key, v->indexed.s);
	v->indexed.s[0] = 0;
	v->record = 0;
	v->state = SOLVE_IDLE;
	BXC_ARR_FOREACH (u, &v->users)
		u->v->in_scan = 0;
}

void bxc_solve__hit(bxc_solve *s, struct solve_vertex *v, uint64_t record,
	const bxc_digest *canonical, const bxc_digest *known)
{
	bxc_solve__set_record(s, v, record, v->is_source ? &v->dk_first : canonical, false);
	v->miss = BXC_SOLVE_MISS_NONE;
	bxc_solve__push_save(s, v, known, 1, false);
	BXC_ARR_FOREACH (ref, &v->subs) {
		struct solve_sub *sub = &ref->b->subs[ref->idx];
		if (sub->started) {
			/* Its run was called off, and then a result turned up. */
			sub->started = false;
			sub->told = true;
			bxc_solve__push_event(s, ref->b, ref->idx, BXC_SOLVE_DONE, 0, NULL);
		}
		if (sub->demanded)
			bxc_solve__announce(s, ref->b, ref->idx);
	}
	BXC_ARR_FOREACH (ref, &v->subs)
		bxc_solve__check_done(s, ref->b);
}

/* ---- lookups ---- */

static struct solve_vertex *take_lookup(bxc_solve *s, uint64_t ticket)
{
	const struct solve_ticket *t = bxc_solve__ticket(s, ticket);
	if (!t || t->kind != BXC_SOLVE_LOOKUP)
		return NULL;
	struct solve_vertex *v = t->v;
	bxc_solve__ticket_drop(s, &v->ticket);
	return v;
}

static void missed(bxc_solve *s, struct solve_vertex *v)
{
	if (bxc_digest_is_set(&v->ck) && bxc_digest_eq(&v->lookup_key, &v->ck))
		v->missed_ck = v->lookup_key;
	else
		v->missed_dk = v->lookup_key;
	if (!v->fast_done) {
		fast_complete(s, v);
		return;
	}
	v->state = SOLVE_IDLE;
	bxc_solve__enqueue(s, v);
}

bool bxc_solve_lookup_hit(
	bxc_solve *s, uint64_t ticket, uint64_t record, const bxc_digest *canonical)
{
	struct solve_vertex *v = take_lookup(s, ticket);
	if (!v)
		return false;
	if (record == 0 || record == v->lost_record || !bxc_digest_is_set(canonical)) {
		missed(s, v);
	} else {
		bxc_digest key = v->lookup_key;
		bxc_solve__hit(s, v, record, canonical, &key);
		if (!v->fast_done)
			fast_complete(s, v);
	}
	bxc_solve__pump(s);
	return true;
}

bool bxc_solve_lookup_miss(bxc_solve *s, uint64_t ticket)
{
	return bxc_solve_lookup_known(s, ticket, NULL);
}

bool bxc_solve_lookup_known(bxc_solve *s, uint64_t ticket, const bxc_digest *canonical)
{
	struct solve_vertex *v = take_lookup(s, ticket);
	if (!v)
		return false;
	/* Later on the vertex is about to run: what it yields then says what it stands for. */
	if (canonical && !v->fast_done && !v->is_source)
		v->canonical = *canonical;
	missed(s, v);
	bxc_solve__pump(s);
	return true;
}

/* ---- slow: the result ---- */

static bool inputs_ready(struct solve_vertex *v)
{
	while (v->in_scan < v->n_in && v->in[v->in_scan].v->record)
		v->in_scan++;
	return v->in_scan == v->n_in;
}

/* True when every content-addressed input has a checksum of the record it has now. */
static bool checksums_ready(bxc_solve *s, struct solve_vertex *v)
{
	for (size_t i = 0; i < v->n_in; i++) {
		struct solve_in *in = &v->in[i];
		if (!in->is_content || in->is_cheap || in->ticket)
			continue;
		if (bxc_digest_is_set(&in->checksum) && in->checksum_record == in->v->record)
			continue;
		v->n_checksums++;
		ask_checksum(s, v, (uint32_t)i);
	}
	return v->n_checksums == 0;
}

static void advance(bxc_solve *s, struct solve_vertex *v)
{
	if (v->ticket || v->n_checksums)
		return;
	if (!inputs_ready(v)) {
		v->state = SOLVE_INPUTS;
		return;
	}
	v->ck = (bxc_digest){0};
	v->dk = v->is_source ? v->dk_first : bxc_solve__dk(s, v);
	if (!v->ignore && !bxc_digest_eq(&v->dk, &v->missed_dk)) {
		ask_lookup(s, v, &v->dk, SOLVE_LOOKUP);
		return;
	}
	if (v->has_deep) {
		if (!checksums_ready(s, v)) {
			v->state = SOLVE_CHECKSUM;
			return;
		}
		v->ck = bxc_solve__ck(s, v);
		if (!v->ignore && !bxc_digest_eq(&v->ck, &v->missed_ck)) {
			ask_lookup(s, v, &v->ck, SOLVE_LOOKUP);
			return;
		}
	}
	bxc_solve__run_want(s, v);
}

void bxc_solve__step(bxc_solve *s, struct solve_vertex *v)
{
	if (!v->fast_done) {
		fast_step(s, v);
		return;
	}
	if (v->n_demand && !v->record && !v->run)
		advance(s, v);
}

/* ---- loss ---- */

/* Does the build still need a result of this vertex? A user that runs or has a result does not. */
static bool is_needed(const struct solve_build *b, const struct solve_vertex *v, uint32_t idx)
{
	if (b->subs[idx].is_target)
		return true;
	BXC_ARR_FOREACH (u, &v->users) {
		if (u->v->record || u->v->run || !u->v->n_demand)
			continue;
		BXC_ARR_FOREACH (ref, &u->v->subs) {
			if (ref->b == b && b->subs[ref->idx].demanded)
				return true;
		}
	}
	return false;
}

static void lose(bxc_solve *s, struct solve_vertex *v)
{
	BXC_ARR_FOREACH (ref, &v->subs) {
		struct solve_sub *sub = &ref->b->subs[ref->idx];
		if (sub->demanded && !is_needed(ref->b, v, ref->idx)) {
			sub->demanded = false;
			v->n_demand--;
		}
		if (sub->is_target)
			ref->b->is_done = false;
	}
	/* One that nobody misses is no trouble; whoever wants it later has it made. */
	if (!v->n_demand)
		return;
	if (++v->n_lost > BXC_SOLVE_MAX_LOST) {
		BXC_AUTOERR bxc_err *err = NULL;
		bxc_err_set(&err, BXC_DATA_LOSS, "the result was lost %u times", v->n_lost);
		bxc_solve__fail(s, &v, 1, false, 0, err);
		return;
	}
	if (v->fast_done) {
		bxc_solve__demand_inputs(s, v);
		bxc_solve__enqueue(s, v);
	}
}

bool bxc_solve__record_lost(bxc_solve *s, uint64_t record)
{
	solve_name name = bxc_solve__name_u64(record);
	BXC_ARR(uint64_t) ids = {0};
	for (struct solve_vertex *v; (v = bxc_map_get(s->by_record, name.s));) {
		*bxc_arr_push(&ids) = v->id;
		bxc_solve__unset_record(s, v);
		v->lost_record = record;
		/* Another record may stand under the same keys. */
		v->missed_dk = v->missed_ck = (bxc_digest){0};
	}
	bool any = ids.n > 0;
	BXC_ARR_FOREACH (id, &ids) {
		struct solve_vertex *v = bxc_map_get(s->by_id, bxc_solve__name_u64(*id).s);
		if (v)
			lose(s, v);
	}
	bxc_arr_done(&ids);
	return any;
}

void bxc_solve__blame(bxc_solve *s, struct solve_vertex *v)
{
	if (++v->n_lost <= BXC_SOLVE_MAX_LOST)
		return;
	if (v->run)
		bxc_solve__run_leave(s, v);
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_err_set(&err, BXC_DATA_LOSS, "inputs were reported lost %u times", v->n_lost);
	bxc_solve__fail(s, &v, 1, !v->fast_done, 0, err);
}

void bxc_solve_result_lost(bxc_solve *s, uint64_t record)
{
	bxc_solve__record_lost(s, record);
	bxc_solve__pump(s);
}

/* ---- free ---- */

void bxc_solve__vertex_free(bxc_solve *s, struct solve_vertex *v)
{
	bxc_check(v->users.n == 0 && !v->run);
	bxc_solve__unset_record(s, v);
	bxc_solve__dequeue(s, v);
	bxc_solve__ticket_drop(s, &v->ticket);
	for (size_t i = 0; i < v->n_in; i++) {
		struct solve_in *in = &v->in[i];
		bxc_solve__ticket_drop(s, &in->ticket);
		struct solve_user last = in->v->users.v[--in->v->users.n];
		if (in->user_pos < in->v->users.n) {
			in->v->users.v[in->user_pos] = last;
			last.v->in[last.input].user_pos = in->user_pos;
		}
	}
	bxc_map_del(s->by_identity, v->identity.s);
	bxc_map_del(s->by_id, bxc_solve__name_u64(v->id).s);
	bxc_arr_done(&v->users);
	bxc_arr_done(&v->subs);
	free(v->in);
	free(v);
}
