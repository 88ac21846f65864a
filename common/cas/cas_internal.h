/* SPDX-License-Identifier: Apache-2.0 */
/* Private to common/cas. */
#pragma once

#include "common/cas/cas.h"

/* "blob sha256:... : not found" */
int cas_not_found(const bxc_digest *d, bxc_err **err);
