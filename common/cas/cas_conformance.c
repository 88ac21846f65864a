/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include <pthread.h>

#include "common/cas/cas_conformance.h"

#define AUTO_STORE BXC_CLEANUP(bxc_blob_store_freep)

#define BEGIN(state)                                                                               \
	const blob_backend *backend = *(state);                                                    \
	BXC_AUTOTMPDIR char *dir = bxc_test_tmpdir();                                              \
	BXC_AUTOERR bxc_err *err = NULL;                                                           \
	AUTO_STORE bxc_blob_store *s = backend->open(dir)

static void what_is_put_is_read(void **state)
{
	BEGIN(state);
	bxc_blob_info info = {0}, again = {0};
	assert_int_equal(bxc_blob_put(s, "hello", 5, &info, &err), 0);
	bxc_digest want = bxc_digest_of("hello", 5);
	assert_true(bxc_digest_eq(&info.digest, &want));
	assert_int_equal(info.size, 5);
	assert_true(bxc_blob_has(s, &want));
	assert_ok(bxc_blob_stat(s, &want, &again, &err), err);
	assert_int_equal(again.size, 5);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(100);
	assert_ok(bxc_blob_read(s, &want, &b, &err), err);
	assert_string_equal(bxc_buf_text(&b), "hello");
	/* Content, not appended to what was there. */
	assert_ok(bxc_blob_read(s, &want, &b, &err), err);
	assert_string_equal(bxc_buf_text(&b), "hello");
	BXC_AUTOBUF bxc_buf small = BXC_BUF_INIT(4);
	assert_err(bxc_blob_read(s, &want, &small, &err), BXC_RESOURCE_EXHAUSTED, err);
}

static void an_empty_blob_is_a_blob(void **state)
{
	BEGIN(state);
	bxc_blob_info info = {0};
	assert_int_equal(bxc_blob_put(s, NULL, 0, &info, &err), 0);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(100);
	assert_ok(bxc_blob_read(s, &info.digest, &b, &err), err);
	assert_int_equal(b.len, 0);
}

static void an_absent_blob_is_not_found(void **state)
{
	BEGIN(state);
	bxc_digest d = bxc_digest_of("x", 1), none = {0};
	bxc_blob_info info;
	uint64_t size;
	int fd = -1;
	assert_false(bxc_blob_has(s, &d));
	assert_err(bxc_blob_stat(s, &d, &info, &err), BXC_NOT_FOUND, err);
	assert_err(bxc_blob_open(s, &d, &fd, &size, &err), BXC_NOT_FOUND, err);
	assert_err(bxc_blob_freshen(s, &d, &err), BXC_NOT_FOUND, err);
	assert_err(bxc_blob_quarantine(s, &d, &err), BXC_NOT_FOUND, err);
	assert_ok(bxc_blob_remove(s, &d, &err), err);
	assert_err(bxc_blob_stat(s, &none, &info, &err), BXC_INVALID_ARGUMENT, err);
}

static void a_writer_verifies_what_is_expected(void **state)
{
	BEGIN(state);
	bxc_digest hello = bxc_digest_of("hello", 5), other = bxc_digest_of("other", 5);
	bxc_blob_info info = {0};
	bxc_blob_writer *w = NULL;
	assert_ok(bxc_blob_begin(s, &w, &err), err);
	assert_ok(bxc_blob_append(w, "hel", 3, &err), err);
	assert_ok(bxc_blob_append(w, "lo", 2, &err), err);
	assert_err(bxc_blob_commit(w, &other, &info, &err), BXC_DATA_LOSS, err);
	assert_false(bxc_blob_has(s, &hello));
	assert_false(bxc_blob_has(s, &other));
	assert_ok(bxc_blob_begin(s, &w, &err), err);
	assert_ok(bxc_blob_append(w, "hello", 5, &err), err);
	assert_int_equal(bxc_blob_commit(w, &hello, &info, &err), 0);
	assert_true(bxc_blob_has(s, &hello));
}

static void nothing_is_visible_before_commit(void **state)
{
	BEGIN(state);
	bxc_digest d = bxc_digest_of("hello", 5);
	bxc_blob_writer *w = NULL;
	assert_ok(bxc_blob_begin(s, &w, &err), err);
	assert_ok(bxc_blob_append(w, "hello", 5, &err), err);
	assert_false(bxc_blob_has(s, &d));
	bxc_blob_abort(w);
	bxc_blob_abort(NULL);
	assert_false(bxc_blob_has(s, &d));
}

static void the_same_blob_is_stored_once(void **state)
{
	BEGIN(state);
	bxc_blob_info info;
	bxc_blob_writer *a = NULL, *b = NULL;
	assert_ok(bxc_blob_begin(s, &a, &err), err);
	assert_ok(bxc_blob_begin(s, &b, &err), err);
	assert_ok(bxc_blob_append(a, "same", 4, &err), err);
	assert_ok(bxc_blob_append(b, "same", 4, &err), err);
	assert_int_equal(bxc_blob_commit(b, NULL, &info, &err), 0);
	assert_int_equal(bxc_blob_commit(a, NULL, &info, &err), 1);
	assert_int_equal(info.size, 4);
	assert_int_equal(bxc_blob_put(s, "same", 4, NULL, &err), 1);
}

static void an_open_blob_outlives_its_removal(void **state)
{
	BEGIN(state);
	bxc_blob_info info;
	uint64_t size = 0;
	BXC_AUTOCLOSE int fd = -1;
	assert_ok(bxc_blob_put(s, "hello", 5, &info, &err), err);
	assert_ok(bxc_blob_open(s, &info.digest, &fd, &size, &err), err);
	assert_ok(bxc_blob_remove(s, &info.digest, &err), err);
	assert_false(bxc_blob_has(s, &info.digest));
	char text[8] = "";
	assert_int_equal(size, 5);
	assert_int_equal(pread(fd, text, sizeof(text), 1), 4);
	assert_string_equal(text, "ello");
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	/* Nobody changes a blob through what a reader got. */
	assert_true(write(fd, "x", 1) < 0);
	assert_int_equal(bxc_blob_put(s, "hello", 5, NULL, &err), 0);
}

static void a_blob_set_aside_can_be_stored_again(void **state)
{
	BEGIN(state);
	bxc_blob_info info;
	assert_ok(bxc_blob_put(s, "hello", 5, &info, &err), err);
	assert_ok(bxc_blob_quarantine(s, &info.digest, &err), err);
	assert_false(bxc_blob_has(s, &info.digest));
	assert_int_equal(bxc_blob_put(s, "hello", 5, &info, &err), 0);
	assert_ok(bxc_blob_freshen(s, &info.digest, &err), err);
	assert_ok(bxc_blob_quarantine(s, &info.digest, &err), err);
}

typedef struct tally {
	bxc_blob_store *s;
	size_t n;
	uint64_t bytes;
	size_t stop_at;
} tally;

static int count(const bxc_blob_info *i, void *ud)
{
	tally *t = ud;
	assert_true(bxc_blob_has(t->s, &i->digest));
	t->n++;
	t->bytes += i->size;
	return t->n == t->stop_at ? 7 : 0;
}

static void a_list_has_every_blob_once(void **state)
{
	BEGIN(state);
	tally t = {.s = s};
	assert_ok(bxc_blob_list(s, count, &t, &err), err);
	assert_int_equal(t.n, 0);
	for (int i = 0; i < 300; i++)
		assert_int_equal(bxc_blob_put(s, &i, sizeof(i), NULL, &err), 0);
	assert_int_equal(bxc_blob_list(s, count, &t, &err), 0);
	assert_int_equal(t.n, 300);
	assert_int_equal(t.bytes, 300 * sizeof(int));
	tally u = {.s = s, .stop_at = 5};
	assert_int_equal(bxc_blob_list(s, count, &u, &err), 7);
	assert_int_equal(u.n, 5);
}

static void large_blobs_pass(void **state)
{
	BEGIN(state);
	enum { N = 3 << 20, STEP = 70001 };
	BXC_AUTOFREE uint8_t *p = bxc_malloc(N);
	for (size_t i = 0; i < N; i++)
		p[i] = (uint8_t)(i * 2654435761u >> 13);
	bxc_digest want = bxc_digest_of(p, N);
	bxc_blob_writer *w = NULL;
	assert_ok(bxc_blob_begin(s, &w, &err), err);
	for (size_t i = 0; i < N; i += STEP)
		assert_ok(bxc_blob_append(w, p + i, BXC_MIN((size_t)STEP, N - i), &err), err);
	assert_ok(bxc_blob_commit(w, &want, NULL, &err), err);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(N);
	assert_ok(bxc_blob_read(s, &want, &b, &err), err);
	assert_int_equal(b.len, N);
	assert_memory_equal(b.data, p, N);
}

#define N_THREADS 4

static void *put_many(void *ud)
{
	bxc_blob_store *s = ud;
	uintptr_t fresh = 0;
	for (int i = 0; i < 50; i++) {
		int r = bxc_blob_put(s, &i, sizeof(i), NULL, NULL);
		bxc_check(r >= 0);
		fresh += r == 0;
	}
	return (void *)fresh;
}

static void threads_may_write_the_same_blobs(void **state)
{
	BEGIN(state);
	pthread_t t[N_THREADS];
	uintptr_t fresh = 0;
	for (int i = 0; i < N_THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, put_many, s), 0);
	for (int i = 0; i < N_THREADS; i++) {
		void *r = NULL;
		assert_int_equal(pthread_join(t[i], &r), 0);
		fresh += (uintptr_t)r;
	}
	assert_int_equal(fresh, 50);
	tally n = {.s = s};
	assert_int_equal(bxc_blob_list(s, count, &n, &err), 0);
	assert_int_equal(n.n, 50);
}

const blob_case blob_cases[] = {
	{"what_is_put_is_read", what_is_put_is_read},
	{"an_empty_blob_is_a_blob", an_empty_blob_is_a_blob},
	{"an_absent_blob_is_not_found", an_absent_blob_is_not_found},
	{"a_writer_verifies_what_is_expected", a_writer_verifies_what_is_expected},
	{"nothing_is_visible_before_commit", nothing_is_visible_before_commit},
	{"the_same_blob_is_stored_once", the_same_blob_is_stored_once},
	{"an_open_blob_outlives_its_removal", an_open_blob_outlives_its_removal},
	{"a_blob_set_aside_can_be_stored_again", a_blob_set_aside_can_be_stored_again},
	{"a_list_has_every_blob_once", a_list_has_every_blob_once},
	{"large_blobs_pass", large_blobs_pass},
	{"threads_may_write_the_same_blobs", threads_may_write_the_same_blobs},
};
const size_t n_blob_cases = BXC_ARRAY_SIZE(blob_cases);
