/* SPDX-License-Identifier: Apache-2.0 */
/* One request to a registry: scheme, sign-in, retries. */
#include "common/registry/registry_internal.h"

#include <poll.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/json.h"

#define TRIES         5u
#define RETRY_FIRST   (200 * BXC_NS_PER_MS)
#define RETRY_BUDGET  (30 * BXC_NS_PER_S)
#define TOKEN_MAX     (64u << 10)
#define TOKEN_LIFE_NS (60 * BXC_NS_PER_S)

struct token {
	bxc_secret *bearer;          /* or */
	bxc_secret *basic;
	int64_t until_ns;
};

static void token_free(void *p)
{
	struct token *t = p;
	bxc_secret_free(t->bearer);
	bxc_secret_free(t->basic);
	free(t);
}

bxc_reg *bxc_reg_new(bxc_http_client *http, const bxc_reg_config *c)
{
	bxc_reg *r = bxc_calloc(1, sizeof(*r));
	r->http = http;
	r->credentials = c->credentials;
	r->ud = c->ud;
	r->tokens = bxc_map_new(token_free);
	r->schemes = bxc_map_new(NULL);
	pthread_mutex_init(&r->lock, NULL);
	for (size_t i = 0; i < c->n_hosts; i++) {
		host_config *h = bxc_arr_push(&r->hosts);
		h->domain = bxc_strdup(c->hosts[i].domain);
		h->mirrors = bxc_strv_dup(c->hosts[i].mirrors);
		h->plain_http = c->hosts[i].plain_http;
		h->insecure = c->hosts[i].insecure;
	}
	return r;
}

void bxc_reg_free(bxc_reg *r)
{
	if (!r)
		return;
	BXC_ARR_FOREACH (h, &r->hosts) {
		free(h->domain);
		bxc_strv_free(h->mirrors);
	}
	bxc_arr_done(&r->hosts);
	bxc_map_free(r->tokens);
	bxc_map_free(r->schemes);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* ---- where ---- */

static bool is_loopback(const char *host)
{
	return bxc_str_has_prefix(host, "127.") || bxc_str_has_prefix(host, "localhost") || bxc_str_has_prefix(host, "[::1]");
}

static const host_config *config_of(const bxc_reg *r, const char *domain)
{
	BXC_ARR_FOREACH (h, &r->hosts)
		if (bxc_str_eq(h->domain, domain))
			return h;
	return NULL;
}

static void add(endpoints *ret, const char *host, const host_config *c, bool is_mirror)
{
	endpoint *e = bxc_arr_push(ret);
	bool http = bxc_str_has_prefix(host, "http://"), https = bxc_str_has_prefix(host, "https://");
	host += http ? 7 : https ? 8 : 0;
	e->host = bxc_strdup(host);
	size_t n = strlen(e->host);
	if (n && e->host[n - 1] == '/')
		e->host[n - 1] = '\0';
	e->is_mirror = is_mirror;
	e->insecure = c && c->insecure;
	e->try_http = http || (!https && (is_loopback(host) || (c && !is_mirror && (c->plain_http || c->insecure))));
	e->try_https = https || (!http && !(c && !is_mirror && c->plain_http && !c->insecure));
}

void endpoints_of(bxc_reg *r, const char *domain, bool with_mirrors, endpoints *ret)
{
	const host_config *c = config_of(r, domain);
	for (char **m = c && with_mirrors ? c->mirrors : NULL; m && *m; m++) {
		/* A mirror on loopback speaks plain HTTP unless it says otherwise; so may one marked insecure itself. */
		const host_config *mc = config_of(r, *m);
		add(ret, *m, mc, true);
		if (mc && (mc->plain_http || mc->insecure))
			ret->v[ret->n - 1].try_http = true;
	}
	add(ret, bxc_str_eq(domain, "docker.io") ? "registry-1.docker.io" : domain, c, false);
}

void endpoints_done(endpoints *e)
{
	BXC_ARR_FOREACH (p, e)
		free(p->host);
	bxc_arr_done(e);
}

/* ---- signing in ---- */

static bxc_secret *copy_secret(const bxc_secret *s)
{
	if (!s)
		return NULL;
	bxc_slice b = bxc_secret_bytes(s);
	return bxc_secret_new(b.p, b.n);
}

static char *token_key(const endpoint *at, const bxc_ref *ref, const char *scope)
{
	return bxc_str_fmt("%s %s %s", at->host, ref->path, scope);
}

static void known_token(bxc_reg *r, const char *key, bxc_secret **bearer, bxc_secret **basic)
{
	pthread_mutex_lock(&r->lock);
	struct token *t = bxc_map_get(r->tokens, key);
	if (t && t->until_ns > bxc_clock_mono_ns()) {
		*bearer = copy_secret(t->bearer);
		*basic = copy_secret(t->basic);
	}
	pthread_mutex_unlock(&r->lock);
}

static void keep_token(bxc_reg *r, const char *key, const bxc_secret *bearer, const bxc_secret *basic, int64_t life_ns)
{
	struct token *t = bxc_calloc(1, sizeof(*t));
	t->bearer = copy_secret(bearer);
	t->basic = copy_secret(basic);
	t->until_ns = bxc_clock_mono_ns() + life_ns;
	pthread_mutex_lock(&r->lock);
	bxc_map_set(r->tokens, key, t);
	pthread_mutex_unlock(&r->lock);
}

static void add_query(bxc_buf *url, const char *key, const char *value)
{
	bxc_buf_addf(url, "%c%s=", strchr(bxc_buf_text(url), '?') ? '&' : '?', key);
	for (const char *c = value; *c; c++) {
		if (strchr("-._~/:,", *c) || (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z'))
			bxc_buf_addc(url, *c);
		else
			bxc_buf_addf(url, "%%%02X", (unsigned)(unsigned char)*c);
	}
}

/* A token from the realm, with a password when there is one. */
static int fetch_token(bxc_reg *r, const endpoint *at, const challenge *c, const char *scope, const bxc_secret *basic, bxc_cancel *cancel,
	bxc_secret **ret, int64_t *ret_life_ns, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf url = BXC_BUF_INIT(16u << 10);
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(TOKEN_MAX);
	BXC_AUTOJSON bxc_json *j = NULL;
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	bxc_buf_adds(&url, c->realm);
	if (c->service)
		add_query(&url, "service", c->service);
	add_query(&url, "scope", scope);
	const bxc_http_request q = {.method = "GET", .url = bxc_buf_text(&url), .basic = basic, .insecure_tls = at->insecure};
	int k = bxc_http_start(r->http, &q, cancel, &resp, err);
	if (k >= 0 && bxc_http_status(resp) != 200)
		k = bxc_http_status_error(resp, err, "token server");
	if (k >= 0)
		k = bxc_http_read_all(resp, &body, err);
	if (k >= 0)
		k = bxc_json_parse(bxc_buf_slice(&body), &j, err);
	if (k < 0)
		return bxc_err_wrap(err, k, "token of '%s'", at->host);
	const char *token = bxc_json_get_str(j, "token", NULL);
	if (!token)
		token = bxc_json_get_str(j, "access_token", NULL);
	if (!token)
		return bxc_err_set(err, BXC_UNAUTHENTICATED, "token of '%s': the answer holds none", at->host);
	*ret = bxc_secret_new(token, strlen(token));
	int64_t life = bxc_json_get_i64(j, "expires_in", 0) * BXC_NS_PER_S;
	*ret_life_ns = life > 2 * TOKEN_LIFE_NS ? life - TOKEN_LIFE_NS : TOKEN_LIFE_NS / 2;
	explicit_bzero(body.data, body.len);
	return 0;
}

static int sign_in(bxc_reg *r, const bxc_ref *ref, const endpoint *at, const char *value, const char *scope, bxc_cancel *cancel,
	const char *key, bxc_secret **bearer, bxc_secret **basic, bxc_err **err)
{
	challenge c = {0};
	BXC_AUTOFREE char *full = bxc_str_fmt("repository:%s:%s", ref->path, scope);
	bxc_secret *token = NULL, *password = NULL;
	int64_t life = TOKEN_LIFE_NS;
	int k = 0;
	if (!challenge_parse(value ? value : "", &c)) {
		challenge_done(&c);
		return bxc_err_set(err, BXC_UNAUTHENTICATED, "registry '%s' asks for an unknown kind of sign-in", at->host);
	}
	/* Credentials are those of the registry's name; a mirror has its own. */
	const char *who = at->is_mirror ? at->host : ref->domain;
	if (r->credentials)
		k = r->credentials(who, full, c.realm, c.service, &token, &password, r->ud, err);
	if (k >= 0 && c.bearer && !token)
		k = fetch_token(r, at, &c, full, password, cancel, &token, &life, err);
	else if (k >= 0 && c.basic && !password)
		k = bxc_err_set(err, BXC_UNAUTHENTICATED, "registry '%s' wants a user and a password: sign in with docker login", who);
	if (k >= 0) {
		if (c.bearer) {
			bxc_secret_free(password);
			password = NULL;
		}
		keep_token(r, key, token, password, life);
		*bearer = BXC_TAKE(token);
		*basic = BXC_TAKE(password);
	}
	bxc_secret_free(token);
	bxc_secret_free(password);
	challenge_done(&c);
	return k;
}

/* ---- the exchange ---- */

static int try_once(bxc_reg *r, const endpoint *at, const char *scheme, const exchange *x, const bxc_secret *bearer, const bxc_secret *basic,
	bxc_cancel *cancel, bxc_http_response **ret, bxc_err **err)
{
	BXC_AUTOSTRV char **headers = NULL;
	BXC_AUTOFREE char *url = strstr(x->path, "://") ? bxc_strdup(x->path) : bxc_str_fmt("%s://%s%s", scheme, at->host, x->path);
	if (x->accept)
		bxc_strv_pushf(&headers, "Accept: %s", x->accept);
	if (x->content_type)
		bxc_strv_pushf(&headers, "Content-Type: %s", x->content_type);
	const bxc_http_request q = {
		.method = x->method,
		.url = url,
		.headers = headers,
		.bearer = bearer,
		.basic = basic,
		.body = x->body,
		.body_fd = x->fd,
		.body_len = x->fd_len,
		.has_body_fd = x->fd >= 0,
		.has_range = x->range_first > 0,
		.range_first = x->range_first,
		.range_last = UINT64_MAX,
		.insecure_tls = at->insecure,
		.no_redirect = x->no_redirect,
	};
	return bxc_http_start(r->http, &q, cancel, ret, err);
}

/* The scheme that works is remembered. */
static int with_scheme(bxc_reg *r, const endpoint *at, const exchange *x, const bxc_secret *bearer, const bxc_secret *basic, bxc_cancel *cancel,
	bxc_http_response **ret, bxc_err **err)
{
	static char http[] = "http", https[] = "https";
	pthread_mutex_lock(&r->lock);
	const char *known = bxc_map_get(r->schemes, at->host);
	pthread_mutex_unlock(&r->lock);
	if (known)
		return try_once(r, at, known, x, bearer, basic, cancel, ret, err);
	BXC_AUTOERR bxc_err *first = NULL;
	char *order[] = {at->try_http ? http : https, at->try_http && at->try_https ? https : NULL};
	int k = -BXC_UNAVAILABLE;
	for (size_t i = 0; i < 2 && order[i]; i++) {
		bxc_err *e = NULL;
		k = try_once(r, at, order[i], x, bearer, basic, cancel, ret, &e);
		if (k >= 0) {
			/* "Client sent an HTTP request to an HTTPS server" comes as a 400. */
			if (order[i] == http && at->try_https && bxc_http_status(*ret) == 400 && !known) {
				bxc_http_response_free(*ret);
				*ret = NULL;
				k = -BXC_UNAVAILABLE;
				continue;
			}
			pthread_mutex_lock(&r->lock);
			bxc_map_set(r->schemes, at->host, order[i]);
			pthread_mutex_unlock(&r->lock);
			return 0;
		}
		if (first)
			bxc_err_free(e);
		else
			first = e;
		if (k == -BXC_CANCELED)
			break;
	}
	return bxc_err_wrap_take(err, BXC_TAKE(first), k, "registry '%s' cannot be reached", at->host);
}

/* Sleeps, unless cancelled. */
static int pause_for(int64_t ns, bxc_cancel *cancel, bxc_err **err)
{
	struct pollfd p = {.fd = bxc_cancel_fd(cancel), .events = POLLIN};
	bxc_ignore(poll(&p, p.fd >= 0 ? 1 : 0, (int)(ns / BXC_NS_PER_MS)));
	return bxc_cancel_check(cancel, err);
}

static int64_t retry_after(const bxc_http_response *resp, int64_t fallback)
{
	uint64_t s;
	const char *h = bxc_http_header(resp, "Retry-After");
	return h && bxc_str_to_u64(h, 0, 3600, &s, NULL) >= 0 ? (int64_t)s * BXC_NS_PER_S : fallback;
}

int exchange_run(bxc_reg *r, const bxc_ref *ref, const endpoint *at, const exchange *x, bxc_cancel *cancel, bxc_http_response **ret, bxc_err **err)
{
	BXC_AUTOFREE char *key = token_key(at, ref, x->scope);
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *bearer = NULL;
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *basic = NULL;
	bool signed_in = false;
	int64_t wait = RETRY_FIRST, spent = 0;
	known_token(r, key, &bearer, &basic);
	for (unsigned try = 1;; try++) {
		BXC_AUTOERR bxc_err *e = NULL;
		bxc_http_response *resp = NULL;
		int k = with_scheme(r, at, x, bearer, basic, cancel, &resp, &e);
		int status = k >= 0 ? bxc_http_status(resp) : 0;
		if (status == 401 && !signed_in) {
			BXC_AUTOFREE char *value = bxc_strdup(bxc_http_header(resp, "WWW-Authenticate"));
			bxc_http_response_free(resp);
			signed_in = true;
			bxc_secret_free(bearer);
			bxc_secret_free(basic);
			bearer = basic = NULL;
			k = sign_in(r, ref, at, value, x->scope, cancel, key, &bearer, &basic, err);
			if (k < 0)
				return k;
			continue;
		}
		bool again = status == 429 || status == 500 || status == 502 || status == 503 || status == 504 || k == -BXC_UNAVAILABLE;
		/* A refused connection is an answer: waiting would only hide it. */
		bool refused = k == -BXC_UNAVAILABLE && (strstr(bxc_err_text(e), "Connection refused") || strstr(bxc_err_text(e), "onnect to"));
		if (k >= 0)
			wait = retry_after(resp, wait);
		if (!again || refused || try >= TRIES || spent + wait > RETRY_BUDGET) {
			if (k < 0)
				return bxc_err_move(err, BXC_TAKE(e));
			*ret = resp;
			return 0;
		}
		bxc_http_response_free(resp);
		k = pause_for(wait, cancel, err);
		if (k < 0)
			return k;
		spent += wait;
		wait *= 2;
	}
}
