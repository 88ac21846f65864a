/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scheduler at scale, on a virtual clock: figures only, no verdict.
 *
 *     sched-scale [WORKERS SLOTS BUILDS VERTICES_PER_BUILD wide|layered]
 *
 * Prints the decisions per second of one core, the time from an event to the decisions that follow
 * it, memory per vertex, and the makespan against a lower bound: the longest path of any build, or
 * all work divided by all slots, whichever is more. Transfers cost time in the makespan and nothing
 * in the bound.
 */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <time.h>

#include "common/base/heap.h"
#include "integration/sim/sim.h"

#define MS	   INT64_C(1000000)
#define BANDWIDTH  UINT64_C(100000000) /* bytes/s */
#define INPUTS_MAX 3u
#define WIDTH	   16u /* of a layered definition */

typedef struct vertex {
	uint64_t build;
	int64_t cost_ns;
	uint64_t size; /* bytes of its result */
	char layer[24];
	uint32_t inputs[INPUTS_MAX];
	uint32_t n_inputs;
	uint32_t n_left;    /* inputs that are not there yet */
	uint32_t remaining; /* vertices to the end, this one included */
	int64_t path_ns;    /* time to the end */
	uint64_t worker;    /* that made it */
	int64_t ends_at;    /* while it runs */
	size_t heap_at;
	BXC_ARR(uint32_t) users;
} vertex;

typedef struct world {
	bxc_sched *s;
	sim_rng rng;
	vertex *v;
	size_t n;
	bxc_heap running;
	int64_t now;
	int64_t spent_ns; /* inside the scheduler */
	uint64_t n_assigned, n_added;
	BXC_ARR(int64_t) latencies;
	int64_t work_ns, path_ns;
} world;

/* Of the processor: others may be using the machine. */
static int64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000 * MS + t.tv_nsec;
}

/* ---- running vertices by the time of their end ---- */

static bool ends_before(const void *x, const void *y)
{
	const vertex *a = x, *b = y;
	return a->ends_at != b->ends_at ? a->ends_at < b->ends_at : a < b;
}

static size_t *heap_at(void *item)
{
	return &((vertex *)item)->heap_at;
}

/* ---- the work ---- */

static void make_build(world *w, uint64_t build, uint32_t first, uint32_t n, bool layered)
{
	for (uint32_t i = 0; i < n; i++) {
		vertex *v = &w->v[first + i];
		v->build = build;
		v->heap_at = BXC_HEAP_OUT;
		/* Most steps are short, some are long. */
		v->cost_ns = (int64_t)(200 + sim_rand(&w->rng, 1800)) * MS *
			     (sim_chance(&w->rng, 10) ? 8 : 1);
		v->size = sim_rand(&w->rng, 20) * 1000000;
		snprintf(v->layer, sizeof(v->layer), "l-%" PRIu32, first + i);
		uint32_t row = i / WIDTH;
		uint32_t wanted = layered && row ? 1 + (uint32_t)sim_rand(&w->rng, INPUTS_MAX) : 0;
		for (uint32_t k = 0; k < wanted; k++) {
			uint32_t in =
				first + (row - 1) * WIDTH + (uint32_t)sim_rand(&w->rng, WIDTH);
			bool twice = false;
			for (uint32_t q = 0; q < v->n_inputs; q++)
				twice = twice || v->inputs[q] == in;
			if (twice)
				continue;
			v->inputs[v->n_inputs++] = in;
			*bxc_arr_push(&w->v[in].users) = first + i;
		}
		v->n_left = v->n_inputs;
	}
	BXC_AUTOFREE int64_t *path = bxc_calloc(n, sizeof(*path));
	for (uint32_t i = n; i-- > 0;) {
		vertex *v = &w->v[first + i];
		v->remaining = 1;
		path[i] = 0;
		BXC_ARR_FOREACH (u, &v->users) {
			v->remaining = BXC_MAX(v->remaining, w->v[*u].remaining + 1);
			path[i] = BXC_MAX(path[i], path[*u - first]);
		}
		path[i] += v->cost_ns;
		v->path_ns = path[i];
		w->work_ns += v->cost_ns;
		w->path_ns = BXC_MAX(w->path_ns, path[i]);
	}
}

static void add_ready(world *w, uint32_t i)
{
	vertex *v = &w->v[i];
	bxc_sched_layer layers[INPUTS_MAX];
	for (uint32_t k = 0; k < v->n_inputs; k++)
		layers[k] = (bxc_sched_layer){w->v[v->inputs[k]].layer, w->v[v->inputs[k]].size};
	const bxc_sched_task t = {.id = i + 1,
		.build = v->build,
		.platform = {.os = "linux", .arch = "amd64"},
		.cost_ns = v->cost_ns,
		.layers = layers,
		.n_layers = v->n_inputs,
		.chain_worker = v->n_inputs ? w->v[v->inputs[0]].worker : 0,
		.remaining = v->remaining,
		.path_ns = v->path_ns};
	bxc_check(bxc_sched_task_add(w->s, &t, NULL) >= 0);
	w->n_added++;
}

static void take_actions(world *w)
{
	bxc_sched_action a;
	while (bxc_sched_next(w->s, &a)) {
		vertex *v = &w->v[a.task - 1];
		int64_t transfer = (int64_t)(a.missing_bytes * 1000 / (BANDWIDTH / 1000000));
		v->worker = a.worker;
		w->n_assigned++;
		v->ends_at = w->now + transfer + v->cost_ns;
		bxc_heap_add(&w->running, v);
	}
}

static void finish(world *w, uint32_t i)
{
	vertex *v = &w->v[i];
	bxc_sched_layer_at(w->s, v->worker, v->layer);
	for (uint32_t k = 0; k < v->n_inputs; k++)
		bxc_sched_layer_at(w->s, v->worker, w->v[v->inputs[k]].layer);
	bxc_sched_task_finished(w->s, i + 1);
	BXC_ARR_FOREACH (u, &v->users)
		if (--w->v[*u].n_left == 0)
			add_ready(w, *u);
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static void run(world *w, uint64_t n_workers, uint32_t slots, uint64_t n_builds, uint32_t per_build,
	bool layered)
{
	bxc_platform p = {.os = "linux", .arch = "amd64"};
	w->s = bxc_sched_new();
	w->n = (size_t)n_builds * per_build;
	w->v = bxc_calloc(w->n, sizeof(*w->v));
	for (uint64_t b = 0; b < n_builds; b++)
		make_build(w, b + 1, (uint32_t)(b * per_build), per_build, layered);
	size_t graph = mallinfo2().uordblks;
	for (uint64_t k = 1; k <= n_workers; k++)
		bxc_sched_worker_add(w->s, &(bxc_sched_worker){.id = k,
						   .native = &p,
						   .n_native = 1,
						   .slots = slots,
						   .bandwidth = BANDWIDTH});
	int64_t t = cpu_ns();
	for (uint32_t i = 0; i < w->n; i++)
		if (w->v[i].n_inputs == 0)
			add_ready(w, i);
	take_actions(w);
	w->spent_ns += cpu_ns() - t;
	size_t bytes = (mallinfo2().uordblks - graph) / w->n_added;
	for (vertex *v; (v = bxc_heap_top(&w->running));) {
		bxc_heap_remove(&w->running, v);
		w->now = v->ends_at;
		t = cpu_ns();
		finish(w, (uint32_t)(v - w->v));
		take_actions(w);
		t = cpu_ns() - t;
		w->spent_ns += t;
		*bxc_arr_push(&w->latencies) = t;
	}
	int64_t share = w->work_ns / (int64_t)(n_workers * slots);
	int64_t bound = BXC_MAX(share, w->path_ns);
	if (w->latencies.n)
		qsort(w->latencies.v, w->latencies.n, sizeof(*w->latencies.v), by_value);
	printf("%s: %" PRIu64 " workers of %u slots, %" PRIu64 " builds of %u vertices\n",
		layered ? "layered" : "wide", n_workers, slots, n_builds, per_build);
	printf("  decisions          %12.0f /s\n",
		(double)w->n_assigned * 1e9 / (double)w->spent_ns);
	size_t median = w->latencies.n / 2, p99 = w->latencies.n * 99 / 100;
	if (w->latencies.n)
		printf("  event to decisions %12.1f us median, %.1f us p99\n",
			(double)w->latencies.v[median] / 1e3, (double)w->latencies.v[p99] / 1e3);
	printf("  memory             %12zu bytes per vertex at the start, workers included\n",
		bytes);
	printf("  makespan           %12.3f x the bound (%.1f s; path %.1f s, work per slot %.1f "
	       "s)\n",
		(double)w->now / (double)bound, (double)w->now / 1e9, (double)w->path_ns / 1e9,
		(double)share / 1e9);
	bxc_check(w->n_assigned == w->n);
	for (size_t i = 0; i < w->n; i++)
		bxc_arr_done(&w->v[i].users);
	free(w->v);
	bxc_heap_done(&w->running);
	bxc_arr_done(&w->latencies);
	bxc_sched_free(w->s);
}

int main(int argc, char **argv)
{
	uint64_t a[4] = {200, 8, 100, 200};
	for (int i = 1; i < argc && i <= 4; i++)
		if (bxc_str_to_u64(argv[i], 1, 1000000, &a[i - 1], NULL) < 0)
			return 2;
	for (int layered = 0; layered < 2; layered++) {
		if (argc > 5 && bxc_str_eq(argv[5], "wide") != !layered)
			continue;
		world w = {.rng = {42}, .running = {.before = ends_before, .at = heap_at}};
		run(&w, a[0], (uint32_t)a[1], a[2], (uint32_t)a[3], layered);
	}
	return 0;
}
