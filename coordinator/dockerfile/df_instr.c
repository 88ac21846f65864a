/* SPDX-License-Identifier: Apache-2.0 */
/* What each instruction demands, told at reading: flags, numbers of arguments, plain values. */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include <inttypes.h>

#define MAX_FLAGS 8

typedef enum flag_type {
	FLAG_NONE = 0,
	FLAG_BOOL,
	FLAG_TRI, /* a boolean that knows whether it was given */
	FLAG_TEXT,
	FLAG_LIST,
} flag_type;

typedef struct flag {
	const char *name;
	flag_type type;
	union {
		bool *b;
		df_tri *tri;
		char **text;
		char ***list;
	} to;
} flag;

static int bad(bxc_err **err, const char *fmt, ...) BXC_PRINTF(2, 3);
static int bad(bxc_err **err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = bxc_err_setv(err, BXC_INVALID_ARGUMENT, fmt, ap);
	va_end(ap);
	return r;
}

static int unknown_flag(const char *name, const flag *flags, size_t n, bxc_err **err)
{
	const char *names[MAX_FLAGS] = {0};
	for (size_t i = 0; i < n; i++)
		names[i] = flags[i].name;
	const char *near = bxc_str_nearest(name, names, n);
	if (near)
		return bad(err, "unknown flag: --%.64s (did you mean %s?)", name, near);
	return bad(err, "unknown flag: --%.64s", name);
}

static int set_bool(const flag *f, const char *value, bxc_err **err)
{
	bool on = !value || bxc_str_eq_nocase(value, "true");
	if (value && !*value)
		return bad(err, "missing a value on flag: --%s", f->name);
	if (!on && !bxc_str_eq_nocase(value, "false"))
		return bad(
			err, "expecting boolean value for flag --%s, not: %.64s", f->name, value);
	if (f->type == FLAG_TRI)
		*f->to.tri = on ? DF_TRUE : DF_FALSE;
	else
		*f->to.b = on;
	return 0;
}

static int set_flag(const flag *f, const char *value, bxc_err **err)
{
	if (f->type == FLAG_BOOL || f->type == FLAG_TRI)
		return set_bool(f, value, err);
	if (!value)
		return bad(err, "missing a value on flag: --%s", f->name);
	if (f->type == FLAG_LIST) {
		if (bxc_strv_len(*f->to.list) >= DF_MAX_VARS)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "more than %u flags --%s",
				DF_MAX_VARS, f->name);
		bxc_strv_push(f->to.list, value);
	} else if (*value) {
		*f->to.text = bxc_strdup(value);
	}
	return 0;
}

static int take_flags(const df_instr *i, const flag *flags, size_t n, bxc_err **err)
{
	bool used[MAX_FLAGS] = {0};
	bxc_check(n <= MAX_FLAGS);
	for (char **f = i->flags; f && *f; f++) {
		const char *word = *f + 2, *eq = strchr(word, '=');
		BXC_AUTOFREE char *name =
			eq ? bxc_strndup(word, (size_t)(eq - word)) : bxc_strdup(word);
		size_t k = 0;
		while (k < n && !bxc_str_eq(flags[k].name, name))
			k++;
		if (k == n)
			return unknown_flag(name, flags, n, err);
		if (used[k] && flags[k].type != FLAG_LIST)
			return bad(err, "duplicate flag specified: --%s", name);
		used[k] = true;
		int r = set_flag(&flags[k], eq ? eq + 1 : NULL, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int no_flags(const df_instr *i, bxc_err **err)
{
	return take_flags(i, NULL, 0, err);
}

static int at_least_one(const df_instr *i, bxc_err **err)
{
	if (!i->args && !i->pairs.n && !i->sub)
		return bad(err, "%s requires at least one argument", df_kind_name(i->kind));
	return 0;
}

static int exactly_one(const df_instr *i, bxc_err **err)
{
	if (bxc_strv_len(i->args) != 1)
		return bad(err, "%s requires exactly one argument", df_kind_name(i->kind));
	return no_flags(i, err);
}

/* ---- FROM ---- */

static bool is_stage_name(const char *s)
{
	if (*s < 'a' || *s > 'z')
		return false;
	return s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.")] == 0;
}

static int check_from(df_instr *i, bxc_err **err)
{
	size_t n = bxc_strv_len(i->args);
	if (n == 3 && bxc_str_eq_nocase(i->args[1], "as")) {
		i->stage = bxc_str_lower(bxc_strdup(i->args[2]));
		if (!is_stage_name(i->stage))
			return bad(err,
				"invalid name for build stage: \"%.64s\", name can't start with a "
				"number or contain symbols",
				i->args[2]);
	} else if (n != 1) {
		return bad(err, "FROM requires either one or three arguments");
	}
	i->base = bxc_strdup(i->args[0]);
	const flag flags[] = {{"platform", FLAG_TEXT, {.text = &i->platform}}};
	return take_flags(i, flags, BXC_ARRAY_SIZE(flags), err);
}

/* ---- ADD and COPY ---- */

static const df_heredoc *find_doc(const df_instr *i, const char *name)
{
	for (size_t k = i->docs.n; k > 0; k--)
		if (bxc_str_eq(i->docs.v[k - 1].name, name))
			return &i->docs.v[k - 1];
	return NULL;
}

static int push_doc(df_instr *i, const char *word, const df_heredoc *h, bxc_err **err)
{
	const df_heredoc *body = find_doc(i, h->name);
	if (!body)
		return bad(err, "the heredoc '%.64s' has no body", word);
	int r = df_doc_name_check(h->name, err);
	if (r < 0)
		return r;
	df_source *s = bxc_arr_push(&i->sources);
	s->doc_name = bxc_strdup(h->name);
	s->doc_data = h->strip_tabs ? df_strip_tabs(body->data) : bxc_strdup(body->data);
	s->doc_expand = h->expand;
	return 0;
}

static int push_source(df_instr *i, const char *word, bxc_err **err)
{
	df_heredoc h = {0};
	if (i->is_json || !df_heredoc_parse(word, &h)) {
		bxc_arr_push(&i->sources)->path = bxc_strdup(word);
		return 0;
	}
	int r = push_doc(i, word, &h, err);
	free(h.name);
	return r;
}

static int sources(df_instr *i, bxc_err **err)
{
	const char *name = df_kind_name(i->kind);
	size_t n = bxc_strv_len(i->args);
	df_heredoc h = {0};
	if (n < 2)
		return bad(err,
			"%s requires at least two arguments, but only one was provided. "
			"Destination could not be determined",
			name);
	if (!i->is_json && df_heredoc_parse(i->args[n - 1], &h)) {
		free(h.name);
		return bad(err, "%s cannot accept a heredoc as a destination", name);
	}
	for (size_t k = 0; k + 1 < n; k++) {
		BXC_AUTOFREE char *joined = NULL;
		bool bare = bxc_str_eq(i->args[k], "<<") || bxc_str_eq(i->args[k], "<<-");
		/* "<< EOF": the reader of bodies has taken it as one. */
		if (!i->is_json && bare && k + 2 < n) {
			joined = bxc_str_fmt("%s%s", i->args[k], i->args[k + 1]);
			k++;
		}
		int r = push_source(i, joined ? joined : i->args[k], err);
		if (r < 0)
			return r;
	}
	i->dest = bxc_strdup(i->args[n - 1]);
	return 0;
}

static int check_copy(df_instr *i, bxc_err **err)
{
	const flag flags[] = {
		{"chown", FLAG_TEXT, {.text = &i->chown}},
		{"from", FLAG_TEXT, {.text = &i->from}},
		{"chmod", FLAG_TEXT, {.text = &i->chmod}},
		{"link", FLAG_BOOL, {.b = &i->link}},
		{"parents", FLAG_BOOL, {.b = &i->parents}},
		{"exclude", FLAG_LIST, {.list = &i->exclude}},
	};
	int r = take_flags(i, flags, BXC_ARRAY_SIZE(flags), err);
	return r < 0 ? r : sources(i, err);
}

static int check_add(df_instr *i, bxc_err **err)
{
	const flag flags[] = {
		{"chown", FLAG_TEXT, {.text = &i->chown}},
		{"chmod", FLAG_TEXT, {.text = &i->chmod}},
		{"link", FLAG_BOOL, {.b = &i->link}},
		{"keep-git-dir", FLAG_TRI, {.tri = &i->keep_git_dir}},
		{"checksum", FLAG_TEXT, {.text = &i->checksum}},
		{"unpack", FLAG_TRI, {.tri = &i->unpack}},
		{"exclude", FLAG_LIST, {.list = &i->exclude}},
	};
	int r = take_flags(i, flags, BXC_ARRAY_SIZE(flags), err);
	return r < 0 ? r : sources(i, err);
}

/* ---- RUN ---- */

static int check_run(df_instr *i, bxc_err **err)
{
	const flag flags[] = {
		{"mount", FLAG_LIST, {.list = &i->mounts}},
		{"network", FLAG_TEXT, {.text = &i->network}},
		{"security", FLAG_TEXT, {.text = &i->security}},
		{"device", FLAG_LIST, {.list = &i->devices}},
	};
	int r = take_flags(i, flags, BXC_ARRAY_SIZE(flags), err);
	if (r < 0)
		return r;
	const char *net = i->network, *sec = i->security;
	if (net && !bxc_str_eq(net, "default") && !bxc_str_eq(net, "none") &&
		!bxc_str_eq(net, "host"))
		return bad(err, "invalid network mode \"%.64s\" (default, none or host)", net);
	if (sec && !bxc_str_eq(sec, "sandbox") && !bxc_str_eq(sec, "insecure"))
		return bad(err, "security \"%.64s\" is not valid", sec);
	for (char **m = i->mounts; m && *m; m++) {
		BXC_AUTOFREE char *from = NULL;
		r = df_mount_scan(*m, &from, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- HEALTHCHECK ---- */

static int interval(const char *name, const char *text, int64_t *ret, bxc_err **err)
{
	bool negative = text && *text == '-';
	int64_t ns = 0;
	if (!text)
		return 0;
	int r = bxc_str_to_duration_ns(negative || *text == '+' ? text + 1 : text, &ns, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "--%s", name);
	if (negative ? ns > 0 : ns > 0 && ns < 1000000)
		return bad(err, "Interval \"%s\" cannot be less than 1ms", name);
	*ret = ns;
	return 0;
}

static int retries(const char *text, int64_t *ret, bxc_err **err)
{
	if (!text)
		return 0;
	int r = bxc_str_to_i64(text, INT32_MIN, INT32_MAX, ret, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "--retries");
	if (*ret < 0)
		return bad(err, "--retries cannot be negative (%" PRId64 ")", *ret);
	return 0;
}

static int health_test(df_instr *i, bxc_err **err)
{
	BXC_AUTOFREE char *type = bxc_str_upper(bxc_strdup(i->args[0]));
	bxc_oci_healthcheck *h = &i->health;
	h->is_set = true;
	if (bxc_str_eq(type, "NONE")) {
		if (i->args[1])
			return bad(err, "HEALTHCHECK NONE takes no arguments");
		bxc_strv_push(&h->test, "NONE");
		return 0;
	}
	if (!bxc_str_eq(type, "CMD"))
		return bad(err, "Unknown type \"%.64s\" in HEALTHCHECK (try CMD)", type);
	if (!i->args[1])
		return bad(err, "Missing command after HEALTHCHECK CMD");
	h->test = bxc_strv_dup(i->args);
	free(h->test[0]);
	h->test[0] = bxc_strdup(i->is_json ? "CMD" : "CMD-SHELL");
	return 0;
}

static int check_health(df_instr *i, bxc_err **err)
{
	BXC_AUTOFREE char *every = NULL;
	BXC_AUTOFREE char *timeout = NULL;
	BXC_AUTOFREE char *period = NULL;
	BXC_AUTOFREE char *start = NULL;
	BXC_AUTOFREE char *count = NULL;
	const flag flags[] = {
		{"interval", FLAG_TEXT, {.text = &every}},
		{"timeout", FLAG_TEXT, {.text = &timeout}},
		{"start-period", FLAG_TEXT, {.text = &period}},
		{"start-interval", FLAG_TEXT, {.text = &start}},
		{"retries", FLAG_TEXT, {.text = &count}},
	};
	bxc_oci_healthcheck *h = &i->health;
	int r = at_least_one(i, err);
	if (r == 0)
		r = take_flags(i, flags, BXC_ARRAY_SIZE(flags), err);
	if (r == 0)
		r = health_test(i, err);
	if (r == 0)
		r = interval("interval", every, &h->interval_ns, err);
	if (r == 0)
		r = interval("timeout", timeout, &h->timeout_ns, err);
	if (r == 0)
		r = interval("start-period", period, &h->start_period_ns, err);
	if (r == 0)
		r = interval("start-interval", start, &h->start_interval_ns, err);
	return r == 0 ? retries(count, &h->retries, err) : r;
}

/* ---- the others ---- */

static int check_pairs(const df_instr *i, bxc_err **err)
{
	int r = no_flags(i, err);
	if (r == 0)
		r = at_least_one(i, err);
	for (size_t k = 0; r == 0 && k < i->pairs.n; k++)
		if (!*i->pairs.v[k].key)
			return bad(err, "%s names can not be blank", df_kind_name(i->kind));
	return r;
}

static int check_shell(const df_instr *i, bxc_err **err)
{
	int r = at_least_one(i, err);
	if (r == 0 && !i->is_json)
		return bad(err, "SHELL requires the arguments to be in JSON form");
	return r == 0 ? no_flags(i, err) : r;
}

static int check_onbuild(df_instr *i, bxc_err **err)
{
	int r = at_least_one(i, err);
	if (r == 0)
		r = no_flags(i, err);
	if (r < 0)
		return r;
	if (i->sub->kind == DF_FROM || i->sub->kind == DF_MAINTAINER)
		return bad(
			err, "%s isn't allowed as an ONBUILD trigger", df_kind_name(i->sub->kind));
	const char *text = i->text + strlen("ONBUILD");
	while (df_is_space(*text))
		text++;
	i->trigger = df_with_docs(text, &i->docs);
	return 0;
}

static int check_words(const df_instr *i, bxc_err **err)
{
	int r = at_least_one(i, err);
	return r == 0 ? no_flags(i, err) : r;
}

int df_instr_check(df_instr *i, bxc_err **err)
{
	switch (i->kind) {
	case DF_FROM:
		return check_from(i, err);
	case DF_COPY:
		return check_copy(i, err);
	case DF_ADD:
		return check_add(i, err);
	case DF_RUN:
		return check_run(i, err);
	case DF_HEALTHCHECK:
		return check_health(i, err);
	case DF_ARG:
	case DF_ENV:
	case DF_LABEL:
		return check_pairs(i, err);
	case DF_SHELL:
		return check_shell(i, err);
	case DF_ONBUILD:
		return check_onbuild(i, err);
	case DF_EXPOSE:
	case DF_VOLUME:
		return check_words(i, err);
	case DF_CMD:
	case DF_ENTRYPOINT:
		return no_flags(i, err);
	case DF_MAINTAINER:
	case DF_STOPSIGNAL:
	case DF_USER:
	case DF_WORKDIR:
		return exactly_one(i, err);
	case DF_NONE:
		break;
	}
	return bxc_err_set(err, BXC_INTERNAL, "instruction without a kind");
}
