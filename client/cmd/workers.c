/* SPDX-License-Identifier: Apache-2.0 */
/* worker ls, inspect, drain. */
#include <inttypes.h>
#include <stdio.h>

#include "client/cmd/cmd_internal.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/cli/table.h"

static int call(
	const known_build *k, const char *method, const char *path, bxc_json **ret, bxc_err **err)
{
	return bxc_capi_call(k->http, k->builder, method, path, NULL, ret, err);
}

static int worker_path(const bxc_cli *cli, const char *below, char **ret, bxc_err **err)
{
	const char *name = bxc_cli_arg(cli, 0);
	/* As the coordinator takes them; so that it needs no escapes in the path. */
	static const char ok[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	if (!*name || strlen(name) > 255 || strspn(name, ok) != strlen(name) || name[0] == '.')
		return cmd_usage(err, "'%.256s' is no name of a worker", name);
	*ret = bxc_str_fmt("/v1/workers/%s%s", name, below);
	return 0;
}

static void add_row(bxc_table *table, const bxc_json *w)
{
	BXC_AUTOFREE char *p = cmd_join(bxc_json_get(w, "platforms"));
	BXC_AUTOFREE char *e = cmd_join(bxc_json_get(w, "emulated"));
	BXC_AUTOFREE char *slots = bxc_str_fmt("%" PRIu64 "/%" PRIu64,
		bxc_json_get_u64(w, "running", 0), bxc_json_get_u64(w, "slots", 0));
	BXC_AUTOFREE char *platforms =
		bxc_str_fmt("%s%s%s%s", p, *e ? " (emulated: " : "", e, *e ? ")" : "");
	bxc_table_add_row(table, (const char *const[]){bxc_json_get_str(w, "name", ""),
					 bxc_json_get_str(w, "state", ""), slots,
					 bxc_json_get_str(w, "version", ""), platforms});
}

static bool is_listed(const bxc_json *workers, const char *name)
{
	BXC_JSON_FOREACH (w, workers)
		if (bxc_str_eq(bxc_json_get_str(w, "name", ""), name))
			return true;
	return false;
}

int cmd_worker_ls(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_KNOWN_BUILD known_build k = {0};
	BXC_AUTOJSON bxc_json *all = NULL;
	(void)ud;
	int r = known_connect(cli, &k, &err);
	if (r >= 0)
		r = call(&k, "GET", "/v1/workers", &all, &err);
	if (r < 0)
		return cmd_fail(err);
	bool json = bxc_str_eq(bxc_cli_str(cli, "format"), "json");
	BXC_AUTOJSON bxc_json *rows = bxc_json_dup(bxc_json_get(all, "workers"));
	/* Drained ones that are not connected are known by name only. */
	BXC_JSON_FOREACH (n, bxc_json_get(all, "drained")) {
		if (!bxc_json_string(n) || is_listed(rows, bxc_json_string(n)))
			continue;
		bxc_json *o = bxc_json_push_object(rows);
		bxc_json_set_str(o, "name", bxc_json_string(n));
		bxc_json_set_str(o, "state", "absent");
	}
	static const char *const headers[] = {
		"NAME", "STATE", "IN USE", "VERSION", "PLATFORMS", NULL};
	BXC_CLEANUP(bxc_table_freep) bxc_table *table = bxc_table_new(headers);
	BXC_JSON_FOREACH (w, rows) {
		BXC_AUTOFREE char *text = json ? bxc_json_print(w) : NULL;
		if (text)
			printf("%s\n", text);
		else
			add_row(table, w);
	}
	if (!json)
		bxc_table_print(table, stdout);
	return BXC_EXIT_OK;
}

static void mib_line(const char *key, const char *what, uint64_t bytes, const char *unit)
{
	BXC_AUTOFREE char *text = bxc_str_fmt("%s%.1f %s", what, (double)bytes / (1 << 20), unit);
	cmd_line(key, text);
}

static void print_worker(const bxc_json *w)
{
	BXC_AUTOFREE char *p = cmd_join(bxc_json_get(w, "platforms"));
	BXC_AUTOFREE char *e = cmd_join(bxc_json_get(w, "emulated"));
	BXC_AUTOFREE char *slots = bxc_str_fmt("%" PRIu64 " (%" PRIu64 " in use)",
		bxc_json_get_u64(w, "slots", 0), bxc_json_get_u64(w, "running", 0));
	const bxc_json *only = bxc_json_get(w, "only_here"), *rates = bxc_json_get(w, "bandwidth");
	BXC_AUTOFREE char *layers = bxc_str_fmt("%" PRIu64, bxc_json_get_u64(w, "layers", 0));
	BXC_AUTOFREE char *alone =
		bxc_str_fmt("%" PRIu64 " layers, ", bxc_json_get_u64(only, "layers", 0));
	cmd_line("Name:", bxc_json_get_str(w, "name", ""));
	cmd_line("State:", bxc_json_get_str(w, "state", ""));
	cmd_line("Version:", bxc_json_get_str(w, "version", ""));
	cmd_line("Address:", bxc_json_get_str(w, "address", ""));
	cmd_line("Peers:", bxc_json_get_str(w, "peer_url", ""));
	cmd_line("Platforms:", p);
	if (*e)
		cmd_line("Emulated:", e);
	cmd_line("Slots:", slots);
	cmd_line("Layers:", layers);
	mib_line("Only here:", alone, bxc_json_get_u64(only, "bytes", 0), "MiB");
	BXC_JSON_FOREACH (f, rates) {
		BXC_AUTOFREE char *what = bxc_str_fmt("from %s ", bxc_json_key(f));
		mib_line("Bandwidth:", what, bxc_json_get_u64(rates, bxc_json_key(f), 0), "MiB/s");
	}
}

int cmd_worker_inspect(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_KNOWN_BUILD known_build k = {0};
	BXC_AUTOJSON bxc_json *w = NULL;
	BXC_AUTOFREE char *path = NULL;
	(void)ud;
	if (worker_path(cli, "", &path, &err) < 0) {
		cmd_fail(err);
		return BXC_EXIT_USAGE;
	}
	int r = known_connect(cli, &k, &err);
	if (r >= 0)
		r = call(&k, "GET", path, &w, &err);
	if (r < 0)
		return cmd_fail(err);
	if (bxc_str_eq(bxc_cli_str(cli, "format"), "json")) {
		BXC_AUTOFREE char *text = bxc_json_print_pretty(w);
		printf("%s\n", text);
	} else {
		print_worker(w);
	}
	return BXC_EXIT_OK;
}

/* Whoever drains a worker is about to stop it. */
static void warn_of_layers(const bxc_json *w)
{
	const bxc_json *only = bxc_json_get(w, "only_here");
	uint64_t n = bxc_json_get_u64(only, "layers", 0);
	if (n)
		fprintf(stderr,
			"%" PRIu64 " layers (%.1f MiB) are only on this worker: others get them "
			"while it runs; without it they are made again\n",
			n, (double)bxc_json_get_u64(only, "bytes", 0) / (1 << 20));
}

int cmd_worker_drain(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_KNOWN_BUILD known_build k = {0};
	BXC_AUTOJSON bxc_json *answer = NULL, *w = NULL;
	BXC_AUTOFREE char *path = NULL, *look = NULL;
	bool undo = bxc_cli_flag(cli, "undo");
	(void)ud;
	if (worker_path(cli, undo ? "/undrain" : "/drain", &path, &err) < 0 ||
		worker_path(cli, "", &look, &err) < 0) {
		cmd_fail(err);
		return BXC_EXIT_USAGE;
	}
	int r = known_connect(cli, &k, &err);
	if (r >= 0)
		r = call(&k, "POST", path, &answer, &err);
	if (r < 0)
		return cmd_fail(err);
	printf("%s\n", bxc_cli_arg(cli, 0));
	if (!undo && call(&k, "GET", look, &w, NULL) >= 0)
		warn_of_layers(w);
	return BXC_EXIT_OK;
}
