/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "client/cmd/cmd_internal.h"
#include "common/base/str.h"
#include "common/os/fs.h"

static char context_dir[64];

static int make_context(void **state)
{
	(void)state;
	static const char text[] = "FROM scratch\n";
	snprintf(context_dir, sizeof(context_dir), "/tmp/bxc-cmd-XXXXXX");
	assert_non_null(mkdtemp(context_dir));
	BXC_AUTOCLOSE int fd = open(context_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return bxc_fs_write_atomic(fd, "Dockerfile", text, strlen(text), 0644, NULL);
}

static int remove_context(void **state)
{
	(void)state;
	BXC_AUTOCLOSE int fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return bxc_fs_rmtree(fd, context_dir + strlen("/tmp/"), NULL);
}

/* A build of the temporary context with these flags. */
static int plan(const char *flags, build_plan *ret, bxc_err **err)
{
	BXC_AUTOFREE char *line =
		bxc_str_fmt("bxc build%s%s %s", *flags ? " " : "", flags, context_dir);
	BXC_AUTOSTRV char **argv = bxc_strv_split(line, ' ');
	BXC_CLEANUP(bxc_cli_freep) bxc_cli *cli = NULL;
	assert_int_equal(
		bxc_cli_parse(&bxc_cmd_root, (int)bxc_strv_len(argv), argv, &cli, NULL), 0);
	return build_plan_make(cli, ret, err);
}

static void assert_plan(const char *flags, build_plan *ret)
{
	BXC_AUTOERR bxc_err *err = NULL;
	if (plan(flags, ret, &err) < 0)
		fail_msg("%s: %s", flags, bxc_err_text(err));
}

static void assert_refused(const char *flags, const char *text)
{
	BXC_AUTOERR bxc_err *err = NULL;
	build_plan p = {0};
	assert_true(plan(flags, &p, &err) < 0);
	if (!strstr(bxc_err_text(err), text))
		fail_msg("'%s' is not in '%s'", text, bxc_err_text(err));
	build_plan_done(&p);
}

/* ---- outputs ---- */

static void a_path_is_a_local_output_and_a_dash_a_tar_on_stdout(void **state)
{
	(void)state;
	output o;
	assert_int_equal(output_parse("out/dir", &o, NULL), 0);
	assert_string_equal(o.type, "local");
	assert_string_equal(o.dest, "out/dir");
	output_done(&o);
	assert_int_equal(output_parse("-", &o, NULL), 0);
	assert_string_equal(o.type, "tar");
	assert_null(o.dest);
	output_done(&o);
}

static void quoted_fields_hold_commas_and_quotes(void **state)
{
	(void)state;
	output o;
	assert_int_equal(
		output_parse("type=image,\"name=a,b\",\"note=say \"\"hi\"\"\"", &o, NULL), 0);
	assert_string_equal(bxc_env_get(o.attrs, "name"), "a,b");
	assert_string_equal(bxc_env_get(o.attrs, "note"), "say \"hi\"");
	output_done(&o);
}

static void the_destination_is_kept_from_the_attributes(void **state)
{
	(void)state;
	output o;
	assert_int_equal(output_parse("type=oci,dest=/tmp/x.tar,compression=zstd", &o, NULL), 0);
	assert_string_equal(o.dest, "/tmp/x.tar");
	assert_null(bxc_env_get(o.attrs, "dest"));
	assert_null(bxc_env_get(o.attrs, "type"));
	assert_string_equal(bxc_env_get(o.attrs, "compression"), "zstd");
	output_done(&o);
}

static void a_registry_output_is_an_image_that_is_pushed(void **state)
{
	(void)state;
	output o;
	assert_int_equal(output_parse("type=registry,name=r.example/a", &o, NULL), 0);
	assert_string_equal(o.type, "image");
	assert_string_equal(bxc_env_get(o.attrs, "push"), "true");
	output_done(&o);
}

static void broken_specs_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"type=image,name", "dest=x", "type=image,\"name=a",
		"\"type=image\"x", "type=local"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		output o;
		assert_int_equal(output_parse(bad[i], &o, NULL), -BXC_INVALID_ARGUMENT);
	}
}

static void push_makes_an_image_output_named_by_the_tags(void **state)
{
	(void)state;
	build_plan p = {0};
	assert_plan("--push -t r.example/a:1 -t r.example/a:2", &p);
	assert_int_equal(p.outputs.n, 1);
	assert_int_equal(p.exports.n, 1);
	assert_string_equal(p.outputs.v[0].type, "image");
	assert_string_equal(
		bxc_env_get(p.outputs.v[0].attrs, "name"), "r.example/a:1,r.example/a:2");
	assert_string_equal(bxc_env_get(p.outputs.v[0].attrs, "push"), "true");
	build_plan_done(&p);
}

static void push_needs_a_tag(void **state)
{
	(void)state;
	assert_refused("--push", "tag is needed when pushing to registry");
}

/* ---- flags ---- */

static void a_bare_build_arg_takes_the_environment_or_nothing(void **state)
{
	(void)state;
	setenv("BXC_TEST_SET", "from env", 1);
	unsetenv("BXC_TEST_UNSET");
	build_plan p = {0};
	assert_plan("--build-arg A=1=2 --build-arg BXC_TEST_SET --build-arg BXC_TEST_UNSET "
		    "--build-arg E= --label only --label k=v",
		&p);
	const bxc_json *args = bxc_json_get(p.request, "build_args"),
		       *labels = bxc_json_get(p.request, "labels");
	assert_string_equal(bxc_json_get_str(args, "A", NULL), "1=2");
	assert_string_equal(bxc_json_get_str(args, "BXC_TEST_SET", NULL), "from env");
	assert_null(bxc_json_get(args, "BXC_TEST_UNSET"));
	assert_string_equal(bxc_json_get_str(args, "E", NULL), "");
	assert_string_equal(bxc_json_get_str(labels, "only", NULL), "");
	assert_string_equal(bxc_json_get_str(labels, "k", NULL), "v");
	build_plan_done(&p);
}

static void platforms_come_in_lists_and_from_the_environment(void **state)
{
	(void)state;
	build_plan p = {0};
	setenv("DOCKER_DEFAULT_PLATFORM", "linux/s390x", 1);
	assert_plan("--platform linux/amd64,linux/arm64", &p);
	const bxc_json *list = bxc_json_get(p.request, "platforms");
	assert_int_equal(bxc_json_len(list), 2);
	assert_string_equal(bxc_json_string(bxc_json_at(list, 1)), "linux/arm64");
	build_plan_done(&p);
	p = (build_plan){0};
	assert_plan("", &p);
	assert_string_equal(bxc_json_string(bxc_json_at(bxc_json_get(p.request, "platforms"), 0)),
		"linux/s390x");
	build_plan_done(&p);
	unsetenv("DOCKER_DEFAULT_PLATFORM");
}

/* ---- RUN ---- */

static char *field(const build_plan *p, const char *name)
{
	return bxc_json_print(bxc_json_get(p->request, name));
}

static void assert_field(const char *flags, const char *name, const char *want)
{
	build_plan p = {0};
	assert_plan(flags, &p);
	BXC_AUTOFREE char *got = field(&p, name);
	assert_string_equal(got, want);
	build_plan_done(&p);
}

static void secrets_come_from_files_or_the_environment(void **state)
{
	(void)state;
	build_plan p = {0};
	assert_int_equal(setenv("BXC_TEST_SET", "value", 1), 0);
	BXC_AUTOFREE char *flags = bxc_str_fmt(
		"--secret id=a,src=%s/Dockerfile --secret type=env,id=b,src=V --secret id=c,env=V "
		"--secret id=BXC_TEST_SET --secret \"id=d\",type=file,source=%s/Dockerfile",
		context_dir, context_dir);
	assert_plan(flags, &p);
	BXC_AUTOFREE char *file = bxc_str_fmt("%s/Dockerfile", context_dir);
	const struct {
		const char *id, *file, *env;
	} want[] = {{"a", file, NULL}, {"b", NULL, "V"}, {"c", NULL, "V"},
		{"BXC_TEST_SET", NULL, "BXC_TEST_SET"}, {"d", file, NULL}};
	assert_int_equal(p.served_secrets.n, BXC_ARRAY_SIZE(want));
	for (size_t i = 0; i < BXC_ARRAY_SIZE(want); i++) {
		const bxc_csess_secret *s = &p.served_secrets.v[i];
		assert_string_equal(s->id, want[i].id);
		assert_true(bxc_str_eq(s->file, want[i].file) && bxc_str_eq(s->env, want[i].env));
	}
	/* Nothing of them is in the request. */
	BXC_AUTOFREE char *request = bxc_json_print(p.request);
	assert_null(strstr(request, "BXC_TEST_SET"));
	build_plan_done(&p);
	assert_refused("--secret src=x", "secret missing ID");
	assert_refused("--secret id=x,env", "invalid field 'env' must be a key=value pair");
	assert_refused("--secret id=x,type=raw", "unsupported secret type \"raw\"");
	assert_refused("--secret id=x,colour=red", "unexpected key 'colour'");
	assert_refused("--secret id=/no/such/file", "failed to stat /no/such/file");
	assert_refused("--secret id=x,src=/tmp", "'/tmp' is a folder");
}

static void options_of_steps_are_in_the_request(void **state)
{
	(void)state;
	assert_field("--add-host a:1.2.3.4 --add-host b=::1 --add-host c:[2001:db8::1] --add-host "
		     "d:host-gateway",
		"extra_hosts", "[\"a=1.2.3.4\",\"b=::1\",\"c=2001:db8::1\",\"d=host-gateway\"]");
	assert_field("--ulimit nofile=10 --ulimit core=-1 --ulimit nproc=5:-1", "ulimits",
		"[\"nofile=10:10\",\"core=-1:-1\",\"nproc=5:-1\"]");
	assert_field("--shm-size 2m", "shm_size", "2097152");
	assert_field("--network none", "network", "\"none\"");
	assert_field("--network host --allow security.insecure", "entitlements",
		"[\"security.insecure\",\"network.host\"]");
	assert_field("--cgroup-parent a/b", "cgroup_parent", "\"a/b\"");
	assert_refused("--add-host a:b", "'b' is no IP address");
	assert_refused("--add-host a", "expected name:ip");
	assert_refused(
		"--ulimit nofile=3:2", "soft limit must be less than or equal to hard limit");
	assert_refused("--ulimit files=3", "invalid ulimit type: files");
	assert_refused("--shm-size big", "invalid size");
	assert_refused("--network bridge", "network mode \"bridge\" not supported");
	assert_refused("--allow everything", "invalid entitlement \"everything\"");
	assert_refused("--allow device=x", "no worker offers devices");
}

static void annotations_are_attributes_of_image_outputs(void **state)
{
	(void)state;
	build_plan p = {0};
	assert_plan("-o type=oci,dest=/tmp/x -o out --annotation A=1 --annotation "
		    "index,manifest[linux/amd64]:b.C=2=3 "
		    "--annotation index[linux/amd64]:d=4",
		&p);
	char **a = p.outputs.v[0].attrs;
	assert_string_equal(bxc_env_get(a, "annotation.A"), "1");
	assert_string_equal(bxc_env_get(a, "annotation-index.b.C"), "2=3");
	assert_string_equal(bxc_env_get(a, "annotation-manifest[linux/amd64].b.C"), "2=3");
	assert_string_equal(bxc_env_get(a, "annotation-index.d"), "4");
	assert_null(p.outputs.v[1].attrs);
	build_plan_done(&p);
	assert_refused("--annotation attic:a=1", "unknown annotation type \"attic\"");
	assert_refused("--annotation a", "expected key=value");
	assert_refused("--annotation manifest[x/y/z/q]:a=1", "invalid platform");
}

/* 1.4 Source policy (JSON), 1.4 Policy (rego) */
static void what_is_not_supported_is_refused_by_name(void **state)
{
	(void)state;
	assert_refused("--policy x", "--policy is not supported by this version of bxc");
	assert_refused("--cpu-shares 2", "--cpu-shares is not supported by this version of bxc");
	assert_refused("--load --push -t x", "push and load may not be set together");
}

static const char *provenance(const build_plan *p, const char *key)
{
	return bxc_json_get_str(
		bxc_json_get(bxc_json_get(p->request, "attests"), "provenance"), key, "");
}

static void provenance_is_the_default_and_can_be_chosen(void **state)
{
	(void)state;
	build_plan p = {0};
	assert_plan("", &p);
	assert_string_equal(provenance(&p, "mode"), "min");
	assert_string_equal(provenance(&p, "inline-only"), "true");
	build_plan_done(&p);
	p = (build_plan){0};
	assert_plan("--attest type=provenance,mode=max,version=v0.2 --sbom=false --pull", &p);
	assert_string_equal(provenance(&p, "mode"), "max");
	assert_string_equal(provenance(&p, "version"), "v0.2");
	assert_string_equal(provenance(&p, "inline-only"), "");
	build_plan_done(&p);
	p = (build_plan){0};
	assert_plan("--provenance=false", &p);
	assert_string_equal(provenance(&p, "disabled"), "true");
	build_plan_done(&p);
	p = (build_plan){0};
	setenv("BUILDX_NO_DEFAULT_ATTESTATIONS", "1", 1);
	assert_plan("", &p);
	unsetenv("BUILDX_NO_DEFAULT_ATTESTATIONS");
	assert_null(bxc_json_get(bxc_json_get(p.request, "attests"), "provenance"));
	build_plan_done(&p);
	assert_refused("--provenance=mode=max --attest type=provenance",
		"duplicate attestation field provenance");
	assert_refused("--attest mode=max", "attestation type not specified");
	assert_refused("--sbom", "attestations of type 'sbom' are not supported");
}

/* 1.4 Dockerfile lookup */
static void a_missing_dockerfile_is_said_as_buildkit_says_it(void **state)
{
	(void)state;
	BXC_AUTOFREE char *flags = bxc_str_fmt("-f %s/nope.Dockerfile", context_dir);
	assert_refused(flags,
		"failed to read dockerfile: open nope.Dockerfile: no such file or directory");
}

static void a_question_has_no_outputs(void **state)
{
	(void)state;
	build_plan p = {0};
	assert_plan("--check -o type=oci", &p);
	assert_string_equal(bxc_json_get_str(p.request, "call", ""), "lint");
	assert_int_equal(bxc_json_len(bxc_json_get(p.request, "exports")), 0);
	build_plan_done(&p);
	p = (build_plan){0};
	assert_plan("--call=targets,format=json,ignorestatus=true", &p);
	assert_string_equal(p.call.name, "targets");
	assert_true(p.call.json && p.call.ignore_status);
	build_plan_done(&p);
	p = (build_plan){0};
	assert_plan("--call=build -o type=cacheonly", &p);
	assert_null(p.call.name);
	assert_int_equal(bxc_json_len(bxc_json_get(p.request, "exports")), 1);
	build_plan_done(&p);
	assert_refused("--call=chekc", "unsupported request \"chekc\" (did you mean check?)");
	assert_refused("--call=check,color=red", "invalid call field: color=red");
	assert_refused("--call=check,outline", "invalid call value: check,outline");
	assert_refused("--call=check,format=xml", "format 'xml'");
}

/* The exit code; what is printed goes to *ret_out and *ret_err (owned). */
static int answered(const char *call, const char *answer, char **ret_out, char **ret_err)
{
	static char file[] = "FROM x\nCMD y\nENV a=b\n";
	build_plan p = {.dockerfile_name = (char[]){"Dockerfile"}};
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *j = NULL;
	size_t n_out, n_err;
	bxc_buf_init(&p.dockerfile, 100);
	bxc_buf_adds(&p.dockerfile, file);
	assert_int_equal(call_parse(call, &p.call, &err), 0);
	assert_int_equal(bxc_json_parse(bxc_slice_of(answer, strlen(answer)), &j, &err), 0);
	FILE *out = open_memstream(ret_out, &n_out), *err_out = open_memstream(ret_err, &n_err);
	int code = call_print(&p, j, out, err_out);
	fclose(out);
	fclose(err_out);
	bxc_buf_done(&p.dockerfile);
	free(p.call.name);
	return code;
}

#define RANGE_2	 "\"location\":{\"ranges\":[{\"start\":{\"line\":2},\"end\":{\"line\":2}}]}"
#define WARNING_2 "{\"ruleName\":\"R\",\"description\":\"D\",\"url\":\"https://u\",\"detail\":\"T\"," RANGE_2 "}"
#define EXCERPT_2                                                                                                                 \
	"Dockerfile:2\n--------------------\n   1 |     FROM x\n   2 | >>> CMD y\n   3 |     ENV a=b\n   4 |     \n--------------------\n"

static void checks_are_told_as_buildx_tells_them(void **state)
{
	(void)state;
	BXC_AUTOFREE char *out = NULL;
	BXC_AUTOFREE char *err = NULL;
	assert_int_equal(answered("check", "{\"status\":1,\"document\":{\"warnings\":[" WARNING_2 "]}}", &out, &err), 1);
	assert_string_equal(out, "Check complete, 1 warning has been found!\n\nWARNING: R - https://u\nT\n" EXCERPT_2);
	assert_string_equal(err, "");
	free(BXC_TAKE(out));
	free(BXC_TAKE(err));
	assert_int_equal(answered("check,ignorestatus=true", "{\"status\":1,\"document\":{\"warnings\":[" WARNING_2 "," WARNING_2 "]}}", &out, &err), 0);
	assert_true(bxc_str_has_prefix(out, "Check complete, 2 warnings have been found!\n"));
	free(BXC_TAKE(out));
	free(BXC_TAKE(err));
	assert_int_equal(answered("check", "{\"status\":0,\"document\":{\"warnings\":[]}}", &out, &err), 0);
	assert_string_equal(out, "Check complete, no warnings found.\n");
	free(BXC_TAKE(out));
	free(BXC_TAKE(err));
	assert_int_equal(answered("check", "{\"status\":1,\"document\":{\"warnings\":[],\"buildError\":{\"message\":\"M\"," RANGE_2 "}}}", &out, &err), 1);
	assert_string_equal(out, "");
	assert_string_equal(err, "ERROR: M\n" EXCERPT_2);
}

static void json_answers_hold_the_file(void **state)
{
	(void)state;
	BXC_AUTOFREE char *out = NULL;
	BXC_AUTOFREE char *err = NULL;
	assert_int_equal(answered("check,format=json", "{\"status\":0,\"document\":{\"warnings\":[]}}", &out, &err), 0);
	assert_string_equal(out, "{\n  \"warnings\": [],\n  \"sources\": [\n    {\n      \"filename\": \"Dockerfile\",\n"
				 "      \"data\": \"RlJPTSB4CkNNRCB5CkVOViBhPWIK\",\n      \"language\": \"Dockerfile\"\n    }\n  ]\n}\n");
	free(BXC_TAKE(out));
	free(BXC_TAKE(err));
	assert_int_equal(answered("targets,format=json", "{\"status\":0,\"document\":{\"targets\":[]}}", &out, &err), 0);
	assert_string_equal(out, "{\n  \"targets\": [],\n  \"sources\": [\n    \"RlJPTSB4CkNNRCB5CkVOViBhPWIK\"\n  ]\n}\n");
}

static void tables_are_told_as_buildx_tells_them(void **state)
{
	(void)state;
	BXC_AUTOFREE char *out = NULL;
	BXC_AUTOFREE char *err = NULL;
	answered("outline",
		"{\"document\":{\"name\":\"app\",\"description\":\"the app\",\"args\":[{\"name\":\"A\",\"value\":\"1\",\"description\":\"d\"},{\"name\":\"LONGER\"}],"
		"\"secrets\":[{\"name\":\"s\",\"required\":true}],\"ssh\":[{\"name\":\"default\"}]}}",
		&out, &err);
	assert_string_equal(out, "TARGET:      app\nDESCRIPTION: the app\n\n"
				 "BUILD ARG   VALUE   DESCRIPTION\nA           1       d\nLONGER              \n\n"
				 "SECRET   REQUIRED\ns        true\n\nSSH       REQUIRED\ndefault   \n\n");
	free(BXC_TAKE(out));
	free(BXC_TAKE(err));
	answered("targets", "{\"document\":{\"targets\":[{\"name\":\"a\",\"description\":\"x\"},{\"default\":true}]}}", &out, &err);
	assert_string_equal(out, "TARGET    DESCRIPTION\na         x\n(default) \n");
}

#define T(f) cmocka_unit_test_setup_teardown(f, make_context, remove_context)

/* ---- caches ---- */

static void a_name_is_a_cache_in_a_registry_and_several_may_stand_in_one_flag(void **state)
{
	(void)state;
	build_plan p = {0};
	assert_plan("--cache-from a/b:c,r.example/d --cache-from type=registry,ref=e,Mode=max --cache-to r.example/f", &p);
	assert_int_equal(p.cache_from.n, 3);
	assert_string_equal(p.cache_from.v[0].type, "registry");
	assert_string_equal(bxc_env_get(p.cache_from.v[0].attrs, "ref"), "a/b:c");
	assert_string_equal(bxc_env_get(p.cache_from.v[1].attrs, "ref"), "r.example/d");
	assert_string_equal(bxc_env_get(p.cache_from.v[2].attrs, "mode"), "max");
	const bxc_json *to = bxc_json_first(bxc_json_get(p.request, "cache_to"));
	assert_string_equal(bxc_json_get_str(to, "type", ""), "registry");
	assert_string_equal(bxc_json_get_str(bxc_json_get(to, "attrs"), "ref", ""), "r.example/f");
	build_plan_done(&p);
}

static void a_folder_without_a_cache_is_left_out(void **state)
{
	(void)state;
	build_plan p = {0};
	assert_plan("--cache-from type=local,src=/nonexistent --cache-from x --cache-to type=local,dest=/d,tag=t,reset=true", &p);
	assert_int_equal(bxc_json_len(bxc_json_get(p.request, "cache_from")), 1);
	assert_int_equal(p.imports.n, 1);
	assert_null(p.imports.v[0].dir);
	assert_string_equal(p.caches.v[0].dir, "/d");
	assert_string_equal(p.caches.v[0].tag, "t");
	assert_true(p.caches.v[0].reset);
	build_plan_done(&p);
}

static void caches_that_can_not_be_are_refused_by_name(void **state)
{
	(void)state;
	assert_refused("--cache-to type=gha", "cache type 'gha' is not supported");
	assert_refused("--cache-from type=s3,bucket=b", "cache type 's3' is not supported");
	assert_refused("--cache-to type=azblob", "cache type 'azblob' is not supported");
	assert_refused("--cache-to type=local", "local cache exporter requires dest");
	assert_refused("--cache-from type=local,dest=x", "local cache importer requires src");
	assert_refused("--cache-from ref=x", "type required for \"ref=x\"");
	assert_refused("--cache-from type=registry,x", "invalid value x");
	assert_refused("--cache-to type=local,dest=d,reset=perhaps", "failed to parse reset");
}

static void check_plugin(const char *given, const char *expected)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOSTRV char **argv = bxc_strv_split(given, ' '), **own = NULL;
	const char *name = bxc_cmd_plugin_name(argv[0]);
	assert_non_null(name);
	int r = bxc_cmd_plugin_args(name, (int)bxc_strv_len(argv), argv, &own, &err);
	if (!expected) {
		assert_int_equal(r, -BXC_INVALID_ARGUMENT);
		return;
	}
	assert_int_equal(r, 0);
	BXC_AUTOFREE char *text = bxc_strv_join(own, " ");
	assert_string_equal(text, expected);
}

static void docker_runs_it_as_a_plugin(void **state)
{
	(void)state;
	assert_null(bxc_cmd_plugin_name("/usr/bin/bxc"));
	assert_null(bxc_cmd_plugin_name("docker-"));
	assert_string_equal(bxc_cmd_plugin_name("/x/docker-bxc"), "bxc");
	check_plugin("docker-bxc bxc build -t a .", "bxc build -t a .");
	check_plugin("/p/docker-buildx buildx --builder b build .", "bxc --builder b build .");
	check_plugin("docker-bxc --context x -H=tcp://h -D bxc ls", "bxc --debug ls");
	check_plugin("docker-bxc bxc", "bxc");
	check_plugin("docker-bxc --config /own/docker bxc ls", "bxc ls");
	assert_string_equal(getenv("DOCKER_CONFIG"), "/own/docker");
	unsetenv("DOCKER_CONFIG");
	check_plugin("docker-bxc build .", NULL);
	check_plugin("docker-bxc --context", NULL);
	check_plugin("docker-bxc", NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(docker_runs_it_as_a_plugin),
		cmocka_unit_test(a_path_is_a_local_output_and_a_dash_a_tar_on_stdout),
		cmocka_unit_test(quoted_fields_hold_commas_and_quotes),
		cmocka_unit_test(the_destination_is_kept_from_the_attributes),
		cmocka_unit_test(a_registry_output_is_an_image_that_is_pushed),
		cmocka_unit_test(broken_specs_are_refused),
		T(push_makes_an_image_output_named_by_the_tags),
		T(push_needs_a_tag),
		T(a_bare_build_arg_takes_the_environment_or_nothing),
		T(platforms_come_in_lists_and_from_the_environment),
		T(secrets_come_from_files_or_the_environment),
		T(options_of_steps_are_in_the_request),
		T(annotations_are_attributes_of_image_outputs),
		T(what_is_not_supported_is_refused_by_name),
		T(provenance_is_the_default_and_can_be_chosen),
		T(a_missing_dockerfile_is_said_as_buildkit_says_it),
		T(a_question_has_no_outputs),
		cmocka_unit_test(checks_are_told_as_buildx_tells_them),
		cmocka_unit_test(json_answers_hold_the_file),
		cmocka_unit_test(tables_are_told_as_buildx_tells_them),
		T(a_name_is_a_cache_in_a_registry_and_several_may_stand_in_one_flag),
		T(a_folder_without_a_cache_is_left_out),
		T(caches_that_can_not_be_are_refused_by_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
