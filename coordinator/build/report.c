/* SPDX-License-Identifier: Apache-2.0 */
/* What people see: events of builds, as PROTOCOL.md describes them. */
#include "coordinator/build/build_internal.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/codec/base64.h"

#define RUN_LOG_MAX (8u << 20)       /* bytes of events kept for builds that join a run later */

void report(build *b, bxc_json *j)
{
	if (bxc_str_eq(bxc_json_get_str(j, "type", ""), "vertex"))
		bxc_ignore(explain_number(b, bxc_json_get_str(j, "digest", "")));
	bxc_ev_append(b->engine->c.events, b->id, j);
}

bxc_json *warning_new(const build *b, const char *vertex, const char *text)
{
	if (told_warning(b, text))
		return NULL;
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "warning");
	bxc_json_set_str(j, "vertex", vertex);
	bxc_json_set_i64(j, "level", 1);
	bxc_json_set_str(j, "short", text);
	return j;
}

bxc_json *err_to_json(const bxc_err *err)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "code", bxc_code_name(bxc_err_code(err)));
	bxc_json_set_str(j, "message", bxc_err_text(err));
	bxc_json *d = bxc_json_add_object(j, "details");
	const char *k, *v;
	for (size_t i = 0; bxc_err_detail_at(err, i, &k, &v); i++)
		bxc_json_set_str(d, k, v);
	return j;
}

bxc_err *err_from_json(const bxc_json *j)
{
	bxc_err *err = NULL;
	bxc_code code = bxc_code_parse(bxc_json_get_str(j, "code", "UNKNOWN"));
	bxc_ignore(bxc_err_set(&err, code == BXC_OK ? BXC_UNKNOWN : code, "%.4096s", bxc_json_get_str(j, "message", "unknown error")));
	BXC_JSON_FOREACH (d, bxc_json_get(j, "details"))
		if (bxc_json_string(d))
			bxc_err_detail(err, bxc_json_key(d), "%.1024s", bxc_json_string(d));
	return err;
}

/* ---- steps of ours ---- */

static void report_internal(build *b, const internal_vertex *v, bool done, const bxc_err *err)
{
	if (v->is_silent && !err)
		return;
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "vertex");
	bxc_json_set_str(j, "digest", v->digest);
	bxc_json_set_str(j, "name", v->name);
	bxc_json_add_array(j, "inputs");
	bxc_json_set_bool(j, "internal", true);
	bxc_json_set_bool(j, "cached", false);
	bxc_json_set_ns(j, "started_ns", v->started_ns);
	if (done)
		bxc_json_set_ns(j, "completed_ns", bxc_clock_wall_ns());
	if (err)
		bxc_json_set_str(j, "error", bxc_err_text(err));
	report(b, j);
}

void internal_begin(build *b, internal_vertex *v, const char *name)
{
	const told_vertex *told = told_internal(b, name);
	v->is_silent = false;
	if (told && told->started_ns) {
		/* Told by an earlier run of the coordinator: it goes on, or was over already. */
		memcpy(v->digest, told->digest, BXC_MIN(strlen(told->digest) + 1, sizeof(v->digest) - 1));
		v->name = bxc_strdup(name);
		v->started_ns = told->started_ns;
		v->is_silent = told->is_completed;
		return;
	}
	uint8_t raw[32];
	bxc_rand_bytes(raw, sizeof(raw));
	bxc_digest d = bxc_digest_of(raw, sizeof(raw));
	bxc_digest_str(&d, v->digest);
	v->name = bxc_strdup(name);
	v->started_ns = bxc_clock_wall_ns();
	report_internal(b, v, false, NULL);
}

void report_vertex_status(build *b, const char *vertex, const char *id, uint64_t current, uint64_t total, int64_t started_ns, bool done)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "status");
	bxc_json_set_str(j, "vertex", vertex);
	bxc_json_set_str(j, "id", id);
	bxc_json_set_u64(j, "current", current);
	bxc_json_set_u64(j, "total", total);
	bxc_json_set_ns(j, "started_ns", started_ns);
	if (done)
		bxc_json_set_ns(j, "completed_ns", bxc_clock_wall_ns());
	report(b, j);
}

void internal_status(build *b, const internal_vertex *v, const char *id, uint64_t current, uint64_t total, bool done)
{
	if (!v->is_silent)
		report_vertex_status(b, v->digest, id, current, total, v->started_ns, done);
}

void internal_end(build *b, internal_vertex *v, const bxc_err *err)
{
	report_internal(b, v, true, err);
	free(v->name);
	v->name = NULL;
}

/* ---- steps of the definition ---- */

static run_log *run_get(bxc_build *e, uint64_t run, bool make)
{
	BXC_AUTOFREE char *k = num_key(run);
	run_log *l = bxc_map_get(e->runs, k);
	if (l || !make)
		return l;
	l = bxc_calloc(1, sizeof(*l));
	l->run = run;
	bxc_map_set(e->runs, k, l);
	return l;
}

const run_log *run_of(bxc_build *e, uint64_t run)
{
	return run_get(e, run, false);
}

void run_log_free(void *p)
{
	run_log *l = p;
	BXC_ARR_FOREACH (j, &l->events)
		bxc_json_free(*j);
	bxc_arr_done(&l->events);
	bxc_arr_done(&l->subs);
	bxc_arr_done(&l->avoid);
	free(l->worker);
	free(l);
}

static bxc_json *vertex_json(build *b, uint32_t index, const char *worker)
{
	const bxc_def_vertex *v = b->def->vertices.v[index];
	char d[BXC_DIGEST_STR_MAX];
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "vertex");
	bxc_json_set_str(j, "digest", bxc_digest_str(&v->digest, d));
	bxc_json_set_str(j, "name", v->meta.name ? v->meta.name : "");
	bxc_json *inputs = bxc_json_add_array(j, "inputs");
	BXC_ARR_FOREACH (in, &v->inputs)
		bxc_json_push_str(inputs, bxc_digest_str(&b->def->vertices.v[in->vertex]->digest, d));
	if (v->platform.os[0]) {
		BXC_AUTOFREE char *p = bxc_platform_str(&v->platform);
		bxc_json_set_str(j, "platform", p);
	}
	bxc_json_set_str(j, "stage", v->meta.stage);
	bxc_json_set_str(j, "worker", worker);
	if (v->meta.internal)
		bxc_json_set_bool(j, "internal", true);
	return j;
}

/* The event of a run as one build sees it: under the digest that its own definition has. */
static void relay(run_sub *sub, const bxc_json *ev)
{
	char d[BXC_DIGEST_STR_MAX];
	if (told_log(sub->build, ev))
		return;
	bxc_json *j = bxc_json_dup(ev);
	if (!bxc_json_get_str(j, "vertex", NULL))
		bxc_json_set_str(j, "vertex", bxc_digest_str(&sub->build->def->vertices.v[sub->def_index]->digest, d));
	report(sub->build, j);
}

/* What an earlier run of the coordinator told of the vertex, or NULL. */
static told_vertex *told_at(const build *b, uint32_t index)
{
	char d[BXC_DIGEST_STR_MAX];
	return b->told ? told_step(b, bxc_digest_str(&b->def->vertices.v[index]->digest, d)) : NULL;
}

static void set_started(build *b, uint32_t index)
{
	const told_vertex *told = told_at(b, index);
	if (!b->started_ns[index])
		b->started_ns[index] = told && told->started_ns ? told->started_ns : bxc_clock_wall_ns();
}

/* Its end was told before the restart; what ends after that is told as ever. */
static bool take_told_end(build *b, uint32_t index)
{
	told_vertex *told = told_at(b, index);
	if (!told || !told->is_completed)
		return false;
	told->is_completed = false;
	b->reported[index] = true;
	return true;
}

static void report_started(build *b, uint32_t index, const char *worker)
{
	bxc_json *j = vertex_json(b, index, worker);
	set_started(b, index);
	bxc_json_set_ns(j, "started_ns", b->started_ns[index]);
	bxc_json_set_bool(j, "cached", false);
	report(b, j);
}

void report_solver_event(bxc_build *e, const bxc_solve_action *a)
{
	build *b = build_by_num(e, a->build);
	/* Indices are of the definition that was given last. */
	if (!b || !b->def || a->build != b->num)
		return;
	run_log *l = a->run ? run_get(e, a->run, a->event == BXC_SOLVE_STARTED) : NULL;
	bxc_json *j = NULL;
	const told_vertex *ran;
	explain_event(b, a, l);
	switch (a->event) {
	case BXC_SOLVE_EVENT_NONE:
		return;
	case BXC_SOLVE_MISSED:
		expect_missed(b, a->def_index);
		return;
	case BXC_SOLVE_STARTED:
		if (!l)
			return;
		if (!l->vertex)
			l->vertex = a->vertex;
		for (size_t i = 0; i < l->subs.n; i++)
			if (l->subs.v[i].build == b && l->subs.v[i].def_index == a->def_index)
				return;
		*bxc_arr_push(&l->subs) = (run_sub){b, a->def_index};
		b->started_ns[a->def_index] = 0;
		/* A step is shown as running once a worker runs it; one that joins a run sees all of it. */
		if (l->worker)
			report_started(b, a->def_index, l->worker);
		BXC_ARR_FOREACH (ev, &l->events)
			relay(&l->subs.v[l->subs.n - 1], *ev);
		return;
	case BXC_SOLVE_CACHED:
		if (b->reported[a->def_index] || take_told_end(b, a->def_index))
			return;
		j = vertex_json(b, a->def_index, NULL);
		/* It ran for this build before the restart, and only the telling was left. */
		ran = told_at(b, a->def_index);
		bxc_json_set_ns(j, "started_ns", ran && ran->started_ns ? ran->started_ns : bxc_clock_wall_ns());
		bxc_json_set_ns(j, "completed_ns", bxc_clock_wall_ns());
		bxc_json_set_bool(j, "cached", !ran || !ran->started_ns);
		break;
	case BXC_SOLVE_DONE:
	case BXC_SOLVE_FAILED:
	case BXC_SOLVE_CANCELED:
		if (a->event == BXC_SOLVE_DONE && take_told_end(b, a->def_index))
			break;
		set_started(b, a->def_index);
		j = vertex_json(b, a->def_index, l ? l->worker : NULL);
		bxc_json_set_ns(j, "started_ns", b->started_ns[a->def_index]);
		bxc_json_set_ns(j, "completed_ns", bxc_clock_wall_ns());
		bxc_json_set_bool(j, "cached", false);
		if (a->event == BXC_SOLVE_FAILED) {
			bxc_json_set_str(j, "error", bxc_err_text(a->err));
			if (b->failed_vertex < 0)
				b->failed_vertex = a->def_index;
		} else if (a->event == BXC_SOLVE_CANCELED) {
			bxc_json_set_bool(j, "canceled", true);
			bxc_json_set_str(j, "error", "canceled");
		}
		break;
	}
	b->reported[a->def_index] = true;
	if (j)
		report(b, j);
	if (!l)
		return;
	for (size_t i = 0; i < l->subs.n; i++) {
		if (l->subs.v[i].build == b && l->subs.v[i].def_index == a->def_index) {
			bxc_arr_remove(&l->subs, i);
			break;
		}
	}
	if (l->subs.n == 0) {
		BXC_AUTOFREE char *k = num_key(l->run);
		bxc_map_del(e->runs, k);
	}
}

void report_missed(build *b, uint32_t index, const char *why)
{
	BXC_AUTOFREE char *text = bxc_str_fmt("not cached: %s", why);
	bxc_json *j = vertex_json(b, index, NULL);
	set_started(b, index);
	bxc_json_set_ns(j, "started_ns", b->started_ns[index]);
	bxc_json_set_ns(j, "completed_ns", bxc_clock_wall_ns());
	bxc_json_set_bool(j, "cached", false);
	bxc_json_set_str(j, "error", text);
	b->reported[index] = true;
	report(b, j);
}

void report_task_started(bxc_build *e, task *t, const char *worker)
{
	run_log *l = t->run ? run_get(e, t->run, false) : NULL;
	if (!l)
		return;
	free(l->worker);
	l->worker = bxc_strdup(worker);
	BXC_ARR_FOREACH (s, &l->subs)
		report_started(s->build, s->def_index, worker);
}

void report_task_event(bxc_build *e, task *t, bxc_json *j)
{
	bxc_json_set_str(j, "type", bxc_str_eq(bxc_json_get_str(j, "type", ""), "task.log") ? "log" : "status");
	/* With these a log is not told twice, should the coordinator restart meanwhile. */
	if (t->kind != TASK_RUN || !bxc_json_get(j, "n"))
		bxc_json_del(j, "task");
	bxc_json_del(j, "epoch");
	if (t->kind == TASK_EXPORT) {
		if (t->build && !bxc_json_get_str(j, "vertex", NULL))
			bxc_json_set_str(j, "vertex", t->build->exports.v[t->export_index].vertex.digest);
		if (t->build)
			report(t->build, j);
		else
			bxc_json_free(j);
		return;
	}
	run_log *l = t->run ? run_get(e, t->run, false) : NULL;
	if (!l) {
		bxc_json_free(j);
		return;
	}
	BXC_ARR_FOREACH (s, &l->subs)
		relay(s, j);
	size_t cost = 256 + strlen(bxc_json_get_str(j, "data", ""));
	if (l->bytes + cost > RUN_LOG_MAX) {
		bxc_json_free(j);
		return;
	}
	l->bytes += cost;
	*bxc_arr_push(&l->events) = j;
}

void run_starts_over(bxc_build *e, uint64_t vertex, uint64_t run)
{
	BXC_AUTOFREE char *k = num_key(run);
	if (bxc_map_has(e->runs, k))
		return;
	BXC_MAP_FOREACH (it, e->runs) {
		run_log *l = it.value;
		if (l->vertex != vertex)
			continue;
		bxc_map_take(e->runs, it.key);
		l->run = run;
		bxc_map_set(e->runs, k, l);
		return;
	}
}

void run_attempt_failed(bxc_build *e, uint64_t run, uint64_t worker, const bxc_err *err)
{
	run_log *l = run ? run_get(e, run, false) : NULL;
	if (!l)
		return;
	if (worker)
		*bxc_arr_push(&l->avoid) = worker;
	BXC_AUTOFREE char *text = bxc_str_fmt("%s\n", bxc_err_text(err));
	BXC_AUTOFREE char *data = bxc_base64_encode(text, strlen(text));
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "log");
	bxc_json_set_i64(j, "stream", 2);
	bxc_json_set_str(j, "data", data);
	bxc_json_set_ns(j, "time_ns", bxc_clock_wall_ns());
	BXC_ARR_FOREACH (s, &l->subs)
		relay(s, j);
	*bxc_arr_push(&l->events) = j;
}

void run_avoid(bxc_build *e, task *t)
{
	const run_log *l = t->run ? run_get(e, t->run, false) : NULL;
	for (size_t i = 0; l && i < l->avoid.n; i++)
		*bxc_arr_push(&t->avoid) = l->avoid.v[i];
}

build *run_other_build(bxc_build *e, uint64_t run, const build *b)
{
	run_log *l = run ? run_get(e, run, false) : NULL;
	for (size_t i = 0; l && i < l->subs.n; i++)
		if (l->subs.v[i].build != b)
			return l->subs.v[i].build;
	return NULL;
}

void runs_forget(bxc_build *e, build *b)
{
	BXC_MAP_FOREACH (it, e->runs) {
		run_log *l = it.value;
		for (size_t i = 0; i < l->subs.n;) {
			if (l->subs.v[i].build == b)
				bxc_arr_remove(&l->subs, i);
			else
				i++;
		}
		if (l->subs.n == 0)
			bxc_map_del(e->runs, it.key);
	}
}
