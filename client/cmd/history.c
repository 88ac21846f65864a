/* SPDX-License-Identifier: Apache-2.0 */
/* ps, logs, cancel, history: builds that are known to the coordinator. */
#include <stdio.h>
#include <string.h>

#include "client/cmd/cmd_internal.h"
#include "client/progress/progress.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/cli/table.h"

void known_build_done(known_build *k)
{
	bxc_builder_free(k->builder);
	bxc_http_client_free(k->http);
	free(k->id);
	bxc_json_free(k->record);
	*k = (known_build){0};
}

int known_connect(const bxc_cli *cli, known_build *k, bxc_err **err)
{
	int r = cmd_builder(cli, &k->builder, err);
	if (r >= 0 && k->builder->embedded && bxc_embedded_probe(k->builder, NULL) <= 0)
		r = bxc_err_set(err, BXC_UNAVAILABLE, "builder '%s': the embedded cluster does not run: it starts with a build", k->builder->name);
	return r < 0 ? r : bxc_capi_http(k->builder, &k->http, err);
}

static int call(const known_build *k, const char *method, const char *path, bxc_json **ret, bxc_err **err)
{
	return bxc_capi_call(k->http, k->builder, method, path, NULL, ret, err);
}

int known_build_call(const known_build *k, const char *method, const char *below, bxc_json **ret, bxc_err **err)
{
	BXC_AUTOFREE char *path = bxc_str_fmt("/v1/builds/%s%s", k->id, below);
	return call(k, method, path, ret, err);
}

/* "^N": the N-th from the latest; "BUILDER/NODE/ID" as files of metadata have it; an id or the unique beginning of one. */
static int find_id(const bxc_json *builds, const char *ref, const char **ret, bxc_err **err)
{
	const char *slash = strrchr(ref, '/'), *found = NULL;
	uint64_t nth = 0, i = 0;
	bool is_offset = ref[0] == '^';
	if (is_offset && ref[1]) {
		int r = bxc_str_to_u64(ref + 1, 0, 1000000, &nth, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "build '%s'", ref);
	}
	const char *want = slash ? slash + 1 : ref;
	BXC_JSON_FOREACH (b, builds) {
		const char *id = bxc_json_get_str(b, "id", "");
		bool match = is_offset ? i == nth : *want && bxc_str_has_prefix(id, want);
		i++;
		if (!match)
			continue;
		if (found && !bxc_str_eq(found, want) && !bxc_str_eq(id, want))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "more than one build begins with '%s'", want);
		if (!found || bxc_str_eq(id, want))
			found = id;
	}
	/* What is not among the latest may still be known by its whole name. */
	*ret = found ? found : want;
	if (!found && is_offset)
		return bxc_err_set(err, BXC_NOT_FOUND, "build '%s': only %llu are known", ref, (unsigned long long)i);
	return 0;
}

static bool is_id(const char *s)
{
	return *s && strlen(s) <= 64 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(s);
}

static int find_build(known_build *k, const char *ref, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *all = NULL;
	const char *id = NULL;
	int r = call(k, "GET", "/v1/builds", &all, err);
	if (r >= 0)
		r = find_id(bxc_json_get(all, "builds"), ref, &id, err);
	if (r >= 0 && !is_id(id))
		r = bxc_err_set(err, BXC_INVALID_ARGUMENT, "'%.64s' is no id of a build", id);
	if (r < 0)
		return r;
	free(k->id);
	k->id = bxc_strdup(id);
	return 0;
}

int known_build_open(const bxc_cli *cli, known_build *k, bxc_err **err)
{
	int r = known_connect(cli, k, err);
	if (r >= 0)
		r = find_build(k, bxc_cli_n_args(cli) ? bxc_cli_arg(cli, 0) : "^0", err);
	return r < 0 ? r : known_build_call(k, "GET", "", &k->record, err);
}

/* ---- lists ---- */

static char *duration(int64_t ns)
{
	int64_t s = ns / BXC_NS_PER_S;
	if (s < 60)
		return bxc_str_fmt("%llds", (long long)s);
	if (s < 3600)
		return bxc_str_fmt("%lldm%02llds", (long long)(s / 60), (long long)(s % 60));
	if (s < 86400)
		return bxc_str_fmt("%lldh%02lldm", (long long)(s / 3600), (long long)(s / 60 % 60));
	return bxc_str_fmt("%lldd", (long long)(s / 86400));
}

char *cmd_shown(const char *text)
{
	return bxc_str_one_line(bxc_strdup(*text ? text : "-"));
}

static int print_list(const bxc_cli *cli, bool running_only)
{
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_KNOWN_BUILD known_build k = {0};
	BXC_AUTOJSON bxc_json *all = NULL;
	bool json = bxc_str_eq(bxc_cli_str(cli, "format"), "json");
	int64_t now = bxc_clock_wall_ns();
	int r = known_connect(cli, &k, &err);
	if (r >= 0)
		r = call(&k, "GET", "/v1/builds", &all, &err);
	if (r < 0)
		return cmd_fail(err);
	static const char *const headers[] = {"BUILD ID", "STATUS", "CREATED", "DURATION", "NAME", NULL};
	BXC_CLEANUP(bxc_table_freep) bxc_table *table = bxc_table_new(headers);
	BXC_JSON_FOREACH (o, bxc_json_get(all, "builds")) {
		const char *status = bxc_json_get_str(o, "status", "");
		if (running_only && !bxc_str_eq(status, "running"))
			continue;
		if (json) {
			BXC_AUTOFREE char *text = bxc_json_print(o);
			printf("%s\n", text);
			continue;
		}
		int64_t created = bxc_json_get_i64(o, "created_ns", now), completed = bxc_json_get_i64(o, "completed_ns", now);
		BXC_AUTOFREE char *since = bxc_table_age(now - created);
		BXC_AUTOFREE char *took = duration(BXC_MAX(completed - created, 0));
		const char *name = bxc_json_get_str(o, "name", "");
		bxc_table_add_row(table, (const char *const[]){bxc_json_get_str(o, "id", ""), status, since, took, *name ? name : NULL});
	}
	if (!json)
		bxc_table_print(table, stdout);
	return BXC_EXIT_OK;
}

int cmd_ps(const bxc_cli *cli, void *ud)
{
	(void)ud;
	return print_list(cli, !bxc_cli_flag(cli, "all"));
}

int cmd_history_ls(const bxc_cli *cli, void *ud)
{
	(void)ud;
	return print_list(cli, false);
}

/* ---- one build ---- */

int cmd_cancel(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_KNOWN_BUILD known_build k = {0};
	BXC_AUTOJSON bxc_json *answer = NULL;
	(void)ud;
	int r = known_build_open(cli, &k, &err);
	if (r >= 0)
		r = known_build_call(&k, "POST", "/cancel", &answer, &err);
	if (r < 0)
		return cmd_fail(err);
	printf("%s\n", k.id);
	return BXC_EXIT_OK;
}

int cmd_history_rm(const bxc_cli *cli, void *ud)
{
	AUTO_KNOWN_BUILD known_build k = {0};
	BXC_AUTOERR bxc_err *first = NULL;
	(void)ud;
	if (known_connect(cli, &k, &first) < 0)
		return cmd_fail(first);
	int code = BXC_EXIT_OK;
	for (size_t i = 0; i < bxc_cli_n_args(cli); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_AUTOJSON bxc_json *answer = NULL;
		int r = find_build(&k, bxc_cli_arg(cli, i), &err);
		if (r >= 0)
			r = known_build_call(&k, "DELETE", "", &answer, &err);
		if (r < 0)
			code = cmd_fail(err);
		else
			printf("%s\n", k.id);
	}
	return code;
}

void cmd_line(const char *key, const char *value)
{
	BXC_AUTOFREE char *v = cmd_shown(value);
	printf("%-11s %s\n", key, v);
}

static void time_line(const char *key, const bxc_json *build, const char *name)
{
	int64_t ns = bxc_json_get_i64(build, name, 0);
	if (!ns)
		return;
	BXC_AUTOFREE char *t = bxc_clock_rfc3339(ns);
	cmd_line(key, t);
}

int cmd_history_inspect(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_KNOWN_BUILD known_build k = {0};
	(void)ud;
	if (known_build_open(cli, &k, &err) < 0)
		return cmd_fail(err);
	const bxc_json *build = k.record;
	if (bxc_str_eq(bxc_cli_str(cli, "format"), "json")) {
		BXC_AUTOFREE char *text = bxc_json_print_pretty(build);
		printf("%s\n", text);
		return BXC_EXIT_OK;
	}
	const bxc_json *q = bxc_json_get(build, "request");
	cmd_line("Name:", bxc_json_get_str(build, "name", ""));
	cmd_line("Build ID:", k.id);
	cmd_line("Status:", bxc_json_get_str(build, "status", ""));
	time_line("Created:", build, "created_ns");
	time_line("Completed:", build, "completed_ns");
	if (bxc_json_get(build, "error"))
		cmd_line("Error:", bxc_json_get_str(bxc_json_get(build, "error"), "message", ""));
	cmd_line("Dockerfile:", bxc_json_get_str(bxc_json_get(q, "dockerfile"), "name", ""));
	if (!bxc_str_empty(bxc_json_get_str(q, "target", NULL)))
		cmd_line("Target:", bxc_json_get_str(q, "target", ""));
	BXC_JSON_FOREACH (p, bxc_json_get(q, "platforms"))
		cmd_line("Platform:", bxc_json_string(p) ? bxc_json_string(p) : "");
	BXC_JSON_FOREACH (w, bxc_json_get(build, "waiting")) {
		int64_t since = bxc_clock_wall_ns() - bxc_json_get_i64(w, "since_ns", 0);
		BXC_AUTOFREE char *age = duration(BXC_MAX(since, (int64_t)0));
		BXC_AUTOFREE char *text = bxc_str_fmt("%s: %s (%s)", bxc_json_get_str(w, "name", ""), bxc_json_get_str(w, "reason", ""), age);
		cmd_line("Waiting:", text);
	}
	BXC_JSON_FOREACH (e, bxc_json_get(bxc_json_get(build, "result"), "exports")) {
		const char *digest = bxc_json_get_str(bxc_json_get(e, "response"), "containerimage.digest", NULL);
		BXC_AUTOFREE char *text = bxc_str_fmt("%s%s%s", bxc_json_get_str(e, "type", ""), digest ? " " : "", digest ? digest : "");
		cmd_line("Output:", text);
	}
	return BXC_EXIT_OK;
}

/* ---- logs ---- */

static int print_pages(const known_build *k, bxc_prog *prog, bxc_err **err)
{
	uint64_t after = 0;
	bool more = true;
	while (more) {
		BXC_AUTOJSON bxc_json *page = NULL;
		BXC_AUTOFREE char *below = bxc_str_fmt("/events?follow=false&after=%llu", (unsigned long long)after);
		int r = known_build_call(k, "GET", below, &page, err);
		if (r < 0)
			return r;
		BXC_JSON_FOREACH (e, bxc_json_get(page, "events")) {
			const bxc_json *ev = bxc_json_get(e, "event");
			after = bxc_json_get_u64(e, "seq", after + 1);
			if (!bxc_str_eq(bxc_json_get_str(ev, "type", ""), "build.done"))
				bxc_prog_event(prog, ev, bxc_clock_wall_ns());
		}
		more = bxc_json_get_bool(page, "more", false) && bxc_json_len(bxc_json_get(page, "events"));
	}
	return 0;
}

int cmd_logs(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_KNOWN_BUILD known_build k = {0};
	bool raw = bxc_str_eq(bxc_cli_str(cli, "progress"), "rawjson");
	(void)ud;
	if (bxc_cli_flag(cli, "follow"))
		return cmd_follow_logs(cli);
	int r = known_build_open(cli, &k, &err);
	if (r < 0)
		return cmd_fail(err);
	BXC_CLEANUP(bxc_prog_freep) bxc_prog *prog = bxc_prog_new(&(bxc_prog_config){.mode = raw ? BXC_PROG_RAWJSON : BXC_PROG_PLAIN, .out = stdout});
	r = print_pages(&k, prog, &err);
	bxc_prog_finish(prog, NULL, bxc_clock_wall_ns());
	return r < 0 ? cmd_fail(err) : BXC_EXIT_OK;
}
