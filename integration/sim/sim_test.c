/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim-test                 the seeds of the test suite
 * sim-test FIRST [COUNT]   others; the seed of a violation is printed, the same seed shows it again
 */
#include "common/testing/testing.h"
#include "integration/sim/sim.h"

#define STEPS 2000

static uint64_t first_seed = 1;
/* Sanitizers make a seed ten times as long. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static uint64_t n_seeds = 100;
#else
static uint64_t n_seeds = 2000;
#endif

static void invariants_hold_whatever_happens(void **state)
{
	(void)state;
	sim_stats sum = {0};
	for (uint64_t seed = first_seed; seed < first_seed + n_seeds; seed++) {
		sim_stats st = {0};
		BXC_AUTOFREE char *violation = sim_run(seed, STEPS, &st);
		if (violation)
			fail_msg("seed %llu: %s", (unsigned long long)seed, violation);
		sum.builds += st.builds;
		sum.ok += st.ok;
		sum.failed += st.failed;
		sum.cancelled += st.cancelled;
		sum.runs += st.runs;
		sum.hits += st.hits;
		sum.kills += st.kills;
		sum.losses += st.losses;
	}
	print_message("# seeds %llu to %llu: %u builds, %u good, %u failed, %u cancelled; %u runs, "
		      "%u hits; "
		      "%u workers died, %u results lost\n",
		(unsigned long long)first_seed, (unsigned long long)(first_seed + n_seeds - 1),
		sum.builds, sum.ok, sum.failed, sum.cancelled, sum.runs, sum.hits, sum.kills,
		sum.losses);
	/* A simulation in which nothing happens proves nothing. */
	assert_true(sum.ok > n_seeds && sum.failed > 0 && sum.cancelled > 0 && sum.hits > 0 &&
		    sum.losses > 0);
}

static void the_same_seed_gives_the_same_actions(void **state)
{
	(void)state;
	sim_stats a = {0};
	sim_stats b = {0};
	sim_stats other = {0};
	BXC_AUTOFREE char *v1 = sim_run(first_seed, STEPS, &a);
	BXC_AUTOFREE char *v2 = sim_run(first_seed, STEPS, &b);
	BXC_AUTOFREE char *v3 = sim_run(first_seed + 1, STEPS, &other);
	assert_null(v1);
	assert_null(v2);
	assert_null(v3);
	assert_true(a.trace == b.trace);
	assert_true(a.trace != other.trace);
}

int main(int argc, char **argv)
{
	if (argc > 1 && bxc_str_to_u64(argv[1], 1, UINT64_MAX / 2, &first_seed, NULL) < 0)
		return 2;
	if (argc > 2 && bxc_str_to_u64(argv[2], 1, 1000000, &n_seeds, NULL) < 0)
		return 2;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(invariants_hold_whatever_happens),
		cmocka_unit_test(the_same_seed_gives_the_same_actions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
