/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the tasks of the coordinator (common/proto/PROTOCOL.md, "Worker channel"). Module prefix:
 * bxc_agent. The loop takes messages; each task runs on a thread of a pool.
 */
#pragma once

#include "common/channel/channel.h"
#include "common/codec/json.h"
#include "worker/content/content.h"
#include "worker/exec/exec.h"
#include "worker/snapshot/snapshot.h"

typedef struct bxc_agent bxc_agent;

/* The way to the coordinator; implemented by worker/link. Any thread. */
typedef struct bxc_agent_port {
	int (*send)(bxc_slice msg, void *ud, bxc_err **err);
	int (*open_stream)(const char *kind, const char *name, bool bulk, bxc_chan_stream **ret, void *ud, bxc_err **err);
	void *ud;
} bxc_agent_port;

typedef struct bxc_agent_config {
	bxc_loop *loop;
	bxc_content *content;            /* borrowed, as the others */
	bxc_snap *snap;
	bxc_exec *exec;
	const char *sources_dir;         /* existing folder for copies of repositories; borrowed during the call */
	uint32_t slots;                  /* tasks at a time */
	const char *host;                /* address peers reach us at, NULL: none */
	char *const *platforms;          /* strv: native */
	char *const *emulated;           /* strv or NULL */
	/* The coordinator asks what is kept here, or wants some of it gone: "usage" and "prune" of PROTOCOL.md. Loop. */
	void (*on_usage)(const bxc_json *msg, void *ud);
	void *usage_ud;
} bxc_agent_config;

BXC_MUST_CHECK int bxc_agent_new(const bxc_agent_config *c, bxc_agent **ret, bxc_err **err);
void bxc_agent_set_port(bxc_agent *a, const bxc_agent_port *port);   /* copied; before the first task */
/* Cancels what runs, waits for it, frees. Loop. */
void bxc_agent_stop(bxc_agent *a);

/* The coordinator is told to send nothing more; `idle` comes on the loop once nothing is left to be done, results are
 * recorded, and no live build needs a layer that only this worker could give. */
void bxc_agent_leave(bxc_agent *a, bxc_post_fn idle, void *ud);

/* The hello message, owned. Loop. */
bxc_json *bxc_agent_hello(bxc_agent *a);
/* A message of the coordinator; INVALID_ARGUMENT for nonsense. Loop. */
BXC_MUST_CHECK int bxc_agent_message(bxc_agent *a, const char *type, const bxc_json *msg, bxc_err **err);
/* The coordinator has forgotten the session, as one that was restarted: steps go on and are kept,
 * with what they said, until it adopts or cancels them; the rest is cancelled. Hello follows. Loop. */
void bxc_agent_reset(bxc_agent *a);
/* What an answer to on_usage is sent by. Any thread. */
void bxc_agent_send(bxc_agent *a, bxc_json *j_take);
/* Layers that are not here any more; the coordinator is told. Loop. */
void bxc_agent_layers_gone(bxc_agent *a, char *const *ids);
