/* SPDX-License-Identifier: Apache-2.0 */
/* The decision: which waiting task next, and where. */
#include "coordinator/scheduler/scheduler_internal.h"

/* Keeps sums of estimates far from overflow: two years. */
#define ESTIMATE_MAX INT64_C(60000000000000000)
/* A layer that more workers have than this says little about where to go: they are not all tried. */
#define HOLDERS_TRIED 16u

/* ---- fitness ---- */

static bool is_avoided(const struct sched_task *t, uint64_t worker)
{
	BXC_ARR_FOREACH (a, &t->avoid) {
		if (*a == worker)
			return true;
	}
	return false;
}

static int class_of_fit(sched_fit fit, bool avoided)
{
	return fit == SCHED_FIT_NONE ? 0 : (avoided ? 0 : 2) + (fit == SCHED_FIT_NATIVE ? 2 : 1);
}

int bxc_sched__class(const struct sched_worker *w, const struct sched_task *t)
{
	return w->is_draining ? 0 : class_of_fit(bxc_sched__fit(w, t), is_avoided(t, w->id));
}

/* Of a task that avoids no worker. */
static int best_class_of_kind(const bxc_sched *s, const struct sched_kind *k)
{
	int best = 0;
	BXC_ARR_FOREACH (g, &s->groups)
		if ((*g)->n_open)
			best = BXC_MAX(best, class_of_fit(k->fits.v[(*g)->index], false));
	return best;
}

static int best_class(const bxc_sched *s, const struct sched_task *t)
{
	if (t->avoid.n == 0)
		return best_class_of_kind(s, t->queue->kind);
	int best = 0;
	BXC_ARR_FOREACH (w, &s->workers)
		best = BXC_MAX(best, bxc_sched__class(*w, t));
	return best;
}

/* Is there a free slot for tasks of this kind, as far as the platform goes? */
static bool has_free(const bxc_sched *s, const struct sched_kind *k)
{
	int best = best_class_of_kind(s, k);
	BXC_ARR_FOREACH (g, &s->groups)
		if (best && bxc_heap_len(&(*g)->free_ones) && class_of_fit(k->fits.v[(*g)->index], false) == best)
			return true;
	return false;
}

/* ---- estimates ---- */

static uint64_t add_bytes(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t input_bytes(const struct sched_task *t)
{
	uint64_t sum = 0;
	BXC_ARR_FOREACH (l, &t->layers)
		sum = add_bytes(sum, l->size);
	return sum;
}

static uint64_t missing_bytes(const struct sched_worker *w, const struct sched_task *t)
{
	uint64_t sum = 0;
	BXC_ARR_FOREACH (l, &t->layers)
		if (!bxc_sched__holder(l->place, w))
			sum = add_bytes(sum, l->size);
	return sum;
}

static int64_t transfer_ns(uint64_t bytes, uint64_t bandwidth)
{
	unsigned __int128 ns = (unsigned __int128)bytes * 1000000000u / bandwidth;
	return ns > (unsigned __int128)ESTIMATE_MAX ? ESTIMATE_MAX : (int64_t)ns;
}

static int64_t estimate(const struct sched_worker *w, const struct sched_task *t, uint64_t missing)
{
	int64_t queued = (w->load_ns + w->waiting_ns) / (int64_t)w->slots;
	int64_t run = t->cost_ns;
	if (bxc_sched__fit(w, t) == SCHED_FIT_EMULATED)
		run *= BXC_SCHED_EMULATION_FACTOR;
	return BXC_MIN(queued, ESTIMATE_MAX) + transfer_ns(missing, w->bandwidth) + run;
}

/* ---- candidates ---- */

static void add_candidate(bxc_sched *s, struct sched_worker *w, uint64_t have)
{
	if (w->mark != s->last_mark) {
		w->mark = s->last_mark;
		w->have_bytes = 0;
		*bxc_arr_push(&s->candidates) = w;
	}
	w->have_bytes = add_bytes(w->have_bytes, have);
}

static bool is_common(const struct sched_layer *l)
{
	return l->place->holders.n > HOLDERS_TRIED;
}

/*
 * Who may be best: those that have an input, the one whose work is continued, and of all others
 * the least loaded that are free: between workers that must be brought the same bytes only the
 * load decides.
 */
static void gather(bxc_sched *s, const struct sched_task *t, int best)
{
	s->last_mark++;
	s->candidates.n = 0;
	BXC_ARR_FOREACH (l, &t->layers) {
		if (is_common(l))
			continue;
		BXC_ARR_FOREACH (h, &l->place->holders)
			add_candidate(s, h->worker, l->size);
	}
	struct sched_worker *chain = t->chain_worker ? bxc_sched__find_worker(s, t->chain_worker) : NULL;
	if (chain)
		add_candidate(s, chain, 0);
	BXC_ARR_FOREACH (g, &s->groups) {
		struct sched_worker *w = bxc_heap_top(&(*g)->free_ones);
		if (w && class_of_fit(t->queue->kind->fits.v[(*g)->index], false) >= best)
			add_candidate(s, w, 0);
	}
	/* One that is to be avoided may stand before others. */
	if (t->avoid.n)
		BXC_ARR_FOREACH (w, &s->workers)
			add_candidate(s, *w, 0);
	BXC_ARR_FOREACH (l, &t->layers) {
		if (!is_common(l))
			continue;
		BXC_ARR_FOREACH (w, &s->candidates)
			if (bxc_sched__holder(l->place, *w))
				(*w)->have_bytes = add_bytes((*w)->have_bytes, l->size);
	}
}

/* ---- placement ---- */

struct choice {
	struct sched_worker *w;
	int64_t estimate;
};

static void consider(struct choice *best, struct sched_worker *w, int64_t estimate)
{
	if (!best->w || estimate < best->estimate || (estimate == best->estimate && w->seq < best->w->seq))
		*best = (struct choice){w, estimate};
}

/* By estimates; NULL: it waits for `ret_busy`. */
static struct sched_worker *choose_by_estimate(bxc_sched *s, struct sched_task *t, int class, struct sched_worker **ret_busy)
{
	struct choice best = {0}; /* of all */
	struct choice free_one = {0};
	struct choice idle = {0};
	struct choice chain = {0};
	uint64_t total = input_bytes(t);
	gather(s, t, class);
	BXC_ARR_FOREACH (it, &s->candidates) {
		struct sched_worker *w = *it;
		if (bxc_sched__class(w, t) != class)
			continue;
		int64_t e = estimate(w, t, total - BXC_MIN(total, w->have_bytes));
		consider(&best, w, e);
		if (bxc_sched__is_free(w))
			consider(&free_one, w, e);
		if (w->running.n == 0)
			consider(&idle, w, e);
		if (w->id == t->chain_worker)
			chain = (struct choice){w, e};
	}
	*ret_busy = NULL;
	if (!best.w)
		return NULL;
	/* Another one is clearly better when it needs less than two thirds of the time. */
	if (chain.w && bxc_sched__is_free(chain.w) && chain.estimate <= best.estimate + best.estimate / 2)
		return chain.w;
	/* An idle machine beats one that is more than half full: steps share more than slots. */
	if (idle.w && best.w->running.n * 2 > best.w->slots)
		return idle.w;
	if (bxc_sched__is_free(best.w))
		return best.w;
	if (free_one.w && best.estimate > free_one.estimate / 2)
		return free_one.w;
	t->waits_for_inputs = free_one.w != NULL;
	*ret_busy = best.w;
	return NULL;
}

/* Starts the ready task, or parks it where it waits. */
static void place(bxc_sched *s, struct sched_task *t)
{
	struct sched_worker *home = NULL, *busy = NULL, *w;
	int class = best_class(s, t);
	t->waits_for_inputs = t->waits_for_cache = false;
	if (class == 0) {
		bxc_sched__park(s, t, &s->at_odds, NULL);
		return;
	}
	if (!bxc_sched__caches_allow(s, t, class, &home)) {
		t->waits_for_cache = true;
		bxc_sched__park(s, t, &s->at_caches, NULL);
		return;
	}
	if (home) {
		w = bxc_sched__is_free(home) ? home : NULL;
		t->waits_for_cache = !w;
		busy = home;
	} else {
		w = choose_by_estimate(s, t, class, &busy);
	}
	if (!w) {
		bxc_sched__park(s, t, busy ? &busy->spot : &s->at_odds, busy);
		return;
	}
	const bxc_sched_action a = {
		.kind = BXC_SCHED_ASSIGN,
		.task = t->id,
		.worker = w->id,
		.emulated = bxc_sched__fit(w, t) == SCHED_FIT_EMULATED,
		.missing_bytes = missing_bytes(w, t),
	};
	bxc_sched__start(s, t, w);
	bxc_sched__push(s, a);
}

/* ---- order ---- */

/* Less running, for its weight; among equals the one served longest ago. */
static bool tenant_before(const struct sched_tenant *a, const struct sched_tenant *b)
{
	uint64_t x = (uint64_t)a->n_running * b->weight, y = (uint64_t)b->n_running * a->weight;
	return x != y ? x < y : a->served < b->served;
}

static struct sched_task *next_of_build(const bxc_sched *s, const struct sched_build *b)
{
	struct sched_task *best = NULL;
	BXC_ARR_FOREACH (q, &b->queues) {
		struct sched_task *t = bxc_heap_top(&(*q)->ready);
		if (t && (!best || bxc_sched__goes_first(t, best)) && has_free(s, (*q)->kind))
			best = t;
	}
	return best;
}

static struct sched_task *next_of_open_build(const bxc_sched *s, const struct sched_build *b)
{
	return b->n_ready && !bxc_sched__build_is_full(b) ? next_of_build(s, b) : NULL;
}

static struct sched_task *next_of_tenant(const bxc_sched *s, const struct sched_tenant *tenant)
{
	const struct sched_build *best = bxc_heap_top(&tenant->turns);
	struct sched_task *task = best ? next_of_open_build(s, best) : NULL;
	/* Its turn, and nothing it could do now: then any other's. */
	if (task || bxc_heap_len(&tenant->turns) < 2)
		return task;
	best = NULL;
	BXC_ARR_FOREACH (b, &tenant->builds) {
		if (best && !bxc_sched__build_before(*b, best))
			continue;
		struct sched_task *t = next_of_open_build(s, *b);
		if (t) {
			best = *b;
			task = t;
		}
	}
	return task;
}

static struct sched_task *next_of_all(const bxc_sched *s)
{
	const struct sched_tenant *best = NULL;
	struct sched_task *task = NULL;
	BXC_ARR_FOREACH (it, &s->tenants) {
		const struct sched_tenant *t = *it;
		if (t->n_ready == 0 || bxc_sched__tenant_is_full(t))
			continue;
		if (best && !tenant_before(t, best))
			continue;
		struct sched_task *k = next_of_tenant(s, t);
		if (k) {
			best = t;
			task = k;
		}
	}
	return task;
}

/* ---- a pass ---- */

static void wake_touched(bxc_sched *s)
{
	for (size_t i = 0; i < s->touched.n; i++) {
		struct sched_spot *spot = s->touched.v[i];
		spot->is_touched = false;
		if (spot == &s->at_caches)
			bxc_sched__caches_forget_wishes(s);
		while (spot->tasks.n)
			bxc_sched__unpark(s, spot->tasks.v[spot->tasks.n - 1]);
	}
	s->touched.n = 0;
}

static bool any_free(const bxc_sched *s)
{
	BXC_ARR_FOREACH (g, &s->groups)
		if (bxc_heap_len(&(*g)->free_ones))
			return true;
	return false;
}

static bool any_idle(const bxc_sched *s)
{
	BXC_ARR_FOREACH (g, &s->groups) {
		const struct sched_worker *w = bxc_heap_top(&(*g)->free_ones);
		if (w && w->running.n == 0)
			return true;
	}
	return false;
}

/*
 * A worker is idle while a task waits for another one to be free: the first of those is looked at
 * again, each once in a pass. False: there is none.
 */
static bool wake_for_idle(bxc_sched *s)
{
	if (s->n_for_inputs == 0 || !any_idle(s))
		return false;
	struct sched_task *first = NULL;
	BXC_ARR_FOREACH (w, &s->workers) {
		BXC_ARR_FOREACH (it, &(*w)->spot.tasks) {
			struct sched_task *t = *it;
			if (t->waits_for_inputs && t->woken_in != s->n_passes && (!first || bxc_sched__goes_first(t, first)))
				first = t;
		}
	}
	if (!first)
		return false;
	first->woken_in = s->n_passes;
	bxc_sched__unpark(s, first);
	return true;
}

void bxc_sched__pass(bxc_sched *s)
{
	s->n_passes++;
	wake_touched(s);
	do {
		for (struct sched_task *t; any_free(s) && (t = next_of_all(s));)
			place(s, t);
	} while (wake_for_idle(s));
}
