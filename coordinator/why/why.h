/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a step was executed: what its cache key was made of, in a form that can be compared with the
 * same step of an earlier build, and the words for what differs. Module prefix: bxc_why.
 *
 * Pure: no I/O, no clock. The engine keeps the parts of every step when it ends; they are compared
 * when somebody asks. FORMAT.md describes the JSON. Values of secrets are not known here: a
 * definition holds only their names.
 */
#pragma once

#include "common/base/err.h"
#include "common/codec/digest.h"
#include "common/codec/json.h"
#include "common/definition/definition.h"

#define BXC_WHY_MAX_PARTS 4096u /* of one step; the digest of the operation stands for the rest */
#define BXC_WHY_MAX_VALUE 256u	/* bytes of a value; longer ones are cut, and told by digest */
#define BXC_WHY_MAX_DIFFS 16u	/* told of one step */
#define BXC_WHY_MAX_FILES 4096u /* entries of a manifest; beyond that folders stand for them */

/* ---- what a key is made of ---- */

/* What stands for one input of the vertex, in the order of its inputs. */
typedef struct bxc_why_input {
	const bxc_def_vertex *v;
	bxc_digest key;	     /* its canonical key; unset: only the content counts */
	bxc_digest content;  /* of what is selected; unset: not known, or the whole counts */
	bxc_digest manifest; /* names the manifest of the files; unset: there is none */
} bxc_why_input;

/* `key`: of a source: what it stands for. An array of parts; owned. */
bxc_json *bxc_why_parts(
	const bxc_def_vertex *v, const bxc_why_input *inputs, const bxc_digest *key);

/* Where a step stands, for finding it in other builds. */
typedef struct bxc_why_place {
	const char *scope;   /* whose builds; NULL: everybody's */
	const char *project; /* what tells Dockerfiles of different projects apart; NULL: nothing */
	uint32_t position;   /* among the steps of its stage and platform */
} bxc_why_place;

/* Equal for the step at the same place of the same stage. */
bxc_digest bxc_why_lineage(const bxc_why_place *p, const bxc_def_vertex *v);
/* Equal for steps that do the same, wherever they stand and on whatever platform. */
bxc_digest bxc_why_shape(const char *scope, const bxc_def_vertex *v);

/* ---- comparing ---- */

/*
 * What of `now` is not as in `old`, in the order of `now`: an array, owned, of
 * {"component","name"?,"old"?,"new"?} and, of inputs, "vertex" (of `now`), "old_manifest",
 * "new_manifest". *ret_n is their number, also beyond BXC_WHY_MAX_DIFFS, which ends the array.
 * 0: the keys are made of the same.
 */
bxc_json *bxc_why_compare(const bxc_json *old, const bxc_json *now, size_t *ret_n);
/* One of the above, or of bxc_why_compare_files(), in words; owned. */
char *bxc_why_text(const bxc_json *diff);

/* ---- files ---- */

typedef struct bxc_why_file {
	const char *path; /* within its tree, with or without a leading slash */
	uint32_t mode;	  /* st_mode */
	uint32_t uid, gid;
	const char *link;  /* where a symlink leads; NULL: it is none */
	bxc_digest digest; /* of a file's content */
} bxc_why_file;

/*
 * The manifest of the files, as text; owned. Folders that are missing are added. When there are
 * more than BXC_WHY_MAX_FILES entries, those below a depth are told by the digest of their folder.
 */
char *bxc_why_manifest(const bxc_why_file *files, size_t n);
/*
 * The first path that differs: as {"component":"file" or "folder","name":path,"old"?,"new"?},
 * owned, where a side that is absent has no such path; digests, or else type, mode and owner.
 * Contents go first. Returns 1 with *ret set; 0: no path differs; BXC_DATA_LOSS: a text is no
 * manifest.
 */
BXC_MUST_CHECK int bxc_why_compare_files(
	const char *old, const char *now, bxc_json **ret, bxc_err **err);
