/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log keeps its events in memory while the build is open; the store holds those of closed
 * builds. `committed` events may be delivered. A subscription remembers how far it got, so
 * delivery is one loop over "what is committed beyond sub->next".
 */
#include "coordinator/events/events.h"

#include "common/base/arr.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/mem.h"

struct log {
	bxc_ev *ev;
	char *build;
	BXC_ARR(char *) texts;       /* texts.v[i] has seq i + 1 */
	uint64_t committed;
	bool in_flight;
	bool closing;
	BXC_ARR(bxc_ev_sub *) subs;
};

struct bxc_ev_sub {
	bxc_ev *ev;
	struct log *log;             /* NULL: replays a closed build from the store */
	char *build;
	uint64_t next;               /* seq of the next event to deliver */
	bxc_ev_fn fn;
	bxc_ev_end_fn on_end;
	void *ud;
	bool gone;                   /* unsubscribed while a read is under way or while being called */
	bool busy;
	bool waiting;                /* its first delivery is on its way: nothing else touches it */
	bxc_state_events page;
};

struct bxc_ev {
	bxc_db *db;
	bxc_map *logs;
};

#define REPLAY_PAGE 1000

static void log_free(void *p)
{
	struct log *l = p;
	BXC_ARR_FOREACH (t, &l->texts)
		free(*t);
	bxc_arr_done(&l->texts);
	bxc_arr_done(&l->subs);
	free(l->build);
	free(l);
}

bxc_ev *bxc_ev_new(bxc_db *db)
{
	bxc_ev *ev = bxc_calloc(1, sizeof(*ev));
	ev->db = db;
	ev->logs = bxc_map_new(log_free);
	return ev;
}

void bxc_ev_free(bxc_ev *ev)
{
	if (!ev)
		return;
	bxc_map_free(ev->logs);
	free(ev);
}

static void sub_free(bxc_ev_sub *s)
{
	bxc_state_events_done(&s->page);
	free(s->build);
	free(s);
}

static void detach(bxc_ev_sub *s)
{
	struct log *l = s->log;
	for (size_t i = 0; l && i < l->subs.n; i++) {
		if (l->subs.v[i] == s) {
			bxc_arr_remove(&l->subs, i);
			break;
		}
	}
	s->log = NULL;
}

static void end_sub(bxc_ev_sub *s)
{
	detach(s);
	s->busy = true;
	if (!s->gone)
		s->on_end(s->build, s->ud);
	sub_free(s);
}

/* Calls the subscriber for all that is committed; true when it left meanwhile. */
static bool deliver(struct log *l, bxc_ev_sub *s)
{
	if (s->waiting)
		return false;
	s->busy = true;
	while (!s->gone && s->next <= l->committed) {
		uint64_t seq = s->next++;
		s->fn(l->build, seq, l->texts.v[seq - 1], s->ud);
	}
	s->busy = false;
	if (!s->gone)
		return false;
	detach(s);
	sub_free(s);
	return true;
}

static void pump(struct log *l);

struct batch {
	struct log *log;
	bxc_state_event *items;
	size_t n;
	bxc_err *err;
};

static void batch_work(bxc_state *st, void *ud)
{
	struct batch *b = ud;
	int r = bxc_state_begin(st, BXC_STATE_LAZY, &b->err);
	if (r < 0)
		return;
	r = bxc_state_events_append(st, b->log->build, b->items, b->n, &b->err);
	if (r < 0) {
		bxc_state_rollback(st);
		return;
	}
	bxc_ignore(bxc_state_commit(st, &b->err));
}

static void batch_done(void *ud)
{
	struct batch *b = ud;
	struct log *l = b->log;
	if (b->err)
		/* Delivery goes on: a build must not hang because its record can't be kept. */
		bxc_log_err(BXC_LOG_ERROR, "events.not_recorded", b->err, "build", l->build, NULL);
	l->in_flight = false;
	l->committed += b->n;
	free(b->items);
	bxc_err_free(b->err);
	free(b);
	pump(l);
}

static void pump(struct log *l)
{
	for (size_t i = 0; i < l->subs.n;)
		if (!deliver(l, l->subs.v[i]))
			i++;
	if (l->in_flight)
		return;
	size_t n = l->texts.n - l->committed;
	if (n > 0) {
		struct batch *b = bxc_calloc(1, sizeof(*b));
		n = BXC_MIN(n, (size_t)BXC_STATE_LIMIT_BATCH / 10);
		b->log = l;
		b->items = bxc_calloc(n, sizeof(*b->items));
		b->n = n;
		for (size_t i = 0; i < n; i++)
			/* The log and its texts stay until the batch is done. */
			b->items[i] = (bxc_state_event){l->committed + i + 1, l->texts.v[l->committed + i]};
		l->in_flight = true;
		bxc_db_submit(l->ev->db, batch_work, batch_done, b);
		return;
	}
	if (l->closing) {
		while (l->subs.n) {
			/* One that waits reads the record when its turn comes. */
			if (l->subs.v[0]->waiting)
				detach(l->subs.v[0]);
			else
				end_sub(l->subs.v[0]);
		}
		bxc_map_del(l->ev->logs, l->build);
	}
}

void bxc_ev_open(bxc_ev *ev, const char *build)
{
	struct log *l = bxc_calloc(1, sizeof(*l));
	l->ev = ev;
	l->build = bxc_strdup(build);
	bxc_check(!bxc_map_has(ev->logs, build));
	bxc_map_set(ev->logs, build, l);
}

void bxc_ev_reopen(bxc_ev *ev, const char *build, bxc_state_events *recorded)
{
	bxc_ev_open(ev, build);
	struct log *l = bxc_map_get(ev->logs, build);
	BXC_ARR_FOREACH (e, &recorded->items) {
		bxc_check(e->seq == l->texts.n + 1);
		*bxc_arr_push(&l->texts) = BXC_TAKE(e->text);
	}
	l->committed = l->texts.n;
	bxc_state_events_done(recorded);
}

void bxc_ev_append(bxc_ev *ev, const char *build, bxc_json *j)
{
	struct log *l = bxc_map_get(ev->logs, build);
	if (l && !l->closing) {
		*bxc_arr_push(&l->texts) = bxc_json_print(j);
		if (!l->in_flight)
			pump(l);
	}
	bxc_json_free(j);
}

void bxc_ev_close(bxc_ev *ev, const char *build)
{
	struct log *l = bxc_map_get(ev->logs, build);
	if (!l || l->closing)
		return;
	l->closing = true;
	if (!l->in_flight)
		pump(l);
}

/* ---- replay of closed builds ---- */

static void replay_work(bxc_state *st, void *ud)
{
	bxc_ev_sub *s = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_state_events_read(st, s->build, s->next, REPLAY_PAGE, &s->page, &err) < 0)
		bxc_log_err(BXC_LOG_ERROR, "events.unreadable", err, "build", s->build, NULL);
}

static void replay_done(void *ud)
{
	bxc_ev_sub *s = ud;
	size_t n = s->page.items.n;
	for (size_t i = 0; i < n && !s->gone; i++) {
		s->next = s->page.items.v[i].seq + 1;
		s->fn(s->build, s->page.items.v[i].seq, s->page.items.v[i].text, s->ud);
	}
	bxc_state_events_done(&s->page);
	if (s->gone || n < REPLAY_PAGE)
		end_sub(s);
	else
		bxc_db_submit(s->ev->db, replay_work, replay_done, s);
}


static void first_delivery(void *ud)
{
	bxc_ev_sub *s = ud;
	struct log *l = s->log;
	s->busy = s->waiting = false;
	if (s->gone) {
		detach(s);
		sub_free(s);
	} else if (l) {
		deliver(l, s);
	} else {
		s->busy = true;
		bxc_db_submit(s->ev->db, replay_work, replay_done, s);
	}
}

static void nothing(bxc_state *st, void *ud)
{
	(void)st;
	(void)ud;
}

bxc_ev_sub *bxc_ev_subscribe(bxc_ev *ev, const char *build, uint64_t after, bxc_ev_fn fn, bxc_ev_end_fn on_end, void *ud)
{
	bxc_ev_sub *s = bxc_calloc(1, sizeof(*s));
	s->ev = ev;
	s->build = bxc_strdup(build);
	s->next = after + 1;
	s->fn = fn;
	s->on_end = on_end;
	s->ud = ud;
	s->busy = true;
	struct log *l = bxc_map_get(ev->logs, build);
	if (l) {
		s->log = l;
		*bxc_arr_push(&l->subs) = s;
		/* By way of the queue: the caller has its handle before the first call comes. */
		s->waiting = l->committed >= s->next;
		if (s->waiting)
			bxc_db_submit(ev->db, nothing, first_delivery, s);
		else
			s->busy = false;
	} else {
		bxc_db_submit(ev->db, replay_work, replay_done, s);
	}
	return s;
}

void bxc_ev_unsubscribe(bxc_ev_sub *s)
{
	if (!s)
		return;
	if (s->busy) {
		s->gone = true;
		return;
	}
	detach(s);
	sub_free(s);
}
