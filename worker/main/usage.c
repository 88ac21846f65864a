/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to "usage" and "prune" (common/proto/PROTOCOL.md): looked up, or removed, on a thread of
 * its own. */
#include "worker/main/usage.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define PAGE 5000u /* items of one message */

struct ask {
	const usage_env *env;
	uint64_t id;
	bool is_prune;
	bxc_json *msg;
	bxc_gc_uses uses;
	bxc_err *err;
};

static void add_kinds(const bxc_json *list, unsigned *kinds)
{
	BXC_JSON_FOREACH (k, list)
		for (unsigned i = 0; i < BXC_GC_N_KINDS; i++)
			if (bxc_str_eq(bxc_json_string(k), bxc_gc_kind_name((bxc_gc_kind)i)))
				*kinds |= 1u << i;
}

static int prune(struct ask *a, bxc_err **err)
{
	BXC_AUTOSTRV char **ids = NULL, **keep = NULL;
	const usage_env *v = a->env;
	int r = bxc_json_get_strv(a->msg, "ids", &ids, err);
	if (r >= 0)
		r = bxc_json_get_strv(a->msg, "keep", &keep, err);
	if (r < 0)
		return r;
	bxc_gc_wish w = {.ids = ids,
		.keep = keep,
		.unused_ns = bxc_json_get_i64(a->msg, "unused_ns", 0),
		.space = {.max_used = bxc_json_get_u64(a->msg, "max_used", 0),
			.min_free = bxc_json_get_u64(a->msg, "min_free", 0),
			.reserved = bxc_json_get_u64(a->msg, "reserved", 0)}};
	add_kinds(bxc_json_get(a->msg, "kinds"), &w.kinds);
	return bxc_gc_prune(
		v->snap, v->content, v->exec, v->dir_fd, &w, bxc_clock_wall_ns(), &a->uses, err);
}

static void work(void *ud)
{
	struct ask *a = ud;
	const usage_env *v = a->env;
	bxc_ignore(a->is_prune ? prune(a, &a->err)
			       : bxc_gc_usage(v->snap, v->content, v->exec, &a->uses, &a->err));
}

static void tell_gone(const struct ask *a)
{
	BXC_AUTOSTRV char **layers = NULL;
	BXC_ARR_FOREACH (u, &a->uses)
		if (u->kind == BXC_GC_LAYER)
			bxc_strv_push(&layers, u->id);
	if (layers)
		bxc_agent_layers_gone(a->env->agent, layers);
}

static void done(void *ud)
{
	struct ask *a = ud;
	/* What went is told whatever came after it. */
	if (a->is_prune)
		tell_gone(a);
	size_t i = 0;
	do {
		bxc_json *j = bxc_json_object();
		bxc_json_set_str(j, "type", "usage");
		bxc_json_set_u64(j, "id", a->id);
		bxc_json *items = bxc_json_add_array(j, "items");
		for (size_t n = 0; n < PAGE && i < a->uses.n; n++, i++) {
			const bxc_gc_use *u = &a->uses.v[i];
			bxc_json *o = bxc_json_push_object(items);
			bxc_json_set_str(o, "kind", bxc_gc_kind_name(u->kind));
			bxc_json_set_str(o, "id", u->id);
			bxc_json_set_str(o, "about", u->about);
			bxc_json_set_u64(o, "bytes", u->bytes);
			bxc_json_set_ns(o, "used_ns", u->used_ns);
			if (u->in_use)
				bxc_json_set_bool(o, "in_use", true);
		}
		if (i < a->uses.n)
			bxc_json_set_bool(j, "more", true);
		else if (a->err)
			bxc_json_set_str(j, "error", bxc_err_text(a->err));
		bxc_agent_send(a->env->agent, j);
	} while (i < a->uses.n);
	if (a->err)
		bxc_log_err(BXC_LOG_WARN, "worker.usage_failed", a->err, NULL);
	bxc_err_free(a->err);
	bxc_gc_uses_done(&a->uses);
	bxc_json_free(a->msg);
	free(a);
}

void usage_asked(const bxc_json *msg, void *ud)
{
	struct ask *a = bxc_calloc(1, sizeof(*a));
	a->env = ud;
	a->msg = bxc_json_dup(msg);
	a->id = bxc_json_get_u64(msg, "id", 0);
	a->is_prune = bxc_str_eq(bxc_json_get_str(msg, "type", ""), "prune");
	if (bxc_pool_submit(a->env->pool, work, a->env->loop, done, a, &a->err) < 0)
		done(a);
}
