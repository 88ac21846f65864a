/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation. Sizes that we choose abort when memory is gone; sizes that come from outside go
 * through bxc_try_alloc() and become an error.
 */
#pragma once

#include "common/base/cleanup.h"
#include "common/base/err.h"

void *bxc_malloc(size_t n);
void *bxc_calloc(size_t n, size_t size);
void *bxc_realloc(void *p, size_t n);
void *bxc_reallocarray(void *p, size_t n, size_t size);
char *bxc_strdup(const char *s);                 /* NULL for NULL */
char *bxc_strndup(const char *s, size_t n);
void *bxc_memdup(const void *p, size_t n);       /* never NULL, also for n == 0 */

/* At most `limit` bytes, not zeroed; BXC_RESOURCE_EXHAUSTED beyond it or when memory is gone. */
BXC_MUST_CHECK int bxc_try_alloc(size_t n, size_t limit, void **ret, bxc_err **err);
