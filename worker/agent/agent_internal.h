/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "common/base/map.h"
#include "worker/agent/agent.h"
#include "worker/source/source.h"

/* spool.c */
typedef struct spool {
	pthread_mutex_t lock;        /* protects the rest; leaf */
	pthread_cond_t room;
	BXC_ARR(char *) texts;       /* messages, oldest first */
	uint64_t first;              /* number of texts.v[0], from 1 */
	size_t sent;                 /* of texts */
	size_t bytes;
	uint64_t turn;               /* counts changes of who listens */
	bool is_heard;               /* by the coordinator that knows the task */
	bool is_sending;             /* a thread is at it */
	bool is_started;
} spool;

typedef struct client client;        /* client.c */
typedef struct job {
	bxc_agent *a;
	char *name, *build, *kind;
	uint64_t epoch;
	bxc_json *msg;
	bxc_cancel *cancel;
	/* the pool's */
	bxc_reg *reg;
	bxc_src_client client;
	bxc_src_reach reach;
	client *services;            /* of a source that has asked for an agent; NULL: none has */
	char **lost;                 /* layers that no source could give */
	bxc_json *result;
	bxc_err *err;
	bool infra;
	/* bytes of progress already told of, by layer: not every chunk is worth a message */
	pthread_mutex_t lock;        /* protects told; leaf */
	bxc_map *told;
	spool spool;                 /* of steps */
	/* the loop's */
	bool is_step;                /* goes on when the coordinator restarts */
	bool is_ended, is_forgotten; /* freed when both */
	uint32_t flushes;            /* pool jobs that hold it beside its own */
} job;

struct bxc_agent {
	bxc_agent_config c;
	bxc_agent_port port;
	bxc_src *src;
	bxc_pool *pool;
	bxc_map *jobs;               /* name -> job; the loop's */
	bool stopping;
	bxc_post_fn on_idle;         /* NULL: it stays */
	bool is_released;            /* the coordinator says that nobody needs its layers */
	void *idle_ud;
};

/* Any thread. */
bxc_json *message(const job *j, const char *type);   /* with the task and its epoch; owned */
void send_json(bxc_agent *a, bxc_json *j_take, bxc_cancel *cancel);
int send_text(bxc_agent *a, const char *text, bxc_cancel *cancel);   /* waits while the channel is full; CANCELED: it was given up */
void send_started(job *j);
void send_status(job *j, const char *id, uint64_t current, uint64_t total, bool done);   /* of the task itself */
/* Of the vertex that brings an input. */
void send_vertex_status(job *j, const char *vertex, const char *id, uint64_t current, uint64_t total, int64_t started_ns, bool done);
/* A message that the next coordinator is to get as well. Logs are numbered. */
void spool_add(job *j, bxc_json *m_take, bool is_log);
bool spool_is_heard(spool *s);
void spool_mark_started(spool *s);

/* Loop. */
void spool_init(spool *s);
void spool_done(spool *s);
void spool_detach(spool *s);                         /* the coordinator has gone */
void spool_adopted(job *j);                          /* another one listens: flush follows */
void spool_flush(job *j);                            /* any thread; sends what was not sent */

/* One INPUT of a task, made present. */
typedef struct input {
	bxc_src_layers layers;
	char **ids;                  /* of the layers, pinned; NULL: none */
	size_t n_ids;
	bxc_tree *tree;              /* NULL: layers count */
} input;
int input_open(job *j, const bxc_json *doc, input *ret, bxc_err **err);
int input_ensure(job *j, input *in, bxc_err **err);              /* in->layers present and pinned */
/* A stream to a client; its name says of which build, and what is asked for. */
int open_client_stream(job *j, const char *kind, bxc_json *name_take, bxc_chan_stream **ret, bxc_err **err);
void input_close(job *j, input *in);

/* What a step asks the client for (client.c). Made and closed on the thread that runs the step. */
client *client_open(job *j);
const bxc_exec_services *client_services(const client *c);
void client_close(client *c);        /* ends the connections to agents and waits for their threads */

int run_exec(job *j, bxc_err **err);
int run_file(job *j, bxc_err **err);
int run_checksum(job *j, bxc_err **err);
int run_publish(job *j, bxc_err **err);
int run_export(job *j, bxc_err **err);
int run_cache(job *j, bxc_err **err);
bxc_src_client client_of(job *j);
int run_resolve(job *j, bxc_err **err);
int run_source(job *j, bxc_err **err);
int run_read(job *j, bxc_err **err);
int run_prefetch(job *j, bxc_err **err); /* its layers are here, and pinned by nobody */
/* What a task that made a layer answers; owned. */
bxc_json *step_result(const char *output, uint64_t size, int64_t duration_ns);
