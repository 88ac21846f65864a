/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ssh-agent for key files. It runs around a command ("sh") that ends when our end of its
 * standard input closes, and ssh-agent ends when its command has: so it goes even when we are
 * killed. The key is given to ssh-add on standard input, which reads it whatever the mode of its
 * file is.
 */
#include "client/session/session_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "common/os/proc.h"

#define KEY_MAX	   (100u << 10)
#define OUTPUT_MAX (16u << 10)
#define ADD_MS	   30000

struct bxc_csess_keyring {
	char *dir;
	char *socket;
	bxc_proc *proc; /* the command; the agent itself is not our child */
	pid_t agent;
	int alive_fd;
};

static int make_dir(bxc_csess_keyring *k, bxc_err **err)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	if (bxc_str_empty(base))
		base = getenv("TMPDIR");
	BXC_AUTOFREE char *dir =
		bxc_str_fmt("%s/bxc-ssh-XXXXXX", bxc_str_empty(base) ? "/tmp" : base);
	if (!mkdtemp(dir))
		return bxc_err_errno(err, errno, "make a folder for the SSH agent");
	k->dir = BXC_TAKE(dir);
	k->socket = bxc_str_fmt("%s/agent", k->dir);
	return 0;
}

/* The agent listens before its command runs: once the command has spoken, keys can be added. */
static int read_pid(bxc_csess_keyring *k, int fd, bxc_err **err)
{
	char line[32];
	size_t n = 0;
	uint64_t pid;
	while (n < sizeof(line) - 1) {
		size_t got;
		int r = bxc_fd_read_full(fd, line + n, 1, &got, err);
		if (r < 0)
			return r;
		if (got == 0)
			return bxc_err_set(
				err, BXC_FAILED_PRECONDITION, "ssh-agent could not be started");
		if (line[n] == '\n')
			break;
		n++;
	}
	line[n] = '\0';
	int r = bxc_str_to_u64(line, 2, INT32_MAX, &pid, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "process of ssh-agent");
	k->agent = (pid_t)pid;
	return 0;
}

static int start_agent(bxc_csess_keyring *k, bxc_err **err)
{
	char prog[] = "ssh-agent", a[] = "-a", sh[] = "sh", c[] = "-c",
	     script[] = "echo $SSH_AGENT_PID; exec cat >/dev/null";
	char *argv[] = {prog, a, k->socket, sh, c, script, NULL};
	BXC_AUTOCLOSE int in_r = -1, out_r = -1, out_w = -1;
	int r = bxc_fd_pipe(&in_r, &k->alive_fd, err);
	if (r >= 0)
		r = bxc_fd_pipe(&out_r, &out_w, err);
	if (r < 0)
		return r;
	const bxc_proc_fd fds[] = {{in_r, 0}, {out_w, 1}};
	const bxc_proc_spec spec = {
		.argv = argv, .fds = fds, .n_fds = BXC_ARRAY_SIZE(fds), .new_session = true};
	r = bxc_proc_spawn(&spec, &k->proc, err);
	if (r == -BXC_NOT_FOUND)
		return bxc_err_wrap(err, r,
			"key files for SSH need OpenSSH's ssh-agent and ssh-add on this machine");
	if (r < 0)
		return r;
	close(BXC_TAKE_FD(out_w));
	return read_pid(k, out_r, err);
}

static int add_key(const bxc_csess_keyring *k, const char *path, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf key = BXC_BUF_INIT(KEY_MAX + 1), out = BXC_BUF_INIT(OUTPUT_MAX),
			    errors = BXC_BUF_INIT(OUTPUT_MAX);
	BXC_AUTOFREE char *sock = bxc_str_fmt("SSH_AUTH_SOCK=%s", k->socket);
	char env[] = "env", never[] = "SSH_ASKPASS_REQUIRE=never", prog[] = "ssh-add", q[] = "-q",
	     dash[] = "-";
	char *argv[] = {env, sock, never, prog, q, dash, NULL};
	bxc_proc_status status;
	int r = bxc_buf_reserve(&key, KEY_MAX + 1, err);
	BXC_AUTOCLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (r >= 0 && fd < 0)
		r = bxc_err_errno(err, errno, "failed to open %s", path);
	if (r >= 0)
		r = bxc_fd_read_full(fd, key.data, KEY_MAX + 1, &key.len, err);
	if (r >= 0 && key.len > KEY_MAX)
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"'%s' is too large for a private key (%u KiB)", path, KEY_MAX >> 10);
	if (r >= 0)
		r = bxc_proc_run_capture(
			argv, bxc_buf_slice(&key), ADD_MS, &out, &errors, &status, err);
	if (key.data)
		explicit_bzero(key.data, key.cap);
	if (r < 0)
		return r;
	if (status.exit_code != 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"failed to parse %s: it must be a private key without a passphrase (add "
			"one with a passphrase to your own agent)",
			path);
	return 0;
}

static int start(char *const *keys, bxc_csess_keyring *k, bxc_err **err)
{
	int r = make_dir(k, err);
	if (r >= 0)
		r = start_agent(k, err);
	for (; r >= 0 && keys && *keys; keys++)
		r = add_key(k, *keys, err);
	return r;
}

int bxc_csess_keyring_start(char *const *keys, bxc_csess_keyring **ret, bxc_err **err)
{
	bxc_csess_keyring *k = bxc_calloc(1, sizeof(*k));
	k->alive_fd = -1;
	int r = start(keys, k, err);
	if (r < 0) {
		bxc_csess_keyring_stop(k);
		return r;
	}
	*ret = k;
	return 0;
}

const char *bxc_csess_keyring_socket(const bxc_csess_keyring *k)
{
	return k->socket;
}

void bxc_csess_keyring_stop(bxc_csess_keyring *k)
{
	if (!k)
		return;
	/* While its command runs the number is the agent's and nobody else's. */
	if (k->agent > 0)
		(void)kill(k->agent, SIGTERM);
	bxc_cleanup_close(&k->alive_fd);
	bxc_proc_free(k->proc);
	if (k->dir) {
		(void)unlink(k->socket);
		(void)rmdir(k->dir);
	}
	free(k->dir);
	free(k->socket);
	free(k);
}
