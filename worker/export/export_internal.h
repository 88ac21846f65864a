/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "worker/export/export.h"

/* One manifest as it will be written, and what it refers to. */
typedef struct made_image {
	bxc_platform platform;
	bxc_oci_manifest manifest;
	char *manifest_text;
	bxc_descriptor manifest_desc;
	char **manifest_annotations; /* of manifest_desc, until it is made */
	char *config_text;
	BXC_ARR(const bxc_src_layer *) elsewhere;   /* parallel to manifest.layers: whose blob it is; NULL: it is in the store */
} made_image;

/* A small document and the descriptor that names it. */
typedef struct made_text {
	bxc_descriptor desc;
	char *text;
} made_text;

/* The manifest of what is stated about one image. */
typedef struct made_attest {
	made_text manifest, config;
	BXC_ARR(made_text) statements;
} made_attest;

typedef enum annotate_what {
	ANNOTATE_MANIFEST = 0,
	ANNOTATE_INDEX,
	ANNOTATE_MANIFEST_DESCRIPTOR,
	ANNOTATE_INDEX_DESCRIPTOR,
	ANNOTATE_N,
} annotate_what;

/* annotate.c: what attributes say about one image; strv "key=value", sorted. */
typedef struct annotations {
	char **of[ANNOTATE_N];
} annotations;
void annotations_done(annotations *a);
/* platform: of the image; NULL: only what is said of all. */
int annotations_read(const bxc_exp_request *q, const bxc_platform *platform, annotations *ret, bxc_err **err);

typedef struct made {
	BXC_ARR(made_image) images;
	BXC_ARR(made_attest) attests;
	char *index_text;            /* several platforms, or attestations */
	bxc_descriptor top;          /* index or manifest */
} made;

void made_done(made *m);
/* Layers, configurations, manifests, index; nothing is sent. */
int make_images(bxc_src *src, const bxc_exp_request *q, char *const *names, made *ret, bxc_err **err);
/* attest.c: what is stated about images.v[i] for q->images.v[i]; names are full references. */
int make_attest(const bxc_exp_request *q, const bxc_exp_image *in, const made_image *img, char *const *names, made_attest *ret, bxc_err **err);
/* One statement; `subjects` (array) is taken. Owned text. */
char *statement_print(const bxc_json *attestation, bxc_json *subjects_take, const char **ret_type, bxc_err **err);
void made_attest_done(made_attest *a);
/* {"name", "digest"} at the end of `list`. */
void add_subject(bxc_json *list, const char *name, const bxc_digest *d);
int export_tree(bxc_snap *snap, const bxc_exp_request *q, bxc_err **err);
int push_images(bxc_src *src, bxc_content *content, const bxc_exp_request *q, const made *m, char *const *names, bxc_err **err);
/* A tar of an OCI layout; with manifest.json for docker. */
int write_archive(bxc_src *src, bxc_content *content, const bxc_exp_request *q, const made *m, char *const *names, bxc_err **err);
const char *attr(const bxc_exp_request *q, const char *key);
