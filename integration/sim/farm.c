/* SPDX-License-Identifier: Apache-2.0 */
/* The workers, as they are, and what is on the way between them and the engine. */
#include "integration/sim/sim_internal.h"

/* ---- messages ---- */

static bool is_to_worker(const struct mail *m)
{
	return m->kind == MAIL_RUN || m->kind == MAIL_CANCEL || m->kind == MAIL_FORGET;
}

void post(struct sim *s, sim_mail_kind kind, bxc_lease lease, uint64_t name, const struct run *run)
{
	struct mail *m = bxc_arr_push(&s->mail);
	*m = (struct mail){.kind = kind, .lease = lease, .name = name};
	if (run)
		m->run = *run;
}

size_t mail_first(const struct sim *s, size_t i)
{
	const struct mail *m = &s->mail.v[i];
	for (size_t k = 0; is_to_worker(m) && k < i; k++)
		if (is_to_worker(&s->mail.v[k]) && s->mail.v[k].lease.worker == m->lease.worker)
			return k;
	return i;
}

/* A connection ends: what was under way to the worker, and from it if `both`, is lost. */
static void drop_mail(struct sim *s, uint64_t worker, bool both)
{
	for (size_t i = s->mail.n; i-- > 0;) {
		const struct mail *m = &s->mail.v[i];
		if (m->lease.worker == worker && (both || is_to_worker(m)))
			bxc_arr_remove(&s->mail, i);
	}
}

bool is_deliverable(const struct sim *s, const struct mail *m)
{
	return !s->is_cut[m->lease.worker - 1];
}

static struct run *run_of(struct sim *s, bxc_lease lease, uint64_t name)
{
	BXC_ARR_FOREACH (r, &s->runs)
		if (r->name == name && r->lease.worker == lease.worker &&
			r->lease.epoch == lease.epoch)
			return r;
	return NULL;
}

static void run_drop(struct sim *s, const struct run *r)
{
	bxc_arr_remove(&s->runs, (size_t)(r - s->runs.v));
}

void deliver(struct sim *s, size_t i)
{
	struct mail m = s->mail.v[i];
	/* A worker that does not know whether it was heard tells again. */
	bool again = !is_to_worker(&m) && may(s, SIM_DOUBLE, 10);
	if (!again)
		bxc_arr_remove(&s->mail, i);
	struct run *r = run_of(s, m.lease, m.name);
	note(s,
		m.kind == MAIL_RUN	? "worker begins run"
		: m.kind == MAIL_CANCEL ? "worker is to stop run"
		: m.kind == MAIL_FORGET ? "worker is to forget run"
		: m.kind == MAIL_DONE	? "engine hears of the end of run"
					: "engine hears of the failure of run",
		m.name, m.lease.worker);
	/* An order that comes twice is one. */
	if (m.kind == MAIL_RUN && !r)
		*bxc_arr_push(&s->runs) = m.run;
	else if (is_to_worker(&m) && r && m.kind != MAIL_RUN)
		run_drop(s, r);
	else if (!is_to_worker(&m))
		engine_hears(s, &m);
}

/* ---- runs ---- */

void tell_end(struct sim *s, const struct run *r)
{
	post(s, r->is_bad ? MAIL_FAILED : MAIL_DONE, r->lease, r->name, r);
	s->mail.v[s->mail.n - 1].infra = r->is_infra;
}

void run_end(struct sim *s, size_t i, bool good, bool infra)
{
	struct run *r = &s->runs.v[i];
	r->is_ended = true;
	r->is_bad = !good;
	r->is_infra = infra;
	tell_end(s, r);
}

struct run *run_to_adopt(struct sim *s, const bxc_digest *key)
{
	BXC_ARR_FOREACH (r, &s->runs)
		if (r->is_adoptable && !r->fresh && bxc_digest_eq(&r->key, key))
			return r;
	return NULL;
}

void runs_unwanted(struct sim *s)
{
	BXC_ARR_FOREACH (r, &s->runs) {
		if (!r->is_adoptable)
			continue;
		r->is_adoptable = false;
		post(s, MAIL_CANCEL, r->lease, r->name, NULL);
	}
}

/* ---- coming and going ---- */

void worker_join(struct sim *s, unsigned w)
{
	s->health[w] = SIM_UP;
	bxc_platform amd = {.os = "linux", .arch = "amd64"};
	bxc_platform arm = {.os = "linux", .arch = "arm64"};
	/* The last one is an arm machine; the first emulates. */
	bool is_arm = w == SIM_WORKERS - 1;
	bxc_sched_worker facts = {
		.id = w + 1,
		.native = is_arm ? &arm : &amd,
		.n_native = 1,
		.emulated = is_arm ? &amd : &arm,
		.n_emulated = w == 0 ? 1 : 0,
		.slots = 1 + w % 3,
	};
	bxc_sched_worker_add(s->sched, &facts);
}

void worker_hello(struct sim *s, unsigned w)
{
	uint32_t bit = 1u << w;
	for (uint64_t id = 1; id <= s->records.n; id++) {
		struct record *r = record_of(s, id);
		/* What the engine has given up is dropped by the worker too. */
		if ((r->copies & bit) && !r->holders)
			r->copies &= ~bit;
		if (!(r->copies & bit))
			continue;
		r->holders |= bit;
		BXC_AUTOFREE char *name = bxc_str_fmt("r%llu", (unsigned long long)id);
		bxc_sched_layer_at(s->sched, w + 1, name);
	}
	for (size_t i = s->runs.n; i-- > 0;) {
		const struct run *r = &s->runs.v[i];
		const struct task *t = task_named(s, r->name);
		if (r->lease.worker == w + 1 && !r->is_adoptable &&
			!(t && t->lease.worker == w + 1 && t->lease.epoch == r->lease.epoch) &&
			!is_being_written(s, WRITE_RESULT, r->lease, r->name))
			post(s, MAIL_CANCEL, r->lease, r->name, NULL);
	}
}

void worker_cut(struct sim *s, unsigned w)
{
	s->is_cut[w] = true;
	s->stats.cuts++;
	note(s, "nothing gets through to worker", w + 1, 0);
}

void worker_heal(struct sim *s, unsigned w, bool anew)
{
	s->is_cut[w] = false;
	note(s, anew ? "a new connection of worker" : "messages get through to worker", w + 1, 0);
	if (!anew)
		return;
	drop_mail(s, w + 1, true);
	worker_hello(s, w);
	/* What it tells in its hello: how its steps ended; those that it does not name never came.
	 */
	for (size_t i = 0; i < s->runs.n; i++)
		if (s->runs.v[i].lease.worker == w + 1 && s->runs.v[i].is_ended &&
			task_named(s, s->runs.v[i].name))
			tell_end(s, &s->runs.v[i]);
	BXC_ARR(uint64_t) lost = {0};
	BXC_ARR_FOREACH (t, &s->tasks)
		if (t->lease.worker == w + 1 && !run_of(s, t->lease, t->name) &&
			!is_being_written(s, WRITE_ATTEMPT, t->lease, t->name))
			*bxc_arr_push(&lost) = t->ticket;
	BXC_ARR_FOREACH (ticket, &lost)
		task_lost_on_the_way(s, *ticket);
	bxc_arr_done(&lost);
}

void worker_leave(struct sim *s, unsigned w, sim_health now)
{
	uint32_t bit = 1u << w;
	s->health[w] = now;
	s->is_cut[w] = false;
	note(s, now == SIM_FROZEN ? "worker freezes" : "worker dies", w + 1, 0);
	drop_mail(s, w + 1, now == SIM_DEAD);
	for (size_t i = s->runs.n; i-- > 0;) {
		struct run *r = &s->runs.v[i];
		if (r->lease.worker != w + 1)
			continue;
		r->is_adoptable = false;
		if (now == SIM_DEAD)
			run_drop(s, r);
	}
	bool tasks_first = sim_chance(&s->rng, 50);
	if (tasks_first)
		bxc_sched_worker_remove(s->sched, w + 1);
	for (uint64_t id = 1; id <= s->records.n; id++) {
		struct record *r = record_of(s, id);
		if (now == SIM_DEAD)
			r->copies &= ~bit;
		if (!(r->holders & bit))
			continue;
		r->holders &= ~bit;
		if (!r->holders)
			record_gone(s, id);
	}
	if (!tasks_first)
		bxc_sched_worker_remove(s->sched, w + 1);
}

/* ---- what has to hold between events ---- */

static bool is_posted(const struct sim *s, sim_mail_kind kind, bxc_lease lease, uint64_t name)
{
	BXC_ARR_FOREACH (m, &s->mail)
		if (m->kind == kind && m->name == name && m->lease.worker == lease.worker &&
			m->lease.epoch == lease.epoch)
			return true;
	return false;
}

void check_farm(struct sim *s)
{
	BXC_ARR_FOREACH (r, &s->runs) {
		const struct task *t = task_named(s, r->name);
		bool is_wanted =
			t && t->lease.worker == r->lease.worker && t->lease.epoch == r->lease.epoch;
		if (s->health[r->lease.worker - 1] == SIM_UP && !r->is_ended && !is_wanted &&
			!r->is_adoptable && !is_posted(s, MAIL_CANCEL, r->lease, r->name) &&
			!is_being_written(s, WRITE_ATTEMPT, r->lease, r->name) &&
			!is_posted(s, MAIL_FORGET, r->lease, r->name))
			violate(s, "an orphan: a step runs that nobody waits for", r->name);
	}
	BXC_ARR_FOREACH (t, &s->tasks) {
		if (!t->lease.worker)
			continue;
		const struct run *r = run_of(s, t->lease, t->name);
		if ((r && !r->is_ended) || is_posted(s, MAIL_RUN, t->lease, t->name) ||
			is_posted(s, MAIL_DONE, t->lease, t->name) ||
			is_posted(s, MAIL_FAILED, t->lease, t->name) ||
			is_being_written(s, WRITE_ATTEMPT, t->lease, t->name))
			continue;
		violate(s, "a waiter that nobody will answer", t->name);
	}
}
