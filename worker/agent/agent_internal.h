/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "common/base/map.h"
#include "worker/agent/agent.h"
#include "worker/source/source.h"

typedef struct job {
	bxc_agent *a;
	char *name, *build, *kind;
	uint64_t epoch;
	bxc_json *msg;
	bxc_cancel *cancel;
	/* the pool's */
	bxc_reg *reg;
	char **lost;                 /* layers that no source could give */
	bxc_json *result;
	bxc_err *err;
	bool infra;
	/* bytes of progress already told of, by layer: not every chunk is worth a message */
	pthread_mutex_t lock;        /* protects told; leaf */
	bxc_map *told;
} job;

struct bxc_agent {
	bxc_agent_config c;
	bxc_agent_port port;
	bxc_src *src;
	bxc_pool *pool;
	bxc_map *jobs;               /* name -> job; the loop's */
	bool stopping;
};

/* Any thread. */
bxc_json *message(const job *j, const char *type);   /* with the task and its epoch; owned */
void send_json(bxc_agent *a, bxc_json *j_take, bxc_cancel *cancel);
void send_started(job *j);

/* One INPUT of a task, made present. */
typedef struct input {
	bxc_src_layers layers;
	char **ids;                  /* of the layers, pinned; NULL: none */
	size_t n_ids;
	bxc_tree *tree;              /* NULL: layers count */
} input;
int input_open(job *j, const bxc_json *doc, input *ret, bxc_err **err);
void input_close(job *j, input *in);

int run_exec(job *j, bxc_err **err);
int run_file(job *j, bxc_err **err);
int run_checksum(job *j, bxc_err **err);
int run_publish(job *j, bxc_err **err);
int run_export(job *j, bxc_err **err);
