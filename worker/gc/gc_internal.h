/* SPDX-License-Identifier: Apache-2.0 */
/* The stock of a worker, between gc.c and usage.c. */
#pragma once

#include "common/base/map.h"
#include "worker/gc/gc.h"

/* Something that may go: a layer, or a blob that is of no layer. */
typedef struct gc_item {
	char *layer;	 /* NULL: blob */
	bxc_digest blob; /* of a layer: its diff id, whose blobs go with it; not set: none do */
	uint64_t bytes;
	int64_t used_ns;
	bool is_pinned;
} gc_item;

typedef struct gc_stock {
	bxc_snap *snap;
	bxc_blob_store *blobs;
	bxc_content_made_list made; /* by diff id */
	bxc_map *of_layers;	    /* digests of blobs that belong to layers */
	BXC_ARR(gc_item) items;
	uint64_t used;
} gc_stock;

/* Layers and blobs, the least recently used first. */
BXC_MUST_CHECK int gc_take_stock(gc_stock *s, bxc_snap *snap, bxc_content *content, bxc_err **err);
void gc_stock_done(gc_stock *s);
/* 1: gone; 0: a step has it. */
BXC_MUST_CHECK int gc_drop(gc_stock *s, const gc_item *it, bxc_err **err);
