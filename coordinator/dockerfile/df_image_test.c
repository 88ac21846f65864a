/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/dockerfile/df_test_world.h"

/* ---- COPY, ADD, WORKDIR ---- */

static const bxc_file_action *action(const world *w, size_t i)
{
	const bxc_def_vertex *v = w->def->vertices.v[w->res.target];
	assert_int_equal(v->kind, BXC_OP_FILE);
	assert_true(i < v->op.file.actions.n);
	return &v->op.file.actions.v[i];
}

/* 1.2 ADD URL, 1.2 ADD git, 1.2 ADD --checksum */
static void what_add_takes_from_elsewhere_is_a_source(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox\nARG SUM=0123456789\nADD --chmod=644 --exclude=x "
		  "http://h/d/f.tar?q=1 a "
		  "https://h/r.git#v1:sub /d/\nADD --checksum=$SUM --keep-git-dir git@h:r /g\n"
		  "ADD --unpack=true http://h/ /e\n");
	const bxc_def_vertex *file = named(&w, "http://h/d/f.tar?q=1");
	assert_string_equal(file->op.source.identifier, "http://h/d/f.tar?q=1");
	assert_strv(file->op.source.attrs, LIST("http.filename=f.tar", NULL));
	assert_string_equal(file->platform.os, "");
	const bxc_def_vertex *repo = named(&w, "https://h/r.git#v1:sub");
	assert_string_equal(repo->op.source.identifier, "git://h/r.git#v1:sub");
	assert_strv(repo->op.source.attrs, LIST("git.fullurl=https://h/r.git", NULL));
	const bxc_def_vertex *kept = named(&w, "git@h:r");
	assert_strv(kept->op.source.attrs, LIST("git.checksum=0123456789", "git.fullurl=git@h:r",
						   "git.keepgitdir=true", NULL));
	assert_strv(
		named(&w, "http://h/")->op.source.attrs, LIST("http.filename=__unnamed__", NULL));
	const bxc_def_vertex *add =
		named(&w, "[2/4] ADD --chmod=644 --exclude=x http://h/d/f.tar?q=1 a "
			  "https://h/r.git#v1:sub /d/");
	assert_int_equal(add->op.file.actions.n, 3);
	const bxc_file_action *a = add->op.file.actions.v;
	assert_string_equal(a[0].src, "/f.tar");
	assert_false(a[0].unpack || a[0].wildcard || a[0].src_dir_contents);
	assert_int_equal(a[0].mode, 0644);
	assert_string_equal(a[1].src, "/a");
	assert_true(a[1].unpack && a[1].wildcard);
	assert_string_equal(a[2].src, "/");
	assert_true(a[2].src_dir_contents && !a[2].unpack);
	assert_strv(a[2].exclude, LIST("x", NULL));
	assert_true(a[0].source != a[1].source && a[1].source != a[2].source);
	assert_true(named(&w, "[4/4] ADD --unpack=true http://h/ /e")->op.file.actions.v[0].unpack);
	assert_history(&w, "-ARG SUM=0123456789\nADD --chmod=644 http://h/d/f.tar?q=1 a "
			   "https://h/r.git#v1:sub /d/ # buildkit\nADD git@h:r /g # buildkit\n"
			   "ADD http://h/ /e # buildkit");
}

static void copies_chain_their_sources(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox\nWORKDIR /w\nENV D=lib O=7\n"
		  "COPY --chown=$O:grp --chmod=4755 --exclude=*.o ../a \"b\" $D/*.go ./sub/\n");
	const bxc_def_vertex *v = w.def->vertices.v[w.res.target];
	assert_int_equal(v->inputs.n, 2);
	assert_int_equal(v->op.file.actions.n, 3);
	const bxc_file_action *a = action(&w, 0);
	assert_int_equal(a->target, 0);
	assert_int_equal(a->source, 1);
	assert_string_equal(a->src, "/a");
	assert_string_equal(a->dest, "/w/sub/");
	assert_int_equal(a->mode, 04755);
	assert_true(a->owner.is_set && a->owner.has_gid);
	assert_int_equal(a->owner.uid, 7);
	assert_string_equal(a->owner.group_name, "grp");
	assert_true(
		a->src_dir_contents && a->follow_symlink && a->wildcard && a->allow_empty_wildcard);
	assert_true(a->create_dest && !a->unpack);
	assert_strv(a->exclude, LIST("*.o", NULL));
	assert_int_equal(action(&w, 1)->target, 2);
	assert_string_equal(action(&w, 1)->src, "/b");
	assert_string_equal(action(&w, 2)->src, "/lib/*.go");
	assert_int_equal(action(&w, 2)->target, 3);
}

static void copy_of_quoted_words_and_destinations(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	static const char *const vectors[][3] = {
		{"COPY [\"b c\", \"/d e\"]", "/b c", "/d e"},
		{"COPY a .", "/a", "/w/"},
		{"COPY a/ x/.", "/a", "/w/x/"},
		{"COPY a $NO", "/a", "/w/"},
		{"COPY . /", "/", "/"},
		{"COPY 'a' ../b", "/a", "/b"},
		{"COPY a /x/../y//z", "/a", "/y/z"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(vectors); i++) {
		BXC_AUTOFREE char *text =
			bxc_str_fmt("FROM scratch\nWORKDIR /w\n%s\n", vectors[i][0]);
		lower(&w, text);
		assert_string_equal(action(&w, 0)->src, vectors[i][1]);
		assert_string_equal(action(&w, 0)->dest, vectors[i][2]);
	}
}

/* heredoc sources */
static void inline_files_are_copied(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "# escape=`\nFROM scratch\nENV A=val\nCOPY --chmod=u+x,go=rX <<one <<'two' f "
		  "/d/\n\"$A\" \\$A\none\n$A\ntwo\n");
	const bxc_def_vertex *v = w.def->vertices.v[w.res.target];
	assert_int_equal(v->op.file.actions.n, 3);
	assert_string_equal(action(&w, 0)->src, "/f");
	assert_int_equal(action(&w, 0)->target, BXC_DEF_NO_INPUT);
	assert_string_equal(action(&w, 1)->src, "/one");
	assert_string_equal(action(&w, 1)->mode_text, "u+x,go=rX");
	const bxc_def_vertex *one = w.def->vertices.v[v->inputs.v[action(&w, 1)->source].vertex];
	assert_int_equal(one->op.file.actions.v[0].data_len, 9);
	assert_memory_equal(one->op.file.actions.v[0].data, "\"val\" $A\n", 9);
	assert_int_equal(one->op.file.actions.v[0].mode, 0644);
	const bxc_def_vertex *two = w.def->vertices.v[v->inputs.v[action(&w, 2)->source].vertex];
	assert_int_equal(two->op.file.actions.v[0].data_len, 3);
	assert_history(&w, "-ENV A=val\nCOPY --chmod=u+x,go=rX f <<one <<two /d/ # buildkit");
}

static void copies_and_adds_refuse_what_they_cannot_do(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	static const struct {
		const char *line;
		bxc_code code;
		const char *want;
	} vectors[] = {
		{"COPY --chmod=888 a b", BXC_INVALID_ARGUMENT,
			"Dockerfile:2: invalid chmod parameter: '888'. it should be octal string "
			"and between 0 and 07777"},
		{"COPY --chmod=17777 a b", BXC_INVALID_ARGUMENT,
			"invalid chmod parameter: '17777'"},
		{"COPY --chmod=x+u a b", BXC_INVALID_ARGUMENT, "invalid chmod parameter"},
		{"COPY https://x/y /z", BXC_INVALID_ARGUMENT, "source can't be a URL for COPY"},
		{"COPY git@github.com:a/b.git /z", BXC_INVALID_ARGUMENT,
			"source can't be a git ref for COPY"},
		{"COPY --link --chown=app a b", BXC_INVALID_ARGUMENT,
			"Dockerfile:2: invalid user index: \"app\""},
		{"ADD --link --chown=7:staff a b", BXC_INVALID_ARGUMENT,
			"Dockerfile:2: invalid user index: \"staff\""},
		{"ADD --checksum=zz https://x/y /z", BXC_INVALID_ARGUMENT,
			"Dockerfile:2: checksum"},
		{"ADD --checksum=sha256:00 https://x/y.git /z", BXC_INVALID_ARGUMENT,
			"invalid checksum \"sha256:00\""},
		{"ADD --keep-git-dir=false https://x/y.git?keep-git-dir=true /z",
			BXC_INVALID_ARGUMENT, "inconsistent keep-git-dir configuration"},
		{"ADD https://x/y.git#--upload-pack=x /z", BXC_INVALID_ARGUMENT, "invalid git ref"},
		{"ADD https:///y /z", BXC_INVALID_ARGUMENT, "names no host"},
		{"ADD --checksum=sha256:00 a /z", BXC_INVALID_ARGUMENT,
			"checksum requires HTTP(S) or Git sources"},
		{"RUN --mount=type=secret,env=A y", BXC_INVALID_ARGUMENT,
			"Dockerfile:2: invalid secret mount. one of source, target required"},
		{"RUN --mount=type=secret,id=a,env=A-B y", BXC_INVALID_ARGUMENT,
			"env \"A-B\" of a secret is no name of a variable"},
		{"RUN --mount=type=secret,target=/ y", BXC_INVALID_ARGUMENT,
			"one of source, target required"},
		{"RUN --mount=type=secret,id=a,target=/ y", BXC_INVALID_ARGUMENT,
			"invalid mount target \"/\""},
		{"RUN --mount=type=ssh,source=/x y", BXC_INVALID_ARGUMENT,
			"ssh does not support source"},
		{"RUN --network=host y", BXC_PERMISSION_DENIED,
			"Dockerfile:2: network.host is not allowed: build with --allow "
			"network.host"},
		{"RUN --security=insecure y", BXC_PERMISSION_DENIED,
			"security.insecure is not allowed"},
		{"RUN --device=vendor.com/x=y,required z", BXC_FAILED_PRECONDITION,
			"Dockerfile:2: device \"vendor.com/x=y\" is requested by the build but no "
			"worker offers devices"},
		{"RUN []", BXC_INVALID_ARGUMENT, "RUN needs a command"},
		{"VOLUME [\"\"]", BXC_INVALID_ARGUMENT,
			"VOLUME specified can not be an empty string"},
		{"STOPSIGNAL SIGNOPE", BXC_INVALID_ARGUMENT, "invalid signal: SIGNOPE"},
		{"EXPOSE x", BXC_INVALID_ARGUMENT, "invalid containerPort: x"},
		{"EXPOSE 80/icmp", BXC_INVALID_ARGUMENT, "invalid proto: icmp"},
		{"ENV $NO=1", BXC_INVALID_ARGUMENT, "ENV names can not be blank"},
		{"ENV A=\"${B:?no b}\"", BXC_INVALID_ARGUMENT, "B: no b"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(vectors); i++) {
		BXC_AUTOFREE char *text = bxc_str_fmt("FROM busybox\n%s\n", vectors[i].line);
		assert_fails(&w, text, vectors[i].code, vectors[i].want);
	}
}

static const bxc_op_mount *mount_at(const bxc_def_vertex *v, const char *dest)
{
	BXC_ARR_FOREACH (m, &v->op.exec.mounts)
		if (bxc_str_eq(m->dest, dest))
			return m;
	fail_msg("no mount at '%s'", dest);
	return NULL;
}

static void secrets_become_mounts(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w,
		"FROM busybox\nWORKDIR /w\nARG A=b\n"
		"RUN --mount=type=secret,id=x/tok "
		"--mount=type=secret,target=/etc/key,required,mode=0440,uid=1,gid=2 "
		"--mount=type=secret,src=e$A,env=E --mount=type=secret,id=f,env=F,target=f x $E\n");
	/* The mask stands for the value in the name of the step. */
	const bxc_def_vertex *v = w.def->vertices.v[w.res.target];
	assert_true(bxc_str_has_suffix(v->meta.name, "target=f x ****"));
	assert_int_equal(v->op.exec.mounts.n, 5);
	const bxc_op_mount *m = mount_at(v, "/run/secrets/tok");
	assert_string_equal(m->cache_id, "x/tok");
	assert_true(m->optional && m->readonly && !m->env && m->mode == 0400);
	m = mount_at(v, "/etc/key");
	assert_string_equal(m->cache_id, "key");
	assert_true(!m->optional && m->mode == 0440 && m->uid == 1 && m->gid == 2);
	m = mount_at(v, "");
	assert_string_equal(m->cache_id, "eb");
	assert_string_equal(m->env, "E");
	m = mount_at(v, "/f");
	assert_string_equal(m->env, "F");
	assert_null(bxc_env_get(v->op.exec.env, "E"));
}

static void agents_become_mounts(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox\nRUN --mount=type=ssh,required "
		  "--mount=type=ssh,id=git,mode=0666,uid=3 x\n");
	const bxc_def_vertex *v = w.def->vertices.v[w.res.target];
	const bxc_op_mount *m = mount_at(v, "/run/buildkit/ssh_agent.0");
	assert_string_equal(m->cache_id, "default");
	assert_true(!m->optional && m->mode == 0600);
	m = mount_at(v, "/run/buildkit/ssh_agent.1");
	assert_string_equal(m->cache_id, "git");
	assert_true(m->optional && m->mode == 0666 && m->uid == 3);
	assert_string_equal(
		bxc_env_get(v->op.exec.env, "SSH_AUTH_SOCK"), "/run/buildkit/ssh_agent.0");
	lower(&w, "FROM busybox\nENV SSH_AUTH_SOCK=/mine\nRUN --mount=type=ssh,target=/a x\n");
	v = w.def->vertices.v[w.res.target];
	assert_string_equal(bxc_env_get(v->op.exec.env, "SSH_AUTH_SOCK"), "/mine");
}

static void entitlements_allow_what_steps_ask_for(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	w.o.allow_net_host = w.o.allow_insecure = true;
	w.o.net = BXC_NET_HOST;
	lower(&w, "FROM busybox\nRUN --security=insecure x\nRUN --network=none y\n");
	assert_int_equal(named(&w, "[2/3] RUN --security=insecure x")->op.exec.net, BXC_NET_HOST);
	assert_true(named(&w, "[2/3] RUN --security=insecure x")->op.exec.insecure);
	assert_int_equal(named(&w, "[3/3] RUN --network=none y")->op.exec.net, BXC_NET_NONE);
	w.o.allow_net_host = false;
	lower(&w, "FROM busybox\nRUN --network=none y\n");
	assert_fails(
		&w, "FROM busybox\nRUN x\n", BXC_PERMISSION_DENIED, "network.host is not allowed");
}

static void what_unused_stages_hold_does_not_matter(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox AS no\nADD https://x/y /z\nRUN --mount=type=ssh x\nFROM "
		  "busybox\nRUN true\n");
	assert_int_equal(w.def->vertices.n, 2);
	lower(&w, "FROM scratch\nCOPY --link a b\nADD <<E /e\nE\nADD f /\n");
	assert_true(action(&w, 0)->unpack);
	assert_history(&w, "COPY a b # buildkit\nADD <<E /e # buildkit\nADD f / # buildkit");
}

static void workdirs_are_made_by_their_user(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox\nUSER app\nWORKDIR /a\nWORKDIR b/../c\nWORKDIR /\nWORKDIR d\n");
	const bxc_file_action *a = action(&w, 0);
	assert_int_equal(a->kind, BXC_FILE_MKDIR);
	assert_string_equal(a->dest, "/d");
	assert_int_equal(a->mode, 0755);
	assert_true(a->make_parents);
	assert_string_equal(a->owner.user_name, "app");
	assert_false(a->owner.has_gid);
	assert_string_equal(w.res.image->working_dir, "/d");
	assert_history(&w, "-USER app\nWORKDIR /a\nWORKDIR /a/c\n-WORKDIR /\nWORKDIR /d");
}

static void the_context_is_one_source_of_all_paths(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	static const char text[] = "FROM scratch AS a\nCOPY src/ /s\nFROM scratch\nCOPY *.go "
				   "./x/../y /\nCOPY --from=a /s /no\n";
	lower(&w, text);
	const bxc_def_vertex *v = w.def->vertices.v[w.res.context];
	assert_string_equal(v->op.source.identifier, "local://context");
	assert_strv(v->op.source.attrs,
		LIST("followpaths=[\"/*.go\",\"/src\",\"/y\"]", "session=s1", NULL));
	assert_int_equal(v->platform.os[0], 0);
	w.o.session = "s2";
	size_t n = w.def->vertices.n;
	lower(&w, text);
	assert_int_equal(w.def->vertices.n, 2 * n);
	lower(&w, "FROM scratch\nCOPY a /a\nCOPY . /b\n");
	assert_string_equal(
		bxc_env_get(w.def->vertices.v[w.res.context]->op.source.attrs, "followpaths"),
		"[\"/\"]");
}

static void no_cache_marks_steps(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	BXC_AUTOSTRV char **filter = list_of(LIST("A", NULL));
	w.o.no_cache_filter = filter;
	lower(&w, "FROM busybox AS a\nRUN x\nFROM a AS b\nRUN y\n");
	assert_true(named(&w, "[a 2/2] RUN x")->meta.ignore_cache);
	assert_false(named(&w, "[b 1/1] RUN y")->meta.ignore_cache);
}

/* ---- the image ---- */

/* 10.2.26 Texts of the history, 10.2.29 Inheritance */
static void configuration_is_inherited_and_told_in_history(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	BXC_AUTOSTRV char **labels = list_of(LIST("a=cli", "z=1", NULL));
	w.o.labels = labels;
	lower(&w, "FROM busybox\nLABEL a=b c=\"d e\"\nEXPOSE 90/UDP 80 8000-8001\nVOLUME /a "
		  "$NO/b\nVOLUME [\"/c d\"]\n"
		  "HEALTHCHECK --interval=90s --timeout=1500ms --retries=3 CMD curl x\nSTOPSIGNAL "
		  "SIGTERM\n"
		  "ENTRYPOINT [\"e\", \"q\\\"\"]\nCMD run it\nMAINTAINER me\nONBUILD RUN later\n");
	const bxc_oci_config *c = w.res.image;
	assert_string_equal(bxc_env_get(c->labels, "a"), "cli");
	assert_string_equal(bxc_env_get(c->labels, "c"), "d e");
	assert_string_equal(bxc_env_get(c->labels, "z"), "1");
	assert_int_equal(bxc_strv_len(c->exposed_ports), 4);
	assert_true(bxc_strv_has(c->exposed_ports, "90/udp"));
	assert_true(bxc_strv_has(c->volumes, "/c d"));
	assert_strv(c->entrypoint, LIST("e", "q\"", NULL));
	assert_strv(c->cmd, LIST("/bin/sh", "-c", "run it", NULL));
	assert_true(c->args_escaped);
	assert_string_equal(c->author, "me");
	assert_strv(c->on_build, LIST("RUN later", NULL));
	assert_int_equal(c->healthcheck.interval_ns, 90000000000);
	assert_strv(c->healthcheck.test, LIST("CMD-SHELL", "curl x", NULL));
	assert_int_equal(c->diff_ids.n, 1);
	assert_true(c->created_ns == INT64_MIN);
	assert_true(c->history.v[0].created_ns == 5);
	assert_true(c->history.v[1].created_ns == INT64_MIN);
	assert_string_equal(c->history.v[1].comment, "buildkit.dockerfile.v0");
	assert_history(&w, "-LABEL a=b c=d e\n-EXPOSE [80/tcp 8000/tcp 8001/tcp 90/udp]\n-VOLUME "
			   "[/a /b]\n-VOLUME [/c d]\n"
			   "-HEALTHCHECK {Test:[CMD-SHELL curl x] Interval:1m30s Timeout:1.5s "
			   "StartPeriod:0s StartInterval:0s Retries:3}\n"
			   "-STOPSIGNAL SIGTERM\n-ENTRYPOINT [\"e\" \"q\\\"\"]\n-CMD [\"/bin/sh\" "
			   "\"-c\" \"run it\"]\n-MAINTAINER me");
}

/* 10.2.29 Inheritance */
static void entrypoint_resets_an_inherited_command_only(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM busybox\nENTRYPOINT x\n");
	assert_null(w.res.image->cmd);
	lower(&w, "FROM busybox\nCMD [\"a\"]\nENTRYPOINT x\n");
	assert_strv(w.res.image->cmd, LIST("a", NULL));
	lower(&w, "FROM busybox AS p\nCMD [\"a\"]\nFROM p\nENTRYPOINT [\"x\"]\n");
	assert_null(w.res.image->cmd);
}

static void an_image_from_scratch_has_defaults(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "FROM scratch\nENV A=1\nCMD [\"/x\"]\n");
	assert_int_equal(w.res.target, BXC_DEF_NO_INPUT);
	assert_int_equal(w.def->vertices.n, 0);
	assert_string_equal(w.res.image->working_dir, "/");
	assert_strv(w.res.image->env, LIST("PATH=" DF_DEFAULT_PATH, "A=1", NULL));
	assert_string_equal(w.res.image->platform.arch, "amd64");
	assert_null(w.res.base_ref);
	assert_history(&w, "-ENV A=1\n-CMD [\"/x\"]");
}

static void triggers_run_first_in_children(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	bxc_oci_config *c = add_image(&w, "docker.io/library/ob:latest");
	bxc_strv_push(&c->on_build, "COPY --from=tool /t /t");
	bxc_strv_push(&c->on_build, "ENV X=$Y");
	static const char text[] = "FROM ob AS base\nONBUILD COPY <<E /h\ntext\nE\nONBUILD RUN "
				   "one\nRUN own\nFROM base\nRUN two\n";
	assert_int_equal(try_lower(&w, text), 1);
	assert_int_equal(w.res.needs.n, 1);
	assert_string_equal(w.res.needs.v[0].ref, "docker.io/library/tool:latest");
	add_image(&w, "docker.io/library/tool:latest");
	lower(&w, text);
	named(&w, "[base 2/3] ONBUILD COPY --from=tool /t /t");
	named(&w, "[base 3/3] RUN own");
	named(&w, "[stage-1 1/3] ONBUILD COPY <<E /h");
	named(&w, "[stage-1 2/3] ONBUILD RUN one");
	named(&w, "[stage-1 3/3] RUN two");
	assert_null(w.res.image->on_build);
	assert_int_equal(named(&w, "[stage-1 2/3] ONBUILD RUN one")->meta.line_start, 7);
	assert_history(&w, "COPY /t /t # buildkit\n-ENV X=\nRUN /bin/sh -c own # buildkit\n"
			   "COPY <<E /h # buildkit\nRUN /bin/sh -c one # buildkit\nRUN /bin/sh -c "
			   "two # buildkit");
}

static void an_epoch_dates_what_is_made(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	BXC_AUTOSTRV char **args = list_of(LIST("SOURCE_DATE_EPOCH=100", NULL));
	w.o.build_args = args;
	lower(&w, "FROM scratch\nCOPY a b\n");
	assert_true(w.res.has_epoch && w.res.epoch_ns == 100000000000);
	assert_true(action(&w, 0)->timestamp_ns == 100000000000);
	assert_true(w.res.image->history.v[0].created_ns == 100000000000);
	free(args[0]);
	args[0] = bxc_strdup("SOURCE_DATE_EPOCH=soon");
	assert_fails(&w, "FROM scratch\n", BXC_INVALID_ARGUMENT, "invalid SOURCE_DATE_EPOCH: soon");
}

static void frontends_and_checks_of_others_are_not_skipped(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	lower(&w, "# syntax=docker/dockerfile:1.7-labs\n# check=skip=all;error=true\nfrom busybox "
		  "AS x\n");
	assert_int_equal(w.res.warnings.n, 0);
	assert_fails(&w, "# syntax=ghcr.io/x/y\nFROM busybox\n", BXC_UNIMPLEMENTED,
		"Dockerfile:1: external frontends are not supported: ghcr.io/x/y");
	assert_fails(
		&w, "# check=foo=1\nFROM busybox\n", BXC_INVALID_ARGUMENT, "invalid check option");
}

static void one_platform_or_several_as_asked_for(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	BXC_AUTOSTRV char **args = list_of(LIST("BUILDKIT_MULTI_PLATFORM=0", NULL));
	w.o.build_args = args;
	lower(&w, "FROM scratch\n");
	w.o.multi_platform = true;
	assert_fails(&w, "FROM scratch\n", BXC_INVALID_ARGUMENT,
		"conflicting config: returning multiple target platforms is not allowed");
	free(args[0]);
	args[0] = bxc_strdup("BUILDKIT_MULTI_PLATFORM=true");
	lower(&w, "FROM scratch\n");
	w.o.multi_platform = false;
	lower(&w, "FROM scratch\n");
	assert_true(w.res.multi_platform);
}

static void expansion_of_a_file_is_bounded(void **state)
{
	(void)state;
	AUTOWORLD world w;
	world_init(&w);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1u << 20);
	bxc_buf_adds(&b, "FROM scratch\nENV a=0123456789abcdef\n");
	for (int i = 0; i < 40; i++)
		bxc_buf_adds(&b, "ENV a=$a$a\n");
	assert_int_equal(try_lower(&w, bxc_buf_text(&b)), -BXC_RESOURCE_EXHAUSTED);
	assert_non_null(bxc_err_get_detail(w.err, "line"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_add_takes_from_elsewhere_is_a_source),
		cmocka_unit_test(copies_chain_their_sources),
		cmocka_unit_test(copy_of_quoted_words_and_destinations),
		cmocka_unit_test(inline_files_are_copied),
		cmocka_unit_test(copies_and_adds_refuse_what_they_cannot_do),
		cmocka_unit_test(secrets_become_mounts),
		cmocka_unit_test(agents_become_mounts),
		cmocka_unit_test(entitlements_allow_what_steps_ask_for),
		cmocka_unit_test(what_unused_stages_hold_does_not_matter),
		cmocka_unit_test(workdirs_are_made_by_their_user),
		cmocka_unit_test(the_context_is_one_source_of_all_paths),
		cmocka_unit_test(no_cache_marks_steps),
		cmocka_unit_test(configuration_is_inherited_and_told_in_history),
		cmocka_unit_test(entrypoint_resets_an_inherited_command_only),
		cmocka_unit_test(an_image_from_scratch_has_defaults),
		cmocka_unit_test(triggers_run_first_in_children),
		cmocka_unit_test(an_epoch_dates_what_is_made),
		cmocka_unit_test(frontends_and_checks_of_others_are_not_skipped),
		cmocka_unit_test(one_platform_or_several_as_asked_for),
		cmocka_unit_test(expansion_of_a_file_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
