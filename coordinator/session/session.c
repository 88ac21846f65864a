/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/session/session.h"

#include <pthread.h>

#include <stdatomic.h>
#include <string.h>

#include "common/base/be.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/codec/json.h"

#define TOKEN_REPLY_MAX (64u << 10)
#define COPY_CHUNK      (256u << 10)

struct bxc_sess_ref {
	_Atomic uint32_t refs;
	char *id;
	pthread_mutex_t lock;        /* protects chan against removal while a stream is being opened; leaf lock */
	bxc_chan *chan;              /* NULL once the session has gone */
};

struct bxc_sess {
	bxc_map *by_id;              /* bxc_sess_ref * */
};

static void unref_value(void *p)
{
	bxc_sess_ref_unref(p);
}

bxc_sess *bxc_sess_new(void)
{
	bxc_sess *s = bxc_calloc(1, sizeof(*s));
	s->by_id = bxc_map_new(unref_value);
	return s;
}

void bxc_sess_free(bxc_sess *s)
{
	if (!s)
		return;
	bxc_map_free(s->by_id);
	free(s);
}

void bxc_sess_add(bxc_sess *s, bxc_chan *c)
{
	bxc_sess_ref *r = bxc_calloc(1, sizeof(*r));
	r->refs = 1;
	r->id = bxc_strdup(bxc_chan_session_id(c));
	r->chan = c;
	pthread_mutex_init(&r->lock, NULL);
	bxc_map_set(s->by_id, r->id, r);
}

bxc_sess_ref *bxc_sess_expect(bxc_sess *s, const char *session_id)
{
	bxc_sess_ref *r = bxc_map_get(s->by_id, session_id);
	if (!r) {
		r = bxc_calloc(1, sizeof(*r));
		r->refs = 1;
		r->id = bxc_strdup(session_id);
		pthread_mutex_init(&r->lock, NULL);
		bxc_map_set(s->by_id, r->id, r);
	}
	return bxc_sess_ref_ref(r);
}

bool bxc_sess_return(bxc_sess *s, const char *session_id, bxc_chan *c)
{
	bxc_sess_ref *r = bxc_map_get(s->by_id, session_id);
	if (!r)
		return false;
	pthread_mutex_lock(&r->lock);
	bool expected = !r->chan;
	if (expected)
		r->chan = c;
	pthread_mutex_unlock(&r->lock);
	return expected;
}

void bxc_sess_remove(bxc_sess *s, const char *session_id)
{
	bxc_sess_ref *r = bxc_map_get(s->by_id, session_id);
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->chan = NULL;
	pthread_mutex_unlock(&r->lock);
	bxc_map_del(s->by_id, session_id);
}

bxc_sess_ref *bxc_sess_find(bxc_sess *s, const char *session_id)
{
	return bxc_sess_ref_ref(bxc_map_get(s->by_id, session_id));
}

size_t bxc_sess_count(const bxc_sess *s)
{
	return bxc_map_len(s->by_id);
}

bxc_sess_ref *bxc_sess_ref_ref(bxc_sess_ref *r)
{
	if (r)
		atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	return r;
}

void bxc_sess_ref_unref(bxc_sess_ref *r)
{
	if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) > 1)
		return;
	pthread_mutex_destroy(&r->lock);
	free(r->id);
	free(r);
}

const char *bxc_sess_id(const bxc_sess_ref *r)
{
	return r->id;
}

int bxc_sess_open(bxc_sess_ref *r, const char *kind, const char *name, bool bulk, bxc_chan_stream **ret, bxc_err **err)
{
	pthread_mutex_lock(&r->lock);
	int rc = r->chan ? bxc_chan_stream_open(r->chan, kind, name, bulk ? BXC_CHAN_BULK : 0, ret, err)
			 : bxc_err_set(err, BXC_UNAVAILABLE, "the client has gone");
	pthread_mutex_unlock(&r->lock);
	return rc;
}

int bxc_sess_fetch(bxc_sess_ref *r, const char *context, const bxc_digest *tree_digest, bxc_tree *tree,
	const uint32_t *indices, size_t n, bxc_blob_store *blobs, bxc_cancel *cancel, bxc_sess_progress progress, void *ud,
	bxc_blob_info *ret_pack, bxc_err **err)
{
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOJSON bxc_json *q = bxc_json_object();
	bxc_json_set_str(q, "context", context);
	bxc_json_set_str(q, "tree", bxc_digest_str(tree_digest, digest));
	BXC_AUTOFREE char *name = bxc_json_print(q);
	BXC_CLEANUP(bxc_chan_stream_freep) bxc_chan_stream *s = NULL;
	BXC_CLEANUP(bxc_pack_receiver_freep) bxc_pack_receiver *rx = NULL;
	int rc = bxc_pack_receiver_new(blobs, tree, indices, n, &rx, err);
	if (rc >= 0)
		rc = bxc_sess_open(r, "context.fetch", name, true, &s, err);
	if (rc < 0)
		return rc;
	/* The wish list is written whole before anything is read: the client reads it whole before it sends. */
	BXC_AUTOFREE uint8_t *want = bxc_malloc(4 * n);
	for (size_t i = 0; i < n; i++)
		bxc_be_put(want + 4 * i, indices[i], 4);
	rc = bxc_chan_stream_write(s, want, 4 * n, cancel, err);
	if (rc >= 0)
		rc = bxc_chan_stream_write_eof(s, err);
	if (rc < 0)
		return rc;
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(COPY_CHUNK);
	uint64_t total = 0;
	for (;;) {
		ssize_t k = bxc_chan_stream_read(s, chunk, COPY_CHUNK, cancel, err);
		if (k < 0)
			return (int)k;
		if (k == 0)
			break;
		rc = bxc_pack_receiver_write(rx, chunk, (size_t)k, err);
		if (rc < 0)
			return rc;
		total += (uint64_t)k;
		progress(total, ud);
	}
	return bxc_pack_receiver_finish(rx, ret_pack, err);
}

/* The answer to a question for one blob, verified. */
static int ask_blob(bxc_sess_ref *r, const char *kind, const bxc_json *question, const bxc_digest *d, bxc_cancel *cancel,
	bxc_buf *out, bxc_err **err)
{
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *name = bxc_json_print(question);
	BXC_CLEANUP(bxc_chan_stream_freep) bxc_chan_stream *s = NULL;
	bxc_digest_str(d, digest);
	int rc = bxc_sess_open(r, kind, name, true, &s, err);
	if (rc >= 0)
		rc = bxc_chan_stream_write_eof(s, err);
	if (rc >= 0)
		rc = bxc_chan_stream_read_all(s, out, cancel, err);
	if (rc < 0)
		return bxc_err_wrap(err, rc, "blob %s", digest);
	bxc_digest got = bxc_digest_of(out->data, out->len);
	if (!bxc_digest_eq(&got, d))
		return bxc_err_set(err, BXC_DATA_LOSS, "blob %s: its bytes have another digest", digest);
	return 0;
}

int bxc_sess_layout_blob(bxc_sess_ref *r, const char *store, const bxc_digest *d, bxc_cancel *cancel, bxc_buf *out, bxc_err **err)
{
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOJSON bxc_json *q = bxc_json_object();
	bxc_json_set_str(q, "store", store);
	bxc_json_set_str(q, "digest", bxc_digest_str(d, digest));
	return ask_blob(r, "layout", q, d, cancel, out, err);
}

int bxc_sess_cache_blob(bxc_sess_ref *r, uint32_t cache, const bxc_digest *d, bxc_cancel *cancel, bxc_buf *out, bxc_err **err)
{
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOJSON bxc_json *q = bxc_json_object();
	bxc_json_set_u64(q, "cache", cache);
	bxc_json_set_str(q, "digest", bxc_digest_str(d, digest));
	int rc = ask_blob(r, "cache.blob", q, d, cancel, out, err);
	return rc < 0 ? bxc_err_wrap(err, rc, "cache of the client") : 0;
}

int bxc_sess_token(bxc_sess_ref *r, const char *domain, const char *scope, const char *realm, const char *service,
	bxc_cancel *cancel, bxc_secret **ret_token, bxc_secret **ret_basic, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *q = bxc_json_object();
	bxc_json_set_str(q, "domain", domain);
	bxc_json_set_str(q, "scope", scope);
	bxc_json_set_str(q, "realm", realm);
	bxc_json_set_str(q, "service", service);
	BXC_AUTOFREE char *name = bxc_json_print(q);
	BXC_CLEANUP(bxc_chan_stream_freep) bxc_chan_stream *s = NULL;
	int rc = bxc_sess_open(r, "token", name, false, &s, err);
	if (rc >= 0)
		rc = bxc_chan_stream_write_eof(s, err);
	if (rc < 0)
		return rc;
	BXC_AUTOBUF bxc_buf reply = BXC_BUF_INIT(TOKEN_REPLY_MAX);
	BXC_AUTOJSON bxc_json *j = NULL;
	rc = bxc_chan_stream_read_all(s, &reply, cancel, err);
	if (rc >= 0)
		rc = bxc_json_parse(bxc_buf_slice(&reply), &j, err);
	if (rc >= 0) {
		const char *token = bxc_json_get_str(j, "token", NULL), *basic = bxc_json_get_str(j, "basic", NULL);
		if (token)
			*ret_token = bxc_secret_new(token, strlen(token));
		else if (basic)
			*ret_basic = bxc_secret_new(basic, strlen(basic));
	}
	if (reply.data)
		explicit_bzero(reply.data, reply.len);
	return bxc_err_wrap(err, rc, "credentials of the client for '%s'", domain);
}
