/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Golden tests: each case of the texts in testdata/golden names the row of the language it stands
 * for, gives a Dockerfile and what reading, lowering and checking it must show.
 * testdata/golden/rows lists all rows. With BXC_GOLDEN=update in the environment the files are
 * rewritten with what came out: for reading the difference.
 */
#include <dirent.h>

#include "coordinator/dockerfile/df_test_world.h"

#define GOLDEN BXC_SOURCE_DIR "/coordinator/dockerfile/testdata/golden"

typedef struct golden {
	const char *path;
	char *row; /* of the case that is gone through */
	char *title;
	char *file;
	char **options;
	bool update;
	bxc_buf out; /* the file as it would be */
	bxc_map *rows_seen;
	size_t n_wrong;
} golden;

/* ---- what is shown ---- */

static void put(bxc_buf *b, const char *fmt, ...) BXC_PRINTF(2, 3);
static void put(bxc_buf *b, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	BXC_AUTOFREE char *s = bxc_str_vfmt(fmt, ap);
	va_end(ap);
	bxc_buf_adds(b, s);
}

/* As Go's %q, so that blanks and control characters show. */
static void put_quoted(bxc_buf *b, const char *prefix, const char *s)
{
	BXC_AUTOFREE char *q = df_go_quote(s);
	put(b, "%s%s", prefix, q);
}

static void put_strv(bxc_buf *b, const char *name, char *const *v)
{
	if (!v)
		return;
	BXC_AUTOFREE char *list = df_go_quote_list(v);
	put(b, "%s %s\n", name, list);
}

static void show_instr(bxc_buf *b, const df_instr *i, const char *indent)
{
	put(b, "%s%s", indent, df_kind_name(i->kind));
	for (char **f = i->flags; f && *f; f++)
		put_quoted(b, " flag ", *f);
	put(b, "%s", i->is_json ? " json" : "");
	for (char **a = i->args; a && *a && !i->pairs.n; a++)
		put_quoted(b, " ", *a);
	BXC_ARR_FOREACH (kv, &i->pairs) {
		put_quoted(b, " ", kv->key);
		if (kv->value)
			put_quoted(b, "=", kv->value);
	}
	put(b, "\n");
	BXC_ARR_FOREACH (d, &i->docs) {
		put_quoted(b, indent, d->name);
		put(b, " fd %u%s%s", d->fd, d->expand ? " expand" : "",
			d->strip_tabs ? " strip" : "");
		put_quoted(b, " ", d->data);
		put(b, "\n");
	}
	if (i->comments) {
		put_quoted(b, indent, i->comments);
		put(b, " above\n");
	}
	if (i->trigger) {
		put_quoted(b, indent, i->trigger);
		put(b, " stored\n");
	}
	if (i->sub)
		show_instr(b, i->sub, "    ");
}

static void show_ast(bxc_buf *b, const bxc_df_ast *a)
{
	if (a->escape != '\\')
		put(b, "escape %c\n", a->escape);
	if (a->syntax)
		put(b, "syntax %s\n", a->syntax);
	if (a->check)
		put(b, "check %s\n", a->check);
	BXC_ARR_FOREACH (p, &a->instrs) {
		put(b, "%u-%u ", (*p)->line, (*p)->line_end);
		show_instr(b, *p, "");
	}
}

static void show_mount(bxc_buf *b, const bxc_op_mount *m)
{
	static const char *const kinds[] = {[BXC_MOUNT_BIND] = "bind",
		[BXC_MOUNT_CACHE] = "cache",
		[BXC_MOUNT_TMPFS] = "tmpfs",
		[BXC_MOUNT_SECRET] = "secret",
		[BXC_MOUNT_SSH] = "ssh"};
	static const uint32_t modes[] = {
		[BXC_MOUNT_CACHE] = 0755, [BXC_MOUNT_SECRET] = 0400, [BXC_MOUNT_SSH] = 0600};
	if (bxc_str_eq(m->dest, "/"))
		return;
	put(b, "  %s at %s%s%s%s%s%s", kinds[m->kind], m->dest, m->readonly ? " ro" : "",
		m->selector ? " of " : "", m->selector ? m->selector : "",
		m->cache_id ? " id " : "", m->cache_id ? m->cache_id : "");
	if (m->kind == BXC_MOUNT_CACHE && m->sharing != BXC_CACHE_SHARED)
		put(b, " %s", bxc_def_sharing_name(m->sharing));
	if (m->kind == BXC_MOUNT_CACHE && m->input != BXC_DEF_NO_INPUT)
		put(b, " from %u", m->input);
	if (m->tmpfs_size)
		put(b, " size %llu", (unsigned long long)m->tmpfs_size);
	if (m->kind >= BXC_MOUNT_CACHE && m->kind != BXC_MOUNT_TMPFS && m->mode != modes[m->kind])
		put(b, " mode %o", m->mode);
	if (m->uid || m->gid)
		put(b, " owner %u:%u", m->uid, m->gid);
	if (m->env)
		put(b, " env %s", m->env);
	if ((m->kind == BXC_MOUNT_SECRET || m->kind == BXC_MOUNT_SSH) && !m->optional)
		put(b, " required");
	put(b, "\n");
}

static void show_exec(bxc_buf *b, const bxc_op_exec *x)
{
	put_strv(b, "  run", x->args);
	for (char **e = x->env; e && *e; e++)
		if (!bxc_str_has_prefix(*e, "PATH="))
			put(b, "  env %s\n", *e);
	if (!bxc_str_eq(x->cwd, "/"))
		put(b, "  in %s\n", x->cwd);
	if (!bxc_str_empty(x->user))
		put(b, "  as %s\n", x->user);
	if (x->net == BXC_NET_NONE)
		put(b, "  without network\n");
	if (x->net == BXC_NET_HOST)
		put(b, "  with the network of the host\n");
	if (x->insecure)
		put(b, "  insecure\n");
	put_strv(b, "  proxy", x->proxy_env);
	BXC_ARR_FOREACH (m, &x->mounts)
		show_mount(b, m);
}

static void show_owner(bxc_buf *b, const bxc_def_owner *o)
{
	if (!o->is_set)
		return;
	if (o->user_name)
		put(b, " owner %s", o->user_name);
	else
		put(b, " owner %u", o->uid);
	if (o->has_gid && o->group_name)
		put(b, ":%s", o->group_name);
	else if (o->has_gid)
		put(b, ":%u", o->gid);
}

static void show_action(bxc_buf *b, const bxc_file_action *a)
{
	if (a->kind == BXC_FILE_COPY)
		put(b, "  copy %s to %s", a->src, a->dest);
	else if (a->kind == BXC_FILE_MKDIR)
		put(b, "  mkdir %s", a->dest);
	else
		put(b, "  file %s", a->dest);
	if (a->mode >= 0)
		put(b, " mode %o", (unsigned)a->mode);
	if (a->mode_text)
		put(b, " mode %s", a->mode_text);
	show_owner(b, &a->owner);
	if (a->data) {
		BXC_AUTOFREE char *data = bxc_strndup((const char *)a->data, a->data_len);
		put_quoted(b, " ", data);
	}
	put(b, "%s\n", a->unpack ? " unpack" : "");
	put_strv(b, "    only", a->include);
	put_strv(b, "    but", a->exclude);
	put_strv(b, "    needs", a->required);
}

/* Images are told by the names of their steps, folders of the client by what is copied. */
static void show_source(bxc_buf *b, const bxc_op_source *s)
{
	if (bxc_str_has_prefix(s->identifier, "docker-image://") ||
		bxc_str_has_prefix(s->identifier, "local://"))
		return;
	put(b, "  source %s\n", s->identifier);
	put_strv(b, "    attrs", s->attrs);
}

static void show_steps(bxc_buf *b, const bxc_def *d)
{
	BXC_ARR_FOREACH (p, &d->vertices) {
		const bxc_def_vertex *v = *p;
		put(b, "%s\n", v->meta.name);
		if (v->kind == BXC_OP_EXEC)
			show_exec(b, &v->op.exec);
		if (v->kind == BXC_OP_SOURCE)
			show_source(b, &v->op.source);
		if (v->kind == BXC_OP_MERGE)
			put(b, "  merge of %zu layers\n", v->inputs.n);
		if (v->kind == BXC_OP_FILE)
			BXC_ARR_FOREACH (a, &v->op.file.actions)
				show_action(b, a);
	}
}

static void show_image(bxc_buf *b, const bxc_oci_config *c)
{
	BXC_AUTOFREE char *platform = bxc_platform_str(&c->platform);
	put(b, "platform %s\n", platform);
	put_strv(b, "env", c->env);
	put_strv(b, "entrypoint", c->entrypoint);
	put_strv(b, "cmd", c->cmd);
	put_strv(b, "shell", c->shell);
	put_strv(b, "ports", c->exposed_ports);
	put_strv(b, "volumes", c->volumes);
	put_strv(b, "labels", c->labels);
	put_strv(b, "onbuild", c->on_build);
	put_strv(b, "healthcheck", c->healthcheck.test);
	const char *const texts[][2] = {{"author", c->author}, {"user", c->user},
		{"workdir", c->working_dir}, {"stopsignal", c->stop_signal}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(texts); i++)
		if (texts[i][1])
			put(b, "%s %s\n", texts[i][0], texts[i][1]);
	BXC_ARR_FOREACH (h, &c->history)
		put(b, "%s %s\n", h->empty_layer ? "-" : "+", h->created_by);
}

static void show_warnings(bxc_buf *b, const bxc_df_result *r)
{
	BXC_ARR_FOREACH (w, &r->warnings)
		put(b, "%u-%u %s: %s\n", w->line, w->line_end, w->rule ? w->rule->name : "(remark)",
			w->text);
}

static void show_json(bxc_buf *b, bxc_json *take)
{
	BXC_AUTOJSON bxc_json *j = take;
	BXC_AUTOFREE char *text = bxc_json_print_pretty(j);
	put(b, "%s\n", text);
}

/* ---- the world of a case ---- */

static bool ignores(const char *path, void *ud)
{
	return bxc_str_eq(path, ud);
}

static void set_option(world *w, const char *option, char ***args, char ***labels)
{
	const char *eq = strchr(option, '=');
	assert_non_null(eq);
	if (bxc_str_has_prefix(option, "target=")) {
		w->o.target = eq + 1;
	} else if (bxc_str_has_prefix(option, "build-arg=")) {
		bxc_strv_push(args, eq + 1);
	} else if (bxc_str_has_prefix(option, "label=")) {
		bxc_strv_push(labels, eq + 1);
	} else if (bxc_str_has_prefix(option, "platform=")) {
		assert_int_equal(bxc_platform_parse(eq + 1, &w->o.platform, NULL), 0);
		w->o.platform_given = true;
	} else if (bxc_str_eq(option, "allow=network.host")) {
		w->o.allow_net_host = true;
	} else if (bxc_str_eq(option, "allow=security.insecure")) {
		w->o.allow_insecure = true;
	} else if (bxc_str_has_prefix(option, "ignored=")) {
		w->o.is_ignored = ignores;
		w->o.is_ignored_ud = (void *)(uintptr_t)(eq + 1);
	} else {
		fail_msg("no option '%s'", option);
	}
}

static void add_images(world *w)
{
	bxc_oci_config *shell = add_image(w, "docker.io/library/shell:latest");
	bxc_strv_push(&shell->env, "BASE=1");
	bxc_strv_push(&shell->shell, "/bin/bash");
	bxc_strv_push(&shell->shell, "-c");
	shell->working_dir = bxc_strdup("/base");
	shell->user = bxc_strdup("7");
	bxc_oci_config *triggers = add_image(w, "docker.io/library/triggers:latest");
	bxc_strv_push(&triggers->on_build, "COPY a /a");
	bxc_strv_push(&triggers->on_build, "RUN echo $V");
}

static void show(golden *g, const char *what, bxc_buf *b)
{
	AUTOWORLD world w;
	BXC_AUTOSTRV char **args = NULL;
	BXC_AUTOSTRV char **labels = NULL;
	BXC_CLEANUP(bxc_df_ast_freep) bxc_df_ast *a = NULL;
	bxc_slice text = bxc_slice_of(g->file, strlen(g->file));
	world_init(&w);
	add_images(&w);
	for (char **o = g->options; o && *o; o++)
		set_option(&w, *o, &args, &labels);
	w.o.build_args = args;
	w.o.labels = labels;
	w.o.want_outline = bxc_str_eq(what, "outline");
	int r = bxc_df_parse_part(text, "Dockerfile", &a, &w.err);
	if (r < 0)
		bxc_df_check_part(a, &w.o, &w.res);
	else if (!bxc_str_eq(what, "ast") && !bxc_str_eq(what, "targets"))
		r = bxc_df_lower(a, &w.o, w.def, &w.res, &w.err);
	if (r == 1)
		BXC_ARR_FOREACH (n, &w.res.needs)
			put(b, "needs %s\n", n->ref);
	if (bxc_str_eq(what, "warnings"))
		show_warnings(b, &w.res);
	if (r < 0)
		put(b, "%s\n", bxc_err_text(w.err));
	if (r != 0)
		return;
	if (bxc_str_eq(what, "ast"))
		show_ast(b, a);
	else if (bxc_str_eq(what, "steps"))
		show_steps(b, w.def);
	else if (bxc_str_eq(what, "image"))
		show_image(b, w.res.image);
	else if (bxc_str_eq(what, "outline"))
		show_json(b, BXC_TAKE(w.res.outline));
	else if (bxc_str_eq(what, "targets"))
		show_json(b, bxc_df_targets_document(a));
	else if (bxc_str_eq(what, "check"))
		show_json(b, bxc_df_check_document(&w.res, NULL));
	else if (bxc_str_eq(what, "describe"))
		show_json(b, bxc_df_describe_document());
	else if (bxc_str_eq(what, "error"))
		put(b, "none\n");
	else if (!bxc_str_eq(what, "warnings"))
		fail_msg("nothing is called '%s'", what);
}

/* Words: the lines of the "file", each expanded with the variables of the options. */
static void show_words(golden *g, bool split, bxc_buf *b)
{
	BXC_CLEANUP(df_env_freep) df_env *env = df_env_new();
	df_word_opts o = {.escape = '\\'};
	for (char **v = g->options; v && *v; v++) {
		const char *eq = strchr(*v, '=');
		BXC_AUTOFREE char *key = bxc_strndup(*v, (size_t)(eq - *v));
		if (bxc_str_eq(key, "escape"))
			o.escape = eq[1];
		else
			df_env_set(env, key, eq + 1);
	}
	BXC_AUTOSTRV char **lines = bxc_strv_split(g->file, '\n');
	for (char **l = lines; *l && (**l || l[1]); l++) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_AUTOFREE char *got = NULL;
		BXC_AUTOSTRV char **words = NULL;
		int r = split ? df_words(*l, env, &o, &words, &err)
			      : df_word(*l, env, &o, &got, &err);
		BXC_AUTOFREE char *list = split ? df_go_quote_list(words) : NULL;
		if (r < 0)
			put(b, "%s  !!  %s\n", *l, bxc_err_text(err));
		else
			put(b, "%s  =>  %s\n", *l, split ? list : got);
	}
}

/* ---- the files ---- */

/* \n \r \t \\ and \xNN; "\c" at the end takes the line end away. */
static char *unescaped(const char *s)
{
	bxc_buf b = BXC_BUF_INIT(1u << 20);
	for (; *s; s++) {
		if (*s != '\\') {
			bxc_buf_addc(&b, *s);
			continue;
		}
		s++;
		if (*s == 'x') {
			bxc_buf_addc(
				&b, (char)(bxc_str_hex_value(s[1]) << 4 | bxc_str_hex_value(s[2])));
			s += 2;
		} else if (*s == 'c') {
			break;
		} else {
			bxc_buf_addc(&b, *s == 'r'   ? '\r'
					 : *s == 't' ? '\t'
					 : *s == 'n' ? '\n'
						     : *s);
		}
	}
	return bxc_buf_steal(&b);
}

static void check_case(golden *g, const char *what, const char *want)
{
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(1u << 20);
	if (bxc_str_has_prefix(what, "words"))
		show_words(g, bxc_str_eq(what, "words split"), &b);
	else
		show(g, what, &b);
	put(&g->out, "@@ want %s\n%s", what, bxc_buf_text(&b));
	if (g->update || bxc_str_eq(bxc_buf_text(&b), want))
		return;
	print_error("# %s: %s | %s: %s is\n%snot\n%s", g->path, g->row, g->title, what,
		bxc_buf_text(&b), want);
	g->n_wrong++;
}

static void begin_case(golden *g, const char *head)
{
	const char *bar = strstr(head, " | ");
	if (!bar)
		fail_msg("%s: 'case ROW | TITLE' is needed, not '%s'", g->path, head);
	free(g->row);
	free(g->title);
	free(BXC_TAKE(g->file));
	bxc_strv_free(BXC_TAKE(g->options));
	g->row = bxc_strndup(head, (size_t)(bar - head));
	g->title = bxc_strdup(bar + 3);
	bxc_map_set(g->rows_seen, g->row, g);
	put(&g->out, "@@ case %s\n", head);
}

static void section(golden *g, const char *head, const char *body)
{
	if (bxc_str_has_prefix(head, "case ")) {
		begin_case(g, head + strlen("case "));
		put(&g->out, "%s", body);
	} else if (bxc_str_has_prefix(head, "option ")) {
		bxc_strv_push(&g->options, head + strlen("option "));
		put(&g->out, "@@ %s\n", head);
	} else if (bxc_str_eq(head, "file") || bxc_str_eq(head, "file escaped")) {
		g->file = bxc_str_eq(head, "file") ? bxc_strdup(body) : unescaped(body);
		put(&g->out, "@@ %s\n%s", head, body);
	} else if (bxc_str_has_prefix(head, "want ")) {
		check_case(g, head + strlen("want "), body);
	} else {
		fail_msg("%s: what is '@@ %s'?", g->path, head);
	}
}

static void one_file(golden *g)
{
	size_t n = 0;
	BXC_AUTOFREE char *text = bxc_test_read_file(g->path, &n);
	bxc_buf_init(&g->out, 4u << 20);
	for (char *p = text; *p;) {
		char *nl = strchr(p, '\n');
		assert_true(bxc_str_has_prefix(p, "@@ ") && nl);
		*nl = 0;
		char *body = nl + 1, *next = body;
		while (*next && !bxc_str_has_prefix(next, "@@ ")) {
			next = strchr(next, '\n');
			assert_non_null(next);
			next++;
		}
		BXC_AUTOFREE char *copy = bxc_strndup(body, (size_t)(next - body));
		section(g, p + strlen("@@ "), copy);
		p = next;
	}
	if (g->update)
		bxc_test_write_file(g->path, g->out.data, g->out.len, 0644);
	bxc_buf_done(&g->out);
}

/* "FILE": a test there names the row. "- WHY": nobody does. */
static void check_elsewhere(const char *row, const char *where)
{
	if (bxc_str_has_prefix(where, "- "))
		return;
	size_t n = 0;
	BXC_AUTOFREE char *path = bxc_str_fmt(BXC_SOURCE_DIR "/%s", where);
	BXC_AUTOFREE char *text = bxc_test_read_file(path, &n);
	if (!strstr(text, row))
		fail_msg("%s does not name the row '%s'", where, row);
}

/* Each row has a case here, or says where it is covered; it may do both. */
static void check_rows(const golden *g)
{
	size_t n = 0, rows = 0;
	BXC_AUTOFREE char *text = bxc_test_read_file(GOLDEN "/rows", &n);
	BXC_AUTOSTRV char **lines = bxc_strv_split(text, '\n');
	BXC_CLEANUP(bxc_map_freep) bxc_map *known = bxc_map_new(NULL);
	for (char **l = lines; *l; l++) {
		char *bar = strstr(*l, " | ");
		if (!**l || **l == '#')
			continue;
		if (bar) {
			*bar = 0;
			check_elsewhere(*l, bar + strlen(" | "));
		} else if (!bxc_map_has(g->rows_seen, *l)) {
			fail_msg("no case is of the row '%s'", *l);
		}
		bxc_map_set(known, *l, known);
		rows++;
	}
	BXC_MAP_FOREACH (it, g->rows_seen)
		if (!bxc_map_has(known, it.key))
			fail_msg("'%s' is no row", it.key);
	assert_true(rows > 140);
}

static void every_row_of_the_language_holds(void **state)
{
	(void)state;
	golden g = {.update = bxc_str_eq(getenv("BXC_GOLDEN"), "update"),
		.rows_seen = bxc_map_new(NULL)};
	DIR *dir = opendir(GOLDEN);
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		if (!bxc_str_has_suffix(e->d_name, ".txt"))
			continue;
		BXC_AUTOFREE char *path = bxc_str_fmt("%s/%s", GOLDEN, e->d_name);
		g.path = path;
		one_file(&g);
	}
	closedir(dir);
	check_rows(&g);
	free(g.row);
	free(g.title);
	free(g.file);
	bxc_strv_free(g.options);
	bxc_map_free(g.rows_seen);
	assert_int_equal(g.n_wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_row_of_the_language_holds)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
