/* SPDX-License-Identifier: Apache-2.0 */
/* Trees without a folder behind them: encoding, selections, digests. */
#include "common/filesync/filesync_test.h"

static bxc_tree_entry *add(bxc_tree *t, const char *path, uint32_t mode, const char *text)
{
	bxc_tree_entry *e = bxc_arr_push(&t->entries);
	e->path = bxc_strdup(path);
	e->mode = mode;
	if (S_ISREG(mode)) {
		e->size = strlen(text);
		e->digest = bxc_digest_of(text, e->size);
	} else if (S_ISLNK(mode)) {
		e->link = bxc_strdup(text);
	}
	return e;
}

#define DIR_MODE  (S_IFDIR | 0755)
#define FILE_MODE (S_IFREG | 0644)
#define LINK_MODE (S_IFLNK | 0777)

static bxc_tree *sample(void)
{
	bxc_tree *t = bxc_tree_new();
	add(t, "/", DIR_MODE, NULL);
	add(t, "/a", DIR_MODE, NULL);
	add(t, "/a/d", DIR_MODE, NULL);
	add(t, "/a/d/x.go", FILE_MODE, "x");
	add(t, "/a/d/y.md", FILE_MODE, "y");
	add(t, "/a/one.txt", FILE_MODE, "1");
	add(t, "/a/two.txt", FILE_MODE, "2");
	add(t, "/circle", LINK_MODE, "circle");
	add(t, "/dangling", LINK_MODE, "none");
	bxc_tree_entry *h = add(t, "/hard", FILE_MODE, "1");
	h->digest = (bxc_digest){0};
	h->is_hardlink = true;
	h->link = bxc_strdup("/a/one.txt");
	add(t, "/toa", LINK_MODE, "../../a/.");
	add(t, "/tofile", LINK_MODE, "toa/one.txt");
	bxc_tree_entry *dev = add(t, "/zero", S_IFCHR | 0666, NULL);
	dev->dev_major = 1;
	dev->dev_minor = 5;
	struct bxc_tree_xattr *x = bxc_arr_push(&dev->xattrs);
	x->name = bxc_strdup("user.k");
	x->value = bxc_memdup("v\0w", 3);
	x->len = 3;
	return t;
}

void trees_survive_their_encoding(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = sample(), *u = NULL;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1u << 20), c = BXC_BUF_INIT(1u << 20),
			    small = BXC_BUF_INIT(100);
	assert_ok(bxc_tree_encode(t, false, &b, &err), err);
	assert_ok(bxc_tree_decode(bxc_buf_slice(&b), &u, &err), err);
	assert_ok(bxc_tree_encode(u, false, &c, &err), err);
	assert_int_equal(b.len, c.len);
	assert_memory_equal(b.data, c.data, b.len);
	assert_int_equal(u->entries.n, t->entries.n);
	assert_string_equal(bxc_tree_find(u, "/hard")->link, "/a/one.txt");
	assert_int_equal(bxc_tree_find(u, "/zero")->xattrs.v[0].len, 3);
	assert_err(bxc_tree_encode(t, false, &small, &err), BXC_RESOURCE_EXHAUSTED, err);
	for (size_t n = 0; n < b.len; n++) {
		BXC_CLEANUP(bxc_tree_freep) bxc_tree *cut = NULL;
		assert_err(bxc_tree_decode(bxc_slice_of(b.data, n), &cut, &err),
			BXC_INVALID_ARGUMENT, err);
	}
	bxc_buf_addc(&b, 0);
	bxc_tree *v = NULL;
	assert_err(bxc_tree_decode(bxc_buf_slice(&b), &v, &err), BXC_INVALID_ARGUMENT, err);
}

void malformed_trees_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *first, *second;
		uint32_t mode;
	} t[] = {
		{"/a", NULL, DIR_MODE},
		{"/", "/b/c", FILE_MODE},
		{"/", "/", DIR_MODE},
		{"/", "/a/../b", FILE_MODE},
		{"/", "a", FILE_MODE},
		{"/", "//a", FILE_MODE},
		{"/", "/a/", FILE_MODE},
		{"/", "/s", S_IFSOCK | 0644},
		{"/", "/.", DIR_MODE},
		{"/", "/f", FILE_MODE | 0x10000},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(t); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_CLEANUP(bxc_tree_freep) bxc_tree *bad = bxc_tree_new();
		BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1000);
		add(bad, t[i].first, DIR_MODE, NULL);
		if (t[i].second)
			add(bad, t[i].second, t[i].mode, "");
		assert_err(bxc_tree_encode(bad, false, &b, &err), BXC_INVALID_ARGUMENT, err);
	}
	/* The same checks on the way in: "/b" loses its place when it is renamed to a child of a
	 * file. */
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *good = bxc_tree_new(), *bad = NULL;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1000);
	add(good, "/", DIR_MODE, NULL);
	add(good, "/a", FILE_MODE, "");
	add(good, "/abb", FILE_MODE, "");
	assert_ok(bxc_tree_encode(good, false, &b, &err), err);
	uint8_t *name = memmem(b.data, b.len, "/abb", 4);
	assert_non_null(name);
	name[2] = '/';
	assert_err(bxc_tree_decode(bxc_buf_slice(&b), &bad, &err), BXC_INVALID_ARGUMENT, err);
	name[1] = 'A';
	assert_err(bxc_tree_decode(bxc_buf_slice(&b), &bad, &err), BXC_INVALID_ARGUMENT, err);
}

static void assert_selects(const bxc_tree *t, bxc_tree_select s, const char *want)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOSTRV char **v = NULL;
	bxc_tree_indices found = {0};
	assert_ok(bxc_tree_resolve(t, &s, &found, &err), err);
	BXC_ARR_FOREACH (i, &found)
		bxc_strv_push(&v, t->entries.v[*i].path);
	bxc_arr_done(&found);
	BXC_AUTOFREE char *got = bxc_strv_join(v, " ");
	assert_string_equal(got, want);
}

static void assert_refuses(const bxc_tree *t, bxc_tree_select s, bxc_code code, const char *text)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_tree_indices found = {0};
	assert_int_equal(bxc_tree_resolve(t, &s, &found, &err), -(int)code);
	assert_string_equal(bxc_err_text(err), text);
}

#define SEL(...) ((bxc_tree_select){__VA_ARGS__})

void selections_cover_what_copy_takes(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = sample();
	char *md[] = {(char[]){"**/*.md"}, NULL}, *d[] = {(char[]){"d"}, NULL};
	assert_selects(t, SEL(.path = "/a/d"), "/a/d /a/d/x.go /a/d/y.md");
	assert_selects(t, SEL(.path = "../a/one.txt"), "/a/one.txt");
	assert_selects(t, SEL(.path = "/toa/d/"), "/a/d /a/d/x.go /a/d/y.md");
	assert_selects(t, SEL(.path = "/toa"), "/toa");
	assert_selects(t, SEL(.path = "/tofile", .follow = true), "/a/one.txt");
	assert_selects(t, SEL(.path = "/hard"), "/a/one.txt /hard");
	assert_selects(t, SEL(.path = "/a/*.txt", .wildcard = true), "/a/one.txt /a/two.txt");
	assert_selects(t, SEL(.path = "/[q/a]/[/t]*.txt", .wildcard = true), "/a/two.txt");
	assert_selects(t, SEL(.path = "/toa/d/?.go", .wildcard = true), "/a/d/x.go");
	assert_selects(t, SEL(.path = "/t*", .wildcard = true, .follow = true),
		"/a /a/d /a/d/x.go /a/d/y.md /a/one.txt /a/two.txt");
	assert_selects(t, SEL(.path = "/dang*", .wildcard = true, .follow = true), "/dangling");
	assert_selects(t, SEL(.path = "/*.none", .wildcard = true, .allow_empty = true), "");
	assert_selects(t, SEL(.path = "/a", .include = md), "/a /a/d /a/d/y.md");
	assert_selects(
		t, SEL(.path = "/a", .exclude = md), "/a /a/d /a/d/x.go /a/one.txt /a/two.txt");
	assert_selects(t, SEL(.path = "/a", .include = d, .exclude = md), "/a /a/d /a/d/x.go");
	assert_refuses(t, SEL(.path = "x"), BXC_NOT_FOUND, "\"/x\": not found");
	assert_refuses(t, SEL(.path = "/hard/x"), BXC_NOT_FOUND, "\"/hard/x\": not found");
	assert_refuses(t, SEL(.path = "/dangling", .follow = true), BXC_NOT_FOUND,
		"\"/dangling\": not found");
	assert_refuses(
		t, SEL(.path = "/q*", .wildcard = true), BXC_NOT_FOUND, "\"/q*\": not found");
	assert_refuses(t, SEL(.path = "/x", .wildcard = true, .allow_empty = true), BXC_NOT_FOUND,
		"\"/x\": not found");
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_tree_indices found = {0};
	const bxc_tree_select circle = {.path = "/circle", .follow = true},
			      bad = {.path = "/a[", .wildcard = true};
	assert_true(bxc_tree_resolve(t, &circle, &found, &err) < 0);
	bxc_err_free(BXC_TAKE(err));
	assert_err(bxc_tree_resolve(t, &bad, &found, &err), BXC_INVALID_ARGUMENT, err);
}

static bxc_digest sum(const bxc_tree *t, bxc_tree_select s)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_digest d = {0};
	assert_ok(bxc_tree_checksum(t, &s, &d, &err), err);
	return d;
}

static bool same(bxc_digest a, bxc_digest b)
{
	return bxc_digest_eq(&a, &b);
}

static bxc_tree_entry *at(bxc_tree *t, const char *path)
{
	BXC_ARR_FOREACH (e, &t->entries)
		if (strcmp(e->path, path) == 0)
			return e;
	fail_msg("no '%s'", path);
	return NULL;
}

void checksums_follow_content_not_time(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = sample(), *u = sample();
	const bxc_tree_select dir = SEL(.path = "/a"),
			      contents = SEL(.path = "/a", .dir_contents = true);
	BXC_ARR_FOREACH (e, &u->entries)
		e->mtime_ns = 77;
	assert_true(same(sum(t, dir), sum(u, dir)));
	at(u, "/a")->mode = S_IFDIR | 0700;
	assert_false(same(sum(t, dir), sum(u, dir)));
	assert_true(same(sum(t, contents), sum(u, contents)));
	at(u, "/a/d/x.go")->uid = 5;
	assert_false(same(sum(t, contents), sum(u, contents)));
	/* A pattern with one match of this name is that file; a link that is followed has its own
	 * name. */
	assert_true(same(
		sum(t, SEL(.path = "/a/one.txt")), sum(t, SEL(.path = "/a/o*", .wildcard = true))));
	assert_false(same(sum(t, SEL(.path = "/a/one.txt")),
		sum(t, SEL(.path = "/a/*.txt", .wildcard = true))));
	assert_false(same(sum(t, SEL(.path = "/a/one.txt")), sum(t, SEL(.path = "/hard"))));
	assert_true(same(sum(t, SEL(.path = "/toa", .follow = true)), sum(t, dir)));
	/* Hard links have the content of their first name. */
	bxc_digest before = sum(u, SEL(.path = "/hard"));
	at(u, "/a/one.txt")->digest.b[0] ^= 1;
	assert_false(same(before, sum(u, SEL(.path = "/hard"))));
	/* Labels of the machine do not count, capabilities do. */
	before = sum(t, SEL(.path = "/zero"));
	free(at(t, "/zero")->xattrs.v[0].name);
	at(t, "/zero")->xattrs.v[0].name = bxc_strdup("security.selinux");
	bxc_digest label = sum(t, SEL(.path = "/zero"));
	free(at(t, "/zero")->xattrs.v[0].name);
	at(t, "/zero")->xattrs.v[0].name = bxc_strdup("security.capability");
	bxc_digest capability = sum(t, SEL(.path = "/zero"));
	at(t, "/zero")->xattrs.n = 0;
	assert_true(same(label, sum(t, SEL(.path = "/zero"))));
	at(t, "/zero")->xattrs.n = 1;
	assert_false(same(label, capability) || same(label, before));
	/* What was never hashed cannot be summed. */
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_digest d;
	at(t, "/a/two.txt")->digest = (bxc_digest){0};
	assert_err(bxc_tree_checksum(t, &dir, &d, &err), BXC_FAILED_PRECONDITION, err);
	assert_true(same(sum(t, SEL(.path = "/q*", .wildcard = true, .allow_empty = true)),
		sum(u, SEL(.path = "/r*", .wildcard = true, .allow_empty = true))));
}
