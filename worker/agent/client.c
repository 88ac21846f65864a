/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a step needs of the client: values of secrets, and connections to SSH agents. Each is a
 * stream that the coordinator joins with one of its own to the client of the build. A connection
 * has two threads, one for each direction; they end with the connection, at the latest with the
 * step.
 */
#include "worker/agent/agent_internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"

#define MAX_CONNECTIONS 64u
#define CHUNK		(16u << 10)
#define STACK		(256u << 10)

struct client {
	job *j;
	bxc_exec_services services;
	bxc_cancel *cancel; /* the step has ended */
	/* Rank 1: n. Never held over I/O. */
	pthread_mutex_t lock;
	pthread_cond_t ended;
	size_t n; /* threads */
};

/* Both directions of a connection share it; the last one frees it. */
typedef struct connection {
	client *c;
	bxc_chan_stream *stream;
	int fd;
	unsigned refs;               /* by __atomic */
} connection;

static int open_stream(client *c, const char *kind, const char *id, bool check,
	bxc_chan_stream **ret, bxc_err **err)
{
	const bxc_agent_port *port = &c->j->a->port;
	BXC_AUTOJSON bxc_json *q = bxc_json_object();
	bxc_json_set_str(q, "build", c->j->build);
	bxc_json_set_str(q, "task", c->j->name);
	bxc_json_set_str(q, "id", id);
	if (check)
		bxc_json_set_bool(q, "check", true);
	BXC_AUTOFREE char *name = bxc_json_print(q);
	return port->open_stream(kind, name, false, ret, port->ud, err);
}

/* ---- secrets ---- */

static int get_secret(const char *id, bxc_secret **ret, void *ud, bxc_err **err)
{
	client *c = ud;
	BXC_CLEANUP(bxc_chan_stream_freep) bxc_chan_stream *s = NULL;
	BXC_AUTOBUF bxc_buf value = BXC_BUF_INIT(BXC_EXEC_SECRET_MAX + 1);
	int r = open_stream(c, "secret", id, false, &s, err);
	/* All of it at once: a buffer that grows leaves parts of the value behind. */
	if (r >= 0)
		r = bxc_buf_reserve(&value, BXC_EXEC_SECRET_MAX + 1, err);
	if (r >= 0)
		r = bxc_chan_stream_write_eof(s, err);
	if (r >= 0)
		r = bxc_chan_stream_read_all(s, &value, c->j->cancel, err);
	if (r >= 0)
		*ret = bxc_secret_new(value.data, value.len);
	if (value.data)
		explicit_bzero(value.data, value.cap);
	return r < 0 ? r : 0;
}

/* ---- agents ---- */

static int check_agent(const char *id, void *ud, bxc_err **err)
{
	client *c = ud;
	BXC_CLEANUP(bxc_chan_stream_freep) bxc_chan_stream *s = NULL;
	BXC_AUTOBUF bxc_buf none = BXC_BUF_INIT(1);
	int r = open_stream(c, "ssh", id, true, &s, err);
	if (r >= 0)
		r = bxc_chan_stream_write_eof(s, err);
	if (r >= 0)
		r = bxc_chan_stream_read_all(s, &none, c->j->cancel, err);
	return r < 0 ? r : 0;
}

/* Waits for the socket, at most until the step has ended. */
static bool wait_socket(const connection *x, short events)
{
	struct pollfd fds[] = {{.fd = x->fd, .events = events},
		{.fd = bxc_cancel_fd(x->c->cancel), .events = POLLIN}};
	for (;;) {
		int n = poll(fds, BXC_ARRAY_SIZE(fds), -1);
		if (n < 0 && errno == EINTR)
			continue;
		return n > 0 && !fds[1].revents;
	}
}

static void release(connection *x)
{
	client *c = x->c;
	if (__atomic_sub_fetch(&x->refs, 1, __ATOMIC_ACQ_REL) == 0) {
		bxc_chan_stream_free(x->stream);
		close(x->fd);
		free(x);
	}
	pthread_mutex_lock(&c->lock);
	c->n--;
	pthread_cond_signal(&c->ended);
	pthread_mutex_unlock(&c->lock);
}

static void *to_client(void *ud)
{
	connection *x = ud;
	uint8_t chunk[CHUNK];
	BXC_AUTOERR bxc_err *err = NULL;
	int r = 0;
	while (r >= 0 && wait_socket(x, POLLIN)) {
		ssize_t n = recv(x->fd, chunk, sizeof(chunk), 0);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			break;
		r = bxc_chan_stream_write(x->stream, chunk, (size_t)n, x->c->cancel, &err);
	}
	if (r >= 0)
		bxc_ignore(bxc_chan_stream_write_eof(x->stream, NULL));
	release(x);
	return NULL;
}

static void *from_client(void *ud)
{
	connection *x = ud;
	uint8_t chunk[CHUNK];
	BXC_AUTOERR bxc_err *err = NULL;
	for (;;) {
		ssize_t n =
			bxc_chan_stream_read(x->stream, chunk, sizeof(chunk), x->c->cancel, &err);
		if (n <= 0)
			break;
		for (size_t off = 0; off < (size_t)n;) {
			ssize_t k = wait_socket(x, POLLOUT) ? send(x->fd, chunk + off,
								      (size_t)n - off, MSG_NOSIGNAL)
							    : -1;
			if (k < 0 && (errno == EAGAIN || errno == EINTR) &&
				!bxc_cancel_is_fired(x->c->cancel))
				continue;
			if (k < 0)
				goto ended;
			off += (size_t)k;
		}
	}
ended:
	if (err && bxc_err_code(err) != BXC_CANCELED)
		bxc_log_err(BXC_LOG_INFO, "task.agent_failed", err, "task", x->c->j->name, NULL);
	/* Wakes the other direction, too: an agent that has gone answers no more. */
	shutdown(x->fd, SHUT_RDWR);
	release(x);
	return NULL;
}

static bool start_thread(void *(*fn)(void *ud), connection *x)
{
	pthread_t t;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK);
	bool ok = pthread_create(&t, &attr, fn, x) == 0;
	pthread_attr_destroy(&attr);
	return ok;
}

static void connect_agent(const char *id, int fd_take, void *ud)
{
	client *c = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_chan_stream *s = NULL;
	pthread_mutex_lock(&c->lock);
	bool is_full = c->n >= (size_t)2 * MAX_CONNECTIONS;
	if (!is_full)
		c->n += 2;
	pthread_mutex_unlock(&c->lock);
	if (is_full) {
		close(fd_take);
		return;
	}
	connection *x = bxc_calloc(1, sizeof(*x));
	*x = (connection){.c = c, .fd = fd_take, .refs = 2};
	if (open_stream(c, "ssh", id, false, &s, &err) < 0) {
		bxc_log_err(BXC_LOG_INFO, "task.agent_failed", err, "task", c->j->name, NULL);
		release(x);
		release(x);
		return;
	}
	x->stream = s;
	/* A direction without a thread ends the other one, too. */
	static void *(*const directions[])(void *ud) = {to_client, from_client};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(directions); i++) {
		if (start_thread(directions[i], x))
			continue;
		bxc_chan_stream_reset(
			s, BXC_RESOURCE_EXHAUSTED, "no thread for a connection to the agent");
		shutdown(fd_take, SHUT_RDWR);
		release(x);
	}
}

/* ---- for the time of a step ---- */

client *client_open(job *j)
{
	client *c = bxc_calloc(1, sizeof(*c));
	c->j = j;
	c->services = (bxc_exec_services){get_secret, check_agent, connect_agent, c};
	c->cancel = bxc_cancel_new();
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->ended, NULL);
	return c;
}

const bxc_exec_services *client_services(const client *c)
{
	return &c->services;
}

void client_close(client *c)
{
	bxc_cancel_fire(c->cancel);
	pthread_mutex_lock(&c->lock);
	while (c->n)
		pthread_cond_wait(&c->ended, &c->lock);
	pthread_mutex_unlock(&c->lock);
	bxc_cancel_unref(c->cancel);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->ended);
	free(c);
}
