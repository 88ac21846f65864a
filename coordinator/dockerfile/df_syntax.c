/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "# syntax=": which frontend a file asks for. The releases of docker/dockerfile are the language
 * read here; no other frontend is run.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include <inttypes.h>

#define NEWEST_MINOR 26u /* of docker/dockerfile:1 */
#define BUILT_IN     "docker/dockerfile up to 1.26 is built in"

static int external(const char *frontend, bxc_err **err)
{
	return bxc_err_set(err, BXC_UNIMPLEMENTED,
		"external frontends are not supported: %.128s (" BUILT_IN ")", frontend);
}

/* "1", "1.7", "1.7.0": false when it is something else. */
static bool version_of(const char *tag, size_t n, uint64_t *ret_major, uint64_t *ret_minor)
{
	BXC_AUTOFREE char *text = bxc_strndup(tag, n);
	BXC_AUTOSTRV char **parts = bxc_strv_split(text, '.');
	uint64_t numbers[3] = {0};
	size_t count = bxc_strv_len(parts);
	if (!count || count > BXC_ARRAY_SIZE(numbers))
		return false;
	for (size_t i = 0; i < count; i++)
		if (bxc_str_to_u64(parts[i], 0, UINT32_MAX, &numbers[i], NULL) < 0)
			return false;
	*ret_major = numbers[0];
	*ret_minor = numbers[1];
	return true;
}

static int check_tag(const char *frontend, const char *tag, bool upstream, bxc_err **err)
{
	static const char *const channels[] = {
		"latest", "labs", "experimental", "master", "nightly"};
	uint64_t major = 0, minor = 0;
	size_t n = strcspn(tag, "-");
	if (version_of(tag, n, &major, &minor)) {
		if (major > 1 || (major == 1 && minor > NEWEST_MINOR))
			return bxc_err_set(err, BXC_UNIMPLEMENTED,
				"the frontend %.128s is newer than the one of this version of bxc "
				"(" BUILT_IN ")",
				frontend);
		return 0;
	}
	for (size_t i = 0; i < BXC_ARRAY_SIZE(channels); i++)
		if (strlen(channels[i]) == n && strncmp(channels[i], tag, n) == 0)
			return 0;
	return upstream ? 0
			: bxc_err_set(err, BXC_UNIMPLEMENTED,
				  "the frontend %.128s is no known release (" BUILT_IN ")",
				  frontend);
}

static int check_frontend(const char *text, bxc_err **err)
{
	BXC_AUTOFREE char *frontend = bxc_strndup(text, strcspn(text, " \t"));
	BXC_AUTOREF bxc_ref ref = {0};
	if (bxc_ref_parse(frontend, &ref, NULL) < 0 || !bxc_str_eq(ref.domain, "docker.io"))
		return external(frontend, err);
	bool upstream = bxc_str_eq(ref.path, "docker/dockerfile-upstream");
	if (!upstream && !bxc_str_eq(ref.path, "docker/dockerfile"))
		return external(frontend, err);
	return bxc_str_empty(ref.tag) ? 0 : check_tag(frontend, ref.tag, upstream, err);
}

int df_syntax_check(const df_lower *lw, bxc_err **err)
{
	const char *given = df_env_get(lw->build_args, "BUILDKIT_SYNTAX");
	const char *text = given ? given : lw->ast->syntax;
	int r = bxc_str_empty(text) ? 0 : check_frontend(text, err);
	if (given)
		return r < 0 ? bxc_err_wrap(err, r, "build-arg:BUILDKIT_SYNTAX") : 0;
	return df_place(err, r, lw->ast->name, lw->ast->syntax_line, lw->ast->syntax_line);
}

/* ---- files in another language ---- */

/* Past a byte order mark and a first line "#!"; lines passed are counted. */
static bxc_slice skip_start(bxc_slice s, uint32_t *line)
{
	static const uint8_t bom[] = {0xef, 0xbb, 0xbf};
	if (s.n >= sizeof(bom) && memcmp(s.p, bom, sizeof(bom)) == 0)
		s = (bxc_slice){s.p + sizeof(bom), s.n - sizeof(bom)};
	if (s.n >= 2 && s.p[0] == '#' && s.p[1] == '!') {
		const uint8_t *nl = memchr(s.p, '\n', s.n);
		size_t n = nl ? (size_t)(nl - s.p) + 1 : s.n;
		s = (bxc_slice){s.p + n, s.n - n};
		(*line)++;
	}
	return s;
}

/* The frontend that "// syntax=x" or {"syntax": "x"} names; owned, NULL: none. */
static char *foreign_syntax(bxc_slice s)
{
	if (s.n > 2 && s.p[0] == '/' && s.p[1] == '/') {
		const uint8_t *nl = memchr(s.p, '\n', s.n);
		BXC_AUTOFREE char *copy =
			bxc_strndup((const char *)s.p + 2, (nl ? (size_t)(nl - s.p) : s.n) - 2);
		char *eq = strchr(copy, '=');
		if (!eq)
			return NULL;
		*eq = 0;
		return bxc_str_eq_nocase(bxc_str_trim(copy), "syntax")
			       ? bxc_strdup(bxc_str_trim(eq + 1))
			       : NULL;
	}
	BXC_AUTOJSON bxc_json *doc = NULL;
	if (!s.n || s.p[0] != '{' || bxc_json_parse(s, &doc, NULL) < 0)
		return NULL;
	return bxc_strdup(bxc_json_get_str(doc, "syntax", NULL));
}

int df_syntax_refuse(bxc_slice text, const char *name, bxc_err **err)
{
	uint32_t line = 1;
	BXC_AUTOFREE char *frontend = foreign_syntax(skip_start(text, &line));
	int r = bxc_str_empty(frontend) ? 0 : check_frontend(frontend, err);
	return df_place(err, r, name, line, line);
}
