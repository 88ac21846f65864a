/* SPDX-License-Identifier: Apache-2.0 */
/* Private to common/oci: typed reading of optional fields, and maps kept as "key=value". */
#pragma once

#include "common/oci/oci.h"

/* More than any real image has; keeps hostile documents cheap. */
#define OCI_LIST_MAX 10000u

/* Absent gives NULL; another kind than a string is an error. Owned. */
BXC_MUST_CHECK int oci_opt_str(const bxc_json *obj, const char *key, char **ret, bxc_err **err);
BXC_MUST_CHECK int oci_opt_bool(const bxc_json *obj, const char *key, bool *ret, bxc_err **err);
/* Absent gives 0. */
BXC_MUST_CHECK int oci_opt_i64(const bxc_json *obj, const char *key, int64_t *ret, bxc_err **err);
/* Absent gives NULL. */
BXC_MUST_CHECK int oci_opt_obj(
	const bxc_json *obj, const char *key, const bxc_json **ret, bxc_err **err);
BXC_MUST_CHECK int oci_opt_arr(
	const bxc_json *obj, const char *key, size_t max, const bxc_json **ret, bxc_err **err);
BXC_MUST_CHECK int oci_opt_strv(const bxc_json *obj, const char *key, char ***ret, bxc_err **err);
/* An object of strings as strv "key=value", in the order of the document. */
BXC_MUST_CHECK int oci_opt_map(const bxc_json *obj, const char *key, char ***ret, bxc_err **err);
/* The keys of an object of objects (Go's map[string]struct{}). */
BXC_MUST_CHECK int oci_opt_set(const bxc_json *obj, const char *key, char ***ret, bxc_err **err);

/* Nothing is set for an empty strv; keys are sorted as Go sorts them. */
void oci_set_map(bxc_json *obj, const char *key, char *const *map);
void oci_set_set(bxc_json *obj, const char *key, char *const *set);
void oci_set_strv(bxc_json *obj, const char *key, char *const *v);
/* As Go's omitempty: neither NULL nor "". */
void oci_set_str(bxc_json *obj, const char *key, const char *s);

/* Go's ocispec.Platform, into `obj`. */
void oci_platform_to_json(const bxc_platform *p, bxc_json *obj);
/* Reads os, architecture, variant, os.version from `obj` without normalising; missing ones are "".
 */
BXC_MUST_CHECK int oci_platform_from_json(const bxc_json *obj, bxc_platform *ret, bxc_err **err);
