/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's end of its channel to the coordinator. Module prefix: bxc_wlink. Loop only. */
#pragma once

#include "worker/agent/agent.h"

typedef struct bxc_wlink bxc_wlink;

typedef struct bxc_wlink_config {
	bxc_loop *loop;
	const char *address;             /* see channel.h */
	const char *name;
	const bxc_secret *token;         /* borrowed */
	bxc_tls_config *tls;             /* borrowed */
	bxc_agent *agent;
	bxc_content *content;
	/* On the loop: the coordinator accepted us for the first time; or the channel is closed for good (why != NULL). */
	void (*on_up)(void *ud);
	/* The connection was lost; it is sought again. */
	void (*on_down)(void *ud);
	void (*on_closed)(const bxc_err *why, void *ud);
	void *ud;
} bxc_wlink_config;

BXC_MUST_CHECK int bxc_wlink_start(const bxc_wlink_config *c, bxc_wlink **ret, bxc_err **err);
/* Is there a connection, as far as is known? */
bool bxc_wlink_is_up(const bxc_wlink *l);
void bxc_wlink_stop(bxc_wlink *l);
