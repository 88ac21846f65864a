/* SPDX-License-Identifier: Apache-2.0 */
/* bxc-coordinator fsck: checks the record store and reads all files of contexts of one that does
 * not run. */
#include "coordinator/main/fsck.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/cas/cas.h"
#include "common/cli/exit.h"
#include "common/os/fs.h"
#include "coordinator/state/state.h"

struct found {
	bxc_state *state;
	size_t n; /* of bad packs */
	bxc_err *err;
};

/* Clients send what was in it again when it is needed. */
static void drop_pack(const bxc_blob_info *i, const char *why, void *ud)
{
	struct found *f = ud;
	char d[BXC_DIGEST_STR_MAX];
	printf("damaged: blob %s: %s; moved to quarantine\n", bxc_digest_str(&i->digest, d), why);
	if (!f->err)
		bxc_ignore(bxc_state_files_drop_pack(f->state, &i->digest, &f->err));
}

static int check(const char *dir, const char *url, bool *ret_clean, bxc_err **err)
{
	BXC_AUTOCLOSE int dir_fd = -1, lock_fd = -1;
	BXC_CLEANUP(bxc_state_closep) bxc_state *st = NULL;
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *blobs = NULL;
	BXC_AUTOSTRV char **problems = NULL;
	bxc_blob_check sum = {0};
	int r = bxc_fs_open_dir(AT_FDCWD, dir, &dir_fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "state folder");
	r = bxc_fs_lock(dir_fd, "coordinator.lock", &lock_fd, err);
	if (r < 0)
		return bxc_err_wrap(
			err, r, "state folder '%s' (stop the coordinator that uses it first)", dir);
	r = bxc_state_open(url, &st, err);
	if (r >= 0)
		r = bxc_state_check(st, &problems, err);
	if (r >= 0)
		r = bxc_blob_local_open(dir, &blobs, err);
	struct found f = {.state = st};
	if (r >= 0)
		r = bxc_blob_check_all(blobs, drop_pack, &f, &sum, err);
	if (f.err)
		return bxc_err_move(err, f.err);
	if (r < 0)
		return r;
	for (char **p = problems; p && *p; p++)
		printf("damaged: store: %s\n", *p);
	printf("store: %zu problems; %" PRIu64 " blobs of %" PRIu64 " bytes: %" PRIu64 " damaged\n",
		bxc_strv_len(problems), sum.n, sum.bytes, sum.n_bad);
	*ret_clean = !sum.n_bad && !problems;
	return 0;
}

int coordinator_fsck(const bxc_cfg *cfg)
{
	BXC_AUTOERR bxc_err *err = NULL;
	const char *dir = bxc_cfg_str(cfg, "state_dir");
	BXC_AUTOFREE char *url = bxc_cfg_str(cfg, "state") ? bxc_strdup(bxc_cfg_str(cfg, "state"))
							   : bxc_str_fmt("sqlite:%s/state.db", dir);
	bool clean = false;
	if (check(dir, url, &clean, &err) >= 0)
		return clean ? BXC_EXIT_OK : BXC_EXIT_FAILED;
	fprintf(stderr, "bxc-coordinator fsck: %s\n", bxc_err_text(err));
	return BXC_EXIT_FAILED;
}
