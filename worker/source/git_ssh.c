/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repositories behind ssh. Whoever is let in is the client: its SSH agent answers through a socket
 * that only this host's root can reach, for as long as git is used. No key of this host is offered.
 * Host keys are remembered where they were seen first, and hold from then on; those in
 * /etc/ssh/ssh_known_hosts hold at once.
 */
#include "worker/source/git_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/os/fs.h"

#define AGENT	"default"
#define BACKLOG 16

struct git_agent {
	const bxc_src_client *client;
	int dir_fd; /* of the sources; the socket and the known hosts lie in it */
	char *name; /* of the socket */
	int fd;
	bxc_cancel *stop;
	pthread_t thread;
	bool runs;
};

static void *serve(void *ud)
{
	const git_agent *a = ud;
	struct pollfd fds[] = {
		{.fd = a->fd, .events = POLLIN}, {.fd = bxc_cancel_fd(a->stop), .events = POLLIN}};
	for (;;) {
		int n = poll(fds, BXC_ARRAY_SIZE(fds), -1);
		if (n < 0 && errno != EINTR)
			return NULL;
		if (n > 0 && fds[1].revents)
			return NULL;
		int fd = n > 0 ? accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
		if (fd >= 0)
			a->client->agent_connect(AGENT, fd, a->client->ud);
	}
}

static int listen_in(git_agent *a, bxc_err **err)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0)
		return bxc_err_errno(err, errno, "make the socket of an agent");
	BXC_AUTOFREE char *tag = bxc_rand_hex(8);
	a->name = bxc_str_fmt(".agent.%s", tag);
	(void)snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/%s", a->dir_fd, a->name);
	if (bind(a->fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
		fchmodat(a->dir_fd, a->name, 0600, 0) < 0 || listen(a->fd, BACKLOG) < 0)
		return bxc_err_errno(err, errno, "listen for an SSH agent");
	return 0;
}

static int check(const bxc_src_client *c, const char *shown, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	int r = c->agent_check ? c->agent_check(AGENT, c->ud, &why)
			       : bxc_err_set(&why, BXC_NOT_FOUND, "no client");
	if (r == -BXC_NOT_FOUND)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"%s: no SSH key \"" AGENT
			"\" forwarded from the client: build with --ssh " AGENT,
			shown);
	return r < 0 ? bxc_err_wrap_take(err, BXC_TAKE(why), r, "SSH agent '" AGENT "'") : 0;
}

int git_agent_open(const git *g, git_agent **ret, bxc_err **err)
{
	BXC_CLEANUP(git_agent_freep) git_agent *a = bxc_calloc(1, sizeof(*a));
	a->client = g->client;
	a->dir_fd = a->fd = -1;
	int r = check(g->client, g->shown, err);
	if (r >= 0)
		r = bxc_fs_open_dir(AT_FDCWD, g->s->dir, &a->dir_fd, err);
	if (r >= 0)
		r = listen_in(a, err);
	if (r < 0)
		return r;
	a->stop = bxc_cancel_new();
	r = pthread_create(&a->thread, NULL, serve, a);
	if (r != 0)
		return bxc_err_errno(err, r, "start a thread for an SSH agent");
	a->runs = true;
	*ret = BXC_TAKE(a);
	return 0;
}

void git_agent_free(git_agent *a)
{
	if (!a)
		return;
	if (a->runs) {
		bxc_cancel_fire(a->stop);
		pthread_join(a->thread, NULL);
	}
	if (a->name)
		(void)unlinkat(a->dir_fd, a->name, 0);
	bxc_cancel_unref(a->stop);
	bxc_cleanup_close(&a->fd);
	bxc_cleanup_close(&a->dir_fd);
	free(a->name);
	free(a);
}

/* Paths by our descriptor: git gives the command to a shell, and ssh splits its values. */
void git_agent_env(const git_agent *a, char ***env)
{
	BXC_AUTOFREE char *dir = bxc_str_fmt("/proc/%d/fd/%d", (int)getpid(), a->dir_fd);
	bxc_strv_pushf(env, "SSH_AUTH_SOCK=%s/%s", dir, a->name);
	bxc_strv_push(env, "GIT_SSH_VARIANT=ssh");
	bxc_strv_pushf(env,
		"GIT_SSH_COMMAND=ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none"
		" -o PreferredAuthentications=publickey -o ForwardAgent=no"
		" -o ClearAllForwardings=yes -o ControlPath=none -o ConnectTimeout=30"
		" -o ServerAliveInterval=15 -o StrictHostKeyChecking=accept-new"
		" -o UserKnownHostsFile=%s/known_hosts",
		dir);
}
