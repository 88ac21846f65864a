/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose word counts about a task. Each attempt of a task is a lease: one worker has it, and it has
 * an epoch, which grows from attempt to attempt and outlives the coordinator. A worker that was
 * given up and comes back speaks of an old one: what it says, its result too, is refused (fencing).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct bxc_lease {
	uint64_t worker; /* 0: nobody has it */
	uint64_t epoch;
} bxc_lease;

static inline bool bxc_lease_holds(bxc_lease current, bxc_lease told)
{
#ifdef BXC_TEST_NO_FENCE /* the simulator proves that it would notice */
	(void)current;
	(void)told;
	return true;
#else
	return told.worker && current.worker == told.worker && current.epoch == told.epoch;
#endif
}
