/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of steps share: a store with a rootfs of the host's static busybox, and ways to
 * run in it. */
#pragma once

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
	int64_t timeout_ns;
	unsigned n_steps;
	const bxc_exec_services *services;
} world;

static BXC_UNUSED void put(int dir_fd, const char *name, const char *text)
{
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* A rootfs without proc, dev, sys, run and the files of etc: all of those are mount points. */
static BXC_UNUSED void make_rootfs(bxc_snap *s)
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

static BXC_UNUSED int set_up(void **state)
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

static BXC_UNUSED int tear_down(void **state)
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

static BXC_UNUSED void on_output(int stream, const void *p, size_t n, void *ud)
{
	world *w = ud;
	bxc_ignore(bxc_buf_append(&w->out[stream - 1], p, n, NULL));
	if (w->echo)
		bxc_ignore(write(STDOUT_FILENO, p, n));
	if (w->cancel_on_output)
		bxc_cancel_fire(w->cancel);
}

static BXC_UNUSED void on_start(void *ud)
{
	((world *)ud)->was_started = true;
}

/* An op that runs a shell script; owned vertex. */
static BXC_UNUSED bxc_def_vertex *shell(const char *script)
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

static BXC_UNUSED int run_with(world *w, bxc_def_vertex *v, const bxc_exec_input *inputs, size_t n,
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
		.timeout_ns = w->timeout_ns,
		.cancel = w->cancel,
	};
	return bxc_exec_run(w->x, &job, &w->result, err);
}

static BXC_UNUSED int run(world *w, bxc_def_vertex *v, const char *layer, bxc_err **err)
{
	static const char *const base[] = {"l-base"};
	const bxc_exec_input in = {.layers = base, .n_layers = 1, .tree_fd = -1};
	return run_with(w, v, &in, 1, layer, err);
}

static BXC_UNUSED const char *out(const world *w)
{
	return bxc_buf_text(&w->out[0]);
}

static BXC_UNUSED void assert_prints(world *w, bxc_def_vertex *v, const char *expected)
{
	BXC_AUTOERR bxc_err *err = NULL;
	int r = run(w, v, NULL, &err);
	if (r < 0)
		fail_msg("%s; stderr: %s", bxc_err_text(err), bxc_buf_text(&w->out[1]));
	assert_string_equal(out(w), expected);
}

/* The tar of a layer over the base, as a list of paths. */
static BXC_UNUSED char *changes(world *w, const char *layer)
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

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
