/* SPDX-License-Identifier: Apache-2.0 */
/* Outputs: bytes to a file or to standard output, trees into a folder. */
#include "client/session/session_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "common/os/fs.h"

#define CHUNK (256u << 10)

struct in {
	stream_source from;
	bool is_for_good;            /* what is written can't be taken back */
};

static int copy_to_fd(struct in *i, int fd, bxc_err **err)
{
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	for (;;) {
		ssize_t n = from_stream(chunk, CHUNK, &i->from, err);
		if (n <= 0)
			return (int)n;
		if (i->is_for_good)
			i->from.s->is_written = true;
		int r = bxc_fd_write_all(fd, chunk, (size_t)n, err);
		if (r < 0)
			return r;
	}
}

/* The destination appears whole: temporary file beside it, fsync, rename, fsync of the folder. */
static int to_file(struct in *i, const char *dest, bxc_err **err)
{
	const char *slash = strrchr(dest, '/');
	BXC_AUTOFREE char *dir = slash ? bxc_strndup(dest, (size_t)(slash - dest) + 1) : bxc_strdup(".");
	const char *name = slash ? slash + 1 : dest;
	BXC_AUTOFREE char *rand = bxc_rand_hex(6);
	BXC_AUTOFREE char *tmp = bxc_str_fmt(".%s.%s.tmp", name, rand);
	BXC_AUTOCLOSE int dir_fd = -1, fd = -1;
	int r = bxc_fs_make_dirs(AT_FDCWD, dir, 0755, err);
	if (r >= 0)
		r = bxc_fs_open_dir(AT_FDCWD, dir, &dir_fd, err);
	if (r < 0)
		return r;
	fd = openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return bxc_err_set(err, bxc_code_from_errno(errno), "create file in '%s': %m", dir);
	r = copy_to_fd(i, fd, err);
	if (r >= 0 && fsync(fd) < 0)
		r = bxc_err_set(err, bxc_code_from_errno(errno), "write '%s': %m", dest);
	if (r >= 0)
		r = bxc_fs_rename(dir_fd, tmp, dir_fd, name, false, err);
	if (r >= 0)
		r = bxc_fs_sync_dir(dir_fd, err);
	if (r < 0)
		bxc_ignore(bxc_fs_unlink(dir_fd, tmp, NULL));
	return r;
}

int serve_export(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	uint64_t index = bxc_json_get_u64(name, "index", UINT64_MAX);
	struct in i = {{s, st}, false};
	if (index >= s->c.n_exports)
		return bxc_err_set(err, BXC_PERMISSION_DENIED, "this client asked for no such output");
	const bxc_csess_export *e = &s->c.exports[index];
	if (!bxc_str_eq(e->type, bxc_json_get_str(name, "type", NULL)) || (!e->dest && e->fd < 0))
		return bxc_err_set(err, BXC_PERMISSION_DENIED, "this client asked for no such output");
	int r;
	i.is_for_good = !e->dest;
	if (bxc_str_eq(e->type, "local"))
		r = unpack_tree(e->dest, e->exact, from_stream, &i.from, err);
	else if (e->layout)
		r = layout_write(e->dest, NULL, false, from_stream, &i.from, err);
	else if (e->dest)
		r = to_file(&i, e->dest, err);
	else if (s->is_written)
		r = bxc_err_set(err, BXC_FAILED_PRECONDITION, "a part of the output was written before it had to be sent again: build again");
	else
		r = copy_to_fd(&i, e->fd, err);
	return r < 0 ? r : bxc_chan_stream_write(st, "{}", 2, s->cancel, err);
}
