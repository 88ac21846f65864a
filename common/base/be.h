/* SPDX-License-Identifier: Apache-2.0 */
/* Big-endian integers of 1 to 8 bytes, as our wire and file formats have them. */
#pragma once

#include "common/base/cleanup.h"

static inline void bxc_be_put(uint8_t *p, uint64_t v, unsigned bytes)
{
	for (unsigned i = bytes; i-- > 0; v >>= 8)
		p[i] = (uint8_t)v;
}

static inline uint64_t bxc_be_get(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | p[i];
	return v;
}
