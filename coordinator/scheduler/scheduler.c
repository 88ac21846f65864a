/* SPDX-License-Identifier: Apache-2.0 */
/* The books: workers with what they hold and run, tasks by tenant and build. */
#include "coordinator/scheduler/scheduler_internal.h"

#define COST_MAX_NS INT64_C(1000000000000000) /* eleven days: larger guesses are no better */

typedef struct id_name {
	char s[24];
} id_name;

static id_name name_of(uint64_t id)
{
	id_name n;
	snprintf(n.s, sizeof(n.s), "%llx", (unsigned long long)id);
	return n;
}

bxc_sched *bxc_sched_new(void)
{
	bxc_sched *s = bxc_calloc(1, sizeof(*s));
	s->tasks = bxc_map_new(NULL);
	s->caches = bxc_map_new(bxc_sched__cache_free);
	return s;
}

static void worker_free(struct sched_worker *w)
{
	bxc_arr_done(&w->native);
	bxc_arr_done(&w->emulated);
	bxc_map_free(w->layers);
	bxc_map_free(w->coming);
	bxc_arr_done(&w->running);
	free(w);
}

static void task_free(struct sched_task *t)
{
	BXC_ARR_FOREACH (l, &t->layers)
		free(l->key);
	bxc_arr_done(&t->layers);
	bxc_arr_done(&t->avoid);
	bxc_arr_done(&t->caches);
	free(t);
}

void bxc_sched_free(bxc_sched *s)
{
	if (!s)
		return;
	BXC_MAP_FOREACH (it, s->tasks)
		task_free(it.value);
	bxc_map_free(s->tasks);
	bxc_map_free(s->caches);
	BXC_ARR_FOREACH (w, &s->workers)
		worker_free(*w);
	bxc_arr_done(&s->workers);
	BXC_ARR_FOREACH (t, &s->tenants) {
		BXC_ARR_FOREACH (b, &(*t)->builds) {
			bxc_arr_done(&(*b)->ready);
			free(*b);
		}
		bxc_arr_done(&(*t)->builds);
		free((*t)->name);
		free(*t);
	}
	bxc_arr_done(&s->tenants);
	bxc_arr_done(&s->actions);
	free(s);
}

static struct sched_task *find_task(const bxc_sched *s, uint64_t id)
{
	return bxc_map_get(s->tasks, name_of(id).s);
}

static struct sched_worker *find_worker(const bxc_sched *s, uint64_t id)
{
	BXC_ARR_FOREACH (w, &s->workers) {
		if ((*w)->id == id)
			return *w;
	}
	return NULL;
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
		const struct sched_task *t = find_task(s, a->task);
		return t && t->worker && t->worker->id == a->worker;
	}
	if (a->kind == BXC_SCHED_DRAINED) {
		const struct sched_worker *w = find_worker(s, a->worker);
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

static void check_drained(bxc_sched *s, struct sched_worker *w)
{
	if (!w->is_draining || w->is_drained_told || w->running.n)
		return;
	w->is_drained_told = true;
	bxc_sched__push(s, (bxc_sched_action){.kind = BXC_SCHED_DRAINED, .worker = w->id});
}

/* ------------------------------------------------------------------------------- tenants and
 * builds */

static struct sched_build *get_build(bxc_sched *s, const char *tenant_name, uint64_t id)
{
	struct sched_tenant *tenant = NULL;
	BXC_ARR_FOREACH (t, &s->tenants) {
		if (bxc_str_eq((*t)->name, tenant_name))
			tenant = *t;
	}
	if (!tenant) {
		tenant = bxc_calloc(1, sizeof(*tenant));
		tenant->name = bxc_strdup(tenant_name);
		*bxc_arr_push(&s->tenants) = tenant;
	}
	BXC_ARR_FOREACH (b, &tenant->builds) {
		if ((*b)->id == id)
			return *b;
	}
	struct sched_build *build = bxc_calloc(1, sizeof(*build));
	build->id = id;
	build->tenant = tenant;
	*bxc_arr_push(&tenant->builds) = build;
	return build;
}

/* Drops what has no tasks any more. That a tenant was served long ago is not worth keeping. */
static void put_build(bxc_sched *s, struct sched_build *build)
{
	if (build->n_running || build->ready.n)
		return;
	struct sched_tenant *tenant = build->tenant;
	for (size_t i = 0; i < tenant->builds.n; i++) {
		if (tenant->builds.v[i] == build) {
			bxc_arr_remove(&tenant->builds, i);
			break;
		}
	}
	bxc_arr_done(&build->ready);
	free(build);
	if (tenant->builds.n)
		return;
	for (size_t i = 0; i < s->tenants.n; i++) {
		if (s->tenants.v[i] == tenant) {
			bxc_arr_remove(&s->tenants, i);
			break;
		}
	}
	bxc_arr_done(&tenant->builds);
	free(tenant->name);
	free(tenant);
}

static bool is_ahead(const struct sched_task *a, const struct sched_task *b)
{
	return a->remaining != b->remaining ? a->remaining > b->remaining : a->seq < b->seq;
}

/* Index of the first ready task that `t` goes before, or of `t` itself. */
static size_t ready_index(const struct sched_build *b, const struct sched_task *t)
{
	size_t lo = 0;
	size_t hi = b->ready.n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (is_ahead(b->ready.v[mid], t))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void ready_add(bxc_sched *s, struct sched_task *t)
{
	struct sched_build *b = t->build;
	size_t at = ready_index(b, t);
	bxc_arr_push(&b->ready);
	memmove(&b->ready.v[at + 1], &b->ready.v[at], (b->ready.n - 1 - at) * sizeof(*b->ready.v));
	b->ready.v[at] = t;
	s->n_waiting++;
	s->is_dirty = true;
}

static void ready_remove(bxc_sched *s, struct sched_task *t)
{
	struct sched_build *b = t->build;
	size_t at = ready_index(b, t);
	bxc_check(at < b->ready.n && b->ready.v[at] == t);
	bxc_arr_remove(&b->ready, at);
	if (b->cursor > at)
		b->cursor--;
	s->n_waiting--;
}

/* ---- start and end ---- */

void bxc_sched__start(bxc_sched *s, struct sched_task *t, struct sched_worker *w)
{
	ready_remove(s, t);
	t->worker = w;
	t->waits_for_inputs = t->waits_for_cache = false;
	bxc_sched__caches_take(t);
	*bxc_arr_push(&w->running) = t;
	w->load_ns += t->cost_ns;
	BXC_ARR_FOREACH (l, &t->layers) {
		size_t *n = bxc_map_get(w->coming, l->key);
		if (!n) {
			n = bxc_calloc(1, sizeof(*n));
			bxc_map_set(w->coming, l->key, n);
		}
		(*n)++;
	}
	t->build->n_running++;
	t->build->served = ++s->last_seq;
	t->build->tenant->n_running++;
	t->build->tenant->served = s->last_seq;
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
	BXC_ARR_FOREACH (l, &t->layers) {
		size_t *n = bxc_map_get(w->coming, l->key);
		if (n && --*n == 0)
			bxc_map_del(w->coming, l->key);
	}
	t->build->n_running--;
	t->build->tenant->n_running--;
	bxc_sched__caches_give(t);
	t->worker = NULL;
	s->is_dirty = true;
	check_drained(s, w);
}

static void forget(bxc_sched *s, struct sched_task *t)
{
	if (t->worker)
		stop(s, t);
	else
		ready_remove(s, t);
	bxc_map_del(s->tasks, name_of(t->id).s);
	put_build(s, t->build);
	bxc_sched__caches_unname(s, t);
	task_free(t);
}

/* ---- tasks ---- */

int bxc_sched_task_add(bxc_sched *s, const bxc_sched_task *in, bxc_err **err)
{
	if (find_task(s, in->id))
		return bxc_err_set(
			err, BXC_ALREADY_EXISTS, "task %llu is known", (unsigned long long)in->id);
	struct sched_task *t = bxc_calloc(1, sizeof(*t));
	t->id = in->id;
	t->seq = ++s->last_seq;
	t->build = get_build(s, in->tenant ? in->tenant : "", in->build);
	t->platform = in->platform;
	t->cost_ns =
		in->cost_ns > 0 ? BXC_MIN(in->cost_ns, COST_MAX_NS) : BXC_SCHED_DEFAULT_COST_NS;
	t->chain_worker = in->chain_worker;
	t->remaining = in->remaining;
	for (size_t i = 0; i < in->n_layers; i++)
		*bxc_arr_push(&t->layers) = (struct sched_layer){
			bxc_strdup(in->layers[i].key), in->layers[i].size_bytes};
	for (size_t i = 0; i < in->n_avoid; i++)
		*bxc_arr_push(&t->avoid) = in->avoid[i];
	bxc_sched__caches_name(s, t, in->caches, in->n_caches);
	bxc_map_set(s->tasks, name_of(t->id).s, t);
	ready_add(s, t);
	return 0;
}

void bxc_sched_task_cancel(bxc_sched *s, uint64_t task)
{
	struct sched_task *t = find_task(s, task);
	if (t)
		forget(s, t);
}

void bxc_sched_task_finished(bxc_sched *s, uint64_t task)
{
	struct sched_task *t = find_task(s, task);
	if (t && t->worker)
		forget(s, t);
}

int bxc_sched_task_adopt(bxc_sched *s, uint64_t task, uint64_t worker, bxc_err **err)
{
	struct sched_task *t = find_task(s, task);
	struct sched_worker *w = find_worker(s, worker);
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

/* ---- workers ---- */

static void set_platforms(struct sched_worker *w, const bxc_sched_worker *in)
{
	w->native.n = 0;
	w->emulated.n = 0;
	for (size_t i = 0; i < in->n_native; i++)
		*bxc_arr_push(&w->native) = in->native[i];
	for (size_t i = 0; i < in->n_emulated; i++)
		*bxc_arr_push(&w->emulated) = in->emulated[i];
}

void bxc_sched_worker_add(bxc_sched *s, const bxc_sched_worker *in)
{
	struct sched_worker *w = find_worker(s, in->id);
	if (!w) {
		w = bxc_calloc(1, sizeof(*w));
		w->id = in->id;
		w->layers = bxc_map_new(NULL);
		w->coming = bxc_map_new(free);
		*bxc_arr_push(&s->workers) = w;
	}
	set_platforms(w, in);
	w->slots = in->slots ? in->slots : 1;
	w->bandwidth = in->bandwidth ? in->bandwidth : BXC_SCHED_DEFAULT_BANDWIDTH;
	w->is_draining = w->is_drained_told = false;
	s->is_dirty = true;
}

void bxc_sched_worker_remove(bxc_sched *s, uint64_t worker)
{
	struct sched_worker *w = find_worker(s, worker);
	if (!w)
		return;
	w->is_draining = false; /* whoever removes it need not hear that it is drained */
	while (w->running.n) {
		struct sched_task *t = w->running.v[0];
		bxc_sched__push(s,
			(bxc_sched_action){.kind = BXC_SCHED_LOST, .task = t->id, .worker = w->id});
		forget(s, t);
	}
	for (size_t i = 0; i < s->workers.n; i++) {
		if (s->workers.v[i] == w) {
			bxc_arr_remove(&s->workers, i);
			break;
		}
	}
	bxc_sched__caches_leave(s, w);
	worker_free(w);
	s->is_dirty = true;
}

void bxc_sched_worker_drain(bxc_sched *s, uint64_t worker)
{
	struct sched_worker *w = find_worker(s, worker);
	if (!w || w->is_draining)
		return;
	w->is_draining = true;
	s->is_dirty = true;
	check_drained(s, w);
}

void bxc_sched_layer_at(bxc_sched *s, uint64_t worker, const char *layer)
{
	struct sched_worker *w = find_worker(s, worker);
	if (!w)
		return;
	bxc_map_set(w->layers, layer, w);
	s->is_dirty = true;
}

void bxc_sched_layer_gone(bxc_sched *s, uint64_t worker, const char *layer)
{
	struct sched_worker *w = find_worker(s, worker);
	if (!w)
		return;
	bxc_map_del(w->layers, layer);
	s->is_dirty = true;
}

/* ---- looks ---- */

bxc_sched_wait bxc_sched_waiting_reason(const bxc_sched *s, uint64_t task)
{
	const struct sched_task *t = find_task(s, task);
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
	const struct sched_task *t = find_task(s, task);
	if (!t || t->worker)
		return false;
	BXC_AUTOSTRV char **list = NULL;
	BXC_ARR_FOREACH (it, &s->workers) {
		const struct sched_worker *w = *it;
		if (w->is_draining)
			continue;
		if (bxc_sched__fit(w, t) != SCHED_FIT_NONE)
			return false;
		add_platforms(&list, w->native.v, w->native.n);
		add_platforms(&list, w->emulated.v, w->emulated.n);
	}
	if (ret_platforms)
		*ret_platforms = bxc_strv_join(list, ", ");
	return true;
}

uint64_t bxc_sched_worker_of(const bxc_sched *s, uint64_t task)
{
	const struct sched_task *t = find_task(s, task);
	return t && t->worker ? t->worker->id : 0;
}

size_t bxc_sched_n_running(const bxc_sched *s, uint64_t worker)
{
	const struct sched_worker *w = find_worker(s, worker);
	return w ? w->running.n : 0;
}

size_t bxc_sched_n_waiting(const bxc_sched *s)
{
	return s->n_waiting;
}
