/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's thread: syncs some time after a commit, and deletes what is in the trash one layer
 * at a time with pauses, since ext4 creates files many times slower for minutes after a mass
 * deletion.
 */
#include <errno.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/os/fs.h"
#include "worker/snapshot/snapshot_internal.h"

#define SYNC_DELAY_NS  (2 * BXC_NS_PER_S)
#define TRASH_PAUSE_NS (500 * BXC_NS_PER_MS)
#define RETRY_DELAY_NS (30 * BXC_NS_PER_S)
#define MAX_TRASH      1000000u

static bool has_unsynced(const bxc_snap *s)
{
	return s->last_seq > s->synced_seq || s->committing.n > 0;
}

/* Until the time, or a stop. Needs s->lock. */
static void pause_until(bxc_snap *s, int64_t deadline_ns)
{
	struct timespec ts = {
		.tv_sec = deadline_ns / BXC_NS_PER_S, .tv_nsec = deadline_ns % BXC_NS_PER_S};
	while (!s->stop && bxc_clock_mono_ns() < deadline_ns)
		pthread_cond_timedwait(&s->wake, &s->lock, &ts);
}

/* Deletes one entry of the trash; 1: there was one. */
static int delete_one(bxc_snap *s, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(s->trash_fd, ".", MAX_TRASH, &names, err);
	if (r < 0 || !names[0])
		return r;
	r = bxc_fs_rmtree(s->trash_fd, names[0], err);
	return r < 0 ? r : 1;
}

static void *run(void *ud)
{
	bxc_snap *s = ud;
	pthread_setname_np(pthread_self(), "bxc-snap");
	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		if (has_unsynced(s)) {
			pause_until(s, bxc_clock_mono_ns() + SYNC_DELAY_NS);
			if (s->stop)
				break;
			pthread_mutex_unlock(&s->lock);
			BXC_AUTOERR bxc_err *err = NULL;
			int r = bxc_snap_sync(s, &err);
			if (r < 0)
				bxc_log_err(BXC_LOG_ERROR, "snapshot.sync_failed", err, NULL);
			pthread_mutex_lock(&s->lock);
			if (r < 0)
				pause_until(s, bxc_clock_mono_ns() + RETRY_DELAY_NS);
		} else if (s->has_trash) {
			pthread_mutex_unlock(&s->lock);
			BXC_AUTOERR bxc_err *err = NULL;
			int r = delete_one(s, &err);
			if (r < 0)
				bxc_log_err(BXC_LOG_WARN, "snapshot.delete_failed", err, NULL);
			pthread_mutex_lock(&s->lock);
			if (r == 0)
				s->has_trash = false;
			else
				pause_until(s, bxc_clock_mono_ns() +
						       (r < 0 ? RETRY_DELAY_NS : TRASH_PAUSE_NS));
		} else {
			pthread_cond_wait(&s->wake, &s->lock);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int bxc_snap__thread_start(bxc_snap *s, bxc_err **err)
{
	int e = pthread_create(&s->thread, NULL, run, s);
	if (e != 0)
		return bxc_err_errno(err, e, "start the thread of the layer store");
	s->has_thread = true;
	return 0;
}

void bxc_snap__thread_stop(bxc_snap *s)
{
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	s->has_thread = false;
}

int bxc_snap_empty_trash(bxc_snap *s, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(s->trash_fd, ".", MAX_TRASH, &names, err);
	/* The thread may delete the same entry: absence is a success for both. */
	for (char **n = names; r == 0 && *n; n++)
		r = bxc_fs_rmtree(s->trash_fd, *n, err);
	return r < 0 ? r : 0;
}
