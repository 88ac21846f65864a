/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets: read when a step asks for one, wiped when it was sent. */
#include "client/session/session_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/os/fd.h"

static const bxc_csess_secret *find(const bxc_csess *s, const char *id)
{
	for (size_t i = s->c.n_secrets; i > 0; i--)
		if (bxc_str_eq(s->c.secrets[i - 1].id, id))
			return &s->c.secrets[i - 1];
	return NULL;
}

static int too_big(const char *id, bxc_err **err)
{
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "secret %s too big. max size %u KiB", id,
		BXC_CSESS_SECRET_MAX >> 10);
}

static int send_file(bxc_csess *s, bxc_chan_stream *st, const bxc_csess_secret *x, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_CSESS_SECRET_MAX + 1);
	BXC_AUTOCLOSE int fd = open(x->file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		/* Not NOT_FOUND: there is such a secret, and a step must not go on without it. */
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "secret %s: open '%s': %m", x->id, x->file);
	/* At once: a buffer that grows leaves parts of the value behind. */
	int r = bxc_buf_reserve(&b, BXC_CSESS_SECRET_MAX + 1, err);
	if (r >= 0)
		r = bxc_fd_read_full(fd, b.data, BXC_CSESS_SECRET_MAX + 1, &b.len, err);
	if (r >= 0 && b.len > BXC_CSESS_SECRET_MAX)
		r = too_big(x->id, err);
	if (r >= 0)
		r = bxc_chan_stream_write(st, b.data, b.len, s->cancel, err);
	explicit_bzero(b.data, b.cap);
	b.len = 0;
	return r;
}

int serve_secret(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	const char *id;
	int r = bxc_json_need_str(name, "id", &id, err);
	if (r < 0)
		return r;
	const bxc_csess_secret *x = find(s, id);
	if (!x)
		return bxc_err_set(err, BXC_NOT_FOUND, "secret %s: not found", id);
	if (x->file)
		return send_file(s, st, x, err);
	/* A variable that is not set is an empty secret, as buildx has it. */
	const char *value = getenv(x->env);
	size_t n = value ? strlen(value) : 0;
	return n > BXC_CSESS_SECRET_MAX ? too_big(id, err)
					: bxc_chan_stream_write(st, value ? value : "", n, s->cancel, err);
}
