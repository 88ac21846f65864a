/* SPDX-License-Identifier: Apache-2.0 */
#include "common/config/config_internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/os/fs.h"

struct value {
	bxc_cfg_rank rank;
	char *origin;
	unsigned load; /* which call of load_text set it, and at which line: for duplicates */
	unsigned line;
	char **items;	 /* text of the value: one element, or those of a list; NULL: unset */
	uint64_t number; /* BOOL, U64, BYTES */
	int64_t duration_ns;
};

struct bxc_cfg {
	const bxc_cfg_key *keys;
	size_t n_keys;
	struct value *values;
	unsigned n_loads;
};

/* ---- values ---- */

static int check_choice(const bxc_cfg_key *key, const char *text, bxc_err **err)
{
	if (!key->choices)
		return 0;
	size_t n = 0;
	for (; key->choices[n]; n++)
		if (strcmp(key->choices[n], text) == 0)
			return 0;
	const char *near = bxc_str_nearest(text, key->choices, n);
	if (near)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"unknown value '%s' (did you mean '%s'?)", text, near);
	BXC_AUTOSTRV char **all = NULL;
	for (size_t i = 0; i < n; i++)
		bxc_strv_push(&all, key->choices[i]);
	BXC_AUTOFREE char *list = bxc_strv_join(all, ", ");
	return bxc_err_set(
		err, BXC_INVALID_ARGUMENT, "unknown value '%s' (one of: %s)", text, list);
}

static int check_range(const bxc_cfg_key *key, uint64_t n, const char *text, bxc_err **err)
{
	if (n < key->min)
		return bxc_err_set(err, BXC_OUT_OF_RANGE,
			"'%s' is too small (at least %" PRIu64 "%s)", text, key->min,
			key->type == BXC_CFG_DURATION ? " ns" : "");
	if (key->max && n > key->max)
		return bxc_err_set(err, BXC_OUT_OF_RANGE,
			"'%s' is too large (at most %" PRIu64 "%s)", text, key->max,
			key->type == BXC_CFG_DURATION ? " ns" : "");
	return 0;
}

/* Fills in the typed form of v->items. */
static int interpret(const bxc_cfg_key *key, struct value *v, bxc_err **err)
{
	const char *text = v->items ? v->items[0] : NULL;
	int r = 0;
	bool flag = false;
	switch (key->type) {
	case BXC_CFG_STRING:
		return check_choice(key, text, err);
	case BXC_CFG_LIST:
		for (size_t i = 0; r >= 0 && v->items && v->items[i]; i++)
			r = check_choice(key, v->items[i], err);
		return r;
	case BXC_CFG_BOOL:
		r = bxc_str_to_bool(text, &flag, err);
		v->number = flag;
		return r;
	case BXC_CFG_U64:
		r = bxc_str_to_u64(text, 0, UINT64_MAX, &v->number, err);
		break;
	case BXC_CFG_BYTES:
		r = bxc_str_to_bytes(text, UINT64_MAX, &v->number, err);
		break;
	case BXC_CFG_DURATION:
		r = bxc_str_to_duration_ns(text, &v->duration_ns, err);
		v->number = r < 0 ? 0 : (uint64_t)v->duration_ns;
		break;
	default:
		bxc_check(false && "type of a key");
	}
	return r < 0 ? r : check_range(key, v->number, text, err);
}

static void value_done(struct value *v)
{
	free(v->origin);
	bxc_strv_free(v->items);
	*v = (struct value){0};
}

/* Sets the value unless a source of higher rank has. Takes items, also on failure. */
static int assign(
	bxc_cfg *c, size_t i, bxc_cfg_rank rank, const char *origin, char **items, bxc_err **err)
{
	const bxc_cfg_key *key = &c->keys[i];
	struct value v = {.rank = rank, .origin = bxc_strdup(origin), .items = items};
	BXC_AUTOERR bxc_err *why = NULL;
	int r = interpret(key, &v, &why);
	if (r < 0) {
		value_done(&v);
		if (key->secret)
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "invalid value of '%s'", key->key);
		return bxc_err_wrap_take(err, BXC_TAKE(why), r, "value of '%s'", key->key);
	}
	if (rank < c->values[i].rank) {
		value_done(&v);
		return 0;
	}
	value_done(&c->values[i]);
	c->values[i] = v;
	return 0;
}

/* ---- the table ---- */

static size_t find(const bxc_cfg *c, const char *key)
{
	size_t i = 0;
	while (i < c->n_keys && strcmp(c->keys[i].key, key) != 0)
		i++;
	return i;
}

bxc_cfg *bxc_cfg_new(const bxc_cfg_key *keys, size_t n_keys)
{
	bxc_cfg *c = bxc_calloc(1, sizeof(*c));
	c->keys = keys;
	c->n_keys = n_keys;
	c->values = bxc_calloc(n_keys ? n_keys : 1, sizeof(*c->values));
	for (size_t i = 0; i < n_keys; i++) {
		bxc_check(find(c, keys[i].key) == i);
		char **items = NULL;
		if (!keys[i].def)
			continue;
		if (*keys[i].def || keys[i].type == BXC_CFG_LIST)
			bxc_check(bxc_cfg__parse_value(keys[i].def, keys[i].type == BXC_CFG_LIST,
					  &items, NULL) == 0);
		else
			bxc_strv_push(&items, "");
		bxc_check(assign(c, i, BXC_CFG_DEFAULT, "default", items, NULL) == 0);
	}
	return c;
}

void bxc_cfg_free(bxc_cfg *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n_keys; i++)
		value_done(&c->values[i]);
	free(c->values);
	free(c);
}

/* ---- sources ---- */

struct file_load {
	bxc_cfg *cfg;
	const char *name;
};

static int unknown_key(const bxc_cfg *c, const char *key, bxc_err **err)
{
	BXC_AUTOFREE const char **names = bxc_calloc(c->n_keys + 1, sizeof(*names));
	for (size_t i = 0; i < c->n_keys; i++)
		names[i] = c->keys[i].key;
	const char *near = bxc_str_nearest(key, names, c->n_keys);
	if (near)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"unknown key '%s' (did you mean '%s'?)", key, near);
	return bxc_err_set(err, BXC_INVALID_ARGUMENT, "unknown key '%s'", key);
}

static int on_line(unsigned line, const char *name, const char *text, void *ud, bxc_err **err)
{
	const struct file_load *load = ud;
	bxc_cfg *c = load->cfg;
	size_t i = find(c, name);
	if (i == c->n_keys)
		return unknown_key(c, name, err);
	struct value *old = &c->values[i];
	if (old->load == c->n_loads)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "key '%s' is set in line %u already",
			name, old->line);
	char **items = NULL;
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_cfg__parse_value(text, c->keys[i].type == BXC_CFG_LIST, &items, &why);
	if (r < 0)
		return bxc_err_wrap_take(err, BXC_TAKE(why), r, "value of '%s'", name);
	BXC_AUTOFREE char *origin = bxc_str_fmt("%s:%u", load->name, line);
	r = assign(c, i, BXC_CFG_FILE, origin, items, err);
	if (r < 0)
		return r;
	old->load = c->n_loads;
	old->line = line;
	return 0;
}

int bxc_cfg_load_text(bxc_cfg *c, const char *name, bxc_slice text, bxc_err **err)
{
	struct file_load load = {c, name};
	c->n_loads++;
	return bxc_cfg__parse_lines(name, text, on_line, &load, err);
}

int bxc_cfg_load_file(bxc_cfg *c, const char *path, bool optional, bxc_err **err)
{
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_CFG_MAX_FILE);
	BXC_AUTOERR bxc_err *why = NULL;
	int r = bxc_fs_read_file(AT_FDCWD, path, BXC_CFG_MAX_FILE, &text, &why);
	if (r == -BXC_NOT_FOUND && optional)
		return 0;
	if (r < 0)
		return bxc_err_wrap_take(err, BXC_TAKE(why), r, "configuration");
	return bxc_cfg_load_text(c, path, bxc_buf_slice(&text), err);
}

int bxc_cfg_load_env(bxc_cfg *c, char *const *env, bxc_err **err)
{
	for (size_t i = 0; i < c->n_keys; i++) {
		const bxc_cfg_key *key = &c->keys[i];
		const char *text = key->env ? bxc_env_get(env, key->env) : NULL;
		if (bxc_str_empty(text))
			continue;
		char **items = NULL;
		int r = 0;
		if (key->type == BXC_CFG_LIST)
			r = bxc_cfg__parse_value(text, true, &items, err);
		else
			bxc_strv_push(&items, text);
		if (r >= 0)
			r = assign(c, i, BXC_CFG_ENV, key->env, items, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "environment variable %s", key->env);
	}
	return 0;
}

int bxc_cfg_set_flag(bxc_cfg *c, const char *name, const char *value, bxc_err **err)
{
	size_t i = find(c, name);
	bxc_check(i < c->n_keys && c->keys[i].flag);
	const bxc_cfg_key *key = &c->keys[i];
	char **items = NULL;
	if (key->type == BXC_CFG_LIST && c->values[i].rank == BXC_CFG_FLAG)
		items = bxc_strv_dup(c->values[i].items);
	bxc_strv_push(&items, value);
	BXC_AUTOFREE char *origin = bxc_str_fmt("--%s", key->flag);
	int r = assign(c, i, BXC_CFG_FLAG, origin, items, err);
	return bxc_err_wrap(err, r, "%s", origin);
}

/* ---- getters ---- */

static const struct value *get(const bxc_cfg *c, const char *key, bxc_cfg_type type)
{
	size_t i = find(c, key);
	bxc_check(i < c->n_keys && c->keys[i].type == type);
	return &c->values[i];
}

const char *bxc_cfg_str(const bxc_cfg *c, const char *key)
{
	const struct value *v = get(c, key, BXC_CFG_STRING);
	return v->items ? v->items[0] : NULL;
}

bool bxc_cfg_bool(const bxc_cfg *c, const char *key)
{
	return get(c, key, BXC_CFG_BOOL)->number != 0;
}

uint64_t bxc_cfg_u64(const bxc_cfg *c, const char *key)
{
	return get(c, key, BXC_CFG_U64)->number;
}

uint64_t bxc_cfg_bytes(const bxc_cfg *c, const char *key)
{
	return get(c, key, BXC_CFG_BYTES)->number;
}

int64_t bxc_cfg_duration_ns(const bxc_cfg *c, const char *key)
{
	return get(c, key, BXC_CFG_DURATION)->duration_ns;
}

char *const *bxc_cfg_list(const bxc_cfg *c, const char *key)
{
	return get(c, key, BXC_CFG_LIST)->items;
}

bxc_cfg_rank bxc_cfg_get_rank(const bxc_cfg *c, const char *key)
{
	size_t i = find(c, key);
	bxc_check(i < c->n_keys);
	return c->values[i].rank;
}

const char *bxc_cfg_origin(const bxc_cfg *c, const char *key)
{
	size_t i = find(c, key);
	bxc_check(i < c->n_keys);
	return c->values[i].origin ? c->values[i].origin : "default";
}

/* ---- printing ---- */

static void print_value(const bxc_cfg_key *key, char *const *items, FILE *f)
{
	for (size_t i = 0; items && items[i]; i++) {
		if (i)
			fputs(", ", f);
		bxc_cfg__print_element(items[i], key->type == BXC_CFG_LIST, f);
	}
}

void bxc_cfg_print(const bxc_cfg *c, FILE *f)
{
	for (size_t i = 0; i < c->n_keys; i++) {
		const bxc_cfg_key *key = &c->keys[i];
		const struct value *v = &c->values[i];
		if (!v->items && key->type != BXC_CFG_LIST) {
			fprintf(f, "# %s is not set\n", key->key);
			continue;
		}
		fprintf(f, "%s = ", key->key);
		if (key->secret && v->items)
			fputs("(secret)", f);
		else
			print_value(key, v->items, f);
		fprintf(f, "    # %s\n", bxc_cfg_origin(c, key->key));
	}
}

static const char *type_name(const bxc_cfg_key *key)
{
	switch (key->type) {
	case BXC_CFG_STRING:
		return "text";
	case BXC_CFG_BOOL:
		return "true or false";
	case BXC_CFG_U64:
		return "number";
	case BXC_CFG_BYTES:
		return "size, as 512m or 10g";
	case BXC_CFG_DURATION:
		return "duration, as 90s or 1h30m";
	case BXC_CFG_LIST:
		return "list, parted by commas";
	default:
		return "";
	}
}

void bxc_cfg_print_template(const bxc_cfg_key *keys, size_t n_keys, FILE *f)
{
	for (size_t i = 0; i < n_keys; i++) {
		const bxc_cfg_key *key = &keys[i];
		fprintf(f, "%s# %s\n# (%s", i ? "\n" : "", key->help, type_name(key));
		for (size_t j = 0; key->choices && key->choices[j]; j++)
			fprintf(f, "%s%s", j ? ", " : ": ", key->choices[j]);
		if (key->env)
			fprintf(f, "; %s", key->env);
		if (key->flag)
			fprintf(f, "; --%s", key->flag);
		bool is_empty = key->def && !*key->def && key->type != BXC_CFG_LIST;
		const char *value = is_empty ? "\"\"" : key->def ? key->def : "";
		fprintf(f, ")\n#%s =%s%s\n", key->key, *value ? " " : "", value);
	}
}
