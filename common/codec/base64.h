/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648, with padding) and hex. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

char *bxc_base64_encode(const void *p, size_t n);                                 /* owned */
/* Standard or URL alphabet, padding optional; BXC_RESOURCE_EXHAUSTED beyond max_bytes. */
BXC_MUST_CHECK int bxc_base64_decode(const char *s, size_t max_bytes, bxc_buf *out, bxc_err **err);
char *bxc_hex_encode(const void *p, size_t n);                                    /* owned, lower case */
BXC_MUST_CHECK int bxc_hex_decode(const char *s, uint8_t *out, size_t n, bxc_err **err);   /* exactly n bytes */
