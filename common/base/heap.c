/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/heap.h"

#include "common/base/mem.h"

static void put(bxc_heap *h, size_t i, void *item)
{
	h->items_.v[i] = item;
	*h->at(item) = i;
}

static void up(bxc_heap *h, size_t i)
{
	void *item = h->items_.v[i];
	for (size_t parent; i > 0 && h->before(item, h->items_.v[parent = (i - 1) / 2]); i = parent)
		put(h, i, h->items_.v[parent]);
	put(h, i, item);
}

static void down(bxc_heap *h, size_t i)
{
	void *item = h->items_.v[i];
	for (size_t child; (child = 2 * i + 1) < h->items_.n; i = child) {
		if (child + 1 < h->items_.n && h->before(h->items_.v[child + 1], h->items_.v[child]))
			child++;
		if (!h->before(h->items_.v[child], item))
			break;
		put(h, i, h->items_.v[child]);
	}
	put(h, i, item);
}

void bxc_heap_done(bxc_heap *h)
{
	for (size_t i = 0; i < h->items_.n; i++)
		*h->at(h->items_.v[i]) = BXC_HEAP_OUT;
	bxc_arr_done(&h->items_);
}

void *bxc_heap_top(const bxc_heap *h)
{
	return h->items_.n ? h->items_.v[0] : NULL;
}

void bxc_heap_add(bxc_heap *h, void *item)
{
	bxc_check(*h->at(item) == BXC_HEAP_OUT);
	*bxc_arr_push(&h->items_) = item;
	up(h, h->items_.n - 1);
}

void bxc_heap_moved(bxc_heap *h, void *item)
{
	size_t i = *h->at(item);
	bxc_check(i < h->items_.n && h->items_.v[i] == item);
	down(h, i);
	up(h, *h->at(item));
}

void bxc_heap_remove(bxc_heap *h, void *item)
{
	size_t i = *h->at(item);
	bxc_check(i < h->items_.n && h->items_.v[i] == item);
	void *last = h->items_.v[--h->items_.n];
	*h->at(item) = BXC_HEAP_OUT;
	if (last == item)
		return;
	put(h, i, last);
	bxc_heap_moved(h, last);
}
