/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of walks and trees for the next time: indexes and changes. */
#include <fcntl.h>
#include <sys/stat.h>

#include "common/filesync/filesync.h"
#include "common/os/xattr.h"
#include "common/testing/testing.h"

#define BUF_MAX (1u << 20)

static bxc_tree *tree_of(const char *const *paths)
{
	bxc_tree *t = bxc_tree_new();
	*bxc_arr_push(&t->entries) =
		(bxc_tree_entry){.path = bxc_strdup("/"), .mode = S_IFDIR | 0755};
	for (; *paths; paths++) {
		/* "/a/": a folder; "/a=text": a file. */
		const char *eq = strchr(*paths, '=');
		size_t n = strlen(*paths);
		bxc_tree_entry *e = bxc_arr_push(&t->entries);
		e->path = bxc_strndup(*paths, eq ? (size_t)(eq - *paths) : n - 1);
		e->mode = eq ? S_IFREG | 0644 : S_IFDIR | 0755;
		if (eq) {
			e->size = strlen(eq + 1);
			e->digest = bxc_digest_of_str(eq + 1);
		}
	}
	return t;
}
#define TREE(...) tree_of((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static bxc_digest encode(const bxc_tree *t, bxc_buf *b)
{
	BXC_AUTOERR bxc_err *err = NULL;
	b->len = 0;
	assert_ok(bxc_tree_encode(t, false, b, &err), err);
	return bxc_digest_of(b->data, b->len);
}

/* Takes both. */
static size_t assert_changes(bxc_tree *from, bxc_tree *to)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BUF_MAX), delta = BXC_BUF_INIT(BUF_MAX);
	bxc_digest a = encode(from, &text), b = encode(to, &text), base, digest;
	assert_ok(bxc_tree_delta_encode(from, &a, to, &b, &delta, &err), err);
	bxc_tree_free(to);
	assert_int_equal(bxc_tree_delta_base(bxc_buf_slice(&delta), &base, &digest, &err), 1);
	assert_true(bxc_digest_eq(&base, &a));
	assert_true(bxc_digest_eq(&digest, &b));
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *got = NULL;
	assert_ok(bxc_tree_delta_apply(from, bxc_buf_slice(&delta), &got, &err), err);
	bxc_digest is = encode(got, &text);
	assert_true(bxc_digest_eq(&is, &b));
	return delta.len;
}

static void changes_make_one_tree_of_another(void **state)
{
	(void)state;
	assert_changes(TREE(), TREE());
	assert_changes(TREE(), TREE("/a=1"));
	assert_changes(TREE("/a=1"), TREE());
	assert_changes(TREE("/a=1", "/b=2", "/c=3"), TREE("/a=1", "/b=new", "/c=3"));
	assert_changes(TREE("/a=1", "/c=3"), TREE("/a=1", "/b/", "/b/x=2", "/c=3"));
	assert_changes(TREE("/a/", "/a/x=1", "/a.b=2"), TREE("/a=1", "/a.b=2"));
	assert_changes(TREE("/a=1", "/a.b=2"), TREE("/a/", "/a/x=1", "/a.b=3", "/z=1"));
	/* What did not change costs nothing. */
	assert_int_equal(
		assert_changes(TREE("/a/", "/a/x=1", "/b=2"), TREE("/a/", "/a/x=1", "/b=2")),
		8 + 64 + 12);
}

static void changes_of_another_tree_are_refused(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BUF_MAX), delta = BXC_BUF_INIT(BUF_MAX);
	BXC_CLEANUP(bxc_tree_freep)
	bxc_tree *from = TREE("/a=1", "/b=2"),
		 *to = TREE("/a=1", "/b/", "/b/c=2"), *got = NULL;
	bxc_digest a = encode(from, &text), b = encode(to, &text), base, digest;
	assert_ok(bxc_tree_delta_encode(from, &a, to, &b, &delta, &err), err);
	assert_err(bxc_tree_delta_apply(TREE(), bxc_buf_slice(&delta), &got, &err),
		BXC_INVALID_ARGUMENT, err);
	bxc_err_free(BXC_TAKE(err));
	assert_err(bxc_tree_delta_apply(
			   TREE("/a=1", "/b=2", "/c=3"), bxc_buf_slice(&delta), &got, &err),
		BXC_INVALID_ARGUMENT, err);
	bxc_err_free(BXC_TAKE(err));
	/* Cut anywhere behind its digests. */
	for (size_t n = 8 + 64 + 1; n < delta.len; n++) {
		assert_err(bxc_tree_delta_apply(
				   TREE("/a=1", "/b=2"), bxc_slice_of(delta.data, n), &got, &err),
			BXC_INVALID_ARGUMENT, err);
		bxc_err_free(BXC_TAKE(err));
	}
	for (size_t n = 8; n < 8 + 64; n++) {
		assert_err(bxc_tree_delta_base(bxc_slice_of(delta.data, n), &base, &digest, &err),
			BXC_INVALID_ARGUMENT, err);
		bxc_err_free(BXC_TAKE(err));
	}
	/* A whole tree is no change. */
	assert_int_equal(bxc_tree_delta_base(bxc_buf_slice(&text), &base, &digest, &err), 0);
}

struct folder {
	char *path;
	int fd;
};

static void write_in(const struct folder *f, const char *name, const char *text)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/%s", f->path, name);
	bxc_test_write_file(path, text, strlen(text), 0644);
}

static bxc_tree_file_id id_of(const struct folder *f, const char *name)
{
	struct stat st;
	assert_int_equal(fstatat(f->fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return (bxc_tree_file_id){
		st.st_dev, st.st_ino, st.st_ctim.tv_sec * INT64_C(1000000000) + st.st_ctim.tv_nsec};
}

static void set_attribute(const struct folder *f, const char *name, const char *attribute)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOCLOSE int fd = openat(f->fd, name, O_RDONLY | O_CLOEXEC);
	assert_ok(bxc_xattr_set(fd, attribute, "n", 1, &err), err);
}

static void files_that_are_known_are_not_read_again(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct folder f = {.path = bxc_test_tmpdir()};
	f.fd = open(f.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f.fd >= 0);
	write_in(&f, "changed", "1");
	write_in(&f, "grown", "1");
	write_in(&f, "kept", "1");
	write_in(&f, "other", "1");
	set_attribute(&f, "kept", "user.note");
	set_attribute(&f, "kept", "trusted.note");
	bxc_tree_index known = {0};
	bxc_tree_walk_opts o = {.hash = true, .want_xattrs = true, .ids = &known.ids};
	assert_ok(bxc_tree_walk(f.fd, &o, NULL, &known.tree, &err), err);
	assert_int_equal(known.ids.n, known.tree->entries.n);
	/* They are so young that one more change could go unseen. */
	BXC_ARR_FOREACH (id, &known.ids)
		assert_int_equal(id->ino, 0);
	/* As if they were old, with digests that only an index has. */
	static const char *const names[] = {"changed", "grown", "kept", "other"};
	const bxc_digest mark = bxc_digest_of_str("known");
	for (size_t i = 0; i < BXC_ARRAY_SIZE(names); i++) {
		known.ids.v[i + 1] = id_of(&f, names[i]);
		known.tree->entries.v[i + 1].digest = mark;
	}
	/* Same size and mtime, another file; another size; another inode under the name. */
	struct stat st;
	assert_int_equal(fstatat(f.fd, "changed", &st, 0), 0);
	write_in(&f, "changed", "2");
	const struct timespec times[2] = {st.st_mtim, st.st_mtim};
	known.ids.v[1].ctime_ns--; /* the write may have come within the same tick of the clock */
	assert_int_equal(utimensat(f.fd, "changed", times, 0), 0);
	write_in(&f, "grown", "12");
	set_attribute(&f, "other", "user.note");
	known.ids.v[4].ino++;
	o = (bxc_tree_walk_opts){.hash = true, .want_xattrs = true, .known = &known};
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = NULL;
	assert_ok(bxc_tree_walk(f.fd, &o, NULL, &t, &err), err);
	static const char *const want[] = {"2", "12", NULL, "1"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(want); i++) {
		bxc_digest d = want[i] ? bxc_digest_of_str(want[i]) : mark;
		assert_true(bxc_digest_eq(&t->entries.v[i + 1].digest, &d));
		/* Attributes are known with the content; what is of the machine stays there. */
		assert_int_equal(t->entries.v[i + 1].xattrs.n, i >= 2);
		if (i >= 2)
			assert_string_equal(t->entries.v[i + 1].xattrs.v[0].name, "user.note");
	}
	bxc_tree_free(known.tree);
	bxc_arr_done(&known.ids);
	close(f.fd);
	free(f.path);
}

static void indexes_survive_their_encoding_or_are_refused(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BUF_MAX), b = BXC_BUF_INIT(BUF_MAX);
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = TREE("/a=1", "/b/", "/b/c=2");
	bxc_digest d = encode(t, &text);
	bxc_tree_file_ids ids = {0};
	for (unsigned i = 0; i < t->entries.n; i++)
		*bxc_arr_push(&ids) = (bxc_tree_file_id){i, i + 10, -(int64_t)i};
	assert_ok(bxc_tree_index_encode(bxc_buf_slice(&text), &d, &ids, &b, &err), err);
	BXC_CLEANUP(bxc_tree_index_freep) bxc_tree_index *x = NULL;
	assert_ok(bxc_tree_index_decode(bxc_buf_slice(&b), &x, &err), err);
	assert_true(bxc_digest_eq(&x->digest, &d));
	assert_int_equal(x->ids.n, 4);
	assert_int_equal(x->ids.v[3].ctime_ns, -3);
	assert_string_equal(x->tree->entries.v[3].path, "/b/c");
	for (size_t i = 0; i < b.len; i++) {
		bxc_tree_index *y = NULL;
		b.data[i] ^= 1;
		assert_err(bxc_tree_index_decode(bxc_buf_slice(&b), &y, &err), BXC_DATA_LOSS, err);
		bxc_err_free(BXC_TAKE(err));
		b.data[i] ^= 1;
		assert_err(bxc_tree_index_decode(bxc_slice_of(b.data, i), &y, &err), BXC_DATA_LOSS,
			err);
		bxc_err_free(BXC_TAKE(err));
	}
	/* Whole, but with the ids of another tree. */
	ids.n--;
	b.len = 0;
	assert_ok(bxc_tree_index_encode(bxc_buf_slice(&text), &d, &ids, &b, &err), err);
	bxc_tree_index *y = NULL;
	assert_err(bxc_tree_index_decode(bxc_buf_slice(&b), &y, &err), BXC_INVALID_ARGUMENT, err);
	bxc_arr_done(&ids);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(changes_make_one_tree_of_another),
		cmocka_unit_test(changes_of_another_tree_are_refused),
		cmocka_unit_test(files_that_are_known_are_not_read_again),
		cmocka_unit_test(indexes_survive_their_encoding_or_are_refused),
	};
	return cmocka_run_group_tests_name("filesync-index", tests, NULL, NULL);
}
