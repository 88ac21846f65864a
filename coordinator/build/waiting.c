/* SPDX-License-Identifier: Apache-2.0 */
/* Why steps wait: told to the builds that wait for them once it takes a while, and to whoever asks.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define PATIENCE_NS (2 * BXC_NS_PER_S) /* a shorter wait is not worth a word */
#define LOOKS_MAX   256u	       /* of one tick: each costs a walk over the workers */

static char *reason_of(const bxc_build *e, const task *t)
{
	BXC_AUTOFREE char *platform = t->platform.os[0] ? bxc_platform_str(&t->platform) : NULL;
	const char *of = platform ? " for " : "", *name = platform ? platform : "";
	switch (bxc_sched_waiting_reason(e->sched, t->id)) {
	case BXC_SCHED_WAIT_NONE:
		return NULL;
	case BXC_SCHED_WAIT_NO_WORKER:
		return bxc_strdup("no worker is connected");
	case BXC_SCHED_WAIT_PLATFORM:
		return bxc_str_fmt("there is no worker%s%s", of, name);
	case BXC_SCHED_WAIT_DRAINING:
		return bxc_str_fmt("the workers%s%s are being drained", of, name);
	case BXC_SCHED_WAIT_SLOTS:
		return bxc_str_fmt("all workers%s%s are busy", of, name);
	case BXC_SCHED_WAIT_INPUTS:
		return bxc_strdup("the worker that has its inputs is busy");
	case BXC_SCHED_WAIT_CACHE:
		return bxc_strdup("a cache mount is in use");
	case BXC_SCHED_WAIT_BUILD:
		return bxc_strdup("the build runs as many steps as it may at a time");
	case BXC_SCHED_WAIT_TENANT:
		return bxc_strdup("the tenant runs as many steps as it may at a time");
	}
	return NULL;
}

static const run_log *log_of(bxc_build *e, const task *t)
{
	return t->kind == TASK_RUN && t->phase == TASK_QUEUED && t->run ? run_of(e, t->run) : NULL;
}

static void tell(bxc_build *e, task *t, const char *reason)
{
	const run_log *l = log_of(e, t);
	for (size_t i = 0; l && i < l->subs.n; i++) {
		build *b = l->subs.v[i].build;
		const bxc_def_vertex *v = b->def->vertices.v[l->subs.v[i].def_index];
		char d[BXC_DIGEST_STR_MAX];
		bxc_json *j = bxc_json_object();
		bxc_json_set_str(j, "type", "waiting");
		bxc_json_set_str(j, "vertex", bxc_digest_str(&v->digest, d));
		bxc_json_set_str(j, "name", v->meta.name ? v->meta.name : "");
		bxc_json_set_str(j, "reason", reason);
		bxc_json_set_ns(j, "since_ns", t->queued_wall_ns);
		report(b, j);
	}
}

void waiting_tick(bxc_build *e, int64_t now)
{
	unsigned looks = 0;
	BXC_MAP_FOREACH (it, e->tasks) {
		task *t = it.value;
		if (now - t->queued_ns < PATIENCE_NS || t->looked_ns + PATIENCE_NS > now ||
			!log_of(e, t))
			continue;
		if (looks++ == LOOKS_MAX)
			break;
		t->looked_ns = now;
		BXC_AUTOFREE char *reason = reason_of(e, t);
		if (!reason || bxc_str_eq(reason, t->told_reason))
			continue;
		tell(e, t, reason);
		free(t->told_reason);
		t->told_reason = BXC_TAKE(reason);
	}
}

bxc_json *bxc_build_waiting(bxc_build *e, const char *id)
{
	BXC_AUTOJSON bxc_json *list = bxc_json_array();
	const build *b = bxc_map_get(e->builds, id);
	BXC_MAP_FOREACH (it, e->tasks) {
		const task *t = it.value;
		const run_log *l = log_of(e, t);
		for (size_t i = 0; b && l && i < l->subs.n; i++) {
			if (l->subs.v[i].build != b)
				continue;
			BXC_AUTOFREE char *reason = reason_of(e, t);
			const char *name = b->def->vertices.v[l->subs.v[i].def_index]->meta.name;
			bxc_json *o = bxc_json_push_object(list);
			bxc_json_set_str(o, "name", name ? name : "");
			bxc_json_set_str(o, "reason", reason ? reason : "it is about to run");
			bxc_json_set_ns(o, "since_ns", t->queued_wall_ns);
		}
	}
	return bxc_json_len(list) ? BXC_TAKE(list) : NULL;
}
