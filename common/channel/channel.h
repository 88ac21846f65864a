/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Channels: sessions of reliable messages and flow-controlled streams between a dialling peer
 * (client, worker) and the coordinator, over nng streams with OpenSSL TLS above. Prefix: bxc_chan.
 * Wire format: PROTOCOL.md beside this file. The only place that sees nng is channel_conn.c.
 *
 * A session (bxc_chan) outlives its connections: after a cut the dialler reconnects and both sides
 * replay the messages the other has not acknowledged, exactly once and in order. Streams do not
 * survive a cut: they fail with UNAVAILABLE and the user of the stream opens a new one.
 *
 * Threads: every callback of this header runs on the loop given at creation. bxc_chan_send and the
 * blocking stream calls may be used from any thread. Handles are reference-free: a bxc_chan is
 * owned by whoever got it and stays valid until bxc_chan_close, which is called on the loop.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/secret.h"
#include "common/loop/loop.h"
#include "common/loop/pool.h"
#include "common/tls/tls.h"

typedef struct bxc_chan bxc_chan;
typedef struct bxc_chan_stream bxc_chan_stream;
typedef struct bxc_chan_server bxc_chan_server;

typedef enum bxc_chan_state {
	BXC_CHAN_CONNECTING = 0,
	BXC_CHAN_UP,                 /* messages flow */
	BXC_CHAN_DOWN,               /* connection lost; the dialler retries, the server waits for the grace time */
	BXC_CHAN_RESET,              /* up again, but the server had forgotten the session: unacknowledged messages of
	                                both sides are lost and the peers must introduce themselves anew */
	BXC_CHAN_CLOSED,             /* final: closed by the peer, refused, or the grace time is over */
} bxc_chan_state;

typedef struct bxc_chan_callbacks {
	/* A message of the peer, in order, exactly once per session. */
	void (*on_message)(bxc_chan *c, bxc_slice msg, void *ud);
	/* The peer opened a stream; owned by the callee. `kind` and `name` are borrowed. NULL: streams are refused. */
	void (*on_stream)(bxc_chan *c, bxc_chan_stream *s, const char *kind, const char *name, void *ud);
	void (*on_state)(bxc_chan *c, bxc_chan_state st, const bxc_err *why, void *ud);
} bxc_chan_callbacks;

/* ---- dialling side ---- */
typedef struct bxc_chan_dial_config {
	const char *address;         /* "ipc:///path", "tcp://host:port" (plain), "tls+tcp://host:port" */
	const char *role;            /* "client", "worker" */
	const char *name;            /* shown to the server: worker or client name */
	const bxc_secret *token;     /* may be NULL on ipc:// */
	bxc_tls_config *tls;         /* for tls+tcp; borrowed, outlives the session */
	int64_t first_timeout_ns;    /* the first connection must succeed within this; 0: 10 s. Later ones retry for ever. */
} bxc_chan_dial_config;
/* Returns at once; progress through on_state (UP, or CLOSED with the reason: UNAVAILABLE, UNAUTHENTICATED...). */
BXC_MUST_CHECK int bxc_chan_dial(bxc_loop *loop, const bxc_chan_dial_config *c, const bxc_chan_callbacks *cb, void *ud,
	bxc_chan **ret, bxc_err **err);

/* ---- listening side ---- */
typedef struct bxc_chan_hello {
	const char *role, *name, *peer;   /* peer: "10.0.0.2:4711" or "ipc:uid=0" */
	bxc_slice token;
	const char *cert_name;       /* CN of a verified client certificate or NULL */
} bxc_chan_hello;
typedef struct bxc_chan_server_callbacks {
	/* May this peer in? 0, or a negative code with err, whose text it is told. Runs on the loop. */
	int (*authorize)(const bxc_chan_hello *h, void *ud, bxc_err **err);
	/* A new session: set its callbacks with bxc_chan_set_callbacks before returning. Owned by the callee. */
	void (*on_session)(bxc_chan *c, const bxc_chan_hello *h, void *ud);
} bxc_chan_server_callbacks;
typedef struct bxc_chan_server_config {
	const char *const *addresses;   /* "ipc://", "tcp://", "tls+tcp://"; port 0: any */
	size_t n_addresses;
	bxc_tls_config *tls;         /* borrowed */
	int64_t grace_ns;            /* a session whose peer is not heard for so long is closed; 0: 60 s */
	int64_t heartbeat_ns;        /* 50 ms to 10 min, 0: 10 s; both ends: a ping after such a silence, a cut after three */
} bxc_chan_server_config;
BXC_MUST_CHECK int bxc_chan_server_new(bxc_loop *loop, const bxc_chan_server_config *c, const bxc_chan_server_callbacks *cb,
	void *ud, bxc_chan_server **ret, bxc_err **err);
uint16_t bxc_chan_server_port(const bxc_chan_server *s, size_t address);
void bxc_chan_server_stop(bxc_chan_server *s);       /* on the loop; says goodbye, closes all sessions; frees */

/* ---- sessions ---- */
void bxc_chan_set_callbacks(bxc_chan *c, const bxc_chan_callbacks *cb, void *ud);
const char *bxc_chan_session_id(const bxc_chan *c);  /* 32 hex digits, the same on both sides; "" before the first UP */
const char *bxc_chan_peer(const bxc_chan *c);
/* Queues a reliable message (at most BXC_LIMIT_MESSAGE bytes; copied). RESOURCE_EXHAUSTED when 64 MiB
 * wait until the peer's user has taken them (each counts 256 bytes more than it has); CANCELED after
 * close. What is sent before on_state tells of a RESET is lost with the session it was meant for. Any thread. */
BXC_MUST_CHECK int bxc_chan_send(bxc_chan *c, bxc_slice msg, bxc_err **err);
/* Loop only. Says goodbye once queued messages are acknowledged (at most 5 s), then frees; no callback after it returns. */
void bxc_chan_close(bxc_chan *c);
/* Loop only, listening side: cuts the connection without a goodbye and frees. The dialling side takes
 * it for a failure and tries again, until a server answers: RESET follows there. */
void bxc_chan_drop(bxc_chan *c);

/* ---- streams: bytes both ways with credit. Any thread but one reader and one writer at a time. ---- */
typedef enum bxc_chan_stream_flags {
	BXC_CHAN_BULK = 1u << 0,     /* on the bulk connection: never delays messages */
} bxc_chan_stream_flags;
/* kind at most 64 bytes, name at most 1024. Does not wait for the peer. UNAVAILABLE while down. With
 * 1024 of ours open the stream comes and fails with RESOURCE_EXHAUSTED. */
BXC_MUST_CHECK int bxc_chan_stream_open(bxc_chan *c, const char *kind, const char *name, bxc_chan_stream_flags flags,
	bxc_chan_stream **ret, bxc_err **err);
/* Blocks for credit. UNAVAILABLE after a cut, CANCELED when cancel fires, the peer's error after its reset. */
BXC_MUST_CHECK int bxc_chan_stream_write(bxc_chan_stream *s, const void *p, size_t n, bxc_cancel *cancel, bxc_err **err);
/* Ends our direction. */
BXC_MUST_CHECK int bxc_chan_stream_write_eof(bxc_chan_stream *s, bxc_err **err);
/* Blocks for data: the count, 0 at the peer's end, or negative. */
BXC_MUST_CHECK ssize_t bxc_chan_stream_read(bxc_chan_stream *s, void *p, size_t n, bxc_cancel *cancel, bxc_err **err);
/* Reads until the peer's end into `out` (bounded by its maximum). */
BXC_MUST_CHECK int bxc_chan_stream_read_all(bxc_chan_stream *s, bxc_buf *out, bxc_cancel *cancel, bxc_err **err);
/* Fails both directions; the peer's calls return this code and text (at most 4 KiB of it). */
void bxc_chan_stream_reset(bxc_chan_stream *s, bxc_code code, const char *text);
/* Gives the handle back: resets with CANCELED if not both directions have ended. NULL is fine. */
void bxc_chan_stream_free(bxc_chan_stream *s);
BXC_DEFINE_CLEANUP(bxc_chan_stream, bxc_chan_stream_free);
/* Joins two streams of different sessions: bytes, ends and resets pass both ways, credit end to end
 * (at most one window is held). Takes both; frees them when done. Any thread. */
void bxc_chan_relay(bxc_chan_stream *a_take, bxc_chan_stream *b_take);
