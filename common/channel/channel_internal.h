/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads. One thread of this module (the engine's loop) owns every connection and session; nng's
 * callbacks and the user's calls only post to it, and it posts callbacks to the user's loop. What
 * streams and senders share with it is under the lock of the stream or session (leaf locks).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/arr.h"
#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/channel/channel.h"
#include "common/codec/json.h"

/* ---- frames (channel_frame.c) ---- */

#define FRAME_HEADER  16u
#define FRAME_MAX     65536u         /* bytes of payload */
#define HELLO_MAX     4096u
#define WINDOW_BYTES  (1u << 20)     /* credit of a stream at its start */
#define BATCH_BYTES   (256u << 10)   /* what is put together for one send */
#define STREAM_OPEN_MAX 1200u        /* bytes of kind and name */
#define MAX_STREAMS   1024u          /* open at once, of each side */
#define BYE_TEXT_MAX  512u           /* bytes of what a refusal says: all JSON around it stays below HELLO_MAX */
#define ANSWERS_MAX   (1u << 20)     /* bytes of answers that may wait for a peer that does not read them */
#define HEARTBEAT_NS  (10 * BXC_NS_PER_S)
#define HEARTBEAT_MIN_NS (50 * BXC_NS_PER_MS)
#define HEARTBEAT_MAX_NS (600 * BXC_NS_PER_S)

typedef enum frame_type {
	FRAME_NONE = 0,
	FRAME_HELLO = 1,
	FRAME_WELCOME = 2,
	FRAME_BYE = 3,
	FRAME_OPEN = 4,
	FRAME_DATA = 5,
	FRAME_WINDOW = 6,
	FRAME_EOF = 7,
	FRAME_RESET = 8,
	FRAME_EVENT = 9,
	FRAME_ACK = 10,
	FRAME_PING = 11,
	FRAME_PONG = 12,
	FRAME_GOODBYE = 13,
	FRAME_GOODBYE_ACK = 14,
	FRAME_BULK = 15,             /* acceptor: asks for a bulk connection; dialler: there is none, and why */
} frame_type;

#define FRAME_MORE 1u                /* EVENT: the message goes on in the next EVENT frame */

typedef struct frame {
	frame_type type;
	uint8_t flags;
	uint32_t stream;
	uint32_t arg;
	bxc_slice payload;           /* borrowed from the input */
} frame;

/* 1: *ret holds a frame of *ret_used bytes; 0: more bytes are needed; negative: not our protocol, or
 * a payload of more than max_bytes. */
int frame_parse(bxc_slice in, size_t max_bytes, frame *ret, size_t *ret_used, bxc_err **err);
void frame_put(bxc_buf *out, frame_type type, uint8_t flags, uint32_t stream, uint32_t arg, bxc_slice payload);

/* ---- the engine (channel_engine.c) ---- */

typedef struct engine {
	bxc_loop *loop;
	pthread_t thread;
	bxc_pool *pool;              /* what may block: names, teardown of nng objects */
	uint32_t refs;
	bxc_loop_timer *tick;
	int64_t tick_due_ns;
	BXC_ARR(struct conn *) conns;
} engine;

int engine_get(engine **ret, bxc_err **err);     /* starts it for the first user */
void engine_put(engine *e);                      /* never on the engine's own thread */
void engine_tick_soon(engine *e, int64_t heartbeat_ns);   /* a connection's heartbeat became shorter */

/* ---- connections (channel_conn.c: the only one that sees nng) ---- */

typedef struct conn conn;
typedef struct listener listener;

typedef struct conn_callbacks {
	void (*on_open)(conn *c, void *ud);              /* dialled, TLS not yet through */
	void (*on_frame)(conn *c, const frame *f, void *ud);
	void (*on_room)(conn *c, void *ud);              /* the last batch has gone: more may be written */
	void (*on_closed)(conn *c, bxc_err *why_take, void *ud);   /* last callback */
} conn_callbacks;

struct conn_impl;
struct conn {
	engine *e;
	const conn_callbacks *cb;
	void *ud;
	bxc_tls *tls;
	struct conn_impl *impl;
	bxc_buf in;                  /* plain, not yet parsed */
	bxc_buf out;                 /* plain, not yet given to nng */
	bxc_buf cipher;              /* made by TLS, not yet given to nng */
	bool open, sending, closing;
	bool handshaken;             /* HELLO and WELCOME are through: big frames are allowed */
	bool is_server, is_bulk;
	int64_t since_ns, heard_ns, pinged_ns;
	int64_t heartbeat_ns;        /* PING after such a silence; three of them: the peer is gone */
	int64_t close_by_ns;         /* of one that flushes before it closes */
	char *peer;
	char *cert_name;
};

/* On the engine's thread. `address` as in channel.h. */
int conn_dial(engine *e, const char *address, bxc_tls_config *tls, const conn_callbacks *cb, void *ud, conn **ret, bxc_err **err);
void conn_set(conn *c, const conn_callbacks *cb, void *ud);
void conn_flush(conn *c);                            /* sends what is in `out`, if nothing is on its way */
void conn_close(conn *c, bool flush);                /* flush: what is in `out` still goes; no callback follows */
void conn_tick(conn *c, int64_t now_ns);
void conn_make_room(engine *e, const char *peer);    /* before one of `peer` is taken in */

typedef void (*accept_fn)(conn *c, void *ud);        /* set callbacks in it */
int listener_new(engine *e, const char *address, bxc_tls_config *tls, accept_fn fn, void *ud, listener **ret, bxc_err **err);   /* user's thread */
uint16_t listener_port(const listener *l);
void listener_free(listener *l);                     /* engine's thread */

/* What conn.c needs of its transport. */
void conn_received(conn *c, const uint8_t *p, size_t n);
void conn_failed(conn *c, bxc_err *why_take);
conn *conn_new(engine *e, bool is_server);
void conn_opened(conn *c);
void impl_send(conn *c, uint8_t *p_take, size_t n);
void impl_recv(conn *c);
void impl_close(conn *c);                            /* the memory of c goes later */

/* ---- sessions (channel_session.c) ---- */

typedef struct message {
	uint64_t seq;                /* 0: not numbered yet */
	uint64_t epoch;              /* what its sender knew: see bxc_chan.epoch */
	size_t n;
	uint8_t *data;
} message;
#define MESSAGE_COST(n) ((n) + 256)  /* bytes that one takes: small ones are not free */

/* Something that happened, on its way to the user. */
typedef enum told_what {
	TOLD_STATE = 0,
	TOLD_MESSAGE,
	TOLD_STREAM,
} told_what;
typedef struct told {
	told_what what;
	bxc_chan_state state;
	bxc_err *why;
	uint64_t seq;                /* of a message */
	uint64_t epoch;              /* of a state */
	uint8_t *data;
	size_t n;
	bxc_chan_stream *stream;
} told;

struct bxc_chan {
	_Atomic uint32_t refs;
	engine *e;
	bxc_loop *user_loop;
	bxc_chan_callbacks cb;       /* user's loop only */
	void *ud;
	bool user_closed;            /* user's loop only */
	bool is_server;
	char id[33];
	char secret[65];
	char *peer;

	/* engine's thread */
	conn *ctl, *bulk;
	bool bulk_wanted;
	int64_t bulk_since_ns;       /* when it was asked for */
	BXC_ARR(message) out;        /* not acknowledged; out.v[0] is the oldest */
	uint64_t last_seq;           /* given to the last message */
	uint64_t sent_seq;           /* last one put on the present connection */
	uint64_t in_seq;             /* last one received whole */
	uint64_t acked_in;           /* last one we acknowledged */
	uint64_t epoch;              /* counts the times the peer forgot the session; changed under the lock */
	bxc_buf assembly;
	BXC_ARR(bxc_chan_stream *) streams;
	size_t turn;                 /* round robin */
	uint32_t next_stream;
	bool closing, goodbye_sent, finished;
	bxc_loop_timer *close_timer;
	int64_t down_since_ns;       /* the last sign of life before the control connection was lost */
	struct dialer *dialer;       /* dialling side */
	bxc_chan_server *server;     /* listening side */

	pthread_mutex_t lock;        /* protects the rest; leaf, taken after a stream's */
	pthread_cond_t changed;
	BXC_ARR(message) queue;      /* on their way to the engine */
	bool queue_posted;           /* it was told */
	size_t queued_bytes;         /* cost of what is not acknowledged, the queue included */
	uint64_t user_epoch;         /* as far as the user has been told */
	BXC_ARR(told) inbox;         /* on their way to the user */
	bool inbox_posted;
	size_t inbox_bytes;          /* cost of its messages */
	uint64_t taken_seq;          /* last message the user took */
	uint32_t n_accepted;         /* streams of the peer that the user has not given back */
	bool no_more;                /* closed */
	bool is_up;
	bool gone;                   /* the engine is through with it, and may be gone itself: nothing is posted any more */
};

void chan_ref(bxc_chan *c);
void chan_unref(bxc_chan *c);
bxc_chan *chan_new(engine *e, bxc_loop *loop, bool is_server);
/* Has the peer seen what it has acknowledged, and no more than was sent? Otherwise it can't go on. */
int chan_check_resume(const bxc_chan *c, uint64_t peer_last_seq, bxc_err **err);
void chan_attach(bxc_chan *c, conn *k, bool bulk, uint64_t peer_last_seq);
void chan_reset_session(bxc_chan *c);                /* the peer has forgotten us */
void chan_detach(bxc_chan *c, conn *k, bxc_err *why_take);
void chan_finish(bxc_chan *c, const bxc_err *why);   /* final: CLOSED */
void chan_fill(bxc_chan *c, conn *k);
void chan_close_step(bxc_chan *c);                   /* of a session that is being closed: does what can be done now */
extern const conn_callbacks chan_conn_callbacks;
void chan_want_bulk(bxc_chan *c);
void chan_no_bulk(bxc_chan *c, const char *why);     /* streams that wait for the bulk connection fail */
void chan_bye_error(const frame *f, bxc_err **err);  /* what a BYE says */

/* ---- between sessions and their users (channel_user.c) ---- */

void chan_tell_state(bxc_chan *c, bxc_chan_state st, const bxc_err *why);
void chan_tell_stream(bxc_chan *c, bxc_chan_stream *s_take);
int chan_tell_message(bxc_chan *c, uint64_t seq, bxc_slice msg, bxc_err **err);
/* Any thread; false, and nothing is posted, once the engine is through with the session. */
bool chan_post(bxc_chan *c, bxc_post_fn fn, void *ud);

/* ---- the dialler and the server (channel_dial.c, channel_server.c) ---- */

void dialer_want_bulk(struct dialer *d);
void dialer_lost(struct dialer *d);                  /* the control connection was lost */
void dialer_stop(struct dialer *d);
void server_forget(bxc_chan_server *s, bxc_chan *c);

/* ---- streams (channel_stream.c) ---- */

struct bxc_chan_stream {
	_Atomic uint32_t refs;
	bxc_chan *chan;
	uint32_t id;
	bool bulk;
	bool accepted;               /* opened by the peer */
	char *kind, *name;

	/* engine's thread */
	bool opened;                 /* OPEN was sent or received */
	conn *on;                    /* connection it lives on */
	bool eof_sent, reset_sent;

	pthread_mutex_t lock;        /* protects the rest; leaf */
	pthread_cond_t changed;
	bxc_buf tx;                  /* written, not yet framed */
	uint32_t tx_credit;
	bool tx_eof;
	bxc_buf rx;
	size_t rx_taken;             /* consumed bytes at the head of rx */
	uint32_t rx_credit;          /* what the peer may still send */
	uint32_t to_return;          /* consumed, not yet given back */
	bool rx_eof;
	bool kicked;                 /* the engine was told of something */
	bool user_gone;
	bxc_code fail_code;          /* OK: alive */
	char *fail_text;
	bool want_reset;             /* we reset: to be told to the peer */
};

bxc_chan_stream *stream_new(bxc_chan *c, uint32_t id, bool bulk);
void stream_ref(bxc_chan_stream *s);
void stream_unref(bxc_chan_stream *s);
void stream_fail(bxc_chan_stream *s, bxc_code code, const char *text);
/* Puts frames of the stream into out; true when it did. Engine's thread. */
bool stream_fill(bxc_chan_stream *s, bxc_buf *out);
bool stream_is_over(bxc_chan_stream *s);
int stream_frame(bxc_chan_stream *s, const frame *f, bxc_err **err);
