/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/codec/compress.h"
#include "common/codec/digest.h"

#define BIG ((3u << 20) + 12345)

static int to_buf(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_buf_append(ud, p, n, err);
}

static int refuse(const void *p, size_t n, void *ud, bxc_err **err)
{
	(void)p;
	(void)n;
	(void)ud;
	return bxc_err_set(err, BXC_CANCELED, "enough");
}

/* Text-like bytes: runs, repeats and some noise. */
static uint8_t *sample(size_t n)
{
	uint8_t *p = bxc_malloc(n);
	uint32_t x = 1;
	for (size_t i = 0; i < n; i++) {
		x = x * 1664525u + 1013904223u;
		p[i] = (x >> 28) < 11 && i > 300 ? p[i - 1 - (x >> 20 & 0xff)] : (uint8_t)(x >> 24);
	}
	return p;
}

static void compress(
	bxc_compression c, int level, const uint8_t *p, size_t n, size_t step, bxc_buf *out)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_compressor_freep) bxc_compressor *z = NULL;
	assert_ok(bxc_compressor_new(c, level, to_buf, out, &z, &err), err);
	for (size_t i = 0; i < n; i += step)
		assert_ok(bxc_compressor_write(z, p + i, BXC_MIN(step, n - i), &err), err);
	assert_ok(bxc_compressor_finish(z, &err), err);
}

static int decompress(bxc_compression c, const uint8_t *p, size_t n, size_t step, uint64_t max,
	bxc_buf *out, bxc_err **err)
{
	BXC_CLEANUP(bxc_decompressor_freep) bxc_decompressor *z = NULL;
	int r = bxc_decompressor_new(c, max, to_buf, out, &z, err);
	for (size_t i = 0; r == 0 && i < n; i += step)
		r = bxc_decompressor_write(z, p + i, BXC_MIN(step, n - i), err);
	return r < 0 ? r : bxc_decompressor_finish(z, err);
}

static const struct {
	bxc_compression c;
	int level;
} kinds[] = {{BXC_COMPRESSION_NONE, 0}, {BXC_COMPRESSION_GZIP, 0}, {BXC_COMPRESSION_GZIP, 5},
	{BXC_COMPRESSION_GZIP, 9}, {BXC_COMPRESSION_ZSTD, 0}, {BXC_COMPRESSION_ZSTD, 1}};

static void bytes_do_not_depend_on_the_cut_of_calls(void **state)
{
	(void)state;
	BXC_AUTOFREE uint8_t *p = sample(BIG);
	static const size_t sizes[] = {0, 1, 1000, 1u << 20, 2u << 20, BIG};
	for (size_t k = 0; k < BXC_ARRAY_SIZE(kinds); k++) {
		for (size_t s = 0; s < BXC_ARRAY_SIZE(sizes); s++) {
			static const size_t steps[] = {BIG, 65536, 4099};
			bxc_digest first = {0};
			for (size_t i = 0; i < BXC_ARRAY_SIZE(steps); i++) {
				BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(2 * BIG);
				BXC_AUTOBUF bxc_buf back = BXC_BUF_INIT(BIG);
				BXC_AUTOERR bxc_err *err = NULL;
				compress(kinds[k].c, kinds[k].level, p, sizes[s], steps[i], &out);
				bxc_digest d = bxc_digest_of(out.data, out.len);
				if (i == 0)
					first = d;
				assert_true(bxc_digest_eq(&first, &d));
				assert_ok(decompress(kinds[k].c, out.data, out.len, steps[i], BIG,
						  &back, &err),
					err);
				assert_int_equal(back.len, sizes[s]);
				assert_int_equal(memcmp(back.len ? back.data : p, p, back.len), 0);
			}
		}
	}
}

static void gzip_chunks_are_independent(void **state)
{
	(void)state;
	/* Two equal chunks give equal bytes, whatever was compressed before. */
	enum { N = 1 << 20 };
	BXC_AUTOFREE uint8_t *p = sample(BIG);
	memcpy(p + 2 * N, p, N);
	for (int level = 1; level <= 9; level += 4) {
		BXC_AUTOBUF bxc_buf one = BXC_BUF_INIT(2 * BIG), three = BXC_BUF_INIT(2 * BIG);
		compress(BXC_COMPRESSION_GZIP, level, p, N, N, &one);
		compress(BXC_COMPRESSION_GZIP, level, p, 3 * N, N, &three);
		/* header 10, chunk, last block, trailer 8 */
		size_t chunk = one.len - 10 - 8;
		assert_memory_equal(one.data + 10, three.data + 10, chunk - 16);
		assert_memory_equal(one.data + 10, three.data + three.len - 8 - chunk, chunk);
	}
}

static void gzip_header_names_nothing(void **state)
{
	(void)state;
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(1000);
	compress(BXC_COMPRESSION_GZIP, 0, (const uint8_t *)"hello", 5, 5, &out);
	static const uint8_t want[] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
	assert_memory_equal(out.data, want, sizeof(want));
	assert_int_equal(bxc_compression_detect(bxc_buf_slice(&out)), BXC_COMPRESSION_GZIP);
}

static void damage_and_cuts_are_found(void **state)
{
	(void)state;
	enum { N = 5000 };
	BXC_AUTOFREE uint8_t *p = sample(N);
	for (size_t k = 1; k < BXC_ARRAY_SIZE(kinds); k += 3) {
		BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(BIG);
		compress(kinds[k].c, kinds[k].level, p, N, N, &out);
		for (size_t cut = 0; cut < out.len; cut++) {
			BXC_AUTOBUF bxc_buf back = BXC_BUF_INIT(BIG);
			assert_int_equal(
				decompress(kinds[k].c, out.data, cut, 100, BIG, &back, NULL),
				-BXC_DATA_LOSS);
		}
		bxc_buf_addc(&out, 'x');
		BXC_AUTOBUF bxc_buf back = BXC_BUF_INIT(BIG);
		assert_int_equal(
			decompress(kinds[k].c, out.data, out.len, out.len, BIG, &back, NULL),
			-BXC_DATA_LOSS);
		if (kinds[k].c != BXC_COMPRESSION_GZIP)
			continue;
		/* gzip carries a checksum: no flipped bit goes unseen. Bytes 4 to 9 are time,
		 * hints, system. */
		for (size_t i = 0; i < out.len - 1; i++) {
			if (i >= 4 && i < 10)
				continue;
			BXC_AUTOBUF bxc_buf b2 = BXC_BUF_INIT(BIG);
			out.data[i] ^= 0x10;
			int r = decompress(
				kinds[k].c, out.data, out.len - 1, out.len, BIG, &b2, NULL);
			out.data[i] ^= 0x10;
			assert_int_equal(r, -BXC_DATA_LOSS);
		}
	}
}

static void members_and_frames_are_joined(void **state)
{
	(void)state;
	enum { N = 3000, MEMBERS = 20 };
	BXC_AUTOFREE uint8_t *p = sample((size_t)N * MEMBERS);
	for (size_t k = 1; k < BXC_ARRAY_SIZE(kinds); k += 3) {
		BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(BIG);
		for (size_t i = 0; i < MEMBERS; i++) {
			/* Every length of a member, so that its end falls on every bit of a byte.
			 */
			compress(kinds[k].c, kinds[k].level, p + N * i, N, N, &out);
			compress(kinds[k].c, kinds[k].level, p, 0, 1, &out);
			if (kinds[k].c == BXC_COMPRESSION_ZSTD)
				bxc_buf_add(&out, "\x5a\x2a\x4d\x18\x03\0\0\0abc", 11);
		}
		static const size_t steps[] = {1, 3, 7, 64, 1000, BIG};
		for (size_t i = 0; i < BXC_ARRAY_SIZE(steps); i++) {
			BXC_AUTOERR bxc_err *err = NULL;
			BXC_AUTOBUF bxc_buf back = BXC_BUF_INIT(BIG);
			assert_ok(decompress(kinds[k].c, out.data, out.len, steps[i], BIG, &back,
					  &err),
				err);
			assert_int_equal(back.len, (size_t)N * MEMBERS);
			assert_memory_equal(back.data, p, back.len);
		}
	}
}

/* As gzip(1) writes with a name, and with every optional field of RFC 1952. */
static void optional_gzip_fields_are_skipped(void **state)
{
	(void)state;
	static const uint8_t head[] = {0x1f, 0x8b, 8, 4 | 8 | 16, 1, 2, 3, 4, 0, 3, 3, 0, 'x', 'y',
		'z', 'n', 'a', 'm', 'e', 0, 'c', 0};
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(1000), all = BXC_BUF_INIT(1000);
	compress(BXC_COMPRESSION_GZIP, 0, (const uint8_t *)"hello", 5, 5, &out);
	bxc_buf_add(&all, head, sizeof(head));
	bxc_buf_add(&all, out.data + 10, out.len - 10);
	for (size_t step = 1; step < 30; step++) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_AUTOBUF bxc_buf back = BXC_BUF_INIT(100);
		assert_ok(
			decompress(BXC_COMPRESSION_GZIP, all.data, all.len, step, 100, &back, &err),
			err);
		assert_string_equal(bxc_buf_text(&back), "hello");
	}
	all.data[3] |= 0x80;
	BXC_AUTOBUF bxc_buf back = BXC_BUF_INIT(100);
	assert_int_equal(decompress(BXC_COMPRESSION_GZIP, all.data, all.len, 100, 100, &back, NULL),
		-BXC_DATA_LOSS);
}

static void output_is_bounded(void **state)
{
	(void)state;
	BXC_AUTOFREE uint8_t *zeroes = bxc_calloc(1, BIG);
	for (size_t k = 0; k < BXC_ARRAY_SIZE(kinds); k++) {
		BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(2 * BIG), back = BXC_BUF_INIT(2 * BIG);
		compress(kinds[k].c, kinds[k].level, zeroes, BIG, BIG, &out);
		assert_int_equal(
			decompress(kinds[k].c, out.data, out.len, out.len, BIG - 1, &back, NULL),
			-BXC_RESOURCE_EXHAUSTED);
		assert_true(back.len < BIG);
		bxc_buf_clear(&back);
		assert_int_equal(
			decompress(kinds[k].c, out.data, out.len, out.len, BIG, &back, NULL), 0);
	}
}

static void a_window_beyond_the_bound_is_refused(void **state)
{
	(void)state;
	/* Frame header: magic, descriptor 0, window descriptor exponent 18 -> 2^28; then an empty
	 * last block. */
	static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 18 << 3, 1, 0, 0};
	BXC_AUTOBUF bxc_buf back = BXC_BUF_INIT(100);
	BXC_AUTOERR bxc_err *err = NULL;
	assert_err_text(
		decompress(BXC_COMPRESSION_ZSTD, frame, sizeof(frame), 100, 100, &back, &err),
		BXC_RESOURCE_EXHAUSTED, err, "128 MiB");
}

static void a_refusing_sink_ends_the_stream(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_compressor_freep) bxc_compressor *z = NULL;
	assert_ok(bxc_compressor_new(BXC_COMPRESSION_GZIP, 0, refuse, NULL, &z, &err), err);
	assert_ok(bxc_compressor_write(z, "x", 1, &err), err);
	assert_err(bxc_compressor_finish(z, &err), BXC_CANCELED, err);
	assert_err(bxc_compressor_write(z, "x", 1, &err), BXC_FAILED_PRECONDITION, err);
	assert_err(bxc_compressor_new(BXC_COMPRESSION_GZIP, 10, refuse, NULL, &z, &err),
		BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_compressor_new(BXC_COMPRESSION_ZSTD, 23, refuse, NULL, &z, &err),
		BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_compressor_new(BXC_COMPRESSION_UNKNOWN, 0, refuse, NULL, &z, &err),
		BXC_INVALID_ARGUMENT, err);
}

static void names_and_magics_are_known(void **state)
{
	(void)state;
	for (size_t k = 0; k < BXC_ARRAY_SIZE(kinds); k++)
		assert_int_equal(
			bxc_compression_parse(bxc_compression_name(kinds[k].c)), kinds[k].c);
	assert_int_equal(bxc_compression_parse("bzip2"), BXC_COMPRESSION_UNKNOWN);
	assert_int_equal(
		bxc_compression_detect(bxc_slice_of("\x28\xb5\x2f\xfd", 4)), BXC_COMPRESSION_ZSTD);
	assert_int_equal(
		bxc_compression_detect(bxc_slice_of("\x50\x2a\x4d\x18", 4)), BXC_COMPRESSION_ZSTD);
	assert_int_equal(bxc_compression_detect(bxc_slice_of("ab", 2)), BXC_COMPRESSION_NONE);
	assert_int_equal(bxc_compression_detect(bxc_slice_of(NULL, 0)), BXC_COMPRESSION_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_do_not_depend_on_the_cut_of_calls),
		cmocka_unit_test(gzip_chunks_are_independent),
		cmocka_unit_test(gzip_header_names_nothing),
		cmocka_unit_test(damage_and_cuts_are_found),
		cmocka_unit_test(members_and_frames_are_joined),
		cmocka_unit_test(optional_gzip_fields_are_skipped),
		cmocka_unit_test(output_is_bounded),
		cmocka_unit_test(a_window_beyond_the_bound_is_refused),
		cmocka_unit_test(a_refusing_sink_ends_the_stream),
		cmocka_unit_test(names_and_magics_are_known),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
