/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/config/config.h"

/* Returns the exit code: 0 clean, 1 something was damaged, or it could not be looked at. */
int coordinator_fsck(const bxc_cfg *cfg);
