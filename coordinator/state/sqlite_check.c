/* SPDX-License-Identifier: Apache-2.0 */
/* Looking after the store: what SQLite says of its file, and what rows say of each other. */
#include "coordinator/state/sqlite_internal.h"

#include <inttypes.h>

static int ask(sq_state *q, const char *sql, const char *shown, char ***ret, bxc_err **err)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(q->db, sql, -1, &stmt, NULL);
	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		const char *text = (const char *)sqlite3_column_text(stmt, 0);
		if (!shown && !bxc_str_eq(text, "ok"))
			bxc_strv_push(ret, text ? text : "");
		else if (shown && sqlite3_column_int64(stmt, 0))
			bxc_strv_pushf(
				ret, "%lld %s", (long long)sqlite3_column_int64(stmt, 0), shown);
	}
	sqlite3_finalize(stmt);
	return rc == SQLITE_DONE ? 0 : bxc_state__sq_err(q, rc, err, "check the store");
}

static int check(bxc_state *st, char ***ret_problems, bxc_err **err)
{
	static const struct {
		const char *sql, *shown; /* NULL: lines of text */
	} questions[] = {
		{"PRAGMA integrity_check(20)", NULL},
		{"SELECT count(*) FROM keys WHERE record NOT IN (SELECT id FROM records)",
			"keys of records that are not there"},
		{"SELECT count(*) FROM events WHERE build NOT IN (SELECT n FROM builds)",
			"events of builds that are not there"},
		{"SELECT count(*) FROM files WHERE pack NOT IN (SELECT n FROM packs)",
			"files in packs that are not there"},
		{"SELECT count(*) FROM steps WHERE build NOT IN (SELECT n FROM builds)",
			"steps of builds that are not there"},
		{"SELECT count(*) FROM manifest_uses WHERE digest NOT IN (SELECT digest FROM "
		 "manifests)",
			"uses of manifests that are not there"},
	};
	sq_state *q = sq_of(st);
	int r = 0;
	for (size_t i = 0; r >= 0 && i < BXC_ARRAY_SIZE(questions); i++)
		r = ask(q, questions[i].sql, questions[i].shown, ret_problems, err);
	return r;
}

void bxc_state__sq_check_ops(bxc_state_ops *ops)
{
	ops->check = check;
}
