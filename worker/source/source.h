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
	char *client;                /* session of the client in whose cache it lies, or NULL */
	uint64_t client_cache;       /* number of that cache */
	bool imported;               /* when it can't be had it is lost, not an error */
} bxc_src_layer;

/* A registry or a client has its blob: it need not be unpacked to be passed on. */
static inline bool bxc_src_is_elsewhere(const bxc_src_layer *l)
{
	return l->registry || l->layout || l->client;
}

typedef struct bxc_src_layers {
	BXC_ARR(bxc_src_layer) items;    /* bottom first */
} bxc_src_layers;
void bxc_src_layers_done(bxc_src_layers *l);
BXC_MUST_CHECK int bxc_src_layers_parse(const bxc_json *arr, bxc_src_layers *ret, bxc_err **err);
/* One LAYER at the end of the list. */
BXC_MUST_CHECK int bxc_src_layer_parse(const bxc_json *j, bxc_src_layers *ret, bxc_err **err);

/* dir: an existing folder that is kept, for copies of git repositories; of the file system of snap's. */
BXC_MUST_CHECK int bxc_src_new(bxc_content *content, bxc_snap *snap, const char *dir, bxc_src **ret, bxc_err **err);
void bxc_src_free(bxc_src *s);
BXC_DEFINE_CLEANUP(bxc_src, bxc_src_free);

typedef enum bxc_src_from {
	BXC_SRC_FROM_PEER = 0,
	BXC_SRC_FROM_REGISTRY,
	BXC_SRC_FROM_CLIENT,         /* images in its layouts, by way of the coordinator */
	BXC_SRC_N_FROM,
} bxc_src_from;
/* Bytes that came within duration_ns. Called on the threads that bring them, never for a few. Set before the first use. */
typedef void (*bxc_src_transferred)(bxc_src_from from, uint64_t bytes, int64_t duration_ns, void *ud);
void bxc_src_on_transfer(bxc_src *s, bxc_src_transferred fn, void *ud);

/* Progress of one layer: "sha256:..." done/total, then extracting. Called from several threads. */
typedef struct bxc_src_progress {
	void (*fn)(const bxc_src_layer *l, const char *what, uint64_t current, uint64_t total, bool done, void *ud);
	void *ud;
} bxc_src_progress;

/* What clients can be asked for; any thread. */
typedef struct bxc_src_client {
	/* Of the client of the task's build; *ret stays NULL when it has no such secret. */
	int (*secret)(const char *id, bxc_secret **ret, void *ud, bxc_err **err);
	/* The bytes of a file that a client has announced, or of a blob of its cache; verified by the caller. */
	int (*layout)(const char *build, const char *store, const bxc_digest *d, bxc_sink_fn sink, void *sink_ud, void *ud, bxc_err **err);
	int (*cache)(const char *session, uint64_t cache, const bxc_digest *d, bxc_sink_fn sink, void *sink_ud, void *ud, bxc_err **err);
	int (*upload)(const bxc_digest *d, bxc_sink_fn sink, void *sink_ud, void *ud, bxc_err **err);
	/* Does the client forward this SSH agent? NOT_FOUND: no. Connects a socket, which is taken, to it. */
	int (*agent_check)(const char *id, void *ud, bxc_err **err);
	void (*agent_connect)(const char *id, int fd_take, void *ud);
	void *ud;
	bxc_cancel *cancel;
} bxc_src_client;

/* How a task reaches what is outside of the cluster; any thread. */
typedef struct bxc_src_reach {
	bxc_reg *reg;
	const bxc_src_client *client;
} bxc_src_reach;

/*
 * Makes every layer present, fetching what is missing side by side: from a peer or the registry,
 * verified against blob digest and diff id while it is unpacked. A layer that another task is
 * fetching is waited for. On failure `ret_lost` (strv, may grow) names layers that no source could
 * give although one promised to (peer gone, cache gone, damaged): the result of somebody else is lost.
 */
BXC_MUST_CHECK int bxc_src_ensure(bxc_src *s, const bxc_src_layers *layers, const bxc_src_reach *reach, bxc_cancel *cancel,
	const bxc_src_progress *progress, char ***ret_lost, bxc_err **err);

/* A located tree of the coordinator, with all its packs in the store. */
BXC_MUST_CHECK int bxc_src_tree(bxc_src *s, const bxc_digest *d, bxc_cancel *cancel, bxc_tree **ret, bxc_err **err);

/* ---- blobs ---- */

typedef struct bxc_src_form {
	bxc_compression compression;
	int level;                   /* 0: the default */
	bool force;                  /* layers of elsewhere too, when they are compressed in another way */
	int64_t latest_s;            /* no file of a built layer is later; INT64_MAX: as they are */
} bxc_src_form;
/* "compression", "compression-level", "force-compression" of an output. */
BXC_MUST_CHECK int bxc_src_form_parse(const bxc_json *attrs, bxc_src_form *ret, bxc_err **err);

/*
 * The topmost of `ids[0..n)` (bottom first, present), a layer of ours, as a blob in the store: the
 * difference to those below. Made once for each form, and remembered unless times are bounded.
 */
BXC_MUST_CHECK int bxc_src_own_blob(bxc_src *s, const char *const *ids, size_t n, const bxc_src_form *f, bxc_cancel *cancel,
	bxc_descriptor *ret, bxc_digest *ret_diff_id, bxc_err **err);
/*
 * The topmost layer of a chain as a blob. *ret_elsewhere: it is the one that a registry or client has,
 * and may not be in the store; else it is there. Layers that are packed, and what they were made upon
 * (n_below), are present.
 */
BXC_MUST_CHECK int bxc_src_blob(bxc_src *s, const bxc_src_layer *const *chain, size_t n, const bxc_src_form *f,
	const bxc_src_reach *reach, bxc_cancel *cancel, bxc_descriptor *ret, bxc_digest *ret_diff_id, bool *ret_elsewhere,
	bxc_err **err);
/* The blob of a layer of elsewhere, in the store. When an imported one can't be had the error has the detail
 * "lost_layer". */
BXC_MUST_CHECK int bxc_src_elsewhere_blob(bxc_src *s, const bxc_src_layer *l, const bxc_src_reach *reach, bxc_cancel *cancel,
	bxc_err **err);

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
