/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold of a vertex, so that nothing behind this point has to ask again. */
#include <string.h>

#include "common/base/limits.h"
#include "common/base/utf8.h"
#include "common/definition/definition_internal.h"

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static int bad(bxc_err **err, const char *field, const char *why)
{
	int r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s: %s", field, why);
	if (err)
		bxc_err_detail(*err, "field", "%s", field);
	return r;
}

static bool only(const char *s, const char *chars)
{
	return strspn(s, chars) == strlen(s);
}

/* Of every vertex: no set of characters is made for it, as strspn() does. */
static bool is_platform_name(const char *s)
{
	for (; *s; s++)
		if (!(*s >= 'a' && *s <= 'z') && !(*s >= 'A' && *s <= 'Z') &&
			!(*s >= '0' && *s <= '9') && *s != '.' && *s != '_' && *s != '-')
			return false;
	return true;
}

/* NULL passes. */
static int check_text(const char *s, size_t max, const char *field, bxc_err **err)
{
	if (!s)
		return 0;
	size_t n = strlen(s);
	if (n > max)
		return bad(err, field, "too long");
	if (!bxc_utf8_valid(s, n))
		return bad(err, field, "not UTF-8");
	return 0;
}

static int check_list(char *const *v, size_t max_len, const char *field, bxc_err **err)
{
	if (bxc_strv_len(v) > DEF_MAX_STRINGS)
		return bad(err, field, "too many entries");
	for (; v && *v; v++) {
		int r = check_text(*v, max_len, field, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Clean, but for a trailing slash where it has a meaning. */
static bool clean_components(const char *s, bool trailing_slash)
{
	size_t n = strlen(s);
	if (trailing_slash && n && s[n - 1] == '/')
		n--;
	return bxc_str_is_clean_path(s, n);
}

static int check_path(const char *s, bool trailing_slash, const char *field, bxc_err **err)
{
	if (bxc_str_empty(s) || *s != '/')
		return bad(err, field, "not an absolute path");
	if (s[1] && !clean_components(s + 1, trailing_slash))
		return bad(err, field, "not a clean path (no '.', '..' or empty components)");
	return check_text(s, BXC_LIMIT_PATH - 1, field, err);
}

/* A path within a tree: "/a/b" or "a/b". */
static int check_subpath(const char *s, const char *field, bxc_err **err)
{
	if (!s || strcmp(s, "") == 0 || strcmp(s, "/") == 0)
		return 0;
	if (!clean_components(*s == '/' ? s + 1 : s, false))
		return bad(err, field, "not a clean path (no '.', '..' or empty components)");
	return check_text(s, BXC_LIMIT_PATH - 1, field, err);
}

static int check_pairs(char *const *v, const char *field, bxc_err **err)
{
	int r = check_list(v, DEF_MAX_STRING, field, err);
	if (r < 0)
		return r;
	for (; v && *v; v++)
		if (!strchr(*v, '=') || **v == '=')
			return bad(err, field, "an entry is not of the form name=value");
	return 0;
}

int def_check_env(char *const *env, bxc_err **err)
{
	return check_pairs(env, "env", err);
}

/* ---- source ---- */

static int check_source(const bxc_def_vertex *v, bxc_err **err)
{
	const bxc_op_source *s = &v->op.source;
	if (v->inputs.n)
		return bad(err, "inputs", "a source has none");
	const char *sep = s->identifier ? strstr(s->identifier, "://") : NULL;
	if (!sep || sep == s->identifier || !sep[3] ||
		strspn(s->identifier, ALNUM "-+.") < (size_t)(sep - s->identifier))
		return bad(err, "identifier", "not of the form scheme://name");
	int r = check_text(s->identifier, BXC_LIMIT_PATH, "identifier", err);
	if (r < 0)
		return r;
	r = check_pairs(s->attrs, "attrs", err);
	if (r < 0)
		return r;
	for (size_t i = 1; s->attrs && s->attrs[0] && s->attrs[i]; i++) {
		size_t n = (size_t)(strchrnul(s->attrs[i], '=') - s->attrs[i]) + 1;
		if (strncmp(s->attrs[i - 1], s->attrs[i], n) == 0)
			return bad(err, "attrs", "a key is there twice");
		if (strcmp(s->attrs[i - 1], s->attrs[i]) > 0)
			return bad(err, "attrs", "not sorted");
	}
	return 0;
}

/* ---- exec ---- */

static int check_hosts(char *const *v, bxc_err **err)
{
	int r = check_pairs(v, "extra_hosts", err);
	for (; r == 0 && v && *v; v++) {
		const char *eq = strchr(*v, '=');
		/* These become lines of /etc/hosts. */
		bool is_gateway = strcmp(eq + 1, "host-gateway") == 0;
		if (strspn(*v, ALNUM "._-") != (size_t)(eq - *v) || !eq[1] ||
			(!is_gateway && !only(eq + 1, "0123456789abcdefABCDEF:.")))
			return bad(err, "extra_hosts", "an entry is not of the form name=ip");
	}
	return r;
}

static bool limit_value(const char **p)
{
	if (strncmp(*p, "-1", 2) == 0) {
		*p += 2;
		return true;
	}
	size_t n = strspn(*p, "0123456789");
	*p += n;
	return n > 0 && n < 20;
}

static int check_ulimits(char *const *v, bxc_err **err)
{
	int r = check_pairs(v, "ulimits", err);
	for (; r == 0 && v && *v; v++) {
		const char *p = strchr(*v, '=') + 1;
		bool ok = strspn(*v, "abcdefghijklmnopqrstuvwxyz") == (size_t)(p - 1 - *v) &&
			  limit_value(&p) && *p++ == ':' && limit_value(&p) && !*p;
		if (!ok)
			return bad(err, "ulimits", "an entry is not of the form name=soft:hard");
	}
	return r;
}

static int check_mount_path(const bxc_op_mount *m, bool is_root, bxc_err **err)
{
	/* A secret that is only an environment variable needs no place. */
	if (m->kind == BXC_MOUNT_SECRET && m->env && bxc_str_empty(m->dest))
		return 0;
	int r = check_path(m->dest, false, "mount.dest", err);
	if (r < 0)
		return r;
	if (is_root != (strcmp(m->dest, "/") == 0))
		return bad(err, "mount.dest", "the first mount, and no other, is '/'");
	return 0;
}

static int check_mount(const bxc_def_vertex *v, size_t i, bxc_err **err)
{
	const bxc_op_exec *e = &v->op.exec;
	const bxc_op_mount *m = &e->mounts.v[i];
	if (!def_mount_kind_name(m->kind))
		return bad(err, "mount.kind", "unknown");
	int r = check_mount_path(m, i == 0, err);
	if (r < 0)
		return r;
	if (i == 0 && m->kind != BXC_MOUNT_BIND)
		return bad(err, "mount.kind", "the root must be a bind mount");
	if (m->input != BXC_DEF_NO_INPUT && m->input >= v->inputs.n)
		return bad(err, "mount.input", "no such input");
	if (m->input != BXC_DEF_NO_INPUT && m->kind != BXC_MOUNT_BIND && m->kind != BXC_MOUNT_CACHE)
		return bad(err, "mount.input", "this kind of mount has none");
	if (m->output != BXC_DEF_NO_OUTPUT) {
		if (m->output < 0 || (size_t)m->output >= e->mounts.n)
			return bad(err, "mount.output", "out of range");
		if (m->kind != BXC_MOUNT_BIND || m->readonly)
			return bad(err, "mount.output", "only a writable bind mount has one");
		for (size_t k = 0; k < i; k++)
			if (e->mounts.v[k].output == m->output)
				return bad(err, "mount.output", "given twice");
	}
	if ((r = check_subpath(m->selector, "mount.selector", err)) < 0)
		return r;
	if (!bxc_def_sharing_name(m->sharing))
		return bad(err, "mount.sharing", "unknown");
	bool named = m->kind == BXC_MOUNT_CACHE || m->kind == BXC_MOUNT_SECRET ||
		     m->kind == BXC_MOUNT_SSH;
	if (named && bxc_str_empty(m->cache_id))
		return bad(err, "mount.cache_id", "missing");
	if ((r = check_text(m->cache_id, BXC_LIMIT_PATH - 1, "mount.cache_id", err)) < 0)
		return r;
	if (m->mode > 07777)
		return bad(err, "mount.mode", "more than 07777");
	if (m->env && (!*m->env || strlen(m->env) > DEF_MAX_NAME || !only(m->env, ALNUM "_")))
		return bad(err, "mount.env", "not a name of a variable");
	return 0;
}

static int check_exec(const bxc_def_vertex *v, bxc_err **err)
{
	const bxc_op_exec *e = &v->op.exec;
	int r;
	if (!e->args || !e->args[0])
		return bad(err, "args", "missing");
	if ((r = check_list(e->args, DEF_MAX_STRING, "args", err)) < 0 ||
		/* What is shared was checked when it was made. */
		(!e->shared_env && (r = def_check_env(e->env, err)) < 0) ||
		(r = check_pairs(e->proxy_env, "proxy_env", err)) < 0 ||
		(r = check_path(e->cwd, false, "cwd", err)) < 0 ||
		(r = check_text(e->user, DEF_MAX_NAME, "user", err)) < 0 ||
		(r = check_hosts(e->extra_hosts, err)) < 0 ||
		(r = check_ulimits(e->ulimits, err)) < 0 ||
		(r = check_subpath(e->cgroup_parent, "cgroup_parent", err)) < 0)
		return r;
	if (e->hostname && (strlen(e->hostname) > DEF_MAX_NAME || !only(e->hostname, ALNUM "._-")))
		return bad(err, "hostname", "not a host name");
	if (!def_net_name(e->net))
		return bad(err, "net", "unknown");
	if (e->mounts.n == 0)
		return bad(err, "mounts", "the root is missing");
	if (e->mounts.n > DEF_MAX_MOUNTS)
		return bad(err, "mounts", "too many");
	for (size_t i = 0; i < e->mounts.n; i++)
		if ((r = check_mount(v, i, err)) < 0)
			return bxc_err_wrap(err, r, "mount %zu", i);
	return 0;
}

/* ---- file ---- */

static bool tree_ok(const bxc_def_vertex *v, uint32_t ref, size_t action)
{
	return ref == BXC_DEF_NO_INPUT || ref < v->inputs.n + action;
}

static int check_owner(const bxc_def_owner *o, bxc_err **err)
{
	const char *names[] = {o->user_name, o->group_name};
	for (size_t i = 0; o->is_set && i < 2; i++) {
		int r = check_text(names[i], DEF_MAX_NAME, "owner", err);
		if (r < 0)
			return r;
		if (names[i] && (!*names[i] || strpbrk(names[i], ":\n")))
			return bad(err, "owner", "not a name");
	}
	return 0;
}

static int check_copy(const bxc_def_vertex *v, const bxc_file_action *a, size_t i, bxc_err **err)
{
	int r;
	if (!tree_ok(v, a->source, i))
		return bad(err, "source", "no such tree");
	if ((r = check_path(a->src, false, "src", err)) < 0 ||
		(r = check_list(a->include, BXC_LIMIT_PATH, "include", err)) < 0 ||
		(r = check_list(a->exclude, BXC_LIMIT_PATH, "exclude", err)) < 0 ||
		(r = check_list(a->required, BXC_LIMIT_PATH, "required", err)) < 0)
		return r;
	for (char *const *p = a->required; p && *p; p++)
		if ((r = check_path(*p, false, "required", err)) < 0)
			return r;
	if (a->mode_text && (!*a->mode_text || strlen(a->mode_text) > DEF_MAX_NAME ||
				    !only(a->mode_text, "ugoa+-=rwxXst,01234567")))
		return bad(err, "mode_text", "not a mode");
	return 0;
}

static int check_action(const bxc_def_vertex *v, size_t i, bxc_err **err)
{
	const bxc_file_action *a = &v->op.file.actions.v[i];
	int r = 0;
	if (!bxc_def_file_kind_name(a->kind))
		return bad(err, "kind", "unknown");
	if (!tree_ok(v, a->target, i))
		return bad(err, "target", "no such tree");
	if (a->mode < -1 || a->mode > 07777)
		return bad(err, "mode", "more than 07777");
	if ((r = check_path(a->dest, a->kind == BXC_FILE_COPY, "dest", err)) < 0 ||
		(r = check_owner(&a->owner, err)) < 0)
		return r;
	if (a->kind == BXC_FILE_COPY)
		return check_copy(v, a, i, err);
	if (strcmp(a->dest, "/") == 0 && a->kind != BXC_FILE_MKDIR)
		return bad(err, "dest", "the root cannot be made or removed");
	if (a->data_len > DEF_MAX_DATA || (a->data_len && (!a->data || a->kind != BXC_FILE_MKFILE)))
		return bad(err, "data", "too long, or not of a file");
	if (a->kind == BXC_FILE_SYMLINK) {
		if (bxc_str_empty(a->link_target))
			return bad(err, "link_target", "missing");
		return check_text(a->link_target, BXC_LIMIT_PATH - 1, "link_target", err);
	}
	return 0;
}

static int check_file(const bxc_def_vertex *v, bxc_err **err)
{
	size_t n = v->op.file.actions.n;
	if (n == 0)
		return bad(err, "actions", "missing");
	if (n > DEF_MAX_ACTIONS)
		return bad(err, "actions", "too many");
	for (size_t i = 0; i < n; i++) {
		int r = check_action(v, i, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "action %zu", i);
	}
	return 0;
}

/* ---- vertex ---- */

static int check_meta(const bxc_def_meta *m, bxc_err **err)
{
	int r;
	if ((r = check_text(m->name, DEF_MAX_STRING, "meta.name", err)) < 0 ||
		(r = check_text(m->progress_group, BXC_LIMIT_PATH, "meta.progress_group", err)) <
			0 ||
		(r = check_text(m->stage, BXC_LIMIT_PATH, "meta.stage", err)) < 0)
		return r;
	return m->line_end < m->line_start ? bad(err, "meta.line_end", "before line_start") : 0;
}

static int check_op(const bxc_def_vertex *v, bxc_err **err)
{
	const bxc_op_diff *d = &v->op.diff;
	switch (v->kind) {
	case BXC_OP_SOURCE:
		return check_source(v, err);
	case BXC_OP_EXEC:
		return check_exec(v, err);
	case BXC_OP_FILE:
		return check_file(v, err);
	case BXC_OP_MERGE:
		return v->inputs.n ? 0 : bad(err, "inputs", "a merge needs some");
	case BXC_OP_DIFF:
		if ((d->lower != BXC_DEF_NO_INPUT && d->lower >= v->inputs.n) ||
			(d->upper != BXC_DEF_NO_INPUT && d->upper >= v->inputs.n))
			return bad(err, "inputs", "no such input");
		return 0;
	case BXC_OP_UNKNOWN:
		break;
	}
	return bad(err, "op", "unknown");
}

int def_check_vertex(const bxc_def_vertex *v, bxc_err **err)
{
	const char *texts[] = {
		v->platform.os, v->platform.arch, v->platform.variant, v->platform.os_version};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(texts); i++)
		if (!is_platform_name(texts[i]))
			return bad(err, "platform", "not a platform");
	if (!v->platform.os[0] &&
		(v->platform.arch[0] || v->platform.variant[0] || v->platform.os_version[0]))
		return bad(err, "platform", "the system is missing");
	if (v->inputs.n > DEF_MAX_INPUTS)
		return bad(err, "inputs", "too many");
	int r = check_meta(&v->meta, err);
	return r < 0 ? r : check_op(v, err);
}

static bool has_output(const bxc_def_vertex *v, uint32_t output)
{
	if (v->kind != BXC_OP_EXEC)
		return output == 0;
	BXC_ARR_FOREACH (m, &v->op.exec.mounts)
		if (m->output >= 0 && (uint32_t)m->output == output)
			return true;
	return false;
}

int def_check_inputs(const bxc_def *d, const bxc_def_vertex *v, size_t index, bxc_err **err)
{
	BXC_ARR_FOREACH (in, &v->inputs) {
		if (in->vertex >= index || in->vertex >= d->vertices.n)
			return bad(err, "inputs", "an input must come before its user");
		if (!has_output(d->vertices.v[in->vertex], in->output))
			return bad(err, "inputs", "no such output");
	}
	return 0;
}
