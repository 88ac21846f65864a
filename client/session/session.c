/* SPDX-License-Identifier: Apache-2.0 */
#include "client/session/session_internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define THREADS 4u
#define QUEUE   256u
#define AGENT_THREADS 16u

static void free_tree(void *p)
{
	bxc_tree_free(p);
}

/* ---- streams ---- */

struct serving {
	bxc_csess *s;
	bxc_chan_stream *stream;
	char *kind;
	char *name;
};

static const struct kind {
	const char *kind;
	int (*serve)(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err);
	bool has_name, has_bytes;    /* what comes from the coordinator */
} kinds[] = {
	{"cache.blob", serve_cache_blob, true, false},
	{"cache.lacks", serve_cache_lacks, true, true},
	{"cache.put", serve_cache_put, true, true},
	{"context.scan", serve_scan, false, true},
	{"context.fetch", serve_fetch, true, true},
	{"export", serve_export, true, true},
	{"layout", serve_layout, true, false},
	{"secret", serve_secret, true, false},
	{"ssh", serve_agent, true, true},
	{"token", serve_token, true, false},
	{"upload", serve_upload, true, false},
};

int read_end(bxc_csess *s, bxc_chan_stream *st, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf none = BXC_BUF_INIT(1);
	int r = bxc_chan_stream_read_all(st, &none, s->cancel, err);
	return r < 0 ? r : 0;
}

ssize_t from_stream(void *p, size_t n, void *source, bxc_err **err)
{
	const stream_source *i = source;
	return bxc_chan_stream_read(i->stream, p, n, i->s->cancel, err);
}

static int serve(struct serving *v, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *name = NULL;
	const struct kind *k = NULL;
	int r = 0;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(kinds); i++)
		if (bxc_str_eq(kinds[i].kind, v->kind))
			k = &kinds[i];
	if (!k)
		return bxc_err_set(err, BXC_UNIMPLEMENTED, "this client does not serve '%.64s'", v->kind);
	if (k->has_name)
		r = bxc_json_parse(bxc_slice_of(v->name, strlen(v->name)), &name, err);
	if (r >= 0 && !k->has_bytes)
		r = read_end(v->s, v->stream, err);
	if (r >= 0)
		r = k->serve(v->s, v->stream, name, err);
	return r < 0 ? r : bxc_chan_stream_write_eof(v->stream, err);
}

static void serving_end(struct serving *v, const bxc_err *why)
{
	if (why)
		bxc_chan_stream_reset(v->stream, bxc_err_code(why), bxc_err_text(why));
	bxc_chan_stream_free(v->stream);
	free(v->kind);
	free(v->name);
	free(v);
}

static void serve_work(void *ud)
{
	struct serving *v = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_ignore(serve(v, &err));
	serving_end(v, err);
}

static void on_stream(bxc_chan *c, bxc_chan_stream *st, const char *kind, const char *name, void *ud)
{
	bxc_csess *s = ud;
	(void)c;
	struct serving *v = bxc_calloc(1, sizeof(*v));
	*v = (struct serving){s, st, bxc_strdup(kind), bxc_strdup(name)};
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_pool *pool = s->agent_pool && bxc_str_eq(kind, "ssh") ? s->agent_pool : s->pool;
	if (bxc_pool_submit(pool, serve_work, NULL, NULL, v, &err) < 0)
		serving_end(v, err);
}

/* ---- messages ---- */

static void lose(bxc_csess *s, const bxc_err *why)
{
	if (s->lost)
		return;
	s->lost = true;
	s->c.on_lost(why, s->c.ud);
}

static void on_message(bxc_chan *c, bxc_slice text, void *ud)
{
	bxc_csess *s = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *j = NULL;
	(void)c;
	if (bxc_json_parse(text, &j, &err) < 0) {
		lose(s, err);
		return;
	}
	const char *type = bxc_json_get_str(j, "type", "");
	if (bxc_str_eq(type, "error")) {
		bxc_ignore(bxc_err_set(&err, bxc_code_parse(bxc_json_get_str(j, "code", "UNKNOWN")), "%.1024s", bxc_json_get_str(j, "message", "")));
		lose(s, err);
		return;
	}
	const char *build = bxc_json_get_str(j, "build", NULL);
	if (bxc_str_eq(type, "event.end") && bxc_str_eq(build, s->build) && !s->is_done) {
		bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE, "the coordinator was restarted and does not know the build any more: build again"));
		lose(s, err);
		return;
	}
	if (!bxc_str_eq(type, "event") || !build || !bxc_str_eq(build, s->build))
		return;
	uint64_t seq = bxc_json_get_u64(j, "seq", 0);
	if (seq <= s->seq)
		return;
	s->seq = seq;
	if (bxc_str_eq(bxc_json_get_str(bxc_json_get(j, "event"), "type", ""), "build.done"))
		s->is_done = true;
	s->c.on_event(bxc_json_get(j, "event"), s->c.ud);
}

static int send_type(bxc_csess *s, const char *type, const char *build, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", type);
	bxc_json_set_str(j, "build", build);
	if (bxc_str_eq(type, "attach")) {
		bxc_json_set_u64(j, "after", s->seq);
		bxc_json_set_str(j, "session", s->id);
	}
	BXC_AUTOFREE char *text = bxc_json_print(j);
	return bxc_chan_send(s->chan, bxc_slice_of(text, strlen(text)), err);
}

/* The coordinator was restarted: its builds go on, and want their client back. */
static void come_back(bxc_csess *s)
{
	BXC_AUTOERR bxc_err *err = NULL;
	int r = 0;
	if (!s->build)
		r = bxc_err_set(&err, BXC_UNAVAILABLE, "the coordinator was restarted when the build was about to begin");
	if (r >= 0)
		r = send_type(s, "attach", s->build, &err);
	if (r >= 0 && s->is_canceled)
		r = send_type(s, "cancel", s->build, &err);
	if (r < 0)
		lose(s, err);
}

static void on_state(bxc_chan *c, bxc_chan_state st, const bxc_err *why, void *ud)
{
	bxc_csess *s = ud;
	s->is_up = st == BXC_CHAN_UP || st == BXC_CHAN_RESET;
	if (st == BXC_CHAN_UP && !s->was_up) {
		s->was_up = true;
		s->id = bxc_strdup(bxc_chan_session_id(c));
		s->c.on_up(bxc_chan_session_id(c), s->c.ud);
	} else if (st == BXC_CHAN_RESET) {
		come_back(s);
	} else if (st == BXC_CHAN_CLOSED) {
		lose(s, why);
	}
}

int bxc_csess_start(const bxc_csess_config *c, bxc_csess **ret, bxc_err **err)
{
	bxc_csess *s = bxc_calloc(1, sizeof(*s));
	s->c = *c;
	s->cancel = bxc_cancel_new();
	s->trees = bxc_map_new(free_tree);
	pthread_mutex_init(&s->lock, NULL);
	s->docker_config = c->docker_config ? bxc_strdup(c->docker_config) : bxc_csess_docker_config();
	const bxc_chan_dial_config dc = {
		.address = c->address,
		.role = "client",
		.name = "bxc",
		.token = c->token,
		.tls = c->tls,
	};
	static const bxc_chan_callbacks cb = {.on_message = on_message, .on_stream = on_stream, .on_state = on_state};
	int r = bxc_pool_new("session", THREADS, QUEUE, &s->pool, err);
	if (r >= 0 && c->n_agents)
		r = bxc_pool_new("agent", AGENT_THREADS, QUEUE, &s->agent_pool, err);
	if (r >= 0)
		r = bxc_chan_dial(c->loop, &dc, &cb, s, &s->chan, err);
	if (r < 0) {
		bxc_csess_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

int bxc_csess_attach(bxc_csess *s, const char *build, bxc_err **err)
{
	bxc_check(!s->build);
	s->build = bxc_strdup(build);
	return send_type(s, "attach", build, err);
}

int bxc_csess_cancel(bxc_csess *s, const char *build, bxc_err **err)
{
	s->is_canceled = true;
	if (!s->is_up)
		return bxc_err_set(err, BXC_UNAVAILABLE, "there is no connection");
	return send_type(s, "cancel", build, err);
}

void bxc_csess_close(bxc_csess *s)
{
	if (!s)
		return;
	bxc_cancel_fire(s->cancel);
	bxc_pool_free(s->pool);
	bxc_pool_free(s->agent_pool);
	if (s->chan)
		bxc_chan_close(s->chan);
	bxc_map_free(s->trees);
	pthread_mutex_destroy(&s->lock);
	bxc_cancel_unref(s->cancel);
	free(s->docker_config);
	free(s->id);
	free(s->build);
	free(s);
}
