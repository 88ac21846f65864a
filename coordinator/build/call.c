/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that ask about a Dockerfile instead of building it (--check, --call), and the warnings
 * of those that build.
 */
#include "coordinator/build/build_internal.h"

#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"

#define DOCUMENT_MAX (BXC_LIMIT_MESSAGE - (256u << 10)) /* bytes; it travels in one message */

int call_read(build *b, bxc_err **err)
{
	static const struct {
		const char *name;
		call_kind kind;
	} calls[] = {{"", CALL_NONE}, {"lint", CALL_LINT}, {"outline", CALL_OUTLINE},
		{"targets", CALL_TARGETS}, {"subrequests.describe", CALL_DESCRIBE}};
	const char *name = bxc_json_get_str(b->request, "call", "");
	size_t i = 0;
	while (i < BXC_ARRAY_SIZE(calls) && !bxc_str_eq(calls[i].name, name))
		i++;
	if (i == BXC_ARRAY_SIZE(calls))
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "call: unsupported request \"%.64s\"", name);
	b->call = calls[i].kind;
	const bxc_json *ignore = bxc_json_get(b->request, "ignore");
	if (!ignore)
		return 0;
	const char *file, *data;
	BXC_AUTOBUF bxc_buf text = BXC_BUF_INIT(BXC_LIMIT_DOCKERFILE);
	int r = bxc_json_need_str(ignore, "name", &file, err);
	if (r >= 0)
		r = bxc_json_need_str(ignore, "data", &data, err);
	if (r >= 0)
		r = bxc_base64_decode(data, BXC_LIMIT_DOCKERFILE, &text, err);
	if (r >= 0)
		r = bxc_ignore_parse(bxc_buf_slice(&text), file, &b->ignore, err);
	return bxc_err_wrap(err, r, "ignore");
}

bool call_is_ignored(const char *path, void *ud)
{
	const build *b = ud;
	return bxc_ignore_leaves_out(b->ignore, path);
}

/* ---- warnings ---- */

static void warn(build *b, const bxc_df_warning *w)
{
	BXC_AUTOFREE char *place = w->line ? bxc_str_fmt(" (line %u)", w->line) : bxc_strdup("");
	BXC_AUTOFREE char *text = bxc_str_fmt(
		"%s%s%s%s", w->rule ? w->rule->name : "", w->rule ? ": " : "", w->text, place);
	bxc_json *j = warning_new(b, b->file_vertex, text);
	if (!j)
		return;
	if (w->rule) {
		bxc_json_push_str(bxc_json_add_array(j, "detail"), w->rule->description);
		bxc_json_set_str(j, "url", w->rule->url);
	}
	if (w->line) {
		bxc_json_set_str(j, "file", b->dockerfile_name);
		bxc_json_set_u64(j, "line_start", w->line);
		bxc_json_set_u64(j, "line_end", w->line_end);
	}
	report(b, j);
}

void call_warnings(build *b, bxc_df_result *r_take)
{
	if (b->call == CALL_LINT) {
		/* Each pass finds what the one before found, and more. */
		bxc_df_result_done(&b->checked);
		b->checked = *r_take;
		*r_take = (bxc_df_result){0};
		return;
	}
	for (; b->call == CALL_NONE && b->n_warned < r_take->warnings.n; b->n_warned++)
		warn(b, &r_take->warnings.v[b->n_warned]);
}

/* ---- answers ---- */

static void answer(build *b, int status, bxc_json *document_take)
{
	BXC_AUTOFREE char *text = bxc_json_print(document_take);
	if (strlen(text) > DOCUMENT_MAX) {
		bxc_err *err = NULL;
		bxc_json_free(document_take);
		bxc_ignore(bxc_err_set(&err, BXC_RESOURCE_EXHAUSTED,
			"the answer is larger than %u bytes", DOCUMENT_MAX));
		build_finish(b, "failed", err, NULL);
		return;
	}
	bxc_json *result = bxc_json_object();
	bxc_json *call = bxc_json_add_object(result, "call");
	bxc_json_set_i64(call, "status", status);
	bxc_json_set_take(call, "document", document_take);
	build_finish(b, "done", NULL, result);
}

static void answer_check(build *b, const bxc_err *failure)
{
	bool found = failure != NULL;
	BXC_ARR_FOREACH (w, &b->checked.warnings)
		found = found || w->rule;
	answer(b, found, bxc_df_check_document(&b->checked, failure));
}

bool call_parsed(build *b)
{
	if (b->call == CALL_TARGETS)
		answer(b, 0, bxc_df_targets_document(b->ast));
	else if (b->call == CALL_DESCRIBE)
		answer(b, 0, bxc_df_describe_document());
	else
		return false;
	return true;
}

bool call_lowered(build *b, bxc_df_result *r)
{
	if (b->call == CALL_LINT)
		answer_check(b, NULL);
	else if (b->call == CALL_OUTLINE)
		answer(b, 0, BXC_TAKE(r->outline));
	else
		return false;
	return true;
}

bool call_failed(build *b, bxc_err *err_take)
{
	if (b->call != CALL_LINT || b->canceled || b->dead)
		return false;
	answer_check(b, err_take);
	bxc_err_free(err_take);
	return true;
}
