/* SPDX-License-Identifier: Apache-2.0 */
/* To a registry, never to its mirrors. */
#include "common/registry/registry_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"

#define UPLOAD_TRIES	3u
#define UPLOAD_AGAIN_NS (200 * BXC_NS_PER_MS)

struct push_job {
	const bxc_ref *repo;
	const bxc_digest *digest;
	uint64_t size;
	bxc_slice bytes;
	int fd;
	bool has_fd;
	bxc_cancel *cancel;
	bxc_reg_progress_fn progress;
	void *progress_ud;
	char *name, *scope; /* for messages; for signing in */
};

static char *blob_name(const bxc_ref *repo, const bxc_digest *d)
{
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *name = bxc_ref_repo(repo);
	return bxc_str_fmt("%s@%s", name, bxc_digest_str(d, digest));
}

static char *push_scope(const bxc_ref *repo)
{
	return bxc_str_fmt("repository:%s:pull,push", repo->path);
}

static int has_blob(
	bxc_reg *r, const reg_endpoint *at, const struct push_job *j, bool *ret, bxc_err **err)
{
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *path =
		bxc_str_fmt("/v2/%s/blobs/%s", j->repo->path, bxc_digest_str(j->digest, digest));
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	const reg_call call = {.what = j->name, .method = "HEAD", .path = path, .scope = j->scope};
	int k = bxc_reg__exchange(r, at, &call, j->cancel, &resp, err);
	if (k < 0)
		return k;
	int status = bxc_http_status(resp);
	if (status != 200 && status != 404)
		return bxc_reg__status_error(at, j->name, resp, err);
	*ret = status == 200;
	return 0;
}

/* Opens an upload: its URL, owned. */
static int begin(
	bxc_reg *r, const reg_endpoint *at, const struct push_job *j, char **ret_url, bxc_err **err)
{
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *path = bxc_str_fmt("/v2/%s/blobs/uploads/", j->repo->path);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	const reg_call call = {.what = j->name, .method = "POST", .path = path, .scope = j->scope};
	int k = bxc_reg__exchange(r, at, &call, j->cancel, &resp, err);
	if (k < 0)
		return k;
	if (bxc_http_status(resp) != 202)
		return bxc_reg__status_error(at, j->name, resp, err);
	const char *location = bxc_http_header(resp, "Location");
	if (bxc_str_empty(location))
		return bxc_err_set(err, BXC_INTERNAL,
			"%s: registry '%s' does not say where to upload to", j->name, at->name);
	BXC_AUTOFREE char *url = bxc_reg__resolve_location(bxc_http_effective_url(resp), location);
	*ret_url = bxc_str_fmt("%s%sdigest=%s", url, strchr(url, '?') ? "&" : "?",
		bxc_digest_str(j->digest, digest));
	return 0;
}

/* 201 by the specification; some registries are less exact. */
static bool is_stored(const bxc_http_response *resp)
{
	int status = bxc_http_status(resp);
	return status == 200 || status == 201 || status == 204;
}

static void on_sent(uint64_t sent, void *ud)
{
	const struct push_job *j = ud;
	j->progress(sent, j->size, j->progress_ud);
}

static int upload_once(bxc_reg *r, const reg_endpoint *at, struct push_job *j, bxc_err **err)
{
	static char octets[] = "Content-Type: application/octet-stream";
	char *headers[] = {octets, NULL};
	BXC_AUTOFREE char *url = NULL;
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	int k = begin(r, at, j, &url, err);
	if (k < 0)
		return k;
	const reg_call call = {
		.what = j->name,
		.method = "PUT",
		.path = url,
		.scope = j->scope,
		.headers = headers,
		.body = j->bytes,
		.fd = j->fd,
		.fd_len = j->size,
		.has_fd = j->has_fd,
		.only_once = true,
		.on_sent = j->progress ? on_sent : NULL,
		.on_sent_ud = j,
	};
	k = bxc_reg__exchange(r, at, &call, j->cancel, &resp, err);
	if (k < 0)
		return k;
	return is_stored(resp) ? 0 : bxc_reg__status_error(at, j->name, resp, err);
}

/* A broken upload starts over: what a registry kept of it is not worth the questions. */
static int upload(bxc_reg *r, const reg_endpoint *at, struct push_job *j, bxc_err **err)
{
	for (unsigned try = 1;; try++) {
		BXC_AUTOERR bxc_err *e = NULL;
		int k = upload_once(r, at, j, &e);
		if (k >= 0)
			return 0;
		int64_t wait = bxc_reg__retry_after(e, UPLOAD_AGAIN_NS << (try - 1));
		if (wait < 0 || try >= UPLOAD_TRIES)
			return bxc_err_move(err, BXC_TAKE(e));
		k = bxc_reg__pause(wait, j->cancel, err);
		if (k < 0)
			return k;
	}
}

static int push(bxc_reg *r, struct push_job *j, bxc_err **err)
{
	BXC_CLEANUP(bxc_reg__endpoints_done) reg_endpoints list = {0};
	BXC_AUTOFREE char *name = blob_name(j->repo, j->digest);
	BXC_AUTOFREE char *scope = push_scope(j->repo);
	bool there = false;
	j->name = name;
	j->scope = scope;
	bxc_reg__endpoints(r, j->repo->domain, false, &list);
	int k = has_blob(r, &list.v[0], j, &there, err);
	if (k >= 0 && !there)
		k = upload(r, &list.v[0], j, err);
	if (k >= 0 && j->progress)
		j->progress(j->size, j->size, j->progress_ud);
	return k;
}

int bxc_reg_has_blob(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, bxc_cancel *cancel,
	bool *ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_reg__endpoints_done) reg_endpoints list = {0};
	BXC_AUTOFREE char *name = blob_name(repo, &d->digest);
	BXC_AUTOFREE char *scope = push_scope(repo);
	const struct push_job j = {
		.repo = repo, .digest = &d->digest, .cancel = cancel, .name = name, .scope = scope};
	bxc_reg__endpoints(r, repo->domain, false, &list);
	return has_blob(r, &list.v[0], &j, ret, err);
}

/* The upload that a declining registry has opened instead is not wanted; it would lapse by itself,
 * too. */
static void drop_upload(bxc_reg *r, const reg_endpoint *at, const char *name, const char *scope,
	const bxc_http_response *resp, bxc_cancel *cancel)
{
	const char *location = bxc_http_header(resp, "Location");
	if (bxc_str_empty(location))
		return;
	BXC_AUTOFREE char *url = bxc_reg__resolve_location(bxc_http_effective_url(resp), location);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *done = NULL;
	const reg_call call = {
		.what = name, .method = "DELETE", .path = url, .scope = scope, .only_once = true};
	bxc_ignore(bxc_reg__exchange(r, at, &call, cancel, &done, NULL));
}

int bxc_reg_mount_blob(bxc_reg *r, const bxc_ref *repo, const char *from_path,
	const bxc_descriptor *d, bxc_cancel *cancel, bool *ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_reg__endpoints_done) reg_endpoints list = {0};
	char digest[BXC_DIGEST_STR_MAX];
	bxc_digest_str(&d->digest, digest);
	BXC_AUTOFREE char *name = blob_name(repo, &d->digest);
	BXC_AUTOFREE char *scope =
		bxc_str_fmt("repository:%s:pull,push repository:%s:pull", repo->path, from_path);
	BXC_AUTOFREE char *path = bxc_str_fmt(
		"/v2/%s/blobs/uploads/?mount=%s&from=%s", repo->path, digest, from_path);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	const reg_call call = {.what = name, .method = "POST", .path = path, .scope = scope};
	BXC_AUTOERR bxc_err *e = NULL;
	bxc_reg__endpoints(r, repo->domain, false, &list);
	int k = bxc_reg__exchange(r, &list.v[0], &call, cancel, &resp, &e);
	/* No right to read the other repository, or no token that spans both: then it is uploaded.
	 */
	if (k == -BXC_UNAUTHENTICATED || k == -BXC_PERMISSION_DENIED) {
		*ret = false;
		return 0;
	}
	if (k < 0)
		return bxc_err_move(err, BXC_TAKE(e));
	int status = bxc_http_status(resp);
	if (status == 202)
		drop_upload(r, &list.v[0], name, scope, resp, cancel);
	else if (status != 201 && status != 403 && status != 404 && status != 405)
		return bxc_reg__status_error(&list.v[0], name, resp, err);
	*ret = status == 201;
	return 0;
}

int bxc_reg_push_blob(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, int fd,
	bxc_cancel *cancel, bxc_reg_progress_fn progress, void *progress_ud, bxc_err **err)
{
	struct push_job j = {
		.repo = repo,
		.digest = &d->digest,
		.size = d->size,
		.fd = fd,
		.has_fd = true,
		.cancel = cancel,
		.progress = progress,
		.progress_ud = progress_ud,
	};
	return push(r, &j, err);
}

static int mount_from(bxc_reg *r, const bxc_ref *to, const bxc_descriptor *d, const char *from_repo,
	bxc_cancel *cancel, bool *ret, bxc_err **err)
{
	BXC_AUTOREF bxc_ref from = {0};
	int k = bxc_ref_parse(from_repo, &from, err);
	if (k < 0 || !bxc_str_eq(from.domain, to->domain))
		return k;
	return bxc_reg_mount_blob(r, to, from.path, d, cancel, ret, err);
}

int bxc_reg_transfer(bxc_reg *r, const bxc_ref *to, const bxc_descriptor *d, const char *from_repo,
	bxc_blob_store *store, int (*bring)(void *ud, bxc_err **err), void *ud, bxc_cancel *cancel,
	bxc_reg_progress_fn progress, void *progress_ud, bxc_err **err)
{
	bool there = false;
	BXC_AUTOCLOSE int fd = -1;
	uint64_t size;
	int k = 0;
	/* What costs something to bring is asked for first; the upload asks by itself. */
	if (from_repo || bring)
		k = bxc_reg_has_blob(r, to, d, cancel, &there, err);
	if (k >= 0 && !there && from_repo)
		k = mount_from(r, to, d, from_repo, cancel, &there, err);
	if (k < 0 || there)
		return k;
	if (bring)
		k = bring(ud, err);
	if (k >= 0)
		k = bxc_blob_open(store, &d->digest, &fd, &size, err);
	if (k >= 0)
		k = bxc_reg_push_blob(r, to, d, fd, cancel, progress, progress_ud, err);
	return k;
}

int bxc_reg_push_bytes(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, bxc_slice bytes,
	bxc_cancel *cancel, bxc_err **err)
{
	struct push_job j = {.repo = repo,
		.digest = &d->digest,
		.size = bytes.n,
		.bytes = bytes,
		.cancel = cancel};
	bxc_digest have = bxc_digest_of(bytes.p, bytes.n);
	if (bytes.n != d->size || !bxc_digest_eq(&have, &d->digest)) {
		BXC_AUTOFREE char *name = blob_name(repo, &d->digest);
		return bxc_err_set(err, BXC_DATA_LOSS, "%s: the bytes to push are others", name);
	}
	return push(r, &j, err);
}

int bxc_reg_push_manifest(bxc_reg *r, const bxc_ref *ref, const char *media_type, bxc_slice bytes,
	bxc_cancel *cancel, bxc_err **err)
{
	BXC_CLEANUP(bxc_reg__endpoints_done) reg_endpoints list = {0};
	BXC_AUTOFREE char *name = bxc_ref_str(ref);
	BXC_AUTOFREE char *scope = push_scope(ref);
	BXC_AUTOSTRV char **headers = NULL;
	char digest[BXC_DIGEST_STR_MAX];
	bxc_digest have = bxc_digest_of(bytes.p, bytes.n), told;
	bxc_digest_str(&have, digest);
	if (bytes.n > BXC_LIMIT_MANIFEST)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"%s: the manifest is larger than %u bytes", name, BXC_LIMIT_MANIFEST);
	if (bxc_digest_is_set(&ref->digest) && !bxc_digest_eq(&ref->digest, &have))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"%s: the manifest to push has digest %s", name, digest);
	BXC_AUTOFREE char *path =
		bxc_str_fmt("/v2/%s/manifests/%s", ref->path, ref->tag ? ref->tag : digest);
	bxc_strv_pushf(&headers, "Content-Type: %s", media_type);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	const reg_call call = {.what = name,
		.method = "PUT",
		.path = path,
		.scope = scope,
		.headers = headers,
		.body = bytes};
	bxc_reg__endpoints(r, ref->domain, false, &list);
	int k = bxc_reg__exchange(r, &list.v[0], &call, cancel, &resp, err);
	if (k < 0)
		return k;
	if (!is_stored(resp))
		return bxc_reg__status_error(&list.v[0], name, resp, err);
	const char *s = bxc_http_header(resp, "Docker-Content-Digest");
	if (s && bxc_digest_parse(s, &told, NULL) >= 0 && !bxc_digest_eq(&told, &have))
		return bxc_err_set(err, BXC_DATA_LOSS,
			"%s: registry '%s' stored a manifest of digest %s instead of %s", name,
			list.v[0].name, s, digest);
	return 0;
}
