/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OCI and Docker image documents: platforms, references, descriptors, index, manifest, config.
 * Module prefix: bxc_oci (bxc_platform and bxc_ref for the two small types).
 * Spec: OCI image-spec 1.1, distribution/reference grammar, Docker image spec v1.3.
 */
#pragma once

#include "common/base/arr.h"
#include "common/base/err.h"
#include "common/base/str.h"
#include "common/codec/compress.h"
#include "common/codec/digest.h"
#include "common/codec/json.h"

/* ---- media types ---- */
#define BXC_MT_OCI_INDEX        "application/vnd.oci.image.index.v1+json"
#define BXC_MT_OCI_MANIFEST     "application/vnd.oci.image.manifest.v1+json"
#define BXC_MT_OCI_CONFIG       "application/vnd.oci.image.config.v1+json"
#define BXC_MT_OCI_LAYER        "application/vnd.oci.image.layer.v1.tar"
#define BXC_MT_OCI_LAYER_GZIP   "application/vnd.oci.image.layer.v1.tar+gzip"
#define BXC_MT_OCI_LAYER_ZSTD   "application/vnd.oci.image.layer.v1.tar+zstd"
#define BXC_MT_OCI_EMPTY        "application/vnd.oci.empty.v1+json"
#define BXC_MT_IN_TOTO          "application/vnd.in-toto+json"
#define BXC_MT_DOCKER_LIST      "application/vnd.docker.distribution.manifest.list.v2+json"
#define BXC_MT_DOCKER_MANIFEST  "application/vnd.docker.distribution.manifest.v2+json"
#define BXC_MT_DOCKER_CONFIG    "application/vnd.docker.container.image.v1+json"
#define BXC_MT_DOCKER_LAYER_GZIP "application/vnd.docker.image.rootfs.diff.tar.gzip"
#define BXC_MT_DOCKER_LAYER     "application/vnd.docker.image.rootfs.diff.tar"

bool bxc_oci_is_index(const char *media_type);
bool bxc_oci_is_manifest(const char *media_type);
bool bxc_oci_is_layer(const char *media_type);
/* The type of a layer in the family that its manifest has; types of one family only stay as they are. */
const char *bxc_oci_layer_type(const char *media_type, bool oci);

/* ---- platform: a value with inline strings ---- */
typedef struct bxc_platform {
	char os[32];
	char arch[32];
	char variant[16];            /* "" when none */
	char os_version[64];         /* "" when none */
} bxc_platform;

/* "linux/amd64", "arm64", "linux/arm/v7"; normalised (x86_64 -> amd64, aarch64 -> arm64, arm64/v8 -> arm64). */
BXC_MUST_CHECK int bxc_platform_parse(const char *s, bxc_platform *ret, bxc_err **err);
char *bxc_platform_str(const bxc_platform *p);                      /* owned: "linux/arm/v7" */
bool bxc_platform_eq(const bxc_platform *a, const bxc_platform *b);
bxc_platform bxc_platform_host(void);
/* May an image of `have` run where `want` is asked for? Higher is better; -1: no. (arm/v7 takes arm/v6.) */
int bxc_platform_match(const bxc_platform *want, const bxc_platform *have);
bxc_platform bxc_platform_normalize(bxc_platform p);

/* ---- reference ---- */
typedef struct bxc_ref {
	char *domain;                /* "docker.io", "localhost:5000" */
	char *path;                  /* "library/busybox" */
	char *tag;                   /* NULL when only a digest is given */
	bxc_digest digest;           /* alg 0 when none */
} bxc_ref;

/* Docker's normalisation: "busybox" is docker.io/library/busybox:latest (tag only when no digest). */
BXC_MUST_CHECK int bxc_ref_parse(const char *s, bxc_ref *ret, bxc_err **err);
void bxc_ref_done(bxc_ref *r);
#define BXC_AUTOREF BXC_CLEANUP(bxc_ref_done)
void bxc_ref_copy(bxc_ref *dst, const bxc_ref *src);
char *bxc_ref_str(const bxc_ref *r);                                /* owned, full: docker.io/library/busybox:latest@sha256:... */
char *bxc_ref_familiar(const bxc_ref *r);                           /* owned, short: busybox:latest */
char *bxc_ref_repo(const bxc_ref *r);                               /* owned: docker.io/library/busybox */
/* Owned package URL: pkg:docker/busybox@latest?digest=...&platform=linux%2Famd64; `p` may be NULL. */
char *bxc_ref_purl(const bxc_ref *r, const bxc_platform *p);

/* ---- descriptor ---- */
typedef struct bxc_descriptor {
	char *media_type;
	bxc_digest digest;
	uint64_t size;               /* bytes */
	bool has_platform;
	bxc_platform platform;
	char **annotations;          /* strv "key=value" or NULL */
	char **urls;                 /* foreign layers */
	char *data;                  /* the content itself, base64; written, never read: NULL after parsing */
} bxc_descriptor;

void bxc_descriptor_done(bxc_descriptor *d);
void bxc_descriptor_copy(bxc_descriptor *dst, const bxc_descriptor *src);   /* dst is overwritten, not freed */
/* Of a document that is at hand; `ret` is overwritten. */
void bxc_descriptor_of_text(bxc_descriptor *ret, const char *media_type, const char *text);
bxc_json *bxc_descriptor_to_json(const bxc_descriptor *d);
BXC_MUST_CHECK int bxc_descriptor_from_json(const bxc_json *j, bxc_descriptor *ret, bxc_err **err);

/* ---- manifest and index ---- */
typedef struct bxc_oci_manifest {
	char *media_type;
	char *artifact_type;         /* NULL: an image */
	bxc_descriptor config;
	BXC_ARR(bxc_descriptor) layers;
	bool has_subject;
	bxc_descriptor subject;      /* the manifest that this one speaks of */
	char **annotations;
} bxc_oci_manifest;

void bxc_oci_manifest_done(bxc_oci_manifest *m);
BXC_MUST_CHECK int bxc_oci_manifest_parse(bxc_slice text, bxc_oci_manifest *ret, bxc_err **err);
char *bxc_oci_manifest_print(const bxc_oci_manifest *m);            /* owned; 2-blank indent like BuildKit */

typedef struct bxc_oci_index {
	char *media_type;
	BXC_ARR(bxc_descriptor) manifests;
	char **annotations;
} bxc_oci_index;

void bxc_oci_index_done(bxc_oci_index *i);
bool bxc_oci_text_is_index(bxc_slice text);                         /* rather than a manifest, where no media type tells */
BXC_MUST_CHECK int bxc_oci_index_parse(bxc_slice text, bxc_oci_index *ret, bxc_err **err);
char *bxc_oci_index_print(const bxc_oci_index *i);
/* The best manifest for `want`, borrowed, or NULL (attestation manifests are never chosen). */
const bxc_descriptor *bxc_oci_index_select(const bxc_oci_index *i, const bxc_platform *want);

/* ---- image config (Docker image spec v1.3 fields; others are dropped) ---- */
typedef struct bxc_oci_history {
	int64_t created_ns;          /* INT64_MIN: absent */
	char *created_by;            /* NULL: absent */
	char *author;
	char *comment;
	bool empty_layer;
} bxc_oci_history;

typedef struct bxc_oci_healthcheck {
	bool is_set;
	char **test;
	int64_t interval_ns, timeout_ns, start_period_ns, start_interval_ns;
	int64_t retries;
} bxc_oci_healthcheck;

typedef struct bxc_oci_config {
	int64_t created_ns;          /* INT64_MIN: absent */
	char *author;
	bxc_platform platform;
	/* "config" */
	char *user;
	char **exposed_ports;        /* keys, sorted when printed */
	char **env;
	char **entrypoint;           /* NULL: absent */
	char **cmd;                  /* NULL: absent */
	char **volumes;              /* keys */
	char *working_dir;
	char **labels;               /* strv "key=value"; keys may hold no '=' */
	char *stop_signal;
	bxc_oci_healthcheck healthcheck;
	bool args_escaped;
	char **on_build;
	char **shell;
	/* rootfs */
	BXC_ARR(bxc_digest) diff_ids;
	BXC_ARR(bxc_oci_history) history;
	/* "moby.buildkit.cache.v0", as base64: written only. An image does not inherit what its base holds for caches. */
	char *inline_cache;
} bxc_oci_config;

bxc_oci_config *bxc_oci_config_new(void);                           /* times absent */
bxc_oci_config *bxc_oci_config_dup(const bxc_oci_config *c);
void bxc_oci_config_free(bxc_oci_config *c);
BXC_DEFINE_CLEANUP(bxc_oci_config, bxc_oci_config_free);
BXC_MUST_CHECK int bxc_oci_config_parse(bxc_slice text, bxc_oci_config **ret, bxc_err **err);
/* Field order and omissions as Go's encoder writes the Docker image config; owned. */
char *bxc_oci_config_print(const bxc_oci_config *c);
/* The full document as a tree, for transport inside other messages (no rootfs fields lost). */
bxc_json *bxc_oci_config_to_json(const bxc_oci_config *c);
BXC_MUST_CHECK int bxc_oci_config_from_json(const bxc_json *j, bxc_oci_config **ret, bxc_err **err);
bxc_oci_history *bxc_oci_config_add_history(bxc_oci_config *c);     /* zeroed with created_ns absent; borrowed */

/* ---- attributes of outputs: {"push": "true", "name": "a,b", ...} of a request ---- */
/* A key without a value is true; without the key the fallback. */
BXC_MUST_CHECK int bxc_output_bool(const bxc_json *attrs, const char *key, bool fallback, bool *ret, bxc_err **err);
/* "name" as full references; owned strv, untouched when there is none. */
BXC_MUST_CHECK int bxc_output_names(const bxc_json *attrs, char ***ret, bxc_err **err);
/* "compression" and "compression-level"; gzip and 0 (the codec's own) by default; UNIMPLEMENTED: estargz. */
BXC_MUST_CHECK int bxc_output_compression(const bxc_json *attrs, bxc_compression *ret, int *ret_level, bxc_err **err);
