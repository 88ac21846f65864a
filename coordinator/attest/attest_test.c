/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"
#include "coordinator/attest/attest.h"

#define AUTO_PROV BXC_CLEANUP(bxc_att_provenance_done)

/* FROM busybox; COPY f /; RUN make with a secret; and a vertex that the target does not need. */
static bxc_def *definition(bool local, bxc_net_mode net)
{
	bxc_def *d = bxc_def_new();
	uint32_t base, from = 0, unused;
	bxc_def_vertex *v = bxc_def_vertex_new(BXC_OP_SOURCE);
	v->op.source.identifier = bxc_strdup("docker-image://docker.io/library/busybox:latest");
	assert_int_equal(bxc_def_add(d, v, &base, NULL), 0);
	v = bxc_def_vertex_new(BXC_OP_SOURCE);
	v->op.source.identifier = bxc_strdup("docker-image://docker.io/library/unused:latest");
	assert_int_equal(bxc_def_add(d, v, &unused, NULL), 0);
	if (local) {
		v = bxc_def_vertex_new(BXC_OP_SOURCE);
		v->op.source.identifier = bxc_strdup("local://context");
		bxc_strv_push(&v->op.source.attrs, "session=s-1");
		assert_int_equal(bxc_def_add(d, v, &from, NULL), 0);
	}
	v = bxc_def_vertex_new(BXC_OP_EXEC);
	bxc_strv_push(&v->op.exec.args, "make");
	v->op.exec.cwd = bxc_strdup("/");
	v->op.exec.net = net;
	v->meta.line_start = v->meta.line_end = 3;
	uint32_t in = bxc_def_add_input(v, base, 0);
	bxc_op_mount *root = bxc_def_add_mount(v, BXC_MOUNT_BIND, "/");
	root->input = in;
	root->output = 0;
	if (local)
		bxc_def_add_mount(v, BXC_MOUNT_BIND, "/src")->input = bxc_def_add_input(v, from, 0);
	bxc_op_mount *secret = bxc_def_add_mount(v, BXC_MOUNT_SECRET, "/run/secrets/s");
	secret->cache_id = bxc_strdup("s");
	uint32_t top;
	assert_int_equal(bxc_def_add(d, v, &top, NULL), 0);
	return d;
}

static bool busybox(const bxc_def_vertex *v, bxc_att_material *ret, void *ud)
{
	(void)ud;
	assert_string_equal(v->op.source.identifier, "docker-image://docker.io/library/busybox:latest");
	*ret = (bxc_att_material){bxc_strdup("pkg:docker/busybox@latest?platform=linux%2Famd64"), "sha256", bxc_strdup("abcd")};
	return true;
}

static bxc_json *make(const char *attrs, bool local, bxc_net_mode net)
{
	AUTO_PROV bxc_att_provenance p = {0};
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *attests = NULL;
	BXC_CLEANUP(bxc_def_freep) bxc_def *d = definition(local, net);
	static char arg[] = "TOKEN=t";
	char *args[] = {arg, NULL};
	BXC_AUTOFREE char *text = bxc_str_fmt("{\"provenance\": %s}", attrs);
	assert_ok(bxc_json_parse(bxc_slice_of(text, strlen(text)), &attests, &err), err);
	assert_ok(bxc_att_provenance_parse(attests, &p, &err), err);
	assert_true(p.wanted);
	const bxc_att_facts f = {.def = d, .target = (uint32_t)d->vertices.n - 1, .build_id = "b-1", .started_ns = 1000000000, .finished_ns = 2000000000,
		.builder = {.os = "linux", .arch = "amd64"}, .dockerfile_name = "Dockerfile", .dockerfile = bxc_slice_of("FROM busybox\n", 13),
		.build_args = args, .has_context = local, .material = busybox};
	return bxc_att_provenance_make(&p, &f);
}

static const bxc_json *at(const bxc_json *j, const char *path)
{
	BXC_AUTOSTRV char **parts = bxc_strv_split(path, '/');
	for (char **p = parts; *p; p++)
		j = **p >= '0' && **p <= '9' ? bxc_json_at(j, (size_t)(**p - '0')) : bxc_json_get(j, *p);
	return j;
}

static const char *text_at(const bxc_json *j, const char *path)
{
	const char *s = bxc_json_string(at(j, path));
	return s ? s : "";
}

static bool bool_at(const bxc_json *j, const char *path)
{
	bool b = false;
	assert_true(bxc_json_as_bool(at(j, path), &b));
	return b;
}

static void the_short_form_names_materials_and_no_argument(void **state)
{
	(void)state;
	BXC_AUTOJSON bxc_json *j = make("{\"mode\": \"min\", \"builder-id\": \"https://ci/1\"}", true, BXC_NET_DEFAULT);
	assert_string_equal(text_at(j, "buildDefinition/externalParameters/configSource/path"), "Dockerfile");
	assert_string_equal(text_at(j, "buildDefinition/externalParameters/request/frontend"), "dockerfile.v0");
	assert_string_equal(text_at(j, "buildDefinition/externalParameters/request/locals/0/name"), "context");
	assert_string_equal(text_at(j, "buildDefinition/internalParameters/builderPlatform"), "linux/amd64");
	/* Only what the target needs. */
	assert_int_equal(bxc_json_len(at(j, "buildDefinition/resolvedDependencies")), 1);
	assert_string_equal(text_at(j, "buildDefinition/resolvedDependencies/0/uri"), "pkg:docker/busybox@latest?platform=linux%2Famd64");
	assert_string_equal(text_at(j, "buildDefinition/resolvedDependencies/0/digest/sha256"), "abcd");
	assert_string_equal(text_at(j, "runDetails/builder/id"), "https://ci/1");
	assert_string_equal(text_at(j, "runDetails/metadata/invocationID"), "b-1");
	assert_string_equal(text_at(j, "runDetails/metadata/startedOn"), "1970-01-01T00:00:01Z");
	assert_false(bool_at(j, "runDetails/metadata/buildkit_completeness/request"));
	assert_false(bool_at(j, "runDetails/metadata/buildkit_completeness/resolvedDependencies"));
	assert_false(bool_at(j, "runDetails/metadata/buildkit_hermetic"));
	BXC_AUTOFREE char *text = bxc_json_print(j);
	assert_null(strstr(text, "TOKEN"));
	assert_null(strstr(text, "secrets"));
	assert_null(strstr(text, "llbDefinition"));
}

static void without_a_context_and_a_network_a_build_is_hermetic(void **state)
{
	(void)state;
	BXC_AUTOJSON bxc_json *closed = make("{\"mode\": \"min\"}", false, BXC_NET_NONE);
	BXC_AUTOJSON bxc_json *open = make("{\"mode\": \"min\"}", false, BXC_NET_DEFAULT);
	assert_true(bool_at(closed, "runDetails/metadata/buildkit_hermetic"));
	assert_true(bool_at(closed, "runDetails/metadata/buildkit_completeness/resolvedDependencies"));
	assert_false(bool_at(open, "runDetails/metadata/buildkit_hermetic"));
}

static void the_long_form_has_steps_sources_arguments_and_names_of_secrets(void **state)
{
	(void)state;
	BXC_AUTOJSON bxc_json *j = make("{}", true, BXC_NET_DEFAULT);
	assert_string_equal(text_at(j, "buildDefinition/externalParameters/request/args/build-arg:TOKEN"), "t");
	assert_string_equal(text_at(j, "buildDefinition/externalParameters/request/secrets/0/id"), "s");
	const bxc_json *steps = at(j, "buildDefinition/internalParameters/buildConfig/llbDefinition");
	assert_int_equal(bxc_json_len(steps), 3);
	assert_string_equal(text_at(steps, "0/op/Op/source/identifier"), "docker-image://docker.io/library/busybox:latest");
	assert_null(at(steps, "1/op/Op/source/attrs"));
	assert_string_equal(text_at(steps, "2/op/Op/exec/meta/args/0"), "make");
	assert_string_equal(text_at(steps, "2/inputs/0"), "step0:0");
	assert_string_equal(text_at(steps, "2/inputs/1"), "step1:0");
	int64_t line = 0;
	assert_true(bxc_json_as_i64(at(j, "runDetails/metadata/buildkit_metadata/source/locations/step2/locations/0/ranges/0/start/line"), &line));
	assert_int_equal(line, 3);
	assert_string_equal(text_at(j, "runDetails/metadata/buildkit_metadata/source/infos/0/data"), "RlJPTSBidXN5Ym94Cg==");
	assert_true(bool_at(j, "runDetails/metadata/buildkit_completeness/request"));
}

static void the_older_predicate_has_its_own_shape(void **state)
{
	(void)state;
	BXC_AUTOJSON bxc_json *j = make("{\"mode\": \"min\", \"version\": \"v0.2\", \"reproducible\": \"true\"}", true, BXC_NET_DEFAULT);
	assert_string_equal(text_at(j, "buildType"), "https://mobyproject.org/buildkit@v1");
	assert_string_equal(text_at(j, "materials/0/digest/sha256"), "abcd");
	assert_string_equal(text_at(j, "invocation/configSource/entryPoint"), "Dockerfile");
	assert_true(bool_at(j, "metadata/reproducible"));
	assert_false(bool_at(j, "metadata/completeness/parameters"));
}

static void refuse(const char *attrs, const char *text)
{
	bxc_att_provenance p = {0};
	bxc_err *err = NULL;
	BXC_AUTOJSON bxc_json *attests = NULL;
	BXC_AUTOFREE char *doc = bxc_str_fmt("{\"provenance\": %s}", attrs);
	assert_ok(bxc_json_parse(bxc_slice_of(doc, strlen(doc)), &attests, &err), err);
	assert_err_text(bxc_att_provenance_parse(attests, &p, &err), BXC_INVALID_ARGUMENT, err, text);
}

static void bad_attributes_are_named(void **state)
{
	(void)state;
	refuse("{\"mode\": \"most\"}", "invalid mode 'most'");
	refuse("{\"version\": \"v3\"}", "invalid provenance SLSA version 'v3'");
	refuse("{\"reproducible\": \"perhaps\"}", "reproducible");
	refuse("{\"inline-only\": \"x\"}", "inline-only");
	refuse("[]", "expected an object");
}

static void none_is_wanted_unless_asked_for(void **state)
{
	(void)state;
	bxc_att_provenance p = {0};
	BXC_AUTOJSON bxc_json *off = NULL;
	static const char text[] = "{\"provenance\": {\"disabled\": \"true\"}}";
	assert_int_equal(bxc_att_provenance_parse(NULL, &p, NULL), 0);
	assert_false(p.wanted);
	assert_int_equal(bxc_json_parse(bxc_slice_of(text, strlen(text)), &off, NULL), 0);
	assert_int_equal(bxc_att_provenance_parse(off, &p, NULL), 0);
	assert_false(p.wanted);
	bxc_att_provenance_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_short_form_names_materials_and_no_argument),
		cmocka_unit_test(without_a_context_and_a_network_a_build_is_hermetic),
		cmocka_unit_test(the_long_form_has_steps_sources_arguments_and_names_of_secrets),
		cmocka_unit_test(the_older_predicate_has_its_own_shape),
		cmocka_unit_test(bad_attributes_are_named),
		cmocka_unit_test(none_is_wanted_unless_asked_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
