/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growable byte buffer with a mandatory maximum, and borrowed byte ranges.
 * Invariant: when data is not NULL, data[len] is 0, so text can be read in place.
 */
#pragma once

#include "common/base/cleanup.h"
#include "common/base/err.h"

typedef struct bxc_slice {
	const uint8_t *p;
	size_t n;
} bxc_slice;

typedef struct bxc_buf {
	uint8_t *data;
	size_t len;
	size_t cap;
	size_t max_bytes;
} bxc_buf;

#define BXC_BUF_INIT(max) {.max_bytes = (max)}
#define BXC_AUTOBUF       BXC_CLEANUP(bxc_buf_done)

void bxc_buf_init(bxc_buf *b, size_t max_bytes);
void bxc_buf_done(bxc_buf *b);                     /* frees; usable again after init */
void bxc_buf_clear(bxc_buf *b);                    /* keeps the memory */
/* BXC_RESOURCE_EXHAUSTED when the maximum would be passed; the content is then unchanged. */
BXC_MUST_CHECK int bxc_buf_append(bxc_buf *b, const void *p, size_t n, bxc_err **err);
BXC_MUST_CHECK int bxc_buf_reserve(bxc_buf *b, size_t extra, bxc_err **err);
BXC_MUST_CHECK int bxc_buf_appendf(bxc_buf *b, bxc_err **err, const char *fmt, ...) BXC_PRINTF(3, 4);
/* For text whose size we choose ourselves: aborts when the maximum is passed. */
void bxc_buf_add(bxc_buf *b, const void *p, size_t n);
void bxc_buf_adds(bxc_buf *b, const char *s);
void bxc_buf_addf(bxc_buf *b, const char *fmt, ...) BXC_PRINTF(2, 3);
/* Text is written character by character in many places: only growing is a call. */
static inline void bxc_buf_addc(bxc_buf *b, char c)
{
	if (b->len + 1 >= b->cap || b->len >= b->max_bytes) {
		bxc_buf_add(b, &c, 1);
		return;
	}
	b->data[b->len++] = (uint8_t)c;
	b->data[b->len] = 0;
}
void bxc_buf_drop_front(bxc_buf *b, size_t n);
const char *bxc_buf_text(const bxc_buf *b);        /* borrowed, never NULL */
char *bxc_buf_steal(bxc_buf *b);                   /* owned text; the buffer is empty after */
static inline bxc_slice bxc_buf_slice(const bxc_buf *b)
{
	return (bxc_slice){b->data, b->len};
}
static inline bxc_slice bxc_slice_of(const void *p, size_t n)
{
	return (bxc_slice){(const uint8_t *)p, n};
}
