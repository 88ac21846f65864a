/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An OCI layout in a folder of the user's: an image, or a build cache. Blobs come first, each under
 * its digest and whole; the index is replaced last, so that a reader never sees what is not there
 * in full. What was in the folder stays, but for what new manifests replace.
 */
#include "client/session/session_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/oci/oci.h"
#include "common/os/fd.h"
#include "common/os/fs.h"

#define CHUNK	   (256u << 10)
#define INDEX_MAX  (4u << 20)
#define BLOBS_MAX  1000000u
#define DEPTH_MAX  4 /* index of indexes: a cache has two levels */
#define REF_NAME   "org.opencontainers.image.ref.name"
#define IMAGE_NAME "io.containerd.image.name"

static int read_index(int dir_fd, bxc_oci_index *ret, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(INDEX_MAX);
	int r = bxc_fs_read_file(dir_fd, "index.json", INDEX_MAX, &text, err);
	if (r >= 0)
		r = bxc_oci_index_parse(bxc_buf_slice(&text), ret, err);
	return r < 0 ? bxc_err_wrap(err, r, "index.json") : 0;
}

int bxc_csess_cache_find(const char *dir, const char *tag, bxc_digest *ret, bxc_err **err)
{
	BXC_AUTOCLOSE int dir_fd = -1;
	bxc_oci_index index = {0};
	bool found = false;
	int r = bxc_fs_open_dir(AT_FDCWD, dir, &dir_fd, err);
	if (r >= 0)
		r = read_index(dir_fd, &index, err);
	if (r < 0)
		return r;
	BXC_ARR_FOREACH (d, &index.manifests) {
		if (!bxc_str_eq(bxc_env_get(d->annotations, REF_NAME), tag))
			continue;
		*ret = d->digest;
		found = true;
	}
	bxc_oci_index_done(&index);
	return found ? 0
		     : bxc_err_set(err, BXC_NOT_FOUND,
			       "index.json has no manifest with the tag '%s'", tag);
}

/* ---- writing ---- */

struct folder {
	int dir_fd, blobs_fd;
	bxc_tar_reader *reader;
	uint8_t *chunk;
};

static int copy_blob(struct folder *f, int fd, bxc_digest *ret, bxc_err **err)
{
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	for (;;) {
		ssize_t n = bxc_tar_reader_read(f->reader, f->chunk, CHUNK, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		bxc_hasher_update(h, f->chunk, (size_t)n);
		int r = bxc_fd_write_all(fd, f->chunk, (size_t)n, err);
		if (r < 0)
			return r;
	}
	*ret = bxc_hasher_final(h);
	return fsync(fd) < 0 ? bxc_err_errno(err, errno, "write blob") : 0;
}

/* Under the digest of what came, which must be the one it was announced with. */
static int take_blob(struct folder *f, const char *hex, bxc_err **err)
{
	bxc_digest want, got;
	BXC_AUTOFREE char *digest = bxc_str_fmt("sha256:%s", hex);
	BXC_AUTOFREE char *rand = bxc_rand_hex(6);
	BXC_AUTOFREE char *tmp = bxc_str_fmt(".%s.tmp", rand);
	int r = bxc_digest_parse(digest, &want, err);
	if (r < 0)
		return r;
	BXC_AUTOCLOSE int fd =
		openat(f->blobs_fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return bxc_err_errno(err, errno, "create a blob");
	r = copy_blob(f, fd, &got, err);
	if (r >= 0 && !bxc_digest_eq(&want, &got))
		r = bxc_err_set(err, BXC_DATA_LOSS, "blob '%s' came with other bytes", digest);
	if (r >= 0)
		r = bxc_fs_rename(f->blobs_fd, tmp, f->blobs_fd, hex, false, err);
	if (r < 0)
		bxc_ignore(bxc_fs_unlink(f->blobs_fd, tmp, NULL));
	return r;
}

static int take_index(struct folder *f, bxc_oci_index *ret, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(INDEX_MAX);
	int r = 0;
	for (ssize_t n = 1; r >= 0 && n > 0;) {
		n = bxc_tar_reader_read(f->reader, f->chunk, CHUNK, err);
		r = n < 0 ? (int)n : bxc_buf_append(&text, f->chunk, (size_t)n, err);
	}
	return r < 0 ? r : bxc_oci_index_parse(bxc_buf_slice(&text), ret, err);
}

static int take_all(struct folder *f, bxc_oci_index *ret, bxc_err **err)
{
	static const char blobs[] = "blobs/sha256/";
	const bxc_tar_entry *e;
	size_t n = 0;
	int r;
	while ((r = bxc_tar_reader_next(f->reader, &e, err)) > 0) {
		if (e->kind == BXC_TAR_DIR || bxc_str_eq(e->path, "oci-layout"))
			continue;
		if (e->kind == BXC_TAR_FILE && n++ < BLOBS_MAX &&
			bxc_str_has_prefix(e->path, blobs))
			r = take_blob(f, e->path + strlen(blobs), err);
		else if (e->kind == BXC_TAR_FILE && !ret->manifests.n &&
			 bxc_str_eq(e->path, "index.json"))
			r = take_index(f, ret, err);
		else
			r = bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"entry '%.128s' is not expected in a layout", e->path);
		if (r < 0)
			return r;
	}
	if (r >= 0 && !ret->manifests.n)
		r = bxc_err_set(err, BXC_DATA_LOSS, "the layout came without an index");
	return r;
}

/* What a manifest is found by. */
static const char *name_of(const bxc_descriptor *d)
{
	const char *image = bxc_env_get(d->annotations, IMAGE_NAME);
	return image ? image : bxc_env_get(d->annotations, REF_NAME);
}

static bool is_replaced(const bxc_oci_index *fresh, const bxc_descriptor *old)
{
	for (size_t i = 0; i < fresh->manifests.n; i++)
		if (bxc_str_eq(name_of(&fresh->manifests.v[i]), name_of(old)))
			return true;
	return false;
}

/* Names lead to these manifests from now on; what else is in the index stays. */
static int point(int dir_fd, bxc_oci_index *fresh, const char *tag, bxc_err **err)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	bxc_oci_index old = {0}, index = {.media_type = bxc_strdup(BXC_MT_OCI_INDEX)};
	struct stat st;
	int r = bxc_fs_lstat_opt(dir_fd, "index.json", &st, err);
	if (r > 0)
		r = read_index(dir_fd, &old, err);
	BXC_ARR_FOREACH (d, &fresh->manifests)
		if (tag || !name_of(d))
			bxc_env_set(&d->annotations, REF_NAME, tag ? tag : "latest");
	if (r >= 0) {
		BXC_ARR_FOREACH (o, &old.manifests)
			if (!is_replaced(fresh, o))
				bxc_descriptor_copy(bxc_arr_push(&index.manifests), o);
		BXC_ARR_FOREACH (d, &fresh->manifests)
			bxc_descriptor_copy(bxc_arr_push(&index.manifests), d);
		BXC_AUTOFREE char *text = bxc_oci_index_print(&index);
		r = bxc_fs_write_atomic(dir_fd, "oci-layout", layout, strlen(layout), 0644, err);
		if (r >= 0)
			r = bxc_fs_write_atomic(
				dir_fd, "index.json", text, strlen(text), 0644, err);
	}
	bxc_oci_index_done(&old);
	bxc_oci_index_done(&index);
	return r < 0 ? r : 0;
}

/* ---- reset ---- */

static void keep(struct folder *f, bxc_map *kept, const bxc_descriptor *d, int depth)
{
	char s[BXC_DIGEST_STR_MAX];
	const char *hex = bxc_digest_str(&d->digest, s) + strlen("sha256:");
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(INDEX_MAX);
	bxc_oci_index index = {0};
	bxc_oci_manifest manifest = {0};
	if (bxc_map_has(kept, hex))
		return;
	bxc_map_set(kept, hex, NULL);
	bool is_index = bxc_oci_is_index(d->media_type),
	     is_manifest = bxc_oci_is_manifest(d->media_type);
	if (depth == DEPTH_MAX || (!is_index && !is_manifest) ||
		bxc_fs_read_file(f->blobs_fd, hex, INDEX_MAX, &text, NULL) < 0)
		return;
	if (is_index && bxc_oci_index_parse(bxc_buf_slice(&text), &index, NULL) >= 0)
		BXC_ARR_FOREACH (m, &index.manifests)
			keep(f, kept, m, depth + 1);
	if (is_manifest && bxc_oci_manifest_parse(bxc_buf_slice(&text), &manifest, NULL) >= 0) {
		keep(f, kept, &manifest.config, depth + 1);
		BXC_ARR_FOREACH (l, &manifest.layers)
			keep(f, kept, l, depth + 1);
	}
	bxc_oci_index_done(&index);
	bxc_oci_manifest_done(&manifest);
}

/* Removes the blobs that no manifest of the index leads to. */
static int reset(struct folder *f, bxc_err **err)
{
	BXC_CLEANUP(bxc_map_freep) bxc_map *kept = bxc_map_new(NULL);
	BXC_AUTOSTRV char **names = NULL;
	bxc_oci_index index = {0};
	int r = read_index(f->dir_fd, &index, err);
	if (r >= 0)
		r = bxc_fs_list_dir(f->blobs_fd, "", BLOBS_MAX, &names, err);
	if (r < 0) {
		bxc_oci_index_done(&index);
		return r;
	}
	BXC_ARR_FOREACH (d, &index.manifests)
		keep(f, kept, d, 0);
	bxc_oci_index_done(&index);
	for (char **n = names; *n && r >= 0; n++) {
		BXC_AUTOFREE char *digest = bxc_str_fmt("sha256:%s", *n);
		bxc_digest d;
		/* Other files in the folder are not ours to remove. */
		if (bxc_digest_parse(digest, &d, NULL) >= 0 && !bxc_map_has(kept, *n))
			r = bxc_fs_unlink(f->blobs_fd, *n, err);
	}
	return r;
}

int layout_write(const char *dir, const char *tag, bool drop_rest, bxc_tar_source_fn source,
	void *ud, bxc_err **err)
{
	struct folder f = {.dir_fd = -1, .blobs_fd = -1, .chunk = bxc_malloc(CHUNK)};
	BXC_AUTOFREE char *blobs = bxc_str_fmt("%s/blobs/sha256", dir);
	bxc_oci_index index = {0};
	int r = bxc_fs_make_dirs(AT_FDCWD, blobs, 0755, err);
	if (r >= 0)
		r = bxc_fs_open_dir(AT_FDCWD, dir, &f.dir_fd, err);
	if (r >= 0)
		r = bxc_fs_open_dir(AT_FDCWD, blobs, &f.blobs_fd, err);
	if (r >= 0)
		r = bxc_tar_reader_new(source, ud, &f.reader, err);
	if (r >= 0)
		r = take_all(&f, &index, err);
	if (r >= 0)
		r = bxc_fs_sync_dir(f.blobs_fd, err);
	/* Two builds may write to one folder: each changes the index that the other left. */
	if (r >= 0 && flock(f.dir_fd, LOCK_EX) < 0)
		r = bxc_err_errno(err, errno, "lock");
	if (r >= 0)
		r = point(f.dir_fd, &index, tag, err);
	if (r >= 0 && drop_rest)
		r = reset(&f, err);
	bxc_oci_index_done(&index);
	bxc_tar_reader_free(f.reader);
	free(f.chunk);
	if (f.blobs_fd >= 0)
		close(f.blobs_fd);
	if (f.dir_fd >= 0)
		close(f.dir_fd);
	return bxc_err_wrap(err, r, "write to '%s'", dir);
}
