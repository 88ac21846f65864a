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

/*
 * Where fields go: into a tree for transport, or straight into the canonical text that is hashed,
 * as a tree for each digest costs more than all else of a definition. The text wants keys sorted.
 */
typedef struct sink {
	bxc_json *tree; /* object or array; NULL: text */
	bxc_json_writer *text;
	def_encoder *encoder; /* of the text */
} sink;

static sink open_object(sink s, const char *key)
{
	if (s.tree)
		return (sink){.tree = key ? bxc_json_add_object(s.tree, key)
					  : bxc_json_push_object(s.tree)};
	bxc_json_writer_begin_object(s.text, key);
	return s;
}

static sink open_array(sink s, const char *key)
{
	if (s.tree)
		return (sink){.tree = bxc_json_add_array(s.tree, key)};
	bxc_json_writer_begin_array(s.text, key);
	return s;
}

static void close_it(sink s)
{
	if (s.text)
		bxc_json_writer_end(s.text);
}

static void set_str(sink s, const char *key, const char *value)
{
	if (s.text)
		bxc_json_writer_str(s.text, key, value);
	else if (key)
		bxc_json_set_str(s.tree, key, value);
	else
		bxc_json_push_str(s.tree, value);
}

static void set_i64(sink s, const char *key, int64_t v)
{
	if (s.text)
		bxc_json_writer_i64(s.text, key, v);
	else
		bxc_json_set_i64(s.tree, key, v);
}

static void set_u64(sink s, const char *key, uint64_t v)
{
	if (s.text)
		bxc_json_writer_u64(s.text, key, v);
	else
		bxc_json_set_u64(s.tree, key, v);
}

static void put_str(sink s, const char *key, const char *value)
{
	if (!bxc_str_empty(value))
		set_str(s, key, value);
}

static void put_strv(sink s, const char *key, char *const *v)
{
	if (!v || !*v)
		return;
	sink list = open_array(s, key);
	for (; *v; v++)
		set_str(list, NULL, *v);
	close_it(list);
}

static void put_bool(sink s, const char *key, bool v)
{
	if (v && s.text)
		bxc_json_writer_bool(s.text, key, true);
	else if (v)
		bxc_json_set_bool(s.tree, key, true);
}

static void put_u64(sink s, const char *key, uint64_t v)
{
	if (v)
		set_u64(s, key, v);
}

/* Zero is a good index: absence means none. */
static void put_index(sink s, const char *key, uint32_t v)
{
	if (v != BXC_DEF_NO_INPUT)
		set_u64(s, key, v);
}

/* What every op has. */
static void put_kind(sink s, const bxc_def_vertex *v)
{
	const bxc_platform *p = &v->platform;
	set_str(s, "op", def_op_kind_name(v->kind));
	if (!p->os[0])
		return;
	sink o = open_object(s, "platform");
	put_str(o, "arch", p->arch);
	put_str(o, "os", p->os);
	put_str(o, "os_version", p->os_version);
	put_str(o, "variant", p->variant);
	close_it(o);
}

static void put_source(sink s, const bxc_def_vertex *v)
{
	put_strv(s, "attrs", v->op.source.attrs);
	put_str(s, "identifier", v->op.source.identifier);
	put_kind(s, v);
}

static void put_mount(sink list, const bxc_def_vertex *v, const bxc_op_mount *m, def_form form)
{
	sink s = open_object(list, NULL);
	put_str(s, "dest", m->dest);
	put_str(s, "env", m->env);
	put_u64(s, "gid", m->gid);
	/* The id that a cache mount has by default says no more than its path. */
	if (form == DEF_FULL || m->kind != BXC_MOUNT_CACHE || !bxc_str_eq(m->cache_id, m->dest))
		put_str(s, "id", m->cache_id);
	put_index(s, "input", m->input);
	set_str(s, "kind", def_mount_kind_name(m->kind));
	put_u64(s, "mode", m->mode);
	put_bool(s, "optional", m->optional);
	if (m->output != BXC_DEF_NO_OUTPUT)
		set_i64(s, "output", m->output);
	put_bool(s, "readonly", m->readonly);
	if (form != DEF_CONTENT_KEY || m->input >= v->inputs.n ||
		!bxc_def_input_is_content(v, m->input))
		put_str(s, "selector", m->selector);
	if (m->sharing != BXC_CACHE_SHARED)
		set_str(s, "sharing", bxc_def_sharing_name(m->sharing));
	put_u64(s, "tmpfs_size", m->tmpfs_size);
	put_u64(s, "uid", m->uid);
	close_it(s);
}

static void put_host_names(sink s, char *const *hosts)
{
	if (!hosts || !hosts[0])
		return;
	sink names = open_array(s, "extra_hosts");
	for (char *const *h = hosts; *h; h++) {
		BXC_AUTOFREE char *name = bxc_strndup(*h, (size_t)(strchrnul(*h, '=') - *h));
		set_str(names, NULL, name);
	}
	close_it(names);
}

/* Steps in a row have the same environment, which may be most of their text. */
static void put_env(sink s, const bxc_op_exec *op)
{
	def_encoder *e = s.encoder;
	if (!e || !op->shared_env || !op->env[0]) {
		put_strv(s, "env", op->env);
		return;
	}
	if (e->env == op->shared_env) {
		bxc_json_writer_raw(s.text, "env", bxc_buf_slice(&e->env_text));
		return;
	}
	size_t before = s.text->out.len;
	put_strv(s, "env", op->env);
	const char *list = memchr(s.text->out.data + before, '[', s.text->out.len - before);
	size_t n = (size_t)((const char *)s.text->out.data + s.text->out.len - list);
	bxc_buf_clear(&e->env_text);
	bxc_buf_add(&e->env_text, list, n);
	bxc_def_env_unref(e->env);
	e->env = bxc_def_env_ref(op->shared_env);
}

static void put_exec(sink s, const bxc_def_vertex *v, def_form form)
{
	const bxc_op_exec *e = &v->op.exec;
	bool full = form == DEF_FULL;
	put_strv(s, "args", e->args);
	put_str(s, "cgroup_parent", e->cgroup_parent);
	put_str(s, "cwd", e->cwd);
	put_env(s, e);
	if (full)
		put_strv(s, "extra_hosts", e->extra_hosts);
	else
		put_host_names(s, e->extra_hosts);
	put_str(s, "hostname", e->hostname);
	put_bool(s, "insecure", e->insecure);
	sink mounts = open_array(s, "mounts");
	BXC_ARR_FOREACH (m, &e->mounts)
		put_mount(mounts, v, m, form);
	close_it(mounts);
	if (e->net != BXC_NET_DEFAULT)
		set_str(s, "net", def_net_name(e->net));
	put_kind(s, v);
	put_strv(s, "proxy_env", full ? e->proxy_env : NULL);
	put_u64(s, "shm_size", full ? e->shm_size : 0);
	put_strv(s, "ulimits", e->ulimits);
	put_str(s, "user", e->user);
}

static void put_owner(sink at, const bxc_def_owner *o)
{
	if (!o->is_set)
		return;
	sink s = open_object(at, "owner");
	put_u64(s, "gid", o->gid);
	put_str(s, "group_name", o->group_name);
	put_bool(s, "has_gid", o->has_gid);
	put_u64(s, "uid", o->uid);
	put_str(s, "user_name", o->user_name);
	close_it(s);
}

static const char *copy_source(const bxc_def_vertex *v, const bxc_file_action *a, def_form form)
{
	const char *src = a->src ? a->src : "";
	if (form != DEF_CONTENT_KEY || a->source >= v->inputs.n ||
		!bxc_def_input_is_content(v, a->source))
		return src;
	const char *slash = strrchr(src, '/');
	return slash && slash[1] ? slash + 1 : src;
}

static void put_data(sink s, const bxc_file_action *a)
{
	BXC_AUTOFREE char *b64 = bxc_base64_encode(a->data, a->data_len);
	put_str(s, "data", b64);
}

static void put_action(sink list, const bxc_def_vertex *v, const bxc_file_action *a, def_form form)
{
	bool copy = a->kind == BXC_FILE_COPY;
	sink s = open_object(list, NULL);
	put_bool(s, "allow_empty_wildcard", copy && a->allow_empty_wildcard);
	put_bool(s, "allow_not_found", a->allow_not_found);
	put_bool(s, "create_dest", copy && a->create_dest);
	if (a->kind == BXC_FILE_MKFILE)
		put_data(s, a);
	put_str(s, "dest", a->dest);
	put_strv(s, "exclude", copy ? a->exclude : NULL);
	put_bool(s, "follow_symlink", copy && a->follow_symlink);
	put_strv(s, "include", copy ? a->include : NULL);
	set_str(s, "kind", bxc_def_file_kind_name(a->kind));
	put_str(s, "link_target", a->kind == BXC_FILE_SYMLINK ? a->link_target : NULL);
	put_bool(s, "make_parents", a->make_parents);
	if (a->mode >= 0)
		set_i64(s, "mode", a->mode);
	put_str(s, "mode_text", copy ? a->mode_text : NULL);
	put_owner(s, &a->owner);
	put_bool(s, "replace_existing", copy && a->replace_existing);
	put_strv(s, "required", copy ? a->required : NULL);
	put_index(s, "source", copy ? a->source : BXC_DEF_NO_INPUT);
	put_str(s, "src", copy ? copy_source(v, a, form) : NULL);
	put_bool(s, "src_dir_contents", copy && a->src_dir_contents);
	put_index(s, "target", a->target);
	if (a->timestamp_ns != INT64_MIN)
		set_i64(s, "timestamp_ns", a->timestamp_ns);
	put_bool(s, "unpack", copy && a->unpack);
	put_bool(s, "wildcard", copy && a->wildcard);
	close_it(s);
}

static void put_file(sink s, const bxc_def_vertex *v, def_form form)
{
	sink actions = open_array(s, "actions");
	BXC_ARR_FOREACH (a, &v->op.file.actions)
		put_action(actions, v, a, form);
	close_it(actions);
	put_kind(s, v);
}

static void put_op(sink s, const bxc_def_vertex *v, def_form form)
{
	switch (v->kind) {
	case BXC_OP_SOURCE:
		put_source(s, v);
		break;
	case BXC_OP_EXEC:
		put_exec(s, v, form);
		break;
	case BXC_OP_FILE:
		put_file(s, v, form);
		break;
	case BXC_OP_DIFF:
		put_index(s, "lower", v->op.diff.lower);
		put_kind(s, v);
		put_index(s, "upper", v->op.diff.upper);
		break;
	case BXC_OP_MERGE:
	case BXC_OP_UNKNOWN:
		put_kind(s, v);
		break;
	}
}

bxc_json *bxc_def_op_to_json(const bxc_def_vertex *v)
{
	bxc_json *j = bxc_json_object();
	put_op((sink){.tree = j}, v, DEF_FULL);
	return j;
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

def_encoder *def_encoder_new(void)
{
	def_encoder *e = bxc_calloc(1, sizeof(*e));
	e->hasher = bxc_hasher_new();
	bxc_json_writer_init(&e->text);
	bxc_buf_init(&e->env_text, SIZE_MAX / 4);
	return e;
}

void def_encoder_free(def_encoder *e)
{
	if (!e)
		return;
	bxc_hasher_free(e->hasher);
	bxc_json_writer_done(&e->text);
	bxc_buf_done(&e->env_text);
	bxc_def_env_unref(e->env);
	free(e);
}

/* Each kind of digest begins with a text of its own, so that none can stand for another. */
static bxc_digest finish(def_encoder *e, const char *kind)
{
	bxc_slice text = bxc_json_writer_text(&e->text);
	bxc_hasher_update_str(e->hasher, kind);
	bxc_hasher_update(e->hasher, text.p, text.n);
	bxc_buf_clear(&e->text.out);
	return bxc_hasher_final(e->hasher);
}

bxc_digest def_vertex_digest(const bxc_def *d, const bxc_def_vertex *v, def_encoder *e)
{
	sink s = open_object((sink){.text = &e->text, .encoder = e}, NULL);
	sink inputs = open_array(s, "inputs");
	BXC_ARR_FOREACH (in, &v->inputs) {
		char digest[BXC_DIGEST_STR_MAX + 1];
		sink i = open_object(inputs, NULL);
		set_u64(i, "output", in->output);
		digest[0] = '"';
		bxc_digest_str(&d->vertices.v[in->vertex]->digest, digest + 1);
		digest[BXC_DIGEST_STR_MAX] = '"'; /* in place of the NUL */
		bxc_json_writer_raw(i.text, "vertex", bxc_slice_of(digest, sizeof(digest)));
		close_it(i);
	}
	close_it(inputs);
	put_op(open_object(s, "op"), v, DEF_FULL);
	close_it(s);
	close_it(s);
	return finish(e, "bxc vertex 1");
}

static bxc_digest op_digest(const bxc_def_vertex *v, def_form form, const char *kind)
{
	BXC_CLEANUP(def_encoder_freep) def_encoder *e = def_encoder_new();
	sink s = open_object((sink){.text = &e->text, .encoder = e}, NULL);
	put_op(s, v, form);
	close_it(s);
	return finish(e, kind);
}

bxc_digest bxc_def_op_digest(const bxc_def_vertex *v)
{
	return op_digest(v, DEF_KEY, "bxc op 1");
}

bxc_digest bxc_def_op_content_digest(const bxc_def_vertex *v)
{
	return op_digest(v, DEF_CONTENT_KEY, "bxc op content 1");
}

/* ---- transport ---- */

static void put_meta(sink s, const bxc_def_meta *m)
{
	put_str(s, "name", m->name);
	put_str(s, "progress_group", m->progress_group);
	put_str(s, "stage", m->stage);
	put_u64(s, "line_start", m->line_start);
	put_u64(s, "line_end", m->line_end);
	put_bool(s, "ignore_cache", m->ignore_cache);
	put_bool(s, "internal", m->internal);
}

static void common_to_json(const bxc_def_vertex *v, bxc_json *j)
{
	char s[BXC_DIGEST_STR_MAX];
	if (bxc_digest_is_set(&v->digest))
		bxc_json_set_str(j, "digest", bxc_digest_str(&v->digest, s));
	bxc_json_set_take(j, "op", bxc_def_op_to_json(v));
	put_meta((sink){.tree = bxc_json_add_object(j, "meta")}, &v->meta);
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
