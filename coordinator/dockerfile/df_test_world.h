/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of lowering share: a world of images, and ways to ask about results. */
#pragma once

#include "common/testing/testing.h"
#include "coordinator/dockerfile/dockerfile_internal.h"

#define DIGEST_OF_BUSYBOX "sha256:0e2bfbc6ee7f8fa4a2ddfd47b8a3b51d1eb8f7d6a8e0c5a1c8d8e3d90e0d24f0"

typedef struct world {
	bxc_map *images; /* "ref platform" or "ref" -> config */
	bxc_def *def;
	bxc_df_opts o;
	bxc_df_result res;
	bxc_err *err;
} world;

static inline BXC_UNUSED void free_config(void *p)
{
	bxc_oci_config_free(p);
}

static inline BXC_UNUSED bool lookup(
	const char *ref, const bxc_platform *platform, bxc_df_image *ret, void *ud)
{
	world *w = ud;
	BXC_AUTOFREE char *p = bxc_platform_str(platform);
	BXC_AUTOFREE char *key = bxc_str_fmt("%s %s", ref, p);
	bxc_oci_config *c = bxc_map_get(w->images, key);
	if (!c)
		c = bxc_map_get(w->images, ref);
	if (!c)
		return false;
	*ret = (bxc_df_image){.config = c};
	return bxc_digest_parse(DIGEST_OF_BUSYBOX, &ret->digest, NULL) == 0;
}

static inline BXC_UNUSED bxc_oci_config *add_image(world *w, const char *ref)
{
	bxc_oci_config *c = bxc_oci_config_new();
	c->platform = (bxc_platform){.os = "linux", .arch = "amd64"};
	bxc_strv_push(&c->env, "PATH=/bin");
	bxc_strv_push(&c->cmd, "sh");
	c->created_ns = 5;
	*bxc_arr_push(&c->diff_ids) = bxc_digest_of_str(ref);
	bxc_oci_history *h = bxc_oci_config_add_history(c);
	h->created_by = bxc_strdup("base");
	h->created_ns = 5;
	bxc_map_set(w->images, ref, c);
	return c;
}

static inline BXC_UNUSED void world_init(world *w)
{
	*w = (world){.images = bxc_map_new(free_config), .def = bxc_def_new()};
	w->o = (bxc_df_opts){.platform = {.os = "linux", .arch = "amd64"},
		.session = "s1",
		.lookup = lookup,
		.lookup_ud = w};
	add_image(w, "docker.io/library/busybox:latest");
}

static inline BXC_UNUSED void world_done(world *w)
{
	bxc_map_free(w->images);
	bxc_def_free(w->def);
	bxc_df_result_done(&w->res);
	bxc_err_free(w->err);
}

#define AUTOWORLD BXC_CLEANUP(world_done)

static inline BXC_UNUSED int try_lower(world *w, const char *text)
{
	BXC_CLEANUP(bxc_df_ast_freep) bxc_df_ast *a = NULL;
	bxc_df_result_done(&w->res);
	bxc_err_free(BXC_TAKE(w->err));
	int r = bxc_df_parse(bxc_slice_of(text, strlen(text)), "Dockerfile", &a, &w->err);
	if (r == 0)
		r = bxc_df_lower(a, &w->o, w->def, &w->res, &w->err);
	return r;
}

static inline BXC_UNUSED void lower(world *w, const char *text)
{
	int r = try_lower(w, text);
	if (r != 0)
		fail_msg("lowering gave %d: %s", r, bxc_err_text(w->err));
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_def_validate(w->def, &err), err);
}

static const bxc_def_vertex *named(const world *w, const char *name)
{
	BXC_ARR_FOREACH (v, &w->def->vertices)
		if (bxc_str_eq((*v)->meta.name, name))
			return *v;
	BXC_ARR_FOREACH (v, &w->def->vertices)
		print_message("# has: %s\n", (*v)->meta.name);
	fail_msg("no vertex '%s'", name);
	return NULL;
}

static inline BXC_UNUSED void has_names(const world *w, const char *const *names)
{
	size_t n = 0;
	for (; names[n]; n++)
		named(w, names[n]);
	assert_int_equal(w->def->vertices.n, n);
}

/* The created_by texts of what the base does not have, one a line, "-" before those without a
 * layer. */
static inline BXC_UNUSED char *history(const world *w)
{
	BXC_AUTOSTRV char **v = NULL;
	BXC_ARR_FOREACH (h, &w->res.image->history)
		if (!bxc_str_eq(h->created_by, "base"))
			bxc_strv_pushf(&v, "%s%s", h->empty_layer ? "-" : "", h->created_by);
	return bxc_strv_join(v, "\n");
}

static inline BXC_UNUSED void assert_history(const world *w, const char *want)
{
	BXC_AUTOFREE char *got = history(w);
	assert_string_equal(got, want);
}

static inline BXC_UNUSED void assert_fails(
	world *w, const char *text, bxc_code code, const char *want)
{
	size_t before = w->def->vertices.n;
	int r = try_lower(w, text);
	if (r != -(int)code || !strstr(bxc_err_text(w->err), want))
		fail_msg("'%s' gave %d '%s', not '%s'", text, r, bxc_err_text(w->err), want);
	assert_int_equal(w->def->vertices.n, before);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__})

static inline BXC_UNUSED char **list_of(const char *const *l)
{
	char **v = NULL;
	for (; *l; l++)
		bxc_strv_push(&v, *l);
	return v;
}

static inline BXC_UNUSED void assert_strv(char *const *got, const char *const *want)
{
	BXC_AUTOSTRV char **v = list_of(want);
	BXC_AUTOFREE char *a = bxc_strv_join(got, "|");
	BXC_AUTOFREE char *b = bxc_strv_join(v, "|");
	assert_string_equal(a, b);
	assert_true(bxc_strv_eq(got, v));
}
