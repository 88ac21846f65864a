/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Build caches outside of the cluster, in the documents BuildKit has for them. Module prefix:
 * bxc_cc. Form and what of it is ours: FORMAT.md. Pure: text in, values out.
 *
 * A cache says: who looks for `key` may have the result whose topmost layer is `layer`, and its
 * users build their keys upon `canonical`. Keys are of our solver; those of BuildKit are another
 * thing, so that a cache of the one is well-formed for the other but yields no hit there.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/err.h"
#include "common/oci/oci.h"

#define BXC_MT_CACHE_CONFIG "application/vnd.buildkit.cacheconfig.v0"
#define BXC_CC_INLINE_KEY                                                                          \
	"moby.buildkit.cache.v0"	 /* of an image configuration: base64 of records */
#define BXC_CC_LIMIT_BYTES   (16u << 20) /* of one document */
#define BXC_CC_LIMIT_LAYERS  50000u
#define BXC_CC_LIMIT_RECORDS 200000u

typedef struct bxc_cc_layer {
	bxc_descriptor
		blob;	    /* without annotations; digest set; media type NULL, size 0: not told */
	int32_t parent;	    /* the layer below, -1: none; never a circle */
	bxc_digest diff_id; /* alg 0: not told */
	int64_t created_ns; /* when a build made it; 0: a layer of a base image */
	uint32_t n_below;   /* how many right below it, it was made upon; UINT32_MAX: all */
} bxc_cc_layer;

typedef struct bxc_cc_record {
	bxc_digest key;
	bxc_digest canonical;
	int32_t layer; /* topmost of the result; -1: only the key is told of */
} bxc_cc_record;

typedef struct bxc_cc {
	BXC_ARR(bxc_cc_layer) layers;
	BXC_ARR(bxc_cc_record) records;
} bxc_cc;

void bxc_cc_done(bxc_cc *c);
#define BXC_AUTOCC BXC_CLEANUP(bxc_cc_done)

/*
 * Reads a cache configuration. Records that are none of ours are passed over. INVALID_ARGUMENT for
 * what no BuildKit would write: a layer or link out of range, a circle; RESOURCE_EXHAUSTED beyond a
 * limit. Layers of one chain are at most BXC_LIMIT_IMAGE_LAYERS. `ret` is zeroed or done.
 */
BXC_MUST_CHECK int bxc_cc_parse(bxc_slice text, bxc_cc *ret, bxc_err **err);
char *bxc_cc_print(const bxc_cc *c); /* owned; the same value gives the same bytes */

/* The records alone, as an image configuration holds them: layer numbers are those of the image. */
BXC_MUST_CHECK int bxc_cc_parse_inline(
	bxc_slice records, size_t n_layers, bxc_cc *ret, bxc_err **err);
char *bxc_cc_print_inline(const bxc_cc *c);

/*
 * Finds the cache configuration that a manifest (an image manifest, or an index of blobs) speaks
 * of: 1 and *ret, to be freed; 0: it is a manifest of something else.
 */
BXC_MUST_CHECK int bxc_cc_of_manifest(bxc_slice manifest, bxc_descriptor *ret, bxc_err **err);

/* How a cache is written: read from the attributes of --cache-to, which are strings. */
typedef struct bxc_cc_form {
	bool oci;	     /* media types; else Docker's */
	bool image_manifest; /* else an index of blobs, as before BuildKit 0.21 */
} bxc_cc_form;
BXC_MUST_CHECK int bxc_cc_form_parse(const bxc_json *attrs, bxc_cc_form *ret, bxc_err **err);
/* The manifest of a cache whose configuration is `config` and whose blobs are `layers` (each once);
 * owned. *ret_type: its media type, static. */
char *bxc_cc_print_manifest(const bxc_cc_form *f, const bxc_descriptor *config,
	const bxc_descriptor *layers, size_t n, const char **ret_type);
