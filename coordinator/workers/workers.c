/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/workers/workers.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define MAX_PLATFORMS 64u
#define MAX_SLOTS     1024u
#define MAX_LAYERS    1000000u
#define BANDWIDTH_MAX UINT64_C(1000000000000) /* bytes/s; beyond it a clock is wrong */

struct bxc_wrk {
	BXC_ARR(bxc_wrk_worker *) all;
	uint64_t last_id;
};

static void worker_free(bxc_wrk_worker *w)
{
	bxc_map_free(w->layers);
	bxc_arr_done(&w->platforms);
	bxc_arr_done(&w->emulated);
	free(w->name);
	free(w->version);
	free(w->peer_url);
	free(w->peer);
	free(w);
}

bxc_wrk *bxc_wrk_new(void)
{
	return bxc_calloc(1, sizeof(bxc_wrk));
}

void bxc_wrk_free(bxc_wrk *w)
{
	if (!w)
		return;
	BXC_ARR_FOREACH (p, &w->all)
		worker_free(*p);
	bxc_arr_done(&w->all);
	free(w);
}

static int read_platforms(const bxc_json *hello, const char *key, bxc_wrk_platforms *ret, bxc_err **err)
{
	BXC_AUTOSTRV char **list = NULL;
	int r = bxc_json_get_strv(hello, key, &list, err);
	if (r < 0)
		return r;
	if (bxc_strv_len(list) > MAX_PLATFORMS)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s: more than %u platforms", key, MAX_PLATFORMS);
	for (char **p = list; p && *p; p++) {
		bxc_platform plat;
		r = bxc_platform_parse(*p, &plat, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "%s", key);
		*bxc_arr_push(ret) = plat;
	}
	return 0;
}

static int read_hello(const bxc_json *hello, bxc_wrk_worker *w, bxc_err **err)
{
	uint64_t slots;
	int r = bxc_json_need_u64(hello, "slots", MAX_SLOTS, &slots, err);
	if (r < 0)
		return r;
	r = read_platforms(hello, "platforms", &w->platforms, err);
	if (r >= 0)
		r = read_platforms(hello, "emulated", &w->emulated, err);
	if (r < 0)
		return r;
	if (w->platforms.n == 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "platforms: a worker has at least one");
	w->slots = (uint32_t)BXC_MAX(slots, (uint64_t)1);
	w->version = bxc_strdup(bxc_json_get_str(hello, "version", ""));
	w->peer_url = bxc_strdup(bxc_json_get_str(hello, "peer_url", NULL));
	w->is_leaving = bxc_json_get_bool(hello, "leaving", false);
	const bxc_json *layers = bxc_json_get(hello, "layers");
	if (bxc_json_len(layers) > MAX_LAYERS)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "layers: more than %u", MAX_LAYERS);
	BXC_JSON_FOREACH (l, layers) {
		const char *id;
		r = bxc_json_need_str(l, "id", &id, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "layers");
		bxc_wrk_layer_at(w, id, bxc_json_get_u64(l, "size", 0));
	}
	return 0;
}

int bxc_wrk_add(bxc_wrk *w, const bxc_json *hello, const char *name, const char *peer, bxc_chan *chan,
	bxc_wrk_worker **ret, bxc_err **err)
{
	bxc_wrk_worker *n = bxc_calloc(1, sizeof(*n));
	n->layers = bxc_map_new(free);
	n->name = bxc_strdup(name);
	n->peer = bxc_strdup(peer);
	n->chan = chan;
	n->is_up = true;
	int r = read_hello(hello, n, err);
	if (r < 0) {
		worker_free(n);
		return bxc_err_wrap(err, r, "hello of worker '%s'", name);
	}
	n->id = ++w->last_id;
	*bxc_arr_push(&w->all) = n;
	*ret = n;
	return 0;
}

void bxc_wrk_remove(bxc_wrk *w, uint64_t id)
{
	for (size_t i = 0; i < w->all.n; i++) {
		if (w->all.v[i]->id == id) {
			worker_free(w->all.v[i]);
			bxc_arr_remove(&w->all, i);
			return;
		}
	}
}

bxc_wrk_worker *bxc_wrk_get(const bxc_wrk *w, uint64_t id)
{
	BXC_ARR_FOREACH (p, &w->all)
		if ((*p)->id == id)
			return *p;
	return NULL;
}

bxc_wrk_worker *bxc_wrk_by_name(const bxc_wrk *w, const char *name)
{
	BXC_ARR_FOREACH (p, &w->all)
		if (bxc_str_eq((*p)->name, name))
			return *p;
	return NULL;
}

bxc_wrk_worker *bxc_wrk_by_chan(const bxc_wrk *w, const bxc_chan *c)
{
	BXC_ARR_FOREACH (p, &w->all)
		if ((*p)->chan == c)
			return *p;
	return NULL;
}

size_t bxc_wrk_count(const bxc_wrk *w)
{
	return w->all.n;
}

bxc_wrk_worker *bxc_wrk_at(const bxc_wrk *w, size_t i)
{
	return i < w->all.n ? w->all.v[i] : NULL;
}

void bxc_wrk_layer_at(bxc_wrk_worker *w, const char *layer, uint64_t size)
{
	bxc_map_set(w->layers, layer, bxc_memdup(&size, sizeof(size)));
}

void bxc_wrk_layer_gone(bxc_wrk_worker *w, const char *layer)
{
	bxc_map_del(w->layers, layer);
}

bool bxc_wrk_has_layer(const bxc_wrk_worker *w, const char *layer)
{
	return bxc_map_has(w->layers, layer);
}

bxc_wrk_worker *bxc_wrk_holder(const bxc_wrk *w, const char *layer)
{
	bxc_wrk_worker *found = NULL;
	BXC_ARR_FOREACH (p, &w->all)
		if (bxc_wrk_has_layer(*p, layer) && (!found || ((*p)->peer_url && !found->peer_url)))
			found = *p;
	return found;
}

static const char *const from_names[BXC_WRK_N_FROM] = {"peer", "registry", "client"};

int bxc_wrk_transfer(bxc_wrk_worker *w, const char *from, uint64_t bytes, int64_t duration_ns, bxc_err **err)
{
	size_t i = 0;
	while (i < BXC_WRK_N_FROM && !bxc_str_eq(from_names[i], from))
		i++;
	if (i == BXC_WRK_N_FROM)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "from: '%.64s' is none of peer, registry, client", from);
	if (duration_ns <= 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "duration_ns: must be more than 0");
	unsigned __int128 rate = (unsigned __int128)bytes * BXC_NS_PER_S / (uint64_t)duration_ns;
	uint64_t now = rate > BANDWIDTH_MAX ? BANDWIDTH_MAX : (uint64_t)BXC_MAX(rate, (unsigned __int128)1);
	uint64_t *mean = &w->bandwidth[i];
	/* The latest counts for a quarter. */
	*mean = *mean ? BXC_MAX(*mean - *mean / 4 + now / 4, UINT64_C(1)) : now;
	return 0;
}

uint64_t bxc_wrk_bandwidth(const bxc_wrk_worker *w)
{
	uint64_t peer = w->bandwidth[BXC_WRK_FROM_PEER];
	return peer ? peer : w->bandwidth[BXC_WRK_FROM_REGISTRY];
}

static void add_platforms(bxc_json *o, const char *key, const bxc_wrk_platforms *list)
{
	bxc_json *a = bxc_json_add_array(o, key);
	BXC_ARR_FOREACH (p, list) {
		BXC_AUTOFREE char *s = bxc_platform_str(p);
		bxc_json_push_str(a, s);
	}
}

bool bxc_wrk_is_only_at(const bxc_wrk *t, const bxc_wrk_worker *w, const char *layer)
{
	if (!bxc_wrk_has_layer(w, layer))
		return false;
	BXC_ARR_FOREACH (p, &t->all)
		if (*p != w && bxc_wrk_has_layer(*p, layer))
			return false;
	return true;
}

void bxc_wrk_only_here(const bxc_wrk *t, const bxc_wrk_worker *w, size_t *ret_layers, uint64_t *ret_bytes)
{
	*ret_layers = 0;
	*ret_bytes = 0;
	BXC_MAP_FOREACH (it, w->layers) {
		/* Layers of images can be pulled again. */
		if (bxc_str_has_prefix(it.key, "sha256:") || !bxc_wrk_is_only_at(t, w, it.key))
			continue;
		++*ret_layers;
		*ret_bytes += *(const uint64_t *)it.value;
	}
}

static const char *state_of(const bxc_wrk_worker *w)
{
	if (!w->is_up)
		return "unreachable";
	if (!w->is_drained && !w->is_leaving)
		return "up";
	return w->running ? "draining" : "drained";
}

static void to_json(const bxc_wrk_worker *w, bxc_json *o)
{
	bxc_json_set_str(o, "name", w->name);
	add_platforms(o, "platforms", &w->platforms);
	add_platforms(o, "emulated", &w->emulated);
	bxc_json_set_u64(o, "slots", w->slots);
	bxc_json_set_u64(o, "running", w->running);
	bxc_json_set_str(o, "state", state_of(w));
	bxc_json_set_str(o, "version", w->version);
	bxc_json_set_str(o, "peer_url", w->peer_url);
	bxc_json_set_str(o, "address", w->peer);
	bxc_json_set_u64(o, "layers", bxc_map_len(w->layers));
	bxc_json *rates = bxc_json_add_object(o, "bandwidth");
	for (size_t i = 0; i < BXC_WRK_N_FROM; i++)
		if (w->bandwidth[i])
			bxc_json_set_u64(rates, from_names[i], w->bandwidth[i]);
}

bxc_json *bxc_wrk_one_to_json(const bxc_wrk *t, const bxc_wrk_worker *w)
{
	size_t n = 0;
	uint64_t bytes = 0;
	bxc_json *j = bxc_json_object();
	to_json(w, j);
	bxc_wrk_only_here(t, w, &n, &bytes);
	bxc_json *only = bxc_json_add_object(j, "only_here");
	bxc_json_set_u64(only, "layers", n);
	bxc_json_set_u64(only, "bytes", bytes);
	return j;
}

bxc_json *bxc_wrk_to_json(const bxc_wrk *w)
{
	bxc_json *j = bxc_json_object();
	bxc_json *a = bxc_json_add_array(j, "workers");
	BXC_ARR_FOREACH (p, &w->all)
		to_json(*p, bxc_json_push_object(a));
	return j;
}
