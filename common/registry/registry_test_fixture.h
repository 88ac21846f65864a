/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of pull and push stand on: two registries and a client of them. */
#pragma once

#include "common/testing/testing.h"

#include <signal.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/rand.h"
#include "common/os/fd.h"
#include "common/os/proc.h"
#include "common/registry/registry_test_fake.h"
#include "common/registry/registry_internal.h"
#include "common/testing/cert.h"
#include "common/testing/rawserver.h"

#define BLOB ((size_t)3 << 20)

static BXC_UNUSED const char manifest_text[] =
	"{\"schemaVersion\":2,\"mediaType\":\"" BXC_MT_OCI_MANIFEST
	"\",\"config\":{},\"layers\":[]}";
static BXC_UNUSED const char index_text[] = "{\"schemaVersion\":2,\"manifests\":[]}";

struct fixture {
	bxc_http_client *http;
	fake_registry *fake, *mirror;
	bxc_reg *reg; /* without credentials or hosts */
	uint8_t *blob;
	bxc_descriptor blob_d, manifest_d;
	/* what the credentials callback gives and has seen */
	const char *give_basic, *give_token;
	unsigned n_asked;
	char asked[512];
};

static inline BXC_UNUSED bxc_slice slice(const char *s)
{
	return bxc_slice_of(s, strlen(s));
}

static inline BXC_UNUSED int setup(void **state)
{
	struct fixture *f = bxc_calloc(1, sizeof(*f));
	BXC_AUTOERR bxc_err *err = NULL;
	assert_ok(bxc_http_client_new(&(bxc_http_client_config){0}, &f->http, &err), err);
	f->fake = fake_registry_new();
	f->mirror = fake_registry_new();
	f->reg = bxc_reg_new(f->http, &(bxc_reg_config){0});
	f->blob = bxc_malloc(BLOB);
	bxc_rand_bytes(f->blob, BLOB);
	f->blob_d = (bxc_descriptor){.digest = bxc_digest_of(f->blob, BLOB), .size = BLOB};
	f->manifest_d = (bxc_descriptor){
		.digest = bxc_digest_of_str(manifest_text), .size = strlen(manifest_text)};
	fake_registry_put_manifest(
		f->fake, "team/app", "v1", BXC_MT_OCI_MANIFEST, slice(manifest_text));
	char text[BXC_DIGEST_STR_MAX];
	fake_registry_put_manifest(f->fake, "team/app", bxc_digest_str(&f->manifest_d.digest, text),
		BXC_MT_OCI_MANIFEST, slice(manifest_text));
	fake_registry_put_blob(f->fake, "team/app", &f->blob_d.digest, bxc_slice_of(f->blob, BLOB));
	*state = f;
	return 0;
}

static inline BXC_UNUSED int teardown(void **state)
{
	struct fixture *f = *state;
	bxc_reg_free(f->reg);
	bxc_http_client_free(f->http);
	fake_registry_free(f->fake);
	fake_registry_free(f->mirror);
	free(f->blob);
	free(f);
	return 0;
}

static inline BXC_UNUSED int give(const char *domain, const char *scope, const char *realm,
	const char *service, bxc_secret **ret_token, bxc_secret **ret_basic, void *ud,
	bxc_err **err)
{
	struct fixture *f = ud;
	(void)err;
	f->n_asked++;
	snprintf(f->asked, sizeof(f->asked), "%s|%s|%s|%s", domain, scope, realm ? realm : "-",
		service ? service : "-");
	if (f->give_token)
		*ret_token = bxc_secret_new(f->give_token, strlen(f->give_token));
	if (f->give_basic)
		*ret_basic = bxc_secret_new(f->give_basic, strlen(f->give_basic));
	return 0;
}

static inline BXC_UNUSED bxc_reg *with_credentials(struct fixture *f)
{
	return bxc_reg_new(f->http, &(bxc_reg_config){.credentials = give, .ud = f});
}

static inline BXC_UNUSED bxc_ref ref_at(const char *host, const char *rest)
{
	BXC_AUTOERR bxc_err *err = NULL;
	BXC_AUTOFREE char *s = bxc_str_fmt("%s/%s", host, rest);
	bxc_ref r = {0};
	assert_ok(bxc_ref_parse(s, &r, &err), err);
	return r;
}
#define REF(name, host, rest) BXC_AUTOREF bxc_ref name = ref_at(host, rest)

/* Resolves and forgets. */
static inline BXC_UNUSED int resolve(bxc_reg *r, const bxc_ref *ref, bxc_err **err)
{
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor d = {0};
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	return bxc_reg_resolve(r, ref, NULL, &d, &bytes, err);
}

struct collected {
	bxc_buf bytes;
	bool fails;
	uint64_t last_done, last_total;
};

static inline BXC_UNUSED int collect(const void *p, size_t n, void *ud, bxc_err **err)
{
	struct collected *c = ud;
	if (c->fails)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED, "disk full");
	return bxc_buf_append(&c->bytes, p, n, err);
}

static inline BXC_UNUSED void note_progress(uint64_t done, uint64_t total, void *ud)
{
	struct collected *c = ud;
	c->last_done = done;
	c->last_total = total;
}

static inline BXC_UNUSED void collected_done(struct collected *c)
{
	bxc_buf_done(&c->bytes);
}
#define COLLECTED(name)                                                                            \
	BXC_CLEANUP(collected_done) struct collected name = {.bytes = BXC_BUF_INIT(2 * BLOB)}

static inline BXC_UNUSED int get_blob(
	bxc_reg *r, const bxc_ref *ref, const bxc_descriptor *d, struct collected *c, bxc_err **err)
{
	return bxc_reg_blob(r, ref, d, NULL, collect, c, note_progress, c, err);
}
