/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workers keep, asked of all of them, and what somebody wants gone. Each answers for itself;
 * one that does not is named, and not waited for for ever.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define ANSWER_NS   (120 * BXC_NS_PER_S) /* measuring cache mounts takes a while */
#define ITEMS_MAX   1000000u		 /* of all answers together */
#define ASKING_MAX  16u
#define STRINGS_MAX 10000u

struct asked {
	uint64_t worker;
	char *name;
	bool has_answered;
	bxc_json *items; /* array */
	char *error;
};

struct asking {
	bxc_build *e;
	uint64_t id;
	BXC_ARR(struct asked) workers;
	size_t n_items;
	bxc_loop_timer *timer;
	bxc_build_usage_done done;
	void *ud;
};

static void asking_free(struct asking *a)
{
	BXC_ARR_FOREACH (w, &a->workers) {
		free(w->name);
		free(w->error);
		bxc_json_free(w->items);
	}
	bxc_arr_done(&a->workers);
	bxc_loop_timer_free(a->timer);
	free(a);
}

static void finish(struct asking *a)
{
	bxc_build *e = a->e;
	bxc_json *j = bxc_json_object();
	bxc_json *list = bxc_json_add_array(j, "workers");
	BXC_ARR_FOREACH (w, &a->workers) {
		bxc_json *o = bxc_json_push_object(list);
		bxc_json_set_str(o, "name", w->name);
		bxc_json_set_str(o, "error",
			w->error	  ? w->error
			: w->has_answered ? NULL
					  : "it did not answer");
		bxc_json_set_take(o, "items", w->items ? BXC_TAKE(w->items) : bxc_json_array());
	}
	for (size_t i = 0; i < e->askings.n; i++)
		if (e->askings.v[i] == a) {
			bxc_arr_remove(&e->askings, i);
			break;
		}
	a->done(j, NULL, a->ud);
	asking_free(a);
}

static bool is_answered(const struct asking *a)
{
	BXC_ARR_FOREACH (w, &a->workers)
		if (!w->has_answered && !w->error)
			return false;
	return true;
}

static void on_late(void *ud)
{
	finish(ud);
}

/* Layers that live builds have in their results. */
static bxc_json *needed_layers(bxc_build *e)
{
	BXC_CLEANUP(bxc_map_freep) bxc_map *seen = bxc_map_new(NULL);
	bxc_json *list = bxc_json_array();
	BXC_MAP_FOREACH (it, e->records) {
		const record *r = it.value;
		if (!bxc_solve_uses_record(e->solve, r->id))
			continue;
		BXC_ARR_FOREACH (l, &r->layers)
			if (!bxc_map_add(seen, (*l)->id, e))
				bxc_json_push_str(list, (*l)->id);
	}
	return list;
}

static int copy_strings(const bxc_json *from, const char *key, bxc_json *to, bxc_err **err)
{
	BXC_AUTOSTRV char **v = NULL;
	int r = bxc_json_get_strv(from, key, &v, err);
	if (r >= 0 && bxc_strv_len(v) > STRINGS_MAX)
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s: more than %u", key, STRINGS_MAX);
	if (r >= 0 && v)
		bxc_json_set_strv(to, key, v);
	return r;
}

/* Only what workers know is passed on. */
static int question(bxc_build *e, const bxc_json *wish, bxc_json *q, bxc_err **err)
{
	static const char *const numbers[] = {"max_used", "min_free", "reserved"};
	bxc_json_set_str(q, "type", wish ? "prune" : "usage");
	if (!wish)
		return 0;
	int r = copy_strings(wish, "kinds", q, err);
	if (r >= 0)
		r = copy_strings(wish, "ids", q, err);
	for (size_t i = 0; r >= 0 && i < BXC_ARRAY_SIZE(numbers); i++)
		bxc_json_set_u64(q, numbers[i], bxc_json_get_u64(wish, numbers[i], 0));
	if (r >= 0) {
		bxc_json_set_ns(q, "unused_ns", bxc_json_get_i64(wish, "unused_ns", 0));
		bxc_json_set_take(q, "keep", needed_layers(e));
	}
	return r < 0 ? bxc_err_wrap(err, r, "prune") : 0;
}

void bxc_build_usage(bxc_build *e, const bxc_json *wish, bxc_build_usage_done done, void *ud)
{
	BXC_AUTOJSON bxc_json *q = bxc_json_object();
	bxc_err *err = NULL;
	int r = e->askings.n < ASKING_MAX
			? question(e, wish, q, &err)
			: bxc_err_set(&err, BXC_RESOURCE_EXHAUSTED,
				  "workers are asked %u times already", ASKING_MAX);
	if (r < 0) {
		done(NULL, err, ud);
		return;
	}
	struct asking *a = bxc_calloc(1, sizeof(*a));
	*a = (struct asking){.e = e, .id = ++e->last_asking, .done = done, .ud = ud};
	*bxc_arr_push(&e->askings) = a;
	bxc_json_set_u64(q, "id", a->id);
	for (size_t i = 0; i < bxc_wrk_count(e->c.workers); i++) {
		bxc_wrk_worker *w = bxc_wrk_at(e->c.workers, i);
		*bxc_arr_push(&a->workers) =
			(struct asked){.worker = w->id, .name = bxc_strdup(w->name)};
		worker_send(w, bxc_json_dup(q));
	}
	a->timer = bxc_loop_timer_new(e->c.loop, on_late, a);
	/* Not within the caller's call. */
	bxc_loop_timer_arm(a->timer, a->workers.n ? ANSWER_NS : 0);
}

/* ---- answers ---- */

static struct asked *asked_of(bxc_build *e, uint64_t id, uint64_t worker, struct asking **ret)
{
	BXC_ARR_FOREACH (a, &e->askings) {
		if ((*a)->id != id)
			continue;
		*ret = *a;
		BXC_ARR_FOREACH (w, &(*a)->workers)
			if (w->worker == worker && !w->has_answered && !w->error)
				return w;
	}
	return NULL;
}

int usage_message(bxc_build *e, const bxc_wrk_worker *w, const bxc_json *msg, bxc_err **err)
{
	struct asking *a = NULL;
	const bxc_json *items;
	int r = bxc_json_need_arr(msg, "items", &items, err);
	if (r < 0)
		return r;
	struct asked *k = asked_of(e, bxc_json_get_u64(msg, "id", 0), w->id, &a);
	if (!k)
		return 0;
	if (!k->items)
		k->items = bxc_json_array();
	BXC_JSON_FOREACH (i, items)
		if (a->n_items++ < ITEMS_MAX)
			bxc_json_push_take(k->items, bxc_json_dup(i));
	if (bxc_json_get_bool(msg, "more", false))
		return 0;
	k->has_answered = true;
	k->error = bxc_strdup(bxc_json_get_str(msg, "error", NULL));
	if (is_answered(a))
		finish(a);
	return 0;
}

void usage_worker_left(bxc_build *e, const bxc_wrk_worker *w)
{
	for (size_t i = e->askings.n; i-- > 0;) {
		struct asking *a = e->askings.v[i];
		BXC_ARR_FOREACH (k, &a->workers)
			if (k->worker == w->id && !k->has_answered && !k->error)
				k->error = bxc_strdup("it has gone");
		if (is_answered(a))
			finish(a);
	}
}

void usage_stop(bxc_build *e)
{
	while (e->askings.n)
		finish(e->askings.v[0]);
}
