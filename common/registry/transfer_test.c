/* SPDX-License-Identifier: Apache-2.0 */
#include "common/registry/registry_test_fixture.h"

/* ---- blobs ---- */

static void a_blob_is_streamed_and_verified(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	COLLECTED(c);
	assert_ok(get_blob(f->reg, &ref, &f->blob_d, &c, &err), err);
	assert_int_equal(c.bytes.len, BLOB);
	assert_memory_equal(c.bytes.data, f->blob, BLOB);
	assert_int_equal(c.last_done, BLOB);
	assert_int_equal(c.last_total, BLOB);
	COLLECTED(failing);
	failing.fails = true;
	assert_err_text(get_blob(f->reg, &ref, &f->blob_d, &failing, &err), BXC_RESOURCE_EXHAUSTED,
		err, "disk full");
	/* An empty one. */
	bxc_descriptor empty = {.digest = bxc_digest_of("", 0)};
	fake_registry_put_blob(f->fake, "team/app", &empty.digest, bxc_slice_of("", 0));
	COLLECTED(none);
	assert_ok(get_blob(f->reg, &ref, &empty, &none, &err), err);
	assert_int_equal(none.bytes.len, 0);
}

static void wrong_blobs_are_refused(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	bxc_descriptor d = {.digest = bxc_digest_of_str("right"), .size = 5};
	fake_registry_put_blob(f->fake, "team/app", &d.digest, slice("wrong"));
	COLLECTED(a);
	assert_err(get_blob(f->reg, &ref, &d, &a, &err), BXC_DATA_LOSS, err);
	/* The size counts too, before the bytes do. */
	d.size = 4;
	COLLECTED(b);
	assert_err_text(
		get_blob(f->reg, &ref, &d, &b, &err), BXC_DATA_LOSS, err, "5 bytes instead of 4");
	assert_int_equal(b.bytes.len, 0);
	d.size = 6;
	COLLECTED(c);
	assert_err(get_blob(f->reg, &ref, &d, &c, &err), BXC_DATA_LOSS, err);
}

static void blobs_go_into_a_store_once(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *store = bxc_blob_mem_new();
	assert_int_equal(bxc_reg_fetch(f->reg, &ref, &f->blob_d, NULL, store, NULL, NULL, &err), 0);
	assert_true(bxc_blob_has(store, &f->blob_d.digest));
	assert_int_equal(bxc_reg_fetch(f->reg, &ref, &f->blob_d, NULL, store, NULL, NULL, &err), 1);
	assert_int_equal(f->fake->n_get_blob, 1);
	bxc_descriptor d = {.digest = bxc_digest_of_str("right"), .size = 5};
	fake_registry_put_blob(f->fake, "team/app", &d.digest, slice("wrong"));
	assert_err(
		bxc_reg_fetch(f->reg, &ref, &d, NULL, store, NULL, NULL, &err), BXC_DATA_LOSS, err);
	assert_false(bxc_blob_has(store, &d.digest));
}

struct flaky {
	bxc_rawserver server;
	const uint8_t *bytes;
	size_t n, piece; /* sends at most a piece a time */
	bool has_ranges;
	unsigned n_served;
	char ranges[512];
};

static void serve_piece(int fd, const char *header, unsigned n_th, void *ud)
{
	struct flaky *s = ud;
	(void)n_th;
	if (!strstr(header, "/blobs/")) {
		bxc_rawserver_says(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
		return;
	}
	size_t first = 0;
	const char *range = strstr(header, "Range: bytes=");
	s->n_served++;
	if (range) {
		BXC_AUTOFREE char *digits = bxc_strndup(range + 13, strcspn(range + 13, "-"));
		uint64_t v = 0;
		bxc_check(bxc_str_to_u64(digits, 0, s->n, &v, NULL) >= 0);
		size_t used = strlen(s->ranges);
		snprintf(s->ranges + used, sizeof(s->ranges) - used, "%s ", digits);
		first = s->has_ranges ? (size_t)v : 0;
	}
	BXC_AUTOFREE char *head =
		range && s->has_ranges
			? bxc_str_fmt("HTTP/1.1 206 Partial Content\r\nContent-Length: "
				      "%zu\r\nContent-Range: bytes %zu-%zu/%zu\r\n\r\n",
				  s->n - first, first, s->n - 1, s->n)
			: bxc_str_fmt("HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", s->n);
	bxc_rawserver_says(fd, head);
	/* Without ranges each answer gets further, or it would never end. */
	size_t want = s->has_ranges ? s->piece : s->piece * s->n_served;
	bxc_rawserver_say(fd, s->bytes + first, BXC_MIN(want, s->n - first));
}

static void a_cut_blob_is_resumed_where_it_ended(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct flaky s = {.bytes = f->blob, .n = 250000, .piece = 100000, .has_ranges = true};
	bxc_rawserver_start(&s.server, serve_piece, &s);
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", s.server.port);
	REF(ref, host, "team/app:v1");
	bxc_descriptor d = {.digest = bxc_digest_of(f->blob, 250000), .size = 250000};
	COLLECTED(c);
	assert_ok(get_blob(f->reg, &ref, &d, &c, &err), err);
	assert_memory_equal(c.bytes.data, f->blob, 250000);
	assert_string_equal(s.ranges, "100000 200000 ");
	bxc_rawserver_stop(&s.server);
}

static void a_cut_blob_is_resumed_without_ranges(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct flaky s = {.bytes = f->blob, .n = 250000, .piece = 100000};
	bxc_rawserver_start(&s.server, serve_piece, &s);
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", s.server.port);
	REF(ref, host, "team/app:v1");
	bxc_descriptor d = {.digest = bxc_digest_of(f->blob, 250000), .size = 250000};
	COLLECTED(c);
	assert_ok(get_blob(f->reg, &ref, &d, &c, &err), err);
	assert_int_equal(c.bytes.len, 250000);
	assert_memory_equal(c.bytes.data, f->blob, 250000);
	bxc_rawserver_stop(&s.server);
}

static void a_blob_that_is_cut_again_and_again_fails(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct flaky s = {.bytes = f->blob, .n = 250000, .piece = 1000, .has_ranges = true};
	bxc_rawserver_start(&s.server, serve_piece, &s);
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", s.server.port);
	REF(ref, host, "team/app:v1");
	bxc_descriptor d = {.digest = bxc_digest_of(f->blob, 250000), .size = 250000};
	COLLECTED(c);
	assert_err(get_blob(f->reg, &ref, &d, &c, &err), BXC_UNAVAILABLE, err);
	assert_int_equal(s.n_served, 3);
	bxc_rawserver_stop(&s.server);
}

/* ---- mirrors ---- */

static bxc_reg *with_mirror(struct fixture *f, const char *domain, const char *mirror)
{
	char *mirrors[] = {(char *)(uintptr_t)mirror, NULL};
	const bxc_reg_host hosts[] = {{.domain = domain, .mirrors = mirrors}};
	return bxc_reg_new(f->http, &(bxc_reg_config){.hosts = hosts, .n_hosts = 1});
}

static void mirrors_are_asked_first(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, f->fake->host, f->mirror->host);
	/* Not in the mirror: the registry itself has it. */
	assert_ok(resolve(r, &ref, &err), err);
	assert_int_equal(f->mirror->n_requests, 1);
	assert_int_equal(f->fake->n_requests, 1);
	fake_registry_put_manifest(
		f->mirror, "team/app", "v1", BXC_MT_OCI_MANIFEST, slice(manifest_text));
	assert_ok(resolve(r, &ref, &err), err);
	assert_int_equal(f->fake->n_requests, 1);
	/* A mirror that is busy is not waited for. */
	f->mirror->busy = 1;
	f->mirror->retry_after = "30";
	assert_ok(resolve(r, &ref, &err), err);
	assert_int_equal(f->fake->n_requests, 2);
}

static void a_mirror_that_is_down_is_passed_over(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_AUTOFREE char *dead = bxc_str_fmt("http://127.0.0.1:%u", bxc_rawserver_closed_port());
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, f->fake->host, dead);
	assert_ok(resolve(r, &ref, &err), err);
}

static void not_found_of_a_mirror_counts_when_the_origin_is_down(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *dead = bxc_str_fmt("127.0.0.1:%u", bxc_rawserver_closed_port());
	REF(ref, dead, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, dead, f->mirror->host);
	assert_err_text(resolve(r, &ref, &err), BXC_NOT_FOUND, err, ": not found");
	COLLECTED(c);
	assert_err(get_blob(r, &ref, &f->blob_d, &c, &err), BXC_NOT_FOUND, err);
}

static void bad_bytes_of_a_mirror_are_replaced(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(ref, f->fake->host, "team/app:v1");
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, f->fake->host, f->mirror->host);
	BXC_CLEANUP(bxc_blob_store_freep) bxc_blob_store *store = bxc_blob_mem_new();
	BXC_AUTOFREE uint8_t *bad = bxc_memdup(f->blob, BLOB);
	bad[BLOB - 1] ^= 1;
	fake_registry_put_blob(f->mirror, "team/app", &f->blob_d.digest, bxc_slice_of(bad, BLOB));
	assert_int_equal(bxc_reg_fetch(r, &ref, &f->blob_d, NULL, store, NULL, NULL, &err), 0);
	assert_true(bxc_blob_has(store, &f->blob_d.digest));
	/* A sink has had them already. */
	COLLECTED(c);
	assert_err(get_blob(r, &ref, &f->blob_d, &c, &err), BXC_DATA_LOSS, err);
	/* Manifests are whole before they are passed on. */
	char text[BXC_DIGEST_STR_MAX];
	fake_registry_put_manifest(f->mirror, "team/app",
		bxc_digest_str(&f->manifest_d.digest, text), BXC_MT_OCI_MANIFEST, slice("{}"));
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	assert_ok(bxc_reg_manifest(r, &ref, &f->manifest_d, NULL, &bytes, &err), err);
	assert_string_equal(bxc_buf_text(&bytes), manifest_text);
}

static void a_blob_cut_by_a_mirror_goes_on_at_the_origin(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	struct flaky s = {.bytes = f->blob, .n = BLOB, .piece = 1000, .has_ranges = true};
	bxc_rawserver_start(&s.server, serve_piece, &s);
	BXC_AUTOFREE char *mirror = bxc_str_fmt("127.0.0.1:%u", s.server.port);
	BXC_CLEANUP(bxc_reg_freep) bxc_reg *r = with_mirror(f, f->fake->host, mirror);
	REF(ref, f->fake->host, "team/app:v1");
	COLLECTED(c);
	assert_ok(get_blob(r, &ref, &f->blob_d, &c, &err), err);
	assert_memory_equal(c.bytes.data, f->blob, BLOB);
	bxc_rawserver_stop(&s.server);
}

/* ---- push ---- */

static void a_blob_is_pushed_once(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(repo, f->fake->host, "team/new:v1");
	BXC_AUTOCLOSE int fd = -1;
	struct collected c = {0};
	bool there = true;
	assert_ok(bxc_fd_memfd("blob", f->blob, BLOB, true, &fd, &err), err);
	f->fake->needs_token = true;
	assert_ok(bxc_reg_has_blob(f->reg, &repo, &f->blob_d, NULL, &there, &err), err);
	assert_false(there);
	assert_ok(bxc_reg_push_blob(f->reg, &repo, &f->blob_d, fd, NULL, note_progress, &c, &err),
		err);
	assert_string_equal(f->fake->last_scope, "repository:team/new:pull,push");
	assert_int_equal(c.last_done, BLOB);
	const bxc_buf *stored = fake_registry_blob(f->fake, "team/new", &f->blob_d.digest);
	assert_non_null(stored);
	assert_int_equal(stored->len, BLOB);
	assert_memory_equal(stored->data, f->blob, BLOB);
	assert_ok(bxc_reg_push_blob(f->reg, &repo, &f->blob_d, fd, NULL, NULL, NULL, &err), err);
	assert_int_equal(f->fake->n_uploads, 1);
	assert_int_equal(f->fake->n_tokens, 1);
}

static void uploads_follow_absolute_addresses_and_start_over(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(repo, f->fake->host, "team/new:v1");
	bxc_descriptor d = {.digest = bxc_digest_of_str("small"), .size = 5};
	f->fake->absolute_location = true;
	f->fake->needs_token = true;
	f->fake->break_put = 1;
	assert_ok(bxc_reg_push_bytes(f->reg, &repo, &d, slice("small"), NULL, &err), err);
	assert_int_equal(f->fake->n_uploads, 2);
	assert_non_null(fake_registry_blob(f->fake, "team/new", &d.digest));
	assert_err(bxc_reg_push_bytes(f->reg, &repo, &d, slice("other"), NULL, &err), BXC_DATA_LOSS,
		err);
}

static void a_file_that_is_not_what_it_was_is_refused_by_the_registry(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(repo, f->fake->host, "team/new:v1");
	BXC_AUTOCLOSE int fd = -1;
	bxc_descriptor d = {.digest = bxc_digest_of_str("small"), .size = 5};
	assert_ok(bxc_fd_memfd("blob", "other", 5, true, &fd, &err), err);
	assert_err_text(bxc_reg_push_blob(f->reg, &repo, &d, fd, NULL, NULL, NULL, &err),
		BXC_INVALID_ARGUMENT, err, "DIGEST_INVALID");
}

static void blobs_are_mounted_when_the_registry_agrees(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	REF(repo, f->fake->host, "team/new:v1");
	bool mounted = false;
	assert_ok(bxc_reg_mount_blob(f->reg, &repo, "team/app", &f->blob_d, NULL, &mounted, &err),
		err);
	assert_true(mounted);
	assert_non_null(fake_registry_blob(f->fake, "team/new", &f->blob_d.digest));
	REF(third, f->fake->host, "team/third:v1");
	f->fake->declines_mounts = true;
	assert_ok(bxc_reg_mount_blob(f->reg, &third, "team/app", &f->blob_d, NULL, &mounted, &err),
		err);
	assert_false(mounted);
	assert_int_equal(f->fake->n_delete, 1);
	f->fake->needs_token = true;
	f->fake->token_denies = true;
	mounted = true;
	assert_ok(bxc_reg_mount_blob(f->reg, &third, "team/app", &f->blob_d, NULL, &mounted, &err),
		err);
	assert_false(mounted);
}

static void manifests_are_pushed_by_tag_or_digest(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	char digest[BXC_DIGEST_STR_MAX];
	bxc_digest_str(&f->manifest_d.digest, digest);
	REF(tag, f->fake->host, "team/new:v1");
	assert_ok(bxc_reg_push_manifest(
			  f->reg, &tag, BXC_MT_OCI_MANIFEST, slice(manifest_text), NULL, &err),
		err);
	assert_non_null(fake_registry_manifest(f->fake, "team/new", "v1"));
	assert_ok(resolve(f->reg, &tag, &err), err);
	BXC_AUTOFREE char *rest = bxc_str_fmt("team/new@%s", digest);
	REF(by_digest, f->fake->host, rest);
	assert_ok(bxc_reg_push_manifest(f->reg, &by_digest, BXC_MT_OCI_MANIFEST,
			  slice(manifest_text), NULL, &err),
		err);
	assert_non_null(fake_registry_manifest(f->fake, "team/new", digest));
	assert_err(bxc_reg_push_manifest(
			   f->reg, &by_digest, BXC_MT_OCI_MANIFEST, slice(index_text), NULL, &err),
		BXC_INVALID_ARGUMENT, err);
}

/* ---- the packaged registry ---- */

static void the_real_registry_takes_and_gives(void **state)
{
	struct fixture *f = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();
	BXC_AUTOFREE char *config = bxc_str_fmt("%s/config.yml", dir);
	BXC_AUTOFREE char *log = bxc_str_fmt("%s/log", dir);
	uint16_t port = bxc_rawserver_closed_port();
	BXC_AUTOFREE char *text = bxc_str_fmt(
		"version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: "
		"{filesystem: {rootdirectory: %s/data}}\nhttp: {addr: 127.0.0.1:%u}\n",
		dir, port);
	bxc_test_write_file(config, text, strlen(text), 0600);
	BXC_AUTOCLOSE int log_fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	char *argv[] = {(char[]){"docker-registry"}, (char[]){"serve"}, config, NULL};
	const bxc_proc_fd fds[] = {{log_fd, 1}, {log_fd, 2}};
	BXC_CLEANUP(bxc_proc_freep) bxc_proc *p = NULL;
	assert_ok(
		bxc_proc_spawn(
			&(bxc_proc_spec){.argv = argv, .fds = fds, .n_fds = 2, .new_session = true},
			&p, &err),
		err);
	/* It listens when it answers. */
	BXC_AUTOFREE char *ping = bxc_str_fmt("http://127.0.0.1:%u/v2/", port);
	int64_t until = bxc_clock_mono_ns() + 60 * BXC_NS_PER_S;
	for (int k = -1; k < 0;) {
		bxc_http_response *r = NULL;
		bxc_proc_status status;
		k = bxc_http_start(
			f->http, &(bxc_http_request){.method = "GET", .url = ping}, NULL, &r, NULL);
		bxc_http_response_free(r);
		if (k < 0 && (bxc_proc_wait_for(p, 20, &status, NULL) != 0 ||
				     bxc_clock_mono_ns() > until))
			fail_msg("docker-registry does not start: %s",
				bxc_test_read_file(log, NULL));
	}
	BXC_AUTOFREE char *host = bxc_str_fmt("127.0.0.1:%u", port);
	REF(ref, host, "deep/team/app:v1");
	REF(other, host, "other:v2");
	BXC_AUTOCLOSE int fd = -1;
	struct collected c = {0};
	bool mounted = false, there = false;
	assert_ok(bxc_fd_memfd("blob", f->blob, BLOB, true, &fd, &err), err);
	assert_err(resolve(f->reg, &ref, &err), BXC_NOT_FOUND, err);
	assert_ok(bxc_reg_push_blob(f->reg, &ref, &f->blob_d, fd, NULL, note_progress, &c, &err),
		err);
	assert_ok(bxc_reg_mount_blob(
			  f->reg, &other, "deep/team/app", &f->blob_d, NULL, &mounted, &err),
		err);
	assert_true(mounted);
	assert_ok(bxc_reg_has_blob(f->reg, &other, &f->blob_d, NULL, &there, &err), err);
	assert_true(there);
	const bxc_descriptor conf = {.digest = bxc_digest_of_str("{}"), .size = 2};
	assert_ok(bxc_reg_push_bytes(f->reg, &ref, &conf, slice("{}"), NULL, &err), err);
	char a[BXC_DIGEST_STR_MAX], b[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *manifest =
		bxc_str_fmt("{\"schemaVersion\":2,\"mediaType\":\"%s\",\"config\":{\"mediaType\":"
			    "\"%s\",\"digest\":\"%s\",\"size\":2},"
			    "\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}]}",
			BXC_MT_OCI_MANIFEST, BXC_MT_OCI_CONFIG, bxc_digest_str(&conf.digest, a),
			BXC_MT_OCI_LAYER, bxc_digest_str(&f->blob_d.digest, b), BLOB);
	assert_ok(bxc_reg_push_manifest(
			  f->reg, &ref, BXC_MT_OCI_MANIFEST, slice(manifest), NULL, &err),
		err);
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor d = {0};
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor h = {0};
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	assert_ok(bxc_reg_head(f->reg, &ref, NULL, &h, &err), err);
	assert_ok(bxc_reg_resolve(f->reg, &ref, NULL, &d, &bytes, &err), err);
	assert_string_equal(bxc_buf_text(&bytes), manifest);
	assert_true(bxc_digest_eq(&h.digest, &d.digest));
	COLLECTED(got);
	assert_ok(get_blob(f->reg, &ref, &f->blob_d, &got, &err), err);
	assert_memory_equal(got.bytes.data, f->blob, BLOB);
	assert_ok(bxc_proc_kill(p, SIGTERM, &err), err);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_blob_is_streamed_and_verified),
		T(wrong_blobs_are_refused),
		T(blobs_go_into_a_store_once),
		T(a_cut_blob_is_resumed_where_it_ended),
		T(a_cut_blob_is_resumed_without_ranges),
		T(a_blob_that_is_cut_again_and_again_fails),
		T(mirrors_are_asked_first),
		T(a_mirror_that_is_down_is_passed_over),
		T(not_found_of_a_mirror_counts_when_the_origin_is_down),
		T(bad_bytes_of_a_mirror_are_replaced),
		T(a_blob_cut_by_a_mirror_goes_on_at_the_origin),
		T(a_blob_is_pushed_once),
		T(uploads_follow_absolute_addresses_and_start_over),
		T(a_file_that_is_not_what_it_was_is_refused_by_the_registry),
		T(blobs_are_mounted_when_the_registry_agrees),
		T(manifests_are_pushed_by_tag_or_digest),
		T(the_real_registry_takes_and_gives),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
