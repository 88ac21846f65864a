/* SPDX-License-Identifier: Apache-2.0 */
/* From flags and files to a build request. */
#include "client/cmd/cmd_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"
#include "common/os/fs.h"

static const char *const progress_modes[] = {"auto", "plain", "tty", "rawjson", "quiet", "none", NULL};

const bxc_cli_opt cmd_build_opts[CMD_BUILD_N_OPTS] = {
	{"file", 'f', BXC_CLI_STRING, "FILE", "name of the Dockerfile (default: CONTEXT/Dockerfile)"},
	{"tag", 't', BXC_CLI_LIST, "NAME", "name of the image (format: [registry/]repository[:tag])"},
	{"build-arg", 0, BXC_CLI_LIST, "K=V", "set a build-time variable; without a value the one of the environment"},
	{"target", 0, BXC_CLI_STRING, "STAGE", "the stage to build"},
	{"platform", 0, BXC_CLI_LIST, "OS/ARCH", "platforms to build for, separated by commas"},
	{"no-cache", 0, BXC_CLI_FLAG, NULL, "do not use the cache"},
	{"no-cache-filter", 0, BXC_CLI_LIST, "STAGE", "do not use the cache for these stages"},
	{"output", 'o', BXC_CLI_LIST, "SPEC", "where the result goes: type=TYPE,dest=PATH, a folder, or - for a tar on standard output"},
	{"push", 0, BXC_CLI_FLAG, NULL, "push the image to its registry"},
	{"label", 0, BXC_CLI_LIST, "K=V", "set a label of the image"},
	{"progress", 0, BXC_CLI_STRING, "MODE", "auto, plain, tty, rawjson, quiet or none", progress_modes},
	{"quiet", 'q', BXC_CLI_FLAG, NULL, "print only the digest of the result"},
	{"detach", 0, BXC_CLI_FLAG, NULL, "print the id of the build and leave it to a process in the background"},
	{"iidfile", 0, BXC_CLI_STRING, "FILE", "write the digest of the image to a file"},
	{"metadata-file", 0, BXC_CLI_STRING, "FILE", "write what is known of the result to a file"},
	{"pull", 0, BXC_CLI_FLAG, NULL, "ask registries for base images (always done)"},
	{"attest", 0, BXC_CLI_LIST, "SPEC", "what is stated about the result: type=provenance,mode=min|max"},
	{"provenance", 0, BXC_CLI_STRING, "SPEC", "shorthand for --attest=type=provenance; false: none", NULL, "true"},
	{"sbom", 0, BXC_CLI_STRING, "SPEC", "shorthand for --attest=type=sbom", NULL, "true"},
	{"call", 0, BXC_CLI_STRING, "METHOD", "build, or a question: check, outline or targets (,format=json ,ignorestatus=true)"},
	{"check", 0, BXC_CLI_FLAG, NULL, "the same as --call=check: run the build checks only"},
	/* Known of buildx, hidden; refused by name, never ignored. */
	{"add-host", 0, BXC_CLI_LIST, "X", "", NULL, NULL, true},
	{"allow", 0, BXC_CLI_LIST, "X", "", NULL, NULL, true},
	{"annotation", 0, BXC_CLI_LIST, "X", "", NULL, NULL, true},
	{"build-context", 0, BXC_CLI_LIST, "X", "", NULL, NULL, true},
	{"cache-from", 0, BXC_CLI_LIST, "X", "", NULL, NULL, true},
	{"cache-to", 0, BXC_CLI_LIST, "X", "", NULL, NULL, true},
	{"cgroup-parent", 0, BXC_CLI_STRING, "X", "", NULL, NULL, true},
	{"load", 0, BXC_CLI_FLAG, NULL, "", NULL, NULL, true},
	{"network", 0, BXC_CLI_STRING, "X", "", NULL, NULL, true},
	{"policy", 0, BXC_CLI_LIST, "X", "", NULL, NULL, true},
	{"secret", 0, BXC_CLI_LIST, "X", "", NULL, NULL, true},
	{"shm-size", 0, BXC_CLI_STRING, "X", "", NULL, NULL, true},
	{"ssh", 0, BXC_CLI_LIST, "X", "", NULL, "default", true},
	{"ulimit", 0, BXC_CLI_LIST, "X", "", NULL, NULL, true},
	{"memory", 'm', BXC_CLI_STRING, "X", "", NULL, NULL, true},
	{"source-policy-file", 0, BXC_CLI_STRING, "X", "", NULL, NULL, true},
};
_Static_assert(BXC_ARRAY_SIZE(cmd_build_opts) == CMD_BUILD_N_OPTS, "count the options");

void build_plan_done(build_plan *p)
{
	free(p->context_dir);
	free(p->dockerfile_name);
	free(p->ignore_name);
	free(p->call.name);
	bxc_buf_done(&p->ignore_text);
	bxc_buf_done(&p->dockerfile);
	bxc_ignore_free(p->ignore);
	bxc_json_free(p->request);
	BXC_ARR_FOREACH (o, &p->outputs)
		output_done(o);
	bxc_arr_done(&p->outputs);
	bxc_arr_done(&p->exports);
}

static int usage(bxc_err **err, const char *fmt, ...) BXC_PRINTF(2, 3);

static int usage(bxc_err **err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = bxc_err_setv(err, BXC_INVALID_ARGUMENT, fmt, ap);
	va_end(ap);
	bxc_err_detail(*err, "usage", "1");
	return r;
}

static int check_refused(const bxc_cli *cli, bxc_err **err)
{
	/* The default of --network is what there is. */
	const char *net = bxc_cli_str(cli, "network");
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cmd_build_opts); i++) {
		const bxc_cli_opt *o = &cmd_build_opts[i];
		if (o->hidden && !bxc_str_eq(o->name, "network") && bxc_cli_has(cli, o->name))
			return usage(err, "flag --%s is not supported by this version of bxc", o->name);
	}
	if (net && !bxc_str_eq(net, "default"))
		return usage(err, "flag --network=%s is not supported by this version of bxc", net);
	return 0;
}

/* ---- outputs ---- */

static char *joined_tags(const bxc_cli *cli)
{
	return bxc_strv_join(bxc_cli_list(cli, "tag"), ",");
}

static bool makes_image(const char *type)
{
	return bxc_str_eq(type, "image") || bxc_str_eq(type, "oci") || bxc_str_eq(type, "docker");
}

static int plan_outputs(const bxc_cli *cli, build_plan *p, bxc_err **err)
{
	bool push = bxc_cli_flag(cli, "push"), image = false;
	BXC_AUTOFREE char *tags = joined_tags(cli);
	for (char *const *s = bxc_cli_list(cli, "output"); s && *s; s++) {
		int r = output_parse(*s, bxc_arr_push(&p->outputs), err);
		if (r < 0) {
			bxc_err_detail(*err, "usage", "1");
			p->outputs.n--;
			return r;
		}
	}
	BXC_ARR_FOREACH (o, &p->outputs) {
		if (!bxc_str_eq(o->type, "image"))
			continue;
		image = true;
		if (push)
			bxc_env_set(&o->attrs, "push", "true");
	}
	if (push && !image) {
		output *o = bxc_arr_push(&p->outputs);
		o->type = bxc_strdup("image");
		bxc_env_set(&o->attrs, "push", "true");
	}
	BXC_ARR_FOREACH (o, &p->outputs) {
		if (makes_image(o->type) && *tags && !bxc_env_get(o->attrs, "name"))
			bxc_env_set(&o->attrs, "name", tags);
		if (bxc_str_eq(bxc_env_get(o->attrs, "push"), "true") && bxc_str_empty(bxc_env_get(o->attrs, "name")))
			return usage(err, "tag is needed when pushing to registry");
	}
	BXC_ARR_FOREACH (o, &p->outputs) {
		bool stream = bxc_str_eq(o->type, "oci") || bxc_str_eq(o->type, "docker") || bxc_str_eq(o->type, "tar");
		struct stat st;
		if (stream && o->dest && stat(o->dest, &st) == 0 && S_ISDIR(st.st_mode))
			return usage(err, "destination directory %s for %s exporter: a file is needed", o->dest, o->type);
		if (stream && !o->dest && is_detached())
			return usage(err, "--detach leaves no standard output for the %s exporter: give a dest file", o->type);
		if (stream && !o->dest && isatty(STDOUT_FILENO))
			return usage(err, "dest file is required for %s exporter. refusing to write to console", o->type);
		*bxc_arr_push(&p->exports) = (bxc_csess_export){.type = o->type, .dest = o->dest, .fd = stream && !o->dest ? STDOUT_FILENO : -1};
	}
	return 0;
}

static bxc_json *outputs_json(const build_plan *p)
{
	bxc_json *list = bxc_json_array();
	BXC_ARR_FOREACH (o, &p->outputs) {
		bxc_json *j = bxc_json_push_object(list);
		bxc_json_set_str(j, "type", o->type);
		bxc_json *attrs = bxc_json_add_object(j, "attrs");
		for (char **a = o->attrs; a && *a; a++) {
			const char *eq = strchr(*a, '=');
			BXC_AUTOFREE char *key = bxc_strndup(*a, (size_t)(eq - *a));
			bxc_json_set_str(attrs, key, eq + 1);
		}
	}
	return list;
}

/* ---- files ---- */

static int read_optional(const char *path, size_t max, bxc_buf *ret, bxc_err **err)
{
	bxc_err *e = NULL;
	int r = bxc_fs_read_file(AT_FDCWD, path, max, ret, &e);
	if (r == -BXC_NOT_FOUND) {
		bxc_err_free(e);
		return 0;
	}
	if (r < 0)
		return bxc_err_wrap_take(err, e, r, "'%s'", path);
	return 1;
}

static int read_dockerfile(const bxc_cli *cli, build_plan *p, char **ret_path, bxc_err **err)
{
	const char *given = bxc_cli_str(cli, "file");
	BXC_AUTOFREE char *path = given ? bxc_strdup(given) : bxc_str_fmt("%s/Dockerfile", p->context_dir);
	if (bxc_str_eq(given, "-"))
		return usage(err, "a Dockerfile on standard input is not supported by this version of bxc");
	if (given && strstr(given, "://"))
		return usage(err, "remote Dockerfiles are not supported by this version of bxc");
	int r = read_optional(path, BXC_LIMIT_DOCKERFILE, &p->dockerfile, err);
	/* As buildx: a relative name may also be meant within the context, and "dockerfile" is a second default. */
	if (r == 0) {
		char *other = given ? (given[0] == '/' ? NULL : bxc_str_fmt("%s/%s", p->context_dir, given))
				    : bxc_str_fmt("%s/dockerfile", p->context_dir);
		if (other) {
			r = read_optional(other, BXC_LIMIT_DOCKERFILE, &p->dockerfile, err);
			if (r > 0) {
				free(path);
				path = BXC_TAKE(other);
			}
			free(other);
		}
	}
	const char *base = strrchr(path, '/');
	p->dockerfile_name = bxc_strdup(base ? base + 1 : path);
	if (r == 0)
		return bxc_err_set(err, BXC_NOT_FOUND, "failed to read dockerfile: open %s: no such file or directory", p->dockerfile_name);
	if (r < 0)
		return r;
	*ret_path = BXC_TAKE(path);
	return 0;
}

/* <Dockerfile>.dockerignore alone counts where it exists. */
static int read_ignore(build_plan *p, const char *dockerfile, bxc_err **err)
{
	BXC_AUTOFREE char *own = bxc_str_fmt("%s.dockerignore", dockerfile);
	BXC_AUTOFREE char *common = bxc_str_fmt("%s/.dockerignore", p->context_dir);
	const char *path = own;
	int r = read_optional(own, BXC_LIMIT_DOCKERFILE, &p->ignore_text, err);
	if (r == 0) {
		path = common;
		r = read_optional(common, BXC_LIMIT_DOCKERFILE, &p->ignore_text, err);
	}
	if (r <= 0)
		return r;
	const char *slash = strrchr(path, '/');
	p->ignore_name = bxc_strdup(slash ? slash + 1 : path);
	return bxc_ignore_parse(bxc_buf_slice(&p->ignore_text), p->ignore_name, &p->ignore, err);
}

/* ---- the request ---- */

static bxc_json *set_pairs(bxc_json *req, const char *key, char *const *list, bool from_env)
{
	bxc_json *o = bxc_json_add_object(req, key);
	for (; list && *list; list++) {
		const char *eq = strchr(*list, '=');
		BXC_AUTOFREE char *k = bxc_strndup(*list, eq ? (size_t)(eq - *list) : strlen(*list));
		const char *v = eq ? eq + 1 : from_env ? getenv(k) : "";
		if (v && *k)
			bxc_json_set_str(o, k, v);
	}
	return o;
}

static int set_platforms(const bxc_cli *cli, bxc_json *req, bxc_err **err)
{
	BXC_AUTOFREE char *joined = bxc_strv_join(bxc_cli_list(cli, "platform"), ",");
	const char *text = *joined ? joined : getenv("DOCKER_DEFAULT_PLATFORM");
	bxc_json *list = bxc_json_add_array(req, "platforms");
	if (bxc_str_empty(text))
		return 0;
	BXC_AUTOSTRV char **parts = bxc_strv_split(text, ',');
	for (char **p = parts; *p; p++) {
		bxc_platform plat = bxc_platform_host();
		char *s = bxc_str_trim(*p);
		if (!*s)
			continue;
		if (!bxc_str_eq(s, "local") && bxc_platform_parse(s, &plat, err) < 0) {
			bxc_err_detail(*err, "usage", "1");
			return bxc_err_wrap(err, -BXC_INVALID_ARGUMENT, "--platform");
		}
		BXC_AUTOFREE char *norm = bxc_platform_str(&plat);
		bxc_json_push_str(list, norm);
	}
	return 0;
}

static void make_request(const bxc_cli *cli, build_plan *p)
{
	bxc_json *req = p->request;
	bxc_json *d = bxc_json_add_object(req, "dockerfile");
	BXC_AUTOFREE char *data = bxc_base64_encode(p->dockerfile.data, p->dockerfile.len);
	bxc_json_set_str(d, "name", p->dockerfile_name);
	bxc_json_set_str(d, "data", data);
	bxc_json_set_str(req, "context", "context");
	bxc_json_set_str(req, "call", p->call.name);
	if (p->ignore_name) {
		bxc_json *ignore = bxc_json_add_object(req, "ignore");
		BXC_AUTOFREE char *text = bxc_base64_encode(p->ignore_text.data, p->ignore_text.len);
		bxc_json_set_str(ignore, "name", p->ignore_name);
		bxc_json_set_str(ignore, "data", text);
	}
	bxc_json_set_str(req, "target", bxc_cli_str(cli, "target"));
	bxc_json *args = set_pairs(req, "build_args", bxc_cli_list(cli, "build-arg"), true);
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	if (!bxc_str_empty(epoch) && !bxc_json_get(args, "SOURCE_DATE_EPOCH"))
		bxc_json_set_str(args, "SOURCE_DATE_EPOCH", epoch);
	set_pairs(req, "labels", bxc_cli_list(cli, "label"), false);
	bxc_json_set_bool(req, "no_cache", bxc_cli_flag(cli, "no-cache"));
	BXC_AUTOFREE char *filter = bxc_strv_join(bxc_cli_list(cli, "no-cache-filter"), ",");
	BXC_AUTOSTRV char **stages = *filter ? bxc_strv_split(filter, ',') : NULL;
	bxc_json_set_strv(req, "no_cache_filter", stages);
	bxc_json_set_take(req, "exports", outputs_json(p));
	BXC_AUTOFREE char *tags = joined_tags(cli);
	bxc_json_set_str(req, "name", *tags ? tags : p->dockerfile_name);
	bxc_json_set_str(req, "client", "bxc/" BXC_VERSION);
}

int build_plan_make(const bxc_cli *cli, build_plan *p, bxc_err **err)
{
	const char *context = bxc_cli_arg(cli, 0);
	struct stat st;
	BXC_AUTOFREE char *dockerfile = NULL;
	bxc_buf_init(&p->dockerfile, BXC_LIMIT_DOCKERFILE);
	bxc_buf_init(&p->ignore_text, BXC_LIMIT_DOCKERFILE);
	p->request = bxc_json_object();
	p->iidfile = bxc_cli_str(cli, "iidfile");
	p->metadata_file = bxc_cli_str(cli, "metadata-file");
	p->quiet = bxc_cli_flag(cli, "quiet");
	p->debug = bxc_cli_flag(cli, "debug");
	p->progress = bxc_cli_str(cli, "progress");
	int r = check_refused(cli, err);
	if (r < 0)
		return r;
	if (p->quiet && p->progress && !bxc_str_eq(p->progress, "quiet") && !bxc_str_eq(p->progress, "auto"))
		return usage(err, "progress=%s and quiet cannot be used together", p->progress);
	if (!p->progress)
		p->progress = getenv("BUILDKIT_PROGRESS");
	if (bxc_str_empty(p->progress))
		p->progress = "auto";
	if (is_detached())
		p->progress = "quiet";
	if (bxc_cli_flag(cli, "no-cache") && bxc_cli_has(cli, "no-cache-filter"))
		return usage(err, "--no-cache and --no-cache-filter cannot currently be used together");
	if (bxc_str_eq(context, "-") || strstr(context, "://") || bxc_str_has_prefix(context, "git@") || bxc_str_has_prefix(context, "github.com/"))
		return usage(err, "context '%s' is not supported by this version of bxc: give a folder", context);
	if (stat(context, &st) < 0)
		return bxc_err_errno(err, errno, "unable to prepare context: path \"%s\" not found", context);
	if (!S_ISDIR(st.st_mode))
		return usage(err, "unable to prepare context: '%s' is no folder", context);
	p->context_dir = bxc_strdup(context);
	const char *call = bxc_cli_flag(cli, "check") ? "check" : bxc_cli_str(cli, "call");
	if (!bxc_str_empty(call))
		r = call_parse(call, &p->call, err);
	/* A question has an answer, and no other output. */
	if (r >= 0 && !p->call.name)
		r = plan_outputs(cli, p, err);
	if (r >= 0)
		r = read_dockerfile(cli, p, &dockerfile, err);
	if (r >= 0)
		r = read_ignore(p, dockerfile, err);
	if (r >= 0)
		r = set_platforms(cli, p->request, err);
	if (r < 0)
		return r;
	bxc_json *attests;
	r = attests_read(cli, &attests, err);
	if (r < 0) {
		bxc_err_detail(*err, "usage", "1");
		return r;
	}
	make_request(cli, p);
	bxc_json_set_take(p->request, "attests", attests);
	return 0;
}
