/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts and Dockerfiles that the client does not have in a folder: a git repository, a URL, an
 * archive that it sends. Before the Dockerfile can be read such a thing is solved by itself, as a
 * small build of its own under the same name; what is in it is asked of a worker. The sources are
 * pinned by then: the build sees one state of them.
 *
 *     what does it stand for? -> solved -> is it an archive? (-> unpacked: solved) -> Dockerfile
 * read
 */
#include "coordinator/build/build_internal.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"
#include "common/remote/remote.h"
#include "common/tar/tar.h"

#define SNIFF_BYTES 4096u
#define DOCKERFILE_BYTES                                                                           \
	(2u << 20)	    /* of one that is read on a worker: an answer is one message           \
			     */
#define FILE_NAME "context" /* of the one file that a URL gives */

struct loading {
	bool is_dockerfile; /* a URL that gives no more than the Dockerfile */
	bool is_time;	    /* nothing but the time of a source is asked for */
	bool has_time;
	int64_t time_ns;
	char *time_key;
	bool is_git;
	bool is_unpacked;
	char *url;
	char *identifier;
	char **attrs;
	size_t sniffed;
	uint64_t record;
};

void loading_free(struct loading *l)
{
	if (!l)
		return;
	free(l->url);
	free(l->time_key);
	free(l->identifier);
	bxc_strv_free(l->attrs);
	free(l);
}

static const char *dockerfile_url(const build *b)
{
	return bxc_json_get_str(bxc_json_get(b->request, "dockerfile"), "url", NULL);
}

static bool keeps_git_dir(const build *b)
{
	bool keep = false;
	const char *text = bxc_env_get(b->build_args, "BUILDKIT_CONTEXT_KEEP_GIT_DIR");
	return text && bxc_str_to_bool(text, &keep, NULL) == 0 && keep;
}

int remote_source(
	const build *b, const char *text, bxc_op_source *ret, bool *ret_git, bxc_err **err)
{
	BXC_AUTOGITREF bxc_git_ref g = {0};
	bxc_digest d;
	static const char upload[] = "upload://";
	*ret_git = false;
	if (bxc_str_has_prefix(text, upload)) {
		int r = bxc_digest_parse(text + strlen(upload), &d, err);
		if (r >= 0)
			ret->identifier = bxc_strdup(text);
		return r;
	}
	int r = bxc_git_ref_parse(text, true, &g, err);
	if (r < 0)
		return r;
	if (r > 0) {
		*ret_git = true;
		if (b && keeps_git_dir(b))
			g.keep_git_dir = BXC_GIT_YES;
		/* Who asks for reproducible times does not want those of the checkout. */
		if (b && !g.has_mtime &&
			!bxc_str_empty(bxc_env_get(b->build_args, "SOURCE_DATE_EPOCH")))
			g.mtime_of_commit = true;
		bxc_git_ref_to_source(&g, &ret->identifier, &ret->attrs);
		return 0;
	}
	r = bxc_remote_check_http(text, err);
	if (r < 0)
		return r;
	ret->identifier = bxc_strdup(text);
	bxc_strv_push(&ret->attrs, "http.filename=" FILE_NAME);
	return 0;
}

int remote_check(const build *b, bxc_err **err)
{
	const bxc_json *c = bxc_json_get(b->request, "remote_context");
	const char *place = bxc_json_string(c), *file = dockerfile_url(b);
	bxc_op_source s = {0};
	bool git = false;
	if (c && !place && !bxc_json_is_null(c))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "remote_context: expected a string");
	int r = place ? remote_source(b, place, &s, &git, err) : 0;
	if (r < 0)
		return bxc_err_wrap(err, r, "remote_context");
	free(s.identifier);
	bxc_strv_free(s.attrs);
	r = file ? bxc_remote_check_http(file, err) : 0;
	if (r < 0)
		return bxc_err_wrap(err, r, "dockerfile.url");
	if (!place && !file && !b->dockerfile_text)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"dockerfile.data: missing, and there is no remote context that could hold "
			"it");
	return 0;
}

/* ---- solving ---- */

static void load_failed(build *b, bxc_err *err_take)
{
	loading_free(BXC_TAKE(b->loading));
	build_fail(b, err_take);
}

static bxc_def_vertex *source_vertex(const build *b, const struct loading *l)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	BXC_AUTOFREE char *shown = bxc_remote_redact(l->url);
	v->op.source.identifier = bxc_strdup(l->identifier);
	v->op.source.attrs = bxc_strv_dup(l->attrs);
	v->meta.name = l->is_git	  ? bxc_str_fmt("[internal] load git source %s", shown)
		       : l->is_dockerfile ? bxc_str_fmt("[internal] load build definition from %s",
						    b->dockerfile_name)
					  : bxc_strdup("[internal] load remote build context");
	/* What is asked for its time is a step of the build too, shown as such. */
	v->meta.internal = !l->is_time;
	if (l->is_time) {
		free(v->meta.name);
		v->meta.name = BXC_TAKE(shown);
	}
	return v;
}

static bxc_def_vertex *unpack_vertex(uint32_t source)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_FILE);
	uint32_t input = bxc_def_add_input(v, source, 0);
	bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_COPY);
	a->target = BXC_DEF_NO_INPUT;
	a->source = input;
	a->src = bxc_strdup("/" FILE_NAME);
	a->dest = bxc_strdup("/");
	a->unpack = a->create_dest = true;
	v->meta.name = bxc_strdup("[internal] unpack build context");
	v->meta.internal = true;
	return v;
}

static int make_def(
	const build *b, const struct loading *l, bxc_def **ret, uint32_t *ret_last, bxc_err **err)
{
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = bxc_def_new();
	int r = bxc_def_add(d, source_vertex(b, l), ret_last, err);
	if (r >= 0 && l->is_unpacked)
		r = bxc_def_add(d, unpack_vertex(*ret_last), ret_last, err);
	if (r >= 0)
		r = bxc_def_validate(d, err);
	if (r >= 0)
		*ret = BXC_TAKE(d);
	return r;
}

/* Everything of the build that the solver speaks of belongs to this definition from now on. */
static void solve_load(build *b)
{
	bxc_build *e = b->engine;
	bxc_def *d = NULL;
	bxc_err *err = NULL;
	uint32_t last = 0;
	int r = make_def(b, b->loading, &d, &last, &err);
	if (r >= 0) {
		build_new_solve(b, d);
		const bxc_solve_target target = {last, 0};
		r = bxc_solve_add_build(e->solve, b->num, d, &target, 1, &err);
		b->in_solver = r >= 0;
	}
	if (r < 0)
		load_failed(b, err);
	else
		pump(e);
}

/* ---- what is in it ---- */

static const bxc_json *file_of(const bxc_json *result, size_t i)
{
	BXC_JSON_FOREACH (f, bxc_json_get(result, "files"))
		if (i-- == 0)
			return f;
	return NULL;
}

static void next_load(build *b);
static void ask_read(build *b, size_t max_bytes);

static int take_dockerfile(build *b, const bxc_json *file, const char *name, bxc_err **err)
{
	const char *data = bxc_json_get_str(file, "data", NULL);
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(DOCKERFILE_BYTES);
	if (!data)
		return bxc_err_set(err, BXC_NOT_FOUND,
			"failed to read dockerfile: open %s: no such file or directory", name);
	if (bxc_json_get_u64(file, "size", 0) > DOCKERFILE_BYTES)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"failed to read dockerfile: %s has more than %u bytes", name,
			DOCKERFILE_BYTES);
	int r = bxc_base64_decode(data, DOCKERFILE_BYTES, &text, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "dockerfile");
	/* For the excerpts that the client shows. */
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "dockerfile");
	bxc_json_set_str(j, "name", name);
	bxc_json_set_str(j, "data", data);
	report(b, j);
	free(b->dockerfile_name);
	free(b->dockerfile_text);
	b->dockerfile_name = bxc_strdup(name);
	b->dockerfile_len = text.len;
	b->dockerfile_text = bxc_buf_steal(&text);
	return 0;
}

/* The one file of a URL: the context's archive, or the Dockerfile. 1: it was decided and goes on
 * elsewhere. */
static int take_single(build *b, const bxc_json *file, bxc_err **err)
{
	struct loading *l = b->loading;
	BXC_AUTOBUF bxc_buf head = BXC_BUF_INIT(DOCKERFILE_BYTES);
	const char *data = bxc_json_get_str(file, "data", "");
	int r = bxc_base64_decode(data, DOCKERFILE_BYTES, &head, err);
	if (r < 0)
		return r;
	if (!l->is_dockerfile && bxc_tar_is_context(bxc_buf_slice(&head))) {
		l->is_unpacked = true;
		solve_load(b);
		return 1;
	}
	/* A context of another kind than an archive is its own Dockerfile; another one may have
	 * been given. */
	if (l->is_time || (b->dockerfile_text && !l->is_dockerfile))
		return 0;
	if (bxc_json_get_u64(file, "size", 0) > l->sniffed && l->sniffed < DOCKERFILE_BYTES) {
		ask_read(b, DOCKERFILE_BYTES);
		return 1;
	}
	BXC_AUTOFREE char *name = bxc_strdup(l->is_dockerfile ? b->dockerfile_name : FILE_NAME);
	return take_dockerfile(b, file, name, err);
}

/* The name asked for, or the default in lower case. */
static int take_of_tree(build *b, const bxc_json *result, bxc_err **err)
{
	if (b->dockerfile_text)
		return 0;
	BXC_AUTOFREE char *name = bxc_strdup(b->dockerfile_name);
	const bxc_json *file = file_of(result, 0);
	if (!bxc_json_get_str(file, "data", NULL) && file_of(result, 1))
		file = file_of(result, 1);
	return take_dockerfile(b, file, name, err);
}

static void take_time(struct loading *l, const bxc_json *j)
{
	l->time_ns = bxc_json_get_i64(j, "time_ns", INT64_MIN);
	l->has_time = l->time_ns != INT64_MIN;
}

static void read_answer(
	bxc_build *e, task *t, const bxc_json *result, bxc_err *err_take, bool infra)
{
	(void)infra;
	build *b = t->build;
	bxc_err *err = err_take;
	task_drop(e, t);
	if (!b || b->dead || !b->loading) {
		bxc_err_free(err);
		return;
	}
	int r = err ? -1 : 0;
	bool single = !b->loading->is_git && !b->loading->is_unpacked;
	if (r >= 0 && b->loading->is_time && !single)
		take_time(b->loading, result);
	else if (r >= 0)
		r = single ? take_single(b, file_of(result, 0), &err)
			   : take_of_tree(b, result, &err);
	if (r < 0)
		load_failed(b, err);
	else if (r == 0)
		next_load(b);
}

static void ask_read(build *b, size_t max_bytes)
{
	bxc_build *e = b->engine;
	struct loading *l = b->loading;
	record *rec = record_find(e, l->record);
	if (!rec) {
		bxc_err *err = NULL;
		bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE,
			"the context was lost before it could be read: build again"));
		load_failed(b, err);
		return;
	}
	task *t = task_ask(e, b, "read", NULL, read_answer);
	task_input *in = bxc_arr_push(&t->inputs);
	in->record = rec->id;
	BXC_ARR_FOREACH (p, &rec->layers)
		*bxc_arr_push(&in->layers) = *p;
	BXC_AUTOSTRV char **paths = NULL;
	if (!l->is_git && !l->is_unpacked) {
		bxc_strv_push(&paths, FILE_NAME);
	} else if (!l->is_time && !b->dockerfile_text) {
		const char *slash = strrchr(b->dockerfile_name, '/');
		bxc_strv_push(&paths, b->dockerfile_name);
		if (bxc_str_eq(slash ? slash + 1 : b->dockerfile_name, "Dockerfile"))
			bxc_strv_pushf(&paths, "%.*sdockerfile",
				slash ? (int)(slash + 1 - b->dockerfile_name) : 0,
				b->dockerfile_name);
	}
	l->sniffed = max_bytes;
	bxc_json_set_strv(t->body, "paths", paths);
	bxc_json_set_u64(t->body, "max_bytes", max_bytes);
	bxc_json_set_bool(t->body, "want_time", l->is_time && l->is_unpacked);
	/* The topmost layer tells where it lies. */
	bxc_json_set_u64(t->body, "base_input", 0);
	task_ready(e, t);
}

void load_solved(build *b, uint64_t rec)
{
	struct loading *l = b->loading;
	l->record = rec;
	b->in_solver = false;
	if (!l->is_dockerfile && !l->is_time)
		b->context_def = b->def;
	bool single = !l->is_git && !l->is_unpacked;
	if (!single && b->dockerfile_text && !l->is_time)
		next_load(b);
	else
		ask_read(b, single ? SNIFF_BYTES : DOCKERFILE_BYTES);
}

/* ---- what it stands for ---- */

static void pinned_answer(
	bxc_build *e, task *t, const bxc_json *result, bxc_err *err_take, bool infra)
{
	(void)infra;
	build *b = t->build;
	bxc_err *err = err_take;
	uint64_t worker = t->worker;
	const bxc_json *pin = bxc_json_get(result, "pin");
	const char *id = bxc_json_get_str(pin, "id", NULL);
	struct loading *l = b ? b->loading : NULL;
	if (!b || b->dead || !l) {
		bxc_err_free(err);
		task_drop(e, t);
		return;
	}
	int r = err ? -1 : 0;
	if (r >= 0 && (l->is_git ? !bxc_git_is_commit(id)
				 : bxc_digest_parse(id ? id : "", &(bxc_digest){0}, NULL) < 0))
		r = bxc_err_set(&err, BXC_INVALID_ARGUMENT, "a worker answered with a wrong pin");
	if (r >= 0) {
		/* Kept for the next time that this name is asked about, and for the run of the
		 * pinned source. */
		source_pinned(e, t->vertex_digest, pin, worker);
		bxc_env_set(&l->attrs, l->is_git ? "git.commit" : "http.checksum", id);
		bxc_strv_sort(l->attrs);
		BXC_CLEANUP(bxc_def_freep) bxc_def *d = NULL;
		uint32_t last;
		r = make_def(b, l, &d, &last, &err);
		char digest[BXC_DIGEST_STR_MAX];
		if (r >= 0)
			source_pinned(
				e, bxc_digest_str(&d->vertices.v[0]->digest, digest), pin, worker);
		if (l->is_time)
			take_time(l, pin);
	}
	task_drop(e, t);
	if (r < 0)
		load_failed(b, err);
	else if (l->is_time && (l->is_git || l->has_time))
		next_load(b);
	else
		solve_load(b);
}

/* The name becomes something that does not change while the build lasts. */
static void resolve(build *b)
{
	bxc_build *e = b->engine;
	struct loading *l = b->loading;
	if (bxc_str_has_prefix(l->identifier, "upload://")) {
		solve_load(b);
		return;
	}
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = source_vertex(b, l);
	/* An identity to remember the answer by. */
	BXC_AUTOFREE char *key =
		bxc_str_fmt("%s %s", l->identifier, l->attrs && l->attrs[0] ? l->attrs[0] : "");
	v->digest = bxc_digest_of(key, strlen(key));
	task *t = task_ask(e, b, "resolve", v, pinned_answer);
	const struct source_pin *known = bxc_map_get(e->pins, t->vertex_digest);
	if (known)
		bxc_json_set_take(t->body, "pin", bxc_json_dup(known->json));
	bxc_json_set_bool(t->body, "want_time", l->is_git && l->is_time);
	task_ready(e, t);
}

static void begin_load(build *b, const char *url, bool is_dockerfile)
{
	struct loading *l = bxc_calloc(1, sizeof(*l));
	bxc_op_source s = {0};
	bxc_err *err = NULL;
	loading_free(b->loading);
	b->loading = l;
	l->url = bxc_strdup(url);
	l->is_dockerfile = is_dockerfile;
	int r = 0;
	if (is_dockerfile) {
		l->identifier = bxc_strdup(url);
		bxc_strv_push(&l->attrs, "http.filename=" FILE_NAME);
	} else {
		r = remote_source(b, url, &s, &l->is_git, &err);
		l->identifier = s.identifier;
		l->attrs = s.attrs;
	}
	if (r < 0)
		load_failed(b, err);
	else
		resolve(b);
}

/* ---- times ---- */

struct source_time {
	bool has;
	int64_t ns;
};

static char *time_key(const bxc_op_source *s)
{
	BXC_AUTOFREE char *attrs = bxc_strv_join(s->attrs, "\n");
	return bxc_str_fmt("%s\n%s", s->identifier, attrs);
}

bool load_time_known(const bxc_def_vertex *source, bool *ret_has, int64_t *ret_ns, void *ud)
{
	const build *b = ud;
	BXC_AUTOFREE char *key = time_key(&source->op.source);
	const struct source_time *t = b->times ? bxc_map_get(b->times, key) : NULL;
	if (!t)
		return false;
	*ret_has = t->has;
	*ret_ns = t->ns;
	return true;
}

void load_time(build *b, const bxc_def_vertex *source)
{
	const bxc_op_source *s = &source->op.source;
	struct loading *l = bxc_calloc(1, sizeof(*l));
	loading_free(b->loading);
	b->loading = l;
	l->is_time = true;
	l->is_git = bxc_str_has_prefix(s->identifier, "git://");
	l->time_key = time_key(s);
	l->url = bxc_strdup(source->meta.name);
	l->identifier = bxc_strdup(s->identifier);
	/* The server is asked again, even if it is known what the file should be: a digest has no
	 * time. One name for the file, which is looked into. */
	if (bxc_remote_is_http(l->identifier))
		bxc_strv_push(&l->attrs, "http.filename=" FILE_NAME);
	else
		l->attrs = bxc_strv_dup(s->attrs);
	resolve(b);
}

static void time_loaded(build *b)
{
	const struct loading *l = b->loading;
	struct source_time *t = bxc_calloc(1, sizeof(*t));
	*t = (struct source_time){l->has_time, l->time_ns};
	if (!b->times)
		b->times = bxc_map_new(free);
	bxc_map_set(b->times, l->time_key, t);
	loading_free(BXC_TAKE(b->loading));
	build_lower(b);
}

/* The context first; a Dockerfile of its own comes after it. */
static void next_load(build *b)
{
	const char *url = dockerfile_url(b);
	if (b->loading->is_time) {
		time_loaded(b);
		return;
	}
	bool was_dockerfile = b->loading->is_dockerfile;
	loading_free(BXC_TAKE(b->loading));
	if (url && !was_dockerfile)
		begin_load(b, url, true);
	else
		build_parse(b);
}

bool load_start(build *b)
{
	const char *place = bxc_json_get_str(b->request, "remote_context", NULL),
		   *file = dockerfile_url(b);
	if (!place && !file)
		return false;
	begin_load(b, place ? place : file, !place);
	return true;
}
