/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/testing/testing.h"
#include "coordinator/scheduler/learned.h"

#define AUTO_LEARN BXC_CLEANUP(bxc_learn_freep)

static bxc_def_vertex *exec_of(const char *script)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_EXEC);
	bxc_strv_push(&v->op.exec.args, "/bin/sh");
	bxc_strv_push(&v->op.exec.args, "-c");
	bxc_strv_push(&v->op.exec.args, script);
	v->op.exec.cwd = bxc_strdup("/");
	return v;
}

static bxc_learn_keys keys_of(const char *script)
{
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = exec_of(script);
	return bxc_learn_keys_of(v);
}

static bool same_shape(const char *a, const char *b)
{
	bxc_learn_keys x = keys_of(a), y = keys_of(b);
	return bxc_digest_eq(&x.shape, &y.shape);
}

static void the_shape_is_what_programs_run(void **state)
{
	(void)state;
	assert_true(same_shape("apt-get install -y gcc", "apt-get install -y make clang"));
	assert_true(same_shape("A=1 make -j8 all", "make -j2"));
	assert_true(same_shape(
		"apt-get update && pip install x", "apt-get update; pip install y==1.2"));
	assert_false(same_shape("apt-get install -y gcc", "apt-get update"));
	assert_false(same_shape("make", "make && make"));
	assert_false(same_shape("make", ""));
}

static void the_median_of_the_latest_runs_is_expected(void **state)
{
	(void)state;
	AUTO_LEARN bxc_learn *l = bxc_learn_new(10);
	bxc_learn_keys k = keys_of("make -j8"), like_it = keys_of("make -j9"),
		       other = keys_of("cargo build");
	assert_int_equal(bxc_learn_cost(l, &k), 0);
	bxc_learn_add(l, &k, 100);
	assert_int_equal(bxc_learn_cost(l, &k), 100);
	/* One outlier changes nothing. */
	bxc_learn_add(l, &k, 100000);
	bxc_learn_add(l, &k, 90);
	assert_int_equal(bxc_learn_cost(l, &k), 100);
	/* What was true once is forgotten. */
	for (int i = 0; i < 5; i++)
		bxc_learn_add(l, &k, 7);
	assert_int_equal(bxc_learn_cost(l, &k), 7);
	assert_int_equal(bxc_learn_cost(l, &like_it), 7);
	assert_int_equal(bxc_learn_cost(l, &other), 0);
	/* A step that is known is not judged by others of its shape. */
	bxc_learn_add(l, &like_it, 500);
	assert_int_equal(bxc_learn_cost(l, &like_it), 500);
	assert_int_equal(bxc_learn_cost(l, &k), 7);
}

static void what_is_not_used_is_forgotten(void **state)
{
	(void)state;
	AUTO_LEARN bxc_learn *l = bxc_learn_new(20);
	bxc_learn_keys used = keys_of("used");
	for (int i = 0; i < 200; i++) {
		BXC_AUTOFREE char *text = bxc_str_fmt("x%d", i);
		bxc_learn_keys k = keys_of(text);
		bxc_learn_add(l, &k, 3);
		bxc_learn_add(l, &used, 5);
		assert_int_equal(bxc_learn_cost(l, &k), 3);
		assert_true(bxc_learn_len(l) <= 20);
	}
	assert_int_equal(bxc_learn_cost(l, &used), 5);
}

static void it_survives_as_text(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_LEARN bxc_learn *a = bxc_learn_new(10), *b = bxc_learn_new(1);
	bxc_learn_keys k = keys_of("make"), other = keys_of("other");
	char text[BXC_LEARN_TEXT_MAX];
	assert_false(bxc_learn_text(a, &k.step, text));
	for (int64_t i = 0; i < 7; i++)
		bxc_learn_add(a, &k, INT64_MAX - i);
	bxc_learn_add(a, &k, 0);
	assert_true(bxc_learn_text(a, &k.step, text));
	assert_string_equal(
		text, "1000000000000000,1000000000000000,1000000000000000,1000000000000000,1");
	assert_int_equal(bxc_learn_read(b, &k.step, "10,30,20", &err), 0);
	assert_int_equal(bxc_learn_cost(b, &k), 20);
	/* More than there is room for is passed over. */
	assert_int_equal(bxc_learn_read(b, &other.step, "1", &err), 0);
	assert_int_equal(bxc_learn_len(b), 1);
	static const char *const bad[] = {
		"", ",", "1,", "0", "-1", "x", "1,2,3,4,5,6", "10000000000000000000"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++)
		assert_true(bxc_learn_read(b, &k.step, bad[i], NULL) < 0);
	assert_int_equal(bxc_learn_cost(b, &k), 20);
}

static uint32_t put(bxc_def *d, bxc_def_vertex *v)
{
	uint32_t index = 0;
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_def_append(d, v, &index, &err), err);
	return index;
}

static uint32_t put_exec(bxc_def *d, const char *script, uint32_t below)
{
	bxc_def_vertex *v = exec_of(script);
	bxc_def_add_input(v, below, 0);
	bxc_op_mount *root = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/");
	root->input = 0;
	root->output = 0;
	return put(d, v);
}

static void paths_add_up_what_is_expected_above(void **state)
{
	(void)state;
	AUTO_LEARN bxc_learn *l = bxc_learn_new(10);
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = bxc_def_new();
	bxc_def_vertex *src = bxc_def_vertex_new(BXC_OP_SOURCE);
	src->op.source.identifier = bxc_strdup("docker-image://base");
	uint32_t base = put(d, src);
	uint32_t slow = put_exec(d, "slow", base);
	uint32_t quick = put_exec(d, "quick", base);
	uint32_t after = put_exec(d, "after", quick);
	bxc_def_vertex *known = d->vertices.v[slow];
	bxc_learn_keys k = bxc_learn_keys_of(known);
	bxc_learn_add(l, &k, 1000);
	int64_t path[4];
	bxc_learn_paths(l, d, 10, path);
	assert_int_equal(path[slow], 1000);
	assert_int_equal(path[after], 10);
	assert_int_equal(path[quick], 20);
	assert_int_equal(path[base], 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_shape_is_what_programs_run),
		cmocka_unit_test(the_median_of_the_latest_runs_is_expected),
		cmocka_unit_test(what_is_not_used_is_forgotten),
		cmocka_unit_test(it_survives_as_text),
		cmocka_unit_test(paths_add_up_what_is_expected_above),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
