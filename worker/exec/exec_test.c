/* SPDX-License-Identifier: Apache-2.0 */
/* Steps in real containers: crun, and a rootfs of the host's static busybox. argv[1]: bxc-exec. */
#include "worker/exec/exec_test_world.h"

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

/* Once: later steps find what the first has left. From something else it is another one. */
static void a_cache_mount_starts_from_an_input(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	static const char *const base[] = {"l-base"};
	AUTOVERTEX bxc_def_vertex *make =
		shell("mkdir /s && chmod 710 /s && chown 3:4 /s && echo a > /s/f && ln /s/f /s/g; "
		      "ln -s /etc/passwd /out; touch /file");
	assert_ok(run(w, make, "l-seed", &err), err);
	static const char *const seed[] = {"l-base", "l-seed"};
	const bxc_exec_input in[] = {{.layers = base, .n_layers = 1, .tree_fd = -1},
		{.layers = seed, .n_layers = 2, .tree_fd = -1}};
	AUTOVERTEX bxc_def_vertex *v =
		shell("stat -c %a:%u:%g /c; cat /c/f; stat -c %h /c/g; echo b >> /c/f");
	bxc_op_mount *m = bxc_def_add_mount(v, BXC_MOUNT_CACHE, "/c");
	m->input = 1;
	m->output = BXC_DEF_NO_OUTPUT;
	m->selector = bxc_strdup("/s");
	assert_ok(run_with(w, v, in, 2, "l-seeded1", &err), err);
	assert_string_equal(out(w), "710:3:4\na\n2\n");
	assert_ok(run_with(w, v, in, 2, "l-seeded2", &err), err);
	assert_string_equal(out(w), "710:3:4\na\nb\n2\n");
	/* The input is as it was. */
	AUTOVERTEX bxc_def_vertex *look = shell("cat /s/f");
	assert_ok(run_with(w, look, &in[1], 1, NULL, &err), err);
	assert_string_equal(out(w), "a\n");
	static const char *const bad[] = {"/none", "/file", "/out"};
	static const char *const told[] = {"\"/none\": not found", "it is no directory",
		"it is no directory"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		free(m->selector);
		m->selector = bxc_strdup(bad[i]);
		bxc_err_free(BXC_TAKE(err));
		assert_true(run_with(w, v, in, 2, NULL, &err) < 0);
		assert_non_null(strstr(bxc_err_text(err), told[i]));
	}
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

static void a_command_has_as_much_time_as_it_is_given(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	w->timeout_ns = 300 * BXC_NS_PER_MS;
	AUTOVERTEX bxc_def_vertex *slow = shell("trap '' TERM; echo begun; sleep 60 & wait; sleep 60");
	assert_int_equal(run(w, slow, "l-late", &err), -BXC_UNKNOWN);
	assert_non_null(strstr(bxc_err_text(err), "it ran for longer than 0.3s, the limit of this cluster"));
	assert_string_equal(bxc_err_get_detail(err, "timeout"), "true");
	assert_string_equal(out(w), "begun\n");
	assert_false(bxc_snap_has(w->snap, "l-late"));
	bxc_err_free(BXC_TAKE(err));
	w->timeout_ns = 60 * BXC_NS_PER_S;
	AUTOVERTEX bxc_def_vertex *quick = shell("true");
	assert_ok(run(w, quick, NULL, &err), err);
	w->timeout_ns = 0;
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
	assert_true(bxc_str_has_prefix(bxc_err_text(err),
		"process \"/bin/sh -c exec tail -c 500000000 /dev/zero\" did not complete "
		"successfully: cannot allocate memory (it had used up to "));
	assert_string_equal(bxc_err_get_detail(err, "oom"), "true");
	/* The kernel counts in batches, so that it may be a little more than the limit. */
	uint64_t peak = 0;
	assert_int_equal(bxc_str_to_u64(bxc_err_get_detail(err, "memory_peak"), 40000000, 60000000,
				 &peak, NULL),
		0);
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
		T(a_cache_mount_starts_from_an_input),
		T(a_new_generation_of_a_cache_mount_is_empty),
		T(a_command_has_as_much_time_as_it_is_given),
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
