/* SPDX-License-Identifier: Apache-2.0 */
/* One request to one place: scheme, sign-in, patience. */
#include "common/registry/registry_internal.h"

#include <poll.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"

#define TRIES_MAX	 5u
#define BACKOFF_FIRST_NS (200 * BXC_NS_PER_MS)
#define WAIT_MAX_NS	 (30 * BXC_NS_PER_S) /* in all tries together */

/* ---- URLs ---- */

/* "scheme://host[:port]" of an absolute URL: its length, 0 when it is none. */
static size_t origin_len(const char *url)
{
	const char *sep = strstr(url, "://");
	if (!sep ||
		strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.") !=
			(size_t)(sep - url) ||
		sep == url)
		return 0;
	return (size_t)(sep - url) + 3 + strcspn(sep + 3, "/?#");
}

char *bxc_reg__resolve_location(const char *base_url, const char *location)
{
	size_t origin = origin_len(base_url), n = strcspn(base_url, "?#");
	if (origin_len(location))
		return bxc_strdup(location);
	if (location[0] == '/' && location[1] == '/')
		return bxc_str_fmt("%.*s%s", (int)(strcspn(base_url, ":") + 1), base_url, location);
	if (location[0] == '/')
		return bxc_str_fmt("%.*s%s", (int)origin, base_url, location);
	while (n > origin && base_url[n - 1] != '/')
		n--;
	return bxc_str_fmt("%.*s%s%s", (int)n, base_url, n == origin ? "/" : "", location);
}

/* Length of "host[:port]" without the port that its scheme implies. */
static size_t bare_len(const char *host, size_t n, const char *port)
{
	size_t k = strlen(port);
	return n > k && memcmp(host + n - k, port, k) == 0 ? n - k : n;
}

const char *bxc_reg__own_path(const reg_endpoint *at, const char *url)
{
	size_t n = origin_len(url);
	if (!n)
		return NULL;
	const char *host = strstr(url, "://") + 3;
	const char *port = strncasecmp(url, "https:", 6) == 0 ? ":443" : ":80";
	size_t host_n = bare_len(host, n - (size_t)(host - url), port);
	size_t own_n = bare_len(at->name, strlen(at->name), port);
	return own_n == host_n && strncasecmp(at->name, host, host_n) == 0 ? url + n : NULL;
}

/* ---- one try ---- */

static int send_once(bxc_reg *r, const reg_endpoint *at, const char *scheme, const reg_call *call,
	const reg_auth *auth, bxc_cancel *cancel, bxc_http_response **ret, bxc_err **err)
{
	/* Registries behind a proxy may name themselves with the wrong scheme: the one that works
	 * is kept. */
	const char *own = call->path[0] == '/' ? call->path : bxc_reg__own_path(at, call->path);
	BXC_AUTOFREE char *url =
		own ? bxc_str_fmt("%s://%s%s", scheme, at->name, own) : bxc_strdup(call->path);
	const bxc_http_request q = {
		.method = call->method,
		.url = url,
		.headers = call->headers,
		/* Nothing secret for another host. */
		.bearer = own ? auth->bearer : NULL,
		.basic = own ? auth->basic : NULL,
		.body = call->body,
		.body_fd = call->fd,
		.body_len = call->fd_len,
		.has_body_fd = call->has_fd,
		.range_first = call->range_first,
		.range_last = UINT64_MAX,
		.has_range = call->range_first > 0,
		.insecure_tls = at->insecure,
		.on_sent = call->on_sent,
		.on_sent_ud = call->on_sent_ud,
	};
	BXC_AUTOERR bxc_err *e = NULL;
	int k = bxc_http_start(r->http, &q, cancel, ret, &e);
	if (k >= 0)
		return 0;
	const char *reason = bxc_err_get_detail(e, "reason"),
		   *phase = bxc_err_get_detail(e, "phase");
	if (!reason || !phase)
		return bxc_err_move(err, BXC_TAKE(e));
	bxc_err *told = NULL;
	if (k == -BXC_PERMISSION_DENIED)
		bxc_err_set(&told, BXC_PERMISSION_DENIED, "registry '%s' is not trusted: %s",
			at->name, reason);
	else if (bxc_str_eq(phase, "transfer"))
		bxc_err_set(
			&told, bxc_err_code(e), "registry '%s' broke off: %s", at->name, reason);
	else
		bxc_err_set(&told, bxc_err_code(e), "registry '%s' cannot be reached: %s", at->name,
			reason);
	bxc_err_detail(told, "phase", "%s", phase);
	return bxc_err_move(err, told);
}

static const char *known_scheme(bxc_reg *r, const reg_endpoint *at)
{
	if (at->n_schemes == 1)
		return at->schemes[0];
	pthread_mutex_lock(&r->lock);
	const char *s = bxc_map_get(r->schemes, at->name);
	pthread_mutex_unlock(&r->lock);
	return s;
}

static void learn_scheme(bxc_reg *r, const reg_endpoint *at, const char *scheme)
{
	pthread_mutex_lock(&r->lock);
	bxc_map_set(r->schemes, at->name, (void *)(uintptr_t)scheme);
	pthread_mutex_unlock(&r->lock);
}

/*
 * Two schemes are possible and none has been answered yet. TLS servers answer plain HTTP with an
 * alert, which is no HTTP, or with a 400.
 */
static int send_undecided(bxc_reg *r, const reg_endpoint *at, const reg_call *call,
	const reg_auth *auth, bxc_cancel *cancel, bxc_http_response **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *first = NULL;
	BXC_AUTOERR bxc_err *first_err = NULL;
	BXC_AUTOERR bxc_err *e = NULL;
	int k = send_once(r, at, at->schemes[0], call, auth, cancel, &first, &first_err);
	if (k >= 0 && (bxc_http_status(first) != 400 || bxc_str_eq(at->schemes[0], "https"))) {
		learn_scheme(r, at, at->schemes[0]);
		*ret = BXC_TAKE(first);
		return 0;
	}
	if (k < 0 && k != -BXC_UNAVAILABLE && k != -BXC_PERMISSION_DENIED)
		return bxc_err_move(err, BXC_TAKE(first_err));
	k = send_once(r, at, at->schemes[1], call, auth, cancel, ret, &e);
	if (k >= 0) {
		learn_scheme(r, at, at->schemes[1]);
		return 0;
	}
	if (k == -BXC_CANCELED || k == -BXC_PERMISSION_DENIED)
		return bxc_err_move(err, BXC_TAKE(e));
	if (first) {
		learn_scheme(r, at, at->schemes[0]);
		*ret = BXC_TAKE(first);
		return 0;
	}
	return bxc_err_move(err, BXC_TAKE(first_err));
}

static int send_authorized(bxc_reg *r, const reg_endpoint *at, const reg_call *call,
	bxc_cancel *cancel, bxc_http_response **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_reg__auth_done) reg_auth auth = {0};
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	bool signed_in = false;
	bxc_reg__auth_known(r, at, call->scope, &auth);
	for (;;) {
		const char *scheme = known_scheme(r, at);
		int k = scheme ? send_once(r, at, scheme, call, &auth, cancel, &resp, err)
			       : send_undecided(r, at, call, &auth, cancel, &resp, err);
		if (k < 0)
			return k;
		/* What another host asks for, to which we were sent, is not for it to have. */
		bool is_foreign = !bxc_reg__own_path(at, bxc_http_effective_url(resp));
		if (bxc_http_status(resp) != 401 || is_foreign) {
			*ret = BXC_TAKE(resp);
			return 0;
		}
		if (signed_in)
			return bxc_reg__status_error(at, call->what, resp, err);
		/* What was known, if anything, is no longer good. */
		bxc_reg__auth_done(&auth);
		k = bxc_reg__sign_in(r, at, call->scope, resp, cancel, &auth, err);
		if (k < 0)
			return bxc_err_wrap(err, k, "%s", call->what);
		signed_in = true;
		bxc_http_response_free(BXC_TAKE(resp));
	}
}

/* ---- patience ---- */

int bxc_reg__pause(int64_t ns, bxc_cancel *cancel, bxc_err **err)
{
	int64_t until = bxc_clock_mono_ns() + ns;
	struct pollfd p = {.fd = bxc_cancel_fd(cancel), .events = POLLIN};
	for (;;) {
		int k = bxc_cancel_check(cancel, err);
		int64_t left = until - bxc_clock_mono_ns();
		if (k < 0 || left <= 0)
			return k;
		bxc_ignore(poll(&p, 1, (int)((left + BXC_NS_PER_MS - 1) / BXC_NS_PER_MS)));
	}
}

static bool is_busy(int status)
{
	return status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504);
}

/* A refused connection is an answer: waiting would only hide it. */
static bool is_worth_retry(const bxc_err *e)
{
	int64_t status;
	const char *text = bxc_err_get_detail(e, "http_status");
	if (text && bxc_str_to_i64(text, 0, 999, &status, NULL) >= 0)
		return is_busy((int)status);
	return bxc_err_code(e) == BXC_UNAVAILABLE &&
	       !bxc_str_eq(bxc_err_get_detail(e, "phase"), "connect");
}

int64_t bxc_reg__retry_after(const bxc_err *e, int64_t own_ns)
{
	int64_t ms = 0;
	const char *asked = bxc_err_get_detail(e, "retry_after_ms");
	if (!is_worth_retry(e))
		return -1;
	if (asked && bxc_str_to_i64(asked, 0, INT32_MAX, &ms, NULL) < 0)
		ms = 0;
	return ms * BXC_NS_PER_MS > WAIT_MAX_NS ? -1 : BXC_MAX(ms * BXC_NS_PER_MS, own_ns);
}

/* How long the registry asks to wait, or our own growing time with some chance in it. */
static int64_t wait_of(const bxc_http_response *resp, unsigned try)
{
	uint64_t seconds;
	const char *asked = resp ? bxc_http_header(resp, "Retry-After") : NULL;
	if (asked && bxc_str_to_u64(asked, 0, INT32_MAX, &seconds, NULL) >= 0)
		return (int64_t)seconds * BXC_NS_PER_S;
	uint32_t dice;
	bxc_rand_bytes(&dice, sizeof(dice));
	int64_t base = BACKOFF_FIRST_NS << (try - 1);
	return base + base / 4 * (int64_t)(dice % 1000) / 1000;
}

int bxc_reg__exchange(bxc_reg *r, const reg_endpoint *at, const reg_call *call, bxc_cancel *cancel,
	bxc_http_response **ret, bxc_err **err)
{
	unsigned tries = at->is_mirror || call->only_once ? 1 : TRIES_MAX;
	int64_t waited = 0;
	for (unsigned try = 1;; try++) {
		BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
		BXC_AUTOERR bxc_err *e = NULL;
		int k = send_authorized(r, at, call, cancel, &resp, &e);
		if (k >= 0 && !is_busy(bxc_http_status(resp))) {
			*ret = BXC_TAKE(resp);
			return 0;
		}
		int64_t wait = wait_of(resp, try);
		if ((k < 0 && !is_worth_retry(e)) || try >= tries || waited + wait > WAIT_MAX_NS) {
			if (k >= 0) {
				bxc_ignore(bxc_reg__status_error(at, call->what, resp, &e));
				bxc_err_detail(e, "retry_after_ms", "%lld",
					(long long)(wait / BXC_NS_PER_MS));
			}
			return bxc_err_move(err, BXC_TAKE(e));
		}
		bxc_http_response_free(BXC_TAKE(resp));
		k = bxc_reg__pause(wait, cancel, err);
		if (k < 0)
			return k;
		waited += wait;
	}
}

int bxc_reg__answer_error(bxc_http_response *resp, const char *subject, bxc_err **err)
{
	bxc_err *e = NULL;
	int k = bxc_http_status_error(resp, &e, subject);
	if (k != -BXC_CANCELED)
		return bxc_err_move(err, e);
	k = bxc_err_set(err, BXC_UNKNOWN, "%s", bxc_err_text(e));
	bxc_err_free(e);
	return k;
}

int bxc_reg__status_error(
	const reg_endpoint *at, const char *what, bxc_http_response *resp, bxc_err **err)
{
	int status = bxc_http_status(resp);
	BXC_AUTOFREE char *subject =
		status == 401 || status == 403
			? bxc_str_fmt("%s: registry '%s' denies access: it does not exist or needs "
				      "other credentials",
				  what, at->name)
			: bxc_str_fmt("%s: registry '%s'", what, at->name);
	return bxc_reg__answer_error(resp, subject, err);
}
