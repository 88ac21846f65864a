/* SPDX-License-Identifier: Apache-2.0 */
/* What every backend must do. A backend's test gives an open store and runs all of these on it. */
#pragma once

#include "common/testing/testing.h"
#include "coordinator/state/state.h"

typedef struct state_case {
	char *dir; /* a folder for the backend's use */
	char *url;
	bxc_state *st; /* empty at the begin of a test */
} state_case;

typedef struct state_conformance_test {
	const char *name;
	void (*fn)(void **state); /* *state is a state_case */
} state_conformance_test;

extern const state_conformance_test state_conformance_tests[];
extern const size_t state_conformance_n;
