/* SPDX-License-Identifier: Apache-2.0 */
/* What happens, in an order that the random numbers choose; after each event all is checked. */
#include "integration/sim/sim_internal.h"

void violate(struct sim *s, const char *what, uint64_t id)
{
	if (!s->violation)
		s->violation = bxc_str_fmt("%s (%llu)", what, (unsigned long long)id);
}

/* ---- the log ---- */

void note(struct sim *s, const char *what, uint64_t a, uint64_t b)
{
	sim_log *l = s->log;
	if (!l)
		return;
	char **slot = &l->lines[l->n++ % SIM_LOG_LINES];
	free(*slot);
	*slot = bxc_str_fmt("%u: %s %llu%s%.0llu", s->stats.events, what, (unsigned long long)a,
		b ? ", worker " : "", (unsigned long long)b);
}

void sim_log_print(const sim_log *l)
{
	for (size_t i = l->n > SIM_LOG_LINES ? l->n - SIM_LOG_LINES : 0; i < l->n; i++)
		fprintf(stderr, "    %s\n", l->lines[i % SIM_LOG_LINES]);
}

void sim_log_done(sim_log *l)
{
	for (size_t i = 0; i < SIM_LOG_LINES; i++)
		free(l->lines[i]);
	*l = (sim_log){0};
}

/* ---- events ---- */

bool may(struct sim *s, sim_trouble t, unsigned percent)
{
	bool drawn = sim_chance(&s->rng, percent);
	return drawn && !s->is_calm && !(s->off & t);
}

void note_failure(struct sim *s)
{
	/* Which builds a failure reaches is the solver's business; that one is possible is noted
	 * for all. */
	BXC_ARR_FOREACH (b, &s->builds)
		b->may_fail = true;
}

static void add_build(struct sim *s)
{
	struct build *b = bxc_arr_push(&s->builds);
	*b = (struct build){.id = ++s->last_build};
	b->def = sim_def_random(
		&s->rng, b->id, 20, sim_chance(&s->rng, 20), sim_chance(&s->rng, 20));
	b->target = (uint32_t)b->def->vertices.n - 1;
	s->stats.builds++;
	note(s, "build begins", b->id, 0);
	build_begin(s, b);
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
	if (may(s, SIM_FAIL, 3)) {
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

/* False: none runs. */
static bool end_a_run(struct sim *s)
{
	size_t n = 0;
	BXC_ARR_FOREACH (r, &s->runs)
		n += !r->is_ended;
	if (n == 0)
		return false;
	size_t k = sim_rand(&s->rng, n), chosen = 0;
	for (size_t i = 0; i < s->runs.n; i++)
		if (!s->runs.v[i].is_ended && k-- == 0)
			chosen = i;
	bool fails = may(s, SIM_FAIL, 9);
	run_end(s, chosen, !fails, sim_chance(&s->rng, 67));
	return true;
}

static void end_a_build(struct sim *s)
{
	if (!s->builds.n)
		return;
	struct build *b = &s->builds.v[sim_rand(&s->rng, s->builds.n)];
	if (b->is_done) {
		s->stats.ok++;
		note(s, "build is over", b->id, 0);
		bxc_solve_release(s->solve, b->id);
		build_drop(s, b);
	} else if (may(s, SIM_CANCEL, 5)) {
		note(s, "client cancels build", b->id, 0);
		b->is_cancelled = true;
		bxc_solve_cancel(s->solve, b->id);
	}
}

static void trouble(struct sim *s)
{
	unsigned w = (unsigned)sim_rand(&s->rng, SIM_WORKERS);
	if (may(s, SIM_CRASH, 4)) {
		engine_crash(s);
	} else if (!s->n_stalled && may(s, SIM_SLOW, 15)) {
		s->stats.stalls++;
		s->n_stalled = 20 + (unsigned)sim_rand(&s->rng, 80);
		note(s, "the disk stands still for events", s->n_stalled, 0);
	} else if (s->is_cut[w] && sim_chance(&s->rng, 70)) {
		worker_heal(s, w, sim_chance(&s->rng, 50));
	} else if (s->health[w] == SIM_UP && !s->is_cut[w] && may(s, SIM_CUT, 25)) {
		worker_cut(s, w);
	} else if (s->health[w] != SIM_UP) {
		note(s, "worker joins", w + 1, 0);
		worker_join(s, w);
		worker_hello(s, w);
	} else if (may(s, SIM_FREEZE, 25)) {
		s->stats.freezes++;
		worker_leave(s, w, SIM_FROZEN);
	} else if (may(s, SIM_DIE, 30)) {
		s->stats.kills++;
		worker_leave(s, w, SIM_DEAD);
	}
}

static void deliver_one(struct sim *s)
{
	size_t i = sim_rand(&s->rng, s->mail.n);
	if (is_deliverable(s, &s->mail.v[i]))
		deliver(s, mail_first(s, i));
}

static void happen(struct sim *s)
{
	unsigned what = (unsigned)sim_rand(&s->rng, 100);
	if (what < 6 && !s->is_calm && s->builds.n < 12)
		add_build(s);
	else if (what < 12)
		end_a_build(s);
	else if (what < 15)
		trouble(s);
	else if (what < 17 && may(s, SIM_EVICT, 100))
		engine_evicts(s);
	else if (what < 55 && s->requests.n)
		answer(s, sim_rand(&s->rng, s->requests.n));
	else if (what < 70 && s->disk.n && !s->n_stalled)
		engine_writes(s);
	else if (what < 88 && s->mail.n)
		deliver_one(s);
	else
		end_a_run(s);
	s->n_stalled -= s->n_stalled > 0;
}

/* When nothing is under way, every build is done. */
static void check_progress(struct sim *s)
{
	bool live = false;
	BXC_ARR_FOREACH (b, &s->builds)
		live |= !b->is_done;
	if (!live)
		runs_unwanted(s);
	if (s->requests.n || s->tasks.n || s->disk.n || !live)
		return;
	violate(s, "a build stands still", s->builds.n);
}

static void step(struct sim *s)
{
	s->stats.events++;
	happen(s);
	take_actions(s);
	while (s->is_crashing && !s->violation) {
		engine_crash(s);
		take_actions(s);
	}
	if (!s->violation)
		check_farm(s);
	if (!s->violation)
		check_places(s);
	if (!s->violation)
		check_progress(s);
}

static void calm_down(struct sim *s)
{
	s->is_calm = true;
	s->n_stalled = 0;
	for (unsigned w = 0; w < SIM_WORKERS; w++)
		if (s->is_cut[w])
			worker_heal(s, w, false);
	for (unsigned w = 0; w < SIM_WORKERS; w++) {
		if (s->health[w] == SIM_UP)
			continue;
		worker_join(s, w);
		worker_hello(s, w);
	}
	take_actions(s);
	unsigned n = 0;
	while ((s->builds.n || s->mail.n || s->disk.n) && !s->violation) {
		step(s);
		if (++n > 200000)
			violate(s, "no end in sight", s->builds.n);
	}
	if (s->violation)
		return;
	if (bxc_solve_n_vertices(s->solve) || bxc_solve_n_builds(s->solve))
		violate(s, "vertices are left", bxc_solve_n_vertices(s->solve));
	if (s->tasks.n || bxc_sched_n_waiting(s->sched))
		violate(s, "tasks are left", s->tasks.n);
	if (s->runs.n)
		violate(s, "steps are left on workers", s->runs.n);
}

char *sim_run(uint64_t seed, unsigned steps, unsigned off, sim_log *log, sim_stats *ret)
{
	struct sim s = {.rng = {seed}, .off = off, .log = log};
	/* Less trouble at a time leaves room for more of its kind. */
	for (unsigned bit = 0; 1u << bit < SIM_ALL_TROUBLE; bit++)
		s.off |= sim_chance(&s.rng, 40) ? 1u << bit : 0;
	s.cache = bxc_map_new(free);
	engine_begin(&s);
	for (unsigned w = 0; w < SIM_WORKERS; w++)
		worker_join(&s, w);
	for (unsigned i = 0; i < steps && !s.violation; i++)
		step(&s);
	if (!s.violation)
		calm_down(&s);
	*ret = s.stats;
	engine_end(&s);
	bxc_map_free(s.cache);
	while (s.builds.n)
		build_drop(&s, &s.builds.v[0]);
	bxc_arr_done(&s.builds);
	bxc_arr_done(&s.tasks);
	bxc_arr_done(&s.records);
	bxc_arr_done(&s.requests);
	bxc_arr_done(&s.losses);
	bxc_arr_done(&s.disk);
	bxc_arr_done(&s.runs);
	bxc_arr_done(&s.mail);
	return s.violation;
}
