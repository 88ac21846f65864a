/* SPDX-License-Identifier: Apache-2.0 */
/* The context: its tree when a build asks what there is, its files when a step needs them. */
#include "client/session/session_internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/be.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fs.h"

#define REQUEST_MAX (4u << 20)
#define TREE_MAX    (1u << 30)

struct out {
	bxc_csess *s;
	bxc_chan_stream *stream;
};

static int to_stream(const void *p, size_t n, void *ud, bxc_err **err)
{
	struct out *o = ud;
	return bxc_chan_stream_write(o->stream, p, n, o->s->cancel, err);
}

static int find_dir(bxc_csess *s, const char *name, const bxc_csess_dir **ret, bxc_err **err)
{
	for (size_t i = 0; i < s->c.n_dirs; i++) {
		if (bxc_str_eq(s->c.dirs[i].name, name)) {
			*ret = &s->c.dirs[i];
			return 0;
		}
	}
	return bxc_err_set(err, BXC_NOT_FOUND, "no access allowed to dir \"%.64s\"", name ? name : "");
}

/* A tree of nothing but its root, as a folder that was just made has it. */
static bxc_tree *empty_tree(void)
{
	bxc_tree *t = bxc_tree_new();
	*bxc_arr_push(&t->entries) = (bxc_tree_entry){.path = bxc_strdup("/"), .mode = S_IFDIR | 0755};
	return t;
}

static int walk(bxc_csess *s, const bxc_csess_dir *d, char *const *include, bxc_tree **ret, bxc_err **err)
{
	BXC_AUTOCLOSE int root_fd = -1;
	const bxc_tree_walk_opts w = {
		.include = include,
		.exclude = d->ignore,
		.hash = true,
		.reset_owner = true,
		.sockets_as_files = true,
	};
	if (!*d->path) {
		*ret = empty_tree();
		return 0;
	}
	int r = bxc_fs_open_dir(AT_FDCWD, d->path, &root_fd, err);
	return r < 0 ? r : bxc_tree_walk(root_fd, &w, s->cancel, ret, err);
}

int serve_scan(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	(void)name;
	BXC_AUTOBUF bxc_buf request = BXC_BUF_INIT(REQUEST_MAX), plain = BXC_BUF_INIT(TREE_MAX);
	BXC_AUTOJSON bxc_json *q = NULL;
	BXC_AUTOSTRV char **include = NULL;
	const bxc_csess_dir *dir = NULL;
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *tree = NULL;
	BXC_CLEANUP(bxc_compressor_freep) bxc_compressor *c = NULL;
	struct out o = {s, st};
	int r = bxc_chan_stream_read_all(st, &request, s->cancel, err);
	if (r >= 0)
		r = bxc_json_parse(bxc_buf_slice(&request), &q, err);
	if (r >= 0)
		r = bxc_json_get_strv(q, "include", &include, err);
	if (r >= 0)
		r = find_dir(s, bxc_json_get_str(q, "context", NULL), &dir, err);
	if (r >= 0)
		r = walk(s, dir, include, &tree, err);
	if (r >= 0)
		r = bxc_tree_encode(tree, false, &plain, err);
	if (r >= 0)
		r = bxc_compressor_new(BXC_COMPRESSION_ZSTD, 1, to_stream, &o, &c, err);
	if (r < 0)
		return r;
	/* Kept before the answer is complete: the coordinator may ask for files at once. */
	char digest[BXC_DIGEST_STR_MAX];
	bxc_digest d = bxc_digest_of(plain.data, plain.len);
	pthread_mutex_lock(&s->lock);
	if (!bxc_map_has(s->trees, bxc_digest_str(&d, digest)))
		bxc_map_set(s->trees, digest, BXC_TAKE(tree));
	pthread_mutex_unlock(&s->lock);
	r = bxc_compressor_write(c, plain.data, plain.len, err);
	if (r >= 0)
		r = bxc_compressor_finish(c, err);
	return r;
}

int serve_fetch(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	BXC_AUTOCLOSE int root_fd = -1;
	struct out o = {s, st};
	pthread_mutex_lock(&s->lock);
	/* Trees live as long as the session. */
	const bxc_tree *tree = bxc_map_get(s->trees, bxc_json_get_str(name, "tree", ""));
	pthread_mutex_unlock(&s->lock);
	if (!tree)
		return bxc_err_set(err, BXC_NOT_FOUND, "the tree asked for was not scanned in this session");
	const bxc_csess_dir *dir = NULL;
	int r = find_dir(s, bxc_json_get_str(name, "context", NULL), &dir, err);
	if (r >= 0)
		r = bxc_fs_open_dir(AT_FDCWD, *dir->path ? dir->path : "/", &root_fd, err);
	BXC_AUTOBUF bxc_buf want = BXC_BUF_INIT(4 * tree->entries.n + 4);
	if (r >= 0)
		r = bxc_chan_stream_read_all(st, &want, s->cancel, err);
	if (r < 0)
		return r;
	size_t n = want.len / 4;
	BXC_AUTOFREE uint32_t *indices = bxc_calloc(n, sizeof(*indices));
	for (size_t i = 0; i < n; i++) {
		indices[i] = (uint32_t)bxc_be_get(want.data + 4 * i, 4);
		if (indices[i] >= tree->entries.n)
			return bxc_err_set(err, BXC_OUT_OF_RANGE, "index %u of a tree with %zu entries", indices[i], tree->entries.n);
	}
	return bxc_pack_send(root_fd, tree, indices, n, to_stream, &o, s->cancel, err);
}
