/* SPDX-License-Identifier: Apache-2.0 */
/* Folders as a whole: listing and removal. */
#include "common/os/fs.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "common/base/arr.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Takes the descriptor. */
static int open_stream(int fd, DIR **ret, bxc_err **err)
{
	DIR *d = fdopendir(fd);
	if (!d) {
		int e = errno;
		close(fd);
		return bxc_err_errno(err, e, "read folder");
	}
	*ret = d;
	return 0;
}

int bxc_fs_list_dir(
	int dir_fd, const char *path, size_t max_entries, char ***ret_names, bxc_err **err)
{
	int fd =
		openat(dir_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", path);
	BXC_CLEANUP(closedirp) DIR *d = NULL;
	int r = open_stream(fd, &d, err);
	if (r < 0)
		return r;
	BXC_ARR(char *) names = {0};
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(d);
		if (!e && errno)
			r = bxc_err_errno(err, errno, "read folder '%s'", path);
		if (!e)
			break;
		if (is_dots(e->d_name))
			continue;
		if (names.n >= max_entries) {
			r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
				"folder '%s' has more than %zu entries", path, max_entries);
			break;
		}
		*bxc_arr_push(&names) = bxc_strdup(e->d_name);
	}
	/* The array becomes the strv; its end mark also makes freeing it on failure simple. */
	*bxc_arr_push(&names) = NULL;
	if (r < 0) {
		bxc_strv_free(names.v);
		return r;
	}
	bxc_strv_sort(names.v);
	*ret_names = names.v;
	return 0;
}

/* ---- removal ---- */

/* Folders deeper than this are moved up to the top of the tree first: descriptors and stack stay
 * bounded. */
#define DEPTH_MAX  48
#define PASSES_MAX (1u << 20)

struct removal {
	int top_fd; /* folder at the top of the tree, -1 before it is open */
	uint64_t n_moved;
	char tag[17]; /* names of moved folders must not meet names of the tree */
};

static int remove_dir(
	struct removal *job, int parent_fd, const char *name, unsigned depth, bxc_err **err);

/* Moving a folder changes its "..", for which its own write permission counts. */
static int move_up(struct removal *job, int dir_fd, const char *name, bxc_err **err)
{
	BXC_AUTOFREE char *to =
		bxc_str_fmt(".bxc-rm.%s.%llu", job->tag, (unsigned long long)job->n_moved++);
	if (renameat(dir_fd, name, job->top_fd, to) == 0)
		return 0;
	if (errno == EACCES && fchmodat(dir_fd, name, 0700, 0) == 0 &&
		renameat(dir_fd, name, job->top_fd, to) == 0)
		return 0;
	return bxc_err_errno(err, errno, "remove '%s'", name);
}

static int remove_error(const char *name, bxc_err **err)
{
	if (errno == EBUSY)
		return bxc_err_set(
			err, BXC_FAILED_PRECONDITION, "remove '%s': it is a mount point", name);
	return bxc_err_errno(err, errno, "remove '%s'", name);
}

/* 1 when something went, 0 when it was gone already. */
static int remove_entry(struct removal *job, int dir_fd, const char *name, unsigned char type,
	unsigned depth, bxc_err **err)
{
	if (type != DT_DIR) {
		if (unlinkat(dir_fd, name, 0) == 0)
			return 1;
		if (errno == ENOENT)
			return 0;
		if (errno != EISDIR)
			return remove_error(name, err);
	}
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0)
		return 1;
	if (errno == ENOENT)
		return 0;
	if (errno == ENOTDIR)
		return remove_entry(job, dir_fd, name, DT_UNKNOWN, depth, err);
	if (errno != ENOTEMPTY && errno != EEXIST)
		return remove_error(name, err);
	int r = depth + 1 >= DEPTH_MAX ? move_up(job, dir_fd, name, err)
				       : remove_dir(job, dir_fd, name, depth + 1, err);
	return r < 0 ? r : 1;
}

static int empty_dir(struct removal *job, DIR *d, unsigned depth, bool *ret_progress, bxc_err **err)
{
	*ret_progress = false;
	rewinddir(d);
	for (;;) {
		errno = 0;
		struct dirent *e = readdir(d);
		if (!e && errno)
			return bxc_err_errno(err, errno, "read folder");
		if (!e)
			return 0;
		if (is_dots(e->d_name))
			continue;
		int r = remove_entry(job, dirfd(d), e->d_name, e->d_type, depth, err);
		if (r < 0)
			return r;
		*ret_progress |= r > 0;
	}
}

static int open_for_removal(int parent_fd, const char *name, int *ret_fd, bxc_err **err)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
	BXC_AUTOERR bxc_err *first = NULL;
	int r = bxc_fs_open_beneath(parent_fd, name, flags, 0, BXC_FS_NO_XDEV, ret_fd, &first);
	/* A folder without permissions is no obstacle to its owner. */
	if (r == -BXC_PERMISSION_DENIED && fchmodat(parent_fd, name, 0700, 0) == 0)
		return bxc_fs_open_beneath(parent_fd, name, flags, 0, BXC_FS_NO_XDEV, ret_fd, err);
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(first));
	return 0;
}

static int remove_dir(
	struct removal *job, int parent_fd, const char *name, unsigned depth, bxc_err **err)
{
	int fd = -1;
	int r = open_for_removal(parent_fd, name, &fd, err);
	if (r == -BXC_NOT_FOUND) {
		/* Another process was quicker. */
		if (err) {
			bxc_err_free(*err);
			*err = NULL;
		}
		return 0;
	}
	if (r < 0)
		return r;
	BXC_CLEANUP(closedirp) DIR *d = NULL;
	r = open_stream(fd, &d, err);
	if (r < 0)
		return r;
	struct stat st;
	if (fstat(dirfd(d), &st) == 0 && (st.st_mode & 0700) != 0700)
		(void)fchmod(dirfd(d), 0700);
	if (depth == 0)
		job->top_fd = dirfd(d);
	for (unsigned pass = 0; pass < PASSES_MAX; pass++) {
		bool progress = false;
		r = empty_dir(job, d, depth, &progress, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "in '%s'", name);
		if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if ((errno != ENOTEMPTY && errno != EEXIST) || !progress)
			break;
	}
	return bxc_err_errno(err, errno, "remove '%s'", name);
}

int bxc_fs_rmtree(int dir_fd, const char *name, bxc_err **err)
{
	if (!*name || is_dots(name) || strchr(name, '/'))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "remove '%s': not a plain name", name);
	struct removal job = {.top_fd = -1};
	BXC_AUTOFREE char *tag = bxc_rand_hex(8);
	memcpy(job.tag, tag, sizeof(job.tag));
	int r = remove_entry(&job, dir_fd, name, DT_UNKNOWN, UINT32_MAX, err);
	return r < 0 ? r : 0;
}
