/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks from the coordinator to pool threads and back. */
#include "worker/agent/agent_internal.h"

#include <poll.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define QUEUE 4096u

static void job_free(job *j)
{
	bxc_json_free(j->msg);
	bxc_json_free(j->result);
	bxc_err_free(j->err);
	bxc_cancel_unref(j->cancel);
	bxc_reg_free(j->reg);
	bxc_strv_free(j->lost);
	bxc_map_free(j->told);
	spool_done(&j->spool);
	pthread_mutex_destroy(&j->lock);
	free(j->name);
	free(j->build);
	free(j->kind);
	free(j);
}

static void on_transfer(bxc_src_from from, uint64_t bytes, int64_t duration_ns, void *ud)
{
	static const char *const names[BXC_SRC_N_FROM] = {"peer", "registry", "client"};
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "transfer");
	bxc_json_set_str(j, "from", names[from]);
	bxc_json_set_u64(j, "bytes", bytes);
	bxc_json_set_ns(j, "duration_ns", duration_ns);
	BXC_AUTOFREE char *text = bxc_json_print(j);
	bxc_json_free(j);
	bxc_agent *a = ud;
	/* A measure that finds the channel full or closed is not worth waiting for. */
	bxc_ignore(a->port.send(bxc_slice_of(text, strlen(text)), a->port.ud, NULL));
}

int bxc_agent_new(const bxc_agent_config *c, bxc_agent **ret, bxc_err **err)
{
	bxc_agent *a = bxc_calloc(1, sizeof(*a));
	a->c = *c;
	a->jobs = bxc_map_new(NULL);
	int r = bxc_src_new(c->content, c->snap, c->sources_dir, &a->src, err);
	if (r >= 0)
		bxc_src_on_transfer(a->src, on_transfer, a);
	/* The coordinator counts steps; what it asks for beside them (blobs for peers, checksums) must not wait for those. */
	if (r >= 0)
		r = bxc_pool_new("task", 2 * c->slots + 4, QUEUE, &a->pool, err);
	if (r < 0) {
		bxc_agent_stop(a);
		return r;
	}
	*ret = a;
	return 0;
}

void bxc_agent_set_port(bxc_agent *a, const bxc_agent_port *port)
{
	a->port = *port;
}

static void cancel_all(bxc_agent *a)
{
	BXC_MAP_FOREACH (it, a->jobs) {
		job *j = it.value;
		bxc_cancel_fire(j->cancel);
	}
}

void bxc_agent_reset(bxc_agent *a)
{
	BXC_MAP_FOREACH (it, a->jobs) {
		job *j = it.value;
		/* Outputs need a client that asked for them, the rest is quickly done again. */
		if (j->is_step)
			spool_detach(&j->spool);
		else
			bxc_cancel_fire(j->cancel);
	}
}

void bxc_agent_stop(bxc_agent *a)
{
	if (!a)
		return;
	a->stopping = true;
	cancel_all(a);
	bxc_pool_free(a->pool);
	BXC_MAP_FOREACH (it, a->jobs)
		job_free(it.value);
	bxc_map_free(a->jobs);
	bxc_src_free(a->src);
	free(a);
}

void bxc_agent_leave(bxc_agent *a, bxc_post_fn idle, void *ud)
{
	a->on_idle = idle;
	a->idle_ud = ud;
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "leaving");
	send_json(a, j, NULL);
}

bxc_json *bxc_agent_hello(bxc_agent *a)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "hello");
	bxc_json_set_str(j, "version", BXC_VERSION);
	bxc_json_set_strv(j, "platforms", a->c.platforms);
	bxc_json_set_strv(j, "emulated", a->c.emulated);
	bxc_json_set_u64(j, "slots", a->c.slots);
	bxc_json_set_str(j, "peer_url", a->c.host);
	bxc_json_set_bool(j, "leaving", a->on_idle != NULL);
	bxc_json_add_object(j, "labels");
	bxc_json *layers = bxc_json_add_array(j, "layers");
	BXC_AUTOSNAPLIST bxc_snap_list list = {0};
	bxc_snap_list_layers(a->c.snap, &list);
	BXC_ARR_FOREACH (l, &list) {
		bxc_json *o = bxc_json_push_object(layers);
		bxc_json_set_str(o, "id", l->id);
		bxc_json_set_u64(o, "size", l->size_bytes);
	}
	bxc_json *running = bxc_json_add_array(j, "running");
	BXC_MAP_FOREACH (it, a->jobs) {
		const job *step = it.value;
		if (!step->is_step || step->is_forgotten)
			continue;
		bxc_json *o = bxc_json_push_object(running);
		bxc_json_set_str(o, "task", step->name);
		bxc_json_set_u64(o, "epoch", step->epoch);
	}
	return j;
}

/* ---- messages ---- */

int send_text(bxc_agent *a, const char *text, bxc_cancel *cancel)
{
	for (;;) {
		BXC_AUTOERR bxc_err *err = NULL;
		int r = a->port.send(bxc_slice_of(text, strlen(text)), a->port.ud, &err);
		if (r != -BXC_RESOURCE_EXHAUSTED) {
			if (r < 0 && r != -BXC_CANCELED)
				bxc_log_err(BXC_LOG_WARN, "worker.send_failed", err, NULL);
			return r;
		}
		/* The coordinator is slower than the step talks: the step waits, nothing is dropped. */
		struct pollfd p = {.fd = bxc_cancel_fd(cancel), .events = POLLIN};
		bxc_ignore(poll(&p, p.fd >= 0 ? 1 : 0, 20));
		if (bxc_cancel_is_fired(cancel))
			return -BXC_CANCELED;
	}
}

void send_json(bxc_agent *a, bxc_json *j_take, bxc_cancel *cancel)
{
	BXC_AUTOFREE char *text = bxc_json_print(j_take);
	bxc_json_free(j_take);
	bxc_ignore(send_text(a, text, cancel));
}

bxc_json *message(const job *j, const char *type)
{
	bxc_json *m = bxc_json_object();
	bxc_json_set_str(m, "type", type);
	bxc_json_set_str(m, "task", j->name);
	bxc_json_set_u64(m, "epoch", j->epoch);
	return m;
}

void send_started(job *j)
{
	spool_mark_started(&j->spool);
	/* Whoever adopts it is told by the way. */
	if (spool_is_heard(&j->spool))
		send_json(j->a, message(j, "task.started"), j->cancel);
}

void send_vertex_status(job *j, const char *vertex, const char *id, uint64_t current, uint64_t total, int64_t started_ns, bool done)
{
	bxc_json *m = message(j, "task.status");
	bxc_json_set_str(m, "vertex", vertex);
	bxc_json_set_str(m, "id", id);
	bxc_json_set_u64(m, "current", current);
	bxc_json_set_u64(m, "total", total);
	bxc_json_set_ns(m, "started_ns", started_ns);
	if (done)
		bxc_json_set_ns(m, "completed_ns", bxc_clock_wall_ns());
	send_json(j->a, m, j->cancel);
}

void send_status(job *j, const char *id, uint64_t current, uint64_t total, bool done)
{
	send_vertex_status(j, NULL, id, current, total, bxc_clock_wall_ns(), done);
}

static bxc_json *err_json(const bxc_err *e)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "code", bxc_code_name(bxc_err_code(e)));
	bxc_json_set_str(j, "message", bxc_err_text(e));
	bxc_json *d = bxc_json_add_object(j, "details");
	const char *k, *v;
	for (size_t i = 0; bxc_err_detail_at(e, i, &k, &v); i++)
		bxc_json_set_str(d, k, v);
	return j;
}

/* ---- running ---- */

static int ask_token(const char *domain, const char *scope, const char *realm, const char *service, bxc_secret **ret_token, bxc_secret **ret_basic,
	void *ud, bxc_err **err)
{
	job *j = ud;
	BXC_AUTOJSON bxc_json *q = bxc_json_object(), *reply = NULL;
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(64u << 10);
	BXC_CLEANUP(bxc_chan_stream_freep) bxc_chan_stream *s = NULL;
	bxc_json_set_str(q, "build", j->build);
	bxc_json_set_str(q, "domain", domain);
	bxc_json_set_str(q, "scope", scope);
	bxc_json_set_str(q, "realm", realm);
	bxc_json_set_str(q, "service", service);
	BXC_AUTOFREE char *name = bxc_json_print(q);
	int r = j->a->port.open_stream("token", name, false, &s, j->a->port.ud, err);
	if (r >= 0)
		r = bxc_chan_stream_write_eof(s, err);
	if (r >= 0)
		r = bxc_chan_stream_read_all(s, &text, j->cancel, err);
	if (r >= 0)
		r = bxc_json_parse(bxc_buf_slice(&text), &reply, err);
	if (r >= 0) {
		const char *token = bxc_json_get_str(reply, "token", NULL), *basic = bxc_json_get_str(reply, "basic", NULL);
		if (token)
			*ret_token = bxc_secret_new(token, strlen(token));
		else if (basic)
			*ret_basic = bxc_secret_new(basic, strlen(basic));
	}
	if (text.data)
		explicit_bzero(text.data, text.len);
	return bxc_err_wrap(err, r, "credentials for '%s'", domain);
}

int open_client_stream(job *j, const char *kind, bxc_json *q_take, bxc_chan_stream **ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *q = q_take;
	BXC_AUTOFREE char *name = bxc_json_print(q);
	return j->a->port.open_stream(kind, name, true, ret, j->a->port.ud, err);
}

static const struct {
	const char *kind;
	int (*run)(job *j, bxc_err **err);
} kinds[] = {
	{"exec", run_exec}, {"file", run_file}, {"checksum", run_checksum}, {"publish", run_publish}, {"export", run_export},
	{"resolve", run_resolve}, {"source", run_source}, {"read", run_read}, {"cache", run_cache},
	{"prefetch", run_prefetch},
};

static bxc_json *done_message(job *j)
{
	bxc_json *m = message(j, "task.done");
	bxc_json_set_bool(m, "ok", !j->err);
	if (j->err) {
		bxc_json_set_take(m, "error", err_json(j->err));
		bxc_json_set_bool(m, "infra", j->infra);
		bxc_json_set_strv(m, "lost", j->lost);
	} else {
		bxc_json_set_take(m, "result", BXC_TAKE(j->result));
	}
	return m;
}

static void work(void *ud)
{
	job *j = ud;
	j->reg = bxc_content_registry(j->a->c.content, ask_token, j);
	j->client = client_of(j);
	j->reach = (bxc_src_reach){j->reg, &j->client};
	int r = bxc_cancel_check(j->cancel, &j->err);
	size_t i = 0;
	while (r >= 0 && i < BXC_ARRAY_SIZE(kinds) && !bxc_str_eq(kinds[i].kind, j->kind))
		i++;
	if (r >= 0)
		r = i < BXC_ARRAY_SIZE(kinds) ? kinds[i].run(j, &j->err)
					      : bxc_err_set(&j->err, BXC_UNIMPLEMENTED, "unknown kind of task '%.64s'", j->kind);
	if (j->services)
		client_close(BXC_TAKE(j->services));
	if (r < 0 && !j->err)
		bxc_ignore(bxc_err_set(&j->err, (bxc_code)-r, "the task failed"));
	const char *lost = bxc_err_get_detail(j->err, "lost_layer");
	if (lost && !bxc_strv_has(j->lost, lost))
		bxc_strv_push(&j->lost, lost);
	/* What it wrote goes now, not some day: a full disk may be why it failed. */
	if (r < 0)
		bxc_ignore(bxc_snap_empty_trash(j->a->c.snap, NULL));
	/* The step's own failure is UNKNOWN with an exit code, or a mistake in what was asked; the rest is ours or the network's. */
	if (r < 0)
		j->infra = bxc_err_get_detail(j->err, "infra") || bxc_code_is_transient(bxc_err_code(j->err)) ||
			bxc_err_code(j->err) == BXC_RESOURCE_EXHAUSTED;     /* another one may have room */
	if (j->is_step)
		spool_add(j, done_message(j), false);
}

static void go_if_idle(bxc_agent *a)
{
	if (a->on_idle && a->is_released && bxc_map_len(a->jobs) == 0)
		a->on_idle(a->idle_ud);
}

static void free_if_over(job *j)
{
	bxc_agent *a = j->a;
	if (!j->is_ended || !j->is_forgotten || j->flushes)
		return;
	bxc_map_del(a->jobs, j->name);
	job_free(j);
	go_if_idle(a);
}

static void done(void *ud)
{
	job *j = ud;
	bxc_agent *a = j->a;
	if (a->stopping)
		return;              /* freed with the rest */
	if (j->err)
		bxc_log_err(BXC_LOG_INFO, "task.failed", j->err, "task", j->name, "kind", j->kind, NULL);
	else
		bxc_log(BXC_LOG_INFO, "task.done", "task", j->name, "kind", j->kind, NULL);
	/* A step is kept until the coordinator has recorded its result. */
	if (!j->is_step) {
		send_json(a, done_message(j), NULL);
		j->is_forgotten = true;
	}
	j->is_ended = true;
	free_if_over(j);
}

/* The pool refused it. */
static void not_started(void *ud)
{
	job *j = ud;
	if (j->is_step && !j->a->stopping)
		spool_add(j, done_message(j), false);
	done(j);
}

static void flush_work(void *ud)
{
	spool_flush(ud);
}

static void flush_done(void *ud)
{
	job *j = ud;
	if (j->a->stopping)
		return;
	j->flushes--;
	free_if_over(j);
}

static void adopt(bxc_agent *a, job *j)
{
	BXC_AUTOERR bxc_err *err = NULL;
	spool_adopted(j);
	j->flushes++;
	if (bxc_pool_submit(a->pool, flush_work, a->c.loop, flush_done, j, &err) < 0) {
		j->flushes--;
		spool_flush(j);
	}
}

static int start(bxc_agent *a, const bxc_json *msg, bxc_err **err)
{
	const char *name, *kind;
	int r = bxc_json_need_str(msg, "task", &name, err);
	if (r >= 0)
		r = bxc_json_need_str(msg, "kind", &kind, err);
	if (r < 0)
		return r;
	if (bxc_map_has(a->jobs, name))
		return bxc_err_set(err, BXC_ALREADY_EXISTS, "task '%s' runs already", name);
	job *j = bxc_calloc(1, sizeof(*j));
	j->a = a;
	j->name = bxc_strdup(name);
	j->kind = bxc_strdup(kind);
	j->build = bxc_strdup(bxc_json_get_str(msg, "build", ""));
	j->epoch = bxc_json_get_u64(msg, "epoch", 0);
	j->msg = bxc_json_dup(msg);
	j->cancel = bxc_cancel_new();
	j->told = bxc_map_new(free);
	pthread_mutex_init(&j->lock, NULL);
	spool_init(&j->spool);
	j->is_step = bxc_str_eq(kind, "exec") || bxc_str_eq(kind, "file");
	bxc_map_set(a->jobs, name, j);
	r = bxc_pool_submit(a->pool, work, a->c.loop, done, j, &j->err);
	if (r < 0) {
		j->infra = true;
		bxc_loop_post(a->c.loop, not_started, j);
	}
	return 0;
}

void bxc_agent_layers_gone(bxc_agent *a, char *const *ids)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "layer.gone");
	bxc_json_set_strv(j, "layers", ids);
	send_json(a, j, NULL);
}

void bxc_agent_send(bxc_agent *a, bxc_json *j_take)
{
	send_json(a, j_take, NULL);
}

int bxc_agent_message(bxc_agent *a, const char *type, const bxc_json *msg, bxc_err **err)
{
	if (bxc_str_eq(type, "task.run"))
		return start(a, msg, err);
	if (bxc_str_eq(type, "usage") || bxc_str_eq(type, "prune")) {
		if (a->c.on_usage)
			a->c.on_usage(msg, a->c.usage_ud);
		return 0;
	}
	if (bxc_str_eq(type, "released")) {
		a->is_released = true;
		go_if_idle(a);
		return 0;
	}
	job *j = bxc_map_get(a->jobs, bxc_json_get_str(msg, "task", ""));
	if (bxc_str_eq(type, "task.cancel") || bxc_str_eq(type, "task.forget")) {
		if (!j)
			return 0;
		if (bxc_str_eq(type, "task.cancel"))
			bxc_cancel_fire(j->cancel);
		j->is_forgotten = true;
		free_if_over(j);
		return 0;
	}
	if (bxc_str_eq(type, "task.adopt")) {
		/* One that is gone ended as the worker did: the coordinator learns that it was lost. */
		if (j && j->is_step && j->epoch == bxc_json_get_u64(msg, "epoch", j->epoch))
			adopt(a, j);
		return 0;
	}
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown message type '%.64s'", type);
}
