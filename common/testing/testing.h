/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Helpers of the unit tests, on top of cmocka. Header only, so that the lowest modules can use it:
 *
 *     #include "common/testing/testing.h"      (cmocka.h and what it needs come with it)
 *
 *     BXC_AUTOERR bxc_err *err = NULL;
 *     assert_ok(bxc_fs_read_file(dir_fd, "x", 100, &buf, &err), err);
 *     assert_err(bxc_fs_read_file(dir_fd, "y", 100, &buf, &err), BXC_NOT_FOUND, err);
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* `call` succeeded (result >= 0); prints the text of the bxc_err * variable `e` otherwise. */
#define assert_ok(call, e)                                                                         \
	do {                                                                                       \
		int bxc_test_r_ = (call);                                                          \
		if (bxc_test_r_ < 0)                                                               \
			fail_msg("%s failed with %s: %s", #call,                                   \
				bxc_code_name((bxc_code)(-bxc_test_r_)), bxc_err_text(e));         \
	} while (0)

/* `call` failed with `code`, and `e` says the same; frees and clears `e`, so that it can be used
 * again. */
#define assert_err(call, code, e)                                                                  \
	do {                                                                                       \
		int bxc_test_r_ = (call);                                                          \
		if (bxc_test_r_ != -(int)(code))                                                   \
			fail_msg("%s gave %d, not -%s: %s", #call, bxc_test_r_,                    \
				bxc_code_name(code), bxc_err_text(e));                             \
		if (bxc_err_code(e) != (code))                                                     \
			fail_msg("%s returned -%s but its error object has %s: %s", #call,         \
				bxc_code_name(code), bxc_code_name(bxc_err_code(e)),               \
				bxc_err_text(e));                                                  \
		bxc_err_free(e);                                                                   \
		(e) = NULL;                                                                        \
	} while (0)

/* As assert_err, and the text of the error contains `part`. */
#define assert_err_text(call, code, e, part)                                                       \
	do {                                                                                       \
		int bxc_test_r_ = (call);                                                          \
		if (bxc_test_r_ != -(int)(code) || !strstr(bxc_err_text(e), (part)))               \
			fail_msg("%s gave %d with '%s', not -%s with '%s'", #call, bxc_test_r_,    \
				bxc_err_text(e), bxc_code_name(code), (part));                     \
		bxc_err_free(e);                                                                   \
		(e) = NULL;                                                                        \
	} while (0)

/* A new folder under $TMPDIR or /tmp; owned path. The test fails when it cannot be made. */
static inline BXC_UNUSED char *bxc_test_tmpdir(void)
{
	const char *base = getenv("TMPDIR");
	char *path = bxc_str_fmt("%s/bxc-test-XXXXXX", bxc_str_empty(base) ? "/tmp" : base);
	if (!mkdtemp(path))
		fail_msg("mkdtemp '%s': errno %d", path, errno);
	return path;
}

static inline int bxc_test_rm_entry_(
	const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	if (type == FTW_DNR && chmod(path, 0700) < 0)
		return 0;
	/* What cannot be removed shows when its folder cannot either. */
	(void)remove(path);
	return 0;
}

/* Removes a tree without following links or leaving its file system; frees `path`. */
static inline BXC_UNUSED void bxc_test_rmtree(char *path)
{
	if (!path)
		return;
	(void)nftw(path, bxc_test_rm_entry_, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	struct stat st;
	if (lstat(path, &st) == 0)
		print_error("# left behind: %s\n", path);
	free(path);
}

static inline BXC_UNUSED void bxc_test_rmtreep(char **path)
{
	bxc_test_rmtree(*path);
	*path = NULL;
}
/* BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();   removed at the end of the scope when the test
 * passes */
#define BXC_AUTOTMPDIR BXC_CLEANUP(bxc_test_rmtreep)

/* Writes a whole file; the test fails when that does. */
static inline BXC_UNUSED void bxc_test_write_file(
	const char *path, const void *data, size_t n, mode_t mode)
{
	BXC_AUTOCLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0 || write(fd, data, n) != (ssize_t)n || fchmod(fd, mode) < 0)
		fail_msg("write '%s': errno %d", path, errno);
}

/* The content of a file of at most 1 MiB as owned text; *ret_n may be NULL. */
static inline BXC_UNUSED char *bxc_test_read_file(const char *path, size_t *ret_n)
{
	BXC_AUTOCLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *data = bxc_calloc(1, (1u << 20) + 1);
	size_t n = 0;
	for (;;) {
		ssize_t got = fd < 0 ? -1 : read(fd, data + n, (1u << 20) - n);
		if (got < 0)
			fail_msg("read '%s': errno %d", path, errno);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	if (ret_n)
		*ret_n = n;
	return data;
}

/* A sink of bytes whose ud is a bxc_buf. */
static inline BXC_UNUSED int bxc_test_to_buf(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_buf_append(ud, p, n, err);
}

/* A source of bytes whose ud is a bxc_test_cursor: what the buffer holds from `at` on. */
typedef struct bxc_test_cursor {
	const bxc_buf *buf;
	size_t at;
} bxc_test_cursor;

static inline BXC_UNUSED ssize_t bxc_test_from_buf(void *p, size_t n, void *ud, bxc_err **err)
{
	bxc_test_cursor *c = ud;
	(void)err;
	size_t k = BXC_MIN(n, c->buf->len - c->at);
	if (k)
		memcpy(p, c->buf->data + c->at, k);
	c->at += k;
	return (ssize_t)k;
}
