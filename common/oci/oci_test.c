/* SPDX-License-Identifier: Apache-2.0 */
#include "common/testing/testing.h"

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/oci/oci.h"

#define DIGEST_A "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define DIGEST_B "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static bxc_slice text(const char *s)
{
	return bxc_slice_of(s, strlen(s));
}

static bxc_platform platform(const char *s)
{
	bxc_platform p = {0};
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_platform_parse(s, &p, &err), err);
	return p;
}

static void platforms_are_normalised(void **state)
{
	(void)state;
	static const char *const pairs[][2] = {{"linux/amd64", "linux/amd64"},
		{"Linux/x86_64", "linux/amd64"}, {"linux/aarch64", "linux/arm64"},
		{"arm64", "linux/arm64"}, {"linux/arm64/v8", "linux/arm64"},
		{"linux/arm64/8", "linux/arm64"}, {"linux/arm", "linux/arm/v7"},
		{"linux/armhf", "linux/arm/v7"}, {"linux/armel", "linux/arm/v6"},
		{"linux/arm/6", "linux/arm/v6"}, {"i386", "linux/386"},
		{"linux/amd64/v1", "linux/amd64"}, {"linux/amd64/v3", "linux/amd64/v3"},
		{"macos/arm64", "darwin/arm64"},
		{"windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"},
		{"linux/riscv64", "linux/riscv64"}};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(pairs); i++) {
		bxc_platform p = platform(pairs[i][0]);
		BXC_AUTOFREE char *s = bxc_platform_str(&p);
		assert_string_equal(s, pairs[i][1]);
		bxc_platform q = platform(s);
		assert_true(bxc_platform_eq(&p, &q));
	}
	bxc_platform host = bxc_platform_host(), linux_only = platform("linux");
	assert_true(bxc_platform_eq(&host, &linux_only));
}

static void unknown_platforms_are_refused_with_a_hint(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "/", "linux/", "/amd64", "linux/amd64/v2/x",
		"linux/am d64", "*", "linux/amd64,linux/arm64", "beos/amd64", "windows(/amd64",
		"windows()/amd64", "linux/amd64/aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"linux/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_platform p;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++)
		assert_err(bxc_platform_parse(bad[i], &p, &err), BXC_INVALID_ARGUMENT, err);
	assert_err_text(bxc_platform_parse("linux/arm65", &p, &err), BXC_INVALID_ARGUMENT, err,
		"'linux/arm65' is no known platform (did you mean linux/arm64?)");
	assert_err_text(bxc_platform_parse("linix/arm64", &p, &err), BXC_INVALID_ARGUMENT, err,
		"did you mean linux/arm64?");
}

static int match(const char *want, const char *have)
{
	bxc_platform w = platform(want), h = platform(have);
	return bxc_platform_match(&w, &h);
}

static void an_image_matches_where_it_runs(void **state)
{
	(void)state;
	assert_true(match("linux/amd64", "linux/amd64") > 0);
	assert_true(match("linux/amd64/v3", "linux/amd64/v3") >
		    match("linux/amd64/v3", "linux/amd64/v2"));
	assert_true(
		match("linux/amd64/v3", "linux/amd64/v2") > match("linux/amd64/v3", "linux/amd64"));
	assert_true(match("linux/amd64/v3", "linux/amd64") > 0);
	assert_true(match("linux/amd64", "linux/amd64/v2") < 0);
	assert_true(match("linux/amd64", "linux/386") < 0);
	assert_true(match("linux/arm/v7", "linux/arm/v6") > match("linux/arm/v7", "linux/arm/v5"));
	assert_true(match("linux/arm/v7", "linux/arm/v5") > 0);
	assert_true(match("linux/arm/v6", "linux/arm/v7") < 0);
	assert_true(match("linux/arm64", "linux/arm/v7") < 0);
	assert_true(match("linux/arm64", "linux/arm64/v8") > 0);
	assert_true(match("linux/arm64/v9", "linux/arm64/v8.5") >
		    match("linux/arm64/v9", "linux/arm64"));
	assert_true(match("linux/arm64/v9", "linux/arm64/v8.6") < 0);
	assert_true(match("linux/arm64", "linux/arm64/v9") < 0);
	assert_true(match("linux/amd64", "windows/amd64") < 0);
	assert_true(match("linux/s390x", "linux/s390x") > 0);
}

static void references_are_normalised_as_docker_does(void **state)
{
	(void)state;
	static const char *const t[][3] = {
		{"busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"},
		{"busybox@" DIGEST_A, "docker.io/library/busybox@" DIGEST_A, "busybox@" DIGEST_A},
		{"busybox:1@" DIGEST_A, "docker.io/library/busybox:1@" DIGEST_A,
			"busybox:1@" DIGEST_A},
		{"docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"index.docker.io/library/busybox", "docker.io/library/busybox:latest",
			"busybox:latest"},
		{"moby/buildkit:v0.1", "docker.io/moby/buildkit:v0.1", "moby/buildkit:v0.1"},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest"},
		{"localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"},
		{"registry/x", "docker.io/registry/x:latest", "registry/x:latest"},
		{"ghcr.io/a/b/c__d.e---f:T_1.x-", "ghcr.io/a/b/c__d.e---f:T_1.x-",
			"ghcr.io/a/b/c__d.e---f:T_1.x-"},
		{"Registry/x", "Registry/x:latest", "Registry/x:latest"},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
		{"10.0.0.1:80/a", "10.0.0.1:80/a:latest", "10.0.0.1:80/a:latest"},
		{"docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"},
		{"library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
	};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(t); i++) {
		BXC_AUTOERR bxc_err *err = NULL;
		BXC_AUTOREF bxc_ref r = {0}, again = {0}, copy = {0};
		assert_ok(bxc_ref_parse(t[i][0], &r, &err), err);
		BXC_AUTOFREE char *full = bxc_ref_str(&r);
		assert_string_equal(full, t[i][1]);
		BXC_AUTOFREE char *familiar = bxc_ref_familiar(&r);
		assert_string_equal(familiar, t[i][2]);
		assert_ok(bxc_ref_parse(full, &again, &err), err);
		bxc_ref_copy(&copy, &again);
		BXC_AUTOFREE char *full2 = bxc_ref_str(&copy);
		assert_string_equal(full, full2);
	}
}

static void malformed_references_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"", ":", "/", "a/", "/a", "a//b", "a:", ":tag", "a@",
		"a@sha256:00", "a b", "-a", "a-", "a..b", "a___b", "a/.b", "a:-x", "a:t:u",
		"a.b/c/", "http://a/b", "a.b:port/c", "a.b:/c", "-a.b/c", "a.b-/c", "[::1/x",
		"[zz]/x", "a\xc3\xa4", "a.b:123456/c", &DIGEST_A[7], "a@" DIGEST_A "x"};
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_ref r;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		if (bxc_ref_parse(bad[i], &r, &err) != -BXC_INVALID_ARGUMENT)
			fail_msg("'%s' was taken", bad[i]);
		bxc_err_free(err);
		err = NULL;
	}
	assert_err_text(bxc_ref_parse("foo/Bar:x", &r, &err), BXC_INVALID_ARGUMENT, err,
		"repository name 'foo/Bar' must be lowercase");
	assert_err_text(bxc_ref_parse("ghcr.io/Foo", &r, &err), BXC_INVALID_ARGUMENT, err,
		"repository name 'Foo' must be lowercase");
	char name[300];
	memset(name, 'a', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	assert_err(bxc_ref_parse(name, &r, &err), BXC_INVALID_ARGUMENT, err);
	name[255 - strlen("library/")] = '\0';
	BXC_AUTOREF bxc_ref ok = {0};
	assert_ok(bxc_ref_parse(name, &ok, &err), err);
}

static void manifests_print_as_they_were_written(void **state)
{
	(void)state;
	static const char doc[] = "{\n"
				  "  \"schemaVersion\": 2,\n"
				  "  \"mediaType\": \"" BXC_MT_OCI_MANIFEST "\",\n"
				  "  \"config\": {\n"
				  "    \"mediaType\": \"" BXC_MT_OCI_CONFIG "\",\n"
				  "    \"digest\": \"" DIGEST_A "\",\n"
				  "    \"size\": 12\n"
				  "  },\n"
				  "  \"layers\": [\n"
				  "    {\n"
				  "      \"mediaType\": \"" BXC_MT_OCI_LAYER_GZIP "\",\n"
				  "      \"digest\": \"" DIGEST_B "\",\n"
				  "      \"size\": 9007199254740,\n"
				  "      \"annotations\": {\n"
				  "        \"a\": \"1\",\n"
				  "        \"a-b\": \"x=y\"\n"
				  "      }\n"
				  "    }\n"
				  "  ]\n"
				  "}";
	BXC_AUTOERR bxc_err *err = NULL;
	/* The tree cannot hold more than 1 TiB; this one does not pass the bound. */
	BXC_AUTOFREE char *ok = bxc_strdup(doc);
	memcpy(strstr(ok, "9007199254740"), "          740", 13);
	bxc_oci_manifest m;
	assert_err(bxc_oci_manifest_parse(text(doc), &m, &err), BXC_INVALID_ARGUMENT, err);
	assert_ok(bxc_oci_manifest_parse(text(ok), &m, &err), err);
	assert_int_equal(m.layers.n, 1);
	assert_int_equal(m.layers.v[0].size, 740);
	assert_true(bxc_oci_is_layer(m.layers.v[0].media_type));
	assert_string_equal(bxc_oci_layer_type(BXC_MT_DOCKER_LAYER_GZIP, true), BXC_MT_OCI_LAYER_GZIP);
	assert_string_equal(bxc_oci_layer_type(BXC_MT_OCI_LAYER, false), BXC_MT_DOCKER_LAYER);
	assert_string_equal(bxc_oci_layer_type(BXC_MT_OCI_LAYER_ZSTD, false), BXC_MT_OCI_LAYER_ZSTD);
	bxc_descriptor copy;
	bxc_descriptor_copy(&copy, &m.layers.v[0]);
	assert_string_equal(bxc_env_get(copy.annotations, "a-b"), "x=y");
	/* Keys are sorted as keys, in whatever order they were added. */
	bxc_strv_free(m.layers.v[0].annotations);
	m.layers.v[0].annotations = NULL;
	bxc_strv_push(&m.layers.v[0].annotations, "a-b=x=y");
	bxc_strv_push(&m.layers.v[0].annotations, "a=1");
	BXC_AUTOFREE char *printed = bxc_oci_manifest_print(&m);
	BXC_AUTOFREE char *want = bxc_str_fmt("%s", ok);
	char *blanks = strstr(want, "          740");
	memmove(blanks, blanks + 10, strlen(blanks + 10) + 1);
	assert_string_equal(printed, want);
	bxc_descriptor_done(&copy);
	bxc_oci_manifest_done(&m);
}

static void damaged_documents_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "[]", "{}", "{\"schemaVersion\":2}",
		"{\"schemaVersion\":2,\"config\":{}}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"" DIGEST_A "\",\"size\":-1}}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"" DIGEST_A "\",\"size\":1.5}}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:1\",\"size\":1}}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"" DIGEST_A
		"\",\"size\":1},\"layers\":{}}",
		"{\"schemaVersion\":2,\"config\":{\"digest\":\"" DIGEST_A
		"\",\"size\":1},\"layers\":[1]}",
		"{\"schemaVersion\":2,\"config\":{\"mediaType\":\"a b\",\"digest\":\"" DIGEST_A
		"\",\"size\":1}}",
		"{\"schemaVersion\":2,\"mediaType\":\"" BXC_MT_OCI_INDEX "\",\"manifests\":[]}"};
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_oci_manifest m;
	bxc_oci_index x;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++)
		assert_err(
			bxc_oci_manifest_parse(text(bad[i]), &m, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_oci_manifest_parse(text("{\"schemaVersion\":1}"), &m, &err),
		BXC_UNIMPLEMENTED, err);
	assert_err(bxc_oci_index_parse(text("{\"schemaVersion\":2,\"manifests\":[{}]}"), &x, &err),
		BXC_INVALID_ARGUMENT, err);
	/* More layers than can be mounted. */
	BXC_AUTOBUF bxc_buf b = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	bxc_buf_adds(&b, "{\"schemaVersion\":2,\"config\":{\"digest\":\"" DIGEST_A
			 "\",\"size\":1},\"layers\":[");
	for (unsigned i = 0; i <= BXC_LIMIT_IMAGE_LAYERS; i++)
		bxc_buf_addf(&b, "%s{\"digest\":\"" DIGEST_A "\",\"size\":1}", i ? "," : "");
	bxc_buf_adds(&b, "]}");
	assert_err(bxc_oci_manifest_parse(bxc_buf_slice(&b), &m, &err), BXC_INVALID_ARGUMENT, err);
}

static void an_index_gives_the_best_manifest(void **state)
{
	(void)state;
#define ENTRY(digit, arch, more)                                                                   \
	"{\"mediaType\":\"" BXC_MT_OCI_MANIFEST "\",\"digest\":\"sha256:"                          \
	"000000000000000000000000000000000000000000000000000000000000000" digit                    \
	"\",\"size\":1,\"platform\":{\"os\":\"linux\",\"architecture\":\"" arch "\"" more "}}"
	static const char doc[] =
		"{\"schemaVersion\":2,\"mediaType\":\"" BXC_MT_OCI_INDEX "\",\"manifests\":["
		"{\"mediaType\":\"" BXC_MT_OCI_MANIFEST "\",\"digest\":\"" DIGEST_A
		"\",\"size\":1,\"annotations\":{\"vnd.docker.reference.type\":\"attestation-"
		"manifest\"},"
		"\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}," ENTRY(
			"1", "arm", ",\"variant\":\"v5\"") "," ENTRY("2", "arm",
			",\"variant\":\"v6\"") "," ENTRY("3", "amd64", "") "," ENTRY("4", "unknown",
			"") "]}";
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_oci_index x;
	assert_ok(bxc_oci_index_parse(text(doc), &x, &err), err);
	bxc_platform want = platform("linux/arm/v7");
	assert_int_equal(bxc_oci_index_select(&x, &want)->digest.b[31], 2);
	want = platform("linux/amd64");
	assert_int_equal(bxc_oci_index_select(&x, &want)->digest.b[31], 3);
	want = platform("linux/s390x");
	assert_null(bxc_oci_index_select(&x, &want));
	BXC_AUTOFREE char *printed = bxc_oci_index_print(&x);
	bxc_oci_index y;
	assert_ok(bxc_oci_index_parse(text(printed), &y, &err), err);
	assert_int_equal(y.manifests.n, 5);
	bxc_oci_index_done(&x);
	bxc_oci_index_done(&y);
}

/* In the form BuildKit's exporter gives: the top level sorted, the inner structs in Go's order. */
static const char buildkit_config[] =
	"{\"architecture\":\"amd64\",\"config\":{\"User\":\"app\",\"ExposedPorts\":{\"53/"
	"udp\":{},\"80/tcp\":{}},"
	"\"Env\":[\"PATH=/usr/bin:/bin\",\"A=\\u003cb\\u003e \\u0026 "
	"c\"],\"Entrypoint\":[\"/bin/sh\",\"-c\"],"
	"\"Cmd\":[\"id\"],\"Volumes\":{\"/data\":{}},\"WorkingDir\":\"/"
	"src\",\"Labels\":{\"a\":\"1\",\"a-b\":\"2=3\"},"
	"\"StopSignal\":\"SIGINT\",\"ArgsEscaped\":true,\"Healthcheck\":{\"Test\":[\"CMD-SHELL\","
	"\"true\"],"
	"\"Interval\":30000000000,\"Retries\":3},\"OnBuild\":[\"RUN "
	"x\"],\"Shell\":[\"/bin/bash\",\"-c\"]},"
	"\"created\":\"2024-05-06T07:08:09.123456789Z\",\"history\":[{\"created\":\"2024-05-06T07:"
	"08:09Z\","
	"\"created_by\":\"RUN /bin/sh -c echo \\u003e/x # "
	"buildkit\",\"comment\":\"buildkit.dockerfile.v0\"},"
	"{\"created\":\"2024-05-06T07:08:09.1Z\",\"created_by\":\"CMD [\\\"id\\\"]\",\"comment\":"
	"\"buildkit.dockerfile.v0\",\"empty_layer\":true}],\"os\":\"linux\",\"rootfs\":{\"type\":"
	"\"layers\","
	"\"diff_ids\":[\"" DIGEST_A "\"]},\"variant\":\"v3\"}";

static void image_configs_keep_their_bytes(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *c = NULL;
	assert_ok(bxc_oci_config_parse(text(buildkit_config), &c, &err), err);
	BXC_AUTOFREE char *s = bxc_oci_config_print(c);
	assert_string_equal(s, buildkit_config);
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *d = bxc_oci_config_dup(c);
	BXC_AUTOFREE char *t = bxc_oci_config_print(d);
	assert_string_equal(t, buildkit_config);
	BXC_AUTOJSON bxc_json *j = bxc_oci_config_to_json(d);
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *e = NULL;
	assert_ok(bxc_oci_config_from_json(j, &e, &err), err);
	BXC_AUTOFREE char *u = bxc_oci_config_print(e);
	assert_string_equal(u, buildkit_config);
	assert_int_equal(c->history.n, 2);
	assert_true(c->history.v[1].empty_layer);
	assert_string_equal(bxc_env_get(c->labels, "a-b"), "2=3");
}

static void an_empty_config_is_valid(void **state)
{
	(void)state;
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *c = bxc_oci_config_new();
	c->platform = platform("linux/amd64");
	BXC_AUTOFREE char *s = bxc_oci_config_print(c);
	assert_string_equal(s,
		"{\"architecture\":\"amd64\",\"config\":{},\"os\":\"linux\",\"rootfs\":{\"type\":"
		"\"layers\",\"diff_ids\":[]}}");
}

static void old_and_odd_configs_are_understood(void **state)
{
	(void)state;
	static const char doc[] = "{\"id\":\"x\",\"parent\":null,\"created\":\"0001-01-01T00:00:"
				  "00Z\",\"container\":\"c\",\"architecture\":"
				  "\"amd64\",\"os\":\"linux\",\"config\":{\"Hostname\":\"h\","
				  "\"Cmd\":null,\"Entrypoint\":\"/run\",\"Volumes\":"
				  "null,\"Labels\":{\"x\":null},\"OnBuild\":null,\"Healthcheck\":"
				  "null,\"AttachStdin\":false},\"rootfs\":"
				  "{\"type\":\"layers\",\"diff_ids\":null},\"history\":null,"
				  "\"Size\":123456789012345678901}";
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_oci_config_freep) bxc_oci_config *c = NULL;
	assert_ok(bxc_oci_config_parse(text(doc), &c, &err), err);
	assert_true(c->created_ns == INT64_MIN);
	assert_string_equal(c->entrypoint[0], "/run");
	assert_null(c->cmd);
	assert_string_equal(c->labels[0], "x=");
	assert_false(c->healthcheck.is_set);
}

static void wrong_kinds_in_configs_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"[]", "1", "{\"os\":1}", "{\"config\":[]}",
		"{\"config\":{\"Env\":\"A=1\"}}", "{\"config\":{\"Env\":[1]}}",
		"{\"config\":{\"Labels\":{\"a\":1}}}", "{\"config\":{\"User\":{}}}",
		"{\"config\":{\"ArgsEscaped\":\"yes\"}}",
		"{\"config\":{\"Healthcheck\":{\"Interval\":\"x\"}}}",
		"{\"config\":{\"Healthcheck\":{\"Retries\":1.5}}}",
		"{\"rootfs\":{\"diff_ids\":[\"x\"]}}", "{\"rootfs\":{\"diff_ids\":[null]}}",
		"{\"history\":[1]}", "{\"history\":[{\"created\":\"today\"}]}",
		"{\"history\":[{\"empty_layer\":1}]}", "{\"created\":\"2024\"}",
		"{\"variant\":\"12345678901234567\"}"};
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_oci_config *c = NULL;
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		int r = bxc_oci_config_parse(text(bad[i]), &c, &err);
		if (r != -BXC_INVALID_ARGUMENT)
			fail_msg("%s gave %d", bad[i], r);
		bxc_err_free(err);
		err = NULL;
	}
	assert_err_text(
		bxc_oci_config_parse(text("{\"config\":{\"Labels\":{\"a=b\":\"\"}}}"), &c, &err),
		BXC_UNIMPLEMENTED, err, "'a=b'");
	assert_err(bxc_oci_config_parse(text("{\"rootfs\":{\"type\":\"layers+base\"}}"), &c, &err),
		BXC_UNIMPLEMENTED, err);
}

static bxc_json *attrs_of(const char *text)
{
	bxc_json *j = NULL;
	assert_int_equal(bxc_json_parse(bxc_slice_of(text, strlen(text)), &j, NULL), 0);
	return j;
}

static void attributes_of_outputs_have_defaults_and_bounds(void **state)
{
	(void)state;
	bxc_err *err = NULL;
	bool b = false;
	int level = 1;
	bxc_compression c;
	BXC_AUTOSTRV char **names = NULL;
	BXC_AUTOJSON bxc_json *j = attrs_of("{\"push\": \"\", \"store\": \"false\", \"bad\": \"perhaps\", \"name\": \"a,,b:1\","
					    "\"compression\": \"zstd\", \"compression-level\": \"22\"}");
	assert_ok(bxc_output_bool(j, "push", false, &b, &err), err);
	assert_true(b);
	assert_ok(bxc_output_bool(j, "store", true, &b, &err), err);
	assert_false(b);
	assert_ok(bxc_output_bool(j, "absent", true, &b, &err), err);
	assert_true(b);
	assert_err_text(bxc_output_bool(j, "bad", true, &b, &err), BXC_INVALID_ARGUMENT, err, "non-bool value specified for bad");
	assert_ok(bxc_output_names(j, &names, &err), err);
	assert_int_equal(bxc_strv_len(names), 2);
	assert_string_equal(names[0], "docker.io/library/a:latest");
	assert_string_equal(names[1], "docker.io/library/b:1");
	assert_ok(bxc_output_compression(j, &c, &level, &err), err);
	assert_true(c == BXC_COMPRESSION_ZSTD && level == 22);
	BXC_AUTOJSON bxc_json *none = attrs_of("{}");
	assert_ok(bxc_output_compression(none, &c, &level, &err), err);
	assert_true(c == BXC_COMPRESSION_GZIP && level == 0);
	BXC_AUTOJSON bxc_json *high = attrs_of("{\"compression-level\": \"10\", \"name\": \"A\"}");
	assert_err_text(bxc_output_compression(high, &c, &level, &err), BXC_OUT_OF_RANGE, err, "compression-level");
	BXC_AUTOSTRV char **bad = NULL;
	assert_true(bxc_output_names(high, &bad, NULL) < 0);
	BXC_AUTOJSON bxc_json *star = attrs_of("{\"compression\": \"estargz\"}");
	assert_err(bxc_output_compression(star, &c, &level, &err), BXC_UNIMPLEMENTED, err);
	BXC_AUTOJSON bxc_json *odd = attrs_of("{\"compression\": \"lzma\"}");
	assert_err_text(bxc_output_compression(odd, &c, &level, &err), BXC_INVALID_ARGUMENT, err, "'lzma'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(platforms_are_normalised),
		cmocka_unit_test(unknown_platforms_are_refused_with_a_hint),
		cmocka_unit_test(an_image_matches_where_it_runs),
		cmocka_unit_test(references_are_normalised_as_docker_does),
		cmocka_unit_test(malformed_references_are_refused),
		cmocka_unit_test(manifests_print_as_they_were_written),
		cmocka_unit_test(damaged_documents_are_refused),
		cmocka_unit_test(an_index_gives_the_best_manifest),
		cmocka_unit_test(image_configs_keep_their_bytes),
		cmocka_unit_test(an_empty_config_is_valid),
		cmocka_unit_test(old_and_odd_configs_are_understood),
		cmocka_unit_test(wrong_kinds_in_configs_are_refused),
		cmocka_unit_test(attributes_of_outputs_have_defaults_and_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
