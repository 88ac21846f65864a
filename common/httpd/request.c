/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request: a copy of what its handler may ask for, so that it can outlive its connection, and
 * the checks that come before any handler.
 */
#include "common/httpd/httpd_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"

bxc_httpd_req *bxc_httpd__req_new(bxc_httpd *h, const char *raw_target)
{
	bxc_httpd_req *r = bxc_calloc(1, sizeof(*r));
	r->h = h;
	atomic_init(&r->refs, 1);
	r->raw_target = bxc_strdup(raw_target);
	bxc_check(pthread_mutex_init(&r->lock, NULL) == 0);
	return r;
}

void bxc_httpd__req_unref(bxc_httpd_req *r)
{
	uint32_t n = atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel);
	bxc_check(n > 0);
	if (n > 1)
		return;
	if (r->free_user)
		r->free_user(r->user);
	if (r->sse)
		bxc_httpd__sse_unref(r->sse);
	if (r->response)
		MHD_destroy_response(r->response);
	free(r->raw_target);
	free(r->method);
	free(r->peer);
	bxc_httpd__target_done(&r->target);
	bxc_httpd__pairs_done(&r->params);
	BXC_ARR_FOREACH (it, &r->headers)
		explicit_bzero(it->value, strlen(it->value));
	bxc_httpd__pairs_done(&r->headers);
	bxc_buf_done(&r->body);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static bool in6_is_local(const struct in6_addr *a)
{
	return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
}

static void copy_peer(bxc_httpd_req *r, struct MHD_Connection *conn)
{
	const union MHD_ConnectionInfo *fd =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_storage storage;
	} a = {0};
	socklen_t n = sizeof(a);
	char text[INET6_ADDRSTRLEN] = "";
	if (!fd || getpeername(fd->connect_fd, &a.any, &n) < 0)
		a.any.sa_family = AF_UNSPEC;
	if (a.any.sa_family == AF_UNIX) {
		struct ucred cred = {.uid = UINT32_MAX};
		socklen_t cred_n = sizeof(cred);
		if (getsockopt(fd->connect_fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_n) < 0)
			cred.uid = UINT32_MAX;
		r->peer = bxc_str_fmt("unix:uid=%u", (unsigned)cred.uid);
		r->peer_is_local = true;
	} else if (a.any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &a.in.sin_addr, text, sizeof(text));
		r->peer = bxc_str_fmt("%s:%u", text, ntohs(a.in.sin_port));
		r->peer_is_local = ntohl(a.in.sin_addr.s_addr) >> 24 == 127;
	} else if (a.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a.in6.sin6_addr, text, sizeof(text));
		r->peer = bxc_str_fmt("[%s]:%u", text, ntohs(a.in6.sin6_port));
		r->peer_is_local = in6_is_local(&a.in6.sin6_addr);
	} else {
		/* The client left already. */
		r->peer = bxc_strdup("unknown");
	}
}

static enum MHD_Result copy_header(
	void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
	bxc_httpd_req *r = cls;
	(void)kind;
	*bxc_arr_push(&r->headers) = (httpd_pair){bxc_strdup(key), bxc_strdup(value ? value : "")};
	return MHD_YES;
}

/* The daemon's parser is lax where two readers could disagree about where a request ends. */
static int check_framing(
	const bxc_httpd_req *r, bool *ret_has_body, uint64_t *ret_length, bxc_err **err)
{
	const char *length = NULL, *encoding = NULL;
	BXC_ARR_FOREACH (it, &r->headers) {
		bool is_length = bxc_str_eq_nocase(it->name, "Content-Length");
		bool is_encoding = bxc_str_eq_nocase(it->name, "Transfer-Encoding");
		if ((is_length && length) || (is_encoding && encoding))
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "header '%s' comes twice", it->name);
		length = is_length ? it->value : length;
		encoding = is_encoding ? it->value : encoding;
	}
	if (length && encoding)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"Content-Length together with Transfer-Encoding");
	if (encoding && !bxc_str_eq_nocase(encoding, "chunked"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown Transfer-Encoding");
	if (length && bxc_str_to_u64(length, 0, UINT64_MAX, ret_length, NULL) < 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid Content-Length");
	*ret_has_body = encoding || *ret_length > 0;
	return 0;
}

static bool method_fits(const char *route, const char *method)
{
	return bxc_str_eq(route, method) ||
	       (bxc_str_eq(route, "GET") && bxc_str_eq(method, "HEAD"));
}

static int find_route(bxc_httpd_req *r, int *ret_status, bxc_err **err)
{
	BXC_AUTOSTRV char **allowed = NULL;
	for (size_t i = 0; i < r->h->n_routes; i++) {
		const bxc_httpd_route *route = &r->h->routes[i];
		if (!bxc_httpd__match(route->pattern, &r->target, &r->params))
			continue;
		if (method_fits(route->method, r->method)) {
			r->route = route;
			return 0;
		}
		if (!bxc_strv_has(allowed, route->method))
			bxc_strv_push(&allowed, route->method);
	}
	if (!allowed)
		return bxc_err_set(err, BXC_NOT_FOUND, "no such path: '%.200s'", r->target.path);
	BXC_AUTOFREE char *list = bxc_strv_join(allowed, ", ");
	*ret_status = 405;
	bxc_err *e = NULL;
	int k = bxc_err_set(&e, BXC_UNIMPLEMENTED,
		"method %.16s is not allowed for '%.200s' (allowed: %s)", r->method, r->target.path,
		list);
	bxc_err_detail(e, "allow", "%s", list);
	bxc_ignore(bxc_err_move(err, e));
	return k;
}

int bxc_httpd__req_accept(bxc_httpd_req *r, struct MHD_Connection *conn, const char *method,
	int *ret_status, bxc_err **err)
{
	bool has_body = false;
	uint64_t length = 0;
	*ret_status = 0;
	r->method = bxc_strdup(method);
	copy_peer(r, conn);
	MHD_get_connection_values(conn, MHD_HEADER_KIND, copy_header, r);
	int k = check_framing(r, &has_body, &length, err);
	if (k >= 0)
		k = bxc_httpd__target_parse(r->raw_target, &r->target, err);
	if (k >= 0)
		k = find_route(r, ret_status, err);
	if (k < 0)
		return k;
	bxc_buf_init(&r->body, r->route->max_body ? r->route->max_body : 1);
	if (length > r->route->max_body || (has_body && r->route->max_body == 0)) {
		*ret_status = 413;
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"the body is larger than the %zu bytes allowed", r->route->max_body);
	}
	return r->h->authorize ? r->h->authorize(r, r->h->ud, err) : 0;
}

/* ---- what handlers ask ---- */

static const char *find(const httpd_pairs *pairs, const char *name, bool nocase)
{
	BXC_ARR_FOREACH (it, pairs)
		if (nocase ? bxc_str_eq_nocase(it->name, name) : bxc_str_eq(it->name, name))
			return it->value;
	return NULL;
}

const char *bxc_httpd_req_method(const bxc_httpd_req *r)
{
	return r->method;
}

const char *bxc_httpd_req_path(const bxc_httpd_req *r)
{
	return r->target.path;
}

const char *bxc_httpd_req_param(const bxc_httpd_req *r, const char *name)
{
	return find(&r->params, name, false);
}

const char *bxc_httpd_req_query(const bxc_httpd_req *r, const char *name)
{
	return find(&r->target.query, name, false);
}

const char *bxc_httpd_req_header(const bxc_httpd_req *r, const char *name)
{
	return find(&r->headers, name, true);
}

const char *bxc_httpd_req_bearer(const bxc_httpd_req *r)
{
	static const char kind[] = "Bearer ";
	const char *s = bxc_httpd_req_header(r, "Authorization");
	return s && strncasecmp(s, kind, strlen(kind)) == 0 ? s + strlen(kind) : NULL;
}

bxc_slice bxc_httpd_req_body(const bxc_httpd_req *r)
{
	return bxc_buf_slice(&r->body);
}

unsigned bxc_httpd_req_flags(const bxc_httpd_req *r)
{
	return r->route->flags;
}

const char *bxc_httpd_req_peer(const bxc_httpd_req *r)
{
	return r->peer;
}

bool bxc_httpd_req_peer_is_local(const bxc_httpd_req *r)
{
	return r->peer_is_local;
}

void *bxc_httpd_req_user(const bxc_httpd_req *r)
{
	return r->user;
}

void bxc_httpd_req_set_user(bxc_httpd_req *r, void *user, void (*free_fn)(void *))
{
	if (r->free_user)
		r->free_user(r->user);
	r->user = user;
	r->free_user = free_fn;
}
