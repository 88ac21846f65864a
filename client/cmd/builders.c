/* SPDX-License-Identifier: Apache-2.0 */
/* create, use, ls, inspect, rm. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "client/cmd/cmd_internal.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/cli/table.h"
#include "common/os/fs.h"

#define TOKEN_MAX 514u

int cmd_fail(const bxc_err *err)
{
	fprintf(stderr, "ERROR: %s\n", bxc_err_text(err));
	bxc_code code = bxc_err_code(err);
	/* Only what came from talking to a coordinator has codes of its own. */
	if (strncmp(bxc_err_text(err), "builder '", 9) == 0)
		return (int)bxc_exit_from_code(code);
	return BXC_EXIT_FAILED;
}

int cmd_builder(const bxc_cli *cli, bxc_builder **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_bstore_freep) bxc_bstore *store = NULL;
	int r = bxc_bstore_open(false, &store, err);
	return r < 0 ? r : bxc_bstore_resolve(store, bxc_cli_str(cli, "builder"), ret, err);
}

static int read_token(const char *path, bxc_secret **ret, bxc_err **err)
{
	int r = bxc_fs_read_secret(AT_FDCWD, path, TOKEN_MAX, ret, err);
	return r < 0 ? bxc_err_wrap(err, r, "token file '%s'", path) : 0;
}

static int create(const bxc_cli *cli, bxc_err **err)
{
	BXC_CLEANUP(bxc_bstore_freep) bxc_bstore *store = NULL;
	BXC_CLEANUP(bxc_builder_freep) bxc_builder *b = bxc_calloc(1, sizeof(*b));
	BXC_CLEANUP(bxc_http_client_freep) bxc_http_client *http = NULL;
	const char *name = bxc_cli_str(cli, "name"), *token = bxc_cli_str(cli, "token-file"), *ca = bxc_cli_str(cli, "ca");
	BXC_AUTOFREE char *rand = bxc_rand_hex(4);
	b->name = name ? bxc_strdup(name) : bxc_str_fmt("builder-%s", rand);
	b->endpoint = bxc_strdup(bxc_cli_arg(cli, 0));
	b->ca_file = ca ? realpath(ca, NULL) : NULL;
	if (!bxc_builder_name_is_valid(b->name))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid name '%s': a letter, then letters, digits, '.', '_', '-'", b->name);
	if (!bxc_str_has_prefix(b->endpoint, "http://") && !bxc_str_has_prefix(b->endpoint, "https://") && !bxc_str_has_prefix(b->endpoint, "unix:"))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "endpoint '%s' is none of http://host:port, https://host:port, unix:PATH", b->endpoint);
	size_t n = strlen(b->endpoint);
	if (n && b->endpoint[n - 1] == '/')
		b->endpoint[n - 1] = '\0';
	int r = token ? read_token(token, &b->token, err) : 0;
	if (r >= 0)
		r = bxc_bstore_open(true, &store, err);
	if (r >= 0 && bxc_bstore_find(store, b->name))
		r = bxc_err_set(err, BXC_ALREADY_EXISTS, "existing instance for \"%s\": remove it first (bxc rm %s)", b->name, b->name);
	if (r >= 0)
		r = bxc_capi_http(b, &http, err);
	/* Asked now, so that a wrong address or token shows at once; remembered, so that builds need not ask. */
	if (r >= 0)
		r = bxc_capi_channel(http, b, &b->channel, err);
	BXC_AUTOFREE char *added = bxc_strdup(b->name);
	if (r >= 0)
		r = bxc_bstore_add(store, BXC_TAKE(b), err);
	if (r >= 0 && bxc_cli_flag(cli, "use"))
		r = bxc_bstore_use(store, added, err);
	if (r >= 0)
		r = bxc_bstore_save(store, err);
	if (r >= 0)
		printf("%s\n", added);
	return r;
}

int cmd_create(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	(void)ud;
	return create(cli, &err) < 0 ? cmd_fail(err) : BXC_EXIT_OK;
}

static int change(const char *name, int (*what)(bxc_bstore *s, const char *name, bxc_err **err))
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_bstore_freep) bxc_bstore *store = NULL;
	int r = bxc_bstore_open(true, &store, &err);
	if (r >= 0)
		r = what(store, name, &err);
	if (r >= 0)
		r = bxc_bstore_save(store, &err);
	return r < 0 ? cmd_fail(err) : BXC_EXIT_OK;
}

int cmd_use(const bxc_cli *cli, void *ud)
{
	(void)ud;
	return change(bxc_cli_arg(cli, 0), bxc_bstore_use);
}

int cmd_rm(const bxc_cli *cli, void *ud)
{
	(void)ud;
	int code = change(bxc_cli_arg(cli, 0), bxc_bstore_remove);
	if (code == BXC_EXIT_OK)
		printf("%s removed\n", bxc_cli_arg(cli, 0));
	return code;
}

/* ---- looks ---- */

static int workers_of(const bxc_builder *b, bxc_json **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_http_client_freep) bxc_http_client *http = NULL;
	int r = bxc_capi_http(b, &http, err);
	return r < 0 ? r : bxc_capi_call(http, b, "GET", "/v1/workers", NULL, ret, err);
}

char *cmd_join(const bxc_json *arr)
{
	BXC_AUTOSTRV char **v = NULL;
	BXC_JSON_FOREACH (s, arr)
		if (bxc_json_string(s) && !bxc_strv_has(v, bxc_json_string(s)))
			bxc_strv_push(&v, bxc_json_string(s));
	return bxc_strv_join(v, ", ");
}

static bxc_json *look(bxc_builder *b, bool is_current)
{
	bxc_json *o = bxc_json_object();
	BXC_AUTOJSON bxc_json *w = NULL;
	BXC_AUTOERR bxc_err *err = NULL;
	bool asleep = b->embedded && bxc_embedded_probe(b, NULL) <= 0;
	bxc_json_set_str(o, "name", b->name);
	bxc_json_set_str(o, "endpoint", b->endpoint ? b->endpoint : "embedded");
	bxc_json_set_bool(o, "current", is_current);
	if (asleep) {
		bxc_json_set_str(o, "status", "inactive");
	} else if (workers_of(b, &w, &err) < 0) {
		bxc_json_set_str(o, "status", "unreachable");
		bxc_json_set_str(o, "error", bxc_err_text(err));
	} else {
		bxc_json_set_str(o, "status", "running");
		bxc_json_set_take(o, "workers", bxc_json_dup(bxc_json_get(w, "workers")));
	}
	return o;
}

int cmd_ls(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_bstore_freep) bxc_bstore *store = NULL;
	BXC_CLEANUP(bxc_builder_freep) bxc_builder *embedded = NULL;
	BXC_AUTOJSON bxc_json *all = bxc_json_array();
	(void)ud;
	int r = bxc_bstore_open(false, &store, &err);
	if (r >= 0)
		r = bxc_bstore_resolve(store, BXC_BUILDER_EMBEDDED, &embedded, &err);
	if (r < 0)
		return cmd_fail(err);
	bxc_json_push_take(all, look(embedded, !store->current));
	BXC_ARR_FOREACH (b, &store->builders)
		bxc_json_push_take(all, look(*b, bxc_str_eq((*b)->name, store->current)));
	if (bxc_str_eq(bxc_cli_str(cli, "format"), "json")) {
		BXC_JSON_FOREACH (o, all) {
			BXC_AUTOFREE char *text = bxc_json_print(o);
			printf("%s\n", text);
		}
		return BXC_EXIT_OK;
	}
	static const char *const headers[] = {"NAME", "ENDPOINT", "STATUS", ">WORKERS", "PLATFORMS", NULL};
	BXC_CLEANUP(bxc_table_freep) bxc_table *table = bxc_table_new(headers);
	BXC_JSON_FOREACH (o, all) {
		BXC_AUTOJSON bxc_json *plats = bxc_json_array();
		BXC_JSON_FOREACH (w, bxc_json_get(o, "workers"))
			BXC_JSON_FOREACH (p, bxc_json_get(w, "platforms"))
				bxc_json_push_str(plats, bxc_json_string(p));
		BXC_AUTOFREE char *platforms = cmd_join(plats);
		BXC_AUTOFREE char *name = bxc_str_fmt("%s%s", bxc_json_get_str(o, "name", ""), bxc_json_get_bool(o, "current", false) ? "*" : "");
		BXC_AUTOFREE char *n_workers = bxc_str_fmt("%zu", bxc_json_len(bxc_json_get(o, "workers")));
		bxc_table_add_row(table, (const char *const[]){name, bxc_json_get_str(o, "endpoint", ""),
			bxc_json_get_str(o, "status", ""), n_workers, platforms});
	}
	bxc_table_print(table, stdout);
	return BXC_EXIT_OK;
}

int cmd_inspect(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_bstore_freep) bxc_bstore *store = NULL;
	BXC_CLEANUP(bxc_builder_freep) bxc_builder *b = NULL;
	BXC_AUTOJSON bxc_json *w = NULL;
	(void)ud;
	int r = bxc_bstore_open(false, &store, &err);
	if (r >= 0)
		r = bxc_bstore_resolve(store, bxc_cli_n_args(cli) ? bxc_cli_arg(cli, 0) : bxc_cli_str(cli, "builder"), &b, &err);
	if (r >= 0 && b->embedded && bxc_cli_flag(cli, "bootstrap"))
		r = bxc_embedded_start(b, &err);
	if (r < 0)
		return cmd_fail(err);
	bool asleep = b->embedded && bxc_embedded_probe(b, NULL) <= 0;
	printf("Name:      %s\nEndpoint:  %s\n", b->name, b->endpoint ? b->endpoint : "embedded");
	if (asleep) {
		printf("Status:    inactive (it starts with the first build)\n");
		return BXC_EXIT_OK;
	}
	if (workers_of(b, &w, &err) < 0)
		return cmd_fail(err);
	printf("Status:    running\n");
	BXC_JSON_FOREACH (o, bxc_json_get(w, "workers")) {
		BXC_AUTOFREE char *p = cmd_join(bxc_json_get(o, "platforms"));
		BXC_AUTOFREE char *e = cmd_join(bxc_json_get(o, "emulated"));
		printf("\nWorker:    %s\nState:     %s\nVersion:   %s\nPlatforms: %s%s%s\nSlots:     %llu (%llu in use)\n", bxc_json_get_str(o, "name", ""),
			bxc_json_get_str(o, "state", ""), bxc_json_get_str(o, "version", ""), p, *e ? ", emulated: " : "", e,
			(unsigned long long)bxc_json_get_u64(o, "slots", 0), (unsigned long long)bxc_json_get_u64(o, "running", 0));
	}
	return BXC_EXIT_OK;
}
