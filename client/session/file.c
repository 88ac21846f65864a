/* SPDX-License-Identifier: Apache-2.0 */
/* Files as they are: blobs of OCI layouts, and the archive that is the context. */
#include "client/session/session_internal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "common/os/fs.h"

#define CHUNK (256u << 10)

static int digest_of(const bxc_json *name, bxc_digest *ret, bxc_err **err)
{
	const char *digest;
	int r = bxc_json_need_str(name, "digest", &digest, err);
	return r < 0 ? r : bxc_digest_parse(digest, ret, err);
}

static int send_file(bxc_csess *s, bxc_chan_stream *st, int fd, uint64_t size, bxc_err **err)
{
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	int r = 0;
	for (uint64_t at = 0; r >= 0 && at < size;) {
		size_t n = (size_t)BXC_MIN(size - at, (uint64_t)CHUNK);
		r = bxc_fd_pread_exact(fd, chunk, n, at, err);
		if (r >= 0)
			r = bxc_chan_stream_write(st, chunk, n, s->cancel, err);
		at += n;
	}
	return r;
}

/* "sha256:<hex>" is the file blobs/sha256/<hex>: a digest that parsed names nothing else. */
int send_layout_blob(
	bxc_csess *s, bxc_chan_stream *st, const char *dir, const bxc_json *name, bxc_err **err)
{
	BXC_AUTOCLOSE int dir_fd = -1, fd = -1;
	bxc_digest d;
	struct stat st_buf;
	int r = digest_of(name, &d, err);
	if (r >= 0)
		r = bxc_fs_open_dir(AT_FDCWD, dir, &dir_fd, err);
	if (r < 0)
		return r;
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *path = bxc_str_fmt("blobs/%s", bxc_digest_str(&d, digest));
	*strchr(path, ':') = '/';
	r = bxc_fs_open_beneath(
		dir_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, BXC_FS_BENEATH, &fd, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "OCI layout");
	if (fstat(fd, &st_buf) < 0 || !S_ISREG(st_buf.st_mode))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "OCI layout: '%s' is no regular file", path);
	return send_file(s, st, fd, (uint64_t)st_buf.st_size, err);
}

int serve_layout(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	const char *store = bxc_json_get_str(name, "store", NULL);
	for (size_t i = 0; i < s->c.n_layouts; i++)
		if (bxc_str_eq(s->c.layouts[i].name, store))
			return send_layout_blob(s, st, s->c.layouts[i].path, name, err);
	return bxc_err_set(
		err, BXC_NOT_FOUND, "no access allowed to layout \"%.64s\"", store ? store : "");
}

int serve_upload(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	bxc_digest d;
	int r = digest_of(name, &d, err);
	if (r >= 0 && (!s->c.upload || !bxc_digest_eq(&d, &s->c.upload->digest)))
		r = bxc_err_set(err, BXC_NOT_FOUND, "this client has no such file to send");
	return r < 0 ? r : send_file(s, st, s->c.upload->fd, s->c.upload->size, err);
}
