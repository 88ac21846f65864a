/* SPDX-License-Identifier: Apache-2.0 */
/* Named contexts of a request: what stands in for stages and images of a name. */
#include "coordinator/build/build_internal.h"

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/remote/remote.h"

#define MAX_CONTEXTS 1000u

void named_free(void *p)
{
	named_context *n = p;
	if (!n)
		return;
	free(n->name);
	free(n->source);
	free(n->shown);
	bxc_def_free(n->def);
	free(n);
}

/* The tree that a URL gives. */
static int tree_of(named_context *n, const char *url, bxc_err **err)
{
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	BXC_AUTOFREE char *shown = bxc_remote_redact(url);
	bool git = false;
	uint32_t index;
	int r = remote_source(NULL, url, &v->op.source, &git, err);
	if (r < 0)
		return r;
	v->meta.name = git ? bxc_str_fmt("[context %s] load git source %s", n->name, shown)
			   : bxc_str_fmt("[context %s] %s", n->name, shown);
	n->kind = BXC_DF_CONTEXT_TREE;
	n->def = bxc_def_new();
	r = bxc_def_add(n->def, BXC_TAKE(v), &index, err);
	return r < 0 ? r : bxc_def_validate(n->def, err);
}

static int image_of(named_context *n, const char *text, bxc_err **err)
{
	BXC_AUTOREF bxc_ref ref = {0};
	if (bxc_str_eq(text, "scratch")) {
		n->kind = BXC_DF_CONTEXT_SCRATCH;
		return 0;
	}
	int r = bxc_ref_parse(text, &ref, err);
	if (r < 0)
		return r;
	n->kind = BXC_DF_CONTEXT_IMAGE;
	n->source = bxc_ref_str(&ref);
	n->shown = bxc_strdup(text);
	return 0;
}

int layout_parse(const char *ref, char **ret_store, bxc_digest *ret, bxc_err **err)
{
	static const char scheme[] = "oci-layout://";
	const char *name = bxc_str_has_prefix(ref, scheme) ? ref + strlen(scheme) : "";
	const char *at = strrchr(name, '@');
	if (!at || at == name || at - name > 256)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"oci-layout reference \"%.256s\" has no digest", name);
	int r = bxc_digest_parse(at + 1, ret, err);
	if (r >= 0)
		*ret_store = bxc_strndup(name, (size_t)(at - name));
	return bxc_err_wrap(err, r, "oci-layout reference");
}

static int layout_of(named_context *n, const char *value, bxc_err **err)
{
	BXC_AUTOFREE char *store = NULL;
	bxc_digest d;
	int r = layout_parse(value, &store, &d, err);
	if (r < 0)
		return r;
	n->kind = BXC_DF_CONTEXT_IMAGE;
	n->source = bxc_strdup(value);
	n->shown = bxc_strdup("OCI load from client");
	return 0;
}

static int read_value(named_context *n, const char *value, bxc_err **err)
{
	BXC_AUTOGITREF bxc_git_ref g = {0};
	const char *colon = strchr(value, ':');
	if (!colon)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid context specifier %.128s for %.128s", value, n->name);
	int r = bxc_git_ref_parse(value, true, &g, err);
	if (r < 0)
		return r;
	if (r > 0 || bxc_remote_is_http(value))
		return tree_of(n, value, err);
	if (bxc_str_has_prefix(value, "docker-image://"))
		return image_of(n, value + strlen("docker-image://"), err);
	if (bxc_str_has_prefix(value, "oci-layout://"))
		return layout_of(n, value, err);
	if (bxc_str_has_prefix(value, "target:") && colon[1]) {
		n->kind = BXC_DF_CONTEXT_STAGE;
		n->source = bxc_strdup(colon + 1);
		return 0;
	}
	if (bxc_str_has_prefix(value, "local:") && colon[1]) {
		n->source = bxc_strdup(colon + 1);
		return 0;
	}
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unsupported context source %.*s for %.128s",
		(int)BXC_MIN(colon - value, (ptrdiff_t)64), value, n->name);
}

int named_read(build *b, bxc_err **err)
{
	const bxc_json *o = bxc_json_get(b->request, "contexts");
	if (!o)
		return 0;
	if (!bxc_json_is_object(o) || bxc_json_len(o) > MAX_CONTEXTS)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"contexts: expected an object of at most %u strings", MAX_CONTEXTS);
	BXC_JSON_FOREACH (m, o) {
		if (!bxc_json_string(m) || !*bxc_json_key(m))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"contexts.%.64s: expected a name and a string", bxc_json_key(m));
		named_context *n = bxc_calloc(1, sizeof(*n));
		*bxc_arr_push(&b->named) = n;
		n->name = bxc_strdup(bxc_json_key(m));
		int r = read_value(n, bxc_json_string(m), err);
		if (r < 0)
			return bxc_err_wrap(err, r, "contexts.%.64s", n->name);
	}
	return 0;
}
