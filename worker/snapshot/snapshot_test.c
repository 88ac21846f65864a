/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/os/fs.h"
#include "worker/snapshot/snapshot.h"

static void put(int dir_fd, const char *name, const char *text)
{
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static char *get(int dir_fd, const char *name)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1000);
	if (bxc_fs_read_file_in_root(dir_fd, name, 1000, &b, NULL) < 0)
		return bxc_strdup("(absent)");
	return bxc_buf_steal(&b);
}

static void assert_content(int dir_fd, const char *name, const char *expected)
{
	BXC_AUTOFREE char *text = get(dir_fd, name);
	assert_string_equal(text, expected);
}

/* A layer of one file. */
static void make_layer(bxc_snap *s, const char *id, const char *name, const char *text)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_snap_staging *g = NULL;
	assert_ok(bxc_snap_begin(s, id, &g, &err), err);
	put(bxc_snap_staging_fd(g), name, text);
	assert_int_equal(bxc_snap_commit(g, NULL, &err), 0);
}

static void a_layer_appears_whole_or_not_at_all(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_snap *s = NULL;
	assert_ok(bxc_snap_open(dir, &s, &err), err);
	bxc_snap_staging *g = NULL, *h = NULL;
	assert_ok(bxc_snap_begin(s, "sha256:ab", &g, &err), err);
	put(bxc_snap_staging_fd(g), "f", "0123456789");
	assert_false(bxc_snap_has(s, "sha256:ab"));
	assert_ok(bxc_snap_begin(s, "l-gone", &h, &err), err);
	bxc_snap_abort(h);
	assert_int_equal(bxc_snap_commit(g, NULL, &err), 0);
	assert_true(bxc_snap_has(s, "sha256:ab"));
	bxc_snap_facts f = {0};
	assert_ok(bxc_snap_get(s, "sha256:ab", &f, &err), err);
	assert_int_equal(f.size_bytes, 10);
	assert_false(bxc_snap_has(s, "l-gone"));
	/* A second one of the same id is thrown away. */
	assert_ok(bxc_snap_begin(s, "sha256:ab", &g, &err), err);
	put(bxc_snap_staging_fd(g), "f", "other");
	assert_int_equal(bxc_snap_commit(g, NULL, &err), 1);
	const char *ids[] = {"sha256:ab"};
	int fd = -1;
	assert_ok(bxc_snap_mount_ro(s, ids, 1, &fd, &err), err);
	assert_content(fd, "f", "0123456789");
	close(fd);
	assert_err(bxc_snap_begin(s, "../x", &g, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_snap_begin(s, "a_b", &g, &err), BXC_INVALID_ARGUMENT, err);
	bxc_snap_free(s);
}

static void a_killed_worker_finds_its_layers_and_facts_again(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_snap *s = NULL;
	assert_ok(bxc_snap_open(dir, &s, &err), err);
	make_layer(s, "l-1", "a", "x");
	make_layer(s, "sha256:02", "b", "y");
	bxc_digest diff_id = bxc_digest_of_str("tar");
	assert_ok(bxc_snap_learn(s, "l-1", &diff_id, &err), err);
	assert_err(bxc_snap_learn(s, "l-none", &diff_id, &err), BXC_NOT_FOUND, err);
	bxc_snap *second = NULL;
	assert_err(bxc_snap_open(dir, &second, &err), BXC_FAILED_PRECONDITION, err);
	bxc_snap_free(s);

	/* What a killed process leaves half made. */
	BXC_AUTOFREE char *half = bxc_str_fmt("%s/tmp/half", dir);
	assert_int_equal(mkdir(half, 0700), 0);
	assert_ok(bxc_snap_open(dir, &s, &err), err);
	struct stat st;
	assert_int_equal(stat(half, &st), -1);
	BXC_AUTOSNAPLIST bxc_snap_list list = {0};
	bxc_snap_list_layers(s, &list);
	assert_int_equal(list.n, 2);
	assert_string_equal(list.v[0].id, "l-1");
	assert_string_equal(list.v[1].id, "sha256:02");
	bxc_snap_facts f = {0};
	assert_ok(bxc_snap_get(s, "l-1", &f, &err), err);
	assert_true(bxc_digest_eq(&f.diff_id, &diff_id));
	bxc_snap_free(s);
}

static void replace_in_file(const char *path, const char *from, const char *to)
{
	BXC_AUTOFREE char *text = bxc_test_read_file(path, NULL);
	char *at = strstr(text, from);
	assert_non_null(at);
	BXC_AUTOFREE char *next =
		bxc_str_fmt("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
	bxc_test_write_file(path, next, strlen(next), 0600);
}

static void a_power_loss_drops_what_no_sync_covered(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_snap *s = NULL;
	assert_ok(bxc_snap_open(dir, &s, &err), err);
	make_layer(s, "l-synced", "a", "x");
	assert_ok(bxc_snap_sync(s, &err), err);
	make_layer(s, "l-fresh", "a", "x");
	make_layer(s, "l-torn", "a", "x");
	bxc_snap_free(s);
	/* As if another kernel had run, and the sync at the end had not happened. */
	static const char *const ids[] = {"l-synced", "l-fresh"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(ids); i++) {
		BXC_AUTOFREE char *meta = bxc_str_fmt("%s/layers/%s/meta.json", dir, ids[i]);
		replace_in_file(meta, "\"boot\":\"", "\"boot\":\"earlier-");
	}
	BXC_AUTOFREE char *state_file = bxc_str_fmt("%s/state.json", dir);
	bxc_test_write_file(state_file, "{\"version\":1,\"synced\":1}", 24, 0600);
	BXC_AUTOFREE char *torn = bxc_str_fmt("%s/layers/l-torn/meta.json", dir);
	bxc_test_write_file(torn, "", 0, 0600);
	assert_ok(bxc_snap_open(dir, &s, &err), err);
	assert_true(bxc_snap_has(s, "l-synced"));
	assert_false(bxc_snap_has(s, "l-fresh"));
	assert_false(bxc_snap_has(s, "l-torn"));
	make_layer(s, "l-fresh", "a", "again");
	assert_true(bxc_snap_has(s, "l-fresh"));
	bxc_snap_free(s);
}

static void pinned_layers_are_not_removed(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_snap *s = NULL;
	assert_ok(bxc_snap_open(dir, &s, &err), err);
	make_layer(s, "l-a", "a", "x");
	const char *both[] = {"l-a", "l-none"};
	assert_int_equal(bxc_snap_pin(s, both, 2, &err), -BXC_NOT_FOUND);
	assert_string_equal(bxc_err_get_detail(err, "layer"), "l-none");
	bxc_err_free(BXC_TAKE(err));
	assert_ok(bxc_snap_pin(s, both, 1, &err), err);
	assert_err(bxc_snap_remove(s, "l-a", &err), BXC_FAILED_PRECONDITION, err);
	bxc_snap_unpin(s, both, 1);
	assert_ok(bxc_snap_remove(s, "l-a", &err), err);
	assert_false(bxc_snap_has(s, "l-a"));
	assert_ok(bxc_snap_remove(s, "l-a", &err), err);
	assert_ok(bxc_snap_empty_trash(s, &err), err);
	BXC_AUTOFREE char *trash = bxc_str_fmt("%s/trash", dir);
	BXC_AUTOSTRV char **left = NULL;
	assert_ok(bxc_fs_list_dir(AT_FDCWD, trash, 10, &left, &err), err);
	assert_int_equal(bxc_strv_len(left), 0);
	/* The id is free again. */
	make_layer(s, "l-a", "a", "new");
	assert_true(bxc_snap_has(s, "l-a"));
	bxc_snap_free(s);
}

static void mounts_show_the_layers_and_collect_writes(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_snap *s = NULL;
	assert_ok(bxc_snap_open(dir, &s, &err), err);
	make_layer(s, "l-1", "a", "one");
	make_layer(s, "l-2", "a", "two");
	make_layer(s, "l-3", "b", "three");
	const char *ids[] = {"l-1", "l-2", "l-3"};
	int fd = -1;
	assert_ok(bxc_snap_mount_ro(s, ids, 3, &fd, &err), err);
	assert_content(fd, "a", "two");
	assert_content(fd, "b", "three");
	assert_int_equal(openat(fd, "c", O_CREAT | O_WRONLY, 0600), -1);
	assert_int_equal(errno, EROFS);
	close(fd);
	const char *unknown[] = {"l-1", "l-9"};
	assert_err_text(bxc_snap_mount_ro(s, unknown, 2, &fd, &err), BXC_NOT_FOUND, err, "l-9");

	bxc_snap_staging *g = NULL;
	assert_ok(bxc_snap_begin(s, "l-4", &g, &err), err);
	assert_ok(bxc_snap_mount_rw(s, ids, 3, g, &fd, &err), err);
	put(fd, "new", "n");
	assert_int_equal(unlinkat(fd, "b", 0), 0);
	close(fd);
	assert_int_equal(bxc_snap_commit(g, NULL, &err), 0);
	const char *all[] = {"l-1", "l-2", "l-3", "l-4"};
	assert_ok(bxc_snap_mount_ro(s, all, 4, &fd, &err), err);
	assert_content(fd, "new", "n");
	assert_content(fd, "a", "two");
	assert_content(fd, "b", "(absent)");
	close(fd);
	/* Nothing at all, and a layer upon nothing. */
	assert_ok(bxc_snap_mount_ro(s, NULL, 0, &fd, &err), err);
	assert_content(fd, "a", "(absent)");
	close(fd);
	assert_ok(bxc_snap_begin(s, "l-5", &g, &err), err);
	assert_ok(bxc_snap_mount_rw(s, NULL, 0, g, &fd, &err), err);
	put(fd, "first", "f");
	close(fd);
	assert_int_equal(bxc_snap_commit(g, NULL, &err), 0);
	const char *five[] = {"l-5"};
	assert_ok(bxc_snap_mount_ro(s, five, 1, &fd, &err), err);
	assert_content(fd, "first", "f");
	close(fd);
	bxc_snap_free(s);
	/* No mount was ever to be seen. */
	BXC_AUTOFREE char *mounts = bxc_test_read_file("/proc/self/mountinfo", NULL);
	assert_null(strstr(mounts, dir));
}

static void the_root_of_a_new_layer_looks_as_the_one_below(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_snap *s = NULL;
	assert_ok(bxc_snap_open(dir, &s, &err), err);
	bxc_snap_staging *g = NULL;
	assert_ok(bxc_snap_begin(s, "l-1", &g, &err), err);
	assert_int_equal(fchmod(bxc_snap_staging_fd(g), 01777), 0);
	assert_int_equal(bxc_snap_commit(g, NULL, &err), 0);
	const char *ids[] = {"l-1"};
	int fd = -1;
	assert_ok(bxc_snap_begin(s, "l-2", &g, &err), err);
	assert_ok(bxc_snap_mount_rw(s, ids, 1, g, &fd, &err), err);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 01777);
	close(fd);
	bxc_snap_abort(g);
	bxc_snap_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_layer_appears_whole_or_not_at_all),
		cmocka_unit_test(a_killed_worker_finds_its_layers_and_facts_again),
		cmocka_unit_test(a_power_loss_drops_what_no_sync_covered),
		cmocka_unit_test(pinned_layers_are_not_removed),
		cmocka_unit_test(mounts_show_the_layers_and_collect_writes),
		cmocka_unit_test(the_root_of_a_new_layer_looks_as_the_one_below),
	};
	return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
