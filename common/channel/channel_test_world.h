/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of channels in one test: a loop that is stepped, a server, a dialler; and raw sockets
 * that speak frames by hand, for peers that do not keep to the protocol. Test files only.
 */
#pragma once

#include "common/channel/channel_internal.h"
#include "common/testing/testing.h"

/* One loop for both ends: the test steps it until what it waits for has happened. */
struct end {
	bxc_chan *c;
	char *got;                   /* messages, each with a ';' */
	bxc_chan_stream *stream;     /* the last that was opened */
	char *kind, *name;
	int ups, downs, resets, n_streams;
	bool closed;
	bxc_code why;
	char *why_text;
};

extern bxc_loop *loop;
extern struct end cli, srv;
extern bxc_chan_server *server;
extern char *address;
extern const char *want_token;
extern const char *refusal;          /* what a wrong token is answered */
extern bool close_sessions;          /* the server's user closes each as it comes */
extern const bxc_chan_callbacks callbacks;
extern bxc_chan_server_config server_config;   /* addresses apart */

#define UNTIL(cond)                                                                                \
	do {                                                                                       \
		int64_t end_ns = bxc_clock_mono_ns() + 20 * BXC_NS_PER_S;                          \
		while (!(cond)) {                                                                  \
			assert_int_equal(bxc_loop_step(loop, 20, NULL), 0);                        \
			assert_true(bxc_clock_mono_ns() < end_ns);                                 \
		}                                                                                  \
	} while (0)

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int setup(void **state);                     /* starts a server on a free port of loopback */
int teardown(void **state);
void listen_on(const char *url);
void dial_with(const char *token);
void connect_both(void);
void say(bxc_chan *c, const char *text);
int authorize(const bxc_chan_hello *h, void *ud, bxc_err **err);
void on_session(bxc_chan *c, const bxc_chan_hello *h, void *ud);
bool has_ended(bxc_chan_stream *s, bxc_code code);   /* failed with it; does not block */

/* ---- a peer made by hand ---- */
struct raw {
	int fd;
	bxc_buf in;
	frame f;                     /* the last one read; its payload lies in `in` */
	size_t used;
	bool still;                  /* the loop does not turn while it waits */
	char session[33], secret[65];
};

int raw_socket(void);                                /* connected to the server */
void raw_open(struct raw *r);
void raw_close(struct raw *r);
void raw_send(struct raw *r, frame_type type, uint8_t flags, uint32_t stream, uint32_t arg, const void *p, size_t n);
/* The next frame but pings, stepping the loop while it waits; false: the connection was closed. */
bool raw_next(struct raw *r);
bool raw_until(struct raw *r, frame_type type);      /* skips others */
void raw_say_hello(struct raw *r, const char *kind, uint64_t last_seq);   /* with what r knows of a session */
void raw_hello(struct raw *r, const char *kind, uint64_t last_seq);   /* the same, and takes the welcome, if one comes */
void raw_session(struct raw *r);                     /* a new one, which the server's user has been told of */
void raw_reconnect(struct raw *r);                   /* cuts, and connects again without a word */
void raw_join(struct raw *ret_bulk, const struct raw *ctl);           /* a bulk connection */

/* A server made by hand: `address` is where it listens from now on. */
#define ONE "0123456789abcdef"       /* names of sessions */
#define TWO "fedcba9876543210"
int raw_listen(void);
int raw_serve(struct raw *r, int64_t heartbeat_ns);  /* listens, and lets `cli` in, which has been told; returns what listens */
void raw_accept(struct raw *r, int listen_fd);       /* reads the hello */
void raw_welcome(struct raw *r, const char *session, bool resumed, uint64_t last_seq, int64_t heartbeat_ns);
