/* SPDX-License-Identifier: Apache-2.0 */
/* --call and --check: questions about a Dockerfile, and their answers as buildx prints them. */
#include "client/cmd/cmd_internal.h"

#include <string.h>

#include "client/progress/progress.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"

static int set_field(build_call *c, const char *field, const char *spec, bxc_err **err)
{
	const char *eq = strchr(field, '=');
	if (!eq) {
		if (c->name)
			return bxc_err_set(
				err, BXC_INVALID_ARGUMENT, "invalid call value: %.64s", spec);
		c->name = bxc_strdup(field);
		return 0;
	}
	if (bxc_str_has_prefix(field, "format=")) {
		if (!bxc_str_eq(eq + 1, "json") && !bxc_str_eq(eq + 1, "text"))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"--call: format '%.64s' is neither json nor text", eq + 1);
		c->json = bxc_str_eq(eq + 1, "json");
		return 0;
	}
	if (bxc_str_has_prefix(field, "ignorestatus=")) {
		int r = bxc_str_to_bool(eq + 1, &c->ignore_status, err);
		return bxc_err_wrap(err, r, "invalid ignorestatus call value");
	}
	return bxc_err_set(err, BXC_INVALID_ARGUMENT,
		"invalid call field: %.64s (name, format=, ignorestatus=)", field);
}

static int set_name(build_call *c, bxc_err **err)
{
	static const char *const known[] = {
		"build", "check", "lint", "outline", "targets", "subrequests.describe"};
	/* "lint" is the frontend's word for it. */
	if (bxc_str_eq(c->name, "check")) {
		free(c->name);
		c->name = bxc_strdup("lint");
	}
	for (size_t i = 0; i < BXC_ARRAY_SIZE(known); i++)
		if (bxc_str_eq(c->name, known[i]))
			return 0;
	const char *near = bxc_str_nearest(c->name, known, BXC_ARRAY_SIZE(known));
	if (near)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"unsupported request \"%.64s\" (did you mean %s?)", c->name, near);
	return bxc_err_set(err, BXC_INVALID_ARGUMENT,
		"unsupported request \"%.64s\" (build, check, outline, targets or "
		"subrequests.describe)",
		c->name);
}

int call_parse(const char *spec, build_call *ret, bxc_err **err)
{
	BXC_AUTOSTRV char **fields = bxc_strv_split(spec, ',');
	int r = 0;
	for (char **f = fields; r >= 0 && *f; f++)
		r = set_field(ret, *f, spec, err);
	if (r >= 0 && !ret->name)
		ret->name = bxc_strdup("build");
	if (r >= 0)
		r = set_name(ret, err);
	if (r >= 0 && bxc_str_eq(ret->name, "build")) {
		free(ret->name);
		ret->name = NULL;
	}
	return r;
}

/* ---- answers ---- */

/* The file goes into the document here: whoever asks has it. */
static void add_source(const build_plan *p, bxc_json *doc)
{
	bool is_lint = bxc_str_eq(p->call.name, "lint");
	BXC_AUTOFREE char *data = bxc_base64_encode(bxc_buf_text(&p->dockerfile), p->dockerfile.len);
	if (!bxc_json_is_object(doc))
		return;
	bxc_json *error = bxc_json_dup(bxc_json_get(doc, "buildError"));
	bxc_json_del(doc, "buildError");
	bxc_json *list = bxc_json_add_array(doc, "sources");
	if (is_lint) {
		bxc_json *s = bxc_json_push_object(list);
		bxc_json_set_str(s, "filename", p->dockerfile_name);
		bxc_json_set_str(s, "data", data);
		bxc_json_set_str(s, "language", "Dockerfile");
	} else {
		bxc_json_push_str(list, data);
	}
	bxc_json_set_take(doc, "buildError", error);
}

static void lines_of(const bxc_json *place, uint64_t *first, uint64_t *last)
{
	*first = *last = 0;
	BXC_JSON_FOREACH (r, bxc_json_get(bxc_json_get(place, "location"), "ranges")) {
		uint64_t start = bxc_json_get_u64(bxc_json_get(r, "start"), "line", 0);
		uint64_t end = bxc_json_get_u64(bxc_json_get(r, "end"), "line", 0);
		if (!*first || start < *first)
			*first = start;
		*last = BXC_MAX(*last, end);
	}
}

static void print_place(const build_plan *p, const bxc_json *place, FILE *out)
{
	uint64_t first, last;
	lines_of(place, &first, &last);
	if (first)
		bxc_prog_excerpt(
			out, p->dockerfile_name, bxc_buf_text(&p->dockerfile), first, last);
}

static int compare_places(const void *a, const void *b)
{
	uint64_t x, y, end;
	lines_of(*(const bxc_json *const *)a, &x, &end);
	lines_of(*(const bxc_json *const *)b, &y, &end);
	if (x != y)
		return x < y ? -1 : 1;
	/* Else in the order in which they were found. */
	const bxc_json *const *p = a, *const *q = b;
	return bxc_json_get_i64(*p, "order", 0) < bxc_json_get_i64(*q, "order", 0) ? -1 : 1;
}

static void print_warnings(const build_plan *p, bxc_json *doc, FILE *out)
{
	BXC_ARR(bxc_json *) list = {0};
	int64_t order = 0;
	BXC_JSON_FOREACH (w, bxc_json_get(doc, "warnings")) {
		bxc_json *copy = bxc_json_dup(w);
		bxc_json_set_i64(copy, "order", order++);
		*bxc_arr_push(&list) = copy;
	}
	if (list.n == 1)
		fputs("Check complete, 1 warning has been found!\n", out);
	else if (list.n)
		fprintf(out, "Check complete, %zu warnings have been found!\n", list.n);
	if (list.n)
		qsort(list.v, list.n, sizeof(*list.v), compare_places);
	BXC_ARR_FOREACH (w, &list) {
		const char *url = bxc_json_get_str(*w, "url", NULL);
		fprintf(out, "\nWARNING: %s%s%s\n%s\n", bxc_json_get_str(*w, "ruleName", ""),
			url ? " - " : "", url ? url : "", bxc_json_get_str(*w, "detail", ""));
		print_place(p, *w, out);
		bxc_json_free(*w);
	}
	bxc_arr_done(&list);
}

/* Columns as wide as their widest cell and `gap`; the last one has no end. */
typedef BXC_ARR(const char *) cells;

static void print_table(const cells *c, size_t columns, size_t gap, FILE *out)
{
	for (size_t i = 0; i < c->n; i++) {
		size_t column = i % columns, width = 0;
		for (size_t k = column; k < c->n; k += columns)
			width = BXC_MAX(width, strlen(c->v[k]));
		if (column + 1 == columns)
			fprintf(out, "%s\n", c->v[i]);
		else
			fprintf(out, "%-*s", (int)(width + gap), c->v[i]);
	}
}

static void print_list(const bxc_json *list, const char *const *keys, const char *const *heads,
	size_t columns, size_t gap, FILE *out)
{
	cells c = {0};
	for (size_t k = 0; k < columns; k++)
		*bxc_arr_push(&c) = heads[k];
	BXC_JSON_FOREACH (e, list) {
		for (size_t k = 0; k < columns; k++) {
			const char *text = bxc_json_get_str(e, keys[k], "");
			if (bxc_str_eq(keys[k], "required"))
				text = bxc_json_get_bool(e, keys[k], false) ? "true" : "";
			*bxc_arr_push(&c) = text;
		}
	}
	print_table(&c, columns, gap, out);
	bxc_arr_done(&c);
}

static void print_outline(const bxc_json *doc, FILE *out)
{
	static const char *const arg_keys[] = {"name", "value", "description"},
				 *const arg_heads[] = {"BUILD ARG", "VALUE", "DESCRIPTION"};
	static const char *const keys[] = {"name", "required"},
				 *const secret_heads[] = {"SECRET", "REQUIRED"},
				 *const ssh_heads[] = {"SSH", "REQUIRED"};
	const char *name = bxc_json_get_str(doc, "name", NULL),
		   *about = bxc_json_get_str(doc, "description", NULL);
	if (name || about)
		fprintf(out, about ? "TARGET:      %s\nDESCRIPTION: %s\n\n" : "TARGET: %s\n\n",
			name ? name : "(default)", about);
	if (bxc_json_len(bxc_json_get(doc, "args"))) {
		print_list(bxc_json_get(doc, "args"), arg_keys, arg_heads, 3, 3, out);
		fputc('\n', out);
	}
	if (bxc_json_len(bxc_json_get(doc, "secrets"))) {
		print_list(bxc_json_get(doc, "secrets"), keys, secret_heads, 2, 3, out);
		fputc('\n', out);
	}
	if (bxc_json_len(bxc_json_get(doc, "ssh"))) {
		print_list(bxc_json_get(doc, "ssh"), keys, ssh_heads, 2, 3, out);
		fputc('\n', out);
	}
}

static void print_targets(const bxc_json *doc, FILE *out)
{
	static const char *const keys[] = {"name", "description"}, *const heads[] = {
									   "TARGET", "DESCRIPTION"};
	BXC_AUTOJSON bxc_json *shown = bxc_json_array();
	BXC_JSON_FOREACH (t, bxc_json_get(doc, "targets")) {
		const char *name = bxc_json_get_str(t, "name", NULL);
		bool is_default = bxc_json_get_bool(t, "default", false);
		BXC_AUTOFREE char *text = bxc_str_fmt("%s%s%s", name ? name : "",
			name && is_default ? " " : "", is_default ? "(default)" : "");
		bxc_json *e = bxc_json_push_object(shown);
		bxc_json_set_str(e, "name", text);
		bxc_json_set_str(e, "description", bxc_json_get_str(t, "description", ""));
	}
	print_list(shown, keys, heads, 2, 1, out);
}

static void print_calls(const bxc_json *doc, FILE *out)
{
	static const char *const keys[] = {"name", "version", "description"},
				 *const heads[] = {"NAME", "VERSION", "DESCRIPTION"};
	BXC_AUTOJSON bxc_json *shown = bxc_json_array();
	BXC_JSON_FOREACH (t, doc) {
		bxc_json *e = bxc_json_push_object(shown);
		const char *name = bxc_json_get_str(t, "name", "");
		bxc_json_set_str(e, "name",
			bxc_str_has_prefix(name, "frontend.") ? name + strlen("frontend.") : name);
		bxc_json_set_str(e, "version", bxc_json_get_str(t, "version", ""));
		bxc_json_set_str(e, "description", bxc_json_get_str(t, "description", ""));
	}
	print_list(shown, keys, heads, 3, 1, out);
}

int call_print(const build_plan *p, const bxc_json *answer, FILE *out, FILE *err_out)
{
	BXC_AUTOJSON bxc_json *doc = bxc_json_dup(bxc_json_get(answer, "document"));
	int status = p->call.ignore_status ? 0 : (int)bxc_json_get_i64(answer, "status", 0);
	const bxc_json *failure = bxc_json_get(doc, "buildError");
	if (p->call.json) {
		add_source(p, doc);
		BXC_AUTOFREE char *text = bxc_json_print_pretty(doc);
		fprintf(out, "%s\n", text);
		failure = bxc_json_get(doc, "buildError");
	} else if (bxc_str_eq(p->call.name, "outline")) {
		print_outline(doc, out);
	} else if (bxc_str_eq(p->call.name, "targets")) {
		print_targets(doc, out);
	} else if (bxc_str_eq(p->call.name, "subrequests.describe")) {
		print_calls(doc, out);
	} else {
		print_warnings(p, doc, out);
		if (failure && bxc_json_len(bxc_json_get(doc, "warnings")))
			fputc('\n', out);
		else if (!failure && !bxc_json_len(bxc_json_get(doc, "warnings")))
			fputs("Check complete, no warnings found.\n", out);
	}
	if (!failure)
		return status ? BXC_EXIT_FAILED : BXC_EXIT_OK;
	fflush(out);
	fprintf(err_out, "ERROR: %s\n", bxc_json_get_str(failure, "message", ""));
	print_place(p, failure, err_out);
	return BXC_EXIT_FAILED;
}
