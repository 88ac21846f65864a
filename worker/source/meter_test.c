/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"
#include "worker/source/source_internal.h"

#define MB (1u << 20)
#define S  INT64_C(1000000000)

static void what_runs_side_by_side_is_measured_as_one(void **state)
{
	(void)state;
	src_meter m = {0};
	uint64_t bytes = 0;
	int64_t ns = 0;
	src_meter_begin(&m, 1 * S);
	src_meter_begin(&m, 2 * S);
	/* One that brought nothing, as it failed, tells nothing by itself. */
	assert_false(src_meter_end(&m, 3 * S, 0, &bytes, &ns));
	assert_true(src_meter_end(&m, 5 * S, 8 * MB, &bytes, &ns));
	assert_int_equal(bytes, 8 * MB);
	assert_int_equal(ns, 4 * S);
}

static void a_stream_of_transfers_is_told_of_on_its_way(void **state)
{
	(void)state;
	src_meter m = {0};
	uint64_t bytes = 0;
	int64_t ns = 0;
	src_meter_begin(&m, 0);
	src_meter_begin(&m, 1 * S);
	assert_true(src_meter_end(&m, 2 * S, 4 * MB, &bytes, &ns));
	assert_int_equal(ns, 2 * S);
	assert_true(src_meter_end(&m, 3 * S, 4 * MB, &bytes, &ns));
	assert_int_equal(ns, 1 * S);
}

static void few_bytes_and_pauses_do_not_count(void **state)
{
	(void)state;
	src_meter m = {0};
	uint64_t bytes = 0;
	int64_t ns = 0;
	src_meter_begin(&m, 0);
	assert_false(src_meter_end(&m, 1 * S, 1000, &bytes, &ns));
	/* The pause in between is no time of transfer. */
	src_meter_begin(&m, 100 * S);
	assert_true(src_meter_end(&m, 101 * S, MB, &bytes, &ns));
	assert_int_equal(bytes, MB);
	assert_int_equal(ns, 1 * S);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_runs_side_by_side_is_measured_as_one),
		cmocka_unit_test(a_stream_of_transfers_is_told_of_on_its_way),
		cmocka_unit_test(few_bytes_and_pauses_do_not_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
