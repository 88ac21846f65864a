/* SPDX-License-Identifier: Apache-2.0 */
/* What all backends share: hashing, the expected digest, verified reads. */
#include "common/cas/cas.h"

#include "common/base/limits.h"
#include "common/cas/cas_internal.h"
#include "common/os/fd.h"

int cas_not_found(const bxc_digest *d, bxc_err **err)
{
	char s[BXC_DIGEST_STR_MAX];
	bxc_digest_str(d, s);
	int r = bxc_err_set(err, BXC_NOT_FOUND, "blob not found: '%s'", s);
	if (err)
		bxc_err_detail(*err, "digest", "%s", s);
	return r;
}

static int check_digest(const bxc_digest *d, bxc_err **err)
{
	if (!bxc_digest_is_set(d))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "a blob needs a digest");
	return 0;
}

void bxc_blob_store_free(bxc_blob_store *s)
{
	if (s)
		s->vt->free(s);
}

int bxc_blob_stat(bxc_blob_store *s, const bxc_digest *d, bxc_blob_info *ret, bxc_err **err)
{
	int r = check_digest(d, err);
	return r < 0 ? r : s->vt->stat(s, d, ret, err);
}

bool bxc_blob_has(bxc_blob_store *s, const bxc_digest *d)
{
	bxc_blob_info info;
	return bxc_blob_stat(s, d, &info, NULL) == 0;
}

int bxc_blob_open(
	bxc_blob_store *s, const bxc_digest *d, int *ret_fd, uint64_t *ret_size, bxc_err **err)
{
	int r = check_digest(d, err);
	return r < 0 ? r : s->vt->open(s, d, ret_fd, ret_size, err);
}

int bxc_blob_read(bxc_blob_store *s, const bxc_digest *d, bxc_buf *out, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = -1;
	uint64_t size = 0;
	int r = bxc_blob_open(s, d, &fd, &size, err);
	if (r < 0)
		return r;
	if (size > out->max_bytes)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "blob of %llu bytes, more than %zu",
			(unsigned long long)size, out->max_bytes);
	bxc_buf_clear(out);
	r = bxc_fd_read_to_end(fd, out, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "read blob");
	bxc_digest got = bxc_digest_of(out->data, out->len);
	if (bxc_digest_eq(&got, d))
		return 0;
	/* Somebody may have done so already. */
	bxc_ignore(bxc_blob_quarantine(s, d, NULL));
	bxc_buf_clear(out);
	char text[BXC_DIGEST_STR_MAX];
	return bxc_err_set(
		err, BXC_DATA_LOSS, "stored blob is damaged: '%s'", bxc_digest_str(d, text));
}

int bxc_blob_begin(bxc_blob_store *s, bxc_blob_writer **ret, bxc_err **err)
{
	bxc_blob_writer *w = NULL;
	int r = s->vt->begin(s, &w, err);
	if (r < 0)
		return r;
	w->store = s;
	w->hasher = bxc_hasher_new();
	w->size = 0;
	*ret = w;
	return 0;
}

int bxc_blob_append(bxc_blob_writer *w, const void *p, size_t n, bxc_err **err)
{
	if (n > BXC_LIMIT_BLOB - w->size)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "blob of more than %llu bytes",
			(unsigned long long)BXC_LIMIT_BLOB);
	if (n == 0)
		return 0;
	int r = w->store->vt->append(w, p, n, err);
	if (r < 0)
		return r;
	bxc_hasher_update(w->hasher, p, n);
	w->size += n;
	return 0;
}

static void drop_hasher(bxc_blob_writer *w)
{
	bxc_hasher_free(w->hasher);
	w->hasher = NULL;
}

int bxc_blob_commit(bxc_blob_writer *w, const bxc_digest *want, bxc_blob_info *ret, bxc_err **err)
{
	bxc_blob_info info = {.digest = bxc_hasher_final(w->hasher), .size = w->size};
	if (want && bxc_digest_is_set(want) && !bxc_digest_eq(want, &info.digest)) {
		char a[BXC_DIGEST_STR_MAX], b[BXC_DIGEST_STR_MAX];
		bxc_blob_abort(w);
		return bxc_err_set(err, BXC_DATA_LOSS,
			"received bytes do not match their digest: expected %s, got %s",
			bxc_digest_str(want, a), bxc_digest_str(&info.digest, b));
	}
	drop_hasher(w);
	int r = w->store->vt->commit(w, &info.digest, err);
	if (r >= 0 && ret)
		*ret = info;
	return r;
}

void bxc_blob_abort(bxc_blob_writer *w)
{
	if (!w)
		return;
	drop_hasher(w);
	w->store->vt->abort(w);
}

int bxc_blob_put(bxc_blob_store *s, const void *p, size_t n, bxc_blob_info *ret, bxc_err **err)
{
	bxc_blob_info info = {.digest = bxc_digest_of(p, n), .size = n};
	if (bxc_blob_freshen(s, &info.digest, NULL) == 0) {
		if (ret)
			*ret = info;
		return 1;
	}
	bxc_blob_writer *w = NULL;
	int r = bxc_blob_begin(s, &w, err);
	if (r < 0)
		return r;
	r = bxc_blob_append(w, p, n, err);
	if (r < 0) {
		bxc_blob_abort(w);
		return r;
	}
	return bxc_blob_commit(w, &info.digest, ret, err);
}

int bxc_blob_remove(bxc_blob_store *s, const bxc_digest *d, bxc_err **err)
{
	int r = check_digest(d, err);
	return r < 0 ? r : s->vt->remove(s, d, err);
}

int bxc_blob_freshen(bxc_blob_store *s, const bxc_digest *d, bxc_err **err)
{
	int r = check_digest(d, err);
	return r < 0 ? r : s->vt->freshen(s, d, err);
}

int bxc_blob_quarantine(bxc_blob_store *s, const bxc_digest *d, bxc_err **err)
{
	int r = check_digest(d, err);
	return r < 0 ? r : s->vt->quarantine(s, d, err);
}

int bxc_blob_list(
	bxc_blob_store *s, int (*fn)(const bxc_blob_info *i, void *ud), void *ud, bxc_err **err)
{
	return s->vt->list(s, fn, ud, err);
}
