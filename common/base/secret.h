/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that must not leak: excluded from core dumps, kept out of swap where limits allow it, wiped when freed, never printed. */
#pragma once

#include "common/base/buf.h"

typedef struct bxc_secret bxc_secret;

bxc_secret *bxc_secret_new(const void *p, size_t n);
bxc_slice bxc_secret_bytes(const bxc_secret *s);          /* borrowed; NUL-terminated behind n */
bool bxc_secret_eq(const bxc_secret *s, const void *p, size_t n);   /* constant time for equal lengths */
void bxc_secret_free(bxc_secret *s);
BXC_DEFINE_CLEANUP(bxc_secret, bxc_secret_free);
