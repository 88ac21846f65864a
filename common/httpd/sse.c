/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events (WHATWG HTML, 9.2). The daemon pulls bytes through a callback; when there are
 * none the connection sleeps until a writer adds some. A sleeping connection does not notice that
 * its client left: the next write does, hence the pings.
 */
#include "common/httpd/httpd_internal.h"

#include <stdatomic.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define PENDING_MAX (4u << 20)
#define BLOCK	    (32u << 10)

/* Owners: the writer, the response, and the request (for stop). */
struct bxc_httpd_sse {
	_Atomic uint32_t refs;
	pthread_mutex_t lock;	     /* protects the rest */
	struct MHD_Connection *conn; /* valid until is_gone */
	bxc_buf pending;
	size_t taken; /* of pending */
	bool is_suspended, is_ended, is_cut, is_gone;
};

void bxc_httpd__sse_unref(bxc_httpd_sse *s)
{
	uint32_t n = atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel);
	bxc_check(n > 0);
	if (n > 1)
		return;
	bxc_buf_done(&s->pending);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* With the lock held. */
static void wake(bxc_httpd_sse *s)
{
	if (!s->is_suspended)
		return;
	s->is_suspended = false;
	MHD_resume_connection(s->conn);
}

static ssize_t on_pull(void *cls, uint64_t pos, char *buf, size_t max)
{
	bxc_httpd_sse *s = cls;
	ssize_t ret = 0;
	(void)pos;
	pthread_mutex_lock(&s->lock);
	size_t n = BXC_MIN(max, s->pending.len - s->taken);
	if (s->is_cut) {
		ret = MHD_CONTENT_READER_END_WITH_ERROR;
	} else if (n) {
		memcpy(buf, s->pending.data + s->taken, n);
		s->taken += n;
		if (s->taken == s->pending.len) {
			bxc_buf_clear(&s->pending);
			s->taken = 0;
		}
		ret = (ssize_t)n;
	} else if (s->is_ended) {
		ret = MHD_CONTENT_READER_END_OF_STREAM;
	} else {
		/* Nothing without sleeping would be asked again at once. */
		s->is_suspended = true;
		MHD_suspend_connection(s->conn);
	}
	pthread_mutex_unlock(&s->lock);
	return ret;
}

/* The response is gone: sent, broken off, or never queued. */
static void on_response_free(void *cls)
{
	bxc_httpd_sse *s = cls;
	pthread_mutex_lock(&s->lock);
	s->is_gone = true;
	s->conn = NULL;
	pthread_mutex_unlock(&s->lock);
	bxc_httpd__sse_unref(s);
}

bxc_httpd_sse *bxc_httpd_reply_sse(bxc_httpd_req *r)
{
	bxc_httpd_sse *s = bxc_calloc(1, sizeof(*s));
	atomic_init(&s->refs, 2);
	bxc_check(pthread_mutex_init(&s->lock, NULL) == 0);
	/* Twice the bound, as what was taken stays in front of it for a while. */
	bxc_buf_init(&s->pending, (size_t)2 * PENDING_MAX);
	struct MHD_Response *response = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, BLOCK, on_pull, s, on_response_free);
	bxc_check(response != NULL);
	MHD_add_response_header(response, "Content-Type", "text/event-stream");
	MHD_add_response_header(response, "Cache-Control", "no-store");
	MHD_add_response_header(response, "X-Accel-Buffering", "no");
	pthread_mutex_lock(&r->lock);
	if (!r->is_answered && !r->is_closed) {
		s->conn = r->conn;
		/* Stop has perhaps walked by: an event stream that slept now would never wake. */
		s->is_ended = atomic_load(&r->h->is_stopping);
		atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
		r->sse = s;
	}
	pthread_mutex_unlock(&r->lock);
	bxc_httpd__answer(r, 200, response);
	return s;
}

static int append(bxc_httpd_sse *s, const char *text, size_t n)
{
	int r = 0;
	pthread_mutex_lock(&s->lock);
	size_t waiting = s->pending.len - s->taken;
	if (s->is_gone || s->is_cut || s->is_ended) {
		r = -BXC_CANCELED;
	} else if (n > PENDING_MAX - waiting) {
		/* The client reads slower than events come: it may attach again after the last it
		 * saw. */
		s->is_cut = true;
		wake(s);
		r = -BXC_CANCELED;
	} else {
		if (s->taken && s->pending.len + n > PENDING_MAX) {
			bxc_buf_drop_front(&s->pending, s->taken);
			s->taken = 0;
		}
		bxc_buf_add(&s->pending, text, n);
		wake(s);
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

int bxc_httpd_sse_send(bxc_httpd_sse *s, uint64_t id, const char *event, const char *data)
{
	size_t lines = 1;
	for (const char *c = data; *c; c++)
		lines += *c == '\n' || *c == '\r';
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(strlen(data) + 8 * lines + strlen(event) + 64);
	bxc_buf_addf(&b, "id: %llu\nevent: %s\n", (unsigned long long)id, event);
	for (;;) {
		size_t k = strcspn(data, "\r\n");
		bxc_buf_adds(&b, "data: ");
		bxc_buf_add(&b, data, k);
		bxc_buf_addc(&b, '\n');
		if (!data[k])
			break;
		data += k + (data[k] == '\r' && data[k + 1] == '\n' ? 2 : 1);
	}
	bxc_buf_addc(&b, '\n');
	return append(s, bxc_buf_text(&b), b.len);
}

int bxc_httpd_sse_ping(bxc_httpd_sse *s)
{
	static const char text[] = ": ping\n\n";
	return append(s, text, sizeof(text) - 1);
}

void bxc_httpd__sse_shut(bxc_httpd_sse *s)
{
	pthread_mutex_lock(&s->lock);
	s->is_ended = true;
	wake(s);
	pthread_mutex_unlock(&s->lock);
}

void bxc_httpd_sse_end(bxc_httpd_sse *s)
{
	bxc_httpd__sse_shut(s);
	bxc_httpd__sse_unref(s);
}
