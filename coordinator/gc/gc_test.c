/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "coordinator/gc/gc.h"

#define HOUR BXC_CGC_IN_USE_NS
#define NOW  (INT64_C(1000) * HOUR)

static bxc_blob_info blob(unsigned n, uint64_t size, int64_t age_h)
{
	char text[16];
	(void)snprintf(text, sizeof(text), "%u", n);
	return (bxc_blob_info){.digest = bxc_digest_of_str(text), .size = size, .used_ns = NOW - age_h * HOUR};
}

static void blobs_go_by_age_and_by_use(void **state)
{
	(void)state;
	static const struct {
		bxc_cgc_policy p;
		int64_t in_use_h; /* age of the oldest build that runs */
		size_t want;
	} cases[] = {
		{{0}, 0, 0},
		{{.blobs_keep_ns = 7 * HOUR}, 0, 2},
		{{.blobs_keep_ns = 100 * HOUR}, 0, 0},
		{{.blobs_max_used = 1000}, 0, 0},
		{{.blobs_max_used = 250}, 0, 2},
		{{.blobs_max_used = 350}, 0, 1},
		/* Not what was used within the last hour, nor since the oldest build began. */
		{{.blobs_max_used = 1}, 0, 3},
		{{.blobs_max_used = 1}, 9, 1},
		{{.blobs_keep_ns = 1, .blobs_max_used = 1}, 100, 0},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		bxc_blob_info all[] = {blob(1, 100, 0), blob(2, 100, 8), blob(3, 100, 2), blob(4, 100, 50)};
		int64_t in_use = cases[i].in_use_h ? NOW - cases[i].in_use_h * HOUR : INT64_MAX;
		size_t n = bxc_cgc_choose(&cases[i].p, all, BXC_ARRAY_SIZE(all), NOW, in_use);
		assert_int_equal(n, cases[i].want);
		for (size_t k = 1; k < BXC_ARRAY_SIZE(all); k++)
			assert_true(all[k - 1].used_ns <= all[k].used_ns);
	}
	assert_int_equal(bxc_cgc_choose(&cases[1].p, NULL, 0, NOW, INT64_MAX), 0);
}

static void add(bxc_state *st, unsigned n, int64_t ended_ns)
{
	BXC_AUTOERR bxc_err *err = NULL;
	char id[16], status[] = "done", request[] = "{}";
	(void)snprintf(id, sizeof(id), "b-%02u", n);
	bxc_state_build b = {.id = id, .status = status, .request = request, .created_ns = NOW - (int64_t)n * HOUR};
	assert_ok(bxc_state_build_add(st, &b, &err), err);
	if (ended_ns)
		assert_ok(bxc_state_build_update(st, id, status, ended_ns, NULL, NULL, &err), err);
}

/* Builds 1 (the newest) to 9, each ended half an hour after it began; 5 and 8 still run. */
static void assert_left(const bxc_cgc_policy *p, size_t max, size_t want_gone, const char *want)
{
	BXC_AUTOERR bxc_err *err = NULL;
	char *dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *url = bxc_str_fmt("sqlite:%s/s.db", dir);
	bxc_state *st = NULL;
	size_t gone = 99;
	assert_ok(bxc_state_open(url, &st, &err), err);
	for (unsigned i = 9; i >= 1; i--)
		add(st, i, i == 5 || i == 8 ? 0 : NOW - (int64_t)i * HOUR + HOUR / 2);
	assert_ok(bxc_cgc_trim_history(st, p, NOW, max, &gone, &err), err);
	assert_int_equal(gone, want_gone);
	bxc_state_builds left = {0};
	const bxc_state_build_filter f = {.limit = 100};
	assert_ok(bxc_state_build_list(st, &f, &left, &err), err);
	BXC_AUTOSTRV char **ids = NULL;
	BXC_ARR_FOREACH (b, &left.items)
		bxc_strv_push(&ids, b->id + 3);
	BXC_AUTOFREE char *got = bxc_strv_join(ids, " ");
	assert_string_equal(got, want);
	bxc_state_builds_done(&left);
	bxc_state_close(st);
	bxc_test_rmtree(dir);
}

static void builds_go_when_they_are_many_and_old(void **state)
{
	(void)state;
	assert_left(&(bxc_cgc_policy){.history_max = 3, .history_keep_ns = 0}, 100, 4, "1 2 3 5 8");
	assert_left(&(bxc_cgc_policy){.history_max = 3, .history_keep_ns = 6 * HOUR}, 100, 2, "1 2 3 4 5 6 8");
	assert_left(&(bxc_cgc_policy){.history_max = 0, .history_keep_ns = 0}, 100, 7, "5 8");
	assert_left(&(bxc_cgc_policy){.history_max = 100, .history_keep_ns = 0}, 100, 0, "1 2 3 4 5 6 7 8 9");
	assert_left(&(bxc_cgc_policy){.history_max = 3, .history_keep_ns = 0}, 2, 2, "1 2 3 5 7 8 9");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blobs_go_by_age_and_by_use),
		cmocka_unit_test(builds_go_when_they_are_many_and_old),
	};
	return cmocka_run_group_tests_name("coordinator-gc", tests, NULL, NULL);
}
