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

/* 10.1.12 Owners by name: root is 0 whatever the files say; other names need files to be looked up
 * in. */
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

/* 10.1.19 Parents: what follows the pivot is a pattern below what comes before it. */
static void parents_are_an_include_pattern(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	static const struct {
		const char *src, *dir, *include, *required, *context;
	} vectors[] = {
		{"a/b", "/", "a/b", "/a/b", "/a/b"},
		{"./a/../b/.", "/", "b", "/b", "/b"},
		{"/a/./b/c", "/a", "b/c", "/a/b/c", "/a/b/c"},
		{"a/./b/./c", "/a", "b/c", "/a/b/c", "/a/b/c"},
		{"a/*.c", "/", "a/*.c", NULL, "/a/*.c"},
		{"a*/./b", "/a*", "b", NULL, "/a*/b"},
		{"a/./x/**/y", "/a", "x/**/y", NULL, "/a/x"},
		{"**/y", "/", "**/y", NULL, "/"},
		{"a/b**/y", "/", "a/b**/y", NULL, "/a"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(vectors); i++) {
		BXC_AUTOFREE char *text =
			bxc_str_fmt("FROM busybox\nCOPY --parents %s /d/\n", vectors[i].src);
		lower(&w, text);
		const bxc_file_action *a = &target(&w)->op.file.actions.v[0];
		assert_string_equal(a->src, vectors[i].dir);
		assert_strv(a->include, LIST(vectors[i].include, NULL));
		assert_strv(a->required, LIST(vectors[i].required, NULL));
		BXC_AUTOFREE char *paths = bxc_str_fmt("[\"%s\"]", vectors[i].context);
		const bxc_def_vertex *context = w.def->vertices.v[w.res.context];
		assert_string_equal(bxc_env_get(context->op.source.attrs, "followpaths"), paths);
	}
	lower(&w,
		"FROM busybox\nCOPY --parents --exclude=*.o --exclude=!x.o --chmod=0711 a b /d/\n");
	assert_int_equal(target(&w)->op.file.actions.n, 2);
	assert_strv(target(&w)->op.file.actions.v[1].exclude, LIST("*.o", "!x.o", NULL));
	assert_history(&w, "COPY --parents --chmod=0711 a b /d/ # buildkit");
}

/* Variables count in --chown, --chmod and paths, not in --exclude; 10.2.26 Texts of the history:
 * the text says neither
 * --exclude nor --from nor --link. */
static void flags_and_variables(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox\nENV M=u+x,g= U=5 N=f\n"
		  "COPY --exclude=$N --chmod=$M --chown=$U:$U $N /$N\n");
	const bxc_file_action *a = &target(&w)->op.file.actions.v[0];
	assert_strv(a->exclude, LIST("$N", NULL));
	assert_string_equal(a->mode_text, "u+x,g=");
	assert_int_equal(a->mode, -1);
	assert_int_equal(a->owner.uid, 5);
	assert_string_equal(a->src, "/f");
	assert_history(
		&w, "-ENV M=u+x,g= U=5 N=f\nCOPY --chown=5:5 --chmod=u+x,g= f /f # buildkit");
	/* An empty value is no flag. */
	lower(&w, "FROM busybox\nCOPY --chmod=$NO --chown=$NO f /f\n");
	a = &target(&w)->op.file.actions.v[0];
	assert_true(!a->owner.is_set && a->mode == -1 && !a->mode_text);
	static const char *const good[] = {
		"0", "7777", "0755", "u+x", "a=rX,u-w", "go=u", "+x", "=", "u+rwxXst,g-s", "ug=o"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(good); i++) {
		BXC_AUTOFREE char *text =
			bxc_str_fmt("FROM busybox\nCOPY --chmod=%s f /f\n", good[i]);
		lower(&w, text);
	}
	static const char *const bad[] = {
		"10000", "8", "-1", "u", "u+y", "rwx", "u+x,", "0x1f", "u+x g+x"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		BXC_AUTOFREE char *text =
			bxc_str_fmt("FROM busybox\nENV M=\"%s\"\nCOPY --chmod=$M f /f\n", bad[i]);
		assert_fails(
			&w, text, BXC_INVALID_ARGUMENT, "Dockerfile:3: invalid chmod parameter");
	}
}

/* 10.1.10 Sources above the root: a source is cleaned against the root. 10.1.1 Folder as a source:
 * a slash at its end changes nothing. 10.1.11 Owner by default: USER is nothing to COPY. */
static void sources_stay_in_their_root(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	static const char *const vectors[][2] = {{"../x", "/x"}, {"/../../x/", "/x"},
		{"a/../../x/.", "/x"}, {".", "/"}, {"d/", "/d"}, {"\\*", "/*"}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(vectors); i++) {
		BXC_AUTOFREE char *text =
			bxc_str_fmt("FROM busybox\nUSER 7:8\nCOPY %s /d/\n", vectors[i][0]);
		lower(&w, text);
		const bxc_file_action *a = &target(&w)->op.file.actions.v[0];
		assert_string_equal(a->src, vectors[i][1]);
		assert_false(a->owner.is_set);
	}
}

static void add_unpacks_unless_told_not_to(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox\nADD a /d/\n");
	assert_true(target(&w)->op.file.actions.v[0].unpack);
	lower(&w, "FROM busybox\nADD --unpack=true a /d/\n");
	assert_true(target(&w)->op.file.actions.v[0].unpack);
	lower(&w, "FROM busybox\nADD --unpack=false a /d/\n");
	assert_false(target(&w)->op.file.actions.v[0].unpack);
	lower(&w, "FROM busybox\nCOPY a /d/\n");
	assert_false(target(&w)->op.file.actions.v[0].unpack);
	assert_fails(&w, "FROM busybox\nADD --unpack=x a /d/\n", BXC_INVALID_ARGUMENT,
		"expecting boolean value for flag");
	assert_fails(
		&w, "FROM busybox\nCOPY --unpack a /d/\n", BXC_INVALID_ARGUMENT, "unknown flag");
	assert_fails(&w, "FROM busybox\nCOPY a\n", BXC_INVALID_ARGUMENT,
		"COPY requires at least two arguments");
	assert_fails(
		&w, "FROM busybox\nADD --parents a /d/\n", BXC_INVALID_ARGUMENT, "unknown flag");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(link_is_a_merge),
		cmocka_unit_test(linked_files_do_not_know_their_base),
		cmocka_unit_test(link_may_be_a_plain_copy),
		cmocka_unit_test(link_may_be_repeated),
		cmocka_unit_test(owners),
		cmocka_unit_test(parents_are_an_include_pattern),
		cmocka_unit_test(flags_and_variables),
		cmocka_unit_test(sources_stay_in_their_root),
		cmocka_unit_test(add_unpacks_unless_told_not_to),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
