/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/stat.h>

#include "common/testing/testing.h"
#include "coordinator/why/why.h"

/* What a test changes of a step; NULL and 0 are as ever. */
typedef struct change {
	const char *arg, *env, *cwd, *user, *platform, *host, *ulimit, *cache_id, *secret, *base;
	uint32_t secret_mode;
	char input, content, files; /* of which digests are made */
	bool insecure, extra_env, tmpfs, readonly;
	bxc_net_mode net;
	uint64_t shm_size;
} change;

static bxc_digest digest(char c)
{
	return bxc_digest_of(&c, 1);
}

static bxc_def_vertex *source(const char *id)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	v->op.source.identifier = bxc_strdup(id);
	return v;
}

static bxc_def_vertex *command(const change *c)
{
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_EXEC);
	bxc_op_exec *x = &v->op.exec;
	BXC_AUTOERR bxc_err *err = NULL;
	const char *platform = c->platform ? c->platform : "linux/amd64";
	assert_ok(bxc_platform_parse(platform, &v->platform, &err), err);
	bxc_strv_push(&x->args, "/bin/sh");
	bxc_strv_push(&x->args, "-c");
	bxc_strv_push(&x->args, c->arg ? c->arg : "make");
	bxc_strv_push(&x->env, "PATH=/bin");
	bxc_strv_pushf(&x->env, "V=%s", c->env ? c->env : "1");
	if (c->extra_env)
		bxc_strv_push(&x->env, "NEW=x");
	x->cwd = bxc_strdup(c->cwd ? c->cwd : "/");
	x->user = bxc_strdup(c->user);
	x->net = c->net;
	x->insecure = c->insecure;
	x->shm_size = c->shm_size;
	if (c->host)
		bxc_strv_push(&x->extra_hosts, c->host);
	if (c->ulimit)
		bxc_strv_push(&x->ulimits, c->ulimit);
	bxc_op_mount *m = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/");
	m->input = bxc_def_add_input(v, 0, 0);
	m->output = 0;
	m = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/tool");
	m->input = bxc_def_add_input(v, 1, 0);
	m->readonly = c->readonly;
	m = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/src");
	m->input = bxc_def_add_input(v, 2, 0);
	m->readonly = true;
	m = bxc_def_add_mount(v, BXC_MOUNT_CACHE, "/cache");
	m->cache_id = bxc_strdup(c->cache_id);
	m = bxc_def_add_mount(v, BXC_MOUNT_SECRET, "/run/secrets/s");
	m->cache_id = bxc_strdup(c->secret ? c->secret : "s");
	m->mode = c->secret_mode ? c->secret_mode : 0400;
	if (c->tmpfs)
		bxc_def_add_mount(v, BXC_MOUNT_TMPFS, "/t");
	return v;
}

static bxc_json *parts(const change *c)
{
	BXC_CLEANUP(bxc_def_vertex_freep)
	bxc_def_vertex *base = source(c->base ? c->base
					      : "docker-image://docker.io/library/busybox:1@sha256:"
						"0123456789abcdef00000000000000000000000000"
						"0000000000000000000000");
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *ctx = source("local://context");
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *step = command(&(change){0});
	step->meta.name = bxc_strdup("[tool 2/2] RUN make tool");
	step->digest = digest('s');
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = command(c);
	const char *id = base->op.source.identifier;
	const bxc_why_input inputs[] = {
		{.v = base, .key = bxc_digest_of(id, strlen(id))},
		{.v = step,
			.key = digest(c->input ? c->input : 'i'),
			.content = c->content ? digest(c->content) : (bxc_digest){0}},
		{.v = ctx,
			.content = digest(c->files ? c->files : 'f'),
			.manifest = digest(c->files ? c->files : 'f')},
	};
	return bxc_why_parts(v, inputs, NULL);
}

static void assert_differs(const change *a, const change *b, size_t n, const char *first)
{
	BXC_AUTOJSON bxc_json *old = parts(a), *now = parts(b);
	size_t got;
	BXC_AUTOJSON bxc_json *list = bxc_why_compare(old, now, &got);
	BXC_AUTOFREE char *text = got ? bxc_why_text(bxc_json_first(list)) : bxc_strdup("");
	assert_string_equal(text, first);
	assert_int_equal(got, n);
}

static void each_component_is_named(void **state)
{
	(void)state;
	static const struct {
		change now;
		const char *text;
	} cases[] = {
		{{.arg = "make"}, ""},
		{{.arg = "make -j2"}, "argument make -> \"make -j2\""},
		{{.env = "2"}, "environment V 1 -> 2"},
		{{.extra_env = true}, "environment NEW added: x"},
		{{.cwd = "/x"}, "directory / -> /x"},
		{{.user = "nobody"}, "user added: nobody"},
		{{.platform = "linux/arm64"}, "platform linux/amd64 -> linux/arm64"},
		{{.net = BXC_NET_NONE}, "network added: none"},
		{{.insecure = true}, "security added: insecure"},
		{{.host = "h=10.0.0.1"}, "host h added"},
		{{.ulimit = "nofile=1:2"}, "ulimit nofile added: 1:2"},
		{{.cache_id = "other"},
			"mount /cache type=cache,id=/cache,sharing=shared,uid=0,gid=0,mode=0755 ->"
			" type=cache,id=other,sharing=shared,uid=0,gid=0,mode=0755"},
		/* Its path is what a cache without an id is called by. */
		{{.cache_id = "/cache"}, ""},
		{{.tmpfs = true}, "mount /t added: type=tmpfs"},
		{{.readonly = true}, "mount /tool \"type=bind,from=[tool 2/2] RUN make tool\" ->"
				     " \"type=bind,from=[tool 2/2] RUN make tool,readonly\""},
		{{.secret = "t"}, "mount /run/secrets/s type=secret,id=s,uid=0,gid=0,mode=0400 ->"
				  " type=secret,id=t,uid=0,gid=0,mode=0400"},
		{{.secret_mode = 0444},
			"mount /run/secrets/s type=secret,id=s,uid=0,gid=0,mode=0400 ->"
			" type=secret,id=s,uid=0,gid=0,mode=0444"},
		{{.input = 'j'}, "input [tool 2/2] RUN make tool sha256:de7d1b721a1e -> "
				 "sha256:189f40034be7"},
		{{.files = 'g'}, "files context sha256:252f10c83610 -> sha256:cd0aa9856147"},
		{{.base = "docker-image://docker.io/library/busybox:1@sha256:"
			  "fedcba9876543210000000000000000000000000000000000000000000000000"},
			"base docker.io/library/busybox:1 sha256:0123456789ab -> "
			"sha256:fedcba987654"},
		{{.base = "docker-image://docker.io/library/busybox:2@sha256:"
			  "fedcba9876543210000000000000000000000000000000000000000000000000"},
			"base docker.io/library/busybox:1@sha256:0123456789ab -> "
			"docker.io/library/busybox:2@sha256:fedcba987654"},
		/* What is not in the key is no reason. */
		{{.shm_size = 1}, ""},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++)
		assert_differs(&(change){0}, &cases[i].now, *cases[i].text ? 1 : 0, cases[i].text);
	/* And the other way round. */
	assert_differs(&(change){.extra_env = true}, &(change){0}, 1, "environment NEW removed: x");
	assert_differs(&(change){.host = "h=10.0.0.1"}, &(change){.host = "h=10.0.0.2"}, 0, "");
}

static void the_first_of_several_is_that_of_the_definition(void **state)
{
	(void)state;
	assert_differs(&(change){0}, &(change){.arg = "x", .env = "2", .files = 'g'}, 3,
		"argument make -> x");
	assert_differs(&(change){0}, &(change){.files = 'g', .platform = "linux/arm64"}, 2,
		"platform linux/amd64 -> linux/arm64");
}

static void content_decides_where_it_is_known_of_both(void **state)
{
	(void)state;
	const change known = {.input = 'i', .content = 'c'};
	assert_differs(&known, &(change){.input = 'j', .content = 'c'}, 0, "");
	assert_differs(&known, &(change){.input = 'j', .content = 'd'}, 1,
		"input [tool 2/2] RUN make tool sha256:2e7d2c03a950 -> sha256:18ac3e7343f0");
	assert_differs(&known, &(change){.input = 'i'}, 0, "");
}

static void a_long_value_is_cut_and_still_differs(void **state)
{
	(void)state;
	char a[5000], b[5000];
	memset(a, 'x', sizeof(a));
	a[sizeof(a) - 1] = '\0';
	memcpy(b, a, sizeof(a));
	b[sizeof(b) - 2] = 'y';
	BXC_AUTOJSON bxc_json *old = parts(&(change){.arg = a}), *now = parts(&(change){.arg = b});
	size_t n;
	BXC_AUTOJSON bxc_json *list = bxc_why_compare(old, now, &n);
	assert_int_equal(n, 1);
	BXC_AUTOFREE char *text = bxc_why_text(bxc_json_first(list));
	assert_non_null(strstr(text, "(4999 bytes, sha256:"));
	assert_true(strlen(text) < 600);
}

static void what_no_part_tells_is_told_as_the_operation(void **state)
{
	(void)state;
	BXC_AUTOJSON bxc_json *old = parts(&(change){0}), *now = parts(&(change){0});
	bxc_json *op = (bxc_json *)(uintptr_t)bxc_json_at(now, bxc_json_len(now) - 1);
	assert_string_equal(bxc_json_get_str(op, "c", ""), "operation");
	bxc_json_set_str(op, "k", "sha256:other");
	size_t n;
	BXC_AUTOJSON bxc_json *list = bxc_why_compare(old, now, &n);
	assert_int_equal(n, 1);
	BXC_AUTOFREE char *text = bxc_why_text(bxc_json_first(list));
	assert_string_equal(text, "the operation");
}

static void differences_are_bounded(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_EXEC);
	bxc_strv_push(&v->op.exec.args, "x");
	BXC_AUTOJSON bxc_json *few = bxc_why_parts(v, NULL, NULL);
	for (size_t i = 0; i < BXC_WHY_MAX_PARTS + 10; i++)
		bxc_strv_pushf(&v->op.exec.env, "V%zu=x", i);
	BXC_AUTOJSON bxc_json *many = bxc_why_parts(v, NULL, NULL);
	/* The operation is still among them. */
	assert_int_equal(bxc_json_len(many), BXC_WHY_MAX_PARTS + 1);
	size_t n;
	BXC_AUTOJSON bxc_json *list = bxc_why_compare(few, many, &n);
	assert_int_equal(bxc_json_len(list), BXC_WHY_MAX_DIFFS);
	assert_true(n > BXC_WHY_MAX_DIFFS);
}

static bxc_file_action *copy_of(bxc_def_vertex *v)
{
	bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_COPY);
	a->target = BXC_DEF_NO_INPUT;
	a->source = bxc_def_add_input(v, 0, 0);
	a->src = bxc_strdup("/a");
	a->dest = bxc_strdup("/b");
	return a;
}

static void a_copy_tells_what_was_written_differently(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *ctx = source("local://context");
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *a = bxc_def_vertex_new(BXC_OP_FILE);
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *b = bxc_def_vertex_new(BXC_OP_FILE);
	copy_of(a);
	bxc_file_action *changed = copy_of(b);
	changed->mode = 0755;
	changed->owner = (bxc_def_owner){
		.is_set = true, .user_name = bxc_strdup("me"), .gid = 5, .has_gid = true};
	const bxc_why_input in = {.v = ctx, .content = digest('f')};
	BXC_AUTOJSON bxc_json *old = bxc_why_parts(a, &in, NULL);
	BXC_AUTOJSON bxc_json *now = bxc_why_parts(b, &in, NULL);
	size_t n;
	BXC_AUTOJSON bxc_json *list = bxc_why_compare(old, now, &n);
	assert_int_equal(n, 2);
	BXC_AUTOFREE char *first = bxc_why_text(bxc_json_at(list, 0));
	BXC_AUTOFREE char *second = bxc_why_text(bxc_json_at(list, 1));
	assert_string_equal(first, "argument mode added: 0755");
	assert_string_equal(second, "argument owner added: me:5");
}

static void urls_are_kept_without_their_password(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_def_vertex_freep)
	bxc_def_vertex *v = source("https://user:hunter2@example.com/x.tar");
	bxc_digest key = digest('k');
	BXC_AUTOJSON bxc_json *list = bxc_why_parts(v, NULL, &key);
	BXC_AUTOFREE char *text = bxc_json_print(list);
	assert_null(strstr(text, "hunter2"));
	assert_non_null(strstr(text, "example.com/x.tar"));
}

static void steps_are_the_same_by_place_or_by_what_they_do(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *a = command(&(change){0});
	BXC_CLEANUP(bxc_def_vertex_freep)
	bxc_def_vertex *other_arg = command(&(change){.arg = "x"});
	BXC_CLEANUP(bxc_def_vertex_freep)
	bxc_def_vertex *arm = command(&(change){.platform = "linux/arm64"});
	const bxc_why_place place = {.project = "p", .position = 2};
	const bxc_why_place next = {.project = "p", .position = 3};
	const bxc_why_place elsewhere = {.project = "q", .position = 2};
	const bxc_why_place foreign = {.scope = "t", .project = "p", .position = 2};
	bxc_digest here = bxc_why_lineage(&place, a), there = bxc_why_lineage(&place, other_arg);
	assert_true(bxc_digest_eq(&here, &there));
	const bxc_digest others[] = {bxc_why_lineage(&next, a), bxc_why_lineage(&elsewhere, a),
		bxc_why_lineage(&foreign, a), bxc_why_lineage(&place, arm)};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(others); i++)
		assert_false(bxc_digest_eq(&here, &others[i]));
	bxc_digest s = bxc_why_shape(NULL, a), s_arm = bxc_why_shape(NULL, arm),
		   s_arg = bxc_why_shape(NULL, other_arg), s_foreign = bxc_why_shape("t", a);
	assert_true(bxc_digest_eq(&s, &s_arm));
	assert_false(bxc_digest_eq(&s, &s_arg));
	assert_false(bxc_digest_eq(&s, &s_foreign));
}

/* ---- manifests ---- */

static bxc_why_file file(const char *path, char content)
{
	return (bxc_why_file){.path = path, .mode = S_IFREG | 0644, .digest = digest(content)};
}

static char *compared(const bxc_why_file *a, size_t n_a, const bxc_why_file *b, size_t n_b)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *old = bxc_why_manifest(a, n_a), *now = bxc_why_manifest(b, n_b);
	BXC_AUTOJSON bxc_json *diff = NULL;
	int r = bxc_why_compare_files(old, now, &diff, &err);
	assert_ok(r, err);
	return r ? bxc_why_text(diff) : bxc_strdup("");
}

static void the_first_path_that_differs_is_found(void **state)
{
	(void)state;
	const bxc_why_file old[] = {file("/a.c", 'a'), file("/src/b.c", 'b'), file("/src.c", 'c')};
	bxc_why_file now[] = {old[0], old[1], old[2]};
	BXC_AUTOFREE char *same = compared(old, 3, now, 3);
	assert_string_equal(same, "");
	now[1].digest = digest('x');
	now[0].mode = S_IFREG | 0755;
	/* What files hold goes before their modes. */
	BXC_AUTOFREE char *content = compared(old, 3, now, 3);
	assert_string_equal(content, "file src/b.c sha256:3e23e8160039 -> sha256:2d711642b726");
	now[1] = old[1];
	BXC_AUTOFREE char *mode = compared(old, 3, now, 3);
	assert_string_equal(mode, "file a.c \"file 0644, 0:0\" -> \"file 0755, 0:0\"");
	BXC_AUTOFREE char *added = compared(old, 1, old, 2);
	assert_string_equal(added, "file src/b.c added: sha256:3e23e8160039");
	BXC_AUTOFREE char *removed = compared(old, 3, old, 2);
	assert_string_equal(removed, "file src.c removed: sha256:2e7d2c03a950");
	const bxc_why_file link[] = {{.path = "/l", .mode = S_IFLNK | 0777, .link = "a"}},
			   other[] = {{.path = "/l", .mode = S_IFLNK | 0777, .link = "b"}};
	BXC_AUTOFREE char *linked = compared(link, 1, other, 1);
	assert_string_equal(linked, "file l \"link to a, 0:0\" -> \"link to b, 0:0\"");
}

typedef BXC_ARR(bxc_why_file) files;

static void make_many(files *l, size_t n_dirs, size_t n_each)
{
	for (size_t d = 0; d < n_dirs; d++)
		for (size_t i = 0; i < n_each; i++)
			*bxc_arr_push(l) = file(bxc_str_fmt("/d%03zu/e/f%03zu", d, i), 'a');
}

static void many_files_are_told_by_their_folders(void **state)
{
	(void)state;
	files few = {0}, many = {0};
	make_many(&few, 40, 100);
	make_many(&many, 40, 110);
	BXC_AUTOFREE char *whole = bxc_why_manifest(few.v, few.n);
	BXC_AUTOFREE char *cut = bxc_why_manifest(many.v, many.n);
	assert_null(strstr(whole, "folded"));
	assert_non_null(strstr(cut, "\"folded\":2"));
	assert_true(strlen(cut) < strlen(whole) / 10);
	/* The one that was not cut is cut alike: the same folders are equal, whichever way. */
	files more = {0};
	make_many(&more, 40, 110);
	BXC_AUTOFREE char *same = compared(many.v, many.n, more.v, more.n);
	assert_string_equal(same, "");
	more.v[5 * 110 + 3].digest = digest('b');
	BXC_AUTOFREE char *one = compared(many.v, many.n, more.v, more.n);
	assert_non_null(strstr(one, "folder d005/e sha256:"));
	/* Only what was added makes it too many. */
	files again = {0};
	make_many(&again, 40, 100);
	for (size_t i = 0; i < 200; i++)
		*bxc_arr_push(&again) = file(bxc_str_fmt("/new/x/f%03zu", i), 'n');
	BXC_AUTOFREE char *added = compared(few.v, few.n, again.v, again.n);
	assert_non_null(strstr(added, "folder new/x added: sha256:"));
	files *all[] = {&few, &many, &more, &again};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(all); i++) {
		BXC_ARR_FOREACH (f, all[i])
			free((void *)(uintptr_t)f->path);
		bxc_arr_done(all[i]);
	}
}

static void a_flat_folder_of_too_many_is_one_digest(void **state)
{
	(void)state;
	files flat = {0};
	for (size_t i = 0; i < BXC_WHY_MAX_FILES + 1; i++)
		*bxc_arr_push(&flat) = file(bxc_str_fmt("/f%05zu", i), 'a');
	BXC_AUTOFREE char *old = bxc_why_manifest(flat.v, flat.n);
	flat.v[7].digest = digest('b');
	BXC_AUTOFREE char *now = bxc_why_manifest(flat.v, flat.n);
	assert_true(strlen(old) < 200);
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *diff = NULL;
	assert_ok(bxc_why_compare_files(old, now, &diff, &err), err);
	assert_string_equal(bxc_json_get_str(diff, "name", ""), ".");
	BXC_ARR_FOREACH (f, &flat)
		free((void *)(uintptr_t)f->path);
	bxc_arr_done(&flat);
}

static void what_is_no_manifest_is_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "[]", "{\"files\":{}}", "{\"files\":[1]}",
		"{\"files\":[[\"a\",\"\"]]}", "{\"files\":[[\"a\",\"\",\"sha256:1\"]]}",
		"{\"files\":[[\"../a\",\"\",\"\"]]}", "{\"files\":[[\"a\",null,\"\"]]}"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_AUTOJSON bxc_json *diff = NULL;
		assert_err(bxc_why_compare_files(bad[i], "{\"files\":[]}", &diff, &err),
			BXC_DATA_LOSS, err);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_component_is_named),
		cmocka_unit_test(the_first_of_several_is_that_of_the_definition),
		cmocka_unit_test(content_decides_where_it_is_known_of_both),
		cmocka_unit_test(a_long_value_is_cut_and_still_differs),
		cmocka_unit_test(what_no_part_tells_is_told_as_the_operation),
		cmocka_unit_test(differences_are_bounded),
		cmocka_unit_test(a_copy_tells_what_was_written_differently),
		cmocka_unit_test(urls_are_kept_without_their_password),
		cmocka_unit_test(steps_are_the_same_by_place_or_by_what_they_do),
		cmocka_unit_test(the_first_path_that_differs_is_found),
		cmocka_unit_test(many_files_are_told_by_their_folders),
		cmocka_unit_test(a_flat_folder_of_too_many_is_one_digest),
		cmocka_unit_test(what_is_no_manifest_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
