/* SPDX-License-Identifier: Apache-2.0 */
/* What a coordinator may ask about the space of this worker. Loop. */
#pragma once

#include "common/loop/loop.h"
#include "common/loop/pool.h"
#include "worker/agent/agent.h"
#include "worker/gc/gc.h"

#define USAGE_QUEUE 8u /* questions at a time, and a run of the limits */

/* All borrowed; outlives what the pool runs. */
typedef struct usage_env {
	bxc_loop *loop;
	bxc_pool *pool;
	bxc_snap *snap;
	bxc_content *content;
	bxc_exec *exec;
	bxc_agent *agent;
	int dir_fd;
} usage_env;

/* For bxc_agent_config: "usage" or "prune"; ud: usage_env. */
void usage_asked(const bxc_json *msg, void *ud);
