/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/base/limits.h"
#include "common/definition/definition.h"

#define GOLDEN BXC_SOURCE_DIR "/common/definition/testdata/golden.txt"

static bxc_platform amd64(void)
{
	return (bxc_platform){.os = "linux", .arch = "amd64"};
}

static uint32_t add(bxc_def *d, bxc_def_vertex *v)
{
	uint32_t index = UINT32_MAX;
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_def_add(d, v, &index, &err), err);
	return index;
}

static bxc_def_vertex *new_source(const char *identifier)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	v->op.source.identifier = bxc_strdup(identifier);
	if (!bxc_str_has_prefix(identifier, "local://"))
		v->platform = amd64();
	return v;
}

static bxc_def_vertex *new_run(uint32_t base, const char *arg)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_EXEC);
	v->platform = amd64();
	bxc_strv_push(&v->op.exec.args, "/bin/sh");
	bxc_strv_push(&v->op.exec.args, "-c");
	bxc_strv_push(&v->op.exec.args, arg);
	v->op.exec.cwd = bxc_strdup("/");
	bxc_op_mount *m = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/");
	m->input = bxc_def_add_input(v, base, 0);
	m->output = 0;
	return v;
}

static bxc_def_vertex *new_copy(uint32_t target, uint32_t source, const char *src, const char *dest)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_FILE);
	v->platform = amd64();
	uint32_t t = bxc_def_add_input(v, target, 0), s = bxc_def_add_input(v, source, 0);
	bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_COPY);
	a->target = t;
	a->source = s;
	a->src = bxc_strdup(src);
	a->dest = bxc_strdup(dest);
	a->create_dest = true;
	return v;
}

static bxc_def_vertex *rich_run(uint32_t base, uint32_t tools)
{
	bxc_def_vertex *v = new_run(base, "make \xc3\xbc");
	bxc_op_exec *e = &v->op.exec;
	bxc_strv_push(&e->env, "PATH=/bin");
	bxc_strv_push(&e->proxy_env, "http_proxy=http://p:1");
	bxc_strv_push(&e->extra_hosts, "db=10.0.0.1");
	bxc_strv_push(&e->ulimits, "nofile=1024:-1");
	e->user = bxc_strdup("app:app");
	e->hostname = bxc_strdup("h.example");
	e->cgroup_parent = bxc_strdup("/builds");
	e->net = BXC_NET_NONE;
	e->insecure = true;
	e->shm_size = UINT64_C(1) << 60;
	bxc_op_mount *m = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/tools");
	m->input = bxc_def_add_input(v, tools, 0);
	m->selector = bxc_strdup("/usr/local");
	m->readonly = true;
	m = bxc_def_add_mount(v, BXC_MOUNT_CACHE, "/cache");
	m->cache_id = bxc_strdup("/cache");
	m->sharing = BXC_CACHE_LOCKED;
	m->uid = 7;
	m = bxc_def_add_mount(v, BXC_MOUNT_TMPFS, "/tmp");
	m->tmpfs_size = 4096;
	m = bxc_def_add_mount(v, BXC_MOUNT_SECRET, "/run/secrets/k");
	m->cache_id = bxc_strdup("k");
	m = bxc_def_add_mount(v, BXC_MOUNT_SECRET, "");
	m->cache_id = bxc_strdup("k2");
	m->env = bxc_strdup("TOKEN");
	m->optional = true;
	m = bxc_def_add_mount(v, BXC_MOUNT_SSH, "/run/ssh");
	m->cache_id = bxc_strdup("default");
	return v;
}

static bxc_def_vertex *rich_file(uint32_t base, uint32_t ctx)
{
	bxc_def_vertex *v = new_copy(base, ctx, "/src/*.c", "/dst/");
	bxc_file_action *a = &v->op.file.actions.v[0];
	uint32_t n = (uint32_t)v->inputs.n;
	a->wildcard = a->allow_empty_wildcard = a->follow_symlink = a->src_dir_contents = true;
	a->unpack = a->replace_existing = true;
	bxc_strv_push(&a->exclude, "**/*.o");
	bxc_strv_push(&a->include, "lib");
	a->mode_text = bxc_strdup("u=rwX,go-w");
	a->owner = (bxc_def_owner){
		.is_set = true, .user_name = bxc_strdup("app"), .gid = 5, .has_gid = true};
	a->timestamp_ns = INT64_C(1724150000123456789);
	a = bxc_def_add_action(v, BXC_FILE_MKFILE);
	a->target = n;
	a->dest = bxc_strdup("/f");
	a->data = bxc_memdup("a\0b", 3);
	a->data_len = 3;
	a->mode = 0644;
	a = bxc_def_add_action(v, BXC_FILE_MKDIR);
	a->target = n + 1;
	a->dest = bxc_strdup("/d/e");
	a->make_parents = true;
	a->mode = 0;
	a->owner.is_set = true;
	a = bxc_def_add_action(v, BXC_FILE_RM);
	a->target = n + 2;
	a->dest = bxc_strdup("/g");
	a->allow_not_found = true;
	a = bxc_def_add_action(v, BXC_FILE_SYMLINK);
	a->target = n + 3;
	a->dest = bxc_strdup("/l");
	a->link_target = bxc_strdup("../x");
	return v;
}

/* One of everything. */
static bxc_def *sample(void)
{
	bxc_def *d = bxc_def_new();
	uint32_t image = add(d, new_source("docker-image://docker.io/library/busybox:latest"));
	bxc_def_vertex *local = new_source("local://context");
	bxc_strv_push(&local->op.source.attrs, "session=s1");
	bxc_strv_push(&local->op.source.attrs, "exclude=[\"*.o\"]");
	uint32_t ctx = add(d, local);
	bxc_def_vertex *run = rich_run(image, ctx);
	run->meta.name = bxc_strdup("[build 2/4] RUN make");
	run->meta.stage = bxc_strdup("build");
	run->meta.line_start = 3;
	run->meta.line_end = 4;
	uint32_t built = add(d, run);
	uint32_t file = add(d, rich_file(built, ctx));
	bxc_def_vertex *merge = bxc_def_vertex_new(BXC_OP_MERGE);
	bxc_def_add_input(merge, file, 0);
	bxc_def_add_input(merge, image, 0);
	uint32_t merged = add(d, merge);
	bxc_def_vertex *diff = bxc_def_vertex_new(BXC_OP_DIFF);
	diff->op.diff.lower = bxc_def_add_input(diff, image, 0);
	diff->op.diff.upper = bxc_def_add_input(diff, merged, 0);
	add(d, diff);
	return d;
}

/* For each vertex the canonical op and the three digests. */
static char *describe(const bxc_def *d)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1u << 20);
	BXC_ARR_FOREACH (v, &d->vertices) {
		char s[BXC_DIGEST_STR_MAX];
		BXC_AUTOJSON bxc_json *j = bxc_def_op_to_json(*v);
		BXC_AUTOFREE char *text = bxc_json_print_canonical(j);
		bxc_digest op = bxc_def_op_digest(*v), content = bxc_def_op_content_digest(*v);
		bxc_buf_addf(&b, "%s\nvertex  %s\n", text, bxc_digest_str(&(*v)->digest, s));
		bxc_buf_addf(&b, "op      %s\n", bxc_digest_str(&op, s));
		bxc_buf_addf(&b, "content %s\n\n", bxc_digest_str(&content, s));
	}
	return bxc_buf_steal(&b);
}

static void encodings_and_digests_stay_as_they_are(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = sample();
	BXC_AUTOFREE char *got = describe(d);
	BXC_AUTOFREE char *want = bxc_test_read_file(GOLDEN, NULL);
	assert_string_equal(got, want);
}

static void definitions_survive_transport(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = sample(), *e = NULL;
	BXC_AUTOJSON bxc_json *j = bxc_def_to_json(d), *k = NULL;
	BXC_AUTOFREE char *text = bxc_json_print(j);
	assert_ok(bxc_json_parse(bxc_slice_of(text, strlen(text)), &k, &err), err);
	assert_ok(bxc_def_from_json(k, &e, &err), err);
	assert_ok(bxc_def_validate(e, &err), err);
	BXC_AUTOJSON bxc_json *l = bxc_def_to_json(e);
	BXC_AUTOFREE char *text2 = bxc_json_print(l);
	assert_string_equal(text, text2);
	BXC_ARR_FOREACH (v, &d->vertices) {
		BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *w = NULL;
		BXC_AUTOJSON bxc_json *vj = bxc_def_vertex_to_json(*v);
		assert_ok(bxc_def_vertex_from_json(vj, &w, &err), err);
		assert_int_equal(w->inputs.n, (*v)->inputs.n);
		assert_true(bxc_digest_eq(&w->digest, &(*v)->digest));
		bxc_digest a = bxc_def_op_digest(w), b = bxc_def_op_digest(*v);
		assert_true(bxc_digest_eq(&a, &b));
		assert_true(bxc_str_eq(w->meta.name, (*v)->meta.name));
	}
	const bxc_file_action *mkfile = &e->vertices.v[3]->op.file.actions.v[1];
	assert_int_equal(mkfile->data_len, 3);
	assert_memory_equal(mkfile->data, "a\0b", 3);
	assert_true(e->vertices.v[3]->op.file.actions.v[0].timestamp_ns ==
		    INT64_C(1724150000123456789));
}

static void equal_vertices_are_one(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = bxc_def_new();
	uint32_t image = add(d, new_source("docker-image://x"));
	bxc_def_vertex *a = new_run(image, "a"), *b = new_run(image, "a"), *c = new_run(image, "b");
	a->meta.name = bxc_strdup("first");
	b->meta.name = bxc_strdup("second");
	b->meta.ignore_cache = true;
	uint32_t first = add(d, a);
	assert_int_equal(add(d, b), first);
	assert_int_not_equal(add(d, c), first);
	assert_int_equal(d->vertices.n, 3);
	assert_string_equal(d->vertices.v[first]->meta.name, "first");
	assert_true(d->vertices.v[first]->meta.ignore_cache);
	/* The same op on another input is another vertex. */
	uint32_t other = add(d, new_source("docker-image://y"));
	assert_int_not_equal(add(d, new_run(other, "a")), first);
}

static bxc_digest key(bxc_def_vertex *v, bool content)
{
	bxc_digest d = content ? bxc_def_op_content_digest(v) : bxc_def_op_digest(v);
	bxc_def_vertex_free(v);
	return d;
}

static bool same(bxc_digest a, bxc_digest b)
{
	return bxc_digest_eq(&a, &b);
}

static void keys_leave_out_what_does_not_matter(void **state)
{
	(void)state;
	bxc_def_vertex *v = rich_run(0, 1);
	bxc_strv_push(&v->op.exec.proxy_env, "https_proxy=http://p:2");
	v->op.exec.shm_size = 5;
	memcpy(strchr(v->op.exec.extra_hosts[0], '=') + 1, "10.9.9.9", 8);
	assert_true(same(key(v, false), key(rich_run(0, 1), false)));

	v = rich_run(0, 1);
	v->op.exec.extra_hosts[0][0] = 'x';
	assert_false(same(key(v, false), key(rich_run(0, 1), false)));
	v = rich_run(0, 1);
	free(v->op.exec.mounts.v[2].cache_id);
	v->op.exec.mounts.v[2].cache_id = bxc_strdup("other");
	assert_false(same(key(v, false), key(rich_run(0, 1), false)));
	v = rich_run(0, 1);
	v->op.exec.net = BXC_NET_HOST;
	assert_false(same(key(v, false), key(rich_run(0, 1), false)));
	v = rich_run(0, 1);
	memcpy(v->platform.arch, "arm64", 6);
	assert_false(same(key(v, false), key(rich_run(0, 1), false)));
}

static void only_content_keys_forget_where_content_came_from(void **state)
{
	(void)state;
	/* By definition: another path is another thing. */
	assert_false(same(key(new_copy(0, 1, "/a/f", "/d"), false),
		key(new_copy(0, 1, "/b/f", "/d"), false)));
	/* By content: only the name counts. */
	assert_true(same(
		key(new_copy(0, 1, "/a/f", "/d"), true), key(new_copy(0, 1, "/b/f", "/d"), true)));
	assert_false(same(
		key(new_copy(0, 1, "/a/f", "/d"), true), key(new_copy(0, 1, "/a/g", "/d"), true)));
	/* A tree that is also worked on is known by its key alone, so the path has to stay. */
	assert_false(same(
		key(new_copy(0, 0, "/a/f", "/d"), true), key(new_copy(0, 0, "/b/f", "/d"), true)));

	bxc_def_vertex *v = rich_run(0, 1);
	assert_true(bxc_def_input_is_content(v, 1));
	assert_false(bxc_def_input_is_content(v, 0));
	free(v->op.exec.mounts.v[1].selector);
	v->op.exec.mounts.v[1].selector = bxc_strdup("/opt");
	bxc_digest def = bxc_def_op_digest(v), content = key(v, true);
	assert_false(same(def, key(rich_run(0, 1), false)));
	assert_true(same(content, key(rich_run(0, 1), true)));
	v = rich_run(0, 1);
	v->op.exec.mounts.v[1].readonly = false;
	assert_false(bxc_def_input_is_content(v, 1));
	bxc_def_vertex_free(v);
}

/* Each case spoils one field: 0.. of an exec, 30.. of a file op, 50.. of a source. */

static void set(char **field, const char *s)
{
	free(*field);
	*field = bxc_strdup(s);
}

static void spoil(bxc_def_vertex *v, int i)
{
	bxc_op_exec *e = &v->op.exec;
	bxc_file_action *a = v->op.file.actions.v;
	switch (i) {
	case 0:
		bxc_strv_free(e->args);
		e->args = NULL;
		break;
	case 1:
		set(&e->cwd, "rel");
		break;
	case 2:
		set(&e->cwd, "/a/../b");
		break;
	case 3:
		set(&e->mounts.v[0].dest, "/x");
		break;
	case 4:
		set(&e->mounts.v[1].dest, "/");
		break;
	case 5:
		set(&e->mounts.v[1].dest, "/a//b");
		break;
	case 6:
		set(&e->mounts.v[1].dest, "/a/");
		break;
	case 7:
		e->mounts.v[0].input = 9;
		break;
	case 8:
		e->mounts.v[1].output = 0;
		break;
	case 9:
		e->mounts.v[2].output = 1;
		break;
	case 10:
		e->mounts.v[0].output = 99;
		break;
	case 11:
		set(&e->mounts.v[1].selector, "../x");
		break;
	case 12:
		set(&e->mounts.v[2].cache_id, "");
		break;
	case 13:
		e->mounts.v[4].input = 0;
		break;
	case 14:
		set(&e->mounts.v[5].env, "A=B");
		break;
	case 15:
		bxc_strv_push(&e->extra_hosts, "a=1.2.3.4\n6.6.6.6 b");
		break;
	case 16:
		bxc_strv_push(&e->extra_hosts, "a");
		break;
	case 17:
		bxc_strv_push(&e->ulimits, "nofile=1");
		break;
	case 18:
		bxc_strv_push(&e->env, "novalue");
		break;
	case 19:
		bxc_strv_push(&e->env, "A=\xff");
		break;
	case 20:
		set(&e->hostname, "a b");
		break;
	case 21:
		set(&e->cgroup_parent, "/../../x");
		break;
	case 22:
		while (e->mounts.n) {
			bxc_op_mount *m = &e->mounts.v[--e->mounts.n];
			free(m->dest);
			free(m->selector);
			free(m->cache_id);
			free(m->env);
		}
		break;
	case 23:
		memcpy(v->platform.arch, "a/b", 4);
		break;
	case 24:
		v->platform.os[0] = '\0';
		break;
	case 25:
		e->mounts.v[0].kind = BXC_MOUNT_TMPFS;
		break;
	case 26:
		e->mounts.v[0].mode = 010000;
		break;
	case 30:
		a[0].target = 99;
		break;
	case 31:
		a[0].source = 2;
		break;
	case 32:
		set(&a[0].src, "x");
		break;
	case 33:
		set(&a[0].src, "/a/../b");
		break;
	case 34:
		set(&a[0].dest, "");
		break;
	case 35:
		set(&a[1].dest, "/f/");
		break;
	case 36:
		a[0].mode = 010000;
		break;
	case 37:
		set(&a[0].mode_text, "u+q");
		break;
	case 38:
		set(&a[0].owner.user_name, "a:b");
		break;
	case 39:
		set(&a[4].link_target, "");
		break;
	case 40:
		set(&a[3].dest, "/");
		break;
	case 41:
		a[2].target = 2 + 2;
		break;
	case 42:
		a[2].kind = BXC_FILE_UNKNOWN;
		break;
	case 43:
		set(&a[0].dest, "/a/./b");
		break;
	case 50:
		set(&v->op.source.identifier, "busybox");
		break;
	case 51:
		set(&v->op.source.identifier, "://x");
		break;
	case 52:
		set(&v->op.source.identifier, "local://");
		break;
	case 53:
		bxc_strv_push(&v->op.source.attrs, "novalue");
		break;
	case 54:
		bxc_strv_push(&v->op.source.attrs, "a=1");
		bxc_strv_push(&v->op.source.attrs, "a=2");
		break;
	case 55:
		bxc_def_add_input(v, 0, 0);
		break;
	case 56:
		v->meta.line_start = 2;
		break;
	default:
		fail_msg("no case %d", i);
	}
}

static void malformed_vertices_are_refused(void **state)
{
	(void)state;
	for (int i = 0; i <= 56; i++) {
		if ((i > 26 && i < 30) || (i > 43 && i < 50))
			continue;
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_CLEANUP(bxc_def_freep) bxc_def *d = bxc_def_new();
		uint32_t image = add(d, new_source("docker-image://x")),
			 ctx = add(d, new_source("local://c")), index;
		bxc_def_vertex *v = i < 30   ? rich_run(image, ctx)
				    : i < 50 ? rich_file(image, ctx)
					     : new_source("git://x");
		spoil(v, i);
		if (bxc_def_add(d, v, &index, &err) != -BXC_INVALID_ARGUMENT)
			fail_msg("case %d was taken", i);
	}
}

static void inputs_must_exist_and_come_first(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = bxc_def_new();
	uint32_t image = add(d, new_source("docker-image://x")), index;
	assert_err(bxc_def_add(d, new_run(1, "x"), &index, &err), BXC_INVALID_ARGUMENT, err);
	bxc_def_vertex *v = new_run(image, "x");
	v->inputs.v[0].output = 1;
	assert_err(bxc_def_add(d, v, &index, &err), BXC_INVALID_ARGUMENT, err);
	v = new_run(image, "x");
	v->op.exec.mounts.v[0].output = BXC_DEF_NO_OUTPUT;
	uint32_t silent = add(d, v);
	assert_err(bxc_def_add(d, new_run(silent, "y"), &index, &err), BXC_INVALID_ARGUMENT, err);
}

/* A change of one byte of a good document is found by the digest, an unknown field by the reader.
 */
static void tampered_documents_are_refused(void **state)
{
	(void)state;
	static const char *const changes[][2] = {{"make", "MAKE"}, {"\"output\":0", "\"output\":1"},
		{"\"vertex\":0", "\"vertex\":9"}, {"\"readonly\":true", "\"readonlx\":true"},
		{"\"version\":1", "\"version\":2"}, {"busybox", "busyboy"},
		{"\"kind\":\"cache\"", "\"kind\":\"cachf\""},
		{"\"digest\":\"sha256:", "\"digest\":\"sha257:"}};
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = sample();
	BXC_AUTOJSON bxc_json *j = bxc_def_to_json(d);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(changes); i++) {
		BXC_AUTOFREE char *text = bxc_json_print(j);
		char *at = strstr(text, changes[i][0]);
		assert_non_null(at);
		memcpy(at, changes[i][1], strlen(changes[i][1]));
		BXC_AUTOJSON bxc_json *k = NULL;
		assert_int_equal(bxc_json_parse(bxc_slice_of(text, strlen(text)), &k, NULL), 0);
		bxc_def *e = NULL;
		if (bxc_def_from_json(k, &e, NULL) == 0)
			fail_msg("'%s' went unseen", changes[i][1]);
	}
}

static void large_definitions_are_quick(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = bxc_def_new();
	uint32_t at = add(d, new_source("docker-image://x")), index;
	for (int i = 0; i < 5000; i++) {
		char arg[16];
		snprintf(arg, sizeof(arg), "%d", i);
		at = add(d, new_run(at, arg));
	}
	BXC_AUTOJSON bxc_json *j = bxc_def_to_json(d);
	BXC_CLEANUP(bxc_def_freep) bxc_def *e = NULL;
	assert_ok(bxc_def_from_json(j, &e, &err), err);
	assert_int_equal(e->vertices.n, 5001);
	index = add(e, new_run(0, "0"));
	assert_int_equal(index, 1);
}

static void gathered_vertices_are_handed_over(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_def_freep)
	bxc_def *d = bxc_def_new(), *to = bxc_def_new(), *plain = bxc_def_new();
	uint32_t i = 0, places[4] = {0};
	assert_ok(bxc_def_append(d, new_source("docker-image://a"), &i, &err), err);
	assert_ok(bxc_def_append(d, new_source("docker-image://a"), &i, &err), err);
	assert_ok(bxc_def_append(d, new_run(1, "x"), &i, &err), err);
	assert_ok(bxc_def_append(d, new_source("local://context"), &i, &err), err);
	for (i = 0; i < 3; i++)
		assert_ok(bxc_def_hand_over(d, i, places, to, &err), err);
	assert_int_equal(places[0], places[1]);
	assert_int_equal(to->vertices.n, 2);
	add(plain, new_source("docker-image://a"));
	add(plain, new_run(0, "x"));
	assert_true(bxc_digest_eq(&to->vertices.v[1]->digest, &plain->vertices.v[1]->digest));
	/* What was put into a source since is looked at. */
	bxc_strv_push(&d->vertices.v[3]->op.source.attrs, "no pair");
	assert_err(bxc_def_hand_over(d, 3, places, to, &err), BXC_INVALID_ARGUMENT, err);
	assert_null(d->vertices.v[3]);
}

static void steps_share_an_environment(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_def_freep) bxc_def *shared = bxc_def_new(), *own = bxc_def_new();
	BXC_CLEANUP(bxc_def_env_unrefp) bxc_def_env *env = NULL, *bad = NULL;
	char **list = NULL, **wrong = NULL;
	bxc_strv_push(&list, "A=1");
	bxc_strv_push(&wrong, "=1");
	assert_ok(bxc_def_env_new(list, &env, &err), err);
	assert_err(bxc_def_env_new(wrong, &bad, &err), BXC_INVALID_ARGUMENT, err);
	for (unsigned i = 0; i < 2; i++) {
		bxc_def_vertex *v = new_run(0, i ? "x" : "y"), *w = new_run(0, i ? "x" : "y");
		if (i == 0) {
			add(shared, new_source("docker-image://a"));
			add(own, new_source("docker-image://a"));
		}
		bxc_def_share_env(v, env);
		bxc_strv_push(&w->op.exec.env, "A=1");
		uint32_t a = add(shared, v), b = add(own, w);
		assert_true(
			bxc_digest_eq(&shared->vertices.v[a]->digest, &own->vertices.v[b]->digest));
	}
	assert_ptr_equal(shared->vertices.v[1]->op.exec.env, shared->vertices.v[2]->op.exec.env);
	/* It lives as long as one of them. */
	bxc_def_env_unref(BXC_TAKE(env));
	assert_string_equal(shared->vertices.v[2]->op.exec.env[0], "A=1");
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--print-golden") == 0) {
		BXC_CLEANUP(bxc_def_freep) bxc_def *d = sample();
		BXC_AUTOFREE char *s = describe(d);
		fputs(s, stdout);
		return 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encodings_and_digests_stay_as_they_are),
		cmocka_unit_test(definitions_survive_transport),
		cmocka_unit_test(equal_vertices_are_one),
		cmocka_unit_test(gathered_vertices_are_handed_over),
		cmocka_unit_test(steps_share_an_environment),
		cmocka_unit_test(keys_leave_out_what_does_not_matter),
		cmocka_unit_test(only_content_keys_forget_where_content_came_from),
		cmocka_unit_test(malformed_vertices_are_refused),
		cmocka_unit_test(inputs_must_exist_and_come_first),
		cmocka_unit_test(tampered_documents_are_refused),
		cmocka_unit_test(large_definitions_are_quick),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
