/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/map.h"

#include <string.h>

#define XXH_INLINE_ALL
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wcast-align"
#pragma GCC diagnostic ignored "-Wswitch-enum"
#pragma GCC diagnostic ignored "-Wundef"
#include <xxhash.h>
#pragma GCC diagnostic pop

#include "common/base/mem.h"
#include "common/base/rand.h"

/* An unkeyed hash would let a hostile peer choose colliding keys. */
static uint64_t hash_seed(void)
{
	static uint64_t seed; /* 0: not yet drawn */
	uint64_t now = __atomic_load_n(&seed, __ATOMIC_ACQUIRE);
	if (now)
		return now;
	uint64_t drawn;
	bxc_rand_bytes(&drawn, sizeof(drawn));
	drawn |= 1;
	/* Of several threads the first one's counts; `now` is then that. */
	if (__atomic_compare_exchange_n(&seed, &now, drawn, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return drawn;
	return now;
}

#define HASH_FUNCTION(keyptr, keylen, hashv)                                                       \
	((hashv) = (unsigned)XXH3_64bits_withSeed((keyptr), (keylen), hash_seed()))
#define uthash_malloc(n)  bxc_malloc(n)
#define uthash_fatal(msg) abort()
#include <uthash.h>

struct entry {
	UT_hash_handle hh;
	void *value;
	char key[];
};

struct bxc_map {
	struct entry *head;
	void (*free_value)(void *value);
};

bxc_map *bxc_map_new(void (*free_value)(void *value))
{
	bxc_map *m = bxc_calloc(1, sizeof(*m));
	m->free_value = free_value;
	return m;
}

static struct entry *find(const bxc_map *m, const char *key)
{
	struct entry *e = NULL;
	HASH_FIND(hh, m->head, key, strlen(key), e);
	return e;
}

void *bxc_map_get(const bxc_map *m, const char *key)
{
	struct entry *e = find(m, key);
	return e ? e->value : NULL;
}

bool bxc_map_has(const bxc_map *m, const char *key)
{
	return find(m, key) != NULL;
}

/* The entry of the key; *ret_is_new: it was made just now and has no value yet. */
static struct entry *entry_of(bxc_map *m, const char *key, bool *ret_is_new)
{
	struct entry *e = NULL;
	size_t n = strlen(key);
	unsigned hash = 0;
	HASH_VALUE(key, n, hash);
	HASH_FIND_BYHASHVALUE(hh, m->head, key, n, hash, e);
	*ret_is_new = !e;
	if (e)
		return e;
	e = bxc_calloc(1, sizeof(*e) + n + 1);
	memcpy(e->key, key, n + 1);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, m->head, e->key, n, hash, e);
	return e;
}

void bxc_map_set(bxc_map *m, const char *key, void *value)
{
	bool is_new = false;
	struct entry *e = entry_of(m, key, &is_new);
	void *old = e->value;
	e->value = value;
	if (m->free_value && old)
		m->free_value(old);
}

void *bxc_map_add(bxc_map *m, const char *key, void *value)
{
	bool is_new = false;
	struct entry *e = entry_of(m, key, &is_new);
	bxc_check(value != NULL);
	if (!is_new)
		return e->value;
	e->value = value;
	return NULL;
}

/* The value, which is the caller's. */
static void *remove_entry(bxc_map *m, struct entry *e)
{
	void *value = e->value;
	HASH_DEL(m->head, e);
	free(e);
	return value;
}

static void destroy_entry(bxc_map *m, struct entry *e)
{
	void *value = remove_entry(m, e);
	if (m->free_value && value)
		m->free_value(value);
}

void *bxc_map_take(bxc_map *m, const char *key)
{
	struct entry *e = find(m, key);
	return e ? remove_entry(m, e) : NULL;
}

bool bxc_map_del(bxc_map *m, const char *key)
{
	struct entry *e = find(m, key);
	if (!e)
		return false;
	destroy_entry(m, e);
	return true;
}

void bxc_map_clear(bxc_map *m)
{
	while (m->head)
		destroy_entry(m, m->head);
}

void bxc_map_free(bxc_map *m)
{
	if (!m)
		return;
	bxc_map_clear(m);
	free(m);
}

size_t bxc_map_len(const bxc_map *m)
{
	return HASH_COUNT(m->head);
}

bxc_map_iter bxc_map_begin(const bxc_map *m)
{
	return (bxc_map_iter){.next_ = m->head};
}

bool bxc_map_next(bxc_map_iter *it)
{
	struct entry *e = it->next_;
	if (!e)
		return false;
	it->key = e->key;
	it->value = e->value;
	it->next_ = e->hh.next;
	return true;
}
