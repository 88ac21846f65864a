/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/base/clock.h"
#include "worker/gc/gc.h"

#define MB (1u << 20)

typedef struct world {
	char *dir;
	bxc_snap *snap;
	bxc_content *content;
	bxc_blob_store *blobs;
	int dir_fd;
} world;

static int set_up(void **state)
{
	world *w = bxc_calloc(1, sizeof(*w));
	BXC_AUTOERR bxc_err *err = NULL;
	w->dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *snap = bxc_str_fmt("%s/snap", w->dir);
	BXC_AUTOFREE char *blobs = bxc_str_fmt("%s/blobs", w->dir);
	assert_int_equal(mkdir(blobs, 0700), 0);
	assert_ok(bxc_snap_open(snap, &w->snap, &err), err);
	const bxc_content_config c = {.dir = blobs};
	assert_ok(bxc_content_open(&c, &w->content, &err), err);
	w->blobs = bxc_content_store(w->content);
	w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	world *w = *state;
	bxc_snap_free(w->snap);
	bxc_content_close(w->content);
	close(w->dir_fd);
	bxc_test_rmtree(w->dir);
	free(w);
	return 0;
}

static bxc_digest put_blob(world *w, uint8_t fill)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE uint8_t *data = bxc_malloc(MB);
	bxc_blob_info info;
	memset(data, fill, MB);
	assert_ok(bxc_blob_put(w->blobs, data, MB, &info, &err), err);
	return info.digest;
}

/* Layers are used in the order in which they are made. */
static void put_layer(world *w, const char *id, uint64_t bytes, const bxc_digest *blob)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_snap_staging *g = NULL;
	bxc_snap_facts facts = {.size_bytes = bytes};
	if (blob) {
		const bxc_descriptor d = {.media_type = (char *)(uintptr_t)BXC_MT_OCI_LAYER_ZSTD,
			.digest = *blob,
			.size = MB};
		facts.diff_id = bxc_digest_of_str(id);
		bxc_content_form_add(w->content, &facts.diff_id, BXC_COMPRESSION_ZSTD, 0, &d);
	}
	assert_ok(bxc_snap_begin(w->snap, id, &g, &err), err);
	assert_ok(bxc_snap_commit(g, &facts, &err), err);
}

static void run(world *w, const bxc_gc_limits *l, bxc_gc_result *ret)
{
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_gc_result_done(ret);
	int64_t now = bxc_clock_wall_ns() + BXC_NS_PER_S;
	assert_ok(bxc_gc_run(w->snap, w->content, w->dir_fd, l, now, ret, &err), err);
}

static void limits_give_a_target(void **state)
{
	(void)state;
	const bxc_gc_limits none = {0}, max = {.max_used = 100}, least = {.min_free = 50},
			    all = {.max_used = 100, .min_free = 50, .reserved = 80};
	assert_false(bxc_gc_is_limited(&none));
	assert_true(bxc_gc_is_limited(&max) && bxc_gc_is_limited(&least));
	assert_int_equal(bxc_gc_target(&none, 1000, 0), UINT64_MAX);
	assert_int_equal(bxc_gc_target(&max, 1000, 0), 100);
	assert_int_equal(bxc_gc_target(&least, 1000, 60), UINT64_MAX);
	assert_int_equal(bxc_gc_target(&least, 1000, 20), 970);
	assert_int_equal(bxc_gc_target(&least, 10, 20), 0);
	assert_int_equal(bxc_gc_target(&all, 1000, 60), 100);
	assert_int_equal(bxc_gc_target(&all, 90, 0), 80);
	assert_int_equal(bxc_gc_target(&all, 140, 0), 90);
}

static void what_was_not_used_for_longest_goes_first(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_gc_result_done) bxc_gc_result res = {0};
	bxc_digest loose = put_blob(w, 1), own = put_blob(w, 2);
	put_layer(w, "l-a", 2 * MB, &own);
	put_layer(w, "l-b", 2 * MB, NULL);
	put_layer(w, "l-c", 2 * MB, NULL);
	/* Used anew. */
	const char *a = "l-a";
	assert_ok(bxc_snap_pin(w->snap, &a, 1, &err), err);
	bxc_snap_unpin(w->snap, &a, 1);
	const bxc_gc_limits enough = {.max_used = 8 * MB}, five = {.max_used = 5 * MB},
			    one = {.max_used = 1};
	run(w, &enough, &res);
	assert_true(!res.layers && res.used_bytes == 8 * MB && res.freed_bytes == 0);
	run(w, &five, &res);
	assert_string_equal(res.layers[0], "l-b");
	assert_null(res.layers[1]);
	assert_true(res.used_bytes == 5 * MB && res.freed_bytes == 3 * MB);
	assert_false(bxc_blob_has(w->blobs, &loose));
	assert_true(bxc_snap_has(w->snap, "l-a") && bxc_snap_has(w->snap, "l-c"));
	/* A layer takes its blobs along. */
	assert_true(bxc_blob_has(w->blobs, &own));
	run(w, &one, &res);
	assert_int_equal(bxc_strv_len(res.layers), 2);
	assert_false(bxc_blob_has(w->blobs, &own) || bxc_snap_has(w->snap, "l-a"));
	bxc_content_made_list made = {0};
	assert_ok(bxc_content_forms(w->content, &made, &err), err);
	assert_int_equal(made.n, 0);
	bxc_arr_done(&made);
	assert_int_equal(res.used_bytes, 0);
}

static void what_is_in_use_or_young_stays(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_gc_result_done) bxc_gc_result res = {0};
	put_layer(w, "l-a", MB, NULL);
	put_layer(w, "l-b", MB, NULL);
	const char *a = "l-a";
	const bxc_gc_limits young = {.max_used = 1, .keep_ns = 3600 * BXC_NS_PER_S},
			    nothing = {.max_used = 1},
			    reserve = {.min_free = UINT64_MAX, .reserved = 2 * MB};
	run(w, &young, &res);
	assert_null(res.layers);
	run(w, &reserve, &res);
	assert_null(res.layers);
	assert_ok(bxc_snap_pin(w->snap, &a, 1, &err), err);
	run(w, &nothing, &res);
	assert_string_equal(res.layers[0], "l-b");
	assert_true(bxc_snap_has(w->snap, "l-a") && res.used_bytes == MB);
	bxc_snap_unpin(w->snap, &a, 1);
	run(w, &nothing, &res);
	assert_string_equal(res.layers[0], "l-a");
}

static char *ids_of(const bxc_gc_uses *u)
{
	BXC_AUTOSTRV char **ids = NULL;
	BXC_ARR_FOREACH (i, u)
		bxc_strv_pushf(&ids, "%s %s%s %u", bxc_gc_kind_name(i->kind),
			i->kind == BXC_GC_LAYER ? i->id : "-", i->in_use ? " (in use)" : "",
			(unsigned)(i->bytes / MB));
	return bxc_strv_join(ids, ", ");
}

static char *pruned(world *w, const bxc_gc_wish *wish)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_gc_uses_done) bxc_gc_uses gone = {0};
	assert_ok(bxc_gc_prune(w->snap, w->content, NULL, w->dir_fd, wish, bxc_clock_wall_ns() + BXC_NS_PER_S, &gone, &err), err);
	return ids_of(&gone);
}

static void what_somebody_wants_gone_goes(void **state)
{
	world *w = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	put_blob(w, 1);
	bxc_digest own = put_blob(w, 2);
	put_layer(w, "l-a", 2 * MB, &own);
	put_layer(w, "l-b", MB, NULL);
	put_layer(w, "l-c", MB, NULL);
	put_layer(w, "k-d", MB, NULL);
	const char *b = "l-b";
	assert_ok(bxc_snap_pin(w->snap, &b, 1, &err), err);
	BXC_CLEANUP(bxc_gc_uses_done) bxc_gc_uses all = {0};
	assert_ok(bxc_gc_usage(w->snap, w->content, NULL, &all, &err), err);
	BXC_AUTOFREE char *listed = ids_of(&all);
	assert_string_equal(listed, "blob - 1, layer l-a 3, layer l-c 1, layer k-d 1, layer l-b (in use) 1");
	static char c[] = "l-c", prefix[] = "l-", *keep[] = {c, NULL}, *ids[] = {prefix, NULL};
	const struct {
		bxc_gc_wish wish;
		const char *gone;
	} cases[] = {
		{{.unused_ns = 3600 * BXC_NS_PER_S}, ""},
		{{.kinds = 1u << BXC_GC_CACHE}, ""},
		{{.space = {.max_used = 100 * MB}}, ""},
		{{.space = {.reserved = 100 * MB}}, ""},
		{{.kinds = 1u << BXC_GC_BLOB}, "blob - 1"},
		{{.ids = ids, .keep = keep}, "layer l-a 3"},
		{{.space = {.max_used = 2 * MB}}, "layer l-c 1"},
		{{0}, "layer k-d 1"},
		{{0}, ""},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cases); i++) {
		BXC_AUTOFREE char *gone = pruned(w, &cases[i].wish);
		assert_string_equal(gone, cases[i].gone);
	}
	bxc_snap_unpin(w->snap, &b, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_give_a_target),
		T(what_was_not_used_for_longest_goes_first),
		T(what_is_in_use_or_young_stays),
		T(what_somebody_wants_gone_goes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
