/* SPDX-License-Identifier: Apache-2.0 */
/*
 * String-keyed map over uthash with a seeded hash. Iteration follows the order of insertion, so
 * code that must be deterministic may iterate. Not thread-safe.
 */
#pragma once

#include "common/base/cleanup.h"

typedef struct bxc_map bxc_map;

/* `free_value` may be NULL: values are then borrowed. */
bxc_map *bxc_map_new(void (*free_value)(void *value));
void bxc_map_free(bxc_map *m);
void *bxc_map_get(const bxc_map *m, const char *key);               /* borrowed or NULL */
bool bxc_map_has(const bxc_map *m, const char *key);
void bxc_map_set(bxc_map *m, const char *key, void *value);         /* owns value; frees a replaced one */
/* Sets `value` (not NULL) where the key is new, giving NULL; else gives what is there, which stays. */
void *bxc_map_add(bxc_map *m, const char *key, void *value);
void *bxc_map_take(bxc_map *m, const char *key);                    /* removes; caller owns the value */
bool bxc_map_del(bxc_map *m, const char *key);                      /* removes and frees; false if absent */
void bxc_map_clear(bxc_map *m);
size_t bxc_map_len(const bxc_map *m);

typedef struct bxc_map_iter {
	void *next_;
	const char *key;      /* borrowed until the entry is removed */
	void *value;
} bxc_map_iter;
bxc_map_iter bxc_map_begin(const bxc_map *m);
bool bxc_map_next(bxc_map_iter *it);    /* the current entry may be removed while iterating */
#define BXC_MAP_FOREACH(it, m) for (bxc_map_iter it = bxc_map_begin(m); bxc_map_next(&it);)
BXC_DEFINE_CLEANUP(bxc_map, bxc_map_free);
