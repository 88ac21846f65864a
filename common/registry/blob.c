/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs. A transfer that breaks goes on where it ended, at the same place first and then at the
 * next one: the digest names the bytes, whoever sends them. Bytes that prove wrong are another
 * matter: a sink cannot give them back, so only bxc_reg_fetch starts anew elsewhere.
 */
#include "common/registry/registry_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define TRIES_MAX      3u
#define CHUNK	       (256u << 10)
#define RESUME_WAIT_NS (100 * BXC_NS_PER_MS)

struct blob_job {
	const bxc_ref *repo;
	const bxc_descriptor *d;
	bxc_cancel *cancel;
	bxc_sink_fn sink;
	void *ud;
	bxc_reg_progress_fn progress;
	void *progress_ud;
	char *name; /* for messages */
	bxc_hasher *hasher;
	uint64_t done;
	size_t first_i; /* the place that sent the first byte */
	bool is_broken; /* the last try ended in the middle */
	bool sink_failed;
};

static int take(struct blob_job *b, const uint8_t *p, size_t n, bxc_err **err)
{
	if (n > b->d->size - b->done)
		return bxc_err_set(err, BXC_DATA_LOSS, "%s: the registry sent more than %llu bytes",
			b->name, (unsigned long long)b->d->size);
	bxc_hasher_update(b->hasher, p, n);
	int k = b->sink(p, n, b->ud, err);
	if (k < 0) {
		b->sink_failed = true;
		return k;
	}
	b->done += n;
	if (b->progress)
		b->progress(b->done, b->d->size, b->progress_ud);
	return 0;
}

/* Where the answer's bytes begin in the blob. */
static int first_byte(
	const struct blob_job *b, const bxc_http_response *resp, uint64_t *ret, bxc_err **err)
{
	int64_t length = bxc_http_content_length(resp);
	if (bxc_http_status(resp) == 200) {
		if (length >= 0 && (uint64_t)length != b->d->size)
			return bxc_err_set(err, BXC_DATA_LOSS,
				"%s: the registry has %lld bytes instead of %llu", b->name,
				(long long)length, (unsigned long long)b->d->size);
		*ret = 0;
		return 0;
	}
	const char *range = bxc_http_header(resp, "Content-Range");
	if (range && strncasecmp(range, "bytes ", 6) == 0) {
		BXC_AUTOFREE char *first = bxc_strndup(range + 6, strcspn(range + 6, "-"));
		if (bxc_str_to_u64(first, 0, UINT64_MAX, ret, NULL) >= 0 && *ret == b->done)
			return 0;
	}
	return bxc_err_set(err, BXC_UNAVAILABLE,
		"%s: the registry sent another range than was asked for", b->name);
}

static int stream(struct blob_job *b, bxc_http_response *resp, bxc_err **err)
{
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	uint64_t pos = 0;
	int k = first_byte(b, resp, &pos, err);
	if (k < 0)
		return k;
	for (;;) {
		BXC_AUTOERR bxc_err *e = NULL;
		ssize_t n = bxc_http_read(resp, chunk, CHUNK, &e);
		if (n < 0) {
			/* Broken off behind the last byte: nothing is missing. */
			if (n == -BXC_UNAVAILABLE && b->done && b->done == b->d->size)
				break;
			b->is_broken = n == -BXC_UNAVAILABLE;
			bxc_ignore(bxc_err_move(err, BXC_TAKE(e)));
			return bxc_err_wrap(err, (int)n, "%s", b->name);
		}
		if (n == 0)
			break;
		/* A registry without ranges sends all of it again. */
		size_t skip = (size_t)BXC_MIN(b->done - pos, (uint64_t)n);
		pos += (uint64_t)n;
		if (skip < (size_t)n) {
			k = take(b, chunk + skip, (size_t)n - skip, err);
			if (k < 0)
				return k;
		}
	}
	if (b->done == b->d->size)
		return 0;
	b->is_broken = true;
	return bxc_err_set(err, BXC_UNAVAILABLE, "%s: the registry ended after %llu of %llu bytes",
		b->name, (unsigned long long)b->done, (unsigned long long)b->d->size);
}

static int try_at(bxc_reg *r, const reg_endpoint *at, struct blob_job *b, bxc_err **err)
{
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *path = bxc_str_fmt(
		"/v2/%s/blobs/%s", b->repo->path, bxc_digest_str(&b->d->digest, digest));
	BXC_AUTOFREE char *scope = bxc_str_fmt("repository:%s:pull", b->repo->path);
	const reg_call call = {.what = b->name,
		.method = "GET",
		.path = path,
		.scope = scope,
		.range_first = b->done};
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	b->is_broken = false;
	int k = bxc_reg__exchange(r, at, &call, b->cancel, &resp, err);
	if (k < 0)
		return k;
	int status = bxc_http_status(resp);
	if (status == 404)
		return bxc_err_set(err, BXC_NOT_FOUND, "%s: not found", b->name);
	if (status == 416)
		return bxc_err_set(err, BXC_DATA_LOSS, "%s: the registry has less than %llu bytes",
			b->name, (unsigned long long)b->d->size);
	if (status != 200 && !(status == 206 && b->done))
		return bxc_reg__status_error(at, b->name, resp, err);
	return stream(b, resp, err);
}

static int get_at(bxc_reg *r, const reg_endpoint *at, struct blob_job *b, bxc_err **err)
{
	for (unsigned try = 1;; try++) {
		BXC_AUTOERR bxc_err *e = NULL;
		int k = try_at(r, at, b, &e);
		if (k >= 0)
			break;
		if (!b->is_broken || try >= TRIES_MAX)
			return bxc_err_move(err, BXC_TAKE(e));
		k = bxc_reg__pause(RESUME_WAIT_NS << (try - 1), b->cancel, err);
		if (k < 0)
			return k;
	}
	bxc_digest have = bxc_hasher_final(b->hasher);
	if (bxc_digest_eq(&have, &b->d->digest))
		return 0;
	char digest[BXC_DIGEST_STR_MAX];
	return bxc_err_set(err, BXC_DATA_LOSS, "%s: the registry sent bytes of digest %s", b->name,
		bxc_digest_str(&have, digest));
}

/* From place *at_i on; stops at *at_i when bytes that were passed on proved wrong. */
static int get_from(
	bxc_reg *r, const reg_endpoints *list, size_t *at_i, struct blob_job *b, bxc_err **err)
{
	BXC_CLEANUP(bxc_reg__outcome_done) reg_outcome outcome = {0};
	for (; *at_i < list->n; (*at_i)++) {
		bxc_err *e = NULL;
		if (b->done == 0)
			b->first_i = *at_i;
		int k = get_at(r, &list->v[*at_i], b, &e);
		if (k >= 0)
			return 0;
		if (k == -BXC_CANCELED || b->sink_failed || (k == -BXC_DATA_LOSS && b->done))
			return bxc_err_move(err, e);
		bxc_reg__outcome_add(&outcome, e);
	}
	return bxc_reg__outcome_take(&outcome, err);
}

static char *blob_name(const bxc_ref *repo, const bxc_digest *d)
{
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *name = bxc_ref_repo(repo);
	return bxc_str_fmt("%s@%s", name, bxc_digest_str(d, digest));
}

static int check_size(const char *name, const bxc_descriptor *d, bxc_err **err)
{
	if (d->size > BXC_LIMIT_BLOB)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "%s: larger than %llu bytes", name,
			(unsigned long long)BXC_LIMIT_BLOB);
	return 0;
}

int bxc_reg_blob(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, bxc_cancel *cancel,
	bxc_sink_fn sink, void *ud, bxc_reg_progress_fn progress, void *progress_ud, bxc_err **err)
{
	BXC_CLEANUP(bxc_reg__endpoints_done) reg_endpoints list = {0};
	BXC_AUTOHASHER bxc_hasher *hasher = bxc_hasher_new();
	BXC_AUTOFREE char *name = blob_name(repo, &d->digest);
	struct blob_job b = {.repo = repo,
		.d = d,
		.cancel = cancel,
		.sink = sink,
		.ud = ud,
		.progress = progress,
		.progress_ud = progress_ud,
		.name = name,
		.hasher = hasher};
	size_t i = 0;
	int k = check_size(name, d, err);
	if (k < 0)
		return k;
	bxc_reg__endpoints(r, repo->domain, true, &list);
	return get_from(r, &list, &i, &b, err);
}

static int to_store(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_blob_append(ud, p, n, err);
}

static int fetch_from(bxc_reg *r, const reg_endpoints *list, size_t *at_i, struct blob_job *b,
	bxc_blob_store *store, bxc_err **err)
{
	BXC_AUTOHASHER bxc_hasher *hasher = bxc_hasher_new();
	BXC_CLEANUP(bxc_blob_abortp) bxc_blob_writer *w = NULL;
	bxc_blob_info info;
	int k = bxc_blob_begin(store, &w, err);
	if (k < 0)
		return k;
	b->hasher = hasher;
	b->sink = to_store;
	b->ud = w;
	b->done = 0;
	k = get_from(r, list, at_i, b, err);
	if (k < 0)
		return k;
	return bxc_blob_commit(BXC_TAKE(w), &b->d->digest, &info, err);
}

int bxc_reg_fetch(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, bxc_cancel *cancel,
	bxc_blob_store *store, bxc_reg_progress_fn progress, void *progress_ud, bxc_err **err)
{
	BXC_CLEANUP(bxc_reg__endpoints_done) reg_endpoints list = {0};
	BXC_AUTOFREE char *name = blob_name(repo, &d->digest);
	struct blob_job b = {.repo = repo,
		.d = d,
		.cancel = cancel,
		.progress = progress,
		.progress_ud = progress_ud,
		.name = name};
	size_t i = 0;
	int k = bxc_blob_freshen(store, &d->digest, NULL);
	if (k >= 0)
		return 1;
	k = check_size(name, d, err);
	if (k < 0)
		return k;
	bxc_reg__endpoints(r, repo->domain, true, &list);
	for (;;) {
		BXC_AUTOERR bxc_err *e = NULL;
		k = fetch_from(r, &list, &i, &b, store, &e);
		if (k >= 0)
			return k;
		/* A place that only went on with what another had begun has not failed by itself.
		 */
		if (b.first_i == i)
			i++;
		if (k != -BXC_DATA_LOSS || b.sink_failed || i >= list.n)
			return bxc_err_move(err, BXC_TAKE(e));
	}
}
