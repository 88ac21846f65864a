/* SPDX-License-Identifier: Apache-2.0 */
#include "common/cli/cli_internal.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

const bxc_cli_opt bxc_cli__builtin[2] = {
	{"help", 'h', BXC_CLI_FLAG, NULL, "Show this help", NULL, NULL, false},
	{"version", 0, BXC_CLI_FLAG, NULL, "Show the version", NULL, NULL, false},
};
static const bxc_cli_opt *const help_opt = &bxc_cli__builtin[0];
static const bxc_cli_opt *const version_opt = &bxc_cli__builtin[1];

char *bxc_cli__path_text(const bxc_cli__path *p)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(4096);
	for (size_t i = 0; i < p->n; i++)
		bxc_buf_addf(&b, "%s%s", i ? " " : "", p->v[i]->name);
	return bxc_buf_steal(&b);
}

void bxc_cli__push(bxc_cli__path *p, const bxc_cli_verb *v)
{
	bxc_check(p->n < BXC_CLI__DEPTH_MAX);
	p->v[p->n++] = v;
}

const char *bxc_cli__metavar(const bxc_cli_opt *o)
{
	if (o->type == BXC_CLI_FLAG)
		return NULL;
	if (o->metavar)
		return o->metavar;
	switch (o->type) {
	case BXC_CLI_U64:
		return "N";
	case BXC_CLI_BYTES:
		return "SIZE";
	case BXC_CLI_DURATION:
		return "TIME";
	case BXC_CLI_FLAG:
	case BXC_CLI_STRING:
	case BXC_CLI_LIST:
	default:
		return "VALUE";
	}
}

/* ---- look-ups ---- */

static const bxc_cli_opt *find_long(const bxc_cli__path *p, const char *name, size_t n)
{
	for (size_t i = p->n; i-- > 0;)
		for (size_t j = 0; j < p->v[i]->n_opts; j++) {
			const bxc_cli_opt *o = &p->v[i]->opts[j];
			if (strncmp(o->name, name, n) == 0 && !o->name[n])
				return o;
		}
	if (n == 4 && strncmp(name, "help", n) == 0)
		return help_opt;
	if (p->n == 1 && n == 7 && strncmp(name, "version", n) == 0)
		return version_opt;
	return NULL;
}

static const bxc_cli_opt *find_short(const bxc_cli__path *p, char c)
{
	for (size_t i = p->n; i-- > 0;)
		for (size_t j = 0; j < p->v[i]->n_opts; j++)
			if (p->v[i]->opts[j].short_name == c)
				return &p->v[i]->opts[j];
	return c == 'h' ? help_opt : NULL;
}

static const bxc_cli_verb *find_verb(const bxc_cli_verb *v, const char *name)
{
	for (size_t i = 0; i < v->n_verbs; i++)
		if (bxc_str_eq(v->verbs[i].name, name) || bxc_str_eq(v->verbs[i].alias, name))
			return &v->verbs[i];
	return NULL;
}

/* ---- errors: one line, with a suggestion, ending in where to read more ---- */

static int BXC_PRINTF(3, 4) usage_error(const bxc_cli *cli, bxc_err **err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	BXC_AUTOFREE char *text = bxc_str_vfmt(fmt, ap);
	va_end(ap);
	BXC_AUTOFREE char *path = bxc_cli__path_text(&cli->path);
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "%s; see '%s --help'", text, path);
}

static int unknown_long(const bxc_cli *cli, const char *name, size_t n, bxc_err **err)
{
	BXC_ARR(const char *) names = {0};
	for (size_t i = 0; i < cli->path.n; i++)
		for (size_t j = 0; j < cli->path.v[i]->n_opts; j++)
			if (!cli->path.v[i]->opts[j].hidden)
				*bxc_arr_push(&names) = cli->path.v[i]->opts[j].name;
	*bxc_arr_push(&names) = "help";
	BXC_AUTOFREE char *word = bxc_strndup(name, n);
	const char *near = bxc_str_nearest(word, names.v, names.n);
	bxc_arr_done(&names);
	if (near)
		return usage_error(
			cli, err, "unknown flag '--%s' (did you mean '--%s'?)", word, near);
	return usage_error(cli, err, "unknown flag '--%s'", word);
}

static int unknown_verb(const bxc_cli *cli, const char *word, bxc_err **err)
{
	const bxc_cli_verb *v = bxc_cli__last(&cli->path);
	BXC_AUTOFREE const char **names = bxc_calloc(v->n_verbs, sizeof(*names));
	size_t n = 0;
	for (size_t i = 0; i < v->n_verbs; i++)
		if (!v->verbs[i].hidden)
			names[n++] = v->verbs[i].name;
	const char *near = bxc_str_nearest(word, names, n);
	if (near)
		return usage_error(
			cli, err, "unknown command '%s' (did you mean '%s'?)", word, near);
	return usage_error(cli, err, "unknown command '%s'", word);
}

static int bad_value(
	const bxc_cli *cli, const bxc_cli_opt *o, const char *value, const char *why, bxc_err **err)
{
	return usage_error(cli, err, "invalid value '%s' for '--%s': %s", value, o->name, why);
}

/* ---- values ---- */

static int check_choice(const bxc_cli *cli, const bxc_cli_opt *o, const char *value, bxc_err **err)
{
	BXC_AUTOSTRV char **all = NULL;
	for (size_t i = 0; o->choices[i]; i++) {
		if (strcmp(o->choices[i], value) == 0)
			return 0;
		bxc_strv_push(&all, o->choices[i]);
	}
	BXC_AUTOFREE char *list = bxc_strv_join(all, ", ");
	BXC_AUTOFREE char *why = bxc_str_fmt("must be one of: %s", list);
	return bad_value(cli, o, value, why, err);
}

static int check_value(const bxc_cli *cli, const bxc_cli_opt *o, const char *value, bxc_err **err)
{
	BXC_AUTOERR bxc_err *why = NULL;
	uint64_t u = 0;
	int64_t ns = 0;
	bool flag = false;
	int r = 0;
	switch (o->type) {
	case BXC_CLI_STRING:
	case BXC_CLI_LIST:
		return o->choices ? check_choice(cli, o, value, err) : 0;
	case BXC_CLI_FLAG:
		r = bxc_str_to_bool(value, &flag, &why);
		break;
	case BXC_CLI_U64:
		r = bxc_str_to_u64(value, 0, UINT64_MAX, &u, &why);
		break;
	case BXC_CLI_BYTES:
		r = bxc_str_to_bytes(value, UINT64_MAX, &u, &why);
		break;
	case BXC_CLI_DURATION:
		r = bxc_str_to_duration_ns(value, &ns, &why);
		break;
	default:
		bxc_check(false && "type of an option");
	}
	return r < 0 ? bad_value(cli, o, value, bxc_err_text(why), err) : 0;
}

static void add_to_list(bxc_cli *cli, const bxc_cli_opt *o, const char *value)
{
	BXC_ARR_FOREACH (l, &cli->lists) {
		if (l->opt == o) {
			bxc_strv_push(&l->values, value);
			return;
		}
	}
	struct bxc_cli__list *l = bxc_arr_push(&cli->lists);
	l->opt = o;
	bxc_strv_push(&l->values, value);
}

static int accept(bxc_cli *cli, const bxc_cli_opt *o, const char *value, bxc_err **err)
{
	int r = check_value(cli, o, value, err);
	if (r < 0)
		return r;
	bool on = false;
	if (o->type == BXC_CLI_FLAG)
		bxc_ignore(bxc_str_to_bool(value, &on, NULL));
	if (o == help_opt || o == version_opt) {
		*(o == help_opt ? &cli->help : &cli->version) = on;
		return 0;
	}
	if (o->type == BXC_CLI_FLAG)
		value = on ? "true" : "false";
	if (o->type == BXC_CLI_LIST)
		add_to_list(cli, o, value);
	*bxc_arr_push(&cli->given) = (struct bxc_cli__given){o, bxc_strdup(value)};
	return 0;
}

/* ---- the words ---- */

struct words {
	char *const *v;
	int n;
	int i; /* the next */
};

/* The value of an option that was not glued to it. */
static int next_value(bxc_cli *cli, const bxc_cli_opt *o, struct words *w, bxc_err **err)
{
	if (o->type == BXC_CLI_FLAG)
		return accept(cli, o, "true", err);
	if (o->implied)
		return accept(cli, o, o->implied, err);
	if (w->i >= w->n)
		return usage_error(
			cli, err, "flag '--%s' needs a value (%s)", o->name, bxc_cli__metavar(o));
	return accept(cli, o, w->v[w->i++], err);
}

static int parse_long(bxc_cli *cli, const char *word, struct words *w, bxc_err **err)
{
	size_t n = strcspn(word, "=");
	const bxc_cli_opt *o = find_long(&cli->path, word, n);
	if (!o)
		return unknown_long(cli, word, n, err);
	return word[n] ? accept(cli, o, word + n + 1, err) : next_value(cli, o, w, err);
}

static int parse_short(bxc_cli *cli, const char *word, struct words *w, bxc_err **err)
{
	for (const char *p = word; *p; p++) {
		const bxc_cli_opt *o = find_short(&cli->path, *p);
		if (!o)
			return usage_error(cli, err, "unknown flag '-%c' in '-%s'", *p, word);
		if (p[1] == '=')
			return accept(cli, o, p + 2, err);
		if (o->type != BXC_CLI_FLAG && p[1])
			return accept(cli, o, p + 1, err);
		int r = next_value(cli, o, w, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* "bxc help build" is "bxc build --help". */
static bool is_help_verb(const bxc_cli *cli, const char *word)
{
	return cli->path.n == 1 && strcmp(word, "help") == 0 && !find_verb(cli->path.v[0], "help");
}

static int parse_word(bxc_cli *cli, const char *word, bxc_err **err)
{
	const bxc_cli_verb *v = bxc_cli__last(&cli->path);
	if (!v->n_verbs) {
		*bxc_arr_push(&cli->args) = word;
		return 0;
	}
	const bxc_cli_verb *sub = find_verb(v, word);
	if (sub) {
		bxc_cli__push(&cli->path, sub);
		return 0;
	}
	if (!is_help_verb(cli, word))
		return unknown_verb(cli, word, err);
	cli->help = true;
	return 0;
}

static int parse_words(bxc_cli *cli, struct words *w, bxc_err **err)
{
	bool only_args = false;
	while (w->i < w->n) {
		const char *word = w->v[w->i++];
		int r;
		if (only_args || word[0] != '-' || !word[1]) {
			r = parse_word(cli, word, err);
			if (cli->args.n && bxc_cli__last(&cli->path)->raw_args)
				only_args = true;
		} else if (strcmp(word, "--") == 0) {
			only_args = true;
			r = 0;
		} else if (word[1] == '-') {
			r = parse_long(cli, word + 2, w, err);
		} else {
			r = parse_short(cli, word + 1, w, err);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_args(bxc_cli *cli, bxc_err **err)
{
	const bxc_cli_verb *v = bxc_cli__last(&cli->path);
	if (v->n_verbs && !v->run)
		cli->help = cli->help || !cli->version;
	if (cli->help || cli->version)
		return 0;
	size_t n = cli->args.n;
	if (n < v->min_args)
		return usage_error(cli, err,
			v->min_args == v->max_args && v->min_args == 1 ? "needs an argument: %s"
								       : "needs more arguments: %s",
			v->args ? v->args : "");
	if (v->max_args != BXC_CLI_ANY && n > v->max_args)
		return usage_error(cli, err, "unexpected argument '%s'", cli->args.v[v->max_args]);
	return 0;
}

int bxc_cli_parse(
	const bxc_cli_verb *root, int argc, char *const *argv, bxc_cli **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_cli_freep) bxc_cli *cli = bxc_calloc(1, sizeof(*cli));
	bxc_cli__push(&cli->path, root);
	struct words w = {argv, argc, 1};
	int r = parse_words(cli, &w, err);
	if (r >= 0)
		r = check_args(cli, err);
	if (r < 0)
		return r;
	cli->path_text = bxc_cli__path_text(&cli->path);
	*ret = BXC_TAKE(cli);
	return 0;
}

void bxc_cli_free(bxc_cli *cli)
{
	if (!cli)
		return;
	BXC_ARR_FOREACH (g, &cli->given)
		free(g->value);
	BXC_ARR_FOREACH (l, &cli->lists)
		bxc_strv_free(l->values);
	bxc_arr_done(&cli->given);
	bxc_arr_done(&cli->lists);
	bxc_arr_done(&cli->args);
	free(cli->path_text);
	free(cli);
}

/* ---- getters ---- */

bool bxc_cli_wants_help(const bxc_cli *cli)
{
	return cli->help;
}

bool bxc_cli_wants_version(const bxc_cli *cli)
{
	return cli->version;
}

const bxc_cli_verb *bxc_cli_get_verb(const bxc_cli *cli)
{
	return bxc_cli__last(&cli->path);
}

const char *bxc_cli_path(const bxc_cli *cli)
{
	return cli->path_text;
}

size_t bxc_cli_n_args(const bxc_cli *cli)
{
	return cli->args.n;
}

const char *bxc_cli_arg(const bxc_cli *cli, size_t i)
{
	return i < cli->args.n ? cli->args.v[i] : NULL;
}

static const bxc_cli_opt *known(const bxc_cli *cli, const char *name)
{
	const bxc_cli_opt *o = find_long(&cli->path, name, strlen(name));
	bxc_check(o && "an option of this verb");
	return o;
}

/* The last value given, or NULL. */
static const char *last_value(const bxc_cli *cli, const bxc_cli_opt *o)
{
	for (size_t i = cli->given.n; i-- > 0;)
		if (cli->given.v[i].opt == o)
			return cli->given.v[i].value;
	return NULL;
}

bool bxc_cli_has(const bxc_cli *cli, const char *name)
{
	return last_value(cli, known(cli, name)) != NULL;
}

bool bxc_cli_flag(const bxc_cli *cli, const char *name)
{
	const bxc_cli_opt *o = known(cli, name);
	bxc_check(o->type == BXC_CLI_FLAG);
	return bxc_str_eq(last_value(cli, o), "true");
}

const char *bxc_cli_str(const bxc_cli *cli, const char *name)
{
	const bxc_cli_opt *o = known(cli, name);
	bxc_check(o->type == BXC_CLI_STRING);
	return last_value(cli, o);
}

char *const *bxc_cli_list(const bxc_cli *cli, const char *name)
{
	const bxc_cli_opt *o = known(cli, name);
	bxc_check(o->type == BXC_CLI_LIST);
	BXC_ARR_FOREACH (l, &cli->lists)
		if (l->opt == o)
			return l->values;
	return NULL;
}

uint64_t bxc_cli_u64(const bxc_cli *cli, const char *name, uint64_t fallback)
{
	const bxc_cli_opt *o = known(cli, name);
	bxc_check(o->type == BXC_CLI_U64 || o->type == BXC_CLI_BYTES);
	const char *text = last_value(cli, o);
	uint64_t u = fallback;
	if (text && o->type == BXC_CLI_U64)
		bxc_check(bxc_str_to_u64(text, 0, UINT64_MAX, &u, NULL) == 0);
	else if (text)
		bxc_check(bxc_str_to_bytes(text, UINT64_MAX, &u, NULL) == 0);
	return u;
}

int64_t bxc_cli_duration_ns(const bxc_cli *cli, const char *name, int64_t fallback)
{
	const bxc_cli_opt *o = known(cli, name);
	bxc_check(o->type == BXC_CLI_DURATION);
	const char *text = last_value(cli, o);
	int64_t ns = fallback;
	if (text)
		bxc_check(bxc_str_to_duration_ns(text, &ns, NULL) == 0);
	return ns;
}

bool bxc_cli_given_at(const bxc_cli *cli, size_t i, const char **ret_name, const char **ret_value)
{
	if (i >= cli->given.n)
		return false;
	*ret_name = cli->given.v[i].opt->name;
	*ret_value = cli->given.v[i].value;
	return true;
}
