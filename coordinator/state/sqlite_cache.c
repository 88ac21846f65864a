/* SPDX-License-Identifier: Apache-2.0 */
/* Records of the build cache and the keys that lead to them. */
#include "coordinator/state/sqlite_internal.h"

static int no_record(uint64_t id, bxc_err **err)
{
	return bxc_err_set(err, BXC_NOT_FOUND, "no cache record %llu", (unsigned long long)id);
}

static int record_add(bxc_state *st, const bxc_state_record *rec, uint64_t *ret_id, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_RECORD_ADD, &r, err);
	if (!stmt)
		return r;
	sqlite3_bind_int64(stmt, 1, rec->created_ns);
	sqlite3_bind_int64(stmt, 2, rec->duration_ns);
	bxc_state__sq_bind_text(stmt, 3, rec->result);
	r = bxc_state__sq_exec(q, stmt, err, "add cache record");
	if (r < 0)
		return r;
	*ret_id = (uint64_t)sqlite3_last_insert_rowid(q->db);
	return 0;
}

static void take_record(sqlite3_stmt *stmt, bxc_state_record *r)
{
	r->id = (uint64_t)sqlite3_column_int64(stmt, 0);
	r->created_ns = sqlite3_column_int64(stmt, 1);
	r->duration_ns = sqlite3_column_int64(stmt, 2);
	r->last_used_ns = sqlite3_column_int64(stmt, 3);
	r->result = bxc_state__sq_text(stmt, 4);
}

static int record_get(bxc_state *st, uint64_t id, bxc_state_record *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_RECORD_GET, &r, err);
	if (!stmt)
		return r;
	sqlite3_bind_int64(stmt, 1, (int64_t)id);
	r = bxc_state__sq_row(q, stmt, err, "get cache record");
	if (r < 0)
		return r;
	if (r == 0)
		return no_record(id, err);
	take_record(stmt, ret);
	return 0;
}

static int record_update(bxc_state *st, uint64_t id, const char *result, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_RECORD_UPDATE, &r, err);
	if (!stmt)
		return r;
	sqlite3_bind_int64(stmt, 1, (int64_t)id);
	bxc_state__sq_bind_text(stmt, 2, result);
	r = bxc_state__sq_exec(q, stmt, err, "update cache record");
	if (r < 0)
		return r;
	return sqlite3_changes(q->db) ? 0 : no_record(id, err);
}

static int delete_by_record(sq_state *q, sq_stmt which, uint64_t id, bxc_err **err)
{
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, which, &r, err);
	if (!stmt)
		return r;
	sqlite3_bind_int64(stmt, 1, (int64_t)id);
	return bxc_state__sq_exec(q, stmt, err, "delete cache record");
}

static int record_delete(bxc_state *st, uint64_t id, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_enter(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	r = delete_by_record(q, SQ_RECORD_KEYS_DELETE, id, err);
	if (r >= 0)
		r = delete_by_record(q, SQ_RECORD_DELETE, id, err);
	return bxc_state__sq_leave(q, r, err);
}

static int record_list(bxc_state *st, size_t limit, bxc_state_records *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_RECORD_LIST, &r, err);
	if (!stmt)
		return r;
	sqlite3_bind_int64(stmt, 1, (int64_t)limit);
	while ((r = bxc_state__sq_row(q, stmt, err, "list cache records")) > 0)
		take_record(stmt, bxc_arr_push(&ret->items));
	return r;
}

static int add_key(sq_state *q, const bxc_digest *key, uint64_t record, const bxc_digest *canonical,
	int64_t now_ns, bxc_err **err)
{
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_KEY_ADD, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, key);
	sqlite3_bind_int64(stmt, 2, (int64_t)record);
	bxc_state__sq_bind_digest(stmt, 3, canonical);
	sqlite3_bind_int64(stmt, 4, now_ns);
	r = bxc_state__sq_exec(q, stmt, err, "add cache key");
	if (r < 0)
		return r;
	return sqlite3_changes(q->db) ? 0 : no_record(record, err);
}

static int keys_add(bxc_state *st, const bxc_digest *keys, size_t n, uint64_t record,
	const bxc_digest *canonical, int64_t now_ns, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_enter(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r >= 0; i++)
		r = add_key(q, &keys[i], record, canonical, now_ns, err);
	return bxc_state__sq_leave(q, r, err);
}

static int key_lookup(bxc_state *st, const bxc_digest *key, bxc_state_hit *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_KEY_LOOKUP, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, key);
	r = bxc_state__sq_row(q, stmt, err, "look up cache key");
	if (r <= 0)
		return r;
	bxc_state_hit hit = {.record = (uint64_t)sqlite3_column_int64(stmt, 0)};
	if (!bxc_state__sq_digest(stmt, 1, &hit.canonical))
		return bxc_err_set(err, BXC_DATA_LOSS, "look up cache key: its row is damaged");
	*ret = hit;
	return 1;
}

static int touch_key(
	sq_state *q, sq_stmt which, const bxc_digest *key, int64_t now_ns, bxc_err **err)
{
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, which, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, key);
	sqlite3_bind_int64(stmt, 2, now_ns);
	return bxc_state__sq_exec(q, stmt, err, "touch cache key");
}

static int keys_touch(
	bxc_state *st, const bxc_digest *keys, size_t n, int64_t now_ns, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_enter(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r >= 0; i++) {
		r = touch_key(q, SQ_KEY_TOUCH, &keys[i], now_ns, err);
		if (r >= 0)
			r = touch_key(q, SQ_RECORD_TOUCH, &keys[i], now_ns, err);
	}
	return bxc_state__sq_leave(q, r, err);
}

void bxc_state__sq_cache_ops(bxc_state_ops *ops)
{
	ops->record_add = record_add;
	ops->record_get = record_get;
	ops->record_update = record_update;
	ops->record_delete = record_delete;
	ops->record_list = record_list;
	ops->keys_add = keys_add;
	ops->key_lookup = key_lookup;
	ops->keys_touch = keys_touch;
}
