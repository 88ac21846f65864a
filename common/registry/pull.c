/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and blobs from a registry or its mirrors. Nothing is believed that was not hashed. */
#include "common/registry/registry_internal.h"

#include <string.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define ACCEPT_MANIFESTS                                                                           \
	BXC_MT_OCI_INDEX ", " BXC_MT_OCI_MANIFEST ", " BXC_MT_DOCKER_LIST ", " BXC_MT_DOCKER_MANIFEST
#define BLOB_TRIES 3u
#define CHUNK      (256u << 10)

static char *manifest_path(const bxc_ref *ref, const bxc_digest *d)
{
	char s[BXC_DIGEST_STR_MAX];
	if (d && bxc_digest_is_set(d))
		return bxc_str_fmt("/v2/%s/manifests/%s", ref->path, bxc_digest_str(d, s));
	return bxc_str_fmt("/v2/%s/manifests/%s", ref->path, ref->tag ? ref->tag : "latest");
}

/* Runs fn at each endpoint until one answers; 404 of a mirror is no answer. */
typedef int (*at_fn)(bxc_reg *r, const endpoint *at, void *ud, bxc_err **err);

static int everywhere(bxc_reg *r, const char *domain, at_fn fn, void *ud, bxc_err **err)
{
	endpoints list = {0};
	bxc_err *found_not = NULL, *last = NULL;
	int k = -1;
	endpoints_of(r, domain, true, &list);
	BXC_ARR_FOREACH (at, &list) {
		bxc_err *e = NULL;
		k = fn(r, at, ud, &e);
		if (k >= 0 || k == -BXC_CANCELED || k == -BXC_DATA_LOSS) {
			bxc_err_free(last);
			last = e;
			break;
		}
		if (k == -BXC_NOT_FOUND && !found_not) {
			found_not = e;
		} else {
			bxc_err_free(last);
			last = e;
		}
	}
	endpoints_done(&list);
	if (k >= 0) {
		bxc_err_free(found_not);
		bxc_err_free(last);
		return k;
	}
	/* "Not found" says more than that the origin behind the mirror can't be reached. */
	if (found_not && k != -BXC_CANCELED && k != -BXC_DATA_LOSS && bxc_err_code(last) == BXC_UNAVAILABLE) {
		bxc_err_free(last);
		last = NULL;
	}
	if (last) {
		bxc_err_free(found_not);
		return bxc_err_move(err, last);
	}
	return bxc_err_move(err, found_not);
}

struct manifest_get {
	const bxc_ref *ref;
	const bxc_digest *digest;    /* NULL: by tag */
	bool head;
	bxc_cancel *cancel;
	bxc_descriptor *desc;
	bxc_buf *bytes;
};

static int get_manifest(bxc_reg *r, const endpoint *at, void *ud, bxc_err **err)
{
	struct manifest_get *g = ud;
	BXC_AUTOFREE char *path = manifest_path(g->ref, g->digest);
	BXC_AUTOFREE char *name = bxc_ref_str(g->ref);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	const exchange x = {.method = g->head ? "HEAD" : "GET", .path = path, .accept = ACCEPT_MANIFESTS, .fd = -1, .scope = "pull"};
	int k = exchange_run(r, g->ref, at, &x, g->cancel, &resp, err);
	if (k < 0)
		return k;
	int status = bxc_http_status(resp);
	if (status == 404)
		return bxc_err_set(err, BXC_NOT_FOUND, "%s: not found", name);
	if (status != 200)
		return bxc_http_status_error(resp, err, name);
	const char *type = bxc_http_header(resp, "Content-Type");
	BXC_AUTOFREE char *media_type = type ? bxc_strndup(type, strcspn(type, "; ")) : NULL;
	if (g->head) {
		const char *d = bxc_http_header(resp, "Docker-Content-Digest");
		bxc_digest digest;
		if (!d || bxc_digest_parse(d, &digest, NULL) < 0 || bxc_http_content_length(resp) < 0)
			return bxc_err_set(err, BXC_UNIMPLEMENTED, "%s: the registry does not tell digests", name);
		*g->desc = (bxc_descriptor){.media_type = BXC_TAKE(media_type), .digest = digest, .size = (uint64_t)bxc_http_content_length(resp)};
		return 0;
	}
	bxc_buf_clear(g->bytes);
	k = bxc_http_read_all(resp, g->bytes, err);
	if (k < 0)
		return bxc_err_wrap(err, k, "manifest of %s", name);
	bxc_digest got = bxc_digest_of(g->bytes->data, g->bytes->len);
	if (g->digest && bxc_digest_is_set(g->digest) && !bxc_digest_eq(g->digest, &got)) {
		char have[BXC_DIGEST_STR_MAX], want[BXC_DIGEST_STR_MAX];
		return bxc_err_set(err, BXC_DATA_LOSS, "manifest of %s has digest %s, not %s", name, bxc_digest_str(&got, have),
			bxc_digest_str(g->digest, want));
	}
	/* Some registries call everything application/json: the document itself knows better. */
	BXC_AUTOJSON bxc_json *j = NULL;
	if (bxc_json_parse(bxc_buf_slice(g->bytes), &j, NULL) >= 0 && bxc_json_get_str(j, "mediaType", NULL)) {
		free(media_type);
		media_type = bxc_strdup(bxc_json_get_str(j, "mediaType", NULL));
	} else if (!media_type || bxc_str_eq(media_type, "application/json") || bxc_str_eq(media_type, "text/plain")) {
		free(media_type);
		media_type = bxc_strdup(bxc_json_get(j, "manifests") ? BXC_MT_OCI_INDEX : BXC_MT_OCI_MANIFEST);
	}
	*g->desc = (bxc_descriptor){.media_type = BXC_TAKE(media_type), .digest = got, .size = g->bytes->len};
	return 0;
}

int bxc_reg_resolve(bxc_reg *r, const bxc_ref *ref, bxc_cancel *cancel, bxc_descriptor *ret, bxc_buf *ret_bytes, bxc_err **err)
{
	struct manifest_get g = {ref, bxc_digest_is_set(&ref->digest) ? &ref->digest : NULL, false, cancel, ret, ret_bytes};
	return everywhere(r, ref->domain, get_manifest, &g, err);
}

int bxc_reg_head(bxc_reg *r, const bxc_ref *ref, bxc_cancel *cancel, bxc_descriptor *ret, bxc_err **err)
{
	struct manifest_get g = {ref, bxc_digest_is_set(&ref->digest) ? &ref->digest : NULL, true, cancel, ret, NULL};
	bxc_err *e = NULL;
	int k = everywhere(r, ref->domain, get_manifest, &g, &e);
	if (k != -BXC_UNIMPLEMENTED)
		return k < 0 ? bxc_err_move(err, e) : 0;
	bxc_err_free(e);
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	return bxc_reg_resolve(r, ref, cancel, ret, &bytes, err);
}

int bxc_reg_manifest(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, bxc_cancel *cancel, bxc_buf *ret_bytes, bxc_err **err)
{
	bxc_descriptor got = {0};
	struct manifest_get g = {repo, &d->digest, false, cancel, &got, ret_bytes};
	int k = everywhere(r, repo->domain, get_manifest, &g, err);
	if (k >= 0)
		bxc_descriptor_done(&got);
	return k;
}

/* ---- blobs ---- */

struct blob_get {
	const bxc_ref *repo;
	const bxc_descriptor *d;
	bxc_cancel *cancel;
	bxc_sink_fn sink;
	void *ud;
	bxc_reg_progress_fn progress;
	void *progress_ud;
	bxc_hasher *hasher;
	uint64_t done;
	bool sink_failed;
};

/* From where the last try ended. */
static int get_blob(bxc_reg *r, const endpoint *at, void *ud, bxc_err **err)
{
	struct blob_get *g = ud;
	char s[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *path = bxc_str_fmt("/v2/%s/blobs/%s", g->repo->path, bxc_digest_str(&g->d->digest, s));
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	const exchange x = {.method = "GET", .path = path, .fd = -1, .scope = "pull", .range_first = g->done};
	int k = exchange_run(r, g->repo, at, &x, g->cancel, &resp, err);
	if (k < 0)
		return k;
	int status = bxc_http_status(resp);
	if (status == 404)
		return bxc_err_set(err, BXC_NOT_FOUND, "blob %s: not found", s);
	if (status != 200 && !(status == 206 && g->done))
		return bxc_http_status_error(resp, err, s);
	/* A server without ranges sends all of it again. */
	uint64_t skip = g->done && status == 200 ? g->done : 0;
	for (;;) {
		ssize_t n = bxc_http_read(resp, chunk, CHUNK, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return g->done < g->d->size ? bxc_err_set(err, BXC_UNAVAILABLE, "blob %s: the transfer ended early", s) : 0;
		size_t len = (size_t)n, off = 0;
		if (skip) {
			off = (size_t)BXC_MIN(skip, (uint64_t)len);
			skip -= off;
			len -= off;
		}
		if (len == 0)
			continue;
		if (g->done + len > g->d->size)
			return bxc_err_set(err, BXC_DATA_LOSS, "blob %s is larger than the %llu bytes announced", s, (unsigned long long)g->d->size);
		bxc_hasher_update(g->hasher, chunk + off, len);
		k = g->sink(chunk + off, len, g->ud, err);
		if (k < 0) {
			g->sink_failed = true;
			return k;
		}
		g->done += len;
		if (g->progress)
			g->progress(g->done, g->d->size, g->progress_ud);
	}
}

int bxc_reg_blob(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, bxc_cancel *cancel, bxc_sink_fn sink, void *ud,
	bxc_reg_progress_fn progress, void *progress_ud, bxc_err **err)
{
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	struct blob_get g = {.repo = repo, .d = d, .cancel = cancel, .sink = sink, .ud = ud, .progress = progress, .progress_ud = progress_ud, .hasher = h};
	for (unsigned try = 1;; try++) {
		BXC_AUTOERR bxc_err *e = NULL;
		int k = everywhere(r, repo->domain, get_blob, &g, &e);
		if (k >= 0)
			break;
		if (g.sink_failed || k != -BXC_UNAVAILABLE || g.done == 0 || try >= BLOB_TRIES)
			return bxc_err_move(err, BXC_TAKE(e));
	}
	bxc_digest got = bxc_hasher_final(h);
	if (!bxc_digest_eq(&got, &d->digest)) {
		char have[BXC_DIGEST_STR_MAX], want[BXC_DIGEST_STR_MAX];
		return bxc_err_set(err, BXC_DATA_LOSS, "blob of '%s/%s' has digest %s, not %s", repo->domain, repo->path, bxc_digest_str(&got, have),
			bxc_digest_str(&d->digest, want));
	}
	return 0;
}

static int to_store(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_blob_append(ud, p, n, err);
}

int bxc_reg_fetch(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, bxc_cancel *cancel, bxc_blob_store *store,
	bxc_reg_progress_fn progress, void *progress_ud, bxc_err **err)
{
	if (bxc_blob_freshen(store, &d->digest, NULL) >= 0)
		return 1;
	BXC_CLEANUP(bxc_blob_abortp) bxc_blob_writer *w = NULL;
	bxc_blob_info info;
	int k = bxc_blob_begin(store, &w, err);
	if (k >= 0)
		k = bxc_reg_blob(r, repo, d, cancel, to_store, w, progress, progress_ud, err);
	if (k >= 0)
		k = bxc_blob_commit(BXC_TAKE(w), &d->digest, &info, err);
	return k < 0 ? k : 0;
}
