/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON documents that answer --call, with the fields of BuildKit's but "sources": whoever asks
 * has the file.
 */
#include "coordinator/dockerfile/dockerfile_internal.h"

#define MAX_RANGES     100u   /* of one place: a longer one is told as one range */
#define MAX_ALL_RANGES 10000u /* of the warnings of one file: the documents stay small */

static bxc_json *position(bxc_json *range, const char *key, uint32_t line)
{
	bxc_json *p = bxc_json_add_object(range, key);
	bxc_json_set_number(p, "line", line);
	return p;
}

/* One range for each line, or one for all. */
bxc_json *df_location(uint32_t line, uint32_t line_end, bool each_line)
{
	bxc_json *j = bxc_json_object();
	if (!line)
		return j;
	bxc_json *ranges = bxc_json_add_array(j, "ranges");
	line_end = BXC_MAX(line, line_end);
	uint32_t step = each_line && line_end - line < MAX_RANGES ? 0 : line_end - line;
	for (uint32_t l = line; l <= line_end; l += step + 1) {
		bxc_json *range = bxc_json_push_object(ranges);
		position(range, "start", l);
		position(range, "end", l + step);
	}
	return j;
}

bxc_json *bxc_df_check_document(const bxc_df_result *r, const bxc_err *failure)
{
	uint32_t n_ranges = 0;
	bxc_json *doc = bxc_json_object();
	bxc_json *list = bxc_json_add_array(doc, "warnings");
	BXC_ARR_FOREACH (w, &r->warnings) {
		if (!w->rule)
			continue;
		bxc_json *j = bxc_json_push_object(list);
		bxc_json_set_str(j, "ruleName", w->rule->name);
		bxc_json_set_str(j, "description", w->rule->description);
		bxc_json_set_str(j, "url", w->rule->url);
		bxc_json_set_str(j, "detail", w->text);
		n_ranges += BXC_MIN(w->line_end - w->line, MAX_RANGES);
		bxc_json_set_take(j, "location",
			df_location(w->line, w->line_end, n_ranges < MAX_ALL_RANGES));
	}
	if (!failure)
		return doc;
	uint64_t line = 0, line_end = 0;
	const char *first = bxc_err_get_detail(failure, "line");
	const char *last = bxc_err_get_detail(failure, "line_end");
	if (first && bxc_str_to_u64(first, 0, UINT32_MAX, &line, NULL) == 0 && last)
		bxc_ignore(bxc_str_to_u64(last, 0, UINT32_MAX, &line_end, NULL));
	bxc_json *e = bxc_json_add_object(doc, "buildError");
	bxc_json_set_str(e, "message", bxc_err_text(failure));
	bxc_json_set_take(e, "location", df_location((uint32_t)line, (uint32_t)line_end, true));
	return doc;
}

bxc_json *bxc_df_targets_document(const bxc_df_ast *a)
{
	bxc_json *doc = bxc_json_object();
	bxc_json *list = bxc_json_add_array(doc, "targets");
	for (size_t k = 0; k < a->stages.n; k++) {
		const df_instr *i = a->stages.v[k].from;
		BXC_AUTOFREE char *about = df_description(i);
		bxc_json *j = bxc_json_push_object(list);
		bxc_json_set_str(j, "name", i->stage);
		if (k + 1 == a->stages.n)
			bxc_json_set_bool(j, "default", true);
		bxc_json_set_str(j, "description", bxc_str_empty(about) ? NULL : about);
		bxc_json_set_str(j, "base", i->base);
		bxc_json_set_str(j, "platform", i->platform);
		bxc_json_set_take(j, "location", df_location(i->line, i->line_end, true));
	}
	return doc;
}

bxc_json *bxc_df_describe_document(void)
{
	static const struct {
		const char *name, *about, *opt, *opt_about;
		bool has_status;
	} calls[] = {
		{"frontend.outline", "List all parameters current build target supports", "target",
			"Target build stage", false},
		{"frontend.targets", "List all targets current build supports", NULL, NULL, false},
		{"frontend.lint", "Lint a Dockerfile", NULL, NULL, true},
		{"frontend.subrequests.describe", "List available subrequest types", NULL, NULL,
			false},
	};
	static const char *const results[] = {"result.json", "result.txt", "result.statuscode"};
	bxc_json *doc = bxc_json_array();
	for (size_t i = 0; i < BXC_ARRAY_SIZE(calls); i++) {
		bxc_json *j = bxc_json_push_object(doc);
		bxc_json_set_str(j, "name", calls[i].name);
		bxc_json_set_str(j, "version", "1.0.0");
		bxc_json_set_str(j, "type", "rpc");
		bxc_json_set_str(j, "description", calls[i].about);
		bxc_json *opts = bxc_json_add_array(j, "opts");
		if (calls[i].opt) {
			bxc_json *opt = bxc_json_push_object(opts);
			bxc_json_set_str(opt, "name", calls[i].opt);
			bxc_json_set_str(opt, "description", calls[i].opt_about);
		}
		bxc_json *metadata = bxc_json_add_array(j, "metadata");
		for (size_t k = 0; k < BXC_ARRAY_SIZE(results) - !calls[i].has_status; k++)
			bxc_json_set_str(bxc_json_push_object(metadata), "name", results[k]);
	}
	return doc;
}
