/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "coordinator/solver/test_world.h"

static void set(bxc_map *m, const char *key, const char *value)
{
	bxc_map_set(m, key, bxc_strdup(value));
}

#define AUTO_WORLD BXC_CLEANUP(world_done)
#define AUTO_DEF   BXC_CLEANUP(bxc_def_freep)

/* base -> a -> b; returns b. */
static uint32_t make_chain(bxc_def *d)
{
	return def_run(d, "b", def_run(d, "a", def_image(d, "base")));
}

static void a_chain_runs_from_its_source_up_and_is_cached_after(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t b = make_chain(d);
	world_add(&w, 1, d, b);
	assert_int_equal(w.n_lookups, 3);
	assert_string_equal(world_log(&w), "b1:STARTED:base");
	assert_int_equal(world_find(&w, "base")->remaining, 3);
	uint64_t base = world_finish(&w, "base");
	assert_string_equal(world_log(&w), "b1:DONE:base b1:STARTED:a");
	assert_int_equal(world_find(&w, "a")->inputs.v[0], base);
	assert_int_equal(world_find(&w, "a")->miss, BXC_SOLVE_MISS_INPUT);
	world_finish(&w, "a");
	uint64_t record = world_finish(&w, "b");
	assert_string_equal(world_log(&w), "b1:DONE:a b1:STARTED:b b1:DONE:b b1:OK");
	assert_int_equal(w.done_records.v[0], record);
	/* Keys did not change on the way, so there was nothing to look up again. */
	assert_int_equal(w.n_lookups, 3);
	bxc_solve_release(w.s, 1);
	assert_int_equal(bxc_solve_n_vertices(w.s), 0);

	world_add(&w, 2, d, b);
	assert_int_equal(w.runs.n, 0);
	assert_string_equal(world_log(&w), "b2:CACHED:base b2:CACHED:a b2:CACHED:b b2:OK");
	assert_int_equal(w.done_records.v[0], record);
	assert_true(bxc_solve_uses_record(w.s, record));
	bxc_solve_release(w.s, 2);
	assert_false(bxc_solve_uses_record(w.s, record));
}

static void the_sides_of_a_diamond_run_at_the_same_time(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t base = def_image(d, "base");
	uint32_t l = def_run(d, "l", base);
	uint32_t r = def_run(d, "r", base);
	uint32_t top = def_copy(d, "top", l, r, "/out");
	world_add(&w, 1, d, top);
	world_finish(&w, "base");
	assert_int_equal(w.runs.n, 2);
	world_finish(&w, "r");
	assert_null(world_find(&w, "top"));
	world_finish(&w, "l");
	assert_non_null(world_find(&w, "top"));
	world_finish(&w, "top");
	assert_int_equal(w.done_code, BXC_OK);
	assert_int_equal(w.done_records.n, 1);
}

static void nothing_below_a_hit_runs(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t b = make_chain(d);
	world_add(&w, 1, d, b);
	world_finish(&w, "base");
	uint64_t a = world_finish(&w, "a");
	world_finish(&w, "b");
	bxc_solve_release(w.s, 1);
	world_log(&w);
	world_lose(&w, a); /* not live: only its links go */
	world_add(&w, 2, d, b);
	assert_int_equal(w.runs.n, 0);
	assert_string_equal(world_log(&w), "b2:CACHED:base b2:CACHED:b b2:OK");
}

static void a_rebuilt_input_of_equal_content_leads_to_a_hit(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	set(w.content, "make1", "binary");
	set(w.content, "make2", "binary");
	set(w.content, "make3", "other binary");
	static const char *const makes[] = {"make1", "make2", "make3"};
	for (size_t i = 0; i < 3; i++) {
		AUTO_DEF bxc_def *d = bxc_def_new();
		uint32_t run_base = def_image(d, "runtime");
		uint32_t make = def_run(d, makes[i], def_image(d, "sdk"));
		uint32_t copy = def_copy(d, "copy", run_base, make, "/out/app");
		uint32_t top = def_run(d, "top", copy);
		world_add(&w, i + 1, d, top);
		if (i == 0) {
			world_finish_all(&w);
			assert_int_equal(w.done_code, BXC_OK);
		} else if (i == 1) {
			world_log(&w);
			assert_int_equal(w.runs.n, 1);
			world_finish(&w, "make2");
			assert_int_equal(w.runs.n, 0);
			assert_string_equal(
				world_log(&w), "b2:DONE:make2 b2:CACHED:copy b2:CACHED:top b2:OK");
			/* What was learnt is saved: the same definition is a hit at once. */
			bxc_solve_release(w.s, 2);
			world_add(&w, 12, d, top);
			assert_int_equal(w.runs.n, 0);
			bxc_solve_release(w.s, 12);
		} else {
			world_finish(&w, "make3");
			assert_non_null(world_find(&w, "copy"));
			assert_int_equal(world_find(&w, "copy")->miss, BXC_SOLVE_MISS_INPUT);
			assert_int_equal(world_find(&w, "copy")->miss_input, 1);
			world_finish_all(&w);
		}
		bxc_solve_release(w.s, i + 1);
	}
	assert_int_equal(bxc_solve_n_vertices(w.s), 0);
}

static void a_read_only_mount_counts_by_content(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	set(w.content, "gen1", "same");
	set(w.content, "gen2", "same");
	AUTO_DEF bxc_def *d1 = bxc_def_new();
	uint32_t base = def_image(d1, "base");
	world_add(&w, 1, d1, def_run2(d1, "use", base, def_run(d1, "gen1", base)));
	world_finish_all(&w);
	bxc_solve_release(w.s, 1);
	AUTO_DEF bxc_def *d2 = bxc_def_new();
	base = def_image(d2, "base");
	world_add(&w, 2, d2, def_run2(d2, "use", base, def_run(d2, "gen2", base)));
	world_finish(&w, "gen2");
	assert_int_equal(w.runs.n, 0);
	assert_int_equal(w.done_code, BXC_OK);
}

static void a_change_of_the_context_outside_of_the_selection_hits(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	set(w.local, "/src", "sources 1");
	set(w.local, "/doc", "text 1");
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t base = def_image(d, "base");
	uint32_t ctx = def_local(d, "context");
	uint32_t src = def_copy(d, "copy src", base, ctx, "/src");
	uint32_t doc = def_copy(d, "copy doc", src, ctx, "/doc");
	world_add(&w, 1, d, doc);
	world_finish_all(&w);
	assert_int_equal(w.done_code, BXC_OK);
	bxc_solve_release(w.s, 1);

	/* A session is in the definition, as the frontend writes it: another digest of the source.
	 */
	AUTO_DEF bxc_def *d2 = bxc_def_new();
	base = def_image(d2, "base");
	ctx = def_local(d2, "context2");
	src = def_copy(d2, "copy src", base, ctx, "/src");
	doc = def_copy(d2, "copy doc", src, ctx, "/doc");
	set(w.local, "/doc", "text 2");
	world_log(&w);
	world_add(&w, 2, d2, doc);
	assert_int_equal(w.runs.n, 1); /* the local source, for what has changed */
	assert_string_equal(world_log(&w), "b2:CACHED:base b2:CACHED:copy src b2:STARTED:context2");
	world_finish_all(&w);
	assert_string_equal(
		world_log(&w), "b2:DONE:context2 b2:STARTED:copy doc b2:DONE:copy doc b2:OK");
	bxc_solve_release(w.s, 2);

	set(w.local, "/doc", "text 1");
	world_add(&w, 3, d2, doc);
	assert_int_equal(w.runs.n, 0);
	assert_int_equal(w.done_code, BXC_OK);
}

static void a_missing_file_of_the_context_fails_before_anything_runs(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t a = def_run(d, "a", def_image(d, "base"));
	world_add(&w, 1, d, def_copy(d, "copy", a, def_local(d, "context"), "/missing"));
	assert_int_equal(w.runs.n, 0);
	assert_string_equal(world_log(&w), "b1:FAILED:copy b1:NOT_FOUND");
	assert_int_equal(bxc_solve_n_vertices(w.s), 0);
}

static void equal_builds_share_one_run(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d1 = bxc_def_new();
	AUTO_DEF bxc_def *d2 = bxc_def_new();
	uint32_t b = make_chain(d1);
	make_chain(d2);
	world_add(&w, 1, d1, b);
	world_finish(&w, "base");
	world_log(&w);
	world_add(&w, 2, d2, b);
	assert_int_equal(w.runs.n, 1);
	assert_string_equal(world_log(&w), "b2:CACHED:base b2:STARTED:a");
	/* The first build leaves; its definition may go, the run stays. */
	bxc_solve_cancel(w.s, 1);
	world_drive(&w);
	assert_string_equal(world_log(&w), "b1:CANCELED:a b1:CANCELED");
	bxc_def_free(BXC_TAKE(d1));
	world_finish(&w, "a");
	world_finish(&w, "b");
	assert_string_equal(world_log(&w), "b2:DONE:a b2:STARTED:b b2:DONE:b b2:OK");
}

static void a_run_stops_when_the_last_build_leaves(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t b = make_chain(d);
	world_add(&w, 1, d, b);
	world_add(&w, 2, d, b);
	uint64_t ticket = world_find(&w, "base")->ticket;
	world_log(&w);
	bxc_solve_release(w.s, 2);
	world_drive(&w);
	assert_string_equal(world_log(&w), "");
	bxc_solve_cancel(w.s, 1);
	world_drive(&w);
	assert_string_equal(world_log(&w), "b1:CANCELED:base STOP:base b1:CANCELED");
	assert_false(bxc_solve_run_done(w.s, ticket, 7));
	assert_int_equal(bxc_solve_n_vertices(w.s), 0);
	assert_int_equal(bxc_solve_n_builds(w.s), 0);
	bxc_solve_cancel(w.s, 1); /* unknown now */
	world_drive(&w);
	assert_string_equal(world_log(&w), "");
}

static void equal_keys_of_different_definitions_share_one_run(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	set(w.content, "make1", "binary");
	set(w.content, "make2", "binary");
	AUTO_DEF bxc_def *d1 = bxc_def_new();
	AUTO_DEF bxc_def *d2 = bxc_def_new();
	bxc_def *d[2] = {d1, d2};
	uint32_t top[2];
	for (size_t i = 0; i < 2; i++) {
		uint32_t base = def_image(d[i], "base");
		uint32_t make = def_run(d[i], i ? "make2" : "make1", base);
		top[i] = def_copy(d[i], i ? "copy2" : "copy1", BXC_DEF_NO_INPUT, make, "/app");
		world_add(&w, i + 1, d[i], top[i]);
	}
	world_finish(&w, "base");
	world_finish(&w, "make1");
	world_log(&w);
	world_finish(&w, "make2");
	assert_string_equal(world_log(&w), "b2:DONE:make2 b2:STARTED:copy2");
	assert_int_equal(w.runs.n, 1);
	/* The one that began it leaves: the run goes on for the other. */
	bxc_solve_cancel(w.s, 1);
	world_drive(&w);
	assert_string_equal(world_log(&w), "b1:CANCELED:copy1 b1:CANCELED");
	uint64_t record = world_finish(&w, "copy1");
	assert_string_equal(world_log(&w), "b2:DONE:copy2 b2:OK");
	assert_int_equal(w.done_records.v[0], record);
}

static void a_failure_fails_those_who_need_it_and_no_other(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d1 = bxc_def_new();
	uint32_t base = def_image(d1, "base");
	uint32_t bad = def_run(d1, "bad", base);
	uint32_t long1 = def_run(d1, "long1", base);
	uint32_t shared = def_run(d1, "shared", base);
	uint32_t m1 = def_copy(d1, "m1", bad, long1, "/");
	world_add(&w, 1, d1, def_copy(d1, "top1", m1, shared, "/"));
	AUTO_DEF bxc_def *d2 = bxc_def_new();
	world_add(&w, 2, d2, def_run(d2, "top2", def_run(d2, "shared", def_image(d2, "base"))));
	world_finish(&w, "base");
	assert_int_equal(w.runs.n, 3);
	world_log(&w);
	world_fail(&w, "bad", false);
	assert_string_equal(world_log(&w),
		"b1:FAILED:bad b1:CANCELED:long1 b1:CANCELED:shared STOP:long1 b1:ABORTED");
	world_finish(&w, "shared");
	world_finish(&w, "top2");
	assert_string_equal(world_log(&w), "b2:DONE:shared b2:STARTED:top2 b2:DONE:top2 b2:OK");
	bxc_solve_release(w.s, 2);

	/* A failure is never cached, what had finished is. */
	AUTO_DEF bxc_def *d3 = bxc_def_new();
	base = def_image(d3, "base");
	bad = def_run(d3, "bad", base);
	shared = def_run(d3, "shared", base);
	world_add(&w, 3, d3, def_copy(d3, "top3", bad, shared, "/"));
	assert_non_null(world_find(&w, "bad"));
	assert_int_equal(w.runs.n, 1);
}

static void ignoring_the_cache_runs_anew_and_the_new_result_is_preferred(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *plain = bxc_def_new();
	uint32_t b = make_chain(plain);
	world_add(&w, 1, plain, b);
	world_finish(&w, "base");
	uint64_t old_a = world_finish(&w, "a");
	uint64_t old_b = world_finish(&w, "b");
	bxc_solve_release(w.s, 1);

	AUTO_DEF bxc_def *fresh = bxc_def_new();
	make_chain(fresh);
	def_ignore(fresh, 1); /* a */
	world_log(&w);
	world_add(&w, 2, fresh, b);
	assert_string_equal(world_log(&w), "b2:CACHED:base b2:STARTED:a");
	assert_int_equal(world_find(&w, "a")->miss, BXC_SOLVE_MISS_IGNORE_CACHE);
	uint64_t new_a = world_finish(&w, "a");
	/* The old result of b was made of the old a. */
	assert_int_equal(world_find(&w, "b")->inputs.v[0], new_a);
	uint64_t new_b = world_finish(&w, "b");
	assert_true(new_a != old_a && new_b != old_b);
	bxc_solve_release(w.s, 2);

	world_add(&w, 3, plain, b);
	assert_int_equal(w.runs.n, 0);
	assert_int_equal(w.done_records.v[0], new_b);
}

static void a_plain_build_may_join_a_run_that_ignores_the_cache_but_not_the_reverse(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *plain = bxc_def_new();
	uint32_t b = make_chain(plain);
	AUTO_DEF bxc_def *fresh = bxc_def_new();
	make_chain(fresh);
	def_ignore(fresh, 1);
	world_add(&w, 1, fresh, b);
	world_add(&w, 2, plain, b);
	world_finish(&w, "base");
	assert_int_equal(w.runs.n, 1);
	world_finish(&w, "a");
	assert_int_equal(w.runs.n, 1);
	world_finish(&w, "b");
	assert_string_equal(world_log(&w),
		"b1:STARTED:base b2:STARTED:base b1:DONE:base b2:DONE:base b1:STARTED:a "
		"b2:STARTED:a "
		"b1:DONE:a b2:DONE:a b1:STARTED:b b2:STARTED:b b1:DONE:b b2:DONE:b b1:OK b2:OK");
	bxc_solve_release(w.s, 1);
	bxc_solve_release(w.s, 2);

	bxc_map_clear(w.cache);
	world_add(&w, 3, plain, b);
	world_finish(&w, "base");
	world_add(&w, 4, fresh, b);
	assert_int_equal(w.runs.n, 2);
}

static void a_run_that_ignores_the_cache_stays_one_when_only_plain_builds_are_left(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *plain = bxc_def_new();
	uint32_t b = make_chain(plain);
	AUTO_DEF bxc_def *fresh = bxc_def_new();
	make_chain(fresh);
	def_ignore(fresh, 1);
	world_add(&w, 1, fresh, b);
	world_add(&w, 2, plain, b);
	world_finish(&w, "base");
	assert_true(world_find(&w, "a")->fresh);
	bxc_solve_cancel(w.s, 1);
	world_drive(&w);
	world_fail(&w, "a", true);
	assert_int_equal(world_find(&w, "a")->attempt, 2);
	assert_true(world_find(&w, "a")->fresh);
	world_finish(&w, "a");
	assert_false(world_find(&w, "b")->fresh);
	world_finish(&w, "b");
	assert_int_equal(w.done_code, BXC_OK);
}

static void nothing_hides_an_ignored_vertex_behind_a_hit_above(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	set(w.content, "a", "same each time");
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t base = def_image(d, "base");
	uint32_t a = def_run(d, "a", base);
	uint32_t top = def_copy(d, "top", BXC_DEF_NO_INPUT, a, "/x");
	world_add(&w, 1, d, top);
	world_finish_all(&w);
	bxc_solve_release(w.s, 1);
	world_log(&w);
	def_ignore(d, a);
	world_add(&w, 2, d, top);
	assert_string_equal(world_log(&w), "b2:CACHED:base b2:STARTED:a");
	world_finish(&w, "a");
	/* It ran; that it yielded the same content spares what is above. */
	assert_string_equal(world_log(&w), "b2:DONE:a b2:CACHED:top b2:OK");
}

static void a_lost_result_is_made_again_with_what_it_needs(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t top = def_run(d, "c", make_chain(d));
	world_add(&w, 1, d, top);
	uint64_t base = world_finish(&w, "base");
	uint64_t a = world_finish(&w, "a");
	uint64_t b = world_finish(&w, "b");
	world_log(&w);
	/* The worker with all of it dies: c can't run, and neither b nor a nor base is there. */
	uint64_t ticket = world_find(&w, "c")->ticket;
	bxc_map_clear(w.cache);
	bxc_solve_result_lost(w.s, base);
	bxc_solve_result_lost(w.s, a);
	assert_true(bxc_solve_input_lost(w.s, ticket, b));
	world_forget_runs(&w);
	world_drive(&w);
	assert_string_equal(world_log(&w), "b1:STARTED:base");
	world_finish(&w, "base");
	assert_int_equal(world_find(&w, "a")->miss, BXC_SOLVE_MISS_LOST);
	world_finish(&w, "a");
	uint64_t b2 = world_finish(&w, "b");
	assert_int_equal(world_find(&w, "c")->inputs.v[0], b2);
	assert_int_equal(world_find(&w, "c")->attempt, 1);
	world_finish(&w, "c");
	assert_int_equal(w.done_code, BXC_OK);
}

static void a_loss_that_nobody_minds_runs_nothing(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t b = make_chain(d);
	world_add(&w, 1, d, b);
	world_finish(&w, "base");
	uint64_t a = world_finish(&w, "a");
	world_lose(&w, a); /* b runs on it; its worker has what it needs */
	assert_int_equal(w.runs.n, 1);
	world_finish(&w, "b");
	assert_int_equal(w.done_code, BXC_OK);
	assert_int_equal(w.runs.n, 0);
}

static void a_target_lost_before_the_release_comes_again(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t b = make_chain(d);
	world_add(&w, 1, d, b);
	world_finish_all(&w);
	uint64_t first = w.done_records.v[0];
	world_log(&w);
	world_lose(&w, first);
	assert_string_equal(world_log(&w), "b1:STARTED:b");
	uint64_t second = world_finish(&w, "b");
	assert_string_equal(world_log(&w), "b1:DONE:b b1:OK");
	assert_int_equal(w.done_records.v[0], second);
}

static void losses_without_end_end(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t b = make_chain(d);
	world_add(&w, 1, d, b);
	world_finish(&w, "base");
	world_finish(&w, "a");
	uint64_t record = world_finish(&w, "b");
	for (unsigned i = 0; i < BXC_SOLVE_MAX_LOST; i++) {
		world_lose(&w, record);
		record = world_finish(&w, "b");
	}
	world_lose(&w, record);
	assert_int_equal(w.runs.n, 0);
	assert_int_equal(w.done_code, BXC_DATA_LOSS);
	assert_int_equal(bxc_solve_n_builds(w.s), 0);

	/* Nor does an engine that blames a record nobody uses keep a build alive for ever. */
	bxc_map_clear(w.cache);
	world_add(&w, 2, d, b);
	unsigned n = 0;
	while (w.runs.n) {
		uint64_t ticket = w.runs.v[0].ticket;
		world_forget_runs(&w);
		assert_true(bxc_solve_input_lost(w.s, ticket, 999999));
		world_drive(&w);
		assert_true(++n < 100);
	}
	assert_int_equal(w.done_build, 2);
	assert_int_equal(w.done_code, BXC_DATA_LOSS);
}

static void infrastructure_is_tried_three_times(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t b = make_chain(d);
	world_add(&w, 1, d, b);
	world_fail(&w, "base", true);
	assert_int_equal(world_find(&w, "base")->attempt, 2);
	world_fail(&w, "base", true);
	assert_int_equal(world_find(&w, "base")->attempt, 3);
	world_finish(&w, "base");
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(world_find(&w, "a")->attempt, i + 1);
		world_fail(&w, "a", true);
	}
	assert_string_equal(world_log(&w), "b1:STARTED:base b1:DONE:base b1:STARTED:a");
	world_fail(&w, "a", true);
	assert_string_equal(world_log(&w), "b1:FAILED:a b1:UNAVAILABLE");
}

static void a_key_that_fails_by_a_lost_session_is_asked_again(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t b = make_chain(d);
	bxc_map_set(w.hold, "KEY", &w);
	world_add(&w, 1, d, b);
	assert_int_equal(w.held.n, 1);
	bxc_err *err = NULL;
	bxc_err_set(&err, BXC_CANCELED, "session closed");
	bxc_map_clear(w.hold);
	assert_true(bxc_solve_fail(w.s, w.held.v[0], err, true));
	world_drive(&w);
	assert_int_equal(w.n_source_keys, 2);
	world_finish_all(&w);
	assert_int_equal(w.done_code, BXC_OK);
}

static void answers_to_what_is_gone_are_ignored(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	bxc_map_set(w.hold, "KEY", &w);
	bxc_map_set(w.hold, "CHECKSUM", &w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	world_add(&w, 1, d, def_copy(d, "copy", def_image(d, "base"), def_local(d, "ctx"), "/x"));
	assert_int_equal(w.held.n, 3);
	bxc_solve_cancel(w.s, 1);
	world_drive(&w);
	bxc_digest key = bxc_digest_of_str("x");
	BXC_ARR_FOREACH (t, &w.held) {
		assert_false(bxc_solve_source_key(w.s, *t, &key));
		assert_false(bxc_solve_checksum(w.s, *t, &key));
		assert_false(bxc_solve_lookup_miss(w.s, *t));
		bxc_err *err = NULL;
		bxc_err_set(&err, BXC_INTERNAL, "x");
		assert_false(bxc_solve_fail(w.s, *t, err, false));
	}
	assert_false(bxc_solve_run_done(w.s, 0, 1));
	assert_int_equal(bxc_solve_n_vertices(w.s), 0);
}

static void several_targets_come_together(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t base = def_image(d, "base");
	uint32_t x = def_run(d, "x", base);
	uint32_t y = def_run(d, "y", base);
	uint32_t unused = def_run(d, "unused", base);
	(void)unused;
	bxc_solve_target t[] = {{y, 0}, {x, 0}};
	assert_int_equal(bxc_solve_add_build(w.s, 1, d, t, 2, NULL), 0);
	assert_int_equal(bxc_solve_n_vertices(w.s), 3);
	world_drive(&w);
	world_finish(&w, "base");
	uint64_t rx = world_finish(&w, "x");
	assert_int_equal(w.done_build, 0);
	uint64_t ry = world_finish(&w, "y");
	assert_int_equal(w.done_records.v[0], ry);
	assert_int_equal(w.done_records.v[1], rx);
	assert_int_equal(bxc_solve_add_build(w.s, 1, d, t, 2, NULL), -BXC_ALREADY_EXISTS);
	assert_int_equal(bxc_solve_add_build(w.s, 2, d, t, 0, NULL), -BXC_INVALID_ARGUMENT);
	t[0].vertex = 99;
	assert_int_equal(bxc_solve_add_build(w.s, 2, d, t, 2, NULL), -BXC_INVALID_ARGUMENT);
	assert_int_equal(bxc_solve_n_builds(w.s), 1);
}

static void a_chain_of_ten_thousand_needs_no_deep_stack(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	enum { LENGTH = 10000 };
	uint32_t v = def_image(d, "base");
	for (unsigned i = 0; i < LENGTH; i++) {
		char name[32];
		snprintf(name, sizeof(name), "step %u", i);
		v = def_run(d, name, v);
	}
	world_add(&w, 1, d, v);
	assert_int_equal(w.n_lookups, LENGTH + 1);
	world_finish_all(&w);
	assert_int_equal(w.done_code, BXC_OK);
	assert_int_equal(w.n_lookups, LENGTH + 1);
	bxc_solve_release(w.s, 1);
	bxc_buf_clear(&w.log);
	world_add(&w, 2, d, v);
	assert_int_equal(w.runs.n, 0);
	assert_int_equal(w.done_build, 2);
	bxc_solve_release(w.s, 2);
	assert_int_equal(bxc_solve_n_vertices(w.s), 0);
}

/*
 * sdk -> make (its content decides) -> copy -> link -> copy2 -> top: a chain in which keys of cold and
 * of warm builds differ, as content keys come in between.
 */
static uint32_t two_stages(bxc_def *d, const char *make)
{
	uint32_t base = def_image(d, "runtime");
	uint32_t built = def_run(d, make, def_image(d, "sdk"));
	uint32_t copy = def_copy(d, "copy", base, built, "/out/app");
	uint32_t link = def_run(d, "link", copy);
	uint32_t copy2 = def_copy(d, "copy2", base, link, "/out/linked");
	return def_run(d, "top", copy2);
}

static void another_cluster_finds_what_it_is_told_of(void **state)
{
	(void)state;
	/* Told by a cold build, and by one that had to run nothing but a rebuilt input of equal content. */
	for (int warm = 0; warm < 2; warm++) {
		AUTO_WORLD world a, b;
		world_init(&a);
		world_init(&b);
		set(a.content, "make1", "binary");
		set(a.content, "make2", "binary");
		AUTO_DEF bxc_def *d = bxc_def_new(), *e = bxc_def_new();
		uint32_t top = two_stages(d, "make1");
		two_stages(e, "make2");
		world_add(&a, 1, d, top);
		world_finish_all(&a);
		assert_int_equal(a.done_code, BXC_OK);
		if (warm) {
			world_add(&a, 2, e, top);
			world_finish_all(&a);
			assert_int_equal(a.done_build, 2);
		}
		world_tell(&b, &a, warm ? 2 : 1, top);
		world_add(&b, 1, warm ? e : d, top);
		assert_int_equal(b.runs.n, 0);
		assert_int_equal(b.done_build, 1);
		assert_int_equal(b.done_code, BXC_OK);
	}
}

static void a_known_key_is_no_result(void **state)
{
	(void)state;
	AUTO_WORLD world a, b;
	world_init(&a);
	world_init(&b);
	AUTO_DEF bxc_def *d = bxc_def_new(), *e = bxc_def_new();
	uint32_t top = two_stages(d, "make");
	world_add(&a, 1, d, top);
	world_finish_all(&a);
	world_tell(&b, &a, 1, top);
	/* Another command on top: all below it is known, and is run. */
	two_stages(e, "make");
	uint32_t other = def_run(e, "other", top - 1);
	world_add(&b, 1, e, other);
	world_finish_all(&b);
	const char *log = world_log(&b);
	assert_non_null(strstr(log, "b1:DONE:make"));
	assert_non_null(strstr(log, "b1:DONE:copy2"));
	assert_int_equal(b.done_code, BXC_OK);
}

static void results_that_ignored_the_cache_are_of_their_cluster(void **state)
{
	(void)state;
	AUTO_WORLD world a, b;
	world_init(&a);
	world_init(&b);
	bxc_solve_set_cluster(a.s, "one");
	bxc_solve_set_cluster(b.s, "two");
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t date = def_run(d, "date", def_image(d, "base"));
	uint32_t user = def_run(d, "user", date);
	def_ignore(d, date);
	world_add(&a, 1, d, user);
	world_finish_all(&a);
	world_add(&b, 1, d, user);
	world_finish_all(&b);
	bxc_solve_fact fa, fb;
	assert_true(bxc_solve_fact_of(a.s, 1, date, &fa));
	assert_true(bxc_solve_fact_of(b.s, 1, date, &fb));
	assert_int_equal(fa.record, fb.record);
	assert_false(bxc_digest_eq(&fa.canonical, &fb.canonical));
	assert_false(bxc_solve_fact_of(a.s, 1, 99, &fa));
	assert_false(bxc_solve_fact_of(a.s, 7, date, &fa));
}

static void only_what_is_read_by_selection_is_content(void **state)
{
	(void)state;
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t base = def_image(d, "base");
	uint32_t tool = def_image(d, "tool");
	bxc_solve_contents c;
	uint32_t self = def_copy(d, "self", base, base, "/a");
	bxc_solve_content_inputs(d->vertices.v[self], &c);
	assert_int_equal(c.items.n, 0); /* also the target */
	bxc_solve_contents_done(&c);
	uint32_t copy = def_copy(d, "copy", base, tool, "/bin/tool");
	bxc_solve_content_inputs(d->vertices.v[copy], &c);
	assert_int_equal(c.items.n, 1);
	assert_int_equal(c.items.v[0].input_index, 1);
	assert_string_equal(c.items.v[0].selectors.v[0].path, "/bin/tool");
	bxc_solve_contents_done(&c);
	uint32_t use = def_run2(d, "use", base, tool);
	bxc_solve_content_inputs(d->vertices.v[use], &c);
	assert_int_equal(c.items.n, 1);
	assert_string_equal(c.items.v[0].selectors.v[0].path, "/");
	bxc_solve_contents_done(&c);
	assert_int_equal(bxc_solve_chain_input(d->vertices.v[use]), 0);
	assert_int_equal(bxc_solve_chain_input(d->vertices.v[copy]), 0);
	assert_int_equal(bxc_solve_chain_input(d->vertices.v[base]), BXC_DEF_NO_INPUT);

	bxc_digest x = bxc_digest_of_str("x");
	bxc_digest pair[] = {x, bxc_digest_of_str("y")};
	bxc_digest one = bxc_solve_combine(pair, 1);
	bxc_digest two = bxc_solve_combine(pair, 2);
	assert_true(bxc_digest_eq(&one, &x));
	assert_false(bxc_digest_eq(&two, &x));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chain_runs_from_its_source_up_and_is_cached_after),
		cmocka_unit_test(the_sides_of_a_diamond_run_at_the_same_time),
		cmocka_unit_test(nothing_below_a_hit_runs),
		cmocka_unit_test(a_rebuilt_input_of_equal_content_leads_to_a_hit),
		cmocka_unit_test(a_read_only_mount_counts_by_content),
		cmocka_unit_test(a_change_of_the_context_outside_of_the_selection_hits),
		cmocka_unit_test(a_missing_file_of_the_context_fails_before_anything_runs),
		cmocka_unit_test(equal_builds_share_one_run),
		cmocka_unit_test(a_run_stops_when_the_last_build_leaves),
		cmocka_unit_test(equal_keys_of_different_definitions_share_one_run),
		cmocka_unit_test(a_failure_fails_those_who_need_it_and_no_other),
		cmocka_unit_test(ignoring_the_cache_runs_anew_and_the_new_result_is_preferred),
		cmocka_unit_test(
			a_plain_build_may_join_a_run_that_ignores_the_cache_but_not_the_reverse),
		cmocka_unit_test(a_run_that_ignores_the_cache_stays_one_when_only_plain_builds_are_left),
		cmocka_unit_test(nothing_hides_an_ignored_vertex_behind_a_hit_above),
		cmocka_unit_test(a_lost_result_is_made_again_with_what_it_needs),
		cmocka_unit_test(a_loss_that_nobody_minds_runs_nothing),
		cmocka_unit_test(a_target_lost_before_the_release_comes_again),
		cmocka_unit_test(losses_without_end_end),
		cmocka_unit_test(infrastructure_is_tried_three_times),
		cmocka_unit_test(a_key_that_fails_by_a_lost_session_is_asked_again),
		cmocka_unit_test(answers_to_what_is_gone_are_ignored),
		cmocka_unit_test(several_targets_come_together),
		cmocka_unit_test(a_chain_of_ten_thousand_needs_no_deep_stack),
		cmocka_unit_test(another_cluster_finds_what_it_is_told_of),
		cmocka_unit_test(a_known_key_is_no_result),
		cmocka_unit_test(results_that_ignored_the_cache_are_of_their_cluster),
		cmocka_unit_test(only_what_is_read_by_selection_is_content),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
