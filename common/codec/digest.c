/* SPDX-License-Identifier: Apache-2.0 */
#include "common/codec/digest.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "common/base/be.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/codec/base64.h"

#define DIGEST_SHA256 1
#define PREFIX	      "sha256:"
#define PREFIX_LEN    7
#define HEX_LEN	      64

static EVP_MD *sha256_md;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;

static void sha256_fetch(void)
{
	sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
	bxc_check(sha256_md != NULL);
}

/* Fetched once: an implicit fetch takes locks and look-ups at every digest. */
static const EVP_MD *sha256(void)
{
	pthread_once(&sha256_once, sha256_fetch);
	return sha256_md;
}

bool bxc_digest_eq(const bxc_digest *a, const bxc_digest *b)
{
	return bxc_digest_cmp(a, b) == 0;
}

int bxc_digest_cmp(const bxc_digest *a, const bxc_digest *b)
{
	if (a->alg != b->alg)
		return a->alg < b->alg ? -1 : 1;
	return a->alg ? memcmp(a->b, b->b, sizeof(a->b)) : 0;
}

bxc_digest bxc_digest_of(const void *p, size_t n)
{
	bxc_digest d = {.alg = DIGEST_SHA256};
	bxc_check(EVP_Digest(n ? p : "", n, d.b, NULL, sha256(), NULL) == 1);
	return d;
}

bxc_digest bxc_digest_of_str(const char *s)
{
	return bxc_digest_of(s, strlen(s));
}

char *bxc_digest_str(const bxc_digest *d, char out[BXC_DIGEST_STR_MAX])
{
	if (!bxc_digest_is_set(d)) {
		out[0] = '\0';
		return out;
	}
	bxc_str_put_hex(mempcpy(out, PREFIX, PREFIX_LEN), d->b, sizeof(d->b));
	return out;
}

int bxc_digest_parse(const char *s, bxc_digest *ret, bxc_err **err)
{
	if (bxc_str_empty(s))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "digest is empty");
	if (!bxc_str_has_prefix(s, PREFIX)) {
		const char *colon = strchr(s, ':');
		if (colon && colon > s && strlen(colon) > 32)
			return bxc_err_set(err, BXC_INVALID_ARGUMENT,
				"unsupported digest algorithm in '%.80s': only sha256 is known", s);
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid digest '%.80s': expected sha256 and 64 hexadecimal digits", s);
	}
	const char *hex = s + PREFIX_LEN;
	bxc_digest d = {.alg = DIGEST_SHA256};
	bool lower = true;
	for (const char *p = hex; *p; p++)
		lower = lower && !(*p >= 'A' && *p <= 'F');
	if (!lower || strlen(hex) != HEX_LEN || bxc_hex_decode(hex, d.b, sizeof(d.b), NULL) < 0)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"invalid digest '%.80s': expected 64 lower-case hexadecimal digits after "
			"'sha256:'",
			s);
	*ret = d;
	return 0;
}

struct bxc_hasher {
	EVP_MD_CTX *ctx;
};

bxc_hasher *bxc_hasher_new(void)
{
	bxc_hasher *h = bxc_calloc(1, sizeof(*h));
	h->ctx = EVP_MD_CTX_new();
	bxc_check(h->ctx != NULL);
	bxc_check(EVP_DigestInit_ex2(h->ctx, sha256(), NULL) == 1);
	return h;
}

void bxc_hasher_update(bxc_hasher *h, const void *p, size_t n)
{
	if (n)
		bxc_check(EVP_DigestUpdate(h->ctx, p, n) == 1);
}

void bxc_hasher_update_str(bxc_hasher *h, const char *s)
{
	size_t n = strlen(s);
	bxc_hasher_update_u64(h, n);
	bxc_hasher_update(h, s, n);
}

void bxc_hasher_update_u64(bxc_hasher *h, uint64_t v)
{
	uint8_t be[8];
	bxc_be_put(be, v, sizeof(be));
	bxc_hasher_update(h, be, sizeof(be));
}

bxc_digest bxc_hasher_final(bxc_hasher *h)
{
	bxc_digest d = {.alg = DIGEST_SHA256};
	bxc_check(EVP_DigestFinal_ex(h->ctx, d.b, NULL) == 1);
	bxc_check(EVP_DigestInit_ex2(h->ctx, sha256(), NULL) == 1);
	return d;
}

void bxc_hasher_free(bxc_hasher *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	free(h);
}
