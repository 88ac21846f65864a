/* SPDX-License-Identifier: Apache-2.0 */
/* One transfer as libcurl sees it: options, callbacks, and what its results mean. */
#include "common/http/http_internal.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define MAX_REDIRECTS 10L
#define PIPE_FIRST    (64u << 10)

/* ---- header ---- */

void bxc_http__set_ready(bxc_http_response *t)
{
	const char *url = NULL;
	curl_easy_getinfo(t->easy, CURLINFO_EFFECTIVE_URL, &url);
	pthread_mutex_lock(&t->lock);
	if (!t->is_ready) {
		t->effective_url = bxc_strdup(url ? url : t->url);
		t->is_ready = true;
		pthread_cond_broadcast(&t->changed);
	}
	pthread_mutex_unlock(&t->lock);
}

/* "HTTP/1.1 206 Partial Content" */
static int status_of(const char *line, size_t n)
{
	size_t i = 0;
	while (i < n && line[i] != ' ')
		i++;
	while (i < n && line[i] == ' ')
		i++;
	int status = 0;
	for (unsigned k = 0; k < 3; k++, i++) {
		if (i >= n || line[i] < '0' || line[i] > '9')
			return 0;
		status = status * 10 + (line[i] - '0');
	}
	return status;
}

static bool is_redirect(const bxc_http_response *t)
{
	return t->follow && t->has_location &&
	       (t->status == 301 || t->status == 302 || t->status == 303 || t->status == 307 ||
		       t->status == 308);
}

static size_t on_header(char *p, size_t size, size_t count, void *ud)
{
	bxc_http_response *t = ud;
	size_t n = size * count, len = n;
	/* Trailers come here too, after the header was handed over. */
	if (t->is_ready)
		return n;
	while (len && (p[len - 1] == '\r' || p[len - 1] == '\n'))
		len--;
	if (len >= 5 && memcmp(p, "HTTP/", 5) == 0) {
		/* A new block: after 100 Continue or a redirect. */
		bxc_strv_free(BXC_TAKE(t->header_lines));
		t->header_bytes = 0;
		t->has_location = false;
		t->status = status_of(p, len);
		return n;
	}
	if (len == 0) {
		if (t->status >= 200 && !is_redirect(t))
			bxc_http__set_ready(t);
		return n;
	}
	t->header_bytes += n;
	if (t->header_bytes > BXC_LIMIT_HTTP_HEADER) {
		bxc_err_set(&t->own_err, BXC_RESOURCE_EXHAUSTED,
			"the header of the answer of '%s' is larger than %u bytes", t->peer,
			BXC_LIMIT_HTTP_HEADER);
		return 0;
	}
	if (len > 9 && strncasecmp(p, "Location:", 9) == 0)
		t->has_location = true;
	bxc_strv_push_take(&t->header_lines, bxc_strndup(p, len));
	return n;
}

/* ---- body ---- */

/* Room for n more bytes in the ring; used + n is at most HTTP_PIPE_MAX. */
static void pipe_grow(bxc_http_response *t, size_t n)
{
	size_t cap = t->pipe_cap ? t->pipe_cap : PIPE_FIRST;
	while (cap < t->pipe_used + n)
		cap *= 2;
	if (cap == t->pipe_cap)
		return;
	uint8_t *p = bxc_malloc(cap);
	size_t head = BXC_MIN(t->pipe_used, t->pipe_cap - t->pipe_start);
	if (t->pipe_used) {
		memcpy(p, t->pipe + t->pipe_start, head);
		memcpy(p + head, t->pipe, t->pipe_used - head);
	}
	free(t->pipe);
	t->pipe = p;
	t->pipe_cap = cap;
	t->pipe_start = 0;
}

static size_t on_body(char *p, size_t size, size_t count, void *ud)
{
	bxc_http_response *t = ud;
	size_t n = size * count;
	/* libcurl drops the bodies of redirects it follows; what else comes before the header is
	 * not ours. */
	if (!t->is_ready || n == 0)
		return n;
	pthread_mutex_lock(&t->lock);
	if (t->pipe_used && t->pipe_used + n > HTTP_PIPE_MAX) {
		t->is_paused = true;
		pthread_mutex_unlock(&t->lock);
		return CURL_WRITEFUNC_PAUSE;
	}
	pipe_grow(t, n);
	size_t end = (t->pipe_start + t->pipe_used) % t->pipe_cap;
	size_t head = BXC_MIN(n, t->pipe_cap - end);
	memcpy(t->pipe + end, p, head);
	memcpy(t->pipe, p + head, n - head);
	t->pipe_used += n;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	return n;
}

static size_t on_upload(char *p, size_t size, size_t count, void *ud)
{
	bxc_http_response *t = ud;
	size_t n = (size_t)BXC_MIN((uint64_t)(size * count), t->body_len - t->body_pos);
	if (n == 0)
		return 0;
	if (t->body) {
		memcpy(p, t->body + t->body_pos, n);
	} else {
		ssize_t got;
		do
			got = pread(t->body_fd, p, n, (off_t)(t->body_off + t->body_pos));
		while (got < 0 && errno == EINTR);
		if (got <= 0) {
			if (got < 0)
				bxc_err_errno(&t->own_err, errno, "read the body to send");
			else
				bxc_err_set(&t->own_err, BXC_DATA_LOSS,
					"the file to send is shorter than %llu bytes",
					(unsigned long long)t->body_len);
			return CURL_READFUNC_ABORT;
		}
		n = (size_t)got;
	}
	t->body_pos += n;
	if (t->wants_sent) {
		pthread_mutex_lock(&t->lock);
		t->sent = t->body_pos;
		pthread_cond_broadcast(&t->changed);
		pthread_mutex_unlock(&t->lock);
	}
	return n;
}

/* libcurl sends anew when a kept-alive connection turns out to be dead. */
static int on_seek(void *ud, curl_off_t offset, int origin)
{
	bxc_http_response *t = ud;
	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->body_len)
		return CURL_SEEKFUNC_FAIL;
	t->body_pos = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* ---- options ---- */

static long ms_of(int64_t ns)
{
	return (long)BXC_MAX((ns + BXC_NS_PER_MS - 1) / BXC_NS_PER_MS, (int64_t)1);
}

void bxc_http__setup(bxc_http_client *c, bxc_http_response *t, CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->errbuf);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(
		easy, CURLOPT_QUICK_EXIT, 1L); /* do not wait for the resolver when canceled */
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_URL, t->url);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, c->user_agent);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->headers);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)HTTP_CURL_BUF);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)HTTP_CURL_BUF);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, ms_of(c->connect_timeout_ns));
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (ms_of(c->stall_timeout_ns) + 999) / 1000);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, t->follow ? 1L : 0L);
	curl_easy_setopt(easy, CURLOPT_MAXREDIRS, MAX_REDIRECTS);
	if (c->ca_file) {
		/* This authority and no other: not those of the system's folder beside it. */
		curl_easy_setopt(easy, CURLOPT_CAINFO, c->ca_file);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
	if (c->cert_file) {
		curl_easy_setopt(easy, CURLOPT_SSLCERT, c->cert_file);
		curl_easy_setopt(easy, CURLOPT_SSLKEY, c->key_file);
	}
	if (t->insecure_tls) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (t->unix_path)
		curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, t->unix_path);
	if (t->no_proxy)
		curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	if (t->range)
		curl_easy_setopt(easy, CURLOPT_RANGE, t->range);
	if (t->is_head) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	} else if (t->has_body) {
		curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_upload);
		curl_easy_setopt(easy, CURLOPT_READDATA, t);
		curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(easy, CURLOPT_SEEKDATA, t);
		curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->body_len);
	}
	if (!t->is_head && (!t->is_get || t->has_body))
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, t->method);
}

/* ---- results ---- */

static const struct {
	CURLcode rc;
	bxc_code code;
	const char *phase;
} results[] = {
	{CURLE_COULDNT_RESOLVE_PROXY, BXC_UNAVAILABLE, "connect"},
	{CURLE_COULDNT_RESOLVE_HOST, BXC_UNAVAILABLE, "connect"},
	{CURLE_COULDNT_CONNECT, BXC_UNAVAILABLE, "connect"},
	{CURLE_PROXY, BXC_UNAVAILABLE, "connect"},
	{CURLE_SSL_CONNECT_ERROR, BXC_UNAVAILABLE, "tls"},
	{CURLE_PEER_FAILED_VERIFICATION, BXC_PERMISSION_DENIED, "tls"},
	{CURLE_SSL_CERTPROBLEM, BXC_PERMISSION_DENIED, "tls"},
	{CURLE_SSL_CACERT_BADFILE, BXC_PERMISSION_DENIED, "tls"},
	{CURLE_SSL_ISSUER_ERROR, BXC_PERMISSION_DENIED, "tls"},
	{CURLE_URL_MALFORMAT, BXC_INVALID_ARGUMENT, "transfer"},
	{CURLE_TOO_MANY_REDIRECTS, BXC_FAILED_PRECONDITION, "transfer"},
	{CURLE_OUT_OF_MEMORY, BXC_RESOURCE_EXHAUSTED, "transfer"},
};

/* The plain cause, as people know it. Owned. */
static char *reason_of(const bxc_http_response *t, CURLcode rc, const char *phase)
{
	long errnum = 0;
	if (rc == CURLE_COULDNT_CONNECT)
		curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &errnum);
	if (errnum > 0) {
		char text[128];
		return bxc_strdup(strerror_r((int)errnum, text, sizeof(text)));
	}
	if (rc == CURLE_OPERATION_TIMEDOUT)
		return bxc_strdup(bxc_str_eq(phase, "connect")
					  ? "no answer within the time for connecting"
					  : "no data within the time for stalled transfers");
	BXC_AUTOFREE char *copy = bxc_strdup(t->errbuf[0] ? t->errbuf : curl_easy_strerror(rc));
	return bxc_strdup(bxc_str_trim(copy));
}

bxc_err *bxc_http__error_of(bxc_http_response *t, CURLcode rc)
{
	if (rc == CURLE_OK)
		return NULL;
	if (t->own_err)
		return BXC_TAKE(t->own_err);
	bxc_code code = BXC_UNAVAILABLE;
	const char *phase = "transfer";
	for (size_t i = 0; i < BXC_ARRAY_SIZE(results); i++) {
		if (results[i].rc == rc) {
			code = results[i].code;
			phase = results[i].phase;
		}
	}
	if (rc == CURLE_OPERATION_TIMEDOUT) {
		curl_off_t connected_us = 0;
		curl_easy_getinfo(t->easy, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
		phase = connected_us ? "transfer" : "connect";
	}
	BXC_AUTOFREE char *reason = reason_of(t, rc, phase);
	bxc_err *e = NULL;
	if (bxc_str_eq(phase, "transfer"))
		bxc_err_set(&e, code, "transfer with '%s' failed: %s", t->peer, reason);
	else
		bxc_err_set(&e, code, "'%s' cannot be reached: %s", t->peer, reason);
	bxc_err_detail(e, "phase", "%s", phase);
	bxc_err_detail(e, "reason", "%s", reason);
	return e;
}
