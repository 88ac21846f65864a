/* SPDX-License-Identifier: Apache-2.0 */
/* Steps with secrets and agents, insecure ones, and groups that are asked for. argv[1]: bxc-exec.
 */
#include "worker/exec/exec_test_world.h"

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

static bxc_op_mount *private_mount(
	bxc_def_vertex *v, bxc_mount_kind kind, const char *id, const char *dest, uint32_t mode)
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
	AUTOVERTEX bxc_def_vertex *v =
		shell("stat -c '%a %u %g' /run/secrets/tok /s/agent; wc -c < /run/secrets/tok; "
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
	static const char script[] = "grep CapEff /proc/self/status | cut -f2; mount -t tmpfs t "
				     "/tmp 2>/dev/null && echo mounted; "
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(secrets_and_agents_are_for_the_step_alone),
		T(an_insecure_step_may_do_what_root_may),
		T(a_step_runs_in_the_group_that_is_asked_for),
	};
	/* The runner gives it relative to the build folder. */
	helper_path = argc == 2 ? realpath(argv[1], NULL) : NULL;
	if (!helper_path)
		return 2;
	return cmocka_run_group_tests_name("exec-private", tests, NULL, NULL);
}
