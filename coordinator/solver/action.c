/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of actions. An entry names what it is about by id; whether that is still so is asked
 * when it is taken, so nothing has to search the queue when plans change.
 */
#include "coordinator/solver/solver_internal.h"

struct solve_item *bxc_solve__push(bxc_solve *s, bxc_solve_kind kind)
{
	if (s->items_head > 64 && s->items_head * 2 > s->items.n) {
		memmove(s->items.v, s->items.v + s->items_head,
			(s->items.n - s->items_head) * sizeof(*s->items.v));
		s->items.n -= s->items_head;
		s->items_head = 0;
	}
	struct solve_item *it = bxc_arr_push(&s->items);
	it->kind = kind;
	return it;
}

void bxc_solve__push_event(bxc_solve *s, struct solve_build *b, uint32_t idx, bxc_solve_event ev,
	uint64_t run, const bxc_err *err)
{
	struct solve_item *it = bxc_solve__push(s, BXC_SOLVE_EVENT);
	it->build = b->id;
	it->def_index = idx;
	it->vertex = b->subs[idx].v->id;
	it->event = ev;
	it->run = run;
	it->err = bxc_err_copy(err);
}

static bool has_digest(const bxc_digest *list, size_t n, const bxc_digest *d)
{
	for (size_t i = 0; i < n; i++) {
		if (bxc_digest_eq(&list[i], d))
			return true;
	}
	return false;
}

size_t bxc_solve__keys_of(const struct solve_vertex *v, const bxc_digest *known, size_t n_known,
	bxc_digest keys[3])
{
	size_t n = 0;
	const bxc_digest *candidates[] = {&v->dk, &v->ck, v->first_is_sound ? &v->dk_first : NULL};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(candidates); i++) {
		const bxc_digest *d = candidates[i];
		if (d && bxc_digest_is_set(d) && !has_digest(keys, n, d) &&
			!has_digest(known, n_known, d))
			keys[n++] = *d;
	}
	return n;
}

void bxc_solve__push_save(bxc_solve *s, const struct solve_vertex *v, const bxc_digest *known,
	size_t n_known, bool is_new)
{
	bxc_digest keys[3];
	size_t n = bxc_solve__keys_of(v, known, n_known, keys);
	if (n == 0)
		return;
	struct solve_item *it = bxc_solve__push(s, BXC_SOLVE_SAVE_KEYS);
	it->vertex = v->id;
	memcpy(it->keys, keys, n * sizeof(*keys));
	it->n_keys = n;
	it->record = v->record;
	it->canonical = v->canonical;
	it->is_new = is_new;
}

static bool fill_checksum(bxc_solve *s, struct solve_vertex *v, uint32_t input, bxc_solve_action *a)
{
	struct solve_in *in = &v->in[input];
	if (!in->is_cheap && !in->v->record) {
		/* The input was lost since: asked again when there is a new one. */
		bxc_solve__ticket_drop(s, &in->ticket);
		v->n_checksums--;
		bxc_solve__enqueue(s, v);
		return false;
	}
	bxc_solve_content_inputs(v->def, &s->cur_contents);
	BXC_ARR_FOREACH (c, &s->cur_contents.items) {
		if (c->input_index == input) {
			a->selectors = c->selectors.v;
			a->n_selectors = c->selectors.n;
		}
	}
	in->asked_record = in->is_cheap ? 0 : in->v->record;
	*bxc_arr_push(&s->cur_inputs) = (bxc_solve_input){
		.vertex = in->v->id,
		.record = in->asked_record,
		.output = in->output,
	};
	a->input_index = input;
	a->cheap = in->is_cheap;
	a->attempt = in->attempts + 1;
	a->inputs = s->cur_inputs.v;
	a->n_inputs = 1;
	return true;
}

static bool fill_run(bxc_solve *s, struct solve_run *r, bxc_solve_action *a)
{
	struct solve_vertex *v = r->members.v[0];
	for (size_t i = 0; i < v->n_in; i++) {
		if (!v->in[i].v->record) {
			bxc_solve__run_void(s, r);
			return false;
		}
		*bxc_arr_push(&s->cur_inputs) = (bxc_solve_input){
			.vertex = v->in[i].v->id,
			.record = v->in[i].v->record,
			.output = v->in[i].output,
		};
	}
	r->is_issued = true;
	a->vertex = v->id;
	a->def = v->def;
	a->build = v->def_build;
	a->attempt = r->attempt;
	a->run = r->id;
	a->key = r->key;
	a->inputs = s->cur_inputs.v;
	a->n_inputs = s->cur_inputs.n;
	a->miss = v->miss;
	a->miss_input = v->miss_input;
	a->fresh = r->fresh;
	BXC_ARR_FOREACH (m, &r->members)
		a->remaining = BXC_MAX(a->remaining, (*m)->remaining);
	return true;
}

static bool fill_done(bxc_solve *s, const struct solve_item *it, bxc_solve_action *a)
{
	a->build = it->build;
	if (it->err) {
		a->err = s->cur_err;
		return true;
	}
	struct solve_build *b = bxc_solve__build(s, it->build);
	if (!b || !b->is_done || b->n_done != it->record)
		return false;
	for (size_t i = 0; i < b->n_targets; i++) {
		const struct solve_vertex *v = b->subs[b->targets[i].vertex].v;
		*bxc_arr_push(&s->cur_results) = (bxc_solve_result){
			.def_index = b->targets[i].vertex,
			.output = b->targets[i].output,
			.vertex = v->id,
			.record = v->record,
			.canonical = v->canonical,
		};
	}
	a->results = s->cur_results.v;
	a->n_results = s->cur_results.n;
	return true;
}

static bool fill(bxc_solve *s, const struct solve_item *it, bxc_solve_action *a)
{
	*a = (bxc_solve_action){.kind = it->kind, .ticket = it->ticket, .vertex = it->vertex};
	const struct solve_ticket *t = it->ticket ? bxc_solve__ticket(s, it->ticket) : NULL;
	if (t && t->v) {
		a->def = t->v->def;
		a->build = t->v->def_build;
	}
	switch (it->kind) {
	case BXC_SOLVE_SOURCE_KEY:
		if (!t)
			return false;
		a->attempt = t->v->key_attempts + 1;
		return true;
	case BXC_SOLVE_LOOKUP:
		if (!t)
			return false;
		a->key = t->v->lookup_key;
		return true;
	case BXC_SOLVE_CHECKSUM:
		return t && fill_checksum(s, t->v, t->input, a);
	case BXC_SOLVE_RUN:
		return t && fill_run(s, t->run, a);
	case BXC_SOLVE_CANCEL_RUN:
		a->run = it->run;
		return true;
	case BXC_SOLVE_SAVE_KEYS: {
		const struct solve_vertex *v =
			bxc_map_get(s->by_id, bxc_solve__name_u64(it->vertex).s);
		a->def = v ? v->def : NULL;
		memcpy(s->cur_keys, it->keys, sizeof(s->cur_keys));
		a->keys = s->cur_keys;
		a->n_keys = it->n_keys;
		a->record = it->record;
		a->canonical = it->canonical;
		a->is_new = it->is_new;
		return true;
	}
	case BXC_SOLVE_EVENT: {
		const struct solve_build *b = bxc_solve__build(s, it->build);
		a->def = b ? b->def->vertices.v[it->def_index] : NULL;
		a->build = it->build;
		a->def_index = it->def_index;
		a->event = it->event;
		a->run = it->run;
		a->err = s->cur_err;
		return true;
	}
	case BXC_SOLVE_BUILD_DONE:
		return fill_done(s, it, a);
	case BXC_SOLVE_NONE:
		break;
	}
	return false;
}

bool bxc_solve_next(bxc_solve *s, bxc_solve_action *ret)
{
	while (s->items_head < s->items.n) {
		bxc_solve_contents_done(&s->cur_contents);
		s->cur_inputs.n = 0;
		s->cur_results.n = 0;
		struct solve_item it = s->items.v[s->items_head++];
		bxc_err_free(s->cur_err);
		s->cur_err = it.err;
		bool is_wanted = fill(s, &it, ret);
		if (s->items_head == s->items.n)
			s->items_head = s->items.n = 0;
		if (is_wanted)
			return true;
		bxc_solve__pump(s);
	}
	return false;
}
