/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Indexes of contexts, one file for each folder and list of what builds use of it, in the user's cache
 * folder. They only spare work: one that is damaged, foreign or gone is as good as none.
 */
#include "client/session/session_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/arr.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "common/os/fs.h"

#define INDEX_MAX   (1u << 30)       /* bytes of one */
#define FILES_MAX   64u
#define BYTES_MAX   (UINT64_C(512) << 20)
#define LISTED_MAX  10000u

static char *cache_dir(void)
{
	const char *own = getenv("BXC_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	if (!bxc_str_empty(own))
		return bxc_str_fmt("%s/contexts", own);
	if (!bxc_str_empty(xdg))
		return bxc_str_fmt("%s/bxc/contexts", xdg);
	return bxc_str_empty(home) ? NULL : bxc_str_fmt("%s/.cache/bxc/contexts", home);
}

static int open_dir(int *ret_fd, bxc_err **err)
{
	BXC_AUTOFREE char *dir = cache_dir();
	if (!dir)
		return bxc_err_set(err, BXC_NOT_FOUND, "no folder for caches: set BXC_CACHE or HOME");
	int r = bxc_fs_make_dirs(AT_FDCWD, dir, 0700, err);
	return r < 0 ? r : bxc_fs_open_dir(AT_FDCWD, dir, ret_fd, err);
}

char *index_name(int root_fd, char *const *include)
{
	BXC_AUTOFREE char *link = bxc_str_fmt("/proc/self/fd/%d", root_fd);
	BXC_AUTOFREE char *path = NULL;
	if (bxc_fs_readlink(AT_FDCWD, link, &path, NULL) < 0)
		return NULL;
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	bxc_hasher_update_str(h, path);
	for (char *const *p = include; p && *p; p++)
		bxc_hasher_update_str(h, *p);
	bxc_digest d = bxc_hasher_final(h);
	char text[BXC_DIGEST_STR_MAX];
	return bxc_strdup(strchr(bxc_digest_str(&d, text), ':') + 1);
}

bxc_tree_index *index_load(const char *name)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int dir_fd = -1;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(INDEX_MAX);
	bxc_tree_index *x = NULL;
	struct stat st;
	int r = open_dir(&dir_fd, &err);
	/* Digests in it become those of files: nobody else may have written it. */
	if (r >= 0)
		r = bxc_fs_lstat(dir_fd, name, &st, &err);
	if (r >= 0 && (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022)))
		r = bxc_err_set(&err, BXC_PERMISSION_DENIED, "index of somebody else");
	if (r >= 0)
		r = bxc_fs_read_file(dir_fd, name, INDEX_MAX, &b, &err);
	if (r >= 0)
		r = bxc_tree_index_decode(bxc_buf_slice(&b), &x, &err);
	if (r >= 0)
		bxc_ignore(utimensat(dir_fd, name, NULL, 0)); /* used last: what prune() looks at */
	else if (r != -BXC_NOT_FOUND)
		bxc_log_err(BXC_LOG_DEBUG, "context.index_not_used", err, "name", name, NULL);
	return x;
}

struct kept {
	const char *name;
	int64_t used_ns;
	uint64_t size;
};

static int newest_first(const void *a, const void *b)
{
	const struct kept *x = a, *y = b;
	return (x->used_ns < y->used_ns) - (x->used_ns > y->used_ns);
}

static void prune(int dir_fd)
{
	BXC_AUTOSTRV char **names = NULL;
	BXC_ARR(struct kept) all = {0};
	uint64_t bytes = 0;
	if (bxc_fs_list_dir(dir_fd, "", LISTED_MAX, &names, NULL) < 0)
		return;
	for (char **n = names; *n; n++) {
		struct stat st;
		if (fstatat(dir_fd, *n, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			*bxc_arr_push(&all) = (struct kept){*n, st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec, (uint64_t)st.st_size};
	}
	if (all.n)
		qsort(all.v, all.n, sizeof(*all.v), newest_first);
	for (size_t i = 0; i < all.n; i++) {
		bytes += all.v[i].size;
		if (i >= FILES_MAX || bytes > BYTES_MAX)
			bxc_ignore(bxc_fs_unlink(dir_fd, all.v[i].name, NULL));
	}
	bxc_arr_done(&all);
}

/* Whole or not at all, but not made durable: its own digest tells. */
static int write_whole(int dir_fd, const char *name, const bxc_buf *b, bxc_err **err)
{
	BXC_AUTOFREE char *rand = bxc_rand_hex(6);
	BXC_AUTOFREE char *tmp = bxc_str_fmt("%s.%s.tmp", name, rand);
	BXC_AUTOCLOSE int fd = openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return bxc_err_set(err, bxc_code_from_errno(errno), "make '%s': %m", tmp);
	int r = bxc_fd_write_all(fd, b->data, b->len, err);
	if (r >= 0)
		r = bxc_fs_rename(dir_fd, tmp, dir_fd, name, false, err);
	if (r < 0)
		bxc_ignore(bxc_fs_unlink(dir_fd, tmp, NULL));
	return r;
}

void index_save(const char *name, const bxc_buf *index)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int dir_fd = -1;
	int r = open_dir(&dir_fd, &err);
	if (r >= 0)
		r = write_whole(dir_fd, name, index, &err);
	if (r >= 0)
		prune(dir_fd);
	else
		bxc_log_err(BXC_LOG_DEBUG, "context.index_not_kept", err, "name", name, NULL);
}
