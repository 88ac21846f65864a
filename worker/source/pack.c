/* SPDX-License-Identifier: Apache-2.0 */
/* Layers as blobs: of ours, made from their folders; of elsewhere, as they are or in another form.
 */
#include "worker/source/source_internal.h"

#include <unistd.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "worker/diff/diff.h"

#define CHUNK (256u << 10)

struct packing {
	bxc_hasher *plain;
	bxc_compressor *compressor;
	bxc_blob_writer *writer;
};

static int to_blob(const void *p, size_t n, void *ud, bxc_err **err)
{
	struct packing *k = ud;
	return bxc_blob_append(k->writer, p, n, err);
}

static int to_compressor(const void *p, size_t n, void *ud, bxc_err **err)
{
	struct packing *k = ud;
	bxc_hasher_update(k->plain, p, n);
	return bxc_compressor_write(k->compressor, p, n, err);
}

static const char *media_type(bxc_compression c)
{
	switch (c) {
	case BXC_COMPRESSION_ZSTD:
		return BXC_MT_OCI_LAYER_ZSTD;
	case BXC_COMPRESSION_NONE:
		return BXC_MT_OCI_LAYER;
	case BXC_COMPRESSION_GZIP:
	case BXC_COMPRESSION_UNKNOWN:
		break;
	}
	return BXC_MT_OCI_LAYER_GZIP;
}

static int packing_begin(struct packing *k, bxc_src *s, const bxc_src_form *f, bxc_err **err)
{
	*k = (struct packing){.plain = bxc_hasher_new()};
	int r = bxc_blob_begin(bxc_content_store(s->content), &k->writer, err);
	return r < 0 ? r
		     : bxc_compressor_new(
			       f->compression, f->level, to_blob, k, &k->compressor, err);
}

static int packing_finish(struct packing *k, const bxc_src_form *f, bxc_descriptor *ret,
	bxc_digest *ret_diff_id, bxc_err **err)
{
	bxc_blob_info info;
	int r = bxc_compressor_finish(k->compressor, err);
	if (r >= 0)
		r = bxc_blob_commit(BXC_TAKE(k->writer), NULL, &info, err);
	if (r < 0)
		return r;
	*ret_diff_id = bxc_hasher_final(k->plain);
	*ret = (bxc_descriptor){.media_type = bxc_strdup(media_type(f->compression)),
		.digest = info.digest,
		.size = info.size};
	return 0;
}

static void packing_done(struct packing *k)
{
	bxc_blob_abort(k->writer);
	bxc_compressor_free(k->compressor);
	bxc_hasher_free(k->plain);
}

/* The whole way in one pass: walk, tar, hash, compress, hash, write. */
static int pack(bxc_src *s, const char *const *ids, size_t n, const bxc_src_form *f,
	bxc_cancel *cancel, bxc_descriptor *ret, bxc_digest *ret_diff_id, bxc_err **err)
{
	BXC_AUTOCLOSE int upper_fd = -1, lower_fd = -1;
	struct packing k = {0};
	int r = bxc_snap_mount_ro(s->snap, &ids[n - 1], 1, &upper_fd, err);
	if (r >= 0 && n > 1)
		r = bxc_snap_mount_ro(s->snap, ids, n - 1, &lower_fd, err);
	if (r >= 0)
		r = packing_begin(&k, s, f, err);
	if (r >= 0)
		r = bxc_diff_write(upper_fd, lower_fd, f->latest_s, to_compressor, &k, cancel, err);
	if (r >= 0)
		r = packing_finish(&k, f, ret, ret_diff_id, err);
	packing_done(&k);
	return r < 0 ? r : 0;
}

int bxc_src_own_blob(bxc_src *s, const char *const *ids, size_t n, const bxc_src_form *f,
	bxc_cancel *cancel, bxc_descriptor *ret, bxc_digest *ret_diff_id, bxc_err **err)
{
	bxc_check(n > 0);
	const char *top = ids[n - 1];
	BXC_AUTOFREE char *key = bxc_str_fmt("pack %s", top);
	bxc_snap_facts facts = {0};
	/* The layer's own tar is that with the times as they are. */
	bool is_own = f->latest_s == INT64_MAX;
	src_claim(s, key);
	/* What was made before counts while its blob is there. */
	int r = bxc_snap_get(s->snap, top, &facts, err);
	if (r >= 0 && is_own && bxc_digest_is_set(&facts.diff_id) &&
		bxc_content_form(s->content, &facts.diff_id, f->compression, f->level, ret)) {
		*ret_diff_id = facts.diff_id;
	} else if (r >= 0) {
		r = pack(s, ids, n, f, cancel, ret, ret_diff_id, err);
		if (r >= 0 && is_own) {
			/* Not remembering costs time only. */
			bxc_ignore(bxc_snap_learn(s->snap, top, ret_diff_id, NULL));
			bxc_content_form_add(
				s->content, ret_diff_id, f->compression, f->level, ret);
		}
	}
	src_release(s, key);
	return bxc_err_wrap(err, r, "pack layer '%s'", top);
}

/* ---- layers of elsewhere ---- */

static bxc_compression compression_of(const char *type)
{
	if (bxc_str_has_suffix(type, "gzip"))
		return BXC_COMPRESSION_GZIP;
	return bxc_str_has_suffix(type, "zstd") ? BXC_COMPRESSION_ZSTD : BXC_COMPRESSION_NONE;
}

/* The same tar, compressed anew. */
static int convert(bxc_src *s, const bxc_src_layer *l, const bxc_src_form *f, bxc_cancel *cancel,
	bxc_descriptor *ret, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = -1;
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	BXC_CLEANUP(bxc_decompressor_freep) bxc_decompressor *d = NULL;
	struct packing k = {0};
	uint64_t size, off = 0;
	bxc_digest diff_id;
	bxc_descriptor made = {0};
	int r = bxc_blob_open(bxc_content_store(s->content), &l->blob.digest, &fd, &size, err);
	if (r >= 0)
		r = packing_begin(&k, s, f, err);
	while (r >= 0 && off < size) {
		ssize_t n =
			pread(fd, chunk, (size_t)BXC_MIN((uint64_t)CHUNK, size - off), (off_t)off);
		if (n <= 0)
			r = bxc_err_set(err, BXC_DATA_LOSS, "the blob is cut short");
		if (r >= 0 && off == 0)
			r = bxc_decompressor_new(
				bxc_compression_detect(bxc_slice_of(chunk, (size_t)n)),
				BXC_LIMIT_BLOB, to_compressor, &k, &d, err);
		if (r >= 0)
			r = bxc_decompressor_write(d, chunk, (size_t)n, err);
		if (r >= 0)
			r = bxc_cancel_check(cancel, err);
		off += (uint64_t)BXC_MAX(n, (ssize_t)0);
	}
	if (r >= 0)
		r = d ? bxc_decompressor_finish(d, err)
		      : bxc_err_set(err, BXC_DATA_LOSS, "the blob is empty");
	if (r >= 0)
		r = packing_finish(&k, f, &made, &diff_id, err);
	if (r >= 0 && !bxc_digest_eq(&diff_id, &l->diff_id)) {
		bxc_descriptor_done(&made);
		r = bxc_err_set(
			err, BXC_DATA_LOSS, "the blob holds another tar than its diff id says");
	}
	packing_done(&k);
	if (r < 0)
		return r;
	*ret = made;
	return 0;
}

static int converted(bxc_src *s, const bxc_src_layer *l, const bxc_src_form *f,
	const bxc_src_reach *reach, bxc_cancel *cancel, bxc_descriptor *ret, bxc_err **err)
{
	char d[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *key = bxc_str_fmt("convert %s", bxc_digest_str(&l->diff_id, d));
	src_claim(s, key);
	int r = 0;
	if (!bxc_content_form(s->content, &l->diff_id, f->compression, f->level, ret)) {
		r = bxc_src_elsewhere_blob(s, l, reach, cancel, err);
		if (r >= 0)
			r = convert(s, l, f, cancel, ret, err);
		if (r >= 0)
			bxc_content_form_add(
				s->content, &l->diff_id, f->compression, f->level, ret);
	}
	src_release(s, key);
	return bxc_err_wrap(err, r, "convert layer %s", d);
}

int bxc_src_blob(bxc_src *s, const bxc_src_layer *const *chain, size_t n, const bxc_src_form *f,
	const bxc_src_reach *reach, bxc_cancel *cancel, bxc_descriptor *ret,
	bxc_digest *ret_diff_id, bool *ret_elsewhere, bxc_err **err)
{
	bxc_check(n > 0);
	const bxc_src_layer *l = chain[n - 1];
	*ret_elsewhere = false;
	bool rewritten = f->latest_s != INT64_MAX && l->created_ns;
	if (!bxc_src_is_elsewhere(l) || rewritten) {
		size_t below = BXC_MIN(l->n_below, n - 1);
		BXC_AUTOFREE const char **ids = bxc_calloc(below + 1, sizeof(*ids));
		for (size_t i = 0; i <= below; i++)
			ids[i] = chain[n - 1 - below + i]->id;
		return bxc_src_own_blob(s, ids, below + 1, f, cancel, ret, ret_diff_id, err);
	}
	*ret_diff_id = l->diff_id;
	if (f->force && compression_of(l->blob.media_type) != f->compression &&
		bxc_digest_is_set(&l->diff_id))
		return converted(s, l, f, reach, cancel, ret, err);
	*ret_elsewhere = true;
	bxc_descriptor_copy(ret, &l->blob);
	return 0;
}

int bxc_src_form_parse(const bxc_json *attrs, bxc_src_form *ret, bxc_err **err)
{
	*ret = (bxc_src_form){.latest_s = INT64_MAX};
	int r = bxc_output_compression(attrs, &ret->compression, &ret->level, err);
	return r < 0 ? r : bxc_output_bool(attrs, "force-compression", false, &ret->force, err);
}
