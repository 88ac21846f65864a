/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon and the life of a request in it: made when the request line was read, accepted or
 * refused when the header is whole, handled when the body is, asleep until it is answered, closed
 * when the answer was sent or the connection broke.
 *
 * The daemon aborts when it is stopped with a sleeping connection. So stop sets is_stopping, then
 * wakes what sleeps; and nothing goes to sleep without having looked at is_stopping under the lock
 * that stop takes for waking.
 */
#include "common/httpd/httpd_internal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/secret.h"
#include "common/base/str.h"
#include "common/os/fs.h"

#define POOL_THREADS	 4
#define CONNECTION_LIMIT 4096
#define IDLE_TIMEOUT_S	 60
#define EXCESS_MAX	 (8u << 20) /* bytes over a route's limit read before the connection is cut */
#define STOP_GRACE_NS	 (2 * BXC_NS_PER_S)
#define TLS_FILE_MAX	 (1u << 20)

static void stopping_error(bxc_err **err)
{
	bxc_err_set(err, BXC_UNAVAILABLE, "the server is shutting down");
}

/* Answers without a handler. Owns e; status 0: that of the code. */
static void refuse(bxc_httpd_req *r, int status, bxc_err *e)
{
	struct MHD_Response *response = bxc_httpd__error_response(e);
	/* The rest of the request may still be on its way: it must not be read as the next one. */
	MHD_add_response_header(response, "Connection", "close");
	if (!status)
		status = bxc_code_http_status(bxc_err_code(e));
	bxc_err_free(e);
	r->state = HTTPD_REQ_HANDLED;
	atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	bxc_httpd__answer(r, status, response);
}

/* Sends the answer, or sleeps until there is one. */
static enum MHD_Result send_or_sleep(bxc_httpd_req *r, struct MHD_Connection *conn)
{
	enum MHD_Result ok = MHD_YES;
	pthread_mutex_lock(&r->lock);
	if (!r->response && atomic_load(&r->h->is_stopping)) {
		BXC_AUTOERR bxc_err *e = NULL;
		stopping_error(&e);
		r->is_answered = true;
		r->status = 503;
		r->response = bxc_httpd__error_response(e);
	}
	if (r->response) {
		ok = MHD_queue_response(conn, r->status, r->response);
		MHD_destroy_response(BXC_TAKE(r->response));
	} else {
		r->is_suspended = true;
		MHD_suspend_connection(conn);
	}
	pthread_mutex_unlock(&r->lock);
	return ok;
}

static enum MHD_Result on_header_done(
	bxc_httpd_req *r, struct MHD_Connection *conn, const char *method)
{
	bxc_err *e = NULL;
	int status = 0;
	pthread_mutex_lock(&r->lock);
	r->conn = conn;
	pthread_mutex_unlock(&r->lock);
	int k = bxc_httpd__req_accept(r, conn, method, &status, &e);
	if (k >= 0 && atomic_load(&r->h->is_stopping)) {
		stopping_error(&e);
		k = -BXC_UNAVAILABLE;
	}
	if (k < 0) {
		refuse(r, status, e);
		return send_or_sleep(r, conn);
	}
	r->state = HTTPD_REQ_BODY;
	return MHD_YES;
}

static enum MHD_Result on_body_piece(bxc_httpd_req *r, const char *p, size_t *n)
{
	size_t len = *n;
	*n = 0;
	if (r->dropped == 0 && r->route && len <= r->route->max_body - r->body.len) {
		bxc_buf_add(&r->body, p, len);
		return MHD_YES;
	}
	r->dropped += len;
	return r->dropped > EXCESS_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_n,
	void **con_cls)
{
	bxc_httpd *h = cls;
	bxc_httpd_req *r = *con_cls;
	(void)url;
	(void)version;
	bxc_check(r != NULL);
	if (r->state == HTTPD_REQ_NEW)
		return on_header_done(r, conn, method);
	if (*upload_n)
		return on_body_piece(r, upload, upload_n);
	if (r->state == HTTPD_REQ_HANDLED)
		return send_or_sleep(r, conn);
	if (r->dropped) {
		bxc_err *e = NULL;
		bxc_err_set(&e, BXC_RESOURCE_EXHAUSTED,
			"the body is larger than the %zu bytes allowed", r->route->max_body);
		refuse(r, 413, e);
		return send_or_sleep(r, conn);
	}
	r->state = HTTPD_REQ_HANDLED;
	atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
	r->route->handler(r, h->ud);
	return send_or_sleep(r, conn);
}

/* The first that is heard of a request: its target, undecoded. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *conn)
{
	bxc_httpd *h = cls;
	bxc_httpd_req *r = bxc_httpd__req_new(h, target);
	(void)conn;
	pthread_mutex_lock(&h->lock);
	r->next = h->requests;
	if (r->next)
		r->next->prev = r;
	h->requests = r;
	pthread_mutex_unlock(&h->lock);
	return r;
}

static void on_completed(
	void *cls, struct MHD_Connection *conn, void **con_cls, enum MHD_RequestTerminationCode why)
{
	bxc_httpd *h = cls;
	bxc_httpd_req *r = *con_cls;
	(void)conn;
	(void)why;
	if (!r)
		return;
	*con_cls = NULL;
	pthread_mutex_lock(&r->lock);
	r->is_closed = true;
	r->conn = NULL;
	pthread_mutex_unlock(&r->lock);
	pthread_mutex_lock(&h->lock);
	if (r->prev)
		r->prev->next = r->next;
	else
		h->requests = r->next;
	if (r->next)
		r->next->prev = r->prev;
	if (!h->requests)
		pthread_cond_broadcast(&h->drained);
	pthread_mutex_unlock(&h->lock);
	bxc_httpd__req_unref(r);
}

/* Targets are decoded by us, segment by segment. */
static size_t keep_escapes(void *cls, struct MHD_Connection *conn, char *s)
{
	(void)cls;
	(void)conn;
	return strlen(s);
}

BXC_PRINTF(2, 0) static void on_log(void *cls, const char *fmt, va_list ap)
{
	(void)cls;
	BXC_AUTOFREE char *text = bxc_str_vfmt(fmt, ap);
	bxc_log(BXC_LOG_DEBUG, "httpd.daemon", "message", bxc_str_trim(text), NULL);
}

static int read_pem(const char *path, bxc_secret **ret, bxc_err **err)
{
	int r = bxc_fs_read_secret(AT_FDCWD, path, TLS_FILE_MAX, ret, err);
	return bxc_err_wrap(err, r, "TLS file '%s'", path);
}

/* The daemon's table of options has no place for const. */
static void *text_of(const bxc_secret *s)
{
	return s ? (void *)(uintptr_t)bxc_secret_bytes(s).p : NULL;
}

static int start_daemon(bxc_httpd *h, const bxc_httpd_config *c, int listen_fd, bxc_err **err)
{
	const bool tls = c->tls_cert_file;
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *cert = NULL;
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *key = NULL;
	int r = tls ? read_pem(c->tls_cert_file, &cert, err) : 0;
	if (r >= 0 && tls)
		r = read_pem(c->tls_key_file, &key, err);
	if (r < 0)
		return r;
	unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
			 MHD_USE_ERROR_LOG | (tls ? MHD_USE_TLS : 0u);
	struct MHD_OptionItem common[] = {
		{MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, NULL},
		{MHD_OPTION_LISTEN_SOCKET, listen_fd, NULL},
		{MHD_OPTION_THREAD_POOL_SIZE, POOL_THREADS, NULL},
		{MHD_OPTION_CONNECTION_LIMIT, CONNECTION_LIMIT, NULL},
		{MHD_OPTION_CONNECTION_TIMEOUT, IDLE_TIMEOUT_S, NULL},
		{MHD_OPTION_CONNECTION_MEMORY_LIMIT, BXC_LIMIT_HTTP_HEADER, NULL},
		{MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
		{MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_target, h},
		{MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)keep_escapes, NULL},
		{MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, h},
		{MHD_OPTION_END, 0, NULL},
	};
	struct MHD_OptionItem secure[] = {
		{MHD_OPTION_HTTPS_PRIORITIES, 0,
			(void *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
		{MHD_OPTION_HTTPS_MEM_CERT, 0, text_of(cert)},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, text_of(key)},
		{MHD_OPTION_END, 0, NULL},
	};
	/* Signals are the program's business: the daemon's threads take none. */
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_ARRAY, common,
		MHD_OPTION_ARRAY, tls ? secure : &secure[BXC_ARRAY_SIZE(secure) - 1],
		MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (h->daemon)
		return 0;
	if (tls)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"the HTTPS server does not start: certificate and key do not fit or cannot "
			"be read");
	return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "the HTTP server does not start");
}

static void remove_socket(const bxc_httpd *h)
{
	struct stat st;
	if (h->unix_path && lstat(h->unix_path, &st) == 0 && st.st_dev == h->unix_dev &&
		st.st_ino == h->unix_ino)
		unlink(h->unix_path);
}

static void destroy(bxc_httpd *h)
{
	free(h->unix_path);
	pthread_cond_destroy(&h->drained);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

int bxc_httpd_start(const bxc_httpd_config *c, bxc_httpd **ret, bxc_err **err)
{
	if (!c->tls_cert_file != !c->tls_key_file)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "HTTPS needs both a certificate and a key");
	bxc_httpd *h = bxc_calloc(1, sizeof(*h));
	pthread_condattr_t attr;
	bxc_check(pthread_condattr_init(&attr) == 0 &&
		  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	bxc_check(pthread_cond_init(&h->drained, &attr) == 0 &&
		  pthread_mutex_init(&h->lock, NULL) == 0);
	pthread_condattr_destroy(&attr);
	h->routes = c->routes;
	h->n_routes = c->n_routes;
	h->authorize = c->authorize;
	h->ud = c->ud;
	h->unix_path = bxc_strdup(c->unix_path);
	BXC_AUTOCLOSE int fd = -1;
	int r = bxc_httpd__listen(h, c, &fd, err);
	if (r >= 0) {
		r = start_daemon(h, c, fd, err);
		if (r < 0)
			remove_socket(h);
	}
	if (r < 0) {
		destroy(h);
		return r;
	}
	/* Closed by stop. */
	bxc_ignore(BXC_TAKE_FD(fd));
	*ret = h;
	return 0;
}

uint16_t bxc_httpd_port(const bxc_httpd *h)
{
	return h->port;
}

static void wake_all(bxc_httpd *h)
{
	BXC_AUTOERR bxc_err *e = NULL;
	stopping_error(&e);
	pthread_mutex_lock(&h->lock);
	for (bxc_httpd_req *r = h->requests; r; r = r->next) {
		pthread_mutex_lock(&r->lock);
		if (r->is_suspended) {
			r->is_suspended = false;
			r->is_answered = true;
			r->status = 503;
			r->response = bxc_httpd__error_response(e);
			MHD_resume_connection(r->conn);
		}
		if (r->sse)
			bxc_httpd__sse_shut(r->sse);
		pthread_mutex_unlock(&r->lock);
	}
	pthread_mutex_unlock(&h->lock);
}

static void wait_drained(bxc_httpd *h)
{
	int64_t until = bxc_clock_mono_ns() + STOP_GRACE_NS;
	const struct timespec ts = {
		.tv_sec = until / BXC_NS_PER_S, .tv_nsec = until % BXC_NS_PER_S};
	pthread_mutex_lock(&h->lock);
	while (h->requests)
		if (pthread_cond_timedwait(&h->drained, &h->lock, &ts) != 0)
			break;
	pthread_mutex_unlock(&h->lock);
}

void bxc_httpd_stop(bxc_httpd *h)
{
	if (!h)
		return;
	/* The socket is ours again: closed at the end, as the daemon may still look at it. */
	int listen_fd = MHD_quiesce_daemon(h->daemon);
	remove_socket(h);
	atomic_store(&h->is_stopping, true);
	wake_all(h);
	wait_drained(h);
	MHD_stop_daemon(h->daemon);
	if (listen_fd >= 0)
		close(listen_fd);
	destroy(h);
}
