/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cache mounts: folders that outlive steps. A folder belongs to an id with an owner and mode;
 * `shared` is used by any number of steps, `locked` by one after another, `private` gets a further
 * folder while the first is in use.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include "common/base/log.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/codec/digest.h"
#include "common/os/fs.h"
#include "worker/exec/exec_internal.h"

#define MAX_PRIVATE 1000u
#define MAX_FOLDERS BXC_EXEC__MAX_CACHES
#define NAME_LEN    BXC_EXEC__CACHE_NAME

struct cache_use {
	unsigned users;
	bool exclusive;
};

/* "<id and owner>[-<generation>][.<further folder of private ones>]" */
static char *base_name(const bxc_op_mount *m, const bxc_exec__seed *seed, uint64_t generation)
{
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	bxc_hasher_update_str(h, m->cache_id ? m->cache_id : m->dest);
	bxc_hasher_update_u64(h, m->uid);
	bxc_hasher_update_u64(h, m->gid);
	bxc_hasher_update_u64(h, m->mode);
	if (seed)
		bxc_exec__seed_identify(seed, h);
	bxc_digest d = bxc_hasher_final(h);
	char text[BXC_DIGEST_STR_MAX];
	const char *hex = bxc_digest_str(&d, text) + strlen("sha256:");
	return generation ? bxc_str_fmt("%.*s-%" PRIu64, NAME_LEN, hex, generation)
			  : bxc_strndup(hex, NAME_LEN);
}

static void wake(void *ud)
{
	bxc_exec *x = ud;
	pthread_mutex_lock(&x->lock);
	pthread_cond_broadcast(&x->freed);
	pthread_mutex_unlock(&x->lock);
}

/* Needs x->lock. */
static bool try_take(bxc_exec *x, const char *name, bool exclusive)
{
	struct cache_use *u = bxc_map_get(x->caches, name);
	if (u && (u->exclusive || exclusive))
		return false;
	if (!u) {
		u = bxc_calloc(1, sizeof(*u));
		bxc_map_set(x->caches, name, u);
	}
	u->users++;
	u->exclusive = exclusive;
	return true;
}

static int take_use(bxc_exec *x, const bxc_op_mount *m, const char *base, bxc_cancel *cancel,
	char **ret_name, bxc_err **err)
{
	int r = 0;
	BXC_AUTOFREE char *name = bxc_strdup(base);
	uint64_t hook = bxc_cancel_hook(cancel, wake, x);
	pthread_mutex_lock(&x->lock);
	for (unsigned i = 1;; i++) {
		if (bxc_cancel_is_fired(cancel)) {
			r = bxc_cancel_check(cancel, err);
			break;
		}
		if (try_take(x, name, m->sharing != BXC_CACHE_SHARED))
			break;
		if (m->sharing != BXC_CACHE_PRIVATE) {
			pthread_cond_wait(&x->freed, &x->lock);
		} else if (i > MAX_PRIVATE) {
			r = bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
				"cache mount '%s' is used %u times",
				m->cache_id ? m->cache_id : m->dest, MAX_PRIVATE);
			break;
		} else {
			free(name);
			name = bxc_str_fmt("%s.%u", base, i);
		}
	}
	pthread_mutex_unlock(&x->lock);
	/* It waits for a running hook, which takes the lock. */
	bxc_cancel_unhook(cancel, hook);
	if (r == 0)
		*ret_name = BXC_TAKE(name);
	return r;
}

/* `temporary` is there, and of root. */
static int fill_folder(bxc_exec *x, const char *temporary, const bxc_op_mount *m,
	const bxc_exec__seed *seed, bxc_err **err)
{
	if (seed) {
		BXC_AUTOCLOSE int fd = -1;
		int r = bxc_fs_open_dir(x->caches_fd, temporary, &fd, err);
		return r < 0 ? r : bxc_exec__seed_copy(seed, fd, err);
	}
	if (fchownat(x->caches_fd, temporary, m->uid, m->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
		fchmodat(x->caches_fd, temporary, m->mode & 07777, 0) < 0)
		return bxc_err_errno(err, errno, "make a cache mount");
	return 0;
}

/* Made aside and renamed, so that a folder with the right name has the right owner and content. */
static int make_folder(bxc_exec *x, const char *name, const bxc_op_mount *m,
	const bxc_exec__seed *seed, bxc_err **err)
{
	struct stat st;
	int r = bxc_fs_lstat_opt(x->caches_fd, name, &st, err);
	if (r != 0)
		return r < 0 ? r : 0;
	BXC_AUTOFREE char *tag = bxc_rand_hex(8);
	BXC_AUTOFREE char *temporary = bxc_str_fmt(".tmp.%s", tag);
	if (mkdirat(x->caches_fd, temporary, 0700) < 0)
		return bxc_err_errno(err, errno, "make a cache mount");
	BXC_AUTOERR bxc_err *why = NULL;
	r = fill_folder(x, temporary, m, seed, &why);
	if (r == 0)
		r = bxc_fs_rename(x->caches_fd, temporary, x->caches_fd, name, true, &why);
	if (r < 0)
		bxc_ignore(bxc_fs_rmtree(x->caches_fd, temporary, NULL));
	if (r == -BXC_ALREADY_EXISTS)
		return 0;
	return r < 0 ? bxc_err_move(err, BXC_TAKE(why)) : 0;
}

static uint64_t generation_of(const char *name)
{
	uint64_t n = 0;
	const char *p = name + NAME_LEN;
	BXC_AUTOFREE char *digits = *p == '-' ? bxc_strndup(p + 1, strcspn(p + 1, ".")) : NULL;
	return digits && bxc_str_to_u64(digits, 0, UINT64_MAX, &n, NULL) >= 0 ? n : 0;
}

static void give_back(bxc_exec *x, const char *name)
{
	struct cache_use *u = bxc_map_get(x->caches, name);
	bxc_check(u && u->users > 0);
	if (--u->users == 0)
		bxc_map_del(x->caches, name);
}

/* Nobody asks for a folder of an older generation again; one that is still in use goes later. */
static void remove_older(bxc_exec *x, const char *base, uint64_t generation)
{
	BXC_AUTOSTRV char **names = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_fs_list_dir(x->caches_fd, "", MAX_FOLDERS, &names, &err) < 0) {
		bxc_log_err(BXC_LOG_WARN, "exec.old_cache_mounts", err, NULL);
		return;
	}
	for (char **n = names; *n; n++) {
		if (strncmp(*n, base, NAME_LEN) != 0 || generation_of(*n) >= generation)
			continue;
		pthread_mutex_lock(&x->lock);
		bool mine = try_take(x, *n, true);
		pthread_mutex_unlock(&x->lock);
		if (!mine)
			continue;
		BXC_AUTOERR bxc_err *why = NULL;
		if (bxc_fs_rmtree(x->caches_fd, *n, &why) < 0)
			bxc_log_err(BXC_LOG_WARN, "exec.old_cache_mount", why, "folder", *n, NULL);
		pthread_mutex_lock(&x->lock);
		give_back(x, *n);
		pthread_cond_broadcast(&x->freed);
		pthread_mutex_unlock(&x->lock);
	}
}

int bxc_exec__cache_take(bxc_exec *x, const bxc_op_mount *m, const bxc_exec__seed *seed,
	uint64_t generation, bxc_cancel *cancel, bxc_exec__caches *held, char **ret_path, bxc_err **err)
{
	BXC_AUTOFREE char *base = base_name(m, seed, generation);
	/* Mounted twice by one step: the same folder, which must not wait for itself. */
	BXC_ARR_FOREACH (c, held)
		if (m->sharing != BXC_CACHE_PRIVATE && bxc_str_eq(*c, base)) {
			*ret_path = bxc_str_fmt("%s/%s", x->caches_dir, *c);
			return 0;
		}
	char *name = NULL;
	int r = take_use(x, m, base, cancel, &name, err);
	if (r < 0)
		return r;
	*bxc_arr_push(held) = name;
	if (generation)
		remove_older(x, base, generation);
	r = make_folder(x, name, m, seed, err);
	if (r == 0)
		bxc_exec__cache_mark(x, name, m->cache_id ? m->cache_id : m->dest);
	if (r == 0)
		*ret_path = bxc_str_fmt("%s/%s", x->caches_dir, name);
	return r;
}

void bxc_exec__caches_release(bxc_exec *x, bxc_exec__caches *held)
{
	pthread_mutex_lock(&x->lock);
	BXC_ARR_FOREACH (c, held) {
		give_back(x, *c);
		free(*c);
	}
	pthread_cond_broadcast(&x->freed);
	pthread_mutex_unlock(&x->lock);
	bxc_arr_done(held);
}

int bxc_exec_cache_remove(bxc_exec *x, const char *folder, bxc_err **err)
{
	if (!bxc_exec__cache_is_folder(folder))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%.64s' is no cache mount", folder);
	pthread_mutex_lock(&x->lock);
	bool mine = try_take(x, folder, true);
	pthread_mutex_unlock(&x->lock);
	if (!mine)
		return bxc_err_set(
			err, BXC_FAILED_PRECONDITION, "cache mount '%s' is in use", folder);
	int r = bxc_fs_rmtree(x->caches_fd, folder, err);
	pthread_mutex_lock(&x->lock);
	give_back(x, folder);
	pthread_cond_broadcast(&x->freed);
	pthread_mutex_unlock(&x->lock);
	return r;
}

bool bxc_exec__cache_in_use(bxc_exec *x, const char *folder)
{
	pthread_mutex_lock(&x->lock);
	bool yes = bxc_map_has(x->caches, folder);
	pthread_mutex_unlock(&x->lock);
	return yes;
}
