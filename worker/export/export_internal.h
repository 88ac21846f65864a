/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "worker/export/export.h"

/* One manifest as it will be written, and what it refers to. */
typedef struct made_image {
	bxc_platform platform;
	bxc_oci_manifest manifest;
	char *manifest_text;
	bxc_descriptor manifest_desc;
	char *config_text;
	BXC_ARR(const bxc_src_layer *) base;   /* parallel to manifest.layers: the image layer of a registry, or NULL: in the store */
} made_image;

typedef struct made {
	BXC_ARR(made_image) images;
	char *index_text;            /* several platforms */
	bxc_descriptor top;          /* index or manifest */
} made;

void made_done(made *m);
/* Layers, configurations, manifests, index; nothing is sent. */
int make_images(bxc_src *src, const bxc_exp_request *q, made *ret, bxc_err **err);
int push_images(bxc_src *src, bxc_content *content, const bxc_exp_request *q, const made *m, char *const *names, bxc_err **err);
/* A tar of an OCI layout; with manifest.json for docker. */
int write_archive(bxc_src *src, bxc_content *content, const bxc_exp_request *q, const made *m, char *const *names, bxc_err **err);
const char *attr(const bxc_exp_request *q, const char *key);
int attr_bool(const bxc_exp_request *q, const char *key, bool fallback, bool *ret, bxc_err **err);
/* attrs.name split at commas and normalised; owned strv of full references. */
int names_of(const bxc_exp_request *q, char ***ret, bxc_err **err);
