/* SPDX-License-Identifier: Apache-2.0 */
/* What a cache mount holds at first when it starts from an input. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/str.h"
#include "common/os/fs.h"
#include "worker/exec/exec_internal.h"
#include "worker/fileop/fileop.h"

static const char *part_of(const bxc_exec__seed *s)
{
	return bxc_str_empty(s->selector) ? "/" : s->selector;
}

void bxc_exec__seed_identify(const bxc_exec__seed *s, bxc_hasher *h)
{
	bxc_hasher_update_str(h, part_of(s));
	bxc_hasher_update_str(h, s->in->tree_id ? s->in->tree_id : "");
	bxc_hasher_update_u64(h, s->in->n_layers);
	for (size_t i = 0; i < s->in->n_layers; i++)
		bxc_hasher_update_str(h, s->in->layers[i]);
}

static int open_source(const bxc_exec__seed *s, int *ret_root_fd, int *ret_fd, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	int r = s->in->tree_fd >= 0 ? bxc_fs_open_dir(s->in->tree_fd, "", ret_root_fd, err)
				    : bxc_snap_mount_ro(s->snap, s->in->layers, s->in->n_layers,
					      ret_root_fd, err);
	if (r < 0)
		return r;
	r = bxc_fs_open_beneath(
		*ret_root_fd, part_of(s), O_RDONLY | O_DIRECTORY, 0, BXC_FS_IN_ROOT, ret_fd, &why);
	if (r == -BXC_NOT_FOUND)
		return bxc_err_set(err, BXC_NOT_FOUND, "\"%s\": not found", part_of(s));
	if (r < 0 && bxc_err_errnum(why) == ENOTDIR)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"a cache mount can't start from \"%s\": it is no directory", part_of(s));
	return r < 0 ? bxc_err_move(err, BXC_TAKE(why)) : 0;
}

int bxc_exec__seed_copy(const bxc_exec__seed *s, int dir_fd, bxc_err **err)
{
	BXC_AUTOCLOSE int root_fd = -1, fd = -1;
	struct stat st;
	int r = open_source(s, &root_fd, &fd, err);
	if (r < 0)
		return r;
	const bxc_fsop_source source = {.root_fd = fd};
	const bxc_fsop_env env = {.cancel = s->cancel};
	r = bxc_fsop_materialize(&source, dir_fd, &env, err);
	if (r < 0)
		return r;
	/* The folder itself is that of the input, too. */
	if (fstat(fd, &st) < 0 || fchown(dir_fd, st.st_uid, st.st_gid) < 0 ||
		fchmod(dir_fd, st.st_mode & 07777) < 0)
		return bxc_err_errno(err, errno, "owner and mode of a cache mount");
	return 0;
}
