/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps that take workers down. A command that was running on a worker when that was lost is
 * suspected; the third time its build fails, and the step (by the key that equal work is recognised
 * by) is quarantined for a while: no build may run it, so that it does not cost the whole farm. A
 * success clears it. Kept as the setting "steps.suspect".
 */
#include "coordinator/build/build_internal.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define SETTING	     "steps.suspect"
#define MAX_SUSPECTS 256u /* the one seen longest ago makes room */
#define MAX_LOSSES   BXC_SOLVE_MAX_ATTEMPTS

struct suspect {
	bxc_digest key;
	char *name;	  /* of the step, as the latest build calls it */
	char **workers;	  /* names, one for each loss */
	int64_t last_ns;  /* wall clock: of the latest loss */
	int64_t until_ns; /* quarantined until then; 0: only suspected */
};

void suspect_free(void *p)
{
	struct suspect *s = p;
	free(s->name);
	bxc_strv_free(s->workers);
	free(s);
}

static struct suspect *find(const bxc_build *e, const bxc_digest *key)
{
	char text[BXC_DIGEST_STR_MAX];
	return bxc_map_get(e->suspects, bxc_digest_str(key, text));
}

static void drop(bxc_build *e, const struct suspect *s)
{
	char text[BXC_DIGEST_STR_MAX];
	bxc_map_del(e->suspects, bxc_digest_str(&s->key, text));
}

/* What is suspected for longer than a quarantine lasts is forgotten, as what is quarantined. */
static void expire(bxc_build *e, int64_t now)
{
	BXC_MAP_FOREACH (it, e->suspects) {
		const struct suspect *s = it.value;
		int64_t end =
			s->until_ns ? s->until_ns
				    : s->last_ns + BXC_MAX(e->c.quarantine_ns, BXC_NS_PER_S * 3600);
		if (end <= now)
			bxc_map_del(e->suspects, it.key);
	}
}

/* ---- the store ---- */

static void keep_work(bxc_state *st, void *ud)
{
	char *text = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	/* Without it a step may take down as many workers again after a restart. */
	if (bxc_state_setting_set(st, SETTING, text, &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "suspects.not_recorded", err, NULL);
	free(text);
}

static void keep(bxc_build *e)
{
	BXC_AUTOJSON bxc_json *list = bxc_json_array();
	char text[BXC_DIGEST_STR_MAX];
	BXC_MAP_FOREACH (it, e->suspects) {
		const struct suspect *s = it.value;
		bxc_json *o = bxc_json_push_object(list);
		bxc_json_set_str(o, "key", bxc_digest_str(&s->key, text));
		bxc_json_set_str(o, "name", s->name);
		bxc_json_set_strv(o, "workers", s->workers);
		bxc_json_set_ns(o, "last_ns", s->last_ns);
		bxc_json_set_ns(o, "until_ns", s->until_ns);
	}
	bxc_db_submit(e->c.db, keep_work, NULL, bxc_json_print(list));
}

static int read_one(bxc_build *e, const bxc_json *o, bxc_err **err)
{
	bxc_digest key;
	BXC_AUTOSTRV char **workers = NULL;
	int r = bxc_digest_parse(bxc_json_get_str(o, "key", ""), &key, err);
	if (r >= 0)
		r = bxc_json_get_strv(o, "workers", &workers, err);
	if (r < 0)
		return r;
	struct suspect *s = bxc_calloc(1, sizeof(*s));
	s->key = key;
	s->name = bxc_strdup(bxc_json_get_str(o, "name", ""));
	s->workers = BXC_TAKE(workers);
	s->last_ns = bxc_json_get_i64(o, "last_ns", 0);
	s->until_ns = bxc_json_get_i64(o, "until_ns", 0);
	char text[BXC_DIGEST_STR_MAX];
	bxc_map_set(e->suspects, bxc_digest_str(&key, text), s);
	return 0;
}

int suspects_load(bxc_build *e, bxc_state *st, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *list = NULL;
	int r = setting_json(st, SETTING, &list, err);
	BXC_JSON_FOREACH (o, list)
		if (r >= 0)
			r = read_one(e, o, err);
	return r;
}

/* ---- losses ---- */

static struct suspect *suspect_get(bxc_build *e, const bxc_digest *key)
{
	struct suspect *s = find(e, key);
	if (s)
		return s;
	if (bxc_map_len(e->suspects) >= MAX_SUSPECTS) {
		const struct suspect *oldest = NULL;
		BXC_MAP_FOREACH (it, e->suspects) {
			const struct suspect *o = it.value;
			if (!oldest || o->last_ns < oldest->last_ns)
				oldest = o;
		}
		drop(e, oldest);
	}
	char text[BXC_DIGEST_STR_MAX];
	s = bxc_calloc(1, sizeof(*s));
	s->key = *key;
	bxc_map_set(e->suspects, bxc_digest_str(key, text), s);
	return s;
}

static void suspect_add(bxc_build *e, const task *t, const bxc_wrk_worker *w, int64_t now)
{
	struct suspect *s = suspect_get(e, &t->key);
	free(s->name);
	s->name = bxc_strdup(t->title ? t->title : "");
	bxc_strv_push(&s->workers, w->name);
	s->last_ns = now;
	if (bxc_strv_len(s->workers) >= MAX_LOSSES)
		s->until_ns = now + BXC_MAX(e->c.quarantine_ns, INT64_C(1));
	bxc_log(BXC_LOG_WARN, s->until_ns ? "step.quarantined" : "step.suspected", "step", s->name,
		"worker", w->name, NULL);
}

void suspects_worker_left(bxc_build *e, const bxc_wrk_worker *w)
{
	int64_t now = bxc_clock_wall_ns();
	bool any = false;
	/* One that was told to stop was not taken down. */
	if (w->is_leaving)
		return;
	expire(e, now);
	BXC_MAP_FOREACH (it, e->tasks) {
		const task *t = it.value;
		if (t->worker != w->id || !t->is_command || !t->is_started)
			continue;
		suspect_add(e, t, w, now);
		any = true;
	}
	if (any)
		keep(e);
}

bxc_err *quarantine_error(bxc_build *e, const bxc_digest *key)
{
	const struct suspect *s = find(e, key);
	if (!s || !s->until_ns)
		return NULL;
	bxc_err *err = NULL;
	BXC_AUTOFREE char *names = bxc_strv_join(s->workers, ", ");
	BXC_AUTOFREE char *until = bxc_clock_rfc3339(s->until_ns);
	bxc_ignore(bxc_err_set(&err, BXC_ABORTED,
		"the step took down %zu workers while it ran (%.512s): it is in quarantine until "
		"%s and not tried again before "
		"(what else ran there may have been the cause; a change of the step ends it)",
		bxc_strv_len(s->workers), names, until));
	bxc_err_detail(err, "quarantined_until", "%s", until);
	return err;
}

bool quarantine_refuses(bxc_build *e, const bxc_solve_action *a)
{
	if (bxc_map_len(e->suspects) == 0 || a->def->kind != BXC_OP_EXEC)
		return false;
	const struct suspect *s = find(e, &a->key);
	if (!s || !s->until_ns)
		return false;
	if (s->until_ns <= bxc_clock_wall_ns()) {
		drop(e, s);
		keep(e);
		return false;
	}
	bxc_solve_fail(e->solve, a->ticket, quarantine_error(e, &a->key), false);
	return true;
}

void suspect_clear(bxc_build *e, const task *t)
{
	const struct suspect *s = t->is_command ? find(e, &t->key) : NULL;
	if (!s)
		return;
	drop(e, s);
	keep(e);
}
