/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, look-up, pins, removal. How durability is batched stands in FORMAT.md. */
#include <errno.h>
#include <limits.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/rand.h"
#include "common/codec/json.h"
#include "common/os/fs.h"
#include "worker/snapshot/snapshot_internal.h"

#define STATE_FILE "state.json"
#define MAX_LAYERS 1000000u /* of one worker; 100 images of 100 layers are 10000 */

static int open_subdir(int root_fd, const char *name, int *ret_fd, bxc_err **err)
{
	int r = bxc_fs_make_dirs(root_fd, name, 0700, err);
	if (r < 0)
		return r;
	return bxc_fs_open_dir(root_fd, name, ret_fd, err);
}

static int read_boot_id(char **ret, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(128);
	int r = bxc_fs_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 128, &b, err);
	if (r < 0)
		return r;
	char *text = bxc_buf_steal(&b);
	*ret = bxc_strdup(bxc_str_trim(text));
	free(text);
	return 0;
}

static int load_state(bxc_snap *s, bxc_err **err)
{
	struct stat st;
	int r = bxc_fs_lstat_opt(s->root_fd, STATE_FILE, &st, err);
	if (r <= 0)
		return r;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(4096);
	r = bxc_fs_read_file(s->root_fd, STATE_FILE, 4096, &b, err);
	if (r < 0)
		return r;
	BXC_AUTOJSON bxc_json *j = NULL;
	r = bxc_json_parse(bxc_buf_slice(&b), &j, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "read '%s' of the layer store", STATE_FILE);
	uint64_t version = 0;
	r = bxc_json_need_u64(j, "version", UINT32_MAX, &version, err);
	if (r < 0)
		return r;
	if (version != 1)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"the layer store has the format %llu, which this version does not know",
			(unsigned long long)version);
	r = bxc_json_need_u64(j, "synced", UINT64_MAX - 1, &s->synced_seq, err);
	if (r < 0)
		return r;
	s->last_seq = s->synced_seq;
	return 0;
}

int bxc_snap_sync(bxc_snap *s, bxc_err **err)
{
	pthread_mutex_lock(&s->sync_lock);
	pthread_mutex_lock(&s->lock);
	/* Up to the first commit whose rename has not happened yet. */
	uint64_t upto = s->last_seq;
	BXC_ARR_FOREACH (seq, &s->committing)
		upto = BXC_MIN(upto, *seq - 1);
	bool needed = upto > s->synced_seq;
	pthread_mutex_unlock(&s->lock);
	int r = 0;
	if (needed) {
		if (syncfs(s->root_fd) < 0)
			r = bxc_err_errno(err, errno, "sync the layer store");
		if (r == 0) {
			BXC_AUTOJSON bxc_json *j = bxc_json_object();
			bxc_json_set_i64(j, "version", 1);
			bxc_json_set_u64(j, "synced", upto);
			BXC_AUTOFREE char *text = bxc_json_print(j);
			r = bxc_fs_write_atomic(
				s->root_fd, STATE_FILE, text, strlen(text), 0600, err);
		}
		if (r == 0) {
			pthread_mutex_lock(&s->lock);
			s->synced_seq = upto;
			pthread_mutex_unlock(&s->lock);
		}
	}
	pthread_mutex_unlock(&s->sync_lock);
	return r;
}

int bxc_snap__discard(bxc_snap *s, int dir_fd, const char *name, bxc_err **err)
{
	BXC_AUTOFREE char *to = bxc_rand_hex(12);
	BXC_AUTOERR bxc_err *inner = NULL;
	int r = bxc_fs_rename(dir_fd, name, s->trash_fd, to, true, &inner);
	if (r == -BXC_NOT_FOUND)
		return 0;
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(inner));
	pthread_mutex_lock(&s->lock);
	s->has_trash = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int by_seq(const void *a, const void *b)
{
	const bxc_snap__layer *x = *(bxc_snap__layer *const *)a, *y = *(bxc_snap__layer *const *)b;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* One layer folder. *ret NULL: it is damaged, or may be torn by a power loss. */
static int load_layer(bxc_snap *s, const char *name, bxc_snap__layer **ret, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/meta.json", name);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_SNAP__META_MAX);
	BXC_CLEANUP(bxc_snap__layer_freep) bxc_snap__layer *l = NULL;
	BXC_AUTOFREE char *boot = NULL;
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fs_read_file(s->layers_fd, path, BXC_SNAP__META_MAX, &b, &why);
	if (r == 0)
		r = bxc_snap__meta_parse(bxc_buf_slice(&b), &l, &boot, &why);
	if (r == 0) {
		BXC_AUTOFREE char *expected = bxc_snap__dir_name(l->id);
		if (!bxc_str_eq(expected, name))
			r = bxc_err_set(
				&why, BXC_DATA_LOSS, "the folder belongs to the layer '%s'", l->id);
		else if (l->seq > s->synced_seq && !bxc_str_eq(boot, s->boot))
			r = bxc_err_set(
				&why, BXC_DATA_LOSS, "not synced before the system went down");
	}
	if (r < 0) {
		bxc_log_err(BXC_LOG_WARN, "snapshot.layer_dropped", why, "folder", name, NULL);
		return bxc_snap__discard(s, s->layers_fd, name, err);
	}
	*ret = BXC_TAKE(l);
	return 0;
}

static int load_layers(bxc_snap *s, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(s->tmp_fd, ".", MAX_LAYERS, &names, err);
	if (r < 0)
		return r;
	for (char **n = names; *n; n++) {
		r = bxc_snap__discard(s, s->tmp_fd, *n, err);
		if (r < 0)
			return r;
	}
	BXC_AUTOSTRV char **trash = NULL;
	r = bxc_fs_list_dir(s->trash_fd, ".", MAX_LAYERS, &trash, err);
	if (r < 0)
		return r;
	s->has_trash = trash[0] != NULL;

	BXC_AUTOSTRV char **dirs = NULL;
	r = bxc_fs_list_dir(s->layers_fd, ".", MAX_LAYERS, &dirs, err);
	if (r < 0)
		return r;
	BXC_ARR(bxc_snap__layer *) found = {0};
	for (char **d = dirs; *d && r == 0; d++) {
		bxc_snap__layer *l = NULL;
		r = load_layer(s, *d, &l, err);
		if (r == 0 && l)
			*bxc_arr_push(&found) = l;
	}
	if (found.n)
		qsort(found.v, found.n, sizeof(*found.v), by_seq);
	BXC_ARR_FOREACH (l, &found) {
		s->last_seq = BXC_MAX(s->last_seq, (*l)->seq);
		bxc_map_set(s->layers, (*l)->id, *l);
	}
	bxc_arr_done(&found);
	return r;
}

static void free_layer(void *l)
{
	bxc_snap__layer_free(l);
}

int bxc_snap_open(const char *root, bxc_snap **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_snap_freep) bxc_snap *s = bxc_calloc(1, sizeof(*s));
	s->root_fd = s->layers_fd = s->tmp_fd = s->trash_fd = s->lock_fd = -1;
	pthread_mutex_init(&s->dir_lock, NULL);
	pthread_mutex_init(&s->sync_lock, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	s->layers = bxc_map_new(free_layer);

	int r = bxc_fs_make_dirs(AT_FDCWD, root, 0700, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "open the layer store");
	s->root = realpath(root, NULL);
	if (!s->root)
		return bxc_err_errno(err, errno, "open the layer store '%s'", root);
	r = bxc_fs_open_dir(AT_FDCWD, s->root, &s->root_fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "open the layer store");
	r = bxc_fs_lock(s->root_fd, "lock", &s->lock_fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "open the layer store");
	r = open_subdir(s->root_fd, "layers", &s->layers_fd, err);
	if (r < 0)
		return r;
	r = open_subdir(s->root_fd, "tmp", &s->tmp_fd, err);
	if (r < 0)
		return r;
	r = open_subdir(s->root_fd, "trash", &s->trash_fd, err);
	if (r < 0)
		return r;
	r = read_boot_id(&s->boot, err);
	if (r < 0)
		return r;
	r = load_state(s, err);
	if (r < 0)
		return r;
	r = load_layers(s, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "open the layer store");
	r = bxc_snap__thread_start(s, err);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(s);
	return 0;
}

void bxc_snap_free(bxc_snap *s)
{
	if (!s)
		return;
	if (s->has_thread) {
		bxc_check(s->n_stagings == 0);
		bxc_snap__thread_stop(s);
		BXC_AUTOERR bxc_err *err = NULL;
		if (bxc_snap_sync(s, &err) < 0)
			bxc_log_err(BXC_LOG_ERROR, "snapshot.sync_failed", err, NULL);
	}
	bxc_map_free(s->layers);
	bxc_arr_done(&s->committing);
	bxc_cleanup_close(&s->trash_fd);
	bxc_cleanup_close(&s->tmp_fd);
	bxc_cleanup_close(&s->layers_fd);
	bxc_cleanup_close(&s->lock_fd);
	bxc_cleanup_close(&s->root_fd);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->sync_lock);
	pthread_mutex_destroy(&s->dir_lock);
	free(s->boot);
	free(s->root);
	free(s);
}

int bxc_snap__find(bxc_snap *s, const char *id, bxc_snap__layer **ret, bxc_err **err)
{
	bxc_snap__layer *l = bxc_map_get(s->layers, id);
	if (!l) {
		int r = bxc_err_set(err, BXC_NOT_FOUND, "layer '%.140s' is not on this worker", id);
		if (err)
			bxc_err_detail(*err, "layer", "%.140s", id);
		return r;
	}
	*ret = l;
	return 0;
}

bool bxc_snap_has(bxc_snap *s, const char *id)
{
	pthread_mutex_lock(&s->lock);
	bool has = bxc_map_has(s->layers, id);
	pthread_mutex_unlock(&s->lock);
	return has;
}

int bxc_snap_get(bxc_snap *s, const char *id, bxc_snap_facts *ret, bxc_err **err)
{
	pthread_mutex_lock(&s->lock);
	bxc_snap__layer *l = NULL;
	int r = bxc_snap__find(s, id, &l, err);
	if (r == 0)
		*ret = l->facts;
	pthread_mutex_unlock(&s->lock);
	return r;
}

int bxc_snap_learn(bxc_snap *s, const char *id, const bxc_digest *diff_id, bxc_err **err)
{
	pthread_mutex_lock(&s->dir_lock);
	pthread_mutex_lock(&s->lock);
	bxc_snap__layer *l = NULL;
	BXC_AUTOFREE char *text = NULL;
	int r = bxc_snap__find(s, id, &l, err);
	if (r == 0) {
		l->facts.diff_id = *diff_id;
		text = bxc_snap__meta_print(l, s->boot);
	}
	pthread_mutex_unlock(&s->lock);
	if (r == 0) {
		BXC_AUTOFREE char *name = bxc_snap__dir_name(id);
		BXC_AUTOCLOSE int dir_fd = -1;
		r = bxc_fs_open_dir(s->layers_fd, name, &dir_fd, err);
		if (r == 0)
			r = bxc_fs_write_atomic(dir_fd, "meta.json", text, strlen(text), 0600, err);
		if (r < 0)
			r = bxc_err_wrap(err, r, "record facts of layer '%s'", id);
	}
	pthread_mutex_unlock(&s->dir_lock);
	return r;
}

void bxc_snap_list_layers(bxc_snap *s, bxc_snap_list *ret)
{
	*ret = (bxc_snap_list){0};
	pthread_mutex_lock(&s->lock);
	BXC_MAP_FOREACH (it, s->layers) {
		const bxc_snap__layer *l = it.value;
		bxc_snap_info *i = bxc_arr_push(ret);
		i->id = bxc_strdup(l->id);
		i->size_bytes = l->facts.size_bytes;
		i->used_ns = l->used_ns;
		i->is_pinned = l->pins > 0;
	}
	pthread_mutex_unlock(&s->lock);
}

void bxc_snap_list_done(bxc_snap_list *l)
{
	BXC_ARR_FOREACH (i, l)
		free(i->id);
	bxc_arr_done(l);
}

int bxc_snap_pin(bxc_snap *s, const char *const *ids, size_t n, bxc_err **err)
{
	int r = 0;
	size_t done = 0;
	pthread_mutex_lock(&s->lock);
	int64_t now = bxc_clock_wall_ns();
	for (; done < n && r == 0; done++) {
		bxc_snap__layer *l = NULL;
		r = bxc_snap__find(s, ids[done], &l, err);
		if (r < 0)
			break;
		l->pins++;
		l->used_ns = now;
	}
	if (r < 0)
		for (size_t i = 0; i < done; i++)
			((bxc_snap__layer *)bxc_map_get(s->layers, ids[i]))->pins--;
	pthread_mutex_unlock(&s->lock);
	return r;
}

void bxc_snap_unpin(bxc_snap *s, const char *const *ids, size_t n)
{
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < n; i++) {
		bxc_snap__layer *l = bxc_map_get(s->layers, ids[i]);
		bxc_check(l && l->pins > 0);
		l->pins--;
	}
	pthread_mutex_unlock(&s->lock);
}

int bxc_snap_remove(bxc_snap *s, const char *id, bxc_err **err)
{
	int r = 0;
	pthread_mutex_lock(&s->dir_lock);
	pthread_mutex_lock(&s->lock);
	bxc_snap__layer *l = bxc_map_get(s->layers, id);
	bool exists = l != NULL;
	if (l && l->pins > 0)
		r = bxc_err_set(err, BXC_FAILED_PRECONDITION, "layer '%s' is in use", id);
	else if (l)
		bxc_map_del(s->layers, id);
	pthread_mutex_unlock(&s->lock);
	if (exists && r == 0) {
		BXC_AUTOFREE char *name = bxc_snap__dir_name(id);
		r = bxc_snap__discard(s, s->layers_fd, name, err);
	}
	pthread_mutex_unlock(&s->dir_lock);
	return r;
}
