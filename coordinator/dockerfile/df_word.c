/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shell words: quotes, escapes, $variables with modifiers, as BuildKit's shell lexer takes them.
 * Everything produced is charged to a budget, because a few lines of ENV a=$a$a reach any size.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

int df_charge(uint64_t *work, uint64_t n, bxc_err **err)
{
	if (!work)
		return 0;
	if (*work < n) {
		*work = 0;
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"the Dockerfile expands to more than %u MiB", DF_MAX_WORK >> 20);
	}
	*work -= n;
	return 0;
}

typedef struct scan {
	const char *p;
	const df_env *env;
	const df_word_opts *o;
	uint32_t depth;
} scan;

/* What a level makes: the text, and at the outermost level its words. */
typedef struct out {
	bxc_buf text;
	bool want_words;
	bxc_buf word;
	bool in_word;
	df_list words;
} out;

static void out_done(out *t)
{
	bxc_buf_done(&t->text);
	bxc_buf_done(&t->word);
	df_list_done(&t->words);
}

#define OUT_INIT                                                                                   \
	{                                                                                          \
		.text = BXC_BUF_INIT(DF_MAX_WORD), .word = BXC_BUF_INIT(DF_MAX_WORD)               \
	}

static int end_word(out *t, bxc_err **err)
{
	if (!t->in_word)
		return 0;
	if (t->words.n == DF_MAX_WORDS)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u words", DF_MAX_WORDS);
	*bxc_arr_push(&t->words) = bxc_strdup(bxc_buf_text(&t->word));
	bxc_buf_clear(&t->word);
	t->in_word = false;
	return 0;
}

/* Text that no blank splits. */
static int put_raw(const scan *s, out *t, const char *p, size_t n, bxc_err **err)
{
	int r = df_charge(s->o->work, n, err);
	if (r == 0)
		r = bxc_buf_append(&t->text, p, n, err);
	if (r == 0 && t->want_words) {
		t->in_word = true;
		r = bxc_buf_append(&t->word, p, n, err);
	}
	return r;
}

static int put(const scan *s, out *t, const char *p, size_t n, bxc_err **err)
{
	int r = df_charge(s->o->work, n, err);
	if (r == 0)
		r = bxc_buf_append(&t->text, p, n, err);
	for (size_t i = 0; r == 0 && t->want_words && i < n; i++) {
		if (df_is_space(p[i])) {
			r = end_word(t, err);
		} else {
			t->in_word = true;
			r = bxc_buf_append(&t->word, p + i, 1, err);
		}
	}
	return r;
}

static size_t rune_len(const char *p)
{
	uint32_t code = 0;
	return df_next_rune(p, &code);
}

static bool is_letter_at(const char *p, size_t *ret_len)
{
	uint32_t code = 0;
	*ret_len = df_next_rune(p, &code);
	return df_is_letter(code);
}

/* A name, a number, or one of the shell's special parameters. Owned; "" when there is none. */
static char *take_name(scan *s)
{
	const char *start = s->p;
	size_t n = strspn(start, "0123456789");
	if (!n && *start && strchr("@*#?-$!", *start))
		n = 1;
	if (!n) {
		size_t len = 0;
		while (start[n]) {
			if (start[n] == '_' || (start[n] >= '0' && start[n] <= '9'))
				n++;
			else if (is_letter_at(start + n, &len))
				n += len;
			else
				break;
		}
	}
	s->p += n;
	return bxc_strndup(start, n);
}

static void gather(df_env **set, const char *name)
{
	if (!set)
		return;
	if (!*set)
		*set = df_env_new();
	df_env_set(*set, name, "");
}

/* NULL: unset. */
static const char *look_up(const scan *s, const char *name)
{
	const char *value = df_env_get(s->env, name);
	gather(value ? s->o->used : s->o->unset, name);
	return value;
}

static int walk(scan *s, out *t, char stop, bool raw_escapes, bxc_err **err);

static int missing_brace(bxc_err **err)
{
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "syntax error: missing '}'");
}

/* The text up to `stop`, expanded. */
static int take_until(scan *s, char stop, bool raw_escapes, char **ret, bxc_err **err)
{
	BXC_CLEANUP(out_done) out t = OUT_INIT;
	int r = walk(s, &t, stop, raw_escapes, err);
	if (r == 0)
		*ret = bxc_strdup(bxc_buf_text(&t.text));
	return r;
}

static int put_str(const scan *s, out *t, const char *text, bxc_err **err)
{
	return put(s, t, text, strlen(text), err);
}

static int unsupported(const char *mod, size_t n, bxc_err **err)
{
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unsupported modifier (%.*s) in substitution",
		(int)n, mod);
}

static int trimmed(
	const scan *s, out *t, const char *word, const char *value, bool suffix, bxc_err **err)
{
	bool longest = *word == (suffix ? '%' : '#');
	BXC_CLEANUP(df_glob_freep) df_glob *g = NULL;
	BXC_AUTOFREE char *left = NULL;
	int r = df_glob_new(word + (longest ? 1 : 0), &g, err);
	if (r == 0)
		r = df_glob_trim(g, value ? value : "", suffix, longest, s->o->work, &left, err);
	return r == 0 ? put_str(s, t, left, err) : r;
}

/* ${name:-word} and its kin; the modifier stands at s->p. */
static int with_word(scan *s, out *t, const char *name, bxc_err **err)
{
	const char *mod = s->p;
	bool null_is_unset = *s->p == ':';
	if (null_is_unset)
		s->p++;
	char op = *s->p;
	if (!op)
		return missing_brace(err);
	size_t op_len = rune_len(s->p);
	s->p += op_len;
	size_t mod_len = (size_t)(s->p - mod);
	if (!strchr(null_is_unset ? "+-?" : "+-?#%", op))
		return unsupported(mod, mod_len, err);
	BXC_AUTOFREE char *word = NULL;
	int r = take_until(s, '}', op == '#' || op == '%', &word, err);
	if (r < 0)
		return r;
	const char *value = look_up(s, name);
	bool is_unset = !value || (null_is_unset && !*value);
	if (!value && s->o->skip_unset) {
		BXC_AUTOFREE char *as_is =
			bxc_str_fmt("${%s%.*s%s}", name, (int)mod_len, mod, word);
		return put_str(s, t, as_is, err);
	}
	switch (op) {
	case '-':
		return put_str(s, t, is_unset ? word : value, err);
	case '+':
		return is_unset ? 0 : put_str(s, t, word, err);
	case '?':
		if (!is_unset)
			return put_str(s, t, value, err);
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%.64s: %.256s", name,
			*word	? word
			: value ? "is not allowed to be empty"
				: "is not allowed to be unset");
	default:
		return trimmed(s, t, word, value, op == '%', err);
	}
}

static int replaced(scan *s, out *t, const char *name, bxc_err **err)
{
	BXC_AUTOFREE char *pattern = NULL;
	BXC_AUTOFREE char *with = NULL;
	BXC_AUTOFREE char *made = NULL;
	BXC_CLEANUP(df_glob_freep) df_glob *g = NULL;
	s->p++;
	bool all = *s->p == '/';
	if (all)
		s->p++;
	int r = take_until(s, '/', true, &pattern, err);
	if (r < 0)
		return r;
	r = take_until(s, '}', true, &with, err);
	if (r < 0)
		return r;
	const char *value = look_up(s, name);
	if (!value && s->o->skip_unset) {
		BXC_AUTOFREE char *as_is =
			bxc_str_fmt("${%s/%s%s/%s}", name, all ? "/" : "", pattern, with);
		return put_str(s, t, as_is, err);
	}
	r = df_glob_new(pattern, &g, err);
	if (r == 0)
		r = df_glob_replace(g, value ? value : "", with, all, s->o->work, &made, err);
	return r == 0 ? put_str(s, t, made, err) : r;
}

static int braces(scan *s, out *t, bxc_err **err)
{
	s->p++;
	if (!*s->p)
		return missing_brace(err);
	if (strchr("{}:", *s->p))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "syntax error: bad substitution");
	BXC_AUTOFREE char *name = take_name(s);
	const char *value = NULL;
	switch (*s->p) {
	case '\0':
		return missing_brace(err);
	case '}':
		s->p++;
		value = look_up(s, name);
		if (!value && s->o->skip_unset) {
			BXC_AUTOFREE char *as_is = bxc_str_fmt("${%s}", name);
			return put_str(s, t, as_is, err);
		}
		return value ? put_str(s, t, value, err) : 0;
	case ':':
	case '+':
	case '-':
	case '?':
	case '#':
	case '%':
		return with_word(s, t, name, err);
	case '/':
		return replaced(s, t, name, err);
	default:
		return unsupported(s->p, rune_len(s->p), err);
	}
}

static int dollar(scan *s, out *t, bxc_err **err)
{
	s->p++;
	if (*s->p == '{') {
		if (s->depth == DF_MAX_NESTING)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"substitutions are nested more than %u deep", DF_MAX_NESTING);
		s->depth++;
		int r = braces(s, t, err);
		s->depth--;
		return r;
	}
	BXC_AUTOFREE char *name = take_name(s);
	const char *value = *name ? look_up(s, name) : NULL;
	if (!*name || (!value && s->o->skip_unset)) {
		BXC_AUTOFREE char *as_is = bxc_str_fmt("$%s", name);
		return put_str(s, t, as_is, err);
	}
	return value ? put_str(s, t, value, err) : 0;
}

static int single_quotes(scan *s, out *t, bxc_err **err)
{
	const char *start = ++s->p;
	const char *end = strchr(start, '\'');
	if (!end)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"unexpected end of statement while looking for matching single-quote");
	s->p = end + 1;
	if (s->o->raw_quotes)
		return put_raw(s, t, start - 1, (size_t)(end + 1 - (start - 1)), err);
	return put_raw(s, t, start, (size_t)(end - start), err);
}

static int double_quotes(scan *s, out *t, bool raw_escapes, bxc_err **err)
{
	BXC_CLEANUP(out_done) out in = OUT_INIT;
	int r = s->o->raw_quotes ? put(s, &in, "\"", 1, err) : 0;
	for (s->p++; r == 0 && *s->p && *s->p != '"';) {
		if (*s->p == '$') {
			r = dollar(s, &in, err);
			continue;
		}
		if (*s->p == s->o->escape) {
			if (raw_escapes)
				r = put(s, &in, s->p, 1, err);
			if (!s->p[1]) {
				s->p++;
				continue;
			}
			if (s->p[1] == '"' || s->p[1] == '$' || s->p[1] == s->o->escape)
				s->p++;
		}
		if (r == 0)
			r = put(s, &in, s->p, 1, err);
		s->p++;
	}
	if (r < 0)
		return r;
	if (*s->p != '"')
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"unexpected end of statement while looking for matching double-quote");
	s->p++;
	if (s->o->raw_quotes)
		r = put(s, &in, "\"", 1, err);
	return r == 0 ? put_raw(s, t, bxc_buf_text(&in.text), in.text.len, err) : r;
}

static int escaped(scan *s, out *t, bool raw_escapes, bxc_err **err)
{
	int r = raw_escapes ? put_raw(s, t, s->p, 1, err) : 0;
	s->p++;
	if (r < 0 || !*s->p)
		return r;
	size_t n = rune_len(s->p);
	r = put_raw(s, t, s->p, n, err);
	s->p += n;
	return r;
}

/* Up to `stop` (0: the end), which is passed over. */
static int walk(scan *s, out *t, char stop, bool raw_escapes, bxc_err **err)
{
	int r = 0;
	while (r == 0 && *s->p) {
		if (stop && *s->p == stop) {
			s->p++;
			return 0;
		}
		bool quotes = !s->o->skip_quotes;
		if (*s->p == '$') {
			r = dollar(s, t, err);
		} else if (quotes && *s->p == '\'') {
			r = single_quotes(s, t, err);
		} else if (quotes && *s->p == '"') {
			r = double_quotes(s, t, raw_escapes, err);
		} else if (*s->p == s->o->escape) {
			r = escaped(s, t, raw_escapes, err);
		} else {
			char special[] = {'$', '\'', '"', s->o->escape, stop, 0};
			size_t n = strcspn(s->p, special);
			n = n ? n : 1;
			r = put(s, t, s->p, n, err);
			s->p += n;
		}
	}
	if (r == 0 && stop)
		return stop == '/' ? bxc_err_set(err, BXC_INVALID_ARGUMENT,
					     "syntax error: missing '/' in ${}")
				   : missing_brace(err);
	return r;
}

static int expand(const char *text, const df_env *env, const df_word_opts *o, out *t, bxc_err **err)
{
	scan s = {.p = text, .env = env, .o = o};
	int r = walk(&s, t, 0, o->raw_escapes, err);
	if (r == 0)
		r = end_word(t, err);
	return r < 0 ? bxc_err_wrap(err, r, "failed to process \"%.64s\"", text) : 0;
}

int df_word(const char *text, const df_env *env, const df_word_opts *o, char **ret, bxc_err **err)
{
	const char special[] = {'$', '\'', '"', o->escape, 0};
	size_t n = strcspn(text, special);
	/* Most words mean nothing but themselves. */
	if (!text[n] && n <= DF_MAX_WORD) {
		int r = df_charge(o->work, n, err);
		if (r == 0)
			*ret = bxc_strndup(text, n);
		return r < 0 ? bxc_err_wrap(err, r, "failed to process \"%.64s\"", text) : 0;
	}
	BXC_CLEANUP(out_done) out t = OUT_INIT;
	int r = expand(text, env, o, &t, err);
	if (r == 0)
		*ret = bxc_buf_steal(&t.text);
	return r;
}

int df_words(const char *text, const df_env *env, const df_word_opts *o, char ***ret, bxc_err **err)
{
	BXC_CLEANUP(out_done) out t = OUT_INIT;
	t.want_words = true;
	int r = expand(text, env, o, &t, err);
	if (r < 0)
		return r;
	*ret = df_list_finish(&t.words);
	return 0;
}
