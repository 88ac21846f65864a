/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/loop/loop.h"

/*
 * As bxc_loop_post, but never waits for room. For completions of pools: they are bounded by what
 * was submitted, and a pool that is stopped on the loop's thread must get rid of them.
 */
void bxc_loop__post_now(bxc_loop *l, bxc_post_fn fn, void *ud);
