/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines: directives, comments, continuations, heredoc bodies. The rules, odd ones included, are
 * those of BuildKit's dockerfile parser: leading blanks go from the first line of an instruction
 * only; comments and blank lines inside a continuation vanish; an escape character that is itself
 * escaped does not continue the line.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include "common/base/utf8.h"

void df_lexer_done(df_lexer *l)
{
	free(l->syntax);
	free(l->check);
	bxc_buf_done(&l->comments);
	*l = (df_lexer){0};
}

/* 1: a line without its newline; *ret_raw has it with it. 0: the end. */
static int read_line(df_lexer *l, bxc_slice *ret, bxc_slice *ret_raw, bxc_err **err)
{
	if (l->pos == l->text.n)
		return 0;
	const uint8_t *p = l->text.p + l->pos;
	size_t left = l->text.n - l->pos;
	const uint8_t *nl = memchr(p, '\n', left);
	size_t n = nl ? (size_t)(nl - p) : left;
	l->line++;
	if (n > BXC_LIMIT_DOCKERFILE_LINE)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"dockerfile line greater than max allowed size of %u",
			BXC_LIMIT_DOCKERFILE_LINE);
	*ret_raw = (bxc_slice){p, nl ? n + 1 : n};
	l->pos += ret_raw->n;
	while (n && p[n - 1] == '\r')
		n--;
	*ret = (bxc_slice){p, n};
	return 1;
}

static bxc_slice trim_left(bxc_slice s)
{
	while (s.n && df_is_space((char)*s.p)) {
		s.p++;
		s.n--;
	}
	return s;
}

static bxc_slice trim_right(bxc_slice s)
{
	while (s.n && df_is_space((char)s.p[s.n - 1]))
		s.n--;
	return s;
}

static bool is_alnum(uint8_t c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* "# name = value" into its parts; false when the line is no directive. */
static bool split_directive(bxc_slice s, bxc_slice *name, bxc_slice *value)
{
	s.p++;
	s.n--;
	s = trim_left(s);
	size_t n = 0;
	while (n < s.n && is_alnum(s.p[n]))
		n++;
	if (n == 0 || (s.p[0] >= '0' && s.p[0] <= '9'))
		return false;
	*name = (bxc_slice){s.p, n};
	s = trim_left((bxc_slice){s.p + n, s.n - n});
	if (!s.n || *s.p != '=')
		return false;
	*value = trim_right(trim_left((bxc_slice){s.p + 1, s.n - 1}));
	return value->n > 0 && bxc_utf8_valid(value->p, value->n) && !memchr(value->p, 0, value->n);
}

static int set_text_directive(char **slot, const char *name, bxc_slice value, bxc_err **err)
{
	if (*slot)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"only one %s parser directive can be used", name);
	*slot = bxc_strndup((const char *)value.p, value.n);
	return 1;
}

static int take_directive(df_lexer *l, bxc_slice s, bxc_err **err)
{
	bxc_slice name = {0}, value = {0};
	if (!s.n || *s.p != '#' || !split_directive(s, &name, &value))
		return 0;
	BXC_AUTOFREE char *key = bxc_str_lower(bxc_strndup((const char *)name.p, name.n));
	if (bxc_str_eq(key, "syntax")) {
		l->syntax_line = l->line;
		return set_text_directive(&l->syntax, key, value, err);
	}
	if (bxc_str_eq(key, "check")) {
		l->check_line = l->line;
		return set_text_directive(&l->check, key, value, err);
	}
	if (!bxc_str_eq(key, "escape"))
		return 0;
	if (l->escape_seen)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "only one escape parser directive can be used");
	if (value.n != 1 || (*value.p != '\\' && *value.p != '`'))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid escape token '%.*s' does not match ` or \\",
			(int)BXC_MIN(value.n, (size_t)32), (const char *)value.p);
	l->escape_seen = true;
	l->escape = (char)*value.p;
	return 1;
}

/* 1: the line was a directive. Anything else ends the mode, except a first line "#!". */
static int directive(df_lexer *l, bxc_slice s, bxc_err **err)
{
	if (l->directives_over)
		return 0;
	if (l->line == 1 && s.n >= 2 && s.p[0] == '#' && s.p[1] == '!')
		return 1;
	int r = take_directive(l, s, err);
	l->directives_over = r == 0;
	return r;
}

static void comment(df_lexer *l, bxc_slice s)
{
	s.p++;
	s.n--;
	s = trim_right(trim_left(s));
	if (!s.n) {
		bxc_buf_clear(&l->comments);
		return;
	}
	bool valid = bxc_utf8_valid(s.p, s.n) && !memchr(s.p, 0, s.n);
	if (!valid)
		return;
	/* What a very long comment says after its first 64 KiB describes nothing. */
	if (l->comments.len > BXC_LIMIT_DOCKERFILE_LINE)
		return;
	if (!l->comments.max_bytes)
		bxc_buf_init(&l->comments, 2 * BXC_LIMIT_DOCKERFILE_LINE + 2);
	if (l->comments.len)
		bxc_buf_addc(&l->comments, '\n');
	bxc_buf_add(&l->comments, s.p, s.n);
}

/* Cuts a continuation mark off; true when there was one. */
static bool continued(const df_lexer *l, bxc_slice *s)
{
	size_t n = s->n;
	while (n && (s->p[n - 1] == ' ' || s->p[n - 1] == '\t'))
		n--;
	if (!n || (char)s->p[n - 1] != l->escape || (n > 1 && (char)s->p[n - 2] == l->escape))
		return false;
	s->n = n - 1;
	return true;
}

static int next_part(df_lexer *l, bxc_slice *ret, bool *ret_gap, bxc_err **err)
{
	for (;;) {
		bxc_slice raw = {0};
		int r = read_line(l, ret, &raw, err);
		if (r <= 0)
			return r;
		bxc_slice t = trim_left(*ret);
		if (t.n && *t.p != '#')
			return 1;
		*ret_gap = *ret_gap || !t.n;
	}
}

/* The first line of an instruction; directives, comments and blank lines are passed over. */
static int first_part(df_lexer *l, bxc_slice *ret, bxc_err **err)
{
	static const uint8_t bom[] = {0xef, 0xbb, 0xbf};
	for (;;) {
		bxc_slice raw = {0};
		int r = read_line(l, ret, &raw, err);
		if (r <= 0)
			return r;
		if (l->line == 1 && ret->n >= 3 && memcmp(ret->p, bom, 3) == 0)
			*ret = (bxc_slice){ret->p + 3, ret->n - 3};
		*ret = trim_left(*ret);
		r = directive(l, *ret, err);
		if (r < 0)
			return r;
		if (r == 1)
			continue;
		if (ret->n && *ret->p == '#') {
			comment(l, *ret);
			continue;
		}
		if (ret->n)
			return 1;
		bxc_buf_clear(&l->comments);
	}
}

int df_lex_line(df_lexer *l, df_line *ret, bxc_err **err)
{
	bxc_slice part = {0};
	int r = first_part(l, &part, err);
	if (r <= 0)
		return r;
	uint32_t start = l->line;
	bool gap = false;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_LIMIT_DOCKERFILE);
	for (;;) {
		bool more = continued(l, &part);
		r = bxc_buf_append(&b, part.p, part.n, err);
		if (r < 0)
			return r;
		if (!more)
			break;
		r = next_part(l, &part, &gap, err);
		if (r < 0)
			return r;
		if (r == 0)
			break;
	}
	if (memchr(bxc_buf_text(&b), 0, b.len))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the instruction holds a NUL byte");
	if (!bxc_utf8_valid(bxc_buf_text(&b), b.len))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "the instruction is not valid UTF-8");
	BXC_AUTOFREE char *text = bxc_buf_steal(&b);
	*ret = (df_line){.text = bxc_strdup(bxc_str_trim(text)),
		.comments = l->comments.len ? bxc_strdup(bxc_buf_text(&l->comments)) : NULL,
		.start = start,
		.end = l->line,
		.has_gap = gap};
	bxc_buf_clear(&l->comments);
	return 1;
}

/* ---- heredocs ---- */

void df_heredocs_done(df_heredocs *h)
{
	BXC_ARR_FOREACH (d, h) {
		free(d->name);
		free(d->data);
	}
	bxc_arr_done(h);
}

int df_lex_heredoc(df_lexer *l, df_heredoc *h, bxc_err **err)
{
	size_t name_len = strlen(h->name);
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_LIMIT_DOCKERFILE);
	for (;;) {
		bxc_slice line = {0}, raw = {0};
		int r = read_line(l, &line, &raw, err);
		if (r < 0)
			return r;
		if (r == 0)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"unterminated heredoc: no line '%.64s' follows", h->name);
		while (h->strip_tabs && line.n && *line.p == '\t') {
			line.p++;
			line.n--;
		}
		if (line.n == name_len && memcmp(line.p, h->name, name_len) == 0)
			break;
		r = bxc_buf_append(&b, raw.p, raw.n, err);
		if (r < 0)
			return r;
	}
	if (memchr(bxc_buf_text(&b), 0, b.len))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "the heredoc '%.64s' holds a NUL byte", h->name);
	if (!bxc_utf8_valid(bxc_buf_text(&b), b.len))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"the heredoc '%.64s' is not valid UTF-8", h->name);
	h->data = b.len ? bxc_buf_steal(&b) : bxc_strdup("");
	return 0;
}

/* [fd]<<[-]WORD where WORD holds no '<'. Any quoting of WORD turns expansion off. */
int df_heredoc_parse(const char *word, df_heredoc *ret)
{
	const char *p = word;
	uint32_t fd = 0;
	while (*p >= '0' && *p <= '9' && p - word < 6)
		fd = fd * 10 + (uint32_t)(*p++ - '0');
	if (p[0] != '<' || p[1] != '<')
		return 0;
	p += 2;
	bool strip = *p == '-';
	if (strip)
		p++;
	if (!*p || strchr(p, '<'))
		return 0;
	BXC_AUTOSTRV char **plain = NULL;
	BXC_AUTOSTRV char **raw = NULL;
	df_word_opts o = {.escape = '\\', .skip_unset = true};
	if (df_words(p, NULL, &o, &plain, NULL) < 0)
		return 0;
	o.raw_quotes = o.raw_escapes = true;
	if (df_words(p, NULL, &o, &raw, NULL) < 0)
		return 0;
	if (bxc_strv_len(plain) != 1 || bxc_strv_len(raw) != 1 || bxc_str_empty(plain[0]))
		return 0;
	*ret = (df_heredoc){.name = bxc_strdup(plain[0]),
		.expand = bxc_str_eq(plain[0], raw[0]),
		.strip_tabs = strip,
		.fd = fd};
	return 1;
}

static bool is_bare_mark(const char *w)
{
	w += strspn(w, "0123456789");
	return bxc_str_eq(w, "<<") || bxc_str_eq(w, "<<-");
}

void df_heredocs_find(const char *line, df_heredocs *ret)
{
	if (!strstr(line, "<<"))
		return;
	BXC_AUTOSTRV char **words = NULL;
	df_word_opts o = {
		.escape = '\\', .raw_quotes = true, .raw_escapes = true, .skip_unset = true};
	/* Quotes that do not end: for the shell to complain about. */
	if (df_words(line, NULL, &o, &words, NULL) < 0)
		return;
	for (char **w = words; w && *w; w++) {
		df_heredoc h = {0};
		BXC_AUTOFREE char *joined = NULL;
		if (is_bare_mark(*w) && w[1]) {
			joined = bxc_str_fmt("%s%s", w[0], w[1]);
			w++;
		}
		if (df_heredoc_parse(joined ? joined : *w, &h))
			*bxc_arr_push(ret) = h;
	}
}
