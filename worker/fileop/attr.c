/* SPDX-License-Identifier: Apache-2.0 */
/* Owners, symbolic modes, times. */
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/os/fs.h"
#include "common/os/passwd.h"
#include "worker/fileop/fileop_internal.h"

/* 1: read; 0: there is no such file, or nothing readable as one. */
static int read_users(int root_fd, const char *path, bxc_buf *ret, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fs_read_file_in_root(root_fd, path, BXC_LIMIT_PASSWD, ret, &why);
	if (r == -BXC_NOT_FOUND || r == -BXC_INVALID_ARGUMENT)
		return 0;
	if (r < 0)
		return bxc_err_move(err, BXC_TAKE(why));
	return 1;
}

int bxc_fsop__owner(int root_fd, const bxc_def_owner *o, bxc_fsop__ids *ret, bxc_err **err)
{
	*ret = (bxc_fsop__ids){.is_set = o->is_set};
	if (!o->is_set)
		return 0;
	uint32_t uid = o->uid, gid = o->has_gid ? o->gid : o->uid;
	if (o->user_name) {
		BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_LIMIT_PASSWD);
		int r = read_users(root_fd, "/etc/passwd", &text, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "look up user '%s'", o->user_name);
		uint32_t primary = 0;
		uid = 0;
		if (r == 1)
			bxc_ignore(bxc_passwd_find_user(
				bxc_buf_slice(&text), o->user_name, 0, &uid, &primary, NULL));
		gid = o->has_gid ? o->gid : primary;
	}
	if (o->group_name) {
		BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_LIMIT_PASSWD);
		int r = read_users(root_fd, "/etc/group", &text, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "look up group '%s'", o->group_name);
		gid = 0;
		if (r == 1)
			bxc_ignore(
				bxc_passwd_find_group(bxc_buf_slice(&text), o->group_name, &gid));
	}
	ret->uid = uid;
	ret->gid = gid;
	return 0;
}

struct timespec bxc_fsop__timespec(int64_t ns)
{
	int64_t s = ns / BXC_NS_PER_S, rest = ns % BXC_NS_PER_S;
	if (rest < 0) {
		s--;
		rest += BXC_NS_PER_S;
	}
	return (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

/* The bits of one class at a time, as chmod(1): who = any of ugo as 0700, 0070, 0007. */
struct clause {
	mode_t who;
	char op;
};

static mode_t spread(mode_t rwx)
{
	return (rwx << 6) | (rwx << 3) | rwx;
}

static mode_t perm_bits(const char *p, size_t n, const struct clause *c, mode_t mode, bool *ok)
{
	mode_t bits = 0;
	for (size_t i = 0; i < n; i++) {
		switch (p[i]) {
		case 'r':
			bits |= spread(04) & c->who;
			break;
		case 'w':
			bits |= spread(02) & c->who;
			break;
		case 'x':
			bits |= spread(01) & c->who;
			break;
		case 'X':
			if (S_ISDIR(mode) || (mode & 0111))
				bits |= spread(01) & c->who;
			break;
		case 's':
			bits |= (c->who & 0700 ? S_ISUID : 0) | (c->who & 0070 ? S_ISGID : 0);
			break;
		case 't':
			bits |= S_ISVTX;
			break;
		case 'u':
			bits |= spread((mode >> 6) & 07) & c->who;
			break;
		case 'g':
			bits |= spread((mode >> 3) & 07) & c->who;
			break;
		case 'o':
			bits |= spread(mode & 07) & c->who;
			break;
		default:
			*ok = false;
		}
	}
	return bits;
}

int bxc_fsop__mode_apply(const char *text, mode_t mode, mode_t *ret, bxc_err **err)
{
	const char *p = text;
	bool ok = *p != '\0';
	while (ok && *p) {
		struct clause c = {.who = 0};
		for (; *p && strchr("ugoa", *p); p++)
			c.who |= *p == 'u' ? 0700 : *p == 'g' ? 0070 : *p == 'o' ? 0007 : 0777;
		if (c.who == 0)
			c.who = 0777;
		if (!*p || !strchr("+-=", *p)) {
			ok = false;
			break;
		}
		while (ok && *p && strchr("+-=", *p)) {
			c.op = *p++;
			size_t n = strcspn(p, "+-=,");
			mode_t bits = perm_bits(p, n, &c, mode, &ok);
			mode_t all = (c.who & 0777) | (c.who & 0700 ? S_ISUID : 0) |
				     (c.who & 0070 ? S_ISGID : 0) | (c.who == 0777 ? S_ISVTX : 0);
			if (c.op == '+')
				mode |= bits;
			else if (c.op == '-')
				mode &= ~bits;
			else
				mode = (mode & ~all) | bits;
			p += n;
		}
		if (*p == ',') {
			p++;
			ok = ok && *p;
		}
	}
	if (!ok)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid mode '%.64s'", text);
	*ret = mode;
	return 0;
}
