/* SPDX-License-Identifier: Apache-2.0 */
/* The tests in select_test.c, which run with those of filesync_test.c. */
#pragma once

#include "common/filesync/filesync.h"
#include "common/testing/testing.h"

void trees_survive_their_encoding(void **state);
void malformed_trees_are_refused(void **state);
void selections_cover_what_copy_takes(void **state);
void checksums_follow_content_not_time(void **state);
