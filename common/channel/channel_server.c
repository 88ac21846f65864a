/* SPDX-License-Identifier: Apache-2.0 */
/* The listening side: who comes in, as whom, and to which session a connection belongs. */
#include "common/channel/channel_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/base/utf8.h"

#define GRACE_NS     (60 * BXC_NS_PER_S)
#define TICK_NS      (500 * BXC_NS_PER_MS)
#define TICKS_A_GRACE 10             /* at least */
#define BULK_NS      (30 * BXC_NS_PER_S)     /* for a dialler to make the bulk connection, or say that it can't */
#define MAX_SESSIONS 4096u

struct bxc_chan_server {
	_Atomic uint32_t refs;
	engine *e;
	bxc_loop *user_loop;
	bxc_chan_server_callbacks cb;    /* user's loop */
	void *ud;
	bool user_stopped;               /* user's loop */
	int64_t grace_ns, heartbeat_ns;
	BXC_ARR(listener *) listeners;
	BXC_ARR(uint16_t) ports;
	/* engine's thread */
	BXC_ARR(bxc_chan *) chans;
	BXC_ARR(struct visitor *) visitors;
	bxc_loop_timer *tick;
	pthread_mutex_t lock;            /* protects gone; leaf */
	pthread_cond_t changed;
	bool gone;
};

/* A connection that has not been let in. */
struct visitor {
	bxc_chan_server *s;
	conn *c;                         /* NULL: it left while the user was asked */
	bool asked;
	char *role, *name, *peer, *cert_name, *token;
	/* answer */
	bxc_chan *chan;
	bxc_err *err;
};

static void server_unref(bxc_chan_server *s)
{
	if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
		return;
	bxc_arr_done(&s->listeners);
	bxc_arr_done(&s->ports);
	bxc_arr_done(&s->chans);
	bxc_arr_done(&s->visitors);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	free(s);
}

static void visitor_free(struct visitor *v)
{
	bxc_chan_server *s = v->s;
	for (size_t i = 0; i < s->visitors.n; i++) {
		if (s->visitors.v[i] == v) {
			bxc_arr_remove(&s->visitors, i);
			break;
		}
	}
	if (v->token)
		explicit_bzero(v->token, strlen(v->token));
	free(v->role);
	free(v->name);
	free(v->peer);
	free(v->cert_name);
	free(v->token);
	bxc_err_free(v->err);
	free(v);
	server_unref(s);
}

static void bye(conn *k, const bxc_err *err)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	BXC_AUTOFREE char *part = bxc_utf8_cut(bxc_strdup(bxc_err_text(err)), BYE_TEXT_MAX);
	bxc_json_set_str(j, "code", bxc_code_name(bxc_err_code(err)));
	bxc_json_set_str(j, "text", part);
	BXC_AUTOFREE char *text = bxc_json_print(j);
	frame_put(&k->out, FRAME_BYE, 0, 0, 0, bxc_slice_of(text, strlen(text)));
	conn_close(k, true);
}

static void send_welcome(bxc_chan_server *s, bxc_chan *c, conn *k, bool resumed)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "session", c->id);
	bxc_json_set_str(j, "secret", c->secret);
	bxc_json_set_bool(j, "resumed", resumed);
	bxc_json_set_u64(j, "last_seq", c->in_seq);
	bxc_json_set_ns(j, "heartbeat_ns", s->heartbeat_ns);
	k->heartbeat_ns = s->heartbeat_ns;
	engine_tick_soon(s->e, s->heartbeat_ns);
	BXC_AUTOFREE char *text = bxc_json_print(j);
	frame_put(&k->out, FRAME_WELCOME, 0, 0, 0, bxc_slice_of(text, strlen(text)));
}

/* ---- asking the user ---- */

static void answered(void *ud)
{
	struct visitor *v = ud;
	bxc_chan_server *s = v->s;
	bxc_chan *c = v->chan;
	if (c && c->finished)
		/* Its user has closed it at once. */
		bxc_ignore(bxc_err_set(&v->err, BXC_UNAVAILABLE, "the session was closed"));
	if (c && !c->finished) {
		c->server = s;
		*bxc_arr_push(&s->chans) = c;
		chan_ref(c);
		if (v->c) {
			send_welcome(s, c, v->c, false);
			chan_tell_state(c, BXC_CHAN_UP, NULL);
			chan_attach(c, v->c, false, 0);
		} else {
			c->down_since_ns = bxc_clock_mono_ns();
		}
	} else if (v->c) {
		bye(v->c, v->err);
	}
	if (c)
		chan_unref(c);
	visitor_free(v);
}

static void ask(void *ud)
{
	struct visitor *v = ud;
	bxc_chan_server *s = v->s;
	if (s->user_stopped) {
		/* The engine is through with the server, and may be gone. */
		visitor_free(v);
		return;
	}
	const char *token = v->token ? v->token : "";
	const bxc_chan_hello h = {v->role, v->name, v->peer, bxc_slice_of(token, strlen(token)), v->cert_name};
	int r = s->cb.authorize(&h, s->ud, &v->err);
	if (r >= 0) {
		bxc_chan *c = chan_new(s->e, s->user_loop, true);
		BXC_AUTOFREE char *id = bxc_rand_hex(16);
		BXC_AUTOFREE char *secret = bxc_rand_hex(32);
		memcpy(c->id, id, sizeof(c->id));
		memcpy(c->secret, secret, sizeof(c->secret));
		c->peer = bxc_strdup(v->peer);
		chan_ref(c);
		v->chan = c;
		s->cb.on_session(c, &h, s->ud);
	}
	bxc_loop_post(s->e->loop, answered, v);
}

/* ---- the first frame ---- */

static bool same_secret(const char *a, const char *b)
{
	unsigned char diff = 0;
	if (strlen(a) != strlen(b) || !*a)
		return false;
	for (size_t i = 0; a[i]; i++)
		diff |= (unsigned char)(a[i] ^ b[i]);
	return diff == 0;
}

static bxc_chan *find_session(bxc_chan_server *s, const char *id, const char *secret)
{
	BXC_ARR_FOREACH (p, &s->chans)
		if (bxc_str_eq((*p)->id, id) && same_secret((*p)->secret, secret) && !(*p)->finished)
			return *p;
	return NULL;
}

static void hello(struct visitor *v, const frame *f)
{
	bxc_chan_server *s = v->s;
	conn *k = v->c;
	BXC_AUTOJSON bxc_json *j = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	int r = f->type == FRAME_HELLO ? bxc_json_parse(f->payload, &j, &err) : bxc_err_set(&err, BXC_INVALID_ARGUMENT, "the first frame is a hello");
	const char *role = bxc_json_get_str(j, "role", ""), *name = bxc_json_get_str(j, "name", "");
	if (r >= 0 && bxc_json_get_i64(j, "version", 0) != 1)
		r = bxc_err_set(&err, BXC_FAILED_PRECONDITION, "protocol version %lld is not spoken here (1 is)", (long long)bxc_json_get_i64(j, "version", 0));
	if (r >= 0 && (strlen(role) > 32 || strlen(name) > 256))
		r = bxc_err_set(&err, BXC_INVALID_ARGUMENT, "role or name is too long");
	const char *kind = bxc_json_get_str(j, "kind", "");
	bool bulk = bxc_str_eq(kind, "bulk");
	if (r >= 0 && !bulk && !bxc_str_eq(kind, "control"))
		r = bxc_err_set(&err, BXC_INVALID_ARGUMENT, "kind: '%.32s' is neither control nor bulk", kind);
	bxc_chan *c = r >= 0 ? find_session(s, bxc_json_get_str(j, "session", ""), bxc_json_get_str(j, "secret", "")) : NULL;
	if (r >= 0 && bulk && !c)
		r = bxc_err_set(&err, BXC_NOT_FOUND, "no such session");
	uint64_t last = bxc_json_get_u64(j, "last_seq", 0);
	if (r >= 0 && c && !bulk)
		r = chan_check_resume(c, last, &err);
	if (r >= 0 && !c && s->chans.n >= MAX_SESSIONS)
		r = bxc_err_set(&err, BXC_RESOURCE_EXHAUSTED, "%u peers are connected already", MAX_SESSIONS);
	if (r < 0) {
		v->c = NULL;
		bye(k, err);
		visitor_free(v);
		return;
	}
	if (c) {
		v->c = NULL;
		send_welcome(s, c, k, true);
		if (!bulk)
			chan_tell_state(c, BXC_CHAN_UP, NULL);
		chan_attach(c, k, bulk, last);
		visitor_free(v);
		return;
	}
	v->asked = true;
	v->role = bxc_strdup(role);
	v->name = bxc_strdup(name);
	v->token = bxc_strdup(bxc_json_get_str(j, "token", NULL));
	v->peer = bxc_strdup(k->peer);
	v->cert_name = bxc_strdup(k->cert_name);
	bxc_loop_post(s->user_loop, ask, v);
}

static void on_frame(conn *k, const frame *f, void *ud)
{
	struct visitor *v = ud;
	(void)k;
	if (v->asked) {
		/* Patience is part of the protocol. */
		bxc_err *err = NULL;
		bxc_ignore(bxc_err_set(&err, BXC_INVALID_ARGUMENT, "a frame before the welcome"));
		conn_failed(k, err);
		return;
	}
	hello(v, f);
}

static void on_closed(conn *k, bxc_err *why_take, void *ud)
{
	struct visitor *v = ud;
	(void)k;
	bxc_err_free(why_take);
	v->c = NULL;
	if (!v->asked)
		visitor_free(v);
}

static void on_accept(conn *c, void *ud)
{
	bxc_chan_server *s = ud;
	static const conn_callbacks cb = {.on_frame = on_frame, .on_closed = on_closed};
	struct visitor *v = bxc_calloc(1, sizeof(*v));
	v->s = s;
	v->c = c;
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	*bxc_arr_push(&s->visitors) = v;
	conn_set(c, &cb, v);
}

/* ---- life ---- */

void server_forget(bxc_chan_server *s, bxc_chan *c)
{
	for (size_t i = 0; i < s->chans.n; i++) {
		if (s->chans.v[i] == c) {
			bxc_arr_remove(&s->chans, i);
			chan_unref(c);
			return;
		}
	}
}

static int64_t tick_ns(const bxc_chan_server *s)
{
	return BXC_MIN(s->grace_ns / TICKS_A_GRACE, (int64_t)TICK_NS);
}

static void on_tick(void *ud)
{
	bxc_chan_server *s = ud;
	int64_t now = bxc_clock_mono_ns();
	for (size_t i = s->chans.n; i-- > 0;) {
		bxc_chan *c = s->chans.v[i];
		if (c->bulk_wanted && now - c->bulk_since_ns > BULK_NS)
			chan_no_bulk(c, "the peer has not made it");
		if (!c->ctl && now - c->down_since_ns > s->grace_ns) {
			BXC_AUTOERR bxc_err *err = NULL;
			bxc_ignore(bxc_err_set(&err, BXC_UNAVAILABLE, "the peer did not come back"));
			chan_finish(c, err);
		}
	}
	bxc_loop_timer_arm(s->tick, tick_ns(s));
}

static void begin(void *ud)
{
	bxc_chan_server *s = ud;
	s->tick = bxc_loop_timer_new(s->e->loop, on_tick, s);
	bxc_loop_timer_arm(s->tick, tick_ns(s));
}

static void end(void *ud)
{
	bxc_chan_server *s = ud;
	bxc_loop_timer_free(s->tick);
	BXC_ARR_FOREACH (l, &s->listeners)
		listener_free(*l);
	for (size_t i = s->visitors.n; i-- > 0;) {
		struct visitor *v = s->visitors.v[i];
		conn *k = v->c;
		v->c = NULL;
		if (k)
			conn_close(k, false);
		if (!v->asked)
			visitor_free(v);
	}
	while (s->chans.n) {
		bxc_chan *c = s->chans.v[s->chans.n - 1];
		if (c->ctl) {
			frame_put(&c->ctl->out, FRAME_GOODBYE, 0, 0, 0, bxc_slice_of(NULL, 0));
			conn_flush(c->ctl);
		}
		chan_finish(c, NULL);
	}
	pthread_mutex_lock(&s->lock);
	s->gone = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

int bxc_chan_server_new(bxc_loop *loop, const bxc_chan_server_config *cfg, const bxc_chan_server_callbacks *cb, void *ud,
	bxc_chan_server **ret, bxc_err **err)
{
	engine *e;
	if (cfg->heartbeat_ns && (cfg->heartbeat_ns < HEARTBEAT_MIN_NS || cfg->heartbeat_ns > HEARTBEAT_MAX_NS))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the heartbeat of channels is between 50 ms and 10 min");
	int r = engine_get(&e, err);
	if (r < 0)
		return r;
	bxc_chan_server *s = bxc_calloc(1, sizeof(*s));
	s->refs = 1;
	s->e = e;
	s->user_loop = loop;
	s->cb = *cb;
	s->ud = ud;
	s->grace_ns = cfg->grace_ns ? cfg->grace_ns : GRACE_NS;
	s->heartbeat_ns = cfg->heartbeat_ns ? cfg->heartbeat_ns : HEARTBEAT_NS;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	bxc_loop_post(e->loop, begin, s);
	for (size_t i = 0; r >= 0 && i < cfg->n_addresses; i++) {
		listener *l = NULL;
		r = listener_new(e, cfg->addresses[i], cfg->tls, on_accept, s, &l, err);
		if (r < 0)
			break;
		*bxc_arr_push(&s->listeners) = l;
		*bxc_arr_push(&s->ports) = listener_port(l);
	}
	if (r < 0) {
		bxc_chan_server_stop(s);
		return bxc_err_wrap(err, r, "listen for channels");
	}
	*ret = s;
	return 0;
}

uint16_t bxc_chan_server_port(const bxc_chan_server *s, size_t address)
{
	return address < s->ports.n ? s->ports.v[address] : 0;
}

void bxc_chan_server_stop(bxc_chan_server *s)
{
	if (!s)
		return;
	engine *e = s->e;
	s->user_stopped = true;
	bxc_loop_post(e->loop, end, s);
	pthread_mutex_lock(&s->lock);
	while (!s->gone)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
	server_unref(s);
	engine_put(e);
}
