/* SPDX-License-Identifier: Apache-2.0 */
/* Trees of local contexts: whole, or as changes of one that came earlier. */
#include <string.h>

#include "common/base/mem.h"
#include "common/codec/json.h"
#include "coordinator/session/session.h"

#define TREE_BYTES_MAX (1u << 30)    /* encoded tree of the largest context */
#define CHUNK          (256u << 10)

static int append_sink(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_buf_append(ud, p, n, err);
}

static int question(bxc_chan_stream *s, const char *context, char *const *include, bool whole, bxc_cancel *cancel, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *q = bxc_json_object();
	bxc_json_set_str(q, "context", context);
	if (include)
		bxc_json_set_strv(q, "include", include);
	if (whole)
		bxc_json_set_bool(q, "whole", true);
	BXC_AUTOFREE char *text = bxc_json_print(q);
	int r = bxc_chan_stream_write(s, text, strlen(text), cancel, err);
	return r < 0 ? r : bxc_chan_stream_write_eof(s, err);
}

static int answer(bxc_chan_stream *s, bxc_buf *plain, bxc_cancel *cancel, bxc_err **err)
{
	BXC_CLEANUP(bxc_decompressor_freep) bxc_decompressor *d = NULL;
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	int r = bxc_decompressor_new(BXC_COMPRESSION_ZSTD, TREE_BYTES_MAX, append_sink, plain, &d, err);
	while (r >= 0) {
		ssize_t n = bxc_chan_stream_read(s, chunk, CHUNK, cancel, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		r = bxc_decompressor_write(d, chunk, (size_t)n, err);
	}
	return r < 0 ? r : bxc_decompressor_finish(d, err);
}

static int ask(bxc_sess_ref *ref, const char *context, char *const *include, bool whole, bxc_buf *plain, bxc_cancel *cancel,
	bxc_err **err)
{
	BXC_CLEANUP(bxc_chan_stream_freep) bxc_chan_stream *s = NULL;
	/* The name of a stream is short; the question travels as its content. */
	int r = bxc_sess_open(ref, "context.scan", "", false, &s, err);
	if (r >= 0)
		r = question(s, context, include, whole, cancel, err);
	if (r >= 0)
		r = answer(s, plain, cancel, err);
	return r;
}

/* `delta` says what to make of the tree `base`; 0 when that tree is not here, 1 when `text` and *ret are the new one. */
static int apply(bxc_blob_store *blobs, const bxc_digest *base, bxc_slice delta, const bxc_digest *want, bxc_buf *text,
	bxc_tree **ret, bxc_err **err)
{
	bxc_tree *old = NULL;
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = NULL;
	BXC_AUTOERR bxc_err *why = NULL;
	/* Gone or damaged, it is asked for whole. */
	if (bxc_blob_read(blobs, base, text, &why) < 0 || bxc_tree_decode(bxc_buf_slice(text), &old, &why) < 0)
		return 0;
	bxc_ignore(bxc_blob_freshen(blobs, base, NULL));
	if (bxc_digest_eq(base, want)) {
		*ret = old;
		return 1;
	}
	int r = bxc_tree_delta_apply(old, delta, &t, err);
	bxc_buf_clear(text);
	if (r >= 0)
		r = bxc_tree_encode(t, false, text, err);
	if (r < 0)
		return r;
	bxc_digest is = bxc_digest_of(text->data, text->len);
	if (!bxc_digest_eq(&is, want))
		return bxc_err_set(err, BXC_DATA_LOSS, "what changed does not make the tree that it should");
	*ret = BXC_TAKE(t);
	return 1;
}

static int scan(bxc_sess_ref *ref, const char *context, char *const *include, bxc_blob_store *blobs, bxc_cancel *cancel,
	bxc_scanned *ret, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf delta = BXC_BUF_INIT(TREE_BYTES_MAX);
	bxc_digest base;
	int r = ask(ref, context, include, false, &ret->text, cancel, err);
	if (r >= 0)
		r = bxc_tree_delta_base(bxc_buf_slice(&ret->text), &base, &ret->digest, err);
	if (r == 1) {
		/* The names of both change places. */
		bxc_buf plain = ret->text;
		ret->text = delta;
		delta = plain;
		r = apply(blobs, &base, bxc_buf_slice(&delta), &ret->digest, &ret->text, &ret->tree, err);
		ret->is_new = r == 1 && !bxc_digest_eq(&base, &ret->digest);
		if (r != 0)
			return r;
		bxc_buf_clear(&ret->text);
		r = ask(ref, context, include, true, &ret->text, cancel, err);
	}
	if (r >= 0)
		r = bxc_tree_decode(bxc_buf_slice(&ret->text), &ret->tree, err);
	if (r < 0)
		return r;
	ret->digest = bxc_digest_of(ret->text.data, ret->text.len);
	ret->is_new = true;
	return 0;
}

int bxc_sess_scan(bxc_sess_ref *ref, const char *context, char *const *include, bxc_blob_store *blobs, bxc_cancel *cancel,
	bxc_scanned *ret, bxc_err **err)
{
	*ret = (bxc_scanned){.text = BXC_BUF_INIT(TREE_BYTES_MAX)};
	int r = scan(ref, context, include, blobs, cancel, ret, err);
	if (r >= 0)
		return 0;
	bxc_scanned_done(ret);
	return bxc_err_wrap(err, r, "context tree of the client");
}

void bxc_scanned_done(bxc_scanned *s)
{
	bxc_tree_free(s->tree);
	bxc_buf_done(&s->text);
	*s = (bxc_scanned){0};
}
