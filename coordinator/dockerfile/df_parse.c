/* SPDX-License-Identifier: Apache-2.0 */
/* From lines to instructions: names, flags, and the arguments in the form each instruction has. */
#include "coordinator/dockerfile/dockerfile_internal.h"

typedef enum args_form {
	FORM_NONE = 0,
	FORM_WORDS, /* separated by blanks, quotes are kept */
	FORM_WORDS_OR_JSON,
	FORM_TEXT, /* the rest of the line */
	FORM_TEXT_OR_JSON,
	FORM_PAIRS,  /* k=v ..., or k v */
	FORM_NAMES,  /* k[=v] ... */
	FORM_HEALTH, /* a word, then text or JSON */
	FORM_SUB,    /* another instruction */
} args_form;

static const struct {
	const char *name;
	args_form form;
} instructions[] = {
	[DF_NONE] = {"", FORM_NONE},
	[DF_ADD] = {"ADD", FORM_WORDS_OR_JSON},
	[DF_ARG] = {"ARG", FORM_NAMES},
	[DF_CMD] = {"CMD", FORM_TEXT_OR_JSON},
	[DF_COPY] = {"COPY", FORM_WORDS_OR_JSON},
	[DF_ENTRYPOINT] = {"ENTRYPOINT", FORM_TEXT_OR_JSON},
	[DF_ENV] = {"ENV", FORM_PAIRS},
	[DF_EXPOSE] = {"EXPOSE", FORM_WORDS},
	[DF_FROM] = {"FROM", FORM_WORDS},
	[DF_HEALTHCHECK] = {"HEALTHCHECK", FORM_HEALTH},
	[DF_LABEL] = {"LABEL", FORM_PAIRS},
	[DF_MAINTAINER] = {"MAINTAINER", FORM_TEXT},
	[DF_ONBUILD] = {"ONBUILD", FORM_SUB},
	[DF_RUN] = {"RUN", FORM_TEXT_OR_JSON},
	[DF_SHELL] = {"SHELL", FORM_TEXT_OR_JSON},
	[DF_STOPSIGNAL] = {"STOPSIGNAL", FORM_TEXT},
	[DF_USER] = {"USER", FORM_TEXT},
	[DF_VOLUME] = {"VOLUME", FORM_WORDS_OR_JSON},
	[DF_WORKDIR] = {"WORKDIR", FORM_TEXT},
};

const char *df_kind_name(df_kind k)
{
	return instructions[k].name;
}

static df_kind kind_of(const char *word)
{
	for (size_t i = 1; i < BXC_ARRAY_SIZE(instructions); i++)
		if ((*word | 0x20) == (*instructions[i].name | 0x20) &&
			bxc_str_eq_nocase(word, instructions[i].name))
			return (df_kind)i;
	return DF_NONE;
}

static int unknown_instruction(const char *word, bxc_err **err)
{
	const char *names[BXC_ARRAY_SIZE(instructions) - 1];
	for (size_t i = 1; i < BXC_ARRAY_SIZE(instructions); i++)
		names[i - 1] = instructions[i].name;
	BXC_AUTOFREE char *upper = bxc_str_upper(bxc_strdup(word));
	const char *near = bxc_str_nearest(upper, names, BXC_ARRAY_SIZE(names));
	if (near)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"unknown instruction: %.64s (did you mean %s?)", word, near);
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown instruction: %.64s", word);
}

void df_pairs_done(df_pairs *p)
{
	BXC_ARR_FOREACH (kv, p) {
		free(kv->key);
		free(kv->value);
	}
	bxc_arr_done(p);
}

void df_instr_free(df_instr *i)
{
	if (!i)
		return;
	free(i->text);
	bxc_strv_free(i->flags);
	bxc_strv_free(i->args);
	df_pairs_done(&i->pairs);
	df_heredocs_done(&i->docs);
	free(i->comments);
	free(i->base);
	free(i->stage);
	free(i->platform);
	BXC_ARR_FOREACH (s, &i->sources) {
		free(s->path);
		free(s->doc_name);
		free(s->doc_data);
	}
	bxc_arr_done(&i->sources);
	free(i->dest);
	free(i->chown);
	free(i->chmod);
	free(i->from);
	free(i->checksum);
	bxc_strv_free(i->exclude);
	bxc_strv_free(i->mounts);
	free(i->network);
	free(i->security);
	bxc_strv_free(i->devices);
	bxc_strv_free(i->health.test);
	df_instr_free(i->sub);
	free(i->trigger);
	free(i);
}

/* ---- words ---- */

static int push_word(df_list *w, char *take, bxc_err **err)
{
	if (w->n == DF_MAX_WORDS) {
		free(take);
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"more than %u words in one instruction", DF_MAX_WORDS);
	}
	*bxc_arr_push(w) = take;
	return 0;
}

static int blank_words(const char *rest, char ***ret, bxc_err **err)
{
	BXC_CLEANUP(df_list_done) df_list w = {0};
	for (const char *p = rest;;) {
		while (df_is_space(*p))
			p++;
		if (!*p)
			break;
		const char *start = p;
		while (*p && !df_is_space(*p))
			p++;
		int r = push_word(&w, bxc_strndup(start, (size_t)(p - start)), err);
		if (r < 0)
			return r;
	}
	*ret = df_list_finish(&w);
	return 0;
}

/* Words where quotes and escapes protect blanks; both stay in the words. */
static int quoted_words(const char *rest, char escape, char ***ret, bxc_err **err)
{
	BXC_CLEANUP(df_list_done) df_list w = {0};
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_LIMIT_DOCKERFILE);
	const char *p = rest;
	while (df_is_space(*p))
		p++;
	while (*p) {
		char quote = 0;
		bool any = false;
		for (; *p && (quote || !df_is_space(*p)); p++) {
			if (*p == escape && quote != '\'') {
				if (!p[1])
					continue;
				bxc_buf_addc(&b, *p++);
			} else if (quote && *p == quote) {
				quote = 0;
			} else if (!quote && (*p == '"' || *p == '\'')) {
				quote = *p;
			}
			bxc_buf_addc(&b, *p);
			any = true;
		}
		int r = any ? push_word(&w, bxc_strdup(bxc_buf_text(&b)), err) : 0;
		if (r < 0)
			return r;
		bxc_buf_clear(&b);
		while (df_is_space(*p))
			p++;
	}
	*ret = df_list_finish(&w);
	return 0;
}

/* ---- flags ---- */

/* Words that begin with "--" at the start of *rest, unquoted; *rest moves behind them. */
static int take_flags(const char **rest, char ***ret, bxc_err **err)
{
	BXC_CLEANUP(df_list_done) df_list w = {0};
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_LIMIT_DOCKERFILE);
	const char *p = *rest;
	for (;;) {
		while (df_is_space(*p))
			p++;
		if (p[0] != '-' || p[1] != '-')
			break;
		char quote = 0;
		bxc_buf_clear(&b);
		for (; *p && (quote || !df_is_space(*p)); p++) {
			if (*p == '\\') {
				if (!p[1])
					continue;
				p++;
			} else if (quote && *p == quote) {
				quote = 0;
				continue;
			} else if (!quote && (*p == '"' || *p == '\'')) {
				quote = *p;
				continue;
			}
			bxc_buf_addc(&b, *p);
		}
		if (bxc_str_eq(bxc_buf_text(&b), "--"))
			break;
		int r = push_word(&w, bxc_strdup(bxc_buf_text(&b)), err);
		if (r < 0)
			return r;
	}
	while (df_is_space(*p))
		p++;
	*rest = p;
	*ret = df_list_finish(&w);
	return 0;
}

/* ---- forms ---- */

/* 1: a JSON array of strings; 0: something else; negative: an array with other things in it. */
static int json_words(const char *rest, char ***ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	if (*rest != '[')
		return 0;
	int r = bxc_json_parse(bxc_slice_of(rest, strlen(rest)), &j, NULL);
	if (r == -BXC_RESOURCE_EXHAUSTED)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "the JSON array is too large");
	if (r < 0 || !bxc_json_is_array(j))
		return 0;
	BXC_CLEANUP(df_list_done) df_list w = {0};
	BXC_JSON_FOREACH (e, j) {
		if (!bxc_json_string(e))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"when using JSON array syntax, arrays must be comprised of strings "
				"only");
		r = push_word(&w, bxc_strdup(bxc_json_string(e)), err);
		if (r < 0)
			return r;
	}
	*ret = df_list_finish(&w);
	return 1;
}

static int text_or_json(df_instr *i, const char *rest, bxc_err **err)
{
	if (!*rest)
		return 0;
	char **words = NULL;
	int r = json_words(rest, &words, err);
	if (r < 0)
		return r;
	i->is_json = r == 1;
	if (!i->is_json)
		bxc_strv_push(&words, rest);
	i->args = words;
	return 0;
}

static void push_pair(df_instr *i, const char *word)
{
	const char *eq = strchr(word, '=');
	df_pair *kv = bxc_arr_push(&i->pairs);
	kv->key = eq ? bxc_strndup(word, (size_t)(eq - word)) : bxc_strdup(word);
	kv->value = eq ? bxc_strdup(eq + 1) : NULL;
}

static int pairs(df_instr *i, const char *rest, char escape, bxc_err **err)
{
	BXC_AUTOSTRV char **words = NULL;
	int r = quoted_words(rest, escape, &words, err);
	if (r < 0 || !words)
		return r;
	if (!strchr(words[0], '=')) {
		size_t n = strcspn(rest, "\t\v\f\r ");
		const char *value = rest + n + strspn(rest + n, "\t\v\f\r ");
		if (!*value)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s must have two arguments",
				df_kind_name(i->kind));
		df_pair *kv = bxc_arr_push(&i->pairs);
		kv->key = bxc_strndup(rest, n);
		kv->value = bxc_strdup(value);
		i->is_legacy = true;
		return 0;
	}
	for (char **w = words; *w; w++) {
		if (!strchr(*w, '='))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"Syntax error - can't find = in \"%.64s\". Must be of the form: "
				"name=value",
				*w);
		push_pair(i, *w);
	}
	return 0;
}

static int names(df_instr *i, const char *rest, char escape, bxc_err **err)
{
	int r = quoted_words(rest, escape, &i->args, err);
	for (char **w = i->args; r == 0 && w && *w; w++)
		push_pair(i, *w);
	return r;
}

static int health(df_instr *i, const char *rest, bxc_err **err)
{
	size_t n = 0;
	while (rest[n] && !df_is_space(rest[n]))
		n++;
	if (!n)
		return 0;
	BXC_AUTOFREE char *word = bxc_strndup(rest, n);
	rest += n;
	while (df_is_space(*rest))
		rest++;
	BXC_AUTOSTRV char **words = NULL;
	int r = *rest ? json_words(rest, &words, err) : 0;
	if (r < 0)
		return r;
	i->is_json = r == 1;
	df_list all = {0};
	*bxc_arr_push(&all) = bxc_strdup(word);
	for (char **w = words; w && *w; w++)
		*bxc_arr_push(&all) = bxc_strdup(*w);
	if (r == 0 && *rest)
		*bxc_arr_push(&all) = bxc_strdup(rest);
	i->args = df_list_finish(&all);
	return 0;
}

static int words_or_json(df_instr *i, const char *rest, bxc_err **err)
{
	int r = json_words(rest, &i->args, err);
	if (r < 0)
		return r;
	i->is_json = r == 1;
	return r == 1 ? 0 : blank_words(rest, &i->args, err);
}

static int arguments(df_instr *i, const char *rest, char escape, bxc_err **err)
{
	switch (instructions[i->kind].form) {
	case FORM_WORDS:
		return blank_words(rest, &i->args, err);
	case FORM_WORDS_OR_JSON:
		return words_or_json(i, rest, err);
	case FORM_TEXT:
		if (*rest)
			bxc_strv_push(&i->args, rest);
		return 0;
	case FORM_TEXT_OR_JSON:
		return text_or_json(i, rest, err);
	case FORM_PAIRS:
		return pairs(i, rest, escape, err);
	case FORM_NAMES:
		return names(i, rest, escape, err);
	case FORM_HEALTH:
		return health(i, rest, err);
	case FORM_SUB:
		return *rest ? df_parse_line(rest, escape, &i->sub, err) : 0;
	case FORM_NONE:
		break;
	}
	return bxc_err_set(err, BXC_INTERNAL, "instruction without a form");
}

static bool is_word(const char *text, const char *word)
{
	size_t n = strlen(word);
	return strncasecmp(text, word, n) == 0 && (!text[n] || df_is_space(text[n]));
}

int df_parse_line(const char *text, char escape, df_instr **ret, bxc_err **err)
{
	BXC_CLEANUP(df_instr_freep) df_instr *i = bxc_calloc(1, sizeof(*i));
	i->text = bxc_strdup(text);
	size_t n = strcspn(text, "\t\v\f\r ");
	BXC_AUTOFREE char *word = bxc_strndup(text, n);
	const char *rest = text + n;
	i->kind = kind_of(word);
	if (i->kind == DF_NONE)
		return unknown_instruction(word, err);
	int r = take_flags(&rest, &i->flags, err);
	if (r < 0)
		return r;
	/* Refused here already, so that a long chain cannot nest without end. */
	if (i->kind == DF_ONBUILD && is_word(rest, "ONBUILD"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
	r = arguments(i, rest, escape, err);
	if (r < 0)
		return r;
	*ret = BXC_TAKE(i);
	return 0;
}

/* ---- the file ---- */

void bxc_df_ast_free(bxc_df_ast *a)
{
	if (!a)
		return;
	free(a->name);
	free(a->syntax);
	free(a->check);
	BXC_ARR_FOREACH (i, &a->instrs)
		df_instr_free(*i);
	bxc_arr_done(&a->instrs);
	bxc_arr_done(&a->stages);
	free(a);
}

static bool may_have_heredocs(const df_instr *i)
{
	if (i->kind == DF_ONBUILD)
		return i->sub && may_have_heredocs(i->sub);
	return (i->kind == DF_ADD || i->kind == DF_COPY || i->kind == DF_RUN) && !i->is_json;
}

static int heredocs(df_lexer *l, df_instr *i, bxc_err **err)
{
	if (!may_have_heredocs(i))
		return 0;
	df_heredocs_find(i->text, &i->docs);
	if (i->docs.n > DF_MAX_HEREDOCS)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"more than %u heredocs in one instruction", DF_MAX_HEREDOCS);
	int r = 0;
	for (size_t k = 0; r == 0 && k < i->docs.n; k++)
		r = df_lex_heredoc(l, &i->docs.v[k], err);
	return r;
}

/* A trigger of ONBUILD stands alone; in a file all but ARG belong to a stage. */
static int add_instr(bxc_df_ast *a, bool is_trigger, df_instr *take, bxc_err **err)
{
	BXC_CLEANUP(df_instr_freep) df_instr *i = take;
	if (a->instrs.n == DF_MAX_INSTRUCTIONS)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u instructions",
			DF_MAX_INSTRUCTIONS);
	if (is_trigger) {
		if (a->instrs.n)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"onbuild trigger should be a single expression");
	} else if (i->kind == DF_FROM) {
		*bxc_arr_push(&a->stages) = (df_stage_src){.from = i, .first = a->instrs.n + 1};
	} else if (a->stages.n) {
		a->stages.v[a->stages.n - 1].n++;
	} else if (i->kind == DF_ARG) {
		a->n_meta++;
	} else {
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"no build stage in current context: %s comes before the first FROM",
			df_kind_name(i->kind));
	}
	*bxc_arr_push(&a->instrs) = BXC_TAKE(i);
	return 0;
}

static int take_line(bxc_df_ast *a, bool is_trigger, df_lexer *l, df_line *line, bxc_err **err)
{
	BXC_CLEANUP(df_instr_freep) df_instr *i = NULL;
	/* A lone continuation mark: nothing was said. */
	if (!*line->text)
		return 0;
	int r = df_parse_line(line->text, l->escape, &i, err);
	if (r < 0)
		return r;
	r = heredocs(l, i, err);
	if (r < 0)
		return r;
	i->comments = BXC_TAKE(line->comments);
	df_checks_of_comments(i->comments, &i->checks);
	i->line = line->start;
	i->gap_line = line->has_gap ? line->end : 0;
	i->line_end = l->line;
	r = df_instr_check(i, err);
	if (r < 0)
		return r;
	return add_instr(a, is_trigger, BXC_TAKE(i), err);
}

/* *ret_line is where the instruction begins that could not be read. */
static int take_text(bxc_df_ast *a, bool is_trigger, df_lexer *l, uint32_t *ret_line, bxc_err **err)
{
	for (;;) {
		df_line line = {0};
		int r = df_lex_line(l, &line, err);
		*ret_line = l->line;
		if (r <= 0)
			return r;
		*ret_line = line.start;
		r = take_line(a, is_trigger, l, &line, err);
		free(line.text);
		free(line.comments);
		if (r < 0)
			return r;
	}
}

int df_parse_trigger(const char *text, bxc_df_ast **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_df_ast_freep) bxc_df_ast *a = bxc_calloc(1, sizeof(*a));
	BXC_CLEANUP(df_lexer_done)
	df_lexer l = {.text = bxc_slice_of(text, strlen(text)), .escape = '\\'};
	uint32_t line = 0;
	int r = take_text(a, true, &l, &line, err);
	if (r < 0)
		return r;
	if (a->instrs.n != 1)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "onbuild trigger should be a single expression");
	df_kind k = a->instrs.v[0]->kind;
	if (k == DF_ONBUILD || k == DF_FROM || k == DF_MAINTAINER)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"%s isn't allowed as an ONBUILD trigger", df_kind_name(k));
	a->escape = '\\';
	*ret = BXC_TAKE(a);
	return 0;
}

static int parse_file(bxc_df_ast *a, bxc_slice text, const char *name, bxc_err **err)
{
	BXC_CLEANUP(df_lexer_done) df_lexer l = {.text = text, .escape = '\\'};
	uint32_t line = 0;
	a->name = bxc_strdup(name);
	if (text.n > BXC_LIMIT_DOCKERFILE)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"%s: the file is larger than %u bytes", name, BXC_LIMIT_DOCKERFILE);
	int r = df_syntax_refuse(text, name, err);
	if (r < 0)
		return r;
	r = take_text(a, false, &l, &line, err);
	a->escape = l.escape;
	a->syntax = BXC_TAKE(l.syntax);
	a->syntax_line = l.syntax_line;
	a->check = BXC_TAKE(l.check);
	a->check_line = l.check_line;
	if (r < 0)
		return df_place(err, r, name, line, BXC_MAX(line, l.line));
	if (!a->instrs.n)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "%s: file with no instructions", name);
	if (!a->stages.n)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"%s: dockerfile contains no stages to build", name);
	return 0;
}

int bxc_df_parse_part(bxc_slice text, const char *name, bxc_df_ast **ret, bxc_err **err)
{
	*ret = bxc_calloc(1, sizeof(**ret));
	return parse_file(*ret, text, name, err);
}

int bxc_df_parse(bxc_slice text, const char *name, bxc_df_ast **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_df_ast_freep) bxc_df_ast *a = NULL;
	int r = bxc_df_parse_part(text, name, &a, err);
	if (r == 0)
		*ret = BXC_TAKE(a);
	return r;
}

size_t bxc_df_n_stages(const bxc_df_ast *a)
{
	return a->stages.n;
}

const char *bxc_df_stage_name(const bxc_df_ast *a, size_t i)
{
	bxc_check(i < a->stages.n);
	return a->stages.v[i].from->stage;
}
