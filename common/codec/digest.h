/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content digests (OCI image-spec descriptor.md, "Digests"): SHA-256 by OpenSSL EVP.
 * A digest is a value; compare with bxc_digest_eq, print only at the border.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

#define BXC_DIGEST_STR_MAX 72        /* "sha256:" + 64 hex + NUL */

typedef struct bxc_digest {
	uint8_t alg;                 /* 0: none, 1: sha256 */
	uint8_t b[32];
} bxc_digest;

static inline bool bxc_digest_is_set(const bxc_digest *d)
{
	return d->alg != 0;
}
bool bxc_digest_eq(const bxc_digest *a, const bxc_digest *b);
int bxc_digest_cmp(const bxc_digest *a, const bxc_digest *b);
bxc_digest bxc_digest_of(const void *p, size_t n);
bxc_digest bxc_digest_of_str(const char *s);
/* Writes "sha256:<hex>" (or "" for none) to `out`; returns out. */
char *bxc_digest_str(const bxc_digest *d, char out[BXC_DIGEST_STR_MAX]);
/* Exactly "sha256:" and 64 lower-case hex digits. */
BXC_MUST_CHECK int bxc_digest_parse(const char *s, bxc_digest *ret, bxc_err **err);

/* Incremental hashing. */
typedef struct bxc_hasher bxc_hasher;
bxc_hasher *bxc_hasher_new(void);
void bxc_hasher_update(bxc_hasher *h, const void *p, size_t n);
void bxc_hasher_update_str(bxc_hasher *h, const char *s);                         /* length-prefixed: unambiguous */
void bxc_hasher_update_u64(bxc_hasher *h, uint64_t v);                            /* 8 bytes, big-endian */
bxc_digest bxc_hasher_final(bxc_hasher *h);                                       /* the hasher starts afresh */
void bxc_hasher_free(bxc_hasher *h);
BXC_DEFINE_CLEANUP(bxc_hasher, bxc_hasher_free);
#define BXC_AUTOHASHER BXC_CLEANUP(bxc_hasher_freep)
