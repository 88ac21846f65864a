/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a build states about itself: the predicate of a SLSA provenance statement, with the fields
 * that BuildKit gives it. Pure: the same facts give the same bytes. Module prefix: bxc_att.
 * Specs: slsa.dev/provenance/v1 and v0.2; BuildKit's docs/attestations/slsa-definitions.md.
 *
 * The statement around it names what was made, by digest: whoever exports makes that.
 */
#pragma once

#include "common/definition/definition.h"

typedef struct bxc_att_provenance {
	bool wanted;
	bool inline_only;            /* beside pushed images only, not in files */
	bool max;                    /* steps, sources and arguments too */
	bool v02;                    /* the older predicate */
	bool reproducible;           /* as the user claims */
	char *builder_id;            /* NULL: "" */
} bxc_att_provenance;

void bxc_att_provenance_done(bxc_att_provenance *p);
/* `attests` is that member of a build request: {"provenance": {"mode": "min", ...}}; NULL: none wanted. */
BXC_MUST_CHECK int bxc_att_provenance_parse(const bxc_json *attests, bxc_att_provenance *ret, bxc_err **err);
const char *bxc_att_predicate_type(const bxc_att_provenance *p);

/* What a source turned out to be; strings are owned by the receiver. */
typedef struct bxc_att_material {
	char *uri;
	const char *alg;             /* "sha256", "sha1"; static */
	char *hex;
} bxc_att_material;

/* All borrowed. */
typedef struct bxc_att_facts {
	const bxc_def *def;
	uint32_t target;             /* vertex; BXC_DEF_NO_INPUT: the result is empty */
	const char *build_id;
	int64_t started_ns, finished_ns;
	bxc_platform builder;        /* where the coordinator runs */
	const char *dockerfile_name;
	bxc_slice dockerfile;
	const char *stage;           /* --target, or NULL */
	char *const *build_args;     /* strv "K=V"; with `max` only */
	char *const *labels;         /* strv "K=V"; with `max` only */
	bool has_context;            /* the client serves one */
	/* Tells a source vertex's material; false: it is none (a context of the client). */
	bool (*material)(const bxc_def_vertex *v, bxc_att_material *ret, void *ud);
	void *ud;
} bxc_att_facts;

/* Owned. */
bxc_json *bxc_att_provenance_make(const bxc_att_provenance *p, const bxc_att_facts *f);
