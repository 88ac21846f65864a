/* SPDX-License-Identifier: Apache-2.0 */
/* The syntax of configuration files; README.md describes it. */
#include "common/config/config_internal.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/base/utf8.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static const char *skip_blanks(const char *p)
{
	while (is_blank(*p))
		p++;
	return p;
}

static bool is_key_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

/* At *p is the opening quote; moves behind the closing one. */
static int parse_quoted(const char **p, bxc_buf *out, bxc_err **err)
{
	const char *q = *p + 1;
	for (; *q != '"'; q++) {
		char c = *q;
		if (!c)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "missing closing '\"'");
		if (c == '\\') {
			q++;
			if (*q == 'n')
				c = '\n';
			else if (*q == 't')
				c = '\t';
			else if (*q == '"' || *q == '\\')
				c = *q;
			else
				return bxc_err_set(err, BXC_INVALID_ARGUMENT,
					"unknown escape in a quoted value (known are \\n \\t \\\" "
					"\\\\)");
		}
		bxc_buf_addc(out, c);
	}
	*p = q + 1;
	return 0;
}

/* Up to a blank before '#', the end, or (in a list) a comma. */
static void parse_bare(const char **p, bool in_list, bxc_buf *out)
{
	const char *start = *p, *q = start;
	while (*q && !(in_list && *q == ',') && !(*q == '#' && q > start && is_blank(q[-1])))
		q++;
	const char *end = q;
	while (end > start && is_blank(end[-1]))
		end--;
	bxc_buf_add(out, start, (size_t)(end - start));
	*p = q;
}

int bxc_cfg__parse_value(const char *text, bool is_list, char ***ret, bxc_err **err)
{
	BXC_AUTOSTRV char **items = NULL;
	const char *p = skip_blanks(text);
	if (!*p || *p == '#') {
		if (!is_list)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"value is missing (write \"\" for an empty one)");
		*ret = NULL;
		return 0;
	}
	for (;;) {
		BXC_AUTOBUF bxc_buf item = BXC_BUF_INIT(BXC_CFG_MAX_FILE);
		bool quoted = *p == '"';
		if (quoted) {
			int r = parse_quoted(&p, &item, err);
			if (r < 0)
				return r;
		} else {
			parse_bare(&p, is_list, &item);
		}
		if (is_list && !quoted && item.len == 0)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "empty element in a list");
		bxc_strv_push(&items, bxc_buf_text(&item));
		p = skip_blanks(p);
		if (!is_list || *p != ',')
			break;
		p = skip_blanks(p + 1);
	}
	if (*p && *p != '#')
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "unexpected text after the closing '\"'");
	*ret = BXC_TAKE(items);
	return 0;
}

void bxc_cfg__print_element(const char *s, bool in_list, FILE *f)
{
	size_t n = strlen(s);
	bool bare = n && *s != '"' && *s != '#' && !is_blank(s[0]) && !is_blank(s[n - 1]) &&
		    !strpbrk(s, in_list ? ",\n\t\\\"#" : "\n\t\\\"#");
	if (bare) {
		fputs(s, f);
		return;
	}
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '\n' || *s == '\t')
			fputs(*s == '\n' ? "\\n" : "\\t", f);
		else if (*s == '"' || *s == '\\')
			fprintf(f, "\\%c", *s);
		else
			fputc(*s, f);
	}
	fputc('"', f);
}

static int parse_line(char *text, unsigned line, bxc_cfg__line_fn fn, void *ud, bxc_err **err)
{
	char *p = bxc_str_trim(text);
	if (!*p || *p == '#')
		return 0;
	char *end = p;
	while (is_key_char(*end))
		end++;
	const char *eq = skip_blanks(end);
	if (end == p || *eq != '=')
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "expected 'key = value'");
	*end = '\0';
	return fn(line, p, skip_blanks(eq + 1), ud, err);
}

int bxc_cfg__parse_lines(
	const char *name, bxc_slice text, bxc_cfg__line_fn fn, void *ud, bxc_err **err)
{
	if (text.n > BXC_CFG_MAX_FILE)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "%s: larger than %u bytes", name,
			BXC_CFG_MAX_FILE);
	const uint8_t *p = text.p;
	const uint8_t *end = text.n ? p + text.n : p;
	for (unsigned line = 1; p < end; line++) {
		const uint8_t *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl ? nl : end) - p);
		int r = 0;
		if (memchr(p, '\0', n) || !bxc_utf8_valid(p, n)) {
			r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "not UTF-8 text");
		} else {
			BXC_AUTOFREE char *copy = bxc_strndup((const char *)p, n);
			r = parse_line(copy, line, fn, ud, err);
		}
		if (r < 0)
			return bxc_err_wrap(err, r, "%s:%u", name, line);
		p = nl ? nl + 1 : end;
	}
	return 0;
}
