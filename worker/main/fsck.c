/* SPDX-License-Identifier: Apache-2.0 */
/* bxc-worker fsck: reads all blobs of a worker that does not run, and looks at its layers. */
#include "worker/main/fsck.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/cas/cas.h"
#include "common/cli/exit.h"
#include "common/os/fs.h"
#include "worker/snapshot/snapshot.h"

static void tell_bad(const bxc_blob_info *i, const char *why, void *ud)
{
	char d[BXC_DIGEST_STR_MAX];
	(void)ud;
	printf("damaged: blob %s: %s; moved to quarantine\n", bxc_digest_str(&i->digest, d), why);
}

/* A layer without its folder is of no use: whoever needs it makes it again. */
static int check_layers(const char *dir, size_t *ret_n, size_t *ret_bad, bxc_err **err)
{
	BXC_CLEANUP(bxc_snap_freep) bxc_snap *snap = NULL;
	BXC_AUTOSNAPLIST bxc_snap_list list = {0};
	int r = bxc_snap_open(dir, &snap, err);
	if (r < 0)
		return r;
	bxc_snap_list_layers(snap, &list);
	*ret_n = list.n;
	BXC_ARR_FOREACH (l, &list) {
		BXC_AUTOERR bxc_err *why = NULL;
		BXC_AUTOCLOSE int fd = -1;
		const char *id = l->id;
		r = bxc_snap_mount_ro(snap, &id, 1, &fd, &why);
		if (r >= 0)
			continue;
		(*ret_bad)++;
		printf("damaged: layer %s: %s; removed\n", id, bxc_err_text(why));
		r = bxc_snap_remove(snap, id, err);
		if (r < 0)
			return r;
	}
	return bxc_snap_empty_trash(snap, err);
}

static int check(const char *state_dir, bool *ret_clean, bxc_err **err)
{
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *blobs = NULL;
	BXC_AUTOCLOSE int dir_fd = -1, lock_fd = -1;
	BXC_AUTOFREE char *content = bxc_str_fmt("%s/content", state_dir);
	BXC_AUTOFREE char *snapshots = bxc_str_fmt("%s/snapshots", state_dir);
	bxc_blob_check sum = {0};
	size_t n = 0, n_bad = 0;
	int r = bxc_fs_open_dir(AT_FDCWD, state_dir, &dir_fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "state folder");
	r = bxc_fs_lock(dir_fd, "worker.lock", &lock_fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r,
			"state folder '%s' (stop the worker that uses it first)", state_dir);
	r = bxc_blob_local_open(content, &blobs, err);
	if (r >= 0)
		r = bxc_blob_check_all(blobs, tell_bad, NULL, &sum, err);
	if (r >= 0)
		r = check_layers(snapshots, &n, &n_bad, err);
	if (r < 0)
		return r;
	printf("%" PRIu64 " blobs of %" PRIu64 " bytes: %" PRIu64
	       " damaged; %zu layers: %zu damaged\n",
		sum.n, sum.bytes, sum.n_bad, n, n_bad);
	*ret_clean = !sum.n_bad && !n_bad;
	return 0;
}

int worker_fsck(const bxc_cfg *cfg)
{
	BXC_AUTOERR bxc_err *err = NULL;
	const char *base = bxc_cfg_str(cfg, "state_dir");
	BXC_AUTOFREE char *dir =
		bxc_cfg_bool(cfg, "embedded") ? bxc_str_fmt("%s/worker", base) : bxc_strdup(base);
	bool clean = false;
	if (geteuid() != 0)
		bxc_ignore(bxc_err_set(
			&err, BXC_PERMISSION_DENIED, "fsck needs root, as the worker does"));
	else if (check(dir, &clean, &err) >= 0)
		return clean ? BXC_EXIT_OK : BXC_EXIT_FAILED;
	fprintf(stderr, "bxc-worker fsck: %s\n", bxc_err_text(err));
	return BXC_EXIT_FAILED;
}
