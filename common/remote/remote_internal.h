/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/remote/remote.h"

/* Percent-decodes `n` bytes; NULL when an escape is broken or a NUL or control character comes out.
 * `plus`: '+' is a blank. Owned. */
char *remote_decode(const char *s, size_t n, bool plus);
/* Printable, no blank. */
bool remote_is_plain(const char *s);
