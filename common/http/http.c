/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread drives all transfers of a client. A transfer is a small object shared between that
 * thread and the caller: the header, a bounded pipe of body bytes, and how it ended.
 */
#include "common/http/http_internal.h"

#include <poll.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define PIPE_BYTES     (1u << 20)
#define HEADERS_MAX    (64u << 10)
#define CONNECT_NS     (10 * BXC_NS_PER_S)
#define STALL_NS       (60 * BXC_NS_PER_S)
#define MAX_PER_HOST   8L
#define MAX_REDIRECTS  10L

/* ---- callbacks of curl, on the client's thread ---- */

static size_t on_body(char *p, size_t size, size_t n, void *ud)
{
	bxc_http_response *t = ud;
	size_t len = size * n;
	pthread_mutex_lock(&t->lock);
	if (t->abandoned) {
		pthread_mutex_unlock(&t->lock);
		return 0;
	}
	if (t->body.len - t->taken + len > PIPE_BYTES) {
		t->paused = true;
		pthread_mutex_unlock(&t->lock);
		return CURL_WRITEFUNC_PAUSE;
	}
	if (t->taken) {
		bxc_buf_drop_front(&t->body, t->taken);
		t->taken = 0;
	}
	t->headers_done = true;
	bxc_buf_add(&t->body, p, len);
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	return len;
}

static size_t on_header(char *p, size_t size, size_t n, void *ud)
{
	bxc_http_response *t = ud;
	size_t len = size * n;
	pthread_mutex_lock(&t->lock);
	if (len >= 5 && memcmp(p, "HTTP/", 5) == 0) {
		/* A new block: after a redirect, or 100 Continue. */
		bxc_strv_free(t->headers);
		t->headers = NULL;
		t->header_bytes = 0;
	} else if (len > 2 && t->header_bytes + len <= HEADERS_MAX) {
		size_t k = len;
		while (k && (p[k - 1] == '\r' || p[k - 1] == '\n'))
			k--;
		t->header_bytes += len;
		bxc_strv_push_take(&t->headers, bxc_strndup(p, k));
	}
	pthread_mutex_unlock(&t->lock);
	return len;
}

static size_t on_upload(char *p, size_t size, size_t n, void *ud)
{
	bxc_http_response *t = ud;
	size_t want = (size_t)BXC_MIN((uint64_t)(size * n), t->send_len - t->sent);
	if (want == 0)
		return 0;
	if (t->body_fd >= 0) {
		ssize_t k = pread(t->body_fd, p, want, (off_t)(t->send_off + t->sent));
		if (k <= 0)
			return CURL_READFUNC_ABORT;
		want = (size_t)k;
	} else {
		memcpy(p, t->send + t->sent, want);
	}
	t->sent += want;
	return want;
}

static int on_seek(void *ud, curl_off_t offset, int origin)
{
	bxc_http_response *t = ud;
	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->send_len)
		return CURL_SEEKFUNC_FAIL;
	t->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* ---- the thread ---- */

static bxc_code code_of(CURLcode c)
{
	switch ((int)c) {
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return BXC_INVALID_ARGUMENT;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_ISSUER_ERROR:
		return BXC_PERMISSION_DENIED;
	case CURLE_TOO_MANY_REDIRECTS:
		return BXC_FAILED_PRECONDITION;
	default:
		return BXC_UNAVAILABLE;
	}
}

static void ended(bxc_http_response *t, CURLcode result)
{
	long status = 0;
	char *url = NULL;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(t->easy, CURLINFO_EFFECTIVE_URL, &url);
	pthread_mutex_lock(&t->lock);
	t->status = (int)status;
	free(t->effective_url);
	t->effective_url = bxc_strdup(url ? url : "");
	t->done = true;
	t->headers_done = true;
	if (result != CURLE_OK && !t->err) {
		const char *why = t->error_text[0] ? t->error_text : curl_easy_strerror(result);
		bool late = t->deadline_ns && bxc_clock_mono_ns() >= t->deadline_ns;
		bxc_ignore(bxc_err_set(&t->err, late ? BXC_DEADLINE_EXCEEDED : code_of(result), "%s", why));
	}
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

static void unref(bxc_http_response *t)
{
	if (__atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (t->easy)
		curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->list);
	bxc_buf_done(&t->body);
	bxc_strv_free(t->headers);
	bxc_err_free(t->err);
	pthread_mutex_destroy(&t->lock);
	pthread_cond_destroy(&t->changed);
	if (t->send)
		explicit_bzero(t->send, (size_t)t->send_len);
	free(t->send);
	free(t->url);
	free(t->effective_url);
	free(t);
}

static void take_out(bxc_http_client *c, bxc_http_response *t)
{
	for (size_t i = 0; i < c->running.n; i++) {
		if (c->running.v[i] == t) {
			bxc_arr_remove(&c->running, i);
			curl_multi_remove_handle(c->multi, t->easy);
			unref(t);
			return;
		}
	}
}

/* What callers have asked for since the last turn. */
static void take_orders(bxc_http_client *c)
{
	pthread_mutex_lock(&c->lock);
	while (c->starting.n) {
		bxc_http_response *t = c->starting.v[0];
		bxc_arr_remove(&c->starting, 0);
		pthread_mutex_unlock(&c->lock);
		*bxc_arr_push(&c->running) = t;
		if (curl_multi_add_handle(c->multi, t->easy) != CURLM_OK) {
			ended(t, CURLE_FAILED_INIT);
			take_out(c, t);
		}
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	for (size_t i = c->running.n; i-- > 0;) {
		bxc_http_response *t = c->running.v[i];
		pthread_mutex_lock(&t->lock);
		bool resume = t->paused && t->body.len - t->taken <= PIPE_BYTES / 2;
		bool gone = t->abandoned;
		if (resume)
			t->paused = false;
		pthread_mutex_unlock(&t->lock);
		if (gone) {
			ended(t, CURLE_ABORTED_BY_CALLBACK);
			take_out(c, t);
		} else if (resume) {
			curl_easy_pause(t->easy, CURLPAUSE_CONT);
		}
	}
}

static void *client_thread(void *ud)
{
	bxc_http_client *c = ud;
	for (;;) {
		int n;
		pthread_mutex_lock(&c->lock);
		bool stop = c->stop;
		pthread_mutex_unlock(&c->lock);
		if (stop)
			break;
		take_orders(c);
		curl_multi_perform(c->multi, &n);
		CURLMsg *m;
		while ((m = curl_multi_info_read(c->multi, &n))) {
			if (m->msg != CURLMSG_DONE)
				continue;
			bxc_http_response *t = NULL;
			CURLcode result = m->data.result;
			curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
			ended(t, result);
			take_out(c, t);
		}
		curl_multi_poll(c->multi, NULL, 0, 1000, NULL);
	}
	while (c->running.n) {
		ended(c->running.v[0], CURLE_ABORTED_BY_CALLBACK);
		take_out(c, c->running.v[0]);
	}
	return NULL;
}

/* ---- clients ---- */

static pthread_once_t global_once = PTHREAD_ONCE_INIT;

static void global_init(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

int bxc_http_client_new(const bxc_http_client_config *cfg, bxc_http_client **ret, bxc_err **err)
{
	pthread_once(&global_once, global_init);
	bxc_http_client *c = bxc_calloc(1, sizeof(*c));
	c->user_agent = bxc_strdup(cfg->user_agent ? cfg->user_agent : "bxc/" BXC_VERSION);
	c->ca_file = bxc_strdup(cfg->ca_file);
	c->cert_file = bxc_strdup(cfg->cert_file);
	c->key_file = bxc_strdup(cfg->key_file);
	c->connect_ns = cfg->connect_timeout_ns ? cfg->connect_timeout_ns : CONNECT_NS;
	c->stall_ns = cfg->stall_timeout_ns ? cfg->stall_timeout_ns : STALL_NS;
	pthread_mutex_init(&c->lock, NULL);
	c->multi = curl_multi_init();
	bxc_check(c->multi);
	curl_multi_setopt(c->multi, CURLMOPT_MAX_HOST_CONNECTIONS, MAX_PER_HOST);
	if (pthread_create(&c->thread, NULL, client_thread, c) != 0) {
		curl_multi_cleanup(c->multi);
		free(c);
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "no thread for HTTP transfers");
	}
	*ret = c;
	return 0;
}

void bxc_http_client_free(bxc_http_client *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_mutex_unlock(&c->lock);
	curl_multi_wakeup(c->multi);
	pthread_join(c->thread, NULL);
	BXC_ARR_FOREACH (t, &c->starting)
		unref(*t);
	bxc_arr_done(&c->starting);
	bxc_arr_done(&c->running);
	curl_multi_cleanup(c->multi);
	pthread_mutex_destroy(&c->lock);
	free(c->user_agent);
	free(c->ca_file);
	free(c->cert_file);
	free(c->key_file);
	free(c);
}

/* ---- requests ---- */

static void add_header(bxc_http_response *t, const char *line)
{
	t->list = curl_slist_append(t->list, line);
}

static void add_secret(bxc_http_response *t, const char *prefix, bxc_slice s)
{
	char *line = bxc_str_fmt("%s%.*s", prefix, (int)s.n, (const char *)s.p);
	add_header(t, line);
	explicit_bzero(line, strlen(line));
	free(line);
}

static void set_method(bxc_http_response *t, const bxc_http_request *q)
{
	CURL *e = t->easy;
	bool get = bxc_str_eq(q->method, "GET"), head = bxc_str_eq(q->method, "HEAD");
	bool body = q->has_body_fd || q->body.n || bxc_str_eq(q->method, "PUT") || bxc_str_eq(q->method, "POST") || bxc_str_eq(q->method, "PATCH");
	if (head) {
		curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
		return;
	}
	if (get)
		return;
	if (body) {
		t->body_fd = q->has_body_fd ? q->body_fd : -1;
		t->send_off = q->body_off;
		t->send_len = q->has_body_fd ? q->body_len : q->body.n;
		if (!q->has_body_fd && q->body.n)
			t->send = bxc_memdup(q->body.p, q->body.n);
		curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(e, CURLOPT_READFUNCTION, on_upload);
		curl_easy_setopt(e, CURLOPT_READDATA, t);
		curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(e, CURLOPT_SEEKDATA, t);
		curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->send_len);
		add_header(t, "Expect:");
	}
	curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, q->method);
}

static void prepare(bxc_http_client *c, bxc_http_response *t, const bxc_http_request *q)
{
	CURL *e = t->easy;
	bool follow = (bxc_str_eq(q->method, "GET") || bxc_str_eq(q->method, "HEAD")) && !q->no_redirect;
	curl_easy_setopt(e, CURLOPT_PRIVATE, t);
	curl_easy_setopt(e, CURLOPT_URL, t->url);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_USERAGENT, c->user_agent);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->error_text);
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(c->connect_ns / BXC_NS_PER_MS));
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)BXC_MAX(c->stall_ns / BXC_NS_PER_S, (int64_t)1));
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, follow ? 1L : 0L);
	curl_easy_setopt(e, CURLOPT_MAXREDIRS, MAX_REDIRECTS);
	if (c->ca_file)
		curl_easy_setopt(e, CURLOPT_CAINFO, c->ca_file);
	if (c->cert_file) {
		curl_easy_setopt(e, CURLOPT_SSLCERT, c->cert_file);
		curl_easy_setopt(e, CURLOPT_SSLKEY, c->key_file);
	}
	if (q->insecure_tls) {
		curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (q->unix_path) {
		curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, q->unix_path);
		curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
	}
	if (q->deadline_ns) {
		int64_t left = q->deadline_ns - bxc_clock_mono_ns();
		curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)BXC_MAX(left / BXC_NS_PER_MS, (int64_t)1));
		t->deadline_ns = q->deadline_ns;
	}
	for (char *const *h = q->headers; h && *h; h++)
		add_header(t, *h);
	if (q->has_range) {
		BXC_AUTOFREE char *r = q->range_last == UINT64_MAX
			? bxc_str_fmt("Range: bytes=%llu-", (unsigned long long)q->range_first)
			: bxc_str_fmt("Range: bytes=%llu-%llu", (unsigned long long)q->range_first, (unsigned long long)q->range_last);
		add_header(t, r);
	}
	/* Credentials as curl's own options: it does not carry them to another host. */
	if (q->bearer)
		add_secret(t, "Authorization: Bearer ", bxc_secret_bytes(q->bearer));
	if (q->basic) {
		bxc_slice s = bxc_secret_bytes(q->basic);
		curl_easy_setopt(e, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
		curl_easy_setopt(e, CURLOPT_USERPWD, (const char *)s.p);
	}
	set_method(t, q);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->list);
}

static void wake_canceled(void *ud)
{
	bxc_http_response *t = ud;
	pthread_mutex_lock(&t->lock);
	if (!t->err)
		bxc_ignore(bxc_err_set(&t->err, BXC_CANCELED, "canceled"));
	t->abandoned = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	curl_multi_wakeup(t->client->multi);
}

static int failure(const bxc_http_response *t, bxc_err **err)
{
	return bxc_err_set(err, bxc_err_code(t->err), "%s", bxc_err_text(t->err));
}

int bxc_http_start(bxc_http_client *c, const bxc_http_request *q, bxc_cancel *cancel, bxc_http_response **ret, bxc_err **err)
{
	bxc_http_response *t = bxc_calloc(1, sizeof(*t));
	t->refs = 2;                 /* the caller's and the client's */
	t->client = c;
	t->body_fd = -1;
	bxc_buf_init(&t->body, 2 * PIPE_BYTES);
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->changed, NULL);
	t->url = bxc_strdup(q->url);
	t->easy = curl_easy_init();
	bxc_check(t->easy);
	prepare(c, t, q);
	if (cancel) {
		t->cancel = bxc_cancel_ref(cancel);
		t->hook = bxc_cancel_hook(cancel, wake_canceled, t);
	}
	pthread_mutex_lock(&c->lock);
	*bxc_arr_push(&c->starting) = t;
	pthread_mutex_unlock(&c->lock);
	curl_multi_wakeup(c->multi);
	pthread_mutex_lock(&t->lock);
	/* The final header block is complete once body bytes come, or the end. */
	while (!t->headers_done && !(t->abandoned && t->err))
		pthread_cond_wait(&t->changed, &t->lock);
	int r = 0;
	if (t->err)
		r = failure(t, err);
	pthread_mutex_unlock(&t->lock);
	if (r < 0) {
		bxc_http_response_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

int bxc_http_status(const bxc_http_response *r)
{
	bxc_http_response *t = (bxc_http_response *)(uintptr_t)r;
	pthread_mutex_lock(&t->lock);
	int s = t->status;
	if (!s) {
		long code = 0;
		/* Set by curl before the first body byte came through. */
		curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &code);
		s = (int)code;
	}
	pthread_mutex_unlock(&t->lock);
	return s;
}

const char *bxc_http_header_at(const bxc_http_response *r, const char *name, size_t i)
{
	size_t n = strlen(name);
	for (char **h = r->headers; h && *h; h++) {
		if (strncasecmp(*h, name, n) != 0 || (*h)[n] != ':')
			continue;
		if (i-- > 0)
			continue;
		const char *v = *h + n + 1;
		while (*v == ' ' || *v == '\t')
			v++;
		return v;
	}
	return NULL;
}

const char *bxc_http_header(const bxc_http_response *r, const char *name)
{
	return bxc_http_header_at(r, name, 0);
}

int64_t bxc_http_content_length(const bxc_http_response *r)
{
	uint64_t n;
	const char *s = bxc_http_header(r, "Content-Length");
	return s && bxc_str_to_u64(s, 0, INT64_MAX, &n, NULL) >= 0 ? (int64_t)n : -1;
}

const char *bxc_http_effective_url(const bxc_http_response *r)
{
	return r->effective_url ? r->effective_url : r->url;
}

ssize_t bxc_http_read(bxc_http_response *t, void *p, size_t n, bxc_err **err)
{
	ssize_t r;
	bool wake = false;
	pthread_mutex_lock(&t->lock);
	while (t->body.len == t->taken && !t->done && !t->abandoned)
		pthread_cond_wait(&t->changed, &t->lock);
	size_t have = t->body.len - t->taken;
	if (have && !(t->abandoned && t->err)) {
		size_t k = BXC_MIN(n, have);
		memcpy(p, t->body.data + t->taken, k);
		t->taken += k;
		wake = t->paused && t->body.len - t->taken <= PIPE_BYTES / 2;
		r = (ssize_t)k;
	} else {
		r = t->err ? failure(t, err) : 0;
	}
	pthread_mutex_unlock(&t->lock);
	if (wake)
		curl_multi_wakeup(t->client->multi);
	return r;
}

int bxc_http_read_all(bxc_http_response *r, bxc_buf *out, bxc_err **err)
{
	uint8_t chunk[16384];
	for (;;) {
		ssize_t n = bxc_http_read(r, chunk, sizeof(chunk), err);
		if (n <= 0)
			return (int)n;
		int k = bxc_buf_append(out, chunk, (size_t)n, err);
		if (k < 0)
			return k;
	}
}

void bxc_http_response_free(bxc_http_response *t)
{
	if (!t)
		return;
	if (t->cancel) {
		bxc_cancel_unhook(t->cancel, t->hook);
		bxc_cancel_unref(t->cancel);
		t->cancel = NULL;
	}
	pthread_mutex_lock(&t->lock);
	bool running = !t->done;
	t->abandoned = true;
	pthread_mutex_unlock(&t->lock);
	if (running)
		curl_multi_wakeup(t->client->multi);
	/* The body's descriptor is borrowed: the transfer must have let go of it. */
	pthread_mutex_lock(&t->lock);
	while (t->body_fd >= 0 && !t->done)
		pthread_cond_wait(&t->changed, &t->lock);
	pthread_mutex_unlock(&t->lock);
	unref(t);
}

int bxc_http_do(bxc_http_client *c, const bxc_http_request *q, bxc_cancel *cancel, bxc_http_response **ret, bxc_buf *out_body, bxc_err **err)
{
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *t = NULL;
	int r = bxc_http_start(c, q, cancel, &t, err);
	if (r >= 0)
		r = bxc_http_read_all(t, out_body, err);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(t);
	return 0;
}
