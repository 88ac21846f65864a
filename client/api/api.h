/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of the coordinator's HTTP API. Module prefix: bxc_capi. Blocking. */
#pragma once

#include "client/builder/builder.h"
#include "common/codec/json.h"
#include "common/http/http.h"

/*
 * One exchange with the builder's coordinator; `body` may be NULL. *ret is the answer's document.
 * UNAVAILABLE: `builder 'X': cannot reach the coordinator at ...`; UNAUTHENTICATED, PERMISSION_DENIED: the token.
 */
BXC_MUST_CHECK int bxc_capi_call(bxc_http_client *http, const bxc_builder *b, const char *method, const char *path, const bxc_json *body,
	bxc_json **ret, bxc_err **err);
/* The channel's address: the builder's own, or asked of the API. Owned. */
BXC_MUST_CHECK int bxc_capi_channel(bxc_http_client *http, const bxc_builder *b, char **ret, bxc_err **err);
/* A client with the builder's CA. */
BXC_MUST_CHECK int bxc_capi_http(const bxc_builder *b, bxc_http_client **ret, bxc_err **err);
