/* SPDX-License-Identifier: Apache-2.0 */
/* Private to common/registry. */
#pragma once

#include <pthread.h>

#include "common/base/arr.h"
#include "common/base/map.h"
#include "common/registry/registry.h"

/* ---- challenges (challenge.c): pure, fuzzed ---- */
typedef enum reg_auth_kind {
	REG_AUTH_NONE = 0, /* nothing that we speak */
	REG_AUTH_BASIC,
	REG_AUTH_BEARER,
} reg_auth_kind;
typedef struct reg_challenge {
	reg_auth_kind kind;
	char *realm;   /* set for Bearer */
	char *service; /* may be NULL */
} reg_challenge;
/* Reads one WWW-Authenticate value, which may hold several challenges; keeps the best of what `c`
 * holds already and them. */
void bxc_reg__challenge_add(reg_challenge *c, const char *value);
void bxc_reg__challenge_done(reg_challenge *c);

/* ---- where a registry is asked (registry.c) ---- */
typedef struct reg_host {
	char *domain;
	char **mirrors;
	bool plain_http, insecure;
} reg_host;

typedef struct reg_endpoint {
	char *name;   /* "registry-1.docker.io", "127.0.0.1:5000": connects there; for messages and
			 caches */
	char *domain; /* whose credentials: "docker.io"; a mirror has its own */
	const char *schemes[2]; /* in order of trying; static */
	size_t n_schemes;
	bool insecure; /* https without verification */
	bool is_mirror;
} reg_endpoint;
typedef BXC_ARR(reg_endpoint) reg_endpoints;

struct bxc_reg {
	bxc_http_client *http;
	BXC_ARR(reg_host) hosts; /* constant */
	int (*credentials)(const char *domain, const char *scope, const char *realm,
		const char *service, bxc_secret **ret_token, bxc_secret **ret_basic, void *ud,
		bxc_err **err);
	void *ud;
	pthread_mutex_t lock; /* protects the two maps; never held over a request */
	bxc_map *schemes;     /* endpoint name -> const char *, the scheme that was answered */
	bxc_map *grants;      /* endpoint name + scope -> struct grant (auth.c) */
};

/* The mirrors of a domain in order, if wanted, and then the registry itself. */
void bxc_reg__endpoints(bxc_reg *r, const char *domain, bool with_mirrors, reg_endpoints *ret);
void bxc_reg__endpoints_done(reg_endpoints *e);
bool bxc_reg__is_loopback(const char *host); /* "host", "host:port", "[::1]:port", a URL */

/* ---- signing in (auth.c) ---- */
typedef struct reg_auth {
	bxc_secret *bearer, *basic; /* at most one */
} reg_auth;
void bxc_reg__auth_done(reg_auth *a);
/* What is known for this place and scope and not yet expired. */
void bxc_reg__auth_known(bxc_reg *r, const reg_endpoint *at, const char *scope, reg_auth *ret);
/* Answers the challenges of a 401: asks for credentials, fetches a token, keeps it. */
BXC_MUST_CHECK int bxc_reg__sign_in(bxc_reg *r, const reg_endpoint *at, const char *scope,
	const bxc_http_response *denied, bxc_cancel *cancel, reg_auth *ret, bxc_err **err);
void bxc_reg__grant_free(void *p);

/* ---- one exchange (exchange.c) ---- */
typedef struct reg_call {
	const char *what; /* subject of error messages: a reference */
	const char *method;
	const char *path;  /* "/v2/..." or an absolute URL */
	const char *scope; /* "repository:<path>:pull", more separated by blanks */
	char *const *headers;
	bxc_slice body;
	int fd; /* with has_fd: sent from offset 0 */
	uint64_t fd_len;
	bool has_fd;
	uint64_t range_first; /* > 0: "bytes=range_first-" */
	bool only_once;	      /* no retry: the caller has to start further back */
	void (*on_sent)(uint64_t sent, void *ud);
	void *on_sent_ud;
} reg_call;
/*
 * Chooses the scheme, signs in as far as asked, waits and tries again when the registry is busy
 * (mirrors are not waited for). Gives back any answer but 401 and those worth a retry.
 */
BXC_MUST_CHECK int bxc_reg__exchange(bxc_reg *r, const reg_endpoint *at, const reg_call *call,
	bxc_cancel *cancel, bxc_http_response **ret, bxc_err **err);
/* Waits, or fails with CANCELED. */
BXC_MUST_CHECK int bxc_reg__pause(int64_t ns, bxc_cancel *cancel, bxc_err **err);
/* Another try may succeed: after how long, at least `own_ns`; negative: none is worth it. */
int64_t bxc_reg__retry_after(const bxc_err *e, int64_t own_ns);
/* The error of an answer that was not expected; never CANCELED, which only our own token says. */
int bxc_reg__status_error(const reg_endpoint *at, const char *what, bxc_http_response *resp,
	bxc_err **err) BXC_MUST_CHECK;
int bxc_reg__answer_error(bxc_http_response *resp, const char *subject, bxc_err **err)
	BXC_MUST_CHECK;
/* A Location header (absolute, "//host/...", "/path" or relative) as an absolute URL; owned. */
char *bxc_reg__resolve_location(const char *base_url, const char *location);

/* The path of a URL at this very place; borrowed. NULL for a path and for foreign URLs. */
const char *bxc_reg__own_path(const reg_endpoint *at, const char *url);

/* Errors of several places: "not found" says more than that another place is down. */
typedef struct reg_outcome {
	bxc_err *last, *not_found;
} reg_outcome;
void bxc_reg__outcome_add(reg_outcome *o, bxc_err *e); /* owns e */
int bxc_reg__outcome_take(reg_outcome *o, bxc_err **err)
	BXC_MUST_CHECK; /* returns the code of the telling one */
void bxc_reg__outcome_done(reg_outcome *o);
