/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A binary heap of pointers whose items know where they are, so that any of them can be moved or
 * taken out in O(log n). Items are borrowed. Not thread-safe.
 *
 * Each item holds a size_t (`at`) for one heap; BXC_HEAP_OUT while it is in none, which whoever
 * makes the item sets.
 */
#pragma once

#include "common/base/arr.h"

#define BXC_HEAP_OUT SIZE_MAX

typedef struct bxc_heap {
	BXC_ARR(void *) items_;
	bool (*before)(const void *a, const void *b); /* a total order: equal items compare false both ways */
	size_t *(*at)(void *item);
} bxc_heap;

void bxc_heap_done(bxc_heap *h);                  /* items are marked as out */
static inline size_t bxc_heap_len(const bxc_heap *h)
{
	return h->items_.n;
}
void *bxc_heap_top(const bxc_heap *h);            /* NULL: empty */
void bxc_heap_add(bxc_heap *h, void *item);       /* must be out */
void bxc_heap_remove(bxc_heap *h, void *item);    /* must be in this heap */
void bxc_heap_moved(bxc_heap *h, void *item);     /* its order has changed */
