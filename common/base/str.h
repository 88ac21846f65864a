/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: formatting, comparison, parsing of numbers, NULL-terminated string vectors. */
#pragma once

#include <stdarg.h>
#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/err.h"

char *bxc_str_fmt(const char *fmt, ...) BXC_PRINTF(1, 2);           /* owned, never NULL */
/* Some strings after each other; owned. For what is done often: a format costs ten times as much. */
#define bxc_str_concat(...) bxc_str_concat_(__VA_ARGS__, (const char *)NULL)
char *bxc_str_concat_(const char *first, ...) __attribute__((sentinel));
char *bxc_str_vfmt(const char *fmt, va_list ap) BXC_PRINTF(1, 0);

static inline bool bxc_str_eq(const char *a, const char *b)         /* NULL equals only NULL */
{
	return a == b || (a && b && strcmp(a, b) == 0);
}
static inline bool bxc_str_empty(const char *s)                     /* NULL or "" */
{
	return !s || !*s;
}
bool bxc_str_has_prefix(const char *s, const char *prefix);
bool bxc_str_has_suffix(const char *s, const char *suffix);
bool bxc_str_eq_nocase(const char *a, const char *b);               /* ASCII only */
char *bxc_str_lower(char *s);                                       /* in place, ASCII; returns s */
char *bxc_str_upper(char *s);
/* The `n` bytes at p as lower-case hex digits and a NUL; returns a pointer to the NUL. */
char *bxc_str_put_hex(char *out, const void *p, size_t n);
int bxc_str_hex_value(char c);                                      /* of a digit in either case; -1: none */
char *bxc_str_one_line(char *s);                                    /* in place: blanks for ASCII control characters; returns s */
char *bxc_str_trim(char *s);        /* in place; drops ASCII blanks at both ends; returns a pointer into s */
/* `n` bytes: components parted by single '/', none of them "", "." or "..". */
bool bxc_str_is_clean_path(const char *s, size_t n);

/* The candidate nearest to `word` by edit distance when near enough to suggest, else NULL. */
const char *bxc_str_nearest(const char *word, const char *const *candidates, size_t n);

/* Whole string, decimal, no sign for u64, no blanks; BXC_INVALID_ARGUMENT or BXC_OUT_OF_RANGE. */
BXC_MUST_CHECK int bxc_str_to_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret, bxc_err **err);
BXC_MUST_CHECK int bxc_str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret, bxc_err **err);
BXC_MUST_CHECK int bxc_str_to_octal(const char *s, uint32_t max, uint32_t *ret, bxc_err **err);
BXC_MUST_CHECK int bxc_str_to_bool(const char *s, bool *ret, bxc_err **err);   /* true/false/1/0, any case */
/* "10", "10k", "1.5GB", "2GiB", "10g": bytes; powers of 1024 for every suffix, as docker reads them. */
BXC_MUST_CHECK int bxc_str_to_bytes(const char *s, uint64_t max, uint64_t *ret, bxc_err **err);
/* "90s", "10m", "1h30m", "250ms": nanoseconds. */
BXC_MUST_CHECK int bxc_str_to_duration_ns(const char *s, int64_t *ret, bxc_err **err);

/* ---- NULL-terminated vectors of owned strings ("strv"); NULL is the empty vector ---- */
size_t bxc_strv_len(char *const *v);
void bxc_strv_push_take(char ***v, char *s);                        /* owns s */
void bxc_strv_push(char ***v, const char *s);                       /* copies s */
void bxc_strv_pushf(char ***v, const char *fmt, ...) BXC_PRINTF(2, 3);
char **bxc_strv_dup(char *const *v);                                /* NULL for NULL */
bool bxc_strv_has(char *const *v, const char *s);
void bxc_strv_sort(char **v);                                       /* bytewise */
bool bxc_strv_eq(char *const *a, char *const *b);                   /* NULL equals empty */
char *bxc_strv_join(char *const *v, const char *sep);               /* owned, "" when empty */
char **bxc_strv_split(const char *s, char sep);                     /* keeps empty fields; "" gives {""} */
void bxc_strv_free(char **v);
static inline void bxc_strv_freep(char ***v)
{
	bxc_strv_free(*v);
}
#define BXC_AUTOSTRV BXC_CLEANUP(bxc_strv_freep)

/* "K=V" environments kept as strv, in order of first setting. */
const char *bxc_env_get(char *const *env, const char *key);         /* borrowed value or NULL */
void bxc_env_set(char ***env, const char *key, const char *value);  /* replaces in place or appends */
void bxc_env_unset(char ***env, const char *key);
