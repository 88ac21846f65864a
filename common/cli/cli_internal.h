/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/base/arr.h"
#include "common/base/buf.h"
#include "common/cli/cli.h"

#define BXC_CLI__DEPTH_MAX 6

/* A verb with those above it, outermost (the root) first. */
typedef struct bxc_cli__path {
	const bxc_cli_verb *v[BXC_CLI__DEPTH_MAX];
	size_t n;
} bxc_cli__path;

struct bxc_cli__given {
	const bxc_cli_opt *opt;
	char *value;
};

struct bxc_cli {
	bxc_cli__path path;
	char *path_text;
	bool help;
	bool version;
	BXC_ARR(struct bxc_cli__given) given;
	BXC_ARR(const char *) args;
	BXC_ARR(struct bxc_cli__list {
		const bxc_cli_opt *opt;
		char **values;
	})
	lists;
};

static inline const bxc_cli_verb *bxc_cli__last(const bxc_cli__path *p)
{
	return p->v[p->n - 1];
}

/* --help, which every verb has, and --version, which only the root has. */
extern const bxc_cli_opt bxc_cli__builtin[2];

char *bxc_cli__path_text(const bxc_cli__path *p); /* owned, "bxc cache prune" */
/* Adds a verb; aborts when the table is deeper than any program's. */
void bxc_cli__push(bxc_cli__path *p, const bxc_cli_verb *v);
/* The word for the value in help; NULL for a FLAG. */
const char *bxc_cli__metavar(const bxc_cli_opt *o);
