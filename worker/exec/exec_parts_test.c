/* SPDX-License-Identifier: Apache-2.0 */
/* What needs no container: users, the runtime configuration, mount points, cache mounts. */
#include "common/testing/testing.h"

#include "common/base/clock.h"
#include "common/os/fs.h"
#include "worker/exec/exec_internal.h"

static void put(int dir_fd, const char *name, const char *text)
{
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void users_are_found_as_in_docker(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOCLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(fd, "etc", 0755), 0);
	put(fd, "etc/passwd", "root:x:0:0::/root:\napp:x:1000:50::/:\n");
	put(fd, "etc/group", "root:x:0:\nwheel:x:10:root,app\naudio:x:63:app\nstaff:x:50:app\n");
	static const struct {
		const char *spec;
		uint32_t uid, gid;
		size_t n_groups;
		const char *error;
	} cases[] = {
		{"", 0, 0, 2, NULL},
		{"root", 0, 0, 2, NULL},
		{"app", 1000, 50, 3, NULL}, /* staff is the primary one already */
		{"1000", 1000, 50, 3, NULL},
		{"55", 55, 0, 1, NULL},
		{"app:wheel", 1000, 10, 1, NULL},
		{"app:77", 1000, 77, 1, NULL},
		{"8:9", 8, 9, 1, NULL},
		{":wheel", 0, 10, 1, NULL},
		{"nobody", 0, 0, 0,
			"unable to find user nobody: no matching entries in passwd file"},
		{"app:nogroup", 0, 0, 0,
			"unable to find group nogroup: no matching entries in group file"},
		{"4294967296", 0, 0, 0, "uids and gids must be in range 0-2147483647"},
		{"1:4294967295", 0, 0, 0, "uids and gids must be in range 0-2147483647"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		bxc_exec__user u = {0};
		int r = bxc_exec__find_user(fd, cases[i].spec, &u, &err);
		if (cases[i].error) {
			assert_int_equal(r, -BXC_UNKNOWN);
			assert_string_equal(bxc_err_text(err), cases[i].error);
			continue;
		}
		assert_ok(r, err);
		if (u.uid != cases[i].uid || u.gid != cases[i].gid ||
			u.groups.n != cases[i].n_groups || u.groups.v[0] != u.gid)
			fail_msg(
				"'%s': %u:%u, %zu groups", cases[i].spec, u.uid, u.gid, u.groups.n);
		bxc_exec__user_done(&u);
	}
	/* A passwd file that leads out of the root is not there; numbers and the default need none.
	 */
	assert_int_equal(unlinkat(fd, "etc/passwd", 0), 0);
	assert_int_equal(symlinkat("../../../../etc/passwd", fd, "etc/passwd"), 0);
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_exec__user u = {0};
	assert_int_equal(bxc_exec__find_user(fd, "daemon", &u, &err), -BXC_INVALID_ARGUMENT);
	bxc_err_free(BXC_TAKE(err));
	assert_ok(bxc_exec__find_user(fd, NULL, &u, &err), err);
	assert_int_equal(u.uid, 0);
	bxc_exec__user_done(&u);
}

static void commands_are_quoted_as_go_does(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{"/bin/sh -c exit 3", "\"/bin/sh -c exit 3\""},
		{"a \"b\" \\ c", "\"a \\\"b\\\" \\\\ c\""},
		{"l1\nl2\tx\x01\x7f", "\"l1\\nl2\\tx\\x01\\x7f\""},
		{"gr\xc3\xbc\xc3\x9f"
		 "e",
			"\"gr\xc3\xbc\xc3\x9f"
			"e\""},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		BXC_AUTOFREE char *q = bxc_exec__quote(cases[i][0]);
		assert_string_equal(q, cases[i][1]);
	}
}

static bxc_json *spec_of(const bxc_op_exec *op)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_exec__user user = {.uid = 5, .gid = 6};
	const bxc_exec__spec s = {.op = op,
		.rootfs = "/r",
		.user = &user,
		.resolv_conf = "/b/resolv.conf",
		.hosts = "/b/hosts"};
	bxc_json *j = NULL;
	assert_ok(bxc_exec__spec_json(&s, &j, &err), err);
	return j;
}

static bool has_string(const bxc_json *list, const char *text)
{
	BXC_JSON_FOREACH (e, list)
		if (bxc_str_eq(bxc_json_string(e), text))
			return true;
	return false;
}

static void the_configuration_is_that_of_a_sandbox(void **state)
{
	(void)state;
	char arg[] = "true", env1[] = "A=1", env2[] = "http_proxy=x", own[] = "http_proxy=y",
	     other[] = "no_proxy=z";
	char host[] = "db=10.0.0.1", limit[] = "nofile=10:20", open_limit[] = "core=-1";
	char *args[] = {arg, NULL}, *env[] = {env1, env2, NULL}, *proxy[] = {own, other, NULL},
	     *hosts[] = {host, NULL};
	char *limits[] = {limit, open_limit, NULL};
	bxc_op_exec op = {.args = args,
		.env = env,
		.proxy_env = proxy,
		.extra_hosts = hosts,
		.ulimits = limits};
	BXC_AUTOJSON bxc_json *j = spec_of(&op);
	const bxc_json *p = bxc_json_get(j, "process");
	const bxc_json *e = bxc_json_get(p, "env");
	assert_true(has_string(e, BXC_EXEC__PATH_ENV));
	assert_true(has_string(e, "A=1") && has_string(e, "http_proxy=x") &&
		    has_string(e, "no_proxy=z"));
	assert_false(has_string(e, "http_proxy=y"));
	assert_string_equal(bxc_json_get_str(p, "cwd", NULL), "/");
	assert_string_equal(bxc_json_get_str(j, "hostname", NULL), "buildkitsandbox");
	const bxc_json *caps = bxc_json_get(bxc_json_get(p, "capabilities"), "bounding");
	assert_int_equal(bxc_json_len(caps), 14);
	assert_false(has_string(caps, "CAP_SYS_ADMIN"));
	assert_null(bxc_json_get(bxc_json_get(p, "capabilities"), "inheritable"));
	const bxc_json *l = bxc_json_get(j, "linux");
	assert_int_equal(bxc_json_len(bxc_json_get(l, "namespaces")), 5);
	assert_true(has_string(bxc_json_get(l, "maskedPaths"), "/proc/kcore"));
	assert_true(has_string(bxc_json_get(l, "readonlyPaths"), "/proc/sys"));
	const bxc_json *limits_json = bxc_json_get(p, "rlimits");
	assert_string_equal(
		bxc_json_get_str(bxc_json_at(limits_json, 0), "type", NULL), "RLIMIT_NOFILE");
	assert_int_equal(bxc_json_get_i64(bxc_json_at(limits_json, 0), "hard", 0), 20);
	BXC_AUTOFREE char *text = bxc_exec__hosts(&op);
	assert_string_equal(text, "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost "
				  "ip6-localhost ip6-loopback\n10.0.0.1\tdb\n");
	op.net = BXC_NET_NONE;
	BXC_AUTOJSON bxc_json *k = spec_of(&op);
	assert_int_equal(bxc_json_len(bxc_json_get(bxc_json_get(k, "linux"), "namespaces")), 6);
}

static void bad_ulimits_name_themselves(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"nofile", "nofile=x", "NoFile=3", "nofile=1:", "nofile=-2"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		char arg[] = "true";
		BXC_AUTOFREE char *limit = bxc_strdup(bad[i]);
		char *args[] = {arg, NULL}, *limits[] = {limit, NULL};
		bxc_op_exec op = {.args = args, .ulimits = limits};
		bxc_exec__user user = {0};
		const bxc_exec__spec s = {.op = &op,
			.rootfs = "/r",
			.user = &user,
			.resolv_conf = "/r",
			.hosts = "/h"};
		bxc_json *j = NULL;
		assert_err_text(
			bxc_exec__spec_json(&s, &j, &err), BXC_INVALID_ARGUMENT, err, bad[i]);
	}
}

static struct stat stat_of(int fd, const char *name)
{
	struct stat st;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("'%s' is absent", name);
	return st;
}

static bool is_absent(int fd, const char *name)
{
	struct stat st;
	return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0;
}

static void mount_points_leave_no_trace(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOCLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(fd, "etc", 0755), 0);
	assert_int_equal(mkdirat(fd, "real", 0755), 0);
	assert_int_equal(symlinkat("/real", fd, "link"), 0);
	assert_int_equal(symlinkat("../real/target", fd, "etc/resolv.conf"), 0);
	struct timespec t[2] = {{.tv_sec = 1, .tv_nsec = 2}, {.tv_sec = 3, .tv_nsec = 4}};
	assert_int_equal(
		utimensat(fd, "etc", t, 0) | utimensat(fd, "real", t, 0) | utimensat(fd, ".", t, 0),
		0);
	bxc_exec__stubs stubs = {0};
	mode_t old = umask(077);
	assert_ok(bxc_exec__stub_make(fd, "/proc", true, &stubs, &err), err);
	assert_ok(bxc_exec__stub_make(fd, "/etc/resolv.conf", false, &stubs, &err), err);
	assert_ok(bxc_exec__stub_make(fd, "/link/deep/er", true, &stubs, &err), err);
	assert_ok(bxc_exec__stub_make(fd, "/run/secrets/x", false, &stubs, &err), err);
	assert_ok(bxc_exec__stub_make(fd, "/used/dir/", true, &stubs, &err), err);
	assert_ok(bxc_exec__stub_make(fd, "/etc", true, &stubs, &err), err);
	umask(old);
	assert_int_equal(stat_of(fd, "proc").st_mode, S_IFDIR | 0755);
	assert_int_equal(stat_of(fd, "real/target").st_mode, S_IFREG | 0644);
	assert_true(S_ISDIR(stat_of(fd, "real/deep/er").st_mode));
	assert_int_equal(stat_of(fd, ".").st_mtim.tv_nsec, 4);
	assert_int_equal(stat_of(fd, "real").st_mtim.tv_nsec, 4);
	/* What the step puts into one, or beside one, stays with its time. */
	put(fd, "used/dir/file", "x");
	assert_ok(bxc_exec__stubs_remove(fd, &stubs, &err), err);
	bxc_exec__stubs_done(&stubs);
	assert_true(is_absent(fd, "proc") && is_absent(fd, "real/target") &&
		    is_absent(fd, "real/deep"));
	assert_true(is_absent(fd, "run"));
	assert_true(S_ISLNK(stat_of(fd, "etc/resolv.conf").st_mode));
	assert_true(S_ISREG(stat_of(fd, "used/dir/file").st_mode));
	assert_int_equal(stat_of(fd, "etc").st_mtim.tv_sec, 3);
	assert_int_equal(stat_of(fd, "real").st_mtim.tv_nsec, 4);
	assert_int_equal(stat_of(fd, ".").st_mtim.tv_nsec, 4);
}

static void mount_points_in_loops_are_refused(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOCLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(
		symlinkat("b", fd, "a") | symlinkat("a", fd, "b") | symlinkat("c/x", fd, "c"), 0);
	put(fd, "f", "x");
	bxc_exec__stubs stubs = {0};
	assert_err_text(
		bxc_exec__stub_make(fd, "/a", true, &stubs, &err), BXC_INVALID_ARGUMENT, err, "/a");
	assert_err(bxc_exec__stub_make(fd, "/c", true, &stubs, &err), BXC_INVALID_ARGUMENT, err);
	assert_err_text(bxc_exec__stub_make(fd, "/f/x", true, &stubs, &err), BXC_INVALID_ARGUMENT,
		err, "/f");
	bxc_exec__stubs_done(&stubs);
}

/* ---- cache mounts, without any container ---- */

typedef struct waiter {
	bxc_exec *x;
	const bxc_op_mount *m;
	bxc_cancel *cancel;
	bxc_exec__caches held;
	char *path;
	int r;
} waiter;

static void *take_it(void *ud)
{
	waiter *w = ud;
	w->r = bxc_exec__cache_take(w->x, w->m, NULL, 0, w->cancel, &w->held, &w->path, NULL);
	return NULL;
}

static void free_value(void *v)
{
	free(v);
}

static void cache_mounts_share_lock_or_part(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	bxc_exec x = {.lock = PTHREAD_MUTEX_INITIALIZER,
		.freed = PTHREAD_COND_INITIALIZER,
		.caches_dir = dir};
	x.caches_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	x.caches = bxc_map_new(free_value);
	char id[] = "id", dest[] = "/c";
	bxc_op_mount m = {.kind = BXC_MOUNT_CACHE,
		.cache_id = id,
		.dest = dest,
		.mode = 0750,
		.uid = 3,
		.gid = 4};
	bxc_exec__caches one = {0}, two = {0};
	BXC_AUTOFREE char *p1 = NULL;
	BXC_AUTOFREE char *p2 = NULL;
	assert_ok(bxc_exec__cache_take(&x, &m, NULL, 0, NULL, &one, &p1, &err), err);
	assert_ok(bxc_exec__cache_take(&x, &m, NULL, 0, NULL, &two, &p2, &err), err);
	assert_string_equal(p1, p2);
	struct stat st;
	assert_int_equal(stat(p1, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	assert_int_equal(st.st_uid, 3);
	assert_int_equal(st.st_gid, 4);
	bxc_exec__caches_release(&x, &two);

	/* Private: another folder while the first is in use, the first again afterwards. */
	bxc_op_mount priv = m;
	priv.sharing = BXC_CACHE_PRIVATE;
	BXC_AUTOFREE char *p3 = NULL;
	assert_ok(bxc_exec__cache_take(&x, &priv, NULL, 0, NULL, &two, &p3, &err), err);
	assert_string_not_equal(p1, p3);
	bxc_exec__caches_release(&x, &two);

	/* Locked: waits for the others, and may be canceled meanwhile. */
	bxc_op_mount locked = m;
	locked.sharing = BXC_CACHE_LOCKED;
	waiter w = {.x = &x, .m = &locked, .cancel = bxc_cancel_new()};
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, take_it, &w), 0);
	bxc_cancel_fire(w.cancel);
	pthread_join(thread, NULL);
	assert_int_equal(w.r, -BXC_CANCELED);
	bxc_cancel_unref(w.cancel);
	w.cancel = NULL;
	assert_int_equal(pthread_create(&thread, NULL, take_it, &w), 0);
	bxc_exec__caches_release(&x, &one);
	pthread_join(thread, NULL);
	assert_int_equal(w.r, 0);
	assert_string_equal(w.path, p1);
	/* Twice in one step is no deadlock. */
	BXC_AUTOFREE char *p4 = NULL;
	assert_ok(bxc_exec__cache_take(&x, &locked, NULL, 0, NULL, &w.held, &p4, &err), err);
	assert_string_equal(p4, p1);
	bxc_exec__caches_release(&x, &w.held);
	free(w.path);
	assert_int_equal(bxc_map_len(x.caches), 0);
	bxc_map_free(x.caches);
	close(x.caches_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(users_are_found_as_in_docker),
		cmocka_unit_test(commands_are_quoted_as_go_does),
		cmocka_unit_test(the_configuration_is_that_of_a_sandbox),
		cmocka_unit_test(bad_ulimits_name_themselves),
		cmocka_unit_test(mount_points_leave_no_trace),
		cmocka_unit_test(mount_points_in_loops_are_refused),
		cmocka_unit_test(cache_mounts_share_lock_or_part),
	};
	return cmocka_run_group_tests_name("exec-parts", tests, NULL, NULL);
}
