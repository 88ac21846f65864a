/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SSH agents: connections of steps are joined with the agent's socket. A step may ask what keys
 * there are and have something signed; it may not add, remove or lock keys, nor use extensions, so
 * those requests are answered here (draft-ietf-sshm-ssh-agent, section 3).
 */
#include "client/session/session_internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/base/be.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define MESSAGE_MAX	  (256u << 10) /* as OpenSSH */
#define CHUNK		  (16u << 10)
#define AGENT_FAILURE	  5
#define REQUEST_KEYS	  11
#define REQUEST_SIGNATURE 13

typedef struct connection {
	bxc_csess *s;
	bxc_chan_stream *stream;
	int fd;
} connection;

static int connect_to(const char *path, int *ret_fd, bxc_err **err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	BXC_AUTOCLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (strlen(path) >= sizeof(a.sun_path))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"path of the SSH agent's socket is too long: '%s'", path);
	memcpy(a.sun_path, path, strlen(path) + 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return bxc_err_errno(err, errno, "connect to the SSH agent at '%s'", path);
	*ret_fd = BXC_TAKE_FD(fd);
	return 0;
}

/* ---- both ends ---- */

/* 1, or 0 at the end when nothing of the n bytes came yet. */
static int read_step(connection *l, uint8_t *p, size_t n, bxc_err **err)
{
	for (size_t got = 0; got < n;) {
		ssize_t k = bxc_chan_stream_read(l->stream, p + got, n - got, l->s->cancel, err);
		if (k < 0)
			return (int)k;
		if (k == 0)
			return got ? bxc_err_set(err, BXC_INVALID_ARGUMENT,
					     "a request to the SSH agent is cut short")
				   : 0;
		got += (size_t)k;
	}
	return 1;
}

static int wait_agent(const connection *l, short events, bxc_err **err)
{
	struct pollfd fds[] = {{.fd = l->fd, .events = events},
		{.fd = bxc_cancel_fd(l->s->cancel), .events = POLLIN}};
	while (poll(fds, BXC_ARRAY_SIZE(fds), -1) < 0)
		if (errno != EINTR)
			return bxc_err_errno(err, errno, "poll");
	return bxc_cancel_check(l->s->cancel, err);
}

static ssize_t read_some(const connection *l, void *p, size_t n, bxc_err **err)
{
	for (;;) {
		int r = wait_agent(l, POLLIN, err);
		if (r < 0)
			return r;
		ssize_t k = recv(l->fd, p, n, MSG_DONTWAIT);
		if (k >= 0)
			return k;
		if (errno != EAGAIN && errno != EINTR)
			return bxc_err_errno(err, errno, "read from the SSH agent");
	}
}

static int read_agent(const connection *l, uint8_t *p, size_t n, bxc_err **err)
{
	for (size_t got = 0; got < n;) {
		ssize_t k = read_some(l, p + got, n - got, err);
		if (k < 0)
			return (int)k;
		if (k == 0)
			return bxc_err_set(
				err, BXC_UNAVAILABLE, "the SSH agent closed the connection");
		got += (size_t)k;
	}
	return 0;
}

static int write_agent(const connection *l, const uint8_t *p, size_t n, bxc_err **err)
{
	while (n) {
		int r = wait_agent(l, POLLOUT, err);
		if (r < 0)
			return r;
		ssize_t k = send(l->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (k < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (k < 0)
			return bxc_err_errno(err, errno, "write to the SSH agent");
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

/* ---- the agent protocol: u32 length, u8 type, content; one answer for each request ---- */

static int check_length(uint64_t n, bxc_err **err)
{
	if (n == 0 || n > MESSAGE_MAX)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"a message of the SSH agent protocol has %llu bytes, not 1 to %u",
			(unsigned long long)n, MESSAGE_MAX);
	return 0;
}

/* 1, or 0 at the end. */
static int one_request(connection *l, uint8_t *message, bxc_err **err)
{
	static const uint8_t failure[] = {0, 0, 0, 1, AGENT_FAILURE};
	int r = read_step(l, message, 4, err);
	if (r <= 0)
		return r;
	uint64_t n = bxc_be_get(message, 4);
	r = check_length(n, err);
	if (r >= 0)
		r = read_step(l, message + 4, (size_t)n, err);
	if (r <= 0)
		return r < 0 ? r
			     : bxc_err_set(err, BXC_INVALID_ARGUMENT,
				       "a request to the SSH agent is cut short");
	uint8_t type = message[4];
	if (type != REQUEST_KEYS && type != REQUEST_SIGNATURE) {
		r = bxc_chan_stream_write(l->stream, failure, sizeof(failure), l->s->cancel, err);
		return r < 0 ? r : 1;
	}
	r = write_agent(l, message, 4 + (size_t)n, err);
	if (r >= 0)
		r = read_agent(l, message, 4, err);
	if (r < 0)
		return r;
	n = bxc_be_get(message, 4);
	r = check_length(n, err);
	if (r >= 0)
		r = read_agent(l, message + 4, (size_t)n, err);
	if (r >= 0)
		r = bxc_chan_stream_write(l->stream, message, 4 + (size_t)n, l->s->cancel, err);
	return r < 0 ? r : 1;
}

static int serve_requests(connection *l, bxc_err **err)
{
	BXC_AUTOFREE uint8_t *message = bxc_malloc(4 + MESSAGE_MAX);
	int r;
	do
		r = one_request(l, message, err);
	while (r > 0);
	return r;
}

/* ---- raw sockets ---- */

static void *step_to_socket(void *ud)
{
	connection *l = ud;
	uint8_t chunk[CHUNK];
	for (;;) {
		ssize_t n =
			bxc_chan_stream_read(l->stream, chunk, sizeof(chunk), l->s->cancel, NULL);
		if (n <= 0 || write_agent(l, chunk, (size_t)n, NULL) < 0)
			break;
	}
	shutdown(l->fd, SHUT_WR);
	return NULL;
}

static int serve_raw(connection *l, bxc_err **err)
{
	pthread_t t;
	uint8_t chunk[CHUNK];
	ssize_t n;
	if (pthread_create(&t, NULL, step_to_socket, l) != 0)
		return bxc_err_set(
			err, BXC_RESOURCE_EXHAUSTED, "no thread for a connection to a socket");
	int r = 0;
	while (r >= 0 && (n = read_some(l, chunk, sizeof(chunk), err)) != 0)
		r = n < 0 ? (int)n
			  : bxc_chan_stream_write(l->stream, chunk, (size_t)n, l->s->cancel, err);
	/* Before the other direction has ended, which may wait for it. */
	if (r >= 0)
		r = bxc_chan_stream_write_eof(l->stream, err);
	/* A socket that has gone takes nothing more: the other direction ends, too. */
	if (r < 0)
		bxc_chan_stream_reset(
			l->stream, (bxc_code)-r, "the connection to the socket failed");
	pthread_join(t, NULL);
	return r;
}

int serve_agent(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	const char *id;
	const bxc_csess_agent *a = NULL;
	int r = bxc_json_need_str(name, "id", &id, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->c.n_agents; i++)
		if (bxc_str_eq(s->c.agents[i].id, id))
			a = &s->c.agents[i];
	if (!a)
		return bxc_err_set(err, BXC_NOT_FOUND, "unset ssh forward key %s", id);
	if (bxc_json_get_bool(name, "check", false))
		return read_end(s, st, err);
	BXC_AUTOCLOSE int fd = -1;
	r = connect_to(a->socket, &fd, err);
	if (r < 0)
		return r;
	connection l = {s, st, fd};
	return a->raw ? serve_raw(&l, err) : serve_requests(&l, err);
}
