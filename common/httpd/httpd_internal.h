/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to common/httpd. Locks, in this order: the server's, a request's, an event stream's.
 * libmicrohttpd's own locks come after ours: suspend and resume are called with ours held.
 */
#pragma once

#include <microhttpd.h>
#include <pthread.h>
#include <sys/types.h>

#include "common/base/arr.h"
#include "common/httpd/httpd.h"

/* ---- targets and ranges (url.c): pure, fuzzed ---- */
typedef struct httpd_pair {
	char *name, *value;
} httpd_pair;
typedef BXC_ARR(httpd_pair) httpd_pairs;
void bxc_httpd__pairs_done(httpd_pairs *p);

typedef struct httpd_target {
	char *path;	   /* as it came, without query */
	char **segments;   /* strv, decoded; "/" has one, empty */
	httpd_pairs query; /* decoded */
} httpd_target;
/* "/a/b?x=1" or "http://host/a/b?x=1". INVALID_ARGUMENT. */
BXC_MUST_CHECK int bxc_httpd__target_parse(const char *text, httpd_target *ret, bxc_err **err);
void bxc_httpd__target_done(httpd_target *t);
/* Does the path match? Then `params` gets the values of the pattern's names. */
bool bxc_httpd__match(const char *pattern, const httpd_target *t, httpd_pairs *params);

typedef enum httpd_range {
	HTTPD_RANGE_NONE = 0, /* none, or one that RFC 9110 allows to ignore: all bytes */
	HTTPD_RANGE_OK,
	HTTPD_RANGE_UNSATISFIABLE,
} httpd_range;
/* A Range header (may be NULL) for `size` bytes: first and last, both inclusive. */
httpd_range bxc_httpd__range_parse(
	const char *s, uint64_t size, uint64_t *ret_first, uint64_t *ret_last);

/* ---- the server ---- */
struct bxc_httpd {
	struct MHD_Daemon *daemon;
	const bxc_httpd_route *routes;
	size_t n_routes;
	int (*authorize)(bxc_httpd_req *req, void *ud, bxc_err **err);
	void *ud;
	uint16_t port;
	char *unix_path;
	dev_t unix_dev; /* the socket file is removed only while it is still ours */
	ino_t unix_ino;
	_Atomic bool is_stopping; /* set before the walk over the requests in stop; read before
				     sleeping and streaming, under their lock */
	pthread_mutex_t lock;	  /* protects requests */
	pthread_cond_t drained;	  /* on CLOCK_MONOTONIC */
	bxc_httpd_req *requests;  /* list of those whose connection knows them */
};

typedef enum httpd_req_state {
	HTTPD_REQ_NEW = 0, /* the header was read */
	HTTPD_REQ_BODY,	   /* accepted; its body comes in */
	HTTPD_REQ_HANDLED, /* the handler was called, or the request was refused */
} httpd_req_state;

/* Two owners: the connection, and whoever has to answer (from the handler's call to the answer). */
struct bxc_httpd_req {
	bxc_httpd *h; /* not to be touched once is_closed, except by the server's threads */
	_Atomic uint32_t refs;
	bxc_httpd_req *prev, *next; /* under the server's lock */
	char *raw_target, *method, *peer;
	bool peer_is_local;
	httpd_target target;
	httpd_pairs params;
	httpd_pairs headers;
	bxc_buf body;
	size_t dropped; /* bytes over the limit that were read and thrown away */
	const bxc_httpd_route *route;
	httpd_req_state state;
	void *user;
	void (*free_user)(void *);

	pthread_mutex_t lock; /* protects the rest */
	struct MHD_Connection *conn;
	bool is_answered, is_suspended, is_closed;
	struct MHD_Response *response; /* waits to be queued */
	unsigned status;
	bxc_httpd_sse *sse;
};

/* request.c */
bxc_httpd_req *bxc_httpd__req_new(bxc_httpd *h, const char *raw_target);
void bxc_httpd__req_unref(bxc_httpd_req *r);
/* Copies what the request's users may ask for, and checks it; the route is set on success.
 * *ret_status: 0 or one to prefer. */
BXC_MUST_CHECK int bxc_httpd__req_accept(bxc_httpd_req *r, struct MHD_Connection *conn,
	const char *method, int *ret_status, bxc_err **err);

/* reply.c: hands the response (owned) to the connection and drops the answerer's reference. */
void bxc_httpd__answer(bxc_httpd_req *r, int status, struct MHD_Response *response);
struct MHD_Response *bxc_httpd__error_response(const bxc_err *e);
/* "Name: value" lines. */
void bxc_httpd__add_headers(struct MHD_Response *response, char *const *headers);

/* sse.c */
void bxc_httpd__sse_unref(bxc_httpd_sse *s);
void bxc_httpd__sse_shut(
	bxc_httpd_sse *s); /* the server stops: what is buffered is sent, then the end */

/* listen.c */
BXC_MUST_CHECK int bxc_httpd__listen(
	bxc_httpd *h, const bxc_httpd_config *c, int *ret_fd, bxc_err **err);
