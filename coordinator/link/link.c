/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/link/link.h"

#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

struct follow {
	struct peer *peer;
	char *build;
	bxc_ev_sub *sub;
};

/* One session, of a client or a worker. */
struct peer {
	bxc_clink *link;
	bxc_chan *chan;
	bool is_worker;
	char *name;
	char *session;               /* of an earlier run of the coordinator, which it continues; NULL: only its own */
	BXC_ARR(struct follow *) follows;
};

struct bxc_clink {
	bxc_clink_config c;
	bxc_chan_server *server;
	BXC_ARR(struct peer *) peers;
	bool will_be_back;           /* peers are to wait for the next start */
	char *own_uid_peer;          /* "ipc:uid=<ours>" */
};

static void send_text(struct peer *p, const char *text)
{
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_chan_send(p->chan, bxc_slice_of(text, strlen(text)), &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "channel.send_failed", err, "peer", p->name, NULL);
}

static void send_json(struct peer *p, bxc_json *j)
{
	BXC_AUTOFREE char *text = bxc_json_print(j);
	bxc_json_free(j);
	send_text(p, text);
}

/* ---- clients: events ---- */

static void follow_drop(struct follow *f)
{
	struct peer *p = f->peer;
	for (size_t i = 0; i < p->follows.n; i++) {
		if (p->follows.v[i] == f) {
			bxc_arr_remove(&p->follows, i);
			break;
		}
	}
	free(f->build);
	free(f);
}

/* The event is text already: the message is put together around it. */
static void on_event(const char *build, uint64_t seq, const char *text, void *ud)
{
	struct follow *f = ud;
	BXC_AUTOFREE char *msg = bxc_str_fmt("{\"type\":\"event\",\"build\":\"%s\",\"seq\":%llu,\"event\":%s}", build,
		(unsigned long long)seq, text);
	send_text(f->peer, msg);
}

static void on_events_end(const char *build, void *ud)
{
	struct follow *f = ud;
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "event.end");
	bxc_json_set_str(j, "build", build);
	send_json(f->peer, j);
	follow_drop(f);
}

static void attach(struct peer *p, const char *build, uint64_t after)
{
	struct follow *f = bxc_calloc(1, sizeof(*f));
	f->peer = p;
	f->build = bxc_strdup(build);
	*bxc_arr_push(&p->follows) = f;
	f->sub = bxc_ev_subscribe(p->link->c.events, build, after, on_event, on_events_end, f);
}

/* A client whose session began with an earlier run of the coordinator serves its build again. */
static void come_back(struct peer *p, const char *build, const char *session)
{
	if (!session)
		return;
	if (!p->session && bxc_sess_return(p->link->c.sessions, session, p->chan))
		p->session = bxc_strdup(session);
	if (bxc_str_eq(p->session, session))
		bxc_build_session_back(p->link->c.build, build, session);
}

static bool is_build_id(const char *s)
{
	return *s && strlen(s) <= 64 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(s);
}

static int client_message(struct peer *p, const char *type, const bxc_json *msg, bxc_err **err)
{
	const char *build;
	int r = bxc_json_need_str(msg, "build", &build, err);
	if (r < 0)
		return r;
	if (!is_build_id(build))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "build: not an id");
	if (bxc_str_eq(type, "attach")) {
		if (p->follows.n >= 256)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than 256 builds are followed");
		attach(p, build, bxc_json_get_u64(msg, "after", 0));
		come_back(p, build, bxc_json_get_str(msg, "session", NULL));
		return 0;
	}
	if (bxc_str_eq(type, "cancel")) {
		bxc_build_cancel(p->link->c.build, build);
		return 0;
	}
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown message type '%.64s'", type);
}

/* ---- workers ---- */

static void welcome(struct peer *p)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "type", "welcome");
	bxc_json_set_str(j, "name", p->name);
	bxc_json_set_str(j, "peer_token", p->link->c.peer_token);
	bxc_json *hosts = bxc_json_add_array(j, "registries");
	for (size_t i = 0; i < p->link->c.n_hosts; i++) {
		const bxc_reg_host *h = &p->link->c.hosts[i];
		bxc_json *o = bxc_json_push_object(hosts);
		bxc_json_set_str(o, "domain", h->domain);
		bxc_json_set_strv(o, "mirrors", h->mirrors);
		bxc_json_set_bool(o, "plain_http", h->plain_http);
		bxc_json_set_bool(o, "insecure", h->insecure);
	}
	send_json(p, j);
}

static void worker_left(struct peer *p, const char *why)
{
	bxc_wrk_worker *w = bxc_wrk_by_chan(p->link->c.workers, p->chan);
	if (!w)
		return;
	uint64_t id = w->id;
	bxc_log(BXC_LOG_NOTICE, "worker.left", "worker", w->name, "reason", why, NULL);
	bxc_build_worker_left(p->link->c.build, w);
	bxc_wrk_remove(p->link->c.workers, id);
}

static int worker_message(struct peer *p, const char *type, const bxc_json *msg, bxc_err **err)
{
	bxc_wrk_worker *w = bxc_wrk_by_chan(p->link->c.workers, p->chan);
	if (bxc_str_eq(type, "hello")) {
		/* A second hello (the session was forgotten on one side) starts afresh. */
		worker_left(p, "introduced itself anew");
		bxc_wrk_worker *same = bxc_wrk_by_name(p->link->c.workers, p->name);
		if (same && same->is_up)
			return bxc_err_set(err, BXC_ALREADY_EXISTS, "a worker with the name '%s' is connected: give each worker its own name", p->name);
		if (same) {
			uint64_t id = same->id;
			bxc_build_worker_left(p->link->c.build, same);
			bxc_wrk_remove(p->link->c.workers, id);
		}
		int r = bxc_wrk_add(p->link->c.workers, msg, p->name, bxc_chan_peer(p->chan), p->chan, &w, err);
		if (r < 0)
			return r;
		welcome(p);
		bxc_log(BXC_LOG_NOTICE, "worker.joined", "worker", p->name, "address", bxc_chan_peer(p->chan), NULL);
		bxc_build_worker_joined(p->link->c.build, w, msg);
		return 0;
	}
	/* Sent to the coordinator that was here before, of a task that hello tells of. */
	if (!w && bxc_str_has_prefix(type, "task."))
		return 0;
	if (!w)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "the first message of a worker is its hello");
	return bxc_build_worker_message(p->link->c.build, w, type, msg, err);
}

/* A worker asks for something of the client of a build: the coordinator joins the two streams. */
static void worker_stream(struct peer *p, bxc_chan_stream *s, const char *kind, const char *name)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *j = NULL;
	BXC_CLEANUP(bxc_sess_ref_unrefp) bxc_sess_ref *session = NULL;
	bxc_chan_stream *out = NULL;
	const char *build;
	int r = 0;
	static const struct {
		const char *kind;
		bool bulk;
	} kinds[] = {
		{"cache.blob", true}, {"cache.lacks", true}, {"cache.put", true}, {"export", true}, {"layout", true},
		{"secret", false}, {"ssh", false}, {"token", false}, {"upload", true},
	};
	size_t i = 0;
	while (i < BXC_ARRAY_SIZE(kinds) && !bxc_str_eq(kind, kinds[i].kind))
		i++;
	if (i == BXC_ARRAY_SIZE(kinds))
		r = bxc_err_set(&err, BXC_UNIMPLEMENTED, "unknown stream kind '%.64s'", kind);
	if (r >= 0)
		r = bxc_json_parse(bxc_slice_of(name, strlen(name)), &j, &err);
	if (r >= 0)
		r = bxc_json_need_str(j, "build", &build, &err);
	if (r >= 0) {
		/* A layer that a cache promised may be of the client of another build. */
		const char *named = bxc_str_eq(kind, "cache.blob") ? bxc_json_get_str(j, "session", NULL) : NULL;
		session = named ? bxc_sess_find(p->link->c.sessions, named)
				: bxc_build_session(p->link->c.build, build, bxc_json_get_str(j, "task", NULL));
		if (!session)
			r = bxc_err_set(&err, BXC_NOT_FOUND, "the build has no client any more");
	}
	BXC_AUTOFREE char *build_id = r >= 0 ? bxc_strdup(build) : NULL;
	if (r >= 0) {
		bxc_json_del(j, "build");
		bxc_json_del(j, "task");
		bxc_json_del(j, "session");
		BXC_AUTOFREE char *inner = bxc_json_print(j);
		r = bxc_sess_open(session, kind, inner, kinds[i].bulk, &out, &err);
	}
	if (r >= 0 && bxc_str_eq(kind, "export"))
		bxc_build_export_sent(p->link->c.build, build_id, bxc_json_get_u64(j, "index", 0));
	if (r < 0) {
		bxc_chan_stream_reset(s, bxc_err_code(err), bxc_err_text(err));
		bxc_chan_stream_free(s);
		return;
	}
	bxc_chan_relay(s, out);
}

/* ---- sessions ---- */

static void peer_free(struct peer *p)
{
	while (p->follows.n) {
		struct follow *f = p->follows.v[p->follows.n - 1];
		bxc_ev_unsubscribe(f->sub);
		follow_drop(f);
	}
	bxc_arr_done(&p->follows);
	free(p->name);
	free(p->session);
	free(p);
}

static void peer_gone(struct peer *p, const char *why)
{
	bxc_clink *l = p->link;
	if (p->is_worker) {
		worker_left(p, why);
	} else {
		BXC_AUTOFREE char *session = bxc_strdup(bxc_chan_session_id(p->chan));
		bxc_sess_remove(l->c.sessions, session);
		bxc_build_session_left(l->c.build, session);
		if (p->session) {
			bxc_sess_remove(l->c.sessions, p->session);
			bxc_build_session_left(l->c.build, p->session);
		}
	}
	for (size_t i = 0; i < l->peers.n; i++) {
		if (l->peers.v[i] == p) {
			bxc_arr_remove(&l->peers, i);
			break;
		}
	}
	bxc_chan *chan = p->chan;
	peer_free(p);
	if (l->will_be_back)
		bxc_chan_drop(chan);
	else
		bxc_chan_close(chan);
}

static void on_message(bxc_chan *c, bxc_slice text, void *ud)
{
	struct peer *p = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *j = NULL;
	const char *type;
	(void)c;
	int r = bxc_json_parse(text, &j, &err);
	if (r >= 0)
		r = bxc_json_need_str(j, "type", &type, &err);
	if (r >= 0)
		r = p->is_worker ? worker_message(p, type, j, &err) : client_message(p, type, j, &err);
	if (r < 0) {
		/* A peer that breaks the protocol is shown the door. */
		bxc_log_err(BXC_LOG_WARN, "channel.bad_message", err, "peer", p->name, NULL);
		bxc_json *bye = bxc_json_object();
		bxc_json_set_str(bye, "type", "error");
		bxc_json_set_str(bye, "code", bxc_code_name(bxc_err_code(err)));
		bxc_json_set_str(bye, "message", bxc_err_text(err));
		send_json(p, bye);
		peer_gone(p, "broke the protocol");
	}
}

static void on_stream(bxc_chan *c, bxc_chan_stream *s, const char *kind, const char *name, void *ud)
{
	struct peer *p = ud;
	(void)c;
	if (p->is_worker) {
		worker_stream(p, s, kind, name);
		return;
	}
	bxc_chan_stream_reset(s, BXC_UNIMPLEMENTED, "clients open no streams");
	bxc_chan_stream_free(s);
}

static void on_state(bxc_chan *c, bxc_chan_state st, const bxc_err *why, void *ud)
{
	struct peer *p = ud;
	bxc_wrk_worker *w = p->is_worker ? bxc_wrk_by_chan(p->link->c.workers, c) : NULL;
	if (w)
		w->is_up = st == BXC_CHAN_UP;
	if (st == BXC_CHAN_CLOSED)
		peer_gone(p, bxc_err_text(why));
}

static int authorize(const bxc_chan_hello *h, void *ud, bxc_err **err)
{
	bxc_clink *l = ud;
	unsigned scope;
	if (bxc_str_eq(h->role, "worker"))
		scope = BXC_AUTH_WORKER;
	else if (bxc_str_eq(h->role, "client"))
		scope = BXC_AUTH_BUILD;
	else
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown role '%.32s'", h->role);
	/* Whoever may open our socket as our own user may do what we may. */
	if (h->token.n == 0 && bxc_str_eq(h->peer, l->own_uid_peer))
		return 0;
	return bxc_auth_check(l->c.auth, h->token, scope, err);
}

static void on_session(bxc_chan *c, const bxc_chan_hello *h, void *ud)
{
	bxc_clink *l = ud;
	static const bxc_chan_callbacks cb = {.on_message = on_message, .on_stream = on_stream, .on_state = on_state};
	struct peer *p = bxc_calloc(1, sizeof(*p));
	p->link = l;
	p->chan = c;
	p->is_worker = bxc_str_eq(h->role, "worker");
	p->name = bxc_strdup(h->name);
	*bxc_arr_push(&l->peers) = p;
	bxc_chan_set_callbacks(c, &cb, p);
	if (!p->is_worker)
		bxc_sess_add(l->c.sessions, c);
}

int bxc_clink_start(const bxc_clink_config *c, bxc_clink **ret, bxc_err **err)
{
	bxc_clink *l = bxc_calloc(1, sizeof(*l));
	l->c = *c;
	l->own_uid_peer = bxc_str_fmt("ipc:uid=%u", (unsigned)getuid());
	const bxc_chan_server_config sc = {
		.addresses = c->addresses,
		.n_addresses = c->n_addresses,
		.tls = c->tls,
		.grace_ns = c->grace_ns,
		.heartbeat_ns = c->heartbeat_ns,
	};
	static const bxc_chan_server_callbacks cb = {.authorize = authorize, .on_session = on_session};
	int r = bxc_chan_server_new(c->loop, &sc, &cb, l, &l->server, err);
	if (r < 0) {
		free(l->own_uid_peer);
		free(l);
		return r;
	}
	*ret = l;
	return 0;
}

uint16_t bxc_clink_port(const bxc_clink *l, size_t address)
{
	return bxc_chan_server_port(l->server, address);
}

void bxc_clink_shutdown_workers(bxc_clink *l)
{
	BXC_ARR_FOREACH (p, &l->peers) {
		if (!(*p)->is_worker)
			continue;
		bxc_json *j = bxc_json_object();
		bxc_json_set_str(j, "type", "shutdown");
		send_json(*p, j);
	}
}

void bxc_clink_stop(bxc_clink *l, bool will_be_back)
{
	if (!l)
		return;
	l->will_be_back = will_be_back;
	while (l->peers.n)
		peer_gone(l->peers.v[l->peers.n - 1], "the coordinator stops");
	bxc_arr_done(&l->peers);
	bxc_chan_server_stop(l->server);
	free(l->own_uid_peer);
	free(l);
}
