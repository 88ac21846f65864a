/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A registry for tests: repositories of the form a/b in memory, a token server, and faults on
 * demand. Counters and faults are set while no request runs.
 */
#pragma once

#include <pthread.h>

#include "common/base/map.h"
#include "common/codec/digest.h"
#include "common/httpd/httpd.h"

typedef struct fake_registry {
	/* how it behaves */
	bool needs_token;	 /* Bearer, from /token of this server */
	bool needs_basic;	 /* joe:secret */
	bool forget_tokens_once; /* the next request with a token gets 401 */
	bool token_denies;	 /* the token server refuses everybody */
	bool no_head;		 /* 405 for HEAD of manifests */
	bool no_digest_header;
	bool lies_about_digest; /* in the header */
	bool declines_mounts;
	bool absolute_location;
	const char *upload_host;  /* another than this one; with absolute_location */
	const char *retry_after;  /* with 503, NULL: not said */
	unsigned busy;		  /* that many requests get 503 */
	unsigned break_put;	  /* that many uploads get put_status, and retry_after */
	int put_status;		  /* 0: 503 */
	const char *content_type; /* of manifests, instead of the stored one */
	/* what happened; under lock */
	unsigned n_requests, n_tokens, n_anonymous_tokens, n_uploads, n_head, n_get_blob, n_delete;
	char last_scope[512];
	char last_authorization[128];

	bxc_httpd *server;
	char host[64]; /* "127.0.0.1:port" */
	pthread_mutex_t lock;
	bxc_map *blobs;	    /* "repo@digest" -> struct bxc_buf */
	bxc_map *manifests; /* "repo:tag", "repo@digest" -> struct stored */
} fake_registry;

fake_registry *fake_registry_new(void);
void fake_registry_free(fake_registry *f);
/* Stores bytes under a name they need not have. */
void fake_registry_put_blob(
	fake_registry *f, const char *repo, const bxc_digest *d, bxc_slice bytes);
void fake_registry_put_manifest(fake_registry *f, const char *repo, const char *reference,
	const char *media_type, bxc_slice bytes);
/* Borrowed; NULL when absent. */
const bxc_buf *fake_registry_blob(fake_registry *f, const char *repo, const bxc_digest *d);
const bxc_buf *fake_registry_manifest(fake_registry *f, const char *repo, const char *reference);
