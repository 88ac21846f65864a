/* SPDX-License-Identifier: Apache-2.0 */
#include "common/os/cg.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/arr.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/mnt.h"

#define FILE_MAX_BYTES (1u << 20)
#define PROCS_MAX      100000u
#define CHILDREN_MAX   10000u
#define DEPTH_MAX      16

struct v1_hierarchy {
	char **controllers;
	char *mount;
};

struct bxc_cg {
	char *unified_mount;
	BXC_ARR(struct v1_hierarchy) v1;
};

void bxc_cg_free(bxc_cg *cg)
{
	if (!cg)
		return;
	free(cg->unified_mount);
	BXC_ARR_FOREACH (h, &cg->v1) {
		bxc_strv_free(h->controllers);
		free(h->mount);
	}
	bxc_arr_done(&cg->v1);
	free(cg);
}

/* ---- detection ---- */

int bxc_cg_detect(bxc_cg **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_cg_freep) bxc_cg *cg = bxc_calloc(1, sizeof(*cg));
	BXC_AUTOMNTTABLE bxc_mnt_table table = {0};
	BXC_AUTOERR bxc_err *table_err = NULL;
	int r = bxc_mnt_read_table(&table, &table_err);
	/* Without /proc nothing is known of cgroups, as on a kernel that has none. */
	if (r < 0 && r != -BXC_NOT_FOUND)
		return bxc_err_move(err, BXC_TAKE(table_err));
	for (size_t i = 0; i < table.n; i++) {
		const bxc_mnt_entry *e = &table.v[i];
		if (strcmp(e->fs_type, "cgroup2") == 0 && !cg->unified_mount)
			cg->unified_mount = bxc_strdup(e->mount_point);
		else if (strcmp(e->fs_type, "cgroup") == 0)
			*bxc_arr_push(&cg->v1) = (struct v1_hierarchy){
				bxc_strv_split(e->super_options, ','), bxc_strdup(e->mount_point)};
	}
	*ret = BXC_TAKE(cg);
	return 0;
}

bxc_cg_mode bxc_cg_get_mode(const bxc_cg *cg)
{
	if (cg->unified_mount)
		return cg->v1.n ? BXC_CG_HYBRID : BXC_CG_V2;
	return cg->v1.n ? BXC_CG_V1 : BXC_CG_NONE;
}

const char *bxc_cg_unified_mount(const bxc_cg *cg)
{
	return cg->unified_mount;
}

const char *bxc_cg_v1_mount(const bxc_cg *cg, const char *controller)
{
	BXC_ARR_FOREACH (h, &cg->v1)
		if (bxc_strv_has(h->controllers, controller))
			return h->mount;
	return NULL;
}

/* ---- groups ---- */

static int check_path(const char *path, bxc_err **err)
{
	if (strlen(path) >= BXC_LIMIT_PATH)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "name of a control group is too long");
	BXC_AUTOSTRV char **parts = bxc_strv_split(path, '/');
	for (size_t i = 0; parts[i]; i++) {
		bool ok = *parts[i] != '\0' && *parts[i] != '.';
		for (const char *p = parts[i]; *p && ok; p++)
			ok = isalnum((unsigned char)*p) || strchr("._-", *p);
		if (!ok)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"invalid name of a control group '%s'", path);
	}
	return 0;
}

/* The folder of a group, owned; controller NULL: in the unified hierarchy. */
static int group_folder(
	const bxc_cg *cg, const char *controller, const char *path, char **ret, bxc_err **err)
{
	int r = check_path(path, err);
	if (r < 0)
		return r;
	const char *mount = controller ? bxc_cg_v1_mount(cg, controller) : cg->unified_mount;
	if (!mount)
		return bxc_err_set(err, BXC_NOT_FOUND, "no control group hierarchy '%s'",
			controller ? controller : "unified");
	*ret = bxc_str_fmt("%s/%s", mount, path);
	return 0;
}

static int open_group(const char *folder, int *ret_fd, bxc_err **err)
{
	int r = bxc_fs_open_dir(AT_FDCWD, folder, ret_fd, err);
	return bxc_err_wrap(err, r, "control group");
}

int bxc_cg_open(
	const bxc_cg *cg, const char *controller, const char *path, int *ret_dir_fd, bxc_err **err)
{
	BXC_AUTOFREE char *full = NULL;
	int r = group_folder(cg, controller, path, &full, err);
	return r < 0 ? r : open_group(full, ret_dir_fd, err);
}

int bxc_cg_create(const bxc_cg *cg, const char *path, int *ret_dir_fd, bxc_err **err)
{
	BXC_AUTOFREE char *full = NULL;
	int r = group_folder(cg, NULL, path, &full, err);
	if (r < 0)
		return r;
	r = bxc_fs_make_dirs(AT_FDCWD, full, 0755, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "control group '%s'", path);
	return open_group(full, ret_dir_fd, err);
}

static int write_file(int dir_fd, const char *name, const char *text, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", name);
	return bxc_err_wrap(err, bxc_fd_write_all(fd, text, strlen(text), err), "'%s'", name);
}

int bxc_cg_attach(int dir_fd, pid_t pid, bxc_err **err)
{
	BXC_AUTOFREE char *text = bxc_str_fmt("%d", (int)pid);
	return write_file(dir_fd, "cgroup.procs", text, err);
}

int bxc_cg_procs(int dir_fd, size_t max, pid_t **ret_pids, size_t *ret_n, bxc_err **err)
{
	/* A pid and its newline take at most 11 bytes. */
	size_t max_bytes = BXC_MIN(max, (size_t)PROCS_MAX) * 11;
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(max_bytes);
	int r = bxc_fs_read_file(dir_fd, "cgroup.procs", max_bytes, &text, err);
	if (r < 0)
		return r;
	BXC_AUTOSTRV char **lines = bxc_strv_split(bxc_buf_text(&text), '\n');
	BXC_ARR(pid_t) pids = {0};
	for (size_t i = 0; lines[i] && r >= 0; i++) {
		uint64_t pid = 0;
		if (!*lines[i])
			continue;
		r = bxc_str_to_u64(lines[i], 0, INT32_MAX, &pid, err);
		/* 0 stands for a process that this pid namespace cannot see. */
		if (r >= 0 && pid && pids.n >= max)
			r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
				"control group has more than %zu processes", max);
		else if (r >= 0 && pid)
			*bxc_arr_push(&pids) = (pid_t)pid;
	}
	if (r < 0) {
		bxc_arr_done(&pids);
		return r;
	}
	*ret_pids = pids.v;
	*ret_n = pids.n;
	return 0;
}

/* Names of the groups below; v2 and v1 alike, these are the folders. */
static int list_children(int dir_fd, char ***ret, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(dir_fd, "", CHILDREN_MAX, &names, err);
	if (r < 0)
		return r;
	BXC_ARR(char *) dirs = {0};
	for (size_t i = 0; names[i]; i++) {
		struct stat st;
		if (fstatat(dir_fd, names[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
			*bxc_arr_push(&dirs) = bxc_strdup(names[i]);
	}
	*bxc_arr_push(&dirs) = NULL;
	*ret = dirs.v;
	return 0;
}

/* Without cgroup.kill: what forks meanwhile is caught by the next round of the caller. */
static int kill_one_by_one(int dir_fd, int depth, bxc_err **err)
{
	BXC_AUTOFREE pid_t *pids = NULL;
	size_t n = 0;
	int r = bxc_cg_procs(dir_fd, PROCS_MAX, &pids, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (kill(pids[i], SIGKILL) < 0 && errno != ESRCH)
			return bxc_err_errno(err, errno, "kill process %d", (int)pids[i]);
	BXC_AUTOSTRV char **children = NULL;
	r = list_children(dir_fd, &children, err);
	for (size_t i = 0; r >= 0 && depth < DEPTH_MAX && children[i]; i++) {
		BXC_AUTOCLOSE int fd =
			openat(dir_fd, children[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			r = kill_one_by_one(fd, depth + 1, err);
	}
	return r;
}

int bxc_cg_kill(int dir_fd, bxc_err **err)
{
	BXC_AUTOERR bxc_err *first = NULL;
	int r = write_file(dir_fd, "cgroup.kill", "1", &first);
	if (r == -BXC_NOT_FOUND)
		return kill_one_by_one(dir_fd, 0, err);
	return r < 0 ? bxc_err_move(err, BXC_TAKE(first)) : 0;
}

/* The number behind "key " in a file of such lines; 0 when the file or the key is missing. */
static int read_counter(int dir_fd, const char *name, const char *key, uint64_t *ret, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(FILE_MAX_BYTES);
	BXC_AUTOERR bxc_err *first = NULL;
	int r = bxc_fs_read_file(dir_fd, name, FILE_MAX_BYTES, &text, &first);
	if (r == -BXC_NOT_FOUND)
		return 0;
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(first));
	BXC_AUTOSTRV char **lines = bxc_strv_split(bxc_buf_text(&text), '\n');
	size_t n = strlen(key);
	for (size_t i = 0; lines[i]; i++) {
		if (strncmp(lines[i], key, n) != 0 || lines[i][n] != ' ')
			continue;
		r = bxc_str_to_u64(lines[i] + n + 1, 0, UINT64_MAX, ret, err);
		return r < 0 ? bxc_err_wrap(err, r, "'%s'", name) : 1;
	}
	return 0;
}

int bxc_cg_oom_kills(int dir_fd, uint64_t *ret, bxc_err **err)
{
	int r = read_counter(dir_fd, "memory.events", "oom_kill", ret, err);
	if (r == 0)
		r = read_counter(dir_fd, "memory.oom_control", "oom_kill", ret, err);
	if (r == 0)
		return bxc_err_set(err, BXC_NOT_FOUND, "control group does not count OOM kills");
	return r < 0 ? r : 0;
}

/* A file that holds one number. 1; 0: there is no such file. */
static int read_number(int dir_fd, const char *name, uint64_t *ret, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(FILE_MAX_BYTES);
	BXC_AUTOERR bxc_err *first = NULL;
	int r = bxc_fs_read_file(dir_fd, name, FILE_MAX_BYTES, &text, &first);
	if (r == -BXC_NOT_FOUND)
		return 0;
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(first));
	BXC_AUTOFREE char *copy = bxc_strdup(bxc_buf_text(&text));
	r = bxc_str_to_u64(bxc_str_trim(copy), 0, UINT64_MAX, ret, err);
	return r < 0 ? bxc_err_wrap(err, r, "'%s'", name) : 1;
}

int bxc_cg_memory_peak(int dir_fd, uint64_t *ret, bxc_err **err)
{
	int r = read_number(dir_fd, "memory.peak", ret, err);
	if (r == 0)
		r = read_number(dir_fd, "memory.max_usage_in_bytes", ret, err);
	if (r == 0)
		return bxc_err_set(err, BXC_NOT_FOUND, "control group does not measure its memory");
	return r < 0 ? r : 0;
}

int bxc_cg_wait_empty(int dir_fd, int timeout_ms, bxc_err **err)
{
	int64_t deadline_ns = bxc_clock_mono_ns() + timeout_ms * BXC_NS_PER_MS;
	/* Changes of the file are told by POLLPRI to who has read it before. */
	BXC_AUTOCLOSE int fd = openat(dir_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open 'cgroup.events'");
	for (;;) {
		char text[512];
		size_t n = 0;
		int r = bxc_fd_pread_full(fd, text, sizeof(text) - 1, 0, &n, err);
		if (r < 0)
			return r;
		text[n] = '\0';
		if (strstr(text, "populated 0"))
			return 0;
		int left_ms = bxc_clock_left_ms(deadline_ns);
		if (left_ms == 0)
			return bxc_err_set(
				err, BXC_DEADLINE_EXCEEDED, "control group still holds processes");
		r = bxc_fd_wait(fd, POLLPRI, left_ms, err);
		if (r < 0)
			return r;
	}
}

static int remove_group(int parent_fd, const char *name, int depth, bxc_err **err)
{
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY || depth >= DEPTH_MAX)
		return bxc_err_errno(err, errno, "remove control group '%s'", name);
	BXC_AUTOCLOSE int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open control group '%s'", name);
	BXC_AUTOSTRV char **children = NULL;
	int r = list_children(fd, &children, err);
	for (size_t i = 0; r >= 0 && children[i]; i++)
		r = remove_group(fd, children[i], depth + 1, err);
	if (r >= 0 && unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = bxc_err_errno(err, errno, "remove control group '%s'", name);
	return r;
}

int bxc_cg_remove(const bxc_cg *cg, const char *path, int timeout_ms, bxc_err **err)
{
	BXC_AUTOFREE char *full = NULL;
	int r = group_folder(cg, NULL, path, &full, err);
	if (r < 0)
		return r;
	BXC_AUTOCLOSE int fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return bxc_err_errno(err, errno, "open control group '%s'", path);
	r = bxc_cg_kill(fd, err);
	if (r >= 0)
		r = bxc_cg_wait_empty(fd, timeout_ms, err);
	if (r >= 0)
		r = remove_group(AT_FDCWD, full, 0, err);
	return bxc_err_wrap(err, r, "control group '%s'", path);
}
