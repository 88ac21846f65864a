/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/solver/test_world.h"

struct world_link {
	uint64_t record;
	bxc_digest canonical;
};

void world_init(world *w)
{
	*w = (world){.s = bxc_solve_new(), .last_record = 100};
	w->cache = bxc_map_new(free);
	w->known = bxc_map_new(free);
	w->content = bxc_map_new(free);
	w->record_content = bxc_map_new(free);
	w->local = bxc_map_new(free);
	w->hold = bxc_map_new(NULL);
	w->defs = bxc_map_new(free);
	bxc_buf_init(&w->log, 1u << 24);
}

static void run_drop(world *w, size_t i)
{
	free(w->runs.v[i].name);
	bxc_arr_done(&w->runs.v[i].inputs);
	bxc_arr_remove(&w->runs, i);
}

void world_forget_runs(world *w)
{
	while (w->runs.n)
		run_drop(w, 0);
}

void world_done(world *w)
{
	bxc_solve_free(w->s);
	world_forget_runs(w);
	bxc_arr_done(&w->runs);
	bxc_arr_done(&w->held);
	bxc_arr_done(&w->done_records);
	bxc_map_free(w->cache);
	bxc_map_free(w->known);
	bxc_map_free(w->content);
	bxc_map_free(w->record_content);
	bxc_map_free(w->local);
	bxc_map_free(w->hold);
	bxc_map_free(w->defs);
	bxc_buf_done(&w->log);
}

static char *record_name(uint64_t record)
{
	return bxc_str_fmt("%llu", (unsigned long long)record);
}

static void on_source_key(world *w, const bxc_solve_action *a)
{
	w->n_source_keys++;
	if (bxc_map_has(w->hold, "KEY")) {
		*bxc_arr_push(&w->held) = a->ticket;
		return;
	}
	BXC_AUTOFREE char *text = bxc_str_fmt("source %s", a->def->op.source.identifier);
	bxc_digest d = bxc_digest_of_str(text);
	bxc_solve_source_key(w->s, a->ticket, &d);
}

static void on_lookup(world *w, const bxc_solve_action *a)
{
	w->n_lookups++;
	char key[BXC_DIGEST_STR_MAX];
	const struct world_link *l = bxc_map_get(w->cache, bxc_digest_str(&a->key, key));
	const bxc_digest *known = bxc_map_get(w->known, key);
	if (l)
		bxc_solve_lookup_hit(w->s, a->ticket, l->record, &l->canonical);
	else if (known)
		bxc_solve_lookup_known(w->s, a->ticket, known);
	else
		bxc_solve_lookup_miss(w->s, a->ticket);
}

static void on_checksum(world *w, const bxc_solve_action *a)
{
	w->n_checksums++;
	if (bxc_map_has(w->hold, "CHECKSUM")) {
		*bxc_arr_push(&w->held) = a->ticket;
		return;
	}
	const char *text = NULL;
	if (a->cheap) {
		text = bxc_map_get(w->local, a->selectors[0].path);
	} else {
		BXC_AUTOFREE char *name = record_name(a->inputs[0].record);
		text = bxc_map_get(w->record_content, name);
	}
	if (!text) {
		bxc_err *err = NULL;
		bxc_err_set(&err, BXC_NOT_FOUND, "'%s' not found", a->selectors[0].path);
		bxc_solve_fail(w->s, a->ticket, err, false);
		return;
	}
	bxc_digest d = bxc_digest_of_str(text);
	bxc_solve_checksum(w->s, a->ticket, &d);
}

static void on_run(world *w, const bxc_solve_action *a)
{
	world_run *r = bxc_arr_push(&w->runs);
	r->ticket = a->ticket;
	r->vertex = a->vertex;
	r->name = bxc_strdup(a->def->meta.name);
	r->attempt = a->attempt;
	r->miss = a->miss;
	r->miss_input = a->miss_input;
	r->fresh = a->fresh;
	r->remaining = a->remaining;
	for (size_t i = 0; i < a->n_inputs; i++)
		*bxc_arr_push(&r->inputs) = a->inputs[i].record;
}

static void on_cancel(world *w, const bxc_solve_action *a)
{
	for (size_t i = 0; i < w->runs.n; i++) {
		if (w->runs.v[i].ticket == a->ticket) {
			bxc_buf_addf(&w->log, "STOP:%s ", w->runs.v[i].name);
			run_drop(w, i);
			return;
		}
	}
	bxc_buf_adds(&w->log, "STOP:unknown ");
}

static void on_event(world *w, const bxc_solve_action *a)
{
	static const char *const words[] = {
		"?", "STARTED", "CACHED", "DONE", "FAILED", "CANCELED", "MISSED"};
	BXC_AUTOFREE char *name = record_name(a->build);
	const bxc_def *d = bxc_map_get(w->defs, name);
	bxc_buf_addf(&w->log, "b%llu:%s:%s ", (unsigned long long)a->build, words[a->event],
		d ? d->vertices.v[a->def_index]->meta.name : "?");
}

static void on_done(world *w, const bxc_solve_action *a)
{
	w->done_build = a->build;
	w->done_code = bxc_err_code(a->err);
	w->done_records.n = 0;
	for (size_t i = 0; i < a->n_results; i++)
		*bxc_arr_push(&w->done_records) = a->results[i].record;
	bxc_buf_addf(&w->log, "b%llu:%s ", (unsigned long long)a->build,
		a->err ? bxc_code_name(w->done_code) : "OK");
}

void world_drive(world *w)
{
	bxc_solve_action a;
	while (bxc_solve_next(w->s, &a)) {
		switch (a.kind) {
		case BXC_SOLVE_SOURCE_KEY:
			on_source_key(w, &a);
			break;
		case BXC_SOLVE_LOOKUP:
			on_lookup(w, &a);
			break;
		case BXC_SOLVE_CHECKSUM:
			on_checksum(w, &a);
			break;
		case BXC_SOLVE_RUN:
			on_run(w, &a);
			break;
		case BXC_SOLVE_CANCEL_RUN:
			on_cancel(w, &a);
			break;
		case BXC_SOLVE_SAVE_KEYS:
			for (size_t i = 0; i < a.n_keys; i++) {
				struct world_link *l = bxc_calloc(1, sizeof(*l));
				*l = (struct world_link){a.record, a.canonical};
				char key[BXC_DIGEST_STR_MAX];
				bxc_map_set(w->cache, bxc_digest_str(&a.keys[i], key), l);
				w->n_saves++;
			}
			break;
		case BXC_SOLVE_EVENT:
			on_event(w, &a);
			break;
		case BXC_SOLVE_BUILD_DONE:
			on_done(w, &a);
			break;
		case BXC_SOLVE_NONE:
			abort();
		}
	}
}

world_run *world_find(world *w, const char *name)
{
	BXC_ARR_FOREACH (r, &w->runs) {
		if (bxc_str_eq(r->name, name))
			return r;
	}
	return NULL;
}

static void finish_at(world *w, size_t i, uint64_t *ret_record)
{
	world_run *r = &w->runs.v[i];
	uint64_t record = ++w->last_record;
	const char *fixed = bxc_map_get(w->content, r->name);
	BXC_AUTOFREE char *name = record_name(record);
	bxc_map_set(w->record_content, name,
		fixed ? bxc_strdup(fixed) : bxc_str_fmt("made by %s as %s", r->name, name));
	uint64_t ticket = r->ticket;
	run_drop(w, i);
	bxc_check(bxc_solve_run_done(w->s, ticket, record));
	world_drive(w);
	*ret_record = record;
}

uint64_t world_finish(world *w, const char *name)
{
	world_run *r = world_find(w, name);
	bxc_check(r != NULL);
	uint64_t record = 0;
	finish_at(w, (size_t)(r - w->runs.v), &record);
	return record;
}

void world_fail(world *w, const char *name, bool infra)
{
	world_run *r = world_find(w, name);
	bxc_check(r != NULL);
	uint64_t ticket = r->ticket;
	run_drop(w, (size_t)(r - w->runs.v));
	bxc_err *err = NULL;
	bxc_err_set(&err, infra ? BXC_UNAVAILABLE : BXC_ABORTED, "'%s' failed", name);
	bxc_check(bxc_solve_fail(w->s, ticket, err, infra));
	world_drive(w);
}

void world_finish_all(world *w)
{
	uint64_t record;
	while (w->runs.n)
		finish_at(w, 0, &record);
}

void world_lose(world *w, uint64_t record)
{
	BXC_MAP_FOREACH (it, w->cache) {
		const struct world_link *l = it.value;
		if (l->record == record)
			bxc_map_del(w->cache, it.key);
	}
	bxc_solve_result_lost(w->s, record);
	world_drive(w);
}

void world_add(world *w, uint64_t build, const bxc_def *d, uint32_t target)
{
	BXC_AUTOFREE char *name = record_name(build);
	bxc_map_set(w->defs, name, bxc_memdup(d, sizeof(*d))); /* shallow */
	bxc_solve_target t = {target, 0};
	bxc_check(bxc_solve_add_build(w->s, build, d, &t, 1, NULL) == 0);
	world_drive(w);
}

void world_look(world *w, uint64_t build, const bxc_def *d, uint32_t target)
{
	BXC_AUTOFREE char *name = record_name(build);
	bxc_map_set(w->defs, name, bxc_memdup(d, sizeof(*d))); /* shallow */
	bxc_solve_target t = {target, 0};
	bxc_check(bxc_solve_add_look(w->s, build, d, &t, 1, NULL) == 0);
	world_drive(w);
}

const char *world_log(world *w)
{
	static char line[1u << 16];
	size_t n = w->log.len ? w->log.len - 1 : 0;
	bxc_check(n < sizeof(line));
	memcpy(line, bxc_buf_text(&w->log), n);
	line[n] = 0;
	bxc_buf_clear(&w->log);
	return line;
}

static uint32_t add(bxc_def *d, bxc_def_vertex *v, const char *name)
{
	v->meta.name = bxc_strdup(name);
	uint32_t index = 0;
	bxc_check(bxc_def_add(d, v, &index, NULL) == 0);
	return index;
}

static bxc_platform linux_amd64(void)
{
	return (bxc_platform){.os = "linux", .arch = "amd64"};
}

uint32_t def_image(bxc_def *d, const char *name)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	v->platform = linux_amd64();
	v->op.source.identifier = bxc_str_fmt("docker-image://docker.io/library/%s:latest", name);
	return add(d, v, name);
}

uint32_t def_local(bxc_def *d, const char *name)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	v->op.source.identifier = bxc_str_fmt("local://%s", name);
	return add(d, v, name);
}

static bxc_def_vertex *new_run(const char *name, uint32_t input)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_EXEC);
	v->platform = linux_amd64();
	bxc_strv_push(&v->op.exec.args, name);
	v->op.exec.cwd = bxc_strdup("/");
	uint32_t in = bxc_def_add_input(v, input, 0);
	bxc_op_mount *m = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/");
	m->input = in;
	m->output = 0;
	m->readonly = false;
	return v;
}

uint32_t def_run(bxc_def *d, const char *name, uint32_t input)
{
	return add(d, new_run(name, input), name);
}

uint32_t def_run2(bxc_def *d, const char *name, uint32_t input, uint32_t mount)
{
	bxc_def_vertex *v = new_run(name, input);
	uint32_t in = bxc_def_add_input(v, mount, 0);
	bxc_op_mount *m = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/m");
	m->input = in;
	m->output = BXC_DEF_NO_OUTPUT;
	m->readonly = true;
	return add(d, v, name);
}

uint32_t def_copy(bxc_def *d, const char *name, uint32_t target, uint32_t source, const char *path)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_FILE);
	v->platform = linux_amd64();
	uint32_t t =
		target == BXC_DEF_NO_INPUT ? BXC_DEF_NO_INPUT : bxc_def_add_input(v, target, 0);
	uint32_t src = bxc_def_add_input(v, source, 0);
	bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_COPY);
	a->target = t;
	a->source = src;
	a->src = bxc_strdup(path);
	a->dest = bxc_strdup("/dest");
	return add(d, v, name);
}

void def_ignore(bxc_def *d, uint32_t v)
{
	d->vertices.v[v]->meta.ignore_cache = true;
}

void world_tell(world *to, world *from, uint64_t build, uint32_t with)
{
	bxc_solve_fact f;
	for (uint32_t i = 0; i <= with; i++) {
		if (!bxc_solve_fact_of(from->s, build, i, &f))
			continue;
		for (size_t k = 0; k < f.n_keys; k++) {
			char key[BXC_DIGEST_STR_MAX];
			bxc_digest_str(&f.keys[k], key);
			if (i == with && f.record) {
				struct world_link *l = bxc_calloc(1, sizeof(*l));
				*l = (struct world_link){f.record + 1000, f.canonical};
				bxc_map_set(to->cache, key, l);
			} else {
				bxc_map_set(to->known, key, bxc_memdup(&f.canonical, sizeof(f.canonical)));
			}
		}
	}
}
