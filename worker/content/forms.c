/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was packed once is not packed again: which blob the tar of a diff id became by an algorithm
 * and a level. One small file for each; a lost or damaged one costs the work that it would have
 * saved.
 */
#include <fcntl.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/json.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "worker/content/content_internal.h"

#define FORM_MAX  4096u
#define FORMS_MAX (1u << 24)
/* Goes up when a compressor gives other bytes for the same input. */
#define VERSION 1

int content_forms_open(bxc_content *c, const char *dir, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/forms", dir);
	int r = bxc_fs_make_dirs(AT_FDCWD, path, 0700, err);
	return r < 0 ? r : bxc_fs_open_dir(AT_FDCWD, path, &c->forms_fd, err);
}

static char *name_of(const bxc_digest *diff_id, bxc_compression c, int level)
{
	char d[BXC_DIGEST_STR_MAX];
	return bxc_str_fmt("%s-%s-%d-v%d", bxc_digest_str(diff_id, d) + strlen("sha256:"),
		bxc_compression_name(c), level, VERSION);
}

static bool read_form(bxc_content *c, const char *name, bxc_descriptor *ret)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(FORM_MAX);
	BXC_AUTOJSON bxc_json *j = NULL;
	bxc_descriptor d = {0};
	if (bxc_fs_read_file(c->forms_fd, name, FORM_MAX, &text, NULL) < 0 ||
		bxc_json_parse(bxc_buf_slice(&text), &j, NULL) < 0 ||
		bxc_descriptor_from_json(j, &d, NULL) < 0)
		return false;
	if (!bxc_blob_has(c->store, &d.digest)) {
		bxc_descriptor_done(&d);
		return false;
	}
	*ret = d;
	return true;
}

bool bxc_content_form(bxc_content *c, const bxc_digest *diff_id, bxc_compression compression,
	int level, bxc_descriptor *ret)
{
	BXC_AUTOFREE char *name = name_of(diff_id, compression, level);
	return read_form(c, name, ret);
}

void bxc_content_form_add(bxc_content *c, const bxc_digest *diff_id, bxc_compression compression,
	int level, const bxc_descriptor *d)
{
	BXC_AUTOFREE char *name = name_of(diff_id, compression, level);
	BXC_AUTOJSON bxc_json *j = bxc_descriptor_to_json(d);
	BXC_AUTOFREE char *text = bxc_json_print(j);
	bxc_ignore(bxc_fs_write_atomic(c->forms_fd, name, text, strlen(text), 0600, NULL));
}

/* False: there is nothing behind it. */
static bool list_one(bxc_content *c, const char *name, bxc_content_made_list *ret)
{
	size_t n = strcspn(name, "-");
	BXC_AUTOFREE char *text = bxc_str_fmt("sha256:%.*s", (int)n, name);
	bxc_content_made m = {0};
	bxc_descriptor d = {0};
	if (bxc_digest_parse(text, &m.diff_id, NULL) < 0 || !read_form(c, name, &d))
		return false;
	m.blob = d.digest;
	m.size = d.size;
	*bxc_arr_push(ret) = m;
	bxc_descriptor_done(&d);
	return true;
}

int bxc_content_forms(bxc_content *c, bxc_content_made_list *ret, bxc_err **err)
{
	BXC_AUTOSTRV char **names = NULL;
	int r = bxc_fs_list_dir(c->forms_fd, ".", FORMS_MAX, &names, err);
	for (char **n = names; r >= 0 && n && *n; n++)
		if (!list_one(c, *n, ret))
			bxc_ignore(bxc_fs_unlink(c->forms_fd, *n, NULL));
	return r < 0 ? bxc_err_wrap(err, r, "forms of layers") : 0;
}
