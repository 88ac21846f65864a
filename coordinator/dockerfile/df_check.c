/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks: the rules with BuildKit's names, texts and addresses; which of them a file or a build
 * argument turns off or on, and how warnings are given.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include "common/base/utf8.h"

#define MAX_REMARKS 20u
#define RULES_AT    "https://docs.docker.com/go/dockerfile/rule/"

static const bxc_df_rule rules[] = {
	[DF_RULE_STAGE_NAME_CASING] = {"StageNameCasing", "Stage names should be lowercase",
		RULES_AT "stage-name-casing/"},
	[DF_RULE_FROM_AS_CASING] = {"FromAsCasing",
		"The 'as' keyword should match the case of the 'from' keyword",
		RULES_AT "from-as-casing/"},
	[DF_RULE_NO_EMPTY_CONTINUATION] = {"NoEmptyContinuation",
		"Empty continuation lines will become errors in a future release",
		RULES_AT "no-empty-continuation/"},
	[DF_RULE_CONSISTENT_INSTRUCTION_CASING] = {"ConsistentInstructionCasing",
		"All commands within the Dockerfile should use the same casing (either upper or "
		"lower)",
		RULES_AT "consistent-instruction-casing/"},
	[DF_RULE_DUPLICATE_STAGE_NAME] = {"DuplicateStageName", "Stage names should be unique",
		RULES_AT "duplicate-stage-name/"},
	[DF_RULE_RESERVED_STAGE_NAME] = {"ReservedStageName",
		"Reserved words should not be used as stage names",
		RULES_AT "reserved-stage-name/"},
	[DF_RULE_JSON_ARGS_RECOMMENDED] = {"JSONArgsRecommended",
		"JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior "
		"related to OS signals",
		RULES_AT "json-args-recommended/"},
	[DF_RULE_MAINTAINER_DEPRECATED] = {"MaintainerDeprecated",
		"The MAINTAINER instruction is deprecated, use a label instead to define an image "
		"author",
		RULES_AT "maintainer-deprecated/"},
	[DF_RULE_UNDEFINED_ARG_IN_FROM] = {"UndefinedArgInFrom",
		"FROM command must use declared ARGs", RULES_AT "undefined-arg-in-from/"},
	[DF_RULE_WORKDIR_RELATIVE_PATH] = {"WorkdirRelativePath",
		"Relative workdir without an absolute workdir declared within the build can have "
		"unexpected results if the base image changes",
		RULES_AT "workdir-relative-path/"},
	[DF_RULE_UNDEFINED_VAR] = {"UndefinedVar", "Variables should be defined before their use",
		RULES_AT "undefined-var/"},
	[DF_RULE_MULTIPLE_INSTRUCTIONS] = {"MultipleInstructionsDisallowed",
		"Multiple instructions of the same type should not be used in the same stage",
		RULES_AT "multiple-instructions-disallowed/"},
	[DF_RULE_LEGACY_KEY_VALUE] = {"LegacyKeyValueFormat",
		"Legacy key/value format with whitespace separator should not be used",
		RULES_AT "legacy-key-value-format/"},
	[DF_RULE_BASE_IMAGE_PLATFORM] = {"InvalidBaseImagePlatform",
		"Base image platform does not match expected target platform", NULL},
	[DF_RULE_REDUNDANT_TARGET_PLATFORM] = {"RedundantTargetPlatform",
		"Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is "
		"the default behavior",
		RULES_AT "redundant-target-platform/"},
	[DF_RULE_SECRETS_IN_ARG_OR_ENV] = {"SecretsUsedInArgOrEnv",
		"Sensitive data should not be used in the ARG or ENV commands",
		RULES_AT "secrets-used-in-arg-or-env/"},
	[DF_RULE_DEFAULT_ARG_IN_FROM] = {"InvalidDefaultArgInFrom",
		"Default value for global ARG results in an empty or invalid base image name",
		RULES_AT "invalid-default-arg-in-from/"},
	[DF_RULE_PLATFORM_CONST] = {"FromPlatformFlagConstDisallowed",
		"FROM --platform flag should not use a constant value",
		RULES_AT "from-platform-flag-const-disallowed/"},
	[DF_RULE_COPY_IGNORED_FILE] = {"CopyIgnoredFile",
		"Attempting to Copy file that is excluded by .dockerignore",
		RULES_AT "copy-ignored-file/"},
	[DF_RULE_DEFINITION_DESCRIPTION] = {"InvalidDefinitionDescription",
		"Comment for build stage or argument should follow the format: `# <arg/stage name> "
		"<description>`. If this is not intended to be a description comment, add an empty "
		"line or comment between the instruction and the comment.",
		RULES_AT "invalid-definition-description/", true},
	[DF_RULE_EXPOSE_PROTO_CASING] = {"ExposeProtoCasing",
		"Protocol in EXPOSE instruction should be lowercase",
		RULES_AT "expose-proto-casing/"},
	[DF_RULE_EXPOSE_FORMAT] = {"ExposeInvalidFormat",
		"IP address and host-port mapping should not be used in EXPOSE instruction. This "
		"will become an error in a future release",
		RULES_AT "expose-invalid-format/"},
};
_Static_assert(BXC_ARRAY_SIZE(rules) == DF_N_RULES, "a rule without a text");

/* ---- which rules apply ---- */

static uint32_t bits_of(bool experimental)
{
	uint32_t bits = 0;
	for (size_t i = 0; i < DF_N_RULES; i++)
		if (rules[i].is_experimental == experimental)
			bits |= 1u << i;
	return bits;
}

/* "all", or names: the rules as bits. Names that are no rule's go to `unknown`, unless it is NULL.
 */
static uint32_t take_names(const char *text, bool experimental, char ***unknown)
{
	if (bxc_str_eq(text, "all"))
		return bits_of(experimental);
	uint32_t bits = 0;
	BXC_AUTOSTRV char **parts = bxc_strv_split(text, ',');
	for (char **p = parts; p && *p; p++) {
		const char *name = bxc_str_trim(*p);
		size_t i = 0;
		while (i < DF_N_RULES && !bxc_str_eq(rules[i].name, name))
			i++;
		if (i < DF_N_RULES)
			bits |= 1u << i;
		else if (unknown && bxc_strv_len(*unknown) < MAX_REMARKS)
			bxc_strv_push(unknown, name);
	}
	return bits & bits_of(experimental);
}

static int take_option(char *part, df_checks *c, char ***unknown, bxc_err **err)
{
	char *eq = strchr(part, '=');
	if (!eq)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "invalid check option \"%.64s\"", part);
	BXC_AUTOFREE char *raw = bxc_strndup(part, (size_t)(eq - part));
	const char *key = bxc_str_trim(raw), *value = bxc_str_trim(eq + 1);
	if (bxc_str_eq(key, "skip")) {
		c->skip = take_names(value, false, unknown);
	} else if (bxc_str_eq(key, "experimental")) {
		c->experimental = take_names(value, true, unknown);
	} else if (bxc_str_eq(key, "error")) {
		int r = bxc_str_to_bool(value, &c->error, err);
		return r < 0 ? bxc_err_wrap(err, r, "failed to parse check option \"%.64s\"", part)
			     : 0;
	} else {
		static const char *const keys[] = {"skip", "error", "experimental"};
		const char *near = bxc_str_nearest(key, keys, BXC_ARRAY_SIZE(keys));
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid check option \"%.64s\"%s%s%s", key, near ? " (did you mean " : "",
			near ? near : "", near ? "?)" : "");
	}
	return 0;
}

/* "skip=A,B;error=true;experimental=all"; `ret` is zeroed by the caller. */
static int parse_options(const char *text, df_checks *ret, char ***unknown, bxc_err **err)
{
	BXC_AUTOFREE char *copy = bxc_strdup(text);
	char *p = bxc_str_trim(copy);
	for (int n = 0; *p; n++) {
		/* The third option is the last: what follows belongs to it. */
		char *semicolon = n < 2 ? strchr(p, ';') : NULL;
		if (semicolon)
			*semicolon = 0;
		int r = take_option(p, ret, unknown, err);
		if (r < 0)
			return r;
		if (!semicolon)
			return 0;
		p = semicolon + 1;
		if (!*p)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid check option \"\"");
	}
	return 0;
}

/* A name that is no rule's, but nearly: whoever wrote it should know. */
static void remark_names(df_lower *lw, char *const *given, uint32_t line)
{
	const char *names[DF_N_RULES];
	for (size_t i = 0; i < DF_N_RULES; i++)
		names[i] = rules[i].name;
	for (; given && *given; given++) {
		const char *near = bxc_str_nearest(*given, names, DF_N_RULES);
		if (!near)
			continue;
		*bxc_arr_push(&lw->res->warnings) = (bxc_df_warning){.line = line,
			.line_end = line,
			.text = bxc_str_fmt("check: there is no rule '%.64s' (did you mean %s?)",
				*given, near)};
	}
}

int df_checks_set(df_lower *lw, bxc_err **err)
{
	static const char key[] = "BUILDKIT_DOCKERFILE_CHECK";
	const char *given = df_env_get(lw->build_args, key), *file = lw->ast->check;
	uint32_t line = given ? 0 : lw->ast->check_line;
	if (!given && !file)
		return 0;
	/* A directive ends at a blank: a remark may follow. */
	BXC_AUTOFREE char *text = given ? bxc_strdup(given) : bxc_strndup(file, strcspn(file, " "));
	BXC_AUTOSTRV char **unknown = NULL;
	int r = parse_options(text, &lw->checks, &unknown, err);
	if (r < 0 && given)
		return bxc_err_wrap(err, r, "failed to parse build-arg:%s", key);
	if (r < 0) {
		r = bxc_err_wrap(err, r, "failed to parse check options");
		return df_place(err, r, lw->ast->name, line, line);
	}
	if (!lw->o->no_checks)
		remark_names(lw, unknown, line);
	return 0;
}

bool df_is_check_comment(const char *line, size_t n, const char **ret_value)
{
	size_t i = strlen("check");
	if (n < i || strncasecmp(line, "check", i) != 0)
		return false;
	while (i < n && df_is_space(line[i]))
		i++;
	if (i == n || line[i] != '=')
		return false;
	for (i++; i < n && df_is_space(line[i]); i++)
		;
	*ret_value = line + i;
	return i < n;
}

void df_checks_of_comments(const char *comments, df_checks *ret)
{
	*ret = (df_checks){0};
	for (const char *p = comments; p && *p;) {
		size_t n = strcspn(p, "\n");
		const char *value = NULL;
		if (df_is_check_comment(p, n, &value)) {
			size_t len = n - (size_t)(value - p);
			const char *blank = memchr(value, ' ', len);
			BXC_AUTOFREE char *text =
				bxc_strndup(value, blank ? (size_t)(blank - value) : len);
			df_checks c = {0};
			if (parse_options(text, &c, NULL, NULL) == 0)
				*ret = c;
			return;
		}
		p += n + (p[n] == '\n');
	}
}

/* ---- warnings ---- */

/* `at`: what the comments above the place say, NULL: nothing. */
static bool applies(const df_lower *lw, df_rule rule, const df_checks *at)
{
	if (lw->o->no_checks)
		return false;
	uint32_t bit = 1u << rule;
	if (rules[rule].is_experimental)
		return bit & (lw->checks.experimental | (at ? at->experimental : 0));
	return !(bit & (lw->checks.skip | (at ? at->skip : 0)));
}

static void warn_v(
	df_lower *lw, df_rule rule, uint32_t line, uint32_t line_end, const char *fmt, va_list ap)
{
	lw->violated |= 1u << rule;
	if (lw->res->warnings.n >= DF_MAX_WARNINGS)
		return;
	char *text = bxc_utf8_cut(bxc_str_vfmt(fmt, ap), DF_MAX_WARNING);
	*bxc_arr_push(&lw->res->warnings) = (bxc_df_warning){
		.rule = &rules[rule], .text = text, .line = line, .line_end = line_end};
}

void df_warn(df_lower *lw, df_rule rule, const df_cmd *c, const char *fmt, ...)
{
	va_list ap;
	if (!applies(lw, rule, c->on_build ? NULL : &c->i->checks))
		return;
	va_start(ap, fmt);
	warn_v(lw, rule, c->line, c->line_end, fmt, ap);
	va_end(ap);
}

void df_warn_instr(df_lower *lw, df_rule rule, const df_instr *i, const char *fmt, ...)
{
	va_list ap;
	if (!applies(lw, rule, &i->checks))
		return;
	va_start(ap, fmt);
	warn_v(lw, rule, i->line, i->line_end, fmt, ap);
	va_end(ap);
}

void df_warn_line(
	df_lower *lw, df_rule rule, const df_instr *i, uint32_t line, const char *fmt, ...)
{
	va_list ap;
	if (!applies(lw, rule, &i->checks))
		return;
	va_start(ap, fmt);
	warn_v(lw, rule, line, line, fmt, ap);
	va_end(ap);
}

int df_checks_end(const df_lower *lw, bxc_err **err)
{
	if (!lw->checks.error || !lw->violated)
		return 0;
	const char *names[DF_N_RULES + 1] = {0};
	size_t n = 0;
	/* In the order in which they were broken. */
	BXC_ARR_FOREACH (w, &lw->res->warnings) {
		bool known = !w->rule;
		for (size_t i = 0; i < n; i++)
			known = known || names[i] == w->rule->name;
		if (!known)
			names[n++] = w->rule->name;
	}
	BXC_AUTOFREE char *list = bxc_strv_join((char *const *)(const void *)names, ", ");
	return bxc_err_set(
		err, BXC_FAILED_PRECONDITION, "lint violation found for rules: %s", list);
}
