/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/base/cleanup.h"

/* Fills p with random bytes of the kernel; aborts if the kernel has none to give. */
void bxc_rand_bytes(void *p, size_t n);
/* `n_bytes` (at most 64) random bytes as owned lower-case hex. */
char *bxc_rand_hex(size_t n_bytes);
