/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of how long steps take. Module prefix: bxc_learn. Pure, as the scheduler is: facts
 * come in, estimates go out; the engine gives them to the scheduler.
 *
 * A step is recognised by what it does (bxc_def_op_digest: not on which inputs), and failing that
 * by the shape of its command: the programs it starts, without their arguments. What is expected is
 * the median of the latest runs.
 */
#pragma once

#include "common/definition/definition.h"

#define BXC_LEARN_TIMES	   5u	  /* runs that are remembered of a step */
#define BXC_LEARN_KEYS	   20000u /* steps and shapes; those unused for longest are forgotten */
#define BXC_LEARN_TEXT_MAX 128u

typedef struct bxc_learn_keys {
	bxc_digest step;
	bxc_digest shape; /* not set: it has none */
} bxc_learn_keys;
bxc_learn_keys bxc_learn_keys_of(const bxc_def_vertex *v);

typedef struct bxc_learn bxc_learn;

/* `max`: of keys, at least 1. */
bxc_learn *bxc_learn_new(size_t max);
void bxc_learn_free(bxc_learn *l);
BXC_DEFINE_CLEANUP(bxc_learn, bxc_learn_free);

/* A run of the step took `ns` (less than 1 counts as 1). */
void bxc_learn_add(bxc_learn *l, const bxc_learn_keys *k, int64_t ns);
/* Expected duration; 0: nothing is known of it. */
int64_t bxc_learn_cost(const bxc_learn *l, const bxc_learn_keys *k);
size_t bxc_learn_len(const bxc_learn *l);

/* What is known of one key as text, oldest run first, "12,15": false when nothing is. */
bool bxc_learn_text(const bxc_learn *l, const bxc_digest *key, char ret[BXC_LEARN_TEXT_MAX]);
/* The other way; the first one read counts as the latest used. INVALID_ARGUMENT, OUT_OF_RANGE: it
 * is no such text. */
BXC_MUST_CHECK int bxc_learn_read(
	bxc_learn *l, const bxc_digest *key, const char *text, bxc_err **err);

/*
 * Expected duration (ns) from each vertex to the end of the longest chain above it, itself
 * included; `n` = vertices of the definition. Sources and merges take no time; what is not known
 * takes `unknown_ns`.
 */
void bxc_learn_paths(const bxc_learn *l, const bxc_def *d, int64_t unknown_ns, int64_t *ret);
