/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files about caches outside of the cluster. */
#pragma once

#include "common/cacheconfig/cacheconfig.h"
#include "coordinator/build/build_internal.h"

typedef struct cache_keys {
	bxc_cc cc;
	bxc_map *keys; /* digest text -> bxc_cc_record of cc, borrowed */
} cache_keys;

/* One --cache-from of a build, read once before its steps are looked up. */
typedef struct cache_import {
	build *b;
	uint32_t index; /* in cache_from of the request */
	char *from;	/* as people see it */
	char *repo;	/* of a registry; NULL: a folder of the client */
	bxc_ref ref;	/* of a registry */
	bxc_sess_ref *session;
	bxc_digest digest;	    /* of a folder: its manifest */
	BXC_ARR(cache_keys) caches; /* several: an image of several platforms, each with its own */
	bxc_map *lost;		    /* ids of layers that could not be had */
	internal_vertex vertex;
	bxc_err *err;
} cache_import;

bool cache_flag(const bxc_json *spec, const char *key);
