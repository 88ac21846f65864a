/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workers of the cluster and what they hold. Module prefix: bxc_wrk. Loop only; no I/O.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/map.h"
#include "common/channel/channel.h"
#include "common/codec/json.h"
#include "common/oci/oci.h"

typedef BXC_ARR(bxc_platform) bxc_wrk_platforms;

/* Where bytes come from. */
typedef enum bxc_wrk_from {
	BXC_WRK_FROM_PEER = 0,
	BXC_WRK_FROM_REGISTRY,
	BXC_WRK_FROM_CLIENT,         /* images in its layouts, by way of the coordinator */
	BXC_WRK_N_FROM,
} bxc_wrk_from;

typedef struct bxc_wrk_worker {
	uint64_t id;                 /* never used again */
	char *name;
	char *version;
	char *peer_url;              /* NULL: serves no blobs to peers */
	char *peer;                  /* address it came from */
	bxc_wrk_platforms platforms;
	bxc_wrk_platforms emulated;
	uint32_t slots;
	uint64_t bandwidth[BXC_WRK_N_FROM];    /* bytes/s towards it, as it measures them; 0: not yet */
	uint32_t running;            /* tasks, kept by the engine */
	bool is_up;                  /* the connection stands */
	bool is_drained;             /* an operator wants it to get nothing new */
	bool is_leaving;             /* it said that it is about to stop: the same */
	bool is_released;            /* was told that nobody needs it any more */
	bxc_chan *chan;              /* borrowed from the link; NULL in tests */
	bxc_map *layers;             /* layer id -> uint64_t * size */
} bxc_wrk_worker;

typedef struct bxc_wrk bxc_wrk;

bxc_wrk *bxc_wrk_new(void);
void bxc_wrk_free(bxc_wrk *w);
BXC_DEFINE_CLEANUP(bxc_wrk, bxc_wrk_free);

/* Reads a hello message (PROTOCOL.md); INVALID_ARGUMENT naming the field. Added; borrowed. */
BXC_MUST_CHECK int bxc_wrk_add(bxc_wrk *w, const bxc_json *hello, const char *name, const char *peer, bxc_chan *chan,
	bxc_wrk_worker **ret, bxc_err **err);
void bxc_wrk_remove(bxc_wrk *w, uint64_t id);
bxc_wrk_worker *bxc_wrk_get(const bxc_wrk *w, uint64_t id);          /* borrowed or NULL */
bxc_wrk_worker *bxc_wrk_by_name(const bxc_wrk *w, const char *name);
bxc_wrk_worker *bxc_wrk_by_chan(const bxc_wrk *w, const bxc_chan *c);
size_t bxc_wrk_count(const bxc_wrk *w);
bxc_wrk_worker *bxc_wrk_at(const bxc_wrk *w, size_t i);              /* in order of joining */

void bxc_wrk_layer_at(bxc_wrk_worker *w, const char *layer, uint64_t size);
void bxc_wrk_layer_gone(bxc_wrk_worker *w, const char *layer);
bool bxc_wrk_has_layer(const bxc_wrk_worker *w, const char *layer);
/* Some worker that holds the layer and serves peers, or NULL. */
bxc_wrk_worker *bxc_wrk_holder(const bxc_wrk *w, const char *layer);

/* It brought `bytes` in `duration_ns` from "peer", "registry" or "client"; INVALID_ARGUMENT naming the field. */
BXC_MUST_CHECK int bxc_wrk_transfer(bxc_wrk_worker *w, const char *from, uint64_t bytes, int64_t duration_ns, bxc_err **err);
/* What placement saves is transfers between workers: bytes/s from peers, else from registries; 0: not known. */
uint64_t bxc_wrk_bandwidth(const bxc_wrk_worker *w);

bool bxc_wrk_is_only_at(const bxc_wrk *t, const bxc_wrk_worker *w, const char *layer);
/* What would go with it: layers that no other worker holds and no registry has. Looks at every layer. */
void bxc_wrk_only_here(const bxc_wrk *t, const bxc_wrk_worker *w, size_t *ret_layers, uint64_t *ret_bytes);

/* {"workers": [...]} of the API; one of them, with what is only there. Owned. */
bxc_json *bxc_wrk_to_json(const bxc_wrk *w);
bxc_json *bxc_wrk_one_to_json(const bxc_wrk *t, const bxc_wrk_worker *w);
