/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any Dockerfile lowered, with an image behind every name: the definition that comes out is valid,
 * and a second time gives the same one.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lookup(const char *ref, const bxc_platform *platform, bxc_df_image *ret, void *ud)
{
	bxc_oci_config *c = ud;
	c->platform = *platform;
	*ret = (bxc_df_image){.digest = bxc_digest_of_str(ref), .config = c};
	return true;
}

static bxc_oci_config *base_config(void)
{
	bxc_oci_config *c = bxc_oci_config_new();
	bxc_strv_push(&c->env, "BASE=1");
	bxc_strv_push(&c->on_build, "RUN --mount=from=tool,target=/t echo $BASE");
	*bxc_arr_push(&c->diff_ids) = bxc_digest_of_str("layer");
	bxc_oci_config_add_history(c)->created_by = bxc_strdup("base");
	return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_CLEANUP(bxc_df_ast_freep) bxc_df_ast *a = NULL;
	if (bxc_df_parse(bxc_slice_of(data, size), "Dockerfile", &a, NULL) < 0)
		return 0;
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *c = base_config();
	BXC_CLEANUP(bxc_def_freep) bxc_def *def = bxc_def_new();
	BXC_AUTODFRESULT bxc_df_result first = {0}, second = {0};
	bxc_df_opts o = {.platform = {.os = "linux", .arch = "amd64"},
		.multi_platform = size & 1,
		.session = "s",
		.all_stages = size & 2,
		.want_outline = size & 4,
		.lookup = lookup,
		.lookup_ud = c};
	int r = bxc_df_lower(a, &o, def, &first, NULL);
	if (r < 0)
		return 0;
	bxc_check(r == 0 && first.image && !first.outline == !o.want_outline);
	bxc_check(bxc_def_validate(def, NULL) == 0);
	size_t n = def->vertices.n;
	bxc_check(bxc_df_lower(a, &o, def, &second, NULL) == 0);
	bxc_check(def->vertices.n == n && first.target == second.target);
	BXC_AUTOFREE char *one = bxc_oci_config_print(first.image);
	BXC_AUTOFREE char *two = bxc_oci_config_print(second.image);
	bxc_check(bxc_str_eq(one, two));
	return 0;
}
