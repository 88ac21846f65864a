/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks about results: checksums, blobs for peers, exports. */
#include "worker/agent/agent_internal.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"
#include "worker/export/export.h"

#define MAX_SELECTIONS 4096u
#define REPLY_MAX      (64u << 10)

/* ---- checksum ---- */

static int one_selection(const bxc_tree *t, const bxc_json *j, bxc_digest *ret, bxc_err **err)
{
	BXC_AUTOSTRV char **include = NULL;
	BXC_AUTOSTRV char **exclude = NULL;
	const char *path;
	int r = bxc_json_need_str(j, "path", &path, err);
	if (r >= 0)
		r = bxc_json_get_strv(j, "include", &include, err);
	if (r >= 0)
		r = bxc_json_get_strv(j, "exclude", &exclude, err);
	if (r < 0)
		return r;
	const bxc_tree_select s = {
		.path = path,
		.wildcard = bxc_json_get_bool(j, "wildcard", false),
		.allow_empty = bxc_json_get_bool(j, "allow_empty", false),
		.follow = bxc_json_get_bool(j, "follow", false),
		.dir_contents = bxc_json_get_bool(j, "dir_contents", false),
		.include = include,
		.exclude = exclude,
	};
	return bxc_tree_checksum(t, &s, ret, err);
}

/* Without patterns that bring back what others take, only the fixed beginnings of what is included of the root matter. */
static bool is_bounded(char *const *include)
{
	bool any = false;
	for (; include && *include; include++) {
		const char *p = *include;
		size_t meta = strcspn(p, "*?[\\");
		if (*p == '!' || !*p || (p[meta] && meta <= strcspn(p, "/")))
			return false;
		any = true;
	}
	return any;
}

/* What a selection can cover, as paths and patterns of a walk: what is not walked is not hashed. */
static void add_walked(const bxc_json *selection, char ***paths)
{
	const char *path = bxc_json_get_str(selection, "path", NULL);
	BXC_AUTOSTRV char **include = NULL;
	if (!path)
		return;
	bxc_ignore(bxc_json_get_strv(selection, "include", &include, NULL));
	if (!bxc_str_eq(path, "/") || !is_bounded(include)) {
		bxc_strv_push(paths, path);
		return;
	}
	for (char **p = include; *p; p++) {
		size_t n = strcspn(*p, "*?[\\");
		/* A pattern begins in the middle of a name: the folder of that counts. */
		while ((*p)[n] && n && (*p)[n - 1] != '/')
			n--;
		bxc_strv_pushf(paths, "/%.*s", (int)n, *p);
	}
}

int run_checksum(job *j, bxc_err **err)
{
	const bxc_json *selections;
	input in = {0};
	BXC_AUTOCLOSE int root_fd = -1;
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *tree = NULL;
	BXC_AUTOSTRV char **include = NULL;
	int r = bxc_json_need_arr(j->msg, "selections", &selections, err);
	if (r >= 0 && bxc_json_len(selections) > MAX_SELECTIONS)
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "selections: more than %u", MAX_SELECTIONS);
	if (r >= 0)
		r = input_open(j, bxc_json_get(j->msg, "input"), &in, err);
	if (r >= 0)
		r = bxc_snap_mount_ro(j->a->c.snap, (const char *const *)in.ids, in.n_ids, &root_fd, err);
	if (r >= 0) {
		BXC_JSON_FOREACH (s, selections)
			add_walked(s, &include);
		const bxc_tree_walk_opts w = {.include = include, .hash = true, .want_xattrs = true};
		r = bxc_tree_walk(root_fd, &w, j->cancel, &tree, err);
	}
	if (r >= 0) {
		bxc_json *result = bxc_json_object();
		bxc_json *list = bxc_json_add_array(result, "digests");
		BXC_JSON_FOREACH (s, selections) {
			char text[BXC_DIGEST_STR_MAX];
			bxc_digest d;
			r = one_selection(tree, s, &d, err);
			if (r < 0)
				break;
			bxc_json_push_str(list, bxc_digest_str(&d, text));
		}
		if (r < 0) {
			bxc_ignore(bxc_err_wrap(err, r, "failed to compute cache key"));
			bxc_json_free(result);
		} else {
			j->result = result;
		}
	}
	input_close(j, &in);
	return r;
}

/* ---- publish ---- */

int run_publish(job *j, bxc_err **err)
{
	BXC_AUTOSTRV char **ids = NULL;
	bxc_descriptor d = {0};
	bxc_digest diff_id;
	char text[BXC_DIGEST_STR_MAX];
	int r = bxc_json_get_strv(j->msg, "layers", &ids, err);
	bxc_compression c = bxc_compression_parse(bxc_json_get_str(j->msg, "compression", ""));
	size_t n = bxc_strv_len(ids);
	if (r >= 0 && (n == 0 || c == BXC_COMPRESSION_UNKNOWN))
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "publish: layers and a compression are needed");
	if (r >= 0)
		r = bxc_snap_pin(j->a->c.snap, (const char *const *)ids, n, err);
	if (r < 0)
		return r;
	const bxc_src_form form = {.compression = c, .latest_s = INT64_MAX};
	r = bxc_src_own_blob(j->a->src, (const char *const *)ids, n, &form, j->cancel, &d, &diff_id, err);
	bxc_snap_unpin(j->a->c.snap, (const char *const *)ids, n);
	if (r < 0)
		return r;
	j->result = bxc_json_object();
	bxc_json *o = bxc_json_push_object(bxc_json_add_array(j->result, "layers"));
	bxc_json_set_str(o, "id", ids[n - 1]);
	bxc_json_set_str(o, "diff_id", bxc_digest_str(&diff_id, text));
	bxc_json_set_take(o, "blob", bxc_descriptor_to_json(&d));
	bxc_descriptor_done(&d);
	return 0;
}

/* ---- export ---- */

struct exporting {
	job *j;
	const char *type;
	uint64_t index;
	bxc_chan_stream *stream;
};

static int to_client(const void *p, size_t n, void *ud, bxc_err **err)
{
	struct exporting *x = ud;
	return bxc_chan_stream_write(x->stream, p, n, x->j->cancel, err);
}

static int open_client(bxc_sink_fn *ret_sink, void **ret_ud, void *ud, bxc_err **err)
{
	struct exporting *x = ud;
	bxc_json *q = bxc_json_object();
	bxc_json_set_str(q, "build", x->j->build);
	bxc_json_set_u64(q, "index", x->index);
	bxc_json_set_str(q, "type", x->type);
	int r = open_client_stream(x->j, "export", q, &x->stream, err);
	if (r < 0)
		return r;
	*ret_sink = to_client;
	*ret_ud = x;
	return 0;
}

static void on_status(const char *id, uint64_t current, uint64_t total, bool done, void *ud)
{
	struct exporting *x = ud;
	send_status(x->j, id, current, total, done);
}

/* The client says when it has stored everything durably. */
static int wait_stored(struct exporting *x, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf reply = BXC_BUF_INIT(REPLY_MAX);
	int r = bxc_chan_stream_write_eof(x->stream, err);
	if (r >= 0)
		r = bxc_chan_stream_read_all(x->stream, &reply, x->j->cancel, err);
	return r;
}

static bool is_tree(const char *type)
{
	return bxc_str_eq(type, "local") || bxc_str_eq(type, "tar");
}

/*
 * The layers that an export must have unpacked, as an INPUT. An image takes those of elsewhere as they
 * are: only what lies below a layer that is to be packed counts. Built ones of other clusters are packed
 * anew when their times are to change.
 */
static bxc_json *unpacked_input(const bxc_json *doc, const bxc_src_layers *layers, bool tree, bool rewrite)
{
	size_t n = layers->items.n;
	BXC_AUTOFREE bool *want = bxc_calloc(n, sizeof(*want));
	for (size_t i = 0; i < n; i++) {
		const bxc_src_layer *l = &layers->items.v[i];
		bool packed = !bxc_src_is_elsewhere(l) || (rewrite && l->created_ns);
		size_t below = tree || !packed ? 0 : BXC_MIN(l->n_below, i);
		for (size_t k = i - below; k <= i; k++)
			want[k] |= k < i || tree || packed;
	}
	bxc_json *ret = bxc_json_object();
	bxc_json *list = bxc_json_add_array(ret, "layers");
	size_t i = 0;
	BXC_JSON_FOREACH (l, bxc_json_get(doc, "layers"))
		if (want[i++])
			bxc_json_push_take(list, bxc_json_dup(l));
	return ret;
}

static int read_images(job *j, bxc_exp_request *q, input **ret_inputs, bxc_err **err)
{
	const bxc_json *images;
	bool rewrite;
	int r = bxc_json_need_arr(j->msg, "images", &images, err);
	if (r >= 0)
		r = bxc_output_bool(q->attrs, "rewrite-timestamp", false, &rewrite, err);
	if (r < 0)
		return r;
	*ret_inputs = bxc_calloc(bxc_json_len(images), sizeof(input));
	BXC_JSON_FOREACH (doc, images) {
		const char *platform;
		bxc_exp_image *img = bxc_arr_push(&q->images);
		r = bxc_json_need_str(doc, "platform", &platform, err);
		if (r >= 0)
			r = bxc_platform_parse(platform, &img->platform, err);
		if (r >= 0)
			r = bxc_oci_config_from_json(bxc_json_get(doc, "config"), &img->config, err);
		if (r >= 0)
			r = bxc_src_layers_parse(bxc_json_get(doc, "layers"), &img->layers, err);
		img->attestations = bxc_json_get(doc, "attestations");
		if (r < 0)
			return r;
		const char *records = bxc_json_get_str(doc, "inline_cache", NULL);
		img->inline_cache = records ? bxc_base64_encode(records, strlen(records)) : NULL;
		/* Made present and pinned as any input. */
		BXC_AUTOJSON bxc_json *needed = unpacked_input(doc, &img->layers, is_tree(q->type), rewrite);
		r = input_open(j, needed, &(*ret_inputs)[q->images.n - 1], err);
		if (r < 0)
			return r;
	}
	return 0;
}

int run_export(job *j, bxc_err **err)
{
	const bxc_json *spec;
	struct exporting x = {.j = j, .index = bxc_json_get_u64(j->msg, "index", 0)};
	bxc_exp_request q = {
		.now_ns = bxc_json_get_i64(j->msg, "now_ns", bxc_clock_wall_ns()),
		.has_epoch = bxc_json_get(j->msg, "epoch_ns") != NULL,
		.epoch_ns = bxc_json_get_i64(j->msg, "epoch_ns", 0),
		.multi_platform = bxc_json_get_bool(j->msg, "multi_platform", false),
		.open = open_client,
		.status = on_status,
		.ud = &x,
		.reach = &j->reach,
		.cancel = j->cancel,
	};
	input *inputs = NULL;
	bxc_json *response = NULL;
	int r = bxc_json_need_obj(j->msg, "export", &spec, err);
	if (r >= 0)
		r = bxc_json_need_str(spec, "type", &q.type, err);
	if (r >= 0) {
		x.type = q.type;
		q.attrs = bxc_json_get(spec, "attrs");
		r = read_images(j, &q, &inputs, err);
	}
	if (r >= 0)
		r = bxc_exp_run(j->a->src, j->a->c.snap, j->a->c.content, &q, &response, err);
	if (r >= 0 && x.stream)
		r = wait_stored(&x, err);
	if (r >= 0) {
		j->result = bxc_json_object();
		bxc_json_set_take(j->result, "response", BXC_TAKE(response));
	}
	bxc_json_free(response);
	bxc_chan_stream_free(x.stream);
	for (size_t i = 0; i < q.images.n; i++)
		input_close(j, &inputs[i]);
	free(inputs);
	bxc_exp_request_done(&q);
	return r;
}
