/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Annotations of an export's attributes: "annotation[-TYPE][[PLATFORM]].KEY", as BuildKit reads
 * them (exporter/containerimage/exptypes/annotations.go).
 */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "worker/export/export_internal.h"

#define PREFIX "annotation"

static const char *const types[] = {"manifest", "index", "manifest-descriptor", "index-descriptor"};

void annotations_done(annotations *a)
{
	for (size_t i = 0; i < ANNOTATE_N; i++)
		bxc_strv_free(a->of[i]);
	*a = (annotations){0};
}

/* Parts of one name of an attribute; 0 when it is no annotation. */
static int split(const char *name, annotate_what *ret_what, char **ret_platform,
	const char **ret_key, bxc_err **err)
{
	const char *p = name + strlen(PREFIX);
	if (!bxc_str_has_prefix(name, PREFIX) || !*p || !strchr("-[.", *p))
		return 0;
	*ret_what = ANNOTATE_MANIFEST;
	if (*p == '-') {
		size_t n = strspn(++p, "abcdefghijklmnopqrstuvwxyz-");
		BXC_AUTOFREE char *type = bxc_strndup(p, n);
		size_t i = 0;
		while (i < ANNOTATE_N && !bxc_str_eq(types[i], type))
			i++;
		if (i == ANNOTATE_N)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"unrecognized annotation type \"%.64s\" (manifest, index, "
				"manifest-descriptor or index-descriptor)",
				type);
		*ret_what = (annotate_what)i;
		p += n;
	}
	if (*p == '[') {
		size_t n = strcspn(++p, "]");
		*ret_platform = bxc_strndup(p, n);
		p += n;
		if (*p == ']')
			p++;
	}
	/* A key with '=' could not be told from its value. */
	if (*p != '.' || !p[1] || strpbrk(p, " ="))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"could not fully parse annotation \"%.128s\"", name);
	*ret_key = p + 1;
	return 1;
}

static bool is_for_index(annotate_what w)
{
	return w == ANNOTATE_INDEX || w == ANNOTATE_INDEX_DESCRIPTOR;
}

/* What is said of all platforms (`any`), or of this one alone. */
static int read_some(const bxc_exp_request *q, const bxc_platform *platform, bool any,
	annotations *a, bxc_err **err)
{
	BXC_JSON_FOREACH (attribute, q->attrs) {
		BXC_AUTOFREE char *of = NULL;
		annotate_what what;
		const char *key = NULL;
		int r = split(bxc_json_key(attribute), &what, &of, &key, err);
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		bool is_general = !of || is_for_index(what);
		bxc_platform p;
		if (of) {
			r = bxc_platform_parse(of, &p, err);
			if (r < 0)
				return bxc_err_wrap(
					err, r, "annotation \"%.128s\"", bxc_json_key(attribute));
		}
		if (is_general != any ||
			(!is_general && (!platform || !bxc_platform_eq(&p, platform))))
			continue;
		const char *value = bxc_json_string(attribute);
		bxc_env_set(&a->of[what], key, value ? value : "");
	}
	return 0;
}

int annotations_read(
	const bxc_exp_request *q, const bxc_platform *platform, annotations *ret, bxc_err **err)
{
	annotations a = {0};
	int r = read_some(q, platform, true, &a, err);
	if (r >= 0)
		r = read_some(q, platform, false, &a, err);
	if (r < 0) {
		annotations_done(&a);
		return r;
	}
	for (size_t i = 0; i < ANNOTATE_N; i++)
		bxc_strv_sort(a.of[i]);
	*ret = a;
	return 0;
}
