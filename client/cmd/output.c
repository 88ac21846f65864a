/* SPDX-License-Identifier: Apache-2.0 */
/* -o: where results go. CSV with quotes, as buildx reads it. */
#include "client/cmd/cmd_internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define FIELDS_MAX 64u

void output_done(output *o)
{
	free(o->type);
	free(o->dest);
	bxc_strv_free(o->attrs);
	*o = (output){0};
}

int csv_split(const char *s, char ***ret, bxc_err **err)
{
	BXC_AUTOSTRV char **fields = NULL;
	for (;;) {
		BXC_AUTOFREE char *field = bxc_malloc(strlen(s) + 1);
		size_t n = 0;
		if (*s == '"') {
			for (s++; *s; s++) {
				if (*s == '"' && s[1] == '"')
					s++;
				else if (*s == '"')
					break;
				field[n++] = *s;
			}
			if (*s != '"')
				return bxc_err_set(err, BXC_INVALID_ARGUMENT, "a quote is not closed");
			s++;
			if (*s && *s != ',')
				return bxc_err_set(err, BXC_INVALID_ARGUMENT, "text after a closing quote");
		} else {
			while (*s && *s != ',')
				field[n++] = *s++;
		}
		field[n] = '\0';
		bxc_strv_push_take(&fields, BXC_TAKE(field));
		if (bxc_strv_len(fields) > FIELDS_MAX)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "more than %u fields", FIELDS_MAX);
		if (!*s)
			break;
		s++;
	}
	*ret = BXC_TAKE(fields);
	return 0;
}

char *csv_cut_value(char *field)
{
	char *eq = strchr(field, '=');
	if (!eq)
		return NULL;
	*eq = '\0';
	bxc_str_lower(field);
	return eq + 1;
}

static int fill(const char *spec, output *o, bxc_err **err)
{
	BXC_AUTOSTRV char **fields = NULL;
	int r = csv_split(spec, &fields, err);
	if (r < 0)
		return r;
	if (bxc_strv_len(fields) == 1 && !strchr(fields[0], '=')) {
		bool is_stdout = bxc_str_eq(fields[0], "-");
		o->type = bxc_strdup(is_stdout ? "tar" : "local");
		o->dest = is_stdout ? NULL : bxc_strdup(fields[0]);
		return 0;
	}
	for (char **f = fields; *f; f++) {
		const char *value = csv_cut_value(*f);
		if (!value)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid value '%s': expected key=value", *f);
		const char *key = bxc_str_trim(*f);
		if (bxc_str_eq(key, "type")) {
			free(o->type);
			o->type = bxc_strdup(value);
		} else if (bxc_str_eq(key, "dest")) {
			free(o->dest);
			o->dest = bxc_str_eq(value, "-") ? NULL : bxc_strdup(value);
		} else {
			bxc_env_set(&o->attrs, key, value);
		}
	}
	if (!o->type)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "type is required for output");
	/* A registry is an image that is pushed. */
	if (bxc_str_eq(o->type, "registry")) {
		free(o->type);
		o->type = bxc_strdup("image");
		if (!bxc_env_get(o->attrs, "push"))
			bxc_env_set(&o->attrs, "push", "true");
	}
	return 0;
}

int output_parse(const char *spec, output *ret, bxc_err **err)
{
	output o = {0};
	int r = fill(spec, &o, err);
	if (r >= 0 && bxc_str_eq(o.type, "local") && !o.dest)
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "dest is required for local exporter");
	if (r < 0) {
		output_done(&o);
		return bxc_err_wrap(err, r, "--output");
	}
	*ret = o;
	return 0;
}

int output_is_layout(const output *o, bool *ret, bxc_err **err)
{
	const char *tar = bxc_env_get(o->attrs, "tar");
	bool is_tar = true;
	*ret = false;
	if (!tar || (!bxc_str_eq(o->type, "oci") && !bxc_str_eq(o->type, "docker")))
		return 0;
	if (*tar && bxc_str_to_bool(tar, &is_tar, NULL) < 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "--output: non-bool value specified for tar");
	if (is_tar)
		return 0;
	if (!bxc_str_eq(o->type, "oci"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "--output: tar=false is for the oci exporter only");
	if (!o->dest)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "--output: dest is required for oci exporter with tar=false");
	*ret = true;
	return 0;
}

/* Strictly below the working folder, links resolved as far as the path is there. */
static bool is_below_cwd(const char *path)
{
	BXC_AUTOFREE char *cwd = realpath(".", NULL);
	BXC_AUTOFREE char *part = bxc_strdup(path);
	char *real = realpath(part, NULL);
	if (!cwd)
		return false;
	/* A name that is not there yet lies where its parent does; ".." in it could lead anywhere. */
	while (!real) {
		char *slash = strrchr(part, '/');
		const char *name = slash ? slash + 1 : part;
		if (bxc_str_eq(name, ".."))
			return false;
		bool last = !slash || slash == part;
		if (slash)
			slash[slash == part] = '\0';
		real = realpath(slash ? part : ".", NULL);
		if (last && !real)
			return false;
		if (real) {
			bool below = bxc_str_has_prefix(real, cwd) && (real[strlen(cwd)] == '/' || !real[strlen(cwd)] || bxc_str_eq(cwd, "/"));
			free(real);
			return below;
		}
	}
	size_t n = bxc_str_eq(cwd, "/") ? 0 : strlen(cwd);
	bool below = strncmp(real, cwd, n) == 0 && real[n] == '/' && real[n + 1];
	free(real);
	return below;
}

int output_is_exact(const output *o, bool may_delete, bool *ret, bxc_err **err)
{
	const char *mode = bxc_env_get(o->attrs, "mode");
	*ret = false;
	if (!bxc_str_eq(o->type, "local") || !mode || bxc_str_eq(mode, "copy"))
		return 0;
	if (!bxc_str_eq(mode, "delete"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "--output: invalid mode '%s' for local exporter: copy or delete", mode);
	if (!is_below_cwd(o->dest) && !may_delete)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"--output: mode=delete outside of the working directory ('%s') needs --allow " OUTPUT_MAY_DELETE, o->dest);
	*ret = true;
	return 0;
}
