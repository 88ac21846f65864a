/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/config/config.h"

/* Returns the exit code: 0 clean, 1 something was damaged (and put out of use), or it could not be
 * looked at. */
int worker_fsck(const bxc_cfg *cfg);
