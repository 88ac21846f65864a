/* SPDX-License-Identifier: Apache-2.0 */
/* --annotation: "[TYPE[[PLATFORM]][,TYPE...]:]KEY=VALUE" becomes attributes of every image output.
 */
#include <string.h>

#include "client/cmd/cmd_internal.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* "index[linux/amd64]" as the name of an attribute without its key; owned. */
static int prefix_of(const char *text, char **ret, bxc_err **err)
{
	static const char *const types[] = {
		"manifest", "index", "manifest-descriptor", "index-descriptor"};
	BXC_AUTOFREE char *type = bxc_strndup(text, strcspn(text, "["));
	const char *bracket = strchr(text, '[');
	bool known = false;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(types); i++)
		known = known || bxc_str_eq(types[i], type);
	if (!known)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"unknown annotation type \"%s\" (manifest, index, manifest-descriptor or "
			"index-descriptor)",
			type);
	if (!bracket) {
		*ret = bxc_str_fmt("annotation-%s", type);
		return 0;
	}
	if (!bxc_str_has_suffix(bracket, "]"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid annotation type \"%s\", expected type and optional platform in "
			"square brackets",
			text);
	BXC_AUTOFREE char *platform = bxc_strndup(bracket + 1, strlen(bracket) - 2);
	bxc_platform p;
	int r = bxc_platform_parse(platform, &p, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "invalid platform \"%s\"", platform);
	BXC_AUTOFREE char *norm = bxc_platform_str(&p);
	/* An index has no platform. */
	*ret = bxc_str_has_prefix(type, "index") ? bxc_str_fmt("annotation-%s", type)
						 : bxc_str_fmt("annotation-%s[%s]", type, norm);
	return 0;
}

static int add(const char *spec, char ***attrs, bxc_err **err)
{
	const char *eq = strchr(spec, '=');
	if (!eq || eq == spec)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid annotation \"%s\", expected key=value", spec);
	BXC_AUTOFREE char *name = bxc_strndup(spec, (size_t)(eq - spec));
	char *colon = strchr(name, ':');
	const char *key = colon ? colon + 1 : name;
	if (!*key)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid annotation \"%s\": its key is empty", spec);
	if (!colon) {
		BXC_AUTOFREE char *attr = bxc_str_fmt("annotation.%s", key);
		bxc_env_set(attrs, attr, eq + 1);
		return 0;
	}
	*colon = '\0';
	BXC_AUTOSTRV char **types = bxc_strv_split(name, ',');
	for (char **t = types; *t; t++) {
		BXC_AUTOFREE char *prefix = NULL;
		int r = prefix_of(*t, &prefix, err);
		if (r < 0)
			return r;
		BXC_AUTOFREE char *attr = bxc_str_fmt("%s.%s", prefix, key);
		bxc_env_set(attrs, attr, eq + 1);
	}
	return 0;
}

int annotations_plan(const bxc_cli *cli, build_plan *p, bxc_err **err)
{
	BXC_AUTOSTRV char **attrs = NULL;
	for (char *const *a = bxc_cli_list(cli, "annotation"); a && *a; a++) {
		int r = add(*a, &attrs, err);
		if (r < 0)
			return cmd_usage_mark(err, bxc_err_wrap(err, r, "--annotation"));
	}
	BXC_ARR_FOREACH (o, &p->outputs) {
		bool is_image = bxc_str_eq(o->type, "image") || bxc_str_eq(o->type, "oci") ||
				bxc_str_eq(o->type, "docker");
		for (char **a = attrs; is_image && a && *a; a++) {
			const char *eq = strchr(*a, '=');
			BXC_AUTOFREE char *key = bxc_strndup(*a, (size_t)(eq - *a));
			bxc_env_set(&o->attrs, key, eq + 1);
		}
	}
	return 0;
}
