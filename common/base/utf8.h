/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/base/cleanup.h"

/* Length of the valid UTF-8 sequence at p (1..4), or 0: overlong, surrogate, beyond U+10FFFF, cut off. */
size_t bxc_utf8_next(const uint8_t *p, size_t n, uint32_t *ret_rune);
bool bxc_utf8_valid(const void *p, size_t n);
/* In place: at most max_bytes, and no part of a character at the end; returns s. */
char *bxc_utf8_cut(char *s, size_t max_bytes);
