/* SPDX-License-Identifier: Apache-2.0 */
/* One run after the other: history, then blobs. */
#include "coordinator/gc/gc.h"

#include <stdlib.h>

#include "common/base/arr.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define FIRST_NS (5 * BXC_NS_PER_S)
#define EVERY_NS (600 * BXC_NS_PER_S)
/* Builds that go in one job of the database thread, which others wait for. */
#define BUILDS_A_JOB 50u

struct bxc_cgc {
	bxc_cgc_config c;
	bxc_loop_timer *timer;
	/* one run */
	int64_t now_ns, in_use_ns;
	BXC_ARR(bxc_blob_info) blobs;
	size_t n_go;	      /* of blobs */
	size_t n_builds;      /* of the last job */
	size_t builds_gone, blobs_gone;
	uint64_t freed_bytes;
	bxc_err *err;
};

/* ---- decisions ---- */

static int least_recent_first(const void *a, const void *b)
{
	const bxc_blob_info *x = a, *y = b;
	return (x->used_ns > y->used_ns) - (x->used_ns < y->used_ns);
}

size_t bxc_cgc_choose(const bxc_cgc_policy *p, bxc_blob_info *all, size_t n, int64_t now_ns, int64_t in_use_ns)
{
	uint64_t used = 0;
	size_t n_go = 0;
	for (size_t i = 0; i < n; i++)
		used += all[i].size;
	if (n)
		qsort(all, n, sizeof(*all), least_recent_first);
	while (n_go < n && all[n_go].used_ns < BXC_MIN(in_use_ns, now_ns - BXC_CGC_IN_USE_NS)) {
		bool is_old = p->blobs_keep_ns && all[n_go].used_ns < now_ns - p->blobs_keep_ns;
		bool is_too_much = p->blobs_max_used && used > p->blobs_max_used;
		if (!is_old && !is_too_much)
			break;
		used -= all[n_go++].size;
	}
	return n_go;
}

int bxc_cgc_trim_history(
	bxc_state *st, const bxc_cgc_policy *p, int64_t now_ns, size_t max, size_t *ret, bxc_err **err)
{
	uint64_t seen = 0;
	BXC_AUTOFREE char *after = NULL;
	*ret = 0;
	for (;;) {
		bxc_state_builds page = {0};
		const bxc_state_build_filter f = {.after = after, .without_request = true, .limit = BXC_STATE_LIMIT_LIST};
		int r = bxc_state_build_list(st, &f, &page, err);
		size_t n = page.items.n;
		for (size_t i = 0; r >= 0 && i < n && *ret < max; i++) {
			const bxc_state_build *b = &page.items.v[i];
			bool goes = seen >= p->history_max && b->completed_ns && b->completed_ns < now_ns - p->history_keep_ns;
			seen++;
			if (goes) {
				r = bxc_state_build_delete(st, b->id, err);
				*ret += r >= 0;
			} else {
				/* The next page begins behind one that stays. */
				free(after);
				after = bxc_strdup(b->id);
			}
		}
		bxc_state_builds_done(&page);
		if (r < 0 || n < BXC_STATE_LIMIT_LIST || *ret == max)
			return r;
	}
}

/* ---- a run ---- */

static void ended(bxc_cgc *g)
{
	if (g->err)
		bxc_log_err(BXC_LOG_WARN, "gc.failed", g->err, NULL);
	if (g->builds_gone || g->blobs_gone) {
		BXC_AUTOFREE char *builds = bxc_str_fmt("%zu", g->builds_gone);
		BXC_AUTOFREE char *blobs = bxc_str_fmt("%zu", g->blobs_gone);
		BXC_AUTOFREE char *bytes = bxc_str_fmt("%llu", (unsigned long long)g->freed_bytes);
		bxc_log(BXC_LOG_INFO, "gc.done", "builds", builds, "blobs", blobs, "bytes", bytes, NULL);
	}
	bxc_err_free(BXC_TAKE(g->err));
	bxc_arr_done(&g->blobs);
	g->n_go = g->builds_gone = g->blobs_gone = 0;
	g->freed_bytes = 0;
	bxc_loop_timer_arm(g->timer, EVERY_NS);
}

static void step_done(void *ud)
{
	ended(ud);
}

static void remove_work(void *ud)
{
	bxc_cgc *g = ud;
	for (size_t i = 0; !g->err && i < g->n_go; i++) {
		const bxc_blob_info *b = &g->blobs.v[i];
		bxc_blob_info is;
		/* Used again since it was looked at, it stays. */
		if (bxc_blob_stat(g->c.blobs, &b->digest, &is, NULL) < 0 || is.used_ns != b->used_ns)
			continue;
		if (bxc_blob_remove(g->c.blobs, &b->digest, &g->err) < 0)
			break;
		g->blobs_gone++;
		g->freed_bytes += b->size;
	}
}

static void forget_work(bxc_state *st, void *ud)
{
	bxc_cgc *g = ud;
	int r = bxc_state_begin(st, BXC_STATE_LAZY, &g->err);
	for (size_t i = 0; r >= 0 && i < g->n_go; i++)
		r = bxc_state_files_drop_pack(st, &g->blobs.v[i].digest, &g->err);
	if (r >= 0)
		bxc_ignore(bxc_state_commit(st, &g->err));
	else
		bxc_state_rollback(st);
}

/* First nobody finds them any more, then they go. */
static void forgotten(void *ud)
{
	bxc_cgc *g = ud;
	if (g->err || bxc_pool_submit(g->c.pool, remove_work, g->c.loop, step_done, g, &g->err) < 0)
		ended(g);
}

static int add_blob(const bxc_blob_info *i, void *ud)
{
	bxc_cgc *g = ud;
	*bxc_arr_push(&g->blobs) = *i;
	return 0;
}

static void stock_work(void *ud)
{
	bxc_cgc *g = ud;
	if (bxc_blob_list(g->c.blobs, add_blob, g, &g->err) < 0)
		return;
	g->n_go = bxc_cgc_choose(&g->c.policy, g->blobs.v, g->blobs.n, g->now_ns, g->in_use_ns);
}

static void stock_taken(void *ud)
{
	bxc_cgc *g = ud;
	if (g->err || g->n_go == 0)
		ended(g);
	else
		bxc_db_submit(g->c.db, forget_work, forgotten, g);
}

static void history_work(bxc_state *st, void *ud)
{
	bxc_cgc *g = ud;
	int r = bxc_state_begin(st, BXC_STATE_LAZY, &g->err);
	if (r >= 0)
		r = bxc_cgc_trim_history(st, &g->c.policy, g->now_ns, BUILDS_A_JOB, &g->n_builds, &g->err);
	if (r >= 0)
		bxc_ignore(bxc_state_commit(st, &g->err));
	else
		bxc_state_rollback(st);
}

static void history_done(void *ud)
{
	bxc_cgc *g = ud;
	g->builds_gone += g->n_builds;
	if (!g->err && g->n_builds == BUILDS_A_JOB) {
		bxc_db_submit(g->c.db, history_work, history_done, g);
		return;
	}
	if (g->err || bxc_pool_submit(g->c.pool, stock_work, g->c.loop, stock_taken, g, &g->err) < 0)
		ended(g);
}

static void start(void *ud)
{
	bxc_cgc *g = ud;
	g->now_ns = bxc_clock_wall_ns();
	g->in_use_ns = g->c.oldest_build_ns(g->c.ud);
	bxc_db_submit(g->c.db, history_work, history_done, g);
}

bxc_cgc *bxc_cgc_new(const bxc_cgc_config *c)
{
	bxc_cgc *g = bxc_calloc(1, sizeof(*g));
	g->c = *c;
	g->timer = bxc_loop_timer_new(c->loop, start, g);
	bxc_loop_timer_arm(g->timer, FIRST_NS);
	return g;
}

void bxc_cgc_free(bxc_cgc *g)
{
	if (!g)
		return;
	bxc_loop_timer_free(g->timer);
	bxc_err_free(g->err);
	bxc_arr_done(&g->blobs);
	free(g);
}
