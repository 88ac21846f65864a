/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs of tasks: layers made present and pinned, trees of contexts. */
#include "worker/agent/agent_internal.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

struct told {
	int64_t at_ns;
	int64_t started_ns;
};

/* At most ten messages a second for each layer. */
static void on_progress(const bxc_src_layer *l, const char *what, uint64_t current, uint64_t total, bool done, void *ud)
{
	job *j = ud;
	int64_t now = bxc_clock_wall_ns();
	if (!spool_is_heard(&j->spool))
		return;
	pthread_mutex_lock(&j->lock);
	struct told *t = bxc_map_get(j->told, what);
	if (!t) {
		t = bxc_calloc(1, sizeof(*t));
		t->started_ns = now;
		bxc_map_set(j->told, what, t);
	}
	bool quiet = !done && now - t->at_ns < BXC_NS_PER_S / 10;
	if (!quiet)
		t->at_ns = now;
	int64_t started = t->started_ns;
	pthread_mutex_unlock(&j->lock);
	if (quiet)
		return;
	send_vertex_status(j, l->vertex, what, current, total, started, done);
}

int input_ensure(job *j, input *in, bxc_err **err)
{
	const bxc_src_progress progress = {on_progress, j};
	int r = bxc_src_ensure(j->a->src, &in->layers, &j->reach, j->cancel, &progress, &j->lost, err);
	if (r < 0)
		return r;
	char **ids = NULL;
	BXC_ARR_FOREACH (l, &in->layers.items)
		bxc_strv_push(&ids, l->id);
	size_t n = bxc_strv_len(ids);
	r = n ? bxc_snap_pin(j->a->c.snap, (const char *const *)ids, n, err) : 0;
	if (r < 0) {
		bxc_strv_free(ids);
		return r;
	}
	in->ids = ids;
	in->n_ids = n;
	return 0;
}

int input_open(job *j, const bxc_json *doc, input *in, bxc_err **err)
{
	const bxc_json *tree = bxc_json_get(doc, "tree");
	bxc_digest d;
	int r;
	if (!tree) {
		r = bxc_src_layers_parse(bxc_json_get(doc, "layers"), &in->layers, err);
		return r < 0 ? r : input_ensure(j, in, err);
	}
	r = bxc_digest_parse(bxc_json_get_str(tree, "digest", ""), &d, err);
	return r < 0 ? bxc_err_wrap(err, r, "input tree") : bxc_src_tree(j->a->src, &d, j->cancel, &in->tree, err);
}

void input_close(job *j, input *in)
{
	if (in->n_ids)
		bxc_snap_unpin(j->a->c.snap, (const char *const *)in->ids, in->n_ids);
	bxc_strv_free(in->ids);
	bxc_src_layers_done(&in->layers);
	bxc_tree_free(in->tree);
	*in = (input){0};
}
