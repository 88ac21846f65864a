/* SPDX-License-Identifier: Apache-2.0 */
/* What the solver knows about operations. */
#include "coordinator/solver/solver_internal.h"

typedef enum use {
	USE_NONE = 0,
	USE_CONTENT = 1u << 0, /* by selection, read only */
	USE_WHOLE = 1u << 1,
} use;

bool bxc_solve_is_local(const bxc_def_vertex *v)
{
	return v->kind == BXC_OP_SOURCE && bxc_str_has_prefix(v->op.source.identifier, "local://");
}

bool bxc_solve_is_free(const bxc_def_vertex *v)
{
	static const char *const schemes[] = {"local://", "docker-image://", "oci-layout://"};
	for (size_t i = 0; v->kind == BXC_OP_SOURCE && i < BXC_ARRAY_SIZE(schemes); i++) {
		if (bxc_str_has_prefix(v->op.source.identifier, schemes[i]))
			return true;
	}
	return v->kind == BXC_OP_MERGE;
}

static bool mount_is_content(const bxc_op_mount *m)
{
	return m->kind == BXC_MOUNT_BIND && m->readonly && m->output == BXC_DEF_NO_OUTPUT &&
	       !bxc_str_eq(m->dest, "/");
}

/* An input that no action or mount mentions counts as a whole: nothing is known of its part. */
static void find_uses(const bxc_def_vertex *v, uint8_t *uses)
{
	size_t n = v->inputs.n;
	if (v->kind == BXC_OP_FILE) {
		BXC_ARR_FOREACH (a, &v->op.file.actions) {
			if (a->target < n)
				uses[a->target] |= USE_WHOLE;
			if (a->kind == BXC_FILE_COPY && a->source < n)
				uses[a->source] |= USE_CONTENT;
		}
	} else if (v->kind == BXC_OP_EXEC) {
		BXC_ARR_FOREACH (m, &v->op.exec.mounts) {
			if (m->input < n)
				uses[m->input] |= mount_is_content(m) ? USE_CONTENT : USE_WHOLE;
		}
	}
}

static bxc_solve_selector *add_selector(bxc_solve_contents *c, uint32_t input)
{
	BXC_ARR_FOREACH (it, &c->items) {
		if (it->input_index == input)
			return bxc_arr_push(&it->selectors);
	}
	bxc_check(false);
}

void bxc_solve_content_inputs(const bxc_def_vertex *v, bxc_solve_contents *ret)
{
	*ret = (bxc_solve_contents){0};
	if (v->inputs.n == 0)
		return;
	BXC_AUTOFREE uint8_t *uses = bxc_calloc(v->inputs.n, 1);
	find_uses(v, uses);
	for (size_t i = 0; i < v->inputs.n; i++) {
		if (uses[i] == USE_CONTENT)
			bxc_arr_push(&ret->items)->input_index = (uint32_t)i;
	}
	if (ret->items.n == 0)
		return;
	if (v->kind == BXC_OP_FILE) {
		BXC_ARR_FOREACH (a, &v->op.file.actions) {
			if (a->kind != BXC_FILE_COPY || a->source >= v->inputs.n ||
				uses[a->source] != USE_CONTENT)
				continue;
			*add_selector(ret, a->source) = (bxc_solve_selector){
				.path = bxc_str_empty(a->src) ? "/" : a->src,
				.wildcard = a->wildcard,
				.follow_symlink = a->follow_symlink,
				.dir_contents = a->src_dir_contents,
				.allow_empty = a->allow_empty_wildcard,
				.include = a->include,
				.exclude = a->exclude,
			};
		}
	} else {
		BXC_ARR_FOREACH (m, &v->op.exec.mounts) {
			if (m->input >= v->inputs.n || uses[m->input] != USE_CONTENT)
				continue;
			*add_selector(ret, m->input) = (bxc_solve_selector){
				.path = bxc_str_empty(m->selector) ? "/" : m->selector,
				.follow_symlink = true,
			};
		}
	}
}

void bxc_solve_contents_done(bxc_solve_contents *c)
{
	BXC_ARR_FOREACH (it, &c->items)
		bxc_arr_done(&it->selectors);
	bxc_arr_done(&c->items);
}

bxc_digest bxc_solve_combine(const bxc_digest *digests, size_t n)
{
	if (n == 1)
		return digests[0];
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	bxc_hasher_update_str(h, "bxc selections 1");
	bxc_hasher_update_u64(h, n);
	for (size_t i = 0; i < n; i++)
		bxc_hasher_update(h, digests[i].b, sizeof(digests[i].b));
	return bxc_hasher_final(h);
}

static uint32_t chain_of_file(const bxc_def_vertex *v)
{
	size_t n_in = v->inputs.n;
	size_t k = v->op.file.actions.n;
	/* Each reference points to an earlier action, so this walk ends. */
	while (k > 0) {
		uint32_t target = v->op.file.actions.v[k - 1].target;
		if (target < n_in)
			return target;
		if (target == BXC_DEF_NO_INPUT || target - n_in >= k - 1)
			return BXC_DEF_NO_INPUT;
		k = target - n_in + 1;
	}
	return BXC_DEF_NO_INPUT;
}

uint32_t bxc_solve_chain_input(const bxc_def_vertex *v)
{
	switch (v->kind) {
	case BXC_OP_EXEC:
		BXC_ARR_FOREACH (m, &v->op.exec.mounts) {
			if (bxc_str_eq(m->dest, "/"))
				return m->input < v->inputs.n ? m->input : BXC_DEF_NO_INPUT;
		}
		return BXC_DEF_NO_INPUT;
	case BXC_OP_FILE:
		return chain_of_file(v);
	case BXC_OP_MERGE:
		return v->inputs.n ? 0 : BXC_DEF_NO_INPUT;
	case BXC_OP_DIFF:
		return v->op.diff.upper < v->inputs.n ? v->op.diff.upper : BXC_DEF_NO_INPUT;
	case BXC_OP_SOURCE:
	case BXC_OP_UNKNOWN:
		break;
	}
	return BXC_DEF_NO_INPUT;
}
