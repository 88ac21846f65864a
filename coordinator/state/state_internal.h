/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "coordinator/state/state.h"

/* Names for people and filters: an image reference with tag and digest fits. */
#define BXC_STATE_LIMIT_NAME 4096u

int bxc_state__open_sqlite(const char *path, bxc_state **ret, bxc_err **err);
