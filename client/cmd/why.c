/* SPDX-License-Identifier: Apache-2.0 */
/* bxc why: why steps were executed, and who made what was cached. */
#include <stdio.h>
#include <string.h>

#include "client/cmd/cmd_internal.h"
#include "common/base/mem.h"
#include "common/base/str.h"

/* All pages of the answer as one: {"build","steps":[...]}; `step`: only that one, 0: all. */
static int ask(const known_build *k, uint64_t step, bxc_json **ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *all = bxc_json_object();
	bxc_json_set_str(all, "build", k->id);
	bxc_json *steps = bxc_json_add_array(all, "steps");
	BXC_AUTOFREE char *below =
		step ? bxc_str_fmt("/why?step=%llu", (unsigned long long)step) : bxc_strdup("/why");
	while (below) {
		BXC_AUTOJSON bxc_json *page = NULL;
		int r = known_build_call(k, "GET", below, &page, err);
		if (r < 0)
			return r;
		BXC_JSON_FOREACH (s, bxc_json_get(page, "steps"))
			bxc_json_push_take(steps, bxc_json_dup(s));
		const char *next = bxc_json_get_str(page, "next", NULL);
		free(below);
		below = next && bxc_json_len(bxc_json_get(page, "steps"))
				? bxc_str_fmt("/why?after=%s", next)
				: NULL;
	}
	*ret = BXC_TAKE(all);
	return 0;
}

/* Those whose name holds the text. */
static int choose(bxc_json **all, const char *text, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *found = bxc_json_object();
	bxc_json_set_str(found, "build", bxc_json_get_str(*all, "build", ""));
	bxc_json *steps = bxc_json_add_array(found, "steps");
	BXC_JSON_FOREACH (s, bxc_json_get(*all, "steps"))
		if (strstr(bxc_json_get_str(s, "name", ""), text))
			bxc_json_push_take(steps, bxc_json_dup(s));
	if (bxc_json_len(steps) == 0)
		return bxc_err_set(err, BXC_NOT_FOUND,
			"build '%s' has no step '%.200s' that could be explained",
			bxc_json_get_str(found, "build", ""), text);
	bxc_json_free(*all);
	*all = BXC_TAKE(found);
	return 0;
}

/* "7" or "#7": a number; anything else: a part of the name. */
static int ask_for(const known_build *k, const char *step, bxc_json **ret, bxc_err **err)
{
	uint64_t n = 0;
	const char *digits = step && *step == '#' ? step + 1 : step;
	bool is_number = digits && *digits && strspn(digits, "0123456789") == strlen(digits);
	int r = is_number ? bxc_str_to_u64(digits, 1, INT64_MAX, &n, err) : 0;
	if (r < 0)
		return bxc_err_wrap(err, r, "step");
	r = ask(k, n, ret, err);
	return r < 0 || is_number || !step ? r : choose(ret, step, err);
}

static const char *outcome_text(const char *outcome)
{
	static const struct {
		const char *outcome, *text;
	} words[] = {{"executed", "EXECUTED"}, {"hit", "CACHED"}, {"resolved", "RESOLVED"},
		{"missed", "NOT CACHED"}, {"failed", "FAILED"}, {"canceled", "CANCELED"},
		{"running", "RUNNING"}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(words); i++)
		if (bxc_str_eq(words[i].outcome, outcome))
			return words[i].text;
	return outcome;
}

/* What comes from builds of others is not for the terminal as it is. */
static void print_text(const char *text)
{
	BXC_AUTOFREE char *line = bxc_str_one_line(bxc_strdup(text));
	fputs(line, stdout);
}

static void print_step(const bxc_json *s, bool details)
{
	const char *outcome = bxc_json_get_str(s, "outcome", ""),
		   *worker = bxc_json_get_str(s, "worker", NULL);
	const char *shared = bxc_json_get_str(s, "shared_with", NULL);
	int64_t ns = bxc_json_get_i64(s, "duration_ns", -1);
	printf("#%llu ", (unsigned long long)bxc_json_get_u64(s, "step", 0));
	print_text(bxc_json_get_str(s, "name", ""));
	printf("  %s", outcome_text(outcome));
	if (ns >= 0 && bxc_str_eq(outcome, "executed"))
		printf(" %.1fs", (double)ns / 1e9);
	if (worker) {
		printf(" on ");
		print_text(worker);
	}
	printf(": ");
	print_text(bxc_json_get_str(s, "text", ""));
	if (shared) {
		printf("; one run with build ");
		print_text(shared);
	}
	printf("\n");
	const bxc_json *list = bxc_json_get(bxc_json_get(s, "why"), "differences");
	if (!details || bxc_json_len(list) < 2)
		return;
	BXC_JSON_FOREACH (d, list) {
		printf("    ");
		print_text(bxc_json_get_str(d, "text", ""));
		printf("\n");
	}
}

int cmd_why(const bxc_cli *cli, void *ud)
{
	BXC_AUTOERR bxc_err *err = NULL;
	AUTO_KNOWN_BUILD known_build k = {0};
	BXC_AUTOJSON bxc_json *answer = NULL;
	const char *step = bxc_cli_n_args(cli) > 1 ? bxc_cli_arg(cli, 1) : NULL;
	(void)ud;
	int r = known_build_open(cli, &k, &err);
	if (r >= 0)
		r = ask_for(&k, step, &answer, &err);
	if (r < 0)
		return cmd_fail(err);
	if (bxc_str_eq(bxc_cli_str(cli, "format"), "json")) {
		BXC_AUTOFREE char *text = bxc_json_print_pretty(answer);
		printf("%s\n", text);
		return BXC_EXIT_OK;
	}
	BXC_JSON_FOREACH (s, bxc_json_get(answer, "steps"))
		print_step(s, step != NULL);
	return BXC_EXIT_OK;
}
