/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image config. Printed as BuildKit's exporter does (moby/buildkit
 * exporter/containerimage/writer.go, patchImageConfig): the top level is a Go map, hence sorted by
 * key; "config", "rootfs" and "history" are Go structs, hence in the order of docker-image-spec
 * v1.3 and image-spec. Empty values are left out as `omitempty` does.
 */
#include <string.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/oci/oci_internal.h"

#define HISTORY_MAX 5000u
#define NO_TIME	    INT64_MIN

bxc_oci_config *bxc_oci_config_new(void)
{
	bxc_oci_config *c = bxc_calloc(1, sizeof(*c));
	c->created_ns = NO_TIME;
	return c;
}

static void history_done(bxc_oci_history *h)
{
	free(h->created_by);
	free(h->author);
	free(h->comment);
}

void bxc_oci_config_free(bxc_oci_config *c)
{
	if (!c)
		return;
	free(c->author);
	free(c->user);
	free(c->working_dir);
	free(c->stop_signal);
	free(c->inline_cache);
	bxc_strv_free(c->exposed_ports);
	bxc_strv_free(c->env);
	bxc_strv_free(c->entrypoint);
	bxc_strv_free(c->cmd);
	bxc_strv_free(c->volumes);
	bxc_strv_free(c->labels);
	bxc_strv_free(c->on_build);
	bxc_strv_free(c->shell);
	bxc_strv_free(c->healthcheck.test);
	bxc_arr_done(&c->diff_ids);
	BXC_ARR_FOREACH (h, &c->history)
		history_done(h);
	bxc_arr_done(&c->history);
	free(c);
}

bxc_oci_history *bxc_oci_config_add_history(bxc_oci_config *c)
{
	bxc_oci_history *h = bxc_arr_push(&c->history);
	h->created_ns = NO_TIME;
	return h;
}

bxc_oci_config *bxc_oci_config_dup(const bxc_oci_config *c)
{
	bxc_oci_config *d = bxc_oci_config_new();
	d->created_ns = c->created_ns;
	d->author = bxc_strdup(c->author);
	d->platform = c->platform;
	d->user = bxc_strdup(c->user);
	d->exposed_ports = bxc_strv_dup(c->exposed_ports);
	d->env = bxc_strv_dup(c->env);
	d->entrypoint = bxc_strv_dup(c->entrypoint);
	d->cmd = bxc_strv_dup(c->cmd);
	d->volumes = bxc_strv_dup(c->volumes);
	d->working_dir = bxc_strdup(c->working_dir);
	d->labels = bxc_strv_dup(c->labels);
	d->stop_signal = bxc_strdup(c->stop_signal);
	d->healthcheck = c->healthcheck;
	d->healthcheck.test = bxc_strv_dup(c->healthcheck.test);
	d->args_escaped = c->args_escaped;
	d->on_build = bxc_strv_dup(c->on_build);
	d->shell = bxc_strv_dup(c->shell);
	BXC_ARR_FOREACH (id, &c->diff_ids)
		*bxc_arr_push(&d->diff_ids) = *id;
	BXC_ARR_FOREACH (h, &c->history) {
		bxc_oci_history *n = bxc_oci_config_add_history(d);
		*n = *h;
		n->created_by = bxc_strdup(h->created_by);
		n->author = bxc_strdup(h->author);
		n->comment = bxc_strdup(h->comment);
	}
	return d;
}

/* ---- printing ---- */

static void set_time(bxc_json *obj, const char *key, int64_t ns)
{
	if (ns == NO_TIME)
		return;
	BXC_AUTOFREE char *s = bxc_clock_rfc3339(ns);
	bxc_json_set_str(obj, key, s);
}

static void set_number(bxc_json *obj, const char *key, int64_t v)
{
	if (v)
		bxc_json_set_number(obj, key, v);
}

static bxc_json *run_config_to_json(const bxc_oci_config *c)
{
	bxc_json *j = bxc_json_object();
	oci_set_str(j, "User", c->user);
	oci_set_set(j, "ExposedPorts", c->exposed_ports);
	oci_set_strv(j, "Env", c->env);
	oci_set_strv(j, "Entrypoint", c->entrypoint);
	oci_set_strv(j, "Cmd", c->cmd);
	oci_set_set(j, "Volumes", c->volumes);
	oci_set_str(j, "WorkingDir", c->working_dir);
	oci_set_map(j, "Labels", c->labels);
	oci_set_str(j, "StopSignal", c->stop_signal);
	if (c->args_escaped)
		bxc_json_set_bool(j, "ArgsEscaped", true);
	if (c->healthcheck.is_set) {
		const bxc_oci_healthcheck *h = &c->healthcheck;
		bxc_json *hj = bxc_json_add_object(j, "Healthcheck");
		oci_set_strv(hj, "Test", h->test);
		set_number(hj, "Interval", h->interval_ns);
		set_number(hj, "Timeout", h->timeout_ns);
		set_number(hj, "StartPeriod", h->start_period_ns);
		set_number(hj, "StartInterval", h->start_interval_ns);
		set_number(hj, "Retries", h->retries);
	}
	oci_set_strv(j, "OnBuild", c->on_build);
	oci_set_strv(j, "Shell", c->shell);
	return j;
}

static void history_to_json(const bxc_oci_history *h, bxc_json *arr)
{
	bxc_json *j = bxc_json_push_object(arr);
	set_time(j, "created", h->created_ns);
	oci_set_str(j, "created_by", h->created_by);
	oci_set_str(j, "author", h->author);
	oci_set_str(j, "comment", h->comment);
	if (h->empty_layer)
		bxc_json_set_bool(j, "empty_layer", true);
}

bxc_json *bxc_oci_config_to_json(const bxc_oci_config *c)
{
	bxc_json *j = bxc_json_object();
	bxc_json_set_str(j, "architecture", c->platform.arch);
	oci_set_str(j, "author", c->author);
	bxc_json_set_take(j, "config", run_config_to_json(c));
	set_time(j, "created", c->created_ns);
	if (c->history.n) {
		bxc_json *arr = bxc_json_add_array(j, "history");
		BXC_ARR_FOREACH (h, &c->history)
			history_to_json(h, arr);
	}
	oci_set_str(j, "moby.buildkit.cache.v0", c->inline_cache);
	bxc_json_set_str(j, "os", c->platform.os);
	oci_set_str(j, "os.version", c->platform.os_version);
	bxc_json *rootfs = bxc_json_add_object(j, "rootfs");
	bxc_json_set_str(rootfs, "type", "layers");
	bxc_json *ids = bxc_json_add_array(rootfs, "diff_ids");
	BXC_ARR_FOREACH (id, &c->diff_ids) {
		char s[BXC_DIGEST_STR_MAX];
		bxc_json_push_str(ids, bxc_digest_str(id, s));
	}
	oci_set_str(j, "variant", c->platform.variant);
	return j;
}

char *bxc_oci_config_print(const bxc_oci_config *c)
{
	BXC_AUTOJSON bxc_json *j = bxc_oci_config_to_json(c);
	return bxc_json_print_go(j);
}

/* ---- parsing ---- */

static int opt_time(const bxc_json *obj, const char *key, int64_t *ret, bxc_err **err)
{
	BXC_AUTOFREE char *s = NULL;
	int r = oci_opt_str(obj, key, &s, err);
	if (r < 0)
		return r;
	if (!s) {
		*ret = NO_TIME;
		return 0;
	}
	r = bxc_clock_parse_rfc3339(s, ret, err);
	return r < 0 ? bxc_err_wrap(err, r, "field '%s'", key) : 0;
}

static int healthcheck_from_json(const bxc_json *obj, bxc_oci_healthcheck *h, bxc_err **err)
{
	const bxc_json *j = NULL;
	int r = oci_opt_obj(obj, "Healthcheck", &j, err);
	if (r < 0 || !j)
		return r;
	h->is_set = true;
	if ((r = oci_opt_strv(j, "Test", &h->test, err)) < 0)
		return r;
	const struct {
		const char *key;
		int64_t *dst;
	} numbers[] = {{"Interval", &h->interval_ns}, {"Timeout", &h->timeout_ns},
		{"StartPeriod", &h->start_period_ns}, {"StartInterval", &h->start_interval_ns},
		{"Retries", &h->retries}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(numbers); i++)
		if ((r = oci_opt_i64(j, numbers[i].key, numbers[i].dst, err)) < 0)
			return r;
	return 0;
}

/* Docker once wrote a single string where a list is due. */
static int opt_args(const bxc_json *obj, const char *key, char ***ret, bxc_err **err)
{
	const char *s = bxc_json_string(bxc_json_get(obj, key));
	if (!s)
		return oci_opt_strv(obj, key, ret, err);
	if (*s)
		bxc_strv_push(ret, s);
	return 0;
}

static int run_config_from_json(const bxc_json *j, bxc_oci_config *c, bxc_err **err)
{
	const struct {
		const char *key;
		char **dst;
	} texts[] = {{"User", &c->user}, {"WorkingDir", &c->working_dir},
		{"StopSignal", &c->stop_signal}};
	const struct {
		const char *key;
		char ***dst;
		int (*read)(const bxc_json *obj, const char *key, char ***ret, bxc_err **err);
	} lists[] = {{"ExposedPorts", &c->exposed_ports, oci_opt_set},
		{"Env", &c->env, oci_opt_strv}, {"Entrypoint", &c->entrypoint, opt_args},
		{"Cmd", &c->cmd, opt_args}, {"Volumes", &c->volumes, oci_opt_set},
		{"Labels", &c->labels, oci_opt_map}, {"OnBuild", &c->on_build, oci_opt_strv},
		{"Shell", &c->shell, oci_opt_strv}};
	int r;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(texts); i++)
		if ((r = oci_opt_str(j, texts[i].key, texts[i].dst, err)) < 0)
			return r;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(lists); i++)
		if ((r = lists[i].read(j, lists[i].key, lists[i].dst, err)) < 0)
			return r;
	if ((r = oci_opt_bool(j, "ArgsEscaped", &c->args_escaped, err)) < 0)
		return r;
	return healthcheck_from_json(j, &c->healthcheck, err);
}

static int history_from_json(const bxc_json *j, bxc_oci_config *c, bxc_err **err)
{
	const bxc_json *arr = NULL;
	int r = oci_opt_arr(j, "history", HISTORY_MAX, &arr, err);
	if (r < 0)
		return r;
	BXC_JSON_FOREACH (it, arr) {
		bxc_oci_history *h = bxc_oci_config_add_history(c);
		if (!bxc_json_is_object(it))
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"history %zu is not an object", c->history.n - 1);
		if ((r = opt_time(it, "created", &h->created_ns, err)) < 0 ||
			(r = oci_opt_str(it, "created_by", &h->created_by, err)) < 0 ||
			(r = oci_opt_str(it, "author", &h->author, err)) < 0 ||
			(r = oci_opt_str(it, "comment", &h->comment, err)) < 0 ||
			(r = oci_opt_bool(it, "empty_layer", &h->empty_layer, err)) < 0)
			return bxc_err_wrap(err, r, "history %zu", c->history.n - 1);
	}
	return 0;
}

static int rootfs_from_json(const bxc_json *j, bxc_oci_config *c, bxc_err **err)
{
	const bxc_json *rootfs = NULL, *ids = NULL;
	BXC_AUTOFREE char *type = NULL;
	int r = oci_opt_obj(j, "rootfs", &rootfs, err);
	if (r < 0 || !rootfs)
		return r;
	if ((r = oci_opt_str(rootfs, "type", &type, err)) < 0)
		return r;
	if (type && *type && strcmp(type, "layers") != 0)
		return bxc_err_set(
			err, BXC_UNIMPLEMENTED, "root file system of type '%.40s'", type);
	if ((r = oci_opt_arr(rootfs, "diff_ids", BXC_LIMIT_IMAGE_LAYERS, &ids, err)) < 0)
		return r;
	BXC_JSON_FOREACH (it, ids) {
		const char *s = bxc_json_string(it);
		r = bxc_digest_parse(s ? s : "", bxc_arr_push(&c->diff_ids), err);
		if (r < 0)
			return bxc_err_wrap(err, r, "diff_ids %zu", c->diff_ids.n - 1);
	}
	return 0;
}

static int config_fields(const bxc_json *j, bxc_oci_config *c, bxc_err **err)
{
	const bxc_json *run = NULL;
	int r;
	if (!bxc_json_is_object(j))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "not an object");
	if ((r = opt_time(j, "created", &c->created_ns, err)) < 0)
		return r;
	if ((r = oci_opt_str(j, "author", &c->author, err)) < 0)
		return r;
	if ((r = oci_platform_from_json(j, &c->platform, err)) < 0)
		return r;
	if ((r = oci_opt_obj(j, "config", &run, err)) < 0)
		return r;
	if ((r = run_config_from_json(run, c, err)) < 0)
		return bxc_err_wrap(err, r, "config");
	if ((r = rootfs_from_json(j, c, err)) < 0)
		return r;
	return history_from_json(j, c, err);
}

int bxc_oci_config_from_json(const bxc_json *j, bxc_oci_config **ret, bxc_err **err)
{
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *c = bxc_oci_config_new();
	int r = config_fields(j, c, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "image config");
	*ret = BXC_TAKE(c);
	return 0;
}

int bxc_oci_config_parse(bxc_slice text, bxc_oci_config **ret, bxc_err **err)
{
	if (text.n > BXC_LIMIT_IMAGE_CONFIG)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"image config of %zu bytes, more than %u", text.n, BXC_LIMIT_IMAGE_CONFIG);
	BXC_AUTOJSON bxc_json *j = NULL;
	int r = bxc_json_parse(text, &j, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "image config");
	return bxc_oci_config_from_json(j, ret, err);
}
