/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch, chains of actions, and the actions that need no source. */
#include <errno.h>

#include "common/os/fd.h"
#include "common/os/fs.h"
#include "worker/fileop/fileop_internal.h"

static mode_t mode_or(const bxc_file_action *a, mode_t fallback)
{
	return a->mode >= 0 ? (mode_t)a->mode & 07777 : fallback;
}

static int set_time(const bxc_file_action *a, int dir_fd, const char *name, bxc_err **err)
{
	if (a->timestamp_ns == INT64_MIN)
		return 0;
	struct timespec t = bxc_fsop__timespec(a->timestamp_ns);
	struct timespec times[2] = {t, t};
	if (utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return bxc_err_errno(err, errno, "set time of '%s'", a->dest);
	return 0;
}

/* Not followed at its end; BXC_NOT_FOUND names the path. */
static int open_parent(int root_fd, const char *path, int *ret_fd, char **ret_name, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fs_open_parent(root_fd, path, true, ret_fd, ret_name, &why);
	if (r == -BXC_NOT_FOUND)
		return bxc_err_set(err, BXC_NOT_FOUND, "\"%s\": not found", path);
	return r < 0 ? bxc_err_move(err, BXC_TAKE(why)) : 0;
}

static int do_mkdir(const bxc_file_action *a, int root_fd, const bxc_fsop__ids *ids, bxc_err **err)
{
	bxc_fsop__dest d = {
		.root_fd = root_fd,
		.dir_mode = mode_or(a, 0755),
		.uid = ids->is_set ? ids->uid : 0,
		.gid = ids->is_set ? ids->gid : 0,
		.timestamp_ns = a->timestamp_ns,
	};
	int r = 0;
	if (!a->make_parents) {
		BXC_AUTOFREE char *clean = bxc_path_clean(a->dest);
		BXC_AUTOFREE char *name = NULL;
		BXC_AUTOCLOSE int parent_fd = -1;
		r = open_parent(root_fd, clean, &parent_fd, &name, err);
	}
	if (r == 0)
		r = bxc_fsop__dest_mkdir_p(&d, a->dest, NULL, err);
	if (r == 0)
		r = bxc_fsop__dest_finish(&d, err);
	bxc_fsop__dest_done(&d);
	return r;
}

static int do_mkfile(const bxc_file_action *a, int root_fd, const bxc_fsop__ids *ids, bxc_err **err)
{
	bxc_fsop__dest d = {.root_fd = root_fd, .dir_mode = 0755, .timestamp_ns = INT64_MIN};
	BXC_AUTOCLOSE int dir_fd = -1;
	BXC_AUTOFREE char *name = NULL;
	int r = bxc_fsop__dest_file(&d, a->dest, false, &dir_fd, &name, err);
	bxc_fsop__dest_done(&d);
	if (r < 0)
		return r;
	/* An existing file keeps its mode, as with open(2). O_NONBLOCK: a FIFO must not hang us. */
	const int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	bool created = true;
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, flags | O_CREAT | O_EXCL, 0600);
	if (fd < 0 && errno == EEXIST) {
		created = false;
		fd = openat(dir_fd, name, flags);
	}
	if (fd < 0)
		return bxc_err_errno(err, errno, "create '%s'", a->dest);
	struct stat st;
	if (fstat(fd, &st) < 0)
		return bxc_err_errno(err, errno, "stat '%s'", a->dest);
	if (!S_ISREG(st.st_mode))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%s' is no regular file", a->dest);
	if (ftruncate(fd, 0) < 0)
		return bxc_err_errno(err, errno, "empty '%s'", a->dest);
	r = bxc_fd_write_all(fd, a->data, a->data_len, err);
	if (r < 0)
		return r;
	if (ids->is_set && fchown(fd, ids->uid, ids->gid) < 0)
		return bxc_err_errno(err, errno, "change owner of '%s'", a->dest);
	if (created && fchmod(fd, mode_or(a, 0644)) < 0)
		return bxc_err_errno(err, errno, "change mode of '%s'", a->dest);
	return set_time(a, dir_fd, name, err);
}

static int do_symlink(
	const bxc_file_action *a, int root_fd, const bxc_fsop__ids *ids, bxc_err **err)
{
	BXC_AUTOCLOSE int dir_fd = -1;
	BXC_AUTOFREE char *name = NULL;
	int r = open_parent(root_fd, a->dest, &dir_fd, &name, err);
	if (r < 0)
		return r;
	if (symlinkat(a->link_target, dir_fd, name) < 0)
		return bxc_err_errno(err, errno, "make symbolic link '%s'", a->dest);
	if (ids->is_set && fchownat(dir_fd, name, ids->uid, ids->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return bxc_err_errno(err, errno, "change owner of '%s'", a->dest);
	return set_time(a, dir_fd, name, err);
}

static int remove_one(const bxc_file_action *a, int root_fd, const char *path, bxc_err **err)
{
	BXC_AUTOCLOSE int dir_fd = -1;
	BXC_AUTOFREE char *name = NULL;
	BXC_AUTOERR bxc_err *why = NULL;
	struct stat st;
	int r = open_parent(root_fd, path, &dir_fd, &name, &why);
	if (r == 0)
		r = bxc_fs_lstat_opt(dir_fd, name, &st, &why);
	if (r == 0 || r == -BXC_NOT_FOUND) {
		if (a->allow_not_found)
			return 0;
		return bxc_err_set(err, BXC_NOT_FOUND, "\"%s\": not found", path);
	}
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(why));
	if (bxc_str_eq(name, "."))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "cannot remove '%s'", path);
	return bxc_fs_rmtree(dir_fd, name, err);
}

static int do_rm(const bxc_file_action *a, int root_fd, const bxc_fsop_env *env, bxc_err **err)
{
	bxc_fsop__view view;
	bxc_fsop__view_init(&view, &(bxc_fsop_source){.root_fd = root_fd}, env);
	BXC_AUTOSTRV char **matches = NULL;
	int r = bxc_fsop__view_match(&view, a->dest, a->wildcard, &matches, err);
	bxc_fsop__view_done(&view);
	for (char **m = matches; r == 0 && *m; m++)
		r = remove_one(a, root_fd, *m, err);
	return r;
}

int bxc_fsop_perform(const bxc_file_action *a, int root_fd, const bxc_fsop_source *source,
	const bxc_fsop_env *env, bxc_err **err)
{
	static const bxc_fsop_env nothing = {0};
	if (!env)
		env = &nothing;
	int r = bxc_cancel_check(env->cancel, err);
	if (r < 0)
		return r;
	if (a->kind == BXC_FILE_COPY)
		return bxc_fsop__copy(a, root_fd, source, env, err);
	bxc_fsop__ids ids = {0};
	r = bxc_fsop__owner(root_fd, &a->owner, &ids, err);
	if (r < 0)
		return r;
	switch (a->kind) {
	case BXC_FILE_MKDIR:
		return do_mkdir(a, root_fd, &ids, err);
	case BXC_FILE_MKFILE:
		return do_mkfile(a, root_fd, &ids, err);
	case BXC_FILE_SYMLINK:
		return do_symlink(a, root_fd, &ids, err);
	case BXC_FILE_RM:
		return do_rm(a, root_fd, env, err);
	case BXC_FILE_COPY:
	case BXC_FILE_UNKNOWN:
	default:
		return bxc_err_set(
			err, BXC_UNIMPLEMENTED, "unknown file operation %d", (int)a->kind);
	}
}

int bxc_fsop_base(const bxc_op_file *op, uint32_t n_inputs, uint32_t *ret_input, bxc_err **err)
{
	if (op->actions.n == 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "a file operation without actions");
	for (size_t i = 0; i < op->actions.n; i++) {
		const bxc_file_action *a = &op->actions.v[i];
		bool source_ok = a->kind != BXC_FILE_COPY || a->source == BXC_DEF_NO_INPUT ||
				 a->source < n_inputs;
		bool target_ok = i == 0 ? a->target == BXC_DEF_NO_INPUT || a->target < n_inputs
					: a->target == n_inputs + (uint32_t)(i - 1);
		if (!source_ok || !target_ok)
			return bxc_err_set(err, BXC_UNIMPLEMENTED,
				"file operations whose actions do not follow one another are not "
				"supported");
	}
	*ret_input = op->actions.v[0].target;
	return 0;
}

int bxc_fsop_run(const bxc_op_file *op, int root_fd, const bxc_fsop_source *inputs,
	uint32_t n_inputs, const bxc_fsop_env *env, bxc_err **err)
{
	uint32_t base = 0;
	int r = bxc_fsop_base(op, n_inputs, &base, err);
	for (size_t i = 0; r == 0 && i < op->actions.n; i++) {
		const bxc_file_action *a = &op->actions.v[i];
		const bxc_fsop_source empty = {.root_fd = -1};
		bool has_source = a->kind == BXC_FILE_COPY && a->source != BXC_DEF_NO_INPUT;
		r = bxc_fsop_perform(
			a, root_fd, has_source ? &inputs[a->source] : &empty, env, err);
	}
	return r;
}

int bxc_fsop_materialize(
	const bxc_fsop_source *source, int root_fd, const bxc_fsop_env *env, bxc_err **err)
{
	char root[] = "/";
	const bxc_file_action all = {
		.kind = BXC_FILE_COPY,
		.src = root,
		.src_dir_contents = true,
		.follow_symlink = true,
		.create_dest = true,
		.dest = root,
		.mode = -1,
		.timestamp_ns = INT64_MIN,
	};
	return bxc_fsop_perform(&all, root_fd, source, env, err);
}
