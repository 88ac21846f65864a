/* SPDX-License-Identifier: Apache-2.0 */
/* The encoding of FORMAT.md. Neutral values are left out: an absent field and its default are one.
 */
#include <inttypes.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/codec/base64.h"
#include "common/definition/definition_internal.h"

#define NAME_OF(table, i) ((i) < BXC_ARRAY_SIZE(table) ? (table)[i] : NULL)

const char *def_op_kind_name(unsigned k)
{
	static const char *const names[] = {[BXC_OP_SOURCE] = "source",
		[BXC_OP_EXEC] = "exec",
		[BXC_OP_FILE] = "file",
		[BXC_OP_MERGE] = "merge",
		[BXC_OP_DIFF] = "diff"};
	return NAME_OF(names, k);
}

const char *def_mount_kind_name(unsigned k)
{
	static const char *const names[] = {[BXC_MOUNT_BIND] = "bind",
		[BXC_MOUNT_CACHE] = "cache",
		[BXC_MOUNT_TMPFS] = "tmpfs",
		[BXC_MOUNT_SECRET] = "secret",
		[BXC_MOUNT_SSH] = "ssh"};
	return NAME_OF(names, k);
}

const char *bxc_def_sharing_name(unsigned s)
{
	static const char *const names[] = {[BXC_CACHE_SHARED] = "shared",
		[BXC_CACHE_PRIVATE] = "private",
		[BXC_CACHE_LOCKED] = "locked"};
	return NAME_OF(names, s);
}

const char *def_net_name(unsigned n)
{
	static const char *const names[] = {
		[BXC_NET_DEFAULT] = "default", [BXC_NET_HOST] = "host", [BXC_NET_NONE] = "none"};
	return NAME_OF(names, n);
}

const char *bxc_def_file_kind_name(unsigned k)
{
	static const char *const names[] = {[BXC_FILE_COPY] = "copy",
		[BXC_FILE_MKFILE] = "mkfile",
		[BXC_FILE_MKDIR] = "mkdir",
		[BXC_FILE_RM] = "rm",
		[BXC_FILE_SYMLINK] = "symlink"};
	return NAME_OF(names, k);
}

static void put_str(bxc_json *j, const char *key, const char *s)
{
	if (!bxc_str_empty(s))
		bxc_json_set_str(j, key, s);
}

static void put_strv(bxc_json *j, const char *key, char *const *v)
{
	if (v && *v)
		bxc_json_set_strv(j, key, v);
}

static void put_bool(bxc_json *j, const char *key, bool v)
{
	if (v)
		bxc_json_set_bool(j, key, true);
}

static void put_u64(bxc_json *j, const char *key, uint64_t v)
{
	if (v)
		bxc_json_set_u64(j, key, v);
}

/* Zero is a good index: absence means none. */
static void put_index(bxc_json *j, const char *key, uint32_t v)
{
	if (v != BXC_DEF_NO_INPUT)
		bxc_json_set_u64(j, key, v);
}

static void source_to_json(const bxc_op_source *s, bxc_json *j)
{
	put_str(j, "identifier", s->identifier);
	put_strv(j, "attrs", s->attrs);
}

static void mount_to_json(
	const bxc_def_vertex *v, const bxc_op_mount *m, def_form form, bxc_json *j)
{
	bxc_json_set_str(j, "kind", def_mount_kind_name(m->kind));
	put_index(j, "input", m->input);
	if (m->output != BXC_DEF_NO_OUTPUT)
		bxc_json_set_i64(j, "output", m->output);
	put_str(j, "dest", m->dest);
	if (form != DEF_CONTENT_KEY || m->input >= v->inputs.n ||
		!bxc_def_input_is_content(v, m->input))
		put_str(j, "selector", m->selector);
	put_bool(j, "readonly", m->readonly);
	/* The id that a cache mount has by default says no more than its path. */
	if (form == DEF_FULL || m->kind != BXC_MOUNT_CACHE || !bxc_str_eq(m->cache_id, m->dest))
		put_str(j, "id", m->cache_id);
	if (m->sharing != BXC_CACHE_SHARED)
		bxc_json_set_str(j, "sharing", bxc_def_sharing_name(m->sharing));
	put_u64(j, "tmpfs_size", m->tmpfs_size);
	put_u64(j, "uid", m->uid);
	put_u64(j, "gid", m->gid);
	put_u64(j, "mode", m->mode);
	put_bool(j, "optional", m->optional);
	put_str(j, "env", m->env);
}

static void exec_to_json(const bxc_def_vertex *v, def_form form, bxc_json *j)
{
	const bxc_op_exec *e = &v->op.exec;
	put_strv(j, "args", e->args);
	put_strv(j, "env", e->env);
	put_str(j, "cwd", e->cwd);
	put_str(j, "user", e->user);
	put_str(j, "hostname", e->hostname);
	if (form == DEF_FULL) {
		put_strv(j, "extra_hosts", e->extra_hosts);
		put_strv(j, "proxy_env", e->proxy_env);
		put_u64(j, "shm_size", e->shm_size);
	} else if (e->extra_hosts && e->extra_hosts[0]) {
		bxc_json *names = bxc_json_add_array(j, "extra_hosts");
		for (char **h = e->extra_hosts; *h; h++) {
			BXC_AUTOFREE char *name =
				bxc_strndup(*h, (size_t)(strchrnul(*h, '=') - *h));
			bxc_json_push_str(names, name);
		}
	}
	put_strv(j, "ulimits", e->ulimits);
	put_str(j, "cgroup_parent", e->cgroup_parent);
	if (e->net != BXC_NET_DEFAULT)
		bxc_json_set_str(j, "net", def_net_name(e->net));
	put_bool(j, "insecure", e->insecure);
	bxc_json *mounts = bxc_json_add_array(j, "mounts");
	BXC_ARR_FOREACH (m, &e->mounts)
		mount_to_json(v, m, form, bxc_json_push_object(mounts));
}

static void owner_to_json(const bxc_def_owner *o, bxc_json *j)
{
	put_str(j, "user_name", o->user_name);
	put_str(j, "group_name", o->group_name);
	put_u64(j, "uid", o->uid);
	put_u64(j, "gid", o->gid);
	put_bool(j, "has_gid", o->has_gid);
}

static void copy_to_json(
	const bxc_def_vertex *v, const bxc_file_action *a, def_form form, bxc_json *j)
{
	put_index(j, "source", a->source);
	const char *src = a->src ? a->src : "";
	if (form == DEF_CONTENT_KEY && a->source < v->inputs.n &&
		bxc_def_input_is_content(v, a->source)) {
		const char *slash = strrchr(src, '/');
		src = slash && slash[1] ? slash + 1 : src;
	}
	put_str(j, "src", src);
	put_bool(j, "src_dir_contents", a->src_dir_contents);
	put_bool(j, "follow_symlink", a->follow_symlink);
	put_bool(j, "wildcard", a->wildcard);
	put_bool(j, "allow_empty_wildcard", a->allow_empty_wildcard);
	put_bool(j, "create_dest", a->create_dest);
	put_bool(j, "unpack", a->unpack);
	put_bool(j, "replace_existing", a->replace_existing);
	put_strv(j, "include", a->include);
	put_strv(j, "exclude", a->exclude);
	put_strv(j, "required", a->required);
	put_str(j, "mode_text", a->mode_text);
}

static void action_to_json(
	const bxc_def_vertex *v, const bxc_file_action *a, def_form form, bxc_json *j)
{
	bxc_json_set_str(j, "kind", bxc_def_file_kind_name(a->kind));
	put_index(j, "target", a->target);
	put_str(j, "dest", a->dest);
	if (a->mode >= 0)
		bxc_json_set_i64(j, "mode", a->mode);
	if (a->owner.is_set)
		owner_to_json(&a->owner, bxc_json_add_object(j, "owner"));
	if (a->timestamp_ns != INT64_MIN)
		bxc_json_set_i64(j, "timestamp_ns", a->timestamp_ns);
	if (a->kind == BXC_FILE_COPY) {
		copy_to_json(v, a, form, j);
	} else if (a->kind == BXC_FILE_MKFILE) {
		BXC_AUTOFREE char *b64 = bxc_base64_encode(a->data, a->data_len);
		put_str(j, "data", b64);
	} else if (a->kind == BXC_FILE_SYMLINK) {
		put_str(j, "link_target", a->link_target);
	}
	put_bool(j, "make_parents", a->make_parents);
	put_bool(j, "allow_not_found", a->allow_not_found);
}

static void platform_to_json(const bxc_platform *p, bxc_json *j)
{
	put_str(j, "os", p->os);
	put_str(j, "arch", p->arch);
	put_str(j, "variant", p->variant);
	put_str(j, "os_version", p->os_version);
}

bxc_json *def_op_to_json(const bxc_def_vertex *v, def_form form)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "op", def_op_kind_name(v->kind));
	if (v->platform.os[0])
		platform_to_json(&v->platform, bxc_json_add_object(j, "platform"));
	switch (v->kind) {
	case BXC_OP_SOURCE:
		source_to_json(&v->op.source, j);
		break;
	case BXC_OP_EXEC:
		exec_to_json(v, form, j);
		break;
	case BXC_OP_FILE: {
		bxc_json *actions = bxc_json_add_array(j, "actions");
		BXC_ARR_FOREACH (a, &v->op.file.actions)
			action_to_json(v, a, form, bxc_json_push_object(actions));
		break;
	}
	case BXC_OP_DIFF:
		put_index(j, "lower", v->op.diff.lower);
		put_index(j, "upper", v->op.diff.upper);
		break;
	case BXC_OP_MERGE:
	case BXC_OP_UNKNOWN:
		break;
	}
	return j;
}

bxc_json *bxc_def_op_to_json(const bxc_def_vertex *v)
{
	return def_op_to_json(v, DEF_FULL);
}

/* ---- digests ---- */

bool bxc_def_input_is_content(const bxc_def_vertex *v, size_t i)
{
	bool used = false;
	if (v->kind == BXC_OP_FILE) {
		BXC_ARR_FOREACH (a, &v->op.file.actions) {
			if (a->target == i)
				return false;
			used |= a->kind == BXC_FILE_COPY && a->source == i;
		}
	} else if (v->kind == BXC_OP_EXEC) {
		BXC_ARR_FOREACH (m, &v->op.exec.mounts) {
			if (m->input != i)
				continue;
			if (m->kind != BXC_MOUNT_BIND || !m->readonly ||
				m->output != BXC_DEF_NO_OUTPUT || bxc_str_eq(m->dest, "/"))
				return false;
			used = true;
		}
	}
	return used;
}

/* Each kind of digest begins with a text of its own, so that none can stand for another. */
static bxc_digest digest_json(const char *kind, const bxc_json *j)
{
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	BXC_AUTOFREE char *s = bxc_json_print_canonical(j);
	bxc_hasher_update_str(h, kind);
	bxc_hasher_update(h, s, strlen(s));
	return bxc_hasher_final(h);
}

bxc_digest def_vertex_digest(const bxc_def *d, const bxc_def_vertex *v)
{
	BXC_AUTOJSON bxc_json *j = bxc_json_object();
	bxc_json_set_take(j, "op", def_op_to_json(v, DEF_FULL));
	bxc_json *inputs = bxc_json_add_array(j, "inputs");
	BXC_ARR_FOREACH (in, &v->inputs) {
		char s[BXC_DIGEST_STR_MAX];
		bxc_json *i = bxc_json_push_object(inputs);
		bxc_json_set_str(
			i, "vertex", bxc_digest_str(&d->vertices.v[in->vertex]->digest, s));
		bxc_json_set_u64(i, "output", in->output);
	}
	return digest_json("bxc vertex 1", j);
}

bxc_digest bxc_def_op_digest(const bxc_def_vertex *v)
{
	BXC_AUTOJSON bxc_json *j = def_op_to_json(v, DEF_KEY);
	return digest_json("bxc op 1", j);
}

bxc_digest bxc_def_op_content_digest(const bxc_def_vertex *v)
{
	BXC_AUTOJSON bxc_json *j = def_op_to_json(v, DEF_CONTENT_KEY);
	return digest_json("bxc op content 1", j);
}

/* ---- transport ---- */

static void meta_to_json(const bxc_def_meta *m, bxc_json *j)
{
	put_str(j, "name", m->name);
	put_str(j, "progress_group", m->progress_group);
	put_str(j, "stage", m->stage);
	put_u64(j, "line_start", m->line_start);
	put_u64(j, "line_end", m->line_end);
	put_bool(j, "ignore_cache", m->ignore_cache);
	put_bool(j, "internal", m->internal);
}

static void common_to_json(const bxc_def_vertex *v, bxc_json *j)
{
	char s[BXC_DIGEST_STR_MAX];
	put_str(j, "digest", bxc_digest_str(&v->digest, s));
	bxc_json_set_take(j, "op", def_op_to_json(v, DEF_FULL));
	meta_to_json(&v->meta, bxc_json_add_object(j, "meta"));
}

bxc_json *bxc_def_vertex_to_json(const bxc_def_vertex *v)
{
	bxc_json *j = bxc_json_object();
	common_to_json(v, j);
	bxc_json_set_u64(j, "n_inputs", v->inputs.n);
	return j;
}

bxc_json *bxc_def_to_json(const bxc_def *d)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_i64(j, "version", 1);
	bxc_json *vertices = bxc_json_add_array(j, "vertices");
	BXC_ARR_FOREACH (v, &d->vertices) {
		bxc_json *vj = bxc_json_push_object(vertices);
		common_to_json(*v, vj);
		bxc_json *inputs = bxc_json_add_array(vj, "inputs");
		BXC_ARR_FOREACH (in, &(*v)->inputs) {
			bxc_json *i = bxc_json_push_object(inputs);
			bxc_json_set_u64(i, "vertex", in->vertex);
			bxc_json_set_u64(i, "output", in->output);
		}
	}
	return j;
}
