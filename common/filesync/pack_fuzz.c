/* SPDX-License-Identifier: Apache-2.0 */
/* First byte odd: the rest are frames, compressed here; even: the rest is the stream itself. */
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/filesync/filesync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int to_receiver(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_pack_receiver_write(ud, p, n, err);
}

static void add(bxc_tree *t, const char *path, uint32_t mode, const char *content, size_t n)
{
	bxc_tree_entry *e = bxc_arr_push(&t->entries);
	e->path = bxc_strdup(path);
	e->mode = mode;
	e->size = n;
	if (S_ISREG(mode))
		e->digest = bxc_digest_of(content, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t asked[] = {2, 1};
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = bxc_tree_new();
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *store = bxc_blob_mem_new();
	BXC_CLEANUP(bxc_pack_receiver_freep) bxc_pack_receiver *r = NULL;
	BXC_CLEANUP(bxc_compressor_freep) bxc_compressor *z = NULL;
	add(t, "/", S_IFDIR | 0755, "", 0);
	add(t, "/a", S_IFREG | 0644, "abc", 3);
	add(t, "/b", S_IFREG | 0644, "", 0);
	bxc_check(bxc_pack_receiver_new(store, t, asked, 2, &r, NULL) == 0);
	if (size == 0)
		return 0;
	int rc;
	if (data[0] & 1) {
		bxc_check(
			bxc_compressor_new(BXC_COMPRESSION_ZSTD, 1, to_receiver, r, &z, NULL) == 0);
		rc = bxc_compressor_write(z, data + 1, size - 1, NULL);
		if (rc >= 0)
			rc = bxc_compressor_finish(z, NULL);
	} else {
		rc = bxc_pack_receiver_write(r, data + 1, size - 1, NULL);
	}
	bxc_blob_info info;
	if (rc >= 0 && bxc_pack_receiver_finish(r, &info, NULL) >= 0)
		bxc_check(info.size == 3 && t->entries.v[1].pack_off == 0 &&
			  bxc_digest_eq(&t->entries.v[2].pack, &info.digest));
	return 0;
}
