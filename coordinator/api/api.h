/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP API of the coordinator (common/proto/PROTOCOL.md, "HTTP"). Module prefix: bxc_api.
 * Handlers run on the server's threads and only post to the loop, where requests are answered.
 */
#pragma once

#include "common/httpd/httpd.h"
#include "coordinator/auth/auth.h"
#include "coordinator/build/build.h"

typedef struct bxc_api bxc_api;

typedef struct bxc_api_config {
	bxc_loop *loop;
	bxc_db *db;
	bxc_ev *events;
	bxc_wrk *workers;
	bxc_build *build;
	bxc_blob_store *blobs;
	const bxc_auth *auth;
	const char *unix_path;           /* or NULL */
	const char *host;
	uint16_t port;
	const char *tls_cert_file, *tls_key_file;   /* PEM; both: HTTPS */
	const char *cluster;             /* id of this cluster */
	char *const *channel_addresses;  /* told by /v1/info */
} bxc_api_config;

BXC_MUST_CHECK int bxc_api_start(const bxc_api_config *c, bxc_api **ret, bxc_err **err);
uint16_t bxc_api_port(const bxc_api *a);
/* After the loop's run has ended and before what the API uses goes: runs the loop until every request is answered. */
void bxc_api_stop(bxc_api *a);
