/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"
#include "coordinator/workers/workers.h"

#define S INT64_C(1000000000)

static bxc_wrk_worker *join(bxc_wrk *t, const char *name)
{
	static const char text[] = "{\"slots\":2,\"platforms\":[\"linux/"
				   "amd64\"],\"layers\":[{\"id\":\"l-1\",\"size\":7}]}";
	BXC_AUTOJSON bxc_json *hello = NULL;
	bxc_wrk_worker *w = NULL;
	assert_int_equal(bxc_json_parse(bxc_slice_of(text, strlen(text)), &hello, NULL), 0);
	assert_int_equal(bxc_wrk_add(t, hello, name, "here", NULL, &w, NULL), 0);
	return w;
}

static void bandwidth_follows_what_is_measured(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_wrk_freep) bxc_wrk *t = bxc_wrk_new();
	bxc_wrk_worker *w = join(t, "a");
	assert_int_equal(bxc_wrk_bandwidth(w), 0);
	assert_int_equal(bxc_wrk_transfer(w, "registry", 1000, S, &err), 0);
	assert_int_equal(bxc_wrk_bandwidth(w), 1000);
	/* Between workers is what counts, once it is known. */
	assert_int_equal(bxc_wrk_transfer(w, "peer", 8000, 2 * S, &err), 0);
	assert_int_equal(bxc_wrk_bandwidth(w), 4000);
	assert_int_equal(bxc_wrk_transfer(w, "peer", 8000, S, &err), 0);
	assert_int_equal(bxc_wrk_bandwidth(w), 5000);
	for (int i = 0; i < 100; i++)
		assert_int_equal(bxc_wrk_transfer(w, "peer", 0, S, &err), 0);
	assert_int_equal(bxc_wrk_bandwidth(w), 3);
	/* Whatever a clock says, it stays a number to reckon with. */
	assert_int_equal(bxc_wrk_transfer(w, "client", UINT64_MAX, 1, &err), 0);
	assert_int_equal(w->bandwidth[BXC_WRK_FROM_CLIENT], UINT64_C(1000000000000));
}

static const char *state_of(bxc_wrk *t, size_t i)
{
	static char out[32];
	BXC_AUTOJSON bxc_json *j = bxc_wrk_one_to_json(t, bxc_wrk_at(t, i));
	snprintf(out, sizeof(out), "%s", bxc_json_get_str(j, "state", ""));
	return out;
}

static void the_state_says_what_becomes_of_it(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_wrk_freep) bxc_wrk *t = bxc_wrk_new();
	bxc_wrk_worker *w = join(t, "a");
	assert_string_equal(state_of(t, 0), "up");
	w->running = 1;
	w->is_drained = true;
	assert_string_equal(state_of(t, 0), "draining");
	w->running = 0;
	assert_string_equal(state_of(t, 0), "drained");
	w->is_drained = false;
	w->is_leaving = true;
	assert_string_equal(state_of(t, 0), "drained");
	w->is_up = false;
	assert_string_equal(state_of(t, 0), "unreachable");
}

static void what_only_one_worker_holds_is_counted(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_wrk_freep) bxc_wrk *t = bxc_wrk_new();
	bxc_wrk_worker *a = join(t, "a"), *b = join(t, "b");
	size_t n = 9;
	uint64_t bytes = 9;
	bxc_wrk_only_here(t, a, &n, &bytes);
	assert_int_equal(n, 0);
	assert_int_equal(bytes, 0);
	bxc_wrk_layer_gone(b, "l-1");
	bxc_wrk_layer_at(a, "l-2", 5);
	bxc_wrk_layer_at(a, "sha256:of-an-image", 1000);
	bxc_wrk_only_here(t, a, &n, &bytes);
	assert_int_equal(n, 2);
	assert_int_equal(bytes, 12);
}

static void nonsense_is_refused(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_wrk_freep) bxc_wrk *t = bxc_wrk_new();
	bxc_wrk_worker *w = join(t, "a");
	assert_err_text(
		bxc_wrk_transfer(w, "moon", 1, 1, &err), BXC_INVALID_ARGUMENT, err, "from: 'moon'");
	assert_err_text(
		bxc_wrk_transfer(w, "peer", 1, 0, &err), BXC_INVALID_ARGUMENT, err, "duration_ns");
	assert_err_text(bxc_wrk_transfer(w, "peer", 1, INT64_MIN, &err), BXC_INVALID_ARGUMENT, err,
		"duration_ns");
	assert_int_equal(bxc_wrk_bandwidth(w), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bandwidth_follows_what_is_measured),
		cmocka_unit_test(the_state_says_what_becomes_of_it),
		cmocka_unit_test(what_only_one_worker_holds_is_counted),
		cmocka_unit_test(nonsense_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
