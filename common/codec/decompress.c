/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompressors. gzip: header and trailer (RFC 1952) are read here and only the deflate data goes
 * to ISA-L, because its own gzip mode counts output in 32 bits and refuses good look-backs just
 * behind each 4 GiB.
 */
#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/mem.h"
#include "common/codec/compress.h"

#define OUT_BUF (256u << 10)
/* 128 MiB: what zstd -19 and --long=27 write; more would let one blob claim gigabytes of memory. */
#define ZSTD_WINDOW_LOG 27

enum {
	FLAG_HCRC = 2,
	FLAG_EXTRA = 4,
	FLAG_NAME = 8,
	FLAG_COMMENT = 16,
	FLAGS_RESERVED = 0xe0,
};

typedef enum gzip_state {
	GZIP_FIXED = 0, /* the first 10 bytes */
	GZIP_EXTRA_LEN,
	GZIP_EXTRA,
	GZIP_NAME,
	GZIP_COMMENT,
	GZIP_HCRC,
	GZIP_BODY,
	GZIP_TRAILER,
} gzip_state;

struct bxc_decompressor {
	bxc_compression kind;
	bxc_sink_fn sink;
	void *ud;
	uint64_t max_out;
	uint64_t total_out;
	bool dead;
	uint8_t *out;
	bool between; /* at least one member or frame was read, and none is open */
	/* gzip */
	struct inflate_state *isal;
	gzip_state state;
	uint8_t flags;
	uint8_t field[10]; /* bytes of the current fixed-size field */
	size_t field_len;
	size_t extra_left;
	uint32_t header_crc;
	uint32_t crc;
	uint32_t member_size; /* modulo 2^32 */
	/* zstd */
	ZSTD_DCtx *zstd;
};

int bxc_decompressor_new(bxc_compression kind, uint64_t max_out, bxc_sink_fn sink, void *ud,
	bxc_decompressor **ret, bxc_err **err)
{
	if (kind == BXC_COMPRESSION_UNKNOWN)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown compression");
	bxc_decompressor *d = bxc_calloc(1, sizeof(*d));
	d->kind = kind;
	d->max_out = max_out;
	d->sink = sink;
	d->ud = ud;
	if (kind != BXC_COMPRESSION_NONE)
		d->out = bxc_malloc(OUT_BUF);
	if (kind == BXC_COMPRESSION_GZIP) {
		d->isal = bxc_calloc(1, sizeof(*d->isal));
	} else if (kind == BXC_COMPRESSION_ZSTD) {
		d->zstd = ZSTD_createDCtx();
		bxc_check(d->zstd != NULL);
		bxc_check(!ZSTD_isError(
			ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG)));
	}
	*ret = d;
	return 0;
}

static int emit(bxc_decompressor *d, const void *p, size_t n, bxc_err **err)
{
	if (n == 0)
		return 0;
	if (n > d->max_out - d->total_out)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"decompressed data is larger than %llu bytes",
			(unsigned long long)d->max_out);
	d->total_out += n;
	int r = d->sink(p, n, d->ud, err);
	return r < 0 ? r : 0;
}

static int damaged(const char *what, bxc_err **err)
{
	return bxc_err_set(err, BXC_DATA_LOSS, "damaged gzip stream: %s", what);
}

/* ---- gzip ---- */

static void gzip_enter(bxc_decompressor *d, gzip_state s)
{
	d->state = s;
	d->field_len = 0;
}

/* The header part that follows `done`, by the flags. */
static void gzip_next_part(bxc_decompressor *d, gzip_state done)
{
	if (done < GZIP_EXTRA_LEN && (d->flags & FLAG_EXTRA)) {
		gzip_enter(d, GZIP_EXTRA_LEN);
	} else if (done < GZIP_NAME && (d->flags & FLAG_NAME)) {
		gzip_enter(d, GZIP_NAME);
	} else if (done < GZIP_COMMENT && (d->flags & FLAG_COMMENT)) {
		gzip_enter(d, GZIP_COMMENT);
	} else if (done < GZIP_HCRC && (d->flags & FLAG_HCRC)) {
		gzip_enter(d, GZIP_HCRC);
	} else {
		isal_inflate_init(d->isal);
		d->crc = 0;
		d->member_size = 0;
		gzip_enter(d, GZIP_BODY);
	}
}

/* Goes on by k bytes of the header, which enter its CRC. */
static void gzip_pass(bxc_decompressor *d, const uint8_t **p, size_t *n, size_t k)
{
	d->header_crc = crc32_gzip_refl(d->header_crc, *p, k);
	*p += k;
	*n -= k;
}

/* Collects a field of `want` bytes; true when it is complete. Header bytes enter the header's CRC.
 */
static bool gzip_field(bxc_decompressor *d, const uint8_t **p, size_t *n, size_t want)
{
	size_t k = BXC_MIN(*n, want - d->field_len);
	memcpy(d->field + d->field_len, *p, k);
	d->field_len += k;
	if (d->state < GZIP_HCRC)
		d->header_crc = crc32_gzip_refl(d->header_crc, *p, k);
	*p += k;
	*n -= k;
	return d->field_len == want;
}

static uint32_t get_le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int gzip_fixed(bxc_decompressor *d, const uint8_t **p, size_t *n, bxc_err **err)
{
	if (d->field_len == 0)
		d->header_crc = 0;
	d->between = false;
	/* The magic is checked as far as it is there, so that trailing bytes are called that. */
	bool complete = gzip_field(d, p, n, 10);
	static const uint8_t magic[] = {0x1f, 0x8b};
	if (memcmp(d->field, magic, BXC_MIN(d->field_len, sizeof(magic))) != 0)
		return damaged(d->total_out ? "bytes behind its end" : "no gzip header", err);
	if (!complete)
		return 0;
	if (d->field[2] != 8)
		return damaged("unknown method", err);
	d->flags = d->field[3];
	if (d->flags & FLAGS_RESERVED)
		return damaged("reserved flags", err);
	gzip_next_part(d, GZIP_FIXED);
	return 0;
}

static int gzip_header(bxc_decompressor *d, const uint8_t **p, size_t *n, bxc_err **err)
{
	size_t k;
	const uint8_t *nul;
	switch (d->state) {
	case GZIP_FIXED:
		return gzip_fixed(d, p, n, err);
	case GZIP_EXTRA_LEN:
		if (gzip_field(d, p, n, 2)) {
			d->extra_left = (size_t)d->field[0] | (size_t)d->field[1] << 8;
			gzip_enter(d, GZIP_EXTRA);
		}
		break;
	case GZIP_EXTRA:
		k = BXC_MIN(*n, d->extra_left);
		gzip_pass(d, p, n, k);
		d->extra_left -= k;
		if (d->extra_left == 0)
			gzip_next_part(d, GZIP_EXTRA);
		break;
	case GZIP_NAME:
	case GZIP_COMMENT:
		nul = memchr(*p, 0, *n);
		k = nul ? (size_t)(nul - *p) + 1 : *n;
		gzip_pass(d, p, n, k);
		if (nul)
			gzip_next_part(d, d->state);
		break;
	case GZIP_HCRC:
		if (!gzip_field(d, p, n, 2))
			break;
		if ((d->header_crc & 0xffff) !=
			((uint32_t)d->field[0] | (uint32_t)d->field[1] << 8))
			return damaged("wrong checksum of the header", err);
		gzip_next_part(d, GZIP_HCRC);
		break;
	case GZIP_BODY:
	case GZIP_TRAILER:
		break;
	}
	return 0;
}

static const char *inflate_problem(int r)
{
	switch (r) {
	case ISAL_INVALID_BLOCK:
		return "invalid block";
	case ISAL_INVALID_SYMBOL:
		return "invalid symbol";
	case ISAL_INVALID_LOOKBACK:
		return "invalid distance";
	default:
		return "inflate failed";
	}
}

static int gzip_body(bxc_decompressor *d, const uint8_t **p, size_t *n, bxc_err **err)
{
	struct inflate_state *z = d->isal;
	uint32_t given = (uint32_t)BXC_MIN(*n, (size_t)1 << 30);
	z->next_in = (uint8_t *)(uintptr_t)*p;
	z->avail_in = given;
	do {
		uint32_t before = z->avail_in;
		z->next_out = d->out;
		z->avail_out = OUT_BUF;
		int r = isal_inflate(z);
		if (r < 0)
			return damaged(inflate_problem(r), err);
		size_t made = OUT_BUF - z->avail_out;
		d->crc = crc32_gzip_refl(d->crc, d->out, made);
		d->member_size += (uint32_t)made;
		r = emit(d, d->out, made, err);
		if (r < 0)
			return r;
		/* Only compared with look-back distances, hence any value above the window will do.
		 */
		if (z->total_out > 1u << 30)
			z->total_out = 1u << 20;
		if (z->block_state == ISAL_BLOCK_FINISH)
			break;
		if (made == 0 && z->avail_in == before && before > 0)
			return damaged("inflate makes no progress", err);
	} while (z->avail_in > 0 || z->avail_out == 0);
	*p += given - z->avail_in;
	*n -= given - z->avail_in;
	if (z->block_state != ISAL_BLOCK_FINISH)
		return 0;
	/* Whole bytes that the bit reader took too many: at most 8, so never more than the trailer.
	 */
	gzip_enter(d, GZIP_TRAILER);
	int bits = BXC_MAX(z->read_in_length, 0);
	uint64_t rest = bits % 8 ? z->read_in >> (bits % 8) : z->read_in;
	for (bits /= 8; bits > 0 && d->field_len < 8; bits--) {
		d->field[d->field_len++] = (uint8_t)rest;
		rest >>= 8;
	}
	return 0;
}

static int gzip_write(bxc_decompressor *d, const uint8_t *p, size_t n, bxc_err **err)
{
	while (n) {
		int r = 0;
		if (d->state == GZIP_BODY)
			r = gzip_body(d, &p, &n, err);
		else if (d->state < GZIP_BODY)
			r = gzip_header(d, &p, &n, err);
		if (r < 0)
			return r;
		/* The trailer may be complete without another byte of input. */
		if (d->state != GZIP_TRAILER || !gzip_field(d, &p, &n, 8))
			continue;
		if (get_le32(d->field) != d->crc)
			return damaged("wrong checksum", err);
		if (get_le32(d->field + 4) != d->member_size)
			return damaged("wrong length", err);
		gzip_enter(d, GZIP_FIXED);
		d->between = true;
	}
	return 0;
}

/* ---- zstd ---- */

static int zstd_write(bxc_decompressor *d, const void *p, size_t n, bxc_err **err)
{
	ZSTD_inBuffer in = {p, n, 0};
	bool full = false;
	while (in.pos < in.size || full) {
		ZSTD_outBuffer out = {d->out, OUT_BUF, 0};
		size_t before = in.pos;
		size_t hint = ZSTD_decompressStream(d->zstd, &out, &in);
		if (ZSTD_isError(hint) &&
			ZSTD_getErrorCode(hint) == ZSTD_error_frameParameter_windowTooLarge)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
				"zstd stream needs a window of more than %u MiB",
				1u << (ZSTD_WINDOW_LOG - 20));
		if (ZSTD_isError(hint))
			return bxc_err_set(err, BXC_DATA_LOSS, "damaged zstd stream: %s",
				ZSTD_getErrorName(hint));
		int r = emit(d, d->out, out.pos, err);
		if (r < 0)
			return r;
		/* With nothing to flush and no input this call told nothing about the frame. */
		if (out.pos || in.pos != before)
			d->between = hint == 0;
		full = out.pos == out.size && hint != 0;
	}
	return 0;
}

/* ---- */

int bxc_decompressor_write(bxc_decompressor *d, const void *p, size_t n, bxc_err **err)
{
	if (d->dead)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "the stream has ended or failed");
	if (n == 0)
		return 0;
	int r;
	if (d->kind == BXC_COMPRESSION_GZIP)
		r = gzip_write(d, p, n, err);
	else if (d->kind == BXC_COMPRESSION_ZSTD)
		r = zstd_write(d, p, n, err);
	else
		r = emit(d, p, n, err);
	d->dead = r < 0;
	return r;
}

int bxc_decompressor_finish(bxc_decompressor *d, bxc_err **err)
{
	if (d->dead)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "the stream has ended or failed");
	d->dead = true;
	if (d->kind == BXC_COMPRESSION_NONE || d->between)
		return 0;
	return bxc_err_set(
		err, BXC_DATA_LOSS, "damaged %s stream: cut off", bxc_compression_name(d->kind));
}

void bxc_decompressor_free(bxc_decompressor *d)
{
	if (!d)
		return;
	ZSTD_freeDCtx(d->zstd);
	free(d->isal);
	free(d->out);
	free(d);
}
