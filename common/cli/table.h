/* SPDX-License-Identifier: Apache-2.0 */
/* Aligned text tables, for `ls` and the like. */
#pragma once

#include "common/base/cleanup.h"

typedef struct bxc_table bxc_table;

/* `headers` (static strings): NULL-terminated; a leading '>' aligns the column to the right. */
bxc_table *bxc_table_new(const char *const *headers);
void bxc_table_free(bxc_table *t);
BXC_DEFINE_CLEANUP(bxc_table, bxc_table_free);

/* One cell per column, copied; NULL prints as "-". Control characters are shown as '?'. */
void bxc_table_add_row(bxc_table *t, const char *const *cells);
/* Columns are padded to their widest cell and parted by three blanks; no blanks at line ends. */
void bxc_table_print(const bxc_table *t, FILE *f);

/* "1.5 GB" (powers of 1000, as docker shows sizes); "45s", "3m", "7h", "12d"; owned. */
char *bxc_table_size(uint64_t bytes);
char *bxc_table_age(int64_t age_ns);
