/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "common/base/map.h"
#include "worker/source/source.h"

/*
 * Bytes that come from one kind of place. What runs side by side shares the link: what is measured is
 * the time in which at least one transfer runs.
 */
typedef struct src_meter {
	size_t n_running;
	int64_t since_ns;            /* when the first of those began, or what it had brought was told */
	uint64_t bytes;
} src_meter;
void src_meter_begin(src_meter *m, int64_t now_ns);
/* One has ended: true when there is enough to be told of, which begins anew then. */
bool src_meter_end(src_meter *m, int64_t now_ns, uint64_t bytes, uint64_t *ret_bytes, int64_t *ret_ns);

struct bxc_src {
	bxc_content *content;
	bxc_snap *snap;
	char *dir;                   /* copies of repositories, by digest of their URL */
	bxc_pool *pool;
	pthread_mutex_t lock;        /* protects busy and the counters of ensure(); leaf */
	pthread_cond_t changed;
	bxc_map *busy;               /* layers that are being fetched or packed */
	src_meter meters[BXC_SRC_N_FROM];    /* under lock */
	bxc_src_transferred on_transfer;     /* NULL: nobody asks */
	void *transfer_ud;
};

/* Around what brings bytes, any thread. */
void src_transfer_begin(bxc_src *s, bxc_src_from from);
void src_transfer_end(bxc_src *s, bxc_src_from from, uint64_t bytes);

/* One at a time for each key; blocks. */
void src_claim(bxc_src *s, const char *key);
void src_release(bxc_src *s, const char *key);

/* git.c, http.c: as the public functions, for sources of their kind. */
BXC_MUST_CHECK int src_git_resolve(bxc_src *s, const bxc_op_source *op, bool want_time, const bxc_src_client *c,
	bxc_src_pin *ret, bxc_err **err);
BXC_MUST_CHECK int src_git_write(bxc_src *s, const bxc_op_source *op, const bxc_src_pin *pin, const bxc_src_client *c,
	int dir_fd, bxc_err **err);
BXC_MUST_CHECK int src_http_resolve(bxc_src *s, const bxc_op_source *op, const bxc_src_pin *known, const bxc_src_client *c,
	bxc_src_pin *ret, bxc_err **err);
/* Sets pin->time_ns and pin->filename when they are not known and the server tells; the file is in the store after it. */
BXC_MUST_CHECK int src_http_fetch(bxc_src *s, const bxc_op_source *op, const bxc_src_client *c, bxc_src_pin *pin, bxc_err **err);
