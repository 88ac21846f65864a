/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/state/state_conformance.h"

static int setup(void **state)
{
	state_case *c = bxc_calloc(1, sizeof(*c));
	c->dir = bxc_test_tmpdir();
	c->url = bxc_str_fmt("sqlite:%s/state.db", c->dir);
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_state_open(c->url, &c->st, &err), err);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	state_case *c = *state;
	bxc_state_close(c->st);
	bxc_test_rmtree(c->dir);
	free(c->url);
	free(c);
	return 0;
}

static char *db_path(const state_case *c)
{
	return bxc_str_fmt("%s/state.db", c->dir);
}

static void a_second_process_is_told_that_the_store_is_in_use(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_state *other = NULL;
	assert_err_text(bxc_state_open(c->url, &other, &err), BXC_UNAVAILABLE, err, "in use");
	bxc_state_close(c->st);
	c->st = NULL;
	assert_ok(bxc_state_open(c->url, &c->st, &err), err);
}

static void nobody_else_may_read_the_file(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_state_setting_set(c->st, "secret", "x", &err), err);
	BXC_AUTOFREE char *path = db_path(c);
	BXC_AUTOFREE char *wal = bxc_str_fmt("%s-wal", path);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(stat(wal, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void what_is_no_store_of_ours_is_refused(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_state *st = NULL;
	BXC_AUTOFREE char *text = bxc_str_fmt("%s/text.db", c->dir);
	BXC_AUTOFREE char *text_url = bxc_str_fmt("sqlite:%s", text);
	char content[4096];
	memset(content, 'x', sizeof(content));
	bxc_test_write_file(text, content, sizeof(content), 0600);
	assert_err_text(bxc_state_open(text_url, &st, &err), BXC_DATA_LOSS, err, "text.db");
	BXC_AUTOFREE char *nowhere = bxc_str_fmt("sqlite:%s/no/where.db", c->dir);
	assert_err(bxc_state_open(nowhere, &st, &err), BXC_NOT_FOUND, err);
	assert_err(bxc_state_open("sqlite:", &st, &err), BXC_INVALID_ARGUMENT, err);
	assert_err(bxc_state_open("postgres://host/db", &st, &err), BXC_UNIMPLEMENTED, err);
	assert_err(bxc_state_open("/some/path", &st, &err), BXC_INVALID_ARGUMENT, err);
}

/* user_version is a big-endian 32-bit number at offset 60 of the file, application_id at 68. */
static void patch_header(const state_case *c, off_t offset, uint8_t last_byte)
{
	BXC_AUTOFREE char *path = db_path(c);
	BXC_AUTOCLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	uint8_t be[4] = {0, 0, 0, last_byte};
	assert_int_equal(pwrite(fd, be, sizeof(be), offset), sizeof(be));
}

static void a_newer_or_foreign_store_is_left_alone(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_state_close(c->st);
	c->st = NULL;
	bxc_state *st = NULL;
	patch_header(c, 60, 99);
	assert_err_text(bxc_state_open(c->url, &st, &err), BXC_FAILED_PRECONDITION, err,
		"newer version: its schema is 99");
	patch_header(c, 68, 1);
	assert_err_text(
		bxc_state_open(c->url, &st, &err), BXC_FAILED_PRECONDITION, err, "something else");
}

static void damage_is_reported(void **state)
{
	state_case *c = *state;
	BXC_AUTOERR bxc_err *err = NULL;
	bxc_state_close(c->st);
	c->st = NULL;
	BXC_AUTOFREE char *path = db_path(c);
	BXC_AUTOCLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	char junk[512];
	memset(junk, 0xee, sizeof(junk));
	for (off_t at = 4096; at < st.st_size; at += (off_t)sizeof(junk))
		assert_int_equal(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
	int r = bxc_state_open(c->url, &c->st, &err);
	if (r == 0) {
		char *value = NULL;
		r = bxc_state_setting_get(c->st, "x", &value, &err);
	}
	assert_int_equal(r, -BXC_DATA_LOSS);
}

int main(void)
{
	static const struct CMUnitTest own[] = {
		cmocka_unit_test_setup_teardown(
			a_second_process_is_told_that_the_store_is_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(nobody_else_may_read_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_is_no_store_of_ours_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_newer_or_foreign_store_is_left_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(damage_is_reported, setup, teardown),
	};
	struct CMUnitTest tests[64] = {0};
	size_t n = 0;
	for (size_t i = 0; i < state_conformance_n; i++)
		tests[n++] = (struct CMUnitTest){state_conformance_tests[i].name,
			state_conformance_tests[i].fn, setup, teardown, NULL};
	for (size_t i = 0; i < BXC_ARRAY_SIZE(own); i++)
		tests[n++] = own[i];
	return _cmocka_run_group_tests("state on sqlite", tests, n, NULL, NULL);
}
