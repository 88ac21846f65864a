/* SPDX-License-Identifier: Apache-2.0 */
/* Steps: exec and file operations. */
#include "worker/agent/agent_internal.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"
#include "worker/fileop/fileop.h"

#define MAX_INPUTS 1024u

/* Packs that a step reads stay open until it ends. */
struct packs {
	job *j;
	BXC_ARR(bxc_digest) digests;
	BXC_ARR(int) fds;
};

static int open_pack(const bxc_digest *d, int *ret_fd, void *ud, bxc_err **err)
{
	struct packs *p = ud;
	for (size_t i = 0; i < p->digests.n; i++) {
		if (bxc_digest_eq(&p->digests.v[i], d)) {
			*ret_fd = p->fds.v[i];
			return 0;
		}
	}
	int fd;
	uint64_t size;
	int r = bxc_blob_open(bxc_content_store(p->j->a->c.content), d, &fd, &size, err);
	if (r < 0)
		return r;
	*bxc_arr_push(&p->digests) = *d;
	*bxc_arr_push(&p->fds) = fd;
	*ret_fd = fd;
	return 0;
}

static void packs_done(struct packs *p)
{
	BXC_ARR_FOREACH (fd, &p->fds)
		close(*fd);
	bxc_arr_done(&p->fds);
	bxc_arr_done(&p->digests);
}

typedef struct step {
	bxc_def_vertex *v;
	input *inputs;
	size_t n;
	const char *output;
} step;

static void step_close(job *j, step *s)
{
	for (size_t i = 0; i < s->n; i++)
		input_close(j, &s->inputs[i]);
	free(s->inputs);
	bxc_def_vertex_free(s->v);
}

static int step_open(job *j, bxc_op_kind kind, step *s, bxc_err **err)
{
	const bxc_json *op, *inputs;
	int r = bxc_json_need_obj(j->msg, "op", &op, err);
	if (r >= 0)
		r = bxc_json_need_arr(j->msg, "inputs", &inputs, err);
	if (r >= 0)
		r = bxc_json_need_str(j->msg, "output_layer", &s->output, err);
	if (r >= 0)
		r = bxc_def_vertex_from_json(op, &s->v, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "task");
	if (s->v->kind != kind || bxc_json_len(inputs) > MAX_INPUTS)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "task: the op is of another kind, or has more than %u inputs", MAX_INPUTS);
	s->inputs = bxc_calloc(bxc_json_len(inputs), sizeof(*s->inputs));
	BXC_JSON_FOREACH (doc, inputs) {
		r = input_open(j, doc, &s->inputs[s->n++], err);
		if (r < 0)
			return r;
	}
	return 0;
}

bxc_json *step_result(const char *output, uint64_t size, int64_t duration_ns)
{
	bxc_json *j = bxc_json_object();
	bxc_json *l = bxc_json_add_object(j, "layer");
	bxc_json_set_str(l, "id", output);
	bxc_json_set_u64(l, "size", size);
	bxc_json_set_ns(j, "duration_ns", duration_ns);
	return j;
}

/* ---- exec ---- */

static void on_output(int stream, const void *p, size_t n, void *ud)
{
	job *j = ud;
	BXC_AUTOFREE char *data = bxc_base64_encode(p, n);
	bxc_json *m = message(j, "task.log");
	bxc_json_set_i64(m, "stream", stream);
	bxc_json_set_str(m, "data", data);
	bxc_json_set_ns(m, "time_ns", bxc_clock_wall_ns());
	spool_add(j, m, true);
}

static void on_start(void *ud)
{
	send_started(ud);
}

/* A context that is mounted: its files are written out for the time of the step. */
static int materialize(job *j, const bxc_tree *t, bxc_snap_staging **ret, struct packs *packs, bxc_err **err)
{
	BXC_AUTOSTAGING bxc_snap_staging *g = NULL;
	const bxc_fsop_source src = {.root_fd = -1, .tree = t};
	const bxc_fsop_env env = {.open_pack = open_pack, .ud = packs, .cancel = j->cancel};
	int r = bxc_snap_begin(j->a->c.snap, NULL, &g, err);
	if (r >= 0)
		r = bxc_fsop_materialize(&src, bxc_snap_staging_fd(g), &env, err);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(g);
	return 0;
}

/* One per mount of the op. */
static uint64_t *cache_generations(const job *j, const bxc_op_exec *op)
{
	uint64_t *list = bxc_calloc(op->mounts.n + 1, sizeof(*list));
	BXC_JSON_FOREACH (c, bxc_json_get(j->msg, "cache_mounts")) {
		uint64_t i = bxc_json_get_u64(c, "mount", UINT64_MAX);
		if (i < op->mounts.n)
			list[i] = bxc_json_get_u64(c, "generation", 0);
	}
	return list;
}

/* A cache mount that starts from a context is another one when the context is. */
static int identify(const step *s, uint32_t index, char **ret, bxc_err **err)
{
	bool is_asked = false;
	BXC_ARR_FOREACH (m, &s->v->op.exec.mounts)
		is_asked |= m->kind == BXC_MOUNT_CACHE && m->input == index;
	if (!is_asked)
		return 0;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_TREE_BYTES_MAX);
	int r = bxc_tree_encode(s->inputs[index].tree, false, &b, err);
	if (r < 0)
		return r;
	char text[BXC_DIGEST_STR_MAX];
	bxc_digest d = bxc_digest_of(b.data, b.len);
	*ret = bxc_strdup(bxc_digest_str(&d, text));
	return 0;
}

int run_exec(job *j, bxc_err **err)
{
	step s = {0};
	struct packs packs = {.j = j};
	int r = step_open(j, BXC_OP_EXEC, &s, err);
	BXC_AUTOFREE bxc_exec_input *in = bxc_calloc(s.n, sizeof(*in));
	BXC_AUTOFREE char **ids = bxc_calloc(s.n, sizeof(*ids));
	BXC_AUTOFREE bxc_snap_staging **scratch = bxc_calloc(s.n, sizeof(bxc_snap_staging *));
	for (size_t i = 0; r >= 0 && i < s.n; i++) {
		in[i] = (bxc_exec_input){(const char *const *)s.inputs[i].ids, s.inputs[i].n_ids, -1, NULL};
		if (!s.inputs[i].tree)
			continue;
		r = materialize(j, s.inputs[i].tree, &scratch[i], &packs, err);
		if (r >= 0)
			r = identify(&s, (uint32_t)i, &ids[i], err);
		if (r < 0)
			break;
		in[i].tree_fd = bxc_snap_staging_fd(scratch[i]);
		in[i].tree_id = ids[i];
	}
	if (r >= 0) {
		BXC_AUTOFREE uint64_t *generations = cache_generations(j, &s.v->op.exec);
		client *cl = client_open(j);
		const bxc_exec_job x = {
			.id = j->name,
			.op = &s.v->op.exec,
			.inputs = in,
			.n_inputs = s.n,
			.cache_generations = generations,
			.output_layer = s.output,
			.on_output = on_output,
			.on_start = on_start,
			.ud = j,
			.timeout_ns = BXC_MAX(bxc_json_get_i64(j->msg, "timeout_ns", 0), INT64_C(0)),
			.services = client_services(cl),
			.cancel = j->cancel,
		};
		bxc_exec_result res = {0};
		r = bxc_exec_run(j->a->c.exec, &x, &res, err);
		client_close(cl);
		if (r >= 0)
			j->result = step_result(s.output, res.size_bytes, res.duration_ns);
	}
	for (size_t i = 0; i < s.n; i++) {
		bxc_snap_abort(scratch[i]);
		free(ids[i]);
	}
	packs_done(&packs);
	step_close(j, &s);
	return r;
}

/* ---- file ---- */

static int copy_files(job *j, step *s, bxc_fsop_source *sources, struct packs *packs, bxc_err **err)
{
	bxc_snap *snap = j->a->c.snap;
	uint32_t base = BXC_DEF_NO_INPUT;
	BXC_AUTOSTAGING bxc_snap_staging *g = NULL;
	BXC_AUTOCLOSE int root_fd = -1;
	int r = bxc_fsop_base(&s->v->op.file, (uint32_t)s->n, &base, err);
	if (r >= 0)
		r = bxc_snap_begin(snap, s->output, &g, err);
	if (r < 0)
		return r;
	const input *b = base == BXC_DEF_NO_INPUT ? NULL : &s->inputs[base];
	if (b && b->tree)
		return bxc_err_set(err, BXC_UNIMPLEMENTED, "file operations on a context itself are not supported by this version of bxc");
	r = bxc_snap_mount_rw(snap, b ? (const char *const *)b->ids : NULL, b ? b->n_ids : 0, g, &root_fd, err);
	for (size_t i = 0; r >= 0 && i < s->n; i++) {
		sources[i] = (bxc_fsop_source){-1, s->inputs[i].tree};
		/* The base is read only when something is copied from it. */
		if (!s->inputs[i].tree)
			r = bxc_snap_mount_ro(snap, (const char *const *)s->inputs[i].ids, s->inputs[i].n_ids, &sources[i].root_fd, err);
	}
	if (r < 0)
		return r;
	const bxc_fsop_env env = {.open_pack = open_pack, .ud = packs, .cancel = j->cancel};
	int64_t begun = bxc_clock_mono_ns();
	r = bxc_fsop_run(&s->v->op.file, root_fd, sources, (uint32_t)s->n, &env, err);
	if (r < 0)
		return r;
	close(BXC_TAKE_FD(root_fd));
	r = bxc_snap_commit(BXC_TAKE(g), NULL, err);
	if (r < 0)
		return r;
	bxc_snap_facts facts = {0};
	r = bxc_snap_get(snap, s->output, &facts, err);
	if (r >= 0)
		j->result = step_result(s->output, facts.size_bytes, bxc_clock_mono_ns() - begun);
	return r;
}

int run_file(job *j, bxc_err **err)
{
	step s = {0};
	struct packs packs = {.j = j};
	int r = step_open(j, BXC_OP_FILE, &s, err);
	BXC_AUTOFREE bxc_fsop_source *sources = bxc_calloc(s.n, sizeof(*sources));
	for (size_t i = 0; i < s.n; i++)
		sources[i].root_fd = -1;
	if (r >= 0) {
		send_started(j);
		r = copy_files(j, &s, sources, &packs, err);
	}
	for (size_t i = 0; i < s.n; i++)
		if (sources[i].root_fd >= 0)
			close(sources[i].root_fd);
	packs_done(&packs);
	step_close(j, &s);
	return r;
}
