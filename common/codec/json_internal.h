/* SPDX-License-Identifier: Apache-2.0 */
/* Private to codec/json: the view of a tree as cJSON. */
#pragma once

#include <cjson/cJSON.h>

#include "common/codec/json.h"

/* Integers up to here are exact in a double, the only number cJSON knows. */
#define JSON_EXACT_MAX (INT64_C(1) << 53)

static inline cJSON *json_rw(bxc_json *j)
{
	return (cJSON *)(void *)j;
}

static inline const cJSON *json_ro(const bxc_json *j)
{
	return (const cJSON *)(const void *)j;
}

static inline bxc_json *json_pub(cJSON *c)
{
	return (bxc_json *)(void *)c;
}

static inline const bxc_json *json_cpub(const cJSON *c)
{
	return (const bxc_json *)(const void *)c;
}

/* The number as an integer, when it is one and exact. */
bool json_exact_i64(const cJSON *c, int64_t *ret);

/* Checks grammar, depth, number of values, UTF-8 and NULs before cJSON sees the text. */
BXC_MUST_CHECK int json_scan(bxc_slice text, bxc_err **err);

/* Puts n bytes (valid UTF-8) in quotes; < > & U+2028 U+2029 as \u escapes when Go would. */
void json_put_string(bxc_buf *out, const char *s, size_t n, bool go_escapes);
/* What we print must parse again: bytes that are no UTF-8 become U+FFFD. Owned; NULL: `s` is fine.
 */
char *json_repaired(const char *s, size_t n);
