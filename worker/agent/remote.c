/* SPDX-License-Identifier: Apache-2.0 */
/* Sources that lie elsewhere: what they stand for, their files as a layer; and reading files of
 * layers. */
#include "worker/agent/agent_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"
#include "common/os/fd.h"
#include "common/os/fs.h"

#define CHUNK	  (256u << 10)
#define MAX_FILES 16u

/* ---- the client ---- */

/* The bytes of a stream of this kind, which the coordinator joins to one of the client. Takes q. */
static int ask_bytes(
	job *j, const char *kind, bxc_json *q_take, bxc_sink_fn sink, void *sink_ud, bxc_err **err)
{
	BXC_CLEANUP(bxc_chan_stream_freep) bxc_chan_stream *s = NULL;
	int r = open_client_stream(j, kind, q_take, &s, err);
	if (r >= 0)
		r = bxc_chan_stream_write_eof(s, err);
	BXC_AUTOFREE uint8_t *chunk = bxc_malloc(CHUNK);
	while (r >= 0) {
		ssize_t n = bxc_chan_stream_read(s, chunk, CHUNK, j->cancel, err);
		if (n <= 0)
			return (int)n;
		r = sink(chunk, (size_t)n, sink_ud, err);
	}
	return r;
}

#define SECRET_MAX (500u << 10)

static int to_buffer(const void *p, size_t n, void *ud, bxc_err **err)
{
	return bxc_buf_append(ud, p, n, err);
}

/* A client that has none of this name, or serves none at all, is no failure. */
static int ask_secret(const char *id, bxc_secret **ret, void *ud, bxc_err **err)
{
	job *j = ud;
	BXC_AUTOBUF bxc_buf value = BXC_BUF_INIT(SECRET_MAX);
	BXC_AUTOERR bxc_err *why = NULL;
	bxc_json *q = bxc_json_object();
	bxc_json_set_str(q, "build", j->build);
	bxc_json_set_str(q, "task", j->name);
	bxc_json_set_str(q, "id", id);
	int r = ask_bytes(j, "secret", q, to_buffer, &value, &why);
	if (r >= 0)
		*ret = bxc_secret_new(value.data ? value.data : (const void *)"", value.len);
	if (value.data)
		explicit_bzero(value.data, value.len);
	if (r >= 0 || r == -BXC_NOT_FOUND || r == -BXC_UNIMPLEMENTED)
		return 0;
	return bxc_err_wrap_take(err, BXC_TAKE(why), r, "secret '%s'", id);
}

static bxc_json *question(const char *build, const bxc_digest *d)
{
	char digest[BXC_DIGEST_STR_MAX];
	bxc_json *q = bxc_json_object();
	bxc_json_set_str(q, "build", build);
	bxc_json_set_str(q, "digest", bxc_digest_str(d, digest));
	return q;
}

static int ask_upload(const bxc_digest *d, bxc_sink_fn sink, void *sink_ud, void *ud, bxc_err **err)
{
	job *j = ud;
	return ask_bytes(j, "upload", question(j->build, d), sink, sink_ud, err);
}

static int ask_layout(const char *build, const char *store, const bxc_digest *d, bxc_sink_fn sink,
	void *sink_ud, void *ud, bxc_err **err)
{
	bxc_json *q = question(build, d);
	bxc_json_set_str(q, "store", store);
	return ask_bytes(ud, "layout", q, sink, sink_ud, err);
}

static int ask_cache(const char *session, uint64_t cache, const bxc_digest *d, bxc_sink_fn sink,
	void *sink_ud, void *ud, bxc_err **err)
{
	job *j = ud;
	bxc_json *q = question(j->build, d);
	bxc_json_set_str(q, "session", session);
	bxc_json_set_u64(q, "cache", cache);
	return ask_bytes(j, "cache.blob", q, sink, sink_ud, err);
}

/* Only git behind ssh asks for an agent. */
static const bxc_exec_services *services_of(job *j)
{
	if (!j->services)
		j->services = client_open(j);
	return client_services(j->services);
}

static int ask_agent(const char *id, void *ud, bxc_err **err)
{
	const bxc_exec_services *s = services_of(ud);
	return s->agent_check(id, s->ud, err);
}

static void connect_agent(const char *id, int fd_take, void *ud)
{
	const bxc_exec_services *s = services_of(ud);
	s->agent_connect(id, fd_take, s->ud);
}

bxc_src_client client_of(job *j)
{
	return (bxc_src_client){.secret = ask_secret,
		.agent_check = ask_agent,
		.agent_connect = connect_agent,
		.layout = ask_layout,
		.cache = ask_cache,
		.upload = ask_upload,
		.ud = j,
		.cancel = j->cancel};
}

/* ---- resolve, source ---- */

static int open_source(job *j, bxc_def_vertex **ret, bxc_src_pin *pin, bxc_err **err)
{
	const bxc_json *op;
	int r = bxc_json_need_obj(j->msg, "op", &op, err);
	if (r >= 0)
		r = bxc_def_vertex_from_json(op, ret, err);
	if (r >= 0 && (*ret)->kind != BXC_OP_SOURCE)
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "the op is no source");
	if (r >= 0)
		r = bxc_src_pin_from_json(bxc_json_get(j->msg, "pin"), pin, err);
	return bxc_err_wrap(err, r, "task");
}

int run_resolve(job *j, bxc_err **err)
{
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = NULL;
	BXC_AUTOSRCPIN bxc_src_pin known = {0}, pin = {0};
	int r = open_source(j, &v, &known, err);
	if (r >= 0)
		r = bxc_src_resolve(j->a->src, &v->op.source, &known,
			bxc_json_get_bool(j->msg, "want_time", false), &j->client, &pin, err);
	if (r < 0)
		return r;
	j->result = bxc_json_object();
	bxc_json_set_take(j->result, "pin", bxc_src_pin_to_json(&pin));
	return 0;
}

int run_source(job *j, bxc_err **err)
{
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = NULL;
	BXC_AUTOSRCPIN bxc_src_pin pin = {0};
	BXC_AUTOSTAGING bxc_snap_staging *g = NULL;
	bxc_snap_facts facts = {0};
	const char *output;
	int64_t begun = bxc_clock_mono_ns();
	int r = open_source(j, &v, &pin, err);
	if (r >= 0)
		r = bxc_json_need_str(j->msg, "output_layer", &output, err);
	/* The coordinator has forgotten what it was told. */
	if (r >= 0 && !pin.id) {
		bxc_src_pin_done(&pin);
		r = bxc_src_resolve(j->a->src, &v->op.source, NULL, false, &j->client, &pin, err);
	}
	if (r >= 0)
		r = bxc_snap_begin(j->a->c.snap, output, &g, err);
	if (r < 0)
		return r;
	send_started(j);
	r = bxc_src_write(j->a->src, &v->op.source, &pin, &j->client, bxc_snap_staging_fd(g), err);
	if (r >= 0)
		r = bxc_snap_commit(BXC_TAKE(g), NULL, err);
	if (r >= 0)
		r = bxc_snap_get(j->a->c.snap, output, &facts, err);
	if (r >= 0)
		j->result = step_result(output, facts.size_bytes, bxc_clock_mono_ns() - begun);
	return r;
}

/* ---- read ---- */

/* The newest time of any file below; folders and links do not count: making a tree gives them times
 * of their own. */
static int newest(int dir_fd, unsigned depth, int64_t *ret_ns, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	if (depth > BXC_LIMIT_TREE_DEPTH)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "folders are nested deeper than %u",
			BXC_LIMIT_TREE_DEPTH);
	int r = bxc_fs_list_dir(dir_fd, "", BXC_LIMIT_TREE_ENTRIES, &names, err);
	for (char **n = names; r >= 0 && *n; n++) {
		struct stat st;
		r = bxc_fs_lstat(dir_fd, *n, &st, err);
		if (r >= 0 && S_ISREG(st.st_mode))
			*ret_ns = BXC_MAX(*ret_ns, (int64_t)st.st_mtim.tv_sec * BXC_NS_PER_S);
		if (r < 0 || !S_ISDIR(st.st_mode))
			continue;
		BXC_AUTOCLOSE int fd = -1;
		r = bxc_fs_open_beneath(
			dir_fd, *n, O_RDONLY | O_DIRECTORY, 0, BXC_FS_NO_LINKS, &fd, err);
		if (r >= 0)
			r = newest(fd, depth + 1, ret_ns, err);
	}
	return r;
}

/* The first `max` bytes of a regular file of the tree; an absent one is an entry without data. */
static int read_one(int root_fd, const char *path, size_t max, bxc_json *o, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = -1;
	BXC_AUTOERR bxc_err *why = NULL;
	struct stat st;
	bxc_json_set_str(o, "path", path);
	int r = bxc_fs_open_beneath(
		root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, BXC_FS_IN_ROOT, &fd, &why);
	if (r == -BXC_NOT_FOUND)
		return 0;
	if (r < 0)
		return bxc_err_wrap_take(err, BXC_TAKE(why), r, "'%s'", path);
	if (fstat(fd, &st) < 0)
		return bxc_err_errno(err, errno, "'%s'", path);
	if (!S_ISREG(st.st_mode))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%s' is no regular file", path);
	size_t n = (size_t)BXC_MIN((uint64_t)st.st_size, (uint64_t)max), got = 0;
	BXC_AUTOFREE uint8_t *data = bxc_malloc(n + 1);
	r = bxc_fd_read_full(fd, data, n, &got, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *text = bxc_base64_encode(data, got);
	bxc_json_set_u64(o, "size", (uint64_t)st.st_size);
	bxc_json_set_str(o, "data", text);
	return 0;
}

int run_prefetch(job *j, bxc_err **err)
{
	const bxc_json *doc;
	input in = {0};
	int r = bxc_json_need_obj(j->msg, "input", &doc, err);
	if (r >= 0)
		r = input_open(j, doc, &in, err);
	input_close(j, &in);
	j->result = r >= 0 ? bxc_json_object() : NULL;
	return r;
}

int run_read(job *j, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = -1;
	BXC_AUTOSTRV char **paths = NULL;
	const bxc_json *doc;
	uint64_t max = bxc_json_get_u64(j->msg, "max_bytes", 0);
	int64_t time_ns = INT64_MIN;
	input in = {0};
	int r = bxc_json_need_obj(j->msg, "input", &doc, err);
	if (r >= 0)
		r = bxc_json_get_strv(j->msg, "paths", &paths, err);
	if (r >= 0 && (bxc_strv_len(paths) > MAX_FILES || max > BXC_LIMIT_DOCKERFILE))
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"task: too many files, or too large a part of them");
	if (r >= 0)
		r = input_open(j, doc, &in, err);
	if (r >= 0 && !in.n_ids)
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "input: expected layers");
	if (r >= 0)
		r = bxc_snap_mount_ro(
			j->a->c.snap, (const char *const *)in.ids, in.n_ids, &fd, err);
	BXC_AUTOJSON bxc_json *result = bxc_json_object();
	bxc_json *files = bxc_json_add_array(result, "files");
	for (char **p = paths; r >= 0 && p && *p; p++)
		r = read_one(fd, *p, (size_t)max, bxc_json_push_object(files), err);
	if (r >= 0 && bxc_json_get_bool(j->msg, "want_time", false)) {
		BXC_AUTOCLOSE int dir_fd = -1;
		r = bxc_fs_open_beneath(
			fd, ".", O_RDONLY | O_DIRECTORY, 0, BXC_FS_IN_ROOT, &dir_fd, err);
		if (r >= 0)
			r = newest(dir_fd, 0, &time_ns, err);
		if (r >= 0 && time_ns != INT64_MIN)
			bxc_json_set_ns(result, "time_ns", time_ns);
	}
	if (r >= 0)
		j->result = BXC_TAKE(result);
	input_close(j, &in);
	return r;
}
