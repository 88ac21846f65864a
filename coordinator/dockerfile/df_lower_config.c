/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions that change nothing but the configuration of the image. */
#include "coordinator/dockerfile/dockerfile_internal.h"

#include <inttypes.h>

static char **command_of(const df_stage *s, const df_instr *i)
{
	if (i->is_json)
		return bxc_strv_dup(i->args);
	return df_with_shell(s, i->args ? i->args[0] : "");
}

int df_lower_cmd(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	bool is_entry = i->kind == DF_ENTRYPOINT;
	df_check_once(lw, is_entry ? &s->entrypoint : &s->cmd);
	df_check_shell_form(lw, s, i);
	char ***slot = is_entry ? &s->image->entrypoint : &s->image->cmd;
	bxc_strv_free(*slot);
	*slot = command_of(s, i);
	if (!is_entry)
		s->image->args_escaped = true;
	else if (!s->cmd)
		bxc_strv_free(BXC_TAKE(s->image->cmd));
	BXC_AUTOFREE char *list = df_go_quote_list(*slot);
	return df_history(lw, s, false, bxc_str_fmt("%s %s", df_kind_name(i->kind), list), err);
}

int df_lower_shell(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	bxc_strv_free(s->image->shell);
	s->image->shell = bxc_strv_dup(i->args);
	BXC_AUTOFREE char *list = df_go_list(i->args);
	return df_history(lw, s, false, bxc_str_fmt("SHELL %s", list), err);
}

int df_lower_health(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	bxc_oci_healthcheck *h = &s->image->healthcheck;
	df_check_once(lw, &s->healthcheck);
	bxc_strv_free(h->test);
	*h = i->health;
	h->test = bxc_strv_dup(i->health.test);
	BXC_AUTOFREE char *test = df_go_list(h->test);
	BXC_AUTOFREE char *every = df_go_duration(h->interval_ns);
	BXC_AUTOFREE char *timeout = df_go_duration(h->timeout_ns);
	BXC_AUTOFREE char *period = df_go_duration(h->start_period_ns);
	BXC_AUTOFREE char *start = df_go_duration(h->start_interval_ns);
	return df_history(lw, s, false,
		bxc_str_fmt("HEALTHCHECK {Test:%s Interval:%s Timeout:%s StartPeriod:%s "
			    "StartInterval:%s Retries:%" PRId64 "}",
			test, every, timeout, period, start, h->retries),
		err);
}

int df_lower_user(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	BXC_AUTOFREE char *user = NULL;
	int r = df_expand(lw, s, i->args[0], &user, err);
	if (r < 0)
		return r;
	free(s->image->user);
	s->image->user = bxc_strdup(user);
	return df_history(lw, s, false, bxc_str_fmt("USER %s", user), err);
}

int df_lower_stopsignal(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	BXC_AUTOFREE char *sig = NULL;
	int r = df_expand(lw, s, i->args[0], &sig, err);
	if (r < 0)
		return r;
	if (!df_signal_valid(sig))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid signal: %.64s", sig);
	free(s->image->stop_signal);
	s->image->stop_signal = bxc_strdup(sig);
	return df_history(lw, s, false, bxc_str_fmt("STOPSIGNAL %s", sig), err);
}

/* Adds what is new of `more` to a list of keys. */
static int merge_keys(df_lower *lw, char ***list, const df_list *more, bxc_err **err)
{
	size_t have = bxc_strv_len(*list);
	int r = df_charge(&lw->work, 64 * (uint64_t)(have + more->n), err);
	if (r < 0)
		return r;
	BXC_CLEANUP(bxc_map_freep) bxc_map *seen = bxc_map_new(NULL);
	df_list all = {0};
	for (size_t k = 0; k < have; k++) {
		bxc_map_set(seen, (*list)[k], lw);
		*bxc_arr_push(&all) = (*list)[k];
	}
	free(*list);
	BXC_ARR_FOREACH (key, more) {
		if (bxc_map_has(seen, *key))
			continue;
		bxc_map_set(seen, *key, lw);
		*bxc_arr_push(&all) = bxc_strdup(*key);
	}
	*list = df_list_finish(&all);
	return 0;
}

static int list_history(
	df_lower *lw, df_stage *s, const df_instr *i, const df_list *list, bxc_err **err)
{
	size_t bytes = 32;
	BXC_ARR_FOREACH (w, list)
		bytes += strlen(*w) + 1;
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(bytes);
	bxc_buf_addf(&b, "%s [", df_kind_name(i->kind));
	for (size_t k = 0; k < list->n; k++) {
		if (k)
			bxc_buf_addc(&b, ' ');
		bxc_buf_adds(&b, list->v[k]);
	}
	bxc_buf_addc(&b, ']');
	return df_history(lw, s, false, bxc_buf_steal(&b), err);
}

static int expose_words(
	df_lower *lw, const df_stage *s, const df_instr *i, df_list *ports, bxc_err **err)
{
	BXC_AUTOSTRV char **sorted = bxc_strv_dup(i->args);
	df_word_opts o = df_opts_of(lw);
	bxc_strv_sort(sorted);
	for (char **w = sorted; *w; w++) {
		BXC_AUTOSTRV char **words = NULL;
		int r = df_words(*w, s->env, &o, &words, err);
		for (char **p = words; r == 0 && p && *p; p++) {
			size_t before = ports->n;
			df_check_port(lw, *p);
			r = df_ports(*p, ports, err);
			if (r == 0)
				r = df_charge(&lw->work, 160 * (uint64_t)(ports->n - before), err);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int df_lower_expose(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	BXC_CLEANUP(df_list_done) df_list ports = {0};
	int r = expose_words(lw, s, i, &ports, err);
	if (r == 0)
		r = merge_keys(lw, &s->image->exposed_ports, &ports, err);
	return r == 0 ? list_history(lw, s, i, &ports, err) : r;
}

int df_lower_volume(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	BXC_CLEANUP(df_list_done) df_list volumes = {0};
	for (char **w = i->args; *w; w++) {
		char *v = NULL;
		int r = df_expand(lw, s, *w, &v, err);
		if (r < 0)
			return r;
		*bxc_arr_push(&volumes) = v;
		if (!*v)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"VOLUME specified can not be an empty string");
	}
	int r = merge_keys(lw, &s->image->volumes, &volumes, err);
	return r == 0 ? list_history(lw, s, i, &volumes, err) : r;
}

int df_lower_onbuild(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	size_t n = bxc_strv_len(s->image->on_build);
	int r = df_charge(&lw->work, n + strlen(i->trigger), err);
	if (r == 0)
		bxc_strv_push(&s->image->on_build, i->trigger);
	return r;
}

int df_lower_maintainer(df_lower *lw, df_stage *s, const df_instr *i, bxc_err **err)
{
	free(s->image->author);
	s->image->author = bxc_strdup(i->args[0]);
	return df_history(lw, s, false, bxc_str_fmt("MAINTAINER %s", i->args[0]), err);
}
