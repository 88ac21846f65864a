/* SPDX-License-Identifier: Apache-2.0 */
/* Folders with build caches, as the cluster reads and writes them. Only those that the build named.
 */
#include "client/session/session_internal.h"

#include <fcntl.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "common/os/fs.h"

#define QUESTION_MAX (16u << 20)
#define DIGESTS_MAX  100000u

static int pick(const bxc_csess_cache *list, size_t n, const bxc_json *name,
	const bxc_csess_cache **ret, bxc_err **err)
{
	uint64_t i = bxc_json_get_u64(name, "cache", UINT64_MAX);
	if (i >= n || !list[i].dir)
		return bxc_err_set(err, BXC_PERMISSION_DENIED, "this client named no such cache");
	*ret = &list[i];
	return 0;
}

int serve_cache_blob(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	const bxc_csess_cache *c = NULL;
	int r = pick(s->c.imports, s->c.n_imports, name, &c, err);
	/* Who asked verifies what comes. */
	return r < 0 ? r : send_layout_blob(s, st, c->dir, name, err);
}

static int open_blobs(const bxc_csess_cache *c, int *ret_fd, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/blobs/sha256", c->dir);
	return bxc_fs_open_dir(AT_FDCWD, path, ret_fd, err);
}

int serve_cache_lacks(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	const bxc_csess_cache *c = NULL;
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(QUESTION_MAX);
	BXC_AUTOJSON bxc_json *q = NULL, *reply = bxc_json_object();
	BXC_AUTOCLOSE int dir_fd = -1;
	int r = pick(s->c.caches, s->c.n_caches, name, &c, err);
	if (r >= 0)
		r = bxc_chan_stream_read_all(st, &text, s->cancel, err);
	if (r >= 0)
		r = bxc_json_parse(bxc_buf_slice(&text), &q, err);
	if (r >= 0 && bxc_json_len(bxc_json_get(q, "digests")) > DIGESTS_MAX)
		r = bxc_err_set(
			err, BXC_RESOURCE_EXHAUSTED, "a cache of more than %u blobs", DIGESTS_MAX);
	if (r < 0)
		return r;
	/* A folder that is not there yet lacks all. */
	bxc_ignore(open_blobs(c, &dir_fd, NULL));
	bxc_json *list = bxc_json_add_array(reply, "lacks");
	BXC_JSON_FOREACH (it, bxc_json_get(q, "digests")) {
		bxc_digest d;
		struct stat sb;
		r = bxc_digest_parse(bxc_json_string(it) ? bxc_json_string(it) : "", &d, err);
		if (r < 0)
			return r;
		if (dir_fd < 0 || bxc_fs_lstat_opt(dir_fd, bxc_json_string(it) + strlen("sha256:"),
					  &sb, NULL) <= 0)
			bxc_json_push_str(list, bxc_json_string(it));
	}
	BXC_AUTOFREE char *answer = bxc_json_print(reply);
	return bxc_chan_stream_write(st, answer, strlen(answer), s->cancel, err);
}

int serve_cache_put(bxc_csess *s, bxc_chan_stream *st, const bxc_json *name, bxc_err **err)
{
	const bxc_csess_cache *c = NULL;
	stream_source i = {s, st};
	int r = pick(s->c.caches, s->c.n_caches, name, &c, err);
	if (r >= 0)
		r = layout_write(c->dir, c->tag, c->reset, from_stream, &i, err);
	if (r >= 0)
		r = bxc_chan_stream_write(st, "{}", 2, s->cancel, err);
	return r;
}
