/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strict JSON over cJSON: the only place that sees cJSON.
 *
 * Parsing refuses what the wire must not carry: duplicate keys, nesting deeper than
 * BXC_LIMIT_JSON_DEPTH, trailing bytes, invalid UTF-8, NUL in strings. Look-up is case-sensitive.
 * Integers beyond 2^53 travel as strings; bxc_json_get_u64/i64 accept both forms.
 *
 * Ownership: a tree is owned by its root; children are borrowed from it. Values returned as
 * `const char *` are borrowed until the tree changes. Not thread-safe; hand over whole trees.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

typedef struct bxc_json bxc_json;      /* an alias of cJSON, never dereferenced outside */

BXC_MUST_CHECK int bxc_json_parse(bxc_slice text, bxc_json **ret, bxc_err **err);
void bxc_json_free(bxc_json *j);
BXC_DEFINE_CLEANUP(bxc_json, bxc_json_free);
#define BXC_AUTOJSON BXC_CLEANUP(bxc_json_freep)
bxc_json *bxc_json_dup(const bxc_json *j);

/* Compact text; keys in order of insertion. Owned. */
char *bxc_json_print(const bxc_json *j);
char *bxc_json_print_go(const bxc_json *j);            /* compact, with the escapes of Go's Marshal: < > & U+2028 U+2029 */
char *bxc_json_print_pretty(const bxc_json *j);        /* two blanks of indent, bytes as Go's MarshalIndent */
/* Canonical text for hashing: keys sorted bytewise, no blanks, integers only. Owned. */
char *bxc_json_print_canonical(const bxc_json *j);

/* ---- kinds ---- */
bool bxc_json_is_object(const bxc_json *j);            /* all accept NULL: false */
bool bxc_json_is_array(const bxc_json *j);
bool bxc_json_is_string(const bxc_json *j);
bool bxc_json_is_null(const bxc_json *j);              /* JSON null, not a missing value */

/* ---- reading; a missing member or JSON null is "absent" ---- */
const bxc_json *bxc_json_get(const bxc_json *obj, const char *key);       /* NULL when absent or obj is no object */
size_t bxc_json_len(const bxc_json *j);                                   /* members or elements; 0 otherwise */
const bxc_json *bxc_json_at(const bxc_json *arr, size_t i);               /* walks: prefer BXC_JSON_FOREACH */
const char *bxc_json_key(const bxc_json *member);                         /* name of an object's member */
const char *bxc_json_string(const bxc_json *j);                           /* NULL when not a string */
/* The value when it is one (an integer: also as a string), else false; NULL: false. */
bool bxc_json_as_bool(const bxc_json *j, bool *ret);
bool bxc_json_as_i64(const bxc_json *j, int64_t *ret);
const bxc_json *bxc_json_first(const bxc_json *j);
const bxc_json *bxc_json_next(const bxc_json *child);
#define BXC_JSON_FOREACH(it, j) for (const bxc_json *it = bxc_json_first(j); it; it = bxc_json_next(it))

/* Lenient getters: the fallback when absent or of another kind. */
const char *bxc_json_get_str(const bxc_json *obj, const char *key, const char *fallback);
bool bxc_json_get_bool(const bxc_json *obj, const char *key, bool fallback);
int64_t bxc_json_get_i64(const bxc_json *obj, const char *key, int64_t fallback);
uint64_t bxc_json_get_u64(const bxc_json *obj, const char *key, uint64_t fallback);

/* Demanding getters: BXC_INVALID_ARGUMENT naming the field (detail "field") when absent or of another kind. */
BXC_MUST_CHECK int bxc_json_need_str(const bxc_json *obj, const char *key, const char **ret, bxc_err **err);
BXC_MUST_CHECK int bxc_json_need_u64(const bxc_json *obj, const char *key, uint64_t max, uint64_t *ret, bxc_err **err);
BXC_MUST_CHECK int bxc_json_need_obj(const bxc_json *obj, const char *key, const bxc_json **ret, bxc_err **err);
BXC_MUST_CHECK int bxc_json_need_arr(const bxc_json *obj, const char *key, const bxc_json **ret, bxc_err **err);
/* Absent gives NULL; an array with a non-string is an error. Owned strv. */
BXC_MUST_CHECK int bxc_json_get_strv(const bxc_json *obj, const char *key, char ***ret, bxc_err **err);

/* ---- building; `obj` and `arr` are trees made here; values are copied unless _take ---- */
bxc_json *bxc_json_object(void);
bxc_json *bxc_json_array(void);
bxc_json *bxc_json_new_str(const char *s);             /* invalid UTF-8 is replaced by U+FFFD */
bxc_json *bxc_json_new_i64(int64_t v);
void bxc_json_set_str(bxc_json *obj, const char *key, const char *value);     /* NULL value: no-op */
void bxc_json_set_bool(bxc_json *obj, const char *key, bool value);
void bxc_json_set_i64(bxc_json *obj, const char *key, int64_t value);         /* beyond 2^53: as a string */
void bxc_json_set_number(bxc_json *obj, const char *key, int64_t value);      /* never as a string: foreign formats */
void bxc_json_set_u64(bxc_json *obj, const char *key, uint64_t value);
void bxc_json_set_ns(bxc_json *obj, const char *key, int64_t ns);             /* always as a string: times of the protocol */
void bxc_json_set_null(bxc_json *obj, const char *key);
void bxc_json_set_strv(bxc_json *obj, const char *key, char *const *v);       /* NULL gives [] */
void bxc_json_set_take(bxc_json *obj, const char *key, bxc_json *value);      /* owns value; NULL: no-op; replaces */
void bxc_json_del(bxc_json *obj, const char *key);
void bxc_json_push_take(bxc_json *arr, bxc_json *value);
void bxc_json_push_str(bxc_json *arr, const char *s);
/* Adds an empty object / array and returns it, borrowed. */
bxc_json *bxc_json_add_object(bxc_json *obj, const char *key);
bxc_json *bxc_json_add_array(bxc_json *obj, const char *key);
bxc_json *bxc_json_push_object(bxc_json *arr);
