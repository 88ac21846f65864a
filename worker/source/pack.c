/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of ours as blobs: for image manifests and for peers, in the same form. */
#include "worker/source/source_internal.h"

#include "common/base/mem.h"
#include "common/base/str.h"
#include "worker/diff/diff.h"

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

/* The whole way in one pass: walk, tar, hash, compress, hash, write. */
static int pack(bxc_src *s, char *const *layers, size_t n, bxc_compression c, int level, int64_t latest_s, bxc_cancel *cancel, bxc_descriptor *ret,
	bxc_digest *ret_diff_id, bxc_err **err)
{
	BXC_AUTOCLOSE int upper_fd = -1, lower_fd = -1;
	const char *const *ids = (const char *const *)layers;
	struct packing k = {0};
	bxc_blob_info info;
	int r = bxc_snap_mount_ro(s->snap, &ids[n - 1], 1, &upper_fd, err);
	if (r >= 0 && n > 1)
		r = bxc_snap_mount_ro(s->snap, ids, n - 1, &lower_fd, err);
	if (r < 0)
		return r;
	k.plain = bxc_hasher_new();
	r = bxc_blob_begin(bxc_content_store(s->content), &k.writer, err);
	if (r >= 0)
		r = bxc_compressor_new(c, level, to_blob, &k, &k.compressor, err);
	if (r >= 0)
		r = bxc_diff_write(upper_fd, lower_fd, latest_s, to_compressor, &k, cancel, err);
	if (r >= 0)
		r = bxc_compressor_finish(k.compressor, err);
	if (r >= 0)
		r = bxc_blob_commit(BXC_TAKE(k.writer), NULL, &info, err);
	if (r >= 0) {
		*ret_diff_id = bxc_hasher_final(k.plain);
		*ret = (bxc_descriptor){.media_type = bxc_strdup(media_type(c)), .digest = info.digest, .size = info.size};
	}
	bxc_blob_abort(k.writer);
	bxc_compressor_free(k.compressor);
	bxc_hasher_free(k.plain);
	return r < 0 ? r : 0;
}

/* What was made before counts while its blob is there. Other levels than the default are made anew. */
static bool known(bxc_src *s, const char *layer, bxc_compression c, bxc_descriptor *ret, bxc_digest *ret_diff_id)
{
	BXC_AUTOSNAPFACTS bxc_snap_facts f = {0};
	if (bxc_snap_get(s->snap, layer, &f, NULL) < 0)
		return false;
	const bxc_descriptor *d = bxc_snap_facts_blob(&f, c);
	if (!d || !bxc_digest_is_set(&f.diff_id) || !bxc_blob_has(bxc_content_store(s->content), &d->digest))
		return false;
	bxc_descriptor_copy(ret, d);
	*ret_diff_id = f.diff_id;
	return true;
}

int bxc_src_image_blob(bxc_src *s, char *const *layers, size_t n, bxc_compression c, int level, int64_t latest_s, bxc_cancel *cancel, bxc_descriptor *ret,
	bxc_digest *ret_diff_id, bxc_err **err)
{
	bxc_check(n > 0);
	const char *top = layers[n - 1];
	BXC_AUTOFREE char *key = bxc_str_fmt("pack %s", top);
	src_claim(s, key);
	int r = 0;
	/* Only the form that everybody takes is remembered. */
	bool usual = level == 0 && latest_s == INT64_MAX;
	if (!usual || !known(s, top, c, ret, ret_diff_id)) {
		r = pack(s, layers, n, c, level, latest_s, cancel, ret, ret_diff_id, err);
		if (r >= 0 && usual) {
			BXC_AUTOSNAPFACTS bxc_snap_facts f = {.diff_id = *ret_diff_id};
			bxc_snap_facts_add_blob(&f, c, ret);
			/* Not remembering costs time only. */
			bxc_ignore(bxc_snap_learn(s->snap, top, &f, NULL));
		}
	}
	src_release(s, key);
	return bxc_err_wrap(err, r, "pack layer '%s'", top);
}
