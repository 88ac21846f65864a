/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <microhttpd.h>
#include <pthread.h>

#include "common/base/arr.h"
#include "common/httpd/httpd.h"

struct bxc_httpd {
	bxc_httpd_config c;
	struct MHD_Daemon *daemon;
	int listen_fd;
	uint16_t port;
	char *unix_path;
	pthread_mutex_t lock;            /* protects reqs and stopping; rank below a request's lock: taken first */
	BXC_ARR(bxc_httpd_req *) reqs;
	bool stopping;
};

typedef struct param {
	char *name, *value;
} param;

struct bxc_httpd_req {
	bxc_httpd *h;
	struct MHD_Connection *conn;
	char *method, *path, *peer;
	bool peer_is_local;
	const bxc_httpd_route *route;
	BXC_ARR(param) params;
	bxc_buf body;
	bool refused;                    /* an answer was chosen before the body was whole */
	bool is_head;
	void *user;
	void (*free_user)(void *);
	pthread_mutex_t lock;            /* protects the rest */
	bool handled;                    /* the handler was called */
	bool in_handler;
	bool suspended;
	struct MHD_Response *response;
	int status;
	bxc_httpd_sse *sse;
};

struct bxc_httpd_sse {
	_Atomic uint32_t refs;           
	struct MHD_Connection *conn;
	pthread_mutex_t lock;            /* protects the rest */
	bxc_buf out;
	bool suspended, ended, gone;
};

/* Does `pattern` match `path`? Fills params (decoded). */
bool httpd_match(const char *pattern, const char *path, bxc_httpd_req *r);
/* 0: no range, or one to be ignored; 1: *first..*last; -1: cannot be satisfied. */
int httpd_parse_range(const char *header, uint64_t size, uint64_t *first, uint64_t *last);
void httpd_sse_abandon(bxc_httpd_sse *s);     /* ends it from the server side */
void httpd_sse_unref(bxc_httpd_sse *s);
void httpd_set_response(bxc_httpd_req *r, int status, struct MHD_Response *resp, char *const *headers);
