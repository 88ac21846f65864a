/* SPDX-License-Identifier: Apache-2.0 */
/* From flags and files to a build request. */
#include "client/cmd/cmd_internal.h"

#include <string.h>
#include <sys/stat.h>

#include "common/base/mem.h"
#include "common/base/str.h"

const char *const cmd_progress_modes[] = {"auto", "plain", "tty", "rawjson", "quiet", "none", NULL};

const bxc_cli_opt cmd_build_opts[CMD_BUILD_N_OPTS] = {
	{"file", 'f', BXC_CLI_STRING, "FILE", "name of the Dockerfile (default: CONTEXT/Dockerfile), a URL, or - for standard input"},
	{"build-context", 0, BXC_CLI_LIST, "NAME=SOURCE", "what stands for stages and images of a name: a folder, docker-image://, oci-layout://, git or http URL"},
	{"tag", 't', BXC_CLI_LIST, "NAME", "name of the image (format: [registry/]repository[:tag])"},
	{"build-arg", 0, BXC_CLI_LIST, "K=V", "set a build-time variable; without a value the one of the environment"},
	{"target", 0, BXC_CLI_STRING, "STAGE", "the stage to build"},
	{"platform", 0, BXC_CLI_LIST, "OS/ARCH", "platforms to build for, separated by commas"},
	{"no-cache", 0, BXC_CLI_FLAG, NULL, "do not use the cache"},
	{"no-cache-filter", 0, BXC_CLI_LIST, "STAGE", "do not use the cache for these stages"},
	{"cache-from", 0, BXC_CLI_LIST, "SPEC", "a cache to use: type=registry,ref=NAME, type=local,src=FOLDER, or a name"},
	{"cache-to", 0, BXC_CLI_LIST, "SPEC", "where to put a cache: type=inline, type=registry,ref=NAME, type=local,dest=FOLDER"},
	{"expect-cached", 0, BXC_CLI_FLAG, NULL, "run nothing: fail, and tell why, when a step is not cached"},
	{"output", 'o', BXC_CLI_LIST, "SPEC", "where the result goes: type=TYPE,dest=PATH, a folder, or - for a tar on standard output"},
	{"push", 0, BXC_CLI_FLAG, NULL, "push the image to its registry"},
	{"load", 0, BXC_CLI_FLAG, NULL, "load the image into the Docker of this machine"},
	{"label", 0, BXC_CLI_LIST, "K=V", "set a label of the image"},
	{"progress", 0, BXC_CLI_STRING, "MODE", "auto, plain, tty, rawjson, quiet or none", cmd_progress_modes},
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
	{"secret", 0, BXC_CLI_LIST, "SPEC", "a secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=VARIABLE]"},
	{"ssh", 0, BXC_CLI_LIST, "SPEC", "an SSH agent for RUN --mount=type=ssh: default|ID[=SOCKET|KEY[,KEY]]"},
	{"annotation", 0, BXC_CLI_LIST, "K=V", "annotate the image: [TYPE[PLATFORM]:]KEY=VALUE; types are manifest, index, manifest-descriptor and index-descriptor"},
	{"add-host", 0, BXC_CLI_LIST, "NAME:IP", "a line of /etc/hosts for RUN; host-gateway: the host of the step"},
	{"allow", 0, BXC_CLI_LIST, "WHAT", "network.host, security.insecure: steps may ask for it; buildx.local.delete: outputs with mode=delete may lie anywhere"},
	{"cgroup-parent", 0, BXC_CLI_STRING, "PATH", "control group for RUN"},
	{"network", 0, BXC_CLI_STRING, "MODE", "network of RUN: default, none or host"},
	{"shm-size", 0, BXC_CLI_STRING, "BYTES", "size of /dev/shm for RUN (default: 64m)"},
	{"ulimit", 0, BXC_CLI_LIST, "LIMIT", "a limit for RUN: NAME=SOFT[:HARD]"},
	/* Known of buildx, hidden; refused by name, never ignored. */
	{"policy", 0, BXC_CLI_LIST, "X", "", NULL, NULL, true},
	{"memory", 'm', BXC_CLI_STRING, "X", "", NULL, NULL, true},
	{"memory-swap", 0, BXC_CLI_STRING, "X", "", NULL, NULL, true},
	{"cpu-shares", 'c', BXC_CLI_STRING, "X", "", NULL, NULL, true},
	{"cpu-period", 0, BXC_CLI_STRING, "X", "", NULL, NULL, true},
	{"cpu-quota", 0, BXC_CLI_STRING, "X", "", NULL, NULL, true},
	{"cpuset-cpus", 0, BXC_CLI_STRING, "X", "", NULL, NULL, true},
	{"cpuset-mems", 0, BXC_CLI_STRING, "X", "", NULL, NULL, true},
	{"resource", 0, BXC_CLI_LIST, "X", "", NULL, NULL, true},
	/* Of older builders, without a meaning here: a text, and a warning. */
	{"compress", 0, BXC_CLI_FLAG, NULL, "files travel compressed in any case", NULL, NULL, true},
	{"force-rm", 0, BXC_CLI_FLAG, NULL, "no containers are kept", NULL, NULL, true},
	{"isolation", 0, BXC_CLI_STRING, "X", "steps run in containers of Linux", NULL, NULL, true},
	{"rm", 0, BXC_CLI_FLAG, NULL, "no containers are kept", NULL, NULL, true},
	{"security-opt", 0, BXC_CLI_LIST, "X", "see --allow security.insecure", NULL, NULL, true},
	{"squash", 0, BXC_CLI_FLAG, NULL, "layers are kept as they are", NULL, NULL, true},
	{"source-policy-file", 0, BXC_CLI_STRING, "X", "", NULL, NULL, true},
};
_Static_assert(BXC_ARRAY_SIZE(cmd_build_opts) == CMD_BUILD_N_OPTS, "count the options");

void build_plan_done(build_plan *p)
{
	free(p->call.name);
	plan_context_done(p);
	bxc_json_free(p->request);
	BXC_ARR_FOREACH (o, &p->outputs)
		output_done(o);
	bxc_arr_done(&p->outputs);
	bxc_arr_done(&p->exports);
	BXC_ARR_FOREACH (s, &p->secrets)
		secret_done(s);
	bxc_arr_done(&p->secrets);
	BXC_ARR_FOREACH (a, &p->agents)
		agent_done(a);
	bxc_arr_done(&p->agents);
	bxc_arr_done(&p->served_secrets);
	bxc_arr_done(&p->served_agents);
	BXC_ARR_FOREACH (c, &p->cache_from)
		cache_spec_done(c);
	bxc_arr_done(&p->cache_from);
	BXC_ARR_FOREACH (c, &p->cache_to)
		cache_spec_done(c);
	bxc_arr_done(&p->cache_to);
	bxc_arr_done(&p->imports);
	bxc_arr_done(&p->caches);
}

int cmd_usage_mark(bxc_err **err, int r)
{
	bxc_err_detail(*err, "usage", "1");
	return r;
}

int cmd_usage(bxc_err **err, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int r = bxc_err_setv(err, BXC_INVALID_ARGUMENT, fmt, ap);
	va_end(ap);
	return cmd_usage_mark(err, r);
}

bool cmd_is_usage(const bxc_err *err)
{
	return bxc_err_get_detail(err, "usage") != NULL;
}

static int check_refused(const bxc_cli *cli, bxc_err **err)
{
	for (size_t i = 0; i < BXC_ARRAY_SIZE(cmd_build_opts); i++) {
		const bxc_cli_opt *o = &cmd_build_opts[i];
		if (!o->hidden || !bxc_cli_has(cli, o->name))
			continue;
		if (*o->help)
			fprintf(stderr, "WARNING: flag --%s is ignored: %s\n", o->name, o->help);
		else
			return cmd_usage(err, "flag --%s is not supported by this version of bxc", o->name);
	}
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
			p->outputs.n--;
			return cmd_usage_mark(err, r);
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
	if (bxc_cli_flag(cli, "load")) {
		if (push)
			return cmd_usage(err, "push and load may not be set together at the moment");
		p->load_index = p->outputs.n;
		p->load = true;
		bxc_arr_push(&p->outputs)->type = bxc_strdup("docker");
	}
	BXC_ARR_FOREACH (o, &p->outputs) {
		if (makes_image(o->type) && *tags && !bxc_env_get(o->attrs, "name"))
			bxc_env_set(&o->attrs, "name", tags);
		if (bxc_str_eq(bxc_env_get(o->attrs, "push"), "true") && bxc_str_empty(bxc_env_get(o->attrs, "name")))
			return cmd_usage(err, "tag is needed when pushing to registry");
	}
	BXC_ARR_FOREACH (o, &p->outputs) {
		bool is_load = p->load && p->exports.n == p->load_index;
		bool stream = bxc_str_eq(o->type, "oci") || bxc_str_eq(o->type, "docker") || bxc_str_eq(o->type, "tar");
		struct stat st;
		bool layout = false, exact = false;
		int r = output_is_layout(o, &layout, err);
		if (r >= 0)
			r = output_is_exact(o, build_is_allowed(cli, OUTPUT_MAY_DELETE), &exact, err);
		if (r < 0)
			return cmd_usage_mark(err, r);
		if (stream && !layout && o->dest && stat(o->dest, &st) == 0 && S_ISDIR(st.st_mode))
			return cmd_usage(err, "destination directory %s for %s exporter: a file is needed", o->dest, o->type);
		if (stream && !is_load && !o->dest && is_detached())
			return cmd_usage(err, "--detach leaves no standard output for the %s exporter: give a dest file", o->type);
		if (stream && !is_load && !o->dest && isatty(STDOUT_FILENO))
			return cmd_usage(err, "dest file is required for %s exporter. refusing to write to console", o->type);
		*bxc_arr_push(&p->exports) = (bxc_csess_export){
			.type = o->type,
			.dest = o->dest,
			.layout = layout,
			.exact = exact,
			.fd = stream && !o->dest ? STDOUT_FILENO : -1,
		};
	}
	return 0;
}

static bxc_json *outputs_json(const build_plan *p)
{
	bxc_json *list = bxc_json_array();
	BXC_ARR_FOREACH (o, &p->outputs) {
		bxc_json *j = bxc_json_push_object(list);
		bxc_json_set_str(j, "type", o->type);
		cmd_set_pairs(j, "attrs", o->attrs, false);
	}
	return list;
}

/* ---- the request ---- */

bxc_json *cmd_set_pairs(bxc_json *req, const char *key, char *const *list, bool from_env)
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
		if (!bxc_str_eq(s, "local") && bxc_platform_parse(s, &plat, err) < 0)
			return bxc_err_wrap(err, cmd_usage_mark(err, -BXC_INVALID_ARGUMENT), "--platform");
		BXC_AUTOFREE char *norm = bxc_platform_str(&plat);
		bxc_json_push_str(list, norm);
	}
	return 0;
}

static void make_request(const bxc_cli *cli, build_plan *p)
{
	bxc_json *req = p->request;
	bxc_json_set_str(req, "call", p->call.name);
	bxc_json_set_str(req, "target", bxc_cli_str(cli, "target"));
	bxc_json *args = cmd_set_pairs(req, "build_args", bxc_cli_list(cli, "build-arg"), true);
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	if (!bxc_str_empty(epoch) && !bxc_json_get(args, "SOURCE_DATE_EPOCH"))
		bxc_json_set_str(args, "SOURCE_DATE_EPOCH", epoch);
	cmd_set_pairs(req, "labels", bxc_cli_list(cli, "label"), false);
	bxc_json_set_bool(req, "no_cache", bxc_cli_flag(cli, "no-cache"));
	BXC_AUTOFREE char *filter = bxc_strv_join(bxc_cli_list(cli, "no-cache-filter"), ",");
	BXC_AUTOSTRV char **stages = *filter ? bxc_strv_split(filter, ',') : NULL;
	bxc_json_set_strv(req, "no_cache_filter", stages);
	if (bxc_cli_flag(cli, "expect-cached"))
		bxc_json_set_bool(req, "expect_cached", true);
	bxc_json_set_take(req, "exports", outputs_json(p));
	BXC_AUTOFREE char *tags = joined_tags(cli);
	bxc_json_set_str(req, "name", *tags ? tags : p->dockerfile_name);
	bxc_json_set_str(req, "client", "bxc/" BXC_VERSION);
}

int build_plan_make(const bxc_cli *cli, build_plan *p, bxc_err **err)
{
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
		return cmd_usage(err, "progress=%s and quiet cannot be used together", p->progress);
	if (!p->progress)
		p->progress = getenv("BUILDKIT_PROGRESS");
	if (bxc_str_empty(p->progress))
		p->progress = "auto";
	if (is_detached())
		p->progress = "quiet";
	if (bxc_cli_flag(cli, "no-cache") && bxc_cli_has(cli, "no-cache-filter"))
		return cmd_usage(err, "--no-cache and --no-cache-filter cannot currently be used together");
	if (bxc_cli_flag(cli, "expect-cached") && (bxc_cli_flag(cli, "no-cache") || bxc_cli_has(cli, "no-cache-filter")))
		return cmd_usage(err, "--expect-cached and --no-cache or --no-cache-filter cannot be used together");
	const char *call = bxc_cli_flag(cli, "check") ? "check" : bxc_cli_str(cli, "call");
	if (!bxc_str_empty(call))
		r = call_parse(call, &p->call, err);
	/* A question has an answer, and no other output. */
	if (r >= 0 && !p->call.name)
		r = plan_outputs(cli, p, err);
	if (r >= 0)
		r = annotations_plan(cli, p, err);
	if (r >= 0 && !p->call.name)
		r = plan_caches(cli, p, err);
	if (r >= 0)
		r = plan_context(cli, p, err);
	if (r >= 0)
		r = plan_named_contexts(cli, p, err);
	if (r >= 0)
		r = set_platforms(cli, p->request, err);
	if (r >= 0)
		r = build_plan_run(cli, p, err);
	if (r < 0)
		return r;
	bxc_json *attests;
	r = attests_read(cli, &attests, err);
	if (r < 0)
		return cmd_usage_mark(err, r);
	make_request(cli, p);
	bxc_json_set_take(p->request, "attests", attests);
	return 0;
}
