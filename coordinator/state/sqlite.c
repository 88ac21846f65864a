/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, migrating, transactions and statements of the SQLite backend.
 *
 * The file is held exclusively: two coordinators on one file would each believe to know its state.
 * The journal is a WAL. Lazy transactions commit with synchronous=NORMAL (no fsync), durable ones
 * with FULL (fsync of the WAL, which takes the lazy commits before it along).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "coordinator/state/sqlite_internal.h"

#define APPLICATION_ID 0x42584353 /* "BXCS", in the header of the file */

/* Step k brings a store from version k to k + 1. Released steps are never edited; FORMAT.md
 * explains. */
static const char *const migrations[] = {
	"CREATE TABLE builds(n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
	" name TEXT, tenant TEXT, status TEXT NOT NULL, created_ns INTEGER NOT NULL,"
	" completed_ns INTEGER NOT NULL, error TEXT, result TEXT, request TEXT NOT NULL) STRICT;"
	"CREATE INDEX builds_by_time ON builds(created_ns, n);"
	"CREATE TABLE events(build INTEGER NOT NULL, seq INTEGER NOT NULL, text TEXT NOT NULL,"
	" PRIMARY KEY(build, seq)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE records(id INTEGER PRIMARY KEY AUTOINCREMENT, created_ns INTEGER NOT NULL,"
	" duration_ns INTEGER NOT NULL, last_used_ns INTEGER NOT NULL, result TEXT NOT NULL) "
	"STRICT;"
	"CREATE INDEX records_by_use ON records(last_used_ns, id);"
	"CREATE TABLE keys(key BLOB PRIMARY KEY, record INTEGER NOT NULL, canonical BLOB NOT NULL,"
	" created_ns INTEGER NOT NULL, last_used_ns INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE INDEX keys_by_record ON keys(record);"
	"CREATE TABLE layers(id TEXT PRIMARY KEY, facts TEXT NOT NULL) STRICT;"
	"CREATE TABLE packs(n INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE) "
	"STRICT;"
	"CREATE TABLE files(file BLOB PRIMARY KEY, pack INTEGER NOT NULL, place INTEGER NOT NULL,"
	" size INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE INDEX files_by_pack ON files(pack);"
	"CREATE TABLE tokens(name TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, scopes TEXT NOT "
	"NULL,"
	" tenant TEXT, created_ns INTEGER NOT NULL) STRICT;"
	"CREATE TABLE settings(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;",

	"CREATE TABLE attempts(task TEXT PRIMARY KEY, epoch INTEGER NOT NULL, key BLOB NOT NULL,"
	" fresh INTEGER NOT NULL, build TEXT NOT NULL, worker TEXT NOT NULL,"
	" record INTEGER NOT NULL, facts TEXT NOT NULL) STRICT;"
	"CREATE INDEX attempts_by_build ON attempts(build);",

	"CREATE TABLE steps(build INTEGER NOT NULL, vertex BLOB NOT NULL, number INTEGER NOT NULL,"
	" lineage BLOB NOT NULL, shape BLOB NOT NULL, outcome TEXT NOT NULL,"
	" record INTEGER NOT NULL, time_ns INTEGER NOT NULL, facts TEXT NOT NULL,"
	" PRIMARY KEY(build, vertex)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX steps_by_lineage ON steps(lineage, time_ns) WHERE record <> 0;"
	"CREATE INDEX steps_by_shape ON steps(shape, time_ns) WHERE record <> 0;"
	"CREATE TABLE manifests(digest BLOB PRIMARY KEY, text TEXT NOT NULL) STRICT;"
	"CREATE TABLE manifest_uses(build INTEGER NOT NULL, digest BLOB NOT NULL,"
	" PRIMARY KEY(build, digest)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX manifest_uses_by_digest ON manifest_uses(digest);",
	"CREATE TABLE durations(key BLOB PRIMARY KEY, used_ns INTEGER NOT NULL, times TEXT NOT NULL)"
	" STRICT, WITHOUT ROWID;"
	"CREATE INDEX durations_by_use ON durations(used_ns);",
};

#define SELECT_STEP                                                                                \
	"SELECT builds.id, vertex, number, lineage, shape, outcome, record, time_ns, facts"        \
	" FROM steps JOIN builds ON builds.n = steps.build"

static const char *const sql[SQ_N_STMTS] = {
	[SQ_BUILD_ADD] = "INSERT INTO builds(id, name, tenant, status, created_ns, completed_ns, "
			 "request, error, result)"
			 " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
	[SQ_BUILD_UPDATE] = "UPDATE builds SET status = ?2, completed_ns = ?3, error = ?4, result "
			    "= ?5 WHERE id = ?1",
	[SQ_BUILD_GET] =
		"SELECT id, name, tenant, status, created_ns, completed_ns, error, result, request"
		" FROM builds WHERE id = ?1",
	[SQ_BUILD_DELETE] = "DELETE FROM builds WHERE id = ?1",
	[SQ_BUILD_LIST] =
		"SELECT id, name, tenant, status, created_ns, completed_ns, error, result,"
		" CASE WHEN ?4 THEN NULL ELSE request END FROM builds"
		" WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR tenant = ?2)"
		" AND (?3 IS NULL OR (created_ns, n) < (SELECT created_ns, n FROM builds WHERE id "
		"= ?3))"
		" ORDER BY created_ns DESC, n DESC LIMIT ?5",
	[SQ_EVENT_ADD] =
		"INSERT INTO events(build, seq, text) SELECT n, ?2, ?3 FROM builds WHERE id = ?1",
	[SQ_EVENTS_READ] =
		"SELECT seq, text FROM events WHERE build = (SELECT n FROM builds WHERE id = ?1)"
		" AND seq >= ?2 ORDER BY seq LIMIT ?3",
	[SQ_EVENTS_LAST] =
		"SELECT max(seq) FROM events WHERE build = (SELECT n FROM builds WHERE id = ?1)",
	[SQ_EVENTS_DELETE] =
		"DELETE FROM events WHERE build = (SELECT n FROM builds WHERE id = ?1)",
	[SQ_RECORD_ADD] = "INSERT INTO records(created_ns, duration_ns, last_used_ns, result) "
			  "VALUES(?1, ?2, ?1, ?3)",
	[SQ_RECORD_GET] = "SELECT id, created_ns, duration_ns, last_used_ns, result FROM records "
			  "WHERE id = ?1",
	[SQ_RECORD_UPDATE] = "UPDATE records SET result = ?2 WHERE id = ?1",
	[SQ_RECORD_DELETE] = "DELETE FROM records WHERE id = ?1",
	[SQ_RECORD_KEYS_DELETE] = "DELETE FROM keys WHERE record = ?1",
	[SQ_RECORD_LIST] = "SELECT id, created_ns, duration_ns, last_used_ns, result FROM records"
			   " ORDER BY last_used_ns, id LIMIT ?1",
	[SQ_RECORD_TOUCH] = "UPDATE records SET last_used_ns = ?2 WHERE id = (SELECT record FROM "
			    "keys WHERE key = ?1)"
			    " AND last_used_ns < ?2",
	[SQ_KEY_ADD] = "INSERT INTO keys(key, record, canonical, created_ns, last_used_ns)"
		       " SELECT ?1, id, ?3, ?4, ?4 FROM records WHERE id = ?2"
		       " ON CONFLICT(key) DO UPDATE SET record = excluded.record, canonical = "
		       "excluded.canonical,"
		       " created_ns = excluded.created_ns, last_used_ns = excluded.last_used_ns",
	[SQ_KEY_LOOKUP] = "SELECT record, canonical FROM keys WHERE key = ?1",
	[SQ_KEY_TOUCH] = "UPDATE keys SET last_used_ns = ?2 WHERE key = ?1",
	[SQ_LAYER_PUT] = "INSERT INTO layers(id, facts) VALUES(?1, ?2)"
			 " ON CONFLICT(id) DO UPDATE SET facts = excluded.facts",
	[SQ_LAYER_GET] = "SELECT facts FROM layers WHERE id = ?1",
	[SQ_LAYER_DELETE] = "DELETE FROM layers WHERE id = ?1",
	[SQ_PACK_ADD] = "INSERT INTO packs(digest) VALUES(?1) ON CONFLICT(digest) DO NOTHING",
	[SQ_PACK_FIND] = "SELECT n FROM packs WHERE digest = ?1",
	[SQ_PACK_DELETE] = "DELETE FROM packs WHERE digest = ?1",
	[SQ_FILE_PUT] =
		"INSERT INTO files(file, pack, place, size) VALUES(?1, ?2, ?3, ?4)"
		" ON CONFLICT(file) DO UPDATE SET pack = excluded.pack, place = excluded.place,"
		" size = excluded.size",
	[SQ_FILE_FIND] =
		"SELECT packs.digest, place, size FROM files JOIN packs ON packs.n = files.pack"
		" WHERE file = ?1",
	[SQ_FILES_DELETE] =
		"DELETE FROM files WHERE pack = (SELECT n FROM packs WHERE digest = ?1)",
	[SQ_TOKEN_ADD] = "INSERT INTO tokens(hash, name, scopes, tenant, created_ns) VALUES(?1, "
			 "?2, ?3, ?4, ?5)",
	[SQ_TOKEN_FIND] =
		"SELECT hash, name, scopes, tenant, created_ns FROM tokens WHERE hash = ?1",
	[SQ_TOKEN_DELETE] = "DELETE FROM tokens WHERE name = ?1",
	[SQ_TOKEN_LIST] =
		"SELECT hash, name, scopes, tenant, created_ns FROM tokens ORDER BY name LIMIT ?1",
	[SQ_SETTING_GET] = "SELECT value FROM settings WHERE key = ?1",
	[SQ_SETTING_SET] = "INSERT INTO settings(key, value) VALUES(?1, ?2)"
			   " ON CONFLICT(key) DO UPDATE SET value = excluded.value",
	[SQ_SETTING_INIT] =
		"INSERT INTO settings(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO NOTHING",
	[SQ_ATTEMPT_PUT] = "INSERT OR REPLACE INTO attempts(task, epoch, key, fresh, build, worker,"
			   " record, facts) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
	[SQ_ATTEMPT_DELETE] = "DELETE FROM attempts WHERE task = ?1",
	[SQ_ATTEMPTS_FORGET] = "DELETE FROM attempts WHERE build = ?1 AND record <> 0",
	[SQ_ATTEMPT_LIST] = "SELECT task, epoch, key, fresh, build, worker, record, facts"
			    " FROM attempts ORDER BY task",
	[SQ_STEP_PUT] = "INSERT OR REPLACE INTO steps(build, vertex, number, lineage, shape,"
			" outcome, record, time_ns, facts)"
			" SELECT n, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM builds WHERE id = ?1",
	[SQ_STEP_GET] = SELECT_STEP " WHERE builds.id = ?1 AND vertex = ?2",
	[SQ_STEPS_OF_BUILD] = SELECT_STEP " WHERE builds.id = ?1 AND (number, vertex) > (?2, ?3)"
					  " ORDER BY number, vertex LIMIT ?4",
	[SQ_STEPS_BY_LINEAGE] = SELECT_STEP " WHERE lineage = ?1 AND record <> 0 AND time_ns < ?2"
					    " AND builds.id <> ?3 ORDER BY time_ns DESC LIMIT ?4",
	[SQ_STEPS_BY_SHAPE] = SELECT_STEP " WHERE shape = ?1 AND record <> 0 AND time_ns < ?2"
					  " AND builds.id <> ?3 ORDER BY time_ns DESC LIMIT ?4",
	[SQ_STEPS_DELETE] = "DELETE FROM steps WHERE build = (SELECT n FROM builds WHERE id = ?1)",
	[SQ_MANIFEST_PUT] = "INSERT INTO manifests(digest, text) VALUES(?1, ?2)"
			    " ON CONFLICT(digest) DO NOTHING",
	[SQ_MANIFEST_GET] = "SELECT text FROM manifests WHERE digest = ?1",
	[SQ_MANIFEST_USE] = "INSERT OR IGNORE INTO manifest_uses(build, digest)"
			    " SELECT builds.n, manifests.digest FROM builds, manifests"
			    " WHERE builds.id = ?1 AND manifests.digest = ?2",
	[SQ_MANIFESTS_DELETE] =
		"DELETE FROM manifests WHERE digest IN (SELECT digest FROM manifest_uses"
		" WHERE build = (SELECT n FROM builds WHERE id = ?1)) AND NOT EXISTS"
		" (SELECT 1 FROM manifest_uses AS u WHERE u.digest = manifests.digest"
		" AND u.build <> (SELECT n FROM builds WHERE id = ?1))",
	[SQ_MANIFEST_USES_DELETE] =
		"DELETE FROM manifest_uses WHERE build = (SELECT n FROM builds WHERE id = ?1)",
	[SQ_DURATION_PUT] =
		"INSERT OR REPLACE INTO durations(key, used_ns, times) VALUES(?1, ?2, ?3)",
	[SQ_DURATION_LIST] =
		"SELECT key, used_ns, times FROM durations ORDER BY used_ns DESC, key LIMIT ?1",
	[SQ_DURATIONS_TRIM] = "DELETE FROM durations WHERE key IN"
			      " (SELECT key FROM durations ORDER BY used_ns DESC, key LIMIT -1 OFFSET ?1)",
};

/* ---- errors ---- */

static bxc_code code_of(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return BXC_UNAVAILABLE;
	case SQLITE_FULL:
	case SQLITE_TOOBIG:
	case SQLITE_NOMEM:
		return BXC_RESOURCE_EXHAUSTED;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return BXC_DATA_LOSS;
	case SQLITE_CONSTRAINT:
		return BXC_ALREADY_EXISTS;
	case SQLITE_PERM:
	case SQLITE_READONLY:
	case SQLITE_AUTH:
		return BXC_PERMISSION_DENIED;
	case SQLITE_CANTOPEN:
		return BXC_FAILED_PRECONDITION;
	default:
		return BXC_INTERNAL;
	}
}

int bxc_state__sq_err(sq_state *q, int rc, bxc_err **err, const char *doing)
{
	return bxc_err_set(err, code_of(rc), "%s: %s", doing,
		q->db ? sqlite3_errmsg(q->db) : sqlite3_errstr(rc));
}

/* ---- statements ---- */

sqlite3_stmt *bxc_state__sq_stmt(sq_state *q, sq_stmt id, int *ret_r, bxc_err **err)
{
	if (!q->stmts[id]) {
		int rc = sqlite3_prepare_v3(
			q->db, sql[id], -1, SQLITE_PREPARE_PERSISTENT, &q->stmts[id], NULL);
		if (rc != SQLITE_OK) {
			*ret_r = bxc_state__sq_err(q, rc, err, "prepare statement");
			return NULL;
		}
	}
	return q->stmts[id];
}

void bxc_state__sq_reset(sqlite3_stmt **stmt)
{
	if (!*stmt)
		return;
	/* The failure of the step was reported already; reset repeats it. */
	bxc_ignore(sqlite3_reset(*stmt));
	sqlite3_clear_bindings(*stmt);
}

int bxc_state__sq_exec(sq_state *q, sqlite3_stmt *stmt, bxc_err **err, const char *doing)
{
	int rc = sqlite3_step(stmt);
	if (rc != SQLITE_DONE)
		return bxc_state__sq_err(q, rc, err, doing);
	return 0;
}

int bxc_state__sq_row(sq_state *q, sqlite3_stmt *stmt, bxc_err **err, const char *doing)
{
	int rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		return 1;
	return rc == SQLITE_DONE ? 0 : bxc_state__sq_err(q, rc, err, doing);
}

void bxc_state__sq_bind_text(sqlite3_stmt *stmt, int i, const char *s)
{
	int rc = s ? sqlite3_bind_text(stmt, i, s, -1, SQLITE_STATIC) : sqlite3_bind_null(stmt, i);
	bxc_check(rc == SQLITE_OK || rc == SQLITE_NOMEM);
}

void bxc_state__sq_bind_digest(sqlite3_stmt *stmt, int i, const bxc_digest *d)
{
	int rc = sqlite3_bind_blob(stmt, i, d->b, sizeof(d->b), SQLITE_STATIC);
	bxc_check(rc == SQLITE_OK);
}

char *bxc_state__sq_text(sqlite3_stmt *stmt, int i)
{
	return bxc_strdup((const char *)sqlite3_column_text(stmt, i));
}

bool bxc_state__sq_digest(sqlite3_stmt *stmt, int i, bxc_digest *ret)
{
	const void *p = sqlite3_column_blob(stmt, i);
	if (!p || sqlite3_column_bytes(stmt, i) != (int)sizeof(ret->b))
		return false;
	ret->alg = 1;
	memcpy(ret->b, p, sizeof(ret->b));
	return true;
}

/* ---- transactions ---- */

static int run_sql(sq_state *q, const char *text, bxc_err **err, const char *doing)
{
	int rc = sqlite3_exec(q->db, text, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : bxc_state__sq_err(q, rc, err, doing);
}

static int set_sync(sq_state *q, bxc_state_durability d, bxc_err **err)
{
	bool full = d == BXC_STATE_DURABLE;
	if (full == q->is_full_sync)
		return 0;
	int r = run_sql(q, full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", err,
		"set durability");
	if (r < 0)
		return r;
	q->is_full_sync = full;
	return 0;
}

static int sq_begin(bxc_state *st, bxc_state_durability d, bxc_err **err)
{
	sq_state *q = sq_of(st);
	int r = set_sync(q, d, err);
	if (r < 0)
		return r;
	return run_sql(q, "BEGIN IMMEDIATE", err, "begin transaction");
}

static void sq_rollback(bxc_state *st)
{
	sq_state *q = sq_of(st);
	/* A full disk or an I/O error has rolled back already. */
	if (!sqlite3_get_autocommit(q->db))
		bxc_ignore(run_sql(q, "ROLLBACK", NULL, "roll back"));
}

static int sq_commit(bxc_state *st, bxc_err **err)
{
	sq_state *q = sq_of(st);
	if (sqlite3_get_autocommit(q->db))
		return bxc_err_set(
			err, BXC_ABORTED, "the transaction was rolled back by an earlier failure");
	int r = run_sql(q, "COMMIT", err, "commit transaction");
	if (r < 0)
		sq_rollback(st);
	return r;
}

int bxc_state__sq_single(sq_state *q, bxc_state_durability d, bxc_err **err)
{
	if (!q->base.in_transaction)
		return set_sync(q, d, err);
	if (sqlite3_get_autocommit(q->db))
		return bxc_err_set(
			err, BXC_ABORTED, "the transaction was rolled back by an earlier failure");
	return 0;
}

int bxc_state__sq_enter(sq_state *q, bxc_state_durability d, bxc_err **err)
{
	if (!q->base.in_transaction)
		return sq_begin(&q->base, d, err);
	int r = bxc_state__sq_single(q, d, err);
	if (r < 0)
		return r;
	return run_sql(q, "SAVEPOINT part", err, "begin part of a transaction");
}

int bxc_state__sq_leave(sq_state *q, int r, bxc_err **err)
{
	if (!q->base.in_transaction) {
		if (r >= 0) {
			int c = sq_commit(&q->base, err);
			return c < 0 ? c : r;
		}
		sq_rollback(&q->base);
		return r;
	}
	if (sqlite3_get_autocommit(q->db))
		return r;
	if (r < 0)
		bxc_ignore(run_sql(q, "ROLLBACK TO part", NULL, "undo part of a transaction"));
	int c = run_sql(q, "RELEASE part", r < 0 ? NULL : err, "end part of a transaction");
	return r < 0 ? r : (c < 0 ? c : r);
}

/* ---- open ---- */

static int get_number(sq_state *q, const char *text, int64_t *ret, bxc_err **err)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(q->db, text, -1, &stmt, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	int r = 0;
	if (rc == SQLITE_ROW)
		*ret = sqlite3_column_int64(stmt, 0);
	else
		r = bxc_state__sq_err(q, rc, err, "read header");
	sqlite3_finalize(stmt);
	return r;
}

static int migrate(sq_state *q, bxc_err **err)
{
	int64_t app = 0;
	int64_t version = 0;
	int64_t tables = 0;
	int r = get_number(q, "PRAGMA application_id", &app, err);
	if (r >= 0)
		r = get_number(q, "PRAGMA user_version", &version, err);
	if (r >= 0)
		r = get_number(q, "SELECT count(*) FROM sqlite_schema", &tables, err);
	if (r < 0)
		return r;
	bool is_empty = app == 0 && version == 0 && tables == 0;
	if (!is_empty && app != APPLICATION_ID)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"the file is an SQLite database of something else");
	int64_t known = (int64_t)BXC_ARRAY_SIZE(migrations);
	if (version > known || version < 0)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"written by a newer version: its schema is %lld, this program knows up to "
			"%lld",
			(long long)version, (long long)known);
	for (int64_t v = version; v < known; v++) {
		BXC_AUTOFREE char *stamp =
			bxc_str_fmt("PRAGMA application_id=%d; PRAGMA user_version=%lld",
				APPLICATION_ID, (long long)v + 1);
		r = run_sql(q, migrations[v], err, "bring schema up to date");
		if (r >= 0)
			r = run_sql(q, stamp, err, "bring schema up to date");
		if (r < 0)
			return r;
	}
	return 0;
}

static int prepare_file(sq_state *q, bxc_err **err)
{
	/* Requests of builds are nobody's business: the file and what SQLite puts beside it are
	 * 0600. */
	int fd = open(q->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return bxc_err_errno(err, errno, "open");
	close(fd);
	int rc = sqlite3_open_v2(q->path, &q->db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
	if (rc != SQLITE_OK)
		return bxc_state__sq_err(q, rc, err, "open");
	static const char setup[] = "PRAGMA locking_mode=EXCLUSIVE;"
				    "PRAGMA journal_mode=WAL;"
				    "PRAGMA synchronous=FULL;"
				    "PRAGMA journal_size_limit=67108864;"
				    "PRAGMA cache_size=-16384;"
				    "PRAGMA temp_store=MEMORY;"
				    "PRAGMA trusted_schema=OFF;"
				    "BEGIN IMMEDIATE";
	rc = sqlite3_exec(q->db, setup, NULL, NULL, NULL);
	if ((rc & 0xff) == SQLITE_BUSY)
		return bxc_err_set(err, BXC_UNAVAILABLE, "in use by another process");
	if (rc != SQLITE_OK)
		return bxc_state__sq_err(q, rc, err, "set up");
	q->is_full_sync = true;
	int r = migrate(q, err);
	if (r < 0) {
		sq_rollback(&q->base);
		return r;
	}
	return sq_commit(&q->base, err);
}

static void sq_close(bxc_state *st)
{
	sq_state *q = sq_of(st);
	for (size_t i = 0; i < SQ_N_STMTS; i++)
		sqlite3_finalize(q->stmts[i]);
	sqlite3_close(q->db);
	free(q->path);
	free(q);
}

int bxc_state__open_sqlite(const char *path, bxc_state **ret, bxc_err **err)
{
	sq_state *q = bxc_calloc(1, sizeof(*q));
	q->base.ops = &q->ops;
	q->ops.name = "sqlite";
	q->ops.close = sq_close;
	q->ops.begin = sq_begin;
	q->ops.commit = sq_commit;
	q->ops.rollback = sq_rollback;
	bxc_state__sq_builds_ops(&q->ops);
	bxc_state__sq_cache_ops(&q->ops);
	bxc_state__sq_facts_ops(&q->ops);
	bxc_state__sq_attempts_ops(&q->ops);
	bxc_state__sq_steps_ops(&q->ops);
	bxc_state__sq_check_ops(&q->ops);
	/* A name like ":memory:" or "file:x" has a meaning of its own; as a path it has none. */
	q->path = path[0] == '/' ? bxc_strdup(path) : bxc_str_fmt("./%s", path);
	int r = prepare_file(q, err);
	if (r < 0) {
		sq_close(&q->base);
		return bxc_err_wrap(err, r, "state '%s'", path);
	}
	*ret = &q->base;
	return 0;
}
