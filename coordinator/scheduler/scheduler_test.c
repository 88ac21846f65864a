/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"
#include "coordinator/scheduler/scheduler.h"

#define MS	   INT64_C(1000000)
#define MB	   UINT64_C(1000000)

#define AUTO_SCHED BXC_CLEANUP(bxc_sched_freep)

static bxc_platform plat(const char *text)
{
	bxc_platform p;
	assert_int_equal(bxc_platform_parse(text, &p, NULL), 0);
	return p;
}

static void join(
	bxc_sched *s, uint64_t id, uint32_t slots, const char *native, const char *emulated)
{
	bxc_platform n = plat(native);
	bxc_platform e = emulated ? plat(emulated) : (bxc_platform){0};
	bxc_sched_worker w = {.id = id,
		.native = &n,
		.n_native = 1,
		.emulated = &e,
		.n_emulated = emulated ? 1 : 0,
		.slots = slots};
	bxc_sched_worker_add(s, &w);
}

/* A task of build 1 for amd64, one second, no inputs. */
static bxc_sched_task basic(uint64_t id)
{
	return (bxc_sched_task){
		.id = id, .build = 1, .platform = plat("linux/amd64"), .cost_ns = 1000 * MS};
}

static void add(bxc_sched *s, const bxc_sched_task *t)
{
	assert_int_equal(bxc_sched_task_add(s, t, NULL), 0);
}

static void add_basic(bxc_sched *s, uint64_t id)
{
	bxc_sched_task t = basic(id);
	add(s, &t);
}

/* All actions as text: "1>10" task 1 to worker 10, "1!10" lost, "drained 10". Static. */
static const char *drain(bxc_sched *s)
{
	static char out[4096];
	size_t n = 0;
	out[0] = 0;
	bxc_sched_action a;
	while (bxc_sched_next(s, &a)) {
		unsigned t = (unsigned)a.task;
		unsigned w = (unsigned)a.worker;
		int k = 0;
		const char *gap = n ? " " : "";
		switch (a.kind) {
		case BXC_SCHED_ASSIGN:
			k = snprintf(out + n, sizeof(out) - n, "%s%u>%u%s", gap, t, w,
				a.emulated ? "e" : "");
			break;
		case BXC_SCHED_LOST:
			k = snprintf(out + n, sizeof(out) - n, "%s%u!%u", gap, t, w);
			break;
		case BXC_SCHED_DRAINED:
			k = snprintf(out + n, sizeof(out) - n, "%sdrained %u", gap, w);
			break;
		case BXC_SCHED_NONE:
			fail();
		}
		n += (size_t)k;
	}
	return out;
}

static void slots_bound_what_runs(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 2, "linux/amd64", NULL);
	for (uint64_t i = 1; i <= 4; i++)
		add_basic(s, i);
	assert_string_equal(drain(s), "1>10 2>10");
	assert_int_equal(bxc_sched_n_waiting(s), 2);
	assert_int_equal(bxc_sched_waiting_reason(s, 3), BXC_SCHED_WAIT_SLOTS);
	assert_int_equal(bxc_sched_waiting_reason(s, 1), BXC_SCHED_WAIT_NONE);
	assert_int_equal(bxc_sched_worker_of(s, 1), 10);
	bxc_sched_task_finished(s, 1);
	assert_string_equal(drain(s), "3>10");
	bxc_sched_task_cancel(s, 4);
	bxc_sched_task_finished(s, 2);
	bxc_sched_task_finished(s, 3);
	assert_string_equal(drain(s), "");
	assert_int_equal(bxc_sched_n_running(s, 10), 0);
	bxc_sched_task t = basic(5);
	add(s, &t);
	assert_int_equal(bxc_sched_task_add(s, &t, NULL), -BXC_ALREADY_EXISTS);
}

static void independent_tasks_spread_over_idle_workers(void **state)
{
	(void)state;
	for (uint32_t slots = 1; slots <= 32; slots *= 2) {
		AUTO_SCHED bxc_sched *s = bxc_sched_new();
		join(s, 10, slots, "linux/amd64", NULL);
		join(s, 11, slots, "linux/amd64", NULL);
		/* All inputs are on the first: 3 GB, that is half a minute to move. */
		bxc_sched_layer_at(s, 10, "base");
		bxc_sched_layer base = {"base", 3000 * MB};
		for (uint64_t i = 1; i <= 16; i++) {
			bxc_sched_task t = basic(i);
			t.layers = &base;
			t.n_layers = 1;
			add(s, &t);
		}
		drain(s);
		if (slots <= 16)
			assert_true(bxc_sched_n_running(s, 11) > 0);
		assert_true(bxc_sched_n_running(s, 10) > 0);
	}
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 8, "linux/amd64", NULL);
	join(s, 11, 8, "linux/amd64", NULL);
	for (uint64_t i = 1; i <= 16; i++)
		add_basic(s, i);
	drain(s);
	assert_int_equal(bxc_sched_n_running(s, 10), 8);
	assert_int_equal(bxc_sched_n_running(s, 11), 8);
}

static void a_task_goes_where_its_inputs_are(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 4, "linux/amd64", NULL);
	join(s, 11, 4, "linux/amd64", NULL);
	bxc_sched_layer_at(s, 11, "big");
	bxc_sched_layer layers[] = {{"big", 900 * MB}, {"small", 1 * MB}};
	bxc_sched_task t = basic(1);
	t.layers = layers;
	t.n_layers = 2;
	add(s, &t);
	bxc_sched_action a;
	assert_true(bxc_sched_next(s, &a));
	assert_int_equal(a.worker, 11);
	assert_int_equal(a.missing_bytes, 1 * MB);
	/* What is on its way there counts as there. */
	t.id = 2;
	add(s, &t);
	assert_true(bxc_sched_next(s, &a));
	assert_int_equal(a.worker, 11);
	assert_int_equal(a.missing_bytes, 0);
	bxc_sched_layer_gone(s, 11, "big");
	bxc_sched_task_cancel(s, 1);
	bxc_sched_task_cancel(s, 2);
	t.id = 3;
	add(s, &t);
	assert_true(bxc_sched_next(s, &a));
	assert_int_equal(a.worker, 10);
	assert_int_equal(a.missing_bytes, 901 * MB);
}

static void a_chain_stays_unless_another_place_is_clearly_better(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 4, "linux/amd64", NULL);
	join(s, 11, 4, "linux/amd64", NULL);
	add_basic(s, 1);
	add_basic(s, 2);
	assert_string_equal(drain(s), "1>10 2>11");
	bxc_sched_task_finished(s, 1);
	bxc_sched_task t = basic(3);
	t.chain_worker = 11; /* not the idle one */
	add(s, &t);
	assert_string_equal(drain(s), "3>11");
	t.id = 4;
	add(s, &t);
	assert_string_equal(
		drain(s), "4>11"); /* two run there, none on the other: not clearly better */
	t.id = 5;
	add(s, &t);
	assert_string_equal(drain(s), "5>10");
	/* Unless it would have to bring the inputs along. */
	bxc_sched_task_finished(s, 5);
	bxc_sched_layer_at(s, 11, "tree");
	bxc_sched_layer tree = {"tree", 500 * MB};
	t.id = 6;
	t.layers = &tree;
	t.n_layers = 1;
	add(s, &t);
	assert_string_equal(drain(s), "6>11");
}

static void a_task_may_wait_for_its_inputs_but_not_while_a_worker_is_idle(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 1, "linux/amd64", NULL);
	join(s, 11, 2, "linux/amd64", NULL);
	bxc_sched_layer_at(s, 10, "big");
	bxc_sched_layer big = {"big", 2000 * MB};
	bxc_sched_task t = basic(1);
	t.layers = &big;
	t.n_layers = 1;
	add(s, &t);
	bxc_sched_task other = basic(2);
	add(s, &other);
	assert_string_equal(drain(s), "1>10 2>11");
	t.id = 3;
	add(s, &t);
	assert_string_equal(drain(s), ""); /* a second of waiting against twenty of copying */
	assert_int_equal(bxc_sched_waiting_reason(s, 3), BXC_SCHED_WAIT_INPUTS);
	bxc_sched_task_finished(s, 2);
	assert_string_equal(drain(s), "3>11");
}

static void native_beats_emulated(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 4, "linux/amd64", "linux/arm64");
	bxc_sched_task t = basic(1);
	t.platform = plat("linux/arm64");
	add(s, &t);
	assert_string_equal(drain(s), "1>10e");
	join(s, 11, 1, "linux/arm64", NULL);
	t.id = 2;
	add(s, &t);
	t.id = 3;
	add(s, &t);
	assert_string_equal(drain(s), "2>11"); /* the second waits rather than being emulated */
	assert_int_equal(bxc_sched_waiting_reason(s, 3), BXC_SCHED_WAIT_SLOTS);
	bxc_sched_worker_remove(s, 11);
	assert_string_equal(drain(s), "2!11 3>10e");
}

static void a_platform_nobody_serves_is_reported_and_waits(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	bxc_sched_task t = basic(1);
	t.platform = plat("linux/riscv64");
	add(s, &t);
	assert_string_equal(drain(s), "");
	assert_int_equal(bxc_sched_waiting_reason(s, 1), BXC_SCHED_WAIT_NO_WORKER);
	join(s, 10, 4, "linux/amd64", "linux/arm64");
	join(s, 11, 4, "linux/amd64", NULL);
	add_basic(s, 2);
	assert_string_equal(drain(s), "2>10"); /* it holds up nobody */
	assert_int_equal(bxc_sched_waiting_reason(s, 1), BXC_SCHED_WAIT_PLATFORM);
	char *list = NULL;
	assert_true(bxc_sched_unservable(s, 1, &list));
	assert_string_equal(list, "linux/amd64, linux/arm64");
	free(list);
	assert_false(bxc_sched_unservable(s, 2, NULL));
	join(s, 12, 1, "linux/riscv64", NULL);
	assert_string_equal(drain(s), "1>12");
}

static void tenants_and_builds_take_turns(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	/* A big build of one tenant comes first, then small ones. */
	for (uint64_t i = 1; i <= 20; i++) {
		bxc_sched_task t = basic(i);
		t.tenant = "a";
		add(s, &t);
	}
	bxc_sched_task t = basic(30);
	t.tenant = "a";
	t.build = 2;
	add(s, &t);
	t = basic(40);
	t.tenant = "b";
	t.build = 3;
	add(s, &t);
	join(s, 10, 4, "linux/amd64", NULL);
	assert_string_equal(drain(s), "1>10 40>10 30>10 2>10");
	/* The tenant that has less running is next, whoever finished. */
	t.id = 41;
	add(s, &t);
	bxc_sched_task_finished(s, 40);
	assert_string_equal(drain(s), "41>10");
}

static void a_tenant_gets_its_share_and_no_more_than_its_bounds(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	bxc_sched_tenant_set(s, &(bxc_sched_tenant){.name = "a", .weight = 3});
	bxc_sched_tenant_set(s, &(bxc_sched_tenant){.name = "c", .max_running = 2, .max_per_build = 1});
	join(s, 10, 8, "linux/amd64", NULL);
	for (uint64_t i = 1; i <= 30; i++) {
		bxc_sched_task t = basic(i);
		t.tenant = i <= 10 ? "a" : i <= 20 ? "b" : "c";
		t.build = i <= 20 ? (i - 1) / 10 + 1 : i; /* c: a build each, but two of the first */
		if (i == 22)
			t.build = 21;
		add(s, &t);
	}
	drain(s);
	size_t of[3] = {0};
	for (uint64_t i = 1; i <= 30; i++)
		of[(i - 1) / 10] += bxc_sched_worker_of(s, i) != 0;
	assert_int_equal(of[0], 4);
	assert_int_equal(of[1], 2);
	assert_int_equal(of[2], 2);
	assert_int_equal(bxc_sched_worker_of(s, 21), 10);
	assert_int_equal(bxc_sched_worker_of(s, 22), 0);
	assert_int_equal(bxc_sched_worker_of(s, 23), 10);
	/* What the others wait for: with two running, the tenant's bound counts before that of the build. */
	assert_int_equal(bxc_sched_waiting_reason(s, 22), BXC_SCHED_WAIT_TENANT);
	assert_int_equal(bxc_sched_waiting_reason(s, 24), BXC_SCHED_WAIT_TENANT);
	bxc_sched_task_finished(s, 23);
	assert_int_equal(bxc_sched_waiting_reason(s, 22), BXC_SCHED_WAIT_BUILD);
	drain(s);
	assert_int_equal(bxc_sched_worker_of(s, 24), 10);
	assert_int_equal(bxc_sched_waiting_reason(s, 2 + 3), BXC_SCHED_WAIT_SLOTS);
	/* A bound that is lifted counts at once, even for one that waits behind it. */
	bxc_sched_task_finished(s, 1);
	bxc_sched_tenant_set(s, &(bxc_sched_tenant){.name = "c", .weight = 9});
	drain(s);
	assert_int_equal(bxc_sched_worker_of(s, 22) + bxc_sched_worker_of(s, 25), 10);
}

static void expected_time_decides_which_path_is_longer(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	for (uint64_t i = 1; i <= 3; i++) {
		bxc_sched_task t = basic(i);
		t.remaining = 4 - (uint32_t)i;
		t.path_ns = (int64_t)i * 1000 * MS;
		add(s, &t);
	}
	join(s, 10, 1, "linux/amd64", NULL);
	assert_string_equal(drain(s), "3>10");
}

static void who_waits_for_a_worker_that_leaves_is_placed_elsewhere(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 1, "linux/amd64", NULL);
	join(s, 11, 2, "linux/amd64", NULL);
	bxc_sched_layer_at(s, 10, "big");
	bxc_sched_layer big = {"big", 2000 * MB};
	bxc_sched_task t = basic(1);
	t.layers = &big;
	t.n_layers = 1;
	add(s, &t);
	add_basic(s, 2);
	assert_string_equal(drain(s), "1>10 2>11");
	t.id = 3;
	add(s, &t);
	t.id = 4;
	add(s, &t);
	assert_string_equal(drain(s), "");
	assert_int_equal(bxc_sched_n_waiting(s), 2);
	bxc_sched_task_cancel(s, 4);
	assert_int_equal(bxc_sched_n_waiting(s), 1);
	/* Its layer there is gone: nothing to wait for. */
	bxc_sched_layer_gone(s, 10, "big");
	bxc_sched_worker_drain(s, 10);
	assert_string_equal(drain(s), "3>11");
	bxc_sched_worker_remove(s, 10);
	assert_string_equal(drain(s), "1!10");
}

static void the_longest_path_goes_first(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	uint32_t paths[] = {1, 5, 3, 5};
	for (uint64_t i = 1; i <= 4; i++) {
		bxc_sched_task t = basic(i);
		t.remaining = paths[i - 1];
		add(s, &t);
	}
	join(s, 10, 4, "linux/amd64", NULL);
	assert_string_equal(drain(s), "2>10 4>10 3>10 1>10");
}

static void a_worker_where_it_failed_is_avoided_while_there_is_another(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 4, "linux/amd64", NULL);
	join(s, 11, 4, "linux/amd64", NULL);
	uint64_t avoid[] = {10};
	bxc_sched_task t = basic(1);
	t.avoid = avoid;
	t.n_avoid = 1;
	t.chain_worker = 10;
	add(s, &t);
	assert_string_equal(drain(s), "1>11");
	bxc_sched_worker_remove(s, 11);
	t.id = 2;
	add(s, &t);
	assert_string_equal(drain(s), "1!11 2>10");
}

static void a_drained_worker_ends_its_tasks_and_gets_no_more(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 4, "linux/amd64", NULL);
	add_basic(s, 1);
	assert_string_equal(drain(s), "1>10");
	bxc_sched_worker_drain(s, 10);
	add_basic(s, 2);
	assert_string_equal(drain(s), "");
	assert_int_equal(bxc_sched_waiting_reason(s, 2), BXC_SCHED_WAIT_DRAINING);
	char *list = NULL;
	assert_true(bxc_sched_unservable(s, 2, &list));
	assert_string_equal(list, "");
	free(list);
	bxc_sched_task_finished(s, 1);
	assert_string_equal(drain(s), "drained 10");
	join(s, 10, 4, "linux/amd64", NULL); /* it came back */
	assert_string_equal(drain(s), "2>10");
}

static void what_a_worker_runs_when_it_rejoins_is_adopted(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	add_basic(s, 1);
	add_basic(s, 2);
	assert_int_equal(bxc_sched_task_adopt(s, 1, 10, NULL), -BXC_NOT_FOUND);
	join(s, 10, 1, "linux/amd64", NULL);
	assert_int_equal(bxc_sched_task_adopt(s, 1, 10, NULL), 0);
	assert_int_equal(bxc_sched_task_adopt(s, 1, 10, NULL), 0);
	assert_string_equal(drain(s), "");
	join(s, 11, 1, "linux/amd64", NULL);
	assert_int_equal(bxc_sched_task_adopt(s, 1, 11, NULL), -BXC_FAILED_PRECONDITION);
	assert_string_equal(drain(s), "2>11");
}

static void an_assignment_not_taken_yet_is_void_when_its_task_ends(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 4, "linux/amd64", NULL);
	add_basic(s, 1);
	add_basic(s, 2);
	bxc_sched_action a;
	assert_true(bxc_sched_next(s, &a)); /* both are placed, one is taken */
	assert_int_equal(a.task, 1);
	bxc_sched_task_cancel(s, 2);
	assert_false(bxc_sched_next(s, &a));
	bxc_sched_task_cancel(s, 99);
	bxc_sched_task_finished(s, 99);
	bxc_sched_worker_remove(s, 99);
}

static void add_cached(bxc_sched *s, uint64_t id, const char *key, bxc_sched_sharing sharing)
{
	bxc_sched_task t = basic(id);
	const bxc_sched_cache c = {key, sharing};
	t.caches = &c;
	t.n_caches = 1;
	add(s, &t);
}

static void a_cache_mount_has_a_home(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 1, "linux/amd64", NULL);
	join(s, 11, 8, "linux/amd64", NULL);
	add_cached(s, 1, "k", BXC_SCHED_SHARED);
	assert_string_equal(drain(s), "1>10");
	assert_int_equal(bxc_sched_cache_home(s, "k"), 10);
	/* The home is busy: better late than with an empty folder. */
	add_cached(s, 2, "k", BXC_SCHED_SHARED);
	add_cached(s, 3, "other", BXC_SCHED_SHARED);
	assert_string_equal(drain(s), "3>11");
	assert_int_equal(bxc_sched_waiting_reason(s, 2), BXC_SCHED_WAIT_CACHE);
	bxc_sched_task_finished(s, 1);
	assert_string_equal(drain(s), "2>10");
	/* Its home has gone: elsewhere, and that is the home from now on. */
	bxc_sched_worker_remove(s, 10);
	assert_string_equal(drain(s), "2!10");
	assert_int_equal(bxc_sched_cache_home(s, "k"), 0);
	add_cached(s, 4, "k", BXC_SCHED_SHARED);
	assert_string_equal(drain(s), "4>11");
	assert_int_equal(bxc_sched_cache_home(s, "k"), 11);
	join(s, 12, 1, "linux/amd64", NULL);
	bxc_sched_cache_at(s, "k", 12);
	assert_int_equal(bxc_sched_cache_home(s, "k"), 11);
	/* What is known from before a restart. */
	bxc_sched_cache_at(s, "old", 12);
	add_cached(s, 5, "old", BXC_SCHED_LOCKED);
	assert_string_equal(drain(s), "5>12");
	/* A home that does not serve the platform binds nobody. */
	bxc_sched_task t = basic(6);
	const bxc_sched_cache c = {"k", BXC_SCHED_SHARED};
	t.caches = &c;
	t.n_caches = 1;
	t.platform = plat("linux/arm64");
	add(s, &t);
	assert_string_equal(drain(s), "");
	join(s, 13, 1, "linux/arm64", NULL);
	assert_string_equal(drain(s), "6>13");
}

static void a_locked_cache_mount_has_one_user(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 4, "linux/amd64", NULL);
	join(s, 11, 4, "linux/amd64", NULL);
	add_cached(s, 1, "k", BXC_SCHED_LOCKED);
	add_cached(s, 2, "k", BXC_SCHED_LOCKED);
	add_cached(s, 3, "k", BXC_SCHED_SHARED);
	assert_string_equal(drain(s), "1>10");
	assert_int_equal(bxc_sched_waiting_reason(s, 2), BXC_SCHED_WAIT_CACHE);
	bxc_sched_task_finished(s, 1);
	assert_string_equal(drain(s), "2>10");
	bxc_sched_task_cancel(s, 2);
	assert_string_equal(drain(s), "3>10");
	/* Who wants it alone is not overtaken for ever by those that share it. */
	add_cached(s, 4, "k", BXC_SCHED_LOCKED);
	add_cached(s, 5, "k", BXC_SCHED_SHARED);
	assert_string_equal(drain(s), "");
	bxc_sched_task_finished(s, 3);
	assert_string_equal(drain(s), "4>10");
	bxc_sched_task_finished(s, 4);
	assert_string_equal(drain(s), "5>10");
}

static void shared_cache_mounts_run_together_and_private_ones_apart(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 2, "linux/amd64", NULL);
	join(s, 11, 2, "linux/amd64", NULL);
	add_cached(s, 1, "k", BXC_SCHED_SHARED);
	add_cached(s, 2, "k", BXC_SCHED_SHARED);
	assert_string_equal(drain(s), "1>10 2>10");
	add_cached(s, 3, "k", BXC_SCHED_PRIVATE);
	assert_string_equal(drain(s), "3>11");
	assert_int_equal(bxc_sched_cache_home(s, "k"), 10);
	bxc_sched_task_finished(s, 1);
	bxc_sched_task_finished(s, 2);
	bxc_sched_task_finished(s, 3);
	/* Not in use: what earlier builds left is at home. */
	add_basic(s, 4);
	assert_string_equal(drain(s), "4>10");
	add_cached(s, 5, "k", BXC_SCHED_PRIVATE);
	assert_string_equal(drain(s), "5>10");
}

static void caches_that_one_task_uses_come_together(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 2, "linux/amd64", NULL);
	join(s, 11, 2, "linux/amd64", NULL);
	add_cached(s, 1, "a", BXC_SCHED_SHARED);
	add_cached(s, 2, "b", BXC_SCHED_SHARED);
	assert_string_equal(drain(s), "1>10 2>11");
	bxc_sched_task_finished(s, 1);
	bxc_sched_task t = basic(3);
	const bxc_sched_cache both[] = {
		{"a", BXC_SCHED_LOCKED}, {"b", BXC_SCHED_SHARED}, {"b", BXC_SCHED_LOCKED}};
	t.caches = both;
	t.n_caches = 3;
	add(s, &t);
	assert_string_equal(drain(s), "");
	bxc_sched_task_finished(s, 2);
	assert_string_equal(drain(s), "3>10");
	assert_int_equal(bxc_sched_cache_home(s, "b"), 10);
	add_cached(s, 4, "b", BXC_SCHED_SHARED);
	assert_string_equal(drain(s), "");
	bxc_sched_task_finished(s, 3);
	assert_string_equal(drain(s), "4>10");
}

static void ten_thousand_tasks_are_placed_in_reasonable_time(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	for (uint64_t w = 1; w <= 50; w++)
		join(s, w, 8, "linux/amd64", NULL);
	for (uint64_t i = 1; i <= 10000; i++) {
		bxc_sched_task t = basic(i);
		t.build = 1 + i % 100;
		add(s, &t);
	}
	uint64_t done = 0;
	bxc_sched_action a;
	uint64_t running[400];
	size_t n = 0;
	while (done < 10000) {
		while (bxc_sched_next(s, &a))
			running[n++] = a.task;
		assert_true(n > 0);
		bxc_sched_task_finished(s, running[--n]);
		done++;
	}
	assert_int_equal(bxc_sched_n_waiting(s), 0);
}

/* 1 GB away from its input: 10 s by the default. */
static void a_measured_link_decides_whether_inputs_move(void **state)
{
	(void)state;
	AUTO_SCHED bxc_sched *s = bxc_sched_new();
	join(s, 10, 1, "linux/amd64", NULL);
	bxc_sched_layer_at(s, 10, "big");
	bxc_sched_task busy = basic(1);
	busy.cost_ns = 5000 * MS;
	add(s, &busy);
	assert_string_equal(drain(s), "1>10");
	/* The other one does other things as well: it is not idle. */
	join(s, 11, 4, "linux/amd64", NULL);
	bxc_sched_task small = basic(2);
	small.chain_worker = 11;
	add(s, &small);
	assert_string_equal(drain(s), "2>11");
	bxc_sched_layer big = {"big", 1000 * MB};
	bxc_sched_task t = basic(3);
	t.layers = &big;
	t.n_layers = 1;
	bxc_sched_worker_bandwidth(s, 11, 50 * MB);
	add(s, &t);
	assert_string_equal(drain(s), "");
	assert_int_equal(bxc_sched_waiting_reason(s, 3), BXC_SCHED_WAIT_INPUTS);
	bxc_sched_worker_bandwidth(s, 11, 10000 * MB);
	bxc_sched_worker_bandwidth(s, 10, 10000 * MB);
	bxc_sched_worker_bandwidth(s, 99, 1);
	assert_string_equal(drain(s), "3>11");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slots_bound_what_runs),
		cmocka_unit_test(independent_tasks_spread_over_idle_workers),
		cmocka_unit_test(a_task_goes_where_its_inputs_are),
		cmocka_unit_test(a_chain_stays_unless_another_place_is_clearly_better),
		cmocka_unit_test(a_task_may_wait_for_its_inputs_but_not_while_a_worker_is_idle),
		cmocka_unit_test(native_beats_emulated),
		cmocka_unit_test(a_platform_nobody_serves_is_reported_and_waits),
		cmocka_unit_test(tenants_and_builds_take_turns),
		cmocka_unit_test(a_tenant_gets_its_share_and_no_more_than_its_bounds),
		cmocka_unit_test(expected_time_decides_which_path_is_longer),
		cmocka_unit_test(who_waits_for_a_worker_that_leaves_is_placed_elsewhere),
		cmocka_unit_test(the_longest_path_goes_first),
		cmocka_unit_test(a_worker_where_it_failed_is_avoided_while_there_is_another),
		cmocka_unit_test(a_drained_worker_ends_its_tasks_and_gets_no_more),
		cmocka_unit_test(what_a_worker_runs_when_it_rejoins_is_adopted),
		cmocka_unit_test(an_assignment_not_taken_yet_is_void_when_its_task_ends),
		cmocka_unit_test(a_cache_mount_has_a_home),
		cmocka_unit_test(a_locked_cache_mount_has_one_user),
		cmocka_unit_test(shared_cache_mounts_run_together_and_private_ones_apart),
		cmocka_unit_test(caches_that_one_task_uses_come_together),
		cmocka_unit_test(ten_thousand_tasks_are_placed_in_reasonable_time),
		cmocka_unit_test(a_measured_link_decides_whether_inputs_move),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
