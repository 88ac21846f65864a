/* SPDX-License-Identifier: Apache-2.0 */
/* Cache mounts: where they live and who may use them now. */
#include "coordinator/scheduler/scheduler_internal.h"

void bxc_sched__cache_free(void *p)
{
	struct sched_cache *c = p;
	free(c->key);
	free(c);
}

static struct sched_cache *get(bxc_sched *s, const char *key)
{
	struct sched_cache *c = bxc_map_get(s->caches, key);
	if (c)
		return c;
	c = bxc_calloc(1, sizeof(*c));
	c->key = bxc_strdup(key);
	bxc_map_set(s->caches, key, c);
	return c;
}

static bool is_used(const struct sched_cache *c)
{
	return c->n_users[BXC_SCHED_SHARED] || c->n_users[BXC_SCHED_PRIVATE] ||
	       c->n_users[BXC_SCHED_LOCKED];
}

void bxc_sched_cache_at(bxc_sched *s, const char *cache, uint64_t worker)
{
	struct sched_worker *w = bxc_sched__find_worker(s, worker);
	if (!w)
		return;
	struct sched_cache *c = get(s, cache);
	if (!c->home)
		c->home = w;
	bxc_sched__touch(s, &s->at_caches);
}

uint64_t bxc_sched_cache_home(const bxc_sched *s, const char *cache)
{
	const struct sched_cache *c = bxc_map_get(s->caches, cache);
	return c && c->home ? c->home->id : 0;
}

void bxc_sched__caches_leave(bxc_sched *s, const struct sched_worker *w)
{
	BXC_MAP_FOREACH (it, s->caches) {
		struct sched_cache *c = it.value;
		if (c->home != w)
			continue;
		c->home = NULL;
		if (c->n_names == 0)
			bxc_map_del(s->caches, it.key);
	}
}

/* ---- tasks ---- */

void bxc_sched__caches_name(bxc_sched *s, struct sched_task *t, const bxc_sched_cache *in, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct sched_cache *c = get(s, in[i].key);
		struct sched_use *known = NULL;
		BXC_ARR_FOREACH (u, &t->caches)
			if (u->cache == c)
				known = u;
		/* Mounted twice by one step it is one folder; the stricter wish counts. */
		if (!known)
			*bxc_arr_push(&t->caches) = (struct sched_use){c, in[i].sharing};
		else if (in[i].sharing > known->sharing)
			known->sharing = in[i].sharing;
		c->n_names += !known;
	}
}

void bxc_sched__caches_unname(bxc_sched *s, struct sched_task *t)
{
	BXC_ARR_FOREACH (u, &t->caches)
		if (--u->cache->n_names == 0 && !u->cache->home)
			bxc_map_del(s->caches, u->cache->key);
	bxc_arr_done(&t->caches);
}

void bxc_sched__caches_take(struct sched_task *t)
{
	BXC_ARR_FOREACH (u, &t->caches) {
		if (!u->cache->home || !is_used(u->cache))
			u->cache->home = t->worker;
		u->cache->n_users[u->sharing]++;
	}
}

void bxc_sched__caches_give(bxc_sched *s, struct sched_task *t)
{
	BXC_ARR_FOREACH (u, &t->caches)
		u->cache->n_users[u->sharing]--;
	if (t->caches.n)
		bxc_sched__touch(s, &s->at_caches);
}

void bxc_sched__caches_forget_wishes(bxc_sched *s)
{
	BXC_MAP_FOREACH (it, s->caches)
		((struct sched_cache *)it.value)->is_wanted_alone = false;
}

/* Is the use that others make of the cache compatible with the one wished for? */
static bool may_use(const struct sched_cache *c, bxc_sched_sharing sharing)
{
	switch (sharing) {
	case BXC_SCHED_SHARED:
		return !c->n_users[BXC_SCHED_LOCKED] && !c->n_users[BXC_SCHED_PRIVATE] &&
		       !c->is_wanted_alone;
	case BXC_SCHED_LOCKED:
		return !is_used(c);
	case BXC_SCHED_PRIVATE:
		return true;
	}
	return true;
}

static bool shares(const struct sched_worker *w, const struct sched_cache *c)
{
	BXC_ARR_FOREACH (t, &w->running) {
		BXC_ARR_FOREACH (u, &(*t)->caches)
			if (u->cache == c && u->sharing == BXC_SCHED_SHARED)
				return true;
	}
	return false;
}

/* Where the cache is used now by others that share it, as far as the task could run there: that is
 * not the home when the home could not serve them. */
static struct sched_worker *find_sharer(
	const bxc_sched *s, const struct sched_cache *c, const struct sched_task *t)
{
	if (c->home && bxc_sched__class(c->home, t) && shares(c->home, c))
		return c->home;
	BXC_ARR_FOREACH (w, &s->workers)
		if (bxc_sched__class(*w, t) && shares(*w, c))
			return *w;
	return NULL;
}

bool bxc_sched__caches_allow(
	const bxc_sched *s, struct sched_task *t, int best, struct sched_worker **ret_home)
{
	*ret_home = NULL;
	BXC_ARR_FOREACH (u, &t->caches) {
		struct sched_cache *c = u->cache;
		if (!may_use(c, u->sharing)) {
			c->is_wanted_alone |= u->sharing == BXC_SCHED_LOCKED;
			return false;
		}
		/* In use: a folder of its own will do, wherever. */
		if (u->sharing == BXC_SCHED_PRIVATE && is_used(c))
			continue;
		struct sched_worker *at = is_used(c) ? find_sharer(s, c, t) : NULL;
		if (!at)
			at = c->home;
		/* While others use it there, a worse place is better than another folder. */
		int class = at ? bxc_sched__class(at, t) : 0;
		if (class == 0 || (class < best && !is_used(c)))
			continue;
		if (!*ret_home)
			*ret_home = at;
		else if (*ret_home != at && is_used(c))
			return false;
	}
	return true;
}
