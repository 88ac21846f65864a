/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of file actions share: two trees, and a file beside them that nothing may touch. */
#pragma once

#include "common/testing/testing.h"

#include "common/os/fs.h"
#include "worker/fileop/fileop.h"

#define FILE_MAX 10000u

typedef struct world {
	char *dir; /* holds src/, dst/ and secret */
	int src, dst;
} world;

static inline int set_up(void **state)
{
	world *w = bxc_calloc(1, sizeof(*w));
	w->dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *src = bxc_str_fmt("%s/src", w->dir);
	BXC_AUTOFREE char *dst = bxc_str_fmt("%s/dst", w->dir);
	BXC_AUTOFREE char *secret = bxc_str_fmt("%s/secret", w->dir);
	bxc_test_write_file(secret, "untouched", 9, 0600);
	assert_int_equal(mkdir(src, 0755) | mkdir(dst, 0755), 0);
	w->src = open(src, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	w->dst = open(dst, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = w;
	return 0;
}

static inline int tear_down(void **state)
{
	world *w = *state;
	BXC_AUTOFREE char *secret = bxc_str_fmt("%s/secret", w->dir);
	BXC_AUTOFREE char *text = bxc_test_read_file(secret, NULL);
	assert_string_equal(text, "untouched");
	close(w->src);
	close(w->dst);
	bxc_test_rmtree(w->dir);
	free(w);
	return 0;
}

static inline void put_bytes(int dir_fd, const char *name, const void *data, size_t n)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *dir = bxc_strdup(name);
	char *slash = strrchr(dir, '/');
	if (slash) {
		*slash = '\0';
		assert_ok(bxc_fs_mkdir_p(dir_fd, dir, 0755, 0, 0, NULL, NULL, NULL, &err), err);
	}
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, n), (ssize_t)n);
}

static inline void put(int dir_fd, const char *name, const char *text)
{
	put_bytes(dir_fd, name, text, strlen(text));
}

static inline void assert_file(int dir_fd, const char *name, const char *expected)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(FILE_MAX);
	struct stat st;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		fail_msg("'%s' is no file", name);
	assert_ok(bxc_fs_read_file_in_root(dir_fd, name, FILE_MAX, &b, &err), err);
	assert_string_equal(bxc_buf_text(&b), expected);
}

static inline struct stat stat_of(int dir_fd, const char *name)
{
	struct stat st;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("'%s' is absent", name);
	return st;
}

static inline bool is_absent(int dir_fd, const char *name)
{
	struct stat st;
	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0;
}

/* What the Dockerfile frontend asks for. The texts are not changed. */
static inline bxc_file_action copy_of(const char *src, const char *dest)
{
	static char texts[8][256];
	static unsigned next;
	char *s = texts[next++ % 8], *d = texts[next++ % 8];
	(void)snprintf(s, 256, "%s", src);
	(void)snprintf(d, 256, "%s", dest);
	return (bxc_file_action){
		.kind = BXC_FILE_COPY,
		.src = s,
		.dest = d,
		.src_dir_contents = true,
		.follow_symlink = true,
		.wildcard = true,
		.allow_empty_wildcard = true,
		.create_dest = true,
		.mode = -1,
		.timestamp_ns = INT64_MIN,
	};
}

static inline int perform(world *w, const bxc_file_action *a, bxc_err **err)
{
	const bxc_fsop_source src = {.root_fd = w->src};
	return bxc_fsop_perform(a, w->dst, &src, NULL, err);
}
