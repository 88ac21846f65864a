/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TCP server on loopback that says byte for byte what a test wants: broken answers, cut
 * transfers, silence. One thread; one connection after the other.
 */
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "common/testing/testing.h"

typedef struct bxc_rawserver {
	int listen_fd;
	uint16_t port;
	pthread_t thread;
	/* Called on the server's thread with the header of a request; the connection is closed
	 * afterwards. */
	void (*serve)(int conn_fd, const char *header, unsigned n_th, void *ud);
	void *ud;
} bxc_rawserver;

static inline BXC_UNUSED void bxc_rawserver_say(int fd, const void *p, size_t n)
{
	const char *c = p;
	while (n) {
		ssize_t k = send(fd, c, n, MSG_NOSIGNAL);
		if (k <= 0)
			return;
		c += k;
		n -= (size_t)k;
	}
}

static inline BXC_UNUSED void bxc_rawserver_says(int fd, const char *text)
{
	bxc_rawserver_say(fd, text, strlen(text));
}

/* Until the peer closes. */
static inline BXC_UNUSED void bxc_rawserver_hang(int fd)
{
	char c[256];
	while (recv(fd, c, sizeof(c), 0) > 0)
		continue;
}

static inline void *bxc_rawserver_main_(void *ud)
{
	bxc_rawserver *s = ud;
	for (unsigned n = 0;; n++) {
		int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return NULL;
		char header[16384];
		size_t len = 0;
		header[0] = '\0';
		while (len < sizeof(header) - 1 && !strstr(header, "\r\n\r\n")) {
			ssize_t k = recv(fd, header + len, sizeof(header) - 1 - len, 0);
			if (k <= 0)
				break;
			len += (size_t)k;
			header[len] = '\0';
		}
		s->serve(fd, header, n, s->ud);
		shutdown(fd, SHUT_WR);
		close(fd);
	}
}

/* `s` must stay where it is. */
static inline BXC_UNUSED void bxc_rawserver_start(bxc_rawserver *s,
	void (*serve)(int conn_fd, const char *header, unsigned n_th, void *ud), void *ud)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	s->serve = serve;
	s->ud = ud;
	s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->listen_fd < 0 || bind(s->listen_fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
		listen(s->listen_fd, 16) < 0 ||
		getsockname(s->listen_fd, (struct sockaddr *)&a, &n) < 0 ||
		pthread_create(&s->thread, NULL, bxc_rawserver_main_, s) != 0)
		fail_msg("raw server: errno %d", errno);
	s->port = ntohs(a.sin_port);
}

static inline BXC_UNUSED void bxc_rawserver_stop(bxc_rawserver *s)
{
	/* Ends accept. */
	shutdown(s->listen_fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->listen_fd);
}

/* A port of loopback at which nobody listens. */
static inline BXC_UNUSED uint16_t bxc_rawserver_closed_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
		getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		fail_msg("closed port: errno %d", errno);
	close(fd);
	return ntohs(a.sin_port);
}
