/* SPDX-License-Identifier: Apache-2.0 */
/* A manual page of the whole table, in man(7)'s macros. */
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/cli/cli_internal.h"

/* Text as it is: no character starts a request or an escape, and a dash is the one that is typed.
 */
static void put_text(FILE *f, const char *s)
{
	bool at_start = true;
	for (; *s; s++) {
		if (at_start && (*s == '.' || *s == '\''))
			fputs("\\&", f);
		if (*s == '\\')
			fputs("\\e", f);
		else if (*s == '-')
			fputs("\\-", f);
		else
			fputc(*s, f);
		at_start = *s == '\n';
	}
}

static void put_line(FILE *f, const char *macro, const char *s)
{
	fputs(macro, f);
	put_text(f, s);
	fputc('\n', f);
}

static void put_opt(FILE *f, const bxc_cli_opt *o)
{
	const char *metavar = bxc_cli__metavar(o);
	fputs(".TP\n\\fB", f);
	if (o->short_name) {
		fprintf(f, "\\-%c\\fR, \\fB", o->short_name);
	}
	fputs("\\-\\-", f);
	put_text(f, o->name);
	fputs("\\fR", f);
	if (metavar) {
		fputs(o->implied ? "[=\\fI" : " \\fI", f);
		put_text(f, metavar);
		fputs(o->implied ? "\\fR]" : "\\fR", f);
	}
	fputc('\n', f);
	put_text(f, o->help ? o->help : "");
	for (size_t i = 0; o->choices && o->choices[i]; i++) {
		fputs(i ? ", " : " (", f);
		put_text(f, o->choices[i]);
	}
	fputs(o->choices ? ")\n" : "\n", f);
}

static void put_opts(FILE *f, const bxc_cli_verb *v)
{
	for (size_t i = 0; i < v->n_opts; i++)
		if (!v->opts[i].hidden)
			put_opt(f, &v->opts[i]);
}

static void put_verb(FILE *f, const char *above, const bxc_cli_verb *v)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("%s %s", above, v->name);
	if (v->hidden)
		return;
	if (!v->n_verbs) {
		put_line(f, ".SS ", path);
		fputs(".B ", f);
		put_text(f, path);
		fprintf(f, "\n[OPTIONS]%s", v->args ? " " : "");
		put_text(f, v->args ? v->args : "");
		fputs("\n.PP\n", f);
		put_text(f, v->summary ? v->summary : "");
		fputs(".\n", f);
		put_opts(f, v);
		if (v->details) {
			fputs(".PP\n", f);
			put_text(f, v->details);
			fputc('\n', f);
		}
	}
	for (size_t i = 0; i < v->n_verbs; i++)
		put_verb(f, path, &v->verbs[i]);
}

void bxc_cli_print_man(const bxc_cli_verb *root, FILE *f)
{
	BXC_AUTOFREE char *title = bxc_strdup(root->name);
	for (char *p = title; *p; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 'a' + 'A');
	fprintf(f, ".TH %s 1 \"\" \"%s %s\" \"User commands\"\n", title, root->name, BXC_VERSION);
	put_line(f, ".SH NAME\n", root->name);
	fputs("\\- ", f);
	put_text(f, root->summary ? root->summary : "");
	fputs("\n.SH SYNOPSIS\n.B ", f);
	put_text(f, root->name);
	fputs("\n[OPTIONS] COMMAND ...\n.SH OPTIONS\n", f);
	put_opts(f, root);
	fputs(".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nwhat a command does, and its options\n"
	      ".TP\n\\fB\\-\\-version\\fR\nthe version\n.SH COMMANDS\n",
		f);
	for (size_t i = 0; i < root->n_verbs; i++)
		put_verb(f, root->name, &root->verbs[i]);
}
