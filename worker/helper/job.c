/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The job as bytes. The magic names the version: worker and helper come from one build, so there is
 * no other to understand. Records, each "key=value" and a NUL:
 *
 *     parent=PID  unmount=PATH*  cgroup=FD*  (mount=FD at=PATH)*  (bind=FROM select=PATH to=PATH)*
 * arg=TEXT+
 */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "worker/helper/helper.h"

#define MAGIC	    "bxc-exec-1"
#define MAX_ARGS    64u
#define MAX_CGROUPS 16u

void bxc_helper_job_done(bxc_helper_job *j)
{
	bxc_strv_free(j->unmount);
	bxc_strv_free(j->argv);
	bxc_arr_done(&j->cgroup_fds);
	BXC_ARR_FOREACH (m, &j->mounts)
		free(m->at);
	bxc_arr_done(&j->mounts);
	BXC_ARR_FOREACH (b, &j->binds) {
		free(b->from);
		free(b->select);
		free(b->to);
	}
	bxc_arr_done(&j->binds);
	*j = (bxc_helper_job){0};
}

void bxc_helper_add_mount(bxc_helper_job *j, int fd, const char *at)
{
	bxc_helper_mount *m = bxc_arr_push(&j->mounts);
	m->fd = fd;
	m->at = bxc_strdup(at);
}

void bxc_helper_add_bind(bxc_helper_job *j, const char *from, const char *select, const char *to)
{
	bxc_helper_bind *b = bxc_arr_push(&j->binds);
	b->from = bxc_strdup(from);
	b->select = bxc_strdup(select);
	b->to = bxc_strdup(to);
}

static int put(bxc_buf *out, const char *key, const char *value, bxc_err **err)
{
	int r = bxc_buf_appendf(out, err, "%s=%s", key, value);
	return r < 0 ? r : bxc_buf_append(out, "", 1, err);
}

static int put_number(bxc_buf *out, const char *key, long value, bxc_err **err)
{
	BXC_AUTOFREE char *text = bxc_str_fmt("%ld", value);
	return put(out, key, text, err);
}

int bxc_helper_job_encode(const bxc_helper_job *j, bxc_buf *out, bxc_err **err)
{
	int r = bxc_buf_append(out, MAGIC, sizeof(MAGIC), err);
	if (r == 0)
		r = put_number(out, "parent", (long)j->parent, err);
	for (char **p = j->unmount; r == 0 && p && *p; p++)
		r = put(out, "unmount", *p, err);
	for (size_t i = 0; r == 0 && i < j->cgroup_fds.n; i++)
		r = put_number(out, "cgroup", j->cgroup_fds.v[i], err);
	for (size_t i = 0; r == 0 && i < j->mounts.n; i++) {
		r = put_number(out, "mount", j->mounts.v[i].fd, err);
		if (r == 0)
			r = put(out, "at", j->mounts.v[i].at, err);
	}
	for (size_t i = 0; r == 0 && i < j->binds.n; i++) {
		r = put(out, "bind", j->binds.v[i].from, err);
		if (r == 0)
			r = put(out, "select", j->binds.v[i].select, err);
		if (r == 0)
			r = put(out, "to", j->binds.v[i].to, err);
	}
	for (char **p = j->argv; r == 0 && p && *p; p++)
		r = put(out, "arg", *p, err);
	return r;
}

/* The value when the record has this key, else NULL. */
static const char *value_of(const char *record, const char *key)
{
	size_t n = strlen(key);
	return strncmp(record, key, n) == 0 && record[n] == '=' ? record + n + 1 : NULL;
}

static int number(const char *text, uint64_t min, uint64_t max, int *ret, bxc_err **err)
{
	uint64_t v = 0;
	int r = bxc_str_to_u64(text, min, max, &v, err);
	if (r == 0)
		*ret = (int)v;
	return r;
}

static int refuse(const char *record, bxc_err **err)
{
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "job: unexpected '%.64s'", record);
}

static int absolute(const char *path, bxc_err **err)
{
	if (*path != '/')
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "job: '%.64s' is no absolute path", path);
	return 0;
}

static int take(bxc_helper_job *j, const char *record, bxc_err **err)
{
	const char *v = NULL;
	int fd = -1;
	bxc_helper_mount *m = j->mounts.n ? &j->mounts.v[j->mounts.n - 1] : NULL;
	bxc_helper_bind *b = j->binds.n ? &j->binds.v[j->binds.n - 1] : NULL;
	bool mount_open = m && !m->at, bind_open = b && !b->to;
	if ((v = value_of(record, "at")) && mount_open) {
		int r = absolute(v, err);
		if (r == 0)
			m->at = bxc_strdup(v);
		return r;
	}
	if ((v = value_of(record, "select")) && bind_open && !b->select) {
		b->select = bxc_strdup(v);
		return 0;
	}
	if ((v = value_of(record, "to")) && bind_open && b->select) {
		int r = absolute(v, err);
		if (r == 0)
			b->to = bxc_strdup(v);
		return r;
	}
	if (mount_open || bind_open)
		return refuse(record, err);
	if ((v = value_of(record, "parent")))
		return number(v, 1, INT32_MAX, &j->parent, err);
	if ((v = value_of(record, "unmount"))) {
		int r = absolute(v, err);
		if (r == 0)
			bxc_strv_push(&j->unmount, v);
		return r;
	}
	if ((v = value_of(record, "cgroup")) && j->cgroup_fds.n < MAX_CGROUPS) {
		int r = number(v, BXC_HELPER_FIRST_FD, BXC_HELPER_MAX_FD, &fd, err);
		if (r == 0)
			*bxc_arr_push(&j->cgroup_fds) = fd;
		return r;
	}
	if ((v = value_of(record, "mount")) && j->mounts.n < BXC_HELPER_MAX_MOUNTS) {
		int r = number(v, BXC_HELPER_FIRST_FD, BXC_HELPER_MAX_FD, &fd, err);
		if (r == 0)
			bxc_arr_push(&j->mounts)->fd = fd;
		return r;
	}
	if ((v = value_of(record, "bind")) && j->binds.n < BXC_HELPER_MAX_MOUNTS) {
		int r = absolute(v, err);
		if (r == 0)
			bxc_arr_push(&j->binds)->from = bxc_strdup(v);
		return r;
	}
	if ((v = value_of(record, "arg")) && bxc_strv_len(j->argv) < MAX_ARGS) {
		bxc_strv_push(&j->argv, v);
		return 0;
	}
	return refuse(record, err);
}

static int decode(bxc_slice in, bxc_helper_job *j, bxc_err **err)
{
	if (in.n > BXC_HELPER_JOB_MAX)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "job: larger than %u bytes",
			BXC_HELPER_JOB_MAX);
	if (in.n < sizeof(MAGIC) || in.p[in.n - 1] != '\0' ||
		memcmp(in.p, MAGIC, sizeof(MAGIC)) != 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "job: not of this version");
	int r = 0;
	for (size_t at = sizeof(MAGIC); r == 0 && at < in.n;) {
		const char *record = (const char *)in.p + at;
		r = take(j, record, err);
		at += strlen(record) + 1;
	}
	if (r < 0)
		return r;
	bool is_cut = (j->mounts.n && !j->mounts.v[j->mounts.n - 1].at) ||
		      (j->binds.n && !j->binds.v[j->binds.n - 1].to);
	if (is_cut || j->parent == 0 || !j->argv)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "job: incomplete");
	return absolute(j->argv[0], err);
}

int bxc_helper_job_decode(bxc_slice in, bxc_helper_job *ret, bxc_err **err)
{
	bxc_helper_job j = {0};
	int r = decode(in, &j, err);
	if (r < 0)
		bxc_helper_job_done(&j);
	else
		*ret = j;
	return r;
}
