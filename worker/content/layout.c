/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of an OCI layout that travels as a tar. */
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "worker/content/content_internal.h"

#define CHUNK (256u << 10)
#define MODE  0444

char *bxc_content_layout_path(const bxc_digest *d)
{
	char s[BXC_DIGEST_STR_MAX];
	return bxc_str_fmt("blobs/sha256/%s", bxc_digest_str(d, s) + strlen("sha256:"));
}

int bxc_content_layout_text(bxc_tar_writer *w, const char *path, const char *text, bxc_err **err)
{
	const bxc_tar_entry e = {
		.kind = BXC_TAR_FILE, .path = path, .mode = MODE, .size = strlen(text)};
	int r = bxc_tar_writer_entry(w, &e, err);
	return r < 0 ? r : bxc_tar_writer_data(w, text, strlen(text), err);
}

int bxc_content_layout_blob(bxc_content *c, bxc_tar_writer *w, const bxc_digest *d, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = -1;
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	BXC_AUTOFREE char *path = bxc_content_layout_path(d);
	uint64_t size;
	int r = bxc_blob_open(c->store, d, &fd, &size, err);
	if (r < 0)
		return r;
	const bxc_tar_entry e = {.kind = BXC_TAR_FILE, .path = path, .mode = MODE, .size = size};
	r = bxc_tar_writer_entry(w, &e, err);
	for (uint64_t off = 0; r >= 0 && off < size;) {
		size_t n = (size_t)BXC_MIN((uint64_t)CHUNK, size - off);
		r = bxc_fd_pread_exact(fd, chunk, n, off, err);
		if (r >= 0)
			r = bxc_tar_writer_data(w, chunk, n, err);
		off += n;
	}
	return r < 0 ? bxc_err_wrap(err, r, "blob '%s'", path) : 0;
}
