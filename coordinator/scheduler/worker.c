/* SPDX-License-Identifier: Apache-2.0 */
/* The books of workers: platforms, slots, and which layers are where. */
#include "coordinator/scheduler/scheduler_internal.h"

struct sched_worker *bxc_sched__find_worker(const bxc_sched *s, uint64_t id)
{
	return bxc_map_get(s->workers_by_id, bxc_sched__name_of(id).s);
}

/* ---- platforms ---- */

static bool any_serves(const bxc_platform *list, size_t n, const bxc_platform *image)
{
	for (size_t i = 0; i < n; i++) {
		if (bxc_platform_match(&list[i], image) >= 0)
			return true;
	}
	return false;
}

static sched_fit fit_of(const struct sched_group *g, const bxc_platform *p)
{
	if (!p->os[0] || any_serves(g->native.v, g->native.n, p))
		return SCHED_FIT_NATIVE;
	return any_serves(g->emulated.v, g->emulated.n, p) ? SCHED_FIT_EMULATED : SCHED_FIT_NONE;
}

struct sched_kind *bxc_sched__kind(bxc_sched *s, const bxc_platform *p)
{
	BXC_ARR_FOREACH (it, &s->kinds) {
		if (bxc_platform_eq(&(*it)->platform, p)) {
			(*it)->n_queues++;
			return *it;
		}
	}
	struct sched_kind *k = bxc_calloc(1, sizeof(*k));
	k->platform = *p;
	k->n_queues = 1;
	BXC_ARR_FOREACH (g, &s->groups)
		*bxc_arr_push(&k->fits) = fit_of(*g, p);
	*bxc_arr_push(&s->kinds) = k;
	return k;
}

void bxc_sched__kind_left(bxc_sched *s, struct sched_kind *k)
{
	if (--k->n_queues)
		return;
	for (size_t i = 0; i < s->kinds.n; i++) {
		if (s->kinds.v[i] == k) {
			bxc_arr_remove(&s->kinds, i);
			break;
		}
	}
	bxc_arr_done(&k->fits);
	free(k);
}

static bool same_platforms(const bxc_platform *a, size_t n_a, const bxc_platform *b, size_t n_b)
{
	for (size_t i = 0; n_a == n_b && i < n_a; i++)
		if (!bxc_platform_eq(&a[i], &b[i]))
			return false;
	return n_a == n_b;
}

/* The least loaded first: then one that is idle is the first there is. */
static bool less_loaded(const void *x, const void *y)
{
	const struct sched_worker *a = x, *b = y;
	int64_t load_a = (a->load_ns + a->waiting_ns) / (int64_t)a->slots;
	int64_t load_b = (b->load_ns + b->waiting_ns) / (int64_t)b->slots;
	return load_a != load_b ? load_a < load_b : a->seq < b->seq;
}

static size_t *free_at(void *item)
{
	return &((struct sched_worker *)item)->free_at;
}

/* Groups stay: there are no more of them than kinds of machines that ever joined. */
static struct sched_group *group_of(bxc_sched *s, const bxc_sched_worker *w)
{
	BXC_ARR_FOREACH (it, &s->groups) {
		struct sched_group *g = *it;
		if (same_platforms(g->native.v, g->native.n, w->native, w->n_native) &&
			same_platforms(g->emulated.v, g->emulated.n, w->emulated, w->n_emulated))
			return g;
	}
	struct sched_group *g = bxc_calloc(1, sizeof(*g));
	g->index = s->groups.n;
	g->free_ones = (bxc_heap){.before = less_loaded, .at = free_at};
	for (size_t i = 0; i < w->n_native; i++)
		*bxc_arr_push(&g->native) = w->native[i];
	for (size_t i = 0; i < w->n_emulated; i++)
		*bxc_arr_push(&g->emulated) = w->emulated[i];
	*bxc_arr_push(&s->groups) = g;
	BXC_ARR_FOREACH (k, &s->kinds)
		*bxc_arr_push(&(*k)->fits) = fit_of(g, &(*k)->platform);
	return g;
}

/* ---- layers ---- */

struct sched_place *bxc_sched__place(bxc_sched *s, const char *layer)
{
	struct sched_place *p = bxc_map_get(s->places, layer);
	if (p)
		return p;
	p = bxc_calloc(1, sizeof(*p));
	p->key = bxc_strdup(layer);
	bxc_map_set(s->places, layer, p);
	return p;
}

void bxc_sched__place_free(void *item)
{
	struct sched_place *p = item;
	bxc_arr_done(&p->holders);
	free(p->key);
	free(p);
}

void bxc_sched__place_left(bxc_sched *s, struct sched_place *p)
{
	if (p->n_tasks == 0 && p->holders.n == 0)
		bxc_map_del(s->places, p->key);
}

/* Index of the first holder that joined no earlier than `w`. */
static size_t holder_index(const struct sched_place *p, const struct sched_worker *w)
{
	size_t lo = 0, hi = p->holders.n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (p->holders.v[mid].worker->seq < w->seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct sched_holder *bxc_sched__holder(const struct sched_place *p, const struct sched_worker *w)
{
	size_t i = holder_index(p, w);
	return i < p->holders.n && p->holders.v[i].worker == w ? &p->holders.v[i] : NULL;
}

struct sched_holder *bxc_sched__holder_add(struct sched_place *p, struct sched_worker *w)
{
	size_t i = holder_index(p, w);
	if (i < p->holders.n && p->holders.v[i].worker == w)
		return &p->holders.v[i];
	bxc_arr_push(&p->holders);
	memmove(&p->holders.v[i + 1], &p->holders.v[i], (p->holders.n - 1 - i) * sizeof(*p->holders.v));
	p->holders.v[i] = (struct sched_holder){.worker = w};
	return &p->holders.v[i];
}

void bxc_sched__holder_check(struct sched_place *p, struct sched_holder *h)
{
	if (!h->is_here && h->coming == 0)
		bxc_arr_remove(&p->holders, (size_t)(h - p->holders.v));
}

void bxc_sched_layer_at(bxc_sched *s, uint64_t worker, const char *layer)
{
	struct sched_worker *w = bxc_sched__find_worker(s, worker);
	if (w)
		bxc_sched__holder_add(bxc_sched__place(s, layer), w)->is_here = true;
}

void bxc_sched_layer_gone(bxc_sched *s, uint64_t worker, const char *layer)
{
	struct sched_worker *w = bxc_sched__find_worker(s, worker);
	struct sched_place *p = w ? bxc_map_get(s->places, layer) : NULL;
	struct sched_holder *h = p ? bxc_sched__holder(p, w) : NULL;
	if (!h)
		return;
	h->is_here = false;
	bxc_sched__holder_check(p, h);
	bxc_sched__place_left(s, p);
	/* Who waits for it because of that layer need not any more. */
	bxc_sched__touch(s, &w->spot);
}

static void leave_places(bxc_sched *s, const struct sched_worker *w)
{
	BXC_MAP_FOREACH (it, s->places) {
		struct sched_place *p = it.value;
		struct sched_holder *h = bxc_sched__holder(p, w);
		if (!h)
			continue;
		bxc_arr_remove(&p->holders, (size_t)(h - p->holders.v));
		bxc_sched__place_left(s, p);
	}
}

/* ---- joining, leaving ---- */

void bxc_sched__worker_changed(struct sched_worker *w)
{
	bxc_heap *h = &w->group->free_ones;
	bool is_in = w->free_at != BXC_HEAP_OUT, belongs = !w->is_draining && bxc_sched__is_free(w);
	if (is_in && belongs)
		bxc_heap_moved(h, w);
	else if (is_in)
		bxc_heap_remove(h, w);
	else if (belongs)
		bxc_heap_add(h, w);
}

static void leave_group(struct sched_worker *w)
{
	if (w->free_at != BXC_HEAP_OUT)
		bxc_heap_remove(&w->group->free_ones, w);
	w->group->n_open -= !w->is_draining;
}

/* What may be placed differently now that the workers are others. */
static void touch_all(bxc_sched *s)
{
	BXC_ARR_FOREACH (w, &s->workers)
		bxc_sched__touch(s, &(*w)->spot);
	bxc_sched__touch(s, &s->at_caches);
	bxc_sched__touch(s, &s->at_odds);
	s->is_dirty = true;
}

void bxc_sched_worker_add(bxc_sched *s, const bxc_sched_worker *in)
{
	struct sched_worker *w = bxc_sched__find_worker(s, in->id);
	if (!w) {
		w = bxc_calloc(1, sizeof(*w));
		w->id = in->id;
		w->seq = ++s->last_seq;
		w->free_at = BXC_HEAP_OUT;
		*bxc_arr_push(&s->workers) = w;
		bxc_map_set(s->workers_by_id, bxc_sched__name_of(w->id).s, w);
	} else {
		leave_group(w);
	}
	w->group = group_of(s, in);
	w->group->n_open++;
	w->slots = in->slots ? in->slots : 1;
	w->bandwidth = in->bandwidth ? in->bandwidth : BXC_SCHED_DEFAULT_BANDWIDTH;
	w->is_draining = w->is_drained_told = false;
	bxc_sched__worker_changed(w);
	touch_all(s);
}

void bxc_sched_worker_bandwidth(bxc_sched *s, uint64_t worker, uint64_t bandwidth)
{
	struct sched_worker *w = bxc_sched__find_worker(s, worker);
	if (!w)
		return;
	w->bandwidth = bandwidth ? bandwidth : BXC_SCHED_DEFAULT_BANDWIDTH;
	/* Whoever waits for it may do better to move its inputs now. */
	bxc_sched__touch(s, &w->spot);
}

static void worker_free(struct sched_worker *w)
{
	bxc_arr_done(&w->running);
	bxc_arr_done(&w->spot.tasks);
	free(w);
}

void bxc_sched_worker_remove(bxc_sched *s, uint64_t worker)
{
	struct sched_worker *w = bxc_sched__find_worker(s, worker);
	if (!w)
		return;
	/* No part in anything from here on; whoever removes it need not hear that it is drained. */
	leave_group(w);
	w->is_draining = w->is_drained_told = true;
	while (w->running.n) {
		struct sched_task *t = w->running.v[0];
		bxc_sched__push(s, (bxc_sched_action){.kind = BXC_SCHED_LOST, .task = t->id, .worker = w->id});
		bxc_sched__forget(s, t);
	}
	while (w->spot.tasks.n)
		bxc_sched__unpark(s, w->spot.tasks.v[0]);
	touch_all(s);
	for (size_t i = 0; i < s->touched.n; i++) {
		if (s->touched.v[i] == &w->spot) {
			bxc_arr_remove(&s->touched, i);
			break;
		}
	}
	for (size_t i = 0; i < s->workers.n; i++) {
		if (s->workers.v[i] == w) {
			bxc_arr_remove(&s->workers, i);
			break;
		}
	}
	bxc_map_del(s->workers_by_id, bxc_sched__name_of(worker).s);
	leave_places(s, w);
	bxc_sched__caches_leave(s, w);
	worker_free(w);
}

void bxc_sched__check_drained(bxc_sched *s, struct sched_worker *w)
{
	if (!w->is_draining || w->is_drained_told || w->running.n)
		return;
	w->is_drained_told = true;
	bxc_sched__push(s, (bxc_sched_action){.kind = BXC_SCHED_DRAINED, .worker = w->id});
}

void bxc_sched_worker_drain(bxc_sched *s, uint64_t worker)
{
	struct sched_worker *w = bxc_sched__find_worker(s, worker);
	if (!w || w->is_draining)
		return;
	leave_group(w);
	w->is_draining = true;
	touch_all(s);
	bxc_sched__check_drained(s, w);
}

void bxc_sched__workers_free(bxc_sched *s)
{
	BXC_ARR_FOREACH (g, &s->groups) {
		bxc_heap_done(&(*g)->free_ones);
		bxc_arr_done(&(*g)->native);
		bxc_arr_done(&(*g)->emulated);
		free(*g);
	}
	bxc_arr_done(&s->groups);
	BXC_ARR_FOREACH (w, &s->workers)
		worker_free(*w);
	bxc_arr_done(&s->workers);
	bxc_map_free(s->workers_by_id);
	bxc_map_free(s->places);
}
