/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events: a response whose bytes come when there are any; the connection sleeps between. */
#include "common/httpd/httpd_internal.h"

#include <string.h>

#include "common/base/mem.h"

#define SSE_BUFFER (4u << 20)

void httpd_sse_unref(bxc_httpd_sse *s)
{
	if (__atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	bxc_buf_done(&s->out);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static ssize_t on_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	bxc_httpd_sse *s = cls;
	ssize_t n;
	(void)pos;
	pthread_mutex_lock(&s->lock);
	if (s->out.len) {
		size_t k = BXC_MIN(max, s->out.len);
		memcpy(buf, s->out.data, k);
		bxc_buf_drop_front(&s->out, k);
		n = (ssize_t)k;
	} else if (s->ended) {
		n = MHD_CONTENT_READER_END_OF_STREAM;
	} else {
		/* Returning nothing without sleeping would spin. */
		s->suspended = true;
		MHD_suspend_connection(s->conn);
		n = 0;
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void on_free(void *cls)
{
	bxc_httpd_sse *s = cls;
	pthread_mutex_lock(&s->lock);
	s->gone = true;
	pthread_mutex_unlock(&s->lock);
	httpd_sse_unref(s);
}

bxc_httpd_sse *bxc_httpd_reply_sse(bxc_httpd_req *r)
{
	bxc_httpd_sse *s = bxc_calloc(1, sizeof(*s));
	s->refs = 3;                 /* the writer's, the response's, the request's */
	s->conn = r->conn;
	bxc_buf_init(&s->out, SSE_BUFFER);
	pthread_mutex_init(&s->lock, NULL);
	struct MHD_Response *resp = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, on_read, s, on_free);
	bxc_check(resp);
	MHD_add_response_header(resp, "Content-Type", "text/event-stream");
	MHD_add_response_header(resp, "Cache-Control", "no-store");
	pthread_mutex_lock(&r->lock);
	r->sse = s;
	pthread_mutex_unlock(&r->lock);
	httpd_set_response(r, 200, resp, NULL);
	return s;
}

/* Under the lock: the connection goes on if it slept. */
static void wake(bxc_httpd_sse *s)
{
	if (!s->suspended || s->gone)
		return;
	s->suspended = false;
	MHD_resume_connection(s->conn);
}

static int put(bxc_httpd_sse *s, const bxc_buf *text)
{
	int r = 0;
	pthread_mutex_lock(&s->lock);
	if (s->gone || s->ended) {
		r = -BXC_CANCELED;
	} else if (bxc_buf_append(&s->out, text->data, text->len, NULL) < 0) {
		/* A reader that is slower than this is cut off. */
		s->ended = true;
		bxc_buf_clear(&s->out);
		wake(s);
		r = -BXC_CANCELED;
	} else {
		wake(s);
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

int bxc_httpd_sse_send(bxc_httpd_sse *s, uint64_t id, const char *event, const char *data)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(SSE_BUFFER);
	if (strlen(data) > SSE_BUFFER / 2)
		return -BXC_CANCELED;
	bxc_buf_addf(&b, "id: %llu\nevent: %s\n", (unsigned long long)id, event);
	for (const char *line = data;;) {
		size_t n = strcspn(line, "\n");
		bxc_buf_adds(&b, "data: ");
		bxc_buf_add(&b, line, n);
		bxc_buf_addc(&b, '\n');
		if (!line[n])
			break;
		line += n + 1;
	}
	bxc_buf_addc(&b, '\n');
	return put(s, &b);
}

int bxc_httpd_sse_ping(bxc_httpd_sse *s)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(64);
	bxc_buf_adds(&b, ": ping\n\n");
	return put(s, &b);
}

void bxc_httpd_sse_end(bxc_httpd_sse *s)
{
	pthread_mutex_lock(&s->lock);
	s->ended = true;
	wake(s);
	pthread_mutex_unlock(&s->lock);
	httpd_sse_unref(s);
}

void httpd_sse_abandon(bxc_httpd_sse *s)
{
	pthread_mutex_lock(&s->lock);
	s->ended = true;
	wake(s);
	pthread_mutex_unlock(&s->lock);
}
