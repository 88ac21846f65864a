/* SPDX-License-Identifier: Apache-2.0 */
/* What parses as a repository is the same after a trip through a definition, and safe for git. */
#include <string.h>

#include "common/base/mem.h"
#include "common/remote/remote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const bxc_git_ref *g)
{
	BXC_AUTOFREE char *identifier = NULL, *identifier2 = NULL;
	BXC_AUTOSTRV char **attrs = NULL, **attrs2 = NULL;
	BXC_AUTOGITREF bxc_git_ref again = {0};
	bxc_check(*g->remote && *g->remote != '-');
	bxc_check(!g->ref || *g->ref != '-');
	bxc_check(!g->subdir || bxc_str_is_clean_path(g->subdir, strlen(g->subdir)));
	bxc_git_ref_to_source(g, &identifier, &attrs);
	bxc_check(bxc_git_ref_from_source(identifier, attrs, &again, NULL) == 0);
	bxc_check(bxc_str_eq(g->remote, again.remote) && bxc_str_eq(g->ref, again.ref) &&
		  bxc_str_eq(g->subdir, again.subdir) && bxc_str_eq(g->checksum, again.checksum));
	bxc_git_ref_to_source(&again, &identifier2, &attrs2);
	bxc_check(bxc_str_eq(identifier, identifier2) && bxc_strv_eq(attrs, attrs2));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	BXC_AUTOFREE char *s = bxc_strndup((const char *)data, size);
	BXC_AUTOGITREF bxc_git_ref g = {0}, other = {0};
	if (bxc_git_ref_parse(s, true, &g, NULL) == 1)
		check(&g);
	BXC_AUTOSTRV char **attrs = NULL;
	bxc_strv_pushf(&attrs, "git.fullurl=%s", s);
	if (bxc_git_ref_from_source(s, attrs, &other, NULL) == 0)
		bxc_check(*other.remote != '-');
	BXC_AUTOFREE char *name = bxc_remote_url_name(s), *host = bxc_remote_host(s);
	BXC_AUTOFREE char *shown = bxc_remote_redact(s);
	bxc_check(!name || !strchr(name, '/'));
	if (bxc_remote_check_http(s, NULL) == 0)
		bxc_check(*host && strchr(s, ':') && *shown);
	return 0;
}
