/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a build: request -> recorded -> Dockerfile read -> images resolved -> lowered ->
 * solver -> exports -> ended.
 */
#include "coordinator/build/build_internal.h"

#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/codec/base64.h"

#define MAX_PLATFORMS 32u
#define MAX_EXPORTS   32u
#define MAX_ARGS      10000u

/* ---- reading the request ---- */

/* {"K": "V"} as strv "K=V". */
static int read_map(const bxc_json *req, const char *key, char ***ret, bxc_err **err)
{
	const bxc_json *o = bxc_json_get(req, key);
	if (!o)
		return 0;
	if (!bxc_json_is_object(o) || bxc_json_len(o) > MAX_ARGS)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s: expected an object of at most %u strings", key, MAX_ARGS);
	BXC_JSON_FOREACH (m, o) {
		if (!bxc_json_string(m) || !*bxc_json_key(m) || strchr(bxc_json_key(m), '='))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s.%.64s: expected a name and a string", key, bxc_json_key(m));
		bxc_strv_pushf(ret, "%s=%s", bxc_json_key(m), bxc_json_string(m));
	}
	return 0;
}

static int read_platforms(build *b, bxc_err **err)
{
	const bxc_json *list = bxc_json_get(b->request, "platforms");
	if (list && !bxc_json_is_array(list))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "platforms: expected an array");
	if (bxc_json_len(list) > MAX_PLATFORMS)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "platforms: more than %u", MAX_PLATFORMS);
	size_t i = 0;
	BXC_JSON_FOREACH (p, list) {
		bxc_platform plat;
		int r = bxc_platform_parse(bxc_json_string(p) ? bxc_json_string(p) : "", &plat, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "platforms[%zu]", i);
		bool twice = false;
		BXC_ARR_FOREACH (q, &b->platforms)
			twice = twice || bxc_platform_eq(q, &plat);
		if (!twice)
			*bxc_arr_push(&b->platforms) = plat;
		i++;
	}
	return 0;
}

static int read_exports(const build *b, bxc_err **err)
{
	static const char *const types[] = {"image", "oci", "docker", "local", "tar", "cacheonly"};
	const bxc_json *list = bxc_json_get(b->request, "exports");
	size_t i = 0;
	if (list && !bxc_json_is_array(list))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "exports: expected an array");
	if (bxc_json_len(list) > MAX_EXPORTS)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "exports: more than %u", MAX_EXPORTS);
	BXC_JSON_FOREACH (e, list) {
		const char *type;
		bool known = false;
		int r = bxc_json_need_str(e, "type", &type, err);
		for (size_t k = 0; r >= 0 && k < BXC_ARRAY_SIZE(types); k++)
			known = known || bxc_str_eq(types[k], type);
		if (r >= 0 && !known)
			r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "exporter \"%.64s\" could not be found", type);
		if (r >= 0)
			r = export_check(e, err);
		if (r >= 0 && bxc_str_eq(type, "docker") && (b->platforms.n > 1 || export_attests(b, type)))
			r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "docker exporter does not currently support exporting manifest lists");
		if (r < 0)
			return bxc_err_wrap(err, r, "exports[%zu]", i);
		i++;
	}
	return 0;
}

static int read_dockerfile(build *b, bxc_err **err)
{
	const bxc_json *d;
	const char *name, *data;
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_LIMIT_DOCKERFILE);
	int r = bxc_json_need_obj(b->request, "dockerfile", &d, err);
	if (r >= 0)
		r = bxc_json_need_str(d, "name", &name, err);
	if (r >= 0 && (!*name || strlen(name) >= BXC_LIMIT_PATH))
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "name: empty or too long");
	if (r < 0)
		return bxc_err_wrap(err, r, "dockerfile");
	b->dockerfile_name = bxc_strdup(name);
	if (!bxc_json_get(d, "data"))
		return 0;            /* it is in what remote_check() looks at */
	r = bxc_json_need_str(d, "data", &data, err);
	if (r >= 0)
		r = bxc_base64_decode(data, BXC_LIMIT_DOCKERFILE, &text, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "dockerfile");
	b->dockerfile_len = text.len;
	b->dockerfile_text = bxc_buf_steal(&text);
	return 0;
}

int build_read(build *b, bxc_err **err)
{
	if (!bxc_json_is_object(b->request))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the request is no object");
	int r = read_dockerfile(b, err);
	if (r >= 0)
		r = read_platforms(b, err);
	if (r >= 0)
		r = read_map(b->request, "build_args", &b->build_args, err);
	if (r >= 0)
		r = read_map(b->request, "labels", &b->labels, err);
	if (r >= 0)
		r = bxc_json_get_strv(b->request, "no_cache_filter", &b->no_cache_filter, err);
	if (r >= 0)
		r = bxc_att_provenance_parse(bxc_json_get(b->request, "attests"), &b->provenance, err);
	if (r >= 0)
		r = read_exports(b, err);
	if (r >= 0)
		r = cache_specs_check(b, err);
	if (r >= 0)
		r = call_read(b, err);
	if (r >= 0)
		r = remote_check(b, err);
	if (r >= 0)
		r = named_read(b, err);
	if (r >= 0)
		r = run_opts_read(b->engine, b->request, &b->run, err);
	if (r >= 0)
		r = expect_read(b, err);
	return r;
}

/* ---- taking it ---- */

struct taking {
	build *b;
	bxc_build_taken done;
	void *ud;
	char *text;
	bxc_err *err;
};

void build_free(void *p)
{
	build *b = p;
	if (!b)
		return;
	bxc_json_free(b->request);
	bxc_sess_ref_unref(b->session);
	bxc_reg_free(b->reg);
	bxc_cancel_unref(b->cancel);
	bxc_df_ast_free(b->ast);
	bxc_ignore_free(b->ignore);
	bxc_df_result_done(&b->checked);
	bxc_arr_done(&b->platforms);
	bxc_arr_done(&b->build_platforms);
	told_free(b->told);
	BXC_ARR_FOREACH (i, &b->images)
		image_free(*i);
	bxc_arr_done(&b->images);
	bxc_arr_done(&b->contexts);
	imports_free(b);
	bxc_def_free(b->def);
	BXC_ARR_FOREACH (d, &b->defs)
		bxc_def_free(*d);
	bxc_arr_done(&b->defs);
	bxc_arr_done(&b->nums);
	loading_free(b->loading);
	bxc_map_free(b->times);
	BXC_ARR_FOREACH (n, &b->named)
		named_free(*n);
	bxc_arr_done(&b->named);
	BXC_ARR_FOREACH (r, &b->results)
		bxc_oci_config_free(r->config);
	bxc_arr_done(&b->results);
	bxc_arr_done(&b->records);
	bxc_json_free(b->export_results);
	bxc_json_free(b->cache_results);
	bxc_err_free(b->export_err);
	BXC_ARR_FOREACH (x, &b->exports)
		free(x->vertex.name);
	bxc_arr_done(&b->exports);
	bxc_strv_free(b->build_args);
	bxc_strv_free(b->labels);
	bxc_strv_free(b->no_cache_filter);
	bxc_att_provenance_done(&b->provenance);
	run_opts_done(&b->run);
	explain_free(b->explaining);
	free(b->path_ns);
	free(b->started_ns);
	free(b->reported);
	free(b->dockerfile_name);
	free(b->dockerfile_text);
	free(b->id);
	free(b);
}

static void add_work(bxc_state *st, void *ud)
{
	struct taking *t = ud;
	const bxc_state_build row = {
		.id = t->b->id,
		.name = (char *)(uintptr_t)bxc_json_get_str(t->b->request, "name", NULL),
		.status = (char *)(uintptr_t)"running",
		.created_ns = t->b->created_ns,
		.request = t->text,
	};
	bxc_ignore(bxc_state_build_add(st, &row, &t->err));
}

static void add_done(void *ud)
{
	struct taking *t = ud;
	build *b = t->b;
	if (t->err) {
		t->done(NULL, BXC_TAKE(t->err), t->ud);
		build_free(b);
	} else {
		build_enter(b);
		bxc_ev_open(b->engine->c.events, b->id);
		bxc_log(BXC_LOG_INFO, "build.started", "build", b->id, "session", b->session ? bxc_sess_id(b->session) : "", NULL);
		t->done(b->id, NULL, t->ud);
		build_start(b);
	}
	free(t->text);
	free(t);
}

static int ask_client(const char *domain, const char *scope, const char *realm, const char *service, bxc_secret **ret_token,
	bxc_secret **ret_basic, void *ud, bxc_err **err)
{
	build *b = ud;
	if (!b->session)
		return 0;
	return bxc_sess_token(b->session, domain, scope, realm, service, b->cancel, ret_token, ret_basic, err);
}

build *build_new(bxc_build *e, bxc_json *request_take, char *id_take)
{
	build *b = bxc_calloc(1, sizeof(*b));
	b->engine = e;
	b->request = request_take;
	b->failed_vertex = -1;
	b->created_ns = bxc_clock_wall_ns();
	b->cancel = bxc_cancel_new();
	b->num = ++e->last_num;
	b->id = id_take;
	const bxc_reg_config rc = {.hosts = e->c.hosts, .n_hosts = e->c.n_hosts, .credentials = ask_client, .ud = b};
	b->reg = bxc_reg_new(e->c.http, &rc);
	return b;
}

void build_enter(build *b)
{
	BXC_AUTOFREE char *k = num_key(b->num);
	bxc_map_set(b->engine->builds, b->id, b);
	bxc_map_set(b->engine->by_num, k, b);
}

/* What the cluster runs natively decides what the build is: it is kept with the request. */
static void note_cluster(build *b)
{
	const bxc_wrk *workers = b->engine->c.workers;
	for (size_t i = 0; i < bxc_wrk_count(workers); i++)
		BXC_ARR_FOREACH (p, &bxc_wrk_at(workers, i)->platforms)
			*bxc_arr_push(&b->build_platforms) = *p;
	if (b->build_platforms.n == 0)
		*bxc_arr_push(&b->build_platforms) = bxc_platform_host();
	bxc_json_del(b->request, "build_platforms");
	bxc_json *list = bxc_json_add_array(b->request, "build_platforms");
	BXC_ARR_FOREACH (p, &b->build_platforms) {
		BXC_AUTOFREE char *text = bxc_platform_str(p);
		bxc_json_push_str(list, text);
	}
}

void bxc_build_submit(bxc_build *e, bxc_json *request_take, bxc_build_taken done, void *ud)
{
	BXC_AUTOFREE char *rand = bxc_rand_hex(8);
	build *b = build_new(e, request_take, bxc_str_fmt("b-%s", rand));
	bxc_err *err = NULL;
	int r = build_read(b, &err);
	const bxc_json *which = bxc_json_get(b->request, "session");
	const char *session = bxc_json_string(which);
	if (r >= 0 && which && !session && !bxc_json_is_null(which))
		r = bxc_err_set(&err, BXC_INVALID_ARGUMENT, "session: expected a string");
	if (r >= 0 && session) {
		b->session = bxc_sess_find(e->c.sessions, session);
		if (!b->session)
			r = bxc_err_set(&err, BXC_FAILED_PRECONDITION, "session: no client is connected with this session");
	}
	if (r < 0) {
		build_free(b);
		done(NULL, err, ud);
		return;
	}
	note_cluster(b);
	struct taking *t = bxc_calloc(1, sizeof(*t));
	t->b = b;
	t->done = done;
	t->ud = ud;
	t->text = bxc_json_print(b->request);
	bxc_db_submit(e->c.db, add_work, add_done, t);
}

/* ---- the Dockerfile ---- */

/* Where in the file is in the error; excerpts are the client's, which has the text. */
void build_fail(build *b, bxc_err *err_take)
{
	if (call_failed(b, err_take))
		return;
	build_finish(b, b->canceled ? "canceled" : "failed", err_take, NULL);
}

static void fail_canceled(build *b)
{
	bxc_err *err = NULL;
	bxc_ignore(bxc_err_set(&err, BXC_CANCELED, "canceled"));
	build_fail(b, err);
}

void build_start(build *b)
{
	if (!load_start(b))
		build_parse(b);
}

void build_parse(build *b)
{
	internal_vertex v;
	BXC_AUTOFREE char *name = bxc_str_fmt("[internal] load build definition from %s", b->dockerfile_name);
	internal_begin(b, &v, name);
	internal_status(b, &v, "transferring dockerfile:", b->dockerfile_len, 0, true);
	memcpy(b->file_vertex, v.digest, sizeof(b->file_vertex));
	bxc_err *err = NULL;
	if (bxc_df_parse_part(bxc_slice_of(b->dockerfile_text, b->dockerfile_len), b->dockerfile_name, &b->ast, &err) < 0) {
		BXC_AUTODFRESULT bxc_df_result part = {0};
		bxc_df_check_part(b->ast, &(bxc_df_opts){.build_args = b->build_args}, &part);
		call_warnings(b, &part);
		internal_end(b, &v, err);
		build_fail(b, err);
		return;
	}
	internal_end(b, &v, NULL);
	if (call_parsed(b))
		return;
	/* Without a wish the platform is that of the first worker: what the cluster runs natively. */
	if (b->platforms.n == 0)
		*bxc_arr_push(&b->platforms) = b->build_platforms.n ? b->build_platforms.v[0] : bxc_platform_host();
	imports_load(b);
}

static bool lookup_image(const char *ref, const bxc_platform *platform, bxc_df_image *ret, void *ud)
{
	build *b = ud;
	BXC_ARR_FOREACH (p, &b->images) {
		image *i = *p;
		if (!bxc_str_eq(i->ref, ref) || !bxc_platform_eq(&i->platform, platform))
			continue;
		ret->config = i->config;
		if (i->layout)
			return true;
		BXC_AUTOREF bxc_ref pinned = {0};
		if (bxc_ref_parse(i->pinned, &pinned, NULL) < 0)
			return false;
		ret->digest = pinned.digest;
		return true;
	}
	return false;
}

typedef BXC_ARR(need) needs;

static void collect(needs *all, const bxc_df_result *r)
{
	BXC_ARR_FOREACH (n, &r->needs) {
		bool known = false;
		BXC_ARR_FOREACH (o, all)
			known = known || (bxc_str_eq(o->ref, n->ref) && bxc_platform_eq(&o->platform, &n->platform));
		if (!known)
			*bxc_arr_push(all) = (need){bxc_strdup(n->ref), n->platform, n->line, n->line_end};
	}
}

/* Dates of the new entries are the exporter's: it knows when layers were made. */
static void add_result(build *b, const bxc_platform *p, bxc_df_result *r)
{
	result_platform *rp = bxc_arr_push(&b->results);
	rp->platform = *p;
	rp->is_scratch = r->target == BXC_DEF_NO_INPUT;
	rp->vertex = r->target;
	rp->has_epoch = r->has_epoch;
	rp->multi_platform = r->multi_platform;
	rp->epoch_ns = r->epoch_ns;
	rp->config = BXC_TAKE(r->image);
	rp->target = rp->is_scratch ? SIZE_MAX : b->n_targets++;
}

void build_new_solve(build *b, bxc_def *def_take)
{
	bxc_build *e = b->engine;
	if (b->def) {
		/* What is said of it from now on is said of another number; runs tell nobody of it any more. */
		runs_forget(e, b);
		*bxc_arr_push(&b->defs) = b->def;
		*bxc_arr_push(&b->nums) = b->num;
		b->num = ++e->last_num;
		BXC_AUTOFREE char *k = num_key(b->num);
		bxc_map_set(e->by_num, k, b);
	}
	b->def = def_take;
	free(b->started_ns);
	free(b->reported);
	durations_of_build(b);
	b->started_ns = bxc_calloc(def_take->vertices.n, sizeof(*b->started_ns));
	b->reported = bxc_calloc(def_take->vertices.n, sizeof(*b->reported));
	/* What was shown once is not shown again. */
	BXC_CLEANUP(bxc_map_freep) bxc_map *shown = bxc_map_new(NULL);
	char digest[BXC_DIGEST_STR_MAX];
	BXC_ARR_FOREACH (d, &b->defs)
		BXC_ARR_FOREACH (v, &(*d)->vertices)
			bxc_map_set(shown, bxc_digest_str(&(*v)->digest, digest), b);
	for (size_t i = 0; i < def_take->vertices.n; i++)
		b->reported[i] = bxc_map_has(shown, bxc_digest_str(&def_take->vertices.v[i]->digest, digest));
}

static void solve(build *b)
{
	bxc_build *e = b->engine;
	if (b->canceled) {
		fail_canceled(b);
		return;
	}
	BXC_ARR(bxc_solve_target) targets = {0};
	BXC_ARR_FOREACH (rp, &b->results)
		if (!rp->is_scratch)
			*bxc_arr_push(&targets) = (bxc_solve_target){rp->vertex, 0};
	bxc_err *err = NULL;
	int r = 0;
	if (targets.n) {
		r = (expect_is_on(b) ? bxc_solve_add_look : bxc_solve_add_build)(e->solve, b->num, b->def, targets.v, targets.n, &err);
		b->in_solver = r >= 0;
	}
	bool empty = targets.n == 0;
	bxc_arr_done(&targets);
	if (r < 0)
		build_fail(b, err);
	else if (empty)
		exports_start(b);
	else
		pump(e);
}

void build_lower(build *b)
{
	if (b->canceled) {
		fail_canceled(b);
		return;
	}
	BXC_CLEANUP(bxc_def_freep) bxc_def *def = bxc_def_new();
	needs all = {0};
	bxc_err *err = NULL;
	bool answered = false;
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *time = NULL;
	BXC_ARR(bxc_df_context) contexts = {0};
	BXC_ARR_FOREACH (n, &b->named)
		*bxc_arr_push(&contexts) = (bxc_df_context){(*n)->name, (*n)->kind, (*n)->source, (*n)->shown, (*n)->def};
	BXC_ARR_FOREACH (p, &b->platforms) {
		bxc_df_opts o = {
			.build_args = b->build_args,
			.target = bxc_json_get_str(b->request, "target", NULL),
			.platform = *p,
			.platform_given = bxc_json_len(bxc_json_get(b->request, "platforms")) > 0,
			.build_platforms = b->build_platforms.v,
			.n_build_platforms = b->build_platforms.n,
			.multi_platform = b->platforms.n > 1,
			.labels = b->labels,
			.no_cache = bxc_json_get_bool(b->request, "no_cache", false),
			.no_cache_filter = b->no_cache_filter,
			.context_name = bxc_json_get_str(b->request, "context", NULL),
			.context_def = b->context_def,
			.contexts = contexts.v,
			.n_contexts = contexts.n,
			.session = b->session ? bxc_sess_id(b->session) : b->id,
			.lookup = lookup_image,
			.lookup_ud = b,
			.time_of = load_time_known,
			.time_of_ud = b,
			.no_checks = p != &b->platforms.v[0],
			.all_stages = b->call == CALL_LINT && bxc_str_empty(bxc_json_get_str(b->request, "target", NULL)),
			.want_outline = b->call == CALL_OUTLINE,
			.is_ignored = b->ignore ? call_is_ignored : NULL,
			.is_ignored_ud = b,
		};
		run_opts_apply(&b->run, &o);
		BXC_AUTODFRESULT bxc_df_result r = {0};
		int k = bxc_df_lower(b->ast, &o, def, &r, &err);
		if (k == 1) {
			collect(&all, &r);
			if (!time)
				time = BXC_TAKE(r.need_time);
		} else if (k == 0 && all.n == 0 && !time) {
			add_result(b, p, &r);
		}
		answered = k == 0 && b->call == CALL_OUTLINE && call_lowered(b, &r);
		call_warnings(b, &r);
		/* Questions are about one platform, like warnings. */
		if (k < 0 || b->call)
			break;
	}
	bxc_arr_done(&contexts);
	if (answered)
		return;
	if (!err && all.n == 0 && !time) {
		if (call_lowered(b, NULL))
			return;
		build_new_solve(b, BXC_TAKE(def));
		caches_prepare(b, solve);
		return;
	}
	BXC_ARR_FOREACH (rp, &b->results)
		bxc_oci_config_free(rp->config);
	b->results.n = 0;
	b->n_targets = 0;
	if (!err && !time) {
		images_resolve(b, all.v, all.n);
		return;
	}
	BXC_ARR_FOREACH (n, &all)
		free(n->ref);
	bxc_arr_done(&all);
	if (err)
		build_fail(b, err);
	else
		load_time(b, time);
}

/* ---- its end ---- */

void build_solved(build *b, const bxc_solve_action *a)
{
	/* What was loaded before is lost and made again if need be: nobody waits for it. */
	if (a->build != b->num)
		return;
	if (a->err) {
		b->in_solver = false;
		bxc_err *err = bxc_err_copy(a->err);
		if (b->failed_vertex >= 0) {
			const bxc_def_vertex *v = b->def->vertices.v[b->failed_vertex];
			char d[BXC_DIGEST_STR_MAX];
			bxc_err_detail(err, "vertex", "%s", bxc_digest_str(&v->digest, d));
			bxc_err_detail(err, "vertex_name", "%s", v->meta.name ? v->meta.name : "");
			if (v->meta.line_start && !bxc_err_get_detail(err, "line")) {
				bxc_err_detail(err, "file", "%s", b->dockerfile_name);
				bxc_err_detail(err, "line", "%u", v->meta.line_start);
				bxc_err_detail(err, "line_end", "%u", v->meta.line_end);
			}
		}
		build_fail(b, err);
		return;
	}
	if (b->loading) {
		load_solved(b, a->results[0].record);
		return;
	}
	/* Another build has made them meanwhile: they were not cached. */
	if (expect_has_missed(b)) {
		expect_end(b);
		return;
	}
	/* Results that were lost while they were being exported come again, under new records. */
	b->records.n = 0;
	for (size_t i = 0; i < a->n_results; i++)
		*bxc_arr_push(&b->records) = a->results[i].record;
	exports_start(b);
}

struct ending {
	char *id;
	char *status;
	char *error;
	char *result;
	bxc_ev *events;
};

static void end_work(bxc_state *st, void *ud)
{
	struct ending *x = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_state_build_update(st, x->id, x->status, bxc_clock_wall_ns(), x->error, x->result, &err) < 0 ||
		bxc_state_attempts_forget(st, x->id, &err) < 0)
		bxc_log_err(BXC_LOG_ERROR, "build.not_recorded", err, "build", x->id, NULL);
}

static void end_done(void *ud)
{
	struct ending *x = ud;
	bxc_ev_close(x->events, x->id);
	free(x->id);
	free(x->status);
	free(x->error);
	free(x->result);
	free(x);
}

/* Contexts of a session that no build uses any more. */
static void drop_contexts(bxc_build *e)
{
	BXC_MAP_FOREACH (it, e->records) {
		const record *r = it.value;
		if (r->context && !bxc_solve_uses_record(e->solve, r->id))
			record_drop(e, r->id);
	}
}

/* Runs after everything that was queued before the end of the build. */
static void build_reap(void *ud)
{
	build *b = ud;
	b->reaped = true;
	build_job_done(b);
}

void build_finish(build *b, const char *status, bxc_err *err_take, bxc_json *result_take)
{
	bxc_build *e = b->engine;
	if (b->dead) {
		bxc_err_free(err_take);
		bxc_json_free(result_take);
		return;
	}
	b->dead = true;
	bxc_cancel_fire(b->cancel);
	struct ending *x = bxc_calloc(1, sizeof(*x));
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "build.done");
	bxc_json_set_str(j, "status", status);
	if (err_take) {
		bxc_json *ej = err_to_json(err_take);
		x->error = bxc_json_print(ej);
		bxc_json_set_take(j, "error", ej);
	}
	if (result_take) {
		x->result = bxc_json_print(result_take);
		bxc_json_set_take(j, "result", result_take);
	}
	bxc_log_err(BXC_LOG_INFO, "build.ended", err_take, "build", b->id, "status", status, NULL);
	bxc_err_free(err_take);
	x->id = bxc_strdup(b->id);
	x->status = bxc_strdup(status);
	x->events = e->c.events;
	report(b, j);
	bxc_db_submit(e->c.db, end_work, end_done, x);
	prefetch_build_over(e, b->id);
	/* Exports and questions that still run elsewhere have lost their purpose. */
	BXC_MAP_FOREACH (it, e->tasks) {
		task *t = it.value;
		if (t->build != b)
			continue;
		if (t->kind == TASK_EXPORT || (t->kind == TASK_ASK && !t->ticket))
			task_abort(e, t);
		else
			t->build = run_other_build(e, t->run, b);
	}
	*bxc_arr_push(&b->nums) = b->num;
	b->in_solver = false;
	runs_forget(e, b);
	BXC_ARR_FOREACH (n, &b->nums) {
		BXC_AUTOFREE char *k = num_key(*n);
		bxc_solve_release(e->solve, *n);
		bxc_map_del(e->by_num, k);
	}
	bxc_map_take(e->builds, b->id);
	BXC_ARR_FOREACH (c, &b->contexts)
		context_unref(e, *c);
	b->contexts.n = 0;
	drop_contexts(e);
	if (b->told)
		resume_ended(b);
	layouts_gone(b);
	/* The solver may still hold borrowed vertices in queued actions: they are drained before memory goes. */
	pump(e);
	bxc_loop_post(e->c.loop, build_reap, b);
}

void build_job_done(build *b)
{
	if (b->dead && b->reaped && b->jobs == 0)
		build_free(b);
}

void bxc_build_cancel(bxc_build *e, const char *id)
{
	build *b = bxc_map_get(e->builds, id);
	if (!b || b->canceled)
		return;
	b->canceled = true;
	bxc_cancel_fire(b->cancel);
	if (b->in_solver && b->records.n == 0) {
		bxc_solve_cancel(e->solve, b->num);
		pump(e);
		return;
	}
	if (b->is_waiting) {
		fail_canceled(b);
		return;
	}
	/* Before the solver: the pool job that runs ends by the token. After it: exports are stopped here. */
	if (b->exports_left || b->loading)
		fail_canceled(b);
}
