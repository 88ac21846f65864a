/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds of an earlier run of the coordinator. They are read from the store and begin anew, under
 * their ids, once the workers that were connected and their clients are back or the grace is over.
 * What they had told is read from their events, so that nothing is told twice.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define WORKERS_SETTING "connected_workers"

/* ---- what was told ---- */

static void told_vertex_free(void *p)
{
	told_vertex *v = p;
	free(v->digest);
	free(v->name);
	free(v);
}

void told_free(told_before *t)
{
	if (!t)
		return;
	bxc_map_free(t->by_digest);
	bxc_arr_done(&t->in_order);
	BXC_ARR_FOREACH (i, &t->images) {
		free(i->ref);
		free(i->platform);
		free(i->pinned);
	}
	bxc_arr_done(&t->images);
	bxc_map_free(t->logs);
	bxc_strv_free(t->warnings);
	free(t);
}

static void read_vertex(told_before *t, const bxc_json *ev)
{
	const char *digest = bxc_json_get_str(ev, "digest", "");
	told_vertex *v = bxc_map_get(t->by_digest, digest);
	if (!v) {
		v = bxc_calloc(1, sizeof(*v));
		v->digest = bxc_strdup(digest);
		v->name = bxc_strdup(bxc_json_get_str(ev, "name", ""));
		v->is_internal = bxc_json_get_bool(ev, "internal", false);
		bxc_map_set(t->by_digest, digest, v);
		*bxc_arr_push(&t->in_order) = v;
	}
	v->started_ns = bxc_json_get_i64(ev, "started_ns", v->started_ns);
	v->is_completed = bxc_json_get(ev, "completed_ns") != NULL;
}

static void read_event(told_before *t, const bxc_json *ev)
{
	const char *type = bxc_json_get_str(ev, "type", "");
	if (bxc_str_eq(type, "vertex")) {
		read_vertex(t, ev);
	} else if (bxc_str_eq(type, "log") && bxc_json_get_str(ev, "task", NULL)) {
		uint64_t n = bxc_json_get_u64(ev, "n", 0);
		bxc_map_set(t->logs, bxc_json_get_str(ev, "task", ""), bxc_memdup(&n, sizeof(n)));
	} else if (bxc_str_eq(type, "warning")) {
		bxc_strv_push(&t->warnings, bxc_json_get_str(ev, "short", ""));
	} else if (bxc_str_eq(type, "image")) {
		*bxc_arr_push(&t->images) = (told_image){
			bxc_strdup(bxc_json_get_str(ev, "ref", "")),
			bxc_strdup(bxc_json_get_str(ev, "platform", "")),
			bxc_strdup(bxc_json_get_str(ev, "pinned", "")),
		};
	}
}

told_vertex *told_step(const build *b, const char *digest)
{
	return b->told ? bxc_map_get(b->told->by_digest, digest) : NULL;
}

told_vertex *told_internal(const build *b, const char *name)
{
	if (!b->told)
		return NULL;
	BXC_ARR_FOREACH (p, &b->told->in_order) {
		told_vertex *v = *p;
		if (!v->is_internal || v->is_taken || !bxc_str_eq(v->name, name))
			continue;
		v->is_taken = true;
		return v;
	}
	return NULL;
}

bool told_log(const build *b, const bxc_json *ev)
{
	const char *name = b->told ? bxc_json_get_str(ev, "task", NULL) : NULL;
	const uint64_t *n = name ? bxc_map_get(b->told->logs, name) : NULL;
	return n && bxc_json_get_u64(ev, "n", UINT64_MAX) <= *n;
}

bool told_warning(const build *b, const char *text)
{
	return b->told && bxc_strv_has(b->told->warnings, text);
}

const char *told_pinned(const build *b, const char *ref, const bxc_platform *p)
{
	BXC_AUTOFREE char *platform = bxc_platform_str(p);
	if (!b->told)
		return NULL;
	BXC_ARR_FOREACH (i, &b->told->images)
		if (bxc_str_eq(i->ref, ref) && bxc_str_eq(i->platform, platform))
			return i->pinned;
	return NULL;
}

/* ---- the workers that were there ---- */

static void keep_work(bxc_state *st, void *ud)
{
	char *text = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_state_setting_set(st, WORKERS_SETTING, text, &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "workers.not_recorded", err, NULL);
	free(text);
}

void workers_changed(bxc_build *e)
{
	BXC_AUTOJSON bxc_json *list = bxc_json_array();
	for (size_t i = 0; i < bxc_wrk_count(e->c.workers); i++)
		bxc_json_push_str(list, bxc_wrk_at(e->c.workers, i)->name);
	/* Those that are awaited still count, should this run end before they are back. */
	for (char **n = e->awaited; n && *n; n++)
		bxc_json_push_str(list, *n);
	bxc_db_submit(e->c.db, keep_work, NULL, bxc_json_print(list));
}

int setting_json(bxc_state *st, const char *key, bxc_json **ret, bxc_err **err)
{
	BXC_AUTOFREE char *text = NULL;
	int r = bxc_state_setting_get(st, key, &text, err);
	if (r > 0)
		r = bxc_json_parse(bxc_slice_of(text, strlen(text)), ret, err);
	return r < 0 ? bxc_err_wrap(err, r, "setting '%s'", key) : 0;
}

static int read_workers(bxc_build *e, bxc_state *st, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *list = NULL;
	int r = setting_json(st, WORKERS_SETTING, &list, err);
	BXC_JSON_FOREACH (n, list)
		if (bxc_json_string(n) && !bxc_strv_has(e->awaited, bxc_json_string(n)))
			bxc_strv_push(&e->awaited, bxc_json_string(n));
	return r;
}

/* ---- going on ---- */

static void go_on(build *b)
{
	if (!b->is_waiting || b->awaits_client || !b->engine->is_settled)
		return;
	b->is_waiting = false;
	bxc_log(BXC_LOG_NOTICE, "build.resumed", "build", b->id, NULL);
	build_start(b);
}

static void settle(bxc_build *e)
{
	if (e->is_settled)
		return;
	e->is_settled = true;
	bxc_strv_free(e->awaited);
	e->awaited = NULL;
	BXC_ARR(build *) waiting = {0};
	BXC_MAP_FOREACH (it, e->builds) {
		build *b = it.value;
		if (b->is_waiting)
			*bxc_arr_push(&waiting) = b;
	}
	BXC_ARR_FOREACH (b, &waiting)
		go_on(*b);
	bxc_arr_done(&waiting);
}

void worker_is_back(bxc_build *e, const char *name)
{
	char **left = NULL;
	for (char **n = e->awaited; n && *n; n++)
		if (!bxc_str_eq(*n, name))
			bxc_strv_push(&left, *n);
	bxc_strv_free(e->awaited);
	e->awaited = left;
	if (!left)
		settle(e);
}

void bxc_build_session_back(bxc_build *e, const char *id, const char *session)
{
	build *b = bxc_map_get(e->builds, id);
	if (!b || !b->session || !bxc_str_eq(bxc_sess_id(b->session), session))
		return;
	b->awaits_client = false;
	go_on(b);
}

void resume_ended(build *b)
{
	bxc_build *e = b->engine;
	bool other = false;
	b->is_waiting = false;
	BXC_MAP_FOREACH (it, e->builds) {
		const build *o = it.value;
		other |= o != b && o->session && b->session &&
			 bxc_str_eq(bxc_sess_id(o->session), bxc_sess_id(b->session));
	}
	/* Nobody waits for that client any more. */
	if (b->awaits_client && !other)
		bxc_sess_remove(e->c.sessions, bxc_sess_id(b->session));
	if (--e->n_resumed == 0)
		attempts_over(e);
}

void resume_grace_over(void *ud)
{
	bxc_build *e = ud;
	settle(e);
	BXC_ARR(build *) orphans = {0};
	BXC_MAP_FOREACH (it, e->builds) {
		build *b = it.value;
		if (b->is_waiting && b->awaits_client)
			*bxc_arr_push(&orphans) = b;
	}
	BXC_ARR_FOREACH (p, &orphans) {
		build *b = *p;
		bxc_err *err = NULL;
		b->canceled = true;
		bxc_ignore(bxc_err_set(&err, BXC_CANCELED,
			"the coordinator was restarted and the client did not come back"));
		build_fail(b, err);
	}
	bxc_arr_done(&orphans);
}

/* ---- reading them ---- */

static int read_events(bxc_state *st, const char *id, bxc_state_events *all, bxc_err **err)
{
	for (;;) {
		bxc_state_events page = {0};
		int r = bxc_state_events_read(
			st, id, all->items.n + 1, BXC_STATE_LIMIT_LIST, &page, err);
		size_t n = page.items.n;
		BXC_ARR_FOREACH (ev, &page.items) {
			*bxc_arr_push(&all->items) = *ev;
			ev->text = NULL;
		}
		bxc_state_events_done(&page);
		if (r < 0 || n < BXC_STATE_LIMIT_LIST)
			return r < 0 ? r : 0;
	}
}

/* The build had ended, only its row does not say so yet. */
static int end_row(bxc_state *st, const char *id, const bxc_json *done, bxc_err **err)
{
	const bxc_json *error = bxc_json_get(done, "error"), *result = bxc_json_get(done, "result");
	BXC_AUTOFREE char *error_text = error ? bxc_json_print(error) : NULL;
	BXC_AUTOFREE char *result_text = result ? bxc_json_print(result) : NULL;
	return bxc_state_build_update(st, id, bxc_json_get_str(done, "status", "failed"),
		bxc_clock_wall_ns(), error_text, result_text, err);
}

static told_before *read_told(const bxc_state_events *events, bxc_json **ret_done)
{
	told_before *t = bxc_calloc(1, sizeof(*t));
	t->by_digest = bxc_map_new(told_vertex_free);
	t->logs = bxc_map_new(free);
	BXC_ARR_FOREACH (ev, &events->items) {
		BXC_AUTOJSON bxc_json *j = NULL;
		if (bxc_json_parse(bxc_slice_of(ev->text, strlen(ev->text)), &j, NULL) < 0)
			continue;
		if (bxc_str_eq(bxc_json_get_str(j, "type", ""), "build.done")) {
			bxc_json_free(*ret_done);
			*ret_done = BXC_TAKE(j);
		} else {
			read_event(t, j);
		}
	}
	return t;
}

static void read_cluster(build *b)
{
	BXC_JSON_FOREACH (p, bxc_json_get(b->request, "build_platforms")) {
		bxc_platform plat;
		if (bxc_json_string(p) && bxc_platform_parse(bxc_json_string(p), &plat, NULL) >= 0)
			*bxc_arr_push(&b->build_platforms) = plat;
	}
}

static int resume(bxc_build *e, bxc_state *st, const bxc_state_build *row, bxc_err **err)
{
	bxc_state_events events = {0};
	BXC_AUTOJSON bxc_json *done = NULL, *request = NULL;
	int r = read_events(st, row->id, &events, err);
	if (r < 0) {
		bxc_state_events_done(&events);
		return r;
	}
	told_before *t = read_told(&events, &done);
	if (done) {
		told_free(t);
		bxc_state_events_done(&events);
		return end_row(st, row->id, done, err);
	}
	bxc_err *why = NULL;
	bxc_ignore(
		bxc_json_parse(bxc_slice_of(row->request, strlen(row->request)), &request, &why));
	build *b =
		build_new(e, request ? BXC_TAKE(request) : bxc_json_object(), bxc_strdup(row->id));
	b->created_ns = row->created_ns;
	b->told = t;
	b->is_waiting = true;
	if (!why)
		bxc_ignore(build_read(b, &why));
	read_cluster(b);
	const char *session = bxc_json_get_str(b->request, "session", NULL);
	if (session) {
		b->session = bxc_sess_expect(e->c.sessions, session);
		b->awaits_client = true;
	}
	bxc_ev_reopen(e->c.events, b->id, &events);
	build_enter(b);
	e->n_resumed++;
	bxc_log(BXC_LOG_NOTICE, "build.recovered", "build", b->id, NULL);
	if (why)
		build_fail(b, why);
	return 0;
}

int bxc_build_recover(bxc_build *e, bxc_err **err)
{
	bxc_state *st = bxc_db_state(e->c.db);
	bxc_state_builds list = {0};
	const bxc_state_build_filter f = {.status = "running", .limit = BXC_STATE_LIMIT_LIST};
	int r = bxc_state_build_list(st, &f, &list, err);
	if (r >= 0)
		r = read_workers(e, st, err);
	if (r >= 0)
		r = attempts_load(e, st, err);
	if (r >= 0)
		r = durations_load(e, st, err);
	if (r >= 0)
		r = drained_load(e, st, err);
	if (r >= 0)
		r = suspects_load(e, st, err);
	BXC_ARR_FOREACH (row, &list.items)
		if (r >= 0)
			r = resume(e, st, row, err);
	bxc_state_builds_done(&list);
	if (r < 0)
		return bxc_err_wrap(err, r, "builds of an earlier run");
	if (!e->n_resumed) {
		attempts_over(e);
		bxc_strv_free(e->awaited);
		e->awaited = NULL;
		e->is_settled = true;
		return 0;
	}
	if (!e->awaited)
		settle(e);
	bxc_loop_timer_arm(e->grace, e->c.peer_grace_ns);
	return 0;
}
