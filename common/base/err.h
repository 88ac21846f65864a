/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors that gain context on their way up and keep one machine-readable code.
 *
 * A function that can fail returns int: 0 (or a documented positive value) on success and
 * -bxc_code on failure; its last parameter is `bxc_err **err`. `err` may be NULL when the text
 * does not matter; otherwise `*err` is NULL on entry, untouched on success and set on failure.
 * Outputs `ret_*` are written on success only.
 *
 *     BXC_AUTOERR bxc_err *err = NULL;
 *     int r = bxc_fs_read_file(dir_fd, "config", limit, &buf, &err);
 *     if (r < 0)
 *             return bxc_err_wrap_take(reterr, BXC_TAKE(err), r, "load configuration");
 *
 * or, passing the caller's `err` straight down (the usual form):
 *
 *     r = bxc_fs_read_file(dir_fd, "config", limit, &buf, err);
 *     if (r < 0)
 *             return bxc_err_wrap(err, r, "load configuration");
 *
 * Messages are lower case without a full stop; the error comes first, its subject in single
 * quotes; no secrets. Objects are not shared between threads without a hand-over.
 */
#pragma once

#include <stdarg.h>

#include "common/base/cleanup.h"

/* The codes of gRPC, by number: retry policy and HTTP status follow from them. */
typedef enum bxc_code {
	BXC_OK = 0,
	BXC_CANCELED = 1,
	BXC_UNKNOWN = 2,
	BXC_INVALID_ARGUMENT = 3,
	BXC_DEADLINE_EXCEEDED = 4,
	BXC_NOT_FOUND = 5,
	BXC_ALREADY_EXISTS = 6,
	BXC_PERMISSION_DENIED = 7,
	BXC_RESOURCE_EXHAUSTED = 8,
	BXC_FAILED_PRECONDITION = 9,
	BXC_ABORTED = 10,
	BXC_OUT_OF_RANGE = 11,
	BXC_UNIMPLEMENTED = 12,
	BXC_INTERNAL = 13,
	BXC_UNAVAILABLE = 14,
	BXC_DATA_LOSS = 15,
	BXC_UNAUTHENTICATED = 16,
} bxc_code;

typedef struct bxc_err bxc_err;

/* Sets a new error; returns -code. */
int bxc_err_set(bxc_err **err, bxc_code code, const char *fmt, ...) BXC_PRINTF(3, 4);
int bxc_err_setv(bxc_err **err, bxc_code code, const char *fmt, va_list ap) BXC_PRINTF(3, 0);

/* Sets an error from an errno value (positive), appending ": <text of errno>"; returns -code. */
int bxc_err_errno(bxc_err **err, int errnum, const char *fmt, ...) BXC_PRINTF(3, 4);

/* Prefixes "<text>: " to *err when there is one; returns r unchanged. */
int bxc_err_wrap(bxc_err **err, int r, const char *fmt, ...) BXC_PRINTF(3, 4);

/* Moves `src` (owned, may be NULL) into *err with a prefix; returns r unchanged. */
int bxc_err_wrap_take(bxc_err **err, bxc_err *src, int r, const char *fmt, ...) BXC_PRINTF(4, 5);

/* Moves `src` (owned, may be NULL) into *err; returns its negative code (0 for NULL). */
int bxc_err_move(bxc_err **err, bxc_err *src);

bxc_code bxc_err_code(const bxc_err *e);         /* BXC_OK for NULL */
const char *bxc_err_text(const bxc_err *e);      /* borrowed; "" for NULL */
int bxc_err_errnum(const bxc_err *e);            /* 0 when none */
bxc_err *bxc_err_copy(const bxc_err *e);         /* NULL for NULL */
void bxc_err_free(bxc_err *e);

/*
 * Details are short key/value pairs for decisions and display ("exit_code", "signal", "oom",
 * "file", "line", "line_end", "digest", "layer", "field"); a second set of a key replaces it.
 * No-op when `e` is NULL.
 */
void bxc_err_detail(bxc_err *e, const char *key, const char *fmt, ...) BXC_PRINTF(3, 4);
const char *bxc_err_get_detail(const bxc_err *e, const char *key);   /* borrowed or NULL */
/* i-th detail in order of setting; false past the end. */
bool bxc_err_detail_at(const bxc_err *e, size_t i, const char **ret_key, const char **ret_value);

/* "NOT_FOUND" and back; bxc_code_parse returns BXC_UNKNOWN for a foreign name. */
const char *bxc_code_name(bxc_code code);
bxc_code bxc_code_parse(const char *name);
bxc_code bxc_code_from_errno(int errnum);

/* The status of an HTTP answer that carries the code; 200 for BXC_OK. */
int bxc_code_http_status(bxc_code code);

/* True for codes after which the same request may succeed elsewhere or later. */
bool bxc_code_is_transient(bxc_code code);

static inline void bxc_err_freep(bxc_err **e)
{
	if (*e)
		bxc_err_free(*e);
}
#define BXC_AUTOERR BXC_CLEANUP(bxc_err_freep)
