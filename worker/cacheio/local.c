/* SPDX-License-Identifier: Apache-2.0 */
/* To a folder of the client: it says which blobs it lacks, and gets those as a tar, the manifest
 * last. */
#include "worker/cacheio/cacheio_internal.h"

#include <string.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/tar/tar.h"

#define REPLY_MAX (16u << 20)

struct to_stream {
	const bxc_cio_request *q;
	bxc_chan_stream *s;
};

static int to_stream(const void *p, size_t n, void *ud, bxc_err **err)
{
	struct to_stream *o = ud;
	return bxc_chan_stream_write(o->s, p, n, o->q->cancel, err);
}

static int open_stream(
	const bxc_cio_request *q, const char *kind, bxc_chan_stream **ret, bxc_err **err)
{
	bxc_json *name = bxc_json_object();
	bxc_json_set_u64(name, "cache", q->index);
	return q->open(kind, name, ret, q->ud, err);
}

/* The digests that the folder has not. */
static int ask_lacking(const bxc_cio_request *q, const cio_made *m, bxc_map *lacking, bxc_err **err)
{
	BXC_CLEANUP(bxc_chan_stream_freep) bxc_chan_stream *s = NULL;
	BXC_AUTOJSON bxc_json *j = bxc_json_object(), *reply = NULL;
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(REPLY_MAX);
	char d[BXC_DIGEST_STR_MAX];
	bxc_json *list = bxc_json_add_array(j, "digests");
	BXC_ARR_FOREACH (b, &m->blobs)
		bxc_json_push_str(list, bxc_digest_str(&b->digest, d));
	BXC_AUTOFREE char *question = bxc_json_print(j);
	int r = open_stream(q, "cache.lacks", &s, err);
	if (r >= 0)
		r = bxc_chan_stream_write(s, question, strlen(question), q->cancel, err);
	if (r >= 0)
		r = bxc_chan_stream_write_eof(s, err);
	if (r >= 0)
		r = bxc_chan_stream_read_all(s, &text, q->cancel, err);
	if (r >= 0)
		r = bxc_json_parse(bxc_buf_slice(&text), &reply, err);
	BXC_JSON_FOREACH (it, bxc_json_get(reply, "lacks"))
		if (bxc_json_string(it))
			bxc_map_set(lacking, bxc_json_string(it), NULL);
	return r;
}

static int write_tar(bxc_content *content, const bxc_cio_request *q, const cio_made *m,
	bxc_map *lacking, bxc_tar_writer *w, bxc_err **err)
{
	int r = 0;
	char d[BXC_DIGEST_STR_MAX];
	for (size_t i = 0; r >= 0 && i < m->blobs.n; i++) {
		if (!bxc_map_has(lacking, bxc_digest_str(&m->blobs.v[i].digest, d)))
			continue;
		BXC_AUTOFREE char *id = bxc_str_fmt("writing layer %s", d);
		q->status(id, 0, 0, false, q->ud);
		r = q->bring(m->layers.v[i], q->ud, err);
		if (r >= 0)
			r = bxc_content_layout_blob(content, w, &m->blobs.v[i].digest, err);
		if (r >= 0)
			q->status(id, 0, 0, true, q->ud);
	}
	BXC_AUTOFREE char *config = bxc_content_layout_path(&m->config.digest),
			  *manifest = bxc_content_layout_path(&m->manifest.digest);
	bxc_oci_index index = {.media_type = bxc_strdup(BXC_MT_OCI_INDEX)};
	bxc_descriptor_copy(bxc_arr_push(&index.manifests), &m->manifest);
	BXC_AUTOFREE char *text = bxc_oci_index_print(&index);
	bxc_oci_index_done(&index);
	if (r >= 0)
		r = bxc_content_layout_text(w, config, m->config_text, err);
	if (r >= 0)
		r = bxc_content_layout_text(w, manifest, m->manifest_text, err);
	/* The client gives it the tag. */
	if (r >= 0)
		r = bxc_content_layout_text(w, "index.json", text, err);
	return r < 0 ? r : bxc_tar_writer_finish(w, err);
}

int cio_to_client(bxc_content *content, const bxc_cio_request *q, const cio_made *m, bxc_err **err)
{
	BXC_CLEANUP(bxc_map_freep) bxc_map *lacking = bxc_map_new(NULL);
	BXC_CLEANUP(bxc_tar_writer_freep) bxc_tar_writer *w = NULL;
	BXC_CLEANUP(bxc_chan_stream_freep) bxc_chan_stream *s = NULL;
	BXC_AUTOBUF bxc_buf reply = BXC_BUF_INIT(64u << 10);
	int r = ask_lacking(q, m, lacking, err);
	if (r >= 0)
		r = open_stream(q, "cache.put", &s, err);
	struct to_stream o = {q, s};
	if (r >= 0)
		r = bxc_tar_writer_new(0, to_stream, &o, &w, err);
	if (r >= 0)
		r = write_tar(content, q, m, lacking, w, err);
	if (r >= 0)
		r = bxc_chan_stream_write_eof(s, err);
	/* The client says when all is stored. */
	if (r >= 0)
		r = bxc_chan_stream_read_all(s, &reply, q->cancel, err);
	return bxc_err_wrap(err, r, "write cache to the client");
}
