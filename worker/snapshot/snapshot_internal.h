/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "common/base/map.h"
#include "common/base/str.h"
#include "worker/snapshot/snapshot.h"

typedef struct bxc_snap__layer {
	char *id;
	uint64_t seq; /* order of commits; see "durable" in FORMAT.md */
	bxc_snap_facts facts;
	int64_t used_ns;
	uint32_t pins;
} bxc_snap__layer;

struct bxc_snap {
	char *root; /* absolute, resolved */
	int root_fd, layers_fd, tmp_fd, trash_fd, lock_fd;
	char *boot; /* the kernel's boot id */

	/* Rank 1: serialises what changes layers/ and the facts on disk; held over those few
	 * renames and small writes on purpose, so that the map and the folder never disagree. */
	pthread_mutex_t dir_lock;
	/* Rank 2: syncs, one at a time. */
	pthread_mutex_t sync_lock;
	/* Rank 3: everything below. */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bxc_map *layers;	      /* id -> bxc_snap__layer, in order of commit */
	uint64_t last_seq;	      /* highest given out */
	uint64_t synced_seq;	      /* all commits up to this one are durable */
	BXC_ARR(uint64_t) committing; /* seqs given out whose rename is still to come */
	bool has_trash, stop;
	unsigned n_stagings;
	bool has_thread;
	pthread_t thread;
};

struct bxc_snap_staging {
	bxc_snap *snap;
	char *id;   /* NULL: scratch */
	char *name; /* in tmp/ */
	int dir_fd, fs_fd;
	bool is_mounted;
};

#define BXC_SNAP__META_MAX                                                                         \
	(1u << 20) /* bytes of one meta.json; a descriptor with annotations and urls is < 10 KiB   \
		    */

BXC_MUST_CHECK int bxc_snap__check_id(const char *id, bxc_err **err);
char *bxc_snap__dir_name(const char *id); /* owned */
/* meta.json of a layer folder. */
char *bxc_snap__meta_print(const bxc_snap__layer *l, const char *boot); /* owned */
BXC_MUST_CHECK int bxc_snap__meta_parse(
	bxc_slice text, bxc_snap__layer **ret, char **ret_boot, bxc_err **err);
bxc_snap__layer *bxc_snap__layer_new(const char *id);
void bxc_snap__layer_free(bxc_snap__layer *l);
BXC_DEFINE_CLEANUP(bxc_snap__layer, bxc_snap__layer_free);

/* Moves <dir_fd>/<name> into the trash and wakes the thread. Absent is a success. */
BXC_MUST_CHECK int bxc_snap__discard(bxc_snap *s, int dir_fd, const char *name, bxc_err **err);
/* Borrowed; needs s->lock. BXC_NOT_FOUND with the detail "layer". */
BXC_MUST_CHECK int bxc_snap__find(
	bxc_snap *s, const char *id, bxc_snap__layer **ret, bxc_err **err);
BXC_MUST_CHECK int bxc_snap__thread_start(bxc_snap *s, bxc_err **err);
void bxc_snap__thread_stop(bxc_snap *s);
/* Sum of the sizes of files; an inode with several names counts once. */
BXC_MUST_CHECK int bxc_snap__measure(int dir_fd, uint64_t *ret_bytes, bxc_err **err);
