/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets are made here and not by the daemon: Unix sockets, exact modes, plain errors.
 */
#include "common/httpd/httpd_internal.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/base/str.h"

#define BACKLOG 1024

/* Removes a socket file that a dead process left behind; FAILED_PRECONDITION when somebody answers.
 */
static int clear_stale(const struct sockaddr_un *a, bxc_err **err)
{
	struct stat st;
	if (lstat(a->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : bxc_err_errno(err, errno, "socket '%s'", a->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return bxc_err_set(
			err, BXC_FAILED_PRECONDITION, "'%s' is no socket and stays", a->sun_path);
	BXC_AUTOCLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return bxc_err_errno(err, errno, "socket");
	/* EAGAIN: somebody listens and is busy. */
	if (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 || errno == EAGAIN)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "somebody listens on '%s' already",
			a->sun_path);
	if (errno != ECONNREFUSED)
		return bxc_err_errno(err, errno, "socket '%s'", a->sun_path);
	if (unlink(a->sun_path) < 0 && errno != ENOENT)
		return bxc_err_errno(err, errno, "remove stale socket '%s'", a->sun_path);
	return 0;
}

static int listen_unix(bxc_httpd *h, const bxc_httpd_config *c, int *ret_fd, bxc_err **err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct stat st;
	mode_t mode = c->unix_mode ? c->unix_mode : 0600;
	if (strlen(c->unix_path) >= sizeof(a.sun_path))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"socket path '%s' is longer than %zu bytes", c->unix_path,
			sizeof(a.sun_path) - 1);
	memcpy(a.sun_path, c->unix_path, strlen(c->unix_path) + 1);
	int r = clear_stale(&a, err);
	if (r < 0)
		return r;
	BXC_AUTOCLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return bxc_err_errno(err, errno, "socket");
	/* Linux makes the file with the mode of the socket, less the umask: it is never open wider
	 * than meant. */
	if (fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
		return bxc_err_errno(err, errno, "listen on '%s'", c->unix_path);
	if (chmod(c->unix_path, mode) < 0 || lstat(c->unix_path, &st) < 0 ||
		listen(fd, BACKLOG) < 0) {
		r = bxc_err_errno(err, errno, "listen on '%s'", c->unix_path);
		unlink(c->unix_path);
		return r;
	}
	h->unix_dev = st.st_dev;
	h->unix_ino = st.st_ino;
	*ret_fd = BXC_TAKE_FD(fd);
	return 0;
}

static void freeaddrinfop(struct addrinfo **a)
{
	if (*a)
		freeaddrinfo(*a);
}

static int listen_tcp(bxc_httpd *h, const bxc_httpd_config *c, int *ret_fd, bxc_err **err)
{
	const char *host = c->host ? c->host : "127.0.0.1";
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	BXC_CLEANUP(freeaddrinfop) struct addrinfo *found = NULL;
	BXC_AUTOFREE char *port = bxc_str_fmt("%u", c->port);
	int e = getaddrinfo(host, port, &hints, &found);
	if (e != 0)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "address '%s': %s", host, gai_strerror(e));
	BXC_AUTOCLOSE int fd =
		socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return bxc_err_errno(err, errno, "socket");
	const int on = 1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return bxc_err_errno(err, errno, "listen on '%s:%u'", host, c->port);
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a = {0};
	socklen_t n = sizeof(a);
	if (getsockname(fd, &a.any, &n) < 0)
		return bxc_err_errno(err, errno, "address of the listening socket");
	h->port = ntohs(a.any.sa_family == AF_INET6 ? a.in6.sin6_port : a.in.sin_port);
	*ret_fd = BXC_TAKE_FD(fd);
	return 0;
}

int bxc_httpd__listen(bxc_httpd *h, const bxc_httpd_config *c, int *ret_fd, bxc_err **err)
{
	return c->unix_path ? listen_unix(h, c, ret_fd, err) : listen_tcp(h, c, ret_fd, err);
}
