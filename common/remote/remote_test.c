/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/remote/remote.h"

#define SHA "0123456789abcdef0123456789abcdef01234567"

static void forms_of_repositories_are_read(void **state)
{
	(void)state;
	static const struct {
		const char *text, *remote, *ref, *subdir;
	} good[] = {
		{"https://h/r.git", "https://h/r.git", NULL, NULL},
		{"http://u:p@h:80/a/r.git#v1", "http://u:p@h:80/a/r.git", "v1", NULL},
		{"https://h/r.git#v1:sub/dir", "https://h/r.git", "v1", "sub/dir"},
		{"https://h/r.git#:/sub//dir/", "https://h/r.git", NULL, "sub/dir"},
		{"https://h/r.git#:.", "https://h/r.git", NULL, NULL},
		{"https://h/r.git#feat%2Fx", "https://h/r.git", "feat/x", NULL},
		{"https://h/r.git?branch=dev&subdir=a", "https://h/r.git", "refs/heads/dev", "a"},
		{"https://h/r.git?tag=v2", "https://h/r.git", "refs/tags/v2", NULL},
		{"https://h/r.git?ref=x#x:d", "https://h/r.git", "x", "d"},
		{"https://h/r.git?checksum=" SHA, "https://h/r.git", SHA, NULL},
		{"https://h/r.git?commit=" SHA "&branch=b", "https://h/r.git", "refs/heads/b",
			NULL},
		{"git://h/r#main", "git://h/r", "main", NULL},
		{"ssh://git@h:22/r.git", "ssh://git@h:22/r.git", NULL, NULL},
		{"git@h:o/r.git#v1:d", "git@h:o/r.git", "v1", "d"},
		{"me@h.example:r", "me@h.example:r", NULL, NULL},
		{"github.com/o/r#b", "https://github.com/o/r", "b", NULL},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(good); i++) {
		BXC_AUTOGITREF bxc_git_ref g = {0};
		BXC_AUTOERR bxc_err *err = NULL;
		assert_int_equal(bxc_git_ref_parse(good[i].text, true, &g, &err), 1);
		assert_string_equal(g.remote, good[i].remote);
		assert_true(bxc_str_eq(g.ref, good[i].ref));
		assert_true(bxc_str_eq(g.subdir, good[i].subdir));
	}
}

static void other_texts_are_no_repositories(void **state)
{
	(void)state;
	static const char *const other[] = {"", ".", "./r.git", "/r.git", "dir", "https://h/r",
		"https://h/f.tar?x=r.git", "http://h/r.git/info", "ftp://h/r.git", "h:r.git",
		"a b@h:r", "git@h:", "git@h:#v1", "git@h:?ref=v1", "git@-oProxyCommand=x:r", "file:///r.git", "ext::sh -c x"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(other); i++) {
		BXC_AUTOGITREF bxc_git_ref g = {0};
		assert_int_equal(bxc_git_ref_parse(other[i], true, &g, NULL), 0);
	}
	BXC_AUTOGITREF bxc_git_ref g = {0};
	assert_int_equal(bxc_git_ref_parse("github.com/o/r", false, &g, NULL), 0);
}

static void what_git_could_mistake_is_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text, *why;
	} bad[] = {
		{"https://h/r.git#--upload-pack=x", "invalid git ref"},
		{"https://h/r.git#a..b", "invalid git ref"},
		{"https://h/r.git#a%20b", "invalid git ref"},
		{"https://h/r.git#a%00b", "invalid git ref"},
		{"https://h/r.git#refs/*", "invalid git ref"},
		{"https://h/r.git#x.lock", "invalid git ref"},
		{"https://h/r.git#main:../x", "must not hold \"..\""},
		{"https://h/r.git#main:a/../../x", "must not hold \"..\""},
		{"https://h/r.git?branch=a&tag=b", "branch conflicts with tag"},
		{"https://h/r.git?ref=a#b", "ref conflicts"},
		{"https://h/r.git?subdir=a#:b", "subdir conflicts"},
		{"https://h/r.git?ref=a&ref=b", "multiple values"},
		{"https://h/r.git?ref=", "has no value"},
		{"https://h/r.git?x=y", "unexpected query \"x\""},
		{"https://h/r.git?keep-git-dir=maybe", "invalid keep-git-dir value"},
		{"https://h/r.git?checksum=zz", "invalid git checksum"},
		{"https://h/r.git?fetch-by-commit&checksum=0123456", "whole name of a commit"},
		{"ssh://-oProxyCommand=x/r", "invalid git URL"},
		{"ssh://u@-h/r", "invalid git URL"},
		{"git:///r", "invalid git URL"},
		{"https://h/a b.git", "invalid git URL"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		BXC_AUTOGITREF bxc_git_ref g = {0};
		BXC_AUTOERR bxc_err *err = NULL;
		int r = bxc_git_ref_parse(bad[i].text, true, &g, &err);
		assert_int_equal(r, -BXC_INVALID_ARGUMENT);
		if (!strstr(bxc_err_text(err), bad[i].why))
			fail_msg("%s: %s", bad[i].text, bxc_err_text(err));
	}
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOGITREF bxc_git_ref g = {0};
	assert_int_equal(bxc_git_ref_parse("https://me:secret@h/r.git?x=y", true, &g, &err),
		-BXC_INVALID_ARGUMENT);
	assert_null(strstr(bxc_err_text(err), "secret"));
}

static void a_definition_holds_all_of_it(void **state)
{
	(void)state;
	BXC_AUTOGITREF bxc_git_ref g = {0}, h = {0};
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *id = NULL;
	BXC_AUTOSTRV char **attrs = NULL;
	assert_int_equal(bxc_git_ref_parse("https://me:pw@h/r.git?branch=b&subdir=d&keep-git-dir&"
					   "submodules=0&mtime=commit&checksum=" SHA,
				 false, &g, &err),
		1);
	g.commit = bxc_strdup(SHA);
	bxc_git_ref_to_source(&g, &id, &attrs);
	assert_string_equal(id, "git://xxxxx:xxxxx@h/r.git#refs/heads/b:d");
	assert_ok(bxc_git_ref_from_source(id, attrs, &h, &err), err);
	assert_string_equal(h.remote, "https://me:pw@h/r.git");
	assert_string_equal(h.ref, "refs/heads/b");
	assert_string_equal(h.subdir, "d");
	assert_string_equal(h.checksum, SHA);
	assert_string_equal(h.commit, SHA);
	assert_int_equal(h.keep_git_dir, BXC_GIT_YES);
	assert_int_equal(h.submodules, BXC_GIT_NO);
	assert_true(h.mtime_of_commit);
	/* A checksum beside the name says nothing of what to fetch. */
	BXC_AUTOGITREF bxc_git_ref beside = {0};
	char *sum[] = {(char *)(uintptr_t) "git.checksum=0123456",
		(char *)(uintptr_t) "git.fullurl=git://h/r", NULL};
	assert_ok(bxc_git_ref_from_source("git://h/r", sum, &beside, &err), err);
	assert_null(beside.ref);
	char *evil[] = {(char *)(uintptr_t) "git.fullurl=--upload-pack=x", NULL};
	assert_err(bxc_git_ref_from_source("git://h/r", evil, &h, &err), BXC_INVALID_ARGUMENT, err);
}

static void names_come_from_urls(void **state)
{
	(void)state;
	static const char *const pairs[][2] = {{"http://h/a/b.txt", "b.txt"},
		{"http://h/a/b.txt?x=/y#z", "b.txt"}, {"http://h/a%20b", "a b"},
		{"http://h/d/", "d"}, {"http://h/", NULL}, {"http://h", NULL},
		{"http://h/..", NULL}, {"http://h/a%2Fb", "b"}, {"http://h/a%00", NULL},
		{"http://h/a%zz", NULL}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(pairs); i++) {
		BXC_AUTOFREE char *name = bxc_remote_url_name(pairs[i][0]);
		assert_true(bxc_str_eq(name, pairs[i][1]));
	}
	BXC_AUTOFREE char *shown = bxc_remote_redact("https://u:p@h/x");
	assert_string_equal(shown, "https://xxxxx:xxxxx@h/x");
	BXC_AUTOFREE char *user = bxc_remote_redact("ssh://git@h/x");
	assert_string_equal(user, "ssh://git@h/x");
	BXC_AUTOFREE char *both = bxc_remote_redact("ssh://git:p@h/x");
	assert_string_equal(both, "ssh://git:xxxxx@h/x");
	BXC_AUTOFREE char *host = bxc_remote_host("git@h.example:o/r");
	assert_string_equal(host, "h.example");
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_remote_check_http("HTTPS://h/x", &err), err);
	assert_err(bxc_remote_check_http("http:///x", &err), BXC_INVALID_ARGUMENT, err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms_of_repositories_are_read),
		cmocka_unit_test(other_texts_are_no_repositories),
		cmocka_unit_test(what_git_could_mistake_is_refused),
		cmocka_unit_test(a_definition_holds_all_of_it),
		cmocka_unit_test(names_come_from_urls),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
