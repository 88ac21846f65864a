/* SPDX-License-Identifier: Apache-2.0 */
/* What is the same for all backends: limits and arguments are checked here, once. */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/utf8.h"
#include "coordinator/state/state_internal.h"

/* ---- checks ---- */

static int check_text(const char *what, const char *s, size_t min, size_t max, bxc_err **err)
{
	size_t n = strlen(s);
	if (n < min)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s is empty", what);
	if (n > max)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "%s has %zu bytes, at most %zu fit",
			what, n, max);
	if (!bxc_utf8_valid(s, n))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s is not valid UTF-8", what);
	return 0;
}

static int check_id(const char *what, const char *s, bxc_err **err)
{
	if (!s)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s is missing", what);
	return check_text(what, s, 1, BXC_STATE_LIMIT_ID, err);
}

static int check_name(const char *what, const char *s, bxc_err **err)
{
	return s ? check_text(what, s, 0, BXC_STATE_LIMIT_NAME, err) : 0;
}

static int check_json(const char *what, const char *s, bool may_miss, bxc_err **err)
{
	if (!s)
		return may_miss ? 0 : bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s is missing", what);
	return check_text(what, s, 0, BXC_STATE_LIMIT_TEXT, err);
}

static int check_digest(const char *what, const bxc_digest *d, bxc_err **err)
{
	if (d->alg != 1)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s is no sha256 digest", what);
	return 0;
}

static int check_digests(const char *what, const bxc_digest *d, size_t n, bxc_err **err)
{
	for (size_t i = 0; i < n; i++) {
		int r = check_digest(what, &d[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_count(const char *what, size_t n, size_t min, size_t max, bxc_err **err)
{
	if (n < min || n > max)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "%s is %zu, not %zu to %zu", what, n, min, max);
	return 0;
}

/* Stores keep 64-bit integers with a sign. */
static int check_u64(const char *what, uint64_t v, bxc_err **err)
{
	if (v > INT64_MAX)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s is out of range", what);
	return 0;
}

#define CHECK(call)                                                                                \
	do {                                                                                       \
		int check_r_ = (call);                                                             \
		if (check_r_ < 0)                                                                  \
			return check_r_;                                                           \
	} while (0)

/* ---- open, transactions ---- */

int bxc_state_open(const char *url, bxc_state **ret, bxc_err **err)
{
	if (bxc_str_has_prefix(url, "sqlite:")) {
		const char *path = url + strlen("sqlite:");
		if (bxc_str_has_prefix(path, "//"))
			path += 2;
		if (!*path)
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "state '%s' names no file", url);
		return bxc_state__open_sqlite(path, ret, err);
	}
	if (bxc_str_has_prefix(url, "postgres:") || bxc_str_has_prefix(url, "postgresql:"))
		return bxc_err_set(err, BXC_UNIMPLEMENTED,
			"this program has no state backend 'postgres'; use sqlite:<file>");
	return bxc_err_set(
		err, BXC_INVALID_ARGUMENT, "'%s' names no state; use sqlite:<file>", url);
}

void bxc_state_close(bxc_state *st)
{
	if (!st)
		return;
	bxc_state_rollback(st);
	st->ops->close(st);
}

int bxc_state_begin(bxc_state *st, bxc_state_durability d, bxc_err **err)
{
	bxc_check(!st->in_transaction);
	int r = st->ops->begin(st, d, err);
	if (r < 0)
		return r;
	st->in_transaction = true;
	return 0;
}

int bxc_state_commit(bxc_state *st, bxc_err **err)
{
	bxc_check(st->in_transaction);
	st->in_transaction = false;
	return st->ops->commit(st, err);
}

void bxc_state_rollback(bxc_state *st)
{
	if (!st->in_transaction)
		return;
	st->in_transaction = false;
	st->ops->rollback(st);
}

/* ---- builds, events ---- */

int bxc_state_build_add(bxc_state *st, const bxc_state_build *b, bxc_err **err)
{
	CHECK(check_id("build id", b->id, err));
	CHECK(check_id("status", b->status, err));
	CHECK(check_name("build name", b->name, err));
	CHECK(check_name("tenant", b->tenant, err));
	CHECK(check_json("request", b->request, false, err));
	CHECK(check_json("error", b->error, true, err));
	CHECK(check_json("result", b->result, true, err));
	return st->ops->build_add(st, b, err);
}

int bxc_state_build_update(bxc_state *st, const char *id, const char *status, int64_t completed_ns,
	const char *error, const char *result, bxc_err **err)
{
	CHECK(check_id("build id", id, err));
	CHECK(check_id("status", status, err));
	CHECK(check_json("error", error, true, err));
	CHECK(check_json("result", result, true, err));
	return st->ops->build_update(st, id, status, completed_ns, error, result, err);
}

int bxc_state_build_get(bxc_state *st, const char *id, bxc_state_build *ret, bxc_err **err)
{
	CHECK(check_id("build id", id, err));
	return st->ops->build_get(st, id, ret, err);
}

int bxc_state_build_delete(bxc_state *st, const char *id, bxc_err **err)
{
	CHECK(check_id("build id", id, err));
	return st->ops->build_delete(st, id, err);
}

int bxc_state_build_list(
	bxc_state *st, const bxc_state_build_filter *f, bxc_state_builds *ret, bxc_err **err)
{
	CHECK(check_count("limit", f->limit, 1, BXC_STATE_LIMIT_LIST, err));
	CHECK(check_name("status", f->status, err));
	CHECK(check_name("tenant", f->tenant, err));
	CHECK(check_name("build id", f->after, err));
	bxc_state_builds found = {0};
	int r = st->ops->build_list(st, f, &found, err);
	if (r < 0) {
		bxc_state_builds_done(&found);
		return r;
	}
	*ret = found;
	return 0;
}

int bxc_state_events_append(
	bxc_state *st, const char *build, const bxc_state_event *items, size_t n, bxc_err **err)
{
	CHECK(check_id("build id", build, err));
	CHECK(check_count("number of events", n, 0, BXC_STATE_LIMIT_BATCH, err));
	for (size_t i = 0; i < n; i++) {
		CHECK(check_u64("event number", items[i].seq, err));
		if (items[i].seq == 0)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "event numbers begin at 1");
		CHECK(check_json("event", items[i].text, false, err));
	}
	return n ? st->ops->events_append(st, build, items, n, err) : 0;
}

int bxc_state_events_read(bxc_state *st, const char *build, uint64_t from_seq, size_t limit,
	bxc_state_events *ret, bxc_err **err)
{
	CHECK(check_id("build id", build, err));
	CHECK(check_u64("event number", from_seq, err));
	CHECK(check_count("limit", limit, 1, BXC_STATE_LIMIT_LIST, err));
	bxc_state_events found = {0};
	int r = st->ops->events_read(st, build, from_seq, limit, &found, err);
	if (r < 0) {
		bxc_state_events_done(&found);
		return r;
	}
	*ret = found;
	return 0;
}

int bxc_state_events_last(bxc_state *st, const char *build, uint64_t *ret_seq, bxc_err **err)
{
	CHECK(check_id("build id", build, err));
	return st->ops->events_last(st, build, ret_seq, err);
}

/* ---- cache ---- */

int bxc_state_record_add(bxc_state *st, const bxc_state_record *r, uint64_t *ret_id, bxc_err **err)
{
	CHECK(check_json("result", r->result, false, err));
	return st->ops->record_add(st, r, ret_id, err);
}

int bxc_state_record_get(bxc_state *st, uint64_t id, bxc_state_record *ret, bxc_err **err)
{
	CHECK(check_u64("record id", id, err));
	return st->ops->record_get(st, id, ret, err);
}

int bxc_state_record_update(bxc_state *st, uint64_t id, const char *result, bxc_err **err)
{
	CHECK(check_u64("record id", id, err));
	CHECK(check_json("result", result, false, err));
	return st->ops->record_update(st, id, result, err);
}

int bxc_state_record_delete(bxc_state *st, uint64_t id, bxc_err **err)
{
	CHECK(check_u64("record id", id, err));
	return st->ops->record_delete(st, id, err);
}

int bxc_state_record_list(bxc_state *st, size_t limit, bxc_state_records *ret, bxc_err **err)
{
	CHECK(check_count("limit", limit, 1, BXC_STATE_LIMIT_LIST, err));
	bxc_state_records found = {0};
	int r = st->ops->record_list(st, limit, &found, err);
	if (r < 0) {
		bxc_state_records_done(&found);
		return r;
	}
	*ret = found;
	return 0;
}

int bxc_state_keys_add(bxc_state *st, const bxc_digest *keys, size_t n, uint64_t record,
	const bxc_digest *canonical, int64_t now_ns, bxc_err **err)
{
	CHECK(check_count("number of keys", n, 0, BXC_STATE_LIMIT_BATCH, err));
	CHECK(check_digests("cache key", keys, n, err));
	CHECK(check_digest("canonical key", canonical, err));
	CHECK(check_u64("record id", record, err));
	return n ? st->ops->keys_add(st, keys, n, record, canonical, now_ns, err) : 0;
}

int bxc_state_key_lookup(bxc_state *st, const bxc_digest *key, bxc_state_hit *ret, bxc_err **err)
{
	CHECK(check_digest("cache key", key, err));
	return st->ops->key_lookup(st, key, ret, err);
}

int bxc_state_keys_touch(
	bxc_state *st, const bxc_digest *keys, size_t n, int64_t now_ns, bxc_err **err)
{
	CHECK(check_count("number of keys", n, 0, BXC_STATE_LIMIT_BATCH, err));
	CHECK(check_digests("cache key", keys, n, err));
	return n ? st->ops->keys_touch(st, keys, n, now_ns, err) : 0;
}

/* ---- layers, files ---- */

int bxc_state_layer_put(bxc_state *st, const char *layer, const char *facts, bxc_err **err)
{
	CHECK(check_id("layer id", layer, err));
	CHECK(check_json("layer facts", facts, false, err));
	return st->ops->layer_put(st, layer, facts, err);
}

int bxc_state_layer_get(bxc_state *st, const char *layer, char **ret_facts, bxc_err **err)
{
	CHECK(check_id("layer id", layer, err));
	return st->ops->layer_get(st, layer, ret_facts, err);
}

int bxc_state_layer_delete(bxc_state *st, const char *layer, bxc_err **err)
{
	CHECK(check_id("layer id", layer, err));
	return st->ops->layer_delete(st, layer, err);
}

int bxc_state_files_put(bxc_state *st, const bxc_state_file *files, size_t n, bxc_err **err)
{
	CHECK(check_count("number of files", n, 0, BXC_STATE_LIMIT_BATCH, err));
	for (size_t i = 0; i < n; i++) {
		CHECK(check_digest("file", &files[i].file, err));
		CHECK(check_digest("pack", &files[i].pack, err));
		CHECK(check_u64("offset", files[i].offset, err));
		CHECK(check_u64("size", files[i].size, err));
	}
	return n ? st->ops->files_put(st, files, n, err) : 0;
}

int bxc_state_files_find(bxc_state *st, bxc_state_file *files, size_t n, bxc_err **err)
{
	CHECK(check_count("number of files", n, 0, BXC_STATE_LIMIT_BATCH, err));
	for (size_t i = 0; i < n; i++)
		CHECK(check_digest("file", &files[i].file, err));
	return n ? st->ops->files_find(st, files, n, err) : 0;
}

int bxc_state_files_drop_pack(bxc_state *st, const bxc_digest *pack, bxc_err **err)
{
	CHECK(check_digest("pack", pack, err));
	return st->ops->files_drop_pack(st, pack, err);
}

/* ---- tokens, settings ---- */

int bxc_state_token_add(bxc_state *st, const bxc_state_token *t, bxc_err **err)
{
	CHECK(check_digest("token hash", &t->hash, err));
	CHECK(check_id("token name", t->name, err));
	CHECK(check_id("token scopes", t->scopes, err));
	CHECK(check_name("tenant", t->tenant, err));
	return st->ops->token_add(st, t, err);
}

int bxc_state_token_find(bxc_state *st, const bxc_digest *hash, bxc_state_token *ret, bxc_err **err)
{
	CHECK(check_digest("token hash", hash, err));
	return st->ops->token_find(st, hash, ret, err);
}

int bxc_state_token_delete(bxc_state *st, const char *name, bxc_err **err)
{
	CHECK(check_id("token name", name, err));
	return st->ops->token_delete(st, name, err);
}

int bxc_state_token_list(bxc_state *st, bxc_state_tokens *ret, bxc_err **err)
{
	bxc_state_tokens found = {0};
	int r = st->ops->token_list(st, &found, err);
	if (r < 0) {
		bxc_state_tokens_done(&found);
		return r;
	}
	*ret = found;
	return 0;
}

int bxc_state_setting_get(bxc_state *st, const char *key, char **ret_value, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	CHECK(check_id("setting", key, err));
	int r = st->ops->setting_get(st, key, ret_value, &why);
	if (r == -BXC_NOT_FOUND)
		return 0;
	return r < 0 ? bxc_err_move(err, BXC_TAKE(why)) : 1;
}

int bxc_state_setting_set(bxc_state *st, const char *key, const char *value, bxc_err **err)
{
	CHECK(check_id("setting", key, err));
	CHECK(check_json("value", value, false, err));
	return st->ops->setting_set(st, key, value, err);
}

int bxc_state_setting_init(
	bxc_state *st, const char *key, const char *value, char **ret_value, bxc_err **err)
{
	CHECK(check_id("setting", key, err));
	CHECK(check_json("value", value, false, err));
	return st->ops->setting_init(st, key, value, ret_value, err);
}

int bxc_state_attempt_put(bxc_state *st, const bxc_state_attempt *a, bxc_err **err)
{
	CHECK(check_id("task", a->task, err));
	CHECK(check_id("worker", a->worker, err));
	CHECK(check_digests("key of an attempt", &a->key, 1, err));
	CHECK(check_json("facts of an attempt", a->facts, false, err));
	if (*a->build)
		CHECK(check_id("build", a->build, err));
	if (a->epoch > INT64_MAX || a->record > INT64_MAX)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "attempt '%s': a number is too large", a->task);
	return st->ops->attempt_put(st, a, err);
}

int bxc_state_attempt_delete(bxc_state *st, const char *task, bxc_err **err)
{
	CHECK(check_id("task", task, err));
	return st->ops->attempt_delete(st, task, err);
}

int bxc_state_attempts_forget(bxc_state *st, const char *build, bxc_err **err)
{
	CHECK(check_id("build", build, err));
	return st->ops->attempts_forget(st, build, err);
}

int bxc_state_attempt_list(bxc_state *st, bxc_state_attempts *ret, bxc_err **err)
{
	return st->ops->attempt_list(st, ret, err);
}

/* ---- looking after it ---- */

int bxc_state_check(bxc_state *st, char ***ret_problems, bxc_err **err)
{
	return st->ops->check(st, ret_problems, err);
}

/* ---- steps ---- */

int bxc_state_step_put(bxc_state *st, const bxc_state_step *s, bxc_err **err)
{
	CHECK(check_id("build", s->build, err));
	CHECK(check_id("outcome", s->outcome, err));
	CHECK(check_digest("vertex", &s->vertex, err));
	CHECK(check_digest("lineage", &s->lineage, err));
	CHECK(check_digest("shape", &s->shape, err));
	CHECK(check_u64("number", s->number, err));
	CHECK(check_u64("record", s->record, err));
	CHECK(check_json("facts", s->facts, false, err));
	return st->ops->step_put(st, s, err);
}

int bxc_state_step_get(bxc_state *st, const char *build, const bxc_digest *vertex,
	bxc_state_step *ret, bxc_err **err)
{
	CHECK(check_id("build", build, err));
	CHECK(check_digest("vertex", vertex, err));
	return st->ops->step_get(st, build, vertex, ret, err);
}

int bxc_state_steps_of_build(bxc_state *st, const char *build, const bxc_state_step *after,
	size_t limit, bxc_state_steps *ret, bxc_err **err)
{
	CHECK(check_id("build", build, err));
	CHECK(check_count("limit", limit, 1, BXC_STATE_LIMIT_LIST, err));
	return st->ops->steps_of_build(st, build, after, limit, ret, err);
}

int bxc_state_steps_by_lineage(
	bxc_state *st, const bxc_state_step *s, size_t limit, bxc_state_steps *ret, bxc_err **err)
{
	CHECK(check_count("limit", limit, 1, BXC_STATE_LIMIT_LIST, err));
	return st->ops->steps_by_lineage(st, s, limit, ret, err);
}

int bxc_state_steps_by_shape(
	bxc_state *st, const bxc_state_step *s, size_t limit, bxc_state_steps *ret, bxc_err **err)
{
	CHECK(check_count("limit", limit, 1, BXC_STATE_LIMIT_LIST, err));
	return st->ops->steps_by_shape(st, s, limit, ret, err);
}

int bxc_state_manifest_put(bxc_state *st, const bxc_digest *digest, const char *text, bxc_err **err)
{
	CHECK(check_digest("manifest", digest, err));
	CHECK(check_json("text", text, false, err));
	return st->ops->manifest_put(st, digest, text, err);
}

int bxc_state_manifest_get(bxc_state *st, const bxc_digest *digest, char **ret_text, bxc_err **err)
{
	CHECK(check_digest("manifest", digest, err));
	return st->ops->manifest_get(st, digest, ret_text, err);
}

int bxc_state_manifest_use(
	bxc_state *st, const char *build, const bxc_digest *digest, bxc_err **err)
{
	CHECK(check_id("build", build, err));
	CHECK(check_digest("manifest", digest, err));
	return st->ops->manifest_use(st, build, digest, err);
}

int bxc_state_duration_put(bxc_state *st, const bxc_state_duration *d, bxc_err **err)
{
	CHECK(check_digests("key of a duration", &d->key, 1, err));
	CHECK(check_id("times of a duration", d->times, err));
	return st->ops->duration_put(st, d, err);
}

int bxc_state_duration_list(bxc_state *st, size_t limit, bxc_state_durations *ret, bxc_err **err)
{
	return st->ops->duration_list(st, limit, ret, err);
}

int bxc_state_durations_trim(bxc_state *st, size_t keep, bxc_err **err)
{
	return st->ops->durations_trim(st, keep, err);
}

/* ---- free them ---- */

void bxc_state_step_done(bxc_state_step *s)
{
	free(s->build);
	free(s->outcome);
	free(s->facts);
	*s = (bxc_state_step){0};
}

void bxc_state_steps_done(bxc_state_steps *s)
{
	BXC_ARR_FOREACH (it, &s->items)
		bxc_state_step_done(it);
	bxc_arr_done(&s->items);
}

void bxc_state_durations_done(bxc_state_durations *d)
{
	BXC_ARR_FOREACH (it, &d->items)
		free(it->times);
	bxc_arr_done(&d->items);
}

void bxc_state_attempt_done(bxc_state_attempt *a)
{
	free(a->task);
	free(a->build);
	free(a->worker);
	free(a->facts);
	*a = (bxc_state_attempt){0};
}

void bxc_state_attempts_done(bxc_state_attempts *a)
{
	BXC_ARR_FOREACH (it, &a->items)
		bxc_state_attempt_done(it);
	bxc_arr_done(&a->items);
}

void bxc_state_build_done(bxc_state_build *b)
{
	free(b->id);
	free(b->name);
	free(b->tenant);
	free(b->status);
	free(b->request);
	free(b->error);
	free(b->result);
	*b = (bxc_state_build){0};
}

void bxc_state_builds_done(bxc_state_builds *b)
{
	BXC_ARR_FOREACH (it, &b->items)
		bxc_state_build_done(it);
	bxc_arr_done(&b->items);
}

void bxc_state_events_done(bxc_state_events *e)
{
	BXC_ARR_FOREACH (it, &e->items)
		free(it->text);
	bxc_arr_done(&e->items);
}

void bxc_state_record_done(bxc_state_record *r)
{
	free(r->result);
	*r = (bxc_state_record){0};
}

void bxc_state_records_done(bxc_state_records *r)
{
	BXC_ARR_FOREACH (it, &r->items)
		bxc_state_record_done(it);
	bxc_arr_done(&r->items);
}

void bxc_state_token_done(bxc_state_token *t)
{
	free(t->name);
	free(t->scopes);
	free(t->tenant);
	*t = (bxc_state_token){0};
}

void bxc_state_tokens_done(bxc_state_tokens *t)
{
	BXC_ARR_FOREACH (it, &t->items)
		bxc_state_token_done(it);
	bxc_arr_done(&t->items);
}
