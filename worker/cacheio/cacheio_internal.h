/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "worker/cacheio/cacheio.h"

/* A cache ready to be written. */
typedef struct cio_made {
	BXC_ARR(size_t) layers;	       /* of the cache, one for each blob */
	BXC_ARR(bxc_descriptor) blobs; /* parallel: as the manifest has them */
	bxc_descriptor config;
	char *config_text;
	bxc_descriptor manifest;
	char *manifest_text;
} cio_made;

int cio_to_registry(
	bxc_content *content, const bxc_cio_request *q, const cio_made *m, bxc_err **err);
int cio_to_client(bxc_content *content, const bxc_cio_request *q, const cio_made *m, bxc_err **err);
