/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/builder/builder.h"
#include "common/base/str.h"
#include "common/os/fs.h"

static char tmp_dir[64];

static int make_config(void **state)
{
	(void)state;
	snprintf(tmp_dir, sizeof(tmp_dir), "/tmp/bxc-builder-XXXXXX");
	assert_non_null(mkdtemp(tmp_dir));
	setenv("BXC_CONFIG", tmp_dir, 1);
	unsetenv("BUILDX_BUILDER");
	unsetenv("BXC_BUILDER");
	return 0;
}

static int remove_config(void **state)
{
	(void)state;
	BXC_AUTOCLOSE int fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return bxc_fs_rmtree(fd, tmp_dir + strlen("/tmp/"), NULL);
}

static bxc_builder *sample(const char *name)
{
	bxc_builder *b = calloc(1, sizeof(*b));
	b->name = strdup(name);
	b->endpoint = strdup("http://build.example.com:7650");
	b->channel = strdup("tcp://build.example.com:7651");
	b->token = bxc_secret_new("s3cret", 6);
	return b;
}

static void add(const char *name)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_bstore_freep) bxc_bstore *s = NULL;
	assert_int_equal(bxc_bstore_open(true, &s, &err), 0);
	assert_int_equal(bxc_bstore_add(s, sample(name), &err), 0);
	assert_int_equal(bxc_bstore_save(s, &err), 0);
}

static void a_builder_is_found_again_with_all_it_had(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_bstore_freep) bxc_bstore *s = NULL;
	add("farm");
	assert_int_equal(bxc_bstore_open(false, &s, &err), 0);
	const bxc_builder *b = bxc_bstore_find(s, "farm");
	assert_non_null(b);
	assert_string_equal(b->endpoint, "http://build.example.com:7650");
	assert_string_equal(b->channel, "tcp://build.example.com:7651");
	assert_true(bxc_secret_eq(b->token, "s3cret", 6));
	assert_null(b->ca_file);
}

static void the_file_is_readable_by_its_owner_only(void **state)
{
	(void)state;
	add("farm");
	BXC_AUTOFREE char *path = bxc_str_fmt("%s/builders.json", tmp_dir);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void names_that_are_no_builder_names_are_refused(void **state)
{
	(void)state;
	assert_true(bxc_builder_name_is_valid("a"));
	assert_true(bxc_builder_name_is_valid("Farm-1.x_y"));
	assert_false(bxc_builder_name_is_valid(""));
	assert_false(bxc_builder_name_is_valid("1farm"));
	assert_false(bxc_builder_name_is_valid("a/b"));
	assert_false(bxc_builder_name_is_valid("a b"));
}

static void the_selected_builder_follows_flag_then_environment_then_current(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_bstore_freep) bxc_bstore *s = NULL;
	add("one");
	add("two");
	assert_int_equal(bxc_bstore_open(true, &s, &err), 0);
	assert_string_equal(bxc_bstore_selected(s, NULL), "default");
	assert_int_equal(bxc_bstore_use(s, "one", &err), 0);
	assert_string_equal(bxc_bstore_selected(s, NULL), "one");
	setenv("BXC_BUILDER", "two", 1);
	assert_string_equal(bxc_bstore_selected(s, NULL), "two");
	setenv("BUILDX_BUILDER", "one", 1);
	assert_string_equal(bxc_bstore_selected(s, NULL), "one");
	assert_string_equal(bxc_bstore_selected(s, "default"), "default");
}

static void an_unknown_builder_is_named_in_the_error(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_bstore_freep) bxc_bstore *s = NULL;
	bxc_builder *b = NULL;
	assert_int_equal(bxc_bstore_open(false, &s, &err), 0);
	assert_int_equal(bxc_bstore_resolve(s, "nope", &b, &err), -BXC_NOT_FOUND);
	assert_string_equal(bxc_err_text(err), "no builder \"nope\" found");
}

static void removing_the_current_builder_goes_back_to_the_embedded_one(void **state)
{
	(void)state;
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_CLEANUP(bxc_bstore_freep) bxc_bstore *s = NULL;
	add("one");
	assert_int_equal(bxc_bstore_open(true, &s, &err), 0);
	assert_int_equal(bxc_bstore_use(s, "one", &err), 0);
	assert_int_equal(bxc_bstore_remove(s, "one", &err), 0);
	assert_string_equal(bxc_bstore_selected(s, NULL), "default");
}

static void endpoints_are_unix_sockets_and_http_addresses(void **state)
{
	(void)state;
	char *url = NULL, *path = NULL;
	assert_int_equal(bxc_builder_parse_endpoint("unix:/run/x.sock", &url, &path, NULL), 0);
	assert_string_equal(path, "/run/x.sock");
	free(url);
	free(path);
	assert_int_equal(bxc_builder_parse_endpoint("https://[::1]:7650/", &url, &path, NULL), 0);
	assert_string_equal(url, "https://[::1]:7650");
	assert_null(path);
	free(url);
	static const char *const bad[] = {"", "unix:rel", "ftp://h", "http://", "http://h:0",
		"http://h:99999", "http://u@h", "http://h/x"};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(bad); i++)
		assert_int_equal(bxc_builder_parse_endpoint(bad[i], &url, &path, NULL),
			-BXC_INVALID_ARGUMENT);
}

static void a_wildcard_channel_is_reached_at_the_host_of_the_endpoint(void **state)
{
	(void)state;
	BXC_AUTOFREE char *a =
		bxc_builder_channel_address("http://build:7650", "tcp://0.0.0.0:7651");
	BXC_AUTOFREE char *b =
		bxc_builder_channel_address("http://[fe::1]:7650", "tls+tcp://[::]:7651");
	BXC_AUTOFREE char *c = bxc_builder_channel_address("http://build:7650", "tcp://other:7651");
	assert_string_equal(a, "tcp://build:7651");
	assert_string_equal(b, "tls+tcp://[fe::1]:7651");
	assert_string_equal(c, "tcp://other:7651");
}

#define T(f) cmocka_unit_test_setup_teardown(f, make_config, remove_config)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_builder_is_found_again_with_all_it_had),
		T(the_file_is_readable_by_its_owner_only),
		T(names_that_are_no_builder_names_are_refused),
		T(the_selected_builder_follows_flag_then_environment_then_current),
		T(an_unknown_builder_is_named_in_the_error),
		T(removing_the_current_builder_goes_back_to_the_embedded_one),
		T(endpoints_are_unix_sockets_and_http_addresses),
		T(a_wildcard_channel_is_reached_at_the_host_of_the_endpoint),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
