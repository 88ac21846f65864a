/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to common/http. Locks, in this order: a response's, then its client's. Neither is held
 * while libcurl runs, except for the short copies inside its callbacks.
 */
#pragma once

#include <curl/curl.h>
#include <pthread.h>

#include "common/base/arr.h"
#include "common/http/http.h"

#define HTTP_PIPE_MAX (1u << 20)   /* bytes of body that wait for a reader */
#define HTTP_CURL_BUF (256u << 10) /* bytes of one read or write of libcurl */

struct bxc_http_client {
	char *user_agent, *ca_file, *cert_file, *key_file;
	int64_t connect_timeout_ns, stall_timeout_ns;
	CURLM *multi; /* the thread's, except for curl_multi_wakeup */
	pthread_t thread;
	pthread_mutex_t lock;		    /* protects queue and is_stopping */
	BXC_ARR(bxc_http_response *) queue; /* those with commands, each once */
	bool is_stopping;
	/* the thread's own */
	BXC_ARR(bxc_http_response *) active;
	BXC_ARR(CURL *) idle; /* handles to use again */
};

enum http_cmd {
	HTTP_CMD_START = 1u << 0,
	HTTP_CMD_RESUME = 1u << 1, /* the reader made room */
	HTTP_CMD_ABORT = 1u << 2,  /* the response is no longer wanted */
	HTTP_CMD_CANCEL = 1u << 3, /* its token was fired */
};

struct bxc_http_response {
	bxc_http_client *client; /* not to be touched once is_finished */
	/* the request; constant after the start */
	char *method, *url, *unix_path, *range;
	char *peer;		    /* for messages: "host:port" or the socket's path */
	struct curl_slist *headers; /* holds credentials: wiped */
	bool is_head, is_get, has_body, insecure_tls, follow, no_proxy;
	uint8_t *body; /* NULL: body_fd */
	int body_fd;
	uint64_t body_off, body_len;
	int64_t deadline_ns;
	bool wants_sent;
	bxc_cancel *cancel;
	uint64_t hook;
	/* the client's thread's own while it runs */
	CURL *easy;
	char errbuf[CURL_ERROR_SIZE];
	uint64_t body_pos;
	bxc_err *own_err; /* why a callback stopped the transfer */
	size_t header_bytes;
	bool has_location;
	unsigned cmds; /* of http_cmd; under the client's lock */

	pthread_mutex_t lock; /* protects the rest */
	pthread_cond_t changed;
	/* the header: written by the thread until is_ready, constant afterwards */
	int status;
	char **header_lines; /* strv "Name: value" */
	char *effective_url;
	bool is_ready;
	/* the pipe */
	uint8_t *pipe;
	size_t pipe_cap, pipe_start, pipe_used;
	bool is_paused;
	uint64_t sent;
	bool is_finished;
	bxc_err *err; /* with is_finished: how it ended */
};

/* client.c: any thread, with the response's lock held and the transfer not finished. */
void bxc_http__command(bxc_http_response *t, enum http_cmd cmd);

/* transfer.c: on the client's thread */
void bxc_http__setup(bxc_http_client *c, bxc_http_response *t, CURL *easy);
bxc_err *bxc_http__error_of(bxc_http_response *t, CURLcode rc); /* owned; NULL for success */
/* The header is whole: callers may look at it. Takes the lock. */
void bxc_http__set_ready(bxc_http_response *t);

/* request.c: on the caller's thread */
BXC_MUST_CHECK int bxc_http__request_init(
	bxc_http_client *c, const bxc_http_request *q, bxc_http_response **ret, bxc_err **err);
void bxc_http__response_destroy(bxc_http_response *t);
BXC_DEFINE_CLEANUP(bxc_http_response, bxc_http__response_destroy);
