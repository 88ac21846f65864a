/* SPDX-License-Identifier: Apache-2.0 */
/* From a caller's request to a response object that the client's thread can run. */
#include "common/http/http_internal.h"

#include <string.h>
#include <strings.h>

#include "common/base/addr.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"

#define METHOD_MAX 16u
#define URL_MAX	   (64u << 10)

static void curl_urlp(CURLU **u)
{
	if (*u)
		curl_url_cleanup(*u);
}

static void curl_freep(char **p)
{
	curl_free(*p);
}

/* Checks the URL and names its host for messages: the URL itself may hold signatures. */
static int check_url(const bxc_http_request *q, bxc_http_response *t, bxc_err **err)
{
	BXC_CLEANUP(curl_urlp) CURLU *u = curl_url();
	BXC_CLEANUP(curl_freep) char *scheme = NULL;
	BXC_CLEANUP(curl_freep) char *host = NULL;
	BXC_CLEANUP(curl_freep) char *port = NULL;
	bxc_check(u != NULL);
	if (!q->url || strlen(q->url) > URL_MAX)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "a URL is longer than %u bytes", URL_MAX);
	CURLUcode k = curl_url_set(u, CURLUPART_URL, q->url, CURLU_NON_SUPPORT_SCHEME);
	if (k == CURLUE_OK)
		k = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
	if (k == CURLUE_OK)
		k = curl_url_get(u, CURLUPART_HOST, &host, 0);
	if (k != CURLUE_OK)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid URL '%.*s': %s",
			(int)strcspn(q->url, "?#"), q->url, curl_url_strerror(k));
	if (!bxc_str_eq(scheme, "http") && !bxc_str_eq(scheme, "https"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"URL scheme '%.32s' is neither http nor https", scheme);
	t->peer = q->unix_path ? bxc_strdup(q->unix_path)
		  : curl_url_get(u, CURLUPART_PORT, &port, 0) == CURLUE_OK
			  ? bxc_str_fmt("%s:%s", host, port)
			  : bxc_strdup(host);
	BXC_AUTOFREE char *bare = bxc_addr_host(host);
	t->no_proxy = q->unix_path || (bare && bxc_addr_is_loopback(bare));
	return 0;
}

static int add_header(bxc_http_response *t, const char *line, bxc_err **err)
{
	for (const char *c = line; *c; c++)
		if ((unsigned char)*c < 0x20 && *c != '\t')
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"a request header holds a control character");
	struct curl_slist *l = curl_slist_append(t->headers, line);
	bxc_check(l != NULL);
	t->headers = l;
	return 0;
}

static int add_authorization(
	bxc_http_response *t, const char *kind, const char *value, bxc_err **err)
{
	char *line = bxc_str_fmt("Authorization: %s %s", kind, value);
	int r = add_header(t, line, err);
	explicit_bzero(line, strlen(line));
	free(line);
	return r;
}

static int add_headers(bxc_http_response *t, const bxc_http_request *q, bxc_err **err)
{
	size_t bytes = 0;
	int r = 0;
	for (char *const *h = q->headers; r >= 0 && h && *h; h++) {
		bytes += strlen(*h) + 2;
		if (bytes > BXC_LIMIT_HTTP_HEADER)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"the request header is larger than %u bytes",
				BXC_LIMIT_HTTP_HEADER);
		r = add_header(t, *h, err);
	}
	if (r >= 0 && q->bearer)
		r = add_authorization(
			t, "Bearer", (const char *)bxc_secret_bytes(q->bearer).p, err);
	if (r >= 0 && q->basic) {
		bxc_slice s = bxc_secret_bytes(q->basic);
		char *b64 = bxc_base64_encode(s.p, s.n);
		r = add_authorization(t, "Basic", b64, err);
		explicit_bzero(b64, strlen(b64));
		free(b64);
	}
	/* Waiting for "100 Continue" costs a round trip, or a second with servers that do not know
	 * it. */
	if (r >= 0 && t->has_body)
		r = add_header(t, "Expect:", err);
	return r;
}

static int check_method(const char *method, bxc_err **err)
{
	size_t n = method ? strlen(method) : 0;
	if (n == 0 || n > METHOD_MAX || strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != n)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid HTTP method");
	return 0;
}

int bxc_http__request_init(
	bxc_http_client *c, const bxc_http_request *q, bxc_http_response **ret, bxc_err **err)
{
	int r = check_method(q->method, err);
	if (r < 0)
		return r;
	BXC_CLEANUP(bxc_http__response_destroyp) bxc_http_response *t = bxc_calloc(1, sizeof(*t));
	bxc_check(pthread_mutex_init(&t->lock, NULL) == 0);
	bxc_check(pthread_cond_init(&t->changed, NULL) == 0);
	t->client = c;
	t->body_fd = -1;
	r = check_url(q, t, err);
	if (r < 0)
		return r;
	t->method = bxc_strdup(q->method);
	t->url = bxc_strdup(q->url);
	t->unix_path = bxc_strdup(q->unix_path);
	t->is_head = bxc_str_eq(q->method, "HEAD");
	t->is_get = bxc_str_eq(q->method, "GET");
	t->follow = (t->is_head || t->is_get) && !q->no_redirect;
	t->insecure_tls = q->insecure_tls;
	t->deadline_ns = q->deadline_ns;
	t->wants_sent = q->on_sent != NULL;
	if (q->has_body_fd) {
		t->body_fd = q->body_fd;
		t->body_off = q->body_off;
		t->body_len = q->body_len;
		t->has_body = true;
	} else {
		t->body = bxc_memdup(q->body.p, q->body.n);
		t->body_len = q->body.n;
		/* An empty body is said, where one is expected. */
		t->has_body = q->body.n > 0 || bxc_str_eq(q->method, "PUT") ||
			      bxc_str_eq(q->method, "POST") || bxc_str_eq(q->method, "PATCH");
	}
	if (t->body_len > INT64_MAX || t->body_off > INT64_MAX - t->body_len)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the request body is too large");
	if (q->has_range && q->range_last == UINT64_MAX)
		t->range = bxc_str_fmt("%llu-", (unsigned long long)q->range_first);
	else if (q->has_range)
		t->range = bxc_str_fmt("%llu-%llu", (unsigned long long)q->range_first,
			(unsigned long long)q->range_last);
	r = add_headers(t, q, err);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(t);
	return 0;
}

void bxc_http__response_destroy(bxc_http_response *t)
{
	for (struct curl_slist *l = t->headers; l; l = l->next)
		explicit_bzero(l->data, strlen(l->data));
	curl_slist_free_all(t->headers);
	free(t->method);
	free(t->url);
	free(t->unix_path);
	free(t->range);
	free(t->peer);
	free(t->body);
	bxc_cancel_unref(t->cancel);
	bxc_err_free(t->own_err);
	bxc_strv_free(t->header_lines);
	free(t->effective_url);
	free(t->pipe);
	bxc_err_free(t->err);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
