/* SPDX-License-Identifier: Apache-2.0 */
/* Builds and their events. */
#include "coordinator/state/sqlite_internal.h"

static int no_build(const char *id, bxc_err **err)
{
	return bxc_err_set(err, BXC_NOT_FOUND, "no build '%s'", id);
}

static int build_add(bxc_state *st, const bxc_state_build *b, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_DURABLE, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_BUILD_ADD, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, b->id);
	bxc_state__sq_bind_text(stmt, 2, b->name);
	bxc_state__sq_bind_text(stmt, 3, b->tenant);
	bxc_state__sq_bind_text(stmt, 4, b->status);
	sqlite3_bind_int64(stmt, 5, b->created_ns);
	sqlite3_bind_int64(stmt, 6, b->completed_ns);
	bxc_state__sq_bind_text(stmt, 7, b->request);
	bxc_state__sq_bind_text(stmt, 8, b->error);
	bxc_state__sq_bind_text(stmt, 9, b->result);
	return bxc_state__sq_exec(q, stmt, err, "add build");
}

static int build_update(bxc_state *st, const char *id, const char *status, int64_t completed_ns,
	const char *error, const char *result, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_DURABLE, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_BUILD_UPDATE, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, id);
	bxc_state__sq_bind_text(stmt, 2, status);
	sqlite3_bind_int64(stmt, 3, completed_ns);
	bxc_state__sq_bind_text(stmt, 4, error);
	bxc_state__sq_bind_text(stmt, 5, result);
	r = bxc_state__sq_exec(q, stmt, err, "update build");
	if (r < 0)
		return r;
	return sqlite3_changes(q->db) ? 0 : no_build(id, err);
}

static void take_build(sqlite3_stmt *stmt, bxc_state_build *b)
{
	b->id = bxc_state__sq_text(stmt, 0);
	b->name = bxc_state__sq_text(stmt, 1);
	b->tenant = bxc_state__sq_text(stmt, 2);
	b->status = bxc_state__sq_text(stmt, 3);
	b->created_ns = sqlite3_column_int64(stmt, 4);
	b->completed_ns = sqlite3_column_int64(stmt, 5);
	b->error = bxc_state__sq_text(stmt, 6);
	b->result = bxc_state__sq_text(stmt, 7);
	b->request = bxc_state__sq_text(stmt, 8);
}

static int build_get(bxc_state *st, const char *id, bxc_state_build *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_BUILD_GET, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, id);
	r = bxc_state__sq_row(q, stmt, err, "get build");
	if (r < 0)
		return r;
	if (r == 0)
		return no_build(id, err);
	take_build(stmt, ret);
	return 0;
}

static int delete_by_id(sq_state *q, sq_stmt which, const char *id, bxc_err **err)
{
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, which, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, id);
	r = bxc_state__sq_exec(q, stmt, err, "delete build");
	return r < 0 ? r : sqlite3_changes(q->db);
}

static int build_delete(bxc_state *st, const char *id, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_enter(q, BXC_STATE_DURABLE, err);
	if (r < 0)
		return r;
	static const sq_stmt in_order[] = {SQ_EVENTS_DELETE, SQ_STEPS_DELETE, SQ_MANIFESTS_DELETE,
		SQ_MANIFEST_USES_DELETE, SQ_BUILD_DELETE};
	for (size_t i = 0; r >= 0 && i < BXC_ARRAY_SIZE(in_order); i++)
		r = delete_by_id(q, in_order[i], id, err);
	if (r == 0)
		r = no_build(id, err);
	r = bxc_state__sq_leave(q, r, err);
	return r < 0 ? r : 0;
}

static int build_list(
	bxc_state *st, const bxc_state_build_filter *f, bxc_state_builds *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_BUILD_LIST, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, f->status);
	bxc_state__sq_bind_text(stmt, 2, f->tenant);
	bxc_state__sq_bind_text(stmt, 3, f->after);
	sqlite3_bind_int(stmt, 4, f->without_request);
	sqlite3_bind_int64(stmt, 5, (int64_t)f->limit);
	while ((r = bxc_state__sq_row(q, stmt, err, "list builds")) > 0)
		take_build(stmt, bxc_arr_push(&ret->items));
	return r;
}

static int add_event(sq_state *q, const char *build, const bxc_state_event *e, bxc_err **err)
{
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_EVENT_ADD, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, build);
	sqlite3_bind_int64(stmt, 2, (int64_t)e->seq);
	bxc_state__sq_bind_text(stmt, 3, e->text);
	r = bxc_state__sq_exec(q, stmt, err, "append event");
	if (r < 0)
		return r;
	return sqlite3_changes(q->db) ? 0 : no_build(build, err);
}

static int events_append(
	bxc_state *st, const char *build, const bxc_state_event *items, size_t n, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_enter(q, BXC_STATE_DURABLE, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r >= 0; i++)
		r = add_event(q, build, &items[i], err);
	return bxc_state__sq_leave(q, r, err);
}

static int events_read(bxc_state *st, const char *build, uint64_t from_seq, size_t limit,
	bxc_state_events *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_EVENTS_READ, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, build);
	sqlite3_bind_int64(stmt, 2, (int64_t)from_seq);
	sqlite3_bind_int64(stmt, 3, (int64_t)limit);
	while ((r = bxc_state__sq_row(q, stmt, err, "read events")) > 0) {
		bxc_state_event *e = bxc_arr_push(&ret->items);
		e->seq = (uint64_t)sqlite3_column_int64(stmt, 0);
		e->text = bxc_state__sq_text(stmt, 1);
	}
	return r;
}

static int events_last(bxc_state *st, const char *build, uint64_t *ret_seq, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_EVENTS_LAST, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, build);
	r = bxc_state__sq_row(q, stmt, err, "read events");
	if (r < 0)
		return r;
	*ret_seq = r ? (uint64_t)sqlite3_column_int64(stmt, 0) : 0;
	return 0;
}

void bxc_state__sq_builds_ops(bxc_state_ops *ops)
{
	ops->build_add = build_add;
	ops->build_update = build_update;
	ops->build_get = build_get;
	ops->build_delete = build_delete;
	ops->build_list = build_list;
	ops->events_append = events_append;
	ops->events_read = events_read;
	ops->events_last = events_last;
}
