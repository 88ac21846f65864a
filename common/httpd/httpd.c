/* SPDX-License-Identifier: Apache-2.0 */
#include "common/httpd/httpd_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define POOL_THREADS 4u
#define CONN_LIMIT   4096u
#define IDLE_S       60u
#define BACKLOG      1024

/* ---- requests ---- */

static void req_free(bxc_httpd_req *r)
{
	bxc_httpd *h = r->h;
	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; i < h->reqs.n; i++) {
		if (h->reqs.v[i] == r) {
			bxc_arr_remove(&h->reqs, i);
			break;
		}
	}
	pthread_mutex_unlock(&h->lock);
	if (r->free_user)
		r->free_user(r->user);
	if (r->sse)
		httpd_sse_unref(r->sse);
	BXC_ARR_FOREACH (p, &r->params) {
		free(p->name);
		free(p->value);
	}
	bxc_arr_done(&r->params);
	bxc_buf_done(&r->body);
	if (r->response)
		MHD_destroy_response(r->response);
	pthread_mutex_destroy(&r->lock);
	free(r->method);
	free(r->path);
	free(r->peer);
	free(r);
}

static void set_peer(bxc_httpd_req *r)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr *sa = i ? i->client_addr : NULL;
	char host[INET6_ADDRSTRLEN] = "?";
	if (r->h->unix_path) {
		const union MHD_ConnectionInfo *f = MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
		struct ucred cred = {0};
		socklen_t n = sizeof(cred);
		if (f && getsockopt(f->connect_fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) == 0)
			r->peer = bxc_str_fmt("unix:uid=%u", (unsigned)cred.uid);
		else
			r->peer = bxc_strdup("unix:?");
		r->peer_is_local = true;
	} else if (sa && sa->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, sa, sizeof(in));
		inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host));
		r->peer = bxc_str_fmt("%s:%u", host, ntohs(in.sin_port));
		r->peer_is_local = ntohl(in.sin_addr.s_addr) >> 24 == 127;
	} else if (sa && sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in;
		memcpy(&in, sa, sizeof(in));
		inet_ntop(AF_INET6, &in.sin6_addr, host, sizeof(host));
		r->peer = bxc_str_fmt("[%s]:%u", host, ntohs(in.sin6_port));
		r->peer_is_local = IN6_IS_ADDR_LOOPBACK(&in.sin6_addr);
	} else {
		r->peer = bxc_strdup("?");
	}
}

/* Finds the route; an error when there is none. */
static int route_of(bxc_httpd_req *r, bxc_err **err)
{
	bool path_known = false;
	for (size_t i = 0; i < r->h->c.n_routes; i++) {
		const bxc_httpd_route *t = &r->h->c.routes[i];
		BXC_ARR_FOREACH (p, &r->params) {
			free(p->name);
			free(p->value);
		}
		r->params.n = 0;
		if (!httpd_match(t->pattern, r->path, r))
			continue;
		path_known = true;
		if (bxc_str_eq(t->method, r->method) || (r->is_head && bxc_str_eq(t->method, "GET"))) {
			r->route = t;
			return 0;
		}
	}
	if (path_known)
		return bxc_err_set(err, BXC_UNIMPLEMENTED, "method %.16s is not allowed for '%.256s'", r->method, r->path);
	return bxc_err_set(err, BXC_NOT_FOUND, "no such path: '%.256s'", r->path);
}

struct twice {
	int lengths;
	bool chunked;
};

static enum MHD_Result count_header(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct twice *t = cls;
	(void)kind;
	(void)value;
	if (strcasecmp(key, "Content-Length") == 0)
		t->lengths++;
	if (strcasecmp(key, "Transfer-Encoding") == 0)
		t->chunked = true;
	return MHD_YES;
}

/* What a lax parser lets through and a proxy might read otherwise. */
static int check_framing(bxc_httpd_req *r, bxc_err **err)
{
	struct twice t = {0};
	MHD_get_connection_values(r->conn, MHD_HEADER_KIND, count_header, &t);
	if (t.lengths > 1 || (t.lengths && t.chunked))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "ambiguous length of the request body");
	const char *n = bxc_httpd_req_header(r, "Content-Length");
	uint64_t len = 0;
	if (n && bxc_str_to_u64(n, 0, UINT64_MAX, &len, NULL) < 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "Content-Length: not a number");
	if (len > r->route->max_body)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "the body is larger than %zu bytes", r->route->max_body);
	return 0;
}

/* Sends what was chosen, or sleeps until there is something. */
static enum MHD_Result answer(bxc_httpd_req *r)
{
	enum MHD_Result k = MHD_YES;
	pthread_mutex_lock(&r->lock);
	if (r->response) {
		k = MHD_queue_response(r->conn, (unsigned)r->status, r->response);
		MHD_destroy_response(r->response);
		r->response = NULL;
	} else {
		r->suspended = true;
		MHD_suspend_connection(r->conn);
	}
	pthread_mutex_unlock(&r->lock);
	return k;
}

static void refuse(bxc_httpd_req *r, bxc_err *err, int status)
{
	r->refused = true;
	r->handled = true;
	r->in_handler = true;
	bxc_httpd_reply_err(r, err);
	r->in_handler = false;
	if (status)
		r->status = status;
}

static bxc_httpd_req *req_new(bxc_httpd *h, struct MHD_Connection *conn, const char *url, const char *method)
{
	bxc_httpd_req *r = bxc_calloc(1, sizeof(*r));
	bxc_err *err = NULL;
	r->h = h;
	r->conn = conn;
	r->method = bxc_strdup(method);
	r->path = bxc_strdup(url);
	r->is_head = bxc_str_eq(method, "HEAD");
	pthread_mutex_init(&r->lock, NULL);
	set_peer(r);
	pthread_mutex_lock(&h->lock);
	*bxc_arr_push(&h->reqs) = r;
	bool stopping = h->stopping;
	pthread_mutex_unlock(&h->lock);
	int e = stopping ? bxc_err_set(&err, BXC_UNAVAILABLE, "the server is going away") : route_of(r, &err);
	int status = e == -BXC_UNIMPLEMENTED ? 405 : 0;
	if (e >= 0) {
		e = check_framing(r, &err);
		status = e == -BXC_RESOURCE_EXHAUSTED ? 413 : 0;
	}
	if (e >= 0 && h->c.authorize)
		e = h->c.authorize(r, h->c.ud, &err);
	if (e >= 0)
		bxc_buf_init(&r->body, r->route->max_body + 1);
	else
		refuse(r, err, status);
	return r;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method, const char *version,
	const char *upload, size_t *upload_size, void **slot)
{
	bxc_httpd *h = cls;
	bxc_httpd_req *r = *slot;
	(void)version;
	if (!r) {
		r = req_new(h, conn, url, method);
		*slot = r;
		/* A refusal does not wait for a body that nobody will read. */
		return r->refused ? answer(r) : MHD_YES;
	}
	if (*upload_size) {
		bxc_err *err = NULL;
		if (!r->refused && (r->body.len + *upload_size > r->route->max_body || bxc_buf_append(&r->body, upload, *upload_size, &err) < 0)) {
			bxc_err_free(err);
			err = NULL;
			bxc_ignore(bxc_err_set(&err, BXC_RESOURCE_EXHAUSTED, "the body is larger than %zu bytes", r->route->max_body));
			refuse(r, err, 413);
		}
		*upload_size = 0;
		return MHD_YES;
	}
	if (!r->handled) {
		r->handled = true;
		r->in_handler = true;
		r->route->handler(r, h->c.ud);
		r->in_handler = false;
	}
	return answer(r);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **slot, enum MHD_RequestTerminationCode why)
{
	(void)cls;
	(void)conn;
	(void)why;
	if (*slot)
		req_free(*slot);
	*slot = NULL;
}

/* The path as it came: decoding is the route's, segment by segment. */
static size_t keep_escapes(void *cls, struct MHD_Connection *conn, char *s)
{
	(void)cls;
	(void)conn;
	return strlen(s);
}

/* ---- reading requests ---- */

const char *bxc_httpd_req_method(const bxc_httpd_req *r)
{
	return r->method;
}

const char *bxc_httpd_req_path(const bxc_httpd_req *r)
{
	return r->path;
}

const char *bxc_httpd_req_param(const bxc_httpd_req *r, const char *name)
{
	BXC_ARR_FOREACH (p, &r->params)
		if (bxc_str_eq(p->name, name))
			return p->value;
	return NULL;
}

const char *bxc_httpd_req_query(const bxc_httpd_req *r, const char *name)
{
	return MHD_lookup_connection_value(r->conn, MHD_GET_ARGUMENT_KIND, name);
}

const char *bxc_httpd_req_header(const bxc_httpd_req *r, const char *name)
{
	return MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, name);
}

bxc_slice bxc_httpd_req_body(const bxc_httpd_req *r)
{
	return bxc_buf_slice(&r->body);
}

unsigned bxc_httpd_req_flags(const bxc_httpd_req *r)
{
	return r->route ? r->route->flags : 0;
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
	r->user = user;
	r->free_user = free_fn;
}

/* ---- answering ---- */

static void add_headers(struct MHD_Response *resp, char *const *headers)
{
	for (char *const *h = headers; h && *h; h++) {
		const char *colon = strchr(*h, ':');
		if (!colon)
			continue;
		BXC_AUTOFREE char *name = bxc_strndup(*h, (size_t)(colon - *h));
		const char *value = colon + 1;
		while (*value == ' ')
			value++;
		MHD_add_response_header(resp, name, value);
	}
}

void httpd_set_response(bxc_httpd_req *r, int status, struct MHD_Response *resp, char *const *headers)
{
	add_headers(resp, headers);
	pthread_mutex_lock(&r->lock);
	bxc_check(!r->response);
	r->status = status;
	r->response = resp;
	bool wake = r->suspended;
	struct MHD_Connection *conn = r->conn;
	r->suspended = false;
	pthread_mutex_unlock(&r->lock);
	/* The request may be gone as soon as its connection runs again. */
	if (wake)
		MHD_resume_connection(conn);
}

void bxc_httpd_reply(bxc_httpd_req *r, int status, const char *content_type, bxc_slice body, char *const *headers)
{
	void *copy = bxc_memdup(body.p, body.n);
	struct MHD_Response *resp = MHD_create_response_from_buffer(body.n, copy, MHD_RESPMEM_MUST_FREE);
	bxc_check(resp);
	if (content_type)
		MHD_add_response_header(resp, "Content-Type", content_type);
	httpd_set_response(r, status, resp, headers);
}

void bxc_httpd_reply_json(bxc_httpd_req *r, int status, bxc_json *j)
{
	BXC_AUTOFREE char *text = bxc_json_print(j);
	bxc_json_free(j);
	bxc_httpd_reply(r, status, "application/json", bxc_slice_of(text, strlen(text)), NULL);
}

static int status_of(bxc_code code)
{
	switch (code) {
	case BXC_OK:
		return 200;
	case BXC_INVALID_ARGUMENT:
	case BXC_FAILED_PRECONDITION:
	case BXC_OUT_OF_RANGE:
		return 400;
	case BXC_UNAUTHENTICATED:
		return 401;
	case BXC_PERMISSION_DENIED:
		return 403;
	case BXC_NOT_FOUND:
		return 404;
	case BXC_ALREADY_EXISTS:
	case BXC_ABORTED:
		return 409;
	case BXC_RESOURCE_EXHAUSTED:
		return 429;
	case BXC_CANCELED:
		return 499;
	case BXC_UNIMPLEMENTED:
		return 501;
	case BXC_UNAVAILABLE:
		return 503;
	case BXC_DEADLINE_EXCEEDED:
		return 504;
	case BXC_UNKNOWN:
	case BXC_INTERNAL:
	case BXC_DATA_LOSS:
		break;
	}
	return 500;
}

void bxc_httpd_reply_err(bxc_httpd_req *r, bxc_err *e)
{
	bxc_json *j = bxc_json_object();
	bxc_json *o = bxc_json_add_object(j, "error");
	bxc_json_set_str(o, "code", bxc_code_name(bxc_err_code(e)));
	bxc_json_set_str(o, "message", bxc_err_text(e));
	bxc_json_set_str(o, "field", bxc_err_get_detail(e, "field"));
	int status = status_of(bxc_err_code(e));
	bxc_err_free(e);
	BXC_AUTOFREE char *text = bxc_json_print(j);
	bxc_json_free(j);
	char *challenge[] = {(char *)(uintptr_t)"WWW-Authenticate: Bearer", NULL};
	bxc_httpd_reply(r, status, "application/json", bxc_slice_of(text, strlen(text)), status == 401 ? challenge : NULL);
}

void bxc_httpd_reply_fd(bxc_httpd_req *r, int fd, uint64_t size, const char *content_type, const char *etag)
{
	uint64_t first = 0, last = 0;
	BXC_AUTOSTRV char **headers = NULL;
	int k = httpd_parse_range(bxc_httpd_req_header(r, "Range"), size, &first, &last);
	bxc_strv_push(&headers, "Accept-Ranges: bytes");
	if (etag)
		bxc_strv_pushf(&headers, "ETag: \"%s\"", etag);
	if (k < 0) {
		close(fd);
		bxc_strv_pushf(&headers, "Content-Range: bytes */%llu", (unsigned long long)size);
		bxc_httpd_reply(r, 416, "text/plain", bxc_slice_of("range not satisfiable\n", 22), headers);
		return;
	}
	uint64_t n = k > 0 ? last - first + 1 : size;
	if (k > 0)
		bxc_strv_pushf(&headers, "Content-Range: bytes %llu-%llu/%llu", (unsigned long long)first, (unsigned long long)last,
			(unsigned long long)size);
	struct MHD_Response *resp = MHD_create_response_from_fd_at_offset64(n, fd, first);
	bxc_check(resp);
	if (content_type)
		MHD_add_response_header(resp, "Content-Type", content_type);
	httpd_set_response(r, k > 0 ? 206 : 200, resp, headers);
}

/* ---- listening ---- */

static int listen_unix(const bxc_httpd_config *c, int *ret_fd, bxc_err **err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (strlen(c->unix_path) >= sizeof(a.sun_path))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "socket path '%s' is longer than %zu bytes", c->unix_path, sizeof(a.sun_path) - 1);
	memcpy(a.sun_path, c->unix_path, strlen(c->unix_path) + 1);
	BXC_AUTOCLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return bxc_err_errno(err, errno, "socket");
	/* A socket nobody answers at was left by a process that died. */
	BXC_AUTOCLOSE int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (probe >= 0 && connect(probe, (struct sockaddr *)&a, sizeof(a)) == 0)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "somebody listens on '%s' already", c->unix_path);
	if (errno == ECONNREFUSED)
		unlink(c->unix_path);
	mode_t mask = umask(0177);
	int k = bind(fd, (struct sockaddr *)&a, sizeof(a));
	int e = errno;
	umask(mask);
	if (k < 0)
		return bxc_err_errno(err, e, "listen on '%s'", c->unix_path);
	if (chmod(c->unix_path, c->unix_mode ? c->unix_mode : 0600) < 0 || listen(fd, BACKLOG) < 0)
		return bxc_err_errno(err, errno, "listen on '%s'", c->unix_path);
	*ret_fd = BXC_TAKE_FD(fd);
	return 0;
}

static int listen_tcp(const bxc_httpd_config *c, int *ret_fd, uint16_t *ret_port, bxc_err **err)
{
	const char *host = c->host ? c->host : "127.0.0.1";
	char port[8];
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *list = NULL;
	snprintf(port, sizeof(port), "%u", c->port);
	int k = getaddrinfo(host, port, &hints, &list);
	if (k != 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "address '%s': %s", host, gai_strerror(k));
	BXC_AUTOCLOSE int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, r = 0;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 || bind(fd, list->ai_addr, list->ai_addrlen) < 0 ||
		listen(fd, BACKLOG) < 0)
		r = bxc_err_errno(err, errno, "listen on %s:%s", host, port);
	freeaddrinfo(list);
	if (r < 0)
		return r;
	struct sockaddr_storage a;
	socklen_t n = sizeof(a);
	if (getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		return bxc_err_errno(err, errno, "getsockname");
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	memcpy(&in, &a, sizeof(in));
	memcpy(&in6, &a, sizeof(in6));
	*ret_port = ntohs(a.ss_family == AF_INET6 ? in6.sin6_port : in.sin_port);
	*ret_fd = BXC_TAKE_FD(fd);
	return 0;
}

int bxc_httpd_start(const bxc_httpd_config *c, bxc_httpd **ret, bxc_err **err)
{
	bxc_httpd *h = bxc_calloc(1, sizeof(*h));
	h->c = *c;
	h->listen_fd = -1;
	h->unix_path = bxc_strdup(c->unix_path);
	pthread_mutex_init(&h->lock, NULL);
	int r = c->unix_path ? listen_unix(c, &h->listen_fd, err) : listen_tcp(c, &h->listen_fd, &h->port, err);
	if (r < 0) {
		free(h->unix_path);
		free(h);
		return r;
	}
	bool tls = c->tls_cert_pem && c->tls_key_pem;
	struct MHD_OptionItem options[] = {
		{MHD_OPTION_LISTEN_SOCKET, h->listen_fd, NULL},
		{MHD_OPTION_THREAD_POOL_SIZE, POOL_THREADS, NULL},
		{MHD_OPTION_CONNECTION_LIMIT, CONN_LIMIT, NULL},
		{MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, NULL},
		{MHD_OPTION_CONNECTION_MEMORY_LIMIT, BXC_LIMIT_HTTP_HEADER, NULL},
		{MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, NULL},
		{MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)keep_escapes, NULL},
		{tls ? MHD_OPTION_HTTPS_MEM_CERT : MHD_OPTION_END, 0, (void *)(uintptr_t)c->tls_cert_pem},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)c->tls_key_pem},
		{MHD_OPTION_END, 0, NULL},
	};
	unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | (tls ? MHD_USE_TLS : 0);
	h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
	if (!h->daemon) {
		close(h->listen_fd);
		free(h->unix_path);
		free(h);
		return bxc_err_set(err, tls ? BXC_INVALID_ARGUMENT : BXC_INTERNAL, tls ? "the HTTP server did not start: check certificate and key"
										       : "the HTTP server did not start");
	}
	*ret = h;
	return 0;
}

uint16_t bxc_httpd_port(const bxc_httpd *h)
{
	return h->port;
}


void bxc_httpd_stop(bxc_httpd *h)
{
	MHD_socket fd = MHD_quiesce_daemon(h->daemon);
	/* Sleeping requests are answered, so that no connection is suspended when the daemon goes. */
	pthread_mutex_lock(&h->lock);
	h->stopping = true;
	for (size_t i = 0; i < h->reqs.n; i++) {
		bxc_httpd_req *r = h->reqs.v[i];
		pthread_mutex_lock(&r->lock);
		bool wake = r->suspended && !r->response;
		if (wake) {
			static const char text[] = "{\"error\":{\"code\":\"UNAVAILABLE\",\"message\":\"the server is going away\"}}";
			r->response = MHD_create_response_from_buffer(sizeof(text) - 1, (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);
			r->status = 503;
			r->suspended = false;
			MHD_resume_connection(r->conn);
		}
		bxc_httpd_sse *s = r->sse;
		pthread_mutex_unlock(&r->lock);
		if (s)
			httpd_sse_abandon(s);
	}
	pthread_mutex_unlock(&h->lock);
	MHD_stop_daemon(h->daemon);
	if (fd != MHD_INVALID_SOCKET)
		close(fd);
	if (h->unix_path)
		unlink(h->unix_path);
	bxc_arr_done(&h->reqs);
	pthread_mutex_destroy(&h->lock);
	free(h->unix_path);
	free(h);
}
