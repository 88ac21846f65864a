/* SPDX-License-Identifier: Apache-2.0 */
/* A result as a tree: for the client's tarball, or for its folder, where it unpacks the same stream. */
#include "worker/export/export_internal.h"

#include <string.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/filesync/filesync.h"
#include "worker/diff/diff.h"

static char *platform_dir(const bxc_platform *p)
{
	char *s = bxc_platform_str(p);
	for (char *c = s; *c; c++)
		if (*c == '/')
			*c = '_';
	return s;
}

/* Every file of the tree, by its path and digest: what a statement about a tree is about. */
static int files_of(int root_fd, const bxc_exp_request *q, bxc_json **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = NULL;
	const bxc_tree_walk_opts o = {.hash = true};
	int r = bxc_tree_walk(root_fd, &o, q->cancel, &t, err);
	if (r < 0)
		return r;
	bxc_json *list = bxc_json_array();
	BXC_ARR_FOREACH (e, &t->entries)
		if (S_ISREG(e->mode) && !e->is_hardlink)
			add_subject(list, e->path + 1, &e->digest);
	*ret = list;
	return 0;
}

static int write_statements(int root_fd, const bxc_exp_request *q, const bxc_exp_image *img, const char *prefix, bxc_tar_writer *w, bxc_err **err)
{
	const char *name_prefix = attr(q, "attestation-prefix");
	BXC_JSON_FOREACH (a, img->attestations) {
		bxc_json *subjects;
		const char *type;
		int r = files_of(root_fd, q, &subjects, err);
		if (r < 0)
			return r;
		BXC_AUTOFREE char *text = statement_print(a, subjects, &type, err);
		if (!text)
			return -BXC_INVALID_ARGUMENT;
		BXC_AUTOFREE char *path = bxc_str_fmt("%s%s%sprovenance.json", prefix ? prefix : "", prefix ? "/" : "", name_prefix ? name_prefix : "");
		const bxc_tar_entry e = {.kind = BXC_TAR_FILE, .path = path, .mode = 0600, .size = strlen(text), .mtime_s = q->now_ns / BXC_NS_PER_S};
		r = bxc_tar_writer_entry(w, &e, err);
		if (r >= 0)
			r = bxc_tar_writer_data(w, text, strlen(text), err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int mount_image(bxc_snap *snap, const bxc_exp_image *img, int *ret_fd, bxc_err **err)
{
	BXC_AUTOSTRV char **ids = NULL;
	BXC_ARR_FOREACH (l, &img->layers.items)
		bxc_strv_push(&ids, l->id);
	return bxc_snap_mount_ro(snap, (const char *const *)ids, bxc_strv_len(ids), ret_fd, err);
}

static int write_platform(bxc_snap *snap, const bxc_exp_request *q, const bxc_exp_image *img, bool split, bxc_tar_writer *w, bxc_err **err)
{
	BXC_AUTOCLOSE int root_fd = -1;
	BXC_AUTOFREE char *prefix = split ? platform_dir(&img->platform) : NULL;
	int r = mount_image(snap, img, &root_fd, err);
	if (r >= 0)
		r = bxc_diff_write_tree(root_fd, prefix, w, q->cancel, err);
	return r < 0 ? r : write_statements(root_fd, q, img, prefix, w, err);
}

/* Platforms that share one folder may share folders in it, and no file. */
static int check_apart(bxc_snap *snap, const bxc_exp_request *q, bxc_err **err)
{
	BXC_CLEANUP(bxc_map_freep) bxc_map *of = bxc_map_new(NULL);
	int r = 0;
	for (size_t i = 0; r >= 0 && i < q->images.n; i++) {
		const bxc_exp_image *img = &q->images.v[i];
		BXC_AUTOCLOSE int root_fd = -1;
		BXC_CLEANUP(bxc_tree_freep) bxc_tree *t = NULL;
		r = mount_image(snap, img, &root_fd, err);
		if (r >= 0)
			r = bxc_tree_walk(root_fd, &(bxc_tree_walk_opts){.hash = false}, q->cancel, &t, err);
		for (size_t k = 0; r >= 0 && k < t->entries.n; k++) {
			const bxc_tree_entry *e = &t->entries.v[k];
			const bxc_exp_image *other = S_ISDIR(e->mode) ? NULL : bxc_map_get(of, e->path);
			if (other) {
				BXC_AUTOFREE char *a = bxc_platform_str(&other->platform);
				BXC_AUTOFREE char *b = bxc_platform_str(&img->platform);
				r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "cannot overwrite %s from %s with %s when split option is disabled",
					e->path + 1, a, b);
			} else if (!S_ISDIR(e->mode)) {
				bxc_map_set(of, e->path, (void *)(uintptr_t)img);
			}
		}
	}
	return r;
}

int export_tree(bxc_snap *snap, const bxc_exp_request *q, bxc_err **err)
{
	bool split;
	bool many = q->images.n > 1 || q->multi_platform;
	bxc_sink_fn sink;
	void *sink_ud;
	BXC_CLEANUP(bxc_tar_writer_freep) bxc_tar_writer *w = NULL;
	int r = bxc_output_bool(q->attrs, "platform-split", many, &split, err);
	/* A tarball of several platforms always has a folder for each. */
	if (many && bxc_str_eq(q->type, "tar"))
		split = true;
	if (r >= 0 && many && !split)
		r = check_apart(snap, q, err);
	if (r >= 0)
		r = q->open(&sink, &sink_ud, q->ud, err);
	if (r >= 0 && strchr(attr(q, "attestation-prefix") ? attr(q, "attestation-prefix") : "", '/'))
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "attestation-prefix: a part of a file's name, without '/'");
	const char *what = bxc_str_eq(q->type, "local") ? "copying files" : "sending tarball";
	if (r >= 0)
		r = bxc_tar_writer_new(bxc_str_eq(q->type, "local") ? BXC_TAR_KEEP_NS : 0, sink, sink_ud, &w, err);
	if (r >= 0 && q->has_epoch)
		bxc_tar_writer_bound_mtime(w, q->epoch_ns / BXC_NS_PER_S, q->epoch_ns / BXC_NS_PER_S);
	if (r >= 0)
		q->status(what, 0, 0, false, q->ud);
	BXC_ARR_FOREACH (i, &q->images)
		if (r >= 0)
			r = write_platform(snap, q, i, split, w, err);
	if (r >= 0)
		r = bxc_tar_writer_finish(w, err);
	if (r >= 0)
		q->status(what, 0, 0, true, q->ud);
	return r;
}
