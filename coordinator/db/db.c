/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/db/db.h"

#include "common/base/mem.h"
#include "common/loop/pool.h"

struct bxc_db {
	bxc_loop *loop;
	bxc_state *state;
	bxc_pool *pool;
};

struct job {
	bxc_db *db;
	bxc_db_work work;
	bxc_post_fn done;
	void *ud;
};

int bxc_db_start(bxc_loop *loop, const char *url, bxc_db **ret, bxc_err **err)
{
	bxc_db *db = bxc_calloc(1, sizeof(*db));
	db->loop = loop;
	int r = bxc_state_open(url, &db->state, err);
	if (r >= 0)
		r = bxc_pool_new("db", 1, BXC_DB_QUEUE, &db->pool, err);
	if (r < 0) {
		bxc_db_stop(db);
		return r;
	}
	*ret = db;
	return 0;
}

void bxc_db_stop(bxc_db *db)
{
	if (!db)
		return;
	bxc_pool_free(db->pool);
	bxc_state_close(db->state);
	free(db);
}

static void run(void *ud)
{
	struct job *j = ud;
	j->work(j->db->state, j->ud);
	if (j->done)
		bxc_loop_post(j->db->loop, j->done, j->ud);
	free(j);
}

void bxc_db_submit(bxc_db *db, bxc_db_work work, bxc_post_fn done, void *ud)
{
	struct job *j = bxc_calloc(1, sizeof(*j));
	*j = (struct job){db, work, done, ud};
	bxc_check(bxc_pool_submit(db->pool, run, db->loop, NULL, j, NULL) == 0);
}

bxc_state *bxc_db_state(bxc_db *db)
{
	return db->state;
}
