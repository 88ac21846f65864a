/* SPDX-License-Identifier: Apache-2.0 */
/* --cache-from and --cache-to, as buildx reads them. */
#include "client/cmd/cmd_internal.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/str.h"

void cache_spec_done(cache_spec *c)
{
	free(c->type);
	bxc_strv_free(c->attrs);
	*c = (cache_spec){0};
}

static int fill(const char *spec, cache_spec *c, bxc_err **err)
{
	BXC_AUTOSTRV char **fields = NULL;
	int r = csv_split(spec, &fields, err);
	if (r < 0)
		return r;
	if (bxc_strv_len(fields) == 1 && !strchr(fields[0], '=')) {
		c->type = bxc_strdup("registry");
		bxc_env_set(&c->attrs, "ref", fields[0]);
		return 0;
	}
	for (char **f = fields; *f; f++) {
		const char *value = csv_cut_value(*f);
		if (!value)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT, "invalid value %s", *f);
		if (bxc_str_eq(*f, "type")) {
			free(c->type);
			c->type = bxc_strdup(value);
		} else {
			bxc_env_set(&c->attrs, *f, value);
		}
	}
	return c->type ? 0
		       : bxc_err_set(err, BXC_INVALID_ARGUMENT, "type required for \"%s\"", spec);
}

static int check(const cache_spec *c, bool to, bxc_err **err)
{
	static const char *const foreign[] = {"gha", "s3", "azblob"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(foreign); i++)
		if (bxc_str_eq(c->type, foreign[i]))
			return bxc_err_set(err, BXC_UNIMPLEMENTED,
				"cache type '%s' is not supported by this version of bxc "
				"(registry, local%s)",
				c->type, to ? ", inline" : "");
	if (bxc_str_eq(c->type, "local") &&
		bxc_str_empty(bxc_env_get(c->attrs, to ? "dest" : "src")))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "local cache %s",
			to ? "exporter requires dest" : "importer requires src");
	return 0;
}

static int add_spec(const char *text, bool to, cache_specs *ret, bxc_err **err)
{
	cache_spec c = {0};
	int r = fill(text, &c, err);
	if (r >= 0)
		r = check(&c, to, err);
	if (r < 0) {
		cache_spec_done(&c);
		return r;
	}
	*bxc_arr_push(ret) = c;
	return 0;
}

int cache_specs_parse(char *const *list, bool to, cache_specs *ret, bxc_err **err)
{
	for (; list && *list; list++) {
		BXC_AUTOSTRV char **refs = NULL;
		int r = 0;
		if (!**list)
			continue;
		/* Without any '=' the fields are references, each a cache of its own. */
		if (strchr(*list, '='))
			bxc_strv_push(&refs, *list);
		else
			r = csv_split(*list, &refs, err);
		for (char **s = refs; r >= 0 && s && *s; s++)
			r = add_spec(*s, to, ret, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "--cache-%s", to ? "to" : "from");
	}
	return 0;
}

/* A folder without a cache is none: the build goes on without it. */
static bool find_local(cache_spec *c)
{
	BXC_AUTOERR bxc_err *err = NULL;
	const char *dir = bxc_env_get(c->attrs, "src"), *tag = bxc_env_get(c->attrs, "tag");
	char text[BXC_DIGEST_STR_MAX];
	bxc_digest d;
	if (bxc_env_get(c->attrs, "digest"))
		return true;
	if (bxc_csess_cache_find(dir, tag ? tag : "latest", &d, &err) < 0) {
		fprintf(stderr, "WARNING: local cache import at %s not found due to err: %s\n", dir,
			bxc_err_text(err));
		return false;
	}
	bxc_env_set(&c->attrs, "digest", bxc_digest_str(&d, text));
	return true;
}

static void push_spec(bxc_json *list, const cache_spec *c)
{
	bxc_json *o = bxc_json_push_object(list);
	bxc_json_set_str(o, "type", c->type);
	cmd_set_pairs(o, "attrs", c->attrs, false);
}

int plan_caches(const bxc_cli *cli, build_plan *p, bxc_err **err)
{
	int r = cache_specs_parse(bxc_cli_list(cli, "cache-from"), false, &p->cache_from, err);
	if (r >= 0)
		r = cache_specs_parse(bxc_cli_list(cli, "cache-to"), true, &p->cache_to, err);
	if (r < 0)
		return cmd_usage_mark(err, r);
	bxc_json *from = bxc_json_add_array(p->request, "cache_from"),
		 *to = bxc_json_add_array(p->request, "cache_to");
	BXC_ARR_FOREACH (c, &p->cache_from) {
		bool local = bxc_str_eq(c->type, "local");
		if (local && !find_local(c))
			continue;
		push_spec(from, c);
		*bxc_arr_push(&p->imports) =
			(bxc_csess_cache){.dir = local ? bxc_env_get(c->attrs, "src") : NULL};
	}
	BXC_ARR_FOREACH (c, &p->cache_to) {
		bool reset = false;
		const char *tag = bxc_env_get(c->attrs, "tag"),
			   *flag = bxc_env_get(c->attrs, "reset");
		if (flag && bxc_str_to_bool(flag, &reset, NULL) < 0)
			return cmd_usage(err,
				"--cache-to: failed to parse reset: '%s' is neither true nor false",
				flag);
		push_spec(to, c);
		*bxc_arr_push(&p->caches) = (bxc_csess_cache){
			.dir = bxc_str_eq(c->type, "local") ? bxc_env_get(c->attrs, "dest") : NULL,
			.tag = tag ? tag : "latest",
			.reset = reset,
		};
	}
	return 0;
}
