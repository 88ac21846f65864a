/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster of one person: a coordinator and a worker that start when they are needed and leave when idle. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "client/builder/builder.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/json.h"
#include "common/http/http.h"
#include "common/os/fs.h"
#include "common/os/proc.h"

#define READY_MS  30000
#define POLL_MS   50
#define WORKER_LOCK "worker/worker.lock"
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

/* The daemon runs as long as *ret is not freed; bxc_proc_detach() lets it outlive us. */
static int launch(const char *dir, const char *name, const char *folder, bxc_proc **ret, bxc_err **err)
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
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *p = NULL;
	r = bxc_proc_spawn(&spec, &p, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "start %s", name);
	close(BXC_TAKE_FD(child_fd));
	r = wait_ready(ready_fd, name, log, err);
	if (r >= 0)
		*ret = BXC_TAKE(p);
	return r;
}

/* Does a daemon hold its lock? Asked under the lock of starting, so that none that starts is disturbed. */
static bool is_held(const char *dir, const char *lock)
{
	BXC_AUTOCLOSE int dir_fd = -1, fd = -1;
	return bxc_fs_open_dir(AT_FDCWD, dir, &dir_fd, NULL) >= 0 && bxc_fs_lock(dir_fd, lock, &fd, NULL) == -BXC_FAILED_PRECONDITION;
}

static bool has_worker(const char *dir)
{
	BXC_AUTOFREE char *socket_path = bxc_str_fmt("%s/run/http.sock", dir);
	BXC_CLEANUP(bxc_http_client_freep) bxc_http_client *http = NULL;
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	BXC_AUTOBUF bxc_buf body = BXC_BUF_INIT(BXC_LIMIT_HTTP_HEADER);
	BXC_AUTOJSON bxc_json *j = NULL;
	const bxc_http_request q = {.method = "GET", .url = "http://coordinator/readyz", .unix_path = socket_path};
	return bxc_http_client_new(&(bxc_http_client_config){0}, &http, NULL) >= 0 && bxc_http_start(http, &q, NULL, &resp, NULL) >= 0 &&
		bxc_http_status(resp) == 200 && bxc_http_read_all(resp, &body, NULL) >= 0 && bxc_json_parse(bxc_buf_slice(&body), &j, NULL) >= 0 &&
		bxc_json_get_u64(j, "workers", 0) > 0;
}

/* A daemon of before that still holds its lock: it leaves, or (a worker) it finds the coordinator again. */
static int wait_settled(const char *dir, const char *lock, bool joined_is_well, bxc_err **err)
{
	for (int ms = 0; ms < READY_MS; ms += POLL_MS) {
		if (!is_held(dir, lock) || (joined_is_well && has_worker(dir)))
			return 0;
		/* Neither has an event to wait for. */
		bxc_ignore(poll(NULL, 0, POLL_MS));
	}
	return bxc_err_set(err, BXC_UNAVAILABLE, "the process that holds '%s/%s' neither works nor leaves: end it", dir, lock);
}

/* Under a lock, so that of two clients one starts what is missing and the other waits. */
static int start(const char *dir, bxc_err **err)
{
	BXC_AUTOCLOSE int dir_fd = -1, lock_fd = -1;
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *coordinator = NULL;
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *worker = NULL;
	int r = bxc_fs_make_dirs(AT_FDCWD, dir, 0700, err);
	if (r >= 0)
		r = bxc_fs_open_dir(AT_FDCWD, dir, &dir_fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "state folder of the embedded cluster");
	lock_fd = openat(dir_fd, "start.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (lock_fd < 0 || fcntl(lock_fd, F_OFD_SETLKW, &lock) < 0)
		return bxc_err_errno(err, errno, "lock of the embedded cluster");
	if (!answers(dir, "http.sock") || !answers(dir, "channel.sock")) {
		r = wait_settled(dir, "coordinator.lock", false, err);
		if (r >= 0)
			r = launch(dir, "bxc-coordinator", "coordinator/main", &coordinator, err);
		if (r >= 0)
			r = wait_settled(dir, WORKER_LOCK, true, err);
	}
	/* Without its worker a coordinator of ours goes too: nobody could tell why nothing is built. */
	if (r >= 0 && !is_held(dir, WORKER_LOCK))
		r = launch(dir, "bxc-worker", "worker/main", &worker, err);
	if (r < 0)
		return r;
	bxc_proc_detach(BXC_TAKE(coordinator));
	bxc_proc_detach(BXC_TAKE(worker));
	return 0;
}

int bxc_embedded_start(bxc_builder *b, bxc_err **err)
{
	BXC_AUTOFREE char *dir = NULL;
	int r = bxc_embedded_state_dir(&dir, err);
	if (r < 0)
		return r;
	fill(b, dir);
	if (geteuid() != 0)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"the embedded cluster needs root (containers, overlay file systems): use sudo, or a builder (bxc create)");
	return start(dir, err);
}
