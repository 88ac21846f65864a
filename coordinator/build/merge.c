/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merges. Trees are stacks of layers, so a merge is one stack above the other: it costs a record, no
 * worker and no copy. A layer that --link made apart stays what it is over any base.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/limits.h"
#include "common/base/mem.h"

static int stack(record *r, const record *in, bool is_first, bxc_err **err)
{
	if (in->context)
		return bxc_err_set(err, BXC_UNIMPLEMENTED, "merging a context itself is not supported by this version of bxc");
	BXC_ARR_FOREACH (l, &in->layers) {
		/*
		 * A layer made upon others may say "this folder is new" (opaque), which holds over those
		 * only. Layers of images say so on purpose.
		 */
		if (!is_first && !(*l)->registry && (*l)->n_below)
			return bxc_err_set(err, BXC_UNIMPLEMENTED,
				"merging trees of several steps is not supported by this version of bxc, only what one step made from nothing");
		*bxc_arr_push(&r->layers) = *l;
	}
	if (r->layers.n > BXC_LIMIT_IMAGE_LAYERS)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u layers", BXC_LIMIT_IMAGE_LAYERS);
	return 0;
}

void merge_run(bxc_build *e, const bxc_solve_action *a)
{
	record *r = bxc_calloc(1, sizeof(*r));
	for (size_t i = 0; i < a->n_inputs; i++) {
		const record *in = record_find(e, a->inputs[i].record);
		bxc_err *err = NULL;
		if (in && stack(r, in, i == 0, &err) == 0)
			continue;
		record_free(r);
		if (in)
			bxc_solve_fail(e->solve, a->ticket, err, false);
		else
			bxc_solve_input_lost(e->solve, a->ticket, a->inputs[i].record);
		return;
	}
	record_new(e, r, a->ticket, 0, NULL);
}
