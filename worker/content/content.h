/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blobs on a worker: its own store, where others are fetched from, and the server that hands them
 * to peers. Module prefix: bxc_content. Any thread; fetching blocks.
 */
#pragma once

#include "common/base/arr.h"
#include "common/cas/cas.h"
#include "common/codec/json.h"
#include "common/http/http.h"
#include "common/loop/pool.h"
#include "common/registry/registry.h"
#include "common/tar/tar.h"

typedef struct bxc_content bxc_content;

typedef struct bxc_content_config {
	const char *dir;                 /* holds the blob store */
	bxc_http_client *http;           /* borrowed: to the coordinator and to peers, trusts what they show */
	bxc_http_client *registry_http;  /* borrowed: to registries and web servers */
	const char *coordinator_url;     /* "http://host:port", "https://..." */
	const char *coordinator_unix;    /* socket of the API instead; NULL: by URL */
	const bxc_secret *coordinator_token;   /* borrowed; may be NULL on a Unix socket */
} bxc_content_config;

BXC_MUST_CHECK int bxc_content_open(const bxc_content_config *c, bxc_content **ret, bxc_err **err);
void bxc_content_close(bxc_content *c);                  /* stops serving */
BXC_DEFINE_CLEANUP(bxc_content, bxc_content_close);
bxc_blob_store *bxc_content_store(bxc_content *c);       /* borrowed */
bxc_http_client *bxc_content_world_http(bxc_content *c); /* to servers of the world, as to registries; borrowed */

/*
 * Remembers the blob that the tar of a diff id became by a compression and level (0: the default). The
 * descriptor, owned by the caller, while the blob is there.
 */
bool bxc_content_form(bxc_content *c, const bxc_digest *diff_id, bxc_compression compression, int level, bxc_descriptor *ret);
void bxc_content_form_add(bxc_content *c, const bxc_digest *diff_id, bxc_compression compression, int level, const bxc_descriptor *d);
typedef struct bxc_content_made {
	bxc_digest diff_id, blob;
	uint64_t size;
} bxc_content_made;
typedef BXC_ARR(bxc_content_made) bxc_content_made_list;
/* All blobs that are remembered and there, in the order of their diff ids; what is known of others is forgotten. */
BXC_MUST_CHECK int bxc_content_forms(bxc_content *c, bxc_content_made_list *ret, bxc_err **err);

/* Of an OCI layout in a tar: the path of a blob (owned), and entries of the tar. */
char *bxc_content_layout_path(const bxc_digest *d);
BXC_MUST_CHECK int bxc_content_layout_blob(bxc_content *c, bxc_tar_writer *w, const bxc_digest *d, bxc_err **err);
BXC_MUST_CHECK int bxc_content_layout_text(bxc_tar_writer *w, const char *path, const char *text, bxc_err **err);

/* What the coordinator's welcome told. */
void bxc_content_set_peer_token(bxc_content *c, const char *token);
void bxc_content_set_registries(bxc_content *c, const bxc_json *registries);
/* A registry client with those settings; credentials as in registry.h. The caller frees it. */
bxc_reg *bxc_content_registry(bxc_content *c,
	int (*credentials)(const char *domain, const char *scope, const char *realm, const char *service,
		bxc_secret **ret_token, bxc_secret **ret_basic, void *ud, bxc_err **err), void *ud);

/* Serves GET /v1/blobs/{digest} to holders of the peer token, by HTTPS with a certificate and its key (PEM). port 0: any.
 * FAILED_PRECONDITION: off loopback without them, as the token would be told to the network. */
BXC_MUST_CHECK int bxc_content_serve(bxc_content *c, const char *host, uint16_t port, const char *cert_file, const char *key_file,
	bxc_err **err);
uint16_t bxc_content_port(const bxc_content *c);         /* 0: does not serve */

/* Makes sure that a blob of the coordinator is in the store, verified. */
BXC_MUST_CHECK int bxc_content_from_coordinator(bxc_content *c, const bxc_digest *d, bxc_cancel *cancel, bxc_err **err);
/* Streams a peer's blob into `sink`; the caller verifies. UNAVAILABLE: the peer can't give it.
 * FAILED_PRECONDITION: it is not of this machine and has no TLS; nothing was sent. */
BXC_MUST_CHECK int bxc_content_from_peer(bxc_content *c, const char *peer_url, const bxc_digest *d, bxc_cancel *cancel,
	bxc_sink_fn sink, void *ud, bxc_err **err);
