/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Outputs of builds: images pushed to registries, image archives, trees. Module prefix: bxc_exp.
 * Blocks; any thread.
 */
#pragma once

#include "common/codec/json.h"
#include "worker/source/source.h"

/* One platform of the result. */
typedef struct bxc_exp_image {
	bxc_platform platform;
	bxc_src_layers layers;
	bxc_oci_config *config;      /* without diff ids of layers beyond the base's */
	char *inline_cache;          /* for the configuration; NULL: none */
	const bxc_json *attestations;   /* [{"predicate_type", "predicate"}], borrowed; NULL: none */
} bxc_exp_image;

typedef struct bxc_exp_request {
	const char *type;            /* image, oci, docker, local, tar */
	const bxc_json *attrs;       /* {"name": "a,b", "push": "true", ...} */
	BXC_ARR(bxc_exp_image) images;
	bool multi_platform;         /* the result is of several platforms, were it one */
	int64_t now_ns;
	bool has_epoch;              /* SOURCE_DATE_EPOCH: no time of the result is later */
	int64_t epoch_ns;
	/* Opens the stream to the client; for all but image. */
	int (*open)(bxc_sink_fn *ret_sink, void **ret_sink_ud, void *ud, bxc_err **err);
	void (*status)(const char *id, uint64_t current, uint64_t total, bool done, void *ud);
	void *ud;
	const bxc_src_reach *reach;
	bxc_cancel *cancel;
} bxc_exp_request;
void bxc_exp_request_done(bxc_exp_request *q);

/* Runs one export; every layer must be present (bxc_src_ensure). ret_response: see PROTOCOL.md; owned. */
BXC_MUST_CHECK int bxc_exp_run(bxc_src *src, bxc_snap *snap, bxc_content *content, const bxc_exp_request *q, bxc_json **ret_response, bxc_err **err);
