/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cache mounts over builds and restarts: which worker is home to each (the scheduler decides, by
 * id), and its generation. A build that ignores the cache begins a new generation of every cache
 * mount that its ignoring steps name, before it runs: the folders of older ones are not used again.
 * What is known of an id is kept as the setting "cache-mount/<sha256 of the id>".
 */
#include "coordinator/build/build_internal.h"

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

void cache_mount_free(void *p)
{
	cache_mount *c = p;
	free(c->id);
	free(c->home);
	free(c);
}

static char *setting_of(const char *id)
{
	bxc_digest d = bxc_digest_of_str(id);
	char text[BXC_DIGEST_STR_MAX];
	return bxc_str_fmt("cache-mount/%s", bxc_digest_str(&d, text) + strlen("sha256:"));
}

static char *to_text(uint64_t generation, const char *home)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_u64(j, "generation", generation);
	bxc_json_set_str(j, "home", home);
	return bxc_json_print(j);
}

static void from_text(const char *text, uint64_t *ret_generation, char **ret_home)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	if (bxc_json_parse(bxc_slice_of(text, strlen(text)), &j, NULL) < 0)
		return;
	*ret_generation = bxc_json_get_u64(j, "generation", 0);
	*ret_home = bxc_strdup(bxc_json_get_str(j, "home", NULL));
}

/* ---- before a build runs ---- */

struct wanted {
	char *id;
	bool renew;
	uint64_t generation; /* as found, then as it is from now on */
	char *home;
};

struct loading {
	build *b;
	BXC_ARR(struct wanted) items;
	void (*then)(build *b);
	bxc_err *err;
};

static int read_setting(
	bxc_state *st, const char *key, uint64_t *ret_generation, char **ret_home, bxc_err **err)
{
	BXC_AUTOFREE char *text = NULL;
	int r = bxc_state_setting_get(st, key, &text, err);
	if (r > 0)
		from_text(text, ret_generation, ret_home);
	return r < 0 ? r : 0;
}

static int load_one(bxc_state *st, struct wanted *w, bxc_err **err)
{
	BXC_AUTOFREE char *key = setting_of(w->id);
	int r = read_setting(st, key, &w->generation, &w->home, err);
	if (r < 0 || !w->renew)
		return r;
	w->generation++;
	BXC_AUTOFREE char *now = to_text(w->generation, w->home);
	return bxc_state_setting_set(st, key, now, err);
}

static void load_work(bxc_state *st, void *ud)
{
	struct loading *l = ud;
	BXC_ARR_FOREACH (w, &l->items)
		if (load_one(st, w, &l->err) < 0)
			return;
}

static void tell_home(bxc_build *e, const cache_mount *c)
{
	bxc_wrk_worker *w = c->home ? bxc_wrk_by_name(e->c.workers, c->home) : NULL;
	if (w)
		bxc_sched_cache_at(e->sched, c->id, w->id);
}

static void load_done(void *ud)
{
	struct loading *l = ud;
	build *b = l->b;
	bxc_build *e = b->engine;
	bxc_err *err = BXC_TAKE(l->err);
	BXC_ARR_FOREACH (w, &l->items) {
		cache_mount *c = bxc_map_get(e->cache_mounts, w->id);
		if (!c && !err) {
			c = bxc_calloc(1, sizeof(*c));
			c->id = BXC_TAKE(w->id);
			c->home = BXC_TAKE(w->home);
			bxc_map_set(e->cache_mounts, c->id, c);
			tell_home(e, c);
		}
		/* Builds renew one after another; the last one's word holds. */
		if (c && !err)
			c->generation = BXC_MAX(c->generation, w->generation);
		free(w->id);
		free(w->home);
	}
	bxc_arr_done(&l->items);
	b->jobs--;
	if (b->dead) {
		bxc_err_free(err);
		build_job_done(b);
	} else if (err) {
		bxc_ignore(bxc_err_wrap(&err, 0, "cache mounts"));
		build_fail(b, err);
	} else {
		l->then(b);
	}
	free(l);
}

static void want(bxc_build *e, struct loading *l, const bxc_op_mount *m, bool renew)
{
	BXC_ARR_FOREACH (w, &l->items) {
		if (bxc_str_eq(w->id, cache_id_of(m))) {
			w->renew |= renew;
			return;
		}
	}
	if (renew || !bxc_map_has(e->cache_mounts, cache_id_of(m)))
		*bxc_arr_push(&l->items) =
			(struct wanted){.id = bxc_strdup(cache_id_of(m)), .renew = renew};
}

const char *cache_id_of(const bxc_op_mount *m)
{
	return m->cache_id ? m->cache_id : m->dest;
}

void caches_prepare(build *b, void (*then)(build *b))
{
	struct loading *l = bxc_calloc(1, sizeof(*l));
	l->b = b;
	l->then = then;
	for (size_t i = 0; i < b->def->vertices.n; i++) {
		const bxc_def_vertex *v = b->def->vertices.v[i];
		if (v->kind != BXC_OP_EXEC)
			continue;
		BXC_ARR_FOREACH (m, &v->op.exec.mounts)
			if (m->kind == BXC_MOUNT_CACHE)
				want(b->engine, l, m, v->meta.ignore_cache && !b->told);
	}
	if (l->items.n == 0) {
		free(l);
		then(b);
		return;
	}
	b->jobs++;
	bxc_db_submit(b->engine->c.db, load_work, load_done, l);
}

/* ---- homes ---- */

void caches_worker_joined(bxc_build *e, const bxc_wrk_worker *w)
{
	BXC_MAP_FOREACH (it, e->cache_mounts) {
		const cache_mount *c = it.value;
		if (bxc_str_eq(c->home, w->name))
			bxc_sched_cache_at(e->sched, c->id, w->id);
	}
}

struct keep {
	char *key;
	char *home;
};

static void keep_work(bxc_state *st, void *ud)
{
	struct keep *k = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *old = NULL;
	uint64_t generation = 0;
	/* The generation is as the store has it: a build may have begun a new one since. */
	int r = read_setting(st, k->key, &generation, &old, &err);
	if (r >= 0) {
		BXC_AUTOFREE char *text = to_text(generation, k->home);
		r = bxc_state_setting_set(st, k->key, text, &err);
	}
	/* Without it the next coordinator looks for a home anew: no harm but an empty folder. */
	if (r < 0)
		bxc_log_err(BXC_LOG_WARN, "cache_mount.not_recorded", err, NULL);
	free(k->key);
	free(k->home);
	free(k);
}

void caches_placed(bxc_build *e, const task *t)
{
	BXC_ARR_FOREACH (use, &t->caches) {
		cache_mount *c = bxc_map_get(e->cache_mounts, use->key);
		uint64_t home = c ? bxc_sched_cache_home(e->sched, c->id) : 0;
		const bxc_wrk_worker *w = home ? bxc_wrk_get(e->c.workers, home) : NULL;
		if (!w || bxc_str_eq(w->name, c->home))
			continue;
		free(c->home);
		c->home = bxc_strdup(w->name);
		struct keep *k = bxc_calloc(1, sizeof(*k));
		k->key = setting_of(c->id);
		k->home = bxc_strdup(c->home);
		bxc_db_submit(e->c.db, keep_work, NULL, k);
	}
}

uint64_t cache_generation(bxc_build *e, const bxc_op_mount *m)
{
	const cache_mount *c = bxc_map_get(e->cache_mounts, cache_id_of(m));
	return c ? c->generation : 0;
}
