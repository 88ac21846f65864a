/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster of one person: a coordinator and a worker that start when they are needed and leave when idle. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client/builder/builder.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fs.h"
#include "common/os/proc.h"

#define READY_MS  30000
#define READY_FD  9

int bxc_embedded_state_dir(char **ret, bxc_err **err)
{
	const char *own = getenv("BXC_STATE"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	if (own && *own)
		*ret = bxc_strdup(own);
	else if (geteuid() == 0)
		*ret = bxc_strdup("/var/lib/bxc/embedded");
	else if (xdg && *xdg)
		*ret = bxc_str_fmt("%s/bxc", xdg);
	else if (home && *home)
		*ret = bxc_str_fmt("%s/.local/state/bxc", home);
	else
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "neither BXC_STATE nor HOME is set: no place for the embedded cluster");
	return 0;
}

static bool answers(const char *dir, const char *name)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int n = snprintf(a.sun_path, sizeof(a.sun_path), "%s/run/%s", dir, name);
	if (n < 0 || (size_t)n >= sizeof(a.sun_path))
		return false;
	BXC_AUTOCLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
}

static void fill(bxc_builder *b, const char *dir)
{
	free(b->endpoint);
	free(b->channel);
	b->endpoint = bxc_str_fmt("unix:%s/run/http.sock", dir);
	b->channel = bxc_str_fmt("ipc://%s/run/channel.sock", dir);
}

int bxc_embedded_probe(bxc_builder *b, bxc_err **err)
{
	BXC_AUTOFREE char *dir = NULL;
	int r = bxc_embedded_state_dir(&dir, err);
	if (r < 0 || !answers(dir, "http.sock"))
		return r;
	fill(b, dir);
	return 1;
}

/* Beside this program; in a build tree, where its siblings are made; else what PATH says. */
static char *find_program(const char *name, const char *folder)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = '\0';
		*strrchr(self, '/') = '\0';
		BXC_AUTOFREE char *beside = bxc_str_fmt("%s/%s", self, name);
		BXC_AUTOFREE char *sibling = bxc_str_fmt("%s/../../%s/%s", self, folder, name);
		if (faccessat(AT_FDCWD, beside, X_OK, AT_EACCESS) == 0)
			return BXC_TAKE(beside);
		if (faccessat(AT_FDCWD, sibling, X_OK, AT_EACCESS) == 0)
			return BXC_TAKE(sibling);
	}
	return bxc_strdup(name);
}

/* The last line of a log, for the error message. */
static char *last_line(const char *path)
{
	BXC_AUTOCLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return bxc_strdup("");
	off_t end = lseek(fd, 0, SEEK_END);
	off_t from = end > (off_t)4096 ? end - 4096 : 0;
	char buf[4097];
	ssize_t n = pread(fd, buf, 4096, from);
	if (n <= 0)
		return bxc_strdup("");
	buf[n] = '\0';
	char *s = bxc_str_trim(buf);
	char *nl = strrchr(s, '\n');
	return bxc_strdup(nl ? nl + 1 : s);
}

static int wait_ready(int fd, const char *name, const char *log, bxc_err **err)
{
	char line[256];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int k = poll(&p, 1, READY_MS);
	ssize_t n = k > 0 ? read(fd, line, sizeof(line)) : 0;
	if (n > 0)
		return 0;
	BXC_AUTOFREE char *why = last_line(log);
	return bxc_err_set(err, BXC_UNAVAILABLE, "%s %s: %s (see '%s')", name, k == 0 ? "was not ready in 30 s" : "ended at once", why, log);
}

static int launch(const char *dir, const char *name, const char *folder, bxc_err **err)
{
	int pipe_fds[2];
	BXC_AUTOFREE char *program = find_program(name, folder);
	BXC_AUTOFREE char *logs = bxc_str_fmt("%s/log", dir);
	BXC_AUTOFREE char *log = bxc_str_fmt("%s/%s.log", logs, name);
	int r = bxc_fs_make_dirs(AT_FDCWD, logs, 0700, err);
	if (r < 0)
		return r;
	BXC_AUTOCLOSE int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log_fd < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0)
		return bxc_err_errno(err, errno, "start %s", name);
	BXC_AUTOCLOSE int ready_fd = pipe_fds[0], child_fd = pipe_fds[1];
	char *argv[] = {program, (char *)(uintptr_t)"--embedded", (char *)(uintptr_t)"--state-dir", (char *)(uintptr_t)dir,
		(char *)(uintptr_t)"--ready-fd", (char *)(uintptr_t)"9", NULL};
	const bxc_proc_fd fds[] = {{log_fd, 1}, {log_fd, 2}, {child_fd, READY_FD}};
	const bxc_proc_spec spec = {.argv = argv, .fds = fds, .n_fds = BXC_ARRAY_SIZE(fds), .new_session = true};
	bxc_proc *p = NULL;
	r = bxc_proc_spawn(&spec, &p, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "start %s", name);
	close(BXC_TAKE_FD(child_fd));
	r = wait_ready(ready_fd, name, log, err);
	if (r < 0)
		bxc_proc_free(p);
	else
		bxc_proc_detach(p);
	return r;
}

/* Under a lock, so that of two clients one starts it and the other waits. */
static int start(const char *dir, bxc_err **err)
{
	BXC_AUTOCLOSE int dir_fd = -1, lock_fd = -1;
	int r = bxc_fs_make_dirs(AT_FDCWD, dir, 0700, err);
	if (r >= 0)
		r = bxc_fs_open_dir(AT_FDCWD, dir, &dir_fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "state folder of the embedded cluster");
	lock_fd = openat(dir_fd, "start.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (lock_fd < 0 || fcntl(lock_fd, F_OFD_SETLKW, &lock) < 0)
		return bxc_err_errno(err, errno, "lock of the embedded cluster");
	if (answers(dir, "http.sock"))
		return 0;
	r = launch(dir, "bxc-coordinator", "coordinator/main", err);
	if (r >= 0)
		r = launch(dir, "bxc-worker", "worker/main", err);
	return r;
}

int bxc_embedded_start(bxc_builder *b, bxc_err **err)
{
	BXC_AUTOFREE char *dir = NULL;
	int r = bxc_embedded_state_dir(&dir, err);
	if (r < 0)
		return r;
	fill(b, dir);
	if (answers(dir, "http.sock") && answers(dir, "channel.sock"))
		return 0;
	if (geteuid() != 0)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"the embedded cluster needs root (containers, overlay file systems): use sudo, or a builder (bxc create)");
	return start(dir, err);
}
