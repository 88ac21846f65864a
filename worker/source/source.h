/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing the inputs of tasks: layers from registries and peers, context trees from the
 * coordinator; and turning layers back into blobs. Module prefix: bxc_src. Any thread; blocks.
 */
#pragma once

#include "common/codec/json.h"
#include "common/filesync/filesync.h"
#include "common/oci/oci.h"
#include "worker/content/content.h"
#include "worker/snapshot/snapshot.h"

typedef struct bxc_src bxc_src;

/* One LAYER of PROTOCOL.md. */
typedef struct bxc_src_layer {
	char *id;
	char *vertex;                /* digest text of the source vertex; NULL: none */
	uint64_t size;
	size_t n_below;              /* how many right below it, it was made upon; SIZE_MAX: all of them */
	int64_t created_ns;          /* when it was built; 0: not known (image layers) */
	bxc_digest diff_id;          /* alg 0: not known */
	bxc_descriptor blob;         /* digest alg 0: none */
	char **peers;                /* strv of URLs */
	char *registry;              /* "docker.io/library/busybox" or NULL */
} bxc_src_layer;

typedef struct bxc_src_layers {
	BXC_ARR(bxc_src_layer) items;    /* bottom first */
} bxc_src_layers;
void bxc_src_layers_done(bxc_src_layers *l);
BXC_MUST_CHECK int bxc_src_layers_parse(const bxc_json *arr, bxc_src_layers *ret, bxc_err **err);

BXC_MUST_CHECK int bxc_src_new(bxc_content *content, bxc_snap *snap, bxc_src **ret, bxc_err **err);
void bxc_src_free(bxc_src *s);
BXC_DEFINE_CLEANUP(bxc_src, bxc_src_free);

/* Progress of one layer: "sha256:..." done/total, then extracting. Called from several threads. */
typedef struct bxc_src_progress {
	void (*fn)(const bxc_src_layer *l, const char *what, uint64_t current, uint64_t total, bool done, void *ud);
	void *ud;
} bxc_src_progress;

/*
 * Makes every layer present, fetching what is missing side by side: from a peer or the registry,
 * verified against blob digest and diff id while it is unpacked. A layer that another task is
 * fetching is waited for. On failure `ret_lost` (strv, may grow) names layers that no source could
 * give although one promised to (peer gone, damaged): the result of somebody else is lost.
 */
BXC_MUST_CHECK int bxc_src_ensure(bxc_src *s, const bxc_src_layers *layers, bxc_reg *reg, bxc_cancel *cancel,
	const bxc_src_progress *progress, char ***ret_lost, bxc_err **err);

/* A located tree of the coordinator, with all its packs in the store. */
BXC_MUST_CHECK int bxc_src_tree(bxc_src *s, const bxc_digest *d, bxc_cancel *cancel, bxc_tree **ret, bxc_err **err);

/*
 * The topmost of `layers[0..n)` (bottom first) as a blob: the difference to those below. Made once
 * for each compression and remembered (level 0, the default).
 */
BXC_MUST_CHECK int bxc_src_image_blob(bxc_src *s, char *const *layers, size_t n, bxc_compression c, int level, bxc_cancel *cancel,
	bxc_descriptor *ret, bxc_digest *ret_diff_id, bxc_err **err);
/* The registry's own blob of an image layer, in the store. */
BXC_MUST_CHECK int bxc_src_registry_blob(bxc_src *s, const bxc_src_layer *l, bxc_reg *reg, bxc_cancel *cancel, bxc_err **err);
