/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion scripts. All three work alike: a `case` walks the words typed so far to the verb they
 * reach; another gives what that verb offers, or the choices of the option before the cursor.
 */
#include "common/cli/cli_internal.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

typedef void (*visit_fn)(const bxc_cli__path *p, FILE *f);

static void visit(bxc_cli__path *p, visit_fn fn, FILE *f)
{
	const bxc_cli_verb *v = bxc_cli__last(p);
	fn(p, f);
	for (size_t i = 0; i < v->n_verbs; i++) {
		if (v->verbs[i].hidden)
			continue;
		bxc_cli__push(p, &v->verbs[i]);
		visit(p, fn, f);
		p->n--;
	}
}

/* Every shown option that holds at this place. */
#define FOREACH_OPT(o, p)                                                                          \
	for (size_t o##_i = 0; o##_i < (p)->n; o##_i++)                                            \
		for (const bxc_cli_opt *o = (p)->v[o##_i]->opts;                                   \
			o && o < (p)->v[o##_i]->opts + (p)->v[o##_i]->n_opts; o++)                 \
			if (!o->hidden)

/* Within '...' of sh, zsh and fish (which takes \' there, as well as the closing and reopening). */
static void put_quoted(const char *s, const char *escaped, FILE *f)
{
	for (; s && *s; s++) {
		if (*s == '\'')
			fputs("'\\''", f);
		else if (*s == '\n')
			fputc(' ', f);
		else if (strchr(escaped, *s))
			fprintf(f, "\\%c", *s);
		else
			fputc(*s, f);
	}
}

/* A case of "'bxc build'" or "'bxc b'" that sets the verb reached, for each verb below the root. */
static void put_case(const bxc_cli__path *p, const char *before, const char *between,
	const char *set, const char *end, FILE *f)
{
	if (p->n == 1)
		return;
	bxc_cli__path parent = *p;
	parent.n--;
	BXC_AUTOFREE char *path = bxc_cli__path_text(p);
	BXC_AUTOFREE char *above = bxc_cli__path_text(&parent);
	fprintf(f, "%s'%s'", before, path);
	if (bxc_cli__last(p)->alias)
		fprintf(f, "%s'%s %s'", between, above, bxc_cli__last(p)->alias);
	fprintf(f, "%s'%s'%s", set, path, end);
}

static void put_step(const bxc_cli__path *p, FILE *f)
{
	put_case(p, "\t\t", "|", ") cmd=", " ;;\n", f);
}

static void put_option_patterns(const char *path, const bxc_cli_opt *o, FILE *f)
{
	fprintf(f, "\t'%s --%s'", path, o->name);
	if (o->short_name)
		fprintf(f, "|'%s -%c'", path, o->short_name);
	fputc(')', f);
}

/* ---- bash ---- */

static void put_bash_value(const bxc_cli__path *p, FILE *f)
{
	BXC_AUTOFREE char *path = bxc_cli__path_text(p);
	FOREACH_OPT(o, p)
	{
		if (o->type == BXC_CLI_FLAG || o->implied)
			continue;
		put_option_patterns(path, o, f);
		if (o->choices) {
			fputs(" COMPREPLY=($(compgen -W '", f);
			for (size_t i = 0; o->choices[i]; i++)
				fprintf(f, "%s%s", i ? " " : "", o->choices[i]);
			fputs("' -- \"$cur\"));", f);
		}
		/* Without words of ours bash goes on with file names. */
		fputs(" return ;;\n", f);
	}
}

static void put_bash_words(const bxc_cli__path *p, FILE *f)
{
	const bxc_cli_verb *v = bxc_cli__last(p);
	BXC_AUTOFREE char *path = bxc_cli__path_text(p);
	fprintf(f, "\t'%s') opts='--help", path);
	FOREACH_OPT(o, p)
	fprintf(f, " --%s", o->name);
	fputs("' verbs='", f);
	for (size_t i = 0; i < v->n_verbs; i++)
		if (!v->verbs[i].hidden)
			fprintf(f, " %s", v->verbs[i].name);
	fputs("' ;;\n", f);
}

static void print_bash(const bxc_cli_verb *root, FILE *f)
{
	bxc_cli__path p = {{root}, 1};
	fprintf(f,
		"# bash completion for %1$s:  source <(%1$s completion bash)\n"
		"_%1$s() {\n"
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
		"\tlocal cmd='%1$s' opts= verbs= i\n"
		"\tCOMPREPLY=()\n"
		"\t# bash makes words of its own of '--name=value'\n"
		"\tif [[ $cur == = ]]; then\n"
		"\t\tcur=\n"
		"\telif [[ $prev == = ]]; then\n"
		"\t\tprev=${COMP_WORDS[COMP_CWORD-2]}\n"
		"\tfi\n"
		"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		"\t\tcase \"$cmd ${COMP_WORDS[i]}\" in\n",
		root->name);
	visit(&p, put_step, f);
	fputs("\t\tesac\n\tdone\n\tcase \"$cmd $prev\" in\n", f);
	visit(&p, put_bash_value, f);
	fputs("\tesac\n\tcase $cmd in\n", f);
	visit(&p, put_bash_words, f);
	fprintf(f,
		"\tesac\n"
		"\tif [[ $cur == -* ]]; then\n"
		"\t\tCOMPREPLY=($(compgen -W \"$opts\" -- \"$cur\"))\n"
		"\telif [[ -n $verbs ]]; then\n"
		"\t\tCOMPREPLY=($(compgen -W \"$verbs\" -- \"$cur\"))\n"
		"\tfi\n"
		"}\n"
		"complete -o bashdefault -o default -F _%1$s %1$s\n",
		root->name);
}

/* ---- zsh ---- */

static void put_zsh_value(const bxc_cli__path *p, FILE *f)
{
	BXC_AUTOFREE char *path = bxc_cli__path_text(p);
	FOREACH_OPT(o, p)
	{
		if (o->type == BXC_CLI_FLAG || o->implied)
			continue;
		put_option_patterns(path, o, f);
		fputs(o->choices ? " compadd --" : " _files", f);
		for (size_t i = 0; o->choices && o->choices[i]; i++)
			fprintf(f, " '%s'", o->choices[i]);
		fputs("; return ;;\n", f);
	}
}

static void put_zsh_words(const bxc_cli__path *p, FILE *f)
{
	const bxc_cli_verb *v = bxc_cli__last(p);
	BXC_AUTOFREE char *path = bxc_cli__path_text(p);
	fprintf(f, "\t'%s')\n\t\topts=('--help:Show this help'", path);
	FOREACH_OPT(o, p)
	{
		fprintf(f, " '--%s:", o->name);
		put_quoted(o->help, ":\\", f);
		fputc('\'', f);
	}
	fputs(")\n\t\tverbs=(", f);
	for (size_t i = 0; i < v->n_verbs; i++) {
		if (v->verbs[i].hidden)
			continue;
		fprintf(f, " '%s:", v->verbs[i].name);
		put_quoted(v->verbs[i].summary, ":\\", f);
		fputc('\'', f);
	}
	fputs(")\n\t\t;;\n", f);
}

static void print_zsh(const bxc_cli_verb *root, FILE *f)
{
	bxc_cli__path p = {{root}, 1};
	fprintf(f,
		"#compdef %1$s\n"
		"_%1$s() {\n"
		"\tlocal cmd='%1$s' i\n"
		"\tlocal -a opts verbs\n"
		"\tfor ((i = 2; i < CURRENT; i++)); do\n"
		"\t\tcase \"$cmd ${words[i]}\" in\n",
		root->name);
	visit(&p, put_step, f);
	fputs("\t\tesac\n\tdone\n\tcase \"$cmd ${words[CURRENT-1]}\" in\n", f);
	visit(&p, put_zsh_value, f);
	fputs("\tesac\n\tcase $cmd in\n", f);
	visit(&p, put_zsh_words, f);
	fprintf(f,
		"\tesac\n"
		"\tif [[ $PREFIX == -* ]]; then\n"
		"\t\t_describe -o option opts\n"
		"\telif (( $#verbs )); then\n"
		"\t\t_describe command verbs\n"
		"\telse\n"
		"\t\t_files\n"
		"\tfi\n"
		"}\n"
		"if [[ $funcstack[1] == _%1$s ]]; then\n"
		"\t_%1$s \"$@\"\n"
		"else\n"
		"\tcompdef _%1$s %1$s\n"
		"fi\n",
		root->name);
}

/* ---- fish ---- */

static void put_fish_step(const bxc_cli__path *p, FILE *f)
{
	put_case(p, "\t\t\tcase ", " ", "\n\t\t\t\tset cmd ", "\n", f);
}

static void put_fish_words(const bxc_cli__path *p, FILE *f)
{
	const bxc_cli_verb *v = bxc_cli__last(p);
	const char *program = p->v[0]->name;
	BXC_AUTOFREE char *path = bxc_cli__path_text(p);
	BXC_AUTOFREE char *start = bxc_str_fmt(
		"complete -c %s -n 'test \"$(__%s_cmd)\" = \"%s\"'", program, program, path);
	for (size_t i = 0; i < v->n_verbs; i++) {
		if (v->verbs[i].hidden)
			continue;
		fprintf(f, "%s -f -a %s -d '", start, v->verbs[i].name);
		put_quoted(v->verbs[i].summary, "\\", f);
		fputs("'\n", f);
	}
	fprintf(f, "%s -l help -s h -d 'Show this help'\n", start);
	FOREACH_OPT(o, p)
	{
		fprintf(f, "%s -l %s", start, o->name);
		if (o->short_name)
			fprintf(f, " -s %c", o->short_name);
		if (o->choices) {
			fputs(" -x -a '", f);
			for (size_t i = 0; o->choices[i]; i++)
				fprintf(f, "%s%s", i ? " " : "", o->choices[i]);
			fputc('\'', f);
		} else if (o->type != BXC_CLI_FLAG && !o->implied) {
			fputs(" -r", f);
		}
		fputs(" -d '", f);
		put_quoted(o->help, "\\", f);
		fputs("'\n", f);
	}
}

static void print_fish(const bxc_cli_verb *root, FILE *f)
{
	bxc_cli__path p = {{root}, 1};
	fprintf(f,
		"# fish completion for %1$s:  %1$s completion fish | source\n"
		"function __%1$s_cmd\n"
		"\tset -l cmd '%1$s'\n"
		"\tfor word in (commandline -opc)[2..-1]\n"
		"\t\tswitch \"$cmd $word\"\n",
		root->name);
	visit(&p, put_fish_step, f);
	fputs("\t\tend\n\tend\n\techo $cmd\nend\n", f);
	visit(&p, put_fish_words, f);
}

int bxc_cli_print_completion(const bxc_cli_verb *root, const char *shell, FILE *f, bxc_err **err)
{
	static const char *const names[] = {"bash", "zsh", "fish"};
	static void (*const print[])(const bxc_cli_verb *, FILE *) = {
		print_bash, print_zsh, print_fish};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(names); i++) {
		if (bxc_str_eq(shell, names[i])) {
			print[i](root, f);
			return 0;
		}
	}
	return bxc_err_set(
		err, BXC_INVALID_ARGUMENT, "unknown shell '%s' (known: bash, zsh, fish)", shell);
}
