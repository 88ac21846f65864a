/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of the helper: control groups, descriptors, output, cancelling. What the helper promises
 * (worker/helper/helper.h) makes waiting for it enough: nothing of the step outlives it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/proc.h"
#include "worker/exec/exec_internal.h"

#define CHUNK	      BXC_EXEC__CHUNK
#define STATUS_MAX    (16u << 10)
#define KILL_WAIT_NS  (10 * BXC_NS_PER_S)
#define GROUP_WAIT_MS 5000

/* ---- control groups ---- */

/* This process's group in the v1 memory hierarchy, "" when it is the root or cannot be told. */
static char *own_memory_group(void)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(1u << 20);
	if (bxc_fs_read_file(AT_FDCWD, "/proc/self/cgroup", 1u << 20, &text, NULL) < 0)
		return bxc_strdup("");
	BXC_AUTOSTRV char **lines = bxc_strv_split(bxc_buf_text(&text), '\n');
	for (char **l = lines; *l; l++) {
		char *controllers = strchr(*l, ':');
		char *path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path)
			continue;
		*path = '\0';
		BXC_AUTOSTRV char **names = bxc_strv_split(controllers + 1, ',');
		if (bxc_strv_has(names, "memory"))
			return bxc_strdup(bxc_str_eq(path + 1, "/") ? "" : path + 1);
	}
	return bxc_strdup("");
}

static void remove_v1_children(const char *parent)
{
	BXC_AUTOCLOSE int fd = -1;
	BXC_AUTOSTRV char **names = NULL;
	if (bxc_fs_open_dir(AT_FDCWD, parent, &fd, NULL) < 0 ||
		bxc_fs_list_dir(fd, "", 100000, &names, NULL) < 0)
		return;
	for (char **n = names; *n; n++) {
		BXC_AUTOCLOSE int child_fd =
			openat(fd, *n, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child_fd < 0)
			continue;
		bxc_ignore(bxc_cg_kill(child_fd, NULL));
		(void)unlinkat(fd, *n, AT_REMOVEDIR);
	}
}

int bxc_exec__groups_open(bxc_exec *x, const char *parent, bxc_err **err)
{
	int r = bxc_cg_detect(&x->cg, err);
	if (r < 0 || !parent)
		return r;
	BXC_AUTOERR bxc_err *why = NULL;
	if (bxc_cg_unified_mount(x->cg)) {
		BXC_AUTOCLOSE int fd = -1;
		r = bxc_cg_remove(x->cg, parent, GROUP_WAIT_MS, &why);
		if (r == 0)
			r = bxc_cg_create(x->cg, parent, &fd, &why);
		if (r == 0)
			x->cgroup_parent = bxc_strdup(parent);
	}
	const char *memory = bxc_cg_v1_mount(x->cg, "memory");
	if (r == 0 && memory) {
		BXC_AUTOFREE char *own = own_memory_group();
		BXC_AUTOFREE char *base = bxc_str_fmt("%s%s", memory, own);
		struct stat st;
		/* Another view of the hierarchy than our mount's: a container without its own
		 * cgroup namespace. */
		bool is_seen = stat(base, &st) == 0;
		x->memory_base = bxc_strdup(is_seen ? base : memory);
		BXC_AUTOFREE char *dir = bxc_str_fmt("%s/%s", x->memory_base, parent);
		r = bxc_fs_make_dirs(AT_FDCWD, dir, 0755, &why);
		if (r == 0) {
			remove_v1_children(dir);
			x->memory_parent = BXC_TAKE(dir);
		}
	}
	if (r < 0)
		bxc_log_err(BXC_LOG_WARN, "exec.no_control_groups", why, "parent", parent, NULL);
	return 0;
}

void bxc_exec__groups_close(bxc_exec *x)
{
	BXC_AUTOERR bxc_err *err = NULL;
	if (x->cgroup_parent && bxc_cg_remove(x->cg, x->cgroup_parent, GROUP_WAIT_MS, &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "exec.group_left", err, NULL);
	if (x->memory_parent)
		(void)rmdir(x->memory_parent);
	free(x->cgroup_parent);
	free(x->memory_parent);
	free(x->memory_base);
	bxc_cg_free(x->cg);
}

typedef struct groups {
	char *unified; /* path; NULL: none */
	char *memory;  /* absolute folder; NULL: none */
	int unified_fd, memory_fd;
} groups;

static int groups_make(bxc_exec *x, const bxc_op_exec *op, const char *id, groups *g, bxc_err **err)
{
	/* The group that is asked for is made where it is missing, and stays. */
	const char *asked = bxc_str_empty(op->cgroup_parent) ? NULL : op->cgroup_parent;
	if (asked && !x->cgroup_parent && !x->memory_parent)
		return bxc_err_set(err, BXC_UNIMPLEMENTED,
			"cgroup parent '%s': this worker has no control groups", asked);
	while (asked && *asked == '/')
		asked++;
	if (x->cgroup_parent) {
		g->unified = asked ? bxc_str_fmt("%s/bxc-%s", asked, id)
				   : bxc_str_fmt("%s/%s", x->cgroup_parent, id);
		int r = bxc_cg_create(x->cg, g->unified, &g->unified_fd, err);
		if (r < 0)
			return r;
	}
	if (x->memory_parent) {
		g->memory = asked ? bxc_str_fmt("%s/%s/bxc-%s", x->memory_base, asked, id)
				  : bxc_str_fmt("%s/%s", x->memory_parent, id);
		int r = bxc_fs_make_dirs(AT_FDCWD, g->memory, 0755, err);
		if (r == 0)
			r = bxc_fs_open_dir(AT_FDCWD, g->memory, &g->memory_fd, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static uint64_t groups_oom_kills(const groups *g)
{
	uint64_t n = 0;
	if (g->memory_fd >= 0 && bxc_cg_oom_kills(g->memory_fd, &n, NULL) == 0)
		return n;
	if (g->unified_fd >= 0 && bxc_cg_oom_kills(g->unified_fd, &n, NULL) == 0)
		return n;
	return 0;
}

static uint64_t groups_memory_peak(const groups *g)
{
	uint64_t n = 0;
	if (g->memory_fd >= 0 && bxc_cg_memory_peak(g->memory_fd, &n, NULL) == 0)
		return n;
	if (g->unified_fd >= 0 && bxc_cg_memory_peak(g->unified_fd, &n, NULL) == 0)
		return n;
	return 0;
}

static void groups_remove(bxc_exec *x, groups *g)
{
	bxc_cleanup_close(&g->unified_fd);
	bxc_cleanup_close(&g->memory_fd);
	BXC_AUTOERR bxc_err *err = NULL;
	if (g->unified && bxc_cg_remove(x->cg, g->unified, GROUP_WAIT_MS, &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "exec.group_left", err, NULL);
	if (g->memory && rmdir(g->memory) < 0 && errno != ENOENT)
		bxc_log(BXC_LOG_WARN, "exec.group_left", "path", g->memory, NULL);
	free(g->unified);
	free(g->memory);
}

/* ---- the process ---- */

typedef struct running {
	const bxc_exec__launch *l;
	bxc_proc *proc;
	int out_fd[2], status_fd; /* our ends; -1 once they have ended */
	bxc_buf status;
	uint8_t *chunk;
	bxc_exec__mask *mask[2]; /* NULL: no secrets */
	bool is_started, is_killed;
	bool is_timed_out;
	int64_t started_ns, kill_deadline_ns;
} running;

static void close_fd(int *fd)
{
	bxc_cleanup_close(fd);
	*fd = -1;
}

typedef struct output {
	const bxc_exec_job *job;
	int stream;
} output;

static void put_output(const void *p, size_t n, void *ud)
{
	const output *o = ud;
	o->job->on_output(o->stream, p, n, o->job->ud);
}

/* n 0: the stream has ended. */
static void pass_on(running *p, int which, size_t n)
{
	output o = {p->l->job, which + 1};
	if (!o.job->on_output)
		return;
	if (!p->mask[which]) {
		if (n)
			put_output(p->chunk, n, &o);
	} else if (n) {
		bxc_exec__mask_feed(p->mask[which], p->chunk, n, put_output, &o);
	} else {
		bxc_exec__mask_end(p->mask[which], put_output, &o);
	}
}

/* What is there to read, without waiting; at most one chunk unless `all`. */
static int pump(running *p, int which, bool all, bxc_err **err)
{
	int *fd = which == 2 ? &p->status_fd : &p->out_fd[which];
	while (*fd >= 0) {
		ssize_t n = read(*fd, p->chunk, CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return bxc_err_errno(err, errno, "read output");
		if (n == 0) {
			close_fd(fd);
			if (which != 2)
				pass_on(p, which, 0);
			break;
		}
		if (which == 2) {
			int r = bxc_buf_append(&p->status, p->chunk, (size_t)n, err);
			if (r < 0)
				return r;
		} else {
			pass_on(p, which, (size_t)n);
		}
		if (!all)
			break;
	}
	if (which == 2 && *fd < 0 && p->status.len == 0 && !p->is_started) {
		p->is_started = true;
		p->started_ns = bxc_clock_mono_ns();
		if (p->l->job->on_start)
			p->l->job->on_start(p->l->job->ud);
	}
	return 0;
}

static int kill_step(running *p, bxc_err **err)
{
	/* First the helper is asked, which kills its child and waits for all to be gone; then it is
	 * killed itself, which does the same without the wait. */
	int r = bxc_proc_kill(p->proc, p->is_killed ? SIGKILL : SIGTERM, err);
	p->is_killed = true;
	p->kill_deadline_ns = bxc_clock_mono_ns() + KILL_WAIT_NS;
	return r;
}

/* What ends the wait for the step if nothing else does; INT64_MAX: nothing. */
static int64_t deadline_ns(const running *p)
{
	int64_t limit = p->l->job->timeout_ns;
	if (p->is_killed)
		return p->kill_deadline_ns;
	/* Before its command runs, its time does not. */
	return limit > 0 && p->is_started ? p->started_ns + BXC_MIN(limit, INT64_MAX / 2)
					  : INT64_MAX;
}

#define FIXED_FDS 5u

static void accept_all(const running *p, const bxc_exec__agent *a)
{
	const bxc_exec_services *s = p->l->job->services;
	for (;;) {
		int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		s->agent_connect(a->id, fd, s->ud);
	}
}

static int watch(running *p, bxc_err **err)
{
	bxc_cancel *cancel = p->l->job->cancel;
	const bxc_exec__private *priv = p->l->priv;
	unsigned kills = 0;
	for (;;) {
		struct pollfd fds[FIXED_FDS + BXC_EXEC__MAX_AGENTS] = {
			{.fd = p->out_fd[0], .events = POLLIN},
			{.fd = p->out_fd[1], .events = POLLIN},
			{.fd = p->status_fd, .events = POLLIN},
			{.fd = bxc_proc_pidfd(p->proc), .events = POLLIN},
			{.fd = p->is_killed ? -1 : bxc_cancel_fd(cancel), .events = POLLIN},
		};
		for (size_t i = 0; i < priv->agents.n; i++)
			fds[FIXED_FDS + i] =
				(struct pollfd){.fd = priv->agents.v[i].fd, .events = POLLIN};
		int timeout_ms = -1;
		int64_t deadline = deadline_ns(p);
		if (deadline != INT64_MAX) {
			int64_t left = BXC_MAX(deadline - bxc_clock_mono_ns(), (int64_t)0);
			timeout_ms = (int)BXC_MIN(left / BXC_NS_PER_MS + 1, (int64_t)INT_MAX);
		}
		int n = poll(fds, FIXED_FDS + priv->agents.n, timeout_ms);
		if (n < 0 && errno != EINTR)
			return bxc_err_errno(err, errno, "poll");
		for (int i = 0; n > 0 && i < 3; i++) {
			int r = fds[i].revents ? pump(p, i, false, err) : 0;
			if (r < 0)
				return r;
		}
		for (size_t i = 0; n > 0 && i < priv->agents.n; i++)
			if (fds[FIXED_FDS + i].revents)
				accept_all(p, &priv->agents.v[i]);
		if (n > 0 && fds[3].revents)
			return 0;
		bool late = bxc_clock_mono_ns() >= deadline;
		if ((n > 0 && fds[4].revents) || late) {
			p->is_timed_out |= late && !p->is_killed;
			if (late && p->is_killed && ++kills > 1)
				return bxc_err_set(err, BXC_INTERNAL, "the step cannot be killed");
			int r = kill_step(p, err);
			if (r < 0)
				return r;
		}
	}
}

/* "<errno>\n<text>" of the helper. */
static int setup_error(const running *p, bxc_err **err)
{
	BXC_AUTOFREE char *text = bxc_strdup(bxc_buf_text(&p->status));
	char *rest = strchr(text, '\n');
	uint64_t errnum = 0;
	if (rest) {
		*rest++ = '\0';
		if (bxc_str_to_u64(text, 0, 4095, &errnum, NULL) < 0)
			errnum = 0;
	}
	bxc_code code = errnum ? bxc_code_from_errno((int)errnum) : BXC_INTERNAL;
	/* Not the step's own doing, whatever the number says. */
	if (code != BXC_RESOURCE_EXHAUSTED)
		code = BXC_INTERNAL;
	return bxc_err_set(err, code, "prepare the container: %s", rest ? rest : text);
}

static int finish(running *p, bxc_exec__outcome *ret, bxc_err **err)
{
	bxc_proc_status status;
	int r = bxc_proc_wait(p->proc, &status, err);
	for (int i = 0; r == 0 && i < 3; i++)
		r = pump(p, i, true, err);
	if (r < 0)
		return r;
	/* A command that ended by itself before the kill came is canceled nevertheless. */
	r = bxc_cancel_check(p->l->job->cancel, err);
	if (r < 0)
		return r;
	if (p->status.len > 0)
		return setup_error(p, err);
	if (!p->is_started)
		return bxc_err_set(err, BXC_INTERNAL,
			"the step helper ended with exit code %d before it had started the "
			"container",
			status.exit_code);
	ret->exit_code = status.exit_code;
	ret->is_timed_out = p->is_timed_out;
	ret->duration_ns = bxc_clock_mono_ns() - p->started_ns;
	return 0;
}

static int spawn(running *p, const groups *g, int out_w, int err_w, int status_w, bxc_err **err)
{
	const bxc_exec__launch *l = p->l;
	BXC_ARR(bxc_proc_fd) fds = {0};
	BXC_AUTOCLOSE int job_fd = -1;
	int next = BXC_HELPER_FIRST_FD;
	*bxc_arr_push(&fds) = (bxc_proc_fd){out_w, 1};
	*bxc_arr_push(&fds) = (bxc_proc_fd){err_w, 2};
	*bxc_arr_push(&fds) = (bxc_proc_fd){status_w, BXC_HELPER_STATUS_FD};
	for (size_t i = 0; i < l->n_mount_fds; i++)
		*bxc_arr_push(&fds) = (bxc_proc_fd){l->mount_fds[i], next++};
	const int group_fds[] = {g->unified_fd, g->memory_fd};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(group_fds); i++)
		if (group_fds[i] >= 0) {
			*bxc_arr_push(&l->helper->cgroup_fds) = next;
			*bxc_arr_push(&fds) = (bxc_proc_fd){group_fds[i], next++};
		}
	if (bxc_cg_get_mode(l->x->cg) == BXC_CG_HYBRID)
		bxc_strv_push(&l->helper->unmount, bxc_cg_unified_mount(l->x->cg));
	l->helper->parent = getpid();
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_HELPER_JOB_MAX);
	int r = bxc_helper_job_encode(l->helper, &text, err);
	if (r == 0)
		r = bxc_fd_memfd("bxc-job", text.data, text.len, false, &job_fd, err);
	if (r == 0) {
		*bxc_arr_push(&fds) = (bxc_proc_fd){job_fd, BXC_HELPER_JOB_FD};
		char name[] = "bxc-exec";
		char path_env[] = BXC_EXEC__PATH_ENV;
		char *argv[] = {name, NULL};
		char *env[] = {path_env, NULL};
		const bxc_proc_spec spec = {
			.path = l->x->helper,
			.argv = argv,
			.env = env,
			.cwd = "/",
			.fds = fds.v,
			.n_fds = fds.n,
			.new_session = true,
		};
		r = bxc_proc_spawn(&spec, &p->proc, err);
	}
	bxc_arr_done(&fds);
	return r;
}

static int run(running *p, const groups *g, bxc_exec__outcome *ret, bxc_err **err)
{
	BXC_AUTOCLOSE int out_w = -1;
	BXC_AUTOCLOSE int err_w = -1;
	BXC_AUTOCLOSE int status_w = -1;
	int r = bxc_fd_pipe(&p->out_fd[0], &out_w, err);
	if (r == 0)
		r = bxc_fd_pipe(&p->out_fd[1], &err_w, err);
	if (r == 0)
		r = bxc_fd_pipe(&p->status_fd, &status_w, err);
	const int ours[] = {p->out_fd[0], p->out_fd[1], p->status_fd};
	for (size_t i = 0; r == 0 && i < BXC_ARRAY_SIZE(ours); i++)
		r = bxc_fd_set_nonblock(ours[i], true, err);
	if (r == 0)
		r = spawn(p, g, out_w, err_w, status_w, err);
	if (r < 0)
		return r;
	close_fd(&out_w);
	close_fd(&err_w);
	close_fd(&status_w);
	r = watch(p, err);
	return r < 0 ? r : finish(p, ret, err);
}

int bxc_exec__run_helper(const bxc_exec__launch *l, bxc_exec__outcome *ret, bxc_err **err)
{
	int r = bxc_cancel_check(l->job->cancel, err);
	if (r < 0)
		return r;
	running p = {
		.l = l,
		.out_fd = {-1, -1},
		.status_fd = -1,
		.status = BXC_BUF_INIT(STATUS_MAX),
		.chunk = bxc_malloc(CHUNK),
	};
	for (size_t i = 0; l->priv->masks && i < BXC_ARRAY_SIZE(p.mask); i++)
		p.mask[i] = bxc_exec__mask_new(l->priv->masks);
	groups g = {.unified_fd = -1, .memory_fd = -1};
	bxc_exec__outcome outcome = {0};
	r = groups_make(l->x, l->job->op, l->job->id, &g, err);
	if (r == 0)
		r = run(&p, &g, &outcome, err);
	bxc_proc_free(p.proc);
	outcome.oom_kills = groups_oom_kills(&g);
	outcome.memory_peak = outcome.oom_kills ? groups_memory_peak(&g) : 0;
	groups_remove(l->x, &g);
	close_fd(&p.out_fd[0]);
	close_fd(&p.out_fd[1]);
	close_fd(&p.status_fd);
	bxc_buf_done(&p.status);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(p.mask); i++)
		bxc_exec__mask_free(p.mask[i]);
	explicit_bzero(p.chunk, CHUNK);
	free(p.chunk);
	if (r == 0)
		*ret = outcome;
	return r;
}
