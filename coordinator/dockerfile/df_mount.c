/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of RUN --mount: one line of CSV, fields key=value. */
#include "coordinator/dockerfile/dockerfile_internal.h"

static const char *const mount_types[] = {"bind", "cache", "tmpfs", "secret", "ssh"};
static const bxc_mount_kind mount_kinds[] = {
	BXC_MOUNT_BIND, BXC_MOUNT_CACHE, BXC_MOUNT_TMPFS, BXC_MOUNT_SECRET, BXC_MOUNT_SSH};

void df_mount_done(df_mount *m)
{
	free(m->from);
	free(m->source);
	free(m->target);
	free(m->id);
	free(m->env);
	*m = (df_mount){0};
}

static int csv_error(const char *what, bxc_err **err)
{
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "failed to parse csv mounts: %s", what);
}

/* One field; *p moves behind the comma, or to NULL at the end. */
static int csv_field(const char **p, char **ret, bxc_err **err)
{
	const char *s = *p;
	if (*s != '"') {
		size_t n = strcspn(s, ",");
		*ret = bxc_strndup(s, n);
		*p = s[n] ? s + n + 1 : NULL;
		if (!strchr(*ret, '"'))
			return 0;
		free(BXC_TAKE(*ret));
		return csv_error("bare \" in non-quoted field", err);
	}
	char *field = bxc_malloc(strlen(s) + 1), *w = field;
	for (s++; *s && (*s != '"' || s[1] == '"'); s++) {
		if (*s == '"')
			s++;
		*w++ = *s;
	}
	*w = 0;
	if (*s != '"' || (s[1] && s[1] != ',')) {
		free(field);
		return csv_error("extraneous or missing \" in quoted-field", err);
	}
	*ret = field;
	*p = s[1] ? s + 2 : NULL;
	return 0;
}

static char *cut_key(const char *field, const char **ret_value)
{
	const char *eq = strchr(field, '=');
	*ret_value = eq ? eq + 1 : NULL;
	return bxc_str_lower(eq ? bxc_strndup(field, (size_t)(eq - field)) : bxc_strdup(field));
}

int df_mount_scan(const char *text, char **ret_from, bxc_err **err)
{
	BXC_AUTOFREE char *from = NULL;
	if (!*text)
		return csv_error("empty", err);
	for (const char *p = text; p;) {
		BXC_AUTOFREE char *field = NULL;
		const char *value = NULL;
		int r = csv_field(&p, &field, err);
		if (r < 0)
			return r;
		BXC_AUTOFREE char *key = cut_key(field, &value);
		if (!bxc_str_eq(key, "from") || !value)
			continue;
		const char *dollar = strchr(value, '$');
		if (dollar && dollar[1])
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"'from' doesn't support variable expansion, define alias stage "
				"instead");
		free(from);
		from = *value ? bxc_strdup(value) : NULL;
	}
	*ret_from = BXC_TAKE(from);
	return 0;
}

static int bad_value(const char *key, const char *value, bxc_err **err)
{
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid value for %s: %.64s", key, value);
}

static int unexpected(const char *key, const df_mount *m, bxc_err **err)
{
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unexpected key '%s' for mount type '%s'",
		key, mount_types[m->kind]);
}

static int set_kind(df_mount *m, const char *value, bxc_err **err)
{
	BXC_AUTOFREE char *lower = bxc_str_lower(bxc_strdup(value));
	for (size_t i = 0; i < BXC_ARRAY_SIZE(mount_types); i++)
		if (bxc_str_eq(lower, mount_types[i])) {
			m->kind = mount_kinds[i];
			return 0;
		}
	const char *near = bxc_str_nearest(lower, mount_types, BXC_ARRAY_SIZE(mount_types));
	if (near)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"unsupported mount type \"%.64s\" (did you mean %s?)", value, near);
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unsupported mount type \"%.64s\"", value);
}

static int set_sharing(df_mount *m, const char *value, bxc_err **err)
{
	const char *name;
	for (unsigned i = 0; (name = bxc_def_sharing_name(i)); i++)
		if (bxc_str_eq_nocase(value, name)) {
			m->sharing = (bxc_cache_sharing)i;
			m->has_sharing = true;
			return 0;
		}
	return bxc_err_set(err, BXC_INVALID_ARGUMENT,
		"unsupported sharing value \"%.64s\" (shared, private or locked)", value);
}

/* As Go's ParseBool. */
static int set_bool(const char *key, const char *value, bool *ret, bxc_err **err)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(yes); i++) {
		if (bxc_str_eq(value, yes[i]) || bxc_str_eq(value, no[i])) {
			*ret = bxc_str_eq(value, yes[i]);
			return 0;
		}
	}
	return bad_value(key, value, err);
}

static int set_number(
	const char *key, const char *value, bool octal, bool *has, uint32_t *ret, bxc_err **err)
{
	uint64_t n = 0;
	int r = octal ? bxc_str_to_octal(value, 07777, ret, NULL)
		      : bxc_str_to_u64(value, 0, UINT32_MAX, &n, NULL);
	if (r < 0)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "invalid value %.64s for %s", value, key);
	if (!octal)
		*ret = (uint32_t)n;
	*has = true;
	return 0;
}

static int set_text(char **slot, const char *value)
{
	free(*slot);
	*slot = bxc_strdup(value);
	return 0;
}

static bool is_one_of(const char *key, const char *a, const char *b, const char *c)
{
	return bxc_str_eq(key, a) || bxc_str_eq(key, b) || bxc_str_eq(key, c);
}

static int unknown_key(const char *key, const char *field, bxc_err **err)
{
	static const char *const keys[] = {"type", "from", "source", "target", "readonly", "id",
		"sharing", "required", "mode", "uid", "gid", "src", "dst", "destination", "ro",
		"rw", "readwrite", "size", "env"};
	const char *near = bxc_str_nearest(key, keys, BXC_ARRAY_SIZE(keys));
	if (near)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"unexpected key '%.64s' in '%.64s' (did you mean %s?)", key, field, near);
	return bxc_err_set(
		err, BXC_INVALID_ARGUMENT, "unexpected key '%.64s' in '%.64s'", key, field);
}

static int set_key(df_mount *m, const char *key, const char *value, const char *field,
	bool *ro_given, bxc_err **err)
{
	bool takes_required = m->kind == BXC_MOUNT_SECRET || m->kind == BXC_MOUNT_SSH;
	if (bxc_str_eq(key, "type"))
		return set_kind(m, value, err);
	if (is_one_of(key, "from", NULL, NULL))
		return set_text(&m->from, value);
	if (is_one_of(key, "source", "src", NULL))
		return set_text(&m->source, value);
	if (is_one_of(key, "target", "dst", "destination"))
		return set_text(&m->target, value);
	if (bxc_str_eq(key, "id"))
		return set_text(&m->id, value);
	if (is_one_of(key, "readonly", "ro", NULL)) {
		*ro_given = true;
		return set_bool(key, value, &m->readonly, err);
	}
	if (is_one_of(key, "readwrite", "rw", NULL)) {
		bool rw = false;
		*ro_given = true;
		int r = set_bool(key, value, &rw, err);
		m->readonly = !rw;
		return r;
	}
	if (bxc_str_eq(key, "required"))
		return takes_required ? set_bool(key, value, &m->required, err)
				      : unexpected(key, m, err);
	if (bxc_str_eq(key, "size")) {
		if (m->kind != BXC_MOUNT_TMPFS)
			return unexpected(key, m, err);
		return bxc_str_to_bytes(value, INT64_MAX, &m->size, NULL) < 0
			       ? bad_value(key, value, err)
			       : 0;
	}
	if (bxc_str_eq(key, "sharing"))
		return set_sharing(m, value, err);
	if (bxc_str_eq(key, "mode"))
		return set_number(key, value, true, &m->has_mode, &m->mode, err);
	if (bxc_str_eq(key, "uid"))
		return set_number(key, value, false, &m->has_uid, &m->uid, err);
	if (bxc_str_eq(key, "gid"))
		return set_number(key, value, false, &m->has_gid, &m->gid, err);
	if (bxc_str_eq(key, "env") && m->kind == BXC_MOUNT_SECRET)
		return set_text(&m->env, value);
	return unknown_key(key, field, err);
}

static int set_bare(df_mount *m, const char *key, const char *field, bool *ro_given, bxc_err **err)
{
	bool is_flag = is_one_of(key, "readonly", "ro", "required") ||
		       is_one_of(key, "readwrite", "rw", NULL);
	if (is_flag)
		return set_key(m, key, "true", field, ro_given, err);
	return bxc_err_set(
		err, BXC_INVALID_ARGUMENT, "invalid field '%.64s' must be a key=value pair", field);
}

static int validate(const df_mount *m, bxc_err **err)
{
	const char *type = mount_types[m->kind];
	bool has_owner = m->kind == BXC_MOUNT_SECRET || m->kind == BXC_MOUNT_SSH ||
			 m->kind == BXC_MOUNT_CACHE;
	if (!has_owner && (m->has_mode || m->has_uid || m->has_gid))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"%s not allowed for \"%s\" type mounts",
			m->has_mode  ? "mode"
			: m->has_uid ? "uid"
				     : "gid",
			type);
	if (m->has_sharing && m->kind != BXC_MOUNT_CACHE)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "invalid cache sharing set for %s mount", type);
	if (m->kind != BXC_MOUNT_SECRET)
		return 0;
	if (!bxc_str_empty(m->from))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "secret mount should not have a from");
	if (!m->source && !m->target && !m->id)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid secret mount. one of source, target required");
	if (m->source && m->id)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "both source and id can't be set");
	return 0;
}

static int parse(const char *text, df_expand_fn expand, void *ud, df_mount *m, bxc_err **err)
{
	bool ro_given = false;
	if (!*text)
		return csv_error("empty", err);
	for (const char *p = text; p;) {
		BXC_AUTOFREE char *field = NULL;
		BXC_AUTOFREE char *expanded = NULL;
		const char *value = NULL;
		int r = csv_field(&p, &field, err);
		if (r < 0)
			return r;
		BXC_AUTOFREE char *key = cut_key(field, &value);
		if (value && !bxc_str_eq(key, "from")) {
			r = expand(value, &expanded, ud, err);
			if (r < 0)
				return r;
			value = expanded;
		}
		r = value ? set_key(m, key, value, field, &ro_given, err)
			  : set_bare(m, key, field, &ro_given, err);
		if (r < 0)
			return r;
	}
	if (!ro_given)
		m->readonly = m->kind != BXC_MOUNT_CACHE && m->kind != BXC_MOUNT_TMPFS;
	return validate(m, err);
}

int df_mount_parse(const char *text, df_expand_fn expand, void *ud, df_mount *ret, bxc_err **err)
{
	BXC_CLEANUP(df_mount_done) df_mount m = {.kind = BXC_MOUNT_BIND};
	int r = parse(text, expand, ud, &m, err);
	if (r < 0)
		return r;
	*ret = m;
	m = (df_mount){0};
	return 0;
}
