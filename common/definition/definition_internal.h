/* SPDX-License-Identifier: Apache-2.0 */
/* Private to common/definition. */
#pragma once

#include "common/codec/json_writer.h"
#include "common/definition/definition.h"

/* Bounds of one vertex; generous against what people write, small against what hurts. */
#define DEF_MAX_INPUTS	1000u
#define DEF_MAX_MOUNTS	500u
#define DEF_MAX_ACTIONS 10000u
#define DEF_MAX_STRINGS 10000u	    /* entries of one list: args, env, patterns */
#define DEF_MAX_STRING	(4u << 20)  /* bytes of one string: a heredoc as an argument */
#define DEF_MAX_DATA	(16u << 20) /* bytes of one mkfile: BXC_LIMIT_DOCKERFILE */
#define DEF_MAX_NAME	255u	    /* bytes of names of users, hosts, secrets */

/* Which of an op's fields are encoded. */
typedef enum def_form {
	DEF_FULL = 0,	 /* all: transport, vertex digest */
	DEF_KEY,	 /* bxc_def_op_digest */
	DEF_CONTENT_KEY, /* bxc_def_op_content_digest */
} def_form;

/* What making a digest needs, kept from one to the next. Of one thread. */
typedef struct def_encoder {
	bxc_json_writer text;
	bxc_hasher *hasher;
	bxc_def_env *env; /* counted: the one that was written last; NULL: none */
	bxc_buf env_text;
} def_encoder;
def_encoder *def_encoder_new(void);
void def_encoder_free(def_encoder *e);
BXC_DEFINE_CLEANUP(def_encoder, def_encoder_free);
bxc_digest def_vertex_digest(const bxc_def *d, const bxc_def_vertex *v, def_encoder *e);

/* places.c: the place of the vertex with this digest; of a new one the next, where the caller puts
 * it. Vertices that were only appended are not known here. */
typedef struct def_places def_places;
uint32_t def_place_of(bxc_def *d, const bxc_digest *digest);
void def_places_free(def_places *p);

/* Everything about `v` that can be known without the other vertices. */
BXC_MUST_CHECK int def_check_vertex(const bxc_def_vertex *v, bxc_err **err);
BXC_MUST_CHECK int def_check_env(char *const *env, bxc_err **err);
/* Inputs: before `index`, and outputs that exist. */
BXC_MUST_CHECK int def_check_inputs(
	const bxc_def *d, const bxc_def_vertex *v, size_t index, bxc_err **err);

/* Names of enum values in the encoding, by number; NULL for what has none. */
const char *def_op_kind_name(unsigned k);
const char *def_mount_kind_name(unsigned k);
const char *def_net_name(unsigned n);
