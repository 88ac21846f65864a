/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed growable arrays:  BXC_ARR(int) a = {0};  *bxc_arr_push(&a) = 3;  a.v[0];  bxc_arr_done(&a);
 * Elements are not destroyed by the array; their owner does that first.
 */
#pragma once

#include <string.h>

#include "common/base/mem.h"

#define BXC_ARR(T)                                                                                 \
	struct {                                                                                   \
		T *v;                                                                              \
		size_t n;                                                                          \
		size_t cap;                                                                        \
	}

/* Room for some small elements at first, or one large one: most arrays stay short. */
#define BXC_ARR_FIRST(size) ((size) >= 128 ? 1 : (size) <= 16 ? 8 : 128 / (size))

/* Appends a zeroed element and yields its address, valid until the next push. */
#define bxc_arr_push(a)                                                                            \
	__extension__({                                                                            \
		__typeof__(a) bxc_arr_a_ = (a);                                                    \
		if (bxc_arr_a_->n == bxc_arr_a_->cap) {                                            \
			bxc_arr_a_->cap = bxc_arr_a_->cap ? bxc_arr_a_->cap * 2                    \
							  : BXC_ARR_FIRST(sizeof(*bxc_arr_a_->v)); \
			bxc_arr_a_->v = bxc_reallocarray(                                          \
				bxc_arr_a_->v, bxc_arr_a_->cap, sizeof(*bxc_arr_a_->v));           \
		}                                                                                  \
		memset(&bxc_arr_a_->v[bxc_arr_a_->n], 0, sizeof(*bxc_arr_a_->v));                  \
		&bxc_arr_a_->v[bxc_arr_a_->n++];                                                   \
	})

/* Removes element i, keeping the order of the others. */
#define bxc_arr_remove(a, i)                                                                       \
	do {                                                                                       \
		__typeof__(a) bxc_arr_a_ = (a);                                                    \
		size_t bxc_arr_i_ = (i);                                                           \
		bxc_check(bxc_arr_i_ < bxc_arr_a_->n);                                             \
		memmove(&bxc_arr_a_->v[bxc_arr_i_], &bxc_arr_a_->v[bxc_arr_i_ + 1],                \
			(bxc_arr_a_->n - bxc_arr_i_ - 1) * sizeof(*bxc_arr_a_->v));                \
		bxc_arr_a_->n--;                                                                   \
	} while (0)

#define bxc_arr_done(a)                                                                            \
	do {                                                                                       \
		__typeof__(a) bxc_arr_a_ = (a);                                                    \
		free(bxc_arr_a_->v);                                                               \
		bxc_arr_a_->v = NULL;                                                              \
		bxc_arr_a_->n = bxc_arr_a_->cap = 0;                                               \
	} while (0)

/* An empty array may have no address to add to. */
#define BXC_ARR_FOREACH(it, a)                                                                     \
	for (__typeof__(*(a)->v) *it = (a)->v; (a)->n && it < (a)->v + (a)->n; it++)
