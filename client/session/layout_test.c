/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "client/session/session_internal.h"
#include "common/oci/oci.h"

/* A tar of entries, each a path and a text. */
struct archive {
	bxc_buf bytes;
	bxc_tar_writer *w;
};

static int to_buf(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_buf_append(ud, p, n, err);
}

static void archive_new(struct archive *a)
{
	bxc_buf_init(&a->bytes, 1u << 20);
	assert_int_equal(bxc_tar_writer_new(0, to_buf, &a->bytes, &a->w, NULL), 0);
}

static void archive_add(struct archive *a, const char *path, const char *text)
{
	const bxc_tar_entry e = {
		.kind = BXC_TAR_FILE, .path = path, .mode = 0644, .size = strlen(text)};
	assert_int_equal(bxc_tar_writer_entry(a->w, &e, NULL), 0);
	assert_int_equal(bxc_tar_writer_data(a->w, text, strlen(text), NULL), 0);
}

static void add_blob(struct archive *a, const char *text)
{
	char s[BXC_DIGEST_STR_MAX];
	bxc_digest d = bxc_digest_of_str(text);
	BXC_AUTOFREE char *path =
		bxc_str_fmt("blobs/sha256/%s", bxc_digest_str(&d, s) + strlen("sha256:"));
	archive_add(a, path, text);
}

static void set(bxc_descriptor *d, const char *type, const char *text)
{
	*d = (bxc_descriptor){.media_type = bxc_strdup(type),
		.digest = bxc_digest_of_str(text),
		.size = strlen(text)};
}

/* A cache of one layer. */
static void add_cache(struct archive *a, const char *layer, bxc_digest *ret)
{
	bxc_oci_manifest m = {.media_type = bxc_strdup(BXC_MT_OCI_MANIFEST)};
	bxc_descriptor d;
	set(&m.config, "application/vnd.buildkit.cacheconfig.v0", "{}");
	set(bxc_arr_push(&m.layers), BXC_MT_OCI_LAYER, layer);
	BXC_AUTOFREE char *text = bxc_oci_manifest_print(&m);
	set(&d, BXC_MT_OCI_MANIFEST, text);
	bxc_oci_index index = {.media_type = bxc_strdup(BXC_MT_OCI_INDEX)};
	bxc_descriptor_copy(bxc_arr_push(&index.manifests), &d);
	BXC_AUTOFREE char *desc = bxc_oci_index_print(&index);
	bxc_oci_index_done(&index);
	add_blob(a, layer);
	add_blob(a, "{}");
	add_blob(a, text);
	archive_add(a, "index.json", desc);
	*ret = d.digest;
	bxc_descriptor_done(&d);
	bxc_oci_manifest_done(&m);
}

static int write_to(struct archive *a, const bxc_csess_cache *c, bxc_err **err)
{
	assert_int_equal(bxc_tar_writer_finish(a->w, NULL), 0);
	bxc_slice left = bxc_buf_slice(&a->bytes);
	int r = layout_write(c->dir, c->tag, c->reset, bxc_tar_slice_source, &left, err);
	bxc_tar_writer_free(a->w);
	bxc_buf_done(&a->bytes);
	return r;
}

static bool has(const char *dir, const char *text)
{
	char s[BXC_DIGEST_STR_MAX];
	struct stat st;
	bxc_digest d = bxc_digest_of_str(text);
	BXC_AUTOFREE char *path =
		bxc_str_fmt("%s/blobs/sha256/%s", dir, bxc_digest_str(&d, s) + strlen("sha256:"));
	return stat(path, &st) == 0;
}

static void assert_tag(const char *dir, const char *tag, const bxc_digest *want)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_digest d;
	assert_ok(bxc_csess_cache_find(dir, tag, &d, &err), err);
	assert_true(bxc_digest_eq(&d, want));
}

static void tags_share_a_folder_and_reset_drops_what_none_needs(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *tmp = bxc_test_tmpdir();
	BXC_AUTOFREE char *dir = bxc_str_fmt("%s/deep/cache", tmp);
	BXC_AUTOERR bxc_err *err = NULL;
	const bxc_csess_cache latest = {.dir = dir, .tag = "latest"},
			      other = {.dir = dir, .tag = "other"};
	const bxc_csess_cache reset = {.dir = dir, .tag = "latest", .reset = true};
	bxc_digest one, two, three, none;
	struct archive a;
	assert_err(bxc_csess_cache_find(dir, "latest", &none, &err), BXC_NOT_FOUND, err);
	archive_new(&a);
	add_cache(&a, "one", &one);
	assert_ok(write_to(&a, &latest, &err), err);
	assert_tag(dir, "latest", &one);
	archive_new(&a);
	add_cache(&a, "two", &two);
	assert_ok(write_to(&a, &other, &err), err);
	assert_tag(dir, "latest", &one);
	assert_tag(dir, "other", &two);
	assert_err(bxc_csess_cache_find(dir, "none", &none, &err), BXC_NOT_FOUND, err);
	/* Without reset an older cache's blobs stay. */
	archive_new(&a);
	add_cache(&a, "three", &three);
	assert_ok(write_to(&a, &latest, &err), err);
	assert_tag(dir, "latest", &three);
	assert_true(has(dir, "one"));
	archive_new(&a);
	add_cache(&a, "three", &three);
	assert_ok(write_to(&a, &reset, &err), err);
	assert_tag(dir, "latest", &three);
	assert_tag(dir, "other", &two);
	assert_true(has(dir, "three") && has(dir, "two") && has(dir, "{}"));
	assert_false(has(dir, "one"));
}

static void what_is_no_cache_leaves_the_folder_as_it_was(void **state)
{
	(void)state;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOERR bxc_err *err = NULL;
	const bxc_csess_cache c = {.dir = dir, .tag = "latest"};
	bxc_digest d, none;
	struct archive a;
	archive_new(&a);
	archive_add(&a,
		"blobs/sha256/1111111111111111111111111111111111111111111111111111111111111111",
		"other bytes");
	add_cache(&a, "layer", &d);
	assert_err(write_to(&a, &c, &err), BXC_DATA_LOSS, err);
	static const char *const paths[] = {
		"x", "index.json", "blobs/sha256/index.json", "blobs/sha256/11"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(paths); i++) {
		archive_new(&a);
		archive_add(&a, paths[i], "x");
		add_cache(&a, "layer", &d);
		assert_err(write_to(&a, &c, &err), BXC_INVALID_ARGUMENT, err);
	}
	archive_new(&a);
	add_blob(&a, "layer");
	assert_err(write_to(&a, &c, &err), BXC_DATA_LOSS, err);
	assert_err(bxc_csess_cache_find(dir, "latest", &none, &err), BXC_NOT_FOUND, err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tags_share_a_folder_and_reset_drops_what_none_needs),
		cmocka_unit_test(what_is_no_cache_leaves_the_folder_as_it_was),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
