/* SPDX-License-Identifier: Apache-2.0 */
/* The dialling side: the first connection, the bulk connection, and connecting again after a cut. */
#include "common/channel/channel_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"

#define FIRST_NS   (10 * BXC_NS_PER_S)
#define TOKEN_MAX  2048u             /* bytes, so that a hello stays below HELLO_MAX */
#define NAME_MAX_BYTES 256u
#define BACKOFF_NS (100 * BXC_NS_PER_MS)
#define BACKOFF_MAX_NS (5 * BXC_NS_PER_S)

struct dialer {
	bxc_chan *chan;
	char *address, *role, *name;
	bxc_secret *token;
	bxc_tls_config *tls;
	conn *trying, *trying_bulk;  /* not yet welcome */
	bool was_up, stopped;
	int64_t give_up_ns;          /* for the first connection; INT64_MAX: never */
	int64_t backoff_ns;
	bxc_loop_timer *timer;
};

static void try_again(struct dialer *d, bxc_err *why_take);

static void say_hello(struct dialer *d, conn *k, bool bulk)
{
	bxc_chan *c = d->chan;
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_i64(j, "version", 1);
	bxc_json_set_str(j, "role", d->role);
	bxc_json_set_str(j, "name", d->name);
	bxc_json_set_str(j, "kind", bulk ? "bulk" : "control");
	bxc_json_set_str(j, "session", c->id);
	bxc_json_set_str(j, "secret", c->secret);
	bxc_json_set_u64(j, "last_seq", c->in_seq);
	if (d->token && !bulk) {
		bxc_slice t = bxc_secret_bytes(d->token);
		BXC_AUTOFREE char *text = bxc_strndup((const char *)t.p, t.n);
		bxc_json_set_str(j, "token", text);
		explicit_bzero(text, strlen(text));
	}
	char *text = bxc_json_print(j);
	frame_put(&k->out, FRAME_HELLO, 0, 0, 0, bxc_slice_of(text, strlen(text)));
	explicit_bzero(text, strlen(text));
	free(text);
}

static void on_open(conn *k, void *ud)
{
	struct dialer *d = ud;
	say_hello(d, k, k == d->trying_bulk);
}

static void refuse(struct dialer *d, conn *k, bxc_err *err_take)
{
	bxc_chan *c = d->chan;
	bool transient = bxc_code_is_transient(bxc_err_code(err_take));
	if (k == d->trying_bulk) {
		d->trying_bulk = NULL;
		conn_close(k, false);
		chan_no_bulk(c, bxc_err_text(err_take));
		bxc_err_free(err_take);
		return;
	}
	d->trying = NULL;
	conn_close(k, false);
	if (transient) {
		try_again(d, err_take);
		return;
	}
	chan_finish(c, err_take);
	bxc_err_free(err_take);
}

static void welcome(struct dialer *d, conn *k, const frame *f)
{
	bxc_chan *c = d->chan;
	BXC_AUTOJSON bxc_json *j = NULL;
	bxc_err *err = NULL;
	int r = bxc_json_parse(f->payload, &j, &err);
	const char *id = bxc_json_get_str(j, "session", ""), *secret = bxc_json_get_str(j, "secret", "");
	bool resumed = bxc_json_get_bool(j, "resumed", false);
	uint64_t last_seq = bxc_json_get_u64(j, "last_seq", 0);
	if (r >= 0 && k == d->trying && (strlen(id) != sizeof(c->id) - 1 || strlen(secret) != sizeof(c->secret) - 1))
		r = bxc_err_set(&err, BXC_INVALID_ARGUMENT, "malformed welcome of the coordinator");
	if (r >= 0 && k == d->trying && resumed)
		r = chan_check_resume(c, last_seq, &err);
	if (r < 0) {
		refuse(d, k, err);
		return;
	}
	int64_t beat = bxc_json_get_i64(j, "heartbeat_ns", HEARTBEAT_NS);
	k->heartbeat_ns = BXC_MIN(BXC_MAX(beat, (int64_t)HEARTBEAT_MIN_NS), (int64_t)HEARTBEAT_MAX_NS);
	engine_tick_soon(c->e, k->heartbeat_ns);
	if (k == d->trying_bulk) {
		d->trying_bulk = NULL;
		chan_attach(c, k, true, 0);
		return;
	}
	d->trying = NULL;
	d->backoff_ns = 0;
	bool first = !d->was_up;
	if (!resumed && !first)
		chan_reset_session(c);
	memcpy(c->id, id, sizeof(c->id));
	memcpy(c->secret, secret, sizeof(c->secret));
	d->was_up = true;
	/* The state is told before anything that comes in after it. */
	chan_tell_state(c, first || resumed ? BXC_CHAN_UP : BXC_CHAN_RESET, NULL);
	chan_attach(c, k, false, resumed ? last_seq : 0);
}

static void on_frame(conn *k, const frame *f, void *ud)
{
	struct dialer *d = ud;
	bxc_err *err = NULL;
	if (f->type == FRAME_WELCOME) {
		welcome(d, k, f);
	} else if (f->type == FRAME_BYE) {
		chan_bye_error(f, &err);
		refuse(d, k, err);
	} else {
		bxc_ignore(bxc_err_set(&err, BXC_INVALID_ARGUMENT, "the peer does not speak our protocol"));
		refuse(d, k, err);
	}
}

static void on_closed(conn *k, bxc_err *why_take, void *ud)
{
	struct dialer *d = ud;
	if (k == d->trying || k == d->trying_bulk)
		refuse(d, k, why_take);
	else
		bxc_err_free(why_take);
}

static const conn_callbacks dial_callbacks = {.on_open = on_open, .on_frame = on_frame, .on_closed = on_closed};

static void dial(void *ud)
{
	struct dialer *d = ud;
	bxc_err *err = NULL;
	if (d->stopped || d->trying || d->chan->ctl)
		return;
	if (conn_dial(d->chan->e, d->address, d->tls, &dial_callbacks, d, &d->trying, &err) < 0) {
		chan_finish(d->chan, err);
		bxc_err_free(err);
	}
}

static void try_again(struct dialer *d, bxc_err *why_take)
{
	int64_t now = bxc_clock_mono_ns();
	if (!d->was_up && now >= d->give_up_ns) {
		chan_finish(d->chan, why_take);
		bxc_err_free(why_take);
		return;
	}
	bxc_err_free(why_take);
	d->backoff_ns = d->backoff_ns ? BXC_MIN(2 * d->backoff_ns, BACKOFF_MAX_NS) : BACKOFF_NS;
	uint32_t r;
	bxc_rand_bytes(&r, sizeof(r));
	/* Within a fifth around, so that peers of a restarted coordinator do not come all at once. */
	int64_t jitter = d->backoff_ns / 5 * (int64_t)(r % 2001) / 1000 - d->backoff_ns / 5;
	bxc_loop_timer_arm(d->timer, d->backoff_ns + jitter);
}

void dialer_lost(struct dialer *d)
{
	if (d->trying_bulk) {
		/* It names a session that the next control connection may not find any more. */
		conn *k = d->trying_bulk;
		d->trying_bulk = NULL;
		conn_close(k, false);
	}
	if (!d->stopped && !d->trying)
		try_again(d, NULL);
}

void dialer_want_bulk(struct dialer *d)
{
	bxc_err *err = NULL;
	if (d->trying_bulk)
		return;
	if (conn_dial(d->chan->e, d->address, d->tls, &dial_callbacks, d, &d->trying_bulk, &err) < 0) {
		chan_no_bulk(d->chan, bxc_err_text(err));
		bxc_err_free(err);
	}
}

void dialer_stop(struct dialer *d)
{
	if (d->stopped)
		return;
	d->stopped = true;
	if (d->trying)
		conn_close(d->trying, false);
	if (d->trying_bulk)
		conn_close(d->trying_bulk, false);
	if (d->timer)
		bxc_loop_timer_free(d->timer);
	bxc_secret_free(d->token);
	bxc_tls_config_unref(d->tls);
	free(d->address);
	free(d->role);
	free(d->name);
	free(d);
}

static void start(void *ud)
{
	bxc_chan *c = ud;
	struct dialer *d = c->dialer;
	if (c->finished || !d) {
		chan_unref(c);
		return;
	}
	d->timer = bxc_loop_timer_new(c->e->loop, dial, d);
	dial(d);
	chan_unref(c);
}

int bxc_chan_dial(bxc_loop *loop, const bxc_chan_dial_config *cfg, const bxc_chan_callbacks *cb, void *ud, bxc_chan **ret, bxc_err **err)
{
	engine *e;
	if (strlen(cfg->name) > NAME_MAX_BYTES)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the name of a peer has at most %u bytes", NAME_MAX_BYTES);
	if (cfg->token && bxc_secret_bytes(cfg->token).n > TOKEN_MAX)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "a token has at most %u bytes", TOKEN_MAX);
	int r = engine_get(&e, err);
	if (r < 0)
		return r;
	bxc_chan *c = chan_new(e, loop, false);
	struct dialer *d = bxc_calloc(1, sizeof(*d));
	bxc_chan_set_callbacks(c, cb, ud);
	c->dialer = d;
	d->chan = c;
	d->address = bxc_strdup(cfg->address);
	d->role = bxc_strdup(cfg->role);
	d->name = bxc_strdup(cfg->name);
	d->tls = bxc_tls_config_ref(cfg->tls);
	int64_t first = cfg->first_timeout_ns ? cfg->first_timeout_ns : FIRST_NS;
	d->give_up_ns = first == INT64_MAX ? INT64_MAX : bxc_clock_mono_ns() + first;
	if (cfg->token) {
		bxc_slice t = bxc_secret_bytes(cfg->token);
		d->token = bxc_secret_new(t.p, t.n);
	}
	chan_ref(c);
	bxc_loop_post(e->loop, start, c);
	*ret = c;
	return 0;
}
