/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of moby/sys/user GetExecUser, as BuildKit's executor/oci/user.go applies them. */
#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/os/fs.h"
#include "worker/exec/exec_internal.h"

void bxc_exec__user_done(bxc_exec__user *u)
{
	bxc_arr_done(&u->groups);
	*u = (bxc_exec__user){0};
}

/* A missing file is an empty one. */
static int read_file(int root_fd, const char *path, bxc_buf *ret, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fs_read_file_in_root(root_fd, path, BXC_LIMIT_PASSWD, ret, &why);
	if (r == -BXC_NOT_FOUND) {
		bxc_buf_clear(ret);
		return 0;
	}
	return r < 0 ? bxc_err_move(err, BXC_TAKE(why)) : 0;
}

static bool is_number(const char *s)
{
	return *s && strspn(s, "0123456789") == strlen(s);
}

static int to_id(const char *s, uint32_t *ret, bxc_err **err)
{
	uint64_t v = 0;
	if (bxc_str_to_u64(s, 0, BXC_PASSWD_MAX_ID, &v, NULL) < 0)
		return bxc_err_set(
			err, BXC_UNKNOWN, "uids and gids must be in range 0-%u", BXC_PASSWD_MAX_ID);
	*ret = (uint32_t)v;
	return 0;
}

static int find(const char *name, const char *group, bxc_slice passwd, bxc_slice groups,
	bxc_exec__user *u, bxc_err **err)
{
	uint32_t number = 0;
	BXC_AUTOFREE char *matched = NULL;
	bool by_id = is_number(name);
	if (by_id) {
		int r = to_id(name, &number, err);
		if (r < 0)
			return r;
	}
	if (!bxc_passwd_find_user(
		    passwd, by_id ? NULL : name, number, &u->uid, &u->gid, &matched)) {
		if (!by_id)
			return bxc_err_set(err, BXC_UNKNOWN,
				"unable to find user %s: no matching entries in passwd file", name);
		u->uid = number;
	}
	if (group) {
		if (!is_number(group)) {
			if (!bxc_passwd_find_group(groups, group, &u->gid))
				return bxc_err_set(err, BXC_UNKNOWN,
					"unable to find group %s: no matching entries in group "
					"file",
					group);
		} else {
			int r = to_id(group, &u->gid, err);
			if (r < 0)
				return r;
		}
	} else if (matched) {
		bxc_passwd_groups_of(groups, matched, &u->groups);
	}
	return 0;
}

/* The primary group belongs to the supplementary ones, too (CVE-2023-25173). */
static void add_primary(bxc_exec__user *u)
{
	bxc_passwd_ids all = {0};
	*bxc_arr_push(&all) = u->gid;
	BXC_ARR_FOREACH (g, &u->groups)
		if (*g != u->gid)
			*bxc_arr_push(&all) = *g;
	bxc_arr_done(&u->groups);
	u->groups = all;
}

int bxc_exec__find_user(int root_fd, const char *spec, bxc_exec__user *ret, bxc_err **err)
{
	bool is_default = bxc_str_empty(spec);
	BXC_AUTOFREE char *name = bxc_strdup(is_default ? "0" : spec);
	char *colon = strchr(name, ':');
	const char *group = NULL;
	if (colon) {
		*colon = '\0';
		group = colon[1] ? colon + 1 : NULL;
	}
	bxc_exec__user u = {0};
	int r = 0;
	if (group && is_number(name) && is_number(group)) {
		r = to_id(name, &u.uid, err);
		if (r == 0)
			r = to_id(group, &u.gid, err);
	} else {
		BXC_AUTOBUF bxc_buf passwd = BXC_BUF_INIT(BXC_LIMIT_PASSWD);
		BXC_AUTOBUF bxc_buf groups = BXC_BUF_INIT(BXC_LIMIT_PASSWD);
		BXC_AUTOERR bxc_err *why = NULL;
		r = read_file(root_fd, "/etc/passwd", &passwd, &why);
		if (r == 0)
			r = read_file(root_fd, "/etc/group", &groups, &why);
		if (r == 0)
			r = find(*name ? name : "0", group, bxc_buf_slice(&passwd),
				bxc_buf_slice(&groups), &u, &why);
		/* Nobody asked for a user, so an odd passwd file is no reason to fail. */
		if (r < 0 && is_default) {
			bxc_exec__user_done(&u);
			r = 0;
		} else if (r < 0) {
			r = bxc_err_move(err, BXC_TAKE(why));
		}
	}
	if (r < 0) {
		bxc_exec__user_done(&u);
		return r;
	}
	add_primary(&u);
	*ret = u;
	return 0;
}
