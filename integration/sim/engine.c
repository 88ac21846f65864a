/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated engine: takes the actions of both state machines and keeps the books that the real
 * one keeps. What it has on disk: the cache, records, builds, and which attempts run where.
 */
#include "integration/sim/sim_internal.h"

static void trace(struct sim *s, uint64_t v)
{
	s->stats.trace = (s->stats.trace ^ (v + 1)) * UINT64_C(0x100000001b3);
}

/* ---- records ---- */

struct record *record_of(struct sim *s, uint64_t id)
{
	return id >= 1 && id <= s->records.n ? &s->records.v[id - 1] : NULL;
}

bool is_there(struct sim *s, uint64_t id)
{
	const struct record *r = record_of(s, id);
	return r && r->holders;
}

static char *layer_name(uint64_t record)
{
	return bxc_str_fmt("r%llu", (unsigned long long)record);
}

static void record_hold(struct sim *s, uint64_t record, uint64_t worker)
{
	struct record *r = record_of(s, record);
	r->holders |= 1u << (worker - 1);
	r->copies |= 1u << (worker - 1);
	BXC_AUTOFREE char *name = layer_name(record);
	bxc_sched_layer_at(s->sched, worker, name);
}

static void forget_links(struct sim *s, uint64_t record)
{
	BXC_MAP_FOREACH (it, s->cache) {
		const struct link *l = it.value;
		if (l->record == record)
			bxc_map_del(s->cache, it.key);
	}
}

/* Making things again has a bound, whatever vanishes. */
static void count_loss(struct sim *s, const struct record *r)
{
	if (r->solver != s->n_solvers)
		return;
	struct losses *l = NULL;
	BXC_ARR_FOREACH (x, &s->losses)
		if (x->vertex == r->vertex)
			l = x;
	if (!l) {
		l = bxc_arr_push(&s->losses);
		*l = (struct losses){.vertex = r->vertex};
	}
	if (++l->n > SIM_MAX_LOST)
		violate(s, "a step is made again and again", r->vertex);
}

void record_gone(struct sim *s, uint64_t record)
{
	forget_links(s, record);
	s->stats.losses++;
	note(s, "record is lost", record, 0);
	count_loss(s, record_of(s, record));
	/* Its build is to come up with another one. */
	BXC_ARR_FOREACH (b, &s->builds)
		b->is_done = b->is_done && b->result != record;
	bxc_solve_result_lost(s->solve, record);
}

void engine_evicts(struct sim *s)
{
	if (!s->records.n)
		return;
	uint64_t id = 1 + sim_rand(&s->rng, s->records.n);
	struct record *r = record_of(s, id);
	if (!r->holders || r->is_pending || bxc_solve_uses_record(s->solve, id))
		return;
	s->stats.evicted++;
	note(s, "record is evicted", id, 0);
	forget_links(s, id);
	for (unsigned w = 0; w < SIM_WORKERS; w++) {
		BXC_AUTOFREE char *name = layer_name(id);
		if (r->holders & (1u << w))
			bxc_sched_layer_gone(s->sched, w + 1, name);
	}
	r->holders = r->copies = 0;
}

/* ---- tasks ---- */

struct task *task_of(struct sim *s, uint64_t ticket)
{
	BXC_ARR_FOREACH (t, &s->tasks)
		if (t->ticket == ticket)
			return t;
	return NULL;
}

struct task *task_named(struct sim *s, uint64_t name)
{
	BXC_ARR_FOREACH (t, &s->tasks)
		if (t->name == name)
			return t;
	return NULL;
}

void task_drop(struct sim *s, struct task *t)
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
		if (o == t || !o->lease.worker)
			continue;
		BXC_ARR_FOREACH (oc, &o->caches) {
			if (!bxc_str_eq(c->key, oc->key) || oc->sharing == BXC_SCHED_PRIVATE)
				continue;
			if (c->sharing == BXC_SCHED_LOCKED || oc->sharing == BXC_SCHED_LOCKED)
				violate(s, "two users of a locked cache mount", t->ticket);
			together |= o->lease.worker == t->lease.worker;
			apart |= o->lease.worker != t->lease.worker && bxc_str_eq(o->arch, t->arch);
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

/* An engine that starts finds a worker at the step already, or done with it. */
static void adopt(struct sim *s, struct task *t, struct run *r)
{
	bxc_check(bxc_sched_task_adopt(s->sched, t->ticket, r->lease.worker, NULL) == 0);
	s->stats.adopted++;
	note(s, "engine adopts run", r->name, r->lease.worker);
	t->name = r->name;
	t->lease = r->lease;
	t->is_adopted = true;
	r->is_adoptable = false;
	if (r->is_ended)
		tell_end(s, r);
}

/* ---- tenants ---- */

static const bxc_sched_tenant tenants[] = {
	{.name = "plain", .max_per_build = 2},
	{.name = "small", .max_running = 3},
	{.name = "heavy", .weight = 3},
};

static const bxc_sched_tenant *tenant_of(uint64_t build)
{
	return &tenants[build % BXC_ARRAY_SIZE(tenants)];
}

/* One that is adopted runs whatever the bounds are. */
static void check_bounds(struct sim *s, const struct task *t)
{
	const bxc_sched_tenant *of = tenant_of(t->build);
	unsigned of_build = 0, of_tenant = 0;
	BXC_ARR_FOREACH (o, &s->tasks) {
		if (!o->lease.worker || o->is_adopted)
			continue;
		of_build += o->build == t->build;
		of_tenant += tenant_of(o->build) == of;
	}
	if (of->max_per_build && of_build > of->max_per_build)
		violate(s, "more steps of a build than it may have", t->build);
	if (of->max_running && of_tenant > of->max_running)
		violate(s, "more steps of a tenant than it may have", t->build);
}

static bool may_idle(bxc_sched_wait why)
{
	return why != BXC_SCHED_WAIT_SLOTS && why != BXC_SCHED_WAIT_INPUTS;
}

/* No step waits for a slot, or for inputs, while a worker that could take it does nothing. */
void check_places(struct sim *s)
{
	BXC_ARR_FOREACH (t, &s->tasks) {
		if (t->lease.worker)
			continue;
		bxc_sched_wait why = bxc_sched_waiting_reason(s->sched, t->ticket);
		if (why == BXC_SCHED_WAIT_NONE)
			violate(s, "a step waits for nothing", t->ticket);
		for (unsigned w = 0; w < SIM_WORKERS && !may_idle(why); w++) {
			bool is_native =
				bxc_str_eq(t->arch, w == SIM_WORKERS - 1 ? "arm64" : "amd64");
			if ((is_native || !t->arch[0]) && s->health[w] == SIM_UP &&
				!bxc_sched_n_running(s->sched, w + 1))
				violate(s, "a worker is idle while a step waits", t->ticket);
		}
	}
}

static void on_run(struct sim *s, const bxc_solve_action *a)
{
	bool fresh = a->fresh;
	BXC_ARR_FOREACH (t, &s->tasks) {
		if (bxc_digest_eq(&t->key, &a->key) && t->fresh == fresh)
			violate(s, "two runs of one key", a->ticket);
	}
	BXC_ARR_FOREACH (w, &s->disk)
		if (w->kind == WRITE_RESULT && !w->is_cancelled && w->fresh == fresh &&
			bxc_digest_eq(&w->key, &a->key))
			violate(s, "a run of what has a result", a->ticket);
	if (a->attempt < 1 || a->attempt > BXC_SOLVE_MAX_ATTEMPTS)
		violate(s, "attempt out of range", a->attempt);
	s->stats.runs++;
	struct task *t = bxc_arr_push(&s->tasks);
	t->ticket = a->ticket;
	t->key = a->key;
	t->fresh = fresh;
	t->attempt = a->attempt;
	t->build = a->build;
	t->vertex = a->vertex;
	/* Epochs of one name grow; an engine that starts gives other names. */
	t->name = a->run + s->n_solvers * 1000000;
	t->lease.epoch = a->attempt;
	if (!s->has_curse && may(s, SIM_CURSE, 2)) {
		s->has_curse = true;
		s->cursed = a->key;
	}
	BXC_AUTOFREE sim_tree *trees = bxc_calloc(a->n_inputs + 1, sizeof(*trees));
	BXC_AUTOFREE bxc_sched_layer *layers = bxc_calloc(a->n_inputs + 1, sizeof(*layers));
	BXC_AUTOSTRV char **names = NULL;
	for (size_t i = 0; i < a->n_inputs; i++) {
		if (!is_there(s, a->inputs[i].record)) {
			violate(s, "a lost pin: a run on an input that is gone",
				a->inputs[i].record);
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
		.build = a->build,
		.tenant = tenant_of(a->build)->name,
		.platform = a->def->platform,
		.cost_ns = (int64_t)(1 + sim_rand(&s->rng, 5000)) * 1000000,
		.layers = layers,
		.n_layers = a->n_inputs,
		.chain_worker = chain_worker,
		.remaining = a->remaining,
	};
	struct run *r = fresh ? NULL : run_to_adopt(s, &a->key);
	/* What an adopted one shares was decided when it began. */
	if (!r)
		draw_caches(s, t);
	memcpy(t->arch, a->def->platform.arch, sizeof(t->arch));
	task.caches = t->caches.v;
	task.n_caches = t->caches.n;
	bxc_check(bxc_sched_task_add(s->sched, &task, NULL) == 0);
	if (r)
		adopt(s, t, r);
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
	if (!t || t->lease.worker) {
		violate(s, "an assignment of no waiting task", a->task);
		return;
	}
	if (a->worker < 1 || a->worker > SIM_WORKERS || s->health[a->worker - 1] != SIM_UP) {
		violate(s, "an assignment to no live worker", a->worker);
		return;
	}
	if (bxc_sched_n_running(s->sched, a->worker) > 1 + (a->worker - 1) % 3)
		violate(s, "more tasks than slots", a->worker);
	t->lease.worker = a->worker;
	check_caches(s, t);
	check_bounds(s, t);
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
	const struct run r = {.name = t->name,
		.lease = t->lease,
		.key = t->key,
		.fresh = t->fresh,
		.result = t->result};
	/* Before the order goes out it is on disk that the worker has it. */
	*bxc_arr_push(&s->disk) = (struct write){.kind = WRITE_ATTEMPT,
		.ticket = t->ticket,
		.lease = t->lease,
		.name = t->name,
		.run = r};
}

static void finish_task(struct sim *s, struct task *t)
{
	uint64_t ticket = t->ticket, worker = t->lease.worker;
	if (!worker || s->health[worker - 1] != SIM_UP) {
		violate(s, "a result of nobody who has the step", t->name);
		return;
	}
	*bxc_arr_push(&s->records) = (struct record){
		.tree = t->result, .vertex = t->vertex, .solver = s->n_solvers, .is_pending = true};
	uint64_t record = s->records.n;
	record_hold(s, record, worker);
	*bxc_arr_push(&s->disk) = (struct write){.kind = WRITE_RESULT,
		.ticket = ticket,
		.lease = t->lease,
		.name = t->name,
		.key = t->key,
		.fresh = t->fresh,
		.record = record};
	task_drop(s, t);
	bxc_sched_task_finished(s->sched, ticket);
}

static void result_written(struct sim *s, const struct write *w)
{
	bool is_cursed = s->has_curse && !s->is_calm && bxc_digest_eq(&w->key, &s->cursed);
	record_of(s, w->record)->is_pending = false;
	post(s, MAIL_FORGET, w->lease, w->name, NULL);
	if (!bxc_solve_run_done(s->solve, w->ticket, w->record) && !w->is_cancelled)
		violate(s, "the end of a live run was not wanted", w->ticket);
	if (!is_there(s, w->record)) {
		/* Its worker was lost meanwhile. */
		bxc_solve_result_lost(s->solve, w->record);
		return;
	}
	if (!is_cursed)
		return;
	take_actions(s);
	struct record *r = record_of(s, w->record);
	if (!r->holders)
		return;
	r->holders = r->copies = 0;
	record_gone(s, w->record);
}

bool is_being_written(const struct sim *s, sim_write_kind kind, bxc_lease lease, uint64_t name)
{
	BXC_ARR_FOREACH (w, &s->disk)
		if (w->kind == kind && w->name == name && w->lease.worker == lease.worker &&
			w->lease.epoch == lease.epoch)
			return true;
	return false;
}

void engine_writes(struct sim *s)
{
	struct write w = s->disk.v[0];
	bxc_arr_remove(&s->disk, 0);
	const struct task *t = task_of(s, w.ticket);
	char key[BXC_DIGEST_STR_MAX];
	struct link *l;
	switch (w.kind) {
	case WRITE_ATTEMPT:
		/* It may have been cancelled, or its worker lost, meanwhile. */
		if (t && t->lease.worker == w.lease.worker && t->lease.epoch == w.lease.epoch)
			post(s, MAIL_RUN, w.lease, w.name, &w.run);
		break;
	case WRITE_RESULT:
		result_written(s, &w);
		break;
	case WRITE_LINK:
		l = bxc_map_get(s->cache, bxc_digest_str(&w.key, key));
		if (l && l->record == w.record)
			l->is_durable = true;
		break;
	}
}

void task_lost_on_the_way(struct sim *s, uint64_t ticket)
{
	struct task *t = task_of(s, ticket);
	if (!t)
		return;
	bxc_sched_task_finished(s->sched, ticket);
	fail_task(s, t, true);
}

void engine_hears(struct sim *s, const struct mail *m)
{
	struct task *t = task_named(s, m->name);
	/* It is forgotten once it is on disk; of one that is over nothing more will be asked. */
	if (is_being_written(s, WRITE_RESULT, m->lease, m->name)) {
		s->stats.refused++;
		return;
	}
	if (m->kind != MAIL_DONE || !t || !bxc_lease_holds(t->lease, m->lease))
		post(s, MAIL_FORGET, m->lease, m->name, NULL);
	if (!t || !bxc_lease_holds(t->lease, m->lease)) {
		s->stats.refused++;
		return;
	}
	if (t->lease.worker != m->lease.worker || t->lease.epoch != m->lease.epoch) {
		violate(s, "a result of nobody who has the step", t->name);
		return;
	}
	if (m->kind == MAIL_DONE) {
		finish_task(s, t);
		return;
	}
	bxc_sched_task_finished(s->sched, t->ticket);
	fail_task(s, t, m->infra);
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

void build_drop(struct sim *s, struct build *b)
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
		violate(s, "a lost pin: a result that is gone", a->build);
		return;
	}
	sim_tree expected = sim_tree_expected(b->def, b->target);
	if (!sim_tree_eq(&expected, &record_of(s, a->results[0].record)->tree))
		violate(s, "a wrong result", a->build);
}

static void on_checksum(struct sim *s, const bxc_solve_action *a)
{
	struct request *r = bxc_arr_push(&s->requests);
	*r = (struct request){.kind = a->kind, .ticket = a->ticket};
	r->record = a->inputs[0].record;
	sim_tree tree;
	if (a->cheap) {
		const struct build *b = build_of(s, a->build);
		bxc_check(b != NULL);
		tree = sim_tree_expected(b->def, a->def->inputs.v[a->input_index].vertex);
	} else {
		if (!is_there(s, r->record)) {
			violate(s, "a lost pin: a checksum of a record that is gone", r->record);
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
	*r = (struct request){.kind = a->kind, .ticket = a->ticket};
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
		*l = (struct link){.record = a->record, .canonical = a->canonical};
		*bxc_arr_push(&s->disk) =
			(struct write){.kind = WRITE_LINK, .key = a->keys[i], .record = a->record};
		char key[BXC_DIGEST_STR_MAX];
		bxc_map_set(s->cache, bxc_digest_str(&a->keys[i], key), l);
	}
}

/* The result of the run on its way to the disk; NULL: none. */
static struct write *result_of(struct sim *s, uint64_t ticket)
{
	BXC_ARR_FOREACH (w, &s->disk)
		if (w->kind == WRITE_RESULT && w->ticket == ticket)
			return w;
	return NULL;
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
		struct write *w = t ? NULL : result_of(s, a->ticket);
		if (w)
			w->is_cancelled = true;
		else if (!t)
			violate(s, "a cancel of no live run", a->ticket);
		if (!t)
			break;
		if (t->lease.worker)
			post(s, MAIL_CANCEL, t->lease, t->name, NULL);
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

void take_actions(struct sim *s)
{
	bool any = true;
	while (any && !s->violation && !s->is_crashing) {
		any = false;
		bxc_solve_action a;
		while (!s->violation && !s->is_crashing && bxc_solve_next(s->solve, &a)) {
			any = true;
			/* It dies with the action in hand: nothing came of it. */
			s->is_crashing = sim_rand(&s->rng, 2000) == 0 && may(s, SIM_CRASH, 100);
			if (s->is_crashing)
				return;
			on_solve(s, &a);
		}
		/* One at a time: it may have made the solver take back what the next is about. */
		bxc_sched_action p;
		if (!s->violation && bxc_sched_next(s->sched, &p)) {
			any = true;
			s->is_crashing = sim_rand(&s->rng, 1000) == 0 && may(s, SIM_CRASH, 100);
			if (s->is_crashing)
				return;
			trace(s, p.task * 5 + p.worker);
			struct task *t = task_of(s, p.task);
			if (p.kind == BXC_SCHED_ASSIGN)
				on_assign(s, &p);
			else if (p.kind == BXC_SCHED_LOST && t)
				fail_task(s, t, true);
		}
	}
}

/* ---- its life ---- */

void build_begin(struct sim *s, struct build *b)
{
	bxc_solve_target target = {b->target, 0};
	bxc_check(bxc_solve_add_build(s->solve, b->id, b->def, &target, 1, NULL) == 0);
	if (b->is_cancelled)
		bxc_solve_cancel(s->solve, b->id);
}

void engine_begin(struct sim *s)
{
	s->solve = bxc_solve_new();
	s->sched = bxc_sched_new();
	s->n_solvers++;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(tenants); i++)
		bxc_sched_tenant_set(s->sched, &tenants[i]);
}

void engine_end(struct sim *s)
{
	bxc_solve_free(s->solve);
	bxc_sched_free(s->sched);
	while (s->tasks.n)
		task_drop(s, &s->tasks.v[0]);
	s->requests.n = 0;
	s->disk.n = 0;
	s->losses.n = 0;
}

/* What was on its way to the disk never was; what its worker has of it has to be there still. */
static void lose_writes(struct sim *s)
{
	s->stats.unwritten += (unsigned)s->disk.n;
	BXC_ARR_FOREACH (w, &s->disk) {
		if (w->kind != WRITE_RESULT)
			continue;
		struct record *r = record_of(s, w->record);
		bool is_kept = false;
		BXC_ARR_FOREACH (run, &s->runs)
			is_kept = is_kept ||
				  (run->name == w->name && run->lease.worker == w->lease.worker &&
					  run->lease.epoch == w->lease.epoch);
		if (r->holders && !is_kept)
			violate(s, "a result was forgotten before it was on disk", w->name);
		r->is_pending = false;
		r->holders = r->copies = 0;
	}
	BXC_MAP_FOREACH (it, s->cache)
		if (!((const struct link *)it.value)->is_durable)
			bxc_map_del(s->cache, it.key);
	s->disk.n = 0;
	s->n_stalled = 0;
}

void engine_crash(struct sim *s)
{
	note(s, "engine dies", 0, 0);
	s->stats.crashes++;
	s->is_crashing = false;
	BXC_ARR_FOREACH (r, &s->runs) {
		const struct task *t = task_named(s, r->name);
		r->is_adoptable = s->health[r->lease.worker - 1] == SIM_UP &&
				  (r->is_adoptable ||
					  (t && t->lease.worker == r->lease.worker &&
						  t->lease.epoch == r->lease.epoch) ||
					  is_being_written(s, WRITE_RESULT, r->lease, r->name));
	}
	lose_writes(s);
	engine_end(s);
	s->mail.n = 0;
	memset(s->is_cut, 0, sizeof(s->is_cut));
	engine_begin(s);
	for (unsigned w = 0; w < SIM_WORKERS; w++) {
		if (s->health[w] != SIM_UP)
			continue;
		worker_join(s, w);
		worker_hello(s, w);
	}
	/* Some builds' results may be of workers that are not back. */
	BXC_ARR_FOREACH (b, &s->builds) {
		b->is_done = false;
		build_begin(s, b);
	}
}
