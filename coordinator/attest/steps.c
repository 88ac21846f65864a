/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a build and where they come from: field names are those of LLB's JSON form. */
#include <inttypes.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"
#include "coordinator/attest/attest_internal.h"

static void set_opt(bxc_json *o, const char *key, const char *value)
{
	if (!bxc_str_empty(value))
		bxc_json_set_str(o, key, value);
}

static void set_list(bxc_json *o, const char *key, char *const *list)
{
	if (list && *list)
		bxc_json_set_strv(o, key, list);
}

static int64_t index_of(uint32_t input)
{
	return input == BXC_DEF_NO_INPUT ? -1 : (int64_t)input;
}

static bxc_json *source_op(const bxc_op_source *s)
{
	bxc_json *o = bxc_json_object();
	bxc_json_set_str(o, "identifier", s->identifier);
	bxc_json *attrs = NULL;
	for (char **a = s->attrs; a && *a; a++) {
		const char *eq = strchr(*a, '=');
		/* A session is a name of the wire, nothing of the build. */
		if (!eq || bxc_str_has_prefix(*a, "session="))
			continue;
		BXC_AUTOFREE char *key = bxc_strndup(*a, (size_t)(eq - *a));
		if (!attrs)
			attrs = bxc_json_add_object(o, "attrs");
		bxc_json_set_str(attrs, key, eq + 1);
	}
	return o;
}

static bxc_json *mount(const bxc_op_mount *m)
{
	/* MountType of LLB's ops.proto. */
	static const int types[] = {[BXC_MOUNT_BIND] = 0, [BXC_MOUNT_SECRET] = 1, [BXC_MOUNT_SSH] = 2, [BXC_MOUNT_CACHE] = 3, [BXC_MOUNT_TMPFS] = 4};
	bxc_json *o = bxc_json_object();
	bxc_json_set_i64(o, "input", index_of(m->input));
	set_opt(o, "selector", m->selector);
	bxc_json_set_str(o, "dest", m->dest ? m->dest : "");
	bxc_json_set_i64(o, "output", m->output);
	if (m->readonly)
		bxc_json_set_bool(o, "readonly", true);
	if (m->kind != BXC_MOUNT_BIND)
		bxc_json_set_i64(o, "mountType", types[m->kind]);
	if (m->kind == BXC_MOUNT_CACHE) {
		bxc_json *c = bxc_json_add_object(o, "cacheOpt");
		set_opt(c, "ID", m->cache_id);
		bxc_json_set_str(c, "sharing", bxc_def_sharing_name(m->sharing));
	} else if (m->kind == BXC_MOUNT_SECRET || m->kind == BXC_MOUNT_SSH) {
		bxc_json *c = bxc_json_add_object(o, m->kind == BXC_MOUNT_SSH ? "SSHOpt" : "secretOpt");
		set_opt(c, "ID", m->cache_id);
		bxc_json_set_i64(c, "mode", m->mode);
	}
	return o;
}

static bxc_json *exec_op(const bxc_op_exec *x)
{
	static const int nets[] = {[BXC_NET_DEFAULT] = 0, [BXC_NET_HOST] = 1, [BXC_NET_NONE] = 2};
	bxc_json *o = bxc_json_object();
	bxc_json *meta = bxc_json_add_object(o, "meta");
	set_list(meta, "args", x->args);
	set_list(meta, "env", x->env);
	set_opt(meta, "cwd", x->cwd);
	set_opt(meta, "user", x->user);
	set_opt(meta, "hostname", x->hostname);
	bxc_json *mounts = bxc_json_add_array(o, "mounts");
	BXC_ARR_FOREACH (m, &x->mounts)
		bxc_json_push_take(mounts, mount(m));
	if (x->net != BXC_NET_DEFAULT)
		bxc_json_set_i64(o, "network", nets[x->net]);
	if (x->insecure)
		bxc_json_set_i64(o, "security", 1);
	return o;
}

static bxc_json *copy_action(const bxc_file_action *a)
{
	bxc_json *o = bxc_json_object();
	bxc_json_set_str(o, "src", a->src ? a->src : "");
	bxc_json_set_str(o, "dest", a->dest ? a->dest : "");
	bxc_json_set_i64(o, "mode", a->mode);
	set_opt(o, "modeStr", a->mode_text);
	const struct {
		const char *key;
		bool value;
	} flags[] = {{"followSymlink", a->follow_symlink}, {"dirCopyContents", a->src_dir_contents}, {"attemptUnpackDockerCompatibility", a->unpack},
		{"createDestPath", a->create_dest}, {"allowWildcard", a->wildcard}, {"allowEmptyWildcard", a->allow_empty_wildcard},
		{"alwaysReplaceExistingDestPaths", a->replace_existing}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(flags); i++)
		if (flags[i].value)
			bxc_json_set_bool(o, flags[i].key, true);
	set_list(o, "include_patterns", a->include);
	set_list(o, "exclude_patterns", a->exclude);
	return o;
}

static bxc_json *file_action(const bxc_file_action *a)
{
	const char *name = bxc_def_file_kind_name(a->kind);
	bxc_json *o = a->kind == BXC_FILE_COPY ? copy_action(a) : bxc_json_object();
	if (a->kind == BXC_FILE_SYMLINK) {
		set_opt(o, "oldpath", a->link_target);
		set_opt(o, "newpath", a->dest);
	} else if (a->kind != BXC_FILE_COPY) {
		set_opt(o, "path", a->dest);
	}
	if (a->kind == BXC_FILE_MKFILE) {
		BXC_AUTOFREE char *data = bxc_base64_encode(a->data, a->data_len);
		bxc_json_set_str(o, "data", data);
	}
	if (a->kind == BXC_FILE_MKFILE || a->kind == BXC_FILE_MKDIR)
		bxc_json_set_i64(o, "mode", a->mode);
	bxc_json *wrap = bxc_json_object();
	bxc_json_set_i64(wrap, "input", index_of(a->target));
	bxc_json_set_i64(wrap, "secondaryInput", a->kind == BXC_FILE_COPY ? index_of(a->source) : -1);
	bxc_json_set_take(bxc_json_add_object(wrap, "Action"), name ? name : "unknown", o);
	return wrap;
}

static bxc_json *file_op(const bxc_op_file *f)
{
	bxc_json *o = bxc_json_object();
	bxc_json *list = bxc_json_add_array(o, "actions");
	size_t n = 0;
	BXC_ARR_FOREACH (a, &f->actions) {
		bxc_json *j = file_action(a);
		bxc_json_set_i64(j, "output", ++n == f->actions.n ? 0 : -1);
		bxc_json_push_take(list, j);
	}
	return o;
}

static bxc_json *diff_op(const bxc_op_diff *d)
{
	bxc_json *o = bxc_json_object();
	bxc_json_set_i64(bxc_json_add_object(o, "lower"), "input", index_of(d->lower));
	bxc_json_set_i64(bxc_json_add_object(o, "upper"), "input", index_of(d->upper));
	return o;
}

static bxc_json *merge_op(const bxc_def_vertex *v)
{
	bxc_json *o = bxc_json_object();
	bxc_json *list = bxc_json_add_array(o, "inputs");
	for (size_t i = 0; i < v->inputs.n; i++)
		bxc_json_set_i64(bxc_json_push_object(list), "input", (int64_t)i);
	return o;
}

static bxc_json *op(const bxc_def_vertex *v)
{
	bxc_json *o = bxc_json_object();
	bxc_json *kinds = bxc_json_add_object(o, "Op");
	switch (v->kind) {
	case BXC_OP_SOURCE:
		bxc_json_set_take(kinds, "source", source_op(&v->op.source));
		break;
	case BXC_OP_EXEC:
		bxc_json_set_take(kinds, "exec", exec_op(&v->op.exec));
		break;
	case BXC_OP_FILE:
		bxc_json_set_take(kinds, "file", file_op(&v->op.file));
		break;
	case BXC_OP_MERGE:
		bxc_json_set_take(kinds, "merge", merge_op(v));
		break;
	case BXC_OP_DIFF:
		bxc_json_set_take(kinds, "diff", diff_op(&v->op.diff));
		break;
	case BXC_OP_UNKNOWN:
		break;
	}
	if (*v->platform.os) {
		bxc_json *p = bxc_json_add_object(o, "platform");
		bxc_json_set_str(p, "Architecture", v->platform.arch);
		bxc_json_set_str(p, "OS", v->platform.os);
		set_opt(p, "Variant", v->platform.variant);
	}
	return o;
}

/* Numbers of the steps that count, in the order of the definition: inputs first. Owned. */
static size_t *number(const bxc_att_facts *f)
{
	BXC_AUTOFREE bool *used = att_reachable(f);
	size_t n = f->def ? f->def->vertices.n : 0, next = 0;
	size_t *ids = bxc_calloc(n + 1, sizeof(*ids));
	for (size_t i = 0; i < n; i++)
		ids[i] = used[i] ? next++ : SIZE_MAX;
	return ids;
}

bxc_json *att_steps(const bxc_att_facts *f)
{
	BXC_AUTOFREE size_t *ids = number(f);
	bxc_json *o = bxc_json_object();
	bxc_json *steps = bxc_json_add_array(o, "llbDefinition");
	bxc_json *digests = bxc_json_object();
	for (size_t i = 0; f->def && i < f->def->vertices.n; i++) {
		const bxc_def_vertex *v = f->def->vertices.v[i];
		if (ids[i] == SIZE_MAX)
			continue;
		char digest[BXC_DIGEST_STR_MAX];
		BXC_AUTOFREE char *id = bxc_str_fmt("step%zu", ids[i]);
		bxc_json *s = bxc_json_push_object(steps);
		bxc_json_set_str(s, "id", id);
		bxc_json_set_take(s, "op", op(v));
		if (v->inputs.n) {
			bxc_json *inputs = bxc_json_add_array(s, "inputs");
			BXC_ARR_FOREACH (in, &v->inputs) {
				BXC_AUTOFREE char *from = bxc_str_fmt("step%zu:%" PRIu32, ids[in->vertex], in->output);
				bxc_json_push_str(inputs, from);
			}
		}
		bxc_json_set_str(digests, bxc_digest_str(&v->digest, digest), id);
	}
	bxc_json_set_take(o, "digestMapping", digests);
	return o;
}

bxc_json *att_source_map(const bxc_att_facts *f)
{
	BXC_AUTOFREE size_t *ids = number(f);
	bxc_json *o = bxc_json_object();
	bxc_json *where = bxc_json_add_object(o, "locations");
	for (size_t i = 0; f->def && i < f->def->vertices.n; i++) {
		const bxc_def_meta *m = &f->def->vertices.v[i]->meta;
		if (ids[i] == SIZE_MAX)
			continue;
		BXC_AUTOFREE char *id = bxc_str_fmt("step%zu", ids[i]);
		bxc_json *at = bxc_json_add_object(where, id);
		if (!m->line_start)
			continue;
		bxc_json *range = bxc_json_push_object(bxc_json_add_array(bxc_json_push_object(bxc_json_add_array(at, "locations")), "ranges"));
		bxc_json_set_i64(bxc_json_add_object(range, "start"), "line", m->line_start);
		bxc_json_set_i64(bxc_json_add_object(range, "end"), "line", m->line_end);
	}
	bxc_json *info = bxc_json_push_object(bxc_json_add_array(o, "infos"));
	bxc_json_set_str(info, "filename", f->dockerfile_name);
	bxc_json_set_str(info, "language", "Dockerfile");
	BXC_AUTOFREE char *data = bxc_base64_encode(f->dockerfile.p, f->dockerfile.n);
	bxc_json_set_str(info, "data", data);
	return o;
}
