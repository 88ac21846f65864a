/* SPDX-License-Identifier: Apache-2.0 */
/* To a registry; never to its mirrors. */
#include "common/registry/registry_internal.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

static int at_origin(bxc_reg *r, const bxc_ref *repo, const exchange *x, bxc_cancel *cancel, bxc_http_response **ret, bxc_err **err)
{
	endpoints list = {0};
	endpoints_of(r, repo->domain, false, &list);
	int k = exchange_run(r, repo, &list.v[0], x, cancel, ret, err);
	endpoints_done(&list);
	return k;
}

int bxc_reg_has_blob(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, bxc_cancel *cancel, bool *ret, bxc_err **err)
{
	char s[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *path = bxc_str_fmt("/v2/%s/blobs/%s", repo->path, bxc_digest_str(&d->digest, s));
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	const exchange x = {.method = "HEAD", .path = path, .fd = -1, .scope = "pull,push"};
	int k = at_origin(r, repo, &x, cancel, &resp, err);
	if (k < 0)
		return k;
	int status = bxc_http_status(resp);
	if (status != 200 && status != 404)
		return bxc_http_status_error(resp, err, s);
	*ret = status == 200;
	return 0;
}

/* The upload's address, with the digest as its last argument. */
static char *upload_url(const bxc_http_response *resp, const bxc_digest *d)
{
	char s[BXC_DIGEST_STR_MAX];
	const char *loc = bxc_http_header(resp, "Location");
	if (!loc || !*loc)
		return NULL;
	return bxc_str_fmt("%s%cdigest=%s", loc, strchr(loc, '?') ? '&' : '?', bxc_digest_str(d, s));
}

int bxc_reg_mount_blob(bxc_reg *r, const bxc_ref *repo, const char *from_path, const bxc_descriptor *d, bxc_cancel *cancel, bool *ret, bxc_err **err)
{
	char s[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *path = bxc_str_fmt("/v2/%s/blobs/uploads/?mount=%s&from=%s", repo->path, bxc_digest_str(&d->digest, s), from_path);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	const exchange x = {.method = "POST", .path = path, .fd = -1, .scope = "pull,push", .no_redirect = true};
	int k = at_origin(r, repo, &x, cancel, &resp, err);
	if (k < 0)
		return k;
	/* 202 opens an upload instead: it lapses by itself. */
	*ret = bxc_http_status(resp) == 201;
	return 0;
}

static int upload(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, int fd, bxc_slice bytes, bxc_cancel *cancel, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("/v2/%s/blobs/uploads/", repo->path);
	BXC_AUTOFREE char *url = NULL;
	char s[BXC_DIGEST_STR_MAX];
	bxc_digest_str(&d->digest, s);
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *begun = NULL;
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *done = NULL;
	const exchange post = {.method = "POST", .path = path, .fd = -1, .scope = "pull,push", .no_redirect = true};
	int k = at_origin(r, repo, &post, cancel, &begun, err);
	if (k < 0)
		return k;
	if (bxc_http_status(begun) != 202)
		return bxc_http_status_error(begun, err, s);
	url = upload_url(begun, &d->digest);
	if (!url)
		return bxc_err_set(err, BXC_INTERNAL, "%s: the registry names no place for the upload", s);
	const exchange put = {
		.method = "PUT",
		.path = url,
		.content_type = "application/octet-stream",
		.body = bytes,
		.fd = fd,
		.fd_len = d->size,
		.scope = "pull,push",
		.no_redirect = true,
	};
	k = at_origin(r, repo, &put, cancel, &done, err);
	if (k < 0)
		return k;
	return bxc_http_status(done) == 201 ? 0 : bxc_http_status_error(done, err, s);
}

int bxc_reg_push_blob(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, int fd, bxc_cancel *cancel, bxc_reg_progress_fn progress,
	void *progress_ud, bxc_err **err)
{
	bool there = false;
	int k = bxc_reg_has_blob(r, repo, d, cancel, &there, err);
	if (k >= 0 && !there)
		k = upload(r, repo, d, fd, bxc_slice_of(NULL, 0), cancel, err);
	if (k >= 0 && progress)
		progress(d->size, d->size, progress_ud);
	return k;
}

int bxc_reg_push_bytes(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, bxc_slice bytes, bxc_cancel *cancel, bxc_err **err)
{
	bool there = false;
	int k = bxc_reg_has_blob(r, repo, d, cancel, &there, err);
	return k < 0 || there ? k : upload(r, repo, d, -1, bytes, cancel, err);
}

int bxc_reg_push_manifest(bxc_reg *r, const bxc_ref *ref, const char *media_type, bxc_slice bytes, bxc_cancel *cancel, bxc_err **err)
{
	char s[BXC_DIGEST_STR_MAX];
	bxc_digest d = bxc_digest_of(bytes.p, bytes.n);
	BXC_AUTOFREE char *path = bxc_str_fmt("/v2/%s/manifests/%s", ref->path, ref->tag ? ref->tag : bxc_digest_str(&d, s));
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	const exchange x = {.method = "PUT", .path = path, .content_type = media_type, .body = bytes, .fd = -1, .scope = "pull,push"};
	int k = at_origin(r, ref, &x, cancel, &resp, err);
	if (k < 0)
		return k;
	int status = bxc_http_status(resp);
	return status == 201 || status == 200 ? 0 : bxc_http_status_error(resp, err, "manifest");
}
