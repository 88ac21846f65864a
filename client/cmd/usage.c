/* SPDX-License-Identifier: Apache-2.0 */
/* du, prune: what the workers of a cluster keep, in buildx's forms. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cmd/cmd_internal.h"
#include "common/base/arr.h"
#include "common/base/clock.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/cli/table.h"

/* What a filter chooses. */
typedef struct filter {
	char **kinds, **ids; /* strv; NULL: all */
	int64_t unused_ns;
	int in_use; /* 1: only what is; 0: only what is not; -1: all */
} filter;

static void filter_done(filter *f)
{
	bxc_strv_free(f->kinds);
	bxc_strv_free(f->ids);
}

/* buildx's names of what is kept, and ours. */
static const char *kind_of(const char *name)
{
	static const char *const names[][2] = {{"regular", "layer"}, {"layer", "layer"},
		{"exec.cachemount", "cache"}, {"cache", "cache"}, {"source.local", "blob"},
		{"blob", "blob"}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(names); i++)
		if (bxc_str_eq(names[i][0], name))
			return names[i][1];
	return NULL;
}

static const char *type_shown(const char *kind)
{
	return bxc_str_eq(kind, "layer")   ? "regular"
	       : bxc_str_eq(kind, "cache") ? "exec.cachemount"
					   : kind;
}

static int add_filter(filter *f, const char *text, bxc_err **err)
{
	const char *eq = strchr(text, '=');
	BXC_AUTOFREE char *key = eq ? bxc_strndup(text, (size_t)(eq - text)) : bxc_strdup(text);
	const char *value = eq ? eq + 1 : "";
	if (bxc_str_eq(key, "until") || bxc_str_eq(key, "unused-for")) {
		int r = bxc_str_to_duration_ns(value, &f->unused_ns, err);
		return r < 0 ? bxc_err_wrap(err, r, "filter '%s'", text) : 0;
	}
	if (bxc_str_eq(key, "id") && *value) {
		bxc_strv_push(&f->ids, value);
		return 0;
	}
	if (bxc_str_eq(key, "type") && kind_of(value)) {
		bxc_strv_push(&f->kinds, kind_of(value));
		return 0;
	}
	if (bxc_str_eq(key, "inuse")) {
		bool yes = true;
		int r = *value ? bxc_str_to_bool(value, &yes, err) : 0;
		f->in_use = yes;
		return r < 0 ? bxc_err_wrap(err, r, "filter '%s'", text) : 0;
	}
	return cmd_usage(err,
		"filter '%.256s': expected until=DURATION, id=BEGINNING, inuse, or type=regular, "
		"type=exec.cachemount or type=blob",
		text);
}

static int read_filters(const bxc_cli *cli, filter *f, bxc_err **err)
{
	f->in_use = -1;
	for (char *const *t = bxc_cli_list(cli, "filter"); t && *t; t++) {
		int r = add_filter(f, *t, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool is_meant(const filter *f, const bxc_json *i, int64_t now_ns)
{
	const char *id = bxc_json_get_str(i, "id", "");
	bool named = !f->ids;
	for (char **p = f->ids; p && *p; p++)
		named |= bxc_str_has_prefix(id, *p);
	return named && (!f->kinds || bxc_strv_has(f->kinds, bxc_json_get_str(i, "kind", ""))) &&
	       (f->in_use < 0 || bxc_json_get_bool(i, "in_use", false) == (f->in_use == 1)) &&
	       now_ns - bxc_json_get_i64(i, "used_ns", 0) >= f->unused_ns;
}

/* ---- showing ---- */

static char *accessed(const bxc_json *i, int64_t now_ns)
{
	int64_t used = bxc_json_get_i64(i, "used_ns", 0);
	if (!used)
		return NULL;
	BXC_AUTOFREE char *age = bxc_table_age(now_ns - used);
	return bxc_str_fmt("%s ago", age);
}

static void print_line(const char *key, const char *value)
{
	BXC_AUTOFREE char *v = cmd_shown(value);
	printf("%-13s %s\n", key, v);
}

static void print_verbose(const bxc_json *i, const char *worker, bool shared, int64_t now_ns)
{
	BXC_AUTOFREE char *size = bxc_table_size(bxc_json_get_u64(i, "bytes", 0));
	BXC_AUTOFREE char *age = accessed(i, now_ns);
	print_line("ID:", bxc_json_get_str(i, "id", ""));
	print_line("Type:", type_shown(bxc_json_get_str(i, "kind", "")));
	if (bxc_json_get_str(i, "about", NULL))
		print_line("Cache id:", bxc_json_get_str(i, "about", ""));
	print_line("Worker:", worker);
	print_line("Reclaimable:", bxc_json_get_bool(i, "in_use", false) ? "false" : "true");
	print_line("Shared:", shared ? "true" : "false");
	print_line("Size:", size);
	if (age)
		print_line("Last used:", age);
	printf("\n");
}

static void add_row(bxc_table *t, const bxc_json *i, const char *worker, int64_t now_ns)
{
	BXC_AUTOFREE char *size = bxc_table_size(bxc_json_get_u64(i, "bytes", 0));
	BXC_AUTOFREE char *age = accessed(i, now_ns);
	const char *id = bxc_json_get_str(i, "id", "");
	if (bxc_str_has_prefix(id, "sha256:"))
		id += strlen("sha256:");
	BXC_AUTOFREE char *cut = bxc_strndup(id, BXC_MIN(strlen(id), (size_t)25));
	bxc_table_add_row(t,
		(const char *const[]){cut, bxc_json_get_bool(i, "in_use", false) ? "false" : "true",
			size, age, type_shown(bxc_json_get_str(i, "kind", "")), worker});
}

typedef struct sums {
	uint64_t total, reclaimable, shared;
} sums;

static void print_size(const char *key, uint64_t bytes)
{
	BXC_AUTOFREE char *size = bxc_table_size(bytes);
	printf("%-13s %s\n", key, size);
}

static void print_sums(const sums *s)
{
	print_size("Shared:", s->shared);
	print_size("Private:", s->total - s->shared);
	print_size("Reclaimable:", s->reclaimable);
	print_size("Total:", s->total);
}

/* How many workers have what is called so. */
static bxc_map *places_of(const bxc_json *workers)
{
	bxc_map *places = bxc_map_new(NULL);
	BXC_JSON_FOREACH (w, workers)
		BXC_JSON_FOREACH (i, bxc_json_get(w, "items")) {
			const char *id = bxc_json_get_str(i, "id", "");
			bxc_map_set(places, id, (void *)((uintptr_t)bxc_map_get(places, id) + 1));
		}
	return places;
}

/* A layer that more than one worker has is shared. */
static bool is_shared(const bxc_map *places, const bxc_json *i)
{
	return !bxc_str_eq(bxc_json_get_str(i, "kind", ""), "cache") &&
	       (uintptr_t)bxc_map_get(places, bxc_json_get_str(i, "id", "")) > 1;
}

/* What does not answer is told; the exit code then says that not all is known. */
static int tell_missing(const bxc_json *workers)
{
	int code = BXC_EXIT_OK;
	BXC_JSON_FOREACH (w, workers) {
		const char *error = bxc_json_get_str(w, "error", NULL);
		if (!error)
			continue;
		BXC_AUTOFREE char *name = cmd_shown(bxc_json_get_str(w, "name", ""));
		BXC_AUTOFREE char *shown = cmd_shown(error);
		fprintf(stderr, "ERROR: worker %s: %s\n", name, shown);
		code = BXC_EXIT_FAILED;
	}
	return code;
}

static int show(const bxc_cli *cli, const filter *f, const bxc_json *answer, bool is_prune)
{
	static const char *const headers[] = {
		"ID", "RECLAIMABLE", ">SIZE", "LAST ACCESSED", "TYPE", "WORKER", NULL};
	BXC_CLEANUP(bxc_table_freep) bxc_table *table = bxc_table_new(headers);
	const bxc_json *workers = bxc_json_get(answer, "workers");
	BXC_CLEANUP(bxc_map_freep) bxc_map *places = places_of(workers);
	bool json = bxc_str_eq(bxc_cli_str(cli, "format"), "json"),
	     verbose = bxc_cli_flag(cli, "verbose");
	int64_t now = bxc_clock_wall_ns();
	sums s = {0};
	size_t n = 0;
	BXC_JSON_FOREACH (w, workers) {
		const char *worker = bxc_json_get_str(w, "name", "");
		BXC_JSON_FOREACH (i, bxc_json_get(w, "items")) {
			if (!is_prune && !is_meant(f, i, now))
				continue;
			uint64_t bytes = bxc_json_get_u64(i, "bytes", 0);
			bool shared = is_shared(places, i);
			s.total += bytes;
			s.shared += shared ? bytes : 0;
			s.reclaimable += bxc_json_get_bool(i, "in_use", false) ? 0 : bytes;
			n++;
			if (json) {
				BXC_AUTOJSON bxc_json *o = bxc_json_dup(i);
				bxc_json_set_str(o, "worker", worker);
				bxc_json_set_bool(o, "shared", shared);
				BXC_AUTOFREE char *text = bxc_json_print(o);
				printf("%s\n", text);
			} else if (verbose) {
				print_verbose(i, worker, shared, now);
			} else {
				add_row(table, i, worker, now);
			}
		}
	}
	if (!json && !verbose && (n || !is_prune))
		bxc_table_print(table, stdout);
	if (!json && is_prune)
		print_size("Total:", s.total);
	else if (!json)
		print_sums(&s);
	return tell_missing(workers);
}

/* ---- the verbs ---- */

static int ask(const bxc_cli *cli, const char *method, const char *path, const bxc_json *body,
	bxc_json **ret, bxc_err **err)
{
	AUTO_KNOWN_BUILD known_build k = {0};
	int r = known_connect(cli, &k, err);
	return r < 0 ? r : bxc_capi_call(k.http, k.builder, method, path, body, ret, err);
}

int cmd_du(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *answer = NULL;
	BXC_CLEANUP(filter_done) filter f = {0};
	(void)ud;
	if (read_filters(cli, &f, &err) < 0) {
		cmd_fail(err);
		return BXC_EXIT_USAGE;
	}
	if (ask(cli, "GET", "/v1/usage", NULL, &answer, &err) < 0)
		return cmd_fail(err);
	return show(cli, &f, answer, false);
}

static int set_bytes(
	const bxc_cli *cli, const char *flag, bxc_json *q, const char *key, bxc_err **err)
{
	uint64_t bytes = 0;
	const char *text = bxc_cli_str(cli, flag);
	if (!text)
		return 0;
	int r = bxc_str_to_bytes(text, UINT64_MAX / 2, &bytes, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "--%s", flag);
	bxc_json_set_u64(q, key, bytes);
	return 0;
}

static int wish_of(const bxc_cli *cli, const filter *f, bxc_json *q, bxc_err **err)
{
	if (f->in_use == 1)
		return cmd_usage(err, "what is in use can't be removed");
	if (f->kinds)
		bxc_json_set_strv(q, "kinds", f->kinds);
	if (f->ids)
		bxc_json_set_strv(q, "ids", f->ids);
	bxc_json_set_ns(q, "unused_ns", f->unused_ns);
	int r = set_bytes(cli, "max-used-space", q, "max_used", err);
	if (r >= 0)
		r = set_bytes(cli, "min-free-space", q, "min_free", err);
	if (r >= 0)
		r = set_bytes(cli, "keep-storage", q, "reserved", err);
	if (r >= 0)
		r = set_bytes(cli, "reserved-space", q, "reserved", err);
	return r;
}

/* On a terminal whoever prunes is asked; elsewhere it needs --force. */
static int confirm(const bxc_cli *cli, bxc_err **err)
{
	char line[16] = "";
	if (bxc_cli_flag(cli, "force"))
		return 1;
	if (!isatty(STDIN_FILENO))
		return cmd_usage(err, "standard input is no terminal: give --force to remove "
				      "without being asked");
	printf("WARNING! This will remove the build cache of all workers that is not in use%s. Are "
	       "you sure you want to continue? [y/N] ",
		bxc_cli_list(cli, "filter") ? " and matches the filters" : "");
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y');
}

int cmd_prune(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *answer = NULL, *q = bxc_json_object();
	BXC_CLEANUP(filter_done) filter f = {0};
	(void)ud;
	int r = read_filters(cli, &f, &err);
	if (r >= 0)
		r = wish_of(cli, &f, q, &err);
	if (r >= 0)
		r = confirm(cli, &err);
	if (r < 0) {
		cmd_fail(err);
		return BXC_EXIT_USAGE;
	}
	if (r == 0)
		return BXC_EXIT_OK;
	if (ask(cli, "POST", "/v1/prune", q, &answer, &err) < 0)
		return cmd_fail(err);
	return show(cli, &f, answer, true);
}
