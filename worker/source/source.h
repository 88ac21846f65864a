/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing the inputs of tasks: layers from registries and peers, context trees from the
 * coordinator; and turning layers back into blobs. Module prefix: bxc_src. Any thread; blocks.
 */
#pragma once

#include "common/codec/json.h"
#include "common/definition/definition.h"
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
	char *layout, *layout_build; /* an OCI layout of the client of that build; NULL: none */
	const struct bxc_src_client *client;   /* asked for it */
} bxc_src_layer;

typedef struct bxc_src_layers {
	BXC_ARR(bxc_src_layer) items;    /* bottom first */
} bxc_src_layers;
void bxc_src_layers_done(bxc_src_layers *l);
/* c: what is asked for layers of OCI layouts; borrowed as long as the layers live. */
struct bxc_src_client;
BXC_MUST_CHECK int bxc_src_layers_parse(const bxc_json *arr, const struct bxc_src_client *c, bxc_src_layers *ret, bxc_err **err);
/* Of an image: its blob is exported as it is. */
static inline bool bxc_src_is_image_layer(const bxc_src_layer *l)
{
	return l->registry || l->layout;
}

/* dir: an existing folder that is kept, for copies of git repositories; of the file system of snap's. */
BXC_MUST_CHECK int bxc_src_new(bxc_content *content, bxc_snap *snap, const char *dir, bxc_src **ret, bxc_err **err);
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
 * for each compression and remembered (level 0, the default). latest_s: no file is later, INT64_MAX: as they are.
 */
BXC_MUST_CHECK int bxc_src_image_blob(bxc_src *s, char *const *layers, size_t n, bxc_compression c, int level, int64_t latest_s, bxc_cancel *cancel,
	bxc_descriptor *ret, bxc_digest *ret_diff_id, bxc_err **err);
/* The own blob of an image layer, in the store. */
BXC_MUST_CHECK int bxc_src_own_blob(bxc_src *s, const bxc_src_layer *l, bxc_reg *reg, bxc_cancel *cancel, bxc_err **err);

/* ---- sources that lie elsewhere: git repositories, files of web servers, files that a client sends ---- */

/* What a source was found to be. Strings are owned, or NULL. */
typedef struct bxc_src_pin {
	char *id;                    /* git: the commit; else the digest of the file */
	char *ref;                   /* git: the whole name of the branch or tag */
	char *filename;              /* http: as the server calls the file */
	char *etag;                  /* http */
	int64_t time_ns;             /* http: Last-Modified; git: of the commit, where asked for; INT64_MIN: not known */
} bxc_src_pin;
void bxc_src_pin_done(bxc_src_pin *p);
#define BXC_AUTOSRCPIN BXC_CLEANUP(bxc_src_pin_done)
/* A PIN of PROTOCOL.md; from_json takes NULL for one of which nothing is known. */
bxc_json *bxc_src_pin_to_json(const bxc_src_pin *p);
BXC_MUST_CHECK int bxc_src_pin_from_json(const bxc_json *j, bxc_src_pin *ret, bxc_err **err);

/* What the client of a build can be asked for. */
typedef struct bxc_src_client {
	/* *ret stays NULL when it has no such secret. */
	int (*secret)(const char *id, bxc_secret **ret, void *ud, bxc_err **err);
	/* The bytes of a file that it has announced; verified by the caller. */
	int (*layout)(const char *build, const char *store, const bxc_digest *d, bxc_sink_fn sink, void *sink_ud, void *ud, bxc_err **err);
	int (*upload)(const bxc_digest *d, bxc_sink_fn sink, void *sink_ud, void *ud, bxc_err **err);
	void *ud;
	bxc_cancel *cancel;
} bxc_src_client;

/*
 * What the source stands for now; nothing is asked when its name tells. `known` (may be NULL) is what an earlier
 * question found: a server that says that nothing has changed is believed. want_time: that of a commit is found out
 * too, which fetches it.
 */
BXC_MUST_CHECK int bxc_src_resolve(bxc_src *s, const bxc_op_source *op, const bxc_src_pin *known, bool want_time,
	const bxc_src_client *c, bxc_src_pin *ret, bxc_err **err);
/* Writes the source, as `pin` says it was found, into the empty folder dir_fd. */
BXC_MUST_CHECK int bxc_src_write(bxc_src *s, const bxc_op_source *op, const bxc_src_pin *pin, const bxc_src_client *c,
	int dir_fd, bxc_err **err);
