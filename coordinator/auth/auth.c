/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/auth/auth.h"

#include <fcntl.h>

#include "common/base/arr.h"
#include "common/base/mem.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/codec/digest.h"
#include "common/os/fs.h"

#define TOKEN_MIN 16u
#define TOKEN_MAX 512u

struct token {
	bxc_digest hash;
	unsigned scopes;
};

struct bxc_auth {
	BXC_ARR(struct token) tokens;
};

bxc_auth *bxc_auth_new(void)
{
	return bxc_calloc(1, sizeof(bxc_auth));
}

void bxc_auth_free(bxc_auth *a)
{
	if (!a)
		return;
	bxc_arr_done(&a->tokens);
	free(a);
}

void bxc_auth_add(bxc_auth *a, bxc_slice token, unsigned scopes)
{
	*bxc_arr_push(&a->tokens) = (struct token){bxc_digest_of(token.p, token.n), scopes};
}

/* Splits a path into its folder (opened) and name. */
static int open_folder(const char *path, int *ret_fd, const char **ret_name, bxc_err **err)
{
	const char *slash = strrchr(path, '/');
	BXC_AUTOFREE char *dir = slash ? bxc_strndup(path, (size_t)(slash - path) + 1) : bxc_strdup(".");
	*ret_name = slash ? slash + 1 : path;
	return bxc_fs_open_dir(AT_FDCWD, dir, ret_fd, err);
}

int bxc_auth_add_file(bxc_auth *a, const char *path, unsigned scopes, bxc_err **err)
{
	BXC_AUTOCLOSE int dir_fd = -1;
	const char *name;
	int r = open_folder(path, &dir_fd, &name, err);
	if (r < 0)
		return bxc_err_wrap(err, r, "token file '%s'", path);
	BXC_CLEANUP(bxc_secret_freep) bxc_secret *token = NULL;
	BXC_AUTOERR bxc_err *missing = NULL;
	r = bxc_fs_read_secret(dir_fd, name, TOKEN_MAX + 2, &token, &missing);
	if (r == -BXC_NOT_FOUND) {
		BXC_AUTOFREE char *fresh = bxc_rand_hex(32);
		BXC_AUTOFREE char *line = bxc_str_fmt("%s\n", fresh);
		r = bxc_fs_write_atomic(dir_fd, name, line, strlen(line), 0600, err);
		if (r < 0)
			return bxc_err_wrap(err, r, "token file '%s'", path);
		bxc_auth_add(a, bxc_slice_of(fresh, strlen(fresh)), scopes);
		return 0;
	}
	if (r < 0)
		return bxc_err_wrap_take(err, BXC_TAKE(missing), r, "token file '%s'", path);
	bxc_slice t = bxc_secret_bytes(token);
	const char *text = (const char *)t.p;
	if (t.n < TOKEN_MIN || strpbrk(text, " \t\r\n") || strlen(text) != t.n)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"token file '%s': expected one line of %u to %u characters without blanks", path, TOKEN_MIN, TOKEN_MAX);
	bxc_auth_add(a, t, scopes);
	return 0;
}

int bxc_auth_check(const bxc_auth *a, bxc_slice token, unsigned scope, bxc_err **err)
{
	if (token.n == 0)
		return bxc_err_set(err, BXC_UNAUTHENTICATED, "a token is needed");
	bxc_digest hash = bxc_digest_of(token.p, token.n);
	unsigned scopes = 0;
	/* All are compared: time tells nothing about which one is near. Hashes need no constant-time memcmp. */
	for (size_t i = 0; i < a->tokens.n; i++)
		if (bxc_digest_eq(&a->tokens.v[i].hash, &hash))
			scopes |= a->tokens.v[i].scopes;
	if (!scopes)
		return bxc_err_set(err, BXC_UNAUTHENTICATED, "the token is not valid here");
	if (!(scopes & scope))
		return bxc_err_set(err, BXC_PERMISSION_DENIED, "the token does not allow this");
	return 0;
}
