/* SPDX-License-Identifier: Apache-2.0 */
/* Ignore rules, patterns, walking and packs. */
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "common/filesync/filesync_test.h"
#include "common/loop/pool.h"
#include "common/os/fd.h"

static bxc_ignore *rules(const char *text)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_ignore *g = NULL;
	assert_ok(
		bxc_ignore_parse(bxc_slice_of(text, strlen(text)), ".dockerignore", &g, &err), err);
	return g;
}

/* 10.1.20 Ignore files */
/* 1.4 .dockerignore */
static void ignore_rules_match_as_docker_does(void **state)
{
	(void)state;
	static const struct {
		const char *text, *path;
		bool excluded;
	} t[] = {
		{"a", "a", true},
		{"a", "a/b/c", true},
		{"a", "ab", false},
		{"/a/", "a/b", true},
		{"./a//b/../c", "a/c", true},
		{"# a\n a \n", "a", true},
		{" #a", "#a", true},
		{"#a", "#a", false},
		{"a\r\n", "a", true},
		{"\xef\xbb\xbf#a\nb", "b", true},
		{"*", "a", true},
		{"*", ".a", true},
		{"*.txt", "a.txt", true},
		{"*.txt", "d/a.txt", false},
		{"*/*.txt", "d/a.txt", true},
		{"?b", "ab", true},
		{"?b", "/b", false},
		{"[a-c]x", "bx", true},
		{"[^a-c]x", "bx", false},
		{"[c/a]/x", "a/x", true},
		{"[c/a]/x", "b/x", false},
		{"\\*", "*", true},
		{"\\*", "a", false},
		{"**", "a/b", true},
		{"**/x", "x", true},
		{"**/x", "a/b/x", true},
		{"**/x", "a/b/x/y", true},
		{"**/x", "a/bx", false},
		{"a/**", "a", false},
		{"a/**", "a/b/c", true},
		{"a/**/x", "a/x", true},
		{"a/**/x", "a/b/c/x", true},
		{"a/**/x", "b/x", false},
		{"**.md", "a/b/r.md", true},
		{"**/*.go", "a/b.go", true},
		{"**/*.go", "a/b.gox", false},
		{"a\n!a/b", "a/b", false},
		{"a\n!a/b", "a/b/c", false},
		{"a\n!a/b", "a/c", true},
		{"!a/b\na", "a/b", true},
		{"*.md\n!R*.md\nR-x.md", "R.md", false},
		{"*.md\n!R*.md\nR-x.md", "R-x.md", true},
		{"a\n! a", "a", false},
		{"", "a", false},
		{"a.b", "axb", false},
		{"\xc3\xa9?", "\xc3\xa9\xc3\xa8", true},
		{"a+b", "a+b", true},
		{"../x", "x", false},
		{"/../x", "x", true},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(t); i++) {
		BXC_CLEANUP(bxc_ignore_freep) bxc_ignore *g = rules(t[i].text);
		if (bxc_ignore_match(g, t[i].path) != t[i].excluded)
			fail_msg("'%s' on '%s' should be %d", t[i].text, t[i].path, t[i].excluded);
	}
	assert_false(bxc_ignore_match(NULL, "a"));
	assert_false(bxc_ignore_may_include_below(NULL, "a"));
	assert_false(bxc_ignore_leaves_out(NULL, "."));
}

/* Where a walk that looks for matches must go on. */
static void folders_that_lead_to_matches_are_known(void **state)
{
	(void)state;
	static const struct {
		const char *text, *path;
		bool may;
	} t[] = {
		{"a/b/c", "a", true},
		{"a/b/c", "a/b", true},
		{"a/b/c", "a/b/c", true},
		{"a/b/c", "ab", false},
		{"a/b/c", "x", false},
		{"a/*/c", "a/x", true},
		{"a/*/c", "a/x/y", false},
		{"**/c", "x/y/z", true},
		{"!a", "a", false},
		{"!a\nb/c", "b", true},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(t); i++) {
		BXC_CLEANUP(bxc_ignore_freep) bxc_ignore *g = rules(t[i].text);
		if (bxc_ignore_may_match_below(g, t[i].path) != t[i].may)
			fail_msg("'%s' below '%s' should be %d", t[i].text, t[i].path, t[i].may);
	}
}

static void excluded_folders_are_entered_only_for_exceptions(void **state)
{
	(void)state;
	static const struct {
		const char *text, *path;
		bool may;
	} t[] = {
		{"a", "a", false},
		{"a\n!a/b/c", "a", true},
		{"a\n!a/b/c", "a/b", true},
		{"a\n!a/b/c", "a/x", false},
		{"!a/b\na", "a", false},
		{"*\n!**/x", "a/b", true},
		{"*\n!a*/x", "b", false},
		{"*\n!a*/x", "ab", true},
		{"a\n!ab", "a", false},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(t); i++) {
		BXC_CLEANUP(bxc_ignore_freep) bxc_ignore *g = rules(t[i].text);
		if (bxc_ignore_may_include_below(g, t[i].path) != t[i].may)
			fail_msg("'%s' on '%s' should be %d", t[i].text, t[i].path, t[i].may);
	}
}

static void sources_that_cannot_be_there_are_told(void **state)
{
	(void)state;
	static const struct {
		const char *text, *path;
		bool out;
	} t[] = {
		{"a", "a", true},
		{"a", "a/b", true},
		{"a", "/a", false},
		{"a\n!a/b", "a", false},
		{"a\n!a/b", "a/b", false},
		{"a\n!a/b", "a/c", true},
		{"*\n!b", "a", true},
		{".*", ".", false},
		{"*", ".", true},
		{"**", "/", true},
		{"*\n!b", ".", false},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(t); i++) {
		BXC_CLEANUP(bxc_ignore_freep) bxc_ignore *g = rules(t[i].text);
		if (bxc_ignore_leaves_out(g, t[i].path) != t[i].out)
			fail_msg("'%s' on '%s' should be %d", t[i].text, t[i].path, t[i].out);
	}
}

static void bad_ignore_rules_name_their_line(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_ignore *g = NULL;
	assert_int_equal(bxc_ignore_parse(bxc_slice_of("a\n!\n", 4), "x.ignore", &g, &err),
		-BXC_INVALID_ARGUMENT);
	assert_string_equal(bxc_err_text(err), "x.ignore:2: illegal exclusion pattern: \"!\"");
	bxc_err_free(BXC_TAKE(err));
	assert_int_equal(
		bxc_ignore_parse(bxc_slice_of("a[", 2), "x", &g, &err), -BXC_INVALID_ARGUMENT);
	assert_string_equal(bxc_err_text(err), "x:1: syntax error in pattern: 'a['");
	bxc_err_free(BXC_TAKE(err));
	assert_err(bxc_ignore_parse(bxc_slice_of("a\0b", 3), "x", &g, &err), BXC_INVALID_ARGUMENT,
		err);
	char *list[] = {(char[]){"a\\"}, NULL};
	assert_err(bxc_ignore_from_patterns(list, &g, &err), BXC_INVALID_ARGUMENT, err);
}

static void globs_match_whole_paths(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *path;
		int want; /* -1: bad */
	} t[] = {
		{"abc", "abc", 1},
		{"*", "abc", 1},
		{"*c", "abc", 1},
		{"a*", "ab/c", 0},
		{"a*/b", "abc/b", 1},
		{"a*/b", "a/c/b", 0},
		{"a*b*c*d*e*/f", "axbxcxdxe/f", 1},
		{"a*b*c*d*e*/f", "axbxcxdxexxx/fff", 0},
		{"a*b?c*x", "abxbbxdbxebxczzx", 1},
		{"ab[c]", "abc", 1},
		{"ab[^e-g]", "abc", 1},
		{"a\\*b", "a*b", 1},
		{"a?b",
			"a\xe2\x98\xba"
			"b",
			1},
		{"a[^a]b", "a/b", 0},
		{"[a-\xce\xb6]*", "\xce\xb1", 1},
		{"*a/*b", "xa/xxb", 1},
		{"", "", 1},
		{"", "a", 0},
		{"*", "", 1},
		{"[\\]a]", "]", 1},
		{"[]a]", "]", -1},
		{"[-]", "-", -1},
		{"[x-]", "x", -1},
		{"[", "a", -1},
		{"a[", "x", -1},
		{"\\", "a", -1},
		{"[^", "a", -1},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(t); i++) {
		bool in = false;
		int r = bxc_glob_match(t[i].pattern, t[i].path, &in, NULL);
		if ((r < 0 ? -1 : in) != t[i].want)
			fail_msg("'%s' on '%s' should be %d", t[i].pattern, t[i].path, t[i].want);
	}
	assert_true(
		bxc_glob_has_meta("a?") && bxc_glob_has_meta("a\\b") && !bxc_glob_has_meta("a]"));
}

static void paths_are_cleaned_beneath_the_root(void **state)
{
	(void)state;
	static const char *const t[][2] = {{"a//b/../c", "/a/c"}, {"", "/"}, {"../x", "/x"},
		{"/a/./b/", "/a/b"}, {"/..", "/"}, {"a/..", "/"}, {"..a", "/..a"}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(t); i++) {
		BXC_AUTOFREE char *got = bxc_path_clean(t[i][0]);
		assert_string_equal(got, t[i][1]);
	}
}

/* ---- walking ---- */

struct folder {
	char *path;
	int fd;
};

static void folder_done(struct folder *f)
{
	close(f->fd);
	bxc_test_rmtree(f->path);
}

static struct folder folder_new(void)
{
	struct folder f = {.path = bxc_test_tmpdir()};
	f.fd = open(f.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f.fd >= 0);
	return f;
}

static void file(const struct folder *f, const char *name, const char *text)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/%s", f->path, name);
	bxc_test_write_file(path, text, strlen(text), 0644);
}

static void dir(const struct folder *f, const char *name)
{
	assert_int_equal(mkdirat(f->fd, name, 0755), 0);
}

static char *paths_of(const bxc_tree *t)
{
	BXC_AUTOSTRV char **v = NULL;
	BXC_ARR_FOREACH (e, &t->entries)
		bxc_strv_push(&v, e->path);
	return bxc_strv_join(v, " ");
}

static bxc_tree *walk(const struct folder *f, bxc_tree_walk_opts o)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_tree *t = NULL;
	assert_ok(bxc_tree_walk(f->fd, &o, NULL, &t, &err), err);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(16u << 20);
	assert_ok(bxc_tree_encode(t, false, &b, &err), err);
	return t;
}

static void assert_walk(const struct folder *f, bxc_tree_walk_opts o, const char *want)
{
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = walk(f, o);
	BXC_AUTOFREE char *got = paths_of(t);
	assert_string_equal(got, want);
}

static void walk_lists_everything_in_order(void **state)
{
	(void)state;
	BXC_CLEANUP(folder_done) struct folder f = folder_new();
	dir(&f, "a");
	file(&f, "a/x", "hello");
	file(&f, "a.b", "");
	assert_int_equal(linkat(f.fd, "a/x", f.fd, "hard", 0), 0);
	assert_int_equal(symlinkat("../nowhere", f.fd, "link"), 0);
	assert_int_equal(mkfifoat(f.fd, "pipe", 0600), 0);
	BXC_AUTOCLOSE int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/sock", f.fd);
	assert_int_equal(bind(s, (const struct sockaddr *)(const void *)&sa, sizeof(sa)), 0);

	assert_walk(
		&f, (bxc_tree_walk_opts){.want_xattrs = true}, "/ /a /a/x /a.b /hard /link /pipe");
	BXC_CLEANUP(bxc_tree_freep)
	bxc_tree *t = walk(&f,
		(bxc_tree_walk_opts){.hash = true, .reset_owner = true, .sockets_as_files = true});
	BXC_AUTOFREE char *got = paths_of(t);
	assert_string_equal(got, "/ /a /a/x /a.b /hard /link /pipe /sock");
	const bxc_tree_entry *x = bxc_tree_find(t, "/a/x"), *hard = bxc_tree_find(t, "/hard");
	bxc_digest d = bxc_digest_of("hello", 5);
	assert_true(bxc_digest_eq(&x->digest, &d) && x->size == 5 && x->mtime_ns > 0 &&
		    x->mode == (S_IFREG | 0644));
	assert_true(hard->is_hardlink && S_ISREG(hard->mode));
	assert_string_equal(hard->link, "/a/x");
	assert_string_equal(bxc_tree_find(t, "/link")->link, "../nowhere");
	assert_true(S_ISFIFO(bxc_tree_find(t, "/pipe")->mode));
	assert_true(
		S_ISREG(bxc_tree_find(t, "/sock")->mode) && bxc_tree_find(t, "/sock")->size == 0);
	assert_null(bxc_tree_find(t, "/a/y"));
}

static void walk_obeys_ignore_rules(void **state)
{
	(void)state;
	BXC_CLEANUP(folder_done) struct folder f = folder_new();
	dir(&f, "a");
	dir(&f, "a/b");
	dir(&f, "c");
	file(&f, "a/b/keep", "");
	file(&f, "a/drop", "");
	file(&f, "c/x", "");
	file(&f, "z.tmp", "");
	BXC_CLEANUP(bxc_ignore_freep) bxc_ignore *g = rules("a\nc\n*.tmp\n!a/b/keep\n");
	assert_walk(&f, (bxc_tree_walk_opts){.exclude = g}, "/ /a /a/b /a/b/keep");
	char *list[] = {(char[]){"/a/drop"}, (char[]){"/c/x"}, NULL};
	assert_walk(&f, (bxc_tree_walk_opts){.exclude = g, .include = list}, "/");
}

static void walk_includes_named_paths_and_what_links_lead_to(void **state)
{
	(void)state;
	BXC_CLEANUP(folder_done) struct folder f = folder_new();
	dir(&f, "a");
	dir(&f, "a/deep");
	dir(&f, "b");
	file(&f, "a/deep/one", "");
	file(&f, "a/two", "");
	file(&f, "b/x.c", "");
	file(&f, "b/y.c", "");
	file(&f, "b/z[1]", "");
	assert_int_equal(symlinkat("/a", f.fd, "toa"), 0);
	assert_int_equal(symlinkat("../../../toa/two", f.fd, "b/chain"), 0);
	assert_int_equal(symlinkat("circle", f.fd, "circle"), 0);
	assert_int_equal(symlinkat("/b/z[1]", f.fd, "odd"), 0);
#define ASSERT_INCLUDES(p, want)                                                                   \
	do {                                                                                       \
		char *list_[] = {(char[]){p}, NULL};                                               \
		assert_walk(&f, (bxc_tree_walk_opts){.include = list_}, want);                     \
	} while (0)
	ASSERT_INCLUDES("/a", "/ /a /a/deep /a/deep/one /a/two");
	ASSERT_INCLUDES("a/../b/x.c", "/ /b /b/x.c");
	ASSERT_INCLUDES("/*/?.c", "/ /b /b/x.c /b/y.c");
	ASSERT_INCLUDES("/*/one", "/");
	ASSERT_INCLUDES("/[c/a]/two", "/ /a /a/two");
	ASSERT_INCLUDES("/b/z[[/]1]", "/ /b /b/z[1]");
	ASSERT_INCLUDES("/b/c*", "/ /a /a/two /b /b/chain /toa");
	ASSERT_INCLUDES("/toa/deep", "/ /a /a/deep /a/deep/one /toa");
	ASSERT_INCLUDES("/circle", "/ /circle");
	ASSERT_INCLUDES("/odd", "/ /b /b/z[1] /odd");
	ASSERT_INCLUDES("/none", "/");
	ASSERT_INCLUDES("/a/two/below", "/");
	ASSERT_INCLUDES("/", "/ /a /a/deep /a/deep/one /a/two /b /b/chain /b/x.c /b/y.c /b/z[1] "
			     "/circle /odd /toa");
}

static void walk_is_bounded_and_stops_when_cancelled(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(folder_done) struct folder f = folder_new();
	BXC_CLEANUP(bxc_cancel_unrefp) bxc_cancel *c = bxc_cancel_new();
	bxc_tree *t = NULL;
	file(&f, "a", "");
	file(&f, "b", "");
	bxc_tree_walk_opts o = {.max_entries = 2};
	assert_err(bxc_tree_walk(f.fd, &o, NULL, &t, &err), BXC_RESOURCE_EXHAUSTED, err);
	o.max_entries = 3;
	bxc_cancel_fire(c);
	assert_err(bxc_tree_walk(f.fd, &o, c, &t, &err), BXC_CANCELED, err);
	char *bad[] = {(char[]){"/a["}, NULL};
	o.include = bad;
	assert_err(bxc_tree_walk(f.fd, &o, NULL, &t, &err), BXC_INVALID_ARGUMENT, err);
}

static void walk_goes_deeper_than_it_holds_descriptors(void **state)
{
	(void)state;
	BXC_CLEANUP(folder_done) struct folder f = folder_new();
	BXC_AUTOFREE char *path = bxc_strdup("d");
	for (int i = 0; i < 150; i++) {
		dir(&f, path);
		BXC_AUTOFREE char *name = bxc_str_fmt("%s/f", path);
		file(&f, name, "x");
		char *next = bxc_str_fmt("%s/d", path);
		free(path);
		path = next;
	}
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = walk(&f, (bxc_tree_walk_opts){.hash = true});
	assert_int_equal(t->entries.n, 301);
}

/* ---- packs ---- */

static int to_buf(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_buf_append(ud, p, n, err);
}

static void packs_carry_contents_verified(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(folder_done) struct folder f = folder_new();
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *store = bxc_blob_mem_new();
	BXC_AUTOBUF bxc_buf stream = BXC_BUF_INIT(1u << 20), blob = BXC_BUF_INIT(1u << 20);
	file(&f, "a", "first");
	file(&f, "b", "");
	file(&f, "c", "other");
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = walk(&f, (bxc_tree_walk_opts){.hash = true});
	const uint32_t asked[] = {3, 1, 2};
	assert_ok(bxc_pack_send(f.fd, t, asked, 3, to_buf, &stream, NULL, &err), err);
	BXC_CLEANUP(bxc_pack_receiver_freep) bxc_pack_receiver *r = NULL;
	assert_ok(bxc_pack_receiver_new(store, t, asked, 3, &r, &err), err);
	for (size_t i = 0; i < stream.len; i++)
		assert_ok(bxc_pack_receiver_write(r, stream.data + i, 1, &err), err);
	bxc_blob_info info;
	assert_ok(bxc_pack_receiver_finish(r, &info, &err), err);
	assert_ok(bxc_blob_read(store, &info.digest, &blob, &err), err);
	assert_string_equal(bxc_buf_text(&blob), "otherfirst");
	assert_true(bxc_digest_eq(&t->entries.v[1].pack, &info.digest) &&
		    t->entries.v[1].pack_off == 5);
	assert_true(t->entries.v[3].pack_off == 0 && !bxc_digest_is_set(&t->entries.v[0].pack));

	/* A located tree remembers. */
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(1u << 20);
	assert_ok(bxc_tree_encode(t, true, &text, &err), err);
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *u = NULL;
	assert_ok(bxc_tree_decode(bxc_buf_slice(&text), &u, &err), err);
	assert_true(bxc_digest_eq(&u->entries.v[1].pack, &info.digest) &&
		    u->entries.v[1].pack_off == 5);
}

static int receive(bxc_tree *t, const uint32_t *asked, size_t n, const bxc_buf *stream, size_t len,
	bxc_err **err)
{
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *store = bxc_blob_mem_new();
	BXC_CLEANUP(bxc_pack_receiver_freep) bxc_pack_receiver *r = NULL;
	bxc_blob_info info;
	int rc = bxc_pack_receiver_new(store, t, asked, n, &r, err);
	if (rc >= 0)
		rc = bxc_pack_receiver_write(r, stream->data, len, err);
	return rc < 0 ? rc : bxc_pack_receiver_finish(r, &info, err);
}

static void packs_with_wrong_contents_are_refused(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(folder_done) struct folder f = folder_new();
	BXC_AUTOBUF bxc_buf stream = BXC_BUF_INIT(1u << 20);
	file(&f, "a", "first");
	file(&f, "c", "other");
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = walk(&f, (bxc_tree_walk_opts){.hash = true});
	const uint32_t both[] = {1, 2}, twice[] = {1, 1}, root[] = {0}, beyond[] = {3};
	assert_ok(bxc_pack_send(f.fd, t, both, 2, to_buf, &stream, NULL, &err), err);
	assert_int_equal(receive(t, both, 2, &stream, stream.len, NULL), 0);
	assert_err(receive(t, both, 1, &stream, stream.len, &err), BXC_RESOURCE_EXHAUSTED, err);
	BXC_AUTOBUF bxc_buf second = BXC_BUF_INIT(1u << 20);
	assert_ok(bxc_pack_send(f.fd, t, both + 1, 1, to_buf, &second, NULL, &err), err);
	assert_err(receive(t, both, 1, &second, second.len, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(receive(t, both, 2, &stream, stream.len - 1, &err), BXC_DATA_LOSS, err);
	assert_err(receive(t, twice, 2, &stream, stream.len, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(receive(t, root, 1, &stream, stream.len, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(receive(t, beyond, 1, &stream, stream.len, &err), BXC_INVALID_ARGUMENT, err);
	t->entries.v[2].digest.b[0] ^= 1;
	assert_err(receive(t, both, 2, &stream, stream.len, &err), BXC_DATA_LOSS, err);
	t->entries.v[2].digest.b[0] ^= 1;
	t->entries.v[2].size++;
	assert_err(receive(t, both, 2, &stream, stream.len, &err), BXC_DATA_LOSS, err);
}

static void changed_files_are_not_sent(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(folder_done) struct folder f = folder_new();
	BXC_AUTOBUF bxc_buf stream = BXC_BUF_INIT(1u << 20);
	dir(&f, "d");
	file(&f, "d/a", "first");
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = walk(&f, (bxc_tree_walk_opts){.hash = true});
	const uint32_t asked[] = {2};
	const struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	assert_int_equal(utimensat(f.fd, "d/a", old, 0), 0);
	assert_int_equal(
		bxc_pack_send(f.fd, t, asked, 1, to_buf, &stream, NULL, &err), -BXC_ABORTED);
	assert_string_equal(bxc_err_text(err), "'d/a' changed while it was being sent");
	bxc_err_free(BXC_TAKE(err));
	/* Also when a link has come in its place. */
	assert_int_equal(unlinkat(f.fd, "d/a", 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", f.fd, "d/a"), 0);
	assert_err(bxc_pack_send(f.fd, t, asked, 1, to_buf, &stream, NULL, &err), BXC_ABORTED, err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ignore_rules_match_as_docker_does),
		cmocka_unit_test(folders_that_lead_to_matches_are_known),
		cmocka_unit_test(excluded_folders_are_entered_only_for_exceptions),
		cmocka_unit_test(sources_that_cannot_be_there_are_told),
		cmocka_unit_test(bad_ignore_rules_name_their_line),
		cmocka_unit_test(globs_match_whole_paths),
		cmocka_unit_test(paths_are_cleaned_beneath_the_root),
		cmocka_unit_test(walk_lists_everything_in_order),
		cmocka_unit_test(walk_obeys_ignore_rules),
		cmocka_unit_test(walk_includes_named_paths_and_what_links_lead_to),
		cmocka_unit_test(walk_is_bounded_and_stops_when_cancelled),
		cmocka_unit_test(walk_goes_deeper_than_it_holds_descriptors),
		cmocka_unit_test(packs_carry_contents_verified),
		cmocka_unit_test(packs_with_wrong_contents_are_refused),
		cmocka_unit_test(changed_files_are_not_sent),
		cmocka_unit_test(trees_survive_their_encoding),
		cmocka_unit_test(malformed_trees_are_refused),
		cmocka_unit_test(selections_cover_what_copy_takes),
		cmocka_unit_test(checksums_follow_content_not_time),
	};
	return cmocka_run_group_tests_name("filesync", tests, NULL, NULL);
}
