/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sources that lie elsewhere: git repositories, files of web servers, files that a client sends.
 * What they stand for is asked of a worker, as is everything else that leaves the cluster; their
 * key is made of the answer, so that a commit is the same whatever it was called.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/remote/remote.h"

#define MAX_PINS  10000u /* that are remembered; what is forgotten is asked again */
#define MAX_ASKED 3u	 /* times that a question which no solver repeats is put */

bool source_is_remote(const bxc_def_vertex *v)
{
	const char *id = v->op.source.identifier;
	return bxc_str_has_prefix(id, "git://") || bxc_remote_is_http(id) ||
	       bxc_str_has_prefix(id, "upload://");
}

/* ---- keys ---- */

static int git_key(const bxc_op_source *s, const bxc_json *pin, bxc_digest *ret, bxc_err **err)
{
	BXC_AUTOGITREF bxc_git_ref g = {0};
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	int r = bxc_git_ref_from_source(s->identifier, s->attrs, &g, err);
	if (r < 0)
		return r;
	bool keep = g.keep_git_dir == BXC_GIT_YES;
	bxc_hasher_update_str(h, "git 1");
	bxc_hasher_update_str(h, bxc_json_get_str(pin, "id", ""));
	bxc_hasher_update_str(h, g.subdir ? g.subdir : "");
	bxc_hasher_update_u64(h, (keep ? 1u : 0u) | (g.submodules == BXC_GIT_NO ? 2u : 0u) |
					 (g.mtime_of_commit ? 4u : 0u));
	/* What is kept of the repository tells where it came from. */
	bxc_hasher_update_str(h, keep ? g.remote : "");
	bxc_hasher_update_str(h, keep ? bxc_json_get_str(pin, "ref", "") : "");
	*ret = bxc_hasher_final(h);
	return 0;
}

static bxc_digest file_key(const bxc_op_source *s, const bxc_json *pin)
{
	static const char *const attrs[] = {"http.perm", "http.uid", "http.gid"};
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	BXC_AUTOFREE char *of_url =
		bxc_remote_is_http(s->identifier) ? bxc_remote_url_name(s->identifier) : NULL;
	const char *name = bxc_env_get(s->attrs, "http.filename");
	if (!name)
		name = bxc_json_get_str(pin, "filename", of_url ? of_url : "");
	bxc_hasher_update_str(h, "file 1");
	bxc_hasher_update_str(h, name);
	bxc_hasher_update_str(h, bxc_json_get_str(pin, "id", ""));
	bxc_hasher_update_u64(h, (uint64_t)bxc_json_get_i64(pin, "time_ns", INT64_MIN));
	for (size_t i = 0; i < BXC_ARRAY_SIZE(attrs); i++) {
		const char *v = bxc_env_get(s->attrs, attrs[i]);
		bxc_hasher_update_str(h, v ? v : "");
	}
	return bxc_hasher_final(h);
}

/* What the name alone tells, or NULL. Owned. */
static bxc_json *pin_of_name(const bxc_op_source *s)
{
	const char *id = NULL;
	if (bxc_str_has_prefix(s->identifier, "upload://"))
		id = s->identifier + strlen("upload://");
	else if (bxc_remote_is_http(s->identifier))
		id = bxc_env_get(s->attrs, "http.checksum");
	else
		id = bxc_env_get(s->attrs, "git.commit");
	if (!id)
		return NULL;
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "id", id);
	return j;
}

static int key_of(const bxc_op_source *s, const bxc_json *pin, bxc_digest *ret, bxc_err **err)
{
	if (bxc_str_empty(bxc_json_get_str(pin, "id", NULL)))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "pin: without an id");
	if (bxc_str_has_prefix(s->identifier, "git://"))
		return git_key(s, pin, ret, err);
	*ret = file_key(s, pin);
	return 0;
}

/* ---- questions ---- */

task *task_ask(
	bxc_build *e, build *b, const char *kind, const bxc_def_vertex *v, task_answer answer)
{
	task *t = task_new(e, TASK_ASK, b);
	t->answer = answer;
	t->remaining = 1;
	bxc_json_set_str(t->body, "kind", kind);
	if (v) {
		char digest[BXC_DIGEST_STR_MAX];
		t->vertex_digest = bxc_strdup(bxc_digest_str(&v->digest, digest));
		bxc_json_set_take(t->body, "op", bxc_def_vertex_to_json(v));
	}
	return t;
}

bool task_ask_again(bxc_build *e, task *t)
{
	if (t->attempt >= MAX_ASKED || !t->build || t->build->dead)
		return false;
	task *n = task_new(e, TASK_ASK, t->build);
	n->answer = t->answer;
	n->remaining = 1;
	n->attempt = t->attempt + 1;
	n->vertex_digest = bxc_strdup(t->vertex_digest);
	bxc_json_free(n->body);
	n->body = bxc_json_dup(t->body);
	BXC_ARR_FOREACH (in, &t->inputs) {
		task_input *copy = bxc_arr_push(&n->inputs);
		copy->record = in->record;
		BXC_ARR_FOREACH (l, &in->layers)
			*bxc_arr_push(&copy->layers) = *l;
	}
	BXC_ARR_FOREACH (w, &t->avoid)
		*bxc_arr_push(&n->avoid) = *w;
	if (t->worker)
		*bxc_arr_push(&n->avoid) = t->worker;
	task_drop(e, t);
	task_ready(e, n);
	return true;
}

static void free_pin(void *p)
{
	struct source_pin *pin = p;
	bxc_json_free(pin->json);
	free(pin);
}

bxc_map *source_pins_new(void)
{
	return bxc_map_new(free_pin);
}

void source_pinned(bxc_build *e, const char *vertex, const bxc_json *pin, uint64_t worker)
{
	if (bxc_map_len(e->pins) >= MAX_PINS)
		bxc_map_clear(e->pins);
	struct source_pin *p = bxc_calloc(1, sizeof(*p));
	p->json = bxc_json_dup(pin);
	p->worker = worker;
	bxc_map_set(e->pins, vertex, p);
}

/* ---- for the solver ---- */

static void key_answer(bxc_build *e, task *t, const bxc_json *result, bxc_err *err_take, bool infra)
{
	uint64_t ticket = t->ticket;
	bxc_digest key;
	bxc_err *err = err_take;
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = NULL;
	const bxc_json *pin = bxc_json_get(result, "pin");
	int r = err ? -1 : bxc_def_vertex_from_json(bxc_json_get(t->body, "op"), &v, &err);
	if (r >= 0)
		r = key_of(&v->op.source, pin, &key, &err);
	if (r >= 0) {
		source_pinned(e, t->vertex_digest, pin, t->worker);
		task_drop(e, t);
		bxc_solve_source_key(e->solve, ticket, &key);
	} else {
		task_drop(e, t);
		bxc_solve_fail(e->solve, ticket, err, infra);
	}
	pump(e);
}

void remote_key(bxc_build *e, build *b, const bxc_solve_action *a)
{
	BXC_AUTOJSON bxc_json *pin = pin_of_name(&a->def->op.source);
	bxc_digest key;
	bxc_err *err = NULL;
	if (pin && key_of(&a->def->op.source, pin, &key, &err) >= 0) {
		bxc_solve_source_key(e->solve, a->ticket, &key);
		return;
	}
	if (err) {
		bxc_solve_fail(e->solve, a->ticket, err, false);
		return;
	}
	task *t = task_ask(e, b, "resolve", a->def, key_answer);
	const struct source_pin *known = bxc_map_get(e->pins, t->vertex_digest);
	t->ticket = a->ticket;
	t->attempt = a->attempt ? a->attempt : 1;
	if (known)
		bxc_json_set_take(t->body, "pin", bxc_json_dup(known->json));
	task_ready(e, t);
}

void remote_run_body(bxc_build *e, task *t, const bxc_def_vertex *v)
{
	char digest[BXC_DIGEST_STR_MAX];
	bxc_json *pin = pin_of_name(&v->op.source);
	const struct source_pin *known = bxc_map_get(e->pins, bxc_digest_str(&v->digest, digest));
	/* What was found out says more than the name does. */
	if (known && (!pin || bxc_str_eq(bxc_json_get_str(pin, "id", NULL),
				      bxc_json_get_str(known->json, "id", NULL)))) {
		bxc_json_free(pin);
		pin = bxc_json_dup(known->json);
	}
	bxc_json_set_str(t->body, "kind", "source");
	bxc_json_set_take(t->body, "pin", pin);
	if (known)
		t->prefer = known->worker;
}

bool remote_material(build *b, const bxc_def_vertex *v, bxc_att_material *ret)
{
	const bxc_op_source *s = &v->op.source;
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOJSON bxc_json *told = pin_of_name(s);
	BXC_AUTOGITREF bxc_git_ref g = {0};
	const struct source_pin *known =
		bxc_map_get(b->engine->pins, bxc_digest_str(&v->digest, digest));
	const char *id = bxc_json_get_str(told ? told : known ? known->json : NULL, "id", NULL);
	if (!id || bxc_str_has_prefix(s->identifier, "upload://"))
		return false;
	if (bxc_remote_is_http(s->identifier)) {
		if (!bxc_str_has_prefix(id, "sha256:"))
			return false;
		*ret = (bxc_att_material){.uri = bxc_remote_redact(s->identifier),
			.alg = "sha256",
			.hex = bxc_strdup(id + strlen("sha256:"))};
		return true;
	}
	if (bxc_git_ref_from_source(s->identifier, s->attrs, &g, NULL) < 0)
		return false;
	BXC_AUTOFREE char *shown = bxc_remote_redact(g.remote);
	*ret = (bxc_att_material){
		.uri = bxc_str_fmt("%s%s%s", shown, g.ref ? "#" : "", g.ref ? g.ref : ""),
		.alg = strlen(id) == 64 ? "sha256" : "sha1",
		.hex = bxc_strdup(id),
	};
	return true;
}
