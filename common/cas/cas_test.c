/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite on every backend, and what only the local one promises. */
#include "common/testing/testing.h"

#include <sys/mount.h>

#include "common/cas/cas_conformance.h"

#define AUTO_STORE BXC_CLEANUP(bxc_blob_store_freep)
#define MAX_TESTS  100

static bxc_blob_store *open_local(const char *dir)
{
	bxc_blob_store *s = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/new/store", dir);
	assert_ok(bxc_blob_local_open(path, &s, &err), err);
	return s;
}

static bxc_blob_store *open_mem(const char *dir)
{
	(void)dir;
	return bxc_blob_mem_new();
}

static const blob_backend backends[] = {{"local", open_local}, {"mem", open_mem}};

static char *blob_path(const char *dir, const bxc_digest *d)
{
	char s[BXC_DIGEST_STR_MAX];
	const char *hex = bxc_digest_str(d, s) + strlen("sha256:");
	return bxc_str_fmt("%s/blobs/sha256/%.2s/%s", dir, hex, hex);
}

static void local_blobs_survive_reopening(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_blob_info info;
	bxc_blob_store *s = NULL;
	assert_ok(bxc_blob_local_open(dir, &s, &err), err);
	assert_ok(bxc_blob_put(s, "hello", 5, &info, &err), err);
	bxc_blob_store_free(s);
	BXC_AUTOFREE char *path = blob_path(dir, &info.digest);
	BXC_AUTOFREE char *text = bxc_test_read_file(path, NULL);
	assert_string_equal(text, "hello");
	AUTO_STORE bxc_blob_store *t = NULL;
	assert_ok(bxc_blob_local_open(dir, &t, &err), err);
	assert_true(bxc_blob_has(t, &info.digest));
}

static void a_damaged_blob_is_found_and_set_aside(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_blob_info info;
	AUTO_STORE bxc_blob_store *s = NULL;
	assert_ok(bxc_blob_local_open(dir, &s, &err), err);
	assert_ok(bxc_blob_put(s, "hello", 5, &info, &err), err);
	BXC_AUTOFREE char *path = blob_path(dir, &info.digest);
	bxc_test_write_file(path, "hellO", 5, 0600);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(100);
	assert_err(bxc_blob_read(s, &info.digest, &b, &err), BXC_DATA_LOSS, err);
	assert_int_equal(b.len, 0);
	assert_false(bxc_blob_has(s, &info.digest));
	assert_int_equal(bxc_blob_put(s, "hello", 5, NULL, &err), 0);
	assert_ok(bxc_blob_read(s, &info.digest, &b, &err), err);
}

static void note_bad(const bxc_blob_info *i, const char *why, void *ud)
{
	char d[BXC_DIGEST_STR_MAX];
	bxc_strv_pushf(ud, "%s %s", bxc_digest_str(&i->digest, d), why);
}

static void all_of_a_store_is_read_when_asked_for(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOSTRV char **bad = NULL;
	bxc_blob_info good, changed, cut;
	bxc_blob_check sum;
	AUTO_STORE bxc_blob_store *s = NULL;
	assert_ok(bxc_blob_local_open(dir, &s, &err), err);
	assert_ok(bxc_blob_put(s, "good", 4, &good, &err), err);
	assert_ok(bxc_blob_put(s, "hello", 5, &changed, &err), err);
	assert_ok(bxc_blob_put(s, "short", 5, &cut, &err), err);
	assert_ok(bxc_blob_check_all(s, note_bad, &bad, &sum, &err), err);
	assert_true(!bad && sum.n == 3 && sum.bytes == 14 && !sum.n_bad);
	BXC_AUTOFREE char *one = blob_path(dir, &changed.digest), *other = blob_path(dir, &cut.digest);
	bxc_test_write_file(one, "hellO", 5, 0600);
	bxc_test_write_file(other, "", 0, 0600);
	assert_ok(bxc_blob_check_all(s, note_bad, &bad, &sum, &err), err);
	assert_true(bxc_strv_len(bad) == 2 && sum.n_bad == 2);
	assert_non_null(strstr(bad[0], "its bytes have another digest"));
	assert_true(bxc_blob_has(s, &good.digest) && !bxc_blob_has(s, &changed.digest) && !bxc_blob_has(s, &cut.digest));
	assert_ok(bxc_blob_check_all(s, note_bad, &bad, &sum, &err), err);
	assert_true(sum.n == 1 && !sum.n_bad);
}

static void leftovers_go_but_not_what_is_being_written(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_STORE bxc_blob_store *s = NULL, *t = NULL;
	assert_ok(bxc_blob_local_open(dir, &s, &err), err);
	BXC_AUTOFREE char *leftover = bxc_str_fmt("%s/tmp/leftover", dir);
	bxc_test_write_file(leftover, "half", 4, 0600);
	bxc_blob_writer *w = NULL;
	assert_ok(bxc_blob_begin(s, &w, &err), err);
	assert_ok(bxc_blob_append(w, "hello", 5, &err), err);
	assert_ok(bxc_blob_local_open(dir, &t, &err), err);
	struct stat st;
	assert_int_equal(lstat(leftover, &st), -1);
	assert_int_equal(bxc_blob_commit(w, NULL, NULL, &err), 0);
	bxc_digest d = bxc_digest_of("hello", 5);
	assert_true(bxc_blob_has(t, &d));
}

static void freshening_moves_the_time(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_blob_info info;
	AUTO_STORE bxc_blob_store *s = NULL;
	assert_ok(bxc_blob_local_open(dir, &s, &err), err);
	assert_ok(bxc_blob_put(s, "hello", 5, &info, &err), err);
	BXC_AUTOFREE char *path = blob_path(dir, &info.digest);
	const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	struct stat st;
	for (int by_put = 0; by_put < 2; by_put++) {
		assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
		if (by_put)
			assert_int_equal(bxc_blob_put(s, "hello", 5, NULL, &err), 1);
		else
			assert_ok(bxc_blob_freshen(s, &info.digest, &err), err);
		assert_int_equal(lstat(path, &st), 0);
		assert_true(st.st_mtim.tv_sec > 1000);
	}
}

static int not_called(const bxc_blob_info *i, void *ud)
{
	(void)i;
	(void)ud;
	return -BXC_INTERNAL;
}

static void foreign_files_are_no_blobs(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_STORE bxc_blob_store *s = NULL;
	assert_ok(bxc_blob_local_open(dir, &s, &err), err);
	bxc_digest d = bxc_digest_of("x", 1);
	BXC_AUTOFREE char *path = blob_path(dir, &d);
	BXC_AUTOFREE char *shard = bxc_strndup(path, (size_t)(strrchr(path, '/') - path));
	assert_int_equal(mkdir(shard, 0700), 0);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	BXC_AUTOFREE char *odd = bxc_str_fmt("%s/odd", shard);
	bxc_test_write_file(odd, "x", 1, 0600);
	assert_false(bxc_blob_has(s, &d));
	int fd = -1;
	uint64_t size;
	assert_true(bxc_blob_open(s, &d, &fd, &size, NULL) < 0);
	assert_ok(bxc_blob_list(s, not_called, NULL, &err), err);
}

/* A tmpfs of 1 MiB; needs the rights of root, which the test run has. */
static void a_full_disk_is_told_in_plain_words(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, "size=1m"), 0);
	bxc_blob_store *s = NULL;
	int r = bxc_blob_local_open(dir, &s, &err);
	bxc_blob_writer *w = NULL;
	if (r == 0)
		r = bxc_blob_begin(s, &w, &err);
	BXC_AUTOFREE char *zeroes = bxc_calloc(1, 1u << 16);
	for (int i = 0; r == 0 && i < 17; i++)
		r = bxc_blob_append(w, zeroes, 1u << 16, &err);
	bxc_blob_abort(w);
	bool works_again = s && bxc_blob_put(s, "x", 1, NULL, NULL) == 0;
	bxc_blob_store_free(s);
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
	assert_int_equal(r, -BXC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(bxc_err_text(err), "the disk of the blob store is full"));
	assert_true(works_again);
}

int main(void)
{
	static const struct CMUnitTest own[] = {
		cmocka_unit_test(local_blobs_survive_reopening),
		cmocka_unit_test(a_damaged_blob_is_found_and_set_aside),
		cmocka_unit_test(all_of_a_store_is_read_when_asked_for),
		cmocka_unit_test(leftovers_go_but_not_what_is_being_written),
		cmocka_unit_test(freshening_moves_the_time),
		cmocka_unit_test(foreign_files_are_no_blobs),
		cmocka_unit_test(a_full_disk_is_told_in_plain_words),
	};
	static struct CMUnitTest tests[MAX_TESTS];
	size_t n = 0;
	bxc_check(BXC_ARRAY_SIZE(backends) * n_blob_cases + BXC_ARRAY_SIZE(own) <= MAX_TESTS);
	for (size_t b = 0; b < BXC_ARRAY_SIZE(backends); b++)
		for (size_t i = 0; i < n_blob_cases; i++)
			tests[n++] = (struct CMUnitTest){
				.name = bxc_str_fmt("%s: %s", backends[b].name, blob_cases[i].name),
				.test_func = blob_cases[i].run,
				.initial_state = (void *)(uintptr_t)&backends[b],
			};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(own); i++)
		tests[n++] = own[i];
	return _cmocka_run_group_tests("cas", tests, n, NULL, NULL);
}
