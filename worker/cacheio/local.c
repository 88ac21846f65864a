/* SPDX-License-Identifier: Apache-2.0 */
/* To a folder of the client: it says which blobs it lacks, and gets those as a tar, the manifest
 * last. */
#include "worker/cacheio/cacheio_internal.h"

#include <string.h>
#include <unistd.h>

#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fd.h"
#include "common/tar/tar.h"

#define CHUNK	  (256u << 10)
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

static char *path_of(const bxc_digest *d)
{
	char s[BXC_DIGEST_STR_MAX];
	return bxc_str_fmt("blobs/sha256/%s", bxc_digest_str(d, s) + strlen("sha256:"));
}

static int add_text(bxc_tar_writer *w, const char *path, const char *text, bxc_err **err)
{
	const bxc_tar_entry e = {
		.kind = BXC_TAR_FILE, .path = path, .mode = 0644, .size = strlen(text)};
	int r = bxc_tar_writer_entry(w, &e, err);
	return r < 0 ? r : bxc_tar_writer_data(w, text, strlen(text), err);
}

static int add_blob(bxc_content *content, const bxc_cio_request *q, bxc_tar_writer *w,
	const bxc_descriptor *d, size_t layer, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = -1;
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	BXC_AUTOFREE char *path = path_of(&d->digest);
	uint64_t size, off = 0;
	int r = q->bring(layer, q->ud, err);
	if (r >= 0)
		r = bxc_blob_open(bxc_content_store(content), &d->digest, &fd, &size, err);
	if (r < 0)
		return r;
	const bxc_tar_entry e = {.kind = BXC_TAR_FILE, .path = path, .mode = 0644, .size = size};
	r = bxc_tar_writer_entry(w, &e, err);
	while (r >= 0 && off < size) {
		ssize_t n =
			pread(fd, chunk, (size_t)BXC_MIN((uint64_t)CHUNK, size - off), (off_t)off);
		if (n <= 0)
			return bxc_err_set(err, BXC_DATA_LOSS, "blob '%s' is cut short", path);
		r = bxc_tar_writer_data(w, chunk, (size_t)n, err);
		off += (uint64_t)n;
	}
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
		r = add_blob(content, q, w, &m->blobs.v[i], m->layers.v[i], err);
		if (r >= 0)
			q->status(id, 0, 0, true, q->ud);
	}
	BXC_AUTOFREE char *config = path_of(&m->config.digest),
			  *manifest = path_of(&m->manifest.digest);
	bxc_oci_index index = {.media_type = bxc_strdup(BXC_MT_OCI_INDEX)};
	bxc_descriptor_copy(bxc_arr_push(&index.manifests), &m->manifest);
	BXC_AUTOFREE char *text = bxc_oci_index_print(&index);
	bxc_oci_index_done(&index);
	if (r >= 0)
		r = add_text(w, config, m->config_text, err);
	if (r >= 0)
		r = add_text(w, manifest, m->manifest_text, err);
	/* The client gives it the tag. */
	if (r >= 0)
		r = add_text(w, "index.json", text, err);
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
