/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Canonical JSON written straight into a buffer: the text that bxc_json_print_canonical() gives of
 * the tree with the same content, without the tree. For what is made only to be hashed.
 *
 * Keys of an object are names that need no escape, come sorted bytewise, each once, and live until
 * the object ends; disorder, more than BXC_JSON_WRITER_DEPTH levels, or an end without its begin is
 * a bug and aborts. `key` is NULL for elements of arrays and for the value at the top.
 */
#pragma once

#include "common/base/buf.h"

#define BXC_JSON_WRITER_DEPTH 8u

typedef struct bxc_json_writer {
	bxc_buf out;
	unsigned depth;
	struct {
		bool is_array, has_any;
		const char *key; /* the last one */
	} level[BXC_JSON_WRITER_DEPTH];
} bxc_json_writer;

void bxc_json_writer_init(bxc_json_writer *w);
void bxc_json_writer_done(bxc_json_writer *w);
#define BXC_AUTOJSONWRITER BXC_CLEANUP(bxc_json_writer_done)
/* What was written, borrowed until the next call; all objects and arrays must have ended. */
bxc_slice bxc_json_writer_text(const bxc_json_writer *w);

void bxc_json_writer_begin_object(bxc_json_writer *w, const char *key);
void bxc_json_writer_begin_array(bxc_json_writer *w, const char *key);
void bxc_json_writer_end(bxc_json_writer *w); /* of the innermost one */
/* Invalid UTF-8 is replaced by U+FFFD, as in trees. */
void bxc_json_writer_str(bxc_json_writer *w, const char *key, const char *value);
/* A value as it was written before: a part of such a text. */
void bxc_json_writer_raw(bxc_json_writer *w, const char *key, bxc_slice text);
void bxc_json_writer_bool(bxc_json_writer *w, const char *key, bool value);
/* Beyond 2^53 as strings, as in trees. */
void bxc_json_writer_i64(bxc_json_writer *w, const char *key, int64_t value);
void bxc_json_writer_u64(bxc_json_writer *w, const char *key, uint64_t value);
