/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of one fixed tree: whatever applies is a tree, and can be told as changes again. Read as
 * an index too. */
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/filesync/filesync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bxc_tree *base(void)
{
	static const char *const paths[] = {"/", "/a", "/a/b", "/c"};
	bxc_tree *t = bxc_tree_new();
	for (size_t i = 0; i < BXC_ARRAY_SIZE(paths); i++)
		*bxc_arr_push(&t->entries) = (bxc_tree_entry){.path = bxc_strdup(paths[i]),
			.mode = i < 2 ? S_IFDIR | 0755 : S_IFREG | 0644};
	return t;
}

static void as_index(const uint8_t *data, size_t size)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(size + sizeof((bxc_digest){0}.b));
	bxc_digest sum = bxc_digest_of(data, size);
	BXC_CLEANUP(bxc_tree_index_freep) bxc_tree_index *x = NULL;
	bxc_buf_add(&b, data, size);
	bxc_buf_add(&b, sum.b, sizeof(sum.b));
	bxc_ignore(bxc_tree_index_decode(bxc_buf_slice(&b), &x, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	as_index(data, size);
	bxc_digest from, to;
	if (bxc_tree_delta_base(bxc_slice_of(data, size), &from, &to, NULL) != 1)
		return 0;
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = NULL, *old = base(), *again = NULL;
	if (bxc_tree_delta_apply(base(), bxc_slice_of(data, size), &t, NULL) < 0)
		return 0;
	BXC_AUTOBUF bxc_buf delta = BXC_BUF_INIT(size + 4096), a = BXC_BUF_INIT(size + 4096),
			    b = BXC_BUF_INIT(size + 4096);
	bxc_check(bxc_tree_encode(t, false, &a, NULL) == 0);
	bxc_check(bxc_tree_delta_encode(old, &from, t, &to, &delta, NULL) == 0);
	bxc_check(bxc_tree_delta_apply(BXC_TAKE(old), bxc_buf_slice(&delta), &again, NULL) == 0);
	bxc_check(bxc_tree_encode(again, false, &b, NULL) == 0);
	bxc_check(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
	return 0;
}
