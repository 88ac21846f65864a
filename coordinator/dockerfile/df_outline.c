/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outline of a target: arguments, secrets and agents that it takes, those of the stages that it
 * is built on or copies from included.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

typedef struct item {
	char *name;
	char *value; /* of an argument; NULL: none */
	char *about;
	bool required;
	uint32_t line, line_end;
	df_env *deps; /* of a global argument: what its default names */
} item;

typedef struct items {
	BXC_ARR(item) list;
	bxc_map *index; /* name -> position + 1 */
} items;

struct df_outline {
	items args, secrets, ssh;
	df_env *used; /* names of arguments */
};

static void item_done(item *i)
{
	free(i->name);
	free(i->value);
	free(i->about);
	df_env_free(i->deps);
}

static void items_done(items *l)
{
	BXC_ARR_FOREACH (i, &l->list)
		item_done(i);
	bxc_arr_done(&l->list);
	bxc_map_free(l->index);
}

df_outline *df_outline_new(void)
{
	df_outline *o = bxc_calloc(1, sizeof(*o));
	o->used = df_env_new();
	o->args.index = bxc_map_new(NULL);
	o->secrets.index = bxc_map_new(NULL);
	o->ssh.index = bxc_map_new(NULL);
	return o;
}

void df_outline_free(df_outline *o)
{
	if (!o)
		return;
	items_done(&o->args);
	items_done(&o->secrets);
	items_done(&o->ssh);
	df_env_free(o->used);
	free(o);
}

static item *find(const items *l, const char *name)
{
	size_t at = (size_t)(uintptr_t)bxc_map_get(l->index, name);
	return at ? &l->list.v[at - 1] : NULL;
}

/* A new one of this name, empty but for it. */
static item *renew(items *l, const char *name)
{
	item *i = find(l, name);
	if (!i) {
		i = bxc_arr_push(&l->list);
		bxc_map_set(l->index, name, (void *)(uintptr_t)l->list.n);
	}
	item_done(i);
	*i = (item){.name = bxc_strdup(name)};
	return i;
}

/* The rest of the comment line that begins with the name. */
static char *description(const char *comments, const char *name)
{
	size_t len = strlen(name);
	for (const char *p = comments; p && *p && len;) {
		size_t n = strcspn(p, "\n");
		if (n > len && strncmp(p, name, len) == 0 && p[len] == ' ')
			return bxc_strndup(p + len + 1, n - len - 1);
		p += n + (p[n] == '\n');
	}
	return NULL;
}

char *df_description(const df_instr *i)
{
	return i->stage ? description(i->comments, i->stage) : NULL;
}

void df_outline_global(
	df_lower *lw, const df_instr *i, const df_pair *arg, const char *value, const df_env *deps)
{
	if (!lw->outline)
		return;
	const item *old = find(&lw->outline->args, arg->key);
	df_env *all = df_env_new();
	for (size_t k = 0; k < df_env_len(deps); k++)
		if (!bxc_str_eq(df_env_at(deps, k)->key, arg->key))
			df_env_set(all, df_env_at(deps, k)->key, "");
	/* One that adds to itself needs what it needed before. */
	bool adds = df_env_get(deps, arg->key) != NULL;
	for (size_t k = 0; adds && old && k < df_env_len(old->deps); k++)
		df_env_set(all, df_env_at(old->deps, k)->key, "");
	item *it = renew(&lw->outline->args, arg->key);
	it->value = bxc_strdup(value);
	it->about = description(i->comments, arg->key);
	it->line = i->line;
	it->line_end = i->line_end;
	it->deps = all;
}

void df_outline_used(df_outline *o, const df_env *names)
{
	for (size_t k = 0; o && k < df_env_len(names); k++)
		df_env_set(o->used, df_env_at(names, k)->key, "");
}

void df_outline_arg(df_lower *lw, df_stage *s, const df_pair *arg, const char *value)
{
	if (!s->outline)
		return;
	df_env_set(s->outline->used, arg->key, "");
	/* What only takes over the global value is the global argument. */
	if (!arg->value && !df_env_get(lw->build_args, arg->key) &&
		df_env_get(lw->global, arg->key))
		return;
	item *it = renew(&s->outline->args, arg->key);
	it->value = bxc_strdup(value);
	it->about = description(lw->cmd->i->comments, arg->key);
	it->line = lw->cmd->line;
	it->line_end = lw->cmd->line_end;
}

static void add_mount(df_lower *lw, items *l, const char *name, bool required)
{
	if (find(l, name))
		return;
	item *it = renew(l, name);
	it->required = required;
	it->line = lw->cmd->line;
	it->line_end = lw->cmd->line_end;
}

void df_outline_mount(df_lower *lw, df_stage *s, const df_mount *m)
{
	if (!s->outline)
		return;
	if (m->kind == BXC_MOUNT_SSH)
		add_mount(lw, &s->outline->ssh, bxc_str_empty(m->id) ? "default" : m->id,
			m->required);
	if (m->kind != BXC_MOUNT_SECRET)
		return;
	const char *slash = m->target ? strrchr(m->target, '/') : NULL;
	const char *base = slash ? slash + 1 : m->target;
	const char *id = !bxc_str_empty(m->id)	     ? m->id
			 : !bxc_str_empty(m->source) ? m->source
						     : base;
	if (!bxc_str_empty(id))
		add_mount(lw, &s->outline->secrets, id, m->required);
}

/* ---- gathering ---- */

typedef BXC_ARR(const item *) item_list;

typedef struct gather {
	const df_lower *lw;
	item_list args, secrets, ssh;
	bxc_map *args_seen, *secrets_seen, *ssh_seen;
} gather;

static void take(item_list *l, bxc_map *seen, const item *i)
{
	if (bxc_map_has(seen, i->name))
		return;
	bxc_map_set(seen, i->name, (void *)(uintptr_t)1);
	*bxc_arr_push(l) = i;
}

static void take_args(gather *g, const df_outline *o)
{
	/* Grows while it is gone through: defaults name other arguments. */
	df_env *used = df_env_dup(o->used);
	for (size_t k = 0; k < df_env_len(used); k++) {
		const char *name = df_env_at(used, k)->key;
		const item *i = find(&o->args, name);
		if (!i)
			i = find(&g->lw->outline->args, name);
		if (!i)
			continue;
		for (size_t d = 0; d < df_env_len(i->deps); d++)
			df_env_set(used, df_env_at(i->deps, d)->key, "");
		take(&g->args, g->args_seen, i);
	}
	df_env_free(used);
}

static void take_stage(gather *g, const df_stage *s)
{
	const df_outline *o = s->outline;
	if (!o)
		return;
	take_args(g, o);
	BXC_ARR_FOREACH (i, &o->secrets.list)
		take(&g->secrets, g->secrets_seen, i);
	BXC_ARR_FOREACH (i, &o->ssh.list)
		take(&g->ssh, g->ssh_seen, i);
}

/* The target first, then what it is built on, then what it copies from. */
static void take_all(gather *g)
{
	const df_lower *lw = g->lw;
	BXC_AUTOFREE bool *seen = bxc_calloc(lw->stages.n, sizeof(*seen));
	BXC_ARR(size_t) todo = {0};
	*bxc_arr_push(&todo) = lw->target;
	seen[lw->target] = true;
	for (size_t k = 0; k < todo.n; k++) {
		const df_stage *s = lw->stages.v[todo.v[k]];
		take_stage(g, s);
		if (s->base_stage != DF_NO_STAGE && !seen[s->base_stage]) {
			seen[s->base_stage] = true;
			*bxc_arr_push(&todo) = s->base_stage;
		}
		BXC_ARR_FOREACH (c, &s->cmds) {
			BXC_ARR_FOREACH (from, &c->from) {
				if (*from == DF_NO_STAGE || seen[*from])
					continue;
				seen[*from] = true;
				*bxc_arr_push(&todo) = *from;
			}
		}
	}
	bxc_arr_done(&todo);
}

static int compare_lines(const void *a, const void *b)
{
	const item *x = *(const item *const *)a, *y = *(const item *const *)b;
	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return strcmp(x->name, y->name);
}

static void put_items(bxc_json *doc, const char *key, item_list *l)
{
	if (!l->n)
		return;
	qsort(l->v, l->n, sizeof(*l->v), compare_lines);
	bxc_json *list = bxc_json_add_array(doc, key);
	BXC_ARR_FOREACH (p, l) {
		const item *i = *p;
		bxc_json *j = bxc_json_push_object(list);
		bxc_json_set_str(j, "name", i->name);
		bxc_json_set_str(j, "description", bxc_str_empty(i->about) ? NULL : i->about);
		bxc_json_set_str(j, "value", bxc_str_empty(i->value) ? NULL : i->value);
		if (i->required)
			bxc_json_set_bool(j, "required", true);
		bxc_json_set_take(j, "location", df_location(i->line, i->line_end, true));
	}
}

bxc_json *df_outline_document(const df_lower *lw)
{
	gather g = {.lw = lw,
		.args_seen = bxc_map_new(NULL),
		.secrets_seen = bxc_map_new(NULL),
		.ssh_seen = bxc_map_new(NULL)};
	take_all(&g);
	const df_stage *t = lw->stages.v[lw->target];
	BXC_AUTOFREE char *about = df_description(t->instr);
	bxc_json *doc = bxc_json_object();
	bxc_json_set_str(doc, "name", t->name);
	bxc_json_set_str(doc, "description", about);
	put_items(doc, "args", &g.args);
	put_items(doc, "secrets", &g.secrets);
	put_items(doc, "ssh", &g.ssh);
	bxc_arr_done(&g.args);
	bxc_arr_done(&g.secrets);
	bxc_arr_done(&g.ssh);
	bxc_map_free(g.args_seen);
	bxc_map_free(g.secrets_seen);
	bxc_map_free(g.ssh_seen);
	return doc;
}
