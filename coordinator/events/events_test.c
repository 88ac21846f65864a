/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"
#include "coordinator/events/events.h"

#define BUILD "b-1"

typedef struct world {
	char *dir;
	bxc_loop *loop;
	bxc_db *db;
	bxc_ev *ev;
	uint64_t got; /* number of the last event */
	unsigned ends;
	bool twice_or_gap;
} world;

static void add_build(bxc_state *st, void *ud)
{
	const bxc_state_build row = {.id = (char[]){BUILD},
		.name = (char[]){"x"},
		.status = (char[]){"running"},
		.created_ns = 1,
		.request = (char[]){"{}"}};
	BXC_AUTOERR bxc_err *err = NULL;
	(void)ud;
	assert_ok(bxc_state_build_add(st, &row, &err), err);
}

static int begin(void **state)
{
	world *w = bxc_calloc(1, sizeof(*w));
	BXC_AUTOERR bxc_err *err = NULL;
	w->dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *url = bxc_str_fmt("sqlite:%s/state.db", w->dir);
	assert_ok(bxc_loop_new(&w->loop, &err), err);
	assert_ok(bxc_db_start(w->loop, url, &w->db, &err), err);
	bxc_db_submit(w->db, add_build, NULL, NULL);
	w->ev = bxc_ev_new(w->db);
	bxc_ev_open(w->ev, BUILD);
	*state = w;
	return 0;
}

static int end(void **state)
{
	world *w = *state;
	bxc_db_stop(w->db);
	bxc_ev_free(w->ev);
	bxc_loop_free(w->loop);
	bxc_test_rmtree(w->dir);
	free(w);
	return 0;
}

static void on_event(const char *build, uint64_t seq, const char *text, void *ud)
{
	world *w = ud;
	assert_string_equal(build, BUILD);
	assert_string_equal(text, "{}");
	w->twice_or_gap = w->twice_or_gap || seq != w->got + 1;
	w->got = seq;
}

static void on_end(const char *build, void *ud)
{
	world *w = ud;
	(void)build;
	w->ends++;
}

static void append(world *w, unsigned n)
{
	while (n--)
		bxc_ev_append(w->ev, BUILD, bxc_json_object());
}

static void stop(void *ud)
{
	world *w = ud;
	bxc_loop_quit(w->loop);
}

static void no_work(bxc_state *st, void *ud)
{
	(void)st;
	(void)ud;
}

/* Until all that was submitted to the store before is done, and what follows from it. */
static void settle(world *w)
{
	BXC_AUTOERR bxc_err *err = NULL;
	for (int i = 0; i < 4; i++) {
		bxc_db_submit(w->db, no_work, stop, w);
		assert_ok(bxc_loop_run(w->loop, &err), err);
	}
}

static void a_subscriber_gets_each_event_once_and_the_end(void **state)
{
	world *w = *state;
	append(w, 3);
	settle(w);
	bxc_ev_subscribe(w->ev, BUILD, 0, on_event, on_end, w);
	append(w, 2);
	settle(w);
	assert_int_equal(w->got, 5);
	append(w, 1);
	bxc_ev_close(w->ev, BUILD);
	settle(w);
	assert_int_equal(w->got, 6);
	assert_int_equal(w->ends, 1);
	assert_false(w->twice_or_gap);
}

/* The log goes while the first delivery is on its way: the record has it all. */
static void a_build_that_ends_at_once_is_told_from_its_start(void **state)
{
	world *w = *state;
	append(w, 3);
	settle(w);
	bxc_ev_subscribe(w->ev, BUILD, 0, on_event, on_end, w);
	bxc_ev_close(w->ev, BUILD);
	assert_int_equal(w->ends, 0);
	settle(w);
	assert_int_equal(w->got, 3);
	assert_int_equal(w->ends, 1);
	assert_false(w->twice_or_gap);
}

static void one_that_leaves_before_its_first_event_hears_nothing(void **state)
{
	world *w = *state;
	append(w, 3);
	settle(w);
	bxc_ev_sub *s = bxc_ev_subscribe(w->ev, BUILD, 0, on_event, on_end, w);
	append(w, 1);
	bxc_ev_unsubscribe(s);
	bxc_ev_close(w->ev, BUILD);
	settle(w);
	assert_int_equal(w->got, 0);
	assert_int_equal(w->ends, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_subscriber_gets_each_event_once_and_the_end),
		T(a_build_that_ends_at_once_is_told_from_its_start),
		T(one_that_leaves_before_its_first_event_hears_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
