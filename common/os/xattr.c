/* SPDX-License-Identifier: Apache-2.0 */
#include "common/os/xattr.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* XATTR_LIST_MAX of Linux. */
#define LIST_MAX_BYTES 65536

/* The f*xattr calls refuse O_PATH descriptors; the magic link leads to the same inode. */
struct fd_path {
	char text[32];
};

static struct fd_path fd_path(int fd)
{
	struct fd_path p;
	(void)snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
	return p;
}

int bxc_xattr_list(int fd, char ***ret_names, bxc_err **err)
{
	BXC_AUTOFREE char *list = bxc_malloc(LIST_MAX_BYTES);
	ssize_t n = listxattr(fd_path(fd).text, list, LIST_MAX_BYTES);
	if (n < 0 && errno != ENOTSUP)
		return bxc_err_errno(err, errno, "list extended attributes");
	BXC_AUTOSTRV char **names = NULL;
	for (ssize_t i = 0; i < n; i += (ssize_t)strlen(list + i) + 1)
		bxc_strv_push(&names, list + i);
	bxc_strv_sort(names);
	*ret_names = BXC_TAKE(names);
	return 0;
}

int bxc_xattr_get(int fd, const char *name, bxc_buf *ret, bxc_err **err)
{
	BXC_AUTOFREE uint8_t *value = bxc_malloc(BXC_LIMIT_XATTR);
	ssize_t n = getxattr(fd_path(fd).text, name, value, BXC_LIMIT_XATTR);
	if (n < 0 && errno == ENODATA)
		return bxc_err_set(err, BXC_NOT_FOUND, "no extended attribute '%s'", name);
	if (n < 0)
		return bxc_err_errno(err, errno, "get extended attribute '%s'", name);
	bxc_buf_clear(ret);
	return bxc_buf_append(ret, value, (size_t)n, err);
}

int bxc_xattr_set(int fd, const char *name, const void *value, size_t n, bxc_err **err)
{
	if (setxattr(fd_path(fd).text, name, value, n, 0) < 0)
		return bxc_err_errno(err, errno, "set extended attribute '%s'", name);
	return 0;
}

int bxc_xattr_remove(int fd, const char *name, bxc_err **err)
{
	if (removexattr(fd_path(fd).text, name) < 0 && errno != ENODATA)
		return bxc_err_errno(err, errno, "remove extended attribute '%s'", name);
	return 0;
}
