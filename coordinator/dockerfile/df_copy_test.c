/* SPDX-License-Identifier: Apache-2.0 */
/* COPY and ADD, flag by flag: what becomes of them in the definition. */
#include "coordinator/dockerfile/df_test_world.h"

static const bxc_def_vertex *target(const world *w)
{
	return w->def->vertices.v[w->res.target];
}

static const bxc_def_vertex *input(const world *w, const bxc_def_vertex *v, size_t i)
{
	return w->def->vertices.v[v->inputs.v[i].vertex];
}

/* --link: the files are copied onto nothing, and what comes of it is stacked. */
static void link_is_a_merge(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox\nWORKDIR /w\nCOPY --link --chown=5:6 a b/\n");
	const bxc_def_vertex *merge = target(&w);
	assert_int_equal(merge->kind, BXC_OP_MERGE);
	assert_int_equal(merge->inputs.n, 2);
	assert_string_equal(merge->meta.name, "[3/3] LINK COPY --link --chown=5:6 a b/");
	assert_string_equal(input(&w, merge, 0)->meta.name, "[2/3] WORKDIR /w");
	const bxc_def_vertex *copy = input(&w, merge, 1);
	assert_string_equal(copy->meta.name, "[3/3] COPY --link --chown=5:6 a b/");
	assert_int_equal(copy->op.file.actions.v[0].target, BXC_DEF_NO_INPUT);
	assert_string_equal(copy->op.file.actions.v[0].dest, "/w/b/");
	assert_int_equal(copy->inputs.n, 1);
	assert_history(&w, "WORKDIR /w\nCOPY --chown=5:6 a b/ # buildkit");
}

/* The digest of what --link makes does not depend on what lies below. */
static void linked_files_do_not_know_their_base(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	add_image(&w, "docker.io/library/other:latest");
	lower(&w, "FROM busybox\nCOPY --link a /a\n");
	bxc_digest one = input(&w, target(&w), 1)->digest;
	lower(&w, "FROM other\nENV X=1\nRUN x\nCOPY --link a /a\n");
	assert_true(bxc_digest_eq(&one, &input(&w, target(&w), 1)->digest));
}

/* Onto nothing, or with --chmod, --link makes a plain copy. */
static void link_may_be_a_plain_copy(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox\nCOPY --link --chmod=755 a /a\n");
	assert_int_equal(target(&w)->kind, BXC_OP_FILE);
	lower(&w, "FROM scratch\nCOPY --link a /a\n");
	assert_int_equal(target(&w)->kind, BXC_OP_FILE);
	lower(&w, "FROM busybox\nCOPY --link=false a /a\n");
	assert_int_equal(target(&w)->kind, BXC_OP_FILE);
}

/* A second equal --link is a second layer of the image. */
static void link_may_be_repeated(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM scratch\nCOPY --link a /a\nCOPY --link a /a\n");
	assert_int_equal(target(&w)->kind, BXC_OP_MERGE);
	assert_int_equal(target(&w)->inputs.n, 2);
	assert_ptr_equal(input(&w, target(&w), 0), input(&w, target(&w), 1));
	assert_history(&w, "COPY a /a # buildkit\nCOPY a /a # buildkit");
}

/* 10.1-12: root is 0 whatever the files say; other names need files to be looked up in. */
static void owners(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w,
		"FROM busybox\nENV U=7\nCOPY --link --chown=root:root a /a\nCOPY --chown=$U a /b\n"
		"COPY --chown=app:staff a /c\nCOPY --chown=:9 a /d\n");
	const bxc_def_owner *d = &target(&w)->op.file.actions.v[0].owner;
	assert_true(d->is_set && d->uid == 0 && d->has_gid && d->gid == 9 && !d->user_name);
	const bxc_def_vertex *v = input(&w, target(&w), 0);
	const bxc_def_owner *c = &v->op.file.actions.v[0].owner;
	assert_string_equal(c->user_name, "app");
	assert_string_equal(c->group_name, "staff");
	v = input(&w, v, 0);
	const bxc_def_owner *b = &v->op.file.actions.v[0].owner;
	assert_true(b->uid == 7 && !b->has_gid && !b->user_name);
	const bxc_def_owner *a = &input(&w, input(&w, v, 0), 1)->op.file.actions.v[0].owner;
	assert_true(a->is_set && a->uid == 0 && a->gid == 0 && !a->user_name && !a->group_name);
	assert_fails(&w, "FROM scratch\nCOPY --chown=app a /a\n", BXC_INVALID_ARGUMENT,
		"Dockerfile:2: invalid user index: \"app\"");
	assert_fails(&w, "FROM scratch\nUSER app\nWORKDIR /a\n", BXC_INVALID_ARGUMENT,
		"Dockerfile:3: invalid user index: \"app\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(link_is_a_merge),
		cmocka_unit_test(linked_files_do_not_know_their_base),
		cmocka_unit_test(link_may_be_a_plain_copy),
		cmocka_unit_test(link_may_be_repeated),
		cmocka_unit_test(owners),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
