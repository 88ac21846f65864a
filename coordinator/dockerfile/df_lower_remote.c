/* SPDX-License-Identifier: Apache-2.0 */
/* ADD of what lies elsewhere: a file of a web server, a git repository. */
#include "common/remote/remote.h"
#include "coordinator/dockerfile/dockerfile_internal.h"

int df_remote_kind(const char *path, df_remote *ret, bxc_err **err)
{
	BXC_AUTOGITREF bxc_git_ref g = {0};
	int r = bxc_git_ref_parse(path, false, &g, err);
	*ret = r > 0 ? DF_REMOTE_GIT : bxc_remote_is_http(path) ? DF_REMOTE_HTTP : DF_REMOTE_NONE;
	return r < 0 ? r : 0;
}

static int git_source(const df_instr *i, const char *path, const char *checksum, bxc_op_source *ret,
	bxc_err **err)
{
	BXC_AUTOGITREF bxc_git_ref g = {0};
	int r = bxc_git_ref_parse(path, false, &g, err);
	if (r < 0)
		return r;
	bxc_git_tri flag = i->keep_git_dir == DF_TRUE	 ? BXC_GIT_YES
			   : i->keep_git_dir == DF_FALSE ? BXC_GIT_NO
							 : BXC_GIT_UNSET;
	if (flag && g.keep_git_dir && flag != g.keep_git_dir)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "inconsistent keep-git-dir configuration");
	if (flag)
		g.keep_git_dir = flag;
	if (!bxc_str_empty(checksum)) {
		BXC_AUTOFREE char *sum = bxc_git_checksum(checksum);
		if (!sum)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"invalid checksum \"%.128s\": expected the name of a commit, or "
				"at least 7 digits of it",
				checksum);
		if (g.checksum && !bxc_str_eq(g.checksum, sum))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"checksum conflicts: \"%s\" vs \"%s\"", g.checksum, sum);
		free(g.checksum);
		g.checksum = BXC_TAKE(sum);
	}
	bxc_git_ref_to_source(&g, &ret->identifier, &ret->attrs);
	return 0;
}

static int http_source(
	const char *path, const char *checksum, bxc_op_source *ret, char **ret_file, bxc_err **err)
{
	int r = bxc_remote_check_http(path, err);
	bxc_digest d;
	if (r == 0 && !bxc_str_empty(checksum))
		r = bxc_err_wrap(err, bxc_digest_parse(checksum, &d, err), "checksum");
	if (r < 0)
		return r;
	char *name = bxc_remote_url_name(path);
	*ret_file = name ? name : bxc_strdup("__unnamed__");
	ret->identifier = bxc_strdup(path);
	if (!bxc_str_empty(checksum))
		bxc_strv_pushf(&ret->attrs, "http.checksum=%s", checksum);
	bxc_strv_pushf(&ret->attrs, "http.filename=%s", *ret_file);
	return 0;
}

int df_remote_source(df_lower *lw, const df_stage *s, const df_cmd *c, const char *path,
	df_remote kind, const char *checksum, uint32_t *ret, char **ret_file, bxc_err **err)
{
	*ret_file = NULL;
	BXC_CLEANUP(bxc_def_vertex_freep) bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	int r = kind == DF_REMOTE_GIT ? git_source(c->i, path, checksum, &v->op.source, err)
				      : http_source(path, checksum, &v->op.source, ret_file, err);
	if (r < 0)
		return r;
	/* The same for every platform. */
	df_step_meta(v, lw, s, c->line, c->line_end);
	v->platform = (bxc_platform){0};
	v->meta.name = bxc_remote_redact(path);
	v->meta.ignore_cache = false;
	return df_out_add(lw, BXC_TAKE(v), ret, err);
}

void df_remote_action(const df_instr *i, bxc_file_action *a, const char *file)
{
	if (!file) {
		a->src = bxc_strdup("/");
		a->src_dir_contents = true;
	} else {
		a->src = bxc_str_fmt("/%s", file);
		a->unpack = i->unpack == DF_TRUE;
	}
	a->exclude = bxc_strv_dup(i->exclude);
}
