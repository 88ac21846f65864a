/* SPDX-License-Identifier: Apache-2.0 */
/* Layers and trees that come from elsewhere. */
#include "worker/source/source_internal.h"

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"

#define FETCH_THREADS 4u
#define FETCH_QUEUE   4096u
#define CHUNK         (256u << 10)
#define TREE_MAX      (1u << 30)

/* ---- LAYER documents ---- */

static void layer_done(bxc_src_layer *l)
{
	free(l->id);
	free(l->vertex);
	free(l->registry);
	free(l->layout);
	free(l->layout_build);
	free(l->client);
	bxc_strv_free(l->peers);
	bxc_descriptor_done(&l->blob);
}

void bxc_src_layers_done(bxc_src_layers *l)
{
	BXC_ARR_FOREACH (p, &l->items)
		layer_done(p);
	bxc_arr_done(&l->items);
}

static int parse_layer(const bxc_json *j, bxc_src_layer *l, bxc_err **err)
{
	const char *id;
	int r = bxc_json_need_str(j, "id", &id, err);
	if (r < 0)
		return r;
	l->id = bxc_strdup(id);
	l->vertex = bxc_strdup(bxc_json_get_str(j, "vertex", NULL));
	l->size = bxc_json_get_u64(j, "size", 0);
	l->created_ns = bxc_json_get_i64(j, "created_ns", 0);
	l->n_below = (size_t)bxc_json_get_u64(j, "below", SIZE_MAX);
	const char *diff_id = bxc_json_get_str(j, "diff_id", NULL);
	if (diff_id)
		r = bxc_digest_parse(diff_id, &l->diff_id, err);
	if (r >= 0 && bxc_json_get(j, "blob"))
		r = bxc_descriptor_from_json(bxc_json_get(j, "blob"), &l->blob, err);
	BXC_JSON_FOREACH (s, bxc_json_get(j, "sources")) {
		const char *peer = bxc_json_get_str(s, "peer", NULL), *registry = bxc_json_get_str(s, "registry", NULL);
		if (peer)
			bxc_strv_push(&l->peers, peer);
		if (registry && !l->registry)
			l->registry = bxc_strdup(registry);
		const char *layout = bxc_json_get_str(s, "layout", NULL), *client = bxc_json_get_str(s, "client", NULL);
		if (layout && !l->layout) {
			l->layout = bxc_strdup(layout);
			l->layout_build = bxc_strdup(bxc_json_get_str(s, "build", ""));
		}
		if (client && !l->client) {
			l->client = bxc_strdup(client);
			l->client_cache = bxc_json_get_u64(s, "cache", 0);
		}
	}
	l->imported = bxc_json_get_bool(j, "imported", false);
	return r;
}

int bxc_src_layer_parse(const bxc_json *j, bxc_src_layers *ret, bxc_err **err)
{
	int r = parse_layer(j, bxc_arr_push(&ret->items), err);
	return r < 0 ? bxc_err_wrap(err, r, "layers") : 0;
}

int bxc_src_layers_parse(const bxc_json *arr, bxc_src_layers *ret, bxc_err **err)
{
	if (arr && !bxc_json_is_array(arr))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "layers: expected an array");
	if (bxc_json_len(arr) > BXC_LIMIT_IMAGE_LAYERS)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "%zu layers: overlayfs takes %u", bxc_json_len(arr), BXC_LIMIT_IMAGE_LAYERS);
	BXC_JSON_FOREACH (j, arr) {
		int r = bxc_src_layer_parse(j, ret, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the module ---- */

int bxc_src_new(bxc_content *content, bxc_snap *snap, const char *dir, bxc_src **ret, bxc_err **err)
{
	bxc_src *s = bxc_calloc(1, sizeof(*s));
	s->content = content;
	s->snap = snap;
	s->dir = bxc_strdup(dir);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->busy = bxc_map_new(NULL);
	int r = bxc_pool_new("fetch", FETCH_THREADS, FETCH_QUEUE, &s->pool, err);
	if (r < 0) {
		bxc_src_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void bxc_src_free(bxc_src *s)
{
	if (!s)
		return;
	bxc_pool_free(s->pool);
	bxc_map_free(s->busy);
	free(s->dir);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void src_claim(bxc_src *s, const char *key)
{
	pthread_mutex_lock(&s->lock);
	while (bxc_map_has(s->busy, key))
		pthread_cond_wait(&s->changed, &s->lock);
	bxc_map_set(s->busy, key, NULL);
	pthread_mutex_unlock(&s->lock);
}

void src_release(bxc_src *s, const char *key)
{
	pthread_mutex_lock(&s->lock);
	bxc_map_del(s->busy, key);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* ---- what comes how fast ---- */

void bxc_src_on_transfer(bxc_src *s, bxc_src_transferred fn, void *ud)
{
	s->on_transfer = fn;
	s->transfer_ud = ud;
}

void src_transfer_begin(bxc_src *s, bxc_src_from from)
{
	pthread_mutex_lock(&s->lock);
	src_meter_begin(&s->meters[from], bxc_clock_mono_ns());
	pthread_mutex_unlock(&s->lock);
}

void src_transfer_end(bxc_src *s, bxc_src_from from, uint64_t bytes)
{
	uint64_t sum = 0;
	int64_t ns = 0;
	pthread_mutex_lock(&s->lock);
	bool tell = src_meter_end(&s->meters[from], bxc_clock_mono_ns(), bytes, &sum, &ns);
	pthread_mutex_unlock(&s->lock);
	if (tell && s->on_transfer)
		s->on_transfer(from, sum, ns, s->transfer_ud);
}

/* ---- unpacking ---- */

struct unpack {
	int fd;
	uint64_t off, size;
	bxc_decompressor *d;
	bxc_buf plain;
	size_t taken;
	bool ended;
	uint8_t *chunk;
};

static int to_plain(const void *p, size_t n, void *ud, bxc_err **err)
{
	struct unpack *u = ud;
	return bxc_buf_append(&u->plain, p, n, err);
}

static ssize_t pull(void *p, size_t n, void *ud, bxc_err **err)
{
	struct unpack *u = ud;
	while (u->taken == u->plain.len) {
		bxc_buf_clear(&u->plain);
		u->taken = 0;
		if (u->ended)
			return 0;
		ssize_t k = pread(u->fd, u->chunk, (size_t)BXC_MIN((uint64_t)CHUNK, u->size - u->off), (off_t)u->off);
		if (k < 0)
			return bxc_err_set(err, BXC_INTERNAL, "read blob: %m");
		u->off += (uint64_t)k;
		int r = k ? bxc_decompressor_write(u->d, u->chunk, (size_t)k, err) : 0;
		if (r >= 0 && (k == 0 || u->off == u->size)) {
			u->ended = true;
			r = bxc_decompressor_finish(u->d, err);
		}
		if (r < 0)
			return r;
	}
	size_t k = BXC_MIN(n, u->plain.len - u->taken);
	memcpy(p, u->plain.data + u->taken, k);
	u->taken += k;
	return (ssize_t)k;
}

static int unpack_layer(bxc_src *s, const bxc_src_layer *l, bxc_cancel *cancel, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = -1;
	/* One chunk of input may expand a thousandfold; the decompressor hands it over piece by piece into this bound. */
	struct unpack u = {.plain = BXC_BUF_INIT(1u << 30)};
	int r = bxc_blob_open(bxc_content_store(s->content), &l->blob.digest, &fd, &u.size, err);
	if (r < 0)
		return r;
	uint8_t head[4] = {0};
	ssize_t n = pread(fd, head, sizeof(head), 0);
	BXC_AUTOSTAGING bxc_snap_staging *g = NULL;
	bxc_snap_facts facts = {0};
	u.fd = fd;
	u.chunk = bxc_malloc(CHUNK);
	r = bxc_decompressor_new(bxc_compression_detect(bxc_slice_of(head, n > 0 ? (size_t)n : 0)), BXC_LIMIT_BLOB, to_plain, &u, &u.d, err);
	if (r >= 0)
		r = bxc_snap_begin(s->snap, l->id, &g, err);
	if (r >= 0)
		r = bxc_snap_apply_tar(bxc_snap_staging_fd(g), pull, &u, cancel, &facts.diff_id, &facts.size_bytes, err);
	if (r >= 0 && bxc_digest_is_set(&l->diff_id) && !bxc_digest_eq(&l->diff_id, &facts.diff_id)) {
		char want[BXC_DIGEST_STR_MAX], got[BXC_DIGEST_STR_MAX];
		r = bxc_err_set(err, BXC_DATA_LOSS, "layer has diff id %s, not %s", bxc_digest_str(&facts.diff_id, got), bxc_digest_str(&l->diff_id, want));
	}
	if (r >= 0)
		r = bxc_snap_commit(BXC_TAKE(g), &facts, err);
	bxc_decompressor_free(u.d);
	bxc_buf_done(&u.plain);
	free(u.chunk);
	return r;
}

/* ---- fetching ---- */

struct ensure {
	bxc_src *s;
	const bxc_src_reach *reach;
	bxc_cancel *cancel;
	const bxc_src_progress *progress;
	size_t left;                 /* jobs under way; under s->lock, as the rest */
	char **lost;
	bxc_err *err;
};

struct fetch {
	struct ensure *e;
	const bxc_src_layer *l;
};

static void tell(const struct fetch *f, const char *what, uint64_t current, uint64_t total, bool done)
{
	const bxc_src_progress *p = f->e->progress;
	if (p)
		p->fn(f->l, what, current, total, done, p->ud);
}

static void on_bytes(uint64_t done, uint64_t total, void *ud)
{
	struct fetch *f = ud;
	char d[BXC_DIGEST_STR_MAX];
	tell(f, bxc_digest_str(&f->l->blob.digest, d), done, total, done == total);
}

struct blob_sink {
	const bxc_src_layer *l;
	bxc_blob_writer *w;
	bxc_reg_progress_fn progress;
	void *ud;
	uint64_t done;
};

static int to_store(const void *p, size_t n, void *ud, bxc_err **err)
{
	struct blob_sink *k = ud;
	k->done += n;
	if (k->done > k->l->blob.size)
		return bxc_err_set(err, BXC_DATA_LOSS, "more came than the %llu bytes of the blob", (unsigned long long)k->l->blob.size);
	if (k->progress)
		k->progress(k->done, k->l->blob.size, k->ud);
	return bxc_blob_append(k->w, p, n, err);
}

/* Ends the writer: what came is kept when it is what was asked for. */
static int sink_end(struct blob_sink *k, int r, bxc_err **err)
{
	bxc_blob_info info;
	if (r >= 0)
		return bxc_blob_commit(k->w, &k->l->blob.digest, &info, err);
	bxc_blob_abort(k->w);
	return r;
}

static int blob_from_peers(struct fetch *f, bxc_err **err)
{
	bxc_content *c = f->e->s->content;
	const bxc_src_layer *l = f->l;
	int r = -BXC_NOT_FOUND;
	BXC_AUTOERR bxc_err *last = NULL;
	if (bxc_blob_has(bxc_content_store(c), &l->blob.digest))
		return 0;
	for (char **peer = l->peers; peer && *peer; peer++) {
		struct blob_sink k = {.l = l, .progress = on_bytes, .ud = f};
		bxc_err_free(last);
		last = NULL;
		r = bxc_blob_begin(bxc_content_store(c), &k.w, &last);
		if (r >= 0)
			r = sink_end(&k, bxc_content_from_peer(c, *peer, &l->blob.digest, f->e->cancel, to_store, &k, &last), &last);
		if (r >= 0 || r == -BXC_CANCELED)
			break;
	}
	if (r >= 0)
		return 0;
	if (!last)
		return bxc_err_set(err, BXC_UNAVAILABLE, "layer '%s' is held by no worker that could give it", l->id);
	return bxc_err_wrap_take(err, BXC_TAKE(last), r, "layer '%s'", l->id);
}

static int blob_from_registry(bxc_src *s, const bxc_src_layer *l, bxc_reg *reg, bxc_cancel *cancel, bxc_reg_progress_fn progress, void *ud,
	bxc_err **err)
{
	BXC_AUTOREF bxc_ref repo = {0};
	int r = bxc_ref_parse(l->registry, &repo, err);
	if (r >= 0)
		r = bxc_reg_fetch(reg, &repo, &l->blob, cancel, bxc_content_store(s->content), progress, ud, err);
	return r < 0 ? r : 0;
}

static int blob_from_client(bxc_src *s, const bxc_src_layer *l, const bxc_src_client *c, bxc_reg_progress_fn progress, void *ud, bxc_err **err)
{
	struct blob_sink k = {.l = l, .progress = progress, .ud = ud};
	int r = bxc_blob_begin(bxc_content_store(s->content), &k.w, err);
	if (r < 0)
		return r;
	if (l->layout)
		r = c->layout(l->layout_build, l->layout, &l->blob.digest, to_store, &k, c->ud, err);
	else
		r = c->cache(l->client, l->client_cache, &l->blob.digest, to_store, &k, c->ud, err);
	r = sink_end(&k, r, err);
	return r < 0 ? bxc_err_wrap(err, r, "layer of %s of the client", l->layout ? "an OCI layout" : "a cache") : 0;
}

/*
 * Is the layer lost by this failure? What only peers have, and none could give; a cancelled fetch or a full
 * disk says nothing of it. What a cache promises need not be had at all: even one that fills the disk is
 * better made again.
 */
static bool tells_of_loss(const bxc_src_layer *l, int r)
{
	if (r == -BXC_CANCELED)
		return false;
	return l->imported || (!bxc_src_is_elsewhere(l) && r != -BXC_RESOURCE_EXHAUSTED);
}

static int elsewhere_blob(bxc_src *s, const bxc_src_layer *l, const bxc_src_reach *reach, bxc_cancel *cancel, bxc_reg_progress_fn progress,
	void *ud, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	if (bxc_blob_has(bxc_content_store(s->content), &l->blob.digest))
		return 0;
	int r = l->registry ? blob_from_registry(s, l, reach->reg, cancel, progress, ud, &why)
			    : blob_from_client(s, l, reach->client, progress, ud, &why);
	if (r >= 0)
		return 0;
	if (l->imported && tells_of_loss(l, r))
		bxc_err_detail(why, "lost_layer", "%s", l->id);
	return bxc_err_move(err, BXC_TAKE(why));
}

int bxc_src_elsewhere_blob(bxc_src *s, const bxc_src_layer *l, const bxc_src_reach *reach, bxc_cancel *cancel, bxc_err **err)
{
	return elsewhere_blob(s, l, reach, cancel, NULL, NULL, err);
}

static int fetch_blob(struct fetch *f, bxc_err **err)
{
	const bxc_src_layer *l = f->l;
	bxc_src *s = f->e->s;
	char what[32 + BXC_DIGEST_STR_MAX], d[BXC_DIGEST_STR_MAX];
	if (!bxc_digest_is_set(&l->blob.digest))
		return bxc_err_set(err, BXC_NOT_FOUND, "layer '%s' is not here and was not published", l->id);
	bxc_src_from from = !bxc_src_is_elsewhere(l) ? BXC_SRC_FROM_PEER : l->registry ? BXC_SRC_FROM_REGISTRY : BXC_SRC_FROM_CLIENT;
	bool is_here = bxc_blob_has(bxc_content_store(s->content), &l->blob.digest);
	if (!is_here)
		src_transfer_begin(s, from);
	int r = bxc_src_is_elsewhere(l) ? elsewhere_blob(s, l, f->e->reach, f->e->cancel, on_bytes, f, err) : blob_from_peers(f, err);
	if (!is_here)
		src_transfer_end(s, from, r < 0 ? 0 : l->blob.size);
	if (r < 0)
		return r;
	snprintf(what, sizeof(what), "extracting %s", bxc_digest_str(&l->blob.digest, d));
	tell(f, what, 0, 0, false);
	r = unpack_layer(s, l, f->e->cancel, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "unpack layer %s", d);
	tell(f, what, 0, 0, true);
	return 0;
}

static int fetch_layer(struct fetch *f, bxc_err **err)
{
	const bxc_src_layer *l = f->l;
	bxc_src *s = f->e->s;
	char d[BXC_DIGEST_STR_MAX], key[BXC_DIGEST_STR_MAX + 8];
	/* A blob of elsewhere may be exported again; a peer's form is of no more use. */
	if (bxc_src_is_elsewhere(l))
		return fetch_blob(f, err);
	/* Layers of equal content, such as of steps that changed nothing, share a blob: one after another. */
	snprintf(key, sizeof(key), "blob %s", bxc_digest_str(&l->blob.digest, d));
	src_claim(s, key);
	bool is_ours = bxc_blob_has(bxc_content_store(s->content), &l->blob.digest);
	int r = fetch_blob(f, err);
	/* One that was here before serves others. */
	if (r >= 0 && !is_ours)
		bxc_ignore(bxc_blob_remove(bxc_content_store(s->content), &l->blob.digest, NULL));
	src_release(s, key);
	return r;
}

static void fetch_work(void *ud)
{
	struct fetch *f = ud;
	struct ensure *e = f->e;
	bxc_src *s = e->s;
	bxc_err *err = NULL;
	src_claim(s, f->l->id);
	int r = 0;
	if (!bxc_snap_has(s->snap, f->l->id)) {
		r = bxc_cancel_check(e->cancel, &err);
		if (r >= 0)
			r = fetch_layer(f, &err);
	}
	src_release(s, f->l->id);
	pthread_mutex_lock(&s->lock);
	if (r < 0 && tells_of_loss(f->l, r))
		bxc_strv_push(&e->lost, f->l->id);
	if (r < 0 && !e->err)
		e->err = err;
	else
		bxc_err_free(err);
	e->left--;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

int bxc_src_ensure(bxc_src *s, const bxc_src_layers *layers, const bxc_src_reach *reach, bxc_cancel *cancel,
	const bxc_src_progress *progress, char ***ret_lost, bxc_err **err)
{
	struct ensure e = {.s = s, .reach = reach, .cancel = cancel, .progress = progress};
	BXC_AUTOFREE struct fetch *jobs = bxc_calloc(layers->items.n, sizeof(*jobs));
	for (size_t i = 0; i < layers->items.n; i++) {
		const bxc_src_layer *l = &layers->items.v[i];
		if (bxc_snap_has(s->snap, l->id))
			continue;
		jobs[i] = (struct fetch){&e, l};
		pthread_mutex_lock(&s->lock);
		e.left++;
		pthread_mutex_unlock(&s->lock);
		bxc_err *full = NULL;
		if (bxc_pool_submit(s->pool, fetch_work, NULL, NULL, &jobs[i], &full) >= 0)
			continue;
		pthread_mutex_lock(&s->lock);
		e.left--;
		if (!e.err)
			e.err = BXC_TAKE(full);
		pthread_mutex_unlock(&s->lock);
		bxc_err_free(full);
	}
	pthread_mutex_lock(&s->lock);
	while (e.left)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
	for (char **l = e.lost; l && *l; l++)
		bxc_strv_push(ret_lost, *l);
	bxc_strv_free(e.lost);
	return bxc_err_move(err, e.err);
}

/* ---- trees ---- */

int bxc_src_tree(bxc_src *s, const bxc_digest *d, bxc_cancel *cancel, bxc_tree **ret, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(TREE_MAX);
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = NULL;
	int r = bxc_content_from_coordinator(s->content, d, cancel, err);
	if (r >= 0)
		r = bxc_blob_read(bxc_content_store(s->content), d, &text, err);
	if (r >= 0)
		r = bxc_tree_decode(bxc_buf_slice(&text), &t, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "context tree");
	bxc_digest last = {0};
	BXC_ARR_FOREACH (e, &t->entries) {
		/* Neighbours lie in the same pack: most look-ups end here. */
		if (!bxc_digest_is_set(&e->pack) || bxc_digest_eq(&e->pack, &last))
			continue;
		r = bxc_content_from_coordinator(s->content, &e->pack, cancel, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "contents of the context");
		last = e->pack;
	}
	*ret = BXC_TAKE(t);
	return 0;
}
