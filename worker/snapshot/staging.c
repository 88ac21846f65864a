/* SPDX-License-Identifier: Apache-2.0 */
/* Layers in the making, and mounts. */
#include <errno.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/rand.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/os/mnt.h"
#include "worker/snapshot/snapshot_internal.h"

int bxc_snap_begin(bxc_snap *s, const char *id, bxc_snap_staging **ret, bxc_err **err)
{
	if (id) {
		int r = bxc_snap__check_id(id, err);
		if (r < 0)
			return r;
	}
	pthread_mutex_lock(&s->lock);
	s->n_stagings++;
	pthread_mutex_unlock(&s->lock);
	BXC_CLEANUP(bxc_snap_staging_freep) bxc_snap_staging *g = bxc_calloc(1, sizeof(*g));
	g->snap = s;
	g->id = bxc_strdup(id);
	g->name = bxc_rand_hex(12);
	g->dir_fd = g->fs_fd = -1;
	BXC_AUTOFREE char *fs_path = bxc_str_fmt("%s/fs", g->name);
	int r = bxc_fs_make_dirs(s->tmp_fd, g->name, 0700, err);
	if (r == 0)
		r = bxc_fs_make_dirs(s->tmp_fd, fs_path, 0755, err);
	if (r == 0)
		r = bxc_fs_open_dir(s->tmp_fd, g->name, &g->dir_fd, err);
	if (r == 0)
		r = bxc_fs_open_dir(g->dir_fd, "fs", &g->fs_fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "begin a layer");
	*ret = BXC_TAKE(g);
	return 0;
}

int bxc_snap_staging_fd(const bxc_snap_staging *g)
{
	return g->fs_fd;
}

static void staging_free(bxc_snap_staging *g)
{
	bxc_cleanup_close(&g->fs_fd);
	bxc_cleanup_close(&g->dir_fd);
	pthread_mutex_lock(&g->snap->lock);
	g->snap->n_stagings--;
	pthread_mutex_unlock(&g->snap->lock);
	free(g->name);
	free(g->id);
	free(g);
}

void bxc_snap_abort(bxc_snap_staging *g)
{
	if (!g)
		return;
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_snap__discard(g->snap, g->snap->tmp_fd, g->name, &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "snapshot.discard_failed", err, NULL);
	staging_free(g);
}

static int measure(int dir_fd, unsigned depth, uint64_t *sum, uint32_t *n_entries, bxc_err **err)
{
	if (depth > BXC_LIMIT_TREE_DEPTH)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "folders are nested deeper than %u",
			BXC_LIMIT_TREE_DEPTH);
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(dir_fd, ".", BXC_LIMIT_TREE_ENTRIES, &names, err);
	if (r < 0)
		return r;
	for (char **n = names; *n; n++) {
		if (++*n_entries > BXC_LIMIT_TREE_ENTRIES)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
				"the layer has more than %u entries", BXC_LIMIT_TREE_ENTRIES);
		struct stat st;
		r = bxc_fs_lstat(dir_fd, *n, &st, err);
		if (r < 0)
			return r;
		if (S_ISREG(st.st_mode))
			*sum += (uint64_t)st.st_size / (uint64_t)BXC_MAX(st.st_nlink, (nlink_t)1);
		if (!S_ISDIR(st.st_mode))
			continue;
		BXC_AUTOCLOSE int sub_fd =
			openat(dir_fd, *n, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub_fd < 0)
			return bxc_err_errno(err, errno, "open '%s'", *n);
		r = measure(sub_fd, depth + 1, sum, n_entries, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int bxc_snap__measure(int dir_fd, uint64_t *ret_bytes, bxc_err **err)
{
	uint64_t sum = 0;
	uint32_t n = 0;
	int r = measure(dir_fd, 0, &sum, &n, err);
	if (r == 0)
		*ret_bytes = sum;
	return r;
}

static int write_meta(bxc_snap_staging *g, const bxc_snap__layer *l, bxc_err **err)
{
	BXC_AUTOFREE char *text = bxc_snap__meta_print(l, g->snap->boot);
	BXC_AUTOCLOSE int fd =
		openat(g->dir_fd, "meta.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return bxc_err_errno(err, errno, "create the facts of a layer");
	return bxc_fd_write_all(fd, text, strlen(text), err);
}

/* Its rename has happened, or never will. Needs s->lock. */
static void end_commit(bxc_snap *s, uint64_t seq)
{
	for (size_t i = 0; i < s->committing.n; i++)
		if (s->committing.v[i] == seq) {
			bxc_arr_remove(&s->committing, i);
			break;
		}
}

/* Puts the finished folder in place. 1: the layer was there already. */
static int put_in_place(bxc_snap_staging *g, bxc_snap__layer *l, bxc_err **err)
{
	bxc_snap *s = g->snap;
	BXC_AUTOFREE char *name = bxc_snap__dir_name(g->id);
	pthread_mutex_lock(&s->dir_lock);
	int r = bxc_snap_has(s, g->id) ? 1 : 0;
	if (r == 0)
		r = bxc_fs_rename(s->tmp_fd, g->name, s->layers_fd, name, true, err);
	pthread_mutex_lock(&s->lock);
	end_commit(s, l->seq);
	if (r == 0)
		bxc_map_set(s->layers, l->id, l);
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_mutex_unlock(&s->dir_lock);
	return r;
}

int bxc_snap_commit(bxc_snap_staging *g_, const bxc_snap_facts *facts, bxc_err **err)
{
	BXC_CLEANUP(bxc_snap_staging_freep) bxc_snap_staging *g = g_;
	bxc_snap *s = g->snap;
	bxc_check(g->id != NULL);
	BXC_CLEANUP(bxc_snap__layer_freep) bxc_snap__layer *l = bxc_snap__layer_new(g->id);
	if (facts)
		l->facts = *facts;
	int r = 0;
	if (l->facts.size_bytes == 0)
		r = bxc_snap__measure(g->fs_fd, &l->facts.size_bytes, err);
	if (r == 0 && g->is_mounted)
		r = bxc_fs_rmtree(g->dir_fd, "work", err);
	if (r < 0)
		return bxc_err_wrap(err, r, "commit layer '%s'", g->id);
	pthread_mutex_lock(&s->lock);
	l->seq = ++s->last_seq;
	*bxc_arr_push(&s->committing) = l->seq;
	pthread_mutex_unlock(&s->lock);
	r = write_meta(g, l, err);
	if (r == 0) {
		r = put_in_place(g, l, err);
	} else {
		pthread_mutex_lock(&s->lock);
		end_commit(s, l->seq);
		pthread_mutex_unlock(&s->lock);
	}
	if (r < 0)
		return bxc_err_wrap(err, r, "commit layer '%s'", g->id);
	if (r == 0) {
		(void)BXC_TAKE(l);
		staging_free(BXC_TAKE(g));
	}
	return r;
}

/* Absolute paths of the layers, topmost first, as overlayfs wants them. */
static int lower_paths(bxc_snap *s, const char *const *ids, size_t n, char ***ret, bxc_err **err)
{
	if (n > BXC_LIMIT_IMAGE_LAYERS)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"%zu layers are more than the %u that can be mounted", n,
			BXC_LIMIT_IMAGE_LAYERS);
	/* Of a layer that is there twice the upper one covers the lower, and overlayfs takes it once. */
	BXC_CLEANUP(bxc_map_freep) bxc_map *seen = bxc_map_new(NULL);
	BXC_AUTOSTRV char **paths = NULL;
	int64_t now = bxc_clock_wall_ns();
	int r = 0;
	pthread_mutex_lock(&s->lock);
	for (size_t i = n; i > 0 && r == 0; i--) {
		bxc_snap__layer *l = NULL;
		r = bxc_snap__find(s, ids[i - 1], &l, err);
		if (r < 0)
			break;
		l->used_ns = now;
		if (bxc_map_has(seen, l->id))
			continue;
		bxc_map_set(seen, l->id, l);
		BXC_AUTOFREE char *name = bxc_snap__dir_name(l->id);
		bxc_strv_pushf(&paths, "%s/layers/%s/fs", s->root, name);
	}
	pthread_mutex_unlock(&s->lock);
	if (r == 0)
		*ret = BXC_TAKE(paths);
	return r;
}

int bxc_snap_mount_ro(
	bxc_snap *s, const char *const *ids, size_t n, int *ret_mount_fd, bxc_err **err)
{
	BXC_AUTOSTRV char **lowers = NULL;
	int r = lower_paths(s, ids, n, &lowers, err);
	if (r < 0)
		return r;
	r = bxc_mnt_overlay((const char *const *)lowers, bxc_strv_len(lowers), NULL, NULL, 0, ret_mount_fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "mount %zu layers", n);
	return 0;
}

/* The root of an overlay shows the attributes of its upper: a new one takes those of what it
 * covers. */
static int inherit_root(const bxc_snap_staging *g, const char *lower, bxc_err **err)
{
	struct stat st;
	if (stat(lower, &st) < 0)
		return bxc_err_errno(err, errno, "look at the root of a layer");
	struct timespec times[2] = {st.st_atim, st.st_mtim};
	if (fchown(g->fs_fd, st.st_uid, st.st_gid) < 0 ||
		fchmod(g->fs_fd, st.st_mode & 07777) < 0 || futimens(g->fs_fd, times) < 0)
		return bxc_err_errno(err, errno, "prepare the root of a layer");
	return 0;
}

static int mount_over(bxc_snap *s, char *const *lowers, size_t n, bxc_snap_staging *g,
	int *ret_mount_fd, bxc_err **err)
{
	bxc_check(!g->is_mounted);
	int r = n > 0 ? inherit_root(g, lowers[0], err) : 0;
	if (r == 0)
		r = bxc_fs_make_dirs(g->dir_fd, "work", 0700, err);
	if (r < 0)
		return r;
	g->is_mounted = true;
	BXC_AUTOFREE char *upper = bxc_str_fmt("%s/tmp/%s/fs", s->root, g->name);
	BXC_AUTOFREE char *work = bxc_str_fmt("%s/tmp/%s/work", s->root, g->name);
	r = bxc_mnt_overlay((const char *const *)lowers, n, upper, work, BXC_MNT_OVERLAY_VOLATILE,
		ret_mount_fd, err);
	return r < 0 ? bxc_err_wrap(err, r, "mount %zu layers for writing", n) : 0;
}

int bxc_snap_mount_rw(bxc_snap *s, const char *const *ids, size_t n, bxc_snap_staging *g,
	int *ret_mount_fd, bxc_err **err)
{
	BXC_AUTOSTRV char **lowers = NULL;
	int r = lower_paths(s, ids, n, &lowers, err);
	return r < 0 ? r : mount_over(s, lowers, bxc_strv_len(lowers), g, ret_mount_fd, err);
}

int bxc_snap_mount_rw_dir(
	bxc_snap *s, int lower_dir_fd, bxc_snap_staging *g, int *ret_mount_fd, bxc_err **err)
{
	BXC_AUTOSTRV char **lowers = NULL;
	bxc_strv_pushf(&lowers, "/proc/self/fd/%d", lower_dir_fd);
	return mount_over(s, lowers, 1, g, ret_mount_fd, err);
}
