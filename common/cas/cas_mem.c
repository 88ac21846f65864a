/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs in memory, for tests and small things. */
#include <pthread.h>
#include <string.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/cas/cas_internal.h"
#include "common/os/fd.h"

#define MEM_BLOB_MAX (1u << 30)

typedef struct blob {
	uint8_t *data;
	size_t n;
} blob;

typedef struct mem_store {
	bxc_blob_store base;
	pthread_mutex_t lock; /* protects `blobs`; a leaf, nothing is called under it but the map */
	bxc_map *blobs;	      /* digest text to blob */
} mem_store;

typedef struct mem_writer {
	bxc_blob_writer base;
	bxc_buf buf;
} mem_writer;

static mem_store *mem(bxc_blob_store *s)
{
	return (mem_store *)(void *)s;
}

static void blob_free(void *p)
{
	blob *b = p;
	free(b->data);
	free(b);
}

/* With the lock held. */
static blob *find(mem_store *s, const bxc_digest *d)
{
	char key[BXC_DIGEST_STR_MAX];
	return bxc_map_get(s->blobs, bxc_digest_str(d, key));
}

static int mem_stat(bxc_blob_store *base, const bxc_digest *d, bxc_blob_info *ret, bxc_err **err)
{
	mem_store *s = mem(base);
	pthread_mutex_lock(&s->lock);
	blob *b = find(s, d);
	if (b)
		*ret = (bxc_blob_info){.digest = *d, .size = b->n};
	pthread_mutex_unlock(&s->lock);
	return b ? 0 : cas_not_found(d, err);
}

static int mem_open(
	bxc_blob_store *base, const bxc_digest *d, int *ret_fd, uint64_t *ret_size, bxc_err **err)
{
	mem_store *s = mem(base);
	int r = 0;
	pthread_mutex_lock(&s->lock);
	blob *b = find(s, d);
	if (b) {
		r = bxc_fd_memfd("bxc-blob", b->data, b->n, true, ret_fd, err);
		if (r >= 0)
			*ret_size = b->n;
	}
	pthread_mutex_unlock(&s->lock);
	return b ? r : cas_not_found(d, err);
}

static int mem_begin(bxc_blob_store *s, bxc_blob_writer **ret, bxc_err **err)
{
	(void)s;
	(void)err;
	mem_writer *w = bxc_calloc(1, sizeof(*w));
	bxc_buf_init(&w->buf, MEM_BLOB_MAX);
	*ret = &w->base;
	return 0;
}

static int mem_append(bxc_blob_writer *w, const void *p, size_t n, bxc_err **err)
{
	return bxc_buf_append(&((mem_writer *)(void *)w)->buf, p, n, err);
}

static void mem_abort(bxc_blob_writer *base)
{
	mem_writer *w = (mem_writer *)(void *)base;
	bxc_buf_done(&w->buf);
	free(w);
}

static int mem_commit(bxc_blob_writer *base, const bxc_digest *d, bxc_err **err)
{
	(void)err;
	mem_writer *w = (mem_writer *)(void *)base;
	mem_store *s = mem(base->store);
	char key[BXC_DIGEST_STR_MAX];
	pthread_mutex_lock(&s->lock);
	bool there = find(s, d) != NULL;
	if (!there) {
		blob *b = bxc_calloc(1, sizeof(*b));
		b->n = w->buf.len;
		b->data = (uint8_t *)bxc_buf_steal(&w->buf);
		bxc_map_set(s->blobs, bxc_digest_str(d, key), b);
	}
	pthread_mutex_unlock(&s->lock);
	mem_abort(base);
	return there ? 1 : 0;
}

static int mem_remove(bxc_blob_store *base, const bxc_digest *d, bxc_err **err)
{
	(void)err;
	mem_store *s = mem(base);
	char key[BXC_DIGEST_STR_MAX];
	pthread_mutex_lock(&s->lock);
	bxc_map_del(s->blobs, bxc_digest_str(d, key));
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int mem_freshen(bxc_blob_store *s, const bxc_digest *d, bxc_err **err)
{
	bxc_blob_info info;
	return mem_stat(s, d, &info, err);
}

static int mem_quarantine(bxc_blob_store *s, const bxc_digest *d, bxc_err **err)
{
	bxc_blob_info info;
	int r = mem_stat(s, d, &info, err);
	return r < 0 ? r : mem_remove(s, d, err);
}

/* From a copy, so that `fn` may call the store. */
static int mem_list(
	bxc_blob_store *base, int (*fn)(const bxc_blob_info *i, void *ud), void *ud, bxc_err **err)
{
	mem_store *s = mem(base);
	(void)err;
	pthread_mutex_lock(&s->lock);
	size_t n = 0;
	BXC_AUTOFREE bxc_blob_info *infos = bxc_calloc(bxc_map_len(s->blobs) + 1, sizeof(*infos));
	BXC_MAP_FOREACH (it, s->blobs) {
		const blob *b = it.value;
		infos[n].size = b->n;
		bxc_check(bxc_digest_parse(it.key, &infos[n].digest, NULL) == 0);
		n++;
	}
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < n; i++) {
		int r = fn(&infos[i], ud);
		if (r != 0)
			return r;
	}
	return 0;
}

static void mem_free(bxc_blob_store *base)
{
	mem_store *s = mem(base);
	bxc_map_free(s->blobs);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static const bxc_blob_vtable mem_vtable = {
	.name = "mem",
	.stat = mem_stat,
	.open = mem_open,
	.begin = mem_begin,
	.append = mem_append,
	.commit = mem_commit,
	.abort = mem_abort,
	.remove = mem_remove,
	.freshen = mem_freshen,
	.quarantine = mem_quarantine,
	.list = mem_list,
	.free = mem_free,
};

bxc_blob_store *bxc_blob_mem_new(void)
{
	mem_store *s = bxc_calloc(1, sizeof(*s));
	s->base.vt = &mem_vtable;
	pthread_mutex_init(&s->lock, NULL);
	s->blobs = bxc_map_new(blob_free);
	return &s->base;
}
