/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/state/state_conformance.h"

#include <time.h>

static bxc_digest num(unsigned i)
{
	BXC_AUTOFREE char *text = bxc_str_fmt("digest %u", i);
	return bxc_digest_of_str(text);
}

static void reopen(state_case *c)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_state_close(c->st);
	c->st = NULL;
	assert_ok(bxc_state_open(c->url, &c->st, &err), err);
}

static char id_of(unsigned i)
{
	return (char)('a' + i);
}

static void add_build(state_case *c, const char *id, int64_t created_ns)
{
	BXC_AUTOERR bxc_err *err = NULL;
	char id_buf[32];
	char status[] = "running";
	char request[] = "{\"ref\":\"x\"}";
	snprintf(id_buf, sizeof(id_buf), "%s", id);
	bxc_state_build b = {
		.id = id_buf, .status = status, .created_ns = created_ns, .request = request};
	assert_ok(bxc_state_build_add(c->st, &b, &err), err);
}

static void builds_are_kept_and_updated(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	char id[] = "b1";
	char name[] = "registry/app:1";
	char tenant[] = "team";
	char status[] = "running";
	char request[] = "{\"dockerfile\":\"FROM \\u00e9\"}";
	bxc_state_build b = {.id = id,
		.name = name,
		.tenant = tenant,
		.status = status,
		.created_ns = 5,
		.request = request};
	assert_ok(bxc_state_build_add(c->st, &b, &err), err);
	assert_err(bxc_state_build_add(c->st, &b, &err), BXC_ALREADY_EXISTS, err);
	assert_ok(
		bxc_state_build_update(c->st, "b1", "done", 9, NULL, "{\"digest\":1}", &err), err);
	reopen(c);
	bxc_state_build got = {0};
	assert_ok(bxc_state_build_get(c->st, "b1", &got, &err), err);
	assert_string_equal(got.id, "b1");
	assert_string_equal(got.name, name);
	assert_string_equal(got.tenant, "team");
	assert_string_equal(got.status, "done");
	assert_int_equal(got.created_ns, 5);
	assert_int_equal(got.completed_ns, 9);
	assert_string_equal(got.request, request);
	assert_null(got.error);
	assert_string_equal(got.result, "{\"digest\":1}");
	bxc_state_build_done(&got);
	assert_err(bxc_state_build_get(c->st, "b2", &got, &err), BXC_NOT_FOUND, err);
	assert_err(bxc_state_build_update(c->st, "b2", "done", 9, NULL, NULL, &err), BXC_NOT_FOUND,
		err);
}

static void the_list_of_builds_is_newest_first_and_pages(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	for (unsigned i = 0; i < 7; i++) {
		char id[2] = {id_of(i), 0};
		add_build(c, id, i < 4 ? 10 : 20); /* equal times: by order of adding */
	}
	assert_ok(bxc_state_build_update(c->st, "f", "done", 1, NULL, NULL, &err), err);
	char order[16] = "";
	bxc_state_build_filter f = {.limit = 3, .without_request = true};
	char after[2] = "";
	for (;;) {
		bxc_state_builds page = {0};
		f.after = after[0] ? after : NULL;
		assert_ok(bxc_state_build_list(c->st, &f, &page, &err), err);
		if (page.items.n == 0)
			break;
		assert_true(page.items.n <= 3);
		BXC_ARR_FOREACH (b, &page.items) {
			order[strlen(order)] = b->id[0];
			after[0] = b->id[0];
			assert_null(b->request);
		}
		bxc_state_builds_done(&page);
	}
	assert_string_equal(order, "gfedcba");
	bxc_state_builds all = {0};
	f = (bxc_state_build_filter){.status = "running", .limit = 100};
	assert_ok(bxc_state_build_list(c->st, &f, &all, &err), err);
	assert_int_equal(all.items.n, 6);
	assert_non_null(all.items.v[0].request);
	bxc_state_builds_done(&all);
	f = (bxc_state_build_filter){.tenant = "nobody", .limit = 100};
	assert_ok(bxc_state_build_list(c->st, &f, &all, &err), err);
	assert_int_equal(all.items.n, 0);
	f.limit = 0;
	assert_err(bxc_state_build_list(c->st, &f, &all, &err), BXC_INVALID_ARGUMENT, err);
}

static void events_are_appended_whole_and_read_from_any_point(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_build(c, "b", 1);
	char one[] = "{\"n\":1}";
	bxc_state_event batch[] = {{1, one}, {2, one}, {3, one}};
	assert_ok(bxc_state_events_append(c->st, "b", batch, 3, &err), err);
	/* One of them is known: none is added. */
	bxc_state_event bad[] = {{4, one}, {3, one}};
	assert_err(bxc_state_events_append(c->st, "b", bad, 2, &err), BXC_ALREADY_EXISTS, err);
	assert_err(bxc_state_events_append(c->st, "other", batch, 1, &err), BXC_NOT_FOUND, err);
	reopen(c);
	uint64_t last = 99;
	assert_ok(bxc_state_events_last(c->st, "b", &last, &err), err);
	assert_int_equal(last, 3);
	assert_ok(bxc_state_events_last(c->st, "other", &last, &err), err);
	assert_int_equal(last, 0);
	bxc_state_events got = {0};
	assert_ok(bxc_state_events_read(c->st, "b", 2, 1, &got, &err), err);
	assert_int_equal(got.items.n, 1);
	assert_int_equal(got.items.v[0].seq, 2);
	assert_string_equal(got.items.v[0].text, one);
	bxc_state_events_done(&got);
	assert_ok(bxc_state_events_read(c->st, "b", 0, 100, &got, &err), err);
	assert_int_equal(got.items.n, 3);
	bxc_state_events_done(&got);
	assert_ok(bxc_state_build_delete(c->st, "b", &err), err);
	assert_err(bxc_state_build_delete(c->st, "b", &err), BXC_NOT_FOUND, err);
	add_build(c, "b", 1); /* the same name does not bring them back */
	assert_ok(bxc_state_events_last(c->st, "b", &last, &err), err);
	assert_int_equal(last, 0);
}

static uint64_t add_record(state_case *c, const char *result, int64_t created_ns)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *text = bxc_strdup(result);
	bxc_state_record r = {.result = text, .created_ns = created_ns, .duration_ns = 7};
	uint64_t id = 0;
	assert_ok(bxc_state_record_add(c->st, &r, &id, &err), err);
	assert_true(id > 0);
	return id;
}

static void keys_lead_to_records_until_those_are_deleted(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	uint64_t a = add_record(c, "{\"a\":1}", 100);
	uint64_t b = add_record(c, "{\"b\":1}", 200);
	bxc_digest keys[] = {num(1), num(2)};
	bxc_digest canonical_a = num(10);
	bxc_digest canonical_b = num(11);
	assert_ok(bxc_state_keys_add(c->st, keys, 2, a, &canonical_a, 100, &err), err);
	assert_ok(bxc_state_keys_add(c->st, &keys[1], 1, b, &canonical_b, 200, &err), err);
	assert_err(
		bxc_state_keys_add(c->st, keys, 2, 999, &canonical_a, 1, &err), BXC_NOT_FOUND, err);
	reopen(c);
	bxc_state_hit hit = {0};
	assert_int_equal(bxc_state_key_lookup(c->st, &keys[0], &hit, &err), 1);
	assert_int_equal(hit.record, a);
	assert_true(bxc_digest_eq(&hit.canonical, &canonical_a));
	assert_int_equal(bxc_state_key_lookup(c->st, &keys[1], &hit, &err), 1);
	assert_int_equal(hit.record, b);
	bxc_digest unknown = num(3);
	assert_int_equal(bxc_state_key_lookup(c->st, &unknown, &hit, &err), 0);

	assert_ok(bxc_state_record_update(c->st, a, "{\"a\":2}", &err), err);
	assert_err(bxc_state_record_update(c->st, 999, "{}", &err), BXC_NOT_FOUND, err);
	bxc_state_record rec = {0};
	assert_ok(bxc_state_record_get(c->st, a, &rec, &err), err);
	assert_string_equal(rec.result, "{\"a\":2}");
	assert_int_equal(rec.duration_ns, 7);
	bxc_state_record_done(&rec);

	assert_ok(bxc_state_record_delete(c->st, b, &err), err);
	assert_ok(bxc_state_record_delete(c->st, b, &err), err);
	assert_int_equal(bxc_state_key_lookup(c->st, &keys[1], &hit, &err), 0);
	assert_err(bxc_state_record_get(c->st, b, &rec, &err), BXC_NOT_FOUND, err);
	reopen(c);
	assert_true(add_record(c, "{}", 1) > b); /* ids are not used again */
}

static void records_are_listed_by_last_use(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	uint64_t id[3];
	bxc_digest key[3];
	for (unsigned i = 0; i < 3; i++) {
		id[i] = add_record(c, "{}", 100 + i);
		key[i] = num(i);
		assert_ok(
			bxc_state_keys_add(c->st, &key[i], 1, id[i], &key[i], 100 + i, &err), err);
	}
	bxc_digest touched[] = {key[0], num(77)};
	assert_ok(bxc_state_keys_touch(c->st, touched, 2, 500, &err), err);
	assert_ok(bxc_state_keys_touch(c->st, touched, 1, 400, &err),
		err); /* late news: does not go back */
	bxc_state_records got = {0};
	assert_ok(bxc_state_record_list(c->st, 2, &got, &err), err);
	assert_int_equal(got.items.n, 2);
	assert_int_equal(got.items.v[0].id, id[1]);
	assert_int_equal(got.items.v[1].id, id[2]);
	bxc_state_records_done(&got);
	assert_ok(bxc_state_record_list(c->st, 10, &got, &err), err);
	assert_int_equal(got.items.v[2].id, id[0]);
	assert_int_equal(got.items.v[2].last_used_ns, 500);
	bxc_state_records_done(&got);
}

static void layers_and_settings_are_replaced(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_state_layer_put(c->st, "l1", "{\"size\":1}", &err), err);
	assert_ok(bxc_state_layer_put(c->st, "l1", "{\"size\":2}", &err), err);
	reopen(c);
	char *text = NULL;
	assert_ok(bxc_state_layer_get(c->st, "l1", &text, &err), err);
	assert_string_equal(text, "{\"size\":2}");
	free(text);
	text = NULL;
	assert_ok(bxc_state_layer_delete(c->st, "l1", &err), err);
	assert_ok(bxc_state_layer_delete(c->st, "l1", &err), err);
	assert_err(bxc_state_layer_get(c->st, "l1", &text, &err), BXC_NOT_FOUND, err);

	assert_int_equal(bxc_state_setting_get(c->st, "cluster", &text, &err), 0);
	assert_ok(bxc_state_setting_init(c->st, "cluster", "one", &text, &err), err);
	assert_string_equal(text, "one");
	free(text);
	text = NULL;
	assert_ok(bxc_state_setting_init(c->st, "cluster", "two", &text, &err), err);
	assert_string_equal(text, "one");
	free(text);
	text = NULL;
	assert_ok(bxc_state_setting_set(c->st, "cluster", "three", &err), err);
	reopen(c);
	assert_int_equal(bxc_state_setting_get(c->st, "cluster", &text, &err), 1);
	assert_string_equal(text, "three");
	free(text);
}

static bxc_state_attempt attempt(const char *task, const char *build, unsigned key)
{
	return (bxc_state_attempt){
		.task = (char *)(uintptr_t)task,
		.epoch = 1,
		.key = num(key),
		.build = (char *)(uintptr_t)build,
		.worker = (char *)(uintptr_t) "w",
		.facts = (char *)(uintptr_t) "{}",
	};
}

static void attempts_are_kept_until_they_are_of_no_use(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_state_attempt a = attempt("t1", "b1", 1);
	assert_ok(bxc_state_attempt_put(c->st, &a, &err), err);
	bxc_state_attempt b = attempt("t2", "b1", 2);
	b.fresh = true;
	assert_ok(bxc_state_attempt_put(c->st, &b, &err), err);
	bxc_state_attempt d = attempt("t3", "b2", 3);
	assert_ok(bxc_state_attempt_put(c->st, &d, &err), err);
	/* The second has ended: in one transaction with its result. */
	b.record = 7;
	b.epoch = 2;
	assert_ok(bxc_state_begin(c->st, BXC_STATE_LAZY, &err), err);
	assert_ok(bxc_state_attempt_put(c->st, &b, &err), err);
	assert_ok(bxc_state_commit(c->st, &err), err);
	reopen(c);
	bxc_state_attempts list = {0};
	assert_ok(bxc_state_attempt_list(c->st, &list, &err), err);
	assert_int_equal(list.items.n, 3);
	const bxc_state_attempt *got = &list.items.v[1];
	assert_string_equal(got->task, "t2");
	assert_string_equal(got->build, "b1");
	assert_string_equal(got->worker, "w");
	assert_string_equal(got->facts, "{}");
	assert_true(got->fresh && bxc_digest_eq(&got->key, &b.key));
	assert_int_equal(got->record, 7);
	assert_int_equal(got->epoch, 2);
	bxc_state_attempts_done(&list);
	/* What still runs is not forgotten with its build. */
	assert_ok(bxc_state_attempts_forget(c->st, "b1", &err), err);
	assert_ok(bxc_state_attempt_delete(c->st, "t3", &err), err);
	assert_ok(bxc_state_attempt_delete(c->st, "t3", &err), err);
	assert_ok(bxc_state_attempt_list(c->st, &list, &err), err);
	assert_int_equal(list.items.n, 1);
	assert_string_equal(list.items.v[0].task, "t1");
	bxc_state_attempts_done(&list);
	a.task = (char *)(uintptr_t) "";
	assert_err(bxc_state_attempt_put(c->st, &a, &err), BXC_INVALID_ARGUMENT, err);
}

static void put_step(state_case *c, const char *build, unsigned vertex, uint64_t number,
	uint64_t record, int64_t time_ns)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_state_step s = {
		.build = bxc_strdup(build),
		.vertex = num(vertex),
		.number = number,
		.lineage = num(100 + vertex),
		.shape = num(200),
		.outcome = bxc_strdup("executed"),
		.record = record,
		.time_ns = time_ns,
		.facts = bxc_strdup("{}"),
	};
	assert_ok(bxc_state_step_put(c->st, &s, &err), err);
	bxc_state_step_done(&s);
}

static void steps_are_found_by_build_lineage_and_shape(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	add_build(c, "x", 1);
	add_build(c, "y", 2);
	put_step(c, "x", 1, 3, 7, 10);
	put_step(c, "x", 2, 0, 0, 11);
	put_step(c, "x", 3, 2, 8, 12);
	put_step(c, "y", 1, 1, 0, 20);
	reopen(c);
	bxc_digest one = num(1), two = num(2), none = num(9);
	bxc_state_step s = {0};
	assert_int_equal(bxc_state_step_get(c->st, "y", &none, &s, &err), 0);
	assert_int_equal(bxc_state_step_get(c->st, "y", &one, &s, &err), 1);
	assert_string_equal(s.outcome, "executed");
	bxc_state_steps list = {0};
	/* Those with a record, of others, earlier. */
	assert_ok(bxc_state_steps_by_lineage(c->st, &s, 10, &list, &err), err);
	assert_int_equal(list.items.n, 1);
	assert_string_equal(list.items.v[0].build, "x");
	assert_int_equal(list.items.v[0].record, 7);
	bxc_state_steps_done(&list);
	assert_ok(bxc_state_steps_by_shape(c->st, &s, 10, &list, &err), err);
	assert_int_equal(list.items.n, 2);
	assert_int_equal(list.items.v[0].record, 8);
	bxc_state_steps_done(&list);
	bxc_state_step_done(&s);
	/* In the order of their numbers, a page at a time. */
	assert_ok(bxc_state_steps_of_build(c->st, "x", NULL, 2, &list, &err), err);
	assert_int_equal(list.items.n, 2);
	assert_true(bxc_digest_eq(&list.items.v[0].vertex, &two));
	assert_int_equal(list.items.v[1].number, 2);
	bxc_state_steps rest = {0};
	assert_ok(bxc_state_steps_of_build(c->st, "x", &list.items.v[1], 2, &rest, &err), err);
	assert_int_equal(rest.items.n, 1);
	assert_int_equal(rest.items.v[0].number, 3);
	bxc_state_steps_done(&rest);
	bxc_state_steps_done(&list);
	assert_int_equal(bxc_state_step_get(c->st, "y", &one, &s, &err), 1);
	free(s.build);
	s.build = bxc_strdup("nobody's");
	assert_err(bxc_state_step_put(c->st, &s, &err), BXC_NOT_FOUND, err);
	bxc_state_step_done(&s);
	assert_ok(bxc_state_build_delete(c->st, "x", &err), err);
	assert_int_equal(bxc_state_step_get(c->st, "x", &one, &s, &err), 0);
	assert_int_equal(bxc_state_step_get(c->st, "y", &one, &s, &err), 1);
	bxc_state_step_done(&s);
}

static void manifests_stay_as_long_as_a_build_uses_them(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_digest shared = num(1), own = num(2);
	add_build(c, "x", 1);
	add_build(c, "y", 2);
	assert_int_equal(bxc_state_manifest_use(c->st, "x", &shared, &err), 0);
	assert_ok(bxc_state_manifest_put(c->st, &shared, "[1]", &err), err);
	assert_ok(bxc_state_manifest_put(c->st, &shared, "[9]", &err), err);
	assert_ok(bxc_state_manifest_put(c->st, &own, "[2]", &err), err);
	assert_int_equal(bxc_state_manifest_use(c->st, "x", &shared, &err), 1);
	assert_int_equal(bxc_state_manifest_use(c->st, "x", &shared, &err), 1);
	assert_int_equal(bxc_state_manifest_use(c->st, "y", &shared, &err), 1);
	assert_int_equal(bxc_state_manifest_use(c->st, "x", &own, &err), 1);
	assert_ok(bxc_state_build_delete(c->st, "x", &err), err);
	BXC_AUTOFREE char *text = NULL;
	assert_int_equal(bxc_state_manifest_get(c->st, &own, &text, &err), 0);
	assert_int_equal(bxc_state_manifest_get(c->st, &shared, &text, &err), 1);
	assert_string_equal(text, "[1]");
	assert_ok(bxc_state_build_delete(c->st, "y", &err), err);
	BXC_AUTOFREE char *gone = NULL;
	assert_int_equal(bxc_state_manifest_get(c->st, &shared, &gone, &err), 0);
}

static void durations_are_kept_by_last_use(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	char first[] = "1,2", second[] = "3", third[] = "4";
	const bxc_state_duration rows[] = {
		{num(1), 10, first}, {num(2), 20, second}, {num(3), 30, third}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(rows); i++)
		assert_ok(bxc_state_duration_put(c->st, &rows[i], &err), err);
	/* The first is used again: it is the latest now. */
	const bxc_state_duration again = {num(1), 40, second};
	assert_ok(bxc_state_duration_put(c->st, &again, &err), err);
	assert_ok(bxc_state_durations_trim(c->st, 2, &err), err);
	bxc_state_durations all = {0};
	assert_ok(bxc_state_duration_list(c->st, 10, &all, &err), err);
	assert_int_equal(all.items.n, 2);
	assert_true(bxc_digest_eq(&all.items.v[0].key, &rows[0].key));
	assert_string_equal(all.items.v[0].times, "3");
	assert_int_equal(all.items.v[0].used_ns, 40);
	assert_true(bxc_digest_eq(&all.items.v[1].key, &rows[2].key));
	bxc_state_durations_done(&all);
	assert_ok(bxc_state_duration_list(c->st, 1, &all, &err), err);
	assert_int_equal(all.items.n, 1);
	bxc_state_durations_done(&all);
}

static void a_store_that_is_whole_has_no_problems(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOSTRV char **problems = NULL;
	add_build(c, "x", 1);
	put_step(c, "x", 1, 3, 7, 10);
	assert_ok(bxc_state_check(c->st, &problems, &err), err);
	assert_null(problems);
}

static void files_are_found_in_their_packs(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_digest p1 = num(1000);
	bxc_digest p2 = num(1001);
	bxc_state_file put[] = {
		{.file = num(1), .pack = p1, .offset = 0, .size = 10},
		{.file = num(2), .pack = p1, .offset = UINT64_C(1) << 40, .size = 0},
		{.file = num(3), .pack = p2, .offset = 5, .size = 6},
	};
	assert_ok(bxc_state_files_put(c->st, put, 3, &err), err);
	bxc_state_file moved = {.file = num(1), .pack = p2, .offset = 11, .size = 10};
	assert_ok(bxc_state_files_put(c->st, &moved, 1, &err), err);
	reopen(c);
	bxc_state_file ask[] = {
		{.file = num(3)}, {.file = num(4), .pack = p1}, {.file = num(1)}, {.file = num(2)}};
	assert_int_equal(bxc_state_files_find(c->st, ask, 4, &err), 3);
	assert_true(bxc_digest_eq(&ask[0].pack, &p2));
	assert_int_equal(ask[0].offset, 5);
	assert_int_equal(ask[0].size, 6);
	assert_false(bxc_digest_is_set(&ask[1].pack));
	assert_true(bxc_digest_eq(&ask[2].pack, &p2));
	assert_int_equal(ask[2].offset, 11);
	assert_true(ask[3].offset == UINT64_C(1) << 40);
	assert_ok(bxc_state_files_drop_pack(c->st, &p2, &err), err);
	assert_int_equal(bxc_state_files_find(c->st, ask, 4, &err), 1);
	assert_ok(bxc_state_files_drop_pack(c->st, &p2, &err), err);
}

/* The bound is generous; on an idle machine the look-ups take a few dozen milliseconds. */
static void twenty_thousand_files_are_looked_up_fast(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	enum { N = 20000 };
	BXC_AUTOFREE bxc_state_file *files = bxc_calloc(N, sizeof(*files));
	for (unsigned i = 0; i < N; i++)
		files[i] = (bxc_state_file){
			.file = num(i), .pack = num(N + i / 1000), .offset = i, .size = i};
	assert_ok(bxc_state_files_put(c->st, files, N, &err), err);
	struct timespec from;
	struct timespec to;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	assert_int_equal(bxc_state_files_find(c->st, files, N, &err), N);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	int64_t ms = (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
	assert_int_equal(files[N - 1].offset, N - 1);
	assert_in_range(ms, 0, 1000);
}

static void tokens_are_found_by_hash(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	char name[] = "ci";
	char scopes[] = "build read";
	char tenant[] = "team";
	bxc_state_token t = {
		.hash = num(1), .name = name, .scopes = scopes, .tenant = tenant, .created_ns = 4};
	assert_ok(bxc_state_token_add(c->st, &t, &err), err);
	t.hash = num(2);
	assert_err(bxc_state_token_add(c->st, &t, &err), BXC_ALREADY_EXISTS, err);
	char other[] = "admin";
	t.name = other;
	t.tenant = NULL;
	assert_ok(bxc_state_token_add(c->st, &t, &err), err);
	reopen(c);
	bxc_digest hash = num(1);
	bxc_state_token got = {0};
	assert_ok(bxc_state_token_find(c->st, &hash, &got, &err), err);
	assert_string_equal(got.name, "ci");
	assert_string_equal(got.scopes, "build read");
	assert_string_equal(got.tenant, "team");
	assert_int_equal(got.created_ns, 4);
	bxc_state_token_done(&got);
	bxc_state_tokens all = {0};
	assert_ok(bxc_state_token_list(c->st, &all, &err), err);
	assert_int_equal(all.items.n, 2);
	assert_string_equal(all.items.v[0].name, "admin");
	assert_null(all.items.v[0].tenant);
	bxc_state_tokens_done(&all);
	assert_ok(bxc_state_token_delete(c->st, "ci", &err), err);
	assert_err(bxc_state_token_delete(c->st, "ci", &err), BXC_NOT_FOUND, err);
	assert_err(bxc_state_token_find(c->st, &hash, &got, &err), BXC_NOT_FOUND, err);
}

static void a_transaction_is_kept_whole_or_not_at_all(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_state_begin(c->st, BXC_STATE_DURABLE, &err), err);
	add_build(c, "x", 1);
	uint64_t record = add_record(c, "{}", 1);
	bxc_digest key = num(1);
	assert_ok(bxc_state_keys_add(c->st, &key, 1, record, &key, 1, &err), err);
	bxc_state_rollback(c->st);
	bxc_state_build b = {0};
	assert_err(bxc_state_build_get(c->st, "x", &b, &err), BXC_NOT_FOUND, err);
	bxc_state_hit hit;
	assert_int_equal(bxc_state_key_lookup(c->st, &key, &hit, &err), 0);

	assert_ok(bxc_state_begin(c->st, BXC_STATE_LAZY, &err), err);
	add_build(c, "x", 1);
	char text[] = "{}";
	bxc_state_event twice[] = {{1, text}, {1, text}};
	assert_err(bxc_state_events_append(c->st, "x", twice, 2, &err), BXC_ALREADY_EXISTS, err);
	assert_ok(bxc_state_events_append(c->st, "x", twice, 1, &err), err);
	assert_ok(bxc_state_layer_put(c->st, "l", "{}", &err), err);
	assert_ok(bxc_state_commit(c->st, &err), err);
	/* A transaction that is open when the store is closed is gone. */
	assert_ok(bxc_state_begin(c->st, BXC_STATE_DURABLE, &err), err);
	add_build(c, "y", 1);
	reopen(c);
	uint64_t last = 0;
	assert_ok(bxc_state_events_last(c->st, "x", &last, &err), err);
	assert_int_equal(last, 1);
	assert_err(bxc_state_build_get(c->st, "y", &b, &err), BXC_NOT_FOUND, err);
}

static void what_is_out_of_bounds_is_refused(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *lengthy = bxc_calloc(1, BXC_STATE_LIMIT_ID + 2);
	memset(lengthy, 'x', BXC_STATE_LIMIT_ID + 1);
	assert_err(bxc_state_layer_put(c->st, lengthy, "{}", &err), BXC_RESOURCE_EXHAUSTED, err);
	assert_err(bxc_state_layer_put(c->st, "", "{}", &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_state_layer_put(c->st, "a\xff", "{}", &err), BXC_INVALID_ARGUMENT, err);
	bxc_digest none = {0};
	bxc_state_hit hit;
	assert_err(bxc_state_key_lookup(c->st, &none, &hit, &err), BXC_INVALID_ARGUMENT, err);
	bxc_state_file f = {.file = num(1), .pack = num(2), .size = UINT64_MAX};
	assert_err(bxc_state_files_put(c->st, &f, 1, &err), BXC_INVALID_ARGUMENT, err);
	char text[] = "{}";
	bxc_state_event zero = {0, text};
	assert_err(bxc_state_events_append(c->st, "b", &zero, 1, &err), BXC_INVALID_ARGUMENT, err);
}

#define TEST(fn)                                                                                   \
	{                                                                                          \
#fn, fn                                                                            \
	}
const state_conformance_test state_conformance_tests[] = {
	TEST(builds_are_kept_and_updated),
	TEST(the_list_of_builds_is_newest_first_and_pages),
	TEST(events_are_appended_whole_and_read_from_any_point),
	TEST(keys_lead_to_records_until_those_are_deleted),
	TEST(records_are_listed_by_last_use),
	TEST(layers_and_settings_are_replaced),
	TEST(attempts_are_kept_until_they_are_of_no_use),
	TEST(steps_are_found_by_build_lineage_and_shape),
	TEST(a_store_that_is_whole_has_no_problems),
	TEST(manifests_stay_as_long_as_a_build_uses_them),
	TEST(durations_are_kept_by_last_use),
	TEST(files_are_found_in_their_packs),
	TEST(twenty_thousand_files_are_looked_up_fast),
	TEST(tokens_are_found_by_hash),
	TEST(a_transaction_is_kept_whole_or_not_at_all),
	TEST(what_is_out_of_bounds_is_refused),
};
const size_t state_conformance_n = BXC_ARRAY_SIZE(state_conformance_tests);
