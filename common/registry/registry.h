/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OCI distribution client (spec 1.1) over common/http. Module prefix: bxc_reg. Blocking calls for
 * pool threads; one object may be used by several threads.
 */
#pragma once

#include "common/base/err.h"
#include "common/cas/cas.h"
#include "common/codec/compress.h"
#include "common/http/http.h"
#include "common/oci/oci.h"

/* How one registry is reached. */
typedef struct bxc_reg_host {
	const char *domain;   /* "docker.io" */
	char *const *mirrors; /* strv "127.0.0.1:5000" or "http://mirror:5000": tried in order
				 before the origin */
	bool plain_http;      /* speak http:// (loopback names and addresses always try it) */
	bool insecure;	      /* https without verification, falling back to http */
} bxc_reg_host;

typedef struct bxc_reg_config {
	const bxc_reg_host *hosts;
	size_t n_hosts;
	/*
	 * Credentials for a registry, asked for only after a 401. `domain` is the registry; `scope`
	 * is "repository:<path>:pull[,push]"; realm and service are those of the challenge (NULL
	 * for Basic). Sets *ret_token to a bearer token, or *ret_basic to "user:password", or
	 * neither (anonymous). Called on the caller's thread. NULL: always anonymous.
	 */
	int (*credentials)(const char *domain, const char *scope, const char *realm,
		const char *service, bxc_secret **ret_token, bxc_secret **ret_basic, void *ud,
		bxc_err **err);
	void *ud;
} bxc_reg_config;

typedef struct bxc_reg bxc_reg;
/* http is borrowed and must outlive the object; config is copied. */
bxc_reg *bxc_reg_new(bxc_http_client *http, const bxc_reg_config *c);
void bxc_reg_free(bxc_reg *r);
BXC_DEFINE_CLEANUP(bxc_reg, bxc_reg_free);

/* Tag or digest -> descriptor of what it names (index or manifest) and its bytes, verified.
 * NOT_FOUND: "<ref>: not found". UNAVAILABLE: registry down. UNAUTHENTICATED / PERMISSION_DENIED.
 */
BXC_MUST_CHECK int bxc_reg_resolve(bxc_reg *r, const bxc_ref *ref, bxc_cancel *cancel,
	bxc_descriptor *ret, bxc_buf *ret_bytes, bxc_err **err);
/* HEAD only: the descriptor (media type, digest, size); falls back to GET. */
BXC_MUST_CHECK int bxc_reg_head(
	bxc_reg *r, const bxc_ref *ref, bxc_cancel *cancel, bxc_descriptor *ret, bxc_err **err);
/* A manifest by digest, verified. */
BXC_MUST_CHECK int bxc_reg_manifest(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d,
	bxc_cancel *cancel, bxc_buf *ret_bytes, bxc_err **err);
/* Streams a blob into `sink`, verifying digest and size; resumes a broken transfer by range (3
 * tries). */
typedef void (*bxc_reg_progress_fn)(uint64_t done, uint64_t total, void *ud);
BXC_MUST_CHECK int bxc_reg_blob(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d,
	bxc_cancel *cancel, bxc_sink_fn sink, void *ud, bxc_reg_progress_fn progress,
	void *progress_ud, bxc_err **err);
/* The same into a blob store; 1 when it was there already. */
BXC_MUST_CHECK int bxc_reg_fetch(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d,
	bxc_cancel *cancel, bxc_blob_store *store, bxc_reg_progress_fn progress, void *progress_ud,
	bxc_err **err);

/* ---- push ---- */
BXC_MUST_CHECK int bxc_reg_has_blob(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d,
	bxc_cancel *cancel, bool *ret, bxc_err **err);
/* Mounts from another repository of the same registry: *ret false when the registry declined. */
BXC_MUST_CHECK int bxc_reg_mount_blob(bxc_reg *r, const bxc_ref *repo, const char *from_path,
	const bxc_descriptor *d, bxc_cancel *cancel, bool *ret, bxc_err **err);
/* Uploads d->size bytes of fd from offset 0 (monolithic PUT after POST). Nothing is sent when it
 * exists. */
BXC_MUST_CHECK int bxc_reg_push_blob(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d,
	int fd, bxc_cancel *cancel, bxc_reg_progress_fn progress, void *progress_ud, bxc_err **err);
/*
 * Makes a blob be in a repository: it is there, or is mounted from `from_repo` ("host/path", NULL:
 * none) when that is of the same registry, or is uploaded from `store`, into which `bring` (NULL:
 * no need) puts it first.
 */
BXC_MUST_CHECK int bxc_reg_transfer(bxc_reg *r, const bxc_ref *to, const bxc_descriptor *d,
	const char *from_repo, bxc_blob_store *store, int (*bring)(void *ud, bxc_err **err),
	void *ud, bxc_cancel *cancel, bxc_reg_progress_fn progress, void *progress_ud,
	bxc_err **err);
BXC_MUST_CHECK int bxc_reg_push_bytes(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d,
	bxc_slice bytes, bxc_cancel *cancel, bxc_err **err);
/* PUT of a manifest or index under ref's tag, or under its digest when there is no tag. */
BXC_MUST_CHECK int bxc_reg_push_manifest(bxc_reg *r, const bxc_ref *ref, const char *media_type,
	bxc_slice bytes, bxc_cancel *cancel, bxc_err **err);
