/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "client/progress/progress.h"
#include "common/base/arr.h"
#include "common/base/buf.h"
#include "common/base/map.h"

#define LOG_TAIL_LINES 10u

typedef struct status {
	char *id;
	uint64_t current, total;
	int64_t started_ns, completed_ns;
	bool dirty;                  /* plain: changed since it was printed */
	int64_t printed_ns;
	uint64_t printed_current;
} status;

typedef struct vertex {
	char *digest;
	char *name;
	char *worker;
	char *error;
	char **inputs;               /* strv of digests; NULL: none, or not told */
	int64_t started_ns, completed_ns;    /* 0: not yet */
	bool cached, canceled;
	char *waits;                 /* why it does not run yet; NULL: it has not waited for long */
	int64_t waits_since_ns;
	unsigned number;             /* 0: nothing was printed */
	bool final_printed;
	bxc_buf partial[3];          /* incomplete lines, by stream */
	BXC_ARR(char *) pending;     /* plain: complete lines "0.123 text" that wait */
	char *tail[LOG_TAIL_LINES];  /* ring of the last lines */
	size_t n_lines;
	BXC_ARR(status) statuses;
} vertex;

struct bxc_prog {
	bxc_prog_config c;
	char *builder;
	BXC_ARR(vertex *) vertices;  /* in order of appearance */
	bxc_map *by_digest;
	char *source_name;
	char *source;
	int64_t begun_ns;
	/* plain */
	unsigned last_number;
	vertex *current;
	int64_t current_since_ns;
	bool greeted;
	/* tty */
	int drawn_lines;
	BXC_ARR(int) drawn_columns;  /* of each drawn line: a narrower terminal has wrapped it */
	BXC_ARR(bxc_json *) warnings;    /* events */
};

vertex *vertex_find(bxc_prog *p, const char *digest);
/* Bytes as people read them: "31B", "2.05kB", "1.5MB"; owned. */
char *bytes_text(uint64_t n);
/* With blanks for line breaks and the like; owned. */
char *one_line(const char *s);
/* "0.3s"; owned. */
char *seconds_text(int64_t ns);

void plain_flush(bxc_prog *p, int64_t now_ns, bool all);
void tty_resized(bxc_prog *p);           /* after width and height have changed */
void tty_draw(bxc_prog *p, int64_t now_ns, bool final);
/* What ran, where the time went, the critical path; owned, NULL: no steps. */
char **summary_lines(bxc_prog *p);
void rawjson_event(bxc_prog *p, const bxc_json *ev, int64_t now_ns);
void final_warnings(bxc_prog *p);
void final_block(bxc_prog *p, const bxc_json *error);
