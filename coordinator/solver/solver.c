/* SPDX-License-Identifier: Apache-2.0 */
/* The instance: ids, tickets, the list of vertices to step, and what can be looked at. */
#include "coordinator/solver/solver_internal.h"

bxc_solve *bxc_solve_new(void)
{
	bxc_solve *s = bxc_calloc(1, sizeof(*s));
	s->by_identity = bxc_map_new(NULL);
	s->by_id = bxc_map_new(NULL);
	s->by_key = bxc_map_new(NULL);
	s->by_record = bxc_map_new(NULL);
	s->builds = bxc_map_new(NULL);
	s->tickets = bxc_map_new(free);
	s->runs = bxc_map_new(NULL);
	s->hasher = bxc_hasher_new();
	return s;
}

void bxc_solve_free(bxc_solve *s)
{
	if (!s)
		return;
	BXC_MAP_FOREACH (it, s->runs)
		bxc_solve__run_free(it.value);
	BXC_MAP_FOREACH (it, s->builds)
		bxc_solve__build_free(it.value);
	BXC_MAP_FOREACH (it, s->by_id) {
		struct solve_vertex *v = it.value;
		bxc_arr_done(&v->users);
		bxc_arr_done(&v->subs);
		free(v->in);
		free(v);
	}
	for (size_t i = s->items_head; i < s->items.n; i++)
		bxc_err_free(s->items.v[i].err);
	bxc_arr_done(&s->items);
	bxc_map_free(s->by_identity);
	bxc_map_free(s->by_id);
	bxc_map_free(s->by_key);
	bxc_map_free(s->by_record);
	bxc_map_free(s->builds);
	bxc_map_free(s->tickets);
	bxc_map_free(s->runs);
	bxc_hasher_free(s->hasher);
	free(s->cluster);
	bxc_solve_contents_done(&s->cur_contents);
	bxc_arr_done(&s->cur_inputs);
	bxc_arr_done(&s->cur_results);
	bxc_err_free(s->cur_err);
	free(s);
}

void bxc_solve_set_cluster(bxc_solve *s, const char *name)
{
	free(s->cluster);
	s->cluster = bxc_strdup(name);
}

uint64_t bxc_solve__new_id(bxc_solve *s)
{
	return ++s->last_id;
}

solve_name bxc_solve__name_u64(uint64_t v)
{
	solve_name n;
	snprintf(n.s, sizeof(n.s), "%llx", (unsigned long long)v);
	return n;
}

solve_name bxc_solve__name_key(const bxc_digest *d, bool fresh)
{
	solve_name n;
	bxc_digest_str(d, n.s);
	if (fresh) {
		size_t len = strlen(n.s);
		n.s[len] = '!';
		n.s[len + 1] = 0;
	}
	return n;
}

void bxc_solve__enqueue(bxc_solve *s, struct solve_vertex *v)
{
	if (v->is_queued)
		return;
	v->is_queued = true;
	v->work_next = NULL;
	v->work_prev = s->work_tail;
	if (s->work_tail)
		s->work_tail->work_next = v;
	else
		s->work_head = v;
	s->work_tail = v;
}

void bxc_solve__dequeue(bxc_solve *s, struct solve_vertex *v)
{
	if (!v->is_queued)
		return;
	v->is_queued = false;
	if (v->work_prev)
		v->work_prev->work_next = v->work_next;
	else
		s->work_head = v->work_next;
	if (v->work_next)
		v->work_next->work_prev = v->work_prev;
	else
		s->work_tail = v->work_prev;
	v->work_prev = v->work_next = NULL;
}

void bxc_solve__pump(bxc_solve *s)
{
	while (s->work_head) {
		struct solve_vertex *v = s->work_head;
		bxc_solve__dequeue(s, v);
		bxc_solve__step(s, v);
	}
}

uint64_t bxc_solve__ticket_new(bxc_solve *s, bxc_solve_kind kind, struct solve_vertex *v,
	struct solve_run *run, uint32_t input)
{
	struct solve_ticket *t = bxc_calloc(1, sizeof(*t));
	*t = (struct solve_ticket){.kind = kind, .v = v, .run = run, .input = input};
	uint64_t id = bxc_solve__new_id(s);
	bxc_map_set(s->tickets, bxc_solve__name_u64(id).s, t);
	return id;
}

void bxc_solve__ticket_drop(bxc_solve *s, uint64_t *ticket)
{
	if (*ticket)
		bxc_map_del(s->tickets, bxc_solve__name_u64(*ticket).s);
	*ticket = 0;
}

struct solve_ticket *bxc_solve__ticket(const bxc_solve *s, uint64_t ticket)
{
	return bxc_map_get(s->tickets, bxc_solve__name_u64(ticket).s);
}

struct solve_build *bxc_solve__build(const bxc_solve *s, uint64_t id)
{
	return bxc_map_get(s->builds, bxc_solve__name_u64(id).s);
}

size_t bxc_solve_n_vertices(const bxc_solve *s)
{
	return bxc_map_len(s->by_id);
}

size_t bxc_solve_n_builds(const bxc_solve *s)
{
	return bxc_map_len(s->builds);
}

bool bxc_solve_uses_record(const bxc_solve *s, uint64_t record)
{
#ifdef BXC_TEST_NO_PIN /* the simulator proves that it would notice */
	(void)s;
	(void)record;
	return false;
#else
	return bxc_map_has(s->by_record, bxc_solve__name_u64(record).s);
#endif
}

bool bxc_solve_fact_of(const bxc_solve *s, uint64_t build, uint32_t def_index, bxc_solve_fact *ret)
{
	const struct solve_build *b = bxc_solve__build(s, build);
	const struct solve_vertex *v = b && def_index < b->n_subs ? b->subs[def_index].v : NULL;
	/* Without a result only what a key is known to stand for is news. */
	if (!v || !v->settled || (!v->record && bxc_digest_eq(&v->canonical, &v->dk_first)))
		return false;
	*ret = (bxc_solve_fact){.canonical = v->canonical, .record = v->record};
	ret->n_keys = bxc_solve__keys_of(v, NULL, 0, ret->keys);
	return ret->n_keys > 0;
}

void bxc_solve_key_done(bxc_solve_key *k)
{
	bxc_arr_done(&k->inputs);
	*k = (bxc_solve_key){0};
}

bool bxc_solve_look(const bxc_solve *s, uint64_t build, uint32_t def_index, bxc_solve_key *ret)
{
	const struct solve_build *b = bxc_solve__build(s, build);
	const struct solve_vertex *v = b && def_index < b->n_subs ? b->subs[def_index].v : NULL;
	if (!v)
		return false;
	ret->key = bxc_digest_is_set(&v->ck)   ? v->ck
		   : bxc_digest_is_set(&v->dk) ? v->dk
					       : v->dk_first;
	ret->record = v->record;
	ret->miss = v->miss;
	for (size_t i = 0; i < v->n_in; i++) {
		const struct solve_in *in = &v->in[i];
		bxc_solve_key_input *k = bxc_arr_push(&ret->inputs);
		if (!in->is_cheap)
			k->canonical = in->v->canonical;
		/* One of an earlier record says nothing of this key. */
		if (in->is_cheap || (in->is_content && in->checksum_record == in->v->record))
			k->content = in->checksum;
	}
	return true;
}
