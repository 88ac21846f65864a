/* SPDX-License-Identifier: Apache-2.0 */
/* The books of tasks, by tenant and build; actions; what can be asked. */
#include "coordinator/scheduler/scheduler_internal.h"

#define COST_MAX_NS INT64_C(1000000000000000) /* eleven days: larger guesses are no better */

sched_id_name bxc_sched__name_of(uint64_t id)
{
	sched_id_name n;
	snprintf(n.s, sizeof(n.s), "%llx", (unsigned long long)id);
	return n;
}

bxc_sched *bxc_sched_new(void)
{
	bxc_sched *s = bxc_calloc(1, sizeof(*s));
	s->tasks = bxc_map_new(NULL);
	s->workers_by_id = bxc_map_new(NULL);
	s->places = bxc_map_new(bxc_sched__place_free);
	s->caches = bxc_map_new(bxc_sched__cache_free);
	return s;
}

static void task_free(struct sched_task *t)
{
	bxc_arr_done(&t->layers);
	bxc_arr_done(&t->avoid);
	bxc_arr_done(&t->caches);
	free(t);
}

static void build_free(bxc_sched *s, struct sched_build *b)
{
	BXC_ARR_FOREACH (q, &b->queues) {
		bxc_heap_done(&(*q)->ready);
		bxc_sched__kind_left(s, (*q)->kind);
		free(*q);
	}
	bxc_arr_done(&b->queues);
	free(b);
}

static void tenant_free(bxc_sched *s, struct sched_tenant *t)
{
	bxc_heap_done(&t->turns);
	BXC_ARR_FOREACH (b, &t->builds)
		build_free(s, *b);
	bxc_arr_done(&t->builds);
	free(t->name);
	free(t);
}

void bxc_sched_free(bxc_sched *s)
{
	if (!s)
		return;
	BXC_ARR_FOREACH (t, &s->tenants)
		tenant_free(s, *t);
	bxc_arr_done(&s->tenants);
	BXC_MAP_FOREACH (it, s->tasks)
		task_free(it.value);
	bxc_map_free(s->tasks);
	bxc_map_free(s->caches);
	bxc_sched__workers_free(s);
	bxc_arr_done(&s->kinds);
	bxc_arr_done(&s->at_caches.tasks);
	bxc_arr_done(&s->at_odds.tasks);
	bxc_arr_done(&s->touched);
	bxc_arr_done(&s->candidates);
	bxc_arr_done(&s->actions);
	free(s);
}

struct sched_task *bxc_sched__find_task(const bxc_sched *s, uint64_t id)
{
	return bxc_map_get(s->tasks, bxc_sched__name_of(id).s);
}

/* ---- actions ---- */

void bxc_sched__push(bxc_sched *s, bxc_sched_action a)
{
	*bxc_arr_push(&s->actions) = a;
}

/* An ASSIGN is void when its task ended or moved before it was taken. */
static bool is_still_so(const bxc_sched *s, const bxc_sched_action *a)
{
	if (a->kind == BXC_SCHED_ASSIGN) {
		const struct sched_task *t = bxc_sched__find_task(s, a->task);
		return t && t->worker && t->worker->id == a->worker;
	}
	if (a->kind == BXC_SCHED_DRAINED) {
		const struct sched_worker *w = bxc_sched__find_worker(s, a->worker);
		return w && w->is_draining;
	}
	return true;
}

bool bxc_sched_next(bxc_sched *s, bxc_sched_action *ret)
{
	if (s->is_dirty) {
		s->is_dirty = false;
		bxc_sched__pass(s);
	}
	while (s->actions_head < s->actions.n) {
		bxc_sched_action a = s->actions.v[s->actions_head++];
		if (s->actions_head == s->actions.n)
			s->actions_head = s->actions.n = 0;
		if (is_still_so(s, &a)) {
			*ret = a;
			return true;
		}
	}
	return false;
}

/* ---- tenants and builds ---- */

bool bxc_sched__build_before(const void *x, const void *y)
{
	const struct sched_build *a = x, *b = y;
	return a->n_running != b->n_running ? a->n_running < b->n_running : a->served != b->served ? a->served < b->served : a->id < b->id;
}

static size_t *turn_at(void *item)
{
	return &((struct sched_build *)item)->turn_at;
}

static void build_changed(struct sched_build *b)
{
	bxc_heap *h = &b->tenant->turns;
	if (b->turn_at != BXC_HEAP_OUT && b->n_ready)
		bxc_heap_moved(h, b);
	else if (b->turn_at != BXC_HEAP_OUT)
		bxc_heap_remove(h, b);
	else if (b->n_ready)
		bxc_heap_add(h, b);
}

static struct sched_tenant *get_tenant(bxc_sched *s, const char *name)
{
	BXC_ARR_FOREACH (t, &s->tenants)
		if (bxc_str_eq((*t)->name, name))
			return *t;
	struct sched_tenant *t = bxc_calloc(1, sizeof(*t));
	t->name = bxc_strdup(name);
	t->weight = 1;
	t->turns = (bxc_heap){.before = bxc_sched__build_before, .at = turn_at};
	*bxc_arr_push(&s->tenants) = t;
	return t;
}

static struct sched_build *get_build(bxc_sched *s, const char *tenant_name, uint64_t id)
{
	struct sched_tenant *tenant = get_tenant(s, tenant_name);
	BXC_ARR_FOREACH (b, &tenant->builds) {
		if ((*b)->id == id)
			return *b;
	}
	struct sched_build *build = bxc_calloc(1, sizeof(*build));
	build->id = id;
	build->tenant = tenant;
	build->turn_at = BXC_HEAP_OUT;
	*bxc_arr_push(&tenant->builds) = build;
	return build;
}

/* Drops what has no tasks any more. That a tenant was served long ago is not worth keeping. */
static void put_tenant(bxc_sched *s, struct sched_tenant *tenant)
{
	if (tenant->builds.n || tenant->is_set)
		return;
	for (size_t i = 0; i < s->tenants.n; i++) {
		if (s->tenants.v[i] == tenant) {
			bxc_arr_remove(&s->tenants, i);
			break;
		}
	}
	tenant_free(s, tenant);
}

static void put_build(bxc_sched *s, struct sched_build *build)
{
	if (build->n_running || build->n_ready || build->n_parked)
		return;
	struct sched_tenant *tenant = build->tenant;
	for (size_t i = 0; i < tenant->builds.n; i++) {
		if (tenant->builds.v[i] == build) {
			bxc_arr_remove(&tenant->builds, i);
			break;
		}
	}
	build_free(s, build);
	put_tenant(s, tenant);
}

void bxc_sched_tenant_set(bxc_sched *s, const bxc_sched_tenant *in)
{
	struct sched_tenant *t = get_tenant(s, in->name);
	t->weight = in->weight ? in->weight : 1;
	t->max_running = in->max_running;
	t->max_per_build = in->max_per_build;
	t->is_set = t->weight != 1 || t->max_running || t->max_per_build;
	s->is_dirty = true;
	put_tenant(s, t);
}

/* ---- what waits ---- */

bool bxc_sched__goes_first(const struct sched_task *a, const struct sched_task *b)
{
	return a->path_ns != b->path_ns ? a->path_ns > b->path_ns : a->seq < b->seq;
}

static bool ready_before(const void *a, const void *b)
{
	return bxc_sched__goes_first(a, b);
}

static size_t *ready_at(void *item)
{
	return &((struct sched_task *)item)->ready_at;
}

static struct sched_queue *get_queue(bxc_sched *s, struct sched_build *b, const bxc_platform *p)
{
	BXC_ARR_FOREACH (q, &b->queues)
		if (bxc_platform_eq(&(*q)->kind->platform, p))
			return *q;
	struct sched_queue *q = bxc_calloc(1, sizeof(*q));
	q->kind = bxc_sched__kind(s, p);
	q->ready = (bxc_heap){.before = ready_before, .at = ready_at};
	*bxc_arr_push(&b->queues) = q;
	return q;
}

static void ready_add(bxc_sched *s, struct sched_task *t)
{
	bxc_heap_add(&t->queue->ready, t);
	t->build->n_ready++;
	t->build->tenant->n_ready++;
	build_changed(t->build);
	s->is_dirty = true;
}

static void ready_remove(struct sched_task *t)
{
	bxc_heap_remove(&t->queue->ready, t);
	t->build->n_ready--;
	t->build->tenant->n_ready--;
	build_changed(t->build);
}

void bxc_sched__park(bxc_sched *s, struct sched_task *t, struct sched_spot *spot, struct sched_worker *busy)
{
	ready_remove(t);
	t->build->n_parked++;
	t->spot = spot;
	t->spot_at = spot->tasks.n;
	*bxc_arr_push(&spot->tasks) = t;
	s->n_for_inputs += t->waits_for_inputs;
	t->waits_for = busy;
	if (busy) {
		busy->waiting_ns += t->cost_ns;
		bxc_sched__worker_changed(busy);
	}
}

/* Out of its spot, and not ready yet. */
static void leave_spot(bxc_sched *s, struct sched_task *t)
{
	struct sched_task *last = t->spot->tasks.v[--t->spot->tasks.n];
	if (last != t) {
		t->spot->tasks.v[t->spot_at] = last;
		last->spot_at = t->spot_at;
	}
	t->spot = NULL;
	t->build->n_parked--;
	s->n_for_inputs -= t->waits_for_inputs;
	if (t->waits_for) {
		t->waits_for->waiting_ns -= t->cost_ns;
		bxc_sched__worker_changed(t->waits_for);
		t->waits_for = NULL;
	}
}

void bxc_sched__unpark(bxc_sched *s, struct sched_task *t)
{
	leave_spot(s, t);
	ready_add(s, t);
}

void bxc_sched__touch(bxc_sched *s, struct sched_spot *spot)
{
	if (spot->is_touched || spot->tasks.n == 0)
		return;
	spot->is_touched = true;
	*bxc_arr_push(&s->touched) = spot;
	s->is_dirty = true;
}

/* ---- start and end ---- */

static void stop_waiting(bxc_sched *s, struct sched_task *t)
{
	if (t->spot)
		leave_spot(s, t);
	else
		ready_remove(t);
	s->n_waiting--;
}

void bxc_sched__start(bxc_sched *s, struct sched_task *t, struct sched_worker *w)
{
	stop_waiting(s, t);
	t->worker = w;
	t->waits_for_inputs = t->waits_for_cache = false;
	bxc_sched__caches_take(t);
	*bxc_arr_push(&w->running) = t;
	w->load_ns += t->cost_ns;
	bxc_sched__worker_changed(w);
	BXC_ARR_FOREACH (l, &t->layers)
		bxc_sched__holder_add(l->place, w)->coming++;
	t->build->n_running++;
	t->build->served = ++s->last_seq;
	t->build->tenant->n_running++;
	t->build->tenant->served = s->last_seq;
	build_changed(t->build);
}

static void stop(bxc_sched *s, struct sched_task *t)
{
	struct sched_worker *w = t->worker;
	for (size_t i = 0; i < w->running.n; i++) {
		if (w->running.v[i] == t) {
			bxc_arr_remove(&w->running, i);
			break;
		}
	}
	w->load_ns -= t->cost_ns;
	bxc_sched__worker_changed(w);
	BXC_ARR_FOREACH (l, &t->layers) {
		struct sched_holder *h = bxc_sched__holder(l->place, w);
		h->coming--;
		bxc_sched__holder_check(l->place, h);
	}
	t->build->n_running--;
	t->build->tenant->n_running--;
	build_changed(t->build);
	bxc_sched__caches_give(s, t);
	t->worker = NULL;
	s->is_dirty = true;
	bxc_sched__touch(s, &w->spot);
	bxc_sched__touch(s, &s->at_odds);
	bxc_sched__check_drained(s, w);
}

void bxc_sched__forget(bxc_sched *s, struct sched_task *t)
{
	if (t->worker)
		stop(s, t);
	else
		stop_waiting(s, t);
	/* It may be the one that others let go first. */
	if (t->caches.n)
		bxc_sched__touch(s, &s->at_caches);
	bxc_map_del(s->tasks, bxc_sched__name_of(t->id).s);
	BXC_ARR_FOREACH (l, &t->layers) {
		l->place->n_tasks--;
		bxc_sched__place_left(s, l->place);
	}
	bxc_sched__caches_unname(s, t);
	put_build(s, t->build);
	task_free(t);
}

/* ---- tasks ---- */

int bxc_sched_task_add(bxc_sched *s, const bxc_sched_task *in, bxc_err **err)
{
	if (bxc_sched__find_task(s, in->id))
		return bxc_err_set(
			err, BXC_ALREADY_EXISTS, "task %llu is known", (unsigned long long)in->id);
	struct sched_task *t = bxc_calloc(1, sizeof(*t));
	t->id = in->id;
	t->seq = ++s->last_seq;
	t->build = get_build(s, in->tenant ? in->tenant : "", in->build);
	t->queue = get_queue(s, t->build, &in->platform);
	t->ready_at = BXC_HEAP_OUT;
	t->cost_ns =
		in->cost_ns > 0 ? BXC_MIN(in->cost_ns, COST_MAX_NS) : BXC_SCHED_DEFAULT_COST_NS;
	t->chain_worker = in->chain_worker;
	uint32_t after = in->remaining ? in->remaining - 1 : 0;
	t->path_ns = in->path_ns > 0 ? BXC_MIN(in->path_ns, COST_MAX_NS) : t->cost_ns + (int64_t)after * BXC_SCHED_DEFAULT_COST_NS;
	for (size_t i = 0; i < in->n_layers; i++) {
		struct sched_place *p = bxc_sched__place(s, in->layers[i].key);
		*bxc_arr_push(&t->layers) = (struct sched_layer){p, in->layers[i].size_bytes};
		p->n_tasks++;
	}
	for (size_t i = 0; i < in->n_avoid; i++)
		*bxc_arr_push(&t->avoid) = in->avoid[i];
	bxc_sched__caches_name(s, t, in->caches, in->n_caches);
	bxc_map_set(s->tasks, bxc_sched__name_of(t->id).s, t);
	s->n_waiting++;
	ready_add(s, t);
	return 0;
}

void bxc_sched_task_cancel(bxc_sched *s, uint64_t task)
{
	struct sched_task *t = bxc_sched__find_task(s, task);
	if (t)
		bxc_sched__forget(s, t);
}

void bxc_sched_task_finished(bxc_sched *s, uint64_t task)
{
	struct sched_task *t = bxc_sched__find_task(s, task);
	if (t && t->worker)
		bxc_sched__forget(s, t);
}

int bxc_sched_task_adopt(bxc_sched *s, uint64_t task, uint64_t worker, bxc_err **err)
{
	struct sched_task *t = bxc_sched__find_task(s, task);
	struct sched_worker *w = bxc_sched__find_worker(s, worker);
	if (!t || !w)
		return bxc_err_set(err, BXC_NOT_FOUND, "no task %llu or no worker %llu",
			(unsigned long long)task, (unsigned long long)worker);
	if (t->worker == w)
		return 0;
	if (t->worker)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "task %llu runs on worker %llu",
			(unsigned long long)task, (unsigned long long)t->worker->id);
	bxc_sched__start(s, t, w);
	return 0;
}

/* ---- looks ---- */

bxc_sched_wait bxc_sched_waiting_reason(const bxc_sched *s, uint64_t task)
{
	const struct sched_task *t = bxc_sched__find_task(s, task);
	if (!t || t->worker)
		return BXC_SCHED_WAIT_NONE;
	if (s->workers.n == 0)
		return BXC_SCHED_WAIT_NO_WORKER;
	bool serves = false;
	bool stays = false;
	BXC_ARR_FOREACH (w, &s->workers) {
		if (bxc_sched__fit(*w, t) == SCHED_FIT_NONE)
			continue;
		serves = true;
		stays |= !(*w)->is_draining;
	}
	if (!serves)
		return BXC_SCHED_WAIT_PLATFORM;
	if (!stays)
		return BXC_SCHED_WAIT_DRAINING;
	/* More slots would not help those. */
	if (bxc_sched__tenant_is_full(t->build->tenant))
		return BXC_SCHED_WAIT_TENANT;
	if (bxc_sched__build_is_full(t->build))
		return BXC_SCHED_WAIT_BUILD;
	if (t->waits_for_cache)
		return BXC_SCHED_WAIT_CACHE;
	return t->waits_for_inputs ? BXC_SCHED_WAIT_INPUTS : BXC_SCHED_WAIT_SLOTS;
}

static void add_platforms(char ***list, const bxc_platform *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		BXC_AUTOFREE char *text = bxc_platform_str(&p[i]);
		if (!bxc_strv_has(*list, text))
			bxc_strv_push(list, text);
	}
}

bool bxc_sched_unservable(const bxc_sched *s, uint64_t task, char **ret_platforms)
{
	const struct sched_task *t = bxc_sched__find_task(s, task);
	if (!t || t->worker)
		return false;
	BXC_AUTOSTRV char **list = NULL;
	BXC_ARR_FOREACH (it, &s->workers) {
		const struct sched_worker *w = *it;
		if (w->is_draining)
			continue;
		if (bxc_sched__fit(w, t) != SCHED_FIT_NONE)
			return false;
		add_platforms(&list, w->group->native.v, w->group->native.n);
		add_platforms(&list, w->group->emulated.v, w->group->emulated.n);
	}
	if (ret_platforms)
		*ret_platforms = bxc_strv_join(list, ", ");
	return true;
}

uint64_t bxc_sched_worker_of(const bxc_sched *s, uint64_t task)
{
	const struct sched_task *t = bxc_sched__find_task(s, task);
	return t && t->worker ? t->worker->id : 0;
}

size_t bxc_sched_n_running(const bxc_sched *s, uint64_t worker)
{
	const struct sched_worker *w = bxc_sched__find_worker(s, worker);
	return w ? w->running.n : 0;
}

size_t bxc_sched_n_waiting(const bxc_sched *s)
{
	return s->n_waiting;
}
