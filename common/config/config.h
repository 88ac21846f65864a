/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration of a program: built-in default < file < environment < flags.
 *
 * The program declares one static table of keys; the sources may be loaded in any order, the
 * precedence is by kind. Every value is checked when it is loaded, and errors name the place
 * ("worker.conf:12", "BXC_SLOTS", "--slots"). See README.md for the file format.
 *
 *     static const bxc_cfg_key keys[] = {
 *             {"listen", "BXC_LISTEN", "listen", BXC_CFG_STRING, "127.0.0.1:7890", "address of the
 * API"},
 *             {"cache.max", "BXC_CACHE_MAX", NULL, BXC_CFG_BYTES, "10g", "bytes kept", .min = 1 <<
 * 20},
 *     };
 *
 * After loading the object is read-only: getters from any thread.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/err.h"

typedef enum bxc_cfg_type {
	BXC_CFG_STRING = 0,
	BXC_CFG_BOOL, /* true, false, 1, 0 */
	BXC_CFG_U64,
	BXC_CFG_BYTES,	  /* "10g" */
	BXC_CFG_DURATION, /* "1h30m" */
	BXC_CFG_LIST,	  /* comma-separated strings */
} bxc_cfg_type;

typedef struct bxc_cfg_key {
	const char *key;  /* "name" or "section.name" */
	const char *env;  /* variable, or NULL */
	const char *flag; /* long flag without dashes, or NULL */
	bxc_cfg_type type;
	const char *def;	    /* in the form of the file; NULL: unset (0, false, NULL) */
	const char *help;	    /* one line */
	const char *const *choices; /* NULL-terminated allowed values of a string, or NULL */
	uint64_t min;		    /* of U64, BYTES, and DURATION in ns */
	uint64_t max;		    /* 0: no bound */
	bool secret;		    /* never printed, not even in errors */
} bxc_cfg_key;

typedef enum bxc_cfg_rank {
	BXC_CFG_DEFAULT = 0,
	BXC_CFG_FILE,
	BXC_CFG_ENV,
	BXC_CFG_FLAG,
} bxc_cfg_rank;

#define BXC_CFG_MAX_FILE (1u << 20) /* bytes */

typedef struct bxc_cfg bxc_cfg;

/* `keys` is borrowed and must stay. A table with a wrong default or a key twice aborts. */
bxc_cfg *bxc_cfg_new(const bxc_cfg_key *keys, size_t n_keys);
void bxc_cfg_free(bxc_cfg *c);
BXC_DEFINE_CLEANUP(bxc_cfg, bxc_cfg_free);

/* A missing file is a success when `optional`. On failure the object must not be used further. */
BXC_MUST_CHECK int bxc_cfg_load_file(bxc_cfg *c, const char *path, bool optional, bxc_err **err);
/* The same from memory; `name` stands for the file in messages. */
BXC_MUST_CHECK int bxc_cfg_load_text(bxc_cfg *c, const char *name, bxc_slice text, bxc_err **err);
/* `env` is a strv of K=V (environ). Empty variables count as unset. */
BXC_MUST_CHECK int bxc_cfg_load_env(bxc_cfg *c, char *const *env, bxc_err **err);
/* The value of the flag of `key` (a programmer's name, not input). A list grows by each call; its
 * value is one element, taken as it is. */
BXC_MUST_CHECK int bxc_cfg_set_flag(bxc_cfg *c, const char *key, const char *value, bxc_err **err);

/* Getters; asking for a key that is not in the table, or by another type, aborts. */
const char *bxc_cfg_str(const bxc_cfg *c, const char *key); /* borrowed; NULL when unset */
bool bxc_cfg_bool(const bxc_cfg *c, const char *key);
uint64_t bxc_cfg_u64(const bxc_cfg *c, const char *key);
uint64_t bxc_cfg_bytes(const bxc_cfg *c, const char *key);
int64_t bxc_cfg_duration_ns(const bxc_cfg *c, const char *key);
char *const *bxc_cfg_list(const bxc_cfg *c, const char *key); /* borrowed strv, NULL when empty */

/* Where the value came from: kind, and place for people ("default", "worker.conf:3", "BXC_X",
 * "--x"). */
bxc_cfg_rank bxc_cfg_get_rank(const bxc_cfg *c, const char *key);
const char *bxc_cfg_origin(const bxc_cfg *c, const char *key);
/* "key = value    # origin" for each key, in the form of the file; secrets as "(secret)". */
void bxc_cfg_print(const bxc_cfg *c, FILE *f);
/* The table as a commented file with the defaults: what conf/ holds for a program. */
void bxc_cfg_print_template(const bxc_cfg_key *keys, size_t n_keys, FILE *f);
