/* SPDX-License-Identifier: Apache-2.0 */
/* Variables in order of first setting, with a quick look-up: a file may hold thousands. */
#include "coordinator/dockerfile/dockerfile_internal.h"

struct df_env {
	df_pairs pairs;
	bxc_map *index; /* key -> position + 1 */
	uint64_t bytes;
	bxc_def_env *shared; /* as steps have it; NULL: not asked for since it changed */
};

df_env *df_env_new(void)
{
	df_env *e = bxc_calloc(1, sizeof(*e));
	e->index = bxc_map_new(NULL);
	return e;
}

void df_env_free(df_env *e)
{
	if (!e)
		return;
	df_pairs_done(&e->pairs);
	bxc_map_free(e->index);
	bxc_def_env_unref(e->shared);
	free(e);
}

df_env *df_env_dup(const df_env *e)
{
	df_env *d = df_env_new();
	for (size_t i = 0; i < df_env_len(e); i++)
		df_env_set(d, e->pairs.v[i].key, e->pairs.v[i].value);
	return d;
}

const char *df_env_get(const df_env *e, const char *key)
{
	size_t i = e ? (size_t)(uintptr_t)bxc_map_get(e->index, key) : 0;
	return i ? e->pairs.v[i - 1].value : NULL;
}

void df_env_set(df_env *e, const char *key, const char *value)
{
	/* The value may be one of ours. */
	char *copy = bxc_strdup(value);
	size_t i =
		(size_t)(uintptr_t)bxc_map_add(e->index, key, (void *)(uintptr_t)(e->pairs.n + 1));
	bxc_def_env_unref(BXC_TAKE(e->shared));
	if (i) {
		df_pair *kv = &e->pairs.v[i - 1];
		e->bytes -= strlen(kv->value);
		free(kv->value);
		kv->value = copy;
	} else {
		*bxc_arr_push(&e->pairs) = (df_pair){.key = bxc_strdup(key), .value = copy};
		e->bytes += strlen(key) + 64;
	}
	e->bytes += strlen(copy);
}

void df_env_set_strv(df_env *e, char *const *kv)
{
	for (; kv && *kv; kv++) {
		const char *eq = strchr(*kv, '=');
		BXC_AUTOFREE char *key =
			eq ? bxc_strndup(*kv, (size_t)(eq - *kv)) : bxc_strdup(*kv);
		df_env_set(e, key, eq ? eq + 1 : "");
	}
}

size_t df_env_len(const df_env *e)
{
	return e ? e->pairs.n : 0;
}

const df_pair *df_env_at(const df_env *e, size_t i)
{
	bxc_check(i < e->pairs.n);
	return &e->pairs.v[i];
}

uint64_t df_env_bytes(const df_env *e)
{
	return e ? e->bytes : 0;
}

char **df_env_strv(const df_env *e)
{
	df_list list = {0};
	BXC_ARR_FOREACH (kv, &e->pairs)
		*bxc_arr_push(&list) = bxc_str_concat(kv->key, "=", kv->value);
	return df_list_finish(&list);
}

int df_env_share(df_env *e, bxc_def_vertex *v, bxc_err **err)
{
	if (!e->shared) {
		int r = bxc_def_env_new(df_env_strv(e), &e->shared, err);
		if (r < 0)
			return r;
	}
	bxc_def_share_env(v, e->shared);
	return 0;
}

struct df_vars {
	df_list list;
	bxc_map *index; /* key -> position + 1, of the first entry with it */
};

static void index_last(df_vars *v)
{
	const char *kv = v->list.v[v->list.n - 1];
	BXC_AUTOFREE char *key = bxc_strndup(kv, strcspn(kv, "="));
	if (!bxc_map_has(v->index, key))
		bxc_map_set(v->index, key, (void *)(uintptr_t)v->list.n);
}

df_vars *df_vars_open(char **strv_take)
{
	df_vars *v = bxc_calloc(1, sizeof(*v));
	v->index = bxc_map_new(NULL);
	for (char **kv = strv_take; kv && *kv; kv++) {
		*bxc_arr_push(&v->list) = *kv;
		index_last(v);
	}
	free(strv_take);
	return v;
}

size_t df_vars_len(const df_vars *v)
{
	return v->list.n;
}

void df_vars_set(df_vars *v, const char *key, const char *value)
{
	char *kv = bxc_str_concat(key, "=", value);
	size_t i = (size_t)(uintptr_t)bxc_map_get(v->index, key);
	if (i) {
		free(v->list.v[i - 1]);
		v->list.v[i - 1] = kv;
		return;
	}
	*bxc_arr_push(&v->list) = kv;
	index_last(v);
}

char **df_vars_close(df_vars *v)
{
	if (!v)
		return NULL;
	char **strv = v->list.n ? df_list_finish(&v->list) : NULL;
	bxc_map_free(v->index);
	free(v);
	return strv;
}
