/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only one step may see: secrets and sockets of agents. They lie in a tmpfs of the step that
 * is attached in the helper's mount namespace alone, so no path of this host leads to them and
 * nothing is left when the step has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/base/utf8.h"
#include "common/os/fd.h"
#include "common/os/mnt.h"
#include "worker/exec/exec_internal.h"

#define BACKLOG	    64
#define SPARE_BYTES (8u << 20) /* config.json and the state of crun */

void bxc_exec__private_init(bxc_exec__private *p)
{
	*p = (bxc_exec__private){.mount_fd = -1};
}

void bxc_exec__private_done(bxc_exec__private *p)
{
	BXC_ARR_FOREACH (a, &p->agents)
		bxc_cleanup_close(&a->fd);
	bxc_arr_done(&p->agents);
	BXC_ARR_FOREACH (e, &p->env)
		free(e->marker);
	bxc_arr_done(&p->env);
	BXC_ARR_FOREACH (s, &p->values)
		bxc_secret_free(*s);
	bxc_arr_done(&p->values);
	bxc_exec__masks_free(p->masks);
	bxc_cleanup_close(&p->mount_fd);
	bxc_exec__private_init(p);
}

bool bxc_exec__needs_private(const bxc_op_exec *op)
{
	BXC_ARR_FOREACH (m, &op->mounts)
		if (m->kind == BXC_MOUNT_SECRET || m->kind == BXC_MOUNT_SSH)
			return true;
	return false;
}

int bxc_exec__private_open(bxc_exec__private *p, const bxc_op_exec *op, bxc_err **err)
{
	uint64_t bytes = SPARE_BYTES + op->mounts.n * (uint64_t)BXC_EXEC_SECRET_MAX;
	const unsigned attrs = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	BXC_AUTOSTRV char **options = NULL;
	bxc_strv_pushf(&options, "size=%llu", (unsigned long long)bytes);
	bxc_strv_push(&options, "mode=0700");
	bxc_strv_push(&options, "noswap");
	if (bxc_mnt_new("tmpfs", options, attrs, &p->mount_fd, NULL) == 0)
		return 0;
	/* Linux before 6.4 does not know noswap. */
	size_t n = bxc_strv_len(options);
	free(BXC_TAKE(options[n - 1]));
	return bxc_mnt_new("tmpfs", options, attrs, &p->mount_fd, err);
}

/* ---- secrets ---- */

static int put_value(const bxc_exec__private *p, const char *name, const bxc_op_mount *m,
	bxc_slice value, bxc_err **err)
{
	BXC_AUTOCLOSE int fd =
		openat(p->mount_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return bxc_err_errno(err, errno, "create the file of secret '%s'", m->cache_id);
	int r = bxc_fd_write_all(fd, value.p, value.n, err);
	if (r < 0)
		return r;
	if (fchown(fd, m->uid, m->gid) < 0 || fchmod(fd, (mode_t)m->mode) < 0)
		return bxc_err_errno(err, errno, "set owner and mode of secret '%s'", m->cache_id);
	return 0;
}

static int put_variable(
	bxc_exec__private *p, const bxc_op_mount *m, const bxc_secret *value, bxc_err **err)
{
	bxc_slice v = bxc_secret_bytes(value);
	if (memchr(v.p, '\0', v.n) || !bxc_utf8_valid((const char *)v.p, v.n))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"secret %s is no text: it cannot be the environment variable %s",
			m->cache_id, m->env);
	/* The last of equal names counts. */
	BXC_ARR_FOREACH (e, &p->env) {
		if (bxc_str_eq(e->name, m->env)) {
			e->value = value;
			return 0;
		}
	}
	bxc_exec__variable *e = bxc_arr_push(&p->env);
	e->name = m->env;
	e->value = value;
	e->marker = bxc_rand_hex(16);
	return 0;
}

int bxc_exec__private_secret(bxc_exec__private *p, const bxc_exec_services *s,
	const bxc_op_mount *m, const char *name, bool *ret_is_there, bxc_err **err)
{
	bxc_secret *value = NULL;
	BXC_AUTOERR bxc_err *why = NULL;
	int r = s && s->secret ? s->secret(m->cache_id, &value, s->ud, &why)
			       : bxc_err_set(&why, BXC_NOT_FOUND, "no client");
	*ret_is_there = r >= 0;
	if (r == -BXC_NOT_FOUND) {
		if (m->optional)
			return 0;
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "secret %s: not found", m->cache_id);
	}
	if (r < 0)
		return bxc_err_wrap_take(err, BXC_TAKE(why), r, "secret %s", m->cache_id);
	*bxc_arr_push(&p->values) = value;
	bxc_slice v = bxc_secret_bytes(value);
	if (v.n > BXC_EXEC_SECRET_MAX)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "secret %s too big. max size %u KiB",
			m->cache_id, BXC_EXEC_SECRET_MAX >> 10);
	if (m->env)
		r = put_variable(p, m, value, err);
	else
		r = 0;
	if (r == 0 && !bxc_str_empty(m->dest))
		r = put_value(p, name, m, v, err);
	return r;
}

int bxc_exec__private_masks(bxc_exec__private *p, bxc_err **err)
{
	if (!p->values.n)
		return 0;
	return bxc_exec__masks_new(
		(const bxc_secret *const *)p->values.v, p->values.n, &p->masks, err);
}

/* ---- agents ---- */

static int listen_at(const bxc_exec__private *p, const char *name, const bxc_op_mount *m,
	int *ret_fd, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (fd < 0)
		return bxc_err_errno(err, errno, "make the socket of an agent");
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", p->mount_fd, name);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, BACKLOG) < 0)
		return bxc_err_errno(err, errno, "listen for '%s'", m->dest);
	if (fchownat(p->mount_fd, name, m->uid, m->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
		fchmodat(p->mount_fd, name, (mode_t)m->mode & 0777, 0) < 0)
		return bxc_err_errno(err, errno, "set owner and mode of '%s'", m->dest);
	*ret_fd = BXC_TAKE_FD(fd);
	return 0;
}

int bxc_exec__private_agent(bxc_exec__private *p, const bxc_exec_services *s, const bxc_op_mount *m,
	const char *name, bool *ret_is_there, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	int r = s && s->agent_check ? s->agent_check(m->cache_id, s->ud, &why)
				    : bxc_err_set(&why, BXC_NOT_FOUND, "no client");
	*ret_is_there = r >= 0;
	if (r == -BXC_NOT_FOUND) {
		if (m->optional)
			return 0;
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"no SSH key \"%s\" forwarded from the client: build with --ssh %s",
			m->cache_id, m->cache_id);
	}
	if (r < 0)
		return bxc_err_wrap_take(err, BXC_TAKE(why), r, "SSH agent '%s'", m->cache_id);
	if (p->agents.n >= BXC_EXEC__MAX_AGENTS)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"a step may have at most %u SSH mounts", BXC_EXEC__MAX_AGENTS);
	bxc_exec__agent *a = bxc_arr_push(&p->agents);
	*a = (bxc_exec__agent){.id = m->cache_id, .fd = -1};
	return listen_at(p, name, m, &a->fd, err);
}

/* ---- config.json with values ---- */

static int write_escaped(int fd, bxc_slice v, bxc_err **err)
{
	char out[1024];
	size_t n = 0;
	int r = 0;
	for (size_t i = 0; r == 0 && i < v.n; i++) {
		unsigned char c = v.p[i];
		if (c < 0x20 || c == '"' || c == '\\')
			n += (size_t)snprintf(out + n, sizeof(out) - n, "\\u%04x", c);
		else
			out[n++] = (char)c;
		if (n > sizeof(out) - 8 || i + 1 == v.n) {
			r = bxc_fd_write_all(fd, out, n, err);
			n = 0;
		}
	}
	explicit_bzero(out, sizeof(out));
	return r;
}

int bxc_exec__private_config(bxc_exec__private *p, const char *text, bxc_err **err)
{
	BXC_AUTOCLOSE int fd =
		openat(p->mount_fd, "config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return bxc_err_errno(err, errno, "create config.json");
	int r = 0;
	/* Markers stand in the order of the variables. */
	BXC_ARR_FOREACH (e, &p->env) {
		const char *at = strstr(text, e->marker);
		bxc_check(at != NULL);
		r = bxc_fd_write_all(fd, text, (size_t)(at - text), err);
		if (r == 0)
			r = write_escaped(fd, bxc_secret_bytes(e->value), err);
		if (r < 0)
			return r;
		text = at + strlen(e->marker);
	}
	return bxc_fd_write_all(fd, text, strlen(text), err);
}
