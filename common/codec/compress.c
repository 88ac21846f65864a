/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressors. gzip: every 1 MiB of input is compressed by itself (ISA-L stateless, ended by a full
 * flush), so that the bytes do not depend on calls, and chunks may one day be made on several
 * threads with the same result. zstd buffers whole blocks itself; only the end of a frame must
 * never come together with data, as zstd then writes the content size and other bytes.
 */
#include "common/codec/compress.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zstd.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define GZIP_CHUNK (1u << 20)
/* Worst case of stateless deflate is stored blocks: 5 bytes per 64 KiB, and a flush. */
#define GZIP_OUT	(GZIP_CHUNK + (GZIP_CHUNK >> 10) + 1024)
#define GZIP_LEVELS	9
#define ZSTD_LEVEL	3
#define ZSTD_LEVEL_BEST 22

const char *bxc_compression_name(bxc_compression c)
{
	switch (c) {
	case BXC_COMPRESSION_NONE:
		return "uncompressed";
	case BXC_COMPRESSION_GZIP:
		return "gzip";
	case BXC_COMPRESSION_ZSTD:
		return "zstd";
	case BXC_COMPRESSION_UNKNOWN:
		break;
	}
	return "unknown";
}

bxc_compression bxc_compression_parse(const char *name)
{
	if (bxc_str_eq(name, "uncompressed"))
		return BXC_COMPRESSION_NONE;
	if (bxc_str_eq(name, "gzip"))
		return BXC_COMPRESSION_GZIP;
	if (bxc_str_eq(name, "zstd"))
		return BXC_COMPRESSION_ZSTD;
	return BXC_COMPRESSION_UNKNOWN;
}

bxc_compression bxc_compression_detect(bxc_slice head)
{
	static const uint8_t gzip[] = {0x1f, 0x8b, 0x08};
	static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
	if (head.n >= sizeof(gzip) && memcmp(head.p, gzip, sizeof(gzip)) == 0)
		return BXC_COMPRESSION_GZIP;
	if (head.n >= sizeof(zstd) && memcmp(head.p, zstd, sizeof(zstd)) == 0)
		return BXC_COMPRESSION_ZSTD;
	/* A skippable frame, 0x184D2A50 to 0x184D2A5F, may stand first. */
	if (head.n >= 4 && (head.p[0] & 0xf0) == 0x50 && memcmp(head.p + 1, "\x2a\x4d\x18", 3) == 0)
		return BXC_COMPRESSION_ZSTD;
	return BXC_COMPRESSION_NONE;
}

struct bxc_compressor {
	bxc_compression kind;
	bxc_sink_fn sink;
	void *ud;
	bool dead; /* failed or finished */
	uint8_t *out;
	size_t out_cap;
	/* gzip */
	struct isal_zstream *isal;
	uint32_t isal_level;
	uint8_t *level_buf;
	uint32_t level_buf_size;
	uint8_t *in; /* GZIP_CHUNK bytes */
	size_t in_len;
	uint64_t total_in;
	uint32_t crc;
	bool header_written;
	/* zstd */
	ZSTD_CCtx *zstd;
};

static int gzip_setup(bxc_compressor *c, int level, bxc_err **err)
{
	static const uint32_t sizes[] = {
		0, ISAL_DEF_LVL1_DEFAULT, ISAL_DEF_LVL2_DEFAULT, ISAL_DEF_LVL3_DEFAULT};
	if (level < 0 || level > GZIP_LEVELS)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"gzip level %d is not between 1 and %d", level, GZIP_LEVELS);
	c->isal_level = level <= 3 ? 1 : level <= 6 ? 2 : 3;
	c->level_buf_size = sizes[c->isal_level];
	c->level_buf = bxc_malloc(c->level_buf_size);
	/* Zeroed: the library's init leaves parts that it reads later. */
	c->isal = bxc_calloc(1, sizeof(*c->isal));
	c->in = bxc_malloc(GZIP_CHUNK);
	c->out_cap = GZIP_OUT;
	return 0;
}

static int zstd_setup(bxc_compressor *c, int level, bxc_err **err)
{
	if (level < 0 || level > ZSTD_LEVEL_BEST)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"zstd level %d is not between 1 and %d", level, ZSTD_LEVEL_BEST);
	c->zstd = ZSTD_createCCtx();
	bxc_check(c->zstd != NULL);
	bxc_check(!ZSTD_isError(ZSTD_CCtx_setParameter(
		c->zstd, ZSTD_c_compressionLevel, level ? level : ZSTD_LEVEL)));
	bxc_check(!ZSTD_isError(ZSTD_CCtx_setParameter(c->zstd, ZSTD_c_checksumFlag, 0)));
	c->out_cap = ZSTD_CStreamOutSize();
	return 0;
}

int bxc_compressor_new(bxc_compression kind, int level, bxc_sink_fn sink, void *ud,
	bxc_compressor **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_compressor_freep) bxc_compressor *c = bxc_calloc(1, sizeof(*c));
	c->kind = kind;
	c->sink = sink;
	c->ud = ud;
	int r = 0;
	switch (kind) {
	case BXC_COMPRESSION_NONE:
		break;
	case BXC_COMPRESSION_GZIP:
		r = gzip_setup(c, level, err);
		break;
	case BXC_COMPRESSION_ZSTD:
		r = zstd_setup(c, level, err);
		break;
	case BXC_COMPRESSION_UNKNOWN:
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown compression");
		break;
	}
	if (r < 0)
		return r;
	if (c->out_cap)
		c->out = bxc_malloc(c->out_cap);
	*ret = BXC_TAKE(c);
	return 0;
}

/* ID1 ID2, deflate, no flags, no time, no hints, unknown system (RFC 1952). */
static int gzip_header(bxc_compressor *c, bxc_err **err)
{
	static const uint8_t header[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
	if (c->header_written)
		return 0;
	c->header_written = true;
	return c->sink(header, sizeof(header), c->ud, err);
}

static int gzip_chunk(bxc_compressor *c, bool last, bxc_err **err)
{
	int r = gzip_header(c, err);
	if (r < 0)
		return r;
	struct isal_zstream *z = c->isal;
	isal_deflate_stateless_init(z);
	/* What an earlier chunk left in here must not show in the bytes of this one. */
	memset(c->level_buf, 0, c->level_buf_size);
	z->level = c->isal_level;
	z->level_buf = c->level_buf;
	z->level_buf_size = c->level_buf_size;
	z->gzip_flag = IGZIP_DEFLATE;
	z->flush = FULL_FLUSH;
	z->end_of_stream = last;
	z->next_in = c->in;
	z->avail_in = (uint32_t)c->in_len;
	z->next_out = c->out;
	z->avail_out = (uint32_t)c->out_cap;
	bxc_check(isal_deflate_stateless(z) == COMP_OK && z->avail_in == 0);
	c->crc = crc32_gzip_refl(c->crc, c->in, c->in_len);
	c->total_in += c->in_len;
	c->in_len = 0;
	return c->sink(c->out, c->out_cap - z->avail_out, c->ud, err);
}

static int gzip_write(bxc_compressor *c, const uint8_t *p, size_t n, bxc_err **err)
{
	while (n) {
		size_t k = BXC_MIN(n, GZIP_CHUNK - c->in_len);
		memcpy(c->in + c->in_len, p, k);
		c->in_len += k;
		p += k;
		n -= k;
		if (c->in_len < GZIP_CHUNK)
			break;
		int r = gzip_chunk(c, false, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void le32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static int gzip_finish(bxc_compressor *c, bxc_err **err)
{
	int r = gzip_chunk(c, true, err);
	if (r < 0)
		return r;
	uint8_t trailer[8];
	le32(trailer, c->crc);
	le32(trailer + 4, (uint32_t)c->total_in);
	return c->sink(trailer, sizeof(trailer), c->ud, err);
}

static int zstd_run(
	bxc_compressor *c, const void *p, size_t n, ZSTD_EndDirective end, bxc_err **err)
{
	ZSTD_inBuffer in = {p, n, 0};
	for (;;) {
		ZSTD_outBuffer out = {c->out, c->out_cap, 0};
		size_t left = ZSTD_compressStream2(c->zstd, &out, &in, end);
		if (ZSTD_isError(left))
			return bxc_err_set(err, BXC_INTERNAL, "zstd: %s", ZSTD_getErrorName(left));
		if (out.pos) {
			int r = c->sink(c->out, out.pos, c->ud, err);
			if (r < 0)
				return r;
		}
		if (end == ZSTD_e_end ? left == 0 : in.pos == in.size)
			return 0;
	}
}

static int ended(bxc_err **err)
{
	return bxc_err_set(err, BXC_FAILED_PRECONDITION, "the stream has ended or failed");
}

int bxc_compressor_write(bxc_compressor *c, const void *p, size_t n, bxc_err **err)
{
	if (c->dead)
		return ended(err);
	if (n == 0)
		return 0;
	int r;
	if (c->kind == BXC_COMPRESSION_GZIP)
		r = gzip_write(c, p, n, err);
	else if (c->kind == BXC_COMPRESSION_ZSTD)
		r = zstd_run(c, p, n, ZSTD_e_continue, err);
	else
		r = c->sink(p, n, c->ud, err);
	c->dead = r < 0;
	return r < 0 ? r : 0;
}

int bxc_compressor_finish(bxc_compressor *c, bxc_err **err)
{
	if (c->dead)
		return ended(err);
	c->dead = true;
	int r = 0;
	if (c->kind == BXC_COMPRESSION_GZIP)
		r = gzip_finish(c, err);
	else if (c->kind == BXC_COMPRESSION_ZSTD)
		r = zstd_run(c, "", 0, ZSTD_e_end, err);
	return r < 0 ? r : 0;
}

void bxc_compressor_free(bxc_compressor *c)
{
	if (!c)
		return;
	ZSTD_freeCCtx(c->zstd);
	free(c->isal);
	free(c->level_buf);
	free(c->in);
	free(c->out);
	free(c);
}
