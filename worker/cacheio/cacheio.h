/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Build caches on their way out: to a registry, or to a folder of the client. Module prefix:
 * bxc_cio. Blocks; any thread. Documents: common/cacheconfig.
 */
#pragma once

#include "common/cacheconfig/cacheconfig.h"
#include "common/channel/channel.h"
#include "worker/content/content.h"

typedef struct bxc_cio_request {
	const char *type;      /* registry, local */
	const bxc_json *attrs; /* of --cache-to */
	uint64_t index;	       /* of the client's --cache-to */
	const bxc_cc *cache;   /* layers with media type, size and diff id */
	/* Repository that has the blob of layer i, "host/path"; NULL: none. */
	const char *(*repo)(size_t layer, void *ud);
	/* Puts the blob of layer i into the store, unless it is there. */
	int (*bring)(size_t layer, void *ud, bxc_err **err);
	/* Opens a stream of this kind to the client; `name` is taken. */
	int (*open)(const char *kind, bxc_json *name_take, bxc_chan_stream **ret, void *ud,
		bxc_err **err);
	void (*status)(const char *id, uint64_t current, uint64_t total, bool done, void *ud);
	void *ud;
	bxc_reg *reg;
	bxc_cancel *cancel;
} bxc_cio_request;

/*
 * Writes the cache: only blobs that are not there, then the manifest. Nothing is written of a cache
 * without layers. ret_response: {"cache.manifest": descriptor as text}, or empty; owned.
 */
BXC_MUST_CHECK int bxc_cio_export(
	bxc_content *content, const bxc_cio_request *q, bxc_json **ret_response, bxc_err **err);
