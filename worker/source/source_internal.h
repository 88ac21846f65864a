/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "common/base/map.h"
#include "worker/source/source.h"

struct bxc_src {
	bxc_content *content;
	bxc_snap *snap;
	bxc_pool *pool;
	pthread_mutex_t lock;        /* protects busy and the counters of ensure(); leaf */
	pthread_cond_t changed;
	bxc_map *busy;               /* layers that are being fetched or packed */
};

/* One at a time for each key; blocks. */
void src_claim(bxc_src *s, const char *key);
void src_release(bxc_src *s, const char *key);
