/* SPDX-License-Identifier: Apache-2.0 */
#include "common/cli/cli_internal.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

#define WIDTH	 80
#define LEFT_MAX 30 /* of the column of names; a longer one gets its text on the next line */

/* Words of `text` between the columns `indent` and WIDTH; the cursor stands at `column`. */
static void wrap(FILE *f, const char *text, size_t column, size_t indent)
{
	bool first = true;
	for (const char *p = text; *p;) {
		p += strspn(p, " \n");
		size_t n = strcspn(p, " \n");
		if (!n)
			break;
		if (!first && column + 1 + n > WIDTH) {
			fprintf(f, "\n%*s", (int)indent, "");
			column = indent;
		} else if (!first) {
			fputc(' ', f);
			column++;
		}
		fprintf(f, "%.*s", (int)n, p);
		column += n;
		first = false;
		p += n;
	}
	fputc('\n', f);
}

/* Paragraphs are parted by empty lines; indented lines stay as they are. */
static void print_paragraphs(FILE *f, const char *text)
{
	while (*text) {
		const char *end = strstr(text, "\n\n");
		size_t n = end ? (size_t)(end - text) : strlen(text);
		BXC_AUTOFREE char *paragraph = bxc_strndup(text, n);
		if (*paragraph == ' ')
			fprintf(f, "%s\n", paragraph);
		else
			wrap(f, paragraph, 0, 0);
		text += n + (end ? 2 : 0);
		if (*text)
			fputc('\n', f);
	}
}

static char *left_text(const bxc_cli_opt *o)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(4096);
	if (o->short_name)
		bxc_buf_addf(&b, "  -%c, --%s", o->short_name, o->name);
	else
		bxc_buf_addf(&b, "      --%s", o->name);
	const char *metavar = bxc_cli__metavar(o);
	if (metavar)
		bxc_buf_addf(&b, o->implied ? "[=%s]" : " %s", metavar);
	return bxc_buf_steal(&b);
}

static void print_entry(FILE *f, const char *left, const char *text, size_t column)
{
	size_t n = strlen(left);
	fputs(left, f);
	if (n + 2 > column) {
		fputc('\n', f);
		n = 0;
	}
	fprintf(f, "%*s", (int)(column - n), "");
	wrap(f, text, column, column);
}

static void print_opt(FILE *f, const bxc_cli_opt *o, size_t column)
{
	BXC_AUTOFREE char *left = left_text(o);
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(65536);
	bxc_buf_adds(&text, o->help ? o->help : "");
	for (size_t i = 0; o->choices && o->choices[i]; i++)
		bxc_buf_addf(&text, "%s%s", i ? ", " : " (", o->choices[i]);
	if (o->choices)
		bxc_buf_adds(&text, ")");
	print_entry(f, left, bxc_buf_text(&text), column);
}

static size_t wider(size_t column, const char *left)
{
	size_t n = strlen(left) + 2;
	return n > column && n <= LEFT_MAX ? n : column;
}

static void print_opts(
	FILE *f, const char *title, const bxc_cli_verb *v, const bxc_cli_opt *extra, size_t n_extra)
{
	size_t column = 16, shown = n_extra;
	for (size_t i = 0; i < v->n_opts + n_extra; i++) {
		const bxc_cli_opt *o = i < v->n_opts ? &v->opts[i] : &extra[i - v->n_opts];
		BXC_AUTOFREE char *left = left_text(o);
		if (!o->hidden)
			column = wider(column, left);
		shown += i < v->n_opts && !o->hidden;
	}
	if (!shown)
		return;
	fprintf(f, "\n%s:\n", title);
	for (size_t i = 0; i < v->n_opts + n_extra; i++) {
		const bxc_cli_opt *o = i < v->n_opts ? &v->opts[i] : &extra[i - v->n_opts];
		if (!o->hidden)
			print_opt(f, o, column);
	}
}

static void print_verbs(FILE *f, const bxc_cli_verb *v)
{
	size_t column = 12;
	for (size_t i = 0; i < v->n_verbs; i++) {
		BXC_AUTOFREE char *left = bxc_str_fmt("  %s", v->verbs[i].name);
		if (!v->verbs[i].hidden)
			column = wider(column, left);
	}
	fputs("\nCommands:\n", f);
	for (size_t i = 0; i < v->n_verbs; i++) {
		BXC_AUTOFREE char *left = bxc_str_fmt("  %s", v->verbs[i].name);
		if (!v->verbs[i].hidden)
			print_entry(
				f, left, v->verbs[i].summary ? v->verbs[i].summary : "", column);
	}
}

void bxc_cli_print_help(const bxc_cli *cli, FILE *f)
{
	const bxc_cli__path *p = &cli->path;
	const bxc_cli_verb *v = bxc_cli__last(p);
	BXC_AUTOFREE char *usage = bxc_str_fmt("Usage: %s [OPTIONS]%s%s", cli->path_text,
		v->n_verbs ? " COMMAND"
		: v->args  ? " "
			   : "",
		v->n_verbs || !v->args ? "" : v->args);
	wrap(f, usage, 0, 7);
	if (v->alias)
		fprintf(f, "Also: %s\n", v->alias);
	if (v->summary) {
		fputc('\n', f);
		wrap(f, v->summary, 0, 0);
	}
	if (v->n_verbs)
		print_verbs(f, v);
	print_opts(f, "Options", v, bxc_cli__builtin, p->n == 1 ? 2 : 1);
	for (size_t i = p->n - 1; i-- > 0;) {
		BXC_AUTOFREE char *title = i == 0 ? bxc_strdup("Global options")
						  : bxc_str_fmt("Options of '%s'", p->v[i]->name);
		print_opts(f, title, p->v[i], NULL, 0);
	}
	if (v->details) {
		fputc('\n', f);
		print_paragraphs(f, v->details);
	}
	if (v->n_verbs)
		fprintf(f, "\nRun '%s COMMAND --help' for more about a command.\n", cli->path_text);
}

void bxc_cli_print_version(const bxc_cli *cli, FILE *f)
{
	fprintf(f, "%s %s\n", cli->path.v[0]->name, BXC_VERSION);
}
