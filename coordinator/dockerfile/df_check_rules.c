/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rules look for: first what the text of the file alone tells, then what lowering asks
 * where it sees the thing in question.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

/* ---- rules about single instructions ---- */

static bool has_any(const char *s, size_t n, char first, char last)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] >= first && s[i] <= last)
			return true;
	return false;
}

static bool is_lower(const char *s)
{
	return !has_any(s, strlen(s), 'A', 'Z');
}

static bool is_upper(const char *s)
{
	return !has_any(s, strlen(s), 'a', 'z');
}

static size_t word_len(const df_instr *i)
{
	return strcspn(i->text, "\t\v\f\r ");
}

char *df_instr_word(const df_instr *i)
{
	return bxc_strndup(i->text, word_len(i));
}

static void check_from(df_lower *lw, const df_instr *i)
{
	if (bxc_strv_len(i->args) != 3)
		return;
	BXC_AUTOFREE char *from = df_instr_word(i);
	const char *as = i->args[1], *name = i->args[2];
	if (!is_lower(name))
		df_warn_instr(lw, DF_RULE_STAGE_NAME_CASING, i,
			"Stage name '%s' should be lowercase", name);
	if ((is_lower(from) && !is_lower(as)) || (is_upper(from) && !is_upper(as)))
		df_warn_instr(lw, DF_RULE_FROM_AS_CASING, i,
			"'%s' and '%s' keywords' casing do not match", as, from);
}

/* The last comment line above that is no "check=". */
static char *last_comment(const char *comments)
{
	const char *last = NULL, *value = NULL;
	size_t len = 0;
	for (const char *p = comments; p && *p;) {
		size_t n = strcspn(p, "\n");
		if (!df_is_check_comment(p, n, &value)) {
			last = p;
			len = n;
		}
		p += n + (p[n] == '\n');
	}
	return last ? bxc_strndup(last, len) : NULL;
}

static bool begins_with_name(const df_instr *i, const char *comment)
{
	BXC_AUTOFREE char *word = bxc_strndup(comment, strcspn(comment, " "));
	if (i->kind == DF_FROM)
		return bxc_str_eq(word, i->stage);
	BXC_ARR_FOREACH (kv, &i->pairs)
		if (bxc_str_eq(word, kv->key))
			return true;
	return false;
}

static void check_description(df_lower *lw, const df_instr *i)
{
	BXC_AUTOFREE char *comment = last_comment(i->comments);
	bool named = i->kind == DF_FROM ? i->stage != NULL : i->pairs.n > 0;
	if (!comment || !named || begins_with_name(i, comment))
		return;
	const char *example = i->kind == DF_FROM ? i->stage
			      : i->pairs.n == 1	 ? i->pairs.v[0].key
						 : "<arg_key>";
	df_warn_instr(lw, DF_RULE_DEFINITION_DESCRIPTION, i,
		"Comment for %s should follow the format: `# %s <description>`",
		df_kind_name(i->kind), example);
}

static void check_instrs(df_lower *lw)
{
	BXC_ARR_FOREACH (p, &lw->ast->instrs)
		if ((*p)->gap_line)
			df_warn_line(lw, DF_RULE_NO_EMPTY_CONTINUATION, *p, (*p)->gap_line,
				"Empty continuation line");
	BXC_ARR_FOREACH (p, &lw->ast->instrs) {
		const df_instr *i = *p;
		if (i->kind == DF_MAINTAINER)
			df_warn_instr(lw, DF_RULE_MAINTAINER_DEPRECATED, i,
				"Maintainer instruction is deprecated in favor of using label");
		if (i->kind == DF_FROM)
			check_from(lw, i);
		if (i->kind == DF_FROM || i->kind == DF_ARG)
			check_description(lw, i);
	}
}

/* ---- rules about the file ---- */

static void check_stage_names(df_lower *lw)
{
	BXC_CLEANUP(bxc_map_freep) bxc_map *seen = bxc_map_new(NULL);
	BXC_ARR_FOREACH (s, &lw->ast->stages) {
		const df_instr *i = s->from;
		if (!i->stage)
			continue;
		if (bxc_str_eq(i->stage, "context") || bxc_str_eq(i->stage, "scratch"))
			df_warn_instr(lw, DF_RULE_RESERVED_STAGE_NAME, i,
				"Stage name should not use the same name as reserved stage \"%s\"",
				i->stage);
		if (bxc_map_has(seen, i->stage))
			df_warn_instr(lw, DF_RULE_DUPLICATE_STAGE_NAME, i,
				"Duplicate stage name \"%s\", stage names should be unique",
				i->stage);
		bxc_map_set(seen, i->stage, lw);
	}
}

/* Arguments before the first stage have no say. */
static void check_casing(df_lower *lw)
{
	const bxc_df_ast *a = lw->ast;
	size_t lower = 0, upper = 0;
	for (size_t k = a->n_meta; k < a->instrs.n; k++) {
		const df_instr *i = a->instrs.v[k];
		if (!has_any(i->text, word_len(i), 'A', 'Z'))
			lower++;
		else if (!has_any(i->text, word_len(i), 'a', 'z'))
			upper++;
	}
	const char *others = lower > upper ? "AZ" : "az";
	for (size_t k = a->n_meta; k < a->instrs.n; k++) {
		const df_instr *i = a->instrs.v[k];
		if (!has_any(i->text, word_len(i), others[0], others[1]))
			continue;
		BXC_AUTOFREE char *word = df_instr_word(i);
		df_warn_instr(lw, DF_RULE_CONSISTENT_INSTRUCTION_CASING, a->instrs.v[k],
			"Command '%s' should match the case of the command majority (%s)", word,
			lower > upper ? "lowercase" : "uppercase");
	}
}

void df_check_file(df_lower *lw)
{
	if (lw->o->no_checks)
		return;
	check_instrs(lw);
	check_stage_names(lw);
	check_casing(lw);
}

void bxc_df_check_part(const bxc_df_ast *a, const bxc_df_opts *o, bxc_df_result *ret)
{
	BXC_CLEANUP(df_env_freep) df_env *args = df_env_new();
	df_lower lw = {.ast = a, .o = o, .res = ret, .build_args = args};
	df_env_set_strv(args, o->build_args);
	if (!o->no_checks && df_checks_set(&lw, NULL) == 0)
		check_instrs(&lw);
}

/* With the defaults of the global arguments alone every base should have a name that can be one. */
void df_check_default_bases(df_lower *lw)
{
	if (lw->o->no_checks)
		return;
	BXC_CLEANUP(df_env_freep) df_env *args = df_env_dup(lw->global);
	df_word_opts o = df_opts_of(lw);
	for (size_t k = 0; k < lw->ast->n_meta; k++) {
		BXC_ARR_FOREACH (kv, &lw->ast->instrs.v[k]->pairs) {
			BXC_AUTOFREE char *value = NULL;
			if (!kv->value)
				continue;
			if (df_word(kv->value, args, &o, &value, NULL) < 0)
				return;
			df_env_set(args, kv->key, value);
		}
	}
	BXC_ARR_FOREACH (s, &lw->ast->stages) {
		BXC_AUTOFREE char *base = NULL;
		BXC_AUTOREF bxc_ref ref = {0};
		if (df_word(s->from->base, args, &o, &base, NULL) < 0)
			return;
		if (bxc_ref_parse(base, &ref, NULL) < 0)
			df_warn_instr(lw, DF_RULE_DEFAULT_ARG_IN_FROM, s->from,
				"Default value for ARG %s results in empty or invalid base image "
				"name",
				s->from->base);
	}
}

/* ---- rules that lowering calls ---- */

/* The name nearest to an unknown one. Both may be many: the looks are counted. */
static const char *nearest(df_lower *lw, const char *word, const df_env *names)
{
	size_t n = df_env_len(names);
	if (n > lw->looks_left)
		return NULL;
	lw->looks_left -= (uint32_t)n;
	BXC_AUTOFREE const char **keys = bxc_calloc(n + 1, sizeof(*keys));
	for (size_t i = 0; i < n; i++)
		keys[i] = df_env_at(names, i)->key;
	const char *near = bxc_str_nearest(word, keys, n);
	return bxc_str_eq(near, word) ? NULL : near;
}

void df_check_unset(df_lower *lw, const df_stage *s, const df_env *unset)
{
	for (size_t k = 0; k < df_env_len(unset); k++) {
		const char *name = df_env_at(unset, k)->key;
		if (df_env_get(s->bare, name) || df_is_scan_arg(name))
			continue;
		const char *near = nearest(lw, name, s->env);
		df_warn(lw, DF_RULE_UNDEFINED_VAR, lw->cmd,
			"Usage of undefined variable '$%s'%s%s%s", name,
			near ? " (did you mean $" : "", near ? near : "", near ? "?)" : "");
	}
}

void df_check_unset_in_from(df_lower *lw, const df_instr *i, const df_env *unset)
{
	if (!unset || lw->o->no_checks)
		return;
	if (!lw->from_names) {
		/* Those without a value too: they are declared. */
		lw->from_names = df_env_dup(lw->global);
		for (size_t k = 0; k < lw->ast->n_meta; k++)
			BXC_ARR_FOREACH (kv, &lw->ast->instrs.v[k]->pairs)
				df_env_set(lw->from_names, kv->key, "");
	}
	const df_env *names = lw->from_names;
	for (size_t k = 0; k < df_env_len(unset); k++) {
		const char *name = df_env_at(unset, k)->key;
		if (df_env_get(names, name))
			continue;
		const char *near = nearest(lw, name, names);
		df_warn_instr(lw, DF_RULE_UNDEFINED_ARG_IN_FROM, i,
			"FROM argument '%s' is not declared%s%s%s", name,
			near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
	}
}

void df_check_platform(
	df_lower *lw, const df_instr *i, const char *text, const df_env *used, const df_env *unset)
{
	size_t n_used = df_env_len(used), n_unset = df_env_len(unset);
	bxc_platform p;
	if (n_used == 1 && !n_unset && df_env_get(used, "TARGETPLATFORM")) {
		if (bxc_str_eq(df_env_get(lw->global, "TARGETPLATFORM"), text))
			df_warn_instr(lw, DF_RULE_REDUNDANT_TARGET_PLATFORM, i,
				"Setting platform to predefined %s in FROM is redundant as this is "
				"the default behavior",
				i->platform);
	} else if (!n_used && !n_unset && bxc_platform_parse(text, &p, NULL) == 0) {
		/* A stage named after its platform means it. */
		if (i->stage && (strstr(i->stage, p.os) || strstr(i->stage, p.arch)))
			return;
		BXC_AUTOFREE char *quoted = df_go_quote(text);
		df_warn_instr(lw, DF_RULE_PLATFORM_CONST, i,
			"FROM --platform flag should not use constant value %s", quoted);
	}
}

void df_check_base_platform(
	df_lower *lw, const df_stage *s, const bxc_platform *want, const bxc_platform *have)
{
	if (bxc_str_eq(want->os, have->os) && bxc_str_eq(want->arch, have->arch))
		return;
	bxc_platform w = bxc_platform_normalize(*want), h = bxc_platform_normalize(*have);
	BXC_AUTOFREE char *wanted = bxc_platform_str(&w);
	BXC_AUTOFREE char *had = bxc_platform_str(&h);
	const df_cmd at = {
		.i = s->instr, .on_build = !s->instr, .line = s->line, .line_end = s->line_end};
	df_warn(lw, DF_RULE_BASE_IMAGE_PLATFORM, &at,
		"Base image %s was pulled with platform \"%s\", expected \"%s\" for current build",
		s->base, had, wanted);
}

/* A word of the name, where '_' parts words, in any case. */
static bool has_word(const char *name, const char *const *words, size_t n)
{
	for (const char *p = name;;) {
		size_t len = strcspn(p, "_");
		for (size_t i = 0; i < n; i++)
			if (strlen(words[i]) == len && strncasecmp(p, words[i], len) == 0)
				return true;
		if (!p[len])
			return false;
		p += len + 1;
	}
}

void df_check_secret(df_lower *lw, const df_instr *i, const char *key)
{
	static const char *const deny[] = {"apikey", "auth", "credential", "credentials", "key",
		"password", "pword", "passwd", "secret", "token"};
	static const char *const allow[] = {"public", "file", "version"};
	if (!has_word(key, deny, BXC_ARRAY_SIZE(deny)) ||
		has_word(key, allow, BXC_ARRAY_SIZE(allow)))
		return;
	BXC_AUTOFREE char *quoted = df_go_quote(key);
	df_warn(lw, DF_RULE_SECRETS_IN_ARG_OR_ENV, lw->cmd,
		"Do not use ARG or ENV instructions for sensitive data (%s %s)",
		df_kind_name(i->kind), quoted);
}

void df_check_legacy(df_lower *lw, const df_instr *i)
{
	if (!i->is_legacy)
		return;
	BXC_AUTOFREE char *word = df_instr_word(i);
	df_warn(lw, DF_RULE_LEGACY_KEY_VALUE, lw->cmd,
		"\"%s key=value\" should be used instead of legacy \"%s key value\" format", word,
		word);
}

void df_check_once(df_lower *lw, const df_cmd **last)
{
	if (*last) {
		BXC_AUTOFREE char *word = df_instr_word(lw->cmd->i);
		df_warn(lw, DF_RULE_MULTIPLE_INSTRUCTIONS, *last,
			"Multiple %s instructions should not be used in the same stage because "
			"only the last one will be used",
			word);
	}
	*last = lw->cmd;
}

void df_check_shell_form(df_lower *lw, const df_stage *s, const df_instr *i)
{
	if (i->is_json || s->image->shell)
		return;
	BXC_AUTOFREE char *word = df_instr_word(i);
	df_warn(lw, DF_RULE_JSON_ARGS_RECOMMENDED, lw->cmd,
		"JSON arguments recommended for %s to prevent unintended behavior related to OS "
		"signals",
		word);
}

void df_check_workdir(df_lower *lw, df_stage *s, const char *path)
{
	if (!s->workdir_is_set && *path != '/') {
		BXC_AUTOFREE char *quoted = df_go_quote(path);
		df_warn(lw, DF_RULE_WORKDIR_RELATIVE_PATH, lw->cmd,
			"Relative workdir %s can have unexpected results if the base image changes",
			quoted);
	}
	s->workdir_is_set = true;
}

void df_check_copy_source(df_lower *lw, const df_instr *i, const char *path)
{
	if (!lw->o->is_ignored || lw->o->no_checks)
		return;
	/* As it was written, but clean: an absolute one is matched by no pattern. */
	BXC_AUTOFREE char *clean = df_path_clean("/", path);
	const char *shown = *path == '/' || !clean[1] ? clean : clean + 1;
	if (bxc_str_eq(shown, "/"))
		shown = *path == '/' ? "/" : ".";
	if (!lw->o->is_ignored(shown, lw->o->is_ignored_ud))
		return;
	BXC_AUTOFREE char *quoted = df_go_quote(shown);
	df_warn(lw, DF_RULE_COPY_IGNORED_FILE, lw->cmd,
		"Attempting to %s file %s that is excluded by .dockerignore",
		i->kind == DF_ADD ? "Add" : "Copy", quoted);
}

void df_check_port(df_lower *lw, const char *spec)
{
	const char *slash = strchr(spec, '/');
	if (slash && !is_lower(slash))
		df_warn(lw, DF_RULE_EXPOSE_PROTO_CASING, lw->cmd,
			"Defined protocol '%s' in EXPOSE instruction should be lowercase", spec);
	const char *colon = strrchr(spec, ':');
	if (colon && strspn(spec, ":") < (size_t)(colon - spec))
		df_warn(lw, DF_RULE_EXPOSE_FORMAT, lw->cmd,
			"EXPOSE instruction should not define an IP address or host-port mapping, "
			"found '%s'",
			spec);
}
