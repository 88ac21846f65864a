/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/content/content_internal.h"

#include <unistd.h>

#include "common/base/addr.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define CHUNK (256u << 10)

int bxc_content_open(const bxc_content_config *cfg, bxc_content **ret, bxc_err **err)
{
	bxc_content *c = bxc_calloc(1, sizeof(*c));
	c->http = cfg->http;
	c->registry_http = cfg->registry_http;
	c->url = bxc_strdup(cfg->coordinator_url ? cfg->coordinator_url : "http://coordinator");
	c->unix_path = bxc_strdup(cfg->coordinator_unix);
	c->token = cfg->coordinator_token;
	c->forms_fd = -1;
	pthread_mutex_init(&c->lock, NULL);
	int r = bxc_blob_local_open(cfg->dir, &c->store, err);
	if (r >= 0)
		r = content_forms_open(c, cfg->dir, err);
	if (r < 0) {
		bxc_content_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

static void clear_hosts(bxc_content *c)
{
	BXC_ARR_FOREACH (h, &c->hosts) {
		free((void *)(uintptr_t)h->domain);
		bxc_strv_free((char **)(uintptr_t)h->mirrors);
	}
	bxc_arr_done(&c->hosts);
}

void bxc_content_close(bxc_content *c)
{
	if (!c)
		return;
	if (c->httpd)
		bxc_httpd_stop(c->httpd);
	bxc_blob_store_free(c->store);
	if (c->forms_fd >= 0)
		close(c->forms_fd);
	bxc_secret_free(c->peer_token);
	clear_hosts(c);
	pthread_mutex_destroy(&c->lock);
	free(c->url);
	free(c->unix_path);
	free(c);
}

bxc_blob_store *bxc_content_store(bxc_content *c)
{
	return c->store;
}

bxc_http_client *bxc_content_world_http(bxc_content *c)
{
	return c->registry_http;
}

void bxc_content_set_peer_token(bxc_content *c, const char *token)
{
	pthread_mutex_lock(&c->lock);
	bxc_secret_free(c->peer_token);
	c->peer_token = token ? bxc_secret_new(token, strlen(token)) : NULL;
	pthread_mutex_unlock(&c->lock);
}

void bxc_content_set_registries(bxc_content *c, const bxc_json *registries)
{
	pthread_mutex_lock(&c->lock);
	clear_hosts(c);
	BXC_JSON_FOREACH (r, registries) {
		char **mirrors = NULL;
		if (!bxc_json_get_str(r, "domain", NULL) || bxc_json_get_strv(r, "mirrors", &mirrors, NULL) < 0)
			continue;
		bxc_reg_host *h = bxc_arr_push(&c->hosts);
		h->domain = bxc_strdup(bxc_json_get_str(r, "domain", ""));
		h->mirrors = mirrors;
		h->plain_http = bxc_json_get_bool(r, "plain_http", false);
		h->insecure = bxc_json_get_bool(r, "insecure", false);
	}
	pthread_mutex_unlock(&c->lock);
}

bxc_reg *bxc_content_registry(bxc_content *c,
	int (*credentials)(const char *domain, const char *scope, const char *realm, const char *service,
		bxc_secret **ret_token, bxc_secret **ret_basic, void *ud, bxc_err **err), void *ud)
{
	pthread_mutex_lock(&c->lock);
	const bxc_reg_config rc = {.hosts = c->hosts.v, .n_hosts = c->hosts.n, .credentials = credentials, .ud = ud};
	bxc_reg *r = bxc_reg_new(c->registry_http, &rc);
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* ---- serving ---- */

static int authorize(bxc_httpd_req *req, void *ud, bxc_err **err)
{
	bxc_content *c = ud;
	const char *token = bxc_httpd_req_bearer(req);
	bool ok = false;
	if (token) {
		pthread_mutex_lock(&c->lock);
		ok = c->peer_token && bxc_secret_eq(c->peer_token, token, strlen(token));
		pthread_mutex_unlock(&c->lock);
	}
	return ok ? 0 : bxc_err_set(err, BXC_UNAUTHENTICATED, "the token of the cluster is needed");
}

static void get_blob(bxc_httpd_req *req, void *ud)
{
	bxc_content *c = ud;
	bxc_httpd_reply_blob(req, c->store);
}

static const bxc_httpd_route routes[] = {
	{"GET", "/v1/blobs/{digest}", get_blob, 0, 0},
};

int bxc_content_serve(bxc_content *c, const char *host, uint16_t port, const char *cert_file, const char *key_file, bxc_err **err)
{
	const bxc_httpd_config hc = {
		.host = host,
		.port = port,
		.tls_cert_file = cert_file,
		.tls_key_file = key_file,
		.routes = routes,
		.n_routes = BXC_ARRAY_SIZE(routes),
		.authorize = authorize,
		.ud = c,
	};
	if (!cert_file && !bxc_addr_is_loopback(host))
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"'%s' is not a loopback address: give --tls-cert and --tls-key, or --peer-listen none", host);
	int r = bxc_httpd_start(&hc, &c->httpd, err);
	return bxc_err_wrap(err, r, "serve blobs to peers");
}

uint16_t bxc_content_port(const bxc_content *c)
{
	return c->httpd ? bxc_httpd_port(c->httpd) : 0;
}

/* ---- fetching ---- */

static int stream(bxc_content *c, const bxc_http_request *q, bxc_cancel *cancel, bxc_sink_fn sink, void *ud, bxc_err **err)
{
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	int r = bxc_http_start(c->http, q, cancel, &resp, err);
	if (r < 0)
		return r;
	if (bxc_http_status(resp) != 200)
		return bxc_http_status_error(resp, err, q->url);
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	for (;;) {
		ssize_t n = bxc_http_read(resp, chunk, CHUNK, err);
		if (n <= 0)
			return (int)n;
		r = sink(chunk, (size_t)n, ud, err);
		if (r < 0)
			return r;
	}
}

static int to_writer(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_blob_append(ud, p, n, err);
}

int bxc_content_from_coordinator(bxc_content *c, const bxc_digest *d, bxc_cancel *cancel, bxc_err **err)
{
	char digest[BXC_DIGEST_STR_MAX];
	if (bxc_blob_has(c->store, d))
		return 0;
	BXC_AUTOFREE char *url = bxc_str_fmt("%s/v1/blobs/%s", c->url, bxc_digest_str(d, digest));
	const bxc_http_request q = {.method = "GET", .url = url, .unix_path = c->unix_path, .bearer = c->token};
	BXC_CLEANUP(bxc_blob_abortp) bxc_blob_writer *w = NULL;
	int r = bxc_blob_begin(c->store, &w, err);
	if (r >= 0)
		r = stream(c, &q, cancel, to_writer, w, err);
	if (r >= 0) {
		bxc_blob_info info;
		r = bxc_blob_commit(BXC_TAKE(w), d, &info, err);
	}
	return r < 0 ? bxc_err_wrap(err, r, "blob %s of the coordinator", digest) : 0;
}

int bxc_content_from_peer(bxc_content *c, const char *peer_url, const bxc_digest *d, bxc_cancel *cancel, bxc_sink_fn sink,
	void *ud, bxc_err **err)
{
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *url = bxc_str_fmt("%s/v1/blobs/%s", peer_url, bxc_digest_str(d, digest));
	BXC_AUTOFREE char *host = bxc_addr_host(peer_url);
	if (!host || (!bxc_str_has_prefix(peer_url, "https://") && !bxc_addr_is_loopback(host)))
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "layer from '%s': the token would travel without TLS", peer_url);
	pthread_mutex_lock(&c->lock);
	bxc_slice t = c->peer_token ? bxc_secret_bytes(c->peer_token) : bxc_slice_of("", 0);
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *token = bxc_secret_new(t.p, t.n);
	pthread_mutex_unlock(&c->lock);
	/* The token is for this peer: it has no business to send us elsewhere. */
	const bxc_http_request q = {.method = "GET", .url = url, .bearer = token, .no_redirect = true};
	int r = stream(c, &q, cancel, sink, ud, err);
	return r < 0 ? bxc_err_wrap(err, r, "layer from '%s'", peer_url) : 0;
}
