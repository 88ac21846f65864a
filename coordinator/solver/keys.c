/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys. Each kind of hash starts with a text of its own, so that none can stand for another; the
 * number in it changes when what is hashed does.
 */
#include "coordinator/solver/solver_internal.h"

static void add_digest(bxc_hasher *h, const bxc_digest *d)
{
	bxc_check(bxc_digest_is_set(d));
	bxc_hasher_update(h, d->b, sizeof(d->b));
}

/*
 * Two builds share a vertex only when they ask the same of it and of all below it; then each input
 * of a shared vertex is shared too, which the demand walk (build.c) relies on.
 */
void bxc_solve__identity(bxc_solve *s, const bxc_def_vertex *v, bool ignored_below,
	const solve_name *const *inputs, solve_name *ret)
{
	bxc_digest d = v->digest;
	if (v->meta.ignore_cache || ignored_below) {
		bxc_hasher_update_str(s->hasher, "bxc ignore-cache identity 1");
		add_digest(s->hasher, &v->digest);
		bxc_hasher_update_u64(s->hasher, v->meta.ignore_cache);
		for (size_t i = 0; i < v->inputs.n; i++)
			bxc_hasher_update_str(s->hasher, inputs[i]->s);
		d = bxc_hasher_final(s->hasher);
	}
	bxc_digest_str(&d, ret->s);
}

static bxc_digest key_of(bxc_solve *s, const struct solve_vertex *v, const char *kind, bool deep)
{
	bxc_hasher *h = s->hasher;
	bxc_hasher_update_str(h, kind);
	add_digest(h, &v->op_digest);
	bxc_hasher_update_u64(h, v->n_in);
	for (size_t i = 0; i < v->n_in; i++) {
		const struct solve_in *in = &v->in[i];
		if (in->is_cheap || (deep && in->is_content)) {
			bxc_hasher_update_str(h, "content");
			add_digest(h, &in->checksum);
		} else {
			bxc_hasher_update_str(h, "key");
			add_digest(h, &in->v->canonical);
			bxc_hasher_update_u64(h, in->output);
		}
	}
	return bxc_hasher_final(h);
}

bxc_digest bxc_solve__dk(bxc_solve *s, const struct solve_vertex *v)
{
	return key_of(s, v, "bxc definition key 1", false);
}

bxc_digest bxc_solve__ck(bxc_solve *s, const struct solve_vertex *v)
{
	return key_of(s, v, "bxc content key 1", true);
}

bxc_digest bxc_solve__fresh(bxc_solve *s, const bxc_digest *key, uint64_t record)
{
	bxc_hasher_update_str(s->hasher, "bxc fresh key 2");
	bxc_hasher_update_str(s->hasher, s->cluster ? s->cluster : "");
	add_digest(s->hasher, key);
	bxc_hasher_update_u64(s->hasher, record);
	return bxc_hasher_final(s->hasher);
}
