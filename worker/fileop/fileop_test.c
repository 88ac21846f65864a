/* SPDX-License-Identifier: Apache-2.0 */
/* BuildKit's copy, rule by rule; the numbers are those of the inventory of features. */
#include "common/testing/testing.h"

#include <sys/sysmacros.h>

#include "common/base/clock.h"
#include "common/os/xattr.h"
#include "worker/fileop/fileop_internal.h"
#include "worker/fileop/fileop_test_world.h"
#include "worker/snapshot/snapshot.h"

static void copy(world *w, const char *src, const char *dest)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_file_action a = copy_of(src, dest);
	assert_ok(perform(w, &a, &err), err);
}

/* 10.1.1 Folder as a source */
static void a_folder_stands_for_its_contents(void **state)
{
	world *w = *state;
	put(w->src, "a/x", "1");
	put(w->src, "b/x", "2");
	put(w->src, "b/y", "3");
	copy(w, "/a", "/d");
	copy(w, "/b", "/d");
	assert_file(w->dst, "d/x", "2");
	assert_file(w->dst, "d/y", "3");
	assert_true(is_absent(w->dst, "d/a"));
	copy(w, "/", "/all/");
	assert_file(w->dst, "all/a/x", "1");
}

/* 10.1.2 Shape of the destination */
static void files_go_into_folders_and_to_names(void **state)
{
	world *w = *state;
	put(w->src, "f", "f");
	put(w->src, "g", "g");
	copy(w, "/f", "/new/dir/");
	assert_file(w->dst, "new/dir/f", "f");
	copy(w, "/f", "/new/dir");
	copy(w, "/f", "/name");
	assert_file(w->dst, "name", "f");
	copy(w, "/f", "/dot/.");
	assert_file(w->dst, "dot/f", "f");
	/* Several files to one name: each overwrites the one before. */
	copy(w, "/[fg]", "/one");
	assert_file(w->dst, "one", "g");
	copy(w, "/f", "/");
	assert_file(w->dst, "f", "f");
}

/* 10.1.3 Top folder of a copy, 10.1.4 Folders below it */
static void the_top_folder_keeps_its_own_attributes(void **state)
{
	world *w = *state;
	put(w->src, "d/x", "x");
	put(w->src, "d/sub/y", "y");
	assert_int_equal(fchmodat(w->src, "d", 0700, 0), 0);
	assert_int_equal(fchmodat(w->src, "d/sub", 0711, 0), 0);
	assert_int_equal(fchownat(w->src, "d", 3, 4, 0), 0);
	assert_int_equal(fchownat(w->src, "d/sub", 5, 6, 0), 0);
	struct timespec t[2] = {{.tv_sec = 5, .tv_nsec = 55}, {.tv_sec = 6, .tv_nsec = 66}};
	assert_int_equal(utimensat(w->src, "d/sub", t, 0), 0);
	assert_int_equal(utimensat(w->src, "d", t, 0), 0);
	mode_t old = umask(077);
	copy(w, "/d", "/missing");
	assert_int_equal(mkdirat(w->dst, "there", 0), 0);
	assert_int_equal(fchmodat(w->dst, "there", 01777, 0), 0);
	assert_int_equal(mkdirat(w->dst, "there/sub", 0700), 0);
	copy(w, "/d", "/there");
	umask(old);
	struct stat st = stat_of(w->dst, "missing");
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_mtim.tv_sec, 6);
	assert_int_equal(st.st_mtim.tv_nsec, 66);
	assert_int_equal(stat_of(w->dst, "there").st_mode & 07777, 01777);
	assert_int_equal(stat_of(w->dst, "there").st_mtim.tv_sec, 6);
	/* Nested ones, new or not, look as their source. */
	static const char *const subs[] = {"missing/sub", "there/sub"};
	for (size_t i = 0; i < 2; i++) {
		st = stat_of(w->dst, subs[i]);
		assert_int_equal(st.st_mode & 07777, 0711);
		assert_int_equal(st.st_uid, 5);
		assert_int_equal(st.st_gid, 6);
		assert_int_equal(st.st_mtim.tv_nsec, 66);
	}
}

/* 10.1.5 Implied parents */
static void implicit_parents_are_plain(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put(w->src, "f", "f");
	bxc_file_action a = copy_of("/f", "/p/q/f");
	a.mode = 0640;
	a.owner = (bxc_def_owner){.is_set = true, .uid = 55};
	mode_t old = umask(077);
	assert_ok(perform(w, &a, &err), err);
	umask(old);
	assert_int_equal(stat_of(w->dst, "p").st_mode & 07777, 0640);
	assert_int_equal(stat_of(w->dst, "p/q").st_uid, 55);
	assert_int_equal(stat_of(w->dst, "p/q/f").st_gid, 55);
	char text[] = "u+x,go=";
	bxc_file_action b = copy_of("/f", "/r/f");
	b.mode_text = text;
	assert_ok(perform(w, &b, &err), err);
	assert_int_equal(stat_of(w->dst, "r").st_mode & 07777, 0755);
	assert_int_equal(stat_of(w->dst, "r/f").st_mode & 07777, 0700);
}

/* 10.1.6 Clash of types */
static void types_that_clash_are_refused(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put(w->src, "t/x", "file");
	put(w->src, "u/x/deep", "folder");
	put(w->dst, "a/x/deep", "there");
	put(w->dst, "b/x", "there");
	bxc_file_action a = copy_of("/t", "/a");
	assert_err_text(perform(w, &a, &err), BXC_INVALID_ARGUMENT, err,
		"cannot replace to directory /t/x with file");
	bxc_file_action b = copy_of("/u", "/b");
	assert_err_text(perform(w, &b, &err), BXC_INVALID_ARGUMENT, err,
		"cannot copy to non-directory: /u/x");
	a.replace_existing = b.replace_existing = true;
	assert_ok(perform(w, &a, &err), err);
	assert_ok(perform(w, &b, &err), err);
	assert_file(w->dst, "a/x", "file");
	assert_file(w->dst, "b/x/deep", "folder");
	bxc_file_action c = copy_of("/u", "/a/x");
	assert_err_text(perform(w, &c, &err), BXC_INVALID_ARGUMENT, err,
		"cannot copy to non-directory: /a/x");
}

/* 10.1.6 Clash of types */
static void existing_files_are_unlinked_first(void **state)
{
	world *w = *state;
	put(w->src, "d/f", "new");
	put(w->src, "d/g", "new");
	put(w->dst, "d/f", "old");
	put(w->dst, "target", "kept");
	assert_int_equal(linkat(w->dst, "d/f", w->dst, "peer", 0), 0);
	assert_int_equal(symlinkat("../target", w->dst, "d/g"), 0);
	copy(w, "/d", "/d");
	assert_file(w->dst, "d/f", "new");
	assert_file(w->dst, "peer", "old");
	assert_file(w->dst, "d/g", "new");
	assert_file(w->dst, "target", "kept");
}

/* 10.1.7 Links in the source */
static void named_source_links_are_followed_and_met_ones_copied(void **state)
{
	world *w = *state;
	put(w->src, "real/f", "f");
	assert_int_equal(symlinkat("real", w->src, "dlink"), 0);
	assert_int_equal(symlinkat("/real/../real/f", w->src, "flink"), 0);
	assert_int_equal(symlinkat("../../../../../real/f", w->src, "up"), 0);
	assert_int_equal(symlinkat("/etc/nowhere", w->src, "real/dangling"), 0);
	copy(w, "/dlink", "/a");
	assert_file(w->dst, "a/f", "f");
	assert_true(S_ISLNK(stat_of(w->dst, "a/dangling").st_mode));
	copy(w, "/flink", "/b/");
	assert_file(w->dst, "b/flink", "f");
	copy(w, "/up", "/c");
	assert_file(w->dst, "c", "f");
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_file_action a = copy_of("/flink", "/d");
	a.follow_symlink = false;
	assert_ok(perform(w, &a, &err), err);
	assert_true(S_ISLNK(stat_of(w->dst, "d").st_mode));
}

/* 10.1.7 Links in the source, 10.1.8 Links in the destination */
static void links_cannot_lead_out_of_either_tree(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *secret = bxc_str_fmt("%s/secret", w->dir);
	put(w->src, "f", "f");
	assert_int_equal(symlinkat(secret, w->src, "out"), 0);
	assert_int_equal(symlinkat("../secret", w->src, "rel"), 0);
	bxc_file_action a = copy_of("/out", "/x");
	assert_err_text(perform(w, &a, &err), BXC_NOT_FOUND, err, "\"/out\": not found");
	bxc_file_action b = copy_of("/rel", "/x");
	assert_err(perform(w, &b, &err), BXC_NOT_FOUND, err);
	assert_int_equal(symlinkat(secret, w->dst, "l"), 0);
	assert_int_equal(symlinkat("../..", w->dst, "d"), 0);
	copy(w, "/f", "/l");
	copy(w, "/f", "/d/secret");
	assert_file(w->dst, "secret", "f");
	BXC_AUTOFREE char *inside = bxc_str_fmt("%s", secret + 1);
	assert_file(w->dst, inside, "f");
}

/* 10.1.8 Links in the destination */
static void links_in_the_destination_path_are_followed(void **state)
{
	world *w = *state;
	put(w->src, "f", "f");
	put(w->src, "dir/g", "g");
	put(w->dst, "real/old", "old");
	assert_int_equal(symlinkat("real/old", w->dst, "flink"), 0);
	assert_int_equal(symlinkat("/real", w->dst, "dlink"), 0);
	assert_int_equal(symlinkat("made/later", w->dst, "dangling"), 0);
	copy(w, "/f", "/flink");
	assert_file(w->dst, "real/old", "f");
	copy(w, "/f", "/dlink/");
	assert_file(w->dst, "real/f", "f");
	copy(w, "/dir", "/dlink");
	assert_file(w->dst, "real/g", "g");
	copy(w, "/f", "/dangling");
	assert_file(w->dst, "made/later", "f");
	assert_true(S_ISLNK(stat_of(w->dst, "dlink").st_mode));
}

/* 10.1.9 Wildcards */
static void patterns_match_one_component_each(void **state)
{
	world *w = *state;
	put(w->src, "a.txt", "a");
	put(w->src, ".hidden.txt", "h");
	put(w->src, "sub/b.txt", "b");
	put(w->src, "sub/deep/c.txt", "c");
	copy(w, "/*.txt", "/out/");
	assert_file(w->dst, "out/a.txt", "a");
	assert_file(w->dst, "out/.hidden.txt", "h");
	assert_true(is_absent(w->dst, "out/b.txt"));
	copy(w, "/s*/b.*", "/two/");
	assert_file(w->dst, "two/b.txt", "b");
	/* A matched folder gives its contents. */
	copy(w, "/su[ab]", "/three/");
	assert_file(w->dst, "three/deep/c.txt", "c");
	/* A '/' within brackets ends no component. */
	copy(w, "/[x/s]ub/[/b].txt", "/five/");
	assert_file(w->dst, "five/b.txt", "b");
	copy(w, "/no*match", "/four/");
	assert_true(is_absent(w->dst, "four"));
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_file_action a = copy_of("/no*match", "/four/");
	a.allow_empty_wildcard = false;
	assert_err_text(perform(w, &a, &err), BXC_NOT_FOUND, err, "\"/no*match\": not found");
	bxc_file_action b = copy_of("/missing", "/four/");
	assert_err_text(perform(w, &b, &err), BXC_NOT_FOUND, err, "\"/missing\": not found");
}

/* 10.1.12 Owners by name */
static void owners_are_numbers_or_names_of_the_destination(void **state)
{
	world *w = *state;
	put(w->src, "f", "f");
	assert_int_equal(fchownat(w->src, "f", 11, 12, 0), 0);
	put(w->dst, "etc/passwd", "root:x:0:0::/:\napp:x:1000:77::/:\n");
	put(w->dst, "etc/group", "grp:x:33:\n");
	char app[] = "app", nobody[] = "nobody", grp[] = "grp", nogrp[] = "nogrp";
	const struct {
		bxc_def_owner owner;
		uint32_t uid, gid;
	} cases[] = {
		{{.is_set = false}, 11, 12},
		{{.is_set = true, .uid = 55}, 55, 55},
		{{.is_set = true, .uid = 55, .gid = 56, .has_gid = true}, 55, 56},
		{{.is_set = true, .user_name = app}, 1000, 77},
		{{.is_set = true, .user_name = app, .group_name = grp, .has_gid = true}, 1000, 33},
		{{.is_set = true, .user_name = nobody}, 0, 0},
		{{.is_set = true, .uid = 9, .group_name = nogrp, .has_gid = true}, 9, 0},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		bxc_file_action a = copy_of("/f", "/f");
		a.owner = cases[i].owner;
		assert_ok(perform(w, &a, &err), err);
		struct stat st = stat_of(w->dst, "f");
		assert_int_equal(st.st_uid, cases[i].uid);
		assert_int_equal(st.st_gid, cases[i].gid);
	}
	/* Without the files every name is root. */
	assert_int_equal(unlinkat(w->dst, "etc/passwd", 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", w->dst, "etc/passwd"), 0);
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_file_action a = copy_of("/f", "/f");
	a.owner = (bxc_def_owner){.is_set = true, .user_name = app};
	assert_ok(perform(w, &a, &err), err);
	assert_int_equal(stat_of(w->dst, "f").st_uid, 0);
}

/* 10.1.13 Modes */
static void modes_apply_to_files_and_folders_but_not_links(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put(w->src, "d/sub/f", "f");
	assert_int_equal(symlinkat("f", w->src, "d/sub/l"), 0);
	bxc_file_action a = copy_of("/d", "/n");
	a.mode = 04750;
	mode_t old = umask(077);
	assert_ok(perform(w, &a, &err), err);
	umask(old);
	assert_int_equal(stat_of(w->dst, "n").st_mode & 07777, 04750);
	assert_int_equal(stat_of(w->dst, "n/sub").st_mode & 07777, 04750);
	assert_int_equal(stat_of(w->dst, "n/sub/f").st_mode & 07777, 04750);
	assert_int_equal(stat_of(w->dst, "n/sub/l").st_mode & 0777, 0777);
	char text[] = "a=rX,u+w";
	bxc_file_action b = copy_of("/d", "/s");
	b.mode_text = text;
	assert_ok(perform(w, &b, &err), err);
	assert_int_equal(stat_of(w->dst, "s/sub").st_mode & 07777, 0755);
	assert_int_equal(stat_of(w->dst, "s/sub/f").st_mode & 07777, 0644);
	char bad[] = "u+q";
	b.mode_text = bad;
	assert_err_text(perform(w, &b, &err), BXC_INVALID_ARGUMENT, err, "invalid mode 'u+q'");
}

/* 10.1.13 Modes */
static void symbolic_modes_work_as_chmod(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		mode_t from, to;
	} cases[] = {
		{"u+x", S_IFREG | 0644, 0744},
		{"go-rwx", S_IFREG | 0777, 0700},
		{"a=r", S_IFREG | 04777, 0444},
		{"+X", S_IFREG | 0644, 0644},
		{"+X", S_IFREG | 0744, 0755},
		{"+X", S_IFDIR | 0600, 0711},
		{"u+s,g+s,+t", S_IFREG | 0755, 07755},
		{"g=u", S_IFREG | 0640, 0660},
		{"o=g-w", S_IFREG | 0660, 0664},
		{"u=rwx,g=rx,o=", S_IFREG | 0, 0750},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		mode_t got = 0;
		assert_int_equal(bxc_fsop__mode_apply(cases[i].text, cases[i].from, &got, NULL), 0);
		if ((got & 07777) != cases[i].to)
			fail_msg("%s on %o: %o", cases[i].text, cases[i].from, got & 07777);
	}
	static const char *const bad[] = {"", "u", "755", "u+x,", "z+x", ",u+x"};
	mode_t got = 0;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++)
		assert_int_equal(
			bxc_fsop__mode_apply(bad[i], 0644, &got, NULL), -BXC_INVALID_ARGUMENT);
}

/* 10.1.14 Hard links */
static void hard_links_stay_within_one_source(void **state)
{
	world *w = *state;
	put(w->src, "d/one", "x");
	put(w->src, "d/sub/other", "y");
	assert_int_equal(linkat(w->src, "d/one", w->src, "d/sub/two", 0), 0);
	copy(w, "/d", "/out");
	assert_int_equal(stat_of(w->dst, "out/one").st_ino, stat_of(w->dst, "out/sub/two").st_ino);
	assert_int_equal(stat_of(w->dst, "out/sub/other").st_nlink, 1);
	copy(w, "/d/one", "/f1");
	copy(w, "/d/sub/two", "/f2");
	assert_int_equal(stat_of(w->dst, "f1").st_nlink, 1);
}

/* 10.1.15 Attributes and special files, 10.1.16 Times */
static void special_files_xattrs_and_times_are_kept(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put(w->src, "d/f", "f");
	BXC_AUTOCLOSE int fd = openat(w->src, "d/f", O_RDONLY | O_CLOEXEC);
	assert_ok(bxc_xattr_set(fd, "user.note", "n", 1, &err), err);
	assert_ok(bxc_xattr_set(fd, "trusted.overlay.origin", "n", 1, &err), err);
	struct timespec t[2] = {{.tv_sec = 5, .tv_nsec = 123}, {.tv_sec = -6, .tv_nsec = 456}};
	assert_int_equal(futimens(fd, t), 0);
	assert_int_equal(mknodat(w->src, "d/pipe", S_IFIFO | 0620, 0), 0);
	assert_int_equal(fchmodat(w->src, "d/pipe", 0622, 0), 0);
	assert_int_equal(mknodat(w->src, "d/null", S_IFCHR | 0600, makedev(1, 3)), 0);
	assert_int_equal(mknodat(w->src, "d/whiteout", S_IFCHR | 0600, 0), 0);
	copy(w, "/d", "/d");
	struct stat st = stat_of(w->dst, "d/f");
	assert_int_equal(st.st_mtim.tv_sec, -6);
	assert_int_equal(st.st_mtim.tv_nsec, 456);
	assert_int_equal(st.st_atim.tv_nsec, 123);
	BXC_AUTOCLOSE int out = openat(w->dst, "d/f", O_RDONLY | O_CLOEXEC);
	BXC_AUTOBUF bxc_buf v = BXC_BUF_INIT(10);
	assert_ok(bxc_xattr_get(out, "user.note", &v, &err), err);
	assert_err(bxc_xattr_get(out, "trusted.overlay.origin", &v, &err), BXC_NOT_FOUND, err);
	assert_int_equal(stat_of(w->dst, "d/pipe").st_mode, S_IFIFO | 0622);
	assert_int_equal(stat_of(w->dst, "d/null").st_rdev, makedev(1, 3));
	assert_true(is_absent(w->dst, "d/whiteout"));
	bxc_file_action a = copy_of("/d", "/dated");
	a.timestamp_ns = 1234 * BXC_NS_PER_S + 5;
	assert_ok(perform(w, &a, &err), err);
	assert_int_equal(stat_of(w->dst, "dated").st_mtim.tv_sec, 1234);
	assert_int_equal(stat_of(w->dst, "dated/f").st_mtim.tv_nsec, 5);
}

/* --exclude */
static void include_and_exclude_choose_below_the_source(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put(w->src, "d/a.txt", "a");
	put(w->src, "d/a.md", "m");
	put(w->src, "d/sub/b.txt", "b");
	put(w->src, "d/sub/keep.md", "k");
	assert_int_equal(fchmodat(w->src, "d/sub", 0711, 0), 0);
	char md[] = "**/*.md", keep[] = "!sub/keep.md", txt[] = "sub/*.txt";
	char *exclude[] = {md, keep, NULL};
	bxc_file_action a = copy_of("/d", "/x");
	a.exclude = exclude;
	assert_ok(perform(w, &a, &err), err);
	assert_file(w->dst, "x/a.txt", "a");
	assert_true(is_absent(w->dst, "x/a.md"));
	assert_file(w->dst, "x/sub/keep.md", "k");
	char *include[] = {txt, NULL};
	bxc_file_action b = copy_of("/d", "/i");
	b.include = include;
	assert_ok(perform(w, &b, &err), err);
	assert_file(w->dst, "i/sub/b.txt", "b");
	assert_true(is_absent(w->dst, "i/a.txt"));
	/* Folders on the way look as their source. */
	assert_int_equal(stat_of(w->dst, "i/sub").st_mode & 07777, 0711);
	assert_true(is_absent(w->dst, "i/sub/keep.md"));
	bxc_file_action c = copy_of("/d/*", "/flat/");
	char plain[] = "*.md";
	char *by_name[] = {plain, NULL};
	c.exclude = by_name;
	assert_ok(perform(w, &c, &err), err);
	assert_file(w->dst, "flat/a.txt", "a");
	assert_true(is_absent(w->dst, "flat/a.md"));
}

static void without_create_dest_the_parent_must_exist(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put(w->src, "f", "f");
	bxc_file_action a = copy_of("/f", "/no/f");
	a.create_dest = false;
	assert_err_text(perform(w, &a, &err), BXC_NOT_FOUND, err, "\"/no\": not found");
	a = copy_of("/f", "/f");
	a.create_dest = false;
	assert_ok(perform(w, &a, &err), err);
}

/* 10.1.19 Parents (--parents): folders on the way to what is included are made as the source has
 * them; those that are there take its mode only. */
static void folders_on_the_way_keep_their_attributes(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put(w->src, "a/b/f", "f");
	put(w->src, "a/b/other", "o");
	put(w->src, "a/c/f", "f");
	put(w->src, "z/f", "f");
	assert_int_equal(fchmodat(w->src, "a", 0711, 0) | fchownat(w->src, "a", 3, 4, 0), 0);
	assert_int_equal(fchmodat(w->src, "a/b", 02750, 0) | fchownat(w->src, "a/b", 5, 6, 0), 0);
	char *include[] = {(char[]){"a/*/f"}, NULL}, *required[] = {(char[]){"/a/b/f"}, NULL};
	bxc_file_action a = copy_of("/", "/d/");
	a.include = include;
	a.required = required;
	assert_int_equal(mkdirat(w->dst, "d", 0755) | mkdirat(w->dst, "d/a", 0700), 0);
	assert_ok(perform(w, &a, &err), err);
	assert_file(w->dst, "d/a/b/f", "f");
	assert_file(w->dst, "d/a/c/f", "f");
	assert_true(is_absent(w->dst, "d/a/b/other") && is_absent(w->dst, "d/z"));
	struct stat st = stat_of(w->dst, "d/a/b");
	assert_true(st.st_mode == (S_IFDIR | 02750) && st.st_uid == 5 && st.st_gid == 6);
	st = stat_of(w->dst, "d/a");
	assert_true(st.st_mode == (S_IFDIR | 0711) && st.st_uid == 0);
	required[0] = (char[]){"/a/nope"};
	assert_err_text(perform(w, &a, &err), BXC_NOT_FOUND, err, "\"/a/nope\": not found");
}

static void small_actions_do_as_they_say(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	char deep[] = "/a/b/c", file[] = "/a/b/f", link[] = "/a/l", target[] = "b/f",
	     a_dir[] = "/a", star[] = "/a/b/*";
	uint8_t data[] = "hello";
	mode_t old = umask(077);
	bxc_file_action mk = {.kind = BXC_FILE_MKDIR,
		.dest = deep,
		.mode = 0750,
		.timestamp_ns = 5 * BXC_NS_PER_S};
	assert_err_text(perform(w, &mk, &err), BXC_NOT_FOUND, err, "not found");
	mk.make_parents = true;
	mk.owner = (bxc_def_owner){.is_set = true, .uid = 3, .gid = 4, .has_gid = true};
	assert_ok(perform(w, &mk, &err), err);
	assert_ok(perform(w, &mk, &err), err);
	bxc_file_action f = {.kind = BXC_FILE_MKFILE,
		.dest = file,
		.mode = 0644,
		.timestamp_ns = INT64_MIN,
		.data = data,
		.data_len = 5};
	assert_ok(perform(w, &f, &err), err);
	bxc_file_action l = {.kind = BXC_FILE_SYMLINK,
		.dest = link,
		.link_target = target,
		.mode = -1,
		.timestamp_ns = INT64_MIN};
	assert_ok(perform(w, &l, &err), err);
	umask(old);
	struct stat st = stat_of(w->dst, "a/b/c");
	assert_int_equal(st.st_mode & 07777, 0750);
	assert_int_equal(st.st_uid, 3);
	assert_int_equal(st.st_gid, 4);
	assert_int_equal(st.st_mtim.tv_sec, 5);
	assert_file(w->dst, "a/b/f", "hello");
	assert_int_equal(stat_of(w->dst, "a/b/f").st_mode & 07777, 0644);
	/* Through the link, as open(2) does. */
	f.dest = link;
	f.data_len = 2;
	assert_ok(perform(w, &f, &err), err);
	assert_file(w->dst, "a/b/f", "he");
	bxc_file_action rm = {
		.kind = BXC_FILE_RM, .dest = link, .timestamp_ns = INT64_MIN, .mode = -1};
	assert_ok(perform(w, &rm, &err), err);
	assert_true(is_absent(w->dst, "a/l"));
	assert_err_text(perform(w, &rm, &err), BXC_NOT_FOUND, err, "\"/a/l\": not found");
	rm.allow_not_found = true;
	assert_ok(perform(w, &rm, &err), err);
	rm.dest = star;
	rm.wildcard = true;
	assert_ok(perform(w, &rm, &err), err);
	assert_true(is_absent(w->dst, "a/b/f") && is_absent(w->dst, "a/b/c"));
	rm.dest = a_dir;
	rm.wildcard = false;
	assert_ok(perform(w, &rm, &err), err);
	assert_true(is_absent(w->dst, "a"));
}

/* ---- located trees ---- */

static int pack_fd = -1;

static int open_pack(const bxc_digest *pack, int *ret_fd, void *ud, bxc_err **err)
{
	(void)pack;
	(void)ud;
	(void)err;
	*ret_fd = pack_fd;
	return 0;
}

static bxc_tree_entry *entry(bxc_tree *t, const char *path, mode_t mode)
{
	bxc_tree_entry *e = bxc_arr_push(&t->entries);
	e->path = bxc_strdup(path);
	e->mode = mode;
	e->mtime_ns = 7 * BXC_NS_PER_S + 8;
	return e;
}

static void contexts_are_copied_from_their_packs(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = bxc_tree_new();
	put(w->src, "pack", "..hello world");
	pack_fd = openat(w->src, "pack", O_RDONLY | O_CLOEXEC);
	entry(t, "/", S_IFDIR | 0755);
	entry(t, "/dir", S_IFDIR | 0711);
	bxc_tree_entry *e = entry(t, "/dir/a", S_IFREG | 0640);
	e->size = 5;
	e->pack = bxc_digest_of_str("pack");
	e->pack_off = 2;
	e = entry(t, "/dir/b", S_IFREG | 0640);
	e->is_hardlink = true;
	e->link = bxc_strdup("/dir/a");
	e = entry(t, "/dir/empty", S_IFREG | 0600);
	e = entry(t, "/dir/lnk", S_IFLNK | 0777);
	e->link = bxc_strdup("../dir/./a");
	e = entry(t, "/out", S_IFLNK | 0777);
	e->link = bxc_strdup("../../dir");
	e = entry(t, "/unsent", S_IFREG | 0600);
	e->size = 3;
	const bxc_fsop_source src = {.root_fd = -1, .tree = t};
	const bxc_fsop_env env = {.open_pack = open_pack};
	bxc_file_action a = copy_of("/out", "/x");
	assert_ok(bxc_fsop_perform(&a, w->dst, &src, &env, &err), err);
	assert_file(w->dst, "x/a", "hello");
	assert_int_equal(stat_of(w->dst, "x/a").st_mode & 07777, 0640);
	assert_int_equal(stat_of(w->dst, "x/a").st_mtim.tv_nsec, 8);
	assert_int_equal(stat_of(w->dst, "x/a").st_ino, stat_of(w->dst, "x/b").st_ino);
	assert_true(S_ISLNK(stat_of(w->dst, "x/lnk").st_mode));
	a = copy_of("/dir/lnk", "/y");
	assert_ok(bxc_fsop_perform(&a, w->dst, &src, &env, &err), err);
	assert_file(w->dst, "y", "hello");
	a = copy_of("/dir/b", "/z");
	assert_ok(bxc_fsop_perform(&a, w->dst, &src, &env, &err), err);
	assert_file(w->dst, "z", "hello");
	a = copy_of("/d*/[ab]", "/m/");
	assert_ok(bxc_fsop_perform(&a, w->dst, &src, &env, &err), err);
	assert_file(w->dst, "m/b", "hello");
	a = copy_of("/dir/a/no", "/q");
	assert_err_text(bxc_fsop_perform(&a, w->dst, &src, &env, &err), BXC_NOT_FOUND, err,
		"\"/dir/a/no\": not found");
	a = copy_of("/unsent", "/q");
	assert_err(bxc_fsop_perform(&a, w->dst, &src, &env, &err), BXC_FAILED_PRECONDITION, err);
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/dst/full", w->dir);
	assert_int_equal(mkdir(path, 0755), 0);
	BXC_AUTOCLOSE int full = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bxc_arr_remove(&t->entries, t->entries.n - 1);
	free(e->path);
	assert_ok(bxc_fsop_materialize(&src, full, &env, &err), err);
	assert_file(full, "dir/a", "hello");
	assert_int_equal(stat_of(full, "dir").st_mode & 07777, 0711);
	close(pack_fd);
}

static void chains_of_actions_run_on_one_tree(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put(w->src, "f", "f");
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_FILE);
	bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_MKDIR);
	a->target = BXC_DEF_NO_INPUT;
	a->dest = bxc_strdup("/made");
	a = bxc_def_add_action(v, BXC_FILE_COPY);
	a->target = 1;
	a->source = 0;
	a->src = bxc_strdup("/f");
	a->dest = bxc_strdup("/made/");
	a->create_dest = true;
	const bxc_fsop_source inputs[] = {{.root_fd = w->src}};
	uint32_t base = 0;
	assert_ok(bxc_fsop_base(&v->op.file, 1, &base, &err), err);
	assert_true(base == BXC_DEF_NO_INPUT);
	assert_ok(bxc_fsop_run(&v->op.file, w->dst, inputs, 1, NULL, &err), err);
	assert_file(w->dst, "made/f", "f");
	v->op.file.actions.v[1].target = 0;
	assert_err(bxc_fsop_base(&v->op.file, 1, &base, &err), BXC_UNIMPLEMENTED, err);
}

static void layers_are_written_through_overlays(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *store = bxc_str_fmt("%s/store", w->dir);
	BXC_CLEANUP(bxc_snap_freep) bxc_snap *s = NULL;
	assert_ok(bxc_snap_open(store, &s, &err), err);
	bxc_snap_staging *g = NULL;
	assert_ok(bxc_snap_begin(s, "l-1", &g, &err), err);
	put(bxc_snap_staging_fd(g), "d/old", "old");
	assert_int_equal(bxc_snap_commit(g, NULL, &err), 0);
	put(w->src, "f", "f");
	const char *ids[] = {"l-1"};
	BXC_AUTOCLOSE int fd = -1;
	assert_ok(bxc_snap_begin(s, "l-2", &g, &err), err);
	assert_ok(bxc_snap_mount_rw(s, ids, 1, g, &fd, &err), err);
	const bxc_fsop_source src = {.root_fd = w->src};
	bxc_file_action a = copy_of("/f", "/d/old");
	assert_ok(bxc_fsop_perform(&a, fd, &src, NULL, &err), err);
	char d[] = "/d/old";
	assert_file(fd, "d/old", "f");
	bxc_file_action rm = {
		.kind = BXC_FILE_RM, .dest = d, .mode = -1, .timestamp_ns = INT64_MIN};
	assert_ok(bxc_fsop_perform(&rm, fd, NULL, NULL, &err), err);
	assert_true(is_absent(fd, "d/old"));
	assert_true(S_ISCHR(stat_of(bxc_snap_staging_fd(g), "d/old").st_mode));
	bxc_snap_abort(g);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_folder_stands_for_its_contents),
		T(files_go_into_folders_and_to_names),
		T(the_top_folder_keeps_its_own_attributes),
		T(implicit_parents_are_plain),
		T(types_that_clash_are_refused),
		T(existing_files_are_unlinked_first),
		T(named_source_links_are_followed_and_met_ones_copied),
		T(links_cannot_lead_out_of_either_tree),
		T(links_in_the_destination_path_are_followed),
		T(patterns_match_one_component_each),
		T(owners_are_numbers_or_names_of_the_destination),
		T(modes_apply_to_files_and_folders_but_not_links),
		cmocka_unit_test(symbolic_modes_work_as_chmod),
		T(hard_links_stay_within_one_source),
		T(special_files_xattrs_and_times_are_kept),
		T(include_and_exclude_choose_below_the_source),
		T(without_create_dest_the_parent_must_exist),
		T(folders_on_the_way_keep_their_attributes),
		T(small_actions_do_as_they_say),
		T(contexts_are_copied_from_their_packs),
		T(chains_of_actions_run_on_one_tree),
		T(layers_are_written_through_overlays),
	};
	return cmocka_run_group_tests_name("fileop", tests, NULL, NULL);
}
