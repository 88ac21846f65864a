/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests, from mirrors or the registry itself. Nothing is believed that was not hashed. */
#include "common/registry/registry_internal.h"

#include <string.h>

#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/base/str.h"

static char accept_manifests[] = "Accept: " BXC_MT_OCI_INDEX ", " BXC_MT_DOCKER_LIST
				 ", " BXC_MT_OCI_MANIFEST ", " BXC_MT_DOCKER_MANIFEST;

struct manifest_job {
	const bxc_ref *ref;
	const bxc_digest *want; /* NULL: by tag */
	uint64_t want_size;	/* 0: not known */
	bxc_cancel *cancel;
	char *name;	      /* for messages */
	bxc_descriptor *desc; /* written on success */
	bxc_buf *bytes;	      /* NULL: HEAD is enough */
};

/* "application/json; charset=utf-8" without its parameters; owned, NULL when absent. */
static char *content_type_of(const bxc_http_response *resp)
{
	const char *s = bxc_http_header(resp, "Content-Type");
	return s ? bxc_str_lower(bxc_strndup(s, strcspn(s, "; \t"))) : NULL;
}

static bool is_known_kind(const char *media_type)
{
	return media_type && (bxc_oci_is_index(media_type) || bxc_oci_is_manifest(media_type));
}

/*
 * What the document is. Header and document must not contradict each other, and a document is an
 * index or a manifest, not both: clients would read different images from one digest
 * (CVE-2021-41190).
 */
static int media_type_of(
	const char *name, const char *content_type, bxc_slice bytes, char **ret, bxc_err **err)
{
	BXC_AUTOJSON bxc_json *j = NULL;
	int k = bxc_json_parse(bytes, &j, err);
	if (k < 0)
		return bxc_err_wrap(err, k, "%s: manifest", name);
	const char *own = bxc_json_get_str(j, "mediaType", NULL);
	bool has_manifests = bxc_json_get(j, "manifests"),
	     has_layers = bxc_json_get(j, "layers") || bxc_json_get(j, "config");
	if (has_manifests && has_layers)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "%s: the manifest is also an index", name);
	if (own && is_known_kind(content_type) && !bxc_str_eq(own, content_type))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"%s: the manifest says it is '%.128s', the registry '%.128s'", name, own,
			content_type);
	const char *type = own				 ? own
			   : is_known_kind(content_type) ? content_type
			   : has_manifests		 ? BXC_MT_OCI_INDEX
			   : has_layers			 ? BXC_MT_OCI_MANIFEST
							 : NULL;
	if (!is_known_kind(type))
		return bxc_err_set(err, BXC_UNIMPLEMENTED,
			"%s: manifests of type '%.128s' are not supported", name,
			own	       ? own
			: content_type ? content_type
				       : "unknown");
	if (bxc_oci_is_index(type) ? has_layers : has_manifests)
		return bxc_err_set(err, BXC_INVALID_ARGUMENT,
			"%s: the manifest is not what its type '%.128s' says", name, type);
	*ret = bxc_strdup(type);
	return 0;
}

/* The digest that the registry claims; false when it claims none that we know. */
static bool claimed_digest(const bxc_http_response *resp, bxc_digest *ret)
{
	const char *s = bxc_http_header(resp, "Docker-Content-Digest");
	return s && bxc_digest_parse(s, ret, NULL) >= 0;
}

static int digest_error(
	const struct manifest_job *m, const bxc_digest *have, const bxc_digest *want, bxc_err **err)
{
	char a[BXC_DIGEST_STR_MAX], b[BXC_DIGEST_STR_MAX];
	return bxc_err_set(err, BXC_DATA_LOSS,
		"%s: the registry sent a manifest of digest %s instead of %s", m->name,
		bxc_digest_str(have, a), bxc_digest_str(want, b));
}

static int request(bxc_reg *r, const reg_endpoint *at, const struct manifest_job *m,
	const char *method, bxc_http_response **ret, bxc_err **err)
{
	char digest[BXC_DIGEST_STR_MAX];
	char *headers[] = {accept_manifests, NULL};
	BXC_AUTOFREE char *path = bxc_str_fmt("/v2/%s/manifests/%s", m->ref->path,
		m->want ? bxc_digest_str(m->want, digest) : m->ref->tag);
	BXC_AUTOFREE char *scope = bxc_str_fmt("repository:%s:pull", m->ref->path);
	const reg_call call = {.what = m->name,
		.method = method,
		.path = path,
		.scope = scope,
		.headers = headers};
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	int k = bxc_reg__exchange(r, at, &call, m->cancel, &resp, err);
	if (k < 0)
		return k;
	int status = bxc_http_status(resp);
	if (status == 404)
		return bxc_err_set(err, BXC_NOT_FOUND, "%s: not found", m->name);
	if (status != 200)
		return bxc_reg__status_error(at, m->name, resp, err);
	*ret = BXC_TAKE(resp);
	return 0;
}

static int get_at(bxc_reg *r, const reg_endpoint *at, const struct manifest_job *m, bxc_err **err)
{
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	BXC_AUTOBUF bxc_buf bytes = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	int k = request(r, at, m, "GET", &resp, err);
	if (k < 0)
		return k;
	if (bxc_http_content_length(resp) > (int64_t)BXC_LIMIT_MANIFEST)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"%s: the manifest is larger than %u bytes", m->name, BXC_LIMIT_MANIFEST);
	k = bxc_http_read_all(resp, &bytes, err);
	if (k < 0)
		return bxc_err_wrap(err, k, "%s: manifest", m->name);
	bxc_digest have = bxc_digest_of(bytes.data, bytes.len), claimed;
	if (m->want && !bxc_digest_eq(&have, m->want))
		return digest_error(m, &have, m->want, err);
	/* By tag there is nothing to compare with but the registry's own word: a difference means
	 * damage. */
	if (!m->want && claimed_digest(resp, &claimed) && !bxc_digest_eq(&have, &claimed))
		return digest_error(m, &have, &claimed, err);
	if (m->want_size && bytes.len != m->want_size)
		return bxc_err_set(err, BXC_DATA_LOSS,
			"%s: the manifest has %zu bytes instead of %llu", m->name, bytes.len,
			(unsigned long long)m->want_size);
	BXC_AUTOFREE char *content_type = content_type_of(resp);
	BXC_AUTOFREE char *media_type = NULL;
	k = media_type_of(m->name, content_type, bxc_buf_slice(&bytes), &media_type, err);
	if (k < 0)
		return k;
	if (m->bytes) {
		bxc_buf_clear(m->bytes);
		k = bxc_buf_append(m->bytes, bytes.data, bytes.len, err);
		if (k < 0)
			return bxc_err_wrap(err, k, "%s: manifest", m->name);
	}
	*m->desc = (bxc_descriptor){
		.media_type = BXC_TAKE(media_type), .digest = have, .size = bytes.len};
	return 0;
}

/* What HEAD tells, when it tells all; else GET. */
static int head_at(bxc_reg *r, const reg_endpoint *at, const struct manifest_job *m, bxc_err **err)
{
	BXC_CLEANUP(bxc_http_response_freep) bxc_http_response *resp = NULL;
	BXC_AUTOERR bxc_err *e = NULL;
	int k = request(r, at, m, "HEAD", &resp, &e);
	/* Some registries do not speak HEAD; the answer to it has no body that could say why. */
	if (k == -BXC_UNIMPLEMENTED || k == -BXC_INVALID_ARGUMENT || k == -BXC_PERMISSION_DENIED)
		return get_at(r, at, m, err);
	if (k < 0)
		return bxc_err_move(err, BXC_TAKE(e));
	bxc_digest digest;
	int64_t size = bxc_http_content_length(resp);
	BXC_AUTOFREE char *media_type = content_type_of(resp);
	if (!claimed_digest(resp, &digest) || size <= 0 || size > (int64_t)BXC_LIMIT_MANIFEST ||
		!is_known_kind(media_type)) {
		bxc_http_response_free(BXC_TAKE(resp));
		return get_at(r, at, m, err);
	}
	if (m->want && !bxc_digest_eq(m->want, &digest))
		return digest_error(m, &digest, m->want, err);
	*m->desc = (bxc_descriptor){
		.media_type = BXC_TAKE(media_type), .digest = digest, .size = (uint64_t)size};
	return 0;
}

static int run(bxc_reg *r, const struct manifest_job *m, bxc_err **err)
{
	BXC_CLEANUP(bxc_reg__endpoints_done) reg_endpoints list = {0};
	BXC_CLEANUP(bxc_reg__outcome_done) reg_outcome outcome = {0};
	if (!m->want && !m->ref->tag)
		return bxc_err_set(
			err, BXC_INVALID_ARGUMENT, "%s: neither tag nor digest", m->name);
	bxc_reg__endpoints(r, m->ref->domain, true, &list);
	BXC_ARR_FOREACH (at, &list) {
		bxc_err *e = NULL;
		int k = m->bytes ? get_at(r, at, m, &e) : head_at(r, at, m, &e);
		if (k >= 0)
			return 0;
		if (k == -BXC_CANCELED)
			return bxc_err_move(err, e);
		bxc_reg__outcome_add(&outcome, e);
	}
	return bxc_reg__outcome_take(&outcome, err);
}

int bxc_reg_resolve(bxc_reg *r, const bxc_ref *ref, bxc_cancel *cancel, bxc_descriptor *ret,
	bxc_buf *ret_bytes, bxc_err **err)
{
	BXC_AUTOFREE char *name = bxc_ref_str(ref);
	const bxc_digest *want = bxc_digest_is_set(&ref->digest) ? &ref->digest : NULL;
	BXC_AUTOBUF bxc_buf unwanted = BXC_BUF_INIT(BXC_LIMIT_MANIFEST);
	const struct manifest_job m = {.ref = ref,
		.want = want,
		.cancel = cancel,
		.name = name,
		.desc = ret,
		.bytes = ret_bytes ? ret_bytes : &unwanted};
	return run(r, &m, err);
}

int bxc_reg_head(
	bxc_reg *r, const bxc_ref *ref, bxc_cancel *cancel, bxc_descriptor *ret, bxc_err **err)
{
	BXC_AUTOFREE char *name = bxc_ref_str(ref);
	const bxc_digest *want = bxc_digest_is_set(&ref->digest) ? &ref->digest : NULL;
	const struct manifest_job m = {
		.ref = ref, .want = want, .cancel = cancel, .name = name, .desc = ret};
	return run(r, &m, err);
}

int bxc_reg_manifest(bxc_reg *r, const bxc_ref *repo, const bxc_descriptor *d, bxc_cancel *cancel,
	bxc_buf *ret_bytes, bxc_err **err)
{
	char digest[BXC_DIGEST_STR_MAX];
	BXC_AUTOFREE char *repo_name = bxc_ref_repo(repo);
	BXC_AUTOFREE char *name =
		bxc_str_fmt("%s@%s", repo_name, bxc_digest_str(&d->digest, digest));
	BXC_CLEANUP(bxc_descriptor_done) bxc_descriptor found = {0};
	if (d->size > BXC_LIMIT_MANIFEST)
		return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
			"%s: the manifest is larger than %u bytes", name, BXC_LIMIT_MANIFEST);
	const struct manifest_job m = {.ref = repo,
		.want = &d->digest,
		.want_size = d->size,
		.cancel = cancel,
		.name = name,
		.desc = &found,
		.bytes = ret_bytes};
	return run(r, &m, err);
}
