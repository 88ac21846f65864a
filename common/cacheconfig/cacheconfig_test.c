/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/base/limits.h"
#include "common/base/str.h"
#include "common/cacheconfig/cacheconfig.h"

#define GZIP BXC_MT_OCI_LAYER_GZIP

static bxc_digest dig(const char *s)
{
	return bxc_digest_of_str(s);
}

/* A base layer, one of a build upon it, three keys: the third leads to a canonical key without
 * result. */
static void fill(bxc_cc *c)
{
	*bxc_arr_push(&c->layers) = (bxc_cc_layer){
		.blob = {.media_type = bxc_strdup(GZIP), .digest = dig("base blob"), .size = 10},
		.parent = -1,
		.diff_id = dig("base"),
		.n_below = UINT32_MAX,
	};
	*bxc_arr_push(&c->layers) = (bxc_cc_layer){
		.blob = {.media_type = bxc_strdup(GZIP), .digest = dig("own blob"), .size = 20},
		.parent = 0,
		.diff_id = dig("own"),
		.created_ns = 1767322800123456789,
		.n_below = 0,
	};
	*bxc_arr_push(&c->records) = (bxc_cc_record){dig("first"), dig("canonical"), 1};
	*bxc_arr_push(&c->records) = (bxc_cc_record){dig("canonical"), dig("canonical"), 1};
	*bxc_arr_push(&c->records) = (bxc_cc_record){dig("known"), dig("elsewhere"), -1};
}

static const bxc_cc_record *find(const bxc_cc *c, const char *key)
{
	bxc_digest d = dig(key);
	for (size_t i = 0; i < c->records.n; i++)
		if (bxc_digest_eq(&c->records.v[i].key, &d))
			return &c->records.v[i];
	return NULL;
}

static void assert_record(const bxc_cc *c, const char *key, const char *canonical, int32_t layer)
{
	const bxc_cc_record *r = find(c, key);
	bxc_digest want = dig(canonical);
	assert_non_null(r);
	assert_true(bxc_digest_eq(&r->canonical, &want));
	assert_int_equal(r->layer, layer);
}

static int parse(const char *text, bxc_cc *ret, bxc_err **err)
{
	return bxc_cc_parse(bxc_slice_of(text, strlen(text)), ret, err);
}

static void what_was_written_is_read_again(void **state)
{
	(void)state;
	BXC_AUTOCC bxc_cc c = {0}, d = {0};
	fill(&c);
	BXC_AUTOFREE char *text = bxc_cc_print(&c);
	assert_int_equal(parse(text, &d, NULL), 0);
	assert_int_equal(d.layers.n, 2);
	assert_int_equal(d.layers.v[0].parent, -1);
	assert_int_equal(d.layers.v[0].created_ns, 0);
	assert_int_equal(d.layers.v[1].parent, 0);
	assert_int_equal(d.layers.v[1].created_ns, 1767322800123456789);
	assert_int_equal(d.layers.v[1].blob.size, 20);
	assert_string_equal(d.layers.v[1].blob.media_type, GZIP);
	bxc_digest own = dig("own");
	assert_true(bxc_digest_eq(&d.layers.v[1].diff_id, &own));
	assert_record(&d, "first", "canonical", 1);
	assert_record(&d, "canonical", "canonical", 1);
	assert_record(&d, "known", "elsewhere", -1);
	assert_int_equal(d.records.n, 3);
	assert_int_equal(d.layers.v[0].n_below, UINT32_MAX);
	assert_int_equal(d.layers.v[1].n_below, 0);
}

static void the_document_has_the_fields_of_buildkit(void **state)
{
	(void)state;
	BXC_AUTOCC bxc_cc c = {0};
	BXC_AUTOJSON bxc_json *j = NULL;
	fill(&c);
	BXC_AUTOFREE char *text = bxc_cc_print(&c);
	assert_int_equal(bxc_json_parse(bxc_slice_of(text, strlen(text)), &j, NULL), 0);
	const bxc_json *base = bxc_json_at(bxc_json_get(j, "layers"), 0),
		       *own = bxc_json_at(bxc_json_get(j, "layers"), 1);
	assert_int_equal(bxc_json_get_i64(base, "parent", 7), -1);
	assert_string_equal(bxc_json_get_str(bxc_json_get(base, "annotations"), "createdAt", ""),
		"0001-01-01T00:00:00Z");
	/* A parent of 0 is left out, as Go leaves it out. */
	assert_null(bxc_json_get(own, "parent"));
	const bxc_json *records = bxc_json_get(j, "records");
	assert_int_equal(bxc_json_len(records), 4);
	BXC_JSON_FOREACH (r, records)
		assert_non_null(bxc_json_get_str(r, "digest", NULL));
	assert_null(bxc_json_get(bxc_json_at(records, 0), "inputs"));
	const bxc_json *in =
		bxc_json_first(bxc_json_first(bxc_json_get(bxc_json_at(records, 2), "inputs")));
	assert_int_equal(bxc_json_get_i64(in, "link", -1), 0);
}

static void inline_records_count_the_layers_of_the_image(void **state)
{
	(void)state;
	BXC_AUTOCC bxc_cc c = {0}, d = {0}, e = {0};
	fill(&c);
	BXC_AUTOFREE char *text = bxc_cc_print_inline(&c);
	assert_int_equal(bxc_cc_parse_inline(bxc_slice_of(text, strlen(text)), 2, &d, NULL), 0);
	assert_record(&d, "first", "canonical", 1);
	assert_int_equal(bxc_cc_parse_inline(bxc_slice_of(text, strlen(text)), 1, &e, NULL),
		-BXC_INVALID_ARGUMENT);
}

static void records_of_buildkit_are_passed_over(void **state)
{
	(void)state;
	BXC_AUTOCC bxc_cc c = {0};
	static const char text[] =
		"{\"layers\":[{\"blob\":\"sha256:"
		"1111111111111111111111111111111111111111111111111111111111111111\",\"parent\":-1}]"
		","
		"\"records\":[{\"digest\":\"sha256:"
		"2222222222222222222222222222222222222222222222222222222222222222\"},"
		"{\"digest\":\"sha256:"
		"3333333333333333333333333333333333333333333333333333333333333333\","
		"\"inputs\":[[{\"selector\":\"/"
		"x\",\"link\":0}]],\"layers\":[{\"layer\":0,\"createdAt\":\"2021-01-01T00:00:00Z\"}"
		"]}]}";
	assert_int_equal(parse(text, &c, NULL), 0);
	assert_int_equal(c.layers.n, 1);
	assert_int_equal(c.records.n, 0);
}

static void hostile_documents_are_refused(void **state)
{
	(void)state;
#define D "\"sha256:1111111111111111111111111111111111111111111111111111111111111111\""
	static const char *const bad[] = {
		"[]",
		"{\"layers\":{}}",
		"{\"layers\":[{\"blob\":" D "}]}", /* its own parent */
		"{\"layers\":[{\"blob\":" D ",\"parent\":1},{\"blob\":" D
		"}]}", /* a circle of two */
		"{\"layers\":[{\"blob\":" D ",\"parent\":1}]}",
		"{\"layers\":[{\"blob\":" D ",\"parent\":-2}]}",
		"{\"layers\":[{\"blob\":\"md5:1\",\"parent\":-1}]}",
		"{\"records\":[{\"digest\":" D ",\"layers\":[{\"layer\":0}]}]}",
		"{\"records\":[{\"digest\":" D ",\"inputs\":[[{\"link\":1}]]}]}",
		"{\"records\":[{}]}",
	};
#undef D
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++) {
		BXC_AUTOCC bxc_cc c = {0};
		BXC_AUTOERR bxc_err *err = NULL;
		if (parse(bad[i], &c, &err) != -BXC_INVALID_ARGUMENT)
			fail_msg("taken: %s", bad[i]);
		assert_true(bxc_str_has_prefix(bxc_err_text(err), "cache configuration"));
	}
}

static void a_chain_longer_than_an_image_is_refused(void **state)
{
	(void)state;
	for (uint32_t n = BXC_LIMIT_IMAGE_LAYERS; n <= BXC_LIMIT_IMAGE_LAYERS + 1; n++) {
		BXC_AUTOCC bxc_cc c = {0}, d = {0};
		for (uint32_t i = 0; i < n; i++)
			*bxc_arr_push(&c.layers) = (bxc_cc_layer){
				.blob = {.digest = dig("b")}, .parent = (int32_t)i - 1};
		BXC_AUTOFREE char *text = bxc_cc_print(&c);
		assert_int_equal(parse(text, &d, NULL),
			n > BXC_LIMIT_IMAGE_LAYERS ? -BXC_INVALID_ARGUMENT : 0);
	}
}

static void both_manifests_lead_to_the_configuration(void **state)
{
	(void)state;
	static const char *const types[] = {
		BXC_MT_OCI_MANIFEST, BXC_MT_OCI_INDEX, BXC_MT_DOCKER_LIST};
	static const bxc_cc_form forms[] = {{true, true}, {true, false}, {false, false}};
	bxc_descriptor config = {.media_type = (char *)(uintptr_t)BXC_MT_CACHE_CONFIG,
		.digest = dig("config"),
		.size = 7};
	bxc_descriptor layer = {
		.media_type = (char *)(uintptr_t)GZIP, .digest = dig("layer"), .size = 8};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(forms); i++) {
		const char *type;
		bxc_descriptor found = {0};
		BXC_AUTOFREE char *text =
			bxc_cc_print_manifest(&forms[i], &config, &layer, 1, &type);
		assert_string_equal(type, types[i]);
		assert_int_equal(
			bxc_cc_of_manifest(bxc_slice_of(text, strlen(text)), &found, NULL), 1);
		assert_true(bxc_digest_eq(&found.digest, &config.digest));
		bxc_descriptor_done(&found);
	}
	static const char image[] =
		"{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" BXC_MT_OCI_CONFIG
		"\"},\"layers\":[]}";
	bxc_descriptor none = {0};
	assert_int_equal(
		bxc_cc_of_manifest(bxc_slice_of(image, sizeof(image) - 1), &none, NULL), 0);
}

static void attributes_choose_the_form(void **state)
{
	(void)state;
	bxc_cc_form f;
	BXC_AUTOJSON bxc_json *attrs = bxc_json_object();
	assert_int_equal(bxc_cc_form_parse(attrs, &f, NULL), 0);
	assert_true(f.oci && f.image_manifest);
	bxc_json_set_str(attrs, "oci-mediatypes", "false");
	assert_int_equal(bxc_cc_form_parse(attrs, &f, NULL), 0);
	assert_true(!f.oci && !f.image_manifest);
	bxc_json_set_str(attrs, "image-manifest", "true");
	assert_int_equal(bxc_cc_form_parse(attrs, &f, NULL), -BXC_INVALID_ARGUMENT);
	bxc_json_set_str(attrs, "oci-mediatypes", "perhaps");
	assert_int_equal(bxc_cc_form_parse(attrs, &f, NULL), -BXC_INVALID_ARGUMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_is_read_again),
		cmocka_unit_test(the_document_has_the_fields_of_buildkit),
		cmocka_unit_test(inline_records_count_the_layers_of_the_image),
		cmocka_unit_test(records_of_buildkit_are_passed_over),
		cmocka_unit_test(hostile_documents_are_refused),
		cmocka_unit_test(a_chain_longer_than_an_image_is_refused),
		cmocka_unit_test(both_manifests_lead_to_the_configuration),
		cmocka_unit_test(attributes_choose_the_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
