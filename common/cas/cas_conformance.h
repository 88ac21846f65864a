/* SPDX-License-Identifier: Apache-2.0 */
/* The suite that every backend of common/cas must pass. */
#pragma once

#include "common/cas/cas.h"

typedef struct blob_backend {
	const char *name;
	bxc_blob_store *(*open)(const char *dir); /* `dir` is empty at first and the tests' own */
} blob_backend;

typedef struct blob_case {
	const char *name;
	void (*run)(void **state); /* *state is a const blob_backend * */
} blob_case;

extern const blob_case blob_cases[];
extern const size_t n_blob_cases;
