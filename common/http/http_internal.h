/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <curl/curl.h>
#include <pthread.h>

#include "common/base/arr.h"
#include "common/http/http.h"

struct bxc_http_client {
	CURLM *multi;
	pthread_t thread;
	char *user_agent, *ca_file, *cert_file, *key_file;
	int64_t connect_ns, stall_ns;
	BXC_ARR(bxc_http_response *) running;    /* the thread's */
	pthread_mutex_t lock;                    /* protects the rest; leaf */
	BXC_ARR(bxc_http_response *) starting;
	bool stop;
};

struct bxc_http_response {
	_Atomic uint32_t refs;
	bxc_http_client *client;
	CURL *easy;
	struct curl_slist *list;
	char *url;
	bxc_cancel *cancel;
	uint64_t hook;
	int64_t deadline_ns;
	/* request body; the thread's once started */
	int body_fd;
	uint8_t *send;
	uint64_t send_off, send_len, sent;
	char error_text[CURL_ERROR_SIZE];
	pthread_mutex_t lock;        /* protects the rest; leaf */
	pthread_cond_t changed;
	char **headers;              /* "Name: value"; do not change after headers_done */
	size_t header_bytes;
	bxc_buf body;
	size_t taken;
	int status;
	char *effective_url;
	bool headers_done, paused, done, abandoned;
	bxc_err *err;
};
