/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured logging to standard error: JSON lines, or aligned text on a terminal.
 * A function returns an error or logs it, never both. Thread-safe.
 *
 *     bxc_log(BXC_LOG_INFO, "worker.joined", "worker", name, "platforms", list, NULL);
 */
#pragma once

#include "common/base/cleanup.h"
#include "common/base/err.h"

typedef enum bxc_log_level {
	BXC_LOG_DEBUG = 0,
	BXC_LOG_INFO,      /* per build or task */
	BXC_LOG_NOTICE,    /* life of the process */
	BXC_LOG_WARN,      /* degraded */
	BXC_LOG_ERROR,     /* an operator must act */
} bxc_log_level;

typedef enum bxc_log_format {
	BXC_LOG_AUTO = 0,  /* text on a terminal, JSON elsewhere */
	BXC_LOG_TEXT,
	BXC_LOG_JSON,
} bxc_log_format;

/* Call before threads start. `program` is copied. */
void bxc_log_setup(const char *program, bxc_log_level min_level, bxc_log_format format);
BXC_MUST_CHECK int bxc_log_level_parse(const char *s, bxc_log_level *ret, bxc_err **err);

/* Pairs of const char *key, value (a NULL value prints as ""), then NULL. */
void bxc_log(bxc_log_level level, const char *event, ...) BXC_SENTINEL;
/* The same with the text and code of `e` as fields "error" and "code". */
void bxc_log_err(bxc_log_level level, const char *event, const bxc_err *e, ...) BXC_SENTINEL;
