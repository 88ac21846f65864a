/* SPDX-License-Identifier: Apache-2.0 */
/* Reads an archive to its end; what it yields is written again and must read back the same. */
#include <string.h>

#include "common/base/str.h"
#include "common/tar/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DATA_MAX    (1u << 20)
#define ENTRIES_MAX 1000

static int to_buf(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_buf_append(ud, p, n, err);
}

static void check_copy(const bxc_buf *tar, const bxc_tar_entry *want)
{
	bxc_slice s = bxc_buf_slice(tar);
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	const bxc_tar_entry *e = NULL;
	bxc_check(bxc_tar_reader_new(bxc_tar_slice_source, &s, &r, NULL) == 0);
	bxc_check(bxc_tar_reader_next(r, &e, NULL) == 1);
	bxc_check(strcmp(e->path, want->path) == 0 && bxc_str_eq(e->link, want->link));
	bxc_check(e->kind == want->kind && e->mode == want->mode && e->uid == want->uid &&
		  e->gid == want->gid);
	bxc_check(e->n_xattrs == want->n_xattrs);
	bxc_check(bxc_tar_reader_next(r, &e, NULL) == 0);
}

static void copy(const bxc_tar_entry *e)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(8u << 20);
	BXC_CLEANUP(bxc_tar_writer_freep) bxc_tar_writer *w = NULL;
	bxc_tar_entry c = *e;
	c.size = 0;
	bxc_check(bxc_tar_writer_new(0, to_buf, &b, &w, NULL) == 0);
	if (bxc_tar_writer_entry(w, &c, NULL) < 0)
		return;
	bxc_check(bxc_tar_writer_finish(w, NULL) == 0);
	check_copy(&b, &c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bxc_slice s = bxc_slice_of(data, size);
	static uint8_t out[65536];
	BXC_CLEANUP(bxc_tar_reader_freep) bxc_tar_reader *r = NULL;
	const bxc_tar_entry *e = NULL;
	if (bxc_tar_reader_new_any(bxc_tar_slice_source, &s, &r, NULL) < 0)
		return 0;
	for (int i = 0; i < ENTRIES_MAX && bxc_tar_reader_next(r, &e, NULL) > 0; i++) {
		bxc_check(e->path && *e->path);
		copy(e);
		ssize_t n = 1;
		for (size_t total = 0; n > 0 && total < DATA_MAX; total += (size_t)n)
			n = bxc_tar_reader_read(r, out, sizeof(out), NULL);
		if (n < 0)
			break;
	}
	return 0;
}
