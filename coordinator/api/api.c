/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/api/api.h"

#include <stdatomic.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define PING_NS    (15 * BXC_NS_PER_S)
#define PAGE_MAX   500u              /* events of a page */
#define PAGE_BYTES (4u << 20)        /* it ends after the event that reaches this */

struct sse {
	struct bxc_api *api;
	bxc_httpd_sse *out;
	bxc_ev_sub *sub;
	bool gone;                   /* the reader left: dropped at the next tick */
};

struct bxc_api {
	bxc_api_config c;
	bxc_httpd *httpd;
	BXC_ARR(struct sse *) streams;
	bxc_loop_timer *ping;
	_Atomic size_t n_calls;      /* made on the server's threads, ended on the loop's or there */
};

/* One request on its way through the loop and, for some, the database. */
struct call {
	bxc_api *api;
	bxc_httpd_req *req;
	char *id;
	uint64_t after;
	uint64_t step;              /* of `why`; 0: all */
	char *cursor;               /* of `why`; NULL: from the first */
	bxc_json *body;
	bxc_json *answer;
	bxc_err *err;
	bxc_db_work work;	    /* of a query */
	bxc_post_fn done;
};

static void call_free(struct call *c)
{
	atomic_fetch_sub(&c->api->n_calls, 1);
	bxc_json_free(c->body);
	bxc_json_free(c->answer);
	bxc_err_free(c->err);
	free(c->cursor);
	free(c->id);
	free(c);
}

static struct call *call_new(bxc_httpd_req *req, void *ud)
{
	struct call *c = bxc_calloc(1, sizeof(*c));
	c->api = ud;
	atomic_fetch_add(&c->api->n_calls, 1);
	c->req = req;
	c->id = bxc_strdup(bxc_httpd_req_param(req, "id"));
	return c;
}

static void reply(struct call *c, int status)
{
	if (c->err)
		bxc_httpd_reply_err(c->req, BXC_TAKE(c->err));
	else
		bxc_httpd_reply_json(c->req, status, BXC_TAKE(c->answer));
	call_free(c);
}

static int authorize(bxc_httpd_req *req, void *ud, bxc_err **err)
{
	bxc_api *a = ud;
	unsigned scope = bxc_httpd_req_flags(req);
	bool is_silent = !bxc_httpd_req_header(req, "Authorization");
	/* The socket's file mode says who may connect to it. */
	if (!scope || (is_silent && a->c.unix_path))
		return 0;
	const char *token = is_silent ? "" : bxc_httpd_req_bearer(req);
	if (!token)
		return bxc_err_set(err, BXC_UNAUTHENTICATED, "Authorization: expected a bearer token");
	return bxc_auth_check(a->c.auth, bxc_slice_of(token, strlen(token)), scope, err);
}

static void query_on_loop(void *ud)
{
	struct call *c = ud;
	bxc_db_submit(c->api->c.db, c->work, c->done, c);
}

/* work(st, c) on the database thread, then done(c) on the loop. */
static void query(struct call *c, bxc_db_work work, bxc_post_fn done)
{
	c->work = work;
	c->done = done;
	bxc_loop_post(c->api->c.loop, query_on_loop, c);
}

/* ---- builds ---- */

static void submitted(const char *id, bxc_err *err_take, void *ud)
{
	struct call *c = ud;
	c->err = err_take;
	c->answer = bxc_json_object();
	bxc_json_set_str(c->answer, "id", id);
	reply(c, 201);
}

static void submit_on_loop(void *ud)
{
	struct call *c = ud;
	bxc_build_submit(c->api->c.build, BXC_TAKE(c->body), submitted, c);
}

static void post_build(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	if (bxc_json_parse(bxc_httpd_req_body(req), &c->body, &c->err) < 0) {
		reply(c, 400);
		return;
	}
	bxc_loop_post(c->api->c.loop, submit_on_loop, c);
}

static void set_document(bxc_json *j, const char *key, const char *text)
{
	bxc_json *v = NULL;
	if (text && bxc_json_parse(bxc_slice_of(text, strlen(text)), &v, NULL) >= 0)
		bxc_json_set_take(j, key, v);
}

static bxc_json *build_json(const bxc_state_build *b)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "id", b->id);
	bxc_json_set_str(j, "status", b->status);
	bxc_json_set_str(j, "name", b->name);
	bxc_json_set_ns(j, "created_ns", b->created_ns);
	if (b->completed_ns)
		bxc_json_set_ns(j, "completed_ns", b->completed_ns);
	set_document(j, "request", b->request);
	set_document(j, "error", b->error);
	set_document(j, "result", b->result);
	return j;
}

static void get_work(bxc_state *st, void *ud)
{
	struct call *c = ud;
	bxc_state_build b = {0};
	if (bxc_state_build_get(st, c->id, &b, &c->err) < 0)
		return;
	c->answer = build_json(&b);
	bxc_state_build_done(&b);
}

static void list_work(bxc_state *st, void *ud)
{
	struct call *c = ud;
	bxc_state_builds list = {0};
	bxc_state_build_filter f = {.limit = 100, .without_request = true};
	if (bxc_state_build_list(st, &f, &list, &c->err) < 0)
		return;
	c->answer = bxc_json_object();
	bxc_json *a = bxc_json_add_array(c->answer, "builds");
	BXC_ARR_FOREACH (b, &list.items)
		bxc_json_push_take(a, build_json(b));
	bxc_state_builds_done(&list);
}

static void answer_ok(void *ud)
{
	reply(ud, 200);
}

/* What is only known of a build that runs. */
static void answer_build(void *ud)
{
	struct call *c = ud;
	bxc_json *waiting = c->err ? NULL : bxc_build_waiting(c->api->c.build, c->id);
	if (waiting)
		bxc_json_set_take(c->answer, "waiting", waiting);
	reply(c, 200);
}

static void get_build(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	query(c, get_work, answer_build);
}

static void list_builds(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	query(c, list_work, answer_ok);
}

static void cancel_checked(void *ud)
{
	struct call *c = ud;
	if (!c->err)
		bxc_build_cancel(c->api->c.build, c->id);
	bxc_json_free(c->answer);
	c->answer = bxc_json_object();
	reply(c, 202);
}

static void cancel_build(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	query(c, get_work, cancel_checked);
}

static void delete_work(bxc_state *st, void *ud)
{
	struct call *c = ud;
	bxc_state_build b = {0};
	if (bxc_state_build_get(st, c->id, &b, &c->err) < 0)
		return;
	if (bxc_str_eq(b.status, "running"))
		bxc_ignore(bxc_err_set(&c->err, BXC_FAILED_PRECONDITION, "build '%s' is running: cancel it first", c->id));
	else
		bxc_ignore(bxc_state_build_delete(st, c->id, &c->err));
	bxc_state_build_done(&b);
	c->answer = bxc_json_object();
}

static void delete_build(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	query(c, delete_work, answer_ok);
}

/* ---- events ---- */

/* What is recorded now, without waiting for more. */
static void page_work(bxc_state *st, void *ud)
{
	struct call *c = ud;
	bxc_state_build b = {0};
	bxc_state_events list = {0};
	if (bxc_state_build_get(st, c->id, &b, &c->err) < 0)
		return;
	bxc_state_build_done(&b);
	if (bxc_state_events_read(st, c->id, c->after + 1, PAGE_MAX, &list, &c->err) < 0)
		return;
	c->answer = bxc_json_object();
	bxc_json *a = bxc_json_add_array(c->answer, "events");
	size_t n = 0, bytes = 0;
	for (; n < list.items.n && bytes < PAGE_BYTES; n++) {
		bxc_json *o = bxc_json_push_object(a);
		bxc_json_set_u64(o, "seq", list.items.v[n].seq);
		set_document(o, "event", list.items.v[n].text);
		bytes += strlen(list.items.v[n].text);
	}
	bxc_json_set_bool(c->answer, "more", n < list.items.n || list.items.n == PAGE_MAX);
	bxc_state_events_done(&list);
}

static void sse_drop(struct sse *s)
{
	bxc_api *a = s->api;
	for (size_t i = 0; i < a->streams.n; i++) {
		if (a->streams.v[i] == s) {
			bxc_arr_remove(&a->streams, i);
			break;
		}
	}
	bxc_httpd_sse_end(s->out);
	free(s);
}

static void on_event(const char *build, uint64_t seq, const char *text, void *ud)
{
	struct sse *s = ud;
	(void)build;
	if (!s->gone && bxc_httpd_sse_send(s->out, seq, "event", text) < 0)
		s->gone = true;
}

static void on_end(const char *build, void *ud)
{
	(void)build;
	sse_drop(ud);
}

static void on_ping(void *ud)
{
	bxc_api *a = ud;
	for (size_t i = 0; i < a->streams.n;) {
		struct sse *s = a->streams.v[i];
		if (!s->gone && bxc_httpd_sse_ping(s->out) < 0)
			s->gone = true;
		if (s->gone) {
			bxc_ev_unsubscribe(s->sub);
			sse_drop(s);
		} else {
			i++;
		}
	}
	bxc_loop_timer_arm(a->ping, PING_NS);
}

static void events_checked(void *ud)
{
	struct call *c = ud;
	if (c->err) {
		reply(c, 404);
		return;
	}
	struct sse *s = bxc_calloc(1, sizeof(*s));
	s->api = c->api;
	s->out = bxc_httpd_reply_sse(c->req);
	*bxc_arr_push(&c->api->streams) = s;
	s->sub = bxc_ev_subscribe(c->api->c.events, c->id, c->after, on_event, on_end, s);
	call_free(c);
}

static void get_events(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	const char *follow = bxc_httpd_req_query(req, "follow");
	bool page = bxc_str_eq(follow, "false");
	const char *last = page ? bxc_httpd_req_query(req, "after") : bxc_httpd_req_header(req, "Last-Event-ID");
	int r = 0;
	if (follow && !page && !bxc_str_eq(follow, "true"))
		r = bxc_err_set(&c->err, BXC_INVALID_ARGUMENT, "follow: '%.64s' is neither true nor false", follow);
	if (r >= 0 && last)
		r = bxc_err_wrap(&c->err, bxc_str_to_u64(last, 0, INT64_MAX - 1, &c->after, &c->err), page ? "after" : "Last-Event-ID");
	if (r < 0)
		reply(c, 400);
	else if (page)
		query(c, page_work, answer_ok);
	else
		query(c, get_work, events_checked);
}

/* ---- why ---- */

static void why_work(bxc_state *st, void *ud)
{
	struct call *c = ud;
	bxc_ignore(bxc_build_why(st, c->id, c->step, c->cursor, &c->answer, &c->err));
}

static void get_why(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	const char *step = bxc_httpd_req_query(req, "step");
	c->cursor = bxc_strdup(bxc_httpd_req_query(req, "after"));
	if (step && bxc_str_to_u64(step, 1, INT64_MAX, &c->step, &c->err) < 0) {
		bxc_ignore(bxc_err_wrap(&c->err, 0, "step"));
		reply(c, 400);
		return;
	}
	query(c, why_work, answer_ok);
}

/* ---- the rest ---- */

static void workers_on_loop(void *ud)
{
	struct call *c = ud;
	c->answer = bxc_wrk_to_json(c->api->c.workers);
	bxc_json_set_strv(c->answer, "drained", bxc_build_drained_workers(c->api->c.build));
	reply(c, 200);
}

static void worker_on_loop(void *ud)
{
	struct call *c = ud;
	const bxc_wrk_worker *w = bxc_wrk_by_name(c->api->c.workers, c->id);
	if (w)
		c->answer = bxc_wrk_one_to_json(c->api->c.workers, w);
	else
		bxc_ignore(bxc_err_set(&c->err, BXC_NOT_FOUND, "no worker '%.256s' is connected", c->id));
	reply(c, 200);
}

static void get_worker(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	bxc_loop_post(c->api->c.loop, worker_on_loop, c);
}

static void drained(bxc_err *err_take, void *ud)
{
	struct call *c = ud;
	c->err = err_take;
	c->answer = bxc_json_object();
	reply(c, 200);
}

static void drain_on_loop(void *ud)
{
	struct call *c = ud;
	bxc_build_worker_drain(c->api->c.build, c->id, true, drained, c);
}

static void undrain_on_loop(void *ud)
{
	struct call *c = ud;
	bxc_build_worker_drain(c->api->c.build, c->id, false, drained, c);
}

static void drain_worker(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	bxc_loop_post(c->api->c.loop, drain_on_loop, c);
}

static void undrain_worker(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	bxc_loop_post(c->api->c.loop, undrain_on_loop, c);
}

static void get_workers(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	bxc_loop_post(c->api->c.loop, workers_on_loop, c);
}

static void get_info(bxc_httpd_req *req, void *ud)
{
	bxc_api *a = ud;
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "version", BXC_VERSION);
	bxc_json_set_str(j, "cluster", a->c.cluster);
	bxc_json_set_strv(j, "channel", a->c.channel_addresses);
	bxc_httpd_reply_json(req, 200, j);
}

static void get_blob(bxc_httpd_req *req, void *ud)
{
	bxc_api *a = ud;
	bxc_httpd_reply_blob(req, a->c.blobs);
}

static void healthz(bxc_httpd_req *req, void *ud)
{
	(void)ud;
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "status", "ok");
	bxc_httpd_reply_json(req, 200, j);
}

/* Ready when the loop answers: it owns everything. */
static void ready_on_loop(void *ud)
{
	struct call *c = ud;
	c->answer = bxc_json_object();
	bxc_json_set_str(c->answer, "status", "ok");
	bxc_json_set_u64(c->answer, "workers", bxc_wrk_count(c->api->c.workers));
	bxc_json_set_u64(c->answer, "builds", bxc_build_n_live(c->api->c.build));
	reply(c, 200);
}

static void readyz(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	bxc_loop_post(c->api->c.loop, ready_on_loop, c);
}

/* ---- space ---- */

static void usage_told(bxc_json *answer_take, bxc_err *err_take, void *ud)
{
	struct call *c = ud;
	c->answer = answer_take;
	c->err = err_take;
	reply(c, 200);
}

static void usage_on_loop(void *ud)
{
	struct call *c = ud;
	bxc_build_usage(c->api->c.build, c->body, usage_told, c);
}

static void get_usage(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	bxc_loop_post(c->api->c.loop, usage_on_loop, c);
}

static void prune(bxc_httpd_req *req, void *ud)
{
	struct call *c = call_new(req, ud);
	if (bxc_json_parse(bxc_httpd_req_body(req), &c->body, &c->err) < 0) {
		reply(c, 400);
		return;
	}
	bxc_loop_post(c->api->c.loop, usage_on_loop, c);
}

static const bxc_httpd_route routes[] = {
	{"POST", "/v1/builds", post_build, BXC_LIMIT_HTTP_BODY, BXC_AUTH_BUILD},
	{"GET", "/v1/builds", list_builds, 0, BXC_AUTH_READ},
	{"GET", "/v1/builds/{id}", get_build, 0, BXC_AUTH_READ},
	{"DELETE", "/v1/builds/{id}", delete_build, 4096, BXC_AUTH_BUILD},
	{"GET", "/v1/builds/{id}/events", get_events, 0, BXC_AUTH_READ},
	{"GET", "/v1/builds/{id}/why", get_why, 0, BXC_AUTH_READ},
	{"POST", "/v1/builds/{id}/cancel", cancel_build, 4096, BXC_AUTH_BUILD},
	{"GET", "/v1/workers", get_workers, 0, BXC_AUTH_READ},
	{"GET", "/v1/workers/{id}", get_worker, 0, BXC_AUTH_READ},
	{"POST", "/v1/workers/{id}/drain", drain_worker, 4096, BXC_AUTH_BUILD},
	{"POST", "/v1/workers/{id}/undrain", undrain_worker, 4096, BXC_AUTH_BUILD},
	{"GET", "/v1/usage", get_usage, 0, BXC_AUTH_READ},
	{"POST", "/v1/prune", prune, BXC_LIMIT_HTTP_BODY, BXC_AUTH_BUILD},
	{"GET", "/v1/info", get_info, 0, BXC_AUTH_READ | BXC_AUTH_WORKER},
	{"GET", "/v1/blobs/{digest}", get_blob, 0, BXC_AUTH_READ | BXC_AUTH_WORKER},
	{"GET", "/healthz", healthz, 0, 0},
	{"GET", "/readyz", readyz, 0, 0},
};

int bxc_api_start(const bxc_api_config *c, bxc_api **ret, bxc_err **err)
{
	bxc_api *a = bxc_calloc(1, sizeof(*a));
	a->c = *c;
	a->ping = bxc_loop_timer_new(c->loop, on_ping, a);
	bxc_loop_timer_arm(a->ping, PING_NS);
	bxc_httpd_config hc = {
		.unix_path = c->unix_path,
		.host = c->host,
		.port = c->port,
		.tls_cert_file = c->tls_cert_file,
		.tls_key_file = c->tls_key_file,
		.routes = routes,
		.n_routes = BXC_ARRAY_SIZE(routes),
		.authorize = authorize,
		.ud = a,
	};
	int r = bxc_httpd_start(&hc, &a->httpd, err);
	if (r < 0) {
		bxc_api_stop(a);
		return r;
	}
	*ret = a;
	return 0;
}

uint16_t bxc_api_port(const bxc_api *a)
{
	return bxc_httpd_port(a->httpd);
}

void bxc_api_stop(bxc_api *a)
{
	if (!a)
		return;
	bxc_httpd_stop(a->httpd);
	/* Each call waits for the loop or the database: both still work and answer it, into the void. */
	int r = 0;
	while (r >= 0 && atomic_load(&a->n_calls))
		r = bxc_loop_step(a->c.loop, -1, NULL);
	while (a->streams.n) {
		struct sse *s = a->streams.v[0];
		bxc_ev_unsubscribe(s->sub);
		sse_drop(s);
	}
	bxc_arr_done(&a->streams);
	bxc_loop_timer_free(a->ping);
	free(a);
}
