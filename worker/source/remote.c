/* SPDX-License-Identifier: Apache-2.0 */
/* Sources that lie elsewhere, of every kind. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/os/fd.h"
#include "common/os/fs.h"
#include "common/remote/remote.h"
#include "worker/source/source_internal.h"

#define UPLOAD "upload://"

/* ---- pins ---- */

void bxc_src_pin_done(bxc_src_pin *p)
{
	free(p->id);
	free(p->ref);
	free(p->filename);
	free(p->etag);
	*p = (bxc_src_pin){0};
}

bxc_json *bxc_src_pin_to_json(const bxc_src_pin *p)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "id", p->id);
	if (p->ref)
		bxc_json_set_str(j, "ref", p->ref);
	if (p->filename)
		bxc_json_set_str(j, "filename", p->filename);
	if (p->etag)
		bxc_json_set_str(j, "etag", p->etag);
	if (p->time_ns != INT64_MIN)
		bxc_json_set_ns(j, "time_ns", p->time_ns);
	return j;
}

int bxc_src_pin_from_json(const bxc_json *j, bxc_src_pin *ret, bxc_err **err)
{
	*ret = (bxc_src_pin){.time_ns = INT64_MIN};
	if (!j)
		return 0;
	if (!bxc_json_is_object(j))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "pin: expected an object");
	ret->id = bxc_strdup(bxc_json_get_str(j, "id", NULL));
	ret->ref = bxc_strdup(bxc_json_get_str(j, "ref", NULL));
	ret->filename = bxc_strdup(bxc_json_get_str(j, "filename", NULL));
	ret->etag = bxc_strdup(bxc_json_get_str(j, "etag", NULL));
	ret->time_ns = bxc_json_get_i64(j, "time_ns", INT64_MIN);
	return 0;
}

/* ---- both steps ---- */

static int unknown(const bxc_op_source *op, bxc_err **err)
{
	return bxc_err_set(err, BXC_UNIMPLEMENTED,
		"sources of the kind '%.256s' are not supported by this version of bxc",
		op->identifier);
}

int bxc_src_resolve(bxc_src *s, const bxc_op_source *op, const bxc_src_pin *known, bool want_time,
	const bxc_src_client *c, bxc_src_pin *ret, bxc_err **err)
{
	if (bxc_str_has_prefix(op->identifier, "git://"))
		return src_git_resolve(s, op, want_time, c, ret, err);
	if (bxc_remote_is_http(op->identifier))
		return src_http_resolve(s, op, known, c, ret, err);
	if (!bxc_str_has_prefix(op->identifier, UPLOAD))
		return unknown(op, err);
	*ret = (bxc_src_pin){
		.id = bxc_strdup(op->identifier + strlen(UPLOAD)), .time_ns = INT64_MIN};
	return 0;
}

struct owner {
	uint64_t uid, gid;
	uint32_t mode;
};

static int read_owner(const bxc_op_source *op, struct owner *ret, bxc_err **err)
{
	const char *uid = bxc_env_get(op->attrs, "http.uid"),
		   *gid = bxc_env_get(op->attrs, "http.gid");
	const char *perm = bxc_env_get(op->attrs, "http.perm");
	int r = 0;
	*ret = (struct owner){.mode = 0600};
	if (uid)
		r = bxc_str_to_u64(uid, 0, UINT32_MAX - 1, &ret->uid, err);
	if (r >= 0 && gid)
		r = bxc_str_to_u64(gid, 0, UINT32_MAX - 1, &ret->gid, err);
	if (r >= 0 && perm)
		r = bxc_str_to_octal(perm, 07777, &ret->mode, err);
	return bxc_err_wrap(err, r, "attributes of the source");
}

static char *file_name(const bxc_op_source *op, const bxc_src_pin *pin)
{
	const char *given = bxc_env_get(op->attrs, "http.filename");
	if (!given)
		given = pin->filename;
	if (given && bxc_remote_is_file_name(given))
		return bxc_strdup(given);
	char *name = bxc_remote_is_http(op->identifier) ? bxc_remote_url_name(op->identifier)
							: bxc_strdup("context");
	return name ? name : bxc_strdup("download");
}

static int write_file(
	bxc_src *s, const bxc_op_source *op, const bxc_src_pin *pin, int dir_fd, bxc_err **err)
{
	BXC_AUTOFREE char *name = file_name(op, pin);
	BXC_AUTOCLOSE int blob_fd = -1, fd = -1;
	bxc_digest d;
	uint64_t size;
	struct owner o;
	int r = read_owner(op, &o, err);
	if (r >= 0)
		r = bxc_digest_parse(pin->id, &d, err);
	if (r >= 0)
		r = bxc_blob_open(bxc_content_store(s->content), &d, &blob_fd, &size, err);
	if (r >= 0)
		r = bxc_fs_open_beneath(
			dir_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600, BXC_FS_NO_LINKS, &fd, err);
	if (r >= 0)
		r = bxc_fd_copy(blob_fd, 0, fd, size, err);
	if (r < 0)
		return r;
	int64_t at = pin->time_ns == INT64_MIN ? 0 : pin->time_ns;
	const struct timespec t[2] = {
		{at / BXC_NS_PER_S, at % BXC_NS_PER_S}, {at / BXC_NS_PER_S, at % BXC_NS_PER_S}};
	if (fchown(fd, (uid_t)o.uid, (gid_t)o.gid) < 0 || fchmod(fd, o.mode) < 0 ||
		futimens(fd, t) < 0)
		return bxc_err_errno(err, errno, "'%s'", name);
	return 0;
}

int bxc_src_write(bxc_src *s, const bxc_op_source *op, const bxc_src_pin *pin,
	const bxc_src_client *c, int dir_fd, bxc_err **err)
{
	if (bxc_str_has_prefix(op->identifier, "git://"))
		return src_git_write(s, op, pin, c, dir_fd, err);
	if (!bxc_remote_is_http(op->identifier) && !bxc_str_has_prefix(op->identifier, UPLOAD))
		return unknown(op, err);
	BXC_AUTOSRCPIN bxc_src_pin p = {.id = bxc_strdup(pin->id),
		.filename = bxc_strdup(pin->filename),
		.time_ns = pin->time_ns};
	BXC_AUTOFREE char *key = bxc_str_fmt("file %s", p.id ? p.id : "");
	bxc_digest d;
	src_claim(s, key);
	int r = src_http_fetch(s, op, c, &p, err);
	if (r >= 0)
		r = write_file(s, op, &p, dir_fd, err);
	/* The layer has it now. */
	if (r >= 0 && bxc_digest_parse(p.id, &d, NULL) >= 0)
		bxc_ignore(bxc_blob_remove(bxc_content_store(s->content), &d, NULL));
	src_release(s, key);
	return r;
}
