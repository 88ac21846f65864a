/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local contexts. The client is asked once for the tree of what the build may use; keys are made
 * from the tree. Contents come only for steps that really run, only what the store lacks, one
 * request at a time per context, so that no file is sent twice.
 */
#include "coordinator/build/build_internal.h"

#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"


static void keep(build *b, context *c)
{
	BXC_ARR_FOREACH (p, &b->contexts)
		if (*p == c)
			return;
	*bxc_arr_push(&b->contexts) = c;
	context_ref(c);
}

context *context_for(build *b, const bxc_def_vertex *v)
{
	bxc_build *e = b->engine;
	char digest[BXC_DIGEST_STR_MAX];
	bxc_digest_str(&v->digest, digest);
	BXC_AUTOFREE char *key = bxc_str_fmt("%s %s", b->session ? bxc_sess_id(b->session) : "", digest);
	context *c = bxc_map_get(e->contexts, key);
	if (c) {
		keep(b, c);
		return c;
	}
	c = bxc_calloc(1, sizeof(*c));
	c->key = bxc_strdup(key);
	c->session = bxc_sess_ref_ref(b->session);
	const char *colon = strstr(v->op.source.identifier, "://");
	c->name = bxc_strdup(colon ? colon + 3 : v->op.source.identifier);
	c->vertex = bxc_strdup(digest);
	bxc_map_set(e->contexts, key, c);
	keep(b, c);
	return c;
}

void context_ref(context *c)
{
	c->refs++;
}

static void context_free(bxc_build *e, context *c)
{
	bxc_map_del(e->contexts, c->key);
	bxc_tree_free(c->tree);
	bxc_sess_ref_unref(c->session);
	bxc_arr_done(&c->scan_waiters);
	bxc_arr_done(&c->sum_waiters);
	bxc_arr_done(&c->fetch_queue);
	free(c->key);
	free(c->name);
	free(c->vertex);
	free(c);
}

void context_unref(bxc_build *e, context *c)
{
	bxc_check(c->refs > 0);
	if (--c->refs == 0 && !c->scanning && !c->fetching)
		context_free(e, c);
}

static build *build_of_context(bxc_build *e, const context *c)
{
	BXC_MAP_FOREACH (it, e->builds) {
		build *b = it.value;
		if (b->session == c->session)
			return b;
		if (b->session && c->session && bxc_str_eq(bxc_sess_id(b->session), bxc_sess_id(c->session)))
			return b;
	}
	return NULL;
}

/* ---- scan ---- */

struct scan {
	bxc_build *e;
	context *c;
	char **include;
	bxc_cancel *cancel;
	bxc_scanned found;
	bxc_err *err;
};

static void start_sum(struct sum *s);
static void fail_sum(struct sum *s, bxc_err *err_take, bool infra);

static void scan_work(void *ud)
{
	struct scan *s = ud;
	if (!s->c->session)
		bxc_ignore(bxc_err_set(&s->err, BXC_FAILED_PRECONDITION, "the request names no session that could give its context"));
	else
		bxc_ignore(bxc_sess_scan(s->c->session, s->c->name, s->include, s->e->c.blobs, s->cancel, &s->found, &s->err));
}

struct keeping {
	bxc_blob_store *blobs;
	bxc_buf text;
};

static void keep_work(void *ud)
{
	struct keeping *k = ud;
	bxc_blob_info info;
	/* Without it the next answer is a whole tree. */
	bxc_ignore(bxc_blob_put(k->blobs, k->text.data, k->text.len, &info, NULL));
	bxc_buf_done(&k->text);
	free(k);
}

/* The tree goes into the store while the build goes on. */
static void keep_scanned(bxc_build *e, bxc_scanned *s)
{
	if (!s->is_new || s->text.len < BXC_TREE_DELTA_MIN)
		return;
	struct keeping *k = bxc_calloc(1, sizeof(*k));
	k->blobs = e->c.blobs;
	k->text = s->text;
	s->text = (bxc_buf){0};
	if (bxc_pool_submit(e->c.pool, keep_work, NULL, NULL, k, NULL) < 0) {
		bxc_buf_done(&k->text);
		free(k);
	}
}

static void scan_done(void *ud)
{
	struct scan *s = ud;
	bxc_build *e = s->e;
	context *c = s->c;
	c->scanning = false;
	if (s->found.tree) {
		c->tree = BXC_TAKE(s->found.tree);
		c->digest = s->found.digest;
		keep_scanned(e, &s->found);
	}
	bool infra = bxc_err_code(s->err) == BXC_UNAVAILABLE;
	BXC_ARR_FOREACH (ticket, &c->scan_waiters) {
		if (!s->err)
			bxc_solve_source_key(e->solve, *ticket, &c->digest);
		else
			bxc_solve_fail(e->solve, *ticket, bxc_err_copy(s->err), infra);
	}
	c->scan_waiters.n = 0;
	while (c->sum_waiters.n) {
		struct sum *w = c->sum_waiters.v[c->sum_waiters.n - 1];
		c->sum_waiters.n--;
		if (s->err)
			fail_sum(w, bxc_err_copy(s->err), infra);
		else
			start_sum(w);
	}
	context_unref(e, c);
	bxc_scanned_done(&s->found);
	bxc_err_free(s->err);
	bxc_strv_free(s->include);
	bxc_cancel_unref(s->cancel);
	free(s);
	pump(e);
}

/* The "followpaths" of the source: what the build may ask for. */
static char **include_of(const bxc_def_vertex *v)
{
	const char *text = bxc_env_get(v->op.source.attrs, "followpaths");
	BXC_AUTOJSON bxc_json *j = NULL;
	char **list = NULL;
	if (!text || bxc_json_parse(bxc_slice_of(text, strlen(text)), &j, NULL) < 0)
		return NULL;
	BXC_JSON_FOREACH (p, j)
		if (bxc_json_string(p))
			bxc_strv_push(&list, bxc_json_string(p));
	return list;
}

/* Asks the client for the tree unless that is under way. */
static void start_scan(bxc_build *e, build *b, context *c, const bxc_def_vertex *v)
{
	if (c->scanning)
		return;
	struct scan *s = bxc_calloc(1, sizeof(*s));
	s->e = e;
	s->c = c;
	s->include = include_of(v);
	s->cancel = bxc_cancel_ref(b->cancel);
	context_ref(c);
	bxc_err *err = NULL;
	c->scanning = true;
	c->started_ns = bxc_clock_wall_ns();
	if (bxc_pool_submit(e->c.pool, scan_work, e->c.loop, scan_done, s, &err) < 0) {
		s->err = err;
		bxc_loop_post(e->c.loop, scan_done, s);
	}
}

void context_scan(bxc_build *e, build *b, context *c, const bxc_def_vertex *v, uint64_t ticket)
{
	if (c->tree) {
		bxc_solve_source_key(e->solve, ticket, &c->digest);
		return;
	}
	*bxc_arr_push(&c->scan_waiters) = ticket;
	start_scan(e, b, c, v);
}

/* ---- checksum ---- */

struct sum {
	bxc_build *e;
	context *c;
	uint64_t ticket;
	selects selects;
	bxc_digest digest;
	bxc_err *err;
};

static void sum_work(void *ud)
{
	struct sum *s = ud;
	BXC_ARR(bxc_digest) digests = {0};
	int r = 0;
	BXC_ARR_FOREACH (sel, &s->selects) {
		r = bxc_tree_checksum(s->c->tree, sel, bxc_arr_push(&digests), &s->err);
		if (r < 0)
			break;
	}
	if (r >= 0)
		s->digest = bxc_solve_combine(digests.v, digests.n);
	bxc_arr_done(&digests);
}

void selects_add(selects *l, const bxc_solve_selector *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*bxc_arr_push(l) = (bxc_tree_select){
			.path = bxc_strdup(s[i].path),
			.wildcard = s[i].wildcard,
			.allow_empty = s[i].allow_empty,
			.follow = s[i].follow_symlink,
			.dir_contents = s[i].dir_contents,
			.include = bxc_strv_dup(s[i].include),
			.exclude = bxc_strv_dup(s[i].exclude),
		};
}

void selects_done(selects *l)
{
	BXC_ARR_FOREACH (sel, l) {
		free((void *)(uintptr_t)sel->path);
		bxc_strv_free((char **)(uintptr_t)sel->include);
		bxc_strv_free((char **)(uintptr_t)sel->exclude);
	}
	bxc_arr_done(l);
}

static void sum_free(struct sum *s)
{
	selects_done(&s->selects);
	context_unref(s->e, s->c);
	free(s);
}

static void fail_sum(struct sum *s, bxc_err *err_take, bool infra)
{
	bxc_solve_fail(s->e->solve, s->ticket, err_take, infra);
	sum_free(s);
}

static void sum_done(void *ud)
{
	struct sum *s = ud;
	bxc_build *e = s->e;
	if (s->err) {
		bxc_ignore(bxc_err_wrap(&s->err, 0, "failed to compute cache key"));
		fail_sum(s, BXC_TAKE(s->err), false);
	} else {
		bxc_solve_checksum(e->solve, s->ticket, &s->digest);
		sum_free(s);
	}
	pump(e);
}

static void start_sum(struct sum *s)
{
	bxc_err *err = NULL;
	if (bxc_pool_submit(s->e->c.pool, sum_work, s->e->c.loop, sum_done, s, &err) < 0)
		fail_sum(s, err, true);
}

void context_checksum(bxc_build *e, build *b, context *c, const bxc_def_vertex *v, const bxc_solve_action *a)
{
	struct sum *s = bxc_calloc(1, sizeof(*s));
	s->e = e;
	s->c = c;
	s->ticket = a->ticket;
	selects_add(&s->selects, a->selectors, a->n_selectors);
	context_ref(c);
	if (c->tree) {
		start_sum(s);
		return;
	}
	*bxc_arr_push(&c->sum_waiters) = s;
	start_scan(e, b, c, v);
}

/* ---- fetch ---- */

struct fetch {
	bxc_build *e;
	context *c;
	uint64_t task;
	size_t input;
	selects selects;
	bxc_cancel *cancel;
	/* what the pool finds */
	bool *taken;		 /* per entry of the context's tree: it is of the selection */
	BXC_ARR(uint32_t) wanted;    /* files of the selection */
	bxc_state_file *files;       /* parallel to wanted */
	bxc_digest tree;
	uint64_t tree_size;
	_Atomic uint64_t bytes;
	bxc_err *err;
};

static bool is_lacking(const task_input *in)
{
	return in->ctx && !bxc_digest_is_set(&in->tree);
}

/* Queues the task at the context of its next input that has no tree yet; false: there is none. */
static bool fetch_lacking_input(bxc_build *e, task *t)
{
	BXC_ARR_FOREACH (in, &t->inputs) {
		if (!is_lacking(in))
			continue;
		context *c = in->ctx;
		*bxc_arr_push(&c->fetch_queue) = t->id;
		context_fetch_next(e, c);
		return true;
	}
	return false;
}

static void fetch_finish(void *ud)
{
	struct fetch *f = ud;
	bxc_build *e = f->e;
	context *c = f->c;
	task *t = task_by_id(e, f->task);
	bxc_err *err = BXC_TAKE(f->err);
	c->fetching = false;
	if (t && !err) {
		t->inputs.v[f->input].tree = f->tree;
		t->inputs.v[f->input].tree_size = f->tree_size;
		build *b = build_of_context(e, c);
		BXC_AUTOFREE char *what = bxc_str_fmt("transferring %s:", c->name);
		c->fetched_bytes += f->bytes;
		if (b && f->bytes)
			report_vertex_status(b, c->vertex, what, c->fetched_bytes, 0, c->started_ns, true);
		if (!fetch_lacking_input(e, t))
			task_ready(e, t);
	} else if (t) {
		task_fail(e, t, err, bxc_err_code(err) == BXC_UNAVAILABLE);
	} else {
		bxc_err_free(err);
	}
	selects_done(&f->selects);
	free(f->taken);
	bxc_arr_done(&f->wanted);
	free(f->files);
	bxc_cancel_unref(f->cancel);
	free(f);
	context_fetch_next(e, c);
	context_unref(e, c);
	pump(e);
}

static void put_work(bxc_state *st, void *ud)
{
	struct fetch *f = ud;
	if (f->err || f->wanted.n == 0)
		return;
	bxc_ignore(bxc_state_files_put(st, f->files, f->wanted.n, &f->err));
}

static void fetched(void *ud)
{
	struct fetch *f = ud;
	bxc_db_submit(f->e->c.db, put_work, fetch_finish, f);
}

static void on_progress(uint64_t bytes, void *ud)
{
	struct fetch *f = ud;
	f->bytes = bytes;
}

/* Is the pack there? It is then used, and stays while the build runs. Asked once for each. */
static bool use_pack(struct fetch *f, bxc_map *packs, const bxc_digest *d)
{
	static char there, gone;
	char text[BXC_DIGEST_STR_MAX];
	if (!bxc_digest_is_set(d))
		return false;
	char *known = bxc_map_get(packs, bxc_digest_str(d, text));
	if (!known) {
		known = bxc_blob_freshen(f->e->c.blobs, d, NULL) >= 0 ? &there : &gone;
		bxc_map_set(packs, text, known);
	}
	return known == &there;
}

/* Sends for what is lacking, then writes the located tree of the selection as a blob. */
static int fetch_lacking(struct fetch *f, bxc_err **err)
{
	context *c = f->c;
	BXC_ARR(uint32_t) lacking = {0};
	BXC_CLEANUP(bxc_map_freep) bxc_map *packs = bxc_map_new(NULL);
	int r = 0;
	for (size_t i = 0; i < f->wanted.n; i++) {
		bxc_tree_entry *en = &c->tree->entries.v[f->wanted.v[i]];
		if (use_pack(f, packs, &f->files[i].pack)) {
			en->pack = f->files[i].pack;
			en->pack_off = f->files[i].offset;
		} else {
			*bxc_arr_push(&lacking) = f->wanted.v[i];
		}
	}
	if (lacking.n) {
		bxc_blob_info pack;
		r = bxc_sess_fetch(c->session, c->name, &c->digest, c->tree, lacking.v, lacking.n, f->e->c.blobs, f->cancel,
			on_progress, f, &pack, err);
	}
	bxc_arr_done(&lacking);
	if (r < 0)
		return r;
	for (size_t i = 0; i < f->wanted.n; i++) {
		const bxc_tree_entry *en = &c->tree->entries.v[f->wanted.v[i]];
		f->files[i] = (bxc_state_file){en->digest, en->pack, en->pack_off, en->size};
	}
	return 0;
}

/* The selection with its parents, as a tree whose files say where their content lies. */
static int write_located(struct fetch *f, bxc_err **err)
{
	const bxc_tree *all = f->c->tree;
	/* Borrowed entries: only the array is ours. Directories and links stay all: look-ups go through them. */
	bxc_tree part = {0};
	for (size_t i = 0; i < all->entries.n; i++)
		if (f->taken[i] || (all->entries.v[i].mode & S_IFMT) != S_IFREG)
			*bxc_arr_push(&part.entries) = all->entries.v[i];
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_TREE_BYTES_MAX);
	int r = bxc_tree_encode(&part, true, &text, err);
	bxc_arr_done(&part.entries);
	if (r < 0)
		return r;
	bxc_blob_info info;
	r = bxc_blob_put(f->e->c.blobs, text.data, text.len, &info, err);
	if (r < 0)
		return r;
	f->tree = info.digest;
	f->tree_size = info.size;
	return 0;
}

static void fetch_work(void *ud)
{
	struct fetch *f = ud;
	int r = fetch_lacking(f, &f->err);
	if (r >= 0)
		r = write_located(f, &f->err);
	bxc_ignore(r);
}

static void find_work(bxc_state *st, void *ud)
{
	struct fetch *f = ud;
	const bxc_tree *t = f->c->tree;
	int r = 0;
	f->taken = bxc_calloc(t->entries.n, sizeof(*f->taken));
	BXC_ARR_FOREACH (sel, &f->selects) {
		bxc_tree_indices idx = {0};
		r = bxc_tree_resolve(t, sel, &idx, &f->err);
		for (size_t i = 0; r >= 0 && i < idx.n; i++) {
			const bxc_tree_entry *en = &t->entries.v[idx.v[i]];
			/* Selections may overlap: a file is asked for once. */
			if (f->taken[idx.v[i]])
				continue;
			f->taken[idx.v[i]] = true;
			if ((en->mode & S_IFMT) == S_IFREG && !en->is_hardlink && bxc_digest_is_set(&en->digest))
				*bxc_arr_push(&f->wanted) = (uint32_t)idx.v[i];
		}
		bxc_arr_done(&idx);
		if (r < 0)
			return;
	}
	f->files = bxc_calloc(f->wanted.n, sizeof(*f->files));
	for (size_t i = 0; i < f->wanted.n; i++)
		f->files[i].file = t->entries.v[f->wanted.v[i]].digest;
	if (f->wanted.n)
		bxc_ignore(bxc_state_files_find(st, f->files, f->wanted.n, &f->err));
}

static void found(void *ud)
{
	struct fetch *f = ud;
	bxc_err *err = NULL;
	if (f->err) {
		fetch_finish(f);
		return;
	}
	if (bxc_pool_submit(f->e->c.pool, fetch_work, f->e->c.loop, fetched, f, &err) < 0) {
		f->err = err;
		fetch_finish(f);
	}
}

static void start_fetch(bxc_build *e, context *c, task *t)
{
	struct fetch *f = bxc_calloc(1, sizeof(*f));
	f->e = e;
	f->c = c;
	f->task = t->id;
	f->cancel = t->build ? bxc_cancel_ref(t->build->cancel) : NULL;
	/* The first input of this context that has no tree yet. */
	for (size_t i = 0; i < t->inputs.n; i++) {
		if (t->inputs.v[i].ctx == c && is_lacking(&t->inputs.v[i])) {
			f->input = i;
			break;
		}
	}
	f->selects = t->inputs.v[f->input].selects;
	t->inputs.v[f->input].selects = (selects){0};
	context_ref(c);
	c->fetching = true;
	bxc_db_submit(e->c.db, find_work, found, f);
}

void context_fetch_next(bxc_build *e, context *c)
{
	while (!c->fetching && c->fetch_queue.n) {
		task *t = task_by_id(e, c->fetch_queue.v[0]);
		bxc_arr_remove(&c->fetch_queue, 0);
		if (t)
			start_fetch(e, c, t);
	}
}

void context_fetch(bxc_build *e, task *t)
{
	bxc_check(fetch_lacking_input(e, t));
}
