/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streaming compression and decompression: none, gzip (ISA-L), zstd.
 *
 * The bytes written by a compressor depend only on input, algorithm and level, never on how the
 * input was cut into calls or on the number of threads. gzip output is one member of deflate
 * blocks, flushed every 1 MiB of input, header without name or time.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

typedef enum bxc_compression {
	BXC_COMPRESSION_UNKNOWN = 0,
	BXC_COMPRESSION_NONE,
	BXC_COMPRESSION_GZIP,
	BXC_COMPRESSION_ZSTD,
} bxc_compression;

const char *bxc_compression_name(bxc_compression c);                     /* "uncompressed", "gzip", "zstd" */
bxc_compression bxc_compression_parse(const char *name);                 /* UNKNOWN for a foreign name */
/* By magic number; NONE when it is neither gzip nor zstd. Needs the first 4 bytes. */
bxc_compression bxc_compression_detect(bxc_slice head);

/* Receives produced bytes; returns 0 or a negative code, which ends the stream. */
typedef int (*bxc_sink_fn)(const void *p, size_t n, void *ud, bxc_err **err);

typedef struct bxc_compressor bxc_compressor;
/* level 0 = default of the algorithm (gzip: ISA-L level 1, zstd: 3). */
BXC_MUST_CHECK int bxc_compressor_new(bxc_compression c, int level, bxc_sink_fn sink, void *ud,
	bxc_compressor **ret, bxc_err **err);
BXC_MUST_CHECK int bxc_compressor_write(bxc_compressor *c, const void *p, size_t n, bxc_err **err);
BXC_MUST_CHECK int bxc_compressor_finish(bxc_compressor *c, bxc_err **err);
void bxc_compressor_free(bxc_compressor *c);
BXC_DEFINE_CLEANUP(bxc_compressor, bxc_compressor_free);

/* Push-style decompression of concatenated members/frames. max_out bounds the produced bytes
 * (BXC_RESOURCE_EXHAUSTED beyond it); damaged input is BXC_DATA_LOSS; finish() reports a cut stream. */
typedef struct bxc_decompressor bxc_decompressor;
BXC_MUST_CHECK int bxc_decompressor_new(bxc_compression c, uint64_t max_out, bxc_sink_fn sink, void *ud,
	bxc_decompressor **ret, bxc_err **err);
BXC_MUST_CHECK int bxc_decompressor_write(bxc_decompressor *d, const void *p, size_t n, bxc_err **err);
BXC_MUST_CHECK int bxc_decompressor_finish(bxc_decompressor *d, bxc_err **err);
void bxc_decompressor_free(bxc_decompressor *d);
BXC_DEFINE_CLEANUP(bxc_decompressor, bxc_decompressor_free);
