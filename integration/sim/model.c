/* SPDX-License-Identifier: Apache-2.0 */
#include "integration/sim/sim.h"

uint64_t sim_rand(sim_rng *r, uint64_t n)
{
	/* splitmix64 */
	uint64_t z = (r->x += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31)) % n;
}

bool sim_chance(sim_rng *r, unsigned percent)
{
	return sim_rand(r, 100) < percent;
}

/* ---- definitions ---- */

static bxc_platform platform_of(bool arm)
{
	bxc_platform p = {.os = "linux", .arch = "amd64"};
	if (arm)
		p = (bxc_platform){.os = "linux", .arch = "arm64"};
	return p;
}

static uint32_t add(bxc_def *d, bxc_def_vertex *v)
{
	uint32_t index = 0;
	bxc_check(bxc_def_add(d, v, &index, NULL) == 0);
	return index;
}

static void add_source(sim_rng *r, bxc_def *d, uint64_t session, bool arm)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	if (sim_chance(r, 30)) {
		/* The session keeps contexts of clients apart; the version is what is in it. */
		v->op.source.identifier =
			bxc_str_fmt("local://context-%u", (unsigned)sim_rand(r, 3));
		v->op.source.attrs = NULL;
		bxc_strv_pushf(&v->op.source.attrs, "session=s%llu", (unsigned long long)session);
	} else {
		v->platform = platform_of(arm);
		v->op.source.identifier = bxc_str_fmt(
			"docker-image://docker.io/library/base%u:latest", (unsigned)sim_rand(r, 3));
	}
	add(d, v);
}

static uint32_t pick(sim_rng *r, const bxc_def *d)
{
	size_t n = d->vertices.n;
	/* Recent ones are likelier, which makes chains. */
	size_t back = sim_chance(r, 60) ? sim_rand(r, BXC_MIN(n, 3)) : sim_rand(r, n);
	return (uint32_t)(n - 1 - back);
}

static char *path_of(unsigned file)
{
	return bxc_str_fmt("/%u", file);
}

static bxc_def_vertex *new_exec(sim_rng *r, bxc_def *d, bool arm)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_EXEC);
	v->platform = platform_of(arm);
	bxc_strv_pushf(&v->op.exec.args, "step%u", (unsigned)sim_rand(r, 8));
	v->op.exec.cwd = bxc_strdup("/");
	uint32_t in = bxc_def_add_input(v, pick(r, d), 0);
	bxc_op_mount *root = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/");
	root->input = in;
	root->output = 0;
	if (sim_chance(r, 30)) {
		in = bxc_def_add_input(v, pick(r, d), 0);
		bxc_op_mount *m = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/mnt");
		m->input = in;
		m->output = BXC_DEF_NO_OUTPUT;
		m->readonly = true;
		if (sim_chance(r, 70))
			m->selector = path_of((unsigned)sim_rand(r, SIM_FILES));
	}
	return v;
}

static bxc_def_vertex *new_copy(sim_rng *r, bxc_def *d, bool arm)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_FILE);
	v->platform = platform_of(arm);
	uint32_t target =
		sim_chance(r, 20) ? BXC_DEF_NO_INPUT : bxc_def_add_input(v, pick(r, d), 0);
	uint32_t n = 1 + (uint32_t)sim_rand(r, 2);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t source = bxc_def_add_input(v, pick(r, d), 0);
		bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_COPY);
		a->source = source;
		a->src = path_of((unsigned)sim_rand(r, SIM_FILES));
		a->dest = path_of((unsigned)sim_rand(r, SIM_FILES));
		a->target = target;
	}
	/* References to results of actions begin behind the inputs, whose number is known only now.
	 */
	for (uint32_t i = 1; i < n; i++)
		v->op.file.actions.v[i].target = (uint32_t)v->inputs.n + i - 1;
	return v;
}

bxc_def *sim_def_random(sim_rng *r, uint64_t session, unsigned max_vertices, bool arm, bool ignore)
{
	bxc_def *d = bxc_def_new();
	unsigned n_sources = 1 + (unsigned)sim_rand(r, 3);
	for (unsigned i = 0; i < n_sources; i++)
		add_source(r, d, session, arm);
	unsigned n = 1 + (unsigned)sim_rand(r, max_vertices);
	for (unsigned i = 0; i < n; i++)
		add(d, sim_chance(r, 55) ? new_exec(r, d, arm) : new_copy(r, d, arm));
	if (ignore) {
		BXC_ARR_FOREACH (v, &d->vertices)
			(*v)->meta.ignore_cache = sim_chance(r, 20);
	}
	return d;
}

/* ---- trees ---- */

/* Few values: different steps often make equal files. */
static uint8_t few(uint64_t h)
{
	h ^= h >> 33;
	h *= UINT64_C(0xff51afd7ed558ccd);
	h ^= h >> 29;
	return (uint8_t)(h % 3);
}

static uint64_t mix_text(uint64_t h, const char *s)
{
	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
	return h;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	return (h ^ (v + 1)) * UINT64_C(0x100000001b3);
}

static unsigned file_of(const char *path)
{
	bxc_check(path[0] == '/' && path[1] >= '0' && path[1] < '0' + SIM_FILES);
	return (unsigned)(path[1] - '0');
}

static sim_tree tree_of_exec(const bxc_def_vertex *v, const sim_tree *inputs)
{
	uint64_t h = mix_text(UINT64_C(0xcbf29ce484222325), v->op.exec.args[0]);
	h = mix_text(h, v->platform.arch);
	BXC_ARR_FOREACH (m, &v->op.exec.mounts) {
		for (unsigned i = 0; i < SIM_FILES; i++) {
			if (!m->selector || file_of(m->selector) == i)
				h = mix(h, inputs[m->input].file[i]);
		}
	}
	sim_tree t;
	for (unsigned i = 0; i < SIM_FILES; i++)
		t.file[i] = few(mix(h, i));
	return t;
}

static sim_tree tree_of_copies(const bxc_def_vertex *v, const sim_tree *inputs)
{
	uint32_t first = v->op.file.actions.v[0].target;
	sim_tree t = {{0}};
	if (first != BXC_DEF_NO_INPUT)
		t = inputs[first];
	BXC_ARR_FOREACH (a, &v->op.file.actions)
		t.file[file_of(a->dest)] = inputs[a->source].file[file_of(a->src)];
	return t;
}

sim_tree sim_tree_of(const bxc_def_vertex *v, const sim_tree *inputs)
{
	if (v->kind == BXC_OP_EXEC)
		return tree_of_exec(v, inputs);
	if (v->kind == BXC_OP_FILE)
		return tree_of_copies(v, inputs);
	uint64_t h = mix_text(UINT64_C(0xcbf29ce484222325), v->op.source.identifier);
	h = mix_text(h, v->platform.arch);
	sim_tree t;
	for (unsigned i = 0; i < SIM_FILES; i++)
		t.file[i] = few(mix(h, i));
	return t;
}

sim_tree sim_tree_expected(const bxc_def *d, uint32_t vertex)
{
	BXC_AUTOFREE sim_tree *trees = bxc_calloc(d->vertices.n, sizeof(*trees));
	for (uint32_t i = 0; i <= vertex; i++) {
		const bxc_def_vertex *v = d->vertices.v[i];
		BXC_AUTOFREE sim_tree *inputs = bxc_calloc(v->inputs.n + 1, sizeof(*inputs));
		for (size_t k = 0; k < v->inputs.n; k++)
			inputs[k] = trees[v->inputs.v[k].vertex];
		trees[i] = sim_tree_of(v, inputs);
	}
	return trees[vertex];
}

bxc_digest sim_tree_digest(const sim_tree *t, const char *path)
{
	if (bxc_str_eq(path, "/"))
		return bxc_digest_of(t->file, sizeof(t->file));
	return bxc_digest_of(&t->file[file_of(path)], 1);
}

bool sim_tree_eq(const sim_tree *a, const sim_tree *b)
{
	return memcmp(a->file, b->file, sizeof(a->file)) == 0;
}
