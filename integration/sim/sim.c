/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated engine. What an engine does over time (answers, ends of runs, deaths) is kept in
 * lists here and happens in an order that the random numbers choose. After each event the actions
 * of both state machines are taken and checked.
 */
#include "integration/sim/sim.h"

#define N_WORKERS 4

struct link {
	uint64_t record;
	bxc_digest canonical;
};

struct record {
	sim_tree tree;
	uint32_t holders; /* bit per worker; 0: gone */
};

struct request {
	bxc_solve_kind kind;
	uint64_t ticket;
	bxc_digest key;	 /* LOOKUP; SOURCE_KEY: the answer */
	bool is_failing; /* CHECKSUM of a record that went */
	uint64_t record;
};

struct task {
	uint64_t ticket;
	uint64_t worker; /* 0: with the scheduler */
	bxc_digest key;
	bool fresh;
	sim_tree result;
	BXC_ARR(uint64_t) inputs;
	uint32_t attempt;
	BXC_ARR(bxc_sched_cache) caches;
	char arch[sizeof(((bxc_platform *)0)->arch)];
};

struct build {
	uint64_t id;
	bxc_def *def;
	uint32_t target;
	bool is_cancelled;
	bool is_done;
	uint64_t result; /* with is_done */
	bool may_fail;	 /* something in it failed */
};

struct sim {
	sim_rng rng;
	bxc_solve *solve;
	bxc_sched *sched;
	bxc_map *cache;
	BXC_ARR(struct record) records; /* id - 1 */
	BXC_ARR(struct request) requests;
	BXC_ARR(struct task) tasks;
	BXC_ARR(struct build) builds;
	bool alive[N_WORKERS];
	uint64_t last_build;
	bool is_calm; /* no more trouble: everything is to end */
	sim_stats stats;
	char *violation;
};

static void violate(struct sim *s, const char *what, uint64_t id)
{
	if (!s->violation)
		s->violation = bxc_str_fmt("%s (%llu)", what, (unsigned long long)id);
}

static void trace(struct sim *s, uint64_t v)
{
	s->stats.trace = (s->stats.trace ^ (v + 1)) * UINT64_C(0x100000001b3);
}

static struct record *record_of(struct sim *s, uint64_t id)
{
	return id >= 1 && id <= s->records.n ? &s->records.v[id - 1] : NULL;
}

static bool is_there(struct sim *s, uint64_t id)
{
	const struct record *r = record_of(s, id);
	return r && r->holders;
}

static char *layer_name(uint64_t record)
{
	return bxc_str_fmt("r%llu", (unsigned long long)record);
}

/* ---- workers ---- */

static void worker_join(struct sim *s, unsigned w)
{
	bxc_platform amd = {.os = "linux", .arch = "amd64"};
	bxc_platform arm = {.os = "linux", .arch = "arm64"};
	/* The last one is an arm machine; the first emulates. */
	bool is_arm = w == N_WORKERS - 1;
	bxc_sched_worker facts = {
		.id = w + 1,
		.native = is_arm ? &arm : &amd,
		.n_native = 1,
		.emulated = is_arm ? &amd : &arm,
		.n_emulated = w == 0 ? 1 : 0,
		.slots = 1 + w % 3,
	};
	s->alive[w] = true;
	bxc_sched_worker_add(s->sched, &facts);
}

static void record_hold(struct sim *s, uint64_t record, uint64_t worker)
{
	record_of(s, record)->holders |= 1u << (worker - 1);
	BXC_AUTOFREE char *name = layer_name(record);
	bxc_sched_layer_at(s->sched, worker, name);
}

static void record_gone(struct sim *s, uint64_t record)
{
	BXC_MAP_FOREACH (it, s->cache) {
		const struct link *l = it.value;
		if (l->record == record)
			bxc_map_del(s->cache, it.key);
	}
	s->stats.losses++;
	/* Its build is to come up with another one. */
	BXC_ARR_FOREACH (b, &s->builds)
		b->is_done = b->is_done && b->result != record;
	bxc_solve_result_lost(s->solve, record);
}

static void worker_die(struct sim *s, unsigned w)
{
	s->stats.kills++;
	s->alive[w] = false;
	bool tasks_first = sim_chance(&s->rng, 50);
	if (tasks_first)
		bxc_sched_worker_remove(s->sched, w + 1);
	for (uint64_t id = 1; id <= s->records.n; id++) {
		struct record *r = record_of(s, id);
		if (!(r->holders & (1u << w)))
			continue;
		r->holders &= ~(1u << w);
		if (!r->holders)
			record_gone(s, id);
	}
	if (!tasks_first)
		bxc_sched_worker_remove(s->sched, w + 1);
}

/* ---- tasks ---- */

static struct task *task_of(struct sim *s, uint64_t ticket)
{
	BXC_ARR_FOREACH (t, &s->tasks) {
		if (t->ticket == ticket)
			return t;
	}
	return NULL;
}

static void task_drop(struct sim *s, struct task *t)
{
	bxc_arr_done(&t->inputs);
	bxc_arr_done(&t->caches);
	bxc_arr_remove(&s->tasks, (size_t)(t - s->tasks.v));
}

static const char *const cache_keys[] = {"k0", "k1", "k2"};

/* Some steps have cache mounts; which, and how they share them, is up to the seed. */
static void draw_caches(struct sim *s, struct task *t)
{
	if (sim_rand(&s->rng, 4))
		return;
	uint64_t first = sim_rand(&s->rng, BXC_ARRAY_SIZE(cache_keys));
	uint64_t n = 1 + sim_rand(&s->rng, 2);
	for (uint64_t i = 0; i < n; i++)
		*bxc_arr_push(&t->caches) =
			(bxc_sched_cache){cache_keys[(first + i) % BXC_ARRAY_SIZE(cache_keys)],
				(bxc_sched_sharing)sim_rand(&s->rng, 3)};
}

/*
 * A locked one has one user; who shares one is with others, if there are some that run where it
 * could run too: of the same architecture.
 */
static void check_cache(struct sim *s, const struct task *t, const bxc_sched_cache *c)
{
	bool together = false;
	bool apart = false;
	BXC_ARR_FOREACH (o, &s->tasks) {
		if (o == t || !o->worker)
			continue;
		BXC_ARR_FOREACH (oc, &o->caches) {
			if (!bxc_str_eq(c->key, oc->key) || oc->sharing == BXC_SCHED_PRIVATE)
				continue;
			if (c->sharing == BXC_SCHED_LOCKED || oc->sharing == BXC_SCHED_LOCKED)
				violate(s, "two users of a locked cache mount", t->ticket);
			together |= o->worker == t->worker;
			apart |= o->worker != t->worker && bxc_str_eq(o->arch, t->arch);
		}
	}
	if (apart && !together)
		violate(s, "a shared cache mount in two places", t->ticket);
}

static void check_caches(struct sim *s, const struct task *t)
{
	BXC_ARR_FOREACH (c, &t->caches)
		if (c->sharing != BXC_SCHED_PRIVATE)
			check_cache(s, t, c);
}

static void on_run(struct sim *s, const bxc_solve_action *a)
{
	bool fresh = a->miss == BXC_SOLVE_MISS_IGNORE_CACHE;
	BXC_ARR_FOREACH (t, &s->tasks) {
		if (bxc_digest_eq(&t->key, &a->key) && t->fresh == fresh)
			violate(s, "two runs of one key", a->ticket);
	}
	if (a->attempt < 1 || a->attempt > BXC_SOLVE_MAX_ATTEMPTS)
		violate(s, "attempt out of range", a->attempt);
	s->stats.runs++;
	struct task *t = bxc_arr_push(&s->tasks);
	t->ticket = a->ticket;
	t->key = a->key;
	t->fresh = fresh;
	t->attempt = a->attempt;
	BXC_AUTOFREE sim_tree *trees = bxc_calloc(a->n_inputs + 1, sizeof(*trees));
	BXC_AUTOFREE bxc_sched_layer *layers = bxc_calloc(a->n_inputs + 1, sizeof(*layers));
	BXC_AUTOSTRV char **names = NULL;
	for (size_t i = 0; i < a->n_inputs; i++) {
		if (!is_there(s, a->inputs[i].record)) {
			violate(s, "a run on an input that is gone", a->inputs[i].record);
			return;
		}
		trees[i] = record_of(s, a->inputs[i].record)->tree;
		*bxc_arr_push(&t->inputs) = a->inputs[i].record;
		bxc_strv_push_take(&names, layer_name(a->inputs[i].record));
	}
	for (size_t i = 0; i < a->n_inputs; i++)
		layers[i] = (bxc_sched_layer){names[i], (1 + sim_rand(&s->rng, 500)) * 1000000};
	t->result = sim_tree_of(a->def, trees);
	uint32_t chain = bxc_solve_chain_input(a->def);
	uint64_t chain_worker = 0;
	if (chain != BXC_DEF_NO_INPUT) {
		uint32_t holders = record_of(s, a->inputs[chain].record)->holders;
		chain_worker = (uint64_t)__builtin_ctz(holders) + 1;
	}
	bxc_sched_task task = {
		.id = a->ticket,
		.build = 1 + a->ticket % 3,
		.tenant = a->ticket % 2 ? "odd" : "even",
		.platform = a->def->platform,
		.cost_ns = (int64_t)(1 + sim_rand(&s->rng, 5000)) * 1000000,
		.layers = layers,
		.n_layers = a->n_inputs,
		.chain_worker = chain_worker,
		.remaining = a->remaining,
	};
	draw_caches(s, t);
	memcpy(t->arch, a->def->platform.arch, sizeof(t->arch));
	task.caches = t->caches.v;
	task.n_caches = t->caches.n;
	bxc_check(bxc_sched_task_add(s->sched, &task, NULL) == 0);
}

static void note_failure(struct sim *s)
{
	/* Which builds a failure reaches is the solver's business; that one is possible is noted
	 * for all. */
	BXC_ARR_FOREACH (b, &s->builds)
		b->may_fail = true;
}

static void fail_task(struct sim *s, struct task *t, bool infra)
{
	uint64_t ticket = t->ticket;
	if (!infra || t->attempt >= BXC_SOLVE_MAX_ATTEMPTS)
		note_failure(s);
	task_drop(s, t);
	bxc_err *err = NULL;
	bxc_err_set(&err, infra ? BXC_UNAVAILABLE : BXC_ABORTED, "run %llu failed",
		(unsigned long long)ticket);
	if (!bxc_solve_fail(s->solve, ticket, err, infra))
		violate(s, "a failure of a live run was not wanted", ticket);
}

static void on_assign(struct sim *s, const bxc_sched_action *a)
{
	struct task *t = task_of(s, a->task);
	if (!t || t->worker) {
		violate(s, "an assignment of no waiting task", a->task);
		return;
	}
	if (a->worker < 1 || a->worker > N_WORKERS || !s->alive[a->worker - 1]) {
		violate(s, "an assignment to no live worker", a->worker);
		return;
	}
	if (bxc_sched_n_running(s->sched, a->worker) > 1 + (a->worker - 1) % 3)
		violate(s, "more tasks than slots", a->worker);
	t->worker = a->worker;
	check_caches(s, t);
	for (size_t i = 0; i < t->inputs.n; i++) {
		uint64_t record = t->inputs.v[i];
		if (is_there(s, record))
			continue;
		uint64_t ticket = t->ticket;
		bxc_sched_task_cancel(s->sched, ticket);
		task_drop(s, t);
		if (!bxc_solve_input_lost(s->solve, ticket, record))
			violate(s, "a lost input of a live run was not wanted", ticket);
		return;
	}
	/* Its inputs are brought at once; that a transfer takes time adds nothing here. */
	for (size_t i = 0; i < t->inputs.n; i++)
		record_hold(s, t->inputs.v[i], a->worker);
}

static void finish_task(struct sim *s, struct task *t)
{
	uint64_t ticket = t->ticket;
	uint64_t worker = t->worker;
	*bxc_arr_push(&s->records) = (struct record){.tree = t->result};
	uint64_t record = s->records.n;
	record_hold(s, record, worker);
	task_drop(s, t);
	bxc_sched_task_finished(s->sched, ticket);
	if (!bxc_solve_run_done(s->solve, ticket, record))
		violate(s, "the end of a live run was not wanted", ticket);
}

/* ---- actions ---- */

static struct build *build_of(struct sim *s, uint64_t id)
{
	BXC_ARR_FOREACH (b, &s->builds) {
		if (b->id == id)
			return b;
	}
	return NULL;
}

static bool has_vertex(const struct build *b, const bxc_def_vertex *v)
{
	for (size_t i = 0; b && i < b->def->vertices.n; i++) {
		if (b->def->vertices.v[i] == v)
			return true;
	}
	return false;
}

static void build_drop(struct sim *s, struct build *b)
{
	bxc_def_free(b->def);
	bxc_arr_remove(&s->builds, (size_t)(b - s->builds.v));
}

static void on_done(struct sim *s, const bxc_solve_action *a)
{
	struct build *b = build_of(s, a->build);
	if (!b) {
		violate(s, "the end of an unknown build", a->build);
		return;
	}
	if (a->err) {
		bxc_code code = bxc_err_code(a->err);
		if (code == BXC_CANCELED && !b->is_cancelled)
			violate(s, "a build ended by the cancel of another", a->build);
		if (code != BXC_CANCELED && code != BXC_DATA_LOSS && !b->may_fail)
			violate(s, "a build failed though nothing did", a->build);
		if (code == BXC_CANCELED)
			s->stats.cancelled++;
		else
			s->stats.failed++;
		build_drop(s, b);
		return;
	}
	b->is_done = true;
	b->result = a->n_results ? a->results[0].record : 0;
	if (a->n_results != 1 || !is_there(s, a->results[0].record)) {
		violate(s, "a result that is gone", a->build);
		return;
	}
	sim_tree expected = sim_tree_expected(b->def, b->target);
	if (!sim_tree_eq(&expected, &record_of(s, a->results[0].record)->tree))
		violate(s, "a wrong result", a->build);
}

static void on_checksum(struct sim *s, const bxc_solve_action *a)
{
	struct request *r = bxc_arr_push(&s->requests);
	r->kind = a->kind;
	r->ticket = a->ticket;
	r->record = a->inputs[0].record;
	sim_tree tree;
	if (a->cheap) {
		const struct build *b = build_of(s, a->build);
		bxc_check(b != NULL);
		tree = sim_tree_expected(b->def, a->def->inputs.v[a->input_index].vertex);
	} else {
		if (!is_there(s, r->record)) {
			violate(s, "a checksum of a record that is gone", r->record);
			return;
		}
		tree = record_of(s, r->record)->tree;
	}
	BXC_AUTOFREE bxc_digest *digests = bxc_calloc(a->n_selectors, sizeof(*digests));
	for (size_t i = 0; i < a->n_selectors; i++)
		digests[i] = sim_tree_digest(&tree, a->selectors[i].path);
	r->key = bxc_solve_combine(digests, a->n_selectors);
}

static void on_source_key(struct sim *s, const bxc_solve_action *a)
{
	struct request *r = bxc_arr_push(&s->requests);
	r->kind = a->kind;
	r->ticket = a->ticket;
	sim_tree tree = sim_tree_of(a->def, NULL);
	if (bxc_solve_is_local(a->def)) {
		r->key = sim_tree_digest(&tree, "/");
	} else {
		BXC_AUTOFREE char *text =
			bxc_str_fmt("%s %s", a->def->op.source.identifier, a->def->platform.arch);
		r->key = bxc_digest_of_str(text);
	}
}

static void on_save(struct sim *s, const bxc_solve_action *a)
{
	/* An engine that heard of the loss in between saves nothing. */
	if (!is_there(s, a->record))
		return;
	for (size_t i = 0; i < a->n_keys; i++) {
		struct link *l = bxc_calloc(1, sizeof(*l));
		*l = (struct link){a->record, a->canonical};
		char key[BXC_DIGEST_STR_MAX];
		bxc_map_set(s->cache, bxc_digest_str(&a->keys[i], key), l);
	}
}

static void on_solve(struct sim *s, const bxc_solve_action *a)
{
	trace(s, a->kind);
	trace(s, a->ticket + 3 * a->vertex + 7 * a->build + a->event);
	if (a->ticket && a->def && !has_vertex(build_of(s, a->build), a->def))
		violate(s, "a request whose vertex is of no live build", a->ticket);
	switch (a->kind) {
	case BXC_SOLVE_SOURCE_KEY:
		on_source_key(s, a);
		break;
	case BXC_SOLVE_LOOKUP: {
		struct request *r = bxc_arr_push(&s->requests);
		r->kind = a->kind;
		r->ticket = a->ticket;
		r->key = a->key;
		break;
	}
	case BXC_SOLVE_CHECKSUM:
		on_checksum(s, a);
		break;
	case BXC_SOLVE_RUN:
		on_run(s, a);
		break;
	case BXC_SOLVE_CANCEL_RUN: {
		struct task *t = task_of(s, a->ticket);
		if (!t) {
			violate(s, "a cancel of no live run", a->ticket);
			break;
		}
		task_drop(s, t);
		bxc_sched_task_cancel(s->sched, a->ticket);
		break;
	}
	case BXC_SOLVE_SAVE_KEYS:
		on_save(s, a);
		break;
	case BXC_SOLVE_EVENT:
		s->stats.hits += a->event == BXC_SOLVE_CACHED;
		break;
	case BXC_SOLVE_BUILD_DONE:
		on_done(s, a);
		break;
	case BXC_SOLVE_NONE:
		violate(s, "an action of no kind", 0);
		break;
	}
}

static void take_actions(struct sim *s)
{
	bool any = true;
	while (any && !s->violation) {
		any = false;
		bxc_solve_action a;
		while (!s->violation && bxc_solve_next(s->solve, &a)) {
			any = true;
			on_solve(s, &a);
		}
		/* One at a time: it may have made the solver take back what the next is about. */
		bxc_sched_action p;
		if (!s->violation && bxc_sched_next(s->sched, &p)) {
			any = true;
			trace(s, p.task * 5 + p.worker);
			struct task *t = task_of(s, p.task);
			if (p.kind == BXC_SCHED_ASSIGN)
				on_assign(s, &p);
			else if (p.kind == BXC_SCHED_LOST && t)
				fail_task(s, t, true);
		}
	}
}

/* ---- events ---- */

static void add_build(struct sim *s)
{
	struct build *b = bxc_arr_push(&s->builds);
	b->id = ++s->last_build;
	b->def = sim_def_random(
		&s->rng, b->id, 20, sim_chance(&s->rng, 20), sim_chance(&s->rng, 20));
	b->target = (uint32_t)b->def->vertices.n - 1;
	s->stats.builds++;
	bxc_solve_target target = {b->target, 0};
	bxc_check(bxc_solve_add_build(s->solve, b->id, b->def, &target, 1, NULL) == 0);
}

static void answer(struct sim *s, size_t i)
{
	struct request r = s->requests.v[i];
	bxc_arr_remove(&s->requests, i);
	if (r.kind == BXC_SOLVE_LOOKUP) {
		char key[BXC_DIGEST_STR_MAX];
		const struct link *l = bxc_map_get(s->cache, bxc_digest_str(&r.key, key));
		if (l && !is_there(s, l->record))
			violate(s, "the cache of the simulator is stale", l->record);
		if (l)
			bxc_solve_lookup_hit(s->solve, r.ticket, l->record, &l->canonical);
		else
			bxc_solve_lookup_miss(s->solve, r.ticket);
		return;
	}
	if (r.kind == BXC_SOLVE_CHECKSUM && r.record && !is_there(s, r.record)) {
		bxc_solve_input_lost(s->solve, r.ticket, r.record);
		return;
	}
	if (!s->is_calm && sim_chance(&s->rng, 3)) {
		note_failure(s);
		bxc_err *err = NULL;
		bxc_err_set(&err, BXC_UNAVAILABLE, "request failed");
		bxc_solve_fail(s->solve, r.ticket, err, true);
		return;
	}
	if (r.kind == BXC_SOLVE_CHECKSUM)
		bxc_solve_checksum(s->solve, r.ticket, &r.key);
	else
		bxc_solve_source_key(s->solve, r.ticket, &r.key);
}

/* Ends one of the tasks that run; false when none does. */
static bool end_a_task(struct sim *s)
{
	size_t n = 0;
	BXC_ARR_FOREACH (t, &s->tasks)
		n += t->worker != 0;
	if (n == 0)
		return false;
	size_t k = sim_rand(&s->rng, n);
	struct task *chosen = NULL;
	BXC_ARR_FOREACH (t, &s->tasks) {
		if (t->worker && k-- == 0)
			chosen = t;
	}
	unsigned fate = s->is_calm ? 99 : (unsigned)sim_rand(&s->rng, 100);
	if (fate < 9) {
		bxc_sched_task_finished(s->sched, chosen->ticket);
		fail_task(s, chosen, fate >= 3);
	} else {
		finish_task(s, chosen);
	}
	return true;
}

static void end_a_build(struct sim *s)
{
	if (!s->builds.n)
		return;
	struct build *b = &s->builds.v[sim_rand(&s->rng, s->builds.n)];
	if (b->is_done) {
		s->stats.ok++;
		bxc_solve_release(s->solve, b->id);
		build_drop(s, b);
	} else if (!s->is_calm && sim_chance(&s->rng, 20)) {
		b->is_cancelled = true;
		bxc_solve_cancel(s->solve, b->id);
	}
}

static void trouble(struct sim *s)
{
	unsigned w = (unsigned)sim_rand(&s->rng, N_WORKERS);
	if (!s->alive[w]) {
		worker_join(s, w);
		s->stats.joined++;
	} else if (sim_chance(&s->rng, 40)) {
		worker_die(s, w);
	}
}

static void step(struct sim *s)
{
	unsigned what = (unsigned)sim_rand(&s->rng, 100);
	if (what < 8 && !s->is_calm && s->builds.n < 12)
		add_build(s);
	else if (what < 16)
		end_a_build(s);
	else if (what < 19 && !s->is_calm)
		trouble(s);
	else if (what < 70 && s->requests.n)
		answer(s, sim_rand(&s->rng, s->requests.n));
	else
		end_a_task(s);
	take_actions(s);
}

/* When nothing is under way, every build is done. */
static void check_progress(struct sim *s)
{
	if (s->requests.n || s->tasks.n)
		return;
	BXC_ARR_FOREACH (b, &s->builds) {
		if (!b->is_done)
			violate(s, "a build stands still", b->id);
	}
}

static void calm_down(struct sim *s)
{
	s->is_calm = true;
	for (unsigned w = 0; w < N_WORKERS; w++) {
		if (!s->alive[w])
			worker_join(s, w);
	}
	take_actions(s);
	unsigned n = 0;
	while (s->builds.n && !s->violation) {
		step(s);
		check_progress(s);
		if (++n > 200000)
			violate(s, "no end in sight", s->builds.n);
	}
	if (s->violation)
		return;
	if (bxc_solve_n_vertices(s->solve) || bxc_solve_n_builds(s->solve))
		violate(s, "vertices are left", bxc_solve_n_vertices(s->solve));
	if (s->tasks.n || bxc_sched_n_waiting(s->sched))
		violate(s, "tasks are left", s->tasks.n);
}

char *sim_run(uint64_t seed, unsigned steps, sim_stats *ret)
{
	struct sim s = {.rng = {seed}, .solve = bxc_solve_new(), .sched = bxc_sched_new()};
	s.cache = bxc_map_new(free);
	for (unsigned w = 0; w < N_WORKERS; w++)
		worker_join(&s, w);
	for (unsigned i = 0; i < steps && !s.violation; i++) {
		step(&s);
		check_progress(&s);
	}
	if (!s.violation)
		calm_down(&s);
	*ret = s.stats;
	bxc_solve_free(s.solve);
	bxc_sched_free(s.sched);
	bxc_map_free(s.cache);
	while (s.builds.n)
		build_drop(&s, &s.builds.v[0]);
	while (s.tasks.n)
		task_drop(&s, &s.tasks.v[0]);
	bxc_arr_done(&s.builds);
	bxc_arr_done(&s.tasks);
	bxc_arr_done(&s.records);
	bxc_arr_done(&s.requests);
	return s.violation;
}
