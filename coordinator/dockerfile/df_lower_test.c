/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/dockerfile/df_test_world.h"

/* ---- names and graph ---- */

static void steps_are_named_as_buildkit_names_them(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox\nCOPY a b\nENV X=1\nrun  echo \"$X\" $NO\nWORKDIR /x\n");
	has_names(&w, LIST("[1/4] FROM docker.io/library/busybox:latest@" DIGEST_OF_BUSYBOX,
			      "[internal] load build context", "[2/4] COPY a b",
			      "[3/4] RUN  echo \"1\" $NO", "[4/4] WORKDIR /x", NULL));
	const bxc_def_vertex *v = named(&w, "[3/4] RUN  echo \"1\" $NO");
	assert_int_equal(v->meta.line_start, 4);
	assert_string_equal(v->meta.stage, "0");
	assert_int_equal(w.res.target, 4);
	assert_string_equal(w.res.base_ref, "docker.io/library/busybox:latest@" DIGEST_OF_BUSYBOX);
}

static void stages_are_named_by_name_or_number(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox AS Build\nRUN make\nFROM busybox AS unused\nRUN no\nFROM "
		  "build\nRUN two\n"
		  "COPY --from=0 /a /b\nCOPY --from=busybox /bin/sh /s\n");
	has_names(&w, LIST("[build 1/2] FROM docker.io/library/busybox:latest@" DIGEST_OF_BUSYBOX,
			      "[build 2/2] RUN make", "[stage-2 1/3] RUN two",
			      "[stage-2 2/3] COPY --from=0 /a /b",
			      "[stage-2 3/3] COPY --from=busybox /bin/sh /s", NULL));
	assert_string_equal(w.res.stage, "2");
}

static void ten_steps_are_aligned(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM scratch\nRUN 1\nRUN 2\nRUN 3\nRUN 4\nRUN 5\nRUN 6\nRUN 7\nRUN 8\nRUN "
		  "9\nRUN 10\n");
	named(&w, "[ 1/10] RUN 1");
	named(&w, "[10/10] RUN 10");
}

static void platforms_share_a_definition(void **state)
{
	(void)state;
	static const char text[] =
		"FROM --platform=$BUILDPLATFORM busybox AS build\nRUN gen\nARG TARGETARCH\n"
		"RUN make $TARGETARCH\nFROM busybox\nCOPY --from=build /o /o\nCOPY x x\n";
	AUTOWORLD world w;
	world_init(&w);
	bxc_platform build = {.os = "linux", .arch = "amd64"};
	w.o.build_platforms = &build;
	w.o.n_build_platforms = 1;
	w.o.multi_platform = w.o.platform_given = true;
	lower(&w, text);
	size_t first = w.def->vertices.n;
	assert_string_equal(w.res.image->platform.arch, "amd64");
	w.o.platform = (bxc_platform){.os = "linux", .arch = "arm64"};
	lower(&w, text);
	assert_string_equal(w.res.image->platform.arch, "arm64");
	named(&w,
		"[linux/amd64 build 1/3] FROM docker.io/library/busybox:latest@" DIGEST_OF_BUSYBOX);
	named(&w, "[linux/amd64 build 2/3] RUN gen");
	named(&w, "[linux/amd64 build 3/3] RUN make amd64");
	named(&w, "[linux/amd64->arm64 build 3/3] RUN make arm64");
	named(&w, "[linux/arm64 stage-1 3/3] COPY x x");
	/* New are: RUN make, FROM, COPY, COPY; shared: the context, the builder's image, RUN gen.
	 */
	assert_int_equal(w.def->vertices.n, first + 4);
}

static void only_needed_images_are_asked_for(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	static const char text[] =
		"FROM nosuch AS unused\nFROM --platform=linux/arm/v7 alpine:3 AS a\n"
		"FROM reg.example/x@sha256:"
		"0123456789012345678901234567890123456789012345678901234567890123\n"
		"COPY --from=a /x /\nRUN --mount=from=tool,target=/t x\nCOPY --from=tool /y /\n";
	assert_int_equal(try_lower(&w, text), 1);
	assert_int_equal(w.def->vertices.n, 0);
	assert_int_equal(w.res.needs.n, 3);
	assert_string_equal(w.res.needs.v[0].ref, "docker.io/library/alpine:3");
	assert_string_equal(w.res.needs.v[0].platform.arch, "arm");
	assert_string_equal(w.res.needs.v[0].platform.variant, "v7");
	assert_int_equal(w.res.needs.v[0].line, 2);
	assert_true(bxc_str_has_prefix(w.res.needs.v[1].ref, "reg.example/x@sha256:0123"));
	assert_string_equal(w.res.needs.v[2].ref, "docker.io/library/tool:latest");
	assert_int_equal(w.res.needs.v[2].line, 5);
}

static void wrong_graphs_are_refused(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	assert_fails(&w, "FROM busybox AS self\nCOPY --from=self a b\n", BXC_INVALID_ARGUMENT,
		"Dockerfile:2: circular dependency detected on stage: self");
	assert_fails(&w,
		"FROM scratch AS a\nCOPY --from=b x y\nFROM scratch AS b\nCOPY --from=a x y\n",
		BXC_INVALID_ARGUMENT, "circular dependency detected on stage: a");
	assert_fails(&w, "FROM scratch AS a\nCOPY --from=b x y\nFROM scratch AS b\nFROM a\n",
		BXC_INVALID_ARGUMENT,
		"Dockerfile:2: cannot copy from stage \"b\", it needs to be defined before current "
		"stage \"a\"");
	assert_fails(&w,
		"FROM scratch AS a\nRUN --mount=from=b,target=/m x\nFROM scratch AS b\nFROM a\n",
		BXC_INVALID_ARGUMENT, "Dockerfile:2: cannot mount from stage \"b\" to \"/m\"");
	assert_fails(&w, "FROM busybox\nCOPY --from=7 a b\n", BXC_INVALID_ARGUMENT,
		"Dockerfile:2: invalid stage index 7");
	assert_fails(&w, "ARG I\nFROM ${I}\n", BXC_INVALID_ARGUMENT,
		"Dockerfile:2: base name (${I}) should not be blank");
	assert_fails(&w, "FROM busybox AS base\nFROM Base\n", BXC_INVALID_ARGUMENT,
		"Dockerfile:2: failed to parse stage name \"Base\"");
	assert_fails(&w, "FROM --platform=$P busybox\n", BXC_INVALID_ARGUMENT,
		"Dockerfile:1: empty platform value from expression $P");
	assert_fails(&w, "ARG X=a\nFROM busybox AS a\nFROM busybox\nCOPY --from=$X a b\n",
		BXC_INVALID_ARGUMENT,
		"Dockerfile:4: variable expansion is not supported for --from");
	w.o.target = "Biuld";
	assert_fails(&w, "FROM busybox AS build\n", BXC_INVALID_ARGUMENT,
		"target stage \"Biuld\" could not be found (did you mean build?)");
}

static void targets_and_duplicate_names(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	w.o.target = "ONE";
	lower(&w, "FROM scratch AS one\nENV A=1\nFROM nosuch AS two\n");
	assert_int_equal(w.res.target, BXC_DEF_NO_INPUT);
	assert_string_equal(w.res.stage, "one");
	w.o.target = NULL;
	lower(&w, "FROM scratch AS a\nENV A=1\nFROM scratch AS a\nENV A=2\nFROM a\n");
	assert_string_equal(bxc_env_get(w.res.image->env, "A"), "2");
	assert_fails(&w,
		"FROM scratch AS a\nFROM scratch AS x\nCOPY --from=a f f\nFROM scratch AS a\nFROM "
		"x\n",
		BXC_INVALID_ARGUMENT, "needs to be defined before current stage \"x\"");
}

/* ---- variables ---- */

static void arguments_have_their_scopes(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	BXC_AUTOSTRV char **args = list_of(LIST("CLI=cli", "G3=given", "UNDECLARED=x", NULL));
	w.o.build_args = args;
	lower(&w, "ARG G=global\nARG G2=$G-2 G3=no\nFROM scratch AS a\nENV SEEN=[$G]\nARG G\nARG "
		  "G2=own\nARG G3 CLI=def NONE\n"
		  "ENV ALL=$G,$G2,$G3,$CLI,[$NONE] A=1\nENV A=2 B=$A\nARG A=arg\nENV C=$A\nFROM "
		  "a\nENV INHERITED=$G2,$A\n");
	char *const *env = w.res.image->env;
	assert_string_equal(bxc_env_get(env, "SEEN"), "[]");
	assert_string_equal(bxc_env_get(env, "ALL"), "global,own,given,cli,[]");
	assert_string_equal(bxc_env_get(env, "B"), "1");
	assert_string_equal(bxc_env_get(env, "C"), "arg");
	assert_string_equal(bxc_env_get(env, "A"), "2");
	assert_null(bxc_env_get(env, "G2"));
	/* ENV of the parent is set again in the child and comes before its arguments. */
	assert_string_equal(bxc_env_get(env, "INHERITED"), "own,2");
}

static void platform_arguments_are_there_when_declared(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	w.o.platform = (bxc_platform){.os = "linux", .arch = "arm", .variant = "v7"};
	bxc_platform build = {.os = "linux", .arch = "amd64"};
	w.o.build_platforms = &build;
	w.o.n_build_platforms = 1;
	lower(&w, "FROM scratch\nARG TARGETPLATFORM BUILDARCH TARGETVARIANT TARGETSTAGE\n"
		  "ENV R=$TARGETPLATFORM,$BUILDARCH,$TARGETVARIANT,$TARGETSTAGE,[$TARGETOS]\n");
	assert_string_equal(bxc_env_get(w.res.image->env, "R"), "linux/arm/v7,amd64,v7,default,[]");
}

/* ---- RUN ---- */

static void run_gets_shell_environment_and_root(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	BXC_AUTOSTRV char **args = list_of(LIST("http_proxy=http://p", "V=1", NULL));
	BXC_AUTOSTRV char **hosts = list_of(LIST("h=1.2.3.4", NULL));
	w.o.build_args = args;
	w.o.extra_hosts = hosts;
	w.o.hostname = "box";
	lower(&w, "FROM busybox\nARG V\nARG U\nENV E=e\nWORKDIR d\nUSER u:g\nRUN make  all\nSHELL "
		  "[\"/bin/bash\", \"-ec\"]\n"
		  "RUN --network=none x\nRUN [\"a\", \"$E\"]\n");
	const bxc_op_exec *x = &named(&w, "[3/5] RUN make  all")->op.exec;
	assert_strv(x->args, LIST("/bin/sh", "-c", "make  all", NULL));
	assert_strv(x->env, LIST("PATH=/bin", "V=1", "E=e", NULL));
	assert_strv(x->proxy_env, LIST("HTTP_PROXY=http://p", "http_proxy=http://p", NULL));
	assert_string_equal(x->cwd, "/d");
	assert_string_equal(x->user, "u:g");
	assert_string_equal(x->hostname, "box");
	assert_int_equal(x->mounts.n, 1);
	assert_string_equal(x->mounts.v[0].dest, "/");
	assert_int_equal(x->mounts.v[0].output, 0);
	const bxc_def_vertex *bash = named(&w, "[4/5] RUN --network=none x");
	assert_strv(bash->op.exec.args, LIST("/bin/bash", "-ec", "x", NULL));
	assert_int_equal(bash->op.exec.net, BXC_NET_NONE);
	const bxc_def_vertex *json = named(&w, "[5/5] RUN [\"a\", \"e\"]");
	assert_strv(json->op.exec.args, LIST("a", "$E", NULL));
	assert_history(&w,
		"-ARG V=1\n-ARG U\n-ENV E=e\nWORKDIR /d\n-USER u:g\n"
		"RUN |2 V=1 U= /bin/sh -c make  all # buildkit\n-SHELL [/bin/bash -ec]\n"
		"RUN |2 V=1 U= /bin/bash -ec x # buildkit\nRUN |2 V=1 U= a $E # buildkit");
}

static void run_mounts_are_lowered_in_order(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM scratch AS tool\nCOPY t /t\nFROM busybox\nENV D=/data\nWORKDIR /w\n"
		  "RUN --mount=type=tmpfs,target=/z,size=1m --mount=from=tool,source=/t,target=rel "
		  "--mount=type=cache,target=$D/c,sharing=locked,uid=5,mode=0700 "
		  "--mount=target=/ctx,source=sub,rw x\n");
	const bxc_def_vertex *v = w.def->vertices.v[w.res.target];
	const bxc_op_exec *x = &v->op.exec;
	assert_int_equal(x->mounts.n, 5);
	assert_string_equal(x->mounts.v[1].dest, "/ctx");
	assert_string_equal(x->mounts.v[1].selector, "/sub");
	assert_false(x->mounts.v[1].readonly);
	assert_int_equal(x->mounts.v[1].output, BXC_DEF_NO_OUTPUT);
	assert_int_equal(v->inputs.v[x->mounts.v[1].input].vertex, w.res.context);
	assert_string_equal(x->mounts.v[2].dest, "/data/c");
	assert_string_equal(x->mounts.v[2].cache_id, "/data/c");
	assert_int_equal(x->mounts.v[2].sharing, BXC_CACHE_LOCKED);
	assert_int_equal(x->mounts.v[2].uid, 5);
	assert_int_equal(x->mounts.v[2].mode, 0700);
	assert_string_equal(x->mounts.v[3].dest, "/w/rel");
	assert_true(x->mounts.v[3].readonly);
	assert_string_equal(x->mounts.v[3].selector, "/t");
	assert_int_equal(x->mounts.v[4].kind, BXC_MOUNT_TMPFS);
	assert_int_equal(x->mounts.v[4].tmpfs_size, 1 << 20);
	const bxc_op_source *ctx = &w.def->vertices.v[w.res.context]->op.source;
	assert_string_equal(bxc_env_get(ctx->attrs, "followpaths"), "[\"/sub\",\"/t\"]");
	assert_fails(&w, "FROM busybox\nRUN --mount=type=bind,target=/m,rw=perhaps x\n",
		BXC_INVALID_ARGUMENT, "Dockerfile:2: invalid value for rw: perhaps");
	assert_fails(&w, "FROM busybox\nRUN --mount=type=bind,target=/ x\n", BXC_INVALID_ARGUMENT,
		"Dockerfile:2: invalid mount target \"/\"");
	assert_fails(&w, "FROM busybox\nRUN --mount=type=bnid,target=/x x\n", BXC_INVALID_ARGUMENT,
		"Dockerfile:2: unsupported mount type \"bnid\" (did you mean bind?)");
	assert_fails(&w, "FROM busybox\nRUN --mount=trget=/x x\n", BXC_INVALID_ARGUMENT,
		"unexpected key 'trget' in 'trget=/x' (did you mean target?)");
}

static void heredocs_run_as_scripts(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox\nRUN <<EOF\necho $A\nb\nEOF\nRUN <<-EOF\n\ta\n\tEOF\nRUN cat <<A "
		  "3<<B\n1\nA\n2\nB\n"
		  "RUN <<S\n#!/bin/sh\nx\nS\n");
	const bxc_op_exec *x = &named(&w, "[2/5] RUN <<EOF (echo $A...)")->op.exec;
	assert_string_equal(x->args[2], "echo $A\nb\n");
	assert_string_equal(named(&w, "[3/5] RUN <<-EOF (a)")->op.exec.args[2], "a\n");
	assert_string_equal(
		named(&w, "[4/5] RUN cat <<A 3<<B")->op.exec.args[2], "cat <<A 3<<B\n1\nA\n2\nB");
	const bxc_def_vertex *s = named(&w, "[5/5] RUN <<S (#!/bin/sh...)");
	assert_string_equal(s->op.exec.args[2], "/dev/pipes/S");
	assert_string_equal(s->op.exec.mounts.v[1].dest, "/dev/pipes");
	assert_true(s->op.exec.mounts.v[1].readonly);
	const bxc_def_vertex *doc = named(&w, "[internal] preparing inline document");
	assert_string_equal(doc->op.file.actions.v[0].dest, "/S");
	assert_int_equal(doc->op.file.actions.v[0].mode, 0755);
	assert_int_equal(s->meta.line_end, 17);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(steps_are_named_as_buildkit_names_them),
		cmocka_unit_test(stages_are_named_by_name_or_number),
		cmocka_unit_test(ten_steps_are_aligned),
		cmocka_unit_test(platforms_share_a_definition),
		cmocka_unit_test(only_needed_images_are_asked_for),
		cmocka_unit_test(wrong_graphs_are_refused),
		cmocka_unit_test(targets_and_duplicate_names),
		cmocka_unit_test(arguments_have_their_scopes),
		cmocka_unit_test(platform_arguments_are_there_when_declared),
		cmocka_unit_test(run_gets_shell_environment_and_root),
		cmocka_unit_test(run_mounts_are_lowered_in_order),
		cmocka_unit_test(heredocs_run_as_scripts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
