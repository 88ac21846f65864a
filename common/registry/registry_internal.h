/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "common/base/arr.h"
#include "common/base/map.h"
#include "common/registry/registry.h"

typedef struct host_config {
	char *domain;
	char **mirrors;
	bool plain_http, insecure;
} host_config;

struct bxc_reg {
	bxc_http_client *http;
	BXC_ARR(host_config) hosts;
	int (*credentials)(const char *domain, const char *scope, const char *realm, const char *service,
		bxc_secret **ret_token, bxc_secret **ret_basic, void *ud, bxc_err **err);
	void *ud;
	pthread_mutex_t lock;        /* protects tokens and schemes; leaf */
	bxc_map *tokens;             /* "host scope" -> struct token */
	bxc_map *schemes;            /* host -> "http" or "https" that worked */
};

/* One place to ask: the registry itself, or a mirror of it. */
typedef struct endpoint {
	char *host;                  /* host[:port] to connect to */
	bool try_http, try_https, insecure, is_mirror;
} endpoint;
typedef BXC_ARR(endpoint) endpoints;
void endpoints_of(bxc_reg *r, const char *domain, bool with_mirrors, endpoints *ret);
void endpoints_done(endpoints *e);

/* ---- challenges (challenge.c) ---- */
typedef struct challenge {
	bool bearer, basic;
	char *realm, *service, *scope;
} challenge;
void challenge_done(challenge *c);
/* A WWW-Authenticate value; false when it is neither Bearer nor Basic. */
bool challenge_parse(const char *value, challenge *ret);

/* ---- one exchange (exchange.c) ---- */
typedef struct exchange {
	const char *method;
	const char *path;            /* "/v2/name/..." or an absolute URL */
	const char *accept;          /* header value or NULL */
	const char *content_type;
	bxc_slice body;
	int fd;                      /* -1: `body` counts */
	uint64_t fd_len;
	uint64_t range_first;        /* 0: none */
	const char *scope;           /* "pull" or "pull,push" */
	bool no_redirect;
} exchange;
/* Signs in as far as asked, retries what may be retried. Any status but 401 after signing in comes back as is. */
int exchange_run(bxc_reg *r, const bxc_ref *ref, const endpoint *at, const exchange *x, bxc_cancel *cancel,
	bxc_http_response **ret, bxc_err **err);
