/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The executor: start-up, and a step from its op to the committed layer.
 *
 * All look-ups in the rootfs (user, working folder, mount points) go through the detached overlay
 * mount before and after the container runs; the container gets the very same mount. So the host
 * never sees the rootfs at a path, and there is nothing to unmount.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/mnt.h"
#include "worker/exec/exec_internal.h"

#define MAX_BUNDLES  100000u
#define CRUN_LOG_MAX (256u << 10)

/* An absolute path of a program: as given, near this program, or in PATH. */
static int find_program(const char *given, const char *name, bool beside, char **ret, bxc_err **err)
{
	if (given && strchr(given, '/')) {
		*ret = realpath(given, NULL);
		return *ret ? 0 : bxc_err_errno(err, errno, "program '%s'", given);
	}
	const char *wanted = given ? given : name;
	BXC_AUTOSTRV char **dirs = NULL;
	BXC_AUTOFREE char *self = beside ? realpath("/proc/self/exe", NULL) : NULL;
	if (self) {
		*strrchr(self, '/') = '\0';
		bxc_strv_push(&dirs, self);
		/* As installed, and as built. */
		bxc_strv_pushf(&dirs, "%s/../libexec/bxc", self);
		bxc_strv_pushf(&dirs, "%s/../helper", self);
	}
	const char *env = getenv("PATH");
	BXC_AUTOSTRV char **path = bxc_strv_split(bxc_str_empty(env) ? BXC_EXEC__PATH : env, ':');
	for (char **p = path; *p; p++)
		bxc_strv_push(&dirs, *p);
	for (char **d = dirs; *d; d++) {
		BXC_AUTOFREE char *candidate = bxc_str_fmt("%s/%s", *d, wanted);
		struct stat st;
		if (stat(candidate, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111)) {
			*ret = BXC_TAKE(candidate);
			return 0;
		}
	}
	return bxc_err_set(
		err, BXC_FAILED_PRECONDITION, "the program '%s' is not installed", wanted);
}

static int open_folder(const char *path, char **ret_path, int *ret_fd, bxc_err **err)
{
	int r = bxc_fs_make_dirs(AT_FDCWD, path, 0700, err);
	if (r < 0)
		return r;
	*ret_path = realpath(path, NULL);
	if (!*ret_path)
		return bxc_err_errno(err, errno, "open '%s'", path);
	return bxc_fs_open_dir(AT_FDCWD, *ret_path, ret_fd, err);
}

int bxc_exec_new(const bxc_exec_config *c, bxc_exec **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_exec_freep) bxc_exec *x = bxc_calloc(1, sizeof(*x));
	x->snap = c->snap;
	x->run_fd = x->caches_fd = -1;
	pthread_mutex_init(&x->lock, NULL);
	pthread_cond_init(&x->freed, NULL);
	x->caches = bxc_map_new(free);
	BXC_AUTOFREE char *caches = bxc_str_fmt("%s/cache-mounts", c->root);
	int r = find_program(c->helper, "bxc-exec", true, &x->helper, err);
	if (r == 0)
		r = find_program(c->crun, "crun", false, &x->crun, err);
	if (r == 0)
		r = open_folder(caches, &x->caches_dir, &x->caches_fd, err);
	if (r == 0)
		r = open_folder(c->run_dir, &x->run_dir, &x->run_fd, err);
	if (r == 0)
		r = bxc_exec__groups_open(x, c->cgroup_parent, err);
	BXC_AUTOSTRV char **leftovers = NULL;
	if (r == 0)
		r = bxc_fs_list_dir(x->run_fd, ".", MAX_BUNDLES, &leftovers, err);
	for (char **l = leftovers; r == 0 && *l; l++)
		r = bxc_fs_rmtree(x->run_fd, *l, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "start the executor");
	*ret = BXC_TAKE(x);
	return 0;
}

void bxc_exec_free(bxc_exec *x)
{
	if (!x)
		return;
	bxc_map_free(x->caches);
	pthread_cond_destroy(&x->freed);
	pthread_mutex_destroy(&x->lock);
	bxc_exec__groups_close(x);
	bxc_cleanup_close(&x->run_fd);
	bxc_cleanup_close(&x->caches_fd);
	free(x->run_dir);
	free(x->caches_dir);
	free(x->helper);
	free(x->crun);
	free(x);
}

/* ---- a step ---- */

typedef struct step {
	bxc_exec *x;
	const bxc_exec_job *job;
	char *bundle; /* absolute */
	int bundle_fd;
	bxc_snap_staging *staging;	     /* the root's */
	int root_fd;			     /* the root's mount */
	BXC_ARR(bxc_snap_staging *) scratch; /* of binds whose writes are thrown away */
	/* Handed to the helper; [0] is root_fd, which is owned apart as is that of priv. */
	BXC_ARR(int) mount_fds;
	bxc_helper_job helper;
	BXC_ARR(bxc_exec__mount) mounts;
	bxc_exec__stubs stubs;
	bxc_exec__caches caches;
	bxc_exec__user user;
	bxc_exec__private priv;
} step;

static void step_done(step *s)
{
	for (size_t i = 1; i < s->mount_fds.n; i++)
		if (s->mount_fds.v[i] != s->priv.mount_fd)
			bxc_cleanup_close(&s->mount_fds.v[i]);
	bxc_arr_done(&s->mount_fds);
	bxc_exec__private_done(&s->priv);
	bxc_cleanup_close(&s->root_fd);
	BXC_ARR_FOREACH (g, &s->scratch)
		bxc_snap_abort(*g);
	bxc_arr_done(&s->scratch);
	bxc_snap_abort(s->staging);
	bxc_helper_job_done(&s->helper);
	BXC_ARR_FOREACH (m, &s->mounts) {
		free(m->source);
		bxc_strv_free(m->options);
	}
	bxc_arr_done(&s->mounts);
	bxc_exec__stubs_done(&s->stubs);
	bxc_exec__caches_release(s->x, &s->caches);
	bxc_exec__user_done(&s->user);
	if (s->bundle_fd >= 0) {
		bxc_cleanup_close(&s->bundle_fd);
		BXC_AUTOERR bxc_err *err = NULL;
		if (bxc_fs_rmtree(s->x->run_fd, s->job->id, &err) < 0)
			bxc_log_err(BXC_LOG_WARN, "exec.bundle_left", err, "id", s->job->id, NULL);
	}
	free(s->bundle);
}

static int check_mount(const bxc_exec_job *job, const bxc_op_mount *m, bool is_root, bxc_err **err)
{
	if (m->input != BXC_DEF_NO_INPUT && m->input >= job->n_inputs)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "mount '%s' has no input %u", m->dest, m->input);
	if (is_root && (m->kind != BXC_MOUNT_BIND || !bxc_str_eq(m->dest, "/")))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the first mount must be the root");
	bool is_variable = m->kind == BXC_MOUNT_SECRET && m->env && bxc_str_empty(m->dest);
	if (!is_root && !is_variable && (m->dest[0] != '/' || !m->dest[1]))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid mount target '%s'", m->dest);
	if (is_root && m->selector && !bxc_str_eq(m->selector, "/"))
		return bxc_err_set(
			err, BXC_UNIMPLEMENTED, "a part of an input as the root is not supported");
	if (!is_root && m->output >= 0)
		return bxc_err_set(err, BXC_UNIMPLEMENTED,
			"results of mounts other than the root are not supported: '%s'", m->dest);
	return 0;
}

static int check_job(const bxc_exec_job *job, bxc_err **err)
{
	const bxc_op_exec *op = job->op;
	size_t n = strlen(job->id);
	bool ok = n > 0 && n <= 64;
	for (size_t i = 0; ok && i < n; i++)
		ok = islower((unsigned char)job->id[i]) || isdigit((unsigned char)job->id[i]) ||
		     (i > 0 && job->id[i] == '-');
	if (!ok)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "'%.80s' is no id of a step", job->id);
	if (!op->args || !op->args[0] || op->mounts.n == 0 || op->mounts.n > BXC_EXEC__MAX_MOUNTS)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"a step needs a command, a root, and at most %u mounts",
			BXC_EXEC__MAX_MOUNTS);
	const char *parent = op->cgroup_parent ? op->cgroup_parent : "";
	for (const char *c = parent; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("._-/", *c))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"cgroup parent '%.256s' is no path of a control group (slices of "
				"systemd are not supported)",
				parent);
	for (size_t i = 0; i < op->mounts.n; i++) {
		int r = check_mount(job, &op->mounts.v[i], i == 0, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int make_bundle(step *s, bxc_err **err)
{
	static const char *const parts[] = {"rootfs", "m", "b", "s"};
	if (mkdirat(s->x->run_fd, s->job->id, 0700) < 0)
		return bxc_err_errno(err, errno, "make the bundle of step '%s'", s->job->id);
	int r = bxc_fs_open_dir(s->x->run_fd, s->job->id, &s->bundle_fd, err);
	for (size_t i = 0; r == 0 && i < BXC_ARRAY_SIZE(parts); i++)
		r = bxc_fs_make_dirs(s->bundle_fd, parts[i], 0700, err);
	s->bundle = bxc_str_fmt("%s/%s", s->x->run_dir, s->job->id);
	return r;
}

/* Number that a descriptor will have in the helper. */
static int hand_over(step *s, int fd)
{
	*bxc_arr_push(&s->mount_fds) = fd;
	return BXC_HELPER_FIRST_FD + (int)s->mount_fds.n - 1;
}

static const bxc_exec_input *input_of(const step *s, const bxc_op_mount *m)
{
	static const bxc_exec_input none = {.tree_fd = -1};
	return m->input == BXC_DEF_NO_INPUT ? &none : &s->job->inputs[m->input];
}

static int mount_root(step *s, bxc_err **err)
{
	const bxc_exec_input *in = input_of(s, &s->job->op->mounts.v[0]);
	if (in->tree_fd >= 0)
		return bxc_err_set(err, BXC_UNIMPLEMENTED,
			"a local folder as the root of a step is not supported");
	int r = bxc_snap_begin(s->x->snap, s->job->output_layer, &s->staging, err);
	if (r == 0)
		r = bxc_snap_mount_rw(
			s->x->snap, in->layers, in->n_layers, s->staging, &s->root_fd, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *at = bxc_str_fmt("%s/rootfs", s->bundle);
	bxc_helper_add_mount(&s->helper, hand_over(s, s->root_fd), at);
	return 0;
}

static int mount_input(step *s, const bxc_op_mount *m, int *ret_fd, bxc_err **err)
{
	const bxc_exec_input *in = input_of(s, m);
	if (m->readonly) {
		if (in->tree_fd >= 0)
			return bxc_mnt_bind_clone(
				in->tree_fd, "", false, MOUNT_ATTR_RDONLY, ret_fd, err);
		return bxc_snap_mount_ro(s->x->snap, in->layers, in->n_layers, ret_fd, err);
	}
	bxc_snap_staging *g = NULL;
	int r = bxc_snap_begin(s->x->snap, NULL, &g, err);
	if (r < 0)
		return r;
	*bxc_arr_push(&s->scratch) = g;
	if (in->tree_fd >= 0)
		return bxc_snap_mount_rw_dir(s->x->snap, in->tree_fd, g, ret_fd, err);
	return bxc_snap_mount_rw(s->x->snap, in->layers, in->n_layers, g, ret_fd, err);
}

static void set_bind(bxc_exec__mount *ret, bool readonly)
{
	ret->type = "bind";
	bxc_strv_push(&ret->options, "bind");
	bxc_strv_push(&ret->options, "rprivate");
	if (readonly)
		bxc_strv_push(&ret->options, "ro");
}

static int prepare_bind(step *s, const bxc_op_mount *m, size_t i, bxc_exec__mount *ret,
	bool *ret_is_dir, bxc_err **err)
{
	int fd = -1;
	int r = mount_input(s, m, &fd, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *name = bxc_str_fmt("m/%zu", i);
	BXC_AUTOFREE char *at = bxc_str_fmt("%s/%s", s->bundle, name);
	bxc_helper_add_mount(&s->helper, hand_over(s, fd), at);
	r = bxc_fs_make_dirs(s->bundle_fd, name, 0700, err);
	if (r < 0)
		return r;
	*ret_is_dir = true;
	ret->source = bxc_strdup(at);
	if (!bxc_str_empty(m->selector) && !bxc_str_eq(m->selector, "/")) {
		BXC_AUTOCLOSE int sel_fd = -1;
		BXC_AUTOERR bxc_err *why = NULL;
		struct stat st;
		r = bxc_fs_open_beneath(fd, m->selector, O_PATH, 0, BXC_FS_IN_ROOT, &sel_fd, &why);
		if (r == -BXC_NOT_FOUND)
			return bxc_err_set(err, BXC_NOT_FOUND, "\"%s\": not found", m->selector);
		if (r == 0)
			r = bxc_fs_lstat(sel_fd, "", &st, &why);
		if (r < 0)
			return bxc_err_move(err, BXC_TAKE(why));
		*ret_is_dir = S_ISDIR(st.st_mode);
		free(ret->source);
		ret->source = bxc_str_fmt("%s/b/%zu", s->bundle, i);
		bxc_helper_add_bind(&s->helper, at, m->selector, ret->source);
	}
	set_bind(ret, m->readonly);
	return 0;
}

/* The tmpfs of the step is made for the first secret or agent. */
static int open_private(step *s, bxc_err **err)
{
	if (!bxc_exec__needs_private(s->job->op))
		return 0;
	int r = bxc_exec__private_open(&s->priv, s->job->op, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *at = bxc_str_fmt("%s/s", s->bundle);
	bxc_helper_add_mount(&s->helper, hand_over(s, s->priv.mount_fd), at);
	return 0;
}

/* 1: the client has none and the step can do without. */
static int prepare_private(step *s, const bxc_op_mount *m, size_t i, bxc_err **err)
{
	bool is_secret = m->kind == BXC_MOUNT_SECRET, is_there = false;
	BXC_AUTOFREE char *name = bxc_str_fmt("%zu", i);
	int r = is_secret ? bxc_exec__private_secret(
				    &s->priv, s->job->services, m, name, &is_there, err)
			  : bxc_exec__private_agent(
				    &s->priv, s->job->services, m, name, &is_there, err);
	if (r < 0)
		return r;
	if (!is_there || bxc_str_empty(m->dest))
		return 1;
	bxc_exec__mount *out = bxc_arr_push(&s->mounts);
	out->dest = m->dest;
	set_bind(out, is_secret);
	bxc_strv_push(&out->options, "nosuid");
	bxc_strv_push(&out->options, "nodev");
	bxc_strv_push(&out->options, "noexec");
	out->source = bxc_str_fmt("%s/s/%s", s->bundle, name);
	return 0;
}

/* 1: there is nothing to mount. */
static int prepare_mount(step *s, size_t i, bool *ret_is_dir, bxc_err **err)
{
	const bxc_op_mount *m = &s->job->op->mounts.v[i];
	if (m->kind == BXC_MOUNT_SECRET || m->kind == BXC_MOUNT_SSH) {
		*ret_is_dir = false;
		return prepare_private(s, m, i, err);
	}
	bxc_exec__mount *out = bxc_arr_push(&s->mounts);
	const bxc_exec__seed seed = {s->x->snap, input_of(s, m), m->selector, s->job->cancel};
	out->dest = m->dest;
	*ret_is_dir = true;
	switch (m->kind) {
	case BXC_MOUNT_BIND:
		return prepare_bind(s, m, i, out, ret_is_dir, err);
	case BXC_MOUNT_CACHE:
		set_bind(out, m->readonly);
		return bxc_exec__cache_take(s->x, m, m->input == BXC_DEF_NO_INPUT ? NULL : &seed,
			s->job->cache_generations ? s->job->cache_generations[i] : 0,
			s->job->cancel, &s->caches, &out->source, err);
	case BXC_MOUNT_TMPFS:
		out->type = "tmpfs";
		out->source = bxc_strdup("tmpfs");
		bxc_strv_push(&out->options, "nosuid");
		if (m->tmpfs_size)
			bxc_strv_pushf(
				&out->options, "size=%llu", (unsigned long long)m->tmpfs_size);
		if (m->readonly)
			bxc_strv_push(&out->options, "ro");
		return 0;
	case BXC_MOUNT_SECRET:
	case BXC_MOUNT_SSH:
	default:
		return bxc_err_set(err, BXC_UNIMPLEMENTED,
			"mount '%s' is of a kind that is not supported", m->dest);
	}
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);
	return strncmp(path, dir, n) == 0 && path[n] == '/';
}

/* Its mount point lies in another mount, not in the layer. */
static bool lies_in_a_mount(const step *s, const char *dest)
{
	for (const char *const *d = bxc_exec__default_dests; *d; d++)
		if (is_below(dest, *d))
			return true;
	for (size_t i = 1; i < s->job->op->mounts.n; i++) {
		const char *at = s->job->op->mounts.v[i].dest;
		/* A secret that is only a variable is nowhere. */
		if (!bxc_str_empty(at) && is_below(dest, at))
			return true;
	}
	return false;
}

static int prepare_mounts(step *s, bxc_err **err)
{
	int r = open_private(s, err);
	for (const char *const *d = bxc_exec__default_dests; r == 0 && *d; d++)
		if (!lies_in_a_mount(s, *d))
			r = bxc_exec__stub_make(
				s->root_fd, *d, !bxc_str_has_prefix(*d, "/etc/"), &s->stubs, err);
	for (size_t i = 1; r == 0 && i < s->job->op->mounts.n; i++) {
		const char *dest = s->job->op->mounts.v[i].dest;
		bool is_dir = true;
		r = prepare_mount(s, i, &is_dir, err);
		if (r == 0 && !lies_in_a_mount(s, dest))
			r = bxc_exec__stub_make(s->root_fd, dest, is_dir, &s->stubs, err);
		if (r == 1)
			r = 0;
	}
	return r < 0 ? r : bxc_exec__private_masks(&s->priv, err);
}

/* "process "..." did not complete successfully: <text>": what the step itself did wrong. */
static int step_failed(const step *s, bxc_err **err, const char *text)
{
	BXC_AUTOFREE char *line = bxc_strv_join(s->job->op->args, " ");
	BXC_AUTOFREE char *quoted = bxc_exec__quote(line);
	return bxc_err_set(
		err, BXC_UNKNOWN, "process %s did not complete successfully: %s", quoted, text);
}

static int find_user(step *s, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_exec__find_user(s->root_fd, s->job->op->user, &s->user, &why);
	if (r == -BXC_UNKNOWN)
		return step_failed(s, err, bxc_err_text(why));
	if (r < 0)
		return bxc_err_wrap_take(err, BXC_TAKE(why), r, "look up user");
	return 0;
}

/* The working folder is real content of the layer. */
static int make_cwd(step *s, bxc_err **err)
{
	BXC_AUTOFREE char *cwd = bxc_exec__cwd(s->job->op);
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fs_mkdir_p(
		s->root_fd, cwd, 0755, s->user.uid, s->user.gid, NULL, NULL, NULL, &why);
	if (r == -BXC_INVALID_ARGUMENT)
		return step_failed(s, err, bxc_err_text(why));
	return r < 0 ? bxc_err_move(err, BXC_TAKE(why)) : 0;
}

static int put_file(const step *s, const char *name, const void *p, size_t n, bxc_err **err)
{
	BXC_AUTOCLOSE int fd =
		openat(s->bundle_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return bxc_err_errno(err, errno, "create '%s'", name);
	/* Readable for every user of the step, whatever our umask. */
	if (fchmod(fd, 0644) < 0)
		return bxc_err_errno(err, errno, "change mode of '%s'", name);
	return bxc_fd_write_all(fd, p, n, err);
}

static int write_files(step *s, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf resolv = BXC_BUF_INIT(1u << 20);
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fs_read_file(AT_FDCWD, "/etc/resolv.conf", 1u << 20, &resolv, &why);
	if (r < 0 && r != -BXC_NOT_FOUND)
		return bxc_err_wrap_take(err, BXC_TAKE(why), r, "read the host's resolv.conf");
	BXC_AUTOFREE char *hosts = bxc_exec__hosts(s->job->op);
	r = put_file(s, "resolv.conf", resolv.data, resolv.len, err);
	if (r == 0)
		r = put_file(s, "hosts", hosts, strlen(hosts), err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *resolv_path = bxc_str_fmt("%s/resolv.conf", s->bundle);
	BXC_AUTOFREE char *hosts_path = bxc_str_fmt("%s/hosts", s->bundle);
	BXC_AUTOFREE char *rootfs = bxc_str_fmt("%s/rootfs", s->bundle);
	const bxc_exec__spec spec = {
		.op = s->job->op,
		.rootfs = rootfs,
		.user = &s->user,
		.resolv_conf = resolv_path,
		.hosts = hosts_path,
		.mounts = s->mounts.v,
		.n_mounts = s->mounts.n,
		.env = s->priv.env.v,
		.n_env = s->priv.env.n,
	};
	BXC_AUTOJSON bxc_json *j = NULL;
	r = bxc_exec__spec_json(&spec, &j, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *text = bxc_json_print(j);
	return s->priv.env.n ? bxc_exec__private_config(&s->priv, text, err)
			     : put_file(s, "config.json", text, strlen(text), err);
}

/* crun's last complaint; NULL: none. Owned. */
static char *crun_complaint(const step *s)
{
	BXC_AUTOBUF bxc_buf log = BXC_BUF_INIT(CRUN_LOG_MAX);
	if (bxc_fs_read_file(s->bundle_fd, "crun.log", CRUN_LOG_MAX, &log, NULL) < 0)
		return NULL;
	char *found = NULL;
	BXC_AUTOSTRV char **lines = bxc_strv_split(bxc_buf_text(&log), '\n');
	for (char **l = lines; *l; l++) {
		BXC_AUTOJSON bxc_json *j = NULL;
		if (bxc_json_parse(bxc_slice_of(*l, strlen(*l)), &j, NULL) < 0)
			continue;
		const char *msg = bxc_json_get_str(j, "msg", NULL);
		if (msg && bxc_str_eq(bxc_json_get_str(j, "level", ""), "error")) {
			free(found);
			found = bxc_strdup(msg);
		}
	}
	return found;
}

static int failed_with_code(const step *s, int exit_code, const char *text, bxc_err **err)
{
	BXC_AUTOFREE char *by_code = bxc_str_fmt("exit code: %d", exit_code);
	int r = step_failed(s, err, text ? text : by_code);
	if (err)
		bxc_err_detail(*err, "exit_code", "%d", exit_code);
	return r;
}

static int judge(const step *s, const bxc_exec__outcome *o, bxc_err **err)
{
	if (o->exit_code == 0)
		return 0;
	BXC_AUTOFREE char *complaint = crun_complaint(s);
	if (complaint) {
		/* The command is what could not be started: as a shell says it. */
		if (strstr(complaint, "executable file") ||
			strstr(complaint, "Exec format error") ||
			bxc_str_has_prefix(complaint, "exec ") ||
			bxc_str_has_prefix(complaint, "open executable")) {
			bool is_absent =
				strstr(complaint, "not found") || strstr(complaint, "No such file");
			return failed_with_code(s, is_absent ? 127 : 126, NULL, err);
		}
		if (bxc_str_has_prefix(complaint, "setrlimit") ||
			bxc_str_has_prefix(complaint, "chdir"))
			return failed_with_code(s, 1, complaint, err);
		return bxc_err_set(err, BXC_INTERNAL, "crun: %s", complaint);
	}
	bool is_oom = o->oom_kills > 0;
	BXC_AUTOFREE char *late =
		o->is_timed_out ? bxc_str_fmt("it ran for longer than %.10gs, the limit of this "
					      "cluster",
					  (double)s->job->timeout_ns / (double)BXC_NS_PER_S)
				: NULL;
	BXC_AUTOFREE char *oom =
		!is_oom ? NULL
		: o->memory_peak
			? bxc_str_fmt("cannot allocate memory (it had used up to %.1f MiB)",
				  (double)o->memory_peak / (1 << 20))
			: bxc_strdup("cannot allocate memory");
	int r = failed_with_code(s, o->exit_code, late ? late : oom, err);
	if (err && late)
		bxc_err_detail(*err, "timeout", "true");
	if (err && o->exit_code > 128)
		bxc_err_detail(*err, "signal", "%d", o->exit_code - 128);
	if (err && is_oom)
		bxc_err_detail(*err, "oom", "true");
	if (err && is_oom && o->memory_peak)
		bxc_err_detail(*err, "memory_peak", "%ju", (uintmax_t)o->memory_peak);
	return r;
}

static int launch(step *s, bxc_exec_result *result, bxc_err **err)
{
	char ***v = &s->helper.argv;
	bxc_strv_push(v, s->x->crun);
	bxc_strv_push(v, "--root");
	/* crun keeps a copy of config.json in its state: with values of secrets both are private.
	 */
	const char *private_part = s->priv.env.n ? "/s" : "";
	bxc_strv_pushf(v, "%s%s/state", s->bundle, private_part);
	bxc_strv_push(v, "--log");
	bxc_strv_pushf(v, "%s/crun.log", s->bundle);
	bxc_strv_push(v, "--log-format");
	bxc_strv_push(v, "json");
	/* The step is in our groups already. */
	bxc_strv_push(v, "--cgroup-manager");
	bxc_strv_push(v, "disabled");
	bxc_strv_push(v, "run");
	bxc_strv_push(v, "--bundle");
	bxc_strv_push(v, s->bundle);
	bxc_strv_push(v, "--config");
	bxc_strv_pushf(v, "%s%s/config.json", s->bundle, private_part);
	bxc_strv_push(v, s->job->id);
	const bxc_exec__launch l = {
		.x = s->x,
		.job = s->job,
		.helper = &s->helper,
		.mount_fds = s->mount_fds.v,
		.n_mount_fds = s->mount_fds.n,
		.priv = &s->priv,
	};
	bxc_exec__outcome outcome;
	int r = bxc_exec__run_helper(&l, &outcome, err);
	if (r < 0)
		return r;
	result->duration_ns = outcome.duration_ns;
	return judge(s, &outcome, err);
}

static int keep_result(step *s, bxc_exec_result *result, bxc_err **err)
{
	int r = bxc_exec__stubs_remove(s->root_fd, &s->stubs, err);
	if (r < 0 || !s->job->output_layer)
		return r;
	/* The last hold on the mount: nothing can write to the layer from here on. */
	bxc_cleanup_close(&s->root_fd);
	s->root_fd = -1;
	r = bxc_snap_commit(BXC_TAKE(s->staging), NULL, err);
	if (r < 0)
		return r;
	bxc_snap_facts facts = {0};
	r = bxc_snap_get(s->x->snap, s->job->output_layer, &facts, err);
	if (r == 0)
		result->size_bytes = facts.size_bytes;
	return r;
}

static int run_step(step *s, bxc_exec_result *result, bxc_err **err)
{
	int r = bxc_cancel_check(s->job->cancel, err);
	if (r == 0)
		r = make_bundle(s, err);
	if (r == 0)
		r = mount_root(s, err);
	if (r == 0)
		r = find_user(s, err);
	if (r == 0)
		r = prepare_mounts(s, err);
	if (r == 0)
		r = make_cwd(s, err);
	if (r == 0)
		r = write_files(s, err);
	if (r == 0)
		r = launch(s, result, err);
	if (r == 0)
		r = keep_result(s, result, err);
	return r;
}

/* Does the code tell of this worker rather than of what it was asked to do? */
static bool is_infra(int r)
{
	switch ((bxc_code)-r) {
	case BXC_UNKNOWN:
	case BXC_CANCELED:
	case BXC_INVALID_ARGUMENT:
	case BXC_UNIMPLEMENTED:
		return false;
	case BXC_OK:
	case BXC_DEADLINE_EXCEEDED:
	case BXC_NOT_FOUND:
	case BXC_ALREADY_EXISTS:
	case BXC_PERMISSION_DENIED:
	case BXC_RESOURCE_EXHAUSTED:
	case BXC_FAILED_PRECONDITION:
	case BXC_ABORTED:
	case BXC_OUT_OF_RANGE:
	case BXC_INTERNAL:
	case BXC_UNAVAILABLE:
	case BXC_DATA_LOSS:
	case BXC_UNAUTHENTICATED:
	default:
		return true;
	}
}

int bxc_exec_run(bxc_exec *x, const bxc_exec_job *job, bxc_exec_result *ret, bxc_err **err)
{
	int r = check_job(job, err);
	if (r < 0)
		return r;
	step s = {.x = x, .job = job, .bundle_fd = -1, .root_fd = -1};
	bxc_exec__private_init(&s.priv);
	bxc_exec_result result = {0};
	BXC_AUTOERR bxc_err *why = NULL;
	r = run_step(&s, &result, &why);
	step_done(&s);
	if (r < 0) {
		/* A path that is not in an input is the definition's fault: it names no layer. */
		bool names_path = r == -BXC_NOT_FOUND && !bxc_err_get_detail(why, "layer") &&
				  bxc_err_errnum(why) == 0;
		if (is_infra(r) && !names_path)
			bxc_err_detail(why, "infra", "true");
		return bxc_err_move(err, BXC_TAKE(why));
	}
	*ret = result;
	return 0;
}
