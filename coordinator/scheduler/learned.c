/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/scheduler/learned.h"

#include <ctype.h>

#include "common/base/arr.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define SHAPE_MAX 1024u			    /* bytes */
#define TIME_MAX  INT64_C(1000000000000000) /* ns; longer runs count as this */

struct entry {
	int64_t times[BXC_LEARN_TIMES]; /* oldest first */
	size_t n;
	int64_t used; /* sequence number of the last use; read ones are below 0 */
};

struct bxc_learn {
	bxc_map *entries; /* digest -> entry, owned */
	size_t max;
	int64_t last_used, first_read;
};

/* ---- keys ---- */

static bool is_assignment(const char *w, size_t n)
{
	const char *eq = memchr(w, '=', n);
	for (const char *c = w; eq && c < eq; c++)
		if (!isalnum((unsigned char)*c) && *c != '_')
			return false;
	return eq && eq > w;
}

/* The program and, if it is one of many in one ("apt-get install"), which. */
static bool is_subcommand(const char *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!islower((unsigned char)w[i]) && (i == 0 || w[i] != '-'))
			return false;
	return n > 0;
}

static void add_word(bxc_buf *out, const char *w, size_t n)
{
	/* Programs beyond the bound make no difference. */
	bxc_ignore(bxc_buf_append(out, w, n, NULL));
	bxc_ignore(bxc_buf_append(out, " ", 1, NULL));
}

static void add_command(bxc_buf *out, const char *s, size_t len)
{
	unsigned n_words = 0;
	for (size_t i = 0; i < len && n_words < 2;) {
		while (i < len && isspace((unsigned char)s[i]))
			i++;
		size_t from = i;
		while (i < len && !isspace((unsigned char)s[i]))
			i++;
		size_t n = i - from;
		if (n == 0 || (n_words == 0 && is_assignment(s + from, n)))
			continue;
		if (n_words == 1 && !is_subcommand(s + from, n))
			break;
		add_word(out, s + from, n);
		n_words++;
	}
	if (n_words)
		bxc_ignore(bxc_buf_append(out, ";", 1, NULL));
}

static void add_script(bxc_buf *out, const char *script)
{
	static const char ends[] = "&|;\n()";
	for (const char *s = script; *s;) {
		size_t n = strcspn(s, ends);
		add_command(out, s, n);
		s += n;
		s += strspn(s, ends);
	}
}

static bool is_shell(char *const *args)
{
	const char *slash = strrchr(args[0], '/');
	const char *name = slash ? slash + 1 : args[0];
	return bxc_strv_len(args) >= 3 && bxc_str_has_suffix(name, "sh") && args[1][0] == '-' &&
	       strchr(args[1], 'c');
}

bxc_learn_keys bxc_learn_keys_of(const bxc_def_vertex *v)
{
	bxc_learn_keys k = {.step = bxc_def_op_digest(v)};
	if (v->kind != BXC_OP_EXEC || !v->op.exec.args || !v->op.exec.args[0])
		return k;
	BXC_AUTOBUF bxc_buf shape = BXC_BUF_INIT(SHAPE_MAX);
	bxc_ignore(bxc_buf_append(&shape, v->platform.arch, strlen(v->platform.arch), NULL));
	char *const *args = v->op.exec.args;
	if (is_shell(args)) {
		add_script(&shape, args[2]);
	} else {
		BXC_AUTOFREE char *line =
			args[1] ? bxc_str_fmt("%s %s", args[0], args[1]) : bxc_strdup(args[0]);
		add_command(&shape, line, strlen(line));
	}
	k.shape = bxc_digest_of(shape.data, shape.len);
	return k;
}

/* ---- the table ---- */

bxc_learn *bxc_learn_new(size_t max)
{
	bxc_learn *l = bxc_calloc(1, sizeof(*l));
	l->entries = bxc_map_new(free);
	l->max = BXC_MAX(max, (size_t)1);
	return l;
}

void bxc_learn_free(bxc_learn *l)
{
	if (!l)
		return;
	bxc_map_free(l->entries);
	free(l);
}

size_t bxc_learn_len(const bxc_learn *l)
{
	return bxc_map_len(l->entries);
}

static struct entry *find(const bxc_learn *l, const bxc_digest *key)
{
	char name[BXC_DIGEST_STR_MAX];
	return bxc_digest_is_set(key) ? bxc_map_get(l->entries, bxc_digest_str(key, name)) : NULL;
}

static struct entry *find_or_make(bxc_learn *l, const bxc_digest *key)
{
	struct entry *e = find(l, key);
	if (e)
		return e;
	char name[BXC_DIGEST_STR_MAX];
	e = bxc_calloc(1, sizeof(*e));
	bxc_map_set(l->entries, bxc_digest_str(key, name), e);
	return e;
}

static void add_time(struct entry *e, int64_t ns)
{
	if (e->n == BXC_LEARN_TIMES)
		memmove(e->times, e->times + 1, --e->n * sizeof(e->times[0]));
	e->times[e->n++] = BXC_MIN(BXC_MAX(ns, INT64_C(1)), TIME_MAX);
}

static int by_number(const void *x, const void *y)
{
	int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
	return a < b ? -1 : a > b;
}

/* A tenth at once: what it costs is shared by those that come after. */
static void forget_oldest(bxc_learn *l)
{
	size_t n = bxc_map_len(l->entries), i = 0;
	if (n <= l->max)
		return;
	size_t n_drop = n - (l->max - l->max / 10);
	BXC_AUTOFREE int64_t *uses = bxc_calloc(n, sizeof(*uses));
	BXC_MAP_FOREACH (it, l->entries)
		uses[i++] = ((struct entry *)it.value)->used;
	qsort(uses, n, sizeof(*uses), by_number);
	int64_t last = uses[n_drop - 1];
	BXC_MAP_FOREACH (it, l->entries) {
		const struct entry *e = it.value;
		if (e->used <= last && e->used != l->last_used)
			bxc_map_del(l->entries, it.key);
	}
}

void bxc_learn_add(bxc_learn *l, const bxc_learn_keys *k, int64_t ns)
{
	const bxc_digest *keys[] = {&k->step, &k->shape};
	l->last_used++;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(keys); i++) {
		if (!bxc_digest_is_set(keys[i]))
			continue;
		struct entry *e = find_or_make(l, keys[i]);
		add_time(e, ns);
		e->used = l->last_used;
	}
	forget_oldest(l);
}

static int64_t median(const struct entry *e)
{
	int64_t sorted[BXC_LEARN_TIMES];
	memcpy(sorted, e->times, sizeof(sorted));
	qsort(sorted, e->n, sizeof(sorted[0]), by_number);
	return sorted[e->n / 2];
}

int64_t bxc_learn_cost(const bxc_learn *l, const bxc_learn_keys *k)
{
	const struct entry *e = find(l, &k->step);
	if (!e)
		e = find(l, &k->shape);
	return e ? median(e) : 0;
}

/* ---- as text ---- */

bool bxc_learn_text(const bxc_learn *l, const bxc_digest *key, char ret[BXC_LEARN_TEXT_MAX])
{
	const struct entry *e = find(l, key);
	int at = 0;
	for (size_t i = 0; e && i < e->n; i++)
		at += snprintf(ret + at, BXC_LEARN_TEXT_MAX - (size_t)at, "%s%lld", i ? "," : "",
			(long long)e->times[i]);
	return e != NULL;
}

int bxc_learn_read(bxc_learn *l, const bxc_digest *key, const char *text, bxc_err **err)
{
	BXC_AUTOSTRV char **parts = bxc_strv_split(text, ',');
	uint64_t times[BXC_LEARN_TIMES];
	size_t n = bxc_strv_len(parts);
	if (n == 0 || n > BXC_LEARN_TIMES)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"times: '%.64s' is not a list of 1 to %u numbers", text, BXC_LEARN_TIMES);
	for (size_t i = 0; i < n; i++) {
		int r = bxc_str_to_u64(parts[i], 1, (uint64_t)TIME_MAX, &times[i], err);
		if (r < 0)
			return bxc_err_wrap(err, r, "times");
	}
	if (bxc_map_len(l->entries) >= l->max && !find(l, key))
		return 0;
	struct entry *e = find_or_make(l, key);
	e->n = 0;
	for (size_t i = 0; i < n; i++)
		add_time(e, (int64_t)times[i]);
	e->used = --l->first_read;
	return 0;
}

/* ---- paths ---- */

void bxc_learn_paths(const bxc_learn *l, const bxc_def *d, int64_t unknown_ns, int64_t *ret)
{
	for (size_t i = 0; i < d->vertices.n; i++)
		ret[i] = 0;
	/* Users come after what they use: what lies above a vertex is known when it is reached. */
	for (size_t i = d->vertices.n; i-- > 0;) {
		const bxc_def_vertex *v = d->vertices.v[i];
		if (v->kind != BXC_OP_SOURCE && v->kind != BXC_OP_MERGE) {
			bxc_learn_keys k = bxc_learn_keys_of(v);
			int64_t cost = bxc_learn_cost(l, &k);
			ret[i] = BXC_MIN(ret[i] + (cost ? cost : unknown_ns), TIME_MAX);
		}
		BXC_ARR_FOREACH (in, &v->inputs)
			ret[in->vertex] = BXC_MAX(ret[in->vertex], ret[i]);
	}
}
