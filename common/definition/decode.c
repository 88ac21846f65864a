/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the encoding. A field that is not known is an error: a newer sender means something by it
 * that would be lost. Errors stick in the reader, so that fields are read one after the other and
 * asked about once, at the end of their object.
 */
#include <string.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/codec/base64.h"
#include "common/definition/definition_internal.h"

typedef struct reader {
	const bxc_json *obj;
	size_t seen;
	int r;
	bxc_err **err;
} reader;

static reader read_object(const bxc_json *obj, bxc_err **err)
{
	reader rd = {.obj = obj, .err = err};
	if (!bxc_json_is_object(obj))
		rd.r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "expected an object");
	return rd;
}

static void fail(reader *rd, const char *key, const char *what)
{
	if (rd->r < 0)
		return;
	rd->r = bxc_err_set(rd->err, BXC_INVALID_ARGUMENT, "field '%s' %s", key, what);
	if (rd->err)
		bxc_err_detail(*rd->err, "field", "%s", key);
}

/* The member, or NULL when absent or when something has failed before. */
static const bxc_json *take(reader *rd, const char *key)
{
	if (rd->r < 0)
		return NULL;
	const bxc_json *m = bxc_json_get(rd->obj, key);
	if (m)
		rd->seen++;
	return m;
}

static const char *text(reader *rd, const char *key)
{
	const bxc_json *m = take(rd, key);
	if (m && !bxc_json_is_string(m))
		fail(rd, key, "is not a string");
	return bxc_json_string(m);
}

static void get_str(reader *rd, const char *key, char **ret)
{
	*ret = bxc_strdup(text(rd, key));
}

static void get_strv(reader *rd, const char *key, char ***ret)
{
	const bxc_json *m = take(rd, key);
	if (!m)
		return;
	/* Checked before copying; the rest of the rules stands in validate.c. */
	if (bxc_json_len(m) > DEF_MAX_STRINGS)
		fail(rd, key, "has too many entries");
	else
		rd->r = bxc_json_get_strv(rd->obj, key, ret, rd->err);
}

static bool get_bool(reader *rd, const char *key)
{
	const bxc_json *m = take(rd, key);
	if (!m)
		return false;
	bool v = false;
	if (!bxc_json_as_bool(m, &v))
		fail(rd, key, "is neither true nor false");
	return v;
}

static uint64_t get_u64(reader *rd, const char *key, uint64_t max, uint64_t fallback)
{
	uint64_t v = fallback;
	if (take(rd, key))
		rd->r = bxc_json_need_u64(rd->obj, key, max, &v, rd->err);
	return v;
}

static uint32_t get_u32(reader *rd, const char *key, uint32_t fallback)
{
	return (uint32_t)get_u64(rd, key, UINT32_MAX, fallback);
}

static int64_t get_i64(reader *rd, const char *key, int64_t fallback)
{
	const bxc_json *m = take(rd, key);
	if (!m)
		return fallback;
	int64_t v = fallback;
	if (!bxc_json_as_i64(m, &v))
		fail(rd, key, "is not an exact integer");
	return v;
}

static const bxc_json *get_arr(reader *rd, const char *key, size_t max)
{
	const bxc_json *m = take(rd, key);
	if (m && !bxc_json_is_array(m))
		fail(rd, key, "is not an array");
	else if (bxc_json_len(m) > max)
		fail(rd, key, "has too many entries");
	return rd->r < 0 ? NULL : m;
}

/* The index of the text among the names; `fallback` when absent. */
static unsigned get_name(reader *rd, const char *key, const char *(*name)(unsigned), unsigned count,
	unsigned fallback)
{
	const char *s = text(rd, key);
	if (!s)
		return fallback;
	for (unsigned i = 0; i < count; i++)
		if (bxc_str_eq(name(i), s))
			return i;
	fail(rd, key, "has an unknown value");
	return fallback;
}

/* The result of reading the object: whatever failed first, or a field that nobody asked for. */
static int done(reader *rd)
{
	if (rd->r < 0)
		return rd->r;
	if (rd->seen != bxc_json_len(rd->obj))
		return bxc_err_set(
			rd->err, BXC_INVALID_ARGUMENT, "unknown or null field in a definition");
	return 0;
}

static int mount_from_json(const bxc_json *j, bxc_def_vertex *v, bxc_err **err)
{
	reader rd = read_object(j, err);
	bxc_op_mount *m = bxc_arr_push(&v->op.exec.mounts);
	m->kind = (bxc_mount_kind)get_name(
		&rd, "kind", def_mount_kind_name, BXC_MOUNT_SSH + 1, BXC_MOUNT_BIND);
	m->input = get_u32(&rd, "input", BXC_DEF_NO_INPUT);
	m->output = (int32_t)get_u64(&rd, "output", INT32_MAX, (uint64_t)UINT32_MAX);
	get_str(&rd, "dest", &m->dest);
	get_str(&rd, "selector", &m->selector);
	m->readonly = get_bool(&rd, "readonly");
	get_str(&rd, "id", &m->cache_id);
	m->sharing = (bxc_cache_sharing)get_name(
		&rd, "sharing", bxc_def_sharing_name, BXC_CACHE_LOCKED + 1, BXC_CACHE_SHARED);
	m->tmpfs_size = get_u64(&rd, "tmpfs_size", UINT64_MAX, 0);
	m->uid = get_u32(&rd, "uid", 0);
	m->gid = get_u32(&rd, "gid", 0);
	m->mode = get_u32(&rd, "mode", 0);
	m->optional = get_bool(&rd, "optional");
	get_str(&rd, "env", &m->env);
	return done(&rd);
}

static void exec_from_json(reader *rd, bxc_def_vertex *v)
{
	bxc_op_exec *e = &v->op.exec;
	get_strv(rd, "args", &e->args);
	get_strv(rd, "env", &e->env);
	get_str(rd, "cwd", &e->cwd);
	get_str(rd, "user", &e->user);
	get_str(rd, "hostname", &e->hostname);
	get_strv(rd, "extra_hosts", &e->extra_hosts);
	get_strv(rd, "proxy_env", &e->proxy_env);
	e->shm_size = get_u64(rd, "shm_size", UINT64_MAX, 0);
	get_strv(rd, "ulimits", &e->ulimits);
	get_str(rd, "cgroup_parent", &e->cgroup_parent);
	e->net = (bxc_net_mode)get_name(
		rd, "net", def_net_name, BXC_NET_NONE + 1, BXC_NET_DEFAULT);
	e->insecure = get_bool(rd, "insecure");
	const bxc_json *mounts = get_arr(rd, "mounts", DEF_MAX_MOUNTS);
	BXC_JSON_FOREACH (it, mounts) {
		rd->r = mount_from_json(it, v, rd->err);
		if (rd->r < 0)
			return;
	}
}

static int owner_from_json(const bxc_json *j, bxc_def_owner *o, bxc_err **err)
{
	reader rd = read_object(j, err);
	o->is_set = true;
	get_str(&rd, "user_name", &o->user_name);
	get_str(&rd, "group_name", &o->group_name);
	o->uid = get_u32(&rd, "uid", 0);
	o->gid = get_u32(&rd, "gid", 0);
	o->has_gid = get_bool(&rd, "has_gid");
	return done(&rd);
}

static void data_from_json(reader *rd, bxc_file_action *a)
{
	const char *b64 = text(rd, "data");
	if (!b64)
		return;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(DEF_MAX_DATA);
	rd->r = bxc_base64_decode(b64, DEF_MAX_DATA, &b, rd->err);
	if (rd->r < 0)
		return;
	a->data_len = b.len;
	a->data = (uint8_t *)bxc_buf_steal(&b);
}

static int action_from_json(const bxc_json *j, bxc_def_vertex *v, bxc_err **err)
{
	reader rd = read_object(j, err);
	bxc_file_action *a = bxc_def_add_action(v, BXC_FILE_UNKNOWN);
	a->kind = (bxc_file_kind)get_name(
		&rd, "kind", bxc_def_file_kind_name, BXC_FILE_SYMLINK + 1, BXC_FILE_UNKNOWN);
	a->target = get_u32(&rd, "target", BXC_DEF_NO_INPUT);
	get_str(&rd, "dest", &a->dest);
	a->mode = (int32_t)get_u64(&rd, "mode", INT32_MAX, (uint64_t)UINT32_MAX);
	const bxc_json *owner = take(&rd, "owner");
	if (owner)
		rd.r = owner_from_json(owner, &a->owner, err);
	a->timestamp_ns = get_i64(&rd, "timestamp_ns", INT64_MIN);
	if (a->kind == BXC_FILE_COPY) {
		a->source = get_u32(&rd, "source", BXC_DEF_NO_INPUT);
		get_str(&rd, "src", &a->src);
		a->src_dir_contents = get_bool(&rd, "src_dir_contents");
		a->follow_symlink = get_bool(&rd, "follow_symlink");
		a->wildcard = get_bool(&rd, "wildcard");
		a->allow_empty_wildcard = get_bool(&rd, "allow_empty_wildcard");
		a->create_dest = get_bool(&rd, "create_dest");
		a->unpack = get_bool(&rd, "unpack");
		a->replace_existing = get_bool(&rd, "replace_existing");
		get_strv(&rd, "include", &a->include);
		get_strv(&rd, "exclude", &a->exclude);
		get_strv(&rd, "required", &a->required);
		get_str(&rd, "mode_text", &a->mode_text);
	} else if (a->kind == BXC_FILE_MKFILE) {
		data_from_json(&rd, a);
	} else if (a->kind == BXC_FILE_SYMLINK) {
		get_str(&rd, "link_target", &a->link_target);
	}
	a->make_parents = get_bool(&rd, "make_parents");
	a->allow_not_found = get_bool(&rd, "allow_not_found");
	return done(&rd);
}

static int platform_from_json(const bxc_json *j, bxc_platform *p, bxc_err **err)
{
	reader rd = read_object(j, err);
	const struct {
		const char *key;
		char *dst;
		size_t cap;
	} fields[] = {{"os", p->os, sizeof(p->os)}, {"arch", p->arch, sizeof(p->arch)},
		{"variant", p->variant, sizeof(p->variant)},
		{"os_version", p->os_version, sizeof(p->os_version)}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(fields); i++) {
		const char *s = text(&rd, fields[i].key);
		if (s && strlen(s) >= fields[i].cap)
			fail(&rd, fields[i].key, "is too long");
		else if (s)
			memcpy(fields[i].dst, s, strlen(s) + 1);
	}
	return done(&rd);
}

static void op_fields(reader *rd, bxc_def_vertex *v)
{
	const bxc_json *actions;
	switch (v->kind) {
	case BXC_OP_SOURCE:
		get_str(rd, "identifier", &v->op.source.identifier);
		get_strv(rd, "attrs", &v->op.source.attrs);
		break;
	case BXC_OP_EXEC:
		exec_from_json(rd, v);
		break;
	case BXC_OP_FILE:
		actions = get_arr(rd, "actions", DEF_MAX_ACTIONS);
		BXC_JSON_FOREACH (it, actions) {
			rd->r = action_from_json(it, v, rd->err);
			if (rd->r < 0)
				break;
		}
		break;
	case BXC_OP_DIFF:
		v->op.diff.lower = get_u32(rd, "lower", BXC_DEF_NO_INPUT);
		v->op.diff.upper = get_u32(rd, "upper", BXC_DEF_NO_INPUT);
		break;
	case BXC_OP_MERGE:
		break;
	case BXC_OP_UNKNOWN:
		fail(rd, "op", "is missing");
		break;
	}
}

static int op_from_json(const bxc_json *j, bxc_def_vertex **ret, bxc_err **err)
{
	reader rd = read_object(j, err);
	unsigned kind = get_name(&rd, "op", def_op_kind_name, BXC_OP_DIFF + 1, BXC_OP_UNKNOWN);
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = bxc_def_vertex_new((bxc_op_kind)kind);
	const bxc_json *platform = take(&rd, "platform");
	if (platform)
		rd.r = platform_from_json(platform, &v->platform, err);
	op_fields(&rd, v);
	int r = done(&rd);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(v);
	return 0;
}

static int meta_from_json(const bxc_json *j, bxc_def_meta *m, bxc_err **err)
{
	reader rd = read_object(j, err);
	get_str(&rd, "name", &m->name);
	get_str(&rd, "progress_group", &m->progress_group);
	get_str(&rd, "stage", &m->stage);
	m->line_start = get_u32(&rd, "line_start", 0);
	m->line_end = get_u32(&rd, "line_end", 0);
	m->ignore_cache = get_bool(&rd, "ignore_cache");
	m->internal = get_bool(&rd, "internal");
	return done(&rd);
}

/* Op, meta and digest, common to both forms. */
static void common_from_json(reader *rd, bxc_def_vertex **ret)
{
	bxc_digest digest = {0};
	const char *s = text(rd, "digest");
	if (s)
		rd->r = bxc_digest_parse(s, &digest, rd->err);
	const bxc_json *op = take(rd, "op"), *meta = take(rd, "meta");
	if (!op)
		fail(rd, "op", "is missing");
	if (rd->r < 0)
		return;
	rd->r = op_from_json(op, ret, rd->err);
	if (rd->r < 0)
		return;
	(*ret)->digest = digest;
	if (meta)
		rd->r = meta_from_json(meta, &(*ret)->meta, rd->err);
}

int bxc_def_vertex_from_json(const bxc_json *j, bxc_def_vertex **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = NULL;
	reader rd = read_object(j, err);
	common_from_json(&rd, &v);
	uint64_t n = get_u64(&rd, "n_inputs", DEF_MAX_INPUTS, 0);
	int r = done(&rd);
	if (r < 0)
		return bxc_err_wrap(err, r, "vertex");
	for (uint64_t i = 0; i < n; i++)
		*bxc_arr_push(&v->inputs) = (bxc_def_input){BXC_DEF_NO_INPUT, 0};
	r = def_check_vertex(v, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "vertex");
	*ret = BXC_TAKE(v);
	return 0;
}

static int input_from_json(const bxc_json *j, bxc_def_vertex *v, bxc_err **err)
{
	reader rd = read_object(j, err);
	bxc_def_input *in = bxc_arr_push(&v->inputs);
	in->vertex = get_u32(&rd, "vertex", BXC_DEF_NO_INPUT);
	in->output = get_u32(&rd, "output", 0);
	return done(&rd);
}

static int graph_vertex(const bxc_json *j, bxc_def *d, bxc_err **err)
{
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = NULL;
	reader rd = read_object(j, err);
	common_from_json(&rd, &v);
	const bxc_json *inputs = get_arr(&rd, "inputs", DEF_MAX_INPUTS);
	int r = done(&rd);
	if (r < 0)
		return r;
	BXC_JSON_FOREACH (it, inputs)
		if ((r = input_from_json(it, v, err)) < 0)
			return r;
	bxc_digest said = v->digest;
	uint32_t index;
	size_t n = d->vertices.n;
	r = bxc_def_add(d, BXC_TAKE(v), &index, err);
	if (r < 0)
		return r;
	if (d->vertices.n == n)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the vertex is there twice");
	if (!bxc_digest_eq(&d->vertices.v[index]->digest, &said))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the digest does not match");
	return 0;
}

int bxc_def_from_json(const bxc_json *j, bxc_def **ret, bxc_err **err)
{
	reader rd = read_object(j, err);
	uint64_t version = get_u64(&rd, "version", UINT32_MAX, 0);
	const bxc_json *vertices = get_arr(&rd, "vertices", BXC_LIMIT_DEF_NODES);
	int r = done(&rd);
	if (r < 0)
		return bxc_err_wrap(err, r, "definition");
	if (version != 1)
		return bxc_err_set(err, BXC_UNIMPLEMENTED,
			"definition of version %u: only version 1 is known", (unsigned)version);
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = bxc_def_new();
	BXC_JSON_FOREACH (it, vertices) {
		r = graph_vertex(it, d, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "definition: vertex %zu", d->vertices.n);
	}
	*ret = BXC_TAKE(d);
	return 0;
}
