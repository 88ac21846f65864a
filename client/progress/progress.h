/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a build shows while it runs. Module prefix: bxc_prog. Fed with the events of PROTOCOL.md;
 * one thread; no clock of its own: the caller gives the time.
 */
#pragma once

#include <stdio.h>

#include "common/base/err.h"
#include "common/codec/json.h"

typedef enum bxc_prog_mode {
	BXC_PROG_PLAIN = 0,
	BXC_PROG_TTY,
	BXC_PROG_RAWJSON,
	BXC_PROG_QUIET,          /* nothing but the final error */
} bxc_prog_mode;

typedef struct bxc_prog bxc_prog;

typedef struct bxc_prog_config {
	bxc_prog_mode mode;
	FILE *out;               /* stderr; borrowed */
	const char *builder;     /* name for "#0 building with ..."; NULL: no such line */
	bool color;
	int width, height;       /* of the terminal; tty */
	bool debug;              /* warnings with all there is to say about them */
} bxc_prog_config;

bxc_prog *bxc_prog_new(const bxc_prog_config *c);
void bxc_prog_free(bxc_prog *p);
BXC_DEFINE_CLEANUP(bxc_prog, bxc_prog_free);
/* The Dockerfile's text, for excerpts; one from elsewhere comes with the events. Copied. */
void bxc_prog_set_source(bxc_prog *p, const char *name, const void *text, size_t n);
/* The lines around first..last of a text, those marked, as BuildKit shows the place of an error; nothing when it has no such lines. */
void bxc_prog_excerpt(FILE *out, const char *name, const char *text, uint64_t first, uint64_t last);
/* One event; now_ns: wall clock. */
void bxc_prog_event(bxc_prog *p, const bxc_json *ev, int64_t now_ns);
/* The warnings so far as BuildKit's JSON has them; an owned array, NULL: none. */
bxc_json *bxc_prog_warnings(const bxc_prog *p);
/* Redraws (tty) or prints what waits (plain); call every 100 ms. */
void bxc_prog_tick(bxc_prog *p, int64_t now_ns);
void bxc_prog_resize(bxc_prog *p, int width, int height);
/*
 * After build.done: what is left, the summary, and for a failed build (error of PROTOCOL.md, or
 * NULL) the log tail of the failed step and the excerpt of the Dockerfile, as BuildKit shows them.
 * The last line "ERROR: failed to build: failed to solve: ..." is printed here too.
 */
void bxc_prog_finish(bxc_prog *p, const bxc_json *error, int64_t now_ns);
