/* SPDX-License-Identifier: Apache-2.0 */
/* 1.4 Named contexts: those of stages and images, and contexts that are no folder of the client. */
#include "coordinator/dockerfile/df_test_world.h"

static const bxc_def_vertex *input_of(const world *w, const bxc_def_vertex *v, uint32_t input)
{
	return w->def->vertices.v[v->inputs.v[input].vertex];
}

static bxc_def *tree(const char *identifier)
{
	bxc_def *d = bxc_def_new();
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	uint32_t index;
	v->op.source.identifier = bxc_strdup(identifier);
	v->meta.name = bxc_strdup(identifier);
	assert_int_equal(bxc_def_add(d, v, &index, NULL), 0);
	return d;
}

static void use(world *w, const bxc_df_context *c, size_t n)
{
	w->o.contexts = c;
	w->o.n_contexts = n;
}

static void a_folder_stands_for_a_stage(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	const bxc_df_context c = {.name = "base", .source = "base"};
	use(&w, &c, 1);
	lower(&w, "FROM absent/image AS base\nRUN never\nFROM busybox\nCOPY --from=base a/*.c /x/\n"
		  "COPY --from=0 b /y\nRUN --mount=from=base,source=m,target=/m true\n");
	const bxc_def_vertex *v = named(&w, "[context base] load from client");
	assert_string_equal(v->op.source.identifier, "local://base");
	assert_string_equal(
		bxc_env_get(v->op.source.attrs, "followpaths"), "[\"/a/*.c\",\"/b\",\"/m\"]");
	assert_string_equal(bxc_env_get(v->op.source.attrs, "session"), "s1");
	assert_int_equal(w.res.context, BXC_DEF_NO_INPUT);
}

static void a_folder_that_is_built_on_becomes_a_layer(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	const bxc_df_context c = {.name = "rootfs", .source = "r"};
	use(&w, &c, 1);
	lower(&w, "FROM rootfs:latest\nCOPY a /a\n");
	const bxc_def_vertex *copy = named(&w, "[context rootfs] copy from client");
	assert_int_equal(copy->op.file.actions.n, 1);
	assert_true(copy->op.file.actions.v[0].src_dir_contents);
	assert_string_equal(
		bxc_env_get(input_of(&w, copy, 0)->op.source.attrs, "followpaths"), "[\"/\"]");
	/* The build's own context is another folder. */
	named(&w, "[internal] load build context");
	assert_strv(w.res.image->env, LIST("PATH=" DF_DEFAULT_PATH, NULL));
	assert_null(w.res.base_ref);
	/* A stage that builds on a replaced one. */
	lower(&w, "FROM x AS rootfs\nFROM rootfs AS b\nENV A=1\nFROM b\n");
	assert_int_equal(w.def->vertices.v[w.res.target]->kind, BXC_OP_FILE);
}

static void an_image_stands_for_an_image(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	bxc_strv_push(&add_image(&w, "docker.io/h/other:1")->env, "WHO=other");
	add_image(&w, "oci-layout://l@" DIGEST_OF_BUSYBOX);
	const bxc_df_context c[] = {
		{.name = "alpine",
			.kind = BXC_DF_CONTEXT_IMAGE,
			.source = "docker.io/h/other:1",
			.shown = "h/other:1"},
		{.name = "h/app:2::linux/amd64",
			.kind = BXC_DF_CONTEXT_IMAGE,
			.source = "oci-layout://l@" DIGEST_OF_BUSYBOX,
			.shown = "OCI load from client"},
		{.name = "h/app:2::linux/arm64", .kind = BXC_DF_CONTEXT_SCRATCH},
		{.name = "none", .kind = BXC_DF_CONTEXT_SCRATCH},
	};
	use(&w, c, BXC_ARRAY_SIZE(c));
	lower(&w, "FROM docker.io/library/alpine\nCOPY --from=h/app:2 / /app/\nCOPY --from=none . "
		  "/none/\n");
	assert_string_equal(named(&w, "[context alpine] h/other:1")->op.source.identifier,
		"docker-image://docker.io/h/other:1@" DIGEST_OF_BUSYBOX);
	assert_string_equal(named(&w, "[context h/app:2::linux/amd64] OCI load from client")
				    ->op.source.identifier,
		"oci-layout://l@" DIGEST_OF_BUSYBOX);
	assert_string_equal(bxc_env_get(w.res.image->env, "WHO"), "other");
	assert_string_equal(w.res.base_ref, "docker.io/h/other:1@" DIGEST_OF_BUSYBOX);
}

static void a_tree_is_taken_over(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	BXC_CLEANUP(bxc_def_freep) bxc_def *own = tree("git://h/r"), *other = tree("http://h/f");
	const bxc_df_context c = {.name = "f", .kind = BXC_DF_CONTEXT_TREE, .def = other};
	w.o.context_def = own;
	use(&w, &c, 1);
	lower(&w, "FROM busybox\nCOPY a /a\nCOPY --from=f context /b\nFROM f\nCOPY --from=0 /a "
		  "/a\nCOPY c /c\n");
	const bxc_def_vertex *last = w.def->vertices.v[w.res.target];
	assert_string_equal(input_of(&w, last, 1)->op.source.identifier, "git://h/r");
	const bxc_def_vertex *before = input_of(&w, last, 0);
	assert_string_equal(input_of(&w, before, 0)->op.source.identifier, "http://h/f");
	size_t n = 0;
	BXC_ARR_FOREACH (v, &w.def->vertices)
		n += bxc_str_eq((*v)->op.source.identifier, "git://h/r") &&
		     (*v)->kind == BXC_OP_SOURCE;
	assert_int_equal(n, 1);
}

static void a_replaced_stage_may_come_later_and_needs_no_image(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	const bxc_df_context c = {.name = "late", .source = "late"};
	use(&w, &c, 1);
	lower(&w, "FROM busybox\nCOPY --from=late f /f\nFROM busybox\nCOPY --from=0 /f /\nFROM "
		  "no/such AS late\n"
		  "COPY --from=0 /f /\nFROM busybox\nCOPY --from=1 /f /g\n");
	named(&w, "[context late] load from client");
	use(&w, NULL, 0);
	assert_fails(&w, "FROM busybox AS a\nCOPY --from=late f /f\nFROM busybox AS late\nFROM a\n",
		BXC_INVALID_ARGUMENT, "needs to be defined before");
}

struct time_known {
	const char *identifier;
	bool has;
	int64_t ns;
};

static bool time_known(const bxc_def_vertex *source, bool *ret_has, int64_t *ret_ns, void *ud)
{
	const struct time_known *t = ud;
	*ret_has = t->has;
	*ret_ns = t->ns;
	return bxc_str_eq(source->op.source.identifier, t->identifier);
}

static void the_context_may_have_a_time(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	static const char file[] = "FROM busybox\nARG SOURCE_DATE_EPOCH\nENV T=t$SOURCE_DATE_EPOCH\n";
	char *args[] = {(char *)(uintptr_t) "SOURCE_DATE_EPOCH=context", NULL};
	w.o.build_args = args;
	lower(&w, file);
	assert_false(w.res.has_epoch);
	assert_string_equal(bxc_env_get(w.res.image->env, "T"), "t");
	/* One that came from elsewhere has to be asked for its time. */
	BXC_CLEANUP(bxc_def_freep) bxc_def *own = tree("git://h/r");
	w.o.context_def = own;
	assert_int_equal(try_lower(&w, file), 1);
	assert_string_equal(w.res.need_time->op.source.identifier, "git://h/r");
	struct time_known t = {"git://h/r", true, INT64_C(1600000100500000000)};
	w.o.time_of = time_known;
	w.o.time_of_ud = &t;
	lower(&w, file);
	assert_true(w.res.has_epoch && w.res.epoch_ns == INT64_C(1600000100000000000));
	assert_string_equal(bxc_env_get(w.res.image->env, "T"), "t1600000100");
	/* Said by the file itself. */
	w.o.build_args = NULL;
	lower(&w, "ARG SOURCE_DATE_EPOCH=context\nFROM busybox\n");
	assert_true(w.res.has_epoch);
	t.has = false;
	lower(&w, "ARG SOURCE_DATE_EPOCH=context\nFROM busybox\n");
	assert_false(w.res.has_epoch);
}

/* 1.4 SOURCE_DATE_EPOCH: a named context, a stage. */
static void a_named_context_has_a_time(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	BXC_CLEANUP(bxc_def_freep) bxc_def *other = tree("http://h/f");
	const bxc_df_context c[] = {{.name = "src", .kind = BXC_DF_CONTEXT_TREE, .def = other},
		{.name = "dir", .source = "dir"},
		{.name = "img", .kind = BXC_DF_CONTEXT_IMAGE, .source = "docker.io/h/a:1", .shown = "h/a:1"}};
	struct time_known t = {"http://h/f", true, INT64_C(77000000000)};
	use(&w, c, BXC_ARRAY_SIZE(c));
	w.o.time_of = time_known;
	w.o.time_of_ud = &t;
	lower(&w, "ARG SOURCE_DATE_EPOCH=src\nFROM busybox\n");
	assert_true(w.res.has_epoch && w.res.epoch_ns == INT64_C(77000000000));
	lower(&w, "ARG SOURCE_DATE_EPOCH=dir\nFROM busybox\n");
	assert_false(w.res.has_epoch);
	assert_fails(&w, "ARG SOURCE_DATE_EPOCH=img\nFROM busybox\n", BXC_INVALID_ARGUMENT,
		"invalid SOURCE_DATE_EPOCH: img: this context was not loaded from");
	assert_fails(&w, "ARG SOURCE_DATE_EPOCH=none\nFROM busybox\n", BXC_INVALID_ARGUMENT,
		"invalid SOURCE_DATE_EPOCH: none");
}

static void a_stage_that_is_one_download_has_a_time(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	struct time_known t = {"http://h/v2/x.tar", true, INT64_C(88000000000)};
	w.o.time_of = time_known;
	w.o.time_of_ud = &t;
	lower(&w, "ARG SOURCE_DATE_EPOCH=Src\nARG V=2\nFROM scratch AS src\nARG V\n"
		  "ADD http://h/v$V/x.tar /\nFROM busybox\nCOPY --from=src / /\n");
	assert_true(w.res.has_epoch && w.res.epoch_ns == INT64_C(88000000000));
	/* It dates the download itself too. */
	assert_int_equal(w.res.image->history.v[w.res.image->history.n - 1].created_ns,
		INT64_C(88000000000));
	static const char *const none[] = {
		"FROM busybox AS src\nADD http://h/v2/x.tar /\n",
		"FROM scratch AS src\nADD http://h/v2/x.tar http://h/y /\n",
		"FROM scratch AS src\nADD http://h/v2/x.tar /\nADD http://h/y /\n",
		"FROM scratch AS src\nADD http://h/v2/x.tar /\nCOPY a /\n",
		"FROM scratch AS src\nCOPY a /\n",
		"FROM scratch AS src\n",
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(none); i++) {
		BXC_AUTOFREE char *text = bxc_str_fmt(
			"ARG SOURCE_DATE_EPOCH=src\n%sFROM busybox\n", none[i]);
		assert_fails(&w, text, BXC_INVALID_ARGUMENT,
			"invalid SOURCE_DATE_EPOCH: src: the time of a stage is that of its one ADD");
	}
}

static void a_stage_stands_for_an_image_or_a_stage(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	const bxc_df_context c[] = {
		{.name = "alpine", .kind = BXC_DF_CONTEXT_STAGE, .source = "Base"},
		{.name = "old", .kind = BXC_DF_CONTEXT_STAGE, .source = "base"}};
	use(&w, c, BXC_ARRAY_SIZE(c));
	lower(&w, "FROM busybox AS base\nENV A=1\nRUN one\nFROM absent AS old\nRUN never\n"
		  "FROM alpine\nCOPY --from=alpine /a /a\nCOPY --from=old /b /b\n");
	assert_string_equal(bxc_env_get(w.res.image->env, "A"), "1");
	size_t n = 0;
	BXC_ARR_FOREACH (v, &w.def->vertices)
		n += (*v)->kind == BXC_OP_EXEC;
	assert_int_equal(n, 1);
	assert_fails(&w, "FROM alpine\n", BXC_INVALID_ARGUMENT,
		"Dockerfile:1: context alpine: there is no stage \"Base\" above this line");
	assert_fails(&w, "FROM busybox AS base\nCOPY --from=alpine a b\n", BXC_INVALID_ARGUMENT,
		"circular dependency detected on stage: base");
}

static void a_cache_from_a_folder_may_have_an_owner(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	const bxc_df_context c = {.name = "seed", .source = "seed"};
	use(&w, &c, 1);
	lower(&w, "FROM busybox\nRUN --mount=type=cache,from=seed,target=/c,uid=7,mode=0700 true\n");
	const bxc_def_vertex *v = named(&w, "[internal] setting cache mount permissions");
	assert_int_equal(input_of(&w, v, 0)->kind, BXC_OP_FILE);
	named(&w, "[context seed] copy from client");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_folder_stands_for_a_stage),
		cmocka_unit_test(a_folder_that_is_built_on_becomes_a_layer),
		cmocka_unit_test(an_image_stands_for_an_image),
		cmocka_unit_test(a_tree_is_taken_over),
		cmocka_unit_test(a_replaced_stage_may_come_later_and_needs_no_image),
		cmocka_unit_test(the_context_may_have_a_time),
		cmocka_unit_test(a_named_context_has_a_time),
		cmocka_unit_test(a_stage_that_is_one_download_has_a_time),
		cmocka_unit_test(a_stage_stands_for_an_image_or_a_stage),
		cmocka_unit_test(a_cache_from_a_folder_may_have_an_owner),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
