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

/* One scan of a folder: what is there, and what was there the last time. */
struct scan {
	char *index_name;            /* NULL: nothing is kept of it */
	bxc_tree_index *known;       /* NULL: nothing is known */
	bxc_tree *tree;
	bxc_tree_file_ids ids;
	bxc_buf text;                /* the tree, encoded */
	bxc_digest digest;
};

static void scan_done(struct scan *c)
{
	free(c->index_name);
	bxc_tree_index_free(c->known);
	bxc_tree_free(c->tree);
	bxc_arr_done(&c->ids);
	bxc_buf_done(&c->text);
}

static int walk(bxc_csess *s, const bxc_csess_dir *d, char *const *include, struct scan *c, bxc_err **err)
{
	BXC_AUTOCLOSE int root_fd = -1;
	if (!*d->path) {
		c->tree = empty_tree();
		return 0;
	}
	int r = bxc_fs_open_dir(AT_FDCWD, d->path, &root_fd, err);
	if (r < 0)
		return r;
	c->index_name = index_name(root_fd, include);
	c->known = c->index_name ? index_load(c->index_name) : NULL;
	const bxc_tree_walk_opts w = {
		.include = include,
		.exclude = d->ignore,
		.hash = true,
		.reset_owner = true,
		.want_xattrs = true,
		.sockets_as_files = true,
		.known = c->known,
		.ids = &c->ids,
	};
	return bxc_tree_walk(root_fd, &w, s->cancel, &c->tree, err);
}

/* What is sent: the tree, or what changed in the one that was sent the last time, if it may be asked for that and it is less. */
static int answer(const struct scan *c, bool whole, bxc_buf *delta, bxc_slice *ret, bxc_err **err)
{
	*ret = bxc_buf_slice(&c->text);
	if (whole || !c->known || c->text.len < BXC_TREE_DELTA_MIN)
		return 0;
	bxc_buf_init(delta, c->text.len);
	int r = bxc_tree_delta_encode(c->known->tree, &c->known->digest, c->tree, &c->digest, delta, err);
	if (r == -BXC_RESOURCE_EXHAUSTED) {
		bxc_err_free(BXC_TAKE(*err));
		return 0;
	}
	if (r >= 0)
		*ret = bxc_buf_slice(delta);
	return r;
}

static bool is_known(const struct scan *c)
{
	const bxc_tree_index *k = c->known;
	return k && bxc_digest_eq(&k->digest, &c->digest) && k->ids.n == c->ids.n &&
	       memcmp(k->ids.v, c->ids.v, c->ids.n * sizeof(*c->ids.v)) == 0;
}

struct saving {
	char *name;
	bxc_buf index;
};

static void save_work(void *ud)
{
	struct saving *v = ud;
	index_save(v->name, &v->index);
	bxc_buf_done(&v->index);
	free(v->name);
	free(v);
}

/* Nobody waits for it. */
static void keep_index(bxc_csess *s, struct scan *c)
{
	if (!c->index_name || c->text.len < BXC_TREE_DELTA_MIN || is_known(c))
		return;
	struct saving *v = bxc_calloc(1, sizeof(*v));
	v->name = BXC_TAKE(c->index_name);
	bxc_buf_init(&v->index, BXC_TREE_BYTES_MAX);
	if (bxc_tree_index_encode(bxc_buf_slice(&c->text), &c->digest, &c->ids, &v->index, NULL) >= 0 &&
		bxc_pool_submit(s->pool, save_work, NULL, NULL, v, NULL) >= 0)
		return;
	bxc_buf_done(&v->index);
	free(v->name);
	free(v);
}

int serve_scan(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	(void)name;
	BXC_AUTOBUF bxc_buf request = BXC_BUF_INIT(REQUEST_MAX), delta = BXC_BUF_INIT(0);
	BXC_AUTOJSON bxc_json *q = NULL;
	BXC_AUTOSTRV char **include = NULL;
	const bxc_csess_dir *dir = NULL;
	BXC_CLEANUP(scan_done) struct scan c = {.text = BXC_BUF_INIT(BXC_TREE_BYTES_MAX)};
	BXC_CLEANUP(bxc_compressor_freep) bxc_compressor *z = NULL;
	struct out o = {s, st};
	bxc_slice text = {0};
	int r = bxc_chan_stream_read_all(st, &request, s->cancel, err);
	if (r >= 0)
		r = bxc_json_parse(bxc_buf_slice(&request), &q, err);
	if (r >= 0)
		r = bxc_json_get_strv(q, "include", &include, err);
	if (r >= 0)
		r = find_dir(s, bxc_json_get_str(q, "context", NULL), &dir, err);
	if (r >= 0)
		r = walk(s, dir, include, &c, err);
	if (r >= 0)
		r = bxc_tree_encode(c.tree, false, &c.text, err);
	if (r < 0)
		return r;
	c.digest = bxc_digest_of(c.text.data, c.text.len);
	r = answer(&c, bxc_json_get_bool(q, "whole", false), &delta, &text, err);
	if (r >= 0)
		r = bxc_compressor_new(BXC_COMPRESSION_ZSTD, 1, to_stream, &o, &z, err);
	if (r < 0)
		return r;
	/* Kept before the answer is complete: the coordinator may ask for files at once. */
	char digest[BXC_DIGEST_STR_MAX];
	bxc_digest_str(&c.digest, digest);
	pthread_mutex_lock(&s->lock);
	if (!bxc_map_has(s->trees, digest))
		bxc_map_set(s->trees, digest, BXC_TAKE(c.tree));
	pthread_mutex_unlock(&s->lock);
	r = bxc_compressor_write(z, text.p, text.n, err);
	if (r >= 0)
		r = bxc_compressor_finish(z, err);
	if (r >= 0)
		keep_index(s, &c);
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
