/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small engine for the tests of the solver: it answers look-ups from a cache of its own, gives
 * keys and checksums from tables, and keeps runs until the test ends them. What it is told of is
 * written down in `log`, one word per event, for example "b1:CACHED:base".
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/buf.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "coordinator/solver/solver.h"

typedef struct world_run {
	uint64_t ticket;
	uint64_t vertex;
	char *name;
	uint32_t attempt;
	bxc_solve_miss miss;
	uint32_t miss_input;
	bool fresh;
	uint32_t remaining;
	BXC_ARR(uint64_t) inputs; /* records */
} world_run;

typedef struct world {
	bxc_solve *s;
	uint64_t last_record;
	bxc_map *cache;	  /* key -> struct world_link */
	bxc_map *known;	  /* key -> bxc_digest: what it stands for, without a result */
	bxc_map *content; /* vertex name -> text its next result holds, else a new one each time */
	bxc_map *record_content; /* record -> text */
	bxc_map *local;		 /* path in the local context -> content */
	bxc_map *defs;		 /* build -> its definition, for names */
	bxc_map *hold;		 /* kinds ("KEY", "CHECKSUM") which are left unanswered */
	BXC_ARR(world_run) runs;
	BXC_ARR(uint64_t) held; /* tickets left unanswered */
	bxc_buf log;
	size_t n_lookups, n_checksums, n_saves, n_source_keys;
	/* of the last BUILD_DONE */
	uint64_t done_build;
	bxc_code done_code;
	BXC_ARR(uint64_t) done_records;
} world;

void world_init(world *w);
void world_done(world *w);
/* Takes actions until there are none. */
void world_drive(world *w);
/* The one run of a vertex of that name, or NULL. */
world_run *world_find(world *w, const char *name);
/* Ends a run with success, drives, returns the record. */
uint64_t world_finish(world *w, const char *name);
void world_fail(world *w, const char *name, bool infra);
void world_finish_all(world *w);
void world_forget_runs(world *w);	    /* the engine does not expect their end any more */
void world_lose(world *w, uint64_t record); /* deletes its links, then tells */
void world_add(world *w, uint64_t build, const bxc_def *d, uint32_t target); /* and drives */
void world_look(
	world *w, uint64_t build, const bxc_def *d, uint32_t target); /* one that runs nothing */
/* The log so far as one line, then it is empty. */
const char *world_log(world *w);

/* What `from` can tell of all vertices of a build: to `to`, with the results of `with` (a vertex) alone. */
void world_tell(world *to, world *from, uint64_t build, uint32_t with);

uint32_t def_image(bxc_def *d, const char *name);
uint32_t def_local(bxc_def *d, const char *name);
uint32_t def_run(bxc_def *d, const char *name, uint32_t input);
uint32_t def_run2(
	bxc_def *d, const char *name, uint32_t input, uint32_t mount); /* `mount` read-only at /m */
uint32_t def_copy(bxc_def *d, const char *name, uint32_t target, uint32_t source, const char *path);
void def_ignore(bxc_def *d, uint32_t v);
