/* SPDX-License-Identifier: Apache-2.0 */
/* Steps in real containers: crun, and a rootfs of the host's static busybox. argv[1]: bxc-exec. */
#include "common/testing/testing.h"

#include <pthread.h>
#include <signal.h>

#include "common/base/clock.h"
#include "common/os/cg.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/mnt.h"
#include "worker/diff/diff.h"
#include "common/os/proc.h"
#include "worker/exec/exec_internal.h"

static const char *helper_path;

typedef struct world {
	char *dir, *group;
	bxc_snap *snap;
	bxc_exec *x;
	bxc_buf out[2];
	bxc_cancel *cancel;
	bool cancel_on_output, was_started, echo;
	bxc_exec_result result;
	const uint64_t *generations;
	unsigned n_steps;
	const bxc_exec_services *services;
} world;

static void put(int dir_fd, const char *name, const char *text)
{
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* A rootfs without proc, dev, sys, run and the files of etc: all of those are mount points. */
static void make_rootfs(bxc_snap *s)
{
	static const char *const names[] = {"sh", "cat", "ls", "id", "stat", "touch", "mkdir", "rm",
		"sleep", "mount", "env", "pwd", "hostname", "true", "ln", "head", "setsid",
		"unshare", "ip", "grep", "chmod", "wc", "tail"};
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_snap_staging *g = NULL;
	assert_ok(bxc_snap_begin(s, "l-base", &g, &err), err);
	int fd = bxc_snap_staging_fd(g);
	assert_int_equal(
		mkdirat(fd, "bin", 0755) | mkdirat(fd, "etc", 0755) | mkdirat(fd, "tmp", 0755), 0);
	BXC_AUTOCLOSE int in = open("/bin/busybox", O_RDONLY | O_CLOEXEC);
	BXC_AUTOCLOSE int out = openat(fd, "bin/busybox", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	uint64_t size = 0;
	assert_ok(bxc_fd_size(in, &size, &err), err);
	assert_ok(bxc_fd_copy(in, 0, out, size, &err), err);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(names); i++) {
		BXC_AUTOFREE char *path = bxc_str_fmt("bin/%s", names[i]);
		assert_int_equal(symlinkat("busybox", fd, path), 0);
	}
	put(fd, "etc/passwd",
		"root:x:0:0:root:/root:/bin/sh\napp:x:1000:50:app:/home/app:/bin/sh\n");
	put(fd, "etc/group", "root:x:0:\nstaff:x:50:\nvideo:x:44:app\n");
	struct timespec t[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	assert_int_equal(utimensat(fd, "etc", t, 0), 0);
	assert_int_equal(bxc_snap_commit(g, NULL, &err), 0);
}

static int set_up(void **state)
{
	BXC_AUTOERR bxc_err *err = NULL;
	world *w = bxc_calloc(1, sizeof(*w));
	w->dir = bxc_test_tmpdir();
	w->group = bxc_str_fmt("bxc-test-%d", (int)getpid());
	BXC_AUTOFREE char *store = bxc_str_fmt("%s/store", w->dir);
	BXC_AUTOFREE char *run = bxc_str_fmt("%s/run", w->dir);
	assert_ok(bxc_snap_open(store, &w->snap, &err), err);
	make_rootfs(w->snap);
	const bxc_exec_config c = {.snap = w->snap,
		.root = w->dir,
		.run_dir = run,
		.helper = helper_path,
		.cgroup_parent = w->group};
	assert_ok(bxc_exec_new(&c, &w->x, &err), err);
	bxc_buf_init(&w->out[0], 1u << 20);
	bxc_buf_init(&w->out[1], 1u << 20);
	w->cancel = bxc_cancel_new();
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	/* Nothing of any step is left: no bundle, no mount, no control group. */
	bxc_exec_free(w->x);
	BXC_AUTOFREE char *run = bxc_str_fmt("%s/run", w->dir);
	BXC_AUTOSTRV char **bundles = NULL;
	assert_ok(bxc_fs_list_dir(AT_FDCWD, run, 10, &bundles, &err), err);
	assert_int_equal(bxc_strv_len(bundles), 0);
	BXC_AUTOFREE char *tmp = bxc_str_fmt("%s/store/tmp", w->dir);
	BXC_AUTOSTRV char **stagings = NULL;
	assert_ok(bxc_fs_list_dir(AT_FDCWD, tmp, 10, &stagings, &err), err);
	assert_int_equal(bxc_strv_len(stagings), 0);
	BXC_AUTOFREE char *mounts = bxc_test_read_file("/proc/self/mountinfo", NULL);
	assert_null(strstr(mounts, w->dir));
	BXC_CLEANUP(bxc_cg_freep) bxc_cg *cg = NULL;
	assert_ok(bxc_cg_detect(&cg, &err), err);
	static const char *const hierarchies[] = {NULL, "memory"};
	for (size_t i = 0; i < 2; i++) {
		BXC_AUTOCLOSE int fd = -1;
		if (bxc_cg_open(cg, hierarchies[i], w->group, &fd, NULL) == 0)
			fail_msg("the group '%s' is left", w->group);
	}
	bxc_snap_free(w->snap);
	bxc_buf_done(&w->out[0]);
	bxc_buf_done(&w->out[1]);
	bxc_cancel_unref(w->cancel);
	bxc_test_rmtree(w->dir);
	free(w->group);
	free(w);
	return 0;
}

static void on_output(int stream, const void *p, size_t n, void *ud)
{
	world *w = ud;
	bxc_ignore(bxc_buf_append(&w->out[stream - 1], p, n, NULL));
	if (w->echo)
		bxc_ignore(write(STDOUT_FILENO, p, n));
	if (w->cancel_on_output)
		bxc_cancel_fire(w->cancel);
}

static void on_start(void *ud)
{
	((world *)ud)->was_started = true;
}

/* An op that runs a shell script; owned vertex. */
static bxc_def_vertex *shell(const char *script)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_EXEC);
	bxc_strv_push(&v->op.exec.args, "/bin/sh");
	bxc_strv_push(&v->op.exec.args, "-c");
	bxc_strv_push(&v->op.exec.args, script);
	v->op.exec.cwd = bxc_strdup("/");
	bxc_op_mount *root = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/");
	root->input = 0;
	root->output = 0;
	return v;
}

#define AUTOVERTEX BXC_CLEANUP(bxc_def_vertex_freep)

static int run_with(world *w, bxc_def_vertex *v, const bxc_exec_input *inputs, size_t n,
	const char *layer, bxc_err **err)
{
	BXC_AUTOFREE char *id = bxc_str_fmt("step-%u", ++w->n_steps);
	bxc_buf_clear(&w->out[0]);
	bxc_buf_clear(&w->out[1]);
	w->was_started = false;
	const bxc_exec_job job = {
		.id = id,
		.op = &v->op.exec,
		.inputs = inputs,
		.n_inputs = n,
		.cache_generations = w->generations,
		.output_layer = layer,
		.on_output = on_output,
		.on_start = on_start,
		.ud = w,
		.services = w->services,
		.cancel = w->cancel,
	};
	return bxc_exec_run(w->x, &job, &w->result, err);
}

static int run(world *w, bxc_def_vertex *v, const char *layer, bxc_err **err)
{
	static const char *const base[] = {"l-base"};
	const bxc_exec_input in = {.layers = base, .n_layers = 1, .tree_fd = -1};
	return run_with(w, v, &in, 1, layer, err);
}

static const char *out(const world *w)
{
	return bxc_buf_text(&w->out[0]);
}

static void assert_prints(world *w, bxc_def_vertex *v, const char *expected)
{
	BXC_AUTOERR bxc_err *err = NULL;
	int r = run(w, v, NULL, &err);
	if (r < 0)
		fail_msg("%s; stderr: %s", bxc_err_text(err), bxc_buf_text(&w->out[1]));
	assert_string_equal(out(w), expected);
}

/* The tar of a layer over the base, as a list of paths. */
static char *changes(world *w, const char *layer)
{
	BXC_AUTOERR bxc_err *err = NULL;
	static const char *const base[] = {"l-base"};
	BXC_AUTOCLOSE int lower = -1;
	assert_ok(bxc_snap_mount_ro(w->snap, base, 1, &lower, &err), err);
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/store/layers/%s/fs", w->dir, layer);
	BXC_AUTOCLOSE int upper = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(upper >= 0);
	BXC_AUTOBUF bxc_buf tar = BXC_BUF_INIT(4u << 20);
	bxc_test_cursor from = {.buf = &tar};
	assert_ok(bxc_diff_write(upper, lower, INT64_MAX, bxc_test_to_buf, &tar, NULL, &err), err);
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	assert_ok(bxc_tar_reader_new(bxc_test_from_buf, &from, &r, &err), err);
	BXC_AUTOSTRV char **lines = NULL;
	const bxc_tar_entry *e = NULL;
	while (bxc_tar_reader_next(r, &e, &err) == 1)
		bxc_strv_pushf(&lines, "%s:%o:%u:%u", e->path, e->mode, e->uid, e->gid);
	return bxc_strv_join(lines, " ");
}

static void a_command_runs_and_its_writes_become_a_layer(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	AUTOVERTEX bxc_def_vertex *v =
		shell("echo out; echo err >&2; echo data > /new; rm /etc/group; touch /tmp/t");
	assert_ok(run(w, v, "l-new", &err), err);
	assert_string_equal(out(w), "out\n");
	assert_string_equal(bxc_buf_text(&w->out[1]), "err\n");
	assert_true(w->was_started);
	assert_true(w->result.duration_ns > 0);
	assert_int_equal(w->result.size_bytes, 5);
	BXC_AUTOFREE char *got = changes(w, "l-new");
	assert_string_equal(
		got, "etc:755:0:0 etc/.wh.group:0:0:0 new:644:0:0 tmp:755:0:0 tmp/t:644:0:0");
	/* The next step builds upon it. */
	static const char *const two[] = {"l-base", "l-new"};
	const bxc_exec_input in = {.layers = two, .n_layers = 2, .tree_fd = -1};
	AUTOVERTEX bxc_def_vertex *next = shell("cat /new; ls /etc");
	assert_ok(run_with(w, next, &in, 1, "l-next", &err), err);
	/* resolv.conf and hosts are mounted. */
	assert_string_equal(out(w), "data\nhosts\npasswd\nresolv.conf\n");
	BXC_AUTOFREE char *nothing = changes(w, "l-next");
	assert_string_equal(nothing, "");
}

static void an_exit_code_is_told_in_the_words_of_buildkit(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	AUTOVERTEX bxc_def_vertex *v = shell("exit 3");
	assert_int_equal(run(w, v, "l-none", &err), -BXC_UNKNOWN);
	assert_string_equal(bxc_err_text(err),
		"process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3");
	assert_string_equal(bxc_err_get_detail(err, "exit_code"), "3");
	assert_null(bxc_err_get_detail(err, "infra"));
	assert_false(bxc_snap_has(w->snap, "l-none"));
	bxc_err_free(BXC_TAKE(err));
	AUTOVERTEX bxc_def_vertex *killed = shell("sh -c 'kill -9 $$'; exit $?");
	assert_int_equal(run(w, killed, NULL, &err), -BXC_UNKNOWN);
	assert_string_equal(bxc_err_get_detail(err, "exit_code"), "137");
	assert_string_equal(bxc_err_get_detail(err, "signal"), "9");
	assert_null(bxc_err_get_detail(err, "oom"));
}

static void a_missing_program_is_exit_code_127(void **state)
{
	world *w = *state;
	static const char *const missing[] = {"nope", "/bin/nope"};
	for (size_t i = 0; i < 2; i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		AUTOVERTEX bxc_def_vertex *v = shell("x");
		bxc_strv_free(v->op.exec.args);
		v->op.exec.args = NULL;
		bxc_strv_push(&v->op.exec.args, missing[i]);
		assert_int_equal(run(w, v, NULL, &err), -BXC_UNKNOWN);
		BXC_AUTOFREE char *expected = bxc_str_fmt(
			"process \"%s\" did not complete successfully: exit code: 127", missing[i]);
		assert_string_equal(bxc_err_text(err), expected);
		assert_non_null(strstr(bxc_buf_text(&w->out[1]), missing[i]));
	}
	BXC_AUTOERR bxc_err *err = NULL;
	AUTOVERTEX bxc_def_vertex *v = shell("x");
	free(v->op.exec.args[0]);
	v->op.exec.args[0] = bxc_strdup("/etc/passwd");
	assert_int_equal(run(w, v, NULL, &err), -BXC_UNKNOWN);
	assert_string_equal(bxc_err_get_detail(err, "exit_code"), "126");
}

static void users_and_working_folders_are_real(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	AUTOVERTEX bxc_def_vertex *v = shell("id -u; id -g; id -G; pwd; echo $HOME; touch mine");
	v->op.exec.user = bxc_strdup("app");
	free(v->op.exec.cwd);
	v->op.exec.cwd = bxc_strdup("/srv/deep");
	assert_ok(run(w, v, "l-cwd", &err), err);
	assert_string_equal(out(w), "1000\n50\n50 44\n/srv/deep\n/home/app\n");
	BXC_AUTOFREE char *got = changes(w, "l-cwd");
	assert_string_equal(got, "srv:755:1000:50 srv/deep:755:1000:50 srv/deep/mine:644:1000:50");
	AUTOVERTEX bxc_def_vertex *x = shell("true");
	x->op.exec.user = bxc_strdup("ghost");
	assert_int_equal(run(w, x, NULL, &err), -BXC_UNKNOWN);
	assert_string_equal(bxc_err_text(err),
		"process \"/bin/sh -c true\" did not complete successfully: unable to find user "
		"ghost: no matching entries in "
		"passwd file");
	assert_false(w->was_started);
}

static void a_step_sees_a_sandbox(void **state)
{
	world *w = *state;
	AUTOVERTEX bxc_def_vertex *v =
		shell("hostname; echo $A $PATH; cat /etc/hosts | head -1; "
		      "cat /proc/self/status | grep CapEff; ls /proc/self/fd | wc -l; cat "
		      "/proc/kcore | wc -c; "
		      "touch /proc/sys/kernel/hostname 2>/dev/null || echo ro; touch /sys/x "
		      "2>/dev/null || echo ro; "
		      "touch /etc/resolv.conf 2>/dev/null || echo ro; mount -t tmpfs x /tmp "
		      "2>/dev/null || echo refused; "
		      "unshare -U true 2>/dev/null || echo refused; stat -c %a /dev/shm /dev/null; "
		      "mount | grep -c ' /sys/fs/cgroup'");
	bxc_strv_push(&v->op.exec.env, "A=1");
	BXC_AUTOERR bxc_err *err = NULL;
	int r = run(w, v, NULL, &err);
	(void)r;
	BXC_AUTOSTRV char **lines = bxc_strv_split(out(w), '\n');
	assert_true(bxc_strv_len(lines) >= 13);
	assert_string_equal(lines[0], "buildkitsandbox");
	assert_string_equal(
		lines[1], "1 /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	assert_string_equal(lines[2], "127.0.0.1\tlocalhost buildkitsandbox");
	assert_string_equal(lines[3], "CapEff:\t00000000a80425fb");
	assert_string_equal(lines[4], "4");
	assert_string_equal(lines[5], "0");
	assert_string_equal(lines[6], "ro");
	assert_string_equal(lines[7], "ro");
	assert_string_equal(lines[8], "ro");
	assert_string_equal(lines[9], "refused");
	assert_string_equal(lines[10], "refused");
	assert_string_equal(lines[11], "1777");
	assert_string_equal(lines[12], "666");
}

static void no_network_means_loopback_only(void **state)
{
	world *w = *state;
	AUTOVERTEX bxc_def_vertex *v = shell("ip -o link | wc -l; ip -o link | grep -c 'lo:.*UP'");
	v->op.exec.net = BXC_NET_NONE;
	assert_prints(w, v, "1\n1\n");
}

static void binds_show_inputs_and_lose_writes(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_snap_staging *g = NULL;
	assert_ok(bxc_snap_begin(w->snap, "l-in", &g, &err), err);
	int fd = bxc_snap_staging_fd(g);
	assert_int_equal(mkdirat(fd, "d", 0755), 0);
	put(fd, "d/f", "content");
	assert_int_equal(symlinkat("/d", fd, "link"), 0);
	assert_int_equal(symlinkat("/etc", fd, "out"), 0);
	assert_int_equal(bxc_snap_commit(g, NULL, &err), 0);
	BXC_AUTOFREE char *tree = bxc_str_fmt("%s/tree", w->dir);
	assert_int_equal(mkdir(tree, 0755), 0);
	BXC_AUTOCLOSE int tree_fd = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put(tree_fd, "t", "tree");
	static const char *const base[] = {"l-base"}, *const in_layers[] = {"l-in"};
	const bxc_exec_input inputs[] = {{base, 1, -1}, {in_layers, 1, -1}, {NULL, 0, tree_fd}};
	static const struct {
		const char *dest, *selector;
		uint32_t input;
		bool readonly;
	} binds[] = {{"/ro", NULL, 1, true}, {"/rw", "/d", 1, false},
		{"/deep/file", "/link/f", 1, true}, {"/tree", NULL, 2, true},
		{"/treerw", "/", 2, false}};
	AUTOVERTEX bxc_def_vertex *v = shell(
		"cat /ro/d/f /rw/f /deep/file /tree/t; touch /ro/x /tree/x 2>/dev/null || echo ' "
		"ro'; "
		"echo more > /rw/f; echo more > /treerw/t; cat /rw/f /treerw/t; echo kept > /kept");
	for (size_t i = 0; i < BXC_ARRAY_SIZE(binds); i++) {
		bxc_op_mount *m = bxc_def_add_mount(v, BXC_MOUNT_BIND, binds[i].dest);
		m->input = binds[i].input;
		m->output = BXC_DEF_NO_OUTPUT;
		m->selector = bxc_strdup(binds[i].selector);
		m->readonly = binds[i].readonly;
	}
	int r = run_with(w, v, inputs, 3, "l-out", &err);
	if (r < 0)
		fail_msg("%s; %s", bxc_err_text(err), bxc_buf_text(&w->out[1]));
	assert_string_equal(out(w), "contentcontentcontenttree ro\nmore\nmore\n");
	BXC_AUTOFREE char *got = changes(w, "l-out");
	assert_string_equal(got, "kept:644:0:0");
	BXC_AUTOFREE char *t = bxc_str_fmt("%s/t", tree);
	BXC_AUTOFREE char *text = bxc_test_read_file(t, NULL);
	assert_string_equal(text, "tree");
	/* A link in an input cannot lead to the host. */
	bxc_op_mount *m = &v->op.exec.mounts.v[3];
	free(m->selector);
	m->selector = bxc_strdup("/out/passwd");
	assert_err_text(run_with(w, v, inputs, 3, "l-out2", &err), BXC_NOT_FOUND, err,
		"\"/out/passwd\": not found");
}

static void caches_and_tmpfs_stay_out_of_the_layer(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	AUTOVERTEX bxc_def_vertex *v = shell("echo one >> /cache/log; wc -l < /cache/log; stat -c "
					     "%a:%u /cache; echo t > /mem/t; "
					     "mount | grep ' /mem ' | grep -c size=1024k");
	bxc_op_mount *m = bxc_def_add_mount(v, BXC_MOUNT_CACHE, "/cache");
	m->input = BXC_DEF_NO_INPUT;
	m->output = BXC_DEF_NO_OUTPUT;
	m->cache_id = bxc_strdup("my/cache");
	m->mode = 0711;
	m->uid = 33;
	m = bxc_def_add_mount(v, BXC_MOUNT_TMPFS, "/mem");
	m->input = BXC_DEF_NO_INPUT;
	m->output = BXC_DEF_NO_OUTPUT;
	m->tmpfs_size = 1u << 20;
	assert_ok(run(w, v, "l-c1", &err), err);
	assert_string_equal(out(w), "1\n711:33\n1\n");
	assert_ok(run(w, v, "l-c2", &err), err);
	assert_string_equal(out(w), "2\n711:33\n1\n");
	BXC_AUTOFREE char *got = changes(w, "l-c2");
	assert_string_equal(got, "");
}

static void a_new_generation_of_a_cache_mount_is_empty(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	AUTOVERTEX bxc_def_vertex *v = shell("echo one >> /cache/log; wc -l < /cache/log");
	bxc_op_mount *m = bxc_def_add_mount(v, BXC_MOUNT_CACHE, "/cache");
	m->input = BXC_DEF_NO_INPUT;
	m->output = BXC_DEF_NO_OUTPUT;
	m->cache_id = bxc_strdup("generations");
	m->mode = 0755;
	BXC_AUTOFREE char *folder = bxc_str_fmt("%s/cache-mounts", w->dir);
	BXC_AUTOSTRV char **before = NULL;
	BXC_AUTOSTRV char **after = NULL;
	assert_ok(bxc_fs_list_dir(AT_FDCWD, folder, 1000, &before, &err), err);
	static const uint64_t gens[] = {0, 0, 3, 3, 12};
	static const char *const lines[] = {"1\n", "2\n", "1\n", "2\n", "1\n"};
	for (size_t i = 0; i < 5; i++) {
		BXC_AUTOFREE char *layer = bxc_str_fmt("l-g%zu", i);
		w->generations = (uint64_t[]){0, gens[i]};
		assert_ok(run(w, v, layer, &err), err);
		assert_string_equal(out(w), lines[i]);
	}
	w->generations = NULL;
	assert_ok(bxc_fs_list_dir(AT_FDCWD, folder, 1000, &after, &err), err);
	assert_int_equal(bxc_strv_len(after), bxc_strv_len(before) + 1);
}

static int have_one_secret(const char *id, bxc_secret **ret, void *ud, bxc_err **err)
{
	(void)ud;
	if (!bxc_str_eq(id, "tok"))
		return bxc_err_set(err, BXC_NOT_FOUND, "secret %s: not found", id);
	*ret = bxc_secret_new("sesame12\"\\\n77", 13);
	return 0;
}

static int have_one_agent(const char *id, void *ud, bxc_err **err)
{
	(void)ud;
	return bxc_str_eq(id, "default") ? 0 : bxc_err_set(err, BXC_NOT_FOUND, "no %s", id);
}

static void answer(const char *id, int fd_take, void *ud)
{
	(void)ud;
	assert_string_equal(id, "default");
	assert_int_equal(write(fd_take, "agent\n", 6), 6);
	close(fd_take);
}

static bxc_op_mount *private_mount(bxc_def_vertex *v, bxc_mount_kind kind, const char *id,
	const char *dest, uint32_t mode)
{
	bxc_op_mount *m = bxc_def_add_mount(v, kind, dest);
	m->input = BXC_DEF_NO_INPUT;
	m->output = BXC_DEF_NO_OUTPUT;
	m->cache_id = bxc_strdup(id);
	m->mode = mode;
	return m;
}

static void secrets_and_agents_are_for_the_step_alone(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	static const bxc_exec_services services = {have_one_secret, have_one_agent, answer, NULL};
	w->services = &services;
	AUTOVERTEX bxc_def_vertex *v = shell(
		"stat -c '%a %u %g' /run/secrets/tok /s/agent; wc -c < /run/secrets/tok; "
		"ls /run/secrets; [ \"$TOK\" = \"$(cat /run/secrets/tok)\" ] && echo same; "
		"cat /run/secrets/tok; "
		"touch /run/secrets/tok 2>/dev/null || echo ro");
	bxc_op_mount *m = private_mount(v, BXC_MOUNT_SECRET, "tok", "/run/secrets/tok", 0440);
	m->uid = 12;
	m->gid = 34;
	private_mount(v, BXC_MOUNT_SECRET, "tok", "", 0400)->env = bxc_strdup("TOK");
	private_mount(v, BXC_MOUNT_SECRET, "none", "/run/secrets/none", 0400)->optional = true;
	private_mount(v, BXC_MOUNT_SSH, "default", "/s/agent", 0606);
	private_mount(v, BXC_MOUNT_SSH, "none", "/s/none", 0600)->optional = true;
	bxc_strv_push(&v->op.exec.env, "TOK=of the image");
	assert_ok(run(w, v, "l-s1", &err), err);
	/* The value has two lines; the second is too short to be hidden. */
	assert_string_equal(out(w), "440 12 34\n606 0 0\n13\ntok\nsame\n****\n77ro\n");
	BXC_AUTOFREE char *got = changes(w, "l-s1");
	assert_string_equal(got, "");
	AUTOVERTEX bxc_def_vertex *n = shell("true");
	private_mount(n, BXC_MOUNT_SECRET, "none", "/run/x", 0400);
	assert_err_text(run(w, n, NULL, &err), BXC_INVALID_ARGUMENT, err, "secret none: not found");
	AUTOVERTEX bxc_def_vertex *a = shell("true");
	private_mount(a, BXC_MOUNT_SSH, "none", "/run/x", 0600);
	assert_err_text(run(w, a, NULL, &err), BXC_INVALID_ARGUMENT, err,
		"no SSH key \"none\" forwarded from the client");
	w->services = NULL;
	assert_err_text(run(w, n, NULL, &err), BXC_INVALID_ARGUMENT, err, "secret none: not found");
}

static void an_insecure_step_may_do_what_root_may(void **state)
{
	world *w = *state;
	static const char script[] =
		"grep CapEff /proc/self/status | cut -f2; mount -t tmpfs t /tmp 2>/dev/null && echo mounted; "
		"grep -c ' /sys sysfs rw' /proc/self/mounts; true";
	AUTOVERTEX bxc_def_vertex *v = shell(script);
	assert_prints(w, v, "00000000a80425fb\n0\n");
	v->op.exec.insecure = true;
	/* All that this process has. */
	BXC_AUTOFREE char *status = bxc_test_read_file("/proc/self/status", NULL);
	const char *own = strstr(status, "CapBnd:\t") + strlen("CapBnd:\t");
	BXC_AUTOFREE char *want = bxc_str_fmt("%.16s\nmounted\n1\n", own);
	assert_prints(w, v, want);
}

static void a_step_runs_in_the_group_that_is_asked_for(void **state)
{
	world *w = *state;
	AUTOVERTEX bxc_def_vertex *v = shell("true");
	v->op.exec.cgroup_parent = bxc_str_fmt("/%s-asked/in", w->group);
	assert_prints(w, v, "");
	BXC_CLEANUP(bxc_cg_freep) bxc_cg *cg = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_cg_detect(&cg, &err), err);
	BXC_AUTOFREE char *top = bxc_str_fmt("%s-asked", w->group);
	BXC_AUTOCLOSE int fd = -1;
	assert_ok(bxc_cg_open(cg, NULL, v->op.exec.cgroup_parent + 1, &fd, &err), err);
	assert_ok(bxc_cg_remove(cg, top, 1000, &err), err);
	if (w->x->memory_base) {
		BXC_AUTOFREE char *in = bxc_str_fmt("%s/%s/in", w->x->memory_base, top);
		assert_int_equal(rmdir(in), 0);
		*strrchr(in, '/') = 0;
		assert_int_equal(rmdir(in), 0);
	}
}

static void what_is_not_supported_says_so(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	AUTOVERTEX bxc_def_vertex *v = shell("true");
	v->op.exec.cgroup_parent = bxc_strdup("a.slice:b:c");
	assert_err_text(run(w, v, NULL, &err), BXC_INVALID_ARGUMENT, err, "slices of systemd");
	free(BXC_TAKE(v->op.exec.cgroup_parent));
	v->op.exec.mounts.v[0].input = 5;
	assert_err(run(w, v, NULL, &err), BXC_INVALID_ARGUMENT, err);
	v->op.exec.mounts.v[0].input = 0;
	static const char *const gone[] = {"l-gone"};
	const bxc_exec_input in = {gone, 1, -1};
	assert_int_equal(run_with(w, v, &in, 1, NULL, &err), -BXC_NOT_FOUND);
	assert_string_equal(bxc_err_get_detail(err, "layer"), "l-gone");
	assert_string_equal(bxc_err_get_detail(err, "infra"), "true");
}

static void a_cancel_kills_everything(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	w->cancel_on_output = true;
	int64_t before = bxc_clock_mono_ns();
	AUTOVERTEX bxc_def_vertex *v =
		shell("setsid sleep 1000 & trap '' TERM; echo up; sleep 1000; sleep 1000");
	assert_err(run(w, v, "l-c", &err), BXC_CANCELED, err);
	assert_true(bxc_clock_mono_ns() - before < 60 * BXC_NS_PER_S);
	assert_false(bxc_snap_has(w->snap, "l-c"));
	/* It stays fired: the next one does not even start. */
	assert_err(run(w, v, "l-c", &err), BXC_CANCELED, err);
	assert_false(w->was_started);
}

static void processes_left_in_the_background_end_with_the_command(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	AUTOVERTEX bxc_def_vertex *v = shell("setsid sleep 1000 & echo done");
	assert_ok(run(w, v, NULL, &err), err);
	assert_string_equal(out(w), "done\n");
}

static void output_is_whole_however_long(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	AUTOVERTEX bxc_def_vertex *v = shell("head -c 700000 /dev/zero; head -c 300000 /dev/zero "
					     ">&2; exec 1>&- 2>&-; sleep 0.1");
	assert_ok(run(w, v, NULL, &err), err);
	assert_int_equal(w->out[0].len, 700000);
	assert_int_equal(w->out[1].len, 300000);
}

static void a_scratch_root_works_for_static_programs(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *tree = bxc_str_fmt("%s/tree", w->dir);
	assert_int_equal(mkdir(tree, 0755), 0);
	static const char *const base[] = {"l-base"};
	const bxc_exec_input in = {base, 1, -1};
	AUTOVERTEX bxc_def_vertex *v = shell("/tools/bin/touch /made");
	free(v->op.exec.args[0]);
	v->op.exec.args[0] = bxc_strdup("/tools/bin/sh");
	v->op.exec.mounts.v[0].input = BXC_DEF_NO_INPUT;
	bxc_op_mount *m = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/tools");
	m->input = 0;
	m->output = BXC_DEF_NO_OUTPUT;
	m->readonly = true;
	assert_ok(run_with(w, v, &in, 1, "l-scratch", &err), err);
	static const char *const made[] = {"l-scratch"};
	BXC_AUTOCLOSE int fd = -1;
	assert_ok(bxc_snap_mount_ro(w->snap, made, 1, &fd, &err), err);
	BXC_AUTOSTRV char **names = NULL;
	assert_ok(bxc_fs_list_dir(fd, ".", 100, &names, &err), err);
	BXC_AUTOFREE char *all = bxc_strv_join(names, " ");
	assert_string_equal(all, "made");
}

static void running_out_of_memory_is_told(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	if (!w->x->memory_parent)
		return; /* a host without the v1 controller: limits come with resource options */
	BXC_AUTOFREE char *limit = bxc_str_fmt("%s/memory.limit_in_bytes", w->x->memory_parent);
	bxc_test_write_file(limit, "50000000", 8, 0644);
	AUTOVERTEX bxc_def_vertex *v = shell("exec tail -c 500000000 /dev/zero");
	assert_int_equal(run(w, v, NULL, &err), -BXC_UNKNOWN);
	assert_string_equal(bxc_err_text(err),
		"process \"/bin/sh -c exec tail -c 500000000 /dev/zero\" did not complete "
		"successfully: cannot allocate memory");
	assert_string_equal(bxc_err_get_detail(err, "oom"), "true");
	assert_string_equal(bxc_err_get_detail(err, "exit_code"), "137");
}

#define SERVE_GROUP "bxc-test-serve"

/* Another process of this program: runs a step for ever, telling that it is up. */
static int serve(const char *dir)
{
	world w = {.group = bxc_strdup(SERVE_GROUP),
		.dir = bxc_strdup(dir),
		.cancel = bxc_cancel_new()};
	BXC_AUTOFREE char *store = bxc_str_fmt("%s/store", dir);
	BXC_AUTOFREE char *run_dir = bxc_str_fmt("%s/run", dir);
	if (bxc_snap_open(store, &w.snap, NULL) < 0)
		return 3;
	make_rootfs(w.snap);
	const bxc_exec_config c = {.snap = w.snap,
		.root = dir,
		.run_dir = run_dir,
		.helper = helper_path,
		.cgroup_parent = SERVE_GROUP};
	if (bxc_exec_new(&c, &w.x, NULL) < 0)
		return 4;
	AUTOVERTEX bxc_def_vertex *v = shell("setsid sleep 1000 & echo up; sleep 1000");
	bxc_buf_init(&w.out[0], 100);
	bxc_buf_init(&w.out[1], 100);
	w.echo = true;
	return run(&w, v, NULL, NULL) == 0 ? 0 : 5;
}

static void nothing_outlives_a_killed_worker(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *p = NULL;
	BXC_CLEANUP(bxc_cg_freep) bxc_cg *cg = NULL;
	assert_ok(bxc_cg_detect(&cg, &err), err);
	if (!bxc_cg_unified_mount(cg))
		return; /* only a group can tell that nothing is left */
	int r_fd = -1, w_fd = -1;
	assert_ok(bxc_fd_pipe(&r_fd, &w_fd, &err), err);
	char self[] = "/proc/self/exe", how[] = "--serve";
	char *argv[] = {self, bxc_strdup(helper_path), how, dir, NULL};
	const bxc_proc_fd fds[] = {{w_fd, 1}};
	const bxc_proc_spec spec = {.argv = argv, .fds = fds, .n_fds = 1};
	assert_ok(bxc_proc_spawn(&spec, &p, &err), err);
	close(w_fd);
	char up[3];
	assert_ok(bxc_fd_read_exact(r_fd, up, 3, &err), err);
	BXC_AUTOCLOSE int group_fd = -1;
	assert_ok(bxc_cg_open(cg, NULL, SERVE_GROUP "/step-1", &group_fd, &err), err);
	pid_t *pids = NULL;
	size_t n = 0;
	assert_ok(bxc_cg_procs(group_fd, 100, &pids, &n, &err), err);
	/* The helper, crun, the shell and its two sleepers. */
	assert_true(n >= 4);
	free(pids);
	assert_ok(bxc_proc_kill(p, SIGKILL, &err), err);
	assert_ok(bxc_cg_wait_empty(group_fd, 20000, &err), err);
	bxc_proc_status st;
	assert_ok(bxc_proc_wait(p, &st, &err), err);
	BXC_AUTOFREE char *mounts = bxc_test_read_file("/proc/self/mountinfo", NULL);
	assert_null(strstr(mounts, dir));
	/* The next worker cleans up. */
	BXC_AUTOFREE char *store = bxc_str_fmt("%s/store", dir);
	BXC_AUTOFREE char *run_dir = bxc_str_fmt("%s/run", dir);
	bxc_snap *snap = NULL;
	bxc_exec *x = NULL;
	assert_ok(bxc_snap_open(store, &snap, &err), err);
	const bxc_exec_config c = {.snap = snap,
		.root = dir,
		.run_dir = run_dir,
		.helper = helper_path,
		.cgroup_parent = SERVE_GROUP};
	assert_ok(bxc_exec_new(&c, &x, &err), err);
	BXC_AUTOSTRV char **bundles = NULL;
	assert_ok(bxc_fs_list_dir(AT_FDCWD, run_dir, 10, &bundles, &err), err);
	assert_int_equal(bxc_strv_len(bundles), 0);
	bxc_exec_free(x);
	bxc_snap_free(snap);
	free(argv[1]);
	close(r_fd);
}

struct one_of_many {
	bxc_exec *x;
	char id[32], layer[32];
	int r;
};

static void *run_one(void *ud)
{
	struct one_of_many *o = ud;
	static const char *const base[] = {"l-base"};
	const bxc_exec_input in = {.layers = base, .n_layers = 1, .tree_fd = -1};
	AUTOVERTEX bxc_def_vertex *v = shell("echo $$ > /x");
	for (int i = 0; i < 3 && o->r == 0; i++) {
		BXC_AUTOFREE char *id = bxc_str_fmt("%s-%d", o->id, i);
		BXC_AUTOFREE char *layer = bxc_str_fmt("%s-%d", o->layer, i);
		const bxc_exec_job job = {.id = id,
			.op = &v->op.exec,
			.inputs = &in,
			.n_inputs = 1,
			.output_layer = layer};
		bxc_exec_result result;
		o->r = bxc_exec_run(o->x, &job, &result, NULL);
	}
	return NULL;
}

static void many_steps_run_side_by_side(void **state)
{
	world *w = *state;
	pthread_t threads[6];
	struct one_of_many jobs[6] = {0};
	for (size_t i = 0; i < 6; i++) {
		jobs[i].x = w->x;
		(void)snprintf(jobs[i].id, sizeof(jobs[i].id), "many-%zu", i);
		(void)snprintf(jobs[i].layer, sizeof(jobs[i].layer), "l-many-%zu", i);
		assert_int_equal(pthread_create(&threads[i], NULL, run_one, &jobs[i]), 0);
	}
	for (size_t i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(jobs[i].r, 0);
	assert_true(bxc_snap_has(w->snap, "l-many-5-2"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(a_command_runs_and_its_writes_become_a_layer),
		T(an_exit_code_is_told_in_the_words_of_buildkit),
		T(a_missing_program_is_exit_code_127),
		T(users_and_working_folders_are_real),
		T(a_step_sees_a_sandbox),
		T(no_network_means_loopback_only),
		T(binds_show_inputs_and_lose_writes),
		T(caches_and_tmpfs_stay_out_of_the_layer),
		T(a_new_generation_of_a_cache_mount_is_empty),
		T(secrets_and_agents_are_for_the_step_alone),
		T(an_insecure_step_may_do_what_root_may),
		T(a_step_runs_in_the_group_that_is_asked_for),
		T(what_is_not_supported_says_so),
		T(a_cancel_kills_everything),
		T(processes_left_in_the_background_end_with_the_command),
		T(output_is_whole_however_long),
		T(a_scratch_root_works_for_static_programs),
		T(running_out_of_memory_is_told),
		T(many_steps_run_side_by_side),
		cmocka_unit_test(nothing_outlives_a_killed_worker),
	};
	if (argc < 2)
		return 2;
	/* The runner gives it relative to the build folder. */
	helper_path = realpath(argv[1], NULL);
	if (!helper_path)
		return 2;
	if (argc == 4)
		return serve(argv[3]);
	return cmocka_run_group_tests_name("exec", tests, NULL, NULL);
}
