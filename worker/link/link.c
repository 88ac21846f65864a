/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/link/link.h"

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/str.h"

struct bxc_wlink {
	bxc_wlink_config c;
	bxc_chan *chan;
	bool was_up, is_up;
	bool closed;
};

static int port_send(bxc_slice msg, void *ud, bxc_err **err)
{
	bxc_wlink *l = ud;
	return bxc_chan_send(l->chan, msg, err);
}

static int port_open(const char *kind, const char *name, bool bulk, bxc_chan_stream **ret, void *ud, bxc_err **err)
{
	bxc_wlink *l = ud;
	return bxc_chan_stream_open(l->chan, kind, name, bulk ? BXC_CHAN_BULK : 0, ret, err);
}

static void say_hello(bxc_wlink *l)
{
	BXC_AUTOJSON bxc_json *j = bxc_agent_hello(l->c.agent);
	BXC_AUTOFREE char *text = bxc_json_print(j);
	BXC_AUTOERR bxc_err *err = NULL;
	if (bxc_chan_send(l->chan, bxc_slice_of(text, strlen(text)), &err) < 0)
		bxc_log_err(BXC_LOG_WARN, "worker.hello_failed", err, NULL);
}

static void closed(bxc_wlink *l, const bxc_err *why)
{
	if (l->closed)
		return;
	l->closed = true;
	l->c.on_closed(why, l->c.ud);
}

static void on_state(bxc_chan *c, bxc_chan_state st, const bxc_err *why, void *ud)
{
	bxc_wlink *l = ud;
	(void)c;
	l->is_up = st == BXC_CHAN_UP || st == BXC_CHAN_RESET;
	switch (st) {
	case BXC_CHAN_CONNECTING:
		break;
	case BXC_CHAN_UP:
		if (l->was_up) {
			bxc_log(BXC_LOG_NOTICE, "worker.reconnected", NULL);
			break;
		}
		l->was_up = true;
		say_hello(l);
		break;
	case BXC_CHAN_RESET:
		bxc_log(BXC_LOG_NOTICE, "worker.session_reset", NULL);
		bxc_agent_reset(l->c.agent);
		l->was_up = true;
		say_hello(l);
		break;
	case BXC_CHAN_DOWN:
		bxc_log_err(BXC_LOG_WARN, "worker.connection_lost", why, NULL);
		l->c.on_down(l->c.ud);
		break;
	case BXC_CHAN_CLOSED:
		closed(l, why);
		break;
	}
}

static void on_message(bxc_chan *c, bxc_slice text, void *ud)
{
	bxc_wlink *l = ud;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *j = NULL;
	const char *type;
	(void)c;
	int r = bxc_json_parse(text, &j, &err);
	if (r >= 0)
		r = bxc_json_need_str(j, "type", &type, &err);
	if (r >= 0 && bxc_str_eq(type, "welcome")) {
		bxc_content_set_peer_token(l->c.content, bxc_json_get_str(j, "peer_token", NULL));
		bxc_content_set_registries(l->c.content, bxc_json_get(j, "registries"));
		bxc_log(BXC_LOG_NOTICE, "worker.joined", "worker", bxc_json_get_str(j, "name", ""), NULL);
		l->c.on_up(l->c.ud);
	} else if (r >= 0 && bxc_str_eq(type, "shutdown")) {
		closed(l, NULL);
	} else if (r >= 0 && bxc_str_eq(type, "error")) {
		bxc_ignore(bxc_err_set(&err, bxc_code_parse(bxc_json_get_str(j, "code", "UNKNOWN")), "the coordinator refused: %.512s",
			bxc_json_get_str(j, "message", "")));
		closed(l, err);
	} else if (r >= 0) {
		r = bxc_agent_message(l->c.agent, type, j, &err);
	}
	if (r < 0)
		bxc_log_err(BXC_LOG_WARN, "worker.bad_message", err, NULL);
}

int bxc_wlink_start(const bxc_wlink_config *c, bxc_wlink **ret, bxc_err **err)
{
	bxc_wlink *l = bxc_calloc(1, sizeof(*l));
	l->c = *c;
	const bxc_chan_dial_config dc = {
		.address = c->address,
		.role = "worker",
		.name = c->name,
		.token = c->token,
		.tls = c->tls,
		/* A worker may start before its coordinator. */
		.first_timeout_ns = INT64_MAX,
	};
	static const bxc_chan_callbacks cb = {.on_message = on_message, .on_state = on_state};
	int r = bxc_chan_dial(c->loop, &dc, &cb, l, &l->chan, err);
	if (r < 0) {
		free(l);
		return r;
	}
	const bxc_agent_port port = {port_send, port_open, l};
	bxc_agent_set_port(c->agent, &port);
	*ret = l;
	return 0;
}

bool bxc_wlink_is_up(const bxc_wlink *l)
{
	return l->is_up;
}

void bxc_wlink_stop(bxc_wlink *l)
{
	if (!l)
		return;
	bxc_chan_close(l->chan);
	free(l);
}
