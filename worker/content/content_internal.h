/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "common/base/arr.h"
#include "common/httpd/httpd.h"
#include "worker/content/content.h"

struct bxc_content {
	bxc_blob_store *store;
	bxc_http_client *http, *registry_http;
	bxc_httpd *httpd;
	char *url, *unix_path;
	const bxc_secret *token;
	int forms_fd;
	pthread_mutex_t lock; /* protects what a welcome changes; leaf */
	bxc_secret *peer_token;
	BXC_ARR(bxc_reg_host) hosts;
};

int content_forms_open(bxc_content *c, const char *dir, bxc_err **err);
