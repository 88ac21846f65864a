/* SPDX-License-Identifier: Apache-2.0 */
/* Builds that run nothing, and what is told of keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "coordinator/solver/test_world.h"

#define AUTO_WORLD BXC_CLEANUP(world_done)
#define AUTO_DEF   BXC_CLEANUP(bxc_def_freep)

/* base -> a, base -> b, both into top. */
static uint32_t make_diamond(bxc_def *d)
{
	uint32_t base = def_image(d, "base");
	uint32_t a = def_run(d, "a", base);
	return def_copy(d, "top", a, def_run(d, "b", base), "/out");
}

static void a_look_tells_every_miss_and_runs_nothing(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t top = make_diamond(d);
	world_look(&w, 1, d, top);
	/* To know an image runs nothing. */
	assert_string_equal(world_log(&w), "b1:STARTED:base");
	assert_false(bxc_solve_is_stuck(w.s, 1));
	world_finish(&w, "base");
	assert_string_equal(world_log(&w), "b1:DONE:base b1:MISSED:a b1:MISSED:b");
	assert_int_equal(w.runs.n, 0);
	assert_true(bxc_solve_is_stuck(w.s, 1));
	bxc_solve_release(w.s, 1);
	assert_int_equal(bxc_solve_n_vertices(w.s), 0);
}

static void a_look_that_finds_all_is_done(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t top = make_diamond(d);
	world_add(&w, 1, d, top);
	world_finish_all(&w);
	bxc_solve_release(w.s, 1);
	world_log(&w);
	world_look(&w, 2, d, top);
	assert_string_equal(
		world_log(&w), "b2:CACHED:base b2:CACHED:a b2:CACHED:b b2:CACHED:top b2:OK");
	assert_false(bxc_solve_is_stuck(w.s, 2));
	bxc_solve_release(w.s, 2);
}

static void a_look_and_a_build_do_not_hinder_each_other(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	uint32_t b = def_run(d, "b", def_run(d, "a", def_image(d, "base")));
	world_add(&w, 1, d, b);
	world_finish(&w, "base");
	world_log(&w);
	/* What runs for others is no hit. */
	world_look(&w, 2, d, b);
	assert_string_equal(world_log(&w), "b2:CACHED:base b2:MISSED:a");
	assert_true(bxc_solve_is_stuck(w.s, 2));
	/* It keeps no run going either. */
	assert_int_equal(w.runs.n, 1);
	bxc_solve_release(w.s, 1);
	world_drive(&w);
	assert_int_equal(w.runs.n, 0);
	world_log(&w);
	/* And what nobody runs yet does run for who comes. */
	world_add(&w, 3, d, b);
	assert_string_equal(world_log(&w), "b3:CACHED:base b3:STARTED:a");
	world_finish(&w, "a");
	assert_string_equal(world_log(&w), "b3:DONE:a b2:MISSED:b b3:STARTED:b");
	bxc_solve_release(w.s, 2);
	world_finish(&w, "b");
	assert_int_equal(w.done_build, 3);
	assert_int_equal(w.done_code, BXC_OK);
	bxc_solve_release(w.s, 3);
	assert_int_equal(bxc_solve_n_vertices(w.s), 0);
}

static void keys_can_be_looked_at(void **state)
{
	(void)state;
	AUTO_WORLD world w;
	world_init(&w);
	AUTO_DEF bxc_def *d = bxc_def_new();
	bxc_map_set(w.local, "/src", bxc_strdup("text"));
	uint32_t base = def_image(d, "base");
	uint32_t copy = def_copy(d, "copy", base, def_local(d, "context"), "/src");
	uint32_t top = def_run(d, "top", copy);
	world_add(&w, 1, d, top);
	world_finish_all(&w);
	bxc_solve_key k = {0}, above = {0};
	assert_true(bxc_solve_look(w.s, 1, copy, &k));
	assert_true(bxc_solve_look(w.s, 1, top, &above));
	assert_int_equal(k.inputs.n, 2);
	assert_true(bxc_digest_is_set(&k.inputs.v[0].canonical));
	assert_false(bxc_digest_is_set(&k.inputs.v[0].content));
	assert_false(bxc_digest_is_set(&k.inputs.v[1].canonical));
	assert_true(bxc_digest_is_set(&k.inputs.v[1].content));
	assert_true(bxc_digest_eq(&above.inputs.v[0].canonical, &k.key));
	assert_int_equal(above.record, w.done_records.v[0]);
	bxc_solve_key_done(&k);
	bxc_solve_key_done(&above);
	assert_false(bxc_solve_look(w.s, 1, 99, &k));
	bxc_solve_release(w.s, 1);
	assert_false(bxc_solve_look(w.s, 1, copy, &k));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_look_tells_every_miss_and_runs_nothing),
		cmocka_unit_test(a_look_that_finds_all_is_done),
		cmocka_unit_test(a_look_and_a_build_do_not_hinder_each_other),
		cmocka_unit_test(keys_can_be_looked_at),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
