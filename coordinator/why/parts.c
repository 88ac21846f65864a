/* SPDX-License-Identifier: Apache-2.0 */
/* From a vertex to the parts of its key, each with a name of its own. */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/utf8.h"
#include "common/remote/remote.h"
#include "coordinator/why/why.h"

typedef struct parts {
	bxc_json *list;
	size_t n;
} parts;

/* Long values keep their beginning, for people, and differ by their digest. */
static char *shown(const char *value)
{
	size_t n = strlen(value);
	if (n <= BXC_WHY_MAX_VALUE)
		return bxc_strdup(value);
	char d[BXC_DIGEST_STR_MAX];
	bxc_digest of = bxc_digest_of(value, n);
	bxc_digest_str(&of, d);
	BXC_AUTOFREE char *head = bxc_strdup(value);
	bxc_utf8_cut(head, BXC_WHY_MAX_VALUE / 2);
	return bxc_str_fmt("%s... (%zu bytes, %s)", head, n, d);
}

static bxc_json *add(parts *p, const char *component, const char *name, const char *value)
{
	if (p->n++ >= BXC_WHY_MAX_PARTS)
		return NULL;
	bxc_json *o = bxc_json_push_object(p->list);
	bxc_json_set_str(o, "c", component);
	bxc_json_set_str(o, "n", name);
	if (value) {
		BXC_AUTOFREE char *text = shown(value);
		bxc_json_set_str(o, "v", text);
	}
	return o;
}

static void set_digest(bxc_json *o, const char *key, const bxc_digest *d)
{
	char text[BXC_DIGEST_STR_MAX];
	if (o && bxc_digest_is_set(d))
		bxc_json_set_str(o, key, bxc_digest_str(d, text));
}

static void add_opt(parts *p, const char *component, const char *name, const char *value)
{
	if (!bxc_str_empty(value))
		add(p, component, name, value);
}

/* ---- sources and inputs ---- */

typedef enum input_class {
	INPUT_BASE = 0,
	INPUT_SOURCE,
	INPUT_STEP,
	INPUT_FILES,
} input_class;

static input_class class_of(const bxc_def_vertex *v)
{
	if (v->kind != BXC_OP_SOURCE)
		return INPUT_STEP;
	const char *id = v->op.source.identifier;
	if (bxc_str_has_prefix(id, "local://"))
		return INPUT_FILES;
	if (bxc_str_has_prefix(id, "docker-image://") || bxc_str_has_prefix(id, "oci-layout://"))
		return INPUT_BASE;
	return INPUT_SOURCE;
}

/* "docker.io/library/busybox:latest@sha256:..."; user and password of a URL are not for others. */
static char *source_name(const bxc_def_vertex *v)
{
	const char *id = v->op.source.identifier;
	const char *sep = strstr(id, "://");
	bool is_url = class_of(v) == INPUT_SOURCE;
	return sep && !is_url ? bxc_strdup(sep + 3) : bxc_remote_redact(id);
}

static void add_input(parts *p, const bxc_why_input *in, size_t i)
{
	static const char *const names[] = {[INPUT_BASE] = "base",
		[INPUT_SOURCE] = "source",
		[INPUT_STEP] = "input",
		[INPUT_FILES] = "files"};
	BXC_AUTOFREE char *at = bxc_str_fmt("%zu", i);
	input_class c = class_of(in->v);
	BXC_AUTOFREE char *text = c == INPUT_STEP
					  ? bxc_strdup(in->v->meta.name ? in->v->meta.name : "")
					  : source_name(in->v);
	bxc_json *o = add(p, names[c], at, text);
	set_digest(o, "k", &in->key);
	set_digest(o, "f", &in->content);
	set_digest(o, "m", &in->manifest);
	if (c == INPUT_STEP)
		set_digest(o, "s", &in->v->digest);
}

static void add_inputs(
	parts *p, const bxc_def_vertex *v, const bxc_why_input *inputs, input_class c)
{
	for (size_t i = 0; i < v->inputs.n; i++)
		if (class_of(inputs[i].v) == c)
			add_input(p, &inputs[i], i);
}

/* Those of a local context say who serves it, nothing of what it holds. */
static void source_parts(parts *p, const bxc_def_vertex *v, const bxc_digest *key)
{
	BXC_AUTOFREE char *text = source_name(v);
	set_digest(add(p, class_of(v) == INPUT_BASE ? "base" : "source", "0", text), "k", key);
	if (class_of(v) == INPUT_FILES)
		return;
	for (char *const *a = v->op.source.attrs; a && *a; a++) {
		const char *eq = strchr(*a, '=');
		BXC_AUTOFREE char *name = bxc_strndup(*a, eq ? (size_t)(eq - *a) : strlen(*a));
		if (eq && !bxc_str_eq(name, "session"))
			add(p, "option", name, eq + 1);
	}
}

/* ---- commands ---- */

static void mount_part(parts *p, const bxc_op_mount *m, const bxc_why_input *inputs, size_t n)
{
	static const char *const kinds[] = {[BXC_MOUNT_BIND] = "bind",
		[BXC_MOUNT_CACHE] = "cache",
		[BXC_MOUNT_TMPFS] = "tmpfs",
		[BXC_MOUNT_SECRET] = "secret",
		[BXC_MOUNT_SSH] = "ssh"};
	char **words = NULL;
	bool has_id = m->kind == BXC_MOUNT_CACHE || m->kind == BXC_MOUNT_SECRET ||
		      m->kind == BXC_MOUNT_SSH;
	bxc_strv_pushf(&words, "type=%s", kinds[m->kind]);
	/* A cache without an id is called by its path. */
	if (has_id)
		bxc_strv_pushf(&words, "id=%s", m->cache_id ? m->cache_id : m->dest ? m->dest : "");
	if (m->kind == BXC_MOUNT_CACHE)
		bxc_strv_pushf(&words, "sharing=%s", bxc_def_sharing_name(m->sharing));
	if (m->input < n && class_of(inputs[m->input].v) == INPUT_STEP)
		bxc_strv_pushf(&words, "from=%s",
			inputs[m->input].v->meta.name ? inputs[m->input].v->meta.name : "");
	if (m->selector)
		bxc_strv_pushf(&words, "source=%s", m->selector);
	if (m->readonly)
		bxc_strv_push(&words, "readonly");
	if (m->tmpfs_size)
		bxc_strv_pushf(&words, "size=%llu", (unsigned long long)m->tmpfs_size);
	if (has_id)
		bxc_strv_pushf(&words, "uid=%u,gid=%u,mode=%04o", m->uid, m->gid, m->mode);
	if (m->optional)
		bxc_strv_push(&words, "optional");
	if (m->env)
		bxc_strv_pushf(&words, "env=%s", m->env);
	BXC_AUTOFREE char *text = bxc_strv_join(words, ",");
	bxc_strv_free(words);
	add(p, "mount", bxc_str_empty(m->dest) ? m->env ? m->env : "" : m->dest, text);
}

/* As they enter the key: addresses of hosts do not, nor do the size of /dev/shm and proxies. */
static void exec_parts(parts *p, const bxc_def_vertex *v, const bxc_why_input *inputs)
{
	static const char *const nets[] = {
		[BXC_NET_DEFAULT] = NULL, [BXC_NET_HOST] = "host", [BXC_NET_NONE] = "none"};
	const bxc_op_exec *x = &v->op.exec;
	size_t n = 0;
	for (char *const *a = x->args; a && *a; a++) {
		BXC_AUTOFREE char *at = bxc_str_fmt("%zu", n++);
		add(p, "argument", at, *a);
	}
	for (char *const *e = x->env; e && *e; e++) {
		const char *eq = strchr(*e, '=');
		BXC_AUTOFREE char *name = bxc_strndup(*e, eq ? (size_t)(eq - *e) : strlen(*e));
		add(p, "environment", name, eq ? eq + 1 : "");
	}
	add_opt(p, "directory", NULL, x->cwd);
	add_opt(p, "user", NULL, x->user);
	add_opt(p, "hostname", NULL, x->hostname);
	for (char *const *h = x->extra_hosts; h && *h; h++) {
		BXC_AUTOFREE char *name = bxc_strndup(*h, strcspn(*h, "="));
		add(p, "host", name, NULL);
	}
	for (char *const *u = x->ulimits; u && *u; u++) {
		const char *eq = strchr(*u, '=');
		BXC_AUTOFREE char *name = bxc_strndup(*u, strcspn(*u, "="));
		add(p, "ulimit", name, eq ? eq + 1 : "");
	}
	add_opt(p, "cgroup", NULL, x->cgroup_parent);
	add_opt(p, "network", NULL, nets[x->net]);
	if (x->insecure)
		add(p, "security", NULL, "insecure");
	for (size_t i = 1; i < x->mounts.n; i++)
		mount_part(p, &x->mounts.v[i], inputs, v->inputs.n);
}

/* ---- files ---- */

static char *owner_text(const bxc_def_owner *o)
{
	BXC_AUTOFREE char *user =
		o->user_name ? bxc_strdup(o->user_name) : bxc_str_fmt("%u", o->uid);
	if (o->group_name)
		return bxc_str_fmt("%s:%s", user, o->group_name);
	return o->has_gid ? bxc_str_fmt("%s:%u", user, o->gid) : bxc_strdup(user);
}

/* What the action does not have is not written, so that it can come and go. */
static void action_parts(parts *p, const bxc_file_action *a, size_t i, size_t n)
{
	BXC_AUTOFREE char *after = n > 1 ? bxc_str_fmt(" (%zu)", i + 1) : bxc_strdup("");
	const struct {
		const char *name;
		bool is_set;
	} flags[] = {{"follow links", a->follow_symlink},
		{"directory itself", !a->src_dir_contents}, {"unpack", a->unpack},
		{"replace", a->replace_existing},
		{"make parents", a->make_parents || a->create_dest}, {"wildcards", a->wildcard},
		{"may be empty", a->allow_empty_wildcard}, {"may be absent", a->allow_not_found}};
	const struct {
		const char *name;
		char *const *list;
	} lists[] = {{"include", a->include}, {"exclude", a->exclude}, {"required", a->required}};
#define NAMED(base) BXC_AUTOFREE char *name = bxc_str_fmt("%s%s", base, after)
	{
		NAMED("action");
		add(p, "argument", name, bxc_def_file_kind_name(a->kind));
	}
	if (a->src) {
		NAMED("source");
		add(p, "argument", name, a->src);
	}
	if (a->dest) {
		NAMED("destination");
		add(p, "argument", name, a->dest);
	}
	if (a->mode >= 0 || a->mode_text) {
		NAMED("mode");
		BXC_AUTOFREE char *text = a->mode_text ? bxc_strdup(a->mode_text)
						       : bxc_str_fmt("%04o", (unsigned)a->mode);
		add(p, "argument", name, text);
	}
	if (a->owner.is_set) {
		NAMED("owner");
		BXC_AUTOFREE char *text = owner_text(&a->owner);
		add(p, "argument", name, text);
	}
	if (a->kind == BXC_FILE_MKFILE) {
		NAMED("content");
		char d[BXC_DIGEST_STR_MAX];
		bxc_digest of = bxc_digest_of(a->data ? (const void *)a->data : "", a->data_len);
		add(p, "argument", name, bxc_digest_str(&of, d));
	}
	if (a->link_target) {
		NAMED("target");
		add(p, "argument", name, a->link_target);
	}
	if (a->timestamp_ns != INT64_MIN) {
		NAMED("time");
		BXC_AUTOFREE char *text = bxc_str_fmt("%lld", (long long)a->timestamp_ns);
		add(p, "argument", name, text);
	}
	for (size_t k = 0; k < BXC_ARRAY_SIZE(lists); k++) {
		if (!lists[k].list || !*lists[k].list)
			continue;
		NAMED(lists[k].name);
		BXC_AUTOFREE char *text = bxc_strv_join(lists[k].list, " ");
		add(p, "argument", name, text);
	}
	for (size_t k = 0; k < BXC_ARRAY_SIZE(flags); k++) {
		NAMED(flags[k].name);
		if (flags[k].is_set)
			add(p, "argument", name, "yes");
	}
#undef NAMED
}

/* ---- all ---- */

bxc_json *bxc_why_parts(const bxc_def_vertex *v, const bxc_why_input *inputs, const bxc_digest *key)
{
	parts p = {.list = bxc_json_array()};
	/* Files are copied and trees stacked by any worker, but in a definition they are of a
	 * platform. */
	if (v->platform.os[0]) {
		BXC_AUTOFREE char *platform = bxc_platform_str(&v->platform);
		add(&p, "platform", NULL, platform);
	}
	if (v->kind == BXC_OP_SOURCE)
		source_parts(&p, v, key);
	add_inputs(&p, v, inputs, INPUT_BASE);
	add_inputs(&p, v, inputs, INPUT_SOURCE);
	if (v->kind == BXC_OP_EXEC)
		exec_parts(&p, v, inputs);
	for (size_t i = 0; v->kind == BXC_OP_FILE && i < v->op.file.actions.n; i++)
		action_parts(&p, &v->op.file.actions.v[i], i, v->op.file.actions.n);
	add_inputs(&p, v, inputs, INPUT_STEP);
	add_inputs(&p, v, inputs, INPUT_FILES);
	/* Tells what none of the above does; has its place whatever there was. */
	p.n = 0;
	bxc_digest op = bxc_def_op_digest(v);
	set_digest(add(&p, "operation", NULL, NULL), "k", &op);
	return p.list;
}

static void hash_opt(bxc_hasher *h, const char *s)
{
	bxc_hasher_update_str(h, s ? s : "");
}

bxc_digest bxc_why_lineage(const bxc_why_place *p, const bxc_def_vertex *v)
{
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	BXC_AUTOFREE char *platform = bxc_platform_str(&v->platform);
	bxc_hasher_update_str(h, "bxc lineage 1");
	hash_opt(h, p->scope);
	hash_opt(h, p->project);
	hash_opt(h, v->meta.stage);
	bxc_hasher_update_u64(h, v->kind);
	bxc_hasher_update_u64(h, p->position);
	bxc_hasher_update_str(h, platform);
	return bxc_hasher_final(h);
}

static void hash_list(bxc_hasher *h, char *const *list)
{
	bxc_hasher_update_u64(h, bxc_strv_len(list));
	for (char *const *s = list; s && *s; s++)
		bxc_hasher_update_str(h, *s);
}

static void hash_source(bxc_hasher *h, const char *id)
{
	/* What the name was found to stand for is what may differ. */
	BXC_AUTOFREE char *name = bxc_strndup(id, strcspn(id, "@"));
	bxc_hasher_update_str(h, name);
}

bxc_digest bxc_why_shape(const char *scope, const bxc_def_vertex *v)
{
	BXC_AUTOHASHER bxc_hasher *h = bxc_hasher_new();
	bxc_hasher_update_str(h, "bxc shape 1");
	hash_opt(h, scope);
	bxc_hasher_update_u64(h, v->kind);
	bxc_hasher_update_u64(h, v->inputs.n);
	if (v->kind == BXC_OP_SOURCE)
		hash_source(h, v->op.source.identifier);
	if (v->kind == BXC_OP_EXEC)
		hash_list(h, v->op.exec.args);
	for (size_t i = 0; v->kind == BXC_OP_FILE && i < v->op.file.actions.n; i++) {
		const bxc_file_action *a = &v->op.file.actions.v[i];
		bxc_hasher_update_u64(h, a->kind);
		hash_opt(h, a->src);
		hash_opt(h, a->dest);
	}
	return bxc_hasher_final(h);
}
