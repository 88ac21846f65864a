/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/config/config.h"

/*
 * Called for each "key = value" line, value as written (trimmed at its start only). Parsing ends
 * when it fails.
 */
typedef int (*bxc_cfg__line_fn)(
	unsigned line, const char *key, const char *value, void *ud, bxc_err **err);

/* The lines of a file. Errors get "name:line: " put before them, those of fn too. */
BXC_MUST_CHECK int bxc_cfg__parse_lines(
	const char *name, bxc_slice text, bxc_cfg__line_fn fn, void *ud, bxc_err **err);
/* A value as it is written in a file: quotes, comment. The elements of a list, or one element. */
BXC_MUST_CHECK int bxc_cfg__parse_value(const char *text, bool is_list, char ***ret, bxc_err **err);
/* Writes an element so that parse_value reads it back. */
void bxc_cfg__print_element(const char *s, bool in_list, FILE *f);
