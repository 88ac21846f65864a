/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server end of channels: lets clients and workers in and routes their messages and streams.
 * Module prefix: bxc_clink. Loop only.
 */
#pragma once

#include "coordinator/auth/auth.h"
#include "coordinator/build/build.h"

typedef struct bxc_clink bxc_clink;

typedef struct bxc_clink_config {
	bxc_loop *loop;
	const char *const *addresses;    /* see channel.h */
	size_t n_addresses;
	bxc_tls_config *tls;             /* for tls+tcp; borrowed */
	const bxc_auth *auth;            /* borrowed; peers on ipc:// of our own uid need no token */
	bxc_build *build;
	bxc_wrk *workers;
	bxc_sess *sessions;
	bxc_ev *events;
	const char *peer_token;          /* what workers show each other */
	const bxc_reg_host *hosts;       /* told to workers */
	size_t n_hosts;
	int64_t grace_ns;                /* a silent client or worker is given up after this */
	int64_t heartbeat_ns;            /* see channel.h */
} bxc_clink_config;

BXC_MUST_CHECK int bxc_clink_start(const bxc_clink_config *c, bxc_clink **ret, bxc_err **err);
uint16_t bxc_clink_port(const bxc_clink *l, size_t address);
/* For embedded clusters: tells the workers to leave. */
void bxc_clink_shutdown_workers(bxc_clink *l);
/* `will_be_back`: peers are left without a goodbye, so that they wait for the next start. */
void bxc_clink_stop(bxc_clink *l, bool will_be_back);
