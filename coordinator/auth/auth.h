/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may do what. Module prefix: bxc_auth. Immutable once built; any thread.
 *
 * Tokens are random; only their SHA-256 is kept in memory. A token has scopes; what is presented is
 * compared by digest in constant time.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/secret.h"

typedef enum bxc_auth_scope {
	BXC_AUTH_NONE = 0,
	BXC_AUTH_READ = 1u << 0,     /* look at builds, workers, blobs */
	BXC_AUTH_BUILD = 1u << 1,    /* submit and cancel builds, client channels */
	BXC_AUTH_WORKER = 1u << 2,   /* worker channels, blobs */
} bxc_auth_scope;

typedef struct bxc_auth bxc_auth;

bxc_auth *bxc_auth_new(void);
void bxc_auth_free(bxc_auth *a);
BXC_DEFINE_CLEANUP(bxc_auth, bxc_auth_free);

/* Reads a token (one line, 16..512 bytes) from a file; makes the file with a random one when it is absent (0600). */
BXC_MUST_CHECK int bxc_auth_add_file(bxc_auth *a, const char *path, unsigned scopes, bxc_err **err);
/* Adds a token given as bytes. */
void bxc_auth_add(bxc_auth *a, bxc_slice token, unsigned scopes);
/* UNAUTHENTICATED: no or unknown token; PERMISSION_DENIED: a known one without the scope. */
BXC_MUST_CHECK int bxc_auth_check(const bxc_auth *a, bxc_slice token, unsigned scope, bxc_err **err);
