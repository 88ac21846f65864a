/* SPDX-License-Identifier: Apache-2.0 */
#include "client/api/api.h"

#include <string.h>

#include "common/base/addr.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"

int bxc_capi_http(const bxc_builder *b, bxc_http_client **ret, bxc_err **err)
{
	return bxc_http_client_new(&(bxc_http_client_config){.ca_file = b->ca_file}, ret, err);
}

int bxc_capi_call(bxc_http_client *http, const bxc_builder *b, const char *method, const char *path, const bxc_json *body, bxc_json **ret,
	bxc_err **err)
{
	bool is_unix = bxc_str_has_prefix(b->endpoint, "unix:");
	BXC_AUTOFREE char *url = bxc_str_fmt("%s%s", is_unix ? "http://coordinator" : b->endpoint, path);
	BXC_AUTOFREE char *text = body ? bxc_json_print(body) : NULL;
	BXC_AUTOFREE char *host = bxc_addr_host(url);
	if (b->token && !is_unix && !bxc_str_has_prefix(url, "https://") && !(host && bxc_addr_is_loopback(host)))
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"builder '%s': its token would travel to %s in the clear: off loopback the endpoint is https://host:port", b->name, b->endpoint);
	char *headers[] = {(char *)(uintptr_t)"Content-Type: application/json", NULL};
	const bxc_http_request q = {
		.method = method,
		.url = url,
		.unix_path = is_unix ? b->endpoint + strlen("unix:") : NULL,
		.headers = headers,
		.bearer = b->token,
		.body = bxc_slice_of(text, text ? strlen(text) : 0),
	};
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	BXC_AUTOBUF bxc_buf out = BXC_BUF_INIT(BXC_LIMIT_JSON);
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_http_start(http, &q, NULL, &resp, &why);
	if (r < 0)
		/* Whatever stood in the way, a certificate too: nothing was said to a coordinator. */
		return bxc_err_set(err, BXC_UNAVAILABLE, "builder '%s': cannot reach the coordinator at %s: %s", b->name, b->endpoint, bxc_err_text(why));
	if (bxc_http_status(resp) >= 300) {
		r = bxc_http_status_error(resp, err, path);
		return bxc_err_wrap(err, r, "builder '%s'", b->name);
	}
	r = bxc_http_read_all(resp, &out, err);
	if (r >= 0)
		r = bxc_json_parse(bxc_buf_slice(&out), ret, err);
	return bxc_err_wrap(err, r, "builder '%s': answer of the coordinator", b->name);
}

int bxc_capi_channel(bxc_http_client *http, const bxc_builder *b, char **ret, bxc_err **err)
{
	if (b->channel) {
		*ret = bxc_strdup(b->channel);
		return 0;
	}
	BXC_AUTOJSON bxc_json *j = NULL;
	int r = bxc_capi_call(http, b, "GET", "/v1/info", NULL, &j, err);
	if (r < 0)
		return r;
	const char *first = bxc_json_string(bxc_json_first(bxc_json_get(j, "channel")));
	if (!first)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "builder '%s': the coordinator names no channel", b->name);
	*ret = bxc_builder_channel_address(b->endpoint, first);
	return 0;
}
