/* SPDX-License-Identifier: Apache-2.0 */
/* The file of builders. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "client/builder/builder.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/json.h"
#include "common/os/fs.h"

#define FILE_NAME "builders.json"
#define FILE_MAX  (4u << 20)
#define VERSION   1

static int config_dir(char **ret, bxc_err **err)
{
	const char *own = getenv("BXC_CONFIG"), *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	if (!bxc_str_empty(own))
		*ret = bxc_strdup(own);
	else if (!bxc_str_empty(xdg))
		*ret = bxc_str_fmt("%s/bxc", xdg);
	else if (!bxc_str_empty(home))
		*ret = bxc_str_fmt("%s/.config/bxc", home);
	else
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "no folder for configuration: set BXC_CONFIG or HOME");
	return 0;
}

static int read_builder(const bxc_json *j, bxc_bstore *s, bxc_err **err)
{
	const char *name, *endpoint;
	int r = bxc_json_need_str(j, "name", &name, err);
	if (r >= 0)
		r = bxc_json_need_str(j, "endpoint", &endpoint, err);
	if (r < 0)
		return r;
	BXC_CLEANUP(bxc_builder_freep) bxc_builder *b = bxc_calloc(1, sizeof(*b));
	b->name = bxc_strdup(name);
	b->endpoint = bxc_strdup(endpoint);
	b->ca_file = bxc_strdup(bxc_json_get_str(j, "ca", NULL));
	b->channel = bxc_strdup(bxc_json_get_str(j, "channel", NULL));
	const char *token = bxc_json_get_str(j, "token", NULL);
	if (!bxc_str_empty(token))
		b->token = bxc_secret_new(token, strlen(token));
	r = bxc_bstore_add(s, b, err);
	if (r < 0)
		return r;
	(void)BXC_TAKE(b);
	return 0;
}

static int read_file(bxc_bstore *s, int dir_fd, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(FILE_MAX);
	BXC_AUTOJSON bxc_json *j = NULL;
	const bxc_json *list;
	int r = bxc_fs_read_file(dir_fd, FILE_NAME, FILE_MAX, &text, err);
	if (r >= 0)
		r = bxc_json_parse(bxc_buf_slice(&text), &j, err);
	if (r < 0)
		return r;
	if (bxc_json_get_i64(j, "version", 0) != VERSION)
		return bxc_err_set(err, BXC_FAILED_PRECONDITION, "written by another version of bxc");
	r = bxc_json_need_arr(j, "builders", &list, err);
	if (r < 0)
		return r;
	BXC_JSON_FOREACH (it, list) {
		r = read_builder(it, s, err);
		if (r < 0)
			return r;
	}
	const char *current = bxc_json_get_str(j, "current", NULL);
	if (current && bxc_bstore_find(s, current))
		s->current = bxc_strdup(current);
	return 0;
}

/* Waits, unlike bxc_fs_lock: whoever changes the file is done in a moment. */
static int lock_store(bxc_bstore *s, bxc_err **err)
{
	int r = bxc_fs_make_dirs(AT_FDCWD, s->dir, 0700, err);
	if (r < 0)
		return r;
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/.lock", s->dir);
	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0)
		return bxc_err_errno(err, errno, "open '%s'", path);
	while (flock(s->lock_fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return bxc_err_errno(err, errno, "lock '%s'", path);
	return 0;
}

int bxc_bstore_open(bool for_change, bxc_bstore **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_bstore_freep) bxc_bstore *s = bxc_calloc(1, sizeof(*s));
	s->lock_fd = -1;
	int r = config_dir(&s->dir, err);
	if (r >= 0 && for_change)
		r = lock_store(s, err);
	if (r < 0)
		return r;
	BXC_AUTOERR bxc_err *why = NULL;
	BXC_AUTOCLOSE int dir_fd = -1;
	r = bxc_fs_open_dir(AT_FDCWD, s->dir, &dir_fd, &why);
	if (r >= 0)
		r = read_file(s, dir_fd, &why);
	if (r < 0 && bxc_err_code(why) != BXC_NOT_FOUND)
		return bxc_err_wrap_take(err, BXC_TAKE(why), r, "%s/" FILE_NAME, s->dir);
	*ret = BXC_TAKE(s);
	return 0;
}

void bxc_bstore_free(bxc_bstore *s)
{
	if (!s)
		return;
	BXC_ARR_FOREACH (b, &s->builders)
		bxc_builder_free(*b);
	bxc_arr_done(&s->builders);
	free(s->dir);
	free(s->current);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s);
}

int bxc_bstore_save(bxc_bstore *s, bxc_err **err)
{
	bxc_check(s->lock_fd >= 0);
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_i64(j, "version", VERSION);
	bxc_json_set_str(j, "current", s->current);
	bxc_json *list = bxc_json_add_array(j, "builders");
	BXC_ARR_FOREACH (it, &s->builders) {
		const bxc_builder *b = *it;
		bxc_json *o = bxc_json_push_object(list);
		bxc_json_set_str(o, "name", b->name);
		bxc_json_set_str(o, "endpoint", b->endpoint);
		bxc_json_set_str(o, "ca", b->ca_file);
		bxc_json_set_str(o, "channel", b->channel);
		if (b->token)
			bxc_json_set_str(o, "token", (const char *)bxc_secret_bytes(b->token).p);
	}
	BXC_AUTOFREE char *text = bxc_json_print_pretty(j);
	BXC_AUTOCLOSE int dir_fd = -1;
	int r = bxc_fs_open_dir(AT_FDCWD, s->dir, &dir_fd, err);
	if (r >= 0)
		r = bxc_fs_write_atomic(dir_fd, FILE_NAME, text, strlen(text), 0600, err);
	explicit_bzero(text, strlen(text));
	return bxc_err_wrap(err, r, "write %s/" FILE_NAME, s->dir);
}

/* ---- look-up and change ---- */

static size_t index_of(const bxc_bstore *s, const char *name)
{
	for (size_t i = 0; i < s->builders.n; i++)
		if (bxc_str_eq(s->builders.v[i]->name, name))
			return i;
	return SIZE_MAX;
}

static int no_builder(const char *name, bxc_err **err)
{
	return bxc_err_set(err, BXC_NOT_FOUND, "no builder \"%s\" found", name);
}

const bxc_builder *bxc_bstore_find(const bxc_bstore *s, const char *name)
{
	size_t i = index_of(s, name);
	return i == SIZE_MAX ? NULL : s->builders.v[i];
}

int bxc_bstore_add(bxc_bstore *s, bxc_builder *b, bxc_err **err)
{
	BXC_AUTOFREE char *url = NULL;
	BXC_AUTOFREE char *path = NULL;
	if (!bxc_builder_name_is_valid(b->name))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid builder name \"%s\": it starts with a letter and goes on with letters, digits, '.', '_', '-'", b->name);
	if (bxc_str_eq(b->name, BXC_BUILDER_EMBEDDED))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the name \"%s\" is the embedded cluster's", b->name);
	if (bxc_bstore_find(s, b->name))
		return bxc_err_set(err, BXC_ALREADY_EXISTS, "there is a builder \"%s\" already", b->name);
	int r = bxc_builder_parse_endpoint(b->endpoint, &url, &path, err);
	if (r < 0)
		return r;
	*bxc_arr_push(&s->builders) = b;
	return 0;
}

int bxc_bstore_remove(bxc_bstore *s, const char *name, bxc_err **err)
{
	size_t i = index_of(s, name);
	if (i == SIZE_MAX)
		return bxc_str_eq(name, BXC_BUILDER_EMBEDDED)
			       ? bxc_err_set(err, BXC_FAILED_PRECONDITION, "the embedded cluster cannot be removed")
			       : no_builder(name, err);
	bxc_builder_free(s->builders.v[i]);
	bxc_arr_remove(&s->builders, i);
	if (bxc_str_eq(s->current, name))
		free(BXC_TAKE(s->current));
	return 0;
}

int bxc_bstore_use(bxc_bstore *s, const char *name, bxc_err **err)
{
	bool embedded = bxc_str_eq(name, BXC_BUILDER_EMBEDDED);
	if (!embedded && !bxc_bstore_find(s, name))
		return no_builder(name, err);
	free(s->current);
	s->current = embedded ? NULL : bxc_strdup(name);
	return 0;
}

const char *bxc_bstore_selected(const bxc_bstore *s, const char *given)
{
	const char *names[] = {given, getenv("BUILDX_BUILDER"), getenv("BXC_BUILDER"), s->current};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(names); i++)
		if (!bxc_str_empty(names[i]))
			return names[i];
	return BXC_BUILDER_EMBEDDED;
}

int bxc_bstore_resolve(const bxc_bstore *s, const char *given, bxc_builder **ret, bxc_err **err)
{
	const char *name = bxc_bstore_selected(s, given);
	const bxc_builder *b = bxc_bstore_find(s, name);
	if (b) {
		*ret = bxc_builder_copy(b);
		return 0;
	}
	if (!bxc_str_eq(name, BXC_BUILDER_EMBEDDED))
		return no_builder(name, err);
	bxc_builder *e = bxc_calloc(1, sizeof(*e));
	e->name = bxc_strdup(name);
	e->embedded = true;
	*ret = e;
	return 0;
}
