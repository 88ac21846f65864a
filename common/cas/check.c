/* SPDX-License-Identifier: Apache-2.0 */
/* Reading all of a store, whatever takes it. */
#include <errno.h>
#include <fcntl.h>

#include "common/base/mem.h"
#include "common/cas/cas_internal.h"
#include "common/os/fd.h"

#define CHUNK (1u << 20)

struct walk {
	bxc_blob_store *store;
	bxc_hasher *hasher;
	uint8_t *chunk;
	bxc_blob_check *sum;
	void (*bad)(const bxc_blob_info *i, const char *why, void *ud);
	void *ud;
	bxc_err *err;
};

/* NULL: as it should be. */
static const char *fault_of(struct walk *w, const bxc_blob_info *i)
{
	BXC_AUTOCLOSE int fd = -1;
	uint64_t size = 0, left;
	size_t got = CHUNK;
	if (bxc_blob_open(w->store, &i->digest, &fd, &size, NULL) < 0)
		return "it can't be opened";
	for (left = size; left && got == CHUNK; left -= got) {
		if (bxc_fd_read_full(fd, w->chunk, CHUNK, &got, NULL) < 0) {
			(void)bxc_hasher_final(w->hasher);
			return "it can't be read";
		}
		bxc_hasher_update(w->hasher, w->chunk, got);
	}
	bxc_digest d = bxc_hasher_final(w->hasher);
	return bxc_digest_eq(&d, &i->digest) ? NULL : "its bytes have another digest";
}

static int look(const bxc_blob_info *i, void *ud)
{
	struct walk *w = ud;
	const char *why = fault_of(w, i);
	w->sum->n++;
	w->sum->bytes += i->size;
	if (!why)
		return 0;
	w->sum->n_bad++;
	w->bad(i, why, w->ud);
	return bxc_blob_quarantine(w->store, &i->digest, &w->err);
}

int bxc_blob_check_all(bxc_blob_store *s,
	void (*bad)(const bxc_blob_info *i, const char *why, void *ud), void *ud,
	bxc_blob_check *ret, bxc_err **err)
{
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	struct walk w = {.store = s, .hasher = h, .chunk = chunk, .sum = ret, .bad = bad, .ud = ud};
	*ret = (bxc_blob_check){0};
	int r = bxc_blob_list(s, look, &w, err);
	if (w.err)
		return bxc_err_move(err, w.err);
	return r < 0 ? r : 0;
}
