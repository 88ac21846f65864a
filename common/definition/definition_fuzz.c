/* SPDX-License-Identifier: Apache-2.0 */
/* A definition that is taken must be valid and print to itself. */
#include <string.h>

#include "common/definition/definition.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void graph(const bxc_json *j)
{
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = NULL, *e = NULL;
	if (bxc_def_from_json(j, &d, NULL) < 0)
		return;
	bxc_check(bxc_def_validate(d, NULL) == 0);
	BXC_AUTOJSON bxc_json *k = bxc_def_to_json(d), *l = NULL;
	bxc_check(bxc_def_from_json(k, &e, NULL) == 0);
	l = bxc_def_to_json(e);
	BXC_AUTOFREE char *s = bxc_json_print(k), *t = bxc_json_print(l);
	bxc_check(strcmp(s, t) == 0);
}

static void vertex(const bxc_json *j)
{
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = NULL, *w = NULL;
	if (bxc_def_vertex_from_json(j, &v, NULL) < 0)
		return;
	BXC_AUTOJSON bxc_json *k = bxc_def_vertex_to_json(v);
	bxc_check(bxc_def_vertex_from_json(k, &w, NULL) == 0);
	bxc_digest a = bxc_def_op_digest(v), b = bxc_def_op_digest(w);
	bxc_digest c = bxc_def_op_content_digest(v), d = bxc_def_op_content_digest(w);
	bxc_check(bxc_digest_eq(&a, &b) && bxc_digest_eq(&c, &d));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	if (bxc_json_parse(bxc_slice_of(data, size), &j, NULL) < 0)
		return 0;
	graph(j);
	vertex(j);
	return 0;
}
