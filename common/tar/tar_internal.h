/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/tar/tar.h"

typedef enum tar_packing {
	TAR_PLAIN = 0, /* or nothing that is known */
	TAR_BZIP2,
	TAR_GZIP,
	TAR_XZ,
	TAR_ZSTD,
} tar_packing;

#define TAR_MAGIC_MAX 6u /* bytes that tell the packing */

/* How a file is compressed as a whole, by its first bytes. */
tar_packing tar_packing_of(bxc_slice head);
