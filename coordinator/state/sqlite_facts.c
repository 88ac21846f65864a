/* SPDX-License-Identifier: Apache-2.0 */
/* Layers, context files, tokens, settings, durations. */
#include "coordinator/state/sqlite_internal.h"

/* ---- statements with one or two texts ---- */

static int put_text(sq_state *q, sq_stmt which, bxc_state_durability d, const char *a,
	const char *b, bxc_err **err, const char *doing)
{
	int r = bxc_state__sq_single(q, d, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, which, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, a);
	if (b)
		bxc_state__sq_bind_text(stmt, 2, b);
	return bxc_state__sq_exec(q, stmt, err, doing);
}

static int get_text(
	sq_state *q, sq_stmt which, const char *key, char **ret, bxc_err **err, const char *what)
{
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, which, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, key);
	r = bxc_state__sq_row(q, stmt, err, what);
	if (r < 0)
		return r;
	if (r == 0)
		return bxc_err_set(err, BXC_NOT_FOUND, "no %s '%s'", what, key);
	*ret = bxc_state__sq_text(stmt, 0);
	return 0;
}

/* ---- layers ---- */

static int layer_put(bxc_state *st, const char *layer, const char *facts, bxc_err **err)
{
	return put_text(sq_of(st), SQ_LAYER_PUT, BXC_STATE_LAZY, layer, facts, err, "put layer");
}

static int layer_get(bxc_state *st, const char *layer, char **ret_facts, bxc_err **err)
{
	return get_text(sq_of(st), SQ_LAYER_GET, layer, ret_facts, err, "layer");
}

static int layer_delete(bxc_state *st, const char *layer, bxc_err **err)
{
	return put_text(
		sq_of(st), SQ_LAYER_DELETE, BXC_STATE_LAZY, layer, NULL, err, "delete layer");
}

/* ---- files: a pack is named by a number, for there are many files in one ---- */

static int by_digest(
	sq_state *q, sq_stmt which, const bxc_digest *d, bxc_err **err, const char *doing)
{
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, which, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, d);
	return bxc_state__sq_exec(q, stmt, err, doing);
}

static int find_pack(sq_state *q, const bxc_digest *pack, int64_t *ret_n, bxc_err **err)
{
	int r = by_digest(q, SQ_PACK_ADD, pack, err, "add pack");
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_PACK_FIND, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, pack);
	r = bxc_state__sq_row(q, stmt, err, "find pack");
	if (r < 0)
		return r;
	*ret_n = sqlite3_column_int64(stmt, 0);
	return 0;
}

static int put_file(sq_state *q, const bxc_state_file *f, int64_t pack, bxc_err **err)
{
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_FILE_PUT, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, &f->file);
	sqlite3_bind_int64(stmt, 2, pack);
	sqlite3_bind_int64(stmt, 3, (int64_t)f->offset);
	sqlite3_bind_int64(stmt, 4, (int64_t)f->size);
	return bxc_state__sq_exec(q, stmt, err, "put file");
}

static int files_put(bxc_state *st, const bxc_state_file *files, size_t n, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_enter(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	int64_t pack = 0;
	for (size_t i = 0; i < n && r >= 0; i++) {
		if (i == 0 || !bxc_digest_eq(&files[i].pack, &files[i - 1].pack))
			r = find_pack(q, &files[i].pack, &pack, err);
		if (r >= 0)
			r = put_file(q, &files[i], pack, err);
	}
	return bxc_state__sq_leave(q, r, err);
}

static int find_file(sq_state *q, bxc_state_file *f, bxc_err **err)
{
	f->pack = (bxc_digest){0};
	f->offset = f->size = 0;
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_FILE_FIND, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, &f->file);
	r = bxc_state__sq_row(q, stmt, err, "find file");
	if (r <= 0)
		return r;
	if (!bxc_state__sq_digest(stmt, 0, &f->pack))
		return bxc_err_set(err, BXC_DATA_LOSS, "find file: its row is damaged");
	f->offset = (uint64_t)sqlite3_column_int64(stmt, 1);
	f->size = (uint64_t)sqlite3_column_int64(stmt, 2);
	return 1;
}

static int files_find(bxc_state *st, bxc_state_file *files, size_t n, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_enter(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	int found = 0;
	for (size_t i = 0; i < n && r >= 0; i++) {
		r = find_file(q, &files[i], err);
		found += r > 0;
	}
	r = bxc_state__sq_leave(q, r, err);
	return r < 0 ? r : found;
}

static int files_drop_pack(bxc_state *st, const bxc_digest *pack, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_enter(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	r = by_digest(q, SQ_FILES_DELETE, pack, err, "forget files of a pack");
	if (r >= 0)
		r = by_digest(q, SQ_PACK_DELETE, pack, err, "forget pack");
	return bxc_state__sq_leave(q, r, err);
}

/* ---- tokens ---- */

static int token_add(bxc_state *st, const bxc_state_token *t, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_DURABLE, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_TOKEN_ADD, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, &t->hash);
	bxc_state__sq_bind_text(stmt, 2, t->name);
	bxc_state__sq_bind_text(stmt, 3, t->scopes);
	bxc_state__sq_bind_text(stmt, 4, t->tenant);
	sqlite3_bind_int64(stmt, 5, t->created_ns);
	return bxc_state__sq_exec(q, stmt, err, "add token");
}

static int take_token(sqlite3_stmt *stmt, bxc_state_token *t, bxc_err **err)
{
	if (!bxc_state__sq_digest(stmt, 0, &t->hash))
		return bxc_err_set(err, BXC_DATA_LOSS, "read token: its row is damaged");
	t->name = bxc_state__sq_text(stmt, 1);
	t->scopes = bxc_state__sq_text(stmt, 2);
	t->tenant = bxc_state__sq_text(stmt, 3);
	t->created_ns = sqlite3_column_int64(stmt, 4);
	return 0;
}

static int token_find(bxc_state *st, const bxc_digest *hash, bxc_state_token *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_TOKEN_FIND, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, hash);
	r = bxc_state__sq_row(q, stmt, err, "find token");
	if (r < 0)
		return r;
	if (r == 0)
		return bxc_err_set(err, BXC_NOT_FOUND, "no such token");
	bxc_state_token t = {0};
	r = take_token(stmt, &t, err);
	if (r < 0)
		return r;
	*ret = t;
	return 0;
}

static int token_delete(bxc_state *st, const char *name, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = put_text(q, SQ_TOKEN_DELETE, BXC_STATE_DURABLE, name, NULL, err, "delete token");
	if (r < 0)
		return r;
	return sqlite3_changes(q->db) ? 0 : bxc_err_set(err, BXC_NOT_FOUND, "no token '%s'", name);
}

static int token_list(bxc_state *st, bxc_state_tokens *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_TOKEN_LIST, &r, err);
	if (!stmt)
		return r;
	sqlite3_bind_int64(stmt, 1, BXC_STATE_LIMIT_LIST);
	while ((r = bxc_state__sq_row(q, stmt, err, "list tokens")) > 0) {
		r = take_token(stmt, bxc_arr_push(&ret->items), err);
		if (r < 0)
			return r;
	}
	return r;
}

/* ---- settings ---- */

static int setting_get(bxc_state *st, const char *key, char **ret_value, bxc_err **err)
{
	return get_text(sq_of(st), SQ_SETTING_GET, key, ret_value, err, "setting");
}

static int setting_set(bxc_state *st, const char *key, const char *value, bxc_err **err)
{
	return put_text(
		sq_of(st), SQ_SETTING_SET, BXC_STATE_DURABLE, key, value, err, "set setting");
}

static int setting_init(
	bxc_state *st, const char *key, const char *value, char **ret_value, bxc_err **err)
{
	int r = put_text(
		sq_of(st), SQ_SETTING_INIT, BXC_STATE_DURABLE, key, value, err, "set setting");
	if (r < 0)
		return r;
	return setting_get(st, key, ret_value, err);
}

/* ---- durations ---- */

static int duration_put(bxc_state *st, const bxc_state_duration *d, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_DURATION_PUT, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, &d->key);
	sqlite3_bind_int64(stmt, 2, d->used_ns);
	bxc_state__sq_bind_text(stmt, 3, d->times);
	return bxc_state__sq_exec(q, stmt, err, "put duration");
}

static int duration_list(bxc_state *st, size_t limit, bxc_state_durations *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_DURATION_LIST, &r, err);
	if (!stmt)
		return r;
	sqlite3_bind_int64(stmt, 1, (int64_t)limit);
	while ((r = bxc_state__sq_row(q, stmt, err, "list durations")) > 0) {
		bxc_state_duration *d = bxc_arr_push(&ret->items);
		d->used_ns = sqlite3_column_int64(stmt, 1);
		d->times = bxc_state__sq_text(stmt, 2);
		if (!bxc_state__sq_digest(stmt, 0, &d->key))
			return bxc_err_set(err, BXC_DATA_LOSS, "list durations: a key is no digest");
	}
	return r;
}

static int durations_trim(bxc_state *st, size_t keep, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_DURATIONS_TRIM, &r, err);
	if (!stmt)
		return r;
	sqlite3_bind_int64(stmt, 1, (int64_t)keep);
	return bxc_state__sq_exec(q, stmt, err, "forget durations");
}

void bxc_state__sq_facts_ops(bxc_state_ops *ops)
{
	ops->layer_put = layer_put;
	ops->layer_get = layer_get;
	ops->layer_delete = layer_delete;
	ops->files_put = files_put;
	ops->files_find = files_find;
	ops->files_drop_pack = files_drop_pack;
	ops->token_add = token_add;
	ops->token_find = token_find;
	ops->token_delete = token_delete;
	ops->token_list = token_list;
	ops->setting_get = setting_get;
	ops->setting_set = setting_set;
	ops->setting_init = setting_init;
	ops->duration_put = duration_put;
	ops->duration_list = duration_list;
	ops->durations_trim = durations_trim;
}
