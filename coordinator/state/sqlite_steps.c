/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of builds, and the files that their keys stand for. */
#include "coordinator/state/sqlite_internal.h"

static int step_put(bxc_state *st, const bxc_state_step *s, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_STEP_PUT, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, s->build);
	bxc_state__sq_bind_digest(stmt, 2, &s->vertex);
	sqlite3_bind_int64(stmt, 3, (int64_t)s->number);
	bxc_state__sq_bind_digest(stmt, 4, &s->lineage);
	bxc_state__sq_bind_digest(stmt, 5, &s->shape);
	bxc_state__sq_bind_text(stmt, 6, s->outcome);
	sqlite3_bind_int64(stmt, 7, (int64_t)s->record);
	sqlite3_bind_int64(stmt, 8, s->time_ns);
	bxc_state__sq_bind_text(stmt, 9, s->facts);
	r = bxc_state__sq_exec(q, stmt, err, "put step");
	if (r < 0)
		return r;
	if (sqlite3_changes(q->db) == 0)
		return bxc_err_set(err, BXC_NOT_FOUND, "no build '%s'", s->build);
	return 0;
}

static int take_step(sqlite3_stmt *stmt, bxc_state_step *s, bxc_err **err)
{
	s->build = bxc_state__sq_text(stmt, 0);
	s->number = (uint64_t)sqlite3_column_int64(stmt, 2);
	s->outcome = bxc_state__sq_text(stmt, 5);
	s->record = (uint64_t)sqlite3_column_int64(stmt, 6);
	s->time_ns = sqlite3_column_int64(stmt, 7);
	s->facts = bxc_state__sq_text(stmt, 8);
	if (!bxc_state__sq_digest(stmt, 1, &s->vertex) ||
		!bxc_state__sq_digest(stmt, 3, &s->lineage) ||
		!bxc_state__sq_digest(stmt, 4, &s->shape))
		return bxc_err_set(err, BXC_DATA_LOSS, "read steps: a field is no digest");
	return 0;
}

static int step_get(bxc_state *st, const char *build, const bxc_digest *vertex, bxc_state_step *ret,
	bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_STEP_GET, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, build);
	bxc_state__sq_bind_digest(stmt, 2, vertex);
	r = bxc_state__sq_row(q, stmt, err, "get step");
	if (r <= 0)
		return r;
	r = take_step(stmt, ret, err);
	if (r < 0)
		bxc_state_step_done(ret);
	return r < 0 ? r : 1;
}

static int take_steps(sq_state *q, sqlite3_stmt *stmt, bxc_state_steps *ret, bxc_err **err)
{
	int r;
	while ((r = bxc_state__sq_row(q, stmt, err, "list steps")) > 0) {
		r = take_step(stmt, bxc_arr_push(&ret->items), err);
		if (r < 0)
			return r;
	}
	return r;
}

static int steps_of_build(bxc_state *st, const char *build, const bxc_state_step *after,
	size_t limit, bxc_state_steps *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_STEPS_OF_BUILD, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, build);
	sqlite3_bind_int64(stmt, 2, after ? (int64_t)after->number : -1);
	bxc_state__sq_bind_digest(stmt, 3, after ? &after->vertex : &(bxc_digest){0});
	sqlite3_bind_int64(stmt, 4, (int64_t)limit);
	return take_steps(q, stmt, ret, err);
}

static int list_alike(bxc_state *st, sq_stmt which, const bxc_digest *by, const bxc_state_step *s,
	size_t limit, bxc_state_steps *ret, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, which, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, by);
	sqlite3_bind_int64(stmt, 2, s->time_ns);
	bxc_state__sq_bind_text(stmt, 3, s->build);
	sqlite3_bind_int64(stmt, 4, (int64_t)limit);
	return take_steps(q, stmt, ret, err);
}

static int steps_by_lineage(
	bxc_state *st, const bxc_state_step *s, size_t limit, bxc_state_steps *ret, bxc_err **err)
{
	return list_alike(st, SQ_STEPS_BY_LINEAGE, &s->lineage, s, limit, ret, err);
}

static int steps_by_shape(
	bxc_state *st, const bxc_state_step *s, size_t limit, bxc_state_steps *ret, bxc_err **err)
{
	return list_alike(st, SQ_STEPS_BY_SHAPE, &s->shape, s, limit, ret, err);
}

static int manifest_put(bxc_state *st, const bxc_digest *digest, const char *text, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_MANIFEST_PUT, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, digest);
	bxc_state__sq_bind_text(stmt, 2, text);
	return bxc_state__sq_exec(q, stmt, err, "put manifest");
}

static int manifest_get(bxc_state *st, const bxc_digest *digest, char **ret_text, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = 0;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_MANIFEST_GET, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_digest(stmt, 1, digest);
	r = bxc_state__sq_row(q, stmt, err, "get manifest");
	if (r > 0)
		*ret_text = bxc_state__sq_text(stmt, 0);
	return r;
}

static int manifest_use(bxc_state *st, const char *build, const bxc_digest *digest, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = bxc_state__sq_single(q, BXC_STATE_LAZY, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *text = NULL;
	r = manifest_get(st, digest, &text, err);
	if (r <= 0)
		return r;
	SQ_AUTOSTMT sqlite3_stmt *stmt = bxc_state__sq_stmt(q, SQ_MANIFEST_USE, &r, err);
	if (!stmt)
		return r;
	bxc_state__sq_bind_text(stmt, 1, build);
	bxc_state__sq_bind_digest(stmt, 2, digest);
	r = bxc_state__sq_exec(q, stmt, err, "use manifest");
	return r < 0 ? r : 1;
}

void bxc_state__sq_steps_ops(bxc_state_ops *ops)
{
	ops->step_put = step_put;
	ops->step_get = step_get;
	ops->steps_of_build = steps_of_build;
	ops->steps_by_lineage = steps_by_lineage;
	ops->steps_by_shape = steps_by_shape;
	ops->manifest_put = manifest_put;
	ops->manifest_get = manifest_get;
	ops->manifest_use = manifest_use;
}
