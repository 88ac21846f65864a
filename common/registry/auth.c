/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signing in (distribution spec, token authentication): nothing is sent before a 401 asks for it;
 * then the caller's credentials, or an anonymous token. Grants are kept by place and scope.
 */
#include "common/registry/registry_internal.h"

#include <string.h>

#include "common/base/addr.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/json.h"

#define TOKEN_ANSWER_MAX (256u << 10)
#define URL_MAX		 (16u << 10)
#define LIFE_DEFAULT_S	 60 /* of the token specification */
#define LIFE_MAX_S	 (24 * 3600)
#define LIFE_GIVEN_NS                                                                              \
	(60 * BXC_NS_PER_S) /* of tokens that the caller gave: their life is not known */
#define LIFE_BASIC_NS (3600 * BXC_NS_PER_S)

struct grant {
	reg_auth auth;
	int64_t until_ns;
};

void bxc_reg__grant_free(void *p)
{
	struct grant *g = p;
	if (!g)
		return;
	bxc_reg__auth_done(&g->auth);
	free(g);
}

void bxc_reg__auth_done(reg_auth *a)
{
	bxc_secret_free(a->bearer);
	bxc_secret_free(a->basic);
	*a = (reg_auth){0};
}

static bxc_secret *copy(const bxc_secret *s)
{
	if (!s)
		return NULL;
	bxc_slice b = bxc_secret_bytes(s);
	return bxc_secret_new(b.p, b.n);
}

static char *grant_key(const reg_endpoint *at, const char *scope)
{
	return bxc_str_fmt("%s %s", at->name, scope);
}

void bxc_reg__auth_known(bxc_reg *r, const reg_endpoint *at, const char *scope, reg_auth *ret)
{
	BXC_AUTOFREE char *key = grant_key(at, scope);
	*ret = (reg_auth){0};
	pthread_mutex_lock(&r->lock);
	const struct grant *g = bxc_map_get(r->grants, key);
	if (g && bxc_clock_mono_ns() < g->until_ns)
		*ret = (reg_auth){copy(g->auth.bearer), copy(g->auth.basic)};
	pthread_mutex_unlock(&r->lock);
}

static void keep(
	bxc_reg *r, const reg_endpoint *at, const char *scope, const reg_auth *a, int64_t life_ns)
{
	BXC_AUTOFREE char *key = grant_key(at, scope);
	struct grant *g = bxc_calloc(1, sizeof(*g));
	g->auth = (reg_auth){copy(a->bearer), copy(a->basic)};
	g->until_ns = bxc_clock_mono_ns() + life_ns;
	pthread_mutex_lock(&r->lock);
	bxc_map_set(r->grants, key, g);
	pthread_mutex_unlock(&r->lock);
}

static int add_query(bxc_buf *url, const char *name, const char *value, size_t n, bxc_err **err)
{
	int r = bxc_buf_appendf(
		url, err, "%s%s=", strchr(bxc_buf_text(url), '?') ? "&" : "?", name);
	for (size_t i = 0; r >= 0 && i < n; i++) {
		unsigned char c = (unsigned char)value[i];
		bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
			     (c >= 'A' && c <= 'Z') || strchr("-._~:/,", c);
		r = bxc_buf_appendf(url, err, plain ? "%c" : "%%%02X", c);
	}
	return r;
}

static int token_url(const reg_challenge *c, const char *scope, bxc_buf *url, bxc_err **err)
{
	int r = bxc_buf_append(url, c->realm, strlen(c->realm), err);
	if (r >= 0 && c->service)
		r = add_query(url, "service", c->service, strlen(c->service), err);
	while (r >= 0 && *scope) {
		size_t n = strcspn(scope, " ");
		r = add_query(url, "scope", scope, n, err);
		scope += n + strspn(scope + n, " ");
	}
	return r;
}

/* Over plain HTTP a password goes no further than this machine, unless somebody has said that the
 * registry itself is to be spoken to so. That one on this machine is tried so says nothing. */
static int check_realm(
	const reg_endpoint *at, const reg_challenge *c, bool has_password, bxc_err **err)
{
	bool is_http = bxc_str_has_prefix(c->realm, "http://");
	if (!is_http && !bxc_str_has_prefix(c->realm, "https://"))
		return bxc_err_set(err, BXC_UNAUTHENTICATED,
			"registry '%s' names a token server that is no http or https URL",
			at->name);
	BXC_AUTOFREE char *host = bxc_addr_host(c->realm);
	if (!host)
		return bxc_err_set(err, BXC_UNAUTHENTICATED,
			"registry '%s' names a token server without a plain host name", at->name);
	bool is_plain = at->n_schemes == 1 && bxc_str_eq(at->schemes[0], "http");
	if (is_http && has_password && !is_plain && !at->insecure && !bxc_addr_is_loopback(host))
		return bxc_err_set(err, BXC_PERMISSION_DENIED,
			"registry '%s' wants the password sent to a token server without TLS",
			at->name);
	return 0;
}

static int fetch_token(bxc_reg *r, const reg_endpoint *at, const reg_challenge *c,
	const char *scope, const bxc_secret *basic, bxc_cancel *cancel, bxc_secret **ret,
	int64_t *ret_life_ns, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf url = BXC_BUF_INIT(URL_MAX);
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(TOKEN_ANSWER_MAX);
	BXC_AUTOJSON bxc_json *j = NULL;
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	int k = check_realm(at, c, basic != NULL, err);
	if (k >= 0)
		k = token_url(c, scope, &url, err);
	if (k < 0)
		return k;
	const bxc_http_request q = {.method = "GET",
		.url = bxc_buf_text(&url),
		.basic = basic,
		.insecure_tls = at->insecure};
	k = bxc_http_start(r->http, &q, cancel, &resp, err);
	if (k >= 0 && bxc_http_status(resp) != 200)
		k = bxc_reg__answer_error(resp, "token server", err);
	if (k >= 0)
		k = bxc_http_read_all(resp, &body, err);
	if (k < 0)
		return bxc_err_wrap(err, k, "sign in to registry '%s'", at->name);
	k = bxc_json_parse(bxc_buf_slice(&body), &j, NULL);
	const char *token = bxc_json_get_str(j, "token", NULL);
	if (bxc_str_empty(token))
		token = bxc_json_get_str(j, "access_token", NULL);
	bool has_token = k >= 0 && !bxc_str_empty(token);
	if (has_token) {
		int64_t life_s = bxc_json_get_i64(j, "expires_in", LIFE_DEFAULT_S);
		life_s = life_s <= 0 ? LIFE_DEFAULT_S : BXC_MIN(life_s, (int64_t)LIFE_MAX_S);
		/* A tenth early: it has to live as long as the request that carries it. */
		*ret_life_ns = life_s * BXC_NS_PER_S / 10 * 9;
		*ret = bxc_secret_new(token, strlen(token));
	}
	if (body.len)
		explicit_bzero(body.data, body.len);
	return has_token ? 0
			 : bxc_err_set(err, BXC_UNAUTHENTICATED,
				   "sign in to registry '%s': the token server sent no token",
				   at->name);
}

static int answer(bxc_reg *r, const reg_endpoint *at, const char *scope, const reg_challenge *c,
	bxc_cancel *cancel, reg_auth *a, int64_t *life_ns, bxc_err **err)
{
	if (c->kind == REG_AUTH_NONE)
		return bxc_err_set(err, BXC_UNAUTHENTICATED,
			"registry '%s' asks for an unknown kind of sign-in", at->name);
	int k = 0;
	if (r->credentials)
		k = r->credentials(at->domain, scope, c->kind == REG_AUTH_BEARER ? c->realm : NULL,
			c->kind == REG_AUTH_BEARER ? c->service : NULL, &a->bearer, &a->basic,
			r->ud, err);
	if (k < 0)
		return bxc_err_wrap(err, k, "credentials for registry '%s'", at->domain);
	if (a->bearer) {
		bxc_secret_free(BXC_TAKE(a->basic));
		*life_ns = LIFE_GIVEN_NS;
		return 0;
	}
	if (c->kind == REG_AUTH_BEARER) {
		k = fetch_token(r, at, c, scope, a->basic, cancel, &a->bearer, life_ns, err);
		bxc_secret_free(BXC_TAKE(a->basic));
		return k;
	}
	*life_ns = LIFE_BASIC_NS;
	return a->basic ? 0
			: bxc_err_set(err, BXC_UNAUTHENTICATED,
				  "registry '%s' needs a user and a password", at->name);
}

int bxc_reg__sign_in(bxc_reg *r, const reg_endpoint *at, const char *scope,
	const bxc_http_response *denied, bxc_cancel *cancel, reg_auth *ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_reg__challenge_done) reg_challenge c = {0};
	BXC_CLEANUP(bxc_reg__auth_done) reg_auth a = {0};
	int64_t life_ns = 0;
	const char *value;
	for (size_t i = 0; (value = bxc_http_header_at(denied, "WWW-Authenticate", i)); i++)
		bxc_reg__challenge_add(&c, value);
	int k = answer(r, at, scope, &c, cancel, &a, &life_ns, err);
	if (k < 0)
		return k;
	keep(r, at, scope, &a, life_ns);
	*ret = a;
	a = (reg_auth){0};
	return 0;
}
