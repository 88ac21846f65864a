/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP client on one libcurl multi handle: the only place that sees libcurl.
 *
 * A client owns a private thread that drives the transfers. Requests may be made from any thread
 * that may block; the body is read with back-pressure: at most 1 MiB is buffered per transfer.
 * HTTP/1.1, 8 connections a host, kept alive: a ninth transfer waits until one of a host's eight
 * has ended or was freed. Redirects are followed for GET and HEAD (at most 10, only to http and
 * https), without credentials to another host. The header of an answer is bounded by
 * BXC_LIMIT_HTTP_HEADER. A response belongs to one thread at a time.
 */
#pragma once

#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/secret.h"
#include "common/loop/loop.h"
#include "common/loop/pool.h"

typedef struct bxc_http_client bxc_http_client;

typedef struct bxc_http_client_config {
	const char *user_agent;		  /* NULL: "bxc/<version>" */
	const char *ca_file;		  /* PEM, trusted alone; NULL: the system's */
	const char *cert_file, *key_file; /* client certificate; both or neither */
	int64_t connect_timeout_ns;	  /* 0: 10 s */
	int64_t stall_timeout_ns;	  /* no byte for so long fails the transfer; 0: 60 s */
} bxc_http_client_config;

BXC_MUST_CHECK int bxc_http_client_new(
	const bxc_http_client_config *c, bxc_http_client **ret, bxc_err **err);
/* Fails what runs with CANCELED and joins the thread; no call may begin meanwhile. Responses may be
 * freed later. */
void bxc_http_client_free(bxc_http_client *c);
BXC_DEFINE_CLEANUP(bxc_http_client, bxc_http_client_free);

/* Everything is borrowed for the duration of the call that takes it (copied where needed later). */
typedef struct bxc_http_request {
	const char *method;    /* "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE" */
	const char *url;       /* http://, https:// */
	const char *unix_path; /* connect to this Unix socket instead of the URL's host; NULL: no */
	char *const *headers;  /* strv "Name: value" */
	const bxc_secret *bearer; /* Authorization: Bearer; NULL: none */
	const bxc_secret *basic;  /* "user:password" for Basic; NULL: none */
	bxc_slice body;		  /* small bodies; copied */
	int body_fd; /* >= 0 with body_len: sent from offset body_off; borrowed until the end. -1:
			none. */
	uint64_t body_off, body_len;
	bool has_body_fd;     /* false: body_fd is ignored */
	uint64_t range_first; /* with has_range: "bytes=first-last" (last UINT64_MAX: open end) */
	uint64_t range_last;
	bool has_range;
	bool insecure_tls;   /* skip verification: registries marked insecure */
	bool no_redirect;    /* give 3xx back to the caller */
	int64_t deadline_ns; /* absolute CLOCK_MONOTONIC; 0: none */
	/* Called by bxc_http_start on its thread with the bytes of the body sent so far; NULL: no.
	 */
	void (*on_sent)(uint64_t sent, void *ud);
	void *on_sent_ud;
} bxc_http_request;

typedef struct bxc_http_response bxc_http_response;

/* Blocks until the header has arrived. An HTTP status >= 400 is NOT an error here. Errors:
 * UNAVAILABLE (connect, reset, stall), DEADLINE_EXCEEDED, CANCELED, INVALID_ARGUMENT (URL, header),
 * PERMISSION_DENIED (certificates), FAILED_PRECONDITION (redirects without end).
 * UNAVAILABLE has the details "phase" ("connect", "tls": nothing of the request was sent; or
 * "transfer") and "reason" (the plain cause, "Connection refused"). */
BXC_MUST_CHECK int bxc_http_start(bxc_http_client *c, const bxc_http_request *req,
	bxc_cancel *cancel, bxc_http_response **ret, bxc_err **err);
int bxc_http_status(const bxc_http_response *r);
const char *bxc_http_header(
	const bxc_http_response *r, const char *name); /* case-insensitive; borrowed or NULL */
/* All values of a header that may come several times, i-th or NULL. */
const char *bxc_http_header_at(const bxc_http_response *r, const char *name, size_t i);
int64_t bxc_http_content_length(const bxc_http_response *r); /* -1: unknown */
const char *bxc_http_effective_url(const bxc_http_response *r);
/* Blocks for body bytes: the count, 0 at the end, negative on a broken transfer (after what had
 * arrived before it broke; a fired token or a passed deadline discards that). */
BXC_MUST_CHECK ssize_t bxc_http_read(bxc_http_response *r, void *p, size_t n, bxc_err **err);
/* Reads the rest into `out` (bounded by its maximum). */
BXC_MUST_CHECK int bxc_http_read_all(bxc_http_response *r, bxc_buf *out, bxc_err **err);
void bxc_http_response_free(bxc_http_response *r); /* aborts the transfer if it still runs */
BXC_DEFINE_CLEANUP(bxc_http_response, bxc_http_response_free);

/* Whole exchange: bounded body. Blocking. */
BXC_MUST_CHECK int bxc_http_do(bxc_http_client *c, const bxc_http_request *req, bxc_cancel *cancel,
	bxc_http_response **ret, bxc_buf *out_body, bxc_err **err);

/* An error for an unexpected status, reading a bounded part of the body for its message:
 * {"error":{"message"}} of our API, {"errors":[{"code","message"}]} of registries, or plain text.
 */
int bxc_http_status_error(bxc_http_response *r, bxc_err **err, const char *what) BXC_MUST_CHECK;
bxc_code bxc_http_code_of_status(int status);
int bxc_http_status_of_code(bxc_code code);
