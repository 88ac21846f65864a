/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim-test                          the seeds of the test suite
 * sim-test FIRST [COUNT]            others; a violation prints its seed and what led to it
 * sim-test --finds TEXT             for builds in which a check was taken out of the real code:
 * some seed must end with a violation whose text begins so
 */
#include <stdio.h>

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

/*
 * The least that still goes wrong: kinds of trouble that are not needed are left out, one after the
 * other, then the run is told again with its last events.
 */
static void explain(uint64_t seed)
{
	static const char *const names[] = {"cancel", "fail", "die", "freeze", "crash", "double",
		"evict", "curse", "cut", "slow disk"};
	unsigned off = 0;
	sim_stats st = {0};
	for (unsigned bit = 0; bit < BXC_ARRAY_SIZE(names); bit++) {
		BXC_AUTOFREE char *still = sim_run(seed, STEPS, off | 1u << bit, NULL, &st);
		if (still)
			off |= 1u << bit;
	}
	sim_log log = {0};
	BXC_AUTOFREE char *violation = sim_run(seed, STEPS, off, &log, &st);
	fprintf(stderr, "seed %llu: %s\nneeds:", (unsigned long long)seed, violation);
	for (unsigned bit = 0; bit < BXC_ARRAY_SIZE(names); bit++)
		if (!(off & 1u << bit))
			fprintf(stderr, " %s", names[bit]);
	fprintf(stderr, "\nafter %u events, the last of them:\n", st.events);
	sim_log_print(&log);
	sim_log_done(&log);
}

static void add(sim_stats *sum, const sim_stats *st)
{
	unsigned *to[] = {&sum->builds, &sum->ok, &sum->failed, &sum->cancelled, &sum->runs,
		&sum->hits, &sum->kills, &sum->losses, &sum->freezes, &sum->crashes, &sum->refused,
		&sum->adopted, &sum->evicted, &sum->cuts, &sum->stalls, &sum->unwritten};
	const unsigned from[] = {st->builds, st->ok, st->failed, st->cancelled, st->runs, st->hits,
		st->kills, st->losses, st->freezes, st->crashes, st->refused, st->adopted,
		st->evicted, st->cuts, st->stalls, st->unwritten};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(from); i++)
		*to[i] += from[i];
}

static void invariants_hold_whatever_happens(void **state)
{
	(void)state;
	sim_stats sum = {0};
	for (uint64_t seed = first_seed; seed < first_seed + n_seeds; seed++) {
		sim_stats st = {0};
		BXC_AUTOFREE char *violation = sim_run(seed, STEPS, 0, NULL, &st);
		if (violation) {
			explain(seed);
			fail_msg("seed %llu: %s", (unsigned long long)seed, violation);
		}
		add(&sum, &st);
	}
	print_message("# seeds %llu to %llu: %u builds, %u good, %u failed, %u cancelled; %u runs, "
		      "%u hits; %u workers died, %u froze; %u engines died, %u runs adopted; %u "
		      "answers refused; %u results lost, %u evicted; %u connections cut; %u disks "
		      "stood still, %u writes lost\n",
		(unsigned long long)first_seed, (unsigned long long)(first_seed + n_seeds - 1),
		sum.builds, sum.ok, sum.failed, sum.cancelled, sum.runs, sum.hits, sum.kills,
		sum.freezes, sum.crashes, sum.adopted, sum.refused, sum.losses, sum.evicted,
		sum.cuts, sum.stalls, sum.unwritten);
	/* A simulation in which nothing happens proves nothing. */
	assert_true(sum.ok > n_seeds && sum.failed > 0 && sum.cancelled > 0 && sum.hits > 0 &&
		    sum.losses > 0 && sum.adopted > 0 && sum.refused > 0 && sum.evicted > 0 &&
		    sum.cuts > 0 && sum.unwritten > 0);
}

static void the_same_seed_gives_the_same_actions(void **state)
{
	(void)state;
	sim_stats st[3] = {{0}};
	for (unsigned i = 0; i < 3; i++) {
		BXC_AUTOFREE char *v = sim_run(first_seed + i / 2, STEPS, 0, NULL, &st[i]);
		assert_null(v);
	}
	assert_true(st[0].trace == st[1].trace);
	assert_true(st[0].trace != st[2].trace);
}

static int finds(const char *text)
{
	const uint64_t most = 2000;
	for (uint64_t seed = 1; seed <= most; seed++) {
		sim_stats st = {0};
		BXC_AUTOFREE char *violation = sim_run(seed, STEPS, 0, NULL, &st);
		if (!violation)
			continue;
		printf("seed %llu: %s\n", (unsigned long long)seed, violation);
		return bxc_str_has_prefix(violation, text) ? 0 : 1;
	}
	printf("no violation in %llu seeds\n", (unsigned long long)most);
	return 1;
}

int main(int argc, char **argv)
{
	if (argc == 3 && bxc_str_eq(argv[1], "--finds"))
		return finds(argv[2]);
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
