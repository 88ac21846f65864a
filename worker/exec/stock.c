/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept of cache mounts: how large, whose, and when it was used last. The latter two stand
 * on the folder as attributes that steps do not see.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/os/fs.h"
#include "common/os/xattr.h"
#include "worker/exec/exec_internal.h"

#define ATTR_ID	  "trusted.bxc.cache"
#define ATTR_USED "trusted.bxc.used"
#define ID_MAX	  4096u

bool bxc_exec__cache_is_folder(const char *name)
{
	return strspn(name, "0123456789abcdef") == BXC_EXEC__CACHE_NAME && !strchr(name, '/');
}

void bxc_exec__cache_mark(bxc_exec *x, const char *folder, const char *id)
{
	BXC_AUTOCLOSE int fd = -1;
	char used[24];
	int n = snprintf(used, sizeof(used), "%" PRId64, bxc_clock_wall_ns());
	if (bxc_fs_open_dir(x->caches_fd, folder, &fd, NULL) < 0)
		return;
	bxc_ignore(bxc_xattr_set(fd, ATTR_ID, id, BXC_MIN(strlen(id), (size_t)ID_MAX), NULL));
	bxc_ignore(bxc_xattr_set(fd, ATTR_USED, used, (size_t)n, NULL));
}

void bxc_exec_caches_done(bxc_exec_caches *c)
{
	BXC_ARR_FOREACH (i, c) {
		free(i->folder);
		free(i->id);
	}
	bxc_arr_done(c);
}

static int measure(int dir_fd, unsigned depth, uint64_t *bytes, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	if (depth > BXC_LIMIT_TREE_DEPTH)
		return 0;
	int r = bxc_fs_list_dir(dir_fd, "", BXC_LIMIT_TREE_ENTRIES, &names, err);
	for (char **n = names; r >= 0 && *n; n++) {
		struct stat st;
		/* Steps may be at work in it. */
		if (fstatat(dir_fd, *n, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		*bytes += (uint64_t)st.st_blocks * 512 /
			  (st.st_nlink && !S_ISDIR(st.st_mode) ? st.st_nlink : 1);
		BXC_AUTOCLOSE int fd = -1;
		if (S_ISDIR(st.st_mode) && bxc_fs_open_beneath(dir_fd, *n, O_RDONLY | O_DIRECTORY,
						   0, BXC_FS_NO_LINKS, &fd, NULL) >= 0)
			r = measure(fd, depth + 1, bytes, err);
	}
	return r < 0 ? r : 0;
}

static char *attribute(int fd, const char *name)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(ID_MAX);
	return bxc_xattr_get(fd, name, &b, NULL) < 0 ? NULL : bxc_buf_steal(&b);
}

int bxc_exec_caches_list(bxc_exec *x, bxc_exec_caches *ret, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(x->caches_fd, "", BXC_EXEC__MAX_CACHES, &names, err);
	for (char **n = names; r >= 0 && *n; n++) {
		BXC_AUTOCLOSE int fd = -1;
		if (!bxc_exec__cache_is_folder(*n) ||
			bxc_fs_open_dir(x->caches_fd, *n, &fd, NULL) < 0)
			continue;
		bxc_exec_cache *c = bxc_arr_push(ret);
		BXC_AUTOFREE char *used = attribute(fd, ATTR_USED);
		c->folder = bxc_strdup(*n);
		c->id = attribute(fd, ATTR_ID);
		c->in_use = bxc_exec__cache_in_use(x, *n);
		if (!used || bxc_str_to_i64(used, 0, INT64_MAX, &c->used_ns, NULL) < 0)
			c->used_ns = 0;
		r = measure(fd, 0, &c->bytes, err);
	}
	return r < 0 ? r : 0;
}
