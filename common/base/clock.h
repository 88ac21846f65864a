/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks and their text forms. Times are int64_t nanoseconds. */
#pragma once

#include "common/base/cleanup.h"
#include "common/base/err.h"

#define BXC_NS_PER_S  INT64_C(1000000000)
#define BXC_NS_PER_MS INT64_C(1000000)

int64_t bxc_clock_mono_ns(void);   /* CLOCK_MONOTONIC: deadlines and durations */
/* Milliseconds until a time of the monotonic clock, rounded up; 0 when it is past, at most INT32_MAX. */
int bxc_clock_left_ms(int64_t deadline_ns);
int64_t bxc_clock_wall_ns(void);   /* since 1970-01-01 UTC: what people and images see */

/* "2026-01-02T03:04:05.123456789Z", fraction without trailing zeros, as Go's RFC3339Nano; owned. */
char *bxc_clock_rfc3339(int64_t wall_ns);
BXC_MUST_CHECK int bxc_clock_parse_rfc3339(const char *s, int64_t *ret_wall_ns, bxc_err **err);
