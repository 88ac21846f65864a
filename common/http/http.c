/* SPDX-License-Identifier: Apache-2.0 */
/* The blocking side: callers wait on the response object that the client's thread fills. */
#include "common/http/http_internal.h"

#include <string.h>
#include <strings.h>

#include "common/base/mem.h"
#include "common/base/str.h"

/* May run inside bxc_http_start, when the token was fired before. */
static void on_cancel(void *ud)
{
	bxc_http_response *t = ud;
	pthread_mutex_lock(&t->lock);
	if (!t->is_finished)
		bxc_http__command(t, HTTP_CMD_CANCEL);
	pthread_mutex_unlock(&t->lock);
}

/* Waits for the header; tells how much was sent, on this thread and without the lock. */
static void wait_ready(bxc_http_response *t, const bxc_http_request *q)
{
	uint64_t told = 0;
	pthread_mutex_lock(&t->lock);
	while (!t->is_ready && !t->is_finished) {
		if (q->on_sent && t->sent != told) {
			told = t->sent;
			pthread_mutex_unlock(&t->lock);
			q->on_sent(told, q->on_sent_ud);
			pthread_mutex_lock(&t->lock);
			continue;
		}
		pthread_cond_wait(&t->changed, &t->lock);
	}
	uint64_t sent = t->sent;
	pthread_mutex_unlock(&t->lock);
	if (q->on_sent && sent != told)
		q->on_sent(sent, q->on_sent_ud);
}

int bxc_http_start(bxc_http_client *c, const bxc_http_request *q, bxc_cancel *cancel,
	bxc_http_response **ret, bxc_err **err)
{
	bxc_http_response *t = NULL;
	int r = bxc_cancel_check(cancel, err);
	if (r >= 0)
		r = bxc_http__request_init(c, q, &t, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&t->lock);
	bxc_http__command(t, HTTP_CMD_START);
	pthread_mutex_unlock(&t->lock);
	t->cancel = bxc_cancel_ref(cancel);
	t->hook = bxc_cancel_hook(cancel, on_cancel, t);
	wait_ready(t, q);
	pthread_mutex_lock(&t->lock);
	if (!t->is_ready)
		r = bxc_err_move(err, BXC_TAKE(t->err));
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
	return r->status;
}

const char *bxc_http_header_at(const bxc_http_response *r, const char *name, size_t i)
{
	size_t n = strlen(name);
	for (char *const *l = r->header_lines; l && *l; l++) {
		if (strncasecmp(*l, name, n) != 0 || (*l)[n] != ':')
			continue;
		if (i-- == 0)
			return *l + n + 1 + strspn(*l + n + 1, " \t");
	}
	return NULL;
}

const char *bxc_http_header(const bxc_http_response *r, const char *name)
{
	return bxc_http_header_at(r, name, 0);
}

int64_t bxc_http_content_length(const bxc_http_response *r)
{
	int64_t n;
	const char *s = bxc_http_header(r, "Content-Length");
	return s && bxc_str_to_i64(s, 0, INT64_MAX, &n, NULL) >= 0 ? n : -1;
}

const char *bxc_http_effective_url(const bxc_http_response *r)
{
	return r->effective_url;
}

/* The error stays with the response: reading again says the same. Called with the lock. */
static int failure(const bxc_http_response *t, bxc_err **err)
{
	if (!err)
		return -(int)bxc_err_code(t->err);
	return bxc_err_move(err, bxc_err_copy(t->err));
}

static size_t pipe_take(bxc_http_response *t, uint8_t *p, size_t n)
{
	n = BXC_MIN(n, t->pipe_used);
	size_t head = BXC_MIN(n, t->pipe_cap - t->pipe_start);
	memcpy(p, t->pipe + t->pipe_start, head);
	memcpy(p + head, t->pipe, n - head);
	t->pipe_start = (t->pipe_start + n) % t->pipe_cap;
	t->pipe_used -= n;
	return n;
}

ssize_t bxc_http_read(bxc_http_response *t, void *p, size_t n, bxc_err **err)
{
	ssize_t ret = 0;
	if (n == 0)
		return 0;
	pthread_mutex_lock(&t->lock);
	while (t->pipe_used == 0 && !t->is_finished)
		pthread_cond_wait(&t->changed, &t->lock);
	bxc_code code = bxc_err_code(t->err);
	if (code == BXC_CANCELED || code == BXC_DEADLINE_EXCEEDED ||
		(t->pipe_used == 0 && t->err)) {
		ret = failure(t, err);
	} else if (t->pipe_used) {
		ret = (ssize_t)pipe_take(t, p, n);
		if (t->is_paused && !t->is_finished && t->pipe_used <= HTTP_PIPE_MAX / 2)
			bxc_http__command(t, HTTP_CMD_RESUME);
	}
	pthread_mutex_unlock(&t->lock);
	return ret;
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
			return bxc_err_wrap(err, k, "answer of '%s'", r->peer);
	}
}

void bxc_http_response_free(bxc_http_response *t)
{
	if (!t)
		return;
	/* Waits for a running hook, which takes the lock. */
	bxc_cancel_unhook(t->cancel, t->hook);
	pthread_mutex_lock(&t->lock);
	if (!t->is_finished)
		bxc_http__command(t, HTTP_CMD_ABORT);
	/* The thread must have let go of the borrowed descriptor and of the object. */
	while (!t->is_finished)
		pthread_cond_wait(&t->changed, &t->lock);
	pthread_mutex_unlock(&t->lock);
	bxc_http__response_destroy(t);
}

int bxc_http_do(bxc_http_client *c, const bxc_http_request *q, bxc_cancel *cancel,
	bxc_http_response **ret, bxc_buf *out_body, bxc_err **err)
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
