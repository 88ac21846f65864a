/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts: what was under way, for a coordinator that starts again. */
#include "coordinator/state/sqlite_internal.h"

static int attempt_put(bxc_state *st, const bxc_state_attempt *a, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_ATTEMPT_PUT, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, a->task);
	sqlite3_bind_int64(stmt, 2, (int64_t)a->epoch);
	bxc_state__sq_bind_digest(stmt, 3, &a->key);
	sqlite3_bind_int(stmt, 4, a->fresh);
	bxc_state__sq_bind_text(stmt, 5, a->build);
	bxc_state__sq_bind_text(stmt, 6, a->worker);
	sqlite3_bind_int64(stmt, 7, (int64_t)a->record);
	bxc_state__sq_bind_text(stmt, 8, a->facts);
	return bxc_state__sq_exec(q, stmt, err, "put attempt");
}

static int attempt_delete(bxc_state *st, const char *task, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_ATTEMPT_DELETE, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, task);
	return bxc_state__sq_exec(q, stmt, err, "delete attempt");
}

static int attempts_forget(bxc_state *st, const char *build, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_ATTEMPTS_FORGET, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, build);
	return bxc_state__sq_exec(q, stmt, err, "forget attempts");
}

static int attempt_list(bxc_state *st, bxc_state_attempts *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_ATTEMPT_LIST, &r, err);
	if (!stmt)
		return r;
	while ((r = bxc_state__sq_row(q, stmt, err, "list attempts")) > 0) {
		bxc_state_attempt *a = bxc_arr_push(&ret->items);
		a->task = bxc_state__sq_text(stmt, 0);
		a->epoch = (uint64_t)sqlite3_column_int64(stmt, 1);
		a->fresh = sqlite3_column_int(stmt, 3);
		a->build = bxc_state__sq_text(stmt, 4);
		a->worker = bxc_state__sq_text(stmt, 5);
		a->record = (uint64_t)sqlite3_column_int64(stmt, 6);
		a->facts = bxc_state__sq_text(stmt, 7);
		if (!bxc_state__sq_digest(stmt, 2, &a->key))
			return bxc_err_set(err, BXC_DATA_LOSS, "list attempts: a key is no digest");
	}
	return r;
}

void bxc_state__sq_attempts_ops(bxc_state_ops *ops)
{
	ops->attempt_put = attempt_put;
	ops->attempt_delete = attempt_delete;
	ops->attempts_forget = attempts_forget;
	ops->attempt_list = attempt_list;
}
