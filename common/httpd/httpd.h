/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP server glue on libmicrohttpd: the only place that sees it.
 *
 * A pool of 4 poll threads. Handlers run on those threads and must not block for long: they answer
 * at once, or keep the request and answer later from any thread (the connection sleeps meanwhile).
 * Every request that reached a handler must be answered exactly once, also after bxc_httpd_stop.
 * Refused before any handler: CL together with TE, duplicate Content-Length, bodies over the
 * route's limit (413), unknown paths (404) and methods (405), bad escapes and "." or ".." in paths,
 * header over BXC_LIMIT_HTTP_HEADER.
 * Errors travel as {"error":{"code","message","field"?}} with the status of the code.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/cas/cas.h"
#include "common/codec/json.h"

typedef struct bxc_httpd bxc_httpd;
typedef struct bxc_httpd_req bxc_httpd_req;

typedef void (*bxc_httpd_handler)(bxc_httpd_req *req, void *ud);

typedef struct bxc_httpd_route {
	const char *method;  /* "GET" also answers HEAD */
	const char *pattern; /* "/v1/builds/{id}/events": {name} matches one path segment */
	bxc_httpd_handler handler;
	size_t max_body; /* bytes; 0: no body accepted */
	unsigned flags;	 /* the application's; see bxc_httpd_req_flags */
} bxc_httpd_route;

typedef struct bxc_httpd_config {
	const char *unix_path; /* listen on a Unix socket (mode unix_mode), or */
	unsigned unix_mode;    /* 0: 0600 */
	const char *host;      /* on this address; NULL with a NULL unix_path: 127.0.0.1 */
	uint16_t port;	       /* 0: any free port */
	const char *tls_cert_file, *tls_key_file; /* PEM, read at the start; both: HTTPS only */
	const bxc_httpd_route *routes; /* borrowed for the server's life; first match wins */
	size_t n_routes;
	/* Called before a handler and before the body is read, on the handler's thread; return 0 to
	 * go on, or a negative code with err. NULL: no check. */
	int (*authorize)(bxc_httpd_req *req, void *ud, bxc_err **err);
	void *ud; /* for authorize and the handlers */
} bxc_httpd_config;

BXC_MUST_CHECK int bxc_httpd_start(const bxc_httpd_config *c, bxc_httpd **ret, bxc_err **err);
uint16_t bxc_httpd_port(const bxc_httpd *h);
/* Refuses new connections, answers sleeping requests with 503 and ends event streams, gives what is
 * being sent up to 2 s, joins the threads; frees. Handlers that kept a request still answer it
 * (into the void), and event streams are still ended by their writer. NULL is fine. */
void bxc_httpd_stop(bxc_httpd *h);
BXC_DEFINE_CLEANUP(bxc_httpd, bxc_httpd_stop);

/* ---- the request; borrowed by the handler until it is answered ---- */
const char *bxc_httpd_req_method(const bxc_httpd_req *r);
const char *bxc_httpd_req_path(
	const bxc_httpd_req *r); /* as it came: not decoded, without the query */
const char *bxc_httpd_req_param(
	const bxc_httpd_req *r, const char *name); /* of the pattern; decoded */
const char *bxc_httpd_req_query(const bxc_httpd_req *r, const char *name); /* decoded or NULL */
const char *bxc_httpd_req_header(const bxc_httpd_req *r, const char *name);
/* The token of "Authorization: Bearer <token>": borrowed. NULL: another kind, or none at all. */
const char *bxc_httpd_req_bearer(const bxc_httpd_req *r);
bxc_slice bxc_httpd_req_body(const bxc_httpd_req *r);	  /* empty inside authorize */
unsigned bxc_httpd_req_flags(const bxc_httpd_req *r);	  /* of the matched route */
const char *bxc_httpd_req_peer(const bxc_httpd_req *r);	  /* "127.0.0.1:4711" or "unix:uid=0" */
bool bxc_httpd_req_peer_is_local(const bxc_httpd_req *r); /* Unix socket or loopback */
void *bxc_httpd_req_user(const bxc_httpd_req *r);	  /* set by authorize */
void bxc_httpd_req_set_user(bxc_httpd_req *r, void *user, void (*free_fn)(void *));

/* ---- answers; each ends the request; any thread; `headers` is an optional strv "Name: value" ----
 */
void bxc_httpd_reply(bxc_httpd_req *r, int status, const char *content_type, bxc_slice body,
	char *const *headers);
void bxc_httpd_reply_json(bxc_httpd_req *r, int status, bxc_json *j); /* owns j */
void bxc_httpd_reply_err(bxc_httpd_req *r, bxc_err *e);		      /* owns e */
/* A blob: honours Range (one range; 206/416) and HEAD; ETag is `etag` in quotes. Owns fd. */
void bxc_httpd_reply_fd(
	bxc_httpd_req *r, int fd, uint64_t size, const char *content_type, const char *etag);
/* The blob that the parameter "digest" of the path names, in the same way. */
void bxc_httpd_reply_blob(bxc_httpd_req *r, bxc_blob_store *store);

/* Server-sent events: returns a stream that may be written from any thread until it is ended or
 * the client has gone. Buffered to at most 4 MiB; a client slower than that is cut off. */
typedef struct bxc_httpd_sse bxc_httpd_sse;
bxc_httpd_sse *bxc_httpd_reply_sse(bxc_httpd_req *r);
/* One event "id: <id>\nevent: <event>\ndata: <data>"; data may hold newlines. -CANCELED: the client
 * has gone. */
BXC_MUST_CHECK int bxc_httpd_sse_send(
	bxc_httpd_sse *s, uint64_t id, const char *event, const char *data);
BXC_MUST_CHECK int bxc_httpd_sse_ping(bxc_httpd_sse *s); /* comment line; call every 15 s */
void bxc_httpd_sse_end(bxc_httpd_sse *s);		 /* frees the handle */
