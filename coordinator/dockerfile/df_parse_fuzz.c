/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a Dockerfile: read or refused; what is read has sound lines, and can be shown. */
#include "coordinator/dockerfile/dockerfile_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_CLEANUP(bxc_df_ast_freep) bxc_df_ast *a = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTODFRESULT bxc_df_result checked = {0};
	const bxc_df_opts o = {.platform = {.os = "linux", .arch = "amd64"}};
	int r = bxc_df_parse_part(bxc_slice_of(data, size), "Dockerfile", &a, &err);
	bxc_df_check_part(a, &o, &checked);
	BXC_ARR_FOREACH (w, &checked.warnings)
		bxc_check(w->line_end >= w->line && strlen(w->text) <= DF_MAX_WARNING);
	BXC_AUTOJSON bxc_json *doc = bxc_df_check_document(&checked, err);
	if (r < 0) {
		bxc_check(bxc_str_has_prefix(bxc_err_text(err), "Dockerfile:"));
		return 0;
	}
	uint32_t last = 0;
	bxc_check(bxc_df_n_stages(a) > 0);
	BXC_AUTOJSON bxc_json *targets = bxc_df_targets_document(a);
	bxc_check(bxc_json_len(bxc_json_get(targets, "targets")) == bxc_df_n_stages(a));
	BXC_ARR_FOREACH (p, &a->instrs) {
		const df_instr *i = *p;
		bxc_check(i->line > last && i->line_end >= i->line);
		last = i->line_end;
		BXC_AUTOFREE char *shown = bxc_df_excerpt(
			bxc_slice_of(data, size), "Dockerfile", i->line, i->line_end);
		bxc_check(*shown);
	}
	return 0;
}
