/* SPDX-License-Identifier: Apache-2.0 */
/* The decision: which waiting task next, and where. */
#include "coordinator/scheduler/scheduler_internal.h"

/* How much slower a step is under qemu-user; compilers measured 5 to 15 times. */
#define EMULATION_FACTOR 8
/* Keeps sums of estimates far from overflow: two years. */
#define ESTIMATE_MAX INT64_C(60000000000000000)

/* ---- fitness ---- */

static bool any_serves(const bxc_platform *list, size_t n, const bxc_platform *image)
{
	for (size_t i = 0; i < n; i++) {
		if (bxc_platform_match(&list[i], image) >= 0)
			return true;
	}
	return false;
}

sched_fit bxc_sched__fit(const struct sched_worker *w, const struct sched_task *t)
{
	if (!t->platform.os[0] || any_serves(w->native.v, w->native.n, &t->platform))
		return SCHED_FIT_NATIVE;
	return any_serves(w->emulated.v, w->emulated.n, &t->platform) ? SCHED_FIT_EMULATED
								      : SCHED_FIT_NONE;
}

static bool is_avoided(const struct sched_task *t, uint64_t worker)
{
	BXC_ARR_FOREACH (a, &t->avoid) {
		if (*a == worker)
			return true;
	}
	return false;
}

int bxc_sched__class(const struct sched_worker *w, const struct sched_task *t)
{
	if (w->is_draining)
		return 0;
	sched_fit fit = bxc_sched__fit(w, t);
	if (fit == SCHED_FIT_NONE)
		return 0;
	return (is_avoided(t, w->id) ? 0 : 2) + (fit == SCHED_FIT_NATIVE ? 2 : 1);
}

/* ---- estimates ---- */

static uint64_t missing_bytes(const struct sched_worker *w, const struct sched_task *t)
{
	uint64_t sum = 0;
	BXC_ARR_FOREACH (l, &t->layers) {
		if (bxc_map_has(w->layers, l->key) || bxc_map_has(w->coming, l->key))
			continue;
		if (__builtin_add_overflow(sum, l->size, &sum))
			return UINT64_MAX;
	}
	return sum;
}

static int64_t transfer_ns(uint64_t bytes, uint64_t bandwidth)
{
	unsigned __int128 ns = (unsigned __int128)bytes * 1000000000u / bandwidth;
	return ns > (unsigned __int128)ESTIMATE_MAX ? ESTIMATE_MAX : (int64_t)ns;
}

static bool is_free(const struct sched_worker *w)
{
	return w->running.n < w->slots;
}

static int64_t estimate(const struct sched_worker *w, const struct sched_task *t)
{
	int64_t queued = (w->load_ns + w->waiting_ns) / (int64_t)w->slots;
	int64_t run = t->cost_ns;
	if (bxc_sched__fit(w, t) == SCHED_FIT_EMULATED)
		run *= EMULATION_FACTOR;
	return BXC_MIN(queued, ESTIMATE_MAX) + transfer_ns(missing_bytes(w, t), w->bandwidth) + run;
}

/* ---- placement ---- */

struct choice {
	struct sched_worker *w;
	int64_t estimate;
};

static void consider(struct choice *best, struct sched_worker *w, int64_t estimate)
{
	if (!best->w || estimate < best->estimate)
		*best = (struct choice){w, estimate};
}

/* Where the task is to run now, or NULL: it waits. */
static struct sched_worker *choose(bxc_sched *s, struct sched_task *t)
{
	int best_class = 0;
	BXC_ARR_FOREACH (w, &s->workers)
		best_class = BXC_MAX(best_class, bxc_sched__class(*w, t));
	if (best_class == 0)
		return NULL;
	struct sched_worker *home;
	if (!bxc_sched__caches_allow(s, t, best_class, &home)) {
		t->waits_for_cache = true;
		return NULL;
	}
	if (home) {
		if (is_free(home))
			return home;
		t->waits_for_cache = true;
		home->waiting_ns += t->cost_ns;
		return NULL;
	}
	struct choice best = {0}; /* of all */
	struct choice free_one = {0};
	struct choice idle = {0};
	struct choice chain = {0};
	BXC_ARR_FOREACH (it, &s->workers) {
		struct sched_worker *w = *it;
		if (bxc_sched__class(w, t) != best_class)
			continue;
		int64_t e = estimate(w, t);
		consider(&best, w, e);
		if (is_free(w))
			consider(&free_one, w, e);
		if (w->running.n == 0)
			consider(&idle, w, e);
		if (w->id == t->chain_worker)
			chain = (struct choice){w, e};
	}
	/* Another one is clearly better when it needs less than two thirds of the time. */
	if (chain.w && is_free(chain.w) && chain.estimate <= best.estimate + best.estimate / 2)
		return chain.w;
	/* An idle machine beats one that is more than half full: steps share more than slots. */
	if (idle.w && best.w->running.n * 2 > best.w->slots)
		return idle.w;
	if (is_free(best.w))
		return best.w;
	if (free_one.w && best.estimate > free_one.estimate / 2)
		return free_one.w;
	t->waits_for_inputs = free_one.w != NULL;
	best.w->waiting_ns += t->cost_ns;
	return NULL;
}

/* ---- order ---- */

static bool goes_before(size_t running_a, uint64_t served_a, size_t running_b, uint64_t served_b)
{
	return running_a != running_b ? running_a < running_b : served_a < served_b;
}

static struct sched_build *next_build(const struct sched_tenant *tenant)
{
	struct sched_build *best = NULL;
	BXC_ARR_FOREACH (it, &tenant->builds) {
		struct sched_build *b = *it;
		if (b->cursor >= b->ready.n)
			continue;
		if (!best || goes_before(b->n_running, b->served, best->n_running, best->served))
			best = b;
	}
	return best;
}

static struct sched_build *next_of_all(const bxc_sched *s)
{
	const struct sched_tenant *best = NULL;
	struct sched_build *build = NULL;
	BXC_ARR_FOREACH (it, &s->tenants) {
		const struct sched_tenant *t = *it;
		if (best && !goes_before(t->n_running, t->served, best->n_running, best->served))
			continue;
		struct sched_build *b = next_build(t);
		if (b) {
			best = t;
			build = b;
		}
	}
	return build;
}

static bool any_free(const bxc_sched *s)
{
	BXC_ARR_FOREACH (w, &s->workers) {
		if (!(*w)->is_draining && is_free(*w))
			return true;
	}
	return false;
}

void bxc_sched__pass(bxc_sched *s)
{
	BXC_ARR_FOREACH (w, &s->workers)
		(*w)->waiting_ns = 0;
	BXC_ARR_FOREACH (t, &s->tenants) {
		BXC_ARR_FOREACH (b, &(*t)->builds)
			(*b)->cursor = 0;
	}
	BXC_MAP_FOREACH (it, s->caches)
		((struct sched_cache *)it.value)->is_wanted_alone = false;
	while (any_free(s)) {
		struct sched_build *b = next_of_all(s);
		if (!b)
			return;
		struct sched_task *t = b->ready.v[b->cursor];
		t->waits_for_inputs = t->waits_for_cache = false;
		struct sched_worker *w = choose(s, t);
		if (!w) {
			b->cursor++;
			continue;
		}
		bxc_sched_action a = {
			.kind = BXC_SCHED_ASSIGN,
			.task = t->id,
			.worker = w->id,
			.emulated = bxc_sched__fit(w, t) == SCHED_FIT_EMULATED,
			.missing_bytes = missing_bytes(w, t),
		};
		bxc_sched__start(s, t, w);
		bxc_sched__push(s, a);
	}
}
